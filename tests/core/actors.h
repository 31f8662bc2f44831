/* SPDX-License-Identifier: MIT
 * A host written in C, as small as a host can be: its coroutines are state
 * machines. An actor's step gets the result of the operation it started last
 * (0 the first time) and starts the next one:
 *
 *     static int double_it(actor *a, int result) {
 *         switch (a->state++) {
 *         case 0: return tdl_chan_recv_start(a->host, a->task, in, TDL_FOREVER);
 *         case 1: return tdl_chan_send_start(a->host, a->task, out, &outcome_of(a)->val, TDL_FOREVER);
 *         default: return ACTOR_DONE;
 *         }
 *     }
 *
 * An operation that completed at once goes on at once, one that returned
 * TDL_PENDING goes on when its event comes. */
#ifndef ACTORS_H
#define ACTORS_H

#include <treadle.h>

enum { ACTOR_DONE = -1000000, MAX_ACTORS = 4096 };

typedef struct actor actor;
struct actor {
    tdl_host *host;
    uint32_t  task;
    int       state;
    int64_t   n, m; /* for the step's use */
    void     *data;
    int (*step)(actor *a, int result);
};

typedef struct stage {
    tdl_host *host;
    actor    *of_task[MAX_ACTORS];
    int       live;
    int       batch;  /* events taken per poll */
    int       guest;  /* 1: wait in poll(2) on tdl_host_fd instead of in tdl_host_poll */
    void (*on_watcher)(struct stage *s, uint32_t watcher, int readiness);
    void     *data;
} stage;

void   stage_open(stage *s, const char *name);
actor *stage_spawn(stage *s, int (*step)(actor *a, int result), void *data);
void   stage_run(stage *s);       /* until no actor lives */
void   stage_poll(stage *s, int64_t timeout_ns); /* one poll, and the steps of its events */
void   stage_close(stage *s);

tdl_outcome *outcome_of(const actor *a);

#endif
