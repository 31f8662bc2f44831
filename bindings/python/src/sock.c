/* SPDX-License-Identifier: MIT
 *
 * loop.sock_recv and its kind: awaitables that try at once, and where that would
 * block wait for the descriptor, which is registered once, edge-triggered, and stays
 * so (fds.c). They are coroutines to asyncio (they have send, throw and close) and
 * begin at their first send. What a task waits for is a plain asyncio.Future: that is
 * the way that asyncio's tasks are quick at.
 *
 * recv, recv_into and sendall of a plain socket.socket are system calls of ours; what
 * brings addresses or sockets calls the socket's own method. Sockets of other types go
 * asyncio's way.
 *
 * Invariants.
 *  - The descriptor's number is asked for before each attempt: a socket that was
 *    closed meanwhile has none, and its old number may be another's.
 *  - A stream from which less came than was asked for is drained: the next wait needs
 *    no attempt before it. That holds while the entry is registered for this very
 *    socket, and not once the peer has ended or sent urgent data (e->hup). */
#include "handle.h"
#include "fds.h"
#include "sockets.h"

enum { RECV, RECV_INTO, SENDALL, RECVFROM, RECVFROM_INTO, SENDTO, ACCEPT, CONNECT, SENDFILE, NKINDS };
enum { NEW, WAITING, REFUSED, RUNNING, OVER }; /* REFUSED: its future was cancelled before the event */
enum { SOCKOPS = 64 }; /* free ones that are kept */

static const struct {
    const char *name;
    uint8_t nmin, nmax, writes;
} kinds[NKINDS] = {
    [RECV] = {"sock_recv", 2, 2, 0},
    [RECV_INTO] = {"sock_recv_into", 2, 2, 0},
    [SENDALL] = {"sock_sendall", 2, 2, 1},
    [RECVFROM] = {"sock_recvfrom", 2, 2, 0},
    [RECVFROM_INTO] = {"sock_recvfrom_into", 2, 3, 0},
    [SENDTO] = {"sock_sendto", 3, 3, 1},
    [ACCEPT] = {"sock_accept", 1, 1, 0},
    [CONNECT] = {"sock_connect", 2, 2, 1},
    [SENDFILE] = {"sock_sendfile", 2, 2, 1},
};

/* -- Attempts: 1 and *result; 0: it would block; -1: exception ------------- */

static int
os_error(void)
{
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

static bool
is_stream(ploop_entry *e)
{
    if (e->stream == 0) {
        int type = 0;
        socklen_t n = sizeof type;
        e->stream = getsockopt(e->f.fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_STREAM ? 1 : 2;
    }
    return e->stream == 1;
}

/* The entry, if it is registered for this socket; else NULL. */
static ploop_entry *
entry_of(sockop *o, int fd)
{
    ploop *l = o->loop;
    ploop_entry *e = fd < l->nentries ? l->entries[fd] : NULL;
    if (e == NULL || e->sock == NULL || !(e->how & TDL_EDGE) || !weakref_is(e->sock, o->sock))
        return NULL;
    return e;
}

static int
try_recv(sockop *o, int fd, PyObject **result)
{
    ploop_entry *e = entry_of(o, fd);
    ssize_t got;
    if (o->kind == RECV) {
        Py_ssize_t n = PyNumber_AsSsize_t(o->arg, PyExc_OverflowError);
        if (n < 0) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "negative buffersize in recv");
            return -1;
        }
        if (e != NULL && e->drained && n > 0)
            return 0;
        char *scratch = n <= PLOOP_SCRATCH ? ploop_scratch(o->loop) : NULL;
        if (n <= PLOOP_SCRATCH && scratch == NULL)
            return -1;
        PyObject *bytes = scratch == NULL ? PyBytes_FromStringAndSize(NULL, n) : NULL;
        if (scratch == NULL && bytes == NULL)
            return -1;
        got = recv(fd, scratch != NULL ? scratch : PyBytes_AS_STRING(bytes), (size_t)n, MSG_DONTWAIT);
        if (e != NULL)
            e->drained = got < n && !e->hup && (got > 0 || (got < 0 && errno == EAGAIN)) && is_stream(e);
        if (got < 0) {
            Py_XDECREF(bytes);
            return would_block() ? 0 : os_error();
        }
        if (scratch != NULL)
            bytes = ploop_bytes(o->loop, scratch, got);
        else if (got < n && _PyBytes_Resize(&bytes, got) < 0)
            return -1;
        *result = bytes;
        return bytes == NULL ? -1 : 1;
    }
    if (e != NULL && e->drained)
        return 0;
    Py_buffer view;
    if (PyObject_GetBuffer(o->arg, &view, PyBUF_WRITABLE) < 0)
        return -1;
    got = view.len == 0 ? 0 : recv(fd, view.buf, (size_t)view.len, MSG_DONTWAIT);
    int error = errno;
    if (e != NULL && view.len > 0)
        e->drained = got < view.len && !e->hup && (got > 0 || (got < 0 && error == EAGAIN)) && is_stream(e);
    PyBuffer_Release(&view);
    errno = error;
    if (got < 0)
        return would_block() ? 0 : os_error();
    *result = PyLong_FromSsize_t(got);
    return *result == NULL ? -1 : 1;
}

