/* SPDX-License-Identifier: MIT
 *
 * What waits to be sent: the ring of a transport's writes, and flow control, which has the
 * protocol pause and go on as the ring fills and drains. */
#include "transport.h"

/* -- The queue ------------------------------------------------------------- */

int
tr_queue(trobj *t, PyObject *bytes, Py_ssize_t off, PyObject *addr)
{
    if (t->q_len == t->q_cap) {
        uint32_t cap = t->q_cap ? t->q_cap * 2 : 8;
        trchunk *q = PyMem_Malloc(cap * sizeof *q);
        if (q == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        for (uint32_t i = 0; i < t->q_len; i++)
            q[i] = *tr_first(t, i);
        PyMem_Free(t->queue);
        t->queue = q;
        t->q_head = 0;
        t->q_cap = cap;
    }
    if (t->q_len == 0)
        ploop_fd_want(&t->fd, PLOOP_WRITE);
    trchunk *c = tr_first(t, t->q_len++);
    c->data = Py_NewRef(bytes);
    c->addr = Py_XNewRef(addr);
    c->off = off;
    t->queued += PyBytes_GET_SIZE(bytes) - off + (addr != NULL ? TR_HEADER : 0);
    return 0;
}

void
tr_queue_pop(trobj *t)
{
    trchunk c = *tr_first(t, 0);
    t->q_head = (t->q_head + 1) & (t->q_cap - 1);
    t->q_len--;
    t->queued -= PyBytes_GET_SIZE(c.data) - c.off + (c.addr != NULL ? TR_HEADER : 0);
    Py_DECREF(c.data);
    Py_XDECREF(c.addr);
}

void
tr_queue_clear(trobj *t)
{
    while (t->q_len > 0)
        tr_queue_pop(t);
}

int
tr_check_data(PyObject *data)
{
    if (PyBytes_Check(data) || PyByteArray_Check(data) || PyMemoryView_Check(data))
        return 0;
    PyObject *name = PyType_GetName(Py_TYPE(data));
    if (name != NULL)
        PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not %R", name);
    Py_XDECREF(name);
    return -1;
}

/* -- Flow control ---------------------------------------------------------- */

static int
tell_protocol(trobj *t, PyObject *name, const char *message)
{
    PyObject *r = PyObject_CallMethodNoArgs(t->protocol, name);
    if (r != NULL) {
        Py_DECREF(r);
        return 0;
    }
    if (PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        return -1;
    PyObject *exc = PyErr_GetRaisedException();
    r = PyObject_CallMethod((PyObject *)t, "_protocol_failed", "sO", message, exc);
    Py_DECREF(exc);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

int
tr_pause_protocol(trobj *t)
{
    if (t->queued <= t->high || t->protocol_paused || t->protocol == NULL)
        return 0;
    t->protocol_paused = 1;
    return tell_protocol(t, t->st->tr.s_pause_writing, "protocol.pause_writing() failed");
}

int
tr_resume_protocol(trobj *t)
{
    if (!t->protocol_paused || t->queued > t->low || t->protocol == NULL)
        return 0;
    t->protocol_paused = 0;
    return tell_protocol(t, t->st->tr.s_resume_writing, "protocol.resume_writing() failed");
}

PyObject *
tr_maybe_pause(trobj *t, PyObject *Py_UNUSED(ignored))
{
    OWN(TR_OWN(t), NULL);
    if (tr_pause_protocol(t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *
tr_maybe_resume(trobj *t, PyObject *Py_UNUSED(ignored))
{
    OWN(TR_OWN(t), NULL);
    if (tr_resume_protocol(t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *
tr_set_limits(trobj *t, PyObject *args, PyObject *kwargs)
{
    OWN(TR_OWN(t), NULL);
    static char *names[] = {"high", "low", NULL};
    PyObject *high = Py_None, *low = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:set_write_buffer_limits", names, &high, &low))
        return NULL;
    Py_ssize_t h = 0, l = 0;
    if (low != Py_None && (l = PyNumber_AsSsize_t(low, NULL)) == -1 && PyErr_Occurred())
        return NULL;
    if (high != Py_None && (h = PyNumber_AsSsize_t(high, NULL)) == -1 && PyErr_Occurred())
        return NULL;
    if (high == Py_None)
        h = low == Py_None ? 64 * 1024 : l > PY_SSIZE_T_MAX / 4 ? PY_SSIZE_T_MAX : 4 * l;
    if (low == Py_None)
        l = h >= 0 ? h / 4 : (h - 3) / 4;
    if (h < l || l < 0)
        return PyErr_Format(PyExc_ValueError, "high (%zd) must be >= low (%zd) must be >= 0", h, l);
    t->high = h;
    t->low = l;
    return tr_maybe_pause(t, NULL);
}

PyObject *
tr_get_limits(trobj *t, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("nn", t->low, t->high);
}

PyObject *
tr_get_size(trobj *t, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSsize_t(t->queued);
}
