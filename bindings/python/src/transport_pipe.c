/* SPDX-License-Identifier: MIT
 *
 * Pipe transports, of connect_read_pipe and connect_write_pipe, and of processes:
 * anonymous and named pipes, sockets, terminals and other character devices.
 *
 * Reading and sending is that of stream transports (transport_io.c), with read and
 * write. What is different:
 *  - A write transport also ends when its reader has gone; a socket's is taken to have gone
 *    when anything comes from it, as asyncio does.
 *  - What cannot be polled (/dev/null) is always ready.
 *  - A descriptor that the loop watches already, a terminal's for both directions, is
 *    watched by a duplicate, which belongs to the transport. */
#include "transport.h"
#include <errno.h>
#include <sys/stat.h>

/* -- Writing --------------------------------------------------------------- */

static PyObject *
wp_write(trobj *t, PyObject *data)
{
    OWN(TR_OWN(t), NULL);
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data)) {
        PyObject *text = PyObject_Repr(data);
        if (text != NULL)
            PyErr_SetObject(PyExc_AssertionError, text);
        Py_XDECREF(text);
        return NULL;
    }
    int something = PyObject_IsTrue(data);
    if (something < 0)
        return NULL;
    if (!something)
        Py_RETURN_NONE;
    if (t->conn_lost || t->closing) {
        if (t->late_writes++ >= 5) /* asyncio.constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES */
            tr_call(t, t->st->tr.s_warn_lost, NULL);
        Py_RETURN_NONE;
    }
    PyObject *r = tr_write(t, data);
    t->late_writes += t->conn_lost > 0; /* it was the first */
    return r;
}

static PyObject *
wp_writelines(trobj *t, PyObject *list)
{
    OWN(TR_OWN(t), NULL);
    PyObject *none = PyBytes_FromStringAndSize(NULL, 0);
    PyObject *data = none ? PyObject_CallMethod(none, "join", "O", list) : NULL;
    PyObject *r = data ? wp_write(t, data) : NULL;
    Py_XDECREF(data);
    Py_XDECREF(none);
    return r;
}

static PyObject *
wp_can_write_eof(PyObject *Py_UNUSED(t), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

/* What asyncio.WriteTransport has not. */
static PyObject *
wp_not_there(PyObject *Py_UNUSED(t), PyObject *Py_UNUSED(ignored))
{
    PyErr_SetNone(PyExc_NotImplementedError);
    return NULL;
}

/* Nobody reads any more. */
static void
reader_gone(trobj *t)
{
    PyObject *exc = t->q_len > 0 ? PyObject_CallNoArgs(PyExc_BrokenPipeError) : Py_NewRef(Py_None);
    if (exc == NULL)
        tr_fatal(t, "Fatal write error on pipe transport");
    else
        tr_call(t, t->st->tr.s_reader_gone, exc);
    Py_XDECREF(exc);
}

static void
wp_event(ploop_fd *f, unsigned ready)
{
    trobj *t = (trobj *)((char *)f - offsetof(trobj, fd));
    bool gone = t->watches_reader && !t->conn_lost &&
                ready & (t->watches_reader == WATCH_SOCKET ? PLOOP_HUP | PLOOP_READ : PLOOP_HUP);
    bool writes = t->q_len > 0 && ready & (PLOOP_WRITE | PLOOP_HUP);
    double start;
    if (!gone && !writes)
        return;
    Py_INCREF(t);
    if (tr_enter(t, &start)) {
        if (gone)
            reader_gone(t);
        else if (t->attached)
            tr_flush(t);
        tr_leave(t, start);
    }
    Py_DECREF(t);
}

/* _look_at(fd), before _setup: will it do for a pipe transport? */
static PyObject *
look_at(trobj *t, PyObject *arg, void (*event)(ploop_fd *f, unsigned ready))
{
    struct stat st;
    t->is_pipe = true;
    t->fd.cb = event;
    int fd = PyLong_AsInt(arg);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    if (fstat(fd, &st) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (S_ISFIFO(st.st_mode)) {
        t->watches_reader = WATCH_PIPE;
        Py_RETURN_TRUE;
    }
    if (S_ISSOCK(st.st_mode)) {
        t->watches_reader = WATCH_SOCKET;
        Py_RETURN_TRUE;
    }
    return PyBool_FromLong(S_ISCHR(st.st_mode));
}

static PyObject *
rp_look_at(trobj *t, PyObject *fd)
{
    OWN(TR_OWN(t), NULL);
    return look_at(t, fd, tr_event);
}

static PyObject *
wp_look_at(trobj *t, PyObject *fd)
{
    OWN(TR_OWN(t), NULL);
    return look_at(t, fd, wp_event);
}

/* -- The types ------------------------------------------------------------- */

static PyMethodDef read_methods[] = {
    {"_look_at", (PyCFunction)rp_look_at, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef write_methods[] = {
    {"write", (PyCFunction)wp_write, METH_O, "Writes data; what cannot be written at once is queued."},
    {"writelines", (PyCFunction)wp_writelines, METH_O, "Writes several pieces, joined."},
    {"write_eof", (PyCFunction)tr_close, METH_NOARGS, "Closes the pipe, after what was written."},
    {"can_write_eof", (PyCFunction)wp_can_write_eof, METH_NOARGS, "Always true."},
    {"is_reading", wp_not_there, METH_NOARGS, "There is nothing to read."},
    {"pause_reading", wp_not_there, METH_NOARGS, "There is nothing to read."},
    {"resume_reading", wp_not_there, METH_NOARGS, "There is nothing to read."},
    {"_look_at", (PyCFunction)wp_look_at, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot read_slots[] = {
    {Py_tp_doc, "A read pipe transport's hot half (internal)."},
    {Py_tp_methods, read_methods},
    {0, NULL},
};

static PyType_Slot write_slots[] = {
    {Py_tp_doc, "A write pipe transport's hot half (internal)."},
    {Py_tp_methods, write_methods},
    {0, NULL},
};

PyType_Spec read_pipe_spec = {
    .name = "treadle._treadle._ReadPipeTransport",
    .basicsize = sizeof(trobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = read_slots,
};

PyType_Spec write_pipe_spec = {
    .name = "treadle._treadle._WritePipeTransport",
    .basicsize = sizeof(trobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = write_slots,
};
