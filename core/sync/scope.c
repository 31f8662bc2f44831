/* SPDX-License-Identifier: MIT
 *
 * Scopes. Under a scope's lock: the children that run, who are on its list and
 * may be cancelled as long as they are; `active` counts them, those that have
 * not run yet, and the work that is no goroutine; somebody waits only while it
 * is not 0. Once `left` is set nothing comes any more.
 *
 * refs: the handle, the context's hook until it is called, each of active, each
 * that waits.
 *
 * Who waits for whom. A child that waits for another scope stands on its own
 * scope's list `blocked`, and says which it waits for; so a circle is seen by
 * the one who would close it. All this is under `graph`, taken before a scope's lock.
 */
#include "sync/context.h"
#include "sys/pool.h"

struct child {
    tdl_lock lock; /* the pool's */
    tdl_at_exit exit;
    tdl_scope *scope;
    tdl_g *g;                   /* once it runs */
    struct child *next, **at;   /* among the scope's children; at NULL: it is not */
    struct child *next_blocked, **at_blocked;
    tdl_scope *waits_for;
    int (*fn)(void *);
    void *arg;
};

struct tdl_scope {
    tdl_lock lock;
    _Atomic uint32_t refs;
    uint32_t active;
    bool over; /* its context has ended: the children have been cancelled */
    bool left;
    int error;
    tdl_context *context; /* held */
    tdl_hook hook;
    struct child *children;
    tdl_queue waiters;
    struct child *blocked;
    tdl_scope *to_visit; /* of a look for circles */
    uint64_t visited;    /* by which look */
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_scope), kids = TDL_POOL_INIT(struct child);
static struct {
    tdl_lock lock;
    uint64_t looks;
} graph = {.lock = TDL_LOCK_INIT(RANK_OBJECT)};

static void hold(tdl_scope *s) { at_add_rlx(&s->refs, 1); }

static void drop(tdl_scope *s) {
    if (at_sub_seq(&s->refs, 1) != 1) return; /* seq: the last one sees all */
    tdl_context_free(s->context);
    tdl_pool_give(&pool, s);
}

/* -- Its end -------------------------------------------------------------------- */

static void context_ended(tdl_hook *h) {
    tdl_scope *s = TDL_CONTAINER(h, tdl_scope, hook);
    int cause = tdl_context_cause(s->context, NULL);
    tdl_lock_take(&s->lock);
    s->over = true;
    if (s->active > 0 && s->error == 0) s->error = cause;
    for (struct child *k = s->children; k; k = k->next) tdl_g_cancel(k->g); /* lives: it takes the lock before it ends */
    tdl_unlock(&s->lock);
    drop(s);
}

tdl_scope *tdl_scope_new(tdl_context *parent, int64_t deadline) {
    tdl_scope *s = tdl_forked() ? NULL : tdl_pool_take(&pool);
    if (!s) return NULL;
    s->context = tdl_context_with_deadline(parent, deadline);
    if (!s->context) {
        tdl_pool_give(&pool, s);
        return NULL;
    }
    s->hook.fn = context_ended;
    at_store_rlx(&s->refs, 2);
    if (!tdl_context_hook(s->context, &s->hook)) context_ended(&s->hook);
    return s;
}

void tdl_scope_free(tdl_scope *s) {
    if (!s || tdl_forked()) return;
    tdl_context_cancel(s->context, 0, NULL);
    drop(s);
}

tdl_context *tdl_scope_context(tdl_scope *s) { return s ? s->context : NULL; }

int tdl_scope_error(tdl_scope *s) {
    if (!s) return TDL_EINVAL;
    TDL_REFUSE(s);
    tdl_lock_take(&s->lock);
    int error = s->error;
    tdl_unlock(&s->lock);
    return error;
}

/* -- Children -------------------------------------------------------------------- */

