/* SPDX-License-Identifier: MIT
 * Listeners: listen, accept, close. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "net/net.h"
#include "sys/pool.h"
#include "sys/sys.h"

enum { BACKLOG = 4096 };

struct tdl_listener {
    tdl_lock lock;
    tdl_pd *pd;
    tdl_addr bound;
    uint8_t kind;             /* of the connections it accepts, CONN_… */
    uint8_t blocking;         /* adopted: see tdl_conn */
    struct tdl_server *server; /* which it belongs to; NULL. Under the lock, and held */
    char path[TDL_UNIX_PATH]; /* to unlink; "" for none */
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_listener);

int64_t tdl_listener_live(void) { return tdl_pool_live(&pool); }

/* -- Opening -------------------------------------------------------------------------- */

static void closing(void *object) {
    tdl_listener *l = object;
    if (l->path[0]) tdl_sys.unlink(l->path);
}

static void arrived(void *object, bool hup, int why) {
    tdl_listener *l = object;
    (void)hup;
    (void)why;
    tdl_lock_take(&l->lock);
    struct tdl_server *s = l->server;
    if (s) tdl_server_hold(s);
    tdl_unlock(&l->lock);
    if (!s) return;
    tdl_server_incoming(s, l);
    tdl_served_gone(s);
}

static const tdl_pd_kind kind = {.accepts = true, .closing = closing, .arrived = arrived};
/* of the user's: others may accept from it */
static const tdl_pd_kind adopted = {.closing = closing, .arrived = arrived};

static int bind_and_listen(int fd, const tdl_addr *a, const tdl_network *net, const tdl_listen_options *o) {
    int one = 1, v6only = net->v6only, r = 0;
    int family = tdl_addr_family(a);
    if (family != AF_UNIX) tdl_sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (family == AF_INET6) tdl_sys.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
    if (o && (o->flags & TDL_LISTEN_REUSEPORT))
        r = tdl_sys.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (r == 0) r = tdl_sys.bind(fd, tdl_addr_const_sa(a), a->length);
    return r < 0 ? r : tdl_sys.listen(fd, o && o->backlog ? (int)o->backlog : BACKLOG);
}

int tdl_net_socket(tdl_addr *a, const tdl_network *net) {
    int fd = tdl_sys.socket(tdl_addr_family(a), net->type, 0);
    if (fd == -EAFNOSUPPORT && net->family == AF_UNSPEC && tdl_addr_family(a) == AF_INET6) {
        /* a kernel without v6, asked for all interfaces */
        char text[16];
        tdl_network v4 = {AF_INET, net->type, false};
        snprintf(text, sizeof text, ":%d", tdl_addr_port(a));
        int r = tdl_addr_parse_on(a, &v4, text, true);
        if (r < 0) return r;
        fd = tdl_sys.socket(AF_INET, net->type, 0);
    }
    return fd;
}

/* Whose backlog a connection waits in is where it will be accepted: on the n-th
 * P, counted round. A host has but one. */
static tdl_poller *poller_of(int n, int *code) {
    tdl_poller *mine = tdl_my_poller(code);
    if (!mine || n < 0 || at_load_rlx(&tdl_m_self()->host)) return mine;
    if ((*code = tdl_runtime_start()) < 0) return NULL;
    tdl_p *p = tdl_sched.p[n % (int)at_load_rlx(&tdl_sched.active)];
    if ((*code = tdl_p_attend(p)) < 0) return NULL;
    return &p->poller;
}

static int listen_on(const char *network, const char *address, const tdl_listen_options *o, int shard,
                     tdl_listener **out) {
    tdl_network net;
    tdl_addr a;
    int r;
    *out = NULL;
    if (!network || !address) return TDL_EINVAL;
    if (o && (o->size != sizeof *o || (o->flags & ~TDL_LISTEN_ALL) || o->backlog > INT32_MAX)) return TDL_EINVAL;
    if ((r = tdl_network_parse(&net, network)) < 0) return r;
    if (net.type == SOCK_DGRAM) return TDL_ENETWORK;
    if ((r = tdl_addr_parse_on(&a, &net, address, true)) < 0) return r;
    tdl_poller *poller = poller_of(shard, &r);
    if (!poller) return r;
    tdl_listener *l = tdl_pool_take(&pool);
    if (!l) return TDL_ENOMEM;
    int fd = r = tdl_net_socket(&a, &net);
    if (fd < 0) goto no_socket;
    if ((r = bind_and_listen(fd, &a, &net, o)) < 0) goto no_pd;
    if (!(o && (o->flags & TDL_LISTEN_KEEP_PATH))) tdl_addr_path(&a, l->path, sizeof l->path);
    socklen_t n = sizeof l->bound.sockaddr;
    if ((r = tdl_sys.getsockname(fd, tdl_addr_sa(&l->bound), &n)) < 0) goto no_name;
    l->bound.length = n;
    l->kind = net.type == SOCK_STREAM ? CONN_SOCKET : CONN_PACKET;
    if ((r = tdl_pd_open(&l->pd, poller, fd, &kind, l)) < 0) goto no_name;
    *out = l;
    return 0;
no_name:
    if (l->path[0]) tdl_sys.unlink(l->path);
no_pd:
    tdl_sys.close(fd);
no_socket:
    tdl_pool_give(&pool, l);
    return r;
}

