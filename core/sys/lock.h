/* SPDX-License-Identifier: MIT
 *
 * tdl_lock: the lock of every structure of the core. Held for a few dozen
 * instructions, never across a switch, a system call that may wait, or a call
 * to a user's code. Unlock is one store, so nobody can be left asleep: a
 * waiter spins, then yields its CPU, then naps.
 *
 * Order: each lock has a rank, and a thread takes locks only in the order of
 * tdl_rank below; of several with one rank, in the order of their addresses.
 * Builds with TDL_LOCK_RANKS (those of the sanitizers) check it: whoever takes
 * a lock out of order, or one without a rank, is stopped with the names of both
 * locks, the lines that took them, and the goroutine. In other builds a lock is
 * one word and its rank nothing at all.
 */
#ifndef TDL_SYS_LOCK_H
#define TDL_SYS_LOCK_H

#include "sys/atomic.h"
#include "sys/base.h"

/* Outermost first. A new kind of lock gets a line here and a name in lock.c. */
typedef enum tdl_rank {
    RANK_NONE,
    RANK_RUN,    /* start, stop and resize of the runtime */
    RANK_HOSTS,  /* the list of hosts */
    RANK_OBJECT, /* whatever else can be waited for */
    RANK_JUDGEMENT, /* of a circle of waiting */
    RANK_BLOCKED, /* who waits for a lock */
    RANK_TLS,    /* a TLS stream: held over OpenSSL's work, and wanted by another only
                    where two threads read and write one connection at a time */
    RANK_REAP,   /* a poller's completions, which are taken in order */
    RANK_PD,     /* a poll descriptor */
    RANK_PIPE,   /* an in-memory pipe */
    RANK_PARK,   /* a host's parked tasks */
    RANK_PDS,    /* the table of poll descriptors */
    RANK_POLLER, /* a poller's list of descriptors */
    RANK_HEAP,   /* a heap of timers */
    RANK_BACKEND, /* which back end, and what one of them has */
    RANK_CHAN,   /* a channel */
    RANK_SCHED,  /* the scheduler */
    RANK_STACKS, /* the depot of stacks */
    RANK_POOL,   /* a pool of objects */
    RANK_CENSUS, /* the census of stacks */
    RANK_FAULT,  /* events that are delayed on purpose */
    RANKS
} tdl_rank;

#ifndef TDL_LOCK_RANKS

typedef struct tdl_lock {
    _Atomic uint32_t held;
} tdl_lock;

#define TDL_LOCK_INIT(rank) {0}
#define tdl_lock_init(l, rank) ((void)(l))

void tdl_lock_wait(tdl_lock *l);

/* acquire pairs with the release in tdl_unlock */
static inline void tdl_lock_take(tdl_lock *l) {
    if (TDL_UNLIKELY(at_xchg_acq(&l->held, 1) != 0)) tdl_lock_wait(l);
}

static inline bool tdl_lock_try(tdl_lock *l) { return at_xchg_acq(&l->held, 1) == 0; }

/* release pairs with the acquire in tdl_lock_take and tdl_lock_wait */
static inline void tdl_unlock(tdl_lock *l) { at_store_rel(&l->held, 0); }

/* Where the caller is about to wait, or to leave its stack: holds nothing. */
#define tdl_lock_none_held() ((void)0)

#else

typedef struct tdl_lock {
    _Atomic uint32_t held;
    _Atomic uint32_t rank; /* relaxed: written again with the same value only */
} tdl_lock;

#define TDL_LOCK_INIT(r) {.rank = (r)}
#define tdl_lock_init(l, r) at_store_rlx(&(l)->rank, (uint32_t)(r))

void tdl_lock_wait(tdl_lock *l);
void tdl_lock_take_at(tdl_lock *l, const char *where);
bool tdl_lock_try_at(tdl_lock *l, const char *where);
void tdl_unlock_at(tdl_lock *l, const char *where);
void tdl_lock_none_held_at(const char *where);

#define TDL_LINE_(n) #n
#define TDL_LINE(n) TDL_LINE_(n)
#define TDL_WHERE __FILE__ ":" TDL_LINE(__LINE__)
#define tdl_lock_take(l) tdl_lock_take_at((l), TDL_WHERE)
#define tdl_lock_try(l) tdl_lock_try_at((l), TDL_WHERE)
#define tdl_unlock(l) tdl_unlock_at((l), TDL_WHERE)
#define tdl_lock_none_held() tdl_lock_none_held_at(TDL_WHERE)

/* What a thread holds of one rank: how many, and which has the highest address. A
 * simulation keeps them, RANKS of them, for each of its virtual threads. */
typedef struct tdl_held {
    uint32_t n;
    tdl_lock *top;
    const char *where;
} tdl_held;
tdl_held *tdl_lock_holding(void);

/* Writes who the caller is, for the report; set by sched/. */
extern void (*tdl_lock_caller)(char *text, size_t size);

#endif

#endif
