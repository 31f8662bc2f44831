/* SPDX-License-Identifier: MIT
 * The sweep itself, see sweep.h.
 *
 * usage: sweep [--calls N] [--every K] [--call NAME] [--scenario NAME] [--verbose]
 * K: of all cases, only each K-th, which are spread over all calls, errors and scenarios.
 *
 * Of each injected error it is asked: was it reported, and then once; or else was
 * all the work done; did nothing wait for its deadline; are the descriptors,
 * allocations and the runtime's numbers back where they were. */
#include "sweep.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <treadle.h>
#include <unistd.h>

enum { USUAL_CALLS = 50, LIMIT = 60, WARM_UPS = 3, MOST_SCENARIOS = 32, MOST_CALLS = 128, REPEATS = 4, MOST_SHOWN = 40 };

static struct {
    int         calls, every;
    const char *call, *scenario;
    bool        verbose;
} options = { .calls = USUAL_CALLS, .every = 1 };

typedef struct tally {
    int errors, injected, reported, retried, wrong;
} tally;

static char now_at[200]; /* what is being tried, for the watchdog */
static int  wrong;
static int  makes[MOST_SCENARIOS][MOST_CALLS]; /* how many of each call a scenario makes, at most, when none fails */

/* -- What is left ------------------------------------------------------------------------ */

static int open_fds(void) {
    DIR *dir = opendir("/proc/self/fd");
    int  n = 0;
    if (!dir) return -1;
    while (readdir(dir) != NULL) n++;
    closedir(dir);
    return n - 3;
}

static const char *const numbers[] = { "goroutines", "tasks", "channels", "connections", "listeners", "datagrams",
                                       "descriptors", "timers",   "contexts", "files",       "processes", "watches",
                                       "services" };
enum { NUMBERS = sizeof numbers / sizeof *numbers };

static const char *left_over(void) {
    siginfo_t child = { 0 };
    for (int i = 0; i < NUMBERS; i++)
        if (tdl_metric(numbers[i]) != 0) return numbers[i];
    return waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) == 0 ? "a child" : NULL;
}

/* What the loop's thread and the service threads have still to put away takes a moment. */
static bool is_back(int fds, int64_t live) {
    for (int i = 0; i < 1000; i++) {
        if (!left_over() && (fds < 0 || (open_fds() <= fds && sweep_live() <= live))) return true;
        nanosleep(&(struct timespec){ .tv_nsec = 1000000L }, NULL);
    }
    return false;
}

/* -- One run ------------------------------------------------------------------------------- */

static bool run_once(const scenario *s, int which, int error, int at) {
    sweep_told = (told){ .n = 0 };
    sweep_arm(which, error, at);
    alarm(LIMIT);
    int rc = s->run();
    alarm(0);
    bool failed = sweep_disarm();
    if (rc < 0) sweep_told.codes[sweep_told.n++] = rc;
    return failed;
}

static void hangs(int sig) {
    (void)sig;
    static const char text[] = ": hangs; the goroutines are:\n";
    if (write(2, now_at, strlen(now_at)) < 0 || write(2, text, sizeof text - 1) < 0) _exit(97);
    signal(SIGALRM, SIG_DFL);
    alarm(5);
    tdl_dump(2);
    _exit(97);
}

static void complain(tally *t, const char *what, int code) {
    t->wrong++;
    if (wrong++ >= MOST_SHOWN) return;
    fprintf(stderr, "%s: %s", now_at, what);
    if (code) fprintf(stderr, " %s", tdl_errname(code));
    fputs("; told:", stderr);
    for (int i = 0; i < sweep_told.n; i++) fprintf(stderr, " %s", tdl_errname(sweep_told.codes[i]));
    fputs(sweep_told.done ? " (all done)\n" : " (not done)\n", stderr);
}

/* The names under which an error may be told: memory, descriptors that cannot
 * be polled and names that are not found have codes of treadle's own. */
