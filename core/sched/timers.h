/* SPDX-License-Identifier: MIT
 *
 * Timers: a 4-ary heap per P and per host. A node is part of an op or of a
 * poll descriptor, so arming allocates nothing but the heap's own array.
 *
 * Invariants, under the heap's lock: a[i].t->index == i + 1 for every entry;
 * a timer that is in no heap has index 0; next == a[0].when, or TDL_FOREVER.
 * A node's `heap` is written only by whoever arms and disarms it.
 *
 * Firing. A timer of an op claims the op under the heap's lock: once
 * tdl_timer_disarm has returned, this timer can claim nothing any more, and
 * the op may be used again. One with `expire` is called under the lock, too, and
 * says what remains to be done without. Any other timer's fire is called with no
 * lock held, perhaps after it was disarmed: its owner is type-stable memory, and
 * judges by its own state whether anything is due.
 *
 * An op, of which there are many, has the node alone; others a tdl_timer_call.
 */
#ifndef TDL_SCHED_TIMERS_H
#define TDL_SCHED_TIMERS_H

#include "sys/biased.h"

struct tdl_op;
struct tdl_poller;
typedef struct tdl_timer_node tdl_timer_node;

/* What an expire leaves to be done: an op to be completed, a function to be
 * called with what it wants to know. */
typedef struct tdl_then {
    struct tdl_op *op; /* claimed; NULL: none */
    uint32_t was;
    int64_t result;
    void (*call)(const struct tdl_then *then); /* NULL: none */
    struct tdl_timers *heap;
    void *owner;
    void (*fn)(void *);
    void *arg;
    int64_t when;
} tdl_then;

struct tdl_timer_node {
    int64_t when;
    struct tdl_timers *heap;
    uint32_t index;
    bool calls; /* it is a tdl_timer_call's; else the deadline of the op that it is part of */
};

/* One of the two functions is there. */
typedef struct tdl_timer_call {
    tdl_timer_node node;
    void (*fire)(void *owner);
    void (*expire)(void *owner, int64_t now, tdl_then *then); /* the node has been taken out */
    void *owner;
} tdl_timer_call;

struct tdl_timer_entry {
    int64_t when;
    tdl_timer_node *t;
};

typedef struct tdl_timers {
    tdl_biased lock; /* its owner: the M that has the P, in the runtime; or the host's thread */
    bool used;   /* the lock is made: it lasts */
    bool closed; /* its poller is gone: nothing can be armed */
    uint32_t n, cap;
    _Atomic uint32_t quiet;    /* of n: those that are of no account in tdl_timers_pending */
    uint32_t cancelled;        /* of n: those that will do nothing */
    struct tdl_timer_entry *a;
    _Atomic int64_t next;      /* written under lock; read without by the poller's owner */
    struct tdl_poller *poller; /* sleeps no longer than to `next` */
} tdl_timers;

void tdl_timers_init(tdl_timers *h, struct tdl_poller *poller);
void tdl_timers_destroy(tdl_timers *h);
/* Sees to it that t fires at `when` or before: puts it in, or moves it forward
 * (it may be in this heap, and no other). 0, TDL_ENOMEM, TDL_ECLOSED. Wakes the poller when
 * it sleeps too long. */
int tdl_timer_arm_by(tdl_timers *h, tdl_timer_node *t, int64_t when);
/* Takes t out of its heap if it is in one. */
void tdl_timer_disarm(tdl_timer_node *t);
/* Fires what is due at `now`; how many. */
int tdl_timers_run(tdl_timers *h, int64_t now);

/* May a timer still make something happen? */
bool tdl_timers_pending(tdl_timers *h);
/* Timers in the heap. */
uint32_t tdl_timers_count(tdl_timers *h);

/* relaxed: the owner of the poller re-reads it after every wake-up, and whoever
 * lowers it wakes the poller */
static inline int64_t tdl_timers_next(tdl_timers *h) { return at_load_rlx(&h->next); }

#endif
