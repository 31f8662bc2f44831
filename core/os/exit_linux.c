/* SPDX-License-Identifier: MIT
 * The ends of children by pidfds. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sys/base.h"

#ifdef TDL_LINUX
#include "os/exit.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/service.h"

int tdl_exit_open(tdl_exit *e, pid_t pid) {
    int no = tdl_service(SERVICE_PIDFD, NULL);
    if (no < 0) return no;
    e->fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return e->fd < 0 ? -errno : 0;
}

void tdl_exit_close(tdl_exit *e) { close(e->fd); }

static void let_go(uv_handle_t *h) {
    tdl_exit *e = TDL_CONTAINER(h, tdl_exit, handle);
    tdl_exit_close(e);
    e->over(e);
}

static void on_event(uv_poll_t *h, int status, int events) {
    (void)status;
    (void)events;
    tdl_exit *e = TDL_CONTAINER(h, tdl_exit, poll);
    if (e->look(e)) uv_close(&e->handle, let_go);
}

int tdl_exit_watch(tdl_exit *e, uv_loop_t *loop) {
    int r = tdl_service(SERVICE_HANDLE, NULL);
    if (r == 0) r = uv_poll_init(loop, &e->poll, e->fd);
    return r < 0 ? r : uv_poll_start(&e->poll, UV_READABLE, on_event);
}

#endif
