/* SPDX-License-Identifier: MIT
 *
 * Objects as values of shared channels, and back. Scalars, text and bytes go as
 * they are; dicts, lists and tuples as MessagePack by the msgpack module, which
 * is loaded when one is first sent. The flags of bytes say what they are. */
#include "state.h"

enum { FLAG_BYTES = 0, FLAG_TEXT = 1, FLAG_MSGPACK = 2, FLAG_LUA_OBJECTS = 4 /* and more: see value.lua */ };

static int
msgpack_load(mod_state *st)
{
    if (__atomic_load_n(&st->packb, __ATOMIC_ACQUIRE) != NULL) /* with the release below */
        return 0;
    PyObject *module = PyImport_ImportModule("msgpack");
    if (module == NULL) {
        if (PyErr_ExceptionMatches(PyExc_ImportError)) {
            PyErr_Clear();
            PyErr_SetString(PyExc_ImportError,
                            "dicts, lists and tuples cross shared channels as MessagePack: "
                            "install the msgpack package (pip install msgpack)");
        }
        return -1;
    }
    PyObject *pack = PyObject_GetAttrString(module, "packb");
    PyObject *unpack = PyObject_GetAttrString(module, "unpackb");
    Py_DECREF(module);
    if (pack == NULL || unpack == NULL) {
        Py_XDECREF(pack);
        Py_XDECREF(unpack);
        return -1;
    }
    PyObject *none = NULL; /* the first of several threads sets them: they are of one module */
    if (__atomic_compare_exchange_n(&st->unpackb, &none, unpack, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        unpack = NULL;
    none = NULL;
    if (__atomic_compare_exchange_n(&st->packb, &none, pack, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        pack = NULL;
    Py_XDECREF(unpack);
    Py_XDECREF(pack);
    return 0;
}

static int
set_bytes(tdl_val *v, const void *bytes, Py_ssize_t n, uint32_t flags)
{
    if (tdl_val_set_bytes(v, bytes, (size_t)n) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    v->flags = flags;
    return 0;
}

int
val_encode(mod_state *st, PyObject *value, tdl_val *v)
{
    tdl_val_set_nil(v);
    if (value == Py_None)
        return 0;
    if (PyBool_Check(value)) {
        tdl_val_set_bool(v, value == Py_True);
        return 0;
    }
    if (PyLong_Check(value)) {
        int overflow;
        long long i = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow) {
            PyErr_SetString(PyExc_OverflowError,
                            "a shared channel carries integers of 64 bits");
            return -1;
        }
        tdl_val_set_int(v, i);
        return i == -1 && PyErr_Occurred() ? -1 : 0;
    }
    if (PyFloat_Check(value)) {
        tdl_val_set_double(v, PyFloat_AS_DOUBLE(value));
        return 0;
    }
    if (PyUnicode_Check(value)) {
        Py_ssize_t n;
        const char *text = PyUnicode_AsUTF8AndSize(value, &n);
        return text == NULL ? -1 : set_bytes(v, text, n, FLAG_TEXT);
    }
    if (PyBytes_Check(value))
        return set_bytes(v, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), FLAG_BYTES);
    if (Py_TYPE(value) == st->SharedChanType)
        return tdl_val_set_chan(v, ((sharedobj *)value)->core) == 0
                   ? 0 : (PyErr_SetString(PyExc_ValueError, "not a shared channel"), -1);
    if (PyDict_Check(value) || PyList_Check(value) || PyTuple_Check(value)) {
        if (msgpack_load(st) < 0)
            return -1;
        PyObject *packed = PyObject_CallOneArg(st->packb, value);
        if (packed == NULL) {
            if (PyErr_ExceptionMatches(PyExc_TypeError)) {
                PyObject *why = PyErr_GetRaisedException();
                PyErr_Format(PyExc_TypeError, "a %s crosses a shared channel as MessagePack: %S", Py_TYPE(value)->tp_name, why);
                Py_XDECREF(why);
            }
            return -1;
        }
        int rc = set_bytes(v, PyBytes_AS_STRING(packed), PyBytes_GET_SIZE(packed), FLAG_MSGPACK);
        Py_DECREF(packed);
        return rc;
    }
    PyErr_Format(PyExc_TypeError,
                 "a shared channel carries None, bool, int, float, bytes, str, SharedChan, "
                 "dict and list, not %.100s", Py_TYPE(value)->tp_name);
    return -1;
}

static PyObject *
decode_bytes(mod_state *st, const tdl_val *v)
{
    size_t n;
    const char *bytes = tdl_val_bytes(v, &n);
    if (v->flags == FLAG_TEXT)
        return PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)n, "surrogateescape");
    if (v->flags >= FLAG_LUA_OBJECTS) {
        PyErr_SetString(PyExc_TypeError, "a connection, or a table with objects in it, came from Lua: "
                                         "those go to other lua_States only");
        return NULL;
    }
    PyObject *object = PyBytes_FromStringAndSize(bytes, (Py_ssize_t)n);
    if (object == NULL || v->flags != FLAG_MSGPACK)
        return object;
    PyObject *value = NULL, *kwargs = NULL, *args = NULL;
    if (msgpack_load(st) == 0) {
        args = PyTuple_Pack(1, object);
        kwargs = Py_BuildValue("{s:O}", "strict_map_key", Py_False);
        if (args != NULL && kwargs != NULL)
            value = PyObject_Call(st->unpackb, args, kwargs);
    }
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_DECREF(object);
    return value;
}

PyObject *
val_decode(mod_state *st, tdl_val *v)
{
    PyObject *object;
    switch (v->type) {
    case TDL_REF:
        object = (PyObject *)(intptr_t)v->u.i; /* the channel's reference becomes ours */
        tdl_val_set_nil(v);
        return object;
    case TDL_BOOL:
        object = PyBool_FromLong(v->u.i != 0);
        break;
    case TDL_INT:
        object = PyLong_FromLongLong(v->u.i);
        break;
    case TDL_DOUBLE:
        object = PyFloat_FromDouble(v->u.d);
        break;
    case TDL_PTR:
        object = PyLong_FromVoidPtr(v->u.p);
        break;
    case TDL_BYTES:
        object = decode_bytes(st, v);
        break;
    case TDL_CHAN:
        object = shared_wrap(st, tdl_val_chan(v));
        break;
    default:
        object = Py_NewRef(Py_None);
        break;
    }
    tdl_val_clear(v);
    return object;
}
