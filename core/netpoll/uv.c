/* SPDX-License-Identifier: MIT
 *
 * The libuv back end: a loop per P and per host, and in it a uv_poll_t for each
 * descriptor and a uv_async_t for waking. For systems that have no back end of
 * their own here.
 *
 * uv_poll_t is level-triggered: a direction that was told is taken out of what is
 * asked for, until an op, or the user of a watcher with TDL_EDGE, wants it again. No thread ever waits inside libuv: the
 * loop is only run without waiting, under its lock, and the owner waits for the
 * loop's own descriptor beside it. So any thread may add, remove, want or serve;
 * what it changes gets to the system when the loop is next run (by_owner).
 *
 * loop.lock guards everything in struct loop but `wake`, whose uv_async_send
 * may be called by any thread and in signal handlers.
 *
 * The system calls that libuv makes do not go through the seam: behind it are the
 * wait, and the clock. Faults are injected there, and in what is done with the
 * descriptors.
 */
#include "sys/service.h"

#include <errno.h>
#include <sys/stat.h>
#include <uv.h>

#include "netpoll/backend.h"
#include "netpoll/polldesc.h"

typedef struct handle {
    uv_poll_t poll;               /* first */
    struct handle *before, *after; /* in loop.fresh; before == NULL: not in it */
    uint64_t data; /* of its events */
    uint32_t run;  /* of the loop, in which it was last found: */
    int at;        /* where in `found` */
    int fd;
    int asked;      /* UV_READABLE … */
    bool lasts;     /* a level-triggered watcher's: asked for until it is changed */
} handle;

struct loop {
    tdl_lock lock;
    handle fresh; /* head of the ring of handles that libuv will register when it is run */
    uv_loop_t uv;
    uv_async_t wake;
    handle **by_fd;
    int nfds;
    struct found {
        handle *h;
        int status, events;
    } *found; /* by the last run: room for each handle */
    int nhandles, room, nfound;
    uint32_t run;
    unsigned turn; /* where in `found` the next batch begins if not all have room in it */
    bool woken;    /* while it is run */
};

static struct loop *loop_of(tdl_poller *p) { return p->state; }

/* -- Events, while the loop is run ------------------------------------------------------ */

static void on_wake(uv_async_t *async) {
    struct loop *l = async->loop->data;
    l->woken = true;
}

