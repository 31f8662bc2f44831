/* SPDX-License-Identifier: MIT
 *
 * Datagram sockets, UDP and unix: one datagram for each call, or several. What
 * a call has to keep until it is through lies in the caller's frame (whose stack
 * stays as it is while it waits), or, for a task, in memory of its own, which
 * goes with the op: u.io.copy.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "net/net.h"
#include "sys/pool.h"
#include "sys/sys.h"

#define FULL_PEER_RETRY TDL_MILLISECOND

struct tdl_dgram {
    tdl_lock lock;
    tdl_pd *pd;
    int family;
    bool connected;
    uint8_t blocking;         /* adopted: see tdl_conn */
    char path[TDL_UNIX_PATH]; /* to unlink; "" for none */
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_dgram);

int64_t tdl_dgram_live(void) { return tdl_pool_live(&pool); }

/* -- Opening -------------------------------------------------------------------------- */

static void closing(void *object) {
    tdl_dgram *d = object;
    if (d->path[0]) tdl_sys.unlink(d->path);
}

static const tdl_pd_kind kind = {.closing = closing};

static int open_dgram(const tdl_network *net, tdl_addr *local, const tdl_addr *remote, tdl_dgram **out) {
    int r = 0, v6only = net->v6only;
    tdl_poller *poller = tdl_my_poller(&r);
    if (!poller) return r;
    tdl_dgram *d = tdl_pool_take(&pool);
    if (!d) return TDL_ENOMEM;
    tdl_addr at = local ? *local : *remote;
    int fd = r = tdl_net_socket(&at, net);
    if (fd < 0) goto no_socket;
    d->family = tdl_addr_family(&at);
    if (d->family == AF_INET6) tdl_sys.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
    if (local) {
        if ((r = tdl_sys.bind(fd, tdl_addr_sa(&at), at.length)) < 0) goto no_bind;
        tdl_addr_path(&at, d->path, sizeof d->path);
    }
    if (remote) {
        if ((r = tdl_sys.connect(fd, tdl_addr_const_sa(remote), remote->length)) < 0) goto no_connect;
        d->connected = true;
    }
    if ((r = tdl_pd_open(&d->pd, poller, fd, &kind, d)) < 0) goto no_connect;
    *out = d;
    return 0;
no_connect:
    if (d->path[0]) tdl_sys.unlink(d->path);
no_bind:
    tdl_sys.close(fd);
no_socket:
    tdl_pool_give(&pool, d);
    return r;
}

static int dgram_network(const char *name, tdl_network *net) {
    int r = tdl_network_parse(net, name);
    return r < 0 ? r : net->type == SOCK_DGRAM ? 0 : TDL_ENETWORK;
}

int tdl_dgram_listen(const char *network, const char *address, tdl_dgram **out) {
    tdl_network net;
    tdl_addr local;
    if (!out) return TDL_EINVAL;
    *out = NULL;
    if (!network || !address) return TDL_EINVAL;
    int r = dgram_network(network, &net);
    if (r == 0) r = tdl_addr_parse_on(&local, &net, address, true);
    return r < 0 ? r : open_dgram(&net, &local, NULL, out);
}

int tdl_dgram_dial(const char *network, const char *address, const char *from, tdl_dgram **out) {
    tdl_network net;
    tdl_addr local, remote;
    if (!out) return TDL_EINVAL;
    *out = NULL;
    if (!network || !address) return TDL_EINVAL;
    int r = dgram_network(network, &net);
    if (r == 0) r = tdl_addr_parse_on(&remote, &net, address, false);
    if (r < 0) return r;
    if (net.family == AF_UNSPEC) net.family = tdl_addr_family(&remote);
    if (from && (r = tdl_addr_parse_on(&local, &net, from, true)) < 0) return r;
    return open_dgram(&net, from ? &local : NULL, &remote, out);
}

int tdl_dgram_adopt(int fd, tdl_dgram **out) {
    int type = 0, r = 0, family = 0;
    socklen_t n = sizeof type;
    tdl_addr peer;
    if (!out) return TDL_EINVAL;
    *out = NULL;
    tdl_poller *poller = tdl_my_poller(&r);
    if (!poller) return r;
    if ((r = tdl_sys.getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n)) < 0) return r;
    if ((family = tdl_fd_family(fd)) < 0) return family;
    if (type != SOCK_DGRAM) return TDL_EINVAL;
    tdl_dgram *d = tdl_pool_take(&pool);
    if (!d) return TDL_ENOMEM;
    n = sizeof peer.sockaddr;
    d->family = family;
    d->connected = tdl_sys.getpeername(fd, tdl_addr_sa(&peer), &n) == 0;
    if ((r = tdl_fd_prepare(fd)) < 0) goto failed;
    d->blocking = r != 0;
    if ((r = tdl_pd_open(&d->pd, poller, fd, &kind, d)) < 0) {
        if (d->blocking) tdl_sys.nonblock(fd, 0);
        goto failed;
    }
    *out = d;
    return 0;
