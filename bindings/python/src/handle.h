/* SPDX-License-Identifier: MIT
 *
 * Handles (handle.c) and timers (looptimer.c), for the files of the loop. */
#ifndef TDLPY_HANDLE_H
#define TDLPY_HANDLE_H

#include "loop.h"

/* Room for the slots that asyncio's classes have at the head of the memory. */
#if PY_VERSION_HEX < 0x030e0000 && !defined(Py_GIL_DISABLED)
enum { PHANDLE_BASE = 96 };
#else
enum { PHANDLE_BASE = 128 };
#endif
enum { PHANDLE_ARGS = 3 };

struct phandle {
    PyObject_HEAD
    char base[PHANDLE_BASE - sizeof(PyObject)];
    ploop *loop; /* strong */
    PyObject *callback, *context;
    PyObject *args[PHANDLE_ARGS]; /* nargs of them, unless there is more */
    PyObject *more;               /* all arguments, as a tuple, or NULL */
    PyObject *traceback, *repr;   /* of debug mode, or NULL */
    PyObject *when_object;        /* what was given, unless it was a float */
    double when;
    phandle *next_free;
    int nargs;
    uint32_t index; /* in the heap, + 1; 0: in none */
    bool cancelled, timer;
};

int handle_setup(PyObject *module, mod_state *st);
phandle *handle_new(ploop *l, bool timer, PyObject *callback, PyObject *const *args, Py_ssize_t n,
                    PyObject *context);
int handle_run(phandle *h);
int handle_failed(phandle *h);
void handles_free(ploop *l);
int handles_traverse(ploop *l, visitproc visit, void *arg);

/* looptimer.c */
int timer_add(ploop *l, phandle *h); /* takes a reference */
void timer_remove(ploop *l, phandle *h);
phandle *timer_pop(ploop *l); /* the first, with its reference */
void timers_clear(ploop *l);

/* fds.c */
int fds_open(ploop *l); /* registers what was added before there was a host */
void fds_clear(ploop *l);
int fds_traverse(ploop *l, visitproc visit, void *arg);
void fds_event(ploop *l, uint32_t watcher, unsigned ready);
bool fds_awaited(ploop *l); /* is there a descriptor that somebody waits for? */
PyObject *fds_add_reader(PyObject *l, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *fds_add_writer(PyObject *l, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *fds_remove_reader(PyObject *l, PyObject *fd);
PyObject *fds_remove_writer(PyObject *l, PyObject *fd);
PyObject *fds_list(PyObject *l, PyObject *ignored);

#define LOOP_METHOD(name) PyObject *name(PyObject *l, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
/* sock.c */
LOOP_METHOD(sock_recv);
LOOP_METHOD(sock_recv_into);
LOOP_METHOD(sock_sendall);
LOOP_METHOD(sock_recvfrom);
LOOP_METHOD(sock_recvfrom_into);
LOOP_METHOD(sock_sendto);
LOOP_METHOD(sock_accept);
LOOP_METHOD(sock_connect_op);
LOOP_METHOD(sock_sendfile_op);

/* loopcall.c */
int ready_push(ploop *l, PyObject *handle); /* takes it */
ploop_ready ready_take(ploop *l);           /* of at least one */
static inline ploop_ready *
ready_at(ploop *l, uint32_t i)
{
    return &l->ready[(l->iready + i) & (l->ready_size - 1)];
}
/* A handle in the place of a call. -1: exception */
int ready_make_handle(ploop *l, ploop_ready *r);
void ready_clear(ploop *l);
int ready_open(ploop *l);
int loop_check_open(ploop *l);
bool loop_sleeps(ploop *l);     /* it is about to wait; false: there is something to do */
#ifdef Py_GIL_DISABLED
int loop_take_inbox(ploop *l);  /* what other threads asked for goes to the ready queue */
#else
static inline int
loop_take_inbox(ploop *l)
{
    (void)l;
    return 0;
}
#endif
void loop_wake_up(ploop *l); /* when it sleeps */
void loop_run_later(ploop *l);
void loop_run_at_end(ploop *l);
LOOP_METHOD(loop_call_soon);
LOOP_METHOD(loop_call_soon_threadsafe);
LOOP_METHOD(loop_call_later);
LOOP_METHOD(loop_call_at);
PyObject *loop_learn_call(PyObject *module, PyObject *const *args, Py_ssize_t n, PyObject *kwnames);
PyObject *loop_getattro(PyObject *l, PyObject *name);
int loop_setattro(PyObject *l, PyObject *name, PyObject *value);
void loop_forget_bound(ploop *l);

/* future.c: asyncio's futures, the short way where they are of its own class. */
PyObject *loop_future(ploop *l);                       /* a new one */
PyObject *future_waiter(ploop *l);                     /* one that a task is to wait for at once */
int future_set_none(mod_state *st, PyObject *future);  /* set_result(None) */
PyObject *future_result(mod_state *st, PyObject *future);
void future_over(ploop *l, PyObject *future); /* takes it: the waiting is over */
void futures_forget(ploop *l);
int future_setup(mod_state *st);

static inline double
loop_seconds(void)
{
    return (double)tdl_now() * 1e-9;
}

/* loop.c */
int loop_open(ploop *l);
/* create: loop.create_future. Is it ours? */
bool loop_makes_futures(mod_state *st, PyObject *loop, PyObject *create);

#endif
