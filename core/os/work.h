/* SPDX-License-Identifier: MIT
 *
 * Work that no poller can wait for: calls that sleep in the kernel or in the C
 * library (files, names), each made by a service thread for the op that waits.
 *
 * The threads are ours and not libuv's pool: those are known to the deadlock
 * detector, end when they are not needed, are bounded apart for files and names,
 * and complete an op themselves, without a loop in between. What they call is
 * libuv, in its synchronous forms.
 *
 * Under the one lock of this file: each work's state and op, the queues, the
 * counts; and of a file who waits on it. A work belongs to its op until one of
 * the two has come to its end: who comes last (the owner's finish, or the thread)
 * drops it. An owner that leaves while its work runs detaches it (op is NULL then),
 * and so a work may touch nothing of its owner's: what it reads and writes is its own.
 */
#ifndef TDL_OS_WORK_H
#define TDL_OS_WORK_H

#include "sched/ops.h"

enum { WORK_FILES, WORK_NAMES, WORK_KINDS };
enum { WORK_QUEUED = 1, WORK_RUNNING, WORK_DONE };

typedef struct tdl_work {
    struct tdl_work *next;
    tdl_op *op; /* NULL: nobody waits */
    uint8_t kind, state;
    int64_t result;
    tdl_queue *waiters; /* the op's node is on it; NULL: on none */
    void (*run)(struct tdl_work *w);                     /* by a service thread: sets result */
    int64_t (*deliver)(struct tdl_work *w, tdl_op *op);  /* by the owner: the op's result */
    void (*drop)(struct tdl_work *w);                    /* frees it, and what was not delivered */
} tdl_work;

extern tdl_lock tdl_work_lock;

/* Has w done for op: TDL_PENDING, or a code, and w was dropped. */
int64_t tdl_work_op(tdl_op *op, tdl_work *w, int64_t deadline, const tdl_op_class *cls);
/* The finish and the abandon of every class that is used so. */
int64_t tdl_work_finish(tdl_op *op);
void tdl_work_abandon(tdl_op *op);

/* Works that are queued or run. */
int64_t tdl_work_live(void);

#endif
