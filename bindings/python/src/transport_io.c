/* SPDX-License-Identifier: MIT
 *
 * Stream transports: reading and writing. See transport.h for the invariants. */
#include "sockets.h"
#include "transport.h"
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define IOVECS 64
#define LARGE (32 * 1024) /* who reads that much at once gets it without a copy */

/* -- System calls ---------------------------------------------------------- */

static ssize_t
get(trobj *t, void *to, size_t n)
{
    return t->is_pipe ? read(t->fd.fd, to, n) : recv(t->fd.fd, to, n, 0);
}

static ssize_t
put(trobj *t, const void *from, size_t n)
{
    return t->is_pipe ? write(t->fd.fd, from, n) : send(t->fd.fd, from, n, MSG_NOSIGNAL);
}

static ssize_t
putv(trobj *t, struct iovec *v, int n)
{
    if (t->is_pipe)
        return writev(t->fd.fd, v, n);
    struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)n};
    return sendmsg(t->fd.fd, &m, MSG_NOSIGNAL);
}

/* -- Reading --------------------------------------------------------------- */

static const char *
read_error(trobj *t)
{
    return t->is_pipe ? "Fatal read error on pipe transport" : "Fatal read error on socket transport";
}

/* Terminals give a line at a time, pipes of packets one of those. */
static bool
more_in_pipe(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) != 0;
}

/* data_received of the protocol raised. A pipe lives on, as asyncio's does. */
static void
data_failed(trobj *t, const char *message)
{
    if (t->is_pipe && t->l != NULL)
        tr_callback_failed(t, t->l, "_read_ready");
    else
        tr_fatal(t, message);
}

/* What a read of n bytes into room for `size` says about what is left; an end or
 * an error reads as readable until it is met. */
static void
after_read(trobj *t, Py_ssize_t n, Py_ssize_t size)
{
    if (n < size && !t->hup) {
        char c;
        t->readable = t->check_empty && (t->is_pipe ? more_in_pipe(t->fd.fd)
                                                    : recv(t->fd.fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) >= 0);
        if (!t->readable)
            ploop_fd_want(&t->fd, PLOOP_READ);
    }
    t->hint = n;
}

/* n <= 0. */
static void
no_data(trobj *t, ssize_t n)
{
    if (n == 0) {
        t->readable = false;
        t->ended = true;
        tr_call(t, t->st->tr.s_on_eof, NULL);
    } else if (would_block()) {
        t->readable = errno == EINTR;
        if (!t->readable)
            ploop_fd_want(&t->fd, PLOOP_READ);
    } else {
        t->readable = false;
        PyErr_SetFromErrno(PyExc_OSError);
        tr_fatal(t, read_error(t));
    }
}

/* Bytes objects that were handed over and that nobody kept are used again: most
 * readers decode, copy or send what they get, and allocating is the dearest part of
 * a small read. */
static PyObject *
bytes_new(struct tr_state *tr, const char *from, Py_ssize_t n)
{
    PyObject *data = tr->spare;
    if (data == NULL || n > tr->spare_room || n < tr->spare_room / 2)
        return PyBytes_FromStringAndSize(from, n);
    tr->spare = NULL;
    Py_SET_SIZE(data, n);
    memcpy(PyBytes_AS_STRING(data), from, (size_t)n);
    PyBytes_AS_STRING(data)[n] = '\0';
    return data;
}

static void
bytes_done(struct tr_state *tr, PyObject *data)
{
#ifndef Py_GIL_DISABLED
    Py_ssize_t n = PyBytes_GET_SIZE(data);
    if (Py_REFCNT(data) == 1 && n > 64 && n <= LARGE && tr->spare == NULL) {
        forget_hash(data);
        tr->spare = data;
        tr->spare_room = n;
        return;
    }
#endif
    (void)tr;
    Py_DECREF(data);
}

static void
received(trobj *t, PyObject *data)
{
    struct tr_state *tr = &t->st->tr;
    PyObject *r = NULL;
    PyObject *call = t->on_data;
    if (data != NULL && call == NULL) {
        call = PyObject_GetAttr(t->protocol, t->st->tr.s_data_received);
        if (call != NULL) {
            r = PyObject_CallOneArg(call, data);
            Py_DECREF(call);
        }
    } else if (data != NULL) {
        Py_INCREF(call); /* a callback may set another protocol */
        if (PyMethod_Check(call)) {
            PyObject *args[] = {PyMethod_GET_SELF(call), data};
            r = PyObject_Vectorcall(PyMethod_GET_FUNCTION(call), args, 2, NULL);
        } else {
            r = PyObject_CallOneArg(call, data);
        }
        Py_DECREF(call);
    }
    if (data != NULL)
        bytes_done(tr, data);
    Py_XDECREF(r);
    if (r == NULL)
        data_failed(t, "Fatal error: protocol.data_received() call failed.");
}

