/* SPDX-License-Identifier: MIT
 * Plain threads block on the same objects as goroutines and hosted tasks. */
#include "actors.h"
#include "check.h"
#include "net.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- Without any goroutine at all -------------------------------------------------------- */

typedef struct through {
    tdl_chan    *ch;
    int          n;
    atomic_llong sum;
} through;

static void send_all(void *arg) {
    through *t = arg;
    for (int i = 0; i < t->n; i++) CHECK_RC(send_int(t->ch, i), 0);
}

static void receive_all(void *arg) {
    through *t = arg;
    for (int i = 0; i < t->n; i++) atomic_fetch_add(&t->sum, recv_int(t->ch));
}

TEST(threads_only, "T1 threads pass values to threads; no runtime is needed") {
    for (uint32_t cap = 0; cap < 2; cap++) {
        through t = { tdl_chan_new(cap), SCALE(3000), 0 };
        crew    c;
        crew_open(&c);
        for (int i = 0; i < 3; i++) {
            crew_thread(&c, send_all, &t);
            crew_thread(&c, receive_all, &t);
        }
        crew_close(&c);
        CHECK_INT(atomic_load(&t.sum), 3 * ((int64_t)t.n * (t.n - 1) / 2));
        tdl_chan_free(t.ch);
    }
}

TEST(thread_waits, "T1 deadlines, sleeps and selects of a thread end in time") {
    tdl_chan *ch = tdl_chan_new(0);
    int64_t   start = tdl_now();
    CHECK_RC(tdl_chan_recv_until(ch, NULL, start + 10 * TDL_MILLISECOND), TDL_ETIMEDOUT);
    tdl_case k = { .chan = ch, .op = TDL_RECV };
    CHECK_RC(tdl_select(&k, 1, start + 20 * TDL_MILLISECOND), TDL_ETIMEDOUT);
    CHECK_RC(tdl_select(NULL, 0, start + 30 * TDL_MILLISECOND), TDL_ETIMEDOUT);
    CHECK_RC(tdl_sleep(10 * TDL_MILLISECOND), 0);
    CHECK_WITHIN(tdl_now() - start, 40 * TDL_MILLISECOND, 5 * TDL_SECOND);
    tdl_chan_free(ch);
}

/* -- All three callers on one object ----------------------------------------------------------- */

typedef struct pool {
    tdl_chan    *jobs, *results;
    atomic_llong by[3];
} pool;

static void square_jobs(pool *p, int who) {
    tdl_val v;
    while (tdl_chan_recv(p->jobs, &v) == 0) {
        tdl_val_set_int(&v, tdl_val_int(&v) * tdl_val_int(&v));
        CHECK_RC(tdl_chan_send(p->results, &v), 0);
        atomic_fetch_add(&p->by[who], 1);
    }
}

static void goroutine_squares(void *arg) { square_jobs(arg, 0); }
static void thread_squares(void *arg) { square_jobs(arg, 1); }

static int actor_squares(actor *a, int result) {
    pool *p = a->data;
    if (a->state++ % 2 == 1) { /* received */
        if (result == TDL_ECLOSED) return ACTOR_DONE;
        CHECK_RC(result, 0);
        tdl_val v;
        int64_t i = tdl_val_int(&outcome_of(a)->val);
        tdl_val_set_int(&v, i * i);
        atomic_fetch_add(&p->by[2], 1);
        return tdl_chan_send_start(a->host, a->task, p->results, &v, TDL_FOREVER);
    }
    CHECK_RC(result, 0);
    return tdl_chan_recv_start(a->host, a->task, p->jobs, TDL_FOREVER);
}

static void host_squares(void *arg) {
    stage s;
    stage_open(&s, "squares");
    for (int i = 0; i < 2; i++) stage_spawn(&s, actor_squares, arg);
    stage_run(&s);
    stage_close(&s);
}

