/* SPDX-License-Identifier: MIT
 *
 * In-memory pipes: two connections, each the other's peer, with no descriptor
 * of the system. What one end writes lies in its half until the other reads it;
 * an end's poll descriptor gets its events from the other end.
 *
 * Under the pipe's lock:
 * half[e] holds what end e has written. Unbuffered (capacity 0), all of it is of
 * the one write in progress, which is over when the half is empty, and takes
 * back what was not read when it fails.
 */
#include <errno.h>
#include <string.h>

#include "net/net.h"
#include "sys/pool.h"
#include "sys/sys.h"

enum { CHUNK = 64 * 1024 }; /* of an unbuffered write, at a time */

struct tdl_pipe {
    tdl_lock lock;
    int refs;
    size_t capacity;
    struct half {
        tdl_buffer bytes;
        bool no_writer, no_reader;
        int told_reader, told_writer; /* < 0: what the other end's close says, see tdl_conn_close_with */
    } half[2];
    bool closed[2]; /* the end: an attempt that is still under way finds nothing */
    uint64_t token[2]; /* the ends' descriptors; 0: closed */
};

static tdl_pool pool = TDL_POOL_OF(struct tdl_pipe, RANK_PIPE);

/* -- Life ----------------------------------------------------------------------- */

static void drop(struct tdl_pipe *p) {
    tdl_lock_take(&p->lock);
    bool last = --p->refs == 0;
    tdl_unlock(&p->lock);
    if (!last) return;
    tdl_buffer_free(&p->half[0].bytes);
    tdl_buffer_free(&p->half[1].bytes);
    tdl_pool_give(&pool, p);
}

void tdl_pipe_release(tdl_conn *c) { drop(c->pipe); }

static void notify(uint64_t token, int what) {
    if (token) tdl_pd_event(token, what);
}

/* Both ways through this end are over. */
static void closing(void *object) {
    tdl_conn *c = object;
    struct tdl_pipe *p = c->pipe;
    tdl_lock_take(&p->lock);
    p->half[c->end].no_writer = true;
    p->half[!c->end].no_reader = true;
    p->closed[c->end] = true;
    p->token[c->end] = 0;
    uint64_t peer = p->token[!c->end];
    tdl_unlock(&p->lock);
    notify(peer, PD_READABLE | PD_WRITABLE);
}

/* An unbuffered write takes back what nobody has read. */
static void failed(void *object, tdl_op *op, int64_t error) {
    (void)error;
    tdl_conn *c = object;
    struct tdl_pipe *p = c->pipe;
    if (op->u.io.dir != PD_WRITE || p->capacity) return;
    tdl_lock_take(&p->lock);
    op->u.io.done -= tdl_buffer_len(&p->half[c->end].bytes);
    tdl_buffer_free(&p->half[c->end].bytes);
    tdl_unlock(&p->lock);
    c->pd->dir[PD_WRITE].ready = 1; /* for the next, since the half is empty now */
}

static int make_end(tdl_conn **out, tdl_poller *poller, struct tdl_pipe *p, int end) {
    static const tdl_pd_kind kind = {.closing = closing, .failed = failed};
    tdl_conn *c = tdl_conn_alloc(CONN_MEMORY);
    if (!c) return TDL_ENOMEM;
    c->pipe = p;
    c->end = end != 0;
    tdl_lock_take(&p->lock);
    p->refs++;
    tdl_unlock(&p->lock);
    int r = tdl_pd_open(&c->pd, poller, -1, &kind, c);
    if (r < 0) {
        drop(p);
        tdl_conn_dealloc(c);
        return r;
    }
    uint64_t token = tdl_pd_token(c->pd);
    tdl_lock_take(&p->lock);
    if (!p->closed[end]) p->token[end] = token;
    tdl_unlock(&p->lock);
    *out = c;
    return 0;
}

int tdl_pipe_new(size_t capacity, tdl_conn **a, tdl_conn **b) {
    int r = 0;
    if (!a || !b || a == b) return TDL_EINVAL;
    *a = *b = NULL;
    if (capacity > ((size_t)1 << 30)) return TDL_EINVAL;
    tdl_poller *poller = tdl_my_poller(&r);
    if (!poller) return r;
    struct tdl_pipe *p = tdl_pool_take(&pool);
    if (!p) return TDL_ENOMEM;
    p->capacity = capacity;
    p->refs = 1; /* ours */
    if ((r = make_end(a, poller, p, 0)) == 0 && (r = make_end(b, poller, p, 1)) < 0) {
        tdl_conn_free(*a);
        *a = NULL;
    }
    drop(p);
    return r;
}

/* -- Bytes ------------------------------------------------------------------------- */

