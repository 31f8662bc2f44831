/* SPDX-License-Identifier: MIT
 * The _start forms of channels, select, locks, groups and joins: between tasks,
 * against goroutines and threads, with deadlines, cancels, and closes. */
#include "actors.h"
#include "check.h"

#include <stdlib.h>

static tdl_val int_val(int64_t i) {
    tdl_val v;
    tdl_val_set_int(&v, i);
    return v;
}

/* -- Channels ------------------------------------------------------------------------------ */

typedef struct flow {
    tdl_chan    *ch;
    int          count;
    atomic_llong sum;
} flow;

static int actor_sends(actor *a, int result) {
    flow *f = a->data;
    CHECK_RC(result, 0);
    if (a->n == f->count) return ACTOR_DONE;
    tdl_val v = int_val(a->n++);
    return tdl_chan_send_start(a->host, a->task, f->ch, &v, TDL_FOREVER);
}

static int actor_receives(actor *a, int result) {
    flow *f = a->data;
    if (a->state++ > 0) {
        if (result == TDL_ECLOSED) return ACTOR_DONE;
        CHECK_RC(result, 0);
        CHECK_INT(tdl_val_type(&outcome_of(a)->val), TDL_INT);
        atomic_fetch_add(&f->sum, tdl_val_int(&outcome_of(a)->val));
        if (f->count && ++a->n == f->count) return ACTOR_DONE;
    }
    return tdl_chan_recv_start(a->host, a->task, f->ch, TDL_FOREVER);
}

static int64_t sum_below(int64_t n) { return n * (n - 1) / 2; }

TEST(chan_between_tasks, "H8 values pass from task to task, over shared and over local channels") {
    for (int local = 0; local < 2; local++) {
        for (uint32_t cap = 0; cap < 3; cap++) {
            stage s;
            stage_open(&s, "chan");
            flow f = { local ? tdl_chan_new_local(s.host, cap) : tdl_chan_new(cap), 1000, 0 };
            REQUIRE(f.ch != NULL);
            s.batch = 1 + (int)cap * 30;
            stage_spawn(&s, actor_sends, &f);
            stage_spawn(&s, actor_receives, &f);
            stage_run(&s);
            CHECK_INT(atomic_load(&f.sum), sum_below(1000));
            tdl_chan_free(f.ch);
            stage_close(&s);
        }
    }
}

static void plain_send(void *arg) {
    flow *f = arg;
    for (int i = 0; i < f->count; i++) CHECK_RC(send_int(f->ch, i), 0);
}

static void plain_receive(void *arg) {
    flow *f = arg;
    for (int i = 0; i < f->count; i++) atomic_fetch_add(&f->sum, recv_int(f->ch));
}

static void chan_across(int thread, int guest) {
    for (uint32_t cap = 0; cap < 2; cap++) {
        stage s;
        crew  c;
        int   n = SCALE(3000);
        flow  in = { tdl_chan_new(cap), n, 0 }, out = { tdl_chan_new(cap), n, 0 };
        crew_open(&c);
        crew_start(&c, thread, plain_send, &in);
        crew_start(&c, thread, plain_receive, &out);
        stage_open(&s, "across");
        s.guest = guest;
        stage_spawn(&s, actor_receives, &in);
        stage_spawn(&s, actor_sends, &out);
        stage_run(&s);
        stage_close(&s);
        crew_close(&c);
        CHECK_INT(atomic_load(&in.sum), sum_below(n));
        CHECK_INT(atomic_load(&out.sum), sum_below(n));
        tdl_chan_free(in.ch);
        tdl_chan_free(out.ch);
    }
}

TEST(chan_goroutine, "H8 values pass between tasks and goroutines") {
    check_keeps_fds();
    chan_across(0, 0);
}
TEST(chan_thread, "H8 values pass between tasks and threads") { chan_across(1, 0); }
TEST(chan_guest, "H8 values pass between a guest host's tasks and goroutines") {
    check_keeps_fds();
    chan_across(0, 1);
}

