/* SPDX-License-Identifier: MIT
 *
 * The mutex, with Go's two modes. Normal: unlock frees it and wakes the first
 * waiter, which competes with newcomers. Starving: a waiter that failed after
 * 1 ms sets STARVING; then unlock hands the lock to the first waiter, and
 * newcomers queue.
 *
 * locked: 0 or 1; taken by an exchange, by anybody, and given up by a plain store,
 * which costs half of what two atomics would. wanted: WAITERS and STARVING; they
 * change under the lock only, and stay when the queue has become empty, for CALM
 * unlocks, so that a mutex in demand does not set and clear them all the time.
 *
 * No lost wake-up:
 *
 *     unlock: locked = 0; [compiler barrier]; read wanted
 *     waiter: wanted = WAITERS; membarrier; exchange locked
 *
 * The membarrier is a full barrier in every running thread: so either unlock sees
 * WAITERS, and wakes, or the waiter finds the lock free. Who finds WAITERS set
 * needs none: the one who set it has made it, under the lock. Where the kernel
 * has none, unlock has a fence of its own.
 *
 * owned: who has it, as sched/blocked.h says.
 */
#include "sync/sync.h"
#include "sys/pool.h"
#include "sys/sys.h"

enum { WAITERS = 1, STARVING = 2 };
enum { STARVE_NS = 1000000, CALM = 4 };

struct tdl_mutex {
    tdl_lock lock;
    _Atomic uint32_t locked;
    _Atomic uint32_t wanted;
    uint32_t calm; /* under lock: unlocks that found WAITERS and nobody waiting */
    tdl_owned owned;
    tdl_queue q;
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_mutex);

/* Whether unlock may do without a fence. Known before the first mutex is given
 * out, and always the same: relaxed. */
enum { UNKNOWN, FENCED, CHEAP };
static _Atomic uint32_t unlocks;

tdl_mutex *tdl_mutex_new(void) {
    if (tdl_forked()) return NULL;
    if (at_load_rlx(&unlocks) == UNKNOWN) at_store_rlx(&unlocks, tdl_sys.membarrier() < 0 ? FENCED : CHEAP);
    return tdl_pool_take(&pool);
}

void tdl_mutex_free(tdl_mutex *m) {
    if (m && !tdl_forked()) tdl_pool_give(&pool, m);
}

/* seq: pairs with the plain store of unlock, and with the next unlock's look at
 * wanted */
static inline bool take(tdl_mutex *m) {
    return at_load_rlx(&m->locked) == 0 && at_xchg_seq(&m->locked, 1) == 0;
}

/* Newcomers don't take it from those who starve. */
static inline bool try_lock(tdl_mutex *m) { return !(at_load_rlx(&m->wanted) & STARVING) && take(m); }

static inline int64_t own(tdl_mutex *m, tdl_op *op) {
    at_store_rlx(&m->owned.who, tdl_op_who(op));
    return 0;
}

/* Under the lock, its queue having got shorter. */
static void tidy(tdl_mutex *m) {
    if (m->q.head) return;
    uint32_t left = ++m->calm < CALM ? WAITERS : 0;
    at_store_rlx(&m->wanted, at_load_rlx(&m->wanted) & left);
}

/* Under the lock: whoever unlocks from now on sees that somebody waits, or has
 * unlocked before we look. */
static void announce(tdl_mutex *m) {
    m->calm = 0;
    if (at_load_rlx(&m->wanted) & WAITERS) return;
    at_store_rlx(&m->wanted, at_load_rlx(&m->wanted) | WAITERS);
    at_fence_seq(); /* pairs with that of a fenced unlock */
    if (at_load_rlx(&unlocks) == CHEAP) tdl_sys.membarrier(); /* which worked once, and so does always */
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
    tdl_blocked_end(&op->u.blocked);
    if (op->result < 0)
        leave(op);
    else if (op->extra || try_lock(m))
        tdl_mutex_unlock(m);
}

/* Joins the queue, unless the lock has come free: then 0. */
static int64_t enlist(tdl_op *op, tdl_mutex *m, bool again) {
    tdl_lock_take(&m->lock);
    announce(m);
    if (try_lock(m)) {
        tidy(m);
        tdl_unlock(&m->lock);
        return 0;
    }
    if (again && tdl_sys.now() - op->u.blocked.since > STARVE_NS) at_store_rlx(&m->wanted, WAITERS | STARVING);
    at_store_rlx(&op->u.blocked.granted, 0);
    tdl_op_publish(op);
    if (again)
        tdl_queue_push_front(&m->q, &op->node);
    else
        tdl_queue_push(&m->q, &op->node);
    tdl_unlock(&m->lock);
    return TDL_PENDING;
}

