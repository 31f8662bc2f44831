/* SPDX-License-Identifier: MIT
 * A host that closes while its tasks had been given something that was not
 * delivered yet: it goes on to others. */
#include "check.h"

#include <unistd.h>

/* The main thread is a host here, and cannot wait by treadle. */
static void let_thread_park(void) { usleep(100000); }

static tdl_host *open_host(uint32_t *task) {
    tdl_host *h = NULL;
    CHECK_RC(tdl_host_open("closing", &h), 0);
    *task = (uint32_t)tdl_task_new(h, 0);
    return h;
}

TEST(semaphore, "H12 permits granted to a task of a host that closes are back") {
    uint32_t  task;
    tdl_sema *s = tdl_sema_new(0);
    tdl_host *h = open_host(&task);
    CHECK_RC(tdl_sema_acquire_start(h, task, s, 2, TDL_FOREVER), TDL_PENDING);
    CHECK_RC(tdl_sema_release(s, 2), 0);
    CHECK_RC(tdl_sema_try_acquire(s, 1), TDL_EAGAIN); /* they are the task's */
    CHECK_RC(tdl_host_close(h), 0);
    CHECK_RC(tdl_sema_try_acquire(s, 2), 0);
    tdl_sema_free(s);
}

typedef struct waiter {
    tdl_mutex *m;
    tdl_cond  *c;
} waiter;

static void lock_and_unlock(void *arg) {
    waiter *w = arg;
    CHECK_RC(tdl_mutex_lock(w->m), 0);
    CHECK_RC(tdl_mutex_unlock(w->m), 0);
}

TEST(mutex, "H12 a lock that a task of a closing host was woken for goes to the next") {
    uint32_t  task;
    crew      c;
    waiter    w = { .m = tdl_mutex_new() };
    tdl_host *h = open_host(&task);
    crew_open(&c);
    CHECK_RC(tdl_mutex_trylock(w.m), 0);
    CHECK_RC(tdl_mutex_lock_start(h, task, w.m, TDL_FOREVER), TDL_PENDING);
    crew_thread(&c, lock_and_unlock, &w);
    let_thread_park(); /* behind the task */
    CHECK_RC(tdl_mutex_unlock(w.m), 0);
    CHECK_RC(tdl_host_close(h), 0);
    crew_close(&c); /* hangs if nobody woke it */
    CHECK_RC(tdl_mutex_trylock(w.m), 0);
    tdl_mutex_free(w.m);
}

static void wait_for_signal(void *arg) {
    waiter *w = arg;
    CHECK_RC(tdl_mutex_lock(w->m), 0);
    CHECK_RC(tdl_cond_wait(w->c), 0);
    CHECK_RC(tdl_mutex_unlock(w->m), 0);
}

TEST(condition, "H12 a signal for a task of a closing host goes to the next waiter") {
    uint32_t  task;
    crew      c;
    waiter    w = { .m = tdl_mutex_new() };
    tdl_host *h = open_host(&task);
    w.c = tdl_cond_new(w.m);
    crew_open(&c);
    CHECK_RC(tdl_mutex_trylock(w.m), 0);
    CHECK_RC(tdl_cond_wait_start(h, task, w.c, TDL_FOREVER), TDL_PENDING);
    crew_thread(&c, wait_for_signal, &w);
    let_thread_park();
    CHECK_RC(tdl_cond_signal(w.c), 0); /* the task's */
    CHECK_RC(tdl_host_close(h), 0);
    crew_close(&c);
    tdl_cond_free(w.c);
    tdl_mutex_free(w.m);
}
