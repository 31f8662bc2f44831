/* SPDX-License-Identifier: MIT
 * Connections: making, reading, writing, closing. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "net/net.h"
#include "net/tls.h"
#include "sys/pool.h"
#include "sys/sys.h"

static tdl_pool pool = TDL_POOL_INIT(struct tdl_conn);

int64_t tdl_conn_live(void) { return tdl_pool_live(&pool); }

/* -- Making and closing ---------------------------------------------------------- */

tdl_poller *tdl_op_poller(tdl_op *op, int *code) {
    return op->kind == OP_OF_TASK ? TDL_CONTAINER(op, tdl_g, op)->host_poller : tdl_my_poller(code);
}

void tdl_conn_dealloc(tdl_conn *c) { tdl_pool_give(&pool, c); }

tdl_conn *tdl_conn_alloc(int kind) {
    tdl_conn *c = tdl_pool_take(&pool);
    if (!c) return NULL;
    c->kind = (uint8_t)kind;
    return c;
}

/* The system tells of a reset once. Where it was a write that was told, the next
 * read would seem to find the stream's proper end. */
static void failed(void *object, tdl_op *op, int64_t error) {
    tdl_conn *c = object;
    if (op->u.io.dir == PD_WRITE && error == -ECONNRESET) at_or_seq(&c->marks, MARK_RESET);
}

/* A stream has ended: by a reset? A write that is still under way may have been
 * told, and then the connection is no more. */
static bool was_reset(tdl_conn *c) {
    if (c->is_unix) return false;
    bool writing = tdl_pd_busy(c->pd, PD_WRITE);
    if (at_load_rlx(&c->marks) & MARK_RESET) return true; /* stored under the lock that tdl_pd_busy took */
    return writing && tdl_tcp_is_over(c->pd->fd);
}

int tdl_conn_make_served(tdl_conn **out, struct tdl_server *s, tdl_poller *poller, int fd, int kind, int family) {
    /* a unix stream's read also stops behind a message with descriptors */
    static const tdl_pd_kind tcp_kind = {.short_drains = true, .streams = true, .failed = failed}, other_kind;
    static const tdl_pd_kind tcp_served = {.short_drains = true, .streams = true, .announced = true, .failed = failed,
                                           .closing = tdl_served_closing, .arrived = tdl_served_arrived};
    static const tdl_pd_kind other_served = {
        .announced = true, .closing = tdl_served_closing, .arrived = tdl_served_arrived};
    tdl_conn *c = tdl_conn_alloc(kind);
    if (!c) return TDL_ENOMEM;
    int one = 1;
    c->is_unix = family == AF_UNIX;
    c->server = s;
    bool tcp = kind == CONN_SOCKET && family != AF_UNIX;
    if (tcp) tdl_sys.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    const tdl_pd_kind *plain = tcp ? &tcp_kind : &other_kind, *served = tcp ? &tcp_served : &other_served;
    int r = tdl_pd_open(&c->pd, poller, fd, s ? served : plain, c);
    if (r < 0) {
        tdl_conn_dealloc(c);
        return r;
    }
    *out = c;
    return 0;
}

int tdl_conn_make(tdl_conn **out, tdl_poller *poller, int fd, int kind, int family) {
    return tdl_conn_make_served(out, NULL, poller, fd, kind, family);
}

int tdl_conn_close(tdl_conn *c) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!c) return TDL_EINVAL;
    if (tdl_conn_tls(c)) tdl_tls_closing(c);
    return tdl_pd_close(c->pd);
}

int tdl_conn_disown(tdl_conn *c) {
    int fd = tdl_pd_disown(c->pd);
    if (fd >= 0 && c->kind != CONN_MEMORY && c->server) tdl_served_closing(c); /* the server's no more */
    return fd;
}

