/* SPDX-License-Identifier: MIT
 * The calls of the seam, and the errors of each as the manual has them. */
#include "sweep.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <sys/wait.h>

#include "sys/base.h"
#include "sys/service.h"

enum {
    ALLOC, RESIZE, MAP, GUARD, DISCARD, THREAD, FUTEX_WAIT,
    EPOLL_CREATE, EPOLL_ADD, EPOLL_MOD, EPOLL_DEL, EPOLL_WAIT, EVENTFD, EVENTFD_WRITE,
    SOCKET, BIND, LISTEN, ACCEPT, CONNECT, RECV, SEND, GETSOCKOPT, SETSOCKOPT, GETSOCKNAME, GETPEERNAME, SHUTDOWN,
    RECVMSG, SENDMSG, RECVMMSG, SENDMMSG,
    READ, WRITE, WRITEV, SPLICE, SENDFILE, PREAD, READ_CACHED, PIPE, POLL, NONBLOCK, DUP, CLOSE, UNLINK,
    URING_SETUP, URING_ENTER, URING_REGISTER, URING_MAP, POLLABLE, WAIT_READABLE,
    SERVICE_FIRST,
    CALLS = SERVICE_FIRST + SERVICES
};

#define SERVICE(which) [SERVICE_FIRST + SERVICE_##which]

