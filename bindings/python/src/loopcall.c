/* SPDX-License-Identifier: MIT
 *
 * What makes a loop call something: the ready queue, call_soon and its kind, and
 * what the transports use. The invariants are in loop.h.
 *
 * call_soon_threadsafe. A thread that calls it has the GIL, so it may put its
 * handle into the ready queue itself. `sleeping` is set before the loop gives the
 * GIL up to wait, and cleared when it has it again: whoever finds it set clears it
 * and wakes the host, so that one wait costs one wake-up at most.
 *
 * Without a GIL, who cannot be the loop's owner puts the handle into the inbox, under l->lock, which
 * the owner takes whole: once a turn, and before he adds something himself, so that what was asked
 * for before comes before it. `sleeping` is set under it, too, after a look at the inbox, so
 * that a handle is seen by that look or its thread sees that the loop sleeps. */
#include "handle.h"
#include <stdarg.h>

/* -- The ready queue ------------------------------------------------------ */

static int
ready_grow(ploop *l)
{
    uint32_t size = l->ready_size ? 2 * l->ready_size : 64;
    ploop_ready *ring = PyMem_Malloc(size * sizeof *ring);
    if (ring == NULL)
        return -1;
    for (uint32_t i = 0; i < l->nready; i++)
        ring[i] = *ready_at(l, i);
    PyMem_Free(l->ready);
    l->ready = ring;
    l->ready_size = size;
    l->iready = 0;
    return 0;
}

/* The queue has room from the beginning. 0, or -1 with an exception. */
int
ready_open(ploop *l)
{
    if (l->ready_size > 0 || ready_grow(l) == 0)
        return 0;
    PyErr_NoMemory();
    return -1;
}

/* Room for one more. It is asked for while there still is some: who finds no memory then has
 * lost nothing, and a wake-up always has its place. */
static inline int
ready_room(ploop *l)
{
    if (l->nready < l->ready_size - l->ready_size / 4)
        return 0;
    if (ready_grow(l) == 0)
        return 0;
    if (l->nready < l->ready_size)
        return 0;
    PyErr_NoMemory();
    return -1;
}

int
ready_push(ploop *l, PyObject *handle)
{
    if (ready_room(l) < 0) {
        Py_DECREF(handle);
        return -1;
    }
    *ready_at(l, l->nready++) = (ploop_ready){handle, NULL, NULL};
    return 0;
}

/* A call that nobody can cancel. Everything is borrowed; arg may be NULL. */
static int
ready_push_call(ploop *l, PyObject *callable, PyObject *arg, PyObject *context)
{
    if (ready_room(l) < 0)
        return -1;
    *ready_at(l, l->nready++) = (ploop_ready){Py_NewRef(callable), Py_XNewRef(arg), Py_NewRef(context)};
    return 0;
}

ploop_ready
ready_take(ploop *l)
{
    ploop_ready r = *ready_at(l, 0);
    l->iready = (l->iready + 1) & (l->ready_size - 1);
    l->nready--;
    return r;
}

int
ready_make_handle(ploop *l, ploop_ready *r)
{
    if (r->context == NULL)
        return 0;
    phandle *h = handle_new(l, false, r->what, &r->arg, r->arg != NULL, r->context);
    if (h == NULL)
        return -1;
    ploop_ready old = *r;
    *r = (ploop_ready){(PyObject *)h, NULL, NULL};
    Py_DECREF(old.what); /* the handle has them */
    Py_XDECREF(old.arg);
    Py_DECREF(old.context);
    return 0;
}

void
ready_clear(ploop *l)
{
    while (l->nready > 0) {
        ploop_ready r = ready_take(l);
        Py_DECREF(r.what);
        Py_XDECREF(r.arg);
        Py_XDECREF(r.context);
    }
}

#ifdef Py_GIL_DISABLED
bool
loop_sleeps(ploop *l)
{
    LOCK(&l->lock);
    bool sleeps = l->ninbox == 0;
    SHOW(l->sleeping, sleeps);
    UNLOCK(&l->lock);
    return sleeps;
}

