/* SPDX-License-Identifier: MIT
 * Injected faults, as a user sets them: what parses, what repeats, and that a
 * program which handles its errors does all its work in spite of them. The first
 * test must be the first: the table stays in place once it is there. */
#include "check.h"
#include "net.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAMES 17
static const char *const names[NAMES] = { "short",  "eagain", "eintr",  "reset",   "epipe",  "aborted", "refused",
                                          "emfile", "enfile", "enomem", "enobufs", "thread", "delay",   "duplicate",
                                          "eio",    "enospc", "nameserver" };

/* -- Setting --------------------------------------------------------------------------- */

TEST_G(not_while_running, "X7 faults cannot come first while something runs") {
    CHECK_RC(tdl_fault_set("short=0.1"), TDL_EBUSY);
    CHECK_RC(tdl_fault_set(NULL), 0);
    CHECK_RC(tdl_fault_set(""), 0);
    CHECK_INT(tdl_fault_count(NULL), 0);
}

TEST(texts, "X7 a text that does not parse is refused, and it is said why") {
    static const struct {
        const char *text, *why;
    } bad[] = {
        { "shrt=0.1", "\"shrt\": no such fault; there are short eagain eintr reset" },
        { "short", "\"short\": expected name=value" },
        { "short=", "expected a rate from 0 to 1" },
        { "short=.", "expected a rate" },
        { "short=2", "expected a rate" },
        { "short=-0.1", "expected a rate" },
        { "short=0,1", "\"1\": expected name=value" },
        { "short=1e-3", "expected a rate" },
        { "short=nan", "expected a rate" },
        { "short=0.1,", "something should follow" },
        { ",short=0.1", "\"\": expected name=value" },
        { "seed=x", "expected a whole number" },
        { "seed=", "expected a whole number" },
        { "seed=-1", "expected a whole number" },
        { "most=12345678901234567890", "expected a whole number" },
        { "eagain=1", "at most 0.99" },
        { "eintr=1", "at most 0.99" },
        { "short =0.1", "no such fault" },
    };
    char why[400], small[8];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_RC(tdl_fault_set(bad[i].text), TDL_EINVAL);
        CHECK_RC(tdl_fault_check(bad[i].text, why, sizeof why), TDL_EINVAL);
        if (!CHECK(strstr(why, bad[i].why))) fprintf(stderr, "  (%s: %s)\n", bad[i].text, why);
    }
    CHECK_RC(tdl_fault_check("shrt=0.1", small, sizeof small), TDL_EINVAL);
    CHECK_INT(strlen(small), sizeof small - 1);
    CHECK_RC(tdl_fault_check("shrt=0.1", NULL, 0), TDL_EINVAL);
    CHECK_RC(tdl_fault_check("short=0.1", NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_fault_check("seed=7,short=1,eagain=.25,eintr=0.99,most=3,after=2", why, sizeof why), 0);
    CHECK_RC(tdl_fault_check(NULL, why, sizeof why), 0);
    for (int i = 0; i < NAMES; i++) CHECK_INT(tdl_fault_count(names[i]), 0);
    CHECK_RC(tdl_fault_count("seed"), TDL_EINVAL);
    CHECK_RC(tdl_fault_count("shrt"), TDL_EINVAL);
}

/* Which of 64 duplications failed. */
static uint64_t pattern(const char *text) {
    uint64_t  which = 0;
    tdl_host *h = NULL;
    CHECK_RC(tdl_fault_set(NULL), 0);
    CHECK_RC(tdl_host_open("pattern", &h), 0);
    CHECK_RC(tdl_fault_set(text), 0);
    int p[2];
    REQUIRE(pipe(p) == 0);
    for (int i = 0; i < 64; i++) {
        tdl_fd *f = NULL;
        int     rc = tdl_fd_dup(p[0], &f);
        if (rc != 0) CHECK_RC(rc, -EMFILE);
        which |= (uint64_t)(rc != 0) << i;
        tdl_fd_free(f);
    }
    close(p[0]);
    close(p[1]);
    CHECK_INT(tdl_fault_count("emfile"), __builtin_popcountll(which));
    CHECK_INT(tdl_fault_count(NULL), __builtin_popcountll(which));
    CHECK_RC(tdl_fault_set(NULL), 0);
    CHECK_RC(tdl_host_close(h), 0);
    return which;
}

