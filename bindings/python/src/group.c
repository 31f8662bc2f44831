/* SPDX-License-Identifier: MIT
 *
 * _Once, _ErrGroup and _SingleFlight: the two halves (begin, end) of what the
 * core calls once, error group and single flight. The whole, which runs
 * coroutines between the halves, is in _group.py.
 *
 * A flight is a list [ticket, outcome]. Who begins one enters it in `flights`
 * under its key, and who joins it finds it there: begin asks the core and the
 * dict, and end tells both, with no Python code in between that could let
 * another thread in. */
#include "state.h"
#include <structmember.h>

/* -- Once ---------------------------------------------------------------- */

static PyObject *
once_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":_Once", names))
        return NULL;
    onceobj *o = (onceobj *)type->tp_alloc(type, 0);
    if (o != NULL && (o->core = tdl_once_new()) == NULL) {
        Py_DECREF(o);
        return PyErr_NoMemory();
    }
    return (PyObject *)o;
}

static PyObject *
once_begin(PyObject *o, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(STATE(o), OP_ONCE, o, NULL, 0);
}

static PyObject *
once_end(onceobj *o, PyObject *Py_UNUSED(ignored))
{
    int rc = tdl_once_end(o->core);
    if (rc < 0)
        return raise_code(STATE(o), rc, "end");
    THREAD_KICK(STATE(o));
    Py_RETURN_NONE;
}

static void
once_dealloc(onceobj *o)
{
    PyTypeObject *type = Py_TYPE(o);
    PyObject_GC_UnTrack(o);
    tdl_once_free(o->core);
    type->tp_free(o);
    Py_DECREF(type);
}

static PyMethodDef once_methods[] = {
    {"begin", once_begin, METH_NOARGS,
     "await begin() -> True: do it, and then call end(); False: it is done."},
    {"end", (PyCFunction)once_end, METH_NOARGS, "It is done."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot once_slots[] = {
    {Py_tp_doc, "_Once()\n--\n\nThe core's once (internal)."},
    {Py_tp_new, once_new},
    {Py_tp_dealloc, once_dealloc},
    {Py_tp_traverse, type_traverse},
    {Py_tp_methods, once_methods},
    {0, NULL},
};

PyType_Spec once_spec = {
    .name = "treadle._treadle._Once",
    .basicsize = sizeof(onceobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = once_slots,
};

/* -- Error group ---------------------------------------------------------- */

/* None: any number. -1: exception. */
static int
limit_arg(PyObject *limit, uint32_t *n)
{
    *n = 0;
    if (limit == Py_None)
        return 0;
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(limit, &overflow);
    if (value == -1 && PyErr_Occurred())
        return -1;
    if (overflow || value < 1 || value > UINT32_MAX) {
        PyErr_Format(PyExc_ValueError, "limit must be 1 to 2**32 - 1, or None, not %R", limit);
        return -1;
    }
    *n = (uint32_t)value;
    return 0;
}

static PyObject *
errgroup_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"parent", "limit", NULL};
    mod_state *st = type_state(type);
    PyObject *parent, *limit;
    uint32_t n;
    if (state_gone(st) ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "O!O:_ErrGroup", names, st->ContextType,
                                     &parent, &limit) ||
        limit_arg(limit, &n) < 0)
        return NULL;
    errgroupobj *eg = (errgroupobj *)type->tp_alloc(type, 0);
    if (eg != NULL && (eg->core = tdl_errgroup_new(((contextobj *)parent)->core, n)) == NULL) {
        Py_DECREF(eg);
        return PyErr_NoMemory();
    }
    return (PyObject *)eg;
}

static PyObject *
errgroup_context(errgroupobj *eg, PyObject *Py_UNUSED(ignored))
{
    return context_wrap(STATE(eg), tdl_context_ref(tdl_errgroup_context(eg->core)));
}

static PyObject *
errgroup_begin(PyObject *eg, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(STATE(eg), OP_PLACE, eg, NULL, 0);
}

static PyObject *
errgroup_try_begin(errgroupobj *eg, PyObject *Py_UNUSED(ignored))
{
    int rc = tdl_errgroup_begin_until(eg->core, TDL_NOWAIT);
    if (rc < 0 && rc != TDL_EAGAIN)
        return raise_code(STATE(eg), rc, "try_go");
    return PyBool_FromLong(rc == 0);
}

