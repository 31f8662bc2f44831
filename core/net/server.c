/* SPDX-License-Identifier: MIT
 *
 * Servers: connections that wait for their next request without a goroutine.
 *
 * Nobody waits for a parked connection, and nobody accepts: the poller of the
 * listener, and of the connection, calls tdl_server_incoming and
 * tdl_served_arrived when there is something to do.
 *
 * Whose a connection is, in c->served, under the server's lock:
 *   NEW    the poller's that has accepted it
 *   IDLE   the server's: parked, or about to be
 *   READY  the server's: in the queue of those that tdl_server_next hands out
 *   BUSY   the handler's goroutine's, or the caller's of tdl_server_next
 *   GONE   closed. Its handle was the server's and is given back; or it was busy:
 *          then it is still to be given back by whose it is
 * The closing of its descriptor, by whomever, makes it GONE (tdl_served_closing):
 * once, and it counts in `conns` until then. Who gives a busy one back parks it
 * after it was made IDLE, and looks at it again only as a user of its descriptor,
 * which keeps its memory.
 *
 * refs: the handle, each listener's and connection's memory, and each handler's goroutine.
 *
 * A handler's goroutine is on the list `handlers` as long as it may be cancelled: it takes the
 * lock before it ends. Only the end of a run ends one otherwise; its memory is dead
 * then, or has another number, and what it had is given back when the server is closed.
 */
#include <errno.h>

#include "net/net.h"
#include "net/tls.h"
#include "sys/pool.h"
#include "sys/sys.h"

enum { NEW, IDLE, READY, BUSY, GONE };
enum { LISTENERS_MAX = 1024, ACCEPTS = 64 /* before others have a turn */, PROBE = 256, SPARE = 256 };
static const int64_t STARVED_NS = 10 * TDL_MILLISECOND;

#ifndef TDL_LOCK_RANKS
/* What a parked connection takes, with the pool's word and its place in the free list. */
_Static_assert(sizeof(tdl_pd) + sizeof(tdl_conn) + 16 <= 300, "a parked connection is small");
#endif

struct tdl_server {
    tdl_lock lock;
    bool closing; /* shut down: nothing is parked any more */
    bool full;    /* a listener waits for conns to go below the limit */
    _Atomic uint32_t refs; /* the last decrement sees all before it */
    bool over;    /* everything is closed, and the handlers are cancelled */
    uint32_t conns, busy, running; /* running: handlers' goroutines */
    struct served *handlers, *spare; /* spare: of those that have ended, SPARE at most */
    uint32_t nspare;
    uint32_t limit;
    int64_t idle_timeout;
    int64_t accepted, timeouts, starved;
    tdl_handler handler;
    void *arg;
    tdl_listener **l; /* set once */
    int nl;
    tdl_queue next;     /* those who wait for a connection */
    tdl_queue shutdown; /* and those who wait for the end */
    tdl_conn **ready;   /* a ring of READY ones */
    uint32_t first, nready, cap;
};

/* A handler's goroutine; or one to be, among `spare`. */
struct served {
    tdl_conn *conn; /* as long as it is the handler's */
    tdl_g *g;
    uint64_t id;
    struct served *next, **at;
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_server);

/* -- References ---------------------------------------------------------------------- */

static void ref(tdl_server *s) { at_add_rlx(&s->refs, 1); }

static void unref(tdl_server *s) {
    if (at_sub_seq(&s->refs, 1) != 1) return;
    for (struct served *h = s->spare, *next; h; h = next) {
        next = h->next;
        tdl_sys.release(h);
    }
    tdl_sys.release(s->l);
    tdl_sys.release(s->ready);
    tdl_pool_give(&pool, s);
}

void tdl_server_hold(tdl_server *s) { ref(s); }
void tdl_served_gone(tdl_server *s) { unref(s); }

/* Those who wait for the end, if this is it; under the lock, to be completed without. */
static tdl_node *ended(tdl_server *s) {
    return s->closing && s->conns == 0 && s->running == 0 ? tdl_queue_claim_all(&s->shutdown) : NULL;
}

/* -- The queue of ready ones, under the lock -------------------------------------------- */

