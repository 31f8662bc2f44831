/* SPDX-License-Identifier: MIT
 * In-memory pipes, beyond what the scenarios of streams show on them:
 * unbuffered writes, and what becomes of bytes that nobody reads. */
#include "check.h"
#include "net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "actors.h"

typedef struct writer {
    tdl_conn  *c;
    const char *bytes;
    size_t      n;
    int64_t     rc;
    atomic_int  done;
} writer;

static void write_it(void *arg) {
    writer *w = arg;
    w->rc = tdl_conn_write(w->c, w->bytes, w->n);
    atomic_store(&w->done, 1);
}

TEST_G(unbuffered, "D1 an unbuffered write is over when the last byte was read, not before") {
    for (int thread = 0; thread < 2; thread++) {
        tdl_conn *a, *b;
        char      buf[8];
        crew      c;
        REQUIRE(tdl_pipe_new(0, &a, &b) == 0);
        writer w = { a, "abcdef", 6, 99, 0 };
        crew_open(&c);
        crew_start(&c, thread, write_it, &w);
        net_read_full(b, buf, 4);
        CHECK(memcmp(buf, "abcd", 4) == 0);
        let_park();
        CHECK_INT(atomic_load(&w.done), 0);
        net_read_full(b, buf, 2);
        crew_close(&c);
        CHECK_RC(w.rc, 6);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

TEST_G(taken_back, "D13 an unbuffered write that times out takes back what was not read") {
    tdl_conn *a, *b;
    char      buf[8];
    crew      c;
    REQUIRE(tdl_pipe_new(0, &a, &b) == 0);
    writer w = { a, "abcdef", 6, 99, 0 };
    crew_open(&c);
    crew_go(&c, write_it, &w);
    net_read_full(b, buf, 2);
    tdl_conn_set_write_deadline(a, tdl_now() + 5 * TDL_MILLISECOND);
    crew_wait(&c);
    CHECK_RC(w.rc, TDL_ETIMEDOUT);
    tdl_conn_set_write_deadline(a, 0);
    w = (writer){ a, "new", 3, 99, 0 };
    crew_go(&c, write_it, &w);
    net_read_full(b, buf, 3);
    CHECK(memcmp(buf, "new", 3) == 0);
    crew_close(&c);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

static int64_t task_result, task_extra;

static int actor_writes(actor *a, int result) {
    if (a->state++ == 0) return tdl_conn_write_start(a->host, a->task, a->data, "abcdef", 6);
    task_result = result;
    task_extra = outcome_of(a)->extra;
    return ACTOR_DONE;
}

static char task_buf[8];

static int actor_reads_two_then_cancels(actor *a, int result) {
    switch (a->state++) {
    case 0: return tdl_conn_read_start(a->host, a->task, a->data, task_buf, 2);
    case 1:
        CHECK_RC(result, 2);
        CHECK_INT(tdl_task_cancel(a->host, (uint32_t)a->n), 1);
        return tdl_yield_start(a->host, a->task);
    default: return ACTOR_DONE;
    }
}

TEST(task_taken_back, "D13 the same for a task that is cancelled; its outcome says how much was read") {
    stage     s;
    tdl_conn *a, *b;
    stage_open(&s, "pipe");
    REQUIRE(tdl_pipe_new(0, &a, &b) == 0);
    actor *w = stage_spawn(&s, actor_writes, a);
    stage_spawn(&s, actor_reads_two_then_cancels, b)->n = w->task;
    stage_run(&s);
    CHECK_RC(task_result, TDL_ECANCELED);
    CHECK_INT(task_extra, 2);
    tdl_conn_free(a);
    tdl_conn_free(b);
    stage_close(&s);
}

TEST_G(large, "D29 large writes go through pipes of any capacity whole and in order") {
    static const size_t capacities[] = { 0, 1, 7, 4096, 1 << 20 };
    enum { N = 300 * 1000 };
    char *out = malloc(N), *in = malloc(N);
    for (int i = 0; i < N; i++) out[i] = (char)(i * 31 + i / 997);
    for (unsigned i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        tdl_conn *a, *b;
        crew      c;
        size_t    n = capacities[i] && capacities[i] < 100 ? SCALE(20000) : N;
        REQUIRE(tdl_pipe_new(capacities[i], &a, &b) == 0);
        writer w = { a, out, n, 99, 0 };
        crew_open(&c);
        crew_go(&c, write_it, &w);
        memset(in, 0, n);
        net_read_full(b, in, n);
        CHECK(memcmp(in, out, n) == 0);
        crew_close(&c);
        CHECK_RC(w.rc, n);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
    free(in);
    free(out);
}

typedef struct counter {
    tdl_conn *c;
    int64_t   total;
} counter;

static void reads_to_end(void *arg) {
    counter *k = arg;
    char    *buf = malloc(1 << 20);
    int64_t  n;
    while ((n = tdl_conn_read(k->c, buf, 1 << 20)) > 0) k->total += n;
    CHECK_RC(n, 0);
    free(buf);
}

TEST_G(more_than_2_gb, "D29 one write of more than 2 GB, and so is its result (over sockets: ./dev soak big)") {
    if (CHECK_SLOWDOWN > 1 || tdl_gomaxprocs(0) != 2) {
        check_skip("once is enough");
        return;
    }
    size_t    n = ((size_t)2 << 30) + 4096;
    void     *zeros = mmap(NULL, n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    tdl_conn *a;
    crew      c;
    counter   reader = { NULL, 0 };
    if (zeros == MAP_FAILED) {
        check_skip("there is no address space for it");
        return;
    }
    REQUIRE(tdl_pipe_new(1 << 20, &a, &reader.c) == 0);
    crew_open(&c);
    crew_go(&c, reads_to_end, &reader);
    CHECK_RC(tdl_conn_write(a, zeros, n), n);
    tdl_conn_free(a);
    crew_close(&c);
    CHECK_INT(reader.total, n);
    tdl_conn_free(reader.c);
    munmap(zeros, n);
}

TEST_G(writers_in_turn, "D37 unbuffered writes of several are whole, one after the other") {
    tdl_conn *a, *b;
    crew      c;
    char      buf[6];
    writer    w[8];
    REQUIRE(tdl_pipe_new(0, &a, &b) == 0);
    crew_open(&c);
    for (int i = 0; i < 8; i++) {
        static const char *const texts[] = { "aaaaaa", "bbbbbb", "cccccc", "dddddd" };
        w[i] = (writer){ a, texts[i % 4], 6, 99, 0 };
        crew_start(&c, i % 2, write_it, &w[i]);
    }
    for (int i = 0; i < 8; i++) {
        for (int at = 0; at < 6; at += 2) net_read_full(b, buf + at, 2);
        for (int j = 1; j < 6; j++) CHECK_INT(buf[j], buf[0]);
    }
    crew_close(&c);
    for (int i = 0; i < 8; i++) CHECK_RC(w[i].rc, 6);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(ends, "D22 bytes written before a close are still read; what is written after the peer's is an error") {
    tdl_conn *a, *b;
    char      buf[8];
    REQUIRE(tdl_pipe_new(100, &a, &b) == 0);
    CHECK_RC(tdl_conn_write(a, "last", 4), 4);
    CHECK_RC(tdl_conn_write(b, "lost", 4), 4);
    tdl_conn_free(a);
    net_read_full(b, buf, 4);
    CHECK(memcmp(buf, "last", 4) == 0);
    CHECK_RC(tdl_conn_read(b, buf, 4), 0);
    CHECK_RC(tdl_conn_write(b, "x", 1), -EPIPE);
    tdl_conn_free(b);
}

TEST_G(half_closed, "D21 a peer that reads no more breaks the pipe, also for a write that waits") {
    tdl_conn *a, *b;
    crew      c;
    char      buf[8];
    REQUIRE(tdl_pipe_new(0, &a, &b) == 0);
    writer w = { a, "abcdef", 6, 99, 0 };
    crew_open(&c);
    crew_go(&c, write_it, &w);
    net_read_full(b, buf, 3);
    CHECK_RC(tdl_conn_close_read(b), 0);
    crew_close(&c);
    CHECK_RC(w.rc, -EPIPE);
    CHECK_RC(tdl_conn_read(b, buf, 1), 0);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(nothing_else, "F5 what an in-memory pipe has not is said; bad arguments are refused") {
    tdl_conn *a = NULL, *b = NULL;
    tdl_addr  addr;
    char      buf[16];
    int64_t   pid;
    CHECK_RC(tdl_pipe_new(0, NULL, &b), TDL_EINVAL);
    CHECK_RC(tdl_pipe_new(0, &a, &a), TDL_EINVAL);
    CHECK_RC(tdl_pipe_new(((size_t)1 << 30) + 1, &a, &b), TDL_EINVAL);
    CHECK(a == NULL && b == NULL);
    REQUIRE(tdl_pipe_new(1, &a, &b) == 0);
    CHECK_RC(tdl_conn_fd(a), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_release(a), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_option(a, TDL_NODELAY), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_set_option(a, TDL_NODELAY, 1), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_peeraddr(a, &addr), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_peercred(a, &pid, NULL, NULL), -EOPNOTSUPP);
    CHECK_INT(tdl_conn_peername(a, buf, sizeof buf), 4);
    CHECK(strcmp(buf, "pipe") == 0);
    int fd = 0, n = 1;
    CHECK_RC(tdl_conn_send_fds(a, "x", 1, &fd, 1), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_recv_fds(a, buf, 1, &fd, &n), -EOPNOTSUPP);
    tdl_conn_close(a);
    CHECK_RC(tdl_conn_close(a), TDL_ECLOSED);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

static int leave_open(void *arg) {
    (void)arg;
    tdl_conn **c = arg;
    CHECK_RC(tdl_pipe_new(0, &c[0], &c[1]), 0);
    return 0;
}

TEST(outlives_run, "D36 a pipe of a run that is over is closed at both ends") {
    tdl_conn *c[2];
    char      byte;
    CHECK_RC(tdl_run(leave_open, c), 0);
    CHECK_RC(tdl_conn_read(c[0], &byte, 1), TDL_ECLOSED);
    CHECK_RC(tdl_conn_write(c[1], &byte, 1), TDL_ECLOSED);
    tdl_conn_free(c[0]);
    tdl_conn_free(c[1]);
}

static atomic_int ended;

static void read_to_end(void *arg) {
    char    buf[100];
    int64_t n, total = 0;
    while ((n = tdl_conn_read(arg, buf, sizeof buf)) > 0) total += n;
    CHECK_RC(n, 0);
    CHECK_INT(total, 500 * 11);
    atomic_store(&ended, 1);
}

TEST(between_hosts, "D1 a pipe joins a host's task with a goroutine, each with a poller of its own") {
    stage     s;
    tdl_conn *a, *b;
    crew      c;
    check_keeps_fds();
    for (int i = 0; i < 2; i++) {
        stage_open(&s, "pipe");
        REQUIRE(tdl_pipe_new(i ? 0 : 64, &a, &b) == 0);
        crew_open(&c);
        atomic_store(&ended, 0);
        crew_go(&c, read_to_end, b);
        for (int j = 0; j < 500; j++) {
            uint32_t t = (uint32_t)tdl_task_new(s.host, 0);
            int      rc = tdl_conn_write_start(s.host, t, a, "hello world", 11);
            tdl_event ev;
            while (rc == TDL_PENDING)
                if (tdl_host_poll(s.host, &ev, 1, TDL_SECOND) == 1) rc = ev.result;
            CHECK_RC(rc, 11);
            CHECK_RC(tdl_task_free(s.host, t), 0);
        }
        tdl_conn_close(a);
        while (!atomic_load(&ended)) usleep(1000);
        stage_close(&s); /* with which the other end would be closed, too */
        crew_close(&c);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

/* -- Simulated -------------------------------------------------------------------------- */

static void sim_writer(void *arg) {
    char line[32];
    for (int i = 0; i < 20; i++) {
        CHECK_RC(tdl_sleep(TDL_MINUTE), 0);
        int n = snprintf(line, sizeof line, "line %d\n", i);
        CHECK_RC(tdl_conn_write(arg, line, (size_t)n), n);
    }
    tdl_conn_close_write(arg);
}

static int sim_main(void *arg) {
    tdl_conn *a, *b;
    char      line[32], byte;
    size_t    n;
    (void)arg;
    CHECK_RC(tdl_pipe_new(0, &a, &b), 0);
    tdl_go(sim_writer, a);
    for (int i = 0; i < 20; i++) {
        int64_t rc = tdl_conn_fill(b, TDL_FILL_LINE, 100);
        snprintf(line, sizeof line, "line %d\n", i);
        if (!CHECK_RC(rc, strlen(line))) break;
        CHECK(memcmp(tdl_conn_peek(b, &n), line, (size_t)rc) == 0);
        CHECK_RC(tdl_conn_skip(b, (size_t)rc), 0);
    }
    CHECK_RC(tdl_conn_read(b, &byte, 1), 0);
    tdl_conn_set_write_deadline(b, tdl_now() + TDL_HOUR);
    CHECK_RC(tdl_conn_write(b, "nobody reads", 12), TDL_ETIMEDOUT);
    tdl_conn_free(a);
    tdl_conn_free(b);
    return 7;
}

static void nothing(void) {}

TEST(simulated, "D1 pipes work in a simulation, with its clock: hours of waiting take no time") {
#ifdef UNDER_TSAN
    check_skip("the sanitizer sees races in the simulation itself");
    return;
#endif
    check_run(nothing); /* ends the runtime that a test before has left */
    for (uint64_t seed = 1; seed <= (uint64_t)SCALE(30); seed++) {
        tdl_sim_options o = { .size = sizeof o, .seed = seed };
        tdl_sim_report  r = { 0 };
        CHECK_RC(tdl_sim_run(&o, sim_main, NULL, &r), 7);
        CHECK_INT(r.reason, TDL_SIM_OK);
        CHECK_WITHIN(r.ns, TDL_HOUR + 20 * TDL_MINUTE, TDL_HOUR + 21 * TDL_MINUTE);
    }
}

static tdl_conn *left[2];

static void *from_outside(void *arg) {
    char byte;
    CHECK_RC(tdl_conn_read(arg, &byte, 1), TDL_ESIM);
    CHECK_RC(tdl_conn_write(arg, &byte, 1), TDL_ESIM);
    CHECK_RC(tdl_conn_close(arg), TDL_ESIM);
    return NULL;
}

static int sim_border(void *arg) {
    tdl_conn     *a, *b;
    tdl_listener *l = NULL;
    pthread_t     thread;
    char          byte;
    (void)arg;
    CHECK_RC(tdl_listen("tcp", "127.0.0.1:0", &l), -EOPNOTSUPP);
    CHECK_RC(tdl_pipe_new(0, &a, &b), 0);
    left[0] = a;
    left[1] = b;
    REQUIRE(pthread_create(&thread, NULL, from_outside, a) == 0);
    pthread_join(thread, NULL);
    return (int)tdl_conn_read(a, &byte, 1); /* for ever */
}

TEST(border, "F5 a pipe does not cross the border of a simulation; a deadlock on one is found") {
    tdl_sim_report r = { 0 };
#ifdef UNDER_TSAN
    check_skip("the sanitizer sees races in the simulation itself");
    return;
#endif
    check_run(nothing);
    CHECK_RC(tdl_sim_run(NULL, sim_border, NULL, &r), TDL_EDEADLOCK);
    CHECK_INT(r.reason, TDL_SIM_DEADLOCK);
    CHECK(r.dump && strstr(r.dump, "IO wait (read)") != NULL);
    for (int i = 0; i < 2; i++) {
        CHECK_RC(tdl_conn_close(left[i]), TDL_ECLOSED);
        tdl_conn_free(left[i]);
    }
}
