/* SPDX-License-Identifier: MIT
 * TLS streams: giving a connection TLS, the handshake, moving bytes, the end. */
#include "net/tls_stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "sys/sys.h"

#ifdef TDL_HAVE_TLS

typedef struct tdl_tls_stream stream;

/* -- Under OpenSSL ------------------------------------------------------------------- */

static BIO_METHOD *method; /* made with the first stream; see make_method */

/* Ciphertext for OpenSSL: what came before TLS was there, then the socket's. That there is
 * an end or an error is kept back: "not now". */
static int bio_read(BIO *b, char *buf, int n) {
    stream *s = tdl_ossl.BIO_get_data(b);
    size_t have = tdl_buffer_len(&s->early);
    int64_t r = -EAGAIN;
    tdl_ossl.BIO_clear_flags(b, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
    if (n <= 0) return 0;
    if (have) {
        if (have > (size_t)n) have = (size_t)n;
        memcpy(buf, tdl_buffer_bytes(&s->early), have);
        tdl_buffer_skip(&s->early, have);
        return (int)have;
    }
    if (s->in_error == 0) {
        do
            r = tdl_conn_take_socket(s->conn, buf, (size_t)n);
        while (r == -EINTR);
        s->short_last = r == -EAGAIN || (r > 0 && r < n);
        if (r > 0) return (int)r;
        if (r == 0) s->in_error = TDL_ETLSEOF;
        if (r < 0 && r != -EAGAIN) s->in_error = (int)r;
    }
    tdl_ossl.BIO_set_flags(b, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
    return -1;
}

static int bio_write(BIO *b, const char *bytes, int n) {
    stream *s = tdl_ossl.BIO_get_data(b);
    tdl_ossl.BIO_clear_flags(b, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
    if (n <= 0) return 0;
    if (tdl_buffer_room(&s->out, (size_t)n) == 0) {
        s->out_error = TDL_ENOMEM;
        tdl_buffer_trim(&s->out);
        tdl_ossl.BIO_set_flags(b, BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY);
        return -1;
    }
    memcpy(tdl_buffer_end(&s->out), bytes, (size_t)n);
    tdl_buffer_add(&s->out, (size_t)n);
    return n;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr) {
    (void)b, (void)num, (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static bool make_method(void) {
    static tdl_lock lock = TDL_LOCK_INIT(RANK_TLS);
    tdl_lock_take(&lock);
    if (!method) {
        int index = tdl_ossl.BIO_get_new_index();
        BIO_METHOD *m = tdl_ossl.BIO_meth_new(index | BIO_TYPE_SOURCE_SINK, "treadle connection");
        if (m) {
            tdl_ossl.BIO_meth_set_read(m, bio_read);
            tdl_ossl.BIO_meth_set_write(m, bio_write);
            tdl_ossl.BIO_meth_set_ctrl(m, bio_ctrl);
        }
        method = m;
    }
    bool ok = method != NULL;
    tdl_unlock(&lock);
    return ok;
}

/* Sends what is in out. 0, -EAGAIN, or the error, for ever. */
static int flush(stream *s) {
    while (s->out_error == 0 && tdl_buffer_len(&s->out)) {
        size_t n = tdl_buffer_len(&s->out);
        int64_t r = tdl_sys.send(s->conn->pd->fd, tdl_buffer_bytes(&s->out), n);
        if (r == -EINTR) continue;
        if (r == -EAGAIN) return -EAGAIN;
        if (r < 0) {
            s->out_error = (int)r;
            tdl_buffer_free(&s->out);
        } else {
            tdl_buffer_skip(&s->out, (size_t)r);
        }
    }
    return s->out_error;
}

/* -- What OpenSSL says ----------------------------------------------------------------- */

unsigned long tdl_tls_reason(char *buf, size_t size) {
    unsigned long e = tdl_ossl.ERR_peek_last_error();
    const char *text = e ? tdl_ossl.ERR_reason_error_string(e) : NULL;
    snprintf(buf, size, "%s", text ? text : e ? "unknown error" : "no reason given");
    tdl_ossl.ERR_clear_error();
    return e;
}

static int code_of(stream *s, unsigned long e) {
    int reason = ERR_GET_REASON(e);
    if (ERR_GET_LIB(e) != ERR_LIB_SSL) return TDL_ETLS;
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        long v = tdl_ossl.SSL_get_verify_result(s->ssl);
        bool name = v == X509_V_ERR_HOSTNAME_MISMATCH || v == X509_V_ERR_IP_ADDRESS_MISMATCH;
        return name ? TDL_ECERTNAME : TDL_ECERT;
    }
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) return TDL_ECERT;
    return reason >= SSL_AD_REASON_OFFSET ? TDL_ETLSALERT : TDL_ETLS;
}

/* It cannot be gone on with. The code. */
static int fail(stream *s) {
    char reason[128], peer[96] = "", more[128] = "";
    tdl_addr a;
    socklen_t n = sizeof a.sockaddr;
    memset(&a, 0, sizeof a);
    unsigned long e = tdl_tls_reason(reason, sizeof reason);
    s->broken = code_of(s, e);
    if (ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        snprintf(more, sizeof more, ": %s",
                 tdl_ossl.X509_verify_cert_error_string(tdl_ossl.SSL_get_verify_result(s->ssl)));
    if (tdl_sys.getpeername(s->conn->pd->fd, tdl_addr_sa(&a), &n) == 0) {
        a.length = n < sizeof a.sockaddr ? n : sizeof a.sockaddr;
        tdl_addr_format(&a, peer, sizeof peer);
    }
    snprintf(s->why, sizeof s->why, "%s%s%s%s%s", reason, more, peer[0] ? " (" : "", peer, peer[0] ? ")" : "");
    return s->broken;
}

/* After a call that returned r <= 0: what the op is told; -EAGAIN: more has to come. */
static int64_t outcome(stream *s, int r) {
    switch (tdl_ossl.SSL_get_error(s->ssl, r)) {
    case SSL_ERROR_WANT_READ: return s->in_error ? s->in_error : -EAGAIN;
    case SSL_ERROR_WANT_WRITE: return s->out_error ? s->out_error : -EAGAIN;
    case SSL_ERROR_ZERO_RETURN: return 0;
    default: return fail(s);
    }
}

/* -- The work of an attempt ---------------------------------------------------------------- */

/* 0 once it is done; what is to go out for that has then perhaps not gone out. */
static int64_t handshake(stream *s) {
    if (s->broken) return s->broken;
    if (s->done) return 0;
    tdl_ossl.ERR_clear_error();
    int r = tdl_ossl.SSL_do_handshake(s->ssl);
    if (r == 1) {
        s->done = 1;
        return 0;
    }
    int64_t x = outcome(s, r);
    if (x == 0) x = TDL_ETLSEOF; /* it said that nothing follows, and nothing has been */
    int out = flush(s);          /* an alert, too */
    return x == -EAGAIN && out < 0 && out != -EAGAIN ? out : x;
}

typedef struct work {
    int64_t (*fn)(stream *s, struct work *w);
    stream *s;
    char *buf;
    size_t n;
    int64_t result;
    bool reads; /* it is the read direction's */
    bool nudge; /* others may now get further */
    bool clean; /* everything has gone out */
} work;

static int64_t do_handshake(stream *s, work *w) {
    (void)w;
    int64_t r = handshake(s);
    return r == 0 ? flush(s) : r;
}

static int64_t do_read(stream *s, work *w) {
    size_t got = 0;
    s->short_last = 0; /* an earlier look says nothing: what came since may have been this attempt's event */
    int64_t r = handshake(s);
    if (r < 0) return r;
    tdl_ossl.ERR_clear_error();
    do {
        size_t left = w->n - got;
        int n = tdl_ossl.SSL_read(s->ssl, w->buf + got, left < INT_MAX ? (int)left : INT_MAX);
        if (n <= 0) {
            r = outcome(s, n);
            break;
        }
        got += (size_t)n;
    } while (got < w->n && tdl_ossl.SSL_has_pending(s->ssl));
    if (tdl_buffer_len(&s->out)) flush(s); /* an answer, or an alert */
    s->drained = s->short_last && !s->crossed && !tdl_buffer_len(&s->early) && !tdl_ossl.SSL_has_pending(s->ssl);
    return got ? (int64_t)got : r;
}

static int64_t do_write(stream *s, work *w) {
    size_t put = 0;
    int64_t r = handshake(s);
    if (r < 0) return r;
    if (s->notified) return -EPIPE;
    if ((r = flush(s)) < 0) return r;
    tdl_ossl.ERR_clear_error();
    while (put < w->n && tdl_buffer_len(&s->out) < TLS_OUT_MAX) {
        size_t left = w->n - put;
        int n = tdl_ossl.SSL_write(s->ssl, w->buf + put, left < TLS_RECORD ? (int)left : TLS_RECORD);
        if (n <= 0) {
            r = outcome(s, n);
            if (put == 0) return r == 0 ? TDL_ETLS : r;
            break;
        }
        put += (size_t)n;
    }
    r = flush(s);
    return r < 0 && r != -EAGAIN ? r : (int64_t)put;
}

static int64_t do_flush(stream *s, work *w) {
    (void)w;
    return s->broken ? s->broken : flush(s);
}

static int64_t do_notify(stream *s, work *w) {
    (void)w;
    if (s->broken) return s->broken;
    if (!s->done) return -ENOTCONN;
    if (!s->notified) {
        s->notified = 1;
        tdl_ossl.ERR_clear_error();
        tdl_ossl.SSL_shutdown(s->ssl);
    }
    return flush(s);
}

/* Sees to it that each event comes to whom it concerns. An op on the read side that
 * cannot send is woken when it can, unless a writer is there, who sends. */
static void settle(work *w) {
    stream *s = w->s;
    bool stuck = s->out_error == 0 && tdl_buffer_len(&s->out) != 0;
    bool alone = stuck && w->reads && w->result == -EAGAIN && !s->crossed && !tdl_pd_busy(s->conn->pd, PD_WRITE);
    bool need = !s->broken && (!s->done || (stuck && s->crossed) || alone);
    if (need && !s->crossed) {
        tdl_pd_set_cross(s->conn->pd, true);
        s->crossed = 1;
        need = flush(s) == -EAGAIN; /* the event may have come before */
    }
    if (!need && s->crossed) {
        tdl_pd_set_cross(s->conn->pd, false);
        s->crossed = 0;
        w->nudge = true;
    }
}

static void run(void *arg) {
    work *w = arg;
    int was = w->s->broken;
    w->result = w->fn(w->s, w);
    settle(w);
    if (w->s->broken != was) w->nudge = true;
    w->clean = tdl_buffer_len(&w->s->out) == 0;
}

static void do_work(tdl_conn *c, work *w) {
    w->s = c->tls;
    tdl_lock_take(&c->tls->lock);
    tdl_system_stack(run, w); /* OpenSSL needs more than a goroutine has */
    tdl_unlock(&c->tls->lock);
    if (w->nudge) tdl_pd_nudge(c->pd);
}

/* Does it as part of an attempt. */
static int64_t attempt(tdl_conn *c, int64_t (*fn)(stream *, work *), const void *buf, size_t n, bool reads) {
    work w = {.fn = fn, .buf = (char *)(uintptr_t)buf, .n = n, .reads = reads};
    do_work(c, &w);
    return w.result;
}

int64_t tdl_tls_take(tdl_conn *c, void *buf, size_t n) { return attempt(c, do_read, buf, n, true); }
bool tdl_tls_drained(tdl_conn *c) { return c->tls->drained; }
int64_t tdl_tls_put(tdl_conn *c, const void *buf, size_t n) { return attempt(c, do_write, buf, n, false); }

int64_t tdl_tls_putv(tdl_conn *c, const struct iovec *v, int n) {
    if (n == 1 || v->iov_len >= TLS_RECORD) return tdl_tls_put(c, v->iov_base, v->iov_len);
    tdl_block *b = tdl_block_new(TLS_RECORD);
    if (!b) return TDL_ENOMEM;
    size_t have = 0;
    for (int i = 0; i < n && have < TLS_RECORD; i++) { /* into one record */
        size_t m = v[i].iov_len < TLS_RECORD - have ? v[i].iov_len : TLS_RECORD - have;
        memcpy(b->data + have, v[i].iov_base, m);
        have += m;
    }
    int64_t r = tdl_tls_put(c, b->data, have);
    tdl_block_drop(b);
    return r;
}

int64_t tdl_tls_written(tdl_conn *c, int64_t n) {
    int64_t r = attempt(c, do_flush, NULL, 0, false);
    return r == -EAGAIN ? TDL_EAGAIN : r < 0 ? r : n;
}

int64_t tdl_tls_write(tdl_op *op, tdl_conn *c) {
    while (op->u.io.done < op->u.io.n) {
        work w = {.fn = do_write, .buf = op->u.io.buf + op->u.io.done, .n = op->u.io.n - op->u.io.done};
        do_work(c, &w);
        if (w.result == -EAGAIN) return TDL_EAGAIN;
        if (w.result < 0) return w.result;
        op->u.io.done += (size_t)w.result;
        if (w.clean && op->u.io.done == op->u.io.n) return (int64_t)op->u.io.n;
    }
    return tdl_tls_written(c, (int64_t)op->u.io.n);
}

static void has_pending(stream *s, void *arg) {
    *(bool *)arg = tdl_buffer_len(&s->early) || tdl_ossl.SSL_has_pending(s->ssl);
}

bool tdl_tls_pending(tdl_conn *c) {
    bool yes = false;
    tdl_tls_with(c->tls, has_pending, &yes);
    return yes;
}

typedef struct with {
    stream *s;
    void (*fn)(stream *s, void *arg);
    void *arg;
} with;

static void call_with(void *arg) {
    with *w = arg;
    w->fn(w->s, w->arg);
}

void tdl_tls_with(stream *s, void (*fn)(stream *s, void *arg), void *arg) {
    with w = {s, fn, arg};
    tdl_lock_take(&s->lock);
    tdl_system_stack(call_with, &w);
    tdl_unlock(&s->lock);
}

/* -- Ops ------------------------------------------------------------------------------------ */

static int64_t handshake_attempt(tdl_op *op) {
    int64_t r = attempt(op->u.io.object, do_handshake, NULL, 0, true);
    return r == -EAGAIN ? TDL_EAGAIN : r;
}

static const tdl_op_class handshake_class = {"IO wait (TLS handshake)", tdl_pd_finish, tdl_pd_abandon};

int64_t tdl_conn_handshake_op(tdl_op *op, tdl_conn *c) {
    if (!c || !tdl_conn_tls(c)) return TDL_EINVAL;
    op->u.io.object = c;
    op->u.io.attempt = handshake_attempt;
    return tdl_pd_op(op, c->pd, PD_READ, false, &handshake_class);
}

static int64_t end_attempt(tdl_op *op) {
    tdl_conn *c = op->u.io.object;
    int64_t r = attempt(c, do_notify, NULL, 0, false);
    return r == -EAGAIN ? TDL_EAGAIN : r;
}

static const tdl_op_class end_class = {"IO wait (write)", tdl_pd_finish, tdl_pd_abandon};

int64_t tdl_conn_end_tls_op(tdl_op *op, tdl_conn *c) {
    if (!c || !tdl_conn_tls(c)) return TDL_EINVAL;
    op->u.io.object = c;
    op->u.io.attempt = end_attempt;
    return tdl_pd_op(op, c->pd, PD_WRITE, false, &end_class);
}

/* -- The end ---------------------------------------------------------------------------------- */

int tdl_tls_notify(tdl_conn *c) {
    int64_t r = attempt(c, do_notify, NULL, 0, false);
    return r == -EAGAIN ? TDL_EAGAIN : (int)r;
}

static void say_goodbye(void *arg) {
    stream *s = arg;
    /* half a record behind which more was to come: the peer is to see that */
    if (s->done && !s->broken && !s->notified && tdl_buffer_len(&s->out) == 0) do_notify(s, NULL);
}

void tdl_tls_closing(tdl_conn *c) {
    if (tdl_pd_enter_plain(c->pd) < 0) return;
    if (tdl_lock_try(&c->tls->lock)) { /* else somebody reads or writes, and is cut short */
        tdl_system_stack(say_goodbye, c->tls);
        tdl_unlock(&c->tls->lock);
    }
    tdl_pd_leave_plain(c->pd);
}

static void release(void *arg) {
    stream *s = arg;
    if (s->ssl) tdl_ossl.SSL_free(s->ssl);
    tdl_ossl.ERR_clear_error();
}

void tdl_tls_gone(stream *s) {
    tdl_system_stack(release, s);
    tdl_buffer_free(&s->early);
    tdl_buffer_free(&s->out);
    tdl_tls_free(s->tls);
    tdl_sys.release(s);
}

/* -- The beginning ------------------------------------------------------------------------------ */

typedef struct beginning {
    stream *s;
    const char *name;
    SSL_SESSION *session;
    int result;
} beginning;

static bool is_ip(const char *name) {
    unsigned char room[16];
    return inet_pton(AF_INET, name, room) == 1 || inet_pton(AF_INET6, name, room) == 1;
}

static bool expect_name(stream *s, const char *name) {
    bool ip = is_ip(name);
    X509_VERIFY_PARAM *p = tdl_ossl.SSL_get0_param(s->ssl);
    if (!ip && tdl_ossl.SSL_ctrl(s->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                                 (void *)(uintptr_t)name) != 1)
        return false;
    if (s->tls->flags & (TDL_TLS_NO_VERIFY | TDL_TLS_ANY_NAME)) return true;
    if (ip) return tdl_ossl.X509_VERIFY_PARAM_set1_ip_asc(p, name) == 1;
    tdl_ossl.X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return tdl_ossl.X509_VERIFY_PARAM_set1_host(p, name, 0) == 1;
}

static void begin(void *arg) {
    beginning *b = arg;
    stream *s = b->s;
    b->result = TDL_ENOMEM;
    if (!make_method() || !(s->ssl = tdl_ossl.SSL_new(s->tls->ctx))) return;
    BIO *bio = tdl_ossl.BIO_new(method);
    if (!bio) return;
    tdl_ossl.BIO_set_data(bio, s);
    tdl_ossl.BIO_set_init(bio, 1);
    tdl_ossl.SSL_set_bio(s->ssl, bio, bio);
    b->result = 0;
    if (s->tls->flags & TDL_TLS_SERVER) {
        tdl_ossl.SSL_set_accept_state(s->ssl);
    } else {
        tdl_ossl.SSL_set_connect_state(s->ssl);
        if (b->name && !expect_name(s, b->name)) b->result = TDL_EINVAL;
        if (b->session) tdl_ossl.SSL_set_session(s->ssl, b->session); /* one of another version is not used */
    }
    tdl_ossl.ERR_clear_error();
}

/* Under the descriptor's lock, with both directions free. */
static int take_over(void *arg) {
    stream *s = arg;
    tdl_conn *c = s->conn;
    if (c->kind != CONN_SOCKET) return -EALREADY; /* another was quicker */
    s->early = c->in;
    c->in = (tdl_buffer){0};
    c->tls = s;
    c->kind = CONN_TLS;
    c->pd->dir[PD_READ].keep = 0;
    c->pd->cross = 1;
    at_or_seq(&c->marks, MARK_TLS); /* pairs with tdl_conn_tls */
    return 0;
}

static int may_have_tls(tdl_conn *c) {
    int r = tdl_pd_enter_plain(c->pd);
    if (r < 0) return r;
    r = c->kind == CONN_TLS ? -EALREADY : c->kind == CONN_SOCKET && !c->of_fd ? 0 : -EOPNOTSUPP;
    tdl_pd_leave_plain(c->pd);
    return r;
}

int tdl_conn_set_tls(tdl_conn *c, tdl_tls *t, const char *name, tdl_tls_session *session) {
    if (!c || !t) return TDL_EINVAL;
    bool server = t->flags & TDL_TLS_SERVER;
    if (name && (server || !*name || strlen(name) > 255)) return TDL_EINVAL;
    if (!name && !server && !(t->flags & (TDL_TLS_NO_VERIFY | TDL_TLS_ANY_NAME))) return TDL_EINVAL;
    int r = may_have_tls(c);
    if (r < 0) return r;
    stream *s = tdl_alloc_zeroed(sizeof *s);
    if (!s) return TDL_ENOMEM;
    tdl_lock_init(&s->lock, RANK_TLS);
    s->conn = c;
    s->tls = t;
    s->crossed = 1;
    tdl_tls_hold(t);
    beginning b = {.s = s, .name = name, .session = (SSL_SESSION *)(void *)session};
    tdl_system_stack(begin, &b);
    r = b.result;
    if (r == 0) r = tdl_pd_change(c->pd, take_over, s);
    if (r < 0)
        tdl_tls_gone(s);
    else
        at_store_rlx(&t->used, 1);
    return r;
}

/* -- From one connection to another ------------------------------------------------------------- */

stream *tdl_tls_detach(tdl_conn *c) {
    stream *s = c->tls;
    c->tls = NULL;
    c->kind = CONN_SOCKET;
    at_store_rel(&c->marks, at_load_rlx(&c->marks) & ~MARK_TLS); /* nobody else writes them any more */
    s->conn = NULL;
    return s;
}

/* Under the descriptor's lock, as take_over; what the stream has of its own goes on. */
static int move_in(void *arg) {
    stream *s = arg;
    tdl_conn *c = s->conn;
    c->tls = s;
    c->kind = CONN_TLS;
    c->pd->cross = s->crossed;
    at_or_seq(&c->marks, MARK_TLS); /* pairs with tdl_conn_tls */
    return 0;
}

int tdl_tls_attach(tdl_conn *c, stream *s) {
    s->conn = c;
    return tdl_pd_change(c->pd, move_in, s);
}

static void take_leave(void *arg) {
    stream *s = arg;
    if (!s->done || s->broken || s->notified || s->out_error || tdl_buffer_len(&s->out)) return;
    tdl_ossl.ERR_clear_error();
    tdl_ossl.SSL_shutdown(s->ssl); /* writes, and reads nothing */
}

void tdl_tls_abandon(stream *s, int fd) {
    tdl_system_stack(take_leave, s);
    if (s->out_error == 0 && tdl_buffer_len(&s->out)) tdl_sys.send(fd, tdl_buffer_bytes(&s->out), tdl_buffer_len(&s->out));
    tdl_tls_gone(s);
}

#else /* without TLS nothing makes a stream */

int64_t tdl_tls_take(tdl_conn *c, void *buf, size_t n) { return (void)c, (void)buf, (void)n, TDL_ENOTLS; }
int64_t tdl_tls_put(tdl_conn *c, const void *buf, size_t n) { return (void)c, (void)buf, (void)n, TDL_ENOTLS; }
int64_t tdl_tls_putv(tdl_conn *c, const struct iovec *v, int n) { return (void)c, (void)v, (void)n, TDL_ENOTLS; }
int64_t tdl_tls_written(tdl_conn *c, int64_t n) { return (void)c, (void)n, TDL_ENOTLS; }
int64_t tdl_tls_write(tdl_op *op, tdl_conn *c) { return (void)op, (void)c, TDL_ENOTLS; }
bool tdl_tls_pending(tdl_conn *c) { return (void)c, false; }
bool tdl_tls_drained(tdl_conn *c) { return (void)c, false; }
int tdl_tls_notify(tdl_conn *c) { return (void)c, TDL_ENOTLS; }
void tdl_tls_closing(tdl_conn *c) { (void)c; }
void tdl_tls_gone(struct tdl_tls_stream *s) { (void)s; }
struct tdl_tls_stream *tdl_tls_detach(tdl_conn *c) { return (void)c, NULL; }
int tdl_tls_attach(tdl_conn *c, struct tdl_tls_stream *s) { return (void)c, (void)s, TDL_ENOTLS; }
void tdl_tls_abandon(struct tdl_tls_stream *s, int fd) { (void)s, (void)fd; }
int64_t tdl_conn_handshake_op(tdl_op *op, tdl_conn *c) { return (void)op, (void)c, TDL_EINVAL; }
int64_t tdl_conn_end_tls_op(tdl_op *op, tdl_conn *c) { return (void)op, (void)c, TDL_EINVAL; }
int tdl_conn_set_tls(tdl_conn *c, tdl_tls *t, const char *name, tdl_tls_session *session) {
    return (void)c, (void)t, (void)name, (void)session, TDL_EINVAL;
}

#endif

int tdl_conn_handshake(tdl_conn *c) { TDL_BLOCKING_FORM(tdl_conn_handshake_op(op, c)); }
int tdl_conn_end_tls(tdl_conn *c) { TDL_BLOCKING_FORM(tdl_conn_end_tls_op(op, c)); }
