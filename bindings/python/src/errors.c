/* SPDX-License-Identifier: MIT
 *
 * Codes of the core as Python exceptions, and the arguments that several files
 * read alike (times). No state; nothing here runs Python code except the
 * constructors of exceptions. */
#include "state.h"
#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <string.h>

bool
state_gone(mod_state *st)
{
    if (st != NULL && st->OpType != NULL)
        return false;
    PyErr_SetString(PyExc_RuntimeError, "treadle cannot be used: the interpreter is ending");
    return true;
}

PyObject *
raise_cancelled(mod_state *st, PyObject *msg)
{
    PyObject *exc = make_cancelled(st, msg);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return NULL;
}

PyObject *
make_cancelled(mod_state *st, PyObject *msg)
{
    if (state_gone(st))
        return NULL;
    if (msg == NULL || msg == Py_None)
        return PyObject_CallNoArgs(st->CancelledError);
    return PyObject_CallOneArg(st->CancelledError, msg);
}

/* index < 0: not from a select. */
PyObject *
raise_closed_channel(mod_state *st, const char *what, Py_ssize_t index)
{
    if (state_gone(st))
        return NULL;
    PyObject *text = index < 0 ? PyUnicode_FromFormat("%s: the channel is closed", what)
                               : PyUnicode_FromFormat("%s: the channel of case %zd is closed", what, index);
    PyObject *exc = text == NULL ? NULL : PyObject_CallOneArg(st->ChannelClosed, text);
    PyObject *number = index < 0 ? Py_NewRef(Py_None) : PyLong_FromSsize_t(index);
    Py_XDECREF(text);
    if (exc == NULL || number == NULL ||
        PyObject_SetAttrString(exc, "index", number) < 0) {
        Py_XDECREF(exc);
        Py_XDECREF(number);
        return NULL;
    }
    Py_DECREF(number);
    PyErr_SetRaisedException(exc);
    return NULL;
}

/* OSError(errno, text): Python picks the subclass. cls may be Closed. */
static PyObject *
raise_os(PyObject *cls, int number, const char *what, const char *text)
{
    PyObject *message = what == NULL || *what == '\0'
                            ? PyUnicode_FromString(text)
                            : PyUnicode_FromFormat("%s: %s", what, text);
    if (message == NULL)
        return NULL;
    PyObject *exc = PyObject_CallFunction(cls, "iN", number, message);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return NULL;
}

/* socket.gaierror, as socket.getaddrinfo raises it. */
static PyObject *
raise_name(int number, const char *what, const char *text)
{
    PyObject *module = PyImport_ImportModule("socket");
    PyObject *cls = module == NULL ? NULL : PyObject_GetAttrString(module, "gaierror");
    Py_XDECREF(module);
    if (cls == NULL)
        return NULL;
    raise_os(cls, number, what, text);
    Py_DECREF(cls);
    return NULL;
}

PyObject *
raise_code(mod_state *st, int64_t code, const char *what)
{
    if (state_gone(st))
        return NULL;
    if (code < 0 && code > -4096)
        return raise_os(PyExc_OSError, (int)-code, what, strerror((int)-code));
    switch (code) {
    case TDL_ECLOSED:
        return raise_os(st->Closed, EBADF, what, "use of a closed connection or listener");
    case TDL_ETIMEDOUT:
        return raise_os(PyExc_TimeoutError, ETIMEDOUT, what, "deadline exceeded");
    case TDL_ECANCELED:
        return raise_cancelled(st, NULL);
    case TDL_ENOMEM:
        return PyErr_NoMemory();
    case TDL_EADDRESS:
        PyErr_Format(PyExc_ValueError, "%s: the address does not parse", what);
        return NULL;
    case TDL_EPORT:
        PyErr_Format(PyExc_ValueError, "%s: the port is missing or out of range (\"host:port\")", what);
        return NULL;
    case TDL_ENETWORK:
        PyErr_Format(PyExc_ValueError,
                     "%s: there is no such network, or not for this (the network comes first, \"tcp\" or \"unix\", then "
                     "the address; datagrams have listen_udp and dial_udp)", what);
        return NULL;
    case TDL_ENONAME:
        return raise_name(EAI_NONAME, what, "the name does not resolve");
    case TDL_ENAMESERVER:
        return raise_name(EAI_AGAIN, what, "no name server has answered");
    case TDL_ETRUNCATED:
        return raise_os(PyExc_OSError, EMSGSIZE, what, "the message was longer than the room for it");
    case TDL_ENOPOLL:
        return raise_os(PyExc_OSError, EPERM, what, "the descriptor cannot be polled (a regular file? treadle.open_file is for those)");
    case TDL_EINVAL:
        PyErr_Format(PyExc_ValueError, "%s: argument out of range", what);
        return NULL;
    case TDL_EFORKED:
        PyErr_SetString(PyExc_RuntimeError,
                        "treadle cannot be used in the child of a fork: its runtime does "
                        "not exist there (start the child with spawn or exec)");
        return NULL;
    case TDL_EHOST:
        PyErr_Format(PyExc_RuntimeError,
                     "%s: not on this thread (it runs an event loop and must not block, "
                     "or the object belongs to a loop of another thread)", what);
        return NULL;
    case TDL_EDEADLOCK:
        PyErr_Format(st->DeadlockError, "%s: deadlock: the caller would wait for itself, or for one that waits for it",
                     what);
        return NULL;
    case TDL_ENOTLOCKED:
        PyErr_SetString(PyExc_RuntimeError, "unlock of unlocked mutex");
        return NULL;
    case TDL_ENEGATIVE:
        PyErr_SetString(PyExc_ValueError, "negative WaitGroup counter");
        return NULL;
    default:
        PyErr_Format(PyExc_RuntimeError, "%s: %s", what, tdl_strerror((int)code));
        return NULL;
    }
}

