/* SPDX-License-Identifier: MIT
 *
 * Conn: a stream connection. Reads go through the core's framing (opkinds.c
 * copies the frame and skips it at the event); writes are copied by the core
 * when they have to wait.
 *
 * Invariant. The handle owns the core's connection; an op that waits holds the
 * handle. close() only closes: the memory goes with the handle. */
#include "net.h"
#include <errno.h>
#include <structmember.h>

#define MAX_FRAME (1 << 30)
#define LINE_LIMIT 65536

static void conn_dealloc(connobj *c);

bool
conn_check(PyObject *object)
{
    return Py_TYPE(object)->tp_dealloc == (destructor)conn_dealloc;
}

PyObject *
conn_wrap(mod_state *st, tdl_conn *c)
{
    if (state_gone(st)) {
        tdl_conn_free(c);
        return NULL;
    }
    connobj *self = (connobj *)st->ConnType->tp_alloc(st->ConnType, 0);
    if (self == NULL) {
        tdl_conn_free(c);
        return NULL;
    }
    self->core = c;
    return (PyObject *)self;
}

/* -- Reading and writing ------------------------------------------------- */

static PyObject *
conn_frame(PyObject *c, int kind, PyObject *number, const char *what)
{
    Py_ssize_t n = PyNumber_AsSsize_t(number, PyExc_OverflowError);
    if (n == -1 && PyErr_Occurred())
        return NULL;
    if (n < 0)
        return PyErr_Format(PyExc_ValueError, "%s: the number of bytes must not be negative", what);
    if (n > MAX_FRAME) {
        if (kind != OP_READ)
            return PyErr_Format(PyExc_ValueError, "%s: at most 2**30 bytes", what);
        n = MAX_FRAME;
    }
    return (PyObject *)op_new(STATE(c), kind, c, NULL, n);
}

static PyObject *
conn_read(PyObject *c, PyObject *number)
{
    return conn_frame(c, OP_READ, number, "read");
}

static PyObject *
conn_readexactly(PyObject *c, PyObject *number)
{
    return conn_frame(c, OP_EXACT, number, "readexactly");
}

static PyObject *
conn_read_until(PyObject *c, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "limit", NULL};
    Py_buffer separator;
    Py_ssize_t limit = LINE_LIMIT;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*|n:read_until", names, &separator, &limit))
        return NULL;
    PyObject *op = NULL, *copy;
    if (separator.len < 1 || separator.len > 255)
        PyErr_Format(PyExc_ValueError, "read_until: a separator has 1 to 255 bytes, not %zd", separator.len);
    else if (limit < separator.len || limit > MAX_FRAME)
        PyErr_Format(PyExc_ValueError, "limit must be from the separator's length to 2**30 bytes, not %zd", limit);
    else if ((copy = PyBytes_FromStringAndSize(separator.buf, separator.len)) != NULL) {
        op = (PyObject *)op_new(STATE(c), OP_UNTIL, c, copy, limit);
        Py_DECREF(copy);
    }
    PyBuffer_Release(&separator);
    return op;
}

static int
limit_arg(PyObject *args, PyObject *kwargs, const char *format, Py_ssize_t *limit)
{
    static char *names[] = {"limit", NULL};
    *limit = LINE_LIMIT;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, limit))
        return -1;
    if (*limit < 1 || *limit > MAX_FRAME) {
        PyErr_Format(PyExc_ValueError, "limit must be 1 to 2**30 bytes, not %zd", *limit);
        return -1;
    }
    return 0;
}

static PyObject *
conn_readline(PyObject *c, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t limit;
    if (limit_arg(args, kwargs, "|n:readline", &limit) < 0)
        return NULL;
    return (PyObject *)op_new(STATE(c), OP_LINE, c, NULL, limit);
}

static PyObject *
conn_lines(PyObject *c, PyObject *args, PyObject *kwargs)
{
    mod_state *st = STATE(c);
    Py_ssize_t limit;
    if (limit_arg(args, kwargs, "|n:lines", &limit) < 0 || state_gone(st))
        return NULL;
    linesobj *lines = PyObject_GC_New(linesobj, st->LinesType);
    if (lines == NULL)
        return NULL;
    lines->conn = Py_NewRef(c);
    lines->limit = limit;
    PyObject_GC_Track(lines);
    return (PyObject *)lines;
}

