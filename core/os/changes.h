/* SPDX-License-Identifier: MIT
 * Changes of files: what the _start forms need. */
#ifndef TDL_OS_CHANGES_H
#define TDL_OS_CHANGES_H

#include "sched/ops.h"

/* The handle comes in op->out. */
int64_t tdl_watch_open_op(tdl_op *op, const char *path, int64_t deadline);
int64_t tdl_watch_next_op(tdl_op *op, tdl_watch *w, char *buf, size_t size, int64_t deadline);
int64_t tdl_watch_live(void);

#endif