static bool ready_put(tdl_server *s, tdl_conn *c) {
    if (s->nready == s->cap) {
        uint32_t cap = s->cap ? 2 * s->cap : 16;
        tdl_conn **ring = tdl_sys.alloc(cap * sizeof *ring);
        if (!ring) return false;
        for (uint32_t i = 0; i < s->nready; i++) ring[i] = s->ready[(s->first + i) % s->cap];
        tdl_sys.release(s->ready);
        s->ready = ring;
        s->cap = cap;
        s->first = 0;
    }
    s->ready[(s->first + s->nready++) % s->cap] = c;
    return true;
}

static tdl_conn *ready_take(tdl_server *s) {
    if (s->nready == 0) return NULL;
    tdl_conn *c = s->ready[s->first];
    s->first = (s->first + 1) % s->cap;
    s->nready--;
    return c;
}

static void ready_remove(tdl_server *s, tdl_conn *c) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->nready; i++) {
        tdl_conn *other = s->ready[(s->first + i) % s->cap];
        if (other != c) s->ready[(s->first + kept++) % s->cap] = other;
    }
    s->nready = kept;
}

/* -- Closing of a connection -------------------------------------------------------------- */

void tdl_served_closing(void *object) {
    tdl_conn *c = object;
    tdl_server *s = c->server;
    ref(s);
    tdl_lock_take(&s->lock);
    uint8_t was = c->served;
    c->served = GONE;
    s->conns--;
    if (was == READY || was == BUSY) s->busy--;
    if (was == READY) ready_remove(s, c);
    for (int i = 0; s->full && i < s->nl; i++) tdl_pd_unpark_soon(tdl_listener_pd(s->l[i]));
    s->full = false;
    tdl_node *over = ended(s);
    tdl_unlock(&s->lock);
    tdl_complete_all(over, 0);
    if (was == IDLE || was == READY) tdl_conn_free(c);
    unref(s);
}

/* -- Serving ----------------------------------------------------------------------------------- */

static bool is_closing(tdl_server *s) {
    tdl_lock_take(&s->lock);
    bool closing = s->closing;
    tdl_unlock(&s->lock);
    return closing;
}

static int park(tdl_conn *c);
static void serve(tdl_server *s, tdl_conn *c);

/* Under the lock; what is to be released without it, or NULL. */
static struct served *put_aside(tdl_server *s, struct served *h) {
    if (s->nspare == SPARE) return h;
    h->next = s->spare;
    s->spare = h;
    s->nspare++;
    return NULL;
}

static void begins(tdl_server *s, struct served *h) {
    h->g = tdl_m_self()->g;
    h->id = h->g->id;
    tdl_lock_take(&s->lock);
    h->next = s->handlers;
    if (h->next) h->next->at = &h->next;
    h->at = &s->handlers;
    s->handlers = h;
    if (s->over) tdl_g_cancel(h->g);
    tdl_unlock(&s->lock);
}

static void unlist(struct served *h) {
    *h->at = h->next;
    if (h->next) h->next->at = h->at;
}

/* The memory of a goroutine is stable; one that lives is the one that we listed. */
TDL_NO_TSAN static bool lives(const struct served *h) {
    return at_load_acq(&h->g->status) != G_DEAD && h->g->id == h->id;
}

/* The caller's own goroutine is left alone: it has more to do. */
static void cancel_handlers(tdl_server *s) {
    const tdl_g *self = tdl_m_self()->g;
    struct served *dead = NULL, *next;
    tdl_lock_take(&s->lock);
    s->over = true;
    for (struct served *h = s->handlers; h; h = next) {
        next = h->next;
        if (lives(h)) {
            if (h->g != self) tdl_g_cancel(h->g);
            continue;
        }
        unlist(h);
        s->running--;
        h->next = dead;
        dead = h;
    }
    tdl_unlock(&s->lock);
    for (; dead; dead = next) {
        next = dead->next;
        tdl_conn_free(dead->conn);
        tdl_sys.release(dead);
        unref(s);
    }
}

