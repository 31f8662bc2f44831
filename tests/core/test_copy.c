/* SPDX-License-Identifier: MIT
 * Copying between connections, and from files. */
#include "check.h"
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char *pattern(size_t n) {
    char *p = malloc(n + 1);
    for (size_t i = 0; i < n; i++) p[i] = (char)(i * 2654435761u >> 13);
    return p;
}

typedef struct feed {
    tdl_conn   *c;
    const char *data;
    size_t      n;
    int         end; /* of the stream follows */
} feed;

static void feeds(void *arg) {
    feed *f = arg;
    CHECK_RC(tdl_conn_write(f->c, f->data, f->n), f->n);
    if (f->end) CHECK_RC(tdl_conn_close_write(f->c), 0);
}

typedef struct sink {
    tdl_conn   *c;
    const char *want;
    size_t      n;
} sink;

static void drains(void *arg) {
    sink *s = arg;
    char *got = malloc(s->n + 1);
    net_read_full(s->c, got, s->n);
    CHECK(memcmp(got, s->want, s->n) == 0);
    free(got);
}

/* a -> b is copied to c -> d. */
static void through(const char *in, const char *out, size_t n, int64_t limit) {
    tdl_conn *a, *b, *c, *d;
    crew      w;
    int64_t   copied = -1;
    char     *data = pattern(n);
    net_pair(in, &a, &b);
    net_pair(out, &c, &d);
    size_t expect = limit >= 0 && (size_t)limit < n ? (size_t)limit : n;
    feed   f = {a, data, n, limit < 0};
    sink   s = {d, data, expect};
    crew_open(&w);
    crew_go(&w, feeds, &f);
    crew_go(&w, drains, &s);
    CHECK_RC(tdl_conn_copy(c, b, limit, &copied), 0);
    CHECK_INT(copied, expect);
    if (limit < 0) { /* at the end: nothing more, and the other way is open */
        CHECK_RC(tdl_conn_copy(c, b, -1, &copied), 0);
        CHECK_INT(copied, 0);
        CHECK_RC(tdl_conn_write(c, "more", 4), 4);
        char more[4];
        crew_wait(&w);
        net_read_full(d, more, 4);
    } else { /* the rest is still there */
        char *rest = malloc(n - expect + 1);
        net_read_full(b, rest, n - expect);
        CHECK(memcmp(rest, data + expect, n - expect) == 0);
        free(rest);
    }
    crew_close(&w);
    free(data);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_conn_free(c);
    tdl_conn_free(d);
}

TEST_G(any_to_any, "D30 any stream to any other, of any size, to the end or to a limit") {
    static const char *const nets[] = {"tcp", "unix", "pipe"};
    static const size_t      sizes[] = {0, 1, 4096, 100000, 1500000};
    for (size_t i = 0; i < 3; i++)
        for (size_t o = 0; o < 3; o++)
            for (size_t n = 0; n < 5; n++) {
                through(nets[i], nets[o], sizes[n], -1);
                if (sizes[n] > 1) through(nets[i], nets[o], sizes[n], (int64_t)sizes[n] / 2);
            }
}

TEST_G(buffered_first, "D30 what a framed read has left in the buffer comes first") {
    tdl_conn *a, *b, *c, *d;
    char      got[16];
    int64_t   copied;
    net_pair("tcp", &a, &b);
    net_pair("tcp", &c, &d);
    CHECK_RC(tdl_conn_write(a, "line\nthe rest", 13), 13);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_LINE, 100), 5);
    CHECK_RC(tdl_conn_skip(b, 5), 0);
    tdl_conn_close_write(a);
    CHECK_RC(tdl_conn_copy(c, b, -1, &copied), 0);
    CHECK_INT(copied, 8);
    net_read_full(d, got, 8);
    CHECK(memcmp(got, "the rest", 8) == 0);
    CHECK_RC(tdl_conn_copy(NULL, b, -1, &copied), TDL_EINVAL);
    CHECK_RC(tdl_conn_copy(c, NULL, -1, NULL), TDL_EINVAL);
    CHECK_RC(tdl_conn_copy(c, b, 0, &copied), 0);
    tdl_conn_close(c);
    CHECK_RC(tdl_conn_copy(c, b, 0, &copied), TDL_ECLOSED);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_conn_free(c);
    tdl_conn_free(d);
}

