/* SPDX-License-Identifier: MIT
 *
 * The error group. Under its lock: somebody waits in `starters` only while
 * active == limit > 0, and in `waiters` only while active > 0.
 *
 * refs: the handle, each that works (its place), each that waits.
 */
#include "sync/sync.h"
#include "sys/pool.h"

struct tdl_errgroup {
    tdl_lock lock;
    _Atomic uint32_t refs;
    uint32_t limit, active;
    int error;
    tdl_context *context;
    tdl_queue starters, waiters;
};

/* What a goroutine of the group is to do. */
struct job {
    tdl_lock lock; /* the pool's */
    tdl_at_exit exit;
    tdl_errgroup *eg;
    int (*fn)(void *);
    void *arg;
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_errgroup), jobs = TDL_POOL_INIT(struct job);

tdl_errgroup *tdl_errgroup_new(tdl_context *parent, uint32_t limit) {
    tdl_errgroup *eg = tdl_forked() ? NULL : tdl_pool_take(&pool);
    if (!eg) return NULL;
    eg->context = tdl_context_with_cancel(parent);
    if (!eg->context) {
        tdl_pool_give(&pool, eg);
        return NULL;
    }
    eg->limit = limit;
    at_store_rlx(&eg->refs, 1);
    return eg;
}

static void hold(tdl_errgroup *eg) { at_add_rlx(&eg->refs, 1); }

static void drop(tdl_errgroup *eg) {
    if (at_sub_seq(&eg->refs, 1) != 1) return; /* seq: the last one sees all */
    tdl_context_free(eg->context);
    tdl_pool_give(&pool, eg);
}

void tdl_errgroup_free(tdl_errgroup *eg) {
    if (!eg || tdl_forked()) return;
    tdl_context_cancel(eg->context, 0, NULL);
    drop(eg);
}

tdl_context *tdl_errgroup_context(tdl_errgroup *eg) { return eg ? eg->context : NULL; }

int tdl_errgroup_error(tdl_errgroup *eg) {
    if (!eg) return TDL_EINVAL;
    TDL_REFUSE(eg);
    tdl_lock_take(&eg->lock);
    int error = eg->error;
    tdl_unlock(&eg->lock);
    return error;
}

int tdl_errgroup_set_limit(tdl_errgroup *eg, uint32_t limit) {
    if (!eg) return TDL_EINVAL;
    TDL_REFUSE(eg);
    tdl_lock_take(&eg->lock);
    bool busy = eg->active > 0;
    if (!busy) eg->limit = limit;
    tdl_unlock(&eg->lock);
    return busy ? TDL_EBUSY : 0;
}

static void unlist(tdl_op *op) {
    tdl_errgroup *eg = op->node.object;
    tdl_lock_take(&eg->lock);
    tdl_queue_remove(&op->node);
    tdl_unlock(&eg->lock);
    drop(eg);
}

static int may_wait(const tdl_errgroup *eg, int64_t deadline) {
    int r = tdl_deadline_check(deadline);
    return r == 0 ? tdl_may_wait(tdl_pool_bubble(&pool, eg)) : r;
}

