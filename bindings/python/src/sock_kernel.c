/* SPDX-License-Identifier: MIT
 *
 * Attempts of sock.c that are more than a receive or a send: connecting, and sending a
 * file; and accepting, for servers. Each is called by asyncio's names in _hooks.py,
 * where the texts and the cold half are. */
#define _GNU_SOURCE
#include "fds.h"
#include "sockets.h"
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

/* arg: the address. A connection that has begun is asked for how it went once the socket
 * can be written; an event that was there before says nothing. */
int
try_connect(sockop *o, int fd, PyObject **result)
{
    if (!o->begun) {
        PyObject *done = PyObject_CallMethod(o->sock, "connect", "(O)", o->arg);
        if (done != NULL) {
            *result = done;
            return 1;
        }
        if (!PyErr_ExceptionMatches(PyExc_BlockingIOError) && !PyErr_ExceptionMatches(PyExc_InterruptedError))
            return -1;
        PyErr_Clear();
        o->begun = true;
        return 0;
    }
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (poll(&p, 1, 0) == 0)
        return 0;
    int error = 0;
    socklen_t n = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
        error = errno;
    if (error == 0) {
        *result = Py_NewRef(Py_None);
        return 1;
    }
    PyObject *text = PyUnicode_FromFormat("Connect call failed %S", o->arg);
    PyObject *exc = text ? PyObject_CallFunction(PyExc_OSError, "iN", error, text) : NULL;
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return -1;
}

/* arg: (descriptor of a file, offset, count). The result is how much of that was sent:
 * less only at the file's end. */
int
try_sendfile(sockop *o, int fd, PyObject **result)
{
    int file;
    long long offset;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(o->arg, "iLn", &file, &offset, &count))
        return -1;
    while (o->pos < count) {
        off_t at = (off_t)offset + (off_t)o->pos;
        ssize_t n = sendfile(fd, file, &at, (size_t)(count - o->pos));
        if (n < 0 && would_block())
            return 0;
        if (n < 0) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        if (n == 0)
            break;
        o->pos += n;
    }
    *result = PyLong_FromSsize_t(o->pos);
    return *result == NULL ? -1 : 1;
}

/* _accept(descriptor): (descriptor, address) of the next connection, which does not block;
 * None: there is none. OSError. Of families that this module knows the addresses of. */
PyObject *
sock_accept_next(PyObject *Py_UNUSED(module), PyObject *arg)
{
    sock_address from;
    socklen_t n = sizeof from;
    int listener = PyLong_AsInt(arg);
    if (listener == -1 && PyErr_Occurred())
        return NULL;
    int fd = accept4(listener, &from.sa, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (would_block())
            Py_RETURN_NONE;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *address = sock_address_object(&from, n);
    PyObject *pair = address ? Py_BuildValue("iN", fd, address) : NULL;
    if (pair == NULL)
        close(fd);
    return pair;
}