int tdl_listen_opts(const char *network, const char *address, const tdl_listen_options *o, tdl_listener **out) {
    return out ? listen_on(network, address, o, -1, out) : TDL_EINVAL;
}

int tdl_listen(const char *network, const char *address, tdl_listener **out) {
    return tdl_listen_opts(network, address, NULL, out);
}

int tdl_listen_shards(const char *network, const char *address, const tdl_listen_options *o, tdl_listener **out,
                      int n) {
    tdl_listen_options each = {.size = sizeof each};
    char bound[128];
    if (!out || n < 1 || n > TDL_MAX_P) return TDL_EINVAL;
    for (int i = 0; i < n; i++) out[i] = NULL;
    if (o) each = *o;
    each.flags |= TDL_LISTEN_REUSEPORT;
    for (int i = 0; i < n; i++) {
        int r = listen_on(network, address, &each, i, &out[i]);
        if (r == 0 && i == 0) { /* the port, where the system picked one */
            r = tdl_addr_format(&out[0]->bound, bound, sizeof bound);
            address = bound;
        }
        if (r >= 0) continue;
        while (i >= 0) {
            tdl_listener_free(out[i]);
            out[i--] = NULL;
        }
        return r;
    }
    return 0;
}

int tdl_listener_adopt(int fd, tdl_listener **out) {
    int r = 0, type = 0, listens = 0;
    socklen_t n = sizeof type, m = sizeof listens;
    if (!out) return TDL_EINVAL;
    *out = NULL;
    tdl_poller *poller = tdl_my_poller(&r);
    if (!poller) return r;
    if ((r = tdl_sys.getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n)) < 0) return r;
    if ((r = tdl_sys.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &m)) < 0) return r;
    if (!listens) return TDL_EINVAL;
    tdl_listener *l = tdl_pool_take(&pool);
    if (!l) return TDL_ENOMEM;
    n = sizeof l->bound.sockaddr;
    if ((r = tdl_sys.getsockname(fd, tdl_addr_sa(&l->bound), &n)) < 0) goto failed;
    l->bound.length = n;
    l->kind = type == SOCK_STREAM ? CONN_SOCKET : CONN_PACKET;
    if ((r = tdl_fd_prepare(fd)) < 0) goto failed;
    l->blocking = r != 0;
    if ((r = tdl_pd_open(&l->pd, poller, fd, &adopted, l)) < 0) {
        if (l->blocking) tdl_sys.nonblock(fd, 0);
        goto failed;
    }
    *out = l;
    return 0;
failed:
    tdl_pool_give(&pool, l);
    return tdl_fd_code(r);
}

int tdl_listener_release(tdl_listener *l) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!l) return TDL_EINVAL;
    int fd = tdl_pd_disown(l->pd);
    if (fd >= 0 && l->blocking) tdl_sys.nonblock(fd, 0);
    return fd;
}

/* -- Accepting ----------------------------------------------------------------------------- */

/* Of the connection that would have been accepted, which came to nothing in the
 * backlog: nobody's error (accept(2), "Error handling"). */
static bool passed_over(int code) {
    switch (code) {
    case -EINTR:
    case -ECONNABORTED:
    case -EPROTO:
    case -ENOPROTOOPT:
    case -ENETDOWN:
    case -ENETUNREACH:
    case -EHOSTDOWN:
    case -EHOSTUNREACH:
#ifdef ENONET
    case -ENONET:
#endif
        return true;
    default: return false;
    }
}

/* One attempt: 0, and *c; -EAGAIN, -EMFILE … */
static int take_one(tdl_listener *l, tdl_poller *poller, tdl_conn **c) {
    int fd;
    do
        fd = tdl_pd_accept(l->pd);
    while (passed_over(fd));
    if (fd < 0) return fd;
    int r = tdl_conn_make(c, poller, fd, l->kind, tdl_addr_family(&l->bound));
    if (r < 0) tdl_sys.close(fd);
    return r;
}

static int64_t accept_attempt(tdl_op *op) {
    int r = 0;
    tdl_conn *c;
    tdl_poller *poller = tdl_op_poller(op, &r);
    if (poller) r = take_one(op->u.io.object, poller, &c);
    if (r == -EAGAIN) return TDL_EAGAIN;
    if (r == 0) tdl_val_set_ptr(&op->out, c);
    return r;
}

static const tdl_op_class accept_class = {"IO wait (accept)", tdl_pd_finish, tdl_pd_abandon};

int64_t tdl_listener_accept_op(tdl_op *op, tdl_listener *l) {
    if (!l) return TDL_EINVAL;
    tdl_val_set_nil(&op->out);
    op->u.io.object = l;
    op->u.io.attempt = accept_attempt;
    return tdl_pd_op(op, l->pd, PD_READ, false, &accept_class);
}

