/* SPDX-License-Identifier: MIT
 *
 * The goroutine's handle: the type G. It has the methods of asyncio.Task, so
 * that asyncio's timeout, TaskGroup, wait_for, gather and Runner take it for
 * one; awaiting it gives its result, and cancelling who awaits it does not
 * cancel it. What it does is in gtask.c.
 *
 * Invariant. An error is "unseen" until somebody asked for it (await, result,
 * exception); a handle that goes away with an unseen error reports it. */
#include "procs.h"
#include <structmember.h>

static void g_dealloc(gobj *g);

bool
g_check(PyObject *object)
{
    return Py_TYPE(object)->tp_dealloc == (destructor)g_dealloc;
}

grare *
g_rare(gobj *g)
{
    grare *rare = __atomic_load_n(&g->rare, __ATOMIC_ACQUIRE);
    if (rare == NULL) {
        rare = PyMem_Calloc(1, sizeof *rare);
        if (rare == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
#ifdef Py_GIL_DISABLED
        grare *none = NULL; /* of several Ps another may be faster; release: with the acquire of g_name */
        if (!__atomic_compare_exchange_n(&g->rare, &none, rare, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            PyMem_Free(rare);
            rare = none;
        }
#else
        g->rare = rare;
#endif
    }
    return rare;
}

PyObject *
g_name(gobj *g)
{
    PyObject *name = NULL;
    Py_BEGIN_CRITICAL_SECTION(g); /* any thread may ask */
    grare *rare = __atomic_load_n(&g->rare, __ATOMIC_ACQUIRE);
    if (rare != NULL)
        name = Py_XNewRef(rare->name);
    Py_END_CRITICAL_SECTION();
    return name != NULL ? name : PyUnicode_FromFormat("goroutine-%llu", (unsigned long long)g->number);
}

static PyObject *
g_await(gobj *g)
{
    return (PyObject *)op_new(STATE(g), OP_JOIN, (PyObject *)g, NULL, 0);
}

static PyObject *
g_cancel_method(gobj *g, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    procs *ps = g_procs(g);
    OWN(ps == NULL ? &g->host->own : NULL, NULL);
    if (ps == NULL && g->host->core != NULL && !G_ENDED(g) && !host_reach(g->host)) {
        own_refuse(); /* where there is a lock, too: the loop would not wake up, and the request might be lost */
        return NULL;
    }
    Py_ssize_t total = n + (names ? PyTuple_GET_SIZE(names) : 0);
    if (total > 1)
        return PyErr_Format(PyExc_TypeError, "cancel takes at most one argument: msg");
    PyObject *msg = total == 1 && args[0] != Py_None ? args[0] : NULL;
    return PyBool_FromLong(g_cancel(g, msg));
}

static PyObject *
g_cancelling(gobj *g, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(SEEN(g->cancels));
}

static PyObject *
g_uncancel(gobj *g, PyObject *Py_UNUSED(ignored))
{
    procs *ps = g_procs(g);
    OWN(ps == NULL ? &g->host->own : NULL, NULL);
    LOCK_PROCS(ps);
    if (g->cancels > 0 && --g->cancels == 0)
        SHOW(g->must_cancel, false);
    int cancels = g->cancels;
    UNLOCK_PROCS(ps);
    return PyLong_FromLong(cancels);
}

/* What it gave is to be seen then. */
static bool
g_ended(gobj *g)
{
    procs *ps = g_procs(g);
    LOCK_PROCS(ps);
    bool ended = G_ENDED(g);
    UNLOCK_PROCS(ps);
    return ended;
}

static PyObject *
g_done(gobj *g, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(G_ENDED(g));
}

static PyObject *
g_cancelled(gobj *g, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(SEEN(g->state) == G_CANCELLED);
}

static PyObject *
g_result_method(gobj *g, PyObject *Py_UNUSED(ignored))
{
    OWN(g_procs(g) == NULL ? &g->host->own : NULL, NULL);
    if (!g_ended(g)) {
        PyErr_SetString(STATE(g)->InvalidStateError, "Result is not ready.");
        return NULL;
    }
    return g_result(g);
}

static PyObject *
g_exception(gobj *g, PyObject *Py_UNUSED(ignored))
{
    OWN(g_procs(g) == NULL ? &g->host->own : NULL, NULL);
    if (!g_ended(g)) {
        PyErr_SetString(STATE(g)->InvalidStateError, "Exception is not set.");
        return NULL;
    }
    if (g->state == G_CANCELLED) {
        PyObject *error = g_cancelled_error(g);
        if (error != NULL)
            PyErr_SetRaisedException(error);
        return NULL;
    }
    if (g->unseen) {
        g->unseen = false;
        g_unlink(g);
    }
    return Py_NewRef(g->state == G_FAILED ? g->value : Py_None);
}

/* Takes context. The callback is called where it is added. */
static PyObject *
add_callback_across(gobj *g, procs *ps, PyObject *callback, PyObject *context)
{
    pyhost *h = procs_here(ps);
    if (h == NULL)
        PyErr_Format(PyExc_RuntimeError, "%R belongs to another event loop", g);
    PyObject *entry = h == NULL ? NULL : PyTuple_Pack(3, callback, context, (PyObject *)h);
    grare *rare = entry == NULL ? NULL : g_rare(g);
    Py_DECREF(context);
    if (rare == NULL) {
        Py_XDECREF(entry);
        return NULL;
    }
    LOCK_PROCS(ps);
    bool ended = G_ENDED(g), kept = ended;
    if (!ended)
        kept = (rare->callbacks != NULL || (rare->callbacks = PyList_New(0)) != NULL) &&
               PyList_Append(rare->callbacks, entry) == 0;
    UNLOCK_PROCS(ps);
    if (ended)
        g_call_back(g, entry);
    Py_DECREF(entry);
    return kept ? Py_NewRef(Py_None) : NULL;
}

static PyObject *
g_add_done_callback(gobj *g, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    procs *ps = g_procs(g);
    OWN(ps == NULL ? &g->host->own : NULL, NULL);
    if (n != 1 || (names != NULL && PyTuple_GET_SIZE(names) > 1))
        return PyErr_Format(PyExc_TypeError, "add_done_callback(callback, *, context=None)");
    PyObject *context = names != NULL && PyTuple_GET_SIZE(names) == 1 ? args[1] : Py_None;
    PyObject *ctx = context != Py_None ? Py_NewRef(context) : PyContext_CopyCurrent();
    if (ctx == NULL)
        return NULL;
    if (ps != NULL)
        return add_callback_across(g, ps, args[0], ctx);
    if (G_ENDED(g)) {
        g_call_soon(g->host, args[0], (PyObject *)g, ctx);
        Py_DECREF(ctx);
        Py_RETURN_NONE;
    }
    PyObject *pair = PyTuple_Pack(2, args[0], ctx);
    Py_DECREF(ctx);
    grare *rare = g_rare(g);
    if (pair == NULL || rare == NULL || (rare->callbacks == NULL && (rare->callbacks = PyList_New(0)) == NULL) ||
        PyList_Append(rare->callbacks, pair) < 0) {
        Py_XDECREF(pair);
        return NULL;
    }
    Py_DECREF(pair);
    Py_RETURN_NONE;
}

/* Takes those out of the list that are in `which`. */
static Py_ssize_t
remove_entries(gobj *g, procs *ps, PyObject *which)
{
    Py_ssize_t removed = 0;
    LOCK_PROCS(ps);
    PyObject *callbacks = G_RARE(g, callbacks);
    for (Py_ssize_t i = callbacks ? PyList_GET_SIZE(callbacks) : 0; i-- > 0;)
        for (Py_ssize_t k = PyList_GET_SIZE(which); k-- > 0;)
            if (PyList_GET_ITEM(callbacks, i) == PyList_GET_ITEM(which, k)) { /* which has it, too */
                removed += PySequence_DelItem(callbacks, i) == 0;
                break;
            }
    UNLOCK_PROCS(ps);
    return removed;
}

static PyObject *
remove_callback_across(gobj *g, procs *ps, PyObject *callback)
{
    LOCK_PROCS(ps); /* comparing may run any code: outside */
    PyObject *callbacks = G_RARE(g, callbacks);
    PyObject *all = callbacks == NULL ? PyList_New(0) : PyList_GetSlice(callbacks, 0, PyList_GET_SIZE(callbacks));
    UNLOCK_PROCS(ps);
    for (Py_ssize_t i = all != NULL ? PyList_GET_SIZE(all) : 0; i-- > 0;) {
        int same = PyObject_RichCompareBool(PyTuple_GET_ITEM(PyList_GET_ITEM(all, i), 0), callback, Py_EQ);
        if (same < 0 || (same == 0 && PySequence_DelItem(all, i) < 0))
            Py_CLEAR(all);
        if (all == NULL)
            break;
    }
    PyObject *removed = all == NULL ? NULL : PyLong_FromSsize_t(remove_entries(g, ps, all));
    Py_XDECREF(all);
    return removed;
}

static PyObject *
g_remove_done_callback(gobj *g, PyObject *callback)
{
    procs *ps = g_procs(g);
    OWN(ps == NULL ? &g->host->own : NULL, NULL);
    if (ps != NULL)
        return remove_callback_across(g, ps, callback);
    Py_ssize_t removed = 0;
    PyObject *callbacks = G_RARE(g, callbacks);
    for (Py_ssize_t i = callbacks ? PyList_GET_SIZE(callbacks) : 0; i-- > 0;) {
        PyObject *pair = PyList_GET_ITEM(callbacks, i);
        int same = PyObject_RichCompareBool(PyTuple_GET_ITEM(pair, 0), callback, Py_EQ);
        if (same < 0 || (same && PySequence_DelItem(callbacks, i) < 0))
            return NULL;
        removed += same;
    }
    return PyLong_FromSsize_t(removed);
}

static PyObject *
g_refuse_set(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(value))
{
    PyErr_SetString(PyExc_RuntimeError, "a goroutine's result is that of its coroutine");
    return NULL;
}

static PyObject *
g_get_loop(gobj *g, PyObject *Py_UNUSED(ignored))
{
    pyhost *h = SEEN(g->host), *here = tl_running;
    if (host_procs(h) != NULL && here != NULL && host_procs(here) == host_procs(h))
        h = here; /* of several Ps it is any's: what is made for it is made here */
    PyObject *loop = host_loop(h);
    return loop != NULL ? loop : Py_NewRef(Py_None);
}

static PyObject *
g_get_coro(gobj *g, PyObject *Py_UNUSED(ignored))
{
    G_OWN(g, NULL);
    return Py_NewRef(g->coro != NULL ? g->coro : Py_None);
}

static PyObject *
g_get_context(gobj *g, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(g->context);
}

static PyObject *
g_get_name(gobj *g, PyObject *Py_UNUSED(ignored))
{
    return g_name(g);
}

static PyObject *
g_set_name(gobj *g, PyObject *value)
{
    G_OWN(g, NULL);
    if (value == Py_None) /* what some versions of asyncio pass for "no name" */
        Py_RETURN_NONE;
    PyObject *name = PyObject_Str(value);
    if (name == NULL)
        return NULL;
    const char *text = PyUnicode_AsUTF8(name);
    grare *rare = text != NULL ? g_rare(g) : NULL;
    if (rare == NULL) {
        Py_DECREF(name);
        return NULL;
    }
    PyObject *old;
    Py_BEGIN_CRITICAL_SECTION(g);
    old = rare->name;
    rare->name = name;
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(old);
    if (!G_ENDED(g) && g->task != NO_TASK && g->host->core != NULL)
        tdl_task_set_name(g->host->core, g->task, text);
    Py_RETURN_NONE;
}

static PyObject *
g_make_cancelled_error(gobj *g, PyObject *Py_UNUSED(ignored))
{
    OWN(g_procs(g) == NULL ? &g->host->own : NULL, NULL);
    return g->state == G_CANCELLED ? g_cancelled_error(g) : make_cancelled(STATE(g), G_RARE(g, cancel_msg));
}

static PyObject *
base_tasks_call(gobj *g, const char *function, PyObject *limit, PyObject *file)
{
    PyObject *module = PyImport_ImportModule("asyncio.base_tasks");
    if (module == NULL)
        return NULL;
    PyObject *result = file == NULL
        ? PyObject_CallMethod(module, function, "OO", g, limit)
        : PyObject_CallMethod(module, function, "OOO", g, limit, file);
    Py_DECREF(module);
    return result;
}

static PyObject *
g_get_stack(gobj *g, PyObject *args, PyObject *kwargs)
{
    G_OWN(g, NULL);
    static char *names[] = {"limit", NULL};
    PyObject *limit = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$O", names, &limit))
        return NULL;
    if (g->coro == NULL)
        return PyList_New(0);
    return base_tasks_call(g, "_task_get_stack", limit, NULL);
}

static PyObject *
g_print_stack(gobj *g, PyObject *args, PyObject *kwargs)
{
    G_OWN(g, NULL);
    static char *names[] = {"limit", "file", NULL};
    PyObject *limit = Py_None, *file = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OO", names, &limit, &file))
        return NULL;
    if (g->coro == NULL)
        Py_RETURN_NONE;
    return base_tasks_call(g, "_task_print_stack", limit, file);
}

static PyObject *
g_repr(gobj *g)
{
    static const char *const states[] = {"ready", "running", "waiting", "done", "failed",
                                         "cancelled"};
    PyObject *name = g_name(g), *text = NULL;
    if (name == NULL)
        return NULL;
#ifdef Py_GIL_DISABLED
    own_word *word = g_word(g);
    if (SEEN(word->thread) != 0 && !own_is_mine(word)) { /* what it has may go now */
        text = PyUnicode_FromFormat("<G %R of another thread>", name);
        Py_DECREF(name);
        return text;
    }
#endif
    PyObject *of = g->coro != NULL ? PyObject_GetAttrString(g->coro, "__qualname__") : NULL;
    if (of == NULL)
        PyErr_Clear(); /* a coroutine of a kind without one, or it has ended */
    Py_XSETREF(of, of != NULL ? PyUnicode_FromFormat(" %S()", of) : PyUnicode_FromString(""));
    if (of == NULL)
        ;
    else if (g->state == G_WAITING && g->waiting != NULL)
        text = PyUnicode_FromFormat("<G %R%U waiting for %R>", name, of, g->waiting);
    else if (g->state == G_FAILED)
        text = PyUnicode_FromFormat("<G %R failed: %R>", name, g->value);
    else
        text = PyUnicode_FromFormat("<G %R%U %s>", name, of, states[g->state]);
    Py_XDECREF(of);
    Py_DECREF(name);
    return text;
}

/* -- Attributes that asyncio looks at ------------------------------------ */

static PyObject *
get_blocking(gobj *g, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(g->blocking);
}

static int
set_blocking(gobj *g, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    g->blocking = truth;
    return 0;
}

static PyObject *
get_loop(gobj *g, void *Py_UNUSED(closure))
{
    return g_get_loop(g, NULL);
}

static PyObject *
get_coro(gobj *g, void *Py_UNUSED(closure))
{
    return g_get_coro(g, NULL);
}

static PyObject *
get_waiting(gobj *g, void *Py_UNUSED(closure))
{
    G_OWN(g, NULL);
    return Py_NewRef(g->waiting != NULL ? g->waiting : Py_None);
}

static PyObject *
get_exception(gobj *g, void *Py_UNUSED(closure))
{
    G_OWN(g, NULL);
    return Py_NewRef(g->state == G_FAILED ? g->value : Py_None);
}

static PyObject *
get_cancel_message(gobj *g, void *Py_UNUSED(closure))
{
    G_OWN(g, NULL);
    PyObject *msg = G_RARE(g, cancel_msg);
    return Py_NewRef(msg != NULL ? msg : Py_None);
}

static PyObject *
get_must_cancel(gobj *g, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(SEEN(g->must_cancel));
}

static PyObject *
get_name(gobj *g, void *Py_UNUSED(closure))
{
    return g_name(g);
}

static PyObject *
get_none(gobj *Py_UNUSED(g), void *Py_UNUSED(closure))
{
    Py_RETURN_NONE;
}

static PyGetSetDef g_getset[] = {
    {"name", (getter)get_name, NULL, "Its name.", NULL},
    {"_asyncio_future_blocking", (getter)get_blocking, (setter)set_blocking, NULL, NULL},
    {"_loop", (getter)get_loop, NULL, NULL, NULL},
    {"_coro", (getter)get_coro, NULL, NULL, NULL},
    {"_fut_waiter", (getter)get_waiting, NULL, NULL, NULL},
    {"_exception", (getter)get_exception, NULL, NULL, NULL},
    {"_cancel_message", (getter)get_cancel_message, NULL, NULL, NULL},
    {"_must_cancel", (getter)get_must_cancel, NULL, NULL, NULL},
    {"_source_traceback", (getter)get_none, NULL, NULL, NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* -- Life ---------------------------------------------------------------- */

static int
g_traverse(gobj *g, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(g));
    Py_VISIT(g->host);
#ifdef Py_GIL_DISABLED
    Py_VISIT(g->first);
#endif
    Py_VISIT(g->coro);
    Py_VISIT(g->context);
    Py_VISIT(g->waiting);
    Py_VISIT(g->value);
    Py_VISIT(g->joiners);
    Py_VISIT(g->dict);
    if (g->rare != NULL) {
        Py_VISIT(g->rare->name);
        Py_VISIT(g->rare->error_tb);
        Py_VISIT(g->rare->cancel_msg);
        Py_VISIT(g->rare->callbacks);
        Py_VISIT(g->rare->group);
        Py_VISIT(g->rare->wakeup);
    }
    if (g->waiting != NULL && g->busy && !op_check(g->waiting) && host_waits_alone(g->host, g->task))
        Py_VISIT(g); /* the slot's: see collect.c */
    return 0;
}

static int
g_clear(gobj *g)
{
    if (g->host != NULL)
        g_unlink(g);
    Py_CLEAR(g->coro);
    Py_CLEAR(g->context);
    Py_CLEAR(g->waiting);
    Py_CLEAR(g->value);
    Py_CLEAR(g->joiners);
    Py_CLEAR(g->dict);
    if (g->rare != NULL) {
        Py_CLEAR(g->rare->name);
        Py_CLEAR(g->rare->error_tb);
        Py_CLEAR(g->rare->cancel_msg);
        Py_CLEAR(g->rare->callbacks);
        Py_CLEAR(g->rare->group);
        Py_CLEAR(g->rare->wakeup);
    }
    return 0;
}

static void
g_finalize(gobj *g)
{
    PyObject *exc = PyErr_GetRaisedException(), *loop = NULL;
    if (g->unseen) {
        g_report(g);
    } else if (!G_ENDED(g) && g->log_destroy && g->coro != NULL && (loop = host_loop(g->host)) != NULL) {
        PyObject *context = Py_BuildValue("{s:s,s:O}", "message",
                                          "goroutine was destroyed but it is pending!",
                                          "future", (PyObject *)g);
        PyObject *done = context == NULL ? NULL
            : PyObject_CallMethod(loop, "call_exception_handler", "N", context);
        if (done == NULL)
            PyErr_WriteUnraisable((PyObject *)g);
        Py_XDECREF(done);
    }
    Py_XDECREF(loop);
    g_collect(g);
    PyErr_SetRaisedException(exc);
}

static void
g_dealloc(gobj *g)
{
    PyTypeObject *type = Py_TYPE(g);
    if (PyObject_CallFinalizerFromDealloc((PyObject *)g) < 0)
        return;
    PyObject_GC_UnTrack(g);
    CLEAR_WEAKREFS(g);
    g_clear(g);
    PyMem_Free(g->rare);
    Py_CLEAR(g->host);
#ifdef Py_GIL_DISABLED
    Py_CLEAR(g->first);
#endif
    PyObject_GC_Del(g);
    Py_DECREF(type);
}

static PyMethodDef g_methods[] = {
    {"cancel", (PyCFunction)(void (*)(void))g_cancel_method, METH_FASTCALL | METH_KEYWORDS,
     "cancel(msg=None) -> bool\n\n"
     "Raises asyncio.CancelledError(msg) in the goroutine, at the operation it waits in.\n"
     "A value that was handed to it in this very turn is received first; the next wait\n"
     "then raises. False if it has ended."},
    {"cancelling", (PyCFunction)g_cancelling, METH_NOARGS,
     "Cancellations asked for and not taken back by uncancel."},
    {"uncancel", (PyCFunction)g_uncancel, METH_NOARGS,
     "Takes one cancellation request back; how many are left."},
    {"done", (PyCFunction)g_done, METH_NOARGS,
     "Whether it has ended: with a result, an exception or cancelled."},
    {"cancelled", (PyCFunction)g_cancelled, METH_NOARGS, "Whether it ended by a cancellation."},
    {"result", (PyCFunction)g_result_method, METH_NOARGS,
     "Its result, or its exception raised. asyncio.InvalidStateError while it runs."},
    {"exception", (PyCFunction)g_exception, METH_NOARGS,
     "The exception that ended it, or None. asyncio.InvalidStateError while it runs."},
    {"add_done_callback", (PyCFunction)(void (*)(void))g_add_done_callback,
     METH_FASTCALL | METH_KEYWORDS,
     "add_done_callback(callback, *, context=None)\n\n"
     "Calls callback(g) from the loop once it has ended."},
    {"remove_done_callback", (PyCFunction)g_remove_done_callback, METH_O,
     "Removes all of this callback; how many there were."},
    {"set_result", (PyCFunction)g_refuse_set, METH_O, "RuntimeError."},
    {"set_exception", (PyCFunction)g_refuse_set, METH_O, "RuntimeError."},
    {"get_loop", (PyCFunction)g_get_loop, METH_NOARGS, "The event loop it runs in."},
    {"get_coro", (PyCFunction)g_get_coro, METH_NOARGS, "Its coroutine; None once it has ended."},
    {"get_context", (PyCFunction)g_get_context, METH_NOARGS, "Its contextvars.Context."},
    {"get_name", (PyCFunction)g_get_name, METH_NOARGS, "Its name."},
    {"set_name", (PyCFunction)g_set_name, METH_O, "Gives it a name, which dumps show."},
    {"get_stack", (PyCFunction)(void (*)(void))g_get_stack, METH_VARARGS | METH_KEYWORDS,
     "get_stack(*, limit=None) -> list of frames, as asyncio.Task has it."},
    {"print_stack", (PyCFunction)(void (*)(void))g_print_stack, METH_VARARGS | METH_KEYWORDS,
     "print_stack(*, limit=None, file=None), as asyncio.Task has it."},
    {"_make_cancelled_error", (PyCFunction)g_make_cancelled_error, METH_NOARGS, NULL},
    {"_wakeup", (PyCFunction)g_wakeup, METH_O, NULL},
#ifdef Py_GIL_DISABLED
    {"_poke", (PyCFunction)g_poke, METH_NOARGS, NULL},
#endif
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef g_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(gobj, weakrefs), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(gobj, dict), READONLY, NULL},
    {"_log_destroy_pending", T_BOOL, offsetof(gobj, log_destroy), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot g_slots[] = {
    {Py_tp_doc, "The handle of a goroutine, which treadle.go returns.\n\n"
                "await g gives its result or raises its exception; cancelling who awaits does\n"
                "not cancel g. An exception that nobody asks for is reported through the\n"
                "loop's exception handler once the handle is gone."},
    {Py_tp_dealloc, g_dealloc},
    {Py_tp_finalize, g_finalize},
    {Py_tp_traverse, g_traverse},
    {Py_tp_clear, g_clear},
    {Py_tp_repr, g_repr},
    {Py_am_await, g_await},
    {Py_tp_iter, g_await},
    {Py_tp_methods, g_methods},
    {Py_tp_members, g_members},
    {Py_tp_getset, g_getset},
    {0, NULL},
};

PyType_Spec g_spec = {
    .name = "treadle.G",
    .basicsize = sizeof(gobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = g_slots,
};
