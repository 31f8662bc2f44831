/* SPDX-License-Identifier: MIT
 * Simulation: beginning, waiting, ending, the report. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define TDL_SIM_ITSELF
#include "sim/sim.h"

#include <string.h>
#include <unistd.h>

#include "sched/ops.h"
#include "sched/stack.h"
#include "sys/fault.h"
#include "sys/os.h"

#define Y2000 INT64_C(946684800000000000)

enum { PROCS = 4, MAX_PROCS = 64, DEPTH = 3, MAX_STEPS = 10000000, DUMP = 64 * 1024 };

/* What belongs to the driver outside, and comes back to it. */
static struct {
    uint32_t rng;
    int procs;
} before;

/* -- Beginning ---------------------------------------------------------------------- */

TDL_NO_TSAN static int take_options(const tdl_sim_options *o) {
    static const tdl_sim_options none = {.size = sizeof none};
    enum { MAX_DEPTH = 1 + sizeof tdl_sim.change_at / sizeof *tdl_sim.change_at };
    if (!o) o = &none;
    if (o->size != sizeof *o || o->strategy < TDL_SIM_RANDOM || o->strategy > TDL_SIM_PCT || o->procs < 0 ||
        o->procs > MAX_PROCS || o->depth < 0 || o->depth > MAX_DEPTH || o->start_ns < 0 || o->max_ns < 0)
        return TDL_EINVAL;
    tdl_sim_options *t = &tdl_sim.opts;
    *t = *o;
    if (t->procs == 0) t->procs = PROCS;
    if (t->depth == 0) t->depth = DEPTH;
    if (t->max_steps == 0) t->max_steps = MAX_STEPS;
    if (t->start_ns == 0) t->start_ns = Y2000;
    if (t->max_ns == 0) t->max_ns = TDL_FOREVER - 1 - t->start_ns;
    return 0;
}

TDL_NO_TSAN static void reset(void) {
    tdl_sim.number++;
    tdl_sim.now = tdl_sim.opts.start_ns;
    tdl_sim.id_base = at_load_rlx(&tdl_sched.ids);
    tdl_sim.steps = tdl_sim.switches = 0;
    tdl_sim.hash = UINT64_C(0xcbf29ce484222325);
    tdl_sim.waiter = tdl_sim.ender = NULL;
    tdl_sim.reason = TDL_SIM_OK;
    tdl_sim.left = 0;
    tdl_sim.last_steps = 0;
    tdl_sim.told = false;
    tdl_sim.dump[0] = '\0';
    memset(tdl_sim.pollers, 0, sizeof tdl_sim.pollers);
    memset(&tdl_sim.clock, 0, sizeof tdl_sim.clock);
    tdl_sim.clock.op.kind = OP_OF_THREAD;
    tdl_sim.clock.bubble = tdl_sim.number;
    at_store_rlx(&tdl_sim.clock.deny, TDL_SIMULATED);
    tdl_sim.busy = true; /* until all is in place */
    tdl_sim_strategy();
}

TDL_NO_TSAN static void install(tdl_m *m) {
    tdl_sim.outside = tdl_sys;
    tdl_sim.driver = pthread_self();
    tdl_sim_fill_table(&tdl_sys);
    at_store_rel(&tdl_sim.active, 1);
    at_store_seq(&tdl_sched.bubble, tdl_sim.number);
    at_or_seq(&tdl_sched.special, TDL_SPECIAL_SIMULATED);
    before.procs = tdl_procs_swap(tdl_sim.opts.procs);
    before.rng = m->rng;
    m->rng = 0; /* drawn anew, from the seed */
    m->bubble = tdl_sim.number;
    at_store_rlx(&m->deny, TDL_SIMULATED);
    tdl_sim.busy = false;
}

TDL_NO_TSAN static void uninstall(tdl_m *m) {
    at_store_rlx(&m->deny, 0);
    m->bubble = 0;
    m->rng = before.rng;
    tdl_procs_swap(before.procs);
    at_and_seq(&tdl_sched.special, ~(uint32_t)TDL_SPECIAL_SIMULATED);
    at_store_seq(&tdl_sched.bubble, 0);
    at_store_rel(&tdl_sim.active, 0);
    tdl_sys = tdl_sim.outside;
}

