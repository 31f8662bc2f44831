/* SPDX-License-Identifier: MIT
 * The run queue of a processor, by itself. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "sched/runq.h"

static struct tdl_g *item(uintptr_t i) { return (struct tdl_g *)(i + 1); }
static int           number(struct tdl_g *g) { return (int)((uintptr_t)g - 1); }

TEST(put_get, "B13 256 items go in, the next does not, and they come out in order; the ring wraps") {
    tdl_runq *q = calloc(1, sizeof *q);
    for (int round = 0; round < 5; round++) {
        for (uintptr_t i = 0; i < RUNQ_SIZE; i++) CHECK(tdl_runq_put(q, item(i)));
        CHECK(!tdl_runq_put(q, item(9999)));
        CHECK_INT(tdl_runq_len(q), RUNQ_SIZE);
        for (int i = 0; i < RUNQ_SIZE; i++) CHECK_INT(number(tdl_runq_get(q)), i);
        CHECK(tdl_runq_get(q) == NULL);
        CHECK_INT(tdl_runq_len(q), 0);
        for (uintptr_t i = 0; i < 77; i++) tdl_runq_put(q, item(i)); /* another start next time */
        for (int i = 0; i < 77; i++) tdl_runq_get(q);
    }
    free(q);
}

TEST(index_wrap, "B13 the indexes run over 2^32 without a trace") {
    tdl_runq *q = calloc(1, sizeof *q);
    atomic_store(&q->head, UINT32_MAX - 100);
    atomic_store(&q->tail, UINT32_MAX - 100);
    for (uintptr_t i = 0; i < RUNQ_SIZE; i++) CHECK(tdl_runq_put(q, item(i)));
    CHECK(!tdl_runq_put(q, item(1)));
    for (int i = 0; i < RUNQ_SIZE; i++) CHECK_INT(number(tdl_runq_get(q)), i);
    CHECK(tdl_runq_get(q) == NULL);
    free(q);
}

TEST(grab_half, "B13 a thief takes half, the rest stays, each item once") {
    tdl_runq     *q = calloc(1, sizeof *q);
    struct tdl_g *taken[RUNQ_SIZE];
    for (uintptr_t n = 0; n <= RUNQ_SIZE; n++) {
        char seen[RUNQ_SIZE] = { 0 };
        for (uintptr_t i = 0; i < n; i++) CHECK(tdl_runq_put(q, item(i)));
        uint32_t got = tdl_runq_grab(q, taken);
        CHECK_INT(got, n - n / 2);
        for (uint32_t i = 0; i < got; i++) seen[number(taken[i])]++;
        for (struct tdl_g *g; (g = tdl_runq_get(q)) != NULL;) seen[number(g)]++;
        for (uintptr_t i = 0; i < n; i++) CHECK_INT(seen[i], 1);
    }
    free(q);
}

/* One owner puts and gets, thieves grab: every item is taken exactly once. */
enum { ITEMS = 100000, THIEVES = 3 };

typedef struct contest {
    tdl_runq    q;
    atomic_char seen[ITEMS];
    atomic_int  stop;
    atomic_int  taken;
} contest;

static void take(contest *c, struct tdl_g *g) {
    CHECK_INT(atomic_fetch_add(&c->seen[number(g)], 1), 0);
    atomic_fetch_add(&c->taken, 1);
}

static void *steal(void *arg) {
    contest      *c = arg;
    struct tdl_g *out[RUNQ_SIZE];
    while (!atomic_load(&c->stop)) {
        uint32_t n = tdl_runq_grab(&c->q, out);
        for (uint32_t i = 0; i < n; i++) take(c, out[i]);
    }
    return NULL;
}

TEST(contended, "B13 an owner and three thieves take 100 000 items, each exactly once") {
    contest      *c = calloc(1, sizeof *c);
    pthread_t     thread[THIEVES];
    struct tdl_g *out[RUNQ_SIZE];
    uint64_t      seed = 3;
    uintptr_t     n = SCALE(ITEMS);
    for (int i = 0; i < THIEVES; i++) REQUIRE(pthread_create(&thread[i], NULL, steal, c) == 0);
    for (uintptr_t next = 0; next < n;) {
        uint64_t r = random_next(&seed);
        for (uint64_t i = 0; i < r % 8 && next < n; i++) {
            if (tdl_runq_put(&c->q, item(next))) {
                next++;
            } else { /* full: as the scheduler does, half of it goes elsewhere */
                uint32_t got = tdl_runq_grab(&c->q, out);
                for (uint32_t j = 0; j < got; j++) take(c, out[j]);
            }
        }
        for (uint64_t i = 0; i < (r >> 8) % 4; i++) {
            struct tdl_g *g = tdl_runq_get(&c->q);
            if (g) take(c, g);
        }
    }
    for (struct tdl_g *g; (g = tdl_runq_get(&c->q)) != NULL;) take(c, g);
    atomic_store(&c->stop, 1);
    for (int i = 0; i < THIEVES; i++) pthread_join(thread[i], NULL);
    for (struct tdl_g *g; (g = tdl_runq_get(&c->q)) != NULL;) take(c, g);
    CHECK_INT(atomic_load(&c->taken), n);
    free(c);
}
