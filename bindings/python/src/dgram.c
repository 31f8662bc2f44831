/* SPDX-License-Identifier: MIT
 *
 * Dgram: a datagram socket, UDP or Unix. Receives go into a bytes object that
 * the op's call keeps; sends are copied by the core when they have to wait.
 *
 * Invariant. The handle owns the core's socket; an op that waits holds the
 * handle. close() only closes: the memory goes with the handle. */
#include "net.h"
#include <structmember.h>

#define LARGEST 65536 /* no datagram of the internet is longer */

/* As text, or None. */
static PyObject *
addr_text(const tdl_addr *a)
{
    char text[256];
    if (a->length == 0)
        Py_RETURN_NONE;
    tdl_addr_format(a, text, sizeof text);
    return PyUnicode_DecodeFSDefault(text);
}

/* -- Receiving ---------------------------------------------------------------- */

static int32_t
start_recv(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    if ((k->data = PyBytes_FromStringAndSize(NULL, k->n)) == NULL)
        return OP_ERROR;
    return tdl_dgram_recv_start(h->core, task, ((dgramobj *)op->target)->core, PyBytes_AS_STRING(k->data),
                                (size_t)k->n, &k->addr);
}

static PyObject *
raise_truncated(callobj *k, opobj *op, PyObject *address)
{
    mod_state *st = STATE(op);
    if (state_gone(st))
        return NULL;
    PyObject *exc = PyObject_CallFunction(st->Truncated, "is", EMSGSIZE,
                                          "the datagram was longer than the room for it");
    if (exc != NULL && (PyObject_SetAttrString(exc, "data", k->data) < 0 ||
                        PyObject_SetAttrString(exc, "address", address) < 0))
        Py_CLEAR(exc);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return NULL;
}

/* k->count: is the sender wanted? */
static PyObject *
recv_result(callobj *k, opobj *op, uint32_t Py_UNUSED(task), int32_t code)
{
    if (code >= 0 && _PyBytes_Resize(&k->data, code) < 0)
        return NULL;
    if (code >= 0 && !k->count)
        return Py_NewRef(k->data);
    PyObject *address = k->count ? addr_text(&k->addr) : Py_NewRef(Py_None), *result = NULL;
    if (address != NULL)
        result = code < 0 ? raise_truncated(k, op, address) : PyTuple_Pack(2, k->data, address);
    Py_XDECREF(address);
    return result;
}

static const call_kind recv_kind = {"recv", start_recv, recv_result, true};
static const call_kind recvfrom_kind = {"recvfrom", start_recv, recv_result, true};

static PyObject *
receive(PyObject *d, PyObject *args, const call_kind *kind, const char *format)
{
    Py_ssize_t n = LARGEST;
    if (!PyArg_ParseTuple(args, format, &n))
        return NULL;
    if (n < 0 || n > (1 << 30))
        return PyErr_Format(PyExc_ValueError, "%s: 0 to 2**30 bytes, not %zd", kind->name, n);
    callobj *k = call_new(STATE(d), kind);
    if (k == NULL)
        return NULL;
    k->n = n;
    k->count = kind == &recvfrom_kind;
    return call_op(STATE(d), d, k);
}

static PyObject *
dgram_recv(PyObject *d, PyObject *args)
{
    return receive(d, args, &recv_kind, "|n:recv");
}

static PyObject *
dgram_recvfrom(PyObject *d, PyObject *args)
{
    return receive(d, args, &recvfrom_kind, "|n:recvfrom");
}

/* -- Sending --------------------------------------------------------------------- */

static int32_t
start_send(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    Py_buffer buf;
    if (PyObject_GetBuffer(k->data, &buf, PyBUF_SIMPLE) < 0)
        return OP_ERROR;
    int32_t code = tdl_dgram_send_start(h->core, task, ((dgramobj *)op->target)->core, buf.buf,
                                        (size_t)buf.len, k->addr.length ? &k->addr : NULL);
    PyBuffer_Release(&buf);
    return code;
}

static const call_kind send_kind = {"send", start_send, call_nothing, false};
static const call_kind sendto_kind = {"sendto", start_send, call_nothing, false};

