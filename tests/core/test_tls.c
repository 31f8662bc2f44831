/* SPDX-License-Identifier: MIT
 * TLS on connections. The certificates are made by tests/tls/certs.sh, once for the program. */
#include "check.h"
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/tls_stream.h"

#ifdef TDL_HAVE_TLS

/* -- Certificates and configurations -------------------------------------------------- */

static char folder[64];

static void forget_folder(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0) fprintf(stderr, "%s is left\n", folder);
}

__attribute__((constructor)) static void make_folder(void) {
    char command[512];
    snprintf(folder, sizeof folder, "/tmp/treadle-tls-XXXXXX");
    if (!mkdtemp(folder)) exit(3);
    atexit(forget_folder);
    snprintf(command, sizeof command, "sh '%s' '%s' >/dev/null", CERTS_SH, folder);
    if (system(command) != 0) {
        fprintf(stderr, "%s failed: is the openssl command there?\n", command);
        exit(3);
    }
}

/* The path of a file in the folder; few at a time. */
static const char *file(const char *name) {
    static char path[8][160];
    static int  next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static tdl_tls *make(tdl_tls_options o) {
    tdl_tls *t = NULL;
    char     why[256];
    o.size = sizeof o;
    if (!CHECK_RC(tdl_tls_new(&o, &t, why, sizeof why), 0)) fprintf(stderr, "  %s\n", why);
    REQUIRE(t != NULL);
    return t;
}

static tdl_tls *server_of(const char *name, uint32_t flags) {
    char cert[32], key[32];
    snprintf(cert, sizeof cert, "%s.pem", name);
    snprintf(key, sizeof key, "%s.key", name);
    return make((tdl_tls_options){.flags = TDL_TLS_SERVER | flags, .cert = file(cert), .key = file(key), .ca = file("ca.pem")});
}

static tdl_tls *client_of(uint32_t flags) { return make((tdl_tls_options){.flags = flags, .ca = file("ca.pem")}); }

/* A client and a server on a connected pair, with TLS but before the handshake. */
static void tls_pair(const char *network, tdl_tls *ct, tdl_tls *st, const char *name, tdl_conn **c, tdl_conn **s) {
    net_pair(network, c, s);
    CHECK_RC(tdl_conn_set_tls(*c, ct, name, NULL), 0);
    CHECK_RC(tdl_conn_set_tls(*s, st, NULL, NULL), 0);
}

typedef struct shake {
    tdl_conn *c;
    int       result;
} shake;

static void shakes(void *arg) {
    shake *k = arg;
    k->result = tdl_conn_handshake(k->c);
}

/* Both sides at a time, ours being the client; what each came to. */
static int handshakes(tdl_conn *c, tdl_conn *s, int *server_said) {
    shake k = {s, 1};
    crew  w;
    crew_open(&w);
    crew_go(&w, shakes, &k);
    int r = tdl_conn_handshake(c);
    if (r < 0) tdl_conn_set_read_deadline(s, tdl_now() + 10 * TDL_SECOND);
    crew_close(&w);
    if (server_said) *server_said = k.result;
    return r;
}

static const char *text(tdl_conn *c, int what) {
    static char buf[4096]; /* of the test: no thread-local, whose address a goroutine may not keep */
    if (tdl_conn_tls_text(c, what, buf, sizeof buf) < 0) snprintf(buf, sizeof buf, "(none)");
    return buf;
}

static void both_free(tdl_conn *a, tdl_conn *b) {
    tdl_conn_free(a);
    tdl_conn_free(b);
}

static void tls_free(tdl_tls *a, tdl_tls *b) {
    tdl_tls_free(a);
    tdl_tls_free(b);
}

/* -- Streams ------------------------------------------------------------------------------ */

static void echoes(void *arg) {
    tdl_conn *c = arg;
    int64_t   n;
    while ((n = tdl_conn_fill(c, TDL_FILL_LINE, 1000)) > 0) {
        size_t      have;
        const char *p = tdl_conn_peek(c, &have);
        char        line[1000];
        memcpy(line, p, (size_t)n);
        CHECK_RC(tdl_conn_skip(c, (size_t)n), 0);
        CHECK_RC(tdl_conn_write(c, line, (size_t)n), n);
    }
    CHECK_RC(n, TDL_EEOF);
    CHECK_RC(tdl_conn_close_write(c), 0);
}

static void expect_echo(tdl_conn *c, const char *line) {
    char got[1000];
    CHECK_RC(tdl_conn_write(c, line, strlen(line)), strlen(line));
    net_read_full(c, got, strlen(line));
    CHECK(memcmp(got, line, strlen(line)) == 0);
}

TEST_G(lines, "Q1 what is used on a connection is used with TLS: reads, framed reads, writes, the end") {
    tdl_tls *ct = client_of(0), *st = server_of("server", 0);
    for (const char *const *net = net_networks(); *net; net++) {
        tdl_conn *c, *s;
        crew      w;
        char      byte;
        tls_pair(*net, ct, st, "localhost", &c, &s);
        CHECK_INT(tdl_conn_has_tls(c), 1);
        CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_DONE), 0);
        CHECK(strcmp(text(c, TDL_TLS_VERSION), "") == 0);
        crew_open(&w);
        crew_go(&w, echoes, s);
        expect_echo(c, "the first write does the handshake\n");
        expect_echo(c, "and the next one does not\n");
        CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_DONE), 1);
        CHECK_RC(tdl_conn_handshake(c), 0);
        CHECK(strcmp(text(c, TDL_TLS_VERSION), "TLSv1.3") == 0);
        CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_VERSION_NUMBER), TDL_TLS_1_3);
        CHECK(strncmp(text(c, TDL_TLS_CIPHER), "TLS_", 4) == 0);
        CHECK(strcmp(text(c, TDL_TLS_SUBJECT), "CN=localhost,O=treadle") == 0);
        CHECK(strcmp(text(c, TDL_TLS_ISSUER), "CN=tests,O=treadle") == 0);
        CHECK(strstr(text(c, TDL_TLS_PEER_CERT), "-----END CERTIFICATE-----\n") != NULL);
        CHECK(strcmp(text(c, TDL_TLS_VERIFY), "ok") == 0);
        CHECK(strcmp(text(c, TDL_TLS_ERROR), "") == 0);
        CHECK(strcmp(text(s, TDL_TLS_SERVER_NAME), "localhost") == 0);
        CHECK(strcmp(text(s, TDL_TLS_SUBJECT), "") == 0);
        CHECK_INT(tdl_conn_tls_text(c, TDL_TLS_VERSION, &byte, 1), 7);
        CHECK_RC(tdl_conn_close_write(c), 0);
        CHECK_RC(tdl_conn_read(c, &byte, 1), 0); /* announced: s has closed its side as well */
        CHECK_RC(tdl_conn_read(c, &byte, 1), 0);
        CHECK_RC(tdl_conn_write(c, "x", 1), -EPIPE);
        crew_close(&w);
        both_free(c, s);
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
    tdl_tls *ct = make((tdl_tls_options){.ca = file("ca.pem"), .max_version = (int32_t)version});
    tdl_tls *st = server_of("server", 0);
    tdl_conn *c, *s;
    crew      w;
    tls_pair(network, ct, st, "localhost", &c, &s);
    one_way o[4] = {{c, n, 1, 0}, {c, n, 2, 1}, {s, n, 3, 0}, {s, n, 4, 1}};
    crew_open(&w);
    for (int i = 0; i < 4; i++) crew_start(&w, threads, moves, &o[i]);
    crew_close(&w);
    both_free(c, s);
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
    tdl_tls *ct = client_of(0), *st = server_of("server", 0);
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
        both_free(c, s);
    }
    tls_free(ct, st);
}

