/* SPDX-License-Identifier: MIT
 *
 * Chan: a channel between the goroutines and tasks of one loop. It carries any
 * object, as a reference: nothing is copied or serialised, and it needs no lock.
 *
 * Invariants.
 *  - It binds to a loop's host when it is first used in one; from then on only
 *    that loop's thread may use it. In a run with several Ps (procs.h) all of these may: it is
 *    `across`, and the core's channel is one with a lock, which carries the references as
 *    pointers. The collector sees none of them, so what can only be reached from within such a
 *    channel's own buffer stays until somebody takes it out. It binds, or is closed before that, within a critical
 *    section: `core` is set last, with release, and stays.
 *  - What is in the core's channel holds one reference each, which the
 *    collector sees through tdl_chan_peek_local. It sees them on the channel's
 *    own thread only (elsewhere they count as held from outside): that thread
 *    may be inside the core without the GIL. When the loop is gone, or its thread, the channel is
 *    whose turn it is: of who collects, closes or drops it. */
#include "procs.h"
#include <structmember.h>

static void chan_dealloc(chanobj *ch);

bool
chan_is_local(PyObject *chan)
{
    return Py_TYPE(chan)->tp_dealloc == (destructor)chan_dealloc;
}

#ifdef Py_GIL_DISABLED
bool
chan_is_across(PyObject *chan)
{
    return chan_is_local(chan) && ((chanobj *)chan)->across;
}
#endif

static inline tdl_chan *
chan_bound(chanobj *ch)
{
    return __atomic_load_n(&ch->core, __ATOMIC_ACQUIRE); /* with the release of chan_bind */
}

static bool
chan_bind(chanobj *ch, pyhost *h)
{
    bool bound;
    Py_BEGIN_CRITICAL_SECTION(ch);
    tdl_chan *core = ch->core;
    bool across = host_procs(h) != NULL;
    if (core == NULL && (core = across ? tdl_chan_new(ch->cap) : tdl_chan_new_local(h->core, ch->cap)) != NULL) {
        ch->host = (pyhost *)Py_NewRef((PyObject *)h);
        ch->across = across;
        if (ch->closed)
            tdl_chan_close(core);
        __atomic_store_n(&ch->core, core, __ATOMIC_RELEASE);
    }
    bound = core != NULL;
    Py_END_CRITICAL_SECTION();
    return bound;
}

/* The core's channel goes where its loop's host has gone, on whose thread this is. */
static inline void
chan_follow(chanobj *ch)
{
    if (ch->host->moved && !ch->across)
        tdl_chan_adopt_local(ch->core);
}

tdl_chan *
chan_core(PyObject *chan, pyhost *h)
{
    if (!chan_is_local(chan))
        return ((sharedobj *)chan)->core;
    chanobj *ch = (chanobj *)chan;
    if (chan_bound(ch) == NULL && !chan_bind(ch, h))
        return (tdl_chan *)PyErr_NoMemory();
    if (ch->host != h && !(ch->across && host_procs(ch->host) == host_procs(h))) {
        PyErr_Format(PyExc_RuntimeError, "%R belongs to another event loop (use SharedChan)",
                     chan);
        return NULL;
    }
    chan_follow(ch);
    return ch->core;
}

int
source_core(PyObject *source, pyhost *h, tdl_chan **ch)
{
    if (!chan_is_local(source) && Py_TYPE(source) != h->st->SharedChanType) {
        *ch = context_check(source) ? tdl_context_done(((contextobj *)source)->core)
                                    : tdl_timer_chan(((timerobj *)source)->core);
        return 0;
    }
    *ch = chan_core(source, h);
    return *ch == NULL ? -1 : 0;
}

PyObject *
source_decode(mod_state *st, PyObject *source, tdl_val *v)
{
    if (chan_is_across(source) && v->type == TDL_PTR) {
        PyObject *object = v->u.p; /* the channel's reference becomes ours */
        tdl_val_set_nil(v);
        return object;
    }
    return timer_check(source) ? timer_due(v) : val_decode(st, v);
}

