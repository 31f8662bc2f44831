/* SPDX-License-Identifier: MIT
 * Channels: try, enlist, finish. */
#include "sync/chan.h"

#include "sys/pool.h"
#include "sys/sys.h"

enum { MAX_CAP = 1 << 26 };

static tdl_pool pool = TDL_POOL_OF(struct tdl_chan, RANK_CHAN);

int64_t tdl_chan_live(void) { return tdl_pool_live(&pool); }

uint32_t tdl_chan_bubble(const tdl_chan *ch) { return tdl_pool_bubble(&pool, ch); }

int tdl_chan_refuses(const tdl_chan *ch) {
    if (ch->local) return ch->m == tdl_m_self() ? 0 : TDL_EHOST;
    uint32_t bubble = tdl_chan_bubble(ch);
    return bubble == at_load_rlx(&tdl_sched.bubble) ? tdl_may_wait(bubble) : 0; /* else it is over */
}

/* -- Making and freeing ------------------------------------------------------- */

tdl_chan *tdl_chan_make(uint32_t cap, struct tdl_m *local_to) {
    if (cap > MAX_CAP || tdl_forked()) return NULL;
    tdl_val *buf = NULL;
    if (cap > 1 && !(buf = tdl_sys.alloc(cap * sizeof *buf))) return NULL;
    tdl_chan *ch = tdl_pool_take(&pool);
    if (!ch) {
        tdl_sys.release(buf);
        return NULL;
    }
    ch->cap = cap;
    ch->buf = cap == 1 ? &ch->one : buf;
    ch->local = local_to != NULL;
    ch->checked = ch->local || tdl_chan_bubble(ch);
    ch->m = local_to;
    at_store_rlx(&ch->refs, 1);
    return ch;
}

tdl_chan *tdl_chan_new(uint32_t cap) { return tdl_chan_make(cap, NULL); }

tdl_chan *tdl_chan_ref(tdl_chan *ch) {
    if (ch) at_add_rlx(&ch->refs, 1);
    return ch;
}

void tdl_chan_free(tdl_chan *ch) {
    /* seq: the last one sees what the others did with the channel */
    if (!ch || tdl_forked() || at_sub_seq(&ch->refs, 1) != 1) return;
    tdl_chan_close(ch);
    for (; ch->count; ch->count--) {
        tdl_val_clear(&ch->buf[ch->head]);
        ch->head = ch->head + 1 == ch->cap ? 0 : ch->head + 1;
    }
    if (ch->buf != &ch->one) tdl_sys.release(ch->buf);
    tdl_pool_give(&pool, ch);
}

/* -- Try, under the lock -------------------------------------------------------- */

static inline void push(tdl_chan *ch, const tdl_val *slot_owner_value) {
    uint32_t tail = ch->head + ch->count;
    if (tail >= ch->cap) tail -= ch->cap;
    tdl_val_take(&ch->buf[tail], slot_owner_value);
    ch->count++;
}

static inline void shift(tdl_chan *ch, tdl_val *v) {
    tdl_val_take(v, &ch->buf[ch->head]);
    ch->head = ch->head + 1 == ch->cap ? 0 : ch->head + 1;
    ch->count--;
}

static inline tdl_node *first_waiter(tdl_queue *q, uint32_t *was) {
    return q->head ? tdl_queue_claim(q, was) : NULL;
}

static inline void woken(tdl_wake *wake, tdl_node *n, uint32_t was) {
    n->op->extra = 1;
    *wake = (tdl_wake){n->op, was, n->index};
}

TDL_ALWAYS_INLINE int try_send(tdl_chan *ch, const tdl_val *v, tdl_wake *wake) {
    wake->op = NULL;
    if (TDL_UNLIKELY(ch->closed)) return TDL_ECLOSED;
    uint32_t was;
    tdl_node *n = first_waiter(&ch->recvq, &was);
    if (n) {
        tdl_val_dup(&n->op->out, v);
        woken(wake, n, was);
        return 0;
    }
    if (ch->count == ch->cap) return TDL_EAGAIN;
    if (TDL_UNLIKELY(tdl_val_holds(v))) tdl_val_hold(v);
    push(ch, v);
    return 0;
}

TDL_ALWAYS_INLINE int try_recv(tdl_chan *ch, tdl_val *v, tdl_wake *wake) {
    wake->op = NULL;
    uint32_t was;
    if (ch->count) {
        shift(ch, v);
        tdl_node *n = first_waiter(&ch->sendq, &was);
        if (n) {
            push(ch, &n->val);
            tdl_val_nil(&n->val);
            woken(wake, n, was);
        }
        return 0;
    }
    tdl_node *n = first_waiter(&ch->sendq, &was);
    if (n) {
        tdl_val_move(v, &n->val);
        woken(wake, n, was);
        return 0;
    }
    tdl_val_nil(v);
    return ch->closed ? TDL_ECLOSED : TDL_EAGAIN;
}

