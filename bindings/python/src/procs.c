/* SPDX-License-Identifier: MIT
 *
 * Several Ps for one run: queues, taking from others, sleeping and waking, and what
 * one P does to the goroutines of another. The invariants are in procs.h. */
#include "current.h"
#include "handle.h"
#include "procs.h"

#ifdef Py_GIL_DISABLED

enum { RUN = 31 /* as many at most between two polls */, TAKE = 32 };

/* -- Queues --------------------------------------------------------------- */

static inline one_p *
p_of(pyhost *h)
{
    return &h->procs->p[h->ip];
}

/* Under p->lock: makes room for so many more. */
static bool
reserve(one_p *p, uint32_t more)
{
    uint32_t size = p->size ? p->size : 64;
    while (size < p->n + more)
        size *= 2;
    if (size == p->size)
        return true;
    gobj **ring = PyMem_RawMalloc(size * sizeof *ring);
    if (ring == NULL)
        return false;
    for (uint32_t i = 0; i < p->n; i++)
        ring[i] = p->ring[(p->head + i) & (p->size - 1)];
    PyMem_RawFree(p->ring);
    p->ring = ring;
    p->size = size;
    p->head = 0;
    return true;
}

/* Under p->lock, with room. */
static void
put(one_p *p, gobj *g)
{
    p->ring[(p->head + p->n) & (p->size - 1)] = g;
    __atomic_store_n(&p->n, p->n + 1, __ATOMIC_SEQ_CST); /* with the loads of any_work */
}

/* Takes up to n of the oldest. */
static uint32_t
get(one_p *p, gobj **list, uint32_t n, bool half)
{
    if (SEEN(p->n) == 0)
        return 0;
    LOCK(&p->lock);
    uint32_t there = half ? (p->n + 1) / 2 : p->n;
    if (n > there)
        n = there;
    for (uint32_t i = 0; i < n; i++)
        list[i] = p->ring[(p->head + i) & (p->size - 1)];
    p->head = (p->head + n) & (p->size ? p->size - 1 : 0);
    SHOW(p->n, p->n - n);
    UNLOCK(&p->lock);
    return n;
}

int
procs_queued(pyhost *h)
{
    procs *ps = h != NULL ? h->procs : NULL;
    int queued = 0;
    for (int i = 0; ps != NULL && i < __atomic_load_n(&ps->n, __ATOMIC_ACQUIRE); i++)
        queued += (int)SEEN(ps->p[i].n);
    return queued;
}

static bool
any_work(procs *ps)
{
    int n = __atomic_load_n(&ps->n, __ATOMIC_ACQUIRE);
    for (int i = 0; i < n; i++)
        if (__atomic_load_n(&ps->p[i].n, __ATOMIC_SEQ_CST) != 0)
            return true;
    return false;
}

pyhost *
procs_here(procs *ps)
{
    pyhost *mine = NULL;
    LOCK(&ps->lock);
    for (int i = 0; i < ps->n && mine == NULL; i++)
        if (ps->p[i].host != NULL && own_is_mine(&ps->p[i].host->own))
            mine = ps->p[i].host;
    UNLOCK(&ps->lock);
    return mine;
}

/* -- Sleeping and waking -------------------------------------------------- */

