/* SPDX-License-Identifier: MIT
 * The system misbehaves: every call of the seam is made to fail, to be
 * interrupted or to do less than asked, and nothing may crash, hang, be lost
 * or leak. */
#include "check.h"
#include "net.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "sys/sys.h"

/* -- Less than asked, interrupted ------------------------------------------------------- */

static atomic_uint calls;

/* True every second or third time, in no simple rhythm. */
static int now_and_then(void) { return atomic_fetch_add(&calls, 1) * 2654435761u >> 31; }

static int64_t short_recv(int fd, void *buf, size_t n) { return tdl_sys_real.recv(fd, buf, n > 1 ? 1 : n); }

static int64_t short_send(int fd, const void *buf, size_t n) {
    return tdl_sys_real.send(fd, buf, n > 3 ? 3 : n);
}

static int64_t interrupted_recv(int fd, void *buf, size_t n) {
    return now_and_then() ? -EINTR : tdl_sys_real.recv(fd, buf, n);
}

static int64_t interrupted_send(int fd, const void *buf, size_t n) {
    return now_and_then() ? -EINTR : tdl_sys_real.send(fd, buf, n);
}

static int interrupted_accept(int fd, struct sockaddr *sa, socklen_t *n) {
    return now_and_then() ? -EINTR : tdl_sys_real.accept(fd, sa, n);
}

static int interrupted_epoll_wait(int epfd, struct epoll_event *evs, int max, int64_t timeout_ns) {
    return now_and_then() ? -EINTR : tdl_sys_real.epoll_wait(epfd, evs, max, timeout_ns);
}

static int interrupted_futex_wait(void *word, uint32_t expected, int64_t deadline) {
    return now_and_then() ? -EINTR : tdl_sys_real.futex_wait(word, expected, deadline);
}

/* The first connect of a socket is interrupted, and goes on by itself. */
static int interrupted_connect(int fd, const struct sockaddr *sa, socklen_t n) {
    int rc = tdl_sys_real.connect(fd, sa, n);
    return rc == -EINPROGRESS ? -EINTR : rc;
}

static int aborted_accept(int fd, struct sockaddr *sa, socklen_t *n) {
    return now_and_then() ? -ECONNABORTED : tdl_sys_real.accept(fd, sa, n);
}

enum { TEXT = 2000 };

static void echo(void *arg) {
    char    buf[100];
    int64_t n;
    while ((n = tdl_conn_read(arg, buf, sizeof buf)) > 0) CHECK_RC(tdl_conn_write(arg, buf, (size_t)n), n);
    CHECK_RC(n, 0);
    tdl_conn_free(arg);
}

static void accept_three(void *arg) {
    for (int i = 0; i < 3; i++) {
        tdl_conn *c = NULL;
        if (CHECK_RC(tdl_listener_accept(arg, &c), 0)) echo(c);
    }
}

/* Three connections, one after the other, an echo of TEXT bytes on each, and a
 * bit of everything else beside them. */
static void traffic(void) {
    char          address[ADDRESS_SIZE], out[TEXT], in[TEXT];
    tdl_listener *l = net_listen("tcp", address);
    crew          c;
    crew_open(&c);
    crew_start(&c, 0, accept_three, l);
    for (int i = 0; i < 3; i++) {
        tdl_conn *conn = NULL;
        if (!CHECK_RC(tdl_dial("tcp", address, 10 * TDL_SECOND, &conn), 0)) break;
        for (int j = 0; j < TEXT; j++) out[j] = (char)(j * 7 + i);
        CHECK_RC(tdl_conn_write(conn, out, sizeof out), sizeof out);
        if (i == 1) {
            CHECK_RC(tdl_conn_fill(conn, TDL_FILL_EXACT, TEXT), TEXT);
            CHECK(memcmp(tdl_conn_peek(conn, NULL), out, TEXT) == 0);
            CHECK_RC(tdl_conn_skip(conn, TEXT), 0);
        } else {
            net_read_full(conn, in, TEXT);
            CHECK(memcmp(in, out, TEXT) == 0);
        }
        tdl_conn_free(conn);
        CHECK_RC(tdl_sleep(100 * TDL_MICROSECOND), 0);
    }
    crew_close(&c);
    tdl_listener_free(l);
}

static void traffic_with(struct tdl_sys table) {
    tdl_sys = table;
    check_run(traffic);
    tdl_sys = tdl_sys_real;
}

/* -- The same for datagrams, messages, descriptors and pipes ---------------------------------- */

