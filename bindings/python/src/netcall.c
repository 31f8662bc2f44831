/* SPDX-License-Identifier: MIT
 *
 * Calls: operations of the network that keep buffers, descriptors or addresses
 * until they are through. Each kind is a start and a result. */
#include "net.h"
#include <errno.h>

/* -- The object ------------------------------------------------------------- */

callobj *
call_new(mod_state *st, const call_kind *kind)
{
    if (state_gone(st))
        return NULL;
    callobj *k = PyObject_GC_New(callobj, st->CallType);
    if (k == NULL)
        return NULL;
    memset((char *)k + sizeof(PyObject), 0, sizeof *k - sizeof(PyObject));
    k->kind = kind;
    PyObject_GC_Track(k);
    return k;
}

PyObject *
call_op(mod_state *st, PyObject *target, callobj *k)
{
    if (k == NULL)
        return NULL;
    PyObject *op = (PyObject *)op_new(st, OP_NET, target, (PyObject *)k, 0);
    Py_DECREF(k);
    return op;
}

static int
call_traverse(callobj *k, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(k));
    Py_VISIT(k->data);
    Py_VISIT(k->where);
    Py_VISIT(k->local);
    return 0;
}

static int
call_clear(callobj *k)
{
    Py_CLEAR(k->data);
    Py_CLEAR(k->where);
    Py_CLEAR(k->local);
    return 0;
}

static void
call_dealloc(callobj *k)
{
    PyTypeObject *type = Py_TYPE(k);
    PyObject_GC_UnTrack(k);
    call_clear(k);
    PyMem_Free(k->block);
    PyObject_GC_Del(k);
    Py_DECREF(type);
}

static PyType_Slot call_slots[] = {
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_traverse, call_traverse},
    {Py_tp_clear, call_clear},
    {0, NULL},
};

PyType_Spec call_spec = {
    .name = "treadle._Call",
    .basicsize = sizeof(callobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};

/* -- The op -------------------------------------------------------------------- */

int32_t
net_start(opobj *op, pyhost *h, uint32_t task)
{
    callobj *k = (callobj *)op->arg;
    return k->kind->start(k, op, h, task);
}

static PyObject *
net_error(callobj *k, opobj *op, int32_t code)
{
    mod_state *st = STATE(op);
    if (k->where == NULL)
        return op->target != NULL ? raise_net(st, code, k->kind->name, op->target)
                                  : raise_code(st, code, k->kind->name);
    PyObject *what = PyUnicode_FromFormat("%s %U", k->kind->name, k->where);
    const char *text = what ? PyUnicode_AsUTF8(what) : NULL;
    if (text != NULL)
        raise_code(st, code, text);
    Py_XDECREF(what);
    return NULL;
}

PyObject *
net_result(opobj *op, uint32_t task, int32_t code)
{
    callobj *k = (callobj *)op->arg;
    if (code >= 0 || (code == TDL_ETRUNCATED && k->kind->cut))
        return k->kind->result(k, op, task, code);
    long long went = (long long)op->host->out[task].extra;
    net_error(k, op, code);
    PyObject *exc = k->kind->counted ? PyErr_GetRaisedException() : NULL;
    if (exc != NULL) {
        PyObject *n = PyLong_FromLongLong(went);
        if (n == NULL || PyObject_SetAttrString(exc, "copied", n) < 0)
            PyErr_Clear();
        Py_XDECREF(n);
        PyErr_SetRaisedException(exc);
    }
    return NULL;
}

PyObject *
call_nothing(callobj *Py_UNUSED(k), opobj *Py_UNUSED(op), uint32_t Py_UNUSED(task), int32_t Py_UNUSED(code))
{
    Py_RETURN_NONE;
}

/* -- Descriptors over Unix connections ------------------------------------------ */

enum { MOST_FDS = 253 };

static int32_t
start_send_fds(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    Py_buffer buf;
    if (PyObject_GetBuffer(k->data, &buf, PyBUF_SIMPLE) < 0)
        return OP_ERROR;
    int32_t code = OP_ERROR;
    if (buf.len < 1)
        PyErr_SetString(PyExc_ValueError, "send_fds: descriptors need at least one byte");
    else
        code = tdl_conn_send_fds_start(h->core, task, ((connobj *)op->target)->core, buf.buf, (size_t)buf.len,
                                       k->block, k->count);
    PyBuffer_Release(&buf);
    return code;
}

static const call_kind send_fds_kind = {"send_fds", start_send_fds, call_nothing, false};

PyObject *
conn_send_fds(PyObject *c, PyObject *args)
{
    PyObject *data, *list;
    if (!PyArg_ParseTuple(args, "OO:send_fds", &data, &list))
        return NULL;
    if (!PyObject_CheckBuffer(data))
        return PyErr_Format(PyExc_TypeError, "send_fds: a bytes-like object is required, not %.100s",
                            Py_TYPE(data)->tp_name);
    PyObject *fds = PySequence_Fast(list, "send_fds: a sequence of descriptors is required");
    if (fds == NULL)
        return NULL;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(fds);
    callobj *k = NULL;
    if (n < 1 || n > MOST_FDS)
        PyErr_Format(PyExc_ValueError, "send_fds: 1 to %d descriptors, not %zd", MOST_FDS, n);
    else if ((k = call_new(STATE(c), &send_fds_kind)) != NULL &&
             (k->block = PyMem_Calloc((size_t)n, sizeof(int))) == NULL)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; k != NULL && k->block != NULL && i < n; i++) {
        int fd = PyObject_AsFileDescriptor(PySequence_Fast_GET_ITEM(fds, i));
        if (fd < 0)
            break;
        ((int *)k->block)[k->count++] = fd;
    }
    Py_DECREF(fds);
    if (k != NULL && (k->block == NULL || k->count < n))
        Py_CLEAR(k);
    if (k != NULL)
        k->data = Py_NewRef(data);
    return call_op(STATE(c), c, k);
}

