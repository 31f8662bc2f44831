/* SPDX-License-Identifier: MIT
 *
 * What all transports in C have: the protocol, life from _setup to connection_lost, reading
 * on and off; and the types. See transport.h for the invariants. */
#include "transport.h"
#include "structmember.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* -- The protocol ---------------------------------------------------------- */

static void
tr_drop_callbacks(trobj *t)
{
    t->mode = TR_PLAIN;
    Py_CLEAR(t->on_data);
    Py_CLEAR(t->on_updated);
}

/* What a protocol lacks is told when it is called for. */
static int
bind_method(PyObject *protocol, PyObject *name, PyObject **field)
{
    *field = PyObject_GetAttr(protocol, name);
    if (*field != NULL)
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_AttributeError))
        return -1;
    PyErr_Clear();
    return 0;
}

static PyObject *
tr_set_protocol(trobj *t, PyObject *protocol)
{
    struct tr_state *tr = &t->st->tr;
    own_put((PyObject *)t, &t->protocol, Py_NewRef(protocol));
    t->connected = 1;
    tr_drop_callbacks(t);
    if (tr->BufferedProtocol == NULL) /* the interpreter ends */
        Py_RETURN_NONE;
    int buffered = t->is_dgram || t->is_pipe ? 0 : PyObject_IsInstance(protocol, tr->BufferedProtocol);
    if (buffered < 0)
        return NULL;
    int rc;
    if (buffered && tls_check(t->st, protocol)) {
        t->mode = TR_TLS;
        rc = 0;
    } else if (buffered) {
        t->mode = TR_BUFFERED;
        rc = bind_method(protocol, tr->s_get_buffer, &t->on_data);
        if (rc == 0)
            rc = bind_method(protocol, tr->s_buffer_updated, &t->on_updated);
    } else {
        if ((PyObject *)Py_TYPE(protocol) == tr->StreamReaderProtocol && !t->is_dgram) {
            t->mode = TR_STREAM;
            if (tr->prepare_streams != NULL && !t->l->debug) {
                PyObject *r = PyObject_CallOneArg(tr->prepare_streams, protocol);
                Py_XDECREF(r);
                if (r == NULL)
                    return NULL;
            }
        }
        rc = bind_method(protocol, t->is_dgram ? tr->s_datagram_received : tr->s_data_received, &t->on_data);
    }
    if (rc < 0)
        return NULL;
    PyObject *call = t->on_data;
    if (t->mode == TR_STREAM && !(call != NULL && PyMethod_Check(call) && streams_stock(tr, STOCK_RECEIVED) &&
                                  PyMethod_GET_FUNCTION(call) == tr->stock[STOCK_RECEIVED]))
        t->mode = TR_PLAIN; /* it has another data_received */
    if (t->mode == TR_STREAM) {
        rc = reader_find(tr, protocol, &t->on_data, &t->on_updated);
        if (rc < 0)
            return NULL;
        if (rc == 0)
            t->mode = TR_PLAIN;
    }
    Py_RETURN_NONE;
}

static PyObject *
tr_set_protocol_method(trobj *t, PyObject *args, PyObject *kwargs)
{
    OWN(TR_OWN(t), NULL);
    static char *names[] = {"protocol", NULL};
    PyObject *protocol;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:set_protocol", names, &protocol))
        return NULL;
    return tr_set_protocol(t, protocol);
}

static PyObject *
tr_get_protocol(trobj *t, PyObject *Py_UNUSED(ignored))
{
    OWN(TR_OWN(t), NULL);
    return Py_NewRef(t->protocol ? t->protocol : Py_None);
}

/* -- Life ------------------------------------------------------------------ */