/* The core's channel for a call that does not wait; NULL: exception. */
static tdl_chan *
chan_here(chanobj *ch)
{
    mod_state *st = STATE(ch);
    pyhost *h = host_get(st);
    return h == NULL ? NULL : chan_core((PyObject *)ch, h);
}

/* Whether the collector may look into the channel, and empty it: on the loop's thread, and on any
 * once the loop is gone, or its thread. */
static bool
chan_visible(chanobj *ch)
{
    if (ch->core == NULL || ch->across)
        return false;
    if (ch->host->core == NULL || host_left(ch->host))
        tdl_chan_adopt_local(ch->core);
    else if (host_mine(ch->host))
        chan_follow(ch);
    else
        return false;
    return true;
}

int
chan_encode(mod_state *st, PyObject *chan, PyObject *value, tdl_val *v)
{
    if (!chan_is_local(chan))
        return val_encode(st, value, v);
    v->flags = 0;
    if (chan_is_across(chan)) {
        tdl_val_set_ptr(v, Py_NewRef(value));
        return 0;
    }
    v->type = TDL_REF;
    v->u.i = (int64_t)(intptr_t)Py_NewRef(value);
    return 0;
}

/* -- Methods ------------------------------------------------------------- */

/* The capacity of a channel; NULL: 0. */
int
cap_arg(PyObject *arg, const char *what, uint32_t *cap)
{
    *cap = 0;
    if (arg == NULL)
        return 0;
    if (!PyIndex_Check(arg)) {
        PyErr_Format(PyExc_TypeError, "%s: cap must be an int, not %.100s", what, Py_TYPE(arg)->tp_name);
        return -1;
    }
    Py_ssize_t n = PyNumber_AsSsize_t(arg, NULL); /* clipped */
    if (n == -1 && PyErr_Occurred())
        return -1;
    if (n < 0 || n > (1 << 26)) {
        PyErr_Format(PyExc_ValueError, "%s: cap must be 0 to 2**26, not %R", what, arg);
        return -1;
    }
    *cap = (uint32_t)n;
    return 0;
}

static PyObject *
chan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"cap", NULL};
    PyObject *arg = NULL;
    uint32_t cap;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Chan", names, &arg) || cap_arg(arg, "Chan", &cap) < 0)
        return NULL;
    chanobj *ch = (chanobj *)type->tp_alloc(type, 0);
    if (ch != NULL)
        ch->cap = cap;
    return (PyObject *)ch;
}

PyObject *
chan_send(PyObject *ch, PyObject *value)
{
    return (PyObject *)op_new(STATE(ch), OP_SEND, ch, value, 0);
}

PyObject *
chan_recv(PyObject *ch, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(STATE(ch), OP_RECV, ch, NULL, 0);
}

PyObject *
chan_recv_ok(PyObject *ch, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(STATE(ch), OP_RECV_OK, ch, NULL, 0);
}

PyObject *
chan_anext(PyObject *ch)
{
    return (PyObject *)op_new(STATE(ch), OP_RECV_NEXT, ch, NULL, 0);
}

static PyObject *
chan_try_send(chanobj *ch, PyObject *value)
{
    mod_state *st = STATE(ch);
    tdl_val v;
    tdl_chan *core = chan_here(ch);
    if (core == NULL || chan_encode(st, (PyObject *)ch, value, &v) < 0)
        return NULL;
    int rc = tdl_chan_try_send(core, &v);
    if (rc == 0) {
        THREAD_KICK(st);
        Py_RETURN_TRUE;
    }
    Py_DECREF(value);
    if (rc == TDL_EAGAIN)
        Py_RETURN_FALSE;
    return rc == TDL_ECLOSED ? raise_closed_channel(st, "try_send", -1) : raise_code(st, rc, "try_send");
}

