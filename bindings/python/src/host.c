/* SPDX-License-Identifier: MIT
 *
 * Hosts: one tdl_host per running asyncio loop, its tasks, and the dispatch of
 * its events to goroutines and ops.
 *
 * Invariants.
 *  - A pyhost is in st->hosts exactly while its core is open, but for orphans that
 *    are being closed. It is run and closed on its own thread, which another becomes that is to run or close
 *    it. Without a lock that has to have ended: when a loop is closed while its thread lives, the host goes
 *    to the orphans of that list (loop NULL), and its thread closes it later or, when that has
 *    ended, whoever opens a host, or closes another thread's.
 *  - host_poll is not reentered. It runs G steps and completes ops; the GIL is
 *    given up only for a poll that may wait, during which nothing of the host
 *    is read or written by Python (channels freed meanwhile by another thread
 *    are put aside in `dropped`).
 *  - Events are copied to h->events first, so that an exception that must leave
 *    the loop (KeyboardInterrupt, SystemExit) loses none.
 *  - The list st->hosts is under st->lock, and so is whose thread a host is of. A host
 *    leaves it, and loses its core, on its own thread only: who finds one of his own there may use it. */
#include "current.h"
#include "handle.h"
#include "procs.h"

NEAR_THREAD _Thread_local pyhost *tl_running;

/* -- Channels that are freed -------------------------------------------- */

void
host_drop_chan(pyhost *h, tdl_chan *ch)
{
    bool now = host_mine(h);
    LOCK(&h->lock);
    if (h->gone) {
        now = true;
    } else if (!now) {
        tdl_chan **more = PyMem_RawRealloc(h->dropped, (h->ndropped + 1) * sizeof *more);
        if (more != NULL) { /* else it is lost */
            h->dropped = more;
            h->dropped[h->ndropped] = ch;
            SHOW(h->ndropped, h->ndropped + 1); /* its thread looks without the lock, and again */
        }
    }
    UNLOCK(&h->lock);
    if (now)
        chan_drain(ch);
}

static void
host_free_dropped(pyhost *h)
{
    LOCK(&h->lock);
    tdl_chan **list = h->dropped;
    size_t n = h->ndropped;
    h->dropped = NULL; /* freeing objects may drop more */
    SHOW(h->ndropped, 0);
    UNLOCK(&h->lock);
    for (size_t i = 0; i < n; i++)
        chan_drain(list[i]);
    PyMem_RawFree(list);
}

/* -- Open, find, close --------------------------------------------------- */

static void hosts_reap(mod_state *st);

static void
host_list(pyhost *h)
{
    LOCK(&h->st->lock);
    h->next = h->st->hosts;
    h->st->hosts = h;
    SHOW(h->st->nguests, h->st->nguests + h->guest);
    UNLOCK(&h->st->lock);
}

/* Under st->lock. */
static void
host_off_list(pyhost **p)
{
    pyhost *h = *p;
    *p = h->next;
    h->next = NULL;
    SHOW(h->st->nguests, h->st->nguests - h->guest);
}

static void
host_unlist(pyhost *h)
{
    mod_state *st = h->st;
    LOCK(&st->lock);
    pyhost **p = &st->hosts;
    while (*p != NULL && *p != h)
        p = &(*p)->next;
    if (*p == h)
        host_off_list(p);
    UNLOCK(&st->lock);
}

/* Makes it this thread's; false: it stays another's. Its loop is not running: so no thread is in a call about
 * it, where a lock keeps the threads apart; where none does, its own has to have ended. Under st->lock. */
static bool
host_inherit(pyhost *h)
{
    if (host_mine(h))
        return true;
#ifdef Py_GIL_DISABLED
    if (tdl_host_adopt(h->core) < 0)
        return false;
    own_keep(&h->own);
#else
    if (tdl_host_move(h->core) < 0)
        return false;
#endif
    SHOW(h->thread, thread_identity());
    h->moved = true;
    return true;
}

bool
host_move(pyhost *h)
{
    LOCK(&h->st->lock);
    bool mine = h->core != NULL && host_inherit(h);
    UNLOCK(&h->st->lock);
    return mine;
}