typedef struct way {
    tdl_conn *to, *from;
    int       code;
} way;

static void copies(void *arg) {
    way *w = arg;
    w->code = tdl_conn_copy(w->to, w->from, -1, NULL);
    tdl_conn_close_write(w->to);
}

TEST_G(proxy, "D30 a proxy that copies both ways ends when the client has gone") {
    static const char *const nets[] = {"tcp", "unix", "pipe"};
    for (int round = 0; round < SCALE(18); round++) {
        tdl_conn *client, *front, *back, *server;
        crew      w;
        char      got[8];
        net_pair(nets[round % 3], &client, &front);
        net_pair(nets[round / 3 % 3], &back, &server);
        way there = {back, front, 99}, here = {front, back, 99};
        crew_open(&w);
        crew_go(&w, copies, &there);
        crew_go(&w, copies, &here);
        for (int i = 0; i < 10; i++) {
            CHECK_RC(tdl_conn_write(client, "question", 8), 8);
            net_read_full(server, got, 8);
            CHECK_RC(tdl_conn_write(server, "answer", 6), 6);
            net_read_full(client, got, 6);
        }
        tdl_conn_free(client);
        CHECK_RC(tdl_conn_read(server, got, 1), 0);
        tdl_conn_free(server);
        crew_close(&w);
        CHECK_RC(there.code, 0);
        CHECK(here.code == 0 || here.code == -EPIPE || here.code == -ECONNRESET);
        tdl_conn_free(front);
        tdl_conn_free(back);
    }
}

static void cancels(void *arg) {
    let_park();
    CHECK_RC(tdl_cancel(arg), 0);
}

static void copy_until_cancelled(void *arg) {
    way *w = arg;
    w->code = tdl_conn_copy(w->to, w->from, -1, NULL);
}

TEST_G(ends, "D30 deadlines, closing and cancelling end a copy, on either side") {
    tdl_conn *a, *b, *c, *d;
    int64_t   copied = 0;
    net_pair("tcp", &a, &b);
    net_pair("tcp", &c, &d);
    tdl_conn_set_read_deadline(b, tdl_now() + 5 * TDL_MILLISECOND);
    CHECK_RC(tdl_conn_copy(c, b, -1, &copied), TDL_ETIMEDOUT);
    tdl_conn_set_read_deadline(b, 0);
    tdl_conn_set_write_deadline(c, -1);
    CHECK_RC(tdl_conn_write(a, "x", 1), 1);
    CHECK_RC(tdl_conn_copy(c, b, -1, &copied), TDL_ETIMEDOUT);
    CHECK_INT(copied, 0);
    tdl_conn_set_write_deadline(c, 0);
    way    w = {c, b, 99};
    crew   k;
    tdl_g *g = go_joinable(copy_until_cancelled, &w);
    crew_open(&k);
    crew_go(&k, cancels, g);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(w.code, TDL_ECANCELED);
    crew_close(&k);
    tdl_conn_close(c); /* nobody writes to b */
    CHECK_RC(tdl_conn_copy(c, b, -1, &copied), TDL_ECLOSED);
    tdl_conn_close(b);
    CHECK_RC(tdl_conn_copy(a, b, -1, &copied), TDL_ECLOSED);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_conn_free(c);
    tdl_conn_free(d);
}

/* -- Files ------------------------------------------------------------------------------- */

