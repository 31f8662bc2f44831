/* SPDX-License-Identifier: MIT
 * Readers and writers: the interface, copies over it, what puts them together,
 * buffered ones, the scanner, the io pipe. */
#include "check.h"
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- Kinds of the test's own -------------------------------------------------------------- */

/* Gives `text` in pieces of `piece` bytes; then the code, once, and then the rest behind it. */
typedef struct source {
    const char *text;
    size_t      n, piece, at, fail_at;
    int         code;
    int         calls;
} source;

static int64_t source_read(void *of, void *buf, size_t n) {
    source *s = of;
    s->calls++;
    if (s->code && s->at == s->fail_at) {
        int code = s->code;
        s->code = 0;
        return code;
    }
    size_t left = (s->code && s->fail_at > s->at ? s->fail_at : s->n) - s->at;
    if (n > left) n = left;
    if (s->piece && n > s->piece) n = s->piece;
    memcpy(buf, s->text + s->at, n);
    s->at += n;
    return (int64_t)n;
}

static tdl_reader reader_of(source *s, const char *text, size_t piece) {
    static const tdl_reader_type type = {source_read, NULL};
    *s = (source){.text = text, .n = strlen(text), .piece = piece};
    return (tdl_reader){&type, s};
}

/* Takes bytes; at `room` it fails with the code. */
typedef struct sink {
    char   bytes[4096];
    size_t n, room;
    int    code, calls;
} sink;

static int64_t sink_write(void *of, const void *buf, size_t n, size_t *written) {
    sink *s = of;
    s->calls++;
    size_t left = s->room - s->n, m = n < left ? n : left;
    memcpy(s->bytes + s->n, buf, m);
    s->n += m;
    if (m == n) return (int64_t)n;
    *written = m;
    return s->code;
}

static tdl_writer writer_of(sink *s, size_t room, int code) {
    static const tdl_writer_type type = {sink_write, NULL};
    memset(s, 0, sizeof *s);
    s->room = room;
    s->code = code;
    return (tdl_writer){&type, s};
}

static int holds(const sink *s, const char *text) { return s->n == strlen(text) && memcmp(s->bytes, text, s->n) == 0; }

static int64_t lies(void *of, void *buf, size_t n) {
    (void)of, (void)buf;
    return (int64_t)n + 1;
}

static int64_t half(void *of, const void *buf, size_t n, size_t *written) {
    (void)of, (void)buf, (void)written;
    return (int64_t)(n / 2);
}

/* -- The interface ----------------------------------------------------------------------------- */

TEST(full, "E10 read_full: all, the end before the first byte, the end in between, an error, each with what came") {
    source s;
    char   got[16];
    size_t n;
    CHECK_RC(tdl_read_full(reader_of(&s, "0123456789", 3), got, 10, &n), 10);
    CHECK_INT(n, 10);
    CHECK(memcmp(got, "0123456789", 10) == 0);
    CHECK_RC(tdl_read_full(reader_of(&s, "", 3), got, 4, &n), 0);
    CHECK_INT(n, 0);
    CHECK_RC(tdl_read_full(reader_of(&s, "012", 2), got, 4, &n), TDL_EEOF);
    CHECK_INT(n, 3);
    tdl_reader r = reader_of(&s, "012345", 4);
    s.fail_at = 2;
    s.code = -EIO;
    CHECK_RC(tdl_read_full(r, got, 4, &n), -EIO);
    CHECK_INT(n, 2);
    CHECK_RC(tdl_read_full(r, got, 4, NULL), 4); /* it goes on */
    CHECK_RC(tdl_read_full(r, got, 0, NULL), 0);
}

TEST(all, "E10 read_all: to the end, within a limit; what came before an error is there") {
    source   s;
    tdl_buf *b = tdl_buf_new();
    char    *big = malloc(300001);
    memset(big, 'x', 300000);
    big[300000] = 0;
    CHECK_RC(tdl_read_all(reader_of(&s, "all of it", 2), 100, b), 9);
    CHECK_INT(tdl_buf_len(b), 9);
    CHECK_RC(tdl_read_all(reader_of(&s, "nine here", 0), 9, b), 9);
    CHECK_RC(tdl_read_all(reader_of(&s, "ten  bytes", 4), 9, b), TDL_ETOOLONG);
    CHECK_INT(tdl_buf_len(b), 27);
    CHECK_RC(tdl_read_all(reader_of(&s, "x", 0), 0, b), TDL_ETOOLONG);
    CHECK_RC(tdl_read_all(reader_of(&s, "", 0), 0, b), 0);
    tdl_buf_skip(b, 27);
    CHECK_RC(tdl_read_all(reader_of(&s, big, 0), SIZE_MAX, b), 300000);
    CHECK_INT(tdl_buf_len(b), 300000);
    tdl_reader r = reader_of(&s, "before and after", 0);
    s.fail_at = 6;
    s.code = TDL_ETIMEDOUT;
    CHECK_RC(tdl_read_all(r, 1000, b), TDL_ETIMEDOUT);
    CHECK_INT(tdl_buf_len(b), 300006);
    tdl_buf_free(b);
    free(big);
}

