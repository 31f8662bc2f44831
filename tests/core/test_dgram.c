/* SPDX-License-Identifier: MIT
 * Datagram sockets: UDP over both families and unix, one at a time and in
 * batches. */
#include "actors.h"
#include "check.h"
#include "net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MS = 1000000 };
#define LATE (5 * TDL_SECOND)

static const char *const *networks(void) {
    static const char *const two[] = { "udp", "unixgram", NULL };
    static const char *const all[] = { "udp", "unixgram", "udp6", "udp4", NULL };
    return net_networks()[2] ? all : two;
}

static tdl_dgram *listen_at(const char *network, tdl_addr *a) {
    tdl_dgram  *d = NULL;
    const char *any = strncmp(network, "unix", 4) == 0 ? "@" : strcmp(network, "udp6") == 0 ? "[::1]:0" : "127.0.0.1:0";
    CHECK_RC(tdl_dgram_listen(network, any, &d), 0);
    REQUIRE(d != NULL);
    CHECK_RC(tdl_dgram_sockaddr(d, a), 0);
    return d;
}

/* -- There and back --------------------------------------------------------------------- */

TEST_G(round_trip, "D2 datagrams go there and back, each to whom the one before came from") {
    for (const char *const *net = networks(); *net; net++) {
        tdl_addr   a, b, from;
        char       buf[100];
        tdl_dgram *x = listen_at(*net, &a), *y = listen_at(*net, &b);
        for (int i = 1; i < 50; i++) {
            memset(buf, i, sizeof buf);
            CHECK_RC(tdl_dgram_sendto(x, buf, (size_t)i, &b), i);
            CHECK_RC(tdl_dgram_recvfrom(y, buf, sizeof buf, &from), i);
            CHECK_INT(tdl_addr_equal(&from, &a), 1);
            CHECK_INT(buf[i - 1], i);
            CHECK_RC(tdl_dgram_sendto(y, "back", 4, &from), 4);
            CHECK_RC(tdl_dgram_recv(x, buf, sizeof buf), 4);
        }
        tdl_dgram_free(x);
        tdl_dgram_free(y);
    }
}

TEST_G(dialled, "D2 a dialled socket sends without an address and hears its peer alone") {
    for (const char *const *net = networks(); *net; net++) {
        tdl_addr   a, b, peer, from;
        char       buf[100], text[ADDRESS_SIZE];
        tdl_dgram *server = listen_at(*net, &a), *stranger = listen_at(*net, &b), *c = NULL;
        tdl_addr_format(&a, text, sizeof text);
        const char *own = strncmp(*net, "unix", 4) == 0 ? "@" : NULL;
        CHECK_RC(tdl_dgram_dial(*net, text, own, &c), 0);
        REQUIRE(c != NULL);
        CHECK_RC(tdl_dgram_peeraddr(c, &peer), 0);
        CHECK_INT(tdl_addr_equal(&peer, &a), 1);
        CHECK_RC(tdl_dgram_send(c, "hello", 5), 5);
        CHECK_RC(tdl_dgram_recvfrom(server, buf, sizeof buf, &from), 5);
        int64_t rc = tdl_dgram_sendto(stranger, "psst", 4, &from);
        CHECK(rc == 4 || rc == -EPERM); /* unix says so */
        CHECK_RC(tdl_dgram_sendto(server, "answer", 6, &from), 6);
        CHECK_RC(tdl_dgram_recv(c, buf, sizeof buf), 6);
        CHECK(memcmp(buf, "answer", 6) == 0);
        CHECK_RC(tdl_dgram_peeraddr(server, &peer), -ENOTCONN);
        CHECK_RC(tdl_dgram_send(server, "x", 1), strncmp(*net, "unix", 4) == 0 ? -ENOTCONN : -EDESTADDRREQ);
        tdl_dgram_free(server);
        tdl_dgram_free(stranger);
        tdl_dgram_free(c);
    }
}