static int
try_sendall(sockop *o, int fd, PyObject **result)
{
    Py_buffer view;
    if (PyObject_GetBuffer(o->arg, &view, PyBUF_SIMPLE) < 0)
        return -1;
    int rc = 1;
    do {
        Py_ssize_t left = view.len - o->pos;
        ssize_t n = send(fd, (char *)view.buf + o->pos, left > 0 ? (size_t)left : 0, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
            rc = would_block() ? 0 : os_error();
        else
            o->pos += n;
    } while (rc == 1 && o->pos < view.len);
    PyBuffer_Release(&view);
    if (rc == 1)
        *result = Py_NewRef(Py_None);
    return rc;
}

/* By the socket's own method. */
static int
try_method(sockop *o, PyObject **result)
{
    switch (o->kind) {
    case RECVFROM:
        *result = PyObject_CallMethod(o->sock, "recvfrom", "O", o->arg);
        break;
    case RECVFROM_INTO: {
        int given = o->arg2 == NULL ? 0 : PyObject_IsTrue(o->arg2);
        PyObject *n = given < 0 ? NULL : given ? Py_NewRef(o->arg2) : PyLong_FromSsize_t(PyObject_Size(o->arg));
        if (n == NULL || PyErr_Occurred()) {
            Py_XDECREF(n);
            return -1;
        }
        *result = PyObject_CallMethod(o->sock, "recvfrom_into", "ON", o->arg, n);
        break;
    }
    case SENDTO:
        *result = PyObject_CallMethod(o->sock, "sendto", "OO", o->arg, o->arg2);
        break;
    default: {
        PyObject *pair = PyObject_CallMethod(o->sock, "accept", NULL), *done = NULL;
        if (pair != NULL && PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2)
            done = PyObject_CallMethod(PyTuple_GET_ITEM(pair, 0), "setblocking", "O", Py_False);
        if (pair != NULL && done == NULL)
            Py_CLEAR(pair);
        Py_XDECREF(done);
        *result = pair;
    }
    }
    if (*result != NULL)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_BlockingIOError) && !PyErr_ExceptionMatches(PyExc_InterruptedError))
        return -1;
    PyErr_Clear();
    return 0;
}

/* A socket object begins with its descriptor. That is so since there is Python 3,
 * and looked after once in each loop; else fileno() is called. */
typedef struct { PyObject_HEAD int fd; } socketobj;

static int
fileno_of(sockop *o)
{
    ploop *l = o->loop;
    int fd;
    if (l->fd_inline) {
        fd = ((socketobj *)o->sock)->fd;
    } else {
        PyObject *number = PyObject_CallMethodNoArgs(o->sock, l->st->s_fileno);
        fd = number == NULL ? -1 : PyLong_AsInt(number);
        Py_XDECREF(number);
        if (fd >= 0 && !l->fd_checked) {
            l->fd_checked = true;
            l->fd_inline = ((PyTypeObject *)l->st->SocketType)->tp_basicsize >= (Py_ssize_t)sizeof(socketobj) &&
                           ((socketobj *)o->sock)->fd == fd;
        }
    }
    if (fd >= 0)
        return fd;
    if (!PyErr_Occurred()) {
        errno = EBADF;
        os_error();
    }
    return -1;
}

