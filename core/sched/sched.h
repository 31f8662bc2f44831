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
 * P  the right to run goroutines: queues, timers, poller, free Gs. An M that is
 *    out of work keeps its P and sleeps in the P's own poller, so that waking is
 *    one write and an fd has one home. An M whose goroutine holds it up loses
 *    its P to another M (sysmon.c, block.c); its goroutine runs on without.
 *
 * Who may touch what: fields of a P belong to the M that has it, while that is
 * in the runtime (own.h); fields of an M belong to itself (in TSan's eyes: to
 * several fibers, hence TDL_NO_TSAN); unless they are atomic or said to be
 * under sched.lock.
 *
 * Where what is: queue.c makes goroutines runnable; sched.c switches and finds
 * the next; idle.c sleeps and wakes; spare.c keeps threads without a P; block.c
 * gives a P away (blocking calls, pinning); sysmon.c takes it away; resize.c
 * changes how many there are.
 */
#ifndef TDL_SCHED_SCHED_H
#define TDL_SCHED_SCHED_H

#include <pthread.h>

#include "sched/op.h"
#include "sched/poll.h"
#include "sched/runq.h"
#include "treadle.h"

enum { TDL_MAX_P = 1024, TDL_NAME = 32, TDL_STACK_CLASSES = 5 };

/* What a G is doing; for dumps, except DEAD, which says the slot is free. */
enum { G_DEAD, G_RUNNABLE, G_RUNNING, G_WAITING, G_BLOCKED, G_DONE };

/* Lies on the goroutine's own stack, and is taken off in the end by who put it on. */
typedef struct tdl_at_exit {
    struct tdl_at_exit *outer;
    void (*fn)(struct tdl_at_exit *self);
} tdl_at_exit;

/* What each goroutine needs comes first: a spawn, a dispatch and an exit touch
 * the first two cache lines, and the stack's first, which is next to them. */
struct tdl_g {
    tdl_g *next;
    _Atomic uint8_t status;
    _Atomic uint8_t cancelled; /* sticky; pairs with tdl_op_commit */
    uint8_t flags;             /* TDL_GO_… */
    uint8_t woken;             /* was readied, not spawned and not put back: see queue.c */
    uint8_t stack;             /* stackful: its stack's class; see stack.h */
    bool counted;              /* stackful: see census.h */
    bool named;                /* it has a name: tdl_g_name */
    uint64_t id;
    union {
        struct { /* stackful; its name lies behind the G */
            void *sp; /* of a G that is not running */
            void (*fn)(void *);
            void *arg;
            const void *site; /* where it was spawned: an address in the code */
            uint64_t parent;
            struct tdl_at_exit *at_exit; /* what tdl_goexit calls first */
            uint32_t blocks;             /* depth of tdl_block_begin */
            uint32_t pins;               /* depth of tdl_pin */
            /* joinable: */
            tdl_lock join_lock;
            uint8_t joining; /* under join_lock: somebody waits, or takes it now */
            uint8_t ended;   /* under join_lock */
            tdl_queue joiner;
        };
        struct { /* hosted: op.kind is OP_OF_TASK */
            struct tdl_host *host;
            struct tdl_poller *host_poller;
            void (*task_ready)(tdl_g *g);
            uint32_t task;
            uint8_t pending; /* host thread: an op or an event is outstanding */
            uint8_t queued;  /* host thread: in the ready list */
            uint8_t parked;  /* under host's park lock */
            char task_name[TDL_NAME];
        };
    };
    tdl_op op;
    uint64_t sim; /* a simulation's note: see sim/choose.c */
#ifdef TDL_TSAN
    void *fiber;
#endif
#ifdef TDL_ASAN
    void *fake_stack;
#endif
};

static inline const char *tdl_g_name(const tdl_g *g) {
    if (!g->named) return "";
    return g->op.kind == OP_OF_TASK ? g->task_name : (const char *)(g + 1);
}
void tdl_g_set_name(tdl_g *g, const char *name);

/* Free Gs with stacks, by class. */
typedef struct tdl_stacks {
    tdl_g *list[TDL_STACK_CLASSES];
    uint32_t n[TDL_STACK_CLASSES];
} tdl_stacks;

typedef struct tdl_p tdl_p;
typedef struct tdl_m tdl_m;

/* tdl_m.deny of a thread in a simulation: its blocking forms begin with a point
 * where others may run (core/sim). */
enum { TDL_SIMULATED = 1 };
/* Bits of tdl_sched.special. */
enum { TDL_SPECIAL_FORKED = 1, TDL_SPECIAL_SIMULATED = 2 };