TEST_G(empty, "D24 an empty datagram arrives as one, and so do those after it") {
    for (const char *const *net = networks(); *net; net++) {
        tdl_addr   a, b, from;
        char       buf[4];
        tdl_dgram *x = listen_at(*net, &a), *y = listen_at(*net, &b);
        CHECK_RC(tdl_dgram_sendto(x, NULL, 0, &b), 0);
        CHECK_RC(tdl_dgram_sendto(x, "", 0, &b), 0);
        CHECK_RC(tdl_dgram_sendto(x, "ab", 2, &b), 2);
        CHECK_RC(tdl_dgram_recvfrom(y, buf, sizeof buf, &from), 0);
        CHECK_INT(tdl_addr_equal(&from, &a), 1);
        CHECK_RC(tdl_dgram_recvfrom(y, NULL, 0, &from), 0); /* no room is needed for it */
        CHECK_RC(tdl_dgram_recvfrom(y, buf, sizeof buf, &from), 2);
        tdl_dgram_free(x);
        tdl_dgram_free(y);
    }
}

TEST_G(truncated, "F6 a datagram that is longer than the room is said to be cut, and the next is whole") {
    for (const char *const *net = networks(); *net; net++) {
        tdl_addr   a, b, from;
        char       buf[8];
        tdl_dgram *x = listen_at(*net, &a), *y = listen_at(*net, &b);
        CHECK_RC(tdl_dgram_sendto(x, "0123456789", 10, &b), 10);
        CHECK_RC(tdl_dgram_sendto(x, "gone", 4, &b), 4);
        CHECK_RC(tdl_dgram_sendto(x, "next", 4, &b), 4);
        CHECK_RC(tdl_dgram_recvfrom(y, buf, 4, &from), TDL_ETRUNCATED);
        CHECK(memcmp(buf, "0123", 4) == 0);
        CHECK_INT(tdl_addr_equal(&from, &a), 1);
        CHECK_RC(tdl_dgram_recv(y, NULL, 0), TDL_ETRUNCATED);
        CHECK_RC(tdl_dgram_recv(y, buf, 4), 4); /* exactly the room */
        CHECK(memcmp(buf, "next", 4) == 0);
        tdl_dgram_free(x);
        tdl_dgram_free(y);
    }
}

TEST_G(too_long, "F6 a datagram that is too long for the network is refused, and nothing of it sent") {
    tdl_addr   a, b;
    char      *huge = calloc(1, 1 << 20), byte;
    tdl_dgram *x = listen_at("udp", &a), *y = listen_at("udp", &b);
    CHECK_RC(tdl_dgram_sendto(x, huge, 65508, &b), -EMSGSIZE);
    CHECK_RC(tdl_dgram_sendto(x, huge, 1 << 20, &b), -EMSGSIZE);
    CHECK_RC(tdl_dgram_sendto(x, "!", 1, &b), 1);
    CHECK_RC(tdl_dgram_recv(y, &byte, 1), 1);
    CHECK_INT(byte, '!');
    tdl_dgram_free(x);
    tdl_dgram_free(y);
    free(huge);
}

TEST_G(nobody_there, "D22 a dialled socket hears that nobody is at its peer's port") {
    tdl_addr   a;
    char       text[ADDRESS_SIZE], buf[4];
    tdl_dgram *gone = listen_at("udp", &a), *c = NULL;
    tdl_addr_format(&a, text, sizeof text);
    tdl_dgram_free(gone);
    CHECK_RC(tdl_dgram_dial("udp", text, NULL, &c), 0);
    CHECK_RC(tdl_dgram_send(c, "anybody?", 8), 8);
    tdl_dgram_set_read_deadline(c, tdl_now() + LATE);
    CHECK_RC(tdl_dgram_recv(c, buf, sizeof buf), -ECONNREFUSED);
    tdl_dgram_free(c);
    CHECK_RC(tdl_dgram_dial("unixgram", "@treadle-nobody-is-here", NULL, &c), -ECONNREFUSED);
    CHECK(c == NULL);
}

