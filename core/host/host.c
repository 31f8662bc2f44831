/* SPDX-License-Identifier: MIT
 * Hosts: opening, polling, waking, guest mode. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "host/host.h"

#include <errno.h>
#include <string.h>

#include "sync/chan.h"
#include "sys/fault.h"
#include "sys/os.h"
#include "sys/sys.h"

enum { BUDGET = 31 };
static const int64_t BUDGET_NS = 200000;

static struct {
    tdl_lock lock;
    _Atomic(tdl_host *) first; /* only grows; release/acquire: the host's next */
} all = {.lock = TDL_LOCK_INIT(RANK_HOSTS)};

tdl_host *tdl_host_first(void) { return at_load_acq(&all.first); }

/* A host that was closed, or a new one; it never leaves the list. */
static tdl_host *take_host(void) {
    tdl_lock_take(&all.lock);
    tdl_host *h = at_load_rlx(&all.first);
    while (h && h->taken) h = h->next;
    if (h) {
        memset((char *)h + offsetof(tdl_host, m), 0, sizeof *h - offsetof(tdl_host, m));
    } else if ((h = tdl_alloc_zeroed(sizeof *h)) != NULL) {
        h->next = at_load_rlx(&all.first);
        at_store_rel(&all.first, h);
    }
    if (h) {
        h->taken = true;
        tdl_lock_init(&h->poller.lock, RANK_POLLER);
        tdl_lock_init(&h->poller.timers.lock.lock, RANK_HEAP); /* metrics may look before it is open */
        tdl_biased_init(&h->park_lock, RANK_PARK);
    }
    tdl_unlock(&all.lock);
    return h;
}

static void give_host(tdl_host *h) {
    tdl_lock_take(&all.lock);
    h->taken = false;
    tdl_unlock(&all.lock);
}

/* -- Whose it is: under the list's lock ------------------------------------------------ */

static void take_off(tdl_m *m, tdl_host *h) {
    tdl_host *first = at_load_rlx(&m->host), **at = &first;
    while (*at != h) at = &(*at)->outer;
    *at = h->outer;
    at_store_rlx(&m->host, first);
}

/* The innermost host's poller is the thread's. */
static void note_innermost(tdl_m *m) {
    tdl_host *innermost = at_load_rlx(&m->host);
    at_store_rlx(&m->host_poller, innermost ? &innermost->poller : NULL);
    at_store_rlx(&m->deny, innermost ? TDL_EHOST : 0);
}

/* -- Opening and closing ------------------------------------------------------------ */

int tdl_host_open(const char *name, tdl_host **out) {
    if (!out) return TDL_EINVAL;
    *out = NULL;
    tdl_m *m = tdl_m_self();
    if (at_load_rlx(&m->deny) == TDL_EFORKED) return TDL_EFORKED;
    if (m->g) return TDL_EBUSY;
    int r = tdl_fault_environment();
    if (r < 0) return r;
    tdl_host *h = take_host();
    if (!h) return TDL_ENOMEM;
    r = TDL_ENOMEM;
    h->outcomes = tdl_sys.map(TDL_MAX_TASKS * sizeof *h->outcomes);
    if (!h->outcomes) goto no_outcomes;
    if ((r = tdl_poller_open(&h->poller)) < 0) goto no_poller;
    h->poller.on_watch = tdl_host_on_watch;
    h->poller.watch_arg = h;
    h->free_watcher = -1;
    if (name) strncat(h->name, name, TDL_NAME - 1);
    h->asked = tdl_sys.now();
    tdl_lock_take(&all.lock);
    at_store_rlx(&h->m, m);
    h->outer = at_load_rlx(&m->host);
    h->open = true;
    at_store_rlx(&m->host, h);
    note_innermost(m);
    tdl_unlock(&all.lock);
    tdl_os_exact_sleeps(); /* its sleeps are our timers' */
    *out = h;
    return 0;
no_poller:
    tdl_sys.unmap(h->outcomes, TDL_MAX_TASKS * sizeof *h->outcomes);
no_outcomes:
    give_host(h);
    return r;
}

