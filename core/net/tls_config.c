/* SPDX-License-Identifier: MIT
 * What connections have in common: options into an SSL_CTX, names of a server. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "net/tls_stream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "sched/ops.h"
#include "sys/sys.h"

#ifdef TDL_HAVE_TLS

/* One being made; on a big stack. */
typedef struct making {
    const tdl_tls_options *o;
    tdl_tls *t;
    char why[TLS_WHY];
    int result;
} making;

/* -- Errors and PEM ------------------------------------------------------------------- */

static bool is_pem(const char *text) { return strstr(text, "-----BEGIN") != NULL; }

/* "what (where): reason" */
static bool bad(making *k, int code, const char *what, const char *where, const char *reason) {
    char said[128];
    tdl_tls_reason(said, sizeof said);
    bool path = where && !is_pem(where);
    snprintf(k->why, sizeof k->why, "%s%s%.96s%s: %s", what, path ? " (" : "", path ? where : "", path ? ")" : "",
             reason ? reason : said);
    k->result = code;
    return false;
}

/* To read the PEM text from; NULL, and it has been said why. */
static BIO *open_pem(making *k, const char *what, const char *text) {
    struct stat st;
    if (is_pem(text)) {
        BIO *b = tdl_ossl.BIO_new_mem_buf(text, -1);
        if (!b) bad(k, TDL_ENOMEM, what, NULL, NULL);
        return b;
    }
    if (stat(text, &st) < 0) {
        int code = -errno;
        bad(k, code, what, text, tdl_strerror(code));
        return NULL;
    }
    BIO *b = S_ISDIR(st.st_mode) ? NULL : tdl_ossl.BIO_new_file(text, "r");
    if (!b) bad(k, S_ISDIR(st.st_mode) ? -EISDIR : -EACCES, what, text, "cannot be read");
    return b;
}

static int password(char *buf, int size, int writing, void *text) {
    const char *given = text;
    (void)writing;
    int n = given ? (int)strlen(given) : 0; /* none given: nobody is asked at the terminal */
    if (n > size) return -1;
    memcpy(buf, given ? given : "", (size_t)n);
    return n;
}

/* -- Certificates ------------------------------------------------------------------------ */

static bool use_cert(making *k) {
    const char *text = k->o->cert;
    SSL_CTX *ctx = k->t->ctx;
    BIO *b = open_pem(k, "certificate", text);
    if (!b) return false;
    X509 *x = tdl_ossl.PEM_read_bio_X509(b, NULL, password, NULL);
    bool ok = x && tdl_ossl.SSL_CTX_use_certificate(ctx, x) == 1;
    if (!ok) bad(k, TDL_ECERT, "certificate", text, NULL);
    tdl_ossl.X509_free(x);
    while (ok && (x = tdl_ossl.PEM_read_bio_X509(b, NULL, password, NULL)) != NULL) {
        /* the context holds it then */
        ok = tdl_ossl.SSL_CTX_ctrl(ctx, SSL_CTRL_EXTRA_CHAIN_CERT, 0, x) == 1;
        if (ok) continue;
        bad(k, TDL_ECERT, "certificate", text, NULL);
        tdl_ossl.X509_free(x);
    }
    tdl_ossl.BIO_free(b);
    tdl_ossl.ERR_clear_error();
    return ok;
}

static bool use_key(making *k) {
    const char *text = k->o->key ? k->o->key : k->o->cert;
    BIO *b = open_pem(k, "key", text);
    if (!b) return false;
    EVP_PKEY *key = tdl_ossl.PEM_read_bio_PrivateKey(b, NULL, password, (void *)(uintptr_t)k->o->password);
    bool ok = key && tdl_ossl.SSL_CTX_use_PrivateKey(k->t->ctx, key) == 1 &&
              tdl_ossl.SSL_CTX_check_private_key(k->t->ctx) == 1;
    if (!ok) bad(k, TDL_ECERT, "key", text, NULL);
    tdl_ossl.EVP_PKEY_free(key);
    tdl_ossl.BIO_free(b);
    return ok;
}

