/* SPDX-License-Identifier: MIT
 * Poll descriptors: streams for which the back end receives, and what else needs
 * nothing of polldesc.c's own. */
#include <errno.h>
#include <poll.h>

#include "netpoll/backend.h"
#include "netpoll/polldesc.h"
#include "sys/sys.h"

/* -- What the back end receives ---------------------------------------------------- */

int64_t tdl_pd_take(tdl_pd *pd, void *buf, size_t n) {
    int64_t r = TDL_PENDING;
    if (TDL_UNLIKELY(pd->dir[PD_READ].inbox)) {
        tdl_lock_take(&pd->lock);
        if (pd->poller) r = pd->poller->back->take(pd->poller, pd, buf, n);
        tdl_unlock(&pd->lock);
    }
    return r == TDL_PENDING ? tdl_sys.recv(pd->fd, buf, n) : r;
}

int tdl_pd_accept(tdl_pd *pd) {
    int64_t r = TDL_PENDING;
    if (TDL_UNLIKELY(pd->dir[PD_READ].inbox)) {
        tdl_lock_take(&pd->lock);
        if (pd->poller) r = pd->poller->back->accept(pd->poller, pd);
        tdl_unlock(&pd->lock);
    }
    return r == TDL_PENDING ? tdl_sys.accept(pd->fd, NULL, NULL) : (int)r;
}

int tdl_pd_received(tdl_pd *pd) {
    int r = -1;
    if (TDL_LIKELY(!pd->dir[PD_READ].inbox)) return r;
    tdl_lock_take(&pd->lock);
    if (pd->poller) r = pd->poller->back->received(pd->poller, pd);
    tdl_unlock(&pd->lock);
    return r;
}

int tdl_pd_readable(tdl_pd *pd) {
    int r = tdl_pd_received(pd);
    while (r < 0) {
        r = tdl_sys.poll(pd->fd, POLLIN);
        if (r != -EINTR) return r < 0 ? r : r != 0;
    }
    return r;
}

void tdl_pd_plain(tdl_pd *pd) {
    if (TDL_LIKELY(!pd->dir[PD_READ].inbox)) return;
    tdl_lock_take(&pd->lock);
    if (pd->poller && !pd->closed) pd->poller->back->plain(pd->poller, pd);
    tdl_unlock(&pd->lock);
}

int tdl_pd_end_receiving(tdl_pd *pd) {
    int r = 0;
    for (int i = 0; i < 1000; i++) {
        tdl_poller *p = pd->poller;
        if (!p || pd->closed) return TDL_ECLOSED;
        p->back->plain(p, pd);
        if ((r = p->back->received(p, pd)) != 0) return r < 0 ? 0 : TDL_EBUSY;
        at_add_seq(&p->wakers, 1); /* it stays: pairs with the look of tdl_poller_close */
        tdl_unlock(&pd->lock);
        if (!p->on_watch || at_load_rlx(&tdl_m_self()->host_poller) == p) tdl_poller_serve(p);
        if (i) tdl_sys.nap(100000);
        tdl_lock_take(&pd->lock);
        at_sub_seq(&p->wakers, 1);
    }
    return TDL_EBUSY;
}

int tdl_pd_ask_again(tdl_pd *pd, uint64_t token) {
    const tdl_backend *back = pd->poller->back;
    if (!pd->dir[PD_READ].inbox) /* else the attempt will tell why */
        return back->add(pd->poller, pd->fd, token) < 0 ? PD_READABLE | PD_WRITABLE | PD_HUP : 0;
    bool reads = pd->dir[PD_READ].waiting || pd->parked, writes = pd->dir[PD_WRITE].waiting;
    if (reads || (writes && pd->cross)) back->receive(pd->poller, pd, PD_READ);
    if (writes || (reads && pd->cross)) back->receive(pd->poller, pd, PD_WRITE);
    return 0;
}

/* -- What the back end sends --------------------------------------------------------- */

enum { QUEUE_MOST = 8192 }; /* bytes: to copy more costs more than a call */

