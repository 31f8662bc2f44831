/* SPDX-License-Identifier: MIT
 *
 * Timer and Ticker: handles on the core's timers, which send the time they were
 * due on a channel of one place. They can be received from, and be cases of
 * select, as channels can.
 *
 * Invariant. An op or a case that refers to the channel holds the timer, which
 * the channel belongs to. A timer belongs to the loop in which it was made: it
 * fires as long as that lasts; any thread may stop it or receive from it. */
#include "state.h"
#include <structmember.h>

#define NEVER INT64_MIN

bool
timer_check(PyObject *object)
{
    mod_state *st = STATE(object);
    return st != NULL && (Py_TYPE(object) == st->TimerType || Py_TYPE(object) == st->TickerType);
}

PyObject *
timer_due(tdl_val *v)
{
    return PyFloat_FromDouble((double)tdl_val_int(v) * 1e-9);
}

/* When it is due from now, and for a ticker its period. -1: exception. */
static int
times(PyTypeObject *type, mod_state *st, PyObject *seconds, int64_t *when, int64_t *period)
{
    bool ticker = type == st->TickerType;
    int64_t ns, now = tdl_now();
    if (seconds_arg(seconds, ticker ? "Ticker: the period" : "Timer: the delay", &ns) < 0)
        return -1;
    if (ticker && ns <= 0) {
        PyErr_Format(PyExc_ValueError, "Ticker: the period must be more than 0 seconds, not %R",
                     seconds);
        return -1;
    }
    *when = ns <= 0 ? now : ns > TDL_FOREVER - now ? TDL_FOREVER : now + ns;
    *period = ticker ? ns : 0;
    return 0;
}

static void
remember(timerobj *t, int64_t due, int64_t period)
{
    __atomic_store_n(&t->due, due, __ATOMIC_RELAXED);
    __atomic_store_n(&t->period, period, __ATOMIC_RELAXED);
}

static PyObject *
make(PyTypeObject *type, PyObject *args, PyObject *kwargs, const char *format)
{
    static char *names[] = {"seconds", NULL};
    mod_state *st = type_state(type);
    PyObject *seconds;
    int64_t when, period;
    if (state_gone(st) || !PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &seconds) ||
        times(type, st, seconds, &when, &period) < 0)
        return NULL;
    pyhost *h = host_get(st);
    if (h == NULL)
        return NULL;
    timerobj *t = (timerobj *)type->tp_alloc(type, 0);
    if (t == NULL)
        return NULL;
    if ((t->core = tdl_timer_new(when, period)) == NULL) {
        Py_DECREF(t);
        return PyErr_NoMemory();
    }
    remember(t, when, period);
    HOST_KICK(h);
    return (PyObject *)t;
}

static PyObject *
timer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return make(type, args, kwargs, "O:Timer");
}

static PyObject *
ticker_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return make(type, args, kwargs, "O:Ticker");
}

static PyObject *
outcome(timerobj *t, int rc, const char *what)
{
    mod_state *st = STATE(t);
    if (rc == TDL_ECLOSED) {
        PyErr_Format(PyExc_RuntimeError, "%s: the event loop in which %R was made is closed", what, t);
        return NULL;
    }
    if (rc < 0)
        return raise_code(st, rc, what);
    THREAD_KICK(st);
    return PyBool_FromLong(rc);
}

static PyObject *
timer_stop(timerobj *t, PyObject *Py_UNUSED(ignored))
{
    int rc = tdl_timer_stop(t->core);
    if (rc >= 0)
        remember(t, NEVER, 0);
    return outcome(t, rc, "stop");
}

static PyObject *
timer_reset(timerobj *t, PyObject *seconds)
{
    int64_t when, period;
    mod_state *st = STATE(t);
    if (state_gone(st) || times(Py_TYPE(t), st, seconds, &when, &period) < 0)
        return NULL;
    int rc = tdl_timer_reset(t->core, when, period);
    if (rc >= 0)
        remember(t, when, period);
    return outcome(t, rc, "reset");
}

static PyObject *
timer_try_recv(timerobj *t, PyObject *Py_UNUSED(ignored))
{
    tdl_val v;
    int rc = tdl_chan_try_recv(tdl_timer_chan(t->core), &v);
    if (rc == 0)
        return Py_BuildValue("(NO)", timer_due(&v), Py_True);
    if (rc == TDL_EAGAIN)
        return PyTuple_Pack(2, Py_None, Py_False);
    return raise_code(STATE(t), rc, "try_recv");
}