TEST_G(unread, "Q3 whether something has come that nobody has read is told; tickets are nothing") {
    tdl_tls  *ct = client_of(0), *st = server_of("server", 0);
    tdl_conn *c, *s;
    char      got[3];
    tls_pair("tcp", ct, st, "localhost", &c, &s);
    CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_UNREAD), 0);
    CHECK_RC(handshakes(c, s, NULL), 0);
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
    tdl_tls  *ct = client_of(0), *st = server_of("server", 0);
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
    both_free(c, s);
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
    tdl_tls  *ct = client_of(0), *st = server_of("server", 0);
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
    both_free(c, s);
    both_free(p, q);
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
    tdl_tls           *ct = client_of(0), *st = server_of("server", 0);
    char               address[ADDRESS_SIZE], long_line[301];
    tdl_listener      *l = net_listen("tcp", address);
    tdl_server        *server = NULL;
    tdl_server_options o = {.size = sizeof o, .handler = echo_handler, .arg = st};
    tdl_conn          *c = NULL;
    CHECK_RC(tdl_server_new(&l, 1, &o, &server), 0);
    CHECK_RC(tdl_dial("tcp", address, 0, &c), 0);
    CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), 0);
    for (int i = 0; i < 3; i++) {
        expect_echo(c, "a request\n");
        let_park();
    }
    memset(long_line, 'y', 300);
    long_line[300] = '\0';
    expect_echo(c, long_line); /* one record, three calls of the handler */
    tdl_conn_free(c);
    CHECK_RC(tdl_server_shutdown(server, tdl_now() + 10 * TDL_SECOND), 0);
    tdl_server_free(server);
    tls_free(ct, st);
}

/* -- The end ---------------------------------------------------------------------------------- */

TEST_G(truncated, "Q6 an end that was not announced is an error, distinct from the end of the stream") {
    tdl_tls *ct = client_of(0), *st = server_of("server", 0);
    for (int announced = 0; announced < 2; announced++) {
        tdl_conn *c, *s;
        char      buf[10];
        tls_pair("tcp", ct, st, "localhost", &c, &s);
        CHECK_RC(handshakes(c, s, NULL), 0);
        CHECK_RC(tdl_conn_write(s, "bytes", 5), 5);
        net_read_full(c, buf, 5);
        if (announced)
            tdl_conn_free(s);
        else
            CHECK(shutdown(tdl_conn_fd(s), SHUT_RDWR) == 0);
        CHECK_RC(tdl_conn_read(c, buf, 10), announced ? 0 : TDL_ETLSEOF);
        CHECK_RC(tdl_conn_read(c, buf, 10), announced ? 0 : TDL_ETLSEOF);
        CHECK_RC(tdl_conn_fill(c, TDL_FILL_ALL, 100), announced ? 0 : TDL_ETLSEOF);
        if (!announced) CHECK(strcmp(text(c, TDL_TLS_ERROR), "TLS stream cut off") == 0);
        tdl_conn_free(c);
        if (!announced) tdl_conn_free(s);
    }
    tls_free(ct, st);
}

