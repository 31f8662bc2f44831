/* SPDX-License-Identifier: MIT
 *
 * A read of a StreamReader, to be awaited.
 *
 * Invariants.
 *  - A reader's state is in its record (stream_record.h), where asyncio's methods find it by
 *    its names (_buffer, _waiter, _eof …), so that they and ours can be mixed.
 *  - An op reads at its first send, not when it is made, as a coroutine would; it
 *    waits on a future that it puts in _waiter, and takes from there when it is
 *    thrown at or closed.
 *  - What is rare (the end before a separator, a line over the limit) asyncio's own method
 *    finds in the same state and says in its own words: it is called then, and has the rest of the
 *    op (HANDED_ON). */
#include "stream_read.h"
#include "handle.h"
#include "transport.h"

enum { NEW, WAITS, HANDED_ON, OVER };

typedef struct {
    PyObject_HEAD
    mod_state *st;
    PyObject *reader;
    stream_record *record;     /* the reader's */
    PyObject *waiter;          /* WAITS: what it waits on */
    PyObject *separator;       /* READ_UNTIL: bytes */
    PyObject *rest;            /* HANDED_ON: asyncio's coroutine */
    ploop *l;                  /* strong, set once: the reader's loop where that is ours, or NULL */
#ifdef Py_GIL_DISABLED
    own_word own;
#endif
    Py_ssize_t n;    /* READ, READ_EXACTLY */
    Py_ssize_t none; /* READ_UNTIL, READ_LINE: no separator begins in so many bytes of the buffer */
    uint8_t kind, state;
} readop;

/* -- The reader's state ---------------------------------------------------- */

/* -1: exception */
static int
is_true(stream_record *record, int which)
{
    PyObject *value = record_get(record, which);
    if (value == NULL)
        return -1;
    int truth = value == Py_True ? 1 : value == Py_False || value == Py_None ? 0 : PyObject_IsTrue(value);
    FIELD_DONE(value);
    return truth;
}

static int
resume_source(struct tr_state *tr, stream_record *record)
{
    record_set(record, FIELD_PAUSED, Py_False);
    PyObject *transport = FIELD_KEEP(record_get(record, FIELD_TRANSPORT));
    PyObject *r = transport ? PyObject_CallMethodNoArgs(transport, tr->s_resume_reading) : NULL;
    Py_XDECREF(transport);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

/* _maybe_resume_transport(), with so many bytes in the buffer. */
static int
resume_if(struct tr_state *tr, stream_record *record, Py_ssize_t left)
{
    int paused = is_true(record, FIELD_PAUSED);
    if (paused <= 0)
        return paused;
    PyObject *limit = record_get(record, FIELD_LIMIT);
    Py_ssize_t max = limit ? PyNumber_AsSsize_t(limit, NULL) : -1;
    FIELD_DONE(limit);
    if (max == -1 && PyErr_Occurred())
        return -1;
    return left <= max ? resume_source(tr, record) : 0;
}

/* The first n bytes of what is there. l: the loop, or NULL. */
static PyObject *
take(struct tr_state *tr, ploop *l, stream_record *record, PyObject *buffer, Py_ssize_t n)
{
    Py_ssize_t size = PyByteArray_GET_SIZE(buffer);
    if (n > size)
        n = size;
    PyObject *data = l != NULL ? ploop_bytes(l, PyByteArray_AS_STRING(buffer), n)
                               : PyBytes_FromStringAndSize(PyByteArray_AS_STRING(buffer), n);
    if (data == NULL)
        return NULL;
    int rc = n == size ? bytearray_empty(buffer) : PySequence_DelSlice(buffer, 0, n);
    if (rc < 0 || resume_if(tr, record, size - n) < 0)
        Py_CLEAR(data);
    return data;
}

/* What came for this read alone. */
static PyObject *
take_direct(struct tr_state *tr, stream_record *record)
{
    PyObject *data = record->direct;
    record->direct = NULL;
    if (resume_if(tr, record, 0) < 0)
        Py_CLEAR(data);
    return data;
}

/* Whose thread it is for: who feeds the reader works on the same buffer. */
#define READ_OWN(op) ((op)->l != NULL ? &(op)->l->own : &(op)->own)

static const char *
name_of(readop *op)
{
    static const char *const names[] = {"read", "readexactly", "readuntil", "readline"};
    return names[op->kind];
}

/* loop.create_future(), for a task to wait on at once. */
static PyObject *
new_waiter(readop *op, PyObject *loop)
{
    struct tr_state *tr = &op->st->tr;
    PyObject *create = PyObject_GetAttr(loop, tr->s_create_future), *waiter;
    if (create == NULL)
        return NULL;
    if (loop_makes_futures(op->st, loop, create)) {
        waiter = future_waiter((ploop *)loop);
    } else {
        waiter = PyObject_CallNoArgs(create);
        if (waiter != NULL && PyObject_SetAttr(waiter, tr->s_blocking, Py_True) < 0)
            Py_CLEAR(waiter);
    }
    Py_DECREF(create);
    return waiter;
}

/* _wait_for_data: a new future in _waiter, for the task to wait on. */
static PyObject *
wait(struct tr_state *tr, readop *op)
{
    PyObject *other = record_get(op->record, FIELD_WAITER);
    if (other == NULL)
        return NULL;
    FIELD_DONE(other); /* only compared */
    if (other != Py_None)
        return PyErr_Format(PyExc_RuntimeError,
                            "%s() called while another coroutine is already waiting for incoming data",
                            op->kind == READ_LINE ? "readuntil" : name_of(op)); /* as asyncio has it */
    int paused = is_true(op->record, FIELD_PAUSED);
    if (paused < 0 || (paused && resume_source(tr, op->record) < 0))
        return NULL;
    PyObject *loop = FIELD_KEEP(record_get(op->record, FIELD_LOOP));
    PyObject *waiter = loop ? new_waiter(op, loop) : NULL;
    Py_XDECREF(loop);
    if (waiter == NULL)
        return NULL;
    record_set(op->record, FIELD_WAITER, waiter);
    op->record->least = op->kind == READ ? 1 : op->n;
    op->record->most = op->kind == READ || op->kind == READ_EXACTLY ? op->n : 0;
    op->waiter = Py_NewRef(waiter);
    op->state = WAITS;
    return waiter;
}

/* The end came before n bytes. NULL. */
static PyObject *
incomplete(mod_state *st, readop *op, PyObject *buffer)
{
    PyObject *part = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(buffer), PyByteArray_GET_SIZE(buffer));
    if (part == NULL || PyByteArray_Resize(buffer, 0) < 0) {
        Py_XDECREF(part);
        return NULL;
    }
    PyObject *exc = PyObject_CallFunction(st->IncompleteReadError, "Nn", part, op->n);
    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
    return NULL;
}

