/* SPDX-License-Identifier: MIT
 *
 * The scheduler: run queues, switching, stealing, idling and waking.
 *
 * No lost wake-up. A submitter makes its goroutine visible (runnext, ring or
 * global queue) and then reads nspinning and nidle; an M that stops spinning
 * lowers nspinning and then looks at every queue again; an M that goes idle
 * enters the idle list under sched.lock, having looked at the global queue
 * under that lock. All of these are sequentially consistent, so of the two
 * sides at least one sees the other (Go's rule, proc.go).
 *
 * No superfluous one: at most one M is woken to spin at a time; the last
 * spinner that finds work wakes the next.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sched/sched.h"

#include <sys/prctl.h>

#include "sched/stack.h"
#include "sched/switch.h"
#include "sys/sys.h"

#ifdef TDL_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

enum {
    BUDGET = 31,         /* dispatches between two looks at poller and timers */
    BUDGET_NS = 200000,  /* and about how long they may take */
    GLOBAL_ROUNDS = 2,   /* the global queue goes first every 2 budgets (Go: every 61st) */
    STEAL_PASSES = 4,
    WATCH_NS = 10000000, /* how late another's event may be noticed (Go: 10 ms, by sysmon) */
    RUNNEXT_GRACE = 100, /* pauses before a running P's runnext is taken: about 3 us */
};

struct tdl_sched tdl_sched;

/* -- Global queue ------------------------------------------------------------ */

TDL_NO_TSAN static void global_append(tdl_g *first, tdl_g *last, uint32_t n) {
    last->next = NULL;
    if (tdl_sched.tail)
        tdl_sched.tail->next = first;
    else
        tdl_sched.head = first;
    tdl_sched.tail = last;
    at_store_seq(&tdl_sched.nglobal, at_load_rlx(&tdl_sched.nglobal) + n);
}

TDL_NO_TSAN static void global_put(tdl_g *g) {
    tdl_lock_take(&tdl_sched.lock);
    at_store_rlx(&g->status, G_RUNNABLE);
    global_append(g, g, 1);
    tdl_unlock(&tdl_sched.lock);
}

/* Takes a fair share; the first is returned, the rest goes to p's ring, which
 * is empty enough: max says how much it may hold. */
TDL_NO_TSAN static tdl_g *global_take(tdl_p *p, uint32_t max) {
    if (at_load_rlx(&tdl_sched.nglobal) == 0) return NULL;
    tdl_lock_take(&tdl_sched.lock);
    uint32_t total = at_load_rlx(&tdl_sched.nglobal);
    uint32_t n = total / (uint32_t)tdl_nprocs() + 1;
    if (n > total) n = total;
    if (n > max) n = max;
    tdl_g *got = NULL;
    for (uint32_t i = 0; i < n; i++) {
        tdl_g *g = tdl_sched.head;
        tdl_sched.head = g->next;
        if (!tdl_sched.head) tdl_sched.tail = NULL;
        if (!got)
            got = g;
        else
            tdl_runq_put(&p->runq, g);
    }
    at_store_seq(&tdl_sched.nglobal, total - n);
    tdl_unlock(&tdl_sched.lock);
    return got;
}

/* -- Waking ------------------------------------------------------------------ */

static tdl_p *idle_pop(void) { /* under sched.lock */
    tdl_p *p = tdl_sched.idle;
    tdl_sched.idle = p->next_idle;
    p->idle = false;
    at_store_seq(&tdl_sched.nidle, at_load_rlx(&tdl_sched.nidle) - 1);
    return p;
}

static void idle_push(tdl_p *p) { /* under sched.lock */
    p->idle = true;
    p->next_idle = tdl_sched.idle;
    tdl_sched.idle = p;
    at_store_seq(&tdl_sched.nidle, at_load_rlx(&tdl_sched.nidle) + 1);
}

static void idle_remove(tdl_p *p) { /* under sched.lock */
    for (tdl_p **at = &tdl_sched.idle; *at; at = &(*at)->next_idle) {
        if (*at != p) continue;
        *at = p->next_idle;
        p->idle = false;
        at_store_seq(&tdl_sched.nidle, at_load_rlx(&tdl_sched.nidle) - 1);
        return;
    }
}

