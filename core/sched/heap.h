/* SPDX-License-Identifier: MIT
 *
 * The lock of a timer heap and what is done under it, for timers.c and for those
 * whose own state that lock guards.
 */
#ifndef TDL_SCHED_HEAP_H
#define TDL_SCHED_HEAP_H

#include "sched/own.h"

typedef struct tdl_hold {
    tdl_m *m;
    uint32_t was_busy;
    bool owner;
} tdl_hold;

/* Takes the heap's lock; as its owner, and then without an atomic
 * read-modify-write, where that is the caller. A P stays with its M until drop. */
static inline void tdl_timers_take(tdl_timers *h, tdl_hold *c) {
    c->m = tdl_m_self();
    tdl_p *p = tdl_p_enter(c->m, &c->was_busy);
    struct tdl_poller *hosted = at_load_rlx(&c->m->host_poller);
    c->owner = (p && &p->poller.timers == h) || (hosted && &hosted->timers == h);
    tdl_biased_take(&h->lock, c->owner);
}

static inline void tdl_timers_drop(tdl_timers *h, tdl_hold *c) {
    tdl_biased_drop(&h->lock, c->owner);
    tdl_p_leave(c->m, c->was_busy);
}

/* Under the lock. Puts t in, which is in no heap. 0, TDL_ENOMEM, TDL_ECLOSED. */
int tdl_timers_put(tdl_timers *h, tdl_timer_node *t, int64_t when);
/* Takes t out, which is in. */
void tdl_timers_remove(tdl_timers *h, tdl_timer_node *t);

/* After tdl_timers_put and tdl_timers_drop. first: t->index was 1, so that the
 * poller might sleep too long. */
static inline void tdl_timers_noted(tdl_timers *h, const tdl_hold *c, bool first) {
    if (TDL_LIKELY(!first)) return;
    if (c->owner)
        tdl_poller_wake(h->poller); /* we are not in it; but a guest host's loop may be told to look again */
    else
        tdl_poller_retime(h->poller);
}

#endif