bool
host_fetch(pyhost *h)
{
#ifdef Py_GIL_DISABLED
    return host_move(h); /* whose thread has ended, nobody runs */
#else
    if (h->ploop != NULL)
        return !h->ploop->running && host_move(h);
    PyObject *exc = PyErr_GetRaisedException(), *loop = host_loop(h);
    PyObject *here = loop ? PyObject_CallNoArgs(h->st->get_running_loop) : NULL;
    PyObject *runs = here == loop ? NULL : PyObject_CallMethod(loop, "is_running", NULL);
    bool free = loop != NULL && (here == loop || runs == Py_False);
    Py_XDECREF(runs);
    Py_XDECREF(here);
    Py_XDECREF(loop);
    PyErr_SetRaisedException(exc);
    return free && host_move(h);
#endif
}

/* The host of that loop, which runs on this thread, borrowed, or NULL. */
static pyhost *
host_find(mod_state *st, PyObject *loop)
{
    LOCK(&st->lock);
    pyhost *h = st->hosts, *elsewhere = NULL;
    for (; h != NULL && !(SEEN(h->loop) == loop && host_mine(h)); h = h->next)
        if (SEEN(h->loop) == loop)
            elsewhere = h;
    UNLOCK(&st->lock);
    return h != NULL || elsewhere == NULL ? h : host_move(elsewhere) ? elsewhere : NULL;
}

/* Takes an orphan from the list that this thread may close, and the reference that it is
 * kept by; NULL: none. */
static pyhost *
host_take_orphan(mod_state *st)
{
    LOCK(&st->lock);
    pyhost **p = &st->hosts, *h;
    while ((h = *p) != NULL && !(SEEN(h->loop) == NULL && host_inherit(h)))
        p = &h->next;
    if (h != NULL)
        host_off_list(p);
    UNLOCK(&st->lock);
    return h;
}

PyObject *
host_loop(pyhost *h)
{
    LOCK(&h->lock);
    PyObject *loop = Py_XNewRef(h->loop);
    UNLOCK(&h->lock);
    return loop;
}

/* 1 for the reference that it held; 0: it was gone before. */
static int
host_take_loop(pyhost *h, PyObject **loop)
{
    LOCK(&h->lock);
    *loop = h->loop;
    SHOW(h->loop, NULL);
    UNLOCK(&h->lock);
    return *loop != NULL;
}

/* Closes hosts whose loop is gone, of this thread and of those that have ended. */
static void
hosts_reap(mod_state *st)
{
    for (pyhost *h; (h = host_take_orphan(st)) != NULL;) {
        host_close(h);
        Py_DECREF(h);
    }
}

pyhost *
host_open(mod_state *st, PyObject *loop, bool guest)
{
    if (state_gone(st))
        return NULL;
    hosts_reap(st);
    pyhost *h = PyObject_GC_New(pyhost, st->HostType);
    if (h == NULL)
        return NULL;
    memset((char *)h + sizeof(PyObject), 0, sizeof *h - sizeof(PyObject));
    h->st = st;
    h->module = Py_NewRef(((PyHeapTypeObject *)st->HostType)->ht_module);
    h->spare = NO_TASK;
    h->guest = guest;
    h->thread = thread_identity();
    int rc = tdl_host_open("python", &h->core);
    if (rc < 0) {
        h->core = NULL;
        Py_DECREF(h);
        raise_code(st, rc, "starting treadle");
        return NULL;
    }
#ifdef Py_GIL_DISABLED
    own_keep(&h->own);
#endif
    h->out = tdl_host_outcomes(h->core);
    h->loop = Py_NewRef(loop);
    ref_sometimes((PyObject *)h);
    host_list(h);
    PyObject_GC_Track(h);
    h->call_soon = PyObject_GetAttr(loop, st->s_call_soon);
    if (h->call_soon == NULL || (guest && guest_attach(h) < 0)) {
        host_close(h);
        Py_DECREF(h);
        return NULL;
    }
    return h;
}

