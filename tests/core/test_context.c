/* SPDX-License-Identifier: MIT
 * Contexts. After each test of this file none must be left. */
#include "actors.h"
#include "check.h"

#include <stdio.h>
#include <stdlib.h>

enum { MS = 1000000 };

/* -- Ending ---------------------------------------------------------------------------- */

static void ended(tdl_context *c, int err, int cause) {
    CHECK_RC(tdl_context_err(c), err);
    CHECK_RC(tdl_context_cause(c, NULL), cause);
    CHECK_INT(tdl_chan_closed(tdl_context_done(c)), err != 0);
    CHECK_RC(tdl_context_wait_until(c, TDL_NOWAIT), err ? 0 : TDL_EAGAIN);
}

static void alive(tdl_context *c) { ended(c, 0, 0); }

static void cancel_once(void) {
    tdl_context *c = tdl_context_with_cancel(NULL);
    REQUIRE(c != NULL);
    alive(c);
    CHECK_INT(tdl_context_cancel(c, 0, NULL), 1);
    ended(c, TDL_ECANCELED, TDL_ECANCELED);
    CHECK_INT(tdl_context_cancel(c, -7, NULL), 0); /* the first counts */
    ended(c, TDL_ECANCELED, TDL_ECANCELED);
    CHECK_RC(tdl_context_wait(c), 0);
    tdl_context_free(c);
}

TEST_G(cancel, "E9 a context ends once: err, cause, done channel and wait all say so") { cancel_once(); }
TEST(cancel_thread, "E9 the same on a thread") { cancel_once(); }

TEST_G(background, "E9 the background never ends, and is the parent of those that have none") {
    tdl_context *bg = tdl_context_background(), *c = tdl_context_with_cancel(bg);
    CHECK_RC(tdl_context_cancel(bg, 0, NULL), TDL_EINVAL);
    CHECK_RC(tdl_context_err(bg), 0);
    CHECK(tdl_context_done(bg) == NULL);
    CHECK_INT(tdl_context_deadline(bg), TDL_FOREVER);
    CHECK_RC(tdl_context_wait_until(bg, tdl_now() + 2 * MS), TDL_ETIMEDOUT);
    CHECK(tdl_context_ref(bg) == bg);
    tdl_context_free(bg);
    tdl_context_free(bg);
    alive(c);
    tdl_context_free(c);
}

TEST_G(propagates, "E9 cancelling the root ends hundreds of children and their children, with its cause") {
    enum { CHILDREN = 300, DEPTH = 3 };
    tdl_context *c[CHILDREN][DEPTH];
    tdl_context *root = tdl_context_with_cancel(NULL), *other = tdl_context_with_cancel(NULL);
    tdl_val      detail, got;
    CHECK_RC(tdl_val_set_bytes(&detail, "enough", 6), 0);
    for (int i = 0; i < CHILDREN; i++)
        for (int k = 0; k < DEPTH; k++) c[i][k] = tdl_context_with_cancel(k ? c[i][k - 1] : root);
    CHECK_INT(tdl_context_cancel(c[7][1], -5, NULL), 1); /* a branch, before */
    alive(c[7][0]);
    ended(c[7][2], TDL_ECANCELED, -5);
    CHECK_INT(tdl_context_cancel(root, -42, &detail), 1);
    tdl_val_clear(&detail);
    for (int i = 0; i < CHILDREN; i++)
        for (int k = 0; k < DEPTH; k++) {
            ended(c[i][k], TDL_ECANCELED, i == 7 && k ? -5 : -42);
            CHECK_RC(tdl_context_cause(c[i][k], &got), i == 7 && k ? -5 : -42);
            CHECK_INT(tdl_val_type(&got), i == 7 && k ? TDL_NIL : TDL_BYTES);
            tdl_val_clear(&got);
        }
    alive(other);
    for (int i = 0; i < CHILDREN; i++)
        for (int k = 0; k < DEPTH; k++) tdl_context_free(c[(i * 7) % CHILDREN][k]);
    tdl_context_free(root);
    tdl_context_free(other);
}

