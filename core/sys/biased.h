/* SPDX-License-Identifier: MIT
 *
 * A lock that costs one thread, its owner, no atomic read-modify-write: for
 * structures that others touch now and then. Which thread that is the caller
 * says with each call; there is one at a time, and two that follow each other
 * are ordered by whatever handed the structure over.
 *
 * Dekker's handshake, made asymmetric as in sched/own.h:
 *
 *     owner: inside = 1; [compiler barrier]; read guests     guest: guests = 1; membarrier; read inside
 *
 * Either the owner sees the guest, steps back and queues at the lock as a guest
 * does, or the guest sees the owner inside and waits for the release store of
 * 0. Where the kernel has no membarrier, or guests have come too often, the owner
 * is a guest, too, and it is a lock like any other.
 */
#ifndef TDL_SYS_BIASED_H
#define TDL_SYS_BIASED_H

#include "sys/lock.h"

typedef struct tdl_biased {
    tdl_lock lock;           /* guests, one after the other */
    _Atomic uint32_t inside; /* the owner is in, or about to look */
    _Atomic uint32_t guests; /* one holds the lock; or always, where the owner is one, too */
    bool biased;             /* under lock: else guests stays 1 */
    uint32_t visits;         /* under lock */
} tdl_biased;

/* Once, before its first use. */
void tdl_biased_init(tdl_biased *b, int rank);
void tdl_biased_guest_enter(tdl_biased *b);
void tdl_biased_guest_leave(tdl_biased *b);

static inline void tdl_biased_take(tdl_biased *b, bool owner) {
    if (TDL_LIKELY(owner)) {
        at_store_rlx(&b->inside, 1);
        at_fence_compiler(); /* pairs with the guest's membarrier */
        TDL_TSAN_ACQUIRE(&b->inside); /* the last owner was this thread, but another fiber of it */
        if (TDL_LIKELY(at_load_acq(&b->guests) == 0)) return; /* acquire: the last guest's release */
        at_store_rel(&b->inside, 0);
    }
    tdl_biased_guest_enter(b);
}

static inline void tdl_biased_drop(tdl_biased *b, bool owner) {
    /* who entered as an owner is inside; a guest is not, and the owner cannot be meanwhile */
    if (TDL_LIKELY(owner && at_load_rlx(&b->inside)))
        at_store_rel(&b->inside, 0); /* pairs with the acquire in tdl_biased_guest_enter */
    else
        tdl_biased_guest_leave(b);
}

#endif
