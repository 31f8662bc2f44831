/* SPDX-License-Identifier: MIT
 *
 * The goroutine: a coroutine and a task of the core. It is stepped by
 * PyIter_Send, with no future in between: an op that must wait yields itself
 * (op.c), and its event steps the goroutine again.
 *
 * Invariants.
 *  - host->slots[g->task] holds a reference from the spawn until the end.
 *  - `busy` says that the core will bring one event for g->task: of the op in
 *    g->waiting, of a yield or first step (waiting NULL), or of the park behind
 *    a foreign future (waiting is that future).
 *  - A step runs in the goroutine's own context and as asyncio's current task;
 *    steps nest only by eager spawns.
 *  - A cancellation ends the wait it meets. When the wait already has its
 *    value, that is delivered first, and must_cancel ends the next one. */
#include "current.h"
#include "procs.h"

/* -- The list of those that run, or failed unseen ------------------------ */

void
g_link(gobj *g)
{
    pyhost *h = g->host;
    LOCK(&h->lock);
    g->next_live = h->live;
    if (h->live != NULL)
        h->live->prev_live = g;
    h->live = g;
    g->linked = true;
    UNLOCK(&h->lock);
}

static void
unlink_it(gobj *g)
{
    if (g->prev_live != NULL)
        g->prev_live->next_live = g->next_live;
    else
        g->host->live = g->next_live;
    if (g->next_live != NULL)
        g->next_live->prev_live = g->prev_live;
    g->prev_live = g->next_live = NULL;
    g->linked = false;
}

/* Any thread: finalizers do it. */
void
g_unlink(gobj *g)
{
#ifdef Py_GIL_DISABLED
    pyhost *h = g->host;
    LOCK(&h->lock);
    if (g->linked)
        unlink_it(g);
    UNLOCK(&h->lock);
#else
    if (g->linked)
        unlink_it(g);
#endif
}

void
g_unlink_all(pyhost *h)
{
    LOCK(&h->lock);
    while (h->live != NULL)
        unlink_it(h->live);
    UNLOCK(&h->lock);
}

/* -- Callbacks ----------------------------------------------------------- */

/* callback(arg) by loop.call_soon, in a context (NULL: the current one). */
void
g_call_soon(pyhost *h, PyObject *callback, PyObject *arg, PyObject *context)
{
    if (h->call_soon == NULL)
        return;
    PyObject *args[] = {NULL, callback, arg, context};
    if (h->ploop != NULL) {
        if (ploop_call_soon(h->ploop, callback, &arg, 1, context) < 0)
            PyErr_WriteUnraisable(callback);
        return;
    }
    PyObject *handle = PyObject_Vectorcall(h->call_soon, args + 1,
                                           2 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                           context != NULL ? h->st->empty_kw_context : NULL);
    if (handle == NULL)
        PyErr_WriteUnraisable(callback);
    Py_XDECREF(handle);
}

/* A done callback: (callback, context), and of several Ps the host where it was added. */
void
g_call_back(gobj *g, PyObject *entry)
{
    PyObject *callback = PyTuple_GET_ITEM(entry, 0), *context = PyTuple_GET_ITEM(entry, 1);
#ifdef Py_GIL_DISABLED
    pyhost *at = PyTuple_GET_SIZE(entry) > 2 ? (pyhost *)PyTuple_GET_ITEM(entry, 2) : NULL;
    if (at != NULL && !own_is_mine(&at->own)) {
        if (procs_call(at, callback, (PyObject *)g, context) < 0)
            PyErr_Clear(); /* its loop is closed */
        return;
    }
    if (at != NULL) {
        g_call_soon(at, callback, (PyObject *)g, context);
        return;
    }
#endif
    g_call_soon(g->host, callback, (PyObject *)g, context);
}

/* -- The end ------------------------------------------------------------- */

