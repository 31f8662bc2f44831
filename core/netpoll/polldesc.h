/* SPDX-License-Identifier: MIT
 *
 * Poll descriptors: an fd, registered once with one poller, edge-triggered for
 * both directions, and the ops that use it. One without an fd (in-memory pipes)
 * gets its events from who fills and empties it, by tdl_pd_event.
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
 *   timer, which both directions share, is in its heap no later than at the
 *   first deadline or retry of a direction in which somebody waits; an early one
 *   is re-armed when it fires, so setting a later deadline is a store.
 *
 * sending: the owner is in an attempt that the back end makes for it, together with others:
 * with its poller's next call of the system. So it is inside, and neither a deadline nor a
 * cancellation ends its wait, which is as short as that of the goroutines that are about to
 * run; the caller's bytes stay where they are until then.
 *
 * parked: nobody waits by an op, but the object is told by `arrived` when there is
 * something to read, the stream has ended, or the read deadline or retry has
 * passed: once, and the descriptor is not parked any more then.
 *
 * users counts the ops between enter and leave, and the handle; inside, those of
 * them that use the fd at this moment: who is in an attempt, not who waits. closed:
 * no op may enter, and no attempt begins. The fd is closed, and the event's way back
 * cut (seq), when nobody is inside after that: mostly by who closes, and waits for those
 * who are trying. The memory is type-stable: an event that was fetched before and
 * dispatched after that finds another seq.
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
    uint8_t inbox; /* of reading: bytes come by tdl_pd_take. From the opening on */
    uint8_t trying;  /* the owner is in an attempt */
    uint8_t sending; /* of writing: the owner's bytes are on their way to the system: PD_SENT follows */
    int64_t deadline; /* 0: none */
    int64_t retry;    /* 0: none; else no event will come, and an attempt is worth it then */
} tdl_direction;

typedef struct tdl_pd tdl_pd;

/* What a kind of descriptor has that others have not; all may be left 0. */
typedef struct tdl_pd_kind {
    bool short_drains; /* see tdl_pd */
    bool streams;      /* bytes are read by tdl_pd_take, or what it says is heeded */
    bool accepts;      /* connections come by tdl_pd_accept */
    bool announced;    /* the first event tells what is there: no attempt before it */
    /* called once, with no lock held, when it is being closed, by whomever:
     * before those who wait are woken, and with operations perhaps still in
     * their attempts */
    void (*closing)(void *object);
    /* an operation that owned its direction ends in an error; under the pd's
     * lock, before the next one's turn */
    void (*failed)(void *object, tdl_op *op, int64_t error);
    /* it was parked; with no lock held, and before any further call for it. hup: the
     * stream has ended or failed. why: 0 or TDL_ETIMEDOUT */
    void (*arrived)(void *object, bool hup, int why);
} tdl_pd_kind;

struct tdl_pd {
    tdl_lock lock;
    int fd; /* -1: it has none, or no more */
    uint32_t index, seq;
    uint32_t users;
    uint16_t inside;
    /* of the last request for it that has ended, where the back end makes requests: see
     * tdl_pd_note. Relaxed: it is a hint of when to look */
    _Atomic uint16_t ended;
    uint32_t bubble; /* the simulation in which it was opened; 0: in none */
    uint8_t open; /* in its poller's list */
    uint8_t closed;
    uint8_t parked : 1;
    uint8_t cross : 1; /* an event in one direction is one in both: see tdl_pd_set_cross */
    /* a short read says that nothing is left. So for TCP, until urgent data is
     * seen (a read stops at its mark). Written under the lock, read without */
    _Atomic uint8_t short_drains;
    const tdl_pd_kind *kind;
    void *object;
    tdl_direction dir[2];
    tdl_timer_call timer;
    int64_t timeout; /* 0: none; else each op sets its direction's deadline */
    tdl_poller *poller; /* NULL: it went away; then closed is set */
    tdl_pd *prev, *next; /* the poller's list; under the poller's lock */
    /* called once, with no lock held, when the fd is closed and the handle gone */
    void (*gone)(void *arg);
    void *arg;
};

/* Registers fd, which is non-blocking, with the poller; -1: there is none. 0 or
 * a negative code; then the fd is still the caller's, and closing was not called. */
int tdl_pd_open(tdl_pd **pd, tdl_poller *poller, int fd, const tdl_pd_kind *kind, void *object);
/* Wakes everybody with TDL_ECLOSED; the fd is closed when this returns, unless
 * somebody is inside and takes his time: then by the last of them. 0, or TDL_ECLOSED the second time. */
int tdl_pd_close(tdl_pd *pd);
/* Gives up the handle: gone(arg) follows when the last op has left. */
void tdl_pd_release(tdl_pd *pd, void (*gone)(void *), void *arg);
/* Closes the descriptor but not its fd, which is returned and the caller's from
 * then on; TDL_ECLOSED; TDL_EBUSY while an operation is under way, or bytes are
 * buffered. */
int tdl_pd_disown(tdl_pd *pd);
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

/* For a stream whose reads may have to wait until they can write, and the other way
 * round: from now on each event, and each wait, is for both directions. */
void tdl_pd_set_cross(tdl_pd *pd, bool on);
/* Something has happened that no event will tell of: both directions try again. */
void tdl_pd_nudge(tdl_pd *pd);
/* Calls change(arg) under the descriptor's lock, while nobody uses either
 * direction; both are worth an attempt then. What it returns; TDL_ECLOSED; TDL_EBUSY. */
