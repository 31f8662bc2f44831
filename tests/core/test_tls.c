/* SPDX-License-Identifier: MIT
 * TLS on connections: streams, their ends, a server, going to others; with faults, and on small stacks. */
#include "check.h"
#include "net.h"
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/tls_stream.h"

#ifdef TDL_HAVE_TLS

TEST_G(lines, "Q1 what is used on a connection is used with TLS: reads, framed reads, writes, the end") {
    tdl_tls *ct = tls_client_of(0), *st = tls_server_of("server", 0);
    for (const char *const *net = net_networks(); *net; net++) {
        tdl_conn *c, *s;
        crew      w;
        char      byte;
        tls_pair(*net, ct, st, "localhost", &c, &s);
        CHECK_INT(tdl_conn_has_tls(c), 1);
        CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_DONE), 0);
        CHECK(strcmp(tls_text(c, TDL_TLS_VERSION), "") == 0);
        crew_open(&w);
        crew_go(&w, tls_echoes, s);
        tls_expect_echo(c, "the first write does the handshake\n");
        tls_expect_echo(c, "and the next one does not\n");
        CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_DONE), 1);
        CHECK_RC(tdl_conn_handshake(c), 0);
        CHECK(strcmp(tls_text(c, TDL_TLS_VERSION), "TLSv1.3") == 0);
        CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_VERSION_NUMBER), TDL_TLS_1_3);
        CHECK(strncmp(tls_text(c, TDL_TLS_CIPHER), "TLS_", 4) == 0);
        CHECK(strcmp(tls_text(c, TDL_TLS_SUBJECT), "CN=localhost,O=treadle") == 0);
        CHECK(strcmp(tls_text(c, TDL_TLS_ISSUER), "CN=tests,O=treadle") == 0);
        CHECK(strstr(tls_text(c, TDL_TLS_PEER_CERT), "-----END CERTIFICATE-----\n") != NULL);
        CHECK(strcmp(tls_text(c, TDL_TLS_VERIFY), "ok") == 0);
        CHECK(strcmp(tls_text(c, TDL_TLS_ERROR), "") == 0);
        CHECK(strcmp(tls_text(s, TDL_TLS_SERVER_NAME), "localhost") == 0);
        CHECK(strcmp(tls_text(s, TDL_TLS_SUBJECT), "") == 0);
        CHECK_INT(tdl_conn_tls_text(c, TDL_TLS_VERSION, &byte, 1), 7);
        CHECK_RC(tdl_conn_close_write(c), 0);
        CHECK_RC(tdl_conn_read(c, &byte, 1), 0); /* announced: s has closed its side as well */
        CHECK_RC(tdl_conn_read(c, &byte, 1), 0);
        CHECK_RC(tdl_conn_write(c, "x", 1), -EPIPE);
        crew_close(&w);
        tls_both_free(c, s);
    }
    tls_free(ct, st);
}

typedef struct one_way {
    tdl_conn *c;
    size_t    n;
    uint64_t  seed;
    int       reads;
} one_way;

static void moves(void *arg) {
    one_way *o = arg;
    uint64_t state = o->seed;
    size_t   done = 0, size = 200000;
    unsigned char *buf = malloc(size), next = 0;
    while (done < o->n) {
        size_t m = 1 + random_next(&state) % (o->n - done < size ? o->n - done : size);
        if (o->reads) {
            int64_t r = tdl_conn_read(o->c, buf, m);
            if (!CHECK(r > 0)) break;
            m = (size_t)r;
            int wrong = 0;
            for (size_t i = 0; i < m; i++) wrong += buf[i] != (unsigned char)(next++ * 31);
            if (!CHECK_INT(wrong, 0)) break;
        } else {
            for (size_t i = 0; i < m; i++) buf[i] = (unsigned char)(next++ * 31);
            if (!CHECK_RC(tdl_conn_write(o->c, buf, m), m)) break;
        }
        done += m;
    }
    free(buf);
}

/* n bytes each way at a time, by goroutines or by threads. */
static void both_ways(const char *network, size_t n, int threads, uint32_t version) {
    tdl_tls *ct = tls_make((tdl_tls_options){.ca = tls_file("ca.pem"), .max_version = (int32_t)version});
    tdl_tls *st = tls_server_of("server", 0);
    tdl_conn *c, *s;
    crew      w;
    tls_pair(network, ct, st, "localhost", &c, &s);
    one_way o[4] = {{c, n, 1, 0}, {c, n, 2, 1}, {s, n, 3, 0}, {s, n, 4, 1}};
    crew_open(&w);
    for (int i = 0; i < 4; i++) crew_start(&w, threads, moves, &o[i]);
    crew_close(&w);
    tls_both_free(c, s);
    tls_free(ct, st);
}