static uint32_t meaning(int status, int events) {
    uint32_t what = 0;
    if (status < 0) return PD_READABLE | PD_WRITABLE | PD_HUP;
    if (events & (UV_READABLE | UV_PRIORITIZED | UV_DISCONNECT)) what |= PD_READABLE;
    if (events & UV_WRITABLE) what |= PD_WRITABLE;
    if (events & UV_DISCONNECT) what |= PD_HUP;
    if (events & UV_PRIORITIZED) what |= PD_URGENT;
    return what;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void not_fresh(handle *h) {
    if (!h->before) return;
    h->before->after = h->after;
    h->after->before = h->before;
    h->before = h->after = NULL;
}

static void fresh(struct loop *l, handle *h) {
    if (h->before) return;
    h->before = &l->fresh;
    h->after = l->fresh.after;
    h->before->after = h->after->before = h;
}

static int set(handle *h, int asked) {
    h->asked = asked;
    if (asked)
        fresh(h->poll.loop->data, h);
    else
        not_fresh(h);
    return asked ? uv_poll_start(&h->poll, asked, on_poll) : uv_poll_stop(&h->poll);
}

/* libuv ends the process when the system refuses a descriptor then: one that was
 * closed behind our back, and whose number may have another file. It tells nobody
 * any more, as with epoll. */
static void check_fresh(struct loop *l) {
    while (l->fresh.after != &l->fresh) {
        handle *h = l->fresh.after;
        not_fresh(h);
        struct stat st;
        bool gone = fstat(h->fd, &st) < 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode);
        if (gone) set(h, 0);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    handle *h = (handle *)(void *)poll;
    struct loop *l = poll->loop->data;
    if (h->run == l->run) { /* libuv asks more than once when much is ready */
        l->found[h->at].events |= events;
        return;
    }
    h->run = l->run;
    h->at = l->nfound++;
    l->found[h->at] = (struct found){h, status, events};
}

static tdl_poll_event hand_out(const struct found *f) {
    handle *h = f->h;
    uint32_t what = meaning(f->status, f->events);
    if (h->lasts) {
        what &= PD_READABLE | PD_WRITABLE | PD_HUP;
        if (f->status < 0) set(h, h->asked); /* libuv has stopped it */
    } else {
        int left = f->status < 0 ? 0 : h->asked & ~f->events;
        if (what & PD_READABLE) left &= ~(UV_READABLE | UV_PRIORITIZED);
        set(h, left);
    }
    return (tdl_poll_event){h->data, what};
}

/* With the lock. How many events; what has no room comes again: libuv asks for levels. */
static int run(struct loop *l, tdl_poll_event *events, int max) {
    l->nfound = 0;
    if (++l->run == 0) l->run = 1; /* 0: never */
    l->woken = false;
    check_fresh(l);
    uv_run(&l->uv, UV_RUN_NOWAIT);
    int n = l->nfound, room = max - 1; /* the last one is for the wake-up */
    unsigned first = 0;
    if (n > room) {
        n = room;
        first = l->turn;
        l->turn += (unsigned)n;
    }
    for (int i = 0; i < n; i++) events[i] = hand_out(&l->found[(first + (unsigned)i) % (unsigned)l->nfound]);
    if (l->woken) events[n++] = (tdl_poll_event){DATA_WAKE, 0};
    return n;
}

/* -- Opening and closing ------------------------------------------------------------------ */

static int open_loop(tdl_poller *p) {
    struct loop *l = tdl_alloc_zeroed(sizeof *l);
    if (!l) return TDL_ENOMEM;
    tdl_lock_init(&l->lock, RANK_BACKEND);
    l->fresh.before = l->fresh.after = &l->fresh;
    int r = tdl_service(SERVICE_LOOP, NULL);
    if (r < 0 || (r = uv_loop_init(&l->uv)) < 0) goto no_loop;
    l->uv.data = l;
    if ((r = tdl_service(SERVICE_LOOP, NULL)) < 0 || (r = uv_async_init(&l->uv, &l->wake, on_wake)) < 0) goto no_async;
    p->state = l;
    p->fd = uv_backend_fd(&l->uv);
    return 0;
no_async:
    uv_loop_close(&l->uv);
no_loop:
    tdl_sys.release(l);
    return r;
}

static void on_closed(uv_handle_t *h) { tdl_sys.release(h); }

static void drop(struct loop *l, int fd) {
    handle *h = l->by_fd[fd];
    l->by_fd[fd] = NULL;
    l->nhandles--;
    not_fresh(h);
    uv_close((uv_handle_t *)&h->poll, on_closed);
}

static void close_loop(tdl_poller *p) {
    struct loop *l = loop_of(p);
    tdl_poll_event scratch[2];
    for (int fd = 0; fd < l->nfds; fd++)
        if (l->by_fd[fd]) drop(l, fd);
    uv_close((uv_handle_t *)&l->wake, NULL);
    do
        run(l, scratch, 1);
    while (uv_loop_close(&l->uv) == UV_EBUSY);
    tdl_sys.release(l->by_fd);
    tdl_sys.release(l->found);
    tdl_sys.release(l);
    p->state = NULL;
}

static int probe(char *why, size_t size) {
    (void)why;
    (void)size;
    return 0;
}

/* -- Registration ---------------------------------------------------------------------------- */

/* With the lock. */
static int room_for(struct loop *l, int fd) {
    if (l->nhandles == l->room) {
        int room = l->room ? 2 * l->room : 16;
        struct found *found = tdl_sys.resize(l->found, (size_t)room * sizeof *found);
        if (!found) return TDL_ENOMEM;
        l->found = found;
        l->room = room;
    }
    if (fd < l->nfds) return 0;
    int n = 2 * fd + 16;
    handle **by_fd = tdl_sys.resize(l->by_fd, (size_t)n * sizeof *by_fd);
    if (!by_fd) return TDL_ENOMEM;
    for (int i = l->nfds; i < n; i++) by_fd[i] = NULL;
    l->by_fd = by_fd;
    l->nfds = n;
    return 0;
}

/* With the lock. */
static int put(struct loop *l, int fd, uint64_t data, int asked, bool lasts) {
    if (fd < 0) return -EBADF;
    int r = room_for(l, fd);
    if (r < 0) return r;
    if (l->by_fd[fd]) return -EEXIST;
    handle *h = tdl_alloc_zeroed(sizeof *h);
    if (!h) return TDL_ENOMEM;
    if ((r = tdl_service(SERVICE_HANDLE, NULL)) < 0 || (r = uv_poll_init(&l->uv, &h->poll, fd)) < 0) {
        tdl_sys.release(h);
        return r;
    }
    h->fd = fd;
    h->data = data;
    h->lasts = lasts;
    l->by_fd[fd] = h;
    l->nhandles++;
    if ((r = set(h, asked)) < 0) drop(l, fd);
    return r;
}

static int add(tdl_poller *p, int fd, uint64_t token) {
    struct loop *l = loop_of(p);
    TDL_TSAN_RELEASE(p);
    tdl_lock_take(&l->lock);
    int r = put(l, fd, token, UV_READABLE | UV_WRITABLE | UV_DISCONNECT | UV_PRIORITIZED, false);
    tdl_unlock(&l->lock);
    return r;
}

static void remove_pd(tdl_poller *p, int fd, uint64_t token) {
    struct loop *l = loop_of(p);
    tdl_lock_take(&l->lock);
    if (fd < l->nfds && l->by_fd[fd] && l->by_fd[fd]->data == token) drop(l, fd);
    tdl_unlock(&l->lock);
}

static void want(tdl_poller *p, int fd, uint64_t token, int dir) {
    struct loop *l = loop_of(p);
    int bits = dir == PD_READ ? UV_READABLE | UV_PRIORITIZED : UV_WRITABLE;
    tdl_lock_take(&l->lock);
    handle *h = fd < l->nfds ? l->by_fd[fd] : NULL;
    if (h && h->data == token && (h->asked & bits) != bits) set(h, h->asked | bits);
    tdl_unlock(&l->lock);
}

/* -- A host's watchers ------------------------------------------------------------------------- */

static int uv_bits(int readiness) {
    int bits = 0;
    if (readiness & TDL_READABLE) bits |= UV_READABLE | UV_DISCONNECT;
    if (readiness & TDL_WRITABLE) bits |= UV_WRITABLE;
    return bits;
}

static int watch(tdl_poller *p, int fd, uint32_t watcher, int readiness) {
    struct loop *l = loop_of(p);
    tdl_lock_take(&l->lock);
    int r = put(l, fd, DATA_WATCH | watcher, uv_bits(readiness), !(readiness & TDL_EDGE));
    tdl_unlock(&l->lock);
    return r;
}

static int rewatch(tdl_poller *p, int fd, uint32_t watcher, int readiness) {
    struct loop *l = loop_of(p);
    (void)watcher;
    tdl_lock_take(&l->lock);
    l->by_fd[fd]->lasts = !(readiness & TDL_EDGE);
    int r = set(l->by_fd[fd], uv_bits(readiness));
    tdl_unlock(&l->lock);
    return r;
}

/* An edge was told, and its direction taken out; what it told of is used up. */
static int rewant(tdl_poller *p, int fd, uint32_t watcher, int readiness) {
    struct loop *l = loop_of(p);
    int bits = uv_bits(readiness), r = 0;
    (void)watcher;
    tdl_lock_take(&l->lock);
    handle *h = l->by_fd[fd];
    if (!h->lasts && (h->asked & bits) != bits) r = set(h, h->asked | bits);
    tdl_unlock(&l->lock);
    return r;
}

static void unwatch(tdl_poller *p, int fd, uint32_t watcher) { remove_pd(p, fd, DATA_WATCH | watcher); }

/* -- Waiting and waking -------------------------------------------------------------------------- */

static int run_once(struct loop *l, tdl_poll_event *events, int max) {
    tdl_lock_take(&l->lock);
    int n = run(l, events, max);
    tdl_unlock(&l->lock);
    return n;
}

static int fetch(tdl_poller *p, tdl_poll_event *events, int max, int64_t timeout_ns) {
    struct loop *l = loop_of(p);
    int n = run_once(l, events, max);
    if (n > 0 || timeout_ns == 0) return n;
    int r = tdl_sys.wait_readable(p->fd, timeout_ns);
    return r > 0 ? run_once(l, events, max) : r;
}

static void kick(tdl_poller *p) { uv_async_send(&loop_of(p)->wake); }

static int fd_of(tdl_poller *p) { return p->fd; }

/* What the loop has been told gets to the system. The events found meanwhile come
 * again if they are of watchers; those of descriptors are handed out at the
 * next dispatch. */
static bool prepare(tdl_poller *p) {
    if (p->nevents == 0) p->nevents = run_once(loop_of(p), p->events, TDL_POLL_BATCH);
    return p->nevents > 0;
}

const tdl_backend tdl_backend_uv = {
    .name = "uv", .by_owner = true, .probe = probe, .open = open_loop, .close = close_loop,
    .add = add, .remove = remove_pd, .want = want, .watch = watch, .rewatch = rewatch, .rewant = rewant,
    .unwatch = unwatch,
    .fetch = fetch, .kick = kick, .fd = fd_of, .prepare = prepare,
};