static PyObject *
conn_write(PyObject *c, PyObject *data)
{
    if (!PyObject_CheckBuffer(data))
        return PyErr_Format(PyExc_TypeError, "write: a bytes-like object is required, not %.100s",
                            Py_TYPE(data)->tp_name);
    return (PyObject *)op_new(STATE(c), OP_WRITE, c, data, 0);
}

/* -- Deadlines ----------------------------------------------------------- */

NET_TIME(conn_settimeout, connobj, timeout_arg, tdl_conn_set_timeout)
NET_TIME(conn_set_deadline, connobj, deadline_arg, tdl_conn_set_deadline)
NET_TIME(conn_set_read_deadline, connobj, deadline_arg, tdl_conn_set_read_deadline)
NET_TIME(conn_set_write_deadline, connobj, deadline_arg, tdl_conn_set_write_deadline)

/* -- The rest ------------------------------------------------------------ */

static PyObject *
conn_close(connobj *c, PyObject *Py_UNUSED(ignored))
{
    if (!c->closed) {
        c->closed = true;
        tdl_conn_close(c->core);
        THREAD_KICK(STATE(c));
    }
    Py_RETURN_NONE;
}

static PyObject *
conn_close_with(connobj *c, PyObject *error)
{
    int64_t code = 0;
    if (error != Py_None) {
        code = -PyLong_AsLongLong(error);
        if (code > 0 && PyErr_Occurred())
            return NULL;
        if (code >= 0 || code <= -4096)
            return PyErr_Format(PyExc_ValueError, "close_with: an errno, or None");
    }
    if (c->closed)
        Py_RETURN_NONE;
    int rc = tdl_conn_close_with(c->core, code == -ETIMEDOUT ? TDL_ETIMEDOUT : (int)code);
    if (rc < 0 && rc != TDL_ECLOSED)
        return raise_net(STATE(c), rc, "close_with", (PyObject *)c);
    c->closed = true;
    THREAD_KICK(STATE(c));
    Py_RETURN_NONE;
}

static PyObject *
conn_shutdown_read(connobj *c, PyObject *Py_UNUSED(ignored))
{
    int rc = tdl_conn_close_read(c->core);
    if (rc < 0)
        return raise_net(STATE(c), rc, "shutdown_read", (PyObject *)c);
    Py_RETURN_NONE;
}

static PyObject *
conn_shutdown_write(connobj *c, PyObject *Py_UNUSED(ignored))
{
    int rc = tdl_conn_close_write(c->core);
    if (rc < 0)
        return raise_net(STATE(c), rc, "shutdown_write", (PyObject *)c);
    Py_RETURN_NONE;
}

static PyObject *
conn_address(connobj *c, int (*get)(tdl_conn *, char *, size_t), const char *what)
{
    char text[256];
    int rc = get(c->core, text, sizeof text);
    if (rc < 0)
        return raise_net(STATE(c), rc, what, (PyObject *)c);
    return PyUnicode_DecodeFSDefault(text);
}

static PyObject *
conn_peername(connobj *c, void *Py_UNUSED(closure))
{
    return conn_address(c, tdl_conn_peername, "peername");
}

static PyObject *
conn_sockname(connobj *c, void *Py_UNUSED(closure))
{
    return conn_address(c, tdl_conn_sockname, "sockname");
}

static PyObject *
conn_fileno(connobj *c, PyObject *Py_UNUSED(ignored))
{
    int fd = tdl_conn_fd(c->core);
    return fd < 0 ? raise_net(STATE(c), fd, "fileno", (PyObject *)c) : PyLong_FromLong(fd);
}

static PyObject *
conn_release(connobj *c, PyObject *Py_UNUSED(ignored))
{
    int fd = tdl_conn_release(c->core);
    if (fd < 0)
        return raise_net(STATE(c), fd, "release", (PyObject *)c);
    c->closed = true;
    return PyLong_FromLong(fd);
}

NET_OPTIONS(conn, connobj)

static PyObject *
conn_tcp_info(connobj *c, PyObject *Py_UNUSED(ignored))
{
    return tcp_info_get(STATE(c), (PyObject *)c, c->core);
}

static PyObject *
conn_peercred(connobj *c, PyObject *Py_UNUSED(ignored))
{
    int64_t pid, uid, gid;
    int rc = tdl_conn_peercred(c->core, &pid, &uid, &gid);
    if (rc < 0)
        return raise_net(STATE(c), rc, "peercred", (PyObject *)c);
    return Py_BuildValue("(LLL)", (long long)pid, (long long)uid, (long long)gid);
}

static PyObject *
conn_closed(connobj *c, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(c->closed);
}

