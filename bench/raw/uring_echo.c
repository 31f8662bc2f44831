/* SPDX-License-Identifier: MIT
 * What io_uring can do here: an echo server written by hand on one ring, with nothing
 * of a runtime in it. Multishot accept, multishot receives into provided buffers, sends
 * through the ring; one system call for all that.
 * Usage: uring_echo [defer] [calls] [lean]: with DEFER_TASKRUN; with a send(2) for each answer;
 * with all else that saves work: registered files and ring, sends without a completion, no
 * array of indices, as many buffers as stay in a cache. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

enum { ENTRIES = 4096, COMPLETIONS = 16384, BUFFERS = 2048, FEW = 256, SIZE = 2048, FILES = 4096 };
enum { ACCEPT = 1, RECEIVE, SEND, CLOSE };

static struct {
    int fd;
    unsigned *sq_tail, *cq_head, *cq_tail, sq_mask, cq_mask, queued;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
} ring;
static struct io_uring_buf_ring *buffers;
static char *memory;
static int calls, lean;
static unsigned sent[ENTRIES], nsent; /* buffers that are free once their sends were handed over */

static void check(long rc, const char *what)
{
    if (rc < 0) {
        perror(what);
        exit(1);
    }
}

static void *map(int fd, size_t size, long at)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE, fd, at);
    check(p == MAP_FAILED ? -1 : 0, "mmap");
    return p;
}

static void give(unsigned id)
{
    struct io_uring_buf *b = &buffers->bufs[buffers->tail & (BUFFERS - 1)];
    b->addr = (uint64_t)(uintptr_t)(memory + (size_t)id * SIZE);
    b->len = SIZE;
    b->bid = (uint16_t)id;
    __atomic_store_n(&buffers->tail, (uint16_t)(buffers->tail + 1), __ATOMIC_RELEASE);
}

static void open_ring(int defer)
{
    struct io_uring_params p = { .cq_entries = COMPLETIONS, .flags = IORING_SETUP_CQSIZE };
    p.flags |= defer ? IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN : IORING_SETUP_COOP_TASKRUN;
    p.flags |= lean ? IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_NO_SQARRAY : 0;
    check(ring.fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &p), "io_uring_setup");
    size_t sq = p.sq_off.array + p.sq_entries * sizeof(unsigned);
    size_t cq = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    char *at = map(ring.fd, sq > cq ? sq : cq, IORING_OFF_SQ_RING);
    ring.sqes = map(ring.fd, p.sq_entries * sizeof *ring.sqes, IORING_OFF_SQES);
    ring.sq_tail = (unsigned *)(void *)(at + p.sq_off.tail);
    ring.cq_head = (unsigned *)(void *)(at + p.cq_off.head);
    ring.cq_tail = (unsigned *)(void *)(at + p.cq_off.tail);
    ring.cqes = (struct io_uring_cqe *)(void *)(at + p.cq_off.cqes);
    ring.sq_mask = p.sq_entries - 1;
    ring.cq_mask = p.cq_entries - 1;
    unsigned *array = (unsigned *)(void *)(at + p.sq_off.array);
    for (unsigned i = 0; i < p.sq_entries && !lean; i++)
        array[i] = i;

    buffers = map(-1, BUFFERS * sizeof(struct io_uring_buf), 0);
    memory = map(-1, (size_t)BUFFERS * SIZE, 0);
    struct io_uring_buf_reg reg = { .ring_addr = (uint64_t)(uintptr_t)buffers, .ring_entries = BUFFERS };
    check(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_PBUF_RING, &reg, 1), "io_uring_register");
    for (unsigned i = 0; i < (lean ? FEW : BUFFERS); i++)
        give(i);
    if (!lean)
        return;
    struct io_uring_rsrc_register files = { .nr = FILES, .flags = IORING_RSRC_REGISTER_SPARSE };
    check(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES2, &files, sizeof files), "files");
    struct io_uring_rsrc_update self = { .offset = -1U, .data = (unsigned)ring.fd };
    check(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_RING_FDS, &self, 1), "ring");
    ring.fd = (int)self.offset;
}

/* Gives what is queued to the kernel; wait: until something is complete. */
static void enter(unsigned wait)
{
    unsigned flags = (wait ? IORING_ENTER_GETEVENTS : 0) | (lean ? IORING_ENTER_REGISTERED_RING : 0);
    long n = syscall(SYS_io_uring_enter, ring.fd, ring.queued, wait, flags, NULL, 0);
    if (n < 0 && errno != EINTR)
        check(n, "io_uring_enter");
    if (n > 0)
        ring.queued -= (unsigned)n;
    while (nsent && !ring.queued)
        give(sent[--nsent]);
}

