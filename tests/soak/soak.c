/* SPDX-License-Identifier: MIT
 * usage: soak NAME [NUMBER] */
#include "soak.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const run *const runs[] = { &soak_connections, &soak_cuts, &soak_signals, &soak_big };
enum { RUNS = sizeof runs / sizeof *runs };

static atomic_int wrong;

void soak_wrong(const char *format, ...) {
    va_list args;
    if (atomic_fetch_add(&wrong, 1) >= 20) return;
    va_start(args, format);
    fputs("  wrong: ", stdout);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

void soak_says(const char *what, const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("  %-44s ", what);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    fflush(stdout);
}

int soak_expect(int64_t rc, int64_t want, const char *what) {
    if (rc == want) return 1;
    soak_wrong("%s: %" PRId64 " %s, not %" PRId64 " %s", what, rc, rc < 0 ? tdl_errname((int)rc) : "", want,
               want < 0 ? tdl_errname((int)want) : "");
    return 0;
}

int soak_fds(void) {
    DIR *dir = opendir("/proc/self/fd");
    int  n = 0;
    if (!dir) return -1;
    while (readdir(dir) != NULL) n++;
    closedir(dir);
    return n - 3;
}

int64_t soak_rss(void) {
    long  pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1) soak_wrong("/proc/self/statm");
    if (f) fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

int64_t soak_cpu(void) {
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return ts.tv_sec * TDL_SECOND + ts.tv_nsec;
}

static int nothing(void *arg) {
    (void)arg;
    return 0;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; argc > 1 && i < RUNS; i++) {
        if (strcmp(runs[i]->name, argv[1]) != 0) continue;
        int64_t n = argc > 2 ? strtoll(argv[2], NULL, 10) : runs[i]->usual, from = tdl_now();
        if (n <= 0) break;
        tdl_run(nothing, NULL); /* what is kept for ever is made now */
        printf("%s, %" PRId64 " %s\n", runs[i]->name, n, runs[i]->number);
        soak_says("by", "%s, %d processors", tdl_netpoll_name(), tdl_gomaxprocs(0));
        runs[i]->run(n);
        soak_says("seconds", "%.1f", (double)(tdl_now() - from) / 1e9);
        puts(atomic_load(&wrong) ? "  WRONG" : "  all is well");
        return atomic_load(&wrong) != 0;
    }
    fputs("usage: soak NAME [NUMBER], where NAME is\n", stderr);
    for (int i = 0; i < RUNS; i++)
        fprintf(stderr, "  %-12s %s, %" PRId64 " as a rule\n", runs[i]->name, runs[i]->number, runs[i]->usual);
    return 2;
}
