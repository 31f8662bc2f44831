/* SPDX-License-Identifier: MIT
 *
 * Handles and timer handles: subclasses of asyncio's, so that isinstance, repr and
 * comparison are asyncio's own, with their fields in C.
 *
 * Invariants.
 *  - asyncio's slots at the head of the memory stay empty: properties of the same
 *    names show ours. Up to PHANDLE_ARGS arguments lie inline; more in a tuple.
 *  - Only the loop makes them, and takes their memory back, for the next one. */
#include "handle.h"
#include <math.h>
#include <structmember.h>

/* -- Making --------------------------------------------------------------- */

/* callback, args and context are borrowed; context NULL: a copy of the current one. */
phandle *
handle_new(ploop *l, bool timer, PyObject *callback, PyObject *const *args, Py_ssize_t n, PyObject *context)
{
    PyTypeObject *type = timer ? l->st->TimerHandleType : l->st->HandleType;
    phandle **free = timer ? &l->free_timers : &l->free_handles, *h = ploop_here(l) ? *free : NULL;
    PyObject *more = NULL;
    context = context != NULL && context != Py_None ? Py_NewRef(context) : PyContext_CopyCurrent();
    if (context == NULL)
        return NULL;
    if (n > PHANDLE_ARGS) {
        more = PyTuple_New(n);
        if (more == NULL) {
            Py_DECREF(context);
            return NULL;
        }
        for (Py_ssize_t i = 0; i < n; i++)
            PyTuple_SET_ITEM(more, i, Py_NewRef(args[i]));
    }
    if (h != NULL) {
        *free = h->next_free;
        --*(timer ? &l->nfree_timers : &l->nfree_handles);
        _Py_NewReference((PyObject *)h); /* it has kept its type */
    } else {
        h = type == NULL && state_gone(l->st) ? NULL : PyObject_GC_New(phandle, type);
        if (h == NULL) {
            Py_DECREF(context);
            Py_XDECREF(more);
            return NULL;
        }
        memset((char *)h + sizeof(PyObject), 0, sizeof *h - sizeof(PyObject));
    }
    h->loop = (ploop *)Py_NewRef((PyObject *)l);
    h->callback = Py_NewRef(callback);
    h->context = context;
    h->more = more;
    h->nargs = (int)n;
    h->cancelled = false;
    h->timer = timer;
    h->index = 0;
    h->next_free = NULL;
    if (more == NULL)
        for (Py_ssize_t i = 0; i < n; i++)
            h->args[i] = Py_NewRef(args[i]);
    PyObject_GC_Track(h);
    return h;
}

static void
drop_call(phandle *h)
{
    PyObject *callback, *more, *args[PHANDLE_ARGS];
    int n;
    Py_BEGIN_CRITICAL_SECTION(h);
    callback = h->callback;
    more = h->more;
    n = more == NULL ? h->nargs : 0;
    for (int i = 0; i < n; i++)
        args[i] = h->args[i];
    h->callback = h->more = NULL;
    h->nargs = 0;
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(callback);
    Py_XDECREF(more);
    for (int i = 0; i < n; i++)
        Py_DECREF(args[i]);
}

static int
handle_clear(phandle *h)
{
    drop_call(h);
    Py_CLEAR(h->context);
    Py_CLEAR(h->traceback);
    Py_CLEAR(h->repr);
    Py_CLEAR(h->when_object);
    Py_CLEAR(h->loop);
    return 0;
}

static int
handle_traverse(phandle *h, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(h));
    Py_VISIT(h->loop);
    Py_VISIT(h->callback);
    Py_VISIT(h->more);
    for (int i = 0; h->more == NULL && i < h->nargs; i++)
        Py_VISIT(h->args[i]);
    Py_VISIT(h->context);
    Py_VISIT(h->traceback);
    Py_VISIT(h->repr);
    Py_VISIT(h->when_object);
    return 0;
}

static void
handle_dealloc(phandle *h)
{
    PyTypeObject *type = Py_TYPE(h);
    ploop *l = h->loop;
    PyObject_GC_UnTrack(h);
    PyObject_ClearWeakRefs((PyObject *)h);
    h->loop = NULL;
    handle_clear(h);
    uint32_t *n = l == NULL || !ploop_here(l) ? NULL : h->timer ? &l->nfree_timers : &l->nfree_handles;
    if (n != NULL && *n < PLOOP_HANDLES) {
        phandle **free = h->timer ? &l->free_timers : &l->free_handles;
        ++*n;
        h->next_free = *free;
        *free = h;
    } else {
        PyObject_GC_Del(h);
        Py_DECREF(type);
    }
    Py_XDECREF(l);
}

