/* SPDX-License-Identifier: MIT
 * Goroutines that keep their thread: B1 to B3, B16 to B18. */
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

static long tid(void) { return syscall(SYS_gettid); }

static bool thread_exists(long t) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%ld", t);
    return access(path, F_OK) == 0;
}

/* -- Staying ------------------------------------------------------------------------ */

typedef struct stay {
    tdl_chan *in, *out;
    int       rounds;
} stay;

static void pinned_echo(void *arg) {
    stay *s = arg;
    CHECK_RC(tdl_pin(), 0);
    long    here = tid();
    tdl_val v;
    while (tdl_chan_recv(s->in, &v) == 0) {
        CHECK_INT(tid(), here);
        tdl_yield();
        CHECK_INT(tid(), here);
        CHECK_RC(tdl_chan_send(s->out, &v), 0);
        CHECK_INT(tid(), here);
        if (tdl_val_int(&v) % 50 == 0) CHECK_RC(tdl_sleep(10 * TDL_MICROSECOND), 0);
        CHECK_INT(tid(), here);
    }
    CHECK_RC(tdl_unpin(), 0);
}

TEST_G(stays, "B3 a pinned goroutine stays on its thread through channels, yields and sleeps") {
    stay s = {tdl_chan_new(0), tdl_chan_new(0), 0};
    crew c;
    check_limit(60);
    crew_open(&c);
    crew_go(&c, pinned_echo, &s);
    for (int i = 0; i < SCALE(500); i++) {
        CHECK_RC(send_int(s.in, i), 0);
        CHECK_INT(recv_int(s.out), i);
    }
    tdl_chan_close(s.in);
    crew_close(&c);
    tdl_chan_free(s.in);
    tdl_chan_free(s.out);
}

TEST_G(both, "B3 two pinned goroutines talk to each other") {
    stay a = {tdl_chan_new(0), tdl_chan_new(0), 0};
    stay b = {a.out, tdl_chan_new(1), 0};
    crew c;
    crew_open(&c);
    crew_go(&c, pinned_echo, &a);
    crew_go(&c, pinned_echo, &b);
    for (int i = 0; i < SCALE(500); i++) {
        CHECK_RC(send_int(a.in, i), 0);
        CHECK_INT(recv_int(b.out), i);
    }
    tdl_chan_close(a.in);
    tdl_chan_close(a.out);
    crew_close(&c);
    tdl_chan_free(a.in);
    tdl_chan_free(a.out);
    tdl_chan_free(b.out);
}

TEST_G(progress, "B1 while a pinned goroutine tries and yields, others get on") {
    tdl_chan *ch = tdl_chan_new(0);
    crew      c;
    stay      s = {ch, tdl_chan_new(1), 0};
    crew_open(&c);
    crew_go(&c, pinned_echo, &s);
    CHECK_RC(tdl_pin(), 0);
    for (int i = 0; i < 10; i++) {
        CHECK_RC(send_int(ch, i), 0);
        while (tdl_chan_try_recv(s.out, NULL) == TDL_EAGAIN) tdl_yield();
    }
    CHECK_RC(tdl_unpin(), 0);
    tdl_chan_close(ch);
    crew_close(&c);
    tdl_chan_free(s.out);
    tdl_chan_free(ch);
}

TEST_G(nesting, "B16 pinned twice, unpinned once is pinned still") {
    tdl_chan *ch = tdl_chan_new(0);
    CHECK_RC(tdl_unpin(), TDL_EINVAL);
    CHECK_RC(tdl_pin(), 0);
    CHECK_RC(tdl_pin(), 0);
    long here = tid();
    CHECK_RC(tdl_unpin(), 0);
    for (int i = 0; i < 20; i++) {
        CHECK_RC(tdl_chan_recv_until(ch, NULL, tdl_now() + 100 * TDL_MICROSECOND), TDL_ETIMEDOUT);
        CHECK_INT(tid(), here);
    }
    CHECK_RC(tdl_unpin(), 0);
    CHECK_RC(tdl_unpin(), TDL_EINVAL);
    tdl_chan_free(ch);
}

TEST(plain, "a plain thread is its own, pinned or not") {
    CHECK_RC(tdl_pin(), 0);
    CHECK_RC(tdl_unpin(), 0);
    CHECK_RC(tdl_unpin(), 0);
}

/* -- Waiting as a thread does ------------------------------------------------------------- */

static void pinned_waits(void *arg) {
    tdl_chan *ch = arg;
    CHECK_RC(tdl_pin(), 0);
    CHECK_RC(tdl_chan_recv(ch, NULL), TDL_ECANCELED);
    CHECK_RC(tdl_chan_recv(ch, NULL), TDL_ECANCELED);
    CHECK_RC(tdl_unpin(), 0);
}

