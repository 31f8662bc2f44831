/* SPDX-License-Identifier: MIT
 * Poll descriptors: streams for which the back end receives, and what else needs
 * nothing of polldesc.c's own. */
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

int tdl_pd_received(tdl_pd *pd) {
    int r = -1;
    if (TDL_LIKELY(!pd->dir[PD_READ].inbox)) return r;
    tdl_lock_take(&pd->lock);
    if (pd->poller) r = pd->poller->back->received(pd->poller, pd);
    tdl_unlock(&pd->lock);
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
        if (!p->on_watch || tdl_m_self()->host_poller == p) tdl_poller_serve(p);
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
