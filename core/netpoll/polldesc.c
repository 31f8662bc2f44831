/* SPDX-License-Identifier: MIT
 * Poll descriptors: entering, waiting, events, deadlines, closing. */
#include "netpoll/polldesc.h"

#include "netpoll/backend.h"
#include "sys/sys.h"

/* -- The table: by index, so that an event carries no pointer -------------------- */

enum { CHUNK = 1024, CHUNKS = 1024 };

static struct {
    tdl_lock lock;
    tdl_pd *chunk[CHUNKS]; /* entries appear under lock before an index is given out */
    uint32_t n;
    tdl_pd *free; /* linked by next */
} table = {.lock = TDL_LOCK_INIT(RANK_PDS)};

static tdl_pd *take_pd(void) {
    tdl_lock_take(&table.lock);
    tdl_pd *pd = table.free;
    if (pd) {
        table.free = pd->next;
    } else if (table.n < CHUNK * CHUNKS) {
        uint32_t c = table.n / CHUNK;
        if (!table.chunk[c]) table.chunk[c] = tdl_alloc_zeroed(CHUNK * sizeof *pd);
        if (table.chunk[c]) {
            pd = &table.chunk[c][table.n % CHUNK];
            pd->index = table.n++;
            tdl_lock_init(&pd->lock, RANK_PD);
        }
    }
    tdl_unlock(&table.lock);
    return pd;
}

TDL_NO_TSAN int tdl_pd_number(const void *p) {
    for (uint32_t c = 0; c < CHUNKS && table.chunk[c]; c++) {
        uintptr_t at = (uintptr_t)p - (uintptr_t)table.chunk[c];
        if (at < CHUNK * sizeof(tdl_pd)) return at % sizeof(tdl_pd) == 0 ? ((const tdl_pd *)p)->fd : -1;
    }
    return -1;
}

static void give_pd(tdl_pd *pd) {
    tdl_lock_take(&table.lock);
    pd->next = table.free;
    table.free = pd;
    tdl_unlock(&table.lock);
}

/* -- Opening and closing ----------------------------------------------------------- */

static void link_pd(tdl_pd *pd) {
    tdl_poller *p = pd->poller;
    tdl_lock_take(&p->lock);
    pd->prev = NULL;
    pd->next = p->list;
    if (p->list) p->list->prev = pd;
    p->list = pd;
    at_store_rlx(&p->npd, at_load_rlx(&p->npd) + 1);
    tdl_unlock(&p->lock);
}

static void unlink_pd(tdl_pd *pd) {
    tdl_poller *p = pd->poller;
    tdl_lock_take(&p->lock);
    if (pd->prev)
        pd->prev->next = pd->next;
    else
        p->list = pd->next;
    if (pd->next) pd->next->prev = pd->prev;
    at_store_rlx(&p->npd, at_load_rlx(&p->npd) - 1);
    tdl_unlock(&p->lock);
}

static void timer_fires(void *pd);

static const tdl_pd_kind plain;

