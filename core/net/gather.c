/* SPDX-License-Identifier: MIT
 *
 * Writes of several pieces in one system call: a list of them, or a chain of
 * blocks. A connection that takes one run at a time (a message, memory) gets a
 * copy in one run.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "io/buf.h"
#include "net/net.h"
#include "net/tls.h"
#include "sys/sys.h"

enum { PIECES_MAX = 1024, AT_ONCE = 64 };
enum { OF_LIST, OF_CHAIN, OF_COPY }; /* how */

static struct iovec piece(const void *data, size_t n) { return (struct iovec){(void *)(uintptr_t)data, n}; }

/* What comes next, up to AT_ONCE pieces; op->u.io.buf is the list. */
static int of_list(tdl_op *op, struct iovec *v, size_t *bytes) {
    const tdl_iovec *list = (const tdl_iovec *)(const void *)op->u.io.buf;
    size_t skip = op->u.io.done, left = op->u.io.n - op->u.io.done;
    int n = 0;
    for (*bytes = 0; n < AT_ONCE && *bytes < left; list++) {
        if (skip >= list->n) {
            skip -= list->n;
            continue;
        }
        v[n++] = piece((const char *)list->data + skip, list->n - skip);
        *bytes += list->n - skip;
        skip = 0;
    }
    return n;
}

/* op->u.io.buf is the chain; what went out is no longer in it. */
static int of_chain(tdl_op *op, struct iovec *v, size_t *bytes) {
    const tdl_buf *b = (const tdl_buf *)(const void *)op->u.io.buf;
    int n = 0;
    for (*bytes = 0; n < AT_ONCE && (uint32_t)n < b->n; n++) {
        const tdl_part *p = &b->part[b->first + (uint32_t)n];
        v[n] = piece(p->at, p->n);
        *bytes += p->n;
    }
    return n;
}

static int64_t put(tdl_conn *c, struct iovec *v, int n) {
    struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)n};
    if (c->kind == CONN_FILE) return tdl_sys.writev(c->pd->fd, v, n);
    if (c->kind == CONN_TLS) return tdl_tls_putv(c, v, n);
    return tdl_sys.sendmsg(c->pd->fd, &m);
}

static int64_t attempt_copy(tdl_op *op) {
    tdl_conn *c = op->u.io.object;
    if (c->kind == CONN_MEMORY) return tdl_pipe_put(c, op);
    if (c->kind == CONN_TLS) return tdl_tls_write(op, c);
    int64_t r;
    do /* a message goes out whole */
        r = tdl_conn_put(c, op->u.io.buf, op->u.io.n);
    while (r == -EINTR);
    if (r > 0) op->u.io.done = (size_t)r;
    return r == -EAGAIN ? TDL_EAGAIN : r;
}

static int64_t attempt(tdl_op *op) {
    tdl_conn *c = op->u.io.object;
    if (!op->u.io.buf) return TDL_ENOMEM; /* there was none to copy it to */
    if (op->u.io.how == OF_COPY) return attempt_copy(op);
    while (op->u.io.done < op->u.io.n) {
        struct iovec v[AT_ONCE];
        size_t bytes;
        int n = op->u.io.how == OF_LIST ? of_list(op, v, &bytes) : of_chain(op, v, &bytes);
        int64_t r = put(c, v, n);
        if (r == -EINTR) continue;
        if (r == -EAGAIN) return TDL_EAGAIN;
        if (r < 0) return r;
        op->u.io.done += (size_t)r;
        if (op->u.io.how == OF_CHAIN) tdl_buf_skip((tdl_buf *)(void *)op->u.io.buf, (size_t)r);
        if ((size_t)r < bytes && tdl_sys.short_drains && c->kind == CONN_SOCKET) return TDL_EAGAIN;
    }
    if (c->kind == CONN_TLS) return tdl_tls_written(c, (int64_t)op->u.io.n);
    return (int64_t)op->u.io.n;
}

static void release_copy(tdl_op *op) {
    tdl_sys.release(op->u.io.copy);
    op->u.io.copy = NULL;
}

static int64_t done(tdl_op *op, int64_t r) {
    if (r == TDL_PENDING) return r;
    op->extra = (int64_t)op->u.io.done;
    release_copy(op);
    return r;
}

static int64_t finish(tdl_op *op) { return done(op, tdl_pd_finish(op)); }

static void abandon(tdl_op *op) {
    tdl_pd_abandon(op);
    release_copy(op);
}

static const tdl_op_class gather_class = {"IO wait (write)", finish, abandon};

