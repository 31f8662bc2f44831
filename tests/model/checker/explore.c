/* SPDX-License-Identifier: MIT
 *
 * The exploration: depth first over all choices of a schedule, first with
 * bounds of 0, then 1 … up to the scenario's (so that what is found is found
 * with few preemptions); or at random. And the command line.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine.h"

static struct {
    bool full, must_fail, list, unreduced, compare;
    int preempt, stale; /* -1: the scenario's own */
    long walks;
    uint64_t seed;
    double seconds;
    const char *replay, *expect;
    const char *names[64];
    int nnames;
} options = {.preempt = -1, .stale = -1, .seed = 1};

/* -- Saying ------------------------------------------------------------------- */

void engine_die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fputs("model: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    _exit(3);
}

static void trace_line(const char *where, const char *format, va_list args) {
    printf("    %-12s %-20s ", E->cur ? E->cur->name : "(check)", where);
    vprintf(format, args);
    putchar('\n');
}

void engine_trace(const model_site *site, const char *format, ...) {
    char where[64];
    const char *slash = strrchr(site->file, '/');
    snprintf(where, sizeof where, site->line ? "%s:%d" : "%s", slash ? slash + 1 : site->file, site->line);
    va_list args;
    va_start(args, format);
    trace_line(where, format, args);
    va_end(args);
}

void model_note(const char *format, ...) {
    if (!E->trace) return;
    va_list args;
    va_start(args, format);
    trace_line("", format, args);
    va_end(args);
}

void model_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(E->failure, sizeof E->failure, format, args);
    va_end(args);
    E->failed = true;
    if (E->trace) printf("    => %s\n", E->failure);
    if (E->cur) engine_leave();
    siglongjmp(E->out, 1);
}

static void on_crash(int signal, siginfo_t *info, void *context) {
    (void)info;
    (void)context;
    char at[128] = "";
    uint32_t pc = 0;
#if defined(__x86_64__)
    const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    pc = (uint32_t)regs[REG_RIP];
    if (pc == 0) pc = *(uint32_t *)regs[REG_RSP]; /* who called what is not linked */
#endif
    if (pc && E->trace) race_where(at, sizeof at, pc);
    snprintf(E->failure, sizeof E->failure, "%s in %s %s", strsignal(signal), E->cur ? E->cur->name : "the check", at);
    E->failed = true;
    if (E->trace) printf("    => %s\n", E->failure);
    siglongjmp(E->out, 1);
}

static void *map(uintptr_t at, size_t size) {
    void *p = mmap((void *)at, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED_NOREPLACE : 0), -1, 0);
    if (p == MAP_FAILED || (at && p != (void *)at)) engine_die("cannot map memory: %s", strerror(errno));
    return p;
}

/* -- Choices --------------------------------------------------------------------- */

