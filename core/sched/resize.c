/* SPDX-License-Identifier: MIT
 *
 * How many Ps may run goroutines, changed while they run.
 *
 * More: new Ps are opened and are idle at once. Fewer: nothing is stopped; a P
 * whose number is too high finds that out when it next looks for work (sysmon
 * takes it from a goroutine that does not let it), gives its goroutines to the
 * others, and from then on only waits for its descriptors and timers, which
 * keep their home. Asked back, it works on.
 *
 * From one P to more: only that P's M may end the solo state (queue.c), so the
 * number is left in `pending`, and that M does it (tdl_procs_apply).
 *
 * run_lock keeps a resize and a stop apart. A stop holds it until every M has
 * come in, so whoever finds it taken looks whether a stop is why.
 */
#include <stdlib.h>

#include "sched/own.h"
#include "sched/procs.h"
#include "sched/sched.h"
#include "sys/sys.h"

static _Atomic int wanted;  /* by the program or the environment; 0: follow the limits */
static _Atomic int pending; /* for tdl_procs_apply; under run_lock, taken by the solo M */

static int limited(int n) { return n > TDL_MAX_P ? TDL_MAX_P : n; }

int tdl_procs_wanted(void) {
    int n = at_load_rlx(&wanted);
    if (n == 0 && (n = tdl_procs_fixed()) > 0) at_store_rlx(&wanted, limited(n));
    return limited(n > 0 ? n : tdl_procs_default());
}

int tdl_procs_swap(int n) { return at_xchg_seq(&wanted, n); }

/* Under sched.lock, not solo. */
static void publish(int n) {
    int np = tdl_nprocs(), before = (int)at_load_rlx(&tdl_sched.active);
    int low = n < before ? n : before, high = n < before ? before : n;
    static bool was_idle[TDL_MAX_P]; /* under sched.lock, too */
    for (int i = low; i < high; i++) {
        was_idle[i] = i >= np || tdl_sched.p[i]->idle;
        if (i < np && was_idle[i]) tdl_idle_remove(tdl_sched.p[i]);
    }
    if (n > np) at_store_rel(&tdl_sched.np, n);
    at_store_seq(&tdl_sched.active, (uint32_t)n);
    for (int i = low; i < high; i++)
        if (was_idle[i]) tdl_idle_push(tdl_sched.p[i]);
}

static void publish_and_tell(int n) {
    tdl_lock_take(&tdl_sched.lock);
    publish(n);
    tdl_unlock(&tdl_sched.lock);
    tdl_wake_all(); /* there may be work for more now */
    tdl_wake_if_idle();
}

TDL_NO_TSAN void tdl_procs_apply(void) {
    int n = at_xchg_seq(&pending, 0);
    if (n <= 1) return;
    at_store_seq(&tdl_sched.solo, 0);
    publish_and_tell(n);
}

/* The solo P's M does it at once if it is the caller's, else when it looks next. */
TDL_NO_TSAN static void leave_to_solo(int n) {
    at_store_seq(&pending, n);
    tdl_m *m = tdl_m_self();
    uint32_t was;
    bool ours = tdl_p_enter(m, &was) != NULL;
    if (ours) tdl_procs_apply();
    tdl_p_leave(m, was);
    if (!ours) tdl_poller_kick(&tdl_sched.p[0]->poller);
}

static bool lock_against_stop(void) {
    while (!tdl_lock_try(&tdl_sched.run_lock)) {
        if (at_load_seq(&tdl_sched.stopping)) return false;
        tdl_thread_yield();
    }
    return true;
}

/* Changes their number, if the runtime runs. 0 or a negative code. */
static int resize(int n) {
    if (!lock_against_stop()) return 0;
    int r = 0;
    if (at_load_acq(&tdl_sched.running)) {
        for (int i = tdl_nprocs(); i < n && r == 0; i++) r = tdl_p_open(i);
        if (r < 0)
            ; /* as it was; what was opened is closed at the stop */
        else if (!at_load_seq(&tdl_sched.solo))
            publish_and_tell(n);
        else if (n > 1)
            leave_to_solo(n);
    }
    tdl_unlock(&tdl_sched.run_lock);
    return r;
}

int tdl_gomaxprocs(int n) {
    int no = tdl_refused(at_load_rlx(&tdl_sched.bubble));
    if (no < 0) return no;
    int before = at_load_acq(&tdl_sched.running) ? (int)at_load_rlx(&tdl_sched.active) : tdl_procs_wanted();
    if (n < 1) return before;
    at_store_rlx(&wanted, limited(n));
    int r = resize(limited(n));
    return r < 0 ? r : before;
}

void tdl_procs_refresh(void) {
    static tdl_procs procs; /* sysmon's */
    if (at_load_rlx(&wanted) != 0) return;
    int n = limited(tdl_procs_look(&procs));
    if (n != (int)at_load_rlx(&tdl_sched.active)) resize(n);
}
