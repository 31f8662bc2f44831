/* SPDX-License-Identifier: MIT
 *
 * What file.c, process.c and oscall.c share: calls of the core's whose arguments and
 * result lie in one block.
 *
 * Invariant. What the core writes to while an op is pending lies in the op's call (see
 * net.h), which is why a stat or a text is taken from there. */
#ifndef OSCALL_H
#define OSCALL_H

#include "net.h"

enum { MOST_FOUND = 64, ROOM = 4200 };

/* The call's block. */
typedef struct {
    int kind;
    int64_t a, b, c;
    union {
        tdl_stat st;
        tdl_addr found[MOST_FOUND];
        char text[ROOM];
    } room;
} arguments;

callobj *os_call(mod_state *st, const call_kind *kind, int number, int64_t a, int64_t b, int64_t c);

/* The value that the task got; it is the caller's now. */
tdl_val take_value(opobj *op, uint32_t task);

/* A path with a zero is refused by Python's own calls in this way: true, with an exception. */
bool has_zero(PyObject *bytes);

extern PyType_Spec file_spec, watch_spec, process_spec;
extern PyMethodDef file_functions[], process_functions[];

#endif