TEST_G(born_ended, "E9 a child of a context that has ended is born so, with its err and cause") {
    tdl_context *p = tdl_context_with_cancel(NULL), *t = tdl_context_with_timeout(NULL, 0);
    tdl_val      key, v;
    tdl_val_set_int(&key, 1);
    tdl_val_set_int(&v, 2);
    CHECK_INT(tdl_context_cancel(p, -9, NULL), 1);
    tdl_context *c = tdl_context_with_cancel(p), *d = tdl_context_with_timeout(c, TDL_HOUR);
    tdl_context *e = tdl_context_with_value(d, &key, &v), *f = tdl_context_with_cancel(t);
    ended(c, TDL_ECANCELED, -9);
    ended(d, TDL_ECANCELED, -9);
    ended(e, TDL_ECANCELED, -9);
    ended(f, TDL_ETIMEDOUT, TDL_ETIMEDOUT);
    tdl_context *all[] = { p, t, c, d, e, f };
    for (int i = 0; i < 6; i++) tdl_context_free(all[i]);
}

TEST_G(deep, "E9 a chain of 20,000 ends and is freed, on a goroutine's stack") {
    int           n = SCALE(20000);
    tdl_context **c = calloc((size_t)n, sizeof *c);
    for (int i = 0; i < n; i++) c[i] = tdl_context_with_cancel(i ? c[i - 1] : NULL);
    CHECK_INT(tdl_context_cancel(c[0], 0, NULL), 1);
    ended(c[n - 1], TDL_ECANCELED, TDL_ECANCELED);
    for (int i = 0; i < n; i++) tdl_context_free(c[i]); /* the last frees all: each held its parent */
    free(c);
}

/* -- Nothing is left ---------------------------------------------------------------------- */

TEST_G(children_leave, "E9 a child that has ended or was freed is gone from its parent: no leak") {
    tdl_context *p = tdl_context_with_cancel(NULL);
    int64_t      before = tdl_metric("contexts");
    for (int i = 0; i < SCALE(5000); i++) {
        tdl_context *c = i % 3 ? tdl_context_with_cancel(p) : tdl_context_with_timeout(p, TDL_HOUR);
        if (i % 2) CHECK_INT(tdl_context_cancel(c, 0, NULL), 1);
        tdl_context_free(c);
        CHECK_INT(tdl_metric("contexts"), before);
    }
    CHECK_INT(tdl_metric("timers"), 0);
    CHECK_INT(tdl_context_cancel(p, 0, NULL), 1); /* walks no dead child */
    tdl_context_free(p);
}

TEST_G(parent_first, "E9 a child keeps its parent: values and ends still come when the parent's handle is gone") {
    tdl_context *root = tdl_context_with_cancel(NULL);
    tdl_val      key, v;
    tdl_val_set_int(&key, 1);
    tdl_val_set_int(&v, 2);
    tdl_context *p = tdl_context_with_value(root, &key, &v), *c = tdl_context_with_cancel(p);
    tdl_context_free(p);
    CHECK_INT(tdl_context_value(c, &key, &v), 1);
    CHECK_INT(tdl_context_cancel(root, -3, NULL), 1);
    ended(c, TDL_ECANCELED, -3);
    tdl_context_free(root);
    tdl_context_free(c);
}

TEST_G(refs, "E9 each holder frees once") {
    tdl_context *c = tdl_context_with_cancel(NULL);
    CHECK(tdl_context_ref(c) == c);
    tdl_context_free(c);
    CHECK_INT(tdl_context_cancel(c, 0, NULL), 1);
    tdl_context_free(c);
    tdl_context_free(NULL);
    CHECK_INT(tdl_metric("contexts"), 0);
}

/* -- Deadlines -------------------------------------------------------------------------------- */

static void times_out(void) {
    int64_t      due = tdl_now() + 20 * MS;
    tdl_context *c = tdl_context_with_deadline(NULL, due), *child = tdl_context_with_cancel(c);
    CHECK_INT(tdl_context_deadline(child), due);
    int err = tdl_context_err(child);
    CHECK(err == 0 || tdl_now() >= due);
    int rc = tdl_context_wait_until(child, due - 15 * MS); /* the call's, not the context's */
    CHECK(rc == TDL_ETIMEDOUT || tdl_now() >= due);
    CHECK_RC(tdl_context_wait(child), 0);
    CHECK(tdl_now() >= due);
    ended(c, TDL_ETIMEDOUT, TDL_ETIMEDOUT);
    ended(child, TDL_ETIMEDOUT, TDL_ETIMEDOUT);
    CHECK_INT(tdl_context_cancel(child, 0, NULL), 0);
    tdl_context_free(child);
    tdl_context_free(c);
}