static bool trust(making *k) {
    const char *text = k->o->ca;
    SSL_CTX *ctx = k->t->ctx;
    struct stat st;
    if (!text) {
        tdl_ossl.SSL_CTX_set_default_verify_paths(ctx); /* where nothing is found nobody is trusted */
        tdl_ossl.ERR_clear_error();
        return true;
    }
    if (!is_pem(text) && stat(text, &st) == 0 && S_ISDIR(st.st_mode))
        return tdl_ossl.SSL_CTX_load_verify_dir(ctx, text) == 1 || bad(k, TDL_ECERT, "ca", text, NULL);
    BIO *b = open_pem(k, "ca", text);
    if (!b) return false;
    bool ok = true;
    int n = 0;
    X509 *x;
    while (ok && (x = tdl_ossl.PEM_read_bio_X509(b, NULL, password, NULL)) != NULL) {
        ok = tdl_ossl.X509_STORE_add_cert(tdl_ossl.SSL_CTX_get_cert_store(ctx), x) == 1;
        if (k->o->flags & TDL_TLS_SERVER) tdl_ossl.SSL_CTX_add_client_CA(ctx, x);
        tdl_ossl.X509_free(x);
        n++;
    }
    if (!ok || n == 0) ok = bad(k, TDL_ECERT, "ca", text, NULL);
    tdl_ossl.BIO_free(b);
    tdl_ossl.ERR_clear_error();
    return ok;
}

/* -- Protocols ------------------------------------------------------------------------------ */