static int expect_result(actor *a, int result) {
    /* n: the operation; m: the result it must have */
    tdl_chan *ch = a->data;
    tdl_val   v = int_val(1);
    if (a->state++ > 0) {
        CHECK_RC(result, a->m);
        return ACTOR_DONE;
    }
    int64_t soon = tdl_now() + 5 * TDL_MILLISECOND;
    switch (a->n) {
    case 0: return tdl_chan_recv_start(a->host, a->task, ch, soon);
    case 1: return tdl_chan_send_start(a->host, a->task, ch, &v, soon);
    case 2: return tdl_chan_recv_start(a->host, a->task, ch, TDL_NOWAIT);
    case 3: return tdl_chan_send_start(a->host, a->task, ch, &v, TDL_NOWAIT);
    case 4: return tdl_chan_recv_start(a->host, a->task, ch, 1);
    case 5: return tdl_chan_recv_start(a->host, a->task, NULL, soon);
    case 6: return tdl_select_start(a->host, a->task, NULL, 0, soon);
    case 7: return tdl_select_start(a->host, a->task, NULL, 0, TDL_NOWAIT);
    default: return tdl_chan_send_start(a->host, a->task, ch, NULL, soon);
    }
}

TEST(chan_deadlines, "H8 a task's deadlines and try forms end as those of a goroutine do") {
    static const int64_t want[] = { TDL_ETIMEDOUT, TDL_ETIMEDOUT, TDL_EAGAIN, TDL_EAGAIN, TDL_ETIMEDOUT,
                                    TDL_ETIMEDOUT, TDL_ETIMEDOUT, TDL_EAGAIN, TDL_EINVAL };
    for (int local = 0; local < 2; local++) {
        stage s;
        stage_open(&s, "deadlines");
        tdl_chan *ch = local ? tdl_chan_new_local(s.host, 0) : tdl_chan_new(0);
        for (unsigned i = 0; i < sizeof want / sizeof *want; i++) {
            actor *a = stage_spawn(&s, expect_result, ch);
            a->n = i;
            a->m = want[i];
            stage_run(&s); /* one at a time: they must not meet each other */
        }
        tdl_chan_free(ch);
        stage_close(&s);
    }
}

static int wait_for_close(actor *a, int result) {
    tdl_val v = int_val(1);
    if (a->state++ > 0) {
        CHECK_RC(result, TDL_ECLOSED);
        return ACTOR_DONE;
    }
    return a->n ? tdl_chan_send_start(a->host, a->task, a->data, &v, TDL_FOREVER)
                : tdl_chan_recv_start(a->host, a->task, a->data, TDL_FOREVER);
}

static int close_chan(actor *a, int result) {
    if (a->state++ == 0) return tdl_yield_start(a->host, a->task);
    CHECK_RC(result, 0);
    CHECK_RC(tdl_chan_close(a->data), 0);
    return ACTOR_DONE;
}

TEST(chan_close, "H8 close wakes tasks that wait to send or to receive") {
    for (int local = 0; local < 2; local++)
        for (int sending = 0; sending < 2; sending++) {
            stage s;
            stage_open(&s, "close");
            tdl_chan *ch = local ? tdl_chan_new_local(s.host, 0) : tdl_chan_new(0);
            for (int i = 0; i < 5; i++) stage_spawn(&s, wait_for_close, ch)->n = sending;
            stage_spawn(&s, close_chan, ch);
            stage_run(&s);
            tdl_chan_free(ch);
            stage_close(&s);
        }
}

