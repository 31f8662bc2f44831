/* SPDX-License-Identifier: MIT
 * Chains of blocks, and what goes to and from connections by them. */
#include "check.h"
#include "net.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void expect_text(tdl_buf *b, const char *text) {
    size_t n = strlen(text);
    char  *got = malloc(n + 1);
    CHECK_INT(tdl_buf_len(b), n);
    CHECK_INT(tdl_buf_copy(b, 0, got, n + 1), n);
    CHECK(memcmp(got, text, n) == 0);
    free(got);
}

static void add(tdl_buf *b, const char *text) { CHECK_RC(tdl_buf_append(b, text, strlen(text)), 0); }

TEST(chain, "a chain: append, peek over parts, skip, find, move, share") {
    tdl_buf *a = tdl_buf_new(), *b = tdl_buf_new(), *c = tdl_buf_new();
    size_t   n = 9;
    CHECK(tdl_buf_front(a, &n) == NULL);
    CHECK_INT(n, 0);
    CHECK(tdl_buf_peek(a, 1) == NULL);
    add(a, "hello ");
    add(b, "wor");
    CHECK_RC(tdl_buf_share(a, b, 0, 3), 0);
    add(b, "k!"); /* shared by now: behind what a has, in another block */
    add(a, "ld");
    expect_text(a, "hello world");
    expect_text(b, "work!");
    CHECK_INT(tdl_buf_find(a, 0, "o wor", 5), 4);
    CHECK_INT(tdl_buf_find(a, 5, "o", 1), 7);
    CHECK_RC(tdl_buf_find(a, 0, "worm", 4), TDL_EAGAIN);
    CHECK_RC(tdl_buf_find(a, 12, "o", 1), TDL_EINVAL);
    CHECK_RC(tdl_buf_share(c, a, 4, 5), 0);
    expect_text(c, "o wor");
    CHECK(memcmp(tdl_buf_peek(a, 8), "hello wo", 8) == 0);
    expect_text(a, "hello world");
    CHECK_RC(tdl_buf_skip(a, 7), 0);
    expect_text(a, "orld");
    expect_text(c, "o wor"); /* its blocks stay */
    CHECK_RC(tdl_buf_move(c, a, 2), 0);
    expect_text(c, "o woror");
    expect_text(a, "ld");
    CHECK_RC(tdl_buf_share(c, c, 0, 7), 0);
    expect_text(c, "o wororo woror");
    CHECK_RC(tdl_buf_skip(a, 3), TDL_EINVAL);
    CHECK_RC(tdl_buf_move(c, a, 3), TDL_EINVAL);
    CHECK_RC(tdl_buf_move(a, a, 1), TDL_EINVAL);
    CHECK_RC(tdl_buf_append(NULL, "x", 1), TDL_EINVAL);
    tdl_buf_free(a);
    tdl_buf_free(b);
    CHECK(memcmp(tdl_buf_peek(c, 14), "o wororo woror", 14) == 0);
    tdl_buf_free(c);
    tdl_buf_free(NULL);
}

TEST(reserve, "what is reserved and committed is there, however much") {
    tdl_buf *b = tdl_buf_new();
    size_t   total = 0;
    for (size_t n = 1; n < 300000; n = n * 3 + 1) {
        char *room = tdl_buf_reserve(b, n);
        REQUIRE(room != NULL);
        memset(room, 'a' + (int)(n % 26), n);
        CHECK_RC(tdl_buf_commit(b, n + 1), TDL_EINVAL);
        CHECK_RC(tdl_buf_commit(b, n / 2), 0);
        total += n / 2;
        CHECK_INT(tdl_buf_len(b), total);
    }
    CHECK_RC(tdl_buf_commit(b, 1), TDL_EINVAL);
    CHECK(tdl_buf_reserve(b, 0) == NULL);
    CHECK(tdl_buf_reserve(b, SIZE_MAX) == NULL);
    CHECK(tdl_buf_peek(b, total) != NULL);
    CHECK_RC(tdl_buf_skip(b, total), 0);
    CHECK_INT(tdl_buf_parts(b, NULL, 0), 0);
    tdl_buf_free(b);
}

