/* SPDX-License-Identifier: MIT
 *
 * sysmon: a thread that sees to it that a goroutine which computes or blocks
 * for long holds up nobody but itself. A P whose M has dispatched nothing for
 * HOG_NS, while something waits for it, is taken (own.h) and given to another M;
 * the goroutine runs on without. No signal is sent, nothing is interrupted.
 *
 * It is bounded. When more than CROWD Ms a P compute without one, the next that
 * is lost starts a pause, longer each time, in which only goroutines that had
 * waited are run (crowded): so a thousand compute goroutines do not become a
 * thousand threads, and whoever waits for I/O, timers, channels or locks is
 * still served at once.
 *
 * It also starts the threads that a pinned goroutine's thread may not start.
 *
 * It looks every TICK_NS while some P is busy, and sleeps when none has been
 * for a while. asleep is Dekker's half against tdl_sysmon_wake: sysmon stores it and then
 * looks whether all are idle; a P leaves the idle list and then reads it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <unistd.h>

#include "sched/own.h"
#include "sched/sched.h"
#include "sys/os.h"
#include "sys/sys.h"

enum {
    HOG_NS = 10000000,     /* Go's time slice */
    TICK_NS = 5000000,
    SHORT_TICK_NS = 1000000, /* while a P is in a call said to be short */
    SETTLED = 10,
    LINGER = 200,          /* ticks without a busy P before it sleeps */
    CROWD = 4,
    PAUSE_NS = 10000000,
    RESIZE_NS = 1000000000, /* how often the cgroup limits are read */
};

static struct {
    _Atomic uint32_t started; /* under sched.lock: there is a thread */
    _Atomic uint32_t asleep;  /* 1 while it sleeps for long, or is about to */
    _Atomic uint32_t bell;    /* futex: rung to wake it from either sleep */
    pthread_t thread;
    int64_t crowded_until;
    int64_t resized;
} mon;

/* -- Crowds ------------------------------------------------------------------------- */

/* Loose Ms that compute, beyond what is allowed. */
static int excess(void) {
    enum { MANY = 256 };
    int allowed = CROWD * (int)at_load_rlx(&tdl_sched.active), n = 0;
    if ((int)at_load_rlx(&tdl_sched.nloose) <= allowed) return 0;
    int tid[MANY];
    tdl_lock_take(&tdl_sched.lock);
    for (tdl_m *m = tdl_sched.loose; m && n < MANY; m = m->next) tid[n++] = m->tid;
    tdl_unlock(&tdl_sched.lock);
    int computing = 0;
    for (int i = 0; i < n; i++) computing += tdl_os_computes(tid[i]);
    return computing > allowed ? computing - allowed : 0;
}

static void crowd(int64_t now) {
    int over = excess();
    if (over == 0) return;
    if (over > 100) over = 100;
    mon.crowded_until = now + (int64_t)PAUSE_NS * over * over;
    at_store_seq(&tdl_sched.crowded, 1);
}

static void uncrowd(int64_t now) {
    if (!at_load_rlx(&tdl_sched.crowded)) return;
    if (now < mon.crowded_until && excess() > 0) return;
    at_store_seq(&tdl_sched.crowded, 0);
    tdl_wake_all(); /* what was left lying is to be run */
}

/* -- Looking at the Ps ---------------------------------------------------------------- */

/* Changes with every dispatch. */
static int64_t progress(tdl_p *p) {
    return at_load_rlx(&p->asked) ^ (int64_t)((uint64_t)at_load_rlx(&p->budget) << 48);
}

/* Is there something that p, or whoever gets it, could do? */
static bool wanted(tdl_p *p) {
    if (at_load_rlx(&tdl_sched.crowded))
        return at_load_seq(&tdl_sched.nwoken) || tdl_runq_len(&p->front) || at_load_rlx(&p->runnext);
    if (at_load_rlx(&tdl_sched.nglobal) || tdl_p_has_work(p)) return true;
    return (uint32_t)p->id >= at_load_rlx(&tdl_sched.active);
}

/* p has been held for long. True when it is to be looked at again soon. */
TDL_NO_TSAN static bool relieve(tdl_p *p, int64_t now) {
    if (!at_load_rlx(&tdl_sched.watching)) { /* else an idle M does it */
        tdl_timers_run(&p->poller.timers, now);
        if (at_load_rlx(&p->poller.npd)) tdl_poller_serve(&p->poller);
    }
    if (!wanted(p)) return false;
    if (!tdl_spare_ready()) return true; /* a P that is taken must not be left without a thread */
    tdl_lock_take(&tdl_sched.lock);
    tdl_m *m = p->m;
    if (!tdl_sched.spare || !m || p->idle || at_load_rlx(&tdl_sched.stopping) || !tdl_p_retake(p)) {
        tdl_unlock(&tdl_sched.lock);
        return false;
    }
    tdl_m_loosen(m);
    at_add_rlx(&tdl_sched.nretaken, 1);
    tdl_p_place(p);
    crowd(now);
    return false;
}

