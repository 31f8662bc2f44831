/* SPDX-License-Identifier: MIT
 * Many stackful goroutines, all parked on a channel; one number per line: bytes
 * of memory each (resident, and of page tables), mappings of the process, ns to
 * start and park each.
 * Usage: million [n] */
#include <stdatomic.h>
#include <string.h>

#include "bench.h"

static tdl_chan   *gate;
static atomic_long arrived; /* main_g may be run beside the others: it is a hog */

static void waits(void *arg)
{
    (void)arg;
    arrived++;
    tdl_chan_recv(gate, NULL);
    arrived--;
}

static long resident(void)
{
    char line[256];
    long kilobytes = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "VmRSS:", 6) == 0 || strncmp(line, "VmPTE:", 6) == 0)
            kilobytes += atol(line + 6);
    if (f != NULL)
        fclose(f);
    return kilobytes * 1024;
}

static long mappings(void)
{
    long lines = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    for (int c; f != NULL && (c = fgetc(f)) != EOF;)
        lines += c == '\n';
    if (f != NULL)
        fclose(f);
    return lines;
}

static int main_g(void *arg)
{
    long n = *(long *)arg, before = resident();
    gate = tdl_chan_new(0);
    int64_t start = tdl_now();
    for (long i = 0; i < n; i++) {
        if (tdl_go(waits, NULL) == NULL) {
            fprintf(stderr, "million: no goroutine after %ld\n", i);
            return 1;
        }
        if (i % 128 == 0)
            tdl_yield();
    }
    while (arrived < n)
        tdl_yield();
    double each = (double)(tdl_now() - start) / (double)n;
    printf("%.0f\n%ld\n%.1f\n", (double)(resident() - before) / (double)n, mappings(), each);
    tdl_chan_close(gate);
    while (arrived > 0)
        tdl_yield();
    return 0;
}

int main(int argc, char **argv)
{
    long n = argc > 1 ? atol(argv[1]) : 1000000;
    tdl_gomaxprocs(1);
    return tdl_run(main_g, &n);
}