TEST(put_together, "E10 limit, tee, several readers and writers") {
    source      s, t;
    sink        a, b;
    tdl_limited l;
    tdl_tee     tee;
    tdl_readers in;
    tdl_writers out;
    int64_t     copied;
    char        got[32];
    /* a limit, and what is left behind it */
    tdl_reader r = reader_of(&s, "0123456789", 4), limited = tdl_limit_reader(&l, r, 6);
    CHECK_RC(tdl_copy(writer_of(&a, 100, 0), limited, -1, &copied), 0);
    CHECK_INT(copied, 6);
    CHECK(holds(&a, "012345"));
    CHECK_RC(tdl_read(limited, got, 10), 0);
    CHECK_RC(tdl_read(r, got, 10), 4);
    CHECK_RC(tdl_read(tdl_limit_reader(&l, reader_of(&s, "abc", 0), -1), got, 3), 0);
    limited = tdl_limit_reader(&l, reader_of(&s, "abcdef", 0), 4);
    CHECK_RC(tdl_read(limited, got, 3), 3);
    CHECK_INT(l.left, 1);
    CHECK_RC(tdl_read(limited, got, 3), 1);
    /* a tee, whose writer fails */
    r = tdl_tee_reader(&tee, reader_of(&s, "to both of them", 5), writer_of(&a, 8, -ENOSPC));
    CHECK_RC(tdl_copy(writer_of(&b, 100, 0), r, -1, &copied), -ENOSPC);
    CHECK_INT(copied, 10);
    CHECK(holds(&b, "to both of") && holds(&a, "to both "));
    CHECK_RC(tdl_read(r, got, 1), -ENOSPC);
    /* several, one after the other; copied in parts */
    tdl_reader list[3] = {reader_of(&s, "one", 1), {NULL, NULL}, reader_of(&t, "two", 0)};
    tdl_mem    mem;
    list[1] = tdl_mem_reader(&mem, "+", 1);
    r = tdl_multi_reader(&in, list, 3);
    CHECK_RC(tdl_copy(writer_of(&a, 100, 0), r, 2, &copied), 0);
    CHECK_RC(tdl_copy(writer_of(&b, 100, 0), r, -1, &copied), 0);
    CHECK_INT(copied, 5);
    CHECK(holds(&a, "on") && holds(&b, "e+two"));
    CHECK_RC(tdl_read(r, got, 1), 0);
    list[1] = reader_of(&t, "12", 0);
    s.at = 0;
    t.code = -EIO;
    t.fail_at = 1;
    r = tdl_multi_reader(&in, list, 2);
    CHECK_RC(tdl_read_full(r, got, 9, NULL), -EIO);
    CHECK_RC(tdl_read_full(r, got, 9, NULL), TDL_EEOF);
    CHECK_RC(tdl_read(tdl_multi_reader(&in, NULL, 0), got, 1), 0);
    /* several writers: those behind one that fails get nothing */
    tdl_writer outs[2] = {writer_of(&a, 4, -EPIPE), writer_of(&b, 100, 0)};
    tdl_writer w = tdl_multi_writer(&out, outs, 2);
    size_t     written;
    CHECK_RC(tdl_write(w, "abc", 3, &written), 3);
    CHECK_RC(tdl_write(w, "def", 3, &written), -EPIPE);
    CHECK_INT(written, 1);
    CHECK(holds(&a, "abcd") && holds(&b, "abc"));
    CHECK_RC(tdl_write(tdl_multi_writer(&out, NULL, 0), "x", 1, NULL), 1);
    CHECK_RC(tdl_copy(tdl_discard(), reader_of(&s, "whatever", 3), -1, &copied), 0);
    CHECK_INT(copied, 8);
}

TEST(copies, "E10 a copy says exactly what went out, and whose error ended it") {
    source  s;
    sink    a;
    int64_t copied;
    CHECK_RC(tdl_copy(writer_of(&a, 5, -ENOSPC), reader_of(&s, "0123456789", 3), -1, &copied), -ENOSPC);
    CHECK_INT(copied, 5);
    tdl_reader r = reader_of(&s, "0123456789", 3);
    s.fail_at = 7;
    s.code = -ECONNRESET;
    CHECK_RC(tdl_copy(writer_of(&a, 100, 0), r, -1, &copied), -ECONNRESET);
    CHECK_INT(copied, 7);
    CHECK_RC(tdl_copy(writer_of(&a, 100, 0), r, 0, &copied), 0);
    CHECK_INT(copied, 0);
    CHECK_RC(tdl_copy(writer_of(&a, 100, 0), r, 2, NULL), 0);
    CHECK(holds(&a, "78"));
}

