/* SPDX-License-Identifier: MIT
 *
 * A host is one interpreter (a lua_State, a Python interpreter) whose
 * coroutines are goroutines of treadle. Its thread calls tdl_host_poll in a
 * loop and resumes the coroutine of each event; a coroutine that wants to wait
 * calls a `_start` form and yields when that returned TDL_PENDING. No function
 * below calls back into the host or switches stacks.
 *
 * A task is a hosted goroutine: a small number that the host chooses nothing
 * about. It has at most one operation pending.
 */
#ifndef TREADLE_HOST_H
#define TREADLE_HOST_H

#include "chan.h"
#include "conn.h"
#include "context.h"
#include "dgram.h"
#include "fd.h"
#include "fs.h"
#include "go.h"
#include "os.h"
#include "server.h"
#include "sync.h"
#include "tls.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tdl_host tdl_host;

typedef struct tdl_event {
    uint32_t task;   /* the task; or a watcher, with TDL_WATCHER set */
    int32_t  result; /* what the _start form would have returned; of a watcher: TDL_READABLE | TDL_WRITABLE,
                        of one with TDL_EDGE also TDL_HANGUP */
} tdl_event;

/* What an operation brings besides its result; there is one per task, at
 * tdl_host_outcomes(host)[task], valid from the event (or from a _start form
 * that completed at once) until the task's next _start. */
typedef struct tdl_outcome {
    tdl_val val;     /* received value (the host becomes its holder); accept, dial: the tdl_conn as TDL_PTR;
                        fill: the buffered bytes as TDL_PTR */
    int64_t extra;   /* select: the case's ok; write: bytes that went out, errors included; fill: bytes buffered;
                        recv_fds: descriptors that came */
} tdl_outcome;

enum {
    TDL_WATCHER   = 0x40000000,
    TDL_READABLE  = 1,
    TDL_WRITABLE  = 2,
    TDL_HANGUP    = 4, /* the peer has ended or failed: every attempt is worth it from now on */
    TDL_EDGE      = 8,
    TDL_MAX_TASKS = 1 << 20
};

/* Makes the calling plain thread the thread of a new host. The name is shown
 * in dumps (31 bytes are copied; may be NULL). 0; TDL_EINVAL; TDL_ENOMEM;
 * TDL_EBUSY in a goroutine; -EMFILE. One thread may open several hosts. */
TDL_API int  tdl_host_open(const char *name, tdl_host **h);
/* Ends the host: pending operations are dropped without an event, connections
 * and listeners that were opened on its thread are closed, its tasks are gone.
 * Handles stay to be freed. 0; TDL_EHOST off its thread. */
TDL_API int  tdl_host_close(tdl_host *h);
/* A host whose thread has ended without closing it is the calling thread's from now on, with all that
 * waits in it. Local channels stay that thread's: see tdl_chan_adopt_local. 0: it is, or it was
 * already; TDL_EHOST: its thread lives, or another thread was first; TDL_EINVAL; TDL_EBUSY in
 * a goroutine or a simulation; TDL_EFORKED. A thread has ended once its thread-specific data is gone, shortly
 * before pthread_join returns. */
TDL_API int  tdl_host_adopt(tdl_host *h);
/* The same, also while its thread lives: the caller vouches that that one is in no call about the host, its
 * tasks or its channels, and begins none until this has returned and it has been told. */
TDL_API int  tdl_host_move(tdl_host *h);
/* Would tdl_host_adopt make it another thread's than the one it has? 1; 0: that lives, or is the caller.
 * Who is told 1 and knows that nobody adopts it meanwhile may use its local channels. Any caller. */
TDL_API int  tdl_host_left(tdl_host *h);
/* Waits until events are there, at most timeout_ns (0: not at all; < 0: for
 * ever), and stores up to max of them. Their number; 0 when time is up, after
 * tdl_host_wake, or early on a signal; TDL_EHOST off its thread. Does not keep
 * events back: what it could not store comes with the next call. */
