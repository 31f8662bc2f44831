/* SPDX-License-Identifier: MIT
 *
 * Streams that the ring receives for. A TCP connection is not polled: when somebody is
 * about to wait for its bytes, a multishot receive is asked for, which puts what comes into
 * buffers of the ring (IORING_REGISTER_PBUF_RING). They lie in the descriptor's inbox
 * until a read takes them, and go back to the ring then. When somebody is about to wait for
 * room, POLLOUT is asked for. A short write may be queued (LOW_SEND): it is done, or refused
 * for want of room, when it is handed over, and never waits in the system.
 *
 * Invariants, under the descriptor's lock:
 *   asked says which requests the system has, or will get: at most one of each kind, a
 *   bit of it cleared by the request's last completion and by nothing else.
 *   While LOW_RECV is in it nobody asks the socket for bytes: they come in order through
 *   the inbox alone. Without it the inbox is emptied first, then the socket is asked.
 *   The ring's lock on completions is held from taking one to the inbox, so two threads
 *   that take completions cannot exchange what they took.
 *   plain: from now on bytes are waited for by POLLIN (LOW_IN), and taken from the socket
 *   once the receive has ended. So it is when buffers are too small for what comes, when the
 *   system does not receive like this, and for who uses the socket himself. Where the
 *   buffers are used up (scarce) it is so once, and then tried again.
 *   An inbox holds INBOX_MOST buffers, and what comes until the cancellation is seen:
 *   who does not read holds no more.
 * ring.block_lock: the buffers' ring and nblocks. A buffer is the system's, or in one inbox.
 */
#include "sys/base.h"

#ifdef TDL_LINUX
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "netpoll/uring.h"
#include "sys/sys.h"

#ifndef POLLRDHUP
#define POLLRDHUP 0x2000
#endif

enum { CHUNK = 1024, CHUNKS = 1024 };
static _Atomic(inbox *) inboxes[CHUNKS]; /* by a descriptor's index; never given back. seq and acquire */

inbox *tdl_inbox_of(const tdl_pd *pd) {
    inbox *chunk = at_load_acq(&inboxes[pd->index / CHUNK]);
    return chunk ? &chunk[pd->index % CHUNK] : NULL;
}

static uint32_t seq_of(uint64_t token) { return (uint32_t)(token >> 32); }

/* -- Buffers --------------------------------------------------------------------------- */

#define RING_SIZE (BLOCKS * sizeof(struct io_uring_buf))
#define ALL_SIZE (RING_SIZE + (size_t)BLOCKS * BLOCK)

static char *bytes_of(const struct ring *r, uint32_t id) { return r->memory + (size_t)id * BLOCK; }

/* With the lock. */
static void hand_over(struct ring *r, uint32_t id) {
    _Atomic uint16_t *tail = (_Atomic uint16_t *)&r->blocks->tail;
    uint16_t at = at_load_rlx(tail);
    struct io_uring_buf *b = &r->blocks->bufs[at & (BLOCKS - 1)];
    b->addr = (uint64_t)(uintptr_t)bytes_of(r, id);
    b->len = BLOCK;
    b->bid = (uint16_t)id;
    at_store_rel(tail, (uint16_t)(at + 1)); /* with the entry, to the system */
}

static void give(struct ring *r, uint32_t id) {
    TDL_TSAN_RELEASE(r->blocks);
    tdl_lock_take(&r->block_lock);
    hand_over(r, id);
    tdl_unlock(&r->block_lock);
}

/* As many again, up to one for each descriptor; false: there are no more. */
static bool give_more(struct ring *r) {
    tdl_lock_take(&r->block_lock);
    uint32_t n = r->nblocks, want = n ? 2 * n : BLOCKS_FIRST, most = r->npd ? at_load_rlx(r->npd) : 0;
    if (most > BLOCKS) most = BLOCKS;
    if (most < BLOCKS_FIRST) most = BLOCKS_FIRST;
    for (; r->nblocks < want && r->nblocks < most; r->nblocks++) hand_over(r, r->nblocks);
    bool more = r->nblocks > n;
    tdl_unlock(&r->block_lock);
    return more;
}

/* Gives the inbox's first buffer back. */
static void drop_first(struct ring *r, inbox *in) {
    uint32_t id = in->first;
    in->first = r->block[id].next;
    in->taken = 0;
    in->n--;
    give(r, id);
}

