/* SPDX-License-Identifier: MIT
 *
 * Goroutines that nothing can wake any more are collected, with what they hold: the
 * collector finds them, reports them as asyncio reports a task that is destroyed while
 * it is pending, and their coroutines are closed, so that finally blocks run.
 *
 * The reference that host->slots owns of who waits is what would keep him for ever. To
 * the collector it belongs to what can end the wait, where that is known to be objects
 * of this interpreter alone:
 *   a receive or send on a local channel   the channel, which visits who is in its queues
 *   a select over local channels           each of them: there is a reference for each
 *                                          case, the slot's and those of op_hold
 *   a goroutine that waits for another     the op, which the other has among its joiners
 *   one that waits for a future            itself: the future has its _wakeup
 * Every other wait may be ended from outside (a timer, a descriptor, a thread, another
 * host), and the host itself is who has it.
 *
 * Invariants.
 *  - Each reference is visited once at most, for all of them ask host_waits_alone. It
 *    holds from when the wait began until something has ended it: from then on the host
 *    has the goroutine, until its event is handed on.
 *  - Only on the host's own thread can that be known: another may collect while this one
 *    is inside the core. There nobody visits the reference, and so it keeps alive; but when that
 *    thread has ended, the host visits all of them, and they go with the loop. */
#include "current.h"

/* Who is in the slot waits for nothing but Python objects: as far as it is known here. */
static bool
waits_inside(PyObject *object)
{
    opobj *op;
    if (g_check(object)) {
        gobj *g = (gobj *)object;
        if (!g->busy || g->waiting == NULL)
            return false; /* it runs, or will */
        op = g_op(g);
        if (op == NULL)
            return !op_check(g->waiting);
        if (op->kind == OP_JOIN)
            return true;
    } else {
        op = (opobj *)object;
    }
    return op->closed_in && op->state == OP_PENDING;
}

bool
host_waits_alone(pyhost *h, uint32_t task)
{
    return h != NULL && h->core != NULL && host_mine(h) && task < h->nslots &&
           h->slots[task] != NULL && waits_inside(h->slots[task]) && tdl_task_waits(h->core, task) == 1;
}

/* What who is in the slot waits on; NULL: a future. */
static opobj *
op_of(PyObject *object)
{
    return g_check(object) ? g_op((gobj *)object) : (opobj *)object;
}

static Py_ssize_t
held(opobj *op)
{
    return op != NULL && op->closed_in && op->kind == OP_SELECT ? PyTuple_GET_SIZE(op->target) - 1 : 0;
}

int
host_visit_slots(pyhost *h, visitproc visit, void *arg)
{
    bool here = host_mine(h), left = host_left(h);
    for (uint32_t t = 0; t < h->nslots; t++) {
        PyObject *object = h->slots[t];
        if (object == NULL)
            continue;
        bool inside = h->core != NULL && waits_inside(object);
        if (!inside || left || (here && tdl_task_waits(h->core, t) != 1))
            Py_VISIT(object);
        if (inside && left) /* its channels show nobody: the host has all these references */
            for (Py_ssize_t n = held(op_of(object)); n > 0; n--)
                Py_VISIT(object);
    }
    return 0;
}

int
chan_visit_waiters(pyhost *h, tdl_chan *ch, visitproc visit, void *arg)
{
    const void *at = NULL;
    for (int task; h->core != NULL && (task = tdl_chan_waiter_local(ch, &at)) >= 0;)
        if (host_waits_alone(h, (uint32_t)task))
            Py_VISIT(h->slots[task]);
    return 0;
}

/* A case for each channel: only those. */
static bool
cases_are_local(PyObject *cases)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(cases); i++) {
        PyObject *chan = ((caseobj *)PyTuple_GET_ITEM(cases, i))->chan;
        if (chan == NULL || !chan_is_local(chan) || chan_is_across(chan))
            return false;
    }
    return PyTuple_GET_SIZE(cases) > 0;
}

/* The op begins to wait. */
void
op_hold(opobj *op)
{
    switch (op->kind) {
    case OP_SEND: case OP_RECV: case OP_RECV_OK: case OP_RECV_NEXT:
        op->closed_in = chan_is_local(op->target) && !chan_is_across(op->target);
        break;
    case OP_SELECT:
        op->closed_in = cases_are_local(op->target);
        for (Py_ssize_t n = held(op); n > 0; n--)
            Py_INCREF(op->g != NULL ? (PyObject *)op->g : (PyObject *)op);
        break;
    default:
        break;
    }
}

/* Its event has come, or it gets another owner. The caller has a reference to both. */
void
op_let_go(opobj *op)
{
    Py_ssize_t n = held(op);
    op->closed_in = false;
    for (; n > 0; n--)
        Py_DECREF(op->g != NULL ? (PyObject *)op->g : (PyObject *)op);
}

/* Nothing will ever wake it: its coroutine is closed, as a step of it, and it ends. */
void
g_collect(gobj *g)
{
    pyhost *h = g->host, *outer = tl_running;
    if (G_ENDED(g) || h->core == NULL || !host_mine(h) || g->coro == NULL ||
        g->context == NULL || g->task >= h->nslots || h->slots[g->task] != (PyObject *)g)
        return;
    gobj *parent = h->current;
    PyObject *old = NULL, *coro = Py_NewRef(g->coro), *closed = NULL;
    Py_INCREF(g);
    tl_running = h;
    host_current(h, g);
    if (PyContext_Enter(g->context) == 0) {
        if (current_set(h, (PyObject *)g, &old) < 0)
            PyErr_WriteUnraisable((PyObject *)g);
        closed = PyObject_CallMethod(coro, "close", NULL);
        PyObject *exc = PyErr_GetRaisedException();
        current_back(h, old);
        PyContext_Exit(g->context);
        PyErr_SetRaisedException(exc);
    }
    host_current(h, parent);
    tl_running = outer;
    if (closed == NULL)
        PyErr_WriteUnraisable(coro);
    Py_XDECREF(closed);
    PyObject *error = make_cancelled(h->st, NULL);
    if (error == NULL)
        error = PyErr_GetRaisedException();
    if (!G_ENDED(g))
        g_finish(g, NULL, error);
    else
        Py_XDECREF(error);
    Py_DECREF(coro);
    Py_DECREF(g);
}
