/* SPDX-License-Identifier: MIT
 * Changes of files, and terminals. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "actors.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define MS   TDL_MILLISECOND
#define EVER TDL_FOREVER

static char dir[64];

/* The loop, whose descriptors stay, is there before anything is counted, with its inotify. */
__attribute__((constructor)) static void warm_up(void) {
    tdl_watch *w;
    snprintf(dir, sizeof dir, "/tmp/treadle-watch-XXXXXX");
    if (!mkdtemp(dir)) return;
    if (tdl_watch_open(dir, &w, EVER) == 0) tdl_watch_free(w);
}

__attribute__((destructor)) static void clean_up(void) { rmdir(dir); }

static void in(char *path, const char *name) { snprintf(path, 100, "%s/%s", dir, name); }

static void touch(const char *name) {
    char path[100];
    in(path, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1);
    close(fd);
}

static void gone(const char *name) {
    char path[100];
    in(path, name);
    CHECK(unlink(path) == 0);
}

static void settle(void) {
    for (int i = 0; i < 500 && tdl_metric("watches") > 0; i++) usleep(2000);
    CHECK_INT(tdl_metric("watches"), 0);
}

/* Until a change of the kind and name is told; others may be told before. */
static void expect(tdl_watch *w, int kind, const char *name) {
    char buf[64] = "";
    for (int i = 0; i < 50; i++) {
        int what = tdl_watch_next(w, buf, sizeof buf, tdl_now() + 10 * TDL_SECOND);
        if (!CHECK(what > 0)) return;
        if (what & kind && strcmp(buf, name) == 0) return;
    }
    CHECK(!"was told");
}

static void watch_entries(void *arg) {
    (void)arg;
    tdl_watch *w;
    char       buf[4];
    CHECK_RC(tdl_watch_open(dir, &w, EVER), 0);
    CHECK_RC(tdl_watch_next(w, buf, sizeof buf, tdl_now() + 5 * MS), TDL_ETIMEDOUT);
    CHECK_RC(tdl_watch_next(w, buf, sizeof buf, TDL_NOWAIT), TDL_EAGAIN);
    touch("entry");
    expect(w, TDL_WATCH_RENAME, "entry");
    expect(w, TDL_WATCH_CHANGE, "entry");
    gone("entry");
    expect(w, TDL_WATCH_RENAME, "entry");
    CHECK_RC(tdl_watch_close(w), 0);
    CHECK_RC(tdl_watch_close(w), TDL_ECLOSED);
    CHECK_RC(tdl_watch_next(w, buf, sizeof buf, EVER), TDL_ECLOSED);
    tdl_watch_free(w);
}

TEST_G(entries, "entries of a directory that come, change and go are told; goroutine and thread") {
    crew c;
    for (int thread = 0; thread < 2; thread++) {
        crew_open(&c);
        crew_start(&c, thread, watch_entries, NULL);
        crew_close(&c);
    }
    settle();
}

TEST_G(refused, "what is not there, and what makes no sense, cannot be watched") {
    tdl_watch *w = (tdl_watch *)1;
    CHECK_RC(tdl_watch_open("/no/such/place", &w, EVER), -ENOENT);
    CHECK(w == NULL);
    CHECK_RC(tdl_watch_open("", &w, EVER), TDL_EINVAL);
    CHECK_RC(tdl_watch_open(dir, NULL, EVER), TDL_EINVAL);
    CHECK_RC(tdl_watch_open(dir, &w, tdl_now() - 1), TDL_ETIMEDOUT);
    CHECK_RC(tdl_watch_next(NULL, NULL, 0, EVER), TDL_EINVAL);
    CHECK_RC(tdl_watch_close(NULL), TDL_EINVAL);
    tdl_watch_free(NULL);
    settle();
}

typedef struct waiting {
    tdl_watch *w;
    int        rc;
} waiting;

static void wait_next(void *arg) {
    waiting *x = arg;
    x->rc = tdl_watch_next(x->w, NULL, 0, EVER);
}

TEST_G(waiters, "a close wakes all who wait, a cancel one; each change is told once") {
    crew    c;
    waiting x[4];
    CHECK_RC(tdl_watch_open(dir, &x[0].w, EVER), 0);
    crew_open(&c);
    for (int i = 0; i < 4; i++) {
        x[i] = (waiting){ x[0].w, 99 };
        crew_start(&c, i % 2, wait_next, &x[i]);
    }
    waiting y = { x[0].w, 99 };
    tdl_g  *g = go_joinable(wait_next, &y);
    let_park();
    tdl_cancel(g);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(y.rc, TDL_ECANCELED);
    CHECK_RC(tdl_watch_close(x[0].w), 0);
    crew_close(&c);
    for (int i = 0; i < 4; i++) CHECK_RC(x[i].rc, TDL_ECLOSED);
    tdl_watch_free(x[0].w);
    settle();
}

static int task_watches(actor *a, int result) {
    static char buf[64];
    switch (a->state++) {
    case 0: return tdl_watch_open_start(a->host, a->task, dir, EVER);
    case 1:
        CHECK_RC(result, 0);
        a->data = tdl_val_ptr(&outcome_of(a)->val);
        touch("task");
        gone("task");
        return tdl_watch_next_start(a->host, a->task, a->data, buf, sizeof buf, EVER);
    default:
        CHECK(result > 0 && strcmp(buf, "task") == 0);
        tdl_watch_free(a->data);
        return ACTOR_DONE;
    }
}

TEST(tasks, "a task watches") {
    stage s;
    stage_open(&s, "changes");
    stage_spawn(&s, task_watches, NULL);
    stage_run(&s);
    stage_close(&s);
    settle();
}

TEST(terminals, "a terminal is one, has a size, and is raw until it is set back") {
    int            master, tty, columns = 0, rows = 0;
    struct winsize size = { .ws_col = 93, .ws_row = 41 };
    struct termios before, now;
    REQUIRE(openpty(&master, &tty, NULL, NULL, &size) == 0);
    CHECK_INT(tdl_tty_is(tty), 1);
    CHECK_RC(tdl_tty_size(tty, &columns, &rows), 0);
    CHECK_INT(columns, 93);
    CHECK_INT(rows, 41);
    tcgetattr(tty, &before);
    CHECK(before.c_lflag & ICANON);
    CHECK_RC(tdl_tty_raw(tty, 1), 0);
    CHECK_RC(tdl_tty_raw(tty, 1), 0);
    tcgetattr(tty, &now);
    CHECK(!(now.c_lflag & (ICANON | ECHO | ISIG)));
    CHECK_RC(tdl_tty_raw(tty, 0), 0);
    CHECK_RC(tdl_tty_raw(tty, 0), 0);
    tcgetattr(tty, &now);
    CHECK(now.c_lflag == before.c_lflag);
    close(tty);
    close(master);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK_INT(tdl_tty_is(null), 0);
    CHECK_INT(tdl_tty_is(9999), -EBADF);
    CHECK_RC(tdl_tty_size(null, &columns, &rows), -ENOTTY);
    CHECK_RC(tdl_tty_size(null, NULL, &rows), TDL_EINVAL);
    CHECK_RC(tdl_tty_raw(null, 1), -ENOTTY);
    CHECK_RC(tdl_tty_raw(-1, 1), -EBADF);
    close(null);
}