int tdl_host_close(tdl_host *h) {
    int r = tdl_host_check(h);
    if (r < 0) return r;
    tdl_tasks_end(h);
    tdl_poller_close(&h->poller);
    tdl_sys.unmap(h->outcomes, TDL_MAX_TASKS * sizeof *h->outcomes);
    tdl_sys.release(h->watchers);
    tdl_m *m = tdl_m_self();
    tdl_lock_take(&all.lock);
    take_off(m, h);
    note_innermost(m);
    h->open = false;
    h->taken = false;
    tdl_unlock(&all.lock);
    if (!at_load_rlx(&m->host)) tdl_select_forget(m);
    return 0;
}

/* Under the list's lock. An M whose thread lives is not looked at but for that: it stays
 * as long as a host of it is open. */
static int whose(tdl_host *h, const tdl_m *m) {
    if (!h->open) return TDL_EINVAL;
    tdl_m *its = at_load_rlx(&h->m);
    if (its == m) return 0;
    return at_load_acq(&its->ended) ? 1 : TDL_EHOST; /* acquire: what that thread did; pairs with thread_ends */
}

int tdl_host_left(tdl_host *h) {
    tdl_m *m = tdl_m_self();
    if (!h || at_load_rlx(&m->deny) == TDL_EFORKED) return 0;
    tdl_lock_take(&all.lock);
    int r = whose(h, m);
    tdl_unlock(&all.lock);
    return r == 1;
}

/* What its tasks' selects were lent stays as long as the tasks, which may be m's now. */
static void give_rooms(tdl_m *m, tdl_m *old) {
    tdl_node **last = &m->rooms;
    while (*last) last = &(*last)->next;
    *last = old->rooms;
    old->rooms = NULL;
}

/* From its M to the caller's m, as the outermost: m's own stay what they were. The M that nothing
 * needs any more; NULL. */
static tdl_m *hand_over(tdl_host *h, tdl_m *m) {
    tdl_m *old = at_load_rlx(&h->m);
    take_off(old, h);
    bool ended = at_load_rlx(&old->ended);
    if (!ended) note_innermost(old);
    h->outer = NULL;
    tdl_host *last = at_load_rlx(&m->host);
    if (!last) at_store_rlx(&m->host, h);
    for (; last; last = last->outer) {
        if (last->outer) continue;
        last->outer = h;
        break;
    }
    at_store_rlx(&h->m, m);
    note_innermost(m);
    if (at_load_rlx(&old->host)) return NULL;
    give_rooms(m, old);
    return ended ? old : NULL;
}

/* living: also from a thread that lives. */
static int take_over(tdl_host *h, bool living) {
    if (!h) return TDL_EINVAL;
    tdl_m *m = tdl_m_self(), *old = NULL;
    if (at_load_rlx(&m->deny) == TDL_EFORKED) return TDL_EFORKED;
    tdl_lock_take(&all.lock);
    int r = whose(h, m);
    if (r == 1 || (living && r == TDL_EHOST)) {
        r = m->g || m->bubble ? TDL_EBUSY : 0;
        if (r == 0) old = hand_over(h, m);
    }
    tdl_unlock(&all.lock);
    tdl_sys.release(old);
    return r;
}

int tdl_host_adopt(tdl_host *h) { return take_over(h, false); }
int tdl_host_move(tdl_host *h) { return take_over(h, true); }

/* -- Waking -------------------------------------------------------------------------- */

int tdl_host_wake(tdl_host *h) {
    if (!h) return TDL_EINVAL;
    /* pairs with the exchange in taken_wake, or with the announced sleep */
    at_store_seq(&h->woken, 1);
    tdl_poller_wake(&h->poller);
    return 0;
}

void tdl_host_push(tdl_host *h, tdl_g *g) {
    g->queued = 1;
    g->next = NULL;
    if (h->tail)
        h->tail->next = g;
    else
        h->head = g;
    h->tail = g;
}

void tdl_host_collect(tdl_host *h) {
    if (!at_load_seq(&h->remote)) return;
    tdl_g *g = at_xchg_seq(&h->remote, NULL), *in_order = NULL;
    while (g) { /* last pushed comes first: turn it round */
        tdl_g *next = g->next;
        g->next = in_order;
        in_order = g;
        g = next;
    }
    while (in_order) {
        g = in_order;
        in_order = g->next;
        tdl_host_push(h, g);
    }
}

