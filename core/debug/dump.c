/* SPDX-License-Identifier: MIT
 *
 * The dump of all goroutines, in the form of Go's tracebacks. It runs beside
 * the program, waits for no lock and stops nobody: a goroutine that changes while
 * it is written may be shown half old, half new.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/host.h"
#include "netpoll/backend.h"
#include "netpoll/polldesc.h"
#include "sched/stack.h"
#include "sys/fault.h"
#include "sys/sys.h"

struct out {
    int fd;
    int error;
};

static void put(struct out *o, const char *text, size_t n) {
    while (n > 0 && !o->error) {
        ssize_t w = write(o->fd, text, n);
        if (w < 0 && errno != EINTR) o->error = -errno;
        if (w > 0) {
            text += w;
            n -= (size_t)w;
        }
    }
}

/* -- One goroutine ------------------------------------------------------------ */

TDL_NO_TSAN static const char *doing(tdl_g *g) {
    switch (at_load_acq(&g->status)) {
    case G_RUNNABLE: return "runnable";
    case G_RUNNING: return "running";
    case G_BLOCKED: return "syscall";
    case G_DONE: return "ended, not joined";
    default: return g->op.cls ? g->op.cls->reason : "waiting";
    }
}

/* 350 ms, 4.2 s, 17 min */
static int print_duration(char *text, size_t size, int64_t ns) {
    int64_t ms = ns > 0 ? ns / 1000000 : 0;
    if (ms < 1000) return snprintf(text, size, "%" PRId64 " ms", ms);
    if (ms < 120000) return snprintf(text, size, "%" PRId64 ".%" PRId64 " s", ms / 1000, ms / 100 % 10);
    return snprintf(text, size, "%" PRId64 " min", ms / 60000);
}

/* "chan receive, 0x55d0c0ffee00, 4.2 s", "sync.Mutex.Lock, 0x…, 3 ms, held by
 * goroutine 7"; what cannot be read without the owner's help is left out. */
TDL_NO_TSAN static int print_wait(char *text, size_t size, tdl_g *g) {
    int at = snprintf(text, size, "%s", doing(g));
    if (at_load_acq(&g->status) != G_WAITING) return at;
    const char *reason = g->op.cls ? g->op.cls->reason : "";
    tdl_g *joined = g->op.u.joined;
    if (strcmp(reason, "join") == 0 && tdl_stack_owns(joined))
        at += snprintf(text + at, size - (size_t)at, ", goroutine %" PRIu64, joined->id);
    else if (strncmp(reason, "IO wait", 7) == 0 && tdl_pd_number(g->op.u.io.pd) >= 0)
        at += snprintf(text + at, size - (size_t)at, ", descriptor %d", tdl_pd_number(g->op.u.io.pd));
    else if (g->op.node.queue && g->op.node.object)
        at += snprintf(text + at, size - (size_t)at, ", %p", g->op.node.object);
    if (strcmp(reason, "select") == 0) at += snprintf(text + at, size - (size_t)at, ", %d cases", g->op.u.sel.n);
    at += snprintf(text + at, size - (size_t)at, ", ");
    at += print_duration(text + at, size - (size_t)at, tdl_sys.now() - g->op.parked_at);
    uint64_t by = tdl_blocked_by(g->id);
    if (by) {
        at += snprintf(text + at, size - (size_t)at, ", held by ");
        at += tdl_who_print(text + at, size - (size_t)at, by, "");
    }
    return at;
}

/* The whole line, without its end. */
TDL_NO_TSAN static int print_g(char *text, size_t size, tdl_g *g, const char *host) {
    int at = snprintf(text, size, "goroutine %" PRIu64 " [", g->id);
    at += print_wait(text + at, size - (size_t)at, g);
    at += snprintf(text + at, size - (size_t)at, "]:%s%s", g->named ? " " : "", tdl_g_name(g));
    if (host)
        at += snprintf(text + at, size - (size_t)at, " (task %u of host %s)", g->task, host);
    else if (g->parent)
        at += snprintf(text + at, size - (size_t)at, " created by goroutine %" PRIu64, g->parent);
    return at;
}

enum { LINE = 384 }; /* of which no part can be longer */

TDL_NO_TSAN static void put_g(struct out *o, tdl_g *g, const char *host) {
    char line[LINE];
    int n = print_g(line, LINE - 1, g, host);
    line[n++] = '\n';
    put(o, line, (size_t)n);
}

/* What all of them wait by: the first thing to know where somebody waits in vain. */
static void put_poller(struct out *o) {
    char line[LINE];
    int n = tdl_netpoll_line(line, LINE);
    put(o, line, n < LINE ? (size_t)n : LINE - 1);
    if (!tdl_fault_in_place()) return;
    n = snprintf(line, LINE, "faults injected: %" PRId64 "\n", tdl_fault_injected(NULL));
    put(o, line, (size_t)n);
}

/* -- All ------------------------------------------------------------------------- */

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
    put_poller(&o);
    return o.error;
}

int tdl_task_describe(tdl_host *h, uint32_t task, char *buf, size_t size) {
    char line[LINE];
    int r = tdl_host_check(h);
    if (r < 0) return r;
    tdl_g *g = tdl_task_find(h, task);
    if (!g || (!buf && size > 0)) return TDL_EINVAL;
    int n = print_g(line, LINE, g, h->name[0] ? h->name : "unnamed");
    if (size > 0) snprintf(buf, size, "%s", line);
    return n;
}
