/* SPDX-License-Identifier: MIT
 *
 * G, M and P.
 *
 * G  a goroutine. Stackful: it lives at the top of its own stack slot. Hosted:
 *    it has no stack; only its host's thread runs it. The memory of a G is
 *    type-stable: a late tdl_cancel or dump finds a G, if not the one it meant.
 * M  an OS thread that has called us: a worker M runs goroutines, a host M is
 *    the thread of a host, any other is a plain thread. Found through one
 *    thread-local pointer.
 * P  the right to run goroutines: queue, timers, poller, free Gs. A worker M
 *    keeps its P while it sleeps, in the P's own poller, so that waking is one
 *    write and an fd has one home.
 *
 * Who may touch what: fields of a P and an M belong to the M that runs with it
 * (in TSan's eyes: to several fibers, hence TDL_NO_TSAN), unless they are
 * atomic or said to be under sched.lock.
 */
#ifndef TDL_SCHED_SCHED_H
#define TDL_SCHED_SCHED_H

#include <pthread.h>

#include "sched/op.h"
#include "sched/poll.h"
#include "sched/runq.h"
#include "treadle.h"

enum { TDL_MAX_P = 1024, TDL_NAME = 32 };

/* What a G is doing; for dumps, except DEAD, which says the slot is free. */
enum { G_DEAD, G_RUNNABLE, G_RUNNING, G_WAITING, G_DONE };

struct tdl_g {
    void *sp; /* of a G that is not running */
    tdl_g *next;
    void (*fn)(void *);
    void *arg;
    _Atomic uint8_t status;
    _Atomic uint8_t cancelled; /* sticky; pairs with tdl_op_commit */
    uint8_t flags;             /* TDL_GO_… */
    uint32_t slot;             /* stackful: which stack */
    uint64_t id, parent;
    tdl_op op;
    /* joinable: */
    tdl_lock join_lock;
    uint8_t joining; /* under join_lock: somebody waits, or takes it now */
    uint8_t ended;   /* under join_lock */
    tdl_queue joiner;
    /* hosted: */
    struct tdl_host *host;
    struct tdl_poller *host_poller;
    void (*task_ready)(tdl_g *g);
    uint32_t task;
    uint8_t pending; /* host thread: an op or an event is outstanding */
    uint8_t queued;  /* host thread: in the ready list */
    uint8_t parked;  /* under host's park lock */
    char name[TDL_NAME];
#ifdef TDL_TSAN
    void *fiber;
#endif
#ifdef TDL_ASAN
    void *fake_stack;
#endif
};

typedef struct tdl_p tdl_p;
typedef struct tdl_m tdl_m;

/* What is to be done once a goroutine's stack has been left. */
enum { AFTER_NOTHING, AFTER_PARK, AFTER_YIELD, AFTER_EXIT };

struct tdl_m {
    tdl_g *g;               /* the goroutine it runs; NULL on its own stack */
    tdl_p *p;               /* worker Ms */
    int deny;               /* why blocking forms are refused: TDL_EHOST, TDL_EFORKED, or 0 */
    struct tdl_host *host;  /* host Ms: the host opened last */
    struct tdl_poller *host_poller;
    uint32_t rng;           /* see tdl_random */
    int after;              /* AFTER_… for after_g, set right before a switch */
    tdl_g *after_g;
    bool spinning;          /* looks for work; counted in sched.nspinning */
    bool batch;             /* is dispatching many: ready goes to the ring, not to runnext */
    tdl_g g0;               /* its own stack, as the scheduler runs on it */
    tdl_op op;              /* plain threads */
    pthread_t thread;       /* worker Ms */
    char *signal_stack;     /* worker Ms: see overflow.c */
#ifdef TDL_ASAN
    void *stack_low; /* of the thread's own stack */
    size_t stack_size;
#endif
};

struct tdl_p {
    int id;
    tdl_m *m; /* under sched.lock; NULL: no thread was needed yet */
    bool idle; /* under sched.lock: on the idle list */
    tdl_p *next_idle;
    _Atomic(tdl_g *) runnext; /* runs next; thieves may take it */
    tdl_runq runq;
    int budget, budget_full; /* dispatches until the poller and the timers are asked */
    int64_t asked;           /* when they were */
    uint32_t rounds;
    tdl_g *gfree; /* dead Gs with their stacks */
    int ngfree;
    uint64_t id_next, id_end;
    _Atomic int64_t spawned, exited; /* written by the owner only */
    tdl_poller poller;
};