TEST_G(half_closed, "Q7 after the end of one direction the other goes on") {
    tdl_tls  *ct = client_of(0), *st = server_of("server", 0);
    tdl_conn *c, *s;
    char      buf[10];
    tls_pair("tcp", ct, st, "localhost", &c, &s);
    CHECK_RC(tdl_conn_close_write(c), -ENOTCONN); /* before the handshake there is nothing to end */
    CHECK_RC(handshakes(c, s, NULL), 0);
    CHECK_RC(tdl_conn_end_tls(c), 0);
    CHECK_RC(tdl_conn_read(s, buf, 10), 0);
    CHECK_RC(tdl_conn_write(s, "later", 5), 5);
    net_read_full(c, buf, 5);
    CHECK(memcmp(buf, "later", 5) == 0);
    CHECK_RC(tdl_conn_end_tls(s), 0);
    CHECK_RC(tdl_conn_read(c, buf, 10), 0);
    both_free(c, s);
    tls_free(ct, st);
}

/* -- Certificates ----------------------------------------------------------------------------- */

/* How a handshake with that server's certificate ends. */
static void refuses(const char *server, const char *name, uint32_t flags, int want, const char *why) {
    tdl_tls  *ct = client_of(flags), *st = server_of(server, 0);
    tdl_conn *c, *s;
    char      peer[100], whole[300];
    int       said;
    tls_pair("tcp", ct, st, name, &c, &s);
    CHECK_RC(handshakes(c, s, &said), want);
    if (want < 0) {
        tdl_conn_peername(c, peer, sizeof peer);
        snprintf(whole, sizeof whole, "certificate verify failed: %s (%s)", why, peer);
        if (!CHECK(strcmp(text(c, TDL_TLS_ERROR), whole) == 0)) fprintf(stderr, "  %s\n", text(c, TDL_TLS_ERROR));
        CHECK_RC(tdl_conn_write(c, "x", 1), want); /* it stays so */
        CHECK_RC(tdl_conn_handshake(c), want);
        /* a client of 1.3 may refuse after the server was done */
        char byte;
        CHECK_RC(said < 0 ? said : tdl_conn_read(s, &byte, 1), TDL_ETLSALERT);
        CHECK(strstr(text(s, TDL_TLS_ERROR), "alert") != NULL);
    }
    both_free(c, s);
    tls_free(ct, st);
}

TEST_G(verified, "Q8 a certificate must be trusted, in time and for that name; each case has its code and its reason") {
    refuses("server", "localhost", 0, 0, NULL);
    refuses("server", "127.0.0.1", 0, 0, NULL);
    refuses("server", "::1", 0, 0, NULL);
    refuses("other", "sub.wild.example", 0, 0, NULL);
    refuses("server", "other.example", 0, TDL_ECERTNAME, "hostname mismatch");
    refuses("server", "127.0.0.2", 0, TDL_ECERTNAME, "IP address mismatch");
    refuses("other", "a.b.wild.example", 0, TDL_ECERTNAME, "hostname mismatch");
    refuses("expired", "localhost", 0, TDL_ECERT, "certificate has expired");
    refuses("alone", "localhost", 0, TDL_ECERT, "self-signed certificate");
    refuses("server", "other.example", TDL_TLS_ANY_NAME, 0, NULL);
    refuses("server", NULL, TDL_TLS_ANY_NAME, 0, NULL);
    refuses("alone", NULL, TDL_TLS_ANY_NAME, TDL_ECERT, "self-signed certificate");
    refuses("alone", NULL, TDL_TLS_NO_VERIFY, 0, NULL);
    refuses("expired", "other.example", TDL_TLS_NO_VERIFY, 0, NULL);
}

TEST_G(unverified, "Q8 what is wrong with a certificate is told also where it need not be right") {
    tdl_tls  *ct = client_of(TDL_TLS_NO_VERIFY), *st = server_of("expired", 0);
    tdl_conn *c, *s;
    tls_pair("tcp", ct, st, "localhost", &c, &s);
    CHECK_RC(handshakes(c, s, NULL), 0);
    CHECK(strcmp(text(c, TDL_TLS_VERIFY), "certificate has expired") == 0);
    CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_VERIFY_CODE), X509_V_ERR_CERT_HAS_EXPIRED);
    both_free(c, s);
    tls_free(ct, st);
}

TEST_G(clients_certificate, "Q9 a server may ask for a client's certificate, or need one") {
    for (int with = 0; with < 2; with++) {
        for (int need = 0; need < 2; need++) {
            tdl_tls *ct = make((tdl_tls_options){.ca = file("ca.pem"), .cert = with ? file("client.pem") : NULL,
                                                 .key = with ? file("client.key") : NULL});
            tdl_tls  *st = server_of("server", need ? TDL_TLS_NEED_CLIENT : TDL_TLS_ASK_CLIENT);
            tdl_conn *c, *s;
            int       said;
            char      byte;
            tls_pair("tcp", ct, st, "localhost", &c, &s);
            CHECK_RC(handshakes(c, s, &said), 0); /* of 1.3: what the server says of it comes later */
            CHECK_RC(said, need && !with ? TDL_ECERT : 0);
            if (said == 0) CHECK(strcmp(text(s, TDL_TLS_SUBJECT), with ? "CN=a client,O=treadle" : "") == 0);
            if (said < 0) CHECK(strstr(text(s, TDL_TLS_ERROR), "peer did not return a certificate") != NULL);
            if (said < 0) CHECK_RC(tdl_conn_read(c, &byte, 1), TDL_ETLSALERT);
            both_free(c, s);
            tls_free(ct, st);
        }
    }
}

