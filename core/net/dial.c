/* SPDX-License-Identifier: MIT
 *
 * Dialling, RFC 8305: the addresses are tried in turn, the families
 * alternating, each a while after the one before or as soon as that has failed;
 * whichever connects first is the connection, and the others are closed. One
 * address is a list of one.
 *
 * The op waits for the sockets of all attempts under way at once, and for the
 * moment at which something is due; what there is to do is looked at afresh
 * whenever it was woken. Each look at an attempt is a connect(2): the first
 * starts it, a later one tells how it went.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "net/net.h"
#include "os/names.h"
#include "sys/sys.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

#define FALLBACK_DELAY (250 * TDL_MILLISECOND)
#define RETRY_FIRST    TDL_MILLISECOND
#define RETRY_MOST     (32 * TDL_MILLISECOND)

enum { MOST_ADDRESSES = 256 };

typedef struct attempt {
    tdl_addr to;
    tdl_conn *c;   /* NULL: not begun, or over */
    int64_t again; /* a unix backlog was full: when to ask again; else 0 */
    int64_t pause; /* how long the last wait was */
} attempt;

typedef struct dialling {
    int n, next; /* attempts; the next to begin */
    int live;    /* under way */
    int error;   /* of the first that failed */
    int type;
    bool has_local;
    tdl_addr local4, local; /* for IPv4; for IPv6 or unix. Length 0: it is not of this family */
    int64_t deadline; /* TDL_FOREVER: none */
    int64_t delay;    /* between attempts; TDL_FOREVER: only after a failure */
    int64_t begin_at; /* when the next may begin */
    tdl_poller *poller;
    attempt of[];
} dialling;

/* -- One attempt ------------------------------------------------------------------- */

static void end_attempt(dialling *d, attempt *a) {
    tdl_conn_free(a->c);
    a->c = NULL;
    d->live--;
}

static void fail_attempt(dialling *d, attempt *a, int code) {
    if (d->error == 0) d->error = code;
    if (a->c) end_attempt(d, a);
    d->begin_at = 0;
}

static int bind_local(dialling *d, int fd, int family) {
    int one = 1;
    tdl_addr *local = family == AF_INET ? &d->local4 : &d->local;
    if (!d->has_local) return 0;
    if (local->length == 0) return -EAFNOSUPPORT;
    /* a port is picked when it is known who is dialled: there are more of them */
    if (family != AF_UNIX && tdl_addr_port(local) == 0)
        tdl_sys.setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    return tdl_sys.bind(fd, tdl_addr_sa(local), local->length);
}

static int begin_attempt(dialling *d, attempt *a) {
    int family = tdl_addr_family(&a->to);
    int fd = tdl_sys.socket(family, d->type, 0);
    if (fd < 0) return fd;
    int r = bind_local(d, fd, family);
    if (r == 0) r = tdl_conn_make(&a->c, d->poller, fd, d->type == SOCK_STREAM ? CONN_SOCKET : CONN_PACKET, family);
    if (r < 0)
        tdl_sys.close(fd);
    else
        d->live++;
    return r;
}

/* Simultaneous open with ourselves: a port that nobody listens on was picked
 * for our own end. */
static bool self_connected(attempt *a) {
    tdl_addr local = {0};
    socklen_t n = sizeof local.sockaddr;
    if (tdl_addr_family(&a->to) == AF_UNIX) return false;
    if (tdl_sys.getsockname(a->c->pd->fd, tdl_addr_sa(&local), &n) < 0) return false;
    local.length = n;
    return tdl_addr_equal(&local, &a->to) == 1;
}

