/* SPDX-License-Identifier: MIT
 *
 * Descriptors that the user brings: adopted for good or until they are
 * released. Whether an open file waits or not (O_NONBLOCK) is a property that
 * all descriptors of it share; it is set when one is adopted, and set back when
 * it is released.
 */
#include <errno.h>
#include <poll.h>

#include "net/net.h"
#include "sys/pool.h"
#include "sys/sys.h"

static tdl_pool pool = TDL_POOL_INIT(struct tdl_fd);

int64_t tdl_fd_live(void) { return tdl_pool_live(&pool); }

/* -- Taking one over -------------------------------------------------------------- */

int tdl_fd_prepare(int fd) {
    int was = tdl_sys.nonblock(fd, 1);
    return was < 0 ? was : !was;
}

int tdl_fd_code(int r) { return r == -EPERM ? TDL_ENOPOLL : r; }

int tdl_fd_family(int fd) {
    struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
    socklen_t n = sizeof sa;
    int r = tdl_sys.getsockname(fd, (struct sockaddr *)&sa, &n);
    return r < 0 ? r : sa.ss_family;
}

/* The kind of stream and the family of a socket of the user's; TDL_EINVAL for
 * one that is no stream, or listens. */
static int kind_of(int fd, int *family) {
    int type = 0, listens = 0;
    socklen_t n = sizeof type, k = sizeof listens;
    *family = AF_UNSPEC;
    int r = tdl_sys.getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n);
    if (r == -ENOTSOCK) return CONN_FILE;
    if (r < 0) return r;
    if ((r = tdl_fd_family(fd)) < 0) return r;
    *family = r;
    if (tdl_sys.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &k) == 0 && listens) return TDL_EINVAL;
    if (type == SOCK_STREAM) return CONN_SOCKET;
    return type == SOCK_SEQPACKET ? CONN_PACKET : TDL_EINVAL;
}

int tdl_conn_adopt(int fd, tdl_conn **out) {
    int r = 0, family;
    if (!out) return TDL_EINVAL;
    *out = NULL;
    tdl_poller *poller = tdl_my_poller(&r);
    if (!poller) return r;
    int kind = kind_of(fd, &family);
    if (kind < 0) return kind;
    int blocking = tdl_fd_prepare(fd);
    if (blocking < 0) return blocking;
    if ((r = tdl_conn_make(out, poller, fd, kind, family)) < 0) {
        if (blocking) tdl_sys.nonblock(fd, 0);
        return tdl_fd_code(r);
    }
    (*out)->blocking = blocking != 0;
    tdl_pd_plain((*out)->pd); /* others may read from the socket */
    return 0;
}

static int release(tdl_conn *c) {
    if (c->kind == CONN_MEMORY || tdl_conn_tls(c)) return -EOPNOTSUPP;
    int fd = tdl_conn_disown(c);
    if (fd >= 0 && c->blocking) tdl_sys.nonblock(fd, 0);
    return fd;
}

int tdl_conn_release(tdl_conn *c) {
    if (tdl_forked()) return TDL_EFORKED;
    return c ? release(c) : TDL_EINVAL;
}

/* -- tdl_fd -------------------------------------------------------------------------- */

void tdl_fd_dealloc(tdl_conn *c) { tdl_pool_give(&pool, TDL_CONTAINER(c, tdl_fd, stream)); }

static int take_over(int fd, tdl_fd **out) {
    static const tdl_pd_kind kind;
    int r = 0;
    tdl_poller *poller = tdl_my_poller(&r);
    if (!poller) return r;
    int blocking = tdl_fd_prepare(fd);
    if (blocking < 0) return blocking;
    tdl_fd *f = tdl_pool_take(&pool);
    r = f ? 0 : TDL_ENOMEM;
    if (f) {
        f->stream.kind = CONN_FILE;
        f->stream.of_fd = 1;
        f->stream.blocking = blocking != 0;
        r = tdl_pd_open(&f->stream.pd, poller, fd, &kind, f);
    }
    if (r < 0) {
        if (f) tdl_pool_give(&pool, f);
        if (blocking) tdl_sys.nonblock(fd, 0);
        return tdl_fd_code(r);
    }
    *out = f;
    return 0;
}

