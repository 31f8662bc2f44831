/* SPDX-License-Identifier: MIT
 *
 * Datagram transports: UDP and unix datagrams.
 *
 * Sockets of the internet and of unix that are plain socket.socket are read with
 * recvmmsg and sent with sendmmsg; any other goes by its own methods, as asyncio's do.
 *
 * Invariants, beside those of transport.h.
 *  - One batch is read in a turn, and the next only when all of it was handed over: what a
 *    protocol that pauses has left is in data[idata..ndata), and `readable` stays set.
 *  - known[] has the addresses that were heard of last, by their sockaddr: the tuple that a
 *    protocol is given is one object for each sender, and an answer finds its sockaddr there.
 *  - A unix datagram to somebody whose queue is full is refused while poll calls the socket
 *    writable, unless it is connected: no event tells when there is room. Such a queue is
 *    tried again after a while (`retrying`). */
#define _GNU_SOURCE
#include "sockets.h"
#include "transport.h"
#include "structmember.h"
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

enum { PACKETS = 16, PACKET_ROOM = 64 * 1024, UNIX_PACKET_ROOM = 256 * 1024, KNOWN = 64 };

typedef struct {
    PyObject *object;
    socklen_t n;
    union { struct sockaddr_in in; struct sockaddr_in6 in6; char bytes[sizeof(struct sockaddr_in6)]; } to;
} known_address;

typedef struct {
    trobj t;
    PyObject *address;                  /* asyncio's remote address, or NULL */
    PyObject *data[PACKETS], *from[PACKETS]; /* a batch; strong from idata on */
    int idata, ndata;
    int family;
    char has_peer; /* its socket is connected */
    char unnamed;  /* to a peer that has no name, which asyncio takes for none: one of socketpair() */
    char retrying;
    bool plain; /* by system calls of ours */
    known_address *known, *last;
} dgobj;

/* Room for a batch, of a loop. */
struct ploop_dgrams {
    struct mmsghdr headers[PACKETS];
    struct iovec parts[PACKETS];
    sock_address from[PACKETS];
    char room[PACKETS * PACKET_ROOM];
};

/* -- Addresses ------------------------------------------------------------- */

static known_address *
known_place(dgobj *d, const sock_address *a, socklen_t n)
{
    if (n > sizeof d->known->to || (a->sa.sa_family != AF_INET && a->sa.sa_family != AF_INET6))
        return NULL;
    if (d->known == NULL && (d->known = PyMem_Calloc(KNOWN, sizeof *d->known)) == NULL)
        return NULL;
    uint32_t hash = 2166136261u;
    for (socklen_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)a->bytes[i]) * 16777619u;
    return &d->known[(hash ^ (hash >> 16)) % KNOWN];
}

static PyObject *
sender(dgobj *d, const sock_address *a, socklen_t n)
{
    known_address *k = known_place(d, a, n);
    if (k == NULL)
        return sock_address_object(a, n);
    if (k->object == NULL || k->n != n || memcmp(&k->to, a, n) != 0) {
        PyObject *object = sock_address_object(a, n);
        if (object == NULL)
            return NULL;
        Py_XSETREF(k->object, object);
        k->n = n;
        memcpy(&k->to, a, n);
    }
    d->last = k;
    return Py_NewRef(k->object);
}

/* Is it for whom the socket is connected to? */
static bool
to_peer(const dgobj *d, PyObject *to)
{
    return d->has_peer || (d->unnamed && to == Py_None);
}

/* Where to send. Its length; 0: an address for the socket module to understand. */
static socklen_t
destination(dgobj *d, PyObject *object, sock_address *a)
{
    if (d->last == NULL || d->last->object != object)
        return sock_address_parse(a, d->family, object);
    memcpy(a, &d->last->to, d->last->n);
    return d->last->n;
}

/* -- Errors ---------------------------------------------------------------- */

/* The OSError that is set goes to protocol.error_received. 0, or -1: it raised. */
static int
error_received(trobj *t)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *r = t->protocol == NULL ? Py_NewRef(Py_None)
                                      : PyObject_CallMethodOneArg(t->protocol, t->st->tr.s_error_received, exc);
    Py_DECREF(exc);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