TEST(repeats, "X7 a seed repeats the faults of a thread; after and most pick some") {
    CHECK_RC(tdl_fault_set("seed=1,short=0"), 0); /* in place */
    uint64_t seven = pattern("seed=7,emfile=0.5");
    CHECK(seven == pattern("emfile=.5,seed=7"));
    CHECK(seven != pattern("seed=8,emfile=0.5"));
    CHECK_WITHIN(__builtin_popcountll(seven), 12, 52);
    CHECK(pattern("emfile=0") == 0);
    CHECK(pattern("emfile=1") == UINT64_MAX);
    CHECK(pattern("emfile=1,after=3,most=2") == (UINT64_C(3) << 3));
}

/* -- Working under them ------------------------------------------------------------------ */

enum { CLIENTS = 4, TEXT = 20000 };

static void echo(void *arg) {
    char    buf[700];
    int64_t n;
    while ((n = tdl_conn_read(arg, buf, sizeof buf)) > 0) CHECK_RC(tdl_conn_write(arg, buf, (size_t)n), n);
    CHECK_RC(n, 0);
    tdl_conn_free(arg);
}

typedef struct served {
    tdl_listener *l;
    char          address[ADDRESS_SIZE];
    crew          c;
} served;

static void serve(void *arg) {
    served *s = arg;
    for (int i = 0; i < CLIENTS; i++) {
        tdl_conn *conn = NULL;
        if (CHECK_RC(tdl_listener_accept(s->l, &conn), 0)) crew_go(&s->c, echo, conn);
    }
}

static const char *network;

static void client(void *arg) {
    served   *s = arg;
    char      out[TEXT], in[TEXT];
    tdl_conn *conn = NULL;
    if (!CHECK_RC(tdl_dial(network, s->address, 20 * TDL_SECOND, &conn), 0)) return;
    for (int j = 0; j < TEXT; j++) out[j] = (char)(j * 7 + j / 256);
    for (int at = 0; at < TEXT; at += 4000) {
        CHECK_RC(tdl_conn_write(conn, out + at, 4000), 4000);
        net_read_full(conn, in + at, 4000);
    }
    CHECK(memcmp(in, out, TEXT) == 0);
    tdl_conn_free(conn);
}

static void datagrams(void) {
    tdl_dgram *a = NULL, *b = NULL;
    tdl_addr   to;
    char       buf[32];
    CHECK_RC(tdl_dgram_listen("udp", "127.0.0.1:0", &a), 0);
    CHECK_RC(tdl_dgram_listen("udp", "127.0.0.1:0", &b), 0);
    CHECK_RC(tdl_dgram_sockaddr(b, &to), 0);
    for (int i = 0; i < 50; i++) {
        CHECK_RC(tdl_dgram_sendto(a, "whole message", 13, &to), 13);
        CHECK_RC(tdl_dgram_recv(b, buf, sizeof buf), 13);
    }
    tdl_dgram_free(a);
    tdl_dgram_free(b);
}

static void through_a_pipe(void) {
    int     p[2];
    tdl_fd *r = NULL, *w = NULL;
    char    buf[500];
    REQUIRE(pipe(p) == 0);
    CHECK_RC(tdl_fd_adopt(p[0], &r), 0);
    CHECK_RC(tdl_fd_adopt(p[1], &w), 0);
    for (int i = 0; i < 20; i++) {
        memset(buf, i, sizeof buf);
        CHECK_RC(tdl_fd_write(w, buf, sizeof buf), sizeof buf);
        for (int64_t got = 0, n; got < (int64_t)sizeof buf; got += n) {
            CHECK_RC(tdl_fd_wait_readable(r), 0);
            if (!CHECK((n = tdl_fd_read(r, buf, sizeof buf - (size_t)got)) > 0)) break;
            CHECK_INT(buf[n - 1], i);
        }
    }
    tdl_fd_free(r);
    tdl_fd_free(w);
}

static void work(void) {
    served s = { .l = NULL };
    s.l = net_listen(network, s.address);
    crew_open(&s.c);
    crew_go(&s.c, serve, &s);
    for (int i = 0; i < CLIENTS; i++) crew_go(&s.c, client, &s);
    datagrams();
    through_a_pipe();
    crew_close(&s.c);
    tdl_listener_free(s.l);
}

static int all_positive(const int64_t *number, int n) {
    for (int i = 0; i < n; i++)
        if (number[i] <= 0) return 0;
    return 1;
}