static uint64_t random_next(void) { /* splitmix64 */
    uint64_t z = E->rng += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static unsigned random_choice(unsigned n, int kind) {
    uint64_t r = random_next();
    if (kind == CHOOSE_NEXT || kind == CHOOSE_FREE) return (unsigned)((r >> 32) % n);
    if (r % (unsigned)E->calm) return 0;
    return 1 + (unsigned)((r >> 32) % (n - 1));
}

unsigned engine_choose(unsigned n, int kind) {
    if (n < 2) return 0;
    if (E->depth == DEPTH) engine_die("more than %d choices in a schedule", DEPTH);
    int d = E->depth++;
    if (d >= E->planned) {
        E->path[d].n = (uint8_t)n;
        E->path[d].chosen = E->random ? (uint8_t)random_choice(n, kind) : 0;
        E->planned = E->depth;
    } else if (E->path[d].n == 0 && E->path[d].chosen < n) {
        E->path[d].n = (uint8_t)n; /* given by hand */
    } else if (E->path[d].n != n) {
        engine_die("%s is not deterministic: choice %d is of %u, and was of %d", E->scenario->name, d, n, E->path[d].n);
    }
    if (E->full) E->full[E->nfull++] = E->path[d].chosen;
    return E->path[d].chosen;
}

unsigned model_choose(unsigned n) { return E->cur ? engine_choose(n, CHOOSE_FREE) : 0; }

/* The next path in depth-first order; false when there is none. */
static bool next_path(void) {
    int d = E->depth;
    while (d > 0 && E->path[d - 1].chosen + 1 == E->path[d - 1].n) d--;
    if (d == 0) return false;
    E->path[d - 1].chosen++;
    E->planned = d;
    return true;
}

/* -- One schedule -------------------------------------------------------------------- */

static void restore(void) {
    memcpy(E->data, E->data_saved, (size_t)(E->data_end - E->data));
    memcpy(MODEL_ARENA, E->arena_saved, E->arena_kept);
    E->arena_used = E->arena_kept;
}

static void run_once(void) {
    restore();
    memory_reset();
    race_reset();
    E->depth = 0;
    E->preempt_left = E->bounds.preempt;
    E->stale_left = E->bounds.stale;
    E->timeouts_left = E->scenario->timeouts;
    E->spurious_left = E->scenario->spurious;
    E->steps = E->forced = E->kicks = E->disturbed = 0;
    E->redundant = false;
    E->now = 1000;
    E->failed = false;
    E->cur = NULL;
    if (sigsetjmp(E->out, 1) == 0) {
        threads_start();
        if (!E->failed && !E->redundant && E->scenario->check) E->scenario->check();
    }
    E->cur = NULL;
}

/* Runs the path of the last schedule again, and tells it. */
static void tell(void) {
    uint8_t *full = map(0, 2 * DEPTH);
    bool all = E->all_points, random = E->random;
    char *failure = strdup(E->failure);
    E->planned = E->depth;
    E->random = false;
    E->trace = true;
    E->full = full;
    E->nfull = 0;
    run_once();
    E->trace = false;
    E->full = NULL;
    E->all_points = all;
    E->random = random;
    if (!E->failed) engine_die("%s: the schedule did not fail again (%s)", E->scenario->name, failure);
    free(failure);
    printf("    to see it again: %s--preempt %d --stale %d --replay ", E->reduce ? "" : "--unreduced ",
           E->bounds.preempt, E->bounds.stale);
    int end = E->nfull;
    while (end > 0 && full[end - 1] == 0) end--;
    for (int i = 0; i < end;) {
        int k = i;
        while (k < end && full[k] == full[i]) k++;
        printf(k - i > 1 ? "%s%d*%d" : "%s%d", i ? "," : "", full[i], k - i);
        i = k;
    }
    printf("%s %s\n", end ? "" : "0", E->scenario->name);
}

static void plan(const char *path) {
    E->planned = 0;
    for (const char *at = path; *at;) {
        char *end;
        long value = strtol(at, &end, 10), times = 1;
        if (*end == '*') times = strtol(end + 1, &end, 10);
        if (end == at || value < 0 || times < 1 || E->planned + times > DEPTH) engine_die("no path: %s", path);
        while (times--) {
            E->path[E->planned].n = 0;
            E->path[E->planned++].chosen = (uint8_t)value;
        }
        at = *end == ',' ? end + 1 : end;
    }
}

/* -- Outcomes ----------------------------------------------------------------------- */

enum { OUTCOMES = 1 << 20 };

static uint64_t hash(uint64_t h, const char *from, size_t n) {
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint64_t w;
        memcpy(&w, from + i, 8);
        h = (h ^ w) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    return h;
}

static void note_outcome(void) {
    uint64_t h = hash(1, E->data, (size_t)(E->data_end - E->data));
    h = hash(h, MODEL_ARENA, E->arena_used) | 1;
    for (uint64_t i = h % OUTCOMES;; i = (i + 1) % OUTCOMES) {
        if (E->outcomes[i] == h) return;
        if (E->outcomes[i]) continue;
        if (++E->noutcomes == OUTCOMES) engine_die("too many outcomes");
        E->outcomes[i] = h;
        return;
    }
}

/* -- Exploring ----------------------------------------------------------------------- */

static double seconds_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool out_of_time(double begin, uint64_t n) {
    return options.seconds > 0 && n % 1024 == 0 && seconds_now() - begin > options.seconds;
}

/* Every schedule within the bounds; how many. */
static uint64_t explore(struct model_bounds bounds, double begin, bool *all) {
    uint64_t n;
    E->bounds = bounds;
    *all = true;
    do {
        for (int i = 0; i < SHARES; i++) {
            E->shares[i].known_readers = E->shares[i].readers;
            E->shares[i].known_writers = E->shares[i].writers;
        }
        E->share_found = false;
        E->planned = 0;
        n = 0;
        do {
            run_once();
            n += !E->redundant;
            if (E->failed) return n;
            if (E->outcomes && !E->redundant) note_outcome();
            if (out_of_time(begin, n)) {
                *all = false;
                return n;
            }
        } while (next_path());
    } while (E->share_found);
    return n;
}

static uint64_t walk(long walks, double begin) {
    static const int calm[] = {2, 4, 8, 16, 64};
    uint64_t n = 0;
    E->bounds = (struct model_bounds){100000, 100000};
    E->random = E->all_points = true;
    E->reduce = false;
    while ((walks == 0 || n < (uint64_t)walks) && !out_of_time(begin, n)) {
        E->rng = options.seed * UINT64_C(0x2545f4914f6cdd1d) + n;
        E->calm = calm[n % 5];
        E->planned = 0;
        run_once();
        n++;
        if (E->failed) break;
    }
    return n;
}

static void prepare(const model_scenario *s, const char *pristine) {
    memcpy(E->data, pristine, (size_t)(E->data_end - E->data));
    E->scenario = s;
    E->arena_used = E->arena_kept = 0;
    E->failed = false;
    E->random = E->all_points = false;
    E->reduce = !options.unreduced && !E->compare_all;
    E->now = 1000;
    memset(E->shares, 0, sizeof E->shares);
    E->nshares = 0;
    if (sigsetjmp(E->out, 1) != 0) engine_die("%s: the setup failed: %s", s->name, E->failure);
    if (s->setup) s->setup();
    E->arena_kept = E->arena_used;
    memcpy(E->data_saved, E->data, (size_t)(E->data_end - E->data));
    memcpy(E->arena_saved, MODEL_ARENA, E->arena_kept);
}

static int at_most(int a, int b) { return a < b ? a : b; }

/* How many schedules; E->failed says how it ended. */
static uint64_t check_scenario(const model_scenario *s, const char *pristine) {
    struct model_bounds max = options.full ? s->full : s->quick;
    if (options.preempt >= 0) max.preempt = options.preempt;
    if (options.stale >= 0) max.stale = options.stale;
    double begin = seconds_now();
    bool all = true;
    uint64_t n = 0;
    prepare(s, pristine);
    if (options.replay) {
        E->bounds = max;
        E->all_points = true;
        plan(options.replay);
        E->trace = true;
        run_once();
        return 1;
    }
    if (options.walks || options.seconds > 0) {
        n = walk(options.walks, begin);
    } else {
        int bound = max.preempt > max.stale ? max.preempt : max.stale;
        for (int b = 0; b <= bound && !E->failed && all; b++)
            n = explore((struct model_bounds){at_most(b, max.preempt), at_most(b, max.stale)}, begin, &all);
    }
    bool failed = E->failed;
    char how[64] = "at random";
    if (!E->random) snprintf(how, sizeof how, "preempt %d, stale %d", E->bounds.preempt, E->bounds.stale);
    printf("%-16s %12llu schedules  %-20s %6.2f s  %s\n", s->name, (unsigned long long)n, how,
           seconds_now() - begin, failed ? "FAILED" : all ? "ok" : "ok so far");
    if (failed) {
        printf("%s: %s\n", s->name, E->failure);
        tell();
        E->failed = true;
    }
    return n;
}

/* The reduction is sound if what remains leaves every memory that all schedules
 * leave. */
static void compare_scenario(const model_scenario *s, const char *pristine) {
    int n[2];
    uint64_t schedules[2];
    for (int i = 0; i < 2 && !E->failed; i++) {
        E->outcomes = map(0, OUTCOMES * sizeof *E->outcomes);
        E->noutcomes = 0;
        E->compare_all = i == 1;
        schedules[i] = check_scenario(s, pristine);
        n[i] = E->noutcomes;
    }
    if (E->failed) return;
    E->failed = n[0] != n[1];
    printf("%-16s %d outcomes of %llu schedules, %d of %llu\n", s->name, n[0], (unsigned long long)schedules[0], n[1],
           (unsigned long long)schedules[1]);
}

/* -- The command line ------------------------------------------------------------------ */

static void begin(void) {
    extern char __data_start[], _end[];
    map((uintptr_t)E, sizeof *E);
    map((uintptr_t)MODEL_ARENA, ARENA + MODEL_THREADS * STACK);
    E->data = (char *)((uintptr_t)__data_start & ~(uintptr_t)15);
    E->data_end = _end;
    if (E->data_end - E->data > DATA) engine_die("the program has more than %d bytes of data", DATA);
    E->data_saved = map(0, DATA);
    E->arena_saved = map(0, ARENA);
    race_init();
    stack_t ss = {.ss_sp = map(0, STACK), .ss_size = STACK};
    sigaltstack(&ss, NULL);
    struct sigaction sa = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &sa, NULL);
}

