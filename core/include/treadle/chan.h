/* SPDX-License-Identifier: MIT
 *
 * Channels, select over several of them, and timers, whose ticks come through a
 * channel.
 *
 * Waiters are served first in, first out. A value has been handed over exactly once
 * when both calls have returned 0: a call that fails has neither sent nor taken one.
 */
#ifndef TREADLE_CHAN_H
#define TREADLE_CHAN_H

#include "value.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -- Channels ---------------------------------------------------------------- */

/* A FIFO of values. cap 0: unbuffered, a send completes when a receiver takes
 * the value. Send copies the value, as tdl_val_copy does; receive makes the
 * receiver the holder (clear it if it may hold bytes). A NULL channel blocks
 * for ever in send and receive (until the deadline or a cancel), and is never
 * chosen by select. */
typedef struct tdl_chan tdl_chan;

/* NULL: out of memory, or cap above 2^26. Any caller. */
TDL_API tdl_chan *tdl_chan_new(uint32_t cap);
/* Gives the handle back, closing the channel first if need be (those that wait
 * get TDL_ECLOSED); the memory goes with the last holder: a value that carries
 * the channel and a call in progress are holders too. NULL is ignored. Any caller. */
TDL_API void tdl_chan_free(tdl_chan *ch);
/* Another holder: each needs its own tdl_chan_free, and only the last closes.
 * Returns ch. Any caller. */
TDL_API tdl_chan *tdl_chan_ref(tdl_chan *ch);
/* Blocking. 0; TDL_ECLOSED; TDL_ECANCELED; TDL_EHOST; TDL_EINVAL for a NULL v, or
 * one that the channel cannot carry (TDL_REF in a channel that is not local). */
TDL_API int tdl_chan_send(tdl_chan *ch, const tdl_val *v);
/* Blocking. 0; TDL_ECLOSED once closed and drained (*v is then nil);
 * TDL_ECANCELED; TDL_EHOST. v may be NULL: the value is dropped. */
TDL_API int tdl_chan_recv(tdl_chan *ch, tdl_val *v);
/* The same until a deadline: TDL_ETIMEDOUT when it has passed and the channel
 * is not ready; TDL_NOWAIT is the try form. Blocking. */
TDL_API int tdl_chan_send_until(tdl_chan *ch, const tdl_val *v, int64_t deadline);
TDL_API int tdl_chan_recv_until(tdl_chan *ch, tdl_val *v, int64_t deadline);
/* 0, TDL_EAGAIN, TDL_ECLOSED. Any caller. */
TDL_API int tdl_chan_try_send(tdl_chan *ch, const tdl_val *v);
TDL_API int tdl_chan_try_recv(tdl_chan *ch, tdl_val *v);
/* Wakes every waiter; values already in the buffer can still be received.
 * 0, TDL_ECLOSED when closed already, TDL_EINVAL for NULL. Any caller. */
TDL_API int tdl_chan_close(tdl_chan *ch);
/* Values in the buffer now; its capacity; 1 when closed. 0 for NULL. Any caller. */
TDL_API uint32_t tdl_chan_len(tdl_chan *ch);
TDL_API uint32_t tdl_chan_cap(tdl_chan *ch);
TDL_API int      tdl_chan_closed(tdl_chan *ch);
/* Makes v carry the shared channel ch, so that it can be sent through another;
 * the receiver gets a holder of its own with tdl_val_chan, which is to be
 * freed. TDL_EINVAL for a local channel. Any caller. */
TDL_API int       tdl_val_set_chan(tdl_val *v, tdl_chan *ch);
TDL_API tdl_chan *tdl_val_chan(const tdl_val *v);

/* -- Select ------------------------------------------------------------------ */

enum { TDL_RECV = 1, TDL_SEND = 2 };

typedef struct tdl_case {
    tdl_chan *chan; /* NULL: never chosen */
    tdl_val  *val;  /* send: the value, not NULL; receive: where to put it, or NULL */
    int       op;   /* TDL_RECV, TDL_SEND */
    int       ok;   /* out, of the case that fired: 1 a value moved, 0 the channel was closed */
} tdl_case;

/* Waits until one of n cases can go ahead and carries it out; among several
 * that can, the choice is uniformly random. Returns its index; TDL_ETIMEDOUT
 * once the deadline has passed and nothing was ready; TDL_EAGAIN with
 * TDL_NOWAIT; TDL_ECANCELED; TDL_EINVAL for a bad case or n outside 0…65535.
 * No case at all waits for the deadline alone. Blocking (with TDL_NOWAIT: any
 * caller). */
TDL_API int tdl_select(tdl_case *cases, int n, int64_t deadline);

/* -- Timers ------------------------------------------------------------------ */

/* Sends the time it was due (TDL_INT) on its channel at `when`, and, with a
 * period, every period ns after that. The channel has one place: a receiver that
 * is slow loses ticks, and the phase is kept. After stop or reset no value of
 * before can be received. It fires as long as the run, or the host, in which it
 * was made lasts. */
typedef struct tdl_timer tdl_timer;
TDL_API tdl_timer *tdl_timer_new(int64_t when, int64_t period); /* NULL: out of memory, or period < 0. Any caller */
/* 1: it was still to fire, or its value had not been received (it is gone now);
 * 0: neither. Any caller. */
TDL_API int tdl_timer_stop(tdl_timer *t);
/* Stops and starts again; 1 or 0 as stop; TDL_EINVAL: period < 0; TDL_ECLOSED:
 * the run or host in which it was made is over. Any caller. */
TDL_API int tdl_timer_reset(tdl_timer *t, int64_t when, int64_t period);
TDL_API tdl_chan *tdl_timer_chan(tdl_timer *t); /* the timer's: not to be freed or closed */
TDL_API void tdl_timer_free(tdl_timer *t);      /* stops it. NULL is ignored. Any caller */
/* A timer that starts fn(arg) as a goroutine of its own each time it is due; it
 * has no channel. Stop says 1 when a start was still to come and will not, and 0
 * when there was none; it does not wait for an fn that runs. A reset allocates
 * nothing. NULL also for a null fn. Any caller. */
TDL_API tdl_timer *tdl_timer_func(int64_t when, int64_t period, void (*fn)(void *), void *arg);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_CHAN_H */
