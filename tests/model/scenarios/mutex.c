/* SPDX-License-Identifier: MIT
 *
 * The mutex (core/sync/mutex.c): its cheap unlock against who begins to wait,
 * the hand-over to who starves, deadlines and cancels. What it guards is plain
 * data; a wake-up that is lost is a deadlock.
 */
#include "sync/sync.h"

#include "sys/sys.h"
#include "world.h"

static tdl_mutex *mutex;
static int guarded, entered, in, gave_up;

#define UNSEEN __attribute__((no_sanitize("thread"), noinline))

UNSEEN static void enter(void) {
    CHECK(in++ == 0, "two have it");
    entered++;
}

UNSEEN static void leave(void) { in--; }

UNSEEN static void gives_up(void) { gave_up++; }

static void setup(void) {
    world_setup();
    mutex = tdl_mutex_new();
}

static int no_membarrier(void) { return -38; }

static void setup_fenced(void) {
    tdl_sys.membarrier = no_membarrier;
    setup();
}

static void locked_by_setup(void) {
    setup();
    tdl_mutex_lock(mutex);
}

static void work(void) {
    enter();
    guarded++;
    leave();
    CHECK(tdl_mutex_unlock(mutex) == 0, "not locked");
}

static void thread(void) {
    CHECK(tdl_mutex_lock(mutex) == 0, "no lock");
    work();
}

static void thread_twice(void) {
    thread();
    thread();
}

static void tries(void) {
    if (tdl_mutex_trylock(mutex) == 0) work();
}

static void goroutine(void) {
    world_goroutine(0);
    thread();
}

static void goroutine_1(void) {
    world_goroutine(1);
    thread();
}

static void until(void) {
    if (tdl_mutex_lock_until(mutex, model_now() + 1) == 0)
        work();
    else
        gives_up();
}

static void goroutine_cancelled(void) {
    world_goroutine(0);
    if (tdl_mutex_lock(mutex) == 0)
        work();
    else
        gives_up();
}

static void cancel(void) { tdl_g_cancel(world_g(0)); }

/* A waiter that was woken and beaten to it, and then waits for too long: it starves. */
static void starver(void) {
    world_goroutine(0);
    thread();
}

static void slow(void) {
    CHECK(tdl_mutex_lock(mutex) == 0, "no lock");
    model_advance(2000000);
    work();
}

static void at_rest(void) {
    CHECK(guarded == entered && in == 0, "%d of %d counted", guarded, entered);
    CHECK(tdl_mutex_trylock(mutex) == 0, "it is still locked");
    CHECK(tdl_mutex_unlock(mutex) == 0, "it cannot be unlocked");
}

/* Setup's lock is given up by a thread, which alone has it. */
static void unlocks(void) { CHECK(tdl_mutex_unlock(mutex) == 0, "not locked"); }

#define T(name, run) {name, run, false}

const model_scenario model_scenarios[] = {
    {"threads", setup, {T("a", thread_twice), T("b", thread)}, at_rest, .quick = {2, 2}, .full = {3, 2}},
    {"three", setup, {T("a", thread), T("b", thread), T("c", tries)}, at_rest, .quick = {1, 1}, .full = {2, 1}},
    {"fenced", setup_fenced, {T("a", thread_twice), T("b", thread)}, at_rest, .quick = {2, 2}, .full = {3, 2}},
    {"goroutines", locked_by_setup, {T("unlocks", unlocks), T("goroutine", goroutine), T("goroutine 1", goroutine_1)},
     at_rest, .quick = {1, 1}, .full = {2, 1}},
    {"until", locked_by_setup, {T("unlocks", unlocks), T("until", until), T("thread", thread)}, at_rest,
     .quick = {1, 1}, .full = {2, 1}, .timeouts = 1},
    {"cancel", locked_by_setup, {T("unlocks", unlocks), T("goroutine", goroutine_cancelled), T("canceller", cancel)},
     at_rest, .quick = {2, 1}, .full = {3, 2}},
    {"starving", locked_by_setup, {T("unlocks", unlocks), T("starver", starver), T("slow", slow)}, at_rest,
     .quick = {1, 1}, .full = {2, 1}},
    {.name = NULL},
};
