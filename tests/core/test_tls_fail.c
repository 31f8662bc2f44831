/* SPDX-License-Identifier: MIT
 * TLS: handshakes that come to nothing or are cut at a byte, and misuse. */
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

/* -- Handshakes that come to nothing ------------------------------------------------------------ */

TEST_G(silent, "Q15 a handshake with a peer that says nothing ends at the deadline, and can be gone on with") {
    tdl_tls  *ct = tls_client_of(0), *st = tls_server_of("server", 0);
    tdl_conn *c, *s;
    net_pair("tcp", &c, &s);
    CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), 0);
    tdl_conn_set_deadline(c, tdl_now() + 20 * TDL_MILLISECOND);
    CHECK_RC(tdl_conn_handshake(c), TDL_ETIMEDOUT);
    CHECK_RC(tdl_conn_write(c, "x", 1), TDL_ETIMEDOUT);
    CHECK_INT(tdl_conn_tls_number(c, TDL_TLS_DONE), 0);
    tdl_conn_set_deadline(c, 0);
    CHECK_RC(tdl_conn_set_tls(s, st, NULL, NULL), 0);
    CHECK_RC(tls_handshakes(c, s, NULL), 0);
    tls_both_free(c, s);
    tls_free(ct, st);
}

TEST_G(cancelled, "Q16 a handshake is cancelled, or its connection closed, in the middle") {
    tdl_tls *ct = tls_client_of(0);
    for (int close = 0; close < 2; close++) {
        tdl_conn *c, *s;
        net_pair("tcp", &c, &s);
        CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), 0);
        tls_shake k = {c, 1};
        tdl_g *g = go_joinable(tls_shakes, &k);
        let_park();
        if (close)
            CHECK_RC(tdl_conn_close(c), 0);
        else
            CHECK_RC(tdl_cancel(g), 0);
        CHECK_RC(tdl_join(g), 0);
        CHECK_RC(k.result, close ? TDL_ECLOSED : TDL_ECANCELED);
        tls_both_free(c, s);
    }
    tdl_tls_free(ct);
}

TEST_G(plain_server, "Q17 a peer that speaks no TLS, or something wrong, is found out") {
    static const char *const says[] = {"HTTP/1.1 400 Bad Request\r\n\r\n", "220 mail ready\r\n", "\x16\x03\x03\xff\xff nonsense"};
    tdl_tls *ct = tls_client_of(0);
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        tdl_conn *c;
        int       fd = net_half_pair(&c);
        CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), 0);
        REQUIRE(write(fd, says[i], strlen(says[i])) == (ssize_t)strlen(says[i]));
        CHECK_RC(tdl_conn_handshake(c), TDL_ETLS);
        CHECK(strstr(tls_text(c, TDL_TLS_ERROR), i < 2 ? "wrong version number" : "") != NULL);
        CHECK(strstr(tls_text(c, TDL_TLS_ERROR), "(127.0.0.1:") != NULL);
        tdl_conn_free(c);
        close(fd);
    }
    tdl_tls_free(ct);
}

TEST_G(starttls, "Q18 plain bytes that are buffered when TLS begins are never taken for decrypted ones") {
    tdl_tls *ct = tls_client_of(0), *st = tls_server_of("server", 0);
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
            crew_go(&w, tls_echoes, s);
            tls_expect_echo(c, "through TLS\n");
            CHECK_RC(tdl_conn_close_write(c), 0);
            crew_close(&w);
        }
        tls_both_free(c, s);
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
    int r = tls_handshakes(c, s, &said);
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
    tls_both_free(c, s);
    tls_both_free(cm, sm);
    return over;
}

TEST_G(cut, "Q19 a handshake that is cut at any byte ends on both sides, with an error") {
    check_limit(60);
    tdl_tls *ct = tls_client_of(0), *st = tls_server_of("server", 0);
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
    tdl_tls  *ct = tls_client_of(0), *st = tls_server_of("server", 0);
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
    tls_both_free(c, s);
    tls_pair("unix", ct, st, "localhost", &c, &s);
    CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), -EALREADY);
    CHECK_RC(tls_handshakes(c, s, NULL), 0);
    CHECK_RC(tdl_conn_set_tls(c, ct, "localhost", NULL), -EALREADY);
    CHECK_RC(tdl_conn_release(c), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_send_fds(c, "x", 1, fds, 1), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_recv_fds(c, buf, 1, fds, &n), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_tls_text(c, 99, buf, sizeof buf), TDL_EINVAL);
    CHECK_RC(tdl_conn_tls_number(c, 99), TDL_EINVAL);
    CHECK_RC(tdl_conn_close(c), 0);
    CHECK_RC(tdl_conn_handshake(c), TDL_ECLOSED);
    CHECK_RC(tdl_conn_tls_text(c, TDL_TLS_VERSION, buf, sizeof buf), TDL_ECLOSED);
    tls_both_free(c, s);
    CHECK_RC(tdl_pipe_new(0, &p, &q), 0);
    CHECK_RC(tdl_conn_set_tls(p, ct, "localhost", NULL), -EOPNOTSUPP);
    tls_both_free(p, q);
    tls_free(ct, st);
    tdl_tls_free(NULL);
    tdl_tls_session_free(NULL);
}

#else

TEST(without, "Q15 a library without TLS") { check_skip("built without TLS"); }

#endif
