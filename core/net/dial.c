/* SPDX-License-Identifier: MIT
 *
 * Dialling. Each attempt is a connect(2): the first starts it, a later one
 * tells how it went (0 or EISCONN, EALREADY, or the error).
 */
#include <errno.h>

#include "net/net.h"
#include "sys/sys.h"

static int64_t connect_attempt(tdl_op *op) {
    tdl_conn *c = op->u.io.object;
    int r = tdl_sys.connect(c->pd->fd, (struct sockaddr *)&c->remote.sa, c->remote.n);
    if (r == -EISCONN) r = 0;
    if (r == -EINPROGRESS || r == -EALREADY || r == -EINTR) return TDL_EAGAIN;
    return r;
}

static int64_t dial_done(tdl_op *op, int64_t r) {
    if (r == TDL_PENDING) return r;
    tdl_conn *c = op->u.io.object;
    if (r == 0) {
        tdl_pd_set_deadline(c->pd, PD_WRITE_BIT, 0);
        tdl_val_set_ptr(&op->out, c);
    } else {
        tdl_conn_free(c);
    }
    return r;
}

static int64_t dial_finish(tdl_op *op) { return dial_done(op, tdl_pd_finish(op)); }

static void dial_abandon(tdl_op *op) {
    tdl_pd_abandon(op);
    tdl_conn_free(op->u.io.object);
}

static const tdl_op_class dial_class = {"IO wait (connect)", dial_finish, dial_abandon};

int64_t tdl_dial_op(tdl_op *op, const char *network, const char *address, int64_t timeout_ns) {
    tdl_address a;
    tdl_val_set_nil(&op->out);
    if (!network || !address) return TDL_EINVAL;
    int r = tdl_address_parse(&a, network, address, 0);
    if (r < 0) return r;
    if (timeout_ns < 0) return TDL_ETIMEDOUT;
    tdl_poller *poller = tdl_op_poller(op, &r);
    if (!poller) return r;
    int fd = tdl_sys.socket(a.sa.ss_family, SOCK_STREAM, 0);
    if (fd < 0) return fd;
    tdl_conn *c;
    if ((r = tdl_conn_make(&c, poller, fd, a.sa.ss_family)) < 0) {
        tdl_sys.close(fd);
        return r;
    }
    c->remote = a;
    if (timeout_ns) {
        int64_t now = tdl_sys.now();
        if (timeout_ns < TDL_FOREVER - now) tdl_pd_set_deadline(c->pd, PD_WRITE_BIT, now + timeout_ns);
    }
    op->u.io.object = c;
    op->u.io.attempt = connect_attempt;
    return dial_done(op, tdl_pd_op(op, c->pd, PD_WRITE, false, &dial_class));
}

int tdl_dial(const char *network, const char *address, int64_t timeout_ns, tdl_conn **c) {
    int code;
    if (!c) return TDL_EINVAL;
    *c = NULL;
    tdl_op *op = tdl_caller_op(&code);
    if (TDL_UNLIKELY(!op)) return code;
    int64_t r = tdl_dial_op(op, network, address, timeout_ns);
    if (r == TDL_PENDING) r = tdl_op_wait(op);
    if (r == 0) *c = tdl_val_ptr(&op->out);
    return (int)r;
}
