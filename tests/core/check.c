/* SPDX-License-Identifier: MIT
 * The test harness of check.h: registration, checks, watchdog, crews. */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#ifdef TDL_UV_TSAN
#include <sanitizer/common_interface_defs.h>
#endif

enum { MAX_TESTS = 128, USUAL_LIMIT = 20, DUMP_LIMIT = 5 };

typedef struct test {
    const char *name;
    void (*body)(void);
    int in_goroutine;
} test;

static test tests[MAX_TESTS];
static int  test_count;

static atomic_int   failures;
static const char  *skipped;
static int          keeps_fds;

/* -- Watchdog -------------------------------------------------------------- */

static pthread_mutex_t dog_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  dog_cond;
static int64_t         dog_deadline; /* 0: no test runs */
static const char     *dog_test;

static int64_t clock_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void bite(void) {
    fprintf(stderr, "\n%s: hangs; the goroutines are:\n", dog_test);
    alarm(DUMP_LIMIT); /* in case the dump hangs too */
    tdl_dump(2);
    fprintf(stderr, "\n%s: ended by the watchdog\n", dog_test);
    _exit(97);
}

static void *watch(void *arg) {
    (void)arg;
    pthread_mutex_lock(&dog_lock);
    for (;;) {
        if (dog_deadline == 0) {
            pthread_cond_wait(&dog_cond, &dog_lock);
            continue;
        }
        if (clock_ns() >= dog_deadline) bite();
        struct timespec ts = { dog_deadline / 1000000000, dog_deadline % 1000000000 };
        pthread_cond_timedwait(&dog_cond, &dog_lock, &ts);
    }
    return NULL;
}

static void dog_set(int seconds, const char *name) {
    int stretch = CHECK_SLOWDOWN > 1 ? 3 : 1;
    pthread_mutex_lock(&dog_lock);
    dog_deadline = seconds ? clock_ns() + seconds * stretch * INT64_C(1000000000) : 0;
    if (name) dog_test = name;
    pthread_cond_signal(&dog_cond);
    pthread_mutex_unlock(&dog_lock);
}

static void dog_start(void) {
    pthread_condattr_t attr;
    pthread_t          thread;
    sigset_t           all, old;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&dog_cond, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all); /* the tests' signals are not for this thread */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&thread, NULL, watch, NULL) != 0) abort();
    pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void check_limit(int seconds) { dog_set(seconds, NULL); }

/* -- Checks ---------------------------------------------------------------- */

static int note(const char *file, int line, const char *format, ...) {
    char    text[400];
    va_list args;
    int     n = snprintf(text, sizeof text, "%s:%d: ", file, line);
    va_start(args, format);
    vsnprintf(text + n, sizeof text - (size_t)n, format, args);
    va_end(args);
    if (atomic_fetch_add(&failures, 1) < 20) fprintf(stderr, "%s\n", text);
    return 0;
}

int check_true(int ok, const char *file, int line, const char *what) {
    return ok ? 1 : note(file, line, "not true: %s", what);
}

int check_equal(int64_t got, int64_t want, const char *file, int line, const char *what) {
    return got == want ? 1 : note(file, line, "%s is %" PRId64 ", not %" PRId64, what, got, want);
}

int check_code(int64_t got, int64_t want, const char *file, int line, const char *what) {
    if (got == want) return 1;
    return note(file, line, "%s is %" PRId64 " %s, not %" PRId64 " %s", what, got,
                got < 0 ? tdl_errname((int)got) : "", want, want < 0 ? tdl_errname((int)want) : "");
}

int check_within(int64_t got, int64_t low, int64_t high, const char *file, int line, const char *what) {
    if (got >= low && got <= high) return 1;
    return note(file, line, "%s is %" PRId64 ", not within %" PRId64 " and %" PRId64, what, got, low, high);
}

void check_require(int ok, const char *file, int line, const char *what) {
    if (ok) return;
    note(file, line, "cannot go on without: %s", what);
    alarm(DUMP_LIMIT);
    tdl_dump(2);
    _exit(96);
}

