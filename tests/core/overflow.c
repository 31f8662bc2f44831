/* SPDX-License-Identifier: MIT
 * A goroutine that uses up its stack must end the program with its name; a
 * fault of another kind must stay what it is. The kind is the argument. */
#include <stdio.h>
#include <string.h>
#include <treadle.h>

static int deep(volatile int n) {
    volatile char room[1000];
    memset((char *)room, n, sizeof room);
    return n > 1000000 ? 0 : deep(n + 1) + room[5];
}

static void dig(void *arg) {
    (void)arg;
    printf("%d\n", deep(0));
}

static int main_g(void *arg) {
    tdl_go_options opts = { sizeof opts, TDL_GO_JOINABLE, 0, "digger" };
    volatile int *volatile nowhere = NULL;
    if (strcmp(arg, "null") == 0) *nowhere = 1;
    return tdl_join(tdl_go_opts(dig, NULL, &opts));
}

int main(int argc, char **argv) { return tdl_run(main_g, argc > 1 ? argv[1] : ""); }