TDL_API int  tdl_host_poll(tdl_host *h, tdl_event *events, int max, int64_t timeout_ns);
/* The same with flags.
 * TDL_POLL_DEADLOCK: a wait without a limit (timeout_ns < 0) that nothing can end
 * any more, because the tasks wait for each other and so does everybody else in
 * the process, ends with TDL_EDEADLOCK. Not while there is a timer, an operation
 * that waits for a descriptor, a watcher, a handler for a signal (SIGINT and
 * faults apart), or a thread that is not known to wait for ever in a treadle
 * call, such as a host that polls without this flag. It takes 20 ms or more to
 * be seen, up to some seconds where a thread ended meanwhile.
 * TDL_POLL_UNWATCHED: watchers are not taken for something that may happen.
 * TDL_POLL_BUSY: the caller has work of its own to go on with. It does not wait,
 * and asks the kernel only now and then (each 32nd time, or after 0.2 ms). */
enum { TDL_POLL_DEADLOCK = 1, TDL_POLL_UNWATCHED = 2, TDL_POLL_BUSY = 4 };
TDL_API int  tdl_host_poll_opts(tdl_host *h, tdl_event *events, int max, int64_t timeout_ns, int flags);
/* Makes the current or the next tdl_host_poll return. Any caller, also in a
 * signal handler. */
TDL_API int  tdl_host_wake(tdl_host *h);
/* Guest mode, for a host whose loop is foreign: watch this descriptor for
 * reading, and when it is readable or the timeout is over call
 * tdl_host_poll(…, 0) until it returns fewer than max. */
TDL_API int  tdl_host_fd(tdl_host *h);
/* Nanoseconds until poll has something to do by time alone: 0 now, < 0 never.
 * Also arms the wake-up of the descriptor: call it last before going back to
 * the foreign loop. Host thread. */
TDL_API int64_t tdl_host_timeout(tdl_host *h);
/* The array of outcomes, at the same address for the host's life. */
TDL_API tdl_outcome *tdl_host_outcomes(tdl_host *h);
/* Watches any pollable descriptor, level-triggered, for READABLE and/or
 * WRITABLE; its events come as {TDL_WATCHER | id, readiness}. With TDL_EDGE too
 * edge-triggered: an event for each change, the first at once where it is ready, and
 * then as tdl_host_watch_want says.
 * The id, or -EBADF, -EPERM (not pollable), -EEXIST, TDL_EINVAL. Host thread. */
TDL_API int  tdl_host_watch(tdl_host *h, int fd, int readiness);
/* Changes what it waits for; 0: nothing, until the next change. */
TDL_API int  tdl_host_watch_modify(tdl_host *h, int watcher, int readiness);
/* For one with TDL_EDGE, after an event of READABLE and/or WRITABLE was used up (a read or
 * a write was told EAGAIN, or did less than it was asked): the next change is to be told.
 * 1; 0: this back end needs no such call, for any watcher of the host (all but libuv's,
 * which knows levels only); readiness 0 asks just that. -EBADF; TDL_EINVAL: not with
 * TDL_EDGE. Host thread. */
TDL_API int  tdl_host_watch_want(tdl_host *h, int watcher, int readiness);
/* Ends it; events of it that were not handed out yet are dropped. */
TDL_API int  tdl_host_unwatch(tdl_host *h, int watcher);

/* A new task: its id, TDL_ENOMEM when TDL_MAX_TASKS exist. With run, an event
 * {task, 0} is queued for its first step. Host thread. */
TDL_API int  tdl_task_new(tdl_host *h, int run);
/* The task is over. 0; TDL_EBUSY while an operation or an event is pending. */
TDL_API int  tdl_task_free(tdl_host *h, uint32_t task);
/* Names the task in dumps (31 bytes are copied). */
TDL_API int  tdl_task_set_name(tdl_host *h, uint32_t task, const char *name);
/* Makes the pending operation end with TDL_ECANCELED, by an event. 1; 0 when
 * none is pending or it has already ended (then its event still comes, with
 * what it got). Host thread. */
