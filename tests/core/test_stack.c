/* SPDX-License-Identifier: MIT
 * Stacks: their sizes, what runs out, what goes back to the system, how deep
 * they got, and the stack of the system's own. (Overflows end a program:
 * test_overflow.c.) */
#include "check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sched/stack.h"
#include "sys/sys.h"

enum { KIB = 1024, MIB = 1024 * KIB, PAGE = 4096 };

static tdl_g *go_stack(void (*fn)(void *), void *arg, size_t stack) {
    tdl_go_options o = { .size = sizeof o, .flags = TDL_GO_JOINABLE, .stack = stack };
    tdl_g         *g = NULL;
    CHECK_RC(tdl_spawn(&g, fn, arg, &o), 0);
    REQUIRE(g != NULL);
    return g;
}

static void nothing(void *arg) { (void)arg; }

/* Uses about n bytes of stack. */
__attribute__((noinline)) static int dig(int64_t n) {
    char room[512];
    memset(room, 1, sizeof room);
    __asm__ volatile("" ::"r"(room) : "memory"); /* all of it is needed */
    if (n > 640) dig(n - 640);
    __asm__ volatile("" ::"r"(room) : "memory");
    return room[3];
}

static void dig_g(void *arg) {
    CHECK(tdl_goid() != 0);
    CHECK_INT(dig(*(int64_t *)arg), 1);
}

/* -- Sizes ---------------------------------------------------------------------------- */

TEST_G(sizes, "F6 a goroutine has the stack it asked for, and may use it") {
    static const size_t sizes[] = { 4 * KIB, 16 * KIB, 0, 64 * KIB, 64 * KIB + 1, 256 * KIB, 1 * MIB, 8 * MIB };
    static const size_t made[] = { 16 * KIB, 16 * KIB, 64 * KIB, 64 * KIB, 256 * KIB, 256 * KIB, 1 * MIB, 8 * MIB };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t use = (int64_t)made[i] - (int64_t)made[i] / 16 - 4 * KIB;
        if (made[i] == 16 * KIB) use = 7 * KIB;
        if (CHECK_SLOWDOWN > 1) use /= 4;
        tdl_g *g = go_stack(dig_g, &use, sizes[i]);
        CHECK_INT(tdl_stack_size(g->stack), made[i]);
        CHECK_RC(tdl_join(g), 0);
    }
}

TEST_G(absurd, "F5 a spawn that cannot be says why") {
    tdl_go_options o = { .size = sizeof o };
    tdl_g         *g = NULL;
    CHECK_RC(tdl_spawn(&g, NULL, NULL, NULL), TDL_EINVAL);
    CHECK_RC(tdl_spawn(&g, NULL, NULL, &o), TDL_EINVAL);
    o.size = 3;
    CHECK_RC(tdl_spawn(&g, nothing, NULL, &o), TDL_EINVAL);
    o = (tdl_go_options){ .size = sizeof o, .flags = 0x8000 };
    CHECK_RC(tdl_spawn(&g, nothing, NULL, &o), TDL_EINVAL);
    static const size_t bad[] = { 1, 100, 4095, 8 * MIB + 1, (size_t)1 << 40, SIZE_MAX };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        o = (tdl_go_options){ .size = sizeof o, .stack = bad[i] };
        CHECK_RC(tdl_spawn(&g, nothing, NULL, &o), TDL_ESTACK);
        CHECK(tdl_go_opts(nothing, NULL, &o) == NULL);
    }
    CHECK(g == NULL);
    CHECK_RC(tdl_spawn(NULL, nothing, NULL, NULL), 0);
    let_park();
}

static atomic_int here;

static void meet(void *arg) {
    atomic_fetch_add(&here, 1);
    dig(4 * KIB);
    CHECK_RC(tdl_chan_recv(arg, NULL), TDL_ECLOSED);
}

static void no_overlap(tdl_g **g, int n) {
    for (int i = 0; i < n; i++) {
        CHECK(tdl_stack_owns(g[i]));
        CHECK(!tdl_stack_owns((tdl_g *)(void *)((char *)g[i] + 64)));
        for (int j = 0; j < i; j++) CHECK(tdl_stack_end(g[i]) != tdl_stack_end(g[j]));
    }
}

