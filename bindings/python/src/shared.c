/* SPDX-License-Identifier: MIT
 *
 * SharedChan: a channel that any thread, interpreter and host of the process
 * may use. Values are copied into the core (value.c); the handle holds one
 * reference to the core's channel, and the last of all holders closes it.
 *
 * The _sync forms are for plain threads: they wait without the GIL, and look
 * for signals ten times a second. */
#include "state.h"
#include <structmember.h>

#define SLICE (100 * TDL_MILLISECOND)

/* Takes the reference to ch; NULL passes through as an exception. */
PyObject *
shared_wrap(mod_state *st, tdl_chan *ch)
{
    if (ch == NULL)
        return PyErr_NoMemory();
    if (state_gone(st)) {
        tdl_chan_free(ch);
        return NULL;
    }
    sharedobj *self = (sharedobj *)st->SharedChanType->tp_alloc(st->SharedChanType, 0);
    if (self == NULL) {
        tdl_chan_free(ch);
        return NULL;
    }
    self->core = ch;
    return (PyObject *)self;
}

static PyObject *
shared_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"cap", NULL};
    PyObject *arg = NULL;
    uint32_t cap;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:SharedChan", names, &arg) ||
        cap_arg(arg, "SharedChan", &cap) < 0)
        return NULL;
    return shared_wrap(type_state(type), tdl_chan_new(cap));
}

static PyObject *
shared_from_address(PyObject *type, PyObject *address)
{
    void *p = PyLong_AsVoidPtr(address);
    if (p == NULL)
        return PyErr_Occurred() ? NULL
                                : PyErr_Format(PyExc_ValueError, "the address is null");
    return shared_wrap(type_state((PyTypeObject *)type),
                       tdl_chan_ref(p));
}

static PyObject *
shared_address(sharedobj *ch, void *Py_UNUSED(closure))
{
    return PyLong_FromVoidPtr(ch->core);
}

/* -- Awaitables ---------------------------------------------------------- */

static PyObject *
shared_recv_op(PyObject *ch, PyObject *Py_UNUSED(ignored))
{
    return case_new(STATE(ch), ch, NULL, 0);
}

static PyObject *
shared_send_op(PyObject *ch, PyObject *value)
{
    return case_new(STATE(ch), ch, value, 0);
}

/* -- Calls --------------------------------------------------------------- */

static PyObject *
shared_error(sharedobj *ch, int rc, const char *what)
{
    mod_state *st = STATE(ch);
    if (rc == TDL_ECLOSED)
        return raise_closed_channel(st, what, -1);
    if (rc == TDL_EHOST) {
        PyErr_Format(PyExc_RuntimeError,
                     "%s would block the event loop of this thread: await %.4s() instead", what,
                     what);
        return NULL;
    }
    if (rc == TDL_ETIMEDOUT) {
        PyErr_Format(PyExc_TimeoutError, "%s: timed out", what);
        return NULL;
    }
    return raise_code(st, rc, what);
}

static PyObject *
shared_try_send(sharedobj *ch, PyObject *value)
{
    mod_state *st = STATE(ch);
    tdl_val v;
    if (val_encode(st, value, &v) < 0)
        return NULL;
    int rc = tdl_chan_try_send(ch->core, &v);
    tdl_val_clear(&v);
    THREAD_KICK(st);
    if (rc == 0)
        Py_RETURN_TRUE;
    if (rc == TDL_EAGAIN)
        Py_RETURN_FALSE;
    return shared_error(ch, rc, "try_send");
}

static PyObject *
shared_try_recv(sharedobj *ch, PyObject *Py_UNUSED(ignored))
{
    mod_state *st = STATE(ch);
    tdl_val v;
    tdl_val_set_nil(&v);
    int rc = tdl_chan_try_recv(ch->core, &v);
    THREAD_KICK(st);
    if (rc == 0)
        return Py_BuildValue("(NO)", val_decode(st, &v), Py_True);
    if (rc == TDL_EAGAIN)
        return PyTuple_Pack(2, Py_None, Py_False);
    return shared_error(ch, rc, "try_recv");
}

/* value NULL: receives into *v; otherwise sends *v. */
static int
shared_wait(sharedobj *ch, bool send, tdl_val *v, PyObject *timeout)
{
    int64_t ns, deadline = TDL_FOREVER;
    if (timeout != Py_None) {
        if (seconds_arg(timeout, "timeout", &ns) < 0)
            return OP_ERROR;
        int64_t now = tdl_now();
        deadline = ns <= 0 ? now : ns > TDL_FOREVER - now ? TDL_FOREVER : now + ns;
    }
    for (;;) {
        int64_t until = tdl_now() + SLICE;
        int rc;
        if (until > deadline)
            until = deadline;
        Py_BEGIN_ALLOW_THREADS
        rc = send ? tdl_chan_send_until(ch->core, v, until)
                  : tdl_chan_recv_until(ch->core, v, until);
        Py_END_ALLOW_THREADS
        if (rc != TDL_ETIMEDOUT || until >= deadline)
            return rc;
        if (PyErr_CheckSignals() < 0)
            return OP_ERROR;
    }
}

static PyObject *
shared_send_sync(sharedobj *ch, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"value", "timeout", NULL};
    PyObject *value, *timeout = Py_None;
    tdl_val v;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:send_sync", names, &value, &timeout) ||
        val_encode(STATE(ch), value, &v) < 0)
        return NULL;
    int rc = shared_wait(ch, true, &v, timeout);
    tdl_val_clear(&v);
    if (rc == OP_ERROR)
        return NULL;
    if (rc < 0)
        return shared_error(ch, rc, "send_sync");
    Py_RETURN_NONE;
}

