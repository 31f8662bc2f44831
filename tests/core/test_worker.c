/* SPDX-License-Identifier: MIT
 * Workers: functions on threads of their own, and descriptors that values carry. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

typedef struct state {
    pthread_t    starter;
    tdl_chan    *ch;
    atomic_int   ended;
    int          sum;
    int          own_thread, blocked;
    char         name[16];
} state;

static int entry(void *arg, int a, int b, int c) {
    state *s = arg;
    s->sum = a + 10 * b + 100 * c;
    s->own_thread = !pthread_equal(s->starter, pthread_self());
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    s->blocked = sigismember(&set, SIGINT) && sigismember(&set, SIGTERM) && !sigismember(&set, SIGSEGV);
    pthread_getname_np(pthread_self(), s->name, sizeof s->name);
    return 42;
}

static void end(void *arg) { atomic_fetch_add(&((state *)arg)->ended, 1); }

static tdl_worker_options options(int (*fn)(void *, int, int, int), state *s) {
    return (tdl_worker_options){.size = sizeof(tdl_worker_options), .entry = fn, .state = s, .end = end,
                                .a = 1, .b = 2, .c = 3, .name = "a name that is longer"};
}

/* A worker's thread drops its channel last, after it was joined. */
static void settle(void) {
    while (tdl_metric("channels") > 0) CHECK_RC(tdl_sleep(TDL_MILLISECOND), 0);
}

static void join(tdl_chan *done, int64_t result) {
    tdl_val v;
    CHECK_RC(tdl_chan_recv(done, &v), 0);
    CHECK_INT(tdl_val_int(&v), result);
    CHECK_RC(tdl_chan_recv(done, &v), TDL_ECLOSED);
    tdl_chan_free(done);
}

TEST(worker_runs, "H30 a worker runs on a thread of its own, ends its state, and gives its result") {
    state s = {.starter = pthread_self()};
    tdl_worker_options o = options(entry, &s);
    tdl_chan *done;
    CHECK_RC(tdl_worker_start(&o, &done), 0);
    join(done, 42);
    settle();
    CHECK_INT(s.sum, 321);
    CHECK(s.own_thread);
    CHECK(s.blocked);
    CHECK_INT(atomic_load(&s.ended), 1);
    CHECK(strcmp(s.name, "a name that is ") == 0);
}

static int echoes(void *arg, int a, int b, int c) {
    (void)a, (void)b, (void)c;
    state *s = arg;
    tdl_host *h;
    CHECK_RC(tdl_host_open("worker", &h), 0); /* as an interpreter does */
    int task = tdl_task_new(h, 0);
    int n = 0;
    for (;;) {
        int r = tdl_chan_recv_start(h, (uint32_t)task, s->ch, TDL_FOREVER);
        tdl_event e = {.result = r};
        if (r == TDL_PENDING) {
            while ((r = tdl_host_poll(h, &e, 1, -1)) == 0) {}
            CHECK_INT(r, 1);
        }
        if (e.result == TDL_ECLOSED) break;
        CHECK_RC(e.result, 0);
        n++;
    }
    CHECK_RC(tdl_task_free(h, (uint32_t)task), 0);
    CHECK_RC(tdl_host_close(h), 0);
    return n;
}

static void four_workers(void) {
    enum { N = 4 };
    state s[N];
    tdl_chan *done[N], *ch = tdl_chan_new(0);
    for (int i = 0; i < N; i++) {
        memset(&s[i], 0, sizeof s[i]);
        s[i].ch = ch;
        tdl_worker_options o = options(echoes, &s[i]);
        CHECK_RC(tdl_worker_start(&o, &done[i]), 0);
    }
    tdl_val v;
    tdl_val_set_int(&v, 1);
    int rounds = SCALE(2000);
    for (int i = 0; i < rounds; i++) CHECK_RC(tdl_chan_send(ch, &v), 0);
    CHECK_RC(tdl_chan_close(ch), 0);
    int64_t sum = 0;
    for (int i = 0; i < N; i++) {
        CHECK_RC(tdl_chan_recv(done[i], &v), 0);
        sum += tdl_val_int(&v);
        CHECK_RC(tdl_chan_recv(done[i], &v), TDL_ECLOSED);
        tdl_chan_free(done[i]);
        CHECK_INT(atomic_load(&s[i].ended), 1);
    }
    CHECK_INT(sum, rounds);
    tdl_chan_free(ch);
    settle();
}

TEST(workers_share, "H31 workers that open hosts share a channel; joined by a thread") { four_workers(); }

TEST_G(workers_joined, "H31 the same, joined by a goroutine") { four_workers(); }

TEST(worker_unjoined, "H32 nobody has to join, and the state is ended all the same") {
    state s = {.starter = pthread_self()};
    tdl_worker_options o = options(entry, &s);
    tdl_chan *done;
    CHECK_RC(tdl_worker_start(&o, &done), 0);
    tdl_chan_free(done);
    settle();
    CHECK_INT(atomic_load(&s.ended), 1);
}