int tdl_fd_adopt(int fd, tdl_fd **f) {
    if (!f) return TDL_EINVAL;
    *f = NULL;
    return take_over(fd, f);
}

int tdl_fd_dup(int fd, tdl_fd **f) {
    int code = 0;
    if (!f) return TDL_EINVAL;
    *f = NULL;
    if (!tdl_my_poller(&code)) return code;
    int copy = tdl_sys.dup(fd);
    if (copy < 0) return copy;
    int r = take_over(copy, f);
    if (r < 0) tdl_sys.close(copy);
    return r;
}

int tdl_fd_release(tdl_fd *f) {
    if (tdl_forked()) return TDL_EFORKED;
    return f ? release(&f->stream) : TDL_EINVAL;
}

int tdl_fd_number(tdl_fd *f) { return f ? tdl_conn_fd(&f->stream) : TDL_EINVAL; }

int tdl_fd_close(tdl_fd *f) { return f ? tdl_conn_close(&f->stream) : TDL_EINVAL; }

void tdl_fd_free(tdl_fd *f) {
    if (f) tdl_conn_free(&f->stream);
}

void tdl_fd_set_deadline(tdl_fd *f, int64_t when) {
    if (f) tdl_conn_set_deadline(&f->stream, when);
}

void tdl_fd_set_read_deadline(tdl_fd *f, int64_t when) {
    if (f) tdl_conn_set_read_deadline(&f->stream, when);
}

void tdl_fd_set_write_deadline(tdl_fd *f, int64_t when) {
    if (f) tdl_conn_set_write_deadline(&f->stream, when);
}

void tdl_fd_set_timeout(tdl_fd *f, int64_t ns) {
    if (f) tdl_conn_set_timeout(&f->stream, ns);
}

int64_t tdl_fd_read(tdl_fd *f, void *buf, size_t n) { return tdl_conn_read(f ? &f->stream : NULL, buf, n); }

int64_t tdl_fd_write(tdl_fd *f, const void *buf, size_t n) {
    return tdl_conn_write(f ? &f->stream : NULL, buf, n);
}

/* -- Waiting for readiness alone -------------------------------------------------------- */

/* What was ready once need not be so now, and what the user has left there brings
 * no new edge: so the kernel is asked. */
static int64_t wait_attempt(tdl_op *op) {
    tdl_fd *f = op->u.io.object;
    int want = op->u.io.dir == PD_READ ? POLLIN | POLLPRI : POLLOUT, r;
    do
        r = tdl_sys.poll(f->stream.pd->fd, want);
    while (r == -EINTR);
    if (r < 0) return r;
    if (r & POLLNVAL) return -EBADF; /* closed behind our back */
    return r ? 0 : TDL_EAGAIN;
}

static const tdl_op_class wait_read = {"IO wait (readable)", tdl_pd_finish, tdl_pd_abandon};
static const tdl_op_class wait_write = {"IO wait (writable)", tdl_pd_finish, tdl_pd_abandon};

int64_t tdl_fd_wait_op(tdl_op *op, tdl_fd *f, int readiness) {
    if (!f || (readiness != TDL_READABLE && readiness != TDL_WRITABLE)) return TDL_EINVAL;
    bool reading = readiness == TDL_READABLE;
    op->u.io.object = f;
    op->u.io.attempt = wait_attempt;
    return tdl_pd_op(op, f->stream.pd, reading ? PD_READ : PD_WRITE, false, reading ? &wait_read : &wait_write);
}

int tdl_fd_wait_readable(tdl_fd *f) { TDL_BLOCKING_FORM(tdl_fd_wait_op(op, f, TDL_READABLE)); }

int tdl_fd_wait_writable(tdl_fd *f) { TDL_BLOCKING_FORM(tdl_fd_wait_op(op, f, TDL_WRITABLE)); }
