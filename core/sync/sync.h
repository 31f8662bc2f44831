/* SPDX-License-Identifier: MIT
 * The ops of everything in sync/ but channels. */
#ifndef TDL_SYNC_SYNC_H
#define TDL_SYNC_SYNC_H

#include "sched/ops.h"

/* The beginning of a call that does not block, on an object of the file's pool. */
#define TDL_REFUSE(object)                                                     \
    do {                                                                       \
        int no_ = tdl_refused(tdl_pool_bubble(&pool, (object)));               \
        if (TDL_UNLIKELY(no_ < 0)) return no_;                                 \
    } while (0)

int64_t tdl_mutex_lock_op(tdl_op *op, tdl_mutex *m, int64_t deadline);
int64_t tdl_rwmutex_lock_op(tdl_op *op, tdl_rwmutex *rw, int64_t deadline);
int64_t tdl_rwmutex_rlock_op(tdl_op *op, tdl_rwmutex *rw, int64_t deadline);
int64_t tdl_sema_acquire_op(tdl_op *op, tdl_sema *s, uint32_t n, int64_t deadline);
int64_t tdl_cond_wait_op(tdl_op *op, tdl_cond *c, int64_t deadline);
int64_t tdl_waitgroup_wait_op(tdl_op *op, tdl_waitgroup *wg, int64_t deadline);
int64_t tdl_once_begin_op(tdl_op *op, tdl_once *o, int64_t deadline);
int64_t tdl_context_wait_op(tdl_op *op, tdl_context *c, int64_t deadline);
int64_t tdl_errgroup_begin_op(tdl_op *op, tdl_errgroup *eg, int64_t deadline);
int64_t tdl_errgroup_wait_op(tdl_op *op, tdl_errgroup *eg, int64_t deadline);
int64_t tdl_scope_wait_op(tdl_op *op, tdl_scope *s, int64_t deadline);
/* The value comes in op->out, the ticket or the result in op->extra. */
int64_t tdl_singleflight_begin_op(tdl_op *op, tdl_singleflight *sf, const void *key, size_t n, int64_t deadline);

/* fn is called if the function that runs between the two leaves by tdl_goexit. */
static inline void tdl_exit_push(tdl_at_exit *a, void (*fn)(tdl_at_exit *a)) {
    tdl_g *g = tdl_m_self()->g;
    if (!g) return;
    a->fn = fn;
    a->outer = g->at_exit;
    g->at_exit = a;
}
static inline void tdl_exit_pop(const tdl_at_exit *a) {
    tdl_g *g = tdl_m_self()->g;
    if (g) g->at_exit = a->outer;
}

/* Means the same to everybody, so that it may be kept beyond one host. */
static inline bool tdl_val_for_all(const tdl_val *v) { return (uint32_t)v->type < TDL_REF; }

/* Locks as part of another op, whose class is cls from now on: 0 or TDL_PENDING.
 * woken: it had enlisted, and was claimed. */
int64_t tdl_mutex_relock(tdl_op *op, tdl_mutex *m, bool woken, const tdl_op_class *cls);
/* The abandon of such a class. */
void tdl_mutex_abandon(tdl_op *op);

#endif
