/* SPDX-License-Identifier: MIT
 * What a TLS connection tells about itself; sessions. */
#include "net/tls_stream.h"

#include <stdio.h>
#include <string.h>

#include "sched/ops.h"
#include "sys/sys.h"

int tdl_conn_has_tls(tdl_conn *c) { return c && tdl_conn_tls(c) != NULL; }

#ifdef TDL_HAVE_TLS

typedef struct tdl_tls_stream stream;

typedef struct asking {
    int what;
    char *buf;
    size_t size;
    int result;
    SSL_SESSION *session;
} asking;

static void say(asking *a, const char *text) {
    int n = snprintf(a->buf, a->size, "%s", text ? text : "");
    if (a->result == 0) a->result = n;
}

static void say_bytes(asking *a, const char *bytes, size_t n) {
    size_t fits = a->size ? n < a->size - 1 ? n : a->size - 1 : 0;
    memcpy(a->buf, bytes, fits);
    if (a->size) a->buf[fits] = '\0';
    a->result = (int)n;
}

/* What is written to a memory BIO by one of these. */
static bool write_name(BIO *b, const X509_NAME *name) {
    return tdl_ossl.X509_NAME_print_ex(b, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0;
}

static void of_certificate(stream *s, asking *a) {
    X509 *x = tdl_ossl.SSL_get1_peer_certificate(s->ssl);
    BIO *b = x ? tdl_ossl.BIO_new(tdl_ossl.BIO_s_mem()) : NULL;
    bool ok = false;
    say(a, "");
    if (b && a->what == TDL_TLS_SUBJECT) ok = write_name(b, tdl_ossl.X509_get_subject_name(x));
    if (b && a->what == TDL_TLS_ISSUER) ok = write_name(b, tdl_ossl.X509_get_issuer_name(x));
    if (b && a->what == TDL_TLS_PEER_CERT) ok = tdl_ossl.PEM_write_bio_X509(b, x) == 1;
    if (ok) {
        char *bytes = NULL;
        long n = tdl_ossl.BIO_ctrl(b, BIO_CTRL_INFO, 0, &bytes);
        if (n > 0 && bytes) say_bytes(a, bytes, (size_t)n);
    } else if (x) {
        a->result = TDL_ENOMEM;
    }
    if (b) tdl_ossl.BIO_free(b);
    if (x) tdl_ossl.X509_free(x);
}

static void verdict(stream *s, asking *a) {
    X509 *x = s->done ? tdl_ossl.SSL_get1_peer_certificate(s->ssl) : NULL;
    bool none = s->done && !x && !tdl_ossl.SSL_session_reused(s->ssl);
    if (x) tdl_ossl.X509_free(x);
    say(a, none ? "" : tdl_ossl.X509_verify_cert_error_string(tdl_ossl.SSL_get_verify_result(s->ssl)));
}

static void tell_text(stream *s, void *arg) {
    asking *a = arg;
    const unsigned char *bytes;
    unsigned n;
    const SSL_CIPHER *cipher;
    switch (a->what) {
    case TDL_TLS_VERSION: say(a, s->done ? tdl_ossl.SSL_get_version(s->ssl) : ""); break;
    case TDL_TLS_CIPHER:
        cipher = s->done ? tdl_ossl.SSL_get_current_cipher(s->ssl) : NULL;
        say(a, cipher ? tdl_ossl.SSL_CIPHER_get_name(cipher) : "");
        break;
    case TDL_TLS_ALPN:
        tdl_ossl.SSL_get0_alpn_selected(s->ssl, &bytes, &n);
        say_bytes(a, bytes ? (const char *)bytes : "", bytes ? n : 0);
        break;
    case TDL_TLS_SERVER_NAME: say(a, tdl_ossl.SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name)); break;
    case TDL_TLS_SUBJECT:
    case TDL_TLS_ISSUER:
    case TDL_TLS_PEER_CERT: of_certificate(s, a); break;
    case TDL_TLS_VERIFY: verdict(s, a); break;
    case TDL_TLS_ERROR:
        say(a, s->broken ? s->why : s->in_error ? tdl_strerror(s->in_error) : s->out_error ? tdl_strerror(s->out_error) : "");
        break;
    default: a->result = TDL_EINVAL;
    }
    tdl_ossl.ERR_clear_error();
}

