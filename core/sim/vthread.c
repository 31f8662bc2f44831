/* SPDX-License-Identifier: MIT
 *
 * Virtual threads: a stack each, one of them current. Whoever is not current
 * was left in pass_to, in a point or a wait.
 */
#define TDL_SIM_ITSELF
#include "sim/sim.h"

#include <string.h>

#include "sched/local.h"
#include "sched/stack.h"
#include "sched/switch.h"

#ifdef TDL_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

enum { VT_STACK = 256 * 1024, GUARD = 4096, LAST_STEPS = 1000000 };

struct tdl_sim tdl_sim;

/* -- Ready ---------------------------------------------------------------------- */

TDL_NO_TSAN static void make_ready(tdl_vthread *v) {
    v->state = VT_READY;
    v->at = tdl_sim.nready;
    tdl_sim.ready[tdl_sim.nready++] = v;
}

TDL_NO_TSAN static void take_off(tdl_vthread *v, int state) {
    tdl_vthread *last = tdl_sim.ready[--tdl_sim.nready];
    last->at = v->at;
    tdl_sim.ready[v->at] = last;
    v->state = (uint8_t)state;
}

/* -- Switching -------------------------------------------------------------------- */

/* One more call of tdl_switch than the scheduler's own; only simulations pay. */
TDL_NO_TSAN TDL_NOINLINE static void pass_to(tdl_vthread *to) {
    tdl_vthread *from = tdl_sim.current;
    from->m = tdl_m_self();
    tdl_sim.current = to;
    tdl_sim.switches++;
    tdl_m_adopt(to->m);
#ifdef TDL_LOCK_RANKS
    memcpy(from->held, tdl_lock_holding(), sizeof from->held);
    memcpy(tdl_lock_holding(), to->held, sizeof to->held);
#endif
#ifdef TDL_ASAN
    __sanitizer_start_switch_fiber(from->state == VT_ENDED ? NULL : &from->fake_stack, to->low, to->size);
#endif
#ifdef TDL_TSAN
    from->fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->fiber, 1);
#endif
    tdl_switch(&from->sp, to->sp);
#ifdef TDL_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

#ifdef TDL_ASAN
/* Which stack the current one is about to leave: its own, or its goroutine's. */
TDL_NO_TSAN static void note_stack(tdl_vthread *v) {
    tdl_m *m = tdl_m_self();
    bool own = !m->g || m->on_system;
    v->low = own ? v->own_low : tdl_stack_low(m->g, &v->size);
    if (own) v->size = v->own_size;
}
#else
#define note_stack(v) ((void)(v))
#endif

TDL_NO_TSAN static void go_on_as(tdl_vthread *to) {
    if (to == tdl_sim.current) return;
    note_stack(tdl_sim.current);
    pass_to(to);
}

/* -- Points and waits --------------------------------------------------------------- */

/* FNV-1a, over what happens in the order in which it does. */
TDL_NO_TSAN static void trace(uint64_t what) {
    tdl_sim.hash = (tdl_sim.hash ^ what) * UINT64_C(0x100000001b3);
}

TDL_NO_TSAN static void step(tdl_vthread *v, int kind) {
    tdl_g *g = tdl_m_self()->g;
    trace((uint64_t)v->id << 40 | (uint64_t)kind << 32 | (g ? (uint32_t)(g->id - tdl_sim.id_base) : 0));
    if (++tdl_sim.steps == tdl_sim.opts.max_steps) tdl_sim_finish(TDL_SIM_STEPS);
    if (tdl_sim.reason && ++tdl_sim.last_steps == LAST_STEPS) tdl_sim_hangs();
}

/* It is all over: a goroutine that comes by leaves its M, and never runs again.
 * Under a lock it must not; but the core's own calls are few, and in a thousand
 * one is certainly the goroutine's. */
TDL_NO_TSAN static bool leaves(int kind) {
    tdl_vthread *v = tdl_sim.current;
    if (kind == POINT_ENTRY) return true;
    return kind == POINT_CALL && ++v->last_calls > 1000;
}

