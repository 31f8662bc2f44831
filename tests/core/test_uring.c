/* SPDX-License-Identifier: MIT
 * Streams that the ring receives for: bytes lie in its buffers before they are read. What
 * must hold wherever they are read by other means, are not read, or buffers are short. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include "net.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sys/sys.h"

enum { WAIT = 10 * 1000 };

static void send_all(int fd, const void *bytes, size_t n) {
    const char *p = bytes;
    while (n) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (!CHECK(k > 0)) return;
        p += k;
        n -= (size_t)k;
    }
}

typedef struct reading {
    tdl_conn *c;
    tdl_chan *over;
    char      byte;
} reading;

static void read_one(void *arg) {
    reading *r = arg;
    CHECK_RC(tdl_conn_read(r->c, &r->byte, 1), 1);
    send_int(r->over, 1);
}

/* A connection for which somebody has waited, so that the ring receives for it; its peer. */
static int received_for(tdl_conn **c) {
    int     fd = net_half_pair(c);
    reading r = { *c, tdl_chan_new(1), 0 };
    tdl_go(read_one, &r);
    let_park();
    send_all(fd, "!", 1);
    recv_int(r.over);
    CHECK_INT(r.byte, '!');
    tdl_chan_free(r.over);
    return fd;
}

/* Long enough for the ring to have taken what was sent. */
static void let_arrive(void) { tdl_sleep(5 * TDL_MILLISECOND); }

/* -- Not read ----------------------------------------------------------------------- */

TEST_G(unread, "N5 what many connections have sent and nobody has read, beyond all buffers, comes in order") {
    enum { CONNS = 100, MESSAGES = 40 };
    static tdl_conn *c[CONNS];
    static int       fd[CONNS];
    char             text[32], got[16];
    for (int i = 0; i < CONNS; i++) fd[i] = received_for(&c[i]);
    for (int m = 0; m < MESSAGES; m++) {
        for (int i = 0; i < CONNS; i++) {
            snprintf(text, sizeof text, "%04d %09d\n", m, i);
            send_all(fd[i], text, 15);
        }
        let_arrive();
    }
    for (int i = CONNS; i-- > 0;) {
        for (int m = 0; m < MESSAGES; m++) {
            snprintf(text, sizeof text, "%04d %09d\n", m, i);
            if (m % 2) {
                net_read_full(c[i], got, 15);
            } else {
                if (!CHECK_RC(tdl_conn_fill(c[i], TDL_FILL_LINE, 64), 15)) break;
                memcpy(got, tdl_conn_peek(c[i], NULL), 15);
                CHECK_RC(tdl_conn_skip(c[i], 15), 0);
            }
            if (!CHECK(memcmp(got, text, 15) == 0)) break;
        }
        send_all(fd[i], "end", 3);
        close(fd[i]);
        CHECK_RC(tdl_conn_fill(c[i], TDL_FILL_ALL, 64), 3);
        tdl_conn_free(c[i]);
    }
}

TEST_G(unread_closed, "N5 a connection is closed with bytes that nobody has read: the buffers serve others") {
    for (int i = 0; i < 300; i++) {
        tdl_conn *c;
        char      byte;
        int       fd = received_for(&c);
        for (int k = 0; k < 20; k++) {
            send_all(fd, "unread", 6);
            if (k % 4 == 0) tdl_yield();
        }
        tdl_conn_free(c);
        struct pollfd p = { .fd = fd, .events = POLLIN };
        CHECK_INT(poll(&p, 1, WAIT), 1);
        CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) <= 0);
        close(fd);
    }
}

/* -- Large and small ------------------------------------------------------------------- */

typedef struct stream {
    int      fd;
    size_t   n;
    unsigned seed;
} stream;

static char at(size_t i) { return (char)(i * 2654435761u >> 13); }

static void *send_stream(void *arg) {
    static _Thread_local char block[20000];
    stream                   *s = arg;
    for (size_t done = 0; done < s->n;) {
        size_t k = rand_r(&s->seed) % 4 ? 1 + rand_r(&s->seed) % 200u : 1 + rand_r(&s->seed) % (unsigned)sizeof block;
        if (k > s->n - done) k = s->n - done;
        for (size_t i = 0; i < k; i++) block[i] = at(done + i);
        send_all(s->fd, block, k);
        done += k;
        if (rand_r(&s->seed) % 8 == 0) usleep(50);
    }
    close(s->fd);
    return NULL;
}