/* -- Families, addresses, misuse ---------------------------------------------------------------- */

TEST_G(both_families, "D21 a socket on all interfaces is reached over both families, and answers over both") {
    if (!net_networks()[2]) {
        check_skip("no IPv6");
        return;
    }
    static const char *const clients[] = { "127.0.0.1:0", "[::1]:0" };
    tdl_dgram               *all = NULL;
    tdl_addr                 at, from;
    char                     buf[8], text[ADDRESS_SIZE];
    CHECK_RC(tdl_dgram_listen("udp", ":0", &all), 0);
    CHECK_RC(tdl_dgram_sockaddr(all, &at), 0);
    for (int i = 0; i < 2; i++) {
        tdl_dgram *c = NULL;
        tdl_addr   to;
        CHECK_RC(tdl_dgram_listen("udp", clients[i], &c), 0);
        snprintf(text, sizeof text, i ? "[::1]:%d" : "127.0.0.1:%d", tdl_addr_port(&at));
        CHECK_RC(tdl_addr_parse(&to, "udp", text, 0), 0);
        CHECK_RC(tdl_dgram_sendto(c, "hi", 2, &to), 2);
        CHECK_RC(tdl_dgram_recvfrom(all, buf, sizeof buf, &from), 2);
        CHECK(tdl_addr_format(&from, text, sizeof text) > 0);
        CHECK(strncmp(text, i ? "[::1]:" : "127.0.0.1:", 6) == 0);
        CHECK_RC(tdl_addr_parse(&to, "udp", text, 0), 0); /* an address that went through text */
        CHECK_RC(tdl_dgram_sendto(all, "yo", 2, &to), 2);
        CHECK_RC(tdl_dgram_recv(c, buf, sizeof buf), 2);
        tdl_dgram_free(c);
    }
    tdl_dgram_free(all);
    tdl_dgram *v4 = NULL;
    CHECK_RC(tdl_dgram_listen("udp4", "127.0.0.1:0", &v4), 0);
    CHECK_RC(tdl_addr_parse(&at, "udp", "[::1]:9", 0), 0);
    CHECK_RC(tdl_dgram_sendto(v4, "x", 1, &at), TDL_EADDRESS);
    tdl_dgram_free(v4);
}

TEST_G(unix_path, "D21 the path of a unix datagram socket goes with it, also with the end of a run") {
    char        path[64];
    struct stat st;
    tdl_dgram  *d = NULL, *second = NULL;
    snprintf(path, sizeof path, "/tmp/treadle-dgram-%d.sock", (int)getpid());
    unlink(path);
    CHECK_RC(tdl_dgram_listen("unixgram", path, &d), 0);
    CHECK(stat(path, &st) == 0);
    CHECK_RC(tdl_dgram_listen("unixgram", path, &second), -EADDRINUSE);
    CHECK(stat(path, &st) == 0);
    CHECK_RC(tdl_dgram_close(d), 0);
    CHECK(stat(path, &st) != 0);
    tdl_dgram_free(d);
}

