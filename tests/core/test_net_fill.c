/* SPDX-License-Identifier: MIT
 * Framed reads: lines, exact lengths, everything, through the connection's own
 * buffer. */
#include "check.h"
#include "net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Fills a frame that must have this text, and consumes it. */
static void expect_frame(tdl_conn *c, int how, size_t limit, const char *text) {
    size_t  n;
    int64_t got = tdl_conn_fill(c, how, limit);
    if (!CHECK_RC(got, strlen(text))) return;
    const char *p = tdl_conn_peek(c, &n);
    if (CHECK(p != NULL && n >= strlen(text))) CHECK(memcmp(p, text, strlen(text)) == 0);
    CHECK_RC(tdl_conn_skip(c, strlen(text)), 0);
}

static void put(tdl_conn *c, const char *text) { CHECK_RC(tdl_conn_write(c, text, strlen(text)), strlen(text)); }

TEST_G(lines, "D1 lines come one by one however they were sent; a last one without newline counts") {
    tdl_conn *a, *b;
    net_pair("tcp", &a, &b);
    put(a, "one\ntwo\n\nfo");
    expect_frame(b, TDL_FILL_LINE, 100, "one\n");
    expect_frame(b, TDL_FILL_LINE, 100, "two\n");
    expect_frame(b, TDL_FILL_LINE, 100, "\n");
    put(a, "ur\nlast");
    tdl_conn_close_write(a);
    expect_frame(b, TDL_FILL_LINE, 100, "four\n");
    expect_frame(b, TDL_FILL_LINE, 100, "last");
    for (int i = 0; i < 2; i++) CHECK_RC(tdl_conn_fill(b, TDL_FILL_LINE, 100), TDL_EEOF);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(exact, "D1 exact frames wait until they are whole; a stream that ends first is an error, its bytes are kept") {
    tdl_conn *a, *b;
    size_t    n;
    net_pair("tcp", &a, &b);
    put(a, "12345678ab");
    expect_frame(b, TDL_FILL_EXACT, 4, "1234");
    expect_frame(b, TDL_FILL_EXACT, 4, "5678");
    tdl_conn_close_write(a);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_EXACT, 4), TDL_EEOF);
    const char *p = tdl_conn_peek(b, &n);
    CHECK_INT(n, 2);
    CHECK(p && memcmp(p, "ab", 2) == 0);
    CHECK_RC(tdl_conn_skip(b, 2), 0);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_EXACT, 4), TDL_EEOF);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(some, "D1 some bytes are what is there, at most the limit, and 0 at the end") {
    tdl_conn *a, *b;
    net_pair("tcp", &a, &b);
    put(a, "abcdef");
    expect_frame(b, TDL_FILL_SOME, 4, "abcd");
    expect_frame(b, TDL_FILL_SOME, 4, "ef");
    tdl_conn_close_write(a);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_SOME, 4), 0);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_SOME, 4), 0);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

static void put_all(void *arg) {
    char block[1000];
    memset(block, 'z', sizeof block);
    for (int i = 0; i < 100; i++) CHECK_RC(tdl_conn_write(arg, block, sizeof block), sizeof block);
    tdl_conn_close_write(arg);
}

