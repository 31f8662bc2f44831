/* SPDX-License-Identifier: MIT
 * Goroutines: go, exit, join, cancel, sleep. */
#include <string.h>

#include "sched/census.h"
#include "sched/own.h"
#include "sched/sched.h"
#include "sched/stack.h"
#include "sched/switch.h"
#include "sched/ops.h"
#include "sys/sys.h"

#ifdef TDL_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum { ID_BATCH = 64 };

/* -- Making and freeing ------------------------------------------------------ */

TDL_NO_TSAN static uint64_t new_id(tdl_p *p) {
    if (!p) return at_add_rlx(&tdl_sched.ids, 1) + 1;
    if (p->id_next == p->id_end) {
        p->id_next = at_add_rlx(&tdl_sched.ids, ID_BATCH);
        p->id_end = p->id_next + ID_BATCH;
    }
    return ++p->id_next;
}

/* single writer: the P's owner; read by tdl_num_goroutines */
static void count(_Atomic int64_t *own, _Atomic int64_t *shared, tdl_p *p) {
    if (p)
        at_store_rlx(own, at_load_rlx(own) + 1);
    else
        at_add_rlx(shared, 1);
}

TDL_NO_TSAN void tdl_g_free(tdl_g *g) {
    tdl_m *m = tdl_m_self();
    uint32_t was;
    tdl_p *p = tdl_p_enter(m, &was);
    count(p ? &p->exited : NULL, &tdl_sched.exited, p);
    at_store_rlx(&g->status, G_DEAD);
    tdl_stack_give(p, g);
    tdl_p_leave(m, was);
}

/* The end of a goroutine, when its stack is no longer in use. */
TDL_NO_TSAN void tdl_g_ended(tdl_g *g) {
#ifdef TDL_TSAN
    __tsan_destroy_fiber(g->fiber);
    g->fiber = NULL;
#endif
    if (TDL_UNLIKELY(g->counted)) tdl_census_ends(g);
    if (!(g->flags & TDL_GO_JOINABLE)) {
        tdl_g_free(g);
        return;
    }
    uint32_t was = 0;
    tdl_lock_take(&g->join_lock);
    at_store_rlx(&g->status, G_DONE);
    g->ended = 1;
    tdl_node *n = tdl_queue_claim(&g->joiner, &was);
    tdl_unlock(&g->join_lock);
    if (n) tdl_op_complete(n->op, was, 0); /* from here g is the joiner's to free */
}

/* By who joined g, and has read it: what a P passes on is no edge to TSan. */
static void free_joined(tdl_g *g) {
    TDL_TSAN_RELEASE(g); /* acquire in new_g */
    tdl_g_free(g);
}

TDL_NO_TSAN static tdl_g *new_g(tdl_m *m, int cls, void (*fn)(void *), void *arg, const void *site, int *code) {
    uint32_t was;
    tdl_p *p = tdl_p_enter(m, &was);
    tdl_g *g = tdl_stack_take(p, cls, code);
    if (g) {
        g->id = new_id(p);
        count(p ? &p->spawned : NULL, &tdl_sched.spawned, p);
    }
    tdl_p_leave(m, was);
    if (!g) return NULL;
    TDL_TSAN_ACQUIRE(g);
    if (TDL_UNLIKELY(at_load_rlx(&tdl_census_on))) tdl_census_begins(g);
#ifdef TDL_ASAN
    size_t size;
    void *low = tdl_stack_low(g, &size);
    __asan_unpoison_memory_region(low, size);
    g->fake_stack = NULL;
#endif
#ifdef TDL_TSAN
    g->fiber = __tsan_create_fiber(0);
#endif
    g->sp = tdl_switch_prepare((char *)g - STACK_SMALLEST, STACK_SMALLEST, tdl_g_entry);
    g->fn = fn;
    g->arg = arg;
    g->site = site;
    at_store_rlx(&g->cancelled, 0);
    at_store_rlx(&g->op.state, OP_IDLE);
    g->op.kind = OP_OF_G;
    g->op.timer.heap = NULL;
    g->flags = 0;
    g->name[0] = '\0';
    g->blocks = g->pins = 0;
    g->at_exit = NULL;
    g->parent = m->g ? m->g->id : 0;
    return g;
}

/* Where the calling function was called. */
#define SITE __builtin_return_address(0)

tdl_g *tdl_go(void (*fn)(void *), void *arg) {
    int code;
    if (!fn || tdl_refused(at_load_rlx(&tdl_sched.bubble)) < 0) return NULL;
    tdl_m *m = tdl_m_self();
    if (!m->g && tdl_runtime_start() < 0) return NULL;
    tdl_g *g = new_g(m, STACK_DEFAULT, fn, arg, SITE, &code);
    if (g) tdl_g_start(g);
    return g;
}

