/* SPDX-License-Identifier: MIT
 * Listeners: listen, accept, close. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "net/net.h"
#include "sys/pool.h"
#include "sys/sys.h"

enum { BACKLOG = 4096 };

struct tdl_listener {
    tdl_lock lock;
    tdl_pd *pd;
    tdl_address bound;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* to unlink; "" for none */
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_listener);

int64_t tdl_listener_live(void) { return tdl_pool_live(&pool); }

/* -- Opening -------------------------------------------------------------------------- */

static int bind_and_listen(int fd, const tdl_address *a, const char *network) {
    int one = 1, zero = 0;
    if (a->sa.ss_family != AF_UNIX)
        tdl_sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->sa.ss_family == AF_INET6)
        tdl_sys.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, strcmp(network, "tcp6") == 0 ? &one : &zero, sizeof one);
    int r = tdl_sys.bind(fd, (const struct sockaddr *)&a->sa, a->n);
    return r < 0 ? r : tdl_sys.listen(fd, BACKLOG);
}

static int open_socket(tdl_address *a, const char *network) {
    int fd = tdl_sys.socket(a->sa.ss_family, SOCK_STREAM, 0);
    if (fd == -EAFNOSUPPORT && strcmp(network, "tcp") == 0 && a->sa.ss_family == AF_INET6) {
        /* a kernel without v6, asked for all interfaces */
        char text[16];
        snprintf(text, sizeof text, ":%d", tdl_address_port(a));
        int r = tdl_address_parse(a, "tcp4", text, 1);
        if (r < 0) return r;
        fd = tdl_sys.socket(AF_INET, SOCK_STREAM, 0);
    }
    return fd;
}

int tdl_listen(const char *network, const char *address, tdl_listener **out) {
    tdl_address a;
    int r;
    if (!out) return TDL_EINVAL;
    *out = NULL;
    if (!network || !address) return TDL_EINVAL;
    if ((r = tdl_address_parse(&a, network, address, 1)) < 0) return r;
    tdl_poller *poller = tdl_my_poller(&r);
    if (!poller) return r;
    tdl_listener *l = tdl_pool_take(&pool);
    if (!l) return TDL_ENOMEM;
    int fd = r = open_socket(&a, network);
    if (fd < 0) goto no_socket;
    if ((r = bind_and_listen(fd, &a, network)) < 0) goto no_pd;
    l->bound.n = sizeof l->bound.sa;
    if ((r = tdl_sys.getsockname(fd, (struct sockaddr *)&l->bound.sa, &l->bound.n)) < 0) goto no_pd;
    if (a.sa.ss_family == AF_UNIX) snprintf(l->path, sizeof l->path, "%s", ((struct sockaddr_un *)&a.sa)->sun_path);
    if ((r = tdl_pd_open(&l->pd, poller, fd, false)) < 0) goto no_pd;
    *out = l;
    return 0;
no_pd:
    tdl_sys.close(fd);
no_socket:
    tdl_pool_give(&pool, l);
    return r;
}

/* -- Accepting ----------------------------------------------------------------------------- */

static int64_t accept_attempt(tdl_op *op) {
    tdl_listener *l = op->u.io.object;
    int fd;
    do /* one that was aborted in the backlog is nobody's error */
        fd = tdl_sys.accept(l->pd->fd, NULL, NULL);
    while (fd == -EINTR || fd == -ECONNABORTED || fd == -EPROTO);
    if (fd == -EAGAIN) return TDL_EAGAIN;
    if (fd < 0) return fd;
    tdl_conn *c;
    int r = 0;
    tdl_poller *poller = tdl_op_poller(op, &r);
    if (poller) r = tdl_conn_make(&c, poller, fd, l->bound.sa.ss_family);
    if (r < 0) {
        tdl_sys.close(fd);
        return r;
    }
    tdl_val_set_ptr(&op->out, c);
    return 0;
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

/* -- Properties and closing -------------------------------------------------------------------- */

int tdl_listener_port(tdl_listener *l) {
    if (!l) return TDL_EINVAL;
    int r = tdl_pd_enter_plain(l->pd);
    if (r < 0) return r;
    tdl_pd_leave_plain(l->pd);
    return tdl_address_port(&l->bound);
}

int tdl_listener_address(tdl_listener *l, char *buf, size_t size) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!l || (!buf && size)) return TDL_EINVAL;
    return tdl_address_format(&l->bound, buf, size);
}

void tdl_listener_set_deadline(tdl_listener *l, int64_t when) {
    if (l) tdl_pd_set_deadline(l->pd, PD_READ_BIT, when);
}

int tdl_listener_close(tdl_listener *l) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!l) return TDL_EINVAL;
    /* whoever it wakes may free the listener */
    char path[sizeof l->path];
    memcpy(path, l->path, sizeof path);
    int r = tdl_pd_close(l->pd);
    if (r == 0 && path[0]) tdl_sys.unlink(path);
    return r;
}

static void gone(void *l) { tdl_pool_give(&pool, l); }

void tdl_listener_free(tdl_listener *l) {
    if (!l || tdl_forked()) return;
    tdl_listener_close(l);
    tdl_pd_release(l->pd, gone, l);
}