TEST_G(deadline, "E9 a deadline ends a context and its children, not early") { times_out(); }
TEST(deadline_thread, "E9 the same on a thread, without a run") {
    check_keeps_fds();
    times_out();
}

TEST_G(earlier_wins, "E9 of a parent's deadline and one's own the earlier counts") {
    int64_t      now = tdl_now();
    tdl_context *p = tdl_context_with_deadline(NULL, now + 30 * MS);
    tdl_context *late = tdl_context_with_deadline(p, now + TDL_HOUR), *soon = tdl_context_with_deadline(p, now + 10 * MS);
    CHECK_INT(tdl_context_deadline(late), now + 30 * MS);
    CHECK_INT(tdl_context_deadline(soon), now + 10 * MS);
    CHECK_RC(tdl_context_wait(soon), 0);
    CHECK_RC(tdl_context_wait(late), 0);
    CHECK(tdl_now() >= now + 30 * MS);
    ended(late, TDL_ETIMEDOUT, TDL_ETIMEDOUT);
    tdl_context_free(soon);
    tdl_context_free(late);
    tdl_context_free(p);
    p = tdl_context_with_timeout(NULL, TDL_MINUTE);
    late = tdl_context_with_timeout(p, TDL_HOUR);
    CHECK_INT(tdl_metric("timers"), 1); /* the later one needs none */
    tdl_context_free(late);
    tdl_context_free(p);
    CHECK_INT(tdl_metric("timers"), 0);
}

TEST_G(past, "E9 a deadline that is past, or a timeout of 0 or less, ends it at once; one that never comes, never") {
    tdl_context *c[] = { tdl_context_with_deadline(NULL, 1), tdl_context_with_deadline(NULL, -1),
                         tdl_context_with_timeout(NULL, 0), tdl_context_with_timeout(NULL, INT64_MIN) };
    for (int i = 0; i < 4; i++) {
        ended(c[i], TDL_ETIMEDOUT, TDL_ETIMEDOUT);
        tdl_context_free(c[i]);
    }
    tdl_context *far[] = { tdl_context_with_timeout(NULL, INT64_MAX), tdl_context_with_deadline(NULL, TDL_FOREVER),
                           tdl_context_with_timeout(NULL, 100 * 365 * 24 * TDL_HOUR) };
    for (int i = 0; i < 3; i++) {
        alive(far[i]);
        tdl_context_free(far[i]);
    }
}

TEST_G(cancel_stops_timer, "E9 a cancelled context has no timer any more, and keeps its cause past its deadline") {
    tdl_context *c = tdl_context_with_timeout(NULL, TDL_HOUR);
    CHECK_INT(tdl_metric("timers"), 1);
    CHECK_INT(tdl_context_cancel(c, -2, NULL), 1);
    CHECK_INT(tdl_metric("timers"), 0);
    tdl_context_free(c);
    c = tdl_context_with_timeout(NULL, 10 * MS);
    if (tdl_context_cancel(c, -2, NULL)) {
        while (tdl_now() < tdl_context_deadline(c)) tdl_sleep(MS);
        ended(c, TDL_ECANCELED, -2);
    }
    tdl_context_free(c);
}

static tdl_context *outlived;

static void make_one(void) { outlived = tdl_context_with_timeout(NULL, 20 * MS); }

TEST(run_over, "E9 the deadline of a context whose run is over is still told by err") {
    check_run(make_one);
    REQUIRE(outlived != NULL);
    while (tdl_now() < tdl_context_deadline(outlived)) tdl_sleep(MS);
    CHECK_RC(tdl_context_err(outlived), TDL_ETIMEDOUT);
    tdl_context_free(outlived);
}

/* -- Waiting ------------------------------------------------------------------------------------ */

typedef struct watch {
    tdl_context *c;
    int          rc, how;
} watch;

