/* SPDX-License-Identifier: MIT
 * Conditions and weighted semaphores. */
#include "actors.h"
#include "check.h"

#include <stdlib.h>

enum { MS = 1000000 };

/* -- Conditions --------------------------------------------------------------------------- */

typedef struct meeting {
    tdl_mutex *m;
    tdl_cond  *c;
    int        waiting, next, open; /* guarded by m */
    int        order[200];
} meeting;

static void meet(meeting *t) {
    *t = (meeting){ .m = tdl_mutex_new() };
    t->c = tdl_cond_new(t->m);
    REQUIRE(t->m && t->c);
}

static void part(meeting *t) {
    CHECK_RC(tdl_mutex_trylock(t->m), 0); /* nobody holds it any more */
    CHECK_RC(tdl_mutex_unlock(t->m), 0);
    tdl_cond_free(t->c);
    tdl_mutex_free(t->m);
}

typedef struct guest {
    meeting *t;
    int      id, rc;
    int64_t  deadline;
} guest;

static void wait_once(void *arg) {
    guest *g = arg;
    CHECK_RC(tdl_mutex_lock(g->t->m), 0);
    g->id = g->t->waiting++;
    g->rc = g->deadline ? tdl_cond_wait_until(g->t->c, g->deadline) : tdl_cond_wait(g->t->c);
    /* the mutex is held, whatever ended the wait */
    CHECK_RC(tdl_mutex_trylock(g->t->m), TDL_EAGAIN);
    g->t->order[g->t->next++] = g->id;
    CHECK_RC(tdl_mutex_unlock(g->t->m), 0);
}

static void until_waiting(meeting *t, int n) {
    for (int there = 0; there < n; tdl_yield()) {
        CHECK_RC(tdl_mutex_lock(t->m), 0);
        there = t->waiting; /* all of these have given the mutex up: they wait */
        CHECK_RC(tdl_mutex_unlock(t->m), 0);
    }
}

TEST_G(signal_order, "E5 a hundred waiters are signalled in the order they came") {
    enum { N = 100 };
    meeting t;
    guest   g[N];
    crew    c;
    meet(&t);
    crew_open(&c);
    for (int i = 0; i < N; i++) {
        g[i] = (guest){ .t = &t };
        crew_start(&c, i % 10 == 5, wait_once, &g[i]);
    }
    until_waiting(&t, N);
    for (int i = 0; i < N; i++) {
        CHECK_RC(tdl_cond_signal(t.c), 0);
        for (int passed = 0; passed <= i; tdl_yield()) { /* one at a time */
            CHECK_RC(tdl_mutex_lock(t.m), 0);
            passed = t.next;
            CHECK_INT(passed <= i + 1, 1);
            CHECK_RC(tdl_mutex_unlock(t.m), 0);
        }
    }
    crew_close(&c);
    for (int i = 0; i < N; i++) {
        CHECK_INT(t.order[i], i);
        CHECK_RC(g[i].rc, 0);
    }
    part(&t);
}

TEST_G(broadcast, "E5 broadcast wakes all who wait, and only those") {
    enum { N = 30 };
    meeting t;
    guest   g[N];
    crew    c;
    meet(&t);
    CHECK_RC(tdl_cond_broadcast(t.c), 0); /* nobody there: forgotten */
    CHECK_RC(tdl_cond_signal(t.c), 0);
    crew_open(&c);
    for (int i = 0; i < N; i++) {
        g[i] = (guest){ .t = &t };
        crew_start(&c, i % 10 == 5, wait_once, &g[i]);
    }
    until_waiting(&t, N);
    CHECK_INT(t.next, 0);
    CHECK_RC(tdl_cond_broadcast(t.c), 0);
    crew_close(&c);
    CHECK_INT(t.next, N);
    part(&t);
}

TEST_G(not_held, "E5 waiting without the mutex is refused") {
    meeting t;
    meet(&t);
    CHECK_RC(tdl_cond_wait(t.c), TDL_ENOTLOCKED);
    CHECK_RC(tdl_cond_wait_until(t.c, tdl_now() + MS), TDL_ENOTLOCKED);
    CHECK(tdl_cond_new(NULL) == NULL);
    CHECK_RC(tdl_cond_wait(NULL), TDL_EINVAL);
    CHECK_RC(tdl_cond_signal(NULL), TDL_EINVAL);
    CHECK_RC(tdl_cond_broadcast(NULL), TDL_EINVAL);
    tdl_cond_free(NULL);
    part(&t);
}

