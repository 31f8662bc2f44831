/* SPDX-License-Identifier: MIT
 * The guests' side of tdl_biased. */
#include "sys/biased.h"

#include "sys/sys.h"

/* Guests that come this often pay more than the owner saves: the bias ends. */
enum { VISITS = 64 };

void tdl_biased_init(tdl_biased *b, int rank) {
    (void)rank;
    tdl_lock_init(&b->lock, rank);
    at_store_rlx(&b->inside, 0);
    b->visits = 0;
    b->biased = tdl_sys.membarrier() == 0;
    at_store_rlx(&b->guests, !b->biased);
}

void tdl_biased_guest_enter(tdl_biased *b) {
    tdl_lock_take(&b->lock);
    at_store_seq(&b->guests, 1);
    if (!b->biased) return; /* the owner is never inside */
    while (tdl_sys.membarrier() < 0) tdl_sys.yield(); /* it worked once: an injected fault */
    for (int i = 0; at_load_acq(&b->inside); i++) {
        if (i < 1000)
            at_pause();
        else
            tdl_sys.yield();
    }
    b->biased = ++b->visits < VISITS;
}

void tdl_biased_guest_leave(tdl_biased *b) {
    /* the next guest may not have come yet, and stores it again; release pairs
     * with the owner's acquire */
    if (b->biased) at_store_rel(&b->guests, 0);
    tdl_unlock(&b->lock);
}