/* -- What is agreed on ---------------------------------------------------------------------------- */

TEST_G(alpn, "Q10 the application's protocol: the server's first that the client has; none in common is refused") {
    tdl_tls *st = make((tdl_tls_options){.flags = TDL_TLS_SERVER, .cert = file("server.pem"), .key = file("server.key"),
                                         .alpn = "h2,http/1.1"});
    static const struct {
        const char *client, *got;
    } cases[] = {{"http/1.1,h2", "h2"}, {"http/1.1", "http/1.1"}, {NULL, ""}, {"smtp", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tdl_tls  *ct = make((tdl_tls_options){.ca = file("ca.pem"), .alpn = cases[i].client});
        tdl_conn *c, *s;
        tls_pair("tcp", ct, st, "localhost", &c, &s);
        CHECK_RC(handshakes(c, s, NULL), cases[i].got ? 0 : TDL_ETLSALERT);
        if (cases[i].got) {
            CHECK(strcmp(text(c, TDL_TLS_ALPN), cases[i].got) == 0);
            CHECK(strcmp(text(s, TDL_TLS_ALPN), cases[i].got) == 0);
        } else {
            CHECK(strstr(text(c, TDL_TLS_ERROR), "no application protocol") != NULL);
        }
        both_free(c, s);
        tdl_tls_free(ct);
    }
    tdl_tls_free(st);
}

TEST_G(names, "Q11 a server has a certificate for each name; a name that it has not is refused if it says so") {
    tdl_tls *ct = client_of(0), *st = server_of("server", TDL_TLS_KNOWN_NAME), *other = server_of("other", 0);
    CHECK_RC(tdl_tls_add_name(st, "localhost", other), 0);
    tdl_tls_free(st); /* with what it holds */
    st = server_of("server", TDL_TLS_KNOWN_NAME);
    CHECK_RC(tdl_tls_add_name(st, "other.example", other), 0);
    CHECK_RC(tdl_tls_add_name(st, "*.wild.example", other), 0);
    CHECK_RC(tdl_tls_add_name(st, "x", ct), TDL_EINVAL);
    CHECK_RC(tdl_tls_add_name(st, "", other), TDL_EINVAL);
    tdl_tls_free(other);
    static const struct {
        const char *name;
        int         want;
    } cases[] = {{"other.example", 0}, {"OTHER.example", 0}, {"a.wild.example", 0}, {"127.0.0.1", 0},
                 {"localhost", TDL_ETLSALERT}, {"wild.example", TDL_ETLSALERT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tdl_conn *c, *s;
        tls_pair("tcp", ct, st, cases[i].name, &c, &s);
        CHECK_RC(handshakes(c, s, NULL), cases[i].want);
        if (cases[i].want) CHECK(strstr(text(c, TDL_TLS_ERROR), "unrecognized name") != NULL);
        both_free(c, s);
    }
    CHECK_RC(tdl_tls_add_name(st, "late", st), TDL_EINVAL);
    other = server_of("other", 0);
    CHECK_RC(tdl_tls_add_name(st, "late", other), TDL_EBUSY);
    tdl_tls_free(other);
    tls_free(ct, st);
}

TEST_G(resumed, "Q12 a session is resumed by a later connection, unless either side does not want it") {
    for (int round = 0; round < 4; round++) {
        int32_t  version = round % 2 ? TDL_TLS_1_2 : TDL_TLS_1_3;
        tdl_tls *ct = make((tdl_tls_options){.ca = file("ca.pem"), .max_version = version});
        tdl_tls *st = server_of("server", round < 2 ? 0 : TDL_TLS_NO_RESUME);
        tdl_tls_session *session = NULL;
        for (int i = 0; i < 2; i++) {
            tdl_conn *c, *s;
            char      byte;
            net_pair("tcp", &c, &s);
            CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", session), 0);
            CHECK_RC(tdl_conn_set_tls(s, st, NULL, NULL), 0);
            tdl_tls_session_free(session);
            CHECK_RC(handshakes(c, s, NULL), 0);
            CHECK_RC(tdl_conn_write(s, "x", 1), 1);
            net_read_full(c, &byte, 1); /* a ticket of 1.3 comes before */
            session = tdl_conn_tls_session(c);
            CHECK_INT(session != NULL, round < 2);
            CHECK(tdl_conn_tls_session(s) == NULL);
            CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_RESUMED), round < 2 && i == 1);
            CHECK_INT(tdl_conn_tls_number(s, TDL_TLS_RESUMED), round < 2 && i == 1);
            both_free(c, s);
        }
        tdl_tls_session_free(session);
        tls_free(ct, st);
    }
}

