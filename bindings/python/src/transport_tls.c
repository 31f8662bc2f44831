/* SPDX-License-Identifier: MIT
 *
 * TLS: the fields of asyncio's SSLProtocol in C, and what it does for each read
 * and write once the handshake is over. Everything else (handshake, shutdown,
 * errors, buffered protocols) is asyncio's own code, which finds its fields here
 * under their names; its methods are called wherever this file has no short cut.
 *
 * The encryption is the ssl module's: its objects are called directly, without
 * the classes of ssl.py in between.
 *
 * Invariants. `raw` and the methods are set together, on first use, and only for
 * an ssl.SSLObject itself. Who has read from `raw` copies what lies in the
 * loop's `tls_room` before any other Python code runs. */
#include "transport.h"
#include "structmember.h"

#define ROOM (16 * 1024) /* a record's data */

typedef struct {
    PyObject_HEAD
    PyObject *state, *sslobj, *incoming, *outgoing, *transport, *app_protocol, *backlog;
    PyObject *raw, *raw_read, *raw_write, *raw_pending, *in_write, *out_read;
    PyObject *on_data; /* app_protocol.data_received, or with a record, weak, its reader; NULL: not bound yet */
    PyObject *record;  /* the reader's (reader_find), or NULL */
    Py_ssize_t buffered, out_high, in_high;
    char reading_paused, is_buffer, ssl_writing_paused, app_writing_paused, ssl_reading_paused;
    bool plain; /* no short cuts for this SSL object */
} tlsobj;

bool
tls_check(mod_state *st, PyObject *protocol)
{
    return st->tr.TLSCoreType != NULL &&
           PyObject_TypeCheck(protocol, (PyTypeObject *)st->tr.TLSCoreType);
}

static bool
again(struct tr_state *tr)
{
    if (!PyErr_ExceptionMatches(tr->SSLWantRead) && !PyErr_ExceptionMatches(tr->SSLSyscall))
        return false;
    PyErr_Clear();
    return true;
}

/* asyncio's `except Exception`: 0 when it was reported so. */
static int
failed(struct tr_state *tr, tlsobj *s)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *r = PyObject_CallMethod((PyObject *)s, "_fatal_error", "Os", exc, "Fatal error on SSL protocol");
    Py_DECREF(exc);
    Py_XDECREF(r);
    (void)tr;
    return r == NULL ? -1 : 0;
}

static int
call(tlsobj *s, PyObject *name)
{
    PyObject *r = PyObject_CallMethodNoArgs((PyObject *)s, name);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

/* Finds the methods. 1: there are short cuts, 0: none, -1: exception. */
static int
prepare(struct tr_state *tr, tlsobj *s)
{
    if (s->raw_read != NULL)
        return 1;
    if (s->plain || s->sslobj == NULL || s->incoming == NULL || s->outgoing == NULL)
        return 0;
    if ((PyObject *)Py_TYPE(s->sslobj) != tr->SSLObject || tr->tls_size == NULL) {
        s->plain = true;
        return 0;
    }
    Py_XSETREF(s->raw, PyObject_GetAttrString(s->sslobj, "_sslobj"));
    struct { PyObject *of; const char *name; PyObject **to; } methods[] = {
        {s->raw, "pending", &s->raw_pending}, {s->raw, "write", &s->raw_write},
        {s->incoming, "write", &s->in_write}, {s->outgoing, "read", &s->out_read},
        {s->raw, "read", &s->raw_read},
    };
    if (s->raw == NULL)
        return -1;
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        Py_XSETREF(*methods[i].to, PyObject_GetAttrString(methods[i].of, methods[i].name));
        if (*methods[i].to == NULL)
            return -1;
    }
    return 1;
}

static Py_ssize_t
number(PyObject *value)
{
    if (value == NULL)
        return -1;
    Py_ssize_t n = PyLong_AsSsize_t(value);
    Py_DECREF(value);
    return n;
}

/* -- Reading --------------------------------------------------------------- */

