/* SPDX-License-Identifier: MIT
 * The real system behind the seam. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "sys/atomic.h"
#include "sys/base.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif
#ifndef PIDFD_SELF
#define PIDFD_SELF (-10000) /* Linux 6.15 */
#endif

enum { GUARDS_AT_ONCE = 128 };

static int64_t rc(int64_t r) { return r < 0 ? -errno : r; }

/* -- Memory --------------------------------------------------------------- */

static void *real_map(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, size, MADV_NOHUGEPAGE); /* one touch must not cost 2 MiB */
    return p;
}

static int real_unmap(void *p, size_t size) { return (int)rc(munmap(p, size)); }

/* A guard by madvise costs no mapping; mprotect splits one, and so ends with
 * -ENOMEM at vm.max_map_count / 2 stacks. An emulator may ignore an advice that
 * it does not know: a page that is guarded cannot be populated. */
static int guard_by_madvise(char *page, size_t size) {
    static _Atomic int works; /* 1 yes, -1 no; relaxed: asked once too often at worst */
    if (at_load_rlx(&works) < 0) return -EINVAL;
    if (madvise(page, size, MADV_GUARD_INSTALL) < 0) return -errno;
    if (at_load_rlx(&works) == 0) at_store_rlx(&works, madvise(page, 1, MADV_POPULATE_READ) < 0 ? 1 : -1);
    return at_load_rlx(&works) < 0 ? -EINVAL : 0;
}

static int guard_one(char *page, size_t size) {
    if (guard_by_madvise(page, size) == 0) return 0;
    return (int)rc(mprotect(page, size, PROT_NONE));
}

/* Many in one call cost two thirds of as many calls (Linux 6.16). */
static int guard_many(char *first, size_t size, size_t stride, int n) {
    static _Atomic int no_vector; /* relaxed: asked once too often at worst */
    struct iovec v[GUARDS_AT_ONCE];
    if (at_load_rlx(&no_vector)) return -ENOSYS;
    if (n > GUARDS_AT_ONCE) n = GUARDS_AT_ONCE;
    for (int i = 0; i < n; i++) v[i] = (struct iovec){first + (size_t)i * stride, size};
    int64_t r = rc(syscall(SYS_process_madvise, PIDFD_SELF, v, (size_t)n, MADV_GUARD_INSTALL, 0));
    if (r < (int64_t)size) {
        at_store_rlx(&no_vector, 1);
        return -ENOSYS;
    }
    return (int)(r / (int64_t)size);
}

static int real_guard(void *first, size_t size, size_t stride, int n) {
    int r = guard_one(first, size);
    if (r < 0) return r;
    int done = 1;
    while (done < n && (r = guard_many((char *)first + (size_t)done * stride, size, stride, n - done)) > 0) done += r;
    for (; done < n && guard_one((char *)first + (size_t)done * stride, size) == 0; done++) continue;
    return done;
}

static int real_discard(void *p, size_t size) { return (int)rc(madvise(p, size, MADV_DONTNEED)); }

/* -- Time and threads ----------------------------------------------------- */

static int64_t real_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int real_futex_wait(void *word, uint32_t expected, int64_t deadline) {
    struct timespec ts, *t = NULL;
    if (deadline != INT64_MAX) {
        ts.tv_sec = deadline / 1000000000;
        ts.tv_nsec = deadline % 1000000000;
        t = &ts;
    }
    /* BITSET takes an absolute time on the monotonic clock */
    return (int)rc(syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, t, NULL,
                           FUTEX_BITSET_MATCH_ANY));
}

static int real_futex_wake(void *word, int count) {
    return (int)rc(syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0));
}

/* Signals are the program's: a thread of ours takes none, but for its own faults. */
static int real_thread(void *(*fn)(void *), void *arg, void *thread) {
    sigset_t all, old;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGTRAP);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = pthread_create((pthread_t *)thread, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -e;
}