/* The same with the far address in the text, where there is one. */
PyObject *
raise_net(mod_state *st, int64_t code, const char *verb, PyObject *object)
{
    char address[160] = "", what[256];
    if (conn_check(object)) {
        tdl_conn *c = ((connobj *)object)->core;
        if (c != NULL && tdl_conn_peername(c, address, sizeof address) < 0)
            address[0] = '\0';
    } else if (st != NULL && Py_TYPE(object) == st->ListenerType) {
        tdl_listener *l = ((listenerobj *)object)->core;
        if (l != NULL && tdl_listener_address(l, address, sizeof address) < 0)
            address[0] = '\0';
        PyObject *kept = l == NULL ? ((listenerobj *)object)->address : NULL;
        const char *text = kept != NULL ? PyUnicode_AsUTF8(kept) : NULL;
        if (text != NULL)
            PyOS_snprintf(address, sizeof address, "%s", text);
        else
            PyErr_Clear(); /* a path that is no UTF-8 */
    }
    PyOS_snprintf(what, sizeof what, "%s%s%s", verb, address[0] ? " " : "", address);
    return raise_code(st, code, what);
}

int
seconds_arg(PyObject *seconds, const char *what, int64_t *ns)
{
    double s;
    if (PyBool_Check(seconds) || (!PyFloat_Check(seconds) && !PyLong_Check(seconds) &&
                                  !PyObject_HasAttrString(seconds, "__float__"))) {
        PyErr_Format(PyExc_TypeError, "%s must be a number of seconds, not %.100s", what,
                     Py_TYPE(seconds)->tp_name);
        return -1;
    }
    s = PyFloat_AsDouble(seconds);
    if (s == -1.0 && PyErr_Occurred())
        return -1;
    if (isnan(s)) {
        PyErr_Format(PyExc_ValueError, "%s must not be NaN", what);
        return -1;
    }
    s = ceil(s * 1e9);
    if (s >= 9.2e18)
        *ns = TDL_FOREVER;
    else if (s <= -9.2e18)
        *ns = INT64_MIN;
    else
        *ns = (int64_t)s;
    return 0;
}

/* A moment on the clock of now(), for set_…_deadline; None clears (0). */
int
deadline_arg(PyObject *when, int64_t *ns)
{
    if (when == Py_None) {
        *ns = 0;
        return 0;
    }
    if (seconds_arg(when, "deadline", ns) < 0)
        return -1;
    if (*ns <= 0)
        *ns = -1; /* the past; 0 would clear */
    return 0;
}

int
timeout_arg(PyObject *seconds, int64_t *ns)
{
    *ns = 0;
    if (seconds == Py_None)
        return 0;
    if (seconds_arg(seconds, "timeout", ns) < 0)
        return -1;
    if (*ns <= 0) {
        PyErr_SetString(PyExc_ValueError, "the timeout must be positive, or None");
        return -1;
    }
    if (*ns == TDL_FOREVER)
        *ns = 0;
    return 0;
}

void
warn_unclosed(PyObject *object, const char *what)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(object, 1, "unclosed %s %R", what, object) < 0)
        PyErr_WriteUnraisable(object);
    PyErr_SetRaisedException(exc);
}
