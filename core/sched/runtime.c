/* SPDX-License-Identifier: MIT
 *
 * Start and end of the runtime: the Ps, their threads, and tdl_run.
 *
 * A P is made once and kept for ever (a late waker may hold its address); its
 * poller is opened by start and closed by stop.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <stdlib.h>

#include "sched/ops.h"
#include "sched/own.h"
#include "sched/stack.h"
#include "sys/fault.h"
#include "sys/sys.h"

/* -- Start ------------------------------------------------------------------------ */

static tdl_p *all_p[TDL_MAX_P];
static int opened; /* under run_lock: Ps whose poller is open */

/* Looks for work before an M sleeps; about 30 ns each. */
enum { SPINS = 250 };

int tdl_p_open(int id) {
    if (id < opened) return 0;
    if (!all_p[id] && !(all_p[id] = tdl_alloc_zeroed(sizeof(tdl_p)))) return TDL_ENOMEM;
    tdl_p *p = all_p[id];
    p->id = id;
    p->m = NULL;
    p->idle = false;
    tdl_stacks_reset(&p->stacks);
    p->budget_full = 1;
    p->spin_credit = 1;
    p->rounds = 0;
    p->front_left = 0;
    at_store_rlx(&p->asked, 0);
    at_store_rlx(&p->budget, 1);
    at_store_rlx(&p->attended, 0);
    at_store_rlx(&p->in_call, 0);
    int r = tdl_poller_open(&p->poller);
    if (r == 0) opened = id + 1;
    return r;
}

static void close_pollers(void) {
    while (opened > 0) tdl_poller_close(&all_p[--opened]->poller);
}

static int start_all(void) {
    int r = tdl_fault_environment();
    if (r < 0) return r;
    int np = tdl_procs_wanted();
    tdl_overflow_watch();
    at_store_seq(&tdl_sched.stopping, 0);
    at_store_seq(&tdl_sched.nspinning, 0);
    at_store_seq(&tdl_sched.watching, 0);
    at_store_seq(&tdl_sched.crowded, 0);
    at_store_seq(&tdl_sched.nidle, 0);
    at_store_seq(&tdl_sched.nretired_idle, 0);
    at_store_seq(&tdl_sched.nglobal, 0);
    at_store_seq(&tdl_sched.nwoken, 0);
    at_store_seq(&tdl_sched.active, (uint32_t)np);
    at_store_seq(&tdl_sched.solo, np == 1);
    at_store_rlx(&tdl_sched.spins, tdl_sys.simulated ? 0 : SPINS);
    for (int i = 0; i < np; i++) {
        if ((r = tdl_p_open(i)) < 0) {
            close_pollers();
            return r;
        }
    }
    tdl_sched.p = all_p;
    tdl_lock_take(&tdl_sched.lock);
    tdl_sched.global[0] = tdl_sched.global[1] = (tdl_glist){NULL, NULL};
    tdl_sched.idle = NULL;
    at_store_rel(&tdl_sched.np, np);
    for (int i = np - 1; i >= 0; i--) tdl_idle_push(all_p[i]);
    tdl_unlock(&tdl_sched.lock);
    at_store_rel(&tdl_sched.running, 1);
    return 0;
}

static int stop_rest(void);

int tdl_runtime_start(void) {
    /* acquire pairs with the release in start_all */
    if (TDL_LIKELY(at_load_acq(&tdl_sched.running))) return 0;
    tdl_lock_take(&tdl_sched.run_lock);
    int r = 0;
    if (!at_load_rlx(&tdl_sched.running)) r = at_load_rlx(&tdl_sched.stopping) && tdl_nprocs() ? stop_rest() : 0;
    if (r == 0 && !at_load_rlx(&tdl_sched.running)) r = start_all();
    tdl_unlock(&tdl_sched.run_lock);
    return r;
}

/* An M waits in a P's poller from now on, whoever has the P. */
TDL_NO_TSAN tdl_poller *tdl_my_poller(int *code) {
    tdl_m *m = tdl_m_self();
    if (at_load_rlx(&m->deny) == TDL_EFORKED) {
        *code = TDL_EFORKED;
        return NULL;
    }
    tdl_poller *hosted = at_load_rlx(&m->host_poller);
    if (hosted) return hosted;
    if ((*code = tdl_may_wait(at_load_rlx(&tdl_sched.bubble))) < 0) return NULL;
    uint32_t was;
    tdl_p *p = tdl_p_enter(m, &was);
    if (p) at_store_rlx(&p->attended, 1); /* it has an M: us */
    tdl_p_leave(m, was);
    if (p) return &p->poller;
    if ((*code = tdl_runtime_start()) < 0) return NULL;
    if ((*code = tdl_p_attend(tdl_sched.p[0])) < 0) return NULL;
    return &tdl_sched.p[0]->poller;
}

/* -- Stop -------------------------------------------------------------------------- */

static const int64_t STOP_NS = TDL_SECOND; /* without a thread that comes in: the others are kept */

/* Pinned goroutines that wait: their threads come in, and they never run again. */
static void end_pinned(void) {
    tdl_lock_take(&tdl_sched.lock);
    for (tdl_m *m = tdl_sched.loose; m; m = m->next) {
        tdl_g *g = at_load_rlx(&m->pinned);
        uint32_t was = g ? tdl_op_claim(&g->op) : 0;
        if (was) tdl_op_complete(&g->op, was, TDL_ECANCELED);
    }
    tdl_unlock(&tdl_sched.lock);
}