TEST(chan_cancel, "H8 cancel ends a task's wait by an event; a value already handed over is kept") {
    tdl_host *h = NULL;
    tdl_chan *ch = tdl_chan_new(0);
    tdl_event ev;
    tdl_val   v = int_val(9);
    CHECK_RC(tdl_host_open("cancel", &h), 0);
    uint32_t t = (uint32_t)tdl_task_new(h, 0);
    CHECK_RC(tdl_chan_recv_start(h, t, ch, TDL_FOREVER), TDL_PENDING);
    CHECK_INT(tdl_task_cancel(h, t), 1);
    CHECK_RC(tdl_chan_try_send(ch, &v), TDL_EAGAIN); /* it waits no more */
    CHECK_INT(tdl_host_poll(h, &ev, 1, -1), 1);
    CHECK_RC(ev.result, TDL_ECANCELED);
    CHECK_RC(tdl_chan_recv_start(h, t, ch, TDL_FOREVER), TDL_PENDING);
    CHECK_RC(tdl_chan_try_send(ch, &v), 0);
    CHECK_INT(tdl_task_cancel(h, t), 0);
    CHECK_INT(tdl_host_poll(h, &ev, 1, -1), 1);
    CHECK_RC(ev.result, 0);
    CHECK_INT(tdl_val_int(&tdl_host_outcomes(h)[t].val), 9);
    CHECK_RC(tdl_chan_recv_start(h, t, ch, TDL_FOREVER), TDL_PENDING); /* a cancel is for one operation */
    CHECK_RC(tdl_chan_try_send(ch, &v), 0);
    CHECK_INT(tdl_host_poll(h, &ev, 1, -1), 1);
    CHECK_RC(ev.result, 0);
    CHECK_RC(tdl_task_free(h, t), 0);
    CHECK_RC(tdl_host_close(h), 0);
    tdl_chan_free(ch);
}

TEST(local_only, "H8 a local channel carries references, shows them to a collector, and cannot be shared") {
    tdl_host *h = NULL;
    tdl_val   v, w;
    CHECK_RC(tdl_host_open("local", &h), 0);
    tdl_chan *ch = tdl_chan_new_local(h, 2), *shared = tdl_chan_new(1);
    uint32_t  t = (uint32_t)tdl_task_new(h, 0);
    v = (tdl_val){ .type = TDL_REF, .flags = 3, .u.i = 77 };
    CHECK_RC(tdl_chan_try_send(shared, &v), TDL_EINVAL);
    for (int i = 0; i < 2; i++) {
        v.u.i = 77 + i;
        CHECK_RC(tdl_chan_try_send(ch, &v), 0);
    }
    v.u.i = 79;
    CHECK_RC(tdl_chan_send_start(h, t, ch, &v, TDL_FOREVER), TDL_PENDING);
    for (uint32_t i = 0; i < 3; i++) { /* the waiting sender's too */
        CHECK_RC(tdl_chan_peek_local(ch, i, &w), 0);
        CHECK_INT(w.type, TDL_REF);
        CHECK_INT(w.u.i, 77 + i);
    }
    CHECK_RC(tdl_chan_peek_local(ch, 3, &w), TDL_EAGAIN);
    CHECK_RC(tdl_val_set_chan(&w, ch), TDL_EINVAL);
    for (int i = 0; i < 3; i++) {
        CHECK_RC(tdl_chan_try_recv(ch, &w), 0);
        CHECK_INT(w.u.i, 77 + i);
        CHECK_INT(w.flags, 3);
    }
    tdl_chan_free(ch);
    tdl_chan_free(shared);
    CHECK_RC(tdl_host_close(h), 0);
}

static void *empty_and_free(void *arg) {
    tdl_chan *ch = arg;
    tdl_val   v = { .type = TDL_REF, .u.i = 1 };
    CHECK_RC(tdl_chan_try_recv(ch, &v), TDL_EHOST);
    tdl_chan_adopt_local(ch);
    CHECK_RC(tdl_chan_peek_local(ch, 0, &v), 0);
    CHECK_INT(v.u.i, 77);
    CHECK_RC(tdl_chan_try_recv(ch, &v), 0);
    CHECK_INT(v.u.i, 77);
    CHECK_RC(tdl_chan_close(ch), 0);
    CHECK_RC(tdl_chan_try_recv(ch, &v), TDL_ECLOSED);
    tdl_chan_free(ch);
    return NULL;
}

