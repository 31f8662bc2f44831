/* SPDX-License-Identifier: MIT
 *
 * Functions that start when a context ends. Two hold one: the caller's handle,
 * and the context's hook until it is called or taken back.
 */
#include "sync/context.h"
#include "sys/pool.h"
#include "sys/sys.h"

static const int64_t RETRY_NS = 1000000;

struct tdl_after {
    tdl_lock lock;
    _Atomic uint32_t refs;
    tdl_context *context; /* held */
    tdl_hook hook;
    tdl_timer_call retry; /* armed by who has the hook's hold */
    void (*fn)(void *);
    void *arg;
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_after);

static void drop(tdl_after *a) {
    if (at_sub_seq(&a->refs, 1) != 1) return; /* seq: the last one sees all */
    tdl_context_free(a->context);
    tdl_pool_give(&pool, a);
}

/* Where memory is out it tries again: who waits for the end must hear of it. */
static void start(void *owner) {
    tdl_after *a = owner;
    if (!tdl_go(a->fn, a->arg)) {
        int code;
        tdl_poller *poller = tdl_my_poller(&code);
        a->retry.node.calls = true;
        a->retry.fire = start;
        a->retry.owner = a;
        if (poller) code = tdl_timer_arm_by(&poller->timers, &a->retry.node, tdl_sys.now() + RETRY_NS);
        if (code < 0) tdl_fatal("no memory to start what was to run after a context: %s", tdl_strerror(code));
        return;
    }
    drop(a);
}

static void context_ended(tdl_hook *h) { start(TDL_CONTAINER(h, tdl_after, hook)); }

tdl_after *tdl_context_after_func(tdl_context *c, void (*fn)(void *), void *arg) {
    tdl_after *a = c && fn && !tdl_forked() ? tdl_pool_take(&pool) : NULL;
    if (!a) return NULL;
    a->fn = fn;
    a->arg = arg;
    a->context = tdl_context_ref(c);
    a->hook.fn = context_ended;
    at_store_rlx(&a->refs, 2);
    if (!tdl_context_hook(c, &a->hook)) start(a);
    return a;
}

int tdl_after_stop(tdl_after *a) {
    if (!a) return TDL_EINVAL;
    TDL_REFUSE(a);
    bool stopped = tdl_context_unhook(a->context, &a->hook);
    if (stopped) drop(a); /* the hook's */
    return stopped;
}

void tdl_after_free(tdl_after *a) {
    if (!a || tdl_forked()) return;
    tdl_after_stop(a);
    drop(a);
}