static void
g_wake_joiners(gobj *g)
{
    pyhost *h = g->host;
    procs *ps = host_procs(h);
    LOCK_PROCS(ps); /* until all are ready: those that leave the list wait for it */
    PyObject *joiners = g->joiners;
    g->joiners = NULL;
    for (Py_ssize_t i = 0; joiners != NULL && i < PyList_GET_SIZE(joiners); i++) {
        opobj *op = (opobj *)PyList_GET_ITEM(joiners, i);
        if (op_state(op) != OP_PENDING)
            continue;
        if (op->task == NO_TASK)
            op_complete(op, NO_TASK, 0);
        else if (op->host->core != NULL)
            tdl_task_ready(op->host->core, op->task, 0);
    }
    PyObject *callbacks = G_RARE(g, callbacks);
    if (callbacks != NULL)
        g->rare->callbacks = NULL;
    UNLOCK_PROCS(ps);
    Py_XDECREF(joiners);
    for (Py_ssize_t i = 0; callbacks != NULL && i < PyList_GET_SIZE(callbacks); i++)
        g_call_back(g, PyList_GET_ITEM(callbacks, i));
    Py_XDECREF(callbacks);
    HOST_KICK(h);
}

/* The op that is pending on g's task, or NULL. */
opobj *
g_op(gobj *g)
{
    opobj *op = (opobj *)g->waiting;
    return op != NULL && op_check((PyObject *)op) && op->g == g ? op : NULL;
}

int
g_shed(gobj *g)
{
    pyhost *h = g->host;
    opobj *op = g_op(g);
    if (!g->busy || op == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the goroutine is waiting already");
        return -1;
    }
    uint32_t task = NO_TASK;
    if (!G_ENDED(g)) {
        task = host_task_new(h, false, (PyObject *)g);
        if (task == NO_TASK)
            return -1;
    }
    op_let_go(op);
    h->slots[g->task] = (PyObject *)op; /* the reference of g->waiting */
    g->waiting = NULL;
    op->g = NULL;
    op->shed = true;
    op->blocking = true;
    g->task = task;
    g->busy = false;
    Py_DECREF(g); /* of the slot */
    return 0;
}

/* Takes result or error. The caller holds a reference to g. */
void
g_finish(gobj *g, PyObject *result, PyObject *error)
{
    pyhost *h = g->host;
    mod_state *st = h->st;
    int state = G_DONE;
    Py_XSETREF(g->value, error != NULL ? error : result);
    if (error != NULL) {
        bool cancelled = st->CancelledError != NULL &&
                         PyErr_GivenExceptionMatches(error, st->CancelledError);
        state = cancelled ? G_CANCELLED : G_FAILED;
        PyObject *tb = cancelled ? NULL : PyException_GetTraceback(error);
        grare *rare = tb != NULL ? g_rare(g) : NULL;
        if (rare != NULL)
            Py_XSETREF(rare->error_tb, tb);
        else
            Py_XDECREF(tb);
        if (tb != NULL && rare == NULL)
            PyErr_Clear(); /* it does without */
        g->unseen = !cancelled;
    }
    LOCK_PROCS(host_procs(h));
    SHOW(g->state, (uint8_t)state);
    UNLOCK_PROCS(host_procs(h));
    bool parting = g->busy && g->waiting != NULL && g_op(g) == NULL && h->core != NULL;
    if (g->busy && g_op(g) != NULL)
        g_shed(g);
    else if (parting) /* collected while it waited for a future: g_event ends that */
        tdl_task_cancel(h->core, g->task);
    else if (h->core != NULL && g->task < h->nslots && h->slots[g->task] == (PyObject *)g) {
        host_task_free(h, g->task);
        h->slots[g->task] = NULL;
        Py_DECREF(g);
    }
    if (!parting)
        g->task = NO_TASK;
    if (!g->unseen)
        g_unlink(g);
    if (g->registered) {
        g->registered = false;
        PyObject *done = PyObject_CallOneArg(st->unregister_task, (PyObject *)g);
        if (done == NULL)
            PyErr_WriteUnraisable((PyObject *)g);
        Py_XDECREF(done);
    }
    if (G_RARE(g, group) != NULL) {
        tdl_waitgroup_done(((groupobj *)g->rare->group)->core);
        Py_CLEAR(g->rare->group);
    }
    Py_CLEAR(g->coro);
    Py_CLEAR(g->waiting);
    if (G_RARE(g, wakeup) != NULL)
        Py_CLEAR(g->rare->wakeup);
    g_wake_joiners(g);
}