/* How it goes: 0 connected, TDL_EAGAIN not yet, or the error. */
static int ask(attempt *a) {
    a->again = 0;
    tdl_pd_take_ready(a->c->pd, PD_WRITE);
    int r;
    do /* interrupted, it goes on by itself, and is asked how it goes */
        r = tdl_sys.connect(a->c->pd->fd, tdl_addr_sa(&a->to), a->to.length);
    while (r == -EINTR);
    if (r == -EISCONN) r = 0;
    if (r == -EINPROGRESS || r == -EALREADY) return TDL_EAGAIN;
    if (r == -EAGAIN && tdl_addr_family(&a->to) == AF_UNIX) {
        a->pause = a->pause ? a->pause * 2 : RETRY_FIRST;
        if (a->pause > RETRY_MOST) a->pause = RETRY_MOST;
        a->again = tdl_sys.now() + a->pause;
        return TDL_EAGAIN;
    }
    return r == 0 && self_connected(a) ? -ECONNREFUSED : r;
}

/* -- All of them --------------------------------------------------------------------- */

static void delist(dialling *d) {
    for (int i = 0; i < d->next; i++)
        if (d->of[i].c) tdl_pd_delist(d->of[i].c->pd, PD_WRITE);
}

static int64_t end(tdl_op *op, dialling *d, int64_t r) {
    for (int i = 0; i < d->next; i++)
        if (d->of[i].c) end_attempt(d, &d->of[i]);
    tdl_sys.release(d);
    op->u.io.object = NULL;
    return r;
}

/* Those under way about which there may be news. 1: one is connected, and in op->out. */
static int look(tdl_op *op, dialling *d) {
    for (int i = 0; i < d->next; i++) {
        attempt *a = &d->of[i];
        if (!a->c) continue;
        int r = a->again ? tdl_sys.now() >= a->again : tdl_pd_take_ready(a->c->pd, PD_WRITE);
        if (r > 0) r = ask(a);
        else if (r == 0) r = TDL_EAGAIN;
        if (r == 0) {
            tdl_pd_event(tdl_pd_token(a->c->pd), PD_WRITABLE); /* the edge was for us */
            tdl_val_set_ptr(&op->out, a->c);
            a->c = NULL;
            d->live--;
            return 1;
        }
        if (r != TDL_EAGAIN) fail_attempt(d, a, r);
    }
    return 0;
}

/* When something is due by time alone. */
static int64_t due(dialling *d) {
    int64_t when = d->deadline;
    if (d->next < d->n && d->begin_at < when) when = d->begin_at;
    for (int i = 0; i < d->next; i++)
        if (d->of[i].c && d->of[i].again && d->of[i].again < when) when = d->of[i].again;
    return when;
}

/* 0: enlisted; 1: there is news already. Between publish and return the op may
 * be claimed, by a poller that goes away: then it counts as enlisted. */
static int enlist(tdl_op *op, dialling *d) {
    bool published = false;
    for (int i = 0; i < d->next; i++) {
        attempt *a = &d->of[i];
        if (!a->c) continue;
        if (tdl_pd_enlist(a->c->pd, PD_WRITE, op, !published) == 0) {
            published = true;
            continue;
        }
        if (published && !tdl_op_claim(op)) return 0;
        delist(d);
        at_store_rlx(&op->state, OP_IDLE);
        return 1;
    }
    return 0;
}

static int64_t step(tdl_op *op, dialling *d) {
    for (;;) {
        int64_t now = tdl_sys.now();
        if (look(op, d)) return end(op, d, 0);
        if (now >= d->deadline) return end(op, d, TDL_ETIMEDOUT);
        if (d->next < d->n && (d->live == 0 || now >= d->begin_at)) {
            attempt *a = &d->of[d->next++];
            d->begin_at = tdl_time_after(now, d->delay);
            int r = begin_attempt(d, a);
            if (r < 0) fail_attempt(d, a, r);
            continue;
        }
        if (d->live == 0) return end(op, d, d->error);
        if (enlist(op, d) == 0) {
            tdl_op_arm(op, due(d));
            return TDL_PENDING;
        }
    }
}

