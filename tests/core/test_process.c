/* SPDX-License-Identifier: MIT
 * Children and signals: pipes, ends, kills, groups, no zombies; signals on channels
 * beside handlers of the program's own. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "actors.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS   TDL_MILLISECOND
#define EVER TDL_FOREVER

static tdl_process *sh_with(const char *script, tdl_process_options o) {
    const char  *argv[] = { "sh", "-c", script, NULL };
    tdl_process *p = NULL;
    o.size = sizeof o;
    CHECK_RC(tdl_process_start("sh", argv, &o, &p), 0);
    REQUIRE(p != NULL);
    return p;
}

static tdl_process *sh(const char *script) { return sh_with(script, (tdl_process_options){ 0 }); }

static int no_children(void) { return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD; }

static void come_to_rest(void) {
    for (int i = 0; i < 1000 && tdl_metric("processes") > 0; i++) usleep(5000);
    CHECK_INT(tdl_metric("processes"), 0);
    CHECK(no_children());
}

static void read_all(tdl_conn *c, const char *want) {
    char    buf[200];
    int64_t n, k = 0;
    while ((n = tdl_conn_read(c, buf + k, sizeof buf - (size_t)k)) > 0) k += n;
    CHECK_RC(n, 0);
    if (!CHECK(k == (int64_t)strlen(want) && memcmp(buf, want, (size_t)k) == 0))
        fprintf(stderr, "  \"%.*s\", not \"%s\"\n", (int)k, buf, want);
}

#ifdef UNDER_TSAN
static pthread_t napper;

static void *nap(void *arg) {
    for (;;) usleep(1000);
    return arg;
}

__attribute__((constructor)) static void start_napper(void) { pthread_create(&napper, NULL, nap, NULL); }
#endif

/* The loop, whose descriptors stay, is there before anything is counted. */
__attribute__((constructor)) static void warm_up(void) {
    const char  *argv[] = { "true", NULL };
    tdl_process *p;
    if (tdl_process_start("true", argv, NULL, &p) < 0) return;
    tdl_process_wait(p, NULL, TDL_FOREVER);
    tdl_process_free(p);
}

/* -- Ends -------------------------------------------------------------------------------- */

