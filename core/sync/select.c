/* SPDX-License-Identifier: MIT
 *
 * Select, as Go does it: lock all channels in the order of their addresses,
 * look at the cases in random order, and if none can go ahead enlist on all
 * before unlocking. So a select is on every queue or on none when another
 * meets it, and one CAS on its op decides which case fires.
 *
 * The nodes of a few cases lie on the stack of who waits: he goes on only when all
 * channels' locks have been taken after the claim, so nobody comes to them late. A
 * hosted task has no stack while it waits; its nodes come from a list that its thread
 * keeps (tdl_m.rooms), as long as its tasks' own memory. Those of many cases are allocated.
 */
#include "sync/chan.h"
#include "sys/sys.h"

enum { MAX_CASES = 65535, FEW = TDL_SELECT_FEW, ON_STACK = 16 };

/* Scratch of one call: the order to look in, and the channels to lock. */
struct plan {
    uint16_t *order;
    tdl_chan **chans;
    int n, nchans;
};

static inline void shuffle(struct plan *p) {
    if (p->n > 0) p->order[0] = 0;
    for (int i = 1; i < p->n; i++) {
        int j = (int)tdl_random((uint32_t)i + 1);
        p->order[i] = p->order[j];
        p->order[j] = (uint16_t)i;
    }
}

/* Sorted by address, each once; insertion sort up to a few, heap sort would
 * pay only where nobody goes. */
static inline void sort_chans(struct plan *p, const tdl_case *cases) {
    p->nchans = 0;
    for (int i = 0; i < p->n; i++) {
        tdl_chan *ch = cases[i].chan;
        if (!ch) continue;
        int at = p->nchans;
        while (at > 0 && (uintptr_t)p->chans[at - 1] > (uintptr_t)ch) at--;
        if (at > 0 && p->chans[at - 1] == ch) continue;
        for (int k = p->nchans; k > at; k--) p->chans[k] = p->chans[k - 1];
        p->chans[at] = ch;
        p->nchans++;
    }
}

static inline void lock_all(struct plan *p) {
    for (int i = 0; i < p->nchans; i++) tdl_chan_lock(p->chans[i]);
}

static inline void unlock_all(struct plan *p) {
    for (int i = p->nchans; i-- > 0;) tdl_chan_unlock(p->chans[i]);
}

/* -- Room for the nodes ---------------------------------------------------------- */

static tdl_node *take_room(void) {
    tdl_m *m = tdl_m_self();
    tdl_node *room = m->rooms;
    if (TDL_UNLIKELY(!room)) return tdl_sys.alloc(FEW * sizeof *room);
    m->rooms = room->next;
    return room;
}

static inline void give_room(tdl_op *op) {
    tdl_node *room = op->u.sel.nodes;
    if (TDL_LIKELY(op->u.sel.n <= FEW)) {
        if (op->kind != OP_OF_TASK) return;
        tdl_m *m = tdl_m_self();
        room->next = m->rooms;
        m->rooms = room;
    } else {
        tdl_sys.release(room);
    }
}

void tdl_select_forget(tdl_m *m) {
    for (tdl_node *room; (room = m->rooms) != NULL;) {
        m->rooms = room->next;
        tdl_sys.release(room);
    }
}

/* -- Waiting ------------------------------------------------------------------- */

/* Off all queues but that of case `fired`, whose node its claimer has taken off:
 * nobody can find the op by that any more. */
static inline void unlist(tdl_op *op, int64_t fired) {
    for (int i = 0; i < op->u.sel.n; i++) {
        tdl_node *n = &op->u.sel.nodes[i];
        if (!n->object) continue;
        if (i != fired) tdl_chan_unlist(n);
        if (TDL_UNLIKELY(tdl_val_holds(&n->val))) tdl_val_drop(&n->val);
    }
    give_room(op);
}

static void leave(tdl_op *op) { unlist(op, -1); }

static int64_t finish(tdl_op *op) {
    unlist(op, op->result);
    return op->result;
}

static const tdl_op_class select_class = {"select", finish, leave};

