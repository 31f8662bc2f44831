/* SPDX-License-Identifier: MIT
 * Processes: what the _start form needs. */
#ifndef TDL_OS_PROCESS_H
#define TDL_OS_PROCESS_H

#include "sched/ops.h"

/* op->extra: the signal that ended it, or 0. */
int64_t tdl_process_wait_op(tdl_op *op, tdl_process *p, int64_t deadline);
int64_t tdl_process_live(void);

#endif