static void gone(void *arg) {
    tdl_conn *c = arg;
    tdl_buffer_free(&c->in);
    struct tdl_server *s = c->kind == CONN_MEMORY ? NULL : c->server;
    if (c->kind == CONN_MEMORY) tdl_pipe_release(c);
    if (tdl_conn_tls(c)) tdl_tls_gone(c->tls);
    if (c->of_fd)
        tdl_fd_dealloc(c);
    else
        tdl_conn_dealloc(c);
    tdl_copy_conn_gone();
    if (s) tdl_served_gone(s);
}

void tdl_conn_free(tdl_conn *c) {
    if (!c || tdl_forked()) return;
    if (tdl_conn_tls(c)) tdl_tls_closing(c);
    tdl_pd_release(c->pd, gone, c);
}

int tdl_pd_nothing(tdl_pd *pd) {
    int r = tdl_pd_enter_plain(pd);
    if (r == 0) tdl_pd_leave_plain(pd);
    return r;
}

/* -- Moving bytes ------------------------------------------------------------------- */

/* A message that is longer than the room is cut: then room was filled. */
static int64_t take_packet(int fd, void *buf, size_t n) {
    struct iovec part = {buf, n};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    int64_t r = tdl_sys.recvmsg(fd, &m);
    return r >= 0 && (m.msg_flags & MSG_TRUNC) ? TDL_ETRUNCATED : r;
}

static inline int64_t take_socket(tdl_conn *c, void *buf, size_t n) {
    int64_t r = tdl_pd_take(c->pd, buf, n);
    return TDL_UNLIKELY(r == 0) && was_reset(c) ? -ECONNRESET : r;
}

int64_t tdl_conn_take_socket(tdl_conn *c, void *buf, size_t n) { return take_socket(c, buf, n); }

int64_t tdl_conn_take(tdl_conn *c, void *buf, size_t n) {
    if (TDL_LIKELY(c->kind == CONN_SOCKET)) return take_socket(c, buf, n);
    if (c->kind == CONN_TLS) return tdl_tls_take(c, buf, n);
    if (c->kind == CONN_FILE) return tdl_sys.read(c->pd->fd, buf, n);
    if (c->kind == CONN_PACKET) return take_packet(c->pd->fd, buf, n);
    return tdl_pipe_take(c, buf, n);
}

int64_t tdl_conn_put(tdl_conn *c, const void *buf, size_t n) {
    if (TDL_LIKELY(c->kind == CONN_SOCKET)) return tdl_sys.send(c->pd->fd, buf, n);
    if (c->kind == CONN_TLS) return tdl_tls_put(c, buf, n);
    if (c->kind == CONN_FILE) return tdl_sys.write(c->pd->fd, buf, n);
    return tdl_sys.send(c->pd->fd, buf, n);
}

/* -- Reading ------------------------------------------------------------------------ */

static int64_t read_attempt(tdl_op *op) {
    tdl_conn *c = op->u.io.object;
    size_t n = op->u.io.n, have = tdl_buffer_len(&c->in);
    if (have) { /* left by a framed read */
        if (n > have) n = have;
        memcpy(op->u.io.buf, tdl_buffer_bytes(&c->in), n);
        tdl_buffer_skip(&c->in, n);
        c->pd->dir[PD_READ].keep = tdl_buffer_len(&c->in) != 0;
        return (int64_t)n;
    }
    for (;;) {
        int64_t r = tdl_conn_take(c, op->u.io.buf, n);
        if (r == -EINTR) continue;
        if (r == -EAGAIN) return TDL_EAGAIN;
        op->u.io.drained = r > 0 && (size_t)r < n && tdl_conn_drained(c);
        return r;
    }
}

static const tdl_op_class read_class = {"IO wait (read)", tdl_pd_finish, tdl_pd_abandon};

int64_t tdl_conn_read_op(tdl_op *op, tdl_conn *c, void *buf, size_t n) {
    if (!c || (!buf && n)) return TDL_EINVAL;
    if (n == 0) return tdl_pd_nothing(c->pd);
    op->u.io.object = c;
    op->u.io.attempt = read_attempt;
    op->u.io.buf = buf;
    op->u.io.n = n;
    return tdl_pd_op(op, c->pd, PD_READ, false, &read_class);
}