TEST_G(arenas, "B23 more stacks than the first arena of a class has room for") {
    enum { BIG = 40, HUGE = 20 };
    tdl_chan *ch = tdl_chan_new(0);
    tdl_g    *g[BIG + HUGE];
    atomic_store(&here, 0);
    for (int i = 0; i < BIG; i++) g[i] = go_stack(meet, ch, 8 * MIB);
    for (int i = BIG; i < BIG + HUGE; i++) g[i] = go_stack(meet, ch, i % 2 ? 16 * KIB : 1 * MIB);
    while (atomic_load(&here) < BIG + HUGE) tdl_yield();
    no_overlap(g, BIG + HUGE);
    int found = 0;
    tdl_g *each;
    for (uint32_t i = 0; (each = tdl_stack_g(i)) != NULL; i++)
        for (int j = 0; j < BIG + HUGE; j++) found += each == g[j];
    CHECK_INT(found, BIG + HUGE);
    CHECK(tdl_metric("stacks") >= BIG + HUGE);
    tdl_chan_close(ch);
    for (int i = 0; i < BIG + HUGE; i++) CHECK_RC(tdl_join(g[i]), 0);
    tdl_chan_free(ch);
}

/* -- What runs out ---------------------------------------------------------------------- */

static atomic_int refuse;

static void *no_map(size_t size) { return atomic_load(&refuse) ? NULL : tdl_sys_real.map(size); }

static int no_guard(void *first, size_t size, size_t stride, int n) {
    return atomic_load(&refuse) ? -ENOMEM : tdl_sys_real.guard(first, size, stride, n);
}

/* Spawns goroutines that stay, until it cannot; the code that said so. */
static int spawn_until_refused(tdl_chan *ch, tdl_g **g, int most, int *n) {
    tdl_go_options o = { .size = sizeof o, .flags = TDL_GO_JOINABLE, .stack = 8 * MIB };
    int            rc = 0;
    for (*n = 0; *n < most && (rc = tdl_spawn(&g[*n], meet, ch, &o)) == 0; ++*n) continue;
    return rc;
}

static void runs_out(int code) {
    enum { MOST = 2000 };
    static tdl_g *g[MOST];
    int           n;
    tdl_chan     *ch = tdl_chan_new(0);
    atomic_store(&refuse, 1);
    CHECK_RC(spawn_until_refused(ch, g, MOST, &n), code);
    CHECK_RC(tdl_spawn(NULL, meet, ch, &(tdl_go_options){ .size = sizeof(tdl_go_options), .stack = 8 * MIB }), code);
    atomic_store(&refuse, 0);
    CHECK(n < MOST);
    REQUIRE(n < MOST);
    CHECK_RC(tdl_spawn(&g[n], meet, ch, &(tdl_go_options){ sizeof(tdl_go_options), TDL_GO_JOINABLE, 8 * MIB, NULL }), 0);
    tdl_chan_close(ch);
    for (int i = 0; i <= n; i++) CHECK_RC(tdl_join(g[i]), 0);
    tdl_chan_free(ch);
}

static void no_space(void) { runs_out(TDL_ENOMEM); }
static void no_guards(void) { runs_out(TDL_ESTACKS); }

TEST(exhausted, "X3 no address space for more stacks: the spawn says so, and works when there is some again") {
    tdl_sys.map = no_map;
    check_run(no_space);
    tdl_sys = tdl_sys_real;
}

TEST(guards_exhausted, "X3 no more guards: the spawn says so, and works when there are some again") {
    tdl_sys.guard = no_guard;
    check_run(no_guards);
    tdl_sys = tdl_sys_real;
}

/* A kernel without cheap guards; few mappings in all. */
static atomic_int protected;

static int protect(void *first, size_t size, size_t stride, int n) {
    int done = 0;
    for (; done < n && atomic_fetch_add(&protected, 1) < 500; done++)
        if (mprotect((char *)first + (size_t)done * stride, size, PROT_NONE) != 0) break;
    return done ? done : -ENOMEM;
}

