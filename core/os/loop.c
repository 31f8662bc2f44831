/* SPDX-License-Identifier: MIT
 * The loop's thread. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/loop.h"

#include <pthread.h>

#include "sys/service.h"

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
    tdl_m_become(arg);
    uv_run(&us.loop, UV_RUN_DEFAULT);
    return NULL;
}

static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int started; /* under `starting`. Acquire reads without pair with the release: the loop is there */

static int init_async(uv_async_t *a, uv_async_cb fn) {
    int r = tdl_service(SERVICE_LOOP, NULL);
    return r < 0 ? r : uv_async_init(&us.loop, a, fn);
}

/* A loop that could not be started: the next call tries again. */
static void undo(int asyncs) {
    if (asyncs > 0) uv_close((uv_handle_t *)&us.called, NULL);
    if (asyncs > 1) {
        uv_close((uv_handle_t *)&us.rung, NULL);
        uv_close((uv_handle_t *)&us.before, NULL);
        uv_close((uv_handle_t *)&us.after, NULL);
    }
    uv_run(&us.loop, UV_RUN_DEFAULT);
    uv_loop_close(&us.loop);
}

/* With `starting`. */
static int start(void) {
    pthread_t thread;
    us.end = &us.first;
    int asyncs = 0, r = tdl_service(SERVICE_LOOP, NULL);
    if (r < 0 || (r = uv_loop_init(&us.loop)) < 0) return r;
    if ((r = init_async(&us.called, on_call)) < 0) goto failed;
    asyncs++;
    if ((r = init_async(&us.rung, on_ring)) < 0) goto failed;
    asyncs++;
    uv_prepare_init(&us.loop, &us.before);
    uv_prepare_start(&us.before, before_sleep);
    uv_check_init(&us.loop, &us.after);
    uv_check_start(&us.after, after_sleep);
    tdl_m *m = tdl_m_for_thread();
    r = m ? tdl_sys.thread(thread_main, m, &thread) : TDL_ENOMEM;
    if (r < 0) {
        tdl_sys.release(m);
        goto failed;
    }
    pthread_detach(thread);
    at_store_rel(&started, 1);
    return 0;
failed:
    undo(asyncs);
    return r;
}

static int start_once(void) {
    if (at_load_acq(&started)) return 0;
    pthread_mutex_lock(&starting);
    int r = at_load_rlx(&started) ? 0 : start();
    pthread_mutex_unlock(&starting);
    return r;
}

typedef struct elsewhere {
    tdl_waitgroup *wg;
    int r;
} elsewhere;

/* What a pinned goroutine has done to its thread would pass to one started there. */
static void start_elsewhere(void *arg) {
    elsewhere *e = arg;
    e->r = start_once();
    tdl_waitgroup_done(e->wg);
}

int tdl_loop_ready(void) {
    if (tdl_forked()) return TDL_EFORKED;
    if (tdl_m_self()->bubble) return TDL_ESIM;
    if (at_load_acq(&started)) return 0;
    elsewhere e = {at_load_rlx(&tdl_m_self()->pinned) ? tdl_waitgroup_new() : NULL, 0};
    if (e.wg && tdl_waitgroup_add(e.wg, 1) == 0 && tdl_go(start_elsewhere, &e)) {
        while (tdl_waitgroup_wait(e.wg) < 0) tdl_yield(); /* e is ours: also who is cancelled stays */
        tdl_waitgroup_free(e.wg);
        return e.r;
    }
    tdl_waitgroup_free(e.wg);
    return start_once();
}
