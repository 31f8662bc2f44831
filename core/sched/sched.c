/* SPDX-License-Identifier: MIT
 *
 * The scheduler: switching from goroutine to goroutine, and finding the next.
 *
 * Parking switches straight to the next goroutine of the P; to the scheduler's
 * own stack (g0) only when there is none or the budget is used up. What must
 * not happen before the old stack has been left (publishing that it waits,
 * putting it back, freeing it) is done on the new one, in after_switch.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sched/sched.h"

#include <unistd.h>

#include "sched/local.h"
#include "sched/stack.h"
#include "sched/switch.h"
#include "sys/os.h"
#include "sys/sys.h"

#ifdef TDL_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

enum {
    BUDGET = 31,         /* dispatches between two looks at poller and timers */
    BUDGET_NS = 200000,  /* and about how long they may take */
    GLOBAL_ROUNDS = 2,   /* the global queue goes first every 2 budgets (Go: every 61st) */
    STEAL_PASSES = 4,
    RUNNEXT_GRACE = 100, /* pauses before a running P's runnext is taken: about 3 us */
};

struct tdl_sched tdl_sched = {.lock = TDL_LOCK_INIT(RANK_SCHED), .run_lock = TDL_LOCK_INIT(RANK_RUN)};

/* -- Switching ------------------------------------------------------------------ */

/* What was left to do until the old stack was no longer in use. A goroutine's
 * own code comes next, unless this is g0: the M leaves the runtime. */
TDL_NO_TSAN static void after_switch(void) {
    tdl_m *m = tdl_m_self();
    tdl_g *g = m->after_g;
    TDL_TSAN_ACQUIRE(m); /* from who started the thread, and wrote its first state */
    switch (m->after) {
    case AFTER_PARK: tdl_op_commit(&g->op); break;
    case AFTER_YIELD: tdl_g_requeue(m, g); break;
    case AFTER_REJOIN: tdl_g_to_global(g); break;
    case AFTER_ABANDON: at_store_rel(&g->status, G_RUNNABLE); break; /* acquire in bury */
    case AFTER_EXIT: tdl_g_ended(m, g); break;
    default: break;
    }
    if (m->g) at_store_rel(&m->busy, 0); /* as in tdl_p_leave */
}

/* The one call of tdl_switch, with the sanitizers' announcements in the same
 * frame. TSan's flag 1: a switch by itself orders nothing. */
TDL_NO_TSAN TDL_NOINLINE static void switch_to(tdl_m *m, tdl_g *from, tdl_g *to, int after) {
    m->after = after;
    m->after_g = from;
    m->g = to == &m->g0 ? NULL : to;
    at_store_rlx(&to->status, G_RUNNING);
#ifdef TDL_ASAN
    size_t size = m->stack_size;
    void *low = m->stack_low;
    if (m->g) low = tdl_stack_low(to, &size);
    __sanitizer_start_switch_fiber(after == AFTER_EXIT ? NULL : &from->fake_stack, low, size);
#endif
#ifdef TDL_TSAN
    __tsan_release(&m->after); /* to whoever frees m: see tdl_threads_reap */
    __tsan_switch_to_fiber(to->fiber, 1);
#endif
    tdl_switch(&from->sp, to->sp);
#ifdef TDL_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
    after_switch();
}

static inline bool spend(tdl_p *p) {
    int left = at_load_rlx(&p->budget) - 1;
    at_store_rlx(&p->budget, left); /* sysmon sees that it changes */
    return left >= 0;
}

TDL_NO_TSAN static void leave(tdl_m *m, tdl_g *g, int after) {
    uint32_t was;
    tdl_p *p = tdl_p_enter(m, &was); /* until after_switch */
    tdl_g *next = NULL;
    if (TDL_LIKELY(p && spend(p))) next = tdl_take_local(p);
    switch_to(m, g, next ? next : &m->g0, after);
}

TDL_NO_TSAN void tdl_g_park(tdl_g *g) {
    tdl_lock_none_held();
    tdl_m *m = tdl_m_self();
    tdl_p *p = at_load_rlx(&m->p); /* anybody's may be asked */
    g->op.parked_at = p ? at_load_rlx(&p->asked) : tdl_sys.now();
    at_store_rlx(&g->status, G_WAITING);
    leave(m, g, AFTER_PARK);
    TDL_TSAN_ACQUIRE(g);
}

