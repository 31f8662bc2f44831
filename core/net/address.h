/* SPDX-License-Identifier: MIT
 * Addresses: text to sockaddr and back. */
#ifndef TDL_NET_ADDRESS_H
#define TDL_NET_ADDRESS_H

#include <stddef.h>
#include <sys/socket.h>

typedef struct tdl_address {
    socklen_t n;
    struct sockaddr_storage sa;
} tdl_address;

/* For listening (passive: an empty host means all interfaces) or dialling (the
 * loopback). 0, or TDL_EADDRESS. */
int tdl_address_parse(tdl_address *a, const char *network, const char *text, int passive);
/* "127.0.0.1:80", "[::1]:80", "/path", "@name"; as snprintf. */
int tdl_address_format(const tdl_address *a, char *buf, size_t size);
/* 0 for what has none. */
int tdl_address_port(const tdl_address *a);

#endif
