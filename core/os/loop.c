/* SPDX-License-Identifier: MIT
 * The loop's thread. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/loop.h"

#include <pthread.h>

#include "sys/sys.h"

static tdl_lock lock = TDL_LOCK_INIT(RANK_OBJECT);
static struct {
    uv_loop_t loop;
    uv_async_t called, rung;
    uv_prepare_t before;
    uv_check_t after;
    tdl_loop_call *first, **end; /* under lock */
    int active;                  /* under lock */
    bool resting;                /* under lock: asleep, and counted as one who brings nothing */
} us;

/* -- Resting, under the lock ---------------------------------------------------------- */

static void rest(bool so) {
    if (us.resting == so) return;
    us.resting = so;
    if (so)
        tdl_deadlock_rests();
    else
        tdl_deadlock_leaves();
}

static void before_sleep(uv_prepare_t *h) {
    (void)h;
    tdl_lock_take(&lock);
    if (us.active == 0 && !us.first) rest(true);
    tdl_unlock(&lock);
}

static void after_sleep(uv_check_t *h) {
    (void)h;
    tdl_lock_take(&lock);
    rest(false);
    tdl_unlock(&lock);
}

/* Before the thread may sleep again, or even wakes: nobody is to take it for asleep. */
void tdl_loop_active(int change) {
    tdl_lock_take(&lock);
    us.active += change;
    rest(false);
    tdl_unlock(&lock);
}

/* -- Calls -------------------------------------------------------------------------------- */

static void on_call(uv_async_t *h) {
    tdl_lock_take(&lock);
    tdl_loop_call *c = us.first;
    us.first = NULL;
    us.end = &us.first;
    tdl_unlock(&lock);
    while (c) {
        tdl_loop_call *next = c->next;
        c->fn(c, h->loop);
        c = next;
    }
}

static void on_ring(uv_async_t *h) {
    (void)h;
    tdl_signals_deliver();
}

void tdl_loop_send(tdl_loop_call *c) {
    c->next = NULL;
    tdl_lock_take(&lock);
    *us.end = c;
    us.end = &c->next;
    rest(false);
    tdl_unlock(&lock);
    uv_async_send(&us.called);
}

void tdl_loop_ring(void) { uv_async_send(&us.rung); }

/* -- The thread ------------------------------------------------------------------------------- */

static void *thread_main(void *arg) {
    uv_run(&us.loop, UV_RUN_DEFAULT);
    return arg;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int ready;

static void start(void) {
    pthread_t thread;
    us.end = &us.first;
    if ((ready = uv_loop_init(&us.loop)) < 0) return;
    if ((ready = uv_async_init(&us.loop, &us.called, on_call)) < 0) return;
    if ((ready = uv_async_init(&us.loop, &us.rung, on_ring)) < 0) return;
    uv_prepare_init(&us.loop, &us.before);
    uv_prepare_start(&us.before, before_sleep);
    uv_check_init(&us.loop, &us.after);
    uv_check_start(&us.after, after_sleep);
    if ((ready = tdl_sys.thread(thread_main, NULL, &thread)) == 0) pthread_detach(thread);
}

/* What a pinned goroutine has done to its thread would pass to one started there. */
static void start_elsewhere(void *arg) {
    pthread_once(&once, start);
    tdl_waitgroup_done(arg);
}

int tdl_loop_ready(void) {
    if (tdl_forked()) return TDL_EFORKED;
    if (tdl_m_self()->bubble) return TDL_ESIM;
    tdl_waitgroup *wg = at_load_rlx(&tdl_m_self()->pinned) ? tdl_waitgroup_new() : NULL;
    if (wg && tdl_waitgroup_add(wg, 1) == 0 && tdl_go(start_elsewhere, wg)) {
        tdl_waitgroup_wait(wg);
        tdl_waitgroup_free(wg);
        return ready;
    }
    tdl_waitgroup_free(wg);
    pthread_once(&once, start);
    return ready;
}
