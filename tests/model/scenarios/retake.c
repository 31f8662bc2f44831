/* SPDX-License-Identifier: MIT
 *
 * Who has a P (core/sched/own.h): an M that enters and leaves the runtime at its
 * own pace, and who takes its P meanwhile and gives it to another. The P's plain
 * fields are touched by its owner only, so that two owners at once are a data
 * race; and the P is never lost.
 */
#include "sched/own.h"

#include "sys/sys.h"
#include "world.h"

#define UNSEEN __attribute__((no_sanitize("thread"), noinline))

static tdl_p *p;
static int touched;
static bool called[MODEL_THREADS]; /* under sched.lock */

UNSEEN static void count(void) { touched++; }

/* front_left stands for all that belongs to the owner. */
static void touch(tdl_p *own) {
    if (!own) return;
    own->front_left++;
    count();
}

static void setup(void) {
    world_setup();
    p = world_p(0);
    p->m = world_m(0);
    at_store_rlx(&world_m(0)->p, p);
}

static int no_membarrier(void) { return -38; }

static void setup_without(void) {
    tdl_sys.membarrier = no_membarrier;
    setup();
}

static void enter_and_leave(tdl_m *m) {
    uint32_t was;
    touch(tdl_p_enter(m, &was));
    tdl_p_leave(m, was);
}

static void nest(tdl_m *m) {
    uint32_t was, was_inside;
    tdl_p *own = tdl_p_enter(m, &was);
    touch(own);
    tdl_p *again = tdl_p_enter(m, &was_inside);
    CHECK(!own || !again || again == own, "it is another P inside"); /* NULL: it was tried */
    touch(again);
    tdl_p_leave(m, was_inside);
    touch(own);
    tdl_p_leave(m, was);
}

static void twice(void) {
    enter_and_leave(tdl_m_self());
    enter_and_leave(tdl_m_self());
}

static void nested(void) {
    nest(tdl_m_self());
    enter_and_leave(tdl_m_self());
}

/* Under the lock an M knows for certain. */
static void certain(void) {
    tdl_m *m = tdl_m_self();
    uint32_t was;
    tdl_p *own = tdl_p_enter(m, &was);
    tdl_lock_take(&tdl_sched.lock);
    tdl_p *mine = at_load_rlx(&m->p);
    CHECK(!own || mine == own, "the P was taken from inside");
    CHECK((mine == NULL) == (p->m != m), "it does not know whose its P is");
    tdl_unlock(&tdl_sched.lock);
    touch(mine);
    tdl_p_leave(m, was);
}

/* As sysmon: the P goes to the M of thread `to`. */
static void retake_for(int to) {
    tdl_lock_take(&tdl_sched.lock);
    if (p->m && p->m != world_m(to) && tdl_p_retake(p)) {
        p->m = world_m(to);
        at_store_rel(&world_m(to)->p, p);
        called[to] = true;
    }
    tdl_unlock(&tdl_sched.lock);
}

static void taker(void) { retake_for(2); }

static void taker_twice(void) {
    retake_for(2);
    retake_for(3);
}

/* The spare M that gets it, which is called under the lock. */
UNSEEN static bool is_called(void *to) { return called[(intptr_t)to]; }

static void getter(void) {
    model_wait(is_called, (void *)(intptr_t)model_self());
    tdl_lock_take(&tdl_sched.lock);
    tdl_unlock(&tdl_sched.lock);
    enter_and_leave(tdl_m_self());
}

/* It belongs to exactly one M, and both know that. */
static void one_owner(void) {
    tdl_m *m = p->m;
    CHECK(m, "the P is lost");
    for (int i = 0; i < MODEL_THREADS; i++)
        CHECK((at_load_rlx(&world_m(i)->p) == p) == (world_m(i) == m), "thread %d: whose is the P?", i);
    CHECK(p->front_left == touched, "%d of %d counted", p->front_left, touched);
}

#define T(name, run) {name, run, false}
#define G(name) {name, getter, true}

const model_scenario model_scenarios[] = {
    {"taken", setup, {T("hog", twice), T("taker", taker), G("getter")}, one_owner, .quick = {3, 3}, .full = {4, 4}},
    {"nested", setup, {T("hog", nested), T("taker", taker), G("getter")}, one_owner, .quick = {3, 2}, .full = {4, 4}},
    {"certain", setup, {T("hog", certain), T("taker", taker), G("getter")}, one_owner, .quick = {3, 3}, .full = {4, 4}},
    {"on-and-on", setup, {T("hog", twice), T("taker", taker_twice), G("getter"), G("next")}, one_owner,
     .quick = {1, 1}, .full = {2, 2}},
    {"without", setup_without, {T("hog", twice), T("taker", taker), G("getter")}, one_owner, .quick = {3, 2}, .full = {4, 3}},
    {.name = NULL},
};