static const char usage[] =
    "usage: %s [options] [scenario…]\n"
    "  --list             the scenarios\n"
    "  --full             with the bounds of a long run\n"
    "  --preempt N --stale N\n"
    "                     with these bounds\n"
    "  --random N         N schedules at random, without bounds …\n"
    "  --seconds S        … or as many as there are in this time\n"
    "  --seed N           … from this seed\n"
    "  --unreduced        also what another schedule does in another order\n"
    "  --compare          with and without these: do they leave the same memories?\n"
    "  --replay PATH      the one schedule that a failure was reported with\n"
    "  --must-fail [--expect TEXT]\n"
    "                     succeeds if it fails (with TEXT in its report)\n";

static const char *value_of(char **argv, int *i) {
    if (!argv[*i + 1]) engine_die("%s needs a value", argv[*i]);
    return argv[++*i];
}

static void parse(char **argv) {
    for (int i = 1; argv[i]; i++) {
        const char *a = argv[i];
        if (!strcmp(a, "--list")) options.list = true;
        else if (!strcmp(a, "--full")) options.full = true;
        else if (!strcmp(a, "--must-fail")) options.must_fail = true;
        else if (!strcmp(a, "--unreduced")) options.unreduced = true;
        else if (!strcmp(a, "--compare")) options.compare = true;
        else if (!strcmp(a, "--expect")) options.expect = value_of(argv, &i);
        else if (!strcmp(a, "--preempt")) options.preempt = atoi(value_of(argv, &i));
        else if (!strcmp(a, "--stale")) options.stale = atoi(value_of(argv, &i));
        else if (!strcmp(a, "--random")) options.walks = atol(value_of(argv, &i));
        else if (!strcmp(a, "--seed")) options.seed = strtoull(value_of(argv, &i), NULL, 10);
        else if (!strcmp(a, "--seconds")) options.seconds = atof(value_of(argv, &i));
        else if (!strcmp(a, "--replay")) options.replay = value_of(argv, &i);
        else if (*a != '-' && options.nnames < 64) options.names[options.nnames++] = a;
        else {
            fprintf(stderr, usage, argv[0]);
            exit(2);
        }
    }
}

