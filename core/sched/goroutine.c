/* SPDX-License-Identifier: MIT
 * Goroutines: go, exit, join, cancel, sleep. */
#include <string.h>

#include "sched/census.h"
#include "sched/local.h"
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
    if (TDL_UNLIKELY(!p)) return at_add_rlx(&tdl_sched.ids, 1) + 1;
    if (TDL_UNLIKELY(p->id_next == p->id_end)) {
        p->id_next = at_add_rlx(&tdl_sched.ids, ID_BATCH);
        p->id_end = p->id_next + ID_BATCH;
    }
    return ++p->id_next;
}

/* single writer: the P's owner; read by tdl_num_goroutines */
OWN_INLINE void count(_Atomic int64_t *own, _Atomic int64_t *shared, tdl_p *p) {
    if (TDL_LIKELY(p))
        at_store_rlx(own, at_load_rlx(own) + 1);
    else
        at_add_rlx(shared, 1);
}

/* In the runtime, with its P or without. */
OWN_INLINE void give(tdl_p *p, tdl_g *g) {
    count(p ? &p->exited : NULL, &tdl_sched.exited, p);
    at_store_rlx(&g->status, G_DEAD);
    tdl_stack_give(p, g);
}

/* The end of a goroutine, when its stack is no longer in use; m, the caller's, is
 * in the runtime. */
TDL_NO_TSAN void tdl_g_ended(tdl_m *m, tdl_g *g) {
#ifdef TDL_TSAN
    __tsan_destroy_fiber(g->fiber);
    g->fiber = NULL;
#endif
    if (TDL_UNLIKELY(g->counted)) tdl_census_ends(g);
    if (!(g->flags & TDL_GO_JOINABLE)) {
        give(at_load_rlx(&m->p), g);
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
TDL_NO_TSAN static void free_joined(tdl_g *g) {
    TDL_TSAN_RELEASE(g); /* acquire in spawn */
    tdl_m *m = tdl_m_self();
    uint32_t was;
    give(tdl_p_enter(m, &was), g);
    tdl_p_leave(m, was);
}

static int check(const tdl_go_options *opts) {
    if (opts->size < sizeof *opts || (opts->flags & ~(uint32_t)TDL_GO_JOINABLE)) return TDL_EINVAL;
    return tdl_stack_class(opts->stack);
}

/* Its own, or nobody's who runs. */
TDL_NO_TSAN void tdl_g_set_name(tdl_g *g, const char *name) {
    char *text = g->op.kind == OP_OF_TASK ? g->task_name : (char *)(g + 1);
    text[0] = '\0';
    strncat(text, name, TDL_NAME - 1);
    g->named = text[0] != '\0';
}

TDL_NO_TSAN static void apply(tdl_g *g, const tdl_go_options *opts) {
    g->flags = (uint8_t)opts->flags;
    tdl_lock_init(&g->join_lock, RANK_OBJECT);
    g->joining = g->ended = 0;
    g->joiner.head = g->joiner.tail = NULL;
    if (opts->name) tdl_g_set_name(g, opts->name);
}

/* Makes a goroutine, and makes it runnable, in one visit to the runtime. NULL
 * and *code. Of a G that was used before, what the end of each operation leaves
 * is not written again: op.timer.heap and at_exit are NULL. */
OWN_INLINE tdl_g *spawn(void (*fn)(void *), void *arg, const tdl_go_options *opts, const void *site, int *code) {
    *code = TDL_EINVAL;
    if (TDL_UNLIKELY(!fn)) return NULL;
    int cls = STACK_DEFAULT;
    if (opts && (cls = *code = check(opts)) < 0) return NULL;
    if ((*code = tdl_refused(at_load_rlx(&tdl_sched.bubble))) < 0) return NULL;
    tdl_m *m = tdl_m_self();
    if (TDL_UNLIKELY(!m->g) && (*code = tdl_runtime_start()) < 0) return NULL;
    uint32_t was;
    tdl_p *p = tdl_p_enter(m, &was);
    tdl_g *g = tdl_stack_take(p, cls, code);
    if (TDL_UNLIKELY(!g)) {
        tdl_p_leave(m, was);
        return NULL;
    }
    count(p ? &p->spawned : NULL, &tdl_sched.spawned, p);
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
    g->id = new_id(p);
    g->parent = m->g ? m->g->id : 0;
    at_store_rlx(&g->cancelled, 0);
    at_store_rlx(&g->op.state, OP_IDLE);
    g->op.kind = OP_OF_G;
    g->flags = 0;
    g->named = false;
    g->blocks = g->pins = 0;
    if (opts) apply(g, opts);
    TDL_TSAN_RELEASE(g);
    tdl_make_runnable(m, p, was, g, 0);
    return g;
}

/* Where the calling function was called. */
#define SITE __builtin_return_address(0)

TDL_NO_TSAN tdl_g *tdl_go(void (*fn)(void *), void *arg) {
    int code;
    return spawn(fn, arg, NULL, SITE, &code);
}

static const tdl_go_options plain = {.size = sizeof plain};

TDL_NO_TSAN tdl_g *tdl_go_opts(void (*fn)(void *), void *arg, const tdl_go_options *opts) {
    int code;
    return spawn(fn, arg, opts ? opts : &plain, SITE, &code);
}

TDL_NO_TSAN int tdl_spawn(tdl_g **g, void (*fn)(void *), void *arg, const tdl_go_options *opts) {
    int code;
    tdl_g *made = spawn(fn, arg, opts ? opts : &plain, SITE, &code);
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
