/* SPDX-License-Identifier: MIT
 * Round after round of everything: descriptors, goroutines, stacks, threads
 * and memory are back where they were. */
#include "actors.h"
#include "check.h"
#include "net.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct usage {
    int64_t fds, threads, stacks, heap, resident;
} usage;

static int64_t entries(const char *path) {
    DIR    *dir = opendir(path);
    int64_t n = 0;
    REQUIRE(dir != NULL);
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

static int64_t resident_bytes(void) {
    long  pages = 0, all;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%ld %ld", &all, &pages) != 2) pages = 0;
    if (f) fclose(f);
    return (int64_t)pages * 4096;
}

static void measure(usage *u) {
    u->fds = open_fds();
    u->threads = entries("/proc/self/task");
    u->stacks = tdl_metric("stacks");
    u->heap = heap_bytes();
    u->resident = resident_bytes();
}

/* Later rounds may not use more than the first two did. */
enum { ROUNDS = CHECK_SLOWDOWN > 1 ? 4 : 10 };

static void no_growth(void (*round)(void)) {
    usage early, late;
    /* workers start when there is work for them, one a processor */
    int64_t threads = entries("/proc/self/task") + tdl_gomaxprocs(0);
    round();
    round();
    measure(&early);
    if (early.threads < threads) early.threads = threads;
    for (int i = 0; i < ROUNDS; i++) round();
    for (int i = 0; i < 1500; i++) { /* a thread that is not needed any more ends after 10 s */
        measure(&late);
        if (late.threads <= early.threads && late.fds <= early.fds) break;
        usleep(10000);
    }
    CHECK_WITHIN(late.fds, 0, early.fds);
    CHECK_WITHIN(late.threads, 0, early.threads);
    CHECK_WITHIN(late.stacks, 0, early.stacks + 16); /* those that other processors keep */
    if (CHECK_SLOWDOWN == 1) {
        /* half a megabyte of read buffers is kept, as many as were in use at once */
        CHECK_WITHIN(late.heap - early.heap, INT64_MIN, (256 + 512) * 1024);
        CHECK_WITHIN(late.resident - early.resident, INT64_MIN, 4 * 1024 * 1024);
    }
}

/* -- Goroutines and channels ------------------------------------------------------------ */

static void echo_value(void *arg) {
    tdl_chan **ch = arg;
    tdl_val    v;
    while (tdl_chan_recv(ch[0], &v) == 0) {
        CHECK_RC(tdl_chan_send(ch[1], &v), 0);
        tdl_val_clear(&v);
    }
}

static void many_goroutines(void) {
    tdl_chan *ch[2] = { tdl_chan_new(0), tdl_chan_new(4) };
    tdl_val   v;
    crew      c;
    int       n = SCALE(2000) + 20;
    crew_open(&c);
    for (int i = 0; i < n; i++) crew_go(&c, echo_value, ch);
    for (int i = 0; i < n; i++) {
        CHECK_RC(tdl_val_set_bytes(&v, "payload", 7), 0);
        CHECK_RC(tdl_chan_send(ch[0], &v), 0);
        tdl_val_clear(&v);
        CHECK_RC(tdl_chan_recv(ch[1], &v), 0);
        tdl_val_clear(&v);
    }
    tdl_chan_close(ch[0]);
    crew_close(&c);
    tdl_chan_free(ch[0]);
    tdl_chan_free(ch[1]);
}

static void many_goroutines_round(void) { many_goroutines(); }

TEST_G(goroutines, "L1 ten rounds of 2 000 goroutines and their values leave nothing") { no_growth(many_goroutines_round); }

static void run_of_many(void) { check_run(many_goroutines); }

TEST(runs, "L1 ten runs of 2 000 goroutines leave nothing, not even a thread") { no_growth(run_of_many); }

/* -- Runs that leave goroutines behind in every kind of wait --------------------------------- */

static tdl_chan      *never;
static tdl_mutex     *held;
static tdl_waitgroup *unfinished;
static tdl_listener  *silent;
static tdl_conn      *quiet;

static void wait_recv(void *arg) {
    (void)arg;
    tdl_chan_recv(never, NULL);
}
static void wait_select(void *arg) {
    (void)arg;
    tdl_case k = { .chan = never, .op = TDL_RECV };
    tdl_select(&k, 1, tdl_now() + TDL_HOUR);
}
static void wait_lock(void *arg) {
    (void)arg;
    tdl_mutex_lock(held);
}
static void wait_group(void *arg) {
    (void)arg;
    tdl_waitgroup_wait(unfinished);
}
static void wait_sleep(void *arg) {
    (void)arg;
    tdl_sleep(TDL_HOUR);
}
static void wait_accept(void *arg) {
    (void)arg;
    tdl_conn *c;
    tdl_listener_accept(silent, &c);
}
static void wait_read(void *arg) {
    (void)arg;
    char byte;
    tdl_conn_read(quiet, &byte, 1);
}
static void wait_join(void *arg) { tdl_join(arg); }
static void wait_runnable(void *arg) {
    (void)arg;
    for (;;) tdl_yield();
}

static void leave_all_kinds(void) {
    static void (*const kinds[])(void *) = { wait_recv, wait_select, wait_lock,    wait_group,
                                             wait_sleep, wait_accept, wait_read,   wait_runnable };
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (int j = 0; j < 5; j++) REQUIRE(tdl_go(kinds[i], NULL) != NULL);
    REQUIRE(tdl_go(wait_join, go_joinable(wait_recv, NULL)) != NULL);
    let_park();
}

static void abandon_round(void) {
    char      address[ADDRESS_SIZE];
    tdl_conn *peer;
    never = tdl_chan_new(0);
    held = tdl_mutex_new();
    unfinished = tdl_waitgroup_new();
    tdl_mutex_trylock(held);
    tdl_waitgroup_add(unfinished, 1);
    silent = net_listen("tcp", address);
    net_pair("tcp", &quiet, &peer);
    check_run(leave_all_kinds);
    tdl_conn_free(quiet);
    tdl_conn_free(peer);
    tdl_listener_free(silent);
    tdl_waitgroup_free(unfinished);
    tdl_mutex_free(held);
    tdl_chan_free(never);
}

TEST(abandoned, "L2 runs that end with goroutines in every kind of wait leave nothing") { no_growth(abandon_round); }

/* -- Connections --------------------------------------------------------------------------------- */

static void serve(void *arg) {
    int64_t n;
    while ((n = tdl_conn_fill(arg, TDL_FILL_LINE, 1000)) > 0) {
        CHECK_RC(tdl_conn_write(arg, tdl_conn_peek(arg, NULL), (size_t)n), n);
        tdl_conn_skip(arg, (size_t)n);
    }
    tdl_conn_free(arg);
}

static void accept_loop(void *arg) {
    tdl_conn *c;
    while (tdl_listener_accept(arg, &c) == 0) REQUIRE(tdl_go(serve, c) != NULL);
}

typedef struct dialler {
    char address[ADDRESS_SIZE];
} dialler;

static void dial_and_ask(void *arg) {
    dialler  *d = arg;
    tdl_conn *c = NULL;
    char      buf[16];
    if (!CHECK_RC(tdl_dial("tcp", d->address, 10 * TDL_SECOND, &c), 0)) return;
    tdl_conn_set_deadline(c, tdl_now() + 30 * TDL_SECOND);
    for (int i = 0; i < 5; i++) {
        CHECK_RC(tdl_conn_write(c, "question\n", 9), 9);
        net_read_full(c, buf, 9);
    }
    tdl_conn_free(c);
}

static void many_connections(void) {
    dialler       d;
    tdl_listener *l = net_listen("tcp", d.address);
    crew          c, a;
    crew_open(&c);
    crew_open(&a);
    crew_go(&a, accept_loop, l);
    for (int i = 0; i < 100; i++) crew_start(&c, i % 20 == 0, dial_and_ask, &d);
    crew_close(&c);
    tdl_listener_close(l);
    crew_close(&a);
    tdl_listener_free(l);
    for (int i = 0; i < 1000 && tdl_metric("connections") > 0; i++) tdl_sleep(TDL_MILLISECOND);
    CHECK_INT(tdl_metric("connections"), 0);
}

TEST_G(connections, "L3 ten rounds of an echo server with a hundred clients leave nothing") { no_growth(many_connections); }

static void run_of_connections(void) { check_run(many_connections); }

TEST(connection_runs, "L3 the same as ten runs") { no_growth(run_of_connections); }

/* -- Thousands of idle connections -------------------------------------------------------------- */

enum { IDLE = 2000 };

static void idle_connections(void) {
    char          address[ADDRESS_SIZE];
    int           n = SCALE(IDLE);
    tdl_listener *l = net_listen("tcp", address);
    tdl_conn    **far = calloc((size_t)n, sizeof *far);
    crew          a;
    crew_open(&a);
    crew_go(&a, accept_loop, l); /* a goroutine for each, in serve */
    for (int i = 0; i < n; i++) REQUIRE(tdl_dial("tcp", address, 0, &far[i]) == 0);
    for (int i = 0; i < n; i += 97) { /* some of them speak up */
        char buf[8];
        CHECK_RC(tdl_conn_write(far[i], "ping\n", 5), 5);
        net_read_full(far[i], buf, 5);
    }
    for (int i = 0; i < 5000 && tdl_num_goroutines() < n + 2; i++) tdl_sleep(TDL_MILLISECOND); /* the last are accepted */
    CHECK_INT(tdl_num_goroutines(), n + 2);
    CHECK_INT(tdl_metric("connections"), 2 * n);
    for (int i = 0; i < n; i++) tdl_conn_free(far[i]);
    tdl_listener_close(l);
    crew_close(&a);
    tdl_listener_free(l);
    free(far);
    for (int i = 0; i < 2000 && tdl_num_goroutines() > 1; i++) tdl_sleep(TDL_MILLISECOND);
    CHECK_INT(tdl_num_goroutines(), 1);
}

TEST_G(idle, "L3 2 000 idle connections, a goroutine each, leave nothing") {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 2 * IDLE + 200) {
        limit.rlim_cur = 2 * IDLE + 200;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return check_skip("not enough descriptors allowed");
    }
    check_limit(90); /* a quarter of a million system calls on what may be a busy machine */
    no_growth(idle_connections);
}

