/* SPDX-License-Identifier: MIT
 *
 * Options of sockets by name, TCP_INFO, and the set-up of the network's types.
 * No state but the types in mod_state. */
#include "net.h"
#include <structmember.h>

/* -- Options --------------------------------------------------------------- */

enum { SWITCH, SECONDS, NUMBER, LINGER };

static const struct {
    const char *name;
    int option, kind;
} options[] = {
    {"nodelay", TDL_NODELAY, SWITCH},
    {"keepalive", TDL_KEEPALIVE, SECONDS},
    {"keepalive_interval", TDL_KEEPALIVE_INTERVAL, SECONDS},
    {"keepalive_count", TDL_KEEPALIVE_COUNT, NUMBER},
    {"linger", TDL_LINGER, LINGER},
    {"read_buffer", TDL_READ_BUFFER, NUMBER},
    {"write_buffer", TDL_WRITE_BUFFER, NUMBER},
    {"tos", TDL_TOS, NUMBER},
    {"ttl", TDL_TTL, NUMBER},
    {"broadcast", TDL_BROADCAST, SWITCH},
};

static int
option_find(PyObject *name)
{
    const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    for (size_t i = 0; text != NULL && i < sizeof options / sizeof options[0]; i++)
        if (strcmp(options[i].name, text) == 0)
            return (int)i;
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "there is no option %R", name);
    return -1;
}

PyObject *
option_get(mod_state *st, PyObject *self, PyObject *name, option_getter get, void *core)
{
    if (core == NULL)
        return raise_net(st, TDL_ECLOSED, "option", self);
    int i = option_find(name);
    if (i < 0)
        return NULL;
    int64_t value = get(core, options[i].option);
    if (value < 0)
        return raise_net(st, value, "option", self);
    switch (options[i].kind) {
    case SWITCH:
        return PyBool_FromLong(value != 0);
    case SECONDS:
        if (value == 0)
            Py_RETURN_NONE;
        return PyFloat_FromDouble((double)value / 1e9);
    case LINGER:
        if (value == TDL_FOREVER)
            Py_RETURN_NONE;
        return PyFloat_FromDouble((double)value / 1e9);
    default:
        return PyLong_FromLongLong(value);
    }
}

static int
option_value(int kind, PyObject *value, int64_t *out)
{
    switch (kind) {
    case SWITCH:
        if (!PyLong_Check(value) && value != Py_None) { /* bool is a subclass */
            PyErr_Format(PyExc_TypeError, "the option is on or off, True or False, not %.100s", Py_TYPE(value)->tp_name);
            return -1;
        }
        *out = PyObject_IsTrue(value);
        return *out < 0 ? -1 : 0;
    case SECONDS:
        *out = 0;
        return value == Py_None ? 0 : seconds_arg(value, "the option", out);
    case LINGER:
        *out = TDL_FOREVER;
        return value == Py_None ? 0 : seconds_arg(value, "linger", out);
    default:
        *out = PyLong_AsLongLong(value);
        return *out == -1 && PyErr_Occurred() ? -1 : 0;
    }
}

PyObject *
option_set(mod_state *st, PyObject *self, PyObject *args, option_setter set, void *core)
{
    PyObject *name, *value;
    int64_t number;
    if (!PyArg_ParseTuple(args, "OO:set_option", &name, &value))
        return NULL;
    if (core == NULL)
        return raise_net(st, TDL_ECLOSED, "set_option", self);
    int i = option_find(name);
    if (i < 0 || option_value(options[i].kind, value, &number) < 0)
        return NULL;
    int rc = set(core, options[i].option, number);
    if (rc == TDL_EINVAL)
        return PyErr_Format(PyExc_ValueError, "%s cannot be %R", options[i].name, value);
    if (rc < 0)
        return raise_net(st, rc, "set_option", self);
    Py_RETURN_NONE;
}

/* -- TCP_INFO --------------------------------------------------------------- */

