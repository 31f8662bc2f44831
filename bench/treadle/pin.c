/* SPDX-License-Identifier: MIT
 * An int goes to a goroutine that is pinned to its thread and back, over two
 * unbuffered channels; ns per round trip.
 * Usage: pin [n [processors]] */
#include "bench.h"

static tdl_chan *there, *back;

static void reflect(void *arg)
{
    (void)arg;
    tdl_val v;
    tdl_pin();
    while (tdl_chan_recv(there, &v) == 0)
        tdl_chan_send(back, &v);
    tdl_unpin();
    tdl_chan_close(back);
}

static void run(long n)
{
    tdl_val v;
    there = tdl_chan_new(0);
    back = tdl_chan_new(0);
    tdl_go(reflect, NULL);
    for (long i = 0; i < n; i++) {
        tdl_val_set_int(&v, i);
        tdl_chan_send(there, &v);
        if (tdl_chan_recv(back, &v) != 0 || tdl_val_int(&v) != i)
            abort();
    }
    tdl_chan_close(there);
    tdl_chan_recv(back, NULL);
    tdl_chan_free(there);
    tdl_chan_free(back);
}

int main(int argc, char **argv)
{
    return bench_run_on(argc > 2 ? atoi(argv[2]) : 1, argc, argv, run, 100000);
}
