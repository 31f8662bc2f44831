/* SPDX-License-Identifier: MIT
 * Scopes: whoever leaves one has waited for all that it owns. */
#include "actors.h"
#include "check.h"

#include <stdlib.h>

enum { MS = 1000000 };

typedef struct work {
    tdl_scope *s;
    atomic_int started, ended, cancelled, gate;
} work;

/* Ends by itself. */
static int do_some(void *arg) {
    work *w = arg;
    atomic_fetch_add(&w->started, 1);
    int rc = tdl_sleep(MS);
    if (rc == TDL_ECANCELED) atomic_fetch_add(&w->cancelled, 1);
    atomic_fetch_add(&w->ended, 1);
    return rc;
}

/* Ends only when it is cancelled. */
static int wait_long(void *arg) {
    work *w = arg;
    atomic_fetch_add(&w->started, 1);
    int rc = tdl_sleep(TDL_HOUR);
    if (CHECK_RC(rc, TDL_ECANCELED)) atomic_fetch_add(&w->cancelled, 1);
    CHECK_RC(tdl_sleep(MS), TDL_ECANCELED); /* and so does each call that follows */
    atomic_fetch_add(&w->ended, 1);
    return rc;
}

static int fail(void *arg) {
    (void)arg;
    tdl_sleep(MS);
    return -7;
}

static void none_left(void) {
    for (int i = 0; i < 5000 && (tdl_metric("contexts") || tdl_num_goroutines() > 1); i++) tdl_sleep(MS);
    CHECK_INT(tdl_metric("contexts"), 0);
}

/* -- Waiting for all ----------------------------------------------------------------------- */

static void leaves(void) {
    work w = { .s = tdl_scope_new(NULL, TDL_FOREVER) };
    REQUIRE(w.s != NULL);
    for (int i = 0; i < 100; i++) CHECK_RC(tdl_scope_go(w.s, do_some, &w), 0);
    CHECK_RC(tdl_scope_wait(w.s), 0);
    CHECK_INT(w.ended, 100); /* all, before it returned */
    CHECK_INT(w.cancelled, 0);
    CHECK_RC(tdl_scope_go(w.s, do_some, &w), TDL_ECLOSED);
    CHECK_RC(tdl_scope_wait(w.s), 0);
    CHECK_RC(tdl_scope_go(w.s, do_some, &w), TDL_ECLOSED);
    CHECK_RC(tdl_scope_begin(w.s), TDL_ECLOSED);
    CHECK_RC(tdl_context_err(tdl_scope_context(w.s)), TDL_ECANCELED);
    CHECK_RC(tdl_scope_error(w.s), 0);
    tdl_scope_free(w.s);
    w.s = tdl_scope_new(NULL, TDL_FOREVER);
    CHECK_RC(tdl_scope_wait(w.s), 0); /* an empty one */
    tdl_scope_free(w.s);
}

TEST_G(scope, "W1 leaving a scope waits for all its goroutines; then it is closed") { leaves(); }
TEST(scope_thread, "W1 the same on a thread") {
    check_keeps_fds();
    leaves();
    none_left();
}

static int spawn_more(void *arg) {
    work *w = arg;
    int   n = atomic_fetch_add(&w->started, 1);
    if (n < 200) {
        CHECK_RC(tdl_scope_go(w->s, spawn_more, w), 0);
        CHECK_RC(tdl_scope_go(w->s, spawn_more, w), 0);
    }
    atomic_fetch_add(&w->ended, 1);
    return 0;
}

TEST_G(children_spawn, "W1 children may start children while the scope is being left") {
    work w = { .s = tdl_scope_new(NULL, TDL_FOREVER) };
    CHECK_RC(tdl_scope_go(w.s, spawn_more, &w), 0);
    CHECK_RC(tdl_scope_wait(w.s), 0);
    CHECK_INT(w.ended, w.started);
    CHECK_INT(w.ended, 401);
    tdl_scope_free(w.s);
}

