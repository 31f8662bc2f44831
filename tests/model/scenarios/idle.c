/* SPDX-License-Identifier: MIT
 *
 * Idling and waking: core/sched/idle.c, queue.c, sched.c's finding and stealing,
 * poller.c's sleeping and waking, spare.c. A model thread is an M: it finds a goroutine
 * by the core's own find() and runs it, which here means to note that.
 *
 * Whoever makes a goroutine runnable waits until another has run it, and does
 * not look for work itself: so a wake-up that is lost is a deadlock.
 */
#define tdl_m_main real_m_main
#include "sched/sched.c"
#undef tdl_m_main

#include "netpoll/backend.h"
#include "sched/local.h"
#include "world.h"

/* The pollers' back end is the one on epoll. */
const tdl_backend *tdl_backend_take(bool *counted, int *code) {
    *counted = false;
    *code = 0;
    return &tdl_backend_epoll;
}

#define UNSEEN __attribute__((no_sanitize("thread"), noinline))

enum { GS = MODEL_THREADS };

static int ran[GS];
static void (*body[GS])(void);

UNSEEN static void note_run(int i) {
    model_note("runs goroutine %d", i);
    CHECK(++ran[i] == 1, "goroutine %d runs twice", i);
}

UNSEEN static bool has_run(void *i) { return ran[(intptr_t)i] > 0; }

static void await_run(int i) { model_wait(has_run, (void *)(intptr_t)i); }

/* -- An M's life ---------------------------------------------------------------- */

static void live(tdl_m *m) {
    tdl_g *g;
    at_store_rlx(&m->busy, 1);
    while ((g = find(m, at_load_rlx(&m->p))) != NULL) {
        int i = (int)(g - world_g(0));
        at_store_rel(&m->busy, 0);
        note_run(i);
        if (body[i]) body[i]();
        at_store_rlx(&m->busy, 1);
    }
}

static void worker(void) { live(tdl_m_self()); }

/* A thread that the core starts. */
void *tdl_m_main(void *m) {
    model_set_user(m);
    live(m);
    return NULL;
}

tdl_m *tdl_m_self(void) {
    int id = model_self();
    tdl_m *m = model_get_user();
    return m ? m : world_m(id < 0 ? 0 : id);
}

static tdl_g *woken(int i) {
    tdl_g_ready(world_g(i));
    return world_g(i);
}

/* -- The beginning ------------------------------------------------------------------ */

/* n Ps, of which `manned` have an M: thread i's. Nobody is idle yet. */
static void start(int n, int manned) {
    world_setup();
    at_store_rlx(&tdl_sched.np, n);
    at_store_rlx(&tdl_sched.active, (uint32_t)n);
    at_store_rlx(&tdl_sched.running, 1);
    for (int i = 0; i < n; i++) {
        tdl_p *p = world_p(i);
        tdl_poller_open(&p->poller);
        p->budget_full = 1;
        at_store_rlx(&p->budget, 1);
        if (i < manned) {
            p->m = world_m(i);
            at_store_rlx(&world_m(i)->p, p);
        } else {
            tdl_idle_push(p);
        }
    }
}

static void two(void) { start(2, 2); }
static void three(void) { start(3, 3); }
static void one_of_two(void) { start(2, 1); }

static void two_spinning(void) {
    two();
    at_store_rlx(&tdl_sched.spins, 2);
    world_p(1)->spin_credit = 1;
}

/* -- Submitters ---------------------------------------------------------------------- */

/* A goroutine on P 0 makes another runnable, and then computes for long. */
static void readies(void) {
    woken(1);
    await_run(1);
}

static void readies_two(void) {
    woken(1);
    woken(2);
    await_run(1);
    await_run(2);
}

/* A thread without a P. */
static void outside(void) {
    woken(3);
    await_run(3);
}

static void outside_two(void) {
    woken(3);
    woken(4);
    await_run(3);
    await_run(4);
}

/* Events and timers. */
static void batch(void) {
    tdl_m *m = tdl_m_self();
    at_store_rlx(&m->busy, 1);
    tdl_batch_begin(m);
    woken(1);
    woken(2);
    tdl_batch_end(m, at_load_rlx(&m->p));
    tdl_g *g = tdl_take_local(at_load_rlx(&m->p)); /* the first is for itself */
    at_store_rel(&m->busy, 0);
    if (g) note_run((int)(g - world_g(0)));
    await_run(1);
    await_run(2);
}

/* Each of two waits for the other: both Ms must come, one by one. */
static void waits_for_2(void) { await_run(2); }
static void waits_for_1(void) { await_run(1); }

static void chain(void) {
    three();
    body[1] = waits_for_2;
    body[2] = waits_for_1;
}

/* -- Ends --------------------------------------------------------------------------------- */

/* All is over and asleep: what counts agrees with what is. */
static void at_rest(void) {
    CHECK(at_load_rlx(&tdl_sched.nspinning) == 0, "nspinning is %u", at_load_rlx(&tdl_sched.nspinning));
    CHECK(at_load_rlx(&tdl_sched.nwaking) == 0, "nwaking is %u", at_load_rlx(&tdl_sched.nwaking));
    CHECK(at_load_rlx(&tdl_sched.nglobal) == 0, "nglobal is %u", at_load_rlx(&tdl_sched.nglobal));
    uint32_t n = 0;
    for (tdl_p *p = tdl_sched.idle; p; p = p->next_idle) n++;
    CHECK(at_load_rlx(&tdl_sched.nidle) == n, "nidle is %u, and the list has %u", at_load_rlx(&tdl_sched.nidle), n);
    for (int i = 0; i < tdl_nprocs(); i++) CHECK(!tdl_p_has_work(world_p(i)), "P %d has work left", i);
}

/* At most one wake-up for each goroutine made runnable, one more for each that was
 * woken and found something, and one by a spinner that finds it in another queue. */
static void few_wakes(void) {
    at_rest();
    int n = 0;
    for (int i = 0; i < GS; i++) n += ran[i];
    CHECK(model_kicks() <= 3 * n, "%d wake-ups for %d goroutines", model_kicks(), n);
}

#define T(name, run) {name, run, false}
#define M(name) {name, worker, true}

const model_scenario model_scenarios[] = {
    {"ready", two, {T("busy", readies), M("idler")}, few_wakes, .quick = {3, 2}, .full = {6, 4}},
    {"outside", two, {M("idler 1"), M("idler 2"), T("outside", outside)}, few_wakes, .quick = {1, 1}, .full = {2, 1}},
    {"both", two, {T("busy", readies), M("idler"), T("outside", outside)}, few_wakes, .quick = {2, 1}, .full = {2, 2}},
    {"batch", two, {T("busy", batch), M("idler")}, few_wakes, .quick = {2, 2}, .full = {3, 2}},
    {"spinning", two_spinning, {T("busy", readies), M("idler")}, few_wakes, .quick = {3, 2}, .full = {6, 4}},
    {"chain", chain, {T("busy", readies_two), M("idler 1"), M("idler 2")}, few_wakes, .quick = {1, 1}, .full = {2, 1}},
    {"chain-outside", chain, {T("busy", outside_two), M("idler 1"), M("idler 2")}, few_wakes, .quick = {1, 1}, .full = {2, 1}},
    {"thread", one_of_two, {T("busy", readies)}, at_rest, .quick = {3, 2}, .full = {4, 3}},
    {.name = NULL},
};
