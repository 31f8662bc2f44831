/* SPDX-License-Identifier: MIT
 *
 * Inside the checker: its state, and what its parts offer each other.
 *
 * All of it lies in one mapping at a fixed address, outside the program's data,
 * which is put back to what setup left before each schedule. cur is NULL in
 * setup and check: then operations just act on the memory.
 */
#ifndef MODEL_ENGINE_H
#define MODEL_ENGINE_H

#include <setjmp.h>

#include "model.h"
#include "model_atomic.h"

enum {
    LOCATIONS = 504,
    VIEW = MODEL_THREADS + LOCATIONS,
    MESSAGES = 1 << 14,
    VIEW_POOL = 1 << 21,
    DEPTH = 1 << 15, /* choices in a schedule */
    STEPS = 6000,    /* more are a livelock */
    PAUSES = 200,    /* as are more with nobody else able to go on */
    SOFT = 16,
    STACK = 64 << 10,
    ARENA = 4 << 20,
    DATA = 1 << 20, /* the program's static data, at most */
    SHARES = 4096,
    FDS = 16,
};

/* Timestamps: what a thread, or who reads a message, knows to have happened. The
 * first MODEL_THREADS entries are the threads' clocks (happens-before), the rest
 * says how old a value of each location may be. */
typedef int16_t stamp;

typedef struct message {
    uint64_t value;
    struct message *older;
    const stamp *view; /* what an acquiring reader gets; NULL: nothing */
    int nview;
    stamp at; /* its place in the location's order */
    const model_site *site;
} message;

/* What is known of an address over all schedules: which threads ever read it
 * and which write it (a bit each). Before an operation that meets no other's,
 * nobody needs to be preempted. */
typedef struct share {
    uintptr_t addr;
    uint8_t readers, writers;             /* found now */
    uint8_t known_readers, known_writers; /* when the exploration began */
} share;

typedef struct location {
    uintptr_t addr;
    size_t size;
    int id; /* index in views */
    message *last;
    int read, written, seq; /* the last step that did */
} location;

/* The step that a thread was preempted before. As long as nothing is done that
 * it meets, it need not go on: to do it first, and be preempted before the next
 * one, is the same. */
typedef struct held_step {
    const location *l; /* NULL: none */
    int since;
    bool writes, seq;
} held_step;

enum { T_NONE, T_READY, T_WAITING, T_PAUSED, T_DONE };

typedef struct thread {
    void *sp;
    int id;
    uint8_t state;
    bool daemon, timed, timed_out;
    const char *name;
    void (*run)(void *);
    void *arg, *user;
    bool (*ready)(void *);
    void *ready_arg;
    held_step held;
    int pauses;
    uint64_t stamp; /* PAUSED: of the last write when it paused */
    int nrel, nacq, nsoft;
    struct {
        int id;
        stamp at;
    } soft[SOFT]; /* stores that a compiler might still move behind what follows */
    bool early;   /* loads that a compiler might have moved before the last fence: */
    stamp early_view[VIEW];
    stamp view[VIEW];
    stamp rel[VIEW]; /* at its last fence: what its relaxed stores carry */
    stamp acq[VIEW]; /* of relaxed loads: known after its next fence */
} thread;

enum { CHOOSE_SWITCH, CHOOSE_NEXT, CHOOSE_READ, CHOOSE_FREE };

typedef struct engine {
    const model_scenario *scenario;
    struct model_bounds bounds;

    /* this schedule */
    thread *cur;
    thread threads[MODEL_THREADS];
    int nthreads;
    void *main_sp;
    int preempt_left, stale_left, timeouts_left, spurious_left;
    int steps, forced;
    int disturbed; /* the last step with an effect that is no location's: see memory.c */
    bool asking;    /* whether somebody who waits may go on */
    bool redundant; /* another schedule does the same */
    uint64_t writes; /* by anybody, so far */
    int64_t now;
    int kicks;
    bool trace, failed;
    char failure[1024];
    sigjmp_buf out; /* of a check that fails, or a crash */

    /* memory */
    uint32_t generation;
    int nlocations, nmessages, npool;
    stamp sc[VIEW];
    location locations[LOCATIONS];
    struct {
        uintptr_t addr;
        uint32_t generation;
        int id;
    } table[1024];
    message messages[MESSAGES];
    stamp pool[VIEW_POOL];
    stamp fd_views[FDS][VIEW]; /* of each eventfd: what its writers knew */
    share shares[SHARES];
    int nshares;
    bool share_found; /* an address turned out to be shared: explore again */

    /* choices */
    struct {
        uint8_t chosen, n;
    } path[DEPTH];
    int depth, planned;
    bool all_points; /* before operations that meet no other's, too */
    bool reduce;     /* held steps are held */
    uint8_t *full;   /* NULL, or where to note the choices as they are with all_points */
    int nfull;
    bool random;
    uint64_t rng;
    int calm; /* random: one of so many choices is a deviation */

    uint64_t *outcomes; /* NULL, or a set of hashes of what memory was in the end */
    int noutcomes;
    bool compare_all; /* without reduction, whatever the options say */

    /* memory that is put back */
    char *data, *data_end; /* the program's */
    char *data_saved, *arena_saved;
    size_t arena_used, arena_kept;
} engine;

#define E ((engine *)UINT64_C(0x100000000000))
#define MODEL_ARENA ((char *)UINT64_C(0x110000000000)) /* ARENA bytes, then the stacks */

/* explore.c */
unsigned engine_choose(unsigned n, int kind);
void engine_trace(const model_site *site, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void engine_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* thread.c */
void threads_start(void); /* runs the schedule to its end */
void engine_point(held_step next); /* another thread may go on here */
void engine_no_point(void);        /* … or might, with all_points */
_Noreturn void engine_leave(void);
void engine_disturb(void);

/* memory.c */
void memory_reset(void);
void memory_spawn(thread *child); /* child knows what cur knows */
void memory_join(thread *done);
void memory_copy_view(stamp *to); /* for the seam: hands over what cur knows … */
void memory_join_view(const stamp *from);
void memory_plain_write(uintptr_t addr, size_t size); /* after it */
void model_lock_wait(volatile uint32_t *held, const model_site *site); /* and takes it */

/* race.c */
void race_init(void);
void race_reset(void);
void race_access(uintptr_t addr, size_t size, bool write, uintptr_t pc);
void race_released(uintptr_t addr, size_t size);
void race_where(char *out, size_t size, uint32_t pc); /* file and line */

#endif
