/* SPDX-License-Identifier: MIT
 *
 * The read-write lock.
 *
 * Readers. Each P has a slot, a cache line of its own, in which readers leave
 * *units*; other threads share the slots. Who comes adds a unit to his slot. Who
 * goes takes one from his slot, wherever he had come in, and from any other when
 * there is none. So no slot is negative, and there are as many units as readers.
 *
 * Writers. `gate` is set while one waits or holds; it changes under the lock. A
 * reader adds his unit and then looks at the gate; a writer sets the gate and
 * then looks at the slots (all seq): one of the two sees the other. A reader who
 * finds the gate set takes a unit back and waits on a queue.
 *
 * A look at the slots one after the other, under the lock and with the gate set,
 * finds a unit if there is a reader. For at each moment the slots not yet looked
 * at have as many units as there are readers: nobody new adds any, but those who
 * take one back at once, and from the same slot, or else under the lock.
 *
 * Under the lock: `draining` has the one writer who waits for readers to go; the
 * others wait in `writers`, and readers in `readers`, only while the gate is set.
 * A turn ends with all waiting readers let in, and then the next writer's begins.
 */
#include "sync/sync.h"
#include "sys/pool.h"
#include "sys/sys.h"

enum { LINE = 64, MAX_SLOTS = 64 };
enum { READER, WRITER }; /* node.index */

struct slot {
    _Atomic uint32_t units;
    char pad[LINE - sizeof(uint32_t)];
};

struct tdl_rwmutex {
    tdl_lock lock;
    bool held;
    tdl_queue readers, writers, draining;
    void *memory; /* of the slots */
    struct slot *slot;
    uint32_t mask; /* their number, a power of two, less one */
    _Atomic uint32_t gate;
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_rwmutex);

tdl_rwmutex *tdl_rwmutex_new(void) {
    if (tdl_forked()) return NULL;
    uint32_t n = 1;
    while (n < MAX_SLOTS && n < (uint32_t)tdl_gomaxprocs(0)) n *= 2;
    tdl_rwmutex *rw = tdl_pool_take(&pool);
    if (!rw) return NULL;
    rw->memory = tdl_alloc_zeroed((n + 1) * sizeof(struct slot));
    if (!rw->memory) {
        tdl_pool_give(&pool, rw);
        return NULL;
    }
    rw->slot = (struct slot *)(((uintptr_t)rw->memory + LINE - 1) / LINE * LINE);
    rw->mask = n - 1;
    return rw;
}

void tdl_rwmutex_free(tdl_rwmutex *rw) {
    if (!rw || tdl_forked()) return;
    tdl_sys.release(rw->memory);
    tdl_pool_give(&pool, rw);
}

/* -- Units -------------------------------------------------------------------- */

static inline _Atomic uint32_t *my_units(const tdl_rwmutex *rw) {
    tdl_m *m = tdl_m_self();
    const tdl_p *p = at_load_rlx(&m->p); /* relaxed: it may be gone at once, and only a slot is wanted */
    uint64_t n = p ? (uint64_t)p->id : (uint64_t)(uintptr_t)m * UINT64_C(0x9e3779b97f4a7c15) >> 32;
    return &rw->slot[n & rw->mask].units;
}

/* n: how many are thought to be there. */
static inline bool take_unit(_Atomic uint32_t *units, uint32_t n) {
    while (n > 0)
        if (at_cas_seq(units, &n, n - 1)) return true; /* what he read before he went: to the writer's look */
    return false;
}

/* Under the lock. */
static bool take_any_unit(tdl_rwmutex *rw) {
    bool open = !at_load_rlx(&rw->gate), found = false;
    if (open) at_store_seq(&rw->gate, 1); /* for the look, as for a writer's */
    for (uint32_t i = 0; i <= rw->mask && !found; i++) {
        _Atomic uint32_t *units = &rw->slot[i].units;
        found = take_unit(units, at_load_seq(units));
    }
    if (open) at_store_seq(&rw->gate, 0);
    return found;
}

/* Under the lock, the gate set. */
static bool nobody_reads(const tdl_rwmutex *rw) {
    for (uint32_t i = 0; i <= rw->mask; i++)
        if (at_load_seq(&rw->slot[i].units)) return false;
    return true;
}

/* -- Turns, under the lock, with the gate set and nobody holding it ------------- */

/* Claims the readers who wait, at the end of a list. */
static tdl_node **let_in(tdl_rwmutex *rw, tdl_node **end) {
    uint32_t n = 0;
    for (*end = tdl_queue_claim_all(&rw->readers); *end; end = &(*end)->next) n++;
    if (n) at_add_seq(my_units(rw), n);
    return end;
}

/* Who goes on now; to be completed without the lock. */
static tdl_node *next_turn(tdl_rwmutex *rw, bool readers_first) {
    tdl_node *list = NULL, **end = &list, *n;
    if (readers_first) end = let_in(rw, end);
    for (;;) {
        if (!rw->draining.head && (n = rw->writers.head) != NULL) {
            tdl_queue_remove(n);
            tdl_queue_push(&rw->draining, n);
        }
        if (!rw->draining.head) {
            let_in(rw, end);
            at_store_seq(&rw->gate, 0);
            return list;
        }
        if (!nobody_reads(rw)) return list; /* the last of them goes on from here */
        uint32_t was;
        n = tdl_queue_claim(&rw->draining, &was);
        if (!n) continue; /* gave up */
        rw->held = true;
        n->was = was;
        n->next = NULL;
        *end = n;
        return list;
    }
}

/* -- Leaving ---------------------------------------------------------------------- */

static void complete(tdl_node *list) { tdl_complete_all(list, 0); }

