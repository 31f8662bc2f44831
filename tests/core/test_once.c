/* SPDX-License-Identifier: MIT
 * Things that happen once. */
#include "actors.h"
#include "check.h"

#include <stdlib.h>

enum { MS = 1000000 };

typedef struct deed {
    tdl_once  *o;
    atomic_int begun, gate; /* gate: it lasts until this is 1 */
    int        done;        /* written by the one, read by all after it */
} deed;

static void do_it(void *arg) {
    deed *d = arg;
    CHECK_INT(atomic_fetch_add(&d->begun, 1), 0);
    while (!atomic_load(&d->gate)) tdl_yield();
    d->done = 1;
}

static void call_once(void *arg) {
    deed *d = arg;
    CHECK_RC(tdl_once_do(d->o, do_it, d), 0);
    CHECK_INT(d->done, 1);
    CHECK_INT(tdl_once_done(d->o), 1);
}

TEST_G(once, "E8 of many who call, one does it, and nobody goes on before it is done") {
    deed d = { .o = tdl_once_new() };
    crew c;
    crew_open(&c);
    CHECK_INT(tdl_once_done(d.o), 0);
    for (int i = 0; i < 20; i++) crew_start(&c, i % 5 == 2, call_once, &d);
    while (!atomic_load(&d.begun)) tdl_yield();
    let_park();
    CHECK_INT(tdl_once_done(d.o), 0);
    CHECK_RC(tdl_once_do_until(d.o, do_it, &d, tdl_now() + 5 * MS), TDL_ETIMEDOUT);
    CHECK_RC(tdl_once_do_until(d.o, do_it, &d, TDL_NOWAIT), TDL_EAGAIN);
    atomic_store(&d.gate, 1);
    crew_close(&c);
    CHECK_INT(d.begun, 1);
    tdl_once_free(d.o);
}

TEST_G(race, "E8 round after round, goroutines and threads race for it: once each round") {
    for (int round = 0; round < SCALE(200); round++) {
        deed d = { .o = tdl_once_new(), .gate = 1 };
        crew c;
        crew_open(&c);
        for (int i = 0; i < 4; i++) crew_start(&c, i == 3 && round % 8 == 0, call_once, &d);
        crew_close(&c);
        CHECK_INT(d.begun, 1);
        tdl_once_free(d.o);
    }
}

static void goes_away(void *arg) {
    atomic_store((atomic_int *)arg, 1);
    tdl_goexit();
}

typedef struct leaver {
    tdl_once  *o;
    atomic_int begun;
} leaver;

static void leave_within(void *arg) {
    leaver *l = arg;
    tdl_once_do(l->o, goes_away, &l->begun);
    CHECK(!"goes on");
}

static void must_not_run(void *arg) {
    (void)arg;
    CHECK(!"is done again");
}

TEST_G(panics, "E8 who leaves by goexit in the middle of it has done it") {
    leaver l = { .o = tdl_once_new() };
    tdl_g *g = go_joinable(leave_within, &l);
    while (!atomic_load(&l.begun)) tdl_yield();
    CHECK_RC(tdl_once_do(l.o, must_not_run, NULL), 0);
    CHECK_INT(tdl_once_done(l.o), 1);
    CHECK_RC(tdl_join(g), 0);
    tdl_once_free(l.o);
}

static void nothing(void *arg) { (void)arg; }

static void leave_after(void *arg) {
    tdl_once_do(arg, nothing, NULL);
    tdl_goexit(); /* after it is done this is no business of its */
}

TEST_G(leaves_later, "E8 who leaves by goexit when it has long been done does it no harm") {
    tdl_once *o = tdl_once_new();
    CHECK_RC(tdl_join(go_joinable(leave_after, o)), 0);
    CHECK_INT(tdl_once_done(o), 1);
    tdl_once_free(o);
}

static void do_again(void *arg) {
    deed *d = arg;
    CHECK_RC(tdl_once_do(d->o, must_not_run, NULL), TDL_EDEADLOCK);
    CHECK_RC(tdl_once_begin(d->o), TDL_EDEADLOCK);
    d->done++;
}

static void nested(void) {
    deed d = { .o = tdl_once_new() };
    CHECK_RC(tdl_once_do(d.o, do_again, &d), 0);
    CHECK_INT(d.done, 1);
    CHECK_RC(tdl_once_do(d.o, must_not_run, NULL), 0);
    tdl_once_free(d.o);
}