static PyObject *
chan_try_recv(chanobj *ch, PyObject *Py_UNUSED(ignored))
{
    mod_state *st = STATE(ch);
    tdl_val v;
    tdl_chan *core = chan_here(ch);
    if (core == NULL)
        return NULL;
    tdl_val_set_nil(&v);
    int rc = tdl_chan_try_recv(core, &v);
    if (rc == 0) {
        THREAD_KICK(st);
        return Py_BuildValue("(NO)", source_decode(st, (PyObject *)ch, &v), Py_True);
    }
    if (rc == TDL_EAGAIN)
        return PyTuple_Pack(2, Py_None, Py_False);
    return rc == TDL_ECLOSED ? raise_closed_channel(st, "try_recv", -1) : raise_code(st, rc, "try_recv");
}

static PyObject *
chan_close(chanobj *ch, PyObject *Py_UNUSED(ignored))
{
    mod_state *st = STATE(ch);
    bool early = false, again = false;
    Py_BEGIN_CRITICAL_SECTION(ch);
    if (ch->core == NULL) { /* not used yet: needs no loop */
        early = true;
        again = ch->closed;
        SHOW(ch->closed, true);
    }
    Py_END_CRITICAL_SECTION();
    if (again)
        return raise_closed_channel(st, "close", -1);
    if (early)
        Py_RETURN_NONE;
    OWN(!ch->across && ch->host->core == NULL ? &ch->host->own : NULL, NULL);
    if (!ch->across && ch->host->core == NULL) { /* its loop is gone */
        if (tdl_chan_closed(ch->core))
            return raise_closed_channel(st, "close", -1);
        tdl_chan_adopt_local(ch->core);
        tdl_chan_close(ch->core);
        Py_RETURN_NONE;
    }
    if (!ch->across && !host_reach(ch->host)) {
        PyErr_Format(PyExc_RuntimeError, "%R belongs to another event loop (use SharedChan)",
                     (PyObject *)ch);
        return NULL;
    }
    chan_follow(ch);
    int rc = tdl_chan_close(ch->core);
    if (rc < 0)
        return rc == TDL_ECLOSED ? raise_closed_channel(st, "close", -1) : raise_code(st, rc, "close");
    THREAD_KICK(st);
    Py_RETURN_NONE;
}

static PyObject *
chan_recv_op(PyObject *ch, PyObject *Py_UNUSED(ignored))
{
    return case_new(STATE(ch), ch, NULL, 0);
}

static PyObject *
chan_send_op(PyObject *ch, PyObject *value)
{
    return case_new(STATE(ch), ch, value, 0);
}

static Py_ssize_t
chan_len(chanobj *ch)
{
    tdl_chan *core = chan_bound(ch);
    return core == NULL ? 0 : (Py_ssize_t)tdl_chan_len(core);
}

static int
chan_bool(PyObject *Py_UNUSED(ch))
{
    return 1;
}

static PyObject *
chan_get_cap(chanobj *ch, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(ch->cap);
}

static bool
chan_is_closed(chanobj *ch)
{
    tdl_chan *core = chan_bound(ch);
    return core == NULL ? SEEN(ch->closed) : tdl_chan_closed(core) != 0;
}

static PyObject *
chan_get_closed(chanobj *ch, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(chan_is_closed(ch));
}

static PyObject *
chan_repr(chanobj *ch)
{
    const void *core = chan_bound(ch); /* the address by which dumps name it */
    return PyUnicode_FromFormat("<Chan %zd/%u%s at %p>", chan_len(ch), (unsigned)ch->cap,
                                chan_is_closed(ch) ? " closed" : "", core != NULL ? core : ch);
}

/* -- Life ---------------------------------------------------------------- */

static int
chan_traverse(chanobj *ch, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(ch));
    Py_VISIT(ch->host);
    if (chan_visible(ch)) {
        tdl_val v;
        for (uint32_t i = 0; tdl_chan_peek_local(ch->core, i, &v) == 0; i++)
            if (v.type == TDL_REF)
                Py_VISIT((PyObject *)(intptr_t)v.u.i);
        return chan_visit_waiters(ch->host, ch->core, visit, arg);
    }
    return 0;
}

