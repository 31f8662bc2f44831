/* SPDX-License-Identifier: MIT
 *
 * Timers and tickers, with a channel of one place, or a function that is started
 * as a goroutine. As in Go since 1.23, no value can be received that was sent
 * before a stop or a reset.
 *
 * Under its lock: armed says that it is still to fire, at `when`, and that the
 * node is in the heap of `poller`, for that time or an earlier one (or is just
 * being fired: then it looks at armed and when first, and finds that it came too
 * early or in vain). So a reset to a later time is a store. Values are sent under
 * the lock, so that a stop finds them.
 *
 * It belongs to the poller of whoever made it, and dies with that.
 */
#include "sync/chan.h"
#include "sync/sync.h"
#include "sys/pool.h"
#include "sys/sys.h"

struct tdl_timer {
    tdl_lock lock;
    uint8_t armed;
    uint8_t sent; /* since the last stop or reset: a value may be in the channel */
    int64_t when, period;
    tdl_chan *chan;     /* NULL: it has a function */
    void (*fn)(void *); /* these two never change */
    void *arg;
    tdl_poller *poller;
    tdl_timer_node node;
};

static tdl_pool pool = TDL_POOL_OF(struct tdl_timer, RANK_TIMER);

static const int64_t RETRY_NS = 1000000;

static void arm(tdl_timer *t) { tdl_timer_arm_by(&t->poller->timers, &t->node, t->when); }

/* No memory for the goroutine now: later, unless it was reset meanwhile. */
static void start_later(tdl_timer *t) {
    tdl_lock_take(&t->lock);
    if (!t->armed && t->fn) {
        t->armed = 1;
        t->when = tdl_sys.now() + RETRY_NS;
        arm(t);
    }
    tdl_unlock(&t->lock);
}

static void fire(void *owner) {
    tdl_timer *t = owner;
    void (*fn)(void *) = NULL;
    void *arg = NULL;
    tdl_lock_take(&t->lock);
    int64_t now = tdl_sys.now();
    if (t->armed && t->when > now) {
        arm(t); /* too early, or meant another life of it */
    } else if (t->armed) {
        if (t->chan) {
            tdl_val due;
            tdl_val_set_int(&due, t->when);
            tdl_chan_try_send(t->chan, &due); /* one unread is enough: a slow receiver loses ticks */
            t->sent = 1;
        }
        fn = t->fn;
        arg = t->arg;
        t->armed = t->period != 0;
        if (t->armed) { /* keeps its phase */
            t->when += t->period * (1 + (now - t->when) / t->period);
            arm(t);
        }
    }
    tdl_unlock(&t->lock);
    if (fn && !tdl_go(fn, arg)) start_later(t);
}

/* Under the lock: takes back what was not received. 1 when it was still to fire
 * or a value was discarded. */
static inline int take_back(tdl_timer *t) {
    int pending = t->armed;
    if (TDL_UNLIKELY(t->sent)) {
        t->sent = 0;
        if (tdl_chan_try_recv(t->chan, NULL) == 0) pending = 1;
    }
    return pending;
}

int tdl_timer_stop(tdl_timer *t) {
    if (!t) return TDL_EINVAL;
    TDL_REFUSE(t);
    tdl_lock_take(&t->lock);
    int r = take_back(t);
    t->armed = 0;
    tdl_timer_disarm(&t->node);
    tdl_unlock(&t->lock);
    return r;
}

static int start(tdl_timer *t, int64_t when, int64_t period) {
    tdl_lock_take(&t->lock);
    int r = take_back(t);
    t->when = when;
    t->period = period;
    int e = tdl_timer_arm_by(&t->poller->timers, &t->node, when);
    t->armed = e == 0;
    tdl_unlock(&t->lock);
    return e < 0 ? e : r;
}

int tdl_timer_reset(tdl_timer *t, int64_t when, int64_t period) {
    if (!t || period < 0) return TDL_EINVAL;
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
    t->node.fire = fire;
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
    tdl_lock_take(&t->lock);
    t->armed = 0;
    tdl_timer_disarm(&t->node);
    tdl_unlock(&t->lock);
    tdl_chan_free(t->chan);
    tdl_pool_give(&pool, t);
}