static void watch_it(void *arg) {
    watch   *w = arg;
    tdl_case k = { .chan = tdl_context_done(w->c), .op = TDL_RECV };
    switch (w->how) {
    case 0: w->rc = tdl_context_wait(w->c); break;
    case 1: w->rc = tdl_select(&k, 1, TDL_FOREVER); break;
    default: w->rc = tdl_chan_recv(k.chan, NULL) == TDL_ECLOSED ? 0 : 1;
    }
}

TEST_G(waiters, "E9 goroutines and threads that wait, select or receive are all told") {
    enum { N = 30 };
    tdl_context *p = tdl_context_with_cancel(NULL), *c = tdl_context_with_cancel(p);
    watch        w[N];
    crew         cr;
    crew_open(&cr);
    for (int i = 0; i < N; i++) {
        w[i] = (watch){ c, 99, i % 3 };
        crew_start(&cr, i % 10 > 7, watch_it, &w[i]);
    }
    let_park();
    CHECK_INT(tdl_context_cancel(p, 0, NULL), 1);
    crew_close(&cr);
    for (int i = 0; i < N; i++) CHECK_RC(w[i].rc, 0);
    tdl_context_free(c);
    tdl_context_free(p);
}

TEST_G(wait_cancel, "E9 a goroutine that is cancelled stops waiting, and holds the context no more") {
    tdl_context *c = tdl_context_with_cancel(NULL);
    watch        w = { c, 99, 0 };
    tdl_g       *g = go_joinable(watch_it, &w);
    let_park();
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(w.rc, TDL_ECANCELED);
    alive(c);
    tdl_context_free(c);
}

enum { TASKS = 5 };

typedef struct vigil {
    tdl_context *parent, *child;
    atomic_int   waiting;
} vigil;

static int task_waits(actor *a, int result) {
    vigil       *v = a->data;
    tdl_context *c = a->n % 2 ? v->parent : v->child;
    switch (a->state++) {
    case 0: return tdl_context_wait_start(a->host, a->task, c, TDL_NOWAIT);
    case 1:
        CHECK_RC(result, TDL_EAGAIN);
        return tdl_context_wait_start(a->host, a->task, c, tdl_now() + 5 * MS);
    case 2:
        CHECK_RC(result, TDL_ETIMEDOUT);
        atomic_fetch_add(&v->waiting, 1);
        return tdl_context_wait_start(a->host, a->task, c, TDL_FOREVER);
    default: CHECK_RC(result, 0); return ACTOR_DONE;
    }
}

static int task_outwaits(actor *a, int result) {
    vigil *v = a->data;
    if (a->state++ == 0) return tdl_context_wait_start(a->host, a->task, a->n % 2 ? v->parent : v->child, TDL_FOREVER);
    CHECK_RC(result, 0);
    return ACTOR_DONE;
}

static void cancel_later(void *arg) {
    vigil *v = arg;
    while (atomic_load(&v->waiting) < TASKS) tdl_yield();
    CHECK_INT(tdl_context_cancel(v->parent, 0, NULL), 1);
}

TEST(tasks, "E9 tasks wait for a context that a goroutine, a thread, or its deadline ends") {
    check_keeps_fds();
    for (int how = 0; how < 3; how++) {
        stage s;
        crew  c;
        crew_open(&c);
        stage_open(&s, "context");
        vigil v = { .parent = how < 2 ? tdl_context_with_cancel(NULL) : tdl_context_with_timeout(NULL, 30 * MS) };
        v.child = tdl_context_with_cancel(v.parent);
        CHECK_RC(tdl_context_wait(v.parent), TDL_EHOST);
        for (int i = 0; i < TASKS; i++) {
            actor *a = stage_spawn(&s, how < 2 ? task_waits : task_outwaits, &v);
            a->n = i;
        }
        if (how < 2) crew_start(&c, how, cancel_later, &v);
        stage_run(&s);
        stage_close(&s);
        crew_close(&c);
        CHECK_RC(tdl_context_err(v.child), how < 2 ? TDL_ECANCELED : TDL_ETIMEDOUT);
        tdl_context_free(v.parent);
        tdl_context_free(v.child);
    }
}

/* -- Values --------------------------------------------------------------------------------------- */

