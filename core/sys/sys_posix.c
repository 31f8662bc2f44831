/* SPDX-License-Identifier: MIT
 *
 * What sys_linux.c has, in terms of POSIX: for systems that are not Linux.
 *
 * futex. Who waits for a word lies in a list of one of some buckets, by the word's
 * address, and sleeps on a condition of its own. bucket.lock guards the list and
 * each waiter in it; the word is compared under it, so a wake-up that comes
 * after the word was changed finds whoever saw it before. Waking takes the waiter
 * from the list; the waiter itself does so in vain only.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sys/base.h"

#ifndef TDL_LINUX
#include "sys/os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#if defined(__FreeBSD__) || defined(__DragonFly__)
#include <pthread_np.h>
#endif
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/atomic.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS: each socket has SO_NOSIGPIPE set instead */
#endif
#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

static int64_t rc(int64_t r) { return r < 0 ? -errno : r; }

/* -- Memory --------------------------------------------------------------- */

void *tdl_os_map(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

int tdl_os_guard(void *first, size_t size, size_t stride, int n) {
    if (mprotect(first, size, PROT_NONE) < 0) return -errno;
    int done = 1;
    for (; done < n && mprotect((char *)first + (size_t)done * stride, size, PROT_NONE) == 0; done++) continue;
    return done;
}

/* POSIX has no advice after which memory reads as zero: it is mapped anew. */
int tdl_os_discard(void *p, size_t size) {
    void *q = mmap(p, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return q == MAP_FAILED ? -errno : 0;
}

int tdl_os_resident(void *p, size_t size, unsigned char *there) {
#ifdef __OpenBSD__
    (void)p;
    (void)size;
    (void)there;
    return -ENOSYS;
#else
    return (int)rc(mincore(p, size, (void *)there)); /* elsewhere than on Linux they are chars */
#endif
}

/* -- Time and threads ----------------------------------------------------- */

struct waiter {
    struct waiter *next;
    void *word;
    bool woken;
    pthread_cond_t cond;
};

enum { BUCKETS = 64 };
static struct bucket {
    pthread_mutex_t lock;
    struct waiter *first, **last;
} buckets[BUCKETS];

static void make_buckets(void) {
    for (int i = 0; i < BUCKETS; i++) {
        pthread_mutex_init(&buckets[i].lock, NULL);
        buckets[i].first = NULL;
        buckets[i].last = &buckets[i].first;
    }
}

/* In the child of a fork nobody of the parent's waits any more. */
static void once(void) {
    make_buckets();
    pthread_atfork(NULL, NULL, make_buckets);
}

static struct bucket *bucket_of(void *word) {
    static pthread_once_t made = PTHREAD_ONCE_INIT;
    pthread_once(&made, once);
    return &buckets[(uint64_t)(uintptr_t)word * UINT64_C(0x9e3779b97f4a7c15) >> 58];
}

static void init_cond(pthread_cond_t *c) {
#ifdef __APPLE__
    pthread_cond_init(c, NULL); /* its waits are relative: see sleep_until */
#else
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
#endif
}

static int sleep_until(struct waiter *w, struct bucket *b, int64_t deadline) {
    if (deadline == INT64_MAX) return pthread_cond_wait(&w->cond, &b->lock);
#ifdef __APPLE__
    int64_t ns = deadline - tdl_sys_real.now();
    struct timespec ts = {ns > 0 ? ns / 1000000000 : 0, ns > 0 ? ns % 1000000000 : 0};
    return pthread_cond_timedwait_relative_np(&w->cond, &b->lock, &ts);
#else
    struct timespec ts = {deadline / 1000000000, deadline % 1000000000};
    return pthread_cond_timedwait(&w->cond, &b->lock, &ts);
#endif
}

static void take_out(struct bucket *b, struct waiter *w) {
    for (struct waiter **at = &b->first; *at; at = &(*at)->next) {
        if (*at != w) continue;
        *at = w->next;
        if (!w->next) b->last = at;
        return;
    }
}

int tdl_os_futex_wait(void *word, uint32_t expected, int64_t deadline) {
    struct bucket *b = bucket_of(word);
    struct waiter w = {.word = word};
    int e = 0;
    pthread_mutex_lock(&b->lock);
    if (at_load_seq((_Atomic uint32_t *)word) != expected) {
        pthread_mutex_unlock(&b->lock);
        return -EAGAIN;
    }
    init_cond(&w.cond);
    *b->last = &w;
    b->last = &w.next;
    while (!w.woken && e == 0) e = sleep_until(&w, b, deadline);
    if (!w.woken) take_out(b, &w);
    pthread_mutex_unlock(&b->lock);
    pthread_cond_destroy(&w.cond);
    return w.woken ? 0 : -e;
}

int tdl_os_futex_wake(void *word, int count) {
    struct bucket *b = bucket_of(word);
    int woken = 0;
    pthread_mutex_lock(&b->lock);
    for (struct waiter **at = &b->first; *at && woken < count;) {
        struct waiter *w = *at;
        if (w->word != word) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        if (!w->next) b->last = at;
        w->woken = true;
        pthread_cond_signal(&w->cond); /* under the lock: after it w may be gone */
        woken++;
    }
    pthread_mutex_unlock(&b->lock);
    return woken;
}

/* When a page loses a right, every processor that runs the process has to be told
 * by an interrupt, which is a barrier: on x86. Others may spread it without one. */
int tdl_os_membarrier(void) {
#if defined(__x86_64__) || defined(__i386__)
    enum { PAGE = 4096 };
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static char *page;
    int r = 0;
    pthread_mutex_lock(&lock);
    if (!page) {
        page = tdl_os_map(PAGE);
        if (page && mlock(page, PAGE) < 0) { /* it must stay in the translations */
            munmap(page, PAGE);
            page = NULL;
        }
    }
    if (!page || mprotect(page, PAGE, PROT_READ | PROT_WRITE) < 0) {
        r = -ENOSYS;
    } else {
        *(volatile char *)page = 1; /* now it is in this processor's */
        if (mprotect(page, PAGE, PROT_READ) < 0) r = -errno;
    }
    pthread_mutex_unlock(&lock);
    return r;
#else
    return -ENOSYS;
#endif
}

/* Where the system does not tell it: unknown. */
void tdl_os_stack(void **low, size_t *size) {
    *low = NULL;
    *size = 0;
#if defined(__APPLE__)
    *size = pthread_get_stacksize_np(pthread_self());
    *low = (char *)pthread_get_stackaddr_np(pthread_self()) - *size;
#elif defined(__GLIBC__)
    pthread_attr_t attr;
    if (pthread_getattr_np(pthread_self(), &attr) != 0) return;
    pthread_attr_getstack(&attr, low, size);
    pthread_attr_destroy(&attr);
#elif defined(__FreeBSD__) || defined(__NetBSD__) || defined(__DragonFly__)
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0) return;
    if (pthread_attr_get_np(pthread_self(), &attr) == 0) pthread_attr_getstack(&attr, low, size);
    pthread_attr_destroy(&attr);
#endif
}

void tdl_os_name_thread(const char *name) {
#if defined(__APPLE__)
    pthread_setname_np(name);
#elif defined(__GLIBC__) || defined(__FreeBSD__)
    pthread_setname_np(pthread_self(), name);
#else
    (void)name; /* elsewhere each has a way of its own, and nothing depends on it */
#endif
}

void tdl_os_exact_sleeps(void) {}

/* A number that no other thread has. */
int tdl_os_thread_id(void) {
    static _Atomic int threads; /* relaxed: only distinct */
    static _Thread_local int mine;
    if (mine == 0) mine = at_add_rlx(&threads, 1) + 1;
    return mine;
}

/* Not known: what has not called the runtime for so long is taken to compute. */
int tdl_os_computes(int tid) {
    (void)tid;
    return 1;
}

int tdl_os_cpus(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }

/* -- Polling -------------------------------------------------------------- */

/* What has no poll of its own would be taken for ready always. */
int tdl_os_pollable(int fd) {
    struct stat s;
    if (fstat(fd, &s) < 0) return -errno;
    return S_ISREG(s.st_mode) || S_ISDIR(s.st_mode) || S_ISBLK(s.st_mode) ? -EPERM : 0;
}

/* poll counts milliseconds: rounded up, so that a sleep never ends early. */
int tdl_os_wait_readable(int fd, int64_t timeout_ns) {
    struct pollfd p = {fd, POLLIN, 0};
    int64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return (int)rc(poll(&p, 1, timeout_ns < 0 ? -1 : ms > INT32_MAX ? INT32_MAX : (int)ms));
}

/* -- Sockets -------------------------------------------------------------- */

static int close_on_exec(int fd) { return fcntl(fd, F_SETFD, FD_CLOEXEC); }

static int no_wait(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? flags : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/* A child that is forked before this would keep it; its own descriptors apart from
 * 0, 1 and 2 are closed in those that are started here. */
static int ours(int fd) {
    if (fd < 0) return -errno;
    int r = close_on_exec(fd) < 0 || no_wait(fd) < 0 ? -errno : 0;
#ifdef SO_NOSIGPIPE
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &one, sizeof one);
#endif
    if (r == 0) return fd;
    close(fd);
    return r;
}

int tdl_os_socket(int domain, int type, int protocol) { return ours(socket(domain, type, protocol)); }

int tdl_os_accept(int fd, struct sockaddr *sa, socklen_t *n) { return ours(accept(fd, sa, n)); }

int64_t tdl_os_send(int fd, const void *buf, size_t n) { return rc(send(fd, buf, n, MSG_NOSIGNAL)); }

int64_t tdl_os_recvmsg(int fd, struct msghdr *m) {
    int64_t r = rc(recvmsg(fd, m, 0));
    if (r < 0 || !m->msg_control) return r;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
        size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        const int *fds = (const int *)(const void *)CMSG_DATA(h);
        for (size_t i = 0; i < n; i++) close_on_exec(fds[i]);
    }
    return r;
}

