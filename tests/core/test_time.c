/* SPDX-License-Identifier: MIT
 * Sleeping, deadlines and timers. */
#include "check.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* -- C1, C2, C7: sleep ------------------------------------------------------------------- */

static void on_signal(int sig) { (void)sig; }

static void *interrupt(void *arg) {
    usleep(25000);
    pthread_kill(*(pthread_t *)arg, SIGUSR1);
    return NULL;
}

static void sleep_through_signals(void) {
    struct sigaction sa = { .sa_handler = on_signal }; /* no SA_RESTART */
    pthread_t        self = pthread_self(), thread;
    sigaction(SIGUSR1, &sa, NULL);
    REQUIRE(pthread_create(&thread, NULL, interrupt, &self) == 0);
    int64_t start = tdl_now();
    CHECK_RC(tdl_sleep(50 * TDL_MILLISECOND), 0);
    CHECK_WITHIN(tdl_now() - start, 50 * TDL_MILLISECOND, 10 * TDL_SECOND);
    pthread_join(thread, NULL);
    signal(SIGUSR1, SIG_DFL);
}

TEST_G(never_early, "C1 a goroutine's sleep is never short, also when a signal comes half-way") { sleep_through_signals(); }

TEST(never_early_thread, "C1 a thread's sleep is never short, also when a signal comes half-way") { sleep_through_signals(); }

TEST_G(short_sleeps, "C1 a thousand short sleeps are none of them short, and not much too long") {
    int64_t total = 0;
    for (int i = 0; i < SCALE(1000); i++) {
        int64_t ns = (i % 20) * 10 * TDL_MICROSECOND, start = tdl_now();
        CHECK_RC(tdl_sleep(ns), 0);
        int64_t took = tdl_now() - start;
        CHECK_WITHIN(took, ns, TDL_SECOND * 5);
        total += took - ns;
    }
    CHECK_WITHIN(total, 0, 10 * TDL_SECOND);
}

static void *sleep_or_not(void *arg) {
    (void)arg;
    CHECK_RC(tdl_sleep(0), 0);
    CHECK_RC(tdl_sleep(-1), 0);
    CHECK_RC(tdl_sleep(INT64_MIN), 0);
    return NULL;
}

TEST_G(not_positive, "C2 a sleep of nothing or less returns at once") {
    for (int i = 0; i < 100; i++) sleep_or_not(NULL);
}

TEST(not_positive_thread, "C2 the same on a thread") { sleep_or_not(NULL); }

static void sleep_for_ever(void *arg) { *(int *)arg = tdl_sleep(INT64_MAX); }

TEST_G(overflow, "C7 the longest sleep does not overflow into none") {
    int    rc = 99;
    tdl_g *g = go_joinable(sleep_for_ever, &rc);
    tdl_sleep(10 * TDL_MILLISECOND);
    CHECK_INT(rc, 99);
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(rc, TDL_ECANCELED);
}

TEST_G(far_deadlines, "C7 deadlines at the edges: the far ones do not fire, the past ones do at once") {
    static const int64_t past[] = { 0, 1, 2, -2, INT64_MIN, INT64_MIN + 1 };
    tdl_chan            *ch = tdl_chan_new(0);
    for (unsigned i = 0; i < sizeof past / sizeof *past; i++)
        CHECK_RC(tdl_chan_recv_until(ch, NULL, past[i]), TDL_ETIMEDOUT);
    CHECK_RC(tdl_chan_recv_until(ch, NULL, TDL_NOWAIT), TDL_EAGAIN);
    tdl_chan_free(ch);
}

typedef struct far {
    tdl_chan *ch;
    int64_t   deadline;
} far;

static void receive_before_far(void *arg) {
    far *f = arg;
    CHECK_RC(tdl_chan_recv_until(f->ch, NULL, f->deadline), 0);
}

TEST_G(far_deadlines_wait, "C7 a wait until the end of time is an ordinary wait") {
    static const int64_t ends[] = { INT64_MAX, INT64_MAX - 1, INT64_MAX / 2 };
    for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) {
        far  f = { tdl_chan_new(0), ends[i] };
        crew c;
        crew_open(&c);
        crew_go(&c, receive_before_far, &f);
        let_park();
        CHECK_RC(send_int(f.ch, 1), 0);
        crew_close(&c);
        tdl_chan_free(f.ch);
    }
}