void tdl_uring_open_blocks(struct ring *r) {
    struct io_uring_buf_ring *blocks = tdl_sys.map(ALL_SIZE);
    if (!blocks) return;
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)blocks, .ring_entries = BLOCKS};
    if (tdl_sys.uring_register(r->fd, IORING_REGISTER_PBUF_RING, &reg, 1) < 0) {
        tdl_sys.unmap(blocks, ALL_SIZE);
        return;
    }
    r->blocks = blocks;
    r->memory = (char *)blocks + RING_SIZE;
    r->nblocks = 0;
    tdl_lock_init(&r->block_lock, RANK_BACKEND);
    give_more(r);
}

void tdl_uring_stop_blocks(struct ring *r) {
    struct io_uring_buf_reg reg = {.bgid = 0};
    if (r->blocks) tdl_sys.uring_register(r->fd, IORING_UNREGISTER_PBUF_RING, &reg, 1);
}

void tdl_uring_close_blocks(struct ring *r) {
    if (r->blocks) tdl_sys.unmap(r->blocks, ALL_SIZE);
    r->blocks = NULL;
}

int tdl_uring_can_receive(struct ring *r, char *why, size_t size) {
    enum { OPS = 64 };
    union {
        struct io_uring_probe head;
        char room[sizeof(struct io_uring_probe) + OPS * sizeof(struct io_uring_probe_op)];
    } can;
    memset(&can, 0, sizeof can);
    int rc = tdl_sys.uring_register(r->fd, IORING_REGISTER_PROBE, &can, OPS);
    /* as old as multishot receives, which cannot be asked for */
    bool has = rc >= 0 && can.head.last_op >= IORING_OP_SEND_ZC;
    if (rc >= 0 && !has) rc = -EOPNOTSUPP;
    if (rc >= 0) {
        tdl_uring_open_blocks(r);
        rc = r->blocks ? 0 : -ENOMEM;
    }
    tdl_uring_close_blocks(r);
    if (rc < 0)
        snprintf(why, size, "it only polls: %s", rc == -EOPNOTSUPP ? "the kernel is older than 6.0"
                                                                   : "no buffers can be registered");
    return rc;
}

/* -- Asking ------------------------------------------------------------------------------ */

bool tdl_uring_join(tdl_poller *p, tdl_pd *pd) {
    inbox *in = tdl_inbox_of(pd), *none = NULL;
    if (!tdl_ring_of(p)->blocks) return false;
    if (!in) {
        inbox *chunk = tdl_alloc_zeroed(CHUNK * sizeof *chunk);
        if (!chunk) return false;
        if (!at_cas_seq(&inboxes[pd->index / CHUNK], &none, chunk)) tdl_sys.release(chunk);
        in = tdl_inbox_of(pd);
    }
    *in = (inbox){.dead = in->dead, .dying = in->dying, .listens = pd->kind->accepts};
    tdl_pd_note(tdl_pd_token(pd), false);
    return true;
}

static bool ask_bytes(struct ring *r, int fd, uint64_t data) {
    struct io_uring_sqe *e = tdl_ring_begin(r);
    if (!e) return false;
    e->opcode = IORING_OP_RECV;
    e->fd = fd;
    e->ioprio = IORING_RECV_MULTISHOT;
    e->flags = IOSQE_BUFFER_SELECT;
    e->user_data = data;
    tdl_ring_end(r);
    return true;
}

bool tdl_ring_poll_for(struct ring *r, tdl_pd *pd, inbox *in, uint32_t kind, uint32_t events, bool multi) {
    if (in->asked & kind) return false;
    if (tdl_ring_ask(r, pd->fd, events, multi, tdl_pd_token(pd) | kind) == 0) in->asked |= kind;
    return true;
}

