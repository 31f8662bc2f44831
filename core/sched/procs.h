/* SPDX-License-Identifier: MIT
 *
 * How much processor time the process may use: the CPUs of its affinity mask,
 * and the bandwidth limit of its cgroup and of each cgroup above it.
 *
 * A tdl_procs remembers between two looks where the limits are; it belongs to
 * one thread at a time. A look again costs one system call for the mask and
 * three for each of a few small files.
 */
#ifndef TDL_SCHED_PROCS_H
#define TDL_SCHED_PROCS_H

#include <stdbool.h>
#include <stddef.h>

enum { PROCS_PATH = 4096, PROCS_DIRS = 16, PROCS_NO_LIMIT = 1 << 30 };

/* A cgroup whose limits hold for us, and how many characters of its path are
 * the mount point: from there on each prefix is a cgroup above it. */
typedef struct tdl_procs_dir {
    bool v2;
    size_t top;
    char *path;
} tdl_procs_dir;

typedef struct tdl_procs {
    const char *root; /* before every path, for tests; NULL: none */
    bool known;       /* dir holds for cgroup */
    char cgroup[2][PROCS_PATH]; /* ours: v1 (that of the cpu controller), v2; "": none */
    char now[2][PROCS_PATH];    /* as read last */
    int ndirs;
    tdl_procs_dir dir[PROCS_DIRS];
    char line[PROCS_PATH + 512]; /* room for the lines of files */
} tdl_procs;

/* Zeroed memory is a tdl_procs that has not looked yet. */
void tdl_procs_forget(tdl_procs *procs);
/* ceil(quota / period) of the tightest cgroup; PROCS_NO_LIMIT when none has a
 * limit, or it cannot be found out. */
int tdl_procs_cgroup(tdl_procs *procs);
/* CPUs in the affinity mask; at least 1. */
int tdl_procs_affinity(void);
/* What follows from the two, as in Go: a limit below 2 counts as 2, so that a
 * goroutine that computes does not keep others waiting. */
int tdl_procs_combine(int affinity, int limit);

/* TDL_MAXPROCS from the environment as it was at the first call, which then
 * stays the number; 0: it is not set. */
int tdl_procs_fixed(void);
/* The default number of Ps. Any thread. */
int tdl_procs_default(void);
/* The same, looked up with procs and without regard to the environment. */
int tdl_procs_look(tdl_procs *procs);

#endif
