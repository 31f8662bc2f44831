/* SPDX-License-Identifier: MIT
 * Addresses as text and back, and the options of sockets. */
#include "check.h"
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static const char *text_of(const tdl_addr *a) {
    static char text[ADDRESS_SIZE];
    int         n = tdl_addr_format(a, text, sizeof text);
    CHECK_INT(n, strlen(text));
    return text;
}

static void expect_text(const char *got, const char *want) {
    if (!CHECK(strcmp(got, want) == 0)) fprintf(stderr, "  (got \"%s\", want \"%s\")\n", got, want);
}

TEST(round_trip, "F7 an address is written as it was read") {
    static const char *const same[][2] = {
        { "tcp", "127.0.0.1:80" },     { "udp4", "0.0.0.0:0" },  { "tcp", "255.255.255.255:65535" },
        { "tcp6", "[::1]:1" },         { "udp", "[::]:53" },     { "tcp", "[2001:db8::42]:443" },
        { "unix", "/run/some.sock" },  { "unix", "relative" },   { "unixgram", "@abstract" },
        { "unixpacket", "@a/b c%:1" }, { "unix", "@" },          { "tcp6", "[fe80::1%7777]:80" },
    };
    for (unsigned i = 0; i < sizeof same / sizeof *same; i++) {
        tdl_addr a, b;
        if (!CHECK_RC(tdl_addr_parse(&a, same[i][0], same[i][1], 0), 0)) fprintf(stderr, "  (%s)\n", same[i][1]);
        expect_text(text_of(&a), same[i][1]);
        CHECK_RC(tdl_addr_parse(&b, same[i][0], text_of(&a), 1), 0);
        CHECK_INT(tdl_addr_equal(&a, &b), 1);
    }
}

TEST(meanings, "F7 no host is all interfaces to listen at and the loopback to dial; localhost is the loopback") {
    static const struct {
        const char *network, *text;
        int         listen;
        const char *is;
    } t[] = {
        { "tcp", ":80", 0, "127.0.0.1:80" },         { "tcp", ":80", 1, "[::]:80" },
        { "tcp4", ":80", 1, "0.0.0.0:80" },          { "udp6", ":80", 0, "[::1]:80" },
        { "tcp", "localhost:80", 1, "127.0.0.1:80" }, { "tcp6", "localhost:80", 0, "[::1]:80" },
        { "tcp", "[::ffff:1.2.3.4]:5", 0, "1.2.3.4:5" }, { "tcp", "127.0.0.1:00080", 0, "127.0.0.1:80" },
    };
    for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
        tdl_addr a;
        CHECK_RC(tdl_addr_parse(&a, t[i].network, t[i].text, t[i].listen), 0);
        expect_text(text_of(&a), t[i].is);
    }
}

TEST(refused, "F7 what does not parse has a code that says what is wrong with it") {
    static const struct {
        const char *network, *text;
        int         code;
    } bad[] = {
        { "ip", "127.0.0.1:80", TDL_ENETWORK },        { "TCP", "127.0.0.1:80", TDL_ENETWORK },
        { "", "", TDL_ENETWORK },                      { "tcp", "", TDL_EADDRESS },
        { "tcp", "127.0.0.1", TDL_EPORT },             { "tcp", "127.0.0.1:", TDL_EPORT },
        { "tcp", "127.0.0.1:65536", TDL_EPORT },       { "tcp", "127.0.0.1:99999999999999999999", TDL_EPORT },
        { "tcp", "127.0.0.1:-1", TDL_EPORT },          { "tcp", "127.0.0.1:+1", TDL_EPORT },
        { "tcp", "127.0.0.1: 1", TDL_EPORT },          { "tcp", "127.0.0.1:http", TDL_EPORT },
        { "tcp", "127.1:80", TDL_EADDRESS },           { "tcp", "127.0.0.1.1:80", TDL_EADDRESS },
        { "tcp", " 127.0.0.1:80", TDL_EADDRESS },      { "tcp", "[127.0.0.1]:80", TDL_EADDRESS },
        { "tcp", "::1:80", TDL_EADDRESS },             { "tcp", "[::1]80", TDL_EADDRESS },
        { "tcp", "[::1", TDL_EADDRESS },               { "tcp", "[]:80", TDL_EADDRESS },
        { "tcp", "]:80", TDL_EADDRESS },               { "tcp", "[:80", TDL_EADDRESS },
        { "tcp", "[::g]:80", TDL_EADDRESS },           { "tcp", "[::1%]:80", TDL_EADDRESS },
        { "tcp", "[::1%no-such-if]:80", -ENODEV },     { "tcp", "[::1%a-name-too-long-for-one]:80", TDL_EADDRESS },
        { "tcp4", "[::1]:80", TDL_EADDRESS },          { "udp6", "127.0.0.1:80", TDL_EADDRESS },
        { "tcp", "some.name.invalid:80", TDL_EADDRESS }, { "unix", "", TDL_EADDRESS },
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        tdl_addr a;
        if (!CHECK_RC(tdl_addr_parse(&a, bad[i].network, bad[i].text, 0), bad[i].code))
            fprintf(stderr, "  (\"%s\", \"%s\")\n", bad[i].network, bad[i].text);
    }
    tdl_addr a;
    CHECK_RC(tdl_addr_parse(NULL, "tcp", ":1", 0), TDL_EINVAL);
    CHECK_RC(tdl_addr_parse(&a, NULL, ":1", 0), TDL_EINVAL);
    CHECK_RC(tdl_addr_parse(&a, "tcp", NULL, 0), TDL_EINVAL);
    CHECK_RC(tdl_addr_format(NULL, NULL, 0), TDL_EINVAL);
    CHECK_RC(tdl_addr_format(&a, NULL, 3), TDL_EINVAL);
    CHECK_RC(tdl_addr_equal(&a, NULL), TDL_EINVAL);
    CHECK_RC(tdl_addr_port(NULL), TDL_EINVAL);
}

