/* SPDX-License-Identifier: MIT
 *
 * The io_uring back end: one ring per P and per host. A descriptor is a multishot
 * poll request, which tells edges as epoll does; a host's level-triggered watcher
 * a poll request that is made anew before the next wait. What is asked for in
 * between goes to the system with that wait, in one call.
 *
 * A ring is used by many threads: a P moves from thread to thread, others serve
 * it while it is busy, and whoever closes a descriptor cancels its request. So it
 * has no single issuer; what completes is posted by the thread that asked
 * (COOP_TASKRUN: when it next enters the system or is interrupted). A request
 * ends with its thread; the end of one that is still meant (its event has no
 * IORING_CQE_F_MORE) makes a new one: PD_LOST.
 *
 * Who guards what:
 *   ring.sq_lock    the submission queue's tail and its entries.
 *   ring.cq_lock    the completion queue's head. A stream's descriptor is locked under it.
 *   wake_owner      the owner's: which thread has asked for the eventfd's events; NULL
 *                   by whoever sees that request's end, which has also woken the owner.
 *   wake_gen        the owner's. Both relaxed: who reaps knows at least its own request.
 *   watches         the host's thread.
 * A request holds its file until it has ended: so a cancellation is handed to the
 * system at once. Its descriptor may be closed and its number used again then:
 * what is still on the way carries the old token.
 */
#include "sys/base.h"

#ifdef TDL_LINUX
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/time_types.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "netpoll/uring.h"

#ifndef POLLRDHUP
#define POLLRDHUP 0x2000
#endif

enum { ENTRIES = 256, COMPLETIONS = 2048 };
enum { SETTLE_NAPS = 1000 }; /* about a second */

/* Which thread this is. */
static const void *me(void) {
    static _Thread_local char here;
    return &here;
}

/* -- Opening and closing ----------------------------------------------------------- */

static int unmap(void *at, size_t size) { return at ? tdl_sys.unmap(at, size) : 0; }

static int setup(struct ring *r) {
    struct io_uring_params p = {.cq_entries = COMPLETIONS};
    p.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    if ((r->fd = tdl_sys.uring_setup(ENTRIES, &p)) < 0) return r->fd;
    size_t sq = p.sq_off.array + p.sq_entries * sizeof(uint32_t);
    size_t cq = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    const uint32_t needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;
    int rc = -EOPNOTSUPP;
    if ((p.features & needed) != needed) goto failed;
    r->rings_size = sq > cq ? sq : cq;
    r->sqes_size = p.sq_entries * sizeof(struct io_uring_sqe);
    rc = -ENOMEM;
    char *at = r->rings = tdl_sys.uring_map(r->fd, r->rings_size, IORING_OFF_SQ_RING);
    r->sqes = tdl_sys.uring_map(r->fd, r->sqes_size, IORING_OFF_SQES);
    if (!at || !r->sqes) goto failed;
    r->sq_head = (shared)(void *)(at + p.sq_off.head);
    r->sq_tail = (shared)(void *)(at + p.sq_off.tail);
    r->sq_flags = (shared)(void *)(at + p.sq_off.flags);
    r->cq_head = (shared)(void *)(at + p.cq_off.head);
    r->cq_tail = (shared)(void *)(at + p.cq_off.tail);
    r->cqes = (struct io_uring_cqe *)(void *)(at + p.cq_off.cqes);
    r->sq_entries = p.sq_entries;
    r->sq_mask = p.sq_entries - 1;
    r->cq_mask = p.cq_entries - 1;
    uint32_t *array = (uint32_t *)(void *)(at + p.sq_off.array);
    for (uint32_t i = 0; i < p.sq_entries; i++) array[i] = i;
    return 0;
failed:
    unmap(r->rings, r->rings_size);
    unmap(r->sqes, r->sqes_size);
    tdl_sys.close(r->fd);
    return rc;
}

static void tear_down(struct ring *r) {
    unmap(r->rings, r->rings_size);
    unmap(r->sqes, r->sqes_size);
    tdl_sys.close(r->fd);
}

/* Does the ring receive for streams? Written by the probe, before any poller is opened. */
static bool receives;