int tdl_pd_open(tdl_pd **out, tdl_poller *poller, int fd, const tdl_pd_kind *kind, void *object) {
    tdl_pd *pd = take_pd();
    if (!pd) return TDL_ENOMEM;
    tdl_lock_take(&pd->lock);
    pd->fd = fd;
    pd->kind = &plain; /* until it is open */
    pd->bubble = tdl_m_self()->bubble;
    if (++pd->seq == 0) pd->seq = 1; /* 0 marks what is no descriptor */
    pd->parked = pd->cross = 0;
    pd->users = 2; /* the handle, and us: see below */
    pd->inside = 1;
    at_store_rlx(&pd->ended, 0);
    pd->closed = 0;
    pd->poller = poller;
    pd->gone = NULL;
    at_store_rlx(&pd->short_drains, kind->short_drains && tdl_sys.short_drains);
    for (int d = 0; d < 2; d++) pd->dir[d] = (tdl_direction){.ready = !kind->announced}; /* unknown: worth an attempt */
    pd->timer = (tdl_timer_call){.node.calls = true, .fire = timer_fires, .owner = pd};
    pd->timeout = 0;
    pd->open = 1;
    link_pd(pd);
    const tdl_backend *back = poller->back;
    bool joins = kind->streams || (kind->accepts && tdl_sys.accept == tdl_sys_real.accept);
    pd->kind = kind;
    bool inbox = fd >= 0 && joins && back->join && tdl_sys.short_drains && back->join(poller, pd);
    pd->kind = &plain;
    pd->dir[PD_READ].inbox = inbox;
    if (inbox) pd->dir[PD_WRITE].ready = 1; /* no event will tell of it */
    tdl_unlock(&pd->lock);
    int r = 0;
    if (fd >= 0 && !inbox) {
        r = poller->back->add(poller, fd, tdl_pd_token(pd));
        if (r >= 0 && poller->back->by_owner) tdl_poller_retime(poller);
    }
    tdl_lock_take(&pd->lock);
    /* the poller may have gone away meanwhile; it did not close the fd, since
     * there were two users */
    if (pd->closed) r = TDL_ECLOSED;
    pd->users = 1;
    pd->inside = 0;
    if (r < 0) {
        pd->fd = -1;
        pd->seq++;
        pd->closed = 1;
        pd->open = 0;
        if (pd->poller) unlink_pd(pd);
    } else {
        *out = pd; /* others find the object by it from here on */
        pd->kind = kind;
        pd->object = object;
    }
    tdl_unlock(&pd->lock);
    if (r < 0) give_pd(pd);
    return r < 0 ? r : 0;
}

/* What is left to do, without the lock, for a descriptor that was taken out. */
typedef struct leftover {
    int fd; /* -1: none */
    tdl_poller *poller; /* whose back end is to settle; NULL */
    uint64_t token;
} leftover;

/* No event, timer or end of the poller finds it any more; with the lock. The fd
 * is gone for everybody before its number can be reused. */
static leftover take_out(tdl_pd *pd) {
    leftover left = {pd->fd, NULL, tdl_pd_token(pd)};
    tdl_poller *p = pd->poller;
    pd->open = 0;
    pd->fd = -1;
    pd->seq++;
    if (!p) return left;
    tdl_timer_disarm(&pd->timer.node);
    if (left.fd >= 0) {
        if (pd->dir[PD_READ].inbox)
            p->back->forget(p, pd, left.token);
        else
            p->back->remove(p, left.fd, left.token);
        if (p->back->settle) {
            left.poller = p;
            at_add_seq(&p->wakers, 1); /* before it is off the list: the poller stays */
        }
    }
    unlink_pd(pd);
    return left;
}

static void settle(tdl_pd *pd, const leftover *left) {
    if (!left->poller) return;
    left->poller->back->settle(left->poller, pd, left->token);
    at_sub_seq(&left->poller->wakers, 1); /* pairs with the look of tdl_poller_close */
}

/* Nobody is inside a closed descriptor; called with the lock, returns without it. */
static void really_close(tdl_pd *pd) {
    bool last = pd->gone && pd->users == 0;
    void (*gone)(void *) = pd->gone;
    void *arg = pd->arg;
    leftover left = {.fd = -1};
    if (pd->open) left = take_out(pd);
    tdl_unlock(&pd->lock);
    settle(pd, &left);
    if (left.fd >= 0) tdl_sys.close(left.fd);
    if (last) {
        give_pd(pd);
        gone(arg);
    }
}

/* One user fewer; called with the lock, returns without it. */
static void drop_user(tdl_pd *pd) {
    pd->users--;
    if (TDL_UNLIKELY(pd->closed) && pd->inside == 0 && (pd->open || (pd->gone && pd->users == 0)))
        really_close(pd);
    else
        tdl_unlock(&pd->lock);
}