/* Under all locks. */
static inline void enlist(tdl_op *op, const tdl_case *cases, int n) {
    bool local = true;
    for (int i = 0; i < n; i++) local &= !cases[i].chan || cases[i].chan->local;
    if (local)
        tdl_op_publish_own(op);
    else
        tdl_op_publish(op);
    for (int i = 0; i < n; i++) {
        tdl_node *node = &op->u.sel.nodes[i];
        tdl_chan *ch = cases[i].chan;
        node->op = op;
        node->object = ch;
        node->locks = ch && !ch->local;
        node->index = (uint16_t)i;
        node->queue = NULL;
        node->val.type = TDL_NIL;
        if (!ch) continue;
        if (cases[i].op == TDL_SEND) tdl_val_dup(&node->val, cases[i].val);
        tdl_queue_push(cases[i].op == TDL_SEND ? &ch->sendq : &ch->recvq, node);
    }
}

/* Under the lock: worth a try. */
static inline bool looks_ready(const tdl_chan *ch, int op) {
    if (op == TDL_SEND) return ch->count < ch->cap || ch->recvq.head || ch->closed;
    return ch->count || ch->sendq.head || ch->closed;
}

static int64_t select_with(tdl_op *op, const tdl_case *cases, int n, int64_t deadline, tdl_node *room, struct plan *p) {
    shuffle(p);
    sort_chans(p, cases);
    lock_all(p);
    tdl_val_nil(&op->out);
    for (int k = 0; k < n; k++) {
        int i = p->order[k];
        tdl_chan *ch = cases[i].chan;
        if (!ch || !looks_ready(ch, cases[i].op)) continue;
        tdl_wake wake;
        int r = cases[i].op == TDL_SEND ? tdl_chan_send_locked(ch, cases[i].val, &wake)
                                        : tdl_chan_recv_locked(ch, &op->out, &wake);
        if (r == TDL_EAGAIN) continue;
        unlock_all(p);
        tdl_wake_up(&wake);
        op->extra = r == 0;
        return i;
    }
    int r = deadline == TDL_FOREVER ? 0 : tdl_deadline_check(deadline);
    for (int i = 0; i < n && r == 0; i++)
        if (cases[i].chan) r = tdl_may_wait(tdl_chan_bubble(cases[i].chan));
    if (r == 0) {
        tdl_op_begin(op, &select_class);
        op->u.sel.n = n;
        op->u.sel.nodes = n > FEW ? tdl_sys.alloc((size_t)n * sizeof(tdl_node)) : room ? room : take_room();
        if (!op->u.sel.nodes) r = TDL_ENOMEM;
    }
    if (r != 0) {
        unlock_all(p);
        return r;
    }
    enlist(op, cases, n);
    unlock_all(p);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

int64_t tdl_select_op(tdl_op *op, const tdl_case *cases, int n, int64_t deadline, tdl_node *room) {
    if (n < 0 || n > MAX_CASES || (n > 0 && !cases)) return TDL_EINVAL;
    for (int i = 0; i < n; i++) {
        if (cases[i].op != TDL_SEND && cases[i].op != TDL_RECV) return TDL_EINVAL;
        if (tdl_chan_check(cases[i].chan)) return tdl_chan_refuses(cases[i].chan);
        if (cases[i].op == TDL_SEND && (!cases[i].val || !tdl_chan_carries(cases[i].chan, cases[i].val)))
            return TDL_EINVAL;
    }
    uint16_t order[ON_STACK];
    tdl_chan *chans[ON_STACK];
    struct plan p = {order, chans, n, 0};
    if (n <= ON_STACK) return select_with(op, cases, n, deadline, room, &p);
    p.chans = tdl_sys.alloc((size_t)n * (sizeof *p.chans + sizeof *p.order));
    if (!p.chans) return TDL_ENOMEM;
    p.order = (uint16_t *)(p.chans + n);
    int64_t r = select_with(op, cases, n, deadline, room, &p);
    tdl_sys.release(p.chans);
    return r;
}

/* -- The public form -------------------------------------------------------------- */

int tdl_select(tdl_case *cases, int n, int64_t deadline) {
    tdl_op once, *op = &once; /* TDL_NOWAIT never enlists */
    if (deadline != TDL_NOWAIT) {
        int code;
        op = tdl_caller_op(&code);
        if (TDL_UNLIKELY(!op)) return code;
    } else if (tdl_forked()) {
        return TDL_EFORKED;
    }
    tdl_node room[FEW];
    int64_t r = tdl_select_op(op, cases, n, deadline, room);
    if (r == TDL_PENDING) r = tdl_op_wait(op);
    if (r < 0) return (int)r;
    tdl_case *fired = &cases[r];
    fired->ok = (int)op->extra;
    if (fired->op == TDL_RECV && fired->val)
        tdl_val_move(fired->val, &op->out); /* op->out is nil between operations */
    else
        tdl_val_clear(&op->out);
    return (int)r;
}
