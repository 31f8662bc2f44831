/* SPDX-License-Identifier: MIT
 * A timer an hour ahead is started and cancelled before it fires, beside others
 * that are pending; ns per pair.
 * Usage: timer [n [HOW [others]]]: kept: one handle again and again, and the time
 * is known; reset: the same, but the clock is read each time; new: a handle each
 * time; after: the same, without a channel. */
#include <string.h>

#include "bench.h"

static const char *how = "reset";
static long        others;

static void nothing(void *arg)
{
    (void)arg;
}

static void again(long n)
{
    tdl_timer *t = tdl_timer_new(tdl_now() + TDL_HOUR, 0);
    for (long i = 0; i < n; i++) {
        tdl_timer_reset(t, tdl_now() + TDL_HOUR, 0);
        if (tdl_timer_stop(t) != 1)
            abort();
    }
    tdl_timer_free(t);
}

static void kept(long n)
{
    int64_t when = tdl_now() + TDL_HOUR;
    tdl_timer *t = tdl_timer_func(when, 0, nothing, NULL);
    for (long i = 0; i < n; i++) {
        tdl_timer_reset(t, when + i, 0);
        if (tdl_timer_stop(t) != 1)
            abort();
    }
    tdl_timer_free(t);
}

static void made_anew(long n)
{
    for (long i = 0; i < n; i++) {
        tdl_timer *t = tdl_timer_new(tdl_now() + TDL_HOUR, 0);
        if (tdl_timer_stop(t) != 1)
            abort();
        tdl_timer_free(t);
    }
}

static void after(long n)
{
    for (long i = 0; i < n; i++) {
        tdl_timer *t = tdl_timer_func(tdl_now() + TDL_HOUR, 0, nothing, NULL);
        if (tdl_timer_stop(t) != 1)
            abort();
        tdl_timer_free(t);
    }
}

static void run(long n)
{
    tdl_timer **pending = calloc((size_t)others + 1, sizeof *pending);
    for (long i = 0; i < others; i++)
        pending[i] = tdl_timer_func(tdl_now() + TDL_HOUR + i * TDL_SECOND, 0, nothing, NULL);
    if (strcmp(how, "kept") == 0)
        kept(n);
    else if (strcmp(how, "new") == 0)
        made_anew(n);
    else if (strcmp(how, "after") == 0)
        after(n);
    else
        again(n);
    for (long i = 0; i < others; i++)
        tdl_timer_free(pending[i]);
    free(pending);
}

int main(int argc, char **argv)
{
    if (argc > 2)
        how = argv[2];
    others = argc > 3 ? atol(argv[3]) : 0;
    return bench_run(argc, argv, run, 2000000);
}
