/* SPDX-License-Identifier: MIT
 *
 * Threads: starting them, keeping those that have no P, ending and joining
 * them.
 *
 * A worker M is with a P (running, or asleep in its poller), loose (its
 * goroutine runs without a P), spare (asleep on its own futex), or ended. The
 * lists are under sched.lock. A spare M is given its P there, before it is
 * called; one that was not called for SPARE_NS ends.
 */
#include "sched/own.h"
#include "sched/sched.h"
#include "sys/sys.h"

static const int64_t SPARE_NS = 10 * TDL_SECOND;

enum { MAX_THREADS = 10000 }; /* Go's */

int tdl_set_max_threads(int n) {
    uint32_t before = at_load_rlx(&tdl_sched.max_threads);
    if (n >= 1) at_store_rlx(&tdl_sched.max_threads, (uint32_t)n);
    return before ? (int)before : MAX_THREADS;
}

static void set_m(tdl_p *p, tdl_m *m) {
    if (!p) return;
    tdl_lock_take(&tdl_sched.lock);
    p->m = m;
    tdl_unlock(&tdl_sched.lock);
}

/* A new thread; with p, which is nobody's, and spinning, or without. */
static int start_m(tdl_p *p) {
    uint32_t limit = at_load_rlx(&tdl_sched.max_threads);
    if (at_load_rlx(&tdl_sched.nthreads) >= (limit ? limit : MAX_THREADS)) return TDL_ETHREADS;
    tdl_threads_reap();
    int r = tdl_sysmon_start();
    if (r < 0) return r;
    tdl_m *m = tdl_alloc_zeroed(sizeof *m);
    if (!m) return TDL_ENOMEM;
    at_store_rlx(&m->p, p);
    m->spinning = p != NULL;
    at_store_rlx(&m->busy, 1); /* in the runtime from the start: its P cannot be taken before it runs */
    m->op.kind = OP_OF_THREAD;
    set_m(p, m);
    TDL_TSAN_RELEASE(m);
    at_add_seq(&tdl_sched.nthreads, 1);
    r = tdl_sys.thread(tdl_m_main, m, &m->thread);
    if (r == 0) return 0;
    at_sub_seq(&tdl_sched.nthreads, 1);
    set_m(p, NULL);
    tdl_sys.release(m);
    return r;
}

bool tdl_spare_ready(void) {
    tdl_lock_take(&tdl_sched.lock);
    bool ready = tdl_sched.spare != NULL;
    bool stopping = at_load_rlx(&tdl_sched.stopping);
    tdl_unlock(&tdl_sched.lock);
    if (!ready && !stopping) start_m(NULL);
    return ready;
}

/* p, which nspinning and nwaking count for, gets a new thread, or is idle again. */
static int staff_new(tdl_p *p) {
    int r = start_m(p);
    if (r < 0) {
        tdl_lock_take(&tdl_sched.lock);
        tdl_idle_push(p);
        tdl_unlock(&tdl_sched.lock);
        at_sub_seq(&tdl_sched.nspinning, 1);
    }
    at_sub_seq(&tdl_sched.nwaking, 1);
    return r;
}

/* nwaking: a stopping runtime waits until we are through. What a pinned
 * goroutine has done to its thread (CLONE_FS, namespaces, masks) would pass to a
 * thread started there: then sysmon starts it, as Go's template thread does. */
int tdl_p_staff(tdl_p *p) {
    at_add_seq(&tdl_sched.nwaking, 1);
    tdl_m *m = tdl_sched.spare;
    if (m) {
        tdl_sched.spare = m->next;
        p->m = m;
        m->spinning = true;
        at_store_rel(&m->p, p);
        void *word = &m->call; /* from the store on m may end: only its address is used */
        at_store_rel(&m->call, CALL_RUN); /* acquire in tdl_m_await_p */
        tdl_unlock(&tdl_sched.lock);
        tdl_sys.futex_wake(word, 1);
        at_sub_seq(&tdl_sched.nwaking, 1);
        return 0;
    }
    if (at_load_rlx(&tdl_m_self()->pinned) && !at_load_rlx(&tdl_sched.stopping) && !tdl_sys.simulated) {
        p->next_idle = tdl_sched.unstaffed;
        tdl_sched.unstaffed = p;
        tdl_unlock(&tdl_sched.lock);
        tdl_sysmon_ring();
        return 0;
    }
    tdl_unlock(&tdl_sched.lock);
    return staff_new(p);
}

void tdl_staff_all(void) {
    tdl_lock_take(&tdl_sched.lock);
    tdl_p *p = tdl_sched.unstaffed;
    tdl_sched.unstaffed = NULL;
    tdl_unlock(&tdl_sched.lock);
    while (p) {
        tdl_p *next = p->next_idle;
        staff_new(p);
        p = next;
    }
}

/* -- Loose --------------------------------------------------------------------------- */

