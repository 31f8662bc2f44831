/* SPDX-License-Identifier: MIT
 * Random traffic on many connections: sizes, deadlines, frames, half-closes,
 * closes by a third party, ends on goroutines and threads. What arrives is
 * what was sent, in order, up to where it ended; and all of it ends. */
#include "check.h"
#include "net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS = 12, BLOCK = 6000, MS = 1000000 };

typedef struct stream { /* one direction of one pair */
    tdl_conn   *from, *to;
    uint64_t    seed;
    int         rounds;
    int64_t     sent;     /* surely */
    int64_t     received;
    atomic_int *disturbed; /* of the pair: somebody closed it */
    int         whole;     /* the sender ended by close_write, with nothing in doubt */
    int         ended;     /* the receiver has seen the end of the stream */
} stream;

/* The byte at an offset of a stream. */
static char byte_at(const stream *s, int64_t at) { return (char)((at * 31 >> 3) ^ (at >> 11) ^ (int64_t)(s->seed & 0x7f)); }

static int is_end(int64_t rc) {
    return rc == TDL_ECLOSED || rc == -EPIPE || rc == -ECONNRESET;
}

static void push_bytes(void *arg) {
    stream  *s = arg;
    uint64_t seed = s->seed;
    char     block[BLOCK];
    for (int i = 0; i < s->rounds; i++) {
        int64_t n = 1 + (int64_t)(random_next(&seed) % BLOCK);
        if (random_next(&seed) % 16) n = n % 300 + 1;
        for (int64_t j = 0; j < n; j++) block[j] = byte_at(s, s->sent + j);
        tdl_conn_set_write_deadline(s->from, random_next(&seed) % 3 ? tdl_now() + 10 * TDL_SECOND : 0);
        int64_t rc = tdl_conn_write(s->from, block, (size_t)n);
        if (rc != n) {
            if (!is_end(rc)) CHECK_RC(rc, n);
            CHECK(atomic_load(s->disturbed));
            return;
        }
        s->sent += n;
        if (random_next(&seed) % 32 == 0) tdl_sleep((int64_t)(random_next(&seed) % (100 * 1000)));
        if (random_next(&seed) % 8 == 0) tdl_yield();
    }
    int rc = tdl_conn_close_write(s->from);
    s->whole = rc == 0;
    if (rc != 0) CHECK(atomic_load(s->disturbed));
}

static void compare(stream *s, const char *p, int64_t n) {
    for (int64_t j = 0; j < n; j++)
        if (p[j] != byte_at(s, s->received + j)) {
            CHECK_INT(p[j], byte_at(s, s->received + j));
            break;
        }
    s->received += n;
}

/* One read of some kind; what tdl_conn_read returned. */
static int64_t pull_once(stream *s, uint64_t *seed) {
    char        block[BLOCK];
    size_t      limit = 1 + random_next(seed) % BLOCK, buffered = 0;
    int         kind = (int)(random_next(seed) % 4);
    if (kind < 2) {
        int64_t rc = tdl_conn_read(s->to, block, limit);
        if (rc > 0) compare(s, block, rc);
        return rc;
    }
    int64_t     rc = tdl_conn_fill(s->to, kind == 2 ? TDL_FILL_SOME : TDL_FILL_EXACT, kind == 2 ? limit : limit % 700 + 1);
    const char *p = tdl_conn_peek(s->to, &buffered);
    if (p == NULL) return rc == TDL_EEOF ? 0 : rc;
    /* all of the frame, or a part; when it failed, all that is there */
    size_t take = rc < 0 ? buffered : random_next(seed) % 3 ? (size_t)rc : (size_t)rc / 2;
    compare(s, p, (int64_t)take);
    int skipped = tdl_conn_skip(s->to, take);
    if (skipped != 0) CHECK_RC(skipped, TDL_ECLOSED);
    return rc == TDL_EEOF ? 0 : rc < 0 ? rc : 1;
}

static void pull_bytes(void *arg) {
    stream  *s = arg;
    uint64_t seed = s->seed + 1;
    for (;;) {
        uint64_t r = random_next(&seed);
        tdl_conn_set_read_deadline(s->to, r % 4 == 0 ? tdl_now() + (int64_t)(r >> 40) % (MS / 2) : 0);
        int64_t rc = pull_once(s, &seed);
        if (rc > 0 || rc == TDL_ETIMEDOUT) continue;
        s->ended = rc == 0;
        if (rc != 0 && !is_end(rc)) CHECK_RC(rc, 0);
        if (rc < 0) CHECK(atomic_load(s->disturbed));
        return;
    }
}

typedef struct disturbance {
    tdl_conn   *a, *b;
    atomic_int *disturbed;
    uint64_t    seed;
} disturbance;

static void disturb(void *arg) {
    disturbance *d = arg;
    tdl_sleep((int64_t)(random_next(&d->seed) % (5 * MS)));
    atomic_store(d->disturbed, 1);
    tdl_conn_close(random_next(&d->seed) % 2 ? d->a : d->b);
}

static void traffic(uint64_t start) {
    stream      s[PAIRS][2];
    disturbance d[PAIRS];
    atomic_int  disturbed[PAIRS];
    tdl_conn   *a, *b;
    crew        c;
    crew_open(&c);
    for (int i = 0; i < PAIRS; i++) {
        uint64_t seed = start + (uint64_t)i * 1000;
        net_pair(i % 3 == 2 ? "unix" : "tcp", &a, &b);
        if (i % 2) net_small_buffers(tdl_conn_fd(a));
        atomic_init(&disturbed[i], 0);
        for (int k = 0; k < 2; k++)
            s[i][k] = (stream){ .from = k ? b : a, .to = k ? a : b, .seed = seed + (uint64_t)k,
                                .rounds = SCALE(2000), .disturbed = &disturbed[i] };
        d[i] = (disturbance){ a, b, &disturbed[i], seed };
        if (i % 4 == 1) crew_go(&c, disturb, &d[i]);
    }
    for (int i = 0; i < PAIRS; i++)
        for (int k = 0; k < 2; k++) {
            crew_start(&c, i % 5 == 0 && k == 0, push_bytes, &s[i][k]);
            crew_start(&c, i % 5 == 1 && k == 0, pull_bytes, &s[i][k]);
        }
    crew_close(&c);
    for (int i = 0; i < PAIRS; i++) {
        for (int k = 0; k < 2; k++) {
            if (s[i][k].whole && s[i][k].ended) CHECK_INT(s[i][k].received, s[i][k].sent);
            if (!atomic_load(&disturbed[i])) CHECK(s[i][k].whole && s[i][k].ended);
        }
        tdl_conn_free(s[i][0].from);
        tdl_conn_free(s[i][0].to);
    }
}

static void random_traffic(void) {
    const char *given = getenv("TDL_TEST_SEED");
    uint64_t    start = given ? strtoull(given, NULL, 0) : (uint64_t)tdl_now();
    check_limit(60);
    for (uint64_t i = 0; i < 4 && check_failures() == 0; i++) {
        traffic(start + i);
        if (check_failures()) fprintf(stderr, "  TDL_TEST_SEED=%llu\n", (unsigned long long)(start + i));
    }
}

TEST_G(in_run, "S6 random traffic on many connections, with closes in the middle: what arrives is what was sent") { random_traffic(); }

TEST(outside, "S6 the same from a plain thread, beside whatever goroutines it starts") {
    check_keeps_fds();
    random_traffic();
}
