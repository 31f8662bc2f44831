/* SPDX-License-Identifier: MIT
 *
 * Fd: a descriptor that the program brings; and connections and listeners of
 * such, and pipes in memory. */
#include "net.h"
#include <structmember.h>

/* -- Waiting, reading, writing ------------------------------------------------- */

static int32_t
start_wait(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    return tdl_fd_wait_start(h->core, task, ((fdobj *)op->target)->core, (int)k->n);
}

static const call_kind wait_kind = {"wait", start_wait, call_nothing, false};

static PyObject *
wait_for(PyObject *f, int readiness)
{
    callobj *k = call_new(STATE(f), &wait_kind);
    if (k != NULL)
        k->n = readiness;
    return call_op(STATE(f), f, k);
}

static PyObject *
fd_wait_readable(PyObject *f, PyObject *Py_UNUSED(ignored))
{
    return wait_for(f, TDL_READABLE);
}

static PyObject *
fd_wait_writable(PyObject *f, PyObject *Py_UNUSED(ignored))
{
    return wait_for(f, TDL_WRITABLE);
}

static int32_t
start_read(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    if ((k->data = PyBytes_FromStringAndSize(NULL, k->n)) == NULL)
        return OP_ERROR;
    return tdl_fd_read_start(h->core, task, ((fdobj *)op->target)->core, PyBytes_AS_STRING(k->data),
                             (size_t)k->n);
}

static PyObject *
read_result(callobj *k, opobj *Py_UNUSED(op), uint32_t Py_UNUSED(task), int32_t code)
{
    return _PyBytes_Resize(&k->data, code) < 0 ? NULL : Py_NewRef(k->data);
}

static const call_kind read_kind = {"read", start_read, read_result, false};

static PyObject *
fd_read(PyObject *f, PyObject *number)
{
    Py_ssize_t n = PyNumber_AsSsize_t(number, PyExc_OverflowError);
    if (n == -1 && PyErr_Occurred())
        return NULL;
    if (n < 1 || n > (1 << 30))
        return PyErr_Format(PyExc_ValueError, "read: 1 to 2**30 bytes, not %zd", n);
    callobj *k = call_new(STATE(f), &read_kind);
    if (k != NULL)
        k->n = n;
    return call_op(STATE(f), f, k);
}

static int32_t
start_write(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    Py_buffer buf;
    if (PyObject_GetBuffer(k->data, &buf, PyBUF_SIMPLE) < 0)
        return OP_ERROR;
    int32_t code = tdl_fd_write_start(h->core, task, ((fdobj *)op->target)->core, buf.buf, (size_t)buf.len);
    PyBuffer_Release(&buf);
    return code;
}

static const call_kind write_kind = {"write", start_write, call_nothing, false};

static PyObject *
fd_write(PyObject *f, PyObject *data)
{
    if (!PyObject_CheckBuffer(data))
        return PyErr_Format(PyExc_TypeError, "write: a bytes-like object is required, not %.100s",
                            Py_TYPE(data)->tp_name);
    callobj *k = call_new(STATE(f), &write_kind);
    if (k != NULL)
        k->data = Py_NewRef(data);
    return call_op(STATE(f), f, k);
}

/* -- The rest ------------------------------------------------------------------- */

NET_TIME(fd_settimeout, fdobj, timeout_arg, tdl_fd_set_timeout)
NET_TIME(fd_set_deadline, fdobj, deadline_arg, tdl_fd_set_deadline)

static PyObject *
fd_fileno(fdobj *f, PyObject *Py_UNUSED(ignored))
{
    int fd = tdl_fd_number(f->core);
    return fd < 0 ? raise_code(STATE(f), fd, "fileno") : PyLong_FromLong(fd);
}

static PyObject *
fd_release(fdobj *f, PyObject *Py_UNUSED(ignored))
{
    int fd = tdl_fd_release(f->core);
    if (fd < 0)
        return raise_code(STATE(f), fd, "release");
    f->closed = true;
    return PyLong_FromLong(fd);
}

static PyObject *
fd_close(fdobj *f, PyObject *Py_UNUSED(ignored))
{
    if (!f->closed) {
        f->closed = true;
        tdl_fd_close(f->core);
        THREAD_KICK(STATE(f));
    }
    Py_RETURN_NONE;
}

static PyObject *
fd_closed(fdobj *f, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(f->closed);
}

static PyObject *
fd_aexit(fdobj *f, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    return op_value(STATE(f), fd_close(f, NULL));
}

static PyObject *
fd_repr(fdobj *f)
{
    int fd = f->closed ? -1 : tdl_fd_number(f->core);
    return fd < 0 ? PyUnicode_FromString("<Fd closed>") : PyUnicode_FromFormat("<Fd %d>", fd);
}

static void
fd_finalize(fdobj *f)
{
    if (f->core == NULL || f->closed || tdl_fd_number(f->core) < 0)
        return;
    warn_unclosed((PyObject *)f, "descriptor");
}

static void
fd_dealloc(fdobj *f)
{
    PyTypeObject *type = Py_TYPE(f);
    if (PyObject_CallFinalizerFromDealloc((PyObject *)f) < 0)
        return;
    PyObject_GC_UnTrack(f);
    CLEAR_WEAKREFS(f);
    tdl_fd_free(f->core);
    type->tp_free(f);
    Py_DECREF(type);
}

