/* SPDX-License-Identifier: MIT
 *
 * What asyncio's StreamReader and StreamWriter do most, without a coroutine of
 * Python: read, readexactly, readuntil and readline of a reader (stream_read.c), write
 * and drain of a writer. The classes that have these methods (treadle/_streams.py) are
 * put over a connection's own when it gets a transport of ours, but not in debug mode.
 * For everything that is not the usual case, asyncio's method is called. */
#include "stream_read.h"
#include "transport.h"

/* -- Is it asyncio's own method? ------------------------------------------- */

static PyObject *
stock_name(struct tr_state *tr, int which)
{
    PyObject *const names[] = {tr->s_feed_data, tr->s_read,  tr->s_readexactly, tr->s_readuntil,
                               tr->s_readline,  tr->s_write, tr->s_drain,       tr->s_data_received};
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

PyObject *
streams_plain(PyObject *class, PyObject *name, PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    PyObject *function = PyObject_GetAttr(class, name);
    PyObject *method = function ? PyMethod_New(function, self) : NULL;
    PyObject *r = method ? PyObject_Vectorcall(method, args, (size_t)n, kwnames) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(function);
    return r;
}

static PyObject *
reader_read_n(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t n, PyObject *kwnames, bool exactly)
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
    if (size < 0 || !streams_stock(tr, exactly ? STOCK_READEXACTLY : STOCK_READ))
        return streams_plain(tr->StreamReader, exactly ? tr->s_readexactly : tr->s_read, self, args, n, kwnames);
    return stream_read_new(st, self, exactly ? READ_EXACTLY : READ, size, NULL);
}

static PyObject *
reader_read(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    return reader_read_n(self, class, args, n, kwnames, false);
}

static PyObject *
reader_readexactly(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    return reader_read_n(self, class, args, n, kwnames, true);
}

static PyObject *
reader_readuntil(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    mod_state *st = type_state(class);
    if (state_gone(st))
        return NULL;
    struct tr_state *tr = &st->tr;
    bool usual = kwnames == NULL && n == 1 && PyBytes_CheckExact(args[0]) && PyBytes_GET_SIZE(args[0]) > 0;
    if (!usual || !streams_stock(tr, STOCK_READUNTIL))
        return streams_plain(tr->StreamReader, tr->s_readuntil, self, args, n, kwnames);
    return stream_read_new(st, self, READ_UNTIL, -1, args[0]);
}

/* asyncio's calls readuntil, which may be the program's. */
static int
has_own_readuntil(struct tr_state *tr, PyObject *self)
{
    PyObject *dict = PyObject_GenericGetDict(self, NULL);
    int has = dict == NULL ? -1 : PyDict_GET_SIZE(dict) > 1 ? PyDict_Contains(dict, tr->s_readuntil) : 0;
    Py_XDECREF(dict);
    return has;
}

static PyObject *
reader_readline(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    mod_state *st = type_state(class);
    if (state_gone(st))
        return NULL;
    struct tr_state *tr = &st->tr;
    bool usual = n == 0 && kwnames == NULL && streams_stock(tr, STOCK_READLINE) && streams_stock(tr, STOCK_READUNTIL);
    int own = usual ? has_own_readuntil(tr, self) : 1;
    if (own < 0)
        return NULL;
    if (own)
        return streams_plain(tr->StreamReader, tr->s_readline, self, args, n, kwnames);
    return stream_read_new(st, self, READ_LINE, -1, NULL);
}

static PyObject *
writer_write(PyObject *self, PyTypeObject *class, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    mod_state *st = type_state(class);
    if (state_gone(st))
        return NULL;
    struct tr_state *tr = &st->tr;
    if (n != 1 || kwnames != NULL || !streams_stock(tr, STOCK_WRITE))
        return streams_plain(tr->StreamWriter, tr->s_write, self, args, n, kwnames);
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
    return streams_plain(tr->StreamWriter, tr->s_drain, self, args, n, kwnames);
}

/* Bases of the classes, so that these are descriptors of methods, which the interpreter
 * calls without a bound method in between. */
#define METHOD(name, function, doc)                                                        \
    {name, (PyCFunction)(void (*)(void))function, METH_METHOD | METH_FASTCALL | METH_KEYWORDS, doc}

static PyMethodDef reader_methods[] = {
    METHOD("read", reader_read, "read(n=-1): up to n bytes, as soon as there are any; all when n is -1."),
    METHOD("readline", reader_readline, "readline(): up to a newline and with it; what is left, at the end."),
    METHOD("readuntil", reader_readuntil, "readuntil(separator=b'\\n'): up to it and with it; IncompleteReadError, LimitOverrunError."),
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
    tr->ReadyType = type_make(module, &ready_spec, NULL);
    if (tr->ReadyType == NULL || stream_record_setup(module, tr) < 0 || stream_read_setup(module, st) < 0 || stock_setup(tr) < 0 ||
        add_type(module, &methods_of_reader) < 0 || add_type(module, &methods_of_writer) < 0)
        return -1;
    tr->ready = PyObject_New(PyObject, (PyTypeObject *)tr->ReadyType);
    return tr->ready == NULL ? -1 : 0;
}