int tdl_chan_send_locked(tdl_chan *ch, const tdl_val *v, tdl_wake *wake) { return try_send(ch, v, wake); }
int tdl_chan_recv_locked(tdl_chan *ch, tdl_val *v, tdl_wake *wake) { return try_recv(ch, v, wake); }

/* -- Waiting ----------------------------------------------------------------------- */

static void leave(tdl_op *op) {
    if (op->node.object) tdl_chan_unlist(&op->node);
    tdl_val_clear(&op->node.val);
}

/* A partner or close took the node off the queue before it completed the op. */
static int64_t finish(tdl_op *op) {
    if (op->result == TDL_ECLOSED)
        tdl_val_clear(&op->node.val);
    else if (op->result != 0)
        leave(op);
    return op->result;
}

static const tdl_op_class send_class = {"chan send", finish, leave};
static const tdl_op_class recv_class = {"chan receive", finish, leave};

/* Nothing was ready, and ch (NULL: there is none) is locked: enlists, unless the
 * deadline says otherwise. v: what to send. */
TDL_NOINLINE static int64_t wait(tdl_op *op, tdl_chan *ch, tdl_queue *q, const tdl_op_class *cls,
                                 const tdl_val *v, int64_t deadline) {
    int r = deadline == TDL_FOREVER ? 0 : tdl_deadline_check(deadline);
    if (r == 0 && ch) r = tdl_may_wait(tdl_chan_bubble(ch));
    if (r != 0) {
        if (ch) tdl_chan_unlock(ch);
        return r;
    }
    tdl_op_begin(op, cls);
    op->node.object = ch;
    op->node.locks = ch && !ch->local;
    op->node.index = 0;
    op->node.queue = NULL;
    tdl_val_nil(&op->node.val);
    if (v) tdl_val_dup(&op->node.val, v);
    if (ch && ch->local)
        tdl_op_publish_own(op);
    else
        tdl_op_publish(op);
    if (ch) {
        tdl_queue_push(q, &op->node);
        tdl_chan_unlock(ch);
    }
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

/* Both forms, blocking and _start, in one copy each: a call is worth a tenth of
 * a send here. */
TDL_ALWAYS_INLINE int64_t start_send(tdl_op *op, tdl_chan *ch, const tdl_val *v, int64_t deadline) {
    if (TDL_UNLIKELY(!tdl_chan_carries(ch, v))) return TDL_EINVAL;
    if (tdl_chan_check(ch)) return tdl_chan_refuses(ch);
    if (TDL_UNLIKELY(!ch)) return wait(op, NULL, NULL, &send_class, v, deadline);
    tdl_wake wake;
    tdl_chan_lock(ch);
    int r = try_send(ch, v, &wake);
    if (r == TDL_EAGAIN) return wait(op, ch, &ch->sendq, &send_class, v, deadline);
    tdl_chan_unlock(ch);
    tdl_wake_up(&wake);
    return r;
}

/* A value that is there goes to *v at once, later it comes in op->out; else both
 * are nil. */
TDL_ALWAYS_INLINE int64_t start_recv(tdl_op *op, tdl_chan *ch, tdl_val *v, int64_t deadline) {
    if (TDL_UNLIKELY(!ch || tdl_chan_check(ch))) {
        tdl_val_nil(&op->out);
        tdl_val_nil(v);
        if (ch) return tdl_chan_refuses(ch);
        return wait(op, NULL, NULL, &recv_class, NULL, deadline);
    }
    tdl_wake wake;
    tdl_chan_lock(ch);
    int r = try_recv(ch, v, &wake);
    if (r == TDL_EAGAIN) {
        tdl_val_nil(&op->out);
        return wait(op, ch, &ch->recvq, &recv_class, NULL, deadline);
    }
    tdl_chan_unlock(ch);
    tdl_wake_up(&wake);
    return r;
}

int64_t tdl_chan_send_op(tdl_op *op, tdl_chan *ch, const tdl_val *v, int64_t deadline) {
    return start_send(op, ch, v, deadline);
}

int64_t tdl_chan_recv_op(tdl_op *op, tdl_chan *ch, int64_t deadline) {
    return start_recv(op, ch, &op->out, deadline);
}

/* -- The public forms ---------------------------------------------------------------- */

static int send_until(tdl_chan *ch, const tdl_val *v, int64_t deadline) {
    if (TDL_UNLIKELY(!v)) return TDL_EINVAL;
    TDL_BLOCKING_FORM(start_send(op, ch, v, deadline));
}

int tdl_chan_send_until(tdl_chan *ch, const tdl_val *v, int64_t deadline) { return send_until(ch, v, deadline); }
int tdl_chan_send(tdl_chan *ch, const tdl_val *v) { return send_until(ch, v, TDL_FOREVER); }

static int recv_until(tdl_chan *ch, tdl_val *v, int64_t deadline) {
    int code;
    tdl_op *op = tdl_caller_op(&code);
    if (TDL_UNLIKELY(!op)) return code;
    int64_t r = start_recv(op, ch, v ? v : &op->out, deadline);
    if (r == TDL_PENDING) {
        r = tdl_op_wait(op);
        if (v) tdl_val_move(v, &op->out); /* op->out is nil between operations */
    }
    if (TDL_UNLIKELY(!v)) tdl_val_clear(&op->out);
    return (int)r;
}

int tdl_chan_recv_until(tdl_chan *ch, tdl_val *v, int64_t deadline) { return recv_until(ch, v, deadline); }
int tdl_chan_recv(tdl_chan *ch, tdl_val *v) { return recv_until(ch, v, TDL_FOREVER); }

int tdl_chan_try_send(tdl_chan *ch, const tdl_val *v) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!v || !tdl_chan_carries(ch, v)) return TDL_EINVAL;
    if (!ch) return TDL_EAGAIN;
    if (tdl_chan_check(ch)) return tdl_chan_refuses(ch);
    tdl_wake wake;
    tdl_chan_lock(ch);
    int r = tdl_chan_send_locked(ch, v, &wake);
    tdl_chan_unlock(ch);
    tdl_wake_up(&wake);
    return r;
}