/* How many bytes there are up to the separator and with it; 0: none; -1: more than the limit
 * allows, or an exception. */
static Py_ssize_t
to_separator(readop *op, PyObject *buffer)
{
    const char *separator = op->kind == READ_LINE ? "\n" : PyBytes_AS_STRING(op->separator);
    Py_ssize_t length = op->kind == READ_LINE ? 1 : PyBytes_GET_SIZE(op->separator);
    Py_ssize_t size = PyByteArray_GET_SIZE(buffer);
    if (size - op->none < length)
        return 0;
    const char *data = PyByteArray_AS_STRING(buffer);
    const char *at = memmem(data + op->none, (size_t)(size - op->none), separator, (size_t)length);
    if (at == NULL)
        op->none = size + 1 - length;
    Py_ssize_t before = at != NULL ? at - data : op->none;
    PyObject *limit = record_get(op->record, FIELD_LIMIT);
    Py_ssize_t most = limit ? PyNumber_AsSsize_t(limit, NULL) : -1;
    FIELD_DONE(limit);
    if ((most == -1 && PyErr_Occurred()) || before > most)
        return -1;
    return at != NULL ? before + length : 0;
}

/* asyncio's coroutine for this read, from here on. NULL. */
static PyObject *
hand_on(readop *op)
{
    struct tr_state *tr = &op->st->tr;
    if (!PyErr_Occurred())
        op->rest = op->kind == READ_LINE
                       ? streams_plain(tr->StreamReader, tr->s_readline, op->reader, NULL, 0, NULL)
                       : streams_plain(tr->StreamReader, tr->s_readuntil, op->reader, &op->separator, 1, NULL);
    return NULL;
}

/* What the coroutine does from its start, or from where the wait is over. *waits: the
 * result is a future. NULL: an exception, or op->rest goes on. */