static PyObject *
errgroup_done(errgroupobj *eg, PyObject *result)
{
    long code = PyLong_AsLong(result);
    if (code == -1 && PyErr_Occurred())
        return NULL;
    int rc = tdl_errgroup_done(eg->core, (int)code);
    if (rc < 0)
        return raise_code(STATE(eg), rc, "done");
    THREAD_KICK(STATE(eg));
    Py_RETURN_NONE;
}

static PyObject *
errgroup_wait(PyObject *eg, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(STATE(eg), OP_GROUP, eg, NULL, 0);
}

static PyObject *
errgroup_set_limit(errgroupobj *eg, PyObject *limit)
{
    uint32_t n;
    if (limit_arg(limit, &n) < 0)
        return NULL;
    int rc = tdl_errgroup_set_limit(eg->core, n);
    if (rc == TDL_EBUSY) {
        PyErr_SetString(PyExc_RuntimeError, "set_limit: goroutines of the group are at work");
        return NULL;
    }
    if (rc < 0)
        return raise_code(STATE(eg), rc, "set_limit");
    Py_RETURN_NONE;
}

static void
errgroup_dealloc(errgroupobj *eg)
{
    PyTypeObject *type = Py_TYPE(eg);
    PyObject_GC_UnTrack(eg);
    tdl_errgroup_free(eg->core);
    type->tp_free(eg);
    Py_DECREF(type);
}

static PyMethodDef errgroup_methods[] = {
    {"context", (PyCFunction)errgroup_context, METH_NOARGS, "The group's context."},
    {"begin", errgroup_begin, METH_NOARGS, "await begin(): takes a place."},
    {"try_begin", (PyCFunction)errgroup_try_begin, METH_NOARGS, "Takes a place if there is one."},
    {"done", (PyCFunction)errgroup_done, METH_O, "done(code): gives the place back."},
    {"wait", errgroup_wait, METH_NOARGS,
     "await wait() -> code: until nobody works; then the context ends."},
    {"set_limit", (PyCFunction)errgroup_set_limit, METH_O, "set_limit(limit or None)"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot errgroup_slots[] = {
    {Py_tp_doc, "_ErrGroup(parent, limit)\n--\n\nThe core's error group (internal)."},
    {Py_tp_new, errgroup_new},
    {Py_tp_dealloc, errgroup_dealloc},
    {Py_tp_traverse, type_traverse},
    {Py_tp_methods, errgroup_methods},
    {Py_tp_getset, address_getset},
    {0, NULL},
};

PyType_Spec errgroup_spec = {
    .name = "treadle._treadle._ErrGroup",
    .basicsize = sizeof(errgroupobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = errgroup_slots,
};

/* -- Single flight --------------------------------------------------------- */

static PyObject *
flight_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":_SingleFlight", names))
        return NULL;
    flightobj *sf = (flightobj *)type->tp_alloc(type, 0);
    if (sf == NULL)
        return NULL;
    sf->core = tdl_singleflight_new();
    sf->flights = PyDict_New();
    if (sf->core == NULL || sf->flights == NULL) {
        if (sf->core == NULL)
            PyErr_NoMemory();
        Py_DECREF(sf);
        return NULL;
    }
    return (PyObject *)sf;
}

/* op->arg is the key, and from then on the flight that was begun or joined. */
static int32_t
begin_flight(opobj *op, pyhost *h, uint32_t task)
{
    flightobj *sf = (flightobj *)op->target;
    PyObject *key = op->arg;
    /* made first: no collection, which runs Python code, may come later */
    PyObject *fresh = Py_BuildValue("[OO]", Py_None, Py_None);
    if (fresh == NULL)
        return OP_ERROR;
    int32_t code = tdl_singleflight_begin_start(h->core, task, sf->core, PyBytes_AS_STRING(key),
                                                (size_t)PyBytes_GET_SIZE(key), TDL_FOREVER);
    if (code == TDL_PENDING) {
        PyObject *flight;
        if (dict_get(sf->flights, key, &flight) > 0)
            Py_SETREF(fresh, flight);
        PyErr_Clear();
    } else if (code == 1) {
        PyObject *ticket = PyLong_FromLongLong(h->out[task].extra);
        if (ticket == NULL || PyDict_SetItem(sf->flights, key, fresh) < 0) {
            tdl_singleflight_end(sf->core, h->out[task].extra, TDL_ENOMEM, NULL);
            Py_XDECREF(ticket);
            Py_DECREF(fresh);
            return OP_ERROR;
        }
        PyList_SetItem(fresh, 0, ticket);
    } else {
        Py_DECREF(fresh);
        return code;
    }
    Py_SETREF(op->arg, fresh);
    return code;
}

