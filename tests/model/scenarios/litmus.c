/* SPDX-License-Identifier: MIT
 *
 * The checker checked: small programs whose possible outcomes under C11 are
 * known. Each "may" test must find its outcome, and is a mutant-like failure
 * (litmus.txt lists which must fail); each "never" test must not.
 */
#include "model.h"

#include "sys/atomic.h"

static _Atomic uint32_t x, y;
static uint32_t r[4];
static int data;
static void *block;

static void clear(void) {
    at_store_rlx(&x, 0);
    at_store_rlx(&y, 0);
    r[0] = r[1] = r[2] = r[3] = 9;
    data = 0;
}

/* Store buffering: both read 0? */
#define SB(name, store, between, load)                                         \
    static void name##_a(void) { store(&x, 1); between; r[0] = load(&y); }     \
    static void name##_b(void) { store(&y, 1); between; r[1] = load(&x); }

static void not_both_0(void) { CHECK(r[0] || r[1], "both read 0"); }

SB(sb_rlx, at_store_rlx, (void)0, at_load_rlx)
SB(sb_acq, at_store_rel, (void)0, at_load_acq)
SB(sb_mixed, at_store_seq, (void)0, at_load_acq)
SB(sb_seq, at_store_seq, (void)0, at_load_seq)
SB(sb_fence, at_store_rlx, at_fence_seq(), at_load_rlx)
SB(sb_rmw, at_xchg_seq, (void)0, at_load_seq)

/* One side with a fence is not enough; with membarrier on the other it is. */
static void fast_a(void) { at_store_rlx(&x, 1); at_fence_compiler(); r[0] = at_load_rlx(&y); (void)at_load_rlx(&y); }
static void loose_a(void) { at_store_rlx(&x, 1); r[0] = at_load_rlx(&y); (void)at_load_rlx(&y); }
static void slow_b(void) { at_store_rlx(&y, 1); model_membarrier(); r[1] = at_load_rlx(&x); }

/* The same where the other side reads by an exchange. */
static void slow_xchg_b(void) { at_store_rlx(&y, 1); model_membarrier(); r[1] = at_xchg_seq(&x, 0); }

/* Message passing: a new flag, and old data? */
static void mp_rel_a(void) { at_store_rlx(&x, 1); at_store_rel(&y, 1); }
static void mp_rlx_a(void) { at_store_rlx(&x, 1); at_store_rlx(&y, 1); }
static void mp_fence_a(void) { at_store_rlx(&x, 1); at_fence_seq(); at_store_rlx(&y, 1); }
static void mp_acq_b(void) { r[0] = at_load_acq(&y); r[1] = at_load_rlx(&x); }
static void mp_rlx_b(void) { r[0] = at_load_rlx(&y); r[1] = at_load_rlx(&x); }
static void mp_fence_b(void) { r[0] = at_load_rlx(&y); at_fence_seq(); r[1] = at_load_rlx(&x); }
static void mp_check(void) { CHECK(!(r[0] == 1 && r[1] == 0), "the flag, and not the data"); }

/* A release sequence: the read-modify-write of a third hands the data on. */
static void rs_c(void) { at_add_rlx(&y, 1); }
static void rs_b(void) { r[0] = at_load_acq(&y); r[1] = at_load_rlx(&x); }
static void rs_check(void) { CHECK(!(r[0] == 2 && r[1] == 0), "the flag, and not the data"); }

/* Independent reads of independent writes, seen in two orders? */
static void iriw_x(void) { at_store_seq(&x, 1); }
static void iriw_y(void) { at_store_seq(&y, 1); }
static void iriw_a(void) { r[0] = at_load_seq(&x); r[1] = at_load_seq(&y); }
static void iriw_b(void) { r[2] = at_load_seq(&y); r[3] = at_load_seq(&x); }
static void iriw_acq_a(void) { r[0] = at_load_acq(&x); r[1] = at_load_acq(&y); }
static void iriw_acq_b(void) { r[2] = at_load_acq(&y); r[3] = at_load_acq(&x); }
static void iriw_check(void) {
    CHECK(!(r[0] == 1 && r[1] == 0 && r[2] == 1 && r[3] == 0), "two orders");
}

/* Coherence: two loads of one location never go back. */
static void co_a(void) { at_store_rlx(&x, 1); at_store_rlx(&x, 2); }
static void co_b(void) { r[0] = at_load_rlx(&x); r[1] = at_load_rlx(&x); }
static void co_check(void) { CHECK(r[0] <= r[1], "went back"); }

/* A read-modify-write reads the last value. */
static void add(void) { at_add_rlx(&x, 1); }
static void add_check(void) { CHECK(at_load_rlx(&x) == 2, "%u, not 2", at_load_rlx(&x)); }
static void add_torn(void) { at_store_rlx(&x, at_load_rlx(&x) + 1); }

/* A CAS that fails may say an old value. */
static void cas_old(void) {
    uint32_t was = 5;
    at_cas_seq(&x, &was, 6);
    r[0] = was;
    if (at_load_rlx(&y) == 1) r[1] = was;
}
static void cas_old_check(void) { CHECK(r[1] != 0, "an old value"); }

