/* SPDX-License-Identifier: MIT
 *
 * Copying from one connection to another, and a file to a connection: one op
 * that goes from descriptor to descriptor. Each half is an operation of its own on the
 * read or the write direction, so deadlines, closing and other callers are as
 * with reads and writes.
 *
 * Where both ends have descriptors the bytes stay in the kernel: splice(2) through
 * a pipe of ours, sendfile(2). A descriptor that cannot says -EINVAL the first
 * time, and is read and written as usual from then on.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <string.h>

#include "net/net.h"
#include "net/tls.h"
#include "sys/sys.h"

enum { READING, WRITING };
enum { ROUND = 1 << 20, MEMORY = 64 * 1024 - (int)sizeof(tdl_block), FILE_ROUND = 1 << 20, SHELVES = 8, PAIRS = 4 /* on each */ };

typedef struct copy {
    tdl_conn *to, *from; /* from NULL: a file */
    int file;
    int64_t offset;   /* in the file; < 0: the file's own */
    int64_t left;     /* < 0: to the end */
    int64_t done;     /* has arrived */
    int pair[2];      /* the pipe; -1: none */
    size_t in_pipe;
    tdl_block *block; /* without a pipe */
    uint8_t stage;
    bool by_hand;     /* a file that sendfile does not take */
} copy;

/* -- Pipes ---------------------------------------------------------------------------- */

/* Empty ones that are kept, some for each P: who copies takes and gives back where nobody
 * else does, as a rule. */
static struct shelf {
    _Alignas(64) tdl_lock lock;
    uint32_t n; /* under the lock */
    int pair[PAIRS][2];
} kept[SHELVES] = {[0 ... SHELVES - 1] = {.lock = TDL_LOCK_INIT(RANK_POOL)}};
static _Atomic uint32_t nkept; /* on all shelves; relaxed: who looks is late at worst */

static struct shelf *my_shelf(void) {
    const tdl_p *p = at_load_rlx(&tdl_m_self()->p);
    return &kept[p ? (unsigned)p->id % SHELVES : 0];
}

static bool take_pair(int pair[2]) {
    struct shelf *s = my_shelf();
    bool got = false;
    tdl_lock_take(&s->lock);
    if (s->n) {
        memcpy(pair, s->pair[--s->n], sizeof s->pair[0]);
        got = true;
    }
    tdl_unlock(&s->lock);
    if (got) at_add_rlx(&nkept, (uint32_t)-1);
    return got || tdl_sys.pipe(pair) == 0;
}

static void close_pair(const int pair[2]) {
    tdl_sys.close(pair[0]);
    tdl_sys.close(pair[1]);
}

static void give_pair(const int pair[2]) {
    struct shelf *s = my_shelf();
    at_add_rlx(&nkept, 1); /* before it can be taken */
    tdl_lock_take(&s->lock);
    bool keep = s->n < PAIRS;
    if (keep) memcpy(s->pair[s->n++], pair, sizeof s->pair[0]);
    tdl_unlock(&s->lock);
    if (keep) return;
    at_add_rlx(&nkept, (uint32_t)-1);
    close_pair(pair);
}

void tdl_copy_conn_gone(void) {
    int pair[PAIRS][2];
    if (TDL_LIKELY(at_load_rlx(&nkept) == 0) || tdl_conn_live() != 0) return;
    for (struct shelf *s = kept; s < kept + SHELVES; s++) {
        tdl_lock_take(&s->lock);
        uint32_t n = s->n;
        memcpy(pair, s->pair, n * sizeof *pair);
        s->n = 0;
        tdl_unlock(&s->lock);
        if (n) at_add_rlx(&nkept, 0u - n);
        while (n) close_pair(pair[--n]);
    }
}

static bool takes_splice(const tdl_conn *c) { return c->kind == CONN_SOCKET || c->kind == CONN_FILE; }

/* -- Attempts ---------------------------------------------------------------------------- */

static size_t at_most(const copy *k, size_t n) { return k->left >= 0 && (uint64_t)k->left < n ? (size_t)k->left : n; }