int check_failures(void) { return atomic_load(&failures); }
void check_skip(const char *why) { skipped = why; }
void check_keeps_fds(void) { keeps_fds = 1; }

/* -- What a test must leave as it found it ---------------------------------- */

static const char *const numbers[] = { "goroutines", "tasks", "channels", "connections", "listeners", "datagrams", "descriptors", "files", "processes",
                                       "timers", "contexts" };
enum { NUMBERS = sizeof numbers / sizeof *numbers };

typedef struct state {
    int64_t number[NUMBERS];
    int     fds;
} state;

static void look(state *s) {
    for (int i = 0; i < NUMBERS; i++) s->number[i] = tdl_metric(numbers[i]);
    s->fds = open_fds();
}

static int settled(const state *a, const state *b) {
    for (int i = 0; i < NUMBERS; i++)
        if (a->number[i] != b->number[i]) return 0;
    return keeps_fds || b->fds <= a->fds; /* fewer: the runtime has put its own away */
}

static void compare(const char *name, const state *before) {
    state after;
    /* Threads that the test has joined are gone, those of the runtime may still
     * be putting things away. */
    for (int i = 0; i < 200; i++) {
        look(&after);
        if (settled(before, &after)) return;
        usleep(10000);
    }
    for (int i = 0; i < NUMBERS; i++)
        if (before->number[i] != after.number[i])
            note(name, 0, "leaves %" PRId64 " %s where there were %" PRId64, after.number[i], numbers[i],
                 before->number[i]);
    if (!keeps_fds && after.fds > before->fds)
        note(name, 0, "leaves %d descriptors where there were %d", after.fds, before->fds);
}

int64_t heap_bytes(void) {
#ifdef __GLIBC__
    return (int64_t)mallinfo2().uordblks;
#else
    return 0;
#endif
}

int open_fds(void) {
    DIR *dir = opendir("/proc/self/fd");
    int  n = 0;
    REQUIRE(dir != NULL);
    while (readdir(dir) != NULL) n++;
    closedir(dir);
    return n - 3; /* ".", ".." and dir itself */
}

/* -- Running --------------------------------------------------------------- */

/* cmocka takes over the signals of a crash and jumps back to the test's
 * frame, which is on another stack than the goroutine that crashed. */
static const int crash_signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
enum { CRASH_SIGNALS = sizeof crash_signals / sizeof *crash_signals };
static struct sigaction crash_actions[CRASH_SIGNALS];

static void keep_crash_actions(void) {
    for (int i = 0; i < CRASH_SIGNALS; i++) sigaction(crash_signals[i], NULL, &crash_actions[i]);
}

static void restore_crash_actions(void) {
    for (int i = 0; i < CRASH_SIGNALS; i++) sigaction(crash_signals[i], &crash_actions[i], NULL);
}

static int in_main_g(void *arg) {
    void (*body)(void);
    memcpy(&body, arg, sizeof body);
    body();
    return 0;
}

void check_run(void (*body)(void)) { CHECK_RC(tdl_run(in_main_g, &body), 0); }

static void run_one(void **arg) {
    const test *t = *arg;
    state       before;
    restore_crash_actions();
    atomic_store(&failures, 0);
    skipped = NULL;
    keeps_fds = 0;
    look(&before);
    dog_set(USUAL_LIMIT, t->name);
    if (t->in_goroutine)
        check_run(t->body);
    else
        t->body();
    dog_set(0, NULL);
    compare(t->name, &before);
    keep_crash_actions();
    int n = atomic_load(&failures);
    if (n > 0) fail_msg("%d check%s failed", n, n == 1 ? "" : "s");
    if (skipped) {
        print_message("skipped: %s\n", skipped);
        skip();
    }
}

void check_add(const char *name, void (*body)(void), int in_goroutine) {
    if (test_count == MAX_TESTS) abort();
    tests[test_count++] = (test){ name, body, in_goroutine };
}

/* Waits for what does not come: a poller is opened, and libuv keeps a pipe of its first loop. */
static void first(void) {
    int     p[2];
    tdl_fd *f = NULL;
    if (pipe(p) != 0) return;
    if (tdl_fd_adopt(p[0], &f) == 0) {
        tdl_fd_set_deadline(f, tdl_now() + TDL_MILLISECOND);
        tdl_fd_wait_readable(f);
        tdl_fd_free(f);
    }
    close(p[1]);
}

