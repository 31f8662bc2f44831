/* SPDX-License-Identifier: MIT
 * Servers: parked connections, handlers, tdl_server_next, limits and shutting down. */
#include "check.h"
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Waits until the number is so, for ten seconds at most. */
static int becomes(tdl_server *s, int what, int64_t want) {
    int64_t until = tdl_now() + 10 * TDL_SECOND;
    while (tdl_server_stat(s, what) != want && tdl_now() < until) tdl_sleep(TDL_MILLISECOND);
    return CHECK_INT(tdl_server_stat(s, what), want);
}

static tdl_server *serve(const char *network, char address[ADDRESS_SIZE], tdl_server_options *o) {
    tdl_server   *s = NULL;
    tdl_listener *l = net_listen(network, address);
    if (o) o->size = sizeof *o;
    if (!CHECK_RC(tdl_server_new(&l, 1, o, &s), 0)) exit(1);
    return s;
}

static tdl_conn *dial(const char *network, const char *address) {
    tdl_conn *c = NULL;
    CHECK_RC(tdl_dial(network, address, 10 * TDL_SECOND, &c), 0);
    return c;
}

static void ask(tdl_conn *c, const char *line) {
    char got[64];
    CHECK_RC(tdl_conn_write(c, line, strlen(line)), strlen(line));
    net_read_full(c, got, strlen(line));
    CHECK(memcmp(got, line, strlen(line)) == 0);
}

/* One line is one request. */
static int answer(tdl_conn *c) {
    char    line[64];
    size_t  n;
    int64_t len = tdl_conn_fill(c, TDL_FILL_LINE, sizeof line);
    if (len < 0) return -1;
    const char *p = tdl_conn_peek(c, &n);
    if (!p) return -1; /* closed meanwhile */
    memcpy(line, p, (size_t)len);
    if (tdl_conn_skip(c, (size_t)len) < 0) return -1;
    return tdl_conn_write(c, line, (size_t)len) == len ? 0 : -1;
}

static void echo_line(tdl_conn *c, void *arg) {
    if (arg) atomic_fetch_add((atomic_int *)arg, 1);
    if (answer(c) < 0) tdl_conn_close(c);
}

enum { CLIENTS = 20 };

TEST_G(parked, "G1 between requests a connection has no goroutine; each request is served by one") {
    for (const char *const *net = net_networks(); *net; net++) {
        char               address[ADDRESS_SIZE];
        atomic_int         calls = 0;
        tdl_server_options o = {.handler = echo_line, .arg = &calls};
        tdl_server        *s = serve(*net, address, &o);
        tdl_conn          *c[CLIENTS];
        for (int i = 0; i < CLIENTS; i++) c[i] = dial(*net, address);
        becomes(s, TDL_SERVER_CONNS, CLIENTS);
        CHECK_INT(tdl_num_goroutines(), 1);
        CHECK_INT(calls, 0);
        for (int round = 0; round < 5; round++)
            for (int i = 0; i < CLIENTS; i++) ask(c[i], "a request\n");
        becomes(s, TDL_SERVER_BUSY, 0);
        int64_t until = tdl_now() + 10 * TDL_SECOND;
        while (tdl_num_goroutines() != 1 && tdl_now() < until) tdl_yield();
        CHECK_INT(tdl_num_goroutines(), 1);
        CHECK_INT(calls, 5 * CLIENTS);
        CHECK_INT(tdl_server_stat(s, TDL_SERVER_ACCEPTED), CLIENTS);
        CHECK_RC(tdl_server_stat(s, 99), TDL_EINVAL);
        for (int i = 0; i < CLIENTS; i++) tdl_conn_free(c[i]);
        becomes(s, TDL_SERVER_CONNS, 0);
        if (strcmp(*net, "unix") != 0) CHECK_INT(calls, 5 * CLIENTS); /* an end alone is no request */
        tdl_server_free(s);
    }
}

