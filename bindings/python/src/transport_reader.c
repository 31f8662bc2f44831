/* SPDX-License-Identifier: MIT
 *
 * What StreamReaderProtocol.data_received does, for exactly that class and an
 * exact StreamReader: the bytes go from the scratch buffer into the reader's
 * bytearray, and who waits for them is woken. For anything else, and for what is
 * an error, asyncio's own code is called. */
#include "handle.h"
#include "transport.h"

static int
slow(struct tr_state *tr, PyObject *protocol, const char *data, Py_ssize_t n)
{
    PyObject *bytes = PyBytes_FromStringAndSize(data, n);
    PyObject *r = bytes ? PyObject_CallMethodOneArg(protocol, tr->s_data_received, bytes) : NULL;
    Py_XDECREF(bytes);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

/* reader._wakeup_waiter() */
static int
wake(mod_state *st, stream_record *record)
{
    struct tr_state *tr = &st->tr;
    PyObject *waiter = record_get(record, FIELD_WAITER);
    if (waiter == NULL)
        return -1;
    if (waiter == Py_None) {
        FIELD_DONE(waiter);
        return 0;
    }
    waiter = FIELD_KEEP(waiter);
    int rc = 0;
    record_set(record, FIELD_WAITER, Py_None);
    if (future_set_none(st, waiter) == 0) {
        Py_DECREF(waiter);
        return 0;
    }
    if (PyErr_ExceptionMatches(st->InvalidStateError))
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
pause_source(struct tr_state *tr, stream_record *record)
{
    PyObject *transport = FIELD_KEEP(record_get(record, FIELD_TRANSPORT));
    PyObject *paused = transport ? record_get(record, FIELD_PAUSED) : NULL;
    int rc = paused == NULL ? -1 : 0;
    FIELD_DONE(paused); /* only compared */
    if (rc == 0 && transport != Py_None && paused == Py_False) {
        PyObject *r = PyObject_CallMethodNoArgs(transport, tr->s_pause_reading);
        if (r != NULL) {
            record_set(record, FIELD_PAUSED, Py_True);
        } else if (PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
            PyErr_Clear();
            record_set(record, FIELD_TRANSPORT, Py_None);
        } else {
            rc = -1;
        }
        Py_XDECREF(r);
    }
    Py_XDECREF(transport);
    return rc;
}

static int
feed(ploop *l, stream_record *record, PyObject *buffer, const char *data, Py_ssize_t n)
{
    struct tr_state *tr = &l->st->tr;
    Py_ssize_t old = PyByteArray_GET_SIZE(buffer);
    bool direct = record_takes(record, buffer, n);
    if (direct ? (record->direct = ploop_bytes(l, data, n)) == NULL : bytearray_append(buffer, data, n) < 0)
        return -1;
    if (wake(l->st, record) < 0)
        return -1;
    PyObject *limit = record_get(record, FIELD_LIMIT);
    if (limit == NULL)
        return -1;
    Py_ssize_t max = PyNumber_AsSsize_t(limit, NULL);
    FIELD_DONE(limit);
    if (max == -1 && PyErr_Occurred())
        return -1;
    return (old + n) / 2 >= max && old + n > 2 * max ? pause_source(tr, record) : 0;
}

int
reader_feed(ploop *l, PyObject *protocol, PyObject *ref, PyObject *known, const char *data, Py_ssize_t n)
{
    struct tr_state *tr = &l->st->tr;
    PyObject *reader = weakref_get(ref);
    if (reader == NULL) /* it is gone: nobody reads */
        return 0;
    PyObject *dict = PyObject_GenericGetDict(reader, NULL);
    bool ours = (PyObject *)Py_TYPE(reader) == tr->OurReader && streams_stock(tr, STOCK_FEED) &&
                streams_stock(tr, STOCK_RECEIVED);
    int replaced = dict == NULL ? -1 : PyDict_GET_SIZE(dict) > 1 ? PyDict_Contains(dict, tr->s_feed_data) : 0;
    Py_XDECREF(dict);
    Py_DECREF(reader);
    if (replaced < 0)
        return -1;
    if (!ours || replaced)
        return slow(tr, protocol, data, n);
    stream_record *record = (stream_record *)Py_NewRef(known);
    PyObject *eof = record_get(record, FIELD_EOF);
    PyObject *buffer = eof ? record_get(record, FIELD_BUFFER) : NULL;
    int rc = -1;
    if (buffer != NULL && eof == Py_False && PyByteArray_CheckExact(buffer)) {
        buffer = FIELD_KEEP(buffer);
        rc = feed(l, record, buffer, data, n);
        Py_DECREF(buffer);
    } else if (buffer != NULL) {
        FIELD_DONE(buffer);
        rc = slow(tr, protocol, data, n);
    }
    FIELD_DONE(eof);
    Py_DECREF(record);
    return rc;
}

int
reader_find(struct tr_state *tr, PyObject *protocol, PyObject **ref, PyObject **record)
{
    if ((PyObject *)Py_TYPE(protocol) != tr->StreamReaderProtocol)
        return 0;
    PyObject *of = PyObject_GenericGetDict(protocol, NULL), *weak = of ? FIELD_KEEP(field(of, tr->s_reader_wr)) : NULL;
    Py_XDECREF(of);
    if (weak == NULL)
        return -1;
    PyObject *reader = PyWeakref_Check(weak) ? weakref_get(weak) : NULL;
    bool ours = reader != NULL && (PyObject *)Py_TYPE(reader) == tr->OurReader;
    stream_record *there = ours ? stream_record_of(tr, reader) : NULL;
    Py_XDECREF(reader);
    if (there == NULL) {
        Py_DECREF(weak);
        return ours ? -1 : 0;
    }
    Py_XSETREF(*ref, weak);
    Py_XSETREF(*record, (PyObject *)there);
    return 1;
}
