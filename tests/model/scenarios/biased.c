/* SPDX-License-Identifier: MIT
 *
 * The biased lock (core/sys/biased.h, biased.c): its owner's cheap way in against
 * guests. What it guards is plain data, so that two at once, or one after the
 * other without an edge between them, is a data race.
 */
#include "sys/biased.h"

#include "model.h"
#include "sys/sys.h"

static tdl_biased biased;
static int guarded, entered;
static _Atomic uint32_t handed_over;

#define UNSEEN __attribute__((no_sanitize("thread"), noinline))

UNSEEN static void count(void) { entered++; }

static void work(void) {
    guarded++;
    count();
}

static void all_counted(void) { CHECK(guarded == entered, "%d of %d counted", guarded, entered); }

static int no_membarrier(void) { return -38; }

static void setup(void) { tdl_biased_init(&biased, RANK_HEAP); }

static void setup_unbiased(void) {
    tdl_sys.membarrier = no_membarrier;
    setup();
}

static void owner(void) {
    tdl_biased_take(&biased, true);
    work();
    tdl_biased_drop(&biased, true);
}

static void owner_twice(void) {
    owner();
    owner();
}

static void guest(void) {
    tdl_biased_take(&biased, false);
    work();
    tdl_biased_drop(&biased, false);
}

static void guest_twice(void) {
    guest();
    guest();
}

/* Another thread becomes the owner. */
static void first_owner(void) {
    owner();
    at_store_rel(&handed_over, 1);
    guest();
}

static bool is_handed_over(void *unused) {
    (void)unused;
    return at_load_rlx(&handed_over);
}

static void second_owner(void) {
    model_wait(is_handed_over, NULL);
    at_xchg_seq(&handed_over, 2);
    owner();
}

#define T(name, run) {name, run, false}

const model_scenario model_scenarios[] = {
    {"biased", setup, {T("owner", owner_twice), T("guest", guest_twice)}, all_counted, .quick = {3, 3}, .full = {5, 4}},
    {"guests", setup, {T("owner", owner_twice), T("guest 1", guest), T("guest 2", guest)}, all_counted,
     .quick = {2, 2}, .full = {3, 2}},
    {"owners", setup, {T("first", first_owner), T("second", second_owner), T("guest", guest)}, all_counted,
     .quick = {2, 2}, .full = {3, 2}},
    {"unbiased", setup_unbiased, {T("owner", owner_twice), T("guest 1", guest), T("guest 2", guest)}, all_counted,
     .quick = {3, 2}, .full = {4, 3}},
    {.name = NULL},
};