int tdl_chan_try_recv(tdl_chan *ch, tdl_val *v) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!ch) return TDL_EAGAIN;
    if (tdl_chan_check(ch)) return tdl_chan_refuses(ch);
    tdl_wake wake;
    tdl_val got;
    tdl_chan_lock(ch);
    int r = tdl_chan_recv_locked(ch, &got, &wake);
    tdl_chan_unlock(ch);
    tdl_wake_up(&wake);
    if (r == TDL_EAGAIN) return r;
    if (v)
        *v = got;
    else
        tdl_val_clear(&got);
    return r;
}

/* A select hears which case it was; a plain send or receive, the code. */
static int64_t closed_result(tdl_node *n) {
    return n == &n->op->node ? TDL_ECLOSED : n->index;
}

int tdl_chan_close(tdl_chan *ch) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!ch) return TDL_EINVAL;
    if (tdl_chan_check(ch)) return tdl_chan_refuses(ch);
    tdl_chan_lock(ch);
    if (ch->closed) {
        tdl_chan_unlock(ch);
        return TDL_ECLOSED;
    }
    ch->closed = 1;
    /* claim all under this one hold of the lock: the first who wakes may free
     * the channel */
    tdl_node *lists[2] = {tdl_queue_claim_all(&ch->recvq), tdl_queue_claim_all(&ch->sendq)};
    tdl_chan_unlock(ch);
    for (int i = 0; i < 2; i++) {
        for (tdl_node *n = lists[i], *next; n; n = next) {
            next = n->next;
            tdl_val_nil(&n->op->out);
            n->op->extra = 0;
            tdl_op_complete(n->op, n->was, closed_result(n));
        }
    }
    return 0;
}

/* relaxed by nature: true at some moment during the call */
/* A local channel has no lock, but other threads may look: at one word, as it was or as it is (its
 * owner's stores pair with nothing; what it says is old news by the time it is returned). */
TDL_NO_TSAN static uint32_t glance_len(const tdl_chan *ch) { return *(const volatile uint32_t *)&ch->count; }
TDL_NO_TSAN static int glance_closed(const tdl_chan *ch) { return *(const volatile uint8_t *)&ch->closed; }

uint32_t tdl_chan_len(tdl_chan *ch) {
    if (!ch || tdl_forked()) return 0;
    if (ch->local) return glance_len(ch);
    tdl_chan_lock(ch);
    uint32_t n = ch->count;
    tdl_chan_unlock(ch);
    return n;
}

uint32_t tdl_chan_cap(tdl_chan *ch) { return ch ? ch->cap : 0; }

int tdl_chan_closed(tdl_chan *ch) {
    if (!ch || tdl_forked()) return 0;
    if (ch->local) return glance_closed(ch);
    tdl_chan_lock(ch);
    int closed = ch->closed;
    tdl_chan_unlock(ch);
    return closed;
}
