/* SPDX-License-Identifier: MIT
 * A goroutine that uses up its stack must end the program with its name; a
 * fault of another kind must stay what it is.
 * usage: overflow stack|null|protect [frame [stack [n]]]   frame: bytes of each
 * call; stack: as asked of the spawn; n: which of 20 goroutines it is.
 * protect: as on a kernel without cheap guards. */
#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <treadle.h>

#include "sys/sys.h"

static size_t frame = 1000, stack;
static int    which;

static int deep(volatile int n) {
    volatile char *room = alloca(frame);
    memset((char *)room, n, frame);
    return n > 1000000 ? 0 : deep(n + 1) + room[5];
}

static void dig(void *arg) {
    tdl_sleep(TDL_MILLISECOND);
    if ((long)arg == which) printf("%d\n", deep(0));
    tdl_sleep(TDL_MINUTE);
}

static int protect(void *first, size_t size, size_t stride, int n) {
    for (int i = 0; i < n; i++)
        if (mprotect((char *)first + (size_t)i * stride, size, PROT_NONE) != 0) return i ? i : -1;
    return n;
}

/* Visible, so that the report knows its name. */
__attribute__((visibility("default"))) int spawns_diggers(void *arg) {
    volatile int *volatile nowhere = NULL;
    if (strcmp(arg, "null") == 0) *nowhere = 1;
    for (int i = 0; i < 20; i++) {
        char           name[20];
        tdl_go_options opts = { sizeof opts, TDL_GO_JOINABLE, stack, name };
        snprintf(name, sizeof name, "digger %d", i);
        if (!tdl_go_opts(dig, (void *)(long)i, &opts)) return 3;
    }
    return tdl_sleep(TDL_MINUTE);
}

int main(int argc, char **argv) {
    if (argc > 2) frame = strtoul(argv[2], NULL, 10);
    if (argc > 3) stack = strtoul(argv[3], NULL, 10);
    if (argc > 4) which = atoi(argv[4]);
    char *kind = argc > 1 ? argv[1] : "stack";
    if (strcmp(kind, "protect") == 0) tdl_sys.guard = protect;
    return tdl_run(spawns_diggers, kind);
}