static PyObject *
timer_recv_op(PyObject *t, PyObject *Py_UNUSED(ignored))
{
    return case_new(STATE(t), t, NULL, 0);
}

static PyObject *
ticker_enter(PyObject *t, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(t);
}

static PyObject *
ticker_exit(timerobj *t, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    Py_XDECREF(timer_stop(t, NULL));
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
timer_repr(timerobj *t)
{
    int64_t due = __atomic_load_n(&t->due, __ATOMIC_RELAXED), period = __atomic_load_n(&t->period, __ATOMIC_RELAXED);
    mod_state *st = STATE(t);
    const char *name = st != NULL && Py_TYPE(t) == st->TickerType ? "Ticker" : "Timer";
    char text[64];
    if (due == NEVER)
        snprintf(text, sizeof text, "stopped");
    else if (period != 0)
        snprintf(text, sizeof text, "every %g s", (double)period * 1e-9);
    else if (tdl_chan_len(tdl_timer_chan(t->core)) > 0)
        snprintf(text, sizeof text, "has fired");
    else if (due > tdl_now())
        snprintf(text, sizeof text, "due in %.3f s", (double)(due - tdl_now()) * 1e-9);
    else
        snprintf(text, sizeof text, "past its time"); /* received, or about to fire */
    return PyUnicode_FromFormat("<%s %s at %p>", name, text, t);
}

static void
timer_dealloc(timerobj *t)
{
    PyTypeObject *type = Py_TYPE(t);
    PyObject_GC_UnTrack(t);
    CLEAR_WEAKREFS(t);
    tdl_timer_free(t->core);
    type->tp_free(t);
    Py_DECREF(type);
}

#define RECV_METHODS                                                                        \
    {"recv", chan_recv, METH_NOARGS,                                                        \
     "await recv() -> when it was due, on the clock of now()\n\n"                           \
     "Waits until it fires, or takes what nobody has received since. A stop does not end\n" \
     "the wait."},                                                                          \
    {"try_recv", (PyCFunction)timer_try_recv, METH_NOARGS,                                  \
     "try_recv() -> (due, True), or (None, False) when it has not fired."},                 \
    {"recv_op", timer_recv_op, METH_NOARGS, "A receive, as a case of select."},             \
    {"stop", (PyCFunction)timer_stop, METH_NOARGS,                                          \
     "stop() -> bool\n\nKeeps it from firing until a reset. True: it was still to fire, or to\n" \
     "be received. Nothing from before can be received afterwards. Any thread."}

static PyMethodDef timer_methods[] = {
    RECV_METHODS,
    {"reset", (PyCFunction)timer_reset, METH_O,
     "reset(seconds) -> bool\n\nStops it, as stop() does, and starts it anew. RuntimeError once the\n"
     "loop in which it was made is closed."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef ticker_methods[] = {
    RECV_METHODS,
    {"reset", (PyCFunction)timer_reset, METH_O,
     "reset(seconds) -> bool\n\nStops it, as stop() does, and starts it anew with this period.\n"
     "RuntimeError once the loop in which it was made is closed."},
    {"__enter__", ticker_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))ticker_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef timer_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(timerobj, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot timer_slots[] = {
    {Py_tp_doc, "Timer(seconds)\n--\n\n"
                "Fires once, that long after now: await t.recv(), or t.recv_op() in a select.\n\n"
                "After stop() and reset() no value of before is received, as in Go."},
    {Py_tp_new, timer_new},
    {Py_tp_dealloc, timer_dealloc},
    {Py_tp_repr, timer_repr},
    {Py_tp_traverse, type_traverse},
    {Py_tp_methods, timer_methods},
    {Py_tp_members, timer_members},
    {0, NULL},
};

PyType_Spec timer_spec = {
    .name = "treadle.Timer",
    .basicsize = sizeof(timerobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = timer_slots,
};

static PyType_Slot ticker_slots[] = {
    {Py_tp_doc, "Ticker(seconds)\n--\n\n"
                "Fires again and again, every so many seconds: async for due in ticker.\n\n"
                "Who is slow misses ticks, and the others do not shift. As a context manager it\n"
                "is stopped at the end."},
    {Py_tp_new, ticker_new},
    {Py_tp_dealloc, timer_dealloc},
    {Py_tp_repr, timer_repr},
    {Py_tp_traverse, type_traverse},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, chan_anext},
    {Py_tp_methods, ticker_methods},
    {Py_tp_members, timer_members},
    {0, NULL},
};

PyType_Spec ticker_spec = {
    .name = "treadle.Ticker",
    .basicsize = sizeof(timerobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = ticker_slots,
};
