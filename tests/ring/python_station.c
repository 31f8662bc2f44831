/* SPDX-License-Identifier: MIT */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "ring.h"

static PyThreadState *main_state;

static void die(PyStatus status) {
    if (PyStatus_Exception(status)) Py_ExitStatusException(status);
}

void python_start(void) {
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0;
    config.write_bytecode = 0;
    die(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
    PyRun_SimpleString("import sys\n"
                       "sys.path[:0] = ['" RING_PYTHON "', '" RING_SCRIPTS "']\n");
    main_state = PyEval_SaveThread();
}

int python_stop(void) {
    PyEval_RestoreThread(main_state);
    return Py_FinalizeEx();
}

int python_station(const station *s) {
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject        *module = PyImport_ImportModule("station"), *result = NULL;
    if (module != NULL)
        result = PyObject_CallMethod(module, "station", "KKKL", (unsigned long long)(uintptr_t)s->in,
                                     (unsigned long long)(uintptr_t)s->out,
                                     (unsigned long long)(uintptr_t)s->ready, (long long)s->mark);
    if (result == NULL) PyErr_Print();
    int failed = result == NULL;
    Py_XDECREF(result);
    Py_XDECREF(module);
    PyRun_SimpleString("import gc; gc.collect()"); /* what the coroutines held */
    PyGILState_Release(gil);
    return failed;
}
