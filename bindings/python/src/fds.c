/* SPDX-License-Identifier: MIT
 *
 * Descriptors of a loop: those of transports (ploop_fd, edge-triggered, registered
 * once), those of add_reader and add_writer (level-triggered), and those on which
 * the sock_ methods wait.
 *
 * Invariants.
 *  - One entry for each descriptor number that add_reader or a sock_ method has ever
 *    used. e->how is what the host watches it for; entry_sync makes it what is wanted:
 *      a reader or writer is there: level-triggered, for those and for who waits;
 *      else, for a sock_ method: edge-triggered for both directions, and it stays so
 *      while e->sock (a weak reference) is the socket that uses the number, so that
 *      no call of the kernel's is needed for the next wait. Not so with io_uring, where a
 *      socket that is watched is not gone when its owner closes it: there it ends with the wait.
 *  - A closed descriptor leaves the kernel's set by itself, so `how` may say more than
 *    is so when the number has a new owner. Whoever comes with another socket, and
 *    ploop_fd_add, therefore has the old registration removed first.
 *  - The object that add_reader was given stays alive while it is registered, as in asyncio's
 *    selector, and is found again by itself once it is closed and has no number any more.
 *  - Before the host is open, and on other threads, registrations wait (l->unsynced)
 *    for fds_open. */
#include "handle.h"
#include "fds.h"
#include <errno.h>
#include <sys/stat.h>

/* -- Watchers of the host ------------------------------------------------- */

static int
fail(int code)
{
    errno = code <= -4096 ? EINVAL : -code;
    return -1;
}

/* 0, or -1 with errno. */
static int
watch(ploop *l, ploop_fd *f, int how)
{
    int id = tdl_host_watch(l->host->core, f->fd, how);
    if (id < 0)
        return fail(id);
    if (id >= l->nwatchers) {
        int n = l->nwatchers ? l->nwatchers : 16;
        while (n <= id)
            n *= 2;
        ploop_fd **more = PyMem_RawRealloc(l->watchers, (size_t)n * sizeof *more);
        if (more == NULL) {
            tdl_host_unwatch(l->host->core, id);
            return fail(-ENOMEM);
        }
        memset(more + l->nwatchers, 0, (size_t)(n - l->nwatchers) * sizeof *more);
        l->watchers = more;
        l->nwatchers = n;
    }
    l->watchers[id] = f;
    f->watcher = id + 1;
    f->loop = l;
    if (how & TDL_EDGE)
        l->asks_edges = tdl_host_watch_want(l->host->core, id, 0) > 0;
    return 0;
}

/* Events of it that are still in the batch are forgotten: its number may be given out
 * again before they would be looked at. */
static void
unwatch(ploop *l, ploop_fd *f)
{
    int id = f->watcher - 1;
    pyhost *h = l->host;
    f->watcher = 0;
    if (id < 0 || h == NULL)
        return;
    l->watchers[id] = NULL;
    for (int i = h->ievent; i < h->nevents; i++)
        if (h->events[i].task == (TDL_WATCHER | (uint32_t)id))
            h->events[i].task = NO_TASK & ~(uint32_t)TDL_WATCHER;
    if (host_reach(h))
        tdl_host_unwatch(h->core, id); /* while another runs the loop it stays, and its events find nobody */
}

void
fds_event(ploop *l, uint32_t watcher, unsigned ready)
{
    ploop_fd *f = watcher < (uint32_t)l->nwatchers ? l->watchers[watcher] : NULL;
    if (f != NULL)
        f->cb(f, ready);
}

static bool
host_here(ploop *l)
{
    return l->host != NULL && host_reach(l->host);
}

void
entry_forget(ploop *l, ploop_entry *e)
{
    unwatch(l, &e->f);
    e->how = 0;
    Py_CLEAR(e->sock);
}

int
ploop_fd_add(ploop *l, ploop_fd *f)
{
    if (f->watcher != 0)
        return fail(-EEXIST);
    if (!host_here(l))
        return fail(-EINVAL);
    if (f->fd >= 0 && f->fd < l->nentries && l->entries[f->fd] != NULL) {
        ploop_entry *e = l->entries[f->fd];
        if (entry_wanted(e))
            return fail(-EEXIST);
        entry_forget(l, e);
    }
    if (watch(l, f, TDL_READABLE | TDL_WRITABLE | TDL_EDGE) < 0)
        return -1;
    l->nfds++;
    return 0;
}

