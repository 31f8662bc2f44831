/* SPDX-License-Identifier: MIT
 *
 * The epoll back end: one epoll descriptor per P and per host, and an eventfd
 * in it that is written to wake and never read: edge-triggered, each write is
 * an edge.
 *
 * Sleeping. Announcing is a seq store of sleeping = 1; the sleeper then looks
 * for work once more. tdl_poller_wake makes its work visible, then exchanges
 * sleeping (seq). So either the sleeper sees the work or the waker sees
 * sleeping and writes. One write per announced sleep: the exchange takes it.
 */
#include "sys/sys.h"

#include <errno.h>
#include <sys/epoll.h>

#include "netpoll/backend.h"
#include "netpoll/polldesc.h"

enum { BATCH = 128 };

/* What an event's data says, besides a poll descriptor's token, whose index
 * is below 2^20: */
#define DATA_WAKE  UINT64_C(0xffffffff)
#define DATA_WATCH UINT64_C(0x80000000) /* | watcher */

struct tdl_poll_event {
    struct epoll_event ev;
};

/* -- Opening and closing --------------------------------------------------------- */

int tdl_poller_open(tdl_poller *p) {
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = DATA_WAKE};
    int r;
    tdl_lock_init(&p->lock, RANK_POLLER);
    p->list = NULL;
    p->nevents = 0;
    at_store_rlx(&p->npd, 0);
    at_store_rlx(&p->sleeping, 0);
    tdl_timers_init(&p->timers, p);
    if (!(p->events = tdl_sys.alloc(BATCH * sizeof *p->events))) return TDL_ENOMEM;
    if ((p->epfd = r = tdl_sys.epoll_create()) < 0) goto no_epoll;
    if ((p->wakefd = r = tdl_sys.eventfd()) < 0) goto no_eventfd;
    if ((r = tdl_sys.epoll_ctl(p->epfd, EPOLL_CTL_ADD, p->wakefd, &ev)) < 0) goto no_add;
    return 0;
no_add:
    tdl_sys.close(p->wakefd);
no_eventfd:
    tdl_sys.close(p->epfd);
no_epoll:
    tdl_sys.release(p->events);
    p->events = NULL;
    return r;
}

void tdl_poller_close(tdl_poller *p) {
    tdl_pd_orphan_all(p);
    at_store_seq(&p->sleeping, 0);
    while (at_load_seq(&p->wakers)) tdl_thread_yield();
    tdl_timers_destroy(&p->timers);
    tdl_sys.close(p->wakefd);
    tdl_sys.close(p->epfd);
    tdl_sys.release(p->events);
    p->events = NULL;
    p->nevents = 0;
}

/* -- Registration ------------------------------------------------------------------ */

int tdl_backend_add(tdl_poller *p, int fd, uint64_t token) {
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET,
                             .data.u64 = token};
    TDL_TSAN_RELEASE(p); /* to who fetches its events: the kernel orders that */
    return tdl_sys.epoll_ctl(p->epfd, EPOLL_CTL_ADD, fd, &ev);
}

void tdl_backend_remove(tdl_poller *p, int fd) {
    struct epoll_event ev = {0};
    tdl_sys.epoll_ctl(p->epfd, EPOLL_CTL_DEL, fd, &ev);
}

static int watch(tdl_poller *p, int how, int fd, uint32_t watcher, int readiness) {
    struct epoll_event ev = {.data.u64 = DATA_WATCH | watcher};
    if (readiness & TDL_READABLE) ev.events |= EPOLLIN | EPOLLRDHUP;
    if (readiness & TDL_WRITABLE) ev.events |= EPOLLOUT;
    if (readiness & TDL_EDGE) ev.events |= EPOLLET;
    return tdl_sys.epoll_ctl(p->epfd, how, fd, &ev);
}

int tdl_backend_watch(tdl_poller *p, int fd, uint32_t watcher, int readiness) {
    return watch(p, EPOLL_CTL_ADD, fd, watcher, readiness);
}

int tdl_backend_rewatch(tdl_poller *p, int fd, uint32_t watcher, int readiness) {
    return watch(p, EPOLL_CTL_MOD, fd, watcher, readiness);
}

void tdl_backend_unwatch(tdl_poller *p, int fd) { tdl_backend_remove(p, fd); }

/* -- Waiting and waking -------------------------------------------------------------- */

void tdl_poller_announce(tdl_poller *p) { at_store_seq(&p->sleeping, 1); }

void tdl_poller_retract(tdl_poller *p) { at_store_rlx(&p->sleeping, 0); }

int tdl_poller_wait(tdl_poller *p, int64_t timeout_ns) {
    _Static_assert(sizeof(struct tdl_poll_event) == sizeof(struct epoll_event), "one array");
    int n = tdl_sys.epoll_wait(p->epfd, &p->events[0].ev, BATCH, timeout_ns);
    TDL_TSAN_ACQUIRE(p);
    p->nevents = n > 0 ? n : 0;
    tdl_poller_retract(p);
    return n;
}

static void dispatch_one(tdl_poller *p, const struct epoll_event *ev) {
    uint64_t data = ev->data.u64;
    uint32_t e = ev->events;
    if (data == DATA_WAKE) return;
    int what = 0;
    if (e & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) what |= PD_READABLE;
    if (e & (EPOLLOUT | EPOLLHUP | EPOLLERR)) what |= PD_WRITABLE;
    if (e & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) what |= PD_HUP;
    if (data >> 32 == 0) { /* seq of a poll descriptor is never 0 */
        _Static_assert(PD_READABLE == (int)TDL_READABLE && PD_WRITABLE == (int)TDL_WRITABLE &&
                       PD_HUP == (int)TDL_HANGUP, "the same bits");
        p->on_watch(p->watch_arg, (uint32_t)(data & ~DATA_WATCH), (uint32_t)what);
        return;
    }
    if (e & EPOLLPRI) what |= PD_URGENT;
    tdl_pd_event(data, what);
}

void tdl_poller_dispatch(tdl_poller *p) {
    int n = p->nevents;
    p->nevents = 0;
    for (int i = 0; i < n; i++) dispatch_one(p, &p->events[i].ev);
}

/* Whoever serves may take the edge of the owner's wake-up; so it wakes again. */
int tdl_poller_serve(tdl_poller *p) {
    struct epoll_event events[BATCH];
    int n = tdl_sys.epoll_wait(p->epfd, events, BATCH, 0);
    TDL_TSAN_ACQUIRE(p);
    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 == DATA_WAKE) tdl_poller_kick(p);
        dispatch_one(p, &events[i]);
    }
    return n;
}

void tdl_poller_kick(tdl_poller *p) { tdl_sys.eventfd_write(p->wakefd); }

void tdl_poller_wake(tdl_poller *p) {
    /* pairs with announce; see the head of the file */
    if (!at_load_seq(&p->sleeping)) return;
    /* the sleeper may wake by itself, and close: it waits for us, who took its
     * sleeping; and when it has closed there is none to take */
    at_add_seq(&p->wakers, 1);
    if (at_xchg_seq(&p->sleeping, 0)) tdl_poller_kick(p);
    at_sub_seq(&p->wakers, 1);
}

void tdl_poller_retime(tdl_poller *p) {
    at_fence_seq(); /* between the heap's new `next` and the look at sleeping */
    tdl_poller_wake(p);
}