/* Finds out how data is handed over. 0, or -1 with an exception. */
static int
bind_app(struct tr_state *tr, tlsobj *s)
{
    int found = s->on_data != NULL ? 1 : reader_find(tr, s->app_protocol, &s->on_data, &s->record);
    if (found == 0)
        s->on_data = PyObject_GetAttr(s->app_protocol, tr->s_data_received);
    return found < 0 || s->on_data == NULL ? -1 : 0;
}

static int
deliver(tlsobj *s, const char *data, Py_ssize_t n)
{
    PyObject *bytes = PyBytes_FromStringAndSize(data, n);
    PyObject *on_data = Py_NewRef(s->on_data);
    PyObject *r = bytes ? PyObject_CallOneArg(on_data, bytes) : NULL;
    Py_DECREF(on_data);
    Py_XDECREF(bytes);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

/* More than a record came: all that can be had is handed over as one. */
static int
deliver_more(tlsobj *s, PyObject *all)
{
    int rc = PyByteArray_GET_SIZE(all) == 0
                 ? 0 : deliver(s, PyByteArray_AS_STRING(all), PyByteArray_GET_SIZE(all));
    Py_DECREF(all);
    return rc;
}

/* What _do_read__copied does. *closed: the peer has said that it ends. */
static int
read_into(trobj *t, tlsobj *s, PyObject *room, bool *closed)
{
    struct tr_state *tr = &t->st->tr;
    PyObject *all = NULL; /* a bytearray, from the second record on */
    if (bind_app(tr, s) < 0)
        return -1;
    bool stream = s->record != NULL;
    for (;;) {
        PyObject *args[2] = {tr->tls_size, room};
        PyObject *got = PyObject_Vectorcall(s->raw_read, args, 2, NULL);
        if (got == NULL) {
            if (!again(tr))
                goto error;
            break;
        }
        Py_ssize_t n = number(got);
        if (n < 0)
            goto error;
        if (n == 0) {
            *closed = true;
            break;
        }
        const char *data = PyByteArray_AS_STRING(room);
        if (stream) {
            if (reader_feed(t->l, s->app_protocol, s->on_data, s->record, data, n) < 0)
                goto error;
        } else if (all != NULL) {
            Py_ssize_t old = PyByteArray_GET_SIZE(all);
            if (PyByteArray_Resize(all, old + n) < 0)
                goto error;
            memcpy(PyByteArray_AS_STRING(all) + old, data, (size_t)n);
        }
        /* Is there more? Asking is cheaper than the exception that says no. */
        Py_ssize_t more = number(PyObject_CallNoArgs(s->raw_pending));
        if (more == 0)
            more = number(PyObject_GetAttr(s->incoming, tr->s_pending));
        if (more < 0)
            goto error;
        if (stream) {
            if (more == 0 || s->state != tr->tls_wrapped || s->reading_paused)
                return 0;
        } else if (all == NULL) {
            if (more == 0)
                return deliver(s, data, n);
            if ((all = PyByteArray_FromStringAndSize(data, n)) == NULL)
                goto error;
        } else if (more == 0) {
            break;
        }
    }
    return all != NULL ? deliver_more(s, all) : 0;
error:
    if (all != NULL && PyByteArray_GET_SIZE(all) > 0) { /* as asyncio: the error wins */
        Py_DECREF(all);
        return -1;
    }
    Py_XDECREF(all);
    return -1;
}

static int
read_records(trobj *t, tlsobj *s, bool *closed)
{
    ploop *l = t->l; /* which lives as long as it runs this */
    if (l->tls_room == NULL && (l->tls_room = PyByteArray_FromStringAndSize(NULL, ROOM)) == NULL)
        return -1;
    return read_into(t, s, l->tls_room, closed);
}

/* What _do_read does beyond reading. */
static int
after_records(struct tr_state *tr, tlsobj *s, bool closed)
{
    if (closed && (call(s, tr->s_call_eof) < 0 || call(s, tr->s_start_shutdown) < 0))
        return -1;
    if (s->backlog != NULL && PyObject_Size(s->backlog) > 0) {
        if (call(s, tr->s_do_write) < 0)
            return -1;
    } else {
        Py_ssize_t out = number(PyObject_GetAttr(s->outgoing, tr->s_pending));
        if (out < 0 || (out > 0 && call(s, tr->s_process_outgoing) < 0))
            return -1;
    }
    Py_ssize_t in = number(PyObject_GetAttr(s->incoming, tr->s_pending));
    if (in < 0)
        return -1;
    return in >= s->in_high || s->ssl_reading_paused ? call(s, tr->s_control_reading) : 0;
}

int
tls_feed(trobj *t, const char *data, Py_ssize_t n)
{
    struct tr_state *tr = &t->st->tr;
    tlsobj *s = (tlsobj *)t->protocol;
    int fast = prepare(tr, s);
    if (fast < 0)
        return -1;
    PyObject *bytes = PyBytes_FromStringAndSize(data, n);
    if (bytes == NULL)
        return -1;
    if (!fast) {
        PyObject *r = PyObject_CallMethodOneArg((PyObject *)s, tr->s_tls_received, bytes);
        Py_DECREF(bytes);
        Py_XDECREF(r);
        return r == NULL ? -1 : 0;
    }
    Py_INCREF(s);
    PyObject *r = PyObject_CallOneArg(s->in_write, bytes);
    Py_DECREF(bytes);
    Py_XDECREF(r);
    int rc = r == NULL ? -1 : 0;
    if (rc == 0) {
        if (s->state != tr->tls_wrapped || s->reading_paused || s->is_buffer || s->app_protocol == NULL) {
            rc = call(s, tr->s_tls_go_on);
        } else {
            bool closed = false;
            rc = read_records(t, s, &closed);
            /* Whoever read may have closed or lost the connection. */
            if (rc == 0 && s->transport != NULL && s->transport != Py_None)
                rc = after_records(tr, s, closed);
            if (rc < 0)
                rc = failed(tr, s);
        }
    }
    Py_DECREF(s);
    return rc;
}

/* -- Writing --------------------------------------------------------------- */

/* Encrypts all of data. 1: done, 0: not now (nothing of it is lost: *done bytes
 * are through), -1: exception. */
static int
encrypt(struct tr_state *tr, tlsobj *s, PyObject *data, Py_ssize_t size, Py_ssize_t *done)
{
    *done = 0;
    while (*done < size) {
        PyObject *part = *done == 0 ? Py_NewRef(data) : PyMemoryView_FromObject(data);
        if (part != NULL && *done > 0) {
            PyObject *from = PyLong_FromSsize_t(*done), *slice = from ? PySlice_New(from, NULL, NULL) : NULL;
            Py_SETREF(part, slice ? PyObject_GetItem(part, slice) : NULL);
            Py_XDECREF(from);
            Py_XDECREF(slice);
        }
        PyObject *r = part ? PyObject_CallOneArg(s->raw_write, part) : NULL;
        Py_XDECREF(part);
        if (r == NULL)
            return again(tr) ? 0 : -1;
        Py_ssize_t n = number(r);
        if (n < 0)
            return -1;
        *done += n;
    }
    return 1;
}

static int
send_out(struct tr_state *tr, mod_state *st, tlsobj *s)
{
    if (!s->ssl_writing_paused) {
        PyObject *out = PyObject_CallNoArgs(s->out_read);
        PyObject *r = NULL;
        PyObject *transport = Py_XNewRef(s->transport);
        if (out != NULL && transport != NULL && PyBytes_CheckExact(out) && PyBytes_GET_SIZE(out) > 0)
            r = PyObject_TypeCheck(transport, (PyTypeObject *)st->tr.StreamType)
                    ? tr_write((trobj *)transport, out)
                    : PyObject_CallMethodOneArg(transport, tr->s_write, out);
        else if (out != NULL)
            r = Py_NewRef(Py_None);
        Py_XDECREF(transport);
        Py_XDECREF(out);
        Py_XDECREF(r);
        if (r == NULL)
            return -1;
        if (!s->app_writing_paused && s->out_high > 0 && s->buffered == 0)
            return 0;
    }
    return call(s, tr->s_control_writing);
}

/* The transport's write(data), of a TLS transport (a Python class). */
static PyObject *
tls_write(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    mod_state *st = state_of(module);
    struct tr_state *tr = &st->tr;
    if (nargs != 2)
        return PyErr_Format(PyExc_TypeError, "write() takes exactly one argument (%zd given)", nargs - 1);
    PyObject *data = args[1];
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data))
        return PyErr_Format(PyExc_TypeError, "data: expecting a bytes-like instance, got %.200s",
                            _PyType_Name(Py_TYPE(data)));
    Py_ssize_t size = PyBytes_Check(data) ? PyBytes_GET_SIZE(data)
                      : PyByteArray_Check(data) ? PyByteArray_GET_SIZE(data)
                                                : PyMemoryView_GET_BUFFER(data)->len;
    if (size == 0)
        Py_RETURN_NONE;
    PyObject *protocol = PyObject_GetAttr(args[0], tr->s_ssl_protocol);
    if (protocol == NULL)
        return NULL;
    tlsobj *s = (tlsobj *)protocol;
    bool ours = tls_check(st, protocol);
    int rc = ours && s->state == tr->tls_wrapped && s->backlog != NULL &&
                     PyObject_Size(s->backlog) == 0
                 ? prepare(tr, s) : 0;
    PyObject *rest = NULL;
    if (rc > 0) {
        Py_ssize_t done;
        rc = encrypt(tr, s, data, size, &done);
        if (rc > 0)
            rc = send_out(tr, st, s) < 0 ? -1 : 1;
        else if (rc == 0 && done > 0)
            rest = PySequence_GetSlice(data, done, size);
        if (rc < 0)
            rc = failed(tr, s) < 0 ? -1 : 1;
    }
    if (rc == 0) {
        PyObject *list = PyTuple_Pack(1, rest ? rest : data);
        PyObject *r = list ? PyObject_CallMethodOneArg(protocol, tr->s_write_appdata, list) : NULL;
        Py_XDECREF(list);
        Py_XDECREF(r);
        rc = r == NULL ? -1 : 1;
    }
    Py_XDECREF(rest);
    Py_DECREF(protocol);
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* -- The type -------------------------------------------------------------- */

