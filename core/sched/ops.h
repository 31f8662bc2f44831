/* SPDX-License-Identifier: MIT
 * The scheduler's own ops, and the shape of every blocking form. */
#ifndef TDL_SCHED_OPS_H
#define TDL_SCHED_OPS_H

#include "sched/sched.h"

/* The body of a blocking form: start_expr starts `op` and says TDL_PENDING or
 * the result. Works for a goroutine and a thread; refuses a host. */
#define TDL_BLOCKING_FORM(start_expr)                                          \
    do {                                                                       \
        int code_;                                                             \
        tdl_op *op = tdl_caller_op(&code_);                                    \
        if (TDL_UNLIKELY(!op)) return code_;                                   \
        int64_t r_ = (start_expr);                                             \
        if (r_ == TDL_PENDING) r_ = tdl_op_wait(op);                           \
        return r_; /* codes and counts fit the form's own type */              \
    } while (0)

/* Who waits with op: an identity that is never used twice, and never 0. */
static inline uint64_t tdl_op_who(tdl_op *op) {
    if (TDL_LIKELY(op->kind != OP_OF_THREAD)) return TDL_CONTAINER(op, tdl_g, op)->id;
    const tdl_m *m = TDL_CONTAINER(op, tdl_m, op);
    return TDL_LIKELY(m->who) ? m->who : tdl_thread_who(op);
}

int64_t tdl_join_op(tdl_op *op, tdl_g *g, int64_t deadline);
int64_t tdl_sleep_op(tdl_op *op, int64_t ns);

#endif
