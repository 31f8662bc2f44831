/* SPDX-License-Identifier: MIT
 *
 * What the runtime is at: by what it polls, who waits for what, and how many there
 * are of everything.
 */
#ifndef TREADLE_DEBUG_H
#define TREADLE_DEBUG_H

#include "host.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -- The way to the system --------------------------------------------------- */

/* By what the system tells which descriptors are ready: "epoll" (the default on
 * Linux), "uring" (io_uring) or "uv" (libuv; the default elsewhere). It can also be chosen by TDL_NETPOLL in the
 * environment, with the same words. Where the system has it not, or forbids it, the default is used, and
 * a line on standard error says so; not so with "!" behind the name ("uring!"):
 * then what would start the runtime, or open a host, returns the system's error.
 * NULL: as if it had never been called. To be called before the first goroutine, descriptor
 * or host, or when the runtime has stopped and all hosts are closed: else TDL_EBUSY.
 * TDL_EINVAL for another name. (A wrong TDL_NETPOLL is told on standard error, and the runtime does
 * not start: TDL_EINVAL.) Any caller. */
TDL_API int tdl_set_netpoll(const char *name);
/* The one that is in use, or would be if the runtime started now; "none" when it could
 * not start. A static string. Any caller. */
TDL_API const char *tdl_netpoll_name(void);
/* Why that one, as text ("TDL_NETPOLL asks for uring, which does not work here: …"),
 * cut to size with a final NUL; its full length. Any caller. */
TDL_API int tdl_netpoll_reason(char *buf, size_t size);

/* -- Seeing inside ----------------------------------------------------------- */

/* Writes every goroutine with its state, what it waits on and since when, as
 * text to the descriptor; and last "poller: " with the name and the reason that
 * tdl_netpoll_name and tdl_netpoll_reason have. 0 or -errno. Any caller. */
TDL_API int tdl_dump(int fd);
/* The task's line of the dump ("goroutine 3 [chan receive, 0x7f0c2a40, 4.2 s]: …"),
 * cut to size with a final NUL; its full length, or TDL_EINVAL. Host thread. */
TDL_API int tdl_task_describe(tdl_host *h, uint32_t task, char *buf, size_t size);
/* A number by name: "goroutines", "tasks", "threads", "stacks", "channels",
 * "connections", "listeners", "datagrams" (sockets), "descriptors" (tdl_fd),
 * "timers", "contexts", "files", "processes" (handles, and children), "watches", "services" (works of service threads, queued or under way); TDL_EINVAL for another name. Any caller. */
TDL_API int64_t tdl_metric(const char *name);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_DEBUG_H */
