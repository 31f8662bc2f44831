/* SPDX-License-Identifier: MIT
 *
 * _Context: a holder of a context of the core. What is Python's own (exceptions
 * as causes, any object as a value) is in _context.py, which wraps it.
 *
 * The flags of a cause's detail have, above the byte that says what the bytes
 * are (value.c), the number by which _context.py finds its exception again. */
#include "state.h"
#include <structmember.h>

enum { TOKEN_SHIFT = 8, KIND_MASK = (1 << TOKEN_SHIFT) - 1, TOKEN_MAX = (1 << 24) - 1 };

bool
context_check(PyObject *object)
{
    mod_state *st = STATE(object);
    return st != NULL && Py_TYPE(object) == st->ContextType;
}

/* Takes the hold on core; NULL: no memory. */
PyObject *
context_wrap(mod_state *st, tdl_context *core)
{
    if (core == NULL)
        return PyErr_NoMemory();
    if (state_gone(st)) {
        tdl_context_free(core);
        return NULL;
    }
    contextobj *c = (contextobj *)st->ContextType->tp_alloc(st->ContextType, 0);
    if (c == NULL) {
        tdl_context_free(core);
        return NULL;
    }
    c->core = core;
    return (PyObject *)c;
}

static PyObject *
context_background(PyObject *type, PyObject *Py_UNUSED(ignored))
{
    return context_wrap(type_state((PyTypeObject *)type), tdl_context_background());
}

static PyObject *
context_from_address(PyObject *type, PyObject *address)
{
    void *p = PyLong_AsVoidPtr(address);
    if (p == NULL)
        return PyErr_Occurred() ? NULL
                                : PyErr_Format(PyExc_ValueError, "the address is null");
    return context_wrap(type_state((PyTypeObject *)type), tdl_context_ref(p));
}

/* -- Deriving ------------------------------------------------------------ */

static PyObject *
context_with_cancel(contextobj *c, PyObject *Py_UNUSED(ignored))
{
    return context_wrap(STATE(c), tdl_context_with_cancel(c->core));
}

static PyObject *
context_without_cancel(contextobj *c, PyObject *Py_UNUSED(ignored))
{
    return context_wrap(STATE(c), tdl_context_without_cancel(c->core));
}

/* ns from now, or at ns. The loop counts the time. */
static PyObject *
timed(contextobj *c, int64_t ns, bool absolute)
{
    mod_state *st = STATE(c);
    pyhost *h = host_get(st);
    if (h == NULL)
        return NULL;
    PyObject *made = context_wrap(st, absolute ? tdl_context_with_deadline(c->core, ns)
                                               : tdl_context_with_timeout(c->core, ns));
    HOST_KICK(h);
    return made;
}

static PyObject *
context_with_timeout(contextobj *c, PyObject *seconds)
{
    int64_t ns;
    return seconds_arg(seconds, "timeout", &ns) < 0 ? NULL : timed(c, ns, false);
}

static PyObject *
context_with_deadline(contextobj *c, PyObject *when)
{
    int64_t ns;
    return seconds_arg(when, "deadline", &ns) < 0 ? NULL : timed(c, ns, true);
}

/* What the core can carry and compare. 1, 0, or -1 with an exception. */
static int
plain(mod_state *st, PyObject *object, tdl_val *v)
{
    tdl_val_set_nil(v);
    if (PyDict_Check(object) || PyList_Check(object) || PyTuple_Check(object))
        return 0;
    if (val_encode(st, object, v) == 0)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_OverflowError) &&
        !PyErr_ExceptionMatches(PyExc_ValueError))
        return -1;
    PyErr_Clear();
    return 0;
}

static PyObject *
context_with_value(contextobj *c, PyObject *args)
{
    mod_state *st = STATE(c);
    PyObject *key, *value;
    tdl_val k, v;
    if (state_gone(st) || !PyArg_ParseTuple(args, "OO:with_value", &key, &value))
        return NULL;
    int can = plain(st, key, &k);
    tdl_val_set_nil(&v);
    if (can > 0)
        can = k.type == TDL_NIL ? 0 : plain(st, value, &v);
    tdl_context *made = can < 0 ? NULL
                      : can ? tdl_context_with_value(c->core, &k, &v)
                            : tdl_context_with_cancel(c->core);
    tdl_val_clear(&k);
    tdl_val_clear(&v);
    return can < 0 ? NULL : context_wrap(st, made);
}

/* -- Ending, looking ------------------------------------------------------ */

