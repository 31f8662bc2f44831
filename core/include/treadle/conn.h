/* SPDX-License-Identifier: MIT
 *
 * Listeners and connections: over TCP and unix sockets, pipes in memory, and
 * descriptors of the caller's. See addr.h for networks, of which those with streams
 * and "unixpacket" are for here.
 *
 * Several callers may use one connection at a time: each call is atomic, and those of
 * one direction are served in order. A call that waits ends at the connection's
 * deadline for its direction, by tdl_cancel and by closing.
 */
#ifndef TREADLE_CONN_H
#define TREADLE_CONN_H

#include "addr.h"
#include "buf.h"
#include "value.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tdl_listener tdl_listener;
typedef struct tdl_conn tdl_conn;

/* Opens a listening socket (SO_REUSEADDR; port 0 lets the system choose). 0; as
 * tdl_addr_parse; -EADDRINUSE, -EMFILE …. Any caller: the descriptor is watched
 * by the caller's own poller. */
TDL_API int  tdl_listen(const char *network, const char *address, tdl_listener **l);

enum {
    TDL_LISTEN_REUSEPORT = 1, /* several listeners at one address, each with its share of the connections */
    TDL_LISTEN_KEEP_PATH = 2, /* a unix path stays when the listener is closed */
    TDL_LISTEN_ALL       = 3
};

typedef struct tdl_listen_options {
    uint32_t size;    /* sizeof(tdl_listen_options) */
    uint32_t flags;   /* TDL_LISTEN_… */
    uint32_t backlog; /* connections that wait to be accepted; 0: 4096; the system has a limit of its own */
    uint32_t unused;
} tdl_listen_options;

/* The same with options (NULL: none); TDL_EINVAL for bad ones. */
TDL_API int  tdl_listen_opts(const char *network, const char *address, const tdl_listen_options *o, tdl_listener **l);
/* n listeners (1…1024) at one address of an internet network, the i-th watched by the i-th
 * processor: each, with a goroutine of its own that accepts, has its share of the
 * connections, and its processor has their descriptors. All of them, or none and
 * the error. (On a host's thread, as tdl_listen_opts with TDL_LISTEN_REUSEPORT.) */
TDL_API int  tdl_listen_shards(const char *network, const char *address, const tdl_listen_options *o,
                               tdl_listener **l, int n);
/* Takes one connection. Blocking. 0; TDL_ECLOSED; TDL_ETIMEDOUT; -EMFILE,
 * -ENFILE (the connection stays in the backlog; the listener can be used on, and
 * it is worth to wait some milliseconds before); TDL_ECANCELED. A connection
 * that was aborted in the backlog is passed over. */
TDL_API int  tdl_listener_accept(tdl_listener *l, tdl_conn **c);
/* Waits until an accept would not wait (or would fail), and takes nothing: for a
 * goroutine that turns it into a case of a select, by a channel. Another caller may
 * have taken the connection by the time this one looks. Blocking. 0; TDL_ECLOSED;
 * TDL_ETIMEDOUT; TDL_ECANCELED. */
TDL_API int  tdl_listener_wait(tdl_listener *l);
/* Takes a connection if there is one; never waits, and heeds no deadline. TDL_EAGAIN:
 * there is none; else as tdl_listener_accept. Any caller. */
TDL_API int  tdl_listener_try_accept(tdl_listener *l, tdl_conn **c);
/* The port, 0 for unix. TDL_ECLOSED. Any caller. */
TDL_API int  tdl_listener_port(tdl_listener *l);
/* The address it is bound to as text, cut to size with a final NUL; its full
 * length. Any caller. */
TDL_API int  tdl_listener_address(tdl_listener *l, char *buf, size_t size);
TDL_API int  tdl_listener_addr(tdl_listener *l, tdl_addr *a); /* the same; 0 */
/* Accept fails with TDL_ETIMEDOUT from `when` on; 0 clears; a past or negative
 * time is now. A past deadline wins over a waiting connection. Any caller. */
