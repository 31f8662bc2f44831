/* SPDX-License-Identifier: MIT
 * Tasks: hosted goroutines, their numbers, parking and cancelling. */
#include <string.h>

#include "host/host.h"
#include "sync/chan.h"
#include "sys/sys.h"

enum { ID_BATCH = 4096 };

/* -- Numbers ---------------------------------------------------------------------------- */

tdl_g *tdl_task_find(tdl_host *h, uint32_t task) {
    if (task >= at_load_acq(&h->ntasks)) return NULL;
    tdl_g *g = &h->chunk[task / TASK_CHUNK][task % TASK_CHUNK];
    return at_load_rlx(&g->status) == G_DEAD ? NULL : g;
}

static tdl_g *new_number(tdl_host *h) {
    tdl_g *g = h->free;
    if (g) {
        h->free = g->next;
        return g;
    }
    uint32_t n = at_load_rlx(&h->ntasks);
    if (n == TDL_MAX_TASKS) return NULL;
    tdl_g **chunk = &h->chunk[n / TASK_CHUNK];
    if (!*chunk && !(*chunk = tdl_alloc_zeroed(TASK_CHUNK * sizeof **chunk))) return NULL;
    g = &(*chunk)[n % TASK_CHUNK];
    g->task = n;
    at_store_rel(&h->ntasks, n + 1);
    return g;
}

/* -- Ready ------------------------------------------------------------------------------- */

/* Any thread, which has claimed and filled the task's op. */
static void task_ready(tdl_g *g) {
    tdl_host *h = g->host;
    at_store_rlx(&g->status, G_RUNNABLE);
    if (tdl_host_of(h, tdl_m_self())) {
        tdl_host_push(h, g);
        return;
    }
    tdl_g *top = at_load_rlx(&h->remote);
    do
        g->next = top; /* the CAS publishes it; pairs with the owner's exchange */
    while (!at_cas_seq(&h->remote, &top, g));
    tdl_poller_wake(&h->poller);
}

/* -- Life ----------------------------------------------------------------------------------- */

static int64_t run_finish(tdl_op *op) { return op->result; }
static void nothing(tdl_op *op) { (void)op; }
static const tdl_op_class run_class = {"runnable", run_finish, nothing};

/* Ready without having waited: its event is {task, 0}. */
static void make_runnable(tdl_host *h, tdl_g *g) {
    tdl_op_begin(&g->op, &run_class);
    at_store_rlx(&g->op.state, OP_CLAIMED);
    g->pending = 1;
    at_store_rlx(&g->status, G_RUNNABLE);
    tdl_host_push(h, g);
}

static uint64_t new_id(tdl_host *h) {
    if (h->id_next == h->id_end) {
        h->id_next = at_add_rlx(&tdl_sched.ids, ID_BATCH);
        h->id_end = h->id_next + ID_BATCH;
    }
    return ++h->id_next;
}

int tdl_task_new(tdl_host *h, int run) {
    int r = tdl_host_check(h);
    if (r < 0) return r;
    tdl_g *g = new_number(h);
    if (!g) return TDL_ENOMEM;
    g->host = h;
    g->host_poller = &h->poller;
    g->task_ready = task_ready;
    g->op.kind = OP_OF_TASK;
    g->op.timer.heap = NULL;
    at_store_rlx(&g->op.state, OP_IDLE);
    tdl_val_set_nil(&g->op.out);
    g->pending = g->parked = 0;
    g->named = false;
    g->id = new_id(h);
    at_store_rlx(&h->live, at_load_rlx(&h->live) + 1);
    at_store_rlx(&g->status, G_RUNNING);
    if (run) make_runnable(h, g);
    return (int)g->task;
}

static void end_task(tdl_host *h, tdl_g *g) {
    at_store_rlx(&g->status, G_DEAD);
    at_store_rlx(&h->live, at_load_rlx(&h->live) - 1);
    g->next = h->free;
    h->free = g;
}

int tdl_task_free(tdl_host *h, uint32_t task) {
    int r = tdl_host_check(h);
    if (r < 0) return r;
    tdl_g *g = tdl_task_find(h, task);
    if (!g) return TDL_EINVAL;
    if (g->pending) return TDL_EBUSY;
    end_task(h, g);
    return 0;
}

int tdl_task_set_name(tdl_host *h, uint32_t task, const char *name) {
    int r = tdl_host_check(h);
    if (r < 0) return r;
    tdl_g *g = tdl_task_find(h, task);
    if (!g || !name) return TDL_EINVAL;
    tdl_g_set_name(g, name);
    return 0;
}