static void set_key(tdl_val *v, int i) {
    char text[16];
    switch (i % 4) {
    case 0: tdl_val_set_int(v, i); break;
    case 1: tdl_val_set_ptr(v, (void *)(uintptr_t)(i + 1)); break;
    case 2: tdl_val_set_double(v, i / 2.0); break;
    default: CHECK_RC(tdl_val_set_bytes(v, text, (size_t)snprintf(text, sizeof text, "key %d", i)), 0);
    }
}

TEST_G(values, "E9 values are found by equal keys of each kind, the nearest first, through all kinds of children") {
    enum { N = 12 };
    tdl_context *c[N + 3];
    tdl_val      key, v;
    int          n = 0;
    c[n++] = tdl_context_with_cancel(NULL);
    for (int i = 0; i < N; i++, n++) {
        set_key(&key, i);
        tdl_val_set_int(&v, 100 + i);
        c[n] = tdl_context_with_value(c[n - 1], &key, &v);
        REQUIRE(c[n] != NULL);
        tdl_val_clear(&key);
    }
    c[n] = tdl_context_with_timeout(c[n - 1], TDL_HOUR);
    n++;
    set_key(&key, 3);
    CHECK_RC(tdl_val_set_bytes(&v, "nearer", 6), 0);
    c[n] = tdl_context_with_value(c[n - 1], &key, &v);
    tdl_val_clear(&v);
    tdl_val_clear(&key);
    for (int i = 0; i < N; i++) {
        set_key(&key, i);
        CHECK_INT(tdl_context_value(c[n], &key, &v), 1);
        CHECK_INT(tdl_val_type(&v), i == 3 ? TDL_BYTES : TDL_INT);
        if (i != 3) CHECK_INT(tdl_val_int(&v), 100 + i);
        tdl_val_clear(&v);
        CHECK_INT(tdl_context_value(c[n - 1], &key, &v), 1);
        CHECK_INT(tdl_val_int(&v), 100 + i);
        CHECK_INT(tdl_context_value(c[0], &key, NULL), 0);
        tdl_val_clear(&key);
    }
    tdl_val_set_double(&key, 4.0); /* not the int 4 */
    CHECK_INT(tdl_context_value(c[n], &key, &v), 0);
    CHECK_INT(tdl_val_type(&v), TDL_NIL);
    for (int i = 0; i <= n; i++) tdl_context_free(c[i]);
}

TEST_G(without_cancel, "E9 without cancel: the parent's values, not its end or its deadline") {
    tdl_val key, v;
    tdl_val_set_int(&key, 1);
    tdl_val_set_int(&v, 2);
    tdl_context *t = tdl_context_with_timeout(NULL, TDL_HOUR), *p = tdl_context_with_value(t, &key, &v);
    tdl_context *w = tdl_context_without_cancel(p), *c = tdl_context_with_cancel(w);
    CHECK_INT(tdl_context_cancel(p, 0, NULL), 1);
    CHECK_RC(tdl_context_err(w), 0);
    CHECK(tdl_context_done(w) == NULL);
    CHECK_RC(tdl_context_cancel(w, 0, NULL), TDL_EINVAL);
    CHECK_INT(tdl_context_deadline(w), TDL_FOREVER);
    alive(c);
    CHECK_INT(tdl_context_value(c, &key, &v), 1);
    CHECK_INT(tdl_context_cancel(c, 0, NULL), 1);
    tdl_context_free(t);
    tdl_context_free(p);
    tdl_context_free(c);
    tdl_context_free(w);
}

/* -- After -------------------------------------------------------------------------------------- */

typedef struct call {
    atomic_int n;
    uint64_t   goid;
} call;

static void note_call(void *arg) {
    call *c = arg;
    c->goid = tdl_goid();
    atomic_fetch_add(&c->n, 1);
}

static void until_called(call *c, int n) {
    while (atomic_load(&c->n) < n) tdl_sleep(MS);
}

TEST_G(after, "E9 after-func: a goroutine of its own when the context ends; stop says 0 then") {
    call         k = { 0, 0 };
    tdl_context *p = tdl_context_with_cancel(NULL), *c = tdl_context_with_cancel(p);
    tdl_after   *a = tdl_context_after_func(c, note_call, &k);
    let_park();
    CHECK_INT(atomic_load(&k.n), 0);
    CHECK_INT(tdl_context_cancel(p, 0, NULL), 1);
    until_called(&k, 1);
    CHECK(k.goid != 0 && k.goid != tdl_goid());
    CHECK_INT(tdl_after_stop(a), 0);
    tdl_after_free(a);
    a = tdl_context_after_func(c, note_call, &k); /* it has ended: at once */
    until_called(&k, 2);
    CHECK_INT(tdl_after_stop(a), 0);
    tdl_after_free(a);
    tdl_context_free(p);
    tdl_context_free(c);
}