/* The exception that is set, of an attempt that the loop made. */
static void
failed(trobj *t, const char *method, const char *message)
{
    if (!PyErr_ExceptionMatches(PyExc_OSError))
        tr_fatal(t, message);
    else if (error_received(t) < 0)
        tr_callback_failed(t, t->l, method);
}

/* Whether the exception says only that it would block; then it is cleared. */
static bool
python_would_block(void)
{
    if (!PyErr_ExceptionMatches(PyExc_BlockingIOError) && !PyErr_ExceptionMatches(PyExc_InterruptedError))
        return false;
    PyErr_Clear();
    return true;
}

/* -- Receiving ------------------------------------------------------------- */

static const char read_failed[] = "Fatal read error on datagram transport";
static const char write_failed[] = "Fatal write error on datagram transport";

static bool
wants_read(trobj *t)
{
    return t->readable && t->attached && !t->paused && !t->closing && !t->conn_lost;
}

static void
used_up(trobj *t)
{
    t->readable = false;
    ploop_fd_want(&t->fd, PLOOP_READ);
}

static void
drop_batch(dgobj *d)
{
    while (d->idata < d->ndata) {
        int i = d->idata++;
        Py_CLEAR(d->data[i]);
        Py_CLEAR(d->from[i]);
    }
    d->idata = d->ndata = 0;
}

static int
keep(dgobj *d, PyObject *data, PyObject *from)
{
    if (data == NULL || from == NULL) {
        Py_XDECREF(data);
        Py_XDECREF(from);
        return -1;
    }
    d->data[d->ndata] = data;
    d->from[d->ndata++] = from;
    return 0;
}

/* By the socket's own method. */
static void
receive_one(dgobj *d)
{
    trobj *t = &d->t;
    PyObject *pair = PyObject_CallMethod(t->sock, "recvfrom", "i", UNIX_PACKET_ROOM);
    if (pair == NULL) {
        if (python_would_block())
            used_up(t);
        else
            failed(t, "_read_ready", read_failed);
        return;
    }
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)
        PyErr_SetString(PyExc_TypeError, "recvfrom() returned no pair");
    else
        keep(d, Py_NewRef(PyTuple_GET_ITEM(pair, 0)), Py_NewRef(PyTuple_GET_ITEM(pair, 1)));
    Py_DECREF(pair);
    if (PyErr_Occurred())
        tr_fatal(t, read_failed);
}

static struct ploop_dgrams *
loop_room(ploop *l)
{
    if (l->dgrams == NULL && (l->dgrams = PyMem_RawMalloc(sizeof *l->dgrams)) == NULL)
        PyErr_NoMemory();
    return l->dgrams;
}

static void
receive(dgobj *d)
{
    trobj *t = &d->t;
    if (!d->plain) {
        receive_one(d);
        return;
    }
    struct ploop_dgrams *b = loop_room(t->l);
    if (b == NULL) {
        tr_fatal(t, read_failed);
        return;
    }
    size_t room = d->family == AF_UNIX ? UNIX_PACKET_ROOM : PACKET_ROOM;
    int most = (int)(sizeof b->room / room), n;
    for (int i = 0; i < most; i++) {
        b->parts[i] = (struct iovec){b->room + (size_t)i * room, room};
        b->headers[i].msg_hdr = (struct msghdr){
            .msg_name = &b->from[i], .msg_namelen = sizeof b->from[i], .msg_iov = &b->parts[i], .msg_iovlen = 1};
    }
    n = recvmmsg(t->fd.fd, b->headers, (unsigned)most, MSG_DONTWAIT, NULL);
    if (n < 0) {
        if (would_block()) {
            t->hup = false;
            if (errno != EINTR)
                used_up(t);
            return;
        }
        t->readable = errno != EBADF && errno != ENOTSOCK;
        PyErr_SetFromErrno(PyExc_OSError);
        failed(t, "_read_ready", read_failed);
        return;
    }
    /* Fewer than could have come: the next attempt would block, or say what went wrong. */
    if (n < most && !t->hup)
        used_up(t);
    for (int i = 0; i < n; i++)
        if (keep(d, ploop_bytes(t->l, b->parts[i].iov_base, (Py_ssize_t)b->headers[i].msg_len),
                 sender(d, &b->from[i], b->headers[i].msg_hdr.msg_namelen)) < 0) {
            tr_fatal(t, read_failed);
            return;
        }
}

