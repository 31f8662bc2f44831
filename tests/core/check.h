/* SPDX-License-Identifier: MIT
 *
 * What every test program of the core stands on: cmocka runs and reports the
 * tests, this adds what goroutines need.
 *
 * - A TEST body runs on the main thread, a TEST_G body as the main goroutine of
 *   tdl_run. Both register themselves, in the order of the file.
 * - CHECK… may be used on any goroutine and any thread: it notes the failure
 *   and goes on; the test fails at its end. REQUIRE ends the program.
 * - A test that takes longer than its limit is ended with the goroutine dump.
 * - After each test the runtime's numbers (goroutines, channels, connections …)
 *   and the open descriptors must be back to where they were.
 */
#ifndef CHECK_H
#define CHECK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <treadle.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#elif __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) && !defined(UNDER_TSAN)
#define UNDER_TSAN 1
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(UNDER_ASAN)
#define UNDER_ASAN 1
#endif

#if defined(UNDER_TSAN)
#define CHECK_SLOWDOWN 8
#elif defined(UNDER_ASAN) || defined(UNDER_EMULATOR)
#define CHECK_SLOWDOWN 5
#else
#define CHECK_SLOWDOWN 1
#endif

/* A number of rounds, fewer where a sanitizer slows them down. */
#define SCALE(n) ((n) / CHECK_SLOWDOWN > 0 ? (n) / CHECK_SLOWDOWN : 1)

/* -- Tests --------------------------------------------------------------- */

void check_add(const char *name, void (*body)(void), int in_goroutine);

#define CHECK_TEST_(fn, text, in_g)                                            \
    static void fn(void);                                                      \
    __attribute__((constructor)) static void fn##_add(void) {                  \
        check_add(text, fn, in_g);                                             \
    }                                                                          \
    static void fn(void)
#define TEST(fn, text)   CHECK_TEST_(fn, text, 0)
#define TEST_G(fn, text) CHECK_TEST_(fn, text, 1)

/* Gives the running test another limit than the usual 20 s (stretched under a
 * sanitizer). */
void check_limit(int seconds);
/* The running test may leave descriptors open that belong to the runtime. */
void check_keeps_fds(void);
/* Ends the running test early, as skipped; to be followed by return. */
void check_skip(const char *why);
/* Runs body as the main goroutine of a run. */
void check_run(void (*body)(void));
/* Checks of the running test that have failed so far. */
int check_failures(void);

/* -- Checks -------------------------------------------------------------- */

int check_true(int ok, const char *file, int line, const char *what);
int check_equal(int64_t got, int64_t want, const char *file, int line, const char *what);
int check_code(int64_t got, int64_t want, const char *file, int line, const char *what);
int check_within(int64_t got, int64_t low, int64_t high, const char *file, int line, const char *what);
void check_require(int ok, const char *file, int line, const char *what);

#define CHECK(cond)             check_true(!!(cond), __FILE__, __LINE__, #cond)
#define CHECK_INT(got, want)    check_equal((int64_t)(got), (int64_t)(want), __FILE__, __LINE__, #got)
/* got is a result code: 0 or more, a negated errno or a TDL_E… */
#define CHECK_RC(got, want)     check_code((int64_t)(got), (int64_t)(want), __FILE__, __LINE__, #got)
#define CHECK_WITHIN(got, low, high) \
    check_within((int64_t)(got), (int64_t)(low), (int64_t)(high), __FILE__, __LINE__, #got)
#define REQUIRE(cond)           check_require(!!(cond), __FILE__, __LINE__, #cond)

/* -- Crews: goroutines and threads that are waited for together ----------- */

enum { CREW_MAX_THREADS = 64 };

typedef struct crew {
    tdl_waitgroup *wg;
    pthread_t      threads[CREW_MAX_THREADS];
    int            nthreads;
} crew;

void crew_open(crew *c);
void crew_go(crew *c, void (*fn)(void *), void *arg);     /* a goroutine */
void crew_thread(crew *c, void (*fn)(void *), void *arg); /* a plain thread */
/* One or the other. */
void crew_start(crew *c, int thread, void (*fn)(void *), void *arg);
void crew_wait(crew *c); /* for all of them; the crew may be used again */
void crew_close(crew *c); /* waits, and gives everything back */

/* -- Small helpers --------------------------------------------------------- */

tdl_g *go_joinable(void (*fn)(void *), void *arg);
int send_int(tdl_chan *ch, int64_t i);
int64_t recv_int(tdl_chan *ch); /* fails the test unless an int arrives */
/* Gives other goroutines and threads time to reach the call they wait in. A
 * test must hold whether or not they got there. */
void let_park(void);
int open_fds(void);
/* What malloc has given out; 0 where the C library does not tell. */
int64_t heap_bytes(void);
uint64_t random_next(uint64_t *state); /* splitmix64 */

#endif
