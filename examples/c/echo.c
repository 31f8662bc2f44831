/* SPDX-License-Identifier: MIT
 * An echo server: one goroutine per connection.
 * Usage: echo [host:port]     default 127.0.0.1:7000 */
#include "server.h"

static void serve(void *arg)
{
    tdl_conn *c = arg;
    char buf[4096];
    int64_t n;
    for (;;) {
        tdl_conn_set_read_deadline(c, tdl_now() + 30 * TDL_SECOND);
        if ((n = tdl_conn_read(c, buf, sizeof buf)) <= 0) /* 0: end of stream; < 0: TDL_E… */
            break;
        if (tdl_conn_write(c, buf, (size_t)n) < 0) /* all n bytes, or an error */
            break;
    }
    tdl_conn_free(c); /* closes, and gives the handle back */
}

int main(int argc, char **argv)
{
    return server_run(argc > 1 ? argv[1] : "127.0.0.1:7000", serve);
}