/* Under the lock, which it gives up. */
static int64_t wait(tdl_op *op, tdl_errgroup *eg, tdl_queue *q, const tdl_op_class *cls, int64_t deadline) {
    hold(eg);
    tdl_op_begin(op, cls);
    op->node.object = eg;
    tdl_op_publish(op);
    tdl_queue_push(q, &op->node);
    tdl_unlock(&eg->lock);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

/* -- Places ----------------------------------------------------------------------- */

int tdl_errgroup_done(tdl_errgroup *eg, int result) {
    if (!eg) return TDL_EINVAL;
    TDL_REFUSE(eg);
    uint32_t was = 0;
    tdl_node *next = NULL, *waiting = NULL;
    tdl_lock_take(&eg->lock);
    if (eg->active == 0) {
        tdl_unlock(&eg->lock);
        return TDL_ENEGATIVE;
    }
    bool first = result != 0 && eg->error == 0;
    if (first) eg->error = result;
    next = tdl_queue_claim(&eg->starters, &was); /* takes over the place */
    if (!next && --eg->active == 0) waiting = tdl_queue_claim_all(&eg->waiters);
    tdl_unlock(&eg->lock);
    if (first) tdl_context_cancel(eg->context, result, NULL);
    drop(eg); /* who waits holds it, and finds nothing of ours left when he goes on */
    if (next) tdl_op_complete(next->op, was, 0);
    tdl_complete_all(waiting, 0);
    return 0;
}

/* With the place goes the op's hold. */
static int64_t begin_finish(tdl_op *op) {
    if (op->result != 0) unlist(op);
    return op->result;
}

static void begin_abandon(tdl_op *op) {
    if (op->result < 0)
        unlist(op);
    else
        tdl_errgroup_done(op->node.object, 0);
}

static const tdl_op_class begin_class = {"errgroup go", begin_finish, begin_abandon};

/* With TDL_NOWAIT, op is not used. */
int64_t tdl_errgroup_begin_op(tdl_op *op, tdl_errgroup *eg, int64_t deadline) {
    if (!eg) return TDL_EINVAL;
    tdl_lock_take(&eg->lock);
    int r = 0;
    if (eg->limit == 0 || eg->active < eg->limit) {
        eg->active++;
        hold(eg);
    } else if ((r = may_wait(eg, deadline)) == 0) {
        return wait(op, eg, &eg->starters, &begin_class, deadline);
    }
    tdl_unlock(&eg->lock);
    return r;
}

int tdl_errgroup_begin_until(tdl_errgroup *eg, int64_t deadline) {
    if (deadline == TDL_NOWAIT) {
        TDL_REFUSE(eg);
        return (int)tdl_errgroup_begin_op(NULL, eg, TDL_NOWAIT);
    }
    TDL_BLOCKING_FORM(tdl_errgroup_begin_op(op, eg, deadline));
}

int tdl_errgroup_begin(tdl_errgroup *eg) { return tdl_errgroup_begin_until(eg, TDL_FOREVER); }

static void worked(struct job *j, int result) {
    tdl_errgroup_done(j->eg, result);
    tdl_pool_give(&jobs, j);
}

static void left(tdl_at_exit *a) { worked(TDL_CONTAINER(a, struct job, exit), 0); }

static void work(void *arg) {
    struct job *j = arg;
    tdl_exit_push(&j->exit, left);
    int result = j->fn(j->arg);
    tdl_exit_pop(&j->exit);
    worked(j, result);
}

int tdl_errgroup_go_until(tdl_errgroup *eg, int (*fn)(void *), void *arg, int64_t deadline) {
    if (!fn) return TDL_EINVAL;
    int r = tdl_errgroup_begin_until(eg, deadline);
    if (r < 0) return r;
    struct job *j = tdl_pool_take(&jobs);
    if (j) {
        j->eg = eg;
        j->fn = fn;
        j->arg = arg;
        if (tdl_go(work, j)) return 0;
        tdl_pool_give(&jobs, j);
    }
    tdl_errgroup_done(eg, 0);
    return TDL_ENOMEM;
}

int tdl_errgroup_go(tdl_errgroup *eg, int (*fn)(void *), void *arg) {
    return tdl_errgroup_go_until(eg, fn, arg, TDL_FOREVER);
}

int tdl_errgroup_try_go(tdl_errgroup *eg, int (*fn)(void *), void *arg) {
    return tdl_errgroup_go_until(eg, fn, arg, TDL_NOWAIT);
}

/* -- Waiting for all --------------------------------------------------------------- */

/* Nobody works: the context's time is over. */
static int over(tdl_errgroup *eg) {
    int error = tdl_errgroup_error(eg);
    tdl_context_cancel(eg->context, error, NULL);
    return error;
}

static int64_t wait_finish(tdl_op *op) {
    int64_t r = op->result == 0 ? over(op->node.object) : op->result;
    unlist(op);
    return r;
}

static const tdl_op_class wait_class = {"errgroup wait", wait_finish, unlist};

int64_t tdl_errgroup_wait_op(tdl_op *op, tdl_errgroup *eg, int64_t deadline) {
    if (!eg) return TDL_EINVAL;
    tdl_lock_take(&eg->lock);
    bool idle = eg->active == 0;
    int r = idle ? 0 : may_wait(eg, deadline);
    if (!idle && r == 0) return wait(op, eg, &eg->waiters, &wait_class, deadline);
    tdl_unlock(&eg->lock);
    return idle ? over(eg) : r;
}

int tdl_errgroup_wait_until(tdl_errgroup *eg, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_errgroup_wait_op(op, eg, deadline));
}

int tdl_errgroup_wait(tdl_errgroup *eg) { return tdl_errgroup_wait_until(eg, TDL_FOREVER); }
