/* SPDX-License-Identifier: MIT
 * Framed reads: tdl_conn_fill, peek, skip. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <string.h>

#include "io/buf.h"
#include "net/net.h"
#include "sys/sys.h"

/* Blocks of the usual sizes. */
enum {
    LIMIT = 1 << 30,
    SMALL = 4096 - (int)sizeof(tdl_block),
    MIDDLE = 16384 - (int)sizeof(tdl_block),
    LARGE = 65536 - (int)sizeof(tdl_block)
};

/* -- Is there a frame? -------------------------------------------------------------- */

/* Its length, TDL_EAGAIN (not yet) or TDL_ETOOLONG. done: bytes looked at by an
 * earlier attempt of this op. */
static int64_t frame(tdl_op *op, const tdl_buffer *b) {
    size_t have = tdl_buffer_len(b), limit = op->u.io.n;
    switch (op->u.io.how) {
    case TDL_FILL_SOME: return have ? (int64_t)(have < limit ? have : limit) : TDL_EAGAIN;
    case TDL_FILL_EXACT: return have >= limit ? (int64_t)limit : TDL_EAGAIN;
    case TDL_FILL_LINE: {
        size_t scan = have < limit ? have : limit;
        const char *bytes = tdl_buffer_bytes(b);
        const char *nl = scan > op->u.io.done
                             ? memchr(bytes + op->u.io.done, '\n', scan - op->u.io.done)
                             : NULL;
        op->u.io.done = scan;
        if (nl) return nl - bytes + 1;
        return have >= limit ? TDL_ETOOLONG : TDL_EAGAIN;
    }
    case TDL_FILL_UNTIL: {
        size_t scan = have < limit ? have : limit, d = op->u.io.ndelim;
        const char *bytes = tdl_buffer_bytes(b);
        size_t from = op->u.io.done >= d ? op->u.io.done - d + 1 : 0; /* it may have begun before */
        const char *hit = scan > from ? memmem(bytes + from, scan - from, op->u.io.buf, d) : NULL;
        op->u.io.done = scan;
        if (hit) return hit - bytes + (int64_t)d;
        return have >= limit ? TDL_ETOOLONG : TDL_EAGAIN;
    }
    default: return have > limit ? TDL_ETOOLONG : TDL_EAGAIN;
    }
}

/* The stream has ended and there is no frame. */
static int64_t last_frame(tdl_op *op, const tdl_buffer *b) {
    size_t have = tdl_buffer_len(b);
    switch (op->u.io.how) {
    case TDL_FILL_SOME: return 0;
    case TDL_FILL_EXACT:
    case TDL_FILL_UNTIL: return TDL_EEOF;
    case TDL_FILL_LINE: return have ? (int64_t)have : TDL_EEOF;
    default: return (int64_t)have;
    }
}

/* How much room to read into: never what a caller's limit alone asks for, but
 * for a message, of which what finds no room is lost. */
static size_t step(tdl_op *op, const tdl_conn *c) {
    const tdl_buffer *b = &c->in;
    size_t limit = op->u.io.n, have = tdl_buffer_len(b);
    if (c->kind == CONN_PACKET) return limit;
    if (op->u.io.how == TDL_FILL_LINE || op->u.io.how == TDL_FILL_UNTIL || have == 0) return limit < LARGE ? SMALL : MIDDLE;
    return have < LARGE ? SMALL : LARGE;
}

static int64_t fill_attempt(tdl_op *op) {
    tdl_conn *c = op->u.io.object;
    tdl_buffer *b = &c->in;
    bool drained = false;
    for (;;) {
        int64_t r = frame(op, b);
        if (r != TDL_EAGAIN) {
            op->u.io.drained = drained;
            return r;
        }
        size_t room = drained ? 0 : tdl_buffer_room(b, step(op, c));
        if (!drained && room == 0) return TDL_ENOMEM;
        if (c->kind == CONN_PACKET && room > op->u.io.n) room = op->u.io.n;
        if (c->kind == CONN_MEMORY && op->u.io.how <= TDL_FILL_EXACT && room > op->u.io.n - tdl_buffer_len(b))
            room = op->u.io.n - tdl_buffer_len(b); /* a write there is over when it was asked for */
        int64_t n = drained ? -EAGAIN : tdl_conn_take(c, tdl_buffer_end(b), room);
        if (n == -EINTR) continue;
        if (n == 0) r = last_frame(op, b);
        if (n < 0 && n != -EAGAIN) r = n;
        if (n == TDL_ETRUNCATED) tdl_buffer_add(b, room);
        if (n > 0) tdl_buffer_add(b, (size_t)n);
        tdl_buffer_trim(b);
        c->pd->dir[PD_READ].keep = tdl_buffer_len(b) != 0;
        op->u.io.drained = drained;
        if (n <= 0) return n == -EAGAIN ? TDL_EAGAIN : r;
        drained = (size_t)n < room && tdl_conn_drained(c);
    }
}

