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
#include <treadle.h>

/* -- Calls ------------------------------------------------------------------------- */

typedef struct call {
    const char *name;
    int         errors[18]; /* ends with 0 */
} call;

extern const call sweep_calls[];
extern const int  sweep_ncalls;

/* Puts the counting table in place, for good. */
void sweep_begin(void);
/* From now on; error 0: nothing fails, the calls are counted. */
void sweep_arm(int which, int error, int at);
/* Nothing fails any more. Did it? */
bool sweep_disarm(void);
int sweep_call_named(const char *name);
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

/* Among the codes: a server has counted it, as there is nobody whom it could tell. */
enum { SWEEP_COUNTED = 1 };

/* What the last scenario was told. */
typedef struct told {
    int  codes[64]; /* the errors, in order */
    int  n;
    bool done; /* all its work */
} told;

extern told sweep_told;

/* -- What scenarios are made of ------------------------------------------------------- */

#define WAIT (10 * TDL_SECOND)

/* An error is noted; the end of a stream, or a closed one, is none. What it was given. */
int64_t saw(int64_t rc);
/* For what returns NULL when memory is out. */
void *got(void *p);
void is_done(void);
int64_t soon(void);

/* One connection, served by fn in a goroutine, which frees it. */
typedef struct server {
    tdl_listener  *l;
    tdl_waitgroup *gone;
    char           address[128];
    void (*fn)(struct server *s, tdl_conn *c);
    void *arg;
} server;

bool server_open(server *s, const char *network, const char *address, void (*fn)(server *s, tdl_conn *c), void *arg);
void server_close(server *s);

/* In sweep_streams.c and sweep_services.c. */
int scenario_copying(void *arg), scenario_sending(void *arg), scenario_parked(void *arg), scenario_asked(void *arg);
int scenario_files(void *arg), scenario_names(void *arg), scenario_processes(void *arg), scenario_signals(void *arg);
int scenario_changes(void *arg), scenario_terminal(void *arg);

#endif
