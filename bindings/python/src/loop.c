/* SPDX-License-Identifier: MIT
 *
 * The C half of treadle.Loop: the ready queue, call_soon and its kind, and the
 * turns of the loop. The invariants are in loop.h.
 *
 * call_soon_threadsafe. A thread that calls it has the GIL, so it may put its
 * handle into the ready queue itself. `sleeping` is set before the loop gives the
 * GIL up to wait, and cleared when it has it again: whoever finds it set clears it
 * and wakes the host, so that one wait costs one wake-up at most. */
#include "handle.h"
#include <math.h>
#include <stdarg.h>
#include <structmember.h>

/* -- The ready queue ------------------------------------------------------ */

static int
ready_grow(ploop *l)
{
    uint32_t size = l->ready_size ? 2 * l->ready_size : 64;
    PyObject **ring = PyMem_Malloc(size * sizeof *ring);
    if (ring == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = 0; i < l->nready; i++)
        ring[i] = l->ready[(l->iready + i) & (l->ready_size - 1)];
    PyMem_Free(l->ready);
    l->ready = ring;
    l->ready_size = size;
    l->iready = 0;
    return 0;
}

int
ready_push(ploop *l, PyObject *handle)
{
    if (l->nready == l->ready_size && ready_grow(l) < 0) {
        Py_DECREF(handle);
        return -1;
    }
    l->ready[(l->iready + l->nready++) & (l->ready_size - 1)] = handle;
    return 0;
}

static PyObject *
ready_take(ploop *l)
{
    PyObject *handle = l->ready[l->iready];
    l->iready = (l->iready + 1) & (l->ready_size - 1);
    l->nready--;
    return handle;
}

static void
ready_clear(ploop *l)
{
    while (l->nready > 0)
        Py_DECREF(ready_take(l));
}

/* -- Arguments of call_soon and its kind ---------------------------------- */

typedef struct { PyObject *callback, *context; PyObject *const *args; Py_ssize_t n; } call;

/* args[0…skip) are the method's own. */
static int
parse_call(const char *method, PyObject *const *args, Py_ssize_t n, PyObject *kwnames, Py_ssize_t skip, call *c)
{
    *c = (call){NULL, NULL, NULL, 0};
    if (n > skip)
        *c = (call){args[skip], NULL, args + skip + 1, n - skip - 1};
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (PyUnicode_CompareWithASCIIString(name, "context") == 0) {
            c->context = args[n + i];
        } else if (PyUnicode_CompareWithASCIIString(name, "callback") == 0 && c->callback == NULL) {
            c->callback = args[n + i];
        } else {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", method, name);
            return -1;
        }
    }
    if (c->callback == NULL) {
        PyErr_Format(PyExc_TypeError, "%s() missing 1 required positional argument: 'callback'", method);
        return -1;
    }
    if (c->context != NULL && c->context != Py_None && !PyContext_CheckExact(c->context)) {
        PyErr_Format(PyExc_TypeError, "%s(): context must be a contextvars.Context, not %.100s", method,
                     Py_TYPE(c->context)->tp_name);
        return -1;
    }
    return 0;
}

static int
check_open(ploop *l)
{
    if (!l->closed)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
    return -1;
}

static phandle *
make_handle(ploop *l, bool timer, const char *method, const call *c)
{
    PyObject *stack = NULL;
    if (l->debug) {
        stack = PyObject_CallMethod((PyObject *)l, "_debug_call", "Os", c->callback, method);
        if (stack == NULL)
            return NULL;
    }
    phandle *h = handle_new(l, timer, c->callback, c->args, c->n, c->context);
    if (h != NULL)
        h->traceback = stack;
    else
        Py_XDECREF(stack);
    return h;
}

static void
wake(ploop *l)
{
    if (l->sleeping) {
        l->sleeping = false;
        if (l->host != NULL && l->host->core != NULL)
            tdl_host_wake(l->host->core);
    }
}

static PyObject *
call_soon(ploop *l, PyObject *const *args, Py_ssize_t n, PyObject *kwnames, const char *method)
{
    call c;
    if (parse_call(method, args, n, kwnames, 0, &c) < 0 || check_open(l) < 0)
        return NULL;
    phandle *h = make_handle(l, false, method, &c);
    if (h == NULL || ready_push(l, Py_NewRef((PyObject *)h)) < 0) {
        Py_XDECREF(h);
        return NULL;
    }
    return (PyObject *)h;
}