/* What is to be done once a goroutine's stack has been left. */
enum { AFTER_NOTHING, AFTER_PARK, AFTER_YIELD, AFTER_REJOIN, AFTER_ABANDON, AFTER_EXIT };

/* What a spare M is woken for. */
enum { CALL_NONE, CALL_RUN, CALL_END };

struct tdl_m {
    tdl_g *g;               /* the goroutine it runs; NULL on its own stack */
    _Atomic(tdl_p *) p;     /* worker Ms: see own.h. Written under sched.lock */
    _Atomic uint32_t busy;  /* in the runtime: see own.h */
    _Atomic(int) deny;      /* why blocking forms are refused: TDL_EHOST, TDL_EFORKED …, or 0; TDL_SIMULATED: they are not.
                               Relaxed, as host and host_poller: its own thread's, but for tdl_host_move, whose caller
                               keeps that thread from what they say */
    uint32_t bubble;        /* the simulation in which it runs; 0: none */
    _Atomic(struct tdl_host *) host; /* host Ms: the host opened last; under the hosts' list lock */
    _Atomic(struct tdl_poller *) host_poller;
    _Atomic uint32_t ended; /* its thread has, and left it to its hosts; release, acquire: see tdl_host_adopt */
    uint32_t rng;           /* see tdl_random */
    int after;              /* AFTER_… for after_g, set right before a switch */
    tdl_g *after_g;
    bool spinning;          /* looks for work; counted in sched.nspinning */
    bool batch;             /* events and timers make ready: to the front, not to runnext */
    _Atomic(tdl_g *) pinned; /* whose thread this is; it ends with it */
    bool loose;             /* under sched.lock: its goroutine runs without a P */
    tdl_m *next;            /* under sched.lock: of the loose, the spare or the ended */
    _Atomic uint32_t call;  /* CALL_…, of a spare; futex */
    int tid;                /* worker Ms */
    bool on_system;         /* its goroutine is inside tdl_system_stack */
    tdl_g g0;               /* its own stack, as the scheduler runs on it */
    tdl_op op;              /* plain threads */
    uint64_t who;           /* plain threads: see tdl_thread_who */
    tdl_node *rooms;        /* host Ms: linked by next; see sync/select.c */
    pthread_t thread;       /* worker Ms */
    char *signal_stack;     /* worker Ms: see overflow.c */
#ifdef TDL_ASAN
    void *stack_low; /* of the thread's own stack */
    size_t stack_size;
#endif
};

struct tdl_p {
    int id;
    tdl_m *m;  /* under sched.lock; NULL: none was needed yet, or it was given away idle */
    bool idle; /* under sched.lock: sleeps, on the idle list unless it is retired */
    _Atomic uint32_t attended; /* has descriptors or timers: an M is to wait in its poller, always */
    tdl_p *next_idle;
    _Atomic(tdl_g *) runnext; /* runs next; thieves may take it */
    tdl_runq front;           /* readied by I/O and timers: before the ring, within bounds */
    int front_left;           /* how many more of them before one of the ring */
    tdl_runq runq;
    _Atomic int budget;    /* dispatches until the poller and the timers are asked; the owner's */
    int budget_full;
    _Atomic int64_t asked; /* when they were; the owner's, read by others */
    uint32_t rounds;
    _Atomic uint32_t in_call; /* its goroutine is in a call said to be short: sysmon looks sooner */
    int spin_credit;       /* does spinning before sleep pay? see idle.c */
    int64_t seen, since;   /* sysmon: what it saw last, and since when */
    tdl_stacks stacks;
    uint64_t id_next, id_end;
    _Atomic int64_t spawned, exited; /* written by the owner only */
    tdl_poller poller;
};

/* A list of goroutines through next. */
typedef struct tdl_glist {
    tdl_g *head, *tail;
} tdl_glist;

