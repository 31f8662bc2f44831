/* SPDX-License-Identifier: MIT
 *
 * How much stack the goroutines of each spawn site use at most. While it is on,
 * a goroutine starts on a stack without pages; at its end (or when asked) the
 * lowest page that is there has its lowest byte that is not zero. A site is a
 * place in the code and a size; what is known of the sites is under one lock.
 */
#ifndef TDL_SCHED_CENSUS_H
#define TDL_SCHED_CENSUS_H

#include "sched/sched.h"

/* Relaxed: when it is set, goroutines are counted from some time on. */
extern _Atomic int tdl_census_on;

/* g was taken, and has only its number yet. */
void tdl_census_begins(tdl_g *g);
/* g's stack is no longer in use; g->counted. */
void tdl_census_ends(tdl_g *g);
/* The runtime starts: TDL_DEBUG=stacks turns it on. */
void tdl_census_run_starts(void);
/* The run is over, its goroutines are still there: reports, if TDL_DEBUG says so. */
void tdl_census_run_ends(void);

#endif
