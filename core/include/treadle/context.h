/* SPDX-License-Identifier: MIT
 *
 * Work that ends together: contexts, which say that it is to end, and the groups of
 * goroutines that are made with one: error group, single flight, scope.
 *
 * A context stops nobody: who works for it has to look at it, or to wait for its
 * channel (tdl_context_done) as well. A scope does cancel its goroutines.
 */
#ifndef TREADLE_CONTEXT_H
#define TREADLE_CONTEXT_H

#include "chan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -- Contexts ---------------------------------------------------------------- */

/* A context says that work is to end: it ends once, by tdl_context_cancel, by
 * its deadline, or because its parent ends, and stays ended. Those that were
 * derived from it end with it; one that was freed leaves nothing behind in its
 * parent.
 *
 * Each tdl_context_… that makes one, and tdl_context_ref, makes the caller a
 * holder, who gives it back with one tdl_context_free; a derived context and a
 * call in progress are holders too. NULL as a parent is the background, which
 * never ends. NULL as a result: out of memory. All of it any caller, on any
 * thread, unless it says Blocking. */
typedef struct tdl_context tdl_context;
TDL_API tdl_context *tdl_context_background(void); /* static: needs no free */
TDL_API tdl_context *tdl_context_with_cancel(tdl_context *parent);
/* Ends at the deadline, or at its parent's if that is earlier; as a timer, as
 * long as the run or the host in which it was made lasts. */
TDL_API tdl_context *tdl_context_with_deadline(tdl_context *parent, int64_t deadline);
TDL_API tdl_context *tdl_context_with_timeout(tdl_context *parent, int64_t ns);
/* Carries a value for a key (equal keys: the same type and number, pointer or
 * bytes); both are copied. NULL also for a nil key, or a TDL_REF. */
TDL_API tdl_context *tdl_context_with_value(tdl_context *parent, const tdl_val *key, const tdl_val *v);
/* Has the parent's values, and does not end with it. */
TDL_API tdl_context *tdl_context_without_cancel(tdl_context *parent);
TDL_API tdl_context *tdl_context_ref(tdl_context *c); /* another holder; returns c */
TDL_API void tdl_context_free(tdl_context *c);        /* NULL is ignored. Does not end it */
/* Ends it. cause is any code but 0, which means TDL_ECANCELED; detail (may be
 * NULL) says more. 1; 0 when it had ended; TDL_EINVAL for NULL, the background
 * or a TDL_REF. */
TDL_API int  tdl_context_cancel(tdl_context *c, int cause, const tdl_val *detail);
/* 0 until it ends; then TDL_ECANCELED or TDL_ETIMEDOUT, the parent's if it
 * ended with that. */
TDL_API int  tdl_context_err(tdl_context *c);
/* 0 until it ends; then the cause of who ended it or its ancestor, and in
 * *detail (may be NULL; the caller becomes a holder) the detail. */
TDL_API int  tdl_context_cause(tdl_context *c, tdl_val *detail);
TDL_API int64_t tdl_context_deadline(tdl_context *c); /* TDL_FOREVER: none */
/* 1 and the value of the nearest that carries one for the key, of which the
 * caller becomes a holder; else 0, and nil. v may be NULL. */
TDL_API int  tdl_context_value(tdl_context *c, const tdl_val *key, tdl_val *v);
/* A channel that is closed when it ends, for select: the context's, not to be
 * freed or closed. NULL (never chosen) for one that cannot end. */
TDL_API tdl_chan *tdl_context_done(tdl_context *c);
/* Waits until it has ended. Blocking. 0, TDL_ECANCELED (the caller was),
 * TDL_ETIMEDOUT (the call's deadline), TDL_EHOST. */
TDL_API int  tdl_context_wait(tdl_context *c);
TDL_API int  tdl_context_wait_until(tdl_context *c, int64_t deadline);