TEST(misuse, "F5 readers and writers that are none, or lie, are refused; chains and files onto themselves") {
    static const tdl_reader_type liar = {lies, NULL};
    static const tdl_writer_type short_one = {half, NULL};
    tdl_reader no_reader = {NULL, NULL}, bad_reader = {&liar, NULL};
    tdl_writer no_writer = {NULL, NULL}, bad_writer = {&short_one, NULL};
    source     s;
    sink       a;
    char       buf[8];
    size_t     n;
    int64_t    copied = 9;
    CHECK_RC(tdl_read(no_reader, buf, 1), TDL_EINVAL);
    CHECK_RC(tdl_read(reader_of(&s, "x", 0), NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_read_full(no_reader, buf, 1, &n), TDL_EINVAL);
    CHECK_RC(tdl_write(no_writer, buf, 1, &n), TDL_EINVAL);
    CHECK_RC(tdl_copy(no_writer, reader_of(&s, "x", 0), -1, &copied), TDL_EINVAL);
    CHECK_INT(copied, 0);
    CHECK_RC(tdl_copy(writer_of(&a, 1, 0), no_reader, -1, NULL), TDL_EINVAL);
    CHECK_RC(tdl_read(bad_reader, buf, 4), TDL_EINVAL);
    CHECK_RC(tdl_copy(tdl_discard(), bad_reader, -1, NULL), TDL_EINVAL);
    CHECK_RC(tdl_write(bad_writer, "four", 4, &n), TDL_EINVAL);
    CHECK_INT(n, 2);
    CHECK(tdl_conn_reader(NULL).type == NULL && tdl_conn_writer(NULL).type == NULL);
    CHECK(tdl_file_reader(NULL).type == NULL && tdl_fd_writer(NULL).type == NULL && tdl_buf_reader(NULL).type == NULL);
    CHECK(tdl_limit_reader(NULL, bad_reader, 1).type == NULL && tdl_mem_reader(NULL, "", 0).type == NULL);
    CHECK(tdl_bufreader_reader(NULL).type == NULL && tdl_bufwriter_writer(NULL).type == NULL);
    tdl_buf *b = tdl_buf_new();
    tdl_buf_append(b, "itself", 6);
    CHECK_RC(tdl_copy(tdl_buf_writer(b), tdl_buf_reader(b), -1, NULL), TDL_EINVAL);
    CHECK_INT(tdl_buf_len(b), 6);
    tdl_buf *c = tdl_buf_new();
    CHECK_RC(tdl_copy(tdl_buf_writer(c), tdl_buf_reader(b), 4, &copied), 0);
    CHECK_INT(tdl_buf_len(b), 2);
    CHECK_INT(tdl_buf_len(c), 4);
    tdl_buf_free(b);
    tdl_buf_free(c);
    CHECK_RC(tdl_bufwriter_write(NULL, "x", 1), TDL_EINVAL);
    CHECK_RC(tdl_bufwriter_flush(NULL), TDL_EINVAL);
    CHECK_RC(tdl_bufreader_fill(NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_scanner_next(NULL, NULL, NULL), TDL_EINVAL);
    CHECK(tdl_scanner_new(no_reader, "", 0, 10) == NULL);
    CHECK(tdl_scanner_new(no_reader, "abc", 3, 2) == NULL);
    CHECK(tdl_scanner_new(no_reader, NULL, 0, (size_t)2 << 30) == NULL);
    CHECK(tdl_bufreader_new(no_reader, (size_t)2 << 30) == NULL);
}

/* -- Connections and files ------------------------------------------------------------------------ */

static tdl_file *file_with(const char *data, size_t n) {
    tdl_file *f = NULL;
    char      name[] = "/tmp/treadle-io-XXXXXX";
    int       fd = mkstemp(name);
    REQUIRE(fd >= 0 && unlink(name) == 0);
    REQUIRE(write(fd, data, n) == (ssize_t)n && lseek(fd, 0, SEEK_SET) == 0);
    REQUIRE(tdl_file_adopt(fd, &f) == 0);
    return f;
}

typedef struct drain {
    tdl_conn *c;
    char     *got;
    size_t    n;
} drain;

static void drains(void *arg) {
    drain *d = arg;
    net_read_full(d->c, d->got, d->n);
}

TEST_G(ends, "D30 D31 whatever bytes come from, a copy brings them to a connection, a file, a chain") {
    enum { LEN = 300000 };
    static const char *const nets[] = {"tcp", "unix", "pipe"};
    char *data = malloc(LEN), *got = malloc(LEN);
    for (int i = 0; i < LEN; i++) data[i] = (char)(i * 2654435761u >> 11);
    for (int from = 0; from < 6; from++)
        for (int to = 0; to < 5; to++) {
            tdl_conn   *a = NULL, *b = NULL, *c = NULL, *d = NULL;
            tdl_file   *in = NULL, *out = NULL;
            tdl_buf    *chain = tdl_buf_new(), *end = tdl_buf_new();
            tdl_mem     mem;
            tdl_limited l;
            tdl_reader  r;
            tdl_writer  w;
            crew        k;
            int64_t     copied = -1;
            crew_open(&k);
            size_t expect = LEN;
            if (from < 3) {
                net_pair(nets[from], &a, &b);
                CHECK_RC(tdl_conn_write(a, data, 20000), 20000);
                tdl_conn_close_write(a);
                r = tdl_conn_reader(b);
                expect = 20000;
            } else if (from == 3) {
                in = file_with(data, LEN);
                r = tdl_file_reader(in);
            } else if (from == 4) {
                tdl_buf_append(chain, data, LEN);
                r = tdl_buf_reader(chain);
            } else {
                r = tdl_limit_reader(&l, tdl_mem_reader(&mem, data, LEN), LEN - 1);
                expect = LEN - 1;
            }
            drain dr = {NULL, got, expect};
            if (to < 3) {
                net_pair(nets[to], &c, &d);
                w = tdl_conn_writer(c);
                dr.c = d;
                crew_go(&k, drains, &dr);
            } else if (to == 3) {
                out = file_with("", 0);
                w = tdl_file_writer(out);
            } else {
                w = tdl_buf_writer(end);
            }
            CHECK_RC(tdl_copy(w, r, -1, &copied), 0);
            CHECK_INT(copied, expect);
            crew_close(&k);
            if (to == 3) {
                CHECK_INT(tdl_file_seek(out, 0, 0), 0);
                CHECK_RC(tdl_read_full(tdl_file_reader(out), got, expect, NULL), expect);
                CHECK_RC(tdl_read(tdl_file_reader(out), got, 0), 0);
            } else if (to == 4) {
                CHECK_INT(tdl_buf_len(end), expect);
                tdl_buf_copy(end, 0, got, expect);
            }
            CHECK(memcmp(got, data, expect) == 0);
            if (from == 3) CHECK_INT(tdl_file_seek(in, 0, 1), LEN);
            CHECK_INT(tdl_buf_len(chain), 0);
            tdl_conn_free(a);
            tdl_conn_free(b);
            tdl_conn_free(c);
            tdl_conn_free(d);
            tdl_file_free(in);
            tdl_file_free(out);
            tdl_buf_free(chain);
            tdl_buf_free(end);
        }
    free(data);
    free(got);
}

TEST_G(limited_splice, "D30 through a limit and several readers a copy has its better way, and stops at the byte") {
    tdl_conn   *a, *b, *c, *d;
    tdl_limited l;
    tdl_readers m;
    tdl_mem     mem;
    char        got[16];
    int64_t     copied;
    net_pair("tcp", &a, &b);
    net_pair("unix", &c, &d);
    CHECK_RC(tdl_conn_write(a, "0123456789", 10), 10);
    tdl_reader list[2];
    list[0] = tdl_mem_reader(&mem, "head:", 5);
    list[1] = tdl_limit_reader(&l, tdl_conn_reader(b), 7);
    CHECK_RC(tdl_copy(tdl_conn_writer(c), tdl_multi_reader(&m, list, 2), -1, &copied), 0);
    CHECK_INT(copied, 12);
    CHECK_INT(l.left, 0);
    net_read_full(d, got, 12);
    CHECK(memcmp(got, "head:0123456", 12) == 0);
    net_read_full(b, got, 3);
    CHECK(memcmp(got, "789", 3) == 0);
    /* an echo: to itself */
    CHECK_RC(tdl_conn_write(a, "echo", 4), 4);
    CHECK_RC(tdl_copy(tdl_conn_writer(b), tdl_conn_reader(b), 4, &copied), 0);
    net_read_full(a, got, 4);
    CHECK(memcmp(got, "echo", 4) == 0);
    tdl_conn_set_read_deadline(b, -1);
    CHECK_RC(tdl_copy(tdl_conn_writer(c), tdl_conn_reader(b), -1, &copied), TDL_ETIMEDOUT);
    tdl_conn_close(c);
    CHECK_RC(tdl_copy(tdl_conn_writer(c), tdl_mem_reader(&mem, "x", 1), -1, &copied), TDL_ECLOSED);
    CHECK_INT(copied, 0);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_conn_free(c);
    tdl_conn_free(d);
}

TEST_G(files, "F5 a file onto itself, past its deadline, closed") {
    tdl_file *f = file_with("content", 7);
    char      got[8];
    CHECK_RC(tdl_copy(tdl_file_writer(f), tdl_file_reader(f), -1, NULL), TDL_EINVAL);
    tdl_file_set_deadline(f, 1);
    CHECK_RC(tdl_write(tdl_file_writer(f), "x", 1, NULL), TDL_ETIMEDOUT);
    tdl_file_set_deadline(f, 0);
    CHECK_RC(tdl_read(tdl_file_reader(f), got, 8), 7);
    tdl_file_close(f);
    CHECK_RC(tdl_read(tdl_file_reader(f), got, 8), TDL_ECLOSED);
    tdl_conn *a, *b;
    net_pair("tcp", &a, &b);
    CHECK_RC(tdl_copy(tdl_conn_writer(a), tdl_file_reader(f), -1, NULL), TDL_ECLOSED);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_file_free(f);
}

/* -- Buffered ------------------------------------------------------------------------------------------- */

TEST(gathers, "E10 a buffered writer gathers small writes, and passes large ones on") {
    sink           a;
    tdl_bufwriter *b = tdl_bufwriter_new(writer_of(&a, 4096, 0), 10);
    CHECK_RC(tdl_bufwriter_write(b, "abc", 3), 3);
    CHECK_RC(tdl_bufwriter_write(b, "def", 3), 3);
    CHECK_INT(a.calls, 0);
    CHECK_INT(tdl_bufwriter_buffered(b), 6);
    CHECK_RC(tdl_bufwriter_write(b, "ghijkl", 6), 6);
    CHECK_INT(a.calls, 1);
    CHECK(holds(&a, "abcdefghij"));
    CHECK_INT(tdl_bufwriter_buffered(b), 2);
    CHECK_RC(tdl_bufwriter_flush(b), 0);
    CHECK_RC(tdl_bufwriter_flush(b), 0);
    CHECK_INT(a.calls, 2);
    CHECK_RC(tdl_bufwriter_write(b, "a long one of twenty", 20), 20);
    CHECK_INT(a.calls, 3);
    CHECK_RC(tdl_bufwriter_write(b, "end", 3), 3);
    CHECK_RC(tdl_bufwriter_close(b), 0);
    CHECK(holds(&a, "abcdefghijkla long one of twentyend"));
}

TEST(sticky, "E10 a buffered writer's first error stays, with what had not gone out; reset clears both") {
    sink           a;
    source         s;
    int64_t        copied;
    tdl_bufwriter *b = tdl_bufwriter_new(writer_of(&a, 4, -EPIPE), 8);
    CHECK_RC(tdl_bufwriter_write(b, "abcdef", 6), 6);
    CHECK_RC(tdl_bufwriter_flush(b), -EPIPE);
    CHECK_INT(tdl_bufwriter_buffered(b), 2);
    a.room = 100;
    CHECK_RC(tdl_bufwriter_write(b, "x", 1), -EPIPE);
    CHECK_RC(tdl_bufwriter_flush(b), -EPIPE);
    CHECK_RC(tdl_copy(tdl_bufwriter_writer(b), reader_of(&s, "x", 0), -1, &copied), -EPIPE);
    CHECK_INT(copied, 0);
    CHECK_INT(a.calls, 1);
    tdl_bufwriter_reset(b, writer_of(&a, 100, 0));
    CHECK_RC(tdl_copy(tdl_bufwriter_writer(b), reader_of(&s, "through a copy", 5), -1, &copied), 0);
    CHECK_INT(copied, 14);
    CHECK_INT(a.n, 8);
    CHECK_RC(tdl_bufwriter_close(b), 0);
    CHECK(holds(&a, "through a copy"));
    tdl_bufwriter_free(NULL);
}

TEST_G(buffered_conn, "D32 a buffered writer over a connection: to a closed peer an error; a copy through it is spliced") {
    tdl_conn *a, *b, *c, *d;
    char      got[32];
    int64_t   copied;
    net_pair("tcp", &a, &b);
    net_pair("tcp", &c, &d);
    tdl_bufwriter *w = tdl_bufwriter_new(tdl_conn_writer(a), 0);
    CHECK_RC(tdl_bufwriter_write(w, "head ", 5), 5);
    CHECK_RC(tdl_conn_write(d, "tail", 4), 4);
    tdl_conn_close_write(d);
    CHECK_RC(tdl_bufwriter_flush(w), 0);
    CHECK_RC(tdl_copy(tdl_bufwriter_writer(w), tdl_conn_reader(c), -1, &copied), 0);
    CHECK_INT(copied, 4);
    net_read_full(b, got, 9); /* without another flush */
    CHECK(memcmp(got, "head tail", 9) == 0);
    tdl_conn_close(a);
    CHECK_RC(tdl_bufwriter_write(w, "never", 5), 5);
    CHECK_RC(tdl_bufwriter_close(w), TDL_ECLOSED);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_conn_free(c);
    tdl_conn_free(d);
}

TEST(reads_ahead, "E10 a buffered reader: peeks, frames, what is too long, errors that pass") {
    source         s;
    sink           a;
    size_t         n;
    char           got[64];
    int64_t        copied;
    tdl_bufreader *b = tdl_bufreader_new(reader_of(&s, "one;;two;;threeandmore;;", 3), 10);
    CHECK_RC(tdl_bufreader_fill(b, 4), 6);
    CHECK(memcmp(tdl_bufreader_peek(b, &n), "one;;t", 6) == 0 && n == 6);
    CHECK_RC(tdl_bufreader_fill_until(b, ";;", 2), 5);
    CHECK_RC(tdl_bufreader_skip(b, 5), 0);
    CHECK_RC(tdl_bufreader_fill_until(b, ";;", 2), 5);
    CHECK_RC(tdl_bufreader_skip(b, 5), 0);
    CHECK_RC(tdl_bufreader_fill_until(b, ";;", 2), TDL_ETOOLONG);
    CHECK_RC(tdl_bufreader_skip(b, 100), TDL_EINVAL);
    CHECK_RC(tdl_bufreader_read(b, got, 2), 2);
    CHECK(memcmp(got, "th", 2) == 0);
    CHECK_RC(tdl_copy(writer_of(&a, 100, 0), tdl_bufreader_reader(b), -1, &copied), 0);
    CHECK(holds(&a, "reeandmore;;"));
    CHECK_RC(tdl_bufreader_fill(b, 1), TDL_EEOF);
    CHECK_RC(tdl_bufreader_read(b, got, 1), 0);
    CHECK_RC(tdl_bufreader_fill(b, 11), TDL_EINVAL);
    tdl_bufreader_free(b);
    b = tdl_bufreader_new(reader_of(&s, "line\nand more", 0), 0);
    s.fail_at = 2;
    s.code = TDL_ETIMEDOUT;
    CHECK_RC(tdl_bufreader_fill_until(b, "\n", 1), TDL_ETIMEDOUT);
    CHECK_RC(tdl_bufreader_fill_until(b, "\n", 1), 5);
    CHECK_RC(tdl_bufreader_read(b, got, 64), 13);
    tdl_bufreader_free(b);
    tdl_bufreader_free(NULL);
}

/* -- Scanning ---------------------------------------------------------------------------------------------- */

static void next_is(tdl_scanner *s, const char *want) {
    const char *piece;
    size_t      n;
    if (CHECK_RC(tdl_scanner_next(s, &piece, &n), 1)) CHECK(n == strlen(want) && memcmp(piece, want, n) == 0);
}

TEST(lines, "E10 lines: with either end, the last without one; pieces between delimiters") {
    source s;
    for (size_t piece = 0; piece < 4; piece++) {
        tdl_scanner *l = tdl_scanner_new(reader_of(&s, "one\ntwo\r\n\n\r\nlast\r", piece), NULL, 0, 0);
        next_is(l, "one");
        next_is(l, "two");
        next_is(l, "");
        next_is(l, "");
        next_is(l, "last\r");
        CHECK_RC(tdl_scanner_next(l, NULL, NULL), 0);
        CHECK_RC(tdl_scanner_next(l, NULL, NULL), 0);
        tdl_scanner_free(l);
        l = tdl_scanner_new(reader_of(&s, "a--b---c----", piece), "--", 2, 0);
        next_is(l, "a");
        next_is(l, "b");
        next_is(l, "-c");
        next_is(l, "");
        CHECK_RC(tdl_scanner_next(l, NULL, NULL), 0);
        tdl_scanner_free(l);
    }
    tdl_scanner_free(NULL);
}

TEST(too_long, "E10 a line that is longer than the limit is an error with its beginning, and the next one follows") {
    source      s;
    const char *piece;
    size_t      n;
    for (size_t step = 0; step < 5; step++) {
        tdl_scanner *l = tdl_scanner_new(
            reader_of(&s, "short\nmuch longer than it may be\nseven..\neight...\nlast too long", step), NULL, 0, 8);
        next_is(l, "short");
        CHECK_RC(tdl_scanner_next(l, &piece, &n), TDL_ETOOLONG);
        CHECK(n == 8 && memcmp(piece, "much lon", 8) == 0);
        next_is(l, "seven..");
        CHECK_RC(tdl_scanner_next(l, &piece, &n), TDL_ETOOLONG);
        CHECK_RC(tdl_scanner_next(l, &piece, &n), TDL_ETOOLONG);
        CHECK(n == 8 && memcmp(piece, "last too", 8) == 0);
        CHECK_RC(tdl_scanner_next(l, &piece, &n), 0);
        tdl_scanner_free(l);
        l = tdl_scanner_new(reader_of(&s, "abcdefgh==ij==k", step), "==", 2, 6);
        CHECK_RC(tdl_scanner_next(l, &piece, &n), TDL_ETOOLONG);
        next_is(l, "ij");
        next_is(l, "k");
        tdl_scanner_free(l);
    }
}

TEST_G(scanned_conn, "E10 a scanner over a connection: deadlines pass, an oversized line does, the conversation goes on") {
    tdl_conn   *a, *b;
    const char *piece;
    size_t      n;
    char        big[5000];
    net_pair("tcp", &a, &b);
    tdl_scanner *s = tdl_scanner_new(tdl_conn_reader(b), NULL, 0, 1000);
    CHECK_RC(tdl_conn_write(a, "half", 4), 4);
    tdl_conn_set_read_deadline(b, tdl_now() + 5 * TDL_MILLISECOND);
    CHECK_RC(tdl_scanner_next(s, &piece, &n), TDL_ETIMEDOUT);
    tdl_conn_set_read_deadline(b, 0);
    CHECK_RC(tdl_conn_write(a, " a line\n", 8), 8);
    next_is(s, "half a line");
    memset(big, 'x', sizeof big);
    CHECK_RC(tdl_conn_write(a, big, sizeof big), sizeof big);
    CHECK_RC(tdl_scanner_next(s, &piece, &n), TDL_ETOOLONG);
    CHECK_RC(tdl_conn_write(a, "\nstill here\n", 12), 12);
    next_is(s, "still here");
    tdl_conn_free(a);
    CHECK_RC(tdl_scanner_next(s, &piece, &n), 0);
    tdl_scanner_free(s);
    tdl_conn_free(b);
}

TEST(random_pieces, "E10 a scanner's pieces are the text's, however it comes and whatever the limit") {
    uint64_t seed = 7;
    for (int round = 0; round < SCALE(300); round++) {
        static const char *const delims[] = {"\n", "ab", "aab", "\r\n"};
        const char *delim = delims[random_next(&seed) % 4];
        char        text[400];
        size_t      len = random_next(&seed) % (sizeof text - 1), d = strlen(delim), limit = d + random_next(&seed) % 40;
        for (size_t i = 0; i < len; i++) text[i] = "ab\r\n"[random_next(&seed) % 4];
        text[len] = 0;
        source       s;
        tdl_scanner *sc = tdl_scanner_new(reader_of(&s, text, random_next(&seed) % 7), delim, d, limit);
        const char  *at = text, *piece;
        size_t       n;
        while (*at) {
            const char *hit = strstr(at, delim);
            size_t      want = hit ? (size_t)(hit - at) : strlen(at);
            int         rc = tdl_scanner_next(sc, &piece, &n);
            if (hit ? want + d > limit : want >= limit) {
                if (!CHECK_RC(rc, TDL_ETOOLONG) || !CHECK(memcmp(piece, at, n) == 0 && n == limit)) return;
            } else if (!CHECK_RC(rc, 1) || !CHECK(n == want && memcmp(piece, at, n) == 0)) {
                return;
            }
            at += want + (hit ? d : 0);
        }
        CHECK_RC(tdl_scanner_next(sc, &piece, &n), 0);
        tdl_scanner_free(sc);
    }
}

/* -- The io pipe ----------------------------------------------------------------------------------------------- */

typedef struct side {
    tdl_conn *c;
    int64_t   rc;
} side;

static void writes_hello(void *arg) {
    side *s = arg;
    s->rc = tdl_conn_write(s->c, "hello", 5);
}

static void reads_one(void *arg) {
    side *s = arg;
    char  byte;
    s->rc = tdl_conn_read(s->c, &byte, 1);
}

TEST_G(io_pipe, "E10 an io pipe: a write is over when it was read; each side's close tells the other its code") {
    static const struct {
        int code, read, write;
    } cases[] = {{0, 0, -EPIPE}, {-EIO, -EIO, -EIO}, {TDL_ETIMEDOUT, TDL_ETIMEDOUT, TDL_ETIMEDOUT}};
    for (int thread = 0; thread < 2; thread++)
        for (int i = 0; i < 3; i++) {
            tdl_conn *r, *w;
            crew      k;
            char      got[8];
            crew_open(&k);
            REQUIRE(tdl_io_pipe(&r, &w) == 0);
            side s = {w, 99};
            crew_start(&k, thread, writes_hello, &s);
            net_read_full(r, got, 5);
            crew_wait(&k);
            CHECK_RC(s.rc, 5);
            /* the other way is closed */
            CHECK_RC(tdl_conn_write(r, "x", 1), -EPIPE);
            CHECK_RC(tdl_conn_read(w, got, 1), 0);
            /* the writer ends, while the reader waits */
            s = (side){r, 99};
            crew_start(&k, thread, reads_one, &s);
            let_park();
            CHECK_RC(tdl_conn_close_with(w, cases[i].code), 0);
            crew_wait(&k);
            CHECK_RC(s.rc, cases[i].read);
            CHECK_RC(tdl_conn_read(r, got, 1), cases[i].read);
            CHECK_RC(tdl_conn_close_with(w, -EBADF), TDL_ECLOSED);
            CHECK_RC(tdl_conn_read(r, got, 1), cases[i].read); /* the first code stays */
            CHECK_RC(tdl_conn_write(w, "x", 1), TDL_ECLOSED);
            CHECK_RC(tdl_conn_close_with(r, 0), 0);
            CHECK_RC(tdl_conn_read(r, got, 1), TDL_ECLOSED);
            tdl_conn_free(r);
            tdl_conn_free(w);
            /* the reader ends, while the writer waits, of whose bytes it has read some */
            REQUIRE(tdl_io_pipe(&r, &w) == 0);
            s = (side){w, 99};
            crew_start(&k, thread, writes_hello, &s);
            if (i == 1) { /* a framed read takes no more than it was asked for, either */
                CHECK_RC(tdl_conn_fill(r, TDL_FILL_EXACT, 2), 2);
                CHECK_RC(tdl_conn_skip(r, 2), 0);
            } else {
                net_read_full(r, got, 2);
            }
            let_park();
            CHECK_RC(tdl_conn_close_with(r, cases[i].code), 0);
            crew_wait(&k);
            CHECK_RC(s.rc, cases[i].write);
            size_t written;
            CHECK_RC(tdl_write(tdl_conn_writer(w), "x", 1, &written), cases[i].write);
            CHECK_INT(written, 0);
            tdl_conn_free(r);
            tdl_conn_free(w);
            crew_close(&k);
        }
}

TEST_G(io_pipe_frames, "E10 framed reads and copies of an io pipe end with the writer's code; misuse") {
    tdl_conn *r, *w, *a, *b;
    char      got[8];
    int64_t   copied;
    REQUIRE(tdl_pipe_new(100, &r, &w) == 0);
    CHECK_RC(tdl_conn_write(w, "rest", 4), 4);
    CHECK_RC(tdl_conn_close_with(w, -EIO), 0);
    CHECK_RC(tdl_conn_fill(r, TDL_FILL_LINE, 100), -EIO); /* what came before is there */
    CHECK_RC(tdl_conn_skip(r, 0), 0);
    net_pair("tcp", &a, &b);
    CHECK_RC(tdl_copy(tdl_conn_writer(a), tdl_conn_reader(r), -1, &copied), -EIO);
    CHECK_INT(copied, 4);
    net_read_full(b, got, 4);
    CHECK_RC(tdl_conn_close_with(a, -EIO), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_close_with(r, 1), TDL_EINVAL);
    CHECK_RC(tdl_conn_close_with(r, TDL_EAGAIN), TDL_EINVAL);
    CHECK_RC(tdl_conn_close_with(r, TDL_ECANCELED), TDL_EINVAL);
    CHECK_RC(tdl_conn_close_with(NULL, 0), TDL_EINVAL);
    CHECK_RC(tdl_io_pipe(&r, NULL), TDL_EINVAL);
    tdl_conn_free(r);
    tdl_conn_free(w);
    tdl_conn_free(a);
    tdl_conn_free(b);
    /* shut before: nothing to tell */
    REQUIRE(tdl_io_pipe(&r, &w) == 0);
    CHECK_RC(tdl_conn_close_write(w), 0);
    CHECK_RC(tdl_conn_close_with(w, -EIO), 0);
    CHECK_RC(tdl_conn_read(r, got, 1), 0);
    tdl_conn_free(r);
    tdl_conn_free(w);
}

TEST(on_a_host, "F5 on a host's thread what would wait is refused, and what is memory alone works") {
    tdl_host *h;
    tdl_conn *r, *w;
    source    s;
    char      got[4];
    check_keeps_fds();
    REQUIRE(tdl_host_open("io", &h) == 0);
    REQUIRE(tdl_io_pipe(&r, &w) == 0);
    CHECK_RC(tdl_read(tdl_conn_reader(r), got, 1), TDL_EHOST);
    CHECK_RC(tdl_write(tdl_conn_writer(w), got, 1, NULL), TDL_EHOST);
    CHECK_RC(tdl_copy(tdl_conn_writer(w), tdl_conn_reader(r), -1, NULL), TDL_EHOST);
    CHECK_RC(tdl_copy(tdl_discard(), reader_of(&s, "memory", 0), -1, NULL), 0);
    tdl_conn_free(r);
    tdl_conn_free(w);
    CHECK_RC(tdl_host_close(h), 0);
}
