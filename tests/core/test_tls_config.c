/* SPDX-License-Identifier: MIT
 * TLS: certificates, what two sides agree on, options; openssl's own client and curl. */
#include "check.h"
#include "net.h"
#include "tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/tls_stream.h"

#ifdef TDL_HAVE_TLS

/* -- Certificates ----------------------------------------------------------------------------- */

/* How a handshake with that server's certificate ends. */
static void refuses(const char *server, const char *name, uint32_t flags, int want, const char *why) {
    tdl_tls  *ct = tls_client_of(flags), *st = tls_server_of(server, 0);
    tdl_conn *c, *s;
    char      peer[100], whole[300];
    int       said;
    tls_pair("tcp", ct, st, name, &c, &s);
    CHECK_RC(tls_handshakes(c, s, &said), want);
    if (want < 0) {
        tdl_conn_peername(c, peer, sizeof peer);
        snprintf(whole, sizeof whole, "certificate verify failed: %s (%s)", why, peer);
        if (!CHECK(strcmp(tls_text(c, TDL_TLS_ERROR), whole) == 0)) fprintf(stderr, "  %s\n", tls_text(c, TDL_TLS_ERROR));
        CHECK_RC(tdl_conn_write(c, "x", 1), want); /* it stays so */
        CHECK_RC(tdl_conn_handshake(c), want);
        /* a client of 1.3 may refuse after the server was done */
        char byte;
        CHECK_RC(said < 0 ? said : tdl_conn_read(s, &byte, 1), TDL_ETLSALERT);
        CHECK(strstr(tls_text(s, TDL_TLS_ERROR), "alert") != NULL);
    }
    tls_both_free(c, s);
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
    tdl_tls  *ct = tls_client_of(TDL_TLS_NO_VERIFY), *st = tls_server_of("expired", 0);
    tdl_conn *c, *s;
    tls_pair("tcp", ct, st, "localhost", &c, &s);
    CHECK_RC(tls_handshakes(c, s, NULL), 0);
    CHECK(strcmp(tls_text(c, TDL_TLS_VERIFY), "certificate has expired") == 0);
    CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_VERIFY_CODE), X509_V_ERR_CERT_HAS_EXPIRED);
    tls_both_free(c, s);
    tls_free(ct, st);
}

TEST_G(clients_certificate, "Q9 a server may ask for a client's certificate, or need one") {
    for (int with = 0; with < 2; with++) {
        for (int need = 0; need < 2; need++) {
            tdl_tls *ct = tls_make((tdl_tls_options){.ca = tls_file("ca.pem"), .cert = with ? tls_file("client.pem") : NULL,
                                                 .key = with ? tls_file("client.key") : NULL});
            tdl_tls  *st = tls_server_of("server", need ? TDL_TLS_NEED_CLIENT : TDL_TLS_ASK_CLIENT);
            tdl_conn *c, *s;
            int       said;
            char      byte;
            tls_pair("tcp", ct, st, "localhost", &c, &s);
            CHECK_RC(tls_handshakes(c, s, &said), 0); /* of 1.3: what the server says of it comes later */
            CHECK_RC(said, need && !with ? TDL_ECERT : 0);
            if (said == 0) CHECK(strcmp(tls_text(s, TDL_TLS_SUBJECT), with ? "CN=a client,O=treadle" : "") == 0);
            if (said < 0) CHECK(strstr(tls_text(s, TDL_TLS_ERROR), "peer did not return a certificate") != NULL);
            if (said < 0) CHECK_RC(tdl_conn_read(c, &byte, 1), TDL_ETLSALERT);
            tls_both_free(c, s);
            tls_free(ct, st);
        }
    }
}

/* -- What is agreed on ---------------------------------------------------------------------------- */

TEST_G(alpn, "Q10 the application's protocol: the server's first that the client has; none in common is refused") {
    tdl_tls *st = tls_make((tdl_tls_options){.flags = TDL_TLS_SERVER, .cert = tls_file("server.pem"), .key = tls_file("server.key"),
                                         .alpn = "h2,http/1.1"});
    static const struct {
        const char *client, *got;
    } cases[] = {{"http/1.1,h2", "h2"}, {"http/1.1", "http/1.1"}, {NULL, ""}, {"smtp", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tdl_tls  *ct = tls_make((tdl_tls_options){.ca = tls_file("ca.pem"), .alpn = cases[i].client});
        tdl_conn *c, *s;
        tls_pair("tcp", ct, st, "localhost", &c, &s);
        CHECK_RC(tls_handshakes(c, s, NULL), cases[i].got ? 0 : TDL_ETLSALERT);
        if (cases[i].got) {
            CHECK(strcmp(tls_text(c, TDL_TLS_ALPN), cases[i].got) == 0);
            CHECK(strcmp(tls_text(s, TDL_TLS_ALPN), cases[i].got) == 0);
        } else {
            CHECK(strstr(tls_text(c, TDL_TLS_ERROR), "no application protocol") != NULL);
        }
        tls_both_free(c, s);
        tdl_tls_free(ct);
    }
    tdl_tls_free(st);
}

TEST_G(names, "Q11 a server has a certificate for each name; a name that it has not is refused if it says so") {
    tdl_tls *ct = tls_client_of(0), *st = tls_server_of("server", TDL_TLS_KNOWN_NAME), *other = tls_server_of("other", 0);
    CHECK_RC(tdl_tls_add_name(st, "localhost", other), 0);
    tdl_tls_free(st); /* with what it holds */
    st = tls_server_of("server", TDL_TLS_KNOWN_NAME);
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
        CHECK_RC(tls_handshakes(c, s, NULL), cases[i].want);
        if (cases[i].want) CHECK(strstr(tls_text(c, TDL_TLS_ERROR), "unrecognized name") != NULL);
        tls_both_free(c, s);
    }
    CHECK_RC(tdl_tls_add_name(st, "late", st), TDL_EINVAL);
    other = tls_server_of("other", 0);
    CHECK_RC(tdl_tls_add_name(st, "late", other), TDL_EBUSY);
    tdl_tls_free(other);
    tls_free(ct, st);
}