static int32_t
start_recv_fds(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    if ((k->data = PyBytes_FromStringAndSize(NULL, k->n)) == NULL)
        return OP_ERROR;
    return tdl_conn_recv_fds_start(h->core, task, ((connobj *)op->target)->core, PyBytes_AS_STRING(k->data),
                                   (size_t)k->n, k->block, &k->count);
}

static PyObject *
recv_fds_result(callobj *k, opobj *Py_UNUSED(op), uint32_t Py_UNUSED(task), int32_t code)
{
    PyObject *fds = PyList_New(0);
    for (int i = 0; fds != NULL && i < k->count; i++) {
        PyObject *fd = PyLong_FromLong(((int *)k->block)[i]);
        if (fd == NULL || PyList_Append(fds, fd) < 0)
            Py_CLEAR(fds);
        Py_XDECREF(fd);
    }
    PyObject *result = NULL;
    if (fds != NULL && _PyBytes_Resize(&k->data, code) == 0)
        result = PyTuple_Pack(2, k->data, fds);
    Py_XDECREF(fds);
    if (result == NULL) {
        tdl_fd *f; /* nobody will know them: closed */
        for (int i = 0; i < k->count; i++)
            if (tdl_fd_adopt(((int *)k->block)[i], &f) == 0)
                tdl_fd_free(f);
    }
    return result;
}

static const call_kind recv_fds_kind = {"recv_fds", start_recv_fds, recv_fds_result, false};

PyObject *
conn_recv_fds(PyObject *c, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"n", "count", NULL};
    Py_ssize_t n = 4096;
    int count = MOST_FDS;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|ni:recv_fds", names, &n, &count))
        return NULL;
    if (n < 1 || n > (1 << 30) || count < 1 || count > MOST_FDS)
        return PyErr_Format(PyExc_ValueError, "recv_fds: room for 1 to 2**30 bytes and 1 to %d descriptors",
                            MOST_FDS);
    callobj *k = call_new(STATE(c), &recv_fds_kind);
    if (k == NULL)
        return NULL;
    k->n = n;
    k->count = count;
    if ((k->block = PyMem_Calloc((size_t)count, sizeof(int))) == NULL) {
        Py_DECREF(k);
        return PyErr_NoMemory();
    }
    return call_op(STATE(c), c, k);
}

/* A result that nobody will take: its descriptors are closed. (One that is a
 * connection is closed by op_discard.) */
void
net_discard(opobj *op, PyObject *result)
{
    callobj *k = (callobj *)op->arg;
    if (k != NULL && k->kind == &server_next_kind && conn_check(result))
        tdl_conn_close(((connobj *)result)->core);
    if (k == NULL || k->kind != &recv_fds_kind || !PyTuple_Check(result))
        return;
    for (int i = 0; i < k->count; i++) {
        tdl_fd *f;
        if (tdl_fd_adopt(((int *)k->block)[i], &f) == 0)
            tdl_fd_free(f);
    }
    k->count = 0;
}

/* -- Dialling with options --------------------------------------------------------- */

const char *
text_arg(PyObject *object, const char *what)
{
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be a string, not %.100s", what, Py_TYPE(object)->tp_name);
        return NULL;
    }
    Py_ssize_t n;
    const char *text = PyUnicode_AsUTF8AndSize(object, &n);
    if (text != NULL && (size_t)n != strlen(text)) {
        PyErr_Format(PyExc_ValueError, "%s has a null character: %R", what, object);
        return NULL;
    }
    return text;
}