TEST(unix_limits, "F7 a unix path may be as long as the system's, and no longer") {
    char     path[200];
    tdl_addr a;
    size_t   most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
    memset(path, 'p', sizeof path);
    path[most] = 0;
    CHECK_RC(tdl_addr_parse(&a, "unix", path, 1), 0);
    expect_text(text_of(&a), path);
    path[most] = 'p';
    path[most + 1] = 0;
    CHECK_RC(tdl_addr_parse(&a, "unix", path, 1), -ENAMETOOLONG);
}

TEST(zones, "F7 a zone is an interface, by name or number, and is written by its name") {
    tdl_addr a, b;
    char     text[ADDRESS_SIZE], name[IF_NAMESIZE];
    if (!if_indextoname(1, name)) {
        check_skip("no network interface");
        return;
    }
    CHECK_RC(tdl_addr_parse(&a, "tcp", "[fe80::1%1]:80", 0), 0);
    snprintf(text, sizeof text, "[fe80::1%%%s]:80", name);
    expect_text(text_of(&a), text);
    CHECK_RC(tdl_addr_parse(&b, "tcp", text, 0), 0);
    CHECK_INT(tdl_addr_equal(&a, &b), 1);
    CHECK_RC(tdl_addr_parse(&b, "tcp", "[fe80::1%2]:80", 0), 0);
    CHECK_INT(tdl_addr_equal(&a, &b), 0);
    CHECK(tdl_addr_host(&a, text, sizeof text) > 0);
    CHECK(strchr(text, ']') == NULL && strchr(text, '%') != NULL);
}

TEST(parts, "F7 host, port and bytes of an address can be had and changed") {
    tdl_addr    a, b, none = { 0 };
    char        text[ADDRESS_SIZE];
    size_t      n;
    CHECK_RC(tdl_addr_parse(&a, "udp", "[::1]:5", 0), 0);
    CHECK_INT(tdl_addr_port(&a), 5);
    CHECK_RC(tdl_addr_set_port(&a, 65535), 0);
    CHECK_RC(tdl_addr_set_port(&a, 65536), TDL_EPORT);
    CHECK_RC(tdl_addr_set_port(&a, -1), TDL_EPORT);
    expect_text(text_of(&a), "[::1]:65535");
    CHECK_INT(tdl_addr_host(&a, text, sizeof text), 3);
    expect_text(text, "::1");
    const void *sa = tdl_addr_sockaddr(&a, &n);
    CHECK_INT(n, sizeof(struct sockaddr_in6));
    CHECK_RC(tdl_addr_set_sockaddr(&b, sa, n), 0);
    CHECK_INT(tdl_addr_equal(&a, &b), 1);
    CHECK_RC(tdl_addr_set_sockaddr(&b, sa, n - 10), TDL_EINVAL);
    CHECK_RC(tdl_addr_set_sockaddr(&b, sa, 1000), TDL_EINVAL);
    CHECK_RC(tdl_addr_set_sockaddr(&b, NULL, 16), TDL_EINVAL);
    CHECK(tdl_addr_sockaddr(&none, &n) == NULL && n == 0);
    expect_text(text_of(&none), "");
    CHECK_RC(tdl_addr_set_port(&none, 1), TDL_EADDRESS);
    CHECK_INT(tdl_addr_equal(&a, &none), 0);
    CHECK_RC(tdl_addr_parse(&a, "tcp", "10.0.0.1:7", 0), 0);
    CHECK_RC(tdl_addr_parse(&b, "tcp6", "[::ffff:10.0.0.1]:7", 0), 0);
    CHECK_INT(tdl_addr_equal(&a, &b), 1); /* mapped */
    CHECK_INT(tdl_addr_format(&a, text, 5), 10); /* cut */
    expect_text(text, "10.0");
}