TEST_G(resumed, "Q12 a session is resumed by a later connection, unless either side does not want it") {
    for (int round = 0; round < 4; round++) {
        int32_t  version = round % 2 ? TDL_TLS_1_2 : TDL_TLS_1_3;
        tdl_tls *ct = tls_make((tdl_tls_options){.ca = tls_file("ca.pem"), .max_version = version});
        tdl_tls *st = tls_server_of("server", round < 2 ? 0 : TDL_TLS_NO_RESUME);
        tdl_tls_session *session = NULL;
        for (int i = 0; i < 2; i++) {
            tdl_conn *c, *s;
            char      byte;
            net_pair("tcp", &c, &s);
            CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", session), 0);
            CHECK_RC(tdl_conn_set_tls(s, st, NULL, NULL), 0);
            tdl_tls_session_free(session);
            CHECK_RC(tls_handshakes(c, s, NULL), 0);
            CHECK_RC(tdl_conn_write(s, "x", 1), 1);
            net_read_full(c, &byte, 1); /* a ticket of 1.3 comes before */
            session = tdl_conn_tls_session(c);
            CHECK_INT(session != NULL, round < 2);
            CHECK(tdl_conn_tls_session(s) == NULL);
            CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_RESUMED), round < 2 && i == 1);
            CHECK_INT(tdl_conn_tls_number(s, TDL_TLS_RESUMED), round < 2 && i == 1);
            tls_both_free(c, s);
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
        co.ca = tls_file("ca.pem");
        so.flags = TDL_TLS_SERVER;
        so.cert = tls_file("server.pem");
        so.key = tls_file("server.key");
        tdl_tls  *ct = tls_make(co), *st = tls_make(so);
        tdl_conn *c, *s;
        int       said;
        tls_pair("tcp", ct, st, "localhost", &c, &s);
        CHECK_RC(tls_handshakes(c, s, &said), TDL_ETLSALERT);
        CHECK_RC(said, TDL_ETLS);
        if (!CHECK(strstr(tls_text(c, TDL_TLS_ERROR), cases[i].why) != NULL)) fprintf(stderr, "  %s\n", tls_text(c, TDL_TLS_ERROR));
        tls_both_free(c, s);
        tls_free(ct, st);
    }
}

/* -- Options ------------------------------------------------------------------------------------ */

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
    bad_options((tdl_tls_options){.ca = tls_file("ca.key")}, TDL_ECERT, "ca.key): no start line");
    bad_options((tdl_tls_options){.ca = "-----BEGIN nothing"}, TDL_ECERT, "ca: ");
    bad_options((tdl_tls_options){.cert = tls_folder}, -EISDIR, "certificate");
    bad_options((tdl_tls_options){.cert = tls_file("client.pem")}, TDL_ECERT, "key");
    bad_options((tdl_tls_options){.cert = tls_file("client.pem"), .key = tls_file("server.key")}, TDL_ECERT, "key values mismatch");
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
             tls_file("server.key"), tls_folder);
    REQUIRE(system(command) == 0);
    char *cert = slurp(tls_file("server.pem")), *key = slurp(tls_file("server.key")), *ca = slurp(tls_file("ca.pem"));
    bad_options((tdl_tls_options){.flags = TDL_TLS_SERVER, .cert = cert, .key = tls_file("locked.key")}, TDL_ECERT, "key (");
    bad_options((tdl_tls_options){.flags = TDL_TLS_SERVER, .cert = cert, .key = tls_file("locked.key"), .password = "x"}, TDL_ECERT, "key (");
    tdl_tls *ct = tls_make((tdl_tls_options){.ca = ca});
    tdl_tls *locked = tls_make((tdl_tls_options){.flags = TDL_TLS_SERVER, .cert = cert, .key = tls_file("locked.key"), .password = "secret"});
    strcat(cert, key);
    tdl_tls *one = tls_make((tdl_tls_options){.flags = TDL_TLS_SERVER, .cert = cert});
    for (int i = 0; i < 2; i++) {
        tdl_conn *c, *s;
        tls_pair("tcp", ct, i ? one : locked, "localhost", &c, &s);
        CHECK_RC(tls_handshakes(c, s, NULL), 0);
        tls_both_free(c, s);
    }
    tls_free(one, locked);
    tdl_tls_free(ct);
    free(cert);
    free(key);
    free(ca);
}

/* -- Others' programs ---------------------------------------------------------------------------- */

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
    tdl_tls *st = tls_server_of("server", 0);
    static const char *const clients[] = {
        "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -ign_eof -verify_return_error -servername localhost "
        "-verify_hostname localhost -CAfile %s/ca.pem -connect %s 2>&1",
        "curl -sS --max-time 15 --noproxy '*' --cacert %s/ca.pem https://%s/ 2>&1",
    };
    for (size_t i = 0; i < sizeof clients / sizeof *clients; i++) {
        char    address[ADDRESS_SIZE], command[512];
        crew    w;
        visitor v = {net_listen("tcp", address), st};
        snprintf(command, sizeof command, clients[i], tls_folder, address);
        crew_open(&w);
        crew_go(&w, answers_one, &v);
        crew_thread(&w, runs, command);
        crew_close(&w);
        tdl_listener_free(v.l);
    }
    tdl_tls_free(st);
}

#else

TEST(without, "Q8 a library without TLS") { check_skip("built without TLS"); }

#endif