TEST_G(versions, "Q13 two sides without a version or a cipher in common do not agree") {
    static const struct {
        tdl_tls_options client, server;
        const char     *why;
    } cases[] = {
        {{.max_version = TDL_TLS_1_2}, {.min_version = TDL_TLS_1_3}, "protocol version"},
        {{.min_version = TDL_TLS_1_3, .ciphers = "TLS_AES_128_GCM_SHA256"}, {.ciphers = "TLS_AES_256_GCM_SHA384"}, "handshake failure"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tdl_tls_options co = cases[i].client, so = cases[i].server;
        co.ca = file("ca.pem");
        so.flags = TDL_TLS_SERVER;
        so.cert = file("server.pem");
        so.key = file("server.key");
        tdl_tls  *ct = make(co), *st = make(so);
        tdl_conn *c, *s;
        int       said;
        tls_pair("tcp", ct, st, "localhost", &c, &s);
        CHECK_RC(handshakes(c, s, &said), TDL_ETLSALERT);
        CHECK_RC(said, TDL_ETLS);
        if (!CHECK(strstr(text(c, TDL_TLS_ERROR), cases[i].why) != NULL)) fprintf(stderr, "  %s\n", text(c, TDL_TLS_ERROR));
        both_free(c, s);
        tls_free(ct, st);
    }
}

static void update_keys(struct tdl_tls_stream *s, void *arg) {
    (void)arg;
    CHECK_INT(tdl_ossl.SSL_key_update(s->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
}

TEST_G(key_update, "Q14 new keys in the middle: a read answers, also while nobody writes or reads the other way") {
    tdl_tls  *ct = client_of(0), *st = server_of("server", 0);
    tdl_conn *c, *s;
    static char buf[70000];
    tls_pair("tcp", ct, st, "localhost", &c, &s);
    CHECK_RC(handshakes(c, s, NULL), 0);
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
    both_free(c, s);
    tls_free(ct, st);
}

/* -- Handshakes that come to nothing ------------------------------------------------------------ */

TEST_G(silent, "Q15 a handshake with a peer that says nothing ends at the deadline, and can be gone on with") {
    tdl_tls  *ct = client_of(0), *st = server_of("server", 0);
    tdl_conn *c, *s;
    net_pair("tcp", &c, &s);
    CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), 0);
    tdl_conn_set_deadline(c, tdl_now() + 20 * TDL_MILLISECOND);
    CHECK_RC(tdl_conn_handshake(c), TDL_ETIMEDOUT);
    CHECK_RC(tdl_conn_write(c, "x", 1), TDL_ETIMEDOUT);
    CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_DONE), 0);
    tdl_conn_set_deadline(c, 0);
    CHECK_RC(tdl_conn_set_tls(s, st, NULL, NULL), 0);
    CHECK_RC(handshakes(c, s, NULL), 0);
    both_free(c, s);
    tls_free(ct, st);
}

TEST_G(cancelled, "Q16 a handshake is cancelled, or its connection closed, in the middle") {
    tdl_tls *ct = client_of(0);
    for (int close = 0; close < 2; close++) {
        tdl_conn *c, *s;
        net_pair("tcp", &c, &s);
        CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), 0);
        shake  k = {c, 1};
        tdl_g *g = go_joinable(shakes, &k);
        let_park();
        if (close)
            CHECK_RC(tdl_conn_close(c), 0);
        else
            CHECK_RC(tdl_cancel(g), 0);
        CHECK_RC(tdl_join(g), 0);
        CHECK_RC(k.result, close ? TDL_ECLOSED : TDL_ECANCELED);
        both_free(c, s);
    }
    tdl_tls_free(ct);
}

TEST_G(plain_server, "Q17 a peer that speaks no TLS, or something wrong, is found out") {
    static const char *const says[] = {"HTTP/1.1 400 Bad Request\r\n\r\n", "220 mail ready\r\n", "\x16\x03\x03\xff\xff nonsense"};
    tdl_tls *ct = client_of(0);
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        tdl_conn *c;
        int       fd = net_half_pair(&c);
        CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), 0);
        REQUIRE(write(fd, says[i], strlen(says[i])) == (ssize_t)strlen(says[i]));
        CHECK_RC(tdl_conn_handshake(c), TDL_ETLS);
        CHECK(strstr(text(c, TDL_TLS_ERROR), i < 2 ? "wrong version number" : "") != NULL);
        CHECK(strstr(text(c, TDL_TLS_ERROR), "(127.0.0.1:") != NULL);
        tdl_conn_free(c);
        close(fd);
    }
    tdl_tls_free(ct);
}

TEST_G(starttls, "Q18 plain bytes that are buffered when TLS begins are never taken for decrypted ones") {
    tdl_tls *ct = client_of(0), *st = server_of("server", 0);
    for (int injected = 0; injected < 2; injected++) {
        tdl_conn *c, *s;
        crew      w;
        char      byte;
        net_pair("tcp", &c, &s);
        CHECK_RC(tdl_conn_write(c, injected ? "STARTTLS\r\nNOOP\r\n" : "STARTTLS\r\n", injected ? 16 : 10), injected ? 16 : 10);
        if (!injected) { /* its ClientHello is buffered behind the line */
            CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), 0);
            tdl_conn_set_deadline(c, tdl_now() + 10 * TDL_MILLISECOND);
            CHECK_RC(tdl_conn_handshake(c), TDL_ETIMEDOUT);
            tdl_conn_set_deadline(c, 0);
        }
        CHECK_RC(tdl_conn_fill(s, TDL_FILL_LINE, 100), 10);
        size_t have;
        CHECK(tdl_conn_peek(s, &have) != NULL);
        CHECK(injected ? have == 16 : have > 100);
        CHECK_RC(tdl_conn_set_tls(s, st, NULL, NULL), TDL_EBUSY); /* the line is still held */
        CHECK_RC(tdl_conn_skip(s, 10), 0);
        CHECK_RC(tdl_conn_set_tls(s, st, NULL, NULL), 0);
        if (injected) {
            CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), 0);
            CHECK_RC(tdl_conn_handshake(s), TDL_ETLS);
            CHECK_RC(tdl_conn_read(s, &byte, 1), TDL_ETLS);
        } else {
            crew_open(&w);
            crew_go(&w, echoes, s);
            expect_echo(c, "through TLS\n");
            CHECK_RC(tdl_conn_close_write(c), 0);
            crew_close(&w);
        }
        both_free(c, s);
    }
    tls_free(ct, st);
}

