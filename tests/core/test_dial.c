/* SPDX-License-Identifier: MIT
 * Dialling: lists of addresses, local addresses, options. What answers late and
 * what never answers is a listener whose backlog is full. */
#include "actors.h"
#include "check.h"
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MS = 1000000 };
#define LATE (5 * TDL_SECOND)

static tdl_addr addr(const char *text) {
    tdl_addr a;
    CHECK_RC(tdl_addr_parse(&a, "tcp", text, 0), 0);
    return a;
}

/* A port where nobody listens. */
static tdl_addr refusing(void) {
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen("tcp", address);
    tdl_addr      a = addr(address);
    tdl_listener_free(l);
    return a;
}

static void expect_peer(tdl_conn *c, const char *address) {
    char text[ADDRESS_SIZE];
    CHECK(tdl_conn_peername(c, text, sizeof text) > 0);
    CHECK(strcmp(text, address) == 0);
}

/* -- Happy eyeballs ------------------------------------------------------------------------ */

TEST_G(first_refuses, "D18 of several addresses the first that answers is taken; a refusal brings the next at once") {
    char             address[ADDRESS_SIZE];
    tdl_listener    *l = net_listen("tcp", address);
    tdl_addr         list[] = { refusing(), refusing(), addr(address) };
    tdl_dial_options o = { .size = sizeof o, .fallback_delay = TDL_HOUR };
    tdl_conn        *c = NULL;
    CHECK_RC(tdl_dial_list("tcp", list, 3, &o, &c), 0);
    expect_peer(c, address);
    tdl_conn_free(c);
    tdl_listener_free(l);
}

TEST_G(first_hangs, "D18 an address that does not answer is left behind after the delay, and closed") {
    net_blackhole    h;
    char             address[ADDRESS_SIZE];
    tdl_listener    *l = net_listen("tcp", address);
    tdl_dial_options o = { .size = sizeof o, .fallback_delay = 20 * MS };
    net_blackhole_open(&h);
    tdl_addr  list[] = { addr(h.address), addr(address) };
    tdl_conn *c = NULL;
    int       before = open_fds();
    int64_t   start = tdl_now();
    CHECK_RC(tdl_dial_list("tcp", list, 2, &o, &c), 0);
    CHECK_WITHIN(tdl_now() - start, 20 * MS, LATE);
    expect_peer(c, address);
    CHECK_INT(open_fds(), before + 1);
    tdl_conn_free(c);
    /* the delay of 250 ms when none is given */
    start = tdl_now();
    CHECK_RC(tdl_dial_list("tcp", list, 2, NULL, &c), 0);
    CHECK_WITHIN(tdl_now() - start, 250 * MS, LATE);
    tdl_conn_free(c);
    tdl_listener_free(l);
    net_blackhole_close(&h);
}

TEST_G(all_fail, "D18 when all fail the error is the first one's, when all hang it is the time-out") {
    net_blackhole    h;
    tdl_conn        *c = NULL;
    tdl_addr         list[3];
    tdl_dial_options o = { .size = sizeof o, .timeout = 60 * MS, .fallback_delay = 5 * MS };
    net_blackhole_open(&h);
    for (int i = 0; i < 3; i++) list[i] = refusing();
    CHECK_RC(tdl_dial_list("tcp", list, 3, &o, &c), -ECONNREFUSED);
    for (int i = 0; i < 3; i++) list[i] = addr(h.address);
    int     before = open_fds();
    int64_t start = tdl_now();
    CHECK_RC(tdl_dial_list("tcp", list, 3, &o, &c), TDL_ETIMEDOUT);
    CHECK_WITHIN(tdl_now() - start, 60 * MS, LATE);
    CHECK_INT(open_fds(), before);
    o.fallback_delay = -1; /* only after a failure, which never comes */
    CHECK_RC(tdl_dial_list("tcp", list, 3, &o, &c), TDL_ETIMEDOUT);
    CHECK(c == NULL);
    net_blackhole_close(&h);
}

TEST_G(families_alternate, "D18 the families of a list alternate: the second attempt is of the other one") {
    if (!net_networks()[2]) {
        check_skip("no IPv6");
        return;
    }
    net_blackhole    h;
    char             address[ADDRESS_SIZE];
    tdl_listener    *l = net_listen("tcp6", address);
    tdl_dial_options o = { .size = sizeof o, .fallback_delay = 100 * MS, .timeout = 20 * TDL_SECOND };
    tdl_conn        *c = NULL;
    net_blackhole_open(&h);
    tdl_addr list[40];
    for (int i = 0; i < 39; i++) list[i] = addr(h.address);
    list[39] = addr(address); /* by order alone it would be dialled after 3.9 s */
    int64_t start = tdl_now();
    CHECK_RC(tdl_dial_list("tcp", list, 40, &o, &c), 0);
    expect_peer(c, address);
    CHECK_WITHIN(tdl_now() - start, 100 * MS, 3800 * (int64_t)MS);
    tdl_conn_free(c);
    tdl_listener_free(l);
    net_blackhole_close(&h);
}