TDL_NO_TSAN int tdl_sim_begin(const tdl_sim_options *o) {
    tdl_m *m = tdl_m_self();
    int deny = at_load_rlx(&m->deny);
    if (deny < 0) return deny;
    if (m->g || tdl_nprocs() || at_load_seq(&tdl_sched.in_run)) return TDL_EBUSY;
    if (at_xchg_seq(&tdl_sim.taken, 1)) return TDL_EBUSY;
    int r = tdl_fault_environment();
    if (r == 0) r = take_options(o);
    if (r == 0 && !tdl_sim.dump && !(tdl_sim.dump = tdl_sys.alloc(DUMP))) r = TDL_ENOMEM;
    if (r == 0) {
        reset();
        r = tdl_vthread_driver();
    }
    if (r < 0)
        at_store_seq(&tdl_sim.taken, 0);
    else
        install(m);
    return r;
}

/* -- Ending ------------------------------------------------------------------------- */

static const char *text(int reason) {
    switch (reason) {
    case TDL_SIM_DEADLOCK: return "deadlock: all goroutines of the simulation are blocked";
    case TDL_SIM_LEFT: return "deadlock: the main goroutine has returned, but blocked goroutines remain";
    case TDL_SIM_STEPS: return "the simulation has taken more steps than it may";
    case TDL_SIM_TIME: return "the simulation has taken more virtual time than it may";
    case TDL_SIM_LOST: return "lost wake-up: a goroutine is runnable or due, and every processor sleeps";
    default: return "ok";
    }
}

static int code(int reason) {
    switch (reason) {
    case TDL_SIM_OK: return 0;
    case TDL_SIM_STEPS:
    case TDL_SIM_TIME: return TDL_ELIMIT;
    default: return TDL_EDEADLOCK;
    }
}

TDL_NO_TSAN int tdl_sim_end(tdl_sim_report *r) {
    if (!tdl_sim_mine()) return TDL_EINVAL;
    tdl_m *m = tdl_m_self();
    if (m->g || at_load_rlx(&m->host) || at_load_seq(&tdl_sched.in_run)) return TDL_EBUSY;
    if (tdl_runtime_stop() < 0) tdl_sim_hangs();
    tdl_sim.busy = true;
    tdl_vthread_forget_all();
    uninstall(m);
    if (r) {
        *r = (tdl_sim_report){
            .seed = tdl_sim.opts.seed,
            .hash = tdl_sim.hash,
            .steps = tdl_sim.steps,
            .switches = tdl_sim.switches,
            .ns = tdl_sim.now - tdl_sim.opts.start_ns,
            .reason = tdl_sim.reason,
            .left = tdl_sim.left,
            .text = text(tdl_sim.reason),
            .dump = tdl_sim.dump,
        };
    }
    int result = code(tdl_sim.reason);
    at_store_seq(&tdl_sim.taken, 0);
    return result;
}

TDL_NO_TSAN static void take_dump(void) {
    int fd = tdl_os_scratch_file();
    if (fd < 0) return;
    tdl_dump(fd);
    ssize_t n = pread(fd, tdl_sim.dump, DUMP - 1, 0);
    tdl_sim.dump[n > 0 ? n : 0] = '\0';
    close(fd);
}

/* Completes an op, if it can still be claimed, as a thread would that is nobody's. */
TDL_NO_TSAN static bool complete(tdl_op *op, int64_t result) {
    tdl_m *m = tdl_m_self();
    tdl_m_adopt(&tdl_sim.clock);
    uint32_t was = tdl_op_claim(op);
    if (was) tdl_op_complete(op, was, result);
    tdl_m_adopt(m);
    return was != 0;
}

TDL_NO_TSAN void tdl_sim_finish(int reason) {
    if (tdl_sim.reason) return;
    tdl_sim.reason = reason;
    take_dump();
    tdl_vthread *v = tdl_sim.threads[0];
    tdl_m *m = v == tdl_sim.current ? tdl_m_self() : v->m;
    /* it joins main, or waits in a host's poller */
    if (!complete(&m->op, code(reason)) && v->state == VT_WAITING) tdl_vthread_wake(v->on, 1);
}

_Noreturn void tdl_sim_hangs(void) {
    tdl_fatal("the simulation with seed %llu cannot be ended: %s\n%s", (unsigned long long)tdl_sim.opts.seed,
              text(tdl_sim.reason), tdl_sim.dump);
}

TDL_NO_TSAN int tdl_sim_told(bool waited) {
    if (tdl_sim.told && !waited) return 0;
    tdl_sim.told = tdl_sim.reason != TDL_SIM_OK;
    return code(tdl_sim.reason);
}

/* -- When nobody can go on ---------------------------------------------------------------- */

