/* SPDX-License-Identifier: MIT
 * The slow half of tdl_lock: spin, then yield, then nap. And the check of the
 * order, in builds that have it. */
#include "sys/lock.h"

#include "sys/sys.h"

#ifdef TDL_LOCK_RANKS
#include <stdio.h>
#endif

void tdl_lock_wait(tdl_lock *l) {
    for (int round = 0;; round++) {
        for (int i = 0; i < 64; i++) {
            if (at_load_rlx(&l->held) == 0 && at_xchg_acq(&l->held, 1) == 0) return;
            at_pause();
        }
        if (round < 16) {
            tdl_sys.yield();
        } else {
            /* the holder has been preempted behind somebody else's work */
            tdl_sys.nap(50000);
        }
    }
}

#ifdef TDL_LOCK_RANKS

/* -- Ranks ---------------------------------------------------------------------- */

static const char *const names[RANKS] = {
    [RANK_NONE] = "no rank",
    [RANK_RUN] = "start and stop",
    [RANK_HOSTS] = "list of hosts",
    [RANK_OBJECT] = "object",
    [RANK_JUDGEMENT] = "judgement",
    [RANK_BLOCKED] = "who waits for a lock",
    [RANK_TLS] = "TLS stream",
    [RANK_REAP] = "completions",
    [RANK_PD] = "poll descriptor",
    [RANK_PIPE] = "in-memory pipe",
    [RANK_PARK] = "parked tasks",
    [RANK_PDS] = "table of poll descriptors",
    [RANK_POLLER] = "poller",
    [RANK_HEAP] = "timer heap",
    [RANK_BACKEND] = "poller back end",
    [RANK_CHAN] = "channel",
    [RANK_SCHED] = "scheduler",
    [RANK_STACKS] = "depot of stacks",
    [RANK_POOL] = "pool",
    [RANK_CENSUS] = "census of stacks",
    [RANK_FAULT] = "injected faults",
};

/* What the thread holds. No lock is held over a switch, so it is a thread's, not a
 * goroutine's; TSan, for which it is several fibers', does not look. */
static _Thread_local tdl_held holding[RANKS] __attribute__((tls_model("initial-exec")));

tdl_held *tdl_lock_holding(void) { return holding; }

static void nobody(char *text, size_t size) { snprintf(text, size, "a thread"); }

void (*tdl_lock_caller)(char *text, size_t size) = nobody;

TDL_NO_TSAN static _Noreturn void blame(tdl_lock *l, const char *where, const char *what, uint32_t held) {
    char caller[128];
    tdl_lock_caller(caller, sizeof caller);
    uint32_t rank = at_load_rlx(&l->rank);
    const char *name = rank < RANKS ? names[rank] : "not initialised";
    if (held)
        tdl_fatal("lock order: %s takes the lock \"%s\" (%p) at %s, which %s \"%s\" (%p), held since %s", caller, name,
                  (void *)l, where, what, names[held], (void *)holding[held].top, holding[held].where);
    tdl_fatal("lock order: %s at %s: the lock \"%s\" (%p) %s", caller, where, name, (void *)l, what);
}

/* The innermost rank that is held; RANK_NONE. */
TDL_NO_TSAN static uint32_t innermost(void) {
    uint32_t r = RANKS - 1;
    while (r > RANK_NONE && holding[r].n == 0) r--;
    return r;
}

TDL_NO_TSAN static uint32_t check(tdl_lock *l, const char *where) {
    uint32_t rank = at_load_rlx(&l->rank), held = innermost();
    if (rank == RANK_NONE || rank >= RANKS) blame(l, where, "has no rank", RANK_NONE);
    if (held > rank) blame(l, where, "comes before", held);
    if (held == rank && holding[rank].top >= l)
        blame(l, where, holding[rank].top == l ? "is" : "has a lower address than", held);
    return rank;
}

TDL_NO_TSAN static void note(tdl_lock *l, const char *where) {
    uint32_t rank = at_load_rlx(&l->rank);
    holding[rank].n++;
    if (holding[rank].top && holding[rank].top > l) return; /* tried out of order */
    holding[rank].top = l;
    holding[rank].where = where;
}

TDL_NO_TSAN static void forget(tdl_lock *l, const char *where) {
    uint32_t rank = at_load_rlx(&l->rank);
    if (rank >= RANKS || holding[rank].n == 0) blame(l, where, "is given up by who does not hold it", RANK_NONE);
    if (--holding[rank].n == 0) holding[rank].top = NULL;
}

void tdl_lock_take_at(tdl_lock *l, const char *where) {
    check(l, where);
    if (at_xchg_acq(&l->held, 1) != 0) tdl_lock_wait(l);
    note(l, where);
}

bool tdl_lock_try_at(tdl_lock *l, const char *where) {
    if (at_xchg_acq(&l->held, 1) != 0) return false; /* out of order it may be: it does not wait */
    note(l, where);
    return true;
}

void tdl_unlock_at(tdl_lock *l, const char *where) {
    forget(l, where);
    at_store_rel(&l->held, 0);
}

TDL_NO_TSAN void tdl_lock_none_held_at(const char *where) {
    uint32_t held = innermost();
    if (held) blame(holding[held].top, where, "is held where nothing may be", RANK_NONE);
}

#endif