TDL_API void tdl_listener_set_deadline(tdl_listener *l, int64_t when);
/* The descriptor, still owned by the listener; TDL_ECLOSED. Any caller. */
TDL_API int  tdl_listener_fd(tdl_listener *l);
/* Wakes those who wait in accept; the port is free when it returns (one who is just accepting is
 * waited for, a tenth of a second at most). A unix path is unlinked, also where the end of a run or
 * host closes it. 0; TDL_ECLOSED the second time. Any caller. */
TDL_API int  tdl_listener_close(tdl_listener *l);
/* Closes if need be and gives the handle back. NULL is ignored. Any caller. */
TDL_API void tdl_listener_free(tdl_listener *l);

/* Connects. timeout 0: none; negative: expired already. "localhost" is both
 * loopback addresses; a host's name is looked up (tdl_lookup; TDL_ENONAME,
 * TDL_ENAMESERVER), within the timeout, and its addresses are dialled as by tdl_dial_list. Blocking. 0; as tdl_addr_parse; TDL_ETIMEDOUT;
 * TDL_ECANCELED; -ECONNREFUSED …. TCP_NODELAY is set, as on accepted
 * connections. A full backlog of a unix listener is waited for. */
TDL_API int tdl_dial(const char *network, const char *address, int64_t timeout_ns, tdl_conn **c);

typedef struct tdl_dial_options {
    uint32_t size;          /* sizeof(tdl_dial_options) */
    uint32_t flags;         /* 0 */
    int64_t  timeout;       /* ns, as tdl_dial */
    int64_t  deadline;      /* 0: none; the earlier of the two counts */
    int64_t  fallback_delay; /* ns until the next address is tried beside; 0: 250 ms; < 0: only after a failure */
    const char *local;      /* the address to come from (port 0: any); NULL */
} tdl_dial_options;

/* The same with options (NULL: none). TDL_EINVAL for bad ones, -EAFNOSUPPORT for
 * a local address of another family, -EADDRINUSE …. */
TDL_API int tdl_dial_opts(const char *network, const char *address, const tdl_dial_options *o, tdl_conn **c);
/* Dials n addresses (1…256), as RFC 8305 has it: in their order, but the families
 * alternating; the next is tried once the last has failed or the delay is over,
 * and the first that connects is it. The error is the first one's. */
TDL_API int tdl_dial_list(const char *network, const tdl_addr *addresses, int n, const tdl_dial_options *o,
                          tdl_conn **c);

/* Two connections, each the other's peer, in memory: all of this file holds
 * for them, but what needs a descriptor (-EOPNOTSUPP). capacity: bytes that a
 * direction holds; 0: a write is over when all of it has been read, and what was
 * not read when it fails is taken back. 0; TDL_EINVAL above 2^30. Any caller. */
TDL_API int tdl_pipe_new(size_t capacity, tdl_conn **a, tdl_conn **b);
/* Go's io.Pipe: what is written to w is read from r, without a buffer: as tdl_pipe_new of
 * capacity 0 whose other direction is closed. Any caller. */
TDL_API int tdl_io_pipe(tdl_conn **r, tdl_conn **w);
/* Closes one end of an in-memory pipe, as tdl_conn_close; code < 0 is what the other end is told:
 * its reads, once all is read, and its writes return it, instead of 0 and -EPIPE (code 0: these).
 * Its own later calls return TDL_ECLOSED. 0; TDL_ECLOSED, and nothing changes; TDL_EINVAL, also for a code
 * that says something of who is told (TDL_ECANCELED …); -EOPNOTSUPP where there is a descriptor. Any caller. */
TDL_API int tdl_conn_close_with(tdl_conn *c, int code);

/* A connection, or a listener, of a descriptor that the caller has: a connected
 * stream or seqpacket socket, a pipe, a FIFO, a terminal, a character device; a
 * socket that listens. It is the connection's from then on, and non-blocking;
 * with an error it stays the caller's. 0; TDL_ENOPOLL; TDL_EINVAL for another
 * kind of socket; -EBADF, -EEXIST (adopted already). Any caller. */
