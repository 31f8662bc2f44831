/* SPDX-License-Identifier: MIT
 *
 * TLS 1.2 and 1.3 on a connection that a stream socket is behind ("tcp", "unix"), by
 * OpenSSL 3, which is loaded when the first tdl_tls is made. A connection that was given TLS
 * is used by the same calls as any other: reads, framed reads, writes, copies, deadlines,
 * closing. What is different:
 *   The handshake is done by the first call that reads or writes, or tdl_conn_handshake.
 *   The end of the stream is what the peer has announced (close_notify). Where it just ends
 *   reads fail with TDL_ETLSEOF: it may have been cut off.
 *   tdl_conn_close_write announces the end of our side; so does closing, when that
 *   needs no waiting.
 *   Errors are TDL_ETLS … TDL_ETLSEOF, after which (but TDL_ETLSEOF of a read) the connection is of no more
 *   use; tdl_conn_tls_text(c, TDL_TLS_ERROR, …) has the reason.
 *   tdl_conn_release, tdl_conn_send_fds and tdl_conn_recv_fds say -EOPNOTSUPP; tdl_val_set_conn hands it over.
 * Peers that want to renegotiate are refused.
 */
#ifndef TREADLE_TLS_H
#define TREADLE_TLS_H

#include "conn.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tdl_tls tdl_tls;                 /* what connections have in common: certificates, whom to trust … */
typedef struct tdl_tls_session tdl_tls_session; /* what a later connection can resume */

enum {
    TDL_TLS_SERVER      = 1,  /* for the accepting side */
    TDL_TLS_NO_VERIFY   = 2,  /* client: any certificate will do */
    TDL_TLS_ANY_NAME    = 4,  /* client: one that is trusted will do, for whatever name */
    TDL_TLS_ASK_CLIENT  = 8,  /* server: a client's certificate is asked for, and must be trusted if it has one */
    TDL_TLS_NEED_CLIENT = 16, /* server: it must have one */
    TDL_TLS_NO_RESUME   = 32, /* sessions are not resumed */
    TDL_TLS_KNOWN_NAME  = 64, /* server: a client that asks for a name that was not added is refused */
    TDL_TLS_ALL         = 127
};
enum { TDL_TLS_1_0 = 0x301, TDL_TLS_1_1 = 0x302, TDL_TLS_1_2 = 0x303, TDL_TLS_1_3 = 0x304 };

/* Where PEM is asked for: the text itself, recognised by its "-----BEGIN", or the path of a file. All
 * texts may be NULL, and are copied. */
typedef struct tdl_tls_options {
    uint32_t    size;        /* sizeof(tdl_tls_options) */
    uint32_t    flags;       /* TDL_TLS_… */
    int32_t     min_version; /* TDL_TLS_1_2 …; 0: 1.2 */
    int32_t     max_version; /* 0: the newest */
    const char *cert;        /* PEM: our certificate, and behind it those up to the root; a server needs one */
    const char *key;         /* PEM: its key; NULL: that is in cert */
    const char *password;    /* of the key */
    const char *ca;          /* PEM, or a directory as OpenSSL's rehash makes it: whom to trust; NULL: whom the system trusts */
    const char *alpn;        /* "h2,http/1.1": protocols, the best first */
    const char *ciphers;     /* as `openssl ciphers` takes them; those of 1.3 ("TLS_…") may be among them */
} tdl_tls_options;

/* Makes one. 0; TDL_EINVAL; TDL_ENOTLS; TDL_ECERT, TDL_ETLS or a system error for what is in the options, and
 * in why, cut to size (may be NULL and 0), which and for what reason. Reads files on the caller's thread.
 * Any caller. */
TDL_API int  tdl_tls_new(const tdl_tls_options *o, tdl_tls **t, char *why, size_t size);
/* Clients that ask for this name, or one that "*.example.org" stands for, get the
 * certificate of `other`, which may then be freed. 0; TDL_EINVAL unless both are servers'; TDL_EBUSY once
 * t has a connection; TDL_ENOMEM. One caller at a time. */