static void old_kernel(void) {
    tdl_go_options o = { .size = sizeof o, .flags = TDL_GO_JOINABLE, .stack = 256 * KIB };
    tdl_chan      *ch = tdl_chan_new(0);
    static tdl_g  *g[1000];
    int            n = 0, rc = 0;
    while (n < 1000 && (rc = tdl_spawn(&g[n], meet, ch, &o)) == 0) n++;
    CHECK_RC(rc, TDL_ESTACKS);
    CHECK_WITHIN(n, 100, 900);
    tdl_chan_close(ch);
    for (int i = 0; i < n; i++) CHECK_RC(tdl_join(g[i]), 0);
    tdl_chan_free(ch);
}

TEST(fallback, "X3 guards by mprotect: goroutines up to the limit, then a code") {
    tdl_sys.guard = protect;
    check_run(old_kernel);
    tdl_sys = tdl_sys_real;
}

/* -- Back to the system --------------------------------------------------------------------- */

static int resident(char *stack_end) {
    unsigned char there;
    REQUIRE(mincore(stack_end - PAGE, PAGE, &there) == 0);
    return there & 1;
}

static int count_resident(char **ends, int n) {
    int in = 0;
    for (int i = 0; i < n; i++) in += resident(ends[i]);
    return in;
}

enum { MANY = 2000 };
static char *ends[MANY];

static void spawn_many(tdl_chan *ch, tdl_g **g, int n) {
    atomic_store(&here, 0);
    for (int i = 0; i < n; i++) g[i] = go_stack(meet, ch, 0);
    while (atomic_load(&here) < n) tdl_yield();
}

static void join_many(tdl_chan *ch, tdl_g **g, int n) {
    tdl_chan_close(ch);
    for (int i = 0; i < n; i++) CHECK_RC(tdl_join(g[i]), 0);
    tdl_chan_free(ch);
}

TEST_G(trimmed, "B23 stacks that are not used for long give their pages back, and can be used again") {
    static tdl_g *g[MANY];
    int           n = SCALE(MANY);
    tdl_chan     *ch = tdl_chan_new(0);
    spawn_many(ch, g, n);
    for (int i = 0; i < n; i++) ends[i] = tdl_stack_end(g[i]);
    CHECK_INT(count_resident(ends, n), n);
    join_many(ch, g, n);

    /* much later: all but what the Ps keep; in pieces, then there is nothing to do */
    int64_t now = tdl_now() + TDL_HOUR;
    int     calls = 0;
    for (int64_t next; calls < 100 && (next = tdl_stack_trim(now)) != TDL_FOREVER; calls++) {
        CHECK(next > now);
        now = next;
    }
    CHECK_WITHIN(calls, 0, 99);
    int kept = 64 * tdl_gomaxprocs(0) + 64;
    CHECK_WITHIN(count_resident(ends, n), 0, kept);
    CHECK_INT(tdl_stack_trim(now + TDL_HOUR), TDL_FOREVER);

    /* the same stacks, as good as new */
    tdl_chan *again = tdl_chan_new(0);
    spawn_many(again, g, n);
    int old = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) old += tdl_stack_end(g[i]) == ends[j];
    CHECK_WITHIN(old, n - kept, n);
    join_many(again, g, n);
}

static void idle_main(void) {
    static tdl_g *g[200];
    tdl_chan     *ch = tdl_chan_new(0);
    int           kept = 64 * tdl_gomaxprocs(0), left = 200;
    spawn_many(ch, g, 200);
    for (int i = 0; i < 200; i++) ends[i] = tdl_stack_end(g[i]);
    CHECK_INT(count_resident(ends, 200), 200);
    join_many(ch, g, 200);
    for (int i = 0; i < 1000 && (left = count_resident(ends, 200)) > kept; i++) tdl_sleep(10 * TDL_MILLISECOND);
    CHECK_WITHIN(left, 0, kept);
}