static void run_handler(void *arg) {
    struct served *h = arg;
    tdl_conn *c = h->conn;
    tdl_server *s = c->server;
    int rounds = 0;
    begins(s, h);
    do {
        h->conn = c;
        if (++rounds % 16 == 0) tdl_yield();
        s->handler(c, s->arg);
        h->conn = NULL;
    } while (park(c) == 1);
    tdl_lock_take(&s->lock);
    unlist(h);
    h = put_aside(s, h);
    s->running--;
    tdl_node *over = ended(s);
    tdl_unlock(&s->lock);
    tdl_sys.release(h);
    tdl_complete_all(over, 0);
    unref(s);
}

/* A connection that is ours, and BUSY, cannot be served now: later. */
static void later(tdl_server *s, tdl_conn *c) {
    tdl_lock_take(&s->lock);
    bool ours = c->served == BUSY;
    if (ours) {
        c->served = IDLE;
        s->busy--;
        s->starved++;
    }
    tdl_unlock(&s->lock);
    if (!ours)
        tdl_conn_free(c);
    else if (tdl_pd_park(c->pd, 0, tdl_sys.now() + STARVED_NS) < 0)
        tdl_conn_close(c);
}

/* c is BUSY, and ours; its caller is a user of the descriptor. */
static void serve_by_goroutine(tdl_server *s, tdl_conn *c) {
    tdl_lock_take(&s->lock);
    s->running++;
    struct served *h = s->spare;
    if (h) {
        s->spare = h->next;
        s->nspare--;
    }
    tdl_unlock(&s->lock);
    ref(s);
    if (h || (h = tdl_sys.alloc(sizeof *h)) != NULL) {
        h->conn = c;
        if (tdl_go(run_handler, h)) return;
        tdl_sys.release(h);
    }
    later(s, c);
    tdl_lock_take(&s->lock);
    s->running--;
    tdl_node *over = ended(s);
    tdl_unlock(&s->lock);
    tdl_complete_all(over, 0);
    unref(s);
}

/* The same for one that somebody asks for. */
static void serve_by_next(tdl_server *s, tdl_conn *c) {
    uint32_t was;
    bool lost = false;
    tdl_lock_take(&s->lock);
    if (c->served != BUSY || s->closing) { /* nobody asks for the next any more */
        tdl_unlock(&s->lock);
        tdl_conn_free(c);
        return;
    }
    tdl_node *n = tdl_queue_claim(&s->next, &was);
    if (n) {
        tdl_val_set_ptr(&n->op->out, c);
    } else {
        c->served = READY;
        lost = !ready_put(s, c);
    }
    tdl_unlock(&s->lock);
    if (n) tdl_op_complete(n->op, was, 0);
    if (lost) tdl_conn_close(c);
}

static void serve(tdl_server *s, tdl_conn *c) {
    if (s->handler)
        serve_by_goroutine(s, c);
    else
        serve_by_next(s, c);
}

/* A parked stream has ended: is there anything left to serve? What came before the
 * end is put into its buffer. */
static bool anything_left(tdl_conn *c) {
    char bytes[PROBE];
    int64_t r;
    if (tdl_buffer_len(&c->in)) return true;
    if (c->kind != CONN_SOCKET) return true;
    do
        r = tdl_conn_take(c, bytes, sizeof bytes);
    while (r == -EINTR || (r == -EAGAIN && tdl_sys.owed && tdl_sys.owed()));
    if (r == 0 || (r < 0 && r != -EAGAIN)) return false;
    if (r > 0) {
        if (tdl_buffer_room(&c->in, (size_t)r) == 0) return false;
        for (int64_t i = 0; i < r; i++) tdl_buffer_end(&c->in)[i] = bytes[i];
        tdl_buffer_add(&c->in, (size_t)r);
        c->pd->dir[PD_READ].keep = 1; /* ours: nobody owns the direction of an idle one */
    }
    return true;
}

static bool is_buffered(tdl_conn *c) { return tdl_buffer_len(&c->in) || (c->kind == CONN_TLS && tdl_tls_pending(c)); }

/* An injected "not yet" is asked again here: no event would follow it, and who was served
 * because of it would be so for nothing. */