int64_t tdl_os_sendmsg(int fd, const struct msghdr *m) { return rc(sendmsg(fd, m, MSG_NOSIGNAL)); }

int tdl_os_recvmmsg(int fd, struct tdl_mmsg *m, unsigned n) {
    unsigned i = 0;
    for (; i < n; i++) {
        int64_t r = tdl_os_recvmsg(fd, &m[i].hdr);
        if (r < 0) return i ? (int)i : (int)r;
        m[i].n = (unsigned)r;
    }
    return (int)i;
}

int tdl_os_sendmmsg(int fd, struct tdl_mmsg *m, unsigned n) {
    unsigned i = 0;
    for (; i < n; i++) {
        int64_t r = tdl_os_sendmsg(fd, &m[i].hdr);
        if (r < 0) return i ? (int)i : (int)r;
        m[i].n = (unsigned)r;
    }
    return (int)i;
}

/* -- Any descriptor ------------------------------------------------------- */

/* Without sigtimedwait, which macOS and OpenBSD have not. */
void tdl_os_take_pending(const sigset_t *set) {
    sigset_t pending;
    int sig;
    if (sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1) sigwait(set, &sig);
}

int tdl_os_pipe_to_child(int fds[2]) {
    if (pipe(fds) < 0) return -errno;
    if (close_on_exec(fds[0]) == 0 && close_on_exec(fds[1]) == 0) return 0;
    int e = errno;
    close(fds[0]);
    close(fds[1]);
    return -e;
}

