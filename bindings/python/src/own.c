/* SPDX-License-Identifier: MIT
 *
 * What own.h has no room for. */
#include "own.h"
#include <sched.h>
#include <time.h>

_Thread_local uintptr_t tl_identity __attribute__((tls_model("initial-exec")));

const void *
own_number_thread(void)
{
    static uintptr_t last;
    tl_identity = __atomic_add_fetch(&last, 2, __ATOMIC_RELAXED); /* even: see OWN_RUNS */
    return (const void *)tl_identity;
}

void
own_refuse(void)
{
    PyErr_SetString(PyExc_RuntimeError,
                    "Non-thread-safe operation invoked on an event loop other than the current one");
}

#ifdef Py_GIL_DISABLED

/* Calls that last long are those of an owner that runs; another's is over soon. */
enum { ROUNDS = 400 };

bool
own_wait(own_word *w)
{
    for (int i = 0; i < ROUNDS; i++) {
        if (__atomic_load_n(&w->thread, __ATOMIC_RELAXED) & OWN_RUNS)
            return false;
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&(struct timespec){0, 50000}, NULL);
        Py_END_ALLOW_THREADS
        if (own_try(w, 0))
            return true;
    }
    return false;
}

PyObject *
own_field_get(PyObject *self, void *closure)
{
    PyObject *value;
    Py_BEGIN_CRITICAL_SECTION(self);
    value = *(PyObject **)((char *)self + (size_t)closure);
    value = Py_NewRef(value != NULL ? value : Py_None);
    Py_END_CRITICAL_SECTION();
    return value;
}

void
own_put(PyObject *self, PyObject **field, PyObject *value)
{
    PyObject *old;
    Py_BEGIN_CRITICAL_SECTION(self);
    old = *field;
    *field = value;
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(old);
}

int
own_field_set(PyObject *self, PyObject *value, void *closure)
{
    own_put(self, (PyObject **)((char *)self + (size_t)closure), Py_XNewRef(value));
    return 0;
}

#endif
