/* SPDX-License-Identifier: MIT
 *
 * Addresses of the network, as text and as what the system takes; and the names of
 * hosts, which have to be looked up.
 */
#ifndef TREADLE_ADDR_H
#define TREADLE_ADDR_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -- Addresses --------------------------------------------------------------- */

/* A network is "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6", "unix" (a stream),
 * "unixpacket" (a stream of messages) or "unixgram" (datagrams).
 * An address is "host:port" or "[v6]:port" with a numeric host, "localhost", or
 * none (all interfaces when listening, the loopback when dialling); the address
 * of a link-local IPv6 host names the interface: "[fe80::1%eth0]:80". For the
 * unix networks it is a path, or "@name" in the abstract namespace ("@" alone,
 * when listening: the system picks a name). */

/* An address: the bytes of a sockaddr. To be read through the functions below. */
typedef struct tdl_addr {
    uint32_t length; /* 0: none */
    uint32_t unused;
    uint64_t sockaddr[16];
} tdl_addr;

/* All of these: any caller, and no system call but to look up an interface.
 * From text; listen: what no host means, see above. 0; TDL_ENETWORK;
 * TDL_EADDRESS; TDL_EPORT; -ENODEV (no such interface); -ENAMETOOLONG (path). */
TDL_API int tdl_addr_parse(tdl_addr *a, const char *network, const char *text, int listen);
/* As text that parses again, cut to size with a final NUL; its full length. IPv4
 * mapped into IPv6 is written as IPv4; an unnamed unix end is "@", none "". */
TDL_API int tdl_addr_format(const tdl_addr *a, char *buf, size_t size);
/* The same without the port and the brackets. */
TDL_API int tdl_addr_host(const tdl_addr *a, char *buf, size_t size);
/* The port; 0 where there is none. */
TDL_API int tdl_addr_port(const tdl_addr *a);
/* 0; TDL_EPORT out of range; TDL_EADDRESS: it can have none. */
TDL_API int tdl_addr_set_port(tdl_addr *a, int port);
/* 1: the same place (mapped or not); 0. */
TDL_API int tdl_addr_equal(const tdl_addr *a, const tdl_addr *b);
/* From and to a struct sockaddr of n bytes. 0 or TDL_EINVAL; NULL and 0 for none. */
TDL_API int tdl_addr_set_sockaddr(tdl_addr *a, const void *sockaddr, size_t n);
TDL_API const void *tdl_addr_sockaddr(const tdl_addr *a, size_t *n);

/* -- Names ------------------------------------------------------------------- */

/* The addresses of a host, with the port, in the order in which they are to be
 * tried (tdl_dial_list takes them): by the C library's resolver, as the system is
 * configured (/etc/hosts, name servers …), on a service thread; a number or "localhost"
 * at once. network NULL: "tcp". Blocking. How many, at most max; TDL_ENONAME: there
 * is no such host, or it has no such address; TDL_ENAMESERVER: no name server has
 * answered (itself it gives up after some 10 seconds); TDL_EADDRESS: no host's name at all; TDL_EPORT, TDL_ENETWORK. */
TDL_API int tdl_lookup(const char *network, const char *host, int port, tdl_addr *found, int max, int64_t deadline);
/* The name of an address, cut to size with a final NUL. Blocking. Its full length; TDL_ENONAME: it has none. */
TDL_API int tdl_lookup_name(const tdl_addr *a, char *buf, size_t size, int64_t deadline);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_ADDR_H */