PyObject *
raise_open(mod_state *st, int code, const char *verb, const char *network, const char *address)
{
    PyObject *what = PyUnicode_FromFormat("%s %s %s", verb, network, address);
    const char *text = what ? PyUnicode_AsUTF8(what) : NULL;
    if (text != NULL)
        raise_code(st, code, text);
    Py_XDECREF(what);
    return NULL;
}

/* data is (network, address), or (network,) when the addresses are in block. */
static int32_t
start_dial(callobj *k, opobj *Py_UNUSED(op), pyhost *h, uint32_t task)
{
    const char *network = PyUnicode_AsUTF8(PyTuple_GET_ITEM(k->data, 0));
    if (network == NULL)
        return OP_ERROR;
    if (k->count > 0)
        return tdl_dial_list_start(h->core, task, network, k->block, k->count, &k->dial);
    const char *address = PyUnicode_AsUTF8(PyTuple_GET_ITEM(k->data, 1));
    return address == NULL ? OP_ERROR : tdl_dial_opts_start(h->core, task, network, address, &k->dial);
}

static PyObject *
dial_result(callobj *Py_UNUSED(k), opobj *op, uint32_t task, int32_t Py_UNUSED(code))
{
    tdl_val *v = &op->host->out[task].val;
    tdl_conn *c = v->u.p;
    tdl_val_set_nil(v);
    return conn_wrap(STATE(op), c);
}

static const call_kind dial_kind = {"dial", start_dial, dial_result, false};

/* Several addresses: parsed here, so that the bad one can be named. The text of
 * all of them, or NULL. */
static PyObject *
parse_list(mod_state *st, callobj *k, const char *network, PyObject *list)
{
    PyObject *items = PySequence_Fast(list, "");
    if (items == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError, "dial: an address (\"host:port\", or a path) or a sequence of them is required, "
                         "not %.100s", Py_TYPE(list)->tp_name);
        return NULL;
    }
    Py_ssize_t n = PySequence_Fast_GET_SIZE(items);
    PyObject *joined = NULL;
    if (n < 1 || n > 256) {
        PyErr_Format(PyExc_ValueError, "dial: 1 to 256 addresses, not %zd", n);
        goto done;
    }
    if ((k->block = PyMem_Calloc((size_t)n, sizeof(tdl_addr))) == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    if (n == 2 && PyLong_Check(PySequence_Fast_GET_ITEM(items, 1))) {
        PyErr_Format(PyExc_TypeError, "dial: an address is \"host:port\", not the pair %R", list);
        goto done;
    }
    for (; k->count < n; k->count++) {
        const char *text = text_arg(PySequence_Fast_GET_ITEM(items, k->count), "the address");
        if (text == NULL)
            goto done;
        int code = tdl_addr_parse((tdl_addr *)k->block + k->count, network, text, 0);
        if (code < 0) {
            raise_open(st, code, "dial", network, text);
            goto done;
        }
    }
    PyObject *comma = PyUnicode_FromString(", ");
    joined = comma ? PyUnicode_Join(comma, items) : NULL;
    Py_XDECREF(comma);
done:
    Py_DECREF(items);
    return joined;
}

static int
fill_dial(mod_state *st, callobj *k, PyObject *network, PyObject *address, PyObject *local, PyObject *delay)
{
    const char *name = text_arg(network, "the network");
    if (name == NULL)
        return -1;
    if (local != Py_None) {
        if ((k->dial.local = text_arg(local, "the local address")) == NULL)
            return -1;
        k->local = Py_NewRef(local);
    }
    if (delay != Py_None) {
        if (seconds_arg(delay, "fallback_delay", &k->dial.fallback_delay) < 0)
            return -1;
        if (k->dial.fallback_delay <= 0)
            k->dial.fallback_delay = 1;
    }
    PyObject *text;
    if (!PyUnicode_Check(address)) {
        text = parse_list(st, k, name, address);
        k->data = PyTuple_Pack(1, network);
    } else {
        text = text_arg(address, "the address") ? Py_NewRef(address) : NULL;
        k->data = PyTuple_Pack(2, network, address);
    }
    if (text != NULL)
        k->where = PyUnicode_FromFormat("%U %U", network, text);
    Py_XDECREF(text);
    return k->where == NULL || k->data == NULL ? -1 : 0;
}

PyObject *
dial_call(mod_state *st, PyObject *network, PyObject *address, int64_t ns, PyObject *local, PyObject *delay)
{
    callobj *k = call_new(st, &dial_kind);
    if (k == NULL)
        return NULL;
    k->dial.size = sizeof k->dial;
    k->dial.timeout = ns;
    if (fill_dial(st, k, network, address, local, delay) < 0) {
        Py_DECREF(k);
        return NULL;
    }
    return call_op(st, NULL, k);
}
