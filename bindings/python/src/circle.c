/* SPDX-License-Identifier: MIT
 *
 * Circles of goroutines and tasks that wait for each other to end, and would for
 * ever. What somebody waits for is asyncio's `_fut_waiter`: another task that is
 * awaited, or an op of kind JOIN (one goroutine) or SCOPE (all of a scope).
 * Whoever begins such a wait looks whether what it waits for leads back to it:
 * the last one to come sees the circle. */
#include "procs.h"

/* The walk: nodes to look at, and those that were put there before. */
typedef struct { PyObject *todo, *seen; } walk;

static int
walk_add(walk *w, PyObject *node)
{
    if (w->todo == NULL && ((w->todo = PyList_New(0)) == NULL || (w->seen = PySet_New(NULL)) == NULL))
        return -1;
    int known = PySet_Contains(w->seen, node);
    if (known != 0)
        return known < 0 ? -1 : 0;
    return PySet_Add(w->seen, node) < 0 || PyList_Append(w->todo, node) < 0 ? -1 : 0;
}

static PyObject *
walk_next(walk *w)
{
    Py_ssize_t n = w->todo == NULL ? 0 : PyList_GET_SIZE(w->todo);
    if (n == 0)
        return NULL;
    PyObject *node = Py_NewRef(PyList_GET_ITEM(w->todo, n - 1));
    if (PyList_SetSlice(w->todo, n - 1, n, NULL) < 0)
        Py_CLEAR(node);
    return node;
}

static bool
leads_on(PyObject *waiting)
{
    if (waiting == NULL || waiting == Py_None)
        return false;
    if (!op_check(waiting))
        return true; /* a task, perhaps */
    int kind = ((opobj *)waiting)->kind;
    return kind == OP_JOIN || kind == OP_SCOPE;
}

/* A new reference to what the node waits for, or NULL. */
static PyObject *
waits_for(PyObject *node)
{
    PyObject *waiting = NULL;
#ifdef Py_GIL_DISABLED
    if (g_check(node) && g_procs((gobj *)node) != NULL && !own_is_mine(g_word((gobj *)node)))
        return NULL; /* what it waits for may go now */
#endif
    if (g_check(node))
        waiting = Py_XNewRef(((gobj *)node)->waiting);
    else if ((waiting = PyObject_GetAttrString(node, "_fut_waiter")) == NULL)
        PyErr_Clear(); /* no task */
    if (!leads_on(waiting))
        Py_CLEAR(waiting);
    return waiting;
}

/* One of those that must end first: 1 if it is the goal. */
static int
step(walk *w, PyObject *node, PyObject *goal)
{
    if (node == goal)
        return 1;
    PyObject *waiting = waits_for(node);
    int rc = waiting == NULL ? 0 : walk_add(w, waiting);
    Py_XDECREF(waiting);
    return rc;
}

static int
step_all(walk *w, PyObject *nodes, PyObject *goal)
{
    PyObject *iter = PyObject_GetIter(nodes), *node;
    int rc = iter == NULL ? -1 : 0;
    while (rc == 0 && (node = PyIter_Next(iter)) != NULL) {
        rc = step(w, node, goal);
        Py_DECREF(node);
    }
    Py_XDECREF(iter);
    return PyErr_Occurred() ? -1 : rc;
}

static int
walk_on(walk *w, int rc, PyObject *goal)
{
    PyObject *waiting;
    while (rc == 0 && (waiting = walk_next(w)) != NULL) {
        if (!op_check(waiting))
            rc = step(w, waiting, goal);
        else if (((opobj *)waiting)->kind == OP_SCOPE)
            rc = step_all(w, ((opobj *)waiting)->target, goal);
        else
            rc = step(w, ((opobj *)waiting)->target, goal);
        Py_DECREF(waiting);
    }
    Py_XDECREF(w->todo);
    Py_XDECREF(w->seen);
    return PyErr_Occurred() ? -1 : rc;
}

int
circle_through(mod_state *st, PyObject *node, PyObject *goal)
{
    walk w = {NULL, NULL};
    PyObject *waiting = waits_for(node);
    if (waiting == NULL)
        return 0;
    int rc = walk_on(&w, walk_add(&w, waiting), goal);
    Py_DECREF(waiting);
    if (rc > 0)
        PyErr_Format(st->DeadlockError, "%R cannot await %R, which waits for it to end",
                     goal, node);
    return rc == 0 ? 0 : -1;
}

/* _waits_for(nodes, goal) -> bool: does one of these goroutines or tasks wait for
 * the goal to end, by awaiting it or in a scope, perhaps through others? */
PyObject *
circle_waits_for(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    walk w = {NULL, NULL};
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "_waits_for(nodes, goal)");
    int rc = walk_on(&w, step_all(&w, args[0], args[1]), args[1]);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}
