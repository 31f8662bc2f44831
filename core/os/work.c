/* SPDX-License-Identifier: MIT
 *
 * The service threads. One is started when there is work and none is idle, up to
 * the limit; of names only half of the threads may be at work, so that name
 * servers that do not answer leave files their half. One that was idle for LINGER
 * ends.
 *
 * A thread that is idle counts among those that the deadlock detector knows to
 * sleep (sched/deadlock.c). Who wakes it takes it out of that count before, and
 * leaves a call: a thread wakes for one only. One that works is a thread of which
 * the detector knows nothing, so that nothing is said while a service is pending.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/work.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "sys/sys.h"

enum { DEFAULT_THREADS = 8, LEAST_THREADS = 2, MOST_THREADS = 256 };
#define LINGER (5 * TDL_SECOND)

tdl_lock tdl_work_lock = TDL_LOCK_INIT(RANK_OBJECT);

static struct {
    struct {
        tdl_work *head, **end; /* end NULL: nothing was ever queued */
    } q[WORK_KINDS];
    int running[WORK_KINDS];
    int threads, idle; /* idle: asleep, and no call is left for them */
    uint32_t calls;
    _Atomic uint32_t bell; /* futex: moves with each call */
    int limit;             /* 0: not asked for yet */
    int64_t live;
} pool;

/* -- How many ------------------------------------------------------------------ */

static int clamp(long n) { return n < LEAST_THREADS ? LEAST_THREADS : n > MOST_THREADS ? MOST_THREADS : (int)n; }

static int limit(void) {
    if (pool.limit == 0) {
        const char *text = getenv("TDL_IO_THREADS");
        long n = text ? strtol(text, NULL, 10) : 0;
        pool.limit = n > 0 ? clamp(n) : DEFAULT_THREADS;
    }
    return pool.limit;
}

int tdl_set_io_threads(int n) {
    if (tdl_forked()) return TDL_EFORKED;
    tdl_lock_take(&tdl_work_lock);
    int before = limit();
    if (n >= 1) pool.limit = clamp(n);
    tdl_unlock(&tdl_work_lock);
    return before;
}

int64_t tdl_work_live(void) {
    tdl_lock_take(&tdl_work_lock);
    int64_t n = pool.live;
    tdl_unlock(&tdl_work_lock);
    return n;
}

/* -- The queues, under the lock ----------------------------------------------------- */

static void push(tdl_work *w) {
    if (!pool.q[w->kind].end) pool.q[w->kind].end = &pool.q[w->kind].head;
    w->next = NULL;
    w->state = WORK_QUEUED;
    *pool.q[w->kind].end = w;
    pool.q[w->kind].end = &w->next;
    pool.live++;
}

static void unqueue(tdl_work *w) {
    tdl_work **at = &pool.q[w->kind].head;
    while (*at != w) at = &(*at)->next;
    *at = w->next;
    if (pool.q[w->kind].end == &w->next) pool.q[w->kind].end = at;
    pool.live--;
}

static bool names_may_run(void) { return pool.running[WORK_NAMES] < limit() / 2; }

static tdl_work *pop(void) {
    tdl_work *w = pool.q[WORK_FILES].head;
    if (pool.q[WORK_NAMES].head && names_may_run() && (!w || pool.running[WORK_NAMES] == 0)) w = pool.q[WORK_NAMES].head;
    if (!w) return NULL;
    if (!(pool.q[w->kind].head = w->next)) pool.q[w->kind].end = &pool.q[w->kind].head;
    w->state = WORK_RUNNING;
    pool.running[w->kind]++;
    return w;
}

/* -- A thread's life -------------------------------------------------------------- */

/* It has come to its end: who waited is told, and is its owner from then on. */
static void done(tdl_work *w) {
    tdl_op *op;
    uint32_t was = 0;
    tdl_lock_take(&tdl_work_lock);
    w->state = WORK_DONE;
    pool.running[w->kind]--;
    pool.live--;
    op = w->op;
    if (op) was = tdl_op_claim(op);
    tdl_unlock(&tdl_work_lock);
    if (!op) w->drop(w);
    if (was) tdl_op_complete(op, was, 0);
}

