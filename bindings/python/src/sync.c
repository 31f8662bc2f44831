/* SPDX-License-Identifier: MIT
 *
 * Mutex and WaitGroup: thin handles on the core's, which goroutines of any
 * host may share. Conditions and semaphores join here.
 *
 * Invariant. An op that waits holds the object, so the core's part is freed
 * only when nobody waits. */
#include "state.h"
#include <structmember.h>

/* -- Mutex --------------------------------------------------------------- */

static PyObject *
mutex_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Mutex", names))
        return NULL;
    mutexobj *m = (mutexobj *)type->tp_alloc(type, 0);
    if (m != NULL && (m->core = tdl_mutex_new()) == NULL) {
        Py_DECREF(m);
        return PyErr_NoMemory();
    }
    return (PyObject *)m;
}

static PyObject *
mutex_lock(PyObject *m, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(STATE(m), OP_LOCK, m, NULL, 0);
}

static PyObject *
mutex_try_lock(mutexobj *m, PyObject *Py_UNUSED(ignored))
{
    int rc = tdl_mutex_trylock(m->core);
    if (rc == 0)
        Py_RETURN_TRUE;
    if (rc == TDL_EAGAIN)
        Py_RETURN_FALSE;
    return raise_code(STATE(m), rc, "try_lock");
}

static PyObject *
mutex_unlock(mutexobj *m, PyObject *Py_UNUSED(ignored))
{
    int rc = tdl_mutex_unlock(m->core);
    if (rc < 0)
        return raise_code(STATE(m), rc, "unlock");
    THREAD_KICK(STATE(m));
    Py_RETURN_NONE;
}

static PyObject *
mutex_aexit(mutexobj *m, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    return op_value(STATE(m), mutex_unlock(m, NULL));
}

static void
mutex_dealloc(mutexobj *m)
{
    PyTypeObject *type = Py_TYPE(m);
    PyObject_GC_UnTrack(m);
    if (m->weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)m);
    tdl_mutex_unlock(m->core); /* a locked one may be dropped */
    tdl_mutex_free(m->core);
    type->tp_free(m);
    Py_DECREF(type);
}

static int
only_type_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static PyMethodDef mutex_methods[] = {
    {"lock", mutex_lock, METH_NOARGS,
     "await lock()\n\nWaits until the mutex is free and takes it. A waiter of 1 ms goes first."},
    {"try_lock", (PyCFunction)mutex_try_lock, METH_NOARGS,
     "try_lock() -> bool: takes it if it is free."},
    {"unlock", (PyCFunction)mutex_unlock, METH_NOARGS,
     "Gives it up; anyone may. RuntimeError if it is not locked."},
    {"__aenter__", mutex_lock, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))mutex_aexit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef mutex_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(mutexobj, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot mutex_slots[] = {
    {Py_tp_doc, "Mutex()\n--\n\nA mutual exclusion lock: async with m, or lock and unlock.\n\n"
                "It belongs to no goroutine: whoever holds it may let another unlock it."},
    {Py_tp_new, mutex_new},
    {Py_tp_dealloc, mutex_dealloc},
    {Py_tp_traverse, only_type_traverse},
    {Py_tp_methods, mutex_methods},
    {Py_tp_members, mutex_members},
    {0, NULL},
};

PyType_Spec mutex_spec = {
    .name = "treadle.Mutex",
    .basicsize = sizeof(mutexobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = mutex_slots,
};

/* -- WaitGroup ----------------------------------------------------------- */

static PyObject *
group_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":WaitGroup", names))
        return NULL;
    groupobj *wg = (groupobj *)type->tp_alloc(type, 0);
    if (wg != NULL && (wg->core = tdl_waitgroup_new()) == NULL) {
        Py_DECREF(wg);
        return PyErr_NoMemory();
    }
    return (PyObject *)wg;
}

static PyObject *
group_change(groupobj *wg, int n, const char *what)
{
    int rc = tdl_waitgroup_add(wg->core, n);
    if (rc < 0)
        return raise_code(STATE(wg), rc, what);
    THREAD_KICK(STATE(wg));
    Py_RETURN_NONE;
}

static PyObject *
group_add(groupobj *wg, PyObject *number)
{
    int overflow;
    long n = PyLong_AsLongAndOverflow(number, &overflow);
    if (n == -1 && PyErr_Occurred())
        return NULL;
    if (overflow || n > INT_MAX || n < INT_MIN) {
        PyErr_SetString(PyExc_OverflowError, "WaitGroup.add: number out of range");
        return NULL;
    }
    return group_change(wg, (int)n, "add");
}

static PyObject *
group_done(groupobj *wg, PyObject *Py_UNUSED(ignored))
{
    return group_change(wg, -1, "done");
}

static PyObject *
group_wait(PyObject *wg, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(STATE(wg), OP_WAIT, wg, NULL, 0);
}

static PyObject *
group_go(PyObject *wg, PyObject *coro)
{
    return g_spawn(STATE(wg), NULL, coro, NULL, NULL, wg);
}

static void
group_dealloc(groupobj *wg)
{
    PyTypeObject *type = Py_TYPE(wg);
    PyObject_GC_UnTrack(wg);
    if (wg->weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)wg);
    tdl_waitgroup_free(wg->core);
    type->tp_free(wg);
    Py_DECREF(type);
}

static PyMethodDef group_methods[] = {
    {"add", (PyCFunction)group_add, METH_O,
     "add(n): adds n, which may be negative. ValueError if that would go below 0."},
    {"done", (PyCFunction)group_done, METH_NOARGS, "add(-1)"},
    {"wait", group_wait, METH_NOARGS, "await wait()\n\nWaits until the counter is 0."},
    {"go", group_go, METH_O, "go(coro) -> G: counts a goroutine, from its start to its end."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef group_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(groupobj, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot group_slots[] = {
    {Py_tp_doc, "WaitGroup()\n--\n\nWaits for a number of things to end; may be used again."},
    {Py_tp_new, group_new},
    {Py_tp_dealloc, group_dealloc},
    {Py_tp_traverse, only_type_traverse},
    {Py_tp_methods, group_methods},
    {Py_tp_members, group_members},
    {0, NULL},
};

PyType_Spec group_spec = {
    .name = "treadle.WaitGroup",
    .basicsize = sizeof(groupobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = group_slots,
};
