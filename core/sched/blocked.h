/* SPDX-License-Identifier: MIT
 *
 * Circles of waiting: A holds a lock that B waits for, B holds one that A waits
 * for. A lock that can be part of one has a word that says who owns it, and who
 * is about to wait for it enters himself in a table (blocked.c); then he follows
 * the owners, from the lock to who owns it, to what that one waits for, and so
 * on. Whoever comes back to himself has closed a circle, and the last to come
 * always does, for all others are in the table.
 *
 * A lock may be unlocked by somebody else than its owner, so that a circle need
 * not be for ever. It is believed in when it has lasted for tdl_blocked_grace;
 * then who closed it is given TDL_EDEADLOCK, and stderr the names. Waits with a
 * deadline end by themselves and do not take part.
 *
 * The owner's word: stored (relaxed) by who has just got the lock, and by none
 * but him; set to 0, unknown, before it is given up. So of one who waits, and
 * therefore does neither, it is right what the words say.
 */
#ifndef TDL_SCHED_BLOCKED_H
#define TDL_SCHED_BLOCKED_H

#include "sys/lock.h"

struct tdl_op;
struct tdl_timers;

/* Of a lock. */
typedef struct tdl_owned {
    _Atomic uint64_t who;  /* its owner: see tdl_op_who; 0: unknown */
    _Atomic uint32_t told; /* a circle that was closed here has been reported */
} tdl_owned;

typedef struct tdl_blocked {
    struct tdl_blocked *next, **at; /* in the table, under its bucket's lock */
    uint64_t who;
    tdl_owned *owned; /* what it waits for */
    const char *what;              /* "mutex": for the report */
    void *object;
    int64_t since; /* when the wait began; before tdl_blocked_wait */
    _Atomic uint8_t granted; /* was woken by an unlock: set by the claimer, before it completes */
    uint8_t listed;          /* the owner's: it is in the table */
    uint8_t suspected;       /* the owner's: has closed a circle: its timer is the grace */
    int32_t why;             /* the owner's: see sync/cond.c */
    struct tdl_timers *quiet; /* the heap in which the grace's timer is */
} tdl_blocked;

/* How long a circle has to last, in nanoseconds. */
extern int64_t tdl_blocked_grace;

/* Before the op enlists for the first time. */
static inline void tdl_blocked_init(tdl_blocked *b) {
    b->listed = b->suspected = 0;
    b->quiet = NULL;
    at_store_rlx(&b->granted, 0);
}

/* Instead of tdl_op_arm, each time the op has enlisted. */
void tdl_blocked_wait(struct tdl_op *op, const char *what, void *object, tdl_owned *owned, int64_t deadline);
/* The claimer's, between claim and completion: it gets the lock, or may try. */
static inline void tdl_blocked_grant(tdl_blocked *b) { at_store_rlx(&b->granted, 1); }

enum { BLOCKED_NO, BLOCKED_ON, BLOCKED_CIRCLE };
/* After a claim with a negative result, the op being on no queue any more.
 * BLOCKED_NO: the result holds. BLOCKED_ON: it was only the grace, and there is
 * no circle any more: enlist again. BLOCKED_CIRCLE: there is one, which has been
 * reported; refuses: and the caller will not wait any longer. */
int tdl_blocked_over(struct tdl_op *op, bool refuses);
/* It has the lock, or gave up. */
void tdl_blocked_end(tdl_blocked *b);

/* Who has the lock that `who` waits for; 0: he waits for none, or it cannot be
 * known now. For dumps: never waits. */
uint64_t tdl_blocked_by(uint64_t who);

/* An identity that is never used twice, of the thread that waits with op. See
 * tdl_op_who. */
uint64_t tdl_thread_who(struct tdl_op *op);
/* "goroutine 7 [name]", "thread 4711"; as snprintf. */
int tdl_who_print(char *text, size_t size, uint64_t who, const char *name);

#endif