pyhost *
host_get(mod_state *st)
{
    pyhost *h = tl_running;
    if (h != NULL && h->st == st)
        return h;
    if (state_gone(st))
        return NULL;
    PyObject *loop = PyObject_CallNoArgs(st->get_running_loop);
    if (loop == NULL)
        return NULL;
    if (loop == Py_None) {
        Py_DECREF(loop);
        PyErr_SetString(PyExc_RuntimeError,
                        "no running event loop: this treadle call needs one "
                        "(treadle.run or asyncio.run)");
        return NULL;
    }
    h = host_find(st, loop);
    if (h != NULL) {
        Py_DECREF(loop);
        return h;
    }
    h = host_open(st, loop, true);
    Py_DECREF(loop);
    if (h != NULL && getenv("TDL_DEBUG") != NULL) {
        PyObject *module = PyImport_ImportModule("treadle._watchdog");
        PyObject *done = module ? PyObject_CallMethod(module, "from_environment", "O", h) : NULL;
        if (done == NULL)
            PyErr_WriteUnraisable((PyObject *)h);
        Py_XDECREF(module);
        Py_XDECREF(done);
    }
    /* A guest is owned by the reader that the loop holds. */
    if (h != NULL)
        Py_DECREF(h);
    return h;
}

/* Ends what is pending without running any coroutine, so that every value on
 * its way comes to rest in an object that is then freed. */
static void
host_abandon(pyhost *h)
{
    for (uint32_t t = 0; t < h->nslots; t++) {
        PyObject *obj = h->slots[t];
        if (obj == NULL)
            continue;
        if (op_check(obj))
            ((opobj *)obj)->abandoned = true;
        tdl_task_cancel(h->core, t);
    }
    for (int tries = 0; h->pending > 0 && tries < 1000; tries++) {
        int n = tdl_host_poll(h->core, h->events, BATCH, 0);
        if (n <= 0)
            break;
        for (int i = 0; i < n; i++) {
            uint32_t t = h->events[i].task;
            if ((t & TDL_WATCHER) || t >= h->nslots || h->slots[t] == NULL)
                continue;
            PyObject *obj = h->slots[t];
            if (op_check(obj)) {
                op_complete((opobj *)obj, t, h->events[i].result);
                continue;
            }
            gobj *g = (gobj *)obj;
            g->busy = false;
            opobj *op = g_op(g);
            if (op == NULL) {
                h->pending--;
            } else {
                op->abandoned = true;
                op_complete(op, t, h->events[i].result);
            }
        }
    }
}

void
host_close(pyhost *h)
{
    watch_stop(h);
    if (h->core == NULL)
        return;
    bool elsewhere = !host_mine(h);
    if (!host_move(h)) {
        /* Left for its own thread, or who comes after that, who finds it in the list. */
        PyObject *loop;
        h->ploop = NULL;
        Py_INCREF(h); /* the orphan's, before it can be seen as one */
        if (host_take_loop(h, &loop))
            Py_DECREF(loop);
        else
            Py_DECREF(h);
        hosts_reap(h->st);
        return;
    }
    Py_INCREF(h);
    PyObject *exc = PyErr_GetRaisedException();
    h->nevents = h->ievent = 0;
    host_abandon(h);
    host_free_dropped(h);
    host_unlist(h);
    tdl_host *core = h->core;
    h->core = NULL;
    tdl_host_close(core);
    LOCK(&h->lock);
    h->gone = true;
    UNLOCK(&h->lock);
    host_free_dropped(h);
    /* Goroutines first leave the list: freeing one may run Python code. */
    g_unlink_all(h);
    PyObject **slots = h->slots;
    uint32_t n = h->nslots;
    h->slots = NULL;
    h->nslots = 0;
    for (uint32_t t = 0; t < n; t++)
        Py_XDECREF(slots[t]);
    PyMem_Free(slots);
    guest_detach(h);
#ifdef Py_GIL_DISABLED
    own_give(&h->own);
#endif
    if (elsewhere)
        hosts_reap(h->st); /* those whose thread had just not ended when they were to be closed */
    PyErr_SetRaisedException(exc);
    Py_DECREF(h);
}

/* -- Tasks --------------------------------------------------------------- */

