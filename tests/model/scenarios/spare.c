/* SPDX-License-Identifier: MIT
 *
 * Threads without a P (core/sched/spare.c): one is given a P and called, while
 * somebody already looks whether the P can be taken again (own.h).
 */
#include "sched/own.h"

#include "sys/sys.h"
#include "world.h"

#define UNSEEN __attribute__((no_sanitize("thread"), noinline))

static tdl_p *p;
static int touched;

static void setup(void) {
    world_setup();
    p = world_p(0);
    p->m = NULL;
    for (int i = 0; i < MODEL_THREADS; i++) at_store_rlx(&world_m(i)->p, NULL);
}

UNSEEN static bool is_spare(void *m) { return tdl_sched.spare == m; }

/* Gives it to the spare M of thread 1. */
static void gives(void) {
    model_wait(is_spare, world_m(1));
    tdl_lock_take(&tdl_sched.lock);
    at_add_seq(&tdl_sched.nspinning, 1);
    tdl_p_staff(p);
}

/* It is in the runtime from its last goroutine on. */
static void spare(void) {
    tdl_m *m = tdl_m_self();
    at_store_rlx(&m->busy, 1);
    tdl_p *own = tdl_m_await_p(m);
    CHECK(own == p, "it was called, and has no P");
    own->front_left++;
    touched++;
    tdl_p_leave(m, 0);
}

/* As sysmon; the P is its own then. */
static void looks(void) {
    tdl_m *m = tdl_m_self();
    tdl_lock_take(&tdl_sched.lock);
    bool got = p->m && tdl_p_retake(p);
    if (got) {
        p->m = m;
        at_store_rel(&m->p, p);
    }
    tdl_unlock(&tdl_sched.lock);
    if (got) p->front_left++;
    if (got) touched++;
}

static void one_owner(void) {
    CHECK(p->m, "the P is lost");
    for (int i = 0; i < MODEL_THREADS; i++)
        CHECK((at_load_rlx(&world_m(i)->p) == p) == (world_m(i) == p->m), "thread %d: whose is the P?", i);
    CHECK(p->front_left == touched, "%d of %d counted", p->front_left, touched);
}

#define T(name, run) {name, run, false}

const model_scenario model_scenarios[] = {
    {"called", setup, {T("gives", gives), T("spare", spare), T("looks", looks)}, one_owner, .quick = {3, 2}, .full = {5, 3}},
    {.name = NULL},
};