failed:
    tdl_pool_give(&pool, d);
    return r;
}

/* -- What an op keeps -------------------------------------------------------------------- */

static int64_t done(tdl_op *op, int64_t r) {
    if (r == TDL_PENDING) return r;
    tdl_sys.release(op->u.io.copy);
    op->u.io.copy = NULL;
    return r;
}

static int64_t finish(tdl_op *op) { return done(op, tdl_pd_finish(op)); }

static void abandon(tdl_op *op) {
    tdl_pd_abandon(op);
    done(op, 0);
}

/* -- Receiving ----------------------------------------------------------------------------- */

static int64_t received(const struct msghdr *m, int64_t r, tdl_addr *from) {
    if (r >= 0 && from) from->length = m->msg_namelen;
    return r >= 0 && (m->msg_flags & MSG_TRUNC) ? TDL_ETRUNCATED : r;
}

/* Where an address of the kernel's goes; NULL: nowhere. */
static void ask_for(struct msghdr *m, tdl_addr *from) {
    if (from) from->length = 0;
    m->msg_name = from ? from->sockaddr : NULL;
    m->msg_namelen = from ? sizeof from->sockaddr : 0;
}

/* u.io.done: the address of *from as a number, since it is no memory to be released. */
static int64_t recv_attempt(tdl_op *op) {
    tdl_dgram *d = op->u.io.object;
    tdl_addr *from = (tdl_addr *)(uintptr_t)op->u.io.done;
    struct iovec part = {op->u.io.buf, op->u.io.n};
    int64_t r;
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    ask_for(&m, from);
    do
        r = tdl_sys.recvmsg(d->pd->fd, &m);
    while (r == -EINTR);
    return r == -EAGAIN ? TDL_EAGAIN : received(&m, r, from);
}

static const tdl_op_class recv_class = {"IO wait (receive)", finish, abandon};

int64_t tdl_dgram_recv_op(tdl_op *op, tdl_dgram *d, void *buf, size_t n, tdl_addr *from) {
    if (!d || (!buf && n)) return TDL_EINVAL;
    op->u.io.object = d;
    op->u.io.attempt = recv_attempt;
    op->u.io.buf = buf;
    op->u.io.n = n;
    op->u.io.done = (uintptr_t)from;
    op->u.io.copy = NULL;
    return tdl_pd_op(op, d->pd, PD_READ, false, &recv_class);
}

/* -- Sending -------------------------------------------------------------------------------- */

/* What is sent: the caller's, or with the bytes behind it, a task's own. */
struct outgoing {
    const tdl_addr *to; /* NULL: to whom it is connected */
    const void *bytes;
    size_t n;
};

struct own_outgoing {
    struct outgoing out;
    tdl_addr to;
    char bytes[];
};

/* No event says when a unix peer that we are not connected to has room again. */
static int64_t not_now(tdl_dgram *d) {
    if (d->family == AF_UNIX && !d->connected) tdl_pd_retry(d->pd, PD_WRITE, FULL_PEER_RETRY);
    return TDL_EAGAIN;
}

static int64_t send_attempt(tdl_op *op) {
    tdl_dgram *d = op->u.io.object;
    const struct outgoing *o = (const void *)op->u.io.buf;
    if (!o) return TDL_ENOMEM; /* there was none to copy it to */
    struct iovec part = {(void *)(uintptr_t)o->bytes, o->n};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    if (o->to) {
        m.msg_name = (void *)(uintptr_t)o->to->sockaddr;
        m.msg_namelen = o->to->length;
    }
    int64_t r;
    do
        r = tdl_sys.sendmsg(d->pd->fd, &m);
    while (r == -EINTR);
    return r == -EAGAIN ? not_now(d) : r;
}

static const tdl_op_class send_class = {"IO wait (send)", finish, abandon};

static struct own_outgoing *own(const struct outgoing *o) {
    struct own_outgoing *mine = tdl_sys.alloc(sizeof *mine + o->n);
    if (!mine) return NULL;
    if (o->to) mine->to = *o->to;
    if (o->n) memcpy(mine->bytes, o->bytes, o->n);
    mine->out = (struct outgoing){o->to ? &mine->to : NULL, mine->bytes, o->n};
    return mine;
}

/* An address for this socket: of its family, or one that it takes. */
static int suit(tdl_dgram *d, tdl_addr *to) {
    if (d->family == AF_INET6) tdl_addr_map_v4(to);
    return tdl_addr_family(to) == d->family ? 0 : TDL_EADDRESS;
}