static PyObject *
loop_call_soon(ploop *l, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    return call_soon(l, args, n, kwnames, "call_soon");
}

static PyObject *
loop_call_soon_threadsafe(ploop *l, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    PyObject *handle = call_soon(l, args, n, kwnames, "call_soon_threadsafe");
    if (handle != NULL)
        wake(l);
    return handle;
}

static double
seconds_now(void)
{
    return (double)tdl_now() * 1e-9;
}

/* when: of double value `at`, or NULL. */
static PyObject *
call_at(ploop *l, PyObject *when, double at, const char *method, const call *c)
{
    (void)method;
    if (check_open(l) < 0)
        return NULL;
    phandle *h = make_handle(l, true, "call_at", c);
    if (h == NULL)
        return NULL;
    h->when = at;
    h->when_object = when != NULL && !PyFloat_CheckExact(when) ? Py_NewRef(when) : NULL;
    if (timer_add(l, h) < 0)
        Py_CLEAR(h);
    return (PyObject *)h;
}

static PyObject *
loop_call_later(ploop *l, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    call c;
    if (n < 1)
        return PyErr_Format(PyExc_TypeError, "call_later() missing 2 required positional arguments: "
                                             "'delay' and 'callback'");
    if (parse_call("call_later", args, n, kwnames, 1, &c) < 0)
        return NULL;
    if (args[0] == Py_None)
        return PyErr_Format(PyExc_TypeError, "delay must not be None");
    double delay;
    if (PyFloat_Check(args[0]) || PyLong_Check(args[0])) {
        delay = PyFloat_AsDouble(args[0]);
    } else { /* whatever can be added to a float */
        PyObject *now = PyFloat_FromDouble(seconds_now());
        PyObject *sum = now == NULL ? NULL : PyNumber_Add(now, args[0]);
        Py_XDECREF(now);
        double at = sum == NULL ? -1 : PyFloat_AsDouble(sum);
        PyObject *handle = PyErr_Occurred() ? NULL : call_at(l, sum, at, "call_later", &c);
        Py_XDECREF(sum);
        return handle;
    }
    if (delay == -1 && PyErr_Occurred())
        return NULL;
    return call_at(l, NULL, seconds_now() + delay, "call_later", &c);
}

static PyObject *
loop_call_at(ploop *l, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    call c;
    if (n < 1)
        return PyErr_Format(PyExc_TypeError, "call_at() missing 2 required positional arguments: "
                                             "'when' and 'callback'");
    if (parse_call("call_at", args, n, kwnames, 1, &c) < 0)
        return NULL;
    if (args[0] == Py_None)
        return PyErr_Format(PyExc_TypeError, "when cannot be None");
    double at = PyFloat_AsDouble(args[0]);
    if (at == -1 && PyErr_Occurred())
        return NULL;
    return call_at(l, args[0], at, "call_at", &c);
}

/* -- For the other files -------------------------------------------------- */

ploop *
ploop_of(mod_state *st, PyObject *object)
{
    return st->LoopCoreType != NULL && PyObject_TypeCheck(object, st->LoopCoreType) ? (ploop *)object : NULL;
}

char *
ploop_scratch(ploop *l)
{
    if (l->scratch == NULL) {
        l->scratch = PyMem_RawMalloc(PLOOP_SCRATCH);
        if (l->scratch == NULL)
            PyErr_NoMemory();
    }
    return l->scratch;
}

int
ploop_call_soon(ploop *l, PyObject *callable, PyObject *const *args, Py_ssize_t n, PyObject *context)
{
    if (check_open(l) < 0)
        return -1;
    phandle *h = make_handle(l, false, "call_soon", &(call){callable, context, args, n});
    return h == NULL ? -1 : ready_push(l, (PyObject *)h);
}

void
ploop_run_callback(ploop *l, PyObject *callable, PyObject *const *args, Py_ssize_t n, PyObject *context)
{
    phandle *h = handle_new(l, false, callable, args, n, context);
    if (h == NULL || handle_run(h) < 0)
        ploop_fatal(l);
    Py_XDECREF(h);
}

void
ploop_fatal(ploop *l)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (l->fatal == NULL)
        l->fatal = exc;
    else
        Py_XDECREF(exc);
}