static int open_ring(tdl_poller *p) {
    int rc;
    struct ring *r = tdl_alloc_zeroed(sizeof *r);
    if (!r) return TDL_ENOMEM;
    tdl_lock_init(&r->sq_lock, RANK_BACKEND);
    tdl_lock_init(&r->cq_lock, RANK_REAP);
    if ((rc = setup(r)) < 0) goto no_ring;
    if ((rc = p->wakefd = tdl_sys.eventfd()) < 0) goto no_eventfd;
    p->fd = r->fd;
    p->state = r;
    r->npd = &p->npd;
    if (receives) tdl_uring_open_blocks(r);
    return 0;
no_eventfd:
    tear_down(r);
no_ring:
    tdl_sys.release(r);
    return rc;
}

/* Files are let go before this returns: the system ends a ring's requests some
 * time after it is closed, and a port would be taken until then. */
static void close_ring(tdl_poller *p) {
    struct ring *r = tdl_ring_of(p);
    struct io_uring_sync_cancel_reg all = {
        .fd = -1, .flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL, .timeout = {1, 0}};
    tdl_uring_stop_blocks(r);
    tdl_sys.uring_register(r->fd, IORING_REGISTER_SYNC_CANCEL, &all, 1);
    for (uint32_t head = at_load_rlx(r->cq_head), tail = at_load_acq(r->cq_tail); head != tail; head++)
        tdl_uring_refuse(&r->cqes[head & r->cq_mask]);
    tdl_sys.close(p->wakefd);
    tear_down(r);
    tdl_uring_close_blocks(r);
    tdl_sys.release(r->watches);
    tdl_sys.release(r);
    p->state = NULL;
}

/* The text of a file of /proc, or "". */
static void read_small(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = '\0';
}

static int probe(char *why, size_t size) {
    struct ring r = {0};
    int rc = setup(&r);
    if (rc >= 0) {
        receives = tdl_uring_can_receive(&r, why, size) >= 0;
        tear_down(&r);
        return 0;
    }
    char disabled[8];
    read_small("/proc/sys/kernel/io_uring_disabled", disabled, sizeof disabled);
    bool off = disabled[0] == '1' || disabled[0] == '2';
    const char *text = rc == -ENOSYS                ? "the kernel has no io_uring"
                       : rc == -EPERM && off        ? "kernel.io_uring_disabled forbids it"
                       : rc == -EPERM || rc == -EACCES ? "it is forbidden here, by a seccomp filter perhaps"
                       : rc == -ENOMEM              ? "no memory for a ring; the limit of locked memory (ulimit -l) is too low perhaps"
                       : rc == -EINVAL || rc == -EOPNOTSUPP ? "the kernel is older than 5.19"
                                                    : strerror(-rc);
    snprintf(why, size, "io_uring_setup: %s", text);
    return rc;
}

/* -- Submitting ------------------------------------------------------------------------ */

/* acquire: what is behind head has been read by the system */
static uint32_t waiting(struct ring *r) { return at_load_rlx(r->sq_tail) - at_load_acq(r->sq_head); }

static int enter(struct ring *r, unsigned submit, unsigned min, unsigned flags, const void *arg, size_t size) {
    return tdl_sys.uring_enter(r->fd, submit, min, flags, arg, size);
}

/* Takes the lock; the next entry, zeroed; NULL (and no lock) when there is no room
 * and the system takes none. */
struct io_uring_sqe *tdl_ring_begin(struct ring *r) {
    tdl_lock_take(&r->sq_lock);
    for (int i = 0; waiting(r) == r->sq_entries; i++) {
        if (enter(r, r->sq_entries, 0, 0, NULL, 0) < 0 && i > 100) {
            tdl_unlock(&r->sq_lock);
            return NULL;
        }
    }
    struct io_uring_sqe *e = &r->sqes[at_load_rlx(r->sq_tail) & r->sq_mask];
    memset(e, 0, sizeof *e);
    return e;
}

void tdl_ring_end(struct ring *r) {
    at_store_rel(r->sq_tail, at_load_rlx(r->sq_tail) + 1); /* with the entry, to the system */
    tdl_unlock(&r->sq_lock);
}

static uint32_t poll_mask(uint32_t events) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return events << 16 | events >> 16;
#else
    return events;
#endif
}

int tdl_ring_ask(struct ring *r, int fd, uint32_t events, bool multi, uint64_t data) {
    struct io_uring_sqe *e = tdl_ring_begin(r);
    if (!e) return -EAGAIN;
    e->opcode = IORING_OP_POLL_ADD;
    e->fd = fd;
    e->len = multi ? IORING_POLL_ADD_MULTI : 0;
    e->poll32_events = poll_mask(events);
    e->user_data = data;
    tdl_ring_end(r);
    return 0;
}