TEST_G(steady_clock, "C1 the clock is positive and never goes back") {
    int64_t last = tdl_now();
    CHECK(last > 0);
    for (int i = 0; i < SCALE(10000); i++) {
        int64_t t = tdl_now();
        CHECK(t >= last);
        last = t;
    }
}

/* -- Many timers -------------------------------------------------------------------------- */

typedef struct timed {
    int64_t   ns;
    tdl_chan *out;
} timed;

static void sleep_then_send(void *arg) {
    timed  *t = arg;
    int64_t start = tdl_now();
    CHECK_RC(tdl_sleep(t->ns), 0);
    CHECK(tdl_now() - start >= t->ns);
    send_int(t->out, t->ns);
}

TEST_G(in_order, "C11 sleepers wake in the order of their deadlines") {
    enum { N = 12 };
    static const int order[N] = { 7, 2, 11, 0, 9, 4, 1, 10, 3, 8, 5, 6 };
    timed            t[N];
    crew             c;
    tdl_chan        *out = tdl_chan_new(N);
    crew_open(&c);
    for (int i = 0; i < N; i++) {
        t[i] = (timed){ (1 + order[i]) * 20 * TDL_MILLISECOND, out };
        crew_go(&c, sleep_then_send, &t[i]);
    }
    for (int i = 0; i < N; i++) CHECK_INT(recv_int(out), (1 + i) * 20 * TDL_MILLISECOND);
    crew_close(&c);
    tdl_chan_free(out);
}

TEST_G(many, "C11 10 000 sleepers of random length all wake, none early") {
    int       n = SCALE(10000);
    timed    *t = calloc((size_t)n, sizeof *t);
    tdl_chan *out = tdl_chan_new((uint32_t)n);
    uint64_t  seed = 1;
    crew      c;
    crew_open(&c);
    for (int i = 0; i < n; i++) {
        t[i] = (timed){ (int64_t)(random_next(&seed) % (50 * TDL_MILLISECOND)), out };
        crew_go(&c, sleep_then_send, &t[i]);
    }
    crew_close(&c);
    CHECK_INT(tdl_chan_len(out), n);
    tdl_chan_free(out);
    free(t);
}

typedef struct rearm {
    tdl_chan  *ch;
    atomic_int receivers;
    int64_t    hits, misses;
} rearm;

static void wait_again_and_again(void *arg) {
    rearm   *r = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    for (int i = 0; i < SCALE(2000); i++) {
        int64_t until = tdl_now() + (int64_t)(random_next(&seed) % (300 * TDL_MICROSECOND));
        int     rc = tdl_chan_recv_until(r->ch, NULL, until);
        if (rc == 0) {
            r->hits++;
        } else {
            CHECK_RC(rc, TDL_ETIMEDOUT);
            CHECK(tdl_now() >= until);
            r->misses++;
        }
    }
    atomic_fetch_sub(&r->receivers, 1);
}

TEST_G(fire_or_stop, "C11 timers that race with what they guard fire once, never early, or not at all") {
    rearm    r[5];
    crew     c;
    uint64_t seed = 7;
    tdl_val  v;
    int64_t  sent[5] = { 0 };
    crew_open(&c);
    for (int i = 0; i < 5; i++) {
        r[i] = (rearm){ .ch = tdl_chan_new(0), .receivers = 1 };
        crew_go(&c, wait_again_and_again, &r[i]);
    }
    tdl_val_set_int(&v, 0);
    for (int open = 1; open;) {
        open = 0;
        for (int i = 0; i < 5; i++) {
            open |= atomic_load(&r[i].receivers);
            sent[i] += tdl_chan_try_send(r[i].ch, &v) == 0;
        }
        tdl_sleep((int64_t)(random_next(&seed) % (100 * TDL_MICROSECOND)));
    }
    crew_close(&c);
    for (int i = 0; i < 5; i++) {
        CHECK_INT(r[i].hits, sent[i]);
        CHECK_INT(r[i].hits + r[i].misses, SCALE(2000));
        tdl_chan_free(r[i].ch);
    }
}

TEST_G(metric, "C4 a timer is gone once its wait is over") {
    tdl_chan *ch = tdl_chan_new(1);
    int64_t   before = tdl_metric("timers");
    for (int i = 0; i < 100; i++) {
        send_int(ch, 1);
        CHECK_RC(tdl_chan_recv_until(ch, NULL, tdl_now() + TDL_HOUR), 0);
        CHECK_RC(tdl_chan_recv_until(ch, NULL, tdl_now() + 1000), TDL_ETIMEDOUT);
    }
    CHECK_INT(tdl_metric("timers"), before);
    tdl_chan_free(ch);
}

