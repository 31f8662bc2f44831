/* SPDX-License-Identifier: MIT
 *
 * The awaitable: one operation, as Python sees it. It starts at its first send.
 * If the result is there it is returned at once; otherwise the op yields
 * itself, and whoever drives the coroutine waits for it:
 *   a G      is bound to it, and resumed by the op's event (gtask.c);
 *   a Task   takes the pending op for a future: it has the few methods that
 *            asyncio asks of one, and calls its callbacks by loop.call_soon.
 *
 * Invariants.
 *  - NEW → PENDING → DONE → SPENT, or NEW → SPENT. `_asyncio_future_blocking`
 *    is None unless the op is PENDING for a Task, so that asyncio takes an op
 *    for a future only then (ensure_future wraps a new one in a task).
 *  - A value that was handed over is received: a Task that is cancelled in that
 *    very turn gets the value, and the cancellation at its next wait.
 *  - An op that has a host is that host's (own.h). One that has none is NEW, or a result
 *    that was there from the start: of several threads that send to it one gets it. */
#include "state.h"

static void op_dealloc(opobj *op);

bool
op_check(PyObject *object)
{
    return Py_TYPE(object)->tp_dealloc == (destructor)op_dealloc;
}

opobj *
op_new(mod_state *st, int kind, PyObject *target, PyObject *arg, int64_t num)
{
    if (state_gone(st))
        return NULL;
    opobj *op = st->op_free;
    if (op != NULL) {
        st->op_free = (opobj *)op->value;
        st->op_nfree--;
        PyObject_Init((PyObject *)op, st->OpType);
    } else {
        op = PyObject_GC_New(opobj, st->OpType);
        if (op == NULL)
            return NULL;
    }
    memset((char *)op + sizeof(PyObject), 0, sizeof *op - sizeof(PyObject));
    op->target = Py_XNewRef(target);
    op->arg = Py_XNewRef(arg);
    op->num = num;
    op->kind = (uint8_t)kind;
    op->task = NO_TASK;
    PyObject_GC_Track(op);
    return op;
}

PyObject *
op_value(mod_state *st, PyObject *value)
{
    if (value == NULL)
        return NULL;
    opobj *op = op_new(st, OP_VALUE, NULL, NULL, 0);
    if (op == NULL) {
        Py_DECREF(value);
        return NULL;
    }
    op->state = OP_DONE;
    op->value = value;
    return (PyObject *)op;
}

/* -- Start --------------------------------------------------------------- */

/* Whether g, which is being stepped, is the task that asyncio knows as the
 * current one: an eager asyncio.Task (3.12) may run inside its step. */
static bool
g_drives(pyhost *h, gobj *g)
{
#if PY_VERSION_HEX >= 0x030c0000
    PyObject *current;
    if (h->st->current_tasks != NULL) {
        if (dict_get(h->st->current_tasks, h->loop, &current) < 0)
            PyErr_Clear();
        Py_XDECREF(current);
        return current == (PyObject *)g;
    }
    current = PyObject_CallNoArgs(h->st->current_task);
    if (current == NULL)
        PyErr_Clear();
    Py_XDECREF(current);
    return current == (PyObject *)g;
#else
    (void)h;
    (void)g;
    return true;
#endif
}

static int op_take_deferred(mod_state *st, pyhost *h);

/* An op outside a G has locked a mutex. Its task is anybody's next, and so must
 * not be taken for the owner. */
static void
op_disown(opobj *op, int32_t code)
{
    if (op->kind == OP_LOCK && code == 0)
        tdl_mutex_disown(((mutexobj *)op->target)->core);
    else if (op->kind == OP_COND && code != TDL_ENOTLOCKED)
        tdl_mutex_disown(((condobj *)op->target)->mutex->core);
}

/* Who begins a once or a flight is known to the core by his task, which may have
 * been somebody else's since: the wrappers see to those that wait for themselves.
 * Starts the op on a task that is not the one that is known. */