/* Parses where to send: 0, or -1 with an exception that has the address in it. */
static int
destination(dgramobj *d, callobj *k, PyObject *address)
{
    const char *text = text_arg(address, "the address");
    if (text == NULL)
        return -1;
    int code = tdl_addr_parse(&k->addr, d->network, text, 0);
    if (code < 0) {
        raise_open(STATE(d), code, k->kind->name, d->network, text);
        return -1;
    }
    k->where = Py_NewRef(address);
    return 0;
}

static PyObject *
dgram_sendto(PyObject *d, PyObject *args)
{
    PyObject *data, *address = NULL;
    if (!PyArg_ParseTuple(args, "OO:sendto", &data, &address))
        return NULL;
    if (!PyObject_CheckBuffer(data))
        return PyErr_Format(PyExc_TypeError, "sendto: a bytes-like object is required, not %.100s",
                            Py_TYPE(data)->tp_name);
    callobj *k = call_new(STATE(d), &sendto_kind);
    if (k == NULL)
        return NULL;
    k->data = Py_NewRef(data);
    if (destination((dgramobj *)d, k, address) < 0)
        Py_CLEAR(k);
    return call_op(STATE(d), d, k);
}

static PyObject *
dgram_send(PyObject *d, PyObject *data)
{
    if (!PyObject_CheckBuffer(data))
        return PyErr_Format(PyExc_TypeError, "send: a bytes-like object is required, not %.100s",
                            Py_TYPE(data)->tp_name);
    callobj *k = call_new(STATE(d), &send_kind);
    if (k != NULL)
        k->data = Py_NewRef(data);
    return call_op(STATE(d), d, k);
}

/* -- Several ------------------------------------------------------------------------ */

enum { MOST = 1024 };

/* Packets, then their addresses, then (to receive) their bytes. */
static tdl_packet *
packets_new(callobj *k, Py_ssize_t count, size_t room)
{
    size_t each = sizeof(tdl_packet) + sizeof(tdl_addr) + room;
    if ((k->block = PyMem_Calloc((size_t)count, each)) == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    tdl_packet *p = k->block;
    tdl_addr *a = (tdl_addr *)(p + count);
    char *bytes = (char *)(a + count);
    for (Py_ssize_t i = 0; i < count; i++)
        p[i] = (tdl_packet){.data = bytes + (size_t)i * room, .size = room, .addr = &a[i]};
    k->count = (int)count;
    return p;
}

static int32_t
start_recv_many(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    return tdl_dgram_recv_batch_start(h->core, task, ((dgramobj *)op->target)->core, k->block, k->count);
}

static PyObject *
recv_many_result(callobj *k, opobj *Py_UNUSED(op), uint32_t Py_UNUSED(task), int32_t code)
{
    const tdl_packet *p = k->block;
    PyObject *list = PyList_New(code);
    for (int32_t i = 0; list != NULL && i < code; i++) {
        PyObject *pair = Py_BuildValue("(y#N)", p[i].data, (Py_ssize_t)p[i].n, addr_text(p[i].addr));
        if (pair == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, pair);
    }
    return list;
}

static const call_kind recv_many_kind = {"recv_many", start_recv_many, recv_many_result, false};

static PyObject *
dgram_recv_many(PyObject *d, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"count", "n", NULL};
    Py_ssize_t count, n = 2048;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|n:recv_many", names, &count, &n))
        return NULL;
    if (count < 1 || count > MOST || n < 1 || n > LARGEST)
        return PyErr_Format(PyExc_ValueError, "recv_many: 1 to %d datagrams of 1 to %d bytes", MOST, LARGEST);
    callobj *k = call_new(STATE(d), &recv_many_kind);
    if (k != NULL && packets_new(k, count, (size_t)n) == NULL)
        Py_CLEAR(k);
    return call_op(STATE(d), d, k);
}

static int32_t
start_send_many(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    return tdl_dgram_send_batch_start(h->core, task, ((dgramobj *)op->target)->core, k->block, k->count);
}

static PyObject *
send_many_result(callobj *Py_UNUSED(k), opobj *Py_UNUSED(op), uint32_t Py_UNUSED(task), int32_t code)
{
    return PyLong_FromLong(code);
}