int64_t tdl_pipe_take(tdl_conn *c, void *buf, size_t n) {
    struct tdl_pipe *p = c->pipe;
    struct half *h = &p->half[!c->end];
    uint64_t writer = 0;
    int64_t r;
    tdl_lock_take(&p->lock);
    size_t have = tdl_buffer_len(&h->bytes);
    if (h->no_reader) {
        r = p->closed[c->end] ? -EAGAIN : 0;
    } else if (have) {
        if (n > have) n = have;
        memcpy(buf, tdl_buffer_bytes(&h->bytes), n);
        tdl_buffer_skip(&h->bytes, n);
        /* a writer waits only for an empty half, or behind a full one */
        if (p->capacity ? have == p->capacity : n == have) writer = p->token[!c->end];
        r = (int64_t)n;
    } else {
        r = h->no_writer ? h->told_reader : -EAGAIN;
    }
    tdl_unlock(&p->lock);
    notify(writer, PD_WRITABLE);
    return r;
}

/* Puts what there is room for; under the lock. How much, or TDL_ENOMEM. */
static int64_t fill(struct half *h, size_t room, tdl_op *op) {
    size_t n = op->u.io.n - op->u.io.done;
    if (n > room) n = room;
    if (n == 0) return 0;
    if (tdl_buffer_room(&h->bytes, n) == 0) return TDL_ENOMEM;
    memcpy(tdl_buffer_end(&h->bytes), op->u.io.buf + op->u.io.done, n);
    tdl_buffer_add(&h->bytes, n);
    op->u.io.done += n;
    return (int64_t)n;
}

int64_t tdl_pipe_put(tdl_conn *c, tdl_op *op) {
    struct tdl_pipe *p = c->pipe;
    struct half *h = &p->half[c->end];
    uint64_t reader = 0;
    int64_t r = TDL_EAGAIN, put = 0;
    tdl_lock_take(&p->lock);
    size_t have = tdl_buffer_len(&h->bytes);
    bool whole = op->u.io.done == op->u.io.n;
    if (p->closed[c->end])
        r = TDL_EAGAIN;
    else if (h->no_writer || h->no_reader)
        r = whole && have == 0 ? (int64_t)op->u.io.n : h->told_writer ? h->told_writer : -EPIPE;
    else if (p->capacity)
        put = fill(h, p->capacity - have, op);
    else if (have == 0 && !whole)
        put = fill(h, CHUNK, op);
    else if (have == 0)
        r = (int64_t)op->u.io.n;
    if (put > 0) reader = p->token[!c->end];
    if (put < 0) r = put;
    if (p->capacity && r == TDL_EAGAIN && op->u.io.done == op->u.io.n) r = (int64_t)op->u.io.n;
    tdl_unlock(&p->lock);
    notify(reader, PD_READABLE);
    return r;
}

int tdl_conn_close_with(tdl_conn *c, int code) {
    if (tdl_forked()) return TDL_EFORKED;
    static const int taken[] = { /* they say something of the caller, or of the op */
        TDL_ECANCELED, TDL_EAGAIN, TDL_EINVAL, TDL_EFORKED, TDL_EBUSY, TDL_EHOST, TDL_EDEADLOCK, TDL_ESYSTEM, TDL_ESIM,
        TDL_ETRUNCATED, TDL_PENDING, -EAGAIN, -EINTR};
    if (!c || code > 0) return TDL_EINVAL;
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (code == taken[i]) return TDL_EINVAL;
    int r = tdl_pd_enter_plain(c->pd);
    if (r < 0) return r;
    if (c->kind != CONN_MEMORY) {
        tdl_pd_leave_plain(c->pd);
        return -EOPNOTSUPP;
    }
    struct tdl_pipe *p = c->pipe;
    tdl_lock_take(&p->lock);
    struct half *out = &p->half[c->end], *in = &p->half[!c->end];
    if (!out->no_writer && !out->no_reader) out->told_reader = code;
    if (!in->no_writer && !in->no_reader) in->told_writer = code;
    tdl_unlock(&p->lock);
    r = tdl_conn_close(c);
    tdl_pd_leave_plain(c->pd);
    return r;
}

int tdl_io_pipe(tdl_conn **r, tdl_conn **w) {
    int code = tdl_pipe_new(0, r, w);
    if (code < 0) return code;
    struct half *back = &(*r)->pipe->half[(*r)->end];
    tdl_lock_take(&(*r)->pipe->lock);
    back->no_writer = back->no_reader = true;
    tdl_unlock(&(*r)->pipe->lock);
    return 0;
}

int tdl_pipe_shut(tdl_conn *c, int how) {
    struct tdl_pipe *p = c->pipe;
    tdl_lock_take(&p->lock);
    if (how == SHUT_WR) p->half[c->end].no_writer = true;
    if (how == SHUT_RD) p->half[!c->end].no_reader = true;
    uint64_t peer = p->token[!c->end], self = p->token[c->end];
    tdl_unlock(&p->lock);
    notify(peer, PD_READABLE | PD_WRITABLE);
    notify(self, PD_READABLE | PD_WRITABLE); /* those of this end who wait, too */
    return 0;
}