bool tdl_uring_receive(tdl_poller *p, tdl_pd *pd, int dir) {
    struct ring *r = tdl_ring_of(p);
    inbox *in = tdl_inbox_of(pd);
    TDL_TSAN_RELEASE(r); /* to who takes its completions: the kernel orders that */
    TDL_TSAN_RELEASE(p);
    if (in->listens) return tdl_uring_ask_accept(r, pd, in);
    if (dir == PD_WRITE) return tdl_ring_poll_for(r, pd, in, LOW_OUT, POLLOUT, true);
    if ((in->asked & LOW_RECV) || in->n || in->error) return false; /* it tells; or has */
    if (in->asked & LOW_IN) return false;
    if (!in->plain && !in->scarce && ask_bytes(r, pd->fd, tdl_pd_token(pd) | LOW_RECV)) {
        in->asked |= LOW_RECV;
        in->ending = 0;
        return true;
    }
    in->plain |= !in->scarce;
    in->scarce = 0;
    return tdl_ring_poll_for(r, pd, in, LOW_IN, POLLIN | POLLRDHUP | POLLPRI, in->plain);
}

/* Ends the receive; its last completion tells. */
static void end_receive(struct ring *r, inbox *in, uint64_t token) {
    if (!(in->asked & LOW_RECV) || in->ending) return;
    in->ending = 1;
    tdl_ring_cancel(r, token | LOW_RECV);
}

void tdl_uring_plain(tdl_poller *p, tdl_pd *pd) {
    struct ring *r = tdl_ring_of(p);
    inbox *in = tdl_inbox_of(pd);
    in->plain = 1;
    if (!(in->asked & (LOW_RECV | LOW_ACCEPT)) || in->ending) return;
    if (in->listens)
        tdl_uring_end_accept(r, in, tdl_pd_token(pd));
    else
        end_receive(r, in, tdl_pd_token(pd));
    tdl_ring_submit(r);
}

/* -- Completions -------------------------------------------------------------------------- */

/* Of one that is gone. */
static void of_the_dead(struct ring *r, inbox *in, const struct io_uring_cqe *c, uint64_t token) {
    if (c->flags & IORING_CQE_F_BUFFER) give(r, c->flags >> IORING_CQE_BUFFER_SHIFT);
    tdl_uring_refuse(c);
    if (!(c->flags & IORING_CQE_F_MORE) && in->dead == seq_of(token) && in->dying && --in->dying == 0)
        tdl_pd_note(token, true);
}

static uint32_t received(struct ring *r, inbox *in, const struct io_uring_cqe *c, uint64_t token) {
    uint32_t id = c->flags >> IORING_CQE_BUFFER_SHIFT;
    bool over = !(c->flags & IORING_CQE_F_MORE);
    TDL_TSAN_ACQUIRE(r->blocks); /* from who gave the buffer back: the kernel orders that */
    if ((c->flags & IORING_CQE_F_BUFFER) && c->res > 0) {
        r->block[id].n = (uint16_t)c->res;
        r->block[id].next = 0;
        if (in->n)
            r->block[in->last].next = (uint16_t)id;
        else
            in->first = (uint16_t)id;
        in->last = (uint16_t)id;
        in->n++;
    } else if (c->flags & IORING_CQE_F_BUFFER) {
        give(r, id);
    }
    if (over) in->asked &= ~(uint32_t)LOW_RECV;
    if (c->res == BLOCK) in->plain = 1; /* more came than a buffer holds: larger reads are cheaper */
    if (!over && (in->n >= INBOX_MOST || in->plain)) end_receive(r, in, token);
    switch (c->res < 0 ? -c->res : 0) {
    case 0: return c->res == 0 ? PD_READABLE | PD_HUP : PD_READABLE;
    case ECANCELED: /* by us, or with its thread */
    case EINTR: return PD_LOST;
    case ENOBUFS: in->scarce = !give_more(r); return PD_LOST;
    case EAGAIN:
    case EINVAL:
    case ENOMEM:
    case EOPNOTSUPP: in->plain = 1; return PD_LOST;
    default: in->error = c->res; return PD_READABLE | PD_HUP;
    }
}

