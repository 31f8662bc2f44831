/* SPDX-License-Identifier: MIT
 *
 * The part of the seam that is not calls but a question. What libuv, the C library and the
 * system do for services (files, names, processes, signals, terminals, a loop's handles)
 * are calls of many forms; a table of all of them would be a copy of libuv's header.
 * Instead each is announced: tdl_service(which, n) comes immediately before it, and
 * says with what error it fails. Then it is not made, and the error is treated as
 * its own.
 */
#ifndef TDL_SYS_SERVICE_H
#define TDL_SYS_SERVICE_H

#include "sys/base.h"
#include "sys/sys.h"

enum tdl_service {
    SERVICE_OPEN,    /* a file, also a new temporary one */
    SERVICE_READ,    /* a file's bytes */
    SERVICE_WRITE,
    SERVICE_SYNC,
    SERVICE_STAT,
    SERVICE_SEND,    /* from one file to another */
    SERVICE_CHANGE,  /* what changes names, modes, times and lengths */
    SERVICE_LOOK,    /* access, readlink, realpath */
    SERVICE_SCAN,    /* a directory */
    SERVICE_COPY,    /* a whole file */
    SERVICE_FORTH,   /* getaddrinfo: -EAGAIN, -ENOENT, -ENOMEM are its own EAI_…, others the system's */
    SERVICE_BACK,    /* getnameinfo: the same */
    SERVICE_PIPE,    /* to a child */
    SERVICE_DUP,     /* for a child */
    SERVICE_SPAWN,
    SERVICE_PIDFD,
    SERVICE_REAP,    /* waitid */
    SERVICE_KILL,
    SERVICE_LOOP,    /* uv_loop_init, uv_async_init */
    SERVICE_HANDLE,  /* uv_poll_init */
    SERVICE_CHANGES, /* uv_fs_event_start */
    SERVICE_SIGNAL,  /* sigaction */
    SERVICE_TTY,     /* tcgetattr, tcsetattr, the window's size */
    SERVICES
};

/* 0, and the call is to be made; or a negated errno. n: how many bytes it is for, which may
 * become fewer, but not none; NULL. */
static inline int tdl_service(enum tdl_service which, size_t *n) {
    return TDL_UNLIKELY(tdl_sys.service != NULL) ? tdl_sys.service((int)which, n) : 0;
}

#endif
