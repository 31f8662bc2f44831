/* SPDX-License-Identifier: MIT
 *
 * Descriptors that travel with bytes over a unix connection (SCM_RIGHTS). They
 * go with the first byte that is sent; a task's are duplicated when they have to
 * wait, so that it may close its own.
 */
#include <errno.h>
#include <string.h>

#include "net/net.h"
#include "sys/sys.h"

enum { MOST = 253 }; /* SCM_MAX_FD */

/* What a call keeps, u.io.copy: it lies in the caller's frame, or, for a task that
 * waits, in memory of its own. NULL: there was none. */
struct call {
    int *fds;
    int *count;        /* recv: room, and how many came */
    const char *bytes; /* send */
    int n;             /* send */
    bool heap;         /* sent: duplicates, with copies of the bytes behind them */
};

union control {
    struct cmsghdr align;
    char room[CMSG_SPACE(MOST * sizeof(int))];
};

static void close_all(const int *fds, int n) {
    for (int i = 0; i < n; i++) tdl_sys.close(fds[i]);
}

static int check(tdl_conn *c, const void *buf, size_t n, const int *fds, int nfds) {
    if (!c || !buf || n == 0 || !fds || nfds < 1 || nfds > MOST) return TDL_EINVAL;
    return c->is_unix ? 0 : -EOPNOTSUPP;
}

static int64_t done(tdl_op *op, int64_t r) {
    struct call *k = op->u.io.copy;
    if (r == TDL_PENDING) return r;
    op->u.io.copy = NULL;
    if (!k || !k->heap) return r;
    if (k->n) close_all(k->fds, k->n);
    tdl_sys.release(k);
    return r;
}

static void abandon(tdl_op *op) {
    tdl_pd_abandon(op);
    done(op, 0);
}

/* Ends an op that waits, for want of memory or of descriptors. */
static void give_up(tdl_op *op, int code) {
    uint32_t was = tdl_op_claim(op);
    if (was) tdl_op_complete(op, was, code);
}

/* -- Sending -------------------------------------------------------------------------- */

static int64_t send_first(tdl_conn *c, const struct call *k, const void *buf, size_t n) {
    union control control;
    size_t size = (size_t)k->n * sizeof(int);
    struct iovec part = {(void *)(uintptr_t)buf, n};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room,
                       .msg_controllen = CMSG_SPACE(size)};
    memset(&control, 0, sizeof control);
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(h), k->fds, size);
    return tdl_sys.sendmsg(c->pd->fd, &m);
}

static int64_t send_attempt(tdl_op *op) {
    tdl_conn *c = op->u.io.object;
    const struct call *k = op->u.io.copy;
    if (!k) return TDL_ENOMEM;
    if (c->kind == CONN_TLS) return -EOPNOTSUPP;
    const char *bytes = k->bytes;
    while (op->u.io.done < op->u.io.n) {
        size_t left = op->u.io.n - op->u.io.done;
        int64_t r = op->u.io.done ? tdl_conn_put(c, bytes + op->u.io.done, left) : send_first(c, k, bytes, left);
        if (r == -EINTR) continue;
        if (r == -EAGAIN) return TDL_EAGAIN;
        if (r < 0) return r;
        op->u.io.done += (size_t)r;
    }
    return (int64_t)op->u.io.n;
}

static int64_t sent(tdl_op *op, int64_t r) {
    if (r != TDL_PENDING) op->extra = (int64_t)op->u.io.done;
    return done(op, r);
}

static int64_t send_finish(tdl_op *op) { return sent(op, tdl_pd_finish(op)); }

static const tdl_op_class send_class = {"IO wait (write)", send_finish, abandon};

/* A copy of the call for a task: header, descriptors, bytes. NULL and a code. */
static struct call *own(const struct call *k, size_t n, int *code) {
    struct call *mine = tdl_sys.alloc(sizeof *mine + (size_t)k->n * sizeof(int) + n);
    *code = TDL_ENOMEM;
    if (!mine) return NULL;
    int *fds = (int *)(mine + 1);
    *mine = (struct call){fds, NULL, (char *)(fds + k->n), k->n, true};
    for (int i = 0; i < k->n; i++) {
        mine->fds[i] = *code = tdl_sys.dup(k->fds[i]);
        if (*code < 0) {
            close_all(mine->fds, i);
            tdl_sys.release(mine);
            return NULL;
        }
    }
    memcpy(fds + k->n, k->bytes, n);
    return mine;
}