TDL_API int  tdl_task_cancel(tdl_host *h, uint32_t task);
/* Does an operation wait on the task that nothing has ended yet? 1; 0 also when its
 * event is on the way. Host thread. */
TDL_API int  tdl_task_waits(tdl_host *h, uint32_t task);
/* Waits for tdl_task_ready, or the deadline (TDL_ETIMEDOUT). Always pending. */
TDL_API int  tdl_task_park_start(tdl_host *h, uint32_t task, int64_t deadline);
/* Ends a task's park with a result >= 0. 1; 0 when the task is not parked so,
 * or another has already ended its park. Any caller, as long as the task exists. */
TDL_API int  tdl_task_ready(tdl_host *h, uint32_t task, int result);

/* A worker: a thread of its own for another interpreter, which then opens its own
 * host there. The thread calls entry(state, a, b, c), such as lua_pcall with a
 * lua_State that was made for it, and then end(state), such as lua_close. It
 * takes no signals. */
typedef struct tdl_worker_options {
    uint32_t    size;  /* sizeof(tdl_worker_options) */
    uint32_t    flags; /* 0 */
    int       (*entry)(void *state, int a, int b, int c);
    void       *state;
    int32_t     a, b, c;
    int32_t     unused;
    void      (*end)(void *state); /* may be NULL */
    const char *name;              /* the thread's, of which the system keeps 15 bytes; copied; may be NULL */
} tdl_worker_options;
/* Starts one. Its result comes as TDL_INT through *done, a channel of the
 * caller's (to be freed), which is then closed: receive from it to join. Who does
 * not want to know frees it at once. The thread outlives runs and hosts; whoever
 * unloads code it needs has to join it before. 0; TDL_EINVAL; TDL_ENOMEM; -EAGAIN:
 * no more threads; TDL_ESIM in a simulation. Any caller. */
TDL_API int tdl_worker_start(const tdl_worker_options *o, tdl_chan **done);

/* The `_start` forms: host thread only, each as its blocking form (deadlines as
 * there; TDL_FOREVER for none), with TDL_PENDING where that would wait; also
 * TDL_EINVAL for a task that does not exist, TDL_EBUSY for one that has an
 * operation pending; nothing has happened then. Pointers to values, cases and text are read before they
 * return, unless said otherwise. */
TDL_API int tdl_yield_start(tdl_host *h, uint32_t task); /* always pending: comes after what is runnable now */
TDL_API int tdl_sleep_start(tdl_host *h, uint32_t task, int64_t ns);
TDL_API int tdl_sim_wait_start(tdl_host *h, uint32_t task);
TDL_API int tdl_join_start(tdl_host *h, uint32_t task, tdl_g *g, int64_t deadline);
TDL_API int tdl_chan_send_start(tdl_host *h, uint32_t task, tdl_chan *ch, const tdl_val *v, int64_t deadline);
TDL_API int tdl_chan_recv_start(tdl_host *h, uint32_t task, tdl_chan *ch, int64_t deadline);
TDL_API int tdl_select_start(tdl_host *h, uint32_t task, const tdl_case *cases, int n, int64_t deadline);
TDL_API int tdl_mutex_lock_start(tdl_host *h, uint32_t task, tdl_mutex *m, int64_t deadline);
TDL_API int tdl_cond_wait_start(tdl_host *h, uint32_t task, tdl_cond *c, int64_t deadline);
TDL_API int tdl_sema_acquire_start(tdl_host *h, uint32_t task, tdl_sema *s, uint32_t n, int64_t deadline);
TDL_API int tdl_waitgroup_wait_start(tdl_host *h, uint32_t task, tdl_waitgroup *wg, int64_t deadline);
TDL_API int tdl_rwmutex_lock_start(tdl_host *h, uint32_t task, tdl_rwmutex *rw, int64_t deadline);
TDL_API int tdl_rwmutex_rlock_start(tdl_host *h, uint32_t task, tdl_rwmutex *rw, int64_t deadline);
TDL_API int tdl_once_begin_start(tdl_host *h, uint32_t task, tdl_once *o, int64_t deadline);
TDL_API int tdl_context_wait_start(tdl_host *h, uint32_t task, tdl_context *c, int64_t deadline);
TDL_API int tdl_errgroup_begin_start(tdl_host *h, uint32_t task, tdl_errgroup *eg, int64_t deadline);
TDL_API int tdl_errgroup_wait_start(tdl_host *h, uint32_t task, tdl_errgroup *eg, int64_t deadline);
TDL_API int tdl_singleflight_begin_start(tdl_host *h, uint32_t task, tdl_singleflight *sf, const void *key, size_t n,
                                         int64_t deadline); /* what is out there is the task's outcome */