TEST_G(large, "Q2 large transfers both ways at once, between goroutines and between threads") {
    both_ways("tcp", SCALE(8 << 20), 0, 0);
    both_ways("unix", SCALE(8 << 20), 0, TDL_TLS_1_2);
    both_ways("tcp", SCALE(8 << 20), 1, 0);
}

static void sprinkles(void *arg) {
    one_way *o = arg;
    uint64_t state = o->seed;
    char     bytes[300] = {0};
    for (size_t done = 0, m; done < o->n; done += m) {
        m = 1 + random_next(&state) % sizeof bytes;
        if (m > o->n - done) m = o->n - done;
        CHECK_RC(tdl_conn_write(o->c, bytes, m), m);
        if (random_next(&state) % 8 == 0) tdl_yield();
    }
}

TEST_G(records, "Q2 many small records: what comes while others are still being taken apart is not missed") {
    tdl_tls *ct = tls_client_of(0), *st = tls_server_of("server", 0);
    for (int round = 0; round < 6; round++) {
        tdl_conn *c, *s;
        crew      w;
        tls_pair("tcp", ct, st, "localhost", &c, &s);
        tdl_conn_set_read_deadline(s, tdl_now() + 15 * CHECK_SLOWDOWN * TDL_SECOND);
        one_way o = {c, SCALE(60000), (uint64_t)round, 0};
        char    buf[2000];
        crew_open(&w);
        crew_start(&w, round % 2, sprinkles, &o);
        for (size_t got = 0; got < o.n;) {
            int64_t r = tdl_conn_read(s, buf, round % 4 < 2 ? 7 : sizeof buf);
            if (!CHECK(r > 0)) break;
            got += (size_t)r;
        }
        crew_close(&w);
        tls_both_free(c, s);
    }
    tls_free(ct, st);
}

TEST_G(unread, "Q3 whether something has come that nobody has read is told; tickets are nothing") {
    tdl_tls  *ct = tls_client_of(0), *st = tls_server_of("server", 0);
    tdl_conn *c, *s;
    char      got[3];
    tls_pair("tcp", ct, st, "localhost", &c, &s);
    CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_UNREAD), 0);
    CHECK_RC(tls_handshakes(c, s, NULL), 0);
    CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_UNREAD), 0);
    CHECK_RC(tdl_conn_write(s, "abc", 3), 3);
    int64_t until = tdl_now() + 10 * TDL_SECOND;
    while (tdl_conn_tls_number(c, TDL_TLS_UNREAD) == 0 && tdl_now() < until) tdl_sleep(TDL_MILLISECOND);
    CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_UNREAD), 1);
    net_read_full(c, got, 3); /* it is still there */
    CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_UNREAD), 0);
    tdl_conn_free(s);
    while (tdl_conn_tls_number(c, TDL_TLS_UNREAD) == 0 && tdl_now() < until) tdl_sleep(TDL_MILLISECOND);
    CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_UNREAD), 1);
    CHECK_RC(tdl_conn_read(c, got, 3), 0);
    tdl_conn_free(c);
    tls_free(ct, st);
}

static void writes_first(void *arg) { CHECK_RC(tdl_conn_write(arg, "hello from the server", 21), 21); }

TEST_G(server_first, "Q3 a server may write first: the handshake is done by either direction") {
    tdl_tls  *ct = tls_client_of(0), *st = tls_server_of("server", 0);
    tdl_conn *c, *s;
    crew      w;
    char      got[21];
    tls_pair("tcp", ct, st, "localhost", &c, &s);
    crew_open(&w);
    crew_go(&w, writes_first, s);
    let_park();
    net_read_full(c, got, 21);
    CHECK(memcmp(got, "hello from the server", 21) == 0);
    crew_close(&w);
    tls_both_free(c, s);
    tls_free(ct, st);
}

static void reads_all(void *arg) {
    tdl_conn *c = arg;
    static char buf[1000];
    int64_t r, n = 0;
    while ((r = tdl_conn_read(c, buf, sizeof buf)) > 0) n += r;
    CHECK_RC(r, 0);
    CHECK_INT(n, 300000 + 5 + 300000 + 70000);
}

