/* SPDX-License-Identifier: MIT
 *
 * What the files of the io_uring back end share: uring.c has the ring, requests for
 * readiness, waiting; uring_recv.c the streams that the ring receives for.
 */
#ifndef TDL_NETPOLL_URING_H
#define TDL_NETPOLL_URING_H

#include <linux/io_uring.h>

#include "netpoll/backend.h"
#include "netpoll/polldesc.h"

/* What a request's user_data says, besides a poll descriptor's token. Above it, for
 * the wake-up and the watchers, is a number that tells an old request. */
#define LOW(data) ((uint32_t)(data))
enum { LOW_NOTHING = 0xfffffffeu, LOW_WATCH = 0x80000000u, LOW_WAKE = 0xffffffffu };
#define NOTHING ((uint64_t)LOW_NOTHING)
/* With a token: which of the requests of a stream it is. */
enum { LOW_RECV = 0x40000000u, LOW_OUT = 0x20000000u, LOW_IN = 0x10000000u, LOW_SEND = 0x08000000u, LOW_ACCEPT = 0x04000000u };
#define LOW_STREAM ((uint64_t)(LOW_RECV | LOW_OUT | LOW_IN | LOW_SEND | LOW_ACCEPT))

struct watch {
    int fd; /* -1: free */
    uint32_t gen;
    uint32_t events; /* of poll(2) */
    bool edge;
    bool due; /* to be asked for before the next wait */
};

typedef _Atomic uint32_t *shared; /* with the system: acquire and release, as io_uring(7) says */

/* Buffers: of how many bytes, how many at most (a power of two) and at first, and in one inbox. */
enum { BLOCK = 2048, BLOCKS = 1024, BLOCKS_FIRST = 64, INBOX_MOST = 16 };

struct ring {
    tdl_lock sq_lock, cq_lock;
    int fd;
    shared sq_head, sq_tail, sq_flags, cq_head, cq_tail;
    uint32_t sq_mask, sq_entries, cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    void *rings;
    size_t rings_size, sqes_size;
    _Atomic uint32_t wake_gen;
    _Atomic(const void *) wake_owner;
    struct watch *watches;
    uint32_t nwatches, ndue;
    tdl_lock block_lock;
    struct io_uring_buf_ring *blocks; /* NULL: none */
    char *memory;
    uint32_t nblocks; /* that there are so far */
    _Atomic uint32_t *npd; /* the poller's; relaxed: about how many descriptors there are */
    struct {
        uint16_t next, n;
    } block[BLOCKS];
};

static inline struct ring *tdl_ring_of(tdl_poller *p) { return p->state; }

/* Requests; they go with the next call. -EAGAIN: the queue is full, and the system takes
 * nothing. begin: the next entry, zeroed, with sq_lock; NULL (and no lock) likewise. */
struct io_uring_sqe *tdl_ring_begin(struct ring *r);
void tdl_ring_end(struct ring *r);
int tdl_ring_ask(struct ring *r, int fd, uint32_t events, bool multi, uint64_t data);
void tdl_ring_cancel(struct ring *r, uint64_t data);
void tdl_ring_submit(struct ring *r);
/* What a poll's completion says: PD_READABLE …. */
uint32_t tdl_ring_meaning(const struct io_uring_cqe *c);

/* -- Streams (uring_recv.c) -------------------------------------------------------------- */

/* Can the system receive by itself? 0, or a negated errno, and why. r: any ring. */
int tdl_uring_can_receive(struct ring *r, char *why, size_t size);
/* The buffers of a new ring, where that works. */
void tdl_uring_open_blocks(struct ring *r);
void tdl_uring_stop_blocks(struct ring *r); /* nothing is written to them any more */
void tdl_uring_close_blocks(struct ring *r);
/* A completion of a stream's request, with cq_lock. */
void tdl_uring_stream(struct ring *r, const struct io_uring_cqe *c, tdl_poll_event *out);
/* How many requests of a stream that was removed are still to end. 1: it is no stream. */
uint32_t tdl_uring_dying(tdl_pd *pd, uint64_t token);

/* What is kept of a stream, or a listener; under its descriptor's lock. See uring_recv.c,
 * uring_accept.c. */
typedef struct inbox {
    uint16_t first, last;    /* buffers; of a listener's fds the first one's place */
    uint16_t n;              /* buffers, or fds */
    uint16_t taken;          /* of the first buffer's bytes; of a listener, for how many fds there is room */
    int32_t error;           /* that comes after them; 0 */
    int32_t sent;            /* what came of the last send */
    uint32_t asked;          /* LOW_RECV … */
    uint32_t dead;           /* the seq of the descriptor that was here before, */
    uint16_t dying;          /* and how many of its requests are still to end */
    /* ending: LOW_RECV, or LOW_ACCEPT, is cancelled. scarce: there was no buffer; one event of readiness,
     * then it is tried again */
    uint8_t ending : 1, scarce : 1, plain : 1, listens : 1;
    int *fds; /* of a listener: a ring of those that were accepted */
} inbox;
inbox *tdl_inbox_of(const tdl_pd *pd);
bool tdl_ring_poll_for(struct ring *r, tdl_pd *pd, inbox *in, uint32_t kind, uint32_t events, bool multi);

bool tdl_uring_join(tdl_poller *p, tdl_pd *pd);
bool tdl_uring_receive(tdl_poller *p, tdl_pd *pd, int dir);
int64_t tdl_uring_take(tdl_poller *p, tdl_pd *pd, void *buf, size_t n);
int tdl_uring_received(tdl_poller *p, tdl_pd *pd);
void tdl_uring_plain(tdl_poller *p, tdl_pd *pd);
void tdl_uring_forget(tdl_poller *p, tdl_pd *pd, uint64_t token);
bool tdl_uring_send(tdl_poller *p, tdl_pd *pd, const void *buf, size_t n);
int64_t tdl_uring_sent(tdl_poller *p, tdl_pd *pd);
void tdl_uring_orphan(tdl_pd *pd);

/* -- Listeners (uring_accept.c) ---------------------------------------------------------- */

bool tdl_uring_ask_accept(struct ring *r, tdl_pd *pd, inbox *in);
void tdl_uring_end_accept(struct ring *r, inbox *in, uint64_t token);
/* A completion of the request; what it means. */
uint32_t tdl_uring_accepted(struct ring *r, tdl_pd *pd, inbox *in, const struct io_uring_cqe *c);
int64_t tdl_uring_accept(tdl_poller *p, tdl_pd *pd);
/* Resets what c says was accepted, if anything: nobody is there for it any more. */
void tdl_uring_refuse(const struct io_uring_cqe *c);
void tdl_uring_refuse_all(inbox *in);

#endif
