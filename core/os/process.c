/* SPDX-License-Identifier: MIT
 *
 * Processes. A child is started by posix_spawn, which shares the caller's memory
 * until the child has become the other program, and says why it could not; and is waited for through a
 * pidfd where there are such (os/exit.h), on the loop's thread. uv_spawn forks the whole address space and takes the program's
 * SIGCHLD; nobody's handler is touched here, and no other child of the program's is ever waited for.
 *
 * Under the process's lock: exited, code, waiters. The loop's thread reaps the
 * child under it, so that who finds exited unset under the lock may signal the pid: it is still
 * this child's. refs: the handle, and the loop until it has let go of the pidfd.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/exit.h"
#include "os/loop.h"
#include "os/process.h"
#include "sys/pool.h"
#include "sys/os.h"
#include "sys/service.h"

extern char **environ;

struct tdl_process {
    tdl_lock lock;
    pid_t pid;
    uint32_t flags;
    uint8_t exited;
    int code, signum; /* code < 0: it was waited for by somebody else */
    tdl_queue waiters;
    _Atomic uint32_t refs; /* the last one gives the memory back; seq */
    tdl_conn *pipe[3];     /* ours; whoever takes one owns it */
    tdl_exit exit;
    tdl_loop_call call;
};

static tdl_pool pool = TDL_POOL_INIT(struct tdl_process);

int64_t tdl_process_live(void) { return tdl_pool_live(&pool); }

static void unref(tdl_process *p) {
    if (at_sub_seq(&p->refs, 1) != 1) return;
    memset((char *)p + sizeof p->lock, 0, sizeof *p - sizeof p->lock);
    tdl_pool_give(&pool, p);
}

static void free_pipes(tdl_process *p) {
    for (int i = 0; i < 3; i++) tdl_conn_free(tdl_process_pipe(p, i));
}

/* -- Its end, on the loop's thread ------------------------------------------------------ */

static void let_go(tdl_exit *e) { unref(TDL_CONTAINER(e, tdl_process, exit)); }

/* False: it lives. error: who waits for it is told that; 0: how it has ended. */
static bool reap(tdl_process *p, int error) {
    siginfo_t info;
    tdl_lock_take(&p->lock);
    memset(&info, 0, sizeof info);
    int r = tdl_service(SERVICE_REAP, NULL);
    if (r == 0) r = waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG) == 0 ? 0 : -errno;
    if (r == 0 && info.si_pid == 0) {
        tdl_unlock(&p->lock);
        return false;
    }
    p->exited = 1;
    if (r == 0) r = error;
    p->code = r < 0 ? r : info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
    p->signum = r < 0 || info.si_code == CLD_EXITED ? 0 : info.si_status;
    tdl_node *list = tdl_queue_claim_all(&p->waiters);
    tdl_unlock(&p->lock);
    tdl_complete_all(list, 0);
    return true;
}

static bool on_exit_of(tdl_exit *e) {
    if (!reap(TDL_CONTAINER(e, tdl_process, exit), 0)) return false;
    tdl_loop_active(-1);
    return true;
}

static void watch(tdl_loop_call *c, uv_loop_t *loop) {
    tdl_process *p = TDL_CONTAINER(c, tdl_process, call);
    p->exit.look = on_exit_of;
    p->exit.over = let_go;
    int r = tdl_exit_watch(&p->exit, loop);
    if (r == 0) return;
    /* out of memory for it: nobody is left waiting for what will not be told */
    kill(p->pid, SIGKILL);
    while (!reap(p, r)) usleep(1000);
    tdl_loop_active(-1);
    tdl_exit_close(&p->exit);
    unref(p);
}

/* -- Starting ---------------------------------------------------------------------------- */

typedef struct starting {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int theirs[3]; /* descriptors that are closed here once it runs */
    int n;
} starting;

static int keep_open(starting *s, int fd) {
    if (fd >= 0) s->theirs[s->n++] = fd;
    return fd;
}

/* What the child's descriptor i is to be: a duplicate above 2, so that no dup2
 * of the child's overwrites what another one needs. -1: it stays; or a code. */