static int
slot_set(pyhost *h, uint32_t task, PyObject *obj)
{
    if (task >= h->nslots) {
        uint32_t n = h->nslots ? h->nslots : 64;
        while (n <= task)
            n *= 2;
        PyObject **slots = PyMem_Realloc(h->slots, n * sizeof *slots);
        if (slots == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memset(slots + h->nslots, 0, (n - h->nslots) * sizeof *slots);
        h->slots = slots;
        h->nslots = n;
    }
    h->slots[task] = Py_XNewRef(obj);
    return 0;
}

/* A task with obj in its slot (which may be NULL). NO_TASK: exception. */
uint32_t
host_task_new(pyhost *h, bool run, PyObject *obj)
{
    int task = tdl_task_new(h->core, run);
    if (task < 0) {
        raise_code(h->st, task, "goroutine");
        return NO_TASK;
    }
    if (slot_set(h, (uint32_t)task, obj) < 0) {
        host_task_free(h, (uint32_t)task); /* one that is to run: at its event, see dispatch */
        return NO_TASK;
    }
    return (uint32_t)task;
}

void
host_task_free(pyhost *h, uint32_t task)
{
    if (h->core != NULL && task != NO_TASK)
        tdl_task_free(h->core, task);
}

/* Makes h->spare a task. */
int
host_task_spare(pyhost *h)
{
    if (h->spare == NO_TASK)
        h->spare = host_task_new(h, false, NULL);
    return h->spare == NO_TASK ? -1 : 0;
}

/* -- Dispatch ------------------------------------------------------------ */

/* A beat for each step costs nothing where nobody watches: two copies are made. */
static inline __attribute__((always_inline)) int
dispatch(pyhost *h, bool watched)
{
    int rc = 0;
    pyhost *outer = tl_running;
    tl_running = h;
    h->dispatching = true;
    while (rc == 0 && h->ievent < h->nevents) {
        tdl_event e = h->events[h->ievent++];
        if (e.task & TDL_WATCHER) {
            current_none(h);
            if (watched)
                watch_beat(h, true);
            if (h->ploop != NULL)
                fds_event(h->ploop, e.task & ~(uint32_t)TDL_WATCHER, (unsigned)e.result);
            continue;
        }
        PyObject *obj = e.task < h->nslots ? h->slots[e.task] : NULL;
        if (obj == NULL) {
            host_task_free(h, e.task); /* there was no memory for its slot */
            continue;
        }
        if (watched)
            watch_beat(h, true);
        if (g_check(obj)) {
            rc = g_event((gobj *)obj, e.result);
        } else {
            current_none(h);
            op_complete((opobj *)obj, e.task, e.result);
        }
        if (h->core == NULL)
            break; /* a step closed the loop */
    }
    if (h->ploop == NULL || rc < 0)
        current_none(h); /* the loop's own turn sees to it where it goes on */
    h->dispatching = false;
    tl_running = outer;
    return rc;
}

static int
host_dispatch(pyhost *h)
{
    if (h->watch == NULL)
        return dispatch(h, false);
    int rc = dispatch(h, true);
    watch_beat(h, !h->guest);
    return rc;
}

int
host_poll_with(pyhost *h, int64_t timeout_ns, int flags)
{
    if (h->core == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    if (h->dispatching)
        return 0;
    if (h->ievent < h->nevents) /* what an exception left */
        return host_dispatch(h) < 0 ? -1 : 1;
    if (SEEN(h->ndropped))
        host_free_dropped(h);
    int n;
    bool waits = timeout_ns != 0 && !(flags & TDL_POLL_BUSY);
    if (!waits) {
        n = tdl_host_poll_opts(h->core, h->events, BATCH, 0, flags);
    } else {
        current_none(h);
        h->dispatching = true; /* nobody enters while the GIL is given up */
        if (h->watch != NULL)
            watch_beat(h, false);
        Py_BEGIN_ALLOW_THREADS
        n = tdl_host_poll_opts(h->core, h->events, BATCH, timeout_ns, flags);
        Py_END_ALLOW_THREADS
        h->dispatching = false;
#ifdef Py_GIL_DISABLED
        if (h->procs != NULL)
            procs_woke(h); /* before it runs anything */
#endif
        if (h->watch != NULL)
            watch_beat(h, true);
    }
    h->ievent = 0;
    h->nevents = n < 0 ? 0 : n;
    if (n == TDL_EDEADLOCK && (flags & TDL_POLL_DEADLOCK))
        return PyErr_CheckSignals() < 0 ? -1 : HOST_STUCK;
    if (n < 0) {
        raise_code(h->st, n, "waiting for events");
        return -1;
    }
    if (waits && PyErr_CheckSignals() < 0)
        return -1;
    return n == 0 ? 0 : host_dispatch(h) < 0 ? -1 : 1;
}

int
host_poll(pyhost *h, int64_t timeout_ns)
{
    return host_poll_with(h, timeout_ns, 0) < 0 ? -1 : 0;
}

/* -- The object ---------------------------------------------------------- */

/* watch(seconds or None, report) */
static PyObject *
host_watch(pyhost *h, PyObject *args)
{
    PyObject *seconds, *report;
    int64_t ns;
    if (!PyArg_ParseTuple(args, "OO:watch", &seconds, &report))
        return NULL;
    if (h->core == NULL || !host_mine(h)) {
        PyErr_SetString(PyExc_RuntimeError, "watch: not on the thread of the loop");
        return NULL;
    }
    if (seconds == Py_None)
        watch_stop(h);
    else if (seconds_arg(seconds, "watchdog", &ns) < 0 || watch_start(h, ns, report) < 0)
        return NULL;
    watch_beat(h, !h->guest || h->dispatching);
    Py_RETURN_NONE;
}

static PyObject *
host_close_method(pyhost *h, PyObject *Py_UNUSED(ignored))
{
    OWN(&h->own, NULL);
    host_close(h);
    Py_RETURN_NONE;
}

/* Takes references to those in its list; false: there is no room. */
static bool
collect_live(pyhost *h, PyObject **all, size_t *n, size_t room)
{
    bool fits = true;
    LOCK(&h->lock);
    for (gobj *g = h->live; g != NULL && fits; g = g->next_live) {
        fits = *n < room;
        if (fits && ref_try((PyObject *)g))
            all[(*n)++] = (PyObject *)g;
    }
    UNLOCK(&h->lock);
    return fits;
}

static bool
collect_all(pyhost *h, PyObject **all, size_t *n, size_t room)
{
#ifdef Py_GIL_DISABLED
    procs *ps = host_procs(h);
    if (ps != NULL) {
        bool fits = true;
        LOCK_PROCS(ps); /* none goes from one list to the other meanwhile */
        for (int i = 0; fits && i < ps->n; i++)
            if (ps->p[i].host != NULL)
                fits = collect_live(ps->p[i].host, all, n, room);
        UNLOCK_PROCS(ps);
        return fits;
    }
#endif
    return collect_live(h, all, n, room);
}

/* The goroutines that have not ended, and those whose error nobody has seen: of all Ps, where there
 * are several. */
static PyObject *
host_goroutines(pyhost *h, PyObject *Py_UNUSED(ignored))
{
    OWN(&h->own, NULL);
    size_t n = 0, room = 0;
    PyObject **all = NULL, *list;
    for (bool again = true; again;) { /* nothing is allocated under the lock */
        again = !collect_all(h, all, &n, room);
        if (again) {
            while (n > 0)
                Py_DECREF(all[--n]);
            PyMem_Free(all);
            room = room ? 4 * room : 64;
            all = PyMem_New(PyObject *, room);
            if (all == NULL)
                return PyErr_NoMemory();
        }
    }
    list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; i < n; i++) {
        if (list != NULL)
            PyList_SET_ITEM(list, (Py_ssize_t)i, all[i]);
        else
            Py_DECREF(all[i]);
    }
    PyMem_Free(all);
    return list;
}

/* One that failed unseen, or NULL. */
static gobj *
host_unseen(pyhost *h)
{
    LOCK(&h->lock);
    gobj *g = h->live;
    while (g != NULL && !(G_ENDED(g) && g->unseen && ref_try((PyObject *)g)))
        g = g->next_live;
    UNLOCK(&h->lock);
    return g;
}

/* Reports the errors that nobody has asked for, and returns the first that was
 * ever reported, or None. */
static PyObject *
host_take_error(pyhost *h, PyObject *Py_UNUSED(ignored))
{
    OWN(&h->own, NULL);
    for (gobj *g; (g = host_unseen(h)) != NULL;) {
        g_report(g);
        Py_DECREF(g);
    }
    LOCK(&h->lock);
    PyObject *error = h->first_error;
    h->first_error = NULL;
    UNLOCK(&h->lock);
    return error != NULL ? error : Py_NewRef(Py_None);
}

static PyObject *
host_spawn(pyhost *h, PyObject *args)
{
    PyObject *coro, *name, *context;
    OWN(&h->own, NULL);
    if (!PyArg_ParseTuple(args, "OUO:spawn", &coro, &name, &context))
        return NULL;
    return g_spawn(h->st, h, coro, name, context == Py_None ? NULL : context, NULL);
}

/* The core's line about a goroutine, for reports; "" when it has ended. */
static PyObject *
host_describe(pyhost *h, PyObject *object)
{
    char line[384];
    OWN(&h->own, NULL);
    if (!g_check(object))
        return PyErr_Format(PyExc_TypeError, "describe expects a G, not %.100s", Py_TYPE(object)->tp_name);
    gobj *g = (gobj *)object;
    bool ours = h->core != NULL && g->host == h && !G_ENDED(g);
    if (!ours || tdl_task_describe(h->core, g->task, line, sizeof line) < 0)
        line[0] = '\0';
    return PyUnicode_FromString(line);
}

static PyObject *
host_on_thread(pyhost *h, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(host_mine(h));
}

static int
host_traverse(pyhost *h, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(h));
    Py_VISIT(h->module);
    Py_VISIT(h->loop);
    Py_VISIT(h->call_soon);
    Py_VISIT(h->first_error);
    Py_VISIT(h->timer);
    Py_VISIT(h->kicker);
    Py_VISIT(h->deferred);
    return host_visit_slots(h, visit, arg);
}