TEST(local_adopted, "H8 a local channel whose host is closed is emptied and freed by another thread") {
    tdl_host *h = NULL;
    tdl_val   v = { .type = TDL_REF, .u.i = 77 };
    pthread_t other;
    CHECK_RC(tdl_host_open("gone", &h), 0);
    tdl_chan *ch = tdl_chan_new_local(h, 2);
    CHECK_RC(tdl_chan_try_send(ch, &v), 0);
    CHECK_RC(tdl_host_close(h), 0);
    CHECK_INT(pthread_create(&other, NULL, empty_and_free, ch), 0);
    pthread_join(other, NULL);
}

TEST(local_waiters, "H8 a local channel shows a collector who waits on it, until the wait has been ended") {
    tdl_host   *h = NULL;
    tdl_val     v = { .type = TDL_REF, .u.i = 7 };
    tdl_event   events[4];
    const void *at = NULL;
    CHECK_RC(tdl_host_open("waiters", &h), 0);
    tdl_chan *ch = tdl_chan_new_local(h, 0), *other = tdl_chan_new_local(h, 0), *shared = tdl_chan_new(1);
    uint32_t  t[3];
    for (int i = 0; i < 3; i++) t[i] = (uint32_t)tdl_task_new(h, 0);
    CHECK_INT(tdl_chan_waiter_local(ch, &at), TDL_EAGAIN);
    CHECK_INT(tdl_chan_waiter_local(shared, &at), TDL_EINVAL);
    CHECK_INT(tdl_chan_waiter_local(NULL, &at), TDL_EINVAL);
    CHECK_INT(tdl_task_waits(h, t[0]), 0);
    CHECK_INT(tdl_task_waits(h, 999), TDL_EINVAL);
    CHECK_RC(tdl_chan_recv_start(h, t[0], ch, TDL_FOREVER), TDL_PENDING);
    CHECK_RC(tdl_chan_recv_start(h, t[1], ch, TDL_FOREVER), TDL_PENDING);
    tdl_case k[2] = { { .chan = ch, .op = TDL_RECV }, { .chan = other, .op = TDL_SEND, .val = &v } };
    CHECK_RC(tdl_select_start(h, t[2], k, 2, TDL_FOREVER), TDL_PENDING);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(tdl_chan_waiter_local(ch, &at), t[i]);
        CHECK_INT(tdl_task_waits(h, t[i]), 1);
    }
    CHECK_INT(tdl_chan_waiter_local(ch, &at), TDL_EAGAIN);
    at = NULL;
    CHECK_INT(tdl_chan_waiter_local(other, &at), t[2]); /* the sender's queue is the second */
    CHECK_INT(tdl_chan_waiter_local(other, &at), TDL_EAGAIN);
    CHECK_RC(tdl_chan_try_send(ch, &v), 0);
    CHECK_INT(tdl_task_waits(h, t[0]), 0); /* its event is on the way */
    at = NULL;
    CHECK_INT(tdl_chan_waiter_local(ch, &at), t[1]);
    CHECK_RC(tdl_chan_close(ch), 0);
    for (int i = 0; i < 3; i++) CHECK_INT(tdl_task_waits(h, t[i]), 0);
    at = NULL;
    CHECK_INT(tdl_chan_waiter_local(ch, &at), TDL_EAGAIN);
    CHECK_INT(tdl_host_poll(h, events, 4, -1), 3);
    for (int i = 0; i < 3; i++) CHECK_RC(tdl_task_free(h, t[i]), 0);
    tdl_chan_free(ch);
    tdl_chan_free(other);
    tdl_chan_free(shared);
    CHECK_RC(tdl_host_close(h), 0);
}

/* -- Select -------------------------------------------------------------------------------------- */

