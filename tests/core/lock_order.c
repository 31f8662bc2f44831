/* SPDX-License-Identifier: MIT
 * Locks taken against their order, on purpose: each kind must be caught, with
 * both locks and the goroutine. The kind is the argument. */
#include <stdio.h>
#include <string.h>
#include <treadle.h>

#include "sys/lock.h"
#include "sys/pool.h"

static tdl_lock object[3] = {TDL_LOCK_INIT(RANK_OBJECT), TDL_LOCK_INIT(RANK_OBJECT), TDL_LOCK_INIT(RANK_OBJECT)};
static tdl_lock heap = TDL_LOCK_INIT(RANK_HEAP), sched = TDL_LOCK_INIT(RANK_SCHED), unranked;

static void take(tdl_lock *a, tdl_lock *b) {
    tdl_lock_take(a);
    tdl_lock_take(b);
    tdl_unlock(b);
    tdl_unlock(a);
}

static void violate(void *arg) {
    const char *kind = arg;
    if (strcmp(kind, "none") == 0) {
        take(&object[0], &object[1]);
        tdl_lock_take(&object[0]);
        take(&object[1], &object[2]);
        take(&heap, &sched);
        tdl_unlock(&object[0]); /* not in the order they were taken */
        tdl_lock_take(&sched);
        if (tdl_lock_try(&heap)) tdl_unlock(&heap); /* does not wait, so it may */
        tdl_unlock(&sched);
        tdl_lock_none_held();
    }
    if (strcmp(kind, "rank") == 0) take(&sched, &heap);
    if (strcmp(kind, "address") == 0) take(&object[2], &object[1]);
    if (strcmp(kind, "same") == 0) take(&heap, &heap);
    if (strcmp(kind, "unranked") == 0) take(&unranked, &heap);
    if (strcmp(kind, "unlock") == 0) tdl_unlock(&heap);
    if (strcmp(kind, "held") == 0) {
        tdl_lock_take(&heap);
        tdl_lock_none_held();
    }
}

static int main_g(void *arg) {
    tdl_go_options o = {.size = sizeof o, .flags = TDL_GO_JOINABLE, .name = "violator"};
    tdl_join(tdl_go_opts(violate, arg, &o));
    puts("over");
    return 0;
}

int main(int argc, char **argv) { return tdl_run(main_g, argc > 1 ? argv[1] : "none"); }
