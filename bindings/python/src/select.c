/* SPDX-License-Identifier: MIT
 *
 * select and try_select over cases made by recv_op, send_op and after_op. The
 * core sees the channel cases only; of the timers it sees the earliest, as its
 * deadline. op->target is the tuple of cases; op->num the index of that timer
 * (-1: none).
 *
 * Invariant. Every local send case counts one reference for its channel from
 * select_start on; select_losers gives back those of the sends that did not
 * happen, and is called once for each start. */
#include "state.h"

PyObject *
case_new(mod_state *st, PyObject *chan, PyObject *value, int64_t ns)
{
    if (state_gone(st))
        return NULL;
    caseobj *c = PyObject_GC_New(caseobj, st->CaseType);
    if (c == NULL)
        return NULL;
    c->chan = Py_XNewRef(chan);
    c->value = Py_XNewRef(value);
    c->ns = ns;
    PyObject_GC_Track(c);
    return (PyObject *)c;
}

PyObject *
after_op(PyObject *module, PyObject *seconds)
{
    int64_t ns;
    if (seconds_arg(seconds, "after_op", &ns) < 0)
        return NULL;
    return case_new(state_of(module), NULL, NULL, ns);
}

/* The cases as a tuple, checked. */
static PyObject *
select_cases(mod_state *st, PyObject *const *args, Py_ssize_t n)
{
    if (n > 65535)
        return PyErr_Format(PyExc_ValueError, "select takes at most 65535 cases");
    PyObject *cases = PyTuple_New(n);
    for (Py_ssize_t i = 0; cases != NULL && i < n; i++) {
        if (Py_TYPE(args[i]) != st->CaseType) {
            PyErr_Format(PyExc_TypeError,
                         "select: case %zd must come from recv_op, send_op, done_op or after_op, not %.100s",
                         i, Py_TYPE(args[i])->tp_name);
            Py_CLEAR(cases);
            break;
        }
        PyTuple_SET_ITEM(cases, i, Py_NewRef(args[i]));
    }
    return cases;
}

PyObject *
select_op(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    mod_state *st = state_of(module);
    PyObject *cases = select_cases(st, args, n);
    if (cases == NULL)
        return NULL;
    PyObject *op = (PyObject *)op_new(st, OP_SELECT, cases, NULL, -1);
    Py_DECREF(cases);
    return op;
}

#define CASE(tuple, i) ((caseobj *)PyTuple_GET_ITEM(tuple, i))

/* Gives back the references of the local sends up to `limit`, but not that of
 * the case `won`. */
static void
release_sends(PyObject *tuple, Py_ssize_t limit, Py_ssize_t won)
{
    for (Py_ssize_t i = 0; i < limit; i++) {
        caseobj *c = CASE(tuple, i);
        if (i != won && c->chan != NULL && c->value != NULL && chan_is_local(c->chan))
            Py_DECREF(c->value);
    }
}

typedef struct {
    tdl_case *cases;
    tdl_val *vals;
    int n;
    tdl_case few_cases[8];
    tdl_val few_vals[8];
} case_array;

static void
case_array_free(case_array *a)
{
    for (int i = 0; i < a->n; i++)
        if (a->vals[i].type != TDL_REF)
            tdl_val_clear(&a->vals[i]);
    if (a->cases != a->few_cases) {
        PyMem_Free(a->cases);
        PyMem_Free(a->vals);
    }
}

static int
case_array_fill(mod_state *st, PyObject *tuple, pyhost *h, case_array *a)
{
    Py_ssize_t n = PyTuple_GET_SIZE(tuple), i;
    a->n = 0;
    a->cases = a->few_cases;
    a->vals = a->few_vals;
    if (n > 8) {
        a->cases = PyMem_Calloc((size_t)n, sizeof *a->cases);
        a->vals = PyMem_Calloc((size_t)n, sizeof *a->vals);
        if (a->cases == NULL || a->vals == NULL) {
            PyMem_Free(a->cases);
            PyMem_Free(a->vals);
            PyErr_NoMemory();
            return -1;
        }
    }
    for (i = 0; i < n; i++) {
        caseobj *c = CASE(tuple, i);
        if (c->chan == NULL)
            continue;
        tdl_chan *core;
        if (source_core(c->chan, h, &core) < 0)
            goto fail;
        tdl_val_set_nil(&a->vals[a->n]);
        if (c->value != NULL && chan_encode(st, c->chan, c->value, &a->vals[a->n]) < 0)
            goto fail;
        tdl_case *k = &a->cases[a->n];
        k->chan = core;
        k->val = c->value != NULL ? &a->vals[a->n] : NULL;
        k->op = c->value != NULL ? TDL_SEND : TDL_RECV;
        k->ok = 0;
        a->n++;
    }
    return 0;
fail:
    release_sends(tuple, i, -1);
    case_array_free(a);
    return -1;
}

/* The case that the core's index means. */
static Py_ssize_t
case_index(PyObject *tuple, int32_t code)
{
    Py_ssize_t i = -1;
    while (code >= 0) {
        i++;
        if (CASE(tuple, i)->chan != NULL)
            code--;
    }
    return i;
}