/* A goroutine only: who else waits is woken at a price. Not where a test has a send of its own. */
bool tdl_pd_may_queue(const tdl_pd *pd, const tdl_op *op, size_t n) {
    if (TDL_LIKELY(!pd->dir[PD_READ].inbox) || n > QUEUE_MOST || op->kind != OP_OF_G) return false;
    tdl_poller *p = pd->poller;
    return p && tdl_sys.send == tdl_sys_real.send && tdl_p_gathers(p, p->back->gathers(p));
}

bool tdl_pd_queue_send(tdl_op *op, tdl_pd *pd) {
    op->u.io.queue = 0;
    if (pd->closed || !pd->poller) return false;
    if (!pd->poller->back->send(pd->poller, pd, op->u.io.buf + op->u.io.done, op->u.io.n - op->u.io.done)) return false;
    pd->dir[PD_WRITE].sending = 1;
    op->u.io.stage = STAGE_SENT;
    at_store_rlx(&op->shielded, 1); /* a cancel may have looked before: tdl_pd_end_send */
    tdl_op_publish(op);
    return true;
}

void tdl_pd_was_sent(tdl_pd *pd, tdl_wake *wake) {
    tdl_direction *d = &pd->dir[PD_WRITE];
    uint32_t was;
    if (!d->sending) return;
    d->sending = 0;
    if ((was = tdl_op_claim(d->owner)) != 0) *wake = (tdl_wake){d->owner, was, 0};
}

int64_t tdl_pd_end_send(tdl_op *op, tdl_pd *pd) {
    tdl_direction *d = &pd->dir[PD_WRITE];
    if (TDL_UNLIKELY(d->sending)) {
        op->result = 0;
        tdl_op_publish(op);
        return TDL_PENDING;
    }
    int64_t r = pd->poller ? pd->poller->back->sent(pd->poller, pd) : TDL_ECLOSED;
    at_store_rlx(&op->shielded, 0);
    pd->inside--;
    if (r == -EINTR || r == -ENOMEM || r == -ECANCELED) { /* the ring's trouble, not the socket's */
        d->ready = 1;
        return TDL_EAGAIN;
    }
    if (r == -EAGAIN) return TDL_EAGAIN;
    if (r < 0) return r;
    op->u.io.done += (size_t)r;
    if (op->u.io.done < op->u.io.n) return TDL_EAGAIN; /* there is no more room */
    d->ready = 1;
    return (int64_t)op->u.io.n;
}

void tdl_pd_drop_send(tdl_op *op, tdl_pd *pd) {
    tdl_direction *d = &pd->dir[PD_WRITE];
    if (d->sending && pd->poller) pd->poller->back->flush(pd->poller);
    d->sending = 0;
    at_store_rlx(&op->shielded, 0);
    pd->inside--;
}

/* -- Directions --------------------------------------------------------------- */

void tdl_pd_set_cross(tdl_pd *pd, bool on) {
    tdl_lock_take(&pd->lock);
    pd->cross = on;
    tdl_unlock(&pd->lock);
}

bool tdl_pd_busy(tdl_pd *pd, int dir) {
    tdl_lock_take(&pd->lock);
    bool busy = pd->dir[dir].owner != NULL;
    tdl_unlock(&pd->lock);
    return busy;
}

void tdl_pd_retry(tdl_pd *pd, int dir, int64_t ns) {
    tdl_lock_take(&pd->lock);
    pd->dir[dir].retry = tdl_sys.now() + ns;
    tdl_unlock(&pd->lock);
}

bool tdl_pd_holds(tdl_pd *pd, int dir, tdl_op *op) {
    tdl_direction *d = &pd->dir[dir];
    tdl_lock_take(&pd->lock);
    bool yes = d->held && (!op || d->owner == op);
    tdl_unlock(&pd->lock);
    return yes;
}

/* -- Several descriptors --------------------------------------------------------- */

int tdl_pd_take_ready(tdl_pd *pd, int dir) {
    tdl_direction *d = &pd->dir[dir];
    tdl_lock_take(&pd->lock);
    int r = pd->closed ? TDL_ECLOSED : d->ready || d->hup;
    if (r > 0) d->ready = 0;
    tdl_unlock(&pd->lock);
    return r;
}

void tdl_pd_put_ready(tdl_pd *pd, int dir) {
    tdl_lock_take(&pd->lock);
    pd->dir[dir].ready = 1;
    tdl_unlock(&pd->lock);
}