#define EACH_TLS_OBJECT(X)                                                                 \
    X(state) X(sslobj) X(incoming) X(outgoing) X(transport) X(app_protocol) X(backlog)     \
    X(raw) X(raw_read) X(raw_write) X(raw_pending) X(in_write) X(out_read) X(on_data) X(record)

static int
tls_traverse(tlsobj *s, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(s));
#define X(field) Py_VISIT(s->field);
    EACH_TLS_OBJECT(X)
#undef X
    return 0;
}

static int
tls_clear(tlsobj *s)
{
#define X(field) Py_CLEAR(s->field);
    EACH_TLS_OBJECT(X)
#undef X
    return 0;
}

static void
tls_dealloc(tlsobj *s)
{
    PyTypeObject *type = Py_TYPE(s);
    PyObject_GC_UnTrack(s);
    tls_clear(s);
    type->tp_free(s);
    Py_DECREF(type);
}

/* Another protocol: its method is looked up anew. */
static int
set_app_protocol(tlsobj *s, PyObject *value, void *Py_UNUSED(closure))
{
    Py_CLEAR(s->on_data);
    Py_CLEAR(s->record);
    own_put((PyObject *)s, &s->app_protocol, Py_XNewRef(value));
    return 0;
}

static PyObject *
get_app_protocol(tlsobj *s, void *Py_UNUSED(closure))
{
    PyObject *value;
    Py_BEGIN_CRITICAL_SECTION(s);
    value = Py_NewRef(s->app_protocol ? s->app_protocol : Py_None);
    Py_END_CRITICAL_SECTION();
    return value;
}