static PyObject *
context_cancel(contextobj *c, PyObject *args)
{
    mod_state *st = STATE(c);
    int code;
    unsigned int token;
    PyObject *detail;
    tdl_val v;
    if (state_gone(st) || !PyArg_ParseTuple(args, "iOI:cancel", &code, &detail, &token) ||
        val_encode(st, detail, &v) < 0)
        return NULL;
    if (v.type == TDL_BYTES)
        v.flags |= (uint32_t)(token & TOKEN_MAX) << TOKEN_SHIFT;
    int rc = tdl_context_cancel(c->core, code, v.type == TDL_NIL ? NULL : &v);
    tdl_val_clear(&v);
    if (rc == TDL_EINVAL) {
        PyErr_SetString(PyExc_ValueError, "this context has no end and cannot be cancelled");
        return NULL;
    }
    if (rc < 0)
        return raise_code(st, rc, "cancel");
    THREAD_KICK(st);
    return PyBool_FromLong(rc);
}

static PyObject *
context_err(contextobj *c, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(tdl_context_err(c->core));
}

/* cause() -> (code, detail, token) */
static PyObject *
context_cause(contextobj *c, PyObject *Py_UNUSED(ignored))
{
    tdl_val detail;
    int code = tdl_context_cause(c->core, &detail);
    unsigned int token = 0;
    if (detail.type == TDL_BYTES) {
        token = detail.flags >> TOKEN_SHIFT;
        detail.flags &= KIND_MASK;
    }
    PyObject *object = val_decode(STATE(c), &detail);
    return object == NULL ? NULL : Py_BuildValue("(iNI)", code, object, token);
}

static PyObject *
context_deadline(contextobj *c, void *Py_UNUSED(closure))
{
    int64_t when = tdl_context_deadline(c->core);
    if (when == TDL_FOREVER)
        Py_RETURN_NONE;
    return PyFloat_FromDouble((double)when * 1e-9);
}

/* value(key) -> (found, value) */
static PyObject *
context_value(contextobj *c, PyObject *key)
{
    mod_state *st = STATE(c);
    tdl_val k, v;
    tdl_val_set_nil(&v);
    int can = state_gone(st) ? -1 : plain(st, key, &k);
    if (can < 0)
        return NULL;
    int found = can && tdl_context_value(c->core, &k, &v);
    tdl_val_clear(&k);
    PyObject *object = val_decode(st, &v);
    return object == NULL ? NULL : Py_BuildValue("(NN)", PyBool_FromLong(found), object);
}

static PyObject *
context_wait(PyObject *c, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(STATE(c), OP_CONTEXT, c, NULL, 0);
}

static PyObject *
context_done_op(PyObject *c, PyObject *Py_UNUSED(ignored))
{
    return case_new(STATE(c), c, NULL, 0);
}

static void
context_dealloc(contextobj *c)
{
    PyTypeObject *type = Py_TYPE(c);
    PyObject_GC_UnTrack(c);
    tdl_context_free(c->core);
    type->tp_free(c);
    Py_DECREF(type);
}

static PyMethodDef context_methods[] = {
    {"background", context_background, METH_NOARGS | METH_CLASS, "The one that never ends."},
    {"_from_address", context_from_address, METH_O | METH_CLASS,
     "A new holder of the tdl_context at this address."},
    {"with_cancel", (PyCFunction)context_with_cancel, METH_NOARGS, NULL},
    {"without_cancel", (PyCFunction)context_without_cancel, METH_NOARGS, NULL},
    {"with_timeout", (PyCFunction)context_with_timeout, METH_O, "with_timeout(seconds)"},
    {"with_deadline", (PyCFunction)context_with_deadline, METH_O, "with_deadline(when)"},
    {"with_value", (PyCFunction)context_with_value, METH_VARARGS,
     "with_value(key, value): what the core cannot carry is left to the caller."},
    {"cancel", (PyCFunction)context_cancel, METH_VARARGS, "cancel(code, detail, token) -> bool"},
    {"err", (PyCFunction)context_err, METH_NOARGS, "The core's code; 0: it has not ended."},
    {"cause", (PyCFunction)context_cause, METH_NOARGS, "cause() -> (code, detail, token)"},
    {"value", (PyCFunction)context_value, METH_O, "value(key) -> (found, value)"},
    {"wait", context_wait, METH_NOARGS, "await wait(): until it has ended."},
    {"done_op", context_done_op, METH_NOARGS, "Its end, as a case of select."},
    {NULL, NULL, 0, NULL},
};

static PyObject *
context_ends(contextobj *c, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(tdl_context_done(c->core) != NULL);
}

static PyGetSetDef context_getset[] = {
    {"deadline", (getter)context_deadline, NULL, "On the clock of now(), or None.", NULL},
    {"ends", (getter)context_ends, NULL, "Whether it can end.", NULL},
    {"_address", (getter)address_get, NULL, "The address of its tdl_context.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot context_slots[] = {
    {Py_tp_doc, "A holder of a context of the core (internal)."},
    {Py_tp_dealloc, context_dealloc},
    {Py_tp_traverse, type_traverse},
    {Py_tp_methods, context_methods},
    {Py_tp_getset, context_getset},
    {0, NULL},
};

PyType_Spec context_spec = {
    .name = "treadle._treadle._Context",
    .basicsize = sizeof(contextobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = context_slots,
};