void
ploop_report(ploop *l, const char *message, ...)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit)) {
        ploop_fatal(l);
        return;
    }
    PyObject *exc = PyErr_GetRaisedException(), *done = NULL;
    PyObject *context = Py_BuildValue("{s:s,s:O}", "message", message, "exception", exc ? exc : Py_None);
    va_list pairs;
    va_start(pairs, message);
    for (const char *key; context != NULL && (key = va_arg(pairs, const char *)) != NULL;)
        if (PyDict_SetItemString(context, key, va_arg(pairs, PyObject *)) < 0)
            Py_CLEAR(context);
    va_end(pairs);
    if (context != NULL)
        done = PyObject_CallMethod((PyObject *)l, "call_exception_handler", "N", context);
    Py_XDECREF(exc);
    if (done == NULL)
        ploop_fatal(l);
    Py_XDECREF(done);
}

static void
node_link(ploop_later *head, ploop_later *n)
{
    if (n->next != NULL)
        return;
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}

void
ploop_later_cancel(ploop_later *n)
{
    if (n->next == NULL)
        return;
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->prev = n->next = NULL;
}

void ploop_later_add(ploop *l, ploop_later *n) { node_link(&l->later, n); }
void ploop_at_end(ploop *l, ploop_later *n) { node_link(&l->at_end, n); }

static void
run_later(ploop *l)
{
    if (l->later.next == &l->later)
        return;
    ploop_later batch = l->later; /* what is added from here on is for the next turn */
    batch.next->prev = batch.prev->next = &batch;
    l->later.prev = l->later.next = &l->later;
    while (batch.next != &batch) {
        ploop_later *n = batch.next;
        ploop_later_cancel(n);
        n->cb(n);
    }
}

static void
run_at_end(ploop *l)
{
    PyObject *exc = PyErr_GetRaisedException();
    while (l->at_end.next != &l->at_end) {
        ploop_later *n = l->at_end.next;
        ploop_later_cancel(n);
        n->cb(n);
    }
    PyErr_SetRaisedException(exc);
}

/* -- A turn --------------------------------------------------------------- */

/* Nanoseconds until the first timer is due; 0: it is. */
static int64_t
until_due(ploop *l)
{
    double ns = ceil((l->timers[0].when - seconds_now()) * 1e9);
    return !(ns > 0) ? 0 : ns < 24.0 * TDL_HOUR ? (int64_t)ns : 24 * TDL_HOUR;
}