TEST_G(within, "E8 doing it within itself is TDL_EDEADLOCK, not a wait for ever") { nested(); }
TEST(within_thread, "E8 the same on a thread") { nested(); }

TEST_G(halves, "E8 in two halves: the first begins, the others wait for its end") {
    deed d = { .o = tdl_once_new(), .gate = 1 };
    CHECK_RC(tdl_once_end(d.o), TDL_ENOTLOCKED);
    CHECK_INT(tdl_once_begin(d.o), 1);
    crew c;
    crew_open(&c);
    for (int i = 0; i < 4; i++) crew_start(&c, i == 1, call_once, &d);
    let_park();
    d.done = 1;
    CHECK_RC(tdl_once_end(d.o), 0);
    crew_close(&c);
    CHECK_INT(d.begun, 0); /* nobody else did it */
    CHECK_RC(tdl_once_end(d.o), TDL_ENOTLOCKED);
    CHECK_RC(tdl_once_begin(d.o), 0);
    tdl_once_free(d.o);
}

static void wait_for_it(void *arg) {
    deed *d = arg;
    d->done = tdl_once_begin(d->o);
}

TEST_G(cancel, "E8 a cancelled waiter returns, and it is still done once") {
    deed d = { .o = tdl_once_new() };
    CHECK_INT(tdl_once_begin(d.o), 1);
    tdl_g *g = go_joinable(wait_for_it, &d);
    let_park();
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(d.done, TDL_ECANCELED);
    CHECK_RC(tdl_once_end(d.o), 0);
    tdl_once_free(d.o);
}

static int task_does_it(actor *a, int result) {
    deed *d = a->data;
    switch (a->state++) {
    case 0: return tdl_once_begin_start(a->host, a->task, d->o, TDL_FOREVER);
    case 1:
        if (result == 0) {
            CHECK_INT(d->done, 1);
            return ACTOR_DONE;
        }
        CHECK_INT(result, 1);
        CHECK_INT(atomic_fetch_add(&d->begun, 1), 0);
        CHECK_RC(tdl_once_begin_start(a->host, a->task, d->o, TDL_FOREVER), TDL_EDEADLOCK);
        return tdl_sleep_start(a->host, a->task, 5 * MS);
    default:
        CHECK_RC(result, 0);
        d->done = 1;
        CHECK_RC(tdl_once_end(d->o), 0);
        return ACTOR_DONE;
    }
}

static int task_gives_up(actor *a, int result) {
    deed *d = a->data;
    if (a->state++ == 0) return tdl_once_begin_start(a->host, a->task, d->o, tdl_now() + MS);
    CHECK_RC(result, TDL_ETIMEDOUT);
    return ACTOR_DONE;
}

TEST(tasks, "E8 a task can be the one that does it: tasks, goroutines and threads wait for it") {
    for (int task_first = 0; task_first < 2; task_first++) {
        deed  d = { .o = tdl_once_new(), .gate = 1 };
        stage s;
        crew  c;
        check_keeps_fds();
        crew_open(&c);
        stage_open(&s, "once");
        CHECK_RC(tdl_once_do(d.o, do_it, &d), TDL_EHOST);
        for (int i = 0; i < 3; i++) stage_spawn(&s, task_does_it, &d);
        if (task_first) stage_spawn(&s, task_gives_up, &d);
        if (task_first) stage_poll(&s, 0);
        for (int i = 0; i < 4; i++) crew_start(&c, i == 3, call_once, &d);
        stage_run(&s);
        stage_close(&s);
        crew_close(&c);
        CHECK_INT(d.begun, 1);
        CHECK_INT(d.done, 1);
        tdl_once_free(d.o);
    }
}

TEST(bad, "F5 a null once, or a null function, is TDL_EINVAL") {
    tdl_once *o = tdl_once_new();
    CHECK_RC(tdl_once_do(NULL, must_not_run, NULL), TDL_EINVAL);
    CHECK_RC(tdl_once_do(o, NULL, NULL), TDL_EINVAL);
    CHECK_RC(tdl_once_begin(NULL), TDL_EINVAL);
    CHECK_RC(tdl_once_end(NULL), TDL_EINVAL);
    CHECK_INT(tdl_once_done(NULL), 0);
    CHECK_INT(tdl_once_done(o), 0);
    tdl_once_free(o);
    tdl_once_free(NULL);
}
