/* SPDX-License-Identifier: MIT
 *
 * Single flight. Under its lock: the list of flights, of which at most one with
 * the same key is not forgotten, and their queues. A flight is there from begin
 * to end; a list suffices, for it has only the keys worked on at one moment.
 */
#include "sync/sync.h"

#include <string.h>

#include "sys/pool.h"
#include "sys/sys.h"

struct flight {
    struct flight *next;
    int64_t ticket;
    const tdl_op *leader; /* only to be compared */
    bool forgotten;
    tdl_queue q;
    size_t n;
    char key[];
};

struct tdl_singleflight {
    tdl_lock lock;
    struct flight *flights;
    int64_t tickets; /* given out */
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_singleflight);

tdl_singleflight *tdl_singleflight_new(void) { return tdl_forked() ? NULL : tdl_pool_take(&pool); }

void tdl_singleflight_free(tdl_singleflight *sf) {
    if (sf && !tdl_forked()) tdl_pool_give(&pool, sf);
}

/* Under the lock. */
static struct flight *find(tdl_singleflight *sf, const void *key, size_t n) {
    struct flight *f = sf->flights;
    while (f && (f->forgotten || f->n != n || memcmp(f->key, key, n) != 0)) f = f->next;
    return f;
}

static struct flight *take_out(tdl_singleflight *sf, int64_t ticket) {
    for (struct flight **at = &sf->flights, *f; (f = *at) != NULL; at = &f->next) {
        if (f->ticket != ticket) continue;
        *at = f->next;
        return f;
    }
    return NULL;
}

/* -- Waiting ------------------------------------------------------------------------ */

static void leave(tdl_op *op) {
    tdl_singleflight *sf = op->node.object;
    tdl_lock_take(&sf->lock);
    tdl_queue_remove(&op->node);
    tdl_unlock(&sf->lock);
}

static int64_t finish(tdl_op *op) {
    if (op->result != 0) leave(op);
    return op->result;
}

static const tdl_op_class wait_class = {"singleflight wait", finish, leave};

int64_t tdl_singleflight_begin_op(tdl_op *op, tdl_singleflight *sf, const void *key, size_t n, int64_t deadline) {
    tdl_val_set_nil(&op->out);
    if (!sf || (!key && n > 0)) return TDL_EINVAL;
    if (n == 0) key = ""; /* for memcmp and memcpy */
    struct flight *mine = tdl_sys.alloc(sizeof *mine + n);
    if (!mine) return TDL_ENOMEM;
    tdl_lock_take(&sf->lock);
    struct flight *f = find(sf, key, n);
    if (!f) {
        *mine = (struct flight){.next = sf->flights, .ticket = ++sf->tickets, .leader = op, .n = n};
        memcpy(mine->key, key, n);
        sf->flights = mine;
        op->extra = mine->ticket;
        tdl_unlock(&sf->lock);
        return 1;
    }
    int r = f->leader == op ? TDL_EDEADLOCK : tdl_deadline_check(deadline);
    if (r == 0) r = tdl_may_wait(tdl_pool_bubble(&pool, sf));
    if (r == 0) {
        tdl_op_begin(op, &wait_class);
        op->node.object = sf;
        tdl_op_publish(op);
        tdl_queue_push(&f->q, &op->node);
    }
    tdl_unlock(&sf->lock);
    tdl_sys.release(mine);
    if (r != 0) return r;
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

int tdl_singleflight_begin_until(tdl_singleflight *sf, const void *key, size_t n, tdl_outcome *out, int64_t deadline) {
    if (!out) return TDL_EINVAL;
    int code;
    tdl_op *op = tdl_caller_op(&code);
    if (!op) return code;
    int64_t r = tdl_singleflight_begin_op(op, sf, key, n, deadline);
    if (r == TDL_PENDING) r = tdl_op_wait(op);
    *out = (tdl_outcome){op->out, r < 0 ? 0 : op->extra};
    tdl_val_set_nil(&op->out);
    return (int)r;
}

int tdl_singleflight_begin(tdl_singleflight *sf, const void *key, size_t n, tdl_outcome *out) {
    return tdl_singleflight_begin_until(sf, key, n, out, TDL_FOREVER);
}

/* -- Landing -------------------------------------------------------------------------- */

int tdl_singleflight_end(tdl_singleflight *sf, int64_t ticket, int result, const tdl_val *v) {
    if (!sf || (v && !tdl_val_for_all(v))) return TDL_EINVAL;
    TDL_REFUSE(sf);
    tdl_lock_take(&sf->lock);
    struct flight *f = take_out(sf, ticket);
    tdl_node *list = f ? tdl_queue_claim_all(&f->q) : NULL;
    tdl_unlock(&sf->lock);
    if (!f) return TDL_EINVAL;
    tdl_sys.release(f); /* no node is on its queue any more */
    int others = 0;
    for (tdl_node *n = list; n; n = list, others++) {
        list = n->next;
        if (v) tdl_val_copy(&n->op->out, v);
        n->op->extra = result;
        tdl_op_complete(n->op, n->was, 0);
    }
    return others;
}

int tdl_singleflight_forget(tdl_singleflight *sf, const void *key, size_t n) {
    if (!sf || (!key && n > 0)) return TDL_EINVAL;
    TDL_REFUSE(sf);
    tdl_lock_take(&sf->lock);
    struct flight *f = find(sf, n > 0 ? key : "", n);
    if (f) f->forgotten = true;
    tdl_unlock(&sf->lock);
    return f != NULL;
}

/* The work of one call of tdl_singleflight_do. */
struct work {
    tdl_at_exit exit;
    tdl_singleflight *sf;
    int64_t ticket;
};

static void left(tdl_at_exit *a) {
    struct work *w = TDL_CONTAINER(a, struct work, exit);
    tdl_singleflight_end(w->sf, w->ticket, TDL_ECANCELED, NULL);
}

/* -- The whole -------------------------------------------------------------------------- */

int tdl_singleflight_do_until(tdl_singleflight *sf, const void *key, size_t n, int (*fn)(void *, tdl_val *), void *arg,
                              tdl_val *v, int *shared, int64_t deadline) {
    if (v) tdl_val_set_nil(v);
    if (shared) *shared = 0;
    if (!fn) return TDL_EINVAL;
    tdl_outcome out;
    int others = 1, r = tdl_singleflight_begin_until(sf, key, n, &out, deadline);
    if (r < 0) return r;
    int result = (int)out.extra;
    if (r == 1) {
        struct work w = {.sf = sf, .ticket = out.extra};
        tdl_exit_push(&w.exit, left);
        result = fn(arg, &out.val);
        tdl_exit_pop(&w.exit);
        if (!tdl_val_for_all(&out.val)) {
            tdl_val_set_nil(&out.val);
            result = TDL_EINVAL;
        }
        others = tdl_singleflight_end(sf, w.ticket, result, &out.val);
    }
    if (shared) *shared = others;
    if (v)
        *v = out.val;
    else
        tdl_val_clear(&out.val);
    return result;
}

int tdl_singleflight_do(tdl_singleflight *sf, const void *key, size_t n, int (*fn)(void *, tdl_val *), void *arg,
                        tdl_val *v, int *shared) {
    return tdl_singleflight_do_until(sf, key, n, fn, arg, v, shared, TDL_FOREVER);
}
