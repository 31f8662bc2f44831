/* SPDX-License-Identifier: MIT
 *
 * Several Ps for one run, in a Python without a lock: treadle.run(main(), procs=n).
 * Each P is a thread with a loop and a host of its own, and a queue of goroutines that
 * have not begun. One that has nothing to do takes from the others' queues: a
 * goroutine begins on whatever P gets it, and stays there.
 *
 * Invariants.
 *  - A goroutine that waits in a queue has no task and belongs to nobody: it is not
 *    `begun`, and g->host is only where it is listed. Who takes it out makes it his: sets host
 *    and task, then `begun`, under ps->lock; from then on they stay, and it is touched by that
 *    P as any goroutine by its owner (own.h). A reader looks at `begun` first (acquire).
 *  - What others may do to it is under ps->lock: state, value and unseen when it ends, joiners,
 *    callbacks, cancels and cancel_msg. must_cancel may be set by anybody (who waits on another P is
 *    poked there: g_poke), and is taken by the owner with an exchange.
 *  - ps->lock is held over no call into Python that could run code; host->lock is taken
 *    under it, and the core's locks. A queue's lock is taken under no other, and none under it.
 *  - No wake-up is lost. Who has put something in a queue looks at `idle` then; who is to sleep
 *    sets his bit there, and then looks at all queues once more (sequentially consistent on
 *    either side: one of them sees the other). Who claims a bit wakes its P, which by then has
 *    said that it sleeps (loop->sleeping, before the bit).
 *  - As in Go, one P at a time is woken to look for work (`spinning`): it wakes the next one
 *    when it has found some, so that nobody is woken for nothing, nor forgotten: the last one to
 *    give up looks at the queues after it has said so.
 *  - The hosts and loops in p[] stay until procs_end, which comes when all their threads have ended;
 *    threads that are none of its Ps look at them under ps->lock. */
#ifndef TDLPY_PROCS_H
#define TDLPY_PROCS_H

#include "loop.h"

enum { PROCS_MAX = 64 };

#ifdef Py_GIL_DISABLED

typedef struct {
    pyhost *host;   /* strong; NULL once it is over */
    PyObject *loop; /* strong */
    own_lock lock;  /* guards ring and head, and n for writing */
    gobj **ring;    /* strong references; size is a power of two */
    uint32_t size, head, n;
    bool asleep; /* its thread's: has set its bit */
} one_p;

typedef struct procs {
    int64_t refs; /* of hosts */
    own_lock lock;
    int n;             /* Ps that have joined */
    int room;
    int spinning;      /* atomic: woken, and still looking for work */
    uint64_t idle;     /* atomic, a bit for each P: asleep, or about to be */
    own_word nobody;   /* whose a goroutine is that has not begun */
    one_p p[];
} procs;

static inline procs *
host_procs(pyhost *h)
{
    return h->procs;
}

/* The Ps among which g is, or NULL. Holds for any thread: another's host, while it changes, is of the same. */
static inline procs *
g_procs(gobj *g)
{
    return SEEN(g->host)->procs;
}

static inline bool
g_begun(gobj *g)
{
    return __atomic_load_n(&g->begun, __ATOMIC_ACQUIRE); /* with the release of procs_begin */
}

/* Whose it is, for OWN. */
static inline own_word *
g_word(gobj *g)
{
    return g_procs(g) != NULL && !g_begun(g) ? &g_procs(g)->nobody : &SEEN(g->host)->own;
}

#define G_OWN(g, failed) OWN(g_word(g), failed)
#define LOCK_PROCS(ps) do { if ((ps) != NULL) LOCK(&(ps)->lock); } while (0)
#define UNLOCK_PROCS(ps) do { if ((ps) != NULL) UNLOCK(&(ps)->lock); } while (0)

int procs_spawn(pyhost *h, gobj *g);      /* into h's queue */
int procs_begin(pyhost *h, gobj *g);      /* its first step, here; takes g */
bool procs_find(pyhost *h);               /* its queue has something, perhaps somebody else's until now */
int procs_run(pyhost *h);                 /* begins what is in its queue, up to a number */
bool procs_sleeps(pyhost *h);             /* after loop_sleeps; false: there is something to do */
void procs_woke(pyhost *h);
int procs_queued(pyhost *h);              /* in all queues beside h's; h may be NULL */
pyhost *procs_here(procs *ps);            /* the one of this thread, or NULL; borrowed */
void procs_release(procs *ps);
int procs_call(pyhost *h, PyObject *callback, PyObject *arg, PyObject *context); /* on h's thread, soon */
bool g_cancel_across(gobj *g, PyObject *msg);
PySendResult op_begin_join_across(opobj *op, procs *ps, PyObject **result);
PyObject *g_poke(PyObject *self, PyObject *ignored);

#else

typedef struct procs procs;
#define host_procs(h) ((void)(h), (procs *)NULL)
#define g_procs(g) ((void)(g), (procs *)NULL)
#define procs_here(ps) ((void)(ps), (pyhost *)NULL)
#define procs_queued(h) 0
#define G_OWN(g, failed) ((void)0)
#define LOCK_PROCS(ps) ((void)(ps))
#define UNLOCK_PROCS(ps) ((void)(ps))

#endif

PyObject *procs_form(PyObject *host, PyObject *n);
PyObject *procs_join(PyObject *host, PyObject *first);
PyObject *procs_end(PyObject *host, PyObject *ignored);

PyObject *g_name(gobj *g);

/* A cancellation that is asked for: takes it. */
static inline bool
g_take_cancel(gobj *g)
{
    if (!SEEN(g->must_cancel))
        return false;
#ifdef Py_GIL_DISABLED
    return __atomic_exchange_n(&g->must_cancel, false, __ATOMIC_RELAXED);
#else
    g->must_cancel = false;
    return true;
#endif
}

#endif
