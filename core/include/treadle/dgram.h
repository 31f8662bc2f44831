/* SPDX-License-Identifier: MIT
 *
 * Datagrams.
 *
 * A socket of "udp", "udp4", "udp6" or "unixgram". Calls are atomic and served in
 * order, as with connections. The options of sockets are those of conn.h.
 */
#ifndef TREADLE_DGRAM_H
#define TREADLE_DGRAM_H

#include "addr.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tdl_dgram tdl_dgram;

/* A socket that receives at the address (port 0 lets the system choose). 0; as
 * tdl_addr_parse; -EADDRINUSE …. A unix path is unlinked when it is closed. Any
 * caller. */
TDL_API int tdl_dgram_listen(const char *network, const char *address, tdl_dgram **d);
/* A socket that sends to the address, and receives from there alone; from: its own
 * address, or NULL (a unix one then has none, and nobody can answer). 0; as
 * tdl_addr_parse; -ECONNREFUSED (unix) …. Does not wait: any caller. */
TDL_API int tdl_dgram_dial(const char *network, const char *address, const char *from, tdl_dgram **d);
/* Of a socket that the caller has; and back. As tdl_conn_adopt, _release. */
TDL_API int tdl_dgram_adopt(int fd, tdl_dgram **d);
TDL_API int tdl_dgram_release(tdl_dgram *d);

/* Receives one datagram, and who sent it (length 0: a nameless unix socket). Its
 * length, which may be 0; TDL_ETRUNCATED when it is longer than n (buf holds the
 * beginning); TDL_ECLOSED, TDL_ETIMEDOUT, TDL_ECANCELED; -ECONNREFUSED where the
 * peer of a dialled socket has none at its end. Blocking, for n = 0 too. */
TDL_API int64_t tdl_dgram_recv(tdl_dgram *d, void *buf, size_t n);
TDL_API int64_t tdl_dgram_recvfrom(tdl_dgram *d, void *buf, size_t n, tdl_addr *from); /* NULL: do not tell */
/* Sends one datagram to whom the socket was dialled, or to an address. n;
 * -EMSGSIZE: too long; -EDESTADDRREQ: send without one; TDL_EADDRESS: of another
 * family; -ECONNREFUSED, TDL_ECLOSED …. Blocking (for room). */
TDL_API int64_t tdl_dgram_send(tdl_dgram *d, const void *buf, size_t n);
TDL_API int64_t tdl_dgram_sendto(tdl_dgram *d, const void *buf, size_t n, const tdl_addr *to);

/* One of several. */
typedef struct tdl_packet {
    void     *data;
    size_t    size; /* bytes to send; room to receive */
    size_t    n;    /* received: bytes in data */
    tdl_addr *addr; /* to whom, NULL: to whom it was dialled (may be rewritten, mapped); from whom, NULL: do not tell */
    int32_t   code; /* received: 0 or TDL_ETRUNCATED */
    uint32_t  unused;
} tdl_packet;
/* Waits for one datagram and takes all that are there, up to n (and 32 in one
 * call): how many. Blocking; errors as tdl_dgram_recv. */
TDL_API int tdl_dgram_recv_batch(tdl_dgram *d, tdl_packet *packets, int n);
/* Sends n, in as few system calls as will do: how many have gone out, fewer than n
 * where the next one fails or time is up; the error when it is the first. Blocking. */
TDL_API int tdl_dgram_send_batch(tdl_dgram *d, tdl_packet *packets, int n);

/* As for connections. Any caller. */
TDL_API void tdl_dgram_set_deadline(tdl_dgram *d, int64_t when);
TDL_API void tdl_dgram_set_read_deadline(tdl_dgram *d, int64_t when);
TDL_API void tdl_dgram_set_write_deadline(tdl_dgram *d, int64_t when);
TDL_API void tdl_dgram_set_timeout(tdl_dgram *d, int64_t ns);
TDL_API int  tdl_dgram_set_option(tdl_dgram *d, int option, int64_t value);
TDL_API int64_t tdl_dgram_option(tdl_dgram *d, int option);
TDL_API int  tdl_dgram_sockaddr(tdl_dgram *d, tdl_addr *a);
TDL_API int  tdl_dgram_peeraddr(tdl_dgram *d, tdl_addr *a); /* -ENOTCONN unless dialled */
TDL_API int  tdl_dgram_fd(tdl_dgram *d);
TDL_API int  tdl_dgram_close(tdl_dgram *d);
TDL_API void tdl_dgram_free(tdl_dgram *d);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_DGRAM_H */
