/* SPDX-License-Identifier: MIT
 * Networks and addresses: text to sockaddr and back. A tdl_addr is the bytes of
 * a sockaddr; they are copied out before anything is read from them. */
#ifndef TDL_NET_ADDRESS_H
#define TDL_NET_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "treadle.h"

/* What a network's name says. */
typedef struct tdl_network {
    int family; /* AF_UNIX, AF_INET, AF_INET6, AF_UNSPEC: either of the two */
    int type;   /* SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET */
    bool v6only;
} tdl_network;

/* 0, or TDL_ENETWORK. */
int tdl_network_parse(tdl_network *n, const char *name);
/* For listening (passive: an empty host means all interfaces) or dialling (the
 * loopback). 0; TDL_EADDRESS, TDL_EPORT, -ENODEV (zone), -ENAMETOOLONG (path). */
int tdl_addr_parse_on(tdl_addr *a, const tdl_network *n, const char *text, bool passive);
/* The addresses to dial, at most max (2 is enough): localhost is two. Their
 * number, or a code. */
int tdl_addr_parse_all(tdl_addr *a, int max, const tdl_network *n, const char *text);

static inline struct sockaddr *tdl_addr_sa(tdl_addr *a) { return (struct sockaddr *)(void *)a->sockaddr; }
static inline const struct sockaddr *tdl_addr_const_sa(const tdl_addr *a) {
    return (const struct sockaddr *)(const void *)a->sockaddr;
}
int tdl_addr_family(const tdl_addr *a);
/* The path of a unix address, "" for none (abstract, unnamed): to be unlinked. */
void tdl_addr_path(const tdl_addr *a, char *buf, size_t size);
/* Makes an IPv4 address one that an IPv6 socket takes; others stay. */
void tdl_addr_map_v4(tdl_addr *a);

#endif