TDL_NO_TSAN void tdl_g_rejoin(tdl_g *g) {
    TDL_TSAN_RELEASE(g);
    tdl_m *m = tdl_m_self();
    uint32_t was;
    tdl_p_enter(m, &was);
    g->woken = 1;
    switch_to(m, g, &m->g0, AFTER_REJOIN);
    TDL_TSAN_ACQUIRE(g);
}

TDL_NO_TSAN void tdl_g_abandon(tdl_g *g) {
    TDL_TSAN_RELEASE(g);
    tdl_m *m = tdl_m_self();
    uint32_t was;
    tdl_p_enter(m, &was);
    switch_to(m, g, &m->g0, AFTER_ABANDON);
}

TDL_NO_TSAN void tdl_g_exit(tdl_g *g) {
    TDL_TSAN_RELEASE(g);
    TDL_TSAN_RELEASE(&g->join_lock); /* to who joins, through tdl_g_ended */
    leave(tdl_m_self(), g, AFTER_EXIT);
    tdl_fatal("goroutine %llu runs after its end", (unsigned long long)g->id);
}

TDL_NO_TSAN void tdl_yield(void) {
    tdl_m *m = tdl_m_self();
    tdl_g *g = m->g;
    if (!g || g->pins || m->on_system) {
        if (at_load_rlx(&m->deny) >= 0) tdl_thread_yield();
        return;
    }
    uint32_t was;
    tdl_p *p = tdl_p_enter(m, &was);
    tdl_g *next = NULL;
    if (TDL_LIKELY(p && spend(p))) {
        next = tdl_take_local(p);
        if (!next && at_load_rlx(&tdl_sched.nglobal) == 0) {
            tdl_p_leave(m, was);
            return;
        }
    }
    switch_to(m, g, next ? next : &m->g0, AFTER_YIELD);
}

TDL_NO_TSAN void tdl_g_entry(void) {
#ifdef TDL_ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
    after_switch();
    tdl_g *g = tdl_m_self()->g;
    TDL_TSAN_ACQUIRE(g);
    g->fn(g->arg);
    tdl_g_exit(g);
}

/* -- Stealing ---------------------------------------------------------------------- */