const call sweep_calls[] = {
    [ALLOC] = { "alloc", { ENOMEM } },
    [RESIZE] = { "resize", { ENOMEM } },
    [MAP] = { "map", { ENOMEM } },
    [GUARD] = { "guard", { ENOMEM, EINVAL } },
    [DISCARD] = { "discard", { ENOMEM, EINVAL, EAGAIN } },
    [THREAD] = { "thread", { EAGAIN, ENOMEM, EPERM } },
    [FUTEX_WAIT] = { "futex_wait", { EAGAIN, EINTR } },
    [EPOLL_CREATE] = { "epoll_create", { EMFILE, ENFILE, ENOMEM } },
    [EPOLL_ADD] = { "epoll_ctl add", { ENOMEM, ENOSPC, EPERM, EEXIST, EBADF, ELOOP } },
    [EPOLL_MOD] = { "epoll_ctl mod", { ENOMEM, ENOENT, EBADF } },
    [EPOLL_DEL] = { "epoll_ctl del", { ENOENT, EBADF, ENOMEM } },
    [EPOLL_WAIT] = { "epoll_wait", { EINTR } },
    [EVENTFD] = { "eventfd", { EMFILE, ENFILE, ENODEV, ENOMEM } },
    [EVENTFD_WRITE] = { "eventfd write", { EAGAIN } },
    [SOCKET] = { "socket", { EACCES, EAFNOSUPPORT, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTONOSUPPORT } },
    [BIND] = { "bind", { EACCES, EADDRINUSE, EADDRNOTAVAIL, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOTDIR, EROFS } },
    [LISTEN] = { "listen", { EADDRINUSE, EOPNOTSUPP } },
    [ACCEPT] = { "accept", { EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM, EPROTO, ENETDOWN,
                             ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, ENETUNREACH } },
    [CONNECT] = { "connect", { EACCES, EPERM, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, ECONNREFUSED, ECONNRESET, EINTR,
                               EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, ENOBUFS } },
    [RECV] = { "recv", { EAGAIN, ECONNREFUSED, ECONNRESET, EINTR, ENOMEM, ENOTCONN, ETIMEDOUT, EHOSTUNREACH } },
    [SEND] = { "send", { EACCES, EAGAIN, ECONNRESET, EINTR, ENOBUFS, ENOMEM, EPIPE, EHOSTUNREACH, ENETDOWN, ENETUNREACH,
                         ETIMEDOUT } },
    [GETSOCKOPT] = { "getsockopt", { EINVAL, ENOPROTOOPT, ENOMEM } },
    [SETSOCKOPT] = { "setsockopt", { EINVAL, ENOPROTOOPT, ENOMEM, EPERM } },
    [GETSOCKNAME] = { "getsockname", { ENOBUFS, ENOTSOCK } },
    [GETPEERNAME] = { "getpeername", { ENOBUFS, ENOTCONN } },
    [SHUTDOWN] = { "shutdown", { ENOTCONN } },
    [RECVMSG] = { "recvmsg", { EAGAIN, ECONNREFUSED, ECONNRESET, EINTR, ENOMEM, ENOTCONN } },
    [SENDMSG] = { "sendmsg", { EACCES, EAGAIN, ECONNREFUSED, ECONNRESET, EINTR, EMSGSIZE, ENOBUFS, ENOMEM, EPIPE,
                               ETOOMANYREFS, EHOSTUNREACH, ENETUNREACH, EPERM } },
    [RECVMMSG] = { "recvmmsg", { EAGAIN, ECONNREFUSED, EINTR, ENOMEM } },
    [SENDMMSG] = { "sendmmsg", { EACCES, EAGAIN, ECONNREFUSED, EINTR, EMSGSIZE, ENOBUFS, ENOMEM, ENETUNREACH } },
    [READ] = { "read", { EAGAIN, EBADF, EINTR, EIO } },
    [WRITE] = { "write", { EAGAIN, EBADF, EDQUOT, EINTR, EIO, ENOSPC, EPIPE } },
    [WRITEV] = { "writev", { EAGAIN, ECONNRESET, EINTR, EIO, ENOBUFS, ENOMEM, EPIPE } },
    [SPLICE] = { "splice", { EAGAIN, EINTR, EINVAL, ENOMEM, EPIPE, ECONNRESET } },
    [SENDFILE] = { "sendfile", { EAGAIN, EINTR, EINVAL, EIO, ENOMEM, EPIPE, ECONNRESET } },
    [PREAD] = { "pread", { EINTR, EIO, EISDIR, ESPIPE } },
    [READ_CACHED] = { "preadv2", { EAGAIN, EINTR, EIO, EOPNOTSUPP, ENOSYS } },
    [PIPE] = { "pipe", { EMFILE, ENFILE } },
    [POLL] = { "poll", { EINTR, ENOMEM } },
    [NONBLOCK] = { "fcntl", { EBADF, EPERM, EINVAL } },
    [DUP] = { "dup", { EBADF, EMFILE } },
    [CLOSE] = { "close", { EINTR, EIO, ENOSPC } },
    [UNLINK] = { "unlink", { EACCES, ENOENT, EROFS, EBUSY } },
    [URING_SETUP] = { "uring setup", { EFAULT, EINVAL, EMFILE, ENFILE, ENOMEM, EPERM, ENOSYS } },
    [URING_ENTER] = { "uring enter", { EAGAIN, EBUSY, EINTR, ETIME } },
    [URING_REGISTER] = { "uring register", { EINVAL, ENOMEM, EOPNOTSUPP } },
    [URING_MAP] = { "uring map", { ENOMEM } },
    [POLLABLE] = { "pollable", { EBADF, EPERM, EMFILE, ENOMEM } },
    [WAIT_READABLE] = { "ppoll", { EINTR, ENOMEM } },
    /* What libuv, the C library and the system do for services. */
    SERVICE(OPEN) = { "file open", { EACCES, EMFILE, ENFILE, ENOMEM, ENOSPC, EROFS, EISDIR } },
    SERVICE(READ) = { "file read", { EINTR, EIO, EISDIR, ENOMEM } },
    SERVICE(WRITE) = { "file write", { EIO, ENOSPC, EDQUOT, EFBIG } },
    SERVICE(SYNC) = { "file sync", { EIO, ENOSPC, EDQUOT } },
    SERVICE(STAT) = { "file stat", { EACCES, ENOENT, ENOMEM, EIO } },
    SERVICE(SEND) = { "file send", { EIO, ENOSPC, ENOMEM } },
    SERVICE(CHANGE) = { "file change", { EACCES, EBUSY, EEXIST, ENOENT, ENOSPC, EROFS, EDQUOT } },
    SERVICE(LOOK) = { "file look", { EACCES, ENOENT, ELOOP } },
    SERVICE(SCAN) = { "directory", { EACCES, EMFILE, ENFILE, ENOMEM, EIO } },
    SERVICE(COPY) = { "file copy", { EACCES, EIO, ENOSPC } },
    SERVICE(FORTH) = { "getaddrinfo", { EAGAIN, ENOENT, ENOMEM, EMFILE, EIO } },
    SERVICE(BACK) = { "getnameinfo", { EAGAIN, ENOENT, ENOMEM, EIO } },
    SERVICE(PIPE) = { "pipe to child", { EMFILE, ENFILE } },
    SERVICE(DUP) = { "dup for child", { EMFILE, EBADF } },
    SERVICE(SPAWN) = { "posix_spawn", { EAGAIN, ENOMEM, ENOENT, EACCES, E2BIG } },
    SERVICE(PIDFD) = { "pidfd_open", { EMFILE, ENFILE, ENOMEM, ENODEV } },
    SERVICE(REAP) = { "waitid", { ECHILD } },
    SERVICE(KILL) = { "kill", { EPERM, ESRCH } },
    SERVICE(LOOP) = { "uv_loop", { EMFILE, ENFILE, ENOMEM } },
    SERVICE(HANDLE) = { "uv_poll_init", { ENOMEM, ENOSPC, EPERM, EBADF } },
    SERVICE(CHANGES) = { "uv_fs_event", { EMFILE, ENOSPC, ENOMEM, EACCES, ENOENT } },
    SERVICE(SIGNAL) = { "sigaction", { EINVAL } },
    SERVICE(TTY) = { "tcsetattr", { EINTR, EIO, ENOTTY } },
};
const int sweep_ncalls = CALLS;