void
handles_free(ploop *l)
{
    phandle *lists[] = {l->free_handles, l->free_timers};
    l->free_handles = l->free_timers = NULL;
    l->nfree_handles = l->nfree_timers = PLOOP_HANDLES; /* takes no more */
    for (int i = 0; i < 2; i++)
        for (phandle *h = lists[i], *next; h != NULL; h = next) {
            next = h->next_free;
            PyTypeObject *type = Py_TYPE(h);
            PyObject_GC_Del(h);
            Py_DECREF(type);
        }
}

/* Those on the freelists keep their types. */
int
handles_traverse(ploop *l, visitproc visit, void *arg)
{
    for (phandle *h = l->free_handles; h != NULL; h = h->next_free)
        Py_VISIT(Py_TYPE(h));
    for (phandle *h = l->free_timers; h != NULL; h = h->next_free)
        Py_VISIT(Py_TYPE(h));
    return 0;
}

/* -- Running -------------------------------------------------------------- */

/* Runs what it calls. 0, or -1 with an exception that leaves the loop. */
int
handle_run(phandle *h)
{
    PyObject *stack[PHANDLE_ARGS + 1], **args = stack, *result = NULL;
    PyObject *callback, *more, *context;
    int n, kept;
    Py_BEGIN_CRITICAL_SECTION(h); /* another thread may cancel it now */
    callback = Py_XNewRef(h->callback);
    more = Py_XNewRef(h->more);
    context = Py_XNewRef(h->context);
    n = h->nargs;
    kept = more == NULL ? n : 0;
    for (int i = 0; i < kept; i++)
        stack[i + 1] = Py_NewRef(h->args[i]);
    Py_END_CRITICAL_SECTION();
    if (more != NULL)
        args = ((PyTupleObject *)more)->ob_item - 1; /* its slot before is not to be written to */
    if (context == NULL || callback == NULL)
        PyErr_SetString(PyExc_RuntimeError, "the handle has nothing to run");
    else if (PyContext_Enter(context) == 0) {
        result = PyObject_Vectorcall(callback, args + 1,
                                     (size_t)n | (more == NULL ? PY_VECTORCALL_ARGUMENTS_OFFSET : 0), NULL);
        if (PyContext_Exit(context) < 0)
            Py_CLEAR(result);
    }
    int rc = 0;
    if (result == NULL)
        rc = handle_failed(h);
    else
        Py_DECREF(result);
    Py_XDECREF(callback);
    Py_XDECREF(context);
    Py_XDECREF(more);
    for (int i = 0; i < kept; i++)
        Py_DECREF(stack[i + 1]);
    return rc;
}

/* The exception that is set came from its callback: to the loop's handler. 0, or
 * -1 when it is one that leaves the loop. */
int
handle_failed(phandle *h)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit))
        return -1;
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *done = PyObject_CallMethod((PyObject *)h->loop, "_callback_failed", "OO", (PyObject *)h, exc);
    Py_DECREF(exc);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* -- asyncio's methods ---------------------------------------------------- */

/* On a thread that is not the loop's (perhaps nobody's): one that runs finds it cancelled when it
 * is due. */
static void
cancel_elsewhere(phandle *h)
{
    OWN_QUIET(&h->loop->own, );
    if (h->index > 0)
        timer_remove(h->loop, h);
}

static PyObject *
handle_cancel(phandle *h, PyObject *Py_UNUSED(ignored))
{
    if (SEEN(h->cancelled))
        Py_RETURN_NONE;
    SHOW(h->cancelled, true);
    if (h->loop != NULL && h->loop->debug && h->repr == NULL) {
        /* kept, for reports: what is cancelled forgets what it would have called */
        h->repr = PyObject_Repr((PyObject *)h);
        if (h->repr == NULL)
            return NULL;
    }
    Py_INCREF(h);
    if (h->loop == NULL || ploop_here(h->loop)) {
        if (h->index > 0)
            timer_remove(h->loop, h);
    } else {
        cancel_elsewhere(h);
    }
    drop_call(h);
    Py_DECREF(h);
    Py_RETURN_NONE;
}

static PyObject *
handle_cancelled(phandle *h, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(SEEN(h->cancelled));
}