TDL_API int  tdl_tls_add_name(tdl_tls *t, const char *name, tdl_tls *other);
/* Connections keep what they need. NULL is ignored. Any caller. */
TDL_API void tdl_tls_free(tdl_tls *t);
/* "OpenSSL 3.0.15 3 Sep 2024", its full length; or TDL_ENOTLS, and why it cannot be loaded. Any caller. */
TDL_API int  tdl_tls_library(char *buf, size_t size);

/* From now on the connection speaks TLS, the server's or client's part by t. server_name is for a
 * client: the name that it asks for and that the certificate must be for; an IP address is possible. NULL
 * takes TDL_TLS_NO_VERIFY or TDL_TLS_ANY_NAME. session (may be NULL) is one to
 * resume. Plain bytes that are still buffered are taken for the beginning of the peer's TLS. Nothing is sent or
 * waited for yet. 0; TDL_EBUSY while an operation is under way or held (tdl_conn_skip); -EALREADY: it has TLS;
 * -EOPNOTSUPP: no stream socket; TDL_EINVAL; TDL_ECLOSED. Any caller. */
TDL_API int  tdl_conn_set_tls(tdl_conn *c, tdl_tls *t, const char *server_name, tdl_tls_session *session);
/* The handshake, if it has not been done. Blocking, with the deadline of reads. 0; TDL_ETLS … TDL_ETLSEOF; else as
 * tdl_conn_read, and after TDL_ETIMEDOUT or TDL_ECANCELED it can be gone on with. TDL_EINVAL: the connection has no TLS. */
TDL_API int  tdl_conn_handshake(tdl_conn *c);
/* As tdl_conn_close_write, but waits until it has gone out, where that says TDL_EAGAIN.
 * Blocking, with the deadline of writes. */
TDL_API int  tdl_conn_end_tls(tdl_conn *c);

/* The session as it is now, to be resumed later: after a read, since a server of TLS 1.3 sends it then. The caller's,
 * to be freed. NULL: there is none that can be resumed. Any caller. */
TDL_API tdl_tls_session *tdl_conn_tls_session(tdl_conn *c);
TDL_API void tdl_tls_session_free(tdl_tls_session *s); /* NULL is ignored */

enum {
    TDL_TLS_VERSION     = 1, /* "TLSv1.3" */
    TDL_TLS_CIPHER      = 2, /* "TLS_AES_256_GCM_SHA384" */
    TDL_TLS_ALPN        = 3, /* the protocol agreed on */
    TDL_TLS_SERVER_NAME = 4, /* that the client has asked for */
    TDL_TLS_SUBJECT     = 5, /* of the peer's certificate, as RFC 2253 writes it */
    TDL_TLS_ISSUER      = 6,
    TDL_TLS_PEER_CERT   = 7, /* the peer's certificate, PEM */
    TDL_TLS_VERIFY      = 8, /* "ok", or what is wrong with it; also where it is not required to be right */
    TDL_TLS_ERROR       = 9, /* why the connection has failed: OpenSSL's reason, and the peer's address */
    TDL_TLS_DONE        = 16, /* of tdl_conn_tls_number: 1 after the handshake */
    TDL_TLS_RESUMED     = 17, /* 1: a session was resumed */
    TDL_TLS_VERIFY_CODE = 18, /* OpenSSL's X509_V_…; 0 is ok */
    TDL_TLS_VERSION_NUMBER = 19, /* TDL_TLS_1_3 … */
    TDL_TLS_UNREAD      = 20 /* 1: bytes that nobody has read have come, or the end, or an error; 0: nothing (what TLS itself has
                                sent, a ticket for resuming, say, is none); TDL_EBUSY while somebody reads */
};
/* As text, cut to size with a final NUL ("" for what is not there); its full length. TDL_EINVAL: no TLS, or another
 * number; TDL_ECLOSED. Any caller. */
TDL_API int tdl_conn_tls_text(tdl_conn *c, int what, char *buf, size_t size);
TDL_API int tdl_conn_tls_number(tdl_conn *c, int what);
/* 1: the connection has been given TLS; 0. Any caller. */
TDL_API int tdl_conn_has_tls(tdl_conn *c);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_TLS_H */