void
ploop_fd_del(ploop_fd *f)
{
    if (f->watcher == 0)
        return;
    f->loop->nfds--;
    unwatch(f->loop, f);
}

/* -- Entries -------------------------------------------------------------- */

/* What somebody waits for now. */
int
entry_wanted(const ploop_entry *e)
{
    int waits = 0;
    for (int i = 0; i < 2; i++)
        if (e->waiters[i] != NULL)
            waits |= i == 0 ? TDL_READABLE : TDL_WRITABLE;
    return waits | (e->reader != NULL ? TDL_READABLE : 0) | (e->writer != NULL ? TDL_WRITABLE : 0);
}

static void entry_ready(ploop_fd *f, unsigned ready);

ploop_entry *
entry_get(ploop *l, int fd)
{
    if (fd >= l->nentries) {
        int n = l->nentries ? l->nentries : 32;
        while (n <= fd)
            n *= 2;
        ploop_entry **more = PyMem_RawRealloc(l->entries, (size_t)n * sizeof *more);
        if (more == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        memset(more + l->nentries, 0, (size_t)(n - l->nentries) * sizeof *more);
        l->entries = more;
        l->nentries = n;
    }
    if (l->entries[fd] == NULL) {
        ploop_entry *e = PyMem_RawCalloc(1, sizeof *e);
        if (e == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        e->f.fd = fd;
        e->f.cb = entry_ready;
        e->f.loop = l;
        l->entries[fd] = e;
    }
    return l->entries[fd];
}

static ploop_entry *
entry_find(ploop *l, int fd)
{
    return fd >= 0 && fd < l->nentries ? l->entries[fd] : NULL;
}

/* What the kernel would say, for one that cannot be registered yet. */
static int
probe(int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -1;
    return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ? fail(-EPERM) : 0;
}

/* Makes the registration what it has to be. 0, or -1 with errno. */
int
entry_sync(ploop *l, ploop_entry *e)
{
    int wanted = entry_wanted(e), how = wanted;
    bool counted = wanted != 0;
    if (counted != e->counted) {
        e->counted = counted;
        l->nwatched += counted ? 1 : -1;
    }
    if (e->reader == NULL && e->writer == NULL && e->sock != NULL && (wanted || !l->holds_fds))
        how = TDL_READABLE | TDL_WRITABLE | TDL_EDGE;
    if (how == e->how)
        return 0;
    if (!host_here(l)) {
        l->unsynced = true;
        return how == 0 ? 0 : probe(e->f.fd);
    }
    int r = -ENOENT;
    if (how == 0) {
        unwatch(l, &e->f);
        e->how = 0;
        return 0;
    }
    if (e->f.watcher != 0) {
        r = tdl_host_watch_modify(l->host->core, e->f.watcher - 1, how);
        if (r < 0) /* its descriptor was closed, and another has the number */
            unwatch(l, &e->f);
    }
    if (r < 0) {
        e->how = 0;
        if (watch(l, &e->f, how) < 0)
            return -1;
    }
    e->how = how;
    return 0;
}

/* Nobody reads or writes by a handle any more, so nobody has come with an object. */
static void
entry_disown(ploop_entry *e)
{
    if (e->reader == NULL && e->writer == NULL)
        Py_CLEAR(e->owner);
}

/* The handle goes to the ready queue, unless it was cancelled behind our back. */
static void
handle_ready(ploop *l, ploop_entry *e, PyObject **slot)
{
    PyObject *handle = *slot;
    if (handle == NULL)
        return;
    if (SEEN(((phandle *)handle)->cancelled)) {
        *slot = NULL;
        Py_DECREF(handle);
        entry_sync(l, e);
        entry_disown(e);
    } else if (ready_push(l, Py_NewRef(handle)) < 0) {
        ploop_fatal(l);
    }
}

static void
wake_waiters(ploop *l, ploop_entry *e, int direction)
{
    if (e->waiters[direction] == NULL)
        return;
    while (e->waiters[direction] != NULL)
        sockop_ready(e->waiters[direction]); /* which takes it from the list */
    entry_sync(l, e);
}

static void
entry_ready(ploop_fd *f, unsigned ready)
{
    ploop_entry *e = (ploop_entry *)f;
    ploop *l = f->loop;
    if (ready & PLOOP_HUP)
        e->hup = true;
    if (ready & PLOOP_READ) {
        e->drained = false;
        handle_ready(l, e, &e->reader);
        wake_waiters(l, e, 0);
    }
    if (ready & PLOOP_WRITE) {
        handle_ready(l, e, &e->writer);
        wake_waiters(l, e, 1);
    }
}

bool
fds_awaited(ploop *l)
{
    return l->nfds > 0 || l->nwatched > 1; /* the first is asyncio's, for signals */
}

int
fds_open(ploop *l)
{
    l->unsynced = false;
    l->holds_fds = strcmp(tdl_netpoll_name(), "uring") == 0;
    for (int i = 0; i < l->nentries; i++)
        if (l->entries[i] != NULL && entry_sync(l, l->entries[i]) < 0 && errno != EBADF) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
    return 0;
}

void
fds_clear(ploop *l)
{
    ploop_entry **entries = l->entries;
    int n = l->nentries;
    ploop_fd **watchers = l->watchers;
    for (int i = 0; i < l->nwatchers; i++)
        if (watchers[i] != NULL) { /* transports that were not closed, too */
            ploop_fd *f = watchers[i];
            unwatch(l, f);
        }
    l->entries = NULL;
    l->nentries = l->nwatched = l->nfds = 0;
    l->watchers = NULL;
    l->nwatchers = 0;
    PyMem_RawFree(watchers);
    for (int i = 0; i < n; i++) {
        ploop_entry *e = entries[i];
        if (e == NULL)
            continue;
        Py_XDECREF(e->reader);
        Py_XDECREF(e->writer);
        Py_XDECREF(e->owner);
        for (int w = 0; w < 2; w++)
            while (e->waiters[w] != NULL) {
                sockop *o = e->waiters[w];
                e->waiters[w] = o->next;
                o->linked = false;
                o->prev = o->next = NULL;
                Py_DECREF(o);
            }
        Py_XDECREF(e->sock);
        PyMem_RawFree(e);
    }
    PyMem_RawFree(entries);
}

int
fds_traverse(ploop *l, visitproc visit, void *arg)
{
    for (int i = 0; i < l->nentries; i++) {
        ploop_entry *e = l->entries[i];
        if (e == NULL)
            continue;
        Py_VISIT(e->reader);
        Py_VISIT(e->writer);
        Py_VISIT(e->owner);
        for (int w = 0; w < 2; w++)
            for (sockop *o = e->waiters[w]; o != NULL; o = o->next)
                Py_VISIT(o);
        Py_VISIT(e->sock);
    }
    return 0;
}

/* -- add_reader and its kind ---------------------------------------------- */

static int
fd_arg(PyObject *object)
{
    int fd = PyLong_CheckExact(object) ? PyLong_AsInt(object) : PyObject_AsFileDescriptor(object);
    if (fd < 0 && PyErr_Occurred() &&
        (PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_AttributeError)))
        PyErr_Format(PyExc_ValueError, "Invalid file object: %R", object);
    else if (fd < 0 && (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_ValueError) ||
                        PyErr_ExceptionMatches(PyExc_OverflowError)))
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %d", fd);
    return fd < 0 ? -1 : fd;
}

