/* SPDX-License-Identifier: MIT
 *
 * asyncio's current task.
 *
 * Invariant. A goroutine that waits again stays the current task (h->stale) until
 * something else than a goroutine runs: where one is stepped after the other asyncio is
 * told once for each, and its table, which up to 3.13 all threads share, is not grown and
 * shrunk. */
#ifndef TDLPY_CURRENT_H
#define TDLPY_CURRENT_H

#include "loop.h"

/* Makes `task` (NULL: none) the current one; *old, if asked for, is the one
 * before, a new reference or NULL. -1: exception. */
int current_set(pyhost *h, PyObject *task, PyObject **old);
/* The one before (taken) is the current one again. */
void current_back(pyhost *h, PyObject *old);
/* An exception in progress stays. */
void current_forget(pyhost *h);

/* Before anything else than a step of a goroutine. */
static inline void
current_none(pyhost *h)
{
    if (h->stale != NULL)
        current_forget(h);
}

/* Around a step; enter: 0, or -1 with an exception. */
static inline int
current_enter(pyhost *h, gobj *g, PyObject **old)
{
    gobj *stale = h->stale;
    *old = NULL;
    h->stale = NULL;
    return stale == g ? 0 : current_set(h, (PyObject *)g, stale == NULL ? old : NULL);
}

static inline void
current_leave(pyhost *h, gobj *g, PyObject *old, bool ended)
{
    if (old == NULL && !ended && h->dispatching && h->core != NULL && h->loop != NULL)
        h->stale = g;
    else
        current_back(h, old);
}

#endif