static void
hand_over(dgobj *d)
{
    trobj *t = &d->t;
    while (d->idata < d->ndata && t->l != NULL && !t->paused && !t->closing && !t->conn_lost &&
           t->l->fatal == NULL) {
        int i = d->idata++;
        PyObject *args[2] = {d->data[i], d->from[i]};
        PyObject *call = Py_XNewRef(t->on_data); /* a callback may set another protocol */
        if (call == NULL)
            call = PyObject_GetAttr(t->protocol, t->st->tr.s_datagram_received);
        PyObject *r = call ? PyObject_Vectorcall(call, args, 2, NULL) : NULL;
        Py_XDECREF(call);
        Py_XDECREF(r);
        d->data[i] = d->from[i] = NULL;
        Py_DECREF(args[0]);
        Py_DECREF(args[1]);
        if (r == NULL)
            tr_callback_failed(t, t->l, "_read_ready");
    }
    if (t->closing || t->conn_lost)
        drop_batch(d);
    else if (d->idata == d->ndata)
        d->idata = d->ndata = 0;
}

static void
read_once(dgobj *d)
{
    trobj *t = &d->t;
    t->read_in = t->l->turn;
    if (d->ndata == 0)
        receive(d);
    hand_over(d);
    if (d->ndata > 0)
        t->readable = true;
    if (t->l != NULL && wants_read(t))
        ploop_later_add(t->l, &t->again);
}

/* -- Sending --------------------------------------------------------------- */

/* By the socket's own methods. 1: sent, 0: it would block, -1: exception. */
static int
send_by_method(dgobj *d, PyObject *data, PyObject *to)
{
    trobj *t = &d->t;
    PyObject *args[3] = {t->sock, data, to};
    PyObject *r = to_peer(d, to) ? PyObject_VectorcallMethod(t->st->tr.s_send, args, 2, NULL)
                                 : PyObject_VectorcallMethod(t->st->tr.s_sendto, args, 3, NULL);
    Py_XDECREF(r);
    if (r != NULL)
        return 1;
    return python_would_block() ? 0 : -1;
}

