/* SPDX-License-Identifier: MIT
 *
 * The ring of a run queue (core/sched/runq.h), of 4 places: its owner puts and
 * gets, thieves take half. Every goroutine comes out once, with what its owner
 * wrote before it put it in.
 */
#include "sched/runq.h"

#include "model.h"

enum { MANY = 8 };

struct tdl_g {
    int written; /* plain: by who puts it in, read by who takes it out */
    int taken;
};

static tdl_runq ring, second;
static struct tdl_g gs[MANY];

static void begin(tdl_runq *q, uint32_t at) {
    at_store_rlx(&q->head, at);
    at_store_rlx(&q->tail, at);
}

static void setup(void) {
    begin(&ring, 0);
    begin(&second, 0);
}

static void setup_wrap(void) {
    begin(&ring, UINT32_MAX - 1);
    begin(&second, UINT32_MAX);
}

static bool put(tdl_runq *q, int i) {
    gs[i].written = i + 1;
    return tdl_runq_put(q, &gs[i]);
}

static void take(struct tdl_g *g) {
    if (!g) return;
    CHECK(g >= gs && g < gs + MANY, "what comes out was never put in: %p", (void *)g);
    CHECK(g->written == (int)(g - gs) + 1, "%d comes out half written", (int)(g - gs));
    CHECK(g->taken++ == 0, "%d comes out twice", (int)(g - gs));
}

/* tdl_runq_grab, which must not write more than it may return. */
static uint32_t grab(tdl_runq *q, struct tdl_g **half) {
    struct tdl_g *room[2 * RUNQ_SIZE] = {NULL};
    uint32_t n = tdl_runq_grab(q, room);
    CHECK(n <= RUNQ_SIZE / 2, "%u at once", n);
    for (int i = RUNQ_SIZE / 2; i < 2 * RUNQ_SIZE; i++) CHECK(!room[i], "more than half is written");
    for (uint32_t i = 0; i < n; i++) half[i] = room[i];
    return n;
}

static void take_half(tdl_runq *q) {
    struct tdl_g *half[RUNQ_SIZE / 2];
    uint32_t n = grab(q, half);
    for (uint32_t i = 0; i < n; i++) take(half[i]);
}

static void thief(void) { take_half(&ring); }

static void thief_twice(void) {
    thief();
    thief();
}

/* What is left in the rings comes out in the end. */
static void all_out(int n) {
    struct tdl_g *g;
    CHECK(tdl_runq_len(&ring) <= RUNQ_SIZE && tdl_runq_len(&second) <= RUNQ_SIZE, "too many in a ring");
    while ((g = tdl_runq_get(&ring)) != NULL) take(g);
    while ((g = tdl_runq_get(&second)) != NULL) take(g);
    for (int i = 0; i < n; i++) CHECK(gs[i].taken == 1, "%d is lost", i);
}

/* -- One owner, two thieves ------------------------------------------------- */

static void owner(void) {
    put(&ring, 0);
    put(&ring, 1);
    take(tdl_runq_get(&ring));
    put(&ring, 2);
    take(tdl_runq_get(&ring));
}

static void three_out(void) { all_out(3); }

/* -- More than it holds ------------------------------------------------------ */

/* As queue.c does: half of a full ring, and the new one, go elsewhere. */
static void owner_full(void) {
    for (int i = 0; i < 7; i++) {
        if (put(&ring, i)) continue;
        take_half(&ring);
        take(&gs[i]);
    }
    take(tdl_runq_get(&ring));
}

static void seven_out(void) { all_out(7); }

/* -- From ring to ring --------------------------------------------------------- */

static void owner_two(void) {
    put(&ring, 0);
    put(&ring, 1);
    put(&ring, 2);
    take(tdl_runq_get(&ring));
}

/* A thief keeps one and puts the rest in its own ring, which is robbed in turn. */
static void middle(void) {
    struct tdl_g *half[RUNQ_SIZE / 2];
    uint32_t n = grab(&ring, half);
    for (uint32_t i = 0; i + 1 < n; i++) CHECK(tdl_runq_put(&second, half[i]), "no room");
    if (n) take(half[n - 1]);
    take(tdl_runq_get(&second));
}

static void last(void) { take_half(&second); }

/* -- Who gets a short answer ----------------------------------------------------- */

/* A thief that finds nothing in a ring that held something all the time would
 * let its M go to sleep beside it. */
static void owner_keeps(void) {
    put(&ring, 2);
    take(tdl_runq_get(&ring));
    put(&ring, 3);
    take(tdl_runq_get(&ring));
}

static void setup_keeps(void) {
    setup_wrap();
    put(&ring, 0);
    put(&ring, 1);
}

static void thief_finds(void) {
    struct tdl_g *half[RUNQ_SIZE / 2];
    uint32_t n = grab(&ring, half);
    CHECK(n > 0, "nothing in a ring that is never empty");
    for (uint32_t i = 0; i < n; i++) take(half[i]);
}

static void four_out(void) { all_out(4); }

const model_scenario model_scenarios[] = {
    {"steal", setup, {{"owner", owner, false}, {"thief 1", thief, false}, {"thief 2", thief, false}},
     three_out, .quick = {3, 2}, .full = {5, 4}},
    {"wrap", setup_wrap, {{"owner", owner, false}, {"thief 1", thief_twice, false}, {"thief 2", thief, false}},
     three_out, .quick = {3, 1}, .full = {5, 3}},
    {"full", setup_wrap, {{"owner", owner_full, false}, {"thief", thief_twice, false}},
     seven_out, .quick = {3, 3}, .full = {5, 5}},
    {"hops", setup_wrap, {{"owner", owner_two, false}, {"middle", middle, false}, {"last", last, false}},
     three_out, .quick = {3, 2}, .full = {6, 5}},
    {"never-empty", setup_keeps, {{"owner", owner_keeps, false}, {"thief", thief_finds, false}},
     four_out, .quick = {4, 4}, .full = {9, 9}},
    {.name = NULL},
};
