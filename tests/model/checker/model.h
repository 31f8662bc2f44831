/* SPDX-License-Identifier: MIT
 *
 * What a scenario sees of the model checker.
 *
 * A scenario is a handful of threads that run the core's real code. Each runs
 * as a coroutine; each atomic operation is a step, before which another thread
 * may go on. The checker runs the scenario again and again, until it has seen
 * every schedule with at most so many preemptions, and in each of them every
 * value that a load may return with at most so many loads of an old value
 * (memory.c says which). It finds: a failed CHECK, a deadlock, a livelock, a
 * data race between plain accesses, an access to released memory.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MODEL_THREADS = 8 };

typedef struct model_scenario {
    const char *name;
    void (*setup)(void); /* once; every schedule starts from the memory it leaves */
    struct {
        const char *name;
        void (*run)(void);
        bool daemon; /* may be asleep when all is over */
    } thread[MODEL_THREADS];
    void (*check)(void); /* after each schedule; may be NULL */
    struct model_bounds {
        int preempt;  /* preemptions in a schedule */
        int stale;    /* loads that return an old value */
    } quick, full;    /* in a test run; in a long run */
    int timeouts;     /* how often a wait with a deadline may end by it */
    int spurious;     /* how often a futex wait may end for no reason */
    bool real_locks;  /* a tdl_lock is itself what is looked at */
} model_scenario;

/* Of the program; the last has no name. */
extern const model_scenario model_scenarios[];

/* -- In a scenario's threads and its check --------------------------------- */

#define CHECK(condition, ...)                                                  \
    do {                                                                       \
        if (!(condition)) model_fail(__VA_ARGS__);                             \
    } while (0)

_Noreturn void model_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Any of 0 … n-1: each is tried. */
unsigned model_choose(unsigned n);

/* The calling thread: its number, and a pointer of its own (tdl_m_self). */
int model_self(void);
void *model_get_user(void);
void model_set_user(void *user);

/* Waits until another thread has made ready() true. */
void model_wait(bool (*ready)(void *), void *arg);
/* The same, with a time limit: false when that was over first. */
bool model_wait_timed(bool (*ready)(void *), void *arg);

/* A thread more, from within one. Its number. */
int model_spawn(const char *name, void (*run)(void *), void *arg, bool daemon);
/* Waits for its end. */
void model_join(int thread);

/* A note in the trace of a failing schedule. */
void model_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Virtual time, in nanoseconds; it moves only by hand. */
int64_t model_now(void);
void model_advance(int64_t ns);

/* Memory that is put back after each schedule. */
void *model_alloc(size_t size);
void model_release(void *p);

/* A full barrier in every thread, as membarrier(2). */
void model_membarrier(void);

/* How many pending wake-ups (writes to an eventfd) found one pending already, and
 * how many there were. */
int model_kicks(void);

#endif
