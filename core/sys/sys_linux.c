/* SPDX-License-Identifier: MIT
 *
 * What the real system has on Linux alone, or better there: behind sys/os.h.
 * sys_posix.c has the same for other systems. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sys/base.h"

#ifdef TDL_LINUX
#include "sys/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "sys/atomic.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif
#ifndef PIDFD_SELF
#define PIDFD_SELF (-10000) /* Linux 6.15 */
#endif

#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34)
#define TDL_CLOSEFROM 1
#endif
#endif

enum { GUARDS_AT_ONCE = 128 };

static int64_t rc(int64_t r) { return r < 0 ? -errno : r; }

/* -- Memory --------------------------------------------------------------- */

void *tdl_os_map(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, size, MADV_NOHUGEPAGE); /* one touch must not cost 2 MiB */
    return p;
}

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

int tdl_os_guard(void *first, size_t size, size_t stride, int n) {
    int r = guard_one(first, size);
    if (r < 0) return r;
    int done = 1;
    while (done < n && (r = guard_many((char *)first + (size_t)done * stride, size, stride, n - done)) > 0) done += r;
    for (; done < n && guard_one((char *)first + (size_t)done * stride, size) == 0; done++) continue;
    return done;
}

int tdl_os_discard(void *p, size_t size) { return (int)rc(madvise(p, size, MADV_DONTNEED)); }

int tdl_os_resident(void *p, size_t size, unsigned char *there) { return (int)rc(mincore(p, size, there)); }

/* -- Time and threads ----------------------------------------------------- */

int tdl_os_futex_wait(void *word, uint32_t expected, int64_t deadline) {
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

int tdl_os_futex_wake(void *word, int count) {
    return (int)rc(syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0));
}