static int
send_one(dgobj *d, PyObject *data, PyObject *to)
{
    sock_address a;
    socklen_t n = 0;
    if (!d->plain || (!to_peer(d, to) && (n = destination(d, to, &a)) == 0))
        return send_by_method(d, data, to);
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return -1;
    ssize_t sent = sendto(d->t.fd.fd, view.buf, (size_t)view.len, MSG_DONTWAIT | MSG_NOSIGNAL,
                          n > 0 ? &a.sa : NULL, n);
    int error = errno;
    PyBuffer_Release(&view);
    if (sent >= 0)
        return 1;
    errno = error;
    if (would_block())
        return 0;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* Sending would block; an event comes when it does not. */
static void
wait_for_room(dgobj *d)
{
    if (d->family == AF_UNIX && !d->has_peer && !d->retrying) {
        d->retrying = 1;
        tr_call(&d->t, d->t.st->tr.s_flush_soon, NULL);
    }
    ploop_fd_want(&d->t.fd, PLOOP_WRITE);
}

static PyObject *
sendto_checked(dgobj *d, PyObject *data, PyObject *to)
{
    trobj *t = &d->t;
    if (tr_check_data(data) < 0)
        return NULL;
#if PY_VERSION_HEX < 0x030d0000 /* asyncio did not send empty ones */
    int something = PyObject_IsTrue(data);
    if (something < 0)
        return NULL;
    if (!something)
        Py_RETURN_NONE;
#endif
    if (d->address != NULL) {
        int is = to == Py_None ? 1 : PyObject_RichCompareBool(to, d->address, Py_EQ);
        if (is < 0)
            return NULL;
        if (!is)
            return PyErr_Format(PyExc_ValueError, "Invalid address: must be None or %S", d->address);
        to = d->address;
    }
    if ((t->conn_lost && d->address != NULL) || t->sock == NULL || t->sock == Py_None || t->l == NULL) {
        tr_warn_lost(t);
        Py_RETURN_NONE;
    }
    if (t->q_len == 0) {
        int rc = send_one(d, data, to);
        if (rc > 0)
            Py_RETURN_NONE;
        if (rc < 0) {
            if (PyErr_ExceptionMatches(PyExc_OSError)) {
                if (error_received(t) < 0)
                    return NULL;
            } else if (PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
                return NULL;
            } else {
                tr_fatal(t, write_failed);
            }
            Py_RETURN_NONE;
        }
    }
    PyObject *bytes = PyBytes_CheckExact(data) ? Py_NewRef(data) : PyBytes_FromObject(data);
    int rc = bytes ? tr_queue(t, bytes, 0, to) : -1;
    Py_XDECREF(bytes);
    if (rc < 0)
        return NULL;
    if (t->q_len == 1)
        wait_for_room(d);
    if (tr_pause_protocol(t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
dg_sendto(dgobj *d, PyObject *args, PyObject *kwargs)
{
    OWN(TR_OWN(d), NULL);
    static char *names[] = {"data", "addr", NULL};
    PyObject *data, *to = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:sendto", names, &data, &to))
        return NULL;
    return sendto_checked(d, data, to);
}

/* As many of the queue as go with one call. How many; 0: it would block, -1: exception. */
static int
send_batch(dgobj *d)
{
    trobj *t = &d->t;
    struct mmsghdr headers[PACKETS] = {0};
    struct iovec parts[PACKETS];
    sock_address to[PACKETS];
    int n = 0;
    for (; d->plain && n < PACKETS && (uint32_t)n < t->q_len; n++) {
        trchunk *c = tr_first(t, (uint32_t)n);
        socklen_t length = 0;
        if (!to_peer(d, c->addr) && (length = destination(d, c->addr, &to[n])) == 0)
            break;
        parts[n] = (struct iovec){PyBytes_AS_STRING(c->data), (size_t)PyBytes_GET_SIZE(c->data)};
        headers[n].msg_hdr = (struct msghdr){
            .msg_name = length > 0 ? &to[n] : NULL, .msg_namelen = length, .msg_iov = &parts[n], .msg_iovlen = 1};
    }
    if (n == 0) {
        trchunk *c = tr_first(t, 0);
        return send_by_method(d, c->data, c->addr);
    }
    n = sendmmsg(t->fd.fd, headers, (unsigned)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0)
        return n;
    if (would_block())
        return 0;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

static void
flush(dgobj *d)
{
    trobj *t = &d->t;
    while (t->q_len > 0 && !t->conn_lost) {
        int n = send_batch(d);
        if (n == 0) {
            wait_for_room(d);
            break;
        }
        if (n < 0) { /* so much for the first of them */
            PyObject *exc = PyErr_GetRaisedException();
            tr_queue_pop(t);
            PyErr_SetRaisedException(exc);
            failed(t, "_sendto_ready", write_failed);
        }
        for (; n > 0 && t->q_len > 0; n--)
            tr_queue_pop(t);
    }
    if (t->conn_lost)
        return;
    if (tr_resume_protocol(t) < 0)
        tr_fatal(t, write_failed);
    if (t->q_len == 0 && t->closing && !t->conn_lost) {
        tr_lost_now(t, "_sendto_ready");
    }
}

/* Called a while after wait_for_room. */
static PyObject *
dg_flush(dgobj *d, PyObject *Py_UNUSED(ignored))
{
    OWN(TR_OWN(d), NULL);
    d->retrying = 0;
    if (d->t.l != NULL && d->t.q_len > 0 && d->t.attached)
        flush(d);
    Py_RETURN_NONE;
}

/* -- Events ---------------------------------------------------------------- */

static void
dg_event(ploop_fd *f, unsigned ready)
{
    trobj *t = (trobj *)((char *)f - offsetof(trobj, fd));
    if (ready & PLOOP_HUP)
        t->hup = true;
    if (ready & (PLOOP_READ | PLOOP_HUP))
        t->readable = true;
    bool reads = wants_read(t), writes = t->q_len > 0 && ready & (PLOOP_WRITE | PLOOP_HUP);
    if (((dgobj *)t)->retrying) /* an attempt that fails is an event by itself */
        writes = false;
    if (reads && t->read_in == t->l->turn) { /* what was left to this turn has been read */
        ploop_later_add(t->l, &t->again);
        reads = false;
    }
    if (reads && t->l->nready > 0) { /* asyncio's come behind what was ready before */
        ploop_at_end(t->l, &t->again);
        reads = false;
    }
    double start;
    if (!reads && !writes)
        return;
    Py_INCREF(t);
    if (tr_enter(t, &start)) {
        if (reads)
            read_once((dgobj *)t);
        if (writes && t->q_len > 0 && t->attached)
            flush((dgobj *)t);
        tr_leave(t, start);
    }
    Py_DECREF(t);
}

static void
dg_again(ploop_later *node)
{
    trobj *t = (trobj *)((char *)node - offsetof(trobj, again));
    double start;
    if (!wants_read(t))
        return;
    Py_INCREF(t);
    if (tr_enter(t, &start)) {
        read_once((dgobj *)t);
        tr_leave(t, start);
    }
    Py_DECREF(t);
}

/* -- The type -------------------------------------------------------------- */

static PyObject *
dg_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    dgobj *d = (dgobj *)tr_new(type, args, kwargs);
    if (d != NULL) {
        d->t.is_dgram = true;
        d->t.fd.cb = dg_event;
        d->t.again.cb = dg_again;
    }
    return (PyObject *)d;
}

/* _connected(sock, address or None, family, the peer's name or None): before _setup. */
static PyObject *
dg_connected(dgobj *d, PyObject *args)
{
    OWN(TR_OWN(d), NULL);
    PyObject *address, *sock, *peer;
    int family;
    if (!PyArg_ParseTuple(args, "OOiO:_connected", &sock, &address, &family, &peer))
        return NULL;
    int is = PyObject_IsTrue(address), has_peer = PyObject_IsTrue(peer);
    if (is < 0 || has_peer < 0)
        return NULL;
    Py_XSETREF(d->address, is ? Py_NewRef(address) : NULL);
    d->family = family;
    d->has_peer = (char)has_peer;
    d->unnamed = !has_peer && peer != Py_None && family == AF_UNIX;
    d->plain = Py_IS_TYPE(sock, (PyTypeObject *)d->t.st->SocketType) &&
               (family == AF_INET || family == AF_INET6 || family == AF_UNIX);
    Py_RETURN_NONE;
}

static int
dg_traverse(dgobj *d, visitproc visit, void *arg)
{
    Py_VISIT(d->address);
    for (int i = d->idata; i < d->ndata; i++) {
        Py_VISIT(d->data[i]);
        Py_VISIT(d->from[i]);
    }
    return tr_traverse(&d->t, visit, arg);
}

static int
dg_clear(dgobj *d)
{
    drop_batch(d);
    Py_CLEAR(d->address);
    d->last = NULL;
    for (int i = 0; d->known != NULL && i < KNOWN; i++)
        Py_CLEAR(d->known[i].object);
    return tr_clear(&d->t);
}

static void
dg_dealloc(dgobj *d)
{
    PyObject_GC_UnTrack(d);
    dg_clear(d);
    PyMem_Free(d->known);
    tr_dealloc(&d->t);
}

static PyMethodDef dg_methods[] = {
    {"sendto", (PyCFunction)(void (*)(void))dg_sendto, METH_VARARGS | METH_KEYWORDS,
     "sendto($self, /, data, addr=None)\n--\n\nSends a datagram; one that cannot be sent at once is queued."},
    {"_connected", (PyCFunction)dg_connected, METH_VARARGS, NULL},
    {"_flush", (PyCFunction)dg_flush, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef dg_members[] = {
    {"_address", T_OBJECT, offsetof(dgobj, address), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot dg_slots[] = {
    {Py_tp_doc, "A datagram transport's hot half (internal)."},
    {Py_tp_new, dg_new},
    {Py_tp_dealloc, dg_dealloc},
    {Py_tp_traverse, dg_traverse},
    {Py_tp_clear, dg_clear},
    {Py_tp_methods, dg_methods},
    {Py_tp_members, dg_members},
    {0, NULL},
};

PyType_Spec dgram_transport_spec = {
    .name = "treadle._treadle._DatagramTransport",
    .basicsize = sizeof(dgobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = dg_slots,
};
