/* SPDX-License-Identifier: MIT
 *
 * Addresses of sockets, from the system's form to the socket module's and back. */
#include "sockets.h"
#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>

static PyObject *
host_and_port(int family, const void *host, in_port_t port, const struct sockaddr_in6 *more)
{
    char text[INET6_ADDRSTRLEN];
    if (inet_ntop(family, host, text, sizeof text) == NULL)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (more == NULL)
        return Py_BuildValue("si", text, ntohs(port));
    return Py_BuildValue("siII", text, ntohs(port), (unsigned)ntohl(more->sin6_flowinfo),
                         (unsigned)more->sin6_scope_id);
}

PyObject *
sock_address_object(const sock_address *a, socklen_t n)
{
    size_t before = offsetof(struct sockaddr_un, sun_path);
    if (n == 0)
        Py_RETURN_NONE;
    switch (a->sa.sa_family) {
    case AF_INET:
        return host_and_port(AF_INET, &a->in.sin_addr, a->in.sin_port, NULL);
    case AF_INET6:
        return host_and_port(AF_INET6, &a->in6.sin6_addr, a->in6.sin6_port, &a->in6);
    default:
        if (n > before && a->un.sun_path[0] == '\0')
            return PyBytes_FromStringAndSize(a->un.sun_path, (Py_ssize_t)(n - before));
        return PyUnicode_DecodeFSDefaultAndSize(a->un.sun_path,
                                                (Py_ssize_t)strnlen(a->un.sun_path, n > before ? n - before : 0));
    }
}

static int
small_int(PyObject *tuple, Py_ssize_t i, unsigned long most, unsigned long *value)
{
    PyObject *item = PyTuple_GET_ITEM(tuple, i);
    if (!PyLong_CheckExact(item))
        return 0;
    *value = PyLong_AsUnsignedLong(item);
    if (*value == (unsigned long)-1 && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return *value <= most;
}

socklen_t
sock_address_parse(sock_address *a, int family, PyObject *object)
{
    memset(a, 0, sizeof *a);
    if (family == AF_UNIX) {
        Py_ssize_t n;
        const char *path = PyUnicode_CheckExact(object) ? PyUnicode_AsUTF8AndSize(object, &n) : NULL;
        if (path == NULL || !PyUnicode_IS_ASCII(object) || n == 0 || (size_t)n >= sizeof a->un.sun_path ||
            memchr(path, '\0', (size_t)n) != NULL) {
            PyErr_Clear();
            return 0;
        }
        a->un.sun_family = AF_UNIX;
        memcpy(a->un.sun_path, path, (size_t)n);
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + 1);
    }
    unsigned long port, flow = 0, scope = 0;
    if (!PyTuple_CheckExact(object))
        return 0;
    Py_ssize_t n = PyTuple_GET_SIZE(object);
    if (n < 2 || n > (family == AF_INET6 ? 4 : 2) || !small_int(object, 1, 65535, &port) ||
        (n > 2 && !small_int(object, 2, 0xfffff, &flow)) || (n > 3 && !small_int(object, 3, UINT32_MAX, &scope)))
        return 0;
    PyObject *host = PyTuple_GET_ITEM(object, 0);
    if (!PyUnicode_CheckExact(host) || !PyUnicode_IS_COMPACT_ASCII(host))
        return 0;
    const char *text = (const char *)PyUnicode_1BYTE_DATA(host);
    if (strlen(text) != (size_t)PyUnicode_GET_LENGTH(host))
        return 0;
    if (family == AF_INET) {
        a->in.sin_family = AF_INET;
        a->in.sin_port = htons((in_port_t)port);
        return inet_pton(AF_INET, text, &a->in.sin_addr) == 1 ? sizeof a->in : 0;
    }
    a->in6.sin6_family = AF_INET6;
    a->in6.sin6_port = htons((in_port_t)port);
    a->in6.sin6_flowinfo = htonl((uint32_t)flow);
    a->in6.sin6_scope_id = (uint32_t)scope;
    return inet_pton(AF_INET6, text, &a->in6.sin6_addr) == 1 ? sizeof a->in6 : 0;
}