static void read_stream(tdl_conn *c, size_t n, unsigned seed) {
    static char buf[30000];
    size_t      done = 0;
    for (;;) {
        int64_t k;
        if (rand_r(&seed) % 3) {
            k = tdl_conn_read(c, buf, 1 + rand_r(&seed) % (rand_r(&seed) % 2 ? 64u : (unsigned)sizeof buf));
        } else {
            k = tdl_conn_fill(c, TDL_FILL_SOME, 1 + rand_r(&seed) % 5000);
            if (k > 0) {
                memcpy(buf, tdl_conn_peek(c, NULL), (size_t)k);
                CHECK_RC(tdl_conn_skip(c, (size_t)k), 0);
            }
        }
        if (k == 0) break;
        if (!CHECK(k > 0)) return;
        for (int64_t i = 0; i < k; i++)
            if (!CHECK(buf[i] == at(done + (size_t)i))) return;
        done += (size_t)k;
    }
    CHECK(done == n);
}

TEST_G(sizes, "N5 messages smaller and larger than a buffer, read in any portions") {
    for (unsigned i = 0; i < 8; i++) {
        tdl_conn *c;
        pthread_t t;
        stream    s = { received_for(&c), i % 2 ? 2000000 : 50000, i + 1 };
        REQUIRE(pthread_create(&t, NULL, send_stream, &s) == 0);
        read_stream(c, s.n, i + 77);
        pthread_join(t, NULL);
        tdl_conn_free(c);
    }
}

/* -- By other means ------------------------------------------------------------------------ */

TEST_G(copied, "N5 a copy within the kernel begins with what the ring had received") {
    for (int i = 0; i < 20; i++) {
        tdl_conn *from, *to;
        char      got[16];
        int64_t   copied;
        int       in = received_for(&from), out = net_half_pair(&to);
        send_all(in, "12345", 5);
        if (i % 2) let_arrive();
        send_all(in, "67890", 5);
        shutdown(in, SHUT_WR);
        CHECK_RC(tdl_conn_copy(to, from, -1, &copied), 0);
        CHECK_INT(copied, 10);
        CHECK(recv(out, got, 10, MSG_WAITALL) == 10 && memcmp(got, "1234567890", 10) == 0);
        close(in);
        close(out);
        tdl_conn_free(from);
        tdl_conn_free(to);
    }
}

TEST_G(released, "N5 a connection is given back when nothing of it lies in a buffer; else it is busy, and is read first") {
    for (int i = 0; i < 10; i++) {
        tdl_conn *c;
        char      got[8];
        int       fd = received_for(&c), mine;
        mine = tdl_conn_release(c);
        if (!CHECK(mine >= 0)) break;
        send_all(fd, "later", 5);
        CHECK(recv(mine, got, 5, MSG_WAITALL) == 5 && memcmp(got, "later", 5) == 0);
        close(mine);
        close(fd);
        tdl_conn_free(c);

        fd = received_for(&c);
        send_all(fd, "early", 5);
        let_arrive();
        mine = tdl_conn_release(c);
        if (mine == TDL_EBUSY) {
            net_read_full(c, got, 5);
            mine = tdl_conn_release(c);
        } else {
            CHECK(recv(mine, got, 5, MSG_WAITALL) == 5);
        }
        CHECK(mine >= 0 && memcmp(got, "early", 5) == 0);
        close(mine);
        close(fd);
        tdl_conn_free(c);
    }
}

/* -- Older kernels ------------------------------------------------------------------------------ */

static int no_buffers(int fd, unsigned what, void *arg, unsigned n) {
    return what == IORING_REGISTER_PBUF_RING ? -EINVAL : tdl_sys_real.uring_register(fd, what, arg, n);
}

static int talks(void *arg) {
    tdl_conn *c;
    int       fd = received_for(&c);
    char      why[256];
    tdl_netpoll_reason(why, sizeof why);
    CHECK(strcmp(tdl_netpoll_name(), "uring") != 0 || !strstr(why, "only polls") == !arg);
    send_all(fd, "x", 1);
    shutdown(fd, SHUT_WR);
    CHECK_RC(tdl_conn_fill(c, TDL_FILL_ALL, 8), 1);
    close(fd);
    tdl_conn_free(c);
    return 0;
}

TEST(only_polls, "N5 a kernel that takes no buffers: the ring polls, and says so") {
    CHECK_RC(tdl_set_netpoll("uring"), 0);
    CHECK_RC(tdl_run(talks, NULL), 0);
    tdl_sys.uring_register = no_buffers;
    CHECK_RC(tdl_set_netpoll("uring"), 0);
    CHECK_RC(tdl_run(talks, "only"), 0);
    tdl_sys = tdl_sys_real;
    CHECK_RC(tdl_set_netpoll(NULL), 0);
}