static PyObject *
step(readop *op, bool first, bool *waits)
{
    struct tr_state *tr = &op->st->tr;
    if (first) {
        PyObject *exc = record_get(op->record, FIELD_EXCEPTION);
        if (exc == NULL)
            return NULL;
        if (exc != Py_None) {
            PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
            FIELD_DONE(exc);
            return NULL;
        }
        if (op->n == 0)
            return PyBytes_FromStringAndSize(NULL, 0);
    } else if (op->record->direct != NULL) {
        return take_direct(tr, op->record);
    }
    PyObject *buffer = FIELD_KEEP(record_get(op->record, FIELD_BUFFER)), *r = NULL;
    if (buffer == NULL)
        return NULL;
    if (!PyByteArray_CheckExact(buffer)) {
        Py_DECREF(buffer);
        PyErr_SetString(PyExc_TypeError, "a StreamReader's buffer must be a bytearray");
        return NULL;
    }
    bool lines = op->kind == READ_UNTIL || op->kind == READ_LINE;
    Py_ssize_t size = PyByteArray_GET_SIZE(buffer);
    Py_ssize_t n = lines                ? to_separator(op, buffer)
                   : op->kind == READ   ? (size > 0 || !first ? op->n : 0)
                   : size >= op->n      ? op->n
                                        : 0;
    int eof = n != 0 ? 0 : is_true(op->record, FIELD_EOF);
    if (n > 0)
        r = take(tr, op->l, op->record, buffer, n);
    else if (n < 0 || (lines && eof > 0))
        r = hand_on(op);
    else if (eof > 0)
        r = op->kind == READ ? take(tr, op->l, op->record, buffer, op->n) : incomplete(op->st, op, buffer);
    else if (eof == 0)
        *waits = (r = wait(tr, op)) != NULL;
    Py_DECREF(buffer);
    return r;
}

/* The wait is over, for better or worse: _waiter is free again. */
static int
leave(readop *op)
{
    op->state = OVER;
    op->record->most = 0;
    PyObject *now = record_get(op->record, FIELD_WAITER);
    FIELD_DONE(now); /* only compared */
    if (now == NULL)
        return -1;
    if (now != Py_None)
        record_set(op->record, FIELD_WAITER, Py_None);
    return 0;
}

/* -- Awaiting -------------------------------------------------------------- */

static PySendResult
rest_send(readop *op, PyObject *value, PyObject **result)
{
    PyObject *rest = op->rest;
    op->rest = NULL;
    op->state = OVER; /* while it runs */
    PySendResult how = PyIter_Send(rest, value, result);
    if (how == PYGEN_NEXT) {
        op->state = HANDED_ON;
        op->rest = rest;
    } else {
        Py_DECREF(rest);
    }
    return how;
}

static PyObject *
rest_throw(readop *op, PyObject *const *args, Py_ssize_t n)
{
    PyObject *rest = op->rest, *all[4] = {rest};
    if (n < 1 || n > 3)
        return raise_thrown(args, n);
    memcpy(all + 1, args, (size_t)n * sizeof *args);
    op->rest = NULL;
    op->state = OVER;
    PyObject *r = PyObject_VectorcallMethod(op->st->tr.s_throw, all, (size_t)n + 1, NULL);
    if (r != NULL) {
        op->state = HANDED_ON;
        op->rest = rest;
    } else {
        Py_DECREF(rest);
    }
    return r;
}

static PySendResult
read_send(readop *op, PyObject *value, PyObject **result)
{
    *result = NULL;
    OWN(READ_OWN(op), PYGEN_ERROR);
    if (op->state == HANDED_ON)
        return rest_send(op, value, result);
    bool first = op->state == NEW, waits = false;
    if (op->state == OVER) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    if (op->state == WAITS) {
        PyObject *waiter = op->waiter;
        op->waiter = NULL;
        if (leave(op) < 0) {
            Py_DECREF(waiter);
            return PYGEN_ERROR;
        }
        PyObject *r = future_result(op->st, waiter);
        if (op->l != NULL)
            future_over(op->l, waiter);
        else
            Py_DECREF(waiter);
        Py_XDECREF(r);
        if (r == NULL)
            return PYGEN_ERROR;
    }
    op->state = OVER;
    *result = step(op, first, &waits);
    if (op->rest != NULL)
        return rest_send(op, Py_None, result);
    return *result == NULL ? PYGEN_ERROR : waits ? PYGEN_NEXT : PYGEN_RETURN;
}

static PyObject *
read_send_method(readop *op, PyObject *value)
{
    PyObject *result;
    PySendResult how = read_send(op, value, &result);
    return how == PYGEN_RETURN ? stop_with(result) : result;
}

static PyObject *
read_next(readop *op)
{
    return read_send_method(op, Py_None);
}

static PyObject *
read_throw(readop *op, PyObject *const *args, Py_ssize_t n)
{
    OWN(READ_OWN(op), NULL);
    if (op->state == HANDED_ON)
        return rest_throw(op, args, n);
    int rc = op->state == WAITS ? leave(op) : 0;
    op->state = OVER;
    Py_CLEAR(op->waiter);
    return rc < 0 ? NULL : raise_thrown(args, n);
}