TEST_G(localhost_is_two, "D18 localhost is both loopback addresses") {
    if (!net_networks()[2]) {
        check_skip("no IPv6");
        return;
    }
    tdl_listener *l = NULL;
    tdl_conn     *c = NULL;
    char          address[ADDRESS_SIZE];
    CHECK_RC(tdl_listen("tcp6", "[::1]:0", &l), 0);
    snprintf(address, sizeof address, "localhost:%d", tdl_listener_port(l));
    CHECK_RC(tdl_dial("tcp", address, 0, &c), 0); /* the port may be another's on IPv4: unlikely, and fine */
    tdl_conn_free(c);
    CHECK_RC(tdl_dial("tcp4", address, 0, &c), -ECONNREFUSED);
    tdl_listener_free(l);
}

/* -- Time and cancellation -------------------------------------------------------------------- */

TEST_G(earlier_counts, "D18 of a time-out and a deadline the earlier counts") {
    net_blackhole h;
    tdl_conn *c = NULL;
    net_blackhole_open(&h);
    tdl_dial_options o = { .size = sizeof o, .timeout = 30 * MS, .deadline = tdl_now() + TDL_HOUR };
    int64_t          start = tdl_now();
    CHECK_RC(tdl_dial_opts("tcp", h.address, &o, &c), TDL_ETIMEDOUT);
    CHECK_WITHIN(tdl_now() - start, 30 * MS, LATE);
    start = tdl_now();
    o = (tdl_dial_options){ .size = sizeof o, .timeout = TDL_HOUR, .deadline = start + 30 * MS };
    CHECK_RC(tdl_dial_opts("tcp", h.address, &o, &c), TDL_ETIMEDOUT);
    CHECK_WITHIN(tdl_now() - start, 30 * MS, LATE);
    o.deadline = -5;
    CHECK_RC(tdl_dial_opts("tcp", h.address, &o, &c), TDL_ETIMEDOUT);
    CHECK(c == NULL);
    net_blackhole_close(&h);
}

typedef struct attempt {
    tdl_addr  list[3];
    tdl_conn *c;
    int       rc;
} attempt;

static void dial_list(void *arg) {
    attempt         *a = arg;
    tdl_dial_options o = { .size = sizeof o, .fallback_delay = MS };
    a->rc = tdl_dial_list("tcp", a->list, 3, &o, &a->c);
}

TEST_G(cancel_list, "D20 a cancel ends a dial with several attempts under way, and leaves no descriptor") {
    net_blackhole h;
    net_blackhole_open(&h);
    int     before = open_fds();
    attempt a = { .list = { addr(h.address), addr(h.address), addr(h.address) }, .rc = 99 };
    tdl_g  *g = go_joinable(dial_list, &a);
    tdl_sleep(10 * MS);
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(a.rc, TDL_ECANCELED);
    CHECK(a.c == NULL);
    CHECK_INT(open_fds(), before);
    net_blackhole_close(&h);
}

TEST_G(cancel_at_random, "D20 dials cancelled at any moment end as cancelled or connected, and leave nothing") {
    net_blackhole h;
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen("tcp", address);
    uint64_t      seed = 3;
    net_blackhole_open(&h);
    int before = open_fds();
    for (int i = 0; i < SCALE(200); i++) {
        attempt a = { .list = { addr(h.address), i % 2 ? refusing() : addr(h.address), addr(address) }, .rc = 99 };
        tdl_g  *g = go_joinable(dial_list, &a);
        tdl_sleep((int64_t)(random_next(&seed) % (3 * MS)));
        CHECK_RC(tdl_cancel(g), 0);
        CHECK_RC(tdl_join(g), 0);
        CHECK(a.rc == TDL_ECANCELED || a.rc == 0);
        CHECK((a.c != NULL) == (a.rc == 0));
        tdl_conn_free(a.c);
    }
    CHECK_INT(open_fds(), before);
    tdl_listener_free(l);
    net_blackhole_close(&h);
}

/* -- Local addresses ---------------------------------------------------------------------------- */