struct tdl_sched {
    tdl_lock lock;
    tdl_glist global[2];     /* the global queue: the spawned and put back, the woken; under lock */
    _Atomic uint32_t nglobal; /* length of both; written under lock */
    _Atomic uint32_t nwoken;  /* length of the second; written under lock */
    tdl_p *idle;             /* under lock */
    _Atomic uint32_t nidle;  /* length of it; written under lock */
    _Atomic uint32_t nretired_idle; /* retired Ps that sleep; written under lock */
    _Atomic uint32_t nspinning;
    tdl_p *unstaffed;        /* under lock: sysmon is to start a thread for them */
    tdl_m *spare;            /* under lock: Ms without P that sleep */
    tdl_m *loose;            /* under lock: Ms whose goroutine runs without a P */
    tdl_m *ended;            /* under lock: threads to be joined */
    _Atomic uint32_t nloose; /* loose Ms, less those that sleep pinned; see deadlock.c */
    _Atomic uint32_t crowded; /* many compute without a P: only woken goroutines are run. sysmon.c */
    _Atomic uint32_t solo;   /* one P, and nobody may steal: see queue.c. Written by that P's M */
    _Atomic uint32_t active; /* Ps with a lower id may run goroutines; written under lock */
    _Atomic uint32_t watching; /* an idle M looks after the busy Ps: see sched.c */
    _Atomic uint32_t stopping; /* written under lock */
    _Atomic uint32_t nwaking;  /* popped from idle, and not yet woken; raised under lock */
    _Atomic uint32_t running; /* 1: the Ps exist */
    _Atomic int np; /* Ps; 0 when there is no runtime. Release; acquire in tdl_nprocs */
    tdl_p **p;
    _Atomic uint32_t nthreads; /* worker Ms that have not ended, and sysmon; futex of the stop */
    _Atomic uint32_t max_threads; /* 0: the default */
    _Atomic uint32_t spins;  /* looks of an M for work before it sleeps */
    _Atomic int64_t nretaken; /* Ps that were taken by sysmon */
    _Atomic int nasleep;       /* plain threads: this and the next two, see deadlock.c */
    _Atomic int nworkers;      /* threads of the runtime that exist; sysmon while it sleeps */
    _Atomic uint32_t stirs;    /* somebody who slept goes on */
    _Atomic uint64_t ids;
    _Atomic int64_t spawned, exited; /* not by a P */
    _Atomic uint32_t special; /* the process is forked, or simulates: see tdl_refused */
    _Atomic uint32_t bubble;  /* the number of the simulation that runs; 0: none */
    tdl_lock run_lock; /* starting and stopping */
    _Atomic uint32_t in_run;
};

extern struct tdl_sched tdl_sched;

static inline int tdl_nprocs(void) { return at_load_acq(&tdl_sched.np); }

/* The beginning of each call that takes a lock: 0, or why it may not go on.
 * TDL_EFORKED: in the child of a fork the holder of a lock may not exist.
 * TDL_ESIM: the object was made in a simulation (bubble, 0: in none, or there is
 * no object) that the caller is not in. Inside, others may run here: what the
 * caller knows of its M is to be asked after it. */
int tdl_special(uint32_t bubble);
static inline int tdl_refused(uint32_t bubble) {
    return TDL_UNLIKELY(at_load_rlx(&tdl_sched.special)) ? tdl_special(bubble) : 0;
}
static inline bool tdl_forked(void) { return TDL_UNLIKELY(tdl_refused(0)); }

/* May the caller wait on an object of this bubble? 0 or TDL_ESIM. */
int tdl_border(uint32_t bubble);
static inline int tdl_may_wait(uint32_t bubble) {
    return TDL_UNLIKELY(at_load_rlx(&tdl_sched.special)) ? tdl_border(bubble) : 0;
}

/* -- The calling thread ----------------------------------------------------- */

/* The thread's M, read anew each time: a goroutine may come back from a switch
 * on another thread, so neither the value nor the address of a thread-local may
 * be kept over one. That the compiler cannot know; hence a call, or two
 * instructions of which it does not know what they do. */
tdl_m *tdl_m_first_call(void);
#if defined(__x86_64__) && defined(__linux__) && !defined(TDL_TSAN) && !defined(TDL_MODEL)
#define TDL_SELF_INLINE 1
extern _Thread_local tdl_m *tdl_self __attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline tdl_m *tdl_m_self(void) {
    tdl_m *m;
    __asm__ volatile("movq tdl_self@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=r"(m) : : "memory");
    return TDL_LIKELY(m != NULL) ? m : tdl_m_first_call();
}
#else
tdl_m *tdl_m_self(void);
#endif
/* Makes m, a worker's, the calling thread's; NULL: the thread is about to end. */
void tdl_m_adopt(tdl_m *m);
/* For a thread of ours that is about to be started, which must not find that there is no memory: its M, or NULL.
 * It becomes that first of all, and it is given back with its end; tdl_sys.release where it was not started. */
tdl_m *tdl_m_for_thread(void);
void tdl_m_become(tdl_m *m);
void tdl_thread_yield(void);
/* A number below n, evenly enough for scheduling. */
uint32_t tdl_random(uint32_t n);

