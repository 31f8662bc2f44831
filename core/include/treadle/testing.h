/* SPDX-License-Identifier: MIT
 *
 * For tests of programs: a simulation, in which a seed decides what is otherwise left
 * to chance, and injected faults of the system.
 */
#ifndef TREADLE_TESTING_H
#define TREADLE_TESTING_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -- Simulation -------------------------------------------------------------- */

/* For tests: a whole run on the calling thread alone, under a virtual clock, in
 * which every choice that is otherwise left to chance (which goroutine runs, on
 * which of the virtual processors, where it is interrupted, who steals from whom,
 * which case a select takes) comes from a seed. The same seed, program and library
 * give the same run.
 *
 * The clock starts at start_ns and moves only when every goroutine waits, for a
 * channel, a mutex, a time or anything else of treadle's: then it jumps to the
 * first time that one waits for. When there is none it is a deadlock. A
 * goroutine may be interrupted wherever it calls treadle, and nowhere else.
 * There is no network (-EOPNOTSUPP) but the pipes of tdl_pipe_new, and what is
 * blocked outside treadle stops everything.
 *
 * What is made inside is for the inside: used by another thread meanwhile, or
 * the other way round where it would have to wait, it is refused with
 * TDL_ESIM. One simulation at a time, and none while goroutines run. */
enum {
    TDL_SIM_RANDOM = 0, /* random changes, as often as the seed says */
    TDL_SIM_PCT    = 1  /* random priorities with depth - 1 changes: finds a bug that needs `depth`
                           events in one order with a known probability (see docs/testing.md) */
};

typedef struct tdl_sim_options {
    uint32_t size;      /* sizeof(tdl_sim_options) */
    int32_t  strategy;  /* TDL_SIM_RANDOM … */
    uint64_t seed;
    int32_t  procs;     /* virtual processors, at most 64; 0: 4 */
    int32_t  depth;     /* of TDL_SIM_PCT, at most 17; 0: 3 */
    uint64_t max_steps; /* 0: 10 million */
    int64_t  start_ns;  /* what tdl_now() says first; 0: midnight of 1 January 2000, UTC */
    int64_t  max_ns;    /* how far the clock may move; 0: any */
} tdl_sim_options;

enum {
    TDL_SIM_OK       = 0,
    TDL_SIM_DEADLOCK = 1, /* all goroutines are blocked, for ever */
    TDL_SIM_LEFT     = 2, /* main has returned, and others are blocked: time no longer moves then */
    TDL_SIM_STEPS    = 3, /* max_steps: somebody spins */
    TDL_SIM_TIME     = 4, /* max_ns */
    TDL_SIM_LOST     = 5  /* a fault of treadle's own scheduler */
};

typedef struct tdl_sim_report {
    uint64_t    seed, hash;      /* hash: of all that was chosen; equal for equal runs */
    uint64_t    steps, switches; /* where another could have gone on; where one did */
    int64_t     ns;              /* how far the clock has moved */
    int32_t     reason;          /* TDL_SIM_OK … */
    int32_t     result;          /* what main returned */
    int32_t     left;            /* goroutines that were there when main had returned */
    const char *text;            /* what the reason means; a static string */
    const char *dump;            /* unless all is well: tdl_dump at that moment; until the next simulation */
} tdl_sim_report;

/* tdl_run, simulated; it returns once all goroutines have ended or are blocked.
 * main_g's result; TDL_EDEADLOCK, TDL_ELIMIT: see the reason in *r, which may be
 * NULL; or, when it could not begin, what tdl_sim_begin says. o NULL: all 0. */
TDL_API int tdl_sim_run(const tdl_sim_options *o, int (*main_g)(void *), void *arg, tdl_sim_report *r);
/* The same for a host: what the calling thread does in between, with its own
 * host, tdl_run or tdl_go, is simulated. begin: 0; TDL_EBUSY in a goroutine,
 * while goroutines run, or another simulation; TDL_EHOST; TDL_EINVAL; TDL_ENOMEM.
 * When all are blocked, tdl_host_poll returns TDL_EDEADLOCK. end:
 * 0, TDL_EDEADLOCK, TDL_ELIMIT, with the report; TDL_EBUSY while a host is open. */
TDL_API int tdl_sim_begin(const tdl_sim_options *o);
TDL_API int tdl_sim_end(tdl_sim_report *r);
/* Waits until all other goroutines of the simulation wait or have ended; no time
 * passes. Blocking. 0; TDL_EBUSY when another does it; TDL_EINVAL outside a
 * simulation; TDL_ECANCELED. */
TDL_API int tdl_sim_wait(void);
/* A number from the seed, for choices of the test's own; 0 outside. */
TDL_API uint64_t tdl_sim_random(void);

/* -- Faults ------------------------------------------------------------------ */

/* For tests: from now on the calls that treadle makes to the system fail, do less
 * than asked or tell of events late, as often as the text says:
 * "seed=7,short=0.3,eagain=0.1". docs/faults.md lists the names. A rate is from 0 to 1.
 * NULL or "": no longer. TDL_FAULT in the environment is the same, read when
 * something first runs; when it does not parse, nothing runs (TDL_EINVAL), and
 * stderr says why. It costs nothing when it was never set.
 * 0; TDL_EINVAL: the text does not parse, see tdl_fault_check; TDL_EBUSY: the
 * first text must come while nothing runs and no host is open, later ones may
 * come at any time. Any caller. */
TDL_API int tdl_fault_set(const char *text);
/* 0 when the text is well-formed; TDL_EINVAL, and what is wrong with it in why, cut to
 * size. Any caller. */
TDL_API int tdl_fault_check(const char *text, char *why, size_t size);
/* How often the fault of that name was injected since the last tdl_fault_set; NULL:
 * all of them together. TDL_EINVAL: there is no such fault. Any caller. */
TDL_API int64_t tdl_fault_count(const char *what);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_TESTING_H */