/* Takes in what has come, without giving it to anybody. */
static int unread(stream *s) {
    char byte;
    if (tdl_pd_busy(s->conn->pd, PD_READ)) return TDL_EBUSY; /* an event that we use up may be his */
    if (!s->done || s->broken) return s->broken != 0;
    tdl_ossl.ERR_clear_error();
    int n = tdl_ossl.SSL_peek(s->ssl, &byte, 1);
    bool nothing = n <= 0 && tdl_ossl.SSL_get_error(s->ssl, n) == SSL_ERROR_WANT_READ && !s->in_error;
    tdl_ossl.ERR_clear_error();
    return !nothing;
}

static void tell_number(stream *s, void *arg) {
    asking *a = arg;
    switch (a->what) {
    case TDL_TLS_DONE: a->result = s->done; break;
    case TDL_TLS_RESUMED: a->result = s->done && tdl_ossl.SSL_session_reused(s->ssl); break;
    case TDL_TLS_VERIFY_CODE: a->result = (int)tdl_ossl.SSL_get_verify_result(s->ssl); break;
    case TDL_TLS_VERSION_NUMBER: a->result = s->done ? tdl_ossl.SSL_version(s->ssl) : 0; break;
    case TDL_TLS_UNREAD: a->result = unread(s); break;
    default: a->result = TDL_EINVAL;
    }
}

static void take_session(stream *s, void *arg) {
    asking *a = arg;
    if (!s->done || (s->tls->flags & (TDL_TLS_SERVER | TDL_TLS_NO_RESUME))) return;
    SSL_SESSION *session = tdl_ossl.SSL_get1_session(s->ssl);
    if (session && !tdl_ossl.SSL_SESSION_is_resumable(session)) {
        tdl_ossl.SSL_SESSION_free(session);
        session = NULL;
    }
    a->session = session;
}

/* For any caller: the stream stays while it is asked. */
static int ask(tdl_conn *c, void (*fn)(stream *s, void *arg), asking *a) {
    if (!c) return TDL_EINVAL;
    int r = tdl_pd_enter_plain(c->pd);
    if (r < 0) return r;
    stream *s = tdl_conn_tls(c);
    if (s)
        tdl_tls_with(s, fn, a);
    else
        a->result = TDL_EINVAL;
    tdl_pd_leave_plain(c->pd);
    return a->result;
}

int tdl_conn_tls_text(tdl_conn *c, int what, char *buf, size_t size) {
    asking a = {.what = what, .buf = buf, .size = size};
    return !buf && size ? TDL_EINVAL : ask(c, tell_text, &a);
}

int tdl_conn_tls_number(tdl_conn *c, int what) {
    asking a = {.what = what};
    return ask(c, tell_number, &a);
}

tdl_tls_session *tdl_conn_tls_session(tdl_conn *c) {
    asking a = {0};
    ask(c, take_session, &a);
    return (tdl_tls_session *)(void *)a.session;
}

void tdl_tls_session_free(tdl_tls_session *s) {
    if (s && !tdl_forked()) tdl_ossl.SSL_SESSION_free((SSL_SESSION *)(void *)s);
}

#else

int tdl_conn_tls_text(tdl_conn *c, int what, char *buf, size_t size) {
    return (void)c, (void)what, (void)buf, (void)size, TDL_EINVAL;
}
int tdl_conn_tls_number(tdl_conn *c, int what) { return (void)c, (void)what, TDL_EINVAL; }
tdl_tls_session *tdl_conn_tls_session(tdl_conn *c) { return (void)c, NULL; }
void tdl_tls_session_free(tdl_tls_session *s) { (void)s; }

#endif