static int64_t interrupted_recvmsg(int fd, struct msghdr *m) {
    return now_and_then() ? -EINTR : tdl_sys_real.recvmsg(fd, m);
}
static int64_t interrupted_sendmsg(int fd, const struct msghdr *m) {
    return now_and_then() ? -EINTR : tdl_sys_real.sendmsg(fd, m);
}
static int interrupted_recvmmsg(int fd, struct tdl_mmsg *m, unsigned n) {
    return now_and_then() ? -EINTR : tdl_sys_real.recvmmsg(fd, m, n > 3 ? 3 : n);
}
static int interrupted_sendmmsg(int fd, struct tdl_mmsg *m, unsigned n) {
    return now_and_then() ? -EINTR : tdl_sys_real.sendmmsg(fd, m, n > 2 ? 2 : n);
}
static int64_t interrupted_read(int fd, void *b, size_t n) {
    return now_and_then() ? -EINTR : tdl_sys_real.read(fd, b, n > 2 ? 2 : n);
}
static int64_t interrupted_write(int fd, const void *b, size_t n) {
    return now_and_then() ? -EINTR : tdl_sys_real.write(fd, b, n > 3 ? 3 : n);
}
static int interrupted_poll(int fd, int events) { return now_and_then() ? -EINTR : tdl_sys_real.poll(fd, events); }

/* All of it, with every result checked. */
static void everything_else(void) {
    tdl_conn  *a, *b;
    tdl_dgram *x = NULL, *y = NULL;
    tdl_fd    *r = NULL, *w = NULL;
    tdl_addr   to;
    char       buf[64];
    int        p[2], fds[2] = { 0, 1 }, in[4], n = 4;
    net_pair("unixpacket", &a, &b);
    CHECK_RC(tdl_conn_write(a, "message", 7), 7);
    CHECK_RC(tdl_conn_read(b, buf, sizeof buf), 7);
    CHECK_RC(tdl_conn_send_fds(a, "fds", 3, fds, 2), 3);
    CHECK_RC(tdl_conn_recv_fds(b, buf, sizeof buf, in, &n), 3);
    CHECK_INT(n, 2);
    for (int i = 0; i < n; i++) close(in[i]);
    tdl_conn_free(a);
    tdl_conn_free(b);
    CHECK_RC(tdl_dgram_listen("udp", "127.0.0.1:0", &x), 0);
    CHECK_RC(tdl_dgram_listen("udp", "127.0.0.1:0", &y), 0);
    CHECK_RC(tdl_dgram_sockaddr(y, &to), 0);
    tdl_packet packets[10];
    for (int i = 0; i < 10; i++) packets[i] = (tdl_packet){ .data = buf + i, .size = 1, .addr = &to };
    CHECK_RC(tdl_dgram_sendto(x, "one", 3, &to), 3);
    CHECK_RC(tdl_dgram_send_batch(x, packets, 10), 10);
    CHECK_RC(tdl_dgram_recv(y, buf, sizeof buf), 3);
    for (int i = 0; i < 10; i++) packets[i].addr = NULL;
    for (int got = 0, k; got < 10; got += k)
        if (!CHECK((k = tdl_dgram_recv_batch(y, packets, 10)) > 0)) break;
    tdl_dgram_free(x);
    tdl_dgram_free(y);
    REQUIRE(pipe(p) == 0);
    CHECK_RC(tdl_fd_adopt(p[0], &r), 0);
    CHECK_RC(tdl_fd_adopt(p[1], &w), 0);
    CHECK_RC(tdl_fd_wait_writable(w), 0);
    CHECK_RC(tdl_fd_write(w, "0123456789", 10), 10);
    CHECK_RC(tdl_fd_wait_readable(r), 0);
    for (int64_t got = 0, k; got < 10; got += k)
        if (!CHECK((k = tdl_fd_read(r, buf, sizeof buf)) > 0)) break;
    tdl_fd_free(r);
    tdl_fd_free(w);
}

TEST(eintr_others, "X2 the other calls are interrupted, and move less than asked: nobody sees it") {
    struct tdl_sys t = tdl_sys_real;
    t.recvmsg = interrupted_recvmsg;
    t.sendmsg = interrupted_sendmsg;
    t.recvmmsg = interrupted_recvmmsg;
    t.sendmmsg = interrupted_sendmmsg;
    t.read = interrupted_read;
    t.write = interrupted_write;
    t.poll = interrupted_poll;
    for (int i = 0; i < 20; i++) {
        tdl_sys = t;
        check_run(everything_else);
        tdl_sys = tdl_sys_real;
    }
}

