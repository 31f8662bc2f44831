/* SPDX-License-Identifier: MIT
 *
 * Making runnable. What a goroutine wakes or spawns runs next (runnext); what
 * that displaces goes to the ring; what I/O and timers wake goes to the front
 * of the ring, FRONT_RUN at a time, so that neither keeps the other waiting;
 * what an M without P makes runnable goes to the global queue.
 *
 * Visible first, then look for sleepers: see idle.c.
 */
#include "sched/local.h"

/* -- Global queue ------------------------------------------------------------ */

/* Under sched.lock. */
TDL_NO_TSAN static void append(tdl_glist *l, tdl_g *first, tdl_g *last) {
    last->next = NULL;
    if (l->tail)
        l->tail->next = first;
    else
        l->head = first;
    l->tail = last;
}

/* Under sched.lock, of a list that is not empty. */
TDL_NO_TSAN static tdl_g *remove_first(tdl_glist *l) {
    tdl_g *g = l->head;
    l->head = g->next;
    if (!l->head) l->tail = NULL;
    return g;
}

/* Under sched.lock. Seq: pairs with the looks of who goes idle. */
static void count(int32_t all, int32_t woken) {
    if (woken) at_store_seq(&tdl_sched.nwoken, at_load_rlx(&tdl_sched.nwoken) + (uint32_t)woken);
    at_store_seq(&tdl_sched.nglobal, at_load_rlx(&tdl_sched.nglobal) + (uint32_t)all);
}

TDL_NO_TSAN void tdl_global_put(tdl_g *g) {
    tdl_lock_take(&tdl_sched.lock);
    at_store_rlx(&g->status, G_RUNNABLE);
    append(&tdl_sched.global[g->woken], g, g);
    count(1, g->woken);
    tdl_unlock(&tdl_sched.lock);
}

TDL_NO_TSAN void tdl_g_to_global(tdl_g *g) {
    tdl_global_put(g);
    tdl_wake_if_idle();
}

/* A fair share, of the woken first; the first is returned, the rest goes to p's
 * ring, which is empty enough: max says how much it may hold. */
TDL_NO_TSAN tdl_g *tdl_take_global(tdl_p *p, uint32_t max) {
    if (at_load_rlx(&tdl_sched.nglobal) == 0) return NULL;
    tdl_lock_take(&tdl_sched.lock);
    uint32_t total = at_load_rlx(&tdl_sched.nglobal), woken = 0;
    uint32_t n = total / at_load_rlx(&tdl_sched.active) + 1;
    if (n > total) n = total;
    if (n > max) n = max;
    tdl_g *got = NULL;
    for (uint32_t i = 0; i < n; i++) {
        /* a share of one takes turns, so that the woken cannot starve the rest */
        bool other = n == 1 && (++p->rounds & 1);
        tdl_glist *l = &tdl_sched.global[other ? 0 : 1];
        if (!l->head) l = &tdl_sched.global[other ? 1 : 0];
        tdl_g *g = remove_first(l);
        woken += g->woken;
        if (!got)
            got = g;
        else
            tdl_runq_put(&p->runq, g);
    }
    count(-(int32_t)n, -(int32_t)woken);
    tdl_unlock(&tdl_sched.lock);
    return got;
}

/* -- The P's own queues (local.h) ------------------------------------------------ */

/* The ring is full: half of it and g go to the global queue. */
TDL_NO_TSAN TDL_NOINLINE void tdl_ring_overflow(tdl_runq *q, tdl_g *g) {
    tdl_g *half[RUNQ_SIZE / 2 + 1];
    uint32_t n = tdl_runq_grab(q, half);
    half[n++] = g;
    int32_t woken = 0;
    tdl_lock_take(&tdl_sched.lock);
    for (uint32_t i = 0; i < n; i++) {
        append(&tdl_sched.global[half[i]->woken], half[i], half[i]);
        woken += half[i]->woken;
    }
    count((int32_t)n, woken);
    tdl_unlock(&tdl_sched.lock);
}

