/* SPDX-License-Identifier: MIT
 * What the long runs share. Each prints what it measured, one figure a line, and
 * says what is wrong; the program's status is 1 when anything was. */
#ifndef SOAK_H
#define SOAK_H

#include <stdatomic.h>
#include <stdint.h>
#include <treadle.h>

typedef struct run {
    const char *name;
    int64_t     usual; /* its number when none is given */
    const char *number; /* what that is */
    void (*run)(int64_t number);
} run;

extern const run soak_connections, soak_cuts, soak_signals, soak_big;

/* Notes that something is wrong, and prints the first few. */
__attribute__((format(printf, 1, 2))) void soak_wrong(const char *format, ...);
__attribute__((format(printf, 2, 3))) void soak_says(const char *what, const char *format, ...);
/* rc, which is to be `want`. */
int soak_expect(int64_t rc, int64_t want, const char *what);

int     soak_fds(void);
int64_t soak_rss(void); /* bytes of this process */
int64_t soak_cpu(void); /* ns that this process has used */

#endif
