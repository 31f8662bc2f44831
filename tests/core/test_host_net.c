/* SPDX-License-Identifier: MIT
 * The _start forms of streams and listeners, and closing a host while
 * everything is pending. */
#include "actors.h"
#include "check.h"
#include "net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* -- Streams ------------------------------------------------------------------------------------------ */

typedef struct wire {
    tdl_listener *l;
    tdl_conn     *c;
    char          address[ADDRESS_SIZE], buf[4096];
    const char   *network;
    int           clients;
} wire;

static int actor_echo(actor *a, int result) { /* read what is there, write it back */
    wire *w = a->data;
    switch (a->state) {
    case 0: a->state = 1; return tdl_conn_read_start(a->host, a->task, w->c, w->buf, sizeof w->buf);
    case 1:
        if (result <= 0) {
            CHECK_RC(result, 0);
            tdl_conn_free(w->c);
            free(w);
            return ACTOR_DONE;
        }
        a->state = 0;
        a->n = result;
        return tdl_conn_write_start(a->host, a->task, w->c, w->buf, (size_t)result);
    }
    return ACTOR_DONE;
}

static stage *accepting;

static int actor_accepts(actor *a, int result) {
    wire *w = a->data;
    if (a->state++ > 0) {
        CHECK_RC(result, 0);
        wire *each = calloc(1, sizeof *each);
        CHECK_INT(tdl_val_type(&outcome_of(a)->val), TDL_PTR);
        each->c = tdl_val_ptr(&outcome_of(a)->val);
        stage_spawn(accepting, actor_echo, each);
        if (--w->clients == 0) return ACTOR_DONE;
    }
    return tdl_listener_accept_start(a->host, a->task, w->l);
}

enum { ROUNDS = 100 };

static int actor_asks(actor *a, int result) {
    wire *w = a->data; /* dials, then sends lines and reads each back */
    char  line[16];
    switch (a->state) {
    case 0: a->state = 1; return tdl_dial_start(a->host, a->task, w->network, w->address, 5 * TDL_SECOND);
    case 1:
        CHECK_RC(result, 0);
        a->m = (int64_t)(intptr_t)tdl_val_ptr(&outcome_of(a)->val);
        break;
    case 2: /* written */
        CHECK_RC(result, 6);
        CHECK_INT(outcome_of(a)->extra, 6);
        a->state = 3;
        return tdl_conn_fill_start(a->host, a->task, (tdl_conn *)(intptr_t)a->m, TDL_FILL_LINE, 100);
    case 3: {
        const char *p = tdl_val_ptr(&outcome_of(a)->val);
        CHECK_RC(result, 6);
        CHECK(outcome_of(a)->extra >= 6);
        if (CHECK(p != NULL)) CHECK(memcmp(p, "line", 4) == 0 && p[4] == '0' + a->n % 10);
        CHECK_RC(tdl_conn_skip((tdl_conn *)(intptr_t)a->m, 6), 0);
        if (++a->n == ROUNDS) {
            tdl_conn_free((tdl_conn *)(intptr_t)a->m);
            return ACTOR_DONE;
        }
    }
    }
    a->state = 2;
    memcpy(line, "line0\n", 6);
    line[4] = (char)('0' + a->n % 10);
    return tdl_conn_write_start(a->host, a->task, (tdl_conn *)(intptr_t)a->m, line, 6);
}

static void echo_on_host(int guest, int batch) {
    for (const char *const *net = net_networks(); *net; net++) {
        stage s;
        wire  w = { .network = *net, .clients = 10 };
        stage_open(&s, "echo");
        s.guest = guest;
        s.batch = batch;
        accepting = &s;
        w.l = net_listen(*net, w.address);
        stage_spawn(&s, actor_accepts, &w);
        for (int i = 0; i < 10; i++) stage_spawn(&s, actor_asks, &w);
        stage_run(&s);
        tdl_listener_free(w.l);
        stage_close(&s);
    }
}

TEST(echo, "H11 ten clients and an echo server, all tasks of one host: accept, dial, read, write, fill") { echo_on_host(0, 64); }
TEST(echo_small_batches, "H11 the same with one event a poll") { echo_on_host(0, 1); }
TEST(echo_guest, "H11 the same in guest mode") { echo_on_host(1, 3); }

static void goroutine_asks(void *arg) {
    wire     *w = arg;
    tdl_conn *c = NULL;
    char      buf[8];
    if (!CHECK_RC(tdl_dial(w->network, w->address, 0, &c), 0)) return;
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_RC(tdl_conn_write(c, "around", 6), 6);
        net_read_full(c, buf, 6);
    }
    tdl_conn_free(c);
}

