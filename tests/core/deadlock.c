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
    /* no deadlocks: */
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