void tdl_m_loosen(tdl_m *m) {
    m->loose = true;
    m->next = tdl_sched.loose;
    tdl_sched.loose = m;
    at_add_seq(&tdl_sched.nloose, 1);
}

static void unlink_m(tdl_m **at, tdl_m *m) {
    while (*at && *at != m) at = &(*at)->next;
    if (*at) *at = m->next;
}

void tdl_m_tighten(tdl_m *m) {
    m->loose = false;
    unlink_m(&tdl_sched.loose, m);
    at_sub_seq(&tdl_sched.nloose, 1);
}

/* -- Spare ------------------------------------------------------------------------------ */

TDL_NO_TSAN tdl_p *tdl_m_await_p(tdl_m *m) {
    tdl_lock_take(&tdl_sched.lock);
    tdl_p *p = at_load_rlx(&m->p);
    if (p) { /* it was only looked at: see tdl_p_retake */
        tdl_unlock(&tdl_sched.lock);
        return p;
    }
    if (m->loose) tdl_m_tighten(m);
    if (at_load_rlx(&m->pinned) || at_load_rlx(&tdl_sched.stopping)) {
        tdl_unlock(&tdl_sched.lock);
        return NULL;
    }
    /* one that could not be given a thread, or that nobody needed: now there is one */
    for (p = tdl_sched.idle; p; p = p->next_idle) {
        if (p->m || !(at_load_rlx(&p->attended) || tdl_p_has_work(p) || at_load_rlx(&tdl_sched.nglobal))) continue;
        tdl_idle_remove(p);
        p->m = m;
        at_store_rel(&m->p, p);
        tdl_unlock(&tdl_sched.lock);
        TDL_TSAN_RELEASE(m); /* to after_switch: the P may be new */
        return p;
    }
    at_store_rlx(&m->call, CALL_NONE);
    m->next = tdl_sched.spare;
    tdl_sched.spare = m;
    tdl_unlock(&tdl_sched.lock);
    tdl_deadlock_check(0); /* the last that ran may have been this one */

    int64_t until = tdl_sys.now() + SPARE_NS;
    while (at_load_acq(&m->call) == CALL_NONE) {
        tdl_sys.futex_wait(&m->call, CALL_NONE, until);
        if (at_load_acq(&m->call) != CALL_NONE || tdl_sys.now() < until) continue;
        tdl_lock_take(&tdl_sched.lock);
        bool called = at_load_rlx(&m->call) != CALL_NONE;
        if (!called) unlink_m(&tdl_sched.spare, m);
        tdl_unlock(&tdl_sched.lock);
        if (!called) return NULL;
    }
    TDL_TSAN_RELEASE(m); /* as above */
    if (at_load_acq(&m->call) != CALL_RUN) return NULL;
    /* under the lock: sysmon may be looking at it already (tdl_p_retake), and
     * gives it back, for we have been in the runtime all the time */
    tdl_lock_take(&tdl_sched.lock);
    p = at_load_rlx(&m->p);
    tdl_unlock(&tdl_sched.lock);
    return p;
}

void tdl_spares_end(void) {
    tdl_lock_take(&tdl_sched.lock);
    tdl_m *m = tdl_sched.spare;
    tdl_sched.spare = NULL;
    at_add_seq(&tdl_sched.nwaking, 1);
    tdl_unlock(&tdl_sched.lock);
    while (m) {
        tdl_m *next = m->next; /* it is gone soon after the store */
        void *word = &m->call;
        at_store_rel(&m->call, CALL_END);
        tdl_sys.futex_wake(word, 1);
        m = next;
    }
    at_sub_seq(&tdl_sched.nwaking, 1);
}

/* -- Ending -------------------------------------------------------------------------------- */

TDL_NO_TSAN void tdl_m_ends(tdl_m *m) {
    tdl_deadlock_leaves();
    tdl_lock_take(&tdl_sched.lock);
    if (m->loose) tdl_m_tighten(m);
    tdl_p *p = at_load_rlx(&m->p);
    if (p && p->m == m) p->m = NULL;
    at_store_rlx(&m->p, NULL);
    if (m->spinning) at_sub_seq(&tdl_sched.nspinning, 1);
    m->next = tdl_sched.ended;
    tdl_sched.ended = m;
    at_sub_seq(&tdl_sched.nthreads, 1);
    tdl_unlock(&tdl_sched.lock);
    if (at_load_seq(&tdl_sched.stopping)) tdl_sys.futex_wake(&tdl_sched.nthreads, 1);
}

void tdl_threads_reap(void) {
    tdl_lock_take(&tdl_sched.lock);
    tdl_m *m = tdl_sched.ended;
    tdl_sched.ended = NULL;
    tdl_unlock(&tdl_sched.lock);
    while (m) {
        tdl_m *next = m->next;
        tdl_sys.join(&m->thread);
        TDL_TSAN_ACQUIRE(&m->after); /* from every goroutine that ran on it */
        tdl_sys.release(m);
        m = next;
    }
}