/* Waits until every thread has come in. A goroutine that computes or blocks
 * outside the runtime may keep its thread for as long as it likes: then TDL_EBUSY. */
static int stop_threads(void) {
    tdl_lock_take(&tdl_sched.lock);
    at_store_seq(&tdl_sched.stopping, 1);
    tdl_unlock(&tdl_sched.lock);
    while (at_load_seq(&tdl_sched.nwaking)) tdl_thread_yield();
    tdl_sysmon_stop();
    uint32_t left = UINT32_MAX;
    for (int64_t until = 0;;) {
        for (int i = 0; i < tdl_nprocs(); i++) tdl_poller_kick(&all_p[i]->poller);
        tdl_spares_end();
        end_pinned();
        uint32_t n = at_load_seq(&tdl_sched.nthreads);
        if (n == 0) break;
        int64_t now = tdl_sys.now();
        if (n < left) {
            left = n;
            until = now + STOP_NS;
        }
        if (now >= until) return TDL_EBUSY;
        tdl_sys.futex_wait(&tdl_sched.nthreads, n, now + TDL_MILLISECOND);
    }
    tdl_threads_reap();
    return 0;
}

/* What is still parked or queued never runs again. Threads and hosts may be
 * using the same channels meanwhile. */
static void bury(tdl_g *g) {
    if (at_load_acq(&g->status) == G_WAITING) {
        uint32_t s = at_load_acq(&g->op.state);
        if (s == OP_PARKED && tdl_op_claim(&g->op)) {
            g->op.result = TDL_ECANCELED; /* nobody else can ready it any more */
        } else {
            /* somebody has claimed it, and is about to ready it */
            while (at_load_acq(&g->status) == G_WAITING) tdl_thread_yield();
        }
    }
    /* who readied it has put it on the global queue under this lock: be after that */
    tdl_lock_take(&tdl_sched.lock);
    tdl_unlock(&tdl_sched.lock);
    tdl_op_abandon(&g->op);
    if (g->flags & TDL_GO_JOINABLE) {
        uint32_t was = 0;
        tdl_lock_take(&g->join_lock);
        tdl_node *n = tdl_queue_claim(&g->joiner, &was);
        tdl_unlock(&g->join_lock);
        if (n) tdl_op_complete(n->op, was, TDL_ECANCELED);
    }
#ifdef TDL_TSAN
    if (g->fiber) __tsan_destroy_fiber(g->fiber);
#endif
    at_store_rlx(&g->status, G_DEAD);
}

/* The second half, once no thread is left. */
static int stop_rest(void) {
    int r = stop_threads();
    if (r < 0) return r;
    tdl_g *g;
    for (uint32_t i = 0; (g = tdl_stack_g(i)) != NULL; i++)
        if (at_load_acq(&g->status) != G_DEAD) bury(g);
    close_pollers();
    tdl_stack_discard_all();
    for (int i = 0; i < tdl_nprocs(); i++) {
        tdl_p *p = all_p[i];
        at_store_rlx(&p->runnext, NULL);
        at_store_rlx(&p->runq.head, at_load_rlx(&p->runq.tail));
        at_store_rlx(&p->front.head, at_load_rlx(&p->front.tail));
        at_store_rlx(&p->spawned, 0);
        at_store_rlx(&p->exited, 0);
        tdl_stacks_reset(&p->stacks);
        p->id_next = p->id_end = 0;
    }
    at_store_rlx(&tdl_sched.spawned, 0);
    at_store_rlx(&tdl_sched.exited, 0);
    at_store_rel(&tdl_sched.np, 0);
    return 0;
}

int tdl_runtime_stop(void) {
    tdl_lock_take(&tdl_sched.run_lock);
    int r = 0;
    if (at_load_rlx(&tdl_sched.running) || tdl_nprocs()) {
        at_store_seq(&tdl_sched.running, 0);
        r = stop_rest();
    }
    tdl_unlock(&tdl_sched.run_lock);
    return r;
}

/* -- Run ---------------------------------------------------------------------------- */

struct main_call {
    int (*fn)(void *);
    void *arg;
    int result;
};

static void call_main(void *arg) {
    struct main_call *c = arg;
    c->result = c->fn(c->arg);
}

int tdl_run(int (*main_g)(void *), void *arg) {
    tdl_m *m = tdl_m_self();
    int deny = at_load_rlx(&m->deny);
    if (deny < 0) return deny;
    if (!main_g) return TDL_EINVAL;
    if (m->g || tdl_may_wait(at_load_rlx(&tdl_sched.bubble)) < 0) return TDL_EBUSY;
    if (at_xchg_seq(&tdl_sched.in_run, 1)) return TDL_EBUSY;
    struct main_call call = {main_g, arg, 0};
    bool ours = !at_load_acq(&tdl_sched.running);
    int r = tdl_runtime_start();
    bool started = r == 0;
    if (r == 0) r = tdl_p_attend(tdl_sched.p[0]);
    if (r == 0) {
        tdl_go_options opts = {sizeof opts, TDL_GO_JOINABLE, 0, "main"};
        tdl_g *g = tdl_go_opts(call_main, &call, &opts);
        r = g ? tdl_join(g) : TDL_ENOMEM;
    }
    /* one that others had started goes on when we could not run in it */
    if (r == 0 || (started && ours)) {
        tdl_runtime_stop();
    }
    at_store_seq(&tdl_sched.in_run, 0);
    return r < 0 ? r : call.result;
}
