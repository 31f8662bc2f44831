/* SPDX-License-Identifier: MIT
 * Timer objects: their channels, stop and reset, ticks. */
#include "actors.h"
#include "check.h"

#include <stdlib.h>

enum { MS = 1000000 };

/* The due time that the timer sent, or 0 when none comes until the deadline. */
static int64_t take(tdl_timer *t, int64_t deadline) {
    tdl_val v;
    int     rc = tdl_chan_recv_until(tdl_timer_chan(t), &v, deadline);
    if (rc == TDL_ETIMEDOUT || rc == TDL_EAGAIN) return 0;
    CHECK_RC(rc, 0);
    CHECK_INT(tdl_val_type(&v), TDL_INT);
    return tdl_val_int(&v);
}

static void fires_once(void) {
    int64_t    due = tdl_now() + 20 * MS;
    tdl_timer *t = tdl_timer_new(due, 0);
    REQUIRE(t != NULL);
    CHECK_INT(take(t, due + 10 * TDL_SECOND), due);
    CHECK(tdl_now() >= due);
    CHECK_INT(take(t, tdl_now() + 10 * MS), 0);
    CHECK_INT(tdl_timer_stop(t), 0); /* nothing was left to stop */
    tdl_timer_free(t);
}

TEST_G(once, "C1 a timer sends its due time once, not early") { fires_once(); }

TEST(once_thread, "C1 the same for a plain thread, without a run") {
    check_keeps_fds();
    fires_once();
}

TEST_G(stop, "C4 stop before the time: 1, it never fires; a second stop: 0") {
    tdl_timer *t = tdl_timer_new(tdl_now() + 20 * MS, 0);
    CHECK_INT(tdl_timer_stop(t), 1);
    CHECK_INT(tdl_timer_stop(t), 0);
    CHECK_INT(take(t, tdl_now() + 40 * MS), 0);
    tdl_timer_free(t);
    tdl_timer_free(NULL);
}

TEST_G(stop_fired, "C6 stop after it has fired unread: 1, and the value is gone") {
    tdl_timer *t = tdl_timer_new(1, 0);
    for (int i = 0; i < 5000 && tdl_chan_len(tdl_timer_chan(t)) == 0; i++) tdl_sleep(MS);
    CHECK_INT(tdl_chan_len(tdl_timer_chan(t)), 1);
    CHECK_INT(tdl_timer_stop(t), 1);
    CHECK_INT(tdl_chan_len(tdl_timer_chan(t)), 0);
    CHECK_RC(tdl_chan_try_recv(tdl_timer_chan(t), NULL), TDL_EAGAIN);
    tdl_timer_free(t);
}

TEST_G(reset_fired, "C6 reset after it has fired unread: the old value cannot be received, the new one comes") {
    tdl_timer *t = tdl_timer_new(1, 0);
    for (int i = 0; i < 5000 && tdl_chan_len(tdl_timer_chan(t)) == 0; i++) tdl_sleep(MS);
    int64_t due = tdl_now() + 30 * MS;
    CHECK_INT(tdl_timer_reset(t, due, 0), 1);
    CHECK_RC(tdl_chan_try_recv(tdl_timer_chan(t), NULL), TDL_EAGAIN);
    CHECK_INT(take(t, due + 10 * TDL_SECOND), due);
    CHECK_INT(tdl_timer_reset(t, tdl_now() + TDL_HOUR, 0), 0);
    CHECK_INT(tdl_timer_reset(t, tdl_now() + TDL_HOUR, 0), 1);
    CHECK_RC(tdl_timer_reset(t, 1, -1), TDL_EINVAL);
    tdl_timer_free(t);
}

TEST_G(edges, "C7 the end of time does not come, the beginning of time is over") {
    tdl_timer *far = tdl_timer_new(INT64_MAX, 0), *past = tdl_timer_new(INT64_MIN, 0), *zero = tdl_timer_new(0, 0);
    CHECK(take(past, tdl_now() + 10 * TDL_SECOND) != 0 || tdl_chan_len(tdl_timer_chan(past)) == 0);
    take(zero, tdl_now() + 10 * TDL_SECOND);
    CHECK_INT(take(far, tdl_now() + 10 * MS), 0);
    CHECK_INT(tdl_timer_stop(far), 1);
    CHECK(tdl_timer_new(1, -1) == NULL);
    tdl_timer_free(far);
    tdl_timer_free(past);
    tdl_timer_free(zero);
}