static const call_kind send_many_kind = {"send_many", start_send_many, send_many_result, false};

/* k->data: the bytes objects, which the packets point into. */
static int
fill_send_many(dgramobj *d, callobj *k, PyObject *list, PyObject *address)
{
    if (address != Py_None && destination(d, k, address) < 0)
        return -1;
    if ((k->data = PySequence_Tuple(list)) == NULL)
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(k->data);
    if (count < 1 || count > MOST) {
        PyErr_Format(PyExc_ValueError, "send_many: 1 to %d datagrams, not %zd", MOST, count);
        return -1;
    }
    tdl_packet *p = packets_new(k, count, 0);
    for (Py_ssize_t i = 0; p != NULL && i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(k->data, i);
        if (!PyBytes_Check(item)) {
            PyErr_Format(PyExc_TypeError, "send_many: bytes are required, not %.100s", Py_TYPE(item)->tp_name);
            return -1;
        }
        p[i].data = PyBytes_AS_STRING(item);
        p[i].size = (size_t)PyBytes_GET_SIZE(item);
        if (k->addr.length)
            *p[i].addr = k->addr;
        else
            p[i].addr = NULL;
    }
    return p == NULL ? -1 : 0;
}

static PyObject *
dgram_send_many(PyObject *d, PyObject *args)
{
    PyObject *list, *address = Py_None;
    if (!PyArg_ParseTuple(args, "O|O:send_many", &list, &address))
        return NULL;
    callobj *k = call_new(STATE(d), &send_many_kind);
    if (k != NULL && fill_send_many((dgramobj *)d, k, list, address) < 0)
        Py_CLEAR(k);
    return call_op(STATE(d), d, k);
}

/* -- Deadlines, options, names ----------------------------------------------------------- */

NET_TIME(dgram_settimeout, dgramobj, timeout_arg, tdl_dgram_set_timeout)
NET_TIME(dgram_set_deadline, dgramobj, deadline_arg, tdl_dgram_set_deadline)
NET_TIME(dgram_set_read_deadline, dgramobj, deadline_arg, tdl_dgram_set_read_deadline)
NET_TIME(dgram_set_write_deadline, dgramobj, deadline_arg, tdl_dgram_set_write_deadline)

NET_OPTIONS(dgram, dgramobj)

static PyObject *
dgram_fileno(dgramobj *d, PyObject *Py_UNUSED(ignored))
{
    int fd = tdl_dgram_fd(d->core);
    return fd < 0 ? raise_code(STATE(d), fd, "fileno") : PyLong_FromLong(fd);
}

static PyObject *
dgram_address(dgramobj *d, void *Py_UNUSED(closure))
{
    tdl_addr a;
    int rc = tdl_dgram_sockaddr(d->core, &a);
    return rc < 0 ? raise_code(STATE(d), rc, "address") : addr_text(&a);
}

static PyObject *
dgram_peername(dgramobj *d, void *Py_UNUSED(closure))
{
    tdl_addr a;
    int rc = tdl_dgram_peeraddr(d->core, &a);
    if (rc == -ENOTCONN)
        Py_RETURN_NONE;
    return rc < 0 ? raise_code(STATE(d), rc, "peername") : addr_text(&a);
}

static PyObject *
dgram_port(dgramobj *d, void *Py_UNUSED(closure))
{
    tdl_addr a;
    int rc = tdl_dgram_sockaddr(d->core, &a);
    return rc < 0 ? raise_code(STATE(d), rc, "port") : PyLong_FromLong(tdl_addr_port(&a));
}

static PyObject *
dgram_closed(dgramobj *d, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(d->closed);
}

/* -- Life ------------------------------------------------------------------------------------ */

static PyObject *
dgram_close(dgramobj *d, PyObject *Py_UNUSED(ignored))
{
    if (!d->closed) {
        d->closed = true;
        tdl_dgram_close(d->core);
        THREAD_KICK(STATE(d));
    }
    Py_RETURN_NONE;
}

static PyObject *
dgram_aexit(dgramobj *d, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    return op_value(STATE(d), dgram_close(d, NULL));
}

