/* SPDX-License-Identifier: MIT
 * For tests of TLS: certificates, made by tests/tls/certs.sh once for the program,
 * configurations of both sides, pairs, handshakes. */
#ifndef TESTS_CORE_TLS_H
#define TESTS_CORE_TLS_H

#include <treadle.h>

extern char tls_folder[64]; /* with the certificates; removed at exit */
const char *tls_file(const char *name); /* the path of a file in it; few at a time */

tdl_tls *tls_make(tdl_tls_options o); /* checked; its size need not be set */
tdl_tls *tls_server_of(const char *name, uint32_t flags); /* with the certificate NAME.pem */
tdl_tls *tls_client_of(uint32_t flags);                   /* which trusts the tests' authority */
void tls_free(tdl_tls *a, tdl_tls *b);

/* A client and a server on a connected pair, with TLS but before the handshake. */
void tls_pair(const char *network, tdl_tls *ct, tdl_tls *st, const char *name, tdl_conn **c, tdl_conn **s);
void tls_both_free(tdl_conn *a, tdl_conn *b);

typedef struct tls_shake {
    tdl_conn *c;
    int       result;
} tls_shake;
void tls_shakes(void *shake); /* a handshake, by a goroutine of its own */
/* Both sides at a time, ours being the client; what each came to. */
int tls_handshakes(tdl_conn *c, tdl_conn *s, int *server_said);

const char *tls_text(tdl_conn *c, int what); /* until the next call */
void tls_echoes(void *conn); /* gives back each line until the end */
void tls_expect_echo(tdl_conn *c, const char *line);

#endif