/* The error of a goroutine that nobody will ask for: to the loop's handler. */
int
g_report(gobj *g)
{
    pyhost *h = g->host;
    g->unseen = false;
    g_unlink(g);
    LOCK(&h->lock);
    if (h->first_error == NULL)
        h->first_error = Py_XNewRef(g->value);
    UNLOCK(&h->lock);
    PyObject *loop = host_loop(h);
    if (loop == NULL) {
        PyErr_SetRaisedException(Py_NewRef(g->value));
        PyErr_WriteUnraisable((PyObject *)g);
        return 0;
    }
    PyObject *old = NULL, *done = NULL;
    bool here = host_mine(h); /* finalizers run anywhere */
    if (here && current_set(h, NULL, &old) < 0)
        PyErr_WriteUnraisable((PyObject *)g);
    PyObject *context = Py_BuildValue("{s:s,s:O,s:O}", "message",
                                      "goroutine exception was never retrieved",
                                      "exception", g->value, "future", (PyObject *)g);
    if (context != NULL)
        done = PyObject_CallMethod(loop, "call_exception_handler", "N", context);
    if (done == NULL)
        PyErr_WriteUnraisable((PyObject *)g);
    Py_XDECREF(done);
    Py_DECREF(loop);
    if (old != NULL)
        current_back(h, old);
    return 0;
}

/* -- A step -------------------------------------------------------------- */

/* Cancels the op that g waits on; false: it has ended. */
static bool
cancel_op(gobj *g)
{
    opobj *op = g_op(g);
    if (tdl_task_cancel(g->host->core, g->task) != 1)
        return false;
    op->cancelled = true;
    return true;
}

/* The goroutine waits for what its coroutine has yielded (taken). 0; 1: step
 * again with *exc; -1: exception that is to be thrown in. */
static int
g_wait_for(gobj *g, PyObject *yielded)
{
    pyhost *h = g->host;
    mod_state *st = h->st;
    PyObject *blocking = NULL, *loop = NULL, *done = NULL;
    if (yielded == g->waiting && g->busy) {
        Py_DECREF(yielded);
        SHOW(g->state, G_WAITING);
        if (SEEN(g->must_cancel) && cancel_op(g))
            SHOW(g->must_cancel, false);
        return 0;
    }
    if (g->busy && g_shed(g) < 0)
        goto fail;
    if (yielded == Py_None) {
        if (tdl_yield_start(h->core, g->task) != TDL_PENDING) {
            PyErr_SetString(PyExc_RuntimeError, "the goroutine cannot yield");
            goto fail;
        }
        Py_DECREF(yielded);
        g->busy = true;
        h->pending++;
        SHOW(g->state, G_READY);
        return 0;
    }
    blocking = PyObject_GetAttr(yielded, st->s_blocking);
    if (blocking == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError))
        goto fail;
    PyErr_Clear();
    if (blocking == NULL || blocking == Py_None) {
        PyErr_Format(PyExc_RuntimeError, "Task got bad yield: %R", yielded);
        goto fail;
    }
    if (yielded == (PyObject *)g) {
        PyErr_Format(PyExc_RuntimeError, "Task cannot await on itself: %R", yielded);
        goto fail;
    }
    int truth = PyObject_IsTrue(blocking);
    if (truth < 0)
        goto fail;
    if (!truth) {
        PyErr_Format(PyExc_RuntimeError, "yield was used instead of yield from in task %R with %R",
                     (PyObject *)g, yielded);
        goto fail;
    }
    loop = PyObject_CallMethodNoArgs(yielded, st->s_get_loop);
    if (loop == NULL)
        goto fail;
    if (loop != h->loop) {
        PyErr_Format(PyExc_RuntimeError, "Task %R got Future %R attached to a different loop",
                     (PyObject *)g, yielded);
        goto fail;
    }
    if (PyObject_SetAttr(yielded, st->s_blocking, Py_False) < 0)
        goto fail;
    if (PyObject_TypeCheck(yielded, (PyTypeObject *)st->TaskType) &&
        circle_through(st, yielded, (PyObject *)g) < 0)
        goto fail;
    grare *rare = g_rare(g);
    if (rare == NULL || (rare->wakeup == NULL &&
                         (rare->wakeup = PyObject_GetAttrString((PyObject *)g, "_wakeup")) == NULL))
        goto fail;
    PyObject *args[] = {NULL, yielded, rare->wakeup, g->context};
    done = PyObject_VectorcallMethod(st->s_add_done_callback, args + 1,
                                     2 | PY_VECTORCALL_ARGUMENTS_OFFSET, st->empty_kw_context);
    if (done == NULL)
        goto fail;
    tdl_task_park_start(h->core, g->task, TDL_FOREVER);
    g->busy = true;
    h->pending++;
    SHOW(g->state, G_WAITING);
    g->waiting = yielded;
    Py_DECREF(done);
    Py_DECREF(loop);
    Py_DECREF(blocking);
    if (SEEN(g->must_cancel)) {
        done = PyObject_CallMethodOneArg(yielded, st->s_cancel,
                                         rare->cancel_msg ? rare->cancel_msg : Py_None);
        if (done == Py_True)
            SHOW(g->must_cancel, false);
        else if (done == NULL)
            PyErr_Clear();
        Py_XDECREF(done);
    }
    return 0;