static PyMethodDef fd_methods[] = {
    {"wait_readable", fd_wait_readable, METH_NOARGS,
     "await wait_readable()\n\nUntil a read would not wait, or would fail (then that tells why), whoever does it.\n"
     "TimeoutError, treadle.Closed, OSError (EBADF: closed by another hand)."},
    {"wait_writable", fd_wait_writable, METH_NOARGS, "await wait_writable()\n\nThe same for a write."},
    {"read", fd_read, METH_O, "await read(n) -> bytes\n\nWhat one read(2) brings, up to n bytes; b\"\" at the end."},
    {"write", fd_write, METH_O, "await write(data)\n\nAll of it; what has to wait is copied."},
    {"settimeout", (PyCFunction)fd_settimeout, METH_O,
     "settimeout(seconds): each operation from now on gets a deadline; None: none."},
    {"set_deadline", (PyCFunction)fd_set_deadline, METH_O,
     "set_deadline(when): operations time out at `when`, on the clock of treadle.now(); None clears."},
    {"fileno", (PyCFunction)fd_fileno, METH_NOARGS, "The descriptor, which stays the object's."},
    {"release", (PyCFunction)fd_release, METH_NOARGS,
     "release() -> int\n\nGives the descriptor back, in the mode that it had; the object is as closed.\n"
     "RuntimeError while an operation is under way."},
    {"close", (PyCFunction)fd_close, METH_NOARGS,
     "Closes; operations in progress and later ones raise treadle.Closed. May be repeated."},
    {"__aenter__", op_self, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))fd_aexit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef fd_getset[] = {
    {"closed", (getter)fd_closed, NULL, "Whether it was closed or released.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef fd_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(fdobj, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot fd_slots[] = {
    {Py_tp_doc, "A descriptor, from treadle.fd. async with closes it."},
    {Py_tp_dealloc, fd_dealloc},
    {Py_tp_finalize, fd_finalize},
    {Py_tp_traverse, type_traverse},
    {Py_tp_repr, fd_repr},
    {Py_tp_methods, fd_methods},
    {Py_tp_members, fd_members},
    {Py_tp_getset, fd_getset},
    {0, NULL},
};

PyType_Spec fd_spec = {
    .name = "treadle.Fd",
    .basicsize = sizeof(fdobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = fd_slots,
};

/* -- Making them -------------------------------------------------------------------- */

static PyObject *
new_fd(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "dup", NULL};
    mod_state *st = state_of(module);
    PyObject *file;
    int dup = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$p:fd", names, &file, &dup))
        return NULL;
    int number = PyObject_AsFileDescriptor(file);
    if (number < 0 || host_get(st) == NULL)
        return NULL;
    tdl_fd *core;
    int rc = dup ? tdl_fd_dup(number, &core) : tdl_fd_adopt(number, &core);
    if (rc < 0)
        return raise_code(st, rc, "fd");
    fdobj *f = (fdobj *)st->FdType->tp_alloc(st->FdType, 0);
    if (f == NULL) {
        tdl_fd_free(core);
        return NULL;
    }
    f->core = core;
    return (PyObject *)f;
}

static PyObject *
adopt(PyObject *module, PyObject *file)
{
    mod_state *st = state_of(module);
    int number = PyObject_AsFileDescriptor(file);
    if (number < 0 || host_get(st) == NULL)
        return NULL;
    tdl_conn *core;
    int rc = tdl_conn_adopt(number, &core);
    return rc < 0 ? raise_code(st, rc, "adopt") : conn_wrap(st, core);
}

static PyObject *
pipe_pair(PyObject *module, PyObject *args)
{
    mod_state *st = state_of(module);
    Py_ssize_t capacity = 0;
    if (!PyArg_ParseTuple(args, "|n:pipe", &capacity))
        return NULL;
    if (capacity < 0 || capacity > (1 << 30))
        return PyErr_Format(PyExc_ValueError, "pipe: a capacity of 0 to 2**30 bytes, not %zd", capacity);
    if (host_get(st) == NULL)
        return NULL;
    tdl_conn *a, *b;
    int rc = tdl_pipe_new((size_t)capacity, &a, &b);
    if (rc < 0)
        return raise_code(st, rc, "pipe");
    PyObject *first = conn_wrap(st, a), *second = conn_wrap(st, b), *pair = NULL;
    if (first != NULL && second != NULL)
        pair = PyTuple_Pack(2, first, second);
    Py_XDECREF(first);
    Py_XDECREF(second);
    return pair;
}

PyMethodDef fd_functions[] = {
    {"fd", (PyCFunction)(void (*)(void))new_fd, METH_VARARGS | METH_KEYWORDS,
     "fd(fd, *, dup=False) -> Fd\n\n"
     "Takes a descriptor over (a number, or an object with fileno()), to be closed with the\n"
     "object; or a duplicate of it. OSError for one that cannot be polled (a regular file)."},
    {"adopt", adopt, METH_O,
     "adopt(fd) -> Conn\n\n"
     "A connection of a descriptor that the program has: a connected socket, a pipe, a FIFO, a\n"
     "terminal. It is the connection's from then on."},
    {"pipe", pipe_pair, METH_VARARGS,
     "pipe(capacity=0) -> (Conn, Conn)\n\n"
     "Two connections in memory, each the other's peer. capacity: bytes that a direction holds;\n"
     "0: a write is over when all of it has been read."},
    {NULL, NULL, 0, NULL},
};