TDL_NO_TSAN static bool work_is_left(void) {
    if (!at_load_rlx(&tdl_sched.running) || at_load_rlx(&tdl_sched.stopping)) return false;
    if (at_load_rlx(&tdl_sched.nglobal)) return true;
    for (int i = 0; i < tdl_nprocs(); i++) {
        if (tdl_p_has_work(tdl_sched.p[i])) return true;
    }
    return false;
}

TDL_NO_TSAN void tdl_sim_quiet(void) {
    if (work_is_left()) tdl_sim_finish(TDL_SIM_LOST);
    tdl_op **waits = tdl_sim.waiter ? &tdl_sim.waiter : &tdl_sim.ender;
    if (tdl_sim.nready) return;
    if (*waits) {
        tdl_op *op = *waits;
        *waits = NULL;
        complete(op, 0);
        return;
    }
    int64_t limit = tdl_sim.reason ? TDL_FOREVER : tdl_sim.opts.start_ns + tdl_sim.opts.max_ns;
    int64_t first = tdl_vthread_late(limit);
    if (tdl_sim.nready) return;
    tdl_vthread *driver = tdl_sim.threads[0];
    if (tdl_sim.reason) { /* a host that has been told may ask again; nobody else */
        bool host = (driver == tdl_sim.current ? tdl_m_self() : driver->m)->host != NULL;
        if (!host || driver->state != VT_WAITING) tdl_sim_hangs();
        tdl_vthread_wake(driver->on, 1);
        return;
    }
    tdl_sim_finish(first == TDL_FOREVER ? TDL_SIM_DEADLOCK : first > limit ? TDL_SIM_TIME : TDL_SIM_LOST);
}

/* -- Waiting until the others sleep -------------------------------------------------------- */

TDL_NO_TSAN static tdl_op **place(tdl_op *op) { return op == tdl_sim.ender ? &tdl_sim.ender : &tdl_sim.waiter; }

TDL_NO_TSAN static void leave(tdl_op *op) {
    if (*place(op) == op) *place(op) = NULL;
}

TDL_NO_TSAN static int64_t finish(tdl_op *op) {
    leave(op);
    return op->result;
}

static const tdl_op_class wait_class = {"simulation wait", finish, leave};
static const tdl_op_class end_class = {"main has returned", finish, leave};

TDL_NO_TSAN static int64_t start(tdl_op *op, tdl_op **where, const tdl_op_class *cls) {
    if (*where) return TDL_EBUSY;
    tdl_op_begin(op, cls);
    op->node.object = NULL;
    op->node.queue = NULL;
    tdl_op_publish(op);
    *where = op;
    return TDL_PENDING;
}

TDL_NO_TSAN int64_t tdl_sim_wait_op(tdl_op *op) {
    return tdl_sim_mine() ? start(op, &tdl_sim.waiter, &wait_class) : TDL_EINVAL;
}

int tdl_sim_wait(void) { TDL_BLOCKING_FORM(tdl_sim_wait_op(op)); }

TDL_NO_TSAN uint64_t tdl_sim_random(void) { return tdl_sim_mine() ? tdl_sim_number64() : 0; }

/* -- A whole run ---------------------------------------------------------------------------- */

struct main_call {
    int (*fn)(void *);
    void *arg;
    int result;
};

/* Goroutines that could still run, the calling one excepted. */
TDL_NO_TSAN static int others(void) {
    int n = 0;
    tdl_g *g, *self = tdl_m_self()->g;
    for (uint32_t i = 0; (g = tdl_stack_g(i)) != NULL; i++) {
        int status = at_load_acq(&g->status);
        n += status != G_DEAD && status != G_DONE && g != self;
    }
    return n;
}

static int await_end(void) { TDL_BLOCKING_FORM(start(op, &tdl_sim.ender, &end_class)); }

TDL_NO_TSAN static int main_g(void *arg) {
    struct main_call *c = arg;
    c->result = c->fn(c->arg);
    await_end();
    tdl_sim.left = others();
    if (tdl_sim.left && !tdl_sim.reason) {
        tdl_sim.reason = TDL_SIM_LEFT;
        take_dump();
    }
    return 0;
}

int tdl_sim_run(const tdl_sim_options *o, int (*fn)(void *), void *arg, tdl_sim_report *report) {
    if (report) *report = (tdl_sim_report){.text = "", .dump = ""};
    if (!fn) return TDL_EINVAL;
    int r = tdl_sim_begin(o);
    if (r < 0) return r;
    struct main_call call = {fn, arg, 0};
    int ran = tdl_run(main_g, &call);
    r = tdl_sim_end(report);
    if (report) report->result = call.result;
    return r < 0 ? r : ran < 0 ? ran : call.result;
}
