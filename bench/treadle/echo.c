/* SPDX-License-Identifier: MIT
 * The echo server that is measured: one goroutine per connection, no deadline,
 * as in the Go program beside it. */
#include <stdio.h>
#include <treadle.h>

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
    while (tdl_listener_accept(l, &c) == 0)
        tdl_go(serve, c);
    return 1;
}

int main(void)
{
    return tdl_run(main_g, NULL);
}