static int
attempt(sockop *o, PyObject **result)
{
    int fd = fileno_of(o);
    if (fd < 0)
        return -1;
    o->fd = fd;
    if (o->kind <= RECV_INTO)
        return try_recv(o, fd, result);
    switch (o->kind) {
    case SENDALL:
        return try_sendall(o, fd, result);
    case CONNECT:
        return try_connect(o, fd, result);
    case SENDFILE:
        return try_sendfile(o, fd, result);
    default:
        return try_method(o, result);
    }
}

/* -- Waiting -------------------------------------------------------------- */

/* The entry is registered for this socket from here on. */
static ploop_entry *
claim(sockop *o)
{
    ploop *l = o->loop;
    ploop_entry *e = entry_of(o, o->fd);
    if (e != NULL)
        return e;
    PyObject *done = PyObject_CallMethod((PyObject *)l, "_ensure_fd_no_transport", "i", o->fd);
    if (done == NULL)
        return NULL;
    Py_DECREF(done);
    e = entry_get(l, o->fd);
    PyObject *ref = e == NULL ? NULL : PyWeakref_NewRef(o->sock, NULL);
    if (ref == NULL)
        return NULL;
    if (e->sock != NULL && !weakref_is(e->sock, o->sock) && entry_wanted(e) == 0)
        entry_forget(l, e); /* of a socket that is gone */
    Py_XSETREF(e->sock, ref);
    e->drained = e->hup = false;
    e->stream = 0;
    return e;
}

static void
unlink_op(sockop *o)
{
    ploop_entry *e = o->loop->entries[o->fd];
    if (o->prev != NULL)
        o->prev->next = o->next;
    else
        e->waiters[kinds[o->kind].writes] = o->next;
    if (o->next != NULL)
        o->next->prev = o->prev;
    o->prev = o->next = NULL;
    o->linked = false;
}

/* 0, or -1 with an exception. */
static int
wait_start(sockop *o)
{
    ploop *l = o->loop;
    ploop_entry *e = claim(o);
    if (e == NULL)
        return -1;
    PyObject *before_it = o->future;
    o->future = NULL;
    if (before_it != NULL)
        future_over(l, before_it);
    o->future = future_waiter(l);
    if (o->future == NULL)
        return -1;
    sockop **at = &e->waiters[kinds[o->kind].writes], *before = NULL;
    for (; *at != NULL; at = &(*at)->next)
        before = *at;
    *at = (sockop *)Py_NewRef((PyObject *)o);
    o->prev = before;
    o->linked = true;
    o->state = WAITING;
    if (entry_sync(l, e) < 0)
        return os_error();
    if (e->how & TDL_EDGE)
        ploop_fd_want(&e->f, kinds[o->kind].writes ? PLOOP_WRITE : PLOOP_READ);
    return 0;
}

void
sockop_ready(sockop *o)
{
    mod_state *st = o->loop->st;
    unlink_op(o);
    if (o->state == WAITING) {
        if (future_set_none(st, o->future) == 0)
            ;
        else if (PyErr_ExceptionMatches(st->InvalidStateError))
            PyErr_Clear(), o->state = REFUSED;
        else
            ploop_fatal(o->loop);
    }
    Py_DECREF(o); /* the list's */
}

static void
end(sockop *o)
{
    bool raised = PyErr_Occurred() != NULL;
    PyObject *exc = raised ? PyErr_GetRaisedException() : NULL;
    o->state = OVER;
    if (o->linked) {
        ploop_entry *e = o->loop->entries[o->fd];
        unlink_op(o);
        entry_sync(o->loop, e);
        Py_DECREF(o); /* the caller has another */
    }
    PyObject *future = o->future;
    o->future = NULL;
    if (future != NULL)
        future_over(o->loop, future);
    Py_CLEAR(o->sock);
    Py_CLEAR(o->arg);
    Py_CLEAR(o->arg2);
    if (raised)
        PyErr_SetRaisedException(exc);
}

static int
check_debug(sockop *o)
{
    PyObject *timeout = PyObject_CallMethod(o->sock, "gettimeout", NULL);
    double seconds = timeout == NULL || timeout == Py_None ? -1 : PyFloat_AsDouble(timeout);
    Py_XDECREF(timeout);
    if (PyErr_Occurred())
        return -1;
    if (seconds == 0)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the socket must be non-blocking");
    return -1;
}

