/* SPDX-License-Identifier: MIT
 *
 * Idling and waking.
 *
 * No lost wake-up. A submitter makes its goroutine visible (runnext, ring, front
 * or global queue) and then reads nidle and nspinning; an M that goes idle
 * enters the idle list under sched.lock, having looked at the global queue
 * under that lock, lowers nspinning if it was spinning, and then looks at every
 * queue again. All of these are sequentially consistent, or have a fence
 * between them (a ring's tail is a release store), so of the two sides at least
 * one sees the other (Go's rule, proc.go; but there only who was spinning looks
 * again, and the others need a word left for them: golang/go#45867).
 *
 * No superfluous one: at most one M is woken to spin at a time; the last
 * spinner that finds work wakes the next.
 *
 * Spinning. An M that found nothing looks on for 5 to 10 us before it sleeps: to
 * be seen at work by somebody who spins costs a submitter a tenth of a
 * microsecond, to wake a sleeper more than three. Whether that pays depends on
 * the program, so each P keeps an account: a spin that finds something earns a
 * credit, one that does not costs one, and without credit it is tried only
 * every SPIN_RETRY times.
 */
#include "sched/sched.h"
#include "sched/stack.h"
#include "sys/sys.h"

enum {
    WATCH_NS = 10000000, /* how late another's event may be noticed (Go: 10 ms, by sysmon) */
    SPIN_CREDIT = 8, /* at most */
    SPIN_RETRY = 64,
};

/* -- The idle list, under sched.lock --------------------------------------------- */

/* A retired P sleeps, too, for its descriptors; but nobody calls it to work. */
static bool retired(tdl_p *p) { return (uint32_t)p->id >= at_load_rlx(&tdl_sched.active); }

void tdl_idle_push(tdl_p *p) {
    p->idle = true;
    if (retired(p)) {
        at_store_seq(&tdl_sched.nretired_idle, at_load_rlx(&tdl_sched.nretired_idle) + 1);
        return;
    }
    p->next_idle = tdl_sched.idle;
    tdl_sched.idle = p;
    at_store_seq(&tdl_sched.nidle, at_load_rlx(&tdl_sched.nidle) + 1);
}

void tdl_idle_remove(tdl_p *p) {
    tdl_deadlock_stir();
    p->idle = false;
    for (tdl_p **at = &tdl_sched.idle; *at; at = &(*at)->next_idle) {
        if (*at != p) continue;
        *at = p->next_idle;
        at_store_seq(&tdl_sched.nidle, at_load_rlx(&tdl_sched.nidle) - 1);
        return;
    }
    at_store_seq(&tdl_sched.nretired_idle, at_load_rlx(&tdl_sched.nretired_idle) - 1);
}

/* -- Waking ------------------------------------------------------------------------ */

/* p has left the idle list, and nspinning counts for it. Under sched.lock, which
 * is given up. The stopping runtime waits for nwaking before it closes p's poller. */
static int call(tdl_p *p) {
    if (!p->m) return tdl_p_staff(p);
    at_add_seq(&tdl_sched.nwaking, 1);
    tdl_unlock(&tdl_sched.lock);
    tdl_poller_kick(&p->poller);
    at_sub_seq(&tdl_sched.nwaking, 1);
    return 0;
}

void tdl_wake_one(void) {
    uint32_t none = 0;
    if (!at_cas_seq(&tdl_sched.nspinning, &none, 1)) return;
    tdl_lock_take(&tdl_sched.lock);
    tdl_p *p = tdl_sched.idle;
    if (!p || at_load_rlx(&tdl_sched.stopping)) {
        tdl_unlock(&tdl_sched.lock);
        at_sub_seq(&tdl_sched.nspinning, 1);
        return;
    }
    tdl_idle_remove(p);
    call(p);
}

void tdl_wake_all(void) {
    tdl_lock_take(&tdl_sched.lock);
    for (tdl_p *p = tdl_sched.idle; p; p = p->next_idle)
        if (p->m) tdl_poller_kick(&p->poller);
    tdl_unlock(&tdl_sched.lock);
}

int tdl_p_attend(tdl_p *p) {
    if (at_load_rlx(&p->attended)) return 0;
    tdl_lock_take(&tdl_sched.lock);
    at_store_rlx(&p->attended, 1);
    if (!p->idle || p->m || at_load_rlx(&tdl_sched.stopping)) {
        tdl_unlock(&tdl_sched.lock);
        return 0;
    }
    tdl_idle_remove(p);
    at_add_seq(&tdl_sched.nspinning, 1);
    int r = call(p);
    if (r < 0) at_store_rlx(&p->attended, 0);
    return r;
}

/* -- Spinning ------------------------------------------------------------------------- */

/* Go's rule: at most half as many spin as are busy. */
bool tdl_start_spinning(tdl_m *m) {
    if (m->spinning) return true;
    uint32_t active = at_load_rlx(&tdl_sched.active);
    if (active < 2) return false;
    uint32_t busy = active - at_load_rlx(&tdl_sched.nidle);
    if (2 * at_load_rlx(&tdl_sched.nspinning) >= busy) return false;
    m->spinning = true;
    at_add_seq(&tdl_sched.nspinning, 1);
    return true;
}

