/* SPDX-License-Identifier: MIT
 *
 * The watchdog of a host: a thread, where one is asked for, that looks whether
 * the host still gets on. It has no GIL while it waits; what it finds is told by
 * a Python function (_watchdog.py), for which it takes the GIL as any thread
 * does: a goroutine that computes gives it up after the switch interval, and a
 * call that blocks has mostly given it up.
 *
 * Invariants.
 *  - host->beat is written by the host's thread alone (relaxed: it is only
 *    compared). Odd: it runs code; it changes at each step. Even: it waits, or
 *    its loop is not ours.
 *  - A watch lives from watch_start to watch_stop, which waits for the thread
 *    without the GIL; so the thread may use the host. It has no thread state but
 *    while it reports, and is stopped before its interpreter ends (atexit). */
#include "state.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

struct watch {
    pthread_t thread;
    pthread_mutex_t lock; /* guards stop */
    pthread_cond_t bell;
    bool stop;
    int64_t limit;
    PyInterpreterState *interp;
    PyObject *report; /* report(goroutine or None, seconds, thread's ident, went on) */
    unsigned long ident;
    pyhost *host;
};

static int64_t
clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * TDL_SECOND + t.tv_nsec;
}

static uint64_t
beat_of(const pyhost *h)
{
    return __atomic_load_n(&h->beat, __ATOMIC_RELAXED);
}

static bool
stopped(struct watch *w)
{
    pthread_mutex_lock(&w->lock);
    bool stop = w->stop;
    pthread_mutex_unlock(&w->lock);
    return stop;
}

/* Until the next look; true: to stop. */
static bool
nap(struct watch *w, int64_t ns)
{
    int64_t until = clock_ns() + ns;
    struct timespec t = {(time_t)(until / TDL_SECOND), (long)(until % TDL_SECOND)};
    pthread_mutex_lock(&w->lock);
    while (!w->stop && pthread_cond_timedwait(&w->bell, &w->lock, &t) != ETIMEDOUT)
        ;
    bool stop = w->stop;
    pthread_mutex_unlock(&w->lock);
    return stop;
}

static void
tell(struct watch *w, uint64_t beat, int64_t ns)
{
    PyThreadState *ts = PyThreadState_New(w->interp);
    if (ts == NULL)
        return;
    PyEval_RestoreThread(ts);
    if (!stopped(w)) {
        bool went_on = beat_of(w->host) != beat;
        LOCK(&w->host->lock);
        PyObject *g = Py_NewRef(!went_on && w->host->current != NULL ? (PyObject *)w->host->current : Py_None);
        UNLOCK(&w->host->lock);
        PyObject *done = PyObject_CallFunction(w->report, "OdkO", g, (double)ns * 1e-9, w->ident,
                                               went_on ? Py_True : Py_False);
        Py_DECREF(g);
        if (done == NULL)
            PyErr_WriteUnraisable(w->report);
        Py_XDECREF(done);
    }
    PyThreadState_Clear(ts);
    PyThreadState_DeleteCurrent();
}

static void *
watch_main(void *arg)
{
    struct watch *w = arg;
    int64_t tick = w->limit / 4, since = clock_ns();
    uint64_t last = beat_of(w->host);
    bool told = false;
    if (tick > TDL_SECOND)
        tick = TDL_SECOND;
    if (tick < TDL_MILLISECOND)
        tick = TDL_MILLISECOND;
    while (!nap(w, tick)) {
        uint64_t beat = beat_of(w->host);
        int64_t now = clock_ns();
        if (beat != last) {
            last = beat;
            since = now;
            told = false;
        } else if ((beat & 1) && !told && now - since >= w->limit) {
            told = true;
            tell(w, beat, now - since);
        }
    }
    return NULL;
}

int
watch_start(pyhost *h, int64_t limit, PyObject *report)
{
    watch_stop(h);
    struct watch *w = PyMem_RawCalloc(1, sizeof *w);
    if (w == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->bell, &monotonic);
    pthread_condattr_destroy(&monotonic);
    w->limit = limit;
    w->interp = PyInterpreterState_Get();
    w->report = Py_NewRef(report);
    w->ident = PyThread_get_thread_ident();
    w->host = h;
    sigset_t all, before; /* signals are for the threads of the program */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->thread, NULL, watch_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        Py_DECREF(w->report);
        PyMem_RawFree(w);
        errno = rc;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    h->watch = w;
    return 0;
}

/* Any thread, with the GIL. */
void
watch_stop(pyhost *h)
{
    struct watch *w = __atomic_exchange_n(&h->watch, NULL, __ATOMIC_RELAXED); /* one of several gets it */
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->bell);
    pthread_mutex_unlock(&w->lock);
    if (pthread_equal(w->thread, pthread_self())) { /* from within its own report */
        pthread_detach(w->thread);
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    Py_BEGIN_ALLOW_THREADS
    pthread_join(w->thread, NULL);
    Py_END_ALLOW_THREADS
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->bell);
    Py_DECREF(w->report);
    PyMem_RawFree(w);
    PyErr_SetRaisedException(exc);
}

PyObject *
watch_stop_all(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    mod_state *st = state_of(module);
    bool found = true;
    while (found) { /* the list may change while one is waited for */
        found = false;
        LOCK(&st->lock);
        pyhost *h = st->hosts;
        while (h != NULL && (h->watch == NULL || !ref_try((PyObject *)h)))
            h = h->next;
        UNLOCK(&st->lock);
        if (h != NULL) {
            found = true;
            watch_stop(h);
            Py_DECREF(h);
        }
    }
    Py_RETURN_NONE;
}
