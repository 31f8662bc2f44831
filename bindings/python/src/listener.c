/* SPDX-License-Identifier: MIT
 *
 * Listener, listen and dial. A listener's descriptor is watched by the poller
 * of the loop in which it was opened. */
#include "net.h"
#include <structmember.h>

PyObject *
net_listen(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"network", "address", "backlog", "reuseport", "keep_path", NULL};
    mod_state *st = state_of(module);
    const char *network, *address;
    int backlog = 0, reuseport = 0, keep_path = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ss|$ipp:listen", names, &network, &address, &backlog,
                                     &reuseport, &keep_path))
        return NULL;
    if (backlog < 0)
        return PyErr_Format(PyExc_ValueError, "the backlog cannot be %d", backlog);
    if (host_get(st) == NULL)
        return NULL;
    tdl_listen_options o = {.size = sizeof o, .backlog = (uint32_t)backlog};
    if (reuseport)
        o.flags |= TDL_LISTEN_REUSEPORT;
    if (keep_path)
        o.flags |= TDL_LISTEN_KEEP_PATH;
    tdl_listener *l;
    int rc = tdl_listen_opts(network, address, &o, &l);
    if (rc < 0)
        return raise_open(st, rc, "listen", network, address);
    listenerobj *self = (listenerobj *)st->ListenerType->tp_alloc(st->ListenerType, 0);
    if (self == NULL) {
        tdl_listener_free(l);
        return NULL;
    }
    self->core = l;
    return op_value(st, (PyObject *)self);
}

/* _adopt_listener(fd): a listener of this loop; the descriptor is its own from then on. */
PyObject *
net_adopt_listener(PyObject *module, PyObject *fd)
{
    mod_state *st = state_of(module);
    int number = PyLong_AsInt(fd);
    if ((number == -1 && PyErr_Occurred()) || host_get(st) == NULL)
        return NULL;
    listenerobj *self = (listenerobj *)st->ListenerType->tp_alloc(st->ListenerType, 0);
    if (self == NULL)
        return NULL;
    int rc = tdl_listener_adopt(number, &self->core);
    if (rc < 0) {
        self->core = NULL;
        Py_DECREF(self);
        return raise_code(st, rc, "adopt");
    }
    return (PyObject *)self;
}

PyObject *
net_dial(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"network", "address", "timeout", "local", "fallback_delay", NULL};
    mod_state *st = state_of(module);
    PyObject *network, *address, *timeout = Py_None, *local = Py_None, *delay = Py_None;
    int64_t ns = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UO|$OOO:dial", names, &network, &address, &timeout, &local,
                                     &delay))
        return NULL;
    if (timeout != Py_None) {
        if (seconds_arg(timeout, "timeout", &ns) < 0)
            return NULL;
        if (ns <= 0)
            ns = -1; /* expired; 0 would mean none */
        else if (ns == TDL_FOREVER)
            ns = 0;
    }
    if (!PyUnicode_Check(address) || local != Py_None || delay != Py_None)
        return dial_call(st, network, address, ns, local, delay);
    PyObject *pair = PyTuple_Pack(2, network, address);
    if (pair == NULL)
        return NULL;
    PyObject *op = (PyObject *)op_new(st, OP_DIAL, NULL, pair, ns);
    Py_DECREF(pair);
    return op;
}

/* -- Listener ------------------------------------------------------------ */

/* So that it can be asked for when the listener is a server's. -1: exception. */
int
listener_keep_address(listenerobj *l)
{
    char text[256];
    int rc = tdl_listener_address(l->core, text, sizeof text);
    if (rc < 0 || l->address != NULL)
        return 0;
    l->port = tdl_listener_port(l->core);
    l->address = PyUnicode_DecodeFSDefault(text);
    return l->address != NULL ? 0 : -1;
}

/* The first statement of what asks the core. */
#define TAKEN(l, verb)                                                                       \
    if (((listenerobj *)(l))->core == NULL)                                                  \
        return raise_net(STATE(l), TDL_ECLOSED, verb, (PyObject *)(l));

static PyObject *
listener_accept(PyObject *l, PyObject *Py_UNUSED(ignored))
{
    TAKEN(l, "accept")
    return (PyObject *)op_new(STATE(l), OP_ACCEPT, l, NULL, 0);
}

static PyObject *
listener_anext(PyObject *l)
{
    TAKEN(l, "accept")
    return (PyObject *)op_new(STATE(l), OP_ACCEPT_NEXT, l, NULL, 0);
}

static PyObject *
listener_close(listenerobj *l, PyObject *Py_UNUSED(ignored))
{
    if (!SEEN(l->closed)) {
        SHOW(l->closed, true);
        tdl_listener_close(l->core);
        THREAD_KICK(STATE(l));
    }
    Py_RETURN_NONE;
}

