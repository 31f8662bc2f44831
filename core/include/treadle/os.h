/* SPDX-License-Identifier: MIT
 *
 * What else a program has to do with the system: other programs, signals, changes of
 * files, terminals.
 *
 * In a simulation there is none of that but terminals (TDL_ESIM).
 */
#ifndef TREADLE_OS_H
#define TREADLE_OS_H

#include "chan.h"
#include "conn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -- Processes --------------------------------------------------------------- */

/* A child: another program, that runs beside this one. What it has for its standard
 * descriptors is said by its options, and it has no other; it blocks, ignores and
 * handles no signal. It is waited for, by this process, as soon as it has ended, also when nobody asks:
 * it is never a zombie. That needs no SIGCHLD, and no other child is touched. */
typedef struct tdl_process tdl_process;

enum {
    TDL_STDIO_INHERIT = 0,  /* this process's own */
    TDL_STDIO_NULL    = -1, /* /dev/null */
    TDL_STDIO_OUT     = -2, /* of the errors: where the output goes */
    TDL_STDIO_PIPE    = -3  /* a pipe; tdl_process_pipe has the other end */
};
enum {
    TDL_PROCESS_GROUP   = 1, /* leads a process group of its own; tdl_process_kill means all of it */
    TDL_PROCESS_SESSION = 2, /* a session, without a terminal, and so a group of its own */
    TDL_PROCESS_KILL    = 4, /* tdl_process_free kills it (SIGKILL) if it still runs */
    TDL_PROCESS_ALL     = 7
};

typedef struct tdl_process_options {
    uint32_t size;  /* sizeof(tdl_process_options) */
    uint32_t flags; /* TDL_PROCESS_… */
    const char *const *env; /* "NAME=value" …, NULL; NULL: this process's */
    const char *cwd;        /* where it starts; NULL: here */
    int32_t in, out, err;   /* TDL_STDIO_…, or a descriptor above 0, which stays the caller's */
    int32_t unused;
} tdl_process_options;

/* Starts the program `file`, found as by a shell (in this process's PATH, unless it has a
 * slash), with the arguments argv, a list that ends with NULL and begins with its name.
 * o NULL: all 0. 0; -ENOENT, -EACCES, -ENOEXEC …; -ENOENT, -ENOTDIR of cwd; TDL_EINVAL; TDL_ESIM. Any
 * caller: it waits the millisecond that it takes until the child runs. */
TDL_API int tdl_process_start(const char *file, const char *const *argv, const tdl_process_options *o,
                              tdl_process **p);
TDL_API int64_t tdl_process_pid(tdl_process *p); /* Any caller */
/* The end of the pipe for its input (0), output (1) or errors (2), the first time: the
 * caller's from then on. NULL: there is none. The end of its input is what closing ours says. Any caller. */
TDL_API tdl_conn *tdl_process_pipe(tdl_process *p, int which);
/* Waits until it has ended. Blocking. What it returned, 0…255; 128 and the number of the
 * signal that ended it, which is then in *signum (may be NULL; else 0); -ECHILD: the program has waited for it
 * in another way; TDL_ETIMEDOUT, TDL_ECANCELED: it runs on (a scope whose children are to end
 * with it kills it then). Any number may wait. */
TDL_API int tdl_process_wait(tdl_process *p, int *signum, int64_t deadline);
/* Sends it a signal (0: is it there?). 0; -ESRCH: it has ended. Any caller. */
TDL_API int tdl_process_kill(tdl_process *p, int signum);
/* Gives the handle back, and the pipe ends that nobody took; it runs on, but see
 * TDL_PROCESS_KILL. Nobody may wait. NULL is ignored. Any caller. */
TDL_API void tdl_process_free(tdl_process *p);

/* -- Signals ----------------------------------------------------------------- */

/* From now on the signal is sent to the channel, as its number (TDL_INT), instead of
 * doing what it did; never waiting: a channel that is full misses it, so give it room.
 * Several channels may have one signal, and one channel several. Handlers that the
 * program, or an interpreter, had for it rest until the last channel is stopped, and are then put
 * back (unless the program has set another one meanwhile). 0; TDL_EINVAL: no such
 * signal, SIGKILL, SIGSTOP, a fault (SIGSEGV …), or a local channel; TDL_ESIM. Any caller. */
TDL_API int tdl_signal_notify(tdl_chan *ch, int signum);
/* No more of this signal (0: of any) to the channel. How many it had. Any caller. */
TDL_API int tdl_signal_stop(tdl_chan *ch, int signum);
/* It is ignored; or what it was before all notify and ignore. To no channel any more. 0. Any caller. */
TDL_API int tdl_signal_ignore(int signum);
TDL_API int tdl_signal_reset(int signum);

/* -- Changes of files, and terminals ----------------------------------------- */

/* Watches a file, or the entries of a directory (not of those below it). */
typedef struct tdl_watch tdl_watch;
enum {
    TDL_WATCH_RENAME = 1, /* it came, went, or has another name */
    TDL_WATCH_CHANGE = 2, /* its content, or what stat says */
    TDL_WATCH_LOST   = 4  /* nobody has asked for long: some changes are not told */
};
/* Blocking. 0; -ENOENT, -ENOSPC (the system's limit of watches) …; TDL_ESIM. */
TDL_API int tdl_watch_open(const char *path, tdl_watch **w, int64_t deadline);
/* The next change: TDL_WATCH_…, and the entry's name (of a watched file its own) in buf, cut to
 * size with a final NUL; size may be 0. Several may be told where one happened. Blocking. TDL_ECLOSED …. */
TDL_API int tdl_watch_next(tdl_watch *w, char *buf, size_t size, int64_t deadline);
TDL_API int tdl_watch_close(tdl_watch *w); /* Wakes who waits. 0; TDL_ECLOSED the second time. Any caller */
TDL_API void tdl_watch_free(tdl_watch *w); /* Closes if need be. NULL is ignored. Any caller */

/* Terminals; they are read and written as connections (tdl_conn_adopt) or tdl_fd, and say SIGWINCH
 * (tdl_signal_notify) when their size changes. All of these: any caller. */
TDL_API int tdl_tty_is(int fd); /* 1; 0; -EBADF */
TDL_API int tdl_tty_size(int fd, int *columns, int *rows); /* 0, -ENOTTY */
/* Raw mode: each key as it comes, unseen and without meaning; off: as it was before, which the end of the program
 * sees to as well (not its death by a signal). 0, -ENOTTY. */
TDL_API int tdl_tty_raw(int fd, int on);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_OS_H */