/* _setup(loop, sock, fd, protocol, extra, check_empty) */
static PyObject *
tr_setup(trobj *t, PyObject *args)
{
    OWN(TR_OWN(t), NULL);
    PyObject *loop, *sock, *protocol, *extra, *context = Py_None;
    int fd, check_empty;
    if (!PyArg_ParseTuple(args, "OOiOOp|O:_setup", &loop, &sock, &fd, &protocol, &extra, &check_empty, &context))
        return NULL;
    if (context != Py_None && !PyContext_CheckExact(context))
        return PyErr_Format(PyExc_TypeError, "context must be a contextvars.Context");
    if (t->loop != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the transport was set up already");
        return NULL;
    }
    t->l = ploop_of(t->st, loop);
    if (t->l == NULL) {
        PyErr_Format(PyExc_TypeError, "a treadle loop is needed, not %.100s", Py_TYPE(loop)->tp_name);
        return NULL;
    }
    t->context = context == Py_None ? PyContext_CopyCurrent() : Py_NewRef(context);
    if (t->context == NULL)
        return NULL;
    own_put((PyObject *)t, &t->loop, Py_NewRef(loop));
#ifdef Py_GIL_DISABLED
    t->home = (ploop *)Py_NewRef(loop);
#endif
    own_put((PyObject *)t, &t->sock, Py_NewRef(sock));
    Py_XSETREF(t->extra, Py_NewRef(extra));
    t->fd.fd = fd;
    t->check_empty = check_empty;
    return tr_set_protocol(t, protocol);
}