/* context: asyncio's own transports give one, from CPython 3.15 on. */
static PyObject *
add(ploop *l, PyObject *const *args, Py_ssize_t n, PyObject *names, bool writer)
{
    PyObject *context = NULL;
    if (names != NULL && PyTuple_GET_SIZE(names) > 0) {
        if (PyTuple_GET_SIZE(names) > 1 || !PyUnicode_Check(PyTuple_GET_ITEM(names, 0)) ||
            PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "context") != 0)
            return PyErr_Format(PyExc_TypeError, "unexpected keyword arguments %R", names);
        context = args[n] == Py_None ? NULL : args[n];
    }
    if (n < 2)
        return PyErr_Format(PyExc_TypeError, "a descriptor and a callback were expected");
    if (l->closed) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return NULL;
    }
    int fd = fd_arg(args[0]);
    if (fd < 0)
        return NULL;
    ploop_entry *e = entry_get(l, fd);
    if (e == NULL)
        return NULL;
    phandle *h = handle_new(l, false, args[1], args + 2, n - 2, context);
    if (h == NULL)
        return NULL;
    if (l->debug) {
        h->traceback = PyObject_CallMethod((PyObject *)l, "_debug_stack", NULL);
        if (h->traceback == NULL) {
            Py_DECREF(h);
            return NULL;
        }
    }
    PyObject **slot = writer ? &e->writer : &e->reader, *old = *slot;
    PyObject *owner = PyLong_Check(args[0]) ? NULL : args[0], *before = NULL;
    if (owner != NULL && owner != e->owner) {
        before = e->owner;
        if (before != NULL) /* it may be closed, and the kernel have forgotten the number */
            entry_forget(l, e);
        e->owner = Py_NewRef(owner);
    } else {
        owner = NULL;
    }
    *slot = Py_NewRef((PyObject *)h);
    if (entry_sync(l, e) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        *slot = old;
        PyObject *exc = PyErr_GetRaisedException();
        if (owner != NULL) {
            e->owner = before;
            Py_DECREF(owner);
        }
        entry_sync(l, e);
        PyErr_SetRaisedException(exc);
        Py_DECREF(h);
        Py_DECREF(h);
        return NULL;
    }
    Py_XDECREF(before);
    if (old != NULL) {
        PyObject *done = PyObject_CallMethodNoArgs(old, l->st->s_cancel);
        Py_DECREF(old);
        if (done == NULL) {
            Py_DECREF(h);
            return NULL;
        }
        Py_DECREF(done);
    }
    return (PyObject *)h;
}

