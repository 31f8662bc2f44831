/* SPDX-License-Identifier: MIT
 *
 * The turns of treadle.Loop, and the type of its C half. The invariants are in
 * loop.h. */
#include "current.h"
#include "fds.h"
#include "handle.h"
#include "procs.h"
#include <math.h>
#include <structmember.h>

/* -- A turn --------------------------------------------------------------- */

/* Nanoseconds until the first timer is due; 0: it is. */
static int64_t
until_due(ploop *l)
{
    double ns = ceil((l->timers[0].when - loop_seconds()) * 1e9);
    return !(ns > 0) ? 0 : ns < 24.0 * TDL_HOUR ? (int64_t)ns : 24 * TDL_HOUR;
}

#ifdef Py_GIL_DISABLED
/* As poll_events, with other Ps beside it. Who is stuck and not the first of them waits on: that
 * one finds it out, too, and says so. */
static int
sleep_among(ploop *l, int64_t wait, bool stuck)
{
    pyhost *h = l->host;
    int n = 0;
    if (procs_sleeps(h))
        n = host_poll_with(h, wait, stuck ? TDL_POLL_DEADLOCK | TDL_POLL_UNWATCHED : 0);
    SHOW(l->sleeping, false);
    if (n == HOST_STUCK) {
        PyObject *answer = PyObject_CallNoArgs(l->stuck);
        n = answer == NULL ? -1 : 0;
        Py_XDECREF(answer);
        if (n == 0 && h->ip == 0 && loop_sleeps(l)) { /* no: a handler of signals might help */
            n = procs_sleeps(h) ? host_poll_with(h, wait, 0) : 0;
            SHOW(l->sleeping, false);
        }
    }
    return n < 0 ? -1 : 0;
}
#endif