static PySendResult
sockop_send(PyObject *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    sockop *o = (sockop *)self;
    int rc = 0;
    *result = NULL;
    OWN(&o->loop->own, PYGEN_ERROR);
    if (o->state == OVER || o->state == RUNNING) {
        PyErr_SetString(PyExc_RuntimeError, o->state == OVER ? "cannot reuse already awaited coroutine"
                                                             : "coroutine already executing");
        return PYGEN_ERROR;
    }
    if (o->linked || o->state == REFUSED) { /* no event, so it was cancelled, or nobody waits */
        PyObject *done = future_result(o->loop->st, o->future);
        Py_XDECREF(done);
        if (done != NULL)
            PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
        end(o);
        return PYGEN_ERROR;
    }
    if (o->state == NEW && o->loop->debug && check_debug(o) < 0) {
        end(o);
        return PYGEN_ERROR;
    }
    o->state = RUNNING;
    rc = attempt(o, result);
    if (rc == 0 && wait_start(o) == 0) {
        *result = Py_NewRef(o->future);
        return PYGEN_NEXT;
    }
    end(o);
    return rc == 1 ? PYGEN_RETURN : PYGEN_ERROR;
}

/* -- The coroutine's methods ---------------------------------------------- */

static PyObject *
step(sockop *o)
{
    PyObject *result;
    switch (sockop_send((PyObject *)o, Py_None, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN:
        return stop_with(result);
    default:
        return NULL;
    }
}

static PyObject *
sockop_send_method(sockop *o, PyObject *Py_UNUSED(value))
{
    return step(o);
}

static PyObject *
sockop_throw(sockop *o, PyObject *const *args, Py_ssize_t n)
{
    OWN(&o->loop->own, NULL);
    end(o);
    return raise_thrown(args, n);
}

static PyObject *
sockop_close(sockop *o, PyObject *Py_UNUSED(ignored))
{
    OWN(&o->loop->own, NULL);
    end(o);
    Py_RETURN_NONE;
}

/* -- The object ----------------------------------------------------------- */

static PyObject *
sockop_await(PyObject *o)
{
    return Py_NewRef(o);
}

static PyObject *
sockop_name(sockop *o, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(kinds[o->kind].name);
}

static PyObject *
sockop_running(sockop *o, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(o->state == RUNNING);
}

static int
sockop_traverse(sockop *o, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(o->loop);
    Py_VISIT(o->sock);
    Py_VISIT(o->arg);
    Py_VISIT(o->arg2);
    Py_VISIT(o->future);
    return 0;
}

static int
sockop_clear(sockop *o)
{
    if (o->loop != NULL && o->sock != NULL)
        end(o);
    return 0;
}

static void
sockop_finalize(sockop *o)
{
    if (o->state != NEW)
        return;
    o->state = OVER;
    PyObject *exc = PyErr_GetRaisedException();
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine '%s' was never awaited", kinds[o->kind].name) < 0)
        PyErr_WriteUnraisable(NULL);
    PyErr_SetRaisedException(exc);
}

static void
sockop_dealloc(sockop *o)
{
    PyTypeObject *type = Py_TYPE(o);
    ploop *l = o->loop;
    if (o->state == NEW && PyObject_CallFinalizerFromDealloc((PyObject *)o) < 0)
        return;
    PyObject_GC_UnTrack(o);
    sockop_clear(o);
    o->loop = NULL;
    if (ploop_here(l) && l->nfree_sockops < SOCKOPS) { /* it keeps its type */
        l->nfree_sockops++;
        o->next = l->free_sockops;
        l->free_sockops = o;
    } else {
        PyObject_GC_Del(o);
        Py_DECREF(type);
    }
    Py_DECREF(l);
}

void
sockops_free(ploop *l)
{
    sockop *o = l->free_sockops;
    l->free_sockops = NULL;
    l->nfree_sockops = SOCKOPS; /* takes no more */
    for (sockop *next; o != NULL; o = next) {
        next = o->next;
        PyTypeObject *type = Py_TYPE(o);
        PyObject_GC_Del(o);
        Py_DECREF(type);
    }
}

int
sockops_traverse(ploop *l, visitproc visit, void *arg)
{
    for (sockop *o = l->free_sockops; o != NULL; o = o->next)
        Py_VISIT(Py_TYPE(o));
    return 0;
}

static PyMethodDef sockop_methods[] = {
    {"send", (PyCFunction)sockop_send_method, METH_O, "Goes on."},
    {"throw", (PyCFunction)(void (*)(void))sockop_throw, METH_FASTCALL, "Ends it with an exception."},
    {"close", (PyCFunction)sockop_close, METH_NOARGS, "Gives it up."},
    {NULL, NULL, 0, NULL},
};

static PyObject *
sockop_sent(sockop *o, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(o->pos);
}

static PyGetSetDef sockop_getset[] = {
    {"sent", (getter)sockop_sent, NULL, "How many bytes are sent.", NULL},
    {"__name__", (getter)sockop_name, NULL, NULL, NULL},
    {"__qualname__", (getter)sockop_name, NULL, NULL, NULL},
    {"cr_running", (getter)sockop_running, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot sockop_slots[] = {
    {Py_tp_doc, "What sock_recv and its kind return: a coroutine of treadle's loop."},
    {Py_tp_dealloc, sockop_dealloc},
    {Py_tp_finalize, sockop_finalize},
    {Py_tp_traverse, sockop_traverse},
    {Py_tp_clear, sockop_clear},
    {Py_tp_methods, sockop_methods},
    {Py_tp_getset, sockop_getset},
    {Py_tp_iter, sockop_await},
    {Py_tp_iternext, step},
    {Py_am_await, sockop_await},
    {Py_am_send, sockop_send},
    {0, NULL},
};

PyType_Spec sockop_spec = {
    .name = "treadle._treadle._SockOp",
    .basicsize = sizeof(sockop),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = sockop_slots,
};

/* -- The loop's methods --------------------------------------------------- */

/* asyncio's own, for sockets that are not plain ones. */
static PyObject *
stock(ploop *l, int kind, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    PyObject *fn = PyObject_GetAttrString(l->st->SelectorLoopType, kinds[kind].name);
    if (fn == NULL)
        return NULL;
    PyObject *stack[8] = {NULL, (PyObject *)l};
    Py_ssize_t all = n + (kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0);
    PyObject *result = NULL;
    if (all > 6) {
        PyErr_Format(PyExc_TypeError, "%s() got too many arguments", kinds[kind].name);
    } else {
        for (Py_ssize_t i = 0; i < all; i++)
            stack[i + 2] = args[i];
        result = PyObject_Vectorcall(fn, stack + 1, (size_t)(n + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, kwnames);
    }
    Py_DECREF(fn);
    return result;
}

static PyObject *
start(ploop *l, int kind, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    mod_state *st = l->st;
    bool plain = kwnames == NULL && n >= kinds[kind].nmin && n <= kinds[kind].nmax &&
                 Py_IS_TYPE(args[0], (PyTypeObject *)st->SocketType);
    if (!plain)
        return stock(l, kind, args, n, kwnames);
    sockop *o = ploop_here(l) ? l->free_sockops : NULL;
    if (o != NULL) {
        l->free_sockops = o->next;
        l->nfree_sockops--;
        _Py_NewReference((PyObject *)o);
    } else {
        o = st->SockOpType == NULL && state_gone(st) ? NULL : PyObject_GC_New(sockop, st->SockOpType);
        if (o == NULL)
            return NULL;
    }
    memset((char *)o + sizeof(PyObject), 0, sizeof *o - sizeof(PyObject));
    o->loop = (ploop *)Py_NewRef((PyObject *)l);
    o->sock = Py_NewRef(args[0]);
    o->arg = n > 1 ? Py_NewRef(args[1]) : NULL;
    o->arg2 = n > 2 ? Py_NewRef(args[2]) : NULL;
    o->kind = (uint8_t)kind;
    o->state = NEW;
    PyObject_GC_Track(o);
    return (PyObject *)o;
}

#define METHOD(name, kind)                                                             \
    PyObject *name(PyObject *l, PyObject *const *args, Py_ssize_t n, PyObject *kwnames) \
    {                                                                                   \
        return start((ploop *)l, kind, args, n, kwnames);                               \
    }
METHOD(sock_recv, RECV)
METHOD(sock_recv_into, RECV_INTO)
METHOD(sock_sendall, SENDALL)
METHOD(sock_recvfrom, RECVFROM)
METHOD(sock_recvfrom_into, RECVFROM_INTO)
METHOD(sock_sendto, SENDTO)
METHOD(sock_accept, ACCEPT)
METHOD(sock_connect_op, CONNECT)
METHOD(sock_sendfile_op, SENDFILE)
