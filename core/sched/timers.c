/* SPDX-License-Identifier: MIT
 * The 4-ary timer heap. */
#include "sched/timers.h"

#include "sched/heap.h"
#include "sched/op.h"
#include "sched/poll.h"
#include "sys/sys.h"
#include "treadle.h"

void tdl_timers_init(tdl_timers *h, struct tdl_poller *poller) {
    if (!h->used) tdl_biased_init(&h->lock, RANK_HEAP);
    h->used = true;
    tdl_biased_take(&h->lock, false); /* of an earlier life: somebody may come late */
    h->closed = false;
    h->n = h->cap = h->cancelled = 0;
    at_store_rlx(&h->quiet, 0);
    h->a = NULL;
    h->poller = poller;
    at_store_rlx(&h->next, TDL_FOREVER);
    tdl_biased_drop(&h->lock, false);
}

void tdl_timers_destroy(tdl_timers *h) {
    tdl_biased_take(&h->lock, false);
    for (uint32_t i = 0; i < h->n; i++) h->a[i].t->index = 0;
    tdl_sys.release(h->a);
    h->a = NULL;
    h->n = h->cap = h->cancelled = 0;
    h->closed = true;
    at_store_rlx(&h->next, TDL_FOREVER);
    tdl_biased_drop(&h->lock, false);
}

/* -- The heap, under its lock --------------------------------------------- */

static void put(tdl_timers *h, uint32_t i, struct tdl_timer_entry e) {
    h->a[i] = e;
    e.t->index = i + 1;
}

static void sift_up(tdl_timers *h, uint32_t i, struct tdl_timer_entry e) {
    while (i > 0) {
        uint32_t parent = (i - 1) / 4;
        if (h->a[parent].when <= e.when) break;
        put(h, i, h->a[parent]);
        i = parent;
    }
    put(h, i, e);
}

static void sift_down(tdl_timers *h, uint32_t i, struct tdl_timer_entry e) {
    for (;;) {
        uint32_t first = 4 * i + 1, least = i;
        int64_t when = e.when;
        for (uint32_t c = first; c < first + 4 && c < h->n; c++) {
            if (h->a[c].when < when) {
                when = h->a[c].when;
                least = c;
            }
        }
        if (least == i) break;
        put(h, i, h->a[least]);
        i = least;
    }
    put(h, i, e);
}

static void remove_at(tdl_timers *h, uint32_t i) {
    h->a[i].t->index = 0;
    struct tdl_timer_entry last = h->a[--h->n];
    if (i < h->n) {
        if (i > 0 && last.when < h->a[(i - 1) / 4].when)
            sift_up(h, i, last);
        else
            sift_down(h, i, last);
    }
    at_store_rlx(&h->next, h->n ? h->a[0].when : TDL_FOREVER);
}

static int grow(tdl_timers *h) {
    uint32_t cap = h->cap ? 2 * h->cap : 16;
    struct tdl_timer_entry *a = tdl_sys.resize(h->a, cap * sizeof *a);
    if (!a) return TDL_ENOMEM;
    h->a = a;
    h->cap = cap;
    return 0;
}

int tdl_timers_put(tdl_timers *h, tdl_timer_node *t, int64_t when) {
    int r = h->closed ? TDL_ECLOSED : h->n == h->cap ? grow(h) : 0;
    if (r < 0) return r;
    t->when = when;
    sift_up(h, h->n++, (struct tdl_timer_entry){when, t});
    if (t->index == 1) at_store_rlx(&h->next, when);
    return 0;
}

void tdl_timers_remove(tdl_timers *h, tdl_timer_node *t) { remove_at(h, t->index - 1); }

/* -- Arming and firing ---------------------------------------------------- */

int tdl_timer_arm_by(tdl_timers *h, tdl_timer_node *t, int64_t when) {
    tdl_hold c;
    int r = 0;
    bool first = false;
    tdl_timers_take(h, &c);
    if (!t->index || t->when > when) {
        if (t->index) remove_at(h, t->index - 1);
        t->heap = h;
        r = tdl_timers_put(h, t, when);
        first = t->index == 1;
    }
    tdl_timers_drop(h, &c);
    tdl_timers_noted(h, &c, first);
    return r;
}

void tdl_timer_disarm(tdl_timer_node *t) {
    tdl_timers *h = t->heap;
    if (!h) return;
    tdl_hold c;
    tdl_timers_take(h, &c);
    if (t->index) remove_at(h, t->index - 1);
    tdl_timers_drop(h, &c);
    t->heap = NULL;
}

bool tdl_timers_pending(tdl_timers *h) {
    if (tdl_timers_next(h) == TDL_FOREVER) return false;
    tdl_hold c;
    tdl_timers_take(h, &c);
    bool pending = h->n > at_load_seq(&h->quiet) + h->cancelled;
    tdl_timers_drop(h, &c);
    return pending;
}

uint32_t tdl_timers_count(tdl_timers *h) {
    tdl_hold c;
    tdl_timers_take(h, &c);
    uint32_t n = h->n - h->cancelled;
    tdl_timers_drop(h, &c);
    return n;
}

int tdl_timers_run(tdl_timers *h, int64_t now) {
    int fired = 0;
    while (tdl_timers_next(h) <= now) {
        tdl_hold c;
        tdl_timers_take(h, &c);
        if (h->n == 0 || h->a[0].when > now) {
            tdl_timers_drop(h, &c);
            break;
        }
        /* the node is its owner's again as soon as the lock is given up */
        tdl_timer_node *t = h->a[0].t;
        void (*fire)(void *) = NULL;
        tdl_then then = {.heap = h};
        remove_at(h, 0);
        if (t->calls) {
            tdl_timer_call *call = TDL_CONTAINER(t, tdl_timer_call, node);
            fire = call->fire;
            then.owner = call->owner;
            if (call->expire) call->expire(then.owner, now, &then);
        } else {
            tdl_op *op = TDL_CONTAINER(t, tdl_op, timer);
            then.was = tdl_op_claim(op);
            then.op = then.was ? op : NULL;
            then.result = TDL_ETIMEDOUT;
        }
        tdl_timers_drop(h, &c);
        if (fire) fire(then.owner);
        if (then.op) tdl_op_complete(then.op, then.was, then.result);
        if (then.call) then.call(&then);
        fired++;
    }
    return fired;
}