/* "h2,http/1.1" as the protocol has it: each behind its length. */
static bool set_alpn(making *k) {
    const char *at = k->o->alpn;
    size_t n = strlen(at);
    if (n == 0 || n > 4096 || !(k->t->alpn = tdl_sys.alloc(n + 1)))
        return bad(k, n ? TDL_ENOMEM : TDL_EINVAL, "alpn", NULL, n ? "too long" : "empty");
    unsigned char *to = k->t->alpn;
    for (;;) {
        size_t m = strcspn(at, ",");
        if (m == 0 || m > 255) return bad(k, TDL_EINVAL, "alpn", NULL, "a name has 1 to 255 bytes");
        *to++ = (unsigned char)m;
        memcpy(to, at, m);
        to += m;
        at += m;
        if (!*at++) break;
    }
    k->t->alpn_len = (unsigned)(to - k->t->alpn);
    return true;
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in, unsigned len,
                       void *arg) {
    const tdl_tls *t = arg;
    unsigned char *chosen;
    (void)ssl;
    if (tdl_ossl.SSL_select_next_proto(&chosen, n, t->alpn, t->alpn_len, in, len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* Those of TLS 1.3 are set apart from the others. */
static bool set_ciphers(making *k) {
    const char *at = k->o->ciphers;
    size_t size = strlen(at) + 1, nold = 0, nnew = 0;
    char *old = tdl_sys.alloc(2 * size), *new = old ? old + size : NULL;
    if (!old) return bad(k, TDL_ENOMEM, "ciphers", NULL, "out of memory");
    while (*at) {
        size_t m = strcspn(at, ":");
        char *to = strncmp(at, "TLS_", 4) == 0 ? new : old;
        size_t *have = to == new ? &nnew : &nold;
        if (*have) to[(*have)++] = ':';
        memcpy(to + *have, at, m);
        *have += m;
        at += m;
        if (*at) at++;
    }
    old[nold] = new[nnew] = '\0';
    bool ok = (!nold || tdl_ossl.SSL_CTX_set_cipher_list(k->t->ctx, old) == 1) &&
              (!nnew || tdl_ossl.SSL_CTX_set_ciphersuites(k->t->ctx, new) == 1);
    if (!ok) bad(k, TDL_ETLS, "ciphers", NULL, NULL);
    tdl_sys.release(old);
    return ok;
}

/* -- Names of a server ------------------------------------------------------------------------ */

static bool matches(const char *pattern, const char *name) {
    if (strcasecmp(pattern, name) == 0) return true;
    const char *dot = strchr(name, '.');
    return pattern[0] == '*' && pattern[1] == '.' && dot && dot != name && strcasecmp(pattern + 1, dot) == 0;
}

/* Only the certificate is the other's; whom to trust, protocols and so on stay. */
static bool take_cert(SSL *ssl, SSL_CTX *from) {
    STACK_OF(X509) *chain = NULL;
    tdl_ossl.SSL_CTX_ctrl(from, SSL_CTRL_GET_EXTRA_CHAIN_CERTS, 0, &chain);
    return tdl_ossl.SSL_use_cert_and_key(ssl, tdl_ossl.SSL_CTX_get0_certificate(from),
                                         tdl_ossl.SSL_CTX_get0_privatekey(from), chain, 1) == 1;
}

static int on_name(SSL *ssl, int *alert, void *arg) {
    const tdl_tls *t = arg;
    const char *name = tdl_ossl.SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    for (int i = 0; name && i < t->nnames; i++) {
        if (!matches(t->names[i].name, name)) continue;
        if (take_cert(ssl, t->names[i].tls->ctx)) return SSL_TLSEXT_ERR_OK;
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    if (!name || !(t->flags & TDL_TLS_KNOWN_NAME)) return SSL_TLSEXT_ERR_OK;
    *alert = SSL_AD_UNRECOGNIZED_NAME;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

int tdl_tls_add_name(tdl_tls *t, const char *name, tdl_tls *other) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!t || !other || t == other || !name || !*name || !(t->flags & other->flags & TDL_TLS_SERVER)) return TDL_EINVAL;
    if (at_load_rlx(&t->used)) return TDL_EBUSY;
    size_t size = strlen(name) + 1;
    tls_name *all = tdl_sys.resize(t->names, ((size_t)t->nnames + 1) * sizeof *all);
    if (!all) return TDL_ENOMEM;
    t->names = all;
    char *copy = tdl_sys.alloc(size);
    if (!copy) return TDL_ENOMEM;
    memcpy(copy, name, size);
    tdl_tls_hold(other);
    all[t->nnames++] = (tls_name){copy, other};
    return 0;
}

/* -- Making ---------------------------------------------------------------------------------- */

static bool set_versions(making *k) {
    SSL_CTX *ctx = k->t->ctx;
    int min = k->o->min_version ? k->o->min_version : TDL_TLS_1_2, max = k->o->max_version;
    if (tdl_ossl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, min, NULL) == 1 &&
        tdl_ossl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MAX_PROTO_VERSION, max, NULL) == 1)
        return true;
    return bad(k, TDL_EINVAL, "versions", NULL, "OpenSSL has them not");
}

static void set_rest(making *k) {
    SSL_CTX *ctx = k->t->ctx;
    uint32_t flags = k->o->flags;
    bool server = flags & TDL_TLS_SERVER;
    int verify = SSL_VERIFY_NONE;
    if (!server && !(flags & TDL_TLS_NO_VERIFY)) verify = SSL_VERIFY_PEER;
    if (flags & TDL_TLS_ASK_CLIENT) verify = SSL_VERIFY_PEER;
    if (flags & TDL_TLS_NEED_CLIENT) verify = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    tdl_ossl.SSL_CTX_set_verify(ctx, verify, NULL);
    /* the read buffer is filled by one call, and exists only while bytes are in it */
    tdl_ossl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_READ_AHEAD, 1, NULL);
    tdl_ossl.SSL_CTX_ctrl(ctx, SSL_CTRL_MODE,
                          SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
                          NULL);
    tdl_ossl.SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* servers resume by tickets, which they need not keep */
    tdl_ossl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
    if (flags & TDL_TLS_NO_RESUME) {
        tdl_ossl.SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        tdl_ossl.SSL_CTX_set_num_tickets(ctx, 0);
    }
    if (!server) return;
    static const unsigned char id[] = "treadle";
    tdl_ossl.SSL_CTX_set_session_id_context(ctx, id, sizeof id - 1);
    tdl_ossl.SSL_CTX_callback_ctrl(ctx, SSL_CTRL_SET_TLSEXT_SERVERNAME_CB, (void (*)(void))on_name);
    tdl_ossl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_TLSEXT_SERVERNAME_ARG, 0, k->t);
    if (k->t->alpn) tdl_ossl.SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, k->t);
}