TEST(worker_misuse, "F30 bad options of a worker") {
    state s = {.starter = pthread_self()};
    tdl_worker_options o = options(entry, &s);
    tdl_chan *done = NULL;
    CHECK_RC(tdl_worker_start(NULL, &done), TDL_EINVAL);
    CHECK_RC(tdl_worker_start(&o, NULL), TDL_EINVAL);
    o.size--;
    CHECK_RC(tdl_worker_start(&o, &done), TDL_EINVAL);
    o = options(NULL, &s);
    CHECK_RC(tdl_worker_start(&o, &done), TDL_EINVAL);
    o = options(entry, &s);
    o.flags = 1;
    CHECK_RC(tdl_worker_start(&o, &done), TDL_EINVAL);
    CHECK(done == NULL);
}

/* -- Descriptors in values ---------------------------------------------------------- */

static int is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(value_fd, "A40 a descriptor goes with the last holder of its value, unless somebody took it") {
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    tdl_val v, w;
    CHECK_RC(tdl_val_set_fd(&v, -1), TDL_EINVAL);
    CHECK_RC(tdl_val_set_fd(&v, ends[0]), 0);
    tdl_val_copy(&w, &v);
    tdl_val_clear(&v);
    CHECK(is_open(ends[0]));
    tdl_val_clear(&w);
    CHECK(!is_open(ends[0]));

    CHECK_RC(tdl_val_set_fd(&v, ends[1]), 0);
    tdl_val_copy(&w, &v);
    CHECK_INT(tdl_val_take_fd(&w), ends[1]);
    CHECK_RC(tdl_val_take_fd(&v), TDL_EINVAL);
    tdl_val_clear(&v);
    tdl_val_clear(&w);
    CHECK(is_open(ends[1]));
    close(ends[1]);
    CHECK_RC(tdl_val_set_bytes(&v, "x", 1), 0);
    CHECK_RC(tdl_val_take_fd(&v), TDL_EINVAL);
    tdl_val_clear(&v);
    tdl_val_set_int(&v, 1);
    CHECK_RC(tdl_val_take_fd(&v), TDL_EINVAL);
}

TEST(value_bundle, "A40 values that a value carries go with its last holder, unless somebody took them") {
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    tdl_chan *ch = tdl_chan_new(1);
    tdl_val carry[3], v, w, x;
    CHECK_RC(tdl_val_set_fd(&carry[0], ends[0]), 0);
    CHECK_RC(tdl_val_set_chan(&carry[1], ch), 0);
    CHECK_RC(tdl_val_set_fd(&carry[2], ends[1]), 0);
    CHECK_RC(tdl_val_set_bundle(&v, NULL, 0, NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_val_set_bundle(&v, "seven b", 7, carry, 3), 0);
    for (int i = 0; i < 3; i++) CHECK_INT(carry[i].type, TDL_NIL);
    size_t n;
    CHECK(memcmp(tdl_val_bytes(&v, &n), "seven b", 7) == 0);
    CHECK_INT((int)n, 7);
    CHECK_RC(tdl_val_set_bundle(&w, "x", 1, &v, 1), TDL_EINVAL); /* no bundle in a bundle */
    CHECK_INT(v.type, TDL_BYTES);
    tdl_val_copy(&w, &v);
    tdl_val_clear(&v);
    CHECK_RC(tdl_val_carried(&w, 3, &x), TDL_EINVAL);
    CHECK_RC(tdl_val_carried(&w, 1, &x), 0);
    tdl_chan *same = tdl_val_chan(&x);
    CHECK(same == ch);
    tdl_chan_free(same);
    tdl_val_clear(&x);
    CHECK_RC(tdl_val_carried(&w, 0, &x), 0);
    CHECK_INT(tdl_val_take_fd(&x), ends[0]);
    tdl_val_clear(&x);
    CHECK(is_open(ends[1]));
    tdl_val_clear(&w);
    CHECK(!is_open(ends[1]));
    CHECK(is_open(ends[0]));
    close(ends[0]);
    tdl_chan_free(ch);
    tdl_val_set_bytes(&v, "plain", 5);
    CHECK_RC(tdl_val_carried(&v, 0, &x), TDL_EINVAL);
    tdl_val_clear(&v);
}

TEST(value_fd_chan, "A40 a descriptor in a channel that nobody receives from is closed with it") {
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    tdl_chan *ch = tdl_chan_new(2);
    tdl_val v;
    for (int i = 0; i < 2; i++) {
        CHECK_RC(tdl_val_set_fd(&v, ends[i]), 0);
        CHECK_RC(tdl_chan_try_send(ch, &v), 0);
        tdl_val_clear(&v);
    }
    CHECK_RC(tdl_chan_try_recv(ch, &v), 0);
    CHECK_INT(tdl_val_take_fd(&v), ends[0]);
    tdl_val_clear(&v);
    tdl_chan_free(ch);
    CHECK(!is_open(ends[1]));
    CHECK(is_open(ends[0]));
    close(ends[0]);
}
