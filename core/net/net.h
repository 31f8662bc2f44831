/* SPDX-License-Identifier: MIT
 *
 * Streams and listeners. A handle is a pooled object around a poll descriptor;
 * it goes when it was freed and the last operation on it has left.
 */
#ifndef TDL_NET_NET_H
#define TDL_NET_NET_H

#include "io/buffer.h"
#include "net/address.h"
#include "netpoll/polldesc.h"

struct tdl_conn {
    tdl_lock lock; /* for the pool only */
    tdl_pd *pd;
    tdl_buffer in; /* belongs to who owns the read direction */
    tdl_address remote; /* while it is being dialled */
};

/* Makes a connection of fd, registered with poller. On an error the fd is
 * still the caller's. */
int tdl_conn_make(tdl_conn **c, tdl_poller *poller, int fd, int family);
int64_t tdl_conn_live(void);
int64_t tdl_listener_live(void);

/* The poller for a descriptor that this operation creates. */
tdl_poller *tdl_op_poller(tdl_op *op, int *code);

/* accept, dial: the connection comes in op->out. fill: the bytes in op->out
 * and op->extra. write: op->extra is what went out; a task's bytes are copied. */
int64_t tdl_listener_accept_op(tdl_op *op, tdl_listener *l);
int64_t tdl_dial_op(tdl_op *op, const char *network, const char *address, int64_t timeout_ns);
int64_t tdl_conn_read_op(tdl_op *op, tdl_conn *c, void *buf, size_t n);
int64_t tdl_conn_write_op(tdl_op *op, tdl_conn *c, const void *buf, size_t n);
int64_t tdl_conn_fill_op(tdl_op *op, tdl_conn *c, int how, size_t limit);

/* Text of an address that the kernel gives: getsockname or getpeername. */
int tdl_pd_name(tdl_pd *pd, int (*get)(int, struct sockaddr *, socklen_t *), tdl_address *a);

#endif
