/* SPDX-License-Identifier: MIT
 *
 * Descriptors of a loop, for fds.c and sock.c. */
#ifndef TDLPY_FDS_H
#define TDLPY_FDS_H

#include "loop.h"

/* One call of sock_recv or of its kind, see sock.c. */
typedef struct sockop {
    PyObject_HEAD
    ploop *loop;                 /* strong */
    PyObject *sock, *arg, *arg2; /* arg: the length, the buffer, the data; arg2: a length, an address */
    PyObject *future;            /* while it waits: what the task waits for */
    struct sockop *prev, *next;  /* in its entry's list; free ones by next */
    Py_ssize_t pos;              /* sendall: sent so far */
    int fd;                      /* while it waits: where */
    uint8_t kind, state;
    bool linked;
    bool begun; /* connect: it goes on by itself */
} sockop;

struct ploop_entry {
    ploop_fd f;
    int how; /* what the host watches for; 0: nothing */
    bool counted; /* in l->nwatched */
    PyObject *reader, *writer; /* handles, or NULL */
    PyObject *owner; /* while one of them is there: the object that came with it, or NULL for a number */
    sockop *waiters[2]; /* those that wait to read, and to write: strong */
    PyObject *sock; /* a weak reference, see fds.c, or NULL */
    bool drained;   /* sock.c: reading would block until there is an event */
    bool hup;       /* the peer has ended, or sent urgent data: never say so again */
    uint8_t stream; /* sock.c: 0 not known, 1 it is, 2 not */
};

/* NULL: MemoryError. fd is not negative. */
ploop_entry *entry_get(ploop *l, int fd);
int entry_sync(ploop *l, ploop_entry *e);
void entry_forget(ploop *l, ploop_entry *e); /* its registration was for another socket */
int entry_wanted(const ploop_entry *e);

/* sock.c: the entry of a waiter is ready. */
void sockop_ready(sockop *o);
/* sock_kernel.c: attempts, as in sock.c */
int try_connect(sockop *o, int fd, PyObject **result);
int try_sendfile(sockop *o, int fd, PyObject **result);
PyObject *sock_accept_next(PyObject *module, PyObject *fd);
void sockops_free(ploop *l);
int sockops_traverse(ploop *l, visitproc visit, void *arg);

#endif