void tdl_uring_stream(struct ring *r, const struct io_uring_cqe *c, tdl_poll_event *out) {
    uint64_t token = c->user_data & ~LOW_STREAM;
    uint32_t kind = LOW(c->user_data) & (uint32_t)LOW_STREAM;
    tdl_pd *pd = tdl_pd_lock(token);
    inbox *in = tdl_inbox_of(pd);
    *out = (tdl_poll_event){token, 0};
    if (kind == LOW_SEND) {
        if (pd->seq == seq_of(token)) {
            in->sent = c->res;
            in->asked &= ~kind;
            out->what = PD_SENT;
        }
    } else if (pd->seq != seq_of(token)) {
        of_the_dead(r, in, c, token);
    } else if (kind == LOW_ACCEPT) {
        out->what = tdl_uring_accepted(r, pd, in, c);
    } else if (kind == LOW_RECV) {
        out->what = received(r, in, c, token);
    } else {
        if (!(c->flags & IORING_CQE_F_MORE)) in->asked &= ~kind;
        out->what = tdl_ring_meaning(c);
        /* who is woken asks again, when there is nothing any more */
        if (out->what & (kind == LOW_IN ? PD_READABLE : PD_WRITABLE)) out->what &= ~(uint32_t)PD_LOST;
    }
    tdl_unlock(&pd->lock);
}

/* -- Taking ---------------------------------------------------------------------------------- */

int64_t tdl_uring_take(tdl_poller *p, tdl_pd *pd, void *buf, size_t n) {
    struct ring *r = tdl_ring_of(p);
    inbox *in = tdl_inbox_of(pd);
    size_t got = 0;
    while (in->n && got < n) {
        uint32_t id = in->first;
        size_t left = (size_t)r->block[id].n - in->taken, k = left < n - got ? left : n - got;
        memcpy((char *)buf + got, bytes_of(r, id) + in->taken, k);
        got += k;
        in->taken = (uint16_t)(in->taken + k);
        if (k == left) drop_first(r, in);
    }
    if (got) return (int64_t)got;
    if (in->error) {
        got = (size_t)-in->error;
        in->error = 0;
        return -(int64_t)got;
    }
    return in->asked & LOW_RECV ? -EAGAIN : TDL_PENDING;
}

int tdl_uring_received(tdl_poller *p, tdl_pd *pd) {
    inbox *in = tdl_inbox_of(pd);
    (void)p;
    return in->n || in->error ? 1 : in->asked & (LOW_RECV | LOW_ACCEPT) ? 0 : -1;
}

/* -- Sending ---------------------------------------------------------------------------------- */

/* Never left waiting in the system (MSG_DONTWAIT): it has ended when it was handed over. */
bool tdl_uring_send(tdl_poller *p, tdl_pd *pd, const void *buf, size_t n) {
    struct ring *r = tdl_ring_of(p);
    struct io_uring_sqe *e = tdl_ring_begin(r);
    if (!e) return false;
    tdl_inbox_of(pd)->asked |= LOW_SEND;
    e->opcode = IORING_OP_SEND;
    e->fd = pd->fd;
    e->addr = (uint64_t)(uintptr_t)buf;
    e->len = (uint32_t)n;
    e->msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    e->user_data = tdl_pd_token(pd) | LOW_SEND;
    tdl_ring_end(r);
    return true;
}

int64_t tdl_uring_sent(tdl_poller *p, tdl_pd *pd) {
    (void)p;
    return tdl_inbox_of(pd)->sent;
}

/* -- The end ---------------------------------------------------------------------------------- */

void tdl_uring_forget(tdl_poller *p, tdl_pd *pd, uint64_t token) {
    struct ring *r = tdl_ring_of(p);
    inbox *in = tdl_inbox_of(pd);
    in->dead = seq_of(token);
    in->dying = 0;
    for (uint32_t kind = LOW_ACCEPT; kind <= LOW_RECV; kind <<= 1) {
        if (!(in->asked & kind) || kind == LOW_SEND) continue;
        tdl_ring_cancel(r, token | kind);
        in->dying++;
    }
    tdl_pd_note(token, in->dying == 0);
    if (in->dying) tdl_ring_submit(r);
    if (in->listens) tdl_uring_refuse_all(in);
    while (in->n) drop_first(r, in);
}

void tdl_uring_orphan(tdl_pd *pd) {
    inbox *in = tdl_inbox_of(pd);
    if (in->listens) tdl_uring_refuse_all(in);
}

uint32_t tdl_uring_dying(tdl_pd *pd, uint64_t token) {
    tdl_lock_take(&pd->lock);
    const inbox *in = tdl_inbox_of(pd);
    uint32_t n = in && in->dead == seq_of(token) ? in->dying : 1;
    tdl_unlock(&pd->lock);
    return n;
}

#endif
