/* SPDX-License-Identifier: MIT
 * Circles of mutexes: found, named, and ended with TDL_EDEADLOCK for the one
 * who closed it; and nothing that only looks like one. */
#include "actors.h"
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sched/blocked.h"

enum { MEMBERS = 40 };

/* -- What was said -------------------------------------------------------------- */

static int  saved = -1;
static FILE *said;

static void listen_begin(void) {
    said = tmpfile();
    REQUIRE(said != NULL);
    fflush(stderr);
    saved = dup(STDERR_FILENO);
    dup2(fileno(said), STDERR_FILENO);
}

/* What stderr was told since; to be freed. */
static char *listen_end(void) {
    dup2(saved, STDERR_FILENO);
    close(saved);
    long size = lseek(fileno(said), 0, SEEK_END);
    char *text = calloc(1, (size_t)size + 1);
    CHECK_INT(pread(fileno(said), text, (size_t)size, 0), size);
    fclose(said);
    return text;
}

/* The end, where stderr was not to be told anything. */
static void nothing_was_said(void) {
    char *text = listen_end();
    CHECK_INT(strlen(text), 0);
    free(text);
}

static int count(const char *text, const char *what) {
    int n = 0;
    for (; (text = strstr(text, what)) != NULL; text++) n++;
    return n;
}

/* -- A ring of those who hold one and want the next ------------------------------- */

typedef struct ring {
    int            n;
    tdl_mutex     *m[MEMBERS];
    tdl_waitgroup *first, *done; /* all have their first; all have ended */
    _Atomic int    refused, granted, next;
} ring;

static void ring_open(ring *r, int n) {
    memset(r, 0, sizeof *r);
    r->n = n;
    for (int i = 0; i < n; i++) r->m[i] = tdl_mutex_new();
    r->first = tdl_waitgroup_new();
    r->done = tdl_waitgroup_new();
    tdl_waitgroup_add(r->first, n);
    tdl_waitgroup_add(r->done, n);
}

static void ring_close(ring *r) {
    CHECK_RC(tdl_waitgroup_wait(r->done), 0);
    for (int i = 0; i < r->n; i++) {
        CHECK_RC(tdl_mutex_trylock(r->m[i]), 0); /* all are free again */
        CHECK_RC(tdl_mutex_unlock(r->m[i]), 0);
        tdl_mutex_free(r->m[i]);
    }
    tdl_waitgroup_free(r->first);
    tdl_waitgroup_free(r->done);
}

static void note(ring *r, int rc) {
    if (rc == TDL_EDEADLOCK)
        atomic_fetch_add(&r->refused, 1);
    else if (CHECK_RC(rc, 0))
        atomic_fetch_add(&r->granted, 1);
}

static void member(void *arg) {
    ring *r = arg;
    int   i = atomic_fetch_add(&r->next, 1);
    CHECK_RC(tdl_mutex_lock(r->m[i]), 0);
    tdl_waitgroup_done(r->first);
    CHECK_RC(tdl_waitgroup_wait(r->first), 0);
    int rc = tdl_mutex_lock(r->m[(i + 1) % r->n]);
    note(r, rc);
    if (rc == 0) CHECK_RC(tdl_mutex_unlock(r->m[(i + 1) % r->n]), 0);
    CHECK_RC(tdl_mutex_unlock(r->m[i]), 0);
    tdl_waitgroup_done(r->done);
}

static void *member_thread(void *arg) {
    member(arg);
    return NULL;
}

static int64_t quick(int64_t ns) {
    int64_t was = tdl_blocked_grace;
    tdl_blocked_grace = ns;
    return was;
}

static void closes(int goroutines, int threads) {
    int64_t   was = quick(TDL_MILLISECOND);
    pthread_t t[MEMBERS];
    ring      r;
    ring_open(&r, goroutines + threads);
    listen_begin();
    for (int i = 0; i < threads; i++) REQUIRE(pthread_create(&t[i], NULL, member_thread, &r) == 0);
    for (int i = 0; i < goroutines; i++) {
        tdl_go_options o = { .size = sizeof o, .name = "circle's" };
        CHECK(tdl_go_opts(member, &r, &o) != NULL);
    }
    CHECK_RC(tdl_waitgroup_wait(r.done), 0);
    char *text = listen_end();
    for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
    CHECK_INT(r.refused, 1);
    CHECK_INT(r.granted, goroutines + threads - 1);
    CHECK_INT(count(text, "treadle: deadlock:"), 1);
    CHECK_INT(count(text, "its call returns TDL_EDEADLOCK"), 1);
    if (goroutines + threads <= 16) {
        CHECK_INT(count(text, " [circle's] holds mutex 0x"), goroutines);
        CHECK_INT(count(text, "thread "), threads);
        for (int i = 0; i < r.n; i++) { /* one holds it, one waits for it */
            char who[64];
            snprintf(who, sizeof who, "holds mutex %p and waits for mutex", (void *)r.m[i]);
            CHECK_INT(count(text, who), 1);
            snprintf(who, sizeof who, "and waits for mutex %p since", (void *)r.m[i]);
            CHECK_INT(count(text, who), 1);
        }
    }
    if (check_failures()) fputs(text, stderr);
    free(text);
    ring_close(&r);
    quick(was);
}