void tdl_ring_cancel(struct ring *r, uint64_t data) {
    struct io_uring_sqe *e = tdl_ring_begin(r);
    if (!e) return; /* its events will be of no interest */
    e->opcode = IORING_OP_ASYNC_CANCEL; /* POLL_REMOVE fails beside an event */
    e->addr = data;
    e->user_data = NOTHING;
    tdl_ring_end(r);
}

/* What is left after so many failures (no memory) goes with the next wait. */
void tdl_ring_submit(struct ring *r) {
    uint32_t n;
    for (int i = 0; i < 100 && (n = waiting(r)) != 0; i++)
        if (enter(r, n, 0, 0, NULL, 0) < 0) tdl_sys.yield();
}

static void flush(tdl_poller *p) { tdl_ring_submit(tdl_ring_of(p)); }

static bool gathers(tdl_poller *p) { return waiting(tdl_ring_of(p)) != 0; }

/* -- Registration ------------------------------------------------------------------------ */

static int add(tdl_poller *p, int fd, uint64_t token) {
    int rc = tdl_sys.pollable(fd);
    if (rc < 0) return rc;
    TDL_TSAN_RELEASE(tdl_ring_of(p)); /* to who takes its completions: the kernel orders that */
    TDL_TSAN_RELEASE(p);
    tdl_pd_note(token, false);
    return tdl_ring_ask(tdl_ring_of(p), fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, true, token);
}

static void remove_pd(tdl_poller *p, int fd, uint64_t token) {
    (void)fd;
    tdl_ring_cancel(tdl_ring_of(p), token);
    tdl_ring_submit(tdl_ring_of(p));
}

/* Is the request's last completion there, or has it been seen? */
static bool has_ended(struct ring *r, tdl_pd *pd, uint64_t token) {
    if (tdl_pd_ended(pd, token)) return true;
    tdl_lock_take(&r->cq_lock);
    uint32_t head = at_load_rlx(r->cq_head), tail = at_load_acq(r->cq_tail); /* what the system wrote before it */
    uint32_t left = tdl_uring_dying(pd, token);
    for (; head != tail && left; head++) {
        struct io_uring_cqe *c = &r->cqes[head & r->cq_mask];
        if ((c->user_data & ~LOW_STREAM) != token || (LOW(c->user_data) & LOW_SEND)) continue; /* a send ended before */
        left -= !(c->flags & IORING_CQE_F_MORE);
        tdl_uring_refuse(c); /* it is seen by its peer before the listener's close returns */
        if (LOW(c->user_data) & LOW_ACCEPT) c->res = -ECANCELED;
    }
    bool yes = left == 0 || tdl_pd_ended(pd, token);
    tdl_unlock(&r->cq_lock);
    return yes;
}

/* A request that this thread made has ended with its cancellation. Another's ends when
 * that thread is next in the system: one that sleeps is woken for it, one that computes
 * has its tick. The system tells of the end first and drops the request's hold on the
 * file then, but both under the ring's own lock: who has passed that (whoever comes with
 * entries takes it, though there be none) after he was told closes the file by his close. */
static void settle(tdl_poller *p, tdl_pd *pd, uint64_t token) {
    struct ring *r = tdl_ring_of(p);
    for (int n = 0; !has_ended(r, pd, token); n++) {
        if (n == SETTLE_NAPS) return;
        tdl_nap_again(n);
    }
    enter(r, 1, 0, 0, NULL, 0);
}

/* -- A host's watchers ------------------------------------------------------------------- */

static uint64_t watch_data(uint32_t watcher, const struct watch *w) {
    return (uint64_t)w->gen << 32 | LOW_WATCH | watcher;
}

static void set_due(struct ring *r, struct watch *w) {
    if (!w->due) r->ndue++;
    w->due = true;
}

static void set_events(struct watch *w, int readiness) {
    w->events = 0;
    if (readiness & TDL_READABLE) w->events |= POLLIN | POLLRDHUP;
    if (readiness & TDL_WRITABLE) w->events |= POLLOUT;
    w->edge = readiness & TDL_EDGE;
}