TEST_G(pipelined, "G1 requests that came together are served one after the other; half a one waits for the rest") {
    char               address[ADDRESS_SIZE], got[32];
    tdl_server_options o = {.handler = echo_line};
    tdl_server        *s = serve("tcp", address, &o);
    tdl_conn          *c = dial("tcp", address);
    CHECK_RC(tdl_conn_write(c, "one\ntwo\nthr", 11), 11);
    net_read_full(c, got, 8);
    CHECK(memcmp(got, "one\ntwo\n", 8) == 0);
    CHECK_RC(tdl_conn_write(c, "ee\n", 3), 3);
    tdl_conn_close_write(c);
    net_read_full(c, got, 6);
    CHECK(memcmp(got, "three\n", 6) == 0);
    CHECK_RC(tdl_conn_read(c, got, sizeof got), 0);
    tdl_conn_free(c);
    becomes(s, TDL_SERVER_CONNS, 0);
    tdl_server_free(s);
}

static void hands_out(void *arg) {
    tdl_server *s = arg;
    tdl_conn   *c;
    int         r;
    while ((r = tdl_server_next(s, TDL_FOREVER, &c)) == 0) {
        if (answer(c) < 0)
            tdl_conn_free(c);
        else
            CHECK_RC(tdl_server_park(c), 0);
    }
    CHECK_RC(r, TDL_ECLOSED);
}

TEST(next_one, "G2 goroutines and threads take the next connection with a request, and park it again") {
    char        address[ADDRESS_SIZE];
    crew        w;
    tdl_conn   *c[CLIENTS];
    check_keeps_fds();
    tdl_server *s = serve("tcp", address, NULL);
    crew_open(&w);
    for (int i = 0; i < 4; i++) crew_start(&w, i % 2, hands_out, s);
    for (int i = 0; i < CLIENTS; i++) c[i] = dial("tcp", address);
    for (int round = 0; round < 10; round++)
        for (int i = 0; i < CLIENTS; i++) ask(c[i], "next\n");
    for (int i = 0; i < CLIENTS / 2; i++) tdl_conn_free(c[i]);
    becomes(s, TDL_SERVER_CONNS, CLIENTS / 2);
    CHECK_RC(tdl_server_shutdown(s, tdl_now() + 20 * TDL_SECOND), 0);
    crew_close(&w);
    char byte;
    for (int i = CLIENTS / 2; i < CLIENTS; i++) {
        CHECK_RC(tdl_conn_read(c[i], &byte, 1), 0);
        tdl_conn_free(c[i]);
    }
    CHECK_RC(tdl_server_next(s, TDL_FOREVER, &c[0]), TDL_ECLOSED);
    tdl_server_free(s);
}

TEST_G(next_waits, "G2 next: deadline, cancel by closing, misuse") {
    char        address[ADDRESS_SIZE];
    tdl_conn   *c = NULL, *plain, *other;
    tdl_server *s = serve("tcp", address, NULL), *bad = NULL;
    CHECK_RC(tdl_server_next(s, TDL_NOWAIT, &c), TDL_EAGAIN);
    CHECK_RC(tdl_server_next(s, tdl_now() + TDL_MILLISECOND, &c), TDL_ETIMEDOUT);
    CHECK_RC(tdl_server_next(s, TDL_NOWAIT, NULL), TDL_EINVAL);
    CHECK_RC(tdl_server_next(NULL, TDL_NOWAIT, &c), TDL_EINVAL);
    CHECK_RC(tdl_server_park(NULL), TDL_EINVAL);
    net_pair("tcp", &plain, &other);
    CHECK_RC(tdl_server_park(plain), TDL_EINVAL);
    tdl_conn_free(plain);
    tdl_conn_free(other);
    net_pair("pipe", &plain, &other);
    CHECK_RC(tdl_server_park(plain), TDL_EINVAL);
    tdl_conn_free(plain);
    tdl_conn_free(other);
    tdl_listener *l = net_listen("tcp", address), *twice[2] = {l, l};
    CHECK_RC(tdl_server_new(twice, 2, NULL, &bad), TDL_EBUSY);
    CHECK_RC(tdl_server_new(&l, 0, NULL, &bad), TDL_EINVAL);
    CHECK_RC(tdl_server_new(NULL, 1, NULL, &bad), TDL_EINVAL);
    tdl_server_options o = {.size = 1};
    CHECK_RC(tdl_server_new(&l, 1, &o, &bad), TDL_EINVAL);
    CHECK(bad == NULL);
    CHECK_RC(tdl_server_new(&l, 1, NULL, &bad), 0); /* it is still ours */
    tdl_server_free(bad);
    CHECK_RC(tdl_server_close(s), 0);
    CHECK_RC(tdl_server_next(s, TDL_FOREVER, &c), TDL_ECLOSED);
    tdl_server_free(s);
    tdl_server_free(NULL);
}

