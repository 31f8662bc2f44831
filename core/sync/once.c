/* SPDX-License-Identifier: MIT
 *
 * Something that happens once. Under its lock: somebody waits only while the
 * state is RUNNING. The state is read without the lock (acquire) to see that
 * all is done, and pairs with the release in tdl_once_end.
 */
#include "sync/sync.h"
#include "sys/pool.h"

enum { NEW, RUNNING, DONE };

struct tdl_once {
    tdl_lock lock;
    _Atomic uint32_t state;
    const tdl_op *runner; /* who began: only to be compared */
    tdl_queue q;
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_once);

tdl_once *tdl_once_new(void) { return tdl_forked() ? NULL : tdl_pool_take(&pool); }

void tdl_once_free(tdl_once *o) {
    if (o && !tdl_forked()) tdl_pool_give(&pool, o);
}

static void leave(tdl_op *op) {
    tdl_once *o = op->node.object;
    tdl_lock_take(&o->lock);
    tdl_queue_remove(&op->node);
    tdl_unlock(&o->lock);
}

static int64_t finish(tdl_op *op) {
    if (op->result != 0) leave(op);
    return op->result;
}

static const tdl_op_class wait_class = {"sync.Once.Do", finish, leave};

int64_t tdl_once_begin_op(tdl_op *op, tdl_once *o, int64_t deadline) {
    if (!o) return TDL_EINVAL;
    if (TDL_LIKELY(at_load_acq(&o->state) == DONE)) return 0;
    tdl_lock_take(&o->lock);
    uint32_t state = at_load_rlx(&o->state);
    if (state == NEW) {
        o->runner = op;
        at_store_rlx(&o->state, RUNNING);
    }
    if (state != RUNNING) {
        tdl_unlock(&o->lock);
        return state == NEW;
    }
    int r = o->runner == op ? TDL_EDEADLOCK : tdl_deadline_check(deadline);
    if (r == 0) r = tdl_may_wait(tdl_pool_bubble(&pool, o));
    if (r != 0) {
        tdl_unlock(&o->lock);
        return r;
    }
    tdl_op_begin(op, &wait_class);
    op->node.object = o;
    tdl_op_publish(op);
    tdl_queue_push(&o->q, &op->node);
    tdl_unlock(&o->lock);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

int tdl_once_begin_until(tdl_once *o, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_once_begin_op(op, o, deadline));
}

int tdl_once_begin(tdl_once *o) { return tdl_once_begin_until(o, TDL_FOREVER); }

int tdl_once_end(tdl_once *o) {
    if (!o) return TDL_EINVAL;
    TDL_REFUSE(o);
    tdl_lock_take(&o->lock);
    if (at_load_rlx(&o->state) != RUNNING) {
        tdl_unlock(&o->lock);
        return TDL_ENOTLOCKED;
    }
    at_store_rel(&o->state, DONE);
    tdl_node *list = tdl_queue_claim_all(&o->q);
    tdl_unlock(&o->lock);
    tdl_complete_all(list, 0);
    return 0;
}

int tdl_once_done(tdl_once *o) { return o && at_load_acq(&o->state) == DONE; }

struct deed {
    tdl_at_exit exit;
    tdl_once *once;
};

static void left(tdl_at_exit *a) { tdl_once_end(TDL_CONTAINER(a, struct deed, exit)->once); }

int tdl_once_do_until(tdl_once *o, void (*fn)(void *), void *arg, int64_t deadline) {
    if (!fn) return TDL_EINVAL;
    int r = tdl_once_begin_until(o, deadline);
    if (r != 1) return r;
    struct deed d = {.once = o};
    tdl_exit_push(&d.exit, left);
    fn(arg);
    tdl_exit_pop(&d.exit);
    tdl_once_end(o);
    return 0;
}

int tdl_once_do(tdl_once *o, void (*fn)(void *), void *arg) { return tdl_once_do_until(o, fn, arg, TDL_FOREVER); }