/* Polls the host, waiting when there is nothing to do, and hands its events on. */
static int
poll_events(ploop *l)
{
    pyhost *h = l->host;
    int64_t wait = 0;
    if (h == NULL || h->core == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    if (l->nready == 0 && !l->stopping && l->later.next == &l->later)
        wait = l->ntimers == 0 ? -1 : until_due(l);
    if (l->unsynced && fds_open(l) < 0)
        return -1;
    bool fresh = l->fresh;
    l->fresh = false;
    if (wait == 0) {
        bool ask = fresh || fds_awaited(l);
        return host_poll_with(h, 0, ask ? 0 : TDL_POLL_BUSY) < 0 ? -1 : 0;
    }
    /* goroutines that can go on: without giving the GIL up */
    int n = host_poll_with(h, 0, TDL_POLL_BUSY);
    if (n != 0 || l->nready > 0 || l->stopping || h->core == NULL)
        return n < 0 ? -1 : 0;
    bool stuck = wait < 0 && l->stuck != NULL && !fds_awaited(l);
    l->sleeping = true;
    n = host_poll_with(h, wait, stuck ? TDL_POLL_DEADLOCK | TDL_POLL_UNWATCHED : 0);
    l->sleeping = false;
    if (n == HOST_STUCK) {
        PyObject *answer = PyObject_CallNoArgs(l->stuck); /* raises where it is so */
        if (answer == NULL)
            return -1;
        Py_DECREF(answer);
        l->sleeping = true;
        n = host_poll_with(h, wait, 0);
        l->sleeping = false;
    }
    return n < 0 ? -1 : 0;
}

static int
due_timers(ploop *l)
{
    if (l->ntimers == 0)
        return 0;
    double now = seconds_now();
    while (l->ntimers > 0 && l->timers[0].when <= now)
        if (ready_push(l, (PyObject *)timer_pop(l)) < 0)
            return -1;
    return 0;
}

/* One of somebody else's, or in debug mode. */
static int
run_slowly(ploop *l, PyObject *handle)
{
    PyObject *cancelled = PyObject_GetAttrString(handle, "_cancelled");
    int skip = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    if (skip != 0)
        return skip < 0 ? -1 : 0;
    PyObject *done = l->debug ? PyObject_CallMethod((PyObject *)l, "_debug_run", "O", handle)
                              : PyObject_CallMethod(handle, "_run", NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
run_ready(ploop *l)
{
    mod_state *st = l->st;
    int rc = 0;
    for (uint32_t n = l->nready; rc == 0 && n > 0 && l->nready > 0; n--) {
        PyObject *handle = ready_take(l);
        if (l->host != NULL && l->host->watch != NULL)
            watch_beat(l->host, true);
        if (l->debug || (!Py_IS_TYPE(handle, st->HandleType) && !Py_IS_TYPE(handle, st->TimerHandleType)))
            rc = run_slowly(l, handle);
        else if (!((phandle *)handle)->cancelled)
            rc = handle_run((phandle *)handle);
        Py_DECREF(handle);
    }
    return rc;
}

static int
leave_with_fatal(ploop *l)
{
    PyObject *exc = l->fatal;
    if (exc == NULL)
        return 0;
    l->fatal = NULL;
    if (PyErr_Occurred())
        Py_DECREF(exc);
    else
        PyErr_SetRaisedException(exc);
    return -1;
}

static int
turn(ploop *l)
{
    l->turn++;
    run_later(l); /* before the events: what they add is for the next turn */
    int rc = poll_events(l);
    if (rc == 0)
        rc = leave_with_fatal(l);
    if (rc == 0)
        rc = due_timers(l);
    if (rc == 0)
        rc = run_ready(l);
    run_at_end(l);
    return leave_with_fatal(l) < 0 ? -1 : rc;
}

/* Turns until stop(); one turn when it is not run_forever that calls, or when somebody
 * has put his own _run_once in front. */
static PyObject *
loop_run_once(ploop *l, PyObject *Py_UNUSED(ignored))
{
    pyhost *outer = tl_running;
    int rc;
    if (loop_open(l) < 0)
        return NULL;
    tl_running = l->host;
    do
        rc = turn(l);
    while (rc == 0 && l->running && !l->overridden && !l->stopping);
    tl_running = outer;
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* -- Opening and closing -------------------------------------------------- */

/* Makes the host, on the thread that is to run the loop. */
int
loop_open(ploop *l)
{
    if (check_open(l) < 0)
        return -1;
    if (l->host == NULL) {
        pyhost *h = host_open(l->st, (PyObject *)l, false);
        if (h == NULL)
            return -1;
        h->ploop = l;
        l->host = h;
        return fds_open(l);
    }
    if (l->host->thread == thread_identity())
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "a treadle loop must be run by one thread only");
    return -1;
}

static PyObject *
loop_open_method(ploop *l, PyObject *Py_UNUSED(ignored))
{
    if (loop_open(l) < 0)
        return NULL;
    return Py_NewRef((PyObject *)l->host);
}

/* _enter(overridden): run_forever begins; _leave(): it ends. */
static PyObject *
loop_enter(ploop *l, PyObject *overridden)
{
    l->overridden = overridden == Py_True;
    l->running = l->fresh = true;
    Py_RETURN_NONE;
}

static PyObject *
loop_leave(ploop *l, PyObject *Py_UNUSED(ignored))
{
    l->running = false;
    if (l->host != NULL)
        watch_beat(l->host, false);
    Py_RETURN_NONE;
}

static PyObject *
loop_close_host(ploop *l, PyObject *Py_UNUSED(ignored))
{
    pyhost *h = l->host;
    fds_clear(l);
    l->host = NULL;
    if (h != NULL) {
        host_close(h);
        h->ploop = NULL;
        Py_DECREF(h);
    }
    Py_RETURN_NONE;
}

/* -- Small methods -------------------------------------------------------- */

static PyObject *
loop_time(ploop *Py_UNUSED(l), PyObject *Py_UNUSED(ignored))
{
    return PyFloat_FromDouble(seconds_now());
}

static PyObject *
loop_get_debug(ploop *l, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(l->debug);
}

static PyObject *
loop_is_running(ploop *l, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(l->thread_id != NULL);
}

static PyObject *
loop_is_closed(ploop *l, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(l->closed);
}

static PyObject *
loop_check_closed(ploop *l, PyObject *Py_UNUSED(ignored))
{
    if (check_open(l) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
loop_stop(ploop *l, PyObject *Py_UNUSED(ignored))
{
    l->stopping = true;
    Py_RETURN_NONE;
}

static PyObject *
loop_wake(ploop *l, PyObject *Py_UNUSED(ignored))
{
    wake(l);
    Py_RETURN_NONE;
}

static PyObject *
loop_create_future(ploop *l, PyObject *Py_UNUSED(ignored))
{
    PyObject *args[] = {NULL, (PyObject *)l};
    return PyObject_Vectorcall(l->st->FutureType, args + 1, PY_VECTORCALL_ARGUMENTS_OFFSET, l->st->kw_loop);
}

static PyObject *
loop_add_callback(ploop *l, PyObject *handle)
{
    PyObject *cancelled = PyObject_GetAttrString(handle, "_cancelled");
    int skip = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    if (skip < 0 || (skip == 0 && ready_push(l, Py_NewRef(handle)) < 0))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
loop_ready_list(ploop *l, PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(l->nready);
    for (uint32_t i = 0; list != NULL && i < l->nready; i++)
        PyList_SET_ITEM(list, i, Py_NewRef(l->ready[(l->iready + i) & (l->ready_size - 1)]));
    return list;
}

static PyObject *
loop_timer_list(ploop *l, PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(l->ntimers);
    for (uint32_t i = 0; list != NULL && i < l->ntimers; i++)
        PyList_SET_ITEM(list, i, Py_NewRef((PyObject *)l->timers[i].handle));
    return list;
}

static PyObject *
loop_ready_popleft(ploop *l, PyObject *Py_UNUSED(ignored))
{
    if (l->nready == 0)
        return PyErr_Format(PyExc_IndexError, "pop from an empty deque");
    return ready_take(l);
}

static PyObject *
loop_clear_ready(ploop *l, PyObject *Py_UNUSED(ignored))
{
    ready_clear(l);
    Py_RETURN_NONE;
}

static PyObject *
loop_clear_timers(ploop *l, PyObject *Py_UNUSED(ignored))
{
    timers_clear(l);
    Py_RETURN_NONE;
}

static PyObject *
get_host(ploop *l, void *Py_UNUSED(closure))
{
    return Py_NewRef(l->host != NULL ? (PyObject *)l->host : Py_None);
}

static PyObject *
get_debug(ploop *l, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(l->debug);
}

static int
set_debug(ploop *l, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    l->debug = truth;
    return 0;
}

static PyObject *
get_object(ploop *l, void *offset)
{
    PyObject *o = *(PyObject **)((char *)l + (size_t)offset);
    return Py_NewRef(o != NULL ? o : Py_None);
}

static int
set_object(ploop *l, PyObject *value, void *offset)
{
    Py_XSETREF(*(PyObject **)((char *)l + (size_t)offset), Py_XNewRef(value == Py_None ? NULL : value));
    return 0;
}

/* -- The type ------------------------------------------------------------- */

static PyObject *
loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = module_by_type(type);
    if (module == NULL)
        return NULL;
    ploop *l = (ploop *)type->tp_alloc(type, 0);
    if (l == NULL)
        return NULL;
    l->st = state_of(module);
    l->module = Py_NewRef(module);
    l->later.prev = l->later.next = &l->later;
    l->at_end.prev = l->at_end.next = &l->at_end;
    l->live = PySet_New(NULL);
    if (l->live == NULL)
        Py_CLEAR(l);
    return (PyObject *)l;
}

static int
loop_traverse(ploop *l, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(l));
    Py_VISIT(l->module);
    Py_VISIT(l->host);
    Py_VISIT(l->stuck);
    Py_VISIT(l->live);
    Py_VISIT(l->fatal);
    Py_VISIT(l->thread_id);
    for (uint32_t i = 0; i < l->nready; i++)
        Py_VISIT(l->ready[(l->iready + i) & (l->ready_size - 1)]);
    for (uint32_t i = 0; i < l->ntimers; i++)
        Py_VISIT(l->timers[i].handle);
    int rc = fds_traverse(l, visit, arg);
    return rc != 0 ? rc : handles_traverse(l, visit, arg);
}

static int
loop_clear(ploop *l)
{
    ready_clear(l);
    timers_clear(l);
    fds_clear(l);
    Py_CLEAR(l->stuck);
    Py_CLEAR(l->live);
    Py_CLEAR(l->fatal);
    Py_CLEAR(l->thread_id);
    if (l->host != NULL)
        l->host->ploop = NULL;
    Py_CLEAR(l->host);
    return 0;
}

static void
loop_dealloc(ploop *l)
{
    PyTypeObject *type = Py_TYPE(l);
    PyObject_GC_UnTrack(l);
    loop_clear(l);
    handles_free(l);
    PyMem_Free(l->ready);
    PyMem_RawFree(l->scratch);
    Py_XDECREF(l->module);
    type->tp_free((PyObject *)l);
    Py_DECREF(type);
}

#define FAST(name, fn, doc) {name, (PyCFunction)(void (*)(void))fn, METH_FASTCALL | METH_KEYWORDS, doc}
#define NOARGS(name, fn, doc) {name, (PyCFunction)fn, METH_NOARGS, doc}
static PyMethodDef loop_methods[] = {
    FAST("call_soon", loop_call_soon,
         "call_soon(callback, *args, context=None) -> Handle\n\nCalls it in the next turn, in order."),
    FAST("call_soon_threadsafe", loop_call_soon_threadsafe,
         "call_soon_threadsafe(callback, *args, context=None) -> Handle\n\ncall_soon, for any thread."),
    FAST("call_later", loop_call_later,
         "call_later(delay, callback, *args, context=None) -> TimerHandle\n\nCalls it in so many seconds."),
    FAST("call_at", loop_call_at,
         "call_at(when, callback, *args, context=None) -> TimerHandle\n\nCalls it at a time of loop.time()."),
    NOARGS("time", loop_time,
           "The clock of call_later and of treadle.now(), in seconds, also when it is simulated."),
    NOARGS("stop", loop_stop, "Ends run_forever after the callbacks that are due."),
    NOARGS("get_debug", loop_get_debug, "Is it in debug mode?"),
    NOARGS("is_running", loop_is_running, "Does the loop run?"),
    NOARGS("is_closed", loop_is_closed, "Is the loop closed?"),
    NOARGS("create_future", loop_create_future, "A new asyncio.Future of this loop."),
    NOARGS("_check_closed", loop_check_closed, NULL),
    NOARGS("_run_once", loop_run_once, NULL),
    NOARGS("_write_to_self", loop_wake, NULL),
    {"_add_callback", (PyCFunction)loop_add_callback, METH_O, NULL},
    {"_add_reader", (PyCFunction)(void (*)(void))fds_add_reader, METH_FASTCALL, NULL},
    {"_add_writer", (PyCFunction)(void (*)(void))fds_add_writer, METH_FASTCALL, NULL},
    {"_remove_reader", fds_remove_reader, METH_O, NULL},
    {"_remove_writer", fds_remove_writer, METH_O, NULL},
    {"_fd_list", fds_list, METH_NOARGS, NULL},
    NOARGS("_open", loop_open_method, NULL),
    {"_enter", (PyCFunction)loop_enter, METH_O, NULL},
    NOARGS("_leave", loop_leave, NULL),
    NOARGS("_close_host", loop_close_host, NULL),
    NOARGS("_ready_list", loop_ready_list, NULL),
    NOARGS("_ready_popleft", loop_ready_popleft, NULL),
    NOARGS("_ready_clear", loop_clear_ready, NULL),
    NOARGS("_timer_list", loop_timer_list, NULL),
    NOARGS("_timer_clear", loop_clear_timers, NULL),
    {NULL, NULL, 0, NULL},
};

#define OFFSET(field) (void *)offsetof(ploop, field)
static PyGetSetDef loop_getset[] = {
    {"_host", (getter)get_host, NULL, NULL, NULL},
    {"_debug", (getter)get_debug, (setter)set_debug, NULL, NULL},
    {"_thread_id", (getter)get_object, (setter)set_object, NULL, OFFSET(thread_id)},
    {"_stuck", (getter)get_object, (setter)set_object, NULL, OFFSET(stuck)},
    {"_live", (getter)get_object, NULL, NULL, OFFSET(live)},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef loop_members[] = {
    {"_closed", T_BOOL, offsetof(ploop, closed), 0, NULL},
    {"_stopping", T_BOOL, offsetof(ploop, stopping), 0, NULL},
    {"_turn", T_ULONGLONG, offsetof(ploop, turn), READONLY, NULL},
    {"_nfds", T_INT, offsetof(ploop, nfds), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, "The C half of treadle.Loop (internal)."},
    {Py_tp_new, loop_new},
    {Py_tp_dealloc, loop_dealloc},
    {Py_tp_traverse, loop_traverse},
    {Py_tp_clear, loop_clear},
    {Py_tp_methods, loop_methods},
    {Py_tp_getset, loop_getset},
    {Py_tp_members, loop_members},
    {0, NULL},
};

PyType_Spec loop_spec = {
    .name = "treadle._treadle._LoopCore",
    .basicsize = sizeof(ploop),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = loop_slots,
};
