/* SPDX-License-Identifier: MIT
 *
 * RWMutex: a handle on the core's read-write lock, and what read() and write()
 * return: one side of it, for async with.
 *
 * Invariant. An op that waits, and a side, hold the object, so the core's part
 * is freed only when nobody waits. */
#include "state.h"
#include <structmember.h>

typedef struct { PyObject_HEAD rwobj *rw; bool write; } sideobj;

static PyObject *
rw_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":RWMutex", names))
        return NULL;
    rwobj *rw = (rwobj *)type->tp_alloc(type, 0);
    if (rw != NULL && (rw->core = tdl_rwmutex_new()) == NULL) {
        Py_DECREF(rw);
        return PyErr_NoMemory();
    }
    return (PyObject *)rw;
}

static PyObject *
rw_lock(PyObject *rw, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(STATE(rw), OP_WLOCK, rw, NULL, 0);
}

static PyObject *
rw_rlock(PyObject *rw, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(STATE(rw), OP_RLOCK, rw, NULL, 0);
}

static PyObject *
tried(rwobj *rw, int rc, const char *what)
{
    if (rc == 0)
        Py_RETURN_TRUE;
    if (rc == TDL_EAGAIN)
        Py_RETURN_FALSE;
    return raise_code(STATE(rw), rc, what);
}

static PyObject *
rw_try_lock(rwobj *rw, PyObject *Py_UNUSED(ignored))
{
    return tried(rw, tdl_rwmutex_trylock(rw->core), "try_lock");
}

static PyObject *
rw_try_rlock(rwobj *rw, PyObject *Py_UNUSED(ignored))
{
    return tried(rw, tdl_rwmutex_tryrlock(rw->core), "try_rlock");
}

static PyObject *
unlocked(rwobj *rw, bool write)
{
    mod_state *st = STATE(rw);
    int rc = write ? tdl_rwmutex_unlock(rw->core) : tdl_rwmutex_runlock(rw->core);
    if (rc == TDL_ENOTLOCKED) {
        PyErr_Format(PyExc_RuntimeError, "%s of %R, which nobody has locked for %s",
                     write ? "unlock" : "runlock", rw, write ? "writing" : "reading");
        return NULL;
    }
    if (rc < 0)
        return raise_code(st, rc, write ? "unlock" : "runlock");
    THREAD_KICK(st);
    Py_RETURN_NONE;
}

static PyObject *
rw_unlock(rwobj *rw, PyObject *Py_UNUSED(ignored))
{
    return unlocked(rw, true);
}

static PyObject *
rw_runlock(rwobj *rw, PyObject *Py_UNUSED(ignored))
{
    return unlocked(rw, false);
}

static PyObject *
side_new(rwobj *rw, bool write)
{
    mod_state *st = STATE(rw);
    if (state_gone(st))
        return NULL;
    sideobj *side = (sideobj *)st->RWSideType->tp_alloc(st->RWSideType, 0);
    if (side != NULL) {
        side->rw = (rwobj *)Py_NewRef((PyObject *)rw);
        side->write = write;
    }
    return (PyObject *)side;
}

static PyObject *
rw_read(rwobj *rw, PyObject *Py_UNUSED(ignored))
{
    return side_new(rw, false);
}

static PyObject *
rw_write(rwobj *rw, PyObject *Py_UNUSED(ignored))
{
    return side_new(rw, true);
}

static void
rw_dealloc(rwobj *rw)
{
    PyTypeObject *type = Py_TYPE(rw);
    PyObject_GC_UnTrack(rw);
    CLEAR_WEAKREFS(rw);
    if (rw->core != NULL) { /* a locked one may be dropped */
        tdl_rwmutex_unlock(rw->core);
        while (tdl_rwmutex_runlock(rw->core) == 0)
            ;
    }
    tdl_rwmutex_free(rw->core);
    type->tp_free(rw);
    Py_DECREF(type);
}

static PyMethodDef rw_methods[] = {
    {"read", (PyCFunction)rw_read, METH_NOARGS,
     "async with rw.read(): beside other readers, and no writer.\n\n"
     "Do not read again inside: a writer that comes between would wait for ever, and you\n"
     "for him."},
    {"write", (PyCFunction)rw_write, METH_NOARGS, "async with rw.write(): alone."},
    {"rlock", rw_rlock, METH_NOARGS,
     "await rlock()\n\nWaits until no writer has it, or waits for it, and takes it for reading."},
    {"try_rlock", (PyCFunction)rw_try_rlock, METH_NOARGS,
     "try_rlock() -> bool: takes it for reading if no writer has it or waits."},
    {"runlock", (PyCFunction)rw_runlock, METH_NOARGS,
     "Gives up reading; anyone may. RuntimeError if nobody reads."},
    {"lock", rw_lock, METH_NOARGS,
     "await lock()\n\nWaits until nobody has it and takes it for writing."},
    {"try_lock", (PyCFunction)rw_try_lock, METH_NOARGS,
     "try_lock() -> bool: takes it for writing if it is free."},
    {"unlock", (PyCFunction)rw_unlock, METH_NOARGS,
     "Gives up writing; anyone may. RuntimeError if nobody writes."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef rw_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(rwobj, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot rw_slots[] = {
    {Py_tp_doc, "RWMutex()\n--\n\n"
                "A read-write lock: async with rw.read() for many, async with rw.write() for one.\n\n"
                "Nobody starves: a writer that waits keeps new readers out, and readers that came\n"
                "meanwhile go before the next writer."},
    {Py_tp_new, rw_new},
    {Py_tp_dealloc, rw_dealloc},
    {Py_tp_traverse, type_traverse},
    {Py_tp_methods, rw_methods},
    {Py_tp_members, rw_members},
    {Py_tp_getset, address_getset},
    {Py_tp_repr, core_repr},
    {0, NULL},
};

PyType_Spec rw_spec = {
    .name = "treadle.RWMutex",
    .basicsize = sizeof(rwobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = rw_slots,
};

/* -- A side -------------------------------------------------------------- */

static PyObject *
side_aenter(sideobj *side, PyObject *Py_UNUSED(ignored))
{
    PyObject *rw = (PyObject *)side->rw;
    return side->write ? rw_lock(rw, NULL) : rw_rlock(rw, NULL);
}

static PyObject *
side_aexit(sideobj *side, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    return op_value(STATE(side), unlocked(side->rw, side->write));
}

static int
side_traverse(sideobj *side, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(side));
    Py_VISIT(side->rw); /* refers to nothing: no tp_clear is needed */
    return 0;
}

static void
side_dealloc(sideobj *side)
{
    PyTypeObject *type = Py_TYPE(side);
    PyObject_GC_UnTrack(side);
    Py_XDECREF(side->rw);
    type->tp_free(side);
    Py_DECREF(type);
}

static PyMethodDef side_methods[] = {
    {"__aenter__", (PyCFunction)side_aenter, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))side_aexit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot side_slots[] = {
    {Py_tp_doc, "What RWMutex.read and RWMutex.write return, for async with."},
    {Py_tp_dealloc, side_dealloc},
    {Py_tp_traverse, side_traverse},
    {Py_tp_methods, side_methods},
    {0, NULL},
};

PyType_Spec side_spec = {
    .name = "treadle._treadle._RWSide",
    .basicsize = sizeof(sideobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = side_slots,
};