static const model_scenario *named(const char *name) {
    for (const model_scenario *s = model_scenarios; s->name; s++)
        if (!strcmp(s->name, name)) return s;
    engine_die("no such scenario: %s", name);
}

int main(int argc, char **argv) {
    (void)argc;
    parse(argv);
    begin();
    if (options.list) {
        for (const model_scenario *s = model_scenarios; s->name; s++) puts(s->name);
        return 0;
    }
    if (options.nnames == 0)
        for (const model_scenario *s = model_scenarios; s->name && options.nnames < 64; s++)
            options.names[options.nnames++] = s->name;
    char *pristine = map(0, DATA);
    memcpy(pristine, E->data, (size_t)(E->data_end - E->data));
    uint64_t total = 0;
    bool failed = false, expected = false;
    for (int i = 0; i < options.nnames && !(failed && options.must_fail); i++) {
        if (options.compare)
            compare_scenario(named(options.names[i]), pristine);
        else
            total += check_scenario(named(options.names[i]), pristine);
        failed |= E->failed;
        expected |= E->failed && (!options.expect || strstr(E->failure, options.expect));
    }
    printf("%llu schedules\n", (unsigned long long)total);
    if (!options.must_fail) return failed;
    puts(!failed ? "NOT FOUND" : expected ? "found" : "found, but not as expected");
    return !expected;
}