TEST_G(misuse, "F5 bad arguments of datagram calls are refused; a closed socket says so") {
    tdl_addr   a;
    char       buf[4];
    tdl_packet p = { .data = buf, .size = sizeof buf };
    tdl_dgram *d = listen_at("udp", &a), *none = NULL;
    CHECK_RC(tdl_dgram_listen("tcp", "127.0.0.1:0", &none), TDL_ENETWORK);
    CHECK_RC(tdl_dgram_listen("udp", "127.0.0.1:70000", &none), TDL_EPORT);
    CHECK_RC(tdl_dgram_listen(NULL, "127.0.0.1:0", &none), TDL_EINVAL);
    CHECK_RC(tdl_dgram_listen("udp", "127.0.0.1:0", NULL), TDL_EINVAL);
    CHECK_RC(tdl_dgram_dial("udp", "nonsense", NULL, &none), TDL_EPORT);
    CHECK_RC(tdl_dgram_dial("udp", "127.0.0.1:9", "[::1]:0", &none), TDL_EADDRESS);
    CHECK_RC(tdl_dgram_dial("unix", "/x", NULL, &none), TDL_ENETWORK);
    CHECK(none == NULL);
    CHECK_RC(tdl_dgram_recv(NULL, buf, 1), TDL_EINVAL);
    CHECK_RC(tdl_dgram_recv(d, NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_dgram_sendto(d, NULL, 1, &a), TDL_EINVAL);
    CHECK_RC(tdl_dgram_sendto(d, buf, 1, NULL), TDL_EINVAL);
    CHECK_RC(tdl_dgram_recv_batch(d, NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_dgram_recv_batch(d, &p, 0), TDL_EINVAL);
    CHECK_RC(tdl_dgram_send_batch(d, &p, -1), TDL_EINVAL);
    p.data = NULL;
    CHECK_RC(tdl_dgram_recv_batch(d, &p, 1), TDL_EINVAL);
    CHECK_RC(tdl_dgram_set_option(d, TDL_BROADCAST, 1), 0);
    CHECK_RC(tdl_dgram_option(d, TDL_BROADCAST), 1);
    CHECK_RC(tdl_dgram_close(d), 0);
    CHECK_RC(tdl_dgram_close(d), TDL_ECLOSED);
    CHECK_RC(tdl_dgram_recv(d, buf, 1), TDL_ECLOSED);
    CHECK_RC(tdl_dgram_sendto(d, buf, 1, &a), TDL_ECLOSED);
    CHECK_RC(tdl_dgram_fd(d), TDL_ECLOSED);
    CHECK_RC(tdl_dgram_sockaddr(d, &a), TDL_ECLOSED);
    tdl_dgram_free(d);
    tdl_dgram_free(NULL);
}

/* -- Time, close, cancel -------------------------------------------------------------------------- */

typedef struct receiving {
    tdl_dgram *d;
    int64_t    rc;
} receiving;

static void receive(void *arg) {
    receiving *r = arg;
    char       buf[8];
    r->rc = tdl_dgram_recv(r->d, buf, sizeof buf);
}

TEST_G(woken, "D8 deadline, close and cancel each end a receive that waits") {
    for (int how = 0; how < 3; how++) {
        tdl_addr  a;
        receiving r = { listen_at("udp", &a), 99 };
        tdl_g    *g = go_joinable(receive, &r);
        let_park();
        if (how == 0) tdl_dgram_set_read_deadline(r.d, tdl_now() + 10 * MS);
        if (how == 1) CHECK_RC(tdl_dgram_close(r.d), 0);
        if (how == 2) CHECK_RC(tdl_cancel(g), 0);
        CHECK_RC(tdl_join(g), 0);
        static const int want[] = { TDL_ETIMEDOUT, TDL_ECLOSED, TDL_ECANCELED };
        CHECK_RC(r.rc, want[how]);
        tdl_dgram_free(r.d);
    }
}

TEST_G(past_wins, "D12 a past deadline wins over a datagram that is there, and over room to send") {
    tdl_addr   a;
    char       buf[8];
    tdl_dgram *d = listen_at("udp", &a);
    CHECK_RC(tdl_dgram_sendto(d, "self", 4, &a), 4);
    tdl_dgram_set_deadline(d, -1);
    CHECK_RC(tdl_dgram_recv(d, buf, sizeof buf), TDL_ETIMEDOUT);
    CHECK_RC(tdl_dgram_sendto(d, "self", 4, &a), TDL_ETIMEDOUT);
    tdl_dgram_set_deadline(d, 0);
    CHECK_RC(tdl_dgram_recv(d, buf, sizeof buf), 4);
    tdl_dgram_set_timeout(d, 10 * MS);
    CHECK_RC(tdl_dgram_recv(d, buf, sizeof buf), TDL_ETIMEDOUT);
    tdl_dgram_free(d);
}

static void drain_slowly(void *arg) {
    char buf[16];
    tdl_sleep(20 * MS);
    for (int i = 0; i < 1000; i++) CHECK_RC(tdl_dgram_recv(arg, buf, sizeof buf), 5);
}

TEST_G(full_peer, "D13 sends to a unix peer that does not read wait for room, dialled or not") {
    for (int connected = 0; connected < 2; connected++) {
        tdl_addr   a, b;
        char       text[ADDRESS_SIZE];
        crew       c;
        tdl_dgram *server = listen_at("unixgram", &a), *d = NULL;
        tdl_addr_format(&a, text, sizeof text);
        if (connected)
            CHECK_RC(tdl_dgram_dial("unixgram", text, NULL, &d), 0);
        else
            d = listen_at("unixgram", &b);
        tdl_dgram_set_write_deadline(d, tdl_now() + 30 * MS);
        int     n = 0;
        int64_t rc;
        while ((rc = connected ? tdl_dgram_send(d, "hello", 5) : tdl_dgram_sendto(d, "hello", 5, &a)) == 5 && n < 1000) n++;
        CHECK_RC(rc, TDL_ETIMEDOUT);
        tdl_dgram_set_write_deadline(d, 0);
        crew_open(&c);
        crew_go(&c, drain_slowly, server);
        for (int i = n; i < 1000; i++)
            CHECK_RC(connected ? tdl_dgram_send(d, "hello", 5) : tdl_dgram_sendto(d, "hello", 5, &a), 5);
        crew_close(&c);
        tdl_dgram_free(server);
        tdl_dgram_free(d);
    }
}

/* -- Batches ---------------------------------------------------------------------------------------- */

enum { BATCH = 100, ROOM = 32 };

typedef struct batch {
    tdl_packet p[BATCH];
    tdl_addr   addr[BATCH];
    char       data[BATCH][ROOM];
} batch;

static batch *batch_new(void) {
    batch *b = calloc(1, sizeof *b);
    for (int i = 0; i < BATCH; i++) b->p[i] = (tdl_packet){ .data = b->data[i], .size = ROOM, .addr = &b->addr[i] };
    return b;
}

TEST_G(batches, "D2 a hundred datagrams go out in one call and come in in a few, with their senders") {
    for (const char *const *net = networks(); *net; net++) {
        tdl_addr   a, b;
        batch     *out = batch_new(), *in = batch_new();
        tdl_dgram *x = listen_at(*net, &a), *y = listen_at(*net, &b);
        int        unixgram = strncmp(*net, "unix", 4) == 0, count = unixgram ? 8 : BATCH, got = 0;
        for (int i = 0; i < count; i++) {
            out->addr[i] = b;
            out->p[i].size = (size_t)snprintf(out->data[i], ROOM, "packet %d", i);
        }
        out->p[3].size = 0; /* one is empty */
        CHECK_RC(tdl_dgram_send_batch(x, out->p, count), count);
        tdl_dgram_set_read_deadline(y, tdl_now() + LATE);
        while (got < count) {
            in->p[0].size = got == 5 ? 4 : ROOM;
            int n = tdl_dgram_recv_batch(y, in->p, got < 10 ? 1 : BATCH);
            if (!CHECK(n > 0)) break;
            for (int i = 0; i < n; i++, got++) {
                int cut = got == 5;
                CHECK_INT(tdl_addr_equal(&in->addr[i], &a), 1);
                CHECK_RC(in->p[i].code, cut ? TDL_ETRUNCATED : 0);
                CHECK_INT(in->p[i].n, cut ? 4 : out->p[got].size);
                CHECK(memcmp(in->data[i], out->data[got], in->p[i].n) == 0);
            }
        }
        CHECK_INT(got, count);
        tdl_dgram_set_read_deadline(y, tdl_now() + 5 * MS);
        CHECK_RC(tdl_dgram_recv_batch(y, in->p, BATCH), TDL_ETIMEDOUT);
        tdl_dgram_free(x);
        tdl_dgram_free(y);
        free(out);
        free(in);
    }
}

TEST_G(batch_error, "F6 a batch stops before the datagram that cannot go, whose error comes when it is the first") {
    tdl_addr   a, b;
    char      *huge = calloc(1, 70000), buf[8];
    batch     *out = batch_new();
    tdl_dgram *x = listen_at("udp", &a), *y = listen_at("udp", &b);
    for (int i = 0; i < 5; i++) {
        out->addr[i] = b;
        out->p[i].size = 1;
    }
    out->p[2].data = huge;
    out->p[2].size = 70000;
    CHECK_RC(tdl_dgram_send_batch(x, out->p, 5), 2);
    CHECK_RC(tdl_dgram_send_batch(x, out->p + 2, 3), -EMSGSIZE);
    CHECK_RC(tdl_dgram_send_batch(x, out->p + 3, 2), 2);
    for (int i = 0; i < 4; i++) CHECK_RC(tdl_dgram_recv(y, buf, sizeof buf), 1);
    CHECK_RC(tdl_addr_parse(&out->addr[1], "unixgram", "/x", 0), 0);
    CHECK_RC(tdl_dgram_send_batch(x, out->p, 2), TDL_EADDRESS);
    tdl_dgram_free(x);
    tdl_dgram_free(y);
    free(out);
    free(huge);
}

static void receive_batches(void *arg) {
    batch *in = batch_new();
    int    got = 0;
    tdl_dgram_set_read_deadline(arg, tdl_now() + 10 * TDL_SECOND);
    while (got < 500) {
        int n = tdl_dgram_recv_batch(arg, in->p, 7);
        if (!CHECK(n > 0)) break;
        for (int i = 0; i < n; i++, got++) CHECK_INT((unsigned char)in->data[i][0], (got & 255));
    }
    free(in);
}

TEST_G(batch_full, "D13 a batch to a unix peer that is full waits, and arrives in order") {
    tdl_addr   a;
    char       text[ADDRESS_SIZE];
    crew       c;
    tdl_dgram *server = listen_at("unixgram", &a), *d = NULL;
    batch     *out = batch_new();
    tdl_addr_format(&a, text, sizeof text);
    CHECK_RC(tdl_dgram_dial("unixgram", text, NULL, &d), 0);
    crew_open(&c);
    crew_go(&c, receive_batches, server);
    for (int k = 0; k < 5; k++) {
        for (int i = 0; i < BATCH; i++) {
            out->data[i][0] = (char)(k * BATCH + i);
            out->p[i].size = 1;
            out->p[i].addr = NULL;
        }
        CHECK_RC(tdl_dgram_send_batch(d, out->p, BATCH), BATCH);
    }
    crew_close(&c);
    tdl_dgram_free(server);
    tdl_dgram_free(d);
    free(out);
}

/* -- Users' sockets -------------------------------------------------------------------------------- */

TEST_G(adopted, "D33 a datagram socket of the user's is adopted and given back as it was") {
    int        fd[2];
    char       buf[8];
    tdl_dgram *d = NULL;
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fd) == 0);
    CHECK_RC(tdl_dgram_adopt(fd[0], &d), 0);
    CHECK_RC(tdl_dgram_send(d, "over", 4), 4);
    CHECK_INT(read(fd[1], buf, sizeof buf), 4);
    CHECK_INT(write(fd[1], "and back", 8), 8);
    CHECK_RC(tdl_dgram_recv(d, buf, sizeof buf), 8);
    CHECK_RC(tdl_dgram_release(d), fd[0]);
    CHECK_RC(tdl_dgram_recv(d, buf, sizeof buf), TDL_ECLOSED);
    CHECK_INT(write(fd[1], "x", 1), 1);
    CHECK_INT(read(fd[0], buf, 1), 1); /* blocking again, and ours */
    tdl_dgram_free(d);
    close(fd[0]);
    close(fd[1]);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
    CHECK_RC(tdl_dgram_adopt(fd[0], &d), TDL_EINVAL);
    CHECK_RC(tdl_dgram_adopt(-1, &d), -EBADF);
    close(fd[0]);
    close(fd[1]);
}