static int start_m(tdl_p *p) {
    tdl_m *m = tdl_alloc_zeroed(sizeof *m);
    if (!m) return TDL_ENOMEM;
    m->p = p;
    m->spinning = true;
    m->op.kind = OP_OF_THREAD;
    p->m = m;
    TDL_TSAN_RELEASE(m);
    at_add_seq(&tdl_sched.nthreads, 1);
    int r = tdl_sys.thread(tdl_m_main, m, &m->thread);
    if (r == 0) return 0;
    at_sub_seq(&tdl_sched.nthreads, 1);
    p->m = NULL;
    tdl_sys.release(m);
    return r;
}

/* p was popped from the idle list, and nspinning counts for it. The stopping
 * runtime waits for nwaking before it closes p's poller. */
static int wake_p(tdl_p *p) {
    int r = 0;
    if (p->m)
        tdl_poller_kick(&p->poller);
    else if ((r = start_m(p)) != 0) {
        tdl_lock_take(&tdl_sched.lock);
        idle_push(p);
        tdl_unlock(&tdl_sched.lock);
        at_sub_seq(&tdl_sched.nspinning, 1);
    }
    at_sub_seq(&tdl_sched.nwaking, 1);
    return r;
}

TDL_NOINLINE static void wake_one(void) {
    uint32_t none = 0;
    if (!at_cas_seq(&tdl_sched.nspinning, &none, 1)) return;
    tdl_lock_take(&tdl_sched.lock);
    if (!tdl_sched.idle || at_load_rlx(&tdl_sched.stopping)) {
        tdl_unlock(&tdl_sched.lock);
        at_sub_seq(&tdl_sched.nspinning, 1);
        return;
    }
    tdl_p *p = idle_pop();
    at_add_seq(&tdl_sched.nwaking, 1);
    tdl_unlock(&tdl_sched.lock);
    wake_p(p);
}

/* After a goroutine was made visible: somebody idle should come and look. */
static inline void wake_if_idle(void) {
    if (at_load_seq(&tdl_sched.nidle) != 0 && at_load_seq(&tdl_sched.nspinning) == 0) wake_one();
}

int tdl_p_ensure(tdl_p *p) {
    tdl_lock_take(&tdl_sched.lock);
    if (!p->idle || p->m || at_load_rlx(&tdl_sched.stopping)) {
        tdl_unlock(&tdl_sched.lock);
        return 0;
    }
    idle_remove(p);
    at_add_seq(&tdl_sched.nwaking, 1);
    tdl_unlock(&tdl_sched.lock);
    at_add_seq(&tdl_sched.nspinning, 1);
    return wake_p(p);
}

/* -- Making runnable ---------------------------------------------------------- */

/* The ring is full: half of it and g go to the global queue. */
TDL_NO_TSAN static void overflow(tdl_p *p, tdl_g *g) {
    tdl_g *half[RUNQ_SIZE / 2 + 1];
    uint32_t n = tdl_runq_grab(&p->runq, half);
    half[n++] = g;
    for (uint32_t i = 0; i + 1 < n; i++) half[i]->next = half[i + 1];
    tdl_lock_take(&tdl_sched.lock);
    global_append(half[0], half[n - 1], n);
    tdl_unlock(&tdl_sched.lock);
}

static inline void ring_put(tdl_p *p, tdl_g *g) {
    if (TDL_UNLIKELY(!tdl_runq_put(&p->runq, g))) overflow(p, g);
}

TDL_NO_TSAN void tdl_g_ready(tdl_g *g) {
    TDL_TSAN_RELEASE(g);
    tdl_m *m = tdl_m_self();
    tdl_p *p = m->p;
    if (!p) {
        global_put(g);
    } else {
        at_store_rlx(&g->status, G_RUNNABLE);
        if (m->batch) {
            ring_put(p, g); /* end_batch wakes */
            return;
        }
        tdl_g *old = at_xchg_seq(&p->runnext, g);
        if (old) ring_put(p, old);
    }
    wake_if_idle();
}

/* Events and timers make many ready at once. The first of them is for this P,
 * which is about to look for work; more are for others, too. */
TDL_NO_TSAN static void begin_batch(tdl_m *m) { m->batch = true; }