/* Kernel addresses of the abstract namespace may hold any byte. */
TEST(odd_names, "F7 an abstract name with zero bytes is written as text all the same") {
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    tdl_addr           a;
    memcpy(un.sun_path, "\0a\0b", 4);
    CHECK_RC(tdl_addr_set_sockaddr(&a, &un, offsetof(struct sockaddr_un, sun_path) + 4), 0);
    expect_text(text_of(&a), "@a@b");
}

TEST(garbage, "F7 random texts and random bytes are refused or read, never worse") {
    static const char letters[] = "0123456789abcdef:.[]%@/localhost -+";
    uint64_t          seed = 7;
    char              text[64], out[ADDRESS_SIZE];
    for (int i = 0; i < SCALE(20000); i++) {
        static const char *const nets[] = { "tcp", "udp4", "tcp6", "unix", "unixpacket" };
        tdl_addr                 a, b;
        size_t                   n = random_next(&seed) % (sizeof text - 1);
        for (size_t j = 0; j < n; j++) text[j] = letters[random_next(&seed) % (sizeof letters - 1)];
        text[n] = 0;
        const char *net = nets[random_next(&seed) % 5];
        int         r = tdl_addr_parse(&a, net, text, 0);
        if (r == 0) { /* then its own text means the same */
            CHECK(tdl_addr_format(&a, out, sizeof out) > 0);
            CHECK_RC(tdl_addr_parse(&b, net, out, 0), 0);
            CHECK_INT(tdl_addr_equal(&a, &b), 1);
        }
        unsigned char bytes[128];
        for (size_t j = 0; j < sizeof bytes; j++) bytes[j] = (unsigned char)random_next(&seed);
        bytes[0] = (unsigned char)(i % 12);
        bytes[1] = 0;
        if (tdl_addr_set_sockaddr(&a, bytes, 2 + random_next(&seed) % 127) == 0) {
            CHECK(tdl_addr_format(&a, out, sizeof out) >= 0);
            CHECK(tdl_addr_port(&a) >= 0);
        }
    }
}

/* -- Options -------------------------------------------------------------------------------- */