static void
drop_value(tdl_val *v)
{
    if (v->type == TDL_REF)
        Py_DECREF((PyObject *)(intptr_t)v->u.i);
    else if (v->type == TDL_PTR) /* of several Ps */
        Py_DECREF((PyObject *)v->u.p);
}

static int
chan_clear(chanobj *ch)
{
    tdl_val v;
    while ((chan_visible(ch) || (ch->core != NULL && ch->across)) && tdl_chan_try_recv(ch->core, &v) == 0)
        drop_value(&v);
    return 0;
}

void
chan_drain(tdl_chan *core)
{
    tdl_val v;
    tdl_chan_adopt_local(core); /* its host may be closed, or have been another thread's */
    while (tdl_chan_try_recv(core, &v) == 0)
        drop_value(&v);
    tdl_chan_free(core);
}

static void
chan_dealloc(chanobj *ch)
{
    PyTypeObject *type = Py_TYPE(ch);
    PyObject_GC_UnTrack(ch);
    CLEAR_WEAKREFS(ch);
    if (ch->core != NULL && ch->across)
        chan_drain(ch->core);
    else if (ch->core != NULL)
        host_drop_chan(ch->host, ch->core);
    Py_CLEAR(ch->host);
    type->tp_free(ch);
    Py_DECREF(type);
}

static PyMethodDef chan_methods[] = {
    {"send", chan_send, METH_O,
     "await send(value)\n\n"
     "Sends, waiting for room or for a receiver. Raises ChannelClosed. If it is\n"
     "cancelled, the value was not sent."},
    {"recv", chan_recv, METH_NOARGS,
     "await recv() -> value\n\nReceives; ChannelClosed once the channel is closed and drained."},
    {"recv_ok", chan_recv_ok, METH_NOARGS,
     "await recv_ok() -> (value, True), or (None, False) once closed and drained."},
    {"try_send", (PyCFunction)chan_try_send, METH_O,
     "try_send(value) -> bool\n\nSends if that needs no waiting. Raises ChannelClosed."},
    {"try_recv", (PyCFunction)chan_try_recv, METH_NOARGS,
     "try_recv() -> (value, True), or (None, False) when nothing is ready.\n\n"
     "Raises ChannelClosed once closed and drained."},
    {"close", (PyCFunction)chan_close, METH_NOARGS,
     "Closes: what is in the buffer can still be received. ChannelClosed if it was."},
    {"recv_op", chan_recv_op, METH_NOARGS, "A receive, as a case of select."},
    {"send_op", chan_send_op, METH_O, "send_op(value): a send, as a case of select."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef chan_getset[] = {
    {"cap", (getter)chan_get_cap, NULL, "Its capacity.", NULL},
    {"closed", (getter)chan_get_closed, NULL, "Whether it is closed.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef chan_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(chanobj, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot chan_slots[] = {
    {Py_tp_doc, "Chan(cap=0)\n--\n\n"
                "A channel of any objects between the goroutines and tasks of one event loop.\n\n"
                "cap values are buffered; with 0 a send completes when a receiver takes the\n"
                "value. async for receives until it is closed and drained. len() is the\n"
                "number of buffered values. Another loop or thread: RuntimeError, see SharedChan."},
    {Py_tp_new, chan_new},
    {Py_tp_dealloc, chan_dealloc},
    {Py_tp_traverse, chan_traverse},
    {Py_tp_clear, chan_clear},
    {Py_tp_repr, chan_repr},
    {Py_sq_length, chan_len},
    {Py_nb_bool, chan_bool},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, chan_anext},
    {Py_tp_methods, chan_methods},
    {Py_tp_members, chan_members},
    {Py_tp_getset, chan_getset},
    {0, NULL},
};

PyType_Spec chan_spec = {
    .name = "treadle.Chan",
    .basicsize = sizeof(chanobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = chan_slots,
};
