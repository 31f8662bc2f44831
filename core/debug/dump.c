/* SPDX-License-Identifier: MIT
 *
 * The dump of all goroutines, in the form of Go's tracebacks. It runs beside
 * the program, takes no lock and stops nobody: a goroutine that changes while
 * it is written may be shown half old, half new.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "host/host.h"
#include "sched/stack.h"

struct out {
    int fd;
    int error;
};

static void put(struct out *o, const char *format, ...) {
    char line[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n > (int)sizeof line - 1) n = (int)sizeof line - 1;
    for (int at = 0; at < n && !o->error;) {
        ssize_t w = write(o->fd, line + at, (size_t)(n - at));
        if (w < 0 && errno != EINTR) o->error = -errno;
        if (w > 0) at += (int)w;
    }
}

TDL_NO_TSAN static const char *doing(tdl_g *g) {
    switch (at_load_acq(&g->status)) {
    case G_RUNNABLE: return "runnable";
    case G_RUNNING: return "running";
    case G_BLOCKED: return "syscall";
    case G_DONE: return "ended, not joined";
    default: return g->op.cls ? g->op.cls->reason : "waiting";
    }
}

TDL_NO_TSAN static void put_g(struct out *o, tdl_g *g, const char *host) {
    bool waiting = at_load_acq(&g->status) == G_WAITING;
    put(o, "goroutine %" PRIu64 " [%s", g->id, doing(g));
    if (waiting && g->op.node.queue && g->op.node.object) put(o, ", %p", g->op.node.object);
    put(o, "]:%s%s", g->name[0] ? " " : "", g->name);
    if (host) put(o, " (task %u of host %s)", g->task, host);
    if (g->parent) put(o, " created by goroutine %" PRIu64, g->parent);
    put(o, "\n");
}

TDL_NO_TSAN int tdl_dump(int fd) {
    if (tdl_forked()) return TDL_EFORKED;
    struct out o = {fd, 0};
    tdl_g *g;
    for (uint32_t i = 0; (g = tdl_stack_g(i)) != NULL; i++)
        if (at_load_acq(&g->status) != G_DEAD) put_g(&o, g, NULL);
    for (tdl_host *h = tdl_host_first(); h; h = h->next) {
        if (!h->open) continue;
        uint32_t n = at_load_acq(&h->ntasks);
        for (uint32_t i = 0; i < n; i++)
            if ((g = tdl_task_find(h, i)) != NULL) put_g(&o, g, h->name[0] ? h->name : "unnamed");
    }
    return o.error;
}
