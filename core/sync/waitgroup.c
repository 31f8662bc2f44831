/* SPDX-License-Identifier: MIT
 *
 * The wait group. Under its lock: somebody waits only when n > 0.
 */
#include "sync/sync.h"
#include "sys/pool.h"

struct tdl_waitgroup {
    tdl_lock lock;
    int64_t n;
    tdl_queue q;
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_waitgroup);

tdl_waitgroup *tdl_waitgroup_new(void) {
    return tdl_forked() ? NULL : tdl_pool_take(&pool);
}

void tdl_waitgroup_free(tdl_waitgroup *wg) {
    if (wg && !tdl_forked()) tdl_pool_give(&pool, wg);
}

static void leave(tdl_op *op) {
    tdl_waitgroup *wg = op->node.object;
    tdl_lock_take(&wg->lock);
    tdl_queue_remove(&op->node);
    tdl_unlock(&wg->lock);
}

static int64_t finish(tdl_op *op) {
    if (op->result != 0) leave(op);
    return op->result;
}

static const tdl_op_class wait_class = {"sync.WaitGroup.Wait", finish, leave};

int tdl_waitgroup_add(tdl_waitgroup *wg, int n) {
    if (!wg) return TDL_EINVAL;
    TDL_REFUSE(wg);
    tdl_lock_take(&wg->lock);
    if (wg->n + n < 0) {
        tdl_unlock(&wg->lock);
        return TDL_ENEGATIVE;
    }
    wg->n += n;
    if (wg->n > 0) {
        tdl_unlock(&wg->lock);
        return 0;
    }
    /* claim all under this one hold of the lock: whoever waits from now on
     * waits for the next use of the group */
    tdl_node *list = tdl_queue_claim_all(&wg->q);
    tdl_unlock(&wg->lock);
    tdl_complete_all(list, 0);
    return 0;
}

int tdl_waitgroup_done(tdl_waitgroup *wg) { return tdl_waitgroup_add(wg, -1); }

int64_t tdl_waitgroup_wait_op(tdl_op *op, tdl_waitgroup *wg, int64_t deadline) {
    if (!wg) return TDL_EINVAL;
    tdl_lock_take(&wg->lock);
    int r = wg->n == 0 ? 0 : tdl_deadline_check(deadline);
    if (wg->n != 0 && r == 0) r = tdl_may_wait(tdl_pool_bubble(&pool, wg));
    if (wg->n == 0 || r != 0) {
        tdl_unlock(&wg->lock);
        return r;
    }
    tdl_op_begin(op, &wait_class);
    op->node.object = wg;
    tdl_op_publish(op);
    tdl_queue_push(&wg->q, &op->node);
    tdl_unlock(&wg->lock);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

int tdl_waitgroup_wait_until(tdl_waitgroup *wg, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_waitgroup_wait_op(op, wg, deadline));
}

int tdl_waitgroup_wait(tdl_waitgroup *wg) { return tdl_waitgroup_wait_until(wg, TDL_FOREVER); }