int tdl_os_pipe(int fds[2]) {
    int r = tdl_os_pipe_to_child(fds);
    if (r < 0) return r;
    no_wait(fds[0]);
    no_wait(fds[1]);
    return 0;
}

int64_t tdl_os_splice(int from, int to, size_t n) {
    (void)from;
    (void)to;
    (void)n;
    return -EINVAL;
}

int64_t tdl_os_sendfile(int to, int file, int64_t *offset, size_t n) {
    (void)to;
    (void)file;
    (void)offset;
    (void)n;
    return -EINVAL;
}

int64_t tdl_os_read_cached(int fd, void *buf, size_t n, int64_t offset) {
    (void)fd;
    (void)buf;
    (void)n;
    (void)offset;
    return -EOPNOTSUPP;
}

int tdl_os_spawn_closes(posix_spawn_file_actions_t *actions, int first) {
#if defined(__FreeBSD__) || defined(__GLIBC__)
    return posix_spawn_file_actions_addclosefrom_np(actions, first);
#else
    (void)actions; /* all of ours are close-on-exec */
    (void)first;
    return 0;
#endif
}

int tdl_os_spawn_chdir(posix_spawn_file_actions_t *actions, const char *path) {
#if defined(__NetBSD__)
    return posix_spawn_file_actions_addchdir(actions, path);
#elif defined(__OpenBSD__)
    (void)actions;
    (void)path;
    return EOPNOTSUPP;
#else
    return posix_spawn_file_actions_addchdir_np(actions, path);
#endif
}

int tdl_os_scratch_file(void) {
    char name[] = "/tmp/treadle-XXXXXX";
    int fd = mkstemp(name);
    if (fd < 0) return -errno;
    unlink(name);
    close_on_exec(fd);
    return fd;
}

#endif