bool tdl_p_has_work(tdl_p *p) {
    if (at_load_seq(&p->runq.head) != at_load_seq(&p->runq.tail)) return true;
    if (at_load_seq(&p->front.head) != at_load_seq(&p->front.tail)) return true;
    return at_load_seq(&p->runnext) != NULL;
}

TDL_NO_TSAN bool tdl_p_gathers(const tdl_poller *poller, bool soon) {
    enum { SHORT = 4 }; /* the budget is larger: see sched.c */
    tdl_m *m = tdl_m_self();
    uint32_t was;
    tdl_p *p = tdl_p_enter(m, &was);
    bool yes = p && &p->poller == poller && p->budget_full > SHORT && (soon || tdl_p_has_work(p));
    tdl_p_leave(m, was);
    return yes;
}

TDL_NO_TSAN void tdl_demote_runnext(tdl_p *p) {
    if (!at_load_rlx(&p->runnext) || (tdl_runq_len(&p->runq) == 0 && tdl_runq_len(&p->front) == 0)) return;
    tdl_g *g = tdl_runnext_take(p);
    if (g) tdl_ring_put(&p->runq, g);
}

TDL_NO_TSAN void tdl_p_drain(tdl_p *p) {
    tdl_g *g;
    while ((g = tdl_take_local(p)) != NULL) tdl_global_put(g);
    tdl_wake_if_idle();
}

TDL_NO_TSAN tdl_g *tdl_take_woken(tdl_p *p) {
    tdl_g *g = tdl_runnext_take(p);
    if (g && g->woken) return g;
    if (g) tdl_global_put(g);
    tdl_g *first = tdl_ring_get(&p->front);
    while ((g = tdl_ring_get(&p->runq)) != NULL) {
        if (g->woken && !first)
            first = g;
        else if (g->woken)
            tdl_ring_put(&p->front, g);
        else
            tdl_global_put(g);
    }
    if (first || at_load_rlx(&tdl_sched.nwoken) == 0) return first;
    tdl_lock_take(&tdl_sched.lock);
    if (tdl_sched.global[1].head) {
        first = remove_first(&tdl_sched.global[1]);
        count(-1, -1);
    }
    tdl_unlock(&tdl_sched.lock);
    return first;
}

/* -- Making runnable --------------------------------------------------------------- */

TDL_NO_TSAN void tdl_g_ready(tdl_g *g) {
    TDL_TSAN_RELEASE(g);
    tdl_m *m = tdl_m_self();
    uint32_t was;
    tdl_p *p = tdl_p_enter(m, &was);
    tdl_make_runnable(m, p, was, g, 1);
}

/* Behind the others: at the end of the global queue if there is one, as in Go. */
TDL_NO_TSAN void tdl_g_requeue(tdl_m *m, tdl_g *g) {
    tdl_p *p = at_load_rlx(&m->p); /* on m's own behalf: it is in the runtime */
    g->woken = 0;
    if (TDL_UNLIKELY(!p || at_load_rlx(&tdl_sched.nglobal))) {
        tdl_global_put(g);
        if (!p) tdl_wake_if_idle();
        return;
    }
    at_store_rlx(&g->status, G_RUNNABLE);
    tdl_ring_put(&p->runq, g);
}

/* Events and timers make many ready at once. The first of them is for this P,
 * which is about to look for work; more are for others, too. */
TDL_NO_TSAN void tdl_batch_begin(tdl_m *m) { m->batch = true; }

TDL_NO_TSAN void tdl_batch_end(tdl_m *m, tdl_p *p) {
    m->batch = false;
    if (tdl_runq_len(&p->front) + tdl_runq_len(&p->runq) < 2) return;
    at_fence_seq(); /* between the rings' tails and the look at nidle */
    tdl_wake_if_idle();
}