TDL_NO_TSAN static void end_batch(tdl_m *m) {
    m->batch = false;
    if (tdl_runq_len(&m->p->runq) < 2) return;
    at_fence_seq(); /* between the ring's tail and the look at nidle */
    wake_if_idle();
}

/* Behind the others: at the end of the global queue if there is one, as in Go. */
TDL_NO_TSAN void tdl_g_requeue(tdl_g *g) {
    if (TDL_UNLIKELY(at_load_rlx(&tdl_sched.nglobal))) {
        global_put(g);
        return;
    }
    at_store_rlx(&g->status, G_RUNNABLE);
    ring_put(tdl_m_self()->p, g);
}

/* -- Switching ------------------------------------------------------------------ */

/* What was left to do until the old stack was no longer in use. */
TDL_NO_TSAN static void after_switch(void) {
    tdl_m *m = tdl_m_self();
    tdl_g *g = m->after_g;
    TDL_TSAN_ACQUIRE(m); /* from start_m, which wrote its first state */
    switch (m->after) {
    case AFTER_PARK: tdl_op_commit(&g->op); break;
    case AFTER_YIELD: tdl_g_requeue(g); break;
    case AFTER_EXIT: tdl_g_ended(g); break;
    default: break;
    }
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
    __tsan_release(&m->after); /* to whoever frees m: see join_threads */
    __tsan_switch_to_fiber(to->fiber, 1);
#endif
    tdl_switch(&from->sp, to->sp);
#ifdef TDL_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
    after_switch();
}

TDL_NO_TSAN static inline tdl_g *take_local(tdl_p *p) {
    if (at_load_rlx(&p->runnext)) {
        tdl_g *g = at_xchg_seq(&p->runnext, NULL);
        if (g) return g;
    }
    return tdl_runq_get(&p->runq);
}

/* Straight to the next goroutine; to the scheduler's own stack only when there
 * is none or the budget is used up. */
TDL_NO_TSAN static void leave(tdl_m *m, tdl_g *g, int after) {
    tdl_p *p = m->p;
    tdl_g *next = NULL;
    if (TDL_LIKELY(--p->budget >= 0)) next = take_local(p);
    switch_to(m, g, next ? next : &m->g0, after);
}