TEST(short_io, "X1 the system moves one to three bytes a call: streams are whole") {
    struct tdl_sys t = tdl_sys_real;
    t.recv = short_recv;
    t.send = short_send;
    t.short_drains = 0; /* the real system moves less only when there is no more */
    traffic_with(t);
}

TEST(eintr, "X2 calls are interrupted half of the time: nobody sees it") {
    struct tdl_sys t = tdl_sys_real;
    t.recv = interrupted_recv;
    t.send = interrupted_send;
    t.accept = interrupted_accept;
    t.epoll_wait = interrupted_epoll_wait;
    t.futex_wait = interrupted_futex_wait;
    traffic_with(t);
}

TEST(eintr_connect, "X2 a connect that is interrupted goes on, and is waited for") {
    struct tdl_sys t = tdl_sys_real;
    t.connect = interrupted_connect;
    traffic_with(t);
}

TEST(econnaborted, "X2 connections aborted in the backlog are passed over (D25)") {
    struct tdl_sys t = tdl_sys_real;
    t.accept = aborted_accept;
    traffic_with(t);
}

/* -- Ready, and yet nothing there ------------------------------------------------------------ */

static void drip(void *arg) {
    for (int i = 0; i < 50; i++) {
        CHECK_RC(tdl_conn_write(arg, "d", 1), 1);
        tdl_sleep(TDL_MILLISECOND);
    }
    tdl_conn_close(arg);
}

