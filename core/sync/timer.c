/* SPDX-License-Identifier: MIT
 *
 * Timers and tickers, with a channel of one place, or a function that is started
 * as a goroutine. As in Go since 1.23, no value can be received that was sent
 * before a stop or a reset.
 *
 * Guarded by the lock of its heap, that of `poller`: what is not constant. armed:
 * it is still to fire, at `when`, and the node is in the heap, for that time or an
 * earlier one. A timer that is stopped stays in the heap, too, and is counted as
 * cancelled there until its time comes, it is used again, or freed. So to stop it
 * and to reset it to a later time are stores. Values are sent and taken back under
 * the lock.
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
    bool armed;
    bool sent; /* since the last stop or reset: a value may be in the channel */
    int64_t when, period;
    tdl_chan *chan; /* NULL: it has a function */
    void (*fn)(void *);
    void *arg;
    tdl_poller *poller;
    tdl_timer_call call;
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
    if (t->poller && &t->poller->timers == then->heap && t->call.node.index == 0 && t->when == then->when) {
        t->when = tdl_sys.now() + RETRY_NS;
        t->armed = tdl_timers_put(then->heap, &t->call.node, t->when) == 0;
    }
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
    if (!t->armed) {
        t->poller->timers.cancelled--;
        return;
    }
    if (t->when <= now) {
        if (t->chan) {
            send_due(t, then);
        } else {
            then->call = launch;
            then->fn = t->fn;
            then->arg = t->arg;
            then->when = t->when;
        }
        t->armed = t->period != 0;
        if (!t->armed) return;
        t->when += t->period * (1 + (now - t->when) / t->period); /* keeps its phase */
    }
    tdl_timers_put(&t->poller->timers, &t->call.node, t->when); /* there is room: it was just taken out */
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
    if (TDL_UNLIKELY(!t)) return TDL_EINVAL;
    TDL_REFUSE(t);
    tdl_timers *h = &t->poller->timers;
    tdl_hold c;
    tdl_timers_take(h, &c);
    int r = take_back(t);
    if (t->armed && t->call.node.index) { /* its heap may have ended */
        h->cancelled++;
        r = 1;
    }
    t->armed = false;
    tdl_timers_drop(h, &c);
    return r;
}

/* Under the lock: out of the heap. 1 when it was still to fire. */
static int take_out(tdl_timers *h, tdl_timer *t) {
    bool armed = t->armed;
    t->armed = false;
    if (!t->call.node.index) return 0;
    if (!armed) h->cancelled--;
    tdl_timers_remove(h, &t->call.node);
    return armed;
}

static int start(tdl_timer *t, int64_t when, int64_t period) {
    tdl_timers *h = &t->poller->timers;
    tdl_hold c;
    int e = 0;
    bool first = false;
    tdl_timers_take(h, &c);
    int r = take_back(t);
    t->when = when;
    t->period = period;
    if (t->call.node.index && t->call.node.when <= when) {
        if (t->armed)
            r = 1;
        else
            h->cancelled--;
    } else {
        r |= take_out(h, t);
        e = tdl_timers_put(h, &t->call.node, when);
        first = t->call.node.index == 1;
    }
    t->armed = e == 0;
    tdl_timers_drop(h, &c);
    tdl_timers_noted(h, &c, first);
    return e < 0 ? e : r;
}

int tdl_timer_reset(tdl_timer *t, int64_t when, int64_t period) {
    if (TDL_UNLIKELY(!t || period < 0)) return TDL_EINVAL;
    TDL_REFUSE(t);
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
    t->call.node.calls = true;
    t->call.expire = expire;
    t->call.owner = t;
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
    take_out(h, t);
    tdl_timers_drop(h, &c);
    tdl_chan_free(t->chan);
    tdl_pool_give(&pool, t);
}