/* -- Hosts ------------------------------------------------------------------------------------------ */

static int some_work(actor *a, int result) {
    (void)result;
    switch (a->state++) {
    case 0: return tdl_sleep_start(a->host, a->task, 100 * TDL_MICROSECOND);
    case 1: {
        tdl_val v;
        tdl_val_set_bytes(&v, "bytes", 5);
        int rc = tdl_chan_send_start(a->host, a->task, a->data, &v, TDL_FOREVER);
        tdl_val_clear(&v);
        return rc;
    }
    case 2: return tdl_chan_recv_start(a->host, a->task, a->data, TDL_FOREVER);
    default: tdl_val_clear(&outcome_of(a)->val); return ACTOR_DONE;
    }
}

static void host_round(void) {
    stage     s;
    tdl_chan *ch = tdl_chan_new(1);
    stage_open(&s, "round");
    for (int i = 0; i < 500; i++) stage_spawn(&s, some_work, ch);
    stage_run(&s);
    stage_close(&s);
    tdl_chan_free(ch);
}

TEST(hosts, "L4 ten hosts of 500 tasks each, one after the other, leave nothing") { no_growth(host_round); }

static void *host_in_thread(void *arg) {
    host_round();
    return arg;
}

static void host_thread_round(void) {
    pthread_t t;
    REQUIRE(pthread_create(&t, NULL, host_in_thread, NULL) == 0);
    pthread_join(t, NULL);
}

TEST(host_threads, "L4 the same, each host in a thread of its own that ends") { no_growth(host_thread_round); }
