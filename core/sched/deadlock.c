/* SPDX-License-Identifier: MIT
 *
 * "All goroutines are asleep": asked by the last M that goes idle in a tdl_run.
 *
 * It is a deadlock when nothing can wake a goroutine any more: no P has work
 * or a timer, no operation waits on a descriptor, and every thread of the
 * process is a worker, which is idle, or sleeps in a treadle call without a
 * deadline. Any other thread, a host's among them, might still do something;
 * then nothing is said.
 *
 * nasleep counts such sleepers: raised by the thread once it is PARKED,
 * lowered by whoever claims it, before it can run. So it never counts one that
 * runs; at worst it misses one that has just parked, which then asks again
 * (tdl_deadlock_sleeper). nloose counts the goroutines that run without a P;
 * one that is pinned and asleep is taken out of it in the same way.
 */
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#include "sched/sched.h"
#include "sys/sys.h"

/* Threads of this process; -1: unknown. */
static int count_threads(void) {
    DIR *d = opendir("/proc/self/task");
    if (!d) return -1;
    int n = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static bool all_idle(void) {
    int np = tdl_nprocs();
    return np > 0 && at_load_seq(&tdl_sched.nidle) + at_load_seq(&tdl_sched.nretired_idle) == (uint32_t)np &&
           at_load_seq(&tdl_sched.nglobal) == 0 && at_load_seq(&tdl_sched.nloose) == 0;
}

static bool timers_pending(void) {
    for (int i = 0; i < tdl_nprocs(); i++)
        if (tdl_timers_pending(&tdl_sched.p[i]->poller.timers)) return true;
    return false;
}

/* Threads that cannot wake anybody by themselves. */
static int accounted(void) { return (int)at_load_seq(&tdl_sched.nthreads) + at_load_seq(&tdl_sched.nasleep); }

void tdl_deadlock_check(void) {
    if (tdl_sys.simulated || !at_load_seq(&tdl_sched.in_run) || at_load_seq(&tdl_sched.stopping)) return;
    if (!all_idle() || timers_pending()) return;
    for (int i = 0; i < tdl_nprocs(); i++)
        if (tdl_poller_awaited(&tdl_sched.p[i]->poller)) return;
    /* one that ends meanwhile is no longer accounted for before it is gone */
    int before = accounted(), n = count_threads();
    if (n != before || accounted() != before || at_load_seq(&tdl_sched.stopping) || !all_idle()) return;
    static _Atomic int told; /* two may come to it at once */
    if (at_xchg_seq(&told, 1)) return;
    fflush(stdout);
    fputs("fatal error: all goroutines are asleep - deadlock!\n\n", stderr);
    fflush(stderr);
    tdl_dump(STDERR_FILENO);
    _exit(2);
}

void tdl_deadlock_sleeper(const tdl_op *op) {
    if (op->kind == OP_OF_PINNED)
        at_sub_seq(&tdl_sched.nloose, 1);
    else
        at_add_seq(&tdl_sched.nasleep, 1);
    if (!at_load_seq(&tdl_sched.in_run) || !all_idle() || timers_pending()) return;
    for (int i = 0; i < tdl_nprocs(); i++)
        if (at_load_rlx(&tdl_sched.p[i]->poller.npd)) return;
    tdl_poller_wake(&tdl_sched.p[0]->poller); /* its M finds nothing, and asks */
}