static int watch(tdl_poller *p, int fd, uint32_t watcher, int readiness) {
    struct ring *r = tdl_ring_of(p);
    int rc = tdl_sys.pollable(fd);
    if (rc < 0) return rc;
    for (uint32_t i = 0; i < r->nwatches; i++)
        if (r->watches[i].fd == fd) return -EEXIST;
    if (watcher >= r->nwatches) {
        uint32_t n = 2 * watcher + 8;
        struct watch *w = tdl_sys.resize(r->watches, n * sizeof *w);
        if (!w) return TDL_ENOMEM;
        for (uint32_t i = r->nwatches; i < n; i++) w[i] = (struct watch){.fd = -1};
        r->watches = w;
        r->nwatches = n;
    }
    struct watch *w = &r->watches[watcher];
    w->fd = fd;
    w->gen++;
    set_events(w, readiness);
    set_due(r, w);
    return 0;
}

static void forget(struct ring *r, uint32_t watcher) {
    struct watch *w = &r->watches[watcher];
    if (w->due) r->ndue--;
    if (!w->due) tdl_ring_cancel(r, watch_data(watcher, w));
    w->due = false;
    w->gen++;
}

static int rewatch(tdl_poller *p, int fd, uint32_t watcher, int readiness) {
    struct ring *r = tdl_ring_of(p);
    (void)fd;
    forget(r, watcher);
    set_events(&r->watches[watcher], readiness);
    set_due(r, &r->watches[watcher]);
    return 0;
}

static void unwatch(tdl_poller *p, int fd, uint32_t watcher) {
    struct ring *r = tdl_ring_of(p);
    (void)fd;
    forget(r, watcher);
    r->watches[watcher].fd = -1;
    tdl_ring_submit(r);
}

/* What was told is asked for again: at once, if it is still so. */
static void ask_due(struct ring *r) {
    for (uint32_t i = 0; r->ndue && i < r->nwatches; i++) {
        struct watch *w = &r->watches[i];
        if (!w->due) continue;
        if (tdl_ring_ask(r, w->fd, w->events, w->edge, watch_data(i, w)) < 0) return;
        w->due = false;
        r->ndue--;
    }
}

/* -- Waking ------------------------------------------------------------------------------- */

/* The thread that will wait asks for the eventfd's events itself: it would else wait
 * for another one's to post them. */
static void heed_wake(tdl_poller *p) {
    struct ring *r = tdl_ring_of(p);
    if (TDL_LIKELY(at_load_rlx(&r->wake_owner) == me())) return;
    uint32_t gen = at_load_rlx(&r->wake_gen);
    if (gen) tdl_ring_cancel(r, (uint64_t)gen << 32 | LOW_WAKE);
    if (++gen == 0) gen = 1;
    at_store_rlx(&r->wake_gen, gen);
    if (tdl_ring_ask(r, p->wakefd, POLLIN, true, (uint64_t)gen << 32 | LOW_WAKE) == 0) at_store_rlx(&r->wake_owner, me());
}

static void kick(tdl_poller *p) { tdl_sys.eventfd_write(p->wakefd); }

/* -- Events ------------------------------------------------------------------------------- */

uint32_t tdl_ring_meaning(const struct io_uring_cqe *c) {
    if (c->res == -ECANCELED) return PD_LOST; /* with its thread */
    if (c->res < 0) return PD_READABLE | PD_WRITABLE | PD_HUP;
    uint32_t e = (uint32_t)c->res, what = 0;
    if (e & (POLLIN | POLLPRI | POLLRDHUP | POLLHUP | POLLERR)) what |= PD_READABLE;
    if (e & (POLLOUT | POLLHUP | POLLERR)) what |= PD_WRITABLE;
    if (e & (POLLRDHUP | POLLHUP | POLLERR)) what |= PD_HUP;
    if (e & POLLPRI) what |= PD_URGENT;
    if (!(c->flags & IORING_CQE_F_MORE)) what |= PD_LOST;
    return what;
}

static bool watched(struct ring *r, const struct io_uring_cqe *c, tdl_poll_event *out) {
    uint32_t watcher = LOW(c->user_data) & ~LOW_WATCH;
    struct watch *w = watcher < r->nwatches ? &r->watches[watcher] : NULL;
    if (!w || w->fd < 0 || (uint32_t)(c->user_data >> 32) != w->gen) return false;
    uint32_t what = tdl_ring_meaning(c);
    if (!(c->flags & IORING_CQE_F_MORE)) set_due(r, w);
    *out = (tdl_poll_event){DATA_WATCH | watcher, what & (PD_READABLE | PD_WRITABLE | PD_HUP)};
    return out->what != 0;
}