/* A user that may use the fd; with the lock, and without it then. */
static void go_in(tdl_pd *pd) {
    pd->users++;
    pd->inside++;
}

static void go_out(tdl_pd *pd) {
    pd->inside--;
    drop_user(pd);
}

static bool expired(tdl_direction *d) { return d->deadline && d->deadline <= tdl_sys.now(); }

/* Claims all that wait; called with the lock held, which is given up for each
 * completion and taken again. Meanwhile nobody can enlist: who enters finds the
 * descriptor closed, or (TDL_ETIMEDOUT) the deadline past, unless it was moved:
 * then the rest may wait on. */
static void wake_all(tdl_pd *pd, tdl_direction *d, int64_t result) {
    for (;;) {
        uint32_t was = 0;
        tdl_op *op = NULL;
        if (result == TDL_ETIMEDOUT && !expired(d)) return;
        if (d->owner && d->waiting && (was = tdl_op_claim(d->owner)) != 0) {
            op = d->owner;
            d->waiting = 0;
        } else {
            tdl_node *n = tdl_queue_claim(&d->q, &was);
            if (!n) return;
            op = n->op;
        }
        tdl_unlock(&pd->lock);
        tdl_op_complete(op, was, result);
        tdl_lock_take(&pd->lock);
    }
}

/* Called and back with the lock, and as a user. */
static void begin_close(tdl_pd *pd) {
    pd->closed = 1;
    pd->parked = 0;
    go_in(pd); /* us: the fd stays until all are woken */
    if (pd->kind->closing) {
        tdl_unlock(&pd->lock);
        pd->kind->closing(pd->object);
        tdl_lock_take(&pd->lock);
    }
    wake_all(pd, &pd->dir[PD_READ], TDL_ECLOSED);
    wake_all(pd, &pd->dir[PD_WRITE], TDL_ECLOSED);
}

/* Those who are in an attempt come out: it never waits, so they are on other threads, and soon
 * back. Then the fd is closed by who closes, and its port free when he returns, as in Go. Not
 * for ever, as a file's part in an attempt may be slow. With the lock, which is given up. */
static void see_out(tdl_pd *pd) {
    enum { NAPS = 100 }; /* about a tenth of a second */
    for (int n = 0; n < NAPS && pd->fd >= 0 && (pd->dir[PD_READ].trying || pd->dir[PD_WRITE].trying); n++) {
        tdl_unlock(&pd->lock);
        tdl_nap_again(n);
        tdl_lock_take(&pd->lock);
    }
}

int tdl_pd_close(tdl_pd *pd) {
    int no = tdl_refused(pd->bubble);
    if (no < 0) return no;
    tdl_lock_take(&pd->lock);
    if (pd->closed) {
        tdl_unlock(&pd->lock);
        return TDL_ECLOSED;
    }
    begin_close(pd);
    see_out(pd);
    go_out(pd);
    return 0;
}

static int may_disown(const tdl_pd *pd) {
    bool busy = pd->users > 1 || pd->dir[PD_READ].held || pd->dir[PD_READ].keep;
    return pd->closed ? TDL_ECLOSED : busy ? TDL_EBUSY : 0;
}

int tdl_pd_disown(tdl_pd *pd) {
    int no = tdl_refused(pd->bubble);
    if (no < 0) return no;
    tdl_lock_take(&pd->lock);
    int r = may_disown(pd);
    if (r == 0 && pd->dir[PD_READ].inbox) {
        r = tdl_pd_end_receiving(pd);
        if (r == 0) r = may_disown(pd); /* the lock was given up */
    }
    leftover left = {.fd = -1};
    if (r == 0) {
        pd->closed = 1;
        left = take_out(pd);
        r = left.fd;
    }
    tdl_unlock(&pd->lock);
    settle(pd, &left);
    return r;
}

