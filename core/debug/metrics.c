/* SPDX-License-Identifier: MIT
 * Numbers by name, and the clock. */
#include <string.h>

#include "net/net.h"
#include "os/changes.h"
#include "os/fs.h"
#include "os/process.h"
#include "sched/sched.h"
#include "sched/stack.h"
#include "sync/chan.h"
#include "sync/context.h"
#include "sys/sys.h"
#include "host/host.h"

int64_t tdl_now(void) { return tdl_sys.now(); }

int tdl_num_goroutines(void) { return (int)(tdl_g_live() + tdl_tasks_live()); }

static int64_t goroutines(void) { return tdl_num_goroutines(); }
static int64_t tasks(void) { return tdl_tasks_live(); }
static int64_t handoffs(void) { return at_load_rlx(&tdl_sched.nretaken); }
static int64_t threads(void) { return at_load_rlx(&tdl_sched.nthreads); }

/* Stacks in use: of goroutines that live, or wait to be joined. */
static int64_t stacks(void) {
    int64_t n = 0;
    tdl_g *g;
    for (uint32_t i = 0; (g = tdl_stack_g(i)) != NULL; i++) n += at_load_rlx(&g->status) != G_DEAD;
    return n;
}

static int64_t timers(void) {
    int64_t n = 0;
    for (int i = 0; i < tdl_nprocs(); i++) n += tdl_timers_count(&tdl_sched.p[i]->poller.timers);
    for (tdl_host *h = tdl_host_first(); h; h = h->next) n += tdl_timers_count(&h->poller.timers);
    return n;
}

static const struct {
    const char *name;
    int64_t (*value)(void);
} metrics[] = {
    {"goroutines", goroutines}, {"tasks", tasks},
    {"threads", threads},       {"stacks", stacks},
    {"channels", tdl_chan_live}, {"connections", tdl_conn_live},
    {"handoffs", handoffs},      {"listeners", tdl_listener_live},
    {"datagrams", tdl_dgram_live}, {"descriptors", tdl_fd_live},
    {"timers", timers},          {"contexts", tdl_context_live},
    {"files", tdl_file_live},    {"processes", tdl_process_live}, {"watches", tdl_watch_live},
       {"services", tdl_work_live},
};

int64_t tdl_metric(const char *name) {
    if (tdl_forked()) return TDL_EFORKED;
    for (size_t i = 0; name && i < sizeof metrics / sizeof *metrics; i++)
        if (strcmp(metrics[i].name, name) == 0) return metrics[i].value();
    return TDL_EINVAL;
}
