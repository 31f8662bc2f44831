/* SPDX-License-Identifier: MIT
 * A host whose tasks all wait for nothing is told so by tdl_host_poll_opts; one
 * for which something may still happen is not. The kind is the argument; the
 * last line says what the poll gave: "deadlock" or "event". */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <treadle.h>
#include <unistd.h>

enum { LATE_MS = 300 }; /* long enough for several looks */

static tdl_chan *ch, *other;
static tdl_host *h;

static void send_to(tdl_chan *c) {
    tdl_val v;
    tdl_val_set_int(&v, 1);
    tdl_chan_send(c, &v);
}

/* -- Others --------------------------------------------------------------------- */

static void *send_late(void *arg) {
    usleep(LATE_MS * 1000);
    send_to(ch);
    return arg;
}

static void *wait_for_ever(void *arg) {
    tdl_chan_recv(other, NULL);
    return arg;
}

static void *end_soon(void *arg) {
    usleep(50000);
    return arg;
}

static void g_waits(void *arg) { tdl_chan_recv(arg, NULL); }

static void g_sends_late(void *arg) {
    (void)arg;
    tdl_sleep(LATE_MS * TDL_MILLISECOND);
    send_to(ch);
}

static void g_blocks(void *arg) {
    (void)arg;
    tdl_block_begin(TDL_BLOCK_LONG);
    usleep(LATE_MS * 1000);
    tdl_block_end();
    send_to(ch);
}

static void g_computes(void *arg) {
    (void)arg;
    for (int64_t end = tdl_now() + LATE_MS * TDL_MILLISECOND; tdl_now() < end;) {}
    send_to(ch);
}

static void *other_host(void *arg) {
    tdl_host *o;
    tdl_event ev;
    tdl_host_open("other", &o);
    tdl_chan_recv_start(o, (uint32_t)tdl_task_new(o, 0), other, TDL_FOREVER);
    if (tdl_host_poll_opts(o, &ev, 1, -1, TDL_POLL_DEADLOCK) == TDL_EDEADLOCK) {
        puts("deadlock"); /* one of us is told, or both are */
        fflush(stdout);
        _exit(0);
    }
    tdl_host_close(o);
    return arg;
}

static void write_late(int fd) {
    if (fork() != 0) return;
    usleep(LATE_MS * 1000); /* a process of its own */
    _exit(write(fd, "x", 1) != 1);
}

/* Polls without the flag, for reasons of its own. */
static void *plain_host(void *arg) {
    int *fd = arg;
    tdl_host *o;
    tdl_event ev;
    tdl_host_open("plain", &o);
    tdl_host_watch(o, fd[0], TDL_READABLE);
    tdl_host_poll(o, &ev, 1, -1);
    tdl_host_close(o);
    send_to(ch);
    return NULL;
}

static void wake_host(int signal) {
    (void)signal;
    tdl_host_wake(h);
}

static void start(void *(*fn)(void *), void *arg) {
    pthread_t t;
    pthread_create(&t, NULL, fn, arg);
    pthread_detach(t);
}

/* -- The kinds --------------------------------------------------------------------- */

static int flags = TDL_POLL_DEADLOCK;

static void prepare(const char *kind) {
    static int fd[2];
    /* deadlocks: */
    if (strcmp(kind, "goroutines") == 0)
        for (int i = 0; i < 3; i++) tdl_go(g_waits, other);
    if (strcmp(kind, "thread") == 0) start(wait_for_ever, NULL);
    if (strcmp(kind, "ended") == 0) start(end_soon, NULL);
    if (strcmp(kind, "hosts") == 0) start(other_host, NULL);
    if (strcmp(kind, "unwatched") == 0 && pipe(fd) == 0) {
        flags |= TDL_POLL_UNWATCHED;
        tdl_host_watch(h, fd[0], TDL_READABLE);
    }
    if (strcmp(kind, "paused") == 0 && pipe(fd) == 0)
        tdl_host_watch_modify(h, tdl_host_watch(h, fd[0], TDL_READABLE), 0);
    if (strcmp(kind, "interrupt") == 0) signal(SIGINT, wake_host);
    /* none: */
    if (strcmp(kind, "late") == 0) start(send_late, NULL);
    if (strcmp(kind, "sleeper") == 0) {
        tdl_go(g_sends_late, NULL);
        start(wait_for_ever, NULL);
    }
    if (strcmp(kind, "call") == 0) tdl_go(g_blocks, NULL);
    if (strcmp(kind, "hog") == 0) tdl_go(g_computes, NULL);
    if (strcmp(kind, "signal") == 0) {
        signal(SIGALRM, wake_host);
        ualarm(LATE_MS * 1000, 0);
    }
    if (strcmp(kind, "timer") == 0) {
        int t = tdl_task_new(h, 0);
        tdl_sleep_start(h, (uint32_t)t, LATE_MS * TDL_MILLISECOND);
    }
    if (strcmp(kind, "watcher") == 0 && pipe(fd) == 0) {
        tdl_host_watch(h, fd[0], TDL_READABLE);
        write_late(fd[1]);
    }
    if (strcmp(kind, "plain") == 0 && pipe(fd) == 0) {
        start(plain_host, fd);
        write_late(fd[1]);
    }
}

int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "";
    tdl_event   ev;
    ch = tdl_chan_new(0);
    other = tdl_chan_new(0);
    if (tdl_host_open("stuck", &h) < 0) return 1;
    for (int i = 0; i < 2; i++) tdl_chan_recv_start(h, (uint32_t)tdl_task_new(h, 0), ch, TDL_FOREVER);
    prepare(kind);
    int r = tdl_host_poll_opts(h, &ev, 1, -1, flags);
    puts(r == TDL_EDEADLOCK ? "deadlock" : r >= 0 ? "event" : tdl_errname(r));
    if (r == TDL_EDEADLOCK) {
        char text[200];
        tdl_task_describe(h, 0, text, sizeof text);
        puts(text);
        fflush(stdout);
        tdl_dump(1);
    }
    return tdl_host_close(h);
}