/* -- Writing -------------------------------------------------------------------------- */

static int64_t write_attempt(tdl_op *op) {
    tdl_conn *c = op->u.io.object;
    if (!op->u.io.buf) return TDL_ENOMEM; /* there was none to copy it to */
    if (TDL_UNLIKELY(c->kind >= CONN_MEMORY)) return c->kind == CONN_TLS ? tdl_tls_write(op, c) : tdl_pipe_put(c, op);
    if (op->u.io.queue && c->kind == CONN_SOCKET && tdl_pd_may_queue(c->pd, op, op->u.io.n - op->u.io.done)) return PD_QUEUE;
    while (op->u.io.done < op->u.io.n) {
        size_t left = op->u.io.n - op->u.io.done;
        int64_t r = tdl_conn_put(c, op->u.io.buf + op->u.io.done, left);
        if (r == -EINTR) continue;
        if (r == -EAGAIN) return TDL_EAGAIN;
        if (r < 0) return r;
        op->u.io.done += (size_t)r;
        if ((size_t)r < left && tdl_sys.short_drains && c->kind == CONN_SOCKET) return TDL_EAGAIN;
    }
    return (int64_t)op->u.io.n;
}

static int64_t write_done(tdl_op *op, int64_t r) {
    if (r == TDL_PENDING) return r;
    op->extra = (int64_t)op->u.io.done;
    tdl_sys.release(op->u.io.copy);
    op->u.io.copy = NULL;
    return r;
}

static int64_t write_finish(tdl_op *op) { return write_done(op, tdl_pd_finish(op)); }

static void write_abandon(tdl_op *op) {
    tdl_pd_abandon(op);
    tdl_sys.release(op->u.io.copy);
    op->u.io.copy = NULL;
}

static const tdl_op_class write_class = {"IO wait (write)", write_finish, write_abandon};

int64_t tdl_conn_write_op(tdl_op *op, tdl_conn *c, const void *buf, size_t n) {
    op->u.io.done = 0;
    op->u.io.copy = NULL;
    if (!c || (!buf && n)) return TDL_EINVAL;
    if (n == 0) return tdl_pd_nothing(c->pd);
    op->u.io.object = c;
    op->u.io.attempt = write_attempt;
    op->u.io.queue = 1;
    op->u.io.buf = (char *)(uintptr_t)buf; /* only read */
    op->u.io.n = n;
    int64_t r = tdl_pd_op(op, c->pd, PD_WRITE, false, &write_class);
    if (r != TDL_PENDING || op->kind != OP_OF_TASK) return write_done(op, r);
    /* the caller's bytes go away; its next attempt is not before the next poll */
    size_t left = n - op->u.io.done;
    if (left == 0) return TDL_PENDING;
    char *copy = tdl_sys.alloc(left);
    if (!copy) {
        op->u.io.buf = NULL; /* should another have claimed it, the attempt says so */
        uint32_t was = tdl_op_claim(op);
        if (was) tdl_op_complete(op, was, TDL_ENOMEM);
        return TDL_PENDING;
    }
    memcpy(copy, op->u.io.buf + op->u.io.done, left);
    op->u.io.copy = copy;
    op->u.io.buf = copy - op->u.io.done;
    return TDL_PENDING;
}

/* -- Blocking forms ---------------------------------------------------------------------- */

int64_t tdl_conn_read(tdl_conn *c, void *buf, size_t n) {
    TDL_BLOCKING_FORM(tdl_conn_read_op(op, c, buf, n));
}

int64_t tdl_conn_write(tdl_conn *c, const void *buf, size_t n) {
    TDL_BLOCKING_FORM(tdl_conn_write_op(op, c, buf, n));
}

/* -- Properties ----------------------------------------------------------------------------- */

