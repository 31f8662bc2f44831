/* SPDX-License-Identifier: MIT
 *
 * "All goroutines are asleep": asked by the last M that goes idle in a tdl_run;
 * and by a host whose tasks all wait (host/host.c).
 *
 * It is a deadlock when nothing can wake a goroutine any more: no P has work
 * or a timer, no operation waits on a descriptor, and every thread of the
 * process is known to sleep: it is a worker, or waits in a treadle call without
 * a deadline. Any other thread might still do something; then nothing is said.
 *
 * Who is known to sleep. Workers count in nworkers from their first instruction
 * to their last (the thread exists before and after: an error is on the side of
 * silence); that they are idle is said by nidle and nloose. sysmon counts while
 * it waits, and when it wakes finds no P that is not idle to act on. nasleep
 * counts plain threads: raised by the thread once it is PARKED, lowered by
 * whoever claims it, before it can run. nloose counts the goroutines that run
 * without a P; one that is pinned and asleep is taken out of it in the same way.
 *
 * All this is not looked at in one instant. But whoever wakes, or ends, raises
 * stirs first, by himself or by who wakes him: when stirs has not moved, all who
 * were seen asleep were so at the end of the look; the threads are counted last,
 * for new ones come only from those who are awake.
 *
 * Who is the last to fall asleep asks. Where the count failed only because a
 * thread was just starting or ending, sysmon asks again soon, and before it goes
 * to sleep for long.
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

static bool ps_idle(void) {
    return at_load_seq(&tdl_sched.nidle) + at_load_seq(&tdl_sched.nretired_idle) == (uint32_t)tdl_nprocs() &&
           at_load_seq(&tdl_sched.nglobal) == 0 && at_load_seq(&tdl_sched.nloose) == 0;
}

bool tdl_all_asleep(int others) {
    uint32_t stirs = at_load_seq(&tdl_sched.stirs);
    if (!ps_idle()) return false;
    for (int i = 0; i < tdl_nprocs(); i++) {
        tdl_poller *poller = &tdl_sched.p[i]->poller;
        if (tdl_timers_pending(&poller->timers) || tdl_poller_awaited(poller)) return false;
    }
    int known = at_load_seq(&tdl_sched.nworkers) + at_load_seq(&tdl_sched.nasleep) + others;
    return count_threads() == known && ps_idle() && at_load_seq(&tdl_sched.stirs) == stirs;
}

void tdl_deadlock_check(int others) {
    if (tdl_sys.simulated || !at_load_seq(&tdl_sched.in_run) || at_load_seq(&tdl_sched.stopping)) return;
    if (tdl_nprocs() == 0 || !tdl_all_asleep(others)) return;
    static _Atomic int told; /* two may come to it at once */
    if (at_xchg_seq(&told, 1)) return;
    int threads = at_load_rlx(&tdl_sched.nasleep) - 1; /* tdl_run's own is one */
    fflush(stdout);
    fputs("fatal error: all goroutines are asleep - deadlock!\n\n", stderr);
    fflush(stderr);
    tdl_dump(STDERR_FILENO);
    char text[80]; /* no fprintf: the stack may be a small one */
    int n = snprintf(text, sizeof text, "threads that wait in calls of treadle, too: %d\n", threads);
    if (threads > 0 && write(STDERR_FILENO, text, (size_t)n) < 0) _exit(2);
    _exit(2);
}

void tdl_deadlock_sleeper(const tdl_op *op) {
    if (op->kind == OP_OF_PINNED)
        at_sub_seq(&tdl_sched.nloose, 1);
    else
        at_add_seq(&tdl_sched.nasleep, 1);
    tdl_deadlock_check(0);
}
