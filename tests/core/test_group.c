/* SPDX-License-Identifier: MIT
 * Error groups and single flight. */
#include "actors.h"
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sys/sys.h"

enum { MS = 1000000 };

/* -- Error groups ------------------------------------------------------------------------- */

typedef struct task {
    tdl_errgroup *eg;
    atomic_int    running, most, ended, gate;
    int           result, lingers;
} task;

static int work(void *arg) {
    task *t = arg;
    int   now = atomic_fetch_add(&t->running, 1) + 1;
    for (int most = atomic_load(&t->most); now > most && !atomic_compare_exchange_weak(&t->most, &most, now);) {}
    if (t->lingers) tdl_sleep(MS);
    while (t->gate == 1) tdl_yield();
    atomic_fetch_sub(&t->running, 1);
    atomic_fetch_add(&t->ended, 1);
    return t->result;
}

static int fail_with_it(void *arg) { return (int)(intptr_t)arg; }

static int until_context_ends(void *arg) {
    tdl_context *c = tdl_errgroup_context(arg);
    CHECK_RC(tdl_context_wait(c), 0);
    return tdl_context_cause(c, NULL) == -7 ? -99 : 0;
}

static void all_well(void) {
    task t = { .eg = tdl_errgroup_new(NULL, 0) };
    CHECK_RC(tdl_errgroup_wait(t.eg), 0); /* nobody yet */
    tdl_errgroup_free(t.eg);
    t.eg = tdl_errgroup_new(NULL, 0);
    for (int i = 0; i < 50; i++) CHECK_RC(tdl_errgroup_go(t.eg, work, &t), 0);
    CHECK_RC(tdl_errgroup_wait(t.eg), 0);
    CHECK_INT(t.ended, 50);
    CHECK_RC(tdl_errgroup_error(t.eg), 0);
    CHECK_RC(tdl_context_err(tdl_errgroup_context(t.eg)), TDL_ECANCELED); /* its time is over */
    tdl_errgroup_free(t.eg);
}

TEST_G(group, "E9 a group without an error: wait waits for all, says 0, and ends the context") { all_well(); }
TEST(group_thread, "E9 the same on a thread") {
    check_keeps_fds();
    all_well();
}

TEST_G(first_error, "E9 the first error of a group ends its context with it as cause, and is what wait says") {
    tdl_context  *p = tdl_context_with_cancel(NULL);
    tdl_errgroup *eg = tdl_errgroup_new(p, 0);
    for (int i = 0; i < 10; i++) CHECK_RC(tdl_errgroup_go(eg, until_context_ends, eg), 0);
    CHECK_RC(tdl_errgroup_go(eg, fail_with_it, (void *)(intptr_t)-7), 0);
    CHECK_RC(tdl_errgroup_wait(eg), -7); /* not the -99 of those that followed */
    CHECK_RC(tdl_errgroup_error(eg), -7);
    CHECK_RC(tdl_context_cause(tdl_errgroup_context(eg), NULL), -7);
    CHECK_RC(tdl_context_err(p), 0);
    tdl_errgroup_free(eg);
    tdl_context_free(p);
}

TEST_G(positive_error, "E9 any result but 0 is an error") {
    tdl_errgroup *eg = tdl_errgroup_new(NULL, 0);
    CHECK_RC(tdl_errgroup_go(eg, fail_with_it, (void *)(intptr_t)3), 0);
    CHECK_RC(tdl_errgroup_wait(eg), 3);
    tdl_errgroup_free(eg);
}

TEST_G(parent_ends, "E9 a parent's end reaches the group's context") {
    tdl_context  *p = tdl_context_with_cancel(NULL);
    tdl_errgroup *eg = tdl_errgroup_new(p, 0);
    CHECK_RC(tdl_errgroup_go(eg, until_context_ends, eg), 0);
    CHECK_INT(tdl_context_cancel(p, -7, NULL), 1);
    CHECK_RC(tdl_errgroup_wait(eg), -99);
    tdl_errgroup_free(eg);
    tdl_context_free(p);
}

