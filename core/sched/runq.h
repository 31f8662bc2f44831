/* SPDX-License-Identifier: MIT
 *
 * The run queue of a P: a ring of 256, as Go's. The owner adds at the tail;
 * the owner and thieves take from the head by CAS.
 *
 * Invariant: tail - head <= 256, as unsigned 32-bit numbers. Only the owner
 * writes tail and the slots; a slot in [head, tail) is not overwritten.
 *   tail: release in put pairs with acquire in steal (the slot's content).
 *   head: the CAS of a taker pairs with acquire in put (the slot is free).
 */
#ifndef TDL_SCHED_RUNQ_H
#define TDL_SCHED_RUNQ_H

#include "sys/atomic.h"

#ifndef RUNQ_SIZE /* a model checker's is smaller */
enum { RUNQ_SIZE = 256 };
#endif

struct tdl_g;

typedef struct tdl_runq {
    _Atomic uint32_t head;
    _Atomic uint32_t tail;
    _Atomic(struct tdl_g *) slot[RUNQ_SIZE];
} tdl_runq;

/* Owner only. False when full. */
static inline bool tdl_runq_put(tdl_runq *q, struct tdl_g *g) {
    uint32_t head = at_load_acq(&q->head);
    uint32_t tail = at_load_rlx(&q->tail);
    if (tail - head >= RUNQ_SIZE) return false;
    at_store_rlx(&q->slot[tail % RUNQ_SIZE], g);
    at_store_rel(&q->tail, tail + 1);
    return true;
}

/* Owner only. */
static inline struct tdl_g *tdl_runq_get(tdl_runq *q) {
    uint32_t head = at_load_acq(&q->head);
    for (;;) {
        if (head == at_load_rlx(&q->tail)) return NULL;
        struct tdl_g *g = at_load_rlx(&q->slot[head % RUNQ_SIZE]);
        if (at_cas_seq(&q->head, &head, head + 1)) return g;
    }
}

/* The same where nobody can steal: without the CAS. */
static inline struct tdl_g *tdl_runq_get_alone(tdl_runq *q) {
    uint32_t head = at_load_rlx(&q->head);
    if (head == at_load_rlx(&q->tail)) return NULL;
    struct tdl_g *g = at_load_rlx(&q->slot[head % RUNQ_SIZE]);
    at_store_rlx(&q->head, head + 1);
    return g;
}

/* Anybody: takes half of q, rounded up, into out (room for RUNQ_SIZE / 2).
 * The owner, too, takes half that way when its ring is full. */
static inline uint32_t tdl_runq_grab(tdl_runq *q, struct tdl_g **out) {
    for (;;) {
        uint32_t head = at_load_acq(&q->head);
        uint32_t tail = at_load_acq(&q->tail);
        uint32_t n = tail - head;
        n -= n / 2;
        if (n == 0) return 0;
        if (n > RUNQ_SIZE / 2) continue; /* head and tail are not of one moment */
        for (uint32_t i = 0; i < n; i++) out[i] = at_load_rlx(&q->slot[(head + i) % RUNQ_SIZE]);
        if (at_cas_seq(&q->head, &head, head + n)) return n;
    }
}

static inline uint32_t tdl_runq_len(tdl_runq *q) {
    return at_load_rlx(&q->tail) - at_load_rlx(&q->head);
}

#endif