/* Registered at the first use; -ENOSYS or -EPERM where the kernel has it not. */
int tdl_os_membarrier(void) {
    static _Atomic int state; /* 0: not asked yet, 1: registered, or a negated errno; relaxed */
    int s = at_load_rlx(&state);
    if (s == 0) {
        s = (int)rc(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
        if (s == 0) s = 1;
        at_store_rlx(&state, s);
    }
    return s < 0 ? s : (int)rc(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
}

void tdl_os_stack(void **low, size_t *size) {
    pthread_attr_t attr;
    *low = NULL;
    *size = 0;
    if (pthread_getattr_np(pthread_self(), &attr) != 0) return;
    pthread_attr_getstack(&attr, low, size);
    pthread_attr_destroy(&attr);
}

void tdl_os_name_thread(const char *name) { prctl(PR_SET_NAME, name); }

void tdl_os_exact_sleeps(void) { prctl(PR_SET_TIMERSLACK, 1UL); }

int tdl_os_thread_id(void) { return (int)syscall(SYS_gettid); }

/* Does the thread compute (or wait for a processor), rather than sleep? */
int tdl_os_computes(int tid) {
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = '\0';
    /* "tid (name) state": the name, ours, has no parenthesis */
    for (char *c = text; *c; c++)
        if (*c == ')') return c[1] == ' ' && c[2] == 'R';
    return 0;
}

/* More CPUs than fit into a cpu_set_t. */
static TDL_NOINLINE int count_many(void) {
    enum { MANY = 1 << 16 };
    cpu_set_t *set = CPU_ALLOC(MANY);
    size_t size = CPU_ALLOC_SIZE(MANY);
    int n = set && sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 1;
    if (set) CPU_FREE(set);
    return n;
}

int tdl_os_cpus(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : errno == EINVAL ? count_many() : 1;
}

/* -- Polling -------------------------------------------------------------- */

int tdl_os_epoll_create(void) { return (int)rc(epoll_create1(EPOLL_CLOEXEC)); }

int tdl_os_epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev) {
    return (int)rc(epoll_ctl(epfd, op, fd, ev));
}

/* epoll_pwait2 (Linux 5.11) counts in nanoseconds; before it, milliseconds
 * rounded up, so that a sleep never ends early. */
int tdl_os_epoll_wait(int epfd, struct epoll_event *evs, int max, int64_t timeout_ns) {
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

int tdl_os_eventfd(void) { return (int)rc(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

int tdl_os_eventfd_write(int fd) {
    uint64_t one = 1;
    return (int)rc(write(fd, &one, sizeof one));
}

int tdl_os_uring_setup(unsigned entries, struct io_uring_params *p) {
    return (int)rc(syscall(SYS_io_uring_setup, entries, p));
}

int tdl_os_uring_enter(int fd, unsigned to_submit, unsigned min, unsigned flags, const void *arg, size_t size) {
    return (int)rc(syscall(SYS_io_uring_enter, fd, to_submit, min, flags, arg, size));
}

int tdl_os_uring_register(int fd, unsigned what, void *arg, unsigned n) {
    return (int)rc(syscall(SYS_io_uring_register, fd, what, arg, n));
}

void *tdl_os_uring_map(int fd, size_t size, uint64_t offset) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)offset);
    if (p == MAP_FAILED) return NULL;
    madvise(p, size, MADV_DONTFORK);
    return p;
}

/* What has no poll of its own would be taken for ready always. */
int tdl_os_pollable(int fd) {
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

int tdl_os_wait_readable(int fd, int64_t timeout_ns) {
    struct pollfd p = {fd, POLLIN, 0};
    struct timespec ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    return (int)rc(ppoll(&p, 1, timeout_ns < 0 ? NULL : &ts, NULL));
}

/* -- Sockets -------------------------------------------------------------- */

int tdl_os_socket(int domain, int type, int protocol) {
    return (int)rc(socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
}
int tdl_os_accept(int fd, struct sockaddr *sa, socklen_t *n) {
    return (int)rc(accept4(fd, sa, n, SOCK_NONBLOCK | SOCK_CLOEXEC));
}
int64_t tdl_os_send(int fd, const void *buf, size_t n) { return rc(send(fd, buf, n, MSG_NOSIGNAL)); }
int64_t tdl_os_recvmsg(int fd, struct msghdr *m) { return rc(recvmsg(fd, m, MSG_CMSG_CLOEXEC)); }
int64_t tdl_os_sendmsg(int fd, const struct msghdr *m) { return rc(sendmsg(fd, m, MSG_NOSIGNAL)); }
_Static_assert(sizeof(struct tdl_mmsg) == sizeof(struct mmsghdr) && offsetof(struct tdl_mmsg, n) == offsetof(struct mmsghdr, msg_len),
               "the same layout");

int tdl_os_recvmmsg(int fd, struct tdl_mmsg *m, unsigned n) {
    return (int)rc(recvmmsg(fd, (struct mmsghdr *)(void *)m, n, MSG_CMSG_CLOEXEC, NULL));
}
int tdl_os_sendmmsg(int fd, struct tdl_mmsg *m, unsigned n) { return (int)rc(sendmmsg(fd, (struct mmsghdr *)(void *)m, n, MSG_NOSIGNAL)); }

/* -- Any descriptor ------------------------------------------------------- */

void tdl_os_take_pending(const sigset_t *set) {
    struct timespec at_once = {0, 0};
    while (sigtimedwait(set, NULL, &at_once) < 0 && errno == EINTR) {}
}

/* With room for a good deal, where that is allowed. */
int tdl_os_pipe(int fds[2]) {
    int r = (int)rc(pipe2(fds, O_NONBLOCK | O_CLOEXEC));
    if (r == 0) fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
    return r;
}

int64_t tdl_os_splice(int from, int to, size_t n) {
    tdl_os_quiet q;
    tdl_os_be_quiet(&q);
    return tdl_os_quietly(&q, rc(splice(from, NULL, to, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)));
}

int64_t tdl_os_sendfile(int to, int file, int64_t *offset, size_t n) {
    tdl_os_quiet q;
    off_t at = offset ? (off_t)*offset : 0;
    tdl_os_be_quiet(&q);
    int64_t r = tdl_os_quietly(&q, rc(sendfile(to, file, offset ? &at : NULL, n)));
    if (offset) *offset = at;
    return r;
}

int64_t tdl_os_read_cached(int fd, void *buf, size_t n, int64_t offset) {
#ifdef RWF_NOWAIT
    struct iovec part = {buf, n};
    return rc(preadv2(fd, &part, 1, offset, RWF_NOWAIT));
#else /* the C library has it not */
    (void)fd;
    (void)buf;
    (void)n;
    (void)offset;
    return -EOPNOTSUPP;
#endif
}

int tdl_os_pipe_to_child(int fds[2]) { return (int)rc(pipe2(fds, O_CLOEXEC)); }

int tdl_os_spawn_closes(posix_spawn_file_actions_t *actions, int first) {
#ifdef TDL_CLOSEFROM
    return posix_spawn_file_actions_addclosefrom_np(actions, first);
#else /* those of now; a close of one that is gone by then does nothing */
    DIR *all = opendir("/proc/self/fd");
    int e = 0;
    if (!all) return errno;
    for (struct dirent *d; e == 0 && (d = readdir(all));) {
        int fd = atoi(d->d_name); /* 0 for "." */
        if (fd < first || fd == dirfd(all) || (fcntl(fd, F_GETFD) & FD_CLOEXEC)) continue;
        e = posix_spawn_file_actions_addclose(actions, fd);
    }
    closedir(all);
    return e;
#endif
}

int tdl_os_spawn_chdir(posix_spawn_file_actions_t *actions, const char *path) {
    return posix_spawn_file_actions_addchdir_np(actions, path);
}

int tdl_os_scratch_file(void) { return (int)rc(syscall(SYS_memfd_create, "treadle", 1u /* close-on-exec */)); }

#endif
