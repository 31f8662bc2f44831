/* SPDX-License-Identifier: MIT
 * A mutex that nobody else wants is locked and unlocked; ns per pair. */
#include "bench.h"

static void run(long n)
{
    tdl_mutex *m = tdl_mutex_new();
    for (long i = 0; i < n; i++) {
        if (tdl_mutex_lock(m) != 0)
            abort();
        tdl_mutex_unlock(m);
    }
    tdl_mutex_free(m);
}

int main(int argc, char **argv)
{
    return bench_run(argc, argv, run, 20000000);
}