static PyStructSequence_Field info_fields[] = {
    {"rtt", "seconds: the round trip, smoothed"},
    {"rtt_var", "seconds: its variation"},
    {"rtt_min", "seconds: the shortest; 0: unknown"},
    {"rto", "seconds after which a segment is sent again"},
    {"mss", "bytes of a segment"},
    {"cwnd", "segments: the congestion window"},
    {"ssthresh", "segments: slow start's threshold"},
    {"unacked", "segments on their way"},
    {"lost", "segments thought lost"},
    {"retransmits", "segments sent again, ever"},
    {"bytes_acked", "bytes that the peer has acknowledged"},
    {"bytes_received", "bytes that have come"},
    {"bytes_unsent", "bytes written that have not gone out"},
    {"delivery_rate", "bytes per second, lately"},
    {"state", "1: established; others as in netinet/tcp.h"},
    {NULL, NULL},
};

static PyStructSequence_Desc info_desc = {
    .name = "treadle.TcpInfo",
    .doc = "What the system knows about a TCP connection; from Conn.tcp_info().",
    .fields = info_fields,
    .n_in_sequence = 15,
};

PyObject *
tcp_info_get(mod_state *st, PyObject *self, tdl_conn *core)
{
    tdl_tcp_info i = {.size = sizeof i};
    int rc = tdl_conn_tcp_info(core, &i);
    if (rc < 0)
        return raise_net(st, rc, "tcp_info", self);
    if (state_gone(st))
        return NULL;
    PyObject *info = PyStructSequence_New(st->TcpInfoType);
    if (info == NULL)
        return NULL;
    const int64_t times[] = {i.rtt, i.rtt_var, i.rtt_min, i.rto};
    const int64_t counts[] = {i.mss, i.cwnd, i.ssthresh, i.unacked, i.lost, i.retransmits, i.bytes_acked,
                              i.bytes_received, i.bytes_unsent, i.delivery_rate, i.state};
    Py_ssize_t at = 0;
    for (size_t k = 0; k < sizeof times / sizeof times[0]; k++)
        PyStructSequence_SetItem(info, at++, PyFloat_FromDouble((double)times[k] / 1e9));
    for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++)
        PyStructSequence_SetItem(info, at++, PyLong_FromLongLong(counts[k]));
    if (PyErr_Occurred())
        Py_CLEAR(info);
    return info;
}

/* -- Set-up ------------------------------------------------------------------ */

int
net_setup(PyObject *module, mod_state *st)
{
    const new_type types[] = {
        {&dgram_spec, &st->DgramType, "Dgram"},
        {&fd_spec, &st->FdType, "Fd"},
        {&call_spec, &st->CallType, "_Call"},
        {&server_spec, &st->ServerType, "_Server"},
    };
    if (types_add(module, types, sizeof types / sizeof types[0]) < 0)
        return -1;
    if ((st->TcpInfoType = PyStructSequence_NewType(&info_desc)) == NULL ||
        PyModule_AddObjectRef(module, "TcpInfo", (PyObject *)st->TcpInfoType) < 0)
        return -1;
    st->Truncated = PyErr_NewExceptionWithDoc(
        "treadle.Truncated",
        "A datagram was longer than the room for it. `data` is its beginning, `address` who\n"
        "sent it (None for recv); the rest is lost.", PyExc_OSError, NULL);
    if (st->Truncated == NULL || PyModule_AddObjectRef(module, "Truncated", st->Truncated) < 0)
        return -1;
    if (tdl_abi_size("tdl_addr") != sizeof(tdl_addr) || tdl_abi_size("tdl_packet") != sizeof(tdl_packet) ||
        tdl_abi_size("tdl_tcp_info") != sizeof(tdl_tcp_info) ||
        tdl_abi_size("tdl_dial_options") != sizeof(tdl_dial_options)) {
        PyErr_SetString(PyExc_ImportError, "the treadle library in this process is another version");
        return -1;
    }
    if (PyModule_AddFunctions(module, server_functions) < 0 || PyModule_AddFunctions(module, copy_functions) < 0)
        return -1;
    if (PyModule_AddFunctions(module, dgram_functions) < 0)
        return -1;
    if (PyModule_AddFunctions(module, fd_functions) < 0)
        return -1;
    return os_setup(module, st);
}