TEST_G(ticker, "C8 ticks come period by period, then at another period after a reset, none after stop") {
    int64_t    start = tdl_now(), period = 10 * MS;
    tdl_timer *t = tdl_timer_new(start + period, period);
    for (int i = 0; i < 5; i++) {
        int64_t due = take(t, tdl_now() + 10 * TDL_SECOND);
        CHECK(due > 0 && tdl_now() >= due);
        CHECK_INT((due - start) % period, 0); /* in phase, also when ticks were lost */
    }
    CHECK(tdl_now() - start >= 5 * period);
    start = tdl_now();
    CHECK(tdl_timer_reset(t, start + 2 * period, 2 * period) >= 0);
    for (int i = 0; i < 5; i++) CHECK_INT((take(t, tdl_now() + 10 * TDL_SECOND) - start) % (2 * period), 0);
    CHECK_WITHIN(tdl_now() - start, 10 * period, 10 * period + 5 * TDL_SECOND);
    CHECK(tdl_timer_stop(t) >= 0);
    CHECK_INT(take(t, tdl_now() + 4 * period), 0);
    tdl_timer_free(t);
}

TEST_G(slow_receiver, "C9 a slow receiver loses ticks, never finds more than one, and the phase is kept") {
    int64_t    start = tdl_now(), period = 5 * MS;
    tdl_timer *t = tdl_timer_new(start + period, period);
    int64_t    last = 0;
    for (int i = 0; i < 5; i++) {
        tdl_sleep(5 * period);
        CHECK(tdl_chan_len(tdl_timer_chan(t)) <= 1);
        int64_t due = take(t, tdl_now() + 10 * TDL_SECOND);
        CHECK(due > last);
        CHECK_INT((due - start) % period, 0);
        last = due;
    }
    tdl_timer_free(t);
}

TEST_G(overdue_ticker, "C9 a ticker whose first tick is long past catches up with one tick, in phase") {
    int64_t    when = tdl_now() - 1000 * TDL_SECOND, period = 20 * MS;
    tdl_timer *t = tdl_timer_new(when, period);
    int64_t    first = take(t, tdl_now() + 10 * TDL_SECOND), second = take(t, tdl_now() + 10 * TDL_SECOND);
    CHECK_INT((first - when) % period, 0);
    CHECK_INT((second - when) % period, 0);
    CHECK(second > first && tdl_now() >= second);
    CHECK(tdl_now() - second < 5 * TDL_SECOND);
    tdl_timer_free(t);
}

TEST_G(in_select, "C8 timers stand in a select, and the earliest fires") {
    tdl_timer *t[3];
    int64_t    now = tdl_now();
    for (int i = 0; i < 3; i++) t[i] = tdl_timer_new(now + (3 - i) * 30 * MS, 0);
    tdl_case k[3];
    for (int i = 0; i < 3; i++) k[i] = (tdl_case){ .chan = tdl_timer_chan(t[i]), .op = TDL_RECV };
    for (int i = 2; i >= 0; i--) CHECK_INT(tdl_select(k, 3, TDL_FOREVER), i);
    for (int i = 0; i < 3; i++) tdl_timer_free(t[i]);
}

/* -- Many hands on one timer --------------------------------------------------------------- */

typedef struct contested {
    tdl_timer  *t;
    atomic_int  stop;
    atomic_llong fired;
} contested;

static void reset_again(void *arg) {
    contested *c = arg;
    uint64_t   seed = (uint64_t)(uintptr_t)&seed;
    for (int i = 0; i < SCALE(2000); i++) {
        int64_t r = (int64_t)(random_next(&seed) % 200000);
        int     rc = r % 3 ? tdl_timer_reset(c->t, tdl_now() + r, r % 2 ? 0 : r / 4 + 1000) : tdl_timer_stop(c->t);
        CHECK(rc == 0 || rc == 1);
        if (i % 16 == 0) tdl_yield();
    }
    atomic_store(&c->stop, 1);
}

static void receive_ticks(void *arg) {
    contested *c = arg;
    while (!atomic_load(&c->stop)) {
        int64_t due = take(c->t, tdl_now() + MS);
        if (due == 0) continue;
        CHECK(tdl_now() >= due);
        atomic_fetch_add(&c->fired, 1);
    }
}

