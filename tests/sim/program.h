/* SPDX-License-Identifier: MIT
 *
 * Random goroutine programs, and what must be true of every run of them.
 *
 * program.c makes a program from a seed and runs it, inside a simulation. It
 * ends in every case: what may wait for ever belongs to a pattern that cannot
 * be stuck (producers and consumers that agree, balanced locks); everything else has a
 * deadline. Each operation is noted in record.c when it begins and when it is
 * over.
 *
 * record.c judges. At the end, over the history: each value that was sent was
 * received once, and one whose send failed never (conservation); values come in the
 * order in which they were sent, as far as that order can be told (a before b if the send
 * of a was over before that of b began); a receive says "empty" only where no value
 * was certainly there. In between, whenever all goroutines wait: nobody waits for what
 * is there (no lost wake-up), no deadline is behind, who waited before others were there
 * has not been overtaken. During the run: locks exclude, permits suffice, a
 * deadline ends a wait at its time exactly.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <stdbool.h>
#include <stdint.h>
#include <treadle.h>

enum { MAX_CHANS = 6, MAX_VALUES = 1024, MAX_ACTORS = 64, MAX_CASES = 4 };

typedef struct verdict {
    char text[256]; /* "": all is well */
    int values, operations, quiet; /* how much there was to judge */
} verdict;

/* The main goroutine of a simulation: arg is a *run. */
typedef struct run {
    uint64_t seed; /* of the program */
    verdict v;
} run;
int program_main(void *arg);

/* -- record.c ----------------------------------------------------------------- */

enum { DOES_NOTHING, DOES_SEND, DOES_RECV, DOES_SELECT, DOES_LOCK, DOES_ACQUIRE, DOES_GROUP, DOES_COND, DOES_SLEEP };

typedef struct part { /* one case: on which channel, sending or receiving what */
    int chan, value;  /* value: an index, -1 when receiving */
} part;

/* What a goroutine is doing; written by it, read while it waits. */
typedef struct actor {
    bool used, over;
    bool asked, cancelled; /* tdl_cancel of it has been called; has returned */
    bool stop;             /* it has been told */
    int does;
    part parts[MAX_CASES];
    int nparts;
    int object, amount;
    int64_t deadline;
    uint64_t began;   /* the stamp when the operation began */
    uint64_t waits;   /* the look at which it was seen waiting first; 0: none */
    tdl_g *g;
} actor;

void record_reset(verdict *v);
/* Notes the first thing that is wrong. */
void wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool record_failed(void);

actor *record_actor(void);
uint64_t record_stamp(void);

int  record_chan(tdl_chan *ch, uint32_t cap); /* its number */
void record_closing(int chan);
int  record_value(void); /* a new value, unique */
void record_send_begins(int value, int chan);
void record_send_over(int value, bool sent);
/* began: the stamp before the receive. */
void record_received(int chan, int64_t value, uint64_t began);
void record_empty(int chan, uint64_t began);

int  record_mutex(void);
void record_locked(int mutex);
void record_unlocks(int mutex);
int  record_sema(uint32_t permits);
void record_acquired(actor *a, int sema, uint32_t n);
void record_releases(int sema, uint32_t n);
int  record_group(void);
void record_group_add(int group, int n);

/* All but the caller wait. The earliest deadline of those who have one. */
int64_t record_quiet(void);
/* Is anybody not over? */
bool record_anybody(void);
/* After the end, when the channels are drained. */
void record_judge(void);

#endif