static PyObject *
read_close(readop *op, PyObject *Py_UNUSED(ignored))
{
    OWN(READ_OWN(op), NULL);
    int rc = op->state == WAITS ? leave(op) : 0;
    op->state = OVER;
    Py_CLEAR(op->waiter);
    Py_CLEAR(op->rest); /* which ends a coroutine */
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
read_repr(readop *op)
{
    return PyUnicode_FromFormat("<StreamReader.%s() of %R>", name_of(op), op->reader);
}

static PyObject *
read_name(readop *op, void *Py_UNUSED(closure))
{
    return PyUnicode_FromFormat("StreamReader.%s", name_of(op));
}

static int
read_traverse(readop *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(op->reader);
    Py_VISIT(op->record);
    Py_VISIT(op->waiter);
    Py_VISIT(op->separator);
    Py_VISIT(op->rest);
    Py_VISIT(op->l);
    return 0;
}

static int
read_clear(readop *op)
{
    op->state = OVER;
    Py_CLEAR(op->reader);
    Py_CLEAR(op->record);
    Py_CLEAR(op->waiter);
    Py_CLEAR(op->separator);
    Py_CLEAR(op->rest);
    Py_CLEAR(op->l);
    return 0;
}

static void
read_dealloc(readop *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (op->state == WAITS && op->record != NULL) { /* as a coroutine that is dropped: its finally runs */
        PyObject *exc = PyErr_GetRaisedException();
        if (leave(op) < 0)
            PyErr_Clear();
        PyErr_SetRaisedException(exc);
    }
    read_clear(op);
#ifndef Py_GIL_DISABLED
    mod_state *st = type_state(type);
    if (st != NULL && st->tr.spare_read == NULL && !st->tr.no_spare_read) {
        st->tr.spare_read = op; /* the next read is likely to be soon */
        Py_DECREF(type);
        return;
    }
#endif
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

void
streams_forget(struct tr_state *tr)
{
    if (tr->spare_read != NULL)
        PyObject_GC_Del(tr->spare_read);
    tr->spare_read = NULL;
    tr->no_spare_read = true;
}

static PyMethodDef read_methods[] = {
    {"send", (PyCFunction)read_send_method, METH_O, "Goes on, as a coroutine's."},
    {"throw", (PyCFunction)(void (*)(void))read_throw, METH_FASTCALL, "Ends it with an exception."},
    {"close", (PyCFunction)read_close, METH_NOARGS, "Ends it."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef read_getset[] = {
    {"__name__", (getter)read_name, NULL, NULL, NULL},
    {"__qualname__", (getter)read_name, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot read_slots[] = {
    {Py_tp_doc, "A read of a stream, to be awaited (internal)."},
    {Py_tp_dealloc, read_dealloc},
    {Py_tp_traverse, read_traverse},
    {Py_tp_clear, read_clear},
    {Py_tp_repr, read_repr},
    {Py_tp_methods, read_methods},
    {Py_tp_getset, read_getset},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, read_send},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, read_next},
    {0, NULL},
};

static PyType_Spec read_spec = {
    .name = "treadle._treadle._StreamRead",
    .basicsize = sizeof(readop),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = read_slots,
};

int
stream_read_setup(PyObject *module, mod_state *st)
{
    st->tr.ReadType = type_make(module, &read_spec, NULL);
    return st->tr.ReadType == NULL ? -1 : 0;
}

/* As a new reference, or NULL; no exception. */
static ploop *
loop_of(mod_state *st, stream_record *record)
{
    PyObject *loop = FIELD_KEEP(record_get(record, FIELD_LOOP));
    if (loop == NULL)
        PyErr_Clear(); /* who waits for the reader will say so */
    else if (ploop_of(st, loop) == NULL)
        Py_CLEAR(loop);
    return (ploop *)loop;
}

PyObject *
stream_read_new(mod_state *st, PyObject *reader, enum stream_read kind, Py_ssize_t n, PyObject *separator)
{
    struct tr_state *tr = &st->tr;
    readop *op = tr->spare_read;
    if (op != NULL) {
        tr->spare_read = NULL;
        PyObject_Init((PyObject *)op, (PyTypeObject *)tr->ReadType);
    } else if ((op = PyObject_GC_New(readop, (PyTypeObject *)tr->ReadType)) == NULL) {
        return NULL;
    }
    op->st = st;
    op->record = stream_record_of(tr, reader);
    op->reader = Py_NewRef(reader);
    op->separator = Py_XNewRef(separator);
    op->waiter = op->rest = NULL;
    op->l = op->record != NULL ? loop_of(op->st, op->record) : NULL;
#ifdef Py_GIL_DISABLED
    op->own = (own_word){0};
#endif
    op->n = n;
    op->none = 0;
    op->kind = (uint8_t)kind;
    op->state = NEW;
    PyObject_GC_Track(op);
    if (op->record == NULL)
        Py_CLEAR(op);
    return (PyObject *)op;
}