struct tdl_sched {
    tdl_lock lock;
    tdl_g *head, *tail;      /* global queue; under lock */
    _Atomic uint32_t nglobal;
    tdl_p *idle;             /* under lock */
    _Atomic uint32_t nidle;  /* length of it; written under lock */
    _Atomic uint32_t nspinning;
    _Atomic uint32_t watching; /* an idle M looks after the busy Ps: see sched.c */
    _Atomic uint32_t stopping; /* written under lock */
    _Atomic uint32_t nwaking;  /* popped from idle, and not yet woken; raised under lock */
    _Atomic uint32_t running; /* 1: the Ps exist */
    _Atomic int np; /* Ps; 0 when there is no runtime. Release; acquire in tdl_nprocs */
    tdl_p **p;
    _Atomic uint32_t nthreads; /* worker Ms */
    _Atomic int nasleep;       /* plain threads: see deadlock.c */
    _Atomic uint64_t ids;
    _Atomic int64_t spawned, exited; /* not by a P */
    _Atomic int64_t tasks;
    _Atomic uint32_t forked;
    tdl_lock run_lock; /* starting and stopping */
    _Atomic uint32_t in_run;
};

extern struct tdl_sched tdl_sched;

static inline int tdl_nprocs(void) { return at_load_acq(&tdl_sched.np); }

/* Is this the child of a fork? Every call that takes a lock asks first: its
 * holder may not exist here. */
static inline bool tdl_forked(void) { return TDL_UNLIKELY(at_load_rlx(&tdl_sched.forked)); }

/* -- The calling thread ----------------------------------------------------- */

/* Never inlined: a goroutine may come back from a switch on another thread, so
 * the address of a thread-local must not be kept over one. */
tdl_m *tdl_m_self(void);
/* Makes m, a worker's, the calling thread's; NULL: the thread is about to end. */
void tdl_m_adopt(tdl_m *m);
void tdl_thread_yield(void);
/* A number below n, evenly enough for scheduling. */
uint32_t tdl_random(uint32_t n);

/* Start of every blocking form: the caller's op, or NULL and in *code why it
 * may not block (TDL_EHOST, TDL_EFORKED, TDL_ECANCELED). */
static inline tdl_op *tdl_caller_op(int *code) {
    tdl_m *m = tdl_m_self();
    if (TDL_UNLIKELY(m->deny)) {
        *code = m->deny;
        return NULL;
    }
    tdl_g *g = m->g;
    if (!g) return &m->op;
    if (TDL_UNLIKELY(at_load_rlx(&g->cancelled))) {
        *code = TDL_ECANCELED;
        return NULL;
    }
    return &g->op;
}

/* -- Scheduling (sched.c) ---------------------------------------------------- */

/* Makes a stackful goroutine runnable. Any thread. */
void tdl_g_ready(tdl_g *g);
/* Leaves the running goroutine g, whose op is enlisted; returns once it was readied. */
void tdl_g_park(tdl_g *g);
/* Leaves the running goroutine for good. */
_Noreturn void tdl_g_exit(tdl_g *g);
/* Puts it behind the runnable ones. */
void tdl_g_requeue(tdl_g *g);
/* Where a new goroutine begins. */
_Noreturn void tdl_g_entry(void);
/* A worker M's life. */
void *tdl_m_main(void *arg);
/* Sees to it that a thread waits in p's poller. 0 or a negative code. */
int tdl_p_ensure(tdl_p *p);
/* Ends of parking and exiting, on the next stack. */
void tdl_op_commit(tdl_op *op);
void tdl_g_ended(tdl_g *g);

/* -- Deadlock (deadlock.c) ----------------------------------------------------- */

/* Ends the process with the dump and status 2 if nothing can ever happen again. */
void tdl_deadlock_check(void);
/* The calling thread has parked, with no deadline. */
void tdl_deadlock_sleeper(void);
/* A thread that had parked so was claimed. */
static inline void tdl_deadlock_waker(void) { at_sub_seq(&tdl_sched.nasleep, 1); }

/* -- Stack overflow (overflow.c) ------------------------------------------------ */

/* Installs the handler, once per process. */
void tdl_overflow_watch(void);
/* Gives the calling worker M a stack for signals; back at its end. */
void tdl_overflow_thread(tdl_m *m);
void tdl_overflow_thread_ends(tdl_m *m);

/* -- The runtime (runtime.c) ------------------------------------------------- */

/* Starts the Ps if they do not run. 0 or a negative code. */
int tdl_runtime_start(void);
/* The poller that the calling thread's descriptors belong to; a plain thread's
 * belong to the first P. NULL and *code. */
tdl_poller *tdl_my_poller(int *code);

#endif