TEST_G(two, "E20 two goroutines that want each other's mutex: one is refused, both are named") { closes(2, 0); }
TEST_G(self, "E20 a goroutine that locks what it has locked") { closes(1, 0); }
TEST_G(self_thread, "E20 a thread that locks what it has locked") { closes(0, 1); }
TEST_G(threads, "E20 two threads") { closes(0, 2); }
TEST_G(mixed, "E20 goroutines and threads in one circle") { closes(3, 2); }
TEST_G(many, "E20 a circle of forty") { closes(30, 10); }

TEST_G(rounds, "E20 circles that are closed by all at the same moment: always exactly one is refused") {
    int64_t was = quick(1);
    listen_begin();
    for (int round = 0; round < SCALE(200); round++) {
        ring r;
        ring_open(&r, 2 + round % 5);
        for (int i = 0; i < r.n; i++) tdl_go(member, &r);
        CHECK_RC(tdl_waitgroup_wait(r.done), 0);
        CHECK_INT(r.refused, 1);
        CHECK_INT(r.granted, r.n - 1);
        ring_close(&r);
    }
    free(listen_end());
    quick(was);
}

/* -- Tasks ------------------------------------------------------------------------ */

static int task_member(actor *a, int result) {
    ring      *r = a->data;
    tdl_mutex *second = r->m[(a->n + 1) % r->n];
    switch (a->state++) {
    case 0: a->n = atomic_fetch_add(&r->next, 1); return tdl_mutex_lock_start(a->host, a->task, r->m[a->n], TDL_FOREVER);
    case 1:
        CHECK_RC(result, 0);
        tdl_waitgroup_done(r->first);
        return tdl_waitgroup_wait_start(a->host, a->task, r->first, TDL_FOREVER);
    case 2: return tdl_mutex_lock_start(a->host, a->task, second, TDL_FOREVER);
    default:
        note(r, result);
        if (result == 0) CHECK_RC(tdl_mutex_unlock(second), 0);
        CHECK_RC(tdl_mutex_unlock(r->m[a->n]), 0);
        tdl_waitgroup_done(r->done);
        return ACTOR_DONE;
    }
}

TEST(tasks, "E20 tasks of a host, a goroutine and a thread") {
    int64_t   was = quick(TDL_MILLISECOND);
    pthread_t t;
    ring      r;
    stage     s;
    check_keeps_fds();
    ring_open(&r, 4);
    listen_begin();
    stage_open(&s, "circling");
    for (int i = 0; i < 2; i++) stage_spawn(&s, task_member, &r);
    REQUIRE(pthread_create(&t, NULL, member_thread, &r) == 0);
    tdl_go(member, &r);
    stage_run(&s);
    pthread_join(t, NULL);
    stage_close(&s);
    CHECK_RC(tdl_waitgroup_wait(r.done), 0);
    char *text = listen_end();
    CHECK_INT(r.refused, 1);
    CHECK_INT(r.granted, 3);
    CHECK_INT(count(text, "treadle: deadlock:"), 1);
    CHECK_INT(count(text, "goroutine "), 3);
    free(text);
    ring_close(&r);
    quick(was);
}

/* -- Not for ever ------------------------------------------------------------------- */

static void unlock_late(void *arg) {
    tdl_sleep(20 * TDL_MILLISECOND);
    CHECK_RC(tdl_mutex_unlock(arg), 0);
}

TEST_G(handed_on, "E20 who waits for a mutex that another unlocks for him is let alone") {
    tdl_mutex *m = tdl_mutex_new();
    listen_begin();
    CHECK_RC(tdl_mutex_lock(m), 0);
    tdl_go(unlock_late, m);
    CHECK_RC(tdl_mutex_lock(m), 0);
    CHECK_RC(tdl_mutex_unlock(m), 0);
    nothing_was_said();
    tdl_mutex_free(m);
}