TDL_API int tdl_conn_adopt(int fd, tdl_conn **c);
TDL_API int tdl_listener_adopt(int fd, tdl_listener **l);
/* Gives the descriptor back, in the mode it was adopted in: it is the caller's,
 * and the handle is as closed. TDL_ECLOSED; TDL_EBUSY while an operation is under
 * way or bytes are buffered. Any caller. */
TDL_API int tdl_conn_release(tdl_conn *c);
TDL_API int tdl_listener_release(tdl_listener *l);
/* Makes v carry the connection, with its TLS if it has that, so that another goroutine, thread or host takes it
 * over; c is as closed then, and its handle still the caller's to free. With the value's last holder it
 * is closed, if nobody has taken it out. 0; TDL_ECLOSED; TDL_EBUSY while an operation is under way or bytes are
 * buffered; -EOPNOTSUPP for a pipe in memory; TDL_ENOMEM (v is nil, and c as before). Any caller. */
TDL_API int tdl_val_set_conn(tdl_val *v, tdl_conn *c);
/* Takes it out, as a connection of the caller's, without deadlines: among all holders the first one gets it. 0;
 * TDL_EINVAL: there is none, or not any more; else, as tdl_conn_adopt, and it is closed. Any caller. */
TDL_API int tdl_val_take_conn(const tdl_val *v, tdl_conn **c);

/* Reads what is there, up to n bytes; of a "unixpacket" connection one message,
 * and TDL_ETRUNCATED when it is longer (buf then holds the beginning). Blocking.
 * Bytes read; 0 at the end of the stream or when n is 0; TDL_ECLOSED,
 * TDL_ETIMEDOUT, TDL_ECANCELED, -ECONNRESET …. */
TDL_API int64_t tdl_conn_read(tdl_conn *c, void *buf, size_t n);
/* Writes all n bytes (one message of a "unixpacket" connection; -EMSGSIZE when it
 * is too long), and returns n. Blocking. On an error (TDL_ECLOSED,
 * TDL_ETIMEDOUT, TDL_ECANCELED, -EPIPE …) some may have gone out; a write of
 * another caller never comes between. Never raises SIGPIPE. */
TDL_API int64_t tdl_conn_write(tdl_conn *c, const void *buf, size_t n);

/* Framed reads, through the connection's own buffer (which it has only while
 * bytes are in it). tdl_conn_fill waits until a frame is buffered and returns
 * its length; its bytes are then at tdl_conn_peek, and while any are buffered
 * the caller holds the read side: it looks, and then calls tdl_conn_skip once,
 * with the number of bytes it has consumed (0 leaves all). */
enum {
    TDL_FILL_SOME  = 0, /* at least one byte; the frame is what is buffered, at most limit; 0 at the end of the stream */
    TDL_FILL_EXACT = 1, /* exactly limit bytes; TDL_EEOF if the stream ends first */
    TDL_FILL_LINE  = 2, /* up to and with the next "\n"; a last line without one counts; TDL_EEOF when nothing is left;
                           TDL_ETOOLONG when limit bytes hold no "\n" */
    TDL_FILL_ALL   = 3, /* to the end of the stream; TDL_ETOOLONG beyond limit bytes */
    TDL_FILL_UNTIL = 4  /* tdl_conn_fill_until alone */
};
/* Blocking. The frame's length, or an error as tdl_conn_read has; TDL_EINVAL
 * for a limit outside 1…2^30. With an error the bytes that had arrived are
 * still there for tdl_conn_peek, and then the same duty to skip holds. Of a
 * "unixpacket" connection a frame is one message, and how is TDL_FILL_SOME. */
TDL_API int64_t tdl_conn_fill(tdl_conn *c, int how, size_t limit);
/* A frame that ends with a delimiter of n bytes (1…255), which is part of it.
 * Blocking. Its length; TDL_EEOF when the stream ends first, TDL_ETOOLONG when
 * limit bytes hold none; else as tdl_conn_fill. */
