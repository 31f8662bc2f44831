/* SPDX-License-Identifier: MIT
 * A program for a debugger to stop in: stop_here is called deep in a goroutine,
 * and then from the system's stack. */
#include <treadle.h>

#define CALLED_FROM_HERE() __asm__ volatile("" ::: "memory") /* not by a jump */

__attribute__((noinline, visibility("default"))) void stop_here(void) { CALLED_FROM_HERE(); }

__attribute__((noinline)) static void inner(void *arg) {
    stop_here();
    CALLED_FROM_HERE();
    (void)arg;
}

__attribute__((noinline)) static void outer(void *arg) {
    inner(arg);
    CALLED_FROM_HERE();
    tdl_system_stack(inner, arg);
    CALLED_FROM_HERE();
}

static void goroutine(void *arg) {
    tdl_yield();
    outer(arg);
    CALLED_FROM_HERE();
}

static int main_g(void *arg) {
    tdl_go_options o = { .size = sizeof o, .flags = TDL_GO_JOINABLE };
    return tdl_join(tdl_go_opts(goroutine, arg, &o));
}

int main(void) { return tdl_run(main_g, 0); }
