/* SPDX-License-Identifier: MIT
 *
 * Poll descriptors: an fd, registered once with one poller, edge-triggered for
 * both directions, and the ops that use it.
 *
 * Invariants of a direction, under the descriptor's lock:
 *   At most one op owns it (is in its attempt, or waits for readiness); the
 *   others wait in q, in order. Who leaves hands the ownership to the next.
 *   ready: there may be something to do. It is cleared under the lock before
 *   each attempt and set under the lock by each event, so an edge that comes
 *   during an attempt is never lost: after EAGAIN ready is looked at again.
 *   waiting: the owner is enlisted for readiness; only then may it be claimed.
 *   hup: the stream has ended or failed; no further edge will come, so an
 *   attempt is always worth it.
 *   timer is in its heap no later than at the deadline while somebody waits;
 *   an early one is re-armed when it fires, so setting a later deadline is a
 *   store.
 *
 * users counts the ops between enter and leave, and the handle. closed: no op
 * may enter. The fd is closed, and the event's way back cut (seq), by the last
 * user after closed. The memory is type-stable: an event that was fetched
 * before and dispatched after that finds another seq.
 */
#ifndef TDL_NETPOLL_POLLDESC_H
#define TDL_NETPOLL_POLLDESC_H

#include "sched/ops.h"

enum { PD_READ, PD_WRITE };

typedef struct tdl_direction {
    tdl_op *owner;
    tdl_queue q;
    uint8_t waiting, ready, hup;
    uint8_t keep; /* bytes are buffered: written by who owns the direction */
    uint8_t held; /* the owner's op is over, but it keeps the direction */
    int64_t deadline; /* 0: none */
    int64_t timeout;  /* 0: none; else each op sets the deadline */
    tdl_timer_node timer;
} tdl_direction;

typedef struct tdl_pd tdl_pd;

struct tdl_pd {
    tdl_lock lock;
    int fd;
    uint32_t index, seq;
    uint32_t users;
    uint8_t closed;
    /* a short read says that nothing is left. So for TCP, until urgent data is
     * seen (a read stops at its mark). Written under the lock, read without */
    _Atomic uint8_t short_drains;
    tdl_direction dir[2];
    tdl_poller *poller; /* NULL: it went away; then closed is set */
    tdl_pd *prev, *next; /* the poller's list; under the poller's lock */
    /* called once, with no lock held, when the fd is closed and the handle gone */
    void (*gone)(void *arg);
    void *arg;
};

/* Registers fd, which is non-blocking, with the poller. 0 or a negative code;
 * then the fd is still the caller's. */
int tdl_pd_open(tdl_pd **pd, tdl_poller *poller, int fd, bool short_drains);
/* Wakes everybody with TDL_ECLOSED; the fd goes with the last user. 0, or
 * TDL_ECLOSED the second time. */
int tdl_pd_close(tdl_pd *pd);
/* Gives up the handle: gone(arg) follows when the last op has left. */
void tdl_pd_release(tdl_pd *pd, void (*gone)(void *), void *arg);
/* TDL_ECLOSED, or 0 and the fd stays open until tdl_pd_leave_plain. */
int tdl_pd_enter_plain(tdl_pd *pd);
void tdl_pd_leave_plain(tdl_pd *pd);

/* One operation on a direction. op->u.io is filled in by the caller: attempt
 * does the system call and returns a result or TDL_EAGAIN; it sets drained when
 * it knows without asking the kernel that another attempt would find nothing. hold: see tdl_pd_unhold. The
 * result or TDL_PENDING. */
int64_t tdl_pd_op(tdl_op *op, tdl_pd *pd, int dir, bool hold, const tdl_op_class *cls);
/* An op with u.io.hold that ends while keep is set (u.io.held then) goes on
 * owning its direction, until this; again: there is something left for the next op's attempt.
 * TDL_EINVAL when the direction is not held. */
int tdl_pd_unhold(tdl_pd *pd, int dir, bool again);
/* Is the direction held, by this op (NULL: by any)? */
bool tdl_pd_holds(tdl_pd *pd, int dir, tdl_op *op);

/* The finish and abandon of every class that is used with tdl_pd_op. */
int64_t tdl_pd_finish(tdl_op *op);
void tdl_pd_abandon(tdl_op *op);

/* The poller goes away: closes every descriptor that is registered with it.
 * Ops that are still on their way out find no poller, and need none. */
void tdl_pd_orphan_all(tdl_poller *p);

/* The descriptor's number, for dumps; p may be any pointer: -1 when it is none of
 * ours. */
int tdl_pd_number(const void *p);

/* Bits of which. */
enum { PD_READ_BIT = 1, PD_WRITE_BIT = 2 };
void tdl_pd_set_deadline(tdl_pd *pd, int which, int64_t when);
void tdl_pd_set_timeout(tdl_pd *pd, int64_t ns);

/* -- For the back end ------------------------------------------------------------ */

static inline uint64_t tdl_pd_token(tdl_pd *pd) { return (uint64_t)pd->seq << 32 | pd->index; }
/* What an event says of a descriptor. */
enum { PD_READABLE = 1, PD_WRITABLE = 2, PD_HUP = 4 /* the end, or an error */, PD_URGENT = 8 };
void tdl_pd_event(uint64_t token, int what);

#endif