/* A flight and its place among the flights are one, for other threads. */
int32_t
flight_start(opobj *op, pyhost *h, uint32_t task)
{
    int32_t code;
    Py_BEGIN_CRITICAL_SECTION(op->target);
    code = begin_flight(op, h, task);
    Py_END_CRITICAL_SECTION();
    return code;
}

/* (True, flight) for who begins one, else (False, outcome). */
PyObject *
flight_result(opobj *op, int32_t code)
{
    PyObject *what = code == 1 ? Py_NewRef(op->arg) : list_get(op->arg, 1);
    PyObject *pair = what == NULL ? NULL : PyTuple_Pack(2, code == 1 ? Py_True : Py_False, what);
    Py_XDECREF(what);
    return pair;
}

static PyObject *
flight_begin(PyObject *sf, PyObject *key)
{
    if (!PyBytes_Check(key))
        return PyErr_Format(PyExc_TypeError, "begin: the key is bytes");
    return (PyObject *)op_new(STATE(sf), OP_FLIGHT, sf, key, 0);
}

static int
flight_drop(flightobj *sf, PyObject *key, PyObject *flight)
{
    PyObject *there;
    int rc;
    Py_BEGIN_CRITICAL_SECTION(sf); /* it goes if it is still that one */
    rc = dict_get(sf->flights, key, &there);
    bool goes = rc > 0 && (flight == NULL || there == flight);
    Py_XDECREF(there);
    if (rc >= 0)
        rc = goes ? PyDict_DelItem(sf->flights, key) : 0;
    Py_END_CRITICAL_SECTION();
    return rc;
}

static PyObject *
flight_end(flightobj *sf, PyObject *args)
{
    PyObject *key, *flight, *outcome;
    if (!PyArg_ParseTuple(args, "SO!O:end", &key, &PyList_Type, &flight, &outcome))
        return NULL;
    PyObject *first = list_get(flight, 0);
    long long ticket = first == NULL ? -1 : PyLong_AsLongLong(first);
    Py_XDECREF(first);
    if ((ticket == -1 && PyErr_Occurred()) || flight_drop(sf, key, flight) < 0 ||
        PyList_SetItem(flight, 1, Py_NewRef(outcome)) < 0)
        return NULL;
    int rc = tdl_singleflight_end(sf->core, ticket, 0, NULL);
    if (rc < 0)
        return raise_code(STATE(sf), rc, "end");
    THREAD_KICK(STATE(sf));
    return PyLong_FromLong(rc);
}

static PyObject *
flight_forget(flightobj *sf, PyObject *key)
{
    if (!PyBytes_Check(key))
        return PyErr_Format(PyExc_TypeError, "forget: the key is bytes");
    if (flight_drop(sf, key, NULL) < 0)
        return NULL;
    int rc = tdl_singleflight_forget(sf->core, PyBytes_AS_STRING(key),
                                     (size_t)PyBytes_GET_SIZE(key));
    return rc < 0 ? raise_code(STATE(sf), rc, "forget") : PyBool_FromLong(rc);
}

static int
flight_traverse(flightobj *sf, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(sf));
    Py_VISIT(sf->flights);
    return 0;
}

static int
flight_clear(flightobj *sf)
{
    if (sf->flights != NULL)
        PyDict_Clear(sf->flights); /* it stays: an op may still come to it */
    return 0;
}

static void
flight_dealloc(flightobj *sf)
{
    PyTypeObject *type = Py_TYPE(sf);
    PyObject_GC_UnTrack(sf);
    tdl_singleflight_free(sf->core);
    Py_XDECREF(sf->flights);
    type->tp_free(sf);
    Py_DECREF(type);
}

static PyMethodDef flight_methods[] = {
    {"begin", flight_begin, METH_O,
     "await begin(key) -> (True, flight): do the work and call end(); (False, outcome)."},
    {"end", (PyCFunction)flight_end, METH_VARARGS,
     "end(key, flight, outcome) -> how many others get the outcome."},
    {"forget", (PyCFunction)flight_forget, METH_O, "forget(key) -> bool"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot flight_slots[] = {
    {Py_tp_doc, "_SingleFlight()\n--\n\nThe core's single flight (internal)."},
    {Py_tp_new, flight_new},
    {Py_tp_dealloc, flight_dealloc},
    {Py_tp_traverse, flight_traverse},
    {Py_tp_clear, flight_clear},
    {Py_tp_methods, flight_methods},
    {0, NULL},
};

PyType_Spec flight_spec = {
    .name = "treadle._treadle._SingleFlight",
    .basicsize = sizeof(flightobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = flight_slots,
};