TEST_G(cancelled, "a cancel reaches a pinned goroutine, whether or not it waits already") {
    tdl_chan *ch = tdl_chan_new(0);
    for (int i = 0; i < SCALE(400); i++) {
        tdl_g *g = go_joinable(pinned_waits, ch);
        for (int k = 0; k < i % 20; k++) tdl_yield();
        if (i % 10 == 9) let_park();
        CHECK_RC(tdl_cancel(g), 0);
        CHECK_RC(tdl_join(g), 0);
    }
    tdl_chan_free(ch);
}

static void pinned_adds(void *arg) {
    void     **a = arg;
    tdl_mutex *m = a[0];
    int       *n = a[1];
    CHECK_RC(tdl_pin(), 0);
    for (int i = 0; i < SCALE(2000); i++) {
        CHECK_RC(tdl_mutex_lock(m), 0);
        ++*n;
        CHECK_RC(tdl_mutex_unlock(m), 0);
    }
    CHECK_RC(tdl_unpin(), 0);
}

TEST_G(locks, "mutexes exclude pinned and other goroutines alike") {
    int        n = 0;
    tdl_mutex *m = tdl_mutex_new();
    void      *arg[] = {m, &n};
    crew       c;
    crew_open(&c);
    for (int i = 0; i < 3; i++) crew_go(&c, pinned_adds, arg);
    for (int i = 0; i < SCALE(2000); i++) {
        CHECK_RC(tdl_mutex_lock(m), 0);
        n++;
        CHECK_RC(tdl_mutex_unlock(m), 0);
        if (i % 100 == 0) tdl_yield();
    }
    crew_close(&c);
    CHECK_INT(n, 4 * SCALE(2000));
    tdl_mutex_free(m);
}

/* -- The thread ends with its goroutine ------------------------------------------------------- */

static atomic_long last;

static void ends_pinned(void *arg) {
    CHECK_RC(tdl_pin(), 0);
    for (int i = 0; i < 3; i++) {
        tdl_yield();
        CHECK_RC(tdl_sleep(100 * TDL_MICROSECOND), 0);
    }
    atomic_store(&last, tid());
    if (arg) tdl_goexit();
}

TEST_G(thread_ends, "B2 B17 the thread of a goroutine that ends pinned ends, and nothing else runs there") {
    int64_t before = tdl_metric("threads");
    for (int i = 0; i < 10; i++) {
        CHECK_RC(tdl_join(go_joinable(ends_pinned, (void *)(uintptr_t)(i % 2))), 0);
        long gone = atomic_load(&last);
        for (int k = 0; k < 2000 && thread_exists(gone); k++) {
            CHECK(tid() != gone);
            tdl_sleep(TDL_MILLISECOND);
        }
        CHECK(!thread_exists(gone));
    }
    CHECK_WITHIN(tdl_metric("threads"), 1, before + 8);
}

static void elsewhere(void *arg) {
    (void)arg;
    CHECK_RC(tdl_pin(), 0);
    if (unshare(CLONE_FS) != 0) atomic_store(&last, -1);
    else if (chdir("/") != 0) atomic_store(&last, -1);
}

static void where(void *arg) { CHECK(getcwd(arg, PATH_MAX) != NULL); }

TEST_G(clean, "B18 what a pinned goroutine does to its thread stays there") {
    static char before[PATH_MAX], after[PATH_MAX];
    REQUIRE(getcwd(before, sizeof before) != NULL);
    atomic_store(&last, 0);
    for (int i = 0; i < 5; i++) {
        CHECK_RC(tdl_join(go_joinable(elsewhere, NULL)), 0);
        if (atomic_load(&last) < 0) return check_skip("unshare is not allowed here");
        for (int k = 0; k < 10; k++) {
            CHECK_RC(tdl_join(go_joinable(where, after)), 0);
            CHECK(strcmp(before, after) == 0);
        }
    }
}

/* -- Ending with pinned goroutines -------------------------------------------------------------- */

static void waits_for_ever(void *arg) {
    CHECK_RC(tdl_pin(), 0);
    atomic_fetch_add(&last, 1);
    tdl_chan_recv(arg, NULL);
    CHECK(!"comes back");
}

static int leaves_pinned(void *arg) {
    for (int i = 0; i < 5; i++) tdl_go(waits_for_ever, arg);
    while (atomic_load(&last) < 5) tdl_sleep(100 * TDL_MICROSECOND);
    return 1;
}

TEST(abandoned, "pinned goroutines that wait when the run ends never run again, and their threads end") {
    tdl_chan *ch = tdl_chan_new(0);
    for (int i = 0; i < SCALE(20); i++) {
        atomic_store(&last, 0);
        CHECK_INT(tdl_run(leaves_pinned, ch), 1);
    }
    tdl_chan_free(ch);
    CHECK_INT(tdl_metric("threads"), 0);
}