/* Start of every blocking form: the caller's op, or NULL and in *code why it
 * may not block (TDL_EHOST, TDL_EFORKED, TDL_ECANCELED). */
tdl_m *tdl_caller_denied(tdl_m *m, int *code);
static inline tdl_op *tdl_caller_op(int *code) {
    tdl_m *m = tdl_m_self();
    if (TDL_UNLIKELY(at_load_rlx(&m->deny)) && !(m = tdl_caller_denied(m, code))) return NULL;
    tdl_g *g = m->g;
    if (!g) return &m->op;
    if (TDL_UNLIKELY(at_load_rlx(&g->cancelled))) {
        *code = TDL_ECANCELED;
        return NULL;
    }
    return &g->op;
}

/* -- Making runnable (queue.c) ------------------------------------------------ */

/* Makes a stackful goroutine runnable that has waited. Any thread. */
void tdl_g_ready(tdl_g *g);
/* Puts it behind the runnable ones. */
void tdl_g_requeue(tdl_m *m, tdl_g *g);
/* Puts it on the global queue; and sees that somebody comes for it. */
void tdl_global_put(tdl_g *g);
void tdl_g_to_global(tdl_g *g);
/* Between these, on m's own stack, what is made ready goes to the front. */
void tdl_batch_begin(tdl_m *m);
void tdl_batch_end(tdl_m *m, tdl_p *p);
/* The owner's: the next of the global queue, with more for p's ring. NULL: none. */
tdl_g *tdl_take_global(tdl_p *p, uint32_t max);
/* The next that was woken; what was not waits on the global queue. */
tdl_g *tdl_take_woken(tdl_p *p);
/* What p has goes to the global queue. */
void tdl_p_drain(tdl_p *p);
/* q, p's own, is full: half of it and g go to the global queue. */
void tdl_ring_overflow(tdl_runq *q, tdl_g *g);
/* A pair that hands over to each other through runnext goes behind the ring. */
void tdl_demote_runnext(tdl_p *p);
/* Has p anything to run? Any thread. */
bool tdl_p_has_work(tdl_p *p);
/* Is poller that of the caller's P, which is about to ask it: after a few goroutines, all of
 * them short of late; or (soon) at once? */
bool tdl_p_gathers(const struct tdl_poller *poller, bool soon);

/* -- Switching and finding (sched.c) ------------------------------------------- */

/* Leaves the running goroutine g, whose op is enlisted; returns once it was readied. */
void tdl_g_park(tdl_g *g);
/* Leaves the running goroutine, whose M has no P, for the global queue. */
void tdl_g_rejoin(tdl_g *g);
/* Leaves the running goroutine, pinned to its thread, where the runtime stops. */
void tdl_g_abandon(tdl_g *g);
/* Leaves the running goroutine for good. */
_Noreturn void tdl_g_exit(tdl_g *g);
/* Where a new goroutine begins. */
_Noreturn void tdl_g_entry(void);
/* A worker M's life. */
void *tdl_m_main(void *arg);
/* Ends of parking and exiting, on the next stack. */
void tdl_op_commit(tdl_op *op);
void tdl_g_ended(tdl_m *m, tdl_g *g);
/* Stackful goroutines that exist, those to be joined not. */
int64_t tdl_g_live(void);
/* Cancels g, which lives: its caller sees to that. */
void tdl_g_cancel(tdl_g *g);

/* -- Idling and waking (idle.c) -------------------------------------------------- */

void tdl_wake_one(void);

/* After a goroutine was made visible: somebody idle should come and look. */
static inline void tdl_wake_if_idle(void) {
    if (at_load_seq(&tdl_sched.nidle) != 0 && at_load_seq(&tdl_sched.nspinning) == 0) tdl_wake_one();
}

/* Sleeps in the poller until there is something to do here. */
void tdl_idle(tdl_m *m, tdl_p *p);
/* m has found work. */
void tdl_stop_spinning(tdl_m *m);
/* May m go stealing? It counts as spinning then. */
bool tdl_start_spinning(tdl_m *m);
/* Sees to it that a thread waits in p's poller, from now on always. 0 or a negative code. */
int tdl_p_attend(tdl_p *p);
/* p, without an M, becomes idle; under sched.lock. */
void tdl_idle_push(tdl_p *p);
/* p leaves the idle list; under sched.lock. */
void tdl_idle_remove(tdl_p *p);
/* Wakes the M of each idle P. */
void tdl_wake_all(void);

