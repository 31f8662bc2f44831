/* SPDX-License-Identifier: MIT
 *
 * The epoll back end: one epoll descriptor per P and per host, and an eventfd
 * in it that is written to wake and never read: edge-triggered, each write is
 * an edge.
 */
#include "sys/base.h"

#ifdef TDL_LINUX
#include "sys/sys.h"

#include <errno.h>
#include <sys/epoll.h>

#include "netpoll/backend.h"
#include "netpoll/polldesc.h"

/* -- Opening and closing --------------------------------------------------------- */

static int open_epoll(tdl_poller *p) {
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = DATA_WAKE};
    int r;
    if ((p->fd = r = tdl_sys.epoll_create()) < 0) return r;
    if ((p->wakefd = r = tdl_sys.eventfd()) < 0) goto no_eventfd;
    if ((r = tdl_sys.epoll_ctl(p->fd, EPOLL_CTL_ADD, p->wakefd, &ev)) < 0) goto no_add;
    return 0;
no_add:
    tdl_sys.close(p->wakefd);
no_eventfd:
    tdl_sys.close(p->fd);
    return r;
}

static void close_epoll(tdl_poller *p) {
    tdl_sys.close(p->wakefd);
    tdl_sys.close(p->fd);
}

/* -- Registration ------------------------------------------------------------------ */

static int add(tdl_poller *p, int fd, uint64_t token) {
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET,
                             .data.u64 = token};
    TDL_TSAN_RELEASE(p); /* to who fetches its events: the kernel orders that */
    return tdl_sys.epoll_ctl(p->fd, EPOLL_CTL_ADD, fd, &ev);
}

static void remove_fd(tdl_poller *p, int fd) {
    struct epoll_event ev = {0};
    tdl_sys.epoll_ctl(p->fd, EPOLL_CTL_DEL, fd, &ev);
}

static void remove_pd(tdl_poller *p, int fd, uint64_t token) {
    (void)token;
    remove_fd(p, fd);
}

static int set_watch(tdl_poller *p, int how, int fd, uint32_t watcher, int readiness) {
    struct epoll_event ev = {.data.u64 = DATA_WATCH | watcher};
    if (readiness & TDL_READABLE) ev.events |= EPOLLIN | EPOLLRDHUP;
    if (readiness & TDL_WRITABLE) ev.events |= EPOLLOUT;
    if (readiness & TDL_EDGE) ev.events |= EPOLLET;
    return tdl_sys.epoll_ctl(p->fd, how, fd, &ev);
}

static int watch(tdl_poller *p, int fd, uint32_t watcher, int readiness) {
    return set_watch(p, EPOLL_CTL_ADD, fd, watcher, readiness);
}

static int rewatch(tdl_poller *p, int fd, uint32_t watcher, int readiness) {
    return set_watch(p, EPOLL_CTL_MOD, fd, watcher, readiness);
}

static void unwatch(tdl_poller *p, int fd, uint32_t watcher) {
    (void)watcher;
    remove_fd(p, fd);
}

/* -- Events ------------------------------------------------------------------------- */

static uint32_t meaning(uint32_t e) {
    _Static_assert(PD_READABLE == (int)TDL_READABLE && PD_WRITABLE == (int)TDL_WRITABLE && PD_HUP == (int)TDL_HANGUP,
                   "the same bits for a watcher");
    uint32_t what = 0;
    if (e & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) what |= PD_READABLE;
    if (e & (EPOLLOUT | EPOLLHUP | EPOLLERR)) what |= PD_WRITABLE;
    if (e & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) what |= PD_HUP;
    if (e & EPOLLPRI) what |= PD_URGENT;
    return what;
}

static int fetch(tdl_poller *p, tdl_poll_event *events, int max, int64_t timeout_ns) {
    struct epoll_event raw[TDL_POLL_BATCH];
    int n = tdl_sys.epoll_wait(p->fd, raw, max < TDL_POLL_BATCH ? max : TDL_POLL_BATCH, timeout_ns);
    for (int i = 0; i < n; i++) events[i] = (tdl_poll_event){raw[i].data.u64, meaning(raw[i].events)};
    return n;
}

static void kick(tdl_poller *p) { tdl_sys.eventfd_write(p->wakefd); }

static int fd_of(tdl_poller *p) { return p->fd; }

static int probe(char *why, size_t size) {
    (void)why;
    (void)size;
    return 0;
}

const tdl_backend tdl_backend_epoll = {
    .name = "epoll", .probe = probe, .open = open_epoll, .close = close_epoll,
    .add = add, .remove = remove_pd, .watch = watch, .rewatch = rewatch, .unwatch = unwatch,
    .fetch = fetch, .kick = kick, .fd = fd_of,
};

#endif
