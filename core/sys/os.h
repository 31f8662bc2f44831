/* SPDX-License-Identifier: MIT
 *
 * What systems do each in a way of their own: sys_linux.c, and sys_posix.c for all
 * others. TDL_LINUX (base.h) says which; -DTDL_PORTABLE chooses the second on Linux,
 * where it is tested. Results are as those of sys.h's table, whose entries most of
 * these are; the last ones are called directly.
 */
#ifndef TDL_SYS_OS_H
#define TDL_SYS_OS_H

#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>

#include "sys/base.h"
#include "sys/sys.h"

void *tdl_os_map(size_t size);
int tdl_os_guard(void *first, size_t size, size_t stride, int n);
int tdl_os_discard(void *p, size_t size);
int tdl_os_resident(void *p, size_t size, unsigned char *there); /* bit 0 of a byte a page; -ENOSYS: cannot be asked */
int tdl_os_futex_wait(void *word, uint32_t expected, int64_t deadline);
int tdl_os_futex_wake(void *word, int count);
int tdl_os_membarrier(void); /* -ENOSYS where there is none */
void tdl_os_stack(void **low, size_t *size);

#ifdef TDL_LINUX
int tdl_os_epoll_create(void);
int tdl_os_epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev);
int tdl_os_epoll_wait(int epfd, struct epoll_event *evs, int max, int64_t timeout_ns);
int tdl_os_eventfd(void);
int tdl_os_eventfd_write(int fd);
int tdl_os_uring_setup(unsigned entries, struct io_uring_params *p);
int tdl_os_uring_enter(int fd, unsigned to_submit, unsigned min, unsigned flags, const void *arg, size_t size);
int tdl_os_uring_register(int fd, unsigned what, void *arg, unsigned n);
void *tdl_os_uring_map(int fd, size_t size, uint64_t offset);
#endif
int tdl_os_pollable(int fd);
int tdl_os_wait_readable(int fd, int64_t timeout_ns);

int tdl_os_socket(int domain, int type, int protocol);
int tdl_os_accept(int fd, struct sockaddr *sa, socklen_t *n);
int64_t tdl_os_send(int fd, const void *buf, size_t n);
int64_t tdl_os_recvmsg(int fd, struct msghdr *m);
int64_t tdl_os_sendmsg(int fd, const struct msghdr *m);
int tdl_os_recvmmsg(int fd, struct tdl_mmsg *m, unsigned n);
int tdl_os_sendmmsg(int fd, struct tdl_mmsg *m, unsigned n);

int tdl_os_pipe(int fds[2]);
int64_t tdl_os_splice(int from, int to, size_t n); /* -EINVAL: not between these, or not here */
int64_t tdl_os_sendfile(int to, int file, int64_t *offset, size_t n);
int64_t tdl_os_read_cached(int fd, void *buf, size_t n, int64_t offset);

/* A broken pipe is an error here and no signal: SIGPIPE is held back, and what
 * this write has raised is taken. (Only sockets have a flag for that.) */
typedef struct tdl_os_quiet {
    sigset_t pipe_only, before;
    int failed;
} tdl_os_quiet;
void tdl_os_be_quiet(tdl_os_quiet *q);
int64_t tdl_os_quietly(tdl_os_quiet *q, int64_t r); /* r */
void tdl_os_take_pending(const sigset_t *set); /* set is SIGPIPE alone; does nothing when none is pending */

/* Of the calling thread. A name has 15 bytes. */
void tdl_os_name_thread(const char *name);
void tdl_os_exact_sleeps(void); /* its short sleeps end in time, where the system would let them be late */
int tdl_os_thread_id(void);
int tdl_os_computes(int tid); /* does the thread compute, or wait for a processor, rather than sleep? */

int tdl_os_cpus(void); /* on which the process may run; < 1: unknown */

int tdl_os_pipe_to_child(int fds[2]); /* blocking, close-on-exec */
/* The child closes all descriptors from `first` on, where that can be said. An errno. */
int tdl_os_spawn_closes(posix_spawn_file_actions_t *actions, int first);
int tdl_os_spawn_chdir(posix_spawn_file_actions_t *actions, const char *path); /* an errno, too */
int tdl_os_scratch_file(void); /* empty, close-on-exec, without a name */

#endif