static void time_out(void) {
    meeting t;
    meet(&t);
    guest g = { .t = &t, .deadline = tdl_now() + 20 * MS };
    wait_once(&g);
    CHECK_RC(g.rc, TDL_ETIMEDOUT);
    CHECK(tdl_now() >= g.deadline);
    part(&t);
}

TEST_G(deadline, "E5 a wait that times out returns with the mutex held") { time_out(); }
TEST(deadline_thread, "E5 the same on a thread") { time_out(); }

TEST_G(deadline_mutex_busy, "E5 a wait that timed out, or was cancelled, still waits for the mutex") {
    meeting t;
    meet(&t);
    guest  g = { .t = &t, .rc = 99 };
    tdl_g *w = go_joinable(wait_once, &g);
    until_waiting(&t, 1);
    CHECK_RC(tdl_mutex_lock(t.m), 0);
    CHECK_RC(tdl_cancel(w), 0);
    let_park();
    CHECK_INT(t.next, 0);
    CHECK_RC(tdl_mutex_unlock(t.m), 0);
    CHECK_RC(tdl_join(w), 0);
    CHECK_RC(g.rc, TDL_ECANCELED);
    CHECK_INT(t.next, 1);
    part(&t);
}

/* A bounded buffer of the classical kind. */
typedef struct buffer {
    tdl_mutex *m;
    tdl_cond  *not_full, *not_empty;
    int        count, most;
    int64_t    in, out, rounds;
} buffer;

static void put_items(void *arg) {
    buffer *b = arg;
    for (int64_t i = 0; i < b->rounds; i++) {
        CHECK_RC(tdl_mutex_lock(b->m), 0);
        while (b->count == 3) CHECK_RC(tdl_cond_wait(b->not_full), 0);
        b->count++;
        b->in++;
        if (b->count > b->most) b->most = b->count;
        CHECK_RC(tdl_cond_signal(b->not_empty), 0);
        CHECK_RC(tdl_mutex_unlock(b->m), 0);
    }
}

static void get_items(void *arg) {
    buffer *b = arg;
    for (int64_t i = 0; i < b->rounds; i++) {
        CHECK_RC(tdl_mutex_lock(b->m), 0);
        while (b->count == 0) CHECK_RC(tdl_cond_wait(b->not_empty), 0);
        b->count--;
        b->out++;
        CHECK_RC(tdl_mutex_unlock(b->m), 0);
        CHECK_RC(tdl_cond_signal(b->not_full), 0); /* without the mutex */
    }
}

TEST_G(bounded_buffer, "E5 a bounded buffer of goroutines and threads moves every item, and no signal is lost") {
    buffer b = { .m = tdl_mutex_new(), .rounds = SCALE(3000) };
    crew   c;
    b.not_full = tdl_cond_new(b.m);
    b.not_empty = tdl_cond_new(b.m);
    crew_open(&c);
    for (int i = 0; i < 4; i++) {
        crew_start(&c, i == 0, put_items, &b);
        crew_start(&c, i == 1, get_items, &b);
    }
    crew_close(&c);
    CHECK_INT(b.in, 4 * b.rounds);
    CHECK_INT(b.out, 4 * b.rounds);
    CHECK_WITHIN(b.most, 1, 3);
    tdl_cond_free(b.not_full);
    tdl_cond_free(b.not_empty);
    tdl_mutex_free(b.m);
}

static int actor_waits(actor *a, int result) {
    meeting *t = a->data;
    switch (a->state++) {
    case 0: return tdl_mutex_lock_start(a->host, a->task, t->m, TDL_FOREVER);
    case 1: CHECK_RC(result, 0); t->waiting++; return tdl_cond_wait_start(a->host, a->task, t->c, tdl_now() + 10 * MS);
    case 2:
        CHECK_RC(result, TDL_ETIMEDOUT);
        CHECK_RC(tdl_mutex_trylock(t->m), TDL_EAGAIN);
        return tdl_cond_wait_start(a->host, a->task, t->c, TDL_FOREVER);
    default:
        CHECK_RC(result, 0);
        CHECK_RC(tdl_mutex_unlock(t->m), 0);
        return ACTOR_DONE;
    }
}