/* Waits for a call; false: there was none for long. Called and left with the lock. */
static bool rest(void) {
    int64_t until = tdl_sys_real.now() + LINGER; /* a simulation may change the other table meanwhile */
    pool.idle++;
    tdl_deadlock_rests();
    for (;;) {
        uint32_t bell = at_load_rlx(&pool.bell);
        tdl_unlock(&tdl_work_lock);
        int r = tdl_sys_real.futex_wait(&pool.bell, bell, until);
        tdl_lock_take(&tdl_work_lock);
        if (pool.calls > 0) {
            pool.calls--;
            return true;
        }
        if (r != -ETIMEDOUT) continue;
        pool.idle--;
        tdl_deadlock_leaves();
        return false;
    }
}

static void *thread_main(void *arg);

static int start_thread(void) {
    pthread_t thread;
    tdl_m *m = tdl_m_for_thread();
    int r = m ? tdl_sys.thread(thread_main, m, &thread) : TDL_ENOMEM;
    if (r == 0) {
        pthread_detach(thread);
        return 0;
    }
    tdl_sys.release(m);
    tdl_lock_take(&tdl_work_lock);
    pool.threads--;
    tdl_unlock(&tdl_work_lock);
    return r;
}

static void start_elsewhere(void *arg) {
    (void)arg;
    start_thread();
}

/* Somebody is to look at the queues; called with the lock, which it gives up. A code: there
 * is no thread, and none could be started. */
static int call_one(int kind) {
    if (pool.idle > 0) {
        pool.idle--;
        pool.calls++;
        tdl_deadlock_leaves(); /* on behalf of him who wakes */
        at_add_rlx(&pool.bell, 1);
        tdl_unlock(&tdl_work_lock);
        tdl_sys_real.futex_wake(&pool.bell, 1);
        return 0;
    }
    bool more = pool.threads < limit() && (kind != WORK_NAMES || names_may_run());
    bool only = pool.threads == 0;
    if (more) pool.threads++;
    tdl_unlock(&tdl_work_lock);
    if (!more) return 0;
    /* what a pinned goroutine has done to its thread would pass to one started there */
    if (at_load_rlx(&tdl_m_self()->pinned) && tdl_go(start_elsewhere, NULL)) return 0;
    int r = start_thread();
    return only ? r : 0;
}

static void *thread_main(void *arg) {
    tdl_m_become(arg);
    tdl_lock_take(&tdl_work_lock);
    while (pool.threads <= limit()) {
        tdl_work *w = pop();
        if (w) {
            tdl_unlock(&tdl_work_lock);
            w->run(w);
            done(w);
            tdl_lock_take(&tdl_work_lock);
        } else if (!rest()) {
            break;
        }
    }
    pool.threads--;
    int kind = pool.q[WORK_FILES].head ? WORK_FILES : WORK_NAMES;
    if (pool.q[kind].head)
        call_one(kind); /* one too many has left, and what it was called for is still to be done */
    else
        tdl_unlock(&tdl_work_lock);
    return NULL;
}

/* -- The op -------------------------------------------------------------------------- */

int64_t tdl_work_op(tdl_op *op, tdl_work *w, int64_t deadline, const tdl_op_class *cls) {
    int r = tdl_deadline_check(deadline);
    if (r == 0 && tdl_m_self()->bubble) r = TDL_ESIM;
    if (r < 0) {
        w->drop(w);
        return r;
    }
    tdl_op_begin(op, cls);
    op->node.object = w;
    w->op = op;
    tdl_lock_take(&tdl_work_lock);
    tdl_op_publish(op);
    if (w->waiters) tdl_queue_push(w->waiters, &op->node);
    push(w);
    r = call_one(w->kind);
    if (r < 0) { /* nobody will come: the owner claims his op himself, unless another has ended it */
        uint32_t was = tdl_op_claim(op);
        if (was) tdl_op_complete(op, was, r);
        return TDL_PENDING;
    }
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

/* The op is over; true: its work has been done, and was for it. */
static bool leave(tdl_op *op, tdl_work *w) {
    tdl_lock_take(&tdl_work_lock);
    if (w->waiters) tdl_queue_remove(&op->node);
    int state = w->state;
    w->op = NULL;
    if (state == WORK_QUEUED) unqueue(w);
    tdl_unlock(&tdl_work_lock);
    if (state == WORK_DONE && op->result == 0) return true;
    if (state != WORK_RUNNING) w->drop(w);
    return false;
}

int64_t tdl_work_finish(tdl_op *op) {
    tdl_work *w = op->node.object;
    if (!leave(op, w)) return op->result;
    int64_t r = w->deliver(w, op);
    w->drop(w);
    return r;
}

void tdl_work_abandon(tdl_op *op) {
    tdl_work *w = op->node.object;
    if (leave(op, w)) w->drop(w);
}
