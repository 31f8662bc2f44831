/* SPDX-License-Identifier: MIT
 * Writes that the ring makes together, with its next call of the system: each is a write that
 * a goroutine waits for. What came of it is exact, whatever ends it. On one P a writer that
 * is not the last to run is queued; where it is not, all this must hold, too. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include "net.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WRITERS = 5, SIZE = 64 };

typedef struct writer {
    tdl_conn *c;
    tdl_g    *g;
    int       fd;
    int       rounds, done; /* whole writes */
    size_t    size;
    int64_t   end; /* 0, or by what it was ended */
    char      mark;
} writer;

static char at(char mark, size_t i) { return (char)(mark + (i * 2654435761u >> 13)); }

static void write_on(void *arg) {
    static char junk[WRITERS * 8][8192]; /* what is read of it must be the writer's bytes, not the next one's */
    writer     *w = arg;
    char       *bytes = junk[(unsigned char)w->mark % (WRITERS * 8)];
    for (; w->done < w->rounds; w->done++) {
        for (size_t i = 0; i < w->size; i++) bytes[i] = at(w->mark, (size_t)w->done * w->size + i);
        int64_t r = tdl_conn_write(w->c, bytes, w->size);
        if (r != (int64_t)w->size) {
            w->end = r;
            CHECK(r < 0);
            return;
        }
        memset(bytes, '-', w->size);
    }
}

static void open_writers(writer w[WRITERS], int rounds, size_t size) {
    for (int i = 0; i < WRITERS; i++) {
        w[i] = (writer){ .rounds = rounds, .size = size, .mark = (char)(i + 1) };
        w[i].fd = net_half_pair(&w[i].c);
    }
    for (int i = 0; i < 200; i++) tdl_yield(); /* turns are short: writes may wait for others' */
    for (int i = 0; i < WRITERS; i++) w[i].g = go_joinable(write_on, &w[i]);
}

/* What has come up to the end of the stream: the writer's bytes, in order. */
static size_t read_rest(writer *w) {
    char    buf[16384];
    size_t  n = 0;
    ssize_t k;
    while ((k = recv(w->fd, buf, sizeof buf, 0)) > 0) {
        for (ssize_t i = 0; i < k; i++)
            if (!CHECK(buf[i] == at(w->mark, n + (size_t)i))) return n;
        n += (size_t)k;
    }
    close(w->fd);
    return n;
}

static void one_p(void (*body)(void)) {
    int before = tdl_gomaxprocs(1);
    body();
    tdl_gomaxprocs(before);
}

/* -- Exactly ------------------------------------------------------------------------ */

static void many(void) {
    for (unsigned size = 1; size <= 8192; size = size * 5 + 1) {
        writer w[WRITERS];
        open_writers(w, 6, size); /* it fits into the sockets' buffers */
        for (int i = 0; i < WRITERS; i++) tdl_join(w[i].g);
        for (int i = 0; i < WRITERS; i++) {
            CHECK_RC(w[i].end, 0);
            tdl_conn_free(w[i].c);
            CHECK_INT(read_rest(&w[i]), 6 * size);
        }
    }
}

TEST_G(together, "N5 what several goroutines write at once arrives whole, once, and in order") { one_p(many); }

/* A write that was ended has sent nothing, or all: these are small. */
static void check_ended(writer *w) {
    tdl_conn_free(w->c);
    size_t n = read_rest(w);
    CHECK(n == (size_t)w->done * w->size);
}

static void cancel_some(void) {
    for (int round = 0; round < SCALE(80); round++) {
        writer w[WRITERS];
        open_writers(w, 3, SIZE);
        for (int i = 0; i < round % 4; i++) tdl_yield();
        for (int i = 0; i < WRITERS; i += 2) tdl_cancel(w[i].g);
        for (int i = 0; i < WRITERS; i++) {
            tdl_join(w[i].g);
            CHECK(w[i].end == 0 || (i % 2 == 0 && w[i].end == TDL_ECANCELED));
            check_ended(&w[i]);
        }
    }
}

TEST_G(cancelled, "N5 a cancelled write has sent all or nothing, and says which") { one_p(cancel_some); }

typedef struct canceller {
    writer     *w;
    pthread_t   thread;
    atomic_int  go;
} canceller;

static void *cancel_soon(void *arg) {
    canceller *c = arg;
    for (int i = 0; !atomic_load(&c->go); i++) {
        if (i > 10000) usleep(10);
    }
    for (int i = 0; i < WRITERS; i++) tdl_cancel(c->w[i].g);
    return NULL;
}