TDL_NO_TSAN void tdl_g_park(tdl_g *g) {
    at_store_rlx(&g->status, G_WAITING);
    leave(tdl_m_self(), g, AFTER_PARK);
    TDL_TSAN_ACQUIRE(g);
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
    if (!g) {
        if (!m->deny) tdl_thread_yield();
        return;
    }
    tdl_p *p = m->p;
    tdl_g *next = NULL;
    if (TDL_LIKELY(--p->budget >= 0)) {
        next = take_local(p);
        if (!next && at_load_rlx(&tdl_sched.nglobal) == 0) return;
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

/* -- Finding work ----------------------------------------------------------------- */

static uint32_t gcd(uint32_t a, uint32_t b) {
    while (b) {
        uint32_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

static tdl_g *steal_from(tdl_p *p, tdl_p *victim, bool runnext_too) {
    tdl_g *half[RUNQ_SIZE / 2];
    uint32_t n = tdl_runq_grab(&victim->runq, half);
    if (n > 0) {
        for (uint32_t i = 0; i + 1 < n; i++) tdl_runq_put(&p->runq, half[i]);
        return half[n - 1];
    }
    if (!runnext_too) return NULL;
    tdl_g *g = at_load_rlx(&victim->runnext);
    if (!g) return NULL;
    /* its P is most likely about to run it; taking it now would make a
     * ping-pong pair travel */
    for (int i = 0; i < RUNNEXT_GRACE; i++) at_pause();
    return at_cas_seq(&victim->runnext, &g, NULL) ? g : NULL;
}

/* Every other P once per pass, from a random one on in a random stride coprime
 * to their number. */
static tdl_g *steal(tdl_p *p) {
    uint32_t np = (uint32_t)tdl_nprocs();
    for (int pass = 0; pass < STEAL_PASSES; pass++) {
        uint32_t at = tdl_random(np), stride = 1 + tdl_random(np);
        while (gcd(stride, np) != 1) stride = 1 + stride % np;
        for (uint32_t i = 0; i < np; i++, at = (at + stride) % np) {
            tdl_p *victim = tdl_sched.p[at];
            if (victim == p) continue;
            tdl_g *g = steal_from(p, victim, pass == STEAL_PASSES - 1);
            if (g) return g;
        }
    }
    return NULL;
}

static bool work_anywhere(void) {
    if (at_load_seq(&tdl_sched.nglobal)) return true;
    for (int i = 0; i < tdl_nprocs(); i++) {
        tdl_p *p = tdl_sched.p[i];
        if (at_load_seq(&p->runq.head) != at_load_seq(&p->runq.tail)) return true;
        if (at_load_seq(&p->runnext)) return true;
    }
    return false;
}

/* Expired timers and, when asked, ready descriptors become runnable. */
TDL_NO_TSAN static void ask(tdl_m *m, tdl_p *p, bool poll) {
    int64_t now = tdl_sys.now();
    if (p->budget < 0) {
        /* the last budget was spent; was it the right size? */
        if (now - p->asked > BUDGET_NS)
            p->budget_full = p->budget_full > 1 ? p->budget_full / 2 : 1;
        else if (p->budget_full < BUDGET)
            p->budget_full = 2 * p->budget_full < BUDGET ? 2 * p->budget_full : BUDGET;
    }
    p->budget = p->budget_full;
    p->asked = now;
    begin_batch(m);
    tdl_timers_run(&p->poller.timers, now);
    if (poll && at_load_rlx(&p->poller.npd) && tdl_poller_wait(&p->poller, 0) > 0)
        tdl_poller_dispatch(&p->poller);
    end_batch(m);
}

/* A pair that hands over to each other through runnext must not keep the ring
 * waiting for longer than one budget. */
TDL_NO_TSAN static void demote_runnext(tdl_p *p) {
    if (tdl_runq_len(&p->runq) == 0 || !at_load_rlx(&p->runnext)) return;
    tdl_g *g = at_xchg_seq(&p->runnext, NULL);
    if (g) ring_put(p, g);
}

TDL_NO_TSAN static void stop_spinning(tdl_m *m) {
    m->spinning = false;
    if (at_sub_seq(&tdl_sched.nspinning, 1) == 1) wake_if_idle();
}

/* -- Idling ------------------------------------------------------------------------ */

/* While some P runs goroutines and another is idle, one of the idle Ms watches:
 * it sleeps no longer than to the busy Ps' first timer and WATCH_NS, and then
 * fires their timers and polls their descriptors, should they not have come to
 * it. watching is 1 while there is such an M, or one that was woken to be it. */

static bool somebody_busy(void) {
    return at_load_seq(&tdl_sched.nidle) < (uint32_t)tdl_nprocs();
}

static int64_t watch_until(tdl_p *p) {
    int64_t until = tdl_sys.now() + WATCH_NS;
    for (int i = 0; i < tdl_nprocs(); i++) {
        tdl_p *other = tdl_sched.p[i];
        int64_t next = other == p ? TDL_FOREVER : tdl_timers_next(&other->poller.timers);
        if (next < until) until = next;
    }
    return until;
}

/* What the others' Ms are too busy for becomes runnable here. */
TDL_NO_TSAN static void watch_others(tdl_m *m, tdl_p *p) {
    int64_t now = tdl_sys.now();
    begin_batch(m);
    for (int i = 0; i < tdl_nprocs(); i++) {
        tdl_p *other = tdl_sched.p[i];
        if (other == p) continue;
        tdl_timers_run(&other->poller.timers, now);
        if (at_load_rlx(&other->poller.npd) && tdl_poller_steal(&p->poller, &other->poller) > 0)
            tdl_poller_dispatch(&p->poller);
    }
    end_batch(m);
}

static int64_t timeout_until(int64_t when) {
    if (when == TDL_FOREVER) return -1;
    int64_t ns = when - tdl_sys.now();
    return ns > 0 ? ns : 0;
}

/* Waits in the poller; true when it was there as the watcher. Who was called and
 * found nothing (it may have been called to watch) does so for one period at
 * least: so that calls stay few where requests are short and many. */
TDL_NO_TSAN static bool wait_in_poller(tdl_p *p, bool was_called) {
    uint32_t nobody = 0;
    bool watcher = tdl_nprocs() > 1 && (was_called || somebody_busy()) &&
                   at_cas_seq(&tdl_sched.watching, &nobody, 1);
    tdl_poller_announce(&p->poller);
    int64_t until = tdl_timers_next(&p->poller.timers);
    if (watcher) {
        int64_t watch = watch_until(p);
        if (watch < until) until = watch;
    }
    tdl_poller_wait(&p->poller, timeout_until(until));
    if (watcher) at_store_seq(&tdl_sched.watching, 0);
    return watcher;
}

/* Sleeps in the poller until there is something to do here. */
TDL_NO_TSAN static void idle(tdl_m *m, tdl_p *p) {
    tdl_lock_take(&tdl_sched.lock);
    if (at_load_rlx(&tdl_sched.nglobal) || at_load_rlx(&tdl_sched.stopping)) {
        tdl_unlock(&tdl_sched.lock);
        return;
    }
    idle_push(p);
    tdl_unlock(&tdl_sched.lock);

    bool retry = false, watched = false, was_called = m->spinning;
    if (m->spinning) {
        m->spinning = false;
        at_sub_seq(&tdl_sched.nspinning, 1);
        retry = work_anywhere();
    }
    if (!retry) {
        if (at_load_seq(&tdl_sched.nidle) == (uint32_t)tdl_nprocs()) tdl_deadlock_check();
        watched = wait_in_poller(p, was_called);
    }

    tdl_lock_take(&tdl_sched.lock);
    bool called = !p->idle; /* then nspinning counts for us */
    if (!called) idle_remove(p);
    tdl_unlock(&tdl_sched.lock);
    m->spinning = called;
    if (retry && !called) {
        m->spinning = true;
        at_add_seq(&tdl_sched.nspinning, 1);
    }
    begin_batch(m);
    tdl_poller_dispatch(&p->poller);
    end_batch(m);
    if (watched)
        watch_others(m, p);
    else if (tdl_nprocs() > 1 && !called && !retry && at_load_seq(&tdl_sched.watching) == 0)
        wake_if_idle(); /* we get busy: somebody is to watch */
}

/* The next goroutine to run on m's P; NULL when the runtime stops. */
TDL_NO_TSAN static tdl_g *find(tdl_m *m) {
    tdl_p *p = m->p;
    for (;;) {
        if (TDL_UNLIKELY(at_load_acq(&tdl_sched.stopping))) return NULL;
        bool spent = p->budget < 0;
        ask(m, p, spent);
        if (spent) {
            demote_runnext(p);
            if (++p->rounds % GLOBAL_ROUNDS == 0) {
                tdl_g *g = global_take(p, 1);
                if (g) return g;
            }
        }
        tdl_g *g = take_local(p);
        if (!g) g = global_take(p, RUNQ_SIZE / 2);
        if (!g && tdl_nprocs() > 1) {
            uint32_t busy = (uint32_t)tdl_nprocs() - at_load_rlx(&tdl_sched.nidle);
            if (!m->spinning && 2 * at_load_rlx(&tdl_sched.nspinning) < busy) {
                m->spinning = true;
                at_add_seq(&tdl_sched.nspinning, 1);
            }
            if (m->spinning) g = steal(p);
        }
        if (g) {
            if (m->spinning) stop_spinning(m);
            return g;
        }
        idle(m, p);
    }
}

TDL_NO_TSAN void *tdl_m_main(void *arg) {
    tdl_m *m = arg;
    tdl_m_adopt(m);
    tdl_overflow_thread(m);
    prctl(PR_SET_TIMERSLACK, 1UL); /* a sleep of 50 us ends 6 us late instead of 53 */
#ifdef TDL_TSAN
    m->g0.fiber = __tsan_get_current_fiber();
    __tsan_release(m); /* the thread's beginning: who runs here sees its errno made */
#endif
#ifdef TDL_ASAN
    pthread_attr_t attr;
    pthread_getattr_np(pthread_self(), &attr);
    pthread_attr_getstack(&attr, &m->stack_low, &m->stack_size);
    pthread_attr_destroy(&attr);
#endif
    for (tdl_g *g; (g = find(m)) != NULL;) switch_to(m, &m->g0, g, AFTER_NOTHING);
    if (m->spinning) at_sub_seq(&tdl_sched.nspinning, 1);
    tdl_overflow_thread_ends(m);
    tdl_m_adopt(NULL);
    return NULL;
}
