/* SPDX-License-Identifier: MIT
 * One host and nothing else, driven as the bindings drive it: poll a batch,
 * resume the task of each event, wait by _start forms; ns per task switch.
 * Usage: host WHAT [N [traced]], WHAT one of the cases below. traced: stops
 * itself before and after the N switches instead of timing (see trace/steps.c). */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <treadle.h>

enum { BATCH = 256 };

/* One step of a task: starts its next operations until one is pending. */
typedef void (*step_fn)(uint32_t task);

static tdl_host *host;
static step_fn   steps[64];
static long      begin_at, end_at; /* switches */
static bool      traced;
static tdl_chan *there, *back;
static tdl_mutex *mutex;
static uint32_t  pair[2];

static void check(int rc, const char *what)
{
    if (rc < 0 && rc != TDL_PENDING) {
        fprintf(stderr, "%s: %s\n", what, tdl_strerror(rc));
        exit(1);
    }
}

static uint32_t start(step_fn step)
{
    int task = tdl_task_new(host, 1);
    check(task, "task");
    steps[task] = step;
    return (uint32_t)task;
}

/* What the bindings' loop does between two resumed coroutines; nanoseconds from
 * switch begin_at to switch end_at. */
static int64_t loop(void)
{
    tdl_event events[BATCH];
    int64_t began = 0;
    for (long switches = 0;;) {
        int n = tdl_host_poll(host, events, BATCH, -1);
        check(n, "poll");
        for (int i = 0; i < n; i++, switches++) {
            if (switches == begin_at) {
                if (traced)
                    raise(SIGSTOP);
                began = tdl_now();
            }
            if (switches == end_at) {
                int64_t took = tdl_now() - began;
                if (traced)
                    raise(SIGSTOP);
                return took;
            }
            steps[events[i].task](events[i].task);
        }
    }
}

/* -- The cases ------------------------------------------------------------------ */

static void yields(uint32_t task)
{
    check(tdl_yield_start(host, task), "yield");
}

static void spawns(uint32_t task)
{
    check(tdl_task_free(host, task), "free");
    start(spawns);
}

static void sleeps(uint32_t task)
{
    check(tdl_sleep_start(host, task, 1), "sleep");
}

static void parks(uint32_t task)
{
    check(tdl_task_park_start(host, task, TDL_FOREVER), "park");
    tdl_task_ready(host, pair[pair[0] == task], 0);
}

/* Sends and receives until it has to wait. */
static void sends(uint32_t task)
{
    tdl_val v;
    tdl_val_set_int(&v, 1);
    while (tdl_chan_send_start(host, task, there, &v, TDL_FOREVER) == 0)
        ;
}

static void receives(uint32_t task)
{
    while (tdl_chan_recv_start(host, task, there, TDL_FOREVER) == 0)
        ;
}

static void selects(uint32_t task)
{
    tdl_case cases[2] = { { there, NULL, TDL_RECV, 0 }, { back, NULL, TDL_RECV, 0 } };
    while (tdl_select_start(host, task, cases, 2, TDL_FOREVER) >= 0)
        ;
}

static void locks(uint32_t task)
{
    check(tdl_mutex_lock_start(host, task, mutex, TDL_FOREVER), "lock");
    check(tdl_mutex_unlock(mutex), "unlock");
    check(tdl_yield_start(host, task), "yield");
}

static void two(step_fn a, step_fn b)
{
    pair[0] = start(a);
    pair[1] = start(b);
}

static bool prepare(const char *what)
{
    bool shared = strncmp(what, "shared-", 7) == 0;
    uint32_t cap = strstr(what, "buffered") ? 128 : 0;
    there = shared ? tdl_chan_new(cap) : tdl_chan_new_local(host, cap);
    back = shared ? tdl_chan_new(cap) : tdl_chan_new_local(host, cap);
    mutex = tdl_mutex_new();
    if (strcmp(what, "yield") == 0)
        two(yields, yields);
    else if (strcmp(what, "spawn") == 0)
        start(spawns);
    else if (strcmp(what, "sleep") == 0)
        two(sleeps, sleeps);
    else if (strcmp(what, "park") == 0)
        two(parks, parks);
    else if (strcmp(what, "mutex") == 0)
        two(locks, locks);
    else if (strcmp(what, "chan") == 0 || strcmp(what, "buffered") == 0 || strcmp(what, "shared-chan") == 0)
        two(sends, receives);
    else if (strcmp(what, "select") == 0 || strcmp(what, "shared-select") == 0)
        two(sends, selects);
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "yield";
    long n = argc > 2 ? atol(argv[2]) : 5000000;
    traced = argc > 3;
    check(tdl_host_open("bench", &host), "open");
    if (!prepare(what)) {
        fprintf(stderr, "host: unknown case: %s\n", what);
        return 2;
    }
    begin_at = n / 10 + 100;
    end_at = begin_at + n;
    printf("%.2f\n", (double)loop() / (double)n);
    return 0; /* the pending operations go with the process */
}
