/* SPDX-License-Identifier: MIT
 * Listeners that the ring accepts for: connections are there before somebody asks for them.
 * None is lost, none is kept from its end, and no more are taken than somebody is there for. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT = 10 * 1000, BURST = 60 };

static int connect_to(tdl_listener *l) {
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)tdl_listener_port(l)) };
    int                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0);
    return fd;
}

static tdl_listener *listen_here(void) {
    char address[ADDRESS_SIZE];
    return net_listen("tcp", address);
}

/* The peer is told the end, and soon. */
static void check_over(int fd) {
    struct pollfd p = { .fd = fd, .events = POLLIN };
    char          byte;
    CHECK_INT(poll(&p, 1, WAIT), 1);
    CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) <= 0);
    close(fd);
}

static void let_arrive(void) { tdl_sleep(5 * TDL_MILLISECOND); }

static void accept_end(void *arg) { CHECK_RC(tdl_listener_accept(*(tdl_listener **)arg, &(tdl_conn *){ NULL }), TDL_ECANCELED); }

static void greet(tdl_conn *c) {
    char byte;
    net_read_full(c, &byte, 1);
    CHECK_RC(tdl_conn_write(c, &byte, 1), 1);
    tdl_conn_free(c);
}

/* Somebody has waited for l: the ring accepts for it from then on. */
static void begin(tdl_listener *l) {
    tdl_conn *c;
    tdl_listener_set_deadline(l, tdl_now() + 2 * TDL_MILLISECOND);
    CHECK_RC(tdl_listener_accept(l, &c), TDL_ETIMEDOUT);
    tdl_listener_set_deadline(l, 0);
}

TEST_G(bursts, "N6 bursts of connections: each is accepted once, and is the one that its peer has") {
    tdl_listener *l[2];
    CHECK_RC(tdl_listen_shards("tcp", "127.0.0.1:0", NULL, l, 2), 0);
    for (int round = 0; round < 3; round++) {
        int fd[BURST], got = 0;
        for (int i = 0; i < 2; i++) begin(l[i]);
        for (int i = 0; i < BURST; i++) {
            fd[i] = connect_to(l[0]);
            REQUIRE(send(fd[i], &(char){ (char)i }, 1, MSG_NOSIGNAL) == 1);
        }
        for (int i = 0; i < 2; i++) { /* a shard has what the system gives it */
            tdl_conn *c;
            tdl_listener_set_deadline(l[i], tdl_now() + (i ? WAIT : 300) * TDL_MILLISECOND);
            while (got < BURST && tdl_listener_accept(l[i], &c) == 0) {
                got++;
                greet(c);
            }
            tdl_listener_set_deadline(l[i], 0);
        }
        CHECK_INT(got, BURST);
        for (int i = 0; i < got && got == BURST; i++) {
            char byte = -1;
            CHECK(recv(fd[i], &byte, 1, 0) == 1 && byte == (char)i);
        }
        for (int i = 0; i < BURST; i++) close(fd[i]);
    }
    for (int i = 0; i < 2; i++) tdl_listener_free(l[i]);
}

TEST_G(unasked, "N6 while nobody accepts the ring stops taking connections: they wait in the backlog") {
    tdl_listener *l = listen_here();
    tdl_conn     *c;
    int           fd[BURST], before, held, procs = tdl_gomaxprocs(1);
    begin(l);
    before = open_fds();
    for (int i = 0; i < BURST; i++) {
        fd[i] = connect_to(l);
        if (i < 4) let_arrive();
    }
    let_arrive();
    held = open_fds() - before - BURST;
    CHECK_WITHIN(held, 0, 10);
    for (int i = 0; i < BURST; i++) {
        if (!CHECK_RC(tdl_listener_accept(l, &c), 0)) break;
        tdl_conn_free(c);
    }
    for (int i = 0; i < BURST; i++) check_over(fd[i]);
    tdl_listener_free(l);
    tdl_gomaxprocs(procs);
}