TEST_G(try_leave, "W1 with TDL_NOWAIT leaving says whether there are children, and changes nothing") {
    work w = { .s = tdl_scope_new(NULL, TDL_FOREVER), .gate = 1 };
    CHECK_RC(tdl_scope_begin(w.s), 0);
    CHECK_RC(tdl_scope_wait_until(w.s, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_scope_go(w.s, do_some, &w), 0);
    CHECK_RC(tdl_scope_done(w.s, 0), 0);
    while (tdl_scope_wait_until(w.s, TDL_NOWAIT) == TDL_EAGAIN) tdl_yield();
    CHECK_INT(w.ended, 1);
    CHECK_RC(tdl_scope_go(w.s, do_some, &w), TDL_ECLOSED);
    tdl_scope_free(w.s);
}

/* -- Errors --------------------------------------------------------------------------------- */

static void fails(void) {
    work w = { .s = tdl_scope_new(NULL, TDL_FOREVER) };
    for (int i = 0; i < 50; i++) CHECK_RC(tdl_scope_go(w.s, wait_long, &w), 0);
    CHECK_RC(tdl_scope_go(w.s, fail, NULL), 0);
    CHECK_RC(tdl_scope_wait(w.s), -7); /* not the TDL_ECANCELED of the siblings */
    CHECK_INT(w.ended, w.started);
    CHECK_INT(w.cancelled, w.started);
    CHECK_RC(tdl_scope_error(w.s), -7);
    CHECK_RC(tdl_context_cause(tdl_scope_context(w.s), NULL), -7);
    tdl_scope_free(w.s);
}

TEST_G(error, "W2 the first error cancels the siblings, wherever they wait, and is what leaving says") { fails(); }
TEST(error_thread, "W2 the same on a thread") {
    check_keeps_fds();
    fails();
    none_left();
}

TEST_G(after_error, "W2 a scope with an error takes nobody in any more; one that was on its way is born cancelled") {
    work w = { .s = tdl_scope_new(NULL, TDL_FOREVER) };
    CHECK_RC(tdl_scope_go(w.s, wait_long, &w), 0);
    CHECK_RC(tdl_scope_begin(w.s), 0);
    CHECK_RC(tdl_scope_done(w.s, -7), 0);
    CHECK_RC(tdl_scope_go(w.s, wait_long, &w), TDL_ECANCELED);
    CHECK_RC(tdl_scope_wait(w.s), -7);
    CHECK_INT(w.cancelled, 1); /* although it may not have begun yet then */
    tdl_scope_free(w.s);
}

TEST_G(cancel, "W2 cancelling the scope's context cancels the children; its cause is the error") {
    work w = { .s = tdl_scope_new(NULL, TDL_FOREVER) };
    for (int i = 0; i < 10; i++) CHECK_RC(tdl_scope_go(w.s, wait_long, &w), 0);
    CHECK_INT(tdl_context_cancel(tdl_scope_context(w.s), -5, NULL), 1);
    CHECK_RC(tdl_scope_wait(w.s), -5);
    CHECK_INT(w.cancelled, 10);
    tdl_scope_free(w.s);
    w.s = tdl_scope_new(NULL, TDL_FOREVER);
    CHECK_INT(tdl_context_cancel(tdl_scope_context(w.s), -5, NULL), 1);
    CHECK_RC(tdl_scope_wait(w.s), 0); /* there was nobody to be cancelled */
    tdl_scope_free(w.s);
}

static int leave_it(void *arg) {
    (void)arg;
    tdl_sleep(MS);
    tdl_goexit();
    return -1;
}

TEST_G(goexit, "W2 a child that leaves by goexit has ended without an error") {
    tdl_scope *s = tdl_scope_new(NULL, TDL_FOREVER);
    for (int i = 0; i < 10; i++) CHECK_RC(tdl_scope_go(s, leave_it, NULL), 0);
    CHECK_RC(tdl_scope_wait(s), 0);
    tdl_scope_free(s);
}

/* -- Deadlines -------------------------------------------------------------------------------- */

static void times_out(void) {
    int64_t due = tdl_now() + 20 * MS;
    work    w = { .s = tdl_scope_new(NULL, due) };
    int     n = 0;
    for (int i = 0; i < 10; i++) n += tdl_scope_go(w.s, wait_long, &w) == 0;
    CHECK(n == 10 || tdl_now() >= due);
    CHECK_RC(tdl_scope_wait(w.s), n ? TDL_ETIMEDOUT : 0);
    CHECK(tdl_now() >= due);
    CHECK_INT(w.cancelled, n);
    tdl_scope_free(w.s);
    w = (work){ .s = tdl_scope_new(NULL, TDL_FOREVER) };
    due = tdl_now() + 20 * MS;
    for (int i = 0; i < 10; i++) CHECK_RC(tdl_scope_go(w.s, wait_long, &w), 0);
    CHECK_RC(tdl_scope_wait_until(w.s, due), TDL_ETIMEDOUT); /* the call's: the same */
    CHECK(tdl_now() >= due);
    CHECK_INT(w.ended, 10);
    tdl_scope_free(w.s);
}

TEST_G(deadline, "W3 at its deadline, or the call's, a scope cancels its children, waits for them, and says so") { times_out(); }
TEST(deadline_thread, "W3 the same on a thread") {
    check_keeps_fds();
    times_out();
    none_left();
}

TEST_G(deadline_past, "W3 a scope that is late already takes nobody in") {
    work       w = { .s = tdl_scope_new(NULL, 1) };
    CHECK_RC(tdl_scope_go(w.s, wait_long, &w), TDL_ECANCELED);
    CHECK_RC(tdl_scope_wait(w.s), 0);
    CHECK_INT(w.started, 0);
    tdl_scope_free(w.s);
}

typedef struct nest {
    tdl_scope *outer;
    work       w;
    int        depth, rc, left;
} nest;

static int nested(void *arg) {
    nest      *n = arg;
    tdl_scope *inner = tdl_scope_new(tdl_scope_context(n->outer), tdl_now() + TDL_HOUR);
    CHECK_INT(tdl_context_deadline(tdl_scope_context(inner)), tdl_context_deadline(tdl_scope_context(n->outer)));
    nest deeper = { .outer = inner, .depth = n->depth - 1 };
    int  rc = n->depth > 0 ? tdl_scope_go(inner, nested, &deeper) : tdl_scope_go(inner, wait_long, &n->w);
    CHECK(rc == 0 || rc == TDL_ECANCELED); /* so late already? */
    n->rc = tdl_scope_wait(inner);         /* it is cancelled in there, and still waits for its child */
    if (rc == 0) CHECK(n->depth > 0 ? deeper.left : n->w.ended == 1);
    if (rc == 0) CHECK(n->rc != 0);
    tdl_scope_free(inner);
    n->left = 1;
    return n->rc;
}

TEST_G(inherited, "W3 scopes within scopes inherit the deadline, and at it all end, the innermost first") {
    nest n = { .outer = tdl_scope_new(NULL, tdl_now() + 20 * MS), .depth = 4 };
    int  rc = tdl_scope_go(n.outer, nested, &n);
    CHECK(rc == 0 || rc == TDL_ECANCELED);
    CHECK_RC(tdl_scope_wait(n.outer), rc ? 0 : TDL_ETIMEDOUT);
    tdl_scope_free(n.outer);
    none_left();
}

TEST_G(nested_error, "W2 an error in the outer scope ends the inner ones") {
    nest n = { .outer = tdl_scope_new(NULL, tdl_now() + TDL_MINUTE), .depth = 3 };
    CHECK_RC(tdl_scope_go(n.outer, nested, &n), 0);
    CHECK_RC(tdl_scope_go(n.outer, fail, NULL), 0);
    CHECK_RC(tdl_scope_wait(n.outer), -7);
    tdl_scope_free(n.outer);
    none_left();
}

/* -- The caller is cancelled --------------------------------------------------------------------- */

typedef struct owner {
    work       w;
    atomic_int waits;
    int        rc, after;
    int64_t    deadline;
} owner;

static int slow_to_go(void *arg) {
    work *w = arg;
    int   rc = wait_long(w);
    while (atomic_load(&w->gate)) tdl_yield();
    atomic_fetch_add(&w->ended, 1);
    return rc;
}

static void own(void *arg) {
    owner *o = arg;
    o->w.s = tdl_scope_new(NULL, TDL_FOREVER);
    CHECK_RC(tdl_scope_go(o->w.s, slow_to_go, &o->w), 0);
    while (o->after && tdl_sleep(MS) != TDL_ECANCELED) {}
    atomic_store(&o->waits, 1);
    o->rc = tdl_scope_wait_until(o->w.s, o->deadline ? o->deadline : TDL_FOREVER);
    CHECK_INT(o->w.ended, 2);
    tdl_scope_free(o->w.s);
}

TEST_G(owner_cancelled, "W4 who is cancelled while he leaves, or before, cancels the children and still waits for them") {
    for (int after = 0; after < 2; after++) {
        owner  o = { .w = { .gate = 1 }, .after = after };
        tdl_g *g = go_joinable(own, &o);
        if (!after) {
            while (!atomic_load(&o.waits)) tdl_yield();
            let_park();
        }
        while (!atomic_load(&o.w.started)) tdl_yield();
        CHECK_RC(tdl_cancel(g), 0);
        while (!atomic_load(&o.w.ended)) tdl_yield(); /* the child has been cancelled */
        CHECK_RC(tdl_cancel(g), 0);
        let_park();
        CHECK_INT(o.w.ended, 1);
        atomic_store(&o.w.gate, 0);
        CHECK_RC(tdl_join(g), 0);
        CHECK_RC(o.rc, TDL_ECANCELED);
    }
    none_left();
}

static void time_out_and_sleep(void *arg) {
    owner *o = arg;
    o->w.s = tdl_scope_new(NULL, TDL_FOREVER);
    CHECK_RC(tdl_scope_go(o->w.s, wait_long, &o->w), 0);
    CHECK_RC(tdl_scope_wait_until(o->w.s, tdl_now() + MS), TDL_ETIMEDOUT);
    tdl_scope_free(o->w.s);
    atomic_store(&o->waits, 1);
    o->rc = tdl_sleep(TDL_HOUR);
}

TEST_G(later_cancel, "W4 who has left a scope can be cancelled in the next call") {
    owner  o = { .waits = 0 };
    tdl_g *g = go_joinable(time_out_and_sleep, &o);
    while (!atomic_load(&o.waits)) tdl_yield();
    let_park();
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(o.rc, TDL_ECANCELED);
}

TEST_G(freed_early, "W4 a scope whose handle is freed cancels its children, and goes with the last") {
    work       w = { .gate = 1 };
    tdl_scope *s = tdl_scope_new(NULL, TDL_FOREVER);
    for (int i = 0; i < 5; i++) CHECK_RC(tdl_scope_go(s, slow_to_go, &w), 0);
    tdl_scope_free(s);
    while (atomic_load(&w.ended) < 5) tdl_yield();
    atomic_store(&w.gate, 0);
    none_left();
    CHECK_INT(w.ended, 10);
    CHECK_INT(w.cancelled, 5);
}

/* -- Circles --------------------------------------------------------------------------------------- */

static int wait_for_own(void *arg) {
    tdl_scope *s = arg;
    CHECK_RC(tdl_scope_wait(s), TDL_EDEADLOCK);
    CHECK_RC(tdl_scope_wait_until(s, tdl_now() + TDL_SECOND), TDL_EDEADLOCK);
    return 0;
}

TEST_G(self, "W7 a child that waits for its own scope is told: TDL_EDEADLOCK") {
    tdl_scope *s = tdl_scope_new(NULL, TDL_FOREVER);
    CHECK_RC(tdl_scope_go(s, wait_for_own, s), 0);
    CHECK_RC(tdl_scope_wait(s), 0);
    tdl_scope_free(s);
}

enum { RING = 5 };

typedef struct ring {
    tdl_scope *s[RING];
    atomic_int refused, at;
} ring;

typedef struct seat {
    ring *r;
    int   i;
} seat;

static int wait_for_next(void *arg) {
    seat *x = arg;
    int   rc = tdl_scope_wait(x->r->s[(x->i + 1) % RING]);
    if (rc == TDL_EDEADLOCK)
        atomic_fetch_add(&x->r->refused, 1);
    else
        CHECK_RC(rc, 0);
    return 0;
}

TEST_G(circle, "W7 of scopes that wait for each other in a ring, the one that closes it is told, and all end") {
    for (int round = 0; round < SCALE(200); round++) {
        ring r = { .refused = 0 };
        seat x[RING];
        for (int i = 0; i < RING; i++) r.s[i] = tdl_scope_new(NULL, TDL_FOREVER);
        for (int i = 0; i < RING; i++) CHECK_RC(tdl_scope_begin(r.s[i]), 0); /* nobody goes before all are there */
        for (int i = 0; i < RING; i++) {
            x[i] = (seat){ &r, (i * 3) % RING };
            CHECK_RC(tdl_scope_go(r.s[x[i].i], wait_for_next, &x[i]), 0);
        }
        while (atomic_load(&r.refused) == 0) tdl_yield();
        for (int i = 0; i < RING; i++) CHECK_RC(tdl_scope_done(r.s[i], 0), 0);
        for (int i = 0; i < RING; i++) CHECK_RC(tdl_scope_wait(r.s[i]), 0);
        CHECK_INT(r.refused, 1);
        for (int i = 0; i < RING; i++) tdl_scope_free(r.s[i]);
    }
}

typedef struct inside_out {
    tdl_scope *outer;
    int        inner_rc, outer_rc;
} inside_out;

static int wait_for_outer(void *arg) {
    inside_out *x = arg;
    x->outer_rc = tdl_scope_wait(x->outer);
    return 0;
}

static int open_inner(void *arg) {
    inside_out *x = arg;
    tdl_scope  *inner = tdl_scope_new(tdl_scope_context(x->outer), TDL_FOREVER);
    CHECK_RC(tdl_scope_go(inner, wait_for_outer, x), 0);
    x->inner_rc = tdl_scope_wait(inner);
    tdl_scope_free(inner); /* if it was told, this ends the other's wait */
    return 0;
}

TEST_G(outer, "W7 a child of an inner scope waits for the outer one: who comes second is told") {
    for (int round = 0; round < SCALE(200); round++) {
        inside_out x = { .outer = tdl_scope_new(NULL, TDL_FOREVER) };
        CHECK_RC(tdl_scope_go(x.outer, open_inner, &x), 0);
        tdl_scope_wait(x.outer);
        while (tdl_num_goroutines() > 1) tdl_yield();
        CHECK_INT((x.inner_rc == TDL_EDEADLOCK) + (x.outer_rc == TDL_EDEADLOCK), 1);
        tdl_scope_free(x.outer);
    }
    none_left();
}

static int wait_for_other(void *arg) {
    CHECK_RC(tdl_scope_wait(arg), 0);
    return 0;
}

TEST_G(no_circle, "W7 many children that wait for other scopes, in no circle, all wait") {
    tdl_scope *a = tdl_scope_new(NULL, TDL_FOREVER), *b = tdl_scope_new(NULL, TDL_FOREVER);
    work       w = { .s = b };
    CHECK_RC(tdl_scope_begin(a), 0);
    CHECK_RC(tdl_scope_begin(b), 0);
    for (int i = 0; i < 20; i++) CHECK_RC(tdl_scope_go(a, wait_for_other, b), 0);
    let_park();
    CHECK_RC(tdl_scope_go(b, do_some, &w), 0);
    CHECK_RC(tdl_scope_done(b, 0), 0);
    while (tdl_num_goroutines() > 1) tdl_yield(); /* all these have waited, and are gone */
    CHECK_INT(w.ended, 1);
    tdl_scope *c = tdl_scope_new(NULL, TDL_FOREVER);
    CHECK_RC(tdl_scope_go(c, wait_for_other, a), 0); /* looks at who of a waits for whom: nobody */
    let_park();
    CHECK_RC(tdl_scope_done(a, 0), 0);
    CHECK_RC(tdl_scope_wait(a), 0);
    CHECK_RC(tdl_scope_wait(c), 0);
    tdl_scope_free(a);
    tdl_scope_free(b);
    tdl_scope_free(c);
}

/* -- Hosts ------------------------------------------------------------------------------------------- */

static int task_owns(actor *a, int result) {
    work *w = a->data;
    switch (a->state++) {
    case 0:
        for (int i = 0; i < 5; i++) CHECK_RC(tdl_scope_go(w->s, wait_long, w), 0);
        return tdl_scope_wait_start(a->host, a->task, w->s, TDL_NOWAIT);
    case 1:
        CHECK_RC(result, TDL_EAGAIN);
        return tdl_scope_wait_start(a->host, a->task, w->s, a->n ? tdl_now() + 10 * MS : TDL_FOREVER);
    default:
        CHECK_RC(result, a->n ? TDL_ETIMEDOUT : TDL_ECANCELED);
        CHECK_INT(w->ended, 5);
        return ACTOR_DONE;
    }
}

TEST(task_owner, "W5 a task leaves a scope: at the deadline, or when it is cancelled, the children end first") {
    for (int deadline = 0; deadline < 2; deadline++) {
        work  w = { .s = tdl_scope_new(NULL, TDL_FOREVER) };
        stage s;
        check_keeps_fds();
        stage_open(&s, "scope");
        actor *a = stage_spawn(&s, task_owns, &w);
        a->n = deadline;
        while (a->state < 2 || w.started < 5) stage_poll(&s, MS);
        CHECK_RC(tdl_scope_wait(w.s), TDL_EHOST);
        if (!deadline) {
            CHECK_INT(tdl_task_cancel(s.host, a->task), 1);
            CHECK_INT(tdl_task_cancel(s.host, a->task), 0); /* it is on its way, and not to be hurried */
        }
        stage_run(&s);
        stage_close(&s);
        tdl_scope_free(w.s);
        none_left();
    }
}

static int task_child(actor *a, int result) {
    work *w = a->data;
    switch (a->state++) {
    case 0:
        CHECK_RC(tdl_scope_begin(w->s), 0);
        return tdl_context_wait_start(a->host, a->task, tdl_scope_context(w->s), TDL_FOREVER);
    default:
        CHECK_RC(result, 0);
        atomic_fetch_add(&w->ended, 1);
        CHECK_RC(tdl_scope_done(w->s, TDL_ECANCELED), 0);
        return ACTOR_DONE;
    }
}

static void leave_in_thread(void *arg) {
    work *w = arg;
    CHECK_RC(tdl_scope_wait(w->s), -7);
    CHECK_INT(w->ended, 3 + 2);
}

TEST(task_children, "W5 tasks are children, too: they hear of the end by the context, and are waited for") {
    work  w = { .s = tdl_scope_new(NULL, TDL_FOREVER) };
    stage s;
    crew  c;
    check_keeps_fds();
    stage_open(&s, "scope");
    for (int i = 0; i < 3; i++) stage_spawn(&s, task_child, &w);
    stage_poll(&s, 0);
    for (int i = 0; i < 2; i++) CHECK_RC(tdl_scope_go(w.s, wait_long, &w), 0);
    while (w.started < 2) stage_poll(&s, MS);
    CHECK_RC(tdl_scope_go(w.s, fail, NULL), 0);
    crew_open(&c);
    crew_thread(&c, leave_in_thread, &w);
    stage_run(&s);
    stage_close(&s);
    crew_close(&c);
    tdl_scope_free(w.s);
    none_left();
}

static int task_leaves(actor *a, int result) {
    (void)result;
    CHECK_INT(a->state++, 0);
    return tdl_scope_wait_start(a->host, a->task, a->data, TDL_FOREVER);
}

TEST(host_closes, "W5 a host that closes while a task leaves a scope: the scope can still be left by others") {
    for (int told = 0; told < 2; told++) {
        tdl_scope *sc = tdl_scope_new(NULL, TDL_FOREVER);
        stage      s;
        CHECK_RC(tdl_scope_begin(sc), 0);
        stage_open(&s, "scope");
        actor *a = stage_spawn(&s, task_leaves, sc);
        stage_poll(&s, 0);
        if (told) CHECK_INT(tdl_task_cancel(s.host, a->task), 1);
        stage_close(&s);
        CHECK_RC(tdl_scope_done(sc, 0), 0);
        CHECK_RC(tdl_scope_wait(sc), 0);
        tdl_scope_free(sc);
        CHECK_INT(tdl_metric("contexts"), 0);
    }
}

/* -- Many ----------------------------------------------------------------------------------------------- */

typedef struct tree {
    atomic_int *alive;
    tdl_scope  *parent;
    int         depth;
    uint64_t    seed;
} tree;

/* Children in a scope of its own, down to a depth; some fail, some wait, some just end. */
static int grow(void *arg) {
    tree t = *(tree *)arg;
    free(arg);
    atomic_fetch_add(t.alive, 1);
    uint64_t   x = random_next(&t.seed);
    int        rc = 0;
    if (t.depth > 0) {
        int64_t    until = x & 1 ? tdl_now() + (int64_t)(x >> 8) % (2 * MS) : TDL_FOREVER;
        tdl_scope *s = tdl_scope_new(tdl_scope_context(t.parent), until);
        for (int i = 0; i < 3; i++) {
            tree *twig = malloc(sizeof *twig);
            *twig = (tree){ t.alive, s, t.depth - 1, random_next(&t.seed) };
            rc = tdl_scope_go(s, grow, twig);
            if (rc == 0) continue;
            CHECK_RC(rc, TDL_ECANCELED);
            free(twig);
        }
        if (x & 2) tdl_context_cancel(tdl_scope_context(s), -9, NULL);
        rc = tdl_scope_wait(s);
        tdl_scope_free(s);
    } else {
        switch (x % 8) {
        case 0: rc = -7; break;
        case 1: rc = tdl_sleep(TDL_MILLISECOND * (int64_t)(x >> 60)); break;
        case 2: rc = tdl_context_wait(tdl_scope_context(t.parent)); break;
        default: tdl_yield();
        }
    }
    atomic_fetch_sub(t.alive, 1);
    return rc;
}

TEST_G(forest, "W6 trees of scopes that end by errors, deadlines and cancels: when one has been left, nobody lives") {
    uint64_t seed = 1;
    for (int round = 0; round < SCALE(40); round++) {
        atomic_int alive = 0;
        tdl_scope *s = tdl_scope_new(NULL, tdl_now() + (int64_t)(random_next(&seed) % (5 * MS)));
        for (int i = 0; i < 4; i++) {
            tree *t = malloc(sizeof *t);
            *t = (tree){ &alive, s, 3, random_next(&seed) };
            if (tdl_scope_go(s, grow, t) != 0) free(t);
        }
        tdl_scope_wait(s);
        CHECK_INT(alive, 0);
        tdl_scope_free(s);
    }
    none_left();
}

TEST(bad, "F5 a null scope, a null function, done without begin") {
    tdl_scope *s = tdl_scope_new(NULL, TDL_FOREVER);
    CHECK_RC(tdl_scope_go(NULL, fail, NULL), TDL_EINVAL);
    CHECK_RC(tdl_scope_go(s, NULL, NULL), TDL_EINVAL);
    CHECK_RC(tdl_scope_begin(NULL), TDL_EINVAL);
    CHECK_RC(tdl_scope_done(NULL, 0), TDL_EINVAL);
    CHECK_RC(tdl_scope_done(s, 0), TDL_ENEGATIVE);
    CHECK_RC(tdl_scope_wait(NULL), TDL_EINVAL);
    CHECK_RC(tdl_scope_error(NULL), TDL_EINVAL);
    CHECK(tdl_scope_context(NULL) == NULL);
    CHECK_RC(tdl_scope_wait(s), 0);
    tdl_scope_free(s);
    tdl_scope_free(NULL);
    CHECK_INT(tdl_metric("contexts"), 0);
}
