/* SPDX-License-Identifier: MIT
 * Goroutines that compute or block for long hold up nobody else: B10, B15, F4's
 * side that does not end the program. */
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

static atomic_int over, running;

static void spin_until_over(void *arg) {
    (void)arg;
    atomic_fetch_add(&running, 1);
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
    }
}

static void begin(void) {
    atomic_store(&over, 0);
    atomic_store(&running, 0);
}

static int64_t now_ms(void) { return tdl_now() / TDL_MILLISECOND; }

/* -- Endless loops ----------------------------------------------------------------- */

TEST_G(endless, "B10 with an endless loop on every processor the others still run") {
    int  n = tdl_gomaxprocs(0) + 1;
    crew c;
    begin();
    crew_open(&c);
    for (int i = 0; i < n; i++) crew_go(&c, spin_until_over, NULL);
    for (int i = 0; i < 20; i++) tdl_sleep(TDL_MILLISECOND); /* our P is lost to one of them each time */
    while (atomic_load(&running) < n) tdl_sleep(TDL_MILLISECOND);
    atomic_store(&over, 1);
    crew_close(&c);
}

TEST_G(seldom, "B10 with one processor and nothing else to do, a loop keeps it") {
    int64_t before = tdl_metric("handoffs");
    if (tdl_gomaxprocs(0) > 1) return check_skip("for one processor");
    int64_t sum = 0;
    for (int64_t end = now_ms() + 60; now_ms() < end;) sum++;
    CHECK(sum > 0);
    CHECK_INT(tdl_metric("handoffs"), before);
}

typedef struct relay {
    tdl_chan *there, *back;
} relay;

static void reflect(void *arg) {
    relay  *r = arg;
    tdl_val v;
    while (tdl_chan_recv(r->there, &v) == 0) tdl_chan_send(r->back, &v);
}

TEST_G(beside, "B10 channels, mutexes and timers work beside endless loops") {
    int  n = 2 * tdl_gomaxprocs(0);
    crew c;
    begin();
    crew_open(&c);
    relay r = {tdl_chan_new(0), tdl_chan_new(0)};
    crew_go(&c, reflect, &r);
    for (int i = 0; i < n; i++) crew_go(&c, spin_until_over, NULL);
    tdl_mutex *m = tdl_mutex_new();
    for (int i = 0; i < 200; i++) {
        CHECK_RC(send_int(r.there, i), 0);
        CHECK_INT(recv_int(r.back), i);
        CHECK_RC(tdl_mutex_lock(m), 0);
        CHECK_RC(tdl_mutex_unlock(m), 0);
        if (i % 20 == 0) tdl_sleep(100 * TDL_MICROSECOND);
    }
    atomic_store(&over, 1);
    tdl_chan_close(r.there);
    crew_close(&c);
    tdl_mutex_free(m);
    tdl_chan_free(r.there);
    tdl_chan_free(r.back);
}

/* -- Losing the P at any moment --------------------------------------------------------- */

static tdl_chan *meeting;

static void leaf(void *arg) { atomic_fetch_add((atomic_int *)arg, 1); }

static atomic_int leaves;

/* Computes for about as long as it takes to lose a P, and then calls everything
 * that touches one: whether or not it has been lost. */
static void edgy(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    for (int round = 0; round < SCALE(40); round++) {
        int64_t us = (int64_t)(random_next(&seed) % 16000);
        for (int64_t end = tdl_now() + us * TDL_MICROSECOND; tdl_now() < end;) {
        }
        switch (random_next(&seed) % 6) {
        case 0: CHECK(tdl_go(leaf, &leaves) != NULL); break;
        case 1: tdl_yield(); break;
        case 2: CHECK_RC(tdl_sleep(1), 0); break;
        case 3: {
            tdl_val v;
            tdl_val_set_int(&v, 1);
            int rc = tdl_chan_try_send(meeting, &v);
            CHECK(rc == 0 || rc == TDL_EAGAIN);
            break;
        }
        case 4: {
            int rc = tdl_chan_try_recv(meeting, NULL);
            CHECK(rc == 0 || rc == TDL_EAGAIN);
            break;
        }
        default: {
            int rc = tdl_chan_recv_until(meeting, NULL, tdl_now() + 100 * TDL_MICROSECOND);
            CHECK(rc == 0 || rc == TDL_ETIMEDOUT);
        }
        }
    }
}

TEST_G(edges, "B15 goroutines that lose their P at any moment do what they would have done") {
    crew c;
    check_limit(60);
    atomic_store(&leaves, 0);
    meeting = tdl_chan_new(1);
    crew_open(&c);
    for (uintptr_t i = 1; i <= 6; i++) crew_go(&c, edgy, (void *)i);
    crew_wait(&c);
    crew_close(&c);
    tdl_chan_free(meeting);
    while (tdl_num_goroutines() > 1) tdl_yield();
}

/* -- Calls that block ------------------------------------------------------------------------ */

static void nap(void *arg) {
    (void)arg;
    usleep(30000);
    atomic_fetch_add(&running, 1);
}