static int select_both(actor *a, int result) {
    flow *f = a->data; /* two flows */
    if (a->state++ > 0) {
        REQUIRE(result == 0 || result == 1);
        if (outcome_of(a)->extra == 1)
            atomic_fetch_add(&f[result].sum, tdl_val_int(&outcome_of(a)->val));
        else
            a->n |= 1 << result;
        if (a->n == 3) return ACTOR_DONE;
    }
    tdl_case k[2] = {
        { .chan = a->n & 1 ? NULL : f[0].ch, .op = TDL_RECV },
        { .chan = a->n & 2 ? NULL : f[1].ch, .op = TDL_RECV },
    };
    return tdl_select_start(a->host, a->task, k, 2, TDL_FOREVER);
}

static void send_then_close(void *arg) {
    plain_send(arg);
    CHECK_RC(tdl_chan_close(((flow *)arg)->ch), 0);
}

TEST(select_recv, "H9 two tasks select over two channels that a goroutine and a thread fill and close") {
    stage s;
    crew  c;
    int   n = SCALE(3000);
    flow  f[2] = { { tdl_chan_new(0), n, 0 }, { tdl_chan_new(3), n, 0 } };
    check_keeps_fds();
    crew_open(&c);
    crew_go(&c, send_then_close, &f[0]);
    crew_thread(&c, send_then_close, &f[1]);
    stage_open(&s, "select");
    for (int i = 0; i < 2; i++) stage_spawn(&s, select_both, f);
    stage_run(&s);
    stage_close(&s);
    crew_close(&c);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(atomic_load(&f[i].sum), sum_below(n));
        tdl_chan_free(f[i].ch);
    }
}

static int select_sends(actor *a, int result) {
    flow   *f = a->data;
    tdl_val v = int_val(a->n), w = int_val(a->n);
    if (a->state++ > 0) {
        CHECK(result == 0 || result == 1);
        CHECK_INT(outcome_of(a)->extra, 1);
        if (++a->n == f->count) {
            CHECK_RC(tdl_chan_close(f[0].ch), 0);
            CHECK_RC(tdl_chan_close(f[1].ch), 0);
            return ACTOR_DONE;
        }
        v = int_val(a->n);
        w = int_val(a->n);
    }
    tdl_case k[2] = { { .chan = f[0].ch, .val = &v, .op = TDL_SEND }, { .chan = f[1].ch, .val = &w, .op = TDL_SEND } };
    return tdl_select_start(a->host, a->task, k, 2, TDL_FOREVER); /* the values are copied before it returns */
}

static void receive_until_closed(void *arg) {
    flow   *f = arg;
    tdl_val v;
    while (tdl_chan_recv(f->ch, &v) == 0) atomic_fetch_add(&f->sum, tdl_val_int(&v));
}

TEST(select_send, "H9 a task selects between two sends; both sides together get every value once") {
    stage s;
    crew  c;
    int   n = SCALE(3000);
    flow  f[2] = { { tdl_chan_new(0), n, 0 }, { tdl_chan_new(0), n, 0 } };
    check_keeps_fds();
    crew_open(&c);
    crew_go(&c, receive_until_closed, &f[0]);
    crew_thread(&c, receive_until_closed, &f[1]);
    stage_open(&s, "select");
    stage_spawn(&s, select_sends, f);
    stage_run(&s);
    stage_close(&s);
    crew_close(&c);
    CHECK_INT(atomic_load(&f[0].sum) + atomic_load(&f[1].sum), sum_below(n));
    tdl_chan_free(f[0].ch);
    tdl_chan_free(f[1].ch);
}

static int select_bad(actor *a, int result) {
    tdl_case k = { .chan = a->data, .op = 9 }, no_value = { .chan = a->data, .op = TDL_SEND };
    (void)result;
    CHECK_RC(tdl_select_start(a->host, a->task, &k, 1, TDL_FOREVER), TDL_EINVAL);
    CHECK_RC(tdl_select_start(a->host, a->task, &no_value, 1, TDL_FOREVER), TDL_EINVAL);
    CHECK_RC(tdl_select_start(a->host, a->task, &k, -1, TDL_FOREVER), TDL_EINVAL);
    CHECK_RC(tdl_select_start(a->host, a->task, NULL, 2, TDL_FOREVER), TDL_EINVAL);
    return ACTOR_DONE;
}