fail:
    Py_DECREF(yielded);
    Py_XDECREF(blocking);
    Py_XDECREF(loop);
    return -1;
}

/* The value of the StopIteration that is raised; -1: it is another exception. */
static int
stop_value(PyObject **value)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return -1;
    PyObject *exc = PyErr_GetRaisedException();
    *value = Py_NewRef(((PyStopIterationObject *)exc)->value);
    Py_DECREF(exc);
    return 0;
}

/* Runs the coroutine until it waits or ends, throwing exc (taken) into it
 * first if there is one. 0, or -1 with an exception that leaves the loop. */
int
g_step(gobj *g, PyObject *exc)
{
    pyhost *h = g->host, *outer = tl_running;
    gobj *parent = h->current;
    PyObject *old = NULL, *result = NULL, *error = NULL;
    bool ended = false;
    int rc = 0;
    Py_INCREF(g);
    tl_running = h;
    host_current(h, g);
    if (PyContext_Enter(g->context) < 0) {
        error = PyErr_GetRaisedException();
        host_current(h, parent);
        tl_running = outer;
        Py_XDECREF(exc);
        g_finish(g, NULL, error);
        Py_DECREF(g);
        return 0;
    }
    if (current_enter(h, g, &old) < 0)
        Py_XSETREF(exc, PyErr_GetRaisedException()); /* no memory: it is told so where it waits */
    while (!ended) {
        PySendResult r;
        SHOW(g->state, G_RUNNING);
        if (exc == NULL) {
            r = PyIter_Send(g->coro, Py_None, &result);
        } else {
            result = PyObject_CallMethodOneArg(g->coro, h->st->s_throw, exc);
            Py_CLEAR(exc);
            r = PYGEN_NEXT;
            if (result == NULL)
                r = stop_value(&result) < 0 ? PYGEN_ERROR : PYGEN_RETURN;
        }
        if (r == PYGEN_NEXT) {
            if (g_wait_for(g, result) == 0)
                break;
            exc = PyErr_GetRaisedException();
        } else {
            ended = true;
            if (r == PYGEN_ERROR)
                error = PyErr_GetRaisedException();
        }
    }
    current_leave(h, g, old, ended);
    host_current(h, parent);
    tl_running = outer;
    PyContext_Exit(g->context);
    if (ended) {
        bool leave = error != NULL && (PyErr_GivenExceptionMatches(error, PyExc_KeyboardInterrupt) ||
                                       PyErr_GivenExceptionMatches(error, PyExc_SystemExit));
        if (leave) {
            PyErr_SetRaisedException(Py_NewRef(error));
            rc = -1;
            exc = PyErr_GetRaisedException();
        }
        g_finish(g, error == NULL ? result : NULL, error);
        if (leave) {
            g->unseen = false; /* it leaves the loop as it is */
            g_unlink(g);
            PyErr_SetRaisedException(exc);
        }
    }
    Py_DECREF(g);
    return rc;
}

