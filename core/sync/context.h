/* SPDX-License-Identifier: MIT
 *
 * Contexts: a tree, in which children hold their parents, and parents know of
 * their children without holding them.
 *
 * Who guards what. err, cause and detail are written once, under the lock, err
 * last (release; acquire where it is read without the lock). children, hooks and
 * waiters are under the lock, and empty once the context has been ended, for
 * nobody joins them when err is set. A context's place among its siblings is
 * under its *parent's* lock. parent, deadline, key and val never change.
 *
 * refs never rises from 0, but for hold(), which looks first: from a parent that
 * ends, under the parent's lock, which who frees the child takes before the
 * memory goes; and from a timer that comes late, under the context's own lock,
 * which is one also when the memory is another context's by now.
 *
 * Ending: who sets err owns `dying`, and tells the children, one lock at a time;
 * no context's lock is taken inside another's.
 */
#ifndef TDL_SYNC_CONTEXT_H
#define TDL_SYNC_CONTEXT_H

#include "sync/sync.h"

/* Called once, without a lock, when the context has ended. */
typedef struct tdl_hook {
    struct tdl_hook *next, **at; /* at: where it is linked from, NULL: it is not */
    void (*fn)(struct tdl_hook *h);
} tdl_hook;

struct tdl_context {
    tdl_lock lock;
    _Atomic uint32_t refs;
    _Atomic int err;
    int cause;
    tdl_val detail;
    tdl_context *parent; /* held; NULL: it has none */
    tdl_context *children, *next, **at;
    tdl_hook *hooks;
    tdl_queue waiters;
    tdl_chan *done; /* NULL: it cannot end */
    tdl_context *dying;
    int64_t deadline;
    tdl_timer_call timer; /* armed and disarmed under the lock */
    tdl_val key, val;     /* key is nil: it carries none */
};

/* false: it has ended, and fn will not be called. */
bool tdl_context_hook(tdl_context *c, tdl_hook *h);
/* false: fn is being called, or was. */
bool tdl_context_unhook(tdl_context *c, tdl_hook *h);
int64_t tdl_context_live(void);

#endif
