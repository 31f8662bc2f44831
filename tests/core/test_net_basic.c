/* SPDX-License-Identifier: MIT
 * Streams and listeners: bytes there and back, addresses, many at a time. */
#include "check.h"
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define EACH_NETWORK(net) for (const char *const *net = net_networks(); *net; net++)

/* -- D1, D2: bytes there and back ----------------------------------------------------- */

enum { KIB = 1024 };

static void write_mebibyte(void *arg) {
    char chunk[KIB];
    for (int i = 0; i < KIB; i++) {
        memset(chunk, i, sizeof chunk);
        CHECK_RC(tdl_conn_write(arg, chunk, sizeof chunk), sizeof chunk);
    }
    CHECK_RC(tdl_conn_close(arg), 0);
}

TEST_G(basic_io, "D1 a mebibyte in chunks of 1 KiB, and then the end of the stream") {
    EACH_NETWORK(net) {
        tdl_conn *a, *b;
        crew      c;
        char      chunk[KIB];
        net_pair(*net, &a, &b);
        crew_open(&c);
        crew_go(&c, write_mebibyte, a);
        for (int i = 0; i < KIB; i++) {
            net_read_full(b, chunk, sizeof chunk);
            CHECK_INT((unsigned char)chunk[0], i & 255);
            CHECK_INT((unsigned char)chunk[KIB - 1], i & 255);
        }
        for (int i = 0; i < 3; i++) CHECK_RC(tdl_conn_read(b, chunk, sizeof chunk), 0);
        crew_close(&c);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

static void count_to_1000(void *arg) {
    for (int64_t i = 0;;) {
        int64_t n = tdl_conn_read(arg, &i, sizeof i);
        if (n == 0) break;
        CHECK_INT(n, sizeof i);
        i++;
        CHECK_RC(tdl_conn_write(arg, &i, sizeof i), sizeof i);
    }
}

TEST_G(ping_pong, "D2 two ends count to 1 000 together") {
    EACH_NETWORK(net) {
        tdl_conn *a, *b;
        crew      c;
        int64_t   n = 0;
        net_pair(*net, &a, &b);
        crew_open(&c);
        crew_go(&c, count_to_1000, b);
        while (n < 1000) {
            n++;
            CHECK_RC(tdl_conn_write(a, &n, sizeof n), sizeof n);
            net_read_full(a, &n, sizeof n);
        }
        CHECK_INT(n, 1000);
        tdl_conn_close(a);
        crew_close(&c);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

TEST_G(zero_bytes, "D23 reading or writing no bytes returns at once") {
    tdl_conn *a, *b;
    char      byte = 0;
    net_pair("tcp", &a, &b);
    CHECK_RC(tdl_conn_read(a, &byte, 0), 0);
    CHECK_RC(tdl_conn_read(a, NULL, 0), 0);
    CHECK_RC(tdl_conn_write(a, &byte, 0), 0);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

/* -- D29: large writes --------------------------------------------------------------------- */

enum { BIG = 8 * 1024 * 1024 };

typedef struct big_write {
    tdl_conn *c;
    char     *data;
    size_t    n;
} big_write;

static void write_big(void *arg) {
    big_write *w = arg;
    CHECK_RC(tdl_conn_write(w->c, w->data, w->n), w->n);
    tdl_conn_close_write(w->c);
}

TEST_G(big, "D29 one write of many megabytes arrives whole, through small socket buffers") {
    EACH_NETWORK(net) {
        big_write w = { .n = SCALE(BIG), .data = malloc(BIG) };
        tdl_conn *b;
        char      buf[8192];
        crew      c;
        size_t    total = 0;
        int64_t   n;
        net_pair(*net, &w.c, &b);
        net_small_buffers(tdl_conn_fd(w.c));
        for (size_t i = 0; i < w.n; i++) w.data[i] = (char)(i * 31 >> 3);
        crew_open(&c);
        crew_go(&c, write_big, &w);
        while ((n = tdl_conn_read(b, buf, sizeof buf)) > 0) {
            CHECK(memcmp(buf, w.data + total, (size_t)n) == 0);
            total += (size_t)n;
        }
        CHECK_RC(n, 0);
        CHECK_INT(total, w.n);
        crew_close(&c);
        tdl_conn_free(w.c);
        tdl_conn_free(b);
        free(w.data);
    }
}

/* -- D28: stress ------------------------------------------------------------------------------ */

enum { BLOCK = 512 };

static void echo(void *arg) {
    char    buf[BLOCK];
    int64_t n;
    while ((n = tdl_conn_read(arg, buf, sizeof buf)) > 0) CHECK_RC(tdl_conn_write(arg, buf, (size_t)n), n);
    CHECK_RC(n, 0);
}

static void ask_for_echo(void *arg) {
    char out[BLOCK], in[BLOCK];
    for (int i = 0; i < SCALE(5000); i++) {
        memset(out, i, sizeof out);
        CHECK_RC(tdl_conn_write(arg, out, sizeof out), sizeof out);
        net_read_full(arg, in, sizeof in);
        CHECK(memcmp(in, out, sizeof in) == 0);
    }
    tdl_conn_close(arg);
}

TEST_G(echo_stress, "D28 two connections echo 5 000 blocks of 512 bytes each") {
    tdl_conn *a[2], *b[2];
    crew      c;
    check_limit(60);
    crew_open(&c);
    for (int i = 0; i < 2; i++) {
        net_pair("tcp", &a[i], &b[i]);
        crew_go(&c, echo, b[i]);
        crew_go(&c, ask_for_echo, a[i]);
    }
    crew_close(&c);
    for (int i = 0; i < 2; i++) {
        tdl_conn_free(a[i]);
        tdl_conn_free(b[i]);
    }
}

/* -- D27: many dials, many acceptors -------------------------------------------------------------- */

typedef struct acceptance {
    tdl_listener *l;
    atomic_int    accepted, ended;
} acceptance;

static void accept_all(void *arg) {
    acceptance *a = arg;
    tdl_conn   *c;
    int         rc;
    while ((rc = tdl_listener_accept(a->l, &c)) == 0) {
        char byte = 'x';
        atomic_fetch_add(&a->accepted, 1);
        CHECK_RC(tdl_conn_write(c, &byte, 1), 1);
        tdl_conn_free(c);
    }
    CHECK_RC(rc, TDL_ECLOSED);
    atomic_fetch_add(&a->ended, 1);
}

typedef struct dialling {
    const char *network, *address;
    atomic_int  ok;
} dialling;

static void dial_once(void *arg) {
    dialling *d = arg;
    tdl_conn *c = NULL;
    char      byte;
    int       rc = tdl_dial(d->network, d->address, 0, &c);
    if (!CHECK_RC(rc, 0)) return;
    CHECK_RC(tdl_conn_read(c, &byte, 1), 1);
    CHECK_RC(tdl_conn_read(c, &byte, 1), 0);
    atomic_fetch_add(&d->ok, 1);
    tdl_conn_free(c);
}

TEST_G(concurrent_accept, "D27 ten acceptors serve a hundred dials, and close releases all ten") {
    EACH_NETWORK(net) {
        char       address[ADDRESS_SIZE];
        acceptance a = { .l = net_listen(*net, address) };
        dialling   d = { *net, address, 0 };
        crew       acceptors, dials;
        crew_open(&acceptors);
        crew_open(&dials);
        for (int i = 0; i < 10; i++) crew_go(&acceptors, accept_all, &a);
        for (int i = 0; i < 100; i++) crew_go(&dials, dial_once, &d);
        crew_close(&dials);
        CHECK_INT(atomic_load(&d.ok), 100);
        CHECK_INT(atomic_load(&a.accepted), 100);
        CHECK_RC(tdl_listener_close(a.l), 0);
        crew_close(&acceptors);
        CHECK_INT(atomic_load(&a.ended), 10);
        tdl_listener_free(a.l);
    }
}

typedef struct announced {
    tdl_listener *l;
    tdl_chan     *chan;
} announced;

/* As a case of a select: its channel says that somebody is there, or how the wait ended. */
static void announce(void *arg) {
    announced *a = arg;
    send_int(a->chan, tdl_listener_wait(a->l));
}

TEST_G(accept_in_select, "D27 who waits for a listener takes nothing: select, and then take what is still there") {
    EACH_NETWORK(net) {
        char       address[ADDRESS_SIZE];
        announced  a = { net_listen(*net, address), tdl_chan_new(1) };
        tdl_conn  *near_end = NULL, *far_end = NULL;
        crew       c;
        tdl_val    v;
        CHECK_RC(tdl_listener_try_accept(a.l, &far_end), TDL_EAGAIN);
        crew_open(&c);
        crew_go(&c, announce, &a);
        let_park();
        tdl_case cases[2] = { { .op = TDL_RECV }, { .chan = a.chan, .val = &v, .op = TDL_RECV } };
        CHECK_RC(tdl_select(cases, 2, TDL_NOWAIT), TDL_EAGAIN);
        CHECK_RC(tdl_dial(*net, address, 0, &near_end), 0);
        CHECK_RC(tdl_select(cases, 2, TDL_FOREVER), 1);
        CHECK_INT(tdl_val_int(&v), 0);
        for (int i = 0; i < 3; i++) CHECK_RC(tdl_listener_wait(a.l), 0); /* it is still there */
        CHECK_RC(tdl_listener_try_accept(a.l, &far_end), 0);
        net_carries(near_end, far_end);
        tdl_conn_free(near_end);
        tdl_conn_free(far_end);
        CHECK_RC(tdl_listener_try_accept(a.l, &far_end), TDL_EAGAIN);
        CHECK(far_end == NULL);
        tdl_listener_set_deadline(a.l, tdl_now() + 5 * TDL_MILLISECOND);
        CHECK_RC(tdl_listener_wait(a.l), TDL_ETIMEDOUT);
        tdl_listener_set_deadline(a.l, 0);
        crew_go(&c, announce, &a);
        let_park();
        CHECK_RC(tdl_listener_close(a.l), 0);
        CHECK_INT(recv_int(a.chan), TDL_ECLOSED);
        crew_close(&c);
        CHECK_RC(tdl_listener_try_accept(a.l, &far_end), TDL_ECLOSED);
        CHECK_RC(tdl_listener_try_accept(NULL, &far_end), TDL_EINVAL);
        CHECK_RC(tdl_listener_try_accept(a.l, NULL), TDL_EINVAL);
        CHECK_RC(tdl_listener_wait(NULL), TDL_EINVAL);
        tdl_listener_free(a.l);
        tdl_chan_free(a.chan);
    }
}

/* -- D37: several callers on one connection ------------------------------------------------------------ */

typedef struct sharing {
    tdl_conn  *c;
    atomic_int next, total;
    int        id;
} sharing;

enum { RECORD = 3000, RECORDS = 50, WRITERS = 4 };

static void write_records(void *arg) {
    sharing *s = arg;
    char     record[RECORD];
    memset(record, 'a' + atomic_fetch_add(&s->next, 1), sizeof record);
    for (int i = 0; i < RECORDS; i++) CHECK_RC(tdl_conn_write(s->c, record, sizeof record), sizeof record);
}

TEST_G(writers, "D37 writes of several callers never mix") {
    tdl_conn *b;
    sharing   s = { 0 };
    char      record[RECORD];
    int       count[WRITERS] = { 0 };
    crew      c;
    net_pair("tcp", &s.c, &b);
    net_small_buffers(tdl_conn_fd(s.c));
    crew_open(&c);
    for (int i = 0; i < WRITERS; i++) crew_start(&c, i == 0, write_records, &s);
    for (int i = 0; i < WRITERS * RECORDS; i++) {
        net_read_full(b, record, sizeof record);
        for (int j = 1; j < RECORD; j++)
            if (record[j] != record[0]) {
                CHECK_INT(record[j], record[0]);
                break;
            }
        count[(record[0] - 'a') % WRITERS]++;
    }
    crew_close(&c);
    for (int i = 0; i < WRITERS; i++) CHECK_INT(count[i], RECORDS);
    tdl_conn_free(s.c);
    tdl_conn_free(b);
}

static void read_share(void *arg) {
    sharing *s = arg;
    char     buf[700];
    int64_t  n;
    while ((n = tdl_conn_read(s->c, buf, sizeof buf)) > 0) atomic_fetch_add(&s->total, (int)n);
    CHECK_RC(n, 0);
}

TEST_G(readers, "D37 two readers on one connection get every byte once between them") {
    tdl_conn *a;
    sharing   s = { 0 };
    crew      c;
    char      buf[1000] = { 0 };
    net_pair("tcp", &a, &s.c);
    crew_open(&c);
    crew_go(&c, read_share, &s);
    crew_go(&c, read_share, &s);
    for (int i = 0; i < 200; i++) CHECK_RC(tdl_conn_write(a, buf, sizeof buf), sizeof buf);
    tdl_conn_close_write(a);
    crew_close(&c);
    CHECK_INT(atomic_load(&s.total), 200 * 1000);
    tdl_conn_free(a);
    tdl_conn_free(s.c);
}

static void move_between_goroutines(void *arg) {
    char buf[16];
    CHECK_RC(tdl_conn_write(arg, "moved", 5), 5);
    CHECK_RC(tdl_conn_read(arg, buf, sizeof buf), 5);
}

TEST_G(used_by_many, "D37 a connection may be used by one goroutine after the other, and by threads") {
    tdl_conn *a, *b;
    crew      c, e;
    net_pair("tcp", &a, &b);
    crew_open(&c);
    crew_open(&e);
    crew_go(&e, echo, b);
    for (int i = 0; i < 20; i++) {
        crew_start(&c, i % 2, move_between_goroutines, a);
        crew_wait(&c);
    }
    tdl_conn_close(a);
    crew_close(&e);
    crew_close(&c);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

/* -- Addresses and names ----------------------------------------------------------------------------------- */

TEST_G(names, "D21 both ends know their own name and the other's") {
    char          address[ADDRESS_SIZE], text[ADDRESS_SIZE], other[ADDRESS_SIZE], small[5];
    tdl_listener *l = net_listen("tcp", address);
    tdl_conn     *a = NULL, *b = NULL;
    CHECK_INT(tdl_listener_address(l, text, sizeof text), strlen(address));
    CHECK(strcmp(text, address) == 0);
    CHECK_RC(tdl_dial("tcp", address, 0, &a), 0);
    CHECK_RC(tdl_listener_accept(l, &b), 0);
    CHECK_INT(tdl_conn_peername(a, text, sizeof text), strlen(address));
    CHECK(strcmp(text, address) == 0);
    CHECK(tdl_conn_sockname(b, text, sizeof text) > 0);
    CHECK(strcmp(text, address) == 0);
    CHECK(tdl_conn_sockname(a, text, sizeof text) > 0 && tdl_conn_peername(b, other, sizeof other) > 0);
    CHECK(strcmp(text, other) == 0);
    CHECK_INT(tdl_conn_peername(a, small, sizeof small), strlen(address));
    CHECK(strncmp(small, address, 4) == 0 && small[4] == 0); /* cut, with a final NUL */
    CHECK_INT(tdl_conn_peername(a, NULL, 0), strlen(address));
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_listener_free(l);
}

TEST_G(nodelay, "D21 TCP_NODELAY is set on both ends, close-on-exec too") {
    tdl_conn *a, *b;
    net_pair("tcp", &a, &b);
    tdl_conn *ends[] = { a, b };
    for (int i = 0; i < 2 && tdl_conn_fd(a) >= 0; i++) {
        int       on = 0;
        socklen_t n = sizeof on;
        CHECK_INT(getsockopt(tdl_conn_fd(ends[i]), IPPROTO_TCP, TCP_NODELAY, &on, &n), 0);
        CHECK(on != 0);
        CHECK(fcntl(tdl_conn_fd(ends[i]), F_GETFD) & FD_CLOEXEC);
    }
    tdl_conn_free(a);
    tdl_conn_free(b);
}

static void echo_at(const char *network, const char *listen_at, const char *dial_format) {
    tdl_listener *l = NULL;
    tdl_conn     *a = NULL, *b = NULL;
    char          address[ADDRESS_SIZE], buf[8];
    if (!CHECK_RC(tdl_listen(network, listen_at, &l), 0)) return;
    snprintf(address, sizeof address, dial_format, tdl_listener_port(l));
    if (CHECK_RC(tdl_dial(network, address, 0, &a), 0)) {
        CHECK_RC(tdl_listener_accept(l, &b), 0);
        CHECK_RC(tdl_conn_write(a, "weft", 4), 4);
        net_read_full(b, buf, 4);
        CHECK(memcmp(buf, "weft", 4) == 0);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
    tdl_listener_free(l);
}

TEST_G(addresses, "D21 numeric addresses, localhost and none at all can be listened on and dialled") {
    echo_at("tcp", "127.0.0.1:0", "127.0.0.1:%d");
    echo_at("tcp4", "127.0.0.1:0", "127.0.0.1:%d");
    echo_at("tcp4", "0.0.0.0:0", "127.0.0.1:%d");
    echo_at("tcp", "localhost:0", "localhost:%d");
    echo_at("tcp4", ":0", ":%d");
    echo_at("tcp", ":0", ":%d");
    echo_at("tcp", ":0", "127.0.0.1:%d");
    if (net_networks()[2] != NULL) {
        echo_at("tcp6", "[::1]:0", "[::1]:%d");
        echo_at("tcp", "[::1]:0", "[::1]:%d");
        echo_at("tcp6", ":0", "[::1]:%d");
    }
}

TEST_G(bad_addresses, "D21 a network or an address that does not parse, or a port out of range, has an error of its own") {
    static const struct {
        const char *network, *address;
        int         code;
    } bad[] = {
        { "tcp", "", TDL_EADDRESS },           { "tcp", "127.0.0.1", TDL_EPORT },
        { "tcp", "127.0.0.1:", TDL_EPORT },    { "tcp", "127.0.0.1:65536", TDL_EPORT },
        { "tcp", "1.2.3:80", TDL_EADDRESS },   { "tcp", "127.0.0.1:x", TDL_EPORT },
        { "tcp", "[::1:80", TDL_EADDRESS },    { "tcp", "::1:80:x", TDL_EADDRESS },
        { "tcp4", "[::1]:80", TDL_EADDRESS },  { "tcp6", "127.0.0.1:80", TDL_EADDRESS },
        { "tcp", "127.0.0.1:-1", TDL_EPORT },  { "tcp", "256.0.0.1:80", TDL_EADDRESS },
        { "udp", "127.0.0.1:80", TDL_ENETWORK }, { "", "127.0.0.1:80", TDL_ENETWORK },
        { "unix", "", TDL_EADDRESS },          { "tcp", "exa mple.invalid:80", TDL_EADDRESS },
        { "unixgram", "/tmp/x", TDL_ENETWORK },
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        tdl_listener *l = NULL;
        tdl_conn     *c = NULL;
        if (!CHECK_RC(tdl_listen(bad[i].network, bad[i].address, &l), bad[i].code) ||
            !CHECK_RC(tdl_dial(bad[i].network, bad[i].address, 0, &c), bad[i].code))
            fprintf(stderr, "  (network \"%s\", address \"%s\")\n", bad[i].network, bad[i].address);
        CHECK(l == NULL && c == NULL);
    }
    char long_path[200];
    memset(long_path, 'x', sizeof long_path);
    long_path[199] = 0;
    tdl_listener *l = NULL;
    CHECK_RC(tdl_listen("unix", long_path, &l), -ENAMETOOLONG);
}

TEST_G(unix_path, "D21 a unix socket has a path that its close takes away") {
    char          path[64], text[ADDRESS_SIZE];
    struct stat   st;
    tdl_listener *l = NULL, *second = NULL;
    tdl_conn     *a = NULL, *b = NULL;
    snprintf(path, sizeof path, "/tmp/treadle-test-%d.sock", (int)getpid());
    unlink(path);
    CHECK_RC(tdl_listen("unix", path, &l), 0);
    CHECK_INT(tdl_listener_port(l), 0);
    CHECK(tdl_listener_address(l, text, sizeof text) > 0 && strcmp(text, path) == 0);
    CHECK_INT(stat(path, &st), 0);
    CHECK_RC(tdl_listen("unix", path, &second), -EADDRINUSE);
    CHECK_RC(tdl_dial("unix", path, 0, &a), 0);
    CHECK_RC(tdl_listener_accept(l, &b), 0);
    CHECK_RC(tdl_conn_write(b, "x", 1), 1);
    tdl_conn_free(a);
    tdl_conn_free(b);
    CHECK_RC(tdl_listener_close(l), 0);
    CHECK(stat(path, &st) != 0);
    CHECK_RC(tdl_dial("unix", path, 0, &a), -ENOENT);
    tdl_listener_free(l);
}

TEST_G(refused, "D21 a port where nobody listens refuses, a port in use cannot be had") {
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen("tcp", address), *second = NULL;
    tdl_conn     *c = NULL;
    CHECK_RC(tdl_listen("tcp", address, &second), -EADDRINUSE);
    tdl_listener_free(l);
    CHECK_RC(tdl_dial("tcp", address, 0, &c), -ECONNREFUSED);
    CHECK_RC(tdl_dial("tcp", address, TDL_SECOND, &c), -ECONNREFUSED);
    CHECK_RC(tdl_dial("unix", "@treadle-nobody-listens-here", 0, &c), -ECONNREFUSED);
    CHECK(c == NULL);
}

/* -- Reads that stop early although more is there ------------------------------------------- */

/* Collects what arrives until the text is whole or a second has passed. */
static void expect_text(tdl_conn *c, const char *text) {
    char    buf[64];
    size_t  total = 0;
    int64_t n;
    tdl_conn_set_read_deadline(c, tdl_now() + TDL_SECOND);
    while (total < strlen(text) && (n = tdl_conn_read(c, buf + total, sizeof buf - total)) > 0) total += (size_t)n;
    CHECK_INT(total, strlen(text));
    CHECK(memcmp(buf, text, total) == 0);
}

TEST_G(urgent, "D22 urgent data ends a read early; what follows it is read all the same") {
    tdl_conn *c;
    int       fd = net_half_pair(&c);
    CHECK_INT(send(fd, "ab", 2, 0), 2);
    CHECK_INT(send(fd, "!", 1, MSG_OOB), 1);
    CHECK_INT(send(fd, "cd", 2, 0), 2);
    tdl_sleep(10 * TDL_MILLISECOND); /* all of it has arrived */
    expect_text(c, "abcd");
    close(fd);
    tdl_conn_free(c);
}

static void send_with_descriptor(int fd, const char *text) {
    union {
        struct cmsghdr align;
        char           room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec    part = { (void *)(uintptr_t)text, strlen(text) };
    struct msghdr   m = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room };
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    int             sent = 0;
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof sent);
    memcpy(CMSG_DATA(h), &sent, sizeof sent);
    CHECK_INT(sendmsg(fd, &m, 0), strlen(text));
}

TEST_G(passed_descriptor, "D22 a descriptor passed over a unix socket ends a read early; what follows is read, the descriptor is not kept") {
    char               address[ADDRESS_SIZE];
    tdl_listener      *l = net_listen("unix", address);
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int                fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    tdl_conn          *c = NULL;
    memcpy(sa.sun_path + 1, address + 1, strlen(address) - 1);
    socklen_t n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(address));
    REQUIRE(connect(fd, (struct sockaddr *)&sa, n) == 0);
    CHECK_RC(tdl_listener_accept(l, &c), 0);
    send_with_descriptor(fd, "ab");
    send_with_descriptor(fd, "cd");
    CHECK_INT(send(fd, "ef", 2, 0), 2);
    expect_text(c, "abcdef");
    send_with_descriptor(fd, "gh");
    CHECK_INT(send(fd, "ij\n", 3, 0), 3);
    tdl_conn_set_read_deadline(c, tdl_now() + TDL_SECOND);
    CHECK_RC(tdl_conn_fill(c, TDL_FILL_LINE, 100), 5);
    if (tdl_conn_peek(c, NULL)) tdl_conn_skip(c, 0);
    close(fd);
    tdl_conn_free(c);
    tdl_listener_free(l);
}

/* -- D25, D26: trouble while accepting ---------------------------------------------------------------------- */

TEST_G(aborted, "D25 connections aborted in the backlog are passed over") {
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen("tcp", address);
    tdl_conn     *a = NULL, *b = NULL;
    for (int i = 0; i < 5; i++) {
        CHECK_RC(tdl_dial("tcp", address, 0, &a), 0);
        net_reset(dup(tdl_conn_fd(a))); /* the linger option is the socket's */
        tdl_conn_free(a);
    }
    CHECK_RC(tdl_dial("tcp", address, 0, &a), 0);
    CHECK_RC(tdl_conn_write(a, "!", 1), 1);
    char byte = 0;
    for (int i = 0; i < 6 && byte != '!'; i++) { /* Linux hands aborted ones out; they read as reset */
        CHECK_RC(tdl_listener_accept(l, &b), 0);
        if (tdl_conn_read(b, &byte, 1) != 1) byte = 0;
        tdl_conn_free(b);
    }
    CHECK_INT(byte, '!');
    tdl_conn_free(a);
    tdl_listener_free(l);
}

TEST_G(no_descriptors, "D26 without descriptors accept, dial and listen say so, and work again later") {
    char          address[ADDRESS_SIZE], other[ADDRESS_SIZE] = "127.0.0.1:0";
    tdl_listener *l = net_listen("tcp", address), *l2 = NULL;
    tdl_conn     *a = NULL, *b = NULL, *c = NULL;
    struct rlimit old, tight;
    CHECK_RC(tdl_dial("tcp", address, 0, &a), 0);
    tdl_sleep(TDL_SECOND / 100); /* what a ring had accepted for listeners that are closed is closed now */
    int top = dup(0);
    REQUIRE(top >= 0);
    close(top);
    getrlimit(RLIMIT_NOFILE, &old);
    tight = old;
    tight.rlim_cur = (rlim_t)top;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &tight) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK_RC(tdl_listener_accept(l, &b), -EMFILE);
        CHECK_RC(tdl_dial("tcp", address, 0, &c), -EMFILE);
        CHECK_RC(tdl_listen("tcp", other, &l2), -EMFILE);
    }
    setrlimit(RLIMIT_NOFILE, &old);
    CHECK_RC(tdl_listener_accept(l, &b), 0); /* it had stayed in the backlog */
    net_carries(a, b);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_listener_free(l);
}