TEST(echo_to_goroutines, "H11 goroutines and threads talk to a host's echo server") {
    stage s;
    crew  c;
    wire  w = { .network = "tcp", .clients = 8 };
    check_keeps_fds();
    stage_open(&s, "echo");
    accepting = &s;
    w.l = net_listen("tcp", w.address);
    stage_spawn(&s, actor_accepts, &w);
    crew_open(&c);
    for (int i = 0; i < 8; i++) crew_start(&c, i % 2, goroutine_asks, &w);
    stage_run(&s);
    tdl_listener_free(w.l);
    stage_close(&s);
    crew_close(&c); /* on a plain thread again, which may wait */
}

enum { LARGE = 4 * 1024 * 1024 };

static int actor_writes_large(actor *a, int result) {
    wire *w = a->data;
    if (a->state++ == 0) {
        char *data = malloc(LARGE);
        memset(data, 'L', LARGE);
        int rc = tdl_conn_write_start(a->host, a->task, w->c, data, LARGE);
        memset(data, '?', LARGE); /* what had to wait was copied */
        free(data);
        return rc;
    }
    CHECK_RC(result, LARGE);
    CHECK_INT(outcome_of(a)->extra, LARGE);
    tdl_conn_close(w->c);
    return ACTOR_DONE;
}

typedef struct drain {
    tdl_conn *c;
    char      buf[65536];
    int64_t   total;
} drain;

static int actor_drains(actor *a, int result) {
    drain *d = a->data;
    if (a->state++ > 0) {
        if (result <= 0) {
            CHECK_RC(result, 0);
            return ACTOR_DONE;
        }
        d->total += result;
        for (int i = 0; i < result; i += 997) CHECK_INT(d->buf[i], 'L');
    }
    return tdl_conn_read_start(a->host, a->task, d->c, d->buf, sizeof d->buf);
}

TEST(large_write, "H11 a write that must wait copies what is left, and reports all of it") {
    stage     s;
    drain    *d = calloc(1, sizeof *d);
    wire      w = { 0 };
    tdl_conn *dialled, *accepted;
    net_pair("tcp", &dialled, &accepted);
    stage_open(&s, "large");
    w.c = dialled;
    d->c = accepted;
    net_small_buffers(tdl_conn_fd(dialled));
    stage_spawn(&s, actor_writes_large, &w);
    stage_spawn(&s, actor_drains, d);
    stage_run(&s);
    CHECK_INT(d->total, LARGE);
    stage_close(&s);
    tdl_conn_free(dialled);
    tdl_conn_free(accepted);
    free(d);
}

static int64_t read_result, accept_result;

static int actor_reads_once(actor *a, int result) {
    wire *w = a->data;
    if (a->state++ == 0) return tdl_conn_read_start(a->host, a->task, w->c, w->buf, sizeof w->buf);
    read_result = result;
    return ACTOR_DONE;
}

static int actor_accepts_once(actor *a, int result) {
    wire *w = a->data;
    if (a->state++ == 0) return tdl_listener_accept_start(a->host, a->task, w->l);
    accept_result = result;
    return ACTOR_DONE;
}

static int actor_disturbs(actor *a, int result) {
    wire *w = a->data;
    CHECK_RC(result, 0);
    if (a->state++ == 0) return tdl_yield_start(a->host, a->task);
    switch (a->n) {
    case 0: tdl_conn_set_read_deadline(w->c, -1); tdl_listener_set_deadline(w->l, -1); break;
    case 1:
        tdl_conn_set_read_deadline(w->c, tdl_now() + 5 * TDL_MILLISECOND);
        tdl_listener_set_deadline(w->l, tdl_now() + 5 * TDL_MILLISECOND);
        break;
    case 2: tdl_conn_close(w->c); tdl_listener_close(w->l); break;
    case 3: tdl_conn_free(w->c); tdl_listener_free(w->l); break;
    }
    return ACTOR_DONE;
}

TEST(disturbed, "H11 deadline, close and free reach the read and the accept that tasks wait in") {
    static const int want[] = { TDL_ETIMEDOUT, TDL_ETIMEDOUT, TDL_ECLOSED, TDL_ECLOSED };
    for (int i = 0; i < 4; i++) {
        stage     s;
        wire      w = { 0 };
        tdl_conn *dialled, *accepted;
        net_pair("tcp", &dialled, &accepted);
        stage_open(&s, "disturbed");
        w.l = net_listen("tcp", w.address);
        w.c = dialled;
        read_result = accept_result = 99;
        stage_spawn(&s, actor_reads_once, &w);
        stage_spawn(&s, actor_accepts_once, &w);
        stage_spawn(&s, actor_disturbs, &w)->n = i;
        stage_run(&s);
        CHECK_RC(read_result, want[i]);
        CHECK_RC(accept_result, want[i]);
        if (i != 3) {
            tdl_conn_free(w.c);
            tdl_listener_free(w.l);
        }
        tdl_conn_free(accepted);
        stage_close(&s);
    }
}