TDL_API int tdl_scope_wait_start(tdl_host *h, uint32_t task, tdl_scope *s, int64_t deadline);
TDL_API int tdl_listener_accept_start(tdl_host *h, uint32_t task, tdl_listener *l);
TDL_API int tdl_listener_wait_start(tdl_host *h, uint32_t task, tdl_listener *l);
TDL_API int tdl_dial_start(tdl_host *h, uint32_t task, const char *network, const char *address, int64_t timeout_ns);
/* buf must stay valid until the event; at most 2^30 bytes are read. */
TDL_API int tdl_conn_read_start(tdl_host *h, uint32_t task, tdl_conn *c, void *buf, size_t n);
/* What cannot be sent at once is copied; n is at most 2^30. */
TDL_API int tdl_conn_write_start(tdl_host *h, uint32_t task, tdl_conn *c, const void *buf, size_t n);
TDL_API int tdl_conn_fill_start(tdl_host *h, uint32_t task, tdl_conn *c, int how, size_t limit);
TDL_API int tdl_conn_handshake_start(tdl_host *h, uint32_t task, tdl_conn *c);
TDL_API int tdl_conn_end_tls_start(tdl_host *h, uint32_t task, tdl_conn *c);
/* The bytes copied are the outcome's extra. */
TDL_API int tdl_conn_copy_start(tdl_host *h, uint32_t task, tdl_conn *to, tdl_conn *from, int64_t n);
TDL_API int tdl_conn_send_file_start(tdl_host *h, uint32_t task, tdl_conn *c, int fd, int64_t offset, int64_t n);
/* The connection comes as the outcome. */
TDL_API int tdl_server_next_start(tdl_host *h, uint32_t task, tdl_server *s, int64_t deadline);
TDL_API int tdl_server_shutdown_start(tdl_host *h, uint32_t task, tdl_server *s, int64_t deadline);
TDL_API int tdl_conn_fill_until_start(tdl_host *h, uint32_t task, tdl_conn *c, const void *delim, size_t n,
                                      size_t limit);
/* What has to wait is copied. */
TDL_API int tdl_conn_writev_start(tdl_host *h, uint32_t task, tdl_conn *c, const tdl_iovec *v, int n);
/* b must stay, and be left alone, until the event. */
TDL_API int tdl_conn_write_buf_start(tdl_host *h, uint32_t task, tdl_conn *c, tdl_buf *b);
TDL_API int tdl_dial_opts_start(tdl_host *h, uint32_t task, const char *network, const char *address,
                                const tdl_dial_options *o);
TDL_API int tdl_dial_list_start(tdl_host *h, uint32_t task, const char *network, const tdl_addr *addresses, int n,
                                const tdl_dial_options *o);
/* What has to wait is copied, the descriptors duplicated. */
TDL_API int tdl_conn_send_fds_start(tdl_host *h, uint32_t task, tdl_conn *c, const void *buf, size_t n,
                                    const int *fds, int nfds);