/* -- Cut at a byte --------------------------------------------------------------------------------- */

/* Passes up to `left` bytes on, then closes both. */
typedef struct valve {
    tdl_conn *from, *to, *also[2];
    int64_t   left;
} valve;

static void passes(void *arg) {
    valve *v = arg;
    char   buf[4096];
    while (v->left > 0) {
        int64_t n = tdl_conn_read(v->from, buf, v->left < (int64_t)sizeof buf ? (size_t)v->left : sizeof buf);
        if (n <= 0 || tdl_conn_write(v->to, buf, (size_t)n) != n) break;
        v->left -= n;
    }
    tdl_conn_close(v->also[0]);
    tdl_conn_close(v->also[1]);
}

/* A handshake whose bytes of one direction end after `cut`: 1 when it came to an end before. */
static int cut_at(tdl_tls *ct, tdl_tls *st, int back, int64_t cut) {
    tdl_conn *c, *s, *cm, *sm;
    crew      w;
    int       said;
    net_pair("unix", &c, &cm);
    net_pair("unix", &s, &sm);
    CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), 0);
    CHECK_RC(tdl_conn_set_tls(s, st, NULL, NULL), 0);
    valve there = {cm, sm, {cm, sm}, back ? INT64_MAX : cut}, here = {sm, cm, {cm, sm}, back ? cut : INT64_MAX};
    crew_open(&w);
    crew_go(&w, passes, &there);
    crew_go(&w, passes, &here);
    int r = handshakes(c, s, &said);
    char byte;
    int  over = r == 0 && said == 0;
    if (!over) { /* who was done himself hears of it now */
        int64_t x = r < 0 ? r : tdl_conn_read(c, &byte, 1), y = said < 0 ? said : tdl_conn_read(s, &byte, 1);
        CHECK(x < 0 && x != TDL_ETIMEDOUT);
        CHECK(y < 0 && y != TDL_ETIMEDOUT);
    }
    tdl_conn_close(c);
    tdl_conn_close(s);
    crew_close(&w);
    both_free(c, s);
    both_free(cm, sm);
    return over;
}

TEST_G(cut, "Q19 a handshake that is cut at any byte ends on both sides, with an error") {
    check_limit(60);
    tdl_tls *ct = client_of(0), *st = server_of("server", 0);
    const char *each = getenv("TDL_TEST_EVERY"); /* every byte takes long */
    for (int back = 0; back < 2; back++) {
        int64_t step = each && *each ? 1 : (back ? 41 : 23) * CHECK_SLOWDOWN, cut = 0;
        while (!cut_at(ct, st, back, cut)) cut += step;
        CHECK(cut > 200);
    }
    tls_free(ct, st);
}

/* -- Misuse ------------------------------------------------------------------------------------------ */

static void reads_one(void *arg) {
    char    byte;
    int64_t r = tdl_conn_read(arg, &byte, 1);
    if (r < 0) CHECK_RC(r, TDL_ECLOSED); /* it came too late: see below */
}

TEST_G(misuse, "Q20 what has no TLS, has it already, or is in use is refused") {
    tdl_tls  *ct = client_of(0), *st = server_of("server", 0);
    tdl_conn *c, *s, *p, *q;
    crew      w;
    char      buf[8];
    int       fds[1] = {0}, n = 1;
    net_pair("unix", &c, &s);
    CHECK_RC(tdl_conn_set_tls(NULL, ct, "x", NULL), TDL_EINVAL);
    CHECK_RC(tdl_conn_set_tls(c, NULL, "x", NULL), TDL_EINVAL);
    CHECK_RC(tdl_conn_set_tls(c, ct, NULL, NULL), TDL_EINVAL);
    CHECK_RC(tdl_conn_set_tls(c, ct, "", NULL), TDL_EINVAL);
    CHECK_RC(tdl_conn_set_tls(c, st, "localhost", NULL), TDL_EINVAL);
    CHECK_RC(tdl_conn_handshake(c), TDL_EINVAL);
    CHECK_RC(tdl_conn_handshake(NULL), TDL_EINVAL);
    CHECK_RC(tdl_conn_end_tls(c), TDL_EINVAL);
    CHECK_RC(tdl_conn_tls_text(c, TDL_TLS_VERSION, buf, sizeof buf), TDL_EINVAL);
    CHECK_RC(tdl_conn_tls_number(c, TDL_TLS_DONE), TDL_EINVAL);
    CHECK(tdl_conn_tls_session(c) == NULL);
    CHECK_INT(tdl_conn_has_tls(c), 0);
    CHECK_INT(tdl_conn_has_tls(NULL), 0);
    crew_open(&w);
    crew_go(&w, reads_one, c);
    let_park();
    int r = tdl_conn_set_tls(c, ct, "localhost", NULL); /* somebody reads, unless the machine is slow */
    if (r < 0) CHECK_RC(r, TDL_EBUSY);
    if (r == 0) CHECK_RC(tdl_conn_close(c), 0);
    if (r < 0) CHECK_RC(tdl_conn_write(s, "x", 1), 1);
    crew_close(&w);
    both_free(c, s);
    tls_pair("unix", ct, st, "localhost", &c, &s);
    CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), -EALREADY);
    CHECK_RC(handshakes(c, s, NULL), 0);
    CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), -EALREADY);
    CHECK_RC(tdl_conn_release(c), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_send_fds(c, "x", 1, fds, 1), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_recv_fds(c, buf, 1, fds, &n), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_tls_text(c, 99, buf, sizeof buf), TDL_EINVAL);
    CHECK_RC(tdl_conn_tls_number(c, 99), TDL_EINVAL);
    CHECK_RC(tdl_conn_close(c), 0);
    CHECK_RC(tdl_conn_handshake(c), TDL_ECLOSED);
    CHECK_RC(tdl_conn_tls_text(c, TDL_TLS_VERSION, buf, sizeof buf), TDL_ECLOSED);
    both_free(c, s);
    CHECK_RC(tdl_pipe_new(0, &p, &q), 0);
    CHECK_RC(tdl_conn_set_tls(p, ct, "localhost", NULL), -EOPNOTSUPP);
    both_free(p, q);
    tls_free(ct, st);
    tdl_tls_free(NULL);
    tdl_tls_session_free(NULL);
}