int
loop_take_inbox(ploop *l)
{
    if (SEEN(l->ninbox) == 0)
        return 0;
    LOCK(&l->lock);
    PyObject **handles = l->inbox;
    uint32_t n = l->ninbox, i = 0;
    l->inbox = NULL;
    l->inbox_size = 0;
    SHOW(l->ninbox, 0);
    UNLOCK(&l->lock);
    int rc = 0;
    while (rc == 0 && i < n)
        rc = ready_push(l, handles[i++]);
    while (i < n)
        Py_DECREF(handles[i++]);
    PyMem_RawFree(handles);
    return rc;
}

/* The handle of another thread; not taken. */
static int
inbox_push(ploop *l, PyObject *handle)
{
    int rc = 0;
    LOCK(&l->lock);
    if (l->ninbox == l->inbox_size) {
        uint32_t size = l->inbox_size ? 2 * l->inbox_size : 16;
        PyObject **more = PyMem_RawRealloc(l->inbox, size * sizeof *more);
        if (more == NULL) {
            rc = -1;
        } else {
            l->inbox = more;
            l->inbox_size = size;
        }
    }
    if (rc == 0) {
        l->inbox[l->ninbox] = Py_NewRef(handle);
        SHOW(l->ninbox, l->ninbox + 1);
    }
    UNLOCK(&l->lock);
    if (rc < 0)
        PyErr_NoMemory();
    return rc;
}
#else
bool
loop_sleeps(ploop *l)
{
    l->sleeping = true;
    return true;
}
#endif

#ifdef Py_GIL_DISABLED
/* 1: pushed; 0: the loop is another thread's. */
static int
push_as_owner(ploop *l, PyObject *handle)
{
    own_claim mine = ploop_here(l) ? (own_claim){NULL, false} : (own_claim){&l->own, !own_try(&l->own, 0)};
    if (mine.refused)
        return 0;
    int rc = loop_take_inbox(l) < 0 || ready_push(l, Py_NewRef(handle)) < 0 ? -1 : 1;
    own_leave(&mine);
    return rc;
}
#endif

/* Of call_soon_threadsafe: takes a reference of its own. */
static int
push_from_anywhere(ploop *l, PyObject *handle)
{
#ifdef Py_GIL_DISABLED
    int rc = push_as_owner(l, handle);
    return rc != 0 ? (rc < 0 ? -1 : 0) : inbox_push(l, handle);
#else
    return ready_push(l, Py_NewRef(handle));
#endif
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
    if (!SEEN(l->closed))
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
    LOCK(&l->lock);
    bool sleeps = SEEN(l->sleeping);
    SHOW(l->sleeping, false);
    if (sleeps && l->host != NULL && l->host->core != NULL)
        tdl_host_wake(l->host->core); /* its core stays: it is closed when l->host is NULL */
    UNLOCK(&l->lock);
}

/* asyncio's tasks and futures, in C, call call_soon(callable[, argument], context=…),
 * with names that are a tuple of their own, and drop what it returns. */
static inline bool
from_asyncio(ploop *l, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    return kwnames == l->st->kw_asyncio && kwnames != NULL && (size_t)(n - 1) < 2 && !l->debug && !l->closed &&
           PyContext_CheckExact(args[n]);
}

/* What stands for call_soon once, when the module is loaded: keeps that tuple. */
PyObject *
loop_learn_call(PyObject *module, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n), PyObject *kwnames)
{
    mod_state *st = state_of(module);
    if (kwnames != NULL && PyTuple_GET_SIZE(kwnames) == 1 &&
        PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "context") == 0)
        Py_XSETREF(st->kw_asyncio, Py_NewRef(kwnames));
    Py_RETURN_NONE;
}

/* method: of asyncio's two. */
static PyObject *
call_soon(ploop *l, PyObject *const *args, Py_ssize_t n, PyObject *kwnames, const char *method)
{
    call c;
    if (from_asyncio(l, args, n, kwnames) && ploop_here(l)) {
        if (loop_take_inbox(l) < 0 || ready_push_call(l, args[0], n > 1 ? args[1] : NULL, args[n]) < 0)
            return NULL;
        Py_RETURN_NONE;
    }
    if (parse_call(l, method, args, n, kwnames, 0, &c) < 0 || loop_check_open(l) < 0)
        return NULL;
    phandle *h = make_handle(l, false, method, &c);
    if (h == NULL || push_from_anywhere(l, (PyObject *)h) < 0) {
        Py_XDECREF(h);
        return NULL;
    }
    return (PyObject *)h;
}

