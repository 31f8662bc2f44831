/* SPDX-License-Identifier: MIT
 *
 * Which task asyncio takes for the current one. */
#include "current.h"

int
current_set(pyhost *h, PyObject *task, PyObject **old)
{
    mod_state *st = h->st;
    if (h->loop == NULL || (st->current_tasks == NULL && st->swap_current_task == NULL)) {
        if (old != NULL)
            *old = NULL;
        return 0;
    }
    if (st->current_tasks != NULL) {
        if (old != NULL) {
            if (dict_get(st->current_tasks, h->loop, old) < 0)
                return -1;
        }
        if (task != NULL)
            return PyDict_SetItem(st->current_tasks, h->loop, task);
        if (PyDict_DelItem(st->current_tasks, h->loop) < 0)
            PyErr_Clear();
        return 0;
    }
    PyObject *prev = PyObject_CallFunctionObjArgs(st->swap_current_task, h->loop,
                                                  task != NULL ? task : Py_None, NULL);
    if (prev == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_RuntimeError))
            return -1;
        PyErr_Clear(); /* the loop does not run: asyncio knows no current task then */
        if (old != NULL)
            *old = NULL;
        return 0;
    }
    if (prev == Py_None)
        Py_CLEAR(prev);
    if (old != NULL)
        *old = prev;
    else
        Py_XDECREF(prev);
    return 0;
}

void
current_back(pyhost *h, PyObject *old)
{
    if (current_set(h, old, NULL) < 0)
        PyErr_WriteUnraisable(old);
    Py_XDECREF(old);
}

void
current_forget(pyhost *h)
{
    PyObject *exc = PyErr_GetRaisedException();
    h->stale = NULL;
    current_back(h, NULL);
    PyErr_SetRaisedException(exc);
}