/* Woken by news, by the time (which step looks at), or to give up. */
static int64_t dial_finish(tdl_op *op) {
    dialling *d = op->u.io.object;
    delist(d);
    if (op->result < 0 && op->result != TDL_ETIMEDOUT) return end(op, d, op->result);
    return step(op, d);
}

static void dial_abandon(tdl_op *op) {
    dialling *d = op->u.io.object;
    delist(d);
    end(op, d, 0);
}

static const tdl_op_class dial_class = {"IO wait (connect)", dial_finish, dial_abandon};

/* -- The op ------------------------------------------------------------------------------ */

/* Alternates the families, the first one's first (RFC 8305, section 4). */
static void interleave(dialling *d, const tdl_addr *a, int n) {
    int first = tdl_addr_family(&a[0]), same = 0, other = 0;
    for (int i = 0; i < n; i++) {
        while (same < n && tdl_addr_family(&a[same]) != first) same++;
        while (other < n && tdl_addr_family(&a[other]) == first) other++;
        bool take_same = other >= n || (same < n && i % 2 == 0);
        d->of[i].to = take_same ? a[same++] : a[other++];
    }
}

static int set_options(dialling *d, const tdl_network *net, const tdl_dial_options *o) {
    int64_t now = tdl_sys.now();
    d->deadline = TDL_FOREVER;
    d->delay = FALLBACK_DELAY;
    if (!o) return 0;
    if (o->timeout) d->deadline = o->timeout < 0 ? now : tdl_time_after(now, o->timeout);
    if (o->deadline && o->deadline < d->deadline) d->deadline = o->deadline;
    if (o->fallback_delay) d->delay = o->fallback_delay < 0 ? TDL_FOREVER : o->fallback_delay;
    if (!o->local) return 0;
    d->has_local = true;
    if (net->family != AF_UNSPEC) {
        tdl_addr *local = net->family == AF_INET ? &d->local4 : &d->local;
        return tdl_addr_parse_on(local, net, o->local, true);
    }
    tdl_network v4 = *net, v6 = *net;
    v4.family = AF_INET;
    v6.family = AF_INET6;
    int r4 = tdl_addr_parse_on(&d->local4, &v4, o->local, true);
    int r6 = tdl_addr_parse_on(&d->local, &v6, o->local, true);
    return r4 == 0 ? 0 : r6;
}

static int check_options(const tdl_dial_options *o) {
    return o && (o->size != sizeof *o || o->flags) ? TDL_EINVAL : 0;
}

static int64_t dial(tdl_op *op, const tdl_network *net, const tdl_addr *a, int n, const tdl_dial_options *o) {
    int r = 0;
    dialling *d = tdl_alloc_zeroed(sizeof *d + (size_t)n * sizeof d->of[0]);
    if (!d) return TDL_ENOMEM;
    d->n = n;
    d->type = net->type;
    r = set_options(d, net, o);
    if (r == 0 && d->deadline <= tdl_sys.now()) r = TDL_ETIMEDOUT;
    if (r == 0 && !(d->poller = tdl_op_poller(op, &r)) && r == 0) r = TDL_EINVAL;
    if (r < 0) {
        tdl_sys.release(d);
        return r;
    }
    interleave(d, a, n);
    tdl_op_begin(op, &dial_class);
    op->u.io.object = d;
    return step(op, d);
}

int64_t tdl_dial_list_op(tdl_op *op, const char *network, const tdl_addr *a, int n, const tdl_dial_options *o) {
    tdl_network net;
    tdl_val_set_nil(&op->out);
    if (!network || !a || n < 1 || n > MOST_ADDRESSES || check_options(o) != 0) return TDL_EINVAL;
    int r = tdl_network_parse(&net, network);
    if (r < 0) return r;
    if (net.type == SOCK_DGRAM) return TDL_ENETWORK;
    for (int i = 0; i < n; i++) {
        int family = tdl_addr_family(&a[i]);
        bool ip = family == AF_INET || family == AF_INET6;
        if (net.family == AF_UNSPEC ? !ip : family != net.family) return TDL_EADDRESS;
    }
    return dial(op, &net, a, n, o);
}

