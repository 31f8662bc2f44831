/* SPDX-License-Identifier: MIT
 *
 * The mutex, with Go's two modes. Normal: unlock frees it and wakes the first
 * waiter, which competes with newcomers. Starving: a waiter that failed after
 * 1 ms sets STARVING; then unlock hands the lock to the first waiter, and
 * newcomers queue.
 *
 * word: LOCKED changes by CAS, by anybody. WAITERS and STARVING change under
 * the lock only, so unlock may take its short way when neither is set: a
 * waiter sets WAITERS before it looks at LOCKED for the last time, and unlock
 * clears LOCKED by a CAS that fails when WAITERS is set. All seq.
 */
#include "sync/sync.h"
#include "sys/pool.h"
#include "sys/sys.h"

enum { LOCKED = 1, WAITERS = 2, STARVING = 4 };
enum { STARVE_NS = 1000000 };

struct tdl_mutex {
    tdl_lock lock;
    _Atomic uint32_t word;
    tdl_queue q;
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_mutex);

tdl_mutex *tdl_mutex_new(void) {
    return tdl_forked() ? NULL : tdl_pool_take(&pool);
}

void tdl_mutex_free(tdl_mutex *m) {
    if (m && !tdl_forked()) tdl_pool_give(&pool, m);
}

static inline bool try_lock(tdl_mutex *m) {
    uint32_t w = at_load_rlx(&m->word);
    while (!(w & (LOCKED | STARVING)))
        if (at_cas_seq(&m->word, &w, w | LOCKED)) return true;
    return false;
}

/* Under the lock: WAITERS and STARVING tell of a queue that is not empty. */
static void tidy(tdl_mutex *m) {
    if (!m->q.head) at_and_seq(&m->word, ~(uint32_t)(WAITERS | STARVING));
}

static void leave(tdl_op *op) {
    tdl_mutex *m = op->node.object;
    tdl_lock_take(&m->lock);
    tdl_queue_remove(&op->node);
    tidy(m);
    tdl_unlock(&m->lock);
}

/* Handed over, it is given back; only woken, somebody else is to be woken. */
void tdl_mutex_abandon(tdl_op *op) {
    tdl_mutex *m = op->node.object;
    if (op->result < 0)
        leave(op);
    else if (op->extra || try_lock(m))
        tdl_mutex_unlock(m);
}

/* Joins the queue, unless the lock has come free: then 0. */
static int64_t enlist(tdl_op *op, tdl_mutex *m, bool again) {
    tdl_lock_take(&m->lock);
    at_or_seq(&m->word, WAITERS);
    if (try_lock(m)) {
        tidy(m);
        tdl_unlock(&m->lock);
        return 0;
    }
    if (again && tdl_sys.now() - op->since > STARVE_NS) at_or_seq(&m->word, STARVING);
    tdl_op_publish(op);
    if (again)
        tdl_queue_push_front(&m->q, &op->node);
    else
        tdl_queue_push(&m->q, &op->node);
    tdl_unlock(&m->lock);
    return TDL_PENDING;
}

/* extra: 1 when unlock handed the lock over, 0 when it only woke us. */
static int64_t finish(tdl_op *op) {
    if (op->result < 0) {
        leave(op);
        return op->result;
    }
    if (op->extra || try_lock(op->node.object)) return 0;
    int64_t r = enlist(op, op->node.object, true);
    if (r == TDL_PENDING) tdl_op_arm(op, op->deadline);
    return r;
}

static const tdl_op_class lock_class = {"sync.Mutex.Lock", finish, tdl_mutex_abandon};

int64_t tdl_mutex_relock(tdl_op *op, tdl_mutex *m, bool woken, const tdl_op_class *cls) {
    if (!woken) {
        op->cls = cls;
        op->node.object = m;
        op->since = tdl_sys.now();
    } else if (op->result < 0) {
        leave(op); /* a cancel that came just before the shield */
    } else if (op->extra) {
        return 0;
    }
    op->extra = 0;
    return try_lock(m) ? 0 : enlist(op, m, woken);
}

int64_t tdl_mutex_lock_op(tdl_op *op, tdl_mutex *m, int64_t deadline) {
    if (!m) return TDL_EINVAL;
    if (TDL_LIKELY(try_lock(m))) return 0;
    int r = tdl_deadline_check(deadline);
    if (r != 0) return r;
    tdl_op_begin(op, &lock_class);
    op->node.object = m;
    op->since = tdl_sys.now();
    r = (int)enlist(op, m, false);
    if (r == TDL_PENDING) tdl_op_arm(op, deadline);
    return r;
}

int tdl_mutex_lock_until(tdl_mutex *m, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_mutex_lock_op(op, m, deadline));
}

int tdl_mutex_lock(tdl_mutex *m) { return tdl_mutex_lock_until(m, TDL_FOREVER); }

int tdl_mutex_trylock(tdl_mutex *m) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!m) return TDL_EINVAL;
    return try_lock(m) ? 0 : TDL_EAGAIN;
}

static int unlock_slow(tdl_mutex *m) {
    tdl_lock_take(&m->lock);
    uint32_t w = at_load_seq(&m->word), was;
    if (!(w & LOCKED)) {
        tdl_unlock(&m->lock);
        return TDL_ENOTLOCKED;
    }
    bool hand_over = w & STARVING;
    if (!hand_over) at_and_seq(&m->word, ~(uint32_t)LOCKED);
    tdl_node *n = tdl_queue_claim(&m->q, &was);
    if (hand_over && n) {
        /* back to normal when it is the last, or was quick */
        if (tdl_sys.now() - n->op->since < STARVE_NS) at_and_seq(&m->word, ~(uint32_t)STARVING);
        n->op->extra = 1;
    } else if (hand_over) {
        at_and_seq(&m->word, ~(uint32_t)LOCKED);
    } else if (n) {
        n->op->extra = 0;
    }
    tidy(m);
    tdl_unlock(&m->lock);
    if (n) tdl_op_complete(n->op, was, 0);
    return 0;
}

int tdl_mutex_unlock(tdl_mutex *m) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!m) return TDL_EINVAL;
    uint32_t w = LOCKED;
    if (TDL_LIKELY(at_cas_seq(&m->word, &w, 0))) return 0;
    return unlock_slow(m);
}
