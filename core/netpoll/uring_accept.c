/* SPDX-License-Identifier: MIT
 *
 * Listeners that the ring accepts for. Who is about to wait for a connection asks for a
 * multishot accept: what comes from then on is accepted by the system, and lies in the
 * listener's inbox as an fd until an accept takes it, so a turn takes as many as came with
 * no call for each.
 *
 * Invariants, under the descriptor's lock (asked, ending and plain as in uring_recv.c):
 *   While LOW_ACCEPT is in asked nobody asks the socket. Without it the inbox is emptied
 *   first, and then the socket is asked.
 *   The ring is to accept only what somebody is there for: the request is cancelled when a
 *   connection comes while no operation has the read direction, nor is the listener
 *   parked; and when WAITING_MOST have come that nobody has taken. What stays in the backlog may be
 *   accepted by another process, and takes no descriptor of ours.
 *   What was accepted and is taken by nobody is reset when the listener is closed, as the
 *   system does with its backlog.
 */
#include "sys/base.h"

#ifdef TDL_LINUX
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "netpoll/uring.h"
#include "sys/sys.h"

enum { WAITING_MOST = 32, ROOM_FIRST = 16, ROOM_MOST = 16384 };

/* -- What was accepted ------------------------------------------------------------------- */

static void reset(int fd) {
    struct linger now = {.l_onoff = 1};
    tdl_sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    tdl_sys.close(fd);
}

void tdl_uring_refuse(const struct io_uring_cqe *c) {
    uint32_t low = LOW(c->user_data);
    if (low == LOW_NOTHING || low == LOW_WAKE || (low & LOW_WATCH) || !(low & LOW_ACCEPT)) return;
    if (c->res >= 0) reset(c->res);
}

static bool put(inbox *in, int fd) {
    if (in->n == in->taken) {
        uint16_t room = in->taken ? (uint16_t)(2 * in->taken) : ROOM_FIRST;
        int *fds = room <= ROOM_MOST ? tdl_sys.alloc(room * sizeof *fds) : NULL;
        if (!fds) return false;
        for (uint16_t i = 0; i < in->n; i++) fds[i] = in->fds[(in->first + i) % in->taken];
        tdl_sys.release(in->fds);
        in->fds = fds;
        in->taken = room;
        in->first = 0;
    }
    in->fds[(in->first + in->n++) % in->taken] = fd;
    return true;
}

static int take(inbox *in) {
    int fd = in->fds[in->first];
    in->first = (uint16_t)((in->first + 1) % in->taken);
    in->n--;
    return fd;
}

void tdl_uring_refuse_all(inbox *in) {
    while (in->n) reset(take(in));
    tdl_sys.release(in->fds);
    in->fds = NULL;
    in->taken = 0;
}

int64_t tdl_uring_accept(tdl_poller *p, tdl_pd *pd) {
    inbox *in = tdl_inbox_of(pd);
    (void)p;
    if (in->n) return take(in);
    if (in->error) {
        int32_t error = in->error;
        in->error = 0;
        return error;
    }
    return in->asked & LOW_ACCEPT ? -EAGAIN : TDL_PENDING;
}

/* -- Asking ---------------------------------------------------------------------------------- */

bool tdl_uring_ask_accept(struct ring *r, tdl_pd *pd, inbox *in) {
    if ((in->asked & (LOW_ACCEPT | LOW_IN)) || in->n || in->error) return false; /* it tells; or has */
    struct io_uring_sqe *e = in->plain ? NULL : tdl_ring_begin(r);
    if (!e) return tdl_ring_poll_for(r, pd, in, LOW_IN, POLLIN, true);
    e->opcode = IORING_OP_ACCEPT;
    e->fd = pd->fd;
    e->ioprio = IORING_ACCEPT_MULTISHOT;
    e->accept_flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
    e->user_data = tdl_pd_token(pd) | LOW_ACCEPT;
    tdl_ring_end(r);
    in->asked |= LOW_ACCEPT;
    in->ending = 0;
    return true;
}

void tdl_uring_end_accept(struct ring *r, inbox *in, uint64_t token) {
    if (!(in->asked & LOW_ACCEPT) || in->ending) return;
    in->ending = 1;
    tdl_ring_cancel(r, token | LOW_ACCEPT);
}

/* -- Completions ------------------------------------------------------------------------------- */

uint32_t tdl_uring_accepted(struct ring *r, tdl_pd *pd, inbox *in, const struct io_uring_cqe *c) {
    const tdl_direction *d = &pd->dir[PD_READ];
    bool over = !(c->flags & IORING_CQE_F_MORE), wanted = d->owner || pd->parked;
    if (over) in->asked &= ~(uint32_t)LOW_ACCEPT;
    switch (c->res < 0 ? -c->res : 0) {
    case 0: break;
    case ECANCELED: /* by us, or with its thread */
    case EINTR: return PD_LOST;
    case EAGAIN:
    case EINVAL: /* not on this kernel; or it listens no more: the socket says so */
    case EOPNOTSUPP: in->plain = 1; return PD_LOST;
    case EMFILE: /* and what else the one who accepts is to know, who then asks the socket himself */
    default: in->error = c->res; return PD_READABLE;
    }
    if (!put(in, c->res)) reset(c->res);
    if (!wanted || in->n >= WAITING_MOST) tdl_uring_end_accept(r, in, tdl_pd_token(pd));
    return PD_READABLE;
}

#endif