/* Registered at the first use; -ENOSYS or -EPERM where the kernel has it not. */
static int real_membarrier(void) {
    static _Atomic int state; /* 0: not asked yet, 1: registered, or a negated errno; relaxed */
    int s = at_load_rlx(&state);
    if (s == 0) {
        s = (int)rc(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
        if (s == 0) s = 1;
        at_store_rlx(&state, s);
    }
    return s < 0 ? s : (int)rc(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
}

static int real_join(const void *thread) { return -pthread_join(*(const pthread_t *)thread, NULL); }

static void real_yield(void) { sched_yield(); }

static void real_nap(int64_t ns) {
    struct timespec ts = {ns / 1000000000, ns % 1000000000};
    nanosleep(&ts, NULL);
}

static void real_stack(void **low, size_t *size) {
    pthread_attr_t attr;
    *low = NULL;
    *size = 0;
    if (pthread_getattr_np(pthread_self(), &attr) != 0) return;
    pthread_attr_getstack(&attr, low, size);
    pthread_attr_destroy(&attr);
}

static uint32_t real_entropy(void) {
    static _Thread_local char here; /* one address per thread */
    return (uint32_t)((uintptr_t)&here >> 6) ^ (uint32_t)real_now() ^ 0x9e3779b9u;
}

/* Not simulated: nothing to do. */
static void real_point(void) {}
static struct tdl_g *real_look(struct tdl_g *g) { return g; }
static uint32_t real_bubble(void) { return 0; }
static int real_over(int waited) { return waited ? -EDEADLK : 0; }

/* -- Polling -------------------------------------------------------------- */

static int real_epoll_create(void) { return (int)rc(epoll_create1(EPOLL_CLOEXEC)); }

static int real_epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev) {
    return (int)rc(epoll_ctl(epfd, op, fd, ev));
}

/* epoll_pwait2 (Linux 5.11) counts in nanoseconds; before it, milliseconds
 * rounded up, so that a sleep never ends early. */
static int real_epoll_wait(int epfd, struct epoll_event *evs, int max, int64_t timeout_ns) {
    static _Atomic int no_pwait2; /* relaxed: asked once too often at worst */
    if (timeout_ns <= 0) return (int)rc(epoll_wait(epfd, evs, max, timeout_ns < 0 ? -1 : 0));
    if (!at_load_rlx(&no_pwait2)) {
        struct timespec ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        int r = (int)rc(syscall(SYS_epoll_pwait2, epfd, evs, max, &ts, NULL, 0));
        if (r != -ENOSYS) return r;
        at_store_rlx(&no_pwait2, 1);
    }
    int64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return (int)rc(epoll_wait(epfd, evs, max, ms > INT32_MAX ? INT32_MAX : (int)ms));
}

static int real_eventfd(void) { return (int)rc(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

static int real_eventfd_write(int fd) {
    uint64_t one = 1;
    return (int)rc(write(fd, &one, sizeof one));
}

static int real_uring_setup(unsigned entries, struct io_uring_params *p) {
    return (int)rc(syscall(SYS_io_uring_setup, entries, p));
}

static int real_uring_enter(int fd, unsigned to_submit, unsigned min, unsigned flags, const void *arg, size_t size) {
    return (int)rc(syscall(SYS_io_uring_enter, fd, to_submit, min, flags, arg, size));
}

static int real_uring_register(int fd, unsigned what, void *arg, unsigned n) {
    return (int)rc(syscall(SYS_io_uring_register, fd, what, arg, n));
}

static void *real_uring_map(int fd, size_t size, uint64_t offset) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)offset);
    if (p == MAP_FAILED) return NULL;
    madvise(p, size, MADV_DONTFORK);
    return p;
}

/* What has no poll of its own would be taken for ready always. */
static int real_pollable(int fd) {
    struct stat s;
    if (fstat(fd, &s) < 0) return -errno;
    if (S_ISSOCK(s.st_mode) || S_ISFIFO(s.st_mode)) return 0;
    if (S_ISREG(s.st_mode) || S_ISDIR(s.st_mode) || S_ISBLK(s.st_mode)) return -EPERM;
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    if (epfd < 0) return -errno;
    struct epoll_event ev = {0};
    int r = (int)rc(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev));
    close(epfd);
    return r;
}

static int real_wait_readable(int fd, int64_t timeout_ns) {
    struct pollfd p = {fd, POLLIN, 0};
    struct timespec ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    return (int)rc(ppoll(&p, 1, timeout_ns < 0 ? NULL : &ts, NULL));
}

/* -- Sockets -------------------------------------------------------------- */