static int
host_clear(pyhost *h)
{
    PyObject *loop;
    if (host_take_loop(h, &loop))
        Py_DECREF(loop);
    Py_CLEAR(h->call_soon);
    Py_CLEAR(h->first_error);
    Py_CLEAR(h->deferred);
    guest_detach(h);
    return 0;
}

/* On another thread this leaves the host to its own while that lives (it is an orphan then). */
static void
host_finalize(pyhost *h)
{
    host_close(h);
}

static void
host_dealloc(pyhost *h)
{
    PyTypeObject *type = Py_TYPE(h);
    if (PyObject_CallFinalizerFromDealloc((PyObject *)h) < 0)
        return;
    PyObject_GC_UnTrack(h);
    host_clear(h);
    PyMem_Free(h->slots);
    PyMem_RawFree(h->dropped);
    Py_CLEAR(h->module);
#ifdef Py_GIL_DISABLED
    procs_release(h->procs);
#endif
    PyObject_GC_Del(h);
    Py_DECREF(type);
}

static PyObject *
host_is_home(pyhost *h, PyObject *object)
{
    return g_check(object) ? PyBool_FromLong(((gobj *)object)->host == h)
                           : PyErr_Format(PyExc_TypeError, "is_home expects a G, not %.100s", Py_TYPE(object)->tp_name);
}