/* The event of g's task. */
int
g_event(gobj *g, int32_t code)
{
    pyhost *h = g->host;
    if (!g->busy)
        return 0;
    g->busy = false;
    if (G_ENDED(g)) {
        uint32_t task = g->task;
        h->pending--;
        g->task = NO_TASK;
        host_task_free(h, task);
        h->slots[task] = NULL;
        Py_DECREF(g);
        return 0;
    }
    opobj *op = g_op(g);
    PyObject *waiting = g->waiting, *exc = NULL;
    g->waiting = NULL;
    if (op != NULL) {
        op_complete(op, g->task, code);
        op->g = NULL;
        if (code == TDL_ECANCELED)
            SHOW(g->must_cancel, false); /* asked for again before it came: it is raised once */
    } else {
        h->pending--;
        if (g_take_cancel(g)) {
            exc = make_cancelled(h->st, G_RARE(g, cancel_msg));
            if (exc == NULL)
                exc = PyErr_GetRaisedException();
        }
    }
    Py_XDECREF(waiting); /* the coroutine holds it, as long as it wants to */
    return g_step(g, exc);
}

/* A future that the goroutine waits for is done. */
PyObject *
g_wakeup(PyObject *self, PyObject *future)
{
    gobj *g = (gobj *)self;
    pyhost *h = g->host;
    OWN(&h->own, NULL);
    if (g->busy && h->core != NULL && forked()) {
        if (g_event(g, g_op(g) != NULL ? TDL_ECANCELED : 0) < 0)
            return NULL;
    } else if (g->waiting == future && g->busy && h->core != NULL) {
        tdl_task_ready(h->core, g->task, 0);
        HOST_KICK(h);
    }
    Py_RETURN_NONE;
}

/* -- Spawn --------------------------------------------------------------- */

/* One of a function that types.coroutine() has made one of coroutines; false with an exception, too. */
static bool
is_generator_coroutine(PyObject *generator)
{
    PyObject *code = PyObject_GetAttrString(generator, "gi_code");
    bool yes = code != NULL && ((PyCodeObject *)code)->co_flags & CO_ITERABLE_COROUTINE;
    Py_XDECREF(code);
    return yes;
}

/* name, context and group may be NULL; host too: that of the running loop. A
 * goroutine of a loop that is given starts from the queue. */