/* usage: test_x [pattern]   runs the tests whose name the pattern matches */
int main(int argc, char **argv) {
    struct CMUnitTest list[MAX_TESTS];
    setvbuf(stdout, NULL, _IONBF, 0);
    memset(list, 0, sizeof list);
    for (int i = 0; i < test_count; i++) {
        list[i].name = tests[i].name;
        list[i].test_func = run_one;
        list[i].initial_state = &tests[i];
    }
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    keep_crash_actions();
    dog_start();
    dog_set(USUAL_LIMIT, "the first run");
#ifdef TDL_UV_TSAN /* its suppressions need names: the program that finds them has two pipes, and stays */
    char name[64];
    __sanitizer_symbolize_pc(__builtin_return_address(0), "%f", name, sizeof name);
#endif
    check_run(first); /* what the runtime keeps from its first run is not a leak */
    dog_set(0, NULL);
    const char *slash = strrchr(argv[0], '/');
    return _cmocka_run_group_tests(slash ? slash + 1 : argv[0], list, (size_t)test_count, NULL, NULL);
}

/* -- Crews ------------------------------------------------------------------ */

typedef struct member {
    crew *crew;
    void (*fn)(void *);
    void *arg;
} member;

static member *member_new(crew *c, void (*fn)(void *), void *arg) {
    member *m = malloc(sizeof *m);
    REQUIRE(m != NULL);
    *m = (member){ c, fn, arg };
    CHECK_RC(tdl_waitgroup_add(c->wg, 1), 0);
    return m;
}

static void member_run(void *arg) {
    member m = *(member *)arg;
    free(arg);
    m.fn(m.arg);
    CHECK_RC(tdl_waitgroup_done(m.crew->wg), 0);
}

static void *member_thread(void *arg) {
    member_run(arg);
    return NULL;
}

void crew_open(crew *c) {
    memset(c, 0, sizeof *c);
    c->wg = tdl_waitgroup_new();
    REQUIRE(c->wg != NULL);
}

void crew_go(crew *c, void (*fn)(void *), void *arg) { REQUIRE(tdl_go(member_run, member_new(c, fn, arg)) != NULL); }

void crew_thread(crew *c, void (*fn)(void *), void *arg) {
    REQUIRE(c->nthreads < CREW_MAX_THREADS);
    REQUIRE(pthread_create(&c->threads[c->nthreads++], NULL, member_thread, member_new(c, fn, arg)) == 0);
}

void crew_start(crew *c, int thread, void (*fn)(void *), void *arg) {
    if (thread)
        crew_thread(c, fn, arg);
    else
        crew_go(c, fn, arg);
}

void crew_wait(crew *c) {
    CHECK_RC(tdl_waitgroup_wait(c->wg), 0);
    while (c->nthreads > 0) pthread_join(c->threads[--c->nthreads], NULL);
}

void crew_close(crew *c) {
    crew_wait(c);
    tdl_waitgroup_free(c->wg);
}

/* -- Small helpers ----------------------------------------------------------- */

tdl_g *go_joinable(void (*fn)(void *), void *arg) {
    tdl_go_options o = { .size = sizeof o, .flags = TDL_GO_JOINABLE };
    tdl_g         *g = tdl_go_opts(fn, arg, &o);
    REQUIRE(g != NULL);
    return g;
}

int send_int(tdl_chan *ch, int64_t i) {
    tdl_val v;
    tdl_val_set_int(&v, i);
    return tdl_chan_send(ch, &v);
}

int64_t recv_int(tdl_chan *ch) {
    tdl_val v;
    CHECK_RC(tdl_chan_recv(ch, &v), 0);
    CHECK_INT(tdl_val_type(&v), TDL_INT);
    return tdl_val_int(&v);
}

void let_park(void) {
    for (int i = 0; i < 10; i++) tdl_yield();
    tdl_sleep(2 * TDL_MILLISECOND);
}

uint64_t random_next(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}
