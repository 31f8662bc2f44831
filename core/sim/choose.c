/* SPDX-License-Identifier: MIT
 *
 * The strategies: every choice of a simulation comes from here, and so from
 * the seed.
 *
 * RANDOM: at a point, another ready virtual thread goes on with odds that are
 * themselves drawn from the seed, so that some seeds change over at almost every
 * point and others seldom. A running goroutine is sent behind the others, and a
 * queue's order changed, in the same way.
 *
 * PCT (Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized Scheduler with
 * Probabilistic Guarantees of Finding Bugs, 2010): each goroutine gets a random
 * priority when it is first seen, and who has the highest goes on; at depth - 1
 * random steps the one that is running falls below all others. A bug that needs
 * d orderings among n goroutines in k steps is found with a probability of at
 * least 1 / (n k^(d-1)) by each seed. The number of steps is not known before:
 * the change points are spread evenly over its logarithm. A goroutine that yields
 * or spins falls, too, or those that it waits for would never run.
 *
 * A virtual thread is worth what the best goroutine is that it runs or has in
 * its queues, or, when it has none, the best in the global queue. With
 * TDL_SIM_ATOMICS, where what is under test is the core itself, the virtual
 * threads have the priorities.
 */
#define TDL_SIM_ITSELF
#include "sim/sim.h"

/* Change points lie between step 2^LOG_FIRST and 2^(LOG_FIRST + LOG_RANGE). */
#ifdef TDL_SIM_ATOMICS
enum { HIGH = 1 << 30, SPIN = 2000, LOG_FIRST = 7, LOG_RANGE = 10 };
#else
enum { HIGH = 1 << 30, SPIN = 2000, LOG_FIRST = 3, LOG_RANGE = 10 };
#endif

/* -- Random numbers -------------------------------------------------------------- */