int tdl_pd_change(tdl_pd *pd, int (*change)(void *arg), void *arg);
/* An attempt to read a stream's bytes, as recv: where the back end receives by itself, from what
 * has come. */
int64_t tdl_pd_take(tdl_pd *pd, void *buf, size_t n);
/* The same for an attempt to accept, as accept without an address. */
int tdl_pd_accept(tdl_pd *pd);
/* Are there such bytes, or such connections? 1; 0: not yet, but an event follows, and nobody is to ask the
 * socket; -1: the socket knows. */
int tdl_pd_received(tdl_pd *pd);
/* The same, and the socket is asked where it knows; 0 may be injected then. 1, 0, or the system's error. */
int tdl_pd_readable(tdl_pd *pd);
/* The socket is going to be used by itself: the back end receives, or accepts, no more, but for
 * what is on its way. */
void tdl_pd_plain(tdl_pd *pd);

/* Within an attempt to send n bytes from op's buf + done: should the back end send them together
 * with others? Then PD_QUEUE is what the attempt returns; it is called again where that
 * came to nothing, with queue 0. */
#define PD_QUEUE INT64_MIN
bool tdl_pd_may_queue(const tdl_pd *pd, const tdl_op *op, size_t n);

/* Has the direction an owner? What `failed` did for one who has left is seen then. */
bool tdl_pd_busy(tdl_pd *pd, int dir);
/* Parks it; deadline and retry (0: none) replace those of reading. With a retry it is
 * only time that ends it. 0; 1: there may be something to read already, and no retry; TDL_ECLOSED; TDL_EBUSY while the read direction is in
 * use; TDL_ENOMEM. */
int tdl_pd_park(tdl_pd *pd, int64_t deadline, int64_t retry);
/* Makes a parked descriptor's `arrived` be called soon, by its poller. */
void tdl_pd_unpark_soon(tdl_pd *pd);
/* Ends the parking: was it parked? */
bool tdl_pd_unpark(tdl_pd *pd);

/* The finish and abandon of every class that is used with tdl_pd_op. */
int64_t tdl_pd_finish(tdl_op *op);
void tdl_pd_abandon(tdl_op *op);

/* Within an attempt that found nothing, where the kernel announces no change:
 * the next one is due after ns. */
void tdl_pd_retry(tdl_pd *pd, int dir, int64_t ns);

/* For an op that waits for several descriptors, each of which only it uses.
 * take_ready: 1 when there may be something to do, which it then forgets, as an
 * attempt should follow; 0; TDL_ECLOSED. enlist: the op is claimed by the next
 * event; 0, or 1 when there was one already, or TDL_ECLOSED, and it is not
 * enlisted. publish: this is the first descriptor. delist: as if it had never
 * been. */
int tdl_pd_take_ready(tdl_pd *pd, int dir);
void tdl_pd_put_ready(tdl_pd *pd, int dir); /* there is something to do, after all */
int tdl_pd_enlist(tdl_pd *pd, int dir, tdl_op *op, bool publish);
void tdl_pd_delist(tdl_pd *pd, int dir);

/* Calls fn for each open descriptor of these kinds' object: those for which `of`
 * says so. It stays until fn has returned; with no lock held. */
void tdl_pd_each(bool (*of)(const tdl_pd *pd, void *arg), void (*fn)(void *object, void *arg), void *arg);
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

/* -- Between polldesc.c and stream.c; with the lock ------------------------------- */

enum { STAGE_QUEUED = 1, STAGE_OWNER = 2, STAGE_SENT = 3 };

/* Queues what op, the owner that is inside, wants to send, and enlists it; false: it is to
 * be attempted, or the descriptor is closed. */
bool tdl_pd_queue_send(tdl_op *op, tdl_pd *pd);
/* The system has taken it, or not; who is to be woken. */
void tdl_pd_was_sent(tdl_pd *pd, tdl_wake *wake);
/* What came of it, and op is inside no more: a result; TDL_EAGAIN: it goes on; TDL_PENDING: it
 * is still under way, and op is enlisted again. */
int64_t tdl_pd_end_send(tdl_op *op, tdl_pd *pd);
/* The owner's memory is about to go. */
void tdl_pd_drop_send(tdl_op *op, tdl_pd *pd);

/* What the back end receives comes to its end, and nothing is left of it: 0; or TDL_EBUSY,
 * TDL_ECLOSED. The lock is given up meanwhile. */
int tdl_pd_end_receiving(tdl_pd *pd);
/* It is no longer registered (PD_LOST); what is to be told for that. */
int tdl_pd_ask_again(tdl_pd *pd, uint64_t token);

/* -- For the back end ------------------------------------------------------------ */

static inline uint64_t tdl_pd_token(tdl_pd *pd) { return (uint64_t)pd->seq << 32 | pd->index; }
/* What an event says of a descriptor. */
enum {
    PD_READABLE = 1,
    PD_WRITABLE = 2,
    PD_HUP = 4, /* the end, or an error */
    PD_URGENT = 8,
    PD_LOST = 16, /* it is no longer registered, and is to be again */
    PD_SENT = 32, /* alone: what was queued has been sent, or not */
};
void tdl_pd_event(uint64_t token, int what);
/* The descriptor that was or is the token's, locked. */
tdl_pd *tdl_pd_lock(uint64_t token);
/* Notes that the back end's request for what token means begins, or has ended; and has
 * it? The note is of 16 bits: an older one may be taken for it, or hide it. */
void tdl_pd_note(uint64_t token, bool ended);
bool tdl_pd_ended(tdl_pd *pd, uint64_t token);

#endif
