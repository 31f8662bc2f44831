/* SPDX-License-Identifier: MIT
 *
 * asyncio.Future from C: its methods are called as they lie in the class, without a
 * look-up, for objects of exactly that class.
 *
 * What a task of asyncio's waits for must be such a future, for that to be quick. The
 * waiters of sock.c and transport_streams.c are made and dropped with every wait, so
 * the last few are kept and initialised again for other waits, once nobody else has
 * them: while a task runs that one of them woke, the ready queue's call still does. */
#include "handle.h"

static PyObject *
own_kwargs(ploop *l)
{
    return Py_BuildValue("{O:O}", PyTuple_GET_ITEM(l->st->kw_loop, 0), (PyObject *)l);
}

/* By a dictionary that is kept: a call with keywords makes one each time. */
static PyObject *
kwargs_of(ploop *l)
{
    if (l->future_kwargs == NULL)
        l->future_kwargs = own_kwargs(l);
    return l->future_kwargs;
}

PyObject *
loop_future(ploop *l)
{
    if (l->st->FutureType == NULL && state_gone(l->st))
        return NULL;
    PyObject *kwargs = ploop_here(l) ? Py_XNewRef(kwargs_of(l)) : own_kwargs(l); /* any thread may want one */
    PyObject *future = kwargs == NULL ? NULL : PyObject_Call(l->st->FutureType, l->st->empty, kwargs);
    Py_XDECREF(kwargs);
    return future;
}

static bool
is_plain(mod_state *st, PyObject *future)
{
    return (PyObject *)Py_TYPE(future) == st->FutureType && st->fut_set_result != NULL;
}

/* Nobody has it but us. */
static bool
is_alone(PyObject *future)
{
#if PY_VERSION_HEX < 0x030e0000 && !defined(Py_GIL_DISABLED)
    Py_ssize_t at = Py_TYPE(future)->tp_weaklistoffset;
    return Py_REFCNT(future) == 1 && at != 0 && *(PyObject **)((char *)future + at) == NULL;
#else
    (void)future;
    return false;
#endif
}

static PyObject *
take_idle(ploop *l)
{
    for (int i = 0; i < PLOOP_IDLE; i++) {
        PyObject *future = l->idle_futures[i];
        if (future == NULL || !is_alone(future))
            continue;
        l->idle_futures[i] = NULL;
        return future;
    }
    return NULL;
}

PyObject *
future_waiter(ploop *l)
{
    mod_state *st = l->st;
    PyObject *kwargs = l->debug ? NULL : l->future_kwargs, *future = kwargs == NULL ? NULL : take_idle(l);
    if (future == NULL)
        future = loop_future(l);
    else if (Py_TYPE(future)->tp_init(future, st->empty, kwargs) < 0)
        Py_CLEAR(future);
    if (future == NULL)
        return NULL;
    int rc;
    descrsetfunc set = st->fut_blocking == NULL ? NULL : Py_TYPE(st->fut_blocking)->tp_descr_set;
    if (set != NULL && is_plain(st, future))
        rc = set(st->fut_blocking, future, Py_True);
    else
        rc = PyObject_SetAttr(future, st->s_blocking, Py_True);
    if (rc < 0)
        Py_CLEAR(future);
    return future;
}

int
future_set_none(mod_state *st, PyObject *future)
{
    PyObject *args[] = {future, Py_None};
    PyObject *r = is_plain(st, future) ? PyObject_Vectorcall(st->fut_set_result, args, 2, NULL)
                                       : PyObject_CallMethodOneArg(future, st->s_set_result, Py_None);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

PyObject *
future_result(mod_state *st, PyObject *future)
{
    return is_plain(st, future) ? PyObject_Vectorcall(st->fut_result, &future, 1, NULL)
                                : PyObject_CallMethodNoArgs(future, st->s_result);
}

void
future_over(ploop *l, PyObject *future)
{
#ifndef Py_GIL_DISABLED /* nobody can tell there that it is alone */
    if (!l->closed && is_plain(l->st, future)) {
        PyObject **place = &l->idle_futures[l->idle_next++ % PLOOP_IDLE], *before = *place;
        *place = future;
        future = before;
    }
#else
    (void)l;
#endif
    Py_XDECREF(future);
}

void
futures_forget(ploop *l)
{
    for (int i = 0; i < PLOOP_IDLE; i++)
        Py_CLEAR(l->idle_futures[i]);
    Py_CLEAR(l->future_kwargs);
}

int
future_setup(mod_state *st)
{
    struct { PyObject **to; PyObject *name; } of[] = {
        {&st->fut_set_result, st->s_set_result}, {&st->fut_result, st->s_result}, {&st->fut_blocking, st->s_blocking},
    };
    st->empty = PyTuple_New(0);
    for (int i = 0; i < 3; i++) {
        *of[i].to = PyObject_GetAttr(st->FutureType, of[i].name);
        if (*of[i].to == NULL)
            return -1;
    }
    return st->empty == NULL ? -1 : 0;
}