static int descriptor_for(starting *s, tdl_process *p, int i, int32_t how) {
    int ends[2], r;
    switch (how) {
    case TDL_STDIO_INHERIT: return -1;
    case TDL_STDIO_NULL:
        if ((r = tdl_service(SERVICE_OPEN, NULL)) < 0) return r - 1;
        r = open("/dev/null", (i == 0 ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
        return r < 0 ? -errno - 1 : keep_open(s, r);
    case TDL_STDIO_PIPE:
        if ((r = tdl_service(SERVICE_PIPE, NULL)) < 0 || (r = tdl_os_pipe_to_child(ends)) < 0) return r - 1;
        if ((r = tdl_conn_adopt(ends[i == 0], &p->pipe[i])) < 0) {
            close(ends[0]);
            close(ends[1]);
            return r - 1;
        }
        keep_open(s, ends[i != 0]);
        return ends[i != 0];
    default:
        if ((r = tdl_service(SERVICE_DUP, NULL)) < 0) return r - 1;
        r = fcntl(how, F_DUPFD_CLOEXEC, 3);
        return r < 0 ? -errno - 1 : keep_open(s, r);
    }
}

static int set_descriptors(starting *s, tdl_process *p, const tdl_process_options *o) {
    const int32_t how[3] = {o->in, o->out, o->err};
    int fd[3], r = 0;
    for (int i = 0; i < 3; i++) {
        if (how[i] == TDL_STDIO_OUT) { /* as the output is */
            fd[i] = fd[1];
            continue;
        }
        if ((fd[i] = descriptor_for(s, p, i, how[i])) < -1) return fd[i] + 1;
    }
    for (int i = 0; i < 3 && r == 0; i++) {
        /* pipe ends may be 0, 1, 2 where the program has closed those */
        int from = fd[i];
        if (from < 0) continue;
        if (from < 3 && (from = fcntl(from, F_DUPFD_CLOEXEC, 3)) < 0) return -errno;
        if (from != fd[i]) {
            for (int k = 0; k < s->n; k++)
                if (s->theirs[k] == fd[i]) s->theirs[k] = from;
            close(fd[i]);
            for (int k = i + 1; k < 3; k++)
                if (fd[k] == fd[i]) fd[k] = from;
        }
        r = posix_spawn_file_actions_adddup2(&s->actions, from, i);
    }
    if (r == 0 && how[2] == TDL_STDIO_OUT && fd[1] < 0) r = posix_spawn_file_actions_adddup2(&s->actions, 1, 2);
    if (r == 0) r = tdl_os_spawn_closes(&s->actions, 3);
    if (r == 0 && o->cwd) r = tdl_os_spawn_chdir(&s->actions, o->cwd);
    return -r;
}

/* No signal is blocked in it, and none ignored or handled. */
static int set_attributes(starting *s, uint32_t flags) {
    sigset_t none, all;
    short bits = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    sigemptyset(&none);
    sigfillset(&all);
    if (flags & TDL_PROCESS_SESSION)
#ifdef POSIX_SPAWN_SETSID
        bits |= POSIX_SPAWN_SETSID;
#else
        return -EOPNOTSUPP;
#endif
    else if (flags & TDL_PROCESS_GROUP)
        bits |= POSIX_SPAWN_SETPGROUP;
    posix_spawnattr_setsigmask(&s->attr, &none);
    posix_spawnattr_setsigdefault(&s->attr, &all);
    posix_spawnattr_setpgroup(&s->attr, 0);
    return -posix_spawnattr_setflags(&s->attr, bits);
}

static int spawn(tdl_process *p, const char *file, const char *const *argv, const tdl_process_options *o) {
    starting s = {.n = 0};
    if (posix_spawn_file_actions_init(&s.actions) != 0) return TDL_ENOMEM;
    if (posix_spawnattr_init(&s.attr) != 0) {
        posix_spawn_file_actions_destroy(&s.actions);
        return TDL_ENOMEM;
    }
    int r = set_descriptors(&s, p, o);
    if (r == 0) r = set_attributes(&s, o->flags);
    if (r == 0) r = tdl_service(SERVICE_SPAWN, NULL);
    if (r == 0) {
        tdl_block_begin(TDL_BLOCK_SHORT); /* the caller stands still until the child runs */
        r = -posix_spawnp(&p->pid, file, &s.actions, &s.attr, (char *const *)(uintptr_t)argv,
                          o->env ? (char *const *)(uintptr_t)o->env : environ);
        tdl_block_end();
    }
    for (int i = 0; i < s.n; i++) close(s.theirs[i]);
    posix_spawn_file_actions_destroy(&s.actions);
    posix_spawnattr_destroy(&s.attr);
    if (r < 0) return r;
    if ((r = tdl_exit_open(&p->exit, p->pid)) == 0) return 0;
    /* -ESRCH: the program ignores SIGCHLD, and it is gone */
    kill(p->pid, SIGKILL);
    waitpid(p->pid, NULL, 0);
    return r;
}

static bool stdio_ok(int32_t how, int i) {
    return how == TDL_STDIO_OUT ? i == 2 : how >= TDL_STDIO_PIPE;
}

int tdl_process_start(const char *file, const char *const *argv, const tdl_process_options *options,
                      tdl_process **out) {
    tdl_process_options o = {.size = sizeof o};
    if (!out) return TDL_EINVAL;
    *out = NULL;
    if (!file || !*file || !argv || !argv[0]) return TDL_EINVAL;
    if (options) o = *options;
    if (o.size != sizeof o || o.flags & ~TDL_PROCESS_ALL) return TDL_EINVAL;
    if (!stdio_ok(o.in, 0) || !stdio_ok(o.out, 1) || !stdio_ok(o.err, 2)) return TDL_EINVAL;
    int r = tdl_loop_ready();
    if (r < 0) return r;
    tdl_process *p = tdl_pool_take(&pool);
    if (!p) return TDL_ENOMEM;
    at_store_rlx(&p->refs, 1);
    p->flags = o.flags;
    if ((r = spawn(p, file, argv, &o)) < 0) {
        free_pipes(p);
        unref(p);
        return r;
    }
    at_store_rlx(&p->refs, 2);
    p->call.fn = watch;
    tdl_loop_active(1);
    tdl_loop_send(&p->call);
    *out = p;
    return 0;
}

/* -- The handle ------------------------------------------------------------------------------ */

int64_t tdl_process_pid(tdl_process *p) { return tdl_forked() ? TDL_EFORKED : p ? p->pid : TDL_EINVAL; }

tdl_conn *tdl_process_pipe(tdl_process *p, int which) {
    if (!p || which < 0 || which > 2 || tdl_forked()) return NULL;
    tdl_lock_take(&p->lock);
    tdl_conn *c = p->pipe[which];
    p->pipe[which] = NULL;
    tdl_unlock(&p->lock);
    return c;
}

int tdl_process_kill(tdl_process *p, int signum) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!p || signum < 0 || signum > 64) return TDL_EINVAL;
    pid_t to = p->flags & (TDL_PROCESS_GROUP | TDL_PROCESS_SESSION) ? -p->pid : p->pid;
    tdl_lock_take(&p->lock);
    int r = p->exited ? -ESRCH : tdl_service(SERVICE_KILL, NULL);
    if (r == 0) r = kill(to, signum) == 0 ? 0 : -errno;
    tdl_unlock(&p->lock);
    return r;
}