/* Of one that has no number any more: where it was. */
static ploop_entry *
entry_of(ploop *l, PyObject *object)
{
    for (int i = 0; i < l->nentries; i++)
        if (l->entries[i] != NULL && l->entries[i]->owner == object)
            return l->entries[i];
    return NULL;
}

static PyObject *
drop(ploop *l, PyObject *object, bool writer)
{
    if (l->closed)
        Py_RETURN_FALSE;
    int fd = fd_arg(object);
    ploop_entry *e = fd < 0 ? entry_of(l, object) : entry_find(l, fd);
    if (fd < 0 && e == NULL)
        return NULL;
    PyErr_Clear();
    PyObject **slot = e == NULL ? NULL : writer ? &e->writer : &e->reader;
    if (slot == NULL || *slot == NULL)
        Py_RETURN_FALSE;
    PyObject *handle = *slot;
    *slot = NULL;
    entry_sync(l, e);
    entry_disown(e);
    PyObject *done = PyObject_CallMethodNoArgs(handle, l->st->s_cancel);
    Py_DECREF(handle);
    if (done == NULL)
        return NULL;
    Py_DECREF(done);
    Py_RETURN_TRUE;
}

PyObject *
fds_add_reader(PyObject *l, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    OWN(&((ploop *)l)->own, NULL);
    return add((ploop *)l, args, n, names, false);
}

PyObject *
fds_add_writer(PyObject *l, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    OWN(&((ploop *)l)->own, NULL);
    return add((ploop *)l, args, n, names, true);
}

PyObject *
fds_remove_reader(PyObject *l, PyObject *fd)
{
    OWN(&((ploop *)l)->own, NULL);
    return drop((ploop *)l, fd, false);
}

PyObject *
fds_remove_writer(PyObject *l, PyObject *fd)
{
    OWN(&((ploop *)l)->own, NULL);
    return drop((ploop *)l, fd, true);
}

/* [(fd, object or fd, reader or None, writer or None)…], as asyncio's selector would have them. */
PyObject *
fds_list(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    OWN(&((ploop *)self)->own, NULL);
    ploop *l = (ploop *)self;
    PyObject *list = PyList_New(0);
    for (int i = 0; list != NULL && i < l->nentries; i++) {
        ploop_entry *e = l->entries[i];
        if (e == NULL || (e->reader == NULL && e->writer == NULL))
            continue;
        PyObject *owner = e->owner ? Py_NewRef(e->owner) : PyLong_FromLong(i);
        PyObject *item = Py_BuildValue("iNOO", i, owner, e->reader ? e->reader : Py_None, e->writer ? e->writer : Py_None);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}
