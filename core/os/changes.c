/* SPDX-License-Identifier: MIT
 *
 * Changes of files, by libuv's uv_fs_event on the loop's thread.
 *
 * Under the watch's lock: opened and code, closed, waiters, the changes that nobody
 * has taken yet. The loop's thread puts a change there and wakes one who waits; he takes
 * it, or, where another was quicker, waits on. refs: the handle, and the loop until it has
 * closed its own.
 */
#include "os/changes.h"

#include <string.h>

#include "os/loop.h"
#include "sys/pool.h"
#include "sys/service.h"

enum { MOST_CHANGES = 4096 };

typedef struct change {
    struct change *next;
    int what;
    char name[];
} change;

struct tdl_watch {
    tdl_lock lock;
    uint8_t opened, closed, lost;
    int code; /* how the opening went */
    tdl_queue waiters;
    change *first, **end; /* end NULL: there was none yet */
    int n;
    char *path; /* until it is opened */
    _Atomic uint32_t refs; /* the last one gives the memory back; seq */
    uv_fs_event_t event;
    tdl_loop_call open, close;
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_watch);

int64_t tdl_watch_live(void) { return tdl_pool_live(&pool); }

static void unref(tdl_watch *w) {
    if (at_sub_seq(&w->refs, 1) != 1) return;
    while (w->first) {
        change *next = w->first->next;
        tdl_sys.release(w->first);
        w->first = next;
    }
    tdl_sys.release(w->path);
    memset((char *)w + sizeof w->lock, 0, sizeof *w - sizeof w->lock);
    tdl_pool_give(&pool, w);
}

/* -- On the loop's thread ----------------------------------------------------------------- */

static void on_change(uv_fs_event_t *h, const char *name, int events, int status) {
    tdl_watch *w = TDL_CONTAINER(h, tdl_watch, event);
    size_t n = name ? strlen(name) : 0;
    int what = (events & UV_RENAME ? TDL_WATCH_RENAME : 0) | (events & UV_CHANGE ? TDL_WATCH_CHANGE : 0);
    change *c = status < 0 ? NULL : tdl_sys.alloc(sizeof *c + n + 1);
    if (c) {
        c->next = NULL;
        c->what = what;
        if (n) memcpy(c->name, name, n);
        c->name[n] = '\0';
    }
    uint32_t was = 0;
    tdl_lock_take(&w->lock);
    if (c && w->n < MOST_CHANGES && !w->closed) {
        if (!w->first) w->end = &w->first;
        *w->end = c;
        w->end = &c->next;
        w->n++;
        c = NULL;
    } else {
        w->lost = 1;
    }
    tdl_node *node = tdl_queue_claim(&w->waiters, &was);
    tdl_unlock(&w->lock);
    tdl_sys.release(c);
    if (node) tdl_op_complete(node->op, was, 0);
}

static void let_go(uv_handle_t *h) { unref(TDL_CONTAINER(h, tdl_watch, event)); }

static void close_event(tdl_loop_call *c, uv_loop_t *loop) {
    (void)loop;
    tdl_watch *w = TDL_CONTAINER(c, tdl_watch, close);
    uv_close((uv_handle_t *)&w->event, let_go);
}

static void open_event(tdl_loop_call *c, uv_loop_t *loop) {
    tdl_watch *w = TDL_CONTAINER(c, tdl_watch, open);
    uv_fs_event_init(loop, &w->event); /* does nothing that could fail */
    int r = tdl_service(SERVICE_CHANGES, NULL);
    if (r == 0) r = uv_fs_event_start(&w->event, on_change, w->path, 0);
    tdl_lock_take(&w->lock);
    w->opened = 1;
    w->code = r;
    tdl_node *list = tdl_queue_claim_all(&w->waiters);
    tdl_unlock(&w->lock);
    tdl_complete_all(list, 0);
}

/* -- Opening and closing --------------------------------------------------------------------- */

static int close_watch(tdl_watch *w) {
    tdl_lock_take(&w->lock);
    int r = w->closed ? TDL_ECLOSED : 0;
    w->closed = 1;
    tdl_node *list = tdl_queue_claim_all(&w->waiters);
    tdl_unlock(&w->lock);
    tdl_complete_all(list, TDL_ECLOSED);
    if (r < 0) return r;
    w->close.fn = close_event;
    tdl_loop_send(&w->close); /* after the opening, which was sent before */
    tdl_loop_active(-1);
    return 0;
}

static void leave(tdl_op *op, tdl_watch *w) {
    tdl_lock_take(&w->lock);
    tdl_queue_remove(&op->node);
    tdl_unlock(&w->lock);
}

static int64_t open_finish(tdl_op *op) {
    tdl_watch *w = op->node.object;
    leave(op, w);
    int64_t r = op->result == 0 ? w->code : op->result;
    if (r < 0)
        tdl_watch_free(w);
    else
        tdl_val_set_ptr(&op->out, w);
    return r;
}

static void open_abandon(tdl_op *op) {
    leave(op, op->node.object);
    tdl_watch_free(op->node.object);
}