static bool is_readable(tdl_conn *c) {
    int r;
    do
        r = tdl_pd_readable(c->pd);
    while (r == 0 && tdl_sys.owed && tdl_sys.owed());
    return r != 0;
}

/* One that is as good as parked; true: it is, again, or somebody else's. */
static bool park_again(tdl_server *s, tdl_conn *c) {
    int64_t deadline = s->idle_timeout ? tdl_sys.now() + s->idle_timeout : 0;
    tdl_pd_take_ready(c->pd, PD_READ);
    if (is_readable(c) || tdl_pd_park(c->pd, deadline, 0) != 0) return false;
    if (is_closing(s) && tdl_pd_unpark(c->pd)) tdl_conn_close(c); /* who closes the parked ones has perhaps passed */
    return true;
}

/* Injected events come late and twice: has this one told of what was read before? Others that do
 * so are rare, and asking would cost each request a call: who is served for nothing then waits. */
static bool is_deceived(tdl_conn *c) {
    return TDL_UNLIKELY(tdl_sys.owed != NULL) && !is_buffered(c) && !is_readable(c);
}

/* In the poller of the connection. */
void tdl_served_arrived(void *object, bool hup, int why) {
    tdl_conn *c = object;
    tdl_server *s = c->server;
    bool over = why == TDL_ETIMEDOUT;
    if (!over && !hup && is_deceived(c) && park_again(s, c)) return;
    tdl_lock_take(&s->lock);
    bool idle = c->served == IDLE;
    s->timeouts += idle && over;
    over |= s->closing;
    if (idle && !over) {
        c->served = BUSY;
        s->busy++;
    }
    tdl_unlock(&s->lock);
    if (!idle) return; /* it is being closed */
    if (over) {
        tdl_conn_close(c);
    } else if (hup && !anything_left(c)) {
        tdl_conn_free(c);
    } else {
        serve(s, c);
    }
}

/* -- Parking ------------------------------------------------------------------------------------- */

/* Is there something to read, so that it need not be parked? An event that comes
 * after this look is seen by tdl_pd_park. */
static bool more(tdl_conn *c) {
    if (is_buffered(c)) return true;
    if (tdl_pd_take_ready(c->pd, PD_READ) <= 0) return false;
    bool yes = is_readable(c);
    if (yes) tdl_pd_put_ready(c->pd, PD_READ);
    return yes;
}

/* Makes a BUSY one, which is the caller's, idle. 0, or -1: it is closed, or to be. */
static int make_idle(tdl_server *s, tdl_conn *c) {
    tdl_lock_take(&s->lock);
    int r = s->closing || c->served != BUSY ? -1 : 0;
    if (r == 0) {
        c->served = IDLE;
        s->busy--;
    }
    tdl_unlock(&s->lock);
    return r;
}

static bool make_busy(tdl_server *s, tdl_conn *c) {
    tdl_lock_take(&s->lock);
    bool idle = c->served == IDLE;
    if (idle) {
        c->served = BUSY;
        s->busy++;
    }
    tdl_unlock(&s->lock);
    return idle;
}

/* The caller's connection c, which is BUSY, is the server's: parked, or closed. 1: it
 * is still the caller's, as there is more to read. The caller keeps the server. */
static int park(tdl_conn *c) {
    tdl_server *s = c->server;
    tdl_pd *pd = c->pd;
    if (tdl_pd_enter_plain(pd) < 0) {
        tdl_conn_free(c);
        return 0;
    }
    int r = -1;
    bool still = true; /* the caller's */
    if (is_closing(s)) {
    } else if (more(c)) {
        r = 1;
    } else if (make_idle(s, c) == 0) {
        int64_t deadline = s->idle_timeout ? tdl_sys.now() + s->idle_timeout : 0;
        r = tdl_pd_park(pd, deadline, 0);
        if (r == 1) {
            r = make_busy(s, c) ? 1 : 0;
        } else {
            still = false;
            /* who closes the parked ones has perhaps passed already */
            if (r < 0 || (is_closing(s) && tdl_pd_unpark(pd))) tdl_conn_close(c);
            r = 0;
        }
    }
    tdl_pd_leave_plain(pd);
    if (r < 0 && still) {
        tdl_conn_free(c);
        r = 0;
    }
    return r;
}

