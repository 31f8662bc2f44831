/* SPDX-License-Identifier: MIT
 *
 * The back end of a simulation's pollers. They know no descriptors: who waits in
 * one is woken, or its time comes. */
#define TDL_SIM_ITSELF
#include "sim/sim.h"

#include <errno.h>

#include "netpoll/backend.h"

static tdl_vpoller *vpoller(tdl_poller *p) { return p->state; }

TDL_NO_TSAN static int open_virtual(tdl_poller *p) {
    for (int i = 0; i < SIM_MAX_POLLERS; i++) {
        if (tdl_sim.pollers[i].open) continue;
        tdl_sim.pollers[i] = (tdl_vpoller){.open = true};
        p->state = &tdl_sim.pollers[i];
        p->fd = SIM_FD + i;
        return 0;
    }
    return -EMFILE;
}

TDL_NO_TSAN static void close_virtual(tdl_poller *p) { vpoller(p)->open = false; }

static int add(tdl_poller *p, int fd, uint64_t token) {
    (void)p;
    (void)fd;
    (void)token;
    return -EOPNOTSUPP;
}

static void remove_pd(tdl_poller *p, int fd, uint64_t token) {
    (void)p;
    (void)fd;
    (void)token;
}

/* A host's watcher is never called. */
static int watch(tdl_poller *p, int fd, uint32_t watcher, int readiness) {
    (void)p;
    (void)fd;
    (void)watcher;
    return readiness & TDL_EDGE ? -EOPNOTSUPP : 0;
}

static void unwatch(tdl_poller *p, int fd, uint32_t watcher) {
    (void)p;
    (void)fd;
    (void)watcher;
}

TDL_NO_TSAN static int fetch(tdl_poller *poller, tdl_poll_event *events, int max, int64_t timeout_ns) {
    (void)max;
    if (!tdl_sim_mine()) return -EOPNOTSUPP;
    tdl_vpoller *p = vpoller(poller);
    if (!p->signalled && timeout_ns != 0) {
        bool never = timeout_ns < 0 || timeout_ns > TDL_FOREVER - tdl_sim.now;
        if (tdl_vthread_wait(p, never ? TDL_FOREVER : tdl_sim.now + timeout_ns) && tdl_sim.reason && !p->signalled)
            return -EDEADLK;
    }
    if (!p->signalled) return 0;
    p->signalled = false;
    events[0] = (tdl_poll_event){DATA_WAKE, 0};
    return 1;
}

/* Also called by tdl_host_wake, on any thread: another one's wake-up from
 * outside the simulation is not heard. */
TDL_NO_TSAN static void kick(tdl_poller *p) {
    if (!tdl_sim_mine()) return;
    vpoller(p)->signalled = true;
    tdl_vthread_wake(vpoller(p), 1);
}

static int fd_of(tdl_poller *p) { return p->fd; }

static int probe(char *why, size_t size) {
    (void)why;
    (void)size;
    return 0;
}

const tdl_backend tdl_sim_pollers = {
    .name = "simulated", .probe = probe, .open = open_virtual, .close = close_virtual,
    .add = add, .remove = remove_pd, .watch = watch, .rewatch = watch, .unwatch = unwatch,
    .fetch = fetch, .kick = kick, .fd = fd_of,
};