TEST_G(gathered, "Q4 gathered writes, chains, copies and files go through TLS") {
    tdl_tls  *ct = tls_client_of(0), *st = tls_server_of("server", 0);
    tdl_conn *c, *s, *p, *q;
    crew      w;
    int64_t   n;
    char     *big = malloc(300000);
    memset(big, 'x', 300000);
    tls_pair("tcp", ct, st, "localhost", &c, &s);
    crew_open(&w);
    crew_go(&w, reads_all, s);
    tdl_iovec v[] = {{big, 100000}, {"12", 2}, {NULL, 0}, {big, 200000}, {"345", 3}};
    CHECK_RC(tdl_conn_writev(c, v, 5), 300005);
    tdl_buf *b = tdl_buf_new();
    CHECK_RC(tdl_buf_append(b, big, 300000), 0);
    CHECK_RC(tdl_conn_write_buf(c, b), 300000);
    CHECK_INT(tdl_buf_len(b), 0);
    tdl_buf_free(b);
    char path[] = "/tmp/treadle-tls-file-XXXXXX";
    int  fd = mkstemp(path);
    REQUIRE(fd >= 0 && write(fd, big, 60000) == 60000);
    CHECK_RC(tdl_conn_send_file(c, fd, 0, -1, &n), 0);
    CHECK_INT(n, 60000);
    close(fd);
    unlink(path);
    net_pair("tcp", &p, &q);
    CHECK_RC(tdl_conn_write(p, big, 10000), 10000);
    CHECK_RC(tdl_conn_copy(c, q, 10000, &n), 0); /* from a plain one */
    CHECK_INT(n, 10000);
    CHECK_RC(tdl_conn_close_write(c), 0);
    crew_wait(&w);
    CHECK_RC(tdl_conn_write(s, big, 10000), 10000);
    CHECK_RC(tdl_conn_copy(q, c, 10000, &n), 0); /* to a plain one */
    net_read_full(p, big, 10000);
    crew_close(&w);
    tls_both_free(c, s);
    tls_both_free(p, q);
    tls_free(ct, st);
    free(big);
}

static void echo_handler(tdl_conn *c, void *arg) {
    (void)arg;
    char    buf[100];
    int64_t n = tdl_conn_has_tls(c) ? 0 : tdl_conn_set_tls(c, arg, NULL, NULL);
    if (n == 0) n = tdl_conn_read(c, buf, sizeof buf);
    if (n > 0) n = tdl_conn_write(c, buf, (size_t)n);
    if (n <= 0) tdl_conn_close(c);
}

TEST_G(served, "Q5 a server parks connections with TLS, and goes on with what is left of a record") {
    tdl_tls           *ct = tls_client_of(0), *st = tls_server_of("server", 0);
    char               address[ADDRESS_SIZE], long_line[301];
    tdl_listener      *l = net_listen("tcp", address);
    tdl_server        *server = NULL;
    tdl_server_options o = {.size = sizeof o, .handler = echo_handler, .arg = st};
    tdl_conn          *c = NULL;
    CHECK_RC(tdl_server_new(&l, 1, &o, &server), 0);
    CHECK_RC(tdl_dial("tcp", address, 0, &c), 0);
    CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), 0);
    for (int i = 0; i < 3; i++) {
        tls_expect_echo(c, "a request\n");
        let_park();
    }
    memset(long_line, 'y', 300);
    long_line[300] = '\0';
    tls_expect_echo(c, long_line); /* one record, three calls of the handler */
    tdl_conn_free(c);
    CHECK_RC(tdl_server_shutdown(server, tdl_now() + 10 * TDL_SECOND), 0);
    tdl_server_free(server);
    tls_free(ct, st);
}