/* -- Failing once ---------------------------------------------------------------------- */

static atomic_int     counts[CALLS];
static atomic_int     left; /* until it fails */
static atomic_int     armed, code; /* written while no scenario runs; the loop's thread is there */
static atomic_bool    failed;
static _Atomic int64_t live;
static _Thread_local bool lied;

/* The thread's, whichever goroutine it runs. */
TDL_NO_TSAN static void lie(bool yes) { lied = yes; }

/* The error to return now, negated, or 0. */
static int strike(int which) {
    int error = atomic_load(&code);
    atomic_fetch_add(&counts[which], 1);
    if (!error || which != atomic_load(&armed) || atomic_fetch_sub(&left, 1) != 1) return 0;
    atomic_store(&failed, true);
    lie(error == EAGAIN);
    return -error;
}

TDL_NO_TSAN static int64_t owed(void) {
    int64_t ns = lied ? 100000 : 0;
    lied = false;
    return ns;
}

/* Where a stream has failed the peer hears of it. */
static int64_t broken(int fd, int r) {
    if (r != -EAGAIN && r != -EINTR) tdl_sys_real.shutdown(fd, SHUT_RDWR);
    return r;
}

/* -- The table ---------------------------------------------------------------------------- */

static void *f_alloc(size_t n) {
    void *p = strike(ALLOC) ? NULL : tdl_sys_real.alloc(n);
    if (p) atomic_fetch_add(&live, 1);
    return p;
}
static void *f_resize(void *old, size_t n) {
    void *p = strike(RESIZE) ? NULL : tdl_sys_real.resize(old, n);
    if (p && !old) atomic_fetch_add(&live, 1);
    return p;
}
static void f_release(void *p) {
    if (p) atomic_fetch_sub(&live, 1);
    tdl_sys_real.release(p);
}
static void *f_map(size_t n) {
    void *p = strike(MAP) ? NULL : tdl_sys_real.map(n);
    if (p) atomic_fetch_add(&live, 1);
    return p;
}
static int f_unmap(void *p, size_t n) {
    atomic_fetch_sub(&live, 1);
    return tdl_sys_real.unmap(p, n);
}

#define FAILS(which)         \
    int r_ = strike(which);  \
    if (r_ < 0) return r_