/* Polls the host, waiting when there is nothing to do, and hands its events on. */
static int
poll_events(ploop *l)
{
    pyhost *h = l->host;
    int64_t wait = 0;
    if (h == NULL || h->core == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    if (l->nready == 0 && !SEEN(l->stopping) && l->fatal == NULL && l->later.next == &l->later &&
        l->at_end.next == &l->at_end)
        wait = l->ntimers == 0 ? -1 : until_due(l);
#ifdef Py_GIL_DISABLED
    if (wait != 0 && h->procs != NULL && procs_find(h))
        wait = 0;
#endif
    if (l->unsynced && fds_open(l) < 0)
        return -1;
    bool fresh = l->fresh;
    l->fresh = false;
    if (wait == 0) {
        bool ask = fresh || fds_awaited(l);
        if (!ask && h->pending == 0 && h->ievent == h->nevents && SEEN(h->ndropped) == 0) {
            /* no goroutine or op waits: only a signal could come */
            ask = ++l->unasked % 32 == 0;
            if (!ask)
                return 0;
        }
        return host_poll_with(h, 0, ask ? 0 : TDL_POLL_BUSY) < 0 ? -1 : 0;
    }
    /* goroutines that can go on: without giving the GIL up */
    int n = h->pending > 0 ? host_poll_with(h, 0, TDL_POLL_BUSY) : 0;
    if (n != 0 || l->nready > 0 || SEEN(l->stopping) || h->core == NULL)
        return n < 0 ? -1 : 0;
    bool stuck = wait < 0 && l->stuck != NULL && !fds_awaited(l);
    if (!loop_sleeps(l))
        return 0;
#ifdef Py_GIL_DISABLED
    if (h->procs != NULL)
        return sleep_among(l, wait, stuck);
#endif
    n = host_poll_with(h, wait, stuck ? TDL_POLL_DEADLOCK | TDL_POLL_UNWATCHED : 0);
    SHOW(l->sleeping, false);
    if (n == HOST_STUCK) {
        PyObject *answer = PyObject_CallNoArgs(l->stuck); /* raises where it is so */
        if (answer == NULL)
            return -1;
        Py_DECREF(answer);
        if (!loop_sleeps(l))
            return 0;
        n = host_poll_with(h, wait, 0);
        SHOW(l->sleeping, false);
    }
    return n < 0 ? -1 : 0;
}

static int
due_timers(ploop *l)
{
    if (l->ntimers == 0)
        return 0;
    double now = loop_seconds();
    while (l->ntimers > 0 && l->timers[0].when <= now)
        if (ready_push(l, (PyObject *)timer_pop(l)) < 0)
            return -1;
    return 0;
}

/* What is called now is no goroutine. */
static inline void
no_goroutine(ploop *l)
{
    if (l->host != NULL)
        current_none(l->host);
}

/* One of somebody else's, or in debug mode. */
static int
run_slowly(ploop *l, PyObject *handle)
{
    PyObject *cancelled = PyObject_GetAttrString(handle, "_cancelled");
    int skip = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    if (skip != 0)
        return skip < 0 ? -1 : 0;
    PyObject *done = l->debug ? PyObject_CallMethod((PyObject *)l, "_debug_run", "O", handle)
                              : PyObject_CallMethod(handle, "_run", NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* A call that has no handle gets one for what is said about it when it fails. */
static int
call_failed(ploop *l, ploop_ready *r)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (ready_make_handle(l, r) < 0) {
        Py_DECREF(exc);
        return -1;
    }
    PyErr_SetRaisedException(exc);
    return handle_failed((phandle *)r->what);
}

static int
run_call(ploop *l, ploop_ready *r)
{
    PyObject *result = NULL;
    int rc = 0;
    if (PyContext_Enter(r->context) == 0) {
        result = r->arg != NULL ? PyObject_CallOneArg(r->what, r->arg) : PyObject_CallNoArgs(r->what);
        if (PyContext_Exit(r->context) < 0)
            Py_CLEAR(result);
    }
    if (result == NULL)
        rc = call_failed(l, r);
    else
        Py_DECREF(result);
    Py_DECREF(r->what);
    Py_XDECREF(r->arg);
    Py_XDECREF(r->context);
    return rc;
}

static int
run_ready(ploop *l)
{
    mod_state *st = l->st;
    int rc = 0;
    if (l->nready > 0)
        no_goroutine(l);
    for (uint32_t n = l->nready; rc == 0 && n > 0 && l->nready > 0; n--) {
        ploop_ready r = ready_take(l);
        if (l->host != NULL && l->host->watch != NULL)
            watch_beat(l->host, true);
        if (r.context != NULL && !l->debug) {
            rc = run_call(l, &r);
            continue;
        }
        if (ready_make_handle(l, &r) < 0) {
            Py_DECREF(r.what);
            Py_XDECREF(r.arg);
            Py_DECREF(r.context);
            return -1;
        }
        PyObject *handle = r.what;
        if (l->debug || (!Py_IS_TYPE(handle, st->HandleType) && !Py_IS_TYPE(handle, st->TimerHandleType)))
            rc = run_slowly(l, handle);
        else if (!SEEN(((phandle *)handle)->cancelled))
            rc = handle_run((phandle *)handle);
        Py_DECREF(handle);
    }
    return rc;
}

static int
leave_with_fatal(ploop *l)
{
    PyObject *exc = l->fatal;
    if (exc == NULL)
        return 0;
    l->fatal = NULL;
    if (PyErr_Occurred())
        Py_DECREF(exc);
    else
        PyErr_SetRaisedException(exc);
    return -1;
}

static int
turn(ploop *l)
{
    l->turn++;
    if (l->later.next != &l->later) {
        no_goroutine(l);
        loop_run_later(l); /* before the events: what they add is for the next turn */
    }
    int rc = poll_events(l);
    if (rc == 0)
        rc = loop_take_inbox(l);
    if (rc == 0)
        rc = leave_with_fatal(l);
    if (rc == 0)
        rc = due_timers(l);
    if (rc == 0)
        rc = run_ready(l);
#ifdef Py_GIL_DISABLED
    if (rc == 0 && l->host != NULL && l->host->procs != NULL)
        rc = procs_run(l->host);
#endif
    if (l->at_end.next != &l->at_end) {
        no_goroutine(l);
        loop_run_at_end(l);
    }
    return leave_with_fatal(l) < 0 ? -1 : rc;
}

/* Turns until stop(); one turn when it is not run_forever that calls, or when somebody
 * has put his own _run_once in front. */
static PyObject *
loop_run_once(ploop *l, PyObject *Py_UNUSED(ignored))
{
    OWN(&l->own, NULL);
    pyhost *outer = tl_running;
    int rc;
    if (loop_open(l) < 0)
        return NULL;
    tl_running = l->host;
    do
        rc = turn(l);
    while (rc == 0 && l->running && !l->overridden && !SEEN(l->stopping));
    no_goroutine(l);
    tl_running = outer;
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* -- Opening and closing -------------------------------------------------- */

/* Makes the host, on the thread that is to run the loop. */
int
loop_open(ploop *l)
{
    if (loop_check_open(l) < 0)
        return -1;
    if (l->host == NULL) {
        if (ready_open(l) < 0)
            return -1;
        pyhost *h = host_open(l->st, (PyObject *)l, false);
        if (h == NULL)
            return -1;
        h->ploop = l;
        LOCK(&l->lock);
        l->host = h;
        UNLOCK(&l->lock);
        return fds_open(l);
    }
    if (host_mine(l->host) || (!l->running && host_move(l->host)))
        return 0;
    PyErr_SetString(PyExc_RuntimeError, l->running ? "the loop is running, on another thread"
                                                   : "another thread has run this treadle loop, and lives: in a Python "
                                                     "without a lock no other can run it");
    return -1;
}

static PyObject *
loop_open_method(ploop *l, PyObject *Py_UNUSED(ignored))
{
    OWN(&l->own, NULL);
    if (loop_open(l) < 0)
        return NULL;
    return Py_NewRef((PyObject *)l->host);
}

/* _enter(overridden): run_forever begins; _leave(): it ends. */
static PyObject *
loop_enter(ploop *l, PyObject *overridden)
{
    OWN(&l->own, NULL);
    l->overridden = overridden == Py_True;
    l->running = l->fresh = true;
    if (l->host != NULL && !host_mine(l->host) && !host_move(l->host)) { /* another has fetched it meanwhile */
        l->running = false;
        own_refuse();
        return NULL;
    }
#ifdef Py_GIL_DISABLED
    own_keep(&l->own); /* until _leave */
    own_claim_.taken = NULL;
#endif
    Py_RETURN_NONE;
}

static PyObject *
loop_leave(ploop *l, PyObject *Py_UNUSED(ignored))
{
    OWN(&l->own, NULL);
    l->running = false;
    loop_forget_bound(l); /* they keep it alive */
    if (l->host != NULL)
        watch_beat(l->host, false);
#ifdef Py_GIL_DISABLED
    own_claim_.taken = &l->own;
#endif
    Py_RETURN_NONE;
}

static PyObject *
loop_close_host(ploop *l, PyObject *Py_UNUSED(ignored))
{
    OWN(&l->own, NULL);
    pyhost *h = l->host;
    fds_clear(l);
    if (l->live != NULL && PySet_Clear(l->live) < 0) /* a closed loop keeps nobody alive */
        return NULL;
    futures_forget(l);
    LOCK(&l->lock);
    l->host = NULL; /* nobody wakes it from here on */
    UNLOCK(&l->lock);
    if (h != NULL) {
        host_close(h);
        h->ploop = NULL;
        Py_DECREF(h);
    }
    Py_RETURN_NONE;
}

/* -- Small methods -------------------------------------------------------- */

static PyObject *
loop_time(ploop *Py_UNUSED(l), PyObject *Py_UNUSED(ignored))
{
    return PyFloat_FromDouble(loop_seconds());
}

static PyObject *
loop_get_debug(ploop *l, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(l->debug);
}

static PyObject *
loop_is_running(ploop *l, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(SEEN(l->thread_id) != NULL);
}

static PyObject *
loop_is_closed(ploop *l, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(l->closed);
}

static PyObject *
loop_check_closed(ploop *l, PyObject *Py_UNUSED(ignored))
{
    if (loop_check_open(l) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
loop_stop(ploop *l, PyObject *Py_UNUSED(ignored))
{
    SHOW(l->stopping, true);
    Py_RETURN_NONE;
}

static PyObject *
loop_wake(ploop *l, PyObject *Py_UNUSED(ignored))
{
    loop_wake_up(l);
    Py_RETURN_NONE;
}

static PyObject *
loop_create_future(ploop *l, PyObject *Py_UNUSED(ignored))
{
    return loop_future(l);
}

bool
loop_makes_futures(mod_state *st, PyObject *loop, PyObject *create)
{
    return PyCFunction_Check(create) && PyCFunction_GET_FUNCTION(create) == (PyCFunction)loop_create_future &&
           PyCFunction_GET_SELF(create) == loop && ploop_of(st, loop) != NULL;
}

static PyObject *
loop_add_callback(ploop *l, PyObject *handle)
{
    OWN(&l->own, NULL);
    PyObject *cancelled = PyObject_GetAttrString(handle, "_cancelled");
    int skip = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    if (skip < 0 || (skip == 0 && ready_push(l, Py_NewRef(handle)) < 0))
        return NULL;
    Py_RETURN_NONE;
}

/* Makes the i-th a handle. The ring may be moved meanwhile: the collector's finalizers
 * can add to it. */
static int
ready_handle(ploop *l, uint32_t i)
{
    ploop_ready r = *ready_at(l, i);
    if (ready_make_handle(l, &r) < 0)
        return -1;
    *ready_at(l, i) = r;
    return 0;
}

static PyObject *
loop_ready_list(ploop *l, PyObject *Py_UNUSED(ignored))
{
    OWN(&l->own, NULL);
    PyObject *list = loop_take_inbox(l) < 0 ? NULL : PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < l->nready; i++)
        if (ready_handle(l, i) < 0 || PyList_Append(list, ready_at(l, i)->what) < 0)
            Py_CLEAR(list);
    return list;
}

static PyObject *
loop_timer_list(ploop *l, PyObject *Py_UNUSED(ignored))
{
    OWN(&l->own, NULL);
    PyObject *list = PyList_New(l->ntimers);
    for (uint32_t i = 0; list != NULL && i < l->ntimers; i++)
        PyList_SET_ITEM(list, i, Py_NewRef((PyObject *)l->timers[i].handle));
    return list;
}

static PyObject *
loop_ready_popleft(ploop *l, PyObject *Py_UNUSED(ignored))
{
    OWN(&l->own, NULL);
    if (loop_take_inbox(l) < 0)
        return NULL;
    if (l->nready == 0)
        return PyErr_Format(PyExc_IndexError, "pop from an empty deque");
    return ready_handle(l, 0) < 0 ? NULL : ready_take(l).what;
}

static PyObject *
loop_clear_ready(ploop *l, PyObject *Py_UNUSED(ignored))
{
    OWN(&l->own, NULL);
    if (loop_take_inbox(l) < 0)
        return NULL;
    ready_clear(l);
    Py_RETURN_NONE;
}

static PyObject *
loop_clear_timers(ploop *l, PyObject *Py_UNUSED(ignored))
{
    OWN(&l->own, NULL);
    timers_clear(l);
    Py_RETURN_NONE;
}

static PyObject *
get_host(ploop *l, void *Py_UNUSED(closure))
{
    LOCK(&l->lock);
    PyObject *host = Py_NewRef(l->host != NULL ? (PyObject *)l->host : Py_None);
    UNLOCK(&l->lock);
    return host;
}

static PyObject *
get_debug(ploop *l, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(l->debug);
}

static int
set_debug(ploop *l, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    l->debug = truth;
    return 0;
}

static PyObject *
get_object(ploop *l, void *offset)
{
    PyObject *o;
    LOCK(&l->lock); /* any thread may look */
    o = *(PyObject **)((char *)l + (size_t)offset);
    o = Py_NewRef(o != NULL ? o : Py_None);
    UNLOCK(&l->lock);
    return o;
}

static int
set_object(ploop *l, PyObject *value, void *offset)
{
    PyObject **field = (PyObject **)((char *)l + (size_t)offset), *old;
    LOCK(&l->lock);
    old = *field;
    SHOW(*field, Py_XNewRef(value == Py_None ? NULL : value));
    UNLOCK(&l->lock);
    Py_XDECREF(old);
    return 0;
}

/* -- The type ------------------------------------------------------------- */

static PyObject *
loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = module_by_type(type);
    if (module == NULL)
        return NULL;
    ploop *l = (ploop *)type->tp_alloc(type, 0);
    if (l == NULL)
        return NULL;
    l->st = state_of(module);
    l->module = Py_NewRef(module);
    l->later.prev = l->later.next = &l->later;
    l->at_end.prev = l->at_end.next = &l->at_end;
    l->live = PySet_New(NULL);
    if (l->live == NULL)
        Py_CLEAR(l);
    return (PyObject *)l;
}

static int
loop_traverse(ploop *l, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(l));
    Py_VISIT(l->module);
    Py_VISIT(l->host);
    Py_VISIT(l->stuck);
    Py_VISIT(l->live);
    Py_VISIT(l->fatal);
    Py_VISIT(l->thread_id);
    Py_VISIT(l->future_kwargs);
    for (int i = 0; i < PLOOP_IDLE; i++)
        Py_VISIT(l->idle_futures[i]);
#ifdef Py_GIL_DISABLED
    for (uint32_t i = 0; i < l->ninbox; i++)
        Py_VISIT(l->inbox[i]);
#endif
    for (uint32_t i = 0; i < l->nready; i++) {
        ploop_ready *r = ready_at(l, i);
        Py_VISIT(r->what);
        Py_VISIT(r->arg);
        Py_VISIT(r->context);
    }
    for (int i = 0; i < PLOOP_BOUND; i++)
        Py_VISIT(l->bound[i].method);
    for (uint32_t i = 0; i < l->ntimers; i++)
        Py_VISIT(l->timers[i].handle);
    int rc = fds_traverse(l, visit, arg);
    if (rc == 0)
        rc = sockops_traverse(l, visit, arg);
    return rc != 0 ? rc : handles_traverse(l, visit, arg);
}

static int
loop_clear(ploop *l)
{
    if (loop_take_inbox(l) < 0)
        PyErr_Clear();
    ready_clear(l);
    timers_clear(l);
    fds_clear(l);
    Py_CLEAR(l->stuck);
    Py_CLEAR(l->live);
    Py_CLEAR(l->fatal);
    Py_CLEAR(l->thread_id);
    futures_forget(l);
    loop_forget_bound(l);
    Py_CLEAR(l->spare[0]);
    Py_CLEAR(l->spare[1]);
    Py_CLEAR(l->tls_room);
    LOCK(&l->lock);
    pyhost *h = l->host;
    l->host = NULL;
    UNLOCK(&l->lock);
    if (h != NULL) {
        h->ploop = NULL;
        Py_DECREF(h);
    }
    return 0;
}

static void
loop_dealloc(ploop *l)
{
    PyTypeObject *type = Py_TYPE(l);
    PyObject_GC_UnTrack(l);
    loop_clear(l);
    handles_free(l);
    sockops_free(l);
    PyMem_Free(l->ready);
#ifdef Py_GIL_DISABLED
    PyMem_RawFree(l->inbox);
#endif
    PyMem_RawFree(l->scratch);
    PyMem_RawFree(l->dgrams);
    Py_XDECREF(l->module);
    type->tp_free((PyObject *)l);
    Py_DECREF(type);
}

#define FAST(name, fn, doc) {name, (PyCFunction)(void (*)(void))fn, METH_FASTCALL | METH_KEYWORDS, doc}
#define NOARGS(name, fn, doc) {name, (PyCFunction)fn, METH_NOARGS, doc}
static PyMethodDef loop_methods[] = {
    FAST("call_soon", loop_call_soon,
         "call_soon($self, callback, *args, context=None)\n--\n\nCalls it in the next turn, in order."),
    FAST("call_soon_threadsafe", loop_call_soon_threadsafe,
         "call_soon_threadsafe($self, callback, *args, context=None)\n--\n\ncall_soon, for any thread."),
    FAST("call_later", loop_call_later,
         "call_later($self, delay, callback, *args, context=None)\n--\n\nCalls it in so many seconds."),
    FAST("call_at", loop_call_at,
         "call_at($self, when, callback, *args, context=None)\n--\n\nCalls it at a time of loop.time()."),
    NOARGS("time", loop_time,
           "time($self)\n--\n\nThe clock of call_later and of treadle.now(), in seconds, also when it is simulated."),
    NOARGS("stop", loop_stop, "stop($self)\n--\n\nEnds run_forever after the callbacks that are due."),
    NOARGS("get_debug", loop_get_debug, "get_debug($self)\n--\n\nIs it in debug mode?"),
    NOARGS("is_running", loop_is_running, "is_running($self)\n--\n\nDoes the loop run?"),
    NOARGS("is_closed", loop_is_closed, "is_closed($self)\n--\n\nIs the loop closed?"),
    NOARGS("create_future", loop_create_future, "create_future($self)\n--\n\nA new asyncio.Future of this loop."),
    NOARGS("_check_closed", loop_check_closed, NULL),
    NOARGS("_run_once", loop_run_once, NULL),
    NOARGS("_write_to_self", loop_wake, NULL),
    {"_add_callback", (PyCFunction)loop_add_callback, METH_O, NULL},
    {"_add_reader", (PyCFunction)(void (*)(void))fds_add_reader, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_add_writer", (PyCFunction)(void (*)(void))fds_add_writer, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_remove_reader", fds_remove_reader, METH_O, NULL},
    {"_remove_writer", fds_remove_writer, METH_O, NULL},
#define SOCK(name, more) FAST(#name, name, #name "($self, sock" more ")\n--\n\nSee asyncio.")
    SOCK(sock_recv, ", n"), SOCK(sock_recv_into, ", buf"), SOCK(sock_sendall, ", data"), SOCK(sock_recvfrom, ", bufsize"),
    SOCK(sock_recvfrom_into, ", buf, nbytes=0"), SOCK(sock_sendto, ", data, address"), SOCK(sock_accept, ""),
    {"_connect_op", (PyCFunction)(void (*)(void))sock_connect_op, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_sendfile_op", (PyCFunction)(void (*)(void))sock_sendfile_op, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_fd_list", fds_list, METH_NOARGS, NULL},
    NOARGS("_open", loop_open_method, NULL),
    {"_enter", (PyCFunction)loop_enter, METH_O, NULL},
    NOARGS("_leave", loop_leave, NULL),
    NOARGS("_close_host", loop_close_host, NULL),
    NOARGS("_ready_list", loop_ready_list, NULL),
    NOARGS("_ready_popleft", loop_ready_popleft, NULL),
    NOARGS("_ready_clear", loop_clear_ready, NULL),
    NOARGS("_timer_list", loop_timer_list, NULL),
    NOARGS("_timer_clear", loop_clear_timers, NULL),
    {NULL, NULL, 0, NULL},
};

/* A flag that other threads look at. */
static PyObject *
get_flag(ploop *l, void *closure)
{
    return PyBool_FromLong(SEEN(*(bool *)((char *)l + (size_t)closure)));
}

static int
set_flag(ploop *l, PyObject *value, void *closure)
{
    int truth = value == NULL ? -1 : PyObject_IsTrue(value);
    if (truth < 0) {
        if (value == NULL)
            PyErr_SetString(PyExc_TypeError, "the attribute cannot be deleted");
        return -1;
    }
    SHOW(*(bool *)((char *)l + (size_t)closure), truth);
    return 0;
}

#define OFFSET(field) (void *)offsetof(ploop, field)
static PyGetSetDef loop_getset[] = {
    {"_host", (getter)get_host, NULL, NULL, NULL},
    {"_debug", (getter)get_debug, (setter)set_debug, NULL, NULL},
    {"_thread_id", (getter)get_object, (setter)set_object, NULL, OFFSET(thread_id)},
    {"_stuck", (getter)get_object, (setter)set_object, NULL, OFFSET(stuck)},
    {"_live", (getter)get_object, NULL, NULL, OFFSET(live)},
    {"_closed", (getter)get_flag, (setter)set_flag, NULL, OFFSET(closed)},
    {"_stopping", (getter)get_flag, (setter)set_flag, NULL, OFFSET(stopping)},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef loop_members[] = {
    {"_turn", T_ULONGLONG, offsetof(ploop, turn), READONLY, NULL},
    {"_nfds", T_INT, offsetof(ploop, nfds), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, "The C half of treadle.Loop (internal)."},
    {Py_tp_new, loop_new},
    {Py_tp_getattro, loop_getattro},
    {Py_tp_setattro, loop_setattro},
    {Py_tp_dealloc, loop_dealloc},
    {Py_tp_traverse, loop_traverse},
    {Py_tp_clear, loop_clear},
    {Py_tp_methods, loop_methods},
    {Py_tp_getset, loop_getset},
    {Py_tp_members, loop_members},
    {0, NULL},
};

PyType_Spec loop_spec = {
    .name = "treadle._treadle._LoopCore",
    .basicsize = sizeof(ploop),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = loop_slots,
};
