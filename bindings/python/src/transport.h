/* SPDX-License-Identifier: MIT
 *
 * asyncio's transports in C: what their files share.
 *
 * A transport of the package is a Python class (treadle/_transports.py) that
 * inherits one of the C types here: C has what runs for every read and write,
 * Python what runs once in a connection's life, with asyncio's texts.
 *
 * Invariants.
 *  - Everything runs on the thread of the loop, with its GIL.
 *  - While `attached` the descriptor is registered with the loop, once and
 *    edge-triggered, and the loop's set `live` holds the transport. So
 *    `readable` says what the kernel will not tell again: it is set by an edge,
 *    and cleared by EAGAIN or by a read that left room in the buffer while no
 *    end of the stream had been announced.
 *  - `again` is in the loop's list exactly while there is something to read
 *    that no edge will announce, and reading is wanted.
 *  - The queue of writes is only used while a send would block; what is in it
 *    are bytes objects, so that nobody can change them.
 *  - connection_lost is called once, from the loop, never inside a call of the
 *    user's; conn_lost counts from the moment it is scheduled. */
#ifndef TDLPY_TRANSPORT_H
#define TDLPY_TRANSPORT_H

#include "state.h"
#include "loop.h"
#include "stream_record.h"

typedef struct {
    PyObject *data; /* bytes */
    PyObject *addr; /* a datagram's, or NULL */
    Py_ssize_t off; /* what is sent already */
} trchunk;

/* How what is read is handed over. */
enum tr_mode { TR_PLAIN, TR_BUFFERED, TR_STREAM, TR_TLS };

typedef struct trobj {
    PyObject_HEAD
    PyObject *extra; /* the slot _extra of asyncio.BaseTransport */
    PyObject *unused[4]; /* the slots of asyncio's _FlowControlMixin */
    PyObject *dict, *weakrefs;
    mod_state *st;
    PyObject *module; /* strong, so that st stays */
    ploop *l;         /* the loop's C side; NULL after connection_lost */
#ifdef Py_GIL_DISABLED
    ploop *home; /* the loop, strong, as long as the transport: its owner is ours */
#endif
    PyObject *loop, *sock, *protocol, *server, *context, *empty_waiter;
    PyObject *on_data;    /* bound data_received, get_buffer or datagram_received; TR_STREAM: weak, the reader */
    PyObject *on_updated; /* bound buffer_updated; TR_STREAM: the reader's record */
    ploop_fd fd;
    ploop_later again;
    trchunk *queue; /* a ring */
    uint32_t q_head, q_len, q_cap; /* q_cap: a power of two, or 0 */
    Py_ssize_t queued;             /* bytes in it */
    Py_ssize_t high, low;
    uint64_t read_in; /* the turn of the loop of the last read: one read a turn */
    Py_ssize_t hint; /* how much the last read brought */
    int conn_lost;
    uint8_t mode;
    bool attached, readable, ended, hup; /* ended: end of the stream was read */
    bool check_empty; /* a short read does not say that all was read */
    bool is_pipe;     /* read and write, not recv and send */
    bool is_dgram;
    bool owns_fd; /* fd.fd is a duplicate, see transport_pipe.c */
    uint8_t watches_reader; /* a write pipe: WATCH_ */
    int late_writes;        /* a write pipe: what was written after its end */
    char closing, paused, eof, protocol_paused, connected;
} trobj;

enum { WATCH_PIPE = 1, WATCH_SOCKET };

#define TR_OWN(t) (((trobj *)(t))->home != NULL ? &((trobj *)(t))->home->own : NULL)

extern PyType_Spec stream_spec, dgram_transport_spec, read_pipe_spec, write_pipe_spec;

/* transport.c */
int transport_setup(PyObject *module, mod_state *st);
void transport_free_names(mod_state *st);
PyObject *tr_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
int tr_traverse(trobj *t, visitproc visit, void *arg);
int tr_clear(trobj *t);
void tr_dealloc(trobj *t);
PyObject *tr_close(trobj *t, PyObject *ignored);

/* transport_call.c */
/* When the loop calls the transport: its context, and in debug mode a look at the
 * time; leave clears what tr_enter began. false: an exception was reported. */
bool tr_enter(trobj *t, double *start);
void tr_leave(trobj *t, double start);
/* Calls a method of the Python class; errors go to the loop. */
void tr_call(trobj *t, PyObject *name, PyObject *arg);
void tr_lost_now(trobj *t, const char *method); /* connection_lost(None), within that method */
void tr_warn_lost(trobj *t); /* something was written to a connection that is lost */
/* The exception that is set ends the transport; message: asyncio's. */
void tr_fatal(trobj *t, const char *message);
/* What a callback of the protocol raised when the loop had called it, in asyncio's words.
 * l may be NULL. */
