/* SPDX-License-Identifier: MIT
 *
 * The weighted semaphore, first in, first out: a large request at the head is
 * not overtaken by small ones (Go's semaphore.Weighted).
 *
 * Under its lock: whoever heads the queue wants more than there are permits.
 */
#include "sync/sync.h"
#include "sys/pool.h"

struct tdl_sema {
    tdl_lock lock;
    uint64_t permits;
    tdl_queue q; /* val.u.i of a node: how many it wants */
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_sema);

tdl_sema *tdl_sema_new(uint32_t permits) {
    tdl_sema *s = tdl_forked() ? NULL : tdl_pool_take(&pool);
    if (s) s->permits = permits;
    return s;
}

void tdl_sema_free(tdl_sema *s) {
    if (s && !tdl_forked()) tdl_pool_give(&pool, s);
}

/* Grants from the head while there are enough permits; called with the lock,
 * returns without it. */
static void grant(tdl_sema *s) {
    tdl_node *list = NULL, **end = &list, *n;
    while ((n = s->q.head) != NULL && (uint64_t)n->val.u.i <= s->permits) {
        tdl_queue_remove(n);
        if ((n->was = tdl_op_claim(n->op)) == 0) continue; /* it gave up, and will look after the next */
        s->permits -= (uint64_t)n->val.u.i;
        n->next = NULL;
        *end = n;
        end = &n->next;
    }
    tdl_unlock(&s->lock);
    while ((n = list) != NULL) {
        list = n->next;
        tdl_op_complete(n->op, n->was, 0);
    }
}

/* Who gave up may have headed the queue: then others may go ahead. */
static void leave(tdl_op *op) {
    tdl_sema *s = op->node.object;
    tdl_lock_take(&s->lock);
    tdl_queue_remove(&op->node);
    grant(s);
}

static int64_t finish(tdl_op *op) {
    if (op->result != 0) leave(op);
    return op->result;
}

static void abandon(tdl_op *op) {
    if (op->result < 0)
        leave(op);
    else
        tdl_sema_release(op->node.object, (uint32_t)op->node.val.u.i);
}

static const tdl_op_class acquire_class = {"semaphore acquire", finish, abandon};

int64_t tdl_sema_acquire_op(tdl_op *op, tdl_sema *s, uint32_t n, int64_t deadline) {
    if (!s) return TDL_EINVAL;
    tdl_lock_take(&s->lock);
    if (!s->q.head && s->permits >= n) {
        s->permits -= n;
        tdl_unlock(&s->lock);
        return 0;
    }
    int r = tdl_deadline_check(deadline);
    if (r == 0) r = tdl_may_wait(tdl_pool_bubble(&pool, s));
    if (r != 0) {
        tdl_unlock(&s->lock);
        return r;
    }
    tdl_op_begin(op, &acquire_class);
    op->node.object = s;
    op->node.val.u.i = n;
    tdl_op_publish(op);
    tdl_queue_push(&s->q, &op->node);
    tdl_unlock(&s->lock);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

int tdl_sema_acquire_until(tdl_sema *s, uint32_t n, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_sema_acquire_op(op, s, n, deadline));
}

int tdl_sema_acquire(tdl_sema *s, uint32_t n) { return tdl_sema_acquire_until(s, n, TDL_FOREVER); }

int tdl_sema_try_acquire(tdl_sema *s, uint32_t n) {
    if (!s) return TDL_EINVAL;
    TDL_REFUSE(s);
    tdl_lock_take(&s->lock);
    bool got = !s->q.head && s->permits >= n;
    if (got) s->permits -= n;
    tdl_unlock(&s->lock);
    return got ? 0 : TDL_EAGAIN;
}

int tdl_sema_release(tdl_sema *s, uint32_t n) {
    if (!s) return TDL_EINVAL;
    TDL_REFUSE(s);
    tdl_lock_take(&s->lock);
    s->permits += n;
    grant(s);
    return 0;
}