/* o, and what it points to, lie in the caller's frame. */
static int64_t send_op(tdl_op *op, tdl_dgram *d, struct outgoing *o) {
    op->u.io.object = d;
    op->u.io.attempt = send_attempt;
    op->u.io.buf = (char *)o;
    op->u.io.copy = NULL;
    int64_t r = tdl_pd_op(op, d->pd, PD_WRITE, false, &send_class);
    if (r == TDL_PENDING && op->kind != OP_OF_TASK) r = tdl_op_wait(op); /* while o is there */
    if (r != TDL_PENDING) return r;
    struct own_outgoing *mine = own(o);
    op->u.io.buf = (char *)mine;
    op->u.io.copy = mine;
    if (!mine) { /* should another have claimed it, the attempt says so */
        uint32_t was = tdl_op_claim(op);
        if (was) tdl_op_complete(op, was, TDL_ENOMEM);
    }
    return TDL_PENDING;
}

int64_t tdl_dgram_send_op(tdl_op *op, tdl_dgram *d, const void *buf, size_t n, const tdl_addr *to) {
    if (!d || (!buf && n)) return TDL_EINVAL;
    struct outgoing o = {to, buf, n};
    tdl_addr suited;
    if (to) {
        suited = *to;
        int r = suit(d, &suited);
        if (r < 0) return r;
        o.to = &suited;
    }
    return send_op(op, d, &o);
}

/* -- Batches ----------------------------------------------------------------------------------- */

enum { MOST = 32 }; /* datagrams in one system call: their headers lie on the stack, 2.5 KiB */

static void gather(struct tdl_mmsg *m, struct iovec *parts, tdl_packet *p, int n, bool sending) {
    memset(m, 0, (size_t)n * sizeof *m);
    for (int i = 0; i < n; i++) {
        struct msghdr *h = &m[i].hdr;
        parts[i] = (struct iovec){p[i].data, p[i].size};
        h->msg_iov = &parts[i];
        h->msg_iovlen = 1;
        if (!sending) {
            ask_for(h, p[i].addr);
        } else if (p[i].addr) {
            h->msg_name = p[i].addr->sockaddr;
            h->msg_namelen = p[i].addr->length;
        }
    }
}

static int64_t recv_batch_attempt(tdl_op *op) {
    tdl_dgram *d = op->u.io.object;
    tdl_packet *p = (tdl_packet *)(void *)op->u.io.buf;
    struct tdl_mmsg m[MOST];
    struct iovec parts[MOST];
    int n = op->u.io.n < MOST ? (int)op->u.io.n : MOST, r;
    gather(m, parts, p, n, false);
    do
        r = tdl_sys.recvmmsg(d->pd->fd, m, (unsigned)n);
    while (r == -EINTR);
    if (r == -EAGAIN) return TDL_EAGAIN;
    for (int i = 0; i < r; i++) {
        p[i].n = m[i].n;
        p[i].code = (int)received(&m[i].hdr, 0, p[i].addr);
    }
    return r;
}

int64_t tdl_dgram_recv_batch_op(tdl_op *op, tdl_dgram *d, tdl_packet *packets, int n) {
    if (!d || !packets || n < 1) return TDL_EINVAL;
    for (int i = 0; i < n; i++)
        if (!packets[i].data && packets[i].size) return TDL_EINVAL;
    op->u.io.object = d;
    op->u.io.attempt = recv_batch_attempt;
    op->u.io.buf = (char *)packets;
    op->u.io.n = (size_t)n;
    op->u.io.copy = NULL;
    return tdl_pd_op(op, d->pd, PD_READ, false, &recv_class);
}

/* An error is told only when nothing went out before it: the next call meets it again. */
static int64_t send_batch_attempt(tdl_op *op) {
    tdl_dgram *d = op->u.io.object;
    tdl_packet *p = (tdl_packet *)(void *)op->u.io.buf;
    struct tdl_mmsg m[MOST];
    struct iovec parts[MOST];
    while (op->u.io.done < op->u.io.n) {
        size_t left = op->u.io.n - op->u.io.done;
        int n = left < MOST ? (int)left : MOST;
        gather(m, parts, p + op->u.io.done, n, true);
        int r = tdl_sys.sendmmsg(d->pd->fd, m, (unsigned)n);
        if (r == -EINTR) continue;
        if (r == -EAGAIN) return not_now(d);
        if (r < 0) return op->u.io.done ? (int64_t)op->u.io.done : r;
        op->u.io.done += (size_t)r;
    }
    return (int64_t)op->u.io.n;
}

static int64_t batch_sent(tdl_op *op, int64_t r) {
    if (r == TDL_PENDING || r >= 0) return r;
    return op->u.io.done ? (int64_t)op->u.io.done : r;
}

static int64_t send_batch_finish(tdl_op *op) { return batch_sent(op, tdl_pd_finish(op)); }

