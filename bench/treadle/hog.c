/* SPDX-License-Identifier: MIT
 * On every P a goroutine computes without end. How long until another one runs
 * that was ready all the time: ns, the median and the longest of the rounds.
 * Usage: hog [rounds] */
#include <stdatomic.h>

#include "bench.h"

static atomic_int    stop, running;
static atomic_llong  last_began; /* when the hog that began last did so */

static void compute(void *arg)
{
    (void)arg;
    atomic_store(&last_began, tdl_now());
    atomic_fetch_add(&running, 1);
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        ;
    atomic_fetch_sub(&running, 1);
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Ready all the while: it has only yielded. */
static int64_t wait_of_one(int hogs)
{
    atomic_store(&stop, 0);
    for (int i = 0; i < hogs; i++)
        tdl_go(compute, NULL);
    while (atomic_load(&running) < hogs)
        tdl_yield();
    int64_t waited = tdl_now() - atomic_load(&last_began);
    atomic_store(&stop, 1);
    while (atomic_load(&running) > 0)
        tdl_yield();
    return waited;
}

static int main_g(void *arg)
{
    long rounds = *(long *)arg;
    int64_t *waited = calloc((size_t)rounds, sizeof *waited);
    for (long i = 0; i < rounds; i++)
        waited[i] = wait_of_one(tdl_gomaxprocs(0));
    qsort(waited, (size_t)rounds, sizeof *waited, by_size);
    printf("%lld\n%lld\n", (long long)waited[rounds / 2], (long long)waited[rounds - 1]);
    return 0;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 20;
    return tdl_run(main_g, &rounds);
}