/* As finish, for a chain that was copied: what went out is taken from it. */
static int64_t chain_done(tdl_op *op, int64_t r) {
    if (r == TDL_PENDING) return r;
    if (op->u.io.copy) tdl_buf_skip(op->u.io.chain, op->u.io.done);
    return done(op, r);
}

static int64_t chain_finish(tdl_op *op) { return chain_done(op, tdl_pd_finish(op)); }
static const tdl_op_class chain_class = {"IO wait (write)", chain_finish, abandon};

static bool one_run(const tdl_conn *c) { return c->kind == CONN_MEMORY || c->kind == CONN_PACKET; }

static void begin(tdl_op *op, tdl_conn *c, int how, const void *from, size_t n) {
    op->u.io.object = c;
    op->u.io.attempt = attempt;
    op->u.io.how = (uint8_t)how;
    op->u.io.buf = (char *)(uintptr_t)from; /* a list, or a copy, is only read */
    op->u.io.n = n;
}

/* The bytes from `done` on in one run. */
static void flatten(char *to, const tdl_iovec *v, size_t done, size_t left) {
    for (; left; v++) {
        if (done >= v->n) {
            done -= v->n;
            continue;
        }
        size_t m = v->n - done < left ? v->n - done : left;
        memcpy(to, (const char *)v->data + done, m);
        to += m;
        left -= m;
        done = 0;
    }
}

/* A task's list goes away: what is left is copied, behind a list of one. */
static int64_t keep(tdl_op *op, const tdl_iovec *v) {
    size_t left = op->u.io.n - op->u.io.done;
    if (left == 0 || op->u.io.how != OF_LIST) return TDL_PENDING;
    tdl_iovec *copy = tdl_sys.alloc(sizeof *copy + left);
    if (!copy) {
        op->u.io.buf = NULL; /* should another have claimed it, the attempt says so */
        uint32_t was = tdl_op_claim(op);
        if (was) tdl_op_complete(op, was, TDL_ENOMEM);
        return TDL_PENDING;
    }
    flatten((char *)(copy + 1), v, op->u.io.done, left);
    *copy = (tdl_iovec){(char *)(copy + 1) - op->u.io.done, op->u.io.n};
    op->u.io.copy = copy;
    op->u.io.buf = (char *)copy;
    return TDL_PENDING;
}

int64_t tdl_conn_writev_op(tdl_op *op, tdl_conn *c, const tdl_iovec *v, int n) {
    size_t total = 0;
    op->u.io.done = 0;
    op->u.io.copy = NULL;
    if (!c || (!v && n) || n < 0 || n > PIECES_MAX) return TDL_EINVAL;
    for (int i = 0; i < n; i++) {
        if ((!v[i].data && v[i].n) || v[i].n > INT64_MAX - total) return TDL_EINVAL;
        total += v[i].n;
    }
    if (op->kind == OP_OF_TASK && total > (1u << 30)) return TDL_EINVAL;
    if (total == 0) return tdl_pd_nothing(c->pd);
    begin(op, c, OF_LIST, v, total);
    if (one_run(c)) {
        if (!(op->u.io.copy = tdl_sys.alloc(total))) return TDL_ENOMEM;
        flatten(op->u.io.copy, v, 0, total);
        begin(op, c, OF_COPY, op->u.io.copy, total);
    }
    int64_t r = tdl_pd_op(op, c->pd, PD_WRITE, false, &gather_class);
    return r == TDL_PENDING && op->kind == OP_OF_TASK ? keep(op, v) : done(op, r);
}

int64_t tdl_conn_write_buf_op(tdl_op *op, tdl_conn *c, tdl_buf *b) {
    op->u.io.done = 0;
    op->u.io.copy = NULL;
    if (!c || !b) return TDL_EINVAL;
    size_t n = b->len;
    if (op->kind == OP_OF_TASK && n > (1u << 30)) return TDL_EINVAL;
    if (n == 0) return tdl_pd_nothing(c->pd);
    begin(op, c, OF_CHAIN, b, n);
    op->u.io.chain = b;
    if (one_run(c)) {
        if (!(op->u.io.copy = tdl_sys.alloc(n))) return TDL_ENOMEM;
        tdl_buf_copy(b, 0, op->u.io.copy, n);
        begin(op, c, OF_COPY, op->u.io.copy, n);
    }
    return chain_done(op, tdl_pd_op(op, c->pd, PD_WRITE, false, &chain_class));
}

int64_t tdl_conn_writev(tdl_conn *c, const tdl_iovec *v, int n) {
    TDL_BLOCKING_FORM(tdl_conn_writev_op(op, c, v, n));
}

int64_t tdl_conn_write_buf(tdl_conn *c, tdl_buf *b) { TDL_BLOCKING_FORM(tdl_conn_write_buf_op(op, c, b)); }