PyObject *
g_spawn(mod_state *st, pyhost *host, PyObject *coro, PyObject *name, PyObject *context,
        PyObject *group)
{
    if (PyGen_CheckExact(coro) && !is_generator_coroutine(coro)) /* asyncio takes any, up to 3.11 */
        return PyErr_Occurred() ? NULL
                                : PyErr_Format(PyExc_TypeError, "a coroutine was expected, got %R; is `async def` meant?", coro);
    if (!PyCoro_CheckExact(coro)) {
        PyObject *truth = PyObject_CallOneArg(st->iscoroutine, coro);
        int yes = truth == NULL ? -1 : PyObject_IsTrue(truth);
        Py_XDECREF(truth);
        if (yes < 0)
            return NULL;
        if (!yes)
            return PyErr_Format(PyExc_TypeError, "a coroutine was expected, got %R%s", coro,
                                PyCallable_Check(coro) ? "; call it to get one" : "");
    }
    pyhost *h = host != NULL ? host : host_get(st);
    if (h == NULL)
        return NULL;
    bool queued = host == NULL && host_procs(h) != NULL; /* it may begin on another P */
    bool eager = host == NULL && h->depth < EAGER_DEPTH && context == NULL && !queued;
    context = context != NULL ? Py_NewRef(context) : PyContext_CopyCurrent();
    if (context == NULL)
        return NULL;
    gobj *g = PyObject_GC_New(gobj, st->GType);
    if (g == NULL) {
        Py_DECREF(context);
        return NULL;
    }
    memset((char *)g + sizeof(PyObject), 0, sizeof *g - sizeof(PyObject));
    g->host = (pyhost *)Py_NewRef((PyObject *)h);
    g->coro = Py_NewRef(coro);
    g->context = context;
    g->log_destroy = 1;
    g->number = NEXT_NUMBER(st->g_counter);
    SHOW(g->state, G_DONE); /* until it has a task */
    if ((name != NULL || group != NULL) && g_rare(g) == NULL) {
        Py_DECREF(g);
        return NULL;
    }
    if (name != NULL)
        g->rare->name = Py_NewRef(name);
    g->task = queued ? NO_TASK : host_task_new(h, !eager, (PyObject *)g);
#ifdef Py_GIL_DISABLED
    g->begun = !queued;
#endif
    ref_sometimes((PyObject *)g);
    PyObject_GC_Track(g);
#ifndef Py_GIL_DISABLED
    if (PyCoro_CheckExact(coro) && PyObject_GC_IsTracked(coro)) {
        /* The collector ends them in the order in which they are tracked: g_collect, which
         * closes the coroutine as it would run, comes before the coroutine's own end. */
        PyObject_GC_UnTrack(coro);
        PyObject_GC_Track(coro);
    }
#endif
    if (g->task == NO_TASK && !queued) {
        Py_DECREF(g);
        return NULL;
    }
    SHOW(g->state, G_READY);
    g_link(g);
    if (name != NULL && !queued) {
        const char *text = PyUnicode_AsUTF8(name);
        if (text != NULL)
            tdl_task_set_name(h->core, g->task, text);
        else
            PyErr_Clear();
    }
    if (group != NULL) {
        int rc = tdl_waitgroup_add(((groupobj *)group)->core, 1);
        if (rc == 0)
            g->rare->group = Py_NewRef(group);
    }
    if (h->guest) {
        PyObject *done = PyObject_CallOneArg(st->register_task, (PyObject *)g);
        if (done == NULL)
            PyErr_Clear();
        else
            g->registered = true;
        Py_XDECREF(done);
    }
#ifdef Py_GIL_DISABLED
    if (queued) {
        if (procs_spawn(h, g) == 0)
            return (PyObject *)g;
        SHOW(g->state, G_DONE);
        g_unlink(g);
        Py_DECREF(g);
        return NULL;
    }
#endif
    if (!eager) {
        g->busy = true;
        h->pending++;
        HOST_KICK(h);
        return (PyObject *)g;
    }
    /* under another's loop only what runs here is watched */
    bool watched = h->watch != NULL && h->guest && !h->dispatching && h->depth == 0;
    if (watched)
        watch_beat(h, true);
    h->depth++;
    int rc = g_step(g, NULL);
    h->depth--;
    if (watched)
        watch_beat(h, false);
    HOST_KICK(h);
    if (rc < 0) {
        Py_DECREF(g);
        return NULL;
    }
    return (PyObject *)g;
}

/* -- Cancel, join -------------------------------------------------------- */

/* The loop of a guest goes on in the child of a fork, and unwinds; the core has no events there. */
static void
wake_in_fork(gobj *g)
{
    PyObject *wakeup = PyObject_GetAttrString((PyObject *)g, "_wakeup");
    if (wakeup == NULL)
        PyErr_WriteUnraisable((PyObject *)g);
    else
        g_call_soon(g->host, wakeup, Py_None, g->context);
    Py_XDECREF(wakeup);
}

