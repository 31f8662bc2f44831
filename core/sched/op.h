/* SPDX-License-Identifier: MIT
 *
 * An op is one blocking operation of one caller. Every operation is written
 * once, in three steps: *try* (finish now if possible), *enlist* (put the op's
 * node on the object's queue, under the object's lock), *finish* (after the op
 * was claimed: take the result, or enlist again). Only the waiting between
 * enlist and finish differs by caller: a goroutine switches stacks, a thread
 * sleeps on a futex, a hosted task is reported by tdl_host_poll.
 *
 * States and who moves them:
 *
 *     IDLE -> ARMED        the owner, before it enlists (goroutine, thread)
 *     IDLE -> PARKED       the owner, before it enlists (hosted task)
 *     ARMED -> PARKED      the owner, when it no longer runs
 *     IDLE -> OWN          the owner, a task that only its host's thread can claim
 *     OWN -> CLAIMED       that thread, without a CAS
 *     ARMED|PARKED -> CLAIMED   exactly one of partner, deadline, cancel, close
 *     CLAIMED -> DONE      the claimer, for an owner that is not parked
 *
 * The claimer alone writes result, out and extra, between the claim and
 * tdl_op_complete. A claim is made under the lock of the queue on which the op
 * was found (a timer: its heap's lock; cancel: see tdl_op_cancel), and the
 * owner takes each such lock before it uses the op again: no late claimer can
 * hit the op's next use.
 */
#ifndef TDL_SCHED_OP_H
#define TDL_SCHED_OP_H

#include "sched/blocked.h"
#include "sched/timers.h"
#include "treadle.h"

enum { OP_IDLE, OP_ARMED, OP_PARKED, OP_CLAIMED, OP_DONE, OP_OWN };
/* A pinned goroutine waits as a thread does. */
enum { OP_OF_G, OP_OF_THREAD, OP_OF_PINNED, OP_OF_TASK };

static inline bool tdl_op_sleeps(uint8_t kind) { return kind == OP_OF_THREAD || kind == OP_OF_PINNED; }

typedef struct tdl_op tdl_op;
typedef struct tdl_node tdl_node;

/* A FIFO of waiting nodes; guarded by its object's lock. */
typedef struct tdl_queue {
    tdl_node *head, *tail;
} tdl_queue;

struct tdl_node {
    tdl_node *next, *prev;
    tdl_queue *queue; /* NULL: on none. Guarded by the object's lock */
    tdl_op *op;
    void *object;
    tdl_val val;    /* send: the value, held by the node */
    uint32_t was;   /* between claim and completion, in a list of the claimed */
    uint16_t index; /* select: which case */
    bool locks;     /* channels: the object has a lock to be taken. It may be gone: see sys/pool.h */
};

/* What kind of operation: its name in dumps, and how it goes on. */
typedef struct tdl_op_class {
    const char *reason; /* Go's wait reasons: "chan receive", "IO wait" … */
    /* After a claim. The result, or TDL_PENDING when it is enlisted again.
     * Must leave no node on any queue otherwise. */
    int64_t (*finish)(tdl_op *op);
    /* The owner will never run again. result < 0: it got nothing, and leaves the
     * queues; else it was completed: what it got is passed on. */
    void (*abandon)(tdl_op *op);
} tdl_op_class;

/* There are as many as there are goroutines and tasks that wait: what only some
 * operations need lies in the union. */
struct tdl_op {
    _Atomic uint32_t state;
    uint8_t kind;
    _Atomic uint8_t shielded; /* a cancel passes it by: the owner must not come back without */
    const tdl_op_class *cls; /* of the operation in progress; dumps read it */
    int64_t result;          /* 0 or more: what the partner did; or a code */
    tdl_val out;             /* see tdl_outcome */
    int64_t extra;
    int64_t deadline;     /* as given to tdl_op_arm */
    int64_t parked_at;    /* about when its owner stopped; for dumps */
    tdl_timer_node timer; /* the deadline */
    tdl_node node;        /* operations on one object */
    union {
        struct { /* select */
            tdl_node *nodes; /* one a case: see sync/select.c */
            int n;
        } sel;
        struct { /* streams: see netpoll/polldesc.h */
            struct tdl_pd *pd;
            int64_t (*attempt)(tdl_op *op);
            void *object; /* the connection or listener */
            char *buf;
            size_t n, done;
            void *copy; /* of the caller's bytes, for a hosted write */
            struct tdl_buf *chain; /* whose bytes are written */
            uint8_t dir, stage, drained, hold, held;
            uint8_t queue; /* a write: it may be sent together with others */
            uint8_t how; /* TDL_FILL_… */
            uint8_t ndelim; /* TDL_FILL_UNTIL: of the delimiter at buf */
        } io;
        struct tdl_g *joined;
        tdl_blocked blocked; /* mutexes, and conditions */
    } u;
};

