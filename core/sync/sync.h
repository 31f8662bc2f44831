/* SPDX-License-Identifier: MIT
 * The ops of mutexes, conditions, semaphores and wait groups. */
#ifndef TDL_SYNC_SYNC_H
#define TDL_SYNC_SYNC_H

#include "sched/ops.h"

int64_t tdl_mutex_lock_op(tdl_op *op, tdl_mutex *m, int64_t deadline);
int64_t tdl_sema_acquire_op(tdl_op *op, tdl_sema *s, uint32_t n, int64_t deadline);
int64_t tdl_cond_wait_op(tdl_op *op, tdl_cond *c, int64_t deadline);
int64_t tdl_waitgroup_wait_op(tdl_op *op, tdl_waitgroup *wg, int64_t deadline);

/* Locks as part of another op, whose class is cls from now on: 0 or TDL_PENDING.
 * woken: it had enlisted, and was claimed. */
int64_t tdl_mutex_relock(tdl_op *op, tdl_mutex *m, bool woken, const tdl_op_class *cls);
/* The abandon of such a class. */
void tdl_mutex_abandon(tdl_op *op);

#endif