static void ends(void *arg) {
    (void)arg;
    int          signum = 9;
    tdl_process *p = sh("exit 7");
    CHECK(tdl_process_pid(p) > 1);
    CHECK_RC(tdl_process_wait(p, &signum, EVER), 7);
    CHECK_INT(signum, 0);
    CHECK_RC(tdl_process_wait(p, NULL, EVER), 7);
    CHECK_RC(tdl_process_kill(p, SIGTERM), -ESRCH);
    tdl_process_free(p);
    p = sh("kill -TERM $$");
    CHECK_RC(tdl_process_wait(p, &signum, EVER), 128 + SIGTERM);
    CHECK_INT(signum, SIGTERM);
    tdl_process_free(p);
    p = sh("exec sleep 1000");
    CHECK_RC(tdl_process_wait(p, NULL, tdl_now() + 20 * MS), TDL_ETIMEDOUT);
    CHECK_RC(tdl_process_wait(p, NULL, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_process_kill(p, 0), 0);
    CHECK_RC(tdl_process_kill(p, SIGKILL), 0);
    CHECK_RC(tdl_process_wait(p, &signum, EVER), 128 + SIGKILL);
    tdl_process_free(p);
}

TEST_G(what_it_returned, "a child's end is told: what it returned, or the signal; goroutine and thread") {
    crew c;
    for (int thread = 0; thread < 2; thread++) {
        crew_open(&c);
        crew_start(&c, thread, ends, NULL);
        crew_close(&c);
    }
    come_to_rest();
}

TEST_G(refused, "a program that is not there, and options that make no sense, are told before anything runs") {
    const char         *argv[] = { "no-such-program", NULL }, *none[] = { NULL };
    tdl_process_options o = { .size = sizeof o };
    tdl_process        *p = (tdl_process *)1;
    CHECK_RC(tdl_process_start("no-such-program", argv, NULL, &p), -ENOENT);
    CHECK(p == NULL);
    CHECK_RC(tdl_process_start("/etc/passwd", argv, NULL, &p), -EACCES);
    CHECK_RC(tdl_process_start("sh", none, NULL, &p), TDL_EINVAL);
    CHECK_RC(tdl_process_start("", argv, NULL, &p), TDL_EINVAL);
    CHECK_RC(tdl_process_start("sh", argv, NULL, NULL), TDL_EINVAL);
    o.cwd = "/no/such/place";
    CHECK_RC(tdl_process_start("true", argv, &o, &p), -ENOENT);
    o.cwd = NULL;
    o.flags = 64;
    CHECK_RC(tdl_process_start("true", argv, &o, &p), TDL_EINVAL);
    o.flags = 0;
    o.out = TDL_STDIO_OUT;
    CHECK_RC(tdl_process_start("true", argv, &o, &p), TDL_EINVAL);
    o.out = 9999;
    CHECK_RC(tdl_process_start("true", argv, &o, &p), -EBADF);
    o.size = 3;
    CHECK_RC(tdl_process_start("true", argv, &o, &p), TDL_EINVAL);
    CHECK_RC(tdl_process_wait(NULL, NULL, EVER), TDL_EINVAL);
    CHECK_RC(tdl_process_kill(NULL, 1), TDL_EINVAL);
    tdl_process_free(NULL);
    CHECK_RC(tdl_run(NULL, NULL), TDL_EINVAL);
    come_to_rest();
}

/* -- Pipes and the rest -------------------------------------------------------------------- */

TEST_G(pipes, "a child talks through pipes, and has the directory, the environment and no descriptor but what it was given") {
    const char  *env[] = { "ONE=1", "PATH=/usr/bin:/bin", NULL };
    tdl_process *p = sh_with("read line; echo \"<$line> $ONE ${HOME-none}\"; pwd; echo oops >&2; exit 3",
                            (tdl_process_options){ .in = TDL_STDIO_PIPE, .out = TDL_STDIO_PIPE, .err = TDL_STDIO_PIPE,
                                                   .cwd = "/", .env = env });
    tdl_conn *in = tdl_process_pipe(p, 0), *out = tdl_process_pipe(p, 1), *err = tdl_process_pipe(p, 2);
    REQUIRE(in && out && err);
    CHECK(tdl_process_pipe(p, 1) == NULL && tdl_process_pipe(p, 3) == NULL);
    CHECK_RC(tdl_conn_write(in, "hello\n", 6), 6);
    read_all(out, "<hello> 1 none\n/\n");
    read_all(err, "oops\n");
    CHECK_RC(tdl_process_wait(p, NULL, EVER), 3);
    CHECK_RC(tdl_conn_write(in, "more", 4), -EPIPE);
    tdl_conn_free(in);
    tdl_conn_free(out);
    tdl_conn_free(err);
    tdl_process_free(p);
    int leaky = dup(0); /* not close-on-exec */
    p = sh_with("ls /proc/self/fd | wc -l; echo e >&2; cat",
                (tdl_process_options){ .in = TDL_STDIO_NULL, .out = TDL_STDIO_PIPE, .err = TDL_STDIO_OUT });
    out = tdl_process_pipe(p, 1);
    read_all(out, "4\ne\n"); /* 0, 1, 2 and the directory itself */
    close(leaky);
    tdl_conn_free(out);
    CHECK_RC(tdl_process_wait(p, NULL, EVER), 0);
    tdl_process_free(p);
    int ends_of[2];
    REQUIRE(pipe2(ends_of, O_CLOEXEC) == 0);
    p = sh_with("echo given >&2", (tdl_process_options){ .out = 2, .err = ends_of[1] });
    char buf[10];
    close(ends_of[1]);
    CHECK_RC(tdl_process_wait(p, NULL, EVER), 0);
    CHECK(read(ends_of[0], buf, sizeof buf) == 6);
    close(ends_of[0]);
    tdl_process_free(p);
    p = sh_with("cat", (tdl_process_options){ .in = TDL_STDIO_PIPE }); /* the pipe goes with the handle */
    tdl_process_free(p);
    come_to_rest();
}

TEST_G(groups, "a group is killed as a whole; a child that goes with its handle, too; and one that outlives it is reaped") {
    tdl_process *p = sh_with("sleep 1000 & echo started; wait",
                             (tdl_process_options){ .out = TDL_STDIO_PIPE, .flags = TDL_PROCESS_GROUP });
    tdl_conn *out = tdl_process_pipe(p, 1);
    char      buf[20];
    CHECK_RC(tdl_conn_read(out, buf, 8), 8);
    CHECK_RC(tdl_process_kill(p, SIGKILL), 0);
    CHECK_RC(tdl_conn_read(out, buf, 8), 0); /* the sleeper, which has it too, is gone */
    CHECK_RC(tdl_process_wait(p, NULL, EVER), 128 + SIGKILL);
    tdl_conn_free(out);
    tdl_process_free(p);
    p = sh_with("exec sleep 1000", (tdl_process_options){ .flags = TDL_PROCESS_KILL | TDL_PROCESS_SESSION });
    pid_t pid = (pid_t)tdl_process_pid(p);
    CHECK_INT(getsid(pid), pid);
    tdl_process_free(p);
    p = sh("sleep 0.05");
    tdl_process_free(p);
    come_to_rest();
}

static void wait_for_three(void *arg) { CHECK_RC(tdl_process_wait(arg, NULL, EVER), 3); }

static void wait_cancelled(void *arg) { CHECK_RC(tdl_process_wait(arg, NULL, EVER), TDL_ECANCELED); }

TEST_G(several, "several wait for one child, and one is cancelled; many children at once; another's child is left alone") {
    pid_t other = fork();
    if (other == 0) _exit(5);
    tdl_process *p = sh_with("read x; exit 3", (tdl_process_options){ .in = TDL_STDIO_PIPE });
    crew         c;
    crew_open(&c);
    for (int i = 0; i < 6; i++) crew_start(&c, i % 2, wait_for_three, p);
    tdl_g *g = go_joinable(wait_cancelled, p);
    let_park();
    tdl_cancel(g);
    CHECK_RC(tdl_join(g), 0);
    tdl_conn_free(tdl_process_pipe(p, 0));
    crew_close(&c);
    tdl_process_free(p);
    enum { MANY = 20 };
    tdl_process *many[MANY];
    for (int i = 0; i < MANY; i++) many[i] = sh("exit 3");
    for (int i = 0; i < MANY; i++) {
        CHECK_RC(tdl_process_wait(many[i], NULL, EVER), 3);
        tdl_process_free(many[i]);
    }
    int status = 0;
    CHECK(waitpid(other, &status, 0) == other && WEXITSTATUS(status) == 5);
    come_to_rest();
}

static int task_waits(actor *a, int result) {
    if (a->state++ == 0) {
        a->data = sh("kill -KILL $$");
        return tdl_process_wait_start(a->host, a->task, a->data, EVER);
    }
    CHECK_RC(result, 128 + SIGKILL);
    CHECK_INT(outcome_of(a)->extra, SIGKILL);
    tdl_process_free(a->data);
    return ACTOR_DONE;
}

TEST(tasks, "tasks wait for children") {
    stage s;
    stage_open(&s, "children");
    for (int i = 0; i < 5; i++) stage_spawn(&s, task_waits, NULL);
    stage_run(&s);
    stage_close(&s);
    come_to_rest();
}

/* -- Signals ---------------------------------------------------------------------------------- */

static atomic_int own_calls;

static void own_handler(int signum) {
    (void)signum;
    atomic_fetch_add(&own_calls, 1);
}

/* To the process (the threads of the runtime block signals). The thread sanitizer
 * delivers a signal only where its thread calls something that it knows: so to one that does. */
static void poke(int signum) {
#ifdef UNDER_TSAN
    pthread_kill(napper, signum);
#else
    kill(getpid(), signum);
#endif
}

static void *raises(void *signum) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_UNBLOCK, &all, NULL);
    raise((int)(intptr_t)signum);
    return NULL;
}