TDL_NO_TSAN uint64_t tdl_sim_number64(void) { /* splitmix64 (Steele, Lea, Flood 2014) */
    uint64_t z = tdl_sim.rng += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

TDL_NO_TSAN static uint32_t below(uint32_t n) {
    return (uint32_t)(((tdl_sim_number64() >> 32) * n) >> 32);
}

static bool one_in(uint32_t n) { return n && below(n) == 0; }

/* -- At the beginning --------------------------------------------------------------- */

TDL_NO_TSAN void tdl_sim_strategy(void) {
    static const uint32_t switches[] = {1, 2, 4, 16}, cores[] = {2, 8, 32, 128},
                          others[] = {0, 2, 4, 16}, budgets[] = {0, 0, 1, 31};
    tdl_sim.rng = tdl_sim.opts.seed;
    tdl_sim.switch_odds = switches[below(4)];
    tdl_sim.core_odds = cores[below(4)];
    tdl_sim.requeue_odds = others[below(4)];
    tdl_sim.reorder_odds = others[below(4)];
    tdl_sim.budget = budgets[below(4)];
    tdl_sim.low = HIGH;
    tdl_sim.nchanges = tdl_sim.opts.depth - 1;
    for (int i = 0; i < tdl_sim.nchanges; i++) {
        uint64_t magnitude = UINT64_C(1) << (LOG_FIRST + below(LOG_RANGE));
        tdl_sim.change_at[i] = magnitude + tdl_sim_number64() % magnitude;
    }
    tdl_sim.last_who = tdl_sim.run_of = 0;
}

/* -- Priorities ------------------------------------------------------------------------ */

/* g->sim: the goroutine's number above, its priority below. */
TDL_NO_TSAN static uint32_t priority(tdl_g *g) {
    uint32_t id = (uint32_t)g->id;
    if (g->sim >> 32 != id) g->sim = (uint64_t)id << 32 | (HIGH + below(HIGH));
    return (uint32_t)g->sim;
}

TDL_NO_TSAN static void fall(tdl_g *g) { g->sim = (uint64_t)(uint32_t)g->id << 32 | --tdl_sim.low; }

TDL_NO_TSAN static _Atomic(tdl_g *) * nth(tdl_runq *q, uint32_t i) {
    return &q->slot[(at_load_rlx(&q->head) + i) % RUNQ_SIZE];
}

/* Where the i-th of p's runnable ones is, in any order; NULL beyond the last. */
TDL_NO_TSAN static _Atomic(tdl_g *) * queued(tdl_p *p, uint32_t i) {
    bool next = at_load_rlx(&p->runnext) != NULL;
    if (next && i == 0) return &p->runnext;
    i -= next;
    if (i < tdl_runq_len(&p->front)) return nth(&p->front, i);
    i -= tdl_runq_len(&p->front);
    return i < tdl_runq_len(&p->runq) ? nth(&p->runq, i) : NULL;
}

TDL_NO_TSAN static uint32_t best_queued(tdl_p *p, uint32_t *where) {
    uint32_t best = 0;
    _Atomic(tdl_g *) * at;
    for (uint32_t i = 0; (at = queued(p, i)) != NULL; i++) {
        uint32_t own = priority(at_load_rlx(at));
        if (own <= best) continue;
        best = own;
        *where = i;
    }
    return best;
}

#ifdef TDL_SIM_ATOMICS
TDL_NO_TSAN static uint32_t worth(tdl_vthread *v) {
    if (!v->priority) v->priority = HIGH + below(HIGH);
    return v->priority;
}

TDL_NO_TSAN static void current_falls(void) { tdl_sim.current->priority = --tdl_sim.low; }

TDL_NO_TSAN static uint64_t who(void) { return (uint64_t)tdl_sim.current->id + 1; }
#else
/* Who runs now, or is about to be taken. */
TDL_NO_TSAN static tdl_g *current_g(void) {
    tdl_m *m = tdl_m_self();
    tdl_p *p = at_load_rlx(&m->p);
    uint32_t where;
    if (m->g || !p || best_queued(p, &where) == 0) return m->g;
    return at_load_rlx(queued(p, where));
}

TDL_NO_TSAN static void current_falls(void) {
    tdl_g *g = current_g();
    if (g) fall(g);
}

TDL_NO_TSAN static uint64_t who(void) {
    tdl_g *g = tdl_m_self()->g;
    return g ? g->id : 0;
}

TDL_NO_TSAN static uint32_t best_global(void) {
    uint32_t best = 0;
    for (int i = 0; i < 2; i++)
        for (tdl_g *g = tdl_sched.global[i].head; g; g = g->next)
            if (priority(g) > best) best = priority(g);
    return best;
}

TDL_NO_TSAN static uint32_t worth(tdl_vthread *v) {
    tdl_m *m = v == tdl_sim.current ? tdl_m_self() : v->m;
    tdl_p *p = m ? at_load_rlx(&m->p) : NULL;
    uint32_t where, own = m && m->g ? priority(m->g) : 0;
    uint32_t queued = p ? best_queued(p, &where) : 0;
    uint32_t global = own || queued ? 0 : best_global();
    uint32_t most = own > queued ? own : queued;
    return most > global ? most : global;
}
#endif

/* Who runs falls at a change point, or when it spins. */
TDL_NO_TSAN static void maybe_fall(void) {
    bool falls = false;
    for (int i = 0; i < tdl_sim.nchanges; i++) falls |= tdl_sim.change_at[i] == tdl_sim.steps;
    if (who() != tdl_sim.last_who) {
        tdl_sim.last_who = who();
        tdl_sim.run_of = 0;
    }
    if (++tdl_sim.run_of == SPIN) {
        tdl_sim.run_of = 0;
        falls = true;
    }
    if (falls) current_falls();
}

/* -- Choosing ------------------------------------------------------------------------------ */

static bool is_ready(tdl_vthread *v) { return v->state == VT_READY; }

TDL_NO_TSAN static tdl_vthread *any(void) { return tdl_sim.ready[below((uint32_t)tdl_sim.nready)]; }

TDL_NO_TSAN static tdl_vthread *best(void) {
    tdl_vthread *v = NULL;
    uint32_t most = 0;
    for (int i = 0; i < tdl_sim.nready; i++) {
        uint32_t own = worth(tdl_sim.ready[i]);
        if (v && own <= most) continue;
        v = tdl_sim.ready[i];
        most = own;
    }
    return v;
}

#ifndef TDL_SIM_ATOMICS
TDL_NO_TSAN static uint32_t nqueued(tdl_p *p) {
    return (at_load_rlx(&p->runnext) != NULL) + tdl_runq_len(&p->front) + tdl_runq_len(&p->runq);
}

/* Which of them runs first: see tdl_take_local. NULL: there is none. */
TDL_NO_TSAN static _Atomic(tdl_g *) * first_queued(tdl_p *p) {
    bool front = tdl_runq_len(&p->front), ring = tdl_runq_len(&p->runq);
    if (at_load_rlx(&p->runnext)) return &p->runnext;
    if (front && (p->front_left > 0 || !ring)) return nth(&p->front, 0);
    return ring ? nth(&p->runq, 0) : NULL;
}

/* And for how many dispatches it will not look again. */
TDL_NO_TSAN void tdl_sim_order(tdl_p *p) {
    bool pct = tdl_sim.opts.strategy == TDL_SIM_PCT;
    p->budget_full = pct ? 0 : (int)tdl_sim.budget;
    at_store_rlx(&p->budget, p->budget_full);
    uint32_t where, n = nqueued(p);
    if (n < 2) return;
    if (pct)
        best_queued(p, &where);
    else if (one_in(tdl_sim.reorder_odds))
        where = below(n);
    else
        return;
    _Atomic(tdl_g *) *first = first_queued(p), *other = queued(p, where);
    tdl_g *g = at_load_rlx(first);
    at_store_rlx(first, at_load_rlx(other));
    at_store_rlx(other, g);
}
#endif

/* The goroutine that has just left by its own yield falls. */
TDL_NO_TSAN static void yielded_falls(void) {
    tdl_m *m = tdl_m_self();
    if (m->after == AFTER_YIELD && !tdl_sim.current->requeued) fall(m->after_g);
    m->after = AFTER_NOTHING; /* once is enough */
    tdl_sim.current->requeued = false;
}


TDL_NO_TSAN tdl_vthread *tdl_sim_choose(int kind) {
    tdl_vthread *now = tdl_sim.current;
    if (tdl_sim.reason && is_ready(tdl_sim.threads[0])) return tdl_sim.threads[0];
    if (tdl_sim.opts.strategy == TDL_SIM_PCT && !tdl_sim.reason) {
        if (kind == POINT_LOOK) yielded_falls();
        maybe_fall();
        return best();
    }
    uint32_t odds = kind == POINT_CORE ? tdl_sim.core_odds : tdl_sim.switch_odds;
    return is_ready(now) && !one_in(odds) ? now : any();
}

TDL_NO_TSAN tdl_vthread *tdl_sim_other(void) {
    if (tdl_sim.nready < 2) return tdl_sim.current;
    uint32_t i = below((uint32_t)tdl_sim.nready - 1);
    tdl_vthread *last = tdl_sim.ready[tdl_sim.nready - 1];
    return tdl_sim.ready[i] == tdl_sim.current ? last : tdl_sim.ready[i];
}

TDL_NO_TSAN bool tdl_sim_requeues(void) {
    tdl_m *m = tdl_m_self();
    tdl_p *p = at_load_rlx(&m->p);
    if (!p) return false;
    if (tdl_sim.opts.strategy != TDL_SIM_PCT) return one_in(tdl_sim.requeue_odds);
    uint32_t where;
    return best_queued(p, &where) > priority(m->g);
}