static int64_t got(tdl_op *op) {
    tdl_blocked_end(&op->u.blocked);
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
            tdl_blocked_end(&op->u.blocked);
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
    op->u.blocked.since = tdl_sys.now();
    op->extra = 0;
    tdl_blocked_init(&op->u.blocked);
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
    if (r == 0) r = tdl_may_wait(tdl_pool_bubble(&pool, m));
    if (r != 0) return r;
    tdl_op_begin(op, &lock_class);
    begin(op, m);
    return wait(op, m, false, deadline);
}

TDL_NOINLINE static int lock_slow(tdl_op *op, tdl_mutex *m, int64_t deadline) {
    int64_t r = tdl_mutex_lock_op(op, m, deadline);
    return (int)(r == TDL_PENDING ? tdl_op_wait(op) : r);
}

TDL_ALWAYS_INLINE int lock_until(tdl_mutex *m, int64_t deadline) {
    int code;
    tdl_op *op = tdl_caller_op(&code);
    if (TDL_UNLIKELY(!op)) return code;
    if (TDL_UNLIKELY(!m) || TDL_UNLIKELY(!try_lock(m))) return lock_slow(op, m, deadline);
    return (int)own(m, op);
}

int tdl_mutex_lock_until(tdl_mutex *m, int64_t deadline) { return lock_until(m, deadline); }
int tdl_mutex_lock(tdl_mutex *m) { return lock_until(m, TDL_FOREVER); }

/* Which of its tasks is at it, a host does not say: 0. */
static uint64_t caller(void) {
    tdl_m *self = tdl_m_self();
    if (self->g) return self->g->id;
    return at_load_rlx(&self->deny) ? 0 : tdl_op_who(&self->op);
}

int tdl_mutex_trylock(tdl_mutex *m) {
    if (!m) return TDL_EINVAL;
    TDL_REFUSE(m);
    if (!try_lock(m)) return TDL_EAGAIN;
    at_store_rlx(&m->owned.who, caller());
    return 0;
}

int tdl_mutex_disown(tdl_mutex *m) {
    if (!m) return TDL_EINVAL;
    TDL_REFUSE(m);
    if (!at_load_rlx(&m->locked)) return TDL_ENOTLOCKED;
    at_store_rlx(&m->owned.who, 0);
    return 0;
}

/* Gives it up, to the first waiter where they starve, and wakes that one. held:
 * the caller has it; else it has been given up already, and is to be had back
 * for that: unless somebody else has it now, who will come here. */
TDL_NOINLINE static int unlock_slow(tdl_mutex *m, bool held) {
    tdl_lock_take(&m->lock);
    if (!held && !take(m)) {
        tdl_unlock(&m->lock);
        return 0;
    }
    uint32_t was;
    bool hand_over = at_load_rlx(&m->wanted) & STARVING;
    tdl_node *n = tdl_queue_claim(&m->q, &was);
    if (hand_over && n) {
        /* back to normal when it is the last, or was quick */
        if (tdl_sys.now() - n->op->u.blocked.since < STARVE_NS) at_store_rlx(&m->wanted, WAITERS);
        n->op->extra = 1;
    } else {
        at_store_rel(&m->locked, 0);
        if (n) n->op->extra = 0;
    }
    if (n) tdl_blocked_grant(&n->op->u.blocked);
    tidy(m);
    tdl_unlock(&m->lock);
    if (n) tdl_op_complete(n->op, was, 0);
    return 0;
}

int tdl_mutex_unlock(tdl_mutex *m) {
    if (TDL_UNLIKELY(!m)) return TDL_EINVAL;
    TDL_REFUSE(m);
    if (TDL_UNLIKELY(!at_load_rlx(&m->locked))) return TDL_ENOTLOCKED;
    at_store_rlx(&m->owned.who, 0);
    if (TDL_UNLIKELY(at_load_rlx(&m->wanted))) return unlock_slow(m, true);
    at_store_rel(&m->locked, 0); /* pairs with take */
    at_fence_compiler();         /* pairs with the membarrier of announce */
    if (TDL_UNLIKELY(at_load_rlx(&unlocks) != CHEAP)) at_fence_seq();
    if (TDL_UNLIKELY(at_load_rlx(&m->wanted))) return unlock_slow(m, false);
    return 0;
}