static void update_keys(struct tdl_tls_stream *s, void *arg) {
    (void)arg;
    CHECK_INT(tdl_ossl.SSL_key_update(s->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
}

TEST_G(key_update, "Q14 new keys in the middle: a read answers, also while nobody writes or reads the other way") {
    tdl_tls  *ct = tls_client_of(0), *st = tls_server_of("server", 0);
    tdl_conn *c, *s;
    static char buf[70000];
    tls_pair("tcp", ct, st, "localhost", &c, &s);
    CHECK_RC(tls_handshakes(c, s, NULL), 0);
    net_small_buffers(tdl_conn_fd(c));
    net_small_buffers(tdl_conn_fd(s));
    one_way there = {c, SCALE(1 << 20), 5, 0}, back = {s, SCALE(1 << 20), 6, 1};
    crew    w;
    crew_open(&w);
    for (int i = 0; i < 50; i++) { /* the answers are not read meanwhile */
        tdl_tls_with(c->tls, update_keys, NULL);
        CHECK_RC(tdl_conn_write(c, buf, 100), 100);
        net_read_full(s, buf, 100);
    }
    crew_go(&w, moves, &there);
    crew_go(&w, moves, &back);
    crew_wait(&w);
    CHECK_RC(tdl_conn_write(s, "x", 1), 1);
    net_read_full(c, buf, 1);
    crew_close(&w);
    tls_both_free(c, s);
    tls_free(ct, st);
}

/* -- The end ---------------------------------------------------------------------------------- */

TEST_G(truncated, "Q6 an end that was not announced is an error, distinct from the end of the stream") {
    tdl_tls *ct = tls_client_of(0), *st = tls_server_of("server", 0);
    for (int announced = 0; announced < 2; announced++) {
        tdl_conn *c, *s;
        char      buf[10];
        tls_pair("tcp", ct, st, "localhost", &c, &s);
        CHECK_RC(tls_handshakes(c, s, NULL), 0);
        CHECK_RC(tdl_conn_write(s, "bytes", 5), 5);
        net_read_full(c, buf, 5);
        if (announced)
            tdl_conn_free(s);
        else
            CHECK(shutdown(tdl_conn_fd(s), SHUT_RDWR) == 0);
        CHECK_RC(tdl_conn_read(c, buf, 10), announced ? 0 : TDL_ETLSEOF);
        CHECK_RC(tdl_conn_read(c, buf, 10), announced ? 0 : TDL_ETLSEOF);
        CHECK_RC(tdl_conn_fill(c, TDL_FILL_ALL, 100), announced ? 0 : TDL_ETLSEOF);
        if (!announced) CHECK(strcmp(tls_text(c, TDL_TLS_ERROR), "TLS stream cut off") == 0);
        tdl_conn_free(c);
        if (!announced) tdl_conn_free(s);
    }
    tls_free(ct, st);
}

TEST_G(half_closed, "Q7 after the end of one direction the other goes on") {
    tdl_tls  *ct = tls_client_of(0), *st = tls_server_of("server", 0);
    tdl_conn *c, *s;
    char      buf[10];
    tls_pair("tcp", ct, st, "localhost", &c, &s);
    CHECK_RC(tdl_conn_close_write(c), -ENOTCONN); /* before the handshake there is nothing to end */
    CHECK_RC(tls_handshakes(c, s, NULL), 0);
    CHECK_RC(tdl_conn_end_tls(c), 0);
    CHECK_RC(tdl_conn_read(s, buf, 10), 0);
    CHECK_RC(tdl_conn_write(s, "later", 5), 5);
    net_read_full(c, buf, 5);
    CHECK(memcmp(buf, "later", 5) == 0);
    CHECK_RC(tdl_conn_end_tls(s), 0);
    CHECK_RC(tdl_conn_read(c, buf, 10), 0);
    tls_both_free(c, s);
    tls_free(ct, st);
}

/* -- From one to another ------------------------------------------------------------------- */

typedef struct passing {
    tdl_chan *chan;
    int       result;
} passing;

/* As another thread of the program: takes the connection over, and serves it. */
static void takes_over(void *arg) {
    passing  *p = arg;
    tdl_val   v;
    tdl_conn *c = NULL;
    char      rest[8];
    REQUIRE(tdl_chan_recv(p->chan, &v) == 0);
    tdl_val other; /* a second holder comes too late */
    tdl_val_copy(&other, &v);
    CHECK_RC(p->result = tdl_val_take_conn(&v, &c), 0);
    tdl_val_clear(&v);
    tdl_conn *twice = NULL;
    CHECK_RC(tdl_val_take_conn(&other, &twice), TDL_EINVAL);
    CHECK_RC(tdl_val_take_fd(&other), TDL_EINVAL);
    tdl_val_clear(&other);
    REQUIRE(c != NULL);
    net_read_full(c, rest, 6); /* some of it had been decrypted before */
    CHECK(memcmp(rest, "hello\n", 6) == 0);
    tls_echoes(c);
    tdl_conn_free(c);
}

TEST_G(handed_over, "Q26 a connection with TLS goes to another goroutine or thread in a value: its state goes along") {
    tdl_tls *ct = tls_client_of(0), *st = tls_server_of("server", 0);
    for (const char *const *net = net_networks(); *net; net++) {
        for (int thread = 0; thread < 2; thread++) {
            tdl_conn *c, *s;
            crew      w;
            char      got[16];
            tdl_val   v;
            passing   p = {tdl_chan_new(1), 1};
            tls_pair(*net, ct, st, "localhost", &c, &s);
            bool begun = thread == 0; /* else he who takes it over does the handshake */
            crew_open(&w);
            if (begun) CHECK_RC(tls_handshakes(c, s, NULL), 0);
            if (begun) {
                CHECK_RC(tdl_conn_write(c, "1hello\n", 7), 7);
                net_read_full(s, got, 1);
            }
            CHECK_RC(tdl_val_set_conn(&v, s), 0);
            CHECK_RC(tdl_conn_read(s, got, 1), TDL_ECLOSED);
            CHECK_RC(tdl_conn_tls_text(s, TDL_TLS_VERSION, got, sizeof got), TDL_ECLOSED);
            CHECK_RC(tdl_conn_close(s), TDL_ECLOSED);
            tdl_conn_free(s);
            crew_start(&w, thread, takes_over, &p);
            CHECK_RC(tdl_chan_send(p.chan, &v), 0);
            tdl_val_clear(&v);
            if (!begun) CHECK_RC(tdl_conn_write(c, "hello\n", 6), 6);
            tls_expect_echo(c, "a line\n");
            tls_expect_echo(c, "and another\n");
            CHECK(strcmp(tls_text(c, TDL_TLS_VERSION), "TLSv1.3") == 0);
            CHECK_RC(tdl_conn_close_write(c), 0);
            CHECK_RC(tdl_conn_read(c, got, 1), 0);
            crew_close(&w);
            CHECK_RC(p.result, 0);
            tdl_conn_free(c);
            tdl_chan_free(p.chan);
        }
    }
    tls_free(ct, st);
}

TEST_G(not_taken, "Q27 one that nobody takes out of its value ends properly; one in use stays; what has no socket is refused") {
    tdl_tls  *ct = tls_client_of(0), *st = tls_server_of("server", 0);
    tdl_conn *c, *s;
    tdl_val   v;
    crew      w;
    for (int tls = 0; tls < 2; tls++) {
        net_pair("tcp", &c, &s);
        if (tls) {
            CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), 0);
            CHECK_RC(tdl_conn_set_tls(s, st, NULL, NULL), 0);
            CHECK_RC(tls_handshakes(c, s, NULL), 0);
        }
        crew_open(&w);
        crew_go(&w, tls_echoes, s);
        tls_expect_echo(c, "somebody reads\n");
        let_park();
        CHECK_RC(tdl_val_set_conn(&v, s), TDL_EBUSY);
        CHECK_INT(tdl_val_type(&v), TDL_NIL);
        tls_expect_echo(c, "and goes on\n");
        CHECK_RC(tdl_val_set_conn(&v, c), 0);
        tdl_val_clear(&v); /* the end is announced: echoes says so */
        crew_close(&w);
        tls_both_free(c, s);
    }
    net_pair("pipe", &c, &s);
    CHECK_RC(tdl_val_set_conn(&v, c), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_close(c), 0);
    tls_both_free(c, s);
    CHECK_RC(tdl_val_set_conn(&v, NULL), TDL_EINVAL);
    tdl_val_set_int(&v, 5);
    CHECK_RC(tdl_val_take_conn(&v, &c), TDL_EINVAL);
    CHECK_RC(tdl_val_take_conn(&v, NULL), TDL_EINVAL);
    tls_free(ct, st);
}