/* -- Claiming -------------------------------------------------------------- */

/* Tries to become the one who ends the wait: the state before (ARMED or
 * PARKED), or 0 when another was first or nobody waits. The CAS pairs with the
 * owner's ARMED -> PARKED. */
static inline uint32_t tdl_op_claim(tdl_op *op) {
    uint32_t s = at_load_rlx(&op->state);
    if (s == OP_OWN) {
        at_store_rlx(&op->state, OP_CLAIMED);
        return OP_PARKED;
    }
    while (s == OP_ARMED || s == OP_PARKED)
        if (at_cas_seq(&op->state, &s, OP_CLAIMED)) return s;
    return 0;
}

/* Ends the claim: the owner goes on. `was` is what tdl_op_claim returned. After
 * this the op belongs to its owner again, and may be gone. */
void tdl_op_complete(tdl_op *op, uint32_t was, int64_t result);

/* A claim made under a lock: who is to be completed once the lock has been given up. */
typedef struct tdl_wake {
    tdl_op *op;
    uint32_t was;
    int64_t result;
} tdl_wake;

static inline void tdl_wake_up(tdl_wake *w) {
    if (w->op) tdl_op_complete(w->op, w->was, w->result);
}

/* Claims with TDL_ECANCELED, for a caller that keeps the op from being used
 * for another operation meanwhile (its owner's own thread; or the sticky flag
 * of a goroutine, which makes every later op cancelled too). 1 when it did. */
int tdl_op_cancel(tdl_op *op);

/* -- Queues, under the object's lock --------------------------------------- */

void tdl_queue_push(tdl_queue *q, tdl_node *n);
void tdl_queue_push_front(tdl_queue *q, tdl_node *n);
void tdl_queue_remove(tdl_node *n); /* nothing when on none */

/* Takes nodes from the front until one's op is claimed; NULL when none is
 * left. *was is for tdl_op_complete. */
tdl_node *tdl_queue_claim(tdl_queue *q, uint32_t *was);
/* Claims all, in order, as a list through next; each node's was is for its own
 * completion. */
tdl_node *tdl_queue_claim_all(tdl_queue *q);
/* With no lock held. */
void tdl_complete_all(tdl_node *list, int64_t result);

/* -- The owner's side ------------------------------------------------------- */

/* Starts an operation. Nothing is published yet. */
static inline void tdl_op_begin(tdl_op *op, const tdl_op_class *cls) {
    op->cls = cls;
    op->result = 0;
    op->extra = 0;
    op->node.op = op;
}

/* From here on the op may be claimed: call it right before the first enlist,
 * under the object's lock (which publishes it). */
static inline void tdl_op_publish(tdl_op *op) {
    /* release pairs with the CAS of tdl_op_claim: a cancel takes no lock */
    at_store_rel(&op->state, op->kind == OP_OF_TASK ? OP_PARKED : OP_ARMED);
}

/* The same for what only the caller's own thread can end: a task on local
 * channels, or asleep. Its host's timers, too, are run by that thread. */
static inline void tdl_op_publish_own(tdl_op *op) {
    if (op->kind == OP_OF_TASK)
        at_store_rlx(&op->state, OP_OWN);
    else
        tdl_op_publish(op);
}

/* Arms the deadline, after the enlisting. Where memory is out the wait ends
 * with TDL_ENOMEM. */
void tdl_op_arm_timer(tdl_op *op, int64_t deadline);

static inline void tdl_op_arm(tdl_op *op, int64_t deadline) {
    op->deadline = deadline;
    if (deadline != TDL_FOREVER) tdl_op_arm_timer(op, deadline);
}

/* What a wait that would begin now should return instead: 0 (wait), TDL_EAGAIN,
 * TDL_ETIMEDOUT. */
int tdl_deadline_check(int64_t deadline);

/* Disarms, then runs the class's finish: a result or TDL_PENDING. */
int64_t tdl_op_finish(tdl_op *op);

/* The owner will never run again: ends the operation, if there is one, and
 * gives up what it got. No claimer may be under way: either nobody has claimed
 * it, or the claimer has completed it; or the caller has, with result set. */
void tdl_op_abandon(tdl_op *op);

/* Goroutines and threads: waits and finishes until there is a result. */
int64_t tdl_op_wait(tdl_op *op);

#endif