/* buf, fds and nfds must stay valid until the event; so must what the next ones
 * receive into, and the packets of a batch. */
TDL_API int tdl_conn_recv_fds_start(tdl_host *h, uint32_t task, tdl_conn *c, void *buf, size_t n, int *fds,
                                    int *nfds);
TDL_API int tdl_dgram_recv_start(tdl_host *h, uint32_t task, tdl_dgram *d, void *buf, size_t n, tdl_addr *from);
TDL_API int tdl_dgram_send_start(tdl_host *h, uint32_t task, tdl_dgram *d, const void *buf, size_t n,
                                 const tdl_addr *to); /* to NULL: as tdl_dgram_send. Copied when it has to wait */
TDL_API int tdl_dgram_recv_batch_start(tdl_host *h, uint32_t task, tdl_dgram *d, tdl_packet *packets, int n);
TDL_API int tdl_dgram_send_batch_start(tdl_host *h, uint32_t task, tdl_dgram *d, tdl_packet *packets, int n);
TDL_API int tdl_fd_wait_start(tdl_host *h, uint32_t task, tdl_fd *f, int readiness); /* TDL_READABLE or TDL_WRITABLE */
TDL_API int tdl_fd_read_start(tdl_host *h, uint32_t task, tdl_fd *f, void *buf, size_t n);
TDL_API int tdl_fd_write_start(tdl_host *h, uint32_t task, tdl_fd *f, const void *buf, size_t n);

/* Files. What a call writes to (buf, st) must stay valid until the event; what it reads is copied. open: the
 * tdl_file as TDL_PTR in the outcome, scan: the tdl_dir; read of a whole file: the TDL_BYTES. */
TDL_API int tdl_file_open_start(tdl_host *h, uint32_t task, const char *path, int flags, int mode, int64_t deadline);
TDL_API int tdl_file_open_temp_start(tdl_host *h, uint32_t task, const char *text, char *buf, size_t size,
                                     int64_t deadline);
TDL_API int tdl_file_read_start(tdl_host *h, uint32_t task, tdl_file *f, void *buf, size_t n, int64_t deadline);
TDL_API int tdl_file_pread_start(tdl_host *h, uint32_t task, tdl_file *f, void *buf, size_t n, int64_t offset,
                                 int64_t deadline);
TDL_API int tdl_file_write_start(tdl_host *h, uint32_t task, tdl_file *f, const void *buf, size_t n,
                                 int64_t deadline);
TDL_API int tdl_file_pwrite_start(tdl_host *h, uint32_t task, tdl_file *f, const void *buf, size_t n,
                                  int64_t offset, int64_t deadline);
TDL_API int tdl_file_sync_start(tdl_host *h, uint32_t task, tdl_file *f, int data_only, int64_t deadline);
TDL_API int tdl_file_truncate_start(tdl_host *h, uint32_t task, tdl_file *f, int64_t size, int64_t deadline);
TDL_API int tdl_file_copy_start(tdl_host *h, uint32_t task, tdl_file *to, tdl_file *from, int64_t offset, size_t n,
                                int64_t deadline);
TDL_API int tdl_file_stat_start(tdl_host *h, uint32_t task, tdl_file *f, tdl_stat *st, int64_t deadline);
TDL_API int tdl_fs_stat_start(tdl_host *h, uint32_t task, const char *path, int follow, tdl_stat *st,
                              int64_t deadline);
