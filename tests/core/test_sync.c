/* SPDX-License-Identifier: MIT
 * Mutexes and wait groups. */
#include "check.h"

#include <stdlib.h>

/* -- Mutual exclusion ----------------------------------------------------------------- */

typedef struct shared {
    tdl_mutex *m;
    int64_t    count; /* guarded by m */
    int        inside;
    int        rounds;
} shared;

static void count_under_lock(void *arg) {
    shared *s = arg;
    for (int i = 0; i < s->rounds; i++) {
        CHECK_RC(tdl_mutex_lock(s->m), 0);
        CHECK_INT(s->inside++, 0);
        s->count++;
        if (i % 64 == 0) tdl_yield(); /* keeps it while others come */
        s->inside--;
        CHECK_RC(tdl_mutex_unlock(s->m), 0);
    }
}

static void excludes(int threads) {
    shared s = { .m = tdl_mutex_new(), .rounds = SCALE(5000) };
    crew   c;
    crew_open(&c);
    for (int i = 0; i < 8; i++) crew_start(&c, i < threads, count_under_lock, &s);
    crew_close(&c);
    CHECK_INT(s.count, 8 * s.rounds);
    tdl_mutex_free(s.m);
}

TEST_G(mutex_goroutines, "E1 eight goroutines exclude each other") { excludes(0); }
TEST_G(mutex_mixed, "E1 goroutines and threads exclude each other") { excludes(4); }

TEST_G(trylock, "E1 trylock takes a free mutex only") {
    tdl_mutex *m = tdl_mutex_new();
    CHECK_RC(tdl_mutex_trylock(m), 0);
    CHECK_RC(tdl_mutex_trylock(m), TDL_EAGAIN);
    CHECK_RC(tdl_mutex_unlock(m), 0);
    CHECK_RC(tdl_mutex_trylock(m), 0);
    CHECK_RC(tdl_mutex_unlock(m), 0);
    tdl_mutex_free(m);
    tdl_mutex_free(NULL);
}

TEST_G(unlock_unlocked, "E2 unlock of an unlocked mutex is an error, and harms nothing") {
    tdl_mutex *m = tdl_mutex_new();
    CHECK_RC(tdl_mutex_unlock(m), TDL_ENOTLOCKED);
    CHECK_RC(tdl_mutex_lock(m), 0);
    CHECK_RC(tdl_mutex_unlock(m), 0);
    CHECK_RC(tdl_mutex_unlock(m), TDL_ENOTLOCKED);
    CHECK_RC(tdl_mutex_lock(m), 0);
    CHECK_RC(tdl_mutex_unlock(m), 0);
    tdl_mutex_free(m);
}

static void unlock_it(void *arg) { CHECK_RC(tdl_mutex_unlock(arg), 0); }

TEST_G(handed_on, "E1 a mutex may be unlocked by another goroutine or thread than locked it") {
    tdl_mutex *m = tdl_mutex_new();
    for (int thread = 0; thread < 2; thread++) {
        crew c;
        crew_open(&c);
        CHECK_RC(tdl_mutex_lock(m), 0);
        crew_start(&c, thread, unlock_it, m);
        CHECK_RC(tdl_mutex_lock(m), 0);
        CHECK_RC(tdl_mutex_unlock(m), 0);
        crew_close(&c);
    }
    tdl_mutex_free(m);
}

/* -- E1: fairness ------------------------------------------------------------------------ */

typedef struct hogging {
    tdl_mutex *m;
    atomic_int stop;
} hogging;

static void hog(void *arg) {
    hogging *h = arg;
    while (!atomic_load(&h->stop)) {
        tdl_mutex_lock(h->m);
        tdl_sleep(100 * TDL_MICROSECOND);
        tdl_mutex_unlock(h->m);
    }
}