/* -- Hosts -------------------------------------------------------------------------------------------- */

typedef struct station {
    tdl_dgram *d;
    tdl_addr   from, to;
    char       buf[16];
    int        rounds;
} station;

static int actor_answers(actor *a, int result) {
    station *s = a->data;
    switch (a->state) {
    case 1:
        CHECK_RC(result, 4);
        a->state = 2;
        return tdl_dgram_send_start(a->host, a->task, s->d, s->buf, 4, &s->from);
    case 2:
        CHECK_RC(result, 4);
        if (--s->rounds == 0) return ACTOR_DONE; /* fall through */
    }
    a->state = 1;
    return tdl_dgram_recv_start(a->host, a->task, s->d, s->buf, sizeof s->buf, &s->from);
}

static int actor_asks(actor *a, int result) {
    station *s = a->data;
    char     text[5];
    switch (a->state) {
    case 1:
        CHECK_RC(result, 4);
        a->state = 2;
        return tdl_dgram_recv_start(a->host, a->task, s->d, s->buf, sizeof s->buf, &s->from);
    case 2:
        CHECK_RC(result, 4);
        CHECK_INT(tdl_addr_equal(&s->from, &s->to), 1);
        if (--s->rounds == 0) return ACTOR_DONE; /* fall through */
    }
    a->state = 1;
    snprintf(text, sizeof text, "%04d", s->rounds);
    tdl_addr to = s->to;
    int      rc = tdl_dgram_send_start(a->host, a->task, s->d, text, 4, &to);
    memset(&to, 0, sizeof to); /* what had to wait was copied */
    memset(text, 0, sizeof text);
    return rc;
}