static void feed(void *arg) {
    pool *p = arg;
    for (int i = 1; i <= SCALE(3000); i++) CHECK_RC(send_int(p->jobs, i), 0);
    CHECK_RC(tdl_chan_close(p->jobs), 0);
}

TEST_G(worker_pool, "T2 goroutines, threads and tasks share the work of one channel, each job done once") {
    for (uint32_t cap = 0; cap < 8; cap += 7) {
        pool    p = { tdl_chan_new(cap), tdl_chan_new(0), { 0 } };
        crew    c;
        int64_t n = SCALE(3000), sum = 0;
        crew_open(&c);
        for (int i = 0; i < 2; i++) crew_go(&c, goroutine_squares, &p);
        for (int i = 0; i < 2; i++) crew_thread(&c, thread_squares, &p);
        crew_thread(&c, host_squares, &p);
        crew_go(&c, feed, &p);
        for (int i = 0; i < n; i++) sum += recv_int(p.results);
        crew_close(&c);
        CHECK_INT(sum, n * (n + 1) * (2 * n + 1) / 6);
        CHECK_INT(atomic_load(&p.by[0]) + atomic_load(&p.by[1]) + atomic_load(&p.by[2]), n);
        tdl_chan_free(p.jobs);
        tdl_chan_free(p.results);
    }
}

/* -- Order ------------------------------------------------------------------------------------------ */

static void in_order(void *arg) {
    through *t = arg;
    for (int i = 0; i < t->n; i++) CHECK_INT(recv_int(t->ch), i);
}

TEST_G(order, "T2 one sender and one receiver keep the order, whichever of them is a thread") {
    for (int kinds = 0; kinds < 4; kinds++)
        for (uint32_t cap = 0; cap < 4; cap += 3) {
            through t = { tdl_chan_new(cap), SCALE(3000), 0 };
            crew    c;
            crew_open(&c);
            crew_start(&c, kinds & 1, send_all, &t);
            crew_start(&c, kinds & 2, in_order, &t);
            crew_close(&c);
            tdl_chan_free(t.ch);
        }
}

/* -- Threads that come and go -------------------------------------------------------------------------- */

static void send_one(void *arg) { CHECK_RC(send_int(arg, 1), 0); }

TEST_G(short_lived, "T3 hundreds of short-lived threads each send one value; none leaves anything") {
    tdl_chan *ch = tdl_chan_new(0);
    crew      c;
    crew_open(&c);
    for (int round = 0; round < SCALE(20) + 1; round++) {
        for (int i = 0; i < 20; i++) crew_thread(&c, send_one, ch);
        for (int i = 0; i < 20; i++) CHECK_INT(recv_int(ch), 1);
        crew_wait(&c);
    }
    crew_close(&c);
    tdl_chan_free(ch);
}

static void open_host_and_leave(void *arg) {
    tdl_host *h = NULL;
    CHECK_RC(tdl_host_open("short", &h), 0);
    CHECK_RC(tdl_host_close(h), 0);
    CHECK_RC(send_int(arg, 1), 0); /* may block again: it is no host any more */
}

TEST_G(short_lived_hosts, "T3 threads that were hosts for a while end without a trace") {
    tdl_chan *ch = tdl_chan_new(0);
    crew      c;
    crew_open(&c);
    for (int i = 0; i < 20; i++) {
        crew_thread(&c, open_host_and_leave, ch);
        CHECK_INT(recv_int(ch), 1);
        crew_wait(&c);
    }
    crew_close(&c);
    tdl_chan_free(ch);
}

/* -- Streams ---------------------------------------------------------------------------------------------- */

typedef struct service {
    tdl_listener *l;
    char          address[ADDRESS_SIZE];
    int           requests;
} service;

static void serve_one(void *arg) {
    char    buf[64];
    int64_t n;
    while ((n = tdl_conn_read(arg, buf, sizeof buf)) > 0) CHECK_RC(tdl_conn_write(arg, buf, (size_t)n), n);
    CHECK_RC(n, 0);
    tdl_conn_free(arg);
}