static PyObject *
conn_aexit(connobj *c, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    return op_value(STATE(c), conn_close(c, NULL));
}

static PyObject *
conn_repr(connobj *c)
{
    char text[256];
    if (c->closed || tdl_conn_peername(c->core, text, sizeof text) < 0)
        return PyUnicode_FromString("<Conn closed>");
    return PyUnicode_FromFormat("<Conn with %s>", text);
}

static void
conn_finalize(connobj *c)
{
    if (c->core == NULL || c->closed || tdl_conn_fd(c->core) < 0)
        return;
    warn_unclosed((PyObject *)c, "connection");
}

static void
conn_dealloc(connobj *c)
{
    PyTypeObject *type = Py_TYPE(c);
    if (PyObject_CallFinalizerFromDealloc((PyObject *)c) < 0)
        return;
    PyObject_GC_UnTrack(c);
    CLEAR_WEAKREFS(c);
    tdl_conn_free(c->core);
    type->tp_free(c);
    Py_DECREF(type);
}

static PyMethodDef conn_methods[] = {
    {"read", conn_read, METH_O,
     "await read(n) -> bytes\n\nWhat is there, up to n bytes; b\"\" at the end of the stream.\n"
     "TimeoutError past a deadline, treadle.Closed after close, OSError."},
    {"readexactly", conn_readexactly, METH_O,
     "await readexactly(n) -> n bytes\n\n"
     "asyncio.IncompleteReadError if the stream ends first (its .partial is consumed);\n"
     "after a TimeoutError or a cancellation the bytes that came can still be read."},
    {"readline", (PyCFunction)(void (*)(void))conn_readline, METH_VARARGS | METH_KEYWORDS,
     "await readline(limit=65536) -> bytes up to and with the next b\"\\n\"\n\n"
     "A last line may lack it; b\"\" at the end of the stream. treadle.TooLong when limit bytes\n"
     "hold no newline (they can still be read)."},
    {"read_until", (PyCFunction)(void (*)(void))conn_read_until, METH_VARARGS | METH_KEYWORDS,
     "await read_until(separator, limit=65536) -> bytes up to and with the separator\n\n"
     "It has 1 to 255 bytes. asyncio.IncompleteReadError if the stream ends first (its .partial is\n"
     "consumed); treadle.TooLong when limit bytes hold none; then, and after a TimeoutError or a\n"
     "cancellation, what came can still be read."},
    {"send_file", (PyCFunction)(void (*)(void))conn_send_file, METH_VARARGS | METH_KEYWORDS,
     "await send_file(file, offset=None, count=None) -> int\n\n"
     "Sends a file, within the kernel where that is possible: a descriptor, or an object with\n"
     "fileno(). From the offset on; None: from where the descriptor stands (what an io object has\n"
     "read ahead is not sent), which moves. At most count bytes; None: to the end. How many went\n"
     "out; an error has that as .copied."},
    {"_copy", conn_copy, METH_VARARGS,
     "await _copy(to, n): treadle.copy, between connections; n < 0: to the end."},
    {"close_with", (PyCFunction)conn_close_with, METH_O,
     "close_with(error)\n\nCloses an end of a pipe in memory, and tells the other why: an errno, with which its\n"
     "reads, once all is read, and its writes fail (ETIMEDOUT: TimeoutError). None: as close."},
    {"lines", (PyCFunction)(void (*)(void))conn_lines, METH_VARARGS | METH_KEYWORDS,
     "lines(limit=65536): an async iterator of lines without their b\"\\n\" or b\"\\r\\n\"."},
    {"write", conn_write, METH_O,
     "await write(data)\n\nWrites all of it (at most 2**30 bytes); what has to wait is copied.\n"
     "Writes of several goroutines never mix. After an error or a cancellation some may\n"
     "have gone out."},
    {"settimeout", (PyCFunction)conn_settimeout, METH_O,
     "settimeout(seconds): each operation from now on gets a deadline; None: none."},
    {"set_deadline", (PyCFunction)conn_set_deadline, METH_O,
     "set_deadline(when): both directions time out at `when`, on the clock of treadle.now();\n"
     "None clears. A past deadline wins over ready data."},
    {"set_read_deadline", (PyCFunction)conn_set_read_deadline, METH_O,
     "set_read_deadline(when): as set_deadline, for reads."},
    {"set_write_deadline", (PyCFunction)conn_set_write_deadline, METH_O,
     "set_write_deadline(when): as set_deadline, for writes."},
    {"close", (PyCFunction)conn_close, METH_NOARGS,
     "Closes; operations in progress and later ones raise treadle.Closed. May be repeated."},
    {"shutdown_write", (PyCFunction)conn_shutdown_write, METH_NOARGS,
     "Ends this direction of the stream: the peer reads the end, this side reads on."},
    {"shutdown_read", (PyCFunction)conn_shutdown_read, METH_NOARGS,
     "Ends this side's reading; what the peer writes is dropped."},
    {"fileno", (PyCFunction)conn_fileno, METH_NOARGS,
     "The descriptor, which stays the connection's."},
    {"release", (PyCFunction)conn_release, METH_NOARGS,
     "release() -> int\n\nGives the descriptor away, in the mode that it was adopted in; the connection is as\n"
     "closed. RuntimeError while an operation is under way or bytes are buffered."},
    {"option", (PyCFunction)conn_option, METH_O,
     "option(name)\n\n\"nodelay\", \"broadcast\": a bool; \"keepalive\", \"keepalive_interval\": seconds, None for\n"
     "none; \"keepalive_count\", \"read_buffer\", \"write_buffer\", \"tos\", \"ttl\": an int;\n"
     "\"linger\": 0.0 when close resets, None when what was not sent goes out later."},
    {"set_option", (PyCFunction)conn_set_option, METH_VARARGS,
     "set_option(name, value)\n\nSee option. ValueError for a value out of range, OSError."},
    {"tcp_info", (PyCFunction)conn_tcp_info, METH_NOARGS,
     "tcp_info() -> TcpInfo\n\nWhat the system knows about a TCP connection."},
    {"peercred", (PyCFunction)conn_peercred, METH_NOARGS,
     "peercred() -> (pid, uid, gid)\n\nWho the peer of a Unix connection was when it connected or listened."},
    {"send_fds", (PyCFunction)conn_send_fds, METH_VARARGS,
     "await send_fds(data, fds)\n\nSends descriptors over a Unix connection, with at least one byte. They stay the\n"
     "sender's, and may be closed at once."},
    {"recv_fds", (PyCFunction)(void (*)(void))conn_recv_fds, METH_VARARGS | METH_KEYWORDS,
     "await recv_fds(n=4096, count=253) -> (bytes, [fd, …])\n\n"
     "Reads bytes and the descriptors that came with them, which are the caller's; (b\"\", [])\n"
     "at the end. OSError EMSGSIZE when more than count came (all are closed). A connection that\n"
     "carries descriptors is read by this alone."},
    {"__aenter__", op_self, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))conn_aexit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef conn_getset[] = {
    {"peername", (getter)conn_peername, NULL, "The far address, as text.", NULL},
    {"sockname", (getter)conn_sockname, NULL, "The near address, as text.", NULL},
    {"closed", (getter)conn_closed, NULL, "Whether close was called.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef conn_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(connobj, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot conn_slots[] = {
    {Py_tp_doc, "A stream connection, from dial or accept. async with closes it."},
    {Py_tp_dealloc, conn_dealloc},
    {Py_tp_finalize, conn_finalize},
    {Py_tp_traverse, type_traverse},
    {Py_tp_repr, conn_repr},
    {Py_tp_methods, conn_methods},
    {Py_tp_members, conn_members},
    {Py_tp_getset, conn_getset},
    {0, NULL},
};

PyType_Spec conn_spec = {
    .name = "treadle.Conn",
    .basicsize = sizeof(connobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = conn_slots,
};

/* -- Lines --------------------------------------------------------------- */

static PyObject *
lines_anext(linesobj *lines)
{
    return (PyObject *)op_new(STATE(lines), OP_LINE_NEXT, lines->conn, NULL, lines->limit);
}

static int
lines_traverse(linesobj *lines, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(lines));
    Py_VISIT(lines->conn);
    return 0;
}

static void
lines_dealloc(linesobj *lines)
{
    PyTypeObject *type = Py_TYPE(lines);
    PyObject_GC_UnTrack(lines);
    Py_CLEAR(lines->conn);
    PyObject_GC_Del(lines);
    Py_DECREF(type);
}

static PyType_Slot lines_slots[] = {
    {Py_tp_doc, "The lines of a connection; made by Conn.lines."},
    {Py_tp_dealloc, lines_dealloc},
    {Py_tp_traverse, lines_traverse},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, lines_anext},
    {0, NULL},
};

PyType_Spec lines_spec = {
    .name = "treadle.Lines",
    .basicsize = sizeof(linesobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = lines_slots,
};
