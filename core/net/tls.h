/* SPDX-License-Identifier: MIT
 * What connections call for the bytes of one with TLS; how it works: tls_stream.h. */
#ifndef TDL_NET_TLS_H
#define TDL_NET_TLS_H

#include "net/net.h"

struct iovec;

/* As tdl_conn_take and tdl_conn_put, but that put may leave records behind in the
 * stream, which tdl_tls_written sends. */
int64_t tdl_tls_take(tdl_conn *c, void *buf, size_t n);
int64_t tdl_tls_put(tdl_conn *c, const void *buf, size_t n);
/* As put, of several pieces: the first of them. */
int64_t tdl_tls_putv(tdl_conn *c, const struct iovec *v, int n);
/* The attempt of an op that has n bytes to write, at op->u.io.buf. */
int64_t tdl_tls_write(tdl_op *op, tdl_conn *c);
/* After the attempts that accept all bytes: n once they have gone out, or TDL_EAGAIN …. */
int64_t tdl_tls_written(tdl_conn *c, int64_t n);
/* Are there decrypted bytes, or records, that no event will tell of? */
bool tdl_tls_pending(tdl_conn *c);
/* Says that nothing more will be written. 0, -EAGAIN: it has still to go out. */
int tdl_tls_notify(tdl_conn *c);
/* The connection is being closed, by any caller: the same, if it can be done at once. */
void tdl_tls_closing(tdl_conn *c);
void tdl_tls_gone(struct tdl_tls_stream *s);
/* For carry.c. A connection that is closed, and in which nobody is, loses its stream; a new one, which nobody
 * uses yet, gets it: 0, TDL_ECLOSED; the end of one that is detached: it says so on its socket, if
 * that can be done at once. */
struct tdl_tls_stream *tdl_tls_detach(tdl_conn *c);
int tdl_tls_attach(tdl_conn *c, struct tdl_tls_stream *s);
void tdl_tls_abandon(struct tdl_tls_stream *s, int fd);

int64_t tdl_conn_handshake_op(tdl_op *op, tdl_conn *c);
int64_t tdl_conn_end_tls_op(tdl_op *op, tdl_conn *c);

#endif