int tdl_scope_begin(tdl_scope *s) {
    if (!s) return TDL_EINVAL;
    TDL_REFUSE(s);
    tdl_lock_take(&s->lock);
    int r = s->left ? TDL_ECLOSED : s->over ? TDL_ECANCELED : 0;
    if (r == 0) {
        s->active++;
        hold(s);
    }
    tdl_unlock(&s->lock);
    return r;
}

/* k: the child that ends, or NULL. */
static int child_ends(tdl_scope *s, struct child *k, int result) {
    tdl_lock_take(&s->lock);
    if (s->active == 0) {
        tdl_unlock(&s->lock);
        return TDL_ENEGATIVE;
    }
    if (k) {
        *k->at = k->next;
        if (k->next) k->next->at = k->at;
    }
    bool first = result != 0 && s->error == 0;
    if (first) s->error = result;
    tdl_node *waiting = --s->active == 0 ? tdl_queue_claim_all(&s->waiters) : NULL;
    if (waiting) s->left = true;
    tdl_unlock(&s->lock);
    if (first) tdl_context_cancel(s->context, result, NULL);
    tdl_complete_all(waiting, 0);
    drop(s);
    return 0;
}

int tdl_scope_done(tdl_scope *s, int result) {
    if (!s) return TDL_EINVAL;
    TDL_REFUSE(s);
    return child_ends(s, NULL, result);
}

static void child_over(struct child *k, int result) {
    child_ends(k->scope, k, result);
    tdl_pool_give(&kids, k);
}

static void child_left(tdl_at_exit *a) { child_over(TDL_CONTAINER(a, struct child, exit), 0); }

static void child_main(void *arg) {
    struct child *k = arg;
    tdl_scope *s = k->scope;
    k->g = tdl_m_self()->g;
    tdl_lock_take(&s->lock);
    k->next = s->children;
    if (k->next) k->next->at = &k->next;
    k->at = &s->children;
    s->children = k;
    if (s->over) tdl_g_cancel(k->g);
    tdl_unlock(&s->lock);
    tdl_exit_push(&k->exit, child_left);
    int result = k->fn(k->arg);
    tdl_exit_pop(&k->exit);
    child_over(k, result);
}

int tdl_scope_go(tdl_scope *s, int (*fn)(void *), void *arg) {
    if (!fn) return TDL_EINVAL;
    int r = tdl_scope_begin(s);
    if (r < 0) return r;
    struct child *k = tdl_pool_take(&kids);
    if (k) {
        k->scope = s;
        k->fn = fn;
        k->arg = arg;
        if (tdl_go(child_main, k)) return 0;
        tdl_pool_give(&kids, k);
    }
    child_ends(s, NULL, 0);
    return TDL_ENOMEM;
}

/* -- Who waits for whom ------------------------------------------------------------ */

/* The child whose goroutine has this op; NULL: it is no child of a scope. */
static struct child *child_of(const tdl_op *op) {
    if (op->kind == OP_OF_THREAD || op->kind == OP_OF_TASK) return NULL;
    const tdl_g *g = TDL_CONTAINER(op, const tdl_g, op);
    return g->fn == child_main ? g->arg : NULL;
}

/* Under graph: does s wait, through its children, for k's scope? */
static bool leads_to(tdl_scope *s, const tdl_scope *goal) {
    uint64_t look = ++graph.looks;
    tdl_scope *list = s;
    s->visited = look;
    s->to_visit = NULL;
    while (list) {
        s = list;
        list = s->to_visit;
        if (s == goal) return true;
        for (struct child *k = s->blocked; k; k = k->next_blocked) {
            tdl_scope *next = k->waits_for;
            if (next->visited == look) continue;
            next->visited = look;
            next->to_visit = list;
            list = next;
        }
    }
    return false;
}