TEST(select_errors, "H9 a bad case is refused before anything is waited for") {
    stage s;
    stage_open(&s, "bad");
    tdl_chan *ch = tdl_chan_new(1);
    stage_spawn(&s, select_bad, ch);
    stage_run(&s);
    stage_close(&s);
    tdl_chan_free(ch);
}

/* -- Mutex, wait group, join ------------------------------------------------------------------------ */

typedef struct guarded {
    tdl_mutex *m;
    int64_t    count;
    int        rounds;
} guarded;

static int actor_locks(actor *a, int result) {
    guarded *g = a->data;
    if (a->state == 1) {
        CHECK_RC(result, 0);
        g->count++;
        if (a->n % 16 == 0) { /* keeps the lock over a turn of the loop */
            a->state = 2;
            return tdl_yield_start(a->host, a->task);
        }
    }
    if (a->state > 0) {
        CHECK_RC(tdl_mutex_unlock(g->m), 0);
        if (++a->n == g->rounds) return ACTOR_DONE;
    }
    a->state = 1;
    return tdl_mutex_lock_start(a->host, a->task, g->m, TDL_FOREVER);
}

static void plain_locks(void *arg) {
    guarded *g = arg;
    for (int i = 0; i < g->rounds; i++) {
        CHECK_RC(tdl_mutex_lock(g->m), 0);
        g->count++;
        CHECK_RC(tdl_mutex_unlock(g->m), 0);
    }
}

TEST(mutex, "H10 tasks, goroutines and threads exclude each other") {
    stage   s;
    crew    c;
    guarded g = { tdl_mutex_new(), 0, SCALE(2000) };
    check_keeps_fds();
    crew_open(&c);
    for (int i = 0; i < 4; i++) crew_start(&c, i % 2, plain_locks, &g);
    stage_open(&s, "mutex");
    for (int i = 0; i < 4; i++) stage_spawn(&s, actor_locks, &g);
    stage_run(&s);
    stage_close(&s);
    crew_close(&c);
    CHECK_INT(g.count, 8 * g.rounds);
    tdl_mutex_free(g.m);
}

static int lock_in_vain(actor *a, int result) {
    if (a->state++ == 0) return tdl_mutex_lock_start(a->host, a->task, a->data, tdl_now() + 5 * TDL_MILLISECOND);
    CHECK_RC(result, TDL_ETIMEDOUT);
    if (a->state == 2) return tdl_mutex_lock_start(a->host, a->task, a->data, TDL_NOWAIT) == TDL_EAGAIN ? ACTOR_DONE : 0;
    return ACTOR_DONE;
}

TEST(mutex_deadline, "H10 a task's wait for a lock ends at its deadline") {
    stage      s;
    tdl_mutex *m = tdl_mutex_new();
    tdl_mutex_trylock(m);
    stage_open(&s, "mutex");
    stage_spawn(&s, lock_in_vain, m);
    stage_run(&s);
    stage_close(&s);
    tdl_mutex_unlock(m);
    tdl_mutex_free(m);
}

typedef struct ends {
    tdl_waitgroup *wg;
    tdl_g         *g;
    tdl_chan      *ch;
} ends;

static int wait_and_join(actor *a, int result) {
    ends   *e = a->data;
    int64_t soon = tdl_now() + 5 * TDL_MILLISECOND;
    switch (a->state++) {
    case 0: return tdl_waitgroup_wait_start(a->host, a->task, e->wg, soon);
    case 1: CHECK_RC(result, TDL_ETIMEDOUT); return tdl_join_start(a->host, a->task, e->g, soon);
    case 2:
        CHECK_RC(result, TDL_ETIMEDOUT);
        CHECK_RC(tdl_chan_close(e->ch), 0); /* lets the goroutine end */
        return tdl_join_start(a->host, a->task, e->g, TDL_FOREVER);
    case 3: CHECK_RC(result, 0); return tdl_waitgroup_wait_start(a->host, a->task, e->wg, TDL_FOREVER);
    case 4: CHECK_RC(result, 0); return tdl_waitgroup_wait_start(a->host, a->task, e->wg, TDL_NOWAIT);
    default: CHECK_RC(result, 0); return ACTOR_DONE;
    }
}

