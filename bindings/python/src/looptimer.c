/* SPDX-License-Identifier: MIT
 *
 * Timers of a loop: a 4-ary heap by (when, seq). Each handle knows its index, so
 * that a cancelled one leaves at once: nothing is left to be swept, and what is
 * made and cancelled again (timeouts, mostly) is the heap's last one. */
#include "handle.h"

static inline bool
before(const ploop_timer *a, const ploop_timer *b)
{
    return a->when < b->when || (a->when == b->when && a->seq < b->seq);
}

static inline void
put(ploop *l, uint32_t i, ploop_timer t)
{
    l->timers[i] = t;
    t.handle->index = i + 1;
}

static void
sift_up(ploop *l, uint32_t i, ploop_timer t)
{
    while (i > 0) {
        uint32_t parent = (i - 1) / 4;
        if (!before(&t, &l->timers[parent]))
            break;
        put(l, i, l->timers[parent]);
        i = parent;
    }
    put(l, i, t);
}

static void
sift_down(ploop *l, uint32_t i, ploop_timer t)
{
    for (;;) {
        uint32_t child = 4 * i + 1, last = child + 4, best = child;
        if (child >= l->ntimers)
            break;
        if (last > l->ntimers)
            last = l->ntimers;
        while (++child < last)
            if (before(&l->timers[child], &l->timers[best]))
                best = child;
        if (!before(&l->timers[best], &t))
            break;
        put(l, i, l->timers[best]);
        i = best;
    }
    put(l, i, t);
}

int
timer_add(ploop *l, phandle *h)
{
    if (l->ntimers == l->timers_size) {
        uint32_t size = l->timers_size ? 2 * l->timers_size : 64;
        ploop_timer *more = PyMem_Realloc(l->timers, size * sizeof *more);
        if (more == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        l->timers = more;
        l->timers_size = size;
    }
    /* one that is not a number is due at once, as in asyncio's comparison */
    double when = h->when == h->when ? h->when : -Py_HUGE_VAL;
    sift_up(l, l->ntimers++, (ploop_timer){when, l->timer_seq++, (phandle *)Py_NewRef((PyObject *)h)});
    return 0;
}

static void
leave(ploop *l, phandle *h)
{
    uint32_t i = h->index - 1;
    ploop_timer last = l->timers[--l->ntimers];
    h->index = 0;
    if (last.handle == h)
        return;
    if (i > 0 && before(&last, &l->timers[(i - 1) / 4]))
        sift_up(l, i, last);
    else
        sift_down(l, i, last);
}

void
timer_remove(ploop *l, phandle *h)
{
    leave(l, h);
    Py_DECREF(h);
}

phandle *
timer_pop(ploop *l)
{
    phandle *h = l->timers[0].handle;
    leave(l, h);
    return h;
}

void
timers_clear(ploop *l)
{
    while (l->ntimers > 0) {
        phandle *h = l->timers[--l->ntimers].handle;
        h->index = 0;
        Py_DECREF(h);
    }
    PyMem_Free(l->timers);
    l->timers = NULL;
    l->timers_size = 0;
}