static int
attach(trobj *t)
{
    int rc = ploop_fd_add(t->l, &t->fd);
    if (rc < 0 && errno == EEXIST && t->is_pipe && !t->owns_fd) {
        int fd = fcntl(t->fd.fd, F_DUPFD_CLOEXEC, 3);
        if (fd >= 0) {
            t->fd.fd = fd;
            t->owns_fd = true;
            rc = ploop_fd_add(t->l, &t->fd);
        }
    }
    if (rc < 0 && errno == EPERM && t->is_pipe) { /* it is always ready */
        t->readable = true;
        ploop_later_add(t->l, &t->again);
        rc = 0;
    }
    if (rc < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    t->attached = true;
    return PySet_Add(t->l->live, (PyObject *)t);
}

static void
detach(trobj *t)
{
    ploop_later_cancel(&t->again);
    if (t->attached) {
        t->attached = false;
        ploop_fd_del(&t->fd);
    }
    if (t->owns_fd) {
        t->owns_fd = false;
        close(t->fd.fd);
        t->fd.fd = -1;
    }
}

/* The first turn after connection_made: the loop listens from here on. */
static PyObject *
tr_started(trobj *t, PyObject *waiter)
{
    OWN(TR_OWN(t), NULL);
    struct tr_state *tr = &t->st->tr;
    if (t->l != NULL && !t->conn_lost && !t->attached && attach(t) < 0)
        tr_fatal(t, t->is_pipe ? "Fatal read error on pipe transport" : "Fatal read error on socket transport");
    if (waiter != Py_None) {
        PyObject *over = PyObject_CallMethodNoArgs(waiter, tr->s_cancelled);
        if (over == NULL)
            return NULL;
        int is = PyObject_IsTrue(over);
        Py_DECREF(over);
        if (is < 0)
            return NULL;
        if (!is)
            return PyObject_CallMethodOneArg(waiter, tr->s_set_result, Py_None);
    }
    Py_RETURN_NONE;
}

/* For a time another one uses the descriptor with the loop: sendfile. */
static PyObject *
tr_detach(trobj *t, PyObject *Py_UNUSED(ignored))
{
    OWN(TR_OWN(t), NULL);
    detach(t);
    Py_RETURN_NONE;
}

static PyObject *
tr_attach(trobj *t, PyObject *Py_UNUSED(ignored))
{
    OWN(TR_OWN(t), NULL);
    if (t->l != NULL && !t->conn_lost && !t->attached && attach(t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static void
release(trobj *t)
{
    detach(t);
    if (t->l != NULL && t->l->live != NULL) {
        PyObject *exc = PyErr_GetRaisedException();
        if (PySet_Discard(t->l->live, (PyObject *)t) < 0)
            PyErr_Clear();
        PyErr_SetRaisedException(exc);
    }
    t->l = NULL;
    tr_queue_clear(t);
    tr_drop_callbacks(t);
    own_put((PyObject *)t, &t->protocol, NULL);
    own_put((PyObject *)t, &t->loop, NULL);
}

static PyObject *
tr_release(trobj *t, PyObject *Py_UNUSED(ignored))
{
    OWN(TR_OWN(t), NULL);
    release(t);
    Py_RETURN_NONE;
}

static int
tr_lost_soon(trobj *t, PyObject *exc)
{
    t->conn_lost++;
    if (t->l == NULL)
        return 0;
    PyObject *callback = PyObject_GetAttr((PyObject *)t, t->st->tr.s_lost);
    if (callback == NULL)
        return -1;
    int rc = ploop_call_soon(t->l, callback, &exc, 1, t->context);
    Py_DECREF(callback);
    return rc;
}

PyObject *
tr_close(trobj *t, PyObject *Py_UNUSED(ignored))
{
    OWN(TR_OWN(t), NULL);
    if (!t->closing) {
        SHOW(t->closing, 1);
        ploop_later_cancel(&t->again);
        if (t->q_len == 0 && tr_lost_soon(t, Py_None) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
tr_force_close(trobj *t, PyObject *exc)
{
    OWN(TR_OWN(t), NULL);
    if (!t->conn_lost) {
        tr_queue_clear(t);
        SHOW(t->closing, 1);
        ploop_later_cancel(&t->again);
        if (tr_lost_soon(t, exc) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
tr_abort(trobj *t, PyObject *Py_UNUSED(ignored))
{
    OWN(TR_OWN(t), NULL);
    return tr_force_close(t, Py_None);
}

static PyObject *
tr_is_closing(trobj *t, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(SEEN(t->closing));
}

/* -- Reading on and off ---------------------------------------------------- */

static PyObject *
tr_is_reading(trobj *t, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(!SEEN(t->closing) && !SEEN(t->paused));
}

static PyObject *
log_debug(trobj *t, const char *text)
{
    if (t->l != NULL && t->l->debug)
        return PyObject_CallMethod((PyObject *)t, "_log_debug", "s", text);
    Py_RETURN_NONE;
}

static PyObject *
tr_pause_reading(trobj *t, PyObject *Py_UNUSED(ignored))
{
    OWN(TR_OWN(t), NULL);
    if (t->closing || t->paused)
        Py_RETURN_NONE;
    SHOW(t->paused, 1);
    ploop_later_cancel(&t->again);
    return log_debug(t, "%r pauses reading");
}

static PyObject *
tr_resume_reading(trobj *t, PyObject *Py_UNUSED(ignored))
{
    OWN(TR_OWN(t), NULL);
    if (t->closing || !t->paused)
        Py_RETURN_NONE;
    SHOW(t->paused, 0);
    if (t->readable && t->attached)
        ploop_later_add(t->l, &t->again);
    return log_debug(t, "%r resumes reading");
}

static PyObject *
tr_get_extra_info(trobj *t, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    PyObject *fallback = n > 1 ? args[1] : Py_None;
    Py_ssize_t nk = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    if (n == 1 && nk == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "default") == 0)
        fallback = args[1];
    else if (n < 1 || n > 2 || nk > 0)
        return PyErr_Format(PyExc_TypeError, "get_extra_info expects a name and perhaps a default");
    if (t->extra == NULL || !PyDict_Check(t->extra))
        return Py_NewRef(fallback);
    PyObject *value; /* any thread may ask: t->extra stays */
    if (dict_get(t->extra, args[0], &value) < 0)
        return NULL;
    return value != NULL ? value : Py_NewRef(fallback);
}

/* -- The types ------------------------------------------------------------- */

PyObject *
tr_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = PyType_GetModuleByDef(type, &treadle_module);
    if (module == NULL)
        return NULL;
    trobj *t = (trobj *)type->tp_alloc(type, 0);
    if (t == NULL)
        return NULL;
    t->module = Py_NewRef(module);
    t->st = state_of(module);
    t->fd.fd = -1;
    t->fd.cb = tr_event;
    t->again.cb = tr_again;
    t->high = 64 * 1024;
    t->low = 16 * 1024;
    return (PyObject *)t;
}

int
tr_traverse(trobj *t, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(t));
    Py_VISIT(t->extra);
    Py_VISIT(t->dict);
    Py_VISIT(t->module);
    Py_VISIT(t->loop);
#ifdef Py_GIL_DISABLED
    Py_VISIT(t->home);
#endif
    Py_VISIT(t->sock);
    Py_VISIT(t->protocol);
    Py_VISIT(t->server);
    Py_VISIT(t->context);
    Py_VISIT(t->empty_waiter);
    Py_VISIT(t->on_data);
    Py_VISIT(t->on_updated);
    return 0;
}

int
tr_clear(trobj *t)
{
    release(t);
    Py_CLEAR(t->extra);
    Py_CLEAR(t->dict);
    Py_CLEAR(t->sock);
    Py_CLEAR(t->server);
    Py_CLEAR(t->context);
    Py_CLEAR(t->empty_waiter);
    return 0;
}

void
tr_dealloc(trobj *t)
{
    PyTypeObject *type = Py_TYPE(t);
    PyObject_GC_UnTrack(t);
    CLEAR_WEAKREFS(t);
    tr_clear(t);
#ifdef Py_GIL_DISABLED
    Py_CLEAR(t->home);
#endif
    PyMem_Free(t->queue);
    Py_CLEAR(t->module);
    type->tp_free(t);
    Py_DECREF(type);
}

#define CALL(name, function, doc) {name, (PyCFunction)(void (*)(void))function, METH_NOARGS, doc}

static PyMethodDef transport_methods[] = {
    CALL("close", tr_close, "Closes the transport; what was written before is sent first."),
    CALL("abort", tr_abort, "Closes the transport at once."),
    CALL("is_closing", tr_is_closing, "Whether the transport is closed, or being closed."),
    CALL("is_reading", tr_is_reading, "Whether the transport receives."),
    CALL("pause_reading", tr_pause_reading, "No data is handed over until resume_reading."),
    CALL("resume_reading", tr_resume_reading, "Goes on after pause_reading."),
    {"set_protocol", (PyCFunction)(void (*)(void))tr_set_protocol_method, METH_VARARGS | METH_KEYWORDS,
     "set_protocol($self, /, protocol)\n--\n\nAnother protocol from here on."},
    CALL("get_protocol", tr_get_protocol, "The protocol."),
    {"set_write_buffer_limits", (PyCFunction)(void (*)(void))tr_set_limits,
     METH_VARARGS | METH_KEYWORDS, "The marks, in bytes, at which writing is paused and resumed."},
    CALL("get_write_buffer_limits", tr_get_limits, "(low, high)"),
    CALL("get_write_buffer_size", tr_get_size, "Bytes that wait to be sent."),
    {"get_extra_info", (PyCFunction)(void (*)(void))tr_get_extra_info, METH_FASTCALL | METH_KEYWORDS,
     "get_extra_info(name, default=None)"},
    {"_setup", (PyCFunction)tr_setup, METH_VARARGS, NULL},
    {"_started", (PyCFunction)tr_started, METH_O, NULL},
    CALL("_attach", tr_attach, NULL),
    CALL("_detach", tr_detach, NULL),
    CALL("_release", tr_release, NULL),
    CALL("_maybe_pause_protocol", tr_maybe_pause, NULL),
    CALL("_maybe_resume_protocol", tr_maybe_resume, NULL),
    {"_force_close", (PyCFunction)tr_force_close, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

#define FIELD(name, kind, field, flags) {name, kind, offsetof(trobj, field), flags, NULL}

static PyMemberDef transport_members[] = {
    FIELD("__dictoffset__", T_PYSSIZET, dict, READONLY),
    FIELD("__weaklistoffset__", T_PYSSIZET, weakrefs, READONLY),
    FIELD("_sock_fd", T_INT, fd.fd, READONLY),
#ifndef Py_GIL_DISABLED
    FIELD("_sock", T_OBJECT, sock, 0),
    FIELD("_loop", T_OBJECT, loop, READONLY),
    FIELD("_protocol", T_OBJECT, protocol, READONLY),
    FIELD("_server", T_OBJECT, server, 0),
    FIELD("_context", T_OBJECT, context, READONLY),
    FIELD("_empty_waiter", T_OBJECT, empty_waiter, 0),
#endif
    FIELD("_conn_lost", T_INT, conn_lost, 0),
    FIELD("_closing", T_BOOL, closing, 0),
    FIELD("_paused", T_BOOL, paused, READONLY),
    FIELD("_eof", T_BOOL, eof, READONLY),
    FIELD("_protocol_paused", T_BOOL, protocol_paused, READONLY),
    FIELD("_protocol_connected", T_BOOL, connected, 0),
    FIELD("_high_water", T_PYSSIZET, high, READONLY),
    FIELD("_low_water", T_PYSSIZET, low, READONLY),
    {NULL, 0, 0, 0, NULL},
};

#ifdef Py_GIL_DISABLED
/* Any thread looks; the loop's alone sets what C reads. */
static int
tr_field_set(PyObject *t, PyObject *value, void *closure)
{
    OWN(TR_OWN(t), -1);
    return own_field_set(t, value, closure);
}

#define OBJECT(name, field, set) {name, own_field_get, set, NULL, (void *)offsetof(trobj, field)}
static PyGetSetDef transport_getset[] = {
    OBJECT("_sock", sock, tr_field_set),
    OBJECT("_loop", loop, NULL),
    OBJECT("_protocol", protocol, NULL),
    OBJECT("_server", server, tr_field_set),
    OBJECT("_context", context, NULL),
    OBJECT("_empty_waiter", empty_waiter, tr_field_set),
    {NULL, NULL, NULL, NULL, NULL},
};
#endif

static PyType_Slot transport_slots[] = {
    {Py_tp_doc, "What transports have in C (internal)."},
    {Py_tp_new, tr_new},
    {Py_tp_dealloc, tr_dealloc},
    {Py_tp_traverse, tr_traverse},
    {Py_tp_clear, tr_clear},
    {Py_tp_methods, transport_methods},
    {Py_tp_members, transport_members},
#ifdef Py_GIL_DISABLED
    {Py_tp_getset, transport_getset},
#endif
    {0, NULL},
};

static PyType_Spec transport_spec = {
    .name = "treadle._treadle._Transport",
    .basicsize = sizeof(trobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = transport_slots,
};

/* -- Set-up ---------------------------------------------------------------- */

static PyObject *
imported(const char *module, const char *name)
{
    PyObject *m = PyImport_ImportModule(module);
    PyObject *value = m ? PyObject_GetAttrString(m, name) : NULL;
    Py_XDECREF(m);
    return value;
}

/* A class of its own under this base. NULL: exception. */
static PyObject *
add_type(PyObject *module, PyType_Spec *spec, PyObject *base, const char *name)
{
    PyObject *bases = PyTuple_Pack(1, base);
    PyObject *type = bases ? type_make(module, spec, bases) : NULL;
    Py_XDECREF(bases);
    if (type != NULL && PyModule_AddObjectRef(module, name, type) < 0)
        Py_CLEAR(type);
    return type;
}

int
transport_setup(PyObject *module, mod_state *st)
{
    struct tr_state *tr = &st->tr;
    struct { PyObject **field; const char *text; } names[] = {
#define X(field, text) {&tr->field, text},
        EACH_TR_NAME(X)
#undef X
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if ((*names[i].field = PyUnicode_InternFromString(names[i].text)) == NULL)
            return -1;
    tr->BufferedProtocol = imported("asyncio.protocols", "BufferedProtocol");
    tr->StreamReaderProtocol = imported("asyncio.streams", "StreamReaderProtocol");
    tr->StreamReader = imported("asyncio.streams", "StreamReader");
    tr->StreamWriter = imported("asyncio.streams", "StreamWriter");
    tr->minus_one = PyLong_FromLong(-1);
    PyObject *base = imported("asyncio.transports", "_FlowControlMixin");
    if (tr->BufferedProtocol == NULL || tr->StreamReaderProtocol == NULL || tr->StreamReader == NULL ||
        tr->StreamWriter == NULL || base == NULL) {
        Py_XDECREF(base);
        return -1;
    }
    /* Our struct goes on where asyncio's class ends: with its slots. */
    if (((PyTypeObject *)base)->tp_basicsize != (Py_ssize_t)offsetof(trobj, dict)) {
        Py_DECREF(base);
        PyErr_SetString(PyExc_ImportError, "asyncio.Transport has fields that treadle does not know");
        return -1;
    }
    tr->TransportType = add_type(module, &transport_spec, base, "_Transport");
    Py_DECREF(base);
    if (tr->TransportType == NULL)
        return -1;
    tr->StreamType = add_type(module, &stream_spec, tr->TransportType, "_StreamTransport");
    if (tr->StreamType == NULL)
        return -1;
    struct { PyType_Spec *spec; const char *name; } others[] = {
        {&dgram_transport_spec, "_DatagramTransport"},
        {&read_pipe_spec, "_ReadPipeTransport"},
        {&write_pipe_spec, "_WritePipeTransport"},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        PyObject *type = add_type(module, others[i].spec, tr->TransportType, others[i].name);
        if (type == NULL)
            return -1;
        Py_DECREF(type);
    }
    return tls_setup(module, st) < 0 ? -1 : streams_setup(module, st);
}

void
transport_free_names(mod_state *st)
{
    struct tr_state *tr = &st->tr;
#define X(field, text) Py_CLEAR(tr->field);
    EACH_TR_NAME(X)
#undef X
    Py_CLEAR(tr->minus_one);
    for (int i = 0; i < NSTOCK; i++)
        Py_CLEAR(tr->stock[i]);
}