static void ask(int what, int fd, unsigned id, unsigned n)
{
    if (ring.queued == ENTRIES)
        enter(0);
    struct io_uring_sqe *e = &ring.sqes[*ring.sq_tail & ring.sq_mask];
    memset(e, 0, sizeof *e);
    e->fd = fd;
    e->user_data = (uint64_t)what << 32 | (what == SEND ? id : (unsigned)fd);
    if (what == ACCEPT) {
        e->opcode = IORING_OP_ACCEPT;
        e->ioprio = IORING_ACCEPT_MULTISHOT;
        e->accept_flags = lean ? SOCK_NONBLOCK : SOCK_NONBLOCK | SOCK_CLOEXEC;
    } else if (what == RECEIVE) {
        e->opcode = IORING_OP_RECV;
        e->ioprio = IORING_RECV_MULTISHOT;
        e->flags = IOSQE_BUFFER_SELECT;
    } else if (what == CLOSE) {
        e->opcode = IORING_OP_CLOSE;
        e->fd = 0;
    } else {
        e->opcode = IORING_OP_SEND;
        e->addr = (uint64_t)(uintptr_t)(memory + (size_t)id * SIZE);
        e->len = n;
        e->msg_flags = MSG_NOSIGNAL | (lean ? MSG_DONTWAIT : MSG_WAITALL);
        if (lean) {
            e->flags = IOSQE_CQE_SKIP_SUCCESS;
            e->user_data = 0; /* a client that does not read: not in this benchmark */
            sent[nsent++] = id;
        }
    }
    if (lean && what == ACCEPT)
        e->file_index = IORING_FILE_INDEX_ALLOC;
    else if (what == CLOSE)
        e->file_index = (unsigned)fd + 1;
    else if (lean)
        e->flags |= IOSQE_FIXED_FILE;
    __atomic_store_n(ring.sq_tail, *ring.sq_tail + 1, __ATOMIC_RELEASE);
    ring.queued++;
}

static void received(int fd, const struct io_uring_cqe *c)
{
    unsigned id = c->flags >> IORING_CQE_BUFFER_SHIFT;
    if (c->res <= 0 && c->res != -ENOBUFS) {
        if (lean)
            ask(CLOSE, fd, 0, 0);
        else
            close(fd);
        return;
    }
    if (c->res > 0 && calls && !lean) {
        send(fd, memory + (size_t)id * SIZE, (size_t)c->res, MSG_NOSIGNAL);
        give(id);
    } else if (c->res > 0) {
        ask(SEND, fd, id, (unsigned)c->res);
    }
    if (!(c->flags & IORING_CQE_F_MORE))
        ask(RECEIVE, fd, 0, 0);
}

int main(int argc, char **argv)
{
    int on = 1, defer = 0, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    for (int i = 1; i < argc; i++) {
        defer |= strcmp(argv[i], "defer") == 0;
        calls |= strcmp(argv[i], "calls") == 0;
        lean |= strcmp(argv[i], "lean") == 0;
    }
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    open_ring(defer);
    check(bind(listener, (struct sockaddr *)&a, len), "bind");
    check(listen(listener, 4096), "listen");
    check(getsockname(listener, (struct sockaddr *)&a, &len), "getsockname");
    printf("listening on 127.0.0.1:%d\n", ntohs(a.sin_port));
    fflush(stdout);

    ask(ACCEPT, listener, 0, 0);
    for (;;) {
        enter(1);
        unsigned head = *ring.cq_head, tail = __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE);
        for (; head != tail; head++) {
            const struct io_uring_cqe *c = &ring.cqes[head & ring.cq_mask];
            int what = (int)(c->user_data >> 32);
            unsigned of = (unsigned)c->user_data;
            if (what == ACCEPT) {
                check(c->res, "accept");
                if (!lean) /* it is taken over from the listener */
                    setsockopt(c->res, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                ask(RECEIVE, c->res, 0, 0);
                if (!(c->flags & IORING_CQE_F_MORE))
                    ask(ACCEPT, listener, 0, 0);
            } else if (what == RECEIVE) {
                received((int)of, c);
            } else if (what == SEND) {
                give(of);
            }
        }
        __atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
    }
}