static bool is_told_as(int code, int error) {
    if (code == -error || code == SWEEP_COUNTED) return true;
    if (error == ENOMEM) return code == TDL_ENOMEM || code == TDL_ESTACKS;
    if (error == EPERM) return code == TDL_ENOPOLL;
    if (error == EAGAIN && code == TDL_ENAMESERVER) return true;
    if (error == ENOENT && code == TDL_ENONAME) return true;
    return (error == EINVAL || error == EAGAIN) && (code == TDL_ENOMEM || code == TDL_ETHREADS);
}

static void judge(tally *t, const scenario *s, int error) {
    int same = 0;
    t->injected++;
    for (int i = 0; i < sweep_told.n; i++) {
        if (sweep_told.codes[i] == -EINTR) complain(t, "an interruption was reported", 0);
        same += is_told_as(sweep_told.codes[i], error) || (s->instead && sweep_told.codes[i] == s->instead);
        if (sweep_told.codes[i] == TDL_ETIMEDOUT && error != ETIMEDOUT) complain(t, "something waited in vain", 0);
    }
    /* both ends of a stream may hear that it is broken */
    bool both = error == ECONNRESET || error == EPIPE || error == ENOTCONN || error == ENOMEM;
    if (same > 1 && !both) complain(t, "reported more than once", 0);
    if (same > 0)
        t->reported++;
    else if (sweep_told.done && sweep_told.n == 0)
        t->retried++;
    else
        complain(t, sweep_told.n ? "reported as" : "swallowed", sweep_told.n ? sweep_told.codes[0] : 0);
}

/* Descriptors and allocations: what grows each time is lost. Some are kept for later. */
static void look_for_leaks(tally *t, const scenario *s, int which, int error, int at) {
    static int     fds = -1;
    static int64_t live = -1;
    is_back(fds, live);
    const char *left = left_over();
    if (left) complain(t, left, 0);
    if (fds < 0) fds = open_fds(), live = sweep_live();
    for (int i = 0;; i++) {
        bool more_fds = open_fds() > fds, more_live = sweep_live() > live;
        if (!more_fds && !more_live) return;
        if (i == REPEATS) {
            complain(t, more_fds ? "a descriptor is lost" : "an allocation is lost", 0);
            return;
        }
        fds = open_fds();
        live = sweep_live();
        run_once(s, which, error, at);
        is_back(fds, live);
    }
}

/* -- All of them ------------------------------------------------------------------------------ */

/* Whose turn is it? A step that is prime to the numbers of errors and calls. */
static bool is_chosen(void) {
    static int cases;
    return cases++ % options.every == 0;
}

static void sweep_one(tally *t, const scenario *s, int which, int error) {
    int most = makes[s - sweep_scenarios][which] + 1; /* an attempt more, perhaps, when one has failed */
    for (int at = 1; at <= options.calls && at <= most; at++) {
        if (!is_chosen()) continue;
        snprintf(now_at, sizeof now_at, "%s: call %d of %s fails with %s", s->name, at, sweep_calls[which].name,
                 tdl_errname(-error));
        if (!run_once(s, which, error, at)) continue; /* it made fewer this time */
        judge(t, s, error);
        if (options.verbose) fprintf(stderr, "%s: %d told, done %d\n", now_at, sweep_told.n, sweep_told.done);
        look_for_leaks(t, s, which, error, at);
    }
}

static bool is_asked_for(const scenario *s) { return !options.scenario || strcmp(options.scenario, s->name) == 0; }

/* What is kept for ever is made now, and the calls are counted. */
static void warm_up(int i) {
    const scenario *s = &sweep_scenarios[i];
    snprintf(now_at, sizeof now_at, "%s: without any error", s->name);
    run_once(s, -1, 0, 0);
    for (int c = 0; c < sweep_ncalls; c++)
        if (sweep_counted(c) > makes[i][c]) makes[i][c] = sweep_counted(c);
    if (sweep_told.done && sweep_told.n == 0) return;
    fprintf(stderr, "%s does not work without any error: %s\n", s->name,
            sweep_told.n ? tdl_errname(sweep_told.codes[0]) : "");
    exit(1);
}