static const tdl_op_class send_batch_class = {"IO wait (send)", send_batch_finish, tdl_pd_abandon};

int64_t tdl_dgram_send_batch_op(tdl_op *op, tdl_dgram *d, tdl_packet *packets, int n) {
    if (!d || !packets || n < 1) return TDL_EINVAL;
    for (int i = 0; i < n; i++) {
        if (!packets[i].data && packets[i].size) return TDL_EINVAL;
        if (packets[i].addr && suit(d, packets[i].addr) != 0) return TDL_EADDRESS;
    }
    op->u.io.object = d;
    op->u.io.attempt = send_batch_attempt;
    op->u.io.buf = (char *)packets;
    op->u.io.n = (size_t)n;
    op->u.io.done = 0;
    op->u.io.copy = NULL;
    return batch_sent(op, tdl_pd_op(op, d->pd, PD_WRITE, false, &send_batch_class));
}

/* -- Blocking forms ---------------------------------------------------------------------------- */

int64_t tdl_dgram_recv(tdl_dgram *d, void *buf, size_t n) {
    TDL_BLOCKING_FORM(tdl_dgram_recv_op(op, d, buf, n, NULL));
}

int64_t tdl_dgram_recvfrom(tdl_dgram *d, void *buf, size_t n, tdl_addr *from) {
    TDL_BLOCKING_FORM(tdl_dgram_recv_op(op, d, buf, n, from));
}

int64_t tdl_dgram_send(tdl_dgram *d, const void *buf, size_t n) {
    TDL_BLOCKING_FORM(tdl_dgram_send_op(op, d, buf, n, NULL));
}

int64_t tdl_dgram_sendto(tdl_dgram *d, const void *buf, size_t n, const tdl_addr *to) {
    if (!to) return TDL_EINVAL;
    TDL_BLOCKING_FORM(tdl_dgram_send_op(op, d, buf, n, to));
}

int tdl_dgram_recv_batch(tdl_dgram *d, tdl_packet *packets, int n) {
    TDL_BLOCKING_FORM(tdl_dgram_recv_batch_op(op, d, packets, n));
}

int tdl_dgram_send_batch(tdl_dgram *d, tdl_packet *packets, int n) {
    TDL_BLOCKING_FORM(tdl_dgram_send_batch_op(op, d, packets, n));
}

/* -- Properties and closing ----------------------------------------------------------------------- */

void tdl_dgram_set_deadline(tdl_dgram *d, int64_t when) {
    if (d) tdl_pd_set_deadline(d->pd, PD_READ_BIT | PD_WRITE_BIT, when);
}

void tdl_dgram_set_read_deadline(tdl_dgram *d, int64_t when) {
    if (d) tdl_pd_set_deadline(d->pd, PD_READ_BIT, when);
}

void tdl_dgram_set_write_deadline(tdl_dgram *d, int64_t when) {
    if (d) tdl_pd_set_deadline(d->pd, PD_WRITE_BIT, when);
}

void tdl_dgram_set_timeout(tdl_dgram *d, int64_t ns) {
    if (d) tdl_pd_set_timeout(d->pd, ns);
}

int tdl_dgram_set_option(tdl_dgram *d, int option, int64_t value) {
    return d ? tdl_pd_set_option(d->pd, option, value) : TDL_EINVAL;
}

int64_t tdl_dgram_option(tdl_dgram *d, int option) { return d ? tdl_pd_option(d->pd, option) : TDL_EINVAL; }

int tdl_dgram_sockaddr(tdl_dgram *d, tdl_addr *a) {
    return d && a ? tdl_pd_name(d->pd, tdl_sys.getsockname, a) : TDL_EINVAL;
}

int tdl_dgram_peeraddr(tdl_dgram *d, tdl_addr *a) {
    return d && a ? tdl_pd_name(d->pd, tdl_sys.getpeername, a) : TDL_EINVAL;
}

int tdl_dgram_fd(tdl_dgram *d) {
    if (!d) return TDL_EINVAL;
    int r = tdl_pd_enter_plain(d->pd);
    if (r < 0) return r;
    r = d->pd->fd;
    tdl_pd_leave_plain(d->pd);
    return r;
}

int tdl_dgram_release(tdl_dgram *d) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!d) return TDL_EINVAL;
    int fd = tdl_pd_disown(d->pd);
    if (fd >= 0 && d->blocking) tdl_sys.nonblock(fd, 0);
    return fd;
}

int tdl_dgram_close(tdl_dgram *d) {
    if (tdl_forked()) return TDL_EFORKED;
    return d ? tdl_pd_close(d->pd) : TDL_EINVAL;
}

static void gone(void *d) { tdl_pool_give(&pool, d); }

void tdl_dgram_free(tdl_dgram *d) {
    if (d && !tdl_forked()) tdl_pd_release(d->pd, gone, d);
}