TEST_G(options, "F8 each option of a connection can be set and read back") {
    static const struct {
        int     option;
        int64_t set, get;
    } t[] = {
        { TDL_NODELAY, 0, 0 },
        { TDL_NODELAY, 1, 1 },
        { TDL_KEEPALIVE, 30 * TDL_SECOND, 30 * TDL_SECOND },
        { TDL_KEEPALIVE, TDL_MILLISECOND, TDL_SECOND }, /* whole seconds, rounded up */
        { TDL_KEEPALIVE, 0, 0 },
        { TDL_KEEPALIVE_INTERVAL, 5 * TDL_SECOND, 5 * TDL_SECOND },
        { TDL_KEEPALIVE_COUNT, 3, 3 },
        { TDL_LINGER, 0, 0 },
        { TDL_LINGER, TDL_FOREVER, TDL_FOREVER },
        { TDL_TOS, 0x10, 0x10 },
        { TDL_TTL, 17, 17 },
    };
    static const char *const nets[] = { "tcp", "tcp6" };
    for (int k = 0; k < (net_networks()[2] ? 2 : 1); k++) {
        tdl_conn *a, *b;
        net_pair(nets[k], &a, &b);
        CHECK_RC(tdl_conn_option(a, TDL_NODELAY), 1);
        for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
            CHECK_RC(tdl_conn_set_option(a, t[i].option, t[i].set), 0);
            CHECK_RC(tdl_conn_option(a, t[i].option), t[i].get);
        }
        CHECK_RC(tdl_conn_set_option(a, TDL_READ_BUFFER, 65536), 0);
        CHECK(tdl_conn_option(a, TDL_READ_BUFFER) >= 65536);
        CHECK_RC(tdl_conn_set_option(a, TDL_WRITE_BUFFER, 65536), 0);
        CHECK(tdl_conn_option(a, TDL_WRITE_BUFFER) >= 65536);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

TEST_G(bad_options, "F8 options that do not exist, make no sense or come too late are refused") {
    tdl_conn     *a, *b;
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen("tcp", address);
    static const struct {
        int     option;
        int64_t value;
    } bad[] = {
        { 0, 1 }, { 99, 1 }, { -1, 1 }, { TDL_NODELAY, 2 }, { TDL_NODELAY, -1 }, { TDL_KEEPALIVE, -1 },
        { TDL_KEEPALIVE, INT64_MAX }, { TDL_KEEPALIVE_COUNT, 0 }, { TDL_LINGER, TDL_SECOND }, { TDL_LINGER, -1 },
        { TDL_READ_BUFFER, 0 }, { TDL_WRITE_BUFFER, INT64_MAX }, { TDL_TOS, 256 }, { TDL_TTL, 0 },
    };
    net_pair("tcp", &a, &b);
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_RC(tdl_conn_set_option(a, bad[i].option, bad[i].value), TDL_EINVAL);
    CHECK_RC(tdl_conn_option(a, 99), TDL_EINVAL);
    CHECK_RC(tdl_conn_option(NULL, TDL_TOS), TDL_EINVAL);
    CHECK_RC(tdl_conn_set_option(NULL, TDL_TOS, 1), TDL_EINVAL);
    CHECK_RC(tdl_listener_set_option(l, TDL_READ_BUFFER, 8192), 0);
    CHECK(tdl_listener_option(l, TDL_READ_BUFFER) >= 8192);
    tdl_conn_close(a);
    CHECK_RC(tdl_conn_set_option(a, TDL_TOS, 1), TDL_ECLOSED);
    CHECK_RC(tdl_conn_option(a, TDL_TOS), TDL_ECLOSED);
    tdl_conn_free(a);
    tdl_conn_free(b);
    net_pair("unix", &a, &b);
    CHECK_RC(tdl_conn_set_option(a, TDL_NODELAY, 1), -EOPNOTSUPP);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_listener_free(l);
}

TEST_G(tcp_info, "F8 TCP_INFO counts what was sent and has times that make sense") {
    tdl_conn    *a, *b;
    char         buf[1000] = { 0 };
    tdl_tcp_info i = { .size = sizeof i };
    net_pair("tcp", &a, &b);
    for (int k = 0; k < 10; k++) {
        CHECK_RC(tdl_conn_write(a, buf, sizeof buf), sizeof buf);
        net_read_full(b, buf, sizeof buf);
        CHECK_RC(tdl_conn_write(b, buf, 10), 10);
        net_read_full(a, buf, 10);
    }
    int told = tdl_conn_tcp_info(a, &i);
#ifdef TDL_PORTABLE
    CHECK_RC(told, -EOPNOTSUPP);
    tdl_conn_free(a);
    tdl_conn_free(b);
    return check_skip("TCP_INFO is Linux's");
#endif
    CHECK_RC(told, 0);
    CHECK_INT(i.state, 1);
#ifndef __x86_64__ /* qemu-user hands out the first word of it only */
    if (i.mss == 0) {
        tdl_conn_free(a);
        tdl_conn_free(b);
        return check_skip("the emulator has no TCP_INFO");
    }
#endif
    CHECK_WITHIN(i.rtt, 1, 10 * TDL_SECOND);
    CHECK(i.rto >= TDL_MILLISECOND && i.mss > 0 && i.cwnd > 0);
    CHECK_INT(i.bytes_received, 100);
    CHECK_WITHIN(i.bytes_acked, 9000, 10001);
    CHECK_INT(i.bytes_unsent, 0);
    i.size = 8;
    CHECK_RC(tdl_conn_tcp_info(a, &i), TDL_EINVAL);
    i.size = sizeof i;
    CHECK_RC(tdl_conn_tcp_info(NULL, &i), TDL_EINVAL);
    CHECK_RC(tdl_conn_tcp_info(a, NULL), TDL_EINVAL);
    tdl_conn_close(a);
    CHECK_RC(tdl_conn_tcp_info(a, &i), TDL_ECLOSED);
    tdl_conn_free(a);
    tdl_conn_free(b);
    net_pair("unix", &a, &b);
    CHECK(tdl_conn_tcp_info(a, &i) < 0);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(linger_resets, "F8 with no linger a close resets the connection") {
    tdl_conn *a, *b;
    char      byte;
    net_pair("tcp", &a, &b);
    CHECK_RC(tdl_conn_set_option(a, TDL_LINGER, 0), 0);
    CHECK_RC(tdl_conn_close(a), 0);
    CHECK_RC(tdl_conn_read(b, &byte, 1), -ECONNRESET);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(sharded, "F8 several listeners may share one address; every connection is accepted by one of them") {
    tdl_listen_options o = { .size = sizeof o, .flags = TDL_LISTEN_REUSEPORT, .backlog = 64 };
    tdl_listener      *l[3] = { 0 };
    char               address[ADDRESS_SIZE] = "127.0.0.1:0";
    tdl_conn          *dialled[12], *accepted[12];
    int                n = 0;
    for (int i = 0; i < 3; i++) {
        if (!CHECK_RC(tdl_listen_opts("tcp", address, &o, &l[i]), 0)) return;
        CHECK(tdl_listener_address(l[i], address, sizeof address) > 0);
    }
    tdl_listener *alone = NULL;
    CHECK_RC(tdl_listen("tcp", address, &alone), -EADDRINUSE);
    for (int i = 0; i < 12; i++) CHECK_RC(tdl_dial("tcp", address, 0, &dialled[i]), 0);
    for (int round = 0; round < 300 && n < 12; round++) {
        tdl_listener_set_deadline(l[round % 3], tdl_now() + 30 * TDL_MILLISECOND);
        while (n < 12 && tdl_listener_accept(l[round % 3], &accepted[n]) == 0) n++;
    }
    CHECK_INT(n, 12);
    for (int i = 0; i < 12; i++) tdl_conn_free(dialled[i]);
    for (int i = 0; i < n; i++) tdl_conn_free(accepted[i]);
    for (int i = 0; i < 3; i++) tdl_listener_free(l[i]);
}

enum { SHARDS = 4, DIALS = 200 };

typedef struct shard {
    tdl_listener *l;
    int           n;
} shard;

static void serve_shard(void *arg) {
    shard    *s = arg;
    tdl_conn *c;
    while (tdl_listener_accept(s->l, &c) == 0) {
        s->n++;
        tdl_conn_free(c);
    }
}

TEST_G(shards, "F8 shards of a listener, one for each processor, share the connections") {
    tdl_listener *l[SHARDS];
    shard         s[SHARDS];
    char          address[ADDRESS_SIZE];
    crew          c;
    int           total = 0;
    REQUIRE(tdl_listen_shards("tcp", "127.0.0.1:0", NULL, l, SHARDS) == 0);
    crew_open(&c);
    for (int i = 0; i < SHARDS; i++) {
        CHECK_INT(tdl_listener_port(l[i]), tdl_listener_port(l[0]));
        s[i] = (shard){ l[i], 0 };
        crew_go(&c, serve_shard, &s[i]);
    }
    CHECK(tdl_listener_address(l[0], address, sizeof address) > 0);
    for (int i = 0; i < DIALS; i++) {
        tdl_conn *conn = NULL;
        char      byte;
        CHECK_RC(tdl_dial("tcp", address, 0, &conn), 0);
        CHECK_RC(tdl_conn_read(conn, &byte, 1), 0); /* it was accepted */
        tdl_conn_free(conn);
    }
    for (int i = 0; i < SHARDS; i++) tdl_listener_close(l[i]);
    crew_close(&c);
    for (int i = 0; i < SHARDS; i++) {
        CHECK(s[i].n > 0);
        total += s[i].n;
        tdl_listener_free(l[i]);
    }
    CHECK_INT(total, DIALS);
    CHECK_RC(tdl_listen_shards("tcp", "127.0.0.1:0", NULL, l, 0), TDL_EINVAL);
    CHECK_RC(tdl_listen_shards("tcp", "127.0.0.1:0", NULL, NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_listen_shards("tcp", "nonsense", NULL, l, 2), TDL_EPORT);
    CHECK(l[0] == NULL && l[1] == NULL);
    tdl_listener *taken = NULL;
    CHECK_RC(tdl_listen("tcp", "127.0.0.1:0", &taken), 0);
    CHECK(tdl_listener_address(taken, address, sizeof address) > 0);
    CHECK_RC(tdl_listen_shards("tcp", address, NULL, l, 2), -EADDRINUSE);
    tdl_listener_free(taken);
}

TEST_G(bad_listen_options, "F8 options of a listener that are wrong are refused") {
    tdl_listen_options o = { .size = 3 };
    tdl_listener      *l = NULL;
    CHECK_RC(tdl_listen_opts("tcp", "127.0.0.1:0", &o, &l), TDL_EINVAL);
    o = (tdl_listen_options){ .size = sizeof o, .flags = 64 };
    CHECK_RC(tdl_listen_opts("tcp", "127.0.0.1:0", &o, &l), TDL_EINVAL);
    o = (tdl_listen_options){ .size = sizeof o, .backlog = UINT32_MAX };
    CHECK_RC(tdl_listen_opts("tcp", "127.0.0.1:0", &o, &l), TDL_EINVAL);
    CHECK(l == NULL);
}
