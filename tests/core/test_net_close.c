/* SPDX-License-Identifier: MIT
 * Closing: who is woken, what the peer sees, what later calls return. */
#include "check.h"
#include "net.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sys/sys.h"

/* -- D8: close wakes ------------------------------------------------------------------ */

typedef struct blocked {
    tdl_conn     *c;
    tdl_listener *l;
    tdl_chan     *started;
    int64_t       rc;
} blocked;

static void read_blocked(void *arg) {
    blocked *b = arg;
    char     buf[8];
    send_int(b->started, 1);
    b->rc = tdl_conn_read(b->c, buf, sizeof buf);
}

static void write_blocked(void *arg) {
    static char block[1 << 20];
    blocked    *b = arg;
    send_int(b->started, 1);
    while ((b->rc = tdl_conn_write(b->c, block, sizeof block)) > 0) {}
}

static void accept_blocked(void *arg) {
    blocked  *b = arg;
    tdl_conn *c;
    send_int(b->started, 1);
    b->rc = tdl_listener_accept(b->l, &c);
}

TEST_G(close_wakes, "D8 close wakes a reader and a writer, goroutine or thread, at once") {
    for (const char *const *net = net_networks(); *net; net++) {
        for (int thread = 0; thread < 2; thread++) {
            tdl_conn *a, *b;
            tdl_chan *started = tdl_chan_new(2);
            crew      c;
            net_pair(*net, &a, &b);
            blocked r = { a, NULL, started, 99 }, w = { a, NULL, started, 99 };
            crew_open(&c);
            crew_start(&c, thread, read_blocked, &r);
            crew_start(&c, thread, write_blocked, &w);
            recv_int(started);
            recv_int(started);
            tdl_sleep(10 * TDL_MILLISECOND);
            CHECK_RC(tdl_conn_close(a), 0);
            crew_close(&c);
            CHECK_RC(r.rc, TDL_ECLOSED);
            CHECK_RC(w.rc, TDL_ECLOSED);
            tdl_conn_free(a);
            tdl_conn_free(b);
            tdl_chan_free(started);
        }
    }
}

TEST_G(after_close, "D21 after close every call on the connection says closed") {
    tdl_conn *a, *b;
    char      buf[8];
    net_pair("tcp", &a, &b);
    CHECK(tdl_conn_fd(a) != TDL_ECLOSED);
    CHECK_RC(tdl_conn_close(a), 0);
    CHECK_RC(tdl_conn_close(a), TDL_ECLOSED);
    CHECK_RC(tdl_conn_read(a, buf, sizeof buf), TDL_ECLOSED);
    CHECK_RC(tdl_conn_write(a, buf, sizeof buf), TDL_ECLOSED);
    CHECK_RC(tdl_conn_fill(a, TDL_FILL_SOME, 8), TDL_ECLOSED);
    CHECK_RC(tdl_conn_close_read(a), TDL_ECLOSED);
    CHECK_RC(tdl_conn_close_write(a), TDL_ECLOSED);
    CHECK_RC(tdl_conn_fd(a), TDL_ECLOSED);
    CHECK_RC(tdl_conn_peername(a, buf, sizeof buf), TDL_ECLOSED);
    CHECK_RC(tdl_conn_sockname(a, buf, sizeof buf), TDL_ECLOSED);
    tdl_conn_set_deadline(a, 1); /* nothing to say */
    tdl_conn_set_timeout(a, 1);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_conn_free(NULL);
}

/* -- D21, D22: half-closes, the end of a stream, resets ------------------------------------ */

