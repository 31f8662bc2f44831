/* SPDX-License-Identifier: MIT
 * The number of Ps, changed while they run: B21, B22. */
#include "check.h"
#include "net.h"

static atomic_int spawned, stop;

static void respawn(void *arg) {
    if (atomic_load(&stop)) return;
    atomic_fetch_add(&spawned, 1);
    if (atomic_load(&spawned) % 64 == 0) tdl_yield();
    CHECK(tdl_go(respawn, arg) != NULL);
}

TEST_G(respawning, "B22 resized a thousand times while goroutines respawn themselves") {
    int before = tdl_gomaxprocs(0);
    check_limit(60);
    atomic_store(&stop, 0);
    for (int i = 0; i < 10; i++) CHECK(tdl_go(respawn, NULL) != NULL);
    for (int i = 0; i < SCALE(1000); i++) {
        int n = 1 + i % 4;
        CHECK(tdl_gomaxprocs(n) >= 1);
        tdl_yield();
        if (i % 50 == 0) CHECK_RC(tdl_sleep(TDL_MILLISECOND), 0);
    }
    atomic_store(&stop, 1);
    CHECK_RC(tdl_gomaxprocs(before) < 0, 0);
    while (tdl_num_goroutines() > 1) tdl_yield();
}

static int count_to(void *arg) {
    (void)arg;
    tdl_waitgroup *wg = tdl_waitgroup_new();
    tdl_waitgroup_free(wg);
    return tdl_gomaxprocs(0);
}

TEST(big, "B21 a thousand processors start and end") {
    int before = tdl_gomaxprocs(1024);
    check_limit(60);
    CHECK_INT(tdl_run(count_to, NULL), 1024);
    CHECK_INT(tdl_gomaxprocs(before), 1024);
}

TEST(absurd, "a number below 1 only asks, a huge one is the greatest there is") {
    int before = tdl_gomaxprocs(0);
    CHECK_INT(tdl_gomaxprocs(-5), before);
    CHECK_INT(tdl_gomaxprocs(1 << 30), before);
    CHECK_INT(tdl_gomaxprocs(before), 1024);
    CHECK_INT(tdl_gomaxprocs(0), before);
}

/* All at once, or it never ends: each waits, computing, for the others. */
static atomic_int met;

static void meet(void *arg) {
    int n = (int)(intptr_t)arg;
    atomic_fetch_add(&met, 1);
    while (atomic_load(&met) < n) {
    }
}

TEST_G(grows, "B4 goroutines run side by side on processors that were added") {
    int before = tdl_gomaxprocs(1);
    for (int n = 2; n <= 4; n++) {
        crew c;
        CHECK(tdl_gomaxprocs(n) >= 1);
        CHECK_INT(tdl_gomaxprocs(0) > 0, 1);
        crew_open(&c);
        atomic_store(&met, 0);
        for (int i = 0; i < n; i++) crew_go(&c, meet, (void *)(intptr_t)n);
        crew_close(&c);
    }
    tdl_gomaxprocs(before);
}

static void talk(void *arg) {
    tdl_conn *c = arg;
    char      buf[16];
    int64_t   n;
    while ((n = tdl_conn_read(c, buf, sizeof buf)) > 0) CHECK_INT(tdl_conn_write(c, buf, (size_t)n), n);
    tdl_conn_free(c);
}

static void serve(void *arg) {
    tdl_listener *l = arg;
    tdl_conn     *c;
    while (tdl_listener_accept(l, &c) == 0) CHECK(tdl_go(talk, c) != NULL);
}

TEST_G(descriptors, "connections and timers of a processor that is taken away work on") {
    int           before = tdl_gomaxprocs(4);
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen("tcp", address);
    tdl_conn     *conn[16];
    crew          c;
    crew_open(&c);
    crew_go(&c, serve, l);
    for (int i = 0; i < 16; i++) REQUIRE(tdl_dial("tcp", address, 0, &conn[i]) == 0);
    for (int round = 0; round < SCALE(40); round++) {
        tdl_gomaxprocs(1 + round % 4);
        for (int i = 0; i < 16; i++) {
            char buf[4];
            CHECK_INT(tdl_conn_write(conn[i], "ping", 4), 4);
            net_read_full(conn[i], buf, 4);
        }
        CHECK_RC(tdl_sleep(TDL_MILLISECOND), 0);
    }
    for (int i = 0; i < 16; i++) tdl_conn_free(conn[i]);
    tdl_listener_close(l);
    crew_close(&c);
    tdl_listener_free(l);
    while (tdl_num_goroutines() > 1) tdl_yield();
    tdl_gomaxprocs(before);
}