TEST(on_host, "H11 tasks send and receive datagrams") {
    for (const char *const *net = networks(); *net; net++) {
        stage   s;
        station x = { .rounds = 100 }, y = { .rounds = 100 };
        stage_open(&s, "dgram");
        x.d = listen_at(*net, &y.to);
        y.d = listen_at(*net, &x.to);
        stage_spawn(&s, actor_answers, &x);
        stage_spawn(&s, actor_asks, &y);
        stage_run(&s);
        tdl_dgram_free(x.d);
        tdl_dgram_free(y.d);
        stage_close(&s);
    }
}

static tdl_dgram *flooded;
static int        drained;

static int actor_floods(actor *a, int result) {
    char text[8];
    if (a->state++ > 0) CHECK_RC(result, 8);
    if (a->n == 300) return ACTOR_DONE;
    memset(text, (int)a->n++, sizeof text);
    tdl_addr *to = a->data;
    int       rc = tdl_dgram_send_start(a->host, a->task, flooded, text, sizeof text, to);
    memset(text, 0xee, sizeof text);
    return rc;
}

static batch *incoming;

static int actor_drains(actor *a, int result) {
    if (a->state++ > 0) {
        if (!CHECK(result > 0)) return ACTOR_DONE;
        for (int i = 0; i < result; i++, drained++) {
            CHECK_INT(incoming->p[i].n, 8);
            CHECK_INT((unsigned char)incoming->data[i][7], drained & 255);
        }
        if (drained == 300) return ACTOR_DONE;
    }
    return tdl_dgram_recv_batch_start(a->host, a->task, a->data, incoming->p, 3);
}

TEST(flood_on_host, "H11 a task's datagrams that have to wait are copied, and arrive in order") {
    stage      s;
    tdl_addr   a, b;
    stage_open(&s, "flood");
    incoming = batch_new();
    drained = 0;
    tdl_dgram *server = listen_at("unixgram", &a);
    flooded = listen_at("unixgram", &b);
    stage_spawn(&s, actor_floods, &a);
    stage_spawn(&s, actor_drains, server);
    stage_run(&s);
    CHECK_INT(drained, 300);
    tdl_dgram_free(server);
    tdl_dgram_free(flooded);
    stage_close(&s);
    free(incoming);
}
