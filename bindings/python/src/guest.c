/* SPDX-License-Identifier: MIT
 *
 * Guest mode: a host in a loop that is not treadle's. The loop watches the
 * host's descriptor with add_reader; what it calls is a _Reader, which owns the
 * host: when the loop is closed it drops its readers, and with this one the
 * host goes. Everything here runs on the loop's thread.
 *
 * A kick is one call_soon, made when treadle code outside the dispatch may have
 * readied something (so at most one per turn of the loop). It and the timer
 * call a second _Reader, host->kicker, which the host owns: a timer that is
 * still set must not keep the host of a closed loop.
 *
 * Invariant. Exactly the reader that add_reader was given owns its host; the
 * kicker's pointer is borrowed, and cleared when the host is closed. */
#include "state.h"

typedef struct {
    PyObject_HEAD
    pyhost *host;
    bool owner;
} reader;

static reader *
reader_new(pyhost *h, bool owner)
{
    reader *r = PyObject_GC_New(reader, h->st->ReaderType);
    if (r == NULL)
        return NULL;
    r->owner = owner;
    r->host = h;
    if (owner)
        Py_INCREF(h);
    PyObject_GC_Track(r);
    return r;
}

int
guest_attach(pyhost *h)
{
    reader *r = reader_new(h, true);
    if (r == NULL)
        return -1;
    h->reader = (PyObject *)r;
    h->kicker = (PyObject *)reader_new(h, false);
    if (h->kicker == NULL) {
        Py_DECREF(r);
        return -1;
    }
    PyObject *done = PyObject_CallMethod(h->loop, "add_reader", "iO",
                                         tdl_host_fd(h->core), (PyObject *)r);
    Py_DECREF(r); /* the loop has it; or it is gone, and h->reader is NULL */
    if (done == NULL) {
        if (PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_RuntimeError,
                         "treadle cannot be a guest of %R: it has no add_reader", h->loop);
        }
        return -1;
    }
    Py_DECREF(done);
    return 0;
}

void
guest_detach(pyhost *h)
{
    if (h->kicker != NULL)
        ((reader *)h->kicker)->host = NULL;
    Py_CLEAR(h->kicker);
    Py_CLEAR(h->timer);
}

void
guest_kick(pyhost *h)
{
    if (h->kicked || h->dispatching || h->core == NULL || h->reader == NULL)
        return;
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *handle = PyObject_CallOneArg(h->call_soon, h->kicker);
    if (handle == NULL) {
        PyErr_WriteUnraisable(h->loop);
        tdl_host_wake(h->core); /* the loop sees it by the descriptor */
    } else {
        h->kicked = true;
        Py_DECREF(handle);
    }
    PyErr_SetRaisedException(exc);
}

void
guest_kick_thread(mod_state *st)
{
    enum { MOST = 8 };
    pyhost *mine[MOST]; /* they stay: nobody but this thread closes them */
    int n = 0;
    LOCK(&st->lock);
    for (pyhost *h = st->hosts; h != NULL && n < MOST; h = h->next)
        if (h->guest && host_mine(h) && !h->kicked)
            mine[n++] = h;
    UNLOCK(&st->lock);
    for (int i = 0; i < n; i++) {
        Py_INCREF(mine[i]);
        HOST_KICK(mine[i]);
        Py_DECREF(mine[i]);
    }
}

/* Before going back to the loop: when does it have to call again by itself? */
static int
guest_arm(pyhost *h)
{
    mod_state *st = h->st;
    if (h->core == NULL || h->kicker == NULL)
        return 0;
    int64_t ns = tdl_host_timeout(h->core);
    if (ns == 0) {
        guest_kick(h);
        return 0;
    }
    if (ns < 0)
        return 0;
    int64_t now = tdl_now(), when = ns > TDL_FOREVER - now ? TDL_FOREVER : now + ns;
    if (h->timer != NULL) {
        if (h->timer_when <= when && h->timer_when > now)
            return 0;
        PyObject *done = PyObject_CallMethodNoArgs(h->timer, st->s_cancel);
        Py_CLEAR(h->timer);
        if (done == NULL)
            return -1;
        Py_DECREF(done);
    }
    if (ns > 24 * TDL_HOUR) { /* loops refuse far times; look again by then */
        ns = 24 * TDL_HOUR;
        when = now + ns;
    }
    PyObject *time = PyObject_CallMethodNoArgs(h->loop, st->s_time);
    if (time == NULL)
        return -1;
    double at = PyFloat_AsDouble(time) + (double)ns * 1e-9;
    Py_DECREF(time);
    PyObject *moment = PyFloat_FromDouble(at);
    if (moment == NULL)
        return -1;
    h->timer = PyObject_CallMethodObjArgs(h->loop, st->s_call_at, moment, h->kicker, NULL);
    Py_DECREF(moment);
    h->timer_when = when;
    return h->timer == NULL ? -1 : 0;
}

static int
guest_run(pyhost *h)
{
    int rc = 0;
    h->kicked = false;
    if (h->core == NULL || h->dispatching)
        return 0;
    if (!host_mine(h))
        host_move(h); /* the loop is run by this thread now */
    if (h->timer != NULL && h->timer_when <= tdl_now())
        Py_CLEAR(h->timer); /* it has fired */
    for (int round = 0; round < 8; round++) {
        rc = host_poll(h, 0);
        if (rc < 0 || h->core == NULL || h->nevents < BATCH)
            break;
    }
    if (rc < 0) {
        /* The exception leaves through the loop; come back for the rest. */
        if (!forked())
            guest_kick(h);
        return rc;
    }
    rc = guest_arm(h);
    if (rc < 0)
        guest_kick(h); /* no memory for the timer: once more */
    return rc;
}

/* -- The reader ---------------------------------------------------------- */

static PyObject *
reader_call(reader *r, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    if (r->host == NULL)
        Py_RETURN_NONE;
    pyhost *h = (pyhost *)Py_NewRef((PyObject *)r->host);
    int rc = guest_run(h);
    if (rc < 0 && r->owner && forked()) { /* an event of the parent's */
        PyErr_Clear();
        rc = 0;
    }
    Py_DECREF(h);
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int
reader_traverse(reader *r, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(r));
    if (r->owner)
        Py_VISIT(r->host);
    return 0;
}

static int
reader_clear(reader *r)
{
    pyhost *h = r->host;
    r->host = NULL;
    if (h != NULL && r->owner) {
        h->reader = NULL;
        host_close(h);
        Py_DECREF(h);
    }
    return 0;
}

static void
reader_dealloc(reader *r)
{
    PyTypeObject *type = Py_TYPE(r);
    PyObject_GC_UnTrack(r);
    reader_clear(r);
    PyObject_GC_Del(r);
    Py_DECREF(type);
}

static PyObject *
reader_repr(reader *r)
{
    (void)r;
    return PyUnicode_FromString("<treadle's events>");
}

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, "What a foreign loop calls when treadle has events (internal)."},
    {Py_tp_call, reader_call},
    {Py_tp_repr, reader_repr},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_traverse, reader_traverse},
    {Py_tp_clear, reader_clear},
    {0, NULL},
};

PyType_Spec reader_spec = {
    .name = "treadle._treadle._Reader",
    .basicsize = sizeof(reader),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = reader_slots,
};
