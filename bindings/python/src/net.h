/* SPDX-License-Identifier: MIT
 *
 * What the files of the network share beyond connections and listeners:
 * datagram sockets, descriptors, and operations that keep something until they
 * are through (a call).
 *
 * Invariant. What the core reads or writes while an op of kind OP_NET is
 * pending lies in the op's call, which lives as long as the op. */
#ifndef TDLPY_NET_H
#define TDLPY_NET_H

#include "state.h"

typedef struct {
    PyObject_HEAD
    tdl_dgram *core;
    bool closed;
    char network[12]; /* for the addresses that are sent to */
    PyObject *weakrefs;
} dgramobj;

typedef struct {
    PyObject_HEAD
    tdl_fd *core;
    bool closed;
    PyObject *weakrefs;
} fdobj;

/* -- Calls (netcall.c) ----------------------------------------------------- */

typedef struct callobj callobj;

typedef struct {
    const char *name; /* for errors */
    /* The core's code, or OP_ERROR with an exception. */
    int32_t (*start)(callobj *k, opobj *op, pyhost *h, uint32_t task);
    /* For a code >= 0 the result; for TDL_ETRUNCATED too, if cut is set. */
    PyObject *(*result)(callobj *k, opobj *op, uint32_t task, int32_t code);
    bool cut;
    bool counted; /* an error says in `copied` how many bytes have gone out */
} call_kind;

struct callobj {
    PyObject_HEAD
    const call_kind *kind;
    PyObject *data;  /* what is sent; the bytes that are received into */
    PyObject *where; /* for errors: to whom or where; NULL: what the target knows */
    PyObject *local; /* keeps the text in dial.local */
    Py_ssize_t n;    /* a size, or a number of packets */
    tdl_addr addr;   /* to whom or from whom; length 0: none */
    void *block;     /* PyMem: descriptors, packets, a list of addresses */
    int count;       /* in it */
    tdl_dial_options dial;
};

/* A new op that makes the call; k is taken. NULL passes through. */
PyObject *call_op(mod_state *st, PyObject *target, callobj *k);
callobj *call_new(mod_state *st, const call_kind *kind);
/* The result of a kind that has none: None. */
PyObject *call_nothing(callobj *k, opobj *op, uint32_t task, int32_t code);
int32_t net_start(opobj *op, pyhost *h, uint32_t task);
PyObject *net_result(opobj *op, uint32_t task, int32_t code);
void net_discard(opobj *op, PyObject *result);

/* -- Deadlines and options (netopt.c) ---------------------------------------- */

/* A method that takes a time, which arg_ns reads, and gives it to the core. */
#define NET_TIME(method, object, arg_ns, set)             \
    static PyObject *method(object *self, PyObject *when) \
    {                                                     \
        int64_t ns;                                       \
        if (arg_ns(when, &ns) < 0)                        \
            return NULL;                                  \
        set(self->core, ns);                              \
        THREAD_KICK(STATE(self));                         \
        Py_RETURN_NONE;                                   \
    }

typedef int64_t (*option_getter)(void *core, int option);
typedef int (*option_setter)(void *core, int option, int64_t value);

PyObject *option_get(mod_state *st, PyObject *self, PyObject *name, option_getter get, void *core);
PyObject *option_set(mod_state *st, PyObject *self, PyObject *args, option_setter set, void *core);
/* The methods NAME_option and NAME_set_option. */
#define NET_OPTIONS(name, object)                                                                                   \
    static int64_t get_option(void *core, int option) { return tdl_##name##_option(core, option); }                 \
    static int set_option(void *core, int option, int64_t value)                                                    \
    {                                                                                                               \
        return tdl_##name##_set_option(core, option, value);                                                        \
    }                                                                                                               \
    static PyObject *name##_option(object *self, PyObject *which)                                                   \
    {                                                                                                               \
        return option_get(STATE(self), (PyObject *)self, which, get_option, self->core);                            \
    }                                                                                                               \
    static PyObject *name##_set_option(object *self, PyObject *args)                                                \
    {                                                                                                               \
        return option_set(STATE(self), (PyObject *)self, args, set_option, self->core);                             \
    }
PyObject *tcp_info_get(mod_state *st, PyObject *self, tdl_conn *core);

/* -- The module -------------------------------------------------------------- */

/* Adds the types and functions of these files. 0, or -1 with an exception. */
int net_setup(PyObject *module, mod_state *st);
/* oscall.c, file.c, process.c. */
int os_setup(PyObject *module, mod_state *st);
PyObject *dial_call(mod_state *st, PyObject *network, PyObject *address, int64_t ns, PyObject *local,
                    PyObject *delay);
PyObject *conn_send_fds(PyObject *c, PyObject *args);
/* copycall.c */
PyObject *conn_copy(PyObject *c, PyObject *args);
PyObject *conn_send_file(PyObject *c, PyObject *args, PyObject *kwargs);
extern PyMethodDef copy_functions[];
PyObject *conn_recv_fds(PyObject *c, PyObject *args, PyObject *kwargs);
/* Text without a NUL; NULL with an exception. */
const char *text_arg(PyObject *object, const char *what);
/* Raises what a failed open means: "verb network address: …". NULL. */
PyObject *raise_open(mod_state *st, int code, const char *verb, const char *network, const char *address);

extern const call_kind server_next_kind;
extern PyType_Spec server_spec;
extern PyMethodDef server_functions[];
extern PyType_Spec dgram_spec, fd_spec, call_spec;
extern PyMethodDef dgram_functions[], fd_functions[];

#endif