static void nap_told(void *arg) {
    CHECK_RC(tdl_block_begin(*(int *)arg), 0);
    usleep(30000);
    CHECK_RC(tdl_block_end(), 0);
    atomic_fetch_add(&running, 1);
}

TEST_G(unannounced, "B15 foreign calls that block side by side, though nobody announced them") {
    crew c;
    begin();
    crew_open(&c);
    for (int i = 0; i < 4; i++) crew_go(&c, nap, NULL);
    for (int i = 0; i < 10; i++) tdl_sleep(TDL_MILLISECOND);
    crew_close(&c);
    CHECK_INT(atomic_load(&running), 4);
}

TEST_G(announced, "B15 announced, long calls block side by side and others run at once") {
    static int hint[] = {TDL_BLOCK_LONG, TDL_BLOCK_SHORT};
    for (int i = 0; i < 2; i++) {
        crew c;
        begin();
        crew_open(&c);
        for (int k = 0; k < 8; k++) crew_go(&c, nap_told, &hint[i]);
        for (int k = 0; k < 10; k++) tdl_sleep(TDL_MILLISECOND);
        crew_close(&c);
        CHECK_INT(atomic_load(&running), 8);
    }
}

/* The other end of a pipe is written by a goroutine that needs the P which the
 * blocking read has given up. */
static void write_to(void *arg) { CHECK_INT(write(*(int *)arg, "x", 1), 1); }

TEST_G(pipe_read, "B15 a read that blocks waits for another goroutine of the same processor") {
    for (int i = 0; i < SCALE(300); i++) {
        int  fd[2];
        char ch = 0;
        REQUIRE(pipe(fd) == 0);
        tdl_g *g = go_joinable(write_to, &fd[1]);
        CHECK_RC(tdl_block_begin(TDL_BLOCK_LONG), 0);
        CHECK_INT(read(fd[0], &ch, 1), 1);
        CHECK_RC(tdl_block_end(), 0);
        CHECK_INT(ch, 'x');
        CHECK_RC(tdl_join(g), 0);
        close(fd[0]);
        close(fd[1]);
    }
}

TEST_G(nested, "blocks nest, and treadle's own calls work inside") {
    tdl_chan *ch = tdl_chan_new(1);
    CHECK_RC(tdl_block_begin(TDL_BLOCK_LONG), 0);
    CHECK_RC(tdl_block_begin(TDL_BLOCK_SHORT), 0);
    CHECK_RC(send_int(ch, 7), 0);
    CHECK_INT(recv_int(ch), 7);
    CHECK_RC(tdl_sleep(TDL_MILLISECOND), 0);
    CHECK_RC(tdl_block_end(), 0);
    CHECK_RC(tdl_block_end(), 0);
    CHECK_RC(tdl_block_end(), TDL_EINVAL);
    CHECK_RC(tdl_block_begin(0), TDL_EINVAL);
    CHECK_RC(tdl_block_begin(3), TDL_EINVAL);
    tdl_chan_free(ch);
}

TEST(threads_block, "a plain thread may say so, too, and nothing happens") {
    CHECK_RC(tdl_block_begin(TDL_BLOCK_LONG), 0);
    CHECK_RC(tdl_block_end(), 0);
    CHECK_RC(tdl_block_end(), 0);
}

/* -- Bounds ----------------------------------------------------------------------------------- */

/* Threads that wait for a lock of the emulator's look asleep, which makes more of them. */
#ifdef UNDER_EMULATOR
enum { CROWD = 200 };
#else
enum { CROWD = 20 };
#endif

TEST_G(crowd, "B10 a thousand loops do not become a thousand threads, and who waited is served") {
    enum { LOOPS = 1000 };
    crew c;
    check_limit(60);
    begin();
    crew_open(&c);
    relay r = {tdl_chan_new(0), tdl_chan_new(0)};
    crew_go(&c, reflect, &r);
    for (int i = 0; i < LOOPS; i++) crew_go(&c, spin_until_over, NULL);
    for (int i = 0; i < 50; i++) {
        tdl_sleep(TDL_MILLISECOND);
        CHECK_RC(send_int(r.there, i), 0);
        CHECK_INT(recv_int(r.back), i);
    }
    CHECK_WITHIN(tdl_metric("threads"), 1, CROWD + 12 * tdl_gomaxprocs(0));
    atomic_store(&over, 1);
    tdl_chan_close(r.there);
    crew_close(&c);
    CHECK_INT(atomic_load(&running), LOOPS);
    tdl_chan_free(r.there);
    tdl_chan_free(r.back);
}

/* -- Ending beside one ------------------------------------------------------------------------- */

static int leave_a_loop(void *arg) {
    (void)arg;
    tdl_go(spin_until_over, NULL);
    while (atomic_load(&running) == 0) tdl_sleep(TDL_MILLISECOND);
    return 42;
}

TEST(outlives, "a run ends although a goroutine never comes in; the next begins once it has") {
    begin();
    CHECK_INT(tdl_run(leave_a_loop, NULL), 42);
    CHECK_RC(tdl_run(leave_a_loop, NULL), TDL_EBUSY);
    atomic_store(&over, 1);
    begin();
    atomic_store(&over, 1);
    CHECK_INT(tdl_run(leave_a_loop, NULL), 42);
}