static bool fill(making *k) {
    const tdl_tls_options *o = k->o;
    tdl_ossl.ERR_clear_error();
    k->t->ctx = tdl_ossl.SSL_CTX_new(tdl_ossl.TLS_method());
    if (!k->t->ctx) return bad(k, TDL_ENOMEM, "OpenSSL", NULL, NULL);
    if (!set_versions(k)) return false;
    if (o->ciphers && !set_ciphers(k)) return false;
    if (o->alpn && !set_alpn(k)) return false;
    bool server = o->flags & TDL_TLS_SERVER;
    /* after the ciphers, which may allow keys that are refused otherwise */
    if (o->cert && (!use_cert(k) || !use_key(k))) return false;
    bool asks = server ? o->flags & (TDL_TLS_ASK_CLIENT | TDL_TLS_NEED_CLIENT) : true;
    if ((asks || o->ca) && !trust(k)) return false;
    set_rest(k);
    if (!server && k->t->alpn && tdl_ossl.SSL_CTX_set_alpn_protos(k->t->ctx, k->t->alpn, k->t->alpn_len) != 0)
        return bad(k, TDL_ENOMEM, "alpn", NULL, NULL);
    return true;
}

static void make(void *arg) {
    making *k = arg;
    fill(k);
}

static bool options_ok(const tdl_tls_options *o) {
    if (o->size != sizeof *o || (o->flags & ~(uint32_t)TDL_TLS_ALL)) return false;
    uint32_t servers = TDL_TLS_ASK_CLIENT | TDL_TLS_NEED_CLIENT | TDL_TLS_KNOWN_NAME;
    bool server = o->flags & TDL_TLS_SERVER;
    if (server ? !o->cert || (o->flags & (TDL_TLS_NO_VERIFY | TDL_TLS_ANY_NAME)) : (o->flags & servers) != 0) return false;
    if (o->key && !o->cert) return false;
    for (int i = 0; i < 2; i++) {
        int v = i ? o->max_version : o->min_version;
        if (v != 0 && (v < TDL_TLS_1_0 || v > TDL_TLS_1_3)) return false;
    }
    return true;
}

int tdl_tls_new(const tdl_tls_options *o, tdl_tls **t, char *why, size_t size) {
    making k = {.o = o};
    if (tdl_forked()) return TDL_EFORKED;
    if (!t || (!why && size)) return TDL_EINVAL;
    *t = NULL;
    if (size) why[0] = '\0';
    if (!o || !options_ok(o)) {
        snprintf(why, size, "the options do not go together, or are out of range");
        return TDL_EINVAL;
    }
    int r = tdl_tls_load(why, size);
    if (r < 0) return r;
    if (!(k.t = tdl_alloc_zeroed(sizeof *k.t))) return TDL_ENOMEM;
    k.t->flags = o->flags;
    at_store_rlx(&k.t->refs, 1);
    tdl_system_stack(make, &k);
    if (k.result < 0) {
        if (size) snprintf(why, size, "%s", k.why);
        tdl_tls_free(k.t);
        return k.result;
    }
    *t = k.t;
    return 0;
}

void tdl_tls_hold(tdl_tls *t) { at_add_rlx(&t->refs, 1); }

static void free_ctx(void *ctx) {
    tdl_ossl.SSL_CTX_free(ctx);
    tdl_ossl.ERR_clear_error();
}

void tdl_tls_free(tdl_tls *t) {
    if (!t || tdl_forked() || at_sub_seq(&t->refs, 1) != 1) return;
    for (int i = 0; i < t->nnames; i++) {
        tdl_sys.release(t->names[i].name);
        tdl_tls_free(t->names[i].tls);
    }
    if (t->ctx) tdl_system_stack(free_ctx, t->ctx);
    tdl_sys.release(t->names);
    tdl_sys.release(t->alpn);
    tdl_sys.release(t);
}

#else

int tdl_tls_add_name(tdl_tls *t, const char *name, tdl_tls *other) {
    return (void)t, (void)name, (void)other, TDL_EINVAL;
}

int tdl_tls_new(const tdl_tls_options *o, tdl_tls **t, char *why, size_t size) {
    if (!o || !t || (!why && size)) return TDL_EINVAL;
    *t = NULL;
    return tdl_tls_load(why, size);
}

void tdl_tls_free(tdl_tls *t) { (void)t; }

#endif
