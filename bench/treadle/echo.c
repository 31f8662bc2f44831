/* SPDX-License-Identifier: MIT
 * The echo server that is measured: one goroutine per connection, no deadline,
 * as in the Go program beside it.
 * Usage: echo [hogs N | pairs N | close]: alone, or beside N goroutines that compute
 * without end, or N pairs per P that play ping-pong on channels; or each connection
 * is closed as soon as it is accepted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <treadle.h>

static const char *beside = "";
static int count;

static void serve(void *arg)
{
    tdl_conn *c = arg;
    char buf[4096];
    int64_t n;
    while ((n = tdl_conn_read(c, buf, sizeof buf)) > 0)
        if (tdl_conn_write(c, buf, (size_t)n) < 0)
            break;
    tdl_conn_free(c);
}

static void compute_for_ever(void *arg)
{
    (void)arg;
    for (volatile long i = 0;; i++)
        ;
}

static void reflect(void *arg)
{
    tdl_chan **ch = arg;
    tdl_val v;
    while (tdl_chan_recv(ch[0], &v) == 0)
        tdl_chan_send(ch[1], &v);
}

static void ping_pong(void *arg)
{
    (void)arg;
    tdl_chan *ch[2] = { tdl_chan_new(0), tdl_chan_new(0) };
    tdl_go(reflect, ch);
    tdl_val v;
    for (long i = 0;; i++) {
        tdl_val_set_int(&v, i);
        tdl_chan_send(ch[0], &v);
        tdl_chan_recv(ch[1], &v);
    }
}

static int main_g(void *arg)
{
    (void)arg;
    tdl_listener *l;
    tdl_conn *c;
    int rc = tdl_listen("tcp", "127.0.0.1:0", &l);
    if (rc < 0) {
        fprintf(stderr, "listen: %s\n", tdl_strerror(rc));
        return 1;
    }
    printf("listening on 127.0.0.1:%d\n", tdl_listener_port(l));
    fflush(stdout);
    if (strcmp(beside, "hogs") == 0)
        for (int i = 0; i < count; i++)
            tdl_go(compute_for_ever, NULL);
    if (strcmp(beside, "pairs") == 0)
        for (int i = 0; i < count * tdl_gomaxprocs(0); i++)
            tdl_go(ping_pong, NULL);
    int only_close = strcmp(beside, "close") == 0;
    while (tdl_listener_accept(l, &c) == 0) {
        if (only_close)
            tdl_conn_free(c);
        else
            tdl_go(serve, c);
    }
    return 1;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        beside = argv[1];
    if (argc > 2)
        count = atoi(argv[2]);
    return tdl_run(main_g, NULL);
}