static void
cancel_wait_on_op(gobj *g)
{
    if (!cancel_op(g)) {
        SHOW(g->must_cancel, true); /* its value is on the way */
        if (forked())
            wake_in_fork(g);
    }
    HOST_KICK(g->host);
}

/* A future of asyncio's, or what acts like one. */
static void
cancel_wait_on_future(gobj *g, PyObject *msg)
{
    pyhost *h = g->host;
    mod_state *st = h->st;
    PyObject *waiting = Py_NewRef(g->waiting), *args[] = {NULL, waiting, msg != NULL ? msg : Py_None};
    PyObject *names = PyTuple_Pack(1, st->s_msg);
    PyObject *done = names == NULL ? NULL
        : PyObject_VectorcallMethod(st->s_cancel, args + 1,
                                    1 | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
    Py_XDECREF(names);
    bool over = done == NULL; /* no memory, most likely: it does not go on waiting for that */
    if (done != Py_True) {
        SHOW(g->must_cancel, true);
        Py_XDECREF(done);
        done = over ? NULL : PyObject_CallMethod(waiting, "done", NULL);
        over = over || done != Py_False; /* whether or not there was memory to call g_wakeup */
    }
    Py_XDECREF(done);
    Py_DECREF(waiting);
    PyErr_Clear();
    if (over && g->busy) {
        tdl_task_ready(h->core, g->task, 0);
        HOST_KICK(h);
    }
}

/* It waits: ends that wait, or the next one. */
void
g_cancel_wait(gobj *g, PyObject *msg)
{
    if (g_op(g) != NULL)
        cancel_wait_on_op(g);
    else
        cancel_wait_on_future(g, msg);
}

bool
g_cancel(gobj *g, PyObject *msg)
{
#ifdef Py_GIL_DISABLED
    if (g_procs(g) != NULL)
        return g_cancel_across(g, msg);
#endif
    if (G_ENDED(g))
        return false;
    g->cancels++;
    if (msg != NULL || g->rare != NULL) {
        grare *rare = g_rare(g);
        if (rare != NULL)
            Py_XSETREF(rare->cancel_msg, Py_XNewRef(msg));
        else
            PyErr_Clear(); /* cancelled, without its message */
    }
    if (g->state != G_WAITING || g->host->core == NULL)
        SHOW(g->must_cancel, true);
    else
        g_cancel_wait(g, msg);
    return true;
}

/* The CancelledError of one that ended by it: once the one that its coroutine raised, with its
 * traceback, then others, as asyncio has it. A new reference, or NULL with an exception. */
PyObject *
g_cancelled_error(gobj *g)
{
    LOCK_PROCS(g_procs(g)); /* two may ask */
    PyObject *error = g->value;
    g->value = NULL;
    UNLOCK_PROCS(g_procs(g));
    return error != NULL ? error : make_cancelled(STATE(g), G_RARE(g, cancel_msg));
}

/* The result of one that has ended, or its exception raised. */
PyObject *
g_result(gobj *g)
{
    if (g->state == G_DONE)
        return Py_NewRef(g->value);
    if (g->unseen) {
        g->unseen = false;
        g_unlink(g);
    }
    if (g->state == G_CANCELLED) {
        PyObject *error = g_cancelled_error(g);
        if (error != NULL)
            PyErr_SetRaisedException(error);
        return NULL;
    }
    if (G_RARE(g, error_tb) != NULL)
        PyException_SetTraceback(g->value, g->rare->error_tb);
    PyErr_SetRaisedException(Py_NewRef(g->value));
    return NULL;
}

void
g_join_remove(gobj *g, opobj *op)
{
    procs *ps = g_procs(g);
    LOCK_PROCS(ps); /* who holds it may be waking op: its task is nobody else's until then */
    for (Py_ssize_t i = g->joiners ? PyList_GET_SIZE(g->joiners) : 0; i-- > 0;)
        if (PyList_GET_ITEM(g->joiners, i) == (PyObject *)op) {
            if (PySequence_DelItem(g->joiners, i) < 0)
                PyErr_Clear();
            break;
        }
    UNLOCK_PROCS(ps);
}
