/* SPDX-License-Identifier: MIT
 * The ops of mutex and wait group, for the hosts' forms. */
#ifndef TDL_SYNC_SYNC_H
#define TDL_SYNC_SYNC_H

#include "sched/ops.h"

int64_t tdl_mutex_lock_op(tdl_op *op, tdl_mutex *m, int64_t deadline);
int64_t tdl_waitgroup_wait_op(tdl_op *op, tdl_waitgroup *wg, int64_t deadline);

#endif
