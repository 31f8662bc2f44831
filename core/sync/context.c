/* SPDX-License-Identifier: MIT
 * Contexts. See context.h. */
#include "sync/context.h"

#include <string.h>

#include "sys/pool.h"
#include "sys/sys.h"

static tdl_pool pool = TDL_POOL_INIT(struct tdl_context);

static struct tdl_context background = {.lock = TDL_LOCK_INIT(RANK_OBJECT), .deadline = TDL_FOREVER};

tdl_context *tdl_context_background(void) { return &background; }

/* The simulation it was made in. */
static uint32_t bubble(const tdl_context *c) { return c == &background ? 0 : tdl_pool_bubble(&pool, c); }

int64_t tdl_context_live(void) { return tdl_pool_live(&pool); }

/* -- Holding and freeing --------------------------------------------------------- */

tdl_context *tdl_context_ref(tdl_context *c) {
    if (c && c != &background) at_add_rlx(&c->refs, 1);
    return c;
}

/* Under the lock that context.h says; false: it is about to be freed. */
static bool hold(tdl_context *c) {
    uint32_t n = at_load_rlx(&c->refs);
    while (n > 0)
        if (at_cas_seq(&c->refs, &n, n + 1)) return true;
    return false;
}

/* Out of its parent's children. */
static void unlink_child(tdl_context *c) {
    tdl_lock_take(&c->parent->lock);
    if (c->at) {
        *c->at = c->next;
        if (c->next) c->next->at = c->at;
        c->at = NULL;
    }
    tdl_unlock(&c->parent->lock);
}

static void disarm(tdl_context *c) {
    tdl_lock_take(&c->lock);
    tdl_timer_disarm(&c->timer.node);
    tdl_unlock(&c->lock);
}

void tdl_context_free(tdl_context *c) {
    if (!c || tdl_forked()) return;
    /* seq: the last one sees what the others did with it. Up a chain of parents
     * that nobody else holds. */
    while (c && c != &background && at_sub_seq(&c->refs, 1) == 1) {
        tdl_context *parent = c->parent;
        if (parent) unlink_child(c);
        disarm(c);
        tdl_chan_free(c->done);
        tdl_val_clear(&c->detail);
        tdl_val_clear(&c->key);
        tdl_val_clear(&c->val);
        tdl_pool_give(&pool, c);
        c = parent;
    }
}

/* -- Ending ------------------------------------------------------------------------ */

/* Why a context ends; detail may be NULL. */
struct why {
    int err, cause;
    const tdl_val *detail;
};

/* True for the one who ends it, and has to settle it. */
static bool mark(tdl_context *c, const struct why *why) {
    tdl_lock_take(&c->lock);
    bool first = at_load_rlx(&c->err) == 0;
    if (first) {
        c->cause = why->cause;
        if (why->detail) tdl_val_copy(&c->detail, why->detail);
        at_store_rel(&c->err, why->err);
    }
    tdl_unlock(&c->lock);
    return first;
}

/* A child, held; NULL when there is none left. */
static tdl_context *next_child(tdl_context *c) {
    tdl_lock_take(&c->lock);
    tdl_context *child;
    do {
        child = c->children;
        if (!child) break;
        c->children = child->next;
        if (child->next) child->next->at = &c->children;
        child->at = NULL;
    } while (!hold(child));
    tdl_unlock(&c->lock);
    return child;
}

/* Tells all who wait for the end of c, which is marked; its children join the
 * list of those still to be settled. */
static tdl_context *settle(tdl_context *c, const struct why *why, tdl_context *list) {
    tdl_lock_take(&c->lock);
    tdl_timer_disarm(&c->timer.node);
    tdl_node *waiting = tdl_queue_claim_all(&c->waiters);
    tdl_hook *hooks = c->hooks;
    c->hooks = NULL;
    for (tdl_hook *h = hooks; h; h = h->next) h->at = NULL;
    tdl_unlock(&c->lock);
    tdl_chan_close(c->done);
    tdl_complete_all(waiting, 0);
    for (tdl_context *child; (child = next_child(c)) != NULL;) {
        if (mark(child, why)) {
            child->dying = list;
            list = child;
        } else {
            tdl_context_free(child);
        }
    }
    while (hooks) {
        tdl_hook *h = hooks;
        hooks = h->next; /* h is gone once it was called */
        h->fn(h);
    }
    return list;
}

