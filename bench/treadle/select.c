/* SPDX-License-Identifier: MIT
 * An int goes to another goroutine and back, received on both sides by a select
 * of two channels of which one stays silent; ns per round trip. */
#include "bench.h"

static tdl_chan *there, *back, *silent;

static int receive(tdl_chan *from, tdl_val *v)
{
    tdl_case cases[2] = { { from, v, TDL_RECV, 0 }, { silent, NULL, TDL_RECV, 0 } };
    return tdl_select(cases, 2, TDL_FOREVER) == 0 && cases[0].ok;
}

static void reflect(void *arg)
{
    (void)arg;
    tdl_val v;
    while (receive(there, &v))
        tdl_chan_send(back, &v);
    tdl_chan_close(back);
}

static void run(long n)
{
    tdl_val v;
    there = tdl_chan_new(0);
    back = tdl_chan_new(0);
    silent = tdl_chan_new(0);
    tdl_go(reflect, NULL);
    for (long i = 0; i < n; i++) {
        tdl_val_set_int(&v, i);
        tdl_chan_send(there, &v);
        if (!receive(back, &v) || tdl_val_int(&v) != i)
            abort();
    }
    tdl_chan_close(there);
    tdl_chan_recv(back, NULL);
    tdl_chan_free(there);
    tdl_chan_free(back);
    tdl_chan_free(silent);
}

int main(int argc, char **argv)
{
    return bench_run(argc, argv, run, 1000000);
}
