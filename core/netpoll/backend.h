/* SPDX-License-Identifier: MIT
 *
 * What a back end is: a poller's way to the system. poller.c has what all of them
 * share (announcing a sleep, waking, handing out events), choice.c says which one
 * it is; each lives in a file of its own: epoll.c, uring.c, uv.c.
 *
 * Which thread calls what: fetch with a timeout, prepare and those for a host's
 * watchers, only the poller's owner; fetch without a timeout, add, remove, want and
 * kick, any thread. add, remove and want are called under the descriptor's lock
 * or before anybody else knows it. With by_owner, what is added or wanted may take
 * effect with the owner's next fetch only: who calls wakes it for that if it
 * sleeps.
 */
#ifndef TDL_NETPOLL_BACKEND_H
#define TDL_NETPOLL_BACKEND_H

#include "sched/poll.h"
#include "treadle.h"

/* An event (sys.h): of a poll descriptor, data is its token and what of PD_READABLE …; of a
 * watcher, DATA_WATCH | its number; DATA_WAKE: of the wake-up. A poll
 * descriptor's index is below 2^20 and its seq never 0. */
typedef struct tdl_poll_event tdl_poll_event;

#define DATA_WAKE  UINT64_C(0xffffffff)
#define DATA_WATCH UINT64_C(0x80000000)

enum { TDL_POLL_BATCH = 128 };

struct tdl_backend {
    const char *name;
    bool by_owner;
    /* 0, or a negated errno when the system has it not or forbids it; why says more, with 0
     * what of it does not work. */
    int (*probe)(char *why, size_t size);
    int (*open)(tdl_poller *p);
    void (*close)(tdl_poller *p);

    /* Both directions; an event follows when it becomes ready, and one at first when
     * it is. Edge-triggered; or, with want, at least one event for a direction
     * after each want. */
    int (*add)(tdl_poller *p, int fd, uint64_t token);
    void (*remove)(tdl_poller *p, int fd, uint64_t token); /* the fd may be closed after it */
    void (*want)(tdl_poller *p, int fd, uint64_t token, int dir); /* may be NULL */
    /* Waits until the system has let go of what was removed, as far as another
     * thread has to do it; with no lock held. The poller stays meanwhile. NULL: nothing to wait for. */
    void (*settle)(tdl_poller *p, struct tdl_pd *pd, uint64_t token);

    /* Streams for which the back end receives by itself, and listeners for which it accepts: those that it lets join (true), instead of
     * add. NULL: none. All under the descriptor's lock.
     * receive instead of want (true: it asked for something), and forget instead of remove; one that is
     * PD_LOST is received for again when somebody waits. take: bytes that have come, as
     * recv; TDL_PENDING: there are none and none are on the way, so the system is to be asked.
     * received: 1: there are some; 0: they are on the way, and their event, or that of the end
     * of receiving, comes; -1: neither. plain: no more of that; what is on the way comes. */
    bool (*join)(tdl_poller *p, struct tdl_pd *pd);
    bool (*receive)(tdl_poller *p, struct tdl_pd *pd, int dir);
    int64_t (*take)(tdl_poller *p, struct tdl_pd *pd, void *buf, size_t n);
    int (*received)(tdl_poller *p, struct tdl_pd *pd);
    void (*plain)(tdl_poller *p, struct tdl_pd *pd);
    void (*forget)(tdl_poller *p, struct tdl_pd *pd, uint64_t token);
    /* A listener's next connection, where the back end accepts for it: an fd, or as take. orphan: the
     * poller is about to be closed, and its descriptors were not forgotten. */
    int64_t (*accept)(tdl_poller *p, struct tdl_pd *pd);
    void (*orphan)(struct tdl_pd *pd);
    /* Sends for those, without waiting, with the next fetch; then PD_SENT follows. One at a time; the
     * bytes stay until then. sent: its result, as send's. flush: now, if the system can. gathers: does the
     * next fetch call the system in any case? */
    bool (*send)(tdl_poller *p, struct tdl_pd *pd, const void *buf, size_t n);
    int64_t (*sent)(tdl_poller *p, struct tdl_pd *pd);
    void (*flush)(tdl_poller *p);
    bool (*gathers)(tdl_poller *p);

    /* Of a host: level-triggered, or edge-triggered with TDL_EDGE. Where the system knows
     * levels only, an edge follows its first one when rewant has asked for it; NULL:
     * edges come by themselves. -EEXIST: the fd is watched already. */
    int (*watch)(tdl_poller *p, int fd, uint32_t watcher, int readiness);
    int (*rewatch)(tdl_poller *p, int fd, uint32_t watcher, int readiness);
    int (*rewant)(tdl_poller *p, int fd, uint32_t watcher, int readiness);
    void (*unwatch)(tdl_poller *p, int fd, uint32_t watcher);

    /* Events, waiting for the first of them up to timeout_ns (< 0: for ever, 0: not
     * at all). Their number, or a negated errno: -EINTR, after which a signal's
     * handler has run. */
    int (*fetch)(tdl_poller *p, tdl_poll_event *events, int max, int64_t timeout_ns);
    /* Ends the owner's fetch, now or the next one; async-signal-safe. */
    void (*kick)(tdl_poller *p);
    /* The descriptor that is readable when a fetch would find something, for a
     * foreign loop; prepare, which may be NULL, comes before each of its waits:
     * true when there is something already. */
    int (*fd)(tdl_poller *p);
    bool (*prepare)(tdl_poller *p);
};
typedef struct tdl_backend tdl_backend;

extern const tdl_backend tdl_backend_epoll, tdl_backend_uring, tdl_backend_uv;

/* The one for a poller that is being opened; NULL and a code. counted: it is to be
 * given back when the poller is closed: the choice stands as long as there is one. */
const tdl_backend *tdl_backend_take(bool *counted, int *code);
void tdl_backend_give(void);
/* "poller: epoll, the default of this system" and a newline, for dumps; its length, as
 * snprintf. Waits for nothing. */
int tdl_netpoll_line(char *buf, size_t size);

#endif