int tdl_listener_accept(tdl_listener *l, tdl_conn **c) {
    int code;
    if (!c) return TDL_EINVAL;
    *c = NULL;
    tdl_op *op = tdl_caller_op(&code);
    if (TDL_UNLIKELY(!op)) return code;
    int64_t r = tdl_listener_accept_op(op, l);
    if (r == TDL_PENDING) r = tdl_op_wait(op);
    if (r == 0) *c = tdl_val_ptr(&op->out);
    return (int)r;
}

int tdl_listener_try_accept(tdl_listener *l, tdl_conn **c) {
    int r = 0;
    if (!c) return TDL_EINVAL;
    *c = NULL;
    if (!l) return TDL_EINVAL;
    tdl_poller *poller = tdl_my_poller(&r);
    if (!poller || (r = tdl_pd_enter_plain(l->pd)) < 0) return r;
    r = take_one(l, poller, c);
    tdl_pd_leave_plain(l->pd);
    return r == -EAGAIN ? TDL_EAGAIN : r;
}

/* The kernel is asked: what another has left in the backlog brings no new edge. */
static int64_t wait_attempt(tdl_op *op) {
    tdl_listener *l = op->u.io.object;
    int r = tdl_pd_readable(l->pd);
    return r < 0 ? r : r ? 0 : TDL_EAGAIN;
}

static const tdl_op_class wait_class = {"IO wait (accept)", tdl_pd_finish, tdl_pd_abandon};

int64_t tdl_listener_wait_op(tdl_op *op, tdl_listener *l) {
    if (!l) return TDL_EINVAL;
    op->u.io.object = l;
    op->u.io.attempt = wait_attempt;
    return tdl_pd_op(op, l->pd, PD_READ, false, &wait_class);
}

int tdl_listener_wait(tdl_listener *l) { TDL_BLOCKING_FORM(tdl_listener_wait_op(op, l)); }

/* -- For a server ------------------------------------------------------------------------------- */

tdl_pd *tdl_listener_pd(tdl_listener *l) { return l->pd; }

int tdl_listener_serve(tdl_listener *l, struct tdl_server *s) {
    tdl_lock_take(&l->lock);
    int r = l->server && s ? TDL_EBUSY : 0;
    if (r == 0) l->server = s;
    tdl_unlock(&l->lock);
    return r;
}

int tdl_listener_take(tdl_listener *l, struct tdl_server *s, tdl_conn **c) {
    int fd;
    do
        fd = tdl_pd_accept(l->pd);
    while (fd == -EINTR || fd == -ECONNABORTED || fd == -EPROTO);
    if (fd < 0) return fd;
    tdl_poller *poller = l->pd->poller;
    int r = poller ? tdl_conn_make_served(c, s, poller, fd, l->kind, tdl_addr_family(&l->bound)) : TDL_ECLOSED;
    if (r < 0) tdl_sys.close(fd);
    return r;
}

/* -- Properties and closing -------------------------------------------------------------------- */

int tdl_listener_port(tdl_listener *l) {
    if (!l) return TDL_EINVAL;
    int r = tdl_pd_enter_plain(l->pd);
    if (r < 0) return r;
    tdl_pd_leave_plain(l->pd);
    return tdl_addr_port(&l->bound);
}

int tdl_listener_address(tdl_listener *l, char *buf, size_t size) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!l || (!buf && size)) return TDL_EINVAL;
    return tdl_addr_format(&l->bound, buf, size);
}

int tdl_listener_addr(tdl_listener *l, tdl_addr *a) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!l || !a) return TDL_EINVAL;
    *a = l->bound;
    return 0;
}

void tdl_listener_set_deadline(tdl_listener *l, int64_t when) {
    if (l) tdl_pd_set_deadline(l->pd, PD_READ_BIT, when);
}

int tdl_listener_set_option(tdl_listener *l, int option, int64_t value) {
    return l ? tdl_pd_set_option(l->pd, option, value) : TDL_EINVAL;
}

int64_t tdl_listener_option(tdl_listener *l, int option) { return l ? tdl_pd_option(l->pd, option) : TDL_EINVAL; }

int tdl_listener_fd(tdl_listener *l) {
    if (!l) return TDL_EINVAL;
    int r = tdl_pd_enter_plain(l->pd);
    if (r < 0) return r;
    r = l->pd->fd;
    tdl_pd_leave_plain(l->pd);
    return r;
}

int tdl_listener_close(tdl_listener *l) {
    if (tdl_forked()) return TDL_EFORKED;
    return l ? tdl_pd_close(l->pd) : TDL_EINVAL;
}

static void gone(void *arg) {
    tdl_listener *l = arg;
    struct tdl_server *s = l->server;
    tdl_pool_give(&pool, l);
    if (s) tdl_served_gone(s);
}

void tdl_listener_free(tdl_listener *l) {
    if (!l || tdl_forked()) return;
    tdl_pd_release(l->pd, gone, l);
}
