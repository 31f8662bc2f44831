/* SPDX-License-Identifier: MIT
 *
 * How the loop calls a transport, and a transport its Python class and its protocol: in the
 * transport's context, timed in debug mode, and with errors told in asyncio's words. */
#include "transport.h"
#include <time.h>

/* -- Entering from the loop ------------------------------------------------ */

bool
tr_enter(trobj *t, double *start)
{
    if (PyContext_Enter(t->context) < 0) {
        PyErr_WriteUnraisable((PyObject *)t);
        return false;
    }
    *start = 0;
    if (t->l->debug) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        *start = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    }
    return true;
}

void
tr_leave(trobj *t, double start)
{
    if (start > 0 && t->l != NULL) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        PyObject *took = PyFloat_FromDouble((double)now.tv_sec + (double)now.tv_nsec * 1e-9 - start);
        if (took != NULL)
            tr_call(t, t->st->tr.s_took, took);
        Py_XDECREF(took);
    }
    PyContext_Exit(t->context);
}

/* -- Errors ---------------------------------------------------------------- */

static bool
tr_leaves(trobj *t)
{
    if (!PyErr_ExceptionMatches(PyExc_SystemExit) && !PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        return false;
    if (t->l != NULL)
        ploop_fatal(t->l);
    else
        PyErr_WriteUnraisable((PyObject *)t);
    return true;
}

void
tr_call(trobj *t, PyObject *name, PyObject *arg)
{
    PyObject *args[2] = {(PyObject *)t, arg};
    PyObject *r = PyObject_VectorcallMethod(name, args, arg ? 2 : 1, NULL);
    Py_XDECREF(r);
    if (r == NULL && !tr_leaves(t))
        PyErr_WriteUnraisable((PyObject *)t);
}

void
tr_fatal(trobj *t, const char *message)
{
    if (tr_leaves(t))
        return;
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *r = PyObject_CallMethod((PyObject *)t, "_fatal_error", "Os", exc, message);
    Py_XDECREF(exc);
    Py_XDECREF(r);
    if (r == NULL && !tr_leaves(t))
        PyErr_WriteUnraisable((PyObject *)t);
}

void
tr_callback_failed(trobj *t, ploop *l, const char *method)
{
    char message[160];
    const char *name = strrchr(Py_TYPE(t)->tp_name, '.');
    snprintf(message, sizeof message, "Exception in callback %.60s.%.60s()",
             name ? name + 1 : Py_TYPE(t)->tp_name, method);
    if (l != NULL)
        ploop_report(l, message, "transport", t, "protocol", t->protocol ? t->protocol : Py_None, NULL);
    else
        PyErr_WriteUnraisable((PyObject *)t);
}

void
tr_lost_now(trobj *t, const char *method)
{
    ploop *l = (ploop *)Py_XNewRef((PyObject *)t->l);
    PyObject *args[2] = {(PyObject *)t, Py_None};
    t->conn_lost++;
    PyObject *r = PyObject_VectorcallMethod(t->st->tr.s_lost, args, 2, NULL);
    Py_XDECREF(r);
    if (r == NULL)
        tr_callback_failed(t, l, method);
    Py_XDECREF((PyObject *)l);
}

void
tr_warn_lost(trobj *t)
{
    if (t->conn_lost >= 5) /* asyncio.constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES */
        tr_call(t, t->st->tr.s_warn_lost, NULL);
    t->conn_lost++;
}