/* The same operations on a chain and on plain bytes. */
TEST(random_chain, "a chain is its bytes, whatever is done with it") {
    enum { MOST = 1 << 16 };
    char    *model = malloc(2 * MOST), *copy = malloc(2 * MOST);
    size_t   len = 0;
    uint64_t seed = 1;
    tdl_buf *b = tdl_buf_new(), *other = tdl_buf_new();
    for (int i = 0; i < SCALE(4000); i++) {
        size_t n = random_next(&seed) % (random_next(&seed) % 8 ? 50 : 9000);
        switch (random_next(&seed) % 5) {
        case 0:
        case 1:
            if (len + n > MOST) break;
            for (size_t k = 0; k < n; k++) model[len + k] = (char)random_next(&seed);
            CHECK_RC(tdl_buf_append(b, model + len, n), 0);
            len += n;
            break;
        case 2:
            if (n > len) n = len;
            CHECK_RC(tdl_buf_skip(b, n), 0);
            memmove(model, model + n, len - n);
            len -= n;
            break;
        case 3:
            if (n > len || len + n > MOST) break;
            CHECK_RC(tdl_buf_share(b, b, len - n, n), 0);
            memcpy(model + len, model + len - n, n);
            len += n;
            break;
        default:
            if (n == 0 || n > len) break;
            CHECK(memcmp(tdl_buf_peek(b, n), model, n) == 0);
            CHECK_RC(tdl_buf_move(other, b, n), 0);
            CHECK_RC(tdl_buf_move(other, b, len - n), 0);
            CHECK_RC(tdl_buf_move(b, other, len), 0);
        }
        CHECK_INT(tdl_buf_len(b), len);
        if (i % 16 == 0) {
            CHECK_INT(tdl_buf_copy(b, 0, copy, 2 * MOST), len);
            if (!CHECK(memcmp(copy, model, len) == 0)) break;
        }
    }
    tdl_buf_free(b);
    tdl_buf_free(other);
    free(model);
    free(copy);
}

/* -- Delimiters and slices of what arrives ------------------------------------------ */

static void put(tdl_conn *c, const char *text) { CHECK_RC(tdl_conn_write(c, text, strlen(text)), strlen(text)); }