/* c is held by the caller. */
static bool end(tdl_context *c, const struct why *why) {
    if (!mark(c, why)) return false;
    tdl_context *list = settle(c, why, NULL);
    while (list) {
        tdl_context *child = list;
        list = settle(child, why, child->dying);
        tdl_context_free(child);
    }
    return true;
}

static bool overdue(const tdl_context *c) {
    return c->deadline != TDL_FOREVER && c->deadline <= tdl_sys.now();
}

static bool time_out(tdl_context *c) { return end(c, &(struct why){TDL_ETIMEDOUT, TDL_ETIMEDOUT, NULL}); }

/* The timer's; perhaps of an earlier life of this memory. */
static void fire(void *owner) {
    tdl_context *c = owner;
    tdl_lock_take(&c->lock);
    bool held = hold(c);
    tdl_unlock(&c->lock);
    if (!held) return;
    if (overdue(c)) time_out(c);
    tdl_context_free(c);
}

int tdl_context_cancel(tdl_context *c, int cause, const tdl_val *detail) {
    if (!c || !c->done || (detail && !tdl_val_for_all(detail))) return TDL_EINVAL;
    int no = tdl_refused(bubble(c));
    if (no < 0) return no;
    return end(c, &(struct why){TDL_ECANCELED, cause ? cause : TDL_ECANCELED, detail});
}

/* -- Making --------------------------------------------------------------------------- */

/* Joins its parent's children, or ends as the parent did. */
static void join_parent(tdl_context *c) {
    tdl_context *p = c->parent;
    tdl_lock_take(&p->lock);
    if (at_load_rlx(&p->err) == 0) {
        c->next = p->children;
        if (c->next) c->next->at = &c->next;
        c->at = &p->children;
        p->children = c;
        tdl_unlock(&p->lock);
        return;
    }
    tdl_unlock(&p->lock);
    /* these do not change any more */
    end(c, &(struct why){at_load_rlx(&p->err), p->cause, &p->detail});
}

/* Ends it at its deadline. 0 or a negative code. */
static int start_timer(tdl_context *c) {
    int code = 0;
    if (overdue(c)) {
        time_out(c);
        return 0;
    }
    tdl_poller *poller = tdl_my_poller(&code);
    if (!poller) return code;
    tdl_lock_take(&c->lock); /* its parent may be ending it */
    if (at_load_rlx(&c->err) == 0) {
        c->timer.node.calls = true;
        c->timer.fire = fire;
        c->timer.owner = c;
        code = tdl_timer_arm_by(&poller->timers, &c->timer.node, c->deadline);
    }
    tdl_unlock(&c->lock);
    return code;
}

/* Not yet among the parent's children. key may be NULL. */
static tdl_context *make(tdl_context *parent, int64_t deadline, bool ends, const tdl_val *key, const tdl_val *v) {
    if (tdl_forked()) return NULL;
    tdl_context *c = tdl_pool_take(&pool);
    if (!c) return NULL;
    if (ends && !(c->done = tdl_chan_new(0))) {
        tdl_pool_give(&pool, c);
        return NULL;
    }
    if (parent && parent != &background) c->parent = tdl_context_ref(parent);
    c->deadline = deadline;
    if (key) {
        tdl_val_copy(&c->key, key);
        tdl_val_copy(&c->val, v);
    }
    tdl_lock_take(&c->lock); /* publishes it to hold() */
    at_store_rlx(&c->refs, 1);
    tdl_unlock(&c->lock);
    return c;
}

static tdl_context *derive(tdl_context *parent, int64_t deadline, const tdl_val *key, const tdl_val *v) {
    int64_t inherited = parent ? parent->deadline : TDL_FOREVER;
    tdl_context *c = make(parent, deadline < inherited ? deadline : inherited, true, key, v);
    if (!c) return NULL;
    if (c->parent) join_parent(c);
    if (deadline < inherited && start_timer(c) < 0) {
        tdl_context_free(c);
        return NULL;
    }
    return c;
}

tdl_context *tdl_context_with_cancel(tdl_context *parent) { return derive(parent, TDL_FOREVER, NULL, NULL); }

tdl_context *tdl_context_with_deadline(tdl_context *parent, int64_t deadline) {
    return derive(parent, deadline, NULL, NULL);
}

tdl_context *tdl_context_with_timeout(tdl_context *parent, int64_t ns) {
    return derive(parent, tdl_time_after(tdl_sys.now(), ns > 0 ? ns : 0), NULL, NULL);
}

