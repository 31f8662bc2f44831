/* SPDX-License-Identifier: MIT
 *
 * The seam: every system call, allocation and look at the clock that the core
 * makes goes through the one table tdl_sys, in release builds too. Another
 * table injects faults or simulates. Entries return >= 0 or a negated errno
 * (memory: NULL), so nobody reads errno.
 *
 * The table is written before the runtime starts or while nothing runs.
 */
#ifndef TDL_SYS_SYS_H
#define TDL_SYS_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "sys/base.h"
#include "treadle.h"

struct epoll_event;
struct tdl_backend;
struct iovec;
struct io_uring_params;

/* What a poller hands out: netpoll/backend.h says what is in it. */
struct tdl_poll_event {
    uint64_t data;
    uint32_t what;
};

/* A datagram of a batch; n: how many bytes came, or went. */
struct tdl_mmsg {
    struct msghdr hdr;
    unsigned n;
};

struct tdl_sys {
    /* memory */
    void *(*alloc)(size_t size); /* not zeroed */
    void *(*resize)(void *old, size_t size);
    void  (*release)(void *p);
    void *(*map)(size_t size); /* address space only, aligned to a page; NULL */
    int   (*unmap)(void *p, size_t size);
    /* makes an access to `size` bytes at first, and at each of n - 1 strides
     * beyond, fault: how many of the n, at least one */
    int   (*guard)(void *first, size_t size, size_t stride, int n);
    int   (*discard)(void *p, size_t size);  /* gives its pages back, it reads as zero */

    /* time and threads */
    int64_t (*now)(void);
    int (*futex_wait)(void *word, uint32_t expected, int64_t deadline); /* 0, -EAGAIN, -EINTR, -ETIMEDOUT */
    int (*futex_wake)(void *word, int count);
    int (*thread)(void *(*fn)(void *), void *arg, void *pthread); /* joinable; 0 or -errno */
    int (*join)(const void *pthread); /* waits for its end */
    void (*yield)(void);              /* lets another thread run */
    void (*nap)(int64_t ns);
    void (*stack)(void **low, size_t *size); /* of the calling thread */
    uint32_t (*entropy)(void);               /* where a thread's random numbers begin */
    int (*membarrier)(void); /* a full barrier in every running thread of the process; 0 or -errno */

    /* polling */
    int (*epoll_create)(void);
    int (*epoll_ctl)(int epfd, int op, int fd, struct epoll_event *ev);
    int (*epoll_wait)(int epfd, struct epoll_event *evs, int max, int64_t timeout_ns); /* < 0: for ever */
    int (*eventfd)(void);
    int (*eventfd_write)(int fd);
    int (*uring_setup)(unsigned entries, struct io_uring_params *p);
    int (*uring_enter)(int fd, unsigned to_submit, unsigned min, unsigned flags, const void *arg, size_t size);
    int (*uring_register)(int fd, unsigned what, void *arg, unsigned n);
    void *(*uring_map)(int fd, size_t size, uint64_t offset); /* not in a child of fork; NULL */
    int (*pollable)(int fd);                      /* 0; -EPERM as epoll says it of a regular file; -EBADF */
    int (*wait_readable)(int fd, int64_t timeout_ns); /* < 0: for ever. 1; 0: in vain */

    /* What a poller was told, before it is handed out; both NULL: as it is. limit: how
     * long a wait for it may last at most. told: n events of a wait that might have lasted
     * (waited), with room for max, become as many as are returned; -EINTR: none has come,
     * nor the time. events NULL: the poller is closed. */
    int64_t (*limit)(const void *poller, int64_t timeout_ns);
    int (*told)(const void *poller, struct tdl_poll_event *events, int n, int max, int waited);