TEST(trimmed_by_idle, "B23 whoever is idle gives back what is not used for long") {
    int64_t usual = tdl_stack_trim_after;
    tdl_stack_trim_after = TDL_MILLISECOND;
    if (tdl_gomaxprocs(0) < 3) check_run(idle_main); /* else the Ps keep them all */
    tdl_stack_trim_after = usual;
}

static atomic_int stop;

static void churn(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    for (int round = 0; round < SCALE(60); round++) {
        tdl_g    *g[100];
        tdl_chan *ch = tdl_chan_new(0);
        int       n = 1 + (int)(random_next(&seed) % 100);
        for (int i = 0; i < n; i++) g[i] = go_stack(meet, ch, random_next(&seed) % 4 ? 0 : 256 * KIB);
        if (round % 3) tdl_yield();
        join_many(ch, g, n);
    }
    atomic_store(&stop, 1);
}

/* Time flies for it, so that it trims all the time. */
static void trimmer(void *arg) {
    int64_t now = tdl_now();
    for (; !atomic_load(&stop); now += TDL_MINUTE) {
        tdl_stack_trim(now);
        sched_yield();
    }
    (void)arg;
}

TEST_G(trim_beside, "S stacks are given back while goroutines come and go") {
    crew c;
    crew_open(&c);
    atomic_store(&stop, 0);
    crew_thread(&c, trimmer, NULL);
    crew_go(&c, churn, (void *)1);
    crew_go(&c, churn, (void *)2);
    crew_close(&c);
}

/* -- The census -------------------------------------------------------------------------------- */

static void report_into(char *buf, size_t size) {
    int fd[2];
    REQUIRE(pipe(fd) == 0);
    CHECK_RC(tdl_stack_report(fd[1]), 0);
    close(fd[1]);
    size_t n = 0;
    for (ssize_t r; n < size - 1 && (r = read(fd[0], buf + n, size - 1 - n)) > 0;) n += (size_t)r;
    buf[n] = '\0';
    close(fd[0]);
}

/* The figures of the report's line that has the name; 0 when there is none. */
static int line_of(const char *report, const char *name, long *used, long *of, long *ended, long *alive) {
    char line[512];
    for (const char *at = report; *at; at = strchr(at, '\n') + 1) {
        snprintf(line, sizeof line, "%.*s", (int)(strchr(at, '\n') - at), at);
        if (strstr(line, name)) return sscanf(line, "%ld of %ld (%*d %%) %ld %ld", used, of, ended, alive) == 4;
    }
    return 0;
}

static void go_named(const char *name, int64_t use, int n) {
    for (int i = 0; i < n; i++) {
        tdl_go_options o = { .size = sizeof o, .flags = TDL_GO_JOINABLE, .name = name };
        CHECK_RC(tdl_join(tdl_go_opts(dig_g, &use, &o)), 0);
    }
}

TEST_G(census, "U the census says how deep the stacks of each spawn site get") {
    static char report[64 * KIB];
    long        used, of, ended, alive;
    go_named("before it is on", 50 * KIB, 3); /* its stacks are used again */
    CHECK_RC(tdl_stack_census(1), 0);
    go_named("shallow", 0, 10);
    tdl_go_options o = { .size = sizeof o, .flags = TDL_GO_JOINABLE, .name = "deep" };
    int64_t        use = 40 * KIB;
    for (int i = 0; i < 5; i++) CHECK_RC(tdl_join(tdl_go_opts(dig_g, &use, &o)), 0);
    tdl_chan *ch = tdl_chan_new(0);
    tdl_g    *g = NULL;
    o = (tdl_go_options){ .size = sizeof o, .flags = TDL_GO_JOINABLE, .stack = 256 * KIB, .name = "parked" };
    CHECK_RC(tdl_spawn(&g, meet, ch, &o), 0);
    while (tdl_chan_len(ch) == 0 && at_load_acq(&g->status) != G_WAITING) tdl_yield();
    report_into(report, sizeof report);
    CHECK_RC(tdl_stack_census(0), 0);
    tdl_chan_close(ch);
    CHECK_RC(tdl_join(g), 0);
    tdl_chan_free(ch);

    if (!CHECK(line_of(report, " shallow at ", &used, &of, &ended, &alive))) puts(report);
    CHECK_WITHIN(used, sizeof(tdl_g), CHECK_SLOWDOWN > 1 ? 20 * KIB : 8 * KIB);
    CHECK_INT(of, 60 * KIB);
    CHECK_INT(ended, 10);
    CHECK_INT(alive, 0);
    CHECK(line_of(report, " deep at ", &used, &of, &ended, &alive));
#ifndef UNDER_ASAN /* has frames elsewhere */
    CHECK_WITHIN(used, 30 * KIB, 60 * KIB);
#endif
    CHECK_INT(ended, 5);
    CHECK(line_of(report, " parked at ", &used, &of, &ended, &alive));
    CHECK_INT(of, 240 * KIB);
    CHECK_INT(ended, 0);
    CHECK_INT(alive, 1);
    CHECK(strstr(report, "before") == NULL);
    CHECK(strstr(report, "test_stack") != NULL); /* where */
    CHECK_RC(tdl_stack_report(-1), -EBADF);
}

