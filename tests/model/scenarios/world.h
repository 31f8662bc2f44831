/* SPDX-License-Identifier: MIT
 *
 * The scheduler as the parts above it see it, for scenarios that do without the
 * real one: each model thread is an M; one that says so runs a goroutine, which
 * parks by waiting itself, having done what the real one does on the next stack
 * (tdl_op_commit).
 */
#ifndef MODEL_WORLD_H
#define MODEL_WORLD_H

#include "model.h"
#include "sched/ops.h"

/* In setup: P i, with its timers; the Ms; nothing runs. */
void world_setup(void);
/* The calling thread runs goroutine i. */
tdl_g *world_goroutine(int i);
/* The same, pinned: it waits as a thread does. */
tdl_g *world_pinned(int i);
tdl_g *world_g(int i);
tdl_m *world_m(int i); /* of thread i */
/* The P on whose heap goroutine i arms its deadlines. */
tdl_p *world_p(int i);

/* A host's task i; waits until it was reported ready. */
tdl_g *world_task(int i);
void world_task_wait(int i);

/* As tdl_caller_op, and the op is waited for: the body of a blocking form. */
#define WORLD_WAIT(start_expr)                                                 \
    __extension__({                                                            \
        int code_;                                                             \
        tdl_op *op = tdl_caller_op(&code_);                                    \
        int64_t r_ = code_;                                                    \
        if (op) {                                                              \
            r_ = (start_expr);                                                 \
            if (r_ == TDL_PENDING) r_ = tdl_op_wait(op);                       \
        }                                                                      \
        r_;                                                                    \
    })

#endif
