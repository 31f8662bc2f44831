/* SPDX-License-Identifier: MIT
 *
 * The system, as the core sees it through its seam: memory, virtual time,
 * futexes, threads, and of epoll the part that wakes pollers.
 *
 * A wait with a deadline may end by it at any moment, as often as the scenario
 * allows; a futex wait without cause, too.
 */
#include "sys/sys.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "engine.h"
#include "sys/base.h"
#include "sys/lock.h"

void tdl_thread_yield(void);
uint32_t tdl_random(uint32_t n);

static const model_site here = {"(system)", 0, "", false};

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    if (!E->trace) return;
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    engine_trace(&here, "%s", text);
}

static void point(void) {
    if (!E->cur) return;
    engine_point((held_step){0});
    engine_disturb();
}

/* -- Memory: what is released is never used again in a schedule ---------------- */

enum { SIZE = 16 }; /* before each block: its size */

void *model_alloc(size_t size) {
    size_t n = (size + SIZE + 15) & ~(size_t)15;
    if (E->arena_used + n > ARENA) engine_die("a schedule needs more than %d bytes", ARENA);
    char *p = MODEL_ARENA + E->arena_used + SIZE;
    E->arena_used += n;
    memcpy(p - SIZE, &size, sizeof size);
    memset(p, 0xa5, size);
    return p;
}

void model_release(void *p) {
    if (!p) return;
    size_t size;
    memcpy(&size, (char *)p - SIZE, sizeof size);
    race_access((uintptr_t)p, size, true, (uintptr_t)__builtin_return_address(0));
    race_released((uintptr_t)p, size);
}

static void *resize(void *old, size_t size) {
    void *p = model_alloc(size);
    if (!old) return p;
    size_t was;
    memcpy(&was, (char *)old - SIZE, sizeof was);
    memcpy(p, old, was < size ? was : size);
    model_release(old);
    return p;
}

/* -- Time and threads ------------------------------------------------------------ */

int64_t model_now(void) { return E->now; }

void model_advance(int64_t ns) { E->now += ns; }

/* Futexes: who waits, on which word. */
static struct sleeper {
    void *word;
    bool woken;
} sleepers[MODEL_THREADS];

static bool is_woken(void *s) { return ((struct sleeper *)s)->woken; }

/* The kernel compares under its own lock, with the last value stored. */
static int futex_wait(void *word, uint32_t expected, int64_t deadline) {
    point();
    if (*(volatile uint32_t *)word != expected) {
        say("futex: %p is no longer %#x", word, expected);
        return -EAGAIN;
    }
    if (E->spurious_left > 0 && engine_choose(2, CHOOSE_READ)) {
        E->spurious_left--;
        say("futex: ends for no reason");
        return -EINTR;
    }
    say("futex: sleeps on %p == %#x", word, expected);
    struct sleeper *s = &sleepers[model_self()];
    *s = (struct sleeper){word, false};
    bool in_time = true;
    if (deadline == INT64_MAX)
        model_wait(is_woken, s);
    else
        in_time = model_wait_timed(is_woken, s);
    s->word = NULL;
    if (!in_time && deadline > E->now) E->now = deadline;
    say("futex: %s", in_time ? "woken" : "timed out");
    return in_time ? 0 : -ETIMEDOUT;
}

static int futex_wake(void *word, int count) {
    point();
    int n = 0;
    for (int i = 0; i < MODEL_THREADS && n < count; i++) {
        if (sleepers[i].word != word || sleepers[i].woken) continue;
        sleepers[i].woken = true;
        n++;
    }
    E->writes++;
    say("futex: wakes %d on %p", n, word);
    return n;
}

static void run_thread(void *p) {
    void *(**fn)(void *) = p;
    (*fn)(((void **)p)[1]);
}

static int start_thread(void *(*fn)(void *), void *arg, void *id) {
    point();
    void **call = model_alloc(2 * sizeof *call);
    memcpy(call, &fn, sizeof fn);
    call[1] = arg;
    unsigned long n = (unsigned long)model_spawn("a new thread", run_thread, call, true);
    memcpy(id, &n, sizeof n);
    say("starts thread %lu", n);
    return 0;
}