static int64_t read_attempt(tdl_op *op) {
    copy *k = op->u.io.object;
    tdl_conn *c = k->from;
    size_t have = tdl_buffer_len(&c->in);
    int64_t r;
    if (k->pair[0] >= 0 && !takes_splice(c)) { /* it has been given TLS meanwhile */
        give_pair(k->pair);
        k->pair[0] = -1;
    }
    int received = tdl_pd_received(c->pd); /* by the back end: goes through memory */
    if (received == 0 && !have && k->pair[0] >= 0) return TDL_EAGAIN;
    if (k->pair[0] >= 0 && !have && received < 0) {
        do
            r = tdl_sys.splice(c->pd->fd, k->pair[1], at_most(k, ROUND));
        while (r == -EINTR);
        if (r > 0) k->in_pipe = (size_t)r;
        if (r == -EAGAIN) return TDL_EAGAIN;
        if (r != -EINVAL) return r;
        give_pair(k->pair); /* it cannot: nothing has happened */
        k->pair[0] = -1;
    }
    if (!k->block && !(k->block = tdl_block_new(MEMORY))) return TDL_ENOMEM;
    size_t n = at_most(k, k->block->cap);
    if (have) { /* left by a framed read */
        if (n > have) n = have;
        memcpy(k->block->data, tdl_buffer_bytes(&c->in), n);
        tdl_buffer_skip(&c->in, n);
        c->pd->dir[PD_READ].keep = tdl_buffer_len(&c->in) != 0;
        r = (int64_t)n;
    } else {
        do
            r = tdl_conn_take(c, k->block->data, n);
        while (r == -EINTR);
        if (r == -EAGAIN) return TDL_EAGAIN;
        op->u.io.drained = r > 0 && (size_t)r < n && tdl_conn_drained(c);
    }
    if (r > 0) k->block->end = (size_t)r;
    return r;
}

/* What is in the pipe goes through memory, where the other end does not take it so. */
static int64_t empty_pipe(copy *k) {
    if (!k->block && !(k->block = tdl_block_new(ROUND))) return TDL_ENOMEM;
    if (k->block->cap < k->in_pipe) return -EINVAL;
    int64_t r = 0;
    while (k->in_pipe && (r = tdl_sys.read(k->pair[0], k->block->data + k->block->end, k->in_pipe)) != 0) {
        if (r == -EINTR || r == -EAGAIN) continue; /* a lie: it is there */
        if (r < 0) return r;
        k->block->end += (size_t)r;
        k->in_pipe -= (size_t)r;
    }
    give_pair(k->pair);
    k->pair[0] = -1;
    return 0;
}

static int64_t write_memory(tdl_op *op, copy *k) {
    tdl_conn *c = k->to;
    op->u.io.buf = k->block->data;
    op->u.io.n = k->block->end;
    if (c->kind == CONN_MEMORY) return tdl_pipe_put(c, op);
    if (c->kind == CONN_TLS) return tdl_tls_write(op, c);
    while (op->u.io.done < op->u.io.n) {
        int64_t r = tdl_conn_put(c, op->u.io.buf + op->u.io.done, op->u.io.n - op->u.io.done);
        if (r == -EINTR) continue;
        if (r == -EAGAIN) return TDL_EAGAIN;
        if (r < 0) return r;
        op->u.io.done += (size_t)r;
    }
    return (int64_t)op->u.io.n;
}

static int64_t write_attempt(tdl_op *op) {
    copy *k = op->u.io.object;
    while (k->in_pipe) {
        int64_t r = takes_splice(k->to) ? tdl_sys.splice(k->pair[0], k->to->pd->fd, k->in_pipe) : -EINVAL;
        if (r == -EINTR) continue;
        if (r == -EAGAIN) return TDL_EAGAIN;
        if (r == -EINVAL && (r = empty_pipe(k)) == 0) break;
        if (r < 0) return r;
        k->in_pipe -= (size_t)r;
        k->done += r;
    }
    return k->block && k->block->end ? write_memory(op, k) : 0;
}

/* -- A file ------------------------------------------------------------------------------- */

static int64_t file_by_hand(tdl_op *op, copy *k) {
    for (;;) {
        if (k->block->end) {
            int64_t r = write_memory(op, k);
            if (r < 0) return r;
            k->done += r;
            if (k->left >= 0) k->left -= r;
            k->block->end = op->u.io.done = 0;
        }
        size_t n = at_most(k, k->block->cap);
        if (n == 0) return 0;
        int64_t r = k->offset >= 0 ? tdl_sys.pread(k->file, k->block->data, n, k->offset)
                                   : tdl_sys.read(k->file, k->block->data, n);
        if (r == -EINTR || (r == -EAGAIN && tdl_sys.owed && tdl_sys.owed())) continue; /* an injected one: it is there */
        if (r <= 0) return r;
        k->block->end = (size_t)r;
        if (k->offset >= 0) k->offset += r;
    }
}

static int64_t file_attempt(tdl_op *op) {
    copy *k = op->u.io.object;
    if (!takes_splice(k->to)) k->by_hand = true;
    while (!k->by_hand) {
        size_t n = at_most(k, FILE_ROUND);
        if (n == 0) return 0;
        int64_t r = tdl_sys.sendfile(k->to->pd->fd, k->file, k->offset >= 0 ? &k->offset : NULL, n);
        if (r == -EINTR) continue;
        if (r == -EAGAIN) return TDL_EAGAIN;
        if (r == -EINVAL || r == -ENOSYS) {
            k->by_hand = true;
            break;
        }
        if (r <= 0) return r;
        k->done += r;
        if (k->left >= 0) k->left -= r;
    }
    if (!k->block && !(k->block = tdl_block_new(MEMORY))) return TDL_ENOMEM;
    return file_by_hand(op, k);
}