static void bad_options(tdl_tls_options o, int code, const char *why) {
    tdl_tls *t = NULL;
    char     said[256], small[4];
    if (!o.size) o.size = sizeof o;
    CHECK_RC(tdl_tls_new(&o, &t, said, sizeof said), code);
    CHECK(t == NULL);
    if (!CHECK(strstr(said, why) != NULL)) fprintf(stderr, "  said: %s\n", said);
    CHECK_RC(tdl_tls_new(&o, &t, small, sizeof small), code);
    CHECK_RC(tdl_tls_new(&o, &t, NULL, 0), code);
}

TEST(options, "Q21 options that cannot be met are refused, and it is said which and why") {
    char     version[100];
    tdl_tls *t;
    CHECK(tdl_tls_library(version, sizeof version) > 0 && strncmp(version, "OpenSSL 3", 9) == 0);
    CHECK_RC(tdl_tls_new(NULL, &t, NULL, 0), TDL_EINVAL);
    bad_options((tdl_tls_options){.size = 3}, TDL_EINVAL, "options");
    bad_options((tdl_tls_options){.flags = 4096}, TDL_EINVAL, "options");
    bad_options((tdl_tls_options){.flags = TDL_TLS_SERVER}, TDL_EINVAL, "options");
    bad_options((tdl_tls_options){.flags = TDL_TLS_NEED_CLIENT}, TDL_EINVAL, "options");
    bad_options((tdl_tls_options){.min_version = 7}, TDL_EINVAL, "options");
    bad_options((tdl_tls_options){.key = "x"}, TDL_EINVAL, "options");
    bad_options((tdl_tls_options){.ca = "/none/such"}, -ENOENT, "ca (/none/such): No such file");
    bad_options((tdl_tls_options){.ca = file("ca.key")}, TDL_ECERT, "ca.key): no start line");
    bad_options((tdl_tls_options){.ca = "-----BEGIN nothing"}, TDL_ECERT, "ca: ");
    bad_options((tdl_tls_options){.cert = folder}, -EISDIR, "certificate");
    bad_options((tdl_tls_options){.cert = file("client.pem")}, TDL_ECERT, "key");
    bad_options((tdl_tls_options){.cert = file("client.pem"), .key = file("server.key")}, TDL_ECERT, "key values mismatch");
    bad_options((tdl_tls_options){.alpn = "h2,,x"}, TDL_EINVAL, "alpn");
    bad_options((tdl_tls_options){.alpn = ""}, TDL_EINVAL, "alpn");
    bad_options((tdl_tls_options){.ciphers = "NONSENSE"}, TDL_ETLS, "ciphers: no cipher match");
    bad_options((tdl_tls_options){.ciphers = "TLS_NONSENSE"}, TDL_ETLS, "ciphers");
}

static char *slurp(const char *path) {
    char *buf = calloc(1, 20000);
    FILE *f = fopen(path, "r");
    REQUIRE(f != NULL);
    size_t n = fread(buf, 1, 9999, f);
    fclose(f);
    buf[n] = '\0';
    return buf;
}

TEST_G(in_memory, "Q22 certificates and keys as text, in one piece or encrypted") {
    char command[512];
    snprintf(command, sizeof command, "openssl pkey -in %s -aes128 -passout pass:secret -out %s/locked.key 2>/dev/null",
             file("server.key"), folder);
    REQUIRE(system(command) == 0);
    char *cert = slurp(file("server.pem")), *key = slurp(file("server.key")), *ca = slurp(file("ca.pem"));
    bad_options((tdl_tls_options){.flags = TDL_TLS_SERVER, .cert = cert, .key = file("locked.key")}, TDL_ECERT, "key (");
    bad_options((tdl_tls_options){.flags = TDL_TLS_SERVER, .cert = cert, .key = file("locked.key"), .password = "x"}, TDL_ECERT, "key (");
    tdl_tls *ct = make((tdl_tls_options){.ca = ca});
    tdl_tls *locked = make((tdl_tls_options){.flags = TDL_TLS_SERVER, .cert = cert, .key = file("locked.key"), .password = "secret"});
    strcat(cert, key);
    tdl_tls *one = make((tdl_tls_options){.flags = TDL_TLS_SERVER, .cert = cert});
    for (int i = 0; i < 2; i++) {
        tdl_conn *c, *s;
        tls_pair("tcp", ct, i ? one : locked, "localhost", &c, &s);
        CHECK_RC(handshakes(c, s, NULL), 0);
        both_free(c, s);
    }
    tls_free(one, locked);
    tdl_tls_free(ct);
    free(cert);
    free(key);
    free(ca);
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
    echoes(c);
    tdl_conn_free(c);
}