TEST_G(disowned, "E20 a mutex that was disowned is nobody's: no circle, however long") {
    int64_t    was = quick(1);
    tdl_mutex *m = tdl_mutex_new();
    listen_begin();
    CHECK_RC(tdl_mutex_disown(m), TDL_ENOTLOCKED);
    CHECK_RC(tdl_mutex_disown(NULL), TDL_EINVAL);
    CHECK_RC(tdl_mutex_lock(m), 0);
    CHECK_RC(tdl_mutex_disown(m), 0);
    tdl_go(unlock_late, m);
    CHECK_RC(tdl_mutex_lock(m), 0);
    CHECK_RC(tdl_mutex_unlock(m), 0);
    nothing_was_said();
    tdl_mutex_free(m);
    quick(was);
}

TEST_G(deadline, "E20 a wait with a deadline ends by itself, as that") {
    int64_t    was = quick(1);
    tdl_mutex *m = tdl_mutex_new();
    listen_begin();
    CHECK_RC(tdl_mutex_lock(m), 0);
    CHECK_RC(tdl_mutex_lock_until(m, tdl_now() + 20 * TDL_MILLISECOND), TDL_ETIMEDOUT);
    CHECK_RC(tdl_mutex_lock_until(m, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_mutex_unlock(m), 0);
    nothing_was_said();
    tdl_mutex_free(m);
    quick(was);
}

typedef struct pair {
    tdl_mutex *a, *b;
    tdl_chan  *go;
    int        rc;
} pair;

static void other_side(void *arg) {
    pair *p = arg;
    CHECK_RC(tdl_mutex_lock(p->b), 0);
    send_int(p->go, 1);
    p->rc = tdl_mutex_lock(p->a);
    if (p->rc == 0) tdl_mutex_unlock(p->a);
    tdl_mutex_unlock(p->b);
}

TEST_G(half_deadline, "E20 a circle with a deadline in it is none") {
    int64_t was = quick(1);
    pair    p = { tdl_mutex_new(), tdl_mutex_new(), tdl_chan_new(0), 1 };
    listen_begin();
    CHECK_RC(tdl_mutex_lock(p.a), 0);
    tdl_g *g = go_joinable(other_side, &p);
    recv_int(p.go);
    CHECK_RC(tdl_mutex_lock_until(p.b, tdl_now() + 30 * TDL_MILLISECOND), TDL_ETIMEDOUT);
    CHECK_RC(tdl_mutex_unlock(p.a), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_INT(p.rc, 0);
    nothing_was_said();
    tdl_mutex_free(p.a);
    tdl_mutex_free(p.b);
    tdl_chan_free(p.go);
    quick(was);
}

TEST_G(cancelled, "E20 who is cancelled in a circle is cancelled, and the others go on") {
    pair p = { tdl_mutex_new(), tdl_mutex_new(), tdl_chan_new(0), 1 };
    listen_begin();
    CHECK_RC(tdl_mutex_lock(p.a), 0);
    tdl_g *g = go_joinable(other_side, &p);
    recv_int(p.go);
    let_park();
    tdl_cancel(g);
    CHECK_RC(tdl_mutex_lock(p.b), 0); /* not after a second */
    CHECK_RC(tdl_join(g), 0);
    CHECK_INT(p.rc, TDL_ECANCELED);
    tdl_mutex_unlock(p.b);
    tdl_mutex_unlock(p.a);
    nothing_was_said();
    tdl_mutex_free(p.a);
    tdl_mutex_free(p.b);
    tdl_chan_free(p.go);
}

/* Somebody who ended while he held it; who comes after him is not taken for him. */
static void lock_and_end(void *arg) { CHECK_RC(tdl_mutex_lock(arg), 0); }

TEST_G(heir, "E20 a goroutine is not taken for one that had its memory before") {
    int64_t was = quick(1);
    listen_begin();
    for (int i = 0; i < 20; i++) {
        pair   p = { tdl_mutex_new(), tdl_mutex_new(), tdl_chan_new(0), 1 };
        tdl_g *g = go_joinable(lock_and_end, p.a);
        CHECK_RC(tdl_join(g), 0);
        CHECK_RC(tdl_mutex_lock(p.b), 0);
        g = go_joinable(lock_and_end, p.b); /* most likely in the same memory */
        tdl_go(unlock_late, p.b);
        CHECK_RC(tdl_join(g), 0);
        tdl_mutex_unlock(p.a);
        tdl_mutex_unlock(p.b);
        tdl_mutex_free(p.a);
        tdl_mutex_free(p.b);
        tdl_chan_free(p.go);
    }
    nothing_was_said();
    quick(was);
}

/* -- Conditions ------------------------------------------------------------------------ */

typedef struct waiting {
    tdl_mutex *m, *other;
    tdl_cond  *c;
    tdl_chan  *go;
} waiting;

static void cond_waiter(void *arg) {
    waiting *w = arg;
    CHECK_RC(tdl_mutex_lock(w->other), 0);
    CHECK_RC(tdl_mutex_lock(w->m), 0);
    send_int(w->go, 1);
    CHECK_RC(tdl_cond_wait(w->c), 0); /* comes back with m, whatever it takes */
    CHECK_RC(tdl_mutex_unlock(w->m), 0);
    CHECK_RC(tdl_mutex_unlock(w->other), 0);
}

TEST_G(cond, "E20 the mutex of a condition is part of a circle; who waits for it is not refused") {
    int64_t was = quick(TDL_MILLISECOND);
    waiting w = { .m = tdl_mutex_new(), .other = tdl_mutex_new(), .go = tdl_chan_new(0) };
    w.c = tdl_cond_new(w.m);
    listen_begin();
    tdl_g *g = go_joinable(cond_waiter, &w);
    recv_int(w.go);
    CHECK_RC(tdl_mutex_lock(w.m), 0);
    CHECK_RC(tdl_cond_signal(w.c), 0);
    let_park(); /* it wants m, which we have */
    CHECK_RC(tdl_mutex_lock(w.other), TDL_EDEADLOCK);
    CHECK_RC(tdl_mutex_unlock(w.m), 0);
    CHECK_RC(tdl_join(g), 0);
    char *text = listen_end();
    CHECK_INT(count(text, "treadle: deadlock:"), 1);
    free(text);
    tdl_cond_free(w.c);
    tdl_mutex_free(w.m);
    tdl_mutex_free(w.other);
    tdl_chan_free(w.go);
    quick(was);
}

/* -- No false alarm ---------------------------------------------------------------------- */

typedef struct crowd {
    tdl_mutex  *m[5];
    int64_t     n[5];
    _Atomic int bad;
    _Atomic uint64_t seed;
} crowd;

/* Locks several, always in the same order. */
static void orderly(void *arg) {
    crowd   *c = arg;
    uint64_t seed = atomic_fetch_add(&c->seed, 7919);
    for (int round = 0; round < SCALE(3000); round++) {
        unsigned want = (unsigned)random_next(&seed) % 32;
        for (int i = 0; i < 5; i++) {
            if (!(want >> i & 1)) continue;
            if (tdl_mutex_lock(c->m[i]) != 0) {
                atomic_fetch_add(&c->bad, 1);
                want &= ~(1u << i);
                continue;
            }
            c->n[i]++;
            if (random_next(&seed) % 8 == 0) tdl_yield();
        }
        for (int i = 0; i < 5; i++)
            if (want >> i & 1) tdl_mutex_unlock(c->m[i]);
    }
}

TEST_G(orderly_crowd, "E20 a crowd that takes its mutexes in one order never hears of a circle") {
    int64_t was = quick(1);
    crowd   c = { .seed = 1 };
    crew    w;
    for (int i = 0; i < 5; i++) c.m[i] = tdl_mutex_new();
    listen_begin();
    crew_open(&w);
    for (int i = 0; i < 8; i++) crew_start(&w, i % 4 == 3, orderly, &c);
    crew_close(&w);
    CHECK_INT(c.bad, 0);
    nothing_was_said();
    for (int i = 0; i < 5; i++) tdl_mutex_free(c.m[i]);
    quick(was);
}

/* Takes them in any order: refused, it starts over. */
static void disorderly(void *arg) {
    crowd   *c = arg;
    uint64_t seed = atomic_fetch_add(&c->seed, 7919);
    for (int round = 0; round < SCALE(300);) {
        int a = (int)(random_next(&seed) % 5), b = (int)(random_next(&seed) % 5);
        if (a == b) continue;
        CHECK_RC(tdl_mutex_lock(c->m[a]), 0); /* it holds none yet */
        c->n[a]++;
        if (random_next(&seed) % 2) tdl_yield();
        int rc = tdl_mutex_lock(c->m[b]);
        if (rc == 0) {
            c->n[b]++;
            CHECK_RC(tdl_mutex_unlock(c->m[b]), 0);
            round++;
        } else if (rc == TDL_EDEADLOCK) {
            atomic_fetch_add(&c->bad, 1);
        } else {
            CHECK_RC(rc, TDL_EDEADLOCK);
        }
        CHECK_RC(tdl_mutex_unlock(c->m[a]), 0);
    }
}

TEST_G(disorderly_crowd, "E20 a crowd that takes them in any order gets on, by refusals") {
    int64_t was = quick(TDL_MICROSECOND);
    crowd   c = { .seed = 1 };
    crew    w;
    check_limit(60);
    for (int i = 0; i < 5; i++) c.m[i] = tdl_mutex_new();
    listen_begin();
    crew_open(&w);
    for (int i = 0; i < 8; i++) crew_start(&w, i % 4 == 3, disorderly, &c);
    crew_close(&w);
    free(listen_end());
    for (int i = 0; i < 5; i++) tdl_mutex_free(c.m[i]);
    quick(was);
}
