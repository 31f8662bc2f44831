/* SPDX-License-Identifier: MIT
 *
 * Connections, listeners, datagram sockets and plain descriptors. A handle is a
 * pooled object around a poll descriptor; it goes when it was freed and the
 * last operation on it has left.
 */
#ifndef TDL_NET_NET_H
#define TDL_NET_NET_H

#include "io/buffer.h"
#include "net/address.h"
#include "netpoll/polldesc.h"

enum { TDL_UNIX_PATH = 112 }; /* a unix address's path and its NUL fit */

/* How a connection moves bytes. */
enum {
    CONN_SOCKET, /* a stream socket */
    CONN_PACKET, /* a socket that keeps the bounds of messages */
    CONN_FILE,   /* read(2) and write(2): a pipe, a terminal, a device … */
    CONN_MEMORY, /* one end of an in-memory pipe, see pipe.c; it has no fd */
    CONN_TLS     /* a stream socket with TLS on it, see tls.h: what was CONN_SOCKET before */
};

/* Of a connection's marks. */
enum { MARK_RESET = 1, MARK_TLS = 2 };

struct tdl_conn {
    tdl_lock lock; /* for the pool only */
    uint8_t kind;
    uint8_t end : 1; /* CONN_MEMORY: which of the two it is */
    uint8_t is_unix : 1;
    uint8_t blocking : 1; /* adopted: it was in blocking mode, and is again when released */
    uint8_t of_fd : 1; /* it is a tdl_fd's */
    /* MARK_RESET: TCP, a write was told of it; see conn.c. MARK_TLS: it has TLS. Written under
     * pd's lock; the release of MARK_TLS pairs with tdl_conn_tls */
    _Atomic uint8_t marks;
    uint8_t served; /* of a server: see server.c; under the server's lock */
    tdl_pd *pd;
    tdl_buffer in; /* belongs to who owns the read direction */
    union {
        struct tdl_pipe *pipe;     /* CONN_MEMORY: what it shares with the other end */
        struct tdl_server *server; /* the others: NULL, or that of which it is one */
    };
    struct tdl_tls_stream *tls; /* CONN_TLS, and with MARK_TLS */
};

/* Its TLS, for who has no direction; NULL. */
static inline struct tdl_tls_stream *tdl_conn_tls(tdl_conn *c) {
    return TDL_UNLIKELY(at_load_acq(&c->marks) & MARK_TLS) ? c->tls : NULL;
}

/* A descriptor that the user brought is a connection inside. */
struct tdl_fd {
    tdl_conn stream;
};

/* Is there no connection any more, as after a reset? */
bool tdl_tcp_is_over(int fd);
/* The memory of one; NULL. */
tdl_conn *tdl_conn_alloc(int kind);
void tdl_conn_dealloc(tdl_conn *c);
/* Closes it but for its descriptor, which is returned and the caller's; as tdl_pd_disown. */
int tdl_conn_disown(tdl_conn *c);
void tdl_fd_dealloc(tdl_conn *c);
/* Makes a connection of fd, registered with poller. On an error the fd is
 * still the caller's. */
int tdl_conn_make(tdl_conn **c, tdl_poller *poller, int fd, int kind, int family);
/* The same for one of a server's. */
int tdl_conn_make_served(tdl_conn **c, struct tdl_server *s, tdl_poller *poller, int fd, int kind, int family);
int64_t tdl_conn_live(void);
int64_t tdl_listener_live(void);
int64_t tdl_dgram_live(void);
int64_t tdl_fd_live(void);
/* A socket for an address to bind to; all interfaces of a system without IPv6
 * are those of IPv4 (a is changed then). The fd or a code. */
int tdl_net_socket(tdl_addr *a, const tdl_network *net);

/* The poller for a descriptor that this operation creates. */
tdl_poller *tdl_op_poller(tdl_op *op, int *code);
/* Makes a descriptor of the user's one that never waits. Whether it was so that
 * it waited, or -EBADF …. */
int tdl_fd_prepare(int fd);
/* AF_…, or a negated errno. */
int tdl_fd_family(int fd);
/* What epoll_ctl says of a descriptor of the user's, in words of ours. */
int tdl_fd_code(int r);

/* accept, dial: the connection comes in op->out. fill: the bytes in op->out
 * and op->extra. write: op->extra is what went out; a task's bytes are copied. */
