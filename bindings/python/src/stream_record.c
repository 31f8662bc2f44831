/* SPDX-License-Identifier: MIT
 *
 * The record of a StreamReader. See stream_record.h. */
#include "stream_record.h"

static const char *const names[] = {
#define X(field, name) name,
    EACH_READER_FIELD(X)
#undef X
};

void
stream_record_missing(int which)
{
    PyErr_Format(PyExc_AttributeError, "'StreamReader' object has no attribute '%s'", names[which]);
}

int
stream_record_settle(stream_record *record)
{
    PyObject *direct = record->direct;
    record->direct = NULL;
    int rc = bytearray_append(record->fields[FIELD_BUFFER], PyBytes_AS_STRING(direct), PyBytes_GET_SIZE(direct));
    Py_DECREF(direct);
    return rc;
}

/* -- Where it is ------------------------------------------------------------ */

stream_record *
stream_record_in(struct tr_state *tr, PyObject *dict)
{
    PyObject *record, *made;
    int there = dict_get(dict, tr->s_record, &record);
    if (there < 0)
        return NULL;
    if (there == 0) {
        if (tr->RecordType == NULL || (made = PyType_GenericAlloc((PyTypeObject *)tr->RecordType, 0)) == NULL)
            return NULL;
        record = Py_XNewRef(PyDict_SetDefault(dict, tr->s_record, made)); /* another thread may have been first */
        Py_DECREF(made);
        if (record == NULL)
            return NULL;
    }
    if ((PyObject *)Py_TYPE(record) != tr->RecordType) {
        PyErr_Format(PyExc_TypeError, "a StreamReader's _treadle must stay what treadle put there, not %.100s",
                     Py_TYPE(record)->tp_name);
        Py_DECREF(record);
        return NULL;
    }
    return (stream_record *)record;
}

stream_record *
stream_record_of(struct tr_state *tr, PyObject *reader)
{
    PyObject *dict = PyObject_GenericGetDict(reader, NULL);
    stream_record *record = dict ? stream_record_in(tr, dict) : NULL;
    Py_XDECREF(dict);
    return record;
}

/* -- The names -------------------------------------------------------------- */

static stream_record *
of_object(PyObject *self)
{
    PyObject *module = module_by_type(Py_TYPE(self)); /* its class is one of Python that inherits ours */
    mod_state *st = module != NULL ? PyModule_GetState(module) : NULL;
    return st == NULL ? NULL : stream_record_of(&st->tr, self);
}

static PyObject *
get(PyObject *self, void *which)
{
    stream_record *record = of_object(self);
    PyObject *value = record ? FIELD_KEEP(record_get(record, (int)(intptr_t)which)) : NULL;
    Py_XDECREF(record);
    return value;
}

static int
set(PyObject *self, PyObject *value, void *which)
{
    stream_record *record = of_object(self);
    if (record == NULL)
        return -1;
    int rc = 0;
    if (value == NULL || record->direct != NULL) {
        PyObject *there = record_get(record, (int)(intptr_t)which);
        rc = there == NULL ? -1 : 0;
        FIELD_DONE(there);
    }
    if (rc == 0)
        record_set(record, (int)(intptr_t)which, value);
    Py_DECREF(record);
    return rc;
}

PyGetSetDef stream_record_fields[] = {
#define X(field, name) {name, get, set, "As in asyncio.StreamReader (internal).", (void *)(intptr_t)FIELD_##field},
    EACH_READER_FIELD(X)
#undef X
    {NULL, NULL, NULL, NULL, NULL},
};

/* -- The type --------------------------------------------------------------- */

static int
record_traverse(stream_record *record, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(record));
    for (int i = 0; i < NFIELDS; i++)
        Py_VISIT(record->fields[i]);
    Py_VISIT(record->direct);
    return 0;
}

static int
record_clear(stream_record *record)
{
    for (int i = 0; i < NFIELDS; i++)
        Py_CLEAR(record->fields[i]);
    Py_CLEAR(record->direct);
    return 0;
}

static void
record_dealloc(stream_record *record)
{
    PyTypeObject *type = Py_TYPE(record);
    PyObject_GC_UnTrack(record);
    record_clear(record);
    PyObject_GC_Del(record);
    Py_DECREF(type);
}

static PyType_Slot slots[] = {
    {Py_tp_doc, "The fields of a StreamReader (internal)."},
    {Py_tp_dealloc, record_dealloc},
    {Py_tp_traverse, record_traverse},
    {Py_tp_clear, record_clear},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "treadle._treadle._StreamRecord",
    .basicsize = sizeof(stream_record),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int
stream_record_setup(PyObject *module, struct tr_state *tr)
{
    tr->RecordType = type_make(module, &spec, NULL);
    return tr->RecordType == NULL ? -1 : 0;
}