TEST(dial_errors, "H11 a dial's errors come from the start form or by an event") {
    tdl_host *h = NULL;
    tdl_event ev;
    char      address[ADDRESS_SIZE];
    CHECK_RC(tdl_host_open("dial", &h), 0);
    uint32_t t = (uint32_t)tdl_task_new(h, 0);
    CHECK_RC(tdl_dial_start(h, t, "tcp", "nonsense", 0), TDL_EPORT);
    CHECK_RC(tdl_dial_start(h, t, "tcp", NULL, 0), TDL_EINVAL);
    tdl_listener *l = net_listen("tcp", address);
    CHECK_RC(tdl_dial_start(h, t, "tcp", address, -1), TDL_ETIMEDOUT);
    tdl_listener_free(l);
    int rc = tdl_dial_start(h, t, "tcp", address, 0);
    if (rc == TDL_PENDING) {
        CHECK_INT(tdl_host_poll(h, &ev, 1, -1), 1);
        rc = ev.result;
    }
    CHECK_RC(rc, -ECONNREFUSED);
    CHECK_RC(tdl_task_free(h, t), 0);
    CHECK_RC(tdl_host_close(h), 0);
}

/* -- Closing a host with everything pending -------------------------------------------------------------- */

TEST(close_pending, "H12 closing a host drops what is pending; its connections are closed, the handles stay") {
    for (int round = 0; round < 20; round++) {
        tdl_host      *h = NULL;
        tdl_chan      *ch = tdl_chan_new(0);
        tdl_mutex     *m = tdl_mutex_new();
        tdl_waitgroup *wg = tdl_waitgroup_new();
        tdl_conn      *conn = NULL;
        tdl_event      ev;
        char           address[ADDRESS_SIZE], buf[8];
        tdl_val        v;
        tdl_val_set_int(&v, 1);
        tdl_mutex_trylock(m);
        tdl_waitgroup_add(wg, 1);
        CHECK_RC(tdl_host_open("doomed", &h), 0);
        tdl_listener *l = net_listen("tcp", address);
        uint32_t      t[8];
        for (int i = 0; i < 8; i++) t[i] = (uint32_t)tdl_task_new(h, 0);
        int rc = tdl_dial_start(h, t[0], "tcp", address, 0);
        if (rc == TDL_PENDING) {
            int n;
            while ((n = tdl_host_poll(h, &ev, 1, -1)) == 0) {}
            rc = ev.result;
        }
        CHECK_RC(rc, 0);
        conn = tdl_val_ptr(&tdl_host_outcomes(h)[t[0]].val);
        REQUIRE(conn != NULL);
        CHECK_RC(tdl_conn_read_start(h, t[0], conn, buf, sizeof buf), TDL_PENDING);
        CHECK_RC(tdl_chan_recv_start(h, t[1], ch, TDL_FOREVER), TDL_PENDING);
        CHECK_RC(tdl_sleep_start(h, t[2], TDL_HOUR), TDL_PENDING);
        CHECK_RC(tdl_mutex_lock_start(h, t[3], m, TDL_FOREVER), TDL_PENDING);
        CHECK_RC(tdl_waitgroup_wait_start(h, t[4], wg, tdl_now() + TDL_HOUR), TDL_PENDING);
        CHECK_RC(tdl_task_park_start(h, t[5], TDL_FOREVER), TDL_PENDING);
        tdl_case k[2] = { { .chan = ch, .op = TDL_RECV }, { .chan = NULL, .op = TDL_RECV } };
        CHECK_RC(tdl_select_start(h, t[6], k, 2, TDL_FOREVER), TDL_PENDING);
        CHECK_RC(tdl_yield_start(h, t[7]), TDL_PENDING);
        CHECK_RC(tdl_host_close(h), 0);
        CHECK_RC(tdl_chan_try_send(ch, &v), TDL_EAGAIN); /* nobody waits any more */
        CHECK_RC(tdl_mutex_unlock(m), 0);
        CHECK_RC(tdl_mutex_trylock(m), 0);
        CHECK_RC(tdl_waitgroup_done(wg), 0);
        CHECK_RC(tdl_conn_read(conn, buf, sizeof buf), TDL_ECLOSED);
        CHECK_RC(tdl_listener_close(l), TDL_ECLOSED);
        tdl_conn_free(conn);
        tdl_listener_free(l);
        tdl_mutex_unlock(m);
        tdl_mutex_free(m);
        tdl_waitgroup_free(wg);
        tdl_chan_free(ch);
    }
}