static void cancel_from_outside(void) {
    for (int round = 0; round < SCALE(50); round++) {
        writer    w[WRITERS];
        canceller c = { .w = w };
        open_writers(w, 50, SIZE);
        REQUIRE(pthread_create(&c.thread, NULL, cancel_soon, &c) == 0);
        for (int i = 0; i < round % 3; i++) tdl_yield();
        atomic_store(&c.go, 1);
        tdl_yield();
        pthread_join(c.thread, NULL);
        for (int i = 0; i < WRITERS; i++) {
            tdl_join(w[i].g);
            CHECK(w[i].end == 0 || w[i].end == TDL_ECANCELED);
            check_ended(&w[i]);
        }
    }
}

TEST_G(cancelled_outside, "N5 writes that another thread cancels at any moment have sent all or nothing") {
    one_p(cancel_from_outside);
}

static void close_some(void) {
    for (int round = 0; round < SCALE(80); round++) {
        writer w[WRITERS];
        open_writers(w, 3, SIZE);
        for (int i = 0; i < round % 4; i++) tdl_yield();
        for (int i = 0; i < WRITERS; i += 2) tdl_conn_close(w[i].c);
        for (int i = 0; i < WRITERS; i++) {
            tdl_join(w[i].g);
            CHECK(w[i].end == 0 || (i % 2 == 0 && w[i].end == TDL_ECLOSED));
            check_ended(&w[i]);
        }
    }
}

TEST_G(closed, "N5 a connection is closed while others' writes on it are under way: what they say is what arrives") {
    one_p(close_some);
}

/* -- No room, no peer --------------------------------------------------------------------- */

static void no_room(void) {
    writer w[WRITERS];
    open_writers(w, 2000, 4000);
    for (int i = 0; i < WRITERS; i++) tdl_conn_set_write_deadline(w[i].c, i % 2 ? 0 : tdl_now() + 20 * TDL_MILLISECOND);
    for (int i = 0; i < WRITERS; i += 2) {
        tdl_join(w[i].g);
        CHECK_RC(w[i].end, TDL_ETIMEDOUT);
        tdl_conn_free(w[i].c);
        size_t n = read_rest(&w[i]), sure = (size_t)w[i].done * w[i].size;
        CHECK(n >= sure && n < sure + w[i].size);
    }
    for (int i = 1; i < WRITERS; i += 2) { /* and those who are heard go on */
        char   buf[8000];
        size_t n = 0, all = (size_t)w[i].rounds * w[i].size;
        while (n < all) {
            ssize_t k = recv(w[i].fd, buf, sizeof buf, MSG_DONTWAIT);
            if (k < 0 && errno == EAGAIN) {
                tdl_yield();
                continue;
            }
            if (!CHECK(k > 0)) break;
            for (ssize_t j = 0; j < k; j++)
                if (!CHECK(buf[j] == at(w[i].mark, n + (size_t)j))) return;
            n += (size_t)k;
        }
        tdl_join(w[i].g);
        CHECK_RC(w[i].end, 0);
        tdl_conn_free(w[i].c);
        CHECK(recv(w[i].fd, buf, 1, 0) == 0);
        close(w[i].fd);
    }
}

TEST_G(full, "N5 writes to a peer that does not read wait, to their deadline; to one that reads later they go on") {
    one_p(no_room);
}

static void no_peer(void) {
    for (int round = 0; round < 20; round++) {
        writer w[WRITERS];
        open_writers(w, 100000, SIZE);
        for (int i = 0; i < WRITERS; i++) {
            if (round % 2) tdl_yield();
            net_reset(w[i].fd);
        }
        for (int i = 0; i < WRITERS; i++) {
            tdl_join(w[i].g);
            CHECK(w[i].end == -ECONNRESET || w[i].end == -EPIPE);
            tdl_conn_free(w[i].c);
        }
    }
}

TEST_G(reset, "N5 a reset is told to the writers, once they write into it") { one_p(no_peer); }

/* -- The end of a run ---------------------------------------------------------------------- */

static writer left[WRITERS];

static int leave_them(void *arg) {
    tdl_gomaxprocs(1);
    open_writers(left, 1, SIZE);
    for (int i = 0; i < *(int *)arg; i++) tdl_yield();
    return 0;
}

TEST(end_of_run, "N5 a run ends while writes are under way: each has sent all or nothing") {
    int before = tdl_gomaxprocs(0);
    for (int round = 0; round < SCALE(30); round++) {
        int yields = round % 3;
        CHECK_RC(tdl_run(leave_them, &yields), 0);
        for (int i = 0; i < WRITERS; i++) {
            tdl_conn_free(left[i].c);
            size_t n = read_rest(&left[i]);
            CHECK(n == 0 || n == SIZE);
            CHECK(left[i].done == 0 || n == SIZE);
        }
    }
    tdl_gomaxprocs(before);
}
