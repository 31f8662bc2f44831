/* SPDX-License-Identifier: MIT
 *
 * Mutex, Cond, Semaphore and WaitGroup: thin handles on the core's, which
 * goroutines of any host may share.
 *
 * Invariant. An op that waits holds the object, so the core's part is freed
 * only when nobody waits. */
#include "state.h"
#include <string.h>
#include <structmember.h>

/* Each begins, after the head, with the pointer to what the core has. */
PyObject *
address_get(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromVoidPtr(((contextobj *)self)->core);
}

/* With that address, which is how reports of deadlocks and dumps name it. */
PyObject *
core_repr(PyObject *self)
{
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    return PyUnicode_FromFormat("<%s at %p>", name + 1, ((contextobj *)self)->core);
}

PyGetSetDef address_getset[] = {
    {"_address", (getter)address_get, NULL,
     "The address of what it is in treadle.h, for embedding: valid as long as this object.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

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

/* A waiter of a condition leaves by an exception (GeneratorExit, mostly) before
 * its wait has ended, and will unlock the mutex, as it must. If it cannot have
 * it, one unlock is made good for: of it and the true holder, the last to unlock
 * does. What the wait still acquires is given back by op_discard. */
void
mutex_owe(mutexobj *m)
{
    if (tdl_mutex_trylock(m->core) != 0)
        __atomic_add_fetch(&m->owed, 1, __ATOMIC_RELAXED);
}

int
mutex_give(mutexobj *m)
{
    uint32_t owed = SEEN(m->owed);
    while (owed > 0)
        if (__atomic_compare_exchange_n(&m->owed, &owed, owed - 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return 0;
    return tdl_mutex_unlock(m->core);
}

static PyObject *
mutex_unlock(mutexobj *m, PyObject *Py_UNUSED(ignored))
{
    int rc = mutex_give(m);
    if (rc < 0)
        return raise_code(STATE(m), rc, "unlock");
    THREAD_KICK(STATE(m));
    Py_RETURN_NONE;
}

static PyObject *
mutex_disown(mutexobj *m, PyObject *Py_UNUSED(ignored))
{
    int rc = tdl_mutex_disown(m->core);
    if (rc < 0)
        return raise_code(STATE(m), rc, "disown");
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
    CLEAR_WEAKREFS(m);
    tdl_mutex_unlock(m->core); /* a locked one may be dropped */
    tdl_mutex_free(m->core);
    type->tp_free(m);
    Py_DECREF(type);
}

static PyMethodDef mutex_methods[] = {
    {"lock", mutex_lock, METH_NOARGS,
     "await lock()\n\nWaits until the mutex is free and takes it. A waiter of 1 ms goes first."},
    {"try_lock", (PyCFunction)mutex_try_lock, METH_NOARGS,
     "try_lock() -> bool: takes it if it is free."},
    {"unlock", (PyCFunction)mutex_unlock, METH_NOARGS,
     "Gives it up; anyone may. RuntimeError if it is not locked."},
    {"disown", (PyCFunction)mutex_disown, METH_NOARGS,
     "It stays locked, by nobody: for one that another is to unlock, so that who waits for\n"
     "that is not taken for one who waits for himself. RuntimeError if it is not locked."},
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
    {Py_tp_traverse, type_traverse},
    {Py_tp_methods, mutex_methods},
    {Py_tp_members, mutex_members},
    {Py_tp_getset, address_getset},
    {Py_tp_repr, core_repr},
    {0, NULL},
};

PyType_Spec mutex_spec = {
    .name = "treadle.Mutex",
    .basicsize = sizeof(mutexobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = mutex_slots,
};

/* -- Cond ---------------------------------------------------------------- */

static PyObject *
cond_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"mutex", NULL};
    mod_state *st = type_state(type);
    PyObject *mutex;
    if (state_gone(st) || !PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Cond", names,
                                                       st->MutexType, &mutex))
        return NULL;
    condobj *c = (condobj *)type->tp_alloc(type, 0);
    if (c == NULL)
        return NULL;
    c->mutex = (mutexobj *)Py_NewRef(mutex);
    if ((c->core = tdl_cond_new(c->mutex->core)) == NULL) {
        Py_DECREF(c);
        return PyErr_NoMemory();
    }
    return (PyObject *)c;
}

static PyObject *
cond_wait(PyObject *c, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(STATE(c), OP_COND, c, NULL, 0);
}

static PyObject *
cond_woken(condobj *c, int rc, const char *what)
{
    if (rc < 0)
        return raise_code(STATE(c), rc, what);
    THREAD_KICK(STATE(c));
    Py_RETURN_NONE;
}

static PyObject *
cond_signal(condobj *c, PyObject *Py_UNUSED(ignored))
{
    return cond_woken(c, tdl_cond_signal(c->core), "signal");
}

static PyObject *
cond_broadcast(condobj *c, PyObject *Py_UNUSED(ignored))
{
    return cond_woken(c, tdl_cond_broadcast(c->core), "broadcast");
}

static PyObject *
cond_aenter(condobj *c, PyObject *Py_UNUSED(ignored))
{
    return mutex_lock((PyObject *)c->mutex, NULL);
}

static PyObject *
cond_aexit(condobj *c, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    return mutex_aexit(c->mutex, NULL, 0);
}

static int
cond_traverse(condobj *c, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(c));
    Py_VISIT(c->mutex); /* refers to nothing: no tp_clear is needed */
    return 0;
}

static void
cond_dealloc(condobj *c)
{
    PyTypeObject *type = Py_TYPE(c);
    PyObject_GC_UnTrack(c);
    CLEAR_WEAKREFS(c);
    tdl_cond_free(c->core);
    Py_XDECREF(c->mutex);
    type->tp_free(c);
    Py_DECREF(type);
}

static PyMethodDef cond_methods[] = {
    {"wait", cond_wait, METH_NOARGS,
     "await wait()\n\n"
     "Unlocks the mutex, waits until it is signalled, and locks the mutex again: it is held\n"
     "however the wait ends, by a cancellation, too. First come, first woken. RuntimeError\n"
     "if the mutex is not locked. One that was woken before it was cancelled returns, and\n"
     "the cancellation comes at its next wait."},
    {"signal", (PyCFunction)cond_signal, METH_NOARGS,
     "Wakes the one that has waited longest. The mutex need not be held."},
    {"broadcast", (PyCFunction)cond_broadcast, METH_NOARGS,
     "Wakes all that wait. The mutex need not be held."},
    {"__aenter__", (PyCFunction)cond_aenter, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))cond_aexit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef cond_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(condobj, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot cond_slots[] = {
    {Py_tp_doc, "Cond(mutex)\n--\n\n"
                "A condition of what the mutex protects: async with c locks the mutex;\n"
                "while not …: await c.wait()"},
    {Py_tp_new, cond_new},
    {Py_tp_dealloc, cond_dealloc},
    {Py_tp_traverse, cond_traverse},
    {Py_tp_methods, cond_methods},
    {Py_tp_members, cond_members},
    {Py_tp_getset, address_getset},
    {Py_tp_repr, core_repr},
    {0, NULL},
};

PyType_Spec cond_spec = {
    .name = "treadle.Cond",
    .basicsize = sizeof(condobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = cond_slots,
};

/* -- Semaphore ----------------------------------------------------------- */

/* O& of a number of permits. */
static int
permits_arg(PyObject *number, void *result)
{
    PyObject *index = PyNumber_Index(number);
    if (index == NULL)
        return 0;
    int overflow;
    long long n = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow || n < 0 || n > UINT32_MAX) {
        PyErr_Format(PyExc_ValueError, "a number of permits is 0 to 2**32 - 1, not %R", number);
        return 0;
    }
    *(uint32_t *)result = (uint32_t)n;
    return 1;
}

/* The n of acquire, try_acquire and release; 1 if it is not given. */
static int
permits_args(PyObject *args, PyObject *kwargs, const char *format, uint32_t *n)
{
    static char *names[] = {"n", NULL};
    *n = 1;
    return PyArg_ParseTupleAndKeywords(args, kwargs, format, names, permits_arg, n);
}

static PyObject *
sema_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    uint32_t n;
    if (!permits_args(args, kwargs, "O&:Semaphore", &n))
        return NULL;
    semaobj *s = (semaobj *)type->tp_alloc(type, 0);
    if (s != NULL && (s->core = tdl_sema_new(n)) == NULL) {
        Py_DECREF(s);
        return PyErr_NoMemory();
    }
    return (PyObject *)s;
}

static PyObject *
sema_acquire(PyObject *s, PyObject *args, PyObject *kwargs)
{
    uint32_t n;
    if (!permits_args(args, kwargs, "|O&:acquire", &n))
        return NULL;
    return (PyObject *)op_new(STATE(s), OP_ACQUIRE, s, NULL, n);
}

static PyObject *
sema_try_acquire(semaobj *s, PyObject *args, PyObject *kwargs)
{
    uint32_t n;
    if (!permits_args(args, kwargs, "|O&:try_acquire", &n))
        return NULL;
    int rc = tdl_sema_try_acquire(s->core, n);
    if (rc == 0)
        Py_RETURN_TRUE;
    if (rc == TDL_EAGAIN)
        Py_RETURN_FALSE;
    return raise_code(STATE(s), rc, "try_acquire");
}

static PyObject *
sema_give(semaobj *s, uint32_t n)
{
    int rc = tdl_sema_release(s->core, n);
    if (rc < 0)
        return raise_code(STATE(s), rc, "release");
    THREAD_KICK(STATE(s));
    Py_RETURN_NONE;
}

static PyObject *
sema_release(semaobj *s, PyObject *args, PyObject *kwargs)
{
    uint32_t n;
    return permits_args(args, kwargs, "|O&:release", &n) ? sema_give(s, n) : NULL;
}

static PyObject *
sema_aenter(PyObject *s, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(STATE(s), OP_ACQUIRE, s, NULL, 1);
}

static PyObject *
sema_aexit(semaobj *s, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    return op_value(STATE(s), sema_give(s, 1));
}

static void
sema_dealloc(semaobj *s)
{
    PyTypeObject *type = Py_TYPE(s);
    PyObject_GC_UnTrack(s);
    CLEAR_WEAKREFS(s);
    tdl_sema_free(s->core);
    type->tp_free(s);
    Py_DECREF(type);
}

static PyMethodDef sema_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))sema_acquire, METH_VARARGS | METH_KEYWORDS,
     "await acquire(n=1)\n\n"
     "Takes n permits; waits until there are so many. First come, first served: a large\n"
     "request is not overtaken by small ones."},
    {"try_acquire", (PyCFunction)(void (*)(void))sema_try_acquire, METH_VARARGS | METH_KEYWORDS,
     "try_acquire(n=1) -> bool: takes n permits if they are there and nobody waits for any."},
    {"release", (PyCFunction)(void (*)(void))sema_release, METH_VARARGS | METH_KEYWORDS,
     "release(n=1): gives n permits back. More than were acquired is allowed."},
    {"__aenter__", sema_aenter, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))sema_aexit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef sema_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(semaobj, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot sema_slots[] = {
    {Py_tp_doc, "Semaphore(n)\n--\n\n"
                "n permits to take and give back: async with s for one, or acquire and release."},
    {Py_tp_new, sema_new},
    {Py_tp_dealloc, sema_dealloc},
    {Py_tp_traverse, type_traverse},
    {Py_tp_methods, sema_methods},
    {Py_tp_members, sema_members},
    {Py_tp_getset, address_getset},
    {Py_tp_repr, core_repr},
    {0, NULL},
};

PyType_Spec sema_spec = {
    .name = "treadle.Semaphore",
    .basicsize = sizeof(semaobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = sema_slots,
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
    CLEAR_WEAKREFS(wg);
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
    {Py_tp_traverse, type_traverse},
    {Py_tp_methods, group_methods},
    {Py_tp_members, group_members},
    {Py_tp_getset, address_getset},
    {Py_tp_repr, core_repr},
    {0, NULL},
};

PyType_Spec group_spec = {
    .name = "treadle.WaitGroup",
    .basicsize = sizeof(groupobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = group_slots,
};