static int32_t
op_start_elsewhere(opobj *op, pyhost *h, uint32_t *task)
{
    uint32_t passed = NO_TASK;
    int32_t code = TDL_EDEADLOCK;
    while (code == TDL_EDEADLOCK) {
        uint32_t next = host_task_new(h, false);
        host_task_free(h, passed);
        passed = next;
        if (next == NO_TASK || host_slot_set(h, next, NULL) < 0)
            return OP_ERROR;
        *task = op->task = next;
        code = op_start(op, h, next);
    }
    if (code == OP_ERROR)
        host_task_free(h, passed);
    return code;
}

static void
raise_spent(opobj *op)
{
    PyErr_Format(PyExc_RuntimeError, "cannot reuse already awaited %s", op_name(op->kind));
}

/* Makes it SPENT, unless another thread has been faster. */
static inline bool
op_take(opobj *op, uint8_t state)
{
#ifdef Py_GIL_DISABLED
    return __atomic_compare_exchange_n(&op->state, &state, OP_SPENT, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
#else
    (void)state;
    op->state = OP_SPENT;
    return true;
#endif
}

/* Its state, and the host that it had by then is the one it has. */
static inline int
op_state(opobj *op)
{
    return __atomic_load_n(&op->state, __ATOMIC_ACQUIRE); /* with the release of op_set_state */
}

static inline void
op_set_state(opobj *op, int state)
{
    __atomic_store_n(&op->state, (uint8_t)state, __ATOMIC_RELEASE);
}

#define OP_OWN(op) (op_state(op) != OP_NEW && (op)->host != NULL ? &(op)->host->own : NULL)

/* alone: nobody waits for it. */
static PySendResult
op_begin(opobj *op, PyObject **result, bool alone)
{
    mod_state *st = STATE(op);
    *result = NULL;
    if (!op_take(op, OP_NEW)) {
        raise_spent(op);
        return PYGEN_ERROR;
    }
    pyhost *h = host_get(st);
    if (h == NULL)
        return PYGEN_ERROR;
    gobj *g = tl_running == h && !alone ? h->current : NULL;
    if (g != NULL && !g_drives(h, g))
        g = NULL;
    uint32_t task;
    if (g != NULL) {
        if (g->busy && g_shed(g) < 0)
            return PYGEN_ERROR;
        if (g->must_cancel) {
            g->must_cancel = false;
            raise_cancelled(st, G_RARE(g, cancel_msg));
            return PYGEN_ERROR;
        }
        task = g->task;
    } else {
        if (host_task_spare(h) < 0)
            return PYGEN_ERROR;
        if (!alone && h->deferred != NULL && PyDict_GET_SIZE(h->deferred) > 0 &&
            op_take_deferred(st, h) < 0)
            return PYGEN_ERROR;
        task = h->spare;
    }
    op->host = (pyhost *)Py_NewRef((PyObject *)h);
    op->task = task;
    int32_t code = op_start(op, h, task);
    bool elsewhere = code == TDL_EDEADLOCK && (op->kind == OP_ONCE || op->kind == OP_FLIGHT);
    if (elsewhere) {
        code = op_start_elsewhere(op, h, &task);
        g = NULL;
    }
    if (code == OP_ERROR)
        return PYGEN_ERROR;
    HOST_KICK(h);
    if (code != TDL_PENDING) {
        if (g == NULL)
            op_disown(op, code);
        *result = op_result(op, task, code);
        if (elsewhere)
            host_task_free(h, task);
        return *result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
    }
    op_set_state(op, OP_PENDING);
    if (g != NULL) {
        op->g = g;
        g->busy = true;
        g->waiting = Py_NewRef((PyObject *)op);
    } else {
        h->slots[task] = Py_NewRef((PyObject *)op);
        if (!elsewhere)
            h->spare = NO_TASK;
        op->blocking = !alone;
    }
    op->counted = true;
    h->pending++;
    op_hold(op);
    *result = Py_NewRef((PyObject *)op);
    return PYGEN_NEXT;
}

/* Does the target wait for who begins to wait for it? true: exception. */
static bool
op_closes_circle(mod_state *st, pyhost *h, gobj *g, gobj *target)
{
    PyObject *waiter;
    if (g != NULL && g_drives(h, g))
        waiter = Py_NewRef((PyObject *)g);
    else if ((waiter = PyObject_CallNoArgs(st->current_task)) == NULL)
        return true;
    int rc = circle_through(st, (PyObject *)target, waiter);
    Py_DECREF(waiter);
    return rc < 0;
}

/* Waiting for a goroutine's end outside a G needs no task of the core. */
static PySendResult
op_begin_join(opobj *op, PyObject **result)
{
    gobj *target = (gobj *)op->target;
    *result = NULL;
    if (G_ENDED(target)) {
        OWN(&target->host->own, PYGEN_ERROR);
        if (!op_take(op, OP_NEW)) {
            raise_spent(op);
            return PYGEN_ERROR;
        }
        *result = g_result(target);
        return *result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
    }
    mod_state *st = STATE(op);
    pyhost *h = host_get(st);
    if (h == NULL)
        return PYGEN_ERROR;
    if (h != target->host) {
        PyErr_Format(PyExc_RuntimeError, "%R belongs to another event loop", target);
        return PYGEN_ERROR;
    }
    gobj *g = tl_running == h ? h->current : NULL;
    if (g == target) {
        PyErr_Format(PyExc_RuntimeError, "Task cannot await on itself: %R", target);
        return PYGEN_ERROR;
    }
    if (target->waiting != NULL && op_closes_circle(st, h, g, target))
        return PYGEN_ERROR;
    if (target->joiners == NULL && (target->joiners = PyList_New(0)) == NULL)
        return PYGEN_ERROR;
    if (PyList_Append(target->joiners, (PyObject *)op) < 0)
        return PYGEN_ERROR;
    if (g != NULL && g_drives(h, g)) {
        PySendResult r = op_begin(op, result, false);
        if (r != PYGEN_NEXT)
            g_join_remove(target, op);
        return r;
    }
    op->host = (pyhost *)Py_NewRef((PyObject *)h);
    op_set_state(op, OP_PENDING);
    op->blocking = true;
    *result = Py_NewRef((PyObject *)op);
    return PYGEN_NEXT;
}

PySendResult
op_send(opobj *op, PyObject **result)
{
    *result = NULL;
    OWN(OP_OWN(op), PYGEN_ERROR);
    switch (op->state) {
    case OP_NEW:
        return op->kind == OP_JOIN ? op_begin_join(op, result) : op_begin(op, result, false);
    case OP_DONE:
        if (!op_take(op, OP_DONE)) {
            *result = NULL;
            raise_spent(op);
            return PYGEN_ERROR;
        }
        *result = op->value;
        op->value = NULL;
        if (op->failed) {
            op->failed = false;
            PyErr_SetRaisedException(*result);
            *result = NULL;
            return PYGEN_ERROR;
        }
        return PYGEN_RETURN;
    case OP_PENDING:
        *result = NULL;
        PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
        return PYGEN_ERROR;
    default:
        *result = NULL;
        raise_spent(op);
        return PYGEN_ERROR;
    }
}

PyObject *
op_launch(PyObject *module, PyObject *object)
{
    mod_state *st = state_of(module);
    opobj *op = (opobj *)object;
    PyObject *result;
    if (Py_TYPE(object) != st->OpType || op->state != OP_NEW || op->kind == OP_JOIN)
        return PyErr_Format(PyExc_TypeError, "_launch takes an operation that was not awaited");
    switch (op_begin(op, &result, true)) {
    case PYGEN_ERROR:
        return NULL;
    case PYGEN_RETURN:
        op->state = OP_DONE;
        op->value = result;
        break;
    default:
        Py_DECREF(result); /* the slot holds the op */
    }
    return Py_NewRef(object);
}

/* _scope_op(goroutines): waits until op._wake(). */
PyObject *
op_scope(PyObject *module, PyObject *goroutines)
{
    return (PyObject *)op_new(state_of(module), OP_SCOPE, goroutines, NULL, 0);
}

/* Ends the wait of an op of kind SCOPE. */
static PyObject *
op_wake(opobj *op, PyObject *Py_UNUSED(ignored))
{
    OWN(OP_OWN(op), NULL);
    if (op->kind == OP_SCOPE && op->state == OP_PENDING && op->host->core != NULL) {
        tdl_task_ready(op->host->core, op->task, 0);
        HOST_KICK(op->host);
    }
    Py_RETURN_NONE;
}

/* -- Completion ---------------------------------------------------------- */

void
op_complete(opobj *op, uint32_t task, int32_t code)
{
    pyhost *h = op->host;
    Py_INCREF(op);
    op_let_go(op);
    if (op->counted) {
        op->counted = false;
        h->pending--;
        /* Not a G's own task, which lives on with the G. */
        if (op->g == NULL && task < h->nslots && h->slots[task] == (PyObject *)op) {
            h->slots[task] = NULL;
            Py_DECREF(op);
        }
    }
    if (op->g == NULL)
        op_disown(op, code);
    PyObject *message = op->value, *result = op_result(op, task, code);
    op->failed = result == NULL;
    op->value = result != NULL ? result : PyErr_GetRaisedException();
    Py_XDECREF(message);
    if (op->g == NULL && task != NO_TASK) {
        if (h->spare == NO_TASK && h->core != NULL && !op->abandoned && !op->shed)
            h->spare = task;
        else
            host_task_free(h, task);
    }
    op->state = OP_DONE;
    if (op->abandoned) {
        op_discard(op);
        op->state = OP_SPENT;
    } else if (op->callbacks != NULL) {
        op_schedule_callbacks(op);
    }
    Py_DECREF(op);
}

int
op_schedule_callbacks(opobj *op)
{
    PyObject *list = op->callbacks;
    op->callbacks = NULL;
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        PyObject *pair = PyList_GET_ITEM(list, i);
        g_call_soon(op->host, PyTuple_GET_ITEM(pair, 0), (PyObject *)op,
                    PyTuple_GET_ITEM(pair, 1));
    }
    Py_XDECREF(list);
    return 0;
}

