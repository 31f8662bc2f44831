/* SPDX-License-Identifier: MIT
 *
 * Differences between the CPython versions that the extension serves (3.11 and
 * later). A version is looked at elsewhere only where one file alone has to do with what
 * differs. */
#ifndef TDLPY_COMPAT_H
#define TDLPY_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>

#if PY_VERSION_HEX < 0x030b0000
#error "treadle needs CPython 3.11 or later"
#endif

#if PY_VERSION_HEX < 0x030c0000
/* The exception that is being raised, as one object; clears it. */
static inline PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    if (type == NULL)
        return NULL;
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb != NULL) {
        PyException_SetTraceback(value, tb);
        Py_DECREF(tb);
    }
    Py_DECREF(type);
    return value;
}

/* Raises exc; takes the reference. */
static inline void
PyErr_SetRaisedException(PyObject *exc)
{
    if (exc == NULL) {
        PyErr_Clear();
        return;
    }
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exc)), exc,
                  PyException_GetTraceback(exc));
}
#endif

#if PY_VERSION_HEX < 0x030d0000
static inline int
PyLong_AsInt(PyObject *object)
{
    return _PyLong_AsInt(object);
}
#endif

/* 1 and a new reference; 0 and NULL: it is not there; -1: exception. */
static inline int
dict_get(PyObject *dict, PyObject *key, PyObject **value)
{
#if PY_VERSION_HEX < 0x030d0000
    *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    return *value != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
#else
    return PyDict_GetItemRef(dict, key, value);
#endif
}

/* A new reference, or NULL with an exception. */
static inline PyObject *
list_get(PyObject *list, Py_ssize_t i)
{
#if PY_VERSION_HEX < 0x030d0000
    return Py_XNewRef(PyList_GetItem(list, i));
#else
    return PyList_GetItemRef(list, i);
#endif
}

/* What a weak reference refers to, as a new reference; NULL: it is gone. */
static inline PyObject *
weakref_get(PyObject *ref)
{
    PyObject *object;
#if PY_VERSION_HEX < 0x030d0000
    object = PyWeakref_GetObject(ref);
    return object == NULL || object == Py_None ? NULL : Py_NewRef(object);
#else
    PyWeakref_GetRef(ref, &object);
    return object;
#endif
}

/* The hash of a bytes object whose content is about to change. */
static inline void
forget_hash(PyObject *bytes)
{
    _Py_COMP_DIAG_PUSH
    _Py_COMP_DIAG_IGNORE_DEPR_DECLS
    ((PyBytesObject *)bytes)->ob_shash = -1;
    _Py_COMP_DIAG_POP
}

/* A bytearray that is filled and emptied again and again keeps its memory, if that is
 * little: its own methods give it back each time. */
enum { BYTEARRAY_KEEPS = 2048 };
#if PY_VERSION_HEX < 0x030f0000 && !defined(Py_GIL_DISABLED)
#define BYTEARRAY_FIELDS 1 /* its fields are what they have been since 3.4 */
#else
#define BYTEARRAY_FIELDS 0
#endif

/* 0, or -1 with an exception. */
static inline int
bytearray_append(PyObject *array, const char *data, Py_ssize_t n)
{
    Py_ssize_t old = PyByteArray_GET_SIZE(array);
#if BYTEARRAY_FIELDS
    PyByteArrayObject *b = (PyByteArrayObject *)array;
    if (b->ob_exports == 0 && n < b->ob_alloc - (b->ob_start - b->ob_bytes) - old) {
        memcpy(b->ob_start + old, data, (size_t)n);
        b->ob_start[old + n] = '\0';
        Py_SET_SIZE(b, old + n);
        return 0;
    }
#endif
    if (PyByteArray_Resize(array, old + n) < 0)
        return -1;
    memcpy(PyByteArray_AS_STRING(array) + old, data, (size_t)n);
    return 0;
}

static inline int
bytearray_empty(PyObject *array)
{
#if BYTEARRAY_FIELDS
    PyByteArrayObject *b = (PyByteArrayObject *)array;
    if (b->ob_exports == 0 && b->ob_alloc > 0 && b->ob_alloc <= BYTEARRAY_KEEPS) {
        b->ob_start = b->ob_bytes;
        b->ob_start[0] = '\0';
        Py_SET_SIZE(b, 0);
        return 0;
    }
#endif
    return PyByteArray_Resize(array, 0);
}

/* Is this what the weak reference refers to? */
static inline bool
weakref_is(PyObject *ref, PyObject *object)
{
#if PY_VERSION_HEX < 0x030d0000
    return PyWeakref_GET_OBJECT(ref) == object;
#else
    PyObject *found = NULL;
    bool same = PyWeakref_GetRef(ref, &found) > 0 && found == object;
    Py_XDECREF(found);
    return same;
#endif
}

#endif