int32_t
select_start(opobj *op, pyhost *h, uint32_t task)
{
    PyObject *tuple = op->target;
    case_array a;
    int64_t deadline = TDL_FOREVER, least = TDL_FOREVER;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        caseobj *c = CASE(tuple, i);
        if (c->chan == NULL && (op->num < 0 || c->ns < least)) {
            least = c->ns;
            op->num = i;
        }
    }
    if (case_array_fill(h->st, tuple, h, &a) < 0)
        return OP_ERROR;
    if (op->num >= 0) {
        int64_t now = tdl_now();
        deadline = least <= 0 ? now : least > TDL_FOREVER - now ? TDL_FOREVER : now + least;
    }
    int32_t code = tdl_select_start(h->core, task, a.cases, a.n, deadline);
    case_array_free(&a);
    return code;
}

void
select_losers(opobj *op, int32_t code)
{
    Py_ssize_t won = -1;
    if (code >= 0 && op->host->out[op->task].extra != 0)
        won = case_index(op->target, code);
    release_sends(op->target, PyTuple_GET_SIZE(op->target), won);
}

/* A receive: the value, or the end of a channel; that of a context is awaited. */
static PyObject *
received(mod_state *st, PyObject *tuple, Py_ssize_t i, bool ok, tdl_val *v)
{
    PyObject *source = CASE(tuple, i)->chan;
    if (!ok && !context_check(source)) {
        tdl_val_clear(v);
        return raise_closed_channel(st, "select", i);
    }
    PyObject *value = source_decode(st, source, v);
    return value == NULL ? NULL : Py_BuildValue("(nN)", i, value);
}

PyObject *
select_result(opobj *op, uint32_t task, int32_t code)
{
    mod_state *st = STATE(op);
    if (code == TDL_ETIMEDOUT)
        return Py_BuildValue("(LO)", (long long)op->num, Py_None);
    if (code < 0)
        return raise_code(st, code, "select");
    tdl_outcome *out = &op->host->out[task];
    Py_ssize_t i = case_index(op->target, code);
    if (CASE(op->target, i)->value == NULL)
        return received(st, op->target, i, out->extra != 0, &out->val);
    return out->extra ? Py_BuildValue("(nO)", i, Py_None) : raise_closed_channel(st, "select", i);
}

/* try_select(*cases) */
PyObject *
select_now(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    mod_state *st = state_of(module);
    PyObject *tuple = select_cases(st, args, n), *result = NULL;
    case_array a;
    if (tuple == NULL)
        return NULL;
    pyhost *h = host_get(st);
    if (h == NULL || case_array_fill(st, tuple, h, &a) < 0) {
        Py_DECREF(tuple);
        return NULL;
    }
    tdl_val value;
    tdl_val_set_nil(&value);
    for (int i = 0; i < a.n; i++)
        if (a.cases[i].op == TDL_RECV)
            a.cases[i].val = &value;
    int code = tdl_select(a.cases, a.n, TDL_NOWAIT);
    bool ok = code >= 0 && a.cases[code].ok;
    Py_ssize_t won = code >= 0 ? case_index(tuple, code) : -1;
    release_sends(tuple, n, ok ? won : -1);
    case_array_free(&a);
    THREAD_KICK(st);
    if (code >= 0 && CASE(tuple, won)->value == NULL) {
        result = received(st, tuple, won, ok, &value);
    } else if (code >= 0) {
        result = ok ? Py_BuildValue("(nO)", won, Py_None) : raise_closed_channel(st, "try_select", won);
    } else if (code == TDL_EAGAIN) {
        Py_ssize_t i = 0;
        while (i < n && (CASE(tuple, i)->chan != NULL || CASE(tuple, i)->ns > 0))
            i++;
        result = i < n ? Py_BuildValue("(nO)", i, Py_None)
                       : PyTuple_Pack(2, Py_None, Py_None);
    } else {
        raise_code(st, code, "try_select");
    }
    Py_DECREF(tuple);
    return result;
}

/* -- The case object ----------------------------------------------------- */

static PyObject *
case_repr(caseobj *c)
{
    if (c->chan == NULL)
        return PyUnicode_FromFormat("<after %lld ns>", (long long)c->ns);
    return PyUnicode_FromFormat("<%s %R>", c->value ? "send to" : "receive from", c->chan);
}

static int
case_traverse(caseobj *c, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(c));
    Py_VISIT(c->chan);
    Py_VISIT(c->value);
    return 0;
}

/* No tp_clear: the members must stay as long as a select refers to them, and a
 * cycle through a case also goes through an op, a tuple or a channel. */
static void
case_dealloc(caseobj *c)
{
    PyTypeObject *type = Py_TYPE(c);
    PyObject_GC_UnTrack(c);
    Py_CLEAR(c->chan);
    Py_CLEAR(c->value);
    PyObject_GC_Del(c);
    Py_DECREF(type);
}

static PyMethodDef case_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot case_slots[] = {
    {Py_tp_doc, "A case of select; made by recv_op, send_op and after_op."},
    {Py_tp_dealloc, case_dealloc},
    {Py_tp_traverse, case_traverse},
    {Py_tp_repr, case_repr},
    {Py_tp_methods, case_methods},
    {0, NULL},
};

PyType_Spec case_spec = {
    .name = "treadle.Case",
    .basicsize = sizeof(caseobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = case_slots,
};