static PyObject *
handle_run_method(phandle *h, PyObject *Py_UNUSED(ignored))
{
    if (handle_run(h) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
handle_when(phandle *h, PyObject *Py_UNUSED(ignored))
{
    return h->when_object != NULL ? Py_NewRef(h->when_object) : PyFloat_FromDouble(h->when);
}

static PyObject *
get_when(phandle *h, void *Py_UNUSED(closure))
{
    return handle_when(h, NULL);
}

static PyObject *
get_args(phandle *h, void *Py_UNUSED(closure))
{
    PyObject *kept[PHANDLE_ARGS], *args;
    int n = 0;
    Py_BEGIN_CRITICAL_SECTION(h);
    args = h->callback == NULL && h->cancelled ? Py_NewRef(Py_None) : Py_XNewRef(h->more);
    for (int i = 0; args == NULL && i < h->nargs; i++)
        kept[n++] = Py_NewRef(h->args[i]);
    Py_END_CRITICAL_SECTION();
    if (args == NULL && (args = PyTuple_New(n)) != NULL) {
        for (int i = 0; i < n; i++)
            PyTuple_SET_ITEM(args, i, kept[i]);
        n = 0;
    }
    while (n > 0)
        Py_DECREF(kept[--n]);
    return args;
}

static PyObject *
get_field(phandle *h, void *offset)
{
    PyObject *o;
    Py_BEGIN_CRITICAL_SECTION(h);
    o = *(PyObject **)((char *)h + (size_t)offset);
    o = Py_NewRef(o != NULL ? o : Py_None);
    Py_END_CRITICAL_SECTION();
    return o;
}

static int
set_field(phandle *h, PyObject *value, void *offset)
{
    PyObject **field = (PyObject **)((char *)h + (size_t)offset), *old;
    Py_BEGIN_CRITICAL_SECTION(h);
    old = *field;
    *field = Py_XNewRef(value == Py_None ? NULL : value);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(old);
    return 0;
}

static PyObject *
get_cancelled(phandle *h, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(h->cancelled);
}

static PyObject *
get_scheduled(phandle *h, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(h->index > 0);
}

static PyMethodDef timer_methods[] = {
    {"when", (PyCFunction)handle_when, METH_NOARGS, "When it is due, by the clock of loop.time()."},
    {"cancel", (PyCFunction)handle_cancel, METH_NOARGS, "It will not be called any more."},
    {"cancelled", (PyCFunction)handle_cancelled, METH_NOARGS, "Was it cancelled?"},
    {"_run", (PyCFunction)handle_run_method, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

#define FIELD(name) (void *)offsetof(phandle, name)
#define PROPERTY(name, field) {name, (getter)get_field, (setter)set_field, NULL, FIELD(field)}
static PyGetSetDef timer_getset[] = {
    {"_when", (getter)get_when, NULL, NULL, NULL},
    {"_scheduled", (getter)get_scheduled, NULL, NULL, NULL},
    {"_cancelled", (getter)get_cancelled, NULL, NULL, NULL},
    {"_args", (getter)get_args, NULL, NULL, NULL},
    {"_callback", (getter)get_field, NULL, NULL, FIELD(callback)},
    {"_loop", (getter)get_field, NULL, NULL, FIELD(loop)},
    {"_context", (getter)get_field, NULL, NULL, FIELD(context)},
    PROPERTY("_source_traceback", traceback),
    PROPERTY("_repr", repr),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, "What call_soon returns: asyncio.Handle, made by treadle's loop."},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_clear, handle_clear},
    {Py_tp_methods, timer_methods + 1}, /* without those of timers */
    {Py_tp_getset, timer_getset + 2},
    {0, NULL},
};

static PyType_Slot timer_slots[] = {
    {Py_tp_doc, "What call_later and call_at return: asyncio.TimerHandle, made by treadle's loop."},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_clear, handle_clear},
    {Py_tp_methods, timer_methods},
    {Py_tp_getset, timer_getset},
    {0, NULL},
};

enum { FLAGS = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION };
static PyType_Spec handle_spec = {"treadle._treadle.Handle", sizeof(phandle), 0, FLAGS, handle_slots};
static PyType_Spec timer_handle_spec = {"treadle._treadle.TimerHandle", sizeof(phandle), 0, FLAGS, timer_slots};

int
handle_setup(PyObject *module, mod_state *st)
{
    PyObject *events = PyImport_ImportModule("asyncio.events");
    if (events == NULL)
        return -1;
    struct { const char *name; PyType_Spec *spec; PyTypeObject **type; } types[] = {
        {"Handle", &handle_spec, &st->HandleType},
        {"TimerHandle", &timer_handle_spec, &st->TimerHandleType},
    };
    for (int i = 0; i < 2; i++) {
        PyObject *base = PyObject_GetAttrString(events, types[i].name);
        if (base != NULL && ((PyTypeObject *)base)->tp_basicsize > PHANDLE_BASE) {
            PyErr_Format(PyExc_ImportError, "asyncio.%s is larger than this module was built for", types[i].name);
            Py_CLEAR(base);
        }
        if (base != NULL)
            *types[i].type = (PyTypeObject *)type_make(module, types[i].spec, base);
        Py_XDECREF(base);
        if (*types[i].type == NULL) {
            Py_DECREF(events);
            return -1;
        }
    }
    Py_DECREF(events);
    return 0;
}