TDL_NO_TSAN void tdl_sim_point(int kind) {
    if (!tdl_sim_mine() || tdl_sim.busy) return;
    if (kind == POINT_CALL && at_load_rlx(&tdl_m_self()->host)) return; /* a garbage collector's, perhaps */
    tdl_sim.busy = true;
    step(tdl_sim.current, kind);
    tdl_vthread *next = tdl_sim_choose(kind);
    bool requeue = false;
    if (next != tdl_sim.current) {
        tdl_sim.busy = false;
        go_on_as(next);
        tdl_sim.busy = true;
    }
    if (tdl_m_self()->g) requeue = tdl_sim.reason ? leaves(kind) : kind == POINT_ENTRY && tdl_sim_requeues();
    tdl_sim.busy = false;
    if (!requeue) return;
    tdl_sim.current->requeued = true;
    tdl_yield();
}

#ifdef TDL_SIM_ATOMICS
/* A thief may be in the middle of the queues: they stay as they are. */
tdl_g *tdl_sim_look(tdl_g *g) {
    tdl_sim_point(POINT_LOOK);
    return g;
}

void tdl_sim_atomic(void) { tdl_sim_point(POINT_CORE); }

void tdl_sim_pause(void) {
    if (tdl_sim_mine()) tdl_sim_pass();
}
#else
/* It goes to the queue, and the first comes from there when it is our turn. */
TDL_NO_TSAN tdl_g *tdl_sim_look(tdl_g *g) {
    tdl_p *p = at_load_rlx(&tdl_m_self()->p);
    if (!at_load_rlx(&p->runnext))
        at_store_rlx(&p->runnext, g);
    else if (!tdl_runq_put(&p->runq, g))
        return g; /* full, for once */
    tdl_sim_point(POINT_LOOK);
    tdl_sim_order(p);
    return tdl_take_local(p);
}
#endif

TDL_NO_TSAN void tdl_sim_pass(void) {
    if (tdl_sim.busy) return;
    tdl_sim.busy = true;
    step(tdl_sim.current, POINT_CORE);
    tdl_vthread *next = tdl_sim_other();
    tdl_sim.busy = false;
    go_on_as(next);
}

/* The current one waits, or has ended. */
TDL_NO_TSAN static void leave(int state) {
    tdl_vthread *v = tdl_sim.current;
    tdl_sim.busy = true;
    step(v, POINT_CORE);
    take_off(v, state);
    while (tdl_sim.nready == 0) tdl_sim_quiet();
    tdl_vthread *next = tdl_sim_choose(POINT_CORE);
    tdl_sim.busy = false;
    go_on_as(next);
}

TDL_NO_TSAN bool tdl_vthread_wait(const void *on, int64_t until) {
    tdl_vthread *v = tdl_sim.current;
    v->on = on;
    v->until = until;
    v->timed_out = false;
    leave(VT_WAITING);
    return !v->timed_out;
}

TDL_NO_TSAN int tdl_vthread_wake(const void *on, int count) {
    int woken = 0;
    for (int i = 0; i < tdl_sim.nthreads && woken < count; i++) {
        tdl_vthread *v = tdl_sim.threads[i];
        if (v->state != VT_WAITING || v->on != on) continue;
        make_ready(v);
        woken++;
    }
    return woken;
}

/* The times that count are those of the driver, of pinned goroutines and of the
 * timers, which lie with the Ps: an M without a goroutine wakes now and then for
 * nothing, to watch over others or to end. */
TDL_NO_TSAN static int64_t first_time(void) {
    int64_t first = TDL_FOREVER;
    for (int i = 0; i < tdl_sim.nthreads; i++) {
        tdl_vthread *v = tdl_sim.threads[i];
        bool counts = v->id == 0 || (v->m && v->m->g);
        if (v->state == VT_WAITING && counts && v->until < first) first = v->until;
    }
    for (int i = 0; i < tdl_nprocs(); i++) {
        int64_t next = tdl_timers_next(&tdl_sched.p[i]->poller.timers);
        if (next < first) first = next;
    }
    return first;
}

