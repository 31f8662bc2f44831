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
 *
 * owned: who has it, as sched/blocked.h says.
 */
#include "sync/sync.h"
#include "sys/pool.h"
#include "sys/sys.h"

enum { LOCKED = 1, WAITERS = 2, STARVING = 4 };
enum { STARVE_NS = 1000000 };

struct tdl_mutex {
    tdl_lock lock;
    _Atomic uint32_t word;
    tdl_owned owned;
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

static inline int64_t own(tdl_mutex *m, tdl_op *op) {
    at_store_rlx(&m->owned.who, tdl_op_who(op));
    return 0;
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
    tdl_blocked_end(&op->u.lock.blocked);
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
    at_store_rlx(&op->u.lock.blocked.granted, 0);
    tdl_op_publish(op);
    if (again)
        tdl_queue_push_front(&m->q, &op->node);
    else
        tdl_queue_push(&m->q, &op->node);
    tdl_unlock(&m->lock);
    return TDL_PENDING;
}

static int64_t got(tdl_op *op) {
    tdl_blocked_end(&op->u.lock.blocked);
    return own(op->node.object, op);
}

static int64_t wait(tdl_op *op, tdl_mutex *m, bool again, int64_t deadline) {
    if (enlist(op, m, again) == 0) return got(op);
    tdl_blocked_wait(op, "mutex", m, &m->owned, deadline);
    return TDL_PENDING;
}

/* extra: 1 when unlock handed the lock over, 0 when it only woke us. */
static int64_t finish(tdl_op *op) {
    tdl_mutex *m = op->node.object;
    if (op->result < 0) {
        leave(op);
        int over = tdl_blocked_over(op, true);
        if (over != BLOCKED_ON) {
            tdl_blocked_end(&op->u.lock.blocked);
            return over == BLOCKED_CIRCLE ? TDL_EDEADLOCK : op->result;
        }
    } else if (op->extra || try_lock(m)) {
        return got(op);
    }
    return wait(op, m, true, op->deadline);
}

static const tdl_op_class lock_class = {"sync.Mutex.Lock", finish, tdl_mutex_abandon};

static void begin(tdl_op *op, tdl_mutex *m) {
    op->node.object = m;
    op->since = tdl_sys.now();
    op->extra = 0;
    tdl_blocked_init(&op->u.lock.blocked);
}

int64_t tdl_mutex_relock(tdl_op *op, tdl_mutex *m, bool woken, const tdl_op_class *cls) {
    if (!woken) {
        op->cls = cls;
        begin(op, m);
    } else if (op->result < 0) {
        leave(op); /* a cancel that came just before the shield, or a circle's grace */
        tdl_blocked_over(op, false);
    } else if (op->extra) {
        return got(op);
    }
    op->extra = 0;
    if (!try_lock(m)) return wait(op, m, woken, TDL_FOREVER);
    return got(op);
}

int64_t tdl_mutex_lock_op(tdl_op *op, tdl_mutex *m, int64_t deadline) {
    if (!m) return TDL_EINVAL;
    if (TDL_LIKELY(try_lock(m))) return own(m, op);
    int r = tdl_deadline_check(deadline);
    if (r != 0) return r;
    tdl_op_begin(op, &lock_class);
    begin(op, m);
    return wait(op, m, false, deadline);
}

int tdl_mutex_lock_until(tdl_mutex *m, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_mutex_lock_op(op, m, deadline));
}

int tdl_mutex_lock(tdl_mutex *m) { return tdl_mutex_lock_until(m, TDL_FOREVER); }

/* Which of its tasks is at it, a host does not say: 0. */
static uint64_t caller(void) {
    tdl_m *self = tdl_m_self();
    if (self->g) return self->g->id;
    return self->deny ? 0 : tdl_op_who(&self->op);
}

int tdl_mutex_trylock(tdl_mutex *m) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!m) return TDL_EINVAL;
    if (!try_lock(m)) return TDL_EAGAIN;
    at_store_rlx(&m->owned.who, caller());
    return 0;
}

int tdl_mutex_disown(tdl_mutex *m) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!m) return TDL_EINVAL;
    if (!(at_load_rlx(&m->word) & LOCKED)) return TDL_ENOTLOCKED;
    at_store_rlx(&m->owned.who, 0);
    return 0;
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
    if (n) tdl_blocked_grant(&n->op->u.lock.blocked);
    tidy(m);
    tdl_unlock(&m->lock);
    if (n) tdl_op_complete(n->op, was, 0);
    return 0;
}

int tdl_mutex_unlock(tdl_mutex *m) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!m) return TDL_EINVAL;
    uint32_t w = LOCKED;
    at_store_rlx(&m->owned.who, 0);
    if (TDL_LIKELY(at_cas_seq(&m->word, &w, 0))) return 0;
    return unlock_slow(m);
}
