/* SPDX-License-Identifier: MIT
 *
 * The table of a simulation. Each entry serves the driver virtually, and any
 * other thread with what was there before.
 * Its pollers are in pollers.c; there are no sockets.
 */
#define TDL_SIM_ITSELF
#include "sim/sim.h"

#include <errno.h>
#include <string.h>

static const struct tdl_sys *outside(void) { return &tdl_sim.outside; }

/* -- Time and threads ------------------------------------------------------------------ */

TDL_NO_TSAN static int64_t sim_now(void) { return tdl_sim_mine() ? tdl_sim.now : outside()->now(); }

TDL_NO_TSAN static int sim_futex_wait(void *word, uint32_t expected, int64_t deadline) {
    if (!tdl_sim_mine()) return outside()->futex_wait(word, expected, deadline);
    if (at_load_seq((_Atomic uint32_t *)word) != expected) return -EAGAIN;
    return tdl_vthread_wait(word, deadline) ? 0 : -ETIMEDOUT;
}

static int sim_futex_wake(void *word, int count) {
    if (!tdl_sim_mine()) return outside()->futex_wake(word, count);
    int woken = tdl_vthread_wake(word, count);
    if (woken < count) woken += outside()->futex_wake(word, count - woken);
    return woken;
}

/* What it stores as a pthread_t is a virtual thread. */
static int sim_thread(void *(*fn)(void *), void *arg, void *thread) {
    if (!tdl_sim_mine()) return outside()->thread(fn, arg, thread);
    tdl_vthread *v = tdl_vthread_new(fn, arg);
    if (!v) return -ENOMEM;
    if (fn == tdl_m_main) {
        tdl_m *m = arg;
        m->bubble = tdl_sim.number;
        at_store_rlx(&m->deny, TDL_SIMULATED);
        TDL_TSAN_RELEASE(m); /* as in start_m */
    }
    memcpy(thread, &v, sizeof v);
    return 0;
}

TDL_NO_TSAN static int sim_join(const void *thread) {
    if (!tdl_sim_mine()) return outside()->join(thread);
    tdl_vthread *v;
    memcpy(&v, thread, sizeof v);
    if (v->state != VT_ENDED) tdl_vthread_wait(v, TDL_FOREVER);
    return 0;
}

static void sim_yield(void) {
    if (tdl_sim_mine())
        tdl_sim_pass();
    else
        outside()->yield();
}

static void sim_nap(int64_t ns) {
    if (tdl_sim_mine())
        tdl_sim_pass(); /* for a lock, say: who has it goes on */
    else
        outside()->nap(ns);
}

static void sim_stack(void **low, size_t *size) {
    if (tdl_sim_mine())
        tdl_vthread_stack(low, size);
    else
        outside()->stack(low, size);
}

static uint32_t sim_entropy(void) {
    return tdl_sim_mine() ? (uint32_t)tdl_sim_number64() : outside()->entropy();
}

static int sim_membarrier(void) { return tdl_sim_mine() ? 0 : outside()->membarrier(); }

static void sim_enter(void) { tdl_sim_point(POINT_ENTRY); }
static void sim_call(void) { tdl_sim_point(POINT_CALL); }
static tdl_g *sim_look(tdl_g *g) { return tdl_sim_mine() ? tdl_sim_look(g) : g; }

static int sim_over(int waited) {
    if (!tdl_sim_mine()) return outside()->over(waited);
    if (!waited) tdl_sim_point(POINT_ENTRY);
    return tdl_sim_told(waited);
}

static uint32_t sim_bubble(void) { return tdl_sim_mine() ? tdl_sim.number : 0; }

/* -- Sockets: none ------------------------------------------------------------------------- */

static int sim_socket(int domain, int type, int protocol) {
    return tdl_sim_mine() ? -EOPNOTSUPP : outside()->socket(domain, type, protocol);
}

/* Memory, and what is done with sockets that others have, stay as they are. */
void tdl_sim_fill_table(struct tdl_sys *t) {
    t->now = sim_now;
    t->futex_wait = sim_futex_wait;
    t->futex_wake = sim_futex_wake;
    t->thread = sim_thread;
    t->join = sim_join;
    t->yield = sim_yield;
    t->nap = sim_nap;
    t->stack = sim_stack;
    t->entropy = sim_entropy;
    t->membarrier = sim_membarrier;
    t->pollers = &tdl_sim_pollers;
    t->socket = sim_socket;
    t->simulated = 1;
    t->enter = sim_enter;
    t->call = sim_call;
    t->look = sim_look;
    t->bubble = sim_bubble;
    t->over = sim_over;
}