TEST_G(closed, "N6 the listener is closed: who had connected is told, whether or not the ring had accepted it") {
    for (int round = 0; round < SCALE(40); round++) {
        tdl_listener *l = listen_here();
        int           fd[8];
        begin(l);
        for (int i = 0; i < 8; i++) fd[i] = connect_to(l);
        if (round % 3 == 1) tdl_yield();
        if (round % 3 == 2) let_arrive();
        CHECK_RC(tdl_listener_close(l), 0);
        for (int i = 0; i < 8; i++) check_over(fd[i]);
        tdl_listener_free(l);
    }
}

TEST_G(next_one, "N6 a connection that came when an accept was cancelled, or too late, is the next one's") {
    for (int round = 0; round < SCALE(40); round++) {
        tdl_listener *l = listen_here();
        tdl_conn     *c;
        tdl_g        *g = go_joinable(accept_end, &l);
        let_park();
        tdl_cancel(g);
        tdl_join(g);
        int first = connect_to(l), second;
        if (round % 2) let_arrive();
        second = connect_to(l);
        for (int i = 0; i < 2; i++) {
            CHECK_RC(tdl_listener_accept(l, &c), 0);
            tdl_conn_free(c);
        }
        begin(l);
        check_over(first);
        check_over(second);
        tdl_listener_free(l);
    }
}

TEST_G(released, "N6 a listener is given back with its backlog; while it has accepted connections it is busy") {
    for (int round = 0; round < 10; round++) {
        tdl_listener *l = listen_here();
        tdl_conn     *c;
        int           got = 0, mine;
        begin(l);
        int fd[3] = { connect_to(l), connect_to(l), connect_to(l) };
        if (round % 2) let_arrive();
        while ((mine = tdl_listener_release(l)) == TDL_EBUSY && got < 3) {
            CHECK_RC(tdl_listener_accept(l, &c), 0);
            tdl_conn_free(c);
            got++;
        }
        if (!CHECK(mine >= 0)) break;
        for (; got < 3; got++) {
            int other = accept(mine, NULL, NULL);
            CHECK(other >= 0);
            close(other);
        }
        close(mine);
        for (int i = 0; i < 3; i++) check_over(fd[i]);
        tdl_listener_free(l);
    }
}

static void serve_one(tdl_conn *c, void *arg) {
    char byte;
    (void)arg;
    if (tdl_conn_read(c, &byte, 1) == 1)
        CHECK_RC(tdl_conn_write(c, &byte, 1), 1);
    else
        tdl_conn_close(c);
}

TEST_G(limited, "N6 a server with a limit: the others wait, hold few descriptors, and are served in their turn") {
    tdl_listener      *l = listen_here();
    tdl_server        *s;
    tdl_server_options o = { .size = sizeof o, .handler = serve_one, .max_conns = 3 };
    int                fd[BURST], before = open_fds();
    CHECK_RC(tdl_server_new(&l, 1, &o, &s), 0);
    for (int i = 0; i < BURST; i++) fd[i] = connect_to(l);
    let_arrive();
    CHECK_WITHIN(open_fds() - before - BURST, 0, 3 + 6); /* and perhaps a thread's */
    for (int i = 0; i < BURST; i++) {
        char byte = 'x';
        CHECK(send(fd[i], &byte, 1, MSG_NOSIGNAL) == 1);
        struct pollfd p = { .fd = fd[i], .events = POLLIN };
        while (poll(&p, 1, 0) == 0) tdl_sleep(50000);
        CHECK(recv(fd[i], &byte, 1, 0) == 1 && byte == 'x');
        close(fd[i]);
    }
    CHECK_RC(tdl_server_shutdown(s, tdl_now() + WAIT * TDL_MILLISECOND), 0);
    tdl_server_free(s); /* and the listener */
}

static tdl_listener *left;

static int leave(void *arg) {
    tdl_listener *l = left = listen_here();
    int          *fd = arg;
    begin(l);
    for (int i = 0; i < 4; i++) fd[i] = connect_to(l);
    let_arrive();
    return 0;
}

TEST(end_of_run, "N6 a run ends with connections that the ring has accepted: their peers are told") {
    int fd[4];
    CHECK_RC(tdl_run(leave, fd), 0);
    for (int i = 0; i < 4; i++) check_over(fd[i]);
    tdl_listener_free(left);
}