static tdl_g *go_opts(void (*fn)(void *), void *arg, const tdl_go_options *opts, const void *site, int *code) {
    static const tdl_go_options none = {.size = sizeof none};
    if (!opts) opts = &none;
    *code = TDL_EINVAL;
    if (!fn || opts->size < sizeof *opts || (opts->flags & ~(uint32_t)TDL_GO_JOINABLE)) return NULL;
    int cls = *code = tdl_stack_class(opts->stack);
    if (cls < 0) return NULL;
    if ((*code = tdl_refused(at_load_rlx(&tdl_sched.bubble))) < 0) return NULL;
    tdl_m *m = tdl_m_self();
    if (!m->g && (*code = tdl_runtime_start()) < 0) return NULL;
    tdl_g *g = new_g(m, cls, fn, arg, site, code);
    if (!g) return NULL;
    g->flags = (uint8_t)opts->flags;
    tdl_lock_init(&g->join_lock, RANK_OBJECT);
    g->joining = g->ended = 0;
    g->joiner.head = g->joiner.tail = NULL;
    if (opts->name) strncat(g->name, opts->name, TDL_NAME - 1);
    tdl_g_start(g);
    return g;
}

tdl_g *tdl_go_opts(void (*fn)(void *), void *arg, const tdl_go_options *opts) {
    int code;
    return go_opts(fn, arg, opts, SITE, &code);
}

int tdl_spawn(tdl_g **g, void (*fn)(void *), void *arg, const tdl_go_options *opts) {
    int code;
    tdl_g *made = go_opts(fn, arg, opts, SITE, &code);
    if (g) *g = made;
    return made ? 0 : code;
}

int tdl_goexit(void) {
    tdl_g *g = tdl_m_self()->g;
    if (!g) return TDL_EINVAL;
    if (tdl_m_self()->on_system) return TDL_ESYSTEM;
    for (tdl_at_exit *a; (a = g->at_exit) != NULL;) {
        g->at_exit = a->outer;
        a->fn(a);
    }
    tdl_g_exit(g);
}

uint64_t tdl_goid(void) {
    tdl_g *g = tdl_m_self()->g;
    return g ? g->id : 0;
}

int64_t tdl_g_live(void) {
    int64_t n = at_load_rlx(&tdl_sched.spawned) - at_load_rlx(&tdl_sched.exited);
    for (int i = 0; i < tdl_nprocs(); i++) {
        tdl_p *p = tdl_sched.p[i];
        n += at_load_rlx(&p->spawned) - at_load_rlx(&p->exited);
    }
    return n;
}

/* -- Join and cancel ----------------------------------------------------------- */

static bool joinable(tdl_g *g) {
    return g && tdl_stack_owns(g) && (g->flags & TDL_GO_JOINABLE) && at_load_acq(&g->status) != G_DEAD;
}

static void join_leave(tdl_op *op) {
    tdl_g *g = op->u.joined;
    tdl_lock_take(&g->join_lock);
    tdl_queue_remove(&op->node);
    g->joining = 0;
    tdl_unlock(&g->join_lock);
}

static int64_t join_finish(tdl_op *op) {
    if (op->result == 0)
        free_joined(op->u.joined);
    else
        join_leave(op);
    return op->result;
}

static const tdl_op_class join_class = {"join", join_finish, join_leave};

int64_t tdl_join_op(tdl_op *op, tdl_g *g, int64_t deadline) {
    if (!joinable(g)) return TDL_EINVAL;
    if (op == &g->op) return TDL_EDEADLOCK;
    tdl_lock_take(&g->join_lock);
    int r = g->joining ? TDL_EBUSY : g->ended ? 0 : tdl_deadline_check(deadline);
    if (r == 0 && !g->ended) r = tdl_may_wait(at_load_rlx(&tdl_sched.bubble));
    if (r != 0 || g->ended) {
        if (r == 0) g->joining = 1;
        tdl_unlock(&g->join_lock);
        if (r == 0) free_joined(g);
        return r;
    }
    g->joining = 1;
    tdl_op_begin(op, &join_class);
    op->u.joined = g;
    tdl_op_publish(op);
    tdl_queue_push(&g->joiner, &op->node);
    tdl_unlock(&g->join_lock);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

int tdl_join(tdl_g *g) {
    TDL_BLOCKING_FORM(tdl_join_op(op, g, TDL_FOREVER));
}

/* Pairs with tdl_op_commit and pinned_sleep: either they see the flag, or we see
 * the op. A later op of g that we hit instead is rightly cancelled too. */
void tdl_g_cancel(tdl_g *g) {
    at_store_seq(&g->cancelled, 1);
    at_fence_seq(); /* between it and the relaxed look of tdl_op_claim */
    tdl_op_cancel(&g->op);
}

int tdl_cancel(tdl_g *g) {
    int no = tdl_refused(at_load_rlx(&tdl_sched.bubble));
    if (no < 0) return no;
    if (!joinable(g)) return TDL_EINVAL;
    tdl_g_cancel(g);
    return 0;
}

/* -- Sleep ---------------------------------------------------------------------- */

static int64_t sleep_finish(tdl_op *op) {
    return op->result == TDL_ETIMEDOUT ? 0 : op->result;
}

static void sleep_abandon(tdl_op *op) { (void)op; }

static const tdl_op_class sleep_class = {"sleep", sleep_finish, sleep_abandon};

int64_t tdl_sleep_op(tdl_op *op, int64_t ns) {
    if (ns <= 0) return 0;
    int64_t now = tdl_sys.now();
    tdl_op_begin(op, &sleep_class);
    tdl_op_publish_own(op);
    tdl_op_arm(op, ns > TDL_FOREVER - 1 - now ? TDL_FOREVER - 1 : now + ns);
    return TDL_PENDING;
}

int tdl_sleep(int64_t ns) { TDL_BLOCKING_FORM(tdl_sleep_op(op, ns)); }