/* Starts fn(arg) as a goroutine of its own when c ends; at once when it has. */
typedef struct tdl_after tdl_after;
TDL_API tdl_after *tdl_context_after_func(tdl_context *c, void (*fn)(void *), void *arg);
/* 1: fn was not started and will not be; 0: it was started, or stopped before. */
TDL_API int  tdl_after_stop(tdl_after *a);
TDL_API void tdl_after_free(tdl_after *a); /* stops it. NULL is ignored */

/* -- Groups of goroutines ---------------------------------------------------- */

/* An error group: goroutines that work on one thing. The first result other
 * than 0 is the group's error, and ends the group's context with it as cause;
 * those that still work have to look at that. The handle may be freed while
 * some work: then the context ends, and the rest goes with the last of them. */
typedef struct tdl_errgroup tdl_errgroup;
/* limit: how many work at a time, 0: any number. NULL: out of memory. Any caller. */
TDL_API tdl_errgroup *tdl_errgroup_new(tdl_context *parent, uint32_t limit);
TDL_API tdl_context *tdl_errgroup_context(tdl_errgroup *eg); /* the group's: ref it to keep it */
/* Starts fn(arg) as a goroutine, and waits for a place first. Blocking. 0,
 * TDL_ECANCELED, TDL_ETIMEDOUT, TDL_EHOST, TDL_ENOMEM. */
TDL_API int  tdl_errgroup_go(tdl_errgroup *eg, int (*fn)(void *), void *arg);
TDL_API int  tdl_errgroup_go_until(tdl_errgroup *eg, int (*fn)(void *), void *arg, int64_t deadline);
TDL_API int  tdl_errgroup_try_go(tdl_errgroup *eg, int (*fn)(void *), void *arg); /* 0, TDL_EAGAIN. Any caller */
/* For work that is no C goroutine: takes a place, and gives it back with the
 * result. begin: as tdl_errgroup_go; done: 0, TDL_ENEGATIVE. done: any caller. */
TDL_API int  tdl_errgroup_begin(tdl_errgroup *eg);
TDL_API int  tdl_errgroup_begin_until(tdl_errgroup *eg, int64_t deadline); /* TDL_NOWAIT: any caller */
TDL_API int  tdl_errgroup_done(tdl_errgroup *eg, int result);
/* Waits until nobody works, and then ends the context. Blocking. The group's
 * error or 0; TDL_ECANCELED, TDL_ETIMEDOUT, TDL_EHOST: tdl_errgroup_error tells
 * whose. */
TDL_API int  tdl_errgroup_wait(tdl_errgroup *eg);
TDL_API int  tdl_errgroup_wait_until(tdl_errgroup *eg, int64_t deadline);
TDL_API int  tdl_errgroup_error(tdl_errgroup *eg); /* the first error so far, or 0. Any caller */
TDL_API int  tdl_errgroup_set_limit(tdl_errgroup *eg, uint32_t limit); /* 0, TDL_EBUSY while some work. Any caller */
TDL_API void tdl_errgroup_free(tdl_errgroup *eg);  /* NULL is ignored. Any caller */

/* Single flight: of those who want the same thing at the same time, one does
 * the work, and all have its result. Meant for few keys in flight at a time
 * (they are looked through one by one). */
typedef struct tdl_singleflight tdl_singleflight;
struct tdl_outcome; /* see host.h */
TDL_API tdl_singleflight *tdl_singleflight_new(void); /* NULL: out of memory. Any caller */
/* fn(arg, v) is the work: a result, and a value in *v, which is nil before. The
 * caller gets both, as holder of *v (v may be NULL); *shared (may be NULL) is not
 * 0 when others got them, too. Blocking. The result of fn; for who waits also
 * TDL_ECANCELED (too when the worker left by tdl_goexit), TDL_ETIMEDOUT,
 * TDL_EDEADLOCK (it is within fn of this key), TDL_EHOST, TDL_ENOMEM. */
