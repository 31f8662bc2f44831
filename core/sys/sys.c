/* SPDX-License-Identifier: MIT
 * The real system behind the seam: what every system has. sys_linux.c and sys_posix.c
 * have the rest. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "sys/atomic.h"
#include "sys/base.h"
#include "sys/os.h"

static int64_t rc(int64_t r) { return r < 0 ? -errno : r; }

/* -- Memory --------------------------------------------------------------- */

static int real_unmap(void *p, size_t size) { return (int)rc(munmap(p, size)); }

/* -- Time and threads ----------------------------------------------------- */

static int64_t real_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Signals are the program's: a thread of ours takes none, but for its own faults. */
/* What is deep runs there, see tdl_system_stack; musl's threads have 128 KiB, those of macOS 512. */
enum { LEAST_STACK = 8 << 20, SMALL_STACK = 1 << 20 };

static int with_stack(pthread_attr_t *a) {
    size_t size;
    int e = pthread_attr_getstacksize(a, &size);
    return e == 0 && size < SMALL_STACK ? pthread_attr_setstacksize(a, LEAST_STACK) : e;
}

static int real_thread(void *(*fn)(void *), void *arg, void *thread) {
    pthread_attr_t a;
    int e = pthread_attr_init(&a);
    if (e) return -e;
    sigset_t all, old;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGTRAP);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if ((e = with_stack(&a)) == 0) e = pthread_create((pthread_t *)thread, &a, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&a);
    return -e;
}

static int real_join(const void *thread) { return -pthread_join(*(const pthread_t *)thread, NULL); }

static void real_yield(void) { sched_yield(); }

static void real_nap(int64_t ns) {
    struct timespec ts = {ns / 1000000000, ns % 1000000000};
    nanosleep(&ts, NULL);
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

/* -- Sockets -------------------------------------------------------------- */

static int real_bind(int fd, const struct sockaddr *sa, socklen_t n) { return (int)rc(bind(fd, sa, n)); }
static int real_listen(int fd, int backlog) { return (int)rc(listen(fd, backlog)); }
static int real_connect(int fd, const struct sockaddr *sa, socklen_t n) { return (int)rc(connect(fd, sa, n)); }
static int64_t real_recv(int fd, void *buf, size_t n) { return rc(recv(fd, buf, n, 0)); }
static int real_getsockopt(int fd, int level, int name, void *value, socklen_t *n) {
    return (int)rc(getsockopt(fd, level, name, value, n));
}
static int real_setsockopt(int fd, int level, int name, const void *value, socklen_t n) {
    return (int)rc(setsockopt(fd, level, name, value, n));
}
static int real_getsockname(int fd, struct sockaddr *sa, socklen_t *n) { return (int)rc(getsockname(fd, sa, n)); }
static int real_getpeername(int fd, struct sockaddr *sa, socklen_t *n) { return (int)rc(getpeername(fd, sa, n)); }
static int real_shutdown(int fd, int how) { return (int)rc(shutdown(fd, how)); }
static int64_t real_if_index(const char *name) {
    unsigned index = if_nametoindex(name);
    return index ? (int64_t)index : -ENODEV;
}

static int real_if_name(uint32_t index, char *name) { return if_indextoname(index, name) ? 0 : -errno; }

/* -- Any descriptor ------------------------------------------------------- */

static int64_t real_read(int fd, void *buf, size_t n) { return rc(read(fd, buf, n)); }

void tdl_os_be_quiet(tdl_os_quiet *q) {
    sigemptyset(&q->pipe_only);
    sigaddset(&q->pipe_only, SIGPIPE);
    q->failed = pthread_sigmask(SIG_BLOCK, &q->pipe_only, &q->before);
}

/* Where the program itself holds SIGPIPE back, it also takes what is pending. */
int64_t tdl_os_quietly(tdl_os_quiet *q, int64_t r) {
    if (q->failed || sigismember(&q->before, SIGPIPE)) return r;
    if (r == -EPIPE) tdl_os_take_pending(&q->pipe_only);
    pthread_sigmask(SIG_SETMASK, &q->before, NULL);
    return r;
}

static int64_t real_write(int fd, const void *buf, size_t n) {
    tdl_os_quiet q;
    tdl_os_be_quiet(&q);
    return tdl_os_quietly(&q, rc(write(fd, buf, n)));
}

static int64_t real_writev(int fd, const struct iovec *v, int n) {
    tdl_os_quiet q;
    tdl_os_be_quiet(&q);
    return tdl_os_quietly(&q, rc(writev(fd, v, n)));
}

static int64_t real_pread(int fd, void *buf, size_t n, int64_t offset) { return rc(pread(fd, buf, n, (off_t)offset)); }

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

#ifdef TDL_LINUX
#define TDL_SYS_OF_LINUX                                                       \
    .epoll_create = tdl_os_epoll_create, .epoll_ctl = tdl_os_epoll_ctl,        \
    .epoll_wait = tdl_os_epoll_wait, .eventfd = tdl_os_eventfd,                \
    .eventfd_write = tdl_os_eventfd_write, .uring_setup = tdl_os_uring_setup,  \
    .uring_enter = tdl_os_uring_enter,                                         \
    .uring_register = tdl_os_uring_register, .uring_map = tdl_os_uring_map,
#else
#define TDL_SYS_OF_LINUX
#endif

#define TDL_SYS_TABLE                                                          \
    {                                                                          \
        .alloc = malloc, .resize = realloc, .release = free, .map = tdl_os_map,  \
        .unmap = real_unmap, .guard = tdl_os_guard, .discard = tdl_os_discard,     \
        .now = real_now, .futex_wait = tdl_os_futex_wait,                        \
        .futex_wake = tdl_os_futex_wake, .thread = real_thread,                  \
        .join = real_join, .yield = real_yield, .nap = real_nap,               \
        .stack = tdl_os_stack, .entropy = real_entropy,                          \
        .membarrier = tdl_os_membarrier, TDL_SYS_OF_LINUX                      \
        .pollable = tdl_os_pollable, .wait_readable = tdl_os_wait_readable,        \
        .socket = tdl_os_socket, .bind = real_bind, .listen = real_listen,       \
        .accept = tdl_os_accept, .connect = real_connect, .recv = real_recv,     \
        .send = tdl_os_send, .getsockopt = real_getsockopt,                      \
        .setsockopt = real_setsockopt, .getsockname = real_getsockname,        \
        .getpeername = real_getpeername, .shutdown = real_shutdown,            \
        .recvmsg = tdl_os_recvmsg, .sendmsg = tdl_os_sendmsg,                      \
        .recvmmsg = tdl_os_recvmmsg, .sendmmsg = tdl_os_sendmmsg,                  \
        .if_index = real_if_index, .if_name = real_if_name, .read = real_read, \
        .write = real_write, .writev = real_writev, .pipe = tdl_os_pipe,         \
        .splice = tdl_os_splice, .sendfile = tdl_os_sendfile, .pread = real_pread, .poll = real_poll,   \
        .read_cached = tdl_os_read_cached, .nonblock = real_nonblock,            \
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
