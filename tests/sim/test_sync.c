/* SPDX-License-Identifier: MIT
 * Read-write locks, contexts, groups and scopes under many seeds: small programs
 * full of deadlines and cancels, whose end must be the same whatever happened. */
#include "../core/check.h"

#include <stdio.h>
#include <stdlib.h>

enum { US = 1000, SEEDS = 500 };

static uint64_t below(uint64_t n) { return tdl_sim_random() % n; }

/* A time that may well be over when it matters. */
static int64_t soon(void) { return tdl_now() + (int64_t)below(5 * US); }

static int64_t until(void) { return below(3) ? TDL_FOREVER : soon(); }

static void pause_a_little(void) {
    if (below(3) == 0) tdl_sleep((int64_t)below(2 * US));
    if (below(2) == 0) tdl_yield();
}

static void run(int (*program)(void *)) {
    for (int i = 0; i < SCALE(SEEDS); i++) {
        for (int strategy = TDL_SIM_RANDOM; strategy <= TDL_SIM_PCT; strategy++) {
            int64_t         before = tdl_metric("contexts");
            tdl_sim_report  r;
            tdl_sim_options o = {.size = sizeof o, .seed = (uint64_t)i, .strategy = strategy};
            int             rc = tdl_sim_run(&o, program, NULL, &r);
            CHECK_INT(tdl_metric("contexts"), before);
            if (rc == 0 && r.left == 0 && check_failures() == 0) continue;
            fprintf(stderr, "seed %d, strategy %d: %d, %s, %d left\n%s\n", i, strategy, rc, r.text, (int)r.left,
                    r.dump ? r.dump : "");
            CHECK(!"all well under each seed");
            return;
        }
    }
}

/* -- Read-write locks ------------------------------------------------------------ */

enum { READERS = 5 };

static struct {
    tdl_rwmutex *rw;
    int          readers, writers, a, b;
} book;

static void uses_book(void *arg) {
    int rc = 0;
    for (int i = 0; i < 6 && rc != TDL_ECANCELED; i++) {
        if (below(3) == 0) {
            rc = below(4) ? tdl_rwmutex_lock_until(book.rw, until()) : tdl_rwmutex_trylock(book.rw);
            if (rc != 0) continue;
            CHECK_INT(book.writers++ + book.readers, 0);
            book.a++;
            pause_a_little();
            book.b++;
            CHECK_INT(--book.writers, 0);
            CHECK_RC(tdl_rwmutex_unlock(book.rw), 0);
        } else {
            rc = below(4) ? tdl_rwmutex_rlock_until(book.rw, until()) : tdl_rwmutex_tryrlock(book.rw);
            if (rc != 0) continue;
            book.readers++;
            CHECK_INT(book.writers, 0);
            pause_a_little();
            CHECK_INT(book.a, book.b);
            book.readers--;
            CHECK_RC(tdl_rwmutex_runlock(book.rw), 0);
        }
    }
    (void)arg;
}

static int reads_and_writes(void *arg) {
    tdl_g *g[READERS];
    book.rw = tdl_rwmutex_new();
    for (int i = 0; i < READERS; i++) g[i] = go_joinable(uses_book, NULL);
    pause_a_little();
    CHECK_RC(tdl_cancel(g[below(READERS)]), 0);
    for (int i = 0; i < READERS; i++) CHECK_RC(tdl_join(g[i]), 0);
    CHECK_RC(tdl_rwmutex_runlock(book.rw), TDL_ENOTLOCKED);
    CHECK_RC(tdl_rwmutex_trylock(book.rw), 0);
    CHECK_RC(tdl_rwmutex_unlock(book.rw), 0);
    CHECK_RC(tdl_rwmutex_tryrlock(book.rw), 0);
    tdl_rwmutex_free(book.rw);
    return arg != NULL;
}

TEST(rwmutex, "E4 readers and writers with deadlines, tries and a cancel, under many seeds") { run(reads_and_writes); }

/* -- Contexts ---------------------------------------------------------------------- */

static void counts(void *arg) { ++*(int *)arg; }

static void grows(void *arg) {
    tdl_context *twig[4];
    for (int i = 0; i < 4; i++) {
        tdl_context *p = i ? twig[i - 1] : arg;
        twig[i] = below(2) ? tdl_context_with_cancel(p) : tdl_context_with_deadline(p, soon());
        REQUIRE(twig[i] != NULL);
        pause_a_little();
    }
    int        called = 0;
    tdl_after *a = tdl_context_after_func(twig[3], counts, &called);
    if (below(2)) tdl_context_cancel(twig[below(4)], -1, NULL);
    if (below(2)) tdl_context_wait_until(twig[below(4)], soon());
    if (tdl_context_err(twig[1])) CHECK_RC(tdl_context_wait(twig[2]), 0); /* it may still be on its way down */
    for (int i = 0; i < 3; i++) tdl_context_free(twig[i]);
    pause_a_little();
    int stopped = tdl_after_stop(a);
    tdl_after_free(a);
    tdl_context_free(twig[3]);
    while (!stopped && !called) tdl_sleep(US);
    tdl_sleep(10 * US);
    CHECK_INT(called, !stopped);
}

static int grows_a_tree(void *arg) {
    tdl_context *root = tdl_context_with_cancel(NULL);
    tdl_g       *g[4];
    for (int i = 0; i < 4; i++) g[i] = go_joinable(grows, root);
    pause_a_little();
    CHECK_INT(tdl_context_cancel(root, -2, NULL), 1);
    for (int i = 0; i < 4; i++) CHECK_RC(tdl_join(g[i]), 0);
    tdl_context_free(root);
    return arg != NULL;
}

TEST(contexts, "E9 twigs of one tree that end by cancel, deadline or root, under many seeds") { run(grows_a_tree); }