/* There is something in a queue: wakes a P to look for it, unless one is looking. */
static void
wake_one(procs *ps)
{
    int none = 0;
    if (__atomic_load_n(&ps->idle, __ATOMIC_SEQ_CST) == 0 ||
        !__atomic_compare_exchange_n(&ps->spinning, &none, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return;
    uint64_t idle = __atomic_load_n(&ps->idle, __ATOMIC_SEQ_CST), bit;
    do {
        bit = idle & -idle;
        if (bit == 0) { /* all are up, and look before they sleep */
            __atomic_sub_fetch(&ps->spinning, 1, __ATOMIC_SEQ_CST);
            return;
        }
    } while (!__atomic_compare_exchange_n(&ps->idle, &idle, idle & ~bit, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    loop_wake_up((ploop *)ps->p[__builtin_ctzll(bit)].loop);
}

/* Takes half of what another has, up to a number. */
static bool
steal(procs *ps, int me)
{
    one_p *p = &ps->p[me];
    gobj *list[TAKE];
    uint32_t took = 0;
    LOCK(&p->lock); /* nobody else puts anything in */
    bool room = reserve(p, TAKE);
    UNLOCK(&p->lock);
    int n = __atomic_load_n(&ps->n, __ATOMIC_ACQUIRE);
    for (int k = 1; room && took == 0 && k < n; k++)
        took = get(&ps->p[(me + k) % n], list, TAKE, true);
    if (took == 0)
        return false;
    LOCK(&p->lock);
    for (uint32_t i = 0; i < took; i++)
        put(p, list[i]);
    UNLOCK(&p->lock);
    return true;
}

bool
procs_find(pyhost *h)
{
    return SEEN(p_of(h)->n) != 0 || steal(h->procs, h->ip);
}

bool
procs_sleeps(pyhost *h)
{
    p_of(h)->asleep = true;
    __atomic_fetch_or(&h->procs->idle, (uint64_t)1 << h->ip, __ATOMIC_SEQ_CST); /* before any_work; see procs_spawn */
    if (!any_work(h->procs))
        return true;
    procs_woke(h);
    return false;
}

void
procs_woke(pyhost *h)
{
    procs *ps = h->procs;
    one_p *p = p_of(h);
    uint64_t bit = (uint64_t)1 << h->ip;
    if (!p->asleep)
        return;
    p->asleep = false;
    if ((__atomic_fetch_and(&ps->idle, ~bit, __ATOMIC_SEQ_CST) & bit) != 0)
        return; /* something else has woken it */
    procs_find(h);
    __atomic_sub_fetch(&ps->spinning, 1, __ATOMIC_SEQ_CST); /* before any_work; see wake_one */
    if (any_work(ps))
        wake_one(ps);
}

/* -- Begin ---------------------------------------------------------------- */

int
procs_spawn(pyhost *h, gobj *g)
{
    one_p *p = p_of(h);
    LOCK(&p->lock);
    bool done = reserve(p, 1);
    if (done)
        put(p, (gobj *)Py_NewRef((PyObject *)g));
    UNLOCK(&p->lock);
    if (!done) {
        PyErr_NoMemory();
        return -1;
    }
    wake_one(h->procs);
    return 0;
}

/* Its first step, here, where it stays. Takes g. 0, or -1 with an exception that leaves the loop. */
int
procs_begin(pyhost *h, gobj *g)
{
    procs *ps = h->procs;
    pyhost *old = g->host;
    uint32_t task = host_task_new(h, false, (PyObject *)g);
    bool failed = task == NO_TASK;
    Py_INCREF(h);
    LOCK(&ps->lock);
    g_unlink(g);
    __atomic_store_n(&g->host, h, __ATOMIC_RELAXED);
    g_link(g);
    g->task = task;
    __atomic_store_n(&g->begun, true, __ATOMIC_RELEASE); /* with the acquire of g_begun */
    g->first = old; /* with its reference */
    UNLOCK(&ps->lock);
    int rc = 0;
    if (failed) {
        current_none(h);
        PyObject *error = PyErr_GetRaisedException();
        PyObject *closed = PyObject_CallMethod(g->coro, "close", NULL);
        if (closed == NULL)
            PyErr_WriteUnraisable(g->coro);
        Py_XDECREF(closed);
        g_finish(g, NULL, error);
    } else {
        PyObject *name = G_RARE(g, name) != NULL ? g_name(g) : NULL;
        const char *text = name != NULL ? PyUnicode_AsUTF8(name) : NULL;
        if (text != NULL)
            tdl_task_set_name(h->core, task, text);
        Py_XDECREF(name);
        PyErr_Clear();
        PyObject *exc = NULL;
        if (g_take_cancel(g) && (exc = make_cancelled(h->st, G_RARE(g, cancel_msg))) == NULL)
            exc = PyErr_GetRaisedException();
        rc = g_step(g, exc);
    }
    Py_DECREF(g);
    return rc;
}

int
procs_run(pyhost *h)
{
    gobj *g;
    for (int i = 0; i < RUN && get(p_of(h), &g, 1, false) == 1; i++) {
        if (h->watch != NULL)
            watch_beat(h, true);
        if (procs_begin(h, g) < 0)
            return -1;
        if (h->core == NULL)
            break;
    }
    return 0;
}

/* -- What one P does to the goroutines of another ------------------------- */

int
procs_call(pyhost *h, PyObject *callback, PyObject *arg, PyObject *context)
{
    PyObject *args[] = {callback, arg, context}, *handle;
    LOCK(&h->procs->lock); /* a thread that is none of its Ps may come as it ends */
    PyObject *loop = Py_XNewRef(h->procs->p[h->ip].loop);
    UNLOCK(&h->procs->lock);
    if (loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    handle = loop_call_soon_threadsafe(loop, args, arg != NULL ? 2 : 1, context != NULL ? h->st->empty_kw_context : NULL);
    Py_DECREF(loop);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

/* _poke(), on its own P: somebody has asked for its cancellation. */
PyObject *
g_poke(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    gobj *g = (gobj *)self;
    G_OWN(g, NULL);
    if (!G_ENDED(g) && g->state == G_WAITING && g->host->core != NULL && g_take_cancel(g))
        g_cancel_wait(g, G_RARE(g, cancel_msg));
    Py_RETURN_NONE;
}

bool
g_cancel_across(gobj *g, PyObject *msg)
{
    procs *ps = g_procs(g);
    if (msg != NULL && g_rare(g) == NULL) {
        PyErr_Clear(); /* cancelled, without its message */
        msg = NULL;
    }
    LOCK(&ps->lock);
    bool ended = G_ENDED(g), begun = g_begun(g);
    if (!ended) {
        g->cancels++;
        if (msg != NULL && g->rare->cancel_msg == NULL) /* stays: its owner looks at it without the lock */
            __atomic_store_n(&g->rare->cancel_msg, Py_NewRef(msg), __ATOMIC_RELEASE); /* with G_RARE */
        SHOW(g->must_cancel, true);
    }
    UNLOCK(&ps->lock);
    if (ended || !begun)
        return !ended;
    if (own_is_mine(&g->host->own)) {
        if (g->state == G_WAITING && g->host->core != NULL && g_take_cancel(g))
            g_cancel_wait(g, msg);
        return true;
    }
    PyObject *poke = PyObject_GetAttrString((PyObject *)g, "_poke");
    if (poke == NULL || procs_call(g->host, poke, NULL, NULL) < 0)
        PyErr_Clear(); /* its loop is closed */
    Py_XDECREF(poke);
    return true;
}

/* As op_begin_join; who waits is readied by the core. */
PySendResult
op_begin_join_across(opobj *op, procs *ps, PyObject **result)
{
    gobj *target = (gobj *)op->target;
    pyhost *h = host_get(SEEN(target->host)->st);
    *result = NULL;
    if (h == NULL)
        return PYGEN_ERROR;
    if (h->procs != ps) {
        PyErr_Format(PyExc_RuntimeError, "%R belongs to another event loop", target);
        return PYGEN_ERROR;
    }
    if (tl_running == h && h->current == target) {
        PyErr_Format(PyExc_RuntimeError, "Task cannot await on itself: %R", target);
        return PYGEN_ERROR;
    }
    PySendResult r = op_begin(op, result, false);
    if (r != PYGEN_NEXT)
        return r;
    LOCK(&ps->lock); /* it is parked: who ends target from here on finds it in the list */
    bool ended = G_ENDED(target), kept = ended;
    if (!ended)
        kept = (target->joiners != NULL || (target->joiners = PyList_New(0)) != NULL) &&
               PyList_Append(target->joiners, (PyObject *)op) == 0;
    UNLOCK(&ps->lock);
    if (ended)
        tdl_task_ready(h->core, op->task, 0);
    if (kept)
        return PYGEN_NEXT;
    op_abandon(op);
    Py_CLEAR(*result);
    return PYGEN_ERROR;
}

/* -- Making and ending ---------------------------------------------------- */

static void
join(procs *ps, pyhost *h)
{
    int i = ps->n;
    ps->p[i].host = (pyhost *)Py_NewRef((PyObject *)h);
    ps->p[i].loop = Py_NewRef(h->loop);
    ps->refs++;
    h->ip = i;
    h->procs = ps;
    __atomic_store_n(&ps->n, i + 1, __ATOMIC_RELEASE);
}

static bool
may_join(pyhost *h)
{
    if (h->core != NULL && h->ploop != NULL && h->loop != NULL && h->procs == NULL && h->live == NULL)
        return true;
    PyErr_SetString(PyExc_RuntimeError, "the loop has goroutines, or is none of treadle's");
    return false;
}

PyObject *
procs_form(PyObject *self, PyObject *n)
{
    pyhost *h = (pyhost *)self;
    OWN(&h->own, NULL);
    long room = PyLong_AsLong(n);
    if (room == -1 && PyErr_Occurred())
        return NULL;
    if (room < 1 || room > PROCS_MAX)
        return PyErr_Format(PyExc_ValueError, "procs: 1 to %d, not %ld", PROCS_MAX, room);
    if (!may_join(h))
        return NULL;
    procs *ps = PyMem_RawCalloc(1, sizeof *ps + (size_t)room * sizeof ps->p[0]);
    if (ps == NULL)
        return PyErr_NoMemory();
    ps->room = (int)room;
    ps->nobody.thread = (uintptr_t)ps | OWN_RUNS; /* no thread's identity */
    join(ps, h);
    Py_RETURN_NONE;
}

PyObject *
procs_join(PyObject *self, PyObject *first)
{
    pyhost *h = (pyhost *)self;
    OWN(&h->own, NULL);
    if (Py_TYPE(first) != Py_TYPE(self) || ((pyhost *)first)->procs == NULL)
        return PyErr_Format(PyExc_TypeError, "join expects a _Host with others, not %R", first);
    procs *ps = ((pyhost *)first)->procs;
    if (!may_join(h))
        return NULL;
    LOCK(&ps->lock);
    bool room = ps->n < ps->room;
    if (room)
        join(ps, h);
    UNLOCK(&ps->lock);
    if (!room)
        return PyErr_Format(PyExc_RuntimeError, "there are %d Ps already", ps->room);
    Py_RETURN_NONE;
}

/* All their threads have ended. */
PyObject *
procs_end(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    pyhost *h = (pyhost *)self;
    OWN(&h->own, NULL);
    procs *ps = h->procs;
    for (int i = 0; ps != NULL && i < ps->n; i++) {
        one_p *p = &ps->p[i];
        gobj *g;
        while (get(p, &g, 1, false) == 1) /* one that was spawned by what was cancelled last */
            Py_DECREF(g);
        PyMem_RawFree(p->ring);
        p->ring = NULL;
        p->size = 0;
        LOCK(&ps->lock);
        PyObject *loop = p->loop;
        pyhost *host = p->host;
        p->loop = NULL;
        p->host = NULL;
        UNLOCK(&ps->lock);
        Py_XDECREF(loop);
        Py_XDECREF(host);
    }
    Py_RETURN_NONE;
}

void
procs_release(procs *ps)
{
    if (ps != NULL && __atomic_sub_fetch(&ps->refs, 1, __ATOMIC_ACQ_REL) == 0)
        PyMem_RawFree(ps);
}

#else

static PyObject *
refuse(void)
{
    PyErr_SetString(PyExc_RuntimeError, "this Python has a lock");
    return NULL;
}

PyObject *procs_form(PyObject *self, PyObject *n) { (void)self, (void)n; return refuse(); }
PyObject *procs_join(PyObject *self, PyObject *first) { (void)self, (void)first; return refuse(); }
PyObject *procs_end(PyObject *self, PyObject *ignored) { (void)self, (void)ignored; return refuse(); }

#endif
