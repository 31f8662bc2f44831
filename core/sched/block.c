/* SPDX-License-Identifier: MIT
 *
 * A goroutine that gives up its P and keeps its thread: around a foreign call
 * that blocks (tdl_block_begin), or for good (tdl_pin). A pinned goroutine waits
 * as a plain thread does, on a futex after a short spin, and is woken as one: it
 * needs no P, and no hand-over of one, to go on.
 */
#include "sched/own.h"
#include "sched/sched.h"
#include "sys/sys.h"

/* Where p is needed an M comes for it: it has goroutines, or somebody must wait
 * for its descriptors and timers. Else it is idle, and whoever needs it wakes it. */
int tdl_p_place(tdl_p *p) {
    at_store_rlx(&p->in_call, 0);
    bool needed = at_load_rlx(&tdl_sched.nglobal) || tdl_p_has_work(p) || at_load_rlx(&p->attended) ||
                  tdl_timers_next(&p->poller.timers) != TDL_FOREVER;
    if (needed && !at_load_rlx(&tdl_sched.stopping)) {
        at_add_seq(&tdl_sched.nspinning, 1);
        return tdl_p_staff(p);
    }
    tdl_idle_push(p);
    tdl_unlock(&tdl_sched.lock);
    /* somebody may have put work where only p could have come for it */
    if (at_load_seq(&tdl_sched.nglobal)) tdl_wake_if_idle();
    return 0;
}

/* The running goroutine goes on without a P. */
TDL_NO_TSAN static void give_p(void) {
    tdl_m *m = tdl_m_self();
    uint32_t was;
    tdl_p_enter(m, &was);
    tdl_lock_take(&tdl_sched.lock);
    tdl_p *p = at_load_rlx(&m->p);
    if (!p) { /* sysmon was first */
        tdl_unlock(&tdl_sched.lock);
        tdl_p_leave(m, was);
        return;
    }
    at_store_seq(&m->p, NULL);
    p->m = NULL;
    tdl_m_loosen(m);
    int r = tdl_p_place(p);
    tdl_p_leave(m, was);
    if (r == TDL_ETHREADS)
        tdl_fatal("no thread for the other goroutines: the limit of %d is reached (tdl_set_max_threads)",
                  tdl_set_max_threads(0));
}

/* The running goroutine wants a P again. An idle one that nobody sleeps with is
 * taken at once; else the goroutine queues with the others. */
TDL_NO_TSAN static void want_p(void) {
    tdl_m *m = tdl_m_self();
    uint32_t was;
    if (tdl_p_enter(m, &was)) {
        tdl_p_leave(m, was);
        return;
    }
    tdl_lock_take(&tdl_sched.lock);
    tdl_p *p = tdl_sched.idle;
    while (p && p->m) p = p->next_idle;
    bool loose = m->loose && !at_load_rlx(&m->p);
    if (p && loose && !at_load_rlx(&tdl_sched.stopping)) {
        tdl_idle_remove(p);
        tdl_m_tighten(m);
        p->m = m;
        at_store_rel(&m->p, p);
    }
    bool have = at_load_rlx(&m->p) != NULL;
    tdl_unlock(&tdl_sched.lock);
    tdl_p_leave(m, was);
    if (have)
        tdl_sysmon_wake();
    else if (!m->on_system) /* there it goes on without one */
        tdl_g_rejoin(m->g);
}

TDL_NO_TSAN static void mark_call(uint32_t in_call) {
    tdl_m *m = tdl_m_self();
    uint32_t was;
    tdl_p *p = tdl_p_enter(m, &was);
    if (p) at_store_rlx(&p->in_call, in_call);
    tdl_p_leave(m, was);
}

/* -- Blocking calls -------------------------------------------------------------- */

int tdl_block_begin(int hint) {
    if (hint != TDL_BLOCK_SHORT && hint != TDL_BLOCK_LONG) return TDL_EINVAL;
    tdl_g *g = tdl_m_self()->g;
    if (!g) return 0; /* a plain thread or a host holds nobody up */
    if (g->blocks++ == 0) at_store_rlx(&g->status, G_BLOCKED);
    if (g->pins) return 0;
    if (hint == TDL_BLOCK_LONG)
        give_p();
    else
        mark_call(1);
    return 0;
}

int tdl_block_end(void) {
    tdl_g *g = tdl_m_self()->g;
    if (!g) return 0;
    if (g->blocks == 0) return TDL_EINVAL;
    if (--g->blocks > 0) return 0;
    at_store_rlx(&g->status, G_RUNNING);
    if (g->pins) return 0;
    mark_call(0);
    want_p();
    return 0;
}

/* -- Pinning ---------------------------------------------------------------------- */

static int denied(tdl_m *m) {
    int deny = at_load_rlx(&m->deny);
    return deny < 0 ? deny : 0;
}

TDL_NO_TSAN int tdl_pin(void) {
    tdl_m *m = tdl_m_self();
    tdl_g *g = m->g;
    if (!g) return denied(m); /* a plain thread is its own */
    if (g->pins++ > 0) return 0;
    at_store_rlx(&m->pinned, g);
    g->op.kind = OP_OF_PINNED;
    give_p();
    return 0;
}

TDL_NO_TSAN int tdl_unpin(void) {
    tdl_m *m = tdl_m_self();
    tdl_g *g = m->g;
    if (!g) return denied(m);
    if (g->pins == 0) return TDL_EINVAL;
    if (--g->pins > 0) return 0;
    at_store_rlx(&m->pinned, NULL);
    g->op.kind = OP_OF_G;
    if (g->blocks == 0) want_p();
    return 0;
}