/* The loop of libuv's that signals, children and files share is started once: here each call of that fails
 * once, and the next start begins anew. */
static void sweep_start(tally *all) {
    int   which = sweep_call_named("uv_loop");
    tally t = { 0 };
    for (int i = 0; i < sweep_nscenarios; i++) {
        const scenario *s = &sweep_scenarios[i];
        if (strcmp(s->name, "signals") != 0) continue;
        for (int at = 1, done = 0; at <= 20 && !done; at++) {
            snprintf(now_at, sizeof now_at, "start: call %d of %s fails", at, sweep_calls[which].name);
            if (!run_once(s, which, EMFILE, at)) break;
            judge(&t, s, EMFILE);
            done = sweep_told.done; /* where others have loops, too, the call may have been theirs */
            int fds = open_fds(); /* those that libuv keeps for the process are among them now */
            if (done || !run_once(s, which, EMFILE, at)) break;
            if (open_fds() > fds) complain(&t, "a descriptor is lost", 0);
        }
    }
    printf("%-14s %6d %9d %9d %9d %6d\n", "loop's start", 1, t.injected, t.retried, t.reported, t.wrong);
    all->injected += t.injected;
    all->retried += t.retried;
    all->reported += t.reported;
    all->wrong += t.wrong;
}

static void sweep_call(int which, tally *all) {
    const call *c = &sweep_calls[which];
    tally       t = { 0 };
    while (c->errors[t.errors]) t.errors++;
    for (int i = 0; i < sweep_nscenarios; i++) {
        const scenario *s = &sweep_scenarios[i];
        if (!is_asked_for(s) || makes[i][which] == 0) continue;
        for (int e = 0; e < t.errors; e++) sweep_one(&t, s, which, c->errors[e]);
    }
    printf("%-14s %6d %9d %9d %9d %6d\n", c->name, t.errors, t.injected, t.retried, t.reported, t.wrong);
    fflush(stdout);
    all->errors += t.errors;
    all->injected += t.injected;
    all->retried += t.retried;
    all->reported += t.reported;
    all->wrong += t.wrong;
}

static void usage(void) {
    fputs("usage: sweep [--calls N] [--every K] [--call NAME] [--scenario NAME] [--verbose]\n", stderr);
    exit(2);
}

int main(int argc, char **argv) {
    tally           all = { 0 };
    struct timespec from, to;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--verbose") == 0) options.verbose = true;
        else if (strcmp(argv[i], "--calls") == 0 && more) options.calls = atoi(argv[++i]);
        else if (strcmp(argv[i], "--every") == 0 && more) options.every = atoi(argv[++i]);
        else if (strcmp(argv[i], "--call") == 0 && more) options.call = argv[++i];
        else if (strcmp(argv[i], "--scenario") == 0 && more) options.scenario = argv[++i];
        else usage();
    }
    if (options.calls < 1 || options.every < 1) usage();
    signal(SIGALRM, hangs);
    clock_gettime(CLOCK_MONOTONIC, &from);
    if (sweep_ncalls > MOST_CALLS || sweep_nscenarios > MOST_SCENARIOS) abort();
    sweep_begin();
    printf("%-14s %6s %9s %9s %9s %6s\n", "call", "errors", "injected", "no error", "reported", "wrong");
    sweep_start(&all);
    for (int round = 0; round < WARM_UPS; round++)
        for (int i = 0; i < sweep_nscenarios; i++) warm_up(i);
    for (int i = 0; i < sweep_ncalls; i++)
        if (!options.call || strcmp(options.call, sweep_calls[i].name) == 0) sweep_call(i, &all);
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%-14s %6d %9d %9d %9d %6d   (%ld s)\n", "all", all.errors, all.injected, all.retried, all.reported, all.wrong,
           (long)(to.tv_sec - from.tv_sec));
    return all.wrong || all.injected == 0;
}