static PyMethodDef host_methods[] = {
    {"close", (PyCFunction)host_close_method, METH_NOARGS, "Closes the host."},
    {"goroutines", (PyCFunction)host_goroutines, METH_NOARGS,
     "Goroutines that have not ended, or failed unseen."},
    {"spawn", (PyCFunction)host_spawn, METH_VARARGS,
     "spawn(coro, name, context) -> G, while the loop does not run yet."},
    {"watch", (PyCFunction)host_watch, METH_VARARGS, "watch(seconds or None, report)"},
    {"describe", (PyCFunction)host_describe, METH_O, "What the core says about a goroutine."},
    {"is_home", (PyCFunction)host_is_home, METH_O, "Whether a goroutine is listed here: of several Ps, on which it runs."},
    {"_form", procs_form, METH_O, "_form(n): it is the first of up to n Ps of one run."},
    {"_join", procs_join, METH_O, "_join(first): it is one of its Ps from now on."},
    {"_end", procs_end, METH_NOARGS, "The threads of all its Ps have ended."},
    {"take_error", (PyCFunction)host_take_error, METH_NOARGS,
     "Reports unseen errors; the first error reported, or None."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef host_getset[] = {
    {"on_thread", (getter)host_on_thread, NULL, "Whether the caller is on the host's thread.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot host_slots[] = {
    {Py_tp_doc, "treadle's side of one event loop (internal)."},
    {Py_tp_dealloc, host_dealloc},
    {Py_tp_finalize, host_finalize},
    {Py_tp_traverse, host_traverse},
    {Py_tp_clear, host_clear},
    {Py_tp_methods, host_methods},
    {Py_tp_getset, host_getset},
    {0, NULL},
};

PyType_Spec host_spec = {
    .name = "treadle._treadle._Host",
    .basicsize = sizeof(pyhost),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = host_slots,
};
