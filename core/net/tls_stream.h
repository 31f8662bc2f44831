/* SPDX-License-Identifier: MIT
 *
 * TLS on a connection: OpenSSL between the ops of a connection and its socket.
 *
 * tdl_conn_set_tls turns a connection of kind CONN_SOCKET into one of CONN_TLS, while
 * nobody uses either direction; the op, its queues, deadlines and framed reads stay as they are, only
 * moving bytes (tdl_conn_take, tdl_conn_put) goes through here.
 *
 * Invariants, under the stream's lock:
 *   OpenSSL never sees the socket's errors: its reads come from `early`, then from the
 *   socket; what it writes goes to `out` and always fits. So it can always be used
 *   again, and an op that is given up leaves whole records behind.
 *   in_error, out_error: what the socket said, for ever. broken: what the other side
 *   did wrong, for ever and both directions; `why` says more.
 *   out is flushed by whoever comes next, reader or writer. A write adds to it only
 *   when it is empty.
 *   crossed: an event in one direction wakes both (tdl_pd_set_cross). From the beginning
 *   until the handshake is done and has gone out, since either direction drives it; and
 *   while a reader, alone, cannot get rid of an answer.
 *
 * The lock is held over OpenSSL's work and one attempt to send; it is the first
 * of all locks that such a caller takes.
 */
#ifndef TDL_NET_TLS_STREAM_H
#define TDL_NET_TLS_STREAM_H

#include "net/tls.h"
#include "net/tls_lib.h"

enum { TLS_WHY = 384, TLS_RECORD = 16384, TLS_OUT_MAX = 32768 };

#ifdef TDL_HAVE_TLS

typedef struct tls_name {
    char *name;
    tdl_tls *tls; /* held */
} tls_name;

struct tdl_tls {
    _Atomic uint32_t refs; /* the decrement is sequentially consistent */
    _Atomic uint8_t used;  /* relaxed: set by the first connection; then the names stay */
    uint32_t flags;
    SSL_CTX *ctx;
    unsigned char *alpn; /* in the protocol's form */
    unsigned alpn_len;
    tls_name *names;
    int nnames;
};

struct tdl_tls_stream {
    tdl_lock lock;
    tdl_conn *conn;
    tdl_tls *tls; /* held */
    SSL *ssl;
    tdl_buffer early, out;
    int broken, in_error, out_error;
    uint8_t done, notified, crossed;
    uint8_t short_last; /* in this attempt, the last look at the socket has emptied it */
    uint8_t drained;    /* and nothing was left here after the last read. Of who owns the read direction */
    char why[TLS_WHY];
};

void tdl_tls_hold(tdl_tls *t);

/* Under the stream's lock, and on a big stack: runs fn(s, arg). */
void tdl_tls_with(struct tdl_tls_stream *s, void (*fn)(struct tdl_tls_stream *s, void *arg), void *arg);

/* OpenSSL's reason for what just failed, as text; clears its queue. The reason's number. */
unsigned long tdl_tls_reason(char *buf, size_t size);

#endif

#endif
