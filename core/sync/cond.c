/* SPDX-License-Identifier: MIT
 *
 * The condition: a queue of waiters, first in, first out. Waiting has two
 * stages, in one op: on this queue, then for the mutex; with the mutex held it
 * returns in any case, so the second stage can neither time out nor be
 * cancelled (shielded). The first leaves the second, in u.blocked: the mutex
 * as object, and why, what it was ended by.
 *
 * Under its lock: a node is on q until a signal, a deadline or a cancel.
 */
#include "sync/sync.h"
#include "sys/pool.h"

struct tdl_cond {
    tdl_lock lock;
    tdl_mutex *mutex;
    tdl_queue q;
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_cond);

tdl_cond *tdl_cond_new(tdl_mutex *m) {
    tdl_cond *c = m && !tdl_forked() ? tdl_pool_take(&pool) : NULL;
    if (c) c->mutex = m;
    return c;
}

void tdl_cond_free(tdl_cond *c) {
    if (c && !tdl_forked()) tdl_pool_give(&pool, c);
}

static void unlist(tdl_op *op) {
    tdl_cond *c = op->node.object;
    tdl_lock_take(&c->lock);
    tdl_queue_remove(&op->node);
    tdl_unlock(&c->lock);
}

/* The second stage has ended: we hold the mutex. */
static int64_t locked(tdl_op *op, int64_t why) {
    at_store_rlx(&op->shielded, 0);
    return why;
}

static int64_t relock_finish(tdl_op *op);
static const tdl_op_class relock_class = {"sync.Cond.Wait (relock)", relock_finish, tdl_mutex_abandon};

static int64_t relock_finish(tdl_op *op) {
    int64_t r = tdl_mutex_relock(op, op->u.blocked.object, true, &relock_class);
    return r == TDL_PENDING ? r : locked(op, op->u.blocked.why);
}

static int64_t finish(tdl_op *op) {
    if (op->result != 0) unlist(op);
    op->u.blocked.why = (int32_t)op->result;
    at_store_rlx(&op->shielded, 1);
    int64_t r = tdl_mutex_relock(op, op->u.blocked.object, false, &relock_class);
    return r == TDL_PENDING ? r : locked(op, op->u.blocked.why);
}

/* A signal that it got is for the next. */
static void abandon(tdl_op *op) {
    if (op->result < 0)
        unlist(op);
    else
        tdl_cond_signal(op->node.object);
}

static const tdl_op_class wait_class = {"sync.Cond.Wait", finish, abandon};

int64_t tdl_cond_wait_op(tdl_op *op, tdl_cond *c, int64_t deadline) {
    if (!c) return TDL_EINVAL;
    int r = tdl_deadline_check(deadline);
    if (r == 0) r = tdl_may_wait(tdl_pool_bubble(&pool, c));
    if (r != 0) return r;
    tdl_op_begin(op, &wait_class);
    op->node.object = c;
    op->u.blocked.object = c->mutex;
    tdl_lock_take(&c->lock);
    /* on the queue before the mutex is free: no signal in between is missed */
    tdl_op_publish(op);
    tdl_queue_push(&c->q, &op->node);
    tdl_unlock(&c->lock);
    r = tdl_mutex_unlock(c->mutex);
    if (r < 0) { /* the caller did not hold it, and so has not waited */
        uint32_t was = tdl_op_claim(op);
        if (was) {
            unlist(op);
            at_store_rlx(&op->state, OP_IDLE);
            return r;
        }
    }
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

int tdl_cond_wait_until(tdl_cond *c, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_cond_wait_op(op, c, deadline));
}

int tdl_cond_wait(tdl_cond *c) { return tdl_cond_wait_until(c, TDL_FOREVER); }

int tdl_cond_signal(tdl_cond *c) {
    if (!c) return TDL_EINVAL;
    TDL_REFUSE(c);
    uint32_t was;
    tdl_lock_take(&c->lock);
    tdl_node *n = tdl_queue_claim(&c->q, &was);
    tdl_unlock(&c->lock);
    if (n) tdl_op_complete(n->op, was, 0);
    return 0;
}

int tdl_cond_broadcast(tdl_cond *c) {
    if (!c) return TDL_EINVAL;
    TDL_REFUSE(c);
    tdl_lock_take(&c->lock);
    tdl_node *list = tdl_queue_claim_all(&c->q);
    tdl_unlock(&c->lock);
    tdl_complete_all(list, 0);
    return 0;
}
