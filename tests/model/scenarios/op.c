/* SPDX-License-Identifier: MIT
 *
 * The claim of an op (core/sched/op.h, op.c) and parking: one waiter, and those
 * who would end its wait: a partner, the deadline, a cancel, a close. One of them
 * does; nothing given is lost; the waiter may wait again at once; no late claimer
 * hits its next use.
 *
 * What is waited for is a slot, as a channel of values is: give hands a value to
 * the first waiter or leaves it there.
 */
#include <string.h>

#include "sys/sys.h"
#include "world.h"

static struct slot {
    tdl_lock lock;
    int n; /* values left there */
    bool closed;
    tdl_queue q;
} slot, other;

/* The bookkeeping is no part of what is checked. */
#define UNSEEN __attribute__((no_sanitize("thread"), noinline))

static int got, given, ended;

static void leave(tdl_op *op) {
    struct slot *s = op->node.object;
    tdl_lock_take(&s->lock);
    tdl_queue_remove(&op->node);
    tdl_unlock(&s->lock);
}

static int64_t finish(tdl_op *op) {
    if (op->result < 0 && op->result != TDL_ECLOSED) leave(op);
    return op->result;
}

static const tdl_op_class take_class = {"take", finish, leave};

static int64_t take_op(tdl_op *op, struct slot *s, int64_t deadline) {
    tdl_lock_take(&s->lock);
    int64_t r = s->n > 0 ? 1 : s->closed ? TDL_ECLOSED : 0;
    if (r > 0) s->n--;
    if (r != 0) {
        tdl_unlock(&s->lock);
        return r;
    }
    tdl_op_begin(op, &take_class);
    op->node.object = s;
    tdl_op_publish(op);
    tdl_queue_push(&s->q, &op->node);
    tdl_unlock(&s->lock);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

static int64_t take(struct slot *s, int64_t deadline) { return WORLD_WAIT(take_op(op, s, deadline)); }

UNSEEN static void count_given(void) { given++; }

static void give_to(struct slot *s) {
    uint32_t was;
    count_given();
    tdl_lock_take(&s->lock);
    tdl_node *n = tdl_queue_claim(&s->q, &was);
    if (!n) s->n++;
    tdl_unlock(&s->lock);
    if (n) tdl_op_complete(n->op, was, 1);
}

static void give(void) { give_to(&slot); }

static void close_slot(void) {
    tdl_lock_take(&slot.lock);
    slot.closed = true;
    tdl_node *list = tdl_queue_claim_all(&slot.q);
    tdl_unlock(&slot.lock);
    tdl_complete_all(list, TDL_ECLOSED);
}

/* The P's M, when the deadline is over. */
static void clock_runs(void) { tdl_timers_run(&world_p(0)->poller.timers, model_now() + TDL_SECOND); }

static bool is_armed(void *unused) {
    (void)unused;
    return tdl_timers_next(&world_p(0)->poller.timers) != TDL_FOREVER;
}

static void clock_for_ever(void) {
    for (;;) {
        model_wait(is_armed, NULL);
        clock_runs();
    }
}

static void cancel(void) {
    tdl_g *g = world_g(0);
    tdl_g_cancel(g);
}

static int64_t soon(void) { return model_now() + 1; }

UNSEEN static void count(int64_t r) {
    if (r == 1) got++;
    else ended++;
}

static void nothing_lost(void) {
    CHECK(got + slot.n + other.n == given, "%d given, %d got, %d there", given, got, slot.n + other.n);
    CHECK(!slot.q.head && !other.q.head, "somebody is still in a queue");
    CHECK(tdl_timers_count(&world_p(0)->poller.timers) == 0, "a deadline is still armed");
}

/* -- A goroutine ---------------------------------------------------------------- */

static void g_takes(void) {
    world_goroutine(0);
    count(take(&slot, TDL_FOREVER));
}

/* Whatever ends the first wait, the second is one of its own. */
static void g_takes_twice(void) {
    world_goroutine(0);
    int64_t r = take(&slot, soon());
    CHECK(r == 1 || r == TDL_ETIMEDOUT, "the first wait gave %ld", (long)r);
    count(r);
    r = take(&other, TDL_FOREVER);
    CHECK(r == 1, "the second wait gave %ld", (long)r);
    count(r);
}

static void give_other(void) { give_to(&other); }

static void g_until_cancelled(void) {
    world_goroutine(0);
    int64_t r;
    while ((r = take(&slot, TDL_FOREVER)) == 1) count(r);
    CHECK(r == TDL_ECANCELED, "the last wait gave %ld", (long)r);
}

static void g_with_all(void) {
    world_goroutine(0);
    int64_t r = take(&slot, soon());
    CHECK(r == 1 || r == TDL_ETIMEDOUT || r == TDL_ECANCELED || r == TDL_ECLOSED, "the wait gave %ld", (long)r);
    count(r);
}

static void give_and_close(void) {
    give();
    close_slot();
}

/* -- A thread ---------------------------------------------------------------------- */

static void thread_takes(void) { count(take(&slot, TDL_FOREVER)); }

/* What belongs to a wait may be gone when it is over. */
static void thread_goes(void) {
    tdl_op *op = model_alloc(sizeof *op);
    memset(op, 0, sizeof *op);
    op->kind = OP_OF_THREAD;
    int64_t r = take_op(op, &slot, soon());
    if (r == TDL_PENDING) r = tdl_op_wait(op);
    CHECK(r == 1 || r == TDL_ETIMEDOUT, "the wait gave %ld", (long)r);
    count(r);
    model_release(op);
}

static void thread_twice(void) {
    count(take(&slot, soon()));
    count(take(&other, TDL_FOREVER));
}

/* -- A pinned goroutine --------------------------------------------------------------- */

static void pinned_until_cancelled(void) {
    world_pinned(0);
    int64_t r;
    while ((r = take(&slot, TDL_FOREVER)) == 1) count(r);
    CHECK(r == TDL_ECANCELED, "the last wait gave %ld", (long)r);
}

/* -- A hosted task ----------------------------------------------------------------------- */

/* Its host cancels it on its own thread, as hosts do. */
static void host(void) {
    tdl_op *op = &world_task(0)->op;
    int64_t r = take_op(op, &slot, soon());
    if (r == TDL_PENDING) {
        if (model_choose(2)) tdl_op_cancel(op);
        world_task_wait(0);
        r = tdl_op_finish(op);
    }
    CHECK(r == 1 || r == TDL_ECANCELED || r == TDL_ETIMEDOUT, "the wait gave %ld", (long)r);
    count(r);
}

/* -- Two waiters ---------------------------------------------------------------------------- */

static void second_takes(void) {
    world_goroutine(1);
    CHECK(WORLD_WAIT(take_op(op, &slot, TDL_FOREVER)) == 1, "the second got nothing");
}

static void first_of_two(void) {
    world_goroutine(0);
    int64_t r = take(&slot, soon());
    CHECK(r == 1 || r == TDL_ETIMEDOUT, "the wait gave %ld", (long)r);
    if (r == 1) give(); /* it goes on to the second */
}

/* A value goes to the second when the first has given up. */
static void two_check(void) {
    CHECK(slot.n == 0 && !slot.q.head, "%d values left", slot.n);
}

#define T(name, run) {name, run, false}

const model_scenario model_scenarios[] = {
    {"park", world_setup, {T("goroutine", g_takes), T("partner", give)}, nothing_lost, .quick = {4, 4}, .full = {9, 9}},
    {"deadline", world_setup,
     {T("goroutine", g_takes_twice), T("partner", give), T("clock", clock_runs), T("other", give_other)},
     nothing_lost, .quick = {1, 1}, .full = {2, 2}},
    {"deadline-2", world_setup, {T("goroutine", g_with_all), T("partner", give), T("clock", clock_runs)},
     nothing_lost, .quick = {2, 2}, .full = {3, 3}},
    {"cancel", world_setup, {T("goroutine", g_until_cancelled), T("partner", give), T("canceller", cancel)},
     nothing_lost, .quick = {3, 2}, .full = {4, 3}},
    {"all", world_setup,
     {T("goroutine", g_with_all), T("partner", give_and_close), T("clock", clock_runs), T("canceller", cancel)},
     nothing_lost, .quick = {1, 1}, .full = {2, 2}},
    {"thread", world_setup, {T("thread", thread_takes), T("partner", give)}, nothing_lost, .quick = {4, 4}, .full = {9, 9},
     .spurious = 1},
    {"thread-goes", world_setup, {T("thread", thread_goes), T("partner", give), T("another", give)}, nothing_lost, .quick = {2, 2}, .full = {3, 2}, .timeouts = 1, .spurious = 1},
    {"thread-twice", world_setup, {T("thread", thread_twice), T("partner", give), T("other", give_other)},
     nothing_lost, .quick = {2, 2}, .full = {3, 2}, .timeouts = 1, .spurious = 1},
    {"pinned", world_setup,
     {T("goroutine", pinned_until_cancelled), T("partner", give), T("canceller", cancel)}, nothing_lost, .quick = {2, 2}, .full = {3, 2}, .spurious = 1},
    {"task", world_setup, {T("host", host), T("partner", give), T("clock", clock_runs)}, nothing_lost, .quick = {3, 1}, .full = {4, 2}},
    {"two", world_setup,
     {T("first", first_of_two), T("second", second_takes), T("partner", give), {"clock", clock_for_ever, true}}, two_check, .quick = {1, 1}, .full = {2, 1}},
    {.name = NULL},
};