void tr_callback_failed(trobj *t, ploop *l, const char *method);

/* transport_queue.c */
#if PY_VERSION_HEX >= 0x030d0000
#define TR_HEADER 8 /* what a datagram in the queue counts besides its data, as in asyncio */
#else
#define TR_HEADER 0
#endif
/* asyncio's texts for what is no bytes-like object. -1: exception */
int tr_check_data(PyObject *data);
int tr_queue(trobj *t, PyObject *bytes, Py_ssize_t off, PyObject *addr); /* 0, or -1 with an exception */
void tr_queue_pop(trobj *t);
void tr_queue_clear(trobj *t);
static inline trchunk *
tr_first(trobj *t, uint32_t i)
{
    return &t->queue[(t->q_head + i) & (t->q_cap - 1)];
}
int tr_pause_protocol(trobj *t);  /* if the queue is over the mark */
int tr_resume_protocol(trobj *t); /* if it is below */
/* Methods of every transport. */
PyObject *tr_maybe_pause(trobj *t, PyObject *ignored);
PyObject *tr_maybe_resume(trobj *t, PyObject *ignored);
PyObject *tr_set_limits(trobj *t, PyObject *args, PyObject *kwargs);
PyObject *tr_get_limits(trobj *t, PyObject *ignored);
PyObject *tr_get_size(trobj *t, PyObject *ignored);

/* transport_io.c */
void tr_event(ploop_fd *f, unsigned ready);
void tr_again(ploop_later *n);
PyObject *tr_write(trobj *t, PyObject *data);
PyObject *tr_writelines(trobj *t, PyObject *list);
void tr_flush(trobj *t);

/* transport_reader.c, for a protocol that is asyncio's StreamReaderProtocol with a reader of our
 * class. 1: it is; *ref is a weak reference to the reader and *record its record; 0: it is not;
 * -1: exception. */
int reader_find(struct tr_state *tr, PyObject *protocol, PyObject **ref, PyObject **record);
/* Hands n bytes to the reader. 0, or -1 with an exception. */
int reader_feed(ploop *l, PyObject *protocol, PyObject *ref, PyObject *record, const char *data, Py_ssize_t n);

/* transport_tls.c: t->protocol has TLSCore as a base; it gets n bytes from the
 * network. 0, or -1 with an exception that is not the TLS protocol's own. */
int tls_feed(trobj *t, const char *data, Py_ssize_t n);
bool tls_check(mod_state *st, PyObject *protocol);
int tls_setup(PyObject *module, mod_state *st);
PyObject *tls_use(PyObject *module, PyObject *args);


/* A field of asyncio's protocols and writers, straight from their __dict__: classes that were
 * put over an object make every other look-up slow. NULL: exception. */
static inline PyObject *
field(PyObject *dict, PyObject *name)
{
    PyObject *value;
#ifdef Py_GIL_DISABLED
    dict_get(dict, name, &value);
#else
    value = PyDict_GetItemWithError(dict, name);
#endif
    if (value == NULL && !PyErr_Occurred())
        PyErr_SetObject(PyExc_AttributeError, name);
    return value;
}

/* transport_streams.c */
bool streams_look(struct tr_state *tr, int which, PyTypeObject *type, uint64_t tag);

static inline PyTypeObject *
stock_class(struct tr_state *tr, int which)
{
    return (PyTypeObject *)(which < STOCK_WRITE        ? tr->StreamReader
                            : which == STOCK_RECEIVED  ? tr->StreamReaderProtocol
                                                       : tr->StreamWriter);
}

/* Is this method of asyncio's still its own? Programs replace methods of asyncio's classes. That is
 * looked after once for each state of the class. */
static inline bool
streams_stock(struct tr_state *tr, int which)
{
    PyTypeObject *type = stock_class(tr, which);
    if (type == NULL)
        return false;
    uint64_t known = SEEN(tr->stock_known[which]), tag = SEEN(type->tp_version_tag);
    return known > 1 && known >> 1 == tag ? known & 1 : streams_look(tr, which, type, tag);
}

int streams_setup(PyObject *module, mod_state *st);
void streams_forget(struct tr_state *tr); /* once no reads are made any more */
PyObject *streams_use(PyObject *module, PyObject *args);

#endif