typedef struct bell {
    tdl_cond  *c;
    atomic_int stop;
} bell;

static void ring_the_bell(void *arg) {
    bell *b = arg;
    while (!atomic_load(&b->stop)) {
        CHECK_RC(tdl_cond_signal(b->c), 0);
        tdl_sleep(MS);
    }
}

TEST(task_waits, "E5 a task waits on a condition that a goroutine signals; its time-outs hold the mutex too") {
    meeting t;
    stage   s;
    crew    c;
    meet(&t);
    check_keeps_fds();
    stage_open(&s, "cond");
    actor *a = stage_spawn(&s, actor_waits, &t);
    while (a->state < 3) stage_poll(&s, MS); /* the first wait has timed out */
    bell b = { t.c, 0 };
    crew_open(&c);
    crew_go(&c, ring_the_bell, &b);
    stage_run(&s);
    stage_close(&s);
    atomic_store(&b.stop, 1);
    crew_close(&c);
    part(&t);
}

/* -- Semaphores ------------------------------------------------------------------------------- */

TEST_G(sema_counts, "E5 a semaphore counts: acquire, try, release, more than there were") {
    tdl_sema *s = tdl_sema_new(3);
    CHECK_RC(tdl_sema_acquire(s, 2), 0);
    CHECK_RC(tdl_sema_try_acquire(s, 2), TDL_EAGAIN);
    CHECK_RC(tdl_sema_try_acquire(s, 1), 0);
    CHECK_RC(tdl_sema_acquire_until(s, 1, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_sema_acquire_until(s, 1, tdl_now() + 10 * MS), TDL_ETIMEDOUT);
    CHECK_RC(tdl_sema_release(s, 3), 0);
    CHECK_RC(tdl_sema_release(s, 2), 0);
    CHECK_RC(tdl_sema_acquire(s, 5), 0);
    CHECK_RC(tdl_sema_try_acquire(s, 1), TDL_EAGAIN);
    CHECK_RC(tdl_sema_acquire(s, 0), 0);
    tdl_sema_free(s);
    tdl_sema_free(NULL);
    CHECK_RC(tdl_sema_acquire(NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_sema_try_acquire(NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_sema_release(NULL, 1), TDL_EINVAL);
}

typedef struct claim {
    tdl_sema  *s;
    uint32_t   n;
    int64_t    deadline;
    atomic_int rc; /* 99 until it has returned */
    atomic_int *clock;
    int        when;
} claim;

static void acquire(void *arg) {
    claim *c = arg;
    int    rc = tdl_sema_acquire_until(c->s, c->n, c->deadline ? c->deadline : TDL_FOREVER);
    c->when = atomic_fetch_add(c->clock, 1);
    atomic_store(&c->rc, rc);
}

TEST_G(sema_fifo, "E5 acquirers are served in the order they came; small ones do not overtake a large one") {
    static const uint32_t want[] = { 1, 5, 1, 2, 1 };
    enum { N = sizeof want / sizeof *want };
    tdl_sema  *s = tdl_sema_new(0);
    atomic_int clock = 0;
    claim      c[N];
    crew       w;
    crew_open(&w);
    for (int i = 0; i < N; i++) {
        c[i] = (claim){ s, want[i], 0, 99, &clock, -1 };
        crew_start(&w, i == 3, acquire, &c[i]);
        tdl_sleep(5 * MS); /* they come in this order */
    }
    CHECK_RC(tdl_sema_release(s, 4), 0); /* the first takes 1; the second wants 5, 3 are there */
    tdl_sleep(10 * MS);
    CHECK_INT(atomic_load(&clock), 1);
    CHECK_RC(tdl_sema_try_acquire(s, 1), TDL_EAGAIN); /* nor may a newcomer */
    CHECK_RC(tdl_sema_release(s, 2), 0);
    while (atomic_load(&clock) < 2) tdl_yield();
    CHECK_RC(tdl_sema_release(s, 4), 0);
    crew_close(&w);
    CHECK_INT(c[0].when, 0);
    CHECK_INT(c[1].when, 1);
    for (int i = 0; i < N; i++) CHECK_RC(atomic_load(&c[i].rc), 0);
    CHECK_RC(tdl_sema_try_acquire(s, 1), TDL_EAGAIN);
    tdl_sema_free(s);
}

TEST_G(sema_gives_up, "E5 when the first in line gives up, those behind it that fit go ahead") {
    for (int cancel = 0; cancel < 2; cancel++) {
        tdl_sema  *s = tdl_sema_new(2);
        atomic_int clock = 0;
        claim      large = { s, 5, cancel ? 0 : tdl_now() + 30 * MS, 99, &clock, -1 }, small = { s, 2, 0, 99, &clock, -1 };
        tdl_g     *a = go_joinable(acquire, &large);
        tdl_sleep(5 * MS);
        tdl_g *b = go_joinable(acquire, &small);
        tdl_sleep(5 * MS);
        if (cancel) {
            CHECK_INT(atomic_load(&small.rc), 99);
            CHECK_RC(tdl_cancel(a), 0);
        }
        CHECK_RC(tdl_join(a), 0);
        CHECK_RC(tdl_join(b), 0); /* hangs if nobody looked at the line again */
        CHECK_RC(atomic_load(&large.rc), cancel ? TDL_ECANCELED : TDL_ETIMEDOUT);
        CHECK_RC(atomic_load(&small.rc), 0);
        tdl_sema_free(s);
    }
}

typedef struct room {
    tdl_sema  *s;
    atomic_int inside, most, timeouts;
} room;

static void enter(void *arg) {
    room    *r = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    for (int i = 0; i < SCALE(1500); i++) {
        uint32_t n = 1 + (uint32_t)(random_next(&seed) % 3);
        int64_t  until = random_next(&seed) % 4 ? TDL_FOREVER : tdl_now() + (int64_t)(random_next(&seed) % 3000);
        int      rc = tdl_sema_acquire_until(r->s, n, until);
        if (rc == TDL_ETIMEDOUT) {
            atomic_fetch_add(&r->timeouts, 1);
            continue;
        }
        CHECK_RC(rc, 0);
        int now = atomic_fetch_add(&r->inside, (int)n) + (int)n;
        CHECK_WITHIN(now, 1, 4);
        if (i % 16 == 0) tdl_yield();
        atomic_fetch_sub(&r->inside, (int)n);
        CHECK_RC(tdl_sema_release(r->s, n), 0);
    }
}

TEST_G(sema_stress, "E5 weights of 1 to 3 on 4 permits, with deadlines: never more inside, no permit lost") {
    room r = { .s = tdl_sema_new(4) };
    crew c;
    crew_open(&c);
    for (int i = 0; i < 7; i++) crew_start(&c, i >= 5, enter, &r);
    crew_close(&c);
    CHECK_RC(tdl_sema_try_acquire(r.s, 4), 0);
    CHECK_RC(tdl_sema_try_acquire(r.s, 1), TDL_EAGAIN);
    tdl_sema_free(r.s);
}

static int actor_acquires(actor *a, int result) {
    tdl_sema *s = a->data;
    switch (a->state++) {
    case 0: return tdl_sema_acquire_start(a->host, a->task, s, 1, tdl_now() + 10 * MS);
    case 1: CHECK_RC(result, TDL_ETIMEDOUT); return tdl_sema_acquire_start(a->host, a->task, s, 1, TDL_NOWAIT);
    case 2:
        CHECK_RC(result, TDL_EAGAIN);
        CHECK_RC(tdl_sema_release(s, 2), 0);
        return tdl_sema_acquire_start(a->host, a->task, s, 2, TDL_FOREVER);
    default: CHECK_RC(result, 0); return ACTOR_DONE;
    }
}

TEST(task_acquires, "E5 a task acquires, with a deadline and without") {
    stage     s;
    tdl_sema *sema = tdl_sema_new(0);
    stage_open(&s, "sema");
    stage_spawn(&s, actor_acquires, sema);
    stage_run(&s);
    CHECK_RC(tdl_sema_acquire(sema, 1), TDL_EHOST);
    stage_close(&s);
    tdl_sema_free(sema);
}
