/* SPDX-License-Identifier: MIT
 *
 * What asyncio's StreamReader and StreamWriter do most, without a coroutine of
 * Python: read and readexactly of a reader, write and drain of a writer. The
 * classes that have these methods (treadle/_streams.py) are put over a connection's
 * own when it gets a transport of ours, but not in debug mode. For everything that
 * is not the usual case, asyncio's method is called.
 *
 * Invariants.
 *  - A reader's state is in its record (stream_record.h), where asyncio's methods find it by
 *    its names (_buffer, _waiter, _eof …), so that they and ours can be mixed.
 *  - An op reads at its first send, not when it is made, as a coroutine would; it
 *    waits on a future that it puts in _waiter, and takes from there when it is
 *    thrown at or closed. */
#include "handle.h"
#include "transport.h"

enum { READ, READ_EXACTLY };
enum { NEW, WAITS, OVER };

typedef struct {
    PyObject_HEAD
    mod_state *st;
    PyObject *reader;
    stream_record *record;     /* the reader's */
    PyObject *waiter;          /* WAITS: what it waits on */
    ploop *l;                  /* strong; once it has waited, and the loop is ours */
#ifdef Py_GIL_DISABLED
    own_word own;
#endif
    Py_ssize_t n;
    uint8_t kind, state;
} readop;

/* -- Is it asyncio's own method? ------------------------------------------- */

static PyObject *
stock_name(struct tr_state *tr, int which)
{
    PyObject *const names[] = {tr->s_feed_data, tr->s_read, tr->s_readexactly, tr->s_write, tr->s_drain,
                               tr->s_data_received};
    return names[which];
}

bool
streams_look(struct tr_state *tr, int which, PyTypeObject *type, uint64_t tag)
{
    PyObject *now = PyObject_GetAttr((PyObject *)type, stock_name(tr, which));
    if (now == NULL)
        PyErr_Clear();
    bool same = now != NULL && now == tr->stock[which];
    SHOW(tr->stock_known[which], tag << 1 | same);
    Py_XDECREF(now);
    return same;
}

static int
stock_setup(struct tr_state *tr)
{
    for (int i = 0; i < NSTOCK; i++) {
        PyObject *method = PyObject_GetAttr((PyObject *)stock_class(tr, i), stock_name(tr, i)), *module;
        if (method == NULL)
            return -1;
        module = PyObject_GetAttrString(method, "__module__");
        if (module == NULL)
            PyErr_Clear();
        if (module != NULL && PyUnicode_Check(module) &&
            PyUnicode_CompareWithASCIIString(module, "asyncio.streams") == 0)
            tr->stock[i] = Py_NewRef(method);
        Py_XDECREF(module);
        Py_DECREF(method);
    }
    return 0;
}

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

static const char *
name_of(readop *op)
{
    return op->kind == READ ? "read" : "readexactly";
}