int tdl_server_park(tdl_conn *c) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!c || c->kind == CONN_MEMORY || !c->server || c->server->handler) return TDL_EINVAL;
    tdl_server *s = c->server;
    ref(s);
    if (park(c) == 1) serve(s, c);
    unref(s);
    return 0;
}

/* -- Accepting ------------------------------------------------------------------------------------ */

/* A place for one more. */
static bool admit(tdl_server *s) {
    tdl_lock_take(&s->lock);
    bool yes = !s->closing && (!s->limit || s->conns < s->limit);
    if (yes) {
        s->conns++;
        ref(s);
    } else {
        s->full = true;
    }
    tdl_unlock(&s->lock);
    return yes;
}

/* The place was not needed. */
static void dismiss(tdl_server *s, bool starved) {
    tdl_lock_take(&s->lock);
    s->conns--;
    s->starved += starved;
    tdl_node *over = ended(s);
    tdl_unlock(&s->lock);
    tdl_complete_all(over, 0);
    unref(s);
}

/* Parks a connection that was just accepted. */
static void receive(tdl_server *s, tdl_conn *c) {
    int64_t deadline = s->idle_timeout ? tdl_sys.now() + s->idle_timeout : 0;
    tdl_pd *pd = c->pd;
    bool open = tdl_pd_enter_plain(pd) == 0, gone;
    tdl_lock_take(&s->lock);
    s->accepted++;
    gone = c->served == GONE;
    if (open && !gone) c->served = IDLE;
    tdl_unlock(&s->lock);
    if (!open || gone) {
        if (open) tdl_pd_leave_plain(pd);
        tdl_conn_free(c);
        return;
    }
    int r = tdl_pd_park(pd, deadline, 0);
    if (r == 1)
        tdl_served_arrived(c, false, 0);
    else if (r < 0 || (is_closing(s) && tdl_pd_unpark(pd)))
        tdl_conn_close(c);
    tdl_pd_leave_plain(pd);
}

/* Accepts a few. When it is to go on: 0: with the next event; a time. */
static int64_t accept_some(tdl_server *s, tdl_listener *l) {
    for (int i = 0; i < ACCEPTS; i++) {
        tdl_conn *c;
        if (!admit(s)) return 0;
        int r = tdl_listener_take(l, s, &c);
        if (r == 0) {
            receive(s, c);
            continue;
        }
        dismiss(s, r != -EAGAIN && r != TDL_ECLOSED);
        if (r != -EAGAIN) return tdl_sys.now() + STARVED_NS;
        int64_t late = tdl_sys.owed ? tdl_sys.owed() : 0; /* an injected one: no event will follow */
        return late ? tdl_sys.now() + late : 0;
    }
    return 1;
}

/* In the poller of the listener, which is kept open meanwhile. */
void tdl_server_incoming(tdl_server *s, tdl_listener *l) {
    tdl_pd *pd = tdl_listener_pd(l);
    do {
        tdl_pd_take_ready(pd, PD_READ);
        int64_t when = accept_some(s, l);
        if (tdl_pd_park(pd, 0, when) != 1) break;
    } while (!is_closing(s));
    tdl_lock_take(&s->lock); /* one may have gone before the listener was parked */
    bool again = s->full && !s->closing && s->conns < s->limit;
    if (again) s->full = false;
    tdl_unlock(&s->lock);
    if (again) tdl_pd_unpark_soon(pd);
}

/* -- Beginning and end ----------------------------------------------------------------------------- */

static bool is_parked_here(const tdl_pd *pd, void *s) {
    return pd->parked && pd->kind->closing == tdl_served_closing && ((const tdl_conn *)pd->object)->server == s;
}

static bool is_here(const tdl_pd *pd, void *s) {
    return pd->kind->closing == tdl_served_closing && ((const tdl_conn *)pd->object)->server == s;
}

static void close_parked(void *object, void *s) {
    tdl_conn *c = object;
    (void)s;
    if (tdl_pd_unpark(c->pd)) tdl_conn_close(c);
}