    /* sockets */
    int (*socket)(int domain, int type, int protocol);
    int (*bind)(int fd, const struct sockaddr *sa, socklen_t n);
    int (*listen)(int fd, int backlog);
    int (*accept)(int fd, struct sockaddr *sa, socklen_t *n);
    int (*connect)(int fd, const struct sockaddr *sa, socklen_t n);
    int64_t (*recv)(int fd, void *buf, size_t n);
    int64_t (*send)(int fd, const void *buf, size_t n);
    int (*getsockopt)(int fd, int level, int name, void *value, socklen_t *n);
    int (*setsockopt)(int fd, int level, int name, const void *value, socklen_t n);
    int (*getsockname)(int fd, struct sockaddr *sa, socklen_t *n);
    int (*getpeername)(int fd, struct sockaddr *sa, socklen_t *n);
    int (*shutdown)(int fd, int how);
    int64_t (*recvmsg)(int fd, struct msghdr *m); /* descriptors that come are close-on-exec */
    int64_t (*sendmsg)(int fd, const struct msghdr *m);
    int (*recvmmsg)(int fd, struct tdl_mmsg *m, unsigned n);
    int (*sendmmsg)(int fd, struct tdl_mmsg *m, unsigned n);
    int64_t (*if_index)(const char *name);      /* of a network interface; -ENODEV */
    int (*if_name)(uint32_t index, char *name); /* IF_NAMESIZE bytes; 0 or -ENXIO */

    /* any descriptor */
    int64_t (*read)(int fd, void *buf, size_t n);
    int64_t (*write)(int fd, const void *buf, size_t n); /* without SIGPIPE */
    int64_t (*writev)(int fd, const struct iovec *v, int n); /* without SIGPIPE */
    int (*pipe)(int fds[2]); /* non-blocking, close-on-exec */
    /* from one descriptor to another, one of which is a pipe; neither waits */
    int64_t (*splice)(int from, int to, size_t n);
    int64_t (*sendfile)(int to, int file, int64_t *offset, size_t n); /* NULL: the file's. Without SIGPIPE */
    int64_t (*pread)(int fd, void *buf, size_t n, int64_t offset);
    int64_t (*read_cached)(int fd, void *buf, size_t n, int64_t offset); /* -1: the position; -EAGAIN: not without waiting */
    int (*poll)(int fd, int events); /* what is so now, of POLLIN … */
    int (*nonblock)(int fd, int on); /* sets the mode; what it was before */
    int (*dup)(int fd);              /* close-on-exec */
    int (*close)(int fd);
    int (*unlink)(const char *path);
    /* A call that is not in this table is about to be made: see sys/service.h. NULL: all are. */
    int (*service)(int which, size_t *n);
    /* A short recv or send of a stream says that the kernel has nothing more, or
     * no more room, and that an edge will tell when it has (epoll(7)). A table
     * whose calls are short for another reason sets 0. */
    int short_drains;
    /* After an attempt that was told EAGAIN: in how many ns another is worth it
     * though no event may come; 0: an event will. NULL: always so. */
    int64_t (*owed)(void);
    int simulated; /* one thread, a clock of its own: nothing may run beside it */
    /* Called while that is set. Others may run before these three return: */
    void (*enter)(void); /* a blocking call begins */
    void (*call)(void);  /* any other call begins, perhaps one of the core's, under a lock */
    struct tdl_g *(*look)(struct tdl_g *g); /* an M is about to run g: what it runs instead; NULL: it looks again */
    /* A host polls; others may run: 0, or by what code it has ended, once; or each
     * time when the host has waited in vain. */
    int (*over)(int waited);
    const struct tdl_backend *pollers; /* of a simulation's threads: see netpoll/backend.h */
    uint32_t (*bubble)(void); /* which simulation the calling thread is in; 0: none */
};

extern struct tdl_sys tdl_sys;

/* The table of the real system, to go back to. */
extern const struct tdl_sys tdl_sys_real;

/* So long after a time of tdl_sys.now (ns: none below 0); TDL_FOREVER where there is no such time. */
TDL_ALWAYS_INLINE int64_t tdl_time_after(int64_t now, int64_t ns) {
    return ns < TDL_FOREVER - now ? now + ns : TDL_FOREVER;
}

/* The nth (0 …) nap of who looks, between them, for what another thread is about to do: 10 us, 20 us …, 1 ms. */
static inline void tdl_nap_again(int n) { tdl_sys.nap(n < 7 ? 10000 << n : 1000000); }

/* Zeroed memory from tdl_sys.alloc, or NULL. */
void *tdl_alloc_zeroed(size_t size);

#endif
