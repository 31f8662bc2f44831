/* SPDX-License-Identifier: MIT
 *
 * The ends of children where there are no pidfds: a timer of the loop's looks after
 * 1 ms, 2 ms, … and then every 20 ms. SIGCHLD would tell at once, but its handler is the
 * program's. */
#include "sys/base.h"

#ifndef TDL_LINUX
#include "os/exit.h"

enum { SELDOM_MS = 20 };

int tdl_exit_open(tdl_exit *e, pid_t pid) {
    (void)pid;
    e->fd = -1;
    return 0;
}

void tdl_exit_close(tdl_exit *e) { (void)e; }

static void let_go(uv_handle_t *h) {
    tdl_exit *e = TDL_CONTAINER(h, tdl_exit, handle);
    e->over(e);
}

static void on_time(uv_timer_t *h) {
    tdl_exit *e = TDL_CONTAINER(h, tdl_exit, timer);
    uint64_t next = 2 * (uint64_t)(uintptr_t)h->data;
    if (e->look(e)) {
        uv_close(&e->handle, let_go);
        return;
    }
    if (next > SELDOM_MS) next = SELDOM_MS;
    h->data = (void *)(uintptr_t)next;
    uv_timer_start(h, on_time, next, 0);
}

int tdl_exit_watch(tdl_exit *e, uv_loop_t *loop) {
    uv_timer_init(loop, &e->timer);
    e->timer.data = (void *)(uintptr_t)1;
    return uv_timer_start(&e->timer, on_time, 0, 0);
}

#endif