TEST_G(local_address, "D18 a dial comes from the local address it is given") {
    char             address[ADDRESS_SIZE], text[ADDRESS_SIZE];
    tdl_listener    *l = net_listen("tcp", address);
    tdl_conn        *c = NULL;
    static const struct {
        const char *local;
        int         rc;
    } t[] = {
        { "127.0.0.2:0", 0 }, { ":0", 0 },  { "localhost:0", 0 }, { "nonsense", TDL_EPORT },
        { "[::1]:0", -EAFNOSUPPORT }, { "192.0.2.1:0", -EADDRNOTAVAIL },
    };
    for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
        tdl_dial_options o = { .size = sizeof o, .local = t[i].local };
        if (!CHECK_RC(tdl_dial_opts("tcp", address, &o, &c), t[i].rc)) fprintf(stderr, "  (%s)\n", t[i].local);
        if (t[i].rc != 0) CHECK(c == NULL);
        if (c && i == 0) {
            CHECK(tdl_conn_sockname(c, text, sizeof text) > 0);
            CHECK(strncmp(text, "127.0.0.2:", 10) == 0);
        }
        tdl_conn_free(c);
    }
    tdl_listener_free(l);
}

TEST_G(bad_options, "F5 options of a dial that are wrong, and lists that are none, are refused") {
    tdl_conn        *c = NULL;
    tdl_addr         a[2] = { refusing(), { 0 } };
    tdl_dial_options o = { .size = 8 };
    CHECK_RC(tdl_dial_opts("tcp", "127.0.0.1:1", &o, &c), TDL_EINVAL);
    o = (tdl_dial_options){ .size = sizeof o, .flags = 1 };
    CHECK_RC(tdl_dial_opts("tcp", "127.0.0.1:1", &o, &c), TDL_EINVAL);
    CHECK_RC(tdl_dial_list("tcp", a, 0, NULL, &c), TDL_EINVAL);
    CHECK_RC(tdl_dial_list("tcp", a, 257, NULL, &c), TDL_EINVAL);
    CHECK_RC(tdl_dial_list("tcp", NULL, 1, NULL, &c), TDL_EINVAL);
    CHECK_RC(tdl_dial_list("tcp", a, 2, NULL, &c), TDL_EADDRESS);
    CHECK_RC(tdl_dial_list("tcp6", a, 1, NULL, &c), TDL_EADDRESS);
    CHECK_RC(tdl_dial_list("udp", a, 1, NULL, &c), TDL_ENETWORK);
    CHECK_RC(tdl_dial_list("what", a, 1, NULL, &c), TDL_ENETWORK);
    CHECK_RC(tdl_dial_opts("unixgram", "@x", NULL, &c), TDL_ENETWORK);
    CHECK_RC(tdl_dial_list("tcp", a, 1, NULL, NULL), TDL_EINVAL);
    CHECK(c == NULL);
}

TEST_G(self, "D18 a dial does not connect to itself") {
    tdl_addr  a = refusing();
    tdl_conn *c = NULL;
    char      text[ADDRESS_SIZE];
    tdl_addr_format(&a, text, sizeof text);
    tdl_dial_options o = { .size = sizeof o, .local = text }; /* what the system may pick by chance */
    CHECK_RC(tdl_dial_opts("tcp", text, &o, &c), -ECONNREFUSED);
    CHECK(c == NULL);
}

/* -- A unix backlog that is full -------------------------------------------------------------- */

static void dial_unix(void *arg) {
    attempt *a = arg;
    char     address[ADDRESS_SIZE];
    tdl_addr_format(&a->list[0], address, sizeof address);
    a->rc = tdl_dial("unix", address, 10 * TDL_SECOND, &a->c);
}

