/* SPDX-License-Identifier: MIT
 *
 * Hosts: the P of an interpreter. Its tasks are hosted goroutines, which only
 * the host's own thread starts and finishes operations of.
 *
 * Who may touch what: everything belongs to the host's thread (when that has ended, to the
 * one that adopts the host: tdl_m.ended hands it over), except
 *   remote      a stack of tasks made ready by others: push by CAS, taken
 *               whole by the owner (release/acquire: the task's result);
 *   woken       set by tdl_host_wake, taken by the owner;
 *   chunk       entries appear before a task's number is given out;
 *   park_lock   guards `parked` of every task.
 * A host's memory is never given back: a waker that comes late finds a host.
 */
#ifndef TDL_HOST_HOST_H
#define TDL_HOST_HOST_H

#include "netpoll/backend.h"
#include "sched/sched.h"

enum { TASK_CHUNK = 1024, WATCH_BATCH = 128 };

/* One more than a task: which fd a watcher stands for. */
typedef struct tdl_watcher {
    int fd; /* -1: free */
    int readiness; /* 0: paused; of a free one: the next free one, or -1 */
    uint8_t missed; /* an edge's readiness that found no room in `watched` */
} tdl_watcher;

struct tdl_host {
    tdl_host *next; /* all hosts that were ever open */
    bool taken;     /* under the list's lock; from m on, a new owner starts at 0 */
    _Atomic uint32_t dozing; /* waits for ever, for others to wake it: see deadlock.c */
    tdl_poller poller; /* keeps its locks from owner to owner */
    _Atomic(tdl_m *) m; /* its thread: relaxed, for others only ask whether it is theirs. Under
                           the list's lock while the host is open, as are outer and open */
    struct tdl_host *outer; /* opened before on the same thread, or adopted by it */
    char name[TDL_NAME];
    bool open;

    tdl_g *head, *tail; /* ready, in order; linked by next */
    _Atomic(tdl_g *) remote;
    _Atomic uint32_t woken;
    int64_t doze; /* how long the next one may be */
    int budget; /* polls that may pass before descriptors and timers are asked */
    int64_t asked;

    tdl_g *chunk[TDL_MAX_TASKS / TASK_CHUNK];
    tdl_g *free; /* linked by next */
    _Atomic uint32_t ntasks; /* numbers ever given out: release; acquire in tdl_task_find */
    _Atomic int64_t live; /* tasks; written by the owner only */
    tdl_outcome *outcomes; /* TDL_MAX_TASKS of them, touched as used */
    tdl_biased park_lock; /* its owner: the host's thread */
    uint64_t id_next, id_end; /* goroutine numbers */

    tdl_watcher *watchers;
    int nwatchers, free_watcher;
    bool missed; /* a watcher has */
    tdl_event watched[WATCH_BATCH]; /* readiness not yet handed out */
    int nwatched;
};

/* The live task with this number; NULL. */
tdl_g *tdl_task_find(tdl_host *h, uint32_t task);
/* For the _start forms: the task's op, or NULL and *code. */
tdl_op *tdl_task_op(tdl_host *h, uint32_t task, int *code);
/* What a _start form returns: the result of an op that was just tried. */
int tdl_task_started(tdl_op *op, int64_t r);
/* Ends every task; remote wakers that are under way are waited for. */
void tdl_tasks_end(tdl_host *h);
/* Its thread has nothing left that could end its wait but others' doing. Waits a
 * while; TDL_EDEADLOCK when they cannot do anything either. */
int tdl_host_doze(tdl_host *h);
/* Has it something that can be handed on? */
TDL_ALWAYS_INLINE bool tdl_host_holds(const tdl_host *h) { return h->head || h->nwatched || h->missed; }
/* Is there nothing to do at once? */
TDL_ALWAYS_INLINE bool tdl_host_quiet(tdl_host *h) {
    return !tdl_host_holds(h) && !at_load_seq(&h->remote) && !at_load_seq(&h->woken);
}
/* watch.c: readiness from the poller; and what it had no room for, once there is. */
void tdl_host_on_watch(void *host, uint32_t watcher, uint32_t readiness);
void tdl_host_watch_missed(tdl_host *h);
/* Puts a task at the end of the ready list. */
void tdl_host_push(tdl_host *h, tdl_g *g);
/* Takes the tasks that others made ready into the ready list. */
void tdl_host_collect(tdl_host *h);
/* Is m's thread the host's? Another may adopt it meanwhile, from a thread that has ended. */
static inline bool tdl_host_of(tdl_host *h, const tdl_m *m) { return at_load_rlx(&h->m) == m; }
/* TDL_EINVAL, TDL_EHOST (another thread's), or 0. */
static inline int tdl_host_check(tdl_host *h) {
    if (!h || !h->open) return TDL_EINVAL;
    tdl_m *m = tdl_m_self();
    if (at_load_rlx(&m->deny) == TDL_EFORKED) return TDL_EFORKED;
    return tdl_host_of(h, m) ? 0 : TDL_EHOST;
}

/* Tasks of all hosts. */
int64_t tdl_tasks_live(void);
/* Every host that was ever open, for dumps; NULL after the last. */
tdl_host *tdl_host_first(void);

/* start_expr starts `op`, as in a blocking form. */
#define START_FORM(start_expr)                                                 \
    do {                                                                       \
        int code_;                                                             \
        tdl_op *op = tdl_task_op(h, task, &code_);                             \
        if (TDL_UNLIKELY(!op)) return code_;                                   \
        return tdl_task_started(op, (start_expr));                             \
    } while (0)

#endif