/* What a completion means to us; false: nothing. */
static bool translate(struct ring *r, const struct io_uring_cqe *c, tdl_poll_event *out) {
    uint64_t data = c->user_data;
    if (LOW(data) == LOW_NOTHING) return false;
    if (LOW(data) == LOW_WAKE) {
        if ((uint32_t)(data >> 32) == at_load_rlx(&r->wake_gen) && !(c->flags & IORING_CQE_F_MORE))
            at_store_rlx(&r->wake_owner, NULL);
        *out = (tdl_poll_event){DATA_WAKE, 0};
        return true;
    }
    if (LOW(data) & LOW_WATCH) return watched(r, c, out);
    if (LOW(data) & LOW_STREAM) {
        tdl_uring_stream(r, c, out);
        return true;
    }
    if (!(c->flags & IORING_CQE_F_MORE)) tdl_pd_note(data, true);
    *out = (tdl_poll_event){data, tdl_ring_meaning(c)};
    return true;
}

static int reap(struct ring *r, tdl_poll_event *events, int max) {
    int n = 0;
    tdl_lock_take(&r->cq_lock);
    uint32_t head = at_load_rlx(r->cq_head), tail = at_load_acq(r->cq_tail); /* what the system wrote before it */
    TDL_TSAN_ACQUIRE(r);
    for (; head != tail && n < max; head++) n += translate(r, &r->cqes[head & r->cq_mask], &events[n]);
    at_store_rel(r->cq_head, head); /* they have been read */
    tdl_unlock(&r->cq_lock);
    return n;
}

static bool any(struct ring *r) { return at_load_rlx(r->cq_head) != at_load_acq(r->cq_tail); }

/* Waits for a completion. */
static int doze(struct ring *r, int64_t timeout_ns) {
    struct __kernel_timespec ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    struct io_uring_getevents_arg arg = {.ts = timeout_ns < 0 ? 0 : (uint64_t)(uintptr_t)&ts};
    int rc = enter(r, waiting(r), 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof arg);
    return rc == -ETIME || rc == -EBUSY || rc == -EAGAIN ? 0 : rc;
}

static int fetch(tdl_poller *p, tdl_poll_event *events, int max, int64_t timeout_ns) {
    struct ring *r = tdl_ring_of(p);
    if (p->on_watch) ask_due(r);
    int rc = 0;
    int64_t until = timeout_ns > 0 ? tdl_sys.now() + timeout_ns : 0;
    if (timeout_ns != 0) heed_wake(p);
    if (timeout_ns != 0 && !any(r)) {
        rc = doze(r, timeout_ns);
    } else {
        uint32_t flags = at_load_rlx(r->sq_flags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
        if (flags || waiting(r)) enter(r, waiting(r), 0, IORING_ENTER_GETEVENTS, NULL, 0);
    }
    int n = reap(r, events, max);
    if (n > 0 || rc == 0) return n;
    if (rc < 0) return rc;
    /* it took what was asked for: then it does not say that a signal ended the wait */
    return timeout_ns < 0 || tdl_sys.now() < until ? -EINTR : 0;
}

/* -- A foreign loop -------------------------------------------------------------------------- */

static int fd_of(tdl_poller *p) { return p->fd; }

static bool prepare(tdl_poller *p) {
    struct ring *r = tdl_ring_of(p);
    ask_due(r);
    heed_wake(p);
    tdl_ring_submit(r);
    return any(r);
}

const tdl_backend tdl_backend_uring = {
    .name = "uring", .by_owner = true, .probe = probe, .open = open_ring, .close = close_ring,
    .add = add, .remove = remove_pd, .settle = settle,
    .join = tdl_uring_join, .receive = tdl_uring_receive, .take = tdl_uring_take, .received = tdl_uring_received,
    .plain = tdl_uring_plain, .forget = tdl_uring_forget,
    .accept = tdl_uring_accept, .orphan = tdl_uring_orphan, .send = tdl_uring_send, .sent = tdl_uring_sent, .flush = flush, .gathers = gathers,
    .watch = watch, .rewatch = rewatch, .unwatch = unwatch,
    .fetch = fetch, .kick = kick, .fd = fd_of, .prepare = prepare,
};

#endif