TEST_G(moved_about, "C11 timers moved and stopped by several while others receive: never early, no value left over") {
    contested c = { tdl_timer_new(tdl_now() + MS, 0), 0, 0 };
    crew      w;
    crew_open(&w);
    for (int i = 0; i < 5; i++) crew_start(&w, i == 4, reset_again, &c);
    for (int i = 0; i < 2; i++) crew_start(&w, i == 1, receive_ticks, &c);
    crew_close(&w);
    tdl_timer_stop(c.t);
    CHECK_RC(tdl_chan_try_recv(tdl_timer_chan(c.t), NULL), TDL_EAGAIN);
    CHECK_INT(tdl_timer_stop(c.t), 0);
    tdl_timer_free(c.t);
}

TEST_G(short_lived, "C12 100 000 timers made, due at once or far away, and freed") {
    int64_t before = tdl_metric("timers");
    for (int i = 0; i < SCALE(100000); i++) {
        tdl_timer *t = tdl_timer_new(i % 2 ? 0 : tdl_now() + TDL_HOUR, 0);
        REQUIRE(t != NULL);
        if (i % 64 == 1) CHECK_RC(tdl_chan_recv_until(tdl_timer_chan(t), NULL, tdl_now() + 10 * TDL_SECOND), 0);
        tdl_timer_free(t);
    }
    CHECK_INT(tdl_metric("timers"), before);
}

/* -- Timers with a function ---------------------------------------------------------------- */

typedef struct alarm_call {
    tdl_timer  *t;
    atomic_int  n;
    atomic_llong last; /* when it was called */
    atomic_llong goid;
    int64_t     lasts; /* how long the call does */
    atomic_int  set, taken_back, over;
} alarm_call;

static void ring(void *arg) {
    alarm_call *a = arg;
    atomic_store(&a->goid, (long long)tdl_goid());
    atomic_store(&a->last, tdl_now());
    atomic_fetch_add(&a->n, 1);
    if (a->lasts) tdl_sleep(a->lasts);
    atomic_fetch_add(&a->over, 1);
}

/* Until no goroutine uses it any more, nor will; timers that start some are gone. */
static void until_over(alarm_call *a) {
    while (tdl_num_goroutines() > (tdl_goid() != 0) || atomic_load(&a->over) < atomic_load(&a->n)) tdl_sleep(MS);
}

static void until_rung(alarm_call *a, int n) {
    while (atomic_load(&a->n) < n) tdl_sleep(MS);
}

static void rings(void) {
    alarm_call a = { .n = 0 };
    int64_t    due = tdl_now() + 10 * MS;
    a.t = tdl_timer_func(due, 0, ring, &a);
    REQUIRE(a.t != NULL);
    CHECK(tdl_timer_chan(a.t) == NULL);
    until_rung(&a, 1);
    CHECK(a.last >= due);
    CHECK(a.goid != 0 && a.goid != (long long)tdl_goid());
    CHECK_INT(tdl_timer_stop(a.t), 0); /* it was started */
    due = tdl_now() + 10 * MS;
    CHECK_INT(tdl_timer_reset(a.t, due, 0), 0);
    until_rung(&a, 2);
    CHECK(a.last >= due);
    CHECK_INT(tdl_timer_reset(a.t, tdl_now() + TDL_HOUR, 0), 0);
    CHECK_INT(tdl_timer_reset(a.t, tdl_now() + TDL_MINUTE, 0), 1);
    CHECK_INT(tdl_timer_stop(a.t), 1);
    CHECK_INT(tdl_timer_stop(a.t), 0);
    tdl_sleep(5 * MS);
    CHECK_INT(a.n, 2);
    tdl_timer_free(a.t);
    until_over(&a);
}

TEST_G(func, "C14 a timer with a function starts it in a goroutine of its own; reset starts it again, stop keeps it") { rings(); }
TEST(func_thread, "C14 the same for a plain thread, without a run") {
    check_keeps_fds();
    rings();
}

