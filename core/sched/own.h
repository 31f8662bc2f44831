/* SPDX-License-Identifier: MIT
 *
 * Who has a P. An M that runs a goroutine may lose its P at any instruction of
 * the goroutine's own code, but not while it is in here: whoever touches a P's
 * plain fields does so between tdl_p_enter and tdl_p_leave. An M without P goes
 * on as a plain thread would (what it readies goes to the global queue) until
 * its goroutine parks, yields or ends.
 *
 * The handshake is Dekker's, made asymmetric:
 *
 *     the M: busy = 1; [compiler barrier]; read p       taker: p = NULL; membarrier; read busy
 *
 * The taker's membarrier is a full barrier in every running thread, so either
 * the M reads NULL, or the taker reads busy and gives the P back at once. An M
 * that read NULL meanwhile has lost nothing but a short cut: only under
 * sched.lock, which the taker holds all the time, does an M conclude that it has
 * none. busy = 0 (release) pairs with the taker's read (acquire): what the M
 * wrote to the P is seen by whoever gets it.
 */
#ifndef TDL_SCHED_OWN_H
#define TDL_SCHED_OWN_H

#include "sched/sched.h"
#include "sys/sys.h"

/* Not seen by TSan: what belongs to an M is used by many of its fibers. */
#ifdef TDL_TSAN
#define OWN_INLINE __attribute__((unused)) static TDL_UNSEEN
#else
#define OWN_INLINE TDL_ALWAYS_INLINE
#endif

/* The calling M's P for the time until tdl_p_leave; NULL: none. May nest. */
OWN_INLINE tdl_p *tdl_p_enter(tdl_m *m, uint32_t *was_busy) {
    *was_busy = at_load_rlx(&m->busy);
    at_store_rlx(&m->busy, 1);
    at_fence_compiler(); /* pairs with the taker's membarrier */
    return at_load_rlx(&m->p);
}

OWN_INLINE void tdl_p_leave(tdl_m *m, uint32_t was_busy) { at_store_rel(&m->busy, was_busy); }

/* Takes p from its M, unless that is in here; under sched.lock. */
OWN_INLINE bool tdl_p_retake(tdl_p *p) {
    tdl_m *m = p->m;
    at_store_seq(&m->p, NULL);
    if (tdl_sys.membarrier() < 0 || at_load_acq(&m->busy)) {
        at_store_rel(&m->p, p);
        return false;
    }
    p->m = NULL;
    return true;
}

#endif
