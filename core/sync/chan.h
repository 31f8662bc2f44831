/* SPDX-License-Identifier: MIT
 *
 * Channels.
 *
 * Invariants, under the channel's lock (a local channel is touched by its
 * host's thread only, and takes none):
 *   count <= cap; the values are buf[head], buf[head+1] … (mod cap);
 *   a receiver waits only when count == 0 and no sender waits (senders of the
 *   same select excepted); a sender waits only when count == cap;
 *   closed: nobody waits.
 * A value is copied while the claim on its receiver is held, and before the
 * receiver is completed. Memory is type-stable: see sys/pool.h.
 */
#ifndef TDL_SYNC_CHAN_H
#define TDL_SYNC_CHAN_H

#include <string.h>

#include "sched/ops.h"

struct tdl_chan {
    tdl_lock lock;
    uint32_t cap, count, head;
    uint8_t closed, local;
    uint8_t checked; /* local, or made in a simulation: see tdl_chan_check */
    _Atomic uint32_t refs;
    tdl_val *buf;
    tdl_queue recvq, sendq;
    struct tdl_m *m; /* local: the only thread that may use it */
    tdl_val one;     /* the buffer where cap is 1, as timers' is */
};

static inline void tdl_chan_lock(tdl_chan *ch) {
    if (!ch->local) tdl_lock_take(&ch->lock);
}
static inline void tdl_chan_unlock(tdl_chan *ch) {
    if (!ch->local) tdl_unlock(&ch->lock);
}

/* Why the caller may not use it: TDL_EHOST, a local channel on another thread than
 * its host's; TDL_ESIM, one that was made in a simulation that the caller is not
 * in; 0. */
int tdl_chan_refuses(const tdl_chan *ch);
static inline bool tdl_chan_check(const tdl_chan *ch) {
    return TDL_UNLIKELY(ch && ch->checked) && tdl_chan_refuses(ch) < 0;
}
/* The simulation in which it was made; 0: in none. */
uint32_t tdl_chan_bubble(const tdl_chan *ch);

/* A reference means something only to its host, so only a local channel takes
 * one; what is no type at all, none does. */
static inline bool tdl_chan_carries(const tdl_chan *ch, const tdl_val *v) {
    return (uint32_t)v->type < TDL_REF || (v->type == TDL_REF && (!ch || ch->local));
}

/* The waiter's way back to the queue it is on, when a deadline or a cancel has
 * ended its wait: the channel may have been freed, and its memory be another
 * channel's; then the node is on no queue any more. */
static inline void tdl_chan_unlist(tdl_node *n) {
    struct tdl_chan *ch = n->object;
    if (n->locks) tdl_lock_take(&ch->lock);
    tdl_queue_remove(n);
    if (n->locks) tdl_unlock(&ch->lock);
}

/* Under the lock: 0, TDL_ECLOSED or TDL_EAGAIN. send copies *v (as
 * tdl_val_copy does); recv fills *v, nil when closed. */
int tdl_chan_send_locked(tdl_chan *ch, const tdl_val *v, tdl_wake *wake);
int tdl_chan_recv_locked(tdl_chan *ch, tdl_val *v, tdl_wake *wake);

int64_t tdl_chan_send_op(tdl_op *op, tdl_chan *ch, const tdl_val *v, int64_t deadline);
/* The value comes in op->out. */
int64_t tdl_chan_recv_op(tdl_op *op, tdl_chan *ch, int64_t deadline);
/* The value comes in op->out, ok in op->extra; the cases are not kept. room: for
 * TDL_SELECT_FEW nodes, until the op has ended; NULL: a hosted task's, which has no
 * stack to put them on. */
enum { TDL_SELECT_FEW = 3 };
int64_t tdl_select_op(tdl_op *op, const tdl_case *cases, int n, int64_t deadline, tdl_node *room);
/* m will have no tasks any more: gives back what it keeps for their selects. */
void tdl_select_forget(struct tdl_m *m);

/* A local channel, for host/. */
tdl_chan *tdl_chan_make(uint32_t cap, struct tdl_m *local_to);
int64_t tdl_chan_live(void);

/* What a value carries for a layer above: one object, which drop gives up with the
 * value's last holder. */
typedef struct tdl_cargo {
    void (*drop)(struct tdl_cargo *cargo);
} tdl_cargo;
/* 0; TDL_ENOMEM (v is nil, and the cargo stays the caller's). */
int tdl_val_set_cargo(tdl_val *v, tdl_cargo *cargo);
/* Takes it out, if it is of those that this drop gives up: the first holder gets it; NULL. */
tdl_cargo *tdl_val_take_cargo(const tdl_val *v, void (*drop)(tdl_cargo *));

/* -- Values, inline ---------------------------------------------------------- */

/* Another holder of what v holds, which is bytes or a channel. */
void tdl_val_hold(const tdl_val *v);
/* One holder less. */
void tdl_val_drop(const tdl_val *v);

static inline bool tdl_val_holds(const tdl_val *v) { return (uint32_t)(v->type - TDL_BYTES) <= TDL_CHAN - TDL_BYTES; }

static inline void tdl_val_nil(tdl_val *v) {
    v->type = TDL_NIL;
    v->flags = 0;
    v->u.i = 0;
}

/* As two words: a value was most likely written in parts just before, and a load
 * of all its 16 bytes would have to wait until those have reached the cache. */
static inline void tdl_val_take(tdl_val *dst, const tdl_val *src) {
    uint64_t head, u;
    memcpy(&head, src, sizeof head);
    memcpy(&u, &src->u, sizeof u);
    __asm__("" : "+r"(head), "+r"(u)); /* or the compiler makes one load of them */
    memcpy(dst, &head, sizeof head);
    memcpy(&dst->u, &u, sizeof u);
}

/* tdl_val_copy */
static inline void tdl_val_dup(tdl_val *dst, const tdl_val *src) {
    if (TDL_UNLIKELY(tdl_val_holds(src))) tdl_val_hold(src);
    tdl_val_take(dst, src);
}

/* dst becomes the holder of what src held; src is nil. */
static inline void tdl_val_move(tdl_val *dst, tdl_val *src) {
    tdl_val_take(dst, src);
    tdl_val_nil(src);
}

#endif