int64_t tdl_conn_send_fds_op(tdl_op *op, tdl_conn *c, const void *buf, size_t n, const int *fds, int nfds) {
    op->u.io.done = 0;
    op->u.io.copy = NULL;
    int r = check(c, buf, n, fds, nfds);
    if (r < 0) return r;
    struct call k = {(int *)(uintptr_t)fds, NULL, buf, nfds, false};
    op->u.io.object = c;
    op->u.io.attempt = send_attempt;
    op->u.io.n = n;
    op->u.io.copy = &k;
    int64_t result = tdl_pd_op(op, c->pd, PD_WRITE, false, &send_class);
    if (result == TDL_PENDING && op->kind != OP_OF_TASK) return tdl_op_wait(op); /* while k is there */
    if (result != TDL_PENDING) return sent(op, result);
    struct call *mine = own(&k, n, &r);
    op->u.io.copy = mine;
    if (!mine) give_up(op, r);
    return TDL_PENDING;
}

/* -- Receiving --------------------------------------------------------------------------- */

/* The descriptors of a message, in order; how many. */
static int collect(struct msghdr *m, int *fds) {
    int n = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
        size_t size = h->cmsg_len - CMSG_LEN(0);
        memcpy(fds + n, CMSG_DATA(h), size);
        n += (int)(size / sizeof(int));
    }
    return n;
}

static int64_t recv_attempt(tdl_op *op) {
    tdl_conn *c = op->u.io.object;
    struct call *k = op->u.io.copy;
    union control control;
    int fds[MOST], room = op->u.io.how;
    struct iovec part = {op->u.io.buf, op->u.io.n};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room,
                       .msg_controllen = sizeof control.room};
    int64_t r;
    if (!k) return TDL_ENOMEM;
    *k->count = 0;
    if (c->kind == CONN_TLS) return -EOPNOTSUPP;
    size_t have = tdl_buffer_len(&c->in);
    if (have) { /* left by a framed read: what came with those bytes is gone */
        if (have > op->u.io.n) have = op->u.io.n;
        memcpy(op->u.io.buf, tdl_buffer_bytes(&c->in), have);
        tdl_buffer_skip(&c->in, have);
        c->pd->dir[PD_READ].keep = tdl_buffer_len(&c->in) != 0;
        return (int64_t)have;
    }
    do
        r = tdl_sys.recvmsg(c->pd->fd, &m);
    while (r == -EINTR);
    if (r == -EAGAIN) return TDL_EAGAIN;
    if (r < 0) return r;
    int n = collect(&m, fds);
    if (m.msg_flags & MSG_CTRUNC) r = -EMFILE; /* there was room: but not for more descriptors */
    if (n > room) r = TDL_ETRUNCATED;
    if (r < 0) {
        close_all(fds, n);
        return r;
    }
    if (n) memcpy(k->fds, fds, (size_t)n * sizeof *fds);
    *k->count = n;
    op->extra = n;
    return m.msg_flags & MSG_TRUNC ? TDL_ETRUNCATED : r;
}

static int64_t recv_finish(tdl_op *op) { return done(op, tdl_pd_finish(op)); }

static const tdl_op_class recv_class = {"IO wait (read)", recv_finish, abandon};

int64_t tdl_conn_recv_fds_op(tdl_op *op, tdl_conn *c, void *buf, size_t n, int *fds, int *nfds) {
    op->u.io.copy = NULL;
    int room = nfds ? *nfds : 0;
    int r = check(c, buf, n, fds, room);
    if (r < 0) return r;
    struct call k = {fds, nfds, NULL, 0, false};
    op->u.io.object = c;
    op->u.io.attempt = recv_attempt;
    op->u.io.buf = buf;
    op->u.io.n = n;
    op->u.io.how = (uint8_t)room;
    op->u.io.copy = &k;
    int64_t result = tdl_pd_op(op, c->pd, PD_READ, false, &recv_class);
    if (result == TDL_PENDING && op->kind != OP_OF_TASK) return tdl_op_wait(op); /* while k is there */
    if (result != TDL_PENDING) return done(op, result);
    struct call *mine = tdl_sys.alloc(sizeof *mine);
    op->u.io.copy = mine;
    if (!mine) {
        give_up(op, TDL_ENOMEM);
        return TDL_PENDING;
    }
    *mine = k;
    mine->heap = true;
    return TDL_PENDING;
}

/* -- Blocking forms ---------------------------------------------------------------------------- */

int64_t tdl_conn_send_fds(tdl_conn *c, const void *buf, size_t n, const int *fds, int nfds) {
    TDL_BLOCKING_FORM(tdl_conn_send_fds_op(op, c, buf, n, fds, nfds));
}

int64_t tdl_conn_recv_fds(tdl_conn *c, void *buf, size_t n, int *fds, int *nfds) {
    TDL_BLOCKING_FORM(tdl_conn_recv_fds_op(op, c, buf, n, fds, nfds));
}
