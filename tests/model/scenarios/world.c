/* SPDX-License-Identifier: MIT */
#include "world.h"

#include "sys/sys.h"

static tdl_m ms[MODEL_THREADS + 1]; /* the last: setup's and check's */
static tdl_g gs[MODEL_THREADS];
static tdl_p ps[MODEL_THREADS];
static tdl_p *list[MODEL_THREADS];
static _Atomic uint32_t readied[MODEL_THREADS];

#define WEAK __attribute__((weak))

WEAK struct tdl_sched tdl_sched;

void world_setup(void) {
    for (int i = 0; i <= MODEL_THREADS; i++) ms[i].op.kind = OP_OF_THREAD;
    for (int i = 0; i < MODEL_THREADS; i++) {
        list[i] = &ps[i];
        ps[i].id = i;
        tdl_timers_init(&ps[i].poller.timers, &ps[i].poller);
    }
    tdl_sched.p = list;
}

static tdl_g *become(int i, uint8_t kind) {
    tdl_m *m = tdl_m_self();
    tdl_g *g = &gs[i];
    g->op.kind = kind;
    g->flags = TDL_GO_JOINABLE;
    m->g = g;
    if (kind == OP_OF_G) at_store_rlx(&m->p, &ps[i]);
    return g;
}

tdl_g *world_goroutine(int i) { return become(i, OP_OF_G); }

tdl_g *world_pinned(int i) { return become(i, OP_OF_PINNED); }

tdl_g *world_g(int i) { return &gs[i]; }

tdl_m *world_m(int i) { return &ms[i]; }

tdl_p *world_p(int i) { return &ps[i]; }

static bool is_ready(void *p) { return at_load_rlx((_Atomic uint32_t *)p) != 0; }

static void await(int i) {
    model_wait(is_ready, &readied[i]);
    at_xchg_seq(&readied[i], 0);
}

/* -- Hosted tasks -------------------------------------------------------------- */

static void report(tdl_g *g) {
    int i = (int)(g - gs);
    CHECK(at_xchg_seq(&readied[i], 1) == 0, "task %d is reported twice", i);
}

tdl_g *world_task(int i) {
    gs[i].op.kind = OP_OF_TASK;
    gs[i].task_ready = report;
    gs[i].host_poller = &ps[i].poller;
    return &gs[i];
}


void world_task_wait(int i) { await(i); }

/* -- In place of caller.c, sched.c, queue.c -------------------------------------- */

WEAK tdl_m *tdl_m_self(void) {
    int id = model_self();
    return &ms[id < 0 ? MODEL_THREADS : id];
}

WEAK void tdl_g_park(tdl_g *g) {
    tdl_op_commit(&g->op);
    await((int)(g - gs));
}

/* Twice would be to run on two threads at once. */
WEAK void tdl_g_ready(tdl_g *g) {
    int i = (int)(g - gs);
    CHECK(i >= 0 && i < MODEL_THREADS, "what is readied is no goroutine");
    CHECK(at_xchg_seq(&readied[i], 1) == 0, "goroutine %d is made runnable twice", i);
}