/* A large reader: straight into the bytes object that it gets. */
static void
read_large(trobj *t)
{
    PyObject *data = PyBytes_FromStringAndSize(NULL, PLOOP_SCRATCH);
    if (data == NULL) {
        tr_fatal(t, read_error(t));
        return;
    }
    ssize_t n = get(t, PyBytes_AS_STRING(data), PLOOP_SCRATCH);
    if (n <= 0) {
        int e = errno;
        Py_DECREF(data);
        errno = e;
        no_data(t, n);
        return;
    }
    after_read(t, n, PLOOP_SCRATCH);
    if (n < PLOOP_SCRATCH / 2) { /* a resize would keep the pages */
        PyObject *exact = PyBytes_FromStringAndSize(PyBytes_AS_STRING(data), n);
        Py_SETREF(data, exact);
    } else if (n < PLOOP_SCRATCH) {
        _PyBytes_Resize(&data, n);
    }
    received(t, data);
}

static void
read_plain(trobj *t)
{
    if (t->hint >= LARGE && t->mode == TR_PLAIN) {
        read_large(t);
        return;
    }
    char *scratch = ploop_scratch(t->l);
    if (scratch == NULL) {
        tr_fatal(t, read_error(t));
        return;
    }
    ssize_t n = get(t, scratch, PLOOP_SCRATCH);
    if (n <= 0) {
        no_data(t, n);
        return;
    }
    after_read(t, n, PLOOP_SCRATCH);
    if (t->mode == TR_STREAM) {
        if (reader_feed(t->l, t->protocol, t->on_data, t->on_updated, scratch, n) < 0)
            data_failed(t, "Fatal error: protocol.data_received() call failed.");
        return;
    }
    if (t->mode == TR_TLS) {
        if (tls_feed(t, scratch, n) < 0)
            tr_fatal(t, "Fatal error: protocol.buffer_updated() call failed.");
        return;
    }
    received(t, bytes_new(&t->st->tr, scratch, n));
}

static void
read_buffered(trobj *t)
{
    static const char failed[] = "Fatal error: protocol.get_buffer() call failed.";
    struct tr_state *tr = &t->st->tr;
    Py_buffer view;
    PyObject *call = Py_XNewRef(t->on_data);
    if (call == NULL)
        call = PyObject_GetAttr(t->protocol, tr->s_get_buffer);
    PyObject *room = call ? PyObject_CallOneArg(call, tr->minus_one) : NULL;
    Py_XDECREF(call);
    if (room == NULL) {
        tr_fatal(t, failed);
        return;
    }
    if (t->conn_lost || t->mode != TR_BUFFERED) { /* that is what get_buffer did */
        Py_DECREF(room);
        return;
    }
    if (PyObject_GetBuffer(room, &view, PyBUF_WRITABLE) < 0) {
        Py_DECREF(room);
        tr_fatal(t, read_error(t));
        return;
    }
    if (view.len == 0) {
        PyBuffer_Release(&view);
        Py_DECREF(room);
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
        tr_fatal(t, failed);
        return;
    }
    ssize_t n = get(t, view.buf, (size_t)view.len);
    int e = errno;
    Py_ssize_t size = view.len;
    PyBuffer_Release(&view);
    Py_DECREF(room);
    errno = e;
    if (n <= 0) {
        no_data(t, n);
        return;
    }
    after_read(t, n, size);
    PyObject *count = PyLong_FromSsize_t(n), *r = NULL;
    call = Py_XNewRef(t->on_updated);
    if (call == NULL && count != NULL)
        call = PyObject_GetAttr(t->protocol, tr->s_buffer_updated);
    if (call != NULL && count != NULL)
        r = PyObject_CallOneArg(call, count);
    Py_XDECREF(call);
    Py_XDECREF(count);
    Py_XDECREF(r);
    if (r == NULL)
        tr_fatal(t, "Fatal error: protocol.buffer_updated() call failed.");
}

