/* SPDX-License-Identifier: MIT
 *
 * What a StreamReader on treadle's loop knows: asyncio's fields, by asyncio's names, but in a C
 * object and not in its dictionary, since each read asks for a dozen of them.
 *
 * Invariants.
 *  - A reader whose class is ours has one record, under the name `_treadle` in its dictionary,
 *    from the first field that is set on. The names are descriptors of the class
 *    (_ReaderMethods), so that asyncio's code and the program's see and set the same fields.
 *  - A field is any object, as asyncio allows it, or NULL: it was deleted, or never set.
 *  - `direct` is what came, as bytes, while a read of ours waited for no less and the buffer was
 *    empty and nobody else's: that read takes it as it is. To whoever asks for the buffer before,
 *    it is in there (record_get puts it there).
 *  - In a free-threaded Python a field is read and written in a critical section of the record:
 *    other threads may look. `direct` is not used there. */
#ifndef TDLPY_STREAM_RECORD_H
#define TDLPY_STREAM_RECORD_H

#include "state.h"
#include "own.h"

#define EACH_READER_FIELD(X)                                                               \
    X(LOOP, "_loop") X(BUFFER, "_buffer") X(WAITER, "_waiter") X(EXCEPTION, "_exception")  \
    X(TRANSPORT, "_transport") X(EOF, "_eof") X(PAUSED, "_paused") X(LIMIT, "_limit")

enum reader_field {
#define X(field, name) FIELD_##field,
    EACH_READER_FIELD(X)
#undef X
    NFIELDS
};

typedef struct {
    PyObject_HEAD
    PyObject *fields[NFIELDS];
    PyObject *direct;             /* or NULL */
    Py_ssize_t least, most;       /* while a read of ours waits: what would do for it; most is 0 while none does */
} stream_record;

extern PyGetSetDef stream_record_fields[]; /* for the class of readers */
int stream_record_setup(PyObject *module, struct tr_state *tr);

/* The reader's, as a new reference; it is made if there is none. NULL: exception. */
stream_record *stream_record_of(struct tr_state *tr, PyObject *reader);
/* The same, for who has the reader's dictionary (borrowed). */
stream_record *stream_record_in(struct tr_state *tr, PyObject *dict);
void stream_record_missing(int which); /* AttributeError */
/* Puts `direct` into the buffer. 0, or -1 with an exception. */
int stream_record_settle(stream_record *record);

/* A field: a reference until FIELD_DONE where another thread may replace it, else borrowed.
 * NULL: exception. */
static inline PyObject *
record_get(stream_record *record, int which)
{
    PyObject *value;
#ifdef Py_GIL_DISABLED
    Py_BEGIN_CRITICAL_SECTION(record);
    value = Py_XNewRef(record->fields[which]);
    Py_END_CRITICAL_SECTION();
#else
    if (which == FIELD_BUFFER && record->direct != NULL && stream_record_settle(record) < 0)
        return NULL;
    value = record->fields[which];
#endif
    if (value == NULL)
        stream_record_missing(which);
    return value;
}

static inline void
record_set(stream_record *record, int which, PyObject *value)
{
    own_put((PyObject *)record, &record->fields[which], Py_XNewRef(value));
}

/* n bytes have come for the buffer, which the caller has. Does a read of ours take them as they are? */
static inline bool
record_takes(stream_record *record, PyObject *buffer, Py_ssize_t n)
{
#ifdef Py_GIL_DISABLED
    (void)record, (void)buffer, (void)n;
    return false;
#else
    return n >= record->least && n <= record->most && PyByteArray_GET_SIZE(buffer) == 0 &&
           Py_REFCNT(buffer) == 2 && record->direct == NULL; /* the caller's and the record's */
#endif
}

#endif
