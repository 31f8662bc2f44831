/* SPDX-License-Identifier: MIT
 * See tls.h. */
#include "tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "net.h"
#include "net/tls_stream.h"

#ifdef TDL_HAVE_TLS

char tls_folder[64];

static void forget_folder(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", tls_folder);
    if (system(command) != 0) fprintf(stderr, "%s is left\n", tls_folder);
}

__attribute__((constructor)) static void make_folder(void) {
    char command[512];
    snprintf(tls_folder, sizeof tls_folder, "/tmp/treadle-tls-XXXXXX");
    if (!mkdtemp(tls_folder)) exit(3);
    atexit(forget_folder);
    snprintf(command, sizeof command, "sh '%s' '%s' >/dev/null", CERTS_SH, tls_folder);
    if (system(command) != 0) {
        fprintf(stderr, "%s failed: is the openssl command there?\n", command);
        exit(3);
    }
}

const char *tls_file(const char *name) {
    static char path[8][160];
    static int  next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", tls_folder, name);
    return p;
}

tdl_tls *tls_make(tdl_tls_options o) {
    tdl_tls *t = NULL;
    char     why[256];
    o.size = sizeof o;
    if (!CHECK_RC(tdl_tls_new(&o, &t, why, sizeof why), 0)) fprintf(stderr, "  %s\n", why);
    REQUIRE(t != NULL);
    return t;
}

tdl_tls *tls_server_of(const char *name, uint32_t flags) {
    char cert[32], key[32];
    snprintf(cert, sizeof cert, "%s.pem", name);
    snprintf(key, sizeof key, "%s.key", name);
    return tls_make((tdl_tls_options){.flags = TDL_TLS_SERVER | flags, .cert = tls_file(cert), .key = tls_file(key), .ca = tls_file("ca.pem")});
}

tdl_tls *tls_client_of(uint32_t flags) { return tls_make((tdl_tls_options){.flags = flags, .ca = tls_file("ca.pem")}); }

void tls_pair(const char *network, tdl_tls *ct, tdl_tls *st, const char *name, tdl_conn **c, tdl_conn **s) {
    net_pair(network, c, s);
    CHECK_RC(tdl_conn_set_tls(*c, ct, name, NULL), 0);
    CHECK_RC(tdl_conn_set_tls(*s, st, NULL, NULL), 0);
}

void tls_shakes(void *arg) {
    tls_shake *k = arg;
    k->result = tdl_conn_handshake(k->c);
}

int tls_handshakes(tdl_conn *c, tdl_conn *s, int *server_said) {
    tls_shake k = {s, 1};
    crew  w;
    crew_open(&w);
    crew_go(&w, tls_shakes, &k);
    int r = tdl_conn_handshake(c);
    if (r < 0) tdl_conn_set_read_deadline(s, tdl_now() + 10 * TDL_SECOND);
    crew_close(&w);
    if (server_said) *server_said = k.result;
    return r;
}

const char *tls_text(tdl_conn *c, int what) {
    static char buf[4096]; /* of the test: no thread-local, whose address a goroutine may not keep */
    if (tdl_conn_tls_text(c, what, buf, sizeof buf) < 0) snprintf(buf, sizeof buf, "(none)");
    return buf;
}

void tls_both_free(tdl_conn *a, tdl_conn *b) {
    tdl_conn_free(a);
    tdl_conn_free(b);
}

void tls_free(tdl_tls *a, tdl_tls *b) {
    tdl_tls_free(a);
    tdl_tls_free(b);
}

void tls_echoes(void *arg) {
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

void tls_expect_echo(tdl_conn *c, const char *line) {
    char got[1000];
    CHECK_RC(tdl_conn_write(c, line, strlen(line)), strlen(line));
    net_read_full(c, got, strlen(line));
    CHECK(memcmp(got, line, strlen(line)) == 0);
}

#endif