/* -- Threads (spare.c) ------------------------------------------------------------- */

/* Gives p, which has no M, a thread: a spare one or a new one, which comes
 * spinning (nspinning counts for it) . Called under sched.lock, which it gives
 * up. 0, or TDL_ETHREADS, TDL_ENOMEM … and p is idle. */
int tdl_p_staff(tdl_p *p);
/* sysmon's: threads for whom no other could start one. */
void tdl_staff_all(void);
/* Is there a spare thread? If not, one is started, and will be soon. */
bool tdl_spare_ready(void);
/* Waits, without P, until m gets one; NULL: the thread is to end. */
tdl_p *tdl_m_await_p(tdl_m *m);
/* m's goroutine has lost its P, or given it away; has one again. Under sched.lock. */
void tdl_m_loosen(tdl_m *m);
void tdl_m_tighten(tdl_m *m);
/* The calling thread, m's, is about to end. */
void tdl_m_ends(tdl_m *m);
/* Ends spare threads. */
void tdl_spares_end(void);
/* Joins the ended ones. */
void tdl_threads_reap(void);

/* -- Giving P away (block.c) --------------------------------------------------------- */

/* p, which its M has just lost or left, goes where it is needed: to another M,
 * or to the idle ones. Called under sched.lock, which it gives up. */
int tdl_p_place(tdl_p *p);

/* -- sysmon (sysmon.c) ------------------------------------------------------------------ */

/* Starts it, once a runtime. 0 or a negative code. */
int tdl_sysmon_start(void);
void tdl_sysmon_stop(void);
/* A P gets busy: it is to watch. */
void tdl_sysmon_wake(void);
/* There is something to do for it now. */
void tdl_sysmon_ring(void);

/* -- How many Ps (procs.c, resize.c) ----------------------------------------------------- */

/* How many there are to be at the next start. */
int tdl_procs_wanted(void);
/* Sets what the program has asked for (0: nothing); what it was before. */
int tdl_procs_swap(int n);
/* Opens the P of that id, the next, if need be; under run_lock. 0 or a negative code. */
int tdl_p_open(int id);
/* By the solo P's M, between two goroutines: does what a resize has left to it. */
void tdl_procs_apply(void);
/* Follows the limits of affinity and cgroup, unless a number was asked for. */
void tdl_procs_refresh(void);

/* -- Deadlock (deadlock.c) ----------------------------------------------------- */

/* Ends the process with the dump and status 2 if nothing can ever happen again.
 * others: threads that are known to do nothing about it, the caller's if it is
 * not a worker's. */
void tdl_deadlock_check(int others);
/* Can nothing happen in the runtime any more, and is every thread of the process
 * known to be asleep for ever, but for others? */
bool tdl_all_asleep(int others);
/* The calling thread has parked, with no deadline. */
void tdl_deadlock_sleeper(const tdl_op *op);
/* Somebody who was known to sleep goes on: before he can have any effect. */
static inline void tdl_deadlock_stir(void) { at_add_seq(&tdl_sched.stirs, 1); }
/* A thread that had parked so was claimed. */
static inline void tdl_deadlock_waker(const tdl_op *op) {
    if (op->kind == OP_OF_PINNED)
        at_add_seq(&tdl_sched.nloose, 1);
    else
        at_sub_seq(&tdl_sched.nasleep, 1);
    tdl_deadlock_stir();
}
/* The calling thread is one of the runtime's and is there (sysmon: and asleep);
 * it will not be any more. */
static inline void tdl_deadlock_rests(void) { at_add_seq(&tdl_sched.nworkers, 1); }
static inline void tdl_deadlock_leaves(void) {
    tdl_deadlock_stir();
    at_sub_seq(&tdl_sched.nworkers, 1);
}

/* -- Stack overflow (overflow.c) ------------------------------------------------ */

/* Installs the handler, once per process. */
void tdl_overflow_watch(void);
/* Gives the calling worker M a stack for signals; back at its end. */
void tdl_overflow_thread(tdl_m *m);
void tdl_overflow_thread_ends(tdl_m *m);

/* -- The runtime (runtime.c) ------------------------------------------------- */

/* Starts the Ps if they do not run. 0 or a negative code. */
int tdl_runtime_start(void);
/* Stops them, as the end of tdl_run does, if they run. 0, or TDL_EBUSY. */
int tdl_runtime_stop(void);
/* The poller that the calling thread's descriptors belong to; a plain thread's
 * belong to the first P. NULL and *code. */
tdl_poller *tdl_my_poller(int *code);

#endif