static PyObject *
dgram_repr(dgramobj *d)
{
    tdl_addr a;
    if (d->closed || tdl_dgram_sockaddr(d->core, &a) < 0)
        return PyUnicode_FromString("<Dgram closed>");
    PyObject *text = addr_text(&a);
    PyObject *repr = text ? PyUnicode_FromFormat("<Dgram at %U>", text) : NULL;
    Py_XDECREF(text);
    return repr;
}

static void
dgram_finalize(dgramobj *d)
{
    if (d->core == NULL || d->closed || tdl_dgram_fd(d->core) < 0)
        return;
    warn_unclosed((PyObject *)d, "datagram socket");
}

static void
dgram_dealloc(dgramobj *d)
{
    PyTypeObject *type = Py_TYPE(d);
    if (PyObject_CallFinalizerFromDealloc((PyObject *)d) < 0)
        return;
    PyObject_GC_UnTrack(d);
    CLEAR_WEAKREFS(d);
    tdl_dgram_free(d->core);
    type->tp_free(d);
    Py_DECREF(type);
}

static PyMethodDef dgram_methods[] = {
    {"recv", dgram_recv, METH_VARARGS,
     "await recv(n=65536) -> bytes\n\nOne datagram; b\"\" is an empty one. treadle.Truncated when it is longer than n\n"
     "bytes; TimeoutError, treadle.Closed, ConnectionRefusedError (nobody is at the peer's port)."},
    {"recvfrom", dgram_recvfrom, METH_VARARGS,
     "await recvfrom(n=65536) -> (bytes, address)\n\nThe same, with who sent it: text, or None for a Unix socket\n"
     "without a name."},
    {"send", dgram_send, METH_O,
     "await send(data)\n\nOne datagram to whom the socket was dialled. OSError (EMSGSIZE: too long)."},
    {"sendto", dgram_sendto, METH_VARARGS,
     "await sendto(data, address)\n\nOne datagram to an address (\"127.0.0.1:7000\", a path, \"@name\")."},
    {"recv_many", (PyCFunction)(void (*)(void))dgram_recv_many, METH_VARARGS | METH_KEYWORDS,
     "await recv_many(count, n=2048) -> [(bytes, address), …]\n\n"
     "Waits for one datagram and takes all that are there, up to count, in one system call for\n"
     "many. What is longer than n is cut, and then has n bytes."},
    {"send_many", dgram_send_many, METH_VARARGS,
     "await send_many(datagrams, address=None) -> int\n\n"
     "Sends several bytes objects, to one address or to whom the socket was dialled, in as few\n"
     "system calls as will do: how many went out, fewer than all when the next one fails."},
    {"settimeout", (PyCFunction)dgram_settimeout, METH_O,
     "settimeout(seconds): each operation from now on gets a deadline; None: none."},
    {"set_deadline", (PyCFunction)dgram_set_deadline, METH_O,
     "set_deadline(when): both directions time out at `when`, on the clock of treadle.now();\n"
     "None clears. A past deadline wins over what is there."},
    {"set_read_deadline", (PyCFunction)dgram_set_read_deadline, METH_O,
     "set_read_deadline(when): as set_deadline, for receives."},
    {"set_write_deadline", (PyCFunction)dgram_set_write_deadline, METH_O,
     "set_write_deadline(when): as set_deadline, for sends."},
    {"option", (PyCFunction)dgram_option, METH_O, "option(name): as Conn.option."},
    {"set_option", (PyCFunction)dgram_set_option, METH_VARARGS, "set_option(name, value): as Conn.set_option."},
    {"fileno", (PyCFunction)dgram_fileno, METH_NOARGS, "The descriptor, which stays the socket's."},
    {"close", (PyCFunction)dgram_close, METH_NOARGS,
     "Closes; operations in progress and later ones raise treadle.Closed. May be repeated."},
    {"__aenter__", op_self, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))dgram_aexit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef dgram_getset[] = {
    {"address", (getter)dgram_address, NULL, "The address it receives at, as text.", NULL},
    {"peername", (getter)dgram_peername, NULL, "The address it was dialled to, as text; None.", NULL},
    {"port", (getter)dgram_port, NULL, "The port it receives at (0: not a UDP socket).", NULL},
    {"closed", (getter)dgram_closed, NULL, "Whether close was called.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef dgram_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(dgramobj, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot dgram_slots[] = {
    {Py_tp_doc, "A datagram socket, from listen_udp, dial_udp, listen_unixgram or dial_unixgram.\n"
                "async with closes it."},
    {Py_tp_dealloc, dgram_dealloc},
    {Py_tp_finalize, dgram_finalize},
    {Py_tp_traverse, type_traverse},
    {Py_tp_repr, dgram_repr},
    {Py_tp_methods, dgram_methods},
    {Py_tp_members, dgram_members},
    {Py_tp_getset, dgram_getset},
    {0, NULL},
};

PyType_Spec dgram_spec = {
    .name = "treadle.Dgram",
    .basicsize = sizeof(dgramobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = dgram_slots,
};

/* -- Making one ------------------------------------------------------------------------------- */

static PyObject *
made(mod_state *st, const char *verb, const char *network, const char *address, int rc, tdl_dgram *core)
{
    if (rc < 0)
        return raise_open(st, rc, verb, network, address);
    dgramobj *d = state_gone(st) ? NULL : (dgramobj *)st->DgramType->tp_alloc(st->DgramType, 0);
    if (d == NULL) {
        tdl_dgram_free(core);
        return NULL;
    }
    d->core = core;
    PyOS_snprintf(d->network, sizeof d->network, "%s", network);
    return op_value(st, (PyObject *)d);
}

static PyObject *
listen_on(PyObject *module, PyObject *address, const char *network)
{
    mod_state *st = state_of(module);
    const char *text = text_arg(address, "the address");
    tdl_dgram *core = NULL;
    if (text == NULL || host_get(st) == NULL)
        return NULL;
    int rc = tdl_dgram_listen(network, text, &core);
    return made(st, "listen", network, text, rc, core);
}

static PyObject *
dial_to(PyObject *module, PyObject *args, PyObject *kwargs, const char *network, const char *format)
{
    static char *names[] = {"address", "local", NULL};
    mod_state *st = state_of(module);
    PyObject *address, *local = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &address, &local))
        return NULL;
    const char *text = text_arg(address, "the address"), *from = NULL;
    tdl_dgram *core = NULL;
    if (text == NULL || (local != Py_None && (from = text_arg(local, "the local address")) == NULL) ||
        host_get(st) == NULL)
        return NULL;
    int rc = tdl_dgram_dial(network, text, from, &core);
    return made(st, "dial", network, text, rc, core);
}