/* -- The op ---------------------------------------------------------------------------- */

static int64_t fill_done(tdl_op *op, int64_t r) {
    if (r == TDL_PENDING) return r;
    if (op->u.io.how == TDL_FILL_UNTIL) {
        tdl_sys.release(op->u.io.copy);
        op->u.io.copy = NULL;
    }
    tdl_conn *c = op->u.io.object;
    tdl_val_set_nil(&op->out);
    op->extra = 0;
    if (op->u.io.held) {
        tdl_val_set_ptr(&op->out, tdl_buffer_bytes(&c->in));
        op->extra = (int64_t)tdl_buffer_len(&c->in);
    }
    return r;
}

static int64_t fill_finish(tdl_op *op) { return fill_done(op, tdl_pd_finish(op)); }

static void fill_abandon(tdl_op *op) {
    tdl_pd_abandon(op);
    if (op->u.io.how == TDL_FILL_UNTIL) tdl_sys.release(op->u.io.copy);
}

static const tdl_op_class fill_class = {"IO wait (read)", fill_finish, fill_abandon};

int64_t tdl_conn_fill_op(tdl_op *op, tdl_conn *c, int how, size_t limit) {
    op->extra = 0;
    if (!c || how < TDL_FILL_SOME || how > TDL_FILL_ALL || limit < 1 || limit > LIMIT) return TDL_EINVAL;
    if (c->kind == CONN_PACKET && how != TDL_FILL_SOME) return TDL_EINVAL;
    op->u.io.object = c;
    op->u.io.attempt = fill_attempt;
    op->u.io.how = (uint8_t)how;
    op->u.io.n = limit;
    op->u.io.done = 0;
    int64_t r = tdl_pd_op(op, c->pd, PD_READ, true, &fill_class);
    return fill_done(op, r);
}

int64_t tdl_conn_fill_until_op(tdl_op *op, tdl_conn *c, const void *delim, size_t n, size_t limit) {
    op->extra = 0;
    if (!c || !delim || n < 1 || n > UINT8_MAX || limit < n || limit > LIMIT || c->kind == CONN_PACKET)
        return TDL_EINVAL;
    char *copy = NULL;
    if (op->kind == OP_OF_TASK) { /* the caller's goes away */
        if (!(copy = tdl_sys.alloc(n))) return TDL_ENOMEM;
        memcpy(copy, delim, n);
        delim = copy;
    }
    op->u.io.object = c;
    op->u.io.attempt = fill_attempt;
    op->u.io.how = TDL_FILL_UNTIL;
    op->u.io.buf = (char *)(uintptr_t)delim; /* only read */
    op->u.io.ndelim = (uint8_t)n;
    op->u.io.copy = copy;
    op->u.io.n = limit;
    op->u.io.done = 0;
    int64_t r = tdl_pd_op(op, c->pd, PD_READ, true, &fill_class);
    return fill_done(op, r);
}

int64_t tdl_conn_fill_until(tdl_conn *c, const void *delim, size_t n, size_t limit) {
    TDL_BLOCKING_FORM(tdl_conn_fill_until_op(op, c, delim, n, limit));
}

int64_t tdl_conn_fill(tdl_conn *c, int how, size_t limit) {
    TDL_BLOCKING_FORM(tdl_conn_fill_op(op, c, how, limit));
}

/* -- Taking the bytes --------------------------------------------------------------------- */

/* A goroutine or thread holds by its op; a host by being there at all, since
 * the outcome told its task what it holds. */
static bool holds(tdl_conn *c) {
    tdl_m *m = tdl_m_self();
    return tdl_pd_holds(c->pd, PD_READ, at_load_rlx(&m->deny) ? NULL : m->g ? &m->g->op : &m->op);
}

const char *tdl_conn_peek(tdl_conn *c, size_t *n) {
    bool mine = c && holds(c);
    if (n) *n = mine ? tdl_buffer_len(&c->in) : 0;
    return mine ? tdl_buffer_bytes(&c->in) : NULL;
}

int tdl_conn_take_buf(tdl_conn *c, size_t n, tdl_buf *to) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!c || !to || !holds(c) || n > tdl_buffer_len(&c->in)) return TDL_EINVAL;
    int r = n ? tdl_buf_add(to, c->in.block, tdl_buffer_bytes(&c->in), n) : 0;
    return r < 0 ? r : tdl_conn_skip(c, n);
}

int tdl_conn_skip(tdl_conn *c, size_t n) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!c || !holds(c) || n > tdl_buffer_len(&c->in)) return TDL_EINVAL;
    tdl_buffer_skip(&c->in, n);
    bool left = tdl_buffer_len(&c->in) != 0;
    c->pd->dir[PD_READ].keep = left;
    return tdl_pd_unhold(c->pd, PD_READ, left);
}