static void limited(int by_set) {
    task t = { .eg = tdl_errgroup_new(NULL, by_set ? 0 : 3), .lingers = 1 };
    if (by_set) CHECK_RC(tdl_errgroup_set_limit(t.eg, 3), 0);
    for (int i = 0; i < 20; i++) CHECK_RC(tdl_errgroup_go(t.eg, work, &t), 0);
    CHECK_RC(tdl_errgroup_wait(t.eg), 0);
    CHECK_INT(t.ended, 20);
    CHECK_WITHIN(t.most, 1, 3);
    tdl_errgroup_free(t.eg);
}

TEST_G(limit, "E9 no more than the limit work at a time; go waits for a place") {
    limited(0);
    limited(1);
}

TEST_G(limit_full, "E9 a full group: try says so, go ends at its deadline, the limit cannot be changed") {
    task t = { .eg = tdl_errgroup_new(NULL, 2), .gate = 1 };
    CHECK_RC(tdl_errgroup_try_go(t.eg, work, &t), 0);
    CHECK_RC(tdl_errgroup_try_go(t.eg, work, &t), 0);
    CHECK_RC(tdl_errgroup_try_go(t.eg, work, &t), TDL_EAGAIN);
    CHECK_RC(tdl_errgroup_go_until(t.eg, work, &t, tdl_now() + 5 * MS), TDL_ETIMEDOUT);
    CHECK_RC(tdl_errgroup_begin_until(t.eg, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_errgroup_set_limit(t.eg, 9), TDL_EBUSY);
    CHECK_RC(tdl_errgroup_try_go(t.eg, work, &t), TDL_EAGAIN);
    CHECK_RC(tdl_errgroup_wait_until(t.eg, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_errgroup_wait_until(t.eg, tdl_now() + 5 * MS), TDL_ETIMEDOUT);
    CHECK_RC(tdl_errgroup_error(t.eg), 0);
    atomic_store(&t.gate, 0);
    CHECK_RC(tdl_errgroup_wait(t.eg), 0);
    CHECK_RC(tdl_errgroup_set_limit(t.eg, 9), 0);
    tdl_errgroup_free(t.eg);
}

typedef struct starter {
    task *t;
    int   rc, begins;
} starter;

static void start_one(void *arg) {
    starter *s = arg;
    s->rc = s->begins ? tdl_errgroup_begin(s->t->eg) : tdl_errgroup_go(s->t->eg, work, s->t);
    if (s->begins && s->rc == 0) CHECK_RC(tdl_errgroup_done(s->t->eg, 0), 0);
}

TEST_G(limit_waiters, "E9 goroutines and threads wait for a place; one that is cancelled leaves it to the others") {
    task    t = { .eg = tdl_errgroup_new(NULL, 1), .gate = 1 };
    starter s[8];
    crew    c;
    CHECK_RC(tdl_errgroup_go(t.eg, work, &t), 0);
    crew_open(&c);
    starter gone = { &t, 99, 0 };
    tdl_g  *g = go_joinable(start_one, &gone);
    let_park();
    for (int i = 0; i < 8; i++) {
        s[i] = (starter){ &t, 99, i % 2 };
        crew_start(&c, i % 4 == 3, start_one, &s[i]);
    }
    let_park();
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(gone.rc, TDL_ECANCELED);
    atomic_store(&t.gate, 0);
    crew_close(&c);
    CHECK_RC(tdl_errgroup_wait(t.eg), 0);
    for (int i = 0; i < 8; i++) CHECK_RC(s[i].rc, 0);
    CHECK_INT(t.ended, 5);
    CHECK_INT(t.most, 1);
    tdl_errgroup_free(t.eg);
}

static int leave_it(void *arg) {
    (void)arg;
    tdl_goexit();
    return -1;
}

TEST_G(group_goexit, "E9 who leaves by goexit has ended without an error") {
    tdl_errgroup *eg = tdl_errgroup_new(NULL, 1);
    for (int i = 0; i < 5; i++) CHECK_RC(tdl_errgroup_go(eg, leave_it, NULL), 0);
    CHECK_RC(tdl_errgroup_wait(eg), 0);
    tdl_errgroup_free(eg);
}

TEST_G(group_freed_early, "E9 a group whose handle is freed while some work ends its context, and goes with the last") {
    tdl_errgroup *eg = tdl_errgroup_new(NULL, 0);
    int64_t       before = tdl_metric("contexts");
    for (int i = 0; i < 5; i++) CHECK_RC(tdl_errgroup_go(eg, until_context_ends, eg), 0);
    let_park();
    CHECK_INT(tdl_metric("contexts"), before);
    tdl_errgroup_free(eg);
    while (tdl_metric("contexts") == before) tdl_yield();
    while (tdl_num_goroutines() > 1) tdl_yield();
}

static int task_of_group(actor *a, int result) {
    task *t = a->data;
    switch (a->state++) {
    case 0: return tdl_errgroup_begin_start(a->host, a->task, t->eg, tdl_now() + MS);
    case 1: CHECK_RC(result, TDL_ETIMEDOUT); return tdl_errgroup_begin_start(a->host, a->task, t->eg, TDL_FOREVER);
    case 2:
        CHECK_RC(result, 0);
        CHECK_INT(atomic_fetch_add(&t->running, 1), 0);
        return tdl_sleep_start(a->host, a->task, MS);
    default:
        atomic_fetch_sub(&t->running, 1);
        atomic_fetch_add(&t->ended, 1);
        CHECK_RC(tdl_errgroup_done(t->eg, a->n ? -7 : 0), 0);
        return ACTOR_DONE;
    }
}

static int task_waits_for_group(actor *a, int result) {
    task *t = a->data;
    switch (a->state++) {
    case 0: return tdl_errgroup_wait_start(a->host, a->task, t->eg, tdl_now() + MS);
    case 1:
        CHECK_RC(result, TDL_ETIMEDOUT);
        atomic_store(&t->gate, 0);
        return tdl_errgroup_wait_start(a->host, a->task, t->eg, TDL_FOREVER);
    default: CHECK_RC(result, -7); return ACTOR_DONE;
    }
}

TEST(group_tasks, "E9 tasks take part in a group beside goroutines, wait for a place, fail, and wait for it") {
    task  t = { .eg = tdl_errgroup_new(NULL, 1), .gate = 1 };
    stage s;
    check_keeps_fds();
    stage_open(&s, "group");
    CHECK_RC(tdl_errgroup_go(t.eg, work, &t), TDL_EHOST);
    CHECK_RC(tdl_errgroup_wait(t.eg), TDL_EHOST);
    CHECK_RC(tdl_errgroup_try_go(t.eg, work, &t), 0); /* a host may start C goroutines */
    for (int i = 0; i < 4; i++) stage_spawn(&s, task_of_group, &t)->n = i == 2;
    stage_spawn(&s, task_waits_for_group, &t);
    stage_run(&s);
    stage_close(&s);
    CHECK_INT(t.ended, 5);
    CHECK_RC(tdl_errgroup_error(t.eg), -7);
    tdl_errgroup_free(t.eg);
}

static int task_begins(actor *a, int result) {
    (void)result;
    CHECK_INT(a->state++, 0);
    return tdl_errgroup_begin_start(a->host, a->task, a->data, TDL_FOREVER);
}

TEST(group_host_closes, "E9 a place that a task was given and never told of goes on to others when its host closes") {
    for (int given = 0; given < 2; given++) {
        tdl_errgroup *eg = tdl_errgroup_new(NULL, 1);
        stage         s;
        CHECK_RC(tdl_errgroup_begin(eg), 0);
        stage_open(&s, "group");
        stage_spawn(&s, task_begins, eg);
        stage_poll(&s, 0);
        if (given) CHECK_RC(tdl_errgroup_done(eg, 0), 0);
        stage_close(&s);
        if (!given) CHECK_RC(tdl_errgroup_done(eg, 0), 0);
        CHECK_RC(tdl_errgroup_wait(eg), 0);
        CHECK_RC(tdl_errgroup_begin(eg), 0);
        CHECK_RC(tdl_errgroup_done(eg, 0), 0);
        tdl_errgroup_free(eg);
    }
    CHECK_INT(tdl_metric("contexts"), 0);
}

TEST_G(group_stress, "E9 groups of goroutines and threads, limits and errors: all end, exactly one error is the first") {
    for (int round = 0; round < SCALE(100); round++) {
        tdl_errgroup *eg = tdl_errgroup_new(NULL, (uint32_t)round % 4);
        task          t = { .eg = eg };
        starter       s[4];
        crew          c;
        crew_open(&c);
        for (int i = 0; i < 4; i++) {
            s[i] = (starter){ &t, 99, i == 2 };
            crew_start(&c, i == 3 && round % 8 == 0, start_one, &s[i]);
        }
        for (int i = 1; i <= 5; i++) CHECK_RC(tdl_errgroup_go(eg, fail_with_it, (void *)(intptr_t)-i), 0);
        crew_close(&c);
        int rc = tdl_errgroup_wait(eg);
        CHECK_WITHIN(rc, -5, -1);
        CHECK_RC(tdl_context_cause(tdl_errgroup_context(eg), NULL), rc);
        CHECK_INT(t.ended, 3);
        tdl_errgroup_free(eg);
    }
}

TEST(group_bad, "F5 a null group, a null function, done without begin") {
    tdl_errgroup *eg = tdl_errgroup_new(NULL, 0);
    CHECK_RC(tdl_errgroup_go(NULL, work, NULL), TDL_EINVAL);
    CHECK_RC(tdl_errgroup_go(eg, NULL, NULL), TDL_EINVAL);
    CHECK_RC(tdl_errgroup_try_go(eg, NULL, NULL), TDL_EINVAL);
    CHECK_RC(tdl_errgroup_begin(NULL), TDL_EINVAL);
    CHECK_RC(tdl_errgroup_begin_until(NULL, TDL_NOWAIT), TDL_EINVAL);
    CHECK_RC(tdl_errgroup_done(NULL, 0), TDL_EINVAL);
    CHECK_RC(tdl_errgroup_done(eg, 0), TDL_ENEGATIVE);
    CHECK_RC(tdl_errgroup_wait(NULL), TDL_EINVAL);
    CHECK_RC(tdl_errgroup_error(NULL), TDL_EINVAL);
    CHECK_RC(tdl_errgroup_set_limit(NULL, 1), TDL_EINVAL);
    CHECK(tdl_errgroup_context(NULL) == NULL);
    tdl_errgroup_free(eg);
    tdl_errgroup_free(NULL);
    CHECK_INT(tdl_metric("contexts"), 0);
}

/* -- Single flight --------------------------------------------------------------------------- */

typedef struct search {
    tdl_singleflight *sf;
    const char       *key;
    atomic_int        asked, flights, flying, landed, shared, gate;
    int               result;
} search;

static int look_up(void *arg, tdl_val *v) {
    search *q = arg;
    CHECK_INT(tdl_val_type(v), TDL_NIL);
    CHECK_INT(atomic_fetch_add(&q->flying, 1), 0); /* one at a time */
    atomic_fetch_add(&q->flights, 1);
    while (atomic_load(&q->gate)) tdl_yield();
    CHECK_RC(tdl_val_set_bytes(v, "found", 5), 0);
    atomic_fetch_sub(&q->flying, 1);
    return q->result;
}

static void ask(void *arg) {
    search *q = arg;
    tdl_val v;
    int     shared = 99;
    size_t  n;
    atomic_fetch_add(&q->asked, 1);
    CHECK_RC(tdl_singleflight_do(q->sf, q->key, strlen(q->key), look_up, q, &v, &shared), q->result);
    const void *text = tdl_val_bytes(&v, &n);
    CHECK(n == 5 && memcmp(text, "found", 5) == 0);
    tdl_val_clear(&v);
    if (shared) atomic_fetch_add(&q->shared, 1);
    atomic_fetch_add(&q->landed, 1);
}

static void ask_together(int result) {
    enum { N = 20 };
    search q = { .sf = tdl_singleflight_new(), .key = "key", .gate = 1, .result = result };
    crew   c;
    crew_open(&c);
    crew_go(&c, ask, &q);
    while (!atomic_load(&q.flights)) tdl_yield();
    for (int i = 1; i < N; i++) crew_start(&c, i % 5 == 2, ask, &q);
    while (atomic_load(&q.asked) < N) tdl_yield();
    tdl_sleep(10 * MS); /* they all wait, unless one is held up on its last step */
    atomic_store(&q.gate, 0);
    crew_close(&c);
    CHECK_INT(q.landed, N);
    CHECK(q.flights == 1 || q.shared < N);
    CHECK(q.shared > N / 2);
    int flights = q.flights, shared = q.shared;
    ask(&q); /* not remembered: flies again, alone */
    CHECK_INT(q.flights, flights + 1);
    CHECK_INT(q.shared, shared);
    tdl_singleflight_free(q.sf);
}

TEST_G(flight, "E9 of many who ask for one key at a time one does the work, and all have result and value") {
    ask_together(0);
    ask_together(-7);
    ask_together(1); /* any result is only handed on */
}

TEST_G(keys, "E9 keys are told apart by length and bytes, and an empty one is one, too") {
    static const struct { const char *p; size_t n; } key[] = { { "a", 1 }, { "ab", 2 }, { "a\0b", 3 }, { "a\0c", 3 }, { NULL, 0 } };
    enum { N = sizeof key / sizeof *key };
    tdl_singleflight *sf = tdl_singleflight_new();
    tdl_outcome       out[N], again;
    for (int i = 0; i < N; i++) CHECK_INT(tdl_singleflight_begin(sf, key[i].p, key[i].n, &out[i]), 1);
    for (int i = 0; i < N; i++) {
        CHECK_RC(tdl_singleflight_begin_until(sf, key[i].p, key[i].n, &again, TDL_NOWAIT), TDL_EDEADLOCK);
        CHECK_INT(tdl_singleflight_forget(sf, key[i].p, key[i].n), 1);
        CHECK_INT(tdl_singleflight_forget(sf, key[i].p, key[i].n), 0);
    }
    for (int i = 0; i < N; i++) {
        CHECK_INT(tdl_singleflight_end(sf, out[i].extra, 0, NULL), 0);
        CHECK_RC(tdl_singleflight_end(sf, out[i].extra, 0, NULL), TDL_EINVAL);
    }
    tdl_singleflight_free(sf);
}

typedef struct passenger {
    tdl_singleflight *sf;
    int               rc;
    int64_t           result, value, deadline;
} passenger;

static void board(void *arg) {
    passenger  *p = arg;
    tdl_outcome out;
    p->rc = tdl_singleflight_begin_until(p->sf, "k", 1, &out, p->deadline ? p->deadline : TDL_FOREVER);
    p->result = out.extra;
    p->value = tdl_val_int(&out.val);
}

TEST_G(forget, "E9 forget: who comes later starts anew, who waits has the old result") {
    tdl_singleflight *sf = tdl_singleflight_new();
    tdl_outcome       out;
    passenger         early = { .sf = sf, .rc = 99 }, late = early, cancelled = early;
    tdl_val           v;
    CHECK_INT(tdl_singleflight_begin(sf, "k", 1, &out), 1);
    int64_t first = out.extra;
    tdl_g  *e = go_joinable(board, &early), *x = go_joinable(board, &cancelled);
    let_park();
    CHECK_RC(tdl_cancel(x), 0);
    CHECK_RC(tdl_join(x), 0);
    CHECK_RC(cancelled.rc, TDL_ECANCELED);
    CHECK_INT(tdl_singleflight_forget(sf, "k", 1), 1);
    CHECK_INT(tdl_singleflight_begin(sf, "k", 1, &out), 1); /* by the same caller: it is another flight */
    int64_t second = out.extra;
    CHECK(second != first);
    tdl_g *l = go_joinable(board, &late);
    let_park();
    tdl_val_set_int(&v, 22);
    CHECK_INT(tdl_singleflight_end(sf, second, 2, &v), 1);
    tdl_val_set_int(&v, 11);
    CHECK_INT(tdl_singleflight_end(sf, first, 1, &v), 1);
    CHECK_RC(tdl_join(e), 0);
    CHECK_RC(tdl_join(l), 0);
    CHECK_INT(early.result, 1);
    CHECK_INT(early.value, 11);
    CHECK_INT(late.result, 2);
    CHECK_INT(late.value, 22);
    tdl_singleflight_free(sf);
}

TEST_G(flight_deadline, "E9 who waits for a flight stops at the deadline; the flight goes on") {
    tdl_singleflight *sf = tdl_singleflight_new();
    tdl_outcome       out;
    crew              c;
    passenger         p[2] = { { .sf = sf, .deadline = tdl_now() + 10 * MS }, { .sf = sf, .deadline = TDL_NOWAIT } };
    CHECK_INT(tdl_singleflight_begin(sf, "k", 1, &out), 1);
    for (int thread = 0; thread < 2; thread++) {
        crew_open(&c);
        for (int i = 0; i < 2; i++) crew_start(&c, thread, board, &p[i]);
        crew_close(&c);
        CHECK_RC(p[0].rc, TDL_ETIMEDOUT);
        CHECK_RC(p[1].rc, TDL_EAGAIN);
    }
    CHECK_INT(tdl_singleflight_end(sf, out.extra, 0, NULL), 0);
    tdl_singleflight_free(sf);
}

static int leave_flight(void *arg, tdl_val *v) {
    (void)v;
    atomic_store((atomic_int *)arg, 1);
    tdl_sleep(5 * MS);
    tdl_goexit();
    return 0;
}

static atomic_int left;

static void fly_and_leave(void *arg) {
    tdl_singleflight_do(arg, "k", 1, leave_flight, &left, NULL, NULL);
    CHECK(!"goes on");
}

TEST_G(flight_goexit, "E9 who leaves a flight by goexit lands it: the others have TDL_ECANCELED") {
    passenger p = { .sf = tdl_singleflight_new(), .rc = 99 };
    atomic_store(&left, 0);
    tdl_go(fly_and_leave, p.sf);
    while (!atomic_load(&left)) tdl_yield();
    board(&p);
    CHECK_INT(p.rc, 0);
    CHECK_INT(p.result, TDL_ECANCELED);
    while (tdl_num_goroutines() > 1) tdl_yield();
    tdl_singleflight_free(p.sf);
}

static int nested_flight(void *arg, tdl_val *v) {
    return tdl_singleflight_do(arg, "k", 1, nested_flight, arg, v, NULL);
}

static int carries_a_ref(void *arg, tdl_val *v) {
    (void)arg;
    *v = (tdl_val){ .type = TDL_REF };
    return 0;
}

static void wrong(void) {
    tdl_singleflight *sf = tdl_singleflight_new();
    tdl_val           v, ref = { .type = TDL_REF };
    tdl_outcome       out;
    CHECK_RC(tdl_singleflight_do(sf, "k", 1, nested_flight, sf, &v, NULL), TDL_EDEADLOCK);
    CHECK_RC(tdl_singleflight_do(sf, "k", 1, carries_a_ref, NULL, &v, NULL), TDL_EINVAL);
    CHECK_INT(tdl_val_type(&v), TDL_NIL);
    CHECK_RC(tdl_singleflight_do(sf, "k", 1, NULL, NULL, &v, NULL), TDL_EINVAL);
    CHECK_RC(tdl_singleflight_do(sf, NULL, 1, carries_a_ref, NULL, &v, NULL), TDL_EINVAL);
    CHECK_RC(tdl_singleflight_do(NULL, "k", 1, carries_a_ref, NULL, &v, NULL), TDL_EINVAL);
    CHECK_RC(tdl_singleflight_begin(sf, "k", 1, NULL), TDL_EINVAL);
    CHECK_INT(tdl_singleflight_begin(sf, "k", 1, &out), 1);
    CHECK_RC(tdl_singleflight_end(sf, out.extra, 0, &ref), TDL_EINVAL);
    CHECK_RC(tdl_singleflight_end(NULL, out.extra, 0, NULL), TDL_EINVAL);
    CHECK_INT(tdl_singleflight_end(sf, out.extra, 0, NULL), 0);
    CHECK_RC(tdl_singleflight_forget(NULL, "k", 1), TDL_EINVAL);
    CHECK_RC(tdl_singleflight_forget(sf, NULL, 1), TDL_EINVAL);
    tdl_singleflight_free(sf);
    tdl_singleflight_free(NULL);
}

TEST_G(flight_bad, "F5 single flight: a flight within itself, null, and what cannot be carried") { wrong(); }
TEST(flight_bad_thread, "F5 the same on a thread") { wrong(); }

static int task_flies(actor *a, int result) {
    search *q = a->data;
    switch (a->state++) {
    case 0: return tdl_singleflight_begin_start(a->host, a->task, q->sf, q->key, strlen(q->key), TDL_FOREVER);
    case 1:
        if (result == 0) { /* somebody else's */
            CHECK_INT(outcome_of(a)->extra, q->result);
            CHECK_INT(tdl_val_type(&outcome_of(a)->val), TDL_BYTES);
            tdl_val_clear(&outcome_of(a)->val);
            atomic_fetch_add(&q->landed, 1);
            return ACTOR_DONE;
        }
        CHECK_INT(result, 1);
        a->m = outcome_of(a)->extra;
        atomic_fetch_add(&q->flights, 1);
        CHECK_RC(tdl_singleflight_begin_start(a->host, a->task, q->sf, q->key, strlen(q->key), TDL_FOREVER), TDL_EDEADLOCK);
        return tdl_sleep_start(a->host, a->task, 10 * MS);
    default: {
        tdl_val v;
        CHECK_RC(tdl_val_set_bytes(&v, "found", 5), 0);
        int others = tdl_singleflight_end(q->sf, a->m, q->result, &v);
        CHECK(others >= 2);
        tdl_val_clear(&v);
        atomic_fetch_add(&q->landed, 1);
        return ACTOR_DONE;
    }
    }
}

TEST(flight_counted, "E9 tasks that are known to wait for a flight all have its value, and it says how many they are") {
    enum { N = 10 };
    tdl_singleflight *sf = tdl_singleflight_new();
    tdl_host         *h = NULL;
    int               task[N], got = 0;
    tdl_val           v;
    CHECK_RC(tdl_host_open("flight", &h), 0);
    for (int i = 0; i < N; i++) {
        task[i] = tdl_task_new(h, 0);
        CHECK_INT(tdl_singleflight_begin_start(h, (uint32_t)task[i], sf, "k", 1, TDL_FOREVER), i ? TDL_PENDING : 1);
    }
    int64_t ticket = tdl_host_outcomes(h)[task[0]].extra;
    CHECK_RC(tdl_val_set_bytes(&v, "found", 5), 0);
    CHECK_INT(tdl_task_cancel(h, (uint32_t)task[N - 1]), 1);
    CHECK_INT(tdl_singleflight_end(sf, ticket, -3, &v), N - 2);
    tdl_val_clear(&v);
    while (got < N - 1) {
        tdl_event ev[N];
        int       n = tdl_host_poll(h, ev, N, -1);
        for (int i = 0; i < n; i++, got++) {
            tdl_outcome *o = &tdl_host_outcomes(h)[ev[i].task];
            CHECK_RC(ev[i].result, ev[i].task == (uint32_t)task[N - 1] ? TDL_ECANCELED : 0);
            if (ev[i].result == 0) CHECK_INT(o->extra, -3);
            CHECK_INT(tdl_val_type(&o->val), ev[i].result == 0 ? TDL_BYTES : TDL_NIL);
            tdl_val_clear(&o->val);
        }
    }
    for (int i = 0; i < N; i++) CHECK_RC(tdl_task_free(h, (uint32_t)task[i]), 0);
    CHECK_RC(tdl_host_close(h), 0);
    tdl_singleflight_free(sf);
}

TEST(flight_tasks, "E9 tasks, goroutines and threads share flights, whoever of them leads") {
    for (int task_leads = 0; task_leads < 2; task_leads++) {
        search q = { .sf = tdl_singleflight_new(), .key = "key", .gate = !task_leads, .result = -5 };
        stage  s;
        crew   c;
        check_keeps_fds();
        crew_open(&c);
        stage_open(&s, "flight");
        CHECK_RC(tdl_singleflight_do(q.sf, "key", 3, look_up, &q, NULL, NULL), TDL_EHOST);
        for (int i = 0; i < 3; i++) stage_spawn(&s, task_flies, &q);
        if (!task_leads) {
            crew_thread(&c, ask, &q);
            while (!atomic_load(&q.flights)) tdl_yield();
        }
        stage_poll(&s, 0);
        if (task_leads) crew_thread(&c, ask, &q);
        crew_go(&c, ask, &q);
        if (!task_leads) {
            stage_poll(&s, 2 * MS);
            atomic_store(&q.gate, 0);
        }
        stage_run(&s);
        stage_close(&s);
        crew_close(&c);
        CHECK_INT(q.landed, 5);
        tdl_singleflight_free(q.sf);
    }
}

typedef struct airport {
    tdl_singleflight *sf;
    atomic_int        flying[4];
    atomic_long       flights, asked;
} airport;

typedef struct trip {
    airport *a;
    int      k;
} trip;

static int fly(void *arg, tdl_val *v) {
    trip *t = arg;
    CHECK_INT(atomic_fetch_add(&t->a->flying[t->k], 1), 0); /* one per key */
    atomic_fetch_add(&t->a->flights, 1);
    tdl_yield();
    tdl_val_set_int(v, t->k);
    CHECK_INT(atomic_fetch_sub(&t->a->flying[t->k], 1), 1);
    return 100 + t->k;
}

static void travel(void *arg) {
    airport *a = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    for (int i = 0; i < SCALE(2000); i++) {
        uint64_t x = random_next(&seed);
        trip     t = { a, (int)(x % 4) };
        tdl_val  v;
        int64_t  until = x & 64 ? tdl_now() + (int64_t)(x >> 8) % 5000 : TDL_FOREVER;
        int      rc = tdl_singleflight_do_until(a->sf, &t.k, sizeof t.k, fly, &t, &v, NULL, until);
        atomic_fetch_add(&a->asked, 1);
        if (rc == TDL_ETIMEDOUT) continue;
        CHECK_INT(rc, 100 + t.k);
        CHECK_INT(tdl_val_int(&v), t.k);
    }
}

TEST_G(flight_stress, "E9 four keys asked for by goroutines and threads, with deadlines: never two flights of one key") {
    airport a = { .sf = tdl_singleflight_new() };
    crew    c;
    crew_open(&c);
    for (int i = 0; i < 8; i++) crew_start(&c, i > 5, travel, &a);
    crew_close(&c);
    CHECK_WITHIN(a.flights, 1, a.asked);
    tdl_singleflight_free(a.sf);
}

/* -- No memory ------------------------------------------------------------------------------------ */

static void *no_memory(size_t n) {
    (void)n;
    return NULL;
}

static void *new_rwmutex(void) { return tdl_rwmutex_new(); }
static void *new_once(void) { return tdl_once_new(); }
static void *new_context(void) { return tdl_context_with_cancel(NULL); }
static void *new_group(void) { return tdl_errgroup_new(NULL, 0); }
static void *new_flight(void) { return tdl_singleflight_new(); }
static void *new_scope(void) { return tdl_scope_new(NULL, TDL_FOREVER); }
static void free_rwmutex(void *p) { tdl_rwmutex_free(p); }
static void free_once(void *p) { tdl_once_free(p); }
static void free_context(void *p) { tdl_context_free(p); }
static void free_group(void *p) { tdl_errgroup_free(p); }
static void free_flight(void *p) { tdl_singleflight_free(p); }
static void free_scope(void *p) { tdl_scope_free(p); }

TEST(no_memory_left, "X4 where memory is out making one gives NULL, and all goes on when there is some again") {
    static const struct {
        void *(*make)(void);
        void (*give)(void *);
    } kinds[] = { { new_rwmutex, free_rwmutex }, { new_once, free_once },     { new_context, free_context },
                  { new_group, free_group },     { new_flight, free_flight }, { new_scope, free_scope } };
    enum { MANY = 5000 }; /* more than a pool has in store */
    static void *made[MANY];
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        int n = 0;
        tdl_sys.alloc = no_memory;
        while (n < MANY && (made[n] = kinds[k].make()) != NULL) n++;
        tdl_sys.alloc = tdl_sys_real.alloc;
        CHECK(n < MANY);
        while (n > 0) kinds[k].give(made[--n]);
        CHECK_INT(tdl_metric("contexts"), 0);
        CHECK_INT(tdl_metric("channels"), 0);
        made[0] = kinds[k].make();
        CHECK(made[0] != NULL);
        kinds[k].give(made[0]);
    }
    tdl_singleflight *sf = tdl_singleflight_new();
    tdl_outcome       out;
    tdl_sys.alloc = no_memory;
    CHECK_RC(tdl_singleflight_begin(sf, "k", 1, &out), TDL_ENOMEM);
    tdl_sys.alloc = tdl_sys_real.alloc;
    CHECK_INT(tdl_singleflight_begin(sf, "k", 1, &out), 1);
    CHECK_INT(tdl_singleflight_end(sf, out.extra, 0, NULL), 0);
    tdl_singleflight_free(sf);
}