void tdl_process_free(tdl_process *p) {
    if (!p || tdl_forked()) return;
    if (p->flags & TDL_PROCESS_KILL) tdl_process_kill(p, SIGKILL);
    free_pipes(p);
    unref(p);
}

/* -- Waiting ----------------------------------------------------------------------------------- */

static int64_t finish(tdl_op *op) {
    tdl_process *p = op->node.object;
    tdl_lock_take(&p->lock);
    tdl_queue_remove(&op->node);
    int64_t r = op->result == 0 ? p->code : op->result;
    op->extra = op->result == 0 ? p->signum : 0;
    tdl_unlock(&p->lock);
    return r;
}

static void abandon(tdl_op *op) { finish(op); }

static const tdl_op_class wait_class = {"process", finish, abandon};

int64_t tdl_process_wait_op(tdl_op *op, tdl_process *p, int64_t deadline) {
    if (!p) return TDL_EINVAL;
    tdl_val_set_nil(&op->out);
    op->extra = 0;
    int r = tdl_m_self()->bubble ? TDL_ESIM : 0;
    tdl_lock_take(&p->lock);
    if (r == 0 && p->exited) {
        r = p->code;
        op->extra = p->signum;
        tdl_unlock(&p->lock);
        return r;
    }
    if (r == 0) r = tdl_deadline_check(deadline);
    if (r < 0) {
        tdl_unlock(&p->lock);
        return r;
    }
    tdl_op_begin(op, &wait_class);
    op->node.object = p;
    tdl_op_publish(op);
    tdl_queue_push(&p->waiters, &op->node);
    tdl_unlock(&p->lock);
    tdl_op_arm(op, deadline);
    return TDL_PENDING;
}

int tdl_process_wait(tdl_process *p, int *signum, int64_t deadline) {
    int code;
    if (signum) *signum = 0;
    tdl_op *op = tdl_caller_op(&code);
    if (TDL_UNLIKELY(!op)) return code;
    int64_t r = tdl_process_wait_op(op, p, deadline);
    if (r == TDL_PENDING) r = tdl_op_wait(op);
    if (r >= 0 && signum) *signum = (int)op->extra;
    return (int)r;
}
