/* SPDX-License-Identifier: MIT
 * Goroutines that end at once, started in batches; ns per goroutine.
 * Usage: spawn [n [batch]] */
#include "bench.h"

static long ended, batch = 1;

static void nothing(void *arg)
{
    (void)arg;
    ended++;
}

static void run(long n)
{
    for (long started = 0; started < n;) {
        long upto = started + batch;
        ended = 0;
        for (; started < upto; started++)
            if (tdl_go(nothing, NULL) == NULL)
                abort();
        while (ended < batch)
            tdl_yield();
    }
}

int main(int argc, char **argv)
{
    if (argc > 2)
        batch = atol(argv[2]);
    return bench_run(argc, argv, run, 2000000);
}
