/* SPDX-License-Identifier: MIT
 *
 * What makes a loop call something: the ready queue, call_soon and its kind, and
 * what the transports use. The invariants are in loop.h.
 *
 * call_soon_threadsafe. A thread that calls it has the GIL, so it may put its
 * handle into the ready queue itself. `sleeping` is set before the loop gives the
 * GIL up to wait, and cleared when it has it again: whoever finds it set clears it
 * and wakes the host, so that one wait costs one wake-up at most. */
#include "handle.h"
#include <stdarg.h>

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

PyObject *
ready_take(ploop *l)
{
    PyObject *handle = l->ready[l->iready];
    l->iready = (l->iready + 1) & (l->ready_size - 1);
    l->nready--;
    return handle;
}

void
ready_clear(ploop *l)
{
    while (l->nready > 0)
        Py_DECREF(ready_take(l));
}

/* -- Arguments of call_soon and its kind ---------------------------------- */

typedef struct { PyObject *callback, *context; PyObject *const *args; Py_ssize_t n; } call;

/* args[0…skip) are the method's own. */
static int
parse_call(ploop *l, const char *method, PyObject *const *args, Py_ssize_t n, PyObject *kwnames, Py_ssize_t skip,
           call *c)
{

    *c = (call){NULL, NULL, NULL, 0};
    if (n > skip)
        *c = (call){args[skip], NULL, args + skip + 1, n - skip - 1};
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (name == l->st->s_context || PyUnicode_CompareWithASCIIString(name, "context") == 0) {
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

int
loop_check_open(ploop *l)
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

void
loop_wake_up(ploop *l)
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
    if (parse_call(l, method, args, n, kwnames, 0, &c) < 0 || loop_check_open(l) < 0)
        return NULL;
    phandle *h = make_handle(l, false, method, &c);
    if (h == NULL || ready_push(l, Py_NewRef((PyObject *)h)) < 0) {
        Py_XDECREF(h);
        return NULL;
    }
    return (PyObject *)h;
}

PyObject *
loop_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    return call_soon((ploop *)self, args, n, kwnames, "call_soon");
}

PyObject *
loop_call_soon_threadsafe(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    ploop *l = (ploop *)self;
    PyObject *handle = call_soon(l, args, n, kwnames, "call_soon_threadsafe");
    if (handle != NULL)
        loop_wake_up(l);
    return handle;
}

/* when: of double value `at`, or NULL. */
static PyObject *
call_at(ploop *l, PyObject *when, double at, const char *method, const call *c)
{
    (void)method;
    if (loop_check_open(l) < 0)
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

PyObject *
loop_call_later(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    ploop *l = (ploop *)self;
    call c;
    if (n < 1)
        return PyErr_Format(PyExc_TypeError, "call_later() missing 2 required positional arguments: "
                                             "'delay' and 'callback'");
    if (parse_call(l, "call_later", args, n, kwnames, 1, &c) < 0)
        return NULL;
    if (args[0] == Py_None)
        return PyErr_Format(PyExc_TypeError, "delay must not be None");
    double delay;
    if (PyFloat_Check(args[0]) || PyLong_Check(args[0])) {
        delay = PyFloat_AsDouble(args[0]);
    } else { /* whatever can be added to a float */
        PyObject *now = PyFloat_FromDouble(loop_seconds());
        PyObject *sum = now == NULL ? NULL : PyNumber_Add(now, args[0]);
        Py_XDECREF(now);
        double at = sum == NULL ? -1 : PyFloat_AsDouble(sum);
        PyObject *handle = PyErr_Occurred() ? NULL : call_at(l, sum, at, "call_later", &c);
        Py_XDECREF(sum);
        return handle;
    }
    if (delay == -1 && PyErr_Occurred())
        return NULL;
    return call_at(l, NULL, loop_seconds() + delay, "call_later", &c);
}

PyObject *
loop_call_at(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    ploop *l = (ploop *)self;
    call c;
    if (n < 1)
        return PyErr_Format(PyExc_TypeError, "call_at() missing 2 required positional arguments: "
                                             "'when' and 'callback'");
    if (parse_call(l, "call_at", args, n, kwnames, 1, &c) < 0)
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

enum { SPARE_MIN = 1024 - 48, SPARE_MAX = 32768 };

PyObject *
ploop_bytes(ploop *l, const char *from, Py_ssize_t n)
{
    if (n < SPARE_MIN || n > SPARE_MAX)
        return PyBytes_FromStringAndSize(from, n);
    for (int i = 0; i < 2; i++) {
        PyObject *bytes = l->spare[i];
        if (bytes != NULL && Py_REFCNT(bytes) == 1 && PyBytes_GET_SIZE(bytes) == n) {
            forget_hash(bytes);
            memcpy(PyBytes_AS_STRING(bytes), from, (size_t)n);
            return Py_NewRef(bytes);
        }
    }
    PyObject *bytes = PyBytes_FromStringAndSize(from, n);
    if (bytes != NULL) {
        Py_XSETREF(l->spare[l->ispare], Py_NewRef(bytes));
        l->ispare ^= 1;
    }
    return bytes;
}

/* By a dictionary that is kept: a call with keywords makes one each time. */
PyObject *
loop_future(ploop *l)
{
    if (l->future_kwargs == NULL)
        l->future_kwargs = Py_BuildValue("{O:O}", PyTuple_GET_ITEM(l->st->kw_loop, 0), (PyObject *)l);
    PyObject *none = l->future_kwargs == NULL ? NULL : PyTuple_New(0);
    PyObject *future = none == NULL ? NULL : PyObject_Call(l->st->FutureType, none, l->future_kwargs);
    Py_XDECREF(none);
    return future;
}

int
ploop_call_soon(ploop *l, PyObject *callable, PyObject *const *args, Py_ssize_t n, PyObject *context)
{
    if (loop_check_open(l) < 0)
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

void
loop_run_later(ploop *l)
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

void
loop_run_at_end(ploop *l)
{
    PyObject *exc = PyErr_GetRaisedException();
    while (l->at_end.next != &l->at_end) {
        ploop_later *n = l->at_end.next;
        ploop_later_cancel(n);
        n->cb(n);
    }
    PyErr_SetRaisedException(exc);
}