TDL_API int tdl_fs_access_start(tdl_host *h, uint32_t task, const char *path, int how, int64_t deadline);
TDL_API int tdl_fs_mkdir_start(tdl_host *h, uint32_t task, const char *path, int mode, int64_t deadline);
TDL_API int tdl_fs_rmdir_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline);
TDL_API int tdl_fs_unlink_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline);
TDL_API int tdl_fs_rename_start(tdl_host *h, uint32_t task, const char *from, const char *to, int64_t deadline);
TDL_API int tdl_fs_link_start(tdl_host *h, uint32_t task, const char *to, const char *path, int64_t deadline);
TDL_API int tdl_fs_symlink_start(tdl_host *h, uint32_t task, const char *to, const char *path, int64_t deadline);
TDL_API int tdl_fs_chmod_start(tdl_host *h, uint32_t task, const char *path, int mode, int64_t deadline);
TDL_API int tdl_fs_chown_start(tdl_host *h, uint32_t task, const char *path, int64_t uid, int64_t gid, int follow,
                               int64_t deadline);
TDL_API int tdl_fs_utime_start(tdl_host *h, uint32_t task, const char *path, int64_t atime, int64_t mtime,
                               int follow, int64_t deadline);
TDL_API int tdl_fs_copy_start(tdl_host *h, uint32_t task, const char *from, const char *to, int exclusive,
                              int64_t deadline);
TDL_API int tdl_fs_readlink_start(tdl_host *h, uint32_t task, const char *path, char *buf, size_t size,
                                  int64_t deadline);
TDL_API int tdl_fs_realpath_start(tdl_host *h, uint32_t task, const char *path, char *buf, size_t size,
                                  int64_t deadline);
TDL_API int tdl_fs_mkdtemp_start(tdl_host *h, uint32_t task, const char *text, char *buf, size_t size,
                                 int64_t deadline);
TDL_API int tdl_fs_read_start(tdl_host *h, uint32_t task, const char *path, size_t limit, int64_t deadline);
TDL_API int tdl_fs_write_start(tdl_host *h, uint32_t task, const char *path, const void *buf, size_t n, int mode,
                               int flags, int64_t deadline);
/* found and buf must stay valid until the event. */
TDL_API int tdl_lookup_start(tdl_host *h, uint32_t task, const char *network, const char *host, int port,
                             tdl_addr *found, int max, int64_t deadline);
TDL_API int tdl_lookup_name_start(tdl_host *h, uint32_t task, const tdl_addr *a, char *buf, size_t size,
                                  int64_t deadline);
TDL_API int tdl_fs_scan_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline);

/* The signal that ended it is in the outcome's extra. */
TDL_API int tdl_process_wait_start(tdl_host *h, uint32_t task, tdl_process *p, int64_t deadline);
/* The tdl_watch as TDL_PTR in the outcome. next: buf must stay valid until the event. */
TDL_API int tdl_watch_open_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline);
TDL_API int tdl_watch_next_start(tdl_host *h, uint32_t task, tdl_watch *w, char *buf, size_t size,
                                 int64_t deadline);

/* A channel for this host's thread alone (elsewhere each use is TDL_EHOST, and
 * freeing it undefined): it needs no lock, and may carry TDL_REF. It may outlive
 * its host, and serve the next one of the same thread. NULL: out of memory. */
TDL_API tdl_chan *tdl_chan_new_local(tdl_host *h, uint32_t cap);
/* From now on the channel is the calling thread's, which may empty and free it, although the
 * host was another's. The caller vouches that the host is closed, that its thread has ended or that
 * it has adopted or moved it, and that nobody else uses the channel meanwhile. */
TDL_API void tdl_chan_adopt_local(tdl_chan *ch);
/* Copies the i-th value that is in a local channel (first the buffer, then
 * those of waiting senders) without taking it, for a garbage collector's
 * traversal: nothing is retained. 0; TDL_EAGAIN beyond the last. */
TDL_API int tdl_chan_peek_local(tdl_chan *ch, uint32_t i, tdl_val *v);
/* The tasks that wait on a local channel, one at a time, for the same purpose: *at is
 * NULL for the first, and then what the call before left there, while nothing else is
 * done with the channel. A task that waits in several cases of a select comes for each.
 * The task; TDL_EAGAIN beyond the last. */
TDL_API int tdl_chan_waiter_local(tdl_chan *ch, const void **at);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_HOST_H */