TEST_G(idle, "G3 who is parked for too long is closed; who asks now and then is not") {
    char               address[ADDRESS_SIZE], byte;
    tdl_server_options o = {.handler = echo_line, .idle_timeout = TDL_SECOND};
    tdl_server        *s = serve("tcp", address, &o);
    tdl_conn          *quiet = dial("tcp", address), *lively = dial("tcp", address);
    int64_t begun = tdl_now(), last = begun;
    while (tdl_now() - begun < 1200 * TDL_MILLISECOND) {
        if (tdl_now() - last > 500 * TDL_MILLISECOND) break; /* the machine is too slow for this */
        last = tdl_now();
        ask(lively, "still here\n");
        tdl_sleep(50 * TDL_MILLISECOND);
    }
    CHECK_RC(tdl_conn_read(quiet, &byte, 1), 0);
    CHECK(tdl_server_stat(s, TDL_SERVER_TIMEOUTS) >= 1);
    CHECK_RC(tdl_conn_read(lively, &byte, 1), 0); /* its time comes, too */
    CHECK_INT(tdl_server_stat(s, TDL_SERVER_TIMEOUTS), 2);
    tdl_conn_free(quiet);
    tdl_conn_free(lively);
    tdl_server_free(s);
}

TEST_G(limit, "G4 more connections than are allowed wait until one has gone") {
    char               address[ADDRESS_SIZE];
    tdl_server_options o = {.handler = echo_line, .max_conns = 2};
    tdl_server        *s = serve("tcp", address, &o);
    tdl_conn          *c[6];
    for (int i = 0; i < 6; i++) {
        c[i] = dial("tcp", address); /* the backlog takes them */
        CHECK_RC(tdl_conn_write(c[i], "hello\n", 6), 6);
    }
    for (int i = 0; i < 6; i++) {
        char got[6];
        net_read_full(c[i], got, 6);
        CHECK_WITHIN(tdl_server_stat(s, TDL_SERVER_CONNS), 1, 2);
        tdl_conn_free(c[i]);
    }
    becomes(s, TDL_SERVER_CONNS, 0);
    CHECK_INT(tdl_server_stat(s, TDL_SERVER_ACCEPTED), 6);
    tdl_server_free(s);
}

TEST_G(starved, "G5 where there are no descriptors the server waits without spinning, and goes on when there are") {
    enum { N = 8 };
    char               address[ADDRESS_SIZE], got[5];
    int                fd[N], highest = 0;
    struct rlimit      before, low;
    tdl_server_options o = {.handler = echo_line};
    tdl_server        *s = serve("tcp", address, &o);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    to.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    for (int i = 0; i < N; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        REQUIRE(fd[i] >= 0);
    }
    highest = dup(fd[0]);
    close(highest);
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
    low = before;
    low.rlim_cur = (rlim_t)highest; /* all below are taken, as far as the test knows */
    int hole[64], holes = 0;
    for (int i = 0; i < highest && holes < 64; i++)
        if (fcntl(i, F_GETFD) < 0) CHECK(dup2(fd[0], hole[holes++] = i) == i); /* and now they are */
    REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
    for (int i = 0; i < N; i++) {
        CHECK(connect(fd[i], (struct sockaddr *)&to, sizeof to) == 0);
        CHECK(send(fd[i], "late\n", 5, 0) == 5);
    }
    int64_t until = tdl_now() + 10 * TDL_SECOND;
    while (tdl_server_stat(s, TDL_SERVER_STARVED) == 0 && tdl_now() < until) tdl_sleep(TDL_MILLISECOND);
    int64_t begun = tdl_now(), first = tdl_server_stat(s, TDL_SERVER_STARVED);
    tdl_sleep(50 * TDL_MILLISECOND);
    int64_t times = tdl_server_stat(s, TDL_SERVER_STARVED) - first;
    CHECK_WITHIN(times, 0, (tdl_now() - begun) / (9 * TDL_MILLISECOND) + 1);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
    while (holes > 0) close(hole[--holes]);
    becomes(s, TDL_SERVER_ACCEPTED, N);
    for (int i = 0; i < N; i++) {
        CHECK(recv(fd[i], got, 5, MSG_WAITALL) == 5 && memcmp(got, "late\n", 5) == 0);
        close(fd[i]);
    }
    becomes(s, TDL_SERVER_CONNS, 0);
    tdl_server_free(s);
}