static void own(int signum) {
    struct sigaction a = { .sa_handler = own_handler };
    sigaction(signum, &a, NULL);
    atomic_store(&own_calls, 0);
}

TEST_G(signals, "signals come on channels, to several, while the program's own handler rests; then it is back") {
    tdl_chan *a = tdl_chan_new(4), *b = tdl_chan_new(4);
    own(SIGUSR1);
    CHECK_RC(tdl_signal_notify(a, SIGUSR1), 0);
    CHECK_RC(tdl_signal_notify(a, SIGUSR1), 0); /* once is enough */
    CHECK_RC(tdl_signal_notify(a, SIGUSR2), 0);
    CHECK_RC(tdl_signal_notify(b, SIGUSR1), 0);
    poke(SIGUSR1);
    CHECK_INT(recv_int(a), SIGUSR1);
    CHECK_INT(recv_int(b), SIGUSR1);
    poke(SIGUSR2);
    CHECK_INT(recv_int(a), SIGUSR2);
    CHECK_INT(tdl_chan_len(b), 0);
    CHECK_INT(tdl_signal_stop(a, SIGUSR1), 1);
    poke(SIGUSR1);
    CHECK_INT(recv_int(b), SIGUSR1);
    CHECK_INT(tdl_chan_len(a), 0);
    CHECK_INT(atomic_load(&own_calls), 0);
    CHECK_INT(tdl_signal_stop(b, 0), 1);
    CHECK_INT(tdl_signal_stop(b, 0), 0);
    poke(SIGUSR1);
    for (int i = 0; i < 1000 && atomic_load(&own_calls) == 0; i++) usleep(2000);
    CHECK_INT(atomic_load(&own_calls), 1);
    CHECK_INT(tdl_signal_stop(a, 0), 1);
    tdl_chan_free(a);
    tdl_chan_free(b);
    signal(SIGUSR1, SIG_DFL);
}