static int real_socket(int domain, int type, int protocol) {
    return (int)rc(socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
}
static int real_bind(int fd, const struct sockaddr *sa, socklen_t n) { return (int)rc(bind(fd, sa, n)); }
static int real_listen(int fd, int backlog) { return (int)rc(listen(fd, backlog)); }
static int real_accept(int fd, struct sockaddr *sa, socklen_t *n) {
    return (int)rc(accept4(fd, sa, n, SOCK_NONBLOCK | SOCK_CLOEXEC));
}
static int real_connect(int fd, const struct sockaddr *sa, socklen_t n) { return (int)rc(connect(fd, sa, n)); }
static int64_t real_recv(int fd, void *buf, size_t n) { return rc(recv(fd, buf, n, 0)); }
static int64_t real_send(int fd, const void *buf, size_t n) { return rc(send(fd, buf, n, MSG_NOSIGNAL)); }
static int real_getsockopt(int fd, int level, int name, void *value, socklen_t *n) {
    return (int)rc(getsockopt(fd, level, name, value, n));
}
static int real_setsockopt(int fd, int level, int name, const void *value, socklen_t n) {
    return (int)rc(setsockopt(fd, level, name, value, n));
}
static int real_getsockname(int fd, struct sockaddr *sa, socklen_t *n) { return (int)rc(getsockname(fd, sa, n)); }
static int real_getpeername(int fd, struct sockaddr *sa, socklen_t *n) { return (int)rc(getpeername(fd, sa, n)); }
static int real_shutdown(int fd, int how) { return (int)rc(shutdown(fd, how)); }
static int64_t real_recvmsg(int fd, struct msghdr *m) { return rc(recvmsg(fd, m, MSG_CMSG_CLOEXEC)); }
static int64_t real_sendmsg(int fd, const struct msghdr *m) { return rc(sendmsg(fd, m, MSG_NOSIGNAL)); }
static int real_recvmmsg(int fd, struct mmsghdr *m, unsigned n) {
    return (int)rc(recvmmsg(fd, m, n, MSG_CMSG_CLOEXEC, NULL));
}
static int real_sendmmsg(int fd, struct mmsghdr *m, unsigned n) { return (int)rc(sendmmsg(fd, m, n, MSG_NOSIGNAL)); }

static int64_t real_if_index(const char *name) {
    unsigned index = if_nametoindex(name);
    return index ? (int64_t)index : -ENODEV;
}

static int real_if_name(uint32_t index, char *name) { return if_indextoname(index, name) ? 0 : -errno; }

/* -- Any descriptor ------------------------------------------------------- */

static int64_t real_read(int fd, void *buf, size_t n) { return rc(read(fd, buf, n)); }

/* A broken pipe is an error here and no signal: SIGPIPE is held back, and what
 * this write has raised is taken. (Only sockets have a flag for that.) */
typedef struct quiet {
    sigset_t pipe_only, before;
    int failed;
} quiet;

static void be_quiet(quiet *q) {
    sigemptyset(&q->pipe_only);
    sigaddset(&q->pipe_only, SIGPIPE);
    q->failed = pthread_sigmask(SIG_BLOCK, &q->pipe_only, &q->before);
}

static int64_t quietly(quiet *q, int64_t r) {
    if (q->failed || sigismember(&q->before, SIGPIPE)) return r;
    if (r == -EPIPE) {
        struct timespec at_once = {0, 0};
        while (sigtimedwait(&q->pipe_only, NULL, &at_once) < 0 && errno == EINTR) {}
    }
    pthread_sigmask(SIG_SETMASK, &q->before, NULL);
    return r;
}

static int64_t real_write(int fd, const void *buf, size_t n) {
    quiet q;
    be_quiet(&q);
    return quietly(&q, rc(write(fd, buf, n)));
}

static int64_t real_writev(int fd, const struct iovec *v, int n) {
    quiet q;
    be_quiet(&q);
    return quietly(&q, rc(writev(fd, v, n)));
}

/* With room for a good deal, where that is allowed. */
static int real_pipe(int fds[2]) {
    int r = (int)rc(pipe2(fds, O_NONBLOCK | O_CLOEXEC));
    if (r == 0) fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
    return r;
}

static int64_t real_splice(int from, int to, size_t n) {
    quiet q;
    be_quiet(&q);
    return quietly(&q, rc(splice(from, NULL, to, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)));
}

static int64_t real_sendfile(int to, int file, int64_t *offset, size_t n) {
    quiet q;
    off_t at = offset ? (off_t)*offset : 0;
    be_quiet(&q);
    int64_t r = quietly(&q, rc(sendfile(to, file, offset ? &at : NULL, n)));
    if (offset) *offset = at;
    return r;
}

static int64_t real_pread(int fd, void *buf, size_t n, int64_t offset) { return rc(pread(fd, buf, n, (off_t)offset)); }

static int64_t real_read_cached(int fd, void *buf, size_t n, int64_t offset) {
    struct iovec part = {buf, n};
    return rc(preadv2(fd, &part, 1, offset, RWF_NOWAIT));
}

static int real_poll(int fd, int events) {
    struct pollfd p = {fd, (short)events, 0};
    int r = (int)rc(poll(&p, 1, 0));
    return r < 0 ? r : p.revents;
}

static int real_nonblock(int fd, int on) {
    int flags = (int)rc(fcntl(fd, F_GETFL));
    if (flags < 0) return flags;
    int was = (flags & O_NONBLOCK) != 0;
    if (was == (on != 0)) return was;
    int r = (int)rc(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
    return r < 0 ? r : was;
}

static int real_dup(int fd) { return (int)rc(fcntl(fd, F_DUPFD_CLOEXEC, 0)); }
static int real_close(int fd) { return (int)rc(close(fd)); }
static int real_unlink(const char *path) { return (int)rc(unlink(path)); }

#define TDL_SYS_TABLE                                                          \
    {                                                                          \
        .alloc = malloc, .resize = realloc, .release = free, .map = real_map,  \
        .unmap = real_unmap, .guard = real_guard, .discard = real_discard,     \
        .now = real_now, .futex_wait = real_futex_wait,                        \
        .futex_wake = real_futex_wake, .thread = real_thread,                  \
        .join = real_join, .yield = real_yield, .nap = real_nap,               \
        .stack = real_stack, .entropy = real_entropy,                          \
        .membarrier = real_membarrier, .epoll_create = real_epoll_create,      \
        .epoll_ctl = real_epoll_ctl, .epoll_wait = real_epoll_wait,            \
        .eventfd = real_eventfd, .eventfd_write = real_eventfd_write,          \
        .uring_setup = real_uring_setup, .uring_enter = real_uring_enter,      \
        .uring_register = real_uring_register, .uring_map = real_uring_map,    \
        .pollable = real_pollable, .wait_readable = real_wait_readable,        \
        .socket = real_socket, .bind = real_bind, .listen = real_listen,       \
        .accept = real_accept, .connect = real_connect, .recv = real_recv,     \
        .send = real_send, .getsockopt = real_getsockopt,                      \
        .setsockopt = real_setsockopt, .getsockname = real_getsockname,        \
        .getpeername = real_getpeername, .shutdown = real_shutdown,            \
        .recvmsg = real_recvmsg, .sendmsg = real_sendmsg,                      \
        .recvmmsg = real_recvmmsg, .sendmmsg = real_sendmmsg,                  \
        .if_index = real_if_index, .if_name = real_if_name, .read = real_read, \
        .write = real_write, .writev = real_writev, .pipe = real_pipe,         \
        .splice = real_splice, .sendfile = real_sendfile, .pread = real_pread, .poll = real_poll,   \
        .read_cached = real_read_cached, .nonblock = real_nonblock,            \
        .dup = real_dup, .close = real_close, .unlink = real_unlink,           \
        .short_drains = 1, .enter = real_point, .call = real_point,            \
        .look = real_look, .bubble = real_bubble, .over = real_over            \
    }

const struct tdl_sys tdl_sys_real = TDL_SYS_TABLE;
struct tdl_sys tdl_sys = TDL_SYS_TABLE;

/* -- Helpers -------------------------------------------------------------- */

void *tdl_alloc_zeroed(size_t size) {
    void *p = tdl_sys.alloc(size);
    if (p) memset(p, 0, size);
    return p;
}

void tdl_fatal(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("treadle: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}