/* -- Shutting down ---------------------------------------------------------------------- */

typedef struct slow {
    atomic_int begun, over;
    tdl_chan  *gate;
} slow;

static void waits_at_gate(tdl_conn *c, void *arg) {
    slow   *w = arg;
    tdl_val v;
    char    buf[64];
    if (tdl_conn_read(c, buf, sizeof buf) > 0) {
        atomic_fetch_add(&w->begun, 1);
        if (tdl_chan_recv(w->gate, &v) == 0) tdl_conn_write(c, "done", 4);
    }
    atomic_fetch_add(&w->over, 1);
}

static void opens_gate(void *arg) {
    slow   *w = arg;
    tdl_val v;
    tdl_val_set_int(&v, 1);
    let_park();
    for (int i = 0; i < 3; i++) CHECK_RC(tdl_chan_send(w->gate, &v), 0);
}

/* The request is another's, as it is: in a value, or as a descriptor. */
static void gives_away(tdl_conn *c, void *arg) {
    static atomic_int n;
    char    request[24];
    tdl_val v;
    net_read_full(c, request, sizeof request); /* bytes that have come and were not read may make it busy */
    if (atomic_fetch_add(&n, 1) % 2 == 0)
        CHECK_RC(tdl_val_set_conn(&v, c), 0);
    else
        CHECK_RC(tdl_val_set_fd(&v, tdl_conn_release(c)), 0);
    CHECK_RC(tdl_chan_send(arg, &v), 0);
    tdl_val_clear(&v);
}

TEST_G(given_away, "G6 a connection that its handler gave away is not the server's any more: a shutdown does not wait for it") {
    char               address[ADDRESS_SIZE];
    tdl_chan          *given = tdl_chan_new(2);
    tdl_server_options o = {.handler = gives_away, .arg = given};
    tdl_server        *s = serve("tcp", address, &o);
    for (int i = 0; i < 2; i++) {
        tdl_conn *c = dial("tcp", address), *taken = NULL;
        tdl_val   v;
        CHECK_RC(tdl_conn_write(c, "for whom it may concern\n", 24), 24);
        CHECK_RC(tdl_chan_recv(given, &v), 0);
        int fd = tdl_val_take_fd(&v);
        CHECK_RC(fd >= 0 ? tdl_conn_adopt(fd, &taken) : tdl_val_take_conn(&v, &taken), 0);
        tdl_val_clear(&v);
        becomes(s, TDL_SERVER_CONNS, 0);
        becomes(s, TDL_SERVER_BUSY, 0);
        if (i == 1) CHECK_RC(tdl_server_shutdown(s, tdl_now() + 10 * TDL_SECOND), 0);
        CHECK_RC(tdl_conn_write(c, "and on\n", 7), 7);
        CHECK_RC(answer(taken), 0);
        tdl_conn_free(taken);
        tdl_conn_free(c);
    }
    tdl_server_free(s);
    tdl_chan_free(given);
}

TEST_G(graceful, "G6 a shutdown closes who is idle and waits for who is busy; what they do is finished") {
    char               address[ADDRESS_SIZE], got[4];
    slow               w = {.gate = tdl_chan_new(0)};
    crew               k;
    tdl_server_options o = {.handler = waits_at_gate, .arg = &w};
    tdl_server        *s = serve("tcp", address, &o);
    tdl_conn          *busy[3], *idle[3], *late = NULL;
    for (int i = 0; i < 3; i++) {
        idle[i] = dial("tcp", address);
        busy[i] = dial("tcp", address);
        CHECK_RC(tdl_conn_write(busy[i], "work", 4), 4);
    }
    becomes(s, TDL_SERVER_CONNS, 6);
    becomes(s, TDL_SERVER_BUSY, 3);
    crew_open(&k);
    crew_go(&k, opens_gate, &w);
    CHECK_RC(tdl_server_shutdown(s, tdl_now() + 20 * TDL_SECOND), 0);
    CHECK_INT(w.over, 3);
    for (int i = 0; i < 3; i++) {
        CHECK_RC(tdl_conn_read(idle[i], got, 4), 0);
        net_read_full(busy[i], got, 4);
        CHECK(memcmp(got, "done", 4) == 0);
        CHECK_RC(tdl_conn_read(busy[i], got, 4), 0);
        tdl_conn_free(idle[i]);
        tdl_conn_free(busy[i]);
    }
    CHECK_RC(tdl_dial("tcp", address, 5 * TDL_SECOND, &late), -ECONNREFUSED);
    CHECK_RC(tdl_server_shutdown(s, TDL_FOREVER), 0); /* once more */
    crew_close(&k);
    tdl_server_free(s);
    tdl_chan_free(w.gate);
}

