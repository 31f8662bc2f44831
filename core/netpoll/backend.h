/* SPDX-License-Identifier: MIT
 *
 * What a back end does for a poller, besides the calls of sched/poll.h: the
 * registration of descriptors and of a host's watchers.
 */
#ifndef TDL_NETPOLL_BACKEND_H
#define TDL_NETPOLL_BACKEND_H

#include "sched/poll.h"

/* Edge-triggered, both directions; events carry the token. */
int tdl_backend_add(tdl_poller *p, int fd, uint64_t token);
void tdl_backend_remove(tdl_poller *p, int fd);

/* For a host: events go to the poller's on_watch, with TDL_HANGUP where it is so.
 * readiness is TDL_READABLE | TDL_WRITABLE, level-triggered but with TDL_EDGE. */
int tdl_backend_watch(tdl_poller *p, int fd, uint32_t watcher, int readiness);
int tdl_backend_rewatch(tdl_poller *p, int fd, uint32_t watcher, int readiness);
void tdl_backend_unwatch(tdl_poller *p, int fd);

#endif
