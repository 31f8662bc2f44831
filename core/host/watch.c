/* SPDX-License-Identifier: MIT
 * Watchers: lasting, level-triggered subscriptions of a host to any fd. */
#include <errno.h>

#include "host/host.h"
#include "sys/sys.h"

static bool valid(int readiness) {
    return !(readiness & ~(TDL_READABLE | TDL_WRITABLE));
}

/* A free number; grows the table. */
static int new_watcher(tdl_host *h) {
    for (int i = 0; i < h->nwatchers; i++)
        if (h->watchers[i].fd < 0) return i;
    int n = h->nwatchers ? 2 * h->nwatchers : 8;
    tdl_watcher *w = tdl_sys.resize(h->watchers, (size_t)n * sizeof *w);
    if (!w) return TDL_ENOMEM;
    for (int i = h->nwatchers; i < n; i++) w[i].fd = -1;
    h->watchers = w;
    int id = h->nwatchers;
    h->nwatchers = n;
    return id;
}

int tdl_host_watch(tdl_host *h, int fd, int readiness) {
    int r = tdl_host_check(h);
    if (r < 0) return r;
    if (!readiness || !valid(readiness)) return TDL_EINVAL;
    int id = new_watcher(h);
    if (id < 0) return id;
    if ((r = tdl_backend_watch(&h->poller, fd, (uint32_t)id, readiness)) < 0) return r;
    h->watchers[id] = (tdl_watcher){fd, readiness};
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
    r = tdl_backend_rewatch(&h->poller, h->watchers[watcher].fd, (uint32_t)watcher, readiness);
    if (r == 0) h->watchers[watcher].readiness = readiness;
    return r;
}

/* Readiness of the watcher that was not handed out yet is forgotten. */
int tdl_host_unwatch(tdl_host *h, int watcher) {
    int r = check(h, watcher);
    if (r < 0) return r;
    tdl_backend_unwatch(&h->poller, h->watchers[watcher].fd);
    h->watchers[watcher].fd = -1;
    int kept = 0;
    for (int i = 0; i < h->nwatched; i++)
        if (h->watched[i].task != (TDL_WATCHER | (uint32_t)watcher)) h->watched[kept++] = h->watched[i];
    h->nwatched = kept;
    return 0;
}
