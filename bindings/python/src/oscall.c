/* SPDX-License-Identifier: MIT
 *
 * What the calls of the operating system have in common (oscall.h), and names, terminals
 * and signals. What is nice to use is Python's, in treadle/_system.py. */
#include "oscall.h"

callobj *
os_call(mod_state *st, const call_kind *kind, int number, int64_t a, int64_t b, int64_t c)
{
    callobj *k = call_new(st, kind);
    if (k == NULL)
        return NULL;
    arguments *x = k->block = PyMem_Calloc(1, sizeof *x);
    if (x == NULL) {
        Py_DECREF(k);
        PyErr_NoMemory();
        return NULL;
    }
    *x = (arguments){.kind = number, .a = a, .b = b, .c = c};
    return k;
}

tdl_val
take_value(opobj *op, uint32_t task)
{
    tdl_val v = op->host->out[task].val;
    tdl_val_set_nil(&op->host->out[task].val);
    return v;
}

bool
has_zero(PyObject *bytes)
{
    if (strlen(PyBytes_AS_STRING(bytes)) == (size_t)PyBytes_GET_SIZE(bytes))
        return false;
    PyErr_SetString(PyExc_ValueError, "embedded null byte");
    return true;
}

/* -- Names ------------------------------------------------------------------------------ */

static int32_t
start_lookup(callobj *k, opobj *Py_UNUSED(op), pyhost *h, uint32_t task)
{
    arguments *x = k->block;
    const char *network = PyUnicode_AsUTF8(k->local), *host = PyUnicode_AsUTF8(k->where);
    if (network == NULL || host == NULL)
        return OP_ERROR;
    return tdl_lookup_start(h->core, task, network, host, (int)x->a, x->room.found, MOST_FOUND, TDL_FOREVER);
}

/* b: with the port. */
static PyObject *
lookup_result(callobj *k, opobj *Py_UNUSED(op), uint32_t Py_UNUSED(task), int32_t code)
{
    arguments *x = k->block;
    PyObject *list = PyList_New(code);
    for (int i = 0; list != NULL && i < code; i++) {
        char text[128];
        (x->b ? tdl_addr_format : tdl_addr_host)(&x->room.found[i], text, sizeof text);
        PyObject *item = PyUnicode_FromString(text);
        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, item);
    }
    return list;
}

static const call_kind lookup_kind = {"lookup", start_lookup, lookup_result, false};

static PyObject *
lookup(PyObject *module, PyObject *args)
{
    PyObject *network, *host;
    int port, with_port;
    if (!PyArg_ParseTuple(args, "UUip:_lookup", &network, &host, &port, &with_port))
        return NULL;
    if (text_arg(network, "the network") == NULL || text_arg(host, "the host") == NULL)
        return NULL;
    callobj *k = os_call(state_of(module), &lookup_kind, 0, port, with_port, 0);
    if (k == NULL)
        return NULL;
    k->local = Py_NewRef(network);
    k->where = Py_NewRef(host);
    return call_op(state_of(module), NULL, k);
}

static int32_t
start_lookup_name(callobj *k, opobj *Py_UNUSED(op), pyhost *h, uint32_t task)
{
    arguments *x = k->block;
    char text[128];
    const char *host = PyUnicode_AsUTF8(k->where);
    if (host == NULL)
        return OP_ERROR;
    snprintf(text, sizeof text, strchr(host, ':') ? "[%s]:0" : "%s:0", host);
    int rc = tdl_addr_parse(&k->addr, "tcp", text, 0);
    return rc < 0 ? rc : tdl_lookup_name_start(h->core, task, &k->addr, x->room.text, ROOM, TDL_FOREVER);
}

static PyObject *
name_result(callobj *k, opobj *Py_UNUSED(op), uint32_t Py_UNUSED(task), int32_t Py_UNUSED(code))
{
    return PyUnicode_DecodeUTF8(((arguments *)k->block)->room.text, (Py_ssize_t)strlen(((arguments *)k->block)->room.text),
                                "surrogateescape");
}

static const call_kind lookup_name_kind = {"lookup", start_lookup_name, name_result, false};

static PyObject *
lookup_name(PyObject *module, PyObject *address)
{
    if (text_arg(address, "the address") == NULL)
        return NULL;
    callobj *k = os_call(state_of(module), &lookup_name_kind, 0, 0, 0, 0);
    if (k != NULL)
        k->where = Py_NewRef(address);
    return call_op(state_of(module), NULL, k);
}

/* -- Terminals ------------------------------------------------------------------------------------ */

static PyObject *
tty_raw(PyObject *module, PyObject *args)
{
    int fd, on;
    if (!PyArg_ParseTuple(args, "ip:_tty_raw", &fd, &on))
        return NULL;
    int rc = tdl_tty_raw(fd, on);
    return rc < 0 ? raise_code(state_of(module), rc, "raw_mode") : Py_NewRef(Py_None);
}

/* -- Signals ------------------------------------------------------------------------------------ */

static PyObject *
signal_call(PyObject *module, PyObject *args)
{
    mod_state *st = state_of(module);
    PyObject *chan;
    int signum, on;
    if (!PyArg_ParseTuple(args, "O!ip:_signal", st->SharedChanType, &chan, &signum, &on))
        return NULL;
    tdl_chan *ch = ((sharedobj *)chan)->core;
    int rc = on ? tdl_signal_notify(ch, signum) : tdl_signal_stop(ch, signum);
    return rc < 0 ? raise_code(st, rc, "signal") : PyLong_FromLong(rc);
}

static PyMethodDef os_functions[] = {
    {"_lookup", lookup, METH_VARARGS, "await _lookup(network, host, port, with_port) -> list[str]"},
    {"_lookup_name", lookup_name, METH_O, "await _lookup_name(address) -> str"},
    {"_tty_raw", tty_raw, METH_VARARGS, "_tty_raw(fd, on)"},
    {"_signal", signal_call, METH_VARARGS, "_signal(chan, signum, on) -> int"},
    {NULL, NULL, 0, NULL},
};

int
os_setup(PyObject *module, mod_state *st)
{
    const new_type types[] = {
        {&file_spec, &st->FileType, "_File"},
        {&process_spec, &st->ProcessType, "_Process"},
        {&watch_spec, &st->WatchType, "_Watch"},
    };
    if (types_add(module, types, sizeof types / sizeof types[0]) < 0)
        return -1;
    if (tdl_abi_size("tdl_stat") != sizeof(tdl_stat) ||
        tdl_abi_size("tdl_process_options") != sizeof(tdl_process_options)) {
        PyErr_SetString(PyExc_ImportError, "the treadle library in this process is another version");
        return -1;
    }
    if (PyModule_AddFunctions(module, file_functions) < 0 || PyModule_AddFunctions(module, process_functions) < 0)
        return -1;
    return PyModule_AddFunctions(module, os_functions);
}