static void yield(void) { model_pause(&here); }

static void nap(int64_t ns) {
    (void)ns;
    model_pause(&here);
}

static int join(const void *id) {
    unsigned long n;
    memcpy(&n, id, sizeof n);
    model_join((int)n);
    return 0;
}

static uint32_t entropy(void) { return 1; }

static int membarrier(void) {
    model_membarrier();
    return 0;
}

/* -- Polling: wake-ups only ---------------------------------------------------------- */

static struct fd {
    int epoll; /* the epoll that it is in */
    uint64_t data;
    bool edge;
} fds[FDS];
static int nfds;

static int new_fd(void) {
    if (nfds == FDS) engine_die("more than %d descriptors", FDS);
    return nfds++;
}

static int epoll_ctl_(int epfd, int op, int fd, struct epoll_event *ev) {
    if (op == EPOLL_CTL_DEL) return 0;
    fds[fd].epoll = epfd;
    fds[fd].data = ev->data.u64;
    return 0;
}

static bool has_edge(void *epfd) {
    for (int i = 0; i < nfds; i++)
        if (fds[i].edge && fds[i].epoll == (int)(intptr_t)epfd) return true;
    return false;
}

static int epoll_wait_(int epfd, struct epoll_event *evs, int max, int64_t timeout_ns) {
    point();
    void *which = (void *)(intptr_t)epfd;
    if (timeout_ns != 0 && !has_edge(which)) {
        say("sleeps in epoll %d", epfd);
        if (timeout_ns < 0)
            model_wait(has_edge, which);
        else if (!model_wait_timed(has_edge, which))
            E->now += timeout_ns;
    }
    int n = 0;
    for (int i = 0; i < nfds && n < max; i++) {
        if (!fds[i].edge || fds[i].epoll != epfd) continue;
        fds[i].edge = false;
        memory_join_view(E->fd_views[i]);
        evs[n].events = EPOLLIN;
        evs[n++].data.u64 = fds[i].data;
    }
    say("epoll %d: %d events", epfd, n);
    return n;
}

static int eventfd_write_(int fd) {
    point();
    say("writes to eventfd %d%s", fd, fds[fd].edge ? ", once more" : "");
    memory_copy_view(E->fd_views[fd]);
    fds[fd].edge = true;
    E->writes++;
    E->kicks++;
    return 0;
}

static int close_(int fd) {
    (void)fd;
    return 0;
}

int model_kicks(void) { return E->kicks; }

struct tdl_sys tdl_sys = {
    .alloc = model_alloc,
    .resize = resize,
    .release = model_release,
    .now = model_now,
    .futex_wait = futex_wait,
    .futex_wake = futex_wake,
    .join = join,
    .yield = yield,
    .nap = nap,
    .entropy = entropy,
    .membarrier = membarrier,
    .thread = start_thread,
    .epoll_create = new_fd,
    .epoll_ctl = epoll_ctl_,
    .epoll_wait = epoll_wait_,
    .eventfd = new_fd,
    .eventfd_write = eventfd_write_,
    .close = close_,
};

/* -- Helpers of sys/ and of caller.c ------------------------------------------------------------------ */

void *tdl_alloc_zeroed(size_t size) {
    void *p = tdl_sys.alloc(size);
    if (p) memset(p, 0, size);
    return p;
}

void tdl_fatal(const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    model_fail("fatal: %s", text);
}

/* Unless the real one is what is looked at. */
__attribute__((weak)) void tdl_lock_wait(tdl_lock *l) { model_lock_wait((volatile uint32_t *)&l->held, &here); }

void tdl_thread_yield(void) { yield(); }

/* The order in which a thief looks round, or a select at its cases: the first. */
uint32_t tdl_random(uint32_t n) {
    (void)n;
    return 0;
}