/* -- The system's stack --------------------------------------------------------------------------- */

typedef struct visit {
    tdl_chan *ch;
    tdl_mutex *mutex;
    int64_t depth;
    int ran;
    uint64_t id;
} visit;

static void on_system(void *arg) {
    visit *v = arg;
    char   local;
    v->ran++;
    v->id = tdl_goid();
    tdl_g *g = tdl_m_self()->g;
    size_t size = 0;
    char  *low = g ? tdl_stack_low(g, &size) : NULL;
    CHECK(g == NULL || &local < low || &local >= low + size || CHECK_SLOWDOWN > 1);
    if (v->depth) CHECK_INT(dig(v->depth), 1);
}

TEST_G(system_deep, "F6 tdl_system_stack runs what is too deep for a goroutine") {
    visit v = { .depth = CHECK_SLOWDOWN > 1 ? 200 * KIB : 2 * MIB };
    for (int i = 0; i < 10; i++) CHECK_RC(tdl_system_stack(on_system, &v), 0);
    CHECK_INT(v.ran, 10);
    CHECK_INT(v.id, tdl_goid());
    CHECK_RC(tdl_system_stack(NULL, NULL), TDL_EINVAL);
}

static int never(void *arg) { return arg != NULL; }

static void refused_inside(void *arg) {
    visit       *v = arg;
    tdl_val      x;
    tdl_conn    *c = NULL;
    tdl_case     one = { v->ch, &x, TDL_RECV, 0 };
    tdl_val_set_int(&x, 7);
    CHECK_RC(tdl_chan_recv(v->ch, NULL), TDL_ESYSTEM);
    CHECK_RC(tdl_chan_recv_until(v->ch, NULL, tdl_now() + TDL_SECOND), TDL_ESYSTEM);
    CHECK_RC(tdl_select(&one, 1, TDL_FOREVER), TDL_ESYSTEM);
    CHECK_RC(tdl_sleep(TDL_MILLISECOND), TDL_ESYSTEM);
    CHECK_RC(tdl_mutex_lock(v->mutex), TDL_ESYSTEM);
    CHECK_RC(tdl_dial("tcp", "127.0.0.1:9", 0, &c), TDL_ESYSTEM);
    CHECK_RC(tdl_run(never, NULL), TDL_ESYSTEM);
    CHECK_RC(tdl_goexit(), TDL_ESYSTEM);
    tdl_yield();
    /* what does not wait works */
    CHECK_RC(tdl_chan_try_recv(v->ch, NULL), TDL_EAGAIN);
    tdl_chan *box = tdl_chan_new(1);
    CHECK_RC(tdl_chan_try_send(box, &x), 0);
    CHECK_INT(tdl_chan_len(box), 1);
    tdl_chan_free(box);
    v->ran++;
}

static void nested(void *arg) {
    CHECK_RC(tdl_system_stack(refused_inside, arg), 0);
    CHECK_RC(tdl_system_stack(on_system, arg), 0);
    CHECK_RC(tdl_sleep(1), TDL_ESYSTEM); /* still */
}