static void close_any(void *object, void *s) {
    (void)s;
    tdl_conn_close(object);
}

/* Takes all listeners over, or none. */
static int take_over(tdl_server *s, tdl_listener *const *l, int n) {
    int r = 0, taken = 0;
    for (; taken < n && r == 0; taken += r == 0) {
        ref(s);
        if ((r = tdl_listener_serve(l[taken], s)) < 0) unref(s);
        s->l[taken] = l[taken];
    }
    s->nl = taken;
    /* what is beyond the limit stays in the backlog */
    for (int i = 0; i < n && r == 0 && s->limit; i++) tdl_pd_plain(tdl_listener_pd(l[i]));
    for (int i = 0; i < n && r == 0; i++) r = tdl_pd_park(tdl_listener_pd(l[i]), 0, 1); /* and accepts at once */
    if (r == 0) return 0;
    tdl_lock_take(&s->lock);
    s->closing = true;
    s->nl = 0;
    tdl_unlock(&s->lock);
    for (int i = 0; i < taken; i++) {
        tdl_pd_unpark(tdl_listener_pd(l[i]));
        tdl_listener_serve(l[i], NULL);
        unref(s);
    }
    tdl_pd_each(is_here, close_any, s);
    return r;
}

int tdl_server_new(tdl_listener *const *l, int n, const tdl_server_options *o, tdl_server **out) {
    if (!out) return TDL_EINVAL;
    *out = NULL;
    if (tdl_forked()) return TDL_EFORKED;
    if (!l || n < 1 || n > LISTENERS_MAX) return TDL_EINVAL;
    if (o && (o->size != sizeof *o || o->idle_timeout < 0)) return TDL_EINVAL;
    for (int i = 0; i < n; i++)
        if (!l[i]) return TDL_EINVAL;
    tdl_server *s = tdl_pool_take(&pool);
    if (!s) return TDL_ENOMEM;
    if (!(s->l = tdl_sys.alloc((size_t)n * sizeof *s->l))) {
        tdl_pool_give(&pool, s);
        return TDL_ENOMEM;
    }
    at_store_rlx(&s->refs, 1);
    if (o) {
        s->limit = o->max_conns;
        s->idle_timeout = o->idle_timeout;
        s->handler = o->handler;
        s->arg = o->arg;
    }
    int r = take_over(s, l, n);
    if (r < 0) {
        unref(s);
        return r;
    }
    *out = s;
    return 0;
}

/* No more connections, and none that waits for a request. */
static void stop_accepting(tdl_server *s) {
    tdl_lock_take(&s->lock);
    bool first = !s->closing;
    s->closing = true;
    tdl_node *waiting = s->nready ? NULL : tdl_queue_claim_all(&s->next);
    tdl_unlock(&s->lock);
    tdl_complete_all(waiting, TDL_ECLOSED);
    if (!first) return;
    for (int i = 0; i < s->nl; i++) tdl_listener_close(s->l[i]);
    tdl_pd_each(is_parked_here, close_parked, s);
}

int tdl_server_close(tdl_server *s) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!s) return TDL_EINVAL;
    stop_accepting(s);
    cancel_handlers(s); /* before their connections are closed: so that is what they are told */
    tdl_pd_each(is_here, close_any, s);
    tdl_lock_take(&s->lock);
    tdl_node *waiting = tdl_queue_claim_all(&s->next);
    tdl_node *over = ended(s);
    tdl_unlock(&s->lock);
    tdl_complete_all(waiting, TDL_ECLOSED);
    tdl_complete_all(over, 0);
    return 0;
}

void tdl_server_free(tdl_server *s) {
    if (!s || tdl_server_close(s) < 0) return;
    tdl_lock_take(&s->lock);
    int n = s->nl;
    s->nl = 0; /* whoever is still closing a connection asks for no listener any more */
    tdl_unlock(&s->lock);
    for (int i = 0; i < n; i++) tdl_listener_free(s->l[i]);
    unref(s);
}

/* -- Waiting for a connection ----------------------------------------------------------------------- */

