/* SPDX-License-Identifier: MIT
 *
 * The type of an op: what an iterator has, what asyncio's Task asks of a future, and
 * what a Task's cancellation in the very turn of a value comes to. How an op starts and
 * ends is in op.c, with the invariants. */
#include "procs.h"

static void op_dealloc(opobj *op);

bool
op_check(PyObject *object)
{
    return Py_TYPE(object)->tp_dealloc == (destructor)op_dealloc;
}

/* -- The iterator -------------------------------------------------------- */

static PySendResult
op_am_send(PyObject *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    return op_send((opobj *)self, result);
}

PyObject *
stop_with(PyObject *value)
{
    if (value == Py_None) {
        PyErr_SetNone(PyExc_StopIteration);
    } else if (PyTuple_Check(value) || PyExceptionInstance_Check(value)) {
        PyObject *exc = PyObject_CallOneArg(PyExc_StopIteration, value);
        if (exc != NULL)
            PyErr_SetRaisedException(exc);
    } else {
        PyErr_SetObject(PyExc_StopIteration, value);
    }
    Py_DECREF(value);
    return NULL;
}

PyObject *
raise_thrown(PyObject *const *args, Py_ssize_t n)
{
    if (n < 1 || n > 3)
        return PyErr_Format(PyExc_TypeError, "throw expected 1 to 3 arguments, got %zd", n);
    if (PyExceptionInstance_Check(args[0]))
        PyErr_SetRaisedException(Py_NewRef(args[0]));
    else if (PyExceptionClass_Check(args[0]))
        PyErr_SetObject(args[0], n > 1 && args[1] != Py_None ? args[1] : NULL);
    else
        PyErr_SetString(PyExc_TypeError,
                        "exceptions must be classes or instances deriving from BaseException");
    return NULL;
}

static PyObject *
op_iternext(opobj *op)
{
    PyObject *result;
    PySendResult r = op_send(op, &result);
    if (r == PYGEN_RETURN) {
        if (result != Py_None)
            return stop_with(result);
        Py_DECREF(result); /* NULL without an exception means just that */
        return NULL;
    }
    return result;
}

static PyObject *
op_send_method(opobj *op, PyObject *Py_UNUSED(value))
{
    PyObject *result;
    PySendResult r = op_send(op, &result);
    return r == PYGEN_RETURN ? stop_with(result) : result;
}

/* -- Cancelled in the turn of the value ----------------------------------- */

/* Whether a result of this kind would be lost if nobody took it. */
static bool
op_carries(opobj *op)
{
    switch (op->kind) {
    case OP_SEND: case OP_RECV: case OP_RECV_OK: case OP_RECV_NEXT: case OP_SELECT:
    case OP_LOCK: case OP_COND: case OP_ACQUIRE:
    case OP_RLOCK: case OP_WLOCK: case OP_PLACE:
    case OP_ACCEPT: case OP_ACCEPT_NEXT: case OP_DIAL: case OP_READ:
    case OP_EXACT: case OP_LINE: case OP_LINE_NEXT: case OP_UNTIL:
        return true;
    default:
        return false;
    }
}

/* A Task throws a cancellation at an op that has its value already: the value
 * wins, and the cancellation comes at the task's next wait (op_take_deferred,
 * or op_recancel if that is not one of treadle's), unless it was taken back by
 * then, as by a timeout whose block has ended. */