TDL_API int64_t tdl_conn_fill_until(tdl_conn *c, const void *delim, size_t n, size_t limit);
/* The buffered bytes and their number, for the caller that holds the read
 * side; NULL and 0 when there are none. */
TDL_API const char *tdl_conn_peek(tdl_conn *c, size_t *n);
/* Drops n buffered bytes and gives up the read side. 0; TDL_EINVAL when the
 * read side is not held, or n is more than there are. */
TDL_API int tdl_conn_skip(tdl_conn *c, size_t n);
/* The same, but the n bytes go to the end of `to` (see buf.h), without a copy. */
TDL_API int tdl_conn_take_buf(tdl_conn *c, size_t n, tdl_buf *to);

/* Writes the bytes of n pieces (0…1024; TDL_EINVAL for more), one after the other, in
 * as few system calls as will do; else as tdl_conn_write. Blocking. */
TDL_API int64_t tdl_conn_writev(tdl_conn *c, const tdl_iovec *v, int n);
/* Writes all that is in b. What has gone out is taken from it, with an error, too.
 * Blocking; nobody else may use b meanwhile. */
TDL_API int64_t tdl_conn_write_buf(tdl_conn *c, tdl_buf *b);

/* Copies up to n bytes (n < 0: to the end) from one connection to another: within
 * the kernel where both ends have descriptors that allow it. Blocking. 0 (the end of
 * `from` is none for `to`, which can be written on), or the error of either; *copied
 * (may be NULL), in either case, how many have been written; what was read besides is lost. */
TDL_API int tdl_conn_copy(tdl_conn *to, tdl_conn *from, int64_t n, int64_t *copied);
/* Sends up to n bytes of an open file (n < 0: to its end) from `offset` on; < 0: from
 * where it stands, and moves that. Within the kernel where it allows that. Blocking (the file itself may
 * hold up the thread). 0, also where the file ends first; or an error; *sent as above. */
TDL_API int tdl_conn_send_file(tdl_conn *c, int fd, int64_t offset, int64_t n, int64_t *sent);

/* Deadlines, for the operations in progress too: 0 clears, a past or negative
 * time is now and wins over ready data. Any caller. */
TDL_API void tdl_conn_set_deadline(tdl_conn *c, int64_t when); /* both directions */
TDL_API void tdl_conn_set_read_deadline(tdl_conn *c, int64_t when);
TDL_API void tdl_conn_set_write_deadline(tdl_conn *c, int64_t when);
/* From now on each operation sets its own deadline, ns after it started; 0
 * turns that off and clears the deadlines. Any caller. */
TDL_API void tdl_conn_set_timeout(tdl_conn *c, int64_t ns);
/* shutdown(2) one direction. 0, TDL_ECLOSED, -ENOTCONN. Any caller. */
TDL_API int tdl_conn_close_read(tdl_conn *c);
TDL_API int tdl_conn_close_write(tdl_conn *c);
/* The descriptor, still owned by the connection; TDL_ECLOSED. Any caller. */
TDL_API int tdl_conn_fd(tdl_conn *c);
/* The far or the near address as text, cut to size with a final NUL; its full
 * length, or a negative code. Any caller. */
TDL_API int tdl_conn_peername(tdl_conn *c, char *buf, size_t size);
TDL_API int tdl_conn_sockname(tdl_conn *c, char *buf, size_t size);
TDL_API int tdl_conn_peeraddr(tdl_conn *c, tdl_addr *a); /* the same; 0 */
TDL_API int tdl_conn_sockaddr(tdl_conn *c, tdl_addr *a);
/* Wakes whoever waits on it; from then on every call returns TDL_ECLOSED, a
 * second close too. Any caller. */
TDL_API int tdl_conn_close(tdl_conn *c);
/* Closes if need be and gives the handle back; the memory goes when the last
 * call in progress has returned. NULL is ignored. Any caller. */
TDL_API void tdl_conn_free(tdl_conn *c);

