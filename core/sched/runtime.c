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
#include "sched/stack.h"
#include "sys/sys.h"

/* -- How many Ps --------------------------------------------------------------- */

static _Atomic int wanted; /* 0: not asked yet */

static int default_procs(void) {
    const char *env = getenv("TDL_MAXPROCS");
    if (env) {
        long n = strtol(env, NULL, 10);
        if (n >= 1) return n > TDL_MAX_P ? TDL_MAX_P : (int)n;
    }
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n;
}

int tdl_gomaxprocs(int n) {
    int before = at_load_rlx(&wanted);
    if (before == 0) before = default_procs();
    if (n >= 1) at_store_rlx(&wanted, n > TDL_MAX_P ? TDL_MAX_P : n);
    return before;
}

/* -- Start ------------------------------------------------------------------------ */

static tdl_p *all_p[TDL_MAX_P];

static int start_p(int id) {
    if (!all_p[id] && !(all_p[id] = tdl_alloc_zeroed(sizeof(tdl_p)))) return TDL_ENOMEM;
    tdl_p *p = all_p[id];
    p->id = id;
    p->m = NULL;
    p->idle = false;
    p->gfree = NULL;
    p->ngfree = 0;
    p->budget = p->budget_full = 1;
    return tdl_poller_open(&p->poller);
}

static int start_all(void) {
    int np = tdl_gomaxprocs(0);
    tdl_overflow_watch();
    at_store_seq(&tdl_sched.stopping, 0);
    at_store_seq(&tdl_sched.nspinning, 0);
    at_store_seq(&tdl_sched.watching, 0);
    at_store_seq(&tdl_sched.nidle, 0);
    at_store_seq(&tdl_sched.nglobal, 0);
    tdl_lock_take(&tdl_sched.lock);
    tdl_sched.head = tdl_sched.tail = NULL;
    tdl_sched.idle = NULL;
    tdl_unlock(&tdl_sched.lock);
    for (int i = 0; i < np; i++) {
        int r = start_p(i);
        if (r < 0) {
            while (--i >= 0) tdl_poller_close(&all_p[i]->poller);
            return r;
        }
    }
    tdl_sched.p = all_p;
    at_store_rel(&tdl_sched.np, np);
    for (int i = np - 1; i >= 0; i--) {
        all_p[i]->idle = true;
        all_p[i]->next_idle = tdl_sched.idle;
        tdl_sched.idle = all_p[i];
    }
    at_store_seq(&tdl_sched.nidle, (uint32_t)np);
    at_store_rel(&tdl_sched.running, 1);
    return 0;
}

int tdl_runtime_start(void) {
    /* acquire pairs with the release in start_all */
    if (TDL_LIKELY(at_load_acq(&tdl_sched.running))) return 0;
    tdl_lock_take(&tdl_sched.run_lock);
    int r = at_load_rlx(&tdl_sched.running) ? 0 : start_all();
    tdl_unlock(&tdl_sched.run_lock);
    return r;
}

tdl_poller *tdl_my_poller(int *code) {
    tdl_m *m = tdl_m_self();
    if (m->deny == TDL_EFORKED) {
        *code = TDL_EFORKED;
        return NULL;
    }
    if (m->p) return &m->p->poller;
    if (m->host) return m->host_poller;
    if ((*code = tdl_runtime_start()) < 0) return NULL;
    if ((*code = tdl_p_ensure(tdl_sched.p[0])) < 0) return NULL;
    return &tdl_sched.p[0]->poller;
}

/* -- Stop -------------------------------------------------------------------------- */

static void join_threads(void) {
    tdl_lock_take(&tdl_sched.lock);
    at_store_seq(&tdl_sched.stopping, 1);
    tdl_unlock(&tdl_sched.lock);
    while (at_load_seq(&tdl_sched.nwaking)) tdl_thread_yield();
    for (int i = 0; i < tdl_nprocs(); i++)
        if (all_p[i]->m) tdl_poller_kick(&all_p[i]->poller);
    for (int i = 0; i < tdl_nprocs(); i++) {
        tdl_m *m = all_p[i]->m;
        if (!m) continue;
        pthread_join(m->thread, NULL);
        TDL_TSAN_ACQUIRE(&m->after); /* from every goroutine that ran on it */
        all_p[i]->m = NULL;
        tdl_sys.release(m);
        at_sub_seq(&tdl_sched.nthreads, 1);
    }
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

static void stop_all(void) {
    join_threads();
    tdl_g *g;
    for (uint32_t i = 0; (g = tdl_stack_g(i)) != NULL; i++)
        if (at_load_acq(&g->status) != G_DEAD) bury(g);
    for (int i = 0; i < tdl_nprocs(); i++) tdl_poller_close(&all_p[i]->poller);
    tdl_stack_discard_all();
    for (int i = 0; i < tdl_nprocs(); i++) {
        tdl_p *p = all_p[i];
        at_store_rlx(&p->runnext, NULL);
        at_store_rlx(&p->runq.head, at_load_rlx(&p->runq.tail));
        at_store_rlx(&p->spawned, 0);
        at_store_rlx(&p->exited, 0);
        p->gfree = NULL;
        p->id_next = p->id_end = 0;
    }
    at_store_rlx(&tdl_sched.spawned, 0);
    at_store_rlx(&tdl_sched.exited, 0);
    at_store_seq(&tdl_sched.running, 0);
    at_store_rel(&tdl_sched.np, 0);
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
    if (m->deny) return m->deny;
    if (!main_g) return TDL_EINVAL;
    if (m->g) return TDL_EBUSY;
    if (at_xchg_seq(&tdl_sched.in_run, 1)) return TDL_EBUSY;
    struct main_call call = {main_g, arg, 0};
    bool ours = !at_load_acq(&tdl_sched.running);
    int r = tdl_runtime_start();
    bool started = r == 0;
    if (r == 0) r = tdl_p_ensure(tdl_sched.p[0]);
    if (r == 0) {
        tdl_go_options opts = {sizeof opts, TDL_GO_JOINABLE, 0, "main"};
        tdl_g *g = tdl_go_opts(call_main, &call, &opts);
        r = g ? tdl_join(g) : TDL_ENOMEM;
    }
    /* one that others had started goes on when we could not run in it */
    if (r == 0 || (started && ours)) {
        tdl_lock_take(&tdl_sched.run_lock);
        stop_all();
        tdl_unlock(&tdl_sched.run_lock);
    }
    at_store_seq(&tdl_sched.in_run, 0);
    return r < 0 ? r : call.result;
}
