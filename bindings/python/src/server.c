/* SPDX-License-Identifier: MIT
 *
 * _Server: connections that the core parks between requests; next() hands out one
 * with a request, park() takes it back. _server.py makes goroutines of them.
 *
 * Invariant. The core's server has its listeners' handles from the start; a Conn
 * that was parked has no core any more, and is as closed. */
#include "net.h"

typedef struct {
    PyObject_HEAD
    tdl_server *core;
} serverobj;

static bool
is_listener(mod_state *st, PyObject *object)
{
    return Py_TYPE(object) == st->ListenerType;
}

/* The handles of the listeners, from PyMem; NULL with an exception. */
static tdl_listener **
handles_of(mod_state *st, PyObject *listeners)
{
    Py_ssize_t n = PyTuple_GET_SIZE(listeners);
    tdl_listener **list = PyMem_New(tdl_listener *, n > 0 ? n : 1);
    if (list == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *l = PyTuple_GET_ITEM(listeners, i);
        if (!is_listener(st, l))
            PyErr_Format(PyExc_TypeError, "serve: a Listener is required, not %.100s", Py_TYPE(l)->tp_name);
        else if (((listenerobj *)l)->closed)
            raise_net(st, TDL_ECLOSED, "serve", l);
        else
            listener_keep_address((listenerobj *)l);
        if (PyErr_Occurred()) {
            PyMem_Free(list);
            return NULL;
        }
        list[i] = ((listenerobj *)l)->core;
    }
    return list;
}

static PyObject *
server_new(PyObject *module, PyObject *args)
{
    mod_state *st = state_of(module);
    PyObject *listeners, *idle;
    unsigned int most;
    tdl_server_options o = {.size = sizeof o};
    if (!PyArg_ParseTuple(args, "O!OI:_server", &PyTuple_Type, &listeners, &idle, &most))
        return NULL;
    if (idle != Py_None) {
        if (seconds_arg(idle, "idle_timeout", &o.idle_timeout) < 0)
            return NULL;
        if (o.idle_timeout <= 0)
            return PyErr_Format(PyExc_ValueError, "idle_timeout must be positive, or None");
        if (o.idle_timeout == TDL_FOREVER)
            o.idle_timeout = 0;
    }
    o.max_conns = most;
    if (host_get(st) == NULL)
        return NULL;
    tdl_listener **list = handles_of(st, listeners);
    if (list == NULL)
        return NULL;
    serverobj *self = (serverobj *)st->ServerType->tp_alloc(st->ServerType, 0);
    int rc = self == NULL ? TDL_ENOMEM
                          : tdl_server_new(list, (int)PyTuple_GET_SIZE(listeners), &o, &self->core);
    PyMem_Free(list);
    if (self == NULL)
        return NULL;
    if (rc < 0) {
        Py_DECREF(self);
        return raise_code(st, rc, "serve");
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(listeners); i++) {
        listenerobj *l = (listenerobj *)PyTuple_GET_ITEM(listeners, i);
        l->core = NULL;
        l->closed = true;
    }
    return (PyObject *)self;
}

/* -- Operations ------------------------------------------------------------- */

static int32_t
start_next(callobj *Py_UNUSED(k), opobj *op, pyhost *h, uint32_t task)
{
    return tdl_server_next_start(h->core, task, ((serverobj *)op->target)->core, TDL_FOREVER);
}

static PyObject *
next_result(callobj *Py_UNUSED(k), opobj *op, uint32_t task, int32_t Py_UNUSED(code))
{
    tdl_val *v = &op->host->out[task].val;
    tdl_conn *c = v->u.p;
    tdl_val_set_nil(v);
    return conn_wrap(STATE(op), c);
}

const call_kind server_next_kind = {"serve", start_next, next_result, false};

static PyObject *
server_next(PyObject *s, PyObject *Py_UNUSED(ignored))
{
    return call_op(STATE(s), s, call_new(STATE(s), &server_next_kind));
}

static int32_t
start_shutdown(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    return tdl_server_shutdown_start(h->core, task, ((serverobj *)op->target)->core, (int64_t)k->n);
}

static const call_kind shutdown_kind = {"shutdown", start_shutdown, call_nothing, false};

static PyObject *
server_shutdown(PyObject *s, PyObject *when)
{
    int64_t ns = TDL_FOREVER;
    if (when != Py_None && deadline_arg(when, &ns) < 0)
        return NULL;
    callobj *k = call_new(STATE(s), &shutdown_kind);
    if (k != NULL)
        k->n = (Py_ssize_t)ns;
    return call_op(STATE(s), s, k);
}

static PyObject *
server_park(PyObject *Py_UNUSED(s), PyObject *object)
{
    if (!conn_check(object))
        return PyErr_Format(PyExc_TypeError, "park: a Conn is required, not %.100s", Py_TYPE(object)->tp_name);
    connobj *c = (connobj *)object;
    Py_BEGIN_CRITICAL_SECTION(c);
    if (!c->closed && c->core != NULL && tdl_server_park(c->core) == 0) {
        c->core = NULL;
        c->closed = true;
    }
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

static PyObject *
server_close(serverobj *s, PyObject *Py_UNUSED(ignored))
{
    tdl_server_close(s->core);
    THREAD_KICK(STATE(s));
    Py_RETURN_NONE;
}

static PyObject *
server_stats(serverobj *s, PyObject *Py_UNUSED(ignored))
{
    long long n[5];
    for (int i = 0; i < 5; i++)
        n[i] = (long long)tdl_server_stat(s->core, i);
    return Py_BuildValue("LLLLL", n[0], n[1], n[2], n[3], n[4]);
}

static void
server_dealloc(serverobj *s)
{
    PyTypeObject *type = Py_TYPE(s);
    PyObject_GC_UnTrack(s);
    tdl_server_free(s->core);
    type->tp_free(s);
    Py_DECREF(type);
}

static PyMethodDef server_methods[] = {
    {"next", server_next, METH_NOARGS, "await next() -> Conn: one with a request; treadle.Closed after shutdown."},
    {"park", server_park, METH_O, "park(conn): the request is done."},
    {"shutdown", server_shutdown, METH_O, "await shutdown(when): TimeoutError where some had to be closed."},
    {"close", (PyCFunction)server_close, METH_NOARGS, "Closes everything."},
    {"stats", (PyCFunction)server_stats, METH_NOARGS, "(conns, busy, accepted, timeouts, starved)"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot server_slots[] = {
    {Py_tp_dealloc, server_dealloc},
    {Py_tp_traverse, type_traverse},
    {Py_tp_methods, server_methods},
    {0, NULL},
};

PyType_Spec server_spec = {
    .name = "treadle._Server",
    .basicsize = sizeof(serverobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = server_slots,
};

PyMethodDef server_functions[] = {
    {"_server", server_new, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
