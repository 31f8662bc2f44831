/* SPDX-License-Identifier: MIT
 *
 * Any descriptor that can be polled: pipes, terminals, eventfd, timerfd,
 * signalfd, pidfd, netlink, TUN, sockets of other libraries. It is watched by the
 * poller of the caller that brings it, and non-blocking while it is here, with
 * all that share its open file.
 */
#ifndef TREADLE_FD_H
#define TREADLE_FD_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tdl_fd tdl_fd;

/* Takes fd over, to be closed with the handle; or a duplicate of it. 0;
 * TDL_ENOPOLL; -EBADF, -EMFILE; -EEXIST (here already). With an error fd stays
 * the caller's. Any caller. */
TDL_API int tdl_fd_adopt(int fd, tdl_fd **f);
TDL_API int tdl_fd_dup(int fd, tdl_fd **f);
/* Gives the descriptor back, in the mode it was adopted in; the handle is as
 * closed. TDL_ECLOSED; TDL_EBUSY while an operation is under way. Any caller. */
TDL_API int tdl_fd_release(tdl_fd *f);
/* Waits until a read, or a write, would not wait (or would fail: then that tells
 * why), whoever does it. One of them at a time waits for a direction, the others
 * queue. Blocking. 0; TDL_ECLOSED, TDL_ETIMEDOUT, TDL_ECANCELED; -EBADF: closed
 * behind treadle's back. */
TDL_API int tdl_fd_wait_readable(tdl_fd *f);
TDL_API int tdl_fd_wait_writable(tdl_fd *f);
/* As for connections: read(2) what is there, write(2) all of it. */
TDL_API int64_t tdl_fd_read(tdl_fd *f, void *buf, size_t n);
TDL_API int64_t tdl_fd_write(tdl_fd *f, const void *buf, size_t n);
/* As for connections. Any caller. */
TDL_API void tdl_fd_set_deadline(tdl_fd *f, int64_t when);
TDL_API void tdl_fd_set_read_deadline(tdl_fd *f, int64_t when);
TDL_API void tdl_fd_set_write_deadline(tdl_fd *f, int64_t when);
TDL_API void tdl_fd_set_timeout(tdl_fd *f, int64_t ns);
TDL_API int  tdl_fd_number(tdl_fd *f); /* the descriptor, still the handle's; TDL_ECLOSED */
TDL_API int  tdl_fd_close(tdl_fd *f);
TDL_API void tdl_fd_free(tdl_fd *f);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_FD_H */