/* What is to be dialled once the name has been looked up. */
typedef struct named {
    tdl_network net;
    tdl_dial_options o;
    char local[];
} named;

static int64_t dial_found(tdl_names *names, tdl_op *op) {
    named *x = names->more;
    return dial(op, &x->net, names->found, names->n, &x->o);
}

/* By name: the time until the answer counts, and the options are read before. */
static int64_t dial_name(tdl_op *op, const tdl_network *net, const char *host, int port, const tdl_dial_options *o) {
    int64_t now = tdl_sys.now(), deadline = TDL_FOREVER;
    size_t n = o && o->local ? strlen(o->local) + 1 : 0;
    tdl_names *names = tdl_names_new(host, net->family, net->type, port);
    named *x = tdl_alloc_zeroed(sizeof *x + n);
    if (!names || !x) {
        tdl_sys.release(names);
        tdl_sys.release(x);
        return TDL_ENOMEM;
    }
    x->net = *net;
    x->o = o ? *o : (tdl_dial_options){.size = sizeof x->o};
    if (n) x->o.local = memcpy(x->local, o->local, n);
    if (x->o.timeout) deadline = x->o.timeout < 0 ? now : tdl_time_after(now, x->o.timeout);
    if (x->o.deadline && x->o.deadline < deadline) deadline = x->o.deadline;
    x->o.timeout = 0;
    x->o.deadline = deadline == TDL_FOREVER ? 0 : deadline;
    names->more = x;
    names->then = dial_found;
    if (deadline <= now) deadline = now; /* TDL_NOWAIT means something else here */
    return tdl_names_op(op, names, deadline);
}

int64_t tdl_dial_op(tdl_op *op, const char *network, const char *address, const tdl_dial_options *o) {
    tdl_network net;
    tdl_addr a[2];
    tdl_val_set_nil(&op->out);
    if (!network || !address || check_options(o) != 0) return TDL_EINVAL;
    int r = tdl_network_parse(&net, network);
    if (r < 0) return r;
    if (net.type == SOCK_DGRAM) return TDL_ENETWORK;
    r = tdl_addr_parse_all(a, 2, &net, address);
    char host[TDL_HOST_MAX];
    uint16_t port;
    if (r == TDL_EADDRESS && net.family != AF_UNIX && tdl_split_name(address, host, &port))
        return dial_name(op, &net, host, port, o);
    return r < 0 ? r : dial(op, &net, a, r, o);
}

/* -- Blocking forms -------------------------------------------------------------------------- */

static int wait_for(tdl_op *op, int64_t r, tdl_conn **c) {
    if (r == TDL_PENDING) r = tdl_op_wait(op);
    if (r == 0) *c = tdl_val_ptr(&op->out);
    return (int)r;
}

int tdl_dial_opts(const char *network, const char *address, const tdl_dial_options *o, tdl_conn **c) {
    int code;
    if (!c) return TDL_EINVAL;
    *c = NULL;
    tdl_op *op = tdl_caller_op(&code);
    if (TDL_UNLIKELY(!op)) return code;
    return wait_for(op, tdl_dial_op(op, network, address, o), c);
}

int tdl_dial(const char *network, const char *address, int64_t timeout_ns, tdl_conn **c) {
    tdl_dial_options o = {.size = sizeof o, .timeout = timeout_ns};
    return tdl_dial_opts(network, address, &o, c);
}

int tdl_dial_list(const char *network, const tdl_addr *addresses, int n, const tdl_dial_options *o, tdl_conn **c) {
    int code;
    if (!c) return TDL_EINVAL;
    *c = NULL;
    tdl_op *op = tdl_caller_op(&code);
    if (TDL_UNLIKELY(!op)) return code;
    return wait_for(op, tdl_dial_list_op(op, network, addresses, n, o), c);
}
