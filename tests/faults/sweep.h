/* SPDX-License-Identifier: MIT
 *
 * The sweep: each call of the seam fails with each error that it can have, at each
 * of its first so many calls in each scenario. What a scenario is told must be
 * that error, once, or nothing, and then all its work is done.
 */
#ifndef SWEEP_H
#define SWEEP_H

#include <stdbool.h>
#include <stdint.h>

/* -- Calls ------------------------------------------------------------------------- */

typedef struct call {
    const char *name;
    int         errors[18]; /* ends with 0 */
} call;

extern const call sweep_calls[];
extern const int  sweep_ncalls;

/* Puts the counting table in place; error 0: nothing fails, the calls are counted. */
void sweep_arm(int which, int error, int at);
/* Puts the real table back. Did it fail? */
bool sweep_disarm(void);
/* Calls of this kind since sweep_arm. */
int sweep_counted(int which);
/* Allocations and mappings that are there. */
int64_t sweep_live(void);

/* -- Scenarios ----------------------------------------------------------------------- */

typedef struct scenario {
    const char *name;
    int (*run)(void); /* 0, or why it could not run at all */
    int instead;      /* what another error may be told as, or 0 */
} scenario;

extern const scenario sweep_scenarios[];
extern const int      sweep_nscenarios;

/* What the last scenario was told. */
typedef struct told {
    int  codes[64]; /* the errors, in order */
    int  n;
    bool done; /* all its work */
} told;

extern told sweep_told;

#endif