static int file_of(const char *data, size_t n) {
    char name[] = "/tmp/treadle-copy-XXXXXX";
    int  fd = mkstemp(name);
    REQUIRE(fd >= 0 && unlink(name) == 0);
    REQUIRE(write(fd, data, n) == (ssize_t)n && lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

TEST_G(file, "D31 a file arrives whole, in parts, from an offset, from where it stands") {
    enum { LEN = 1200000 };
    static const char *const nets[] = {"tcp", "unix", "pipe"};
    char *data = pattern(LEN);
    for (int i = 0; i < 3; i++) {
        tdl_conn *a, *b;
        crew      w;
        int64_t   sent;
        int       fd = file_of(data, LEN);
        net_pair(nets[i], &a, &b);
        sink all = {b, data, LEN}, tail = {b, data + 1000000, 200000}, part = {b, data + 5, 70000};
        crew_open(&w);
        crew_go(&w, drains, &all);
        CHECK_RC(tdl_conn_send_file(a, fd, 0, -1, &sent), 0);
        CHECK_INT(sent, LEN);
        crew_wait(&w);
        CHECK_INT(lseek(fd, 0, SEEK_CUR), 0);
        crew_go(&w, drains, &tail);
        CHECK_RC(tdl_conn_send_file(a, fd, 1000000, LEN, &sent), 0);
        CHECK_INT(sent, 200000);
        crew_wait(&w);
        CHECK_INT(lseek(fd, 5, SEEK_SET), 5);
        crew_go(&w, drains, &part);
        CHECK_RC(tdl_conn_send_file(a, fd, -1, 60000, &sent), 0);
        CHECK_INT(sent, 60000);
        CHECK_RC(tdl_conn_send_file(a, fd, -1, 10000, &sent), 0);
        crew_close(&w);
        CHECK_INT(lseek(fd, 0, SEEK_CUR), 70005);
        CHECK_RC(tdl_conn_send_file(a, fd, LEN, -1, &sent), 0);
        CHECK_INT(sent, 0);
        tdl_conn_set_write_deadline(a, -1);
        CHECK_RC(tdl_conn_send_file(a, fd, 0, -1, &sent), TDL_ETIMEDOUT);
        CHECK_INT(sent, 0);
        tdl_conn_close_write(a);
        char byte;
        CHECK_RC(tdl_conn_read(b, &byte, 1), 0); /* nothing has gone out */
        CHECK_RC(tdl_conn_send_file(a, -1, 0, -1, &sent), TDL_EINVAL);
        close(fd);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
    free(data);
}

TEST_G(strange_file, "D31 what cannot be sent within the kernel is read and written; a bad descriptor is an error") {
    tdl_conn *a, *b;
    int64_t   sent;
    char      got[100];
    int       pipe_fds[2], dev = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    net_pair("tcp", &a, &b);
    CHECK_RC(tdl_conn_send_file(a, dev, -1, 100, &sent), 0);
    CHECK_INT(sent, 100);
    net_read_full(b, got, 100);
    REQUIRE(pipe2(pipe_fds, O_CLOEXEC) == 0);
    CHECK(write(pipe_fds[1], "from a pipe", 11) == 11);
    close(pipe_fds[1]);
    CHECK_RC(tdl_conn_send_file(a, pipe_fds[0], -1, -1, &sent), 0);
    net_read_full(b, got, 11);
    CHECK(memcmp(got, "from a pipe", 11) == 0);
    close(pipe_fds[0]);
    close(dev);
    CHECK_RC(tdl_conn_send_file(a, dev, 0, 1, &sent), -EBADF);
    tdl_conn_free(b);
    tdl_conn_free(a);
}

TEST_G(pollable, "D31 a pipe that was sent from, or copied from, waits as before, and its deadline ends a read") {
    int       fds[2];
    char      got[16];
    int64_t   sent;
    tdl_conn *a, *b, *p;
    net_pair("tcp", &a, &b);
    REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    REQUIRE(tdl_conn_adopt(fds[0], &p) == 0);
    CHECK(write(fds[1], "0123456789", 10) == 10);
    CHECK_RC(tdl_conn_send_file(a, tdl_conn_fd(p), -1, 4, &sent), 0);
    CHECK_INT(sent, 4);
    CHECK_RC(tdl_conn_copy(a, p, 3, &sent), 0);
    net_read_full(b, got, 7);
    CHECK(memcmp(got, "0123456", 7) == 0);
    CHECK_RC(tdl_conn_read(p, got, 16), 3);
    CHECK_RC(tdl_conn_send_file(a, tdl_conn_fd(p), -1, 4, &sent), -EAGAIN); /* it is no file: nothing waits for it */
    tdl_conn_set_read_deadline(p, tdl_now() + 5 * TDL_MILLISECOND);
    CHECK_RC(tdl_conn_read(p, got, 16), TDL_ETIMEDOUT);
    tdl_conn_set_read_deadline(p, 0);
    CHECK(write(fds[1], "more", 4) == 4);
    CHECK_RC(tdl_conn_read(p, got, 16), 4);
    close(fds[1]);
    CHECK_RC(tdl_conn_copy(a, p, -1, &sent), 0);
    CHECK_INT(sent, 0);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_conn_free(p);
}

static void copies_some(void *arg) {
    way *w = arg;
    for (int i = 0; i < SCALE(200); i++) w->code = tdl_conn_copy(w->to, w->from, 1, NULL);
}

TEST_G(many, "D30 many copies at once share few pipes, and none is left") {
    enum { AT_ONCE = 40 };
    tdl_conn *a[AT_ONCE], *b[AT_ONCE], *c[AT_ONCE], *d[AT_ONCE];
    way       w[AT_ONCE];
    crew      k;
    int       before = open_fds();
    char     *bytes = pattern(SCALE(200));
    crew_open(&k);
    for (int i = 0; i < AT_ONCE; i++) {
        net_pair("unix", &a[i], &b[i]);
        net_pair("tcp", &c[i], &d[i]);
        CHECK_RC(tdl_conn_write(a[i], bytes, SCALE(200)), SCALE(200));
        w[i] = (way){c[i], b[i], 99};
        crew_go(&k, copies_some, &w[i]);
    }
    crew_close(&k);
    CHECK_WITHIN(open_fds() - before, 4 * AT_ONCE, 4 * AT_ONCE + 2 * 32 + 16); /* and pollers */
    for (int i = 0; i < AT_ONCE; i++) {
        CHECK_RC(w[i].code, 0);
        char *got = malloc(SCALE(200));
        net_read_full(d[i], got, SCALE(200));
        CHECK(memcmp(got, bytes, SCALE(200)) == 0);
        free(got);
        tdl_conn_free(a[i]);
        tdl_conn_free(b[i]);
        tdl_conn_free(c[i]);
        tdl_conn_free(d[i]);
    }
    CHECK_WITHIN(open_fds() - before, -16, 16);
    free(bytes);
}

/* -- Hosts ---------------------------------------------------------------------------------- */

TEST(hosted, "H11 tasks copy, too: the bytes are the outcome's extra; a host that closes drops what it copied") {
    enum { LEN = 700000 };
    tdl_host *h = NULL;
    tdl_event ev;
    tdl_conn *a, *b, *c, *d;
    crew      w;
    char     *data = pattern(LEN);
    check_keeps_fds();
    net_pair("tcp", &a, &b);
    net_pair("unix", &c, &d);
    feed f = {a, data, LEN, 0};
    sink s = {d, data, LEN};
    crew_open(&w);
    crew_go(&w, feeds, &f);
    crew_go(&w, drains, &s);
    CHECK_RC(tdl_host_open("copy", &h), 0);
    uint32_t task = (uint32_t)tdl_task_new(h, 0);
    int      rc = tdl_conn_copy_start(h, task, c, b, LEN);
    if (rc == TDL_PENDING) {
        CHECK_INT(tdl_host_poll(h, &ev, 1, 10 * TDL_SECOND), 1);
        rc = ev.result;
    }
    CHECK_RC(rc, 0);
    CHECK_INT(tdl_host_outcomes(h)[task].extra, LEN);
    CHECK_RC(tdl_conn_copy_start(h, task, c, b, -1), TDL_PENDING); /* nothing comes any more */
    CHECK_RC(tdl_host_close(h), 0);
    crew_close(&w);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_conn_free(c);
    tdl_conn_free(d);
    free(data);
}
