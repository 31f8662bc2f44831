/* SPDX-License-Identifier: MIT
 *
 * Timers and tickers, with a channel of one place, or a function that is started
 * as a goroutine. As in Go since 1.23, no value can be received that was sent
 * before a stop or a reset.
 *
 * Guarded by the lock of its heap, that of `poller`: sent, when, period, node. It
 * is still to fire, at `when`, as long as the node is in the heap, where it may
 * have an earlier time: so a reset to a later time is a store. Values are sent
 * and taken back under the lock. The rest never changes.
 *
 * It belongs to the poller of whoever made it, and dies with that.
 */
#include "sched/heap.h"
#include "sync/chan.h"
#include "sync/sync.h"
#include "sys/pool.h"
#include "sys/sys.h"

struct tdl_timer {
    tdl_lock lock; /* the pool's */
    bool sent;     /* since the last stop or reset: a value may be in the channel */
    int64_t when, period;
    tdl_chan *chan; /* NULL: it has a function */
    void (*fn)(void *);
    void *arg;
    tdl_poller *poller;
    tdl_timer_node node;
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_timer);

static const int64_t RETRY_NS = 1000000;

/* No memory for the goroutine now: later, unless the timer has been used
 * otherwise meanwhile. */
static void launch(const tdl_then *then) {
    if (tdl_go(then->fn, then->arg)) return;
    tdl_timer *t = then->owner;
    tdl_hold c;
    tdl_timers_take(then->heap, &c);
    if (t->poller && &t->poller->timers == then->heap && t->node.index == 0 && t->when == then->when)
        tdl_timers_put(then->heap, &t->node, t->when = tdl_sys.now() + RETRY_NS);
    tdl_timers_drop(then->heap, &c);
}

/* One unread is enough: a slow receiver loses ticks. */
static void send_due(tdl_timer *t, tdl_then *then) {
    tdl_val due;
    tdl_wake wake;
    tdl_val_set_int(&due, t->when);
    tdl_chan_lock(t->chan);
    tdl_chan_send_locked(t->chan, &due, &wake);
    tdl_chan_unlock(t->chan);
    t->sent = true;
    then->op = wake.op;
    then->was = wake.was;
    then->result = wake.result;
}

static void expire(void *owner, int64_t now, tdl_then *then) {
    tdl_timer *t = owner;
    if (t->when <= now) {
        if (t->chan) {
            send_due(t, then);
        } else {
            then->call = launch;
            then->fn = t->fn;
            then->arg = t->arg;
            then->when = t->when;
        }
        if (t->period == 0) return;
        t->when += t->period * (1 + (now - t->when) / t->period); /* keeps its phase */
    }
    tdl_timers_put(&t->poller->timers, &t->node, t->when); /* there is room: it was just taken out */
}

/* Under the lock: takes back what was not received. 1 when there was something. */
static inline int take_back(tdl_timer *t) {
    if (TDL_LIKELY(!t->sent)) return 0;
    t->sent = false;
    tdl_val v;
    tdl_wake wake;
    tdl_chan_lock(t->chan);
    int r = tdl_chan_recv_locked(t->chan, &v, &wake);
    tdl_chan_unlock(t->chan);
    tdl_wake_up(&wake);
    tdl_val_clear(&v);
    return r == 0;
}

int tdl_timer_stop(tdl_timer *t) {
    if (tdl_forked()) return TDL_EFORKED;
    if (TDL_UNLIKELY(!t)) return TDL_EINVAL;
    tdl_timers *h = &t->poller->timers;
    tdl_hold c;
    tdl_timers_take(h, &c);
    int r = take_back(t);
    if (t->node.index) {
        tdl_timers_remove(h, &t->node);
        r = 1;
    }
    tdl_timers_drop(h, &c);
    return r;
}

static int start(tdl_timer *t, int64_t when, int64_t period) {
    tdl_timers *h = &t->poller->timers;
    tdl_hold c;
    int e = 0;
    tdl_timers_take(h, &c);
    int r = take_back(t);
    bool pending = t->node.index != 0, first = false;
    t->when = when;
    t->period = period;
    if (!pending || t->node.when > when) {
        if (pending) tdl_timers_remove(h, &t->node);
        e = tdl_timers_put(h, &t->node, when);
        first = t->node.index == 1;
    }
    tdl_timers_drop(h, &c);
    tdl_timers_noted(h, &c, first);
    return e < 0 ? e : r | pending;
}

int tdl_timer_reset(tdl_timer *t, int64_t when, int64_t period) {
    if (tdl_forked()) return TDL_EFORKED;
    if (TDL_UNLIKELY(!t || period < 0)) return TDL_EINVAL;
    return start(t, when, period);
}

static tdl_timer *make(int64_t when, int64_t period, void (*fn)(void *), void *arg) {
    int code;
    if (period < 0) return NULL;
    tdl_poller *poller = tdl_my_poller(&code);
    if (!poller) return NULL;
    tdl_timer *t = tdl_pool_take(&pool);
    if (!t) return NULL;
    t->poller = poller;
    t->node.expire = expire;
    t->node.owner = t;
    t->fn = fn;
    t->arg = arg;
    if (!fn) t->chan = tdl_chan_new(1);
    if ((fn || t->chan) && start(t, when, period) >= 0) return t;
    tdl_timer_free(t);
    return NULL;
}

tdl_timer *tdl_timer_new(int64_t when, int64_t period) { return make(when, period, NULL, NULL); }

tdl_timer *tdl_timer_func(int64_t when, int64_t period, void (*fn)(void *), void *arg) {
    return fn ? make(when, period, fn, arg) : NULL;
}

tdl_chan *tdl_timer_chan(tdl_timer *t) { return t ? t->chan : NULL; }

void tdl_timer_free(tdl_timer *t) {
    if (!t || tdl_forked()) return;
    tdl_timers *h = &t->poller->timers;
    tdl_hold c;
    tdl_timers_take(h, &c);
    if (t->node.index) tdl_timers_remove(h, &t->node);
    tdl_timers_drop(h, &c);
    tdl_chan_free(t->chan);
    tdl_pool_give(&pool, t);
}