/* -- Polling ---------------------------------------------------------------------------- */

/* Events that were fetched, timers, and what others have made ready. */
static void settle(tdl_host *h) {
    tdl_poller_dispatch(&h->poller);
    h->asked = tdl_sys.now();
    h->budget = BUDGET;
    tdl_timers_run(&h->poller.timers, h->asked);
    tdl_host_collect(h);
}

static void ask(tdl_host *h) {
    if (at_load_rlx(&h->poller.npd) || h->nwatchers) tdl_poller_wait(&h->poller, 0);
    settle(h);
}

/* Busy hosts ask the kernel now and then, idle ones by going to sleep. */
static bool due(tdl_host *h) {
    return --h->budget < 0 || (h->budget % 8 == 0 && tdl_sys.now() - h->asked > BUDGET_NS);
}

/* Simulated: any of the ready ones comes first. */
TDL_NOINLINE static void shuffle(tdl_host *h) {
    uint32_t n = 0;
    for (tdl_g *g = h->head; g; g = g->next) n++;
    uint32_t k = n ? tdl_random(n) : 0;
    for (; k > 0; k--) { /* turn it round until that one heads it */
        tdl_g *g = h->head;
        h->head = g->next;
        g->next = NULL;
        h->tail->next = g;
        h->tail = g;
    }
}

static tdl_g *next_ready(tdl_host *h) {
    if (TDL_UNLIKELY(tdl_sys.simulated)) shuffle(h);
    tdl_g *g = h->head;
    if (!g) return NULL;
    h->head = g->next;
    if (!h->head) h->tail = NULL;
    g->queued = 0;
    return g;
}

/* Finishes ready operations and stores what came of them. */
static int drain(tdl_host *h, tdl_event *events, int max) {
    int n = 0;
    if (TDL_UNLIKELY(h->missed) && !h->nwatched) tdl_host_watch_missed(h);
    while (n < max && h->nwatched) events[n++] = h->watched[--h->nwatched];
    while (n < max) {
        tdl_g *g = next_ready(h);
        if (!g) break;
        int64_t r = tdl_op_finish(&g->op);
        if (r == TDL_PENDING) continue;
        g->pending = 0;
        at_store_rlx(&g->status, G_RUNNING);
        h->outcomes[g->task] = (tdl_outcome){g->op.out, g->op.extra};
        tdl_val_set_nil(&g->op.out);
        events[n++] = (tdl_event){g->task, (int32_t)r};
    }
    return n;
}

static bool taken_wake(tdl_host *h) {
    return at_load_rlx(&h->woken) && at_xchg_seq(&h->woken, 0);
}

/* How long to sleep: no longer than the caller or the first timer wants. */
static int64_t sleep_ns(tdl_host *h, int64_t until) {
    int64_t next = tdl_timers_next(&h->poller.timers);
    if (until < next) next = until;
    if (next == TDL_FOREVER) return -1;
    int64_t ns = next - tdl_sys.now();
    return ns > 0 ? ns : 0;
}

static bool watches(tdl_host *h) {
    for (int i = 0; i < h->nwatchers; i++)
        if (h->watchers[i].fd >= 0 && h->watchers[i].readiness) return true;
    return false;
}

/* Has it nothing of its own that could end a wait without a limit? */
static bool left_alone(tdl_host *h, int flags) {
    if (!(flags & TDL_POLL_DEADLOCK)) return false;
    return !tdl_poller_awaited(&h->poller) && ((flags & TDL_POLL_UNWATCHED) || !watches(h));
}

int tdl_host_poll(tdl_host *h, tdl_event *events, int max, int64_t timeout_ns) {
    return tdl_host_poll_opts(h, events, max, timeout_ns, 0);
}

