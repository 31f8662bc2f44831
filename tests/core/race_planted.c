/* SPDX-License-Identifier: MIT
 * Two goroutines of one thread write a variable without a word to each other.
 * They run one after the other, so nothing goes wrong; yet it is a data race,
 * and the thread sanitizer must say so ("racy"). With a channel between them
 * there is none ("clean"). */
#include <stdio.h>
#include <string.h>
#include <treadle.h>

static int       variable;
static tdl_chan *after;
static int       clean;

static void first(void *done) {
    tdl_val v;
    tdl_val_set_nil(&v);
    variable++;
    if (clean) tdl_chan_send(after, &v);
    tdl_waitgroup_done(done);
}

static void second(void *done) {
    if (clean)
        tdl_chan_recv(after, NULL);
    else
        tdl_sleep(20 * TDL_MILLISECOND);
    variable++;
    tdl_waitgroup_done(done);
}

static int main_g(void *arg) {
    (void)arg;
    tdl_waitgroup *done = tdl_waitgroup_new();
    after = tdl_chan_new(0);
    tdl_waitgroup_add(done, 2);
    tdl_go(second, done);
    tdl_go(first, done);
    tdl_waitgroup_wait(done);
    tdl_waitgroup_free(done);
    tdl_chan_free(after);
    printf("variable: %d\n", variable);
    return 0;
}

int main(int argc, char **argv) {
    clean = argc > 1 && strcmp(argv[1], "clean") == 0;
    return tdl_run(main_g, NULL);
}