static PyObject *
shared_recv_sync(sharedobj *ch, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    tdl_val v;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:recv_sync", names, &timeout))
        return NULL;
    tdl_val_set_nil(&v);
    int rc = shared_wait(ch, false, &v, timeout);
    if (rc == OP_ERROR)
        return NULL;
    if (rc < 0)
        return shared_error(ch, rc, "recv_sync");
    return val_decode(STATE(ch), &v);
}

static PyObject *
shared_close(sharedobj *ch, PyObject *Py_UNUSED(ignored))
{
    int rc = tdl_chan_close(ch->core);
    if (rc < 0)
        return shared_error(ch, rc, "close");
    THREAD_KICK(STATE(ch));
    Py_RETURN_NONE;
}

static Py_ssize_t
shared_len(sharedobj *ch)
{
    return (Py_ssize_t)tdl_chan_len(ch->core);
}

static int
shared_bool(PyObject *Py_UNUSED(ch))
{
    return 1;
}

static PyObject *
shared_cap(sharedobj *ch, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(tdl_chan_cap(ch->core));
}

static PyObject *
shared_closed(sharedobj *ch, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(tdl_chan_closed(ch->core));
}

static PyObject *
shared_repr(sharedobj *ch)
{
    return PyUnicode_FromFormat("<SharedChan %zd/%u%s at %p>", shared_len(ch),
                                (unsigned)tdl_chan_cap(ch->core),
                                tdl_chan_closed(ch->core) ? " closed" : "", ch->core);
}

static PyObject *
shared_compare(PyObject *a, PyObject *b, int op)
{
    if (Py_TYPE(a) != Py_TYPE(b) || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    return PyBool_FromLong((((sharedobj *)a)->core == ((sharedobj *)b)->core) == (op == Py_EQ));
}

static Py_hash_t
shared_hash(sharedobj *ch)
{
    return (Py_hash_t)((uintptr_t)ch->core >> 4);
}

static void
shared_dealloc(sharedobj *ch)
{
    PyTypeObject *type = Py_TYPE(ch);
    PyObject_GC_UnTrack(ch);
    CLEAR_WEAKREFS(ch);
    tdl_chan_free(ch->core);
    type->tp_free(ch);
    Py_DECREF(type);
}

static PyMethodDef shared_methods[] = {
    {"send", chan_send, METH_O,
     "await send(value)\n\nAs Chan.send. TypeError for a value that cannot be carried."},
    {"recv", chan_recv, METH_NOARGS, "await recv() -> value\n\nAs Chan.recv."},
    {"recv_ok", chan_recv_ok, METH_NOARGS, "await recv_ok() -> (value, ok)\n\nAs Chan.recv_ok."},
    {"try_send", (PyCFunction)shared_try_send, METH_O,
     "try_send(value) -> bool. Any thread. Raises ChannelClosed."},
    {"try_recv", (PyCFunction)shared_try_recv, METH_NOARGS,
     "try_recv() -> (value, True), or (None, False). Any thread. Raises ChannelClosed."},
    {"send_sync", (PyCFunction)(void (*)(void))shared_send_sync, METH_VARARGS | METH_KEYWORDS,
     "send_sync(value, timeout=None)\n\n"
     "Sends from a plain thread, which waits without the GIL: at most timeout seconds,\n"
     "then TimeoutError. ChannelClosed. RuntimeError on a thread that runs a loop."},
    {"recv_sync", (PyCFunction)(void (*)(void))shared_recv_sync, METH_VARARGS | METH_KEYWORDS,
     "recv_sync(timeout=None) -> value\n\n"
     "Receives in a plain thread, which waits without the GIL: at most timeout seconds,\n"
     "then TimeoutError. ChannelClosed. RuntimeError on a thread that runs a loop."},
    {"close", (PyCFunction)shared_close, METH_NOARGS,
     "Closes: what is in the buffer can still be received. ChannelClosed if it was."},
    {"recv_op", shared_recv_op, METH_NOARGS, "A receive, as a case of select."},
    {"send_op", shared_send_op, METH_O, "send_op(value): a send, as a case of select."},
    {"_from_address", shared_from_address, METH_O | METH_CLASS,
     "_from_address(address) -> a new holder of the tdl_chan at this address.\n\n"
     "For embedding: the address must be that of a live shared channel."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef shared_getset[] = {
    {"cap", (getter)shared_cap, NULL, "Its capacity.", NULL},
    {"closed", (getter)shared_closed, NULL, "Whether it is closed.", NULL},
    {"_address", (getter)shared_address, NULL, "The address of its tdl_chan, for embedding.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef shared_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(sharedobj, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot shared_slots[] = {
    {Py_tp_doc, "SharedChan(cap=0)\n--\n\n"
                "A channel for any thread, interpreter and host of the process.\n\n"
                "It carries None, bool, int of 64 bits, float, bytes, str, SharedChan, and\n"
                "dicts and lists by the msgpack package. send_sync and recv_sync are for plain\n"
                "threads; a loop's goroutines and tasks await send and recv."},
    {Py_tp_new, shared_new},
    {Py_tp_dealloc, shared_dealloc},
    {Py_tp_traverse, type_traverse},
    {Py_tp_repr, shared_repr},
    {Py_tp_richcompare, shared_compare},
    {Py_tp_hash, shared_hash},
    {Py_sq_length, shared_len},
    {Py_nb_bool, shared_bool},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, chan_anext},
    {Py_tp_methods, shared_methods},
    {Py_tp_members, shared_members},
    {Py_tp_getset, shared_getset},
    {0, NULL},
};

PyType_Spec shared_spec = {
    .name = "treadle.SharedChan",
    .basicsize = sizeof(sharedobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = shared_slots,
};
