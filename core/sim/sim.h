/* SPDX-License-Identifier: MIT
 *
 * Simulation: the whole runtime on one thread, repeatable from a seed.
 *
 * It is a table of the seam (system.c). Behind it threads, pollers, futexes
 * and the clock are virtual: each worker M that the runtime starts is a
 * *virtual thread*, the real tdl_m_main on a stack of its own, and so what is
 * simulated are the real queues, the real stealing, idling and waking. The
 * thread that began the simulation, its *driver*, is virtual thread 0 and runs
 * them all, one at a time. Other threads of the process get the real system.
 *
 * A virtual thread goes on until it waits (in the seam) or passes a *point*:
 * the start of a call of treadle's, an M's look for work; in a build with
 * TDL_SIM_ATOMICS also every atomic operation. At a point the strategy (choose.c)
 * says who goes on. Time stands still while anybody can; when nobody can, it
 * jumps to the first of those who wait for it.
 *
 * Who may touch what: everything here belongs to the driver, in whichever
 * stack it is (to TSan: several fibers, hence TDL_NO_TSAN), except
 *   taken, active, driver   which other threads read.
 */
#ifndef TDL_SIM_SIM_H
#define TDL_SIM_SIM_H

#include "sched/ops.h"
#include "sys/sys.h"

enum { VT_READY, VT_WAITING, VT_ENDED };

typedef struct tdl_vthread {
    uint8_t state;
    bool timed_out; /* its last wait ended by time */
    uint32_t priority;
    int last_calls; /* since the end was told */
    bool requeued;  /* its goroutine has been sent behind the others by the strategy */
    int id;
    int at; /* READY: where in sim.ready */
    void *sp;
    tdl_m *m; /* what tdl_m_self says on it */
    void *(*fn)(void *);
    void *arg;
#ifdef TDL_LOCK_RANKS
    tdl_held held[RANKS]; /* the locks it holds, while it is not current */
#endif
    char *stack;    /* NULL: the driver's own */
    const void *on; /* WAITING: for what; NULL: for time alone */
    int64_t until;  /* WAITING: and no longer */
#ifdef TDL_TSAN
    void *fiber;
#endif
#ifdef TDL_ASAN
    void *fake_stack;
    const void *low, *own_low; /* of the stack it was left on; of its own */
    size_t size, own_size;
#endif
} tdl_vthread;

/* A virtual poller's state (pollers.c). */
typedef struct tdl_vpoller {
    bool open, signalled;
} tdl_vpoller;

enum { SIM_MAX_THREADS = 1024, SIM_MAX_POLLERS = 1024, SIM_FD = 1 << 29 };

/* What a point is. ENTRY: the start of a blocking call, no lock is held; CALL: of
 * any other, which the core may have made, under a lock; LOOK: an M is about to
 * run a goroutine; CORE: anywhere in the core. */
enum { POINT_ENTRY, POINT_CALL, POINT_LOOK, POINT_CORE };

struct tdl_sim {
    _Atomic int taken;  /* at most one simulation */
    _Atomic int active; /* release; acquire in tdl_sim_mine */
    pthread_t driver;
    uint32_t number; /* of this simulation; the bubble of what is made in it */
    struct tdl_sys outside; /* the table that was there before */
    tdl_sim_options opts;

    tdl_vthread *threads[SIM_MAX_THREADS]; /* kept for the next simulation */
    int nthreads;
    tdl_vthread *ready[SIM_MAX_THREADS];
    int nready;
    tdl_vthread *current;
    tdl_vpoller pollers[SIM_MAX_POLLERS];
    int npollers;
    tdl_m clock; /* who completes operations when all sleep */

    int64_t now;
    uint64_t rng, id_base;
    uint64_t steps, switches, hash;
    bool busy; /* in the strategy itself: no point */

    tdl_op *waiter; /* of tdl_sim_wait */
    tdl_op *ender;  /* main has returned, and waits for the others: time is over */
    int reason;     /* TDL_SIM_…, once it is known */
    int left;       /* goroutines that were there then */
    bool told;      /* to the host */
    uint64_t last_steps; /* taken since */
    char *dump;

    /* the strategy's: see choose.c */
    uint32_t switch_odds, core_odds, requeue_odds, reorder_odds, budget;
    uint64_t change_at[16];
    int nchanges;
    uint32_t low; /* the next priority below all others */
    uint64_t last_who, run_of;
};

extern struct tdl_sim tdl_sim;

/* Is the calling thread the driver of a simulation? */
static inline bool tdl_sim_mine(void) {
    return at_load_acq(&tdl_sim.active) && pthread_equal(tdl_sim.driver, pthread_self());
}

/* -- Virtual threads (vthread.c) ------------------------------------------------ */

/* The driver becomes virtual thread 0. 0 or TDL_ENOMEM. */
int tdl_vthread_driver(void);
/* A new one, ready to run fn(arg); NULL. */
tdl_vthread *tdl_vthread_new(void *(*fn)(void *), void *arg);
/* The current one waits until tdl_vthread_wake(on) or the time: true in time. */
bool tdl_vthread_wait(const void *on, int64_t until);
/* Ends the waits for `on`, at most count; how many. */
int tdl_vthread_wake(const void *on, int count);
/* Time moves to the first who waits for it, but not beyond the limit; that time,
 * or TDL_FOREVER. */
int64_t tdl_vthread_late(int64_t limit);
/* The strategy may let another go on. */
void tdl_sim_point(int kind);
/* The same, when the current one's M has found g: what it runs; NULL: it is gone. */
tdl_g *tdl_sim_look(tdl_g *g);
/* Another must go on, if there is one that can. */
void tdl_sim_pass(void);
/* After a simulation: the stacks stay, for the next. */
void tdl_vthread_forget_all(void);
/* Lowest address and size of the current one's own stack. */
void tdl_vthread_stack(void **low, size_t *size);

/* -- The strategy (choose.c) ------------------------------------------------------ */

void tdl_sim_strategy(void); /* at the beginning */
uint64_t tdl_sim_number64(void);
/* Who goes on, of those ready, of whom one may be the current one. */
tdl_vthread *tdl_sim_choose(int kind);
/* The same, and not the current one. */
tdl_vthread *tdl_sim_other(void);
/* The current one's M is about to run a goroutine, which it has put back on the
 * P's queues: decides which comes first there. */
void tdl_sim_order(tdl_p *p);
/* Is the running goroutine to go behind the others now? */
bool tdl_sim_requeues(void);

/* -- What happens when nobody can go on (sim.c) ------------------------------------- */

/* Makes somebody ready: by tdl_sim_wait, by time, or by ending the simulation. */
void tdl_sim_quiet(void);
/* The simulation is over, for this reason: main, or the host, is told. */
void tdl_sim_finish(int reason);
/* Once it is over, the code of that, for a host, which is told once, and whenever
 * it has waited; else 0. */
int tdl_sim_told(bool waited);
/* It has been told, and does not come to its end. */
_Noreturn void tdl_sim_hangs(void);

/* The op of tdl_sim_wait. */
int64_t tdl_sim_wait_op(tdl_op *op);

/* -- The table (system.c) ------------------------------------------------------------ */

void tdl_sim_fill_table(struct tdl_sys *t);
extern const struct tdl_backend tdl_sim_pollers;

#endif
