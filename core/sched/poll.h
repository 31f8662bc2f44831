/* SPDX-License-Identifier: MIT
 *
 * What the scheduler asks of a poller. One belongs to each P and each host;
 * netpoll/ implements it. Only its owner (the M that has the P, the host's
 * thread) waits in it; anybody may wake it.
 */
#ifndef TDL_SCHED_POLL_H
#define TDL_SCHED_POLL_H

#include <stdint.h>

#include "sched/timers.h"

struct tdl_pd;

typedef struct tdl_poller {
    tdl_lock lock;       /* guards the list of descriptors */
    struct tdl_pd *list; /* the poll descriptors registered here */
    const struct tdl_backend *back; /* the way to the system: netpoll/backend.h */
    bool counted;        /* the back end is to be given back */
    void *state;         /* the back end's */
    int fd, wakefd;      /* the back end's */
    _Atomic uint32_t npd;      /* descriptors registered: nothing to poll at 0 */
    _Atomic uint32_t sleeping; /* 1 while the owner waits or is about to: see tdl_poller_wake */
    _Atomic uint32_t wakers;   /* between their look at sleeping and their kick */
    int64_t late;              /* how much later than asked the system ends a sleep; the owner's */
    tdl_timers timers;
    struct tdl_poll_event *events; /* room for one batch */
    int nevents;                   /* fetched and not yet dispatched */
    void *watch_arg;               /* host pollers: where watchers' events go */
    void (*on_watch)(void *arg, uint32_t watcher, uint32_t readiness);
} tdl_poller;

/* 0 or a negative code. */
int tdl_poller_open(tdl_poller *p);
/* Closes every descriptor that is registered (their ops end with TDL_ECLOSED)
 * and the poller itself. */
void tdl_poller_close(tdl_poller *p);

/* Waiting is in steps, so that a submitter's work is seen or its wake-up felt:
 * announce; look for work once more; then wait, or retract. */
void tdl_poller_announce(tdl_poller *p);
void tdl_poller_retract(tdl_poller *p);
/* Fetches a batch of events, waiting up to timeout_ns (< 0: for ever, 0: not
 * at all), and retracts. Number of events, or a negated errno. */
int tdl_poller_wait(tdl_poller *p, int64_t timeout_ns);
/* Makes the goroutines of a batch of events ready, without waiting, for an owner
 * that is busy. Any thread; how many events. */
int tdl_poller_serve(tdl_poller *p);
/* Makes the goroutines of the fetched events ready. */
void tdl_poller_dispatch(tdl_poller *p);
/* Ends a wait that is going on or announced; otherwise costs one load. */
void tdl_poller_wake(tdl_poller *p);
/* The same whether or not one is announced; async-signal-safe. */
void tdl_poller_kick(tdl_poller *p);
/* Does an operation wait for a descriptor of this poller? */
bool tdl_poller_awaited(tdl_poller *p);
/* For a foreign loop: the descriptor that it is to watch, and what comes before each
 * of its waits: true when there are events already. */
int tdl_poller_fd(tdl_poller *p);
bool tdl_poller_prepare(tdl_poller *p);
/* An earlier timer was armed. */
void tdl_poller_retime(tdl_poller *p);

#endif