void tdl_pd_orphan_all(tdl_poller *p) {
    for (;;) {
        tdl_lock_take(&p->lock);
        tdl_pd *pd = p->list;
        tdl_unlock(&p->lock);
        if (!pd) return;
        tdl_lock_take(&pd->lock);
        if (pd->poller != p || !pd->open) {
            tdl_unlock(&pd->lock); /* its last user was quicker */
            continue;
        }
        tdl_timer_disarm(&pd->timer.node);
        unlink_pd(pd);
        if (pd->dir[PD_READ].inbox) p->back->orphan(pd);
        pd->poller = NULL;
        if (pd->closed) { /* by another, who looks after it */
            tdl_unlock(&pd->lock);
            continue;
        }
        begin_close(pd);
        go_out(pd);
    }
}

void tdl_pd_release(tdl_pd *pd, void (*gone)(void *), void *arg) {
    tdl_pd_close(pd);
    tdl_lock_take(&pd->lock);
    pd->gone = gone;
    pd->arg = arg;
    drop_user(pd);
}

int tdl_pd_enter_plain(tdl_pd *pd) {
    int r = tdl_refused(pd->bubble);
    if (r < 0) return r;
    tdl_lock_take(&pd->lock);
    r = pd->closed ? TDL_ECLOSED : 0;
    if (r == 0) go_in(pd);
    tdl_unlock(&pd->lock);
    return r;
}

void tdl_pd_leave_plain(tdl_pd *pd) {
    tdl_lock_take(&pd->lock);
    go_out(pd);
}

/* -- Deadlines ----------------------------------------------------------------------- */

/* Sees to it that the timer fires no later than the deadline, and the retry.
 * Under the lock. */
static int arm(tdl_pd *pd, tdl_direction *d) {
    int64_t when = d->deadline;
    if (d->retry && (when == 0 || d->retry < when)) when = d->retry;
    return when ? tdl_timer_arm_by(&pd->poller->timers, &pd->timer.node, when) : 0;
}

static bool became_ready(tdl_direction *d, tdl_wake *wake);

/* The parked descriptor's object is told; called and back with the lock, and as a user. */
static void tell_arrived(tdl_pd *pd, int why) {
    tdl_direction *d = &pd->dir[PD_READ];
    bool hup = d->hup;
    pd->parked = 0;
    d->deadline = d->retry = 0;
    tdl_unlock(&pd->lock);
    pd->kind->arrived(pd->object, hup, why);
    tdl_lock_take(&pd->lock);
}

/* One direction's part in it; called and back with the lock, and as a user. */
static void look_at_time(tdl_pd *pd, tdl_direction *d, int64_t now) {
    bool parked = d == &pd->dir[PD_READ] && pd->parked;
    bool somebody = d->waiting || d->q.head || parked;
    if (pd->closed || (d->deadline == 0 && d->retry == 0) || !somebody) return;
    if (parked) {
        if (d->deadline && now >= d->deadline)
            tell_arrived(pd, TDL_ETIMEDOUT);
        else if (d->retry && now >= d->retry)
            tell_arrived(pd, 0);
        else
            arm(pd, d);
        return;
    }
    if (d->deadline && now >= d->deadline) {
        wake_all(pd, d, TDL_ETIMEDOUT);
        return;
    }
    tdl_wake wake = {0};
    if (d->retry && now >= d->retry) {
        d->retry = 0;
        became_ready(d, &wake);
    }
    arm(pd, d);
    if (!wake.op) return;
    tdl_unlock(&pd->lock);
    tdl_wake_up(&wake);
    tdl_lock_take(&pd->lock);
}

/* May come late, for a descriptor that is another by now: only its state counts. */
static void timer_fires(void *arg) {
    tdl_pd *pd = arg;
    tdl_lock_take(&pd->lock);
    if (pd->closed) {
        tdl_unlock(&pd->lock);
        return;
    }
    go_in(pd);
    int64_t now = tdl_sys.now();
    look_at_time(pd, &pd->dir[PD_READ], now);
    look_at_time(pd, &pd->dir[PD_WRITE], now);
    go_out(pd);
}

