/* SPDX-License-Identifier: MIT
 * A hostile world: streams that end at any byte, too few descriptors, signals
 * all the time, peers that never read. */
#include "check.h"
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MS = 1000000 };

/* -- The end, and a reset, at every byte -------------------------------------------------- */

enum { EXCHANGE = 512, STEP = CHECK_SLOWDOWN > 1 ? 9 : 1 };

/* A connection and its peer, a plain descriptor. */
typedef struct half_pair {
    tdl_conn *c;
    int       fd;
} half_pair;

static tdl_listener *listener;
static int           port;

static half_pair connect_half(void) {
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    half_pair          p = { NULL, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(p.fd >= 0 && connect(p.fd, (struct sockaddr *)&sa, sizeof sa) == 0);
    CHECK_RC(tdl_listener_accept(listener, &p.c), 0);
    return p;
}

static char exchange[EXCHANGE];

static void listen_for_halves(void) {
    char address[ADDRESS_SIZE];
    listener = net_listen("tcp", address);
    port = tdl_listener_port(listener);
    for (int i = 0; i < EXCHANGE; i++) exchange[i] = (char)(i * 7);
}

TEST_G(cut_reads, "D22 a stream of the peer's that ends, or is reset, at any byte is read up to there") {
    listen_for_halves();
    for (int k = 0; k <= EXCHANGE; k += STEP) {
        for (int reset = 0; reset < 2; reset++) {
            half_pair p = connect_half();
            if (k) CHECK_INT(send(p.fd, exchange, (size_t)k, 0), k);
            if (reset)
                net_reset(p.fd);
            else
                close(p.fd);
            int64_t     rc = tdl_conn_fill(p.c, TDL_FILL_EXACT, EXCHANGE);
            size_t      n = 0;
            const char *bytes = tdl_conn_peek(p.c, &n);
            if (k == EXCHANGE && rc == EXCHANGE)
                CHECK_INT(n, EXCHANGE);
            else if (reset) /* which drops what was not read yet */
                CHECK(rc == -ECONNRESET || (rc == TDL_EEOF && n == (size_t)k));
            else
                CHECK(rc == TDL_EEOF && n == (size_t)k);
            if (bytes) {
                CHECK(n <= (size_t)k && memcmp(bytes, exchange, n) == 0);
                CHECK_RC(tdl_conn_skip(p.c, n), 0);
            }
            char byte;
            rc = tdl_conn_read(p.c, &byte, 1);
            CHECK(rc == 0 || rc == -ECONNRESET);
            tdl_conn_free(p.c);
        }
    }
    tdl_listener_free(listener);
}

TEST_G(cut_writes, "D22 a stream of ours that we end, or reset, at any byte arrives up to there") {
    listen_for_halves();
    for (int k = 0; k <= EXCHANGE; k += STEP) {
        for (int reset = 0; reset < 2; reset++) {
            half_pair p = connect_half();
            char      got[EXCHANGE + 1];
            size_t    n = 0;
            ssize_t   r;
            CHECK_RC(tdl_conn_write(p.c, exchange, (size_t)k), k);
            if (reset) CHECK_RC(tdl_conn_set_option(p.c, TDL_LINGER, 0), 0);
            tdl_conn_free(p.c);
            while ((r = recv(p.fd, got + n, sizeof got - n, 0)) > 0) n += (size_t)r;
            if (!reset) CHECK_INT(r, 0);
            if (!reset || r == 0) CHECK_INT(n, k);
            CHECK(n <= (size_t)k && memcmp(got, exchange, n) == 0);
            close(p.fd);
        }
    }
    tdl_listener_free(listener);
}

TEST_G(cut_by_reader, "D22 a peer that goes away after any byte of what we send is noticed, by one error") {
    listen_for_halves();
    for (int k = 0; k <= EXCHANGE; k += STEP) {
        half_pair p = connect_half();
        char      got[EXCHANGE], byte;
        int64_t   rc = 0;
        CHECK_RC(tdl_conn_write(p.c, exchange, EXCHANGE), EXCHANGE);
        for (int n = 0; n < k;) n += (int)recv(p.fd, got, (size_t)(k - n), 0);
        close(p.fd); /* with bytes unread it resets */
        rc = tdl_conn_read(p.c, &byte, 1);
        CHECK(k == EXCHANGE ? rc == 0 : rc == -ECONNRESET || rc == 0);
        for (int i = 0; i < 1000 && (rc = tdl_conn_write(p.c, exchange, EXCHANGE)) == EXCHANGE; i++) tdl_yield();
        CHECK(rc == -EPIPE || rc == -ECONNRESET);
        tdl_conn_free(p.c);
    }
    tdl_listener_free(listener);
}

/* -- Too few descriptors ---------------------------------------------------------------------- */

enum { CLIENTS = 8, SPARE = 10 };

static struct {
    tdl_listener *l;
    char          address[ADDRESS_SIZE];
    atomic_int    refused, served, wanted;
} scarce;

static void echo_byte(void *arg) {
    char byte;
    tdl_conn_set_timeout(arg, 5 * TDL_SECOND);
    if (tdl_conn_read(arg, &byte, 1) == 1) tdl_conn_write(arg, &byte, 1);
    tdl_conn_free(arg);
}

static void serve_scarce(void *arg) {
    (void)arg;
    for (;;) {
        tdl_conn *c = NULL;
        int       rc = tdl_listener_accept(scarce.l, &c);
        if (rc == TDL_ECLOSED) return;
        if (rc == 0) {
            REQUIRE(tdl_go(echo_byte, c) != NULL);
            continue;
        }
        CHECK_RC(rc, -EMFILE);
        atomic_fetch_add(&scarce.refused, 1);
        tdl_sleep(MS);
    }
}

static void use_scarce(void *arg) {
    (void)arg;
    while (atomic_fetch_sub(&scarce.wanted, 1) > 0) {
        tdl_conn *c = NULL;
        char      byte = 'x';
        int       rc;
        while ((rc = tdl_dial("tcp", scarce.address, 5 * TDL_SECOND, &c)) == -EMFILE) {
            atomic_fetch_add(&scarce.refused, 1);
            tdl_sleep(MS);
        }
        if (!CHECK_RC(rc, 0)) return;
        tdl_conn_set_timeout(c, 5 * TDL_SECOND);
        if (CHECK_RC(tdl_conn_write(c, &byte, 1), 1) && CHECK_RC(tdl_conn_read(c, &byte, 1), 1))
            atomic_fetch_add(&scarce.served, 1);
        tdl_conn_free(c);
    }
}

TEST_G(scarce_descriptors, "D26 with too few descriptors everybody is served in the end, and all descriptors come back") {
    struct rlimit old, tight;
    crew          servers, clients;
    int           n = SCALE(1000);
    scarce.l = net_listen("tcp", scarce.address);
    atomic_store(&scarce.refused, 0);
    atomic_store(&scarce.served, 0);
    atomic_store(&scarce.wanted, n);
    int before = open_fds(), top = dup(0);
    REQUIRE(top >= 0);
    close(top);
    getrlimit(RLIMIT_NOFILE, &old);
    tight = old;
    tight.rlim_cur = (rlim_t)top + SPARE;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &tight) == 0);
    crew_open(&servers);
    crew_open(&clients);
    crew_go(&servers, serve_scarce, NULL);
    for (int i = 0; i < CLIENTS; i++) crew_go(&clients, use_scarce, NULL);
    crew_close(&clients);
    setrlimit(RLIMIT_NOFILE, &old);
    CHECK_INT(atomic_load(&scarce.served), n);
    CHECK(atomic_load(&scarce.refused) > 0);
    CHECK_RC(tdl_listener_close(scarce.l), 0);
    crew_close(&servers);
    tdl_listener_free(scarce.l);
    for (int i = 0; i < 200 && open_fds() >= before; i++) tdl_sleep(5 * MS);
    CHECK_INT(open_fds(), before - 1); /* the listener's */
}