typedef struct before_hour {
    tdl_chan *ch, *ready;
} before_hour;

static void wait_an_hour(void *arg) {
    before_hour *b = arg;
    send_int(b->ready, 1);
    CHECK_RC(tdl_chan_recv_until(b->ch, NULL, tdl_now() + TDL_HOUR), 0);
}

TEST_G(stopped, "C4 timers of waits that ended early are taken out, a thousand of them") {
    int         n = SCALE(1000);
    before_hour b = { tdl_chan_new(0), tdl_chan_new(0) };
    int64_t     before = tdl_metric("timers");
    crew        c;
    crew_open(&c);
    for (int i = 0; i < n; i++) crew_go(&c, wait_an_hour, &b);
    for (int i = 0; i < n; i++) recv_int(b.ready);
    for (int i = 0; i < n; i++) CHECK_RC(send_int(b.ch, i), 0);
    crew_close(&c);
    for (int i = 0; i < 1000 && tdl_metric("timers") != before; i++) tdl_sleep(TDL_MILLISECOND);
    CHECK_INT(tdl_metric("timers"), before);
    tdl_chan_free(b.ch);
    tdl_chan_free(b.ready);
}

/* -- B7: timers among busy goroutines ------------------------------------------------------- */

typedef struct busy {
    tdl_chan  *ch;
    atomic_int stop;
} busy;

static void keep_sending(void *arg) {
    busy *b = arg;
    while (!atomic_load(&b->stop)) {
        tdl_val  v;
        tdl_val_set_int(&v, 1);
        tdl_case k = { .chan = b->ch, .val = &v, .op = TDL_SEND };
        tdl_select(&k, 1, tdl_now() + 10 * TDL_MILLISECOND);
    }
}

static void timer_among_senders(int with_syscall) {
    busy b = { tdl_chan_new(0), 0 };
    crew c;
    crew_open(&c);
    crew_go(&c, keep_sending, &b);
    crew_go(&c, keep_sending, &b);
    int64_t start = tdl_now(), deadline = start + 20 * TDL_MILLISECOND;
    /* a ready case beats a deadline, so the timer is a goroutine of its own */
    tdl_chan *timer = tdl_chan_new(1);
    timed     t = { deadline - start, timer };
    crew_go(&c, sleep_then_send, &t);
    for (;;) {
        tdl_case k[] = { { .chan = b.ch, .op = TDL_RECV }, { .chan = timer, .op = TDL_RECV } };
        int      n = tdl_select(k, 2, TDL_FOREVER);
        if (n == 1) break;
        CHECK_INT(n, 0);
        if (with_syscall) getppid();
    }
    CHECK_WITHIN(tdl_now() - start, 20 * TDL_MILLISECOND, 5 * TDL_SECOND);
    atomic_store(&b.stop, 1);
    crew_close(&c);
    tdl_chan_free(b.ch);
    tdl_chan_free(timer);
}

TEST_G(timer_fairness, "B7 a timer is seen while two senders saturate a channel") { timer_among_senders(0); }
TEST_G(timer_fairness_syscall, "B8 the same with a system call in the loop") { timer_among_senders(1); }

static void ping(void *arg) {
    tdl_chan **ch = arg;
    while (send_int(ch[0], 1) == 0 && tdl_chan_recv(ch[1], NULL) == 0) {}
}

static void pong(void *arg) {
    tdl_chan **ch = arg;
    while (tdl_chan_recv(ch[0], NULL) == 0 && send_int(ch[1], 1) == 0) {}
}

TEST_G(ping_pong_and_timer, "B7 a pair that hands a value to and fro for ever does not starve a sleeper") {
    tdl_chan *ch[2] = { tdl_chan_new(0), tdl_chan_new(0) };
    crew      c;
    crew_open(&c);
    for (int i = 0; i < 4; i++) {
        crew_go(&c, ping, ch);
        crew_go(&c, pong, ch);
    }
    int64_t start = tdl_now();
    for (int i = 0; i < 5; i++) CHECK_RC(tdl_sleep(5 * TDL_MILLISECOND), 0);
    CHECK_WITHIN(tdl_now() - start, 25 * TDL_MILLISECOND, 5 * TDL_SECOND);
    tdl_chan_close(ch[0]);
    tdl_chan_close(ch[1]);
    crew_close(&c);
    tdl_chan_free(ch[0]);
    tdl_chan_free(ch[1]);
}