TEST(all_is_done, "X7 short, late, interrupted and repeated: everything is done, and nothing twice") {
    static const char *const harmless[] = { "short", "eagain", "eintr", "aborted", "delay", "duplicate" };
    static const char *const networks[] = { "tcp", "unix" };
    int64_t injected[6] = { 0 };
    int     kinds = strcmp(tdl_netpoll_name(), "epoll") ? 4 : 6; /* events come late and twice from epoll alone */
    check_limit(60);
    /* few calls may be aborted: more seeds until one was */
    for (int i = 0; i < SCALE(16) || (i < 200 && !all_positive(injected, kinds)); i++) {
        char text[160];
        snprintf(text, sizeof text, "seed=%d,short=0.4,eagain=0.3,eintr=0.3,aborted=0.3,delay=0.3,duplicate=0.3", i);
        network = networks[i % 2];
        CHECK_RC(tdl_fault_set(text), 0);
        check_run(work);
        for (int k = 0; k < 6; k++) injected[k] += tdl_fault_count(harmless[k]);
    }
    for (int k = 0; k < kinds; k++)
        if (!CHECK(injected[k] > 0)) fprintf(stderr, "  (no %s)\n", harmless[k]);
    CHECK_RC(tdl_fault_set(NULL), 0);
    network = "tcp";
    check_run(work);
    CHECK_INT(tdl_fault_count(NULL), 0);
}

/* In a run, in which faults may be set. */
static void run_with_faults(void (*body)(void)) {
    CHECK_RC(tdl_fault_set("short=0"), 0); /* in place */
    check_run(body);
}