int tdl_host_poll_opts(tdl_host *h, tdl_event *events, int max, int64_t timeout_ns, int flags) {
    int r = tdl_host_check(h);
    if (r < 0) return r;
    if (!events || max < 1 || (flags & ~(TDL_POLL_DEADLOCK | TDL_POLL_UNWATCHED | TDL_POLL_BUSY))) return TDL_EINVAL;
    if (TDL_UNLIKELY(tdl_sys.simulated)) {
        if ((r = tdl_sys.over(0)) < 0) return r;
        max = 1; /* who gets ready meanwhile may come before those who are */
    }
    tdl_poller_retract(&h->poller);
    tdl_host_collect(h);
    bool left = h->nwatched > 0; /* first, or it would be some watchers' turn each time */
    if (!left && (h->head || (flags & TDL_POLL_BUSY) ? due(h) : timeout_ns == 0)) ask(h);
    int n = tdl_host_holds(h) ? drain(h, events, max) : 0;
    if (n > 0 || taken_wake(h) || timeout_ns == 0 || (flags & TDL_POLL_BUSY)) return n;
    int64_t until = timeout_ns > 0 ? tdl_time_after(tdl_sys.now(), timeout_ns) : TDL_FOREVER;
    h->doze = 0;
    for (;;) {
        tdl_poller_announce(&h->poller);
        int64_t ns = tdl_host_quiet(h) ? sleep_ns(h, until) : 0;
        if (ns < 0 && left_alone(h, flags) && !tdl_sys.simulated)
            r = tdl_host_doze(h);
        else
            r = ns != 0 ? tdl_poller_wait(&h->poller, ns) : 0;
        tdl_poller_retract(&h->poller);
        settle(h);
        n = drain(h, events, max);
        if (n > 0 || taken_wake(h) || r == -EINTR) return n;
        if (r == TDL_EDEADLOCK) return r;
        if (r == -EDEADLK) return tdl_sys.over(1);
        if (until != TDL_FOREVER && tdl_sys.now() >= until) return 0;
    }
}

/* -- Guest mode --------------------------------------------------------------------------- */

int tdl_host_fd(tdl_host *h) {
    int r = tdl_host_check(h);
    if (r < 0) return r;
    tdl_poller_prepare(&h->poller);
    return tdl_poller_fd(&h->poller);
}

int64_t tdl_host_timeout(tdl_host *h) {
    if (tdl_host_check(h) < 0) return 0;
    tdl_poller_announce(&h->poller);
    if (tdl_poller_prepare(&h->poller)) return 0;
    return tdl_host_quiet(h) ? sleep_ns(h, TDL_FOREVER) : 0;
}

tdl_outcome *tdl_host_outcomes(tdl_host *h) { return h && h->open ? h->outcomes : NULL; }

/* -- Channels of one host ------------------------------------------------------------------- */

tdl_chan *tdl_chan_new_local(tdl_host *h, uint32_t cap) {
    return tdl_host_check(h) == 0 ? tdl_chan_make(cap, tdl_m_self()) : NULL;
}

void tdl_chan_adopt_local(tdl_chan *ch) {
    if (ch && ch->local) ch->m = tdl_m_self();
}

int tdl_chan_peek_local(tdl_chan *ch, uint32_t i, tdl_val *v) {
    if (!ch || !ch->local || !v) return TDL_EINVAL;
    if (tdl_chan_check(ch)) return tdl_chan_refuses(ch);
    if (i < ch->count) {
        *v = ch->buf[(ch->head + i) % ch->cap];
        return 0;
    }
    i -= ch->count;
    for (tdl_node *n = ch->sendq.head; n; n = n->next) {
        if (i-- > 0) continue;
        *v = n->val;
        return 0;
    }
    return TDL_EAGAIN;
}

int tdl_chan_waiter_local(tdl_chan *ch, const void **at) {
    if (!ch || !ch->local || !at) return TDL_EINVAL;
    if (tdl_chan_check(ch)) return tdl_chan_refuses(ch);
    const tdl_node *n = *at;
    bool senders = n && n->queue == &ch->sendq;
    n = n ? n->next : ch->recvq.head;
    if (!n && !senders) n = ch->sendq.head;
    if (!n) return TDL_EAGAIN;
    *at = n;
    return (int)TDL_CONTAINER(n->op, tdl_g, op)->task;
}
