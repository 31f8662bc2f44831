/* SPDX-License-Identifier: MIT
 *
 * Descriptors of a loop, for fds.c and sock.c. */
#ifndef TDLPY_FDS_H
#define TDLPY_FDS_H

#include "loop.h"

struct ploop_entry {
    ploop_fd f;
    int how; /* what the host watches for; 0: nothing */
    bool counted; /* in l->nwatched */
    PyObject *reader, *writer; /* handles, or NULL */
    PyObject *waiters[2]; /* lists of futures, to read and to write, or NULL */
    PyObject *sock; /* a weak reference, see fds.c, or NULL */
};

/* NULL: MemoryError. fd is not negative. */
ploop_entry *entry_get(ploop *l, int fd);
int entry_sync(ploop *l, ploop_entry *e);
int entry_wanted(const ploop_entry *e);

#endif