/* loop.create_future(), for a task to wait on at once. */
static PyObject *
new_waiter(readop *op, PyObject *loop)
{
    struct tr_state *tr = &op->st->tr;
    PyObject *create = PyObject_GetAttr(loop, tr->s_create_future), *waiter;
    if (create == NULL)
        return NULL;
    if (op->l == NULL && loop_makes_futures(op->st, loop, create))
        op->l = (ploop *)Py_NewRef(loop);
    if (op->l != NULL) {
        waiter = future_waiter(op->l);
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
                            name_of(op));
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
    op->record->most = op->n;
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

/* What the coroutine does from its start, or from where the wait is over. *waits:
 * the result is a future. */
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
    PyObject *buffer = FIELD_KEEP(record_get(op->record, FIELD_BUFFER)), *r;
    if (buffer == NULL)
        return NULL;
    if (!PyByteArray_CheckExact(buffer)) {
        Py_DECREF(buffer);
        PyErr_SetString(PyExc_TypeError, "a StreamReader's buffer must be a bytearray");
        return NULL;
    }
    Py_ssize_t size = PyByteArray_GET_SIZE(buffer);
    int eof = 0;
    if (op->kind == READ ? size > 0 || !first : size >= op->n) {
        r = take(tr, op->l, op->record, buffer, op->n);
    } else if ((eof = is_true(op->record, FIELD_EOF)) != 0) {
        r = eof < 0 ? NULL : op->kind == READ ? take(tr, op->l, op->record, buffer, op->n)
                                             : incomplete(op->st, op, buffer);
    } else {
        r = wait(tr, op);
        *waits = r != NULL;
    }
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
read_send(readop *op, PyObject *Py_UNUSED(value), PyObject **result)
{
    *result = NULL;
    OWN(&op->own, PYGEN_ERROR);
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
    return *result == NULL ? PYGEN_ERROR : waits ? PYGEN_NEXT : PYGEN_RETURN;
}

/* A value as the end of an iteration. NULL. */
static PyObject *
stop_with(PyObject *value)
{
    PyObject *exc = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (exc != NULL) {
        PyErr_SetObject(PyExc_StopIteration, exc);
        Py_DECREF(exc);
    }
    Py_DECREF(value);
    return NULL;
}

static PyObject *
read_next(readop *op)
{
    PyObject *result;
    PySendResult how = read_send(op, Py_None, &result);
    return how == PYGEN_RETURN ? stop_with(result) : result;
}

static PyObject *
read_send_method(readop *op, PyObject *Py_UNUSED(value))
{
    return read_next(op);
}

static PyObject *
raise_thrown(PyObject *const *args, Py_ssize_t n)
{
    if (n < 1 || n > 3)
        return PyErr_Format(PyExc_TypeError, "throw expected 1 to 3 arguments, got %zd", n);
    if (PyExceptionInstance_Check(args[0]))
        PyErr_SetRaisedException(Py_NewRef(args[0]));
    else if (PyExceptionClass_Check(args[0]))
        PyErr_SetObject(args[0], n > 1 && args[1] != Py_None ? args[1] : NULL);
    else
        PyErr_SetString(PyExc_TypeError,
                        "exceptions must be classes or instances deriving from BaseException");
    return NULL;
}

static PyObject *
read_throw(readop *op, PyObject *const *args, Py_ssize_t n)
{
    OWN(&op->own, NULL);
    int rc = op->state == WAITS ? leave(op) : 0;
    op->state = OVER;
    Py_CLEAR(op->waiter);
    return rc < 0 ? NULL : raise_thrown(args, n);
}

static PyObject *
read_close(readop *op, PyObject *Py_UNUSED(ignored))
{
    OWN(&op->own, NULL);
    int rc = op->state == WAITS ? leave(op) : 0;
    op->state = OVER;
    Py_CLEAR(op->waiter);
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

/* -- Nothing to wait for ---------------------------------------------------- */

static PySendResult
ready_send(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(value), PyObject **result)
{
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

static PyObject *
ready_next(PyObject *Py_UNUSED(self))
{
    return NULL; /* the end of the iteration, with None */
}

static PyObject *
ready_send_method(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(value))
{
    return stop_with(Py_NewRef(Py_None));
}

static PyObject *
ready_throw(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t n)
{
    return raise_thrown(args, n);
}

static PyObject *
ready_close(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_NONE;
}

static PyMethodDef ready_methods[] = {
    {"send", ready_send_method, METH_O, "Goes on, as a coroutine's."},
    {"throw", (PyCFunction)(void (*)(void))ready_throw, METH_FASTCALL, "Ends it with an exception."},
    {"close", ready_close, METH_NOARGS, "Ends it."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot ready_slots[] = {
    {Py_tp_doc, "An awaitable that is over at once (internal)."},
    {Py_tp_methods, ready_methods},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, ready_send},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, ready_next},
    {0, NULL},
};

static PyType_Spec ready_spec = {
    .name = "treadle._treadle._Ready",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = ready_slots,
};

/* -- The methods of the classes -------------------------------------------- */

/* Calls asyncio's method of this name. */
static PyObject *
plain(PyObject *class, PyObject *name, PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    PyObject *function = PyObject_GetAttr(class, name);
    PyObject *method = function ? PyMethod_New(function, self) : NULL;
    PyObject *r = method ? PyObject_Vectorcall(method, args, (size_t)n, kwnames) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(function);
    return r;
}

static PyObject *
read_op(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t n, PyObject *kwnames, int kind)
{
    mod_state *st = type_state(class);
    if (state_gone(st))
        return NULL;
    struct tr_state *tr = &st->tr;
    Py_ssize_t size = -1;
    if (n == 1 && kwnames == NULL && PyLong_CheckExact(args[0])) {
        size = PyLong_AsSsize_t(args[0]);
        if (size == -1 && PyErr_Occurred())
            PyErr_Clear();
    }
    if (size < 0 || !streams_stock(tr, kind == READ ? STOCK_READ : STOCK_READEXACTLY))
        return plain(tr->StreamReader, kind == READ ? tr->s_read : tr->s_readexactly, self, args, n, kwnames);
    readop *op = (readop *)tr->spare_read;
    if (op != NULL) {
        tr->spare_read = NULL;
        PyObject_Init((PyObject *)op, (PyTypeObject *)tr->ReadType);
    } else if ((op = PyObject_GC_New(readop, (PyTypeObject *)tr->ReadType)) == NULL) {
        return NULL;
    }
    op->st = st;
    op->record = stream_record_of(tr, self);
    op->reader = Py_NewRef(self);
    op->waiter = NULL;
    op->l = NULL;
#ifdef Py_GIL_DISABLED
    op->own = (own_word){0};
#endif
    op->n = size;
    op->kind = (uint8_t)kind;
    op->state = NEW;
    PyObject_GC_Track(op);
    if (op->record == NULL)
        Py_CLEAR(op);
    return (PyObject *)op;
}

static PyObject *
reader_read(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    return read_op(self, class, args, n, kwnames, READ);
}

static PyObject *
reader_readexactly(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    return read_op(self, class, args, n, kwnames, READ_EXACTLY);
}

static PyObject *
writer_write(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    mod_state *st = type_state(class);
    if (state_gone(st))
        return NULL;
    struct tr_state *tr = &st->tr;
    if (n != 1 || kwnames != NULL || !streams_stock(tr, STOCK_WRITE))
        return plain(tr->StreamWriter, tr->s_write, self, args, n, kwnames);
    PyObject *fields = PyObject_GenericGetDict(self, NULL), *r = NULL;
    PyObject *transport = fields ? FIELD_KEEP(field(fields, tr->s_transport)) : NULL;
    Py_XDECREF(fields);
    if (transport != NULL)
        r = PyObject_TypeCheck(transport, (PyTypeObject *)tr->StreamType)
                ? tr_write((trobj *)transport, args[0])
                : PyObject_CallMethodOneArg(transport, tr->s_write, args[0]);
    Py_XDECREF(transport);
    return r;
}

/* drain() has nothing to wait for, most of the time. */
static PyObject *
writer_drain(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    mod_state *st = type_state(class);
    if (state_gone(st))
        return NULL;
    struct tr_state *tr = &st->tr;
    bool short_way = n == 0 && kwnames == NULL && streams_stock(tr, STOCK_DRAIN);
    PyObject *fields = short_way ? PyObject_GenericGetDict(self, NULL) : NULL;
    PyObject *transport = fields ? field(fields, tr->s_transport) : NULL;
    bool ready = false;
    if (transport != NULL && PyObject_TypeCheck(transport, (PyTypeObject *)tr->StreamType)) {
        trobj *t = (trobj *)transport;
        PyObject *reader = field(fields, tr->s_reader), *exc = NULL;
        if (reader != NULL && (PyObject *)Py_TYPE(reader) == tr->OurReader) {
            stream_record *record = stream_record_of(tr, reader);
            exc = record ? record_get(record, FIELD_EXCEPTION) : NULL;
            Py_XDECREF(record);
        }
        FIELD_DONE(exc); /* these are only compared */
        FIELD_DONE(reader);
        ready = !t->closing && !t->conn_lost && !t->protocol_paused && (exc == Py_None || reader == Py_None);
    }
    FIELD_DONE(transport);
    Py_XDECREF(fields);
    if (ready)
        return Py_NewRef(tr->ready);
    PyErr_Clear();
    return plain(tr->StreamWriter, tr->s_drain, self, args, n, kwnames);
}

/* Bases of the classes, so that these are descriptors of methods, which the interpreter
 * calls without a bound method in between. */
#define METHOD(name, function, doc)                                                        \
    {name, (PyCFunction)(void (*)(void))function, METH_METHOD | METH_FASTCALL | METH_KEYWORDS, doc}

static PyMethodDef reader_methods[] = {
    METHOD("read", reader_read, "read(n=-1): up to n bytes, as soon as there are any; all when n is -1."),
    METHOD("readexactly", reader_readexactly, "readexactly(n): n bytes; IncompleteReadError."),
    {NULL, NULL, 0, NULL},
};

static PyMethodDef writer_methods[] = {
    METHOD("write", writer_write, "write(data): sends it, or queues what cannot be sent at once."),
    METHOD("drain", writer_drain, "drain(): waits until the queue has room."),
    {NULL, NULL, 0, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, "Methods and fields of StreamReader (internal)."},
    {Py_tp_methods, reader_methods},
    {Py_tp_getset, stream_record_fields},
    {0, NULL},
};

static PyType_Slot writer_slots[] = {
    {Py_tp_doc, "Methods of StreamWriter (internal)."},
    {Py_tp_methods, writer_methods},
    {0, NULL},
};

static PyType_Spec methods_of_reader = {
    .name = "treadle._treadle._ReaderMethods",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = reader_slots,
};

static PyType_Spec methods_of_writer = {
    .name = "treadle._treadle._WriterMethods",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = writer_slots,
};

/* Adds a type to the module under the name that follows the module's. 0, or -1. */
static int
add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = type_make(module, spec, NULL);
    int rc = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return rc;
}

/* _streams_use(reader class, prepare): prepare(protocol) is called for a connection whose
 * protocol is asyncio's for streams. */
PyObject *
streams_use(PyObject *module, PyObject *args)
{
    struct tr_state *tr = &state_of(module)->tr;
    PyObject *reader, *prepare;
    if (!PyArg_ParseTuple(args, "OO:_streams_use", &reader, &prepare))
        return NULL;
    Py_XSETREF(tr->OurReader, Py_NewRef(reader));
    Py_XSETREF(tr->prepare_streams, Py_NewRef(prepare));
    Py_RETURN_NONE;
}

int
streams_setup(PyObject *module, mod_state *st)
{
    struct tr_state *tr = &st->tr;
    tr->ReadType = type_make(module, &read_spec, NULL);
    tr->ReadyType = type_make(module, &ready_spec, NULL);
    if (tr->ReadType == NULL || tr->ReadyType == NULL || stream_record_setup(module, tr) < 0 || stock_setup(tr) < 0 ||
        add_type(module, &methods_of_reader) < 0 || add_type(module, &methods_of_writer) < 0)
        return -1;
    tr->ready = PyObject_New(PyObject, (PyTypeObject *)tr->ReadyType);
    return tr->ready == NULL ? -1 : 0;
}
