/* SPDX-License-Identifier: MIT
 *
 * The reads of a StreamReader: what stream_read.c and transport_streams.c share. */
#ifndef TDLPY_STREAM_READ_H
#define TDLPY_STREAM_READ_H

#include "state.h"

enum stream_read { READ, READ_EXACTLY, READ_UNTIL, READ_LINE };

/* n: how much (READ, READ_EXACTLY); separator: bytes, not empty (READ_UNTIL). NULL: exception. */
PyObject *stream_read_new(mod_state *st, PyObject *reader, enum stream_read kind, Py_ssize_t n, PyObject *separator);
int stream_read_setup(PyObject *module, mod_state *st);

/* transport_streams.c: calls asyncio's method of this name. */
PyObject *streams_plain(PyObject *class, PyObject *name, PyObject *self, PyObject *const *args, Py_ssize_t n,
                        PyObject *kwnames);

#endif