static void given_up(void) {
    tdl_conn *a, *b;
    char      byte;
    int       timed_out = 0;
    net_pair("tcp", &a, &b);
    for (int i = 0; i < 60; i++) {
        char text[64];
        CHECK_RC(tdl_conn_write(a, "x", 1), 1);
        let_park(); /* its event has come */
        snprintf(text, sizeof text, "seed=%d,eagain=0.99,most=1", i);
        CHECK_RC(tdl_fault_set(text), 0);
        tdl_conn_set_read_deadline(b, tdl_now() + 100 * TDL_MICROSECOND);
        int64_t n = tdl_conn_read(b, &byte, 1);
        CHECK_RC(tdl_fault_set(NULL), 0);
        tdl_conn_set_read_deadline(b, tdl_now() + 10 * TDL_SECOND);
        timed_out += n == TDL_ETIMEDOUT;
        if (n == TDL_ETIMEDOUT) n = tdl_conn_read(b, &byte, 1);
        if (!CHECK_RC(n, 1)) break;
    }
    if (strcmp(tdl_netpoll_name(), "uv") != 0) CHECK(timed_out > 0); /* which tells what is there again and again */
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST(gives_up, "X7 who gives up while what is there was denied leaves it to the next") { run_with_faults(given_up); }

/* One line is one request. */
static void serve_line(tdl_conn *c, void *calls) {
    int64_t n = tdl_conn_fill(c, TDL_FILL_LINE, 64);
    atomic_fetch_add((atomic_int *)calls, 1);
    if (n < 0 || tdl_conn_skip(c, (size_t)n) < 0 || tdl_conn_write(c, "done\n", 5) != 5) tdl_conn_close(c);
}

static void ask_parked(const char *faults) {
    enum { CLIENTS = 8, ROUNDS = 10 };
    char               address[ADDRESS_SIZE], got[8];
    atomic_int         calls = 0;
    tdl_server_options o = { .size = sizeof o, .handler = serve_line, .arg = &calls };
    tdl_server        *s = NULL;
    tdl_listener      *l = net_listen("tcp", address);
    tdl_conn          *c[CLIENTS];
    REQUIRE(tdl_server_new(&l, 1, &o, &s) == 0);
    CHECK_RC(tdl_fault_set(faults), 0);
    for (int i = 0; i < CLIENTS; i++) CHECK_RC(tdl_dial("tcp", address, 10 * TDL_SECOND, &c[i]), 0);
    for (int i = 0; i < CLIENTS * ROUNDS; i++) {
        CHECK_RC(tdl_conn_write(c[i % CLIENTS], "request\n", 8), 8);
        net_read_full(c[i % CLIENTS], got, 5);
    }
    int64_t until = tdl_now() + 20 * TDL_SECOND;
    while ((tdl_num_goroutines() != 1 || tdl_server_stat(s, TDL_SERVER_BUSY)) && tdl_now() < until)
        tdl_sleep(TDL_MILLISECOND);
    CHECK_INT(tdl_num_goroutines(), 1); /* all are parked */
    CHECK(tdl_fault_count(NULL) > 0);
    for (int i = 0; i < CLIENTS; i++) tdl_conn_free(c[i]);
    while (tdl_server_stat(s, TDL_SERVER_CONNS) && tdl_now() < until) tdl_sleep(TDL_MILLISECOND);
    CHECK_INT(tdl_server_stat(s, TDL_SERVER_CONNS), 0);
    CHECK_INT(calls, CLIENTS * ROUNDS); /* nobody was served for nothing, nor for an end */
    CHECK_RC(tdl_fault_set(NULL), 0);
    tdl_server_free(s);
}

static void parked(void) {
    ask_parked("seed=1,eagain=0.4");
    ask_parked("seed=2,eagain=0.3,eintr=0.3,short=0.3");
    if (strcmp(tdl_netpoll_name(), "epoll") == 0) ask_parked("seed=3,delay=0.5,duplicate=0.5");
}

TEST(serves_once, "X7 G1 a parked connection is served once for each request, whatever was denied, late or told twice") {
    run_with_faults(parked);
}

static void broken(void) {
    static const int codes[] = { -ECONNRESET, -EPIPE };
    static const char *const texts[] = { "reset=1,most=1", "epipe=1,most=1" };
    for (int i = 0; i < 2; i++) {
        tdl_conn *a, *b;
        char      byte;
        net_pair("tcp", &a, &b);
        CHECK_RC(tdl_fault_set(texts[i]), 0);
        CHECK_RC(tdl_conn_write(a, "x", 1), codes[i]);
        CHECK_RC(tdl_conn_read(b, &byte, 1), 0); /* the other end is not left waiting */
        CHECK_RC(tdl_fault_set(NULL), 0);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

TEST(errors, "X7 an injected reset or broken pipe is reported once, and ends the stream at the other end") {
    run_with_faults(broken);
}

static void refused(void) {
    static const struct {
        const char *text;
        int         code;
    } cases[] = { { "refused=1,most=1", -ECONNREFUSED }, { "emfile=1,most=1", -EMFILE }, { "enfile=1,most=1", -ENFILE },
                  { "enobufs=1,most=1", -ENOBUFS } };
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen("tcp", address);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tdl_conn *c = NULL;
        CHECK_RC(tdl_fault_set(cases[i].text), 0);
        CHECK_RC(tdl_dial("tcp", address, 0, &c), cases[i].code);
        CHECK_INT(tdl_fault_count(NULL), 1);
        CHECK_RC(tdl_dial("tcp", address, 0, &c), 0);
        tdl_conn_free(c);
    }
    CHECK_RC(tdl_fault_set(NULL), 0);
    tdl_listener_free(l);
}

TEST(refusals, "X7 what is refused says so, and works the next time") { run_with_faults(refused); }

/* Fails once with the code, and is done the next time. */
#define FAILS_ONCE(text, code, call)          \
    do {                                      \
        CHECK_RC(tdl_fault_set(text), 0);     \
        CHECK_RC(call, code);                 \
        CHECK_INT(tdl_fault_count(NULL), 1);  \
        CHECK((call) >= 0);                   \
        CHECK_RC(tdl_fault_set(NULL), 0);     \
    } while (0)

static int runs_true(void) {
    const char *const argv[] = { "true", NULL };
    tdl_process      *p = NULL;
    int               r = tdl_process_start("true", argv, NULL, &p);
    if (r == 0) r = tdl_process_wait(p, NULL, TDL_FOREVER);
    tdl_process_free(p);
    return r;
}

static int opens(const char *path) {
    tdl_file *f = NULL;
    int       r = tdl_file_open(path, TDL_OPEN_READ, 0, &f, TDL_FOREVER);
    tdl_file_free(f);
    return r;
}

static void disk_and_names(void) {
    enum { SIZE = 200000 };
    char      name[100], dir[] = "/tmp/treadle-inject-XXXXXX", path[64];
    tdl_chan *ch = tdl_chan_new(1);
    tdl_addr  found[4];
    tdl_val   v = { 0 };
    char     *bytes = malloc(SIZE);
    for (int i = 0; i < SIZE; i++) bytes[i] = (char)(i * 7);
    REQUIRE(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/file", dir);
    FAILS_ONCE("emfile=1,most=1", -EMFILE, tdl_signal_notify(ch, SIGUSR1)); /* the loop itself, which begins here */
    FAILS_ONCE("eio=1,most=1", -EIO, tdl_fs_write(path, bytes, SIZE, 0600, 0, TDL_FOREVER));
    FAILS_ONCE("enospc=1,most=1", -ENOSPC, tdl_fs_write(path, bytes, SIZE, 0600, TDL_WRITE_ATOMIC, TDL_FOREVER));
    FAILS_ONCE("emfile=1,most=1", -EMFILE, opens(path));
    REQUIRE(tdl_addr_parse(&found[0], "tcp", "127.0.0.1:80", 0) == 0);
    FAILS_ONCE("nameserver=1,most=1", TDL_ENAMESERVER, tdl_lookup_name(&found[0], name, sizeof name, TDL_FOREVER));
    CHECK_RC(tdl_fault_set("nameserver=1,most=1"), 0);
    CHECK_RC(tdl_lookup("tcp", "some.name", 80, found, 4, TDL_FOREVER), TDL_ENAMESERVER);
    CHECK_RC(runs_true(), 0);
    FAILS_ONCE("thread=1,most=1", -EAGAIN, runs_true());
    CHECK_RC(tdl_fault_set("seed=5,short=0.6,eintr=0.5"), 0);
    for (int i = 0; i < 100 && (i == 0 || !tdl_fault_count("short") || !tdl_fault_count("eintr")); i++) {
        size_t n;
        CHECK(tdl_fs_write(path, bytes, SIZE, 0600, 0, TDL_FOREVER) >= 0);
        CHECK_RC(tdl_fs_read(path, SIZE, &v, TDL_FOREVER), 0);
        const char *got = tdl_val_bytes(&v, &n);
        CHECK(n == SIZE && memcmp(got, bytes, SIZE) == 0);
        tdl_val_clear(&v);
    }
    CHECK(tdl_fault_count("short") > 0 && tdl_fault_count("eintr") > 0);
    CHECK_RC(tdl_fault_set(NULL), 0);
    CHECK_RC(tdl_fs_unlink(path, TDL_FOREVER), 0);
    CHECK_INT(rmdir(dir), 0); /* nothing else was left in it */
    CHECK_RC(tdl_signal_stop(ch, 0), 1);
    tdl_chan_free(ch);
    free(bytes);
}

TEST(services, "X7 files, names, processes and signals fail as they are told to, once, and then do their work") {
    check_keeps_fds(); /* the loop's */
    run_with_faults(disk_and_names);
}

/* Whatever fails, the run ends, and nothing is lost. */
static int anything(void *arg) {
    (void)arg;
    tdl_listener *l = NULL;
    tdl_conn     *a = NULL, *b = NULL;
    char          address[ADDRESS_SIZE], buf[64];
    for (int i = 0; i < 20; i++) {
        if (tdl_listen("tcp", "127.0.0.1:0", &l) == 0) {
            tdl_listener_set_deadline(l, tdl_now() + 20 * TDL_MILLISECOND);
            snprintf(address, sizeof address, "127.0.0.1:%d", tdl_listener_port(l));
            if (tdl_dial("tcp", address, 20 * TDL_MILLISECOND, &a) == 0 && tdl_listener_accept(l, &b) == 0) {
                tdl_conn_set_timeout(a, 20 * TDL_MILLISECOND);
                tdl_conn_set_timeout(b, 20 * TDL_MILLISECOND);
                if (tdl_conn_write(a, "sixteen bytes, 16", 16) == 16) tdl_conn_fill(b, TDL_FILL_EXACT, 16);
                tdl_conn_read(a, buf, sizeof buf);
            }
        }
        tdl_conn_free(a);
        tdl_conn_free(b);
        tdl_listener_free(l);
        a = b = NULL;
        l = NULL;
        tdl_sleep(1000);
    }
    return 0;
}

TEST(everything_fails, "X7 under every fault at once a run ends, with its result or an error") {
    check_limit(60);
    int done = 0;
    for (int i = 0; i < 200 && (i < SCALE(24) || done == 0); i++) {
        char text[300];
        int  n = snprintf(text, sizeof text, "seed=%d", i);
        for (int k = 0; k < NAMES; k++)
            n += snprintf(text + n, sizeof text - (size_t)n, ",%s=0.02", names[k]);
        CHECK_RC(tdl_fault_set(text), 0);
        int rc = tdl_run(anything, NULL);
        CHECK_RC(tdl_fault_set(NULL), 0);
        CHECK(rc <= 0);
        done += rc == 0;
    }
    CHECK(done > 0);
}