/* -- Faults, small stacks ------------------------------------------------------------------ */

static void faulty(void) {
    both_ways("tcp", SCALE(300000), 0, 0);
    both_ways("unix", SCALE(300000), 0, TDL_TLS_1_2);
}

TEST(faults, "Q24 short reads and writes, EAGAIN and interruptions change nothing") {
    CHECK_RC(tdl_fault_set("seed=5,short=0.3,eagain=0.2,eintr=0.1,delay=0.05,duplicate=0.05"), 0);
    check_run(faulty);
    CHECK_RC(tdl_fault_set(NULL), 0);
}

TEST_G(small_stacks, "Q25 a goroutine with a small stack does a handshake") {
    tdl_tls       *ct = tls_client_of(0), *st = tls_server_of("server", 0);
    tdl_conn      *c, *s;
    tls_shake      k;
    tdl_go_options o = {.size = sizeof o, .flags = TDL_GO_JOINABLE, .stack = 16384};
    tls_pair("tcp", ct, st, "localhost", &c, &s);
    k = (tls_shake){s, 1};
    tdl_g *g = tdl_go_opts(tls_shakes, &k, &o);
    CHECK_RC(tdl_conn_handshake(c), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(k.result, 0);
    tls_both_free(c, s);
    tls_free(ct, st);
}

#else

TEST(without, "Q0 a library without TLS says so") {
    tdl_tls        *t = NULL;
    tdl_tls_options o = {.size = sizeof o};
    char            why[200];
    CHECK_RC(tdl_tls_new(&o, &t, why, sizeof why), TDL_ENOTLS);
    CHECK(strstr(why, "OpenSSL") != NULL);
    CHECK(tdl_tls_library(why, sizeof why) == TDL_ENOTLS);
}

#endif