void tdl_pd_set_deadline(tdl_pd *pd, int which, int64_t when) {
    if (tdl_refused(pd->bubble) < 0) return;
    if (when < 0) when = 1; /* long ago */
    tdl_lock_take(&pd->lock);
    for (int i = 0; i < 2; i++) {
        tdl_direction *d = &pd->dir[i];
        if (!(which & (1 << i)) || pd->closed) continue;
        d->deadline = when;
        if (when && (d->waiting || d->q.head)) arm(pd, d);
    }
    tdl_unlock(&pd->lock);
}

void tdl_pd_set_timeout(tdl_pd *pd, int64_t ns) {
    if (tdl_refused(pd->bubble) < 0) return;
    tdl_lock_take(&pd->lock);
    pd->timeout = ns > 0 ? ns : 0;
    if (ns <= 0) pd->dir[PD_READ].deadline = pd->dir[PD_WRITE].deadline = 0;
    tdl_unlock(&pd->lock);
}

/* Somebody is about to wait for an event; with the lock. */
static inline void want(tdl_pd *pd, int dir) {
    tdl_poller *p = pd->poller;
    if (!p || pd->fd < 0) return;
    if (pd->dir[PD_READ].inbox) {
        bool asked = p->back->receive(p, pd, dir);
        if (pd->cross) asked |= p->back->receive(p, pd, !dir);
        if (!asked) return;
    } else if (p->back->want) {
        p->back->want(p, pd->fd, tdl_pd_token(pd), dir);
        if (pd->cross) p->back->want(p, pd->fd, tdl_pd_token(pd), !dir);
    } else {
        return;
    }
    if (p->back->by_owner) tdl_poller_retime(p);
}

int tdl_pd_park(tdl_pd *pd, int64_t deadline, int64_t retry) {
    tdl_direction *d = &pd->dir[PD_READ];
    int r = 0;
    tdl_lock_take(&pd->lock);
    if (pd->closed)
        r = TDL_ECLOSED;
    else if (d->owner || pd->parked)
        r = TDL_EBUSY;
    else if ((d->ready || d->hup) && !retry)
        r = 1;
    if (r == 0) {
        d->deadline = deadline;
        d->retry = retry;
        if ((r = arm(pd, d)) == 0) {
            pd->parked = 1;
            if (!retry) want(pd, PD_READ); /* else only time ends it */
        }
    }
    tdl_unlock(&pd->lock);
    return r;
}

void tdl_pd_unpark_soon(tdl_pd *pd) {
    tdl_direction *d = &pd->dir[PD_READ];
    tdl_lock_take(&pd->lock);
    if (!pd->closed && pd->parked) {
        d->retry = 1;
        arm(pd, d);
    }
    tdl_unlock(&pd->lock);
}

bool tdl_pd_unpark(tdl_pd *pd) {
    tdl_lock_take(&pd->lock);
    bool was = pd->parked;
    pd->parked = 0;
    if (was) pd->dir[PD_READ].deadline = pd->dir[PD_READ].retry = 0;
    tdl_unlock(&pd->lock);
    return was;
}

/* -- Operations ------------------------------------------------------------------------ */

/* Hands the direction to the next in line, whose op is then to be completed. */
static void pass_on(tdl_direction *d, tdl_wake *wake) {
    uint32_t was;
    d->waiting = d->held = 0;
    d->owner = NULL;
    wake->op = NULL;
    tdl_node *n = tdl_queue_claim(&d->q, &was);
    if (!n) return;
    d->owner = n->op;
    *wake = (tdl_wake){n->op, was, 0};
}

