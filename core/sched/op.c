/* SPDX-License-Identifier: MIT
 * The life of an op between enlist and finish. */
#include "sched/op.h"

#include "sched/own.h"
#include "sched/sched.h"
#include "sys/sys.h"

#include <errno.h>

/* -- Queues ----------------------------------------------------------------- */

void tdl_queue_push(tdl_queue *q, tdl_node *n) {
    n->queue = q;
    n->next = NULL;
    n->prev = q->tail;
    if (q->tail)
        q->tail->next = n;
    else
        q->head = n;
    q->tail = n;
}

void tdl_queue_push_front(tdl_queue *q, tdl_node *n) {
    n->queue = q;
    n->prev = NULL;
    n->next = q->head;
    if (q->head)
        q->head->prev = n;
    else
        q->tail = n;
    q->head = n;
}

void tdl_queue_remove(tdl_node *n) {
    tdl_queue *q = n->queue;
    if (!q) return;
    if (n->prev)
        n->prev->next = n->next;
    else
        q->head = n->next;
    if (n->next)
        n->next->prev = n->prev;
    else
        q->tail = n->prev;
    n->queue = NULL;
}

tdl_node *tdl_queue_claim(tdl_queue *q, uint32_t *was) {
    for (tdl_node *n; (n = q->head) != NULL;) {
        tdl_queue_remove(n);
        if ((*was = tdl_op_claim(n->op)) != 0) return n;
    }
    return NULL;
}

tdl_node *tdl_queue_claim_all(tdl_queue *q) {
    tdl_node *list = NULL, **end = &list, *n;
    uint32_t was;
    while ((n = tdl_queue_claim(q, &was)) != NULL) {
        n->was = was;
        n->next = NULL;
        *end = n;
        end = &n->next;
    }
    return list;
}

void tdl_complete_all(tdl_node *list, int64_t result) {
    while (list) {
        tdl_node *n = list;
        list = n->next; /* n is its owner's as soon as it is completed */
        tdl_op_complete(n->op, n->was, result);
    }
}

/* -- Completing ------------------------------------------------------------- */

void tdl_op_complete(tdl_op *op, uint32_t was, int64_t result) {
    op->result = result;
    if (was == OP_PARKED && op->kind == OP_OF_G) {
        tdl_g_ready(TDL_CONTAINER(op, tdl_g, op));
    } else if (op->kind == OP_OF_TASK) {
        tdl_g *g = TDL_CONTAINER(op, tdl_g, op);
        g->task_ready(g);
    } else {
        /* release pairs with the owner's acquire in await_claimer and
         * thread_sleep. From the store on the op may be gone: only its
         * address is used, to wake a thread that sleeps on it. */
        void *word = &op->state;
        bool asleep = was == OP_PARKED;
        if (asleep && op->timer.index == 0) tdl_deadlock_waker(op);
        at_store_rel(&op->state, OP_DONE);
        if (asleep) tdl_sys.futex_wake(word, 1);
    }
}

int tdl_op_cancel(tdl_op *op) {
    if (at_load_rlx(&op->shielded)) return 0;
    uint32_t was = tdl_op_claim(op);
    if (was) tdl_op_complete(op, was, TDL_ECANCELED);
    return was != 0;
}

/* -- Deadlines -------------------------------------------------------------- */

int tdl_deadline_check(int64_t deadline) {
    if (deadline == TDL_FOREVER) return 0;
    if (deadline == TDL_NOWAIT) return TDL_EAGAIN;
    if (deadline <= tdl_sys.now()) return TDL_ETIMEDOUT;
    return 0;
}

/* On the P of the M; without one on the first, where somebody then waits for it. */
TDL_NO_TSAN static int arm_here(tdl_op *op, int64_t deadline) {
    tdl_m *m = tdl_m_self();
    uint32_t was;
    tdl_p *p = tdl_p_enter(m, &was); /* the P is not left unattended meanwhile */
    int r = 0;
    if (TDL_UNLIKELY(!p)) r = tdl_p_attend(p = tdl_sched.p[0]);
    if (r == 0) r = tdl_timer_arm_by(&p->poller.timers, &op->timer, deadline);
    tdl_p_leave(m, was);
    return r;
}

void tdl_op_arm_timer(tdl_op *op, int64_t deadline) {
    if (tdl_op_sleeps(op->kind)) {
        op->timer.when = deadline; /* the futex keeps it */
        op->timer.index = 1;
        return;
    }
    int r = op->kind == OP_OF_G ? arm_here(op, deadline)
                                : tdl_timer_arm_by(&TDL_CONTAINER(op, tdl_g, op)->host_poller->timers, &op->timer, deadline);
    uint32_t was = r < 0 ? tdl_op_claim(op) : 0;
    if (was) tdl_op_complete(op, was, r);
}