PyObject *
loop_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    OWN(&((ploop *)self)->own, NULL);
    return call_soon((ploop *)self, args, n, kwnames, "call_soon");
}

/* From CPython 3.14 on its handles are asyncio's own: to cancel one waits for its callback. */
static PyObject *
thread_safe(ploop *l, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    static const char method[] = "call_soon_threadsafe";
    call c;
    if (parse_call(l, method, args, n, kwnames, 0, &c) < 0 || loop_check_open(l) < 0)
        return NULL;
    PyObject *stack = l->debug ? PyObject_CallMethod((PyObject *)l, "_debug_call", "Os", c.callback, method) : NULL;
    PyObject *more = l->debug && stack == NULL ? NULL : PyTuple_New(c.n), *handle = NULL;
    for (Py_ssize_t i = 0; more != NULL && i < c.n; i++)
        PyTuple_SET_ITEM(more, i, Py_NewRef(c.args[i]));
    if (more != NULL)
        handle = PyObject_CallFunctionObjArgs(l->st->ThreadSafeHandle, c.callback, more, (PyObject *)l,
                                              c.context == NULL ? Py_None : c.context, NULL);
    if (handle != NULL && stack != NULL && PyObject_SetAttrString(handle, "_source_traceback", stack) < 0)
        Py_CLEAR(handle);
    Py_XDECREF(stack);
    Py_XDECREF(more);
    if (handle != NULL && push_from_anywhere(l, handle) < 0)
        Py_CLEAR(handle);
    return handle;
}

PyObject *
loop_call_soon_threadsafe(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    ploop *l = (ploop *)self;
    PyObject *handle = l->st->ThreadSafeHandle != NULL
                           ? thread_safe(l, args, n, kwnames)
                           : call_soon(l, args, n, kwnames, "call_soon_threadsafe");
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

/* A call without positional arguments: once more, with the first one, which is given by name, in its place. */
static PyObject *
by_name(PyObject *self, PyObject *(*again)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *), const char *method,
        const char *first, PyObject *const *args, PyObject *kwnames)
{
    Py_ssize_t count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames), at = -1;
    bool callback = false;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (PyUnicode_CompareWithASCIIString(name, first) == 0)
            at = i;
        callback |= PyUnicode_CompareWithASCIIString(name, "callback") == 0;
    }
    if (at < 0 && callback)
        return PyErr_Format(PyExc_TypeError, "%s() missing 1 required positional argument: '%s'", method, first);
    if (at < 0)
        return PyErr_Format(PyExc_TypeError, "%s() missing 2 required positional arguments: '%s' and 'callback'",
                            method, first);
    PyObject *moved = PyTuple_New(count), *names = PyTuple_New(count - 1), *result = NULL;
    if (moved != NULL && names != NULL) {
        PyTuple_SET_ITEM(moved, 0, Py_NewRef(args[at]));
        for (Py_ssize_t i = 0, to = 0; i < count; i++) {
            if (i == at)
                continue;
            PyTuple_SET_ITEM(names, to, Py_NewRef(PyTuple_GET_ITEM(kwnames, i)));
            PyTuple_SET_ITEM(moved, ++to, Py_NewRef(args[i]));
        }
        result = again(self, &PyTuple_GET_ITEM(moved, 0), 1, names);
    }
    Py_XDECREF(moved);
    Py_XDECREF(names);
    return result;
}

PyObject *
loop_call_later(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
    OWN(&((ploop *)self)->own, NULL);
    ploop *l = (ploop *)self;
    call c;
    if (n < 1)
        return by_name(self, loop_call_later, "call_later", "delay", args, kwnames);
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
    OWN(&((ploop *)self)->own, NULL);
    ploop *l = (ploop *)self;
    call c;
    if (n < 1)
        return by_name(self, loop_call_at, "call_at", "when", args, kwnames);
    if (parse_call(l, "call_at", args, n, kwnames, 1, &c) < 0)
        return NULL;
    if (args[0] == Py_None)
        return PyErr_Format(PyExc_TypeError, "when cannot be None");
    double at = PyFloat_AsDouble(args[0]);
    if (at == -1 && PyErr_Occurred())
        return NULL;
    return call_at(l, args[0], at, "call_at", &c);
}

