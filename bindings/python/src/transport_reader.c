/* SPDX-License-Identifier: MIT
 *
 * What StreamReaderProtocol.data_received does, for exactly that class and an
 * exact StreamReader: the bytes go from the scratch buffer into the reader's
 * bytearray, and who waits for them is woken. For anything else, and for what is
 * an error, asyncio's own code is called. */
#include "handle.h"
#include "transport.h"

static int
slow(trobj *t, PyObject *protocol, const char *data, Py_ssize_t n)
{
    PyObject *bytes = PyBytes_FromStringAndSize(data, n);
    PyObject *r = bytes ? PyObject_CallMethodOneArg(protocol, t->st->tr.s_data_received, bytes) : NULL;
    Py_XDECREF(bytes);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

/* reader._wakeup_waiter() */
static int
wake(mod_state *st, PyObject *fields)
{
    struct tr_state *tr = &st->tr;
    PyObject *waiter = field(fields, tr->s_waiter);
    if (waiter == NULL)
        return -1;
    if (waiter == Py_None) {
        FIELD_DONE(waiter);
        return 0;
    }
    waiter = FIELD_KEEP(waiter);
    int rc = PyDict_SetItem(fields, tr->s_waiter, Py_None);
    if (rc == 0 && future_set_none(st, waiter) == 0) {
        Py_DECREF(waiter);
        return 0;
    }
    if (rc == 0 && PyErr_ExceptionMatches(st->InvalidStateError))
        PyErr_Clear(); /* cancelled, most likely */
    else
        rc = -1;
    PyObject *over = rc == 0 ? PyObject_CallMethodNoArgs(waiter, tr->s_cancelled) : NULL;
    if (over == NULL) {
        rc = -1;
    } else if (over == Py_False) {
        PyObject *r = PyObject_CallMethodOneArg(waiter, tr->s_set_result, Py_None);
        rc = r == NULL ? -1 : 0;
        Py_XDECREF(r);
    }
    Py_XDECREF(over);
    Py_DECREF(waiter);
    return rc;
}

/* The buffer is over twice the limit: no more until the reader has read. */
static int
pause_source(struct tr_state *tr, PyObject *reader)
{
    PyObject *transport = PyObject_GetAttr(reader, tr->s_transport);
    PyObject *paused = transport ? PyObject_GetAttr(reader, tr->s_paused) : NULL;
    int rc = paused == NULL ? -1 : 0;
    if (rc == 0 && transport != Py_None && paused == Py_False) {
        PyObject *r = PyObject_CallMethodNoArgs(transport, tr->s_pause_reading);
        if (r != NULL) {
            rc = PyObject_SetAttr(reader, tr->s_paused, Py_True);
        } else if (PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
            PyErr_Clear();
            rc = PyObject_SetAttr(reader, tr->s_transport, Py_None);
        } else {
            rc = -1;
        }
        Py_XDECREF(r);
    }
    Py_XDECREF(paused);
    Py_XDECREF(transport);
    return rc;
}

static int
feed(mod_state *st, PyObject *reader, PyObject *fields, PyObject *buffer, const char *data, Py_ssize_t n)
{
    struct tr_state *tr = &st->tr;
    Py_ssize_t old = PyByteArray_GET_SIZE(buffer);
    if (bytearray_append(buffer, data, n) < 0 || wake(st, fields) < 0)
        return -1;
    PyObject *limit = field(fields, tr->s_limit);
    if (limit == NULL)
        return -1;
    Py_ssize_t max = PyNumber_AsSsize_t(limit, NULL);
    FIELD_DONE(limit);
    if (max == -1 && PyErr_Occurred())
        return -1;
    return (old + n) / 2 >= max && old + n > 2 * max ? pause_source(tr, reader) : 0;
}

int
tr_feed(trobj *t, PyObject *protocol, const char *data, Py_ssize_t n)
{
    struct tr_state *tr = &t->st->tr;
    PyObject *of = PyObject_GenericGetDict(protocol, NULL), *ref = of ? FIELD_KEEP(field(of, tr->s_reader_wr)) : NULL;
    Py_XDECREF(of);
    if (ref == NULL)
        return -1;
    PyObject *reader = ref != Py_None && PyWeakref_Check(ref) ? weakref_get(ref) : NULL;
    Py_DECREF(ref);
    if (reader == NULL || reader == Py_None) { /* it is gone: nobody reads */
        Py_XDECREF(reader);
        return 0;
    }
    if ((PyObject *)Py_TYPE(reader) != tr->StreamReader && (PyObject *)Py_TYPE(reader) != tr->OurReader) {
        Py_DECREF(reader);
        return slow(t, protocol, data, n);
    }
    PyObject *fields = PyObject_GenericGetDict(reader, NULL);
    if (fields != NULL && (!streams_stock(tr, STOCK_FEED) || !streams_stock(tr, STOCK_RECEIVED) ||
                           (PyDict_GET_SIZE(fields) > tr->reader_fields &&
                            PyDict_Contains(fields, tr->s_feed_data) != 0))) {
        Py_DECREF(fields);
        Py_DECREF(reader);
        return slow(t, protocol, data, n);
    }
    PyObject *eof = fields ? field(fields, tr->s_eof) : NULL;
    PyObject *buffer = eof ? field(fields, tr->s_buffer) : NULL;
    int rc = -1;
    if (buffer != NULL && eof == Py_False && PyByteArray_CheckExact(buffer)) {
        buffer = FIELD_KEEP(buffer);
        rc = feed(t->st, reader, fields, buffer, data, n);
        Py_DECREF(buffer);
    } else if (buffer != NULL) {
        FIELD_DONE(buffer);
        rc = slow(t, protocol, data, n);
    }
    FIELD_DONE(eof);
    Py_XDECREF(fields);
    Py_DECREF(reader);
    return rc;
}