static void end_when_closed(void *arg) {
    ends *e = arg;
    CHECK_RC(tdl_chan_recv(e->ch, NULL), TDL_ECLOSED);
    CHECK_RC(tdl_waitgroup_done(e->wg), 0);
}

TEST(wait_join, "H10 a task waits for a group and joins a goroutine, with and without a deadline") {
    stage s;
    ends  e = { .wg = tdl_waitgroup_new(), .ch = tdl_chan_new(0) };
    check_keeps_fds();
    tdl_waitgroup_add(e.wg, 1);
    e.g = go_joinable(end_when_closed, &e);
    stage_open(&s, "join");
    stage_spawn(&s, wait_and_join, &e);
    stage_run(&s);
    stage_close(&s);
    tdl_waitgroup_free(e.wg);
    tdl_chan_free(e.ch);
}

/* -- Several hosts ------------------------------------------------------------------------------------------ */

typedef struct relay {
    tdl_chan *in, *out;
    int       count;
} relay;

static int actor_relays(actor *a, int result) {
    relay *r = a->data;
    CHECK_RC(result, 0);
    if (a->state == 0) {
        if (a->n++ == r->count) return ACTOR_DONE;
        a->state = 1;
        return tdl_chan_recv_start(a->host, a->task, r->in, TDL_FOREVER);
    }
    a->state = 0;
    tdl_val v = outcome_of(a)->val;
    return tdl_chan_send_start(a->host, a->task, r->out, &v, TDL_FOREVER);
}

static void relay_thread(void *arg) {
    stage s;
    stage_open(&s, "relay");
    stage_spawn(&s, actor_relays, arg);
    stage_run(&s);
    stage_close(&s);
}

TEST(relay_hosts, "H13 values go through three hosts on three threads, and keep their order") {
    tdl_chan *ch[4];
    relay     r[3];
    crew      c;
    int       n = SCALE(3000), next = 0;
    for (int i = 0; i < 4; i++) ch[i] = tdl_chan_new(i % 2 * 2);
    crew_open(&c);
    for (int i = 0; i < 3; i++) {
        r[i] = (relay){ ch[i], ch[i + 1], n };
        crew_thread(&c, relay_thread, &r[i]);
    }
    for (int sent = 0; next < n;) {
        tdl_val  v = int_val(sent), w;
        tdl_case k[2] = { { .chan = sent < n ? ch[0] : NULL, .val = &v, .op = TDL_SEND },
                          { .chan = ch[3], .val = &w, .op = TDL_RECV } };
        int      i = tdl_select(k, 2, TDL_FOREVER);
        if (i == 0)
            sent++;
        else if (CHECK_INT(i, 1))
            CHECK_INT(tdl_val_int(&w), next++);
    }
    crew_close(&c);
    for (int i = 0; i < 4; i++) tdl_chan_free(ch[i]);
}

TEST(two_hosts_one_thread, "H13 one thread may serve two hosts, each with its own events") {
    stage     a, b;
    tdl_chan *ch = tdl_chan_new(0);
    flow      f = { ch, 500, 0 };
    stage_open(&a, "a");
    stage_open(&b, "b");
    stage_spawn(&a, actor_sends, &f);
    stage_spawn(&b, actor_receives, &f);
    while (a.live || b.live) {
        stage_poll(&a, 0);
        stage_poll(&b, 0);
    }
    CHECK_INT(atomic_load(&f.sum), sum_below(500));
    stage_close(&a);
    stage_close(&b);
    tdl_chan_free(ch);
}