TEST_G(full, "a full channel misses signals, and nobody waits for it; ignored ones do nothing; a handler set later stays") {
    tdl_chan *ch = tdl_chan_new(1);
    CHECK_RC(tdl_signal_notify(ch, SIGUSR2), 0);
    for (int i = 0; i < 50; i++) {
        poke(SIGUSR2);
        usleep(200);
    }
    CHECK_INT(recv_int(ch), SIGUSR2);
    CHECK_RC(tdl_signal_ignore(SIGUSR2), 0);
    pthread_t fresh; /* one that is still in the handler blocks signals, and for it an ignored one waits, and comes after the reset */
    REQUIRE(pthread_create(&fresh, NULL, raises, (void *)(intptr_t)SIGUSR2) == 0);
    pthread_join(fresh, NULL);
    CHECK_RC(tdl_signal_reset(SIGUSR2), 0);
    struct sigaction now;
    sigaction(SIGUSR2, NULL, &now);
    CHECK(now.sa_handler == SIG_DFL);
    CHECK_RC(tdl_signal_notify(ch, SIGUSR2), 0);
    own(SIGUSR2);
    CHECK_INT(tdl_signal_stop(ch, 0), 1);
    sigaction(SIGUSR2, NULL, &now);
    CHECK(now.sa_handler == own_handler);
    signal(SIGUSR2, SIG_DFL);
    tdl_chan_free(ch);
}

TEST_G(no_signals, "what cannot be caught, and what is no signal, is refused") {
    tdl_chan *ch = tdl_chan_new(1);
    static const int bad[] = { 0, -1, 65, SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, 32, 33 };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_RC(tdl_signal_notify(ch, bad[i]), TDL_EINVAL);
        CHECK_RC(tdl_signal_ignore(bad[i]), TDL_EINVAL);
    }
    CHECK_RC(tdl_signal_notify(NULL, SIGUSR1), TDL_EINVAL);
    CHECK_RC(tdl_signal_stop(NULL, 0), TDL_EINVAL);
    tdl_chan_free(ch);
}

TEST_G(no_deadlock, "who waits for a signal, or a child, is not deadlocked") {
    tdl_chan    *ch = tdl_chan_new(1);
    tdl_process *p;
#ifndef UNDER_TSAN
    char script[64];
    CHECK_RC(tdl_signal_notify(ch, SIGUSR1), 0);
    snprintf(script, sizeof script, "sleep 0.1; kill -USR1 %d", (int)getpid());
    p = sh(script);
    CHECK_INT(recv_int(ch), SIGUSR1);
    CHECK_RC(tdl_process_wait(p, NULL, EVER), 0);
    tdl_signal_stop(ch, 0);
    tdl_process_free(p);
#endif
    p = sh("sleep 0.1");
    CHECK_RC(tdl_process_wait(p, NULL, EVER), 0);
    tdl_process_free(p);
    tdl_chan_free(ch);
    come_to_rest();
}