TEST_G(func_stopped, "C14 of 100 timers with a function, those that are stopped in time never start it, the others do") {
    enum { N = 100 };
    alarm_call a[N];
    int        stopped[N];
    for (int i = 0; i < N; i++) {
        a[i] = (alarm_call){ .n = 0 };
        a[i].t = tdl_timer_func(tdl_now() + (i % 2 ? 5 : 40) * MS, 0, ring, &a[i]);
    }
    tdl_sleep(5 * MS);
    for (int i = 0; i < N; i++) stopped[i] = tdl_timer_stop(a[i].t);
    tdl_sleep(50 * MS); /* all would be due */
    for (int i = 0; i < N; i++) {
        if (!stopped[i]) until_rung(&a[i], 1);
        CHECK_INT(a[i].n, !stopped[i]);
        tdl_timer_free(a[i].t);
    }
    for (int i = 0; i < N; i++) until_over(&a[i]);
}

TEST_G(func_freed, "C14 a timer that is freed does not start its function, one that runs is not disturbed") {
    alarm_call a = { .lasts = 10 * MS };
    a.t = tdl_timer_func(tdl_now() + TDL_HOUR, 0, ring, &a);
    tdl_timer_free(a.t);
    a.t = tdl_timer_func(1, 0, ring, &a);
    until_rung(&a, 1);
    tdl_timer_free(a.t);
    CHECK_INT(a.n, 1);
    CHECK(tdl_timer_func(1, 0, NULL, NULL) == NULL);
    CHECK(tdl_timer_func(1, -1, ring, NULL) == NULL);
    until_over(&a);
}

TEST_G(func_period, "C14 with a period the function starts each time, also while it still runs") {
    int64_t    start = tdl_now();
    alarm_call a = { .lasts = 20 * MS };
    a.t = tdl_timer_func(start + 5 * MS, 5 * MS, ring, &a);
    until_rung(&a, 5);
    CHECK(tdl_now() >= start + 25 * MS);
    CHECK_INT(tdl_timer_stop(a.t), 1);
    int n = a.n;
    tdl_sleep(15 * MS);
    CHECK_WITHIN(a.n, n, n + 2); /* some may have been on their way */
    tdl_timer_free(a.t);
    until_over(&a);
}

static void reset_func(void *arg) {
    alarm_call *a = arg;
    uint64_t    seed = (uint64_t)(uintptr_t)&seed;
    for (int i = 0; i < SCALE(1000); i++) {
        int64_t r = (int64_t)(random_next(&seed) % 200000);
        int     rc = r % 3 ? tdl_timer_reset(a->t, tdl_now() + r, 0) : tdl_timer_stop(a->t);
        CHECK_WITHIN(rc, 0, 1);
        atomic_fetch_add(&a->taken_back, rc);
        atomic_fetch_add(&a->set, r % 3 != 0);
        if (i % 16 == 0) tdl_sleep(r / 4);
    }
}

TEST_G(func_stress, "C14 several stop and reset one timer: it is called as often as it was set and not taken back") {
    alarm_call a = { .set = 1 };
    crew       w;
    a.t = tdl_timer_func(tdl_now() + TDL_HOUR, 0, ring, &a);
    crew_open(&w);
    for (int i = 0; i < 5; i++) crew_start(&w, i == 4, reset_func, &a);
    crew_close(&w);
    a.taken_back += tdl_timer_stop(a.t);
    until_rung(&a, a.set - a.taken_back);
    tdl_sleep(5 * MS);
    CHECK_INT(a.n, a.set - a.taken_back);
    tdl_timer_free(a.t);
    until_over(&a);
}

static void func_on_host(int guest) {
    stage      s;
    alarm_call a = { .n = 0 };
    stage_open(&s, "alarm");
    s.guest = guest;
    a.t = tdl_timer_func(tdl_now() + 5 * MS, 5 * MS, ring, &a);
    REQUIRE(a.t != NULL);
    for (int i = 0; i < 5000 && a.n < 3; i++) stage_poll(&s, MS);
    CHECK(a.n >= 3);
    tdl_timer_free(a.t);
    stage_close(&s);
    until_over(&a);
}

TEST(func_host, "C14 a host's timer starts C goroutines, from its loop") {
    check_keeps_fds();
    func_on_host(0);
    func_on_host(1);
}

/* -- Other callers ----------------------------------------------------------------------------- */

static void take_on_thread(void *arg) {
    contested *c = arg;
    for (int i = 0; i < 3; i++) CHECK(take(c->t, tdl_now() + 10 * TDL_SECOND) > 0);
}

