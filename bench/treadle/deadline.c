/* SPDX-License-Identifier: MIT
 * Setting the read deadline of an idle TCP connection, each time to a later one. */
#include "bench.h"

static tdl_conn *c;

static void set(long n)
{
    int64_t when = tdl_now() + TDL_HOUR;
    if (!c) {
        tdl_listener *l;
        char address[64];
        tdl_listen("tcp", "127.0.0.1:0", &l);
        tdl_listener_address(l, address, sizeof address);
        if (tdl_dial("tcp", address, TDL_SECOND, &c) < 0)
            exit(1);
    }
    for (long i = 0; i < n; i++)
        tdl_conn_set_read_deadline(c, when + i);
}

int main(int argc, char **argv) { return bench_run(argc, argv, set, 5000000); }