void tdl_conn_set_deadline(tdl_conn *c, int64_t when) {
    if (c) tdl_pd_set_deadline(c->pd, PD_READ_BIT | PD_WRITE_BIT, when);
}

void tdl_conn_set_read_deadline(tdl_conn *c, int64_t when) {
    if (c) tdl_pd_set_deadline(c->pd, PD_READ_BIT, when);
}

void tdl_conn_set_write_deadline(tdl_conn *c, int64_t when) {
    if (c) tdl_pd_set_deadline(c->pd, PD_WRITE_BIT, when);
}

void tdl_conn_set_timeout(tdl_conn *c, int64_t ns) {
    if (c) tdl_pd_set_timeout(c->pd, ns);
}

static int shut(tdl_conn *c, int how) {
    if (!c) return TDL_EINVAL;
    int r = tdl_pd_enter_plain(c->pd);
    if (r < 0) return r;
    if (c->kind == CONN_MEMORY)
        r = tdl_pipe_shut(c, how);
    else if (c->kind == CONN_TLS && how == SHUT_WR)
        r = tdl_tls_notify(c);
    else
        r = tdl_sys.shutdown(c->pd->fd, how);
    tdl_pd_leave_plain(c->pd);
    return r;
}

int tdl_conn_close_read(tdl_conn *c) { return shut(c, SHUT_RD); }

int tdl_conn_close_write(tdl_conn *c) { return shut(c, SHUT_WR); }

int tdl_conn_fd(tdl_conn *c) {
    if (!c) return TDL_EINVAL;
    int r = tdl_pd_enter_plain(c->pd);
    if (r < 0) return r;
    r = c->kind == CONN_MEMORY ? -EOPNOTSUPP : c->pd->fd;
    tdl_pd_leave_plain(c->pd);
    return r;
}

int tdl_pd_name(tdl_pd *pd, int (*get)(int, struct sockaddr *, socklen_t *), tdl_addr *a) {
    memset(a, 0, sizeof *a);
    int r = tdl_pd_enter_plain(pd);
    if (r < 0) return r;
    socklen_t n = sizeof a->sockaddr;
    r = pd->fd < 0 ? -EOPNOTSUPP : get(pd->fd, tdl_addr_sa(a), &n);
    a->length = r < 0 ? 0 : n < sizeof a->sockaddr ? n : sizeof a->sockaddr;
    tdl_pd_leave_plain(pd);
    return r;
}

int tdl_conn_peeraddr(tdl_conn *c, tdl_addr *a) {
    return c && a ? tdl_pd_name(c->pd, tdl_sys.getpeername, a) : TDL_EINVAL;
}

int tdl_conn_sockaddr(tdl_conn *c, tdl_addr *a) {
    return c && a ? tdl_pd_name(c->pd, tdl_sys.getsockname, a) : TDL_EINVAL;
}

static int name(tdl_conn *c, int (*get)(int, struct sockaddr *, socklen_t *), char *buf, size_t size) {
    tdl_addr a;
    if (!c || (!buf && size)) return TDL_EINVAL;
    int r = tdl_pd_name(c->pd, get, &a);
    if (r == -EOPNOTSUPP && c->kind == CONN_MEMORY) return snprintf(buf, size, "pipe");
    return r < 0 ? r : tdl_addr_format(&a, buf, size);
}

int tdl_conn_peername(tdl_conn *c, char *buf, size_t size) { return name(c, tdl_sys.getpeername, buf, size); }

int tdl_conn_sockname(tdl_conn *c, char *buf, size_t size) { return name(c, tdl_sys.getsockname, buf, size); }

int tdl_conn_set_option(tdl_conn *c, int option, int64_t value) {
    return c ? tdl_pd_set_option(c->pd, option, value) : TDL_EINVAL;
}

int64_t tdl_conn_option(tdl_conn *c, int option) { return c ? tdl_pd_option(c->pd, option) : TDL_EINVAL; }