static bool block(tdl_op *op, tdl_scope *s) {
    struct child *k = child_of(op);
    if (!k) return true;
    tdl_lock_take(&graph.lock);
    bool circle = leads_to(s, k->scope);
    if (!circle) {
        k->waits_for = s;
        k->next_blocked = k->scope->blocked;
        if (k->next_blocked) k->next_blocked->at_blocked = &k->next_blocked;
        k->at_blocked = &k->scope->blocked;
        k->scope->blocked = k;
    }
    tdl_unlock(&graph.lock);
    return !circle;
}

static void unblock(tdl_op *op) {
    struct child *k = child_of(op);
    if (!k) return;
    tdl_lock_take(&graph.lock);
    *k->at_blocked = k->next_blocked;
    if (k->next_blocked) k->next_blocked->at_blocked = k->at_blocked;
    tdl_unlock(&graph.lock);
}

/* -- Leaving ------------------------------------------------------------------------- */

/* Nobody is left: the context's time is over, too. */
static int over(tdl_scope *s) {
    int error = tdl_scope_error(s);
    tdl_context_cancel(s->context, error, NULL);
    return error;
}

/* Under the lock. */
static bool empty(tdl_scope *s) {
    if (s->active == 0) s->left = true;
    return s->active == 0;
}

static void unlist(tdl_op *op) {
    tdl_scope *s = op->node.object;
    tdl_lock_take(&s->lock);
    tdl_queue_remove(&op->node);
    tdl_unlock(&s->lock);
}

static void stop_waiting(tdl_op *op) {
    at_store_rlx(&op->shielded, 0);
    unblock(op);
    drop(op->node.object);
}

static void abandon(tdl_op *op) {
    unlist(op);
    stop_waiting(op);
}

/* The caller's deadline, or its cancellation, is the children's; then it waits
 * on, and nothing ends that but them. */
static int64_t finish(tdl_op *op) {
    tdl_scope *s = op->node.object;
    if (op->result != 0) {
        unlist(op);
        tdl_context_cancel(s->context, (int)op->result, NULL);
        at_store_rlx(&op->shielded, 1);
        tdl_lock_take(&s->lock);
        if (!empty(s)) {
            tdl_op_publish(op);
            tdl_queue_push(&s->waiters, &op->node);
            tdl_unlock(&s->lock);
            tdl_op_arm(op, TDL_FOREVER);
            return TDL_PENDING;
        }
        tdl_unlock(&s->lock);
    }
    int r = over(s);
    stop_waiting(op);
    return r;
}

static const tdl_op_class wait_class = {"scope wait", finish, abandon};

int64_t tdl_scope_wait_op(tdl_op *op, tdl_scope *s, int64_t deadline) {
    if (!s) return TDL_EINVAL;
    tdl_lock_take(&s->lock);
    bool nobody = empty(s);
    tdl_unlock(&s->lock);
    if (nobody) return over(s);
    int no = deadline == TDL_NOWAIT ? TDL_EAGAIN : tdl_may_wait(tdl_pool_bubble(&pool, s));
    if (no < 0) return no;
    if (!block(op, s)) return TDL_EDEADLOCK;
    hold(s);
    tdl_op_begin(op, &wait_class);
    op->node.object = s;
    tdl_lock_take(&s->lock);
    if (empty(s)) {
        tdl_unlock(&s->lock);
        int r = over(s);
        stop_waiting(op);
        return r;
    }
    tdl_op_publish(op);
    tdl_queue_push(&s->waiters, &op->node);
    tdl_unlock(&s->lock);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

int tdl_scope_wait_until(tdl_scope *s, int64_t deadline) {
    int code;
    tdl_op *op = tdl_caller_op(&code);
    /* who has been cancelled still waits for his children, as one who is cancelled in the wait */
    if (!op && code == TDL_ECANCELED) op = &tdl_m_self()->g->op;
    if (!op) return code;
    int64_t r = tdl_scope_wait_op(op, s, deadline);
    if (r == TDL_PENDING) r = tdl_op_wait(op);
    return (int)r;
}

int tdl_scope_wait(tdl_scope *s) { return tdl_scope_wait_until(s, TDL_FOREVER); }