static uint32_t gcd(uint32_t a, uint32_t b) {
    while (b) {
        uint32_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* Half of q goes to p's ring; one of them is returned. */
static tdl_g *steal_half(tdl_p *p, tdl_runq *q) {
    tdl_g *half[RUNQ_SIZE / 2];
    uint32_t n = tdl_runq_grab(q, half);
    if (n == 0) return NULL;
    for (uint32_t i = 0; i + 1 < n; i++) tdl_runq_put(&p->runq, half[i]);
    return half[n - 1];
}

/* What it takes only when there is nothing else: the one that is about to run
 * (taking that from a P that is no hog would make a ping-pong pair travel), and
 * the events of a P that is too busy to ask for them. */
static tdl_g *steal_last(tdl_m *m, tdl_p *p, tdl_p *victim) {
    tdl_g *g = at_load_rlx(&victim->runnext);
    if (g) {
        for (int i = 0; i < RUNNEXT_GRACE && !tdl_sys.simulated; i++) at_pause();
        if (at_cas_seq(&victim->runnext, &g, NULL)) return g;
    }
    if (at_load_rlx(&victim->poller.npd) == 0 || at_load_rlx(&p->asked) - at_load_rlx(&victim->asked) < BUDGET_NS)
        return NULL;
    tdl_batch_begin(m);
    tdl_poller_serve(&victim->poller);
    tdl_batch_end(m, p);
    return tdl_take_local(p);
}

/* Every other P once per pass, from a random one on in a random stride coprime
 * to their number. */
static tdl_g *steal(tdl_m *m, tdl_p *p) {
    uint32_t np = (uint32_t)tdl_nprocs();
    for (int pass = 0; pass < STEAL_PASSES; pass++) {
        uint32_t at = tdl_random(np), stride = 1 + tdl_random(np);
        while (gcd(stride, np) != 1) stride = 1 + stride % np;
        for (uint32_t i = 0; i < np; i++, at = (at + stride) % np) {
            tdl_p *victim = tdl_sched.p[at];
            if (victim == p) continue;
            tdl_g *g = steal_half(p, &victim->front);
            if (!g) g = steal_half(p, &victim->runq);
            if (!g && pass == STEAL_PASSES - 1) g = steal_last(m, p, victim);
            if (g) return g;
        }
    }
    return NULL;
}

/* -- Finding work ----------------------------------------------------------------- */

/* Expired timers and, when asked, ready descriptors become runnable. */
TDL_NO_TSAN static void ask(tdl_m *m, tdl_p *p, bool poll) {
    int64_t now = tdl_sys.now();
    if (at_load_rlx(&p->budget) < 0) {
        /* the last budget was spent; was it the right size? */
        if (now - at_load_rlx(&p->asked) > BUDGET_NS)
            p->budget_full = p->budget_full > 1 ? p->budget_full / 2 : 1;
        else if (p->budget_full < BUDGET)
            p->budget_full = 2 * p->budget_full < BUDGET ? 2 * p->budget_full : BUDGET;
    }
    at_store_rlx(&p->budget, p->budget_full);
    at_store_rlx(&p->asked, now);
    tdl_batch_begin(m);
    tdl_timers_run(&p->poller.timers, now);
    if (poll && at_load_rlx(&p->poller.npd) && tdl_poller_wait(&p->poller, 0) > 0)
        tdl_poller_dispatch(&p->poller);
    tdl_batch_end(m, p);
}

/* The next goroutine to run on p; NULL when the runtime stops. */
TDL_NO_TSAN static tdl_g *find(tdl_m *m, tdl_p *p) {
    TDL_TSAN_ACQUIRE(p); /* from the M that had it before: own.h */
    for (;;) {
        if (TDL_UNLIKELY(at_load_acq(&tdl_sched.stopping))) return NULL;
        if (TDL_UNLIKELY(at_load_rlx(&tdl_sched.solo))) tdl_procs_apply();
        bool spent = at_load_rlx(&p->budget) < 0;
        ask(m, p, spent);
        tdl_g *g = NULL;
        if (TDL_UNLIKELY((uint32_t)p->id >= at_load_rlx(&tdl_sched.active))) {
            if (m->spinning) tdl_stop_spinning(m); /* so that another is called */
            tdl_p_drain(p);
        } else if (TDL_UNLIKELY(at_load_rlx(&tdl_sched.crowded))) {
            at_store_rlx(&p->budget, 0); /* each is chosen here */
            g = tdl_take_woken(p);
        } else {
            if (spent) {
                tdl_demote_runnext(p);
                if (++p->rounds % GLOBAL_ROUNDS == 0) g = tdl_take_global(p, 1);
            }
            if (!g) g = tdl_take_local(p);
            if (!g) g = tdl_take_global(p, RUNQ_SIZE / 2);
            if (!g && tdl_start_spinning(m)) g = steal(m, p);
        }
        if (TDL_UNLIKELY(at_load_rlx(&m->deny)) && g) g = tdl_sys.look(g);
        if (g) {
            if (m->spinning) tdl_stop_spinning(m);
            TDL_TSAN_RELEASE(p);
            return g;
        }
        tdl_idle(m, p);
    }
}

/* -- The life of a worker M ---------------------------------------------------------- */

TDL_NO_TSAN static void run(tdl_m *m) {
    for (;;) {
        tdl_p *p = at_load_rlx(&m->p);
        if (!p && !(p = tdl_m_await_p(m))) return;
        tdl_g *g = find(m, p);
        if (!g) return;
        switch_to(m, &m->g0, g, AFTER_NOTHING);
        if (at_load_rlx(&m->pinned)) return; /* it ended without having unpinned: so does its thread */
    }
}

TDL_NO_TSAN void *tdl_m_main(void *arg) {
    tdl_m *m = arg;
    tdl_m_adopt(m);
    tdl_deadlock_rests();
    at_store_rlx(&m->busy, 1);
    if (!tdl_sys.simulated) {
        m->tid = tdl_os_thread_id();
        tdl_overflow_thread(m);
        tdl_os_name_thread("treadle-worker");
        tdl_os_exact_sleeps(); /* a sleep of 50 us ends 6 us late instead of 53 */
    }
#ifdef TDL_TSAN
    m->g0.fiber = __tsan_get_current_fiber();
    __tsan_release(m); /* the thread's beginning: who runs here sees its errno made */
#endif
#ifdef TDL_ASAN
    tdl_sys.stack(&m->stack_low, &m->stack_size);
#endif
    run(m);
    tdl_overflow_thread_ends(m);
    tdl_m_ends(m);
    tdl_m_adopt(NULL);
    return NULL;
}