static PyObject *
listen_udp(PyObject *module, PyObject *address)
{
    return listen_on(module, address, "udp");
}

static PyObject *
listen_unixgram(PyObject *module, PyObject *address)
{
    return listen_on(module, address, "unixgram");
}

static PyObject *
dial_udp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return dial_to(module, args, kwargs, "udp", "O|$O:dial_udp");
}

static PyObject *
dial_unixgram(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return dial_to(module, args, kwargs, "unixgram", "O|$O:dial_unixgram");
}

PyMethodDef dgram_functions[] = {
    {"listen_udp", listen_udp, METH_O,
     "await listen_udp(address) -> Dgram\n\nA UDP socket that receives at an address; port 0 for any."},
    {"dial_udp", (PyCFunction)(void (*)(void))dial_udp, METH_VARARGS | METH_KEYWORDS,
     "await dial_udp(address, *, local=None) -> Dgram\n\n"
     "A UDP socket that sends to an address, and receives from there alone."},
    {"listen_unixgram", listen_unixgram, METH_O,
     "await listen_unixgram(address) -> Dgram\n\n"
     "A Unix datagram socket at a path, which goes with it, or \"@name\"; \"@\": any name."},
    {"dial_unixgram", (PyCFunction)(void (*)(void))dial_unixgram, METH_VARARGS | METH_KEYWORDS,
     "await dial_unixgram(address, *, local=None) -> Dgram\n\n"
     "A Unix datagram socket that sends to a path or name; without a local address (\"@\": any)\n"
     "nobody can answer."},
    {NULL, NULL, 0, NULL},
};
