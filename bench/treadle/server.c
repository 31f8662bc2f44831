/* SPDX-License-Identifier: MIT
 * Servers whose connections are parked between requests.
 * server: what arrives is sent back. server http: a constant answer to each
 * request, which ends with an empty line. */
#include <stdio.h>
#include <string.h>
#include <treadle.h>

static void echo(tdl_conn *c, void *arg)
{
    char buf[4096];
    (void)arg;
    int64_t n = tdl_conn_read(c, buf, sizeof buf);
    if (n <= 0 || tdl_conn_write(c, buf, (size_t)n) < 0)
        tdl_conn_close(c);
}

static void hello(tdl_conn *c, void *arg)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nServer: treadle\r\nContent-Type: text/plain\r\n"
                                 "Content-Length: 6\r\nConnection: keep-alive\r\n\r\nhello\n";
    (void)arg;
    int64_t n = tdl_conn_fill_until(c, "\r\n\r\n", 4, 16384);
    if (n <= 0 || tdl_conn_skip(c, (size_t)n) < 0 || tdl_conn_write(c, answer, sizeof answer - 1) < 0)
        tdl_conn_close(c);
}

static int main_g(void *handler)
{
    tdl_listener *l;
    tdl_server *s;
    tdl_server_options o = { .size = sizeof o };
    memcpy(&o.handler, handler, sizeof o.handler);
    if (tdl_listen("tcp", "127.0.0.1:0", &l) < 0 || tdl_server_new(&l, 1, &o, &s) < 0)
        return 1;
    printf("listening on 127.0.0.1:%d\n", tdl_listener_port(l));
    fflush(stdout);
    tdl_sleep(TDL_HOUR);
    return 0;
}

int main(int argc, char **argv)
{
    tdl_handler handler = argc > 1 && strcmp(argv[1], "http") == 0 ? hello : echo;
    return tdl_run(main_g, &handler);
}