static void never_ends(tdl_conn *c, void *arg) {
    char byte;
    atomic_fetch_add((atomic_int *)arg, 1);
    while (tdl_conn_read(c, &byte, 1) > 0) {}
}

TEST_G(deadline, "G6 a shutdown whose time is up closes the busy ones") {
    char               address[ADDRESS_SIZE], byte;
    atomic_int         begun = 0;
    tdl_server_options o = {.handler = never_ends, .arg = &begun};
    tdl_server        *s = serve("tcp", address, &o);
    tdl_conn          *c = dial("tcp", address);
    CHECK_RC(tdl_conn_write(c, "x", 1), 1);
    becomes(s, TDL_SERVER_BUSY, 1);
    while (!begun) tdl_yield();
    CHECK_RC(tdl_server_shutdown(s, tdl_now() + 10 * TDL_MILLISECOND), TDL_ETIMEDOUT);
    CHECK_RC(tdl_server_shutdown(s, tdl_now() + 20 * TDL_SECOND), 0); /* the handler returns now */
    CHECK_INT(tdl_server_stat(s, TDL_SERVER_CONNS), 0);
    CHECK_RC(tdl_conn_read(c, &byte, 1), 0);
    tdl_conn_free(c);
    tdl_server_free(s);
}

/* What a handler may wait in, by the first byte of its request. */
typedef struct waits {
    tdl_chan    *never;
    tdl_conn    *far; /* a pipe whose other end does nothing */
    atomic_int   begun, told[6];
} waits;

static int64_t wait_in(tdl_conn *c, char what, waits *w) {
    char    byte;
    tdl_val v;
    switch (what) {
    case 0: return tdl_conn_read(c, &byte, 1);
    case 1: return tdl_sleep(TDL_HOUR);
    case 2: return tdl_chan_recv(w->never, &v);
    case 3: return tdl_conn_write(w->far, "nobody reads", 12);
    case 4: return tdl_conn_copy(c, w->far, -1, NULL);
    default: return tdl_conn_fill(c, TDL_FILL_LINE, 100);
    }
}

static void waits_for_ever(tdl_conn *c, void *arg) {
    waits *w = arg;
    char   what;
    net_read_full(c, &what, 1);
    atomic_fetch_add(&w->begun, 1);
    if (wait_in(c, what, w) != TDL_ECANCELED) return;
    if (tdl_sleep(TDL_HOUR) == TDL_ECANCELED) atomic_fetch_add(&w->told[(int)what], 1); /* and what comes later */
}

TEST_G(cancelled, "G6 the deadline of a shutdown cancels the handlers, whatever they wait in; the next one waits for them") {
    for (int close = 0; close < 2; close++) {
        char               address[ADDRESS_SIZE];
        waits              w = {.never = tdl_chan_new(0)};
        tdl_server_options o = {.handler = waits_for_ever, .arg = &w};
        tdl_server        *s = serve("tcp", address, &o);
        tdl_conn          *c[12], *other;
        REQUIRE(tdl_pipe_new(0, &w.far, &other) == 0);
        for (int i = 0; i < 12; i++) {
            char what = (char)(i % 6);
            c[i] = dial("tcp", address);
            CHECK_RC(tdl_conn_write(c[i], &what, 1), 1);
        }
        int64_t until = tdl_now() + 10 * TDL_SECOND;
        while (w.begun < 12 && tdl_now() < until) tdl_sleep(TDL_MILLISECOND);
        CHECK_INT(w.begun, 12);
        if (close)
            CHECK_RC(tdl_server_close(s), 0);
        else
            CHECK_RC(tdl_server_shutdown(s, tdl_now() + 5 * TDL_MILLISECOND), TDL_ETIMEDOUT);
        CHECK_RC(tdl_server_shutdown(s, tdl_now() + 10 * TDL_SECOND), 0);
        /* the direction of c[4]'s copy is closed under it, as that of c[0]'s read, after the cancel */
        for (int i = 0; i < 6; i++) CHECK_INT(w.told[i], 2);
        for (int i = 0; i < 12; i++) tdl_conn_free(c[i]);
        tdl_server_free(s);
        tdl_conn_free(w.far);
        tdl_conn_free(other);
        tdl_chan_free(w.never);
    }
}

