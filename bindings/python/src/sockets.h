/* SPDX-License-Identifier: MIT
 *
 * What those share who make the system's calls on sockets by themselves. */
#ifndef TDLPY_SOCKETS_H
#define TDLPY_SOCKETS_H

#include <Python.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Of a call that has just failed. */
static inline bool
would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* An address of AF_INET, AF_INET6 or AF_UNIX. */
typedef union {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    char bytes[128];
} sock_address;

/* As the socket module has it: a tuple, text or bytes; None for n 0. */
PyObject *sock_address_object(const sock_address *a, socklen_t n);
/* From that. Its length; 0: one that the socket module has to understand, a host's name say. */
socklen_t sock_address_parse(sock_address *a, int family, PyObject *object);

#endif
