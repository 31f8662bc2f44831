/* SPDX-License-Identifier: MIT
 * Sleeps of 50 µs: by how many ns they are too long, at the 50th and at the
 * 99th percentile. */
#include "bench.h"

static int64_t *late;

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int main_g(void *arg)
{
    long n = *(long *)arg;
    const int64_t length = 50 * TDL_MICROSECOND;
    for (long i = 0; i < n; i++) {
        int64_t start = tdl_now();
        tdl_sleep(length);
        late[i] = tdl_now() - start - length;
    }
    qsort(late, (size_t)n, sizeof *late, by_size);
    printf("%lld\n%lld\n", (long long)late[n / 2], (long long)late[n * 99 / 100]);
    return 0;
}

int main(int argc, char **argv)
{
    long n = argc > 1 ? atol(argv[1]) : 5000;
    late = calloc((size_t)n, sizeof *late);
    return tdl_run(main_g, &n);
}