/* Descriptors over a "unix" or "unixpacket" connection: nfds of them (1…253) go
 * with n bytes (at least one), and stay the sender's. Blocking. n, or an error as
 * tdl_conn_write has; -EOPNOTSUPP on another network. */
TDL_API int64_t tdl_conn_send_fds(tdl_conn *c, const void *buf, size_t n, const int *fds, int nfds);
/* Reads up to n bytes and the descriptors that came with them, which are then the
 * caller's, and close-on-exec: *nfds is how many there is room for, and then how
 * many there are. Blocking. Bytes read, 0 at the end of the stream; TDL_ETRUNCATED
 * when more descriptors came, -EMFILE when the process may have no more (they are
 * closed, and the bytes lost). A plain read closes what comes with its bytes. */
TDL_API int64_t tdl_conn_recv_fds(tdl_conn *c, void *buf, size_t n, int *fds, int *nfds);
/* Who the peer of a unix connection was when it connected or listened: process,
 * user and group; each may be NULL. 0, TDL_ECLOSED, -EOPNOTSUPP. Any caller. */
TDL_API int tdl_conn_peercred(tdl_conn *c, int64_t *pid, int64_t *uid, int64_t *gid);

/* Options of a socket. Times are in ns, of which the system keeps whole seconds,
 * rounded up. */
enum {
    TDL_NODELAY            = 1,  /* 1: small writes go out at once (set from the start); 0 */
    TDL_KEEPALIVE          = 2,  /* ns of silence after which the peer is asked whether it lives; 0: it is not */
    TDL_KEEPALIVE_INTERVAL = 3,  /* ns between such questions */
    TDL_KEEPALIVE_COUNT    = 4,  /* how many without an answer end the connection */
    TDL_LINGER             = 5,  /* 0: close drops what was not sent and resets; TDL_FOREVER: it goes out later.
                                    (A close that waits is refused: it would hold up all that its thread runs.) */
    TDL_READ_BUFFER        = 6,  /* bytes; Linux doubles what is set */
    TDL_WRITE_BUFFER       = 7,
    TDL_TOS                = 8,  /* type of service, or traffic class: 0…255 */
    TDL_TTL                = 9,  /* hops, 1…255 */
    TDL_BROADCAST          = 10  /* 1: datagrams may go to broadcast addresses; 0 */
};
/* 0; TDL_EINVAL for an unknown option or a value out of range; TDL_ECLOSED;
 * -EOPNOTSUPP, -ENOTSOCK, -ENOPROTOOPT where it does not apply. Any caller. */
TDL_API int tdl_conn_set_option(tdl_conn *c, int option, int64_t value);
TDL_API int tdl_listener_set_option(tdl_listener *l, int option, int64_t value);
/* The value, or a negative code. Any caller. */
TDL_API int64_t tdl_conn_option(tdl_conn *c, int option);
TDL_API int64_t tdl_listener_option(tdl_listener *l, int option);

/* What the system knows about a TCP connection. */
typedef struct tdl_tcp_info {
    uint32_t size;  /* sizeof(tdl_tcp_info), set by the caller */
    uint32_t state; /* 1: established; others as in netinet/tcp.h */
    int64_t rtt, rtt_var, rtt_min; /* ns: round trip, smoothed; its variation; the shortest, 0: unknown */
    int64_t rto;                   /* ns: after which a segment is sent again */
    int64_t mss;                   /* bytes of a segment */
    int64_t cwnd, ssthresh;        /* segments: congestion window, slow start's threshold */
    int64_t unacked, lost;         /* segments: on their way; thought lost */
    int64_t retransmits;           /* segments sent again, ever */
    int64_t bytes_acked, bytes_received, bytes_unsent;
    int64_t delivery_rate;         /* bytes per second, lately */
} tdl_tcp_info;
/* 0; TDL_ECLOSED; -EOPNOTSUPP and the like for what is not TCP. Any caller. */
TDL_API int tdl_conn_tcp_info(tdl_conn *c, tdl_tcp_info *info);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_CONN_H */
