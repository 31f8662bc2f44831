/* SPDX-License-Identifier: MIT
 *
 * How the loop's thread learns that a child has ended: exit_linux.c by a pidfd,
 * exit_posix.c by looking again and again. Neither reaps it. */
#ifndef TDL_OS_EXIT_H
#define TDL_OS_EXIT_H

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

typedef struct tdl_exit tdl_exit;
struct tdl_exit {
    int fd; /* the pidfd; else -1 */
    union {
        uv_handle_t handle;
        uv_poll_t poll;
        uv_timer_t timer;
    };
    bool (*look)(tdl_exit *e); /* has it ended? Called until it says so; then */
    void (*over)(tdl_exit *e); /* e is no longer used */
};

/* Of a child of ours that is not reaped: 0, or a negated errno. */
int tdl_exit_open(tdl_exit *e, pid_t pid);
/* On the loop's thread, with look and over set: 0, or < 0 and over is not called. */
int tdl_exit_watch(tdl_exit *e, uv_loop_t *loop);
void tdl_exit_close(tdl_exit *e); /* one that is not watched */

#endif