/* -- Groups, flights and a deed -------------------------------------------------------- */

static struct {
    tdl_errgroup     *eg;
    tdl_singleflight *sf;
    tdl_once         *o;
    int               running, flying, deeds, finished;
} team;

static void does_it(void *arg) {
    (void)arg;
    pause_a_little();
    CHECK_INT(++team.deeds, 1);
    if (below(3) == 0) {
        team.running--;
        team.finished++;
        tdl_goexit();
    }
}

static int flies(void *arg, tdl_val *v) {
    (void)arg;
    CHECK_INT(team.flying++, 0);
    pause_a_little();
    CHECK_INT(--team.flying, 0);
    tdl_val_set_int(v, 5);
    return 6;
}

static int works(void *arg) {
    tdl_val v;
    CHECK_WITHIN(++team.running, 1, 3);
    int rc = tdl_singleflight_do_until(team.sf, "key", 3, flies, NULL, &v, NULL, until());
    CHECK(rc == TDL_ETIMEDOUT || (rc == 6 && tdl_val_int(&v) == 5));
    rc = tdl_once_do_until(team.o, does_it, NULL, until());
    CHECK(rc == TDL_ETIMEDOUT || (rc == 0 && team.deeds == 1));
    pause_a_little();
    team.running--;
    team.finished++;
    return (int)(intptr_t)arg;
}

static int works_together(void *arg) {
    int started = 0;
    team.running = team.flying = team.deeds = team.finished = 0;
    team.eg = tdl_errgroup_new(NULL, 3);
    team.sf = tdl_singleflight_new();
    team.o = tdl_once_new();
    for (int i = 0; i < 8; i++) started += tdl_errgroup_go_until(team.eg, works, (void *)(intptr_t)-(i == 5), until()) == 0;
    int rc;
    do rc = tdl_errgroup_wait_until(team.eg, until());
    while (rc == TDL_ETIMEDOUT);
    CHECK(rc == 0 || rc == -1);
    CHECK_INT(team.finished, started);
    CHECK_RC(tdl_context_err(tdl_errgroup_context(team.eg)), TDL_ECANCELED);
    tdl_errgroup_free(team.eg);
    tdl_singleflight_free(team.sf);
    tdl_once_free(team.o);
    return arg != NULL;
}

TEST(groups, "E9 a group with a limit, a flight and a deed that its goroutines share, under many seeds") { run(works_together); }

/* -- Scopes ---------------------------------------------------------------------------------- */

static int alive;

typedef struct branch {
    tdl_scope *in;
    int        depth;
} branch;

static int branches(void *arg) {
    branch b = *(branch *)arg;
    free(arg);
    alive++;
    int rc = 0;
    if (b.depth > 0) {
        tdl_scope *s = tdl_scope_new(tdl_scope_context(b.in), until());
        for (int i = 0; i < 3; i++) {
            branch *twig = malloc(sizeof *twig);
            *twig = (branch){s, b.depth - 1};
            if (tdl_scope_go(s, branches, twig) != 0) free(twig);
        }
        pause_a_little();
        if (below(4) == 0) tdl_context_cancel(tdl_scope_context(s), -9, NULL);
        if (below(4) == 0) CHECK_RC(tdl_scope_wait(b.in), TDL_EDEADLOCK); /* it is in there */
        rc = tdl_scope_wait_until(s, until());
        tdl_scope_free(s);
    } else {
        switch (below(6)) {
        case 0: rc = -7; break;
        case 1: rc = tdl_sleep((int64_t)below(9 * US)); break;
        case 2: rc = tdl_context_wait_until(tdl_scope_context(b.in), soon()); break;
        default: pause_a_little();
        }
        if (below(8) == 0) {
            alive--;
            tdl_goexit();
        }
    }
    alive--;
    return rc;
}

static int plants(void *arg) {
    tdl_scope *s = tdl_scope_new(NULL, until());
    alive = 0;
    for (int i = 0; i < 3; i++) {
        branch *b = malloc(sizeof *b);
        *b = (branch){s, 2};
        if (tdl_scope_go(s, branches, b) != 0) free(b);
    }
    tdl_scope_wait_until(s, until());
    CHECK_INT(alive, 0);
    tdl_scope_free(s);
    return arg != NULL;
}

TEST(scopes, "W6 trees of scopes that end in every way: when one has been left nobody lives, under many seeds") { run(plants); }

/* Goroutines of scopes that wait for each other's, at random. */
enum { SCOPES = 4 };

static tdl_scope *rings[SCOPES];

static int waits_for_another(void *arg) {
    int rc = tdl_scope_wait(rings[below(SCOPES)]);
    CHECK(rc == 0 || rc == TDL_EDEADLOCK);
    return arg != NULL;
}

static int waits_in_rings(void *arg) {
    for (int i = 0; i < SCOPES; i++) rings[i] = tdl_scope_new(NULL, TDL_FOREVER);
    for (int i = 0; i < SCOPES; i++) CHECK_RC(tdl_scope_begin(rings[i]), 0);
    for (int i = 0; i < 2 * SCOPES; i++) CHECK_RC(tdl_scope_go(rings[i % SCOPES], waits_for_another, NULL), 0);
    pause_a_little();
    for (int i = 0; i < SCOPES; i++) CHECK_RC(tdl_scope_done(rings[i], 0), 0);
    for (int i = 0; i < SCOPES; i++) CHECK_RC(tdl_scope_wait(rings[i]), 0); /* a deadlock if a circle was not seen */
    for (int i = 0; i < SCOPES; i++) tdl_scope_free(rings[i]);
    return arg != NULL;
}

TEST(circles, "W7 scopes that wait for each other at random: every circle is seen, under many seeds") { run(waits_in_rings); }