TEST_G(thread_receives, "C8 a thread receives the ticks of a goroutine's timer") {
    contested c = { .t = tdl_timer_new(tdl_now() + 5 * MS, 5 * MS) };
    crew      w;
    crew_open(&w);
    crew_thread(&w, take_on_thread, &c);
    crew_close(&w);
    tdl_timer_free(c.t);
}

static int actor_ticks(actor *a, int result) {
    tdl_timer *t = a->data;
    if (a->state++ > 0) {
        CHECK_RC(result, 0);
        CHECK(tdl_now() >= tdl_val_int(&outcome_of(a)->val));
        if (a->state == 5) return ACTOR_DONE;
    }
    return tdl_chan_recv_start(a->host, a->task, tdl_timer_chan(t), TDL_FOREVER);
}

static void ticks_on_host(int guest) {
    stage s;
    stage_open(&s, "ticks");
    s.guest = guest;
    tdl_timer *t = tdl_timer_new(tdl_now() + 5 * MS, 5 * MS);
    REQUIRE(t != NULL);
    stage_spawn(&s, actor_ticks, t);
    stage_run(&s);
    tdl_timer_free(t);
    stage_close(&s);
}

TEST(host_ticks, "C8 a host's timer ticks in its loop") { ticks_on_host(0); }
TEST(guest_ticks, "C8 a guest host's timer ticks in the foreign loop") { ticks_on_host(1); }

/* A stopped timer may lie in the heap for a while: it is not counted there, does
 * nothing when its time comes, and can be used again for an earlier or a later one. */
TEST_G(stopped_lies, "C8 a timer that was stopped is none, however it is used again") {
    int64_t before = tdl_metric("timers"), due = tdl_now() + 30 * MS;
    tdl_timer *t = tdl_timer_new(due, 0);
    REQUIRE(t != NULL);
    CHECK_RC(tdl_timer_stop(t), 1);
    CHECK_RC(tdl_timer_stop(t), 0);
    CHECK_INT(tdl_metric("timers"), before);
    CHECK_RC(tdl_chan_recv_until(tdl_timer_chan(t), NULL, due + 20 * MS), TDL_ETIMEDOUT);

    tdl_val v;
    CHECK_RC(tdl_timer_reset(t, tdl_now() + TDL_HOUR, 0), 0);
    CHECK_INT(tdl_metric("timers"), before + 1);
    CHECK_RC(tdl_timer_stop(t), 1);
    due = tdl_now() + 10 * MS;
    CHECK_RC(tdl_timer_reset(t, due, 0), 0); /* earlier than where it lies */
    CHECK_RC(tdl_chan_recv(tdl_timer_chan(t), &v), 0);
    CHECK_INT(tdl_val_int(&v), due);
    CHECK(tdl_now() >= due);

    CHECK_RC(tdl_timer_reset(t, tdl_now() + 10 * MS, 0), 0);
    due = tdl_now() + 40 * MS;
    CHECK_RC(tdl_timer_reset(t, due, 0), 1); /* later: it stays where it lies */
    CHECK_RC(tdl_chan_recv(tdl_timer_chan(t), &v), 0);
    CHECK_INT(tdl_val_int(&v), due);
    CHECK(tdl_now() >= due);
    CHECK_RC(tdl_timer_reset(t, tdl_now() + TDL_HOUR, 0), 0);
    CHECK_RC(tdl_timer_stop(t), 1);
    tdl_timer_free(t);
    CHECK_INT(tdl_metric("timers"), before);
}

static tdl_timer *outlived;

static void make_timer(void) { outlived = tdl_timer_new(tdl_now() + 20 * MS, 10 * MS); }

TEST(run_over, "C8 a timer does not fire after its run; stop, reset and free are harmless then") {
    check_run(make_timer);
    REQUIRE(outlived != NULL);
    tdl_chan_try_recv(tdl_timer_chan(outlived), NULL); /* fired in time, if the run took long */
    CHECK_RC(tdl_chan_recv_until(tdl_timer_chan(outlived), NULL, tdl_now() + 60 * MS), TDL_ETIMEDOUT);
    tdl_timer_stop(outlived);
    tdl_timer_free(outlived);
}

TEST(null_timer, "F5 a null timer is TDL_EINVAL") {
    CHECK_RC(tdl_timer_stop(NULL), TDL_EINVAL);
    CHECK_RC(tdl_timer_reset(NULL, 1, 0), TDL_EINVAL);
    CHECK(tdl_timer_chan(NULL) == NULL);
}