TDL_NO_TSAN int64_t tdl_vthread_late(int64_t limit) {
    int64_t first = first_time();
    if (first == TDL_FOREVER || first > limit) return first;
    if (first > tdl_sim.now) tdl_sim.now = first;
    trace((uint64_t)first);
    for (int i = 0; i < tdl_sim.nthreads; i++) {
        tdl_vthread *v = tdl_sim.threads[i];
        if (v->state != VT_WAITING || v->until > tdl_sim.now) continue;
        v->timed_out = true;
        make_ready(v);
    }
    return first;
}

/* -- Life ------------------------------------------------------------------------------ */

TDL_NO_TSAN static void entry(void) {
#ifdef TDL_ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
    tdl_vthread *v = tdl_sim.current;
    v->fn(v->arg);
    tdl_m_adopt(&tdl_sim.clock); /* its own M is gone */
    TDL_TSAN_RELEASE(&tdl_sim);  /* to who ends the simulation */
    tdl_vthread_wake(v, SIM_MAX_THREADS);
    leave(VT_ENDED);
    tdl_fatal("virtual thread %d runs after its end", v->id);
}

TDL_NO_TSAN static tdl_vthread *slot(void) {
    for (int i = 1; i < tdl_sim.nthreads; i++)
        if (tdl_sim.threads[i]->state == VT_ENDED && tdl_sim.threads[i] != tdl_sim.current)
            return tdl_sim.threads[i];
    if (tdl_sim.nthreads == SIM_MAX_THREADS) return NULL;
    tdl_vthread **at = &tdl_sim.threads[tdl_sim.nthreads];
    if (!*at && !(*at = tdl_alloc_zeroed(sizeof **at))) return NULL;
    (*at)->id = tdl_sim.nthreads++;
    return *at;
}

TDL_NO_TSAN int tdl_vthread_driver(void) {
    tdl_sim.nthreads = tdl_sim.nready = 0;
    tdl_vthread *v = slot();
    if (!v) return TDL_ENOMEM;
    tdl_sim.current = v;
    v->priority = 0;
    make_ready(v);
#ifdef TDL_ASAN
    tdl_sys.stack((void **)&v->own_low, &v->own_size); /* still the real one */
#endif
    return 0;
}

TDL_NO_TSAN tdl_vthread *tdl_vthread_new(void *(*fn)(void *), void *arg) {
    tdl_vthread *v = slot();
    if (!v) return NULL;
    if (!v->stack) {
        char *low = tdl_sys.map(VT_STACK);
        if (!low || tdl_sys.guard(low, GUARD, VT_STACK, 1) < 0) return NULL;
        v->stack = low;
    }
    v->fn = fn;
    v->arg = arg;
    v->m = &tdl_sim.clock; /* until it has one */
    v->priority = 0;
    v->last_calls = 0;
    v->sp = tdl_switch_prepare(v->stack + GUARD, VT_STACK - GUARD, entry);
#ifdef TDL_ASAN
    __asan_unpoison_memory_region(v->stack + GUARD, VT_STACK - GUARD);
    v->low = v->own_low = v->stack + GUARD;
    v->size = v->own_size = VT_STACK - GUARD;
#endif
#ifdef TDL_TSAN
    if (v->fiber) __tsan_destroy_fiber(v->fiber);
    v->fiber = __tsan_create_fiber(0);
#endif
    make_ready(v);
    return v;
}

TDL_NO_TSAN void tdl_vthread_stack(void **low, size_t *size) {
    tdl_vthread *v = tdl_sim.current;
    *low = v->stack + GUARD;
    *size = VT_STACK - GUARD;
}

TDL_NO_TSAN void tdl_vthread_forget_all(void) {
    TDL_TSAN_ACQUIRE(&tdl_sim);
    for (int i = 1; i < tdl_sim.nthreads; i++) {
        tdl_vthread *v = tdl_sim.threads[i];
        if (v->state != VT_ENDED) tdl_fatal("a simulation ends while its virtual thread %d runs", v->id);
#ifdef TDL_TSAN
        __tsan_destroy_fiber(v->fiber);
        v->fiber = NULL;
#endif
    }
    tdl_sim.nthreads = tdl_sim.nready = 0;
}