TEST_G(system_refuses, "F6 nothing waits on the system's stack, and nesting is a call") {
    visit v = { .ch = tdl_chan_new(0), .mutex = tdl_mutex_new() };
    CHECK_RC(tdl_mutex_lock(v.mutex), 0);
    CHECK_RC(tdl_system_stack(refused_inside, &v), 0);
    CHECK_RC(tdl_system_stack(nested, &v), 0);
    CHECK_INT(v.ran, 3);
    CHECK_RC(tdl_sleep(1), 0); /* here it waits again */
    CHECK_RC(tdl_mutex_unlock(v.mutex), 0);
    tdl_mutex_free(v.mutex);
    tdl_chan_free(v.ch);
}

static void visits(void *arg) {
    volatile double sum = 0;
    for (int i = 0; i < SCALE(300); i++) {
        visit v = { .depth = i % 7 ? 3 * KIB : 100 * KIB };
        CHECK_RC(tdl_system_stack(on_system, &v), 0);
        CHECK_INT(v.ran, 1);
        CHECK_INT(v.id, tdl_goid());
        sum += 0.5;
        if (i % 3 == 0) tdl_yield();
        if (i % 50 == 0) tdl_sleep(TDL_MICROSECOND);
    }
    CHECK(sum == 0.5 * SCALE(300));
    (void)arg;
}

TEST_G(system_many, "S many goroutines visit the stacks of the threads they are on") {
    crew c;
    crew_open(&c);
    for (int i = 0; i < 20; i++) crew_go(&c, visits, NULL);
    crew_close(&c);
}

TEST(system_thread, "T in a plain thread the system's stack is its own, and waiting is allowed") {
    visit v = { .depth = 100 * KIB };
    CHECK_RC(tdl_system_stack(on_system, &v), 0);
    CHECK_INT(v.ran, 1);
    CHECK_INT(v.id, 0);
}

/* -- Memory ------------------------------------------------------------------------------------------ */

static void parks(void *arg) {
    atomic_fetch_add(&here, 1);
    CHECK_RC(tdl_chan_recv(arg, NULL), TDL_ECLOSED);
}

static void selects(void *arg) {
    tdl_val  v;
    tdl_case two[] = { { arg, &v, TDL_RECV, 0 }, { NULL, NULL, TDL_RECV, 0 } };
    atomic_fetch_add(&here, 1);
    CHECK_INT(tdl_select(two, 2, tdl_now() + TDL_HOUR), 0);
}

static int pages_of(tdl_g *g) {
    size_t        size;
    char         *low = tdl_stack_low(g, &size), *end = tdl_stack_end(g);
    unsigned char there[64];
    int           n = 0;
    REQUIRE(mincore(low, (size_t)(end - low), there) == 0);
    for (int i = 0; i < (end - low) / PAGE; i++) n += there[i] & 1;
    return n;
}

static void measure(void) {
    enum { COLOURS = 32 };
    tdl_chan *ch = tdl_chan_new(0);
    tdl_g    *g[2 * COLOURS];
    atomic_store(&here, 0);
    for (int i = 0; i < 2 * COLOURS; i++) g[i] = go_stack(i % 2 ? parks : selects, ch, 0);
    while (atomic_load(&here) < 2 * COLOURS) tdl_yield();
    for (int i = 0; i < 2 * COLOURS; i++) {
        while (at_load_acq(&g[i]->op.state) != OP_PARKED) tdl_yield();
        CHECK_INT(pages_of(g[i]), 1);
    }
    tdl_chan_close(ch);
    for (int i = 0; i < 2 * COLOURS; i++) CHECK_RC(tdl_join(g[i]), 0);
    tdl_chan_free(ch);
}

TEST(one_page, "B23 a parked goroutine takes one page, for itself and its stack") {
    if (CHECK_SLOWDOWN > 1) return check_skip("frames are larger here");
#ifdef TDL_SWITCH_PORTABLE
    return check_skip("the portable switch keeps a whole context on the stack");
#endif
    tdl_stack_census(1); /* stacks without pages that others left */
    check_run(measure);
    tdl_stack_census(0);
}
