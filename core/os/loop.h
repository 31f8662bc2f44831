/* SPDX-License-Identifier: MIT
 *
 * The one loop of libuv's, on a thread of its own: it waits for children,
 * signals and changes of files, for all runs and hosts of the process. The thread
 * is started by the first call and stays.
 *
 * What is libuv's (handles, the loop itself) belongs to that thread; others send
 * it calls. active counts what may still bring an event: while it is 0 the thread,
 * asleep, counts among those the deadlock detector knows (as Go has it, who waits
 * for a child or a signal is not deadlocked).
 */
#ifndef TDL_OS_LOOP_H
#define TDL_OS_LOOP_H

#include <uv.h>

#include "sched/ops.h"

typedef struct tdl_loop_call {
    struct tdl_loop_call *next;
    void (*fn)(struct tdl_loop_call *c, uv_loop_t *loop);
} tdl_loop_call;

/* Starts the thread, if need be. 0, or a negative code. Any caller. */
int tdl_loop_ready(void);
/* Runs c->fn(c) on the loop's thread, soon; c is fn's from then on. After tdl_loop_ready. */
void tdl_loop_send(tdl_loop_call *c);
/* More, or fewer, that may bring an event. Any thread. */
void tdl_loop_active(int change);
/* Makes tdl_signals_deliver run on the loop's thread; async-signal-safe. */
void tdl_loop_ring(void);
void tdl_signals_deliver(void);

#endif