TEST_G(until, "D1 a frame up to a delimiter of several bytes, in whatever pieces it comes") {
    tdl_conn *a, *b;
    tdl_buf  *head = tdl_buf_new();
    net_pair("tcp", &a, &b);
    put(a, "GET / HTTP/1.1\r\nHost: x\r\n\r");
    let_park();
    put(a, "\nbody\r\n\r\n");
    CHECK_RC(tdl_conn_fill_until(b, "\r\n\r\n", 4, 1000), 27);
    CHECK_RC(tdl_conn_take_buf(b, 27, head), 0);
    expect_text(head, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_RC(tdl_conn_fill_until(b, "\r\n\r\n", 4, 8), 8);
    expect_text(head, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); /* what comes later does not reach it */
    CHECK_RC(tdl_conn_take_buf(b, 9, head), TDL_EINVAL);
    CHECK_RC(tdl_conn_take_buf(b, 8, head), 0);
    CHECK_RC(tdl_conn_take_buf(b, 0, head), TDL_EINVAL); /* not held any more */
    put(a, "12345678");
    CHECK_RC(tdl_conn_fill_until(b, "\r\n", 2, 8), TDL_ETOOLONG);
    CHECK_RC(tdl_conn_skip(b, 8), 0);
    put(a, "x\r");
    tdl_conn_close_write(a);
    CHECK_RC(tdl_conn_fill_until(b, "\r\n", 2, 8), TDL_EEOF);
    CHECK_RC(tdl_conn_skip(b, 2), 0);
    CHECK_RC(tdl_conn_fill_until(b, "\r\n", 2, 8), TDL_EEOF);
    CHECK_RC(tdl_conn_fill_until(b, "\r\n", 0, 8), TDL_EINVAL);
    CHECK_RC(tdl_conn_fill_until(b, "\r\n", 2, 1), TDL_EINVAL);
    CHECK_RC(tdl_conn_fill_until(b, NULL, 2, 10), TDL_EINVAL);
    tdl_conn_free(a);
    tdl_conn_free(b);
    CHECK_INT(tdl_buf_len(head), 35);
    tdl_buf_free(head);
}

TEST_G(slices_stay, "a slice that was taken keeps its bytes while the connection reads on and is gone") {
    tdl_conn *a, *b;
    tdl_buf  *kept = tdl_buf_new();
    char      block[5000];
    net_pair("tcp", &a, &b);
    for (int i = 0; i < 50; i++) {
        memset(block, 'A' + i % 26, sizeof block);
        CHECK_RC(tdl_conn_write(a, block, sizeof block), sizeof block);
        CHECK_RC(tdl_conn_fill(b, TDL_FILL_EXACT, 4000), 4000);
        CHECK_RC(tdl_conn_take_buf(b, 4000, kept), 0);
        CHECK_RC(tdl_conn_fill(b, TDL_FILL_EXACT, 1000), 1000);
        CHECK_RC(i % 2 ? tdl_conn_skip(b, 1000) : tdl_conn_take_buf(b, 1000, kept), 0);
    }
    tdl_conn_free(a);
    tdl_conn_free(b);
    CHECK_INT(tdl_buf_len(kept), 25 * 4000 + 25 * 5000);
    for (int i = 0; i < 50; i++) {
        size_t      n = i % 2 ? 4000 : 5000;
        const char *p = tdl_buf_peek(kept, n);
        for (size_t k = 0; p && k < n; k += 37) CHECK_INT(p[k], 'A' + i % 26);
        CHECK_RC(tdl_buf_skip(kept, n), 0);
    }
    tdl_buf_free(kept);
}

/* -- Writing several pieces ------------------------------------------------------------- */

typedef struct reader {
    tdl_conn *c;
    char     *to;
    size_t    n;
} reader;

static void reads_all(void *arg) {
    reader *r = arg;
    net_read_full(r->c, r->to, r->n);
}

static void gather_on(const char *network, bool chain) {
    enum { PIECES = 300 };
    tdl_conn *a, *b;
    tdl_iovec v[PIECES];
    size_t    total = 0;
    crew      w;
    tdl_buf  *buf = tdl_buf_new();
    net_pair(network, &a, &b);
    if (tdl_conn_fd(a) >= 0) net_small_buffers(tdl_conn_fd(a));
    char *all = malloc(PIECES * 3000), *got = malloc(PIECES * 3000);
    for (int i = 0; i < PIECES; i++) {
        size_t n = i % 7 == 0 ? 0 : (size_t)(i * 7919 % 3000);
        memset(all + total, i, n);
        v[i] = (tdl_iovec){all + total, n};
        if (chain) CHECK_RC(tdl_buf_append(buf, all + total, n), 0);
        total += n;
    }
    reader r = {b, got, total};
    crew_open(&w);
    crew_go(&w, reads_all, &r);
    CHECK_RC(chain ? tdl_conn_write_buf(a, buf) : tdl_conn_writev(a, v, PIECES), total);
    crew_close(&w);
    CHECK_INT(tdl_buf_len(buf), 0);
    CHECK(memcmp(all, got, total) == 0);
    free(all);
    free(got);
    tdl_buf_free(buf);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(gather_list, "D32 a list of pieces larger than the socket's buffer arrives whole and in order") {
    gather_on("tcp", false);
    gather_on("unix", false);
    gather_on("pipe", false);
}

TEST_G(gather_chain, "D32 so does a chain, which is empty then") {
    gather_on("tcp", true);
    gather_on("unix", true);
    gather_on("pipe", true);
}

TEST_G(gather_partly, "D32 a write that time ends: the chain has lost exactly what has gone out") {
    tdl_conn *a, *b;
    enum { LEN = 8 << 20 };
    static const char *const networks[] = {"tcp", "pipe"};
    for (int i = 0; i < 2; i++) {
        tdl_buf *buf = tdl_buf_new();
        net_pair(networks[i], &a, &b);
        if (tdl_conn_fd(a) >= 0) net_small_buffers(tdl_conn_fd(a));
        char *room = tdl_buf_reserve(buf, LEN);
        REQUIRE(room != NULL);
        for (int k = 0; k < LEN; k++) room[k] = (char)(k * 31 / 1000);
        tdl_buf_commit(buf, LEN);
        tdl_conn_set_write_deadline(a, tdl_now() + 20 * TDL_MILLISECOND);
        CHECK_RC(tdl_conn_write_buf(a, buf), TDL_ETIMEDOUT);
        tdl_conn_close_write(a);
        int64_t n, arrived = 0;
        char   *got = malloc(LEN);
        while ((n = tdl_conn_read(b, got + arrived, (size_t)(LEN - arrived))) > 0) arrived += n;
        CHECK_RC(n, 0);
        CHECK_INT(tdl_buf_len(buf), LEN - arrived);
        for (int k = 0; k < arrived; k += 1009) CHECK_INT(got[k], (char)(k * 31 / 1000));
        CHECK(*(const char *)tdl_buf_front(buf, NULL) == (char)(arrived * 31 / 1000));
        free(got);
        tdl_buf_free(buf);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

TEST_G(gather_broken, "D32 1 GB to a peer that is gone ends in an error") {
    tdl_conn *a, *b;
    enum { PIECES = 1024, EACH = 1 << 20 };
    static tdl_iovec v[PIECES + 1];
    void *zeros = mmap(NULL, EACH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(zeros != MAP_FAILED);
    for (int i = 0; i <= PIECES; i++) v[i] = (tdl_iovec){zeros, EACH};
    net_pair("tcp", &a, &b);
    tdl_conn_free(b);
    int64_t r = tdl_conn_writev(a, v, PIECES);
    CHECK(r == -EPIPE || r == -ECONNRESET);
    CHECK_RC(tdl_conn_writev(a, v, PIECES + 1), TDL_EINVAL);
    CHECK_RC(tdl_conn_writev(a, v, -1), TDL_EINVAL);
    CHECK_RC(tdl_conn_writev(a, NULL, 1), TDL_EINVAL);
    tdl_conn_close(a);
    CHECK_RC(tdl_conn_writev(a, v, 0), TDL_ECLOSED);
    tdl_conn_free(a);
    munmap(zeros, EACH);
}

/* -- Hosts --------------------------------------------------------------------------------- */

static int64_t event_of(tdl_host *h, uint32_t task, int rc) {
    tdl_event ev;
    if (rc != TDL_PENDING) return rc;
    for (;;) {
        int n = tdl_host_poll(h, &ev, 1, 10 * TDL_SECOND);
        if (!CHECK_INT(n, 1)) return TDL_ETIMEDOUT;
        if (ev.task == task) return ev.result;
    }
}

static void echo_back(void *arg) {
    char    buf[16384];
    int64_t n;
    while ((n = tdl_conn_read(arg, buf, sizeof buf)) > 0) CHECK_RC(tdl_conn_write(arg, buf, (size_t)n), n);
}

TEST(hosted, "H11 a host's tasks: delimiter, list, chain; what must wait is copied") {
    enum { EACH = 400000 };
    tdl_conn *a, *b;
    tdl_host *h = NULL;
    crew      w;
    check_keeps_fds();
    net_pair("tcp", &a, &b);
    crew_open(&w);
    crew_go(&w, echo_back, b);
    CHECK_RC(tdl_host_open("buf", &h), 0);
    uint32_t  writer = (uint32_t)tdl_task_new(h, 0), task = (uint32_t)tdl_task_new(h, 0);
    char     *data = malloc(3 * EACH), *got = malloc(3 * EACH);
    tdl_iovec v[3];
    for (int i = 0; i < 3; i++) {
        memset(data + i * EACH, 'a' + i, EACH);
        v[i] = (tdl_iovec){data + i * EACH, EACH};
    }
    memcpy(data + 3 * EACH - 3, "end", 3);
    int64_t rc = tdl_conn_writev_start(h, writer, a, v, 3);
    memset(v, 0, sizeof v);
    memset(data, '?', 3 * EACH - 3);
    char delim[] = "cend"; /* read before the start form returns */
    int  frc = tdl_conn_fill_until_start(h, task, a, delim, 4, 4 * EACH);
    memset(delim, '?', sizeof delim);
    CHECK_RC(event_of(h, task, frc), 3 * EACH);
    const char *p = tdl_val_ptr(&tdl_host_outcomes(h)[task].val);
    for (int i = 0; p && i < 3 * EACH - 3; i += 997) CHECK_INT(p[i], 'a' + i / EACH);
    tdl_buf *buf = tdl_buf_new();
    CHECK_RC(tdl_conn_take_buf(a, 3 * EACH, buf), 0);
    if (rc == TDL_PENDING) { /* its event has come before, or comes now */
        tdl_event ev;
        while (tdl_task_free(h, writer) == TDL_EBUSY) tdl_host_poll(h, &ev, 1, TDL_SECOND);
        writer = (uint32_t)tdl_task_new(h, 0);
    } else {
        CHECK_RC(rc, 3 * EACH);
    }
    rc = tdl_conn_write_buf_start(h, writer, a, buf);
    CHECK_RC(event_of(h, task, tdl_conn_fill_start(h, task, a, TDL_FILL_EXACT, 3 * EACH)), 3 * EACH);
    CHECK_INT(tdl_buf_len(buf), 0);
    CHECK_RC(tdl_conn_skip(a, 3 * EACH), 0);
    CHECK_RC(tdl_host_close(h), 0);
    tdl_conn_free(a);
    crew_close(&w);
    tdl_conn_free(b);
    tdl_buf_free(buf);
    free(data);
    free(got);
}