TEST_G(after_stop, "E9 after-func: stopped or freed before the end it is never called; a second stop says 0") {
    call         k = { 0, 0 };
    tdl_context *c = tdl_context_with_cancel(NULL);
    tdl_after   *a[3];
    for (int i = 0; i < 3; i++) a[i] = tdl_context_after_func(c, note_call, &k);
    CHECK_INT(tdl_after_stop(a[1]), 1);
    CHECK_INT(tdl_after_stop(a[1]), 0);
    tdl_after_free(a[0]);
    CHECK_INT(tdl_context_cancel(c, 0, NULL), 1);
    until_called(&k, 1);
    let_park();
    CHECK_INT(atomic_load(&k.n), 1);
    CHECK_INT(tdl_after_stop(a[1]), 0);
    tdl_after_free(a[1]);
    tdl_after_free(a[2]);
    tdl_context_free(c);
}

TEST_G(after_keeps, "E9 after-func: keeps its context, and is called though every other holder has gone") {
    call         k = { 0, 0 };
    tdl_context *c = tdl_context_with_timeout(NULL, 10 * MS);
    tdl_after   *a = tdl_context_after_func(c, note_call, &k);
    tdl_context_free(c);
    until_called(&k, 1);
    tdl_after_free(a);
}

typedef struct duel {
    tdl_context *c;
    tdl_after   *a;
    atomic_int   stopped;
    call         k;
} duel;

static void stop_it(void *arg) {
    duel *d = arg;
    int   r = tdl_after_stop(d->a);
    CHECK_WITHIN(r, 0, 1);
    atomic_fetch_add(&d->stopped, r);
}

static void cancel_it(void *arg) { tdl_context_cancel(((duel *)arg)->c, 0, NULL); }

TEST_G(after_race, "E9 after-func: cancel and stop at the same time: called or stopped, exactly one") {
    for (int i = 0; i < SCALE(500); i++) {
        duel d = { .c = tdl_context_with_cancel(NULL) };
        crew c;
        d.a = tdl_context_after_func(d.c, note_call, &d.k);
        crew_open(&c);
        crew_start(&c, i % 16 == 0, stop_it, &d);
        crew_go(&c, cancel_it, &d);
        crew_go(&c, stop_it, &d);
        crew_close(&c);
        CHECK_WITHIN(d.stopped, 0, 1);
        if (!d.stopped) until_called(&d.k, 1);
        tdl_after_free(d.a);
        tdl_context_free(d.c);
        CHECK_INT(atomic_load(&d.k.n) + d.stopped, 1);
    }
}

/* -- Many hands ------------------------------------------------------------------------------------ */

typedef struct pair {
    tdl_context *a, *b;
} pair;

static void cancel_a(void *arg) {
    pair *p = arg;
    CHECK_INT(tdl_context_cancel(p->a, -1, NULL), 1);
}

static void cancel_b(void *arg) { tdl_context_cancel(((pair *)arg)->b, -2, NULL); }

TEST_G(interlocked, "E9 parent and child cancelled from two sides, each from within the other's end: no deadlock") {
    for (int i = 0; i < SCALE(500); i++) {
        pair       p = { tdl_context_with_cancel(NULL), NULL };
        crew       c;
        p.b = tdl_context_with_timeout(p.a, i % 4 ? TDL_HOUR : 1000);
        tdl_after *x = tdl_context_after_func(p.b, cancel_b, &p), *y = tdl_context_after_func(p.a, cancel_b, &p);
        crew_open(&c);
        crew_start(&c, i % 16 == 0, cancel_b, &p);
        crew_go(&c, cancel_a, &p);
        CHECK_RC(tdl_context_wait(p.b), 0);
        crew_close(&c);
        CHECK_RC(tdl_context_err(p.a), TDL_ECANCELED);
        CHECK_RC(tdl_context_cause(p.a, NULL), -1);
        CHECK(tdl_context_err(p.b) != 0);
        /* the functions use p */
        CHECK_INT(tdl_after_stop(x), 0);
        CHECK_INT(tdl_after_stop(y), 0);
        while (tdl_num_goroutines() > 1) tdl_yield();
        tdl_after_free(x);
        tdl_after_free(y);
        tdl_context_free(p.a);
        tdl_context_free(p.b);
    }
}

