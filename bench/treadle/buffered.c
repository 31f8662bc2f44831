/* SPDX-License-Identifier: MIT
 * A stream of ints through a channel with 128 places; ns per value. */
#include "bench.h"

static tdl_chan *stream;

static void produce(void *arg)
{
    tdl_val v;
    for (long i = 0; i < *(long *)arg; i++) {
        tdl_val_set_int(&v, i);
        tdl_chan_send(stream, &v);
    }
    tdl_chan_close(stream);
}

static void run(long n)
{
    tdl_val v;
    stream = tdl_chan_new(128);
    tdl_go(produce, &n);
    for (long i = 0; i < n; i++)
        if (tdl_chan_recv(stream, &v) != 0 || tdl_val_int(&v) != i)
            abort();
    if (tdl_chan_recv(stream, &v) != TDL_ECLOSED)
        abort();
    tdl_chan_free(stream);
}

int main(int argc, char **argv)
{
    return bench_run(argc, argv, run, 5000000);
}