/* How long until the next look: a short call is not to hold up others for long. */
TDL_NO_TSAN static int64_t look(tdl_p *p, int64_t now) {
    int64_t seen = progress(p);
    if (seen != p->seen) {
        p->seen = seen;
        p->since = now;
    }
    bool in_call = at_load_rlx(&p->in_call);
    int64_t patience = in_call ? SHORT_TICK_NS : HOG_NS;
    bool soon = now - p->since >= patience - patience / 8 && relieve(p, now);
    return soon || in_call ? SHORT_TICK_NS : TICK_NS;
}

static int64_t look_at_all(int64_t now, bool *busy) {
    int64_t tick = TICK_NS;
    *busy = false;
    for (int i = 0; i < tdl_nprocs(); i++) {
        tdl_p *p = tdl_sched.p[i];
        tdl_lock_take(&tdl_sched.lock);
        bool awake = p->m && !p->idle;
        tdl_unlock(&tdl_sched.lock);
        if (!awake) continue;
        *busy = true;
        int64_t t = look(p, now);
        if (t < tick) tick = t;
    }
    return tick;
}

/* -- The thread --------------------------------------------------------------------------- */

static bool stopping(void) { return at_load_seq(&tdl_sched.stopping); }

static bool all_idle(void) {
    return at_load_seq(&tdl_sched.nidle) + at_load_seq(&tdl_sched.nretired_idle) == (uint32_t)tdl_nprocs();
}

/* Until the bell rings. What it does when it wakes is nothing if all Ps are idle. */
static void rest(uint32_t heard, int64_t until) {
    tdl_deadlock_rests();
    tdl_sys.futex_wait(&mon.bell, heard, until);
    tdl_deadlock_leaves();
}

static void *sysmon(void *arg) {
    (void)arg;
    static tdl_m self; /* who it is: nothing here may fail for want of memory */
    self.op.kind = OP_OF_THREAD;
    tdl_m_adopt(&self);
    tdl_os_name_thread("treadle-sysmon");
    for (int quiet = 0; !stopping();) {
        uint32_t heard = at_load_seq(&mon.bell);
        int64_t now = tdl_sys.now();
        tdl_staff_all();
        bool busy;
        int64_t tick = look_at_all(now, &busy);
        uncrowd(now);
        if (now - mon.resized >= RESIZE_NS) {
            mon.resized = now;
            tdl_procs_refresh();
        }
        quiet = busy ? 0 : quiet + 1;
        /* who asked as the last may have met somebody on his way out */
        if (quiet == SETTLED || quiet == LINGER) tdl_deadlock_check(1);
        if (quiet < LINGER) {
            rest(heard, now + tick);
            continue;
        }
        at_store_seq(&mon.asleep, 1);
        if (!stopping() && all_idle()) rest(heard, TDL_FOREVER);
        at_store_seq(&mon.asleep, 0);
        quiet = 0;
    }
    tdl_staff_all(); /* nobody is added once it stops */
    tdl_m_adopt(NULL);
    return NULL;
}

void tdl_sysmon_ring(void) {
    at_add_seq(&mon.bell, 1);
    tdl_sys.futex_wake(&mon.bell, 1);
}

void tdl_sysmon_wake(void) {
    if (TDL_UNLIKELY(at_load_seq(&mon.asleep)) && at_xchg_seq(&mon.asleep, 0)) tdl_sysmon_ring();
}

/* Only from start_m, after which the stopping runtime waits: no two at once. */
int tdl_sysmon_start(void) {
    if (tdl_sys.simulated || at_load_acq(&mon.started)) return 0;
    uint32_t none = 0;
    if (!at_cas_seq(&mon.started, &none, 1)) return 0;
    at_store_seq(&mon.asleep, 0);
    mon.crowded_until = 0;
    mon.resized = tdl_sys.now();
    at_add_seq(&tdl_sched.nthreads, 1);
    int r = tdl_sys.thread(sysmon, NULL, &mon.thread);
    if (r < 0) {
        at_sub_seq(&tdl_sched.nthreads, 1);
        at_store_seq(&mon.started, 0);
    }
    return r;
}

void tdl_sysmon_stop(void) {
    if (!at_load_acq(&mon.started)) return;
    tdl_sysmon_ring();
    tdl_sys.join(&mon.thread);
    at_sub_seq(&tdl_sched.nthreads, 1);
    at_store_seq(&mon.started, 0);
}