/* Plain data. */
static void race_a(void) { data = 1; at_store_rlx(&x, 1); }
static void norace_a(void) { data = 1; at_store_rel(&x, 1); }
static void race_b(void) {
    if (at_load_acq(&x)) r[0] = (uint32_t)data;
}
static void unsynchronised(void) {
    if (at_load_rlx(&x)) data = 2;
}

/* Waiting. */
static bool x_is_1(void *unused) {
    (void)unused;
    return at_load_rlx(&x) == 1;
}
static void waits(void) { model_wait(x_is_1, NULL); }
static void spins(void) {
    while (at_load_rlx(&x) != 1) at_pause();
}
static void nothing(void) {}
static void sets(void) { at_store_rlx(&x, 1); }

/* Released memory. */
static void release_a(void) { model_release(block); at_store_rel(&x, 1); }
static void release_b(void) { *(volatile int *)block = 1; }
static void new_block(void) { clear(); block = model_alloc(8); }

#define TWO(a, b) .setup = clear, .thread = {{"a", a, false}, {"b", b, false}}
#define BOUNDS .quick = {3, 3}, .full = {9, 9}

const model_scenario model_scenarios[] = {
    {"may-sb-rlx", TWO(sb_rlx_a, sb_rlx_b), .check = not_both_0, BOUNDS},
    {"may-sb-acq", TWO(sb_acq_a, sb_acq_b), .check = not_both_0, BOUNDS},
    {"may-sb-mixed", TWO(sb_mixed_a, sb_mixed_b), .check = not_both_0, BOUNDS},
    {"never-sb-seq", TWO(sb_seq_a, sb_seq_b), .check = not_both_0, BOUNDS},
    {"never-sb-fence", TWO(sb_fence_a, sb_fence_b), .check = not_both_0, BOUNDS},
    {"never-sb-rmw", TWO(sb_rmw_a, sb_rmw_b), .check = not_both_0, BOUNDS},
    {"may-sb-one-fence", TWO(fast_a, sb_fence_b), .check = not_both_0, BOUNDS},
    {"never-membarrier", TWO(fast_a, slow_b), .check = not_both_0, BOUNDS},
    {"may-membarrier", TWO(loose_a, slow_b), .check = not_both_0, BOUNDS},
    {"never-membarrier-xchg", TWO(fast_a, slow_xchg_b), .check = not_both_0, BOUNDS},
    {"may-membarrier-xchg", TWO(loose_a, slow_xchg_b), .check = not_both_0, BOUNDS},
    {"never-mp-rel", TWO(mp_rel_a, mp_acq_b), .check = mp_check, BOUNDS},
    {"may-mp-rel-rlx", TWO(mp_rel_a, mp_rlx_b), .check = mp_check, BOUNDS},
    {"may-mp-rlx-acq", TWO(mp_rlx_a, mp_acq_b), .check = mp_check, BOUNDS},
    {"never-mp-fence", TWO(mp_fence_a, mp_fence_b), .check = mp_check, BOUNDS},
    {"never-mp-fence-acq", TWO(mp_fence_a, mp_acq_b), .check = mp_check, BOUNDS},
    {"never-mp-rel-fence", TWO(mp_rel_a, mp_fence_b), .check = mp_check, BOUNDS},
    {"never-rs", .setup = clear, .thread = {{"a", mp_rel_a, false}, {"c", rs_c, false}, {"b", rs_b, false}},
     .check = rs_check, BOUNDS},
    {"never-iriw-seq", .setup = clear,
     .thread = {{"x", iriw_x, false}, {"y", iriw_y, false}, {"a", iriw_a, false}, {"b", iriw_b, false}},
     .check = iriw_check, BOUNDS},
    {"may-iriw-acq", .setup = clear,
     .thread = {{"x", iriw_x, false}, {"y", iriw_y, false}, {"a", iriw_acq_a, false}, {"b", iriw_acq_b, false}},
     .check = iriw_check, BOUNDS},
    {"never-coherence", TWO(co_a, co_b), .check = co_check, BOUNDS},
    {"never-rmw", TWO(add, add), .check = add_check, BOUNDS},
    {"may-torn", TWO(add_torn, add_torn), .check = add_check, BOUNDS},
    {"may-cas-old", TWO(mp_rlx_a, cas_old), .check = cas_old_check, BOUNDS},
    {"may-race", TWO(race_a, race_b), BOUNDS},
    {"never-race", TWO(norace_a, race_b), BOUNDS},
    {"may-race-plain", TWO(norace_a, unsynchronised), BOUNDS},
    {"may-deadlock", TWO(waits, nothing), BOUNDS},
    {"never-deadlock", TWO(waits, sets), BOUNDS},
    {"may-livelock", TWO(spins, nothing), BOUNDS},
    {"never-livelock", TWO(spins, sets), BOUNDS},
    {"may-released", .setup = new_block, .thread = {{"a", release_a, false}, {"b", release_b, false}}, BOUNDS},
    {.name = NULL},
};
