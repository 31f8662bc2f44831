/* SPDX-License-Identifier: MIT
 *
 * A P's own queues, for the M that has it (own.h): runnext, the front, the
 * ring. Inline, for every spawn, wake-up and switch comes by here; queue.c has
 * the rest, and says what goes where.
 *
 * Solo. With one P nobody steals, and its queues need no atomic
 * read-modify-write. Only that P's M ends this state (resize.c), in the
 * runtime and between two dispatches, before it lets another P in.
 */
#ifndef TDL_SCHED_LOCAL_H
#define TDL_SCHED_LOCAL_H

#include "sched/own.h"

enum { FRONT_RUN = 64 };

OWN_INLINE bool tdl_solo(void) { return at_load_rlx(&tdl_sched.solo); }

OWN_INLINE tdl_g *tdl_runnext_swap(tdl_p *p, tdl_g *g) {
    if (!tdl_solo()) return at_xchg_seq(&p->runnext, g);
    tdl_g *old = at_load_rlx(&p->runnext);
    at_store_rlx(&p->runnext, g);
    return old;
}

OWN_INLINE tdl_g *tdl_runnext_take(tdl_p *p) {
    return at_load_rlx(&p->runnext) ? tdl_runnext_swap(p, NULL) : NULL;
}

/* While the one that is taken is switched to, the memory of the one behind it
 * comes near: its G, and the end of its stack, where a new one begins. What lies
 * in that slot may be old: a hint may be wrong. */
OWN_INLINE tdl_g *tdl_ring_get(tdl_runq *q) {
    tdl_g *g = tdl_solo() ? tdl_runq_get_alone(q) : tdl_runq_get(q);
    if (!g) return NULL;
    uintptr_t behind = (uintptr_t)at_load_rlx(&q->slot[at_load_rlx(&q->head) % RUNQ_SIZE]); /* a number: it may be none */
    __builtin_prefetch((const void *)behind, 1);
    __builtin_prefetch((const void *)(behind - 64), 1);
    return g;
}

OWN_INLINE void tdl_ring_put(tdl_runq *q, tdl_g *g) {
    if (TDL_UNLIKELY(!tdl_runq_put(q, g))) tdl_ring_overflow(q, g);
}

/* The next of p's own; NULL: none. */
OWN_INLINE tdl_g *tdl_take_local(tdl_p *p) {
    tdl_g *g = tdl_runnext_take(p);
    if (g) return g;
    if (p->front_left > 0 && (g = tdl_ring_get(&p->front)) != NULL) {
        p->front_left--;
        return g;
    }
    if ((g = tdl_ring_get(&p->runq)) == NULL) g = tdl_ring_get(&p->front);
    p->front_left = FRONT_RUN;
    return g;
}

/* Makes g runnable, from within the runtime, which is left: p and was are what
 * tdl_p_enter gave. */
OWN_INLINE void tdl_make_runnable(tdl_m *m, tdl_p *p, uint32_t was, tdl_g *g, uint8_t woken) {
    g->woken = woken;
    if (TDL_UNLIKELY(!p)) {
        tdl_global_put(g);
    } else {
        at_store_rlx(&g->status, G_RUNNABLE);
        if (TDL_UNLIKELY(m->batch)) {
            tdl_ring_put(&p->front, g); /* tdl_batch_end wakes */
            tdl_p_leave(m, was);
            return;
        }
        tdl_g *old = tdl_runnext_swap(p, g);
        if (old) {
            tdl_ring_put(&p->runq, old);
            if (!tdl_solo()) at_fence_seq(); /* between the ring's tail and the look at nidle */
        }
    }
    tdl_p_leave(m, was);
    tdl_wake_if_idle();
}

#endif
