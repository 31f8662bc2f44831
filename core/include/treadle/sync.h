/* SPDX-License-Identifier: MIT
 *
 * Locks and the like: mutex, wait group, condition, semaphore, read-write lock, once.
 *
 * They serve goroutines, plain threads and hosted tasks (by the `_start` forms of
 * host.h) alike, and each against the others. Nobody may hold one, or wait for it,
 * when it is freed.
 */
#ifndef TREADLE_SYNC_H
#define TREADLE_SYNC_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A mutual exclusion lock, usable between goroutines, threads and hosted
 * tasks. It belongs to no thread: whoever holds it may hand it on and let
 * another unlock it. A waiter that has waited for 1 ms gets it next, before
 * newcomers (Go's starvation mode).
 *
 * Circles. Each of some callers has locked a mutex and waits, without a
 * deadline, for that of the next one (one alone: for his own). When this has
 * lasted for a second, stderr is told who has what and waits for what, and the
 * lock call that closed the circle returns TDL_EDEADLOCK, without the mutex.
 * Owner is who locked it; a host's trylock leaves it without one. Who lets
 * another unlock it, and may wait that long meanwhile, calls tdl_mutex_disown. */
typedef struct tdl_mutex tdl_mutex;
TDL_API tdl_mutex *tdl_mutex_new(void);          /* NULL: out of memory. Any caller */
TDL_API int  tdl_mutex_lock(tdl_mutex *m);       /* Blocking. 0, TDL_ECANCELED, TDL_EDEADLOCK, TDL_EHOST */
TDL_API int  tdl_mutex_lock_until(tdl_mutex *m, int64_t deadline); /* Blocking. Also TDL_ETIMEDOUT */
TDL_API int  tdl_mutex_trylock(tdl_mutex *m);    /* 0, TDL_EAGAIN. Any caller */
TDL_API int  tdl_mutex_unlock(tdl_mutex *m);     /* 0, TDL_ENOTLOCKED. Any caller */
TDL_API int  tdl_mutex_disown(tdl_mutex *m);     /* It stays locked, by nobody. 0, TDL_ENOTLOCKED. Any caller */
TDL_API void tdl_mutex_free(tdl_mutex *m);       /* nobody may hold it or wait for it. NULL is ignored */

/* Waits for a number of things to end. The counter starts at 0; wait returns
 * when it is 0. May be used again afterwards. */
typedef struct tdl_waitgroup tdl_waitgroup;
TDL_API tdl_waitgroup *tdl_waitgroup_new(void);           /* NULL: out of memory. Any caller */
TDL_API int  tdl_waitgroup_add(tdl_waitgroup *wg, int n); /* 0; TDL_ENEGATIVE (nothing changed). Any caller */
TDL_API int  tdl_waitgroup_done(tdl_waitgroup *wg);       /* add(-1) */
TDL_API int  tdl_waitgroup_wait(tdl_waitgroup *wg);       /* Blocking. 0, TDL_ECANCELED, TDL_EHOST */
TDL_API int  tdl_waitgroup_wait_until(tdl_waitgroup *wg, int64_t deadline); /* Blocking. Also TDL_ETIMEDOUT */
TDL_API void tdl_waitgroup_free(tdl_waitgroup *wg);       /* nobody may wait for it. NULL is ignored */

/* A condition of a mutex: wait unlocks it and waits, and holds it again when it
 * returns, in every case: so a wait that is cancelled or timed out still waits for
 * whoever holds the mutex. Waiters are served first in, first out. */
typedef struct tdl_cond tdl_cond;
TDL_API tdl_cond *tdl_cond_new(tdl_mutex *m);     /* NULL: out of memory, or m is. Any caller */
TDL_API int  tdl_cond_wait(tdl_cond *c);          /* Blocking. 0, TDL_ENOTLOCKED, TDL_ECANCELED, TDL_EHOST */
TDL_API int  tdl_cond_wait_until(tdl_cond *c, int64_t deadline); /* Blocking. Also TDL_ETIMEDOUT */
TDL_API int  tdl_cond_signal(tdl_cond *c);        /* wakes one. 0. Any caller, holding the mutex or not */
TDL_API int  tdl_cond_broadcast(tdl_cond *c);     /* wakes all. 0. Any caller */
TDL_API void tdl_cond_free(tdl_cond *c);          /* nobody may wait for it. NULL is ignored */

/* A weighted semaphore, first in, first out: a large request is not overtaken
 * by small ones. */
typedef struct tdl_sema tdl_sema;
TDL_API tdl_sema *tdl_sema_new(uint32_t permits);            /* NULL: out of memory. Any caller */
TDL_API int  tdl_sema_acquire(tdl_sema *s, uint32_t n);      /* Blocking. 0, TDL_ECANCELED, TDL_EHOST */
TDL_API int  tdl_sema_acquire_until(tdl_sema *s, uint32_t n, int64_t deadline); /* Blocking. Also TDL_ETIMEDOUT */
TDL_API int  tdl_sema_try_acquire(tdl_sema *s, uint32_t n);  /* 0, TDL_EAGAIN. Any caller */
TDL_API int  tdl_sema_release(tdl_sema *s, uint32_t n);      /* 0; more than were acquired is allowed. Any caller */
TDL_API void tdl_sema_free(tdl_sema *s);                     /* nobody may wait for it. NULL is ignored */

/* A read-write lock: many readers or one writer. Readers on different
 * processors write to different cache lines, so reading scales; a writer pays
 * for it, with a look at each reader's slot. Nobody starves: a waiting writer
 * keeps new readers out, and readers that came meanwhile go before the next
 * writer. Like the mutex it belongs to no thread. Who reads must not read again
 * inside: a writer that comes between would wait for ever, and he with it. */
typedef struct tdl_rwmutex tdl_rwmutex;
TDL_API tdl_rwmutex *tdl_rwmutex_new(void);          /* NULL: out of memory. Any caller */
TDL_API int  tdl_rwmutex_lock(tdl_rwmutex *rw);      /* Blocking. 0, TDL_ECANCELED, TDL_EHOST */
TDL_API int  tdl_rwmutex_lock_until(tdl_rwmutex *rw, int64_t deadline); /* Blocking. Also TDL_ETIMEDOUT */
TDL_API int  tdl_rwmutex_trylock(tdl_rwmutex *rw);   /* 0, TDL_EAGAIN. Any caller */
TDL_API int  tdl_rwmutex_unlock(tdl_rwmutex *rw);    /* 0, TDL_ENOTLOCKED: no writer holds it. Any caller */
TDL_API int  tdl_rwmutex_rlock(tdl_rwmutex *rw);     /* Blocking. 0, TDL_ECANCELED, TDL_EHOST */
TDL_API int  tdl_rwmutex_rlock_until(tdl_rwmutex *rw, int64_t deadline); /* Blocking. Also TDL_ETIMEDOUT */
TDL_API int  tdl_rwmutex_tryrlock(tdl_rwmutex *rw);  /* 0; TDL_EAGAIN: a writer holds it or waits. Any caller */
TDL_API int  tdl_rwmutex_runlock(tdl_rwmutex *rw);   /* 0, TDL_ENOTLOCKED: nobody reads. Any caller */
TDL_API void tdl_rwmutex_free(tdl_rwmutex *rw);      /* nobody may hold it or wait for it. NULL is ignored */

/* Something that happens once: the first caller does it, others wait until it
 * has ended. However it ended, also by tdl_goexit, it is done. */
typedef struct tdl_once tdl_once;
TDL_API tdl_once *tdl_once_new(void);                 /* NULL: out of memory. Any caller */
/* Calls fn(arg) when nobody has before. Blocking. 0: it is done; for who waits
 * also TDL_ECANCELED, TDL_ETIMEDOUT; TDL_EDEADLOCK from within fn. */
TDL_API int  tdl_once_do(tdl_once *o, void (*fn)(void *), void *arg);
TDL_API int  tdl_once_do_until(tdl_once *o, void (*fn)(void *), void *arg, int64_t deadline);
/* The same in two halves, for a caller that is no C function: 1: it is the
 * first, does the thing and then calls tdl_once_end. Otherwise as tdl_once_do. */
TDL_API int  tdl_once_begin(tdl_once *o);
TDL_API int  tdl_once_begin_until(tdl_once *o, int64_t deadline);
TDL_API int  tdl_once_end(tdl_once *o);               /* 0, TDL_ENOTLOCKED: nobody is at it. Any caller */
TDL_API int  tdl_once_done(tdl_once *o);              /* 1 when it is done, else 0. Any caller */
TDL_API void tdl_once_free(tdl_once *o);              /* nobody may be at it or wait. NULL is ignored */

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_SYNC_H */