static bool
op_defer_cancel(opobj *op, PyObject *type)
{
    mod_state *st = STATE(op);
    pyhost *h = op->host;
    if (op->state != OP_DONE || op->failed || op->value == NULL || !op_carries(op) || h->loop == NULL ||
        !PyErr_GivenExceptionMatches(type, st->CancelledError))
        return false;
    bool deferred = false;
    PyObject *task = PyObject_CallNoArgs(st->current_task), *count = NULL;
    if (task != NULL && task != Py_None)
        count = PyObject_CallMethodNoArgs(task, st->s_cancelling);
    if (count != NULL && PyLong_AsLong(count) > 0 &&
        (h->deferred != NULL || (h->deferred = PyDict_New()) != NULL) &&
        PyDict_SetItem(h->deferred, task, count) == 0) {
        PyObject *args[] = {NULL, st->recancel, h->deferred, task};
        PyObject *handle = PyObject_Vectorcall(h->call_soon, args + 1,
                                               3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        deferred = handle != NULL;
        Py_XDECREF(handle);
    }
    PyErr_Clear();
    Py_XDECREF(task);
    Py_XDECREF(count);
    return deferred;
}

/* Takes the task out of the deferred. 1: its cancellation still stands. */
static int
deferred_pop(mod_state *st, PyObject *deferred, PyObject *task)
{
    PyObject *count, *now = NULL;
    int stands = dict_get(deferred, task, &count);
    if (stands > 0)
        stands = PyDict_DelItem(deferred, task);
    if (count != NULL && stands == 0 &&
        (now = PyObject_CallMethodNoArgs(task, st->s_cancelling)) != NULL)
        stands = PyObject_RichCompareBool(now, count, Py_GE);
    Py_XDECREF(count);
    Py_XDECREF(now);
    return PyErr_Occurred() ? -1 : stands;
}

/* Before an op waits in a Task: -1 with CancelledError if one was deferred. */
int
op_take_deferred(mod_state *st, pyhost *h)
{
    PyObject *task = PyObject_CallNoArgs(st->current_task);
    int stands = task == NULL ? -1 : deferred_pop(st, h->deferred, task);
    Py_XDECREF(task);
    if (stands > 0)
        raise_cancelled(st, NULL);
    return stands == 0 ? 0 : -1;
}

/* _recancel(deferred, task), by call_soon. */
PyObject *
op_recancel(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    mod_state *st = state_of(module);
    if (n != 2 || !PyDict_Check(args[0]))
        return PyErr_Format(PyExc_TypeError, "_recancel(deferred, task)");
    int stands = deferred_pop(st, args[0], args[1]);
    if (stands > 0) {
        /* cancel() counts once more: take that back */
        Py_XDECREF(PyObject_CallMethodNoArgs(args[1], st->s_cancel));
        if (!PyErr_Occurred())
            Py_XDECREF(PyObject_CallMethodNoArgs(args[1], st->s_uncancel));
    }
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* -- Throw, close --------------------------------------------------------- */

static PyObject *
op_throw(opobj *op, PyObject *const *args, Py_ssize_t n)
{
    OWN(OP_OWN(op), NULL);
    if (n < 1 || n > 3)
        return raise_thrown(args, n);
    PyObject *exc = args[0];
    PyObject *type = PyExceptionInstance_Check(exc) ? (PyObject *)Py_TYPE(exc) : exc;
    if (op_defer_cancel(op, type)) {
        op_set_state(op, OP_SPENT);
        PyObject *value = op->value;
        op->value = NULL;
        return stop_with(value);
    }
    if (op_state(op) == OP_PENDING)
        op_abandon(op);
    else if (op_state(op) == OP_DONE)
        op_discard(op);
    if (op_state(op) != OP_PENDING)
        op_set_state(op, OP_SPENT);
    return raise_thrown(args, n);
}

static PyObject *
op_close(opobj *op, PyObject *Py_UNUSED(ignored))
{
    OWN(OP_OWN(op), NULL);
    if (op_state(op) == OP_PENDING) {
        op_abandon(op);
    } else {
        if (op_state(op) == OP_DONE)
            op_discard(op);
        op_set_state(op, OP_SPENT);
    }
    Py_RETURN_NONE;
}

/* -- What asyncio asks of a future --------------------------------------- */

static PyObject *
op_add_done_callback(opobj *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    OWN(OP_OWN(op), NULL);
    PyObject *context = NULL;
    if (n != 1 || (names != NULL && PyTuple_GET_SIZE(names) > 1))
        return PyErr_Format(PyExc_TypeError, "add_done_callback takes a callback");
    if (names != NULL && PyTuple_GET_SIZE(names) == 1)
        context = args[n];
    if (op_state(op) == OP_NEW || op->host == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the operation was not started by an await");
        return NULL;
    }
    PyObject *ctx = context != NULL && context != Py_None ? Py_NewRef(context)
                                                          : PyContext_CopyCurrent();
    if (ctx == NULL)
        return NULL;
    if (op_state(op) != OP_PENDING) {
        g_call_soon(op->host, args[0], (PyObject *)op, ctx);
        Py_DECREF(ctx);
        Py_RETURN_NONE;
    }
    PyObject *pair = PyTuple_Pack(2, args[0], ctx);
    Py_DECREF(ctx);
    if (pair == NULL || (op->callbacks == NULL && (op->callbacks = PyList_New(0)) == NULL) ||
        PyList_Append(op->callbacks, pair) < 0) {
        Py_XDECREF(pair);
        return NULL;
    }
    Py_DECREF(pair);
    Py_RETURN_NONE;
}

static PyObject *
op_remove_done_callback(opobj *op, PyObject *callback)
{
    OWN(OP_OWN(op), NULL);
    Py_ssize_t removed = 0;
    for (Py_ssize_t i = op->callbacks ? PyList_GET_SIZE(op->callbacks) : 0; i-- > 0;) {
        PyObject *pair = PyList_GET_ITEM(op->callbacks, i);
        int same = PyObject_RichCompareBool(PyTuple_GET_ITEM(pair, 0), callback, Py_EQ);
        if (same < 0 || (same && PySequence_DelItem(op->callbacks, i) < 0))
            return NULL;
        removed += same;
    }
    return PyLong_FromSsize_t(removed);
}

/* True: it will end with CancelledError. False: it has ended, or its value is
 * on the way (the task then throws, and op_throw lets the value win). */
static PyObject *
op_cancel(opobj *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    OWN(OP_OWN(op), NULL);
    PyObject *msg = n + (names ? PyTuple_GET_SIZE(names) : 0) > 0 ? args[0] : NULL;
    if (op_state(op) != OP_PENDING)
        Py_RETURN_FALSE;
    if (op->kind == OP_JOIN && op->task == NO_TASK) {
        g_join_remove((gobj *)op->target, op);
        Py_XSETREF(op->value, Py_XNewRef(msg));
        op_complete(op, NO_TASK, TDL_ECANCELED);
        Py_RETURN_TRUE;
    }
    int rc = !host_reach(op->host) ? 0 : tdl_task_cancel(op->host->core, op->task);
    if (rc != 1 && rc != TDL_EFORKED)
        Py_RETURN_FALSE;
    op->cancelled = true;
    Py_XSETREF(op->value, Py_XNewRef(msg));
    if (rc == TDL_EFORKED) /* asyncio's loop goes on, and no event will come */
        op_complete(op, op->task, TDL_ECANCELED);
    else
        HOST_KICK(op->host);
    Py_RETURN_TRUE;
}

/* The result stays: the coroutine takes it when it is resumed. */
static PyObject *
op_result_method(opobj *op, PyObject *Py_UNUSED(ignored))
{
    OWN(OP_OWN(op), NULL);
    if (op_state(op) == OP_DONE && op->failed) {
        PyErr_SetRaisedException(Py_NewRef(op->value));
        return NULL;
    }
    if (op_state(op) == OP_DONE && op->value != NULL)
        return Py_NewRef(op->value);
    PyErr_SetString(STATE(op)->InvalidStateError, "Result is not ready.");
    return NULL;
}

static PyObject *
op_exception(opobj *op, PyObject *Py_UNUSED(ignored))
{
    OWN(OP_OWN(op), NULL);
    if (op_state(op) < OP_DONE) {
        PyErr_SetString(STATE(op)->InvalidStateError, "Exception is not set.");
        return NULL;
    }
    return Py_NewRef(op->failed ? op->value : Py_None);
}

static PyObject *
op_done(opobj *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(op_state(op) >= OP_DONE);
}

static PyObject *
op_cancelled(opobj *op, PyObject *Py_UNUSED(ignored))
{
    OWN(OP_OWN(op), NULL);
    return PyBool_FromLong(op->failed &&
                           PyErr_GivenExceptionMatches(op->value, STATE(op)->CancelledError));
}

static PyObject *
op_get_loop(opobj *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *loop = op_state(op) == OP_NEW || op->host == NULL ? NULL : host_loop(op->host);
    if (loop == NULL)
        PyErr_SetString(PyExc_RuntimeError, "Future object is not initialized.");
    return loop;
}

static PyObject *
op_get_blocking(opobj *op, void *Py_UNUSED(closure))
{
    if (op->g != NULL || op_state(op) != OP_PENDING)
        Py_RETURN_NONE;
    return PyBool_FromLong(op->blocking);
}

static int
op_set_blocking(opobj *op, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    op->blocking = truth;
    return 0;
}

/* For who shows where a task waits (asyncio.print_call_graph): one that awaits a goroutine
 * waits where that does, so its stack goes on there. No other op has these attributes. */
static PyObject *
op_of_target(opobj *op, void *name)
{
    if (op->kind == OP_JOIN && op_state(op) == OP_PENDING) {
        OWN(OP_OWN(op), NULL);
        gobj *target = (gobj *)op->target;
#ifdef Py_GIL_DISABLED
        bool seen = g_procs(target) == NULL || own_is_mine(g_word(target)); /* else what it has may go now */
#else
        bool seen = true;
#endif
        PyObject *coro = seen ? target->coro : NULL;
        if (coro != NULL)
            return PyObject_GetAttrString(coro, name);
    }
    PyErr_Format(PyExc_AttributeError, "'%s' object has no attribute '%s'", Py_TYPE(op)->tp_name, (const char *)name);
    return NULL;
}

/* That of an op nobody has awaited is asked for an attribute: for one of its result's. */
static PyObject *
op_getattr(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(self, name);
    opobj *op = (opobj *)self;
    if (value != NULL || op->kind == OP_JOIN || (op_state(op) != OP_NEW && op->kind != OP_VALUE) ||
        !PyErr_ExceptionMatches(PyExc_AttributeError))
        return value;
    PyErr_Clear();
    const char *what = op_name(op);
    if (op->kind == OP_VALUE)
        return PyErr_Format(PyExc_AttributeError, "%R has no attribute %R: an `await` is missing", self, name);
    return PyErr_Format(PyExc_AttributeError, "%R has no attribute %R: %s() is to be awaited", self, name, what);
}

/* __aenter__ and __aexit__ of what is no context manager: Python's own message names neither it nor the way out. */
static PyObject *
op_no_manager(opobj *op, PyObject *Py_UNUSED(args))
{
    if (op->kind == OP_LOCK || op->kind == OP_ACQUIRE)
        return PyErr_Format(PyExc_TypeError, "`async with` takes what is locked itself, and calls %s()", op_name(op));
    if (op->kind == OP_VALUE)
        return PyErr_Format(PyExc_TypeError, "%R is no context manager: an `await` is missing (async with await ...)", op);
    return PyErr_Format(PyExc_TypeError, "%R is no context manager: %s() is to be awaited (async with await ...)", op,
                        op_name(op));
}

static PyObject *
op_repr(opobj *op)
{
    static const char *const states[] = {"not started", "waiting", "done", "done"};
    return PyUnicode_FromFormat("<treadle %s, %s>", op_name(op), states[op_state(op)]);
}

static int
op_traverse(opobj *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(op->host);
    Py_VISIT(op->target);
    Py_VISIT(op->arg);
    Py_VISIT(op->value);
    Py_VISIT(op->callbacks);
    if (op->kind == OP_JOIN && op->g != NULL && host_waits_alone(op->host, op->g->task))
        Py_VISIT(op->g); /* the slot's: see collect.c */
    return 0;
}

static int
op_clear(opobj *op)
{
    Py_CLEAR(op->host);
    Py_CLEAR(op->target);
    Py_CLEAR(op->arg);
    op->failed = false;
    Py_CLEAR(op->value);
    Py_CLEAR(op->callbacks);
    return 0;
}

static void
op_dealloc(opobj *op)
{
    PyTypeObject *type = Py_TYPE(op);
    mod_state *st = STATE(op);
    PyObject_GC_UnTrack(op);
    if (op->state == OP_DONE) {
        op->abandoned = true;
        op_discard(op);
    } else if (op->state == OP_NEW && st != NULL) {
        op_forgotten(op);
    }
    op_clear(op);
#ifndef Py_GIL_DISABLED
    if (st != NULL && st->op_nfree < OP_FREELIST) {
        op->value = (PyObject *)st->op_free;
        st->op_free = op;
        st->op_nfree++;
        Py_DECREF(type);
        return;
    }
#endif
    (void)st;
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

/* Ends the wait of an op of kind SCOPE. */
static PyObject *
op_wake(opobj *op, PyObject *Py_UNUSED(ignored))
{
    OWN(OP_OWN(op), NULL);
    if (op->kind == OP_SCOPE && op_state(op) == OP_PENDING && op->host->core != NULL) {
        tdl_task_ready(op->host->core, op->task, 0);
        HOST_KICK(op->host);
    }
    Py_RETURN_NONE;
}

static PyMethodDef op_methods[] = {
    {"send", (PyCFunction)op_send_method, METH_O, "Resumes the operation."},
    {"throw", (PyCFunction)(void (*)(void))op_throw, METH_FASTCALL,
     "Ends the wait with an exception."},
    {"close", (PyCFunction)op_close, METH_NOARGS, "Gives the operation up."},
    {"add_done_callback", (PyCFunction)(void (*)(void))op_add_done_callback,
     METH_FASTCALL | METH_KEYWORDS, "For the task that waits."},
    {"remove_done_callback", (PyCFunction)op_remove_done_callback, METH_O,
     "For the task that waits."},
    {"cancel", (PyCFunction)(void (*)(void))op_cancel, METH_FASTCALL | METH_KEYWORDS,
     "For the task that waits."},
    {"result", (PyCFunction)op_result_method, METH_NOARGS, "For the task that waits."},
    {"exception", (PyCFunction)op_exception, METH_NOARGS, "For the task that waits."},
    {"done", (PyCFunction)op_done, METH_NOARGS, "Whether the operation has ended."},
    {"cancelled", (PyCFunction)op_cancelled, METH_NOARGS, "Whether it was cancelled."},
    {"get_loop", (PyCFunction)op_get_loop, METH_NOARGS, "The loop it waits in."},
    {"_wake", (PyCFunction)op_wake, METH_NOARGS, NULL},
    {"__aenter__", (PyCFunction)op_no_manager, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)op_no_manager, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyObject *
op_get_name(opobj *op, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(op_name(op));
}

static PyGetSetDef op_getset[] = {
    {"__name__", (getter)op_get_name, NULL, NULL, NULL}, /* as a coroutine has it, for asyncio's reprs */
    {"__qualname__", (getter)op_get_name, NULL, NULL, NULL},
    {"_asyncio_future_blocking", (getter)op_get_blocking, (setter)op_set_blocking, NULL, NULL},
    {"_loop", (getter)op_get_loop, NULL, NULL, NULL},
    {"cr_await", (getter)op_of_target, NULL, "What the goroutine that is waited for awaits.", "cr_await"},
    {"cr_frame", (getter)op_of_target, NULL, "The frame of the goroutine that is waited for.", "cr_frame"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot op_slots[] = {
    {Py_tp_doc, "An operation of treadle; await it, once."},
    {Py_tp_dealloc, op_dealloc},
    {Py_tp_traverse, op_traverse},
    {Py_tp_clear, op_clear},
    {Py_tp_repr, op_repr},
    {Py_tp_getattro, op_getattr},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, op_am_send},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, op_iternext},
    {Py_tp_methods, op_methods},
    {Py_tp_getset, op_getset},
    {0, NULL},
};

PyType_Spec op_spec = {
    .name = "treadle.Op",
    .basicsize = sizeof(opobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = op_slots,
};