TDL_API int  tdl_singleflight_do(tdl_singleflight *sf, const void *key, size_t n, int (*fn)(void *, tdl_val *),
                                 void *arg, tdl_val *v, int *shared);
TDL_API int  tdl_singleflight_do_until(tdl_singleflight *sf, const void *key, size_t n, int (*fn)(void *, tdl_val *),
                                       void *arg, tdl_val *v, int *shared, int64_t deadline);
/* The same in two halves, for work that is no C function. begin is Blocking; 1:
 * the caller does the work, and then gives result and value to tdl_singleflight_end, with
 * the ticket in out->extra; 0: it was done: the value in out->val, the result in
 * out->extra; or a code as above. */
TDL_API int  tdl_singleflight_begin(tdl_singleflight *sf, const void *key, size_t n, struct tdl_outcome *out);
TDL_API int  tdl_singleflight_begin_until(tdl_singleflight *sf, const void *key, size_t n, struct tdl_outcome *out,
                                          int64_t deadline);
/* How many others got it; TDL_EINVAL: no such ticket, or a TDL_REF. v may be NULL. Any caller. */
TDL_API int  tdl_singleflight_end(tdl_singleflight *sf, int64_t ticket, int result, const tdl_val *v);
/* Who comes from now on does not join the work in flight, but starts anew. 1;
 * 0: none was in flight. Any caller. */
TDL_API int  tdl_singleflight_forget(tdl_singleflight *sf, const void *key, size_t n);
TDL_API void tdl_singleflight_free(tdl_singleflight *sf); /* nobody may work or wait. NULL is ignored */

/* A scope owns its goroutines: whoever leaves it has waited for all of them.
 * The first result other than 0 is its error, and cancels the siblings
 * (tdl_cancel: each call that waits returns TDL_ECANCELED); so does the end of
 * its context, with the cause as error: at its deadline TDL_ETIMEDOUT. A scope
 * inside another is made with the other's context, and inherits its deadline
 * and its end. The handle may be freed early: the children are cancelled then,
 * and the rest goes with the last of them. */
typedef struct tdl_scope tdl_scope;
/* deadline: TDL_FOREVER for none. NULL: out of memory. Any caller. */
TDL_API tdl_scope *tdl_scope_new(tdl_context *parent, int64_t deadline);
TDL_API tdl_context *tdl_scope_context(tdl_scope *s); /* the scope's: ref it to keep it */
/* Starts fn(arg) as a goroutine of the scope. 0; TDL_ECLOSED: it has been left;
 * TDL_ECANCELED: its context has ended; TDL_ENOMEM. Any caller. */
TDL_API int  tdl_scope_go(tdl_scope *s, int (*fn)(void *), void *arg);
/* For work that is no C goroutine, and has to look at the context itself: counts
 * as a child between the two. begin: as tdl_scope_go; done: 0, TDL_ENEGATIVE. Any caller. */
TDL_API int  tdl_scope_begin(tdl_scope *s);
TDL_API int  tdl_scope_done(tdl_scope *s, int result);
/* Leaves the scope: waits until all children have ended, and then ends the
 * context. Neither a cancel nor the deadline of this call cuts it short: they
 * cancel the children, with TDL_ECANCELED or TDL_ETIMEDOUT as the scope's error.
 * Blocking. The scope's error or 0; TDL_EAGAIN: TDL_NOWAIT, and there are
 * children; TDL_EDEADLOCK: the caller is a child of the scope, or the scope
 * waits for the caller through others; TDL_EHOST. */
TDL_API int  tdl_scope_wait(tdl_scope *s);
TDL_API int  tdl_scope_wait_until(tdl_scope *s, int64_t deadline);
TDL_API int  tdl_scope_error(tdl_scope *s); /* the first error so far, or 0. Any caller */
TDL_API void tdl_scope_free(tdl_scope *s);  /* NULL is ignored. Any caller */

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_CONTEXT_H */
