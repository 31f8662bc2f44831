/* SPDX-License-Identifier: MIT
 * A benchmark program: one processor unless it says otherwise, one warm-up of a
 * tenth, one timed run; prints nanoseconds per operation and nothing else. */
#ifndef BENCH_H
#define BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <treadle.h>

/* Does n operations, in the goroutine that calls it. */
typedef void (*bench_fn)(long n);

typedef struct bench {
    bench_fn fn;
    long     n;
} bench;

static inline int bench_main(void *arg)
{
    bench *b = arg;
    b->fn(b->n / 10 + 1);
    int64_t start = tdl_now();
    b->fn(b->n);
    printf("%.2f\n", (double)(tdl_now() - start) / (double)b->n);
    return 0;
}

static inline int bench_run_on(int processors, int argc, char **argv, bench_fn fn, long n)
{
    bench b = { fn, argc > 1 ? atol(argv[1]) : n };
    tdl_gomaxprocs(processors);
    return tdl_run(bench_main, &b);
}

static inline int bench_run(int argc, char **argv, bench_fn fn, long n)
{
    return bench_run_on(1, argc, argv, fn, n);
}

#endif
