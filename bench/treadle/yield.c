/* SPDX-License-Identifier: MIT
 * Two goroutines yield to each other; ns per yield. */
#include "bench.h"

static int running;

static void yielder(void *arg)
{
    for (long n = *(long *)arg; n > 0; n--)
        tdl_yield();
    running--;
}

static void run(long n)
{
    long each = n / 2;
    running = 1;
    tdl_go(yielder, &each);
    for (long i = 0; i < each; i++)
        tdl_yield();
    while (running > 0)
        tdl_yield();
}

int main(int argc, char **argv)
{
    return bench_run(argc, argv, run, 5000000);
}
