/* SPDX-License-Identifier: MIT
 *
 * Connections as values: what travels is the socket and, where there is one, its TLS stream, which knows no
 * thread and no poller; whoever takes it makes a connection of its own of them.
 *
 * Invariant: a stream belongs to one connection, or to one box in a value. It leaves its connection when that is
 * closed and nobody is inside any more (tdl_conn_disown), so no lock is needed.
 */
#include <errno.h>

#include "net/tls.h"
#include "sync/chan.h"
#include "sys/sys.h"

typedef struct box {
    tdl_cargo cargo;
    int fd;
    bool blocking; /* see tdl_conn */
    struct tdl_tls_stream *tls; /* NULL: it has none */
} box;

/* Nobody has taken it: closed, as tdl_conn_free would. */
static void drop(tdl_cargo *cargo) {
    box *b = TDL_CONTAINER(cargo, box, cargo);
    if (b->tls) tdl_tls_abandon(b->tls, b->fd);
    tdl_sys.close(b->fd);
    tdl_sys.release(b);
}

int tdl_val_set_conn(tdl_val *v, tdl_conn *c) {
    tdl_val_set_nil(v);
    if (tdl_forked()) return TDL_EFORKED;
    if (!c) return TDL_EINVAL;
    if (c->kind == CONN_MEMORY || c->of_fd) return -EOPNOTSUPP;
    box *b = tdl_sys.alloc(sizeof *b);
    if (!b) return TDL_ENOMEM;
    *b = (box){.cargo.drop = drop};
    int r = tdl_val_set_cargo(v, &b->cargo);
    if (r == 0 && (r = tdl_conn_disown(c)) < 0) { /* before anything is lost */
        tdl_val_take_cargo(v, drop);
        tdl_val_clear(v);
    }
    if (r < 0) {
        tdl_sys.release(b);
        return r;
    }
    b->fd = r;
    b->blocking = c->blocking;
    b->tls = tdl_conn_tls(c) ? tdl_tls_detach(c) : NULL;
    return 0;
}

int tdl_val_take_conn(const tdl_val *v, tdl_conn **c) {
    if (!c) return TDL_EINVAL;
    *c = NULL;
    if (tdl_forked()) return TDL_EFORKED;
    tdl_cargo *cargo = tdl_val_take_cargo(v, drop);
    if (!cargo) return TDL_EINVAL;
    box *b = TDL_CONTAINER(cargo, box, cargo);
    int r = tdl_conn_adopt(b->fd, c);
    if (r < 0) {
        drop(cargo);
        return r;
    }
    (*c)->blocking = b->blocking;
    if (b->tls && (r = tdl_tls_attach(*c, b->tls)) < 0) {
        tdl_tls_gone(b->tls);
        tdl_conn_free(*c);
        *c = NULL;
    }
    tdl_sys.release(b);
    return r;
}