TEST_G(fairness, "E1 who holds the lock for 100 us and takes it again at once cannot keep another out") {
    hogging h = { tdl_mutex_new(), 0 };
    crew    c;
    crew_open(&c);
    crew_go(&c, hog, &h);
    int64_t start = tdl_now();
    for (int i = 0; i < 10; i++) {
        tdl_sleep(100 * TDL_MICROSECOND);
        CHECK_RC(tdl_mutex_lock(h.m), 0);
        CHECK_RC(tdl_mutex_unlock(h.m), 0);
    }
    CHECK_WITHIN(tdl_now() - start, 0, 10 * TDL_SECOND);
    atomic_store(&h.stop, 1);
    crew_close(&c);
    tdl_mutex_free(h.m);
}

/* -- Deadlines and cancels ------------------------------------------------------------------ */

TEST_G(lock_until, "E1 waiting for a lock ends at the deadline, and the lock is not taken") {
    tdl_mutex *m = tdl_mutex_new();
    CHECK_RC(tdl_mutex_lock_until(m, tdl_now() + TDL_SECOND), 0);
    int64_t start = tdl_now();
    CHECK_RC(tdl_mutex_lock_until(m, start + 20 * TDL_MILLISECOND), TDL_ETIMEDOUT);
    CHECK_WITHIN(tdl_now() - start, 20 * TDL_MILLISECOND, 10 * TDL_SECOND);
    CHECK_RC(tdl_mutex_lock_until(m, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_mutex_unlock(m), 0);
    CHECK_RC(tdl_mutex_unlock(m), TDL_ENOTLOCKED);
    CHECK_RC(tdl_mutex_lock_until(m, 1), 0); /* free: no need to wait */
    CHECK_RC(tdl_mutex_unlock(m), 0);
    tdl_mutex_free(m);
}

typedef struct try_to_lock {
    tdl_mutex *m;
    int        rc;
} try_to_lock;

static void lock_once(void *arg) {
    try_to_lock *t = arg;
    t->rc = tdl_mutex_lock(t->m);
}

TEST_G(lock_cancel, "E1 a cancelled waiter goes without the lock, and the others still get it") {
    tdl_mutex  *m = tdl_mutex_new();
    try_to_lock first = { m, 99 }, second = { m, 99 };
    CHECK_RC(tdl_mutex_lock(m), 0);
    tdl_g *a = go_joinable(lock_once, &first);
    let_park();
    tdl_g *b = go_joinable(lock_once, &second);
    let_park();
    CHECK_RC(tdl_cancel(a), 0);
    CHECK_RC(tdl_join(a), 0);
    CHECK_RC(first.rc, TDL_ECANCELED);
    CHECK_RC(tdl_mutex_unlock(m), 0);
    CHECK_RC(tdl_join(b), 0);
    CHECK_RC(second.rc, 0);
    CHECK_RC(tdl_mutex_unlock(m), 0);
    tdl_mutex_free(m);
}

typedef struct rush {
    tdl_mutex *m;
    int64_t    count;
    atomic_int locked, timeouts;
} rush;

static void lock_in_a_hurry(void *arg) {
    rush    *r = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    for (int i = 0; i < SCALE(3000); i++) {
        int rc = tdl_mutex_lock_until(r->m, tdl_now() + (int64_t)(random_next(&seed) % 3000));
        if (rc == 0) {
            r->count++;
            atomic_fetch_add(&r->locked, 1);
            if (i % 8 == 0) tdl_yield();
            CHECK_RC(tdl_mutex_unlock(r->m), 0);
        } else {
            CHECK_RC(rc, TDL_ETIMEDOUT);
            atomic_fetch_add(&r->timeouts, 1);
        }
    }
}

TEST_G(lock_deadlines, "E1 waiters that give up never take the lock with them") {
    rush r = { .m = tdl_mutex_new() };
    crew c;
    crew_open(&c);
    for (int i = 0; i < 6; i++) crew_start(&c, i >= 4, lock_in_a_hurry, &r);
    crew_close(&c);
    CHECK_INT(r.count, atomic_load(&r.locked));
    CHECK_RC(tdl_mutex_trylock(r.m), 0);
    CHECK_RC(tdl_mutex_unlock(r.m), 0);
    tdl_mutex_free(r.m);
}

/* -- Wait groups ----------------------------------------------------------------------------- */

TEST_G(negative, "E7 a counter that would fall below zero is an error and stays as it was") {
    tdl_waitgroup *wg = tdl_waitgroup_new();
    CHECK_RC(tdl_waitgroup_done(wg), TDL_ENEGATIVE);
    CHECK_RC(tdl_waitgroup_add(wg, 2), 0);
    CHECK_RC(tdl_waitgroup_add(wg, -3), TDL_ENEGATIVE);
    CHECK_RC(tdl_waitgroup_wait_until(wg, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_waitgroup_add(wg, -2), 0);
    CHECK_RC(tdl_waitgroup_wait(wg), 0);
    CHECK_RC(tdl_waitgroup_wait(wg), 0);
    tdl_waitgroup_free(wg);
    tdl_waitgroup_free(NULL);
}

static void done_soon(void *arg) {
    tdl_yield();
    CHECK_RC(tdl_waitgroup_done(arg), 0);
}

TEST_G(reuse, "E7 a wait group may be used again after each wait") {
    tdl_waitgroup *wg = tdl_waitgroup_new();
    for (int round = 0; round < SCALE(1000); round++) {
        CHECK_RC(tdl_waitgroup_add(wg, 3), 0);
        for (int i = 0; i < 3; i++) tdl_go(done_soon, wg);
        CHECK_RC(tdl_waitgroup_wait(wg), 0);
    }
    tdl_waitgroup_free(wg);
}

TEST_G(free_at_once, "E7 a wait group may be freed as soon as wait has returned") {
    for (int round = 0; round < SCALE(1000); round++) {
        tdl_waitgroup *wg = tdl_waitgroup_new();
        tdl_waitgroup_add(wg, 2);
        tdl_go(done_soon, wg);
        tdl_go(done_soon, wg);
        CHECK_RC(tdl_waitgroup_wait(wg), 0);
        tdl_waitgroup_free(wg);
    }
}

static void wait_for_group(void *arg) { CHECK_RC(tdl_waitgroup_wait(arg), 0); }

TEST_G(many_waiters, "E7 all who wait are woken, goroutines and threads") {
    tdl_waitgroup *wg = tdl_waitgroup_new();
    crew           c;
    crew_open(&c);
    tdl_waitgroup_add(wg, 1);
    for (int i = 0; i < 20; i++) crew_start(&c, i % 5 == 0, wait_for_group, wg);
    let_park();
    CHECK_RC(tdl_waitgroup_done(wg), 0);
    crew_close(&c);
    tdl_waitgroup_free(wg);
}

TEST_G(wait_until, "E7 waiting ends at the deadline") {
    tdl_waitgroup *wg = tdl_waitgroup_new();
    tdl_waitgroup_add(wg, 1);
    int64_t start = tdl_now();
    CHECK_RC(tdl_waitgroup_wait_until(wg, start + 20 * TDL_MILLISECOND), TDL_ETIMEDOUT);
    CHECK_WITHIN(tdl_now() - start, 20 * TDL_MILLISECOND, 10 * TDL_SECOND);
    tdl_waitgroup_done(wg);
    CHECK_RC(tdl_waitgroup_wait_until(wg, 1), 0);
    tdl_waitgroup_free(wg);
}

typedef struct wait_rc {
    tdl_waitgroup *wg;
    int            rc;
} wait_rc;

static void wait_and_note(void *arg) {
    wait_rc *w = arg;
    w->rc = tdl_waitgroup_wait(w->wg);
}

TEST_G(wait_cancel, "E7 a cancel ends the wait") {
    wait_rc w = { tdl_waitgroup_new(), 99 };
    tdl_waitgroup_add(w.wg, 1);
    tdl_g *g = go_joinable(wait_and_note, &w);
    let_park();
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(w.rc, TDL_ECANCELED);
    tdl_waitgroup_done(w.wg);
    tdl_waitgroup_free(w.wg);
}