TEST_G(unix_backlog, "D18 a unix listener whose backlog is full is waited for, not failed") {
    enum { DIALS = 20, FULL = 8 };
    tdl_listen_options lo = { .size = sizeof lo, .backlog = 1 };
    tdl_listener      *l = NULL;
    tdl_conn          *first[FULL], *accepted;
    crew               k;
    attempt            a[DIALS];
    int                n = 0, rc = 0;
    CHECK_RC(tdl_listen_opts("unix", "@", &lo, &l), 0);
    char address[ADDRESS_SIZE];
    CHECK(tdl_listener_address(l, address, sizeof address) > 2);
    while (n < FULL && (rc = tdl_dial("unix", address, 20 * MS, &first[n])) == 0) n++;
    CHECK_RC(rc, TDL_ETIMEDOUT);
    CHECK_WITHIN(n, 1, FULL - 1);
    crew_open(&k);
    for (int i = 0; i < DIALS; i++) {
        a[i] = (attempt){ .rc = 99 };
        CHECK_RC(tdl_addr_parse(&a[i].list[0], "unix", address, 0), 0);
        crew_start(&k, i % 2, dial_unix, &a[i]);
    }
    for (int i = 0; i < DIALS + n; i++) {
        CHECK_RC(tdl_listener_accept(l, &accepted), 0);
        tdl_conn_free(accepted);
    }
    crew_close(&k);
    for (int i = 0; i < DIALS; i++) {
        CHECK_RC(a[i].rc, 0);
        tdl_conn_free(a[i].c);
    }
    for (int i = 0; i < n; i++) tdl_conn_free(first[i]);
    tdl_listener_free(l);
}

/* -- Hosts ------------------------------------------------------------------------------------------ */

static net_blackhole hole;
static char      alive[ADDRESS_SIZE];
static int       dialled;

static int actor_dials_list(actor *a, int result) {
    tdl_addr         list[2] = { addr(hole.address), addr(alive) };
    tdl_dial_options o = { .size = sizeof o, .fallback_delay = 5 * MS };
    if (a->state++ == 0) return tdl_dial_list_start(a->host, a->task, "tcp", list, 2, &o);
    dialled = result;
    if (result == 0) {
        tdl_conn *c = tdl_val_ptr(&outcome_of(a)->val);
        expect_peer(c, alive);
        tdl_conn_free(c);
    }
    return ACTOR_DONE;
}

static int actor_dials_with_options(actor *a, int result) {
    char             local[] = "127.0.0.3:0", text[ADDRESS_SIZE];
    tdl_dial_options o = { .size = sizeof o, .local = local, .timeout = 10 * TDL_SECOND };
    if (a->state++ == 0) {
        int rc = tdl_dial_opts_start(a->host, a->task, "tcp", alive, &o);
        memset(local, '?', sizeof local - 1); /* it was read */
        return rc;
    }
    if (CHECK_RC(result, 0)) {
        tdl_conn *c = tdl_val_ptr(&outcome_of(a)->val);
        CHECK(tdl_conn_sockname(c, text, sizeof text) > 0 && strncmp(text, "127.0.0.3:", 10) == 0);
        tdl_conn_free(c);
    }
    return ACTOR_DONE;
}

TEST(host, "H11 a task dials lists and from local addresses") {
    stage s;
    stage_open(&s, "dial");
    net_blackhole_open(&hole);
    tdl_listener *l = net_listen("tcp", alive);
    dialled = 99;
    stage_spawn(&s, actor_dials_list, NULL);
    stage_spawn(&s, actor_dials_with_options, NULL);
    stage_run(&s);
    CHECK_RC(dialled, 0);
    tdl_listener_free(l);
    net_blackhole_close(&hole);
    stage_close(&s);
}

TEST(host_closes, "H12 closing a host drops a dial with several attempts under way") {
    tdl_host *h = NULL;
    tdl_event ev;
    net_blackhole_open(&hole);
    tdl_addr         list[3] = { addr(hole.address), addr(hole.address), addr(hole.address) };
    tdl_dial_options o = { .size = sizeof o, .fallback_delay = MS };
    CHECK_RC(tdl_host_open("doomed", &h), 0);
    uint32_t t = (uint32_t)tdl_task_new(h, 0);
    CHECK_RC(tdl_dial_list_start(h, t, "tcp", list, 3, &o), TDL_PENDING);
    for (int i = 0; i < 10; i++) CHECK_INT(tdl_host_poll(h, &ev, 1, MS), 0);
    CHECK_RC(tdl_host_close(h), 0);
    net_blackhole_close(&hole);
}

/* -- While everything starts ------------------------------------------------------------- */

static int fail_at_once(void *arg) {
    tdl_conn *c = NULL;
    return tdl_dial("tcp", arg, 0, &c);
}

TEST(fails_at_start, "D38 a dial that fails while a run has just started is no deadlock") {
    char               address[ADDRESS_SIZE];
    struct sockaddr_in sa = { .sin_family = AF_INET };
    socklen_t          n = sizeof sa;
    int                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0);
    REQUIRE(getsockname(fd, (struct sockaddr *)&sa, &n) == 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(sa.sin_port)); /* bound, but nobody listens */
    for (int i = 0; i < SCALE(100); i++) CHECK_RC(tdl_run(fail_at_once, address), -ECONNREFUSED);
    close(fd);
}
