/* SPDX-License-Identifier: MIT
 * A program whose goroutines all wait for nothing must end with the message
 * and the dump; one in which something may still happen must not. The kind is
 * the argument; those that are no deadlock print "over". */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <treadle.h>
#include <unistd.h>

static tdl_chan *never;

static void wait_for_ever(void *arg) {
    (void)arg;
    tdl_chan_recv(never, NULL);
}

static void *send_late(void *arg) {
    tdl_val v;
    usleep(100000);
    tdl_val_set_int(&v, 1);
    tdl_chan_send(never, &v);
    return arg;
}

static void *wait_as_thread(void *arg) {
    wait_for_ever(arg);
    return arg;
}

static void wait_pinned(void *arg) {
    tdl_pin();
    wait_for_ever(arg);
}

static void send_from_call(void *arg) {
    tdl_block_begin(TDL_BLOCK_LONG);
    usleep(100000);
    tdl_block_end();
    send_late(arg);
}

static void send_pinned(void *arg) {
    tdl_pin();
    usleep(100000); /* its thread is nobody's business */
    send_late(arg);
}

/* A host whose loop is a foreign one. */
static void *guest(void *arg) {
    tdl_host *h;
    tdl_val   v;
    if (tdl_host_open("guest", &h) < 0) return NULL;
    tdl_host_timeout(h);
    usleep(100000);
    tdl_val_set_int(&v, 1);
    while (tdl_chan_try_send(never, &v) == TDL_EAGAIN) usleep(1000);
    tdl_host_close(h);
    return arg;
}

static int main_g(void *arg) {
    const char    *kind = arg;
    tdl_mutex     *m = tdl_mutex_new();
    tdl_waitgroup *wg = tdl_waitgroup_new();
    tdl_listener  *l = NULL;
    tdl_conn      *c;
    pthread_t      thread;
    never = tdl_chan_new(0);
    if (strcmp(kind, "recv") == 0) tdl_chan_recv(never, NULL);
    if (strcmp(kind, "select") == 0) tdl_select(NULL, 0, TDL_FOREVER);
    if (strcmp(kind, "group") == 0) {
        for (int i = 0; i < 5; i++) tdl_go(wait_for_ever, NULL);
        tdl_waitgroup_add(wg, 1);
        tdl_waitgroup_wait(wg);
    }
    if (strcmp(kind, "lock") == 0) {
        tdl_mutex_lock(m);
        tdl_mutex_lock(m);
    }
    if (strcmp(kind, "join") == 0) tdl_join(tdl_go_opts(wait_for_ever, NULL, &(tdl_go_options){sizeof(tdl_go_options), TDL_GO_JOINABLE, 0, "waiter"}));
    if (strcmp(kind, "pinned") == 0) {
        for (int i = 0; i < 3; i++) tdl_go(wait_pinned, NULL);
        tdl_chan_recv(never, NULL);
    }
    if (strcmp(kind, "services") == 0) { /* their threads are there, and idle */
        const char  *argv[] = { "true", NULL };
        tdl_stat     st = { .size = sizeof st };
        tdl_process *p;
        tdl_fs_stat("/", 1, &st, TDL_FOREVER);
        if (tdl_process_start("true", argv, NULL, &p) == 0) tdl_process_wait(p, NULL, TDL_FOREVER);
        tdl_chan_recv(never, NULL);
    }
    if (strcmp(kind, "threads") == 0) {
        for (int i = 0; i < 3; i++) pthread_create(&thread, NULL, wait_as_thread, NULL);
        tdl_chan_recv(never, NULL);
    }
    /* no deadlocks: */
    if (strcmp(kind, "call") == 0) {
        tdl_go(send_from_call, NULL);
        tdl_chan_recv(never, NULL);
    }
    if (strcmp(kind, "calls") == 0) { /* main itself is in one */
        tdl_go(wait_for_ever, NULL);
        tdl_block_begin(TDL_BLOCK_LONG);
        usleep(100000);
        tdl_block_end();
    }
    if (strcmp(kind, "busy") == 0) {
        tdl_go(send_pinned, NULL);
        tdl_chan_recv(never, NULL);
    }
    if (strcmp(kind, "guest") == 0) {
        pthread_create(&thread, NULL, guest, NULL);
        tdl_chan_recv(never, NULL);
    }
    if (strcmp(kind, "child") == 0) {
        const char  *argv[] = { "sleep", "0.1", NULL };
        tdl_process *p;
        if (tdl_process_start("sleep", argv, NULL, &p) == 0) tdl_process_wait(p, NULL, TDL_FOREVER);
    }
    if (strcmp(kind, "until") == 0) tdl_chan_recv_until(never, NULL, tdl_now() + 100 * TDL_MILLISECOND);
    if (strcmp(kind, "timer") == 0) tdl_sleep(100 * TDL_MILLISECOND);
    if (strcmp(kind, "thread") == 0) {
        pthread_create(&thread, NULL, send_late, NULL);
        tdl_chan_recv(never, NULL);
    }
    if (strcmp(kind, "accept") == 0) {
        tdl_listen("tcp", "127.0.0.1:0", &l);
        tdl_listener_set_deadline(l, tdl_now() + 100 * TDL_MILLISECOND);
        tdl_listener_accept(l, &c);
    }
    puts("over");
    return 0;
}

int main(int argc, char **argv) { return tdl_run(main_g, argc > 1 ? argv[1] : ""); }