typedef struct forest {
    tdl_context *root;
    int          rounds;
} forest;

/* Grows a twig, and lets it end in one of many ways. */
static void grow(void *arg) {
    forest  *f = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    for (int i = 0; i < f->rounds; i++) {
        uint64_t     x = random_next(&seed);
        tdl_context *twig[4] = { tdl_context_with_timeout(f->root, 1000 + (int64_t)(x % 300000)) };
        for (int k = 1; k < 4; k++)
            twig[k] = x >> k & 16 ? tdl_context_with_cancel(twig[k - 1])
                                  : tdl_context_with_timeout(twig[k - 1], (int64_t)(x >> 8 * k) % 200000);
        call       k = { 0, 0 };
        tdl_after *a = tdl_context_after_func(twig[3], note_call, &k);
        if (x & 0x1000) tdl_context_cancel(twig[x >> 20 & 3], -1, NULL);
        if (x & 0x2000) CHECK_RC(tdl_context_wait(twig[x >> 22 & 3]), 0);
        for (int j = 0; j < 3; j++) tdl_context_free(twig[(j + x) % 3]);
        int stopped = tdl_after_stop(a);
        if (!stopped) until_called(&k, 1);
        tdl_after_free(a);
        tdl_context_free(twig[3]);
        CHECK_INT(atomic_load(&k.n), !stopped);
    }
}

TEST_G(forest_stress, "E9 many grow twigs of one tree that end by cancel, deadline, root or not at all: none is left") {
    forest f = { tdl_context_with_cancel(NULL), SCALE(400) };
    crew   c;
    crew_open(&c);
    for (int i = 0; i < 6; i++) crew_start(&c, i > 3, grow, &f);
    tdl_sleep(20 * MS);
    CHECK_INT(tdl_context_cancel(f.root, 0, NULL), 1);
    crew_close(&c);
    tdl_context_free(f.root);
    CHECK_INT(tdl_metric("contexts"), 0);
    CHECK_INT(tdl_metric("timers"), 0);
}

TEST(bad, "F5 null and what cannot be carried: an error or NULL, never a crash") {
    tdl_val key = { 0 }, v, ref = { .type = TDL_REF };
    tdl_val_set_int(&v, 1);
    CHECK(tdl_context_with_value(NULL, &key, &v) == NULL); /* a nil key */
    CHECK(tdl_context_with_value(NULL, NULL, &v) == NULL);
    CHECK(tdl_context_with_value(NULL, &v, NULL) == NULL);
    CHECK(tdl_context_with_value(NULL, &v, &ref) == NULL);
    CHECK(tdl_context_with_value(NULL, &ref, &v) == NULL);
    CHECK_RC(tdl_context_err(NULL), TDL_EINVAL);
    CHECK_RC(tdl_context_cause(NULL, &v), TDL_EINVAL);
    CHECK_RC(tdl_context_cancel(NULL, 0, NULL), TDL_EINVAL);
    CHECK_RC(tdl_context_wait(NULL), TDL_EINVAL);
    CHECK_INT(tdl_context_value(NULL, &v, NULL), 0);
    CHECK(tdl_context_done(NULL) == NULL);
    CHECK_INT(tdl_context_deadline(NULL), TDL_FOREVER);
    CHECK(tdl_context_after_func(NULL, note_call, NULL) == NULL);
    CHECK_RC(tdl_after_stop(NULL), TDL_EINVAL);
    tdl_after_free(NULL);
    tdl_context *c = tdl_context_with_cancel(NULL);
    CHECK_RC(tdl_context_cancel(c, 0, &ref), TDL_EINVAL);
    CHECK_INT(tdl_context_value(c, &key, NULL), 0);
    CHECK(tdl_context_after_func(c, NULL, NULL) == NULL);
    CHECK_RC(tdl_context_err(c), 0);
    tdl_context_free(c);
}