/* A reader goes: ENOTLOCKED when there was none. */
static int go(tdl_rwmutex *rw, _Atomic uint32_t *units) {
    bool taken = take_unit(units, at_load_rlx(units)); /* relaxed: an old 0 leads to the look */
    if (TDL_LIKELY(taken) && TDL_LIKELY(!at_load_seq(&rw->gate))) return 0;
    tdl_lock_take(&rw->lock);
    if (!taken && !take_any_unit(rw)) {
        tdl_unlock(&rw->lock);
        return TDL_ENOTLOCKED;
    }
    tdl_node *list = rw->draining.head ? next_turn(rw, false) : NULL;
    tdl_unlock(&rw->lock);
    complete(list);
    return 0;
}

int tdl_rwmutex_runlock(tdl_rwmutex *rw) {
    if (!rw) return TDL_EINVAL;
    TDL_REFUSE(rw);
    return go(rw, my_units(rw));
}

int tdl_rwmutex_unlock(tdl_rwmutex *rw) {
    if (!rw) return TDL_EINVAL;
    TDL_REFUSE(rw);
    tdl_lock_take(&rw->lock);
    if (!rw->held) {
        tdl_unlock(&rw->lock);
        return TDL_ENOTLOCKED;
    }
    rw->held = false;
    tdl_node *list = next_turn(rw, true);
    tdl_unlock(&rw->lock);
    complete(list);
    return 0;
}

/* -- Waiting ------------------------------------------------------------------------ */

/* A writer who gives up keeps nobody out any longer. */
static void leave(tdl_op *op) {
    tdl_rwmutex *rw = op->node.object;
    tdl_lock_take(&rw->lock);
    tdl_queue_remove(&op->node);
    bool orphaned = at_load_rlx(&rw->gate) && !rw->held && !rw->draining.head;
    tdl_node *list = orphaned ? next_turn(rw, true) : NULL;
    tdl_unlock(&rw->lock);
    complete(list);
}

static int64_t finish(tdl_op *op) {
    if (op->result != 0) leave(op);
    return op->result;
}

static void abandon(tdl_op *op) {
    if (op->result < 0)
        leave(op);
    else if (op->node.index == WRITER)
        tdl_rwmutex_unlock(op->node.object);
    else
        tdl_rwmutex_runlock(op->node.object);
}

static const tdl_op_class lock_class = {"sync.RWMutex.Lock", finish, abandon};
static const tdl_op_class rlock_class = {"sync.RWMutex.RLock", finish, abandon};

/* Under the lock, which it gives up. */
static int64_t wait(tdl_op *op, tdl_rwmutex *rw, tdl_queue *q, uint16_t index, int64_t deadline) {
    tdl_op_begin(op, index == WRITER ? &lock_class : &rlock_class);
    op->node.object = rw;
    op->node.index = index;
    tdl_op_publish(op);
    tdl_queue_push(q, &op->node);
    tdl_unlock(&rw->lock);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

static int may_wait(const tdl_rwmutex *rw, int64_t deadline) {
    int r = tdl_deadline_check(deadline);
    return r == 0 ? tdl_may_wait(tdl_pool_bubble(&pool, rw)) : r;
}

/* With TDL_NOWAIT, op is not used. */
int64_t tdl_rwmutex_rlock_op(tdl_op *op, tdl_rwmutex *rw, int64_t deadline) {
    if (!rw) return TDL_EINVAL;
    _Atomic uint32_t *units = my_units(rw);
    at_add_seq(units, 1);
    if (TDL_LIKELY(!at_load_seq(&rw->gate))) return 0;
    go(rw, units);
    tdl_lock_take(&rw->lock);
    int r = 0;
    if (!at_load_rlx(&rw->gate)) {
        at_add_seq(units, 1);
    } else if ((r = may_wait(rw, deadline)) == 0) {
        return wait(op, rw, &rw->readers, READER, deadline);
    }
    tdl_unlock(&rw->lock);
    return r;
}

/* With TDL_NOWAIT, op is not used. */
int64_t tdl_rwmutex_lock_op(tdl_op *op, tdl_rwmutex *rw, int64_t deadline) {
    if (!rw) return TDL_EINVAL;
    tdl_lock_take(&rw->lock);
    bool first = !at_load_rlx(&rw->gate);
    if (first) {
        at_store_seq(&rw->gate, 1);
        if (nobody_reads(rw)) {
            rw->held = true;
            tdl_unlock(&rw->lock);
            return 0;
        }
    }
    int r = may_wait(rw, deadline);
    if (r == 0) return wait(op, rw, first ? &rw->draining : &rw->writers, WRITER, deadline);
    if (first) at_store_seq(&rw->gate, 0);
    tdl_unlock(&rw->lock);
    return r;
}

/* -- The public forms ------------------------------------------------------------------ */

int tdl_rwmutex_lock_until(tdl_rwmutex *rw, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_rwmutex_lock_op(op, rw, deadline));
}

int tdl_rwmutex_rlock_until(tdl_rwmutex *rw, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_rwmutex_rlock_op(op, rw, deadline));
}

int tdl_rwmutex_lock(tdl_rwmutex *rw) { return tdl_rwmutex_lock_until(rw, TDL_FOREVER); }
int tdl_rwmutex_rlock(tdl_rwmutex *rw) { return tdl_rwmutex_rlock_until(rw, TDL_FOREVER); }

int tdl_rwmutex_trylock(tdl_rwmutex *rw) {
    TDL_REFUSE(rw);
    return (int)tdl_rwmutex_lock_op(NULL, rw, TDL_NOWAIT);
}

int tdl_rwmutex_tryrlock(tdl_rwmutex *rw) {
    TDL_REFUSE(rw);
    return (int)tdl_rwmutex_rlock_op(NULL, rw, TDL_NOWAIT);
}
