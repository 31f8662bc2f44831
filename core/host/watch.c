/* SPDX-License-Identifier: MIT
 * Watchers: lasting subscriptions of a host to any fd, level-triggered, or edge-
 * triggered with TDL_EDGE. Free numbers are linked through `readiness`. */
#include <errno.h>

#include "host/host.h"
#include "netpoll/backend.h"
#include "sys/sys.h"

static bool valid(int readiness) {
    return !(readiness & ~(TDL_READABLE | TDL_WRITABLE | TDL_EDGE));
}

/* A free number; grows the table. */
static int new_watcher(tdl_host *h) {
    if (h->free_watcher >= 0) return h->free_watcher;
    int n = h->nwatchers ? 2 * h->nwatchers : 8;
    tdl_watcher *w = tdl_sys.resize(h->watchers, (size_t)n * sizeof *w);
    if (!w) return TDL_ENOMEM;
    for (int i = n; i-- > h->nwatchers;) {
        w[i] = (tdl_watcher){-1, h->free_watcher, 0};
        h->free_watcher = i;
    }
    h->watchers = w;
    h->nwatchers = n;
    return h->free_watcher;
}

int tdl_host_watch(tdl_host *h, int fd, int readiness) {
    int r = tdl_host_check(h);
    if (r < 0) return r;
    if (!(readiness & ~TDL_EDGE) || !valid(readiness)) return TDL_EINVAL;
    int id = new_watcher(h);
    if (id < 0) return id;
    if ((r = h->poller.back->watch(&h->poller, fd, (uint32_t)id, readiness)) < 0) return r;
    h->free_watcher = h->watchers[id].readiness;
    h->watchers[id] = (tdl_watcher){fd, readiness, 0};
    return id;
}

static int check(tdl_host *h, int watcher) {
    int r = tdl_host_check(h);
    if (r < 0) return r;
    bool known = watcher >= 0 && watcher < h->nwatchers && h->watchers[watcher].fd >= 0;
    return known ? 0 : TDL_EINVAL;
}

int tdl_host_watch_modify(tdl_host *h, int watcher, int readiness) {
    int r = check(h, watcher);
    if (r < 0) return r;
    if (!valid(readiness)) return TDL_EINVAL;
    r = h->poller.back->rewatch(&h->poller, h->watchers[watcher].fd, (uint32_t)watcher, readiness);
    if (r == 0) h->watchers[watcher].readiness = readiness;
    return r;
}

int tdl_host_watch_want(tdl_host *h, int watcher, int readiness) {
    int r = check(h, watcher);
    if (r < 0) return r;
    if (readiness & ~(TDL_READABLE | TDL_WRITABLE) || !(h->watchers[watcher].readiness & TDL_EDGE)) return TDL_EINVAL;
    const tdl_backend *back = h->poller.back;
    if (!back->rewant) return 0;
    readiness &= h->watchers[watcher].readiness;
    if (readiness) r = back->rewant(&h->poller, h->watchers[watcher].fd, (uint32_t)watcher, readiness);
    return r < 0 ? r : 1;
}

/* Called by the poller. A level comes again; an edge is kept in `missed` where
 * there is no room. */
void tdl_host_on_watch(void *arg, uint32_t watcher, uint32_t readiness) {
    tdl_host *h = arg;
    if ((int)watcher >= h->nwatchers || h->watchers[watcher].fd < 0) return;
    tdl_watcher *w = &h->watchers[watcher];
    bool edge = w->readiness & TDL_EDGE;
    if (!edge) readiness &= TDL_READABLE | TDL_WRITABLE;
    if (h->nwatched < WATCH_BATCH) {
        h->watched[h->nwatched++] = (tdl_event){TDL_WATCHER | watcher, (int32_t)readiness};
    } else if (edge) {
        w->missed |= (uint8_t)readiness;
        h->missed = true;
    }
}

void tdl_host_watch_missed(tdl_host *h) {
    h->missed = false;
    for (int i = 0; i < h->nwatchers; i++) {
        uint8_t missed = h->watchers[i].missed;
        h->watchers[i].missed = 0;
        if (missed && h->watchers[i].fd >= 0) tdl_host_on_watch(h, (uint32_t)i, missed);
    }
}

/* Readiness of the watcher that was not handed out yet is forgotten. */
int tdl_host_unwatch(tdl_host *h, int watcher) {
    int r = check(h, watcher);
    if (r < 0) return r;
    h->poller.back->unwatch(&h->poller, h->watchers[watcher].fd, (uint32_t)watcher);
    h->watchers[watcher] = (tdl_watcher){-1, h->free_watcher, 0};
    h->free_watcher = watcher;
    int kept = 0;
    for (int i = 0; i < h->nwatched; i++)
        if (h->watched[i].task != (TDL_WATCHER | (uint32_t)watcher)) h->watched[kept++] = h->watched[i];
    h->nwatched = kept;
    return 0;
}