static int f_guard(void *p, size_t size, size_t stride, int n) {
    FAILS(GUARD);
    return tdl_sys_real.guard(p, size, stride, n);
}
static int f_discard(void *p, size_t n) {
    FAILS(DISCARD);
    return tdl_sys_real.discard(p, n);
}
static int f_thread(void *(*fn)(void *), void *arg, void *thread) {
    FAILS(THREAD);
    return tdl_sys_real.thread(fn, arg, thread);
}
static int f_futex_wait(void *word, uint32_t expected, int64_t deadline) {
    FAILS(FUTEX_WAIT);
    return tdl_sys_real.futex_wait(word, expected, deadline);
}
static int f_epoll_create(void) {
    FAILS(EPOLL_CREATE);
    return tdl_sys_real.epoll_create();
}
static int f_epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev) {
    if (op == EPOLL_CTL_ADD) {
        FAILS(EPOLL_ADD);
    } else if (op == EPOLL_CTL_MOD) {
        FAILS(EPOLL_MOD);
    } else if (op == EPOLL_CTL_DEL) {
        FAILS(EPOLL_DEL);
    }
    return tdl_sys_real.epoll_ctl(epfd, op, fd, ev);
}
static int f_epoll_wait(int epfd, struct epoll_event *evs, int max, int64_t ns) {
    FAILS(EPOLL_WAIT);
    return tdl_sys_real.epoll_wait(epfd, evs, max, ns);
}
static int f_eventfd(void) {
    FAILS(EVENTFD);
    return tdl_sys_real.eventfd();
}
/* EAGAIN: it counts so far already that it is readable. */
static int f_eventfd_write(int fd) {
    int r = tdl_sys_real.eventfd_write(fd);
    FAILS(EVENTFD_WRITE);
    return r;
}
static int f_socket(int domain, int type, int protocol) {
    FAILS(SOCKET);
    return tdl_sys_real.socket(domain, type, protocol);
}
static int f_bind(int fd, const struct sockaddr *sa, socklen_t n) {
    FAILS(BIND);
    return tdl_sys_real.bind(fd, sa, n);
}
static int f_listen(int fd, int backlog) {
    FAILS(LISTEN);
    return tdl_sys_real.listen(fd, backlog);
}
static int f_accept(int fd, struct sockaddr *sa, socklen_t *n) {
    FAILS(ACCEPT);
    return tdl_sys_real.accept(fd, sa, n);
}
/* Interrupted, it goes on. */
static int f_connect(int fd, const struct sockaddr *sa, socklen_t n) {
    int r = strike(CONNECT);
    if (r == 0) return tdl_sys_real.connect(fd, sa, n);
    if (r == -EINTR) tdl_sys_real.connect(fd, sa, n);
    return r;
}
static int64_t f_recv(int fd, void *buf, size_t n) {
    int r = strike(RECV);
    return r < 0 ? broken(fd, r) : tdl_sys_real.recv(fd, buf, n);
}
static int64_t f_send(int fd, const void *buf, size_t n) {
    int r = strike(SEND);
    return r < 0 ? broken(fd, r) : tdl_sys_real.send(fd, buf, n);
}
static int f_getsockopt(int fd, int level, int name, void *value, socklen_t *n) {
    FAILS(GETSOCKOPT);
    return tdl_sys_real.getsockopt(fd, level, name, value, n);
}
static int f_setsockopt(int fd, int level, int name, const void *value, socklen_t n) {
    FAILS(SETSOCKOPT);
    return tdl_sys_real.setsockopt(fd, level, name, value, n);
}
static int f_getsockname(int fd, struct sockaddr *sa, socklen_t *n) {
    FAILS(GETSOCKNAME);
    return tdl_sys_real.getsockname(fd, sa, n);
}
static int f_getpeername(int fd, struct sockaddr *sa, socklen_t *n) {
    FAILS(GETPEERNAME);
    return tdl_sys_real.getpeername(fd, sa, n);
}
static int f_shutdown(int fd, int how) {
    FAILS(SHUTDOWN);
    return tdl_sys_real.shutdown(fd, how);
}
static int64_t f_recvmsg(int fd, struct msghdr *m) {
    int r = strike(RECVMSG);
    return r < 0 ? broken(fd, r) : tdl_sys_real.recvmsg(fd, m);
}
static int64_t f_sendmsg(int fd, const struct msghdr *m) {
    int r = strike(SENDMSG);
    return r < 0 ? broken(fd, r) : tdl_sys_real.sendmsg(fd, m);
}
static int f_recvmmsg(int fd, struct tdl_mmsg *m, unsigned n) {
    FAILS(RECVMMSG);
    return tdl_sys_real.recvmmsg(fd, m, n);
}
static int f_sendmmsg(int fd, struct tdl_mmsg *m, unsigned n) {
    FAILS(SENDMMSG);
    return tdl_sys_real.sendmmsg(fd, m, n);
}
static int64_t f_read(int fd, void *buf, size_t n) {
    FAILS(READ);
    return tdl_sys_real.read(fd, buf, n);
}
static int64_t f_write(int fd, const void *buf, size_t n) {
    FAILS(WRITE);
    return tdl_sys_real.write(fd, buf, n);
}
static int64_t f_writev(int fd, const struct iovec *v, int n) {
    int r = strike(WRITEV);
    return r < 0 ? broken(fd, r) : tdl_sys_real.writev(fd, v, n);
}
static int64_t f_splice(int from, int to, size_t n) {
    FAILS(SPLICE);
    return tdl_sys_real.splice(from, to, n);
}
static int64_t f_sendfile(int to, int file, int64_t *offset, size_t n) {
    FAILS(SENDFILE);
    return tdl_sys_real.sendfile(to, file, offset, n);
}
static int64_t f_pread(int fd, void *buf, size_t n, int64_t offset) {
    FAILS(PREAD);
    return tdl_sys_real.pread(fd, buf, n, offset);
}
static int64_t f_read_cached(int fd, void *buf, size_t n, int64_t offset) {
    FAILS(READ_CACHED);
    return tdl_sys_real.read_cached(fd, buf, n, offset);
}
static int f_pipe(int fds[2]) {
    FAILS(PIPE);
    return tdl_sys_real.pipe(fds);
}
static int f_uring_setup(unsigned entries, struct io_uring_params *p) {
    FAILS(URING_SETUP);
    return tdl_sys_real.uring_setup(entries, p);
}
static int f_uring_enter(int fd, unsigned to_submit, unsigned min, unsigned flags, const void *arg, size_t size) {
    FAILS(URING_ENTER);
    return tdl_sys_real.uring_enter(fd, to_submit, min, flags, arg, size);
}
static int f_uring_register(int fd, unsigned what, void *arg, unsigned n) {
    FAILS(URING_REGISTER);
    return tdl_sys_real.uring_register(fd, what, arg, n);
}
static void *f_uring_map(int fd, size_t size, uint64_t offset) {
    return strike(URING_MAP) ? NULL : tdl_sys_real.uring_map(fd, size, offset);
}
static int f_pollable(int fd) {
    FAILS(POLLABLE);
    return tdl_sys_real.pollable(fd);
}
static int f_wait_readable(int fd, int64_t ns) {
    FAILS(WAIT_READABLE);
    return tdl_sys_real.wait_readable(fd, ns);
}
static int f_poll(int fd, int events) {
    FAILS(POLL);
    return tdl_sys_real.poll(fd, events);
}
static int f_nonblock(int fd, int on) {
    FAILS(NONBLOCK);
    return tdl_sys_real.nonblock(fd, on);
}
static int f_dup(int fd) {
    FAILS(DUP);
    return tdl_sys_real.dup(fd);
}
/* The descriptor is gone, whatever close says. */
static int f_close(int fd) {
    int r = tdl_sys_real.close(fd);
    FAILS(CLOSE);
    return r;
}
static int f_unlink(const char *path) {
    int r = tdl_sys_real.unlink(path);
    FAILS(UNLINK);
    return r;
}