TEST_G(close_write, "D21 closing the write side ends the peer's stream and this end's writing only") {
    for (const char *const *net = net_networks(); *net; net++) {
        tdl_conn *a, *b;
        char      buf[8];
        net_pair(*net, &a, &b);
        CHECK_RC(tdl_conn_write(a, "last", 4), 4);
        CHECK_RC(tdl_conn_close_write(a), 0);
        net_read_full(b, buf, 4);
        CHECK_RC(tdl_conn_read(b, buf, sizeof buf), 0);
        CHECK_RC(tdl_conn_write(a, "x", 1), -EPIPE);
        CHECK_RC(tdl_conn_write(b, "back", 4), 4);
        net_read_full(a, buf, 4);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

TEST_G(close_read, "D21 closing the read side ends this end's reading") {
    tdl_conn *a, *b;
    char      buf[8];
    net_pair("tcp", &a, &b);
    CHECK_RC(tdl_conn_close_read(a), 0);
    CHECK(tdl_conn_read(a, buf, sizeof buf) <= 0);
    CHECK_RC(tdl_conn_write(a, "x", 1), 1);
    net_read_full(b, buf, 1);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

static void close_it(void *arg) {
    tdl_sleep(5 * TDL_MILLISECOND);
    CHECK_RC(tdl_conn_close(arg), 0);
}

TEST_G(peer_closes, "D22 when the peer closes, a waiting read ends with 0, again and again") {
    tdl_conn *a, *b;
    char      buf[8];
    crew      c;
    net_pair("tcp", &a, &b);
    crew_open(&c);
    crew_go(&c, close_it, b);
    for (int i = 0; i < 3; i++) CHECK_RC(tdl_conn_read(a, buf, sizeof buf), 0);
    crew_close(&c);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(reset_told_once, "D22 a reset that a write was told of is no end of the stream to who reads then") {
    tdl_conn *c;
    char      buf[8];
    int       fd = net_half_pair(&c);
    net_reset(fd);
    int64_t rc;
    while ((rc = tdl_conn_write(c, "x", 1)) == 1) tdl_sleep(TDL_MICROSECOND * 100);
    CHECK_RC(rc, -ECONNRESET);
    CHECK_RC(tdl_conn_read(c, buf, sizeof buf), -ECONNRESET);
    CHECK_RC(tdl_conn_fill(c, TDL_FILL_EXACT, 8), -ECONNRESET);
    tdl_conn_free(c);
}

TEST_G(reset, "D22 a reset is an error, not the end of the stream") {
    tdl_conn *c;
    char      buf[8];
    int       fd = net_half_pair(&c);
    net_reset(fd);
    CHECK_RC(tdl_conn_read(c, buf, sizeof buf), -ECONNRESET);
    tdl_conn_free(c);
}

TEST_G(broken_pipe, "D35 writing to a peer that is gone is an error, not a signal") {
    tdl_conn *a, *b;
    int64_t   rc = 0;
    signal(SIGPIPE, SIG_DFL);
    for (const char *const *net = net_networks(); *net; net++) {
        net_pair(*net, &a, &b);
        tdl_conn_free(b);
        for (int i = 0; i < 1000 && (rc = tdl_conn_write(a, "x", 1)) == 1; i++) tdl_yield();
        CHECK(rc == -EPIPE || rc == -ECONNRESET);
        tdl_conn_free(a);
    }
}

/* -- D21: listeners ---------------------------------------------------------------------------- */

TEST_G(listener_close, "D21 closing a listener wakes accept; the port refuses, and can be had again at once") {
    for (int thread = 0; thread < 2; thread++) {
        char      address[ADDRESS_SIZE], buf[ADDRESS_SIZE];
        blocked   a = { NULL, net_listen("tcp", address), tdl_chan_new(0), 99 };
        tdl_conn *conn = NULL;
        crew      c;
        crew_open(&c);
        crew_start(&c, thread, accept_blocked, &a);
        recv_int(a.started);
        let_park();
        CHECK_RC(tdl_listener_close(a.l), 0);
        CHECK_RC(tdl_listener_close(a.l), TDL_ECLOSED);
        crew_close(&c);
        CHECK_RC(a.rc, TDL_ECLOSED);
        CHECK_RC(tdl_listener_accept(a.l, &conn), TDL_ECLOSED);
        CHECK_RC(tdl_listener_port(a.l), TDL_ECLOSED);
        CHECK(tdl_listener_address(a.l, buf, sizeof buf) != 0);
        tdl_listener_set_deadline(a.l, 5);
        tdl_listener *again = NULL;
        CHECK_RC(tdl_dial("tcp", address, 0, &conn), -ECONNREFUSED);
        CHECK_RC(tdl_listen("tcp", address, &again), 0);
        CHECK_RC(tdl_dial("tcp", address, 0, &conn), 0);
        tdl_conn_free(conn);
        tdl_listener_free(again);
        tdl_listener_free(a.l);
        tdl_chan_free(a.started);
    }
    tdl_listener_free(NULL);
}

static _Atomic int computing;

/* Its thread is in no system call: what the kernel leaves to it waits. */
static void compute(void *arg) {
    (void)arg;
    while (atomic_load(&computing)) {}
    send_int(arg, 1);
}

TEST_G(closed_at_once, "D21 when close returns the port is free and the peer has been told, whoever waits and computes") {
    tdl_chan *ended = tdl_chan_new(1);
    for (int i = 0; i < 20; i++) {
        char          address[ADDRESS_SIZE], byte;
        tdl_chan     *started = tdl_chan_new(2);
        tdl_listener *again;
        tdl_conn     *conn;
        int           fd = net_half_pair(&conn);
        blocked       a = { NULL, net_listen("tcp", address), started, 99 }, r = { conn, NULL, started, 99 };
        crew          c;
        crew_open(&c);
        crew_start(&c, i % 4 == 3, accept_blocked, &a);
        crew_start(&c, i % 4 == 3, read_blocked, &r);
        recv_int(started);
        recv_int(started);
        let_park();
        atomic_store(&computing, 1);
        tdl_go(compute, ended);
        if (i % 2) tdl_sleep(TDL_MILLISECOND / 2);
        CHECK_RC(tdl_listener_close(a.l), 0);
        CHECK_RC(tdl_listen("tcp", address, &again), 0);
        CHECK_RC(tdl_conn_close(conn), 0);
        CHECK_RC(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
        atomic_store(&computing, 0);
        recv_int(ended);
        crew_close(&c);
        CHECK_RC(a.rc, TDL_ECLOSED);
        CHECK_RC(r.rc, TDL_ECLOSED);
        close(fd);
        tdl_listener_free(again);
        tdl_listener_free(a.l);
        tdl_conn_free(conn);
        tdl_chan_free(started);
    }
    tdl_chan_free(ended);
}

static _Atomic int accepting;

static int slow_accept(int fd, struct sockaddr *sa, socklen_t *n) {
    atomic_store(&accepting, 1);
    tdl_sys_real.nap(20 * TDL_MILLISECOND);
    return tdl_sys_real.accept(fd, sa, n);
}

TEST_G(closed_during_an_attempt, "D21 when close returns the port is free, also where a call on it was going on") {
    char address[ADDRESS_SIZE];
    tdl_sys.accept = slow_accept;
    blocked       a = { NULL, net_listen("tcp", address), tdl_chan_new(1), 99 };
    tdl_listener *again = NULL;
    crew          c;
    atomic_store(&accepting, 0);
    crew_open(&c);
    crew_start(&c, 1, accept_blocked, &a);
    while (!atomic_load(&accepting)) usleep(100);
    CHECK_RC(tdl_listener_close(a.l), 0);
    CHECK_RC(tdl_listen("tcp", address, &again), 0);
    crew_close(&c);
    CHECK_RC(a.rc, TDL_ECLOSED);
    tdl_sys.accept = tdl_sys_real.accept;
    tdl_listener_free(again);
    tdl_listener_free(a.l);
    tdl_chan_free(a.started);
}

/* -- D9: everything at once ---------------------------------------------------------------------- */

typedef struct mixed {
    tdl_conn *c;
    int       kind;
} mixed;

static void call_mixed(void *arg) {
    mixed *m = arg;
    char   buf[64];
    for (int i = 0; i < SCALE(100); i++) {
        switch (m->kind) {
        case 0: CHECK(tdl_conn_read(m->c, buf, sizeof buf) != 0); break;
        case 1: CHECK(tdl_conn_write(m->c, buf, 0) <= 0); break;
        case 2: CHECK(tdl_conn_peername(m->c, buf, sizeof buf) > 0); break;
        case 3: tdl_conn_set_deadline(m->c, tdl_now() + 10); break;
        case 4: tdl_conn_set_read_deadline(m->c, tdl_now() + 10); break;
        case 5: tdl_conn_set_write_deadline(m->c, tdl_now() + 10); break;
        case 6: CHECK(tdl_conn_sockname(m->c, buf, sizeof buf) > 0); break;
        }
        if (i % 10 == 0) tdl_yield();
    }
}

typedef struct expiring {
    tdl_conn  *c;
    atomic_int stop;
} expiring;

static void keep_expiring(void *arg) { /* a reader needs some deadline in the end */
    expiring *e = arg;
    while (!atomic_load(&e->stop)) {
        tdl_conn_set_deadline(e->c, tdl_now() + 1000);
        tdl_sleep(100 * TDL_MICROSECOND);
    }
}

TEST_G(mixed_calls, "D9 a hundred of each of seven calls at once leave the connection usable") {
    tdl_conn *a, *b;
    mixed     m[14];
    crew      c, e;
    net_pair("tcp", &a, &b);
    expiring x = { a, 0 };
    crew_open(&c);
    crew_open(&e);
    crew_go(&e, keep_expiring, &x);
    for (int i = 0; i < 14; i++) {
        m[i] = (mixed){ a, i % 7 };
        crew_start(&c, i >= 11, call_mixed, &m[i]);
    }
    crew_close(&c);
    atomic_store(&x.stop, 1);
    crew_close(&e);
    tdl_conn_set_deadline(a, 0);
    net_carries(b, a);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

/* -- D33, D36: close races with calls ---------------------------------------------------------------- */

static void use_until_closed(void *arg) {
    char    buf[16];
    int64_t rc;
    while ((rc = tdl_conn_read(arg, buf, sizeof buf)) > 0) {}
    CHECK_RC(rc, TDL_ECLOSED);
}

static void write_until_closed(void *arg) {
    int64_t rc;
    while ((rc = tdl_conn_write(arg, "abc", 3)) == 3) tdl_yield();
    CHECK_RC(rc, TDL_ECLOSED);
}

static void name_until_closed(void *arg) {
    char buf[64];
    int  rc;
    while ((rc = tdl_conn_peername(arg, buf, sizeof buf)) > 0) tdl_yield();
    CHECK_RC(rc, TDL_ECLOSED);
}

TEST_G(close_races, "D36 calls that race with close end as closed, never on a stranger's descriptor") {
    for (int round = 0; round < SCALE(200); round++) {
        tdl_conn *a, *b, *x, *y;
        crew      c;
        net_pair("tcp", &a, &b);
        crew_open(&c);
        crew_go(&c, use_until_closed, a);
        crew_go(&c, write_until_closed, a);
        crew_go(&c, name_until_closed, a);
        for (int i = 0; i < round % 7; i++) tdl_yield();
        CHECK_RC(tdl_conn_close(a), 0);
        net_pair("unix", &x, &y); /* takes the descriptor numbers that became free */
        crew_close(&c);
        CHECK_RC(tdl_conn_write(x, "mine", 4), 4);
        char buf[8];
        CHECK_RC(tdl_conn_read(y, buf, sizeof buf), 4);
        CHECK(memcmp(buf, "mine", 4) == 0);
        tdl_conn_free(x);
        tdl_conn_free(y);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

static void close_now(void *arg) {
    int rc = tdl_conn_close(arg);
    CHECK(rc == 0 || rc == TDL_ECLOSED);
}

TEST_G(closers_race, "D36 of several who close at once exactly one is the first") {
    for (int round = 0; round < SCALE(100); round++) {
        tdl_conn *a, *b;
        crew      c;
        net_pair("unix", &a, &b);
        crew_open(&c);
        for (int i = 0; i < 3; i++) crew_go(&c, close_now, a);
        crew_close(&c);
        CHECK_RC(tdl_conn_close(a), TDL_ECLOSED);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

static atomic_int reading;

static void read_then_nothing(void *arg) {
    char byte;
    atomic_store(&reading, 1);
    CHECK_RC(tdl_conn_read(arg, &byte, 1), TDL_ECLOSED);
}

TEST_G(free_in_use, "D36 freeing a handle that a read still waits on closes it, and frees it after the read") {
    for (int round = 0; round < SCALE(20); round++) {
        tdl_conn *a, *b;
        crew      c;
        net_pair("tcp", &a, &b);
        crew_open(&c);
        atomic_store(&reading, 0);
        crew_start(&c, round % 2, read_then_nothing, a);
        while (!atomic_load(&reading)) tdl_sleep(TDL_MILLISECOND);
        tdl_sleep(20 * TDL_MILLISECOND); /* a read that began after the free would be misuse */
        tdl_conn_free(a);
        crew_close(&c);
        tdl_conn_free(b);
    }
}