static bool
wants_read(trobj *t)
{
    return t->readable && t->attached && !t->paused && !t->closing && !t->conn_lost && !t->ended;
}

/* One read; whatever is left is for the next turn. */
static void
read_once(trobj *t)
{
    t->read_in = t->l->turn;
    if (t->mode == TR_BUFFERED)
        read_buffered(t);
    else
        read_plain(t);
    if (wants_read(t))
        ploop_later_add(t->l, &t->again);
}

/* -- Writing --------------------------------------------------------------- */

static const char *
write_error(trobj *t)
{
    return t->is_pipe ? "Fatal write error on pipe transport" : "Fatal write error on socket transport";
}

static void
write_failed(trobj *t)
{
    PyErr_SetFromErrno(PyExc_OSError);
    tr_fatal(t, write_error(t));
}

/* Queues what is left of n bytes after the first `done`. None, or NULL with an
 * exception of the protocol's that leaves the loop. */
static PyObject *
queue_rest(trobj *t, PyObject *data, const char *from, Py_ssize_t n, Py_ssize_t done)
{
    PyObject *keep = PyBytes_CheckExact(data) ? Py_NewRef(data)
                                              : PyBytes_FromStringAndSize(from + done, n - done);
    if (keep == NULL)
        return NULL;
    int rc = tr_queue(t, keep, keep == data ? done : 0, NULL);
    Py_DECREF(keep);
    if (rc < 0 || tr_pause_protocol(t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
write_bytes(trobj *t, PyObject *data, const char *from, Py_ssize_t n)
{
    ssize_t done = 0;
    if (t->q_len == 0) {
        done = put(t, from, (size_t)n);
        if (done == n)
            Py_RETURN_NONE;
        if (done < 0) {
            if (!would_block()) {
                write_failed(t);
                Py_RETURN_NONE;
            }
            done = 0;
        }
    }
    return queue_rest(t, data, from, n, done);
}

PyObject *
tr_write(trobj *t, PyObject *data)
{
    OWN(TR_OWN(t), NULL);
    if (!PyBytes_CheckExact(data) && tr_check_data(data) < 0) {
        if (!t->is_pipe) { /* the text is not the same in all of asyncio's versions */
            PyObject *text = PyErr_GetRaisedException();
            PyObject *r = PyObject_CallMethod((PyObject *)t, "_refuse", "O", data);
            Py_XDECREF(r);
            if (r == NULL)
                Py_DECREF(text);
            else
                PyErr_SetRaisedException(text);
        }
        return NULL;
    }
    if (t->eof) {
        PyErr_SetString(PyExc_RuntimeError, "Cannot call write() after write_eof()");
        return NULL;
    }
    if (t->empty_waiter != NULL && t->empty_waiter != Py_None) {
        PyErr_SetString(PyExc_RuntimeError, "unable to write; sendfile is in progress");
        return NULL;
    }
    if (PyBytes_CheckExact(data)) {
        if (PyBytes_GET_SIZE(data) == 0)
            Py_RETURN_NONE;
        if (t->conn_lost) {
            tr_warn_lost(t);
            Py_RETURN_NONE;
        }
        return write_bytes(t, data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data));
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        if (t->conn_lost)
            PyErr_Clear();
        else
            tr_fatal(t, write_error(t));
        Py_RETURN_NONE;
    }
    PyObject *r = NULL;
    if (view.len == 0) {
        r = Py_NewRef(Py_None);
    } else if (t->conn_lost) {
        tr_warn_lost(t);
        r = Py_NewRef(Py_None);
    } else {
        r = write_bytes(t, data, view.buf, view.len);
    }
    PyBuffer_Release(&view);
    return r;
}

/* Sends as much of the views as goes at once, and queues the rest. */
static PyObject *
write_views(trobj *t, PyObject **items, Py_buffer *views, Py_ssize_t n)
{
    Py_ssize_t i = 0, off = 0; /* where to go on */
    while (t->q_len == 0 && i < n) {
        struct iovec v[IOVECS];
        int nv = 0;
        size_t sum = 0;
        for (Py_ssize_t k = i; k < n && nv < IOVECS; k++) {
            Py_ssize_t from = k == i ? off : 0;
            if (views[k].len == from)
                continue;
            v[nv++] = (struct iovec){(char *)views[k].buf + from, (size_t)(views[k].len - from)};
            sum += (size_t)(views[k].len - from);
        }
        if (nv == 0)
            Py_RETURN_NONE;
        ssize_t done = putv(t, v, nv);
        if (done < 0) {
            if (!would_block()) {
                write_failed(t);
                Py_RETURN_NONE;
            }
            break;
        }
        bool all = (size_t)done == sum;
        while (done > 0 || (i < n && views[i].len == off)) {
            Py_ssize_t left = views[i].len - off;
            if (done < left) {
                off += done;
                break;
            }
            done -= left;
            i++;
            off = 0;
        }
        if (!all)
            break;
    }
    for (; i < n; i++, off = 0) {
        if (views[i].len == off)
            continue;
        PyObject *keep = PyBytes_CheckExact(items[i])
                             ? Py_NewRef(items[i])
                             : PyBytes_FromStringAndSize((char *)views[i].buf + off, views[i].len - off);
        int rc = keep ? tr_queue(t, keep, keep == items[i] ? off : 0, NULL) : -1;
        Py_XDECREF(keep);
        if (rc < 0)
            return NULL;
    }
    if (tr_pause_protocol(t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* What asyncio's way of putting the pieces together says of one. */
static void
not_bytes(PyObject *piece, Py_ssize_t i)
{
#if PY_VERSION_HEX < 0x030c0000
    PyErr_Format(PyExc_TypeError, "sequence item %zd: expected a bytes-like object, %.80s found", i,
                 Py_TYPE(piece)->tp_name);
#else
    (void)i;
    PyErr_Format(PyExc_TypeError, "memoryview: a bytes-like object is required, not '%.200s'", Py_TYPE(piece)->tp_name);
#endif
}

PyObject *
tr_writelines(trobj *t, PyObject *list)
{
    OWN(TR_OWN(t), NULL);
    if (t->eof) {
        PyErr_SetString(PyExc_RuntimeError, "Cannot call writelines() after write_eof()");
        return NULL;
    }
    if (t->empty_waiter != NULL && t->empty_waiter != Py_None) {
        PyErr_SetString(PyExc_RuntimeError, "unable to writelines; sendfile is in progress");
        return NULL;
    }
    PyObject *fast = PySequence_Tuple(list); /* nobody changes it meanwhile */
    if (fast == NULL)
        return NULL;
    Py_ssize_t n = PyTuple_GET_SIZE(fast), got = 0;
    PyObject **items = ((PyTupleObject *)fast)->ob_item, *r = NULL;
    Py_buffer few[16], *views = few;
    if (n > 16 && (views = PyMem_New(Py_buffer, (size_t)n)) == NULL) {
        Py_DECREF(fast);
        return PyErr_NoMemory();
    }
    bool any = false;
    for (; got < n; got++) {
        if (PyObject_GetBuffer(items[got], &views[got], PyBUF_SIMPLE) < 0) {
            if (PyErr_ExceptionMatches(PyExc_TypeError))
                not_bytes(items[got], got);
            goto out;
        }
        any |= views[got].len > 0;
    }
    if (!any) {
        r = Py_NewRef(Py_None);
    } else if (t->conn_lost) {
        tr_warn_lost(t);
        r = Py_NewRef(Py_None);
    } else {
        r = write_views(t, items, views, n);
    }
out:
    while (got > 0)
        PyBuffer_Release(&views[--got]);
    if (views != few)
        PyMem_Free(views);
    Py_DECREF(fast);
    return r;
}

/* -1: shutdown failed, with errno. */
static int
end_writing(trobj *t)
{
    return t->is_pipe ? 0 : shutdown(t->fd.fd, SHUT_WR);
}

/* All is sent: whoever waited for that goes on. */
static void
drained(trobj *t)
{
    struct tr_state *tr = &t->st->tr;
    if (t->empty_waiter != NULL && t->empty_waiter != Py_None) {
        PyObject *r = PyObject_CallMethodOneArg(t->empty_waiter, tr->s_set_result, Py_None);
        if (r == NULL)
            PyErr_WriteUnraisable((PyObject *)t);
        Py_XDECREF(r);
    }
    if (t->closing) {
        if (!t->conn_lost)
            tr_lost_now(t, "_write_ready");
    } else if (t->eof && end_writing(t) < 0) {
        write_failed(t);
    }
}

void
tr_flush(trobj *t)
{
    while (t->q_len > 0 && !t->conn_lost) {
        struct iovec v[IOVECS];
        size_t sum = 0;
        int nv = 0;
        for (; nv < IOVECS && (uint32_t)nv < t->q_len; nv++) {
            trchunk *c = tr_first(t, (uint32_t)nv);
            v[nv].iov_base = PyBytes_AS_STRING(c->data) + c->off;
            v[nv].iov_len = (size_t)(PyBytes_GET_SIZE(c->data) - c->off);
            sum += v[nv].iov_len;
        }
        ssize_t n = putv(t, v, nv);
        if (n < 0) {
            if (would_block()) {
                ploop_fd_want(&t->fd, PLOOP_WRITE);
                return;
            }
            tr_queue_clear(t);
            PyErr_SetFromErrno(PyExc_OSError);
            if (t->empty_waiter != NULL && t->empty_waiter != Py_None) {
                PyObject *exc = PyErr_GetRaisedException();
                PyObject *r = PyObject_CallMethodOneArg(t->empty_waiter, t->st->tr.s_set_exception, exc);
                if (r == NULL)
                    PyErr_Clear();
                Py_XDECREF(r);
                PyErr_SetRaisedException(exc);
            }
            tr_fatal(t, write_error(t));
            return;
        }
        bool all = (size_t)n == sum;
        while (n > 0) {
            trchunk *c = tr_first(t, 0);
            Py_ssize_t left = PyBytes_GET_SIZE(c->data) - c->off;
            if (n < left) {
                c->off += n;
                t->queued -= n;
                break;
            }
            n -= left;
            tr_queue_pop(t);
        }
        if (tr_resume_protocol(t) < 0)
            tr_fatal(t, write_error(t));
        if (!all) { /* an edge comes when there is room */
            ploop_fd_want(&t->fd, PLOOP_WRITE);
            return;
        }
    }
    if (t->q_len == 0 && !t->conn_lost)
        drained(t);
}

static PyObject *
tr_write_eof(trobj *t, PyObject *Py_UNUSED(ignored))
{
    OWN(TR_OWN(t), NULL);
    if (t->closing || t->eof)
        Py_RETURN_NONE;
    t->eof = 1;
    if (t->q_len == 0 && end_writing(t) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *
tr_can_write_eof(PyObject *Py_UNUSED(t), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

/* -- Events ---------------------------------------------------------------- */

void
tr_event(ploop_fd *f, unsigned ready)
{
    trobj *t = (trobj *)((char *)f - offsetof(trobj, fd));
    if (ready & PLOOP_HUP)
        t->hup = true;
    if (ready & (PLOOP_READ | PLOOP_HUP))
        t->readable = true;
    bool reads = wants_read(t);
    bool writes = t->q_len > 0 && ready & (PLOOP_WRITE | PLOOP_HUP);
    if (reads && t->read_in == t->l->turn) { /* what was left to this turn has been read */
        ploop_later_add(t->l, &t->again);
        reads = false;
    }
    if (!reads && !writes)
        return;
    double start;
    Py_INCREF(t);
    if (tr_enter(t, &start)) {
        if (reads)
            read_once(t);
        if (writes && t->q_len > 0 && t->attached)
            tr_flush(t);
        tr_leave(t, start);
    }
    Py_DECREF(t);
}

void
tr_again(ploop_later *n)
{
    trobj *t = (trobj *)((char *)n - offsetof(trobj, again));
    double start;
    if (!wants_read(t))
        return;
    Py_INCREF(t);
    if (tr_enter(t, &start)) {
        read_once(t);
        tr_leave(t, start);
    }
    Py_DECREF(t);
}

static PyMethodDef stream_methods[] = {
    {"write", (PyCFunction)tr_write, METH_O, "Sends data; what cannot be sent at once is queued."},
    {"writelines", (PyCFunction)tr_writelines, METH_O, "Sends several pieces, with one system call."},
    {"write_eof", (PyCFunction)tr_write_eof, METH_NOARGS, "Ends the sending, after what was written."},
    {"can_write_eof", (PyCFunction)tr_can_write_eof, METH_NOARGS, "Always true."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, "A stream transport's hot half (internal)."},
    {Py_tp_methods, stream_methods},
    {0, NULL},
};

PyType_Spec stream_spec = {
    .name = "treadle._treadle._StreamTransport",
    .basicsize = sizeof(trobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = stream_slots,
};