static void read_drips(void) {
    tdl_conn *a, *b;
    char      buf[100];
    int64_t   n, total = 0;
    crew      c;
    net_pair("tcp", &a, &b);
    crew_open(&c);
    crew_go(&c, drip, a);
    while ((n = tdl_conn_read(b, buf, sizeof buf)) > 0) total += n;
    CHECK_RC(n, 0);
    CHECK_INT(total, 50);
    crew_close(&c);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

static int duplicated_epoll_wait(int epfd, struct epoll_event *evs, int max, int64_t timeout_ns) {
    static _Thread_local struct epoll_event last[8];
    static _Thread_local int                nlast, of;
    if (nlast > 0 && of == epfd && max >= 8 && now_and_then()) { /* the same once more */
        int n = nlast;
        memcpy(evs, last, (size_t)n * sizeof *evs);
        nlast = 0;
        return n;
    }
    int n = tdl_sys_real.epoll_wait(epfd, evs, max, timeout_ns);
    of = epfd;
    nlast = n > 0 && n <= 8 ? n : 0;
    memcpy(last, evs, (size_t)nlast * sizeof *evs);
    return n;
}

TEST(spurious, "X3 a descriptor said to be ready that has nothing: the read waits on and loses nothing") {
    tdl_sys.epoll_wait = duplicated_epoll_wait;
    check_run(read_drips);
    tdl_sys = tdl_sys_real;
}

TEST(stale_events, "X3 events that come twice, also for descriptors that are closed by then, harm nobody") {
    struct tdl_sys t = tdl_sys_real;
    t.epoll_wait = duplicated_epoll_wait;
    for (int i = 0; i < 10; i++) traffic_with(t);
}

/* -- The k-th call fails ------------------------------------------------------------------------ */

static atomic_int countdown;
static atomic_int reached; /* the countdown was used up: something failed */

static int strikes(void) {
    if (atomic_fetch_sub(&countdown, 1) != 1) return 0;
    atomic_store(&reached, 1);
    return 1;
}

static void *f_alloc(size_t n) { return strikes() ? NULL : tdl_sys_real.alloc(n); }
static void *f_resize(void *p, size_t n) { return strikes() ? NULL : tdl_sys_real.resize(p, n); }
static void *f_map(size_t n) { return strikes() ? NULL : tdl_sys_real.map(n); }
static int   f_guard(void *p, size_t size, size_t stride, int n) {
    return strikes() ? -ENOMEM : tdl_sys_real.guard(p, size, stride, n);
}
static int   f_thread(void *(*fn)(void *), void *arg, void *t) { return strikes() ? -EAGAIN : tdl_sys_real.thread(fn, arg, t); }
static int   f_epoll_create(void) { return strikes() ? -EMFILE : tdl_sys_real.epoll_create(); }
static int   f_epoll_ctl(int ep, int op, int fd, struct epoll_event *ev) {
    return op == EPOLL_CTL_ADD && strikes() ? -ENOSPC : tdl_sys_real.epoll_ctl(ep, op, fd, ev);
}
static int f_eventfd(void) { return strikes() ? -EMFILE : tdl_sys_real.eventfd(); }
static int f_socket(int d, int t, int p) { return strikes() ? -EMFILE : tdl_sys_real.socket(d, t, p); }
static int f_bind(int fd, const struct sockaddr *sa, socklen_t n) { return strikes() ? -EADDRINUSE : tdl_sys_real.bind(fd, sa, n); }
static int f_listen(int fd, int n) { return strikes() ? -EADDRINUSE : tdl_sys_real.listen(fd, n); }
static int f_accept(int fd, struct sockaddr *sa, socklen_t *n) { return strikes() ? -EMFILE : tdl_sys_real.accept(fd, sa, n); }
static int f_connect(int fd, const struct sockaddr *sa, socklen_t n) { return strikes() ? -ENETUNREACH : tdl_sys_real.connect(fd, sa, n); }
static int64_t f_recv(int fd, void *b, size_t n) { return strikes() ? -ECONNRESET : tdl_sys_real.recv(fd, b, n); }
static int64_t f_send(int fd, const void *b, size_t n) { return strikes() ? -EPIPE : tdl_sys_real.send(fd, b, n); }
static int f_setsockopt(int fd, int l, int o, const void *v, socklen_t n) { return strikes() ? -ENOBUFS : tdl_sys_real.setsockopt(fd, l, o, v, n); }
static int f_getsockname(int fd, struct sockaddr *sa, socklen_t *n) { return strikes() ? -ENOBUFS : tdl_sys_real.getsockname(fd, sa, n); }

static int64_t f_recvmsg(int fd, struct msghdr *m) { return strikes() ? -ENOBUFS : tdl_sys_real.recvmsg(fd, m); }
static int64_t f_sendmsg(int fd, const struct msghdr *m) { return strikes() ? -ENOBUFS : tdl_sys_real.sendmsg(fd, m); }
static int f_recvmmsg(int fd, struct tdl_mmsg *m, unsigned n) { return strikes() ? -ENOMEM : tdl_sys_real.recvmmsg(fd, m, n); }
static int f_sendmmsg(int fd, struct tdl_mmsg *m, unsigned n) { return strikes() ? -ENOMEM : tdl_sys_real.sendmmsg(fd, m, n); }
static int64_t f_read(int fd, void *b, size_t n) { return strikes() ? -EIO : tdl_sys_real.read(fd, b, n); }
static int64_t f_write(int fd, const void *b, size_t n) { return strikes() ? -EPIPE : tdl_sys_real.write(fd, b, n); }
static int f_poll(int fd, int events) { return strikes() ? -ENOMEM : tdl_sys_real.poll(fd, events); }
static int f_nonblock(int fd, int on) { return on && strikes() ? -EACCES : tdl_sys_real.nonblock(fd, on); }
static int f_dup(int fd) { return strikes() ? -EMFILE : tdl_sys_real.dup(fd); }
static int f_getsockopt(int fd, int l, int o, void *v, socklen_t *n) { return strikes() ? -ENOBUFS : tdl_sys_real.getsockopt(fd, l, o, v, n); }

/* A descriptor that is closed twice may be a stranger's by then. */
static int f_close(int fd) {
    int rc = tdl_sys_real.close(fd);
    CHECK_RC(rc, 0);
    return rc;
}

static struct tdl_sys failing(void) {
    struct tdl_sys t = tdl_sys_real;
    t.alloc = f_alloc;
    t.resize = f_resize;
    t.map = f_map;
    t.guard = f_guard;
    t.thread = f_thread;
    t.epoll_create = f_epoll_create;
    t.epoll_ctl = f_epoll_ctl;
    t.eventfd = f_eventfd;
    t.socket = f_socket;
    t.bind = f_bind;
    t.listen = f_listen;
    t.accept = f_accept;
    t.connect = f_connect;
    t.recv = f_recv;
    t.send = f_send;
    t.setsockopt = f_setsockopt;
    t.getsockname = f_getsockname;
    t.recvmsg = f_recvmsg;
    t.sendmsg = f_sendmsg;
    t.recvmmsg = f_recvmmsg;
    t.sendmmsg = f_sendmmsg;
    t.read = f_read;
    t.write = f_write;
    t.poll = f_poll;
    t.nonblock = f_nonblock;
    t.dup = f_dup;
    t.getsockopt = f_getsockopt;
    t.close = f_close;
    return t;
}

/* Everything below copes with any failure, and waits for nothing without end. */
static int64_t soon(void) { return tdl_now() + 50 * TDL_MILLISECOND; }

static void echo_once(void *arg) {
    tdl_conn *c = NULL;
    char      buf[16];
    tdl_listener_set_deadline(arg, soon());
    if (tdl_listener_accept(arg, &c) != 0) return;
    tdl_conn_set_deadline(c, soon());
    int64_t n = tdl_conn_read(c, buf, sizeof buf);
    if (n > 0) tdl_conn_write(c, buf, (size_t)n);
    tdl_conn_free(c);
}

static void stream_part(void) {
    tdl_go_options o = { .size = sizeof o, .flags = TDL_GO_JOINABLE };
    tdl_listener  *l = NULL;
    tdl_conn      *c = NULL;
    tdl_g         *g = NULL;
    char           address[64];
    if (tdl_listen("tcp", "127.0.0.1:0", &l) != 0) {
        CHECK(l == NULL);
        return;
    }
    int port = tdl_listener_port(l);
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    if (port > 0) g = tdl_go_opts(echo_once, l, &o);
    if (g && tdl_dial("tcp", address, 50 * TDL_MILLISECOND, &c) == 0) {
        tdl_conn_set_deadline(c, soon());
        if (tdl_conn_write(c, "hello\n", 6) == 6) {
            int64_t     n = tdl_conn_fill(c, TDL_FILL_LINE, 100);
            size_t      buffered = 0;
            const char *p = tdl_conn_peek(c, &buffered);
            if (n > 0) CHECK(n == 6 && p && memcmp(p, "hello\n", 6) == 0);
            if (p) CHECK_RC(tdl_conn_skip(c, buffered), 0);
        }
    }
    tdl_conn_free(c);
    if (g) CHECK_RC(tdl_join(g), 0);
    tdl_listener_free(l);
}

/* Messages and descriptors over a unix connection. */
static void unix_part(void) {
    tdl_listener *l = NULL;
    tdl_conn     *a = NULL, *b = NULL;
    char          address[64], buf[16];
    int           fd = 0, in[2], n = 2;
    int64_t       pid;
    if (tdl_listen("unixpacket", "@", &l) != 0) return;
    tdl_listener_set_deadline(l, soon());
    if (tdl_listener_address(l, address, sizeof address) > 0 && tdl_dial("unixpacket", address, 50 * TDL_MILLISECOND, &a) == 0 &&
        tdl_listener_accept(l, &b) == 0) {
        tdl_conn_set_deadline(a, soon());
        tdl_conn_set_deadline(b, soon());
        if (tdl_conn_send_fds(a, "fd", 2, &fd, 1) == 2) {
            int64_t rc = tdl_conn_recv_fds(b, buf, sizeof buf, in, &n);
            if (rc > 0) CHECK(rc == 2 && n == 1);
            for (int i = 0; i < n && rc > 0; i++) close(in[i]);
        }
        if (tdl_conn_write(a, "message", 7) == 7) {
            int64_t rc = tdl_conn_fill(b, TDL_FILL_SOME, 100);
            if (tdl_conn_peek(b, NULL)) tdl_conn_skip(b, rc > 0 ? (size_t)rc : 0);
        }
        tdl_conn_peercred(b, &pid, NULL, NULL);
        tdl_conn_option(b, TDL_READ_BUFFER);
    }
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_listener_free(l);
}

static void dgram_part(void) {
    tdl_dgram *x = NULL, *y = NULL;
    tdl_addr   to, from;
    char       buf[16], text[64];
    if (tdl_dgram_listen("udp", "127.0.0.1:0", &x) == 0 && tdl_dgram_sockaddr(x, &to) == 0 &&
        tdl_addr_format(&to, text, sizeof text) > 0 && tdl_dgram_dial("udp", text, NULL, &y) == 0) {
        tdl_packet p = { .data = buf, .size = 4, .addr = NULL };
        tdl_dgram_set_deadline(x, soon());
        tdl_dgram_set_deadline(y, soon());
        if (tdl_dgram_send(y, "word", 4) == 4) tdl_dgram_recvfrom(x, buf, sizeof buf, &from);
        if (tdl_dgram_send_batch(y, &p, 1) == 1) tdl_dgram_recv_batch(x, &p, 1);
    }
    tdl_dgram_free(x);
    tdl_dgram_free(y);
}

static void fd_part(void) {
    tdl_fd   *r = NULL, *w = NULL;
    tdl_conn *c = NULL, *d = NULL;
    int       p[2];
    char      buf[16];
    REQUIRE(pipe(p) == 0);
    if (tdl_fd_dup(p[1], &w) == 0) tdl_fd_set_deadline(w, soon());
    if (tdl_fd_adopt(p[0], &r) == 0) {
        tdl_fd_set_deadline(r, soon());
        if (w && tdl_fd_wait_writable(w) == 0 && tdl_fd_write(w, "abc", 3) == 3 && tdl_fd_wait_readable(r) == 0)
            tdl_fd_read(r, buf, 1);
        CHECK_INT(tdl_fd_release(r), p[0]);
        if (tdl_conn_adopt(p[0], &c) == 0) {
            tdl_conn_set_deadline(c, soon());
            tdl_conn_read(c, buf, sizeof buf);
        } else {
            close(p[0]);
        }
    } else {
        CHECK(r == NULL);
        close(p[0]);
    }
    close(p[1]);
    tdl_fd_free(r);
    tdl_fd_free(w);
    tdl_conn_free(c);
    c = NULL;
    if (tdl_pipe_new(0, &c, &d) == 0) {
        tdl_conn_set_deadline(c, tdl_now() + TDL_MILLISECOND);
        CHECK(tdl_conn_write(c, "unread", 6) < 0);
    } else {
        CHECK(c == NULL && d == NULL);
    }
    tdl_conn_free(c);
    tdl_conn_free(d);
}

static void list_part(void) {
    tdl_listener *l = NULL;
    tdl_addr      list[2];
    tdl_conn     *c = NULL;
    if (tdl_listen("tcp", "127.0.0.1:0", &l) == 0 && tdl_listener_addr(l, &list[1]) == 0 &&
        tdl_addr_parse(&list[0], "tcp", "127.0.0.1:1", 0) == 0) { /* where nobody listens */
        tdl_dial_options o = { .size = sizeof o, .timeout = 50 * TDL_MILLISECOND, .local = "127.0.0.1:0" };
        int              rc = tdl_dial_list("tcp", list, 2, &o, &c);
        CHECK((rc == 0) == (c != NULL));
    }
    tdl_conn_free(c);
    tdl_listener_free(l);
}

static int main_of_net_faults(void *arg) {
    (void)arg;
    unix_part();
    dgram_part();
    fd_part();
    list_part();
    return 0;
}

static void run_of_net_faults(void) {
    int rc = tdl_run(main_of_net_faults, NULL);
    if (rc != 0) CHECK(rc == TDL_ENOMEM || (rc < 0 && rc > -4096));
}

static void send_bytes_soon(void *arg) {
    tdl_val v;
    if (tdl_val_set_bytes(&v, "some bytes", 10) == TDL_ENOMEM) CHECK_INT(tdl_val_type(&v), TDL_NIL);
    tdl_chan_send_until(arg, &v, soon());
    tdl_val_clear(&v);
}

static void sync_part(void) {
    tdl_go_options o = { .size = sizeof o, .flags = TDL_GO_JOINABLE };
    tdl_chan      *ch = tdl_chan_new(0), *buffered = tdl_chan_new(100);
    tdl_mutex     *m = tdl_mutex_new();
    tdl_waitgroup *wg = tdl_waitgroup_new();
    tdl_val        v;
    if (ch && buffered && m && wg) {
        tdl_g *g = tdl_go_opts(send_bytes_soon, ch, &o);
        if (g) {
            tdl_case k[] = { { .chan = ch, .val = &v, .op = TDL_RECV }, { .chan = buffered, .op = TDL_RECV } };
            int      i = tdl_select(k, 2, soon());
            CHECK(i == 0 || i < 0);
            if (i == 0) tdl_val_clear(&v);
            CHECK_RC(tdl_join(g), 0);
        }
        tdl_sleep(1000);
        if (tdl_mutex_lock_until(m, soon()) == 0) tdl_mutex_unlock(m);
        tdl_waitgroup_wait_until(wg, soon());
    }
    tdl_waitgroup_free(wg);
    tdl_mutex_free(m);
    tdl_chan_free(buffered);
    tdl_chan_free(ch);
}

static int main_of_faults(void *arg) {
    (void)arg;
    sync_part();
    stream_part();
    sync_part();
    return 0;
}

static int poll_until(tdl_host *h, uint32_t task) {
    for (int64_t end = tdl_now() + 5 * TDL_SECOND; tdl_now() < end;) {
        tdl_event ev;
        if (tdl_host_poll(h, &ev, 1, TDL_SECOND) == 1 && ev.task == task) return ev.result;
    }
    CHECK(!"an event for the task");
    return TDL_EINVAL;
}

static int finish(tdl_host *h, uint32_t task, int rc) { return rc == TDL_PENDING ? poll_until(h, task) : rc; }

/* Descriptors that have to wait behind a full connection, and datagrams. */
static void host_of_messages(tdl_host *h, uint32_t t, tdl_listener **l, tdl_conn **a, tdl_conn **b) {
    char       address[64], buf[16];
    tdl_dgram *d = NULL;
    tdl_addr   to;
    int        fd = 0, in[2], n = 2;
    if (tdl_listen("unix", "@", l) == 0 && tdl_listener_address(*l, address, sizeof address) > 0 &&
        finish(h, t, tdl_dial_start(h, t, "unix", address, 50 * TDL_MILLISECOND)) == 0) {
        *a = tdl_val_ptr(&tdl_host_outcomes(h)[t].val);
        tdl_listener_set_deadline(*l, soon());
        if (finish(h, t, tdl_listener_accept_start(h, t, *l)) == 0) {
            *b = tdl_val_ptr(&tdl_host_outcomes(h)[t].val);
            char *block = calloc(1, 1 << 20);
            tdl_conn_set_deadline(*a, tdl_now() + 2 * TDL_MILLISECOND);
            tdl_conn_set_deadline(*b, soon());
            finish(h, t, tdl_conn_write_start(h, t, *a, block, 1 << 20)); /* full */
            tdl_conn_set_deadline(*a, tdl_now() + 2 * TDL_MILLISECOND);
            finish(h, t, tdl_conn_send_fds_start(h, t, *a, "x", 1, &fd, 1));
            if (finish(h, t, tdl_conn_recv_fds_start(h, t, *b, buf, sizeof buf, in, &n)) > 0)
                while (n > 0) close(in[--n]);
            free(block);
        }
    }
    if (tdl_dgram_listen("unixgram", "@", &d) == 0 && tdl_dgram_sockaddr(d, &to) == 0) {
        tdl_dgram_set_deadline(d, tdl_now() + 2 * TDL_MILLISECOND);
        while (finish(h, t, tdl_dgram_send_start(h, t, d, "self", 4, &to)) == 4) {} /* until it is full */
        tdl_dgram_set_deadline(d, soon());
        finish(h, t, tdl_dgram_recv_start(h, t, d, buf, sizeof buf, &to));
    }
    tdl_dgram_free(d);
}

static void host_of_faults(void) {
    tdl_host     *h = NULL;
    tdl_listener *l = NULL;
    tdl_conn     *a = NULL, *b = NULL;
    char          buf[16], address[64];
    if (tdl_host_open("faulty", &h) != 0) {
        CHECK(h == NULL);
        return;
    }
    int       task = tdl_task_new(h, 1);
    tdl_chan *ch = tdl_chan_new_local(h, 1);
    if (task >= 0 && ch) {
        uint32_t t = (uint32_t)task;
        CHECK_RC(poll_until(h, t), 0);
        finish(h, t, tdl_sleep_start(h, t, 1000));
        finish(h, t, tdl_chan_recv_start(h, t, ch, tdl_now() + 1000));
        if (tdl_listen("tcp", "127.0.0.1:0", &l) == 0 && tdl_listener_port(l) > 0) {
            snprintf(address, sizeof address, "127.0.0.1:%d", tdl_listener_port(l));
            if (finish(h, t, tdl_dial_start(h, t, "tcp", address, 50 * TDL_MILLISECOND)) == 0) {
                a = tdl_val_ptr(&tdl_host_outcomes(h)[t].val);
                tdl_listener_set_deadline(l, soon());
                if (finish(h, t, tdl_listener_accept_start(h, t, l)) == 0) {
                    b = tdl_val_ptr(&tdl_host_outcomes(h)[t].val);
                    tdl_conn_set_deadline(a, soon());
                    tdl_conn_set_deadline(b, soon());
                    finish(h, t, tdl_conn_write_start(h, t, a, "0123456789", 10));
                    finish(h, t, tdl_conn_read_start(h, t, b, buf, 4));
                    finish(h, t, tdl_conn_fill_start(h, t, b, TDL_FILL_EXACT, 6));
                    size_t n = 0;
                    if (tdl_conn_peek(b, &n)) tdl_conn_skip(b, n);
                }
            }
        }
        tdl_listener_free(l);
        tdl_conn_free(a);
        tdl_conn_free(b);
        l = NULL;
        a = b = NULL;
        host_of_messages(h, t, &l, &a, &b);
        CHECK_RC(tdl_task_free(h, t), 0);
    }
    tdl_chan_free(ch);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_listener_free(l);
    CHECK_RC(tdl_host_close(h), 0);
}

static void run_of_faults(void) {
    int rc = tdl_run(main_of_faults, NULL);
    if (rc != 0) CHECK(rc == TDL_ENOMEM || (rc < 0 && rc > -4096));
}

static void nothing_left(int k) {
    static const char *const numbers[] = { "goroutines", "tasks", "channels", "connections", "listeners", "datagrams",
                                           "descriptors", "timers" };
    for (int i = 0; i < 8; i++)
        if (!CHECK_INT(tdl_metric(numbers[i]), 0)) fprintf(stderr, "  (%s, with failure %d)\n", numbers[i], k);
}

static void each_call_fails(void (*scenario)(void)) {
    int before = check_failures(), fds = 0, k;
    check_limit(60);
    for (k = 1; k < 2000 && check_failures() == before; k++) {
        atomic_store(&reached, 0);
        tdl_sys = failing();
        atomic_store(&countdown, k);
        scenario();
        atomic_store(&countdown, 0);
        tdl_sys = tdl_sys_real;
        nothing_left(k);
        if (k == 1)
            fds = open_fds();
        else
            CHECK_WITHIN(open_fds(), 0, fds);
        if (check_failures() != before) fprintf(stderr, "  (with failure %d)\n", k);
        if (!atomic_load(&reached)) break;
    }
    CHECK_WITHIN(k, 20, 1999); /* it did fail many times, and succeeded in the end */
}

TEST(kth_failure_run, "X4 every call of the system fails once, in runs: errors, no crash, nothing lost") { each_call_fails(run_of_faults); }

TEST(kth_failure_net, "X4 the same in runs with messages, descriptors, datagrams, pipes and lists of addresses") { each_call_fails(run_of_net_faults); }

TEST(kth_failure_host, "X4 every call of the system fails once, in a host: the same") { each_call_fails(host_of_faults); }

/* -- Out of memory for good -------------------------------------------------------------------------- */

static atomic_int starving;

static void *no_alloc(size_t n) { return atomic_load(&starving) ? NULL : tdl_sys_real.alloc(n); }
static void *no_resize(void *p, size_t n) { return atomic_load(&starving) ? NULL : tdl_sys_real.resize(p, n); }
static void *no_map(size_t n) { return atomic_load(&starving) ? NULL : tdl_sys_real.map(n); }

static void receive(void *arg) { tdl_chan_recv(arg, NULL); }

static void starve(void) {
    tdl_chan *ch = tdl_chan_new(0);
    crew      c;
    tdl_val   v;
    int       n = 0;
    crew_open(&c);
    crew_go(&c, receive, ch);
    let_park();
    atomic_store(&starving, 1);
    for (int i = 0; i < 100000 && tdl_go(receive, ch) != NULL; i++) n++; /* until the pools are empty */
    CHECK_WITHIN(n, 0, 99999);
    CHECK_RC(tdl_val_set_bytes(&v, "more than any pool would keep", 29), TDL_ENOMEM);
    CHECK(tdl_chan_new(100000) == NULL);
    /* what is there works on without memory */
    for (int i = 0; i < n + 1; i++) CHECK_RC(send_int(ch, i), 0);
    crew_wait(&c);
    int rc = tdl_sleep(TDL_MILLISECOND);
    CHECK(rc == 0 || rc == TDL_ENOMEM);
    atomic_store(&starving, 0);
    crew_go(&c, receive, ch);
    CHECK_RC(send_int(ch, 1), 0);
    crew_close(&c);
    tdl_chan_free(ch);
}

TEST(out_of_memory, "X5 without memory spawning fails, and what is there works on") {
    tdl_sys.alloc = no_alloc;
    tdl_sys.resize = no_resize;
    tdl_sys.map = no_map;
    check_run(starve);
    tdl_sys = tdl_sys_real;
}

/* -- No threads ---------------------------------------------------------------------------------------- */

static int no_thread(void *(*fn)(void *), void *arg, void *thread) {
    (void)fn;
    (void)arg;
    (void)thread;
    return -EAGAIN;
}

TEST(no_threads, "X6 without threads a run does its work on fewer, or says so") {
    tdl_sys.thread = no_thread;
    int rc = tdl_run(main_of_faults, NULL);
    CHECK(rc == 0 || rc == -EAGAIN);
    tdl_sys = tdl_sys_real;
    CHECK_INT(tdl_run(main_of_faults, NULL), 0);
}