tdl_context *tdl_context_with_value(tdl_context *parent, const tdl_val *key, const tdl_val *v) {
    if (!key || !v || key->type == TDL_NIL || !tdl_val_for_all(key) || !tdl_val_for_all(v)) return NULL;
    return derive(parent, TDL_FOREVER, key, v);
}

tdl_context *tdl_context_without_cancel(tdl_context *parent) {
    return make(parent, TDL_FOREVER, false, NULL, NULL);
}

/* -- Looking ---------------------------------------------------------------------------- */

int tdl_context_err(tdl_context *c) {
    if (!c) return TDL_EINVAL;
    int err = at_load_acq(&c->err);
    if (err == 0 && overdue(c) && tdl_refused(bubble(c)) == 0) { /* the timer is late, or its thread is busy */
        time_out(c);
        err = at_load_acq(&c->err);
    }
    return err;
}

int tdl_context_cause(tdl_context *c, tdl_val *detail) {
    int err = tdl_context_err(c);
    if (detail) tdl_val_set_nil(detail);
    if (!c || err == 0) return err;
    if (detail) tdl_val_copy(detail, &c->detail);
    return c->cause;
}

int64_t tdl_context_deadline(tdl_context *c) { return c ? c->deadline : TDL_FOREVER; }

static bool same(const tdl_val *a, const tdl_val *b) {
    if (a->type != b->type) return false;
    if (a->type == TDL_DOUBLE) return a->u.d == b->u.d;
    if (a->type != TDL_BYTES) return a->u.i == b->u.i;
    size_t n, m;
    const void *x = tdl_val_bytes(a, &n), *y = tdl_val_bytes(b, &m);
    return n == m && memcmp(x, y, n) == 0;
}

int tdl_context_value(tdl_context *c, const tdl_val *key, tdl_val *v) {
    if (v) tdl_val_set_nil(v);
    if (!c || !key || key->type == TDL_NIL) return 0;
    while (c && !same(&c->key, key)) c = c->parent;
    if (c && v) tdl_val_copy(v, &c->val);
    return c != NULL;
}

tdl_chan *tdl_context_done(tdl_context *c) { return c ? c->done : NULL; }

/* -- Waiting ------------------------------------------------------------------------------ */

static void leave(tdl_op *op) {
    tdl_context *c = op->node.object;
    tdl_lock_take(&c->lock);
    tdl_queue_remove(&op->node);
    tdl_unlock(&c->lock);
    tdl_context_free(c);
}

/* Leaves in any case: it is the op that holds the context. */
static int64_t finish(tdl_op *op) {
    leave(op);
    return op->result;
}

static const tdl_op_class wait_class = {"context wait", finish, leave};

int64_t tdl_context_wait_op(tdl_op *op, tdl_context *c, int64_t deadline) {
    if (!c) return TDL_EINVAL;
    tdl_lock_take(&c->lock);
    bool ended = at_load_rlx(&c->err) != 0;
    int r = ended ? 0 : tdl_deadline_check(deadline);
    if (!ended && r == 0) r = tdl_may_wait(bubble(c));
    if (ended || r != 0) {
        tdl_unlock(&c->lock);
        return r;
    }
    tdl_op_begin(op, &wait_class);
    op->node.object = tdl_context_ref(c);
    tdl_op_publish(op);
    tdl_queue_push(&c->waiters, &op->node);
    tdl_unlock(&c->lock);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

int tdl_context_wait_until(tdl_context *c, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_context_wait_op(op, c, deadline));
}

int tdl_context_wait(tdl_context *c) { return tdl_context_wait_until(c, TDL_FOREVER); }

/* -- Hooks ---------------------------------------------------------------------------------- */

bool tdl_context_hook(tdl_context *c, tdl_hook *h) {
    tdl_lock_take(&c->lock);
    bool alive = at_load_rlx(&c->err) == 0;
    if (alive) {
        h->next = c->hooks;
        if (h->next) h->next->at = &h->next;
        h->at = &c->hooks;
        c->hooks = h;
    }
    tdl_unlock(&c->lock);
    return alive;
}

bool tdl_context_unhook(tdl_context *c, tdl_hook *h) {
    tdl_lock_take(&c->lock);
    bool linked = h->at != NULL;
    if (linked) {
        *h->at = h->next;
        if (h->next) h->next->at = h->at;
        h->at = NULL;
    }
    tdl_unlock(&c->lock);
    return linked;
}