static void leave(tdl_op *op) {
    tdl_server *s = op->node.object;
    tdl_lock_take(&s->lock);
    tdl_queue_remove(&op->node);
    tdl_unlock(&s->lock);
    unref(s);
}

static int64_t next_finish(tdl_op *op) {
    leave(op);
    return op->result;
}

static void next_abandon(tdl_op *op) {
    tdl_conn *c = op->result == 0 ? tdl_val_ptr(&op->out) : NULL;
    tdl_val_set_nil(&op->out);
    if (c) tdl_conn_free(c);
    leave(op);
}

static const tdl_op_class next_class = {"server wait", next_finish, next_abandon};

/* Under the lock, which is given up. */
static int64_t enlist(tdl_op *op, tdl_server *s, tdl_queue *q, const tdl_op_class *cls, int64_t deadline) {
    int r = tdl_deadline_check(deadline);
    if (r == 0) r = tdl_may_wait(tdl_pool_bubble(&pool, s));
    if (r != 0) {
        tdl_unlock(&s->lock);
        return r;
    }
    ref(s);
    tdl_op_begin(op, cls);
    op->node.object = s;
    tdl_op_publish(op);
    tdl_queue_push(q, &op->node);
    tdl_unlock(&s->lock);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

int64_t tdl_server_next_op(tdl_op *op, tdl_server *s, int64_t deadline) {
    if (!s || s->handler) return TDL_EINVAL;
    tdl_val_set_nil(&op->out);
    tdl_lock_take(&s->lock);
    tdl_conn *c = ready_take(s);
    if (c) c->served = BUSY;
    bool over = s->closing && s->nready == 0;
    if (!c && !over) return enlist(op, s, &s->next, &next_class, deadline);
    tdl_node *waiting = c && over ? tdl_queue_claim_all(&s->next) : NULL;
    tdl_unlock(&s->lock);
    tdl_complete_all(waiting, TDL_ECLOSED);
    if (!c) return TDL_ECLOSED;
    tdl_val_set_ptr(&op->out, c);
    return 0;
}

int tdl_server_next(tdl_server *s, int64_t deadline, tdl_conn **c) {
    int code;
    if (!c) return TDL_EINVAL;
    *c = NULL;
    tdl_op *op = tdl_caller_op(&code);
    if (TDL_UNLIKELY(!op)) return code;
    int64_t r = tdl_server_next_op(op, s, deadline);
    if (r == TDL_PENDING) r = tdl_op_wait(op);
    if (r == 0) *c = tdl_val_ptr(&op->out);
    return (int)r;
}

/* -- Waiting for the end ------------------------------------------------------------------------------ */

static int64_t shutdown_finish(tdl_op *op) {
    if (op->result == TDL_ETIMEDOUT) tdl_server_close(op->node.object);
    leave(op);
    return op->result;
}

static void shutdown_abandon(tdl_op *op) { leave(op); }

static const tdl_op_class shutdown_class = {"server shutdown", shutdown_finish, shutdown_abandon};

int64_t tdl_server_shutdown_op(tdl_op *op, tdl_server *s, int64_t deadline) {
    if (!s) return TDL_EINVAL;
    stop_accepting(s);
    tdl_lock_take(&s->lock);
    if (s->conns == 0 && s->running == 0) {
        tdl_unlock(&s->lock);
        return 0;
    }
    int64_t r = enlist(op, s, &s->shutdown, &shutdown_class, deadline);
    if (r != TDL_ETIMEDOUT && r != TDL_EAGAIN) return r;
    tdl_server_close(s);
    return TDL_ETIMEDOUT;
}

int tdl_server_shutdown(tdl_server *s, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_server_shutdown_op(op, s, deadline));
}

/* -- Numbers --------------------------------------------------------------------------------------------- */

int64_t tdl_server_stat(tdl_server *s, int what) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!s || what < TDL_SERVER_CONNS || what > TDL_SERVER_STARVED) return TDL_EINVAL;
    tdl_lock_take(&s->lock);
    int64_t of[] = {s->conns, s->busy, s->accepted, s->timeouts, s->starved};
    tdl_unlock(&s->lock);
    return of[what];
}