/* A child that somebody else has waited for is gone. */
static int f_service(int which, size_t *n) {
    siginfo_t info;
    (void)n;
    int r = strike(SERVICE_FIRST + which);
    if (r < 0 && which == SERVICE_REAP) waitid(P_ALL, 0, &info, WEXITED);
    return r;
}

void sweep_begin(void) {
    struct tdl_sys t = tdl_sys_real;
    t.alloc = f_alloc, t.resize = f_resize, t.release = f_release, t.map = f_map, t.unmap = f_unmap;
    t.guard = f_guard, t.discard = f_discard, t.thread = f_thread, t.futex_wait = f_futex_wait;
    t.epoll_create = f_epoll_create, t.epoll_ctl = f_epoll_ctl, t.epoll_wait = f_epoll_wait;
    t.eventfd = f_eventfd, t.eventfd_write = f_eventfd_write;
    t.socket = f_socket, t.bind = f_bind, t.listen = f_listen, t.accept = f_accept, t.connect = f_connect;
    t.recv = f_recv, t.send = f_send, t.getsockopt = f_getsockopt, t.setsockopt = f_setsockopt;
    t.getsockname = f_getsockname, t.getpeername = f_getpeername, t.shutdown = f_shutdown;
    t.recvmsg = f_recvmsg, t.sendmsg = f_sendmsg, t.recvmmsg = f_recvmmsg, t.sendmmsg = f_sendmmsg;
    t.read = f_read, t.write = f_write, t.poll = f_poll, t.nonblock = f_nonblock, t.dup = f_dup, t.close = f_close;
    t.writev = f_writev, t.splice = f_splice, t.sendfile = f_sendfile, t.pipe = f_pipe;
    t.uring_setup = f_uring_setup, t.uring_enter = f_uring_enter, t.uring_register = f_uring_register;
    t.uring_map = f_uring_map, t.pollable = f_pollable, t.wait_readable = f_wait_readable;
    t.pread = f_pread, t.read_cached = f_read_cached, t.service = f_service;
    t.unlink = f_unlink, t.owed = owed;
    tdl_sys = t;
}

void sweep_arm(int which, int error, int at) {
    for (int i = 0; i < CALLS; i++) atomic_store(&counts[i], 0);
    atomic_store(&failed, false);
    atomic_store(&armed, which);
    atomic_store(&left, at);
    atomic_store(&code, error);
}

bool sweep_disarm(void) {
    atomic_store(&code, 0);
    return atomic_load(&failed);
}

int sweep_call_named(const char *name) {
    for (int i = 0; i < CALLS; i++)
        if (strcmp(sweep_calls[i].name, name) == 0) return i;
    return -1;
}

int sweep_counted(int which) { return atomic_load(&counts[which]); }

int64_t sweep_live(void) { return atomic_load(&live); }