static void serve_in_sequence(void *arg) {
    service  *s = arg;
    tdl_conn *c;
    int       rc;
    while ((rc = tdl_listener_accept(s->l, &c)) == 0) serve_one(c);
    CHECK_RC(rc, TDL_ECLOSED);
}

static void ask(void *arg) {
    service  *s = arg;
    tdl_conn *c = NULL;
    char      buf[8];
    if (!CHECK_RC(tdl_dial("tcp", s->address, 0, &c), 0)) return;
    for (int i = 0; i < s->requests; i++) {
        CHECK_RC(tdl_conn_write(c, "ask", 3), 3);
        net_read_full(c, buf, 3);
        CHECK(memcmp(buf, "ask", 3) == 0);
    }
    tdl_conn_free(c);
}

static void serve_and_ask(void) {
    for (int server = 0; server < 2; server++)
        for (int client = 0; client < 2; client++) {
            service s = { .requests = SCALE(300) };
            crew    servers, clients;
            s.l = net_listen("tcp", s.address);
            crew_open(&servers);
            crew_open(&clients);
            crew_start(&servers, server, serve_in_sequence, &s);
            for (int i = 0; i < 3; i++) crew_start(&clients, client, ask, &s);
            crew_close(&clients);
            CHECK_RC(tdl_listener_close(s.l), 0);
            crew_close(&servers);
            tdl_listener_free(s.l);
        }
}

TEST_G(streams_in_run, "T4 servers and clients may be goroutines or threads, in any pairing") { serve_and_ask(); }

TEST(streams_outside, "T4 the same without a run, from the main thread") {
    check_keeps_fds();
    serve_and_ask();
}

/* -- Waiting that somebody else ends ----------------------------------------------------------------------- */

static void join_from_thread(void *arg) { CHECK_RC(tdl_join(arg), 0); }

static void receive_one(void *arg) { CHECK_INT(recv_int(arg), 1); }

TEST_G(thread_joins, "T5 a thread joins a goroutine") {
    tdl_chan *ch = tdl_chan_new(0);
    tdl_g    *g = go_joinable(receive_one, ch);
    crew      c;
    crew_open(&c);
    crew_thread(&c, join_from_thread, g);
    let_park();
    CHECK_RC(send_int(ch, 1), 0);
    crew_close(&c);
    tdl_chan_free(ch);
}

static void cancel_from_thread(void *arg) { CHECK_RC(tdl_cancel(arg), 0); }

static void expect_cancel(void *arg) { CHECK_RC(tdl_chan_recv(arg, NULL), TDL_ECANCELED); }

TEST_G(thread_cancels, "T5 a thread cancels a goroutine") {
    tdl_chan *ch = tdl_chan_new(0);
    crew      c;
    crew_open(&c);
    for (int i = 0; i < 20; i++) {
        tdl_g *g = go_joinable(expect_cancel, ch);
        crew_thread(&c, cancel_from_thread, g);
        CHECK_RC(tdl_join(g), 0);
        crew_wait(&c);
    }
    crew_close(&c);
    tdl_chan_free(ch);
}

TEST(spawn_from_threads, "T5 threads spawn goroutines at the same time, before any run") {
    check_keeps_fds();
    pool p = { tdl_chan_new(0), tdl_chan_new(0), { 0 } };
    crew c;
    crew_open(&c);
    for (int i = 0; i < 3; i++) crew_go(&c, goroutine_squares, &p);
    crew_thread(&c, feed, &p);
    int64_t n = SCALE(3000), sum = 0;
    for (int i = 0; i < n; i++) sum += recv_int(p.results);
    CHECK_INT(sum, n * (n + 1) * (2 * n + 1) / 6);
    crew_close(&c);
    tdl_chan_free(p.jobs);
    tdl_chan_free(p.results);
}

/* -- The end of a run, seen from threads ------------------------------------------------------------------------ */