/* The end of an operation that owns its direction; called with the lock. */
static int64_t leave(tdl_op *op, tdl_pd *pd, tdl_direction *d, int64_t result) {
    tdl_wake wake = {0};
    if (d->retry) d->ready = 1; /* the next one tries: no event will tell it to */
    d->retry = 0;
    /* what it would hold is gone; who was cancelled is told that */
    if (result < 0 && result != TDL_ECANCELED && op->u.io.hold && pd->closed) result = TDL_ECLOSED;
    if (result < 0 && pd->kind->failed) pd->kind->failed(pd->object, op, result);
    if (op->u.io.hold && d->keep && !pd->closed)
        d->held = op->u.io.held = 1; /* stays owner; only the op is done */
    else
        pass_on(d, &wake);
    drop_user(pd);
    tdl_wake_up(&wake);
    return result;
}

int tdl_pd_change(tdl_pd *pd, int (*change)(void *arg), void *arg) {
    int no = tdl_refused(pd->bubble);
    if (no < 0) return no;
    tdl_lock_take(&pd->lock);
    bool busy = pd->dir[PD_READ].owner || pd->dir[PD_WRITE].owner || pd->parked;
    int r = pd->closed ? TDL_ECLOSED : busy ? TDL_EBUSY : 0;
    if (r == 0) {
        r = change(arg);
        if (pd->dir[PD_READ].inbox && pd->poller) pd->poller->back->plain(pd->poller, pd); /* both directions may read now */
        pd->dir[PD_READ].ready = pd->dir[PD_WRITE].ready = 1;
    }
    tdl_unlock(&pd->lock);
    return r;
}

/* The owner's turn: attempts until done or nothing is ready. With the lock. */
static int64_t go_on(tdl_op *op, tdl_pd *pd, tdl_direction *d) {
    for (;;) {
        if (pd->closed) return leave(op, pd, d, TDL_ECLOSED);
        if (expired(d)) return leave(op, pd, d, TDL_ETIMEDOUT);
        if (!d->ready && !d->hup) {
            op->u.io.stage = STAGE_OWNER;
            int r = arm(pd, d);
            if (r < 0) return leave(op, pd, d, r);
            tdl_op_publish(op);
            d->waiting = 1;
            want(pd, op->u.io.dir);
            tdl_unlock(&pd->lock);
            return TDL_PENDING;
        }
        d->ready = 0;
        bool hup = d->hup;
        op->u.io.drained = 0;
        pd->inside++;
        d->trying = 1;
        tdl_unlock(&pd->lock);
        int64_t r = op->u.io.attempt(op);
        tdl_lock_take(&pd->lock);
        d->trying = 0;
        if (r == PD_QUEUE && tdl_pd_queue_send(op, pd)) {
            tdl_unlock(&pd->lock);
            return TDL_PENDING;
        }
        pd->inside--;
        if (TDL_UNLIKELY(r == PD_QUEUE)) {
            d->ready = 1;
            continue;
        }
        if (r == TDL_EAGAIN) {
            int64_t ns = TDL_UNLIKELY(tdl_sys.owed != NULL) ? tdl_sys.owed() : 0;
            if (ns) d->retry = tdl_sys.now() + ns;
            /* the kernel itself had nothing (it was asked, and not an injected fault answered): the hup was
             * not about this direction */
            if (hup && !ns && !d->ready && !op->u.io.drained) d->hup = 0;
            continue;
        }
        if (!op->u.io.drained) d->ready = 1;
        return leave(op, pd, d, r);
    }
}

int64_t tdl_pd_op(tdl_op *op, tdl_pd *pd, int dir, bool hold, const tdl_op_class *cls) {
    tdl_direction *d = &pd->dir[dir];
    int no = tdl_may_wait(pd->bubble);
    if (TDL_UNLIKELY(no < 0)) return no;
    tdl_op_begin(op, cls);
    op->u.io.pd = pd;
    op->u.io.dir = (uint8_t)dir;
    op->u.io.hold = hold;
    op->u.io.held = 0;
    tdl_lock_take(&pd->lock);
    if (pd->closed) {
        tdl_unlock(&pd->lock);
        return TDL_ECLOSED;
    }
    pd->users++;
    if (pd->timeout) {
        int64_t now = tdl_sys.now();
        d->deadline = pd->timeout > TDL_FOREVER - 1 - now ? 0 : now + pd->timeout;
    }
    if (d->owner) {
        if (expired(d)) {
            drop_user(pd);
            return TDL_ETIMEDOUT;
        }
        op->u.io.stage = STAGE_QUEUED;
        op->node.object = pd;
        tdl_op_publish(op);
        tdl_queue_push(&d->q, &op->node);
        if (d->deadline) arm(pd, d);
        tdl_unlock(&pd->lock);
        return TDL_PENDING;
    }
    d->owner = op;
    return go_on(op, pd, d);
}