int64_t tdl_op_finish(tdl_op *op) {
    if (tdl_op_sleeps(op->kind))
        op->timer.index = 0;
    else if (op->timer.heap && op->result == TDL_ETIMEDOUT && op->timer.index == 0)
        op->timer.heap = NULL; /* it was the timer that claimed the op: it is through with it */
    else if (op->timer.heap)
        tdl_timer_disarm(&op->timer);
    int64_t r = op->cls->finish(op);
    if (r != TDL_PENDING) at_store_rlx(&op->state, OP_IDLE);
    return r;
}

void tdl_op_abandon(tdl_op *op) {
    if (at_load_acq(&op->state) == OP_IDLE) return;
    if (tdl_op_claim(op)) op->result = TDL_ECANCELED; /* else it was completed, and got something */
    tdl_timer_disarm(&op->timer);
    op->cls->abandon(op);
    tdl_val_clear(&op->out);
    at_store_rlx(&op->state, OP_IDLE);
}

/* -- Waiting ---------------------------------------------------------------- */

/* A claimer is between its claim and DONE: a few instructions. */
static void await_claimer(tdl_op *op) {
    for (int i = 0; at_load_acq(&op->state) != OP_DONE; i++) {
        if (i < 1000)
            at_pause();
        else
            tdl_thread_yield();
    }
}

/* A short spin first: a hand-over between running threads takes a fraction of
 * a microsecond, a futex wake more than three. */
static void thread_sleep(tdl_op *op) {
    tdl_lock_none_held();
    for (int i = 0; i < 200; i++) {
        if (at_load_acq(&op->state) != OP_ARMED) {
            await_claimer(op);
            return;
        }
        at_pause();
    }
    uint32_t s = OP_ARMED;
    if (!at_cas_seq(&op->state, &s, OP_PARKED)) {
        await_claimer(op);
        return;
    }
    op->parked_at = tdl_sys.now();
    int64_t deadline = op->timer.index ? op->timer.when : TDL_FOREVER;
    if (deadline == TDL_FOREVER) tdl_deadlock_sleeper(op);
    while (at_load_acq(&op->state) == OP_PARKED) {
        int r = tdl_sys.futex_wait(&op->state, OP_PARKED, deadline);
        if (r == -ETIMEDOUT && tdl_op_claim(op)) {
            op->result = TDL_ETIMEDOUT;
            return;
        }
    }
    await_claimer(op);
}

/* Dekker with tdl_cancel, as in tdl_op_commit; here the op is claimed by a store
 * that was before, so the fence is ours. */
static void pinned_sleep(tdl_op *op) {
    tdl_g *g = TDL_CONTAINER(op, tdl_g, op);
    at_fence_seq();
    if (TDL_UNLIKELY(at_load_seq(&g->cancelled))) tdl_op_cancel(op);
    at_store_rlx(&g->status, G_WAITING);
    thread_sleep(op);
    if (at_load_seq(&tdl_sched.stopping)) tdl_g_abandon(g);
    at_store_rlx(&g->status, g->blocks ? G_BLOCKED : G_RUNNING);
}

int64_t tdl_op_wait(tdl_op *op) {
    for (;;) {
        if (op->kind == OP_OF_G) {
            if (at_load_acq(&op->state) == OP_ARMED)
                tdl_g_park(TDL_CONTAINER(op, tdl_g, op));
            else
                await_claimer(op);
        } else if (op->kind == OP_OF_PINNED) {
            pinned_sleep(op);
        } else {
            thread_sleep(op);
        }
        TDL_TSAN_ACQUIRE(&op->state); /* the claimer's; tdl_op_commit, which met it, is unseen */
        int64_t r = tdl_op_finish(op);
        if (r != TDL_PENDING) return r;
    }
}

/* The deferred half of parking: runs when g's stack has been left.
 *
 * The CAS pairs with tdl_op_claim: either the claimer sees PARKED and readies
 * g, or we see CLAIMED here and put g back ourselves. It is also one side of a
 * Dekker pair with tdl_cancel (store cancelled; claim): one of the two sees the
 * other's store. */
TDL_UNSEEN void tdl_op_commit(tdl_op *op) {
    tdl_g *g = TDL_CONTAINER(op, tdl_g, op);
    uint32_t s = OP_ARMED;
    if (!at_cas_seq(&op->state, &s, OP_PARKED)) {
        await_claimer(op);
        tdl_g_ready(g);
        return;
    }
    if (TDL_UNLIKELY(at_load_seq(&g->cancelled))) tdl_op_cancel(op);
}