int64_t tdl_listener_accept_op(tdl_op *op, tdl_listener *l);
int64_t tdl_listener_wait_op(tdl_op *op, tdl_listener *l);
int64_t tdl_dial_op(tdl_op *op, const char *network, const char *address, const tdl_dial_options *o);
int64_t tdl_dial_list_op(tdl_op *op, const char *network, const tdl_addr *a, int n, const tdl_dial_options *o);
int64_t tdl_conn_read_op(tdl_op *op, tdl_conn *c, void *buf, size_t n);
int64_t tdl_conn_write_op(tdl_op *op, tdl_conn *c, const void *buf, size_t n);
int64_t tdl_conn_fill_until_op(tdl_op *op, tdl_conn *c, const void *delim, size_t n, size_t limit);
int64_t tdl_conn_writev_op(tdl_op *op, tdl_conn *c, const tdl_iovec *v, int n);
int64_t tdl_conn_write_buf_op(tdl_op *op, tdl_conn *c, tdl_buf *b);
int64_t tdl_conn_fill_op(tdl_op *op, tdl_conn *c, int how, size_t limit);
/* extra: the bytes that have arrived at the other end. */
int64_t tdl_conn_copy_op(tdl_op *op, tdl_conn *to, tdl_conn *from, int64_t n);
int64_t tdl_conn_send_file_op(tdl_op *op, tdl_conn *to, int fd, int64_t offset, int64_t n);
/* A connection is no more. With the last one go the pipes that copies keep. */
void tdl_copy_conn_gone(void);
int64_t tdl_conn_send_fds_op(tdl_op *op, tdl_conn *c, const void *buf, size_t n, const int *fds, int nfds);
int64_t tdl_conn_recv_fds_op(tdl_op *op, tdl_conn *c, void *buf, size_t n, int *fds, int *nfds);
int64_t tdl_fd_wait_op(tdl_op *op, tdl_fd *f, int readiness);
int64_t tdl_dgram_recv_op(tdl_op *op, tdl_dgram *d, void *buf, size_t n, tdl_addr *from);
int64_t tdl_dgram_send_op(tdl_op *op, tdl_dgram *d, const void *buf, size_t n, const tdl_addr *to);
int64_t tdl_dgram_recv_batch_op(tdl_op *op, tdl_dgram *d, tdl_packet *packets, int n);
int64_t tdl_dgram_send_batch_op(tdl_op *op, tdl_dgram *d, tdl_packet *packets, int n);

/* One attempt to move bytes: their number, 0 for the end, or a negative code;
 * -EAGAIN: not now. */
int64_t tdl_conn_take(tdl_conn *c, void *buf, size_t n);
int64_t tdl_conn_put(tdl_conn *c, const void *buf, size_t n);
int64_t tdl_conn_take_socket(tdl_conn *c, void *buf, size_t n); /* of the socket that is under TLS, too */
/* After a read that was shorter than asked for: would another find nothing? See tdl_pd. */
bool tdl_tls_drained(tdl_conn *c);
static inline bool tdl_conn_drained(tdl_conn *c) {
    return at_load_rlx(&c->pd->short_drains) && (TDL_LIKELY(c->kind != CONN_TLS) || tdl_tls_drained(c));
}
/* An op on n = 0 bytes, which is done at once on what is open. */
int tdl_pd_nothing(tdl_pd *pd);

/* Servers. A connection is being closed (as tdl_pd_kind's closing); its memory goes;
 * something has arrived (arrived). A listener of one: likewise. */
void tdl_served_closing(void *conn);
void tdl_served_gone(struct tdl_server *s);
void tdl_server_hold(struct tdl_server *s); /* until tdl_served_gone */
void tdl_served_arrived(void *conn, bool hup, int why);
void tdl_server_incoming(struct tdl_server *s, tdl_listener *l);
/* A server takes the listener over, and is held by it from now on; NULL: gives it
 * back. 0; TDL_EBUSY: it has one. */
int tdl_listener_serve(tdl_listener *l, struct tdl_server *s);
/* One attempt to accept a server's connection: 0, and *c; -EAGAIN, -EMFILE …. */
int tdl_listener_take(tdl_listener *l, struct tdl_server *s, tdl_conn **c);
tdl_pd *tdl_listener_pd(tdl_listener *l);
int64_t tdl_server_next_op(tdl_op *op, tdl_server *s, int64_t deadline);
int64_t tdl_server_shutdown_op(tdl_op *op, tdl_server *s, int64_t deadline);

/* In-memory pipes. */
int64_t tdl_pipe_take(tdl_conn *c, void *buf, size_t n);
int64_t tdl_pipe_put(tdl_conn *c, tdl_op *op);
int tdl_pipe_shut(tdl_conn *c, int how);
void tdl_pipe_release(tdl_conn *c);

/* Text of an address that the kernel gives: getsockname or getpeername. */
int tdl_pd_name(tdl_pd *pd, int (*get)(int, struct sockaddr *, socklen_t *), tdl_addr *a);
/* Options of the socket behind a descriptor, see sockopt.c. */
int tdl_pd_set_option(tdl_pd *pd, int option, int64_t value);
int64_t tdl_pd_option(tdl_pd *pd, int option);

#endif