int tdl_pd_unhold(tdl_pd *pd, int dir, bool again) {
    tdl_direction *d = &pd->dir[dir];
    tdl_wake wake;
    tdl_lock_take(&pd->lock);
    if (!d->held) {
        tdl_unlock(&pd->lock);
        return TDL_EINVAL;
    }
    if (again) d->ready = 1;
    pass_on(d, &wake);
    tdl_unlock(&pd->lock);
    tdl_wake_up(&wake);
    return 0;
}

/* result 0: it is our turn, or the direction became ready. */
int64_t tdl_pd_finish(tdl_op *op) {
    tdl_pd *pd = op->u.io.pd;
    tdl_direction *d = &pd->dir[op->u.io.dir];
    tdl_lock_take(&pd->lock);
    if (op->u.io.stage == STAGE_QUEUED && op->result != 0) {
        tdl_queue_remove(&op->node);
        drop_user(pd);
        return op->result;
    }
    if (op->u.io.stage == STAGE_SENT) {
        int64_t r = tdl_pd_end_send(op, pd);
        if (r == TDL_PENDING) {
            tdl_unlock(&pd->lock);
            return r;
        }
        return r == TDL_EAGAIN ? go_on(op, pd, d) : leave(op, pd, d, r);
    }
    d->waiting = 0;
    if (op->result != 0) return leave(op, pd, d, op->result);
    return go_on(op, pd, d);
}

void tdl_pd_abandon(tdl_op *op) {
    tdl_pd *pd = op->u.io.pd;
    tdl_direction *d = &pd->dir[op->u.io.dir];
    op->u.io.hold = 0;
    tdl_lock_take(&pd->lock);
    if (d->owner == op) {
        if (op->u.io.stage == STAGE_SENT) tdl_pd_drop_send(op, pd);
        leave(op, pd, d, op->result < 0 ? op->result : TDL_ECANCELED);
    } else {
        tdl_queue_remove(&op->node);
        drop_user(pd);
    }
}

/* -- Several descriptors ------------------------------------------------------------- */

int tdl_pd_enlist(tdl_pd *pd, int dir, tdl_op *op, bool publish) {
    tdl_direction *d = &pd->dir[dir];
    tdl_lock_take(&pd->lock);
    int r = pd->closed ? TDL_ECLOSED : d->ready;
    if (r == 0) {
        if (publish) tdl_op_publish(op);
        d->owner = op;
        d->waiting = 1;
        want(pd, dir);
    }
    tdl_unlock(&pd->lock);
    return r;
}

void tdl_pd_delist(tdl_pd *pd, int dir) {
    tdl_direction *d = &pd->dir[dir];
    tdl_lock_take(&pd->lock);
    d->owner = NULL;
    d->waiting = 0;
    tdl_unlock(&pd->lock);
}

void tdl_pd_each(bool (*of)(const tdl_pd *pd, void *arg), void (*fn)(void *object, void *arg), void *arg) {
    tdl_lock_take(&table.lock);
    uint32_t n = table.n;
    tdl_unlock(&table.lock);
    for (uint32_t i = 0; i < n; i++) {
        tdl_pd *pd = &table.chunk[i / CHUNK][i % CHUNK];
        tdl_lock_take(&pd->lock);
        if (!pd->open || pd->closed || !of(pd, arg)) {
            tdl_unlock(&pd->lock);
            continue;
        }
        go_in(pd);
        void *object = pd->object;
        tdl_unlock(&pd->lock);
        fn(object, arg);
        tdl_lock_take(&pd->lock);
        go_out(pd);
    }
}