/* -- From half to half ---------------------------------------------------------------------- */

static void let_go(tdl_op *op) {
    copy *k = op->u.io.copy;
    op->u.io.copy = NULL;
    if (k->pair[0] >= 0) {
        if (k->in_pipe)
            close_pair(k->pair);
        else
            give_pair(k->pair);
    }
    if (k->block) tdl_block_drop(k->block);
    tdl_sys.release(k);
}

static int64_t end(tdl_op *op, int64_t r) {
    copy *k = op->u.io.copy;
    int64_t done = k->done;
    let_go(op);
    op->extra = done;
    return r;
}

static const tdl_op_class copy_class;

static int64_t half(tdl_op *op, copy *k) {
    bool reading = k->stage == READING;
    op->u.io.object = k;
    op->u.io.done = 0;
    op->u.io.attempt = k->from ? reading ? read_attempt : write_attempt : file_attempt;
    return tdl_pd_op(op, reading ? k->from->pd : k->to->pd, reading ? PD_READ : PD_WRITE, false, &copy_class);
}

/* A half has come to r. */
static int64_t go_on(tdl_op *op, int64_t r) {
    copy *k = op->u.io.copy;
    for (;;) {
        if (r == TDL_PENDING) return r;
        if (k->stage == WRITING && k->block) {
            k->done += (int64_t)op->u.io.done; /* with an error, too */
            k->block->end = 0;
        }
        if (r < 0 || !k->from) return end(op, r < 0 ? r : 0);
        if (k->stage == READING) {
            if (r == 0) return end(op, 0);
            if (k->left >= 0) k->left -= r;
            k->stage = WRITING;
        } else {
            if (k->left == 0) return end(op, 0);
            k->stage = READING;
        }
        r = half(op, k);
    }
}

static int64_t finish(tdl_op *op) { return go_on(op, tdl_pd_finish(op)); }

static void abandon(tdl_op *op) {
    tdl_pd_abandon(op);
    let_go(op);
}

static const tdl_op_class copy_class = {"IO wait (copy)", finish, abandon};

static copy *begin(tdl_op *op, tdl_conn *to, tdl_conn *from, int64_t n) {
    copy *k = tdl_alloc_zeroed(sizeof *k);
    op->extra = 0;
    op->u.io.copy = k;
    if (!k) return NULL;
    k->to = to;
    k->from = from;
    k->left = n < 0 ? -1 : n;
    k->pair[0] = -1;
    return k;
}

int64_t tdl_conn_copy_op(tdl_op *op, tdl_conn *to, tdl_conn *from, int64_t n) {
    op->extra = 0;
    if (!to || !from) return TDL_EINVAL;
    int r = tdl_pd_nothing(to->pd); /* before it waits for what would come */
    if (r < 0 || n == 0) return r < 0 ? r : tdl_pd_nothing(from->pd);
    copy *k = begin(op, to, from, n);
    if (!k) return TDL_ENOMEM;
    if (takes_splice(to) && takes_splice(from) && !take_pair(k->pair)) k->pair[0] = -1;
    if (k->pair[0] >= 0) tdl_pd_plain(from->pd);
    return go_on(op, half(op, k));
}

int64_t tdl_conn_send_file_op(tdl_op *op, tdl_conn *to, int fd, int64_t offset, int64_t n) {
    op->extra = 0;
    if (!to || fd < 0) return TDL_EINVAL;
    if (n == 0) return tdl_pd_nothing(to->pd);
    copy *k = begin(op, to, NULL, n);
    if (!k) return TDL_ENOMEM;
    k->file = fd;
    k->offset = offset;
    k->stage = WRITING;
    return go_on(op, half(op, k));
}

static int64_t wait_for(tdl_op *op, int64_t r, int64_t *done) {
    if (r == TDL_PENDING) r = tdl_op_wait(op);
    if (done) *done = op->extra;
    return r;
}

int tdl_conn_copy(tdl_conn *to, tdl_conn *from, int64_t n, int64_t *copied) {
    int code;
    if (copied) *copied = 0;
    tdl_op *op = tdl_caller_op(&code);
    if (TDL_UNLIKELY(!op)) return code;
    return (int)wait_for(op, tdl_conn_copy_op(op, to, from, n), copied);
}

int tdl_conn_send_file(tdl_conn *c, int fd, int64_t offset, int64_t n, int64_t *sent) {
    int code;
    if (sent) *sent = 0;
    tdl_op *op = tdl_caller_op(&code);
    if (TDL_UNLIKELY(!op)) return code;
    return (int)wait_for(op, tdl_conn_send_file_op(op, c, fd, offset, n), sent);
}