TEST_G(all, "D1 everything to the end of the stream, unless it is too long") {
    for (int too_long = 0; too_long < 2; too_long++) {
        tdl_conn *a, *b;
        crew      c;
        size_t    n;
        net_pair("tcp", &a, &b);
        crew_open(&c);
        crew_go(&c, put_all, a);
        CHECK_RC(tdl_conn_fill(b, TDL_FILL_ALL, too_long ? 50000 : 200000), too_long ? TDL_ETOOLONG : 100 * 1000);
        const char *p = tdl_conn_peek(b, &n);
        CHECK(p && n >= 50000);
        CHECK(p && p[0] == 'z' && p[n - 1] == 'z');
        CHECK_RC(tdl_conn_skip(b, n), 0);
        crew_close(&c); /* what is not read fits into the kernel's buffers */
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

TEST_G(line_too_long, "D1 a line beyond the limit is an error; its bytes stay") {
    tdl_conn *a, *b;
    size_t    n;
    net_pair("tcp", &a, &b);
    put(a, "a line of some length\nnext\n");
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_LINE, 10), TDL_ETOOLONG);
    CHECK(tdl_conn_peek(b, &n) != NULL && n >= 10);
    CHECK_RC(tdl_conn_skip(b, 10), 0);
    expect_frame(b, TDL_FILL_LINE, 100, "some length\n");
    expect_frame(b, TDL_FILL_LINE, 5, "next\n"); /* the newline is within the limit */
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(skip_less, "D1 what is not skipped stays for the next fill, and for a plain read") {
    tdl_conn *a, *b;
    char      buf[8];
    net_pair("tcp", &a, &b);
    put(a, "abcdefgh");
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_EXACT, 8), 8);
    CHECK_RC(tdl_conn_skip(b, 0), 0);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_EXACT, 3), 3);
    CHECK_RC(tdl_conn_skip(b, 3), 0);
    net_read_full(b, buf, 5);
    CHECK(memcmp(buf, "defgh", 5) == 0);
    put(a, "ij");
    net_read_full(b, buf, 2);
    CHECK(memcmp(buf, "ij", 2) == 0);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(duties, "D1 skip without the read side, or of more than there is, is refused; so are bad limits") {
    tdl_conn *a, *b;
    size_t    n = 5;
    net_pair("tcp", &a, &b);
    CHECK_RC(tdl_conn_skip(b, 0), TDL_EINVAL);
    CHECK(tdl_conn_peek(b, &n) == NULL);
    CHECK_INT(n, 0);
    put(a, "abc");
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_EXACT, 3), 3);
    CHECK_RC(tdl_conn_skip(b, 4), TDL_EINVAL);
    CHECK_RC(tdl_conn_skip(b, 3), 0);
    CHECK_RC(tdl_conn_skip(b, 0), TDL_EINVAL);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_EXACT, 0), TDL_EINVAL);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_EXACT, ((size_t)1 << 30) + 1), TDL_EINVAL);
    CHECK_RC(tdl_conn_fill(b, 17, 3), TDL_EINVAL);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(timeout_keeps, "D12 a fill that times out keeps the part that had arrived") {
    tdl_conn *a, *b;
    size_t    n;
    net_pair("tcp", &a, &b);
    put(a, "half");
    tdl_conn_set_read_deadline(b, tdl_now() + 20 * TDL_MILLISECOND);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_LINE, 100), TDL_ETIMEDOUT);
    CHECK(tdl_conn_peek(b, &n) != NULL);
    CHECK_INT(n, 4);
    CHECK_RC(tdl_conn_skip(b, 0), 0);
    tdl_conn_set_read_deadline(b, 0);
    put(a, " a line\n");
    expect_frame(b, TDL_FILL_LINE, 100, "half a line\n");
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(empty_timeout, "D12 a fill that times out with nothing gives the read side up by itself") {
    tdl_conn *a, *b;
    char      byte;
    net_pair("tcp", &a, &b);
    tdl_conn_set_read_deadline(b, tdl_now() + 5 * TDL_MILLISECOND);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_LINE, 100), TDL_ETIMEDOUT);
    CHECK(tdl_conn_peek(b, NULL) == NULL);
    tdl_conn_set_read_deadline(b, 0);
    put(a, "x");
    CHECK_RC(tdl_conn_read(b, &byte, 1), 1);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

static void put_lines(void *arg) {
    uint64_t seed = 42;
    char     line[2000];
    for (int i = 0; i < SCALE(2000); i++) {
        size_t n = random_next(&seed) % (sizeof line - 1);
        memset(line, 'a' + i % 26, n);
        line[n] = '\n';
        for (size_t at = 0; at <= n;) { /* in pieces */
            size_t piece = 1 + random_next(&seed) % 700;
            if (piece > n + 1 - at) piece = n + 1 - at;
            CHECK_RC(tdl_conn_write(arg, line + at, piece), piece);
            at += piece;
        }
    }
    tdl_conn_close_write(arg);
}