/* Nobody will take the result: the event, when it comes, puts it back. */
static void
op_abandon(opobj *op)
{
    if (op->kind == OP_COND && !op->abandoned)
        mutex_owe(((condobj *)op->target)->mutex);
    op->abandoned = true;
    if (op->kind == OP_JOIN && op->task == NO_TASK) {
        g_join_remove((gobj *)op->target, op);
        op->state = OP_SPENT;
    } else if (op->host != NULL && op->host->core != NULL) {
        tdl_task_cancel(op->host->core, op->task);
        HOST_KICK(op->host);
    }
}

/* -- The iterator -------------------------------------------------------- */

static PySendResult
op_am_send(PyObject *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    return op_send((opobj *)self, result);
}

/* Raises StopIteration(value); takes the reference. */
static PyObject *
stop_iteration(PyObject *value)
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

static PyObject *
op_iternext(opobj *op)
{
    PyObject *result;
    PySendResult r = op_send(op, &result);
    if (r == PYGEN_RETURN) {
        if (result != Py_None)
            return stop_iteration(result);
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
    return r == PYGEN_RETURN ? stop_iteration(result) : result;
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
static int
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
        return PyErr_Format(PyExc_TypeError, "throw expected 1 to 3 arguments, got %zd", n);
    PyObject *exc = args[0];
    PyObject *type = PyExceptionInstance_Check(exc) ? (PyObject *)Py_TYPE(exc) : exc;
    if (op_defer_cancel(op, type)) {
        op->state = OP_SPENT;
        PyObject *value = op->value;
        op->value = NULL;
        return stop_iteration(value);
    }
    if (op->state == OP_PENDING)
        op_abandon(op);
    else if (op->state == OP_DONE)
        op_discard(op);
    if (op->state != OP_PENDING)
        op->state = OP_SPENT;
    if (PyExceptionInstance_Check(exc)) {
        PyErr_SetRaisedException(Py_NewRef(exc));
    } else if (PyExceptionClass_Check(exc)) {
        PyErr_SetObject(exc, n > 1 ? args[1] : NULL);
    } else {
        PyErr_SetString(PyExc_TypeError,
                        "exceptions must be classes or instances deriving from BaseException");
    }
    return NULL;
}

static PyObject *
op_close(opobj *op, PyObject *Py_UNUSED(ignored))
{
    OWN(OP_OWN(op), NULL);
    if (op->state == OP_PENDING) {
        op_abandon(op);
    } else {
        if (op->state == OP_DONE)
            op_discard(op);
        op->state = OP_SPENT;
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
    if (op->state == OP_NEW || op->host == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the operation was not started by an await");
        return NULL;
    }
    PyObject *ctx = context != NULL && context != Py_None ? Py_NewRef(context)
                                                          : PyContext_CopyCurrent();
    if (ctx == NULL)
        return NULL;
    if (op->state != OP_PENDING) {
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
    if (op->state != OP_PENDING)
        Py_RETURN_FALSE;
    if (op->kind == OP_JOIN && op->task == NO_TASK) {
        g_join_remove((gobj *)op->target, op);
        Py_XSETREF(op->value, Py_XNewRef(msg));
        op_complete(op, NO_TASK, TDL_ECANCELED);
        Py_RETURN_TRUE;
    }
    if (op->host->core == NULL || tdl_task_cancel(op->host->core, op->task) != 1)
        Py_RETURN_FALSE;
    op->cancelled = true;
    Py_XSETREF(op->value, Py_XNewRef(msg));
    HOST_KICK(op->host);
    Py_RETURN_TRUE;
}

/* The result stays: the coroutine takes it when it is resumed. */
static PyObject *
op_result_method(opobj *op, PyObject *Py_UNUSED(ignored))
{
    OWN(OP_OWN(op), NULL);
    if (op->state == OP_DONE && op->failed) {
        PyErr_SetRaisedException(Py_NewRef(op->value));
        return NULL;
    }
    if (op->state == OP_DONE && op->value != NULL)
        return Py_NewRef(op->value);
    PyErr_SetString(STATE(op)->InvalidStateError, "Result is not ready.");
    return NULL;
}

static PyObject *
op_exception(opobj *op, PyObject *Py_UNUSED(ignored))
{
    OWN(OP_OWN(op), NULL);
    if (op->state == OP_NEW || op->state == OP_PENDING) {
        PyErr_SetString(STATE(op)->InvalidStateError, "Exception is not set.");
        return NULL;
    }
    return Py_NewRef(op->failed ? op->value : Py_None);
}

static PyObject *
op_done(opobj *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(op->state >= OP_DONE);
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
    if (op->g != NULL || op->state != OP_PENDING)
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

static PyObject *
op_repr(opobj *op)
{
    static const char *const states[] = {"not started", "waiting", "done", "done"};
    return PyUnicode_FromFormat("<treadle %s, %s>", op_name(op->kind), states[op->state]);
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
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef op_getset[] = {
    {"_asyncio_future_blocking", (getter)op_get_blocking, (setter)op_set_blocking, NULL, NULL},
    {"_loop", (getter)op_get_loop, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot op_slots[] = {
    {Py_tp_doc, "An operation of treadle; await it, once."},
    {Py_tp_dealloc, op_dealloc},
    {Py_tp_traverse, op_traverse},
    {Py_tp_clear, op_clear},
    {Py_tp_repr, op_repr},
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