NET_TIME(listener_set_deadline, listenerobj, deadline_arg, tdl_listener_set_deadline)

NET_OPTIONS(listener, listenerobj)

static PyObject *
listener_fileno(listenerobj *l, PyObject *Py_UNUSED(ignored))
{
    TAKEN(l, "fileno")
    int fd = tdl_listener_fd(l->core);
    return fd < 0 ? raise_net(STATE(l), fd, "fileno", (PyObject *)l) : PyLong_FromLong(fd);
}

static PyObject *
listener_port(listenerobj *l, void *Py_UNUSED(closure))
{
    if (l->core == NULL && l->address != NULL)
        return PyLong_FromLong(l->port);
    int port = SEEN(l->closed) ? TDL_ECLOSED : tdl_listener_port(l->core);
    return port < 0 ? raise_net(STATE(l), port, "port", (PyObject *)l) : PyLong_FromLong(port);
}

static PyObject *
listener_address(listenerobj *l, void *Py_UNUSED(closure))
{
    char text[256];
    if (l->core == NULL && l->address != NULL)
        return Py_NewRef(l->address);
    int rc = tdl_listener_address(l->core, text, sizeof text);
    return rc < 0 ? raise_net(STATE(l), rc, "address", (PyObject *)l)
                  : PyUnicode_DecodeFSDefault(text);
}

static PyObject *
listener_closed(listenerobj *l, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(SEEN(l->closed));
}

static PyObject *
listener_aexit(listenerobj *l, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    return op_value(STATE(l), listener_close(l, NULL));
}

static PyObject *
listener_repr(listenerobj *l)
{
    char text[256];
    if (l->core == NULL && l->address != NULL)
        return PyUnicode_FromFormat("<Listener on %U, of a server>", l->address);
    if (SEEN(l->closed) || tdl_listener_address(l->core, text, sizeof text) < 0)
        return PyUnicode_FromString("<Listener closed>");
    return PyUnicode_FromFormat("<Listener on %s>", text);
}

static void
listener_finalize(listenerobj *l)
{
    if (l->core == NULL || l->closed || tdl_listener_port(l->core) < 0)
        return;
    warn_unclosed((PyObject *)l, "listener");
}

static void
listener_dealloc(listenerobj *l)
{
    PyTypeObject *type = Py_TYPE(l);
    if (PyObject_CallFinalizerFromDealloc((PyObject *)l) < 0)
        return;
    PyObject_GC_UnTrack(l);
    CLEAR_WEAKREFS(l);
    tdl_listener_free(l->core);
    Py_XDECREF(l->address);
    type->tp_free(l);
    Py_DECREF(type);
}

static PyMethodDef listener_methods[] = {
    {"accept", listener_accept, METH_NOARGS,
     "await accept() -> Conn\n\n"
     "treadle.Closed after close, TimeoutError past the deadline; OSError (EMFILE …) leaves\n"
     "the connection in the backlog, and the listener can be used on. A cancelled accept\n"
     "loses no connection."},
    {"close", (PyCFunction)listener_close, METH_NOARGS,
     "Closes; who waits in accept gets treadle.Closed, async for ends. May be repeated."},
    {"set_deadline", (PyCFunction)listener_set_deadline, METH_O,
     "set_deadline(when): accept raises TimeoutError from `when` on, on the clock of\n"
     "treadle.now(); None clears. A past deadline wins over a waiting connection."},
    {"option", (PyCFunction)listener_option, METH_O, "option(name): as Conn.option."},
    {"set_option", (PyCFunction)listener_set_option, METH_VARARGS, "set_option(name, value): as Conn.set_option."},
    {"fileno", (PyCFunction)listener_fileno, METH_NOARGS, "The descriptor, which stays the listener's."},
    {"__aenter__", op_self, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))listener_aexit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef listener_getset[] = {
    {"port", (getter)listener_port, NULL, "The port it is bound to (0: not a TCP address).", NULL},
    {"address", (getter)listener_address, NULL, "The address it is bound to, as text; a server's too.", NULL},
    {"closed", (getter)listener_closed, NULL, "Whether close was called, or a server has taken it.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef listener_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(listenerobj, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot listener_slots[] = {
    {Py_tp_doc, "A listening socket, from listen. async for accepts until it is closed;\n"
                "async with closes it."},
    {Py_tp_dealloc, listener_dealloc},
    {Py_tp_finalize, listener_finalize},
    {Py_tp_traverse, type_traverse},
    {Py_tp_repr, listener_repr},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, listener_anext},
    {Py_tp_methods, listener_methods},
    {Py_tp_members, listener_members},
    {Py_tp_getset, listener_getset},
    {0, NULL},
};

PyType_Spec listener_spec = {
    .name = "treadle.Listener",
    .basicsize = sizeof(listenerobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = listener_slots,
};
