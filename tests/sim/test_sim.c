/* SPDX-License-Identifier: MIT
 * Simulation as its users see it: the clock, the ends, the border, replay. */
#include "../core/check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define Y2000 INT64_C(946684800000000000)

enum { MS = 1000000 };

static tdl_sim_report report;

static int sim(uint64_t seed, int (*fn)(void *), void *arg) {
    tdl_sim_options o = {.size = sizeof o, .seed = seed};
    return tdl_sim_run(&o, fn, arg, &report);
}

static int64_t wall(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

/* -- The clock ----------------------------------------------------------------- */

static int sleeps_a_year(void *arg) {
    int64_t began = tdl_now();
    for (int day = 0; day < 365 && tdl_sleep(24 * TDL_HOUR) == 0; day++) {}
    CHECK(tdl_now() == began + 365 * 24 * TDL_HOUR);
    if (arg) *(int64_t *)arg = began;
    return 7;
}

TEST(g1, "G1 the clock begins at a fixed time, a sleep moves it by exactly its length, and takes none") {
    int64_t began = wall(), first = 0;
    CHECK_INT(sim(1, sleeps_a_year, &first), 7);
    CHECK(first == Y2000);
    CHECK_INT(report.ns, 365 * 24 * TDL_HOUR);
    CHECK_INT(report.result, 7);
    CHECK_INT(report.reason, TDL_SIM_OK);
    CHECK(wall() - began < 10 * TDL_SECOND);
    CHECK(tdl_now() < Y2000); /* outside it is the machine's again: time since it was started */
}

static int starts_at(void *arg) { return tdl_now() == *(int64_t *)arg; }

TEST(g1b, "G1b the options say when it begins and how far it may go") {
    int64_t at = 5 * TDL_SECOND;
    tdl_sim_options o = {.size = sizeof o, .start_ns = at, .max_ns = TDL_HOUR};
    CHECK_INT(tdl_sim_run(&o, starts_at, &at, &report), 1);
    CHECK_RC(tdl_sim_run(&o, sleeps_a_year, NULL, &report), TDL_ELIMIT);
    CHECK_INT(report.reason, TDL_SIM_TIME);
    CHECK(report.ns <= TDL_HOUR);
}

static int timer_of_now(void *arg) {
    (void)arg;
    int64_t began = tdl_now();
    tdl_timer *t = tdl_timer_new(began, 0);
    tdl_val v;
    CHECK_RC(tdl_chan_recv(tdl_timer_chan(t), &v), 0);
    CHECK_INT(tdl_val_int(&v), began);
    CHECK_INT(tdl_now(), began);
    tdl_timer_free(t);
    return 0;
}

TEST(g3, "G3 a timer that is due when it is made is ready before any time passes") { CHECK_INT(sim(3, timer_of_now, NULL), 0); }

static int overdue_timer(void *arg) {
    (void)arg;
    int64_t due = tdl_now() + 10 * MS;
    tdl_timer *t = tdl_timer_new(due, 0);
    tdl_sleep(30 * MS);
    tdl_val v;
    CHECK_RC(tdl_chan_recv(tdl_timer_chan(t), &v), 0);
    CHECK_INT(tdl_val_int(&v), due);
    CHECK_INT(tdl_now(), due + 20 * MS);
    tdl_timer_free(t);
    return 0;
}

TEST(g4, "G4 a timer that is read late says when it was due") { CHECK_INT(sim(4, overdue_timer, NULL), 0); }

static int deadlines(void *arg) {
    (void)arg;
    tdl_chan *ch = tdl_chan_new(0);
    tdl_mutex *m = tdl_mutex_new();
    tdl_sema *s = tdl_sema_new(0);
    tdl_waitgroup *wg = tdl_waitgroup_new();
    tdl_mutex_lock(m);
    tdl_waitgroup_add(wg, 1);
    int64_t at = tdl_now();
    CHECK_RC(tdl_chan_recv_until(ch, NULL, at += 1), TDL_ETIMEDOUT);
    CHECK_INT(tdl_now(), at);
    CHECK_RC(tdl_mutex_lock_until(m, at += 3), TDL_ETIMEDOUT);
    CHECK_INT(tdl_now(), at);
    CHECK_RC(tdl_sema_acquire_until(s, 1, at += 5), TDL_ETIMEDOUT);
    CHECK_INT(tdl_now(), at);
    CHECK_RC(tdl_waitgroup_wait_until(wg, at += 7), TDL_ETIMEDOUT);
    CHECK_INT(tdl_now(), at);
    CHECK_RC(tdl_select(NULL, 0, at += 11), TDL_ETIMEDOUT);
    CHECK_INT(tdl_now(), at);
    tdl_mutex_unlock(m);
    tdl_waitgroup_done(wg);
    tdl_chan_free(ch);
    tdl_mutex_free(m);
    tdl_sema_free(s);
    tdl_waitgroup_free(wg);
    return 0;
}

TEST(g1c, "G1c a deadline of each operation ends it at its nanosecond") { CHECK_INT(sim(5, deadlines, NULL), 0); }

/* -- The ends ------------------------------------------------------------------- */

static void receives_for_ever(void *arg) { tdl_chan_recv(arg, NULL); }

static int all_block(void *arg) {
    (void)arg;
    tdl_go_options o = {sizeof o, 0, 0, "the other"};
    tdl_go_opts(receives_for_ever, NULL, &o);
    tdl_chan_recv(NULL, NULL);
    return 0;
}

static int leaves_one(void *arg) {
    (void)arg;
    tdl_go_options o = {sizeof o, 0, 0, "left behind"};
    tdl_go_opts(receives_for_ever, NULL, &o);
    return 5;
}

TEST(g6, "G6 the two deadlocks have texts of their own, and a list of who waits") {
    char all[128];
    CHECK_RC(sim(6, all_block, NULL), TDL_EDEADLOCK);
    CHECK_INT(report.reason, TDL_SIM_DEADLOCK);
    CHECK(strstr(report.dump, "chan receive") && strstr(report.dump, "the other"));
    snprintf(all, sizeof all, "%s", report.text);
    CHECK_RC(sim(6, leaves_one, NULL), TDL_EDEADLOCK);
    CHECK_INT(report.reason, TDL_SIM_LEFT);
    CHECK_INT(report.result, 5);
    CHECK_INT(report.left, 1);
    CHECK(strstr(report.dump, "left behind"));
    CHECK(strcmp(all, report.text) != 0);
    CHECK(strncmp(all, "deadlock:", 9) == 0 && strncmp(report.text, "deadlock:", 9) == 0);
}

static void locks_and_receives(void *arg) {
    tdl_mutex_lock(arg);
    tdl_chan_recv(NULL, NULL);
}

static int locks_too(void *arg) {
    (void)arg;
    tdl_mutex *m = tdl_mutex_new();
    tdl_go(locks_and_receives, m);
    tdl_sim_wait();
    tdl_mutex_lock(m);
    return 0;
}

TEST(g6b, "G6b a goroutine that waits for a mutex is as blocked as any") {
    CHECK_RC(sim(7, locks_too, NULL), TDL_EDEADLOCK);
    CHECK_INT(report.reason, TDL_SIM_DEADLOCK);
}

static int ticks;

static void ticks_for_ever(void *arg) {
    (void)arg;
    for (;;) {
        if (tdl_sleep(MS) != 0) return;
        ticks++;
    }
}

static int returns_after_ticks(void *arg) {
    (void)arg;
    tdl_go(ticks_for_ever, NULL);
    tdl_sleep(10 * MS + 1);
    return 0;
}

TEST(g10, "G10 time stops when main returns") {
    ticks = 0;
    CHECK_RC(sim(8, returns_after_ticks, NULL), TDL_EDEADLOCK);
    CHECK_INT(report.reason, TDL_SIM_LEFT);
    CHECK_INT(report.ns, 10 * MS + 1);
    CHECK_INT(ticks, 10);
}

static int finished;

static void finishes(void *arg) {
    (void)arg;
    for (int i = 0; i < 5; i++) tdl_yield();
    finished++;
}

static int returns_at_once(void *arg) {
    (void)arg;
    for (int i = 0; i < 10; i++) tdl_go(finishes, NULL);
    return 0;
}

TEST(g10b, "G10b who is still runnable when main returns runs to its end") {
    for (uint64_t seed = 0; seed < 20; seed++) {
        finished = 0;
        CHECK_RC(sim(seed, returns_at_once, NULL), 0);
        CHECK_INT(finished, 10);
    }
}

static int yields_for_ever(void *arg) {
    (void)arg;
    for (;;) tdl_yield();
    return 0;
}

static int tries_for_ever(void *arg) {
    while (tdl_chan_try_recv(arg, NULL) == TDL_EAGAIN) {}
    return 0;
}

TEST(limits, "G11 who spins for ever is ended when the steps are used up") {
    tdl_sim_options o = {.size = sizeof o, .max_steps = 10000};
    for (int strategy = TDL_SIM_RANDOM; strategy <= TDL_SIM_PCT; strategy++) {
        o.strategy = strategy;
        CHECK_RC(tdl_sim_run(&o, yields_for_ever, NULL, &report), TDL_ELIMIT);
        CHECK_INT(report.reason, TDL_SIM_STEPS);
        CHECK_RC(tdl_sim_run(&o, tries_for_ever, NULL, &report), TDL_ELIMIT);
        CHECK_INT(report.reason, TDL_SIM_STEPS);
    }
}

/* -- Waiting for the others -------------------------------------------------------- */

static int stage;

static void three_stages(void *arg) {
    for (int i = 0; i < 3; i++) {
        tdl_yield();
        stage++;
        tdl_chan_recv(arg, NULL);
    }
}

static int steps_through(void *arg) {
    (void)arg;
    tdl_chan *ch = tdl_chan_new(0);
    tdl_val v;
    tdl_val_set_nil(&v);
    stage = 0;
    tdl_go(three_stages, ch);
    for (int i = 1; i <= 3; i++) {
        CHECK_RC(tdl_sim_wait(), 0);
        CHECK_INT(stage, i);
        CHECK_RC(tdl_chan_try_send(ch, &v), 0); /* it certainly waits there */
    }
    CHECK_RC(tdl_sim_wait(), 0); /* nobody is left */
    CHECK_INT(tdl_num_goroutines(), 1);
    CHECK_INT(tdl_now(), Y2000);
    tdl_chan_free(ch);
    return 0;
}

TEST(wait, "G2 tdl_sim_wait returns when all others wait, and no time passes") {
    for (uint64_t seed = 0; seed < 50; seed++) CHECK_RC(sim(seed, steps_through, NULL), 0);
}

static int second_wait;

static void waits_too(void *arg) {
    (void)arg;
    second_wait = tdl_sim_wait();
}

static int two_wait(void *arg) {
    (void)arg;
    tdl_go(waits_too, NULL);
    int first = tdl_sim_wait();
    tdl_sleep(1);
    return first == 0 && second_wait == TDL_EBUSY ? 1 : first == TDL_EBUSY && second_wait == 0 ? 2 : 3;
}

TEST(wait_busy, "G2b only one goroutine may wait so; outside a simulation none") {
    for (uint64_t seed = 0; seed < 20; seed++) CHECK_WITHIN(sim(seed, two_wait, NULL), 1, 2);
    CHECK_RC(tdl_sim_wait(), TDL_EINVAL);
    CHECK_INT(tdl_sim_random(), 0);
}

/* -- Who belongs to it ----------------------------------------------------------------- */

static tdl_waitgroup *all;
static int64_t child_time;

static void grandchild(void *arg) {
    (void)arg;
    tdl_sleep(TDL_HOUR);
    child_time = tdl_now();
    tdl_waitgroup_done(all);
}

static void child(void *arg) { tdl_go(grandchild, arg); }

static int has_grandchildren(void *arg) {
    (void)arg;
    all = tdl_waitgroup_new();
    tdl_waitgroup_add(all, 1);
    tdl_go(child, NULL);
    tdl_waitgroup_wait(all);
    tdl_waitgroup_free(all);
    return child_time == Y2000 + TDL_HOUR;
}

TEST(g9, "G9 goroutines that goroutines start belong to the simulation") { CHECK_INT(sim(9, has_grandchildren, NULL), 1); }

typedef struct border {
    tdl_chan *chan, *full;
    tdl_mutex *mutex;
    tdl_sema *sema;
    tdl_waitgroup *group;
    tdl_cond *cond;
    tdl_timer *timer;
} border;

static void make_border(border *b) {
    tdl_val v;
    tdl_val_set_int(&v, 1);
    *b = (border){tdl_chan_new(1), tdl_chan_new(1), tdl_mutex_new(), tdl_sema_new(0), tdl_waitgroup_new(), NULL, NULL};
    b->cond = tdl_cond_new(b->mutex);
    tdl_chan_send(b->full, &v);
    tdl_waitgroup_add(b->group, 1);
    tdl_mutex_lock(b->mutex);
}

static void free_border(border *b) {
    tdl_mutex_unlock(b->mutex);
    tdl_waitgroup_done(b->group);
    tdl_chan_free(b->chan);
    tdl_chan_free(b->full);
    tdl_cond_free(b->cond);
    tdl_mutex_free(b->mutex);
    tdl_sema_free(b->sema);
    tdl_waitgroup_free(b->group);
    if (b->timer) tdl_timer_free(b->timer);
}

/* Everything that would have to wait. */
static void try_to_wait(border *b) {
    tdl_val v;
    tdl_val_set_int(&v, 2);
    tdl_case cases[2] = {{b->chan, &v, TDL_RECV, 0}, {b->full, &v, TDL_SEND, 0}};
    CHECK_RC(tdl_chan_recv(b->chan, &v), TDL_ESIM);
    CHECK_RC(tdl_chan_send(b->full, &v), TDL_ESIM);
    CHECK_RC(tdl_select(cases, 2, TDL_FOREVER), TDL_ESIM);
    CHECK_RC(tdl_mutex_lock(b->mutex), TDL_ESIM);
    CHECK_RC(tdl_sema_acquire(b->sema, 1), TDL_ESIM);
    CHECK_RC(tdl_waitgroup_wait(b->group), TDL_ESIM);
    CHECK_RC(tdl_cond_wait(b->cond), TDL_ESIM);
}

static int uses_outside(void *arg) {
    border *b = arg;
    tdl_val v;
    tdl_val_set_int(&v, 2);
    try_to_wait(b);
    CHECK_RC(tdl_chan_try_recv(b->chan, &v), TDL_EAGAIN); /* what does not wait may be done */
    CHECK_RC(tdl_chan_send(b->chan, &v), 0);
    CHECK_RC(tdl_chan_recv(b->chan, &v), 0);
    return 0;
}

TEST(g7, "G7 waiting for what was made outside is refused") {
    border b;
    make_border(&b);
    CHECK_RC(sim(10, uses_outside, &b), 0);
    free_border(&b);
}

static void *intruder(void *arg) {
    border *b = arg;
    tdl_val v;
    tdl_val_set_int(&v, 2);
    try_to_wait(b);
    CHECK_RC(tdl_chan_try_send(b->chan, &v), TDL_ESIM);
    CHECK_RC(tdl_chan_try_recv(b->full, &v), TDL_ESIM);
    CHECK_RC(tdl_chan_close(b->chan), TDL_ESIM);
    CHECK_RC(tdl_mutex_unlock(b->mutex), TDL_ESIM);
    CHECK_RC(tdl_sema_release(b->sema, 1), TDL_ESIM);
    CHECK_RC(tdl_waitgroup_done(b->group), TDL_ESIM);
    CHECK_RC(tdl_cond_signal(b->cond), TDL_ESIM);
    CHECK_RC(tdl_cond_broadcast(b->cond), TDL_ESIM);
    CHECK_RC(tdl_timer_stop(b->timer), TDL_ESIM);
    CHECK(tdl_go(child, NULL) == NULL);
    CHECK_RC(tdl_run(leaves_one, NULL), TDL_EBUSY);
    CHECK_RC(sim(1, leaves_one, NULL), TDL_EBUSY);
    CHECK(tdl_now() < Y2000); /* its own time is the machine's */
    tdl_chan *own = tdl_chan_new(1); /* and its own things are as ever */
    CHECK_RC(tdl_chan_send(own, &v), 0);
    CHECK_RC(tdl_chan_recv_until(own, &v, TDL_NOWAIT), 0);
    CHECK_RC(tdl_chan_recv_until(own, &v, tdl_now() + MS), TDL_ETIMEDOUT);
    tdl_chan_free(own);
    return NULL;
}

static void waits_at(void *arg) {
    border *b = arg;
    CHECK_RC(tdl_sema_acquire(b->sema, 1), 0);
}

static int is_intruded(void *arg) {
    border b;
    pthread_t thread;
    (void)arg;
    make_border(&b);
    b.timer = tdl_timer_new(tdl_now() + TDL_HOUR, 0);
    tdl_go(waits_at, &b);
    tdl_sim_wait();
    REQUIRE(pthread_create(&thread, NULL, intruder, &b) == 0);
    pthread_join(thread, NULL);
    CHECK_RC(tdl_sema_release(b.sema, 1), 0);
    tdl_sim_wait();
    free_border(&b);
    return 0;
}

TEST(g7b, "G7b what was made inside is refused to other threads") { CHECK_RC(sim(11, is_intruded, NULL), 0); }

static border kept;

static int keeps(void *arg) {
    (void)arg;
    make_border(&kept);
    return 0;
}

TEST(g7c, "G7c when it is over, what was made inside belongs to the outside") {
    tdl_val v;
    CHECK_RC(sim(12, keeps, NULL), 0);
    CHECK_RC(tdl_chan_recv(kept.full, &v), 0);
    CHECK_RC(tdl_chan_recv_until(kept.chan, &v, tdl_now() + MS), TDL_ETIMEDOUT);
    CHECK_RC(tdl_mutex_lock_until(kept.mutex, tdl_now() + MS), TDL_ETIMEDOUT);
    tdl_chan_send(kept.full, &v);
    CHECK_RC(sim(13, uses_outside, &kept), 0);
    free_border(&kept);
}

static int listens(void *arg) {
    (void)arg;
    tdl_listener *l;
    tdl_conn *c;
    CHECK_RC(tdl_listen("tcp", "127.0.0.1:0", &l), -EOPNOTSUPP);
    CHECK_RC(tdl_dial("tcp", "127.0.0.1:1", 0, &c), -EOPNOTSUPP);
    return 0;
}

TEST(no_network, "G8 there is no network inside") { CHECK_RC(sim(14, listens, NULL), 0); }

/* -- Replay ------------------------------------------------------------------------- */

static uint64_t outcome;

static void mixes(void *arg) {
    for (int i = 0; i < 4; i++) {
        outcome = outcome * 31 + (uint64_t)(intptr_t)arg + tdl_sim_random() % 2;
        if (i % 2) tdl_yield();
        tdl_sleep((int64_t)(tdl_sim_random() % 3));
    }
    tdl_waitgroup_done(all);
}

static int mixes_all(void *arg) {
    (void)arg;
    outcome = 0;
    all = tdl_waitgroup_new();
    tdl_waitgroup_add(all, 8);
    for (intptr_t i = 0; i < 8; i++) tdl_go(mixes, (void *)i);
    tdl_waitgroup_wait(all);
    tdl_waitgroup_free(all);
    return 0;
}

TEST(replay, "G5 a seed repeats its run, a thousand times; another has another") {
    uint64_t hash[2][8], got[2][8];
    for (int round = 0; round < SCALE(1000); round++) {
        int strategy = round % 2, k = round / 2 % 8;
        tdl_sim_options o = {.size = sizeof o, .seed = (uint64_t)k, .strategy = strategy};
        CHECK_RC(tdl_sim_run(&o, mixes_all, NULL, &report), 0);
        if (round < 16) {
            hash[strategy][k] = report.hash;
            got[strategy][k] = outcome;
        }
        CHECK(report.hash == hash[strategy][k]);
        CHECK(outcome == got[strategy][k]);
        CHECK(report.seed == (uint64_t)k);
    }
    for (int i = 0; i < 8; i++)
        for (int k = 0; k < i; k++) {
            CHECK(hash[0][i] != hash[0][k]);
            CHECK(hash[1][i] != hash[1][k]);
        }
}

static int first_of_two(void *arg) {
    (void)arg;
    tdl_chan *a = tdl_chan_new(1), *b = tdl_chan_new(1);
    tdl_val v;
    tdl_val_set_nil(&v);
    tdl_chan_send(a, &v);
    tdl_chan_send(b, &v);
    tdl_case cases[2] = {{a, NULL, TDL_RECV, 0}, {b, NULL, TDL_RECV, 0}};
    int r = tdl_select(cases, 2, TDL_FOREVER);
    tdl_chan_free(a);
    tdl_chan_free(b);
    return r;
}

TEST(select_choice, "G5b which of two ready cases is taken comes from the seed") {
    int taken[2] = {0, 0};
    for (uint64_t seed = 0; seed < 100; seed++) {
        int r = sim(seed, first_of_two, NULL);
        CHECK_INT(sim(seed, first_of_two, NULL), r);
        taken[r & 1]++;
    }
    CHECK_WITHIN(taken[0], 20, 80);
}

/* -- Faults of a program ------------------------------------------------------------------ */

static int balance;
static tdl_mutex *guard;

/* Looks and takes under the lock, but not under one hold of it. */
static void withdraws(void *arg) {
    (void)arg;
    tdl_mutex_lock(guard);
    bool enough = balance >= 70;
    tdl_mutex_unlock(guard);
    if (enough) {
        tdl_mutex_lock(guard);
        balance -= 70;
        tdl_mutex_unlock(guard);
    }
    tdl_waitgroup_done(all);
}

static int bank(void *arg) {
    (void)arg;
    balance = 100;
    guard = tdl_mutex_new();
    all = tdl_waitgroup_new();
    tdl_waitgroup_add(all, 2);
    tdl_go(withdraws, NULL);
    tdl_go(withdraws, NULL);
    tdl_waitgroup_wait(all);
    tdl_waitgroup_free(all);
    tdl_mutex_free(guard);
    return balance < 0;
}

/* Two permits in two orders, which is a deadlock when each has got its first. */
static tdl_sema *permits[2];

static void takes_both(void *arg) {
    intptr_t first = (intptr_t)arg;
    tdl_sema_acquire(permits[first], 1);
    tdl_sema_acquire(permits[1 - first], 1);
    tdl_sema_release(permits[1 - first], 1);
    tdl_sema_release(permits[first], 1);
    tdl_waitgroup_done(all);
}

static int philosophers(void *arg) {
    (void)arg;
    for (int i = 0; i < 2; i++) permits[i] = tdl_sema_new(1);
    all = tdl_waitgroup_new();
    tdl_waitgroup_add(all, 2);
    for (intptr_t i = 0; i < 2; i++) tdl_go(takes_both, (void *)i);
    tdl_waitgroup_wait(all);
    tdl_waitgroup_free(all);
    for (int i = 0; i < 2; i++) tdl_sema_free(permits[i]);
    return 0;
}

/* A reader must come between two steps that follow each other at once. */
static int ready, length;

static void writes(void *arg) {
    (void)arg;
    for (int i = 0; i < 10; i++) tdl_yield();
    ready = 1;
    tdl_yield();
    length = 1;
    tdl_waitgroup_done(all);
}

static int seen_half;

static void reads(void *arg) {
    (void)arg;
    for (int i = 0; i < 10; i++) {
        if (ready && !length) seen_half = 1;
        tdl_yield();
    }
    tdl_waitgroup_done(all);
}

static int half_written(void *arg) {
    (void)arg;
    ready = length = seen_half = 0;
    all = tdl_waitgroup_new();
    tdl_waitgroup_add(all, 2);
    tdl_go(writes, NULL);
    tdl_go(reads, NULL);
    tdl_waitgroup_wait(all);
    tdl_waitgroup_free(all);
    return seen_half;
}

/* How many seeds until it is found. */
static int seeds_until(int strategy, int (*fn)(void *), int most) {
    for (int seed = 0; seed < most; seed++) {
        tdl_sim_options o = {.size = sizeof o, .seed = (uint64_t)seed, .strategy = strategy};
        if (tdl_sim_run(&o, fn, NULL, &report) != 0) return seed;
    }
    return most;
}

TEST(planted, "G12 planted faults are found within 1,000 seeds, by each strategy") {
    static const struct {
        const char *name;
        int (*fn)(void *);
    } faults[] = {{"bank", bank}, {"philosophers", philosophers}, {"half written", half_written}};
    for (int i = 0; i < 3; i++)
        for (int strategy = TDL_SIM_RANDOM; strategy <= TDL_SIM_PCT; strategy++) {
            int seed = seeds_until(strategy, faults[i].fn, 1000);
            CHECK_WITHIN(seed, 0, 999);
            printf("# %s, %s: seed %d\n", faults[i].name, strategy ? "pct" : "random", seed);
        }
}

/* -- Misuse ------------------------------------------------------------------------------ */

static int nested(void *arg) {
    (void)arg;
    CHECK_RC(sim(1, leaves_one, NULL), TDL_EBUSY);
    CHECK_RC(tdl_sim_begin(NULL), TDL_EBUSY);
    CHECK_RC(tdl_sim_end(NULL), TDL_EBUSY);
    return 0;
}

TEST(misuse, "G13 what cannot be is refused, and changes nothing") {
    tdl_sim_options o = {.size = sizeof o};
    CHECK_RC(tdl_sim_run(&o, NULL, NULL, &report), TDL_EINVAL);
    CHECK_RC(tdl_sim_end(&report), TDL_EINVAL);
    static const tdl_sim_options bad[] = {
        {.size = 1}, {.size = sizeof o, .strategy = 2}, {.size = sizeof o, .strategy = -1},
        {.size = sizeof o, .procs = -1}, {.size = sizeof o, .procs = 65}, {.size = sizeof o, .depth = -1},
        {.size = sizeof o, .depth = 18}, {.size = sizeof o, .start_ns = -1}, {.size = sizeof o, .max_ns = -1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_RC(tdl_sim_run(&bad[i], leaves_one, NULL, &report), TDL_EINVAL);
    CHECK_RC(sim(15, nested, NULL), 0);
    CHECK_RC(tdl_sim_run(NULL, nested, NULL, NULL), 0);
    int procs = tdl_gomaxprocs(0);
    for (int n = 1; n <= 64; n *= 4) {
        o.procs = n;
        CHECK_RC(tdl_sim_run(&o, mixes_all, NULL, &report), 0);
    }
    CHECK_INT(tdl_gomaxprocs(0), procs);
}

static int simulates(void *arg) {
    (void)arg;
    CHECK_RC(sim(1, leaves_one, NULL), TDL_EBUSY);
    return 0;
}

TEST(in_run, "G13b not in a goroutine, on a host's thread, or while goroutines run") {
    tdl_host *h;
    CHECK_RC(tdl_run(simulates, NULL), 0);
    REQUIRE(tdl_host_open("host", &h) == 0);
    CHECK_RC(sim(1, leaves_one, NULL), TDL_EHOST);
    tdl_host_close(h);
}

static int sleeps_for_an_hour(void *arg) {
    (void)arg;
    tdl_sleep(TDL_HOUR);
    return 3;
}

TEST(in_between, "G14 what is done between begin and end is simulated") {
    CHECK_RC(tdl_sim_begin(NULL), 0);
    CHECK_INT(tdl_now(), Y2000);
    CHECK_RC(tdl_sleep(TDL_HOUR), 0); /* on the thread itself */
    CHECK_INT(tdl_now(), Y2000 + TDL_HOUR);
    CHECK_INT(tdl_run(sleeps_for_an_hour, NULL), 3);
    tdl_g *g = go_joinable(receives_for_ever, NULL);
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(tdl_sim_end(&report), 0);
    CHECK_INT(report.ns, 2 * TDL_HOUR);
}