TEST_G(handed_over, "Q26 a connection with TLS goes to another goroutine or thread in a value: its state goes along") {
    tdl_tls *ct = client_of(0), *st = server_of("server", 0);
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
            if (begun) CHECK_RC(handshakes(c, s, NULL), 0);
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
            expect_echo(c, "a line\n");
            expect_echo(c, "and another\n");
            CHECK(strcmp(text(c, TDL_TLS_VERSION), "TLSv1.3") == 0);
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
    tdl_tls  *ct = client_of(0), *st = server_of("server", 0);
    tdl_conn *c, *s;
    tdl_val   v;
    crew      w;
    for (int tls = 0; tls < 2; tls++) {
        net_pair("tcp", &c, &s);
        if (tls) {
            CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), 0);
            CHECK_RC(tdl_conn_set_tls(s, st, NULL, NULL), 0);
            CHECK_RC(handshakes(c, s, NULL), 0);
        }
        crew_open(&w);
        crew_go(&w, echoes, s);
        expect_echo(c, "somebody reads\n");
        let_park();
        CHECK_RC(tdl_val_set_conn(&v, s), TDL_EBUSY);
        CHECK_INT(tdl_val_type(&v), TDL_NIL);
        expect_echo(c, "and goes on\n");
        CHECK_RC(tdl_val_set_conn(&v, c), 0);
        tdl_val_clear(&v); /* the end is announced: echoes says so */
        crew_close(&w);
        both_free(c, s);
    }
    net_pair("pipe", &c, &s);
    CHECK_RC(tdl_val_set_conn(&v, c), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_close(c), 0);
    both_free(c, s);
    CHECK_RC(tdl_val_set_conn(&v, NULL), TDL_EINVAL);
    tdl_val_set_int(&v, 5);
    CHECK_RC(tdl_val_take_conn(&v, &c), TDL_EINVAL);
    CHECK_RC(tdl_val_take_conn(&v, NULL), TDL_EINVAL);
    tls_free(ct, st);
}

/* -- Others' programs, faults, small stacks ------------------------------------------------------------ */

typedef struct visitor {
    tdl_listener *l;
    tdl_tls      *t;
} visitor;

static void answers_one(void *arg) {
    visitor  *v = arg;
    tdl_conn *c = NULL;
    if (!CHECK_RC(tdl_listener_accept(v->l, &c), 0)) return;
    tdl_conn_set_deadline(c, tdl_now() + 15 * TDL_SECOND);
    CHECK_RC(tdl_conn_set_tls(c, v->t, NULL, NULL), 0);
    int64_t n = tdl_conn_fill(c, TDL_FILL_LINE, 1000);
    CHECK(n > 0);
    size_t have;
    if (tdl_conn_peek(c, &have)) tdl_conn_skip(c, have);
    const char *answer = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    CHECK_RC(tdl_conn_write(c, answer, strlen(answer)), strlen(answer));
    CHECK_RC(tdl_conn_end_tls(c), 0);
    char rest[1000]; /* until it has gone */
    while ((n = tdl_conn_read(c, rest, sizeof rest)) > 0) continue;
    tdl_conn_free(c);
}

static void runs(void *arg) {
    FILE *f = popen(arg, "r");
    char  got[2000] = "";
    if (!CHECK(f != NULL)) return;
    size_t n = fread(got, 1, sizeof got - 1, f);
    got[n] = '\0';
    int status = pclose(f);
    if (!CHECK_INT(status, 0) || !CHECK(strstr(got, "hello") != NULL)) fprintf(stderr, "  %s\n%s\n", (char *)arg, got);
}

TEST_G(others, "Q23 openssl's own client and curl are served, and verify the certificate") {
    tdl_tls *st = server_of("server", 0);
    static const char *const clients[] = {
        "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -ign_eof -verify_return_error -servername localhost "
        "-verify_hostname localhost -CAfile %s/ca.pem -connect %s 2>&1",
        "curl -sS --max-time 15 --noproxy '*' --cacert %s/ca.pem https://%s/ 2>&1",
    };
    for (size_t i = 0; i < sizeof clients / sizeof *clients; i++) {
        char    address[ADDRESS_SIZE], command[512];
        crew    w;
        visitor v = {net_listen("tcp", address), st};
        snprintf(command, sizeof command, clients[i], folder, address);
        crew_open(&w);
        crew_go(&w, answers_one, &v);
        crew_thread(&w, runs, command);
        crew_close(&w);
        tdl_listener_free(v.l);
    }
    tdl_tls_free(st);
}

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
    tdl_tls       *ct = client_of(0), *st = server_of("server", 0);
    tdl_conn      *c, *s;
    shake          k;
    tdl_go_options o = {.size = sizeof o, .flags = TDL_GO_JOINABLE, .stack = 16384};
    tls_pair("tcp", ct, st, "localhost", &c, &s);
    k = (shake){s, 1};
    tdl_g *g = tdl_go_opts(shakes, &k, &o);
    CHECK_RC(tdl_conn_handshake(c), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(k.result, 0);
    both_free(c, s);
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

