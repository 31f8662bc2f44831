/* SPDX-License-Identifier: MIT
 *
 * Copies that the core makes: between connections, from a file to one; and the
 * io pipe. treadle/io.py has the rest.
 *
 * Invariant. The op holds the one end, its call the other (data), until it is through. */
#include "net.h"

static PyObject *
count_result(callobj *Py_UNUSED(k), opobj *op, uint32_t task, int32_t Py_UNUSED(code))
{
    return PyLong_FromLongLong((long long)op->host->out[task].extra);
}

/* -- Connections --------------------------------------------------------------- */

static int32_t
start_copy(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    connobj *from = (connobj *)op->target, *to = (connobj *)k->data;
    h->out[task].extra = 0;
    if (from->core == NULL || to->core == NULL) /* given back to its server */
        return TDL_ECLOSED;
    return tdl_conn_copy_start(h->core, task, to->core, from->core, (int64_t)k->n);
}

static const call_kind copy_kind = {"copy", start_copy, count_result, false, true};

PyObject *
conn_copy(PyObject *c, PyObject *args)
{
    PyObject *to;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "On:_copy", &to, &n))
        return NULL;
    if (!conn_check(to))
        return PyErr_Format(PyExc_TypeError, "copy: a Conn is required, not %.100s", Py_TYPE(to)->tp_name);
    callobj *k = call_new(STATE(c), &copy_kind);
    if (k != NULL) {
        k->data = Py_NewRef(to);
        k->n = n;
    }
    return call_op(STATE(c), c, k);
}

/* -- Files ------------------------------------------------------------------------ */

static int32_t
start_send_file(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    connobj *c = (connobj *)op->target;
    int fd = PyObject_AsFileDescriptor(k->data);
    if (fd < 0)
        return OP_ERROR;
    h->out[task].extra = 0;
    if (c->core == NULL)
        return TDL_ECLOSED;
    const int64_t *range = k->block;
    return tdl_conn_send_file_start(h->core, task, c->core, fd, range[0], range[1]);
}

static const call_kind send_file_kind = {"send_file", start_send_file, count_result, false, true};

/* A whole number of bytes; None: -1. */
static int
bytes_arg(PyObject *object, const char *what, int64_t *n)
{
    *n = -1;
    if (object == Py_None)
        return 0;
    *n = PyLong_AsLongLong(object);
    if (*n == -1 && PyErr_Occurred())
        return -1;
    if (*n < 0) {
        PyErr_Format(PyExc_ValueError, "send_file: %s must not be negative", what);
        return -1;
    }
    return 0;
}

PyObject *
conn_send_file(PyObject *c, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "offset", "count", NULL};
    PyObject *file, *offset = Py_None, *count = Py_None;
    int64_t range[2];
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:send_file", names, &file, &offset, &count))
        return NULL;
    if (PyObject_AsFileDescriptor(file) < 0 || bytes_arg(offset, "offset", &range[0]) < 0 ||
        bytes_arg(count, "count", &range[1]) < 0)
        return NULL;
    callobj *k = call_new(STATE(c), &send_file_kind);
    if (k == NULL)
        return NULL;
    k->data = Py_NewRef(file);
    if ((k->block = PyMem_Malloc(sizeof range)) == NULL) {
        Py_DECREF(k);
        return PyErr_NoMemory();
    }
    memcpy(k->block, range, sizeof range);
    return call_op(STATE(c), c, k);
}

/* -- The io pipe -------------------------------------------------------------------- */

static PyObject *
io_pipe(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    mod_state *st = state_of(module);
    tdl_conn *r, *w;
    if (host_get(st) == NULL)
        return NULL;
    int rc = tdl_io_pipe(&r, &w);
    if (rc < 0)
        return raise_code(st, rc, "pipe");
    PyObject *reader = conn_wrap(st, r), *writer = conn_wrap(st, w), *pair = NULL;
    if (reader != NULL && writer != NULL)
        pair = PyTuple_Pack(2, reader, writer);
    Py_XDECREF(reader);
    Py_XDECREF(writer);
    return pair;
}

PyMethodDef copy_functions[] = {
    {"_io_pipe", io_pipe, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
