/* SPDX-License-Identifier: MIT
 *
 * Processes, as plainly as the core has them: treadle.Process is Python's, in
 * treadle/_system.py. */
#include "oscall.h"

typedef struct {
    PyObject_HEAD
    tdl_process *core;
} processobj;

/* A list of bytes as a list of C strings, in PyMem; they live as long as the list. */
static const char **
strings(PyObject *list)
{
    Py_ssize_t n = PyList_GET_SIZE(list);
    const char **array = PyMem_Calloc((size_t)n + 1, sizeof *array);
    if (array == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        if (!PyBytes_Check(item) || has_zero(item)) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "bytes are required");
            PyMem_Free(array);
            return NULL;
        }
        array[i] = PyBytes_AS_STRING(item);
    }
    return array;
}

static PyObject *
take_pipe(mod_state *st, tdl_process *p, int which)
{
    tdl_conn *c = tdl_process_pipe(p, which);
    return c == NULL ? Py_NewRef(Py_None) : conn_wrap(st, c);
}

static PyObject *
process_start(PyObject *module, PyObject *args)
{
    mod_state *st = state_of(module);
    PyObject *argv, *env, *cwd, *result = NULL;
    tdl_process_options o = {.size = sizeof o};
    tdl_process *core = NULL;
    if (!PyArg_ParseTuple(args, "O!OOiiiI:_process_start", &PyList_Type, &argv, &env, &cwd, &o.in, &o.out, &o.err,
                          &o.flags))
        return NULL;
    if ((env != Py_None && !PyList_Check(env)) || (cwd != Py_None && !PyBytes_Check(cwd)))
        return PyErr_Format(PyExc_TypeError, "_process_start");
    if (host_get(st) == NULL || (cwd != Py_None && has_zero(cwd)))
        return NULL;
    const char **args_of = strings(argv), **env_of = env == Py_None ? NULL : strings(env);
    if (args_of == NULL || (env != Py_None && env_of == NULL))
        goto done;
    o.env = env_of;
    o.cwd = cwd == Py_None ? NULL : PyBytes_AS_STRING(cwd);
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = tdl_process_start(args_of[0] ? args_of[0] : "", args_of, &o, &core);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        raise_code(st, rc, "start");
        goto done;
    }
    processobj *p = (processobj *)st->ProcessType->tp_alloc(st->ProcessType, 0);
    if (p == NULL) {
        tdl_process_free(core);
        goto done;
    }
    p->core = core;
    PyObject *in = take_pipe(st, core, 0), *out = take_pipe(st, core, 1), *err = take_pipe(st, core, 2);
    if (in != NULL && out != NULL && err != NULL)
        result = PyTuple_Pack(4, p, in, out, err);
    Py_XDECREF(in);
    Py_XDECREF(out);
    Py_XDECREF(err);
    Py_DECREF(p);
done:
    PyMem_Free(args_of);
    PyMem_Free(env_of);
    return result;
}

static int32_t
start_wait(callobj *Py_UNUSED(k), opobj *op, pyhost *h, uint32_t task)
{
    return tdl_process_wait_start(h->core, task, ((processobj *)op->target)->core, TDL_FOREVER);
}

/* As Python has it: a signal is a negative number. */
static PyObject *
wait_result(callobj *Py_UNUSED(k), opobj *op, uint32_t task, int32_t code)
{
    int64_t signum = op->host->out[task].extra;
    return PyLong_FromLongLong(signum ? -signum : code);
}

static const call_kind wait_kind = {"wait", start_wait, wait_result, false};

static PyObject *
process_wait(PyObject *p, PyObject *Py_UNUSED(ignored))
{
    return call_op(STATE(p), p, call_new(STATE(p), &wait_kind));
}

static PyObject *
process_kill(processobj *p, PyObject *number)
{
    int signum = (int)PyLong_AsLong(number);
    if (signum == -1 && PyErr_Occurred())
        return NULL;
    int rc = tdl_process_kill(p->core, signum);
    return rc < 0 ? raise_code(STATE(p), rc, "kill") : Py_NewRef(Py_None);
}

static PyObject *
process_pid(processobj *p, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(tdl_process_pid(p->core));
}

static void
process_dealloc(processobj *p)
{
    PyTypeObject *type = Py_TYPE(p);
    tdl_process_free(p->core);
    type->tp_free(p);
    Py_DECREF(type);
}

static PyMethodDef process_methods[] = {
    {"wait", process_wait, METH_NOARGS, "await wait() -> int"},
    {"kill", (PyCFunction)process_kill, METH_O, "kill(signum)"},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef process_getset[] = {
    {"pid", (getter)process_pid, NULL, "Its number.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot process_slots[] = {
    {Py_tp_doc, "A child of the core's; treadle.Process is what programs use."},
    {Py_tp_dealloc, process_dealloc},
    {Py_tp_methods, process_methods},
    {Py_tp_getset, process_getset},
    {0, NULL},
};

PyType_Spec process_spec = {
    .name = "treadle._treadle._Process",
    .basicsize = sizeof(processobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = process_slots,
};

PyMethodDef process_functions[] = {
    {"_process_start", process_start, METH_VARARGS, "_process_start(argv, env, cwd, in, out, err, flags)"},
    {NULL, NULL, 0, NULL},
};
