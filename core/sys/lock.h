/* SPDX-License-Identifier: MIT
 *
 * tdl_lock: the lock of every structure of the core. Held for a few dozen
 * instructions, never across a switch, a system call that may wait, or a call
 * to a user's code. Unlock is one store, so nobody can be left asleep: a
 * waiter spins, then yields its CPU, then naps.
 *
 * Order (a thread takes them only downwards):
 *   an object's lock (channel, mutex, poll descriptor, wait group, join)
 *   > a poller's list of descriptors > a timer heap > the scheduler's lock
 *   > a pool's lock.
 * Several channels (select) are taken in the order of their addresses; a timer's
 * lock before its channel's.
 */
#ifndef TDL_SYS_LOCK_H
#define TDL_SYS_LOCK_H

#include "sys/atomic.h"
#include "sys/base.h"

typedef struct tdl_lock {
    _Atomic uint32_t held;
} tdl_lock;

void tdl_lock_wait(tdl_lock *l);

/* acquire pairs with the release in tdl_unlock */
static inline void tdl_lock_take(tdl_lock *l) {
    if (TDL_UNLIKELY(at_xchg_acq(&l->held, 1) != 0)) tdl_lock_wait(l);
}

/* release pairs with the acquire in tdl_lock_take and tdl_lock_wait */
static inline void tdl_unlock(tdl_lock *l) { at_store_rel(&l->held, 0); }

#endif