static tdl_server *own;

static void closes_it(tdl_conn *c, void *arg) {
    (void)c;
    CHECK_RC(tdl_server_close(own), 0);
    CHECK_RC(tdl_sleep(TDL_MICROSECOND), 0); /* it has not cancelled itself */
    atomic_store((atomic_int *)arg, 1);
}

TEST_G(closes_itself, "G6 a handler that closes its server is not cancelled by that") {
    char               address[ADDRESS_SIZE];
    atomic_int         over = 0;
    tdl_server_options o = {.handler = closes_it, .arg = &over};
    own = serve("tcp", address, &o);
    tdl_conn *c = dial("tcp", address);
    CHECK_RC(tdl_conn_write(c, "x", 1), 1);
    int64_t until = tdl_now() + 10 * TDL_SECOND;
    while (!over && tdl_now() < until) tdl_yield();
    CHECK_INT(over, 1);
    CHECK_RC(tdl_server_shutdown(own, tdl_now() + 10 * TDL_SECOND), 0);
    tdl_conn_free(c);
    tdl_server_free(own);
}

/* -- Everything at once -------------------------------------------------------------------- */

typedef struct storm {
    char       address[ADDRESS_SIZE];
    atomic_int stop, asked;
} storm;

static void comes_and_goes(void *arg) {
    storm   *w = arg;
    uint64_t seed = (uint64_t)atomic_fetch_add(&w->asked, 1);
    while (!w->stop) {
        tdl_conn *c = NULL;
        char      got[8];
        if (tdl_dial("tcp", w->address, 5 * TDL_SECOND, &c) < 0) break;
        for (uint64_t n = random_next(&seed) % 4; n > 0; n--) {
            if (tdl_conn_write(c, "again\n", 6) < 0) break;
            if (random_next(&seed) % 8 == 0) break; /* gone before the answer */
            int64_t r = 0, have = 0;
            while (have < 6 && (r = tdl_conn_read(c, got, 6)) > 0) have += r;
            if (r <= 0) break;
        }
        if (random_next(&seed) % 4 == 0) tdl_conn_set_option(c, TDL_LINGER, 0);
        tdl_conn_free(c);
    }
}

TEST_G(storm_of_clients, "G7 clients come, ask, vanish and reset while servers are shut down and freed under them") {
    for (int round = 0; round < SCALE(40); round++) {
        storm              w = {0};
        crew               k;
        tdl_server_options o = {.handler = echo_line, .idle_timeout = round % 3 ? 0 : TDL_MILLISECOND,
                                .max_conns = round % 4 == 1 ? 3 : 0};
        if (round % 2) o.handler = NULL;
        tdl_server *s = serve("tcp", w.address, &o);
        crew_open(&k);
        if (round % 2) crew_go(&k, hands_out, s);
        for (int i = 0; i < 8; i++) crew_go(&k, comes_and_goes, &w);
        tdl_sleep(5 * TDL_MILLISECOND);
        if (round % 5 == 0) w.stop = 1;
        int r = tdl_server_shutdown(s, tdl_now() + (round % 5 ? TDL_MILLISECOND : 10 * TDL_SECOND));
        CHECK(r == 0 || r == TDL_ETIMEDOUT);
        if (r == TDL_ETIMEDOUT) CHECK_RC(tdl_server_shutdown(s, tdl_now() + 10 * TDL_SECOND), 0);
        CHECK_INT(tdl_server_stat(s, TDL_SERVER_CONNS), 0);
        w.stop = 1;
        if (round % 7 != 6) crew_wait(&k);
        else tdl_server_close(s);
        crew_close(&k);
        tdl_server_free(s);
    }
}

static tdl_server *left;