bool tdl_poller_awaited(tdl_poller *p) {
    tdl_lock_take(&table.lock);
    uint32_t n = table.n;
    tdl_unlock(&table.lock);
    for (uint32_t i = 0; i < n; i++) {
        tdl_pd *pd = &table.chunk[i / CHUNK][i % CHUNK];
        tdl_lock_take(&pd->lock);
        bool waits = pd->fd >= 0 && pd->poller == p &&
                     (pd->parked || pd->dir[PD_READ].waiting || pd->dir[PD_WRITE].waiting || pd->dir[PD_WRITE].sending);
        tdl_unlock(&pd->lock);
        if (waits) return true;
    }
    return false;
}

/* -- Events --------------------------------------------------------------------------------- */

static tdl_pd *meant(uint64_t token) {
    uint32_t index = (uint32_t)token;
    return &table.chunk[index / CHUNK][index % CHUNK];
}

tdl_pd *tdl_pd_lock(uint64_t token) {
    tdl_pd *pd = meant(token);
    tdl_lock_take(&pd->lock);
    return pd;
}

void tdl_pd_note(uint64_t token, bool ended) {
    uint16_t seq = (uint16_t)(token >> 32);
    at_store_rlx(&meant(token)->ended, ended ? seq : (uint16_t)~seq);
}

bool tdl_pd_ended(tdl_pd *pd, uint64_t token) { return at_load_rlx(&pd->ended) == (uint16_t)(token >> 32); }

static bool became_ready(tdl_direction *d, tdl_wake *wake) {
    d->ready = 1;
    wake->op = NULL;
    uint32_t was;
    if (!d->waiting || (was = tdl_op_claim(d->owner)) == 0) return false;
    d->waiting = 0;
    *wake = (tdl_wake){d->owner, was, 0};
    return true;
}

void tdl_pd_nudge(tdl_pd *pd) {
    tdl_wake reader = {0}, writer = {0};
    tdl_lock_take(&pd->lock);
    became_ready(&pd->dir[PD_READ], &reader);
    became_ready(&pd->dir[PD_WRITE], &writer);
    tdl_unlock(&pd->lock);
    tdl_wake_up(&reader);
    tdl_wake_up(&writer);
}

void tdl_pd_event(uint64_t token, int what) {
    tdl_pd *pd = meant(token);
    tdl_wake reader = {0}, writer = {0};
    tdl_lock_take(&pd->lock);
    if (pd->seq != (uint32_t)(token >> 32) || (pd->closed && !(what & PD_SENT))) {
        tdl_unlock(&pd->lock); /* of the fd's previous life */
        return;
    }
    if (what & PD_SENT) {
        tdl_pd_was_sent(pd, &writer);
        tdl_unlock(&pd->lock);
        tdl_wake_up(&writer);
        return;
    }
    if (TDL_UNLIKELY(what & PD_LOST) && pd->poller) what |= tdl_pd_ask_again(pd, token);
    if (what & PD_HUP) pd->dir[PD_READ].hup = 1;
    if (what & PD_URGENT) at_store_rlx(&pd->short_drains, 0);
    if ((what & PD_READABLE) || TDL_UNLIKELY(pd->cross)) became_ready(&pd->dir[PD_READ], &reader);
    if ((what & PD_WRITABLE) || TDL_UNLIKELY(pd->cross)) became_ready(&pd->dir[PD_WRITE], &writer);
    if (pd->parked && (what & PD_READABLE) && !pd->dir[PD_READ].retry) {
        go_in(pd);
        tell_arrived(pd, 0);
        go_out(pd);
    } else {
        tdl_unlock(&pd->lock);
    }
    tdl_wake_up(&reader);
    tdl_wake_up(&writer);
}