static PyGetSetDef tls_getset[] = {
    {"_app_protocol", (getter)get_app_protocol, (setter)set_app_protocol, NULL, NULL},
#ifdef Py_GIL_DISABLED
#define OBJECT(name, field) {name, own_field_get, own_field_set, NULL, (void *)offsetof(tlsobj, field)}
    OBJECT("_state", state),
    OBJECT("_sslobj", sslobj),
    OBJECT("_incoming", incoming),
    OBJECT("_outgoing", outgoing),
    OBJECT("_transport", transport),
    OBJECT("_write_backlog", backlog),
#endif
    {NULL, NULL, NULL, NULL, NULL},
};

#define FIELD(name, kind, field) {name, kind, offsetof(tlsobj, field), 0, NULL}

static PyMemberDef tls_members[] = {
#ifndef Py_GIL_DISABLED
    FIELD("_state", T_OBJECT, state),
    FIELD("_sslobj", T_OBJECT, sslobj),
    FIELD("_incoming", T_OBJECT, incoming),
    FIELD("_outgoing", T_OBJECT, outgoing),
    FIELD("_transport", T_OBJECT, transport),
    FIELD("_write_backlog", T_OBJECT, backlog),
#endif
    FIELD("_write_buffer_size", T_PYSSIZET, buffered),
    FIELD("_outgoing_high_water", T_PYSSIZET, out_high),
    FIELD("_incoming_high_water", T_PYSSIZET, in_high),
    FIELD("_app_reading_paused", T_BOOL, reading_paused),
    FIELD("_app_protocol_is_buffer", T_BOOL, is_buffer),
    FIELD("_ssl_writing_paused", T_BOOL, ssl_writing_paused),
    FIELD("_app_writing_paused", T_BOOL, app_writing_paused),
    FIELD("_ssl_reading_paused", T_BOOL, ssl_reading_paused),
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot tls_slots[] = {
    {Py_tp_doc, "The fields of a TLS protocol (internal)."},
    {Py_tp_dealloc, tls_dealloc},
    {Py_tp_traverse, tls_traverse},
    {Py_tp_clear, tls_clear},
    {Py_tp_members, tls_members},
    {Py_tp_getset, tls_getset},
    {0, NULL},
};

static PyType_Spec tls_spec = {
    .name = "treadle._treadle._TLSCore",
    .basicsize = sizeof(tlsobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = tls_slots,
};

static PyMethodDef tls_write_def = {
    "write", (PyCFunction)(void (*)(void))tls_write, METH_FASTCALL,
    "Sends data, encrypted; what cannot be sent at once is queued.",
};

/* _tls_use(SSLObject, SSLWantReadError, SSLSyscallError, state WRAPPED): what the
 * ssl module has; returns the method write of transports. */
PyObject *
tls_use(PyObject *module, PyObject *args)
{
    struct tr_state *tr = &state_of(module)->tr;
    PyObject *object, *want, *syscall, *wrapped;
    if (!PyArg_ParseTuple(args, "OOOO:_tls_use", &object, &want, &syscall, &wrapped))
        return NULL;
    Py_XSETREF(tr->SSLObject, Py_NewRef(object));
    Py_XSETREF(tr->SSLWantRead, Py_NewRef(want));
    Py_XSETREF(tr->SSLSyscall, Py_NewRef(syscall));
    Py_XSETREF(tr->tls_wrapped, Py_NewRef(wrapped));
    Py_XSETREF(tr->tls_size, PyLong_FromLong(ROOM));
    if (tr->tls_size == NULL)
        return NULL;
    PyObject *write = PyCFunction_New(&tls_write_def, module);
    PyObject *method = write ? PyInstanceMethod_New(write) : NULL;
    Py_XDECREF(write);
    return method;
}

int
tls_setup(PyObject *module, mod_state *st)
{
    st->tr.TLSCoreType = type_make(module, &tls_spec, NULL);
    if (st->tr.TLSCoreType == NULL)
        return -1;
    return PyModule_AddObjectRef(module, "_TLSCore", st->tr.TLSCoreType);
}