/* -- Signals ------------------------------------------------------------------------------------- */

static atomic_int over;

static void on_signal(int sig) { (void)sig; }

static void *echo_until_over(void *arg) {
    tdl_conn **c = arg;
    char       out[300], in[300];
    for (unsigned i = 0; !atomic_load(&over) || i < 10; i++) {
        memset(out, (int)i, sizeof out);
        if (!CHECK_RC(tdl_conn_write(c[0], out, sizeof out), sizeof out)) break;
        net_read_full(c[1], in, sizeof in);
        CHECK(memcmp(in, out, sizeof in) == 0);
        if (i % 16 == 0) CHECK_RC(tdl_sleep(100 * TDL_MICROSECOND), 0);
        tdl_conn_set_read_deadline(c[1], tdl_now() + TDL_MILLISECOND);
        if (i % 64 == 0) CHECK_RC(tdl_conn_read(c[1], in, sizeof in), TDL_ETIMEDOUT);
        tdl_conn_set_read_deadline(c[1], 0);
    }
    return NULL;
}

TEST(signals, "D25 a storm of signals on threads that wait in calls: no call sees one") {
    enum { THREADS = 2 };
    struct sigaction act = { .sa_handler = on_signal }, old; /* no SA_RESTART */
    pthread_t        threads[THREADS];
    tdl_conn        *c[THREADS][2];
    check_keeps_fds(); /* of the runtime that the threads start */
    sigaction(SIGUSR2, &act, &old);
    atomic_store(&over, 0);
    for (int i = 0; i < THREADS; i++) {
        net_pair(i ? "unix" : "tcp", &c[i][0], &c[i][1]);
        REQUIRE(pthread_create(&threads[i], NULL, echo_until_over, c[i]) == 0);
    }
    int64_t end = tdl_now() + 400 * MS;
    while (tdl_now() < end) {
        for (int i = 0; i < THREADS; i++) pthread_kill(threads[i], SIGUSR2);
        usleep(300);
    }
    atomic_store(&over, 1);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        tdl_conn_free(c[i][0]);
        tdl_conn_free(c[i][1]);
    }
    sigaction(SIGUSR2, &old, NULL);
}

/* -- A peer that never reads -------------------------------------------------------------------------- */

static void write_on(void *arg) {
    static char block[65536];
    while (tdl_conn_write(arg, block, sizeof block) > 0) {}
}

TEST_G(deaf_peer, "D13 a peer that never reads holds up who writes to it, and nobody else") {
    tdl_conn *deaf[2], *a, *b;
    crew      c;
    char      buf[8];
    net_pair("tcp", &deaf[0], &deaf[1]);
    net_pair("tcp", &a, &b);
    crew_open(&c);
    crew_go(&c, write_on, deaf[0]);
    for (int i = 0; i < 200; i++) {
        CHECK_RC(tdl_conn_write(a, "live", 4), 4);
        net_read_full(b, buf, 4);
    }
    tdl_conn_close(deaf[0]);
    crew_close(&c);
    tdl_conn_free(deaf[0]);
    tdl_conn_free(deaf[1]);
    tdl_conn_free(a);
    tdl_conn_free(b);
}