/* -- Its methods, bound ---------------------------------------------------- */

/* asyncio's tasks and futures get call_soon and get_debug from the loop each time that
 * they call it, which makes an object each time. */
static inline ploop_bound * /* the first of PLOOP_WAYS places that may have it */
bound_at(ploop *l, PyObject *name)
{
    return &l->bound[((uint64_t)(uintptr_t)name * 0x9e3779b97f4a7c15u >> 32) % (PLOOP_BOUND / PLOOP_WAYS) * PLOOP_WAYS];
}

void
loop_forget_bound(ploop *l)
{
    for (int i = 0; i < PLOOP_BOUND; i++) {
        Py_CLEAR(l->bound[i].method);
        Py_CLEAR(l->bound[i].name);
    }
}

static void
remember(ploop *l, PyObject *name, PyObject *method)
{
#ifndef Py_GIL_DISABLED /* where others may come at any time, nothing is kept */
    PyObject *self = (PyObject *)l;
    unsigned tag = SEEN(Py_TYPE(self)->tp_version_tag);
    if (tag == 0 || !l->running || !(PyCFunction_Check(method) ? PyCFunction_GET_SELF(method) == self
                                     : PyMethod_Check(method) && PyMethod_GET_SELF(method) == self))
        return;
    if (tag != l->bound_tag)
        loop_forget_bound(l);
    l->bound_tag = tag;
    ploop_bound *b = bound_at(l, name);
    for (int i = 1; i < PLOOP_WAYS && b->name != NULL; i++)
        b++; /* those that are there stay, but for the last */
    Py_XSETREF(b->method, Py_NewRef(method));
    Py_XSETREF(b->name, Py_NewRef(name));
#else
    (void)l, (void)name, (void)method;
#endif
}

PyObject *
loop_getattro(PyObject *self, PyObject *name)
{
    ploop *l = (ploop *)self;
    ploop_bound *b = bound_at(l, name);
    if (l->bound_tag == SEEN(Py_TYPE(self)->tp_version_tag))
        for (int i = 0; i < PLOOP_WAYS; i++)
            if (b[i].name == name)
                return Py_NewRef(b[i].method);
    PyObject *value = PyObject_GenericGetAttr(self, name);
    if (value != NULL)
        remember(l, name, value);
    return value;
}

int
loop_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    loop_forget_bound((ploop *)self);
    return PyObject_GenericSetAttr(self, name, value);
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

/* Nobody has it but us, and what others read in it they have read. */
static inline bool
bytes_alone(PyObject *bytes)
{
#ifdef Py_GIL_DISABLED /* acquire: with the release of their Py_DECREF */
    return __atomic_load_n(&bytes->ob_ref_shared, __ATOMIC_ACQUIRE) == 0 && Py_REFCNT(bytes) == 1;
#else
    return Py_REFCNT(bytes) == 1;
#endif
}

enum { SPARE_MIN = 1024 - 48, SPARE_MAX = 32768 };

PyObject *
ploop_bytes(ploop *l, const char *from, Py_ssize_t n)
{
    if (n < SPARE_MIN || n > SPARE_MAX)
        return PyBytes_FromStringAndSize(from, n);
    for (int i = 0; i < 2; i++) {
        PyObject *bytes = l->spare[i];
        if (bytes != NULL && bytes_alone(bytes) && PyBytes_GET_SIZE(bytes) == n) {
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

int
ploop_call_soon(ploop *l, PyObject *callable, PyObject *const *args, Py_ssize_t n, PyObject *context)
{
    if (loop_check_open(l) < 0)
        return -1;
    if (context != NULL && context != Py_None && n <= 1 && !l->debug)
        return ready_push_call(l, callable, n > 0 ? args[0] : NULL, context);
    phandle *h = make_handle(l, false, "call_soon", &(call){callable, context, args, n});
    return h == NULL ? -1 : ready_push(l, (PyObject *)h);
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
