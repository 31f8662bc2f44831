/* SPDX-License-Identifier: MIT
 *
 * tdl_lock itself (core/sys/lock.h, lock.c). What it guards is plain data, so that
 * two at once, or one after the other without an edge between them, is a data
 * race.
 */
#include "sys/lock.h"

#include "model.h"

static tdl_lock lock;
static int guarded, entered;

#define UNSEEN __attribute__((no_sanitize("thread"), noinline))

UNSEEN static void count(void) { entered++; }

static void work(void) {
    guarded++;
    count();
}

static void all_counted(void) { CHECK(guarded == entered, "%d of %d counted", guarded, entered); }

static void locks(void) {
    tdl_lock_take(&lock);
    work();
    tdl_unlock(&lock);
}

static void locks_twice(void) {
    locks();
    locks();
}

static void tries(void) {
    if (!tdl_lock_try(&lock)) return;
    work();
    tdl_unlock(&lock);
}

#define T(name, run) {name, run, false}

const model_scenario model_scenarios[] = {
    {"plain", NULL, {T("a", locks), T("b", locks_twice), T("c", tries)}, all_counted, .quick = {3, 2}, .full = {4, 3},
     .real_locks = true},
    {.name = NULL},
};
