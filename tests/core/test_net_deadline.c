/* SPDX-License-Identifier: MIT
 * Deadlines, time-outs and cancels on connections, listeners and dials. */
#include "check.h"
#include "net.h"

#include <string.h>

enum { MS = 1000000 };

/* What an operation may take beyond its deadline on a busy machine. */
#define LATE (5 * TDL_SECOND)

static void round_trip(tdl_conn *a, tdl_conn *b) {
    char buf[4] = { 0 };
    CHECK_RC(tdl_conn_write(a, "ping", 4), 4);
    net_read_full(b, buf, 4);
    CHECK(memcmp(buf, "ping", 4) == 0);
    CHECK_RC(tdl_conn_write(b, "pong", 4), 4);
    net_read_full(a, buf, 4);
    CHECK(memcmp(buf, "pong", 4) == 0);
}

/* -- D4, D5, D7, D12, D13 ----------------------------------------------------------------- */

TEST_G(one_direction, "D4 a read deadline leaves writing alone, a write deadline reading") {
    tdl_conn *a, *b;
    char      byte;
    net_pair("tcp", &a, &b);
    tdl_conn_set_read_deadline(a, tdl_now() + 5 * MS);
    CHECK_RC(tdl_conn_read(a, &byte, 1), TDL_ETIMEDOUT);
    CHECK_RC(tdl_conn_write(a, "x", 1), 1);
    net_read_full(b, &byte, 1);
    tdl_conn_set_read_deadline(a, 0);
    tdl_conn_set_write_deadline(a, -1);
    CHECK_RC(tdl_conn_write(a, "x", 1), TDL_ETIMEDOUT);
    CHECK_RC(tdl_conn_write(b, "y", 1), 1);
    CHECK_RC(tdl_conn_read(a, &byte, 1), 1);
    tdl_conn_set_write_deadline(a, 0);
    round_trip(a, b);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(past, "D5 a deadline in the past stops both directions; clearing it restores them") {
    for (const char *const *net = net_networks(); *net; net++) {
        tdl_conn *a, *b;
        char      buf[8];
        net_pair(*net, &a, &b);
        int64_t past[] = { -1, 1, tdl_now() - TDL_SECOND, INT64_MIN };
        for (int i = 0; i < 4; i++) {
            tdl_conn_set_deadline(a, past[i]);
            for (int j = 0; j < 3; j++) {
                CHECK_RC(tdl_conn_read(a, buf, sizeof buf), TDL_ETIMEDOUT);
                CHECK_RC(tdl_conn_write(a, buf, sizeof buf), TDL_ETIMEDOUT);
            }
            tdl_conn_set_deadline(a, 0);
            round_trip(a, b);
        }
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

TEST_G(future, "D7 a deadline 50 ms ahead ends a read then, not before, and the stream is still in step") {
    for (const char *const *net = net_networks(); *net; net++) {
        tdl_conn *a, *b;
        char      buf[8];
        net_pair(*net, &a, &b);
        int64_t start = tdl_now();
        tdl_conn_set_deadline(a, start + 50 * MS);
        CHECK_RC(tdl_conn_read(a, buf, sizeof buf), TDL_ETIMEDOUT);
        CHECK_WITHIN(tdl_now() - start, 50 * MS, LATE);
        CHECK_RC(tdl_conn_read(a, buf, sizeof buf), TDL_ETIMEDOUT); /* and stays so */
        tdl_conn_set_deadline(a, 0);
        round_trip(a, b);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

TEST_G(past_beats_data, "D12 a past deadline wins over data that is there") {
    tdl_conn *a, *b;
    char      buf[8];
    net_pair("tcp", &a, &b);
    CHECK_RC(tdl_conn_write(b, "data", 4), 4);
    CHECK_RC(tdl_conn_read(a, buf, 1), 1); /* it has arrived */
    tdl_conn_set_read_deadline(a, -1);
    CHECK_RC(tdl_conn_read(a, buf, sizeof buf), TDL_ETIMEDOUT);
    tdl_conn_set_read_deadline(a, 0);
    net_read_full(a, buf, 3);
    CHECK(memcmp(buf, "ata", 3) == 0);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(past_beats_space, "D13 a past deadline wins over room in the send buffer, and nothing goes out") {
    tdl_conn *a, *b;
    char      buf[8];
    net_pair("tcp", &a, &b);
    tdl_conn_set_write_deadline(a, 1);
    CHECK_RC(tdl_conn_write(a, "lost", 4), TDL_ETIMEDOUT);
    tdl_conn_close_write(a);
    CHECK_RC(tdl_conn_read(b, buf, sizeof buf), 0);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

static void fill_until_timeout(tdl_conn *a, int64_t ns) {
    static char block[64 * 1024];
    int64_t     start = tdl_now(), rc;
    tdl_conn_set_write_deadline(a, start + ns);
    while ((rc = tdl_conn_write(a, block, sizeof block)) > 0) {}
    CHECK_RC(rc, TDL_ETIMEDOUT);
    CHECK_WITHIN(tdl_now() - start, ns, LATE);
}

TEST_G(write_blocked, "D13 a write that waits for room ends at its deadline") {
    tdl_conn *a, *b;
    net_pair("tcp", &a, &b);
    net_small_buffers(tdl_conn_fd(a));
    net_small_buffers(tdl_conn_fd(b));
    fill_until_timeout(a, 30 * MS);
    fill_until_timeout(a, 20 * MS);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

/* -- D14, D15, D17 ---------------------------------------------------------------------------- */

TEST_G(fluctuation, "D14 repeated 20 ms deadlines each end a read near their time") {
    tdl_conn *a, *b;
    char      byte;
    net_pair("tcp", &a, &b);
    for (int i = 0; i < 10; i++) {
        int64_t start = tdl_now();
        tdl_conn_set_read_deadline(a, start + 20 * MS);
        CHECK_RC(tdl_conn_read(a, &byte, 1), TDL_ETIMEDOUT);
        CHECK_WITHIN(tdl_now() - start, 20 * MS, LATE);
    }
    tdl_conn_free(a);
    tdl_conn_free(b);
}

static void write_for_ever(void *arg) {
    char buf[4096] = { 0 };
    while (tdl_conn_write(arg, buf, sizeof buf) > 0) {}
}

TEST_G(various, "D15 deadlines from 1 ns to 300 ms each end a read of an endless stream") {
    static const int64_t timeouts[] = { 1, 100, 1000, 10 * 1000, 100 * 1000, MS, 10 * MS, 100 * MS, 300 * MS };
    for (unsigned i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        tdl_conn *a, *b;
        crew      c;
        char      buf[4096];
        int64_t   n, start;
        net_pair("tcp", &a, &b);
        crew_open(&c);
        crew_go(&c, write_for_ever, b);
        start = tdl_now();
        tdl_conn_set_deadline(a, start + timeouts[i]);
        while ((n = tdl_conn_read(a, buf, sizeof buf)) > 0) {}
        CHECK_RC(n, TDL_ETIMEDOUT);
        CHECK_WITHIN(tdl_now() - start, timeouts[i], LATE);
        tdl_conn_close(a);
        crew_close(&c);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

static void echo_bytes(void *arg) {
    char    byte;
    int64_t n;
    while ((n = tdl_conn_read(arg, &byte, 1)) == 1 && tdl_conn_write(arg, &byte, 1) == 1) {}
}

TEST_G(prolonged, "D17 a deadline pushed an hour ahead before each call never fires") {
    tdl_conn *a, *b;
    crew      c;
    char      byte = 'x';
    net_pair("tcp", &a, &b);
    crew_open(&c);
    crew_go(&c, echo_bytes, b);
    for (int i = 0; i < SCALE(2000); i++) {
        tdl_conn_set_write_deadline(a, tdl_now() + TDL_HOUR);
        CHECK_RC(tdl_conn_write(a, &byte, 1), 1);
        tdl_conn_set_read_deadline(a, tdl_now() + TDL_HOUR);
        CHECK_RC(tdl_conn_read(a, &byte, 1), 1);
    }
    tdl_conn_close(a);
    crew_close(&c);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(short_then_long, "D17 a short deadline that is pushed ahead in time does not fire") {
    tdl_conn *a, *b;
    crew      c;
    char      byte = 'x';
    net_pair("tcp", &a, &b);
    crew_open(&c);
    crew_go(&c, echo_bytes, b);
    int64_t end = tdl_now() + 200 * MS;
    while (tdl_now() < end) {
        tdl_conn_set_deadline(a, tdl_now() + 5 * TDL_SECOND);
        CHECK_RC(tdl_conn_write(a, &byte, 1), 1);
        CHECK_RC(tdl_conn_read(a, &byte, 1), 1);
        tdl_conn_set_deadline(a, tdl_now() + 5 * MS);
        tdl_conn_set_deadline(a, 0);
    }
    CHECK_RC(tdl_sleep(10 * MS), 0);
    CHECK_RC(tdl_conn_write(a, &byte, 1), 1);
    CHECK_RC(tdl_conn_read(a, &byte, 1), 1);
    tdl_conn_close(a);
    crew_close(&c);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

/* -- Deadlines of operations in progress --------------------------------------------------------- */

typedef struct reading {
    tdl_conn *c;
    tdl_chan *started;
    int64_t   rc;
} reading;

static void read_one(void *arg) {
    reading *r = arg;
    char     byte;
    send_int(r->started, 1);
    r->rc = tdl_conn_read(r->c, &byte, 1);
}

TEST_G(in_progress, "D5 setting a deadline reaches the read that already waits") {
    for (int past = 0; past < 2; past++) {
        tdl_conn *b;
        reading   r = { .started = tdl_chan_new(0), .rc = 99 };
        crew      c;
        net_pair("tcp", &r.c, &b);
        crew_open(&c);
        crew_go(&c, read_one, &r);
        recv_int(r.started);
        let_park();
        tdl_conn_set_read_deadline(r.c, past ? -1 : tdl_now() + 10 * MS);
        crew_close(&c);
        CHECK_RC(r.rc, TDL_ETIMEDOUT);
        tdl_chan_free(r.started);
        tdl_conn_free(r.c);
        tdl_conn_free(b);
    }
}

TEST_G(cleared_in_progress, "D5 clearing the deadline of a read that waits lets it wait on") {
    tdl_conn *b;
    reading   r = { .started = tdl_chan_new(0), .rc = 99 };
    crew      c;
    net_pair("tcp", &r.c, &b);
    crew_open(&c);
    tdl_conn_set_read_deadline(r.c, tdl_now() + 300 * MS);
    crew_go(&c, read_one, &r);
    recv_int(r.started);
    tdl_conn_set_read_deadline(r.c, 0);
    tdl_sleep(400 * MS);
    CHECK_INT(r.rc, 99);
    CHECK_RC(tdl_conn_write(b, "x", 1), 1);
    crew_close(&c);
    CHECK_RC(r.rc, 1);
    tdl_chan_free(r.started);
    tdl_conn_free(r.c);
    tdl_conn_free(b);
}

TEST_G(timeout_per_operation, "D17 set_timeout gives each operation a deadline of its own; 0 takes it away") {
    tdl_conn *a, *b;
    char      byte;
    net_pair("tcp", &a, &b);
    tdl_conn_set_timeout(a, 20 * MS);
    for (int i = 0; i < 3; i++) {
        int64_t start = tdl_now();
        CHECK_RC(tdl_conn_read(a, &byte, 1), TDL_ETIMEDOUT);
        CHECK_WITHIN(tdl_now() - start, 20 * MS, LATE);
        CHECK_RC(tdl_conn_write(b, "x", 1), 1);
        CHECK_RC(tdl_conn_read(a, &byte, 1), 1); /* the one before does not hang over */
    }
    tdl_conn_set_timeout(a, 0);
    reading r = { .c = a, .started = tdl_chan_new(0), .rc = 99 };
    crew    c;
    crew_open(&c);
    crew_go(&c, read_one, &r);
    recv_int(r.started);
    tdl_sleep(50 * MS);
    CHECK_INT(r.rc, 99);
    CHECK_RC(tdl_conn_write(b, "x", 1), 1);
    crew_close(&c);
    CHECK_RC(r.rc, 1);
    tdl_chan_free(r.started);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

/* -- D10: accepting --------------------------------------------------------------------------------- */

TEST_G(accept_deadline, "D10 accept ends at its deadline and stays timed out; a past one wins over a waiting connection") {
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen("tcp", address);
    tdl_conn     *a = NULL, *b = NULL;
    CHECK_RC(tdl_dial("tcp", address, 0, &a), 0);
    tdl_listener_set_deadline(l, -1);
    for (int i = 0; i < 3; i++) CHECK_RC(tdl_listener_accept(l, &b), TDL_ETIMEDOUT);
    int64_t start = tdl_now();
    tdl_listener_set_deadline(l, start + 30 * MS);
    CHECK_RC(tdl_listener_accept(l, &b), 0);
    tdl_conn_free(b);
    b = NULL;
    for (int i = 0; i < 3; i++) CHECK_RC(tdl_listener_accept(l, &b), TDL_ETIMEDOUT);
    CHECK_WITHIN(tdl_now() - start, 30 * MS, LATE);
    CHECK(b == NULL);
    tdl_conn_free(a);
    tdl_listener_set_deadline(l, 0);
    CHECK_RC(tdl_dial("tcp", address, 0, &a), 0);
    CHECK_RC(tdl_listener_accept(l, &b), 0);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_listener_free(l);
}

/* -- D18, D19, D20: dialling --------------------------------------------------------------------------- */

TEST_G(dial_expired, "D18 a dial whose time is already up ends at once") {
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen("tcp", address);
    tdl_conn     *c = NULL;
    int64_t       start = tdl_now();
    CHECK_RC(tdl_dial("tcp", address, -1, &c), TDL_ETIMEDOUT);
    CHECK_RC(tdl_dial("tcp", address, INT64_MIN, &c), TDL_ETIMEDOUT);
    CHECK(tdl_now() - start < LATE);
    CHECK(c == NULL);
    tdl_listener_free(l);
}

TEST_G(dial_timeout, "D18 a dial that gets no answer ends at its time-out") {
    net_blackhole h;
    tdl_conn *c = NULL;
    net_blackhole_open(&h);
    int64_t start = tdl_now();
    CHECK_RC(tdl_dial("tcp", h.address, 50 * MS, &c), TDL_ETIMEDOUT);
    CHECK_WITHIN(tdl_now() - start, 50 * MS, LATE);
    CHECK(c == NULL);
    net_blackhole_close(&h);
}

TEST_G(dial_longest, "D18 the longest time-out does not overflow: the dial connects") {
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen("tcp", address);
    tdl_conn     *c = NULL;
    CHECK_RC(tdl_dial("tcp", address, INT64_MAX, &c), 0);
    tdl_conn_free(c);
    c = NULL;
    CHECK_RC(tdl_dial("tcp", address, INT64_MAX - 1, &c), 0);
    tdl_conn_free(c);
    tdl_listener_free(l);
}

TEST_G(dial_timeout_over, "D19 a dial's time-out is over once it has connected") {
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen("tcp", address);
    for (int i = 0; i < 5; i++) {
        tdl_conn *a = NULL, *b = NULL;
        CHECK_RC(tdl_dial("tcp", address, 500 * MS, &a), 0);
        CHECK_RC(tdl_listener_accept(l, &b), 0);
        if (i == 0) tdl_sleep(600 * MS);
        round_trip(a, b);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
    tdl_listener_free(l);
}

typedef struct dial_attempt {
    const char *address;
    tdl_conn   *c;
    int         rc;
} dial_attempt;

static void attempt(void *arg) {
    dial_attempt *d = arg;
    d->rc = tdl_dial("tcp", d->address, 0, &d->c);
}

TEST_G(dial_cancel, "D20 a cancelled dial says so and leaves no descriptor") {
    net_blackhole h;
    net_blackhole_open(&h);
    int          before = open_fds();
    dial_attempt d = { h.address, NULL, 99 };
    tdl_g       *g = go_joinable(attempt, &d);
    tdl_sleep(5 * MS);
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(d.rc, TDL_ECANCELED);
    CHECK(d.c == NULL);
    CHECK_INT(open_fds(), before);
    net_blackhole_close(&h);
}

typedef struct cancel_read {
    tdl_conn *c;
    int64_t   rc, again;
} cancel_read;

static void read_until_cancelled(void *arg) {
    cancel_read *r = arg;
    char         byte;
    r->rc = tdl_conn_read(r->c, &byte, 1);
    r->again = tdl_conn_read(r->c, &byte, 1);
}

TEST_G(read_cancel, "D20 a cancelled read says so, and the connection works on for others") {
    tdl_conn   *b;
    cancel_read r = { 0 };
    net_pair("tcp", &r.c, &b);
    tdl_g *g = go_joinable(read_until_cancelled, &r);
    let_park();
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(r.rc, TDL_ECANCELED);
    CHECK_RC(r.again, TDL_ECANCELED);
    round_trip(r.c, b);
    tdl_conn_free(r.c);
    tdl_conn_free(b);
}
