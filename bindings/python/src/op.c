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
#include "procs.h"

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

PyObject *
op_self(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return op_value(STATE(self), Py_NewRef(self));
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
        uint32_t next = host_task_new(h, false, NULL);
        host_task_free(h, passed);
        passed = next;
        if (next == NO_TASK)
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
    PyErr_Format(PyExc_RuntimeError, "cannot reuse already awaited %s", op_name(op));
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

PySendResult
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
        if (g_take_cancel(g)) {
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
    __atomic_store_n(&op->host, (pyhost *)Py_NewRef((PyObject *)h), __ATOMIC_RELEASE); /* with op_host */
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
    procs *ps = g_procs(target);
    LOCK_PROCS(ps); /* sees its value when it sees that it has ended */
    bool ended = G_ENDED(target);
    UNLOCK_PROCS(ps);
    if (ended) {
        OWN(ps == NULL ? &target->host->own : NULL, PYGEN_ERROR);
        if (!op_take(op, OP_NEW)) {
            raise_spent(op);
            return PYGEN_ERROR;
        }
        *result = g_result(target);
        return *result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
    }
#ifdef Py_GIL_DISABLED
    if (ps != NULL)
        return op_begin_join_across(op, ps, result);
#endif
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
        if (r != PYGEN_NEXT) {
            PyObject *exc = PyErr_GetRaisedException();
            g_join_remove(target, op);
            PyErr_SetRaisedException(exc);
        }
        return r;
    }
    __atomic_store_n(&op->host, (pyhost *)Py_NewRef((PyObject *)h), __ATOMIC_RELEASE); /* with op_host */
    op_set_state(op, OP_PENDING);
    op->blocking = true;
    *result = Py_NewRef((PyObject *)op);
    return PYGEN_NEXT;
}

/* Whether it was begun by who now runs, who therefore does not wait for it: iterated, as an
 * unpacking does, where an await is missing. (A task that waits has set blocking to false.) */
static bool
op_iterated(const opobj *op)
{
    if (op->g != NULL)
        return tl_running == op->host && op->host->current == op->g;
    return op->blocking;
}

PySendResult
op_send(opobj *op, PyObject **result)
{
    *result = NULL;
    OWN(OP_OWN(op), PYGEN_ERROR);
    switch (op_state(op)) {
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
        if (op_iterated(op)) {
            op_abandon(op);
            PyErr_Format(PyExc_RuntimeError, "%s() is to be awaited: it cannot be iterated or unpacked", op_name(op));
        } else {
            PyErr_Format(PyExc_RuntimeError, "%s is being awaited already, by another goroutine or task", op_name(op));
        }
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
    if (Py_TYPE(object) != st->OpType || op_state(op) != OP_NEW || op->kind == OP_JOIN)
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

/* -- Completion ---------------------------------------------------------- */

static void
schedule_callbacks(opobj *op)
{
    PyObject *list = op->callbacks;
    op->callbacks = NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *pair = PyList_GET_ITEM(list, i);
        g_call_soon(op->host, PyTuple_GET_ITEM(pair, 0), (PyObject *)op,
                    PyTuple_GET_ITEM(pair, 1));
    }
    Py_DECREF(list);
}

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
        schedule_callbacks(op);
    }
    Py_DECREF(op);
}

/* Nobody will take the result: the event, when it comes, puts it back. */
void
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