TEST_G(many_lines, "D1 two thousand lines sent in random pieces arrive as they were") {
    tdl_conn *a, *b;
    crew      c;
    uint64_t  seed = 42;
    int64_t   n;
    int       i = 0;
    net_pair("tcp", &a, &b);
    crew_open(&c);
    crew_go(&c, put_lines, a);
    while ((n = tdl_conn_fill(b, TDL_FILL_LINE, 4096)) > 0) {
        size_t want = random_next(&seed) % 1999, buffered;
        for (size_t at = 0; at <= want;) {
            size_t piece = 1 + random_next(&seed) % 700;
            at += piece > want + 1 - at ? want + 1 - at : piece;
        }
        const char *p = tdl_conn_peek(b, &buffered);
        CHECK_INT(n, want + 1);
        CHECK(buffered >= (size_t)n);
        CHECK(p[n - 1] == '\n' && (n == 1 || (p[0] == 'a' + i % 26 && p[n - 2] == 'a' + i % 26)));
        CHECK_RC(tdl_conn_skip(b, (size_t)n), 0);
        i++;
    }
    CHECK_RC(n, TDL_EEOF);
    CHECK_INT(i, SCALE(2000));
    crew_close(&c);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

typedef struct line_reader {
    tdl_conn  *c;
    atomic_int lines;
} line_reader;

static void read_lines(void *arg) {
    line_reader *r = arg;
    int64_t      n;
    while ((n = tdl_conn_fill(r->c, TDL_FILL_LINE, 100)) > 0) {
        const char *p = tdl_conn_peek(r->c, NULL);
        CHECK(n == 6 && memcmp(p, "hello\n", 6) == 0);
        if (n % 2) tdl_yield(); /* others wait for the read side meanwhile */
        atomic_fetch_add(&r->lines, 1);
        CHECK_RC(tdl_conn_skip(r->c, (size_t)n), 0);
    }
    CHECK_RC(n, TDL_EEOF);
}

TEST_G(shared_lines, "D37 several who read lines from one connection each get whole lines") {
    line_reader r = { 0 };
    tdl_conn   *a;
    crew        c;
    net_pair("tcp", &a, &r.c);
    crew_open(&c);
    for (int i = 0; i < 4; i++) crew_start(&c, i == 0, read_lines, &r);
    for (int i = 0; i < 500; i++) put(a, "hello\n");
    tdl_conn_close_write(a);
    crew_close(&c);
    CHECK_INT(atomic_load(&r.lines), 500);
    tdl_conn_free(a);
    tdl_conn_free(r.c);
}

static void fill_closed(void *arg) { CHECK_RC(tdl_conn_fill(arg, TDL_FILL_LINE, 100), TDL_ECLOSED); }

TEST_G(close_wakes, "D8 close wakes a fill that waits") {
    tdl_conn *a, *b;
    crew      c;
    net_pair("tcp", &a, &b);
    crew_open(&c);
    crew_go(&c, fill_closed, b);
    let_park();
    CHECK_RC(tdl_conn_close(b), 0);
    crew_close(&c);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(reset, "D22 a reset while a frame is incomplete is an error") {
    tdl_conn *c;
    int       fd = net_half_pair(&c);
    CHECK_INT(write(fd, "par", 3), 3);
    CHECK_RC(tdl_conn_fill(c, TDL_FILL_EXACT, 3), 3);
    CHECK_RC(tdl_conn_skip(c, 0), 0);
    net_reset(fd);
    CHECK_RC(tdl_conn_fill(c, TDL_FILL_EXACT, 10), -ECONNRESET);
    tdl_conn_free(c);
}