void tdl_stop_spinning(tdl_m *m) {
    m->spinning = false;
    if (at_sub_seq(&tdl_sched.nspinning, 1) == 1) tdl_wake_if_idle();
}

/* Is there something that an M with an idle P should run? */
static bool work_anywhere(void) {
    bool crowded = at_load_rlx(&tdl_sched.crowded) != 0;
    if (at_load_seq(crowded ? &tdl_sched.nwoken : &tdl_sched.nglobal)) return true;
    for (int i = 0; i < tdl_nprocs(); i++)
        if (tdl_p_has_work(tdl_sched.p[i])) return true;
    return false;
}

/* True when it saw work. */
static bool spin(tdl_p *p) {
    if (p->spin_credit <= 0 && --p->spin_credit > -SPIN_RETRY) return false;
    if (p->spin_credit < 0) p->spin_credit = 0;
    /* where all the others sleep there is nobody to hand anything over */
    if (at_load_rlx(&tdl_sched.nidle) + 1 >= at_load_rlx(&tdl_sched.active) && at_load_rlx(&tdl_sched.nloose) == 0)
        return false;
    for (uint32_t i = at_load_rlx(&tdl_sched.spins); i > 0; i--) {
        if (work_anywhere()) {
            if (p->spin_credit < SPIN_CREDIT) p->spin_credit++;
            return true;
        }
        at_pause();
    }
    p->spin_credit--;
    return false;
}

/* -- Watching over busy Ps ------------------------------------------------------------- */

/* While some P runs goroutines and another is idle, one of the idle Ms watches:
 * it sleeps no longer than to the busy Ps' first timer and WATCH_NS, and then
 * fires their timers and polls their descriptors, should they not have come to
 * it. watching is 1 while there is such an M, or one that was woken to be it.
 * Where no P is idle, sysmon does it. */

static bool somebody_busy(void) {
    return at_load_seq(&tdl_sched.nidle) < at_load_rlx(&tdl_sched.active);
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
    tdl_batch_begin(m);
    for (int i = 0; i < tdl_nprocs(); i++) {
        tdl_p *other = tdl_sched.p[i];
        if (other == p) continue;
        tdl_timers_run(&other->poller.timers, now);
        if (at_load_rlx(&other->poller.npd)) tdl_poller_serve(&other->poller);
    }
    tdl_batch_end(m, p);
}

/* -- Idling ------------------------------------------------------------------------------ */

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
    int64_t trim = tdl_stack_to_trim() && !tdl_sys.simulated ? tdl_stack_trim(tdl_sys.now()) : TDL_FOREVER;
    tdl_poller_announce(&p->poller);
    int64_t until = tdl_timers_next(&p->poller.timers);
    if (trim < until) until = trim;
    if (watcher) {
        int64_t watch = watch_until(p);
        if (watch < until) until = watch;
    }
    tdl_poller_wait(&p->poller, timeout_until(until));
    if (watcher) at_store_seq(&tdl_sched.watching, 0);
    return watcher;
}

TDL_NO_TSAN void tdl_idle(tdl_m *m, tdl_p *p) {
    /* a goroutine that runs without a P may hand something over: to one P alone, too */
    if ((m->spinning || at_load_rlx(&tdl_sched.nloose)) && spin(p)) return;
    tdl_lock_take(&tdl_sched.lock);
    bool pending = at_load_rlx(at_load_rlx(&tdl_sched.crowded) ? &tdl_sched.nwoken : &tdl_sched.nglobal) != 0;
    if ((pending && !retired(p)) || at_load_rlx(&tdl_sched.stopping)) {
        tdl_unlock(&tdl_sched.lock);
        return;
    }
    tdl_idle_push(p);
    tdl_unlock(&tdl_sched.lock);

    bool retry = false, watched = false, was_called = m->spinning;
    if (m->spinning) {
        m->spinning = false;
        at_sub_seq(&tdl_sched.nspinning, 1);
    }
    /* where only the woken are run, what others have may not be for us: no loop */
    if (was_called || !at_load_rlx(&tdl_sched.crowded)) retry = !retired(p) && work_anywhere();
    if (!retry) {
        if (!somebody_busy()) tdl_deadlock_check(0);
        watched = wait_in_poller(p, was_called);
    }

    tdl_lock_take(&tdl_sched.lock);
    bool called = !p->idle; /* then nspinning counts for us */
    if (!called) tdl_idle_remove(p);
    tdl_unlock(&tdl_sched.lock);
    tdl_sysmon_wake();
    m->spinning = called;
    if (retry && !called) {
        m->spinning = true;
        at_add_seq(&tdl_sched.nspinning, 1);
    }
    tdl_batch_begin(m);
    tdl_poller_dispatch(&p->poller);
    tdl_batch_end(m, p);
    if (watched)
        watch_others(m, p);
    else if (tdl_nprocs() > 1 && !called && !retry && at_load_seq(&tdl_sched.watching) == 0)
        tdl_wake_if_idle(); /* we get busy: somebody is to watch */
}