void tdl_tasks_end(tdl_host *h) {
    uint32_t n = at_load_rlx(&h->ntasks);
    for (uint32_t i = 0; i < n; i++) {
        tdl_g *g = tdl_task_find(h, i);
        if (!g || !g->pending) continue;
        if (tdl_op_claim(&g->op)) {
            g->op.result = TDL_ECANCELED;
            continue;
        }
        /* another has claimed it, and pushes it in a few instructions */
        while (!g->queued) {
            tdl_host_collect(h);
            tdl_thread_yield();
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        tdl_g *g = tdl_task_find(h, i);
        if (!g) continue;
        if (g->pending) tdl_op_abandon(&g->op);
        end_task(h, g);
    }
    at_store_rel(&h->ntasks, 0);
    for (uint32_t c = 0; c * TASK_CHUNK < n; c++) tdl_sys.release(h->chunk[c]);
}

int64_t tdl_tasks_live(void) {
    int64_t n = 0;
    for (tdl_host *h = tdl_host_first(); h; h = h->next) n += at_load_rlx(&h->live);
    return n;
}

/* -- Operations ----------------------------------------------------------------------------- */

tdl_op *tdl_task_op(tdl_host *h, uint32_t task, int *code) {
    if ((*code = tdl_host_check(h)) < 0) return NULL;
    tdl_g *g = tdl_task_find(h, task);
    *code = !g ? TDL_EINVAL : TDL_EBUSY;
    if (!g || g->pending) return NULL;
    /* from here on its op may be claimed, and its status be set by others */
    at_store_rlx(&g->status, G_WAITING);
    return &g->op;
}

int tdl_task_started(tdl_op *op, int64_t r) {
    tdl_g *g = TDL_CONTAINER(op, tdl_g, op);
    if (r == TDL_PENDING) {
        op->parked_at = g->host->asked;
        g->pending = 1;
    } else {
        at_store_rlx(&g->status, G_RUNNING);
        g->host->outcomes[g->task] = (tdl_outcome){op->out, op->extra};
        tdl_val_set_nil(&op->out);
    }
    return (int)r;
}

int tdl_task_cancel(tdl_host *h, uint32_t task) {
    int r = tdl_host_check(h);
    if (r < 0) return r;
    tdl_g *g = tdl_task_find(h, task);
    if (!g) return TDL_EINVAL;
    return g->pending ? tdl_op_cancel(&g->op) : 0;
}

int tdl_task_waits(tdl_host *h, uint32_t task) {
    int r = tdl_host_check(h);
    if (r < 0) return r;
    tdl_g *g = tdl_task_find(h, task);
    if (!g) return TDL_EINVAL;
    if (!g->pending) return 0;
    uint32_t s = at_load_rlx(&g->op.state); /* what others may do at this moment is the caller's affair */
    return s == OP_OWN || s == OP_ARMED || s == OP_PARKED;
}

int tdl_yield_start(tdl_host *h, uint32_t task) {
    int code;
    tdl_op *op = tdl_task_op(h, task, &code);
    if (!op) return code;
    make_runnable(h, TDL_CONTAINER(op, tdl_g, op));
    return TDL_PENDING;
}

/* -- Park and ready --------------------------------------------------------------------------- */

static void unpark(tdl_op *op) {
    tdl_g *g = TDL_CONTAINER(op, tdl_g, op);
    tdl_biased_take(&g->host->park_lock, true);
    g->parked = 0;
    tdl_biased_drop(&g->host->park_lock, true);
}

static int64_t park_finish(tdl_op *op) {
    unpark(op);
    return op->result;
}

static const tdl_op_class park_class = {"park", park_finish, unpark};

int tdl_task_park_start(tdl_host *h, uint32_t task, int64_t deadline) {
    int code;
    tdl_op *op = tdl_task_op(h, task, &code);
    if (!op) return code;
    tdl_g *g = TDL_CONTAINER(op, tdl_g, op);
    tdl_op_begin(op, &park_class);
    tdl_biased_take(&h->park_lock, true);
    g->parked = 1;
    tdl_op_publish(op);
    tdl_biased_drop(&h->park_lock, true);
    tdl_op_arm(op, deadline);
    return tdl_task_started(op, TDL_PENDING);
}

int tdl_task_ready(tdl_host *h, uint32_t task, int result) {
    if (!h || !h->open || result < 0) return TDL_EINVAL;
    tdl_g *g = tdl_task_find(h, task);
    if (!g) return TDL_EINVAL;
    uint32_t was = 0;
    bool owner = tdl_host_of(h, tdl_m_self());
    tdl_biased_take(&h->park_lock, owner);
    if (g->parked) {
        g->parked = 0;
        was = tdl_op_claim(&g->op);
    }
    tdl_biased_drop(&h->park_lock, owner);
    if (was) tdl_op_complete(&g->op, was, result);
    return was != 0;
}