typedef struct outlived {
    tdl_chan     *ch, *started;
    tdl_conn     *a, *b;
    tdl_listener *l;
    pthread_t     thread[4];
    int64_t       read_rc, accept_rc, recv_rc, sleep_rc;
} outlived;

static outlived o;

static void *outlive_read(void *arg) {
    char byte;
    send_int(o.started, 1);
    o.read_rc = tdl_conn_read(o.a, &byte, 1);
    return arg;
}

static void *outlive_accept(void *arg) {
    tdl_conn *c;
    send_int(o.started, 1);
    o.accept_rc = tdl_listener_accept(o.l, &c);
    return arg;
}

static void *outlive_recv(void *arg) {
    send_int(o.started, 1);
    o.recv_rc = tdl_chan_recv(o.ch, NULL);
    return arg;
}

static void *outlive_sleep(void *arg) {
    send_int(o.started, 1);
    o.sleep_rc = tdl_sleep(50 * TDL_MILLISECOND);
    return arg;
}

static void open_for_threads(void) {
    static void *(*const fns[])(void *) = { outlive_read, outlive_accept, outlive_recv, outlive_sleep };
    char address[ADDRESS_SIZE];
    net_pair("tcp", &o.a, &o.b);
    o.l = net_listen("tcp", address);
    for (int i = 0; i < 4; i++) REQUIRE(pthread_create(&o.thread[i], NULL, fns[i], NULL) == 0);
    for (int i = 0; i < 4; i++) recv_int(o.started);
    let_park();
}

TEST(run_ends, "T6 when a run ends, threads that wait on its streams see them closed; channels and sleeps wait on") {
    for (int i = 0; i < 10; i++) {
        char byte;
        memset(&o, 0, sizeof o);
        o.ch = tdl_chan_new(0);
        o.started = tdl_chan_new(0);
        check_run(open_for_threads);
        pthread_join(o.thread[0], NULL);
        pthread_join(o.thread[1], NULL);
        CHECK_RC(o.read_rc, TDL_ECLOSED);
        CHECK_RC(o.accept_rc, TDL_ECLOSED);
        CHECK_RC(tdl_conn_read(o.b, &byte, 1), TDL_ECLOSED);
        CHECK_RC(send_int(o.ch, 1), 0);
        pthread_join(o.thread[2], NULL);
        pthread_join(o.thread[3], NULL);
        CHECK_RC(o.recv_rc, 0);
        CHECK_RC(o.sleep_rc, 0);
        tdl_conn_free(o.a);
        tdl_conn_free(o.b);
        tdl_listener_free(o.l);
        tdl_chan_free(o.started);
        tdl_chan_free(o.ch);
    }
}

static void *poke(void *arg) {
    tdl_val v;
    tdl_val_set_int(&v, 1);
    while (!atomic_load((atomic_int *)arg)) {
        tdl_chan_send_until(o.ch, &v, tdl_now() + 20000);
        tdl_chan_try_recv(o.started, NULL);
    }
    return NULL;
}

static void receive_for_ever(void *arg) {
    (void)arg;
    while (tdl_chan_recv(o.ch, NULL) == 0) {}
}

static void wait_a_moment(void) {
    for (int i = 0; i < 3; i++) REQUIRE(tdl_go(receive_for_ever, NULL) != NULL);
    for (int i = 0; i < 5; i++) tdl_chan_recv(o.ch, NULL);
}

TEST(run_ends_under_fire, "T6 runs begin and end while threads send to their goroutines all the time") {
    atomic_int stop = 0;
    pthread_t  thread[2];
    memset(&o, 0, sizeof o);
    o.ch = tdl_chan_new(0);
    o.started = tdl_chan_new(1);
    for (int i = 0; i < 2; i++) REQUIRE(pthread_create(&thread[i], NULL, poke, &stop) == 0);
    for (int i = 0; i < SCALE(200); i++) check_run(wait_a_moment);
    atomic_store(&stop, 1);
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    tdl_chan_free(o.started);
    tdl_chan_free(o.ch);
}