static int leaves_it(void *arg) {
    char               address[ADDRESS_SIZE];
    tdl_server_options o = {.handler = echo_line};
    tdl_conn          *c[CLIENTS];
    (void)arg;
    left = serve("tcp", address, &o);
    for (int i = 0; i < CLIENTS; i++) c[i] = dial("tcp", address);
    for (int i = 0; i < CLIENTS; i++) ask(c[i], "left\n");
    for (int i = 0; i < CLIENTS; i++) tdl_conn_free(c[i]);
    return 0;
}

static atomic_int stuck;

static int leaves_handlers(void *arg) {
    char               address[ADDRESS_SIZE];
    tdl_server_options o = {.handler = never_ends, .arg = &stuck};
    tdl_conn          *c[CLIENTS];
    (void)arg;
    left = serve("tcp", address, &o);
    for (int i = 0; i < CLIENTS; i++) {
        c[i] = dial("tcp", address);
        CHECK_RC(tdl_conn_write(c[i], "x", 1), 1);
    }
    while (stuck < CLIENTS) tdl_yield();
    for (int i = 0; i < CLIENTS; i++) tdl_conn_free(c[i]);
    return 0;
}

static int sleeps(void *arg) {
    (void)arg;
    tdl_server_close(left); /* whose handlers are no more */
    return tdl_sleep(TDL_MILLISECOND);
}

TEST(run_ends_serving, "G7 so it does under handlers that wait; closing it in the next run cancels nobody") {
    CHECK_RC(tdl_run(leaves_handlers, NULL), 0);
    CHECK_RC(tdl_run(sleeps, NULL), 0);
    tdl_server_free(left);
}

TEST(run_ends, "G7 a run that ends under a server closes it; its handle is freed afterwards") {
    CHECK_RC(tdl_run(leaves_it, NULL), 0);
    CHECK_INT(tdl_server_stat(left, TDL_SERVER_CONNS), 0);
    tdl_server_free(left);
}

/* -- Hosts ------------------------------------------------------------------------------------ */

/* The task's next event, which others may be in front of only by mistake; a poll may come back early. */
static int64_t finished(tdl_host *h, uint32_t task, int64_t rc) {
    tdl_event ev;
    int       n = 0;
    if (rc != TDL_PENDING) return rc;
    for (int64_t until = tdl_now() + 20 * TDL_SECOND; n == 0 && tdl_now() < until;)
        n = tdl_host_poll(h, &ev, 1, 10 * TDL_SECOND);
    if (!CHECK_INT(n, 1)) return TDL_ETIMEDOUT;
    CHECK_INT(ev.task, task);
    return ev.result;
}

TEST(hosted, "G8 a host's task gets connections with requests as outcomes") {
    tdl_host *h = NULL;
    char      address[ADDRESS_SIZE];
    crew      k;
    CHECK_RC(tdl_host_open("server", &h), 0);
    tdl_server *s = serve("tcp", address, NULL);
    storm       w = {0};
    memcpy(w.address, address, sizeof address);
    uint32_t task = (uint32_t)tdl_task_new(h, 0), talk = (uint32_t)tdl_task_new(h, 0);
    check_keeps_fds();
    crew_open(&k);
    crew_go(&k, comes_and_goes, &w);
    int served = 0;
    int64_t rc = tdl_server_next_start(h, task, s, TDL_FOREVER);
    while (served < 200) {
        if (!CHECK_RC(rc = finished(h, task, rc), 0)) break;
        tdl_conn *c = tdl_val_ptr(&tdl_host_outcomes(h)[task].val);
        int64_t   n = finished(h, talk, tdl_conn_fill_start(h, talk, c, TDL_FILL_LINE, 64));
        if (n <= 0) {
            tdl_conn_free(c);
        } else {
            tdl_conn_skip(c, (size_t)n);
            n = finished(h, talk, tdl_conn_write_start(h, talk, c, "again\n", 6));
            if (n == 6) /* else it was reset meanwhile */
                CHECK_RC(tdl_server_park(c), 0);
            else
                tdl_conn_free(c);
            served++;
        }
        rc = tdl_server_next_start(h, task, s, TDL_FOREVER);
    }
    w.stop = 1;
    if (rc == 0) tdl_conn_free(tdl_val_ptr(&tdl_host_outcomes(h)[task].val));
    CHECK_RC(tdl_host_close(h), 0);
    crew_close(&k);
    CHECK_INT(tdl_server_stat(s, TDL_SERVER_CONNS), 0);
    tdl_server_free(s);
}