static const tdl_op_class open_class = {"watch", open_finish, open_abandon};

int64_t tdl_watch_open_op(tdl_op *op, const char *path, int64_t deadline) {
    tdl_val_set_nil(&op->out);
    if (!path || !*path) return TDL_EINVAL;
    int r = tdl_deadline_check(deadline);
    if (r == 0) r = tdl_loop_ready();
    if (r < 0) return r;
    size_t n = strlen(path) + 1;
    tdl_watch *w = tdl_pool_take(&pool);
    if (!w) return TDL_ENOMEM;
    at_store_rlx(&w->refs, 1);
    if (!(w->path = tdl_sys.alloc(n))) {
        unref(w);
        return TDL_ENOMEM;
    }
    memcpy(w->path, path, n);
    at_store_rlx(&w->refs, 2);
    tdl_loop_active(1);
    tdl_op_begin(op, &open_class);
    op->node.object = w;
    tdl_lock_take(&w->lock);
    tdl_op_publish(op);
    tdl_queue_push(&w->waiters, &op->node);
    tdl_unlock(&w->lock);
    w->open.fn = open_event;
    tdl_loop_send(&w->open);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

int tdl_watch_open(const char *path, tdl_watch **w, int64_t deadline) {
    int code;
    if (!w) return TDL_EINVAL;
    *w = NULL;
    tdl_op *op = tdl_caller_op(&code);
    if (TDL_UNLIKELY(!op)) return code;
    int64_t r = tdl_watch_open_op(op, path, deadline);
    if (r == TDL_PENDING) r = tdl_op_wait(op);
    if (r == 0) *w = tdl_val_ptr(&op->out);
    return (int)r;
}

int tdl_watch_close(tdl_watch *w) {
    if (tdl_forked()) return TDL_EFORKED;
    return w ? close_watch(w) : TDL_EINVAL;
}

void tdl_watch_free(tdl_watch *w) {
    if (!w || tdl_forked()) return;
    close_watch(w);
    unref(w);
}

/* -- The next one --------------------------------------------------------------------------------- */

/* Under the lock: 0 when there is none. */
static int64_t take(tdl_op *op, tdl_watch *w, change **out) {
    (void)op;
    *out = NULL;
    if (w->closed) return TDL_ECLOSED;
    change *c = w->first;
    if (c) {
        w->first = c->next;
        w->n--;
        *out = c;
        return c->what;
    }
    if (!w->lost) return 0;
    w->lost = 0;
    return TDL_WATCH_LOST;
}

static int64_t hand_out(tdl_op *op, int64_t what, change *c) {
    char *buf = op->u.io.buf;
    size_t size = op->u.io.n, n = c ? strlen(c->name) : 0;
    if (size) {
        if (n >= size) n = size - 1;
        if (n) memcpy(buf, c->name, n);
        buf[n] = '\0';
    }
    tdl_sys.release(c);
    return what;
}

static int64_t next_finish(tdl_op *op) {
    tdl_watch *w = op->node.object;
    change *c;
    if (op->result < 0) {
        leave(op, w);
        return op->result;
    }
    tdl_lock_take(&w->lock);
    int64_t r = take(op, w, &c);
    if (r == 0) {
        tdl_op_publish(op);
        tdl_queue_push(&w->waiters, &op->node);
    }
    tdl_unlock(&w->lock);
    if (r != 0) return r < 0 ? r : hand_out(op, r, c);
    tdl_op_arm(op, op->deadline);
    return TDL_PENDING;
}

/* A change that was to be its own is another's. */
static void next_abandon(tdl_op *op) {
    tdl_watch *w = op->node.object;
    uint32_t was = 0;
    tdl_lock_take(&w->lock);
    tdl_queue_remove(&op->node);
    tdl_node *node = op->result == 0 && w->first ? tdl_queue_claim(&w->waiters, &was) : NULL;
    tdl_unlock(&w->lock);
    if (node) tdl_op_complete(node->op, was, 0);
}

static const tdl_op_class next_class = {"change", next_finish, next_abandon};

int64_t tdl_watch_next_op(tdl_op *op, tdl_watch *w, char *buf, size_t size, int64_t deadline) {
    change *c;
    if (!w || (!buf && size)) return TDL_EINVAL;
    tdl_val_set_nil(&op->out);
    if (tdl_m_self()->bubble) return TDL_ESIM;
    op->u.io.buf = buf;
    op->u.io.n = size;
    tdl_lock_take(&w->lock);
    int64_t r = take(op, w, &c);
    int no = r == 0 ? tdl_deadline_check(deadline) : 0;
    if (r != 0 || no < 0) {
        tdl_unlock(&w->lock);
        return no < 0 ? no : r < 0 ? r : hand_out(op, r, c);
    }
    tdl_op_begin(op, &next_class);
    op->node.object = w;
    tdl_op_publish(op);
    tdl_queue_push(&w->waiters, &op->node);
    tdl_unlock(&w->lock);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

int tdl_watch_next(tdl_watch *w, char *buf, size_t size, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_watch_next_op(op, w, buf, size, deadline));
}
