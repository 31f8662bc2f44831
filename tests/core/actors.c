/* SPDX-License-Identifier: MIT */
#include "actors.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

void stage_open(stage *s, const char *name) {
    memset(s, 0, sizeof *s);
    s->batch = 64;
    CHECK_RC(tdl_host_open(name, &s->host), 0);
    REQUIRE(s->host != NULL);
}

actor *stage_spawn(stage *s, int (*step)(actor *a, int result), void *data) {
    actor *a = calloc(1, sizeof *a);
    int    task = tdl_task_new(s->host, 1);
    REQUIRE(a && task >= 0 && task < MAX_ACTORS);
    CHECK(s->of_task[task] == NULL);
    *a = (actor){ .host = s->host, .task = (uint32_t)task, .data = data, .step = step };
    s->of_task[task] = a;
    s->live++;
    return a;
}

tdl_outcome *outcome_of(const actor *a) { return tdl_host_outcomes(a->host) + a->task; }

static void go_on(stage *s, uint32_t task, int result) {
    REQUIRE(task < MAX_ACTORS);
    actor *a = s->of_task[task];
    if (!CHECK(a != NULL)) return; /* an event for a task that is gone */
    do result = a->step(a, result);
    while (result != TDL_PENDING && result != ACTOR_DONE);
    if (result == TDL_PENDING) return;
    s->of_task[task] = NULL;
    s->live--;
    CHECK_RC(tdl_task_free(s->host, task), 0);
    free(a);
}

static int dispatch(stage *s, int64_t timeout_ns) {
    tdl_event ev[64];
    int       n = tdl_host_poll(s->host, ev, s->batch, timeout_ns);
    if (!CHECK(n >= 0 && n <= s->batch)) REQUIRE(!"a host that can be polled");
    for (int i = 0; i < n; i++) {
        if (!(ev[i].task & TDL_WATCHER))
            go_on(s, ev[i].task, ev[i].result);
        else if (CHECK(s->on_watcher != NULL))
            s->on_watcher(s, ev[i].task & ~(uint32_t)TDL_WATCHER, ev[i].result);
    }
    return n;
}

static void wait_as_guest(stage *s) {
    struct pollfd p = { .fd = tdl_host_fd(s->host), .events = POLLIN };
    int64_t       ns = tdl_host_timeout(s->host);
    struct timespec ts = { ns / TDL_SECOND, ns % TDL_SECOND };
    REQUIRE(p.fd >= 0);
    ppoll(&p, 1, ns < 0 ? NULL : &ts, NULL);
    while (dispatch(s, 0) == s->batch) {}
}

void stage_poll(stage *s, int64_t timeout_ns) { dispatch(s, timeout_ns); }

void stage_run(stage *s) {
    while (s->live > 0) {
        if (s->guest)
            wait_as_guest(s);
        else
            dispatch(s, -1);
    }
}

void stage_close(stage *s) {
    for (int i = 0; i < MAX_ACTORS; i++) free(s->of_task[i]); /* those that still wait */
    CHECK_RC(tdl_host_close(s->host), 0);
}
