/* SPDX-License-Identifier: MIT
 * What unix sockets have beyond streams: messages, passed descriptors,
 * credentials; and paths. */
#include "actors.h"
#include "check.h"
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MS = 1000000 };
#ifdef __GLIBC__
enum { MANY = 253 };
#else
enum { MANY = 200 }; /* musl copies what goes beside the bytes, into 1 KiB */
#endif

/* -- Messages --------------------------------------------------------------------------- */

TEST_G(messages, "D2 a unixpacket connection keeps the bounds of messages, until the peer closes") {
    tdl_conn *a, *b;
    char      buf[16];
    net_pair("unixpacket", &a, &b);
    CHECK_RC(tdl_conn_write(a, "one", 3), 3);
    CHECK_RC(tdl_conn_write(a, "three", 5), 5);
    CHECK_RC(tdl_conn_read(b, buf, sizeof buf), 3);
    CHECK_RC(tdl_conn_read(b, buf, sizeof buf), 5);
    CHECK_RC(tdl_conn_write(b, "back", 4), 4);
    CHECK_RC(tdl_conn_read(a, buf, sizeof buf), 4);
    CHECK_RC(tdl_conn_close_write(a), 0);
    CHECK_RC(tdl_conn_read(b, buf, sizeof buf), 0);
    tdl_conn_free(a);
    CHECK_RC(tdl_conn_write(b, "x", 1), -EPIPE);
    tdl_conn_free(b);
}

TEST_G(cut_messages, "F6 a message longer than the room is said to be cut; one too long for the socket is refused") {
    tdl_conn *a, *b;
    char      buf[16], *huge = calloc(1, 1 << 22);
    size_t    n;
    net_pair("unixpacket", &a, &b);
    CHECK_RC(tdl_conn_write(a, "0123456789", 10), 10);
    CHECK_RC(tdl_conn_write(a, "next", 4), 4);
    CHECK_RC(tdl_conn_read(b, buf, 4), TDL_ETRUNCATED);
    CHECK(memcmp(buf, "0123", 4) == 0);
    CHECK_RC(tdl_conn_read(b, buf, 4), 4);
    CHECK_RC(tdl_conn_write(a, "0123456789", 10), 10);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_SOME, 4), TDL_ETRUNCATED);
    const char *p = tdl_conn_peek(b, &n);
    CHECK(p && n == 4 && memcmp(p, "0123", 4) == 0);
    CHECK_RC(tdl_conn_skip(b, 4), 0);
    CHECK_RC(tdl_conn_write(a, huge, 1 << 22), -EMSGSIZE);
    CHECK_RC(tdl_conn_write(a, "ok", 2), 2);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_SOME, 100), 2);
    CHECK_RC(tdl_conn_skip(b, 2), 0);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_LINE, 100), TDL_EINVAL);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_EXACT, 100), TDL_EINVAL);
    CHECK_RC(tdl_conn_fill(b, TDL_FILL_ALL, 100), TDL_EINVAL);
    tdl_conn_free(a);
    tdl_conn_free(b);
    free(huge);
}

static void write_messages(void *arg) {
    char block[5000];
    for (int i = 0; i < SCALE(1000); i++) {
        memset(block, i, sizeof block);
        CHECK_RC(tdl_conn_write(arg, block, 1 + (size_t)i % sizeof block), 1 + i % (int)sizeof block);
    }
    tdl_conn_close(arg);
}

TEST_G(many_messages, "D1 a thousand messages of all sizes arrive as they were sent") {
    tdl_conn *a, *b;
    crew      c;
    char      block[5000];
    net_pair("unixpacket", &a, &b);
    crew_open(&c);
    crew_go(&c, write_messages, a);
    for (int i = 0; i < SCALE(1000); i++) {
        int64_t n = i % 2 ? tdl_conn_read(b, block, sizeof block) : tdl_conn_fill(b, TDL_FILL_SOME, sizeof block);
        if (!CHECK_RC(n, 1 + i % (int)sizeof block)) break;
        char last = i % 2 ? block[n - 1] : tdl_conn_peek(b, NULL)[n - 1];
        if (i % 2 == 0) CHECK_RC(tdl_conn_skip(b, (size_t)n), 0);
        CHECK_INT(last, (char)i);
    }
    CHECK_RC(tdl_conn_read(b, block, sizeof block), 0);
    crew_close(&c);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

/* -- Paths --------------------------------------------------------------------------------- */

TEST_G(paths, "D21 a path is unlinked by close, not by release, nor when it is to be kept") {
    char               path[64];
    struct stat        st;
    tdl_listener      *l = NULL;
    tdl_listen_options keep = { .size = sizeof keep, .flags = TDL_LISTEN_KEEP_PATH };
    snprintf(path, sizeof path, "/tmp/treadle-paths-%d.sock", (int)getpid());
    unlink(path);
    CHECK_RC(tdl_listen("unixpacket", path, &l), 0);
    tdl_listener_free(l);
    CHECK(stat(path, &st) != 0);
    CHECK_RC(tdl_listen_opts("unix", path, &keep, &l), 0);
    tdl_listener_free(l);
    CHECK(stat(path, &st) == 0);
    unlink(path);
    CHECK_RC(tdl_listen("unix", path, &l), 0);
    int fd = tdl_listener_release(l);
    CHECK(fd >= 0);
    tdl_listener_free(l);
    CHECK(stat(path, &st) == 0);
    /* and back: a listener of a descriptor unlinks nothing */
    CHECK_RC(tdl_listener_adopt(fd, &l), 0);
    tdl_conn *a = NULL, *b = NULL;
    CHECK_RC(tdl_dial("unix", path, 0, &a), 0);
    CHECK_RC(tdl_listener_accept(l, &b), 0);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_listener_free(l);
    CHECK(stat(path, &st) == 0);
    unlink(path);
}

static char left_path[64];

static int leave_listener(void *arg) {
    CHECK_RC(tdl_listen("unix", left_path, arg), 0);
    return 0;
}

TEST(path_of_run, "D21 the path of a listener that a run leaves open goes with the run") {
    tdl_listener *l = NULL;
    struct stat   st;
    snprintf(left_path, sizeof left_path, "/tmp/treadle-left-%d.sock", (int)getpid());
    unlink(left_path);
    CHECK_RC(tdl_run(leave_listener, &l), 0);
    CHECK(stat(left_path, &st) != 0);
    CHECK_RC(tdl_listener_close(l), TDL_ECLOSED);
    tdl_listener_free(l);
}

/* -- Credentials ------------------------------------------------------------------------------ */

TEST_G(credentials, "F8 each end knows the other's process, user and group") {
    static const char *const nets[] = { "unix", "unixpacket" };
    tdl_conn                *a, *b;
    int64_t                  pid, uid, gid;
    for (int i = 0; i < 2; i++) {
        net_pair(nets[i], &a, &b);
#ifdef TDL_PORTABLE
        CHECK_RC(tdl_conn_peercred(b, &pid, &uid, &gid), -EOPNOTSUPP); /* POSIX has no such thing */
        tdl_conn_free(a);
        tdl_conn_free(b);
        continue;
#endif
        CHECK_RC(tdl_conn_peercred(b, &pid, &uid, &gid), 0);
        CHECK_INT(pid, getpid());
        CHECK_INT(uid, getuid());
        CHECK_INT(gid, getgid());
        CHECK_RC(tdl_conn_peercred(a, NULL, NULL, NULL), 0);
        tdl_conn_close(a);
        CHECK_RC(tdl_conn_peercred(a, &pid, NULL, NULL), TDL_ECLOSED);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
    net_pair("tcp", &a, &b);
    CHECK_RC(tdl_conn_peercred(a, &pid, NULL, NULL), -EOPNOTSUPP);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

/* -- Descriptors ---------------------------------------------------------------------------------- */

/* Checks that fd is one end of the pipe whose other end is given, and closes it. */
static void expect_write_end(int fd, int read_end) {
    char byte = 0;
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK_INT(write(fd, "p", 1), 1);
    CHECK_INT(read(read_end, &byte, 1), 1);
    CHECK_INT(byte, 'p');
    close(fd);
}

TEST_G(pass, "D33 descriptors go over a connection with their bytes, in order, and are new ones") {
    static const char *const nets[] = { "unix", "unixpacket" };
    for (int k = 0; k < 2; k++) {
        tdl_conn *a, *b;
        int       p[2], q[2], out[2], in[4], n = 4;
        char      buf[16];
        net_pair(nets[k], &a, &b);
        REQUIRE(pipe2(p, O_CLOEXEC) == 0 && pipe2(q, O_CLOEXEC) == 0);
        out[0] = p[1];
        out[1] = q[1];
        CHECK_RC(tdl_conn_send_fds(a, "two", 3, out, 2), 3);
        CHECK_RC(tdl_conn_write(a, "none", 4), 4);
        CHECK_RC(tdl_conn_recv_fds(b, buf, sizeof buf, in, &n), 3); /* not beyond them */
        CHECK_INT(n, 2);
        if (n == 2) {
            expect_write_end(in[0], p[0]);
            expect_write_end(in[1], q[0]);
        }
        n = 4;
        CHECK_RC(tdl_conn_recv_fds(b, buf, sizeof buf, in, &n), 4);
        CHECK_INT(n, 0);
        tdl_conn_close(a);
        n = 4;
        CHECK_RC(tdl_conn_recv_fds(b, buf, sizeof buf, in, &n), 0);
        for (int i = 0; i < 2; i++) {
            close(p[i]);
            close(q[i]);
        }
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

TEST_G(not_taken, "D33 descriptors for which there is no room, or that a plain read passes by, are closed") {
    tdl_conn     *a, *b;
    int           fds[3], in[4], n = 2;
    char          buf[16];
    struct rlimit old, tight;
    net_pair("unix", &a, &b);
    for (int i = 0; i < 3; i++) fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int before = open_fds();
    CHECK_RC(tdl_conn_send_fds(a, "abc", 3, fds, 3), 3);
    CHECK_RC(tdl_conn_recv_fds(b, buf, sizeof buf, in, &n), TDL_ETRUNCATED);
    CHECK_INT(n, 0);
    CHECK_INT(open_fds(), before);
    CHECK_RC(tdl_conn_send_fds(a, "abc", 3, fds, 3), 3);
    CHECK_RC(tdl_conn_read(b, buf, sizeof buf), 3);
    CHECK_INT(open_fds(), before);
    CHECK_RC(tdl_conn_send_fds(a, "abc", 3, fds, 3), 3);
    int top = dup(0);
    close(top);
    getrlimit(RLIMIT_NOFILE, &old);
    tight = old;
    tight.rlim_cur = (rlim_t)top + 2; /* room for two of the three */
    REQUIRE(setrlimit(RLIMIT_NOFILE, &tight) == 0);
    n = 4;
    CHECK_RC(tdl_conn_recv_fds(b, buf, sizeof buf, in, &n), -EMFILE);
    setrlimit(RLIMIT_NOFILE, &old);
    CHECK_INT(open_fds(), before);
    CHECK_RC(tdl_conn_write(a, "on", 2), 2);
    n = 4;
    CHECK_RC(tdl_conn_recv_fds(b, buf, sizeof buf, in, &n), 2);
    for (int i = 0; i < 3; i++) close(fds[i]);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(bad_pass, "F5 descriptors without bytes, too many, bad ones, or over TCP are refused") {
    tdl_conn *a, *b;
    int       fds[300], n = 1;
    char      buf[4];
    net_pair("unix", &a, &b);
    for (int i = 0; i < 300; i++) fds[i] = 0;
    CHECK_RC(tdl_conn_send_fds(a, "x", 0, fds, 1), TDL_EINVAL);
    CHECK_RC(tdl_conn_send_fds(a, NULL, 1, fds, 1), TDL_EINVAL);
    CHECK_RC(tdl_conn_send_fds(a, "x", 1, NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_conn_send_fds(a, "x", 1, fds, 0), TDL_EINVAL);
    CHECK_RC(tdl_conn_send_fds(a, "x", 1, fds, 254), TDL_EINVAL);
    CHECK_RC(tdl_conn_send_fds(NULL, "x", 1, fds, 1), TDL_EINVAL);
    CHECK_RC(tdl_conn_recv_fds(a, buf, 4, fds, NULL), TDL_EINVAL);
    CHECK_RC(tdl_conn_recv_fds(a, buf, 0, fds, &n), TDL_EINVAL);
    n = 0;
    CHECK_RC(tdl_conn_recv_fds(a, buf, 4, fds, &n), TDL_EINVAL);
    fds[0] = 123456;
    CHECK_RC(tdl_conn_send_fds(a, "x", 1, fds, 1), -EBADF);
    fds[0] = 0;
    CHECK_RC(tdl_conn_send_fds(a, "x", 1, fds, MANY), 1);
    n = MANY;
    CHECK_RC(tdl_conn_recv_fds(b, buf, 4, fds, &n), 1);
    CHECK_INT(n, MANY);
    for (int i = 0; i < n; i++) close(fds[i]);
    tdl_conn_free(a);
    tdl_conn_free(b);
    net_pair("tcp", &a, &b);
    n = 1;
    fds[0] = 0;
    CHECK_RC(tdl_conn_send_fds(a, "x", 1, fds, 1), -EOPNOTSUPP);
    CHECK_RC(tdl_conn_recv_fds(a, buf, 4, fds, &n), -EOPNOTSUPP);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

TEST_G(pass_waits, "D8 a receive of descriptors ends at its deadline; the connection works on") {
    tdl_conn *a, *b;
    int       fd = 0, in[1], n = 1;
    char      buf[4];
    net_pair("unix", &a, &b);
    tdl_conn_set_read_deadline(b, tdl_now() + 10 * MS);
    CHECK_RC(tdl_conn_recv_fds(b, buf, 4, in, &n), TDL_ETIMEDOUT);
    tdl_conn_set_read_deadline(b, 0);
    n = 1;
    CHECK_RC(tdl_conn_send_fds(a, "x", 1, &fd, 1), 1);
    CHECK_RC(tdl_conn_recv_fds(b, buf, 4, in, &n), 1);
    CHECK_INT(n, 1);
    close(in[0]);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

/* -- Hosts ---------------------------------------------------------------------------------------- */

typedef struct passing {
    tdl_conn *c;
    int       pipe[2], in[2], n;
    char      buf[8], *filler;
} passing;

enum { FILLER = 400 * 1000 };

/* The descriptors have to wait behind the filler, and the sender closes its own
 * meanwhile. */
static int actor_sends(actor *a, int result) {
    passing *p = a->data;
    switch (a->state++) {
    case 0: return tdl_conn_write_start(a->host, a->task, p->c, p->filler, FILLER);
    case 1: {
        CHECK_RC(result, FILLER);
        char text[] = "fd";
        int  fds[1] = { p->pipe[1] };
        int  rc = tdl_conn_send_fds_start(a->host, a->task, p->c, text, 2, fds, 1);
        memset(text, 0, sizeof text);
        fds[0] = -1;
        close(p->pipe[1]);
        return rc;
    }
    default: CHECK_RC(result, 2); return ACTOR_DONE;
    }
}

static int actor_fills(actor *a, int result) {
    passing *p = a->data;
    if (a->state++ == 0) return tdl_conn_write_start(a->host, a->task, p->c, p->filler, FILLER);
    CHECK_RC(result, FILLER);
    return ACTOR_DONE;
}

static int actor_receives(actor *a, int result) {
    passing *p = a->data;
    switch (a->state) {
    case 0:
        if (a->n == 2 * FILLER) {
            a->state = 2;
            p->n = 2;
            return tdl_conn_recv_fds_start(a->host, a->task, p->c, p->buf, sizeof p->buf, p->in, &p->n);
        }
        a->state = 1;
        return tdl_conn_read_start(a->host, a->task, p->c, p->filler, (size_t)(2 * FILLER - a->n));
    case 1:
        if (!CHECK(result > 0)) return ACTOR_DONE;
        a->n += result;
        a->state = 0;
        return actor_receives(a, 0);
    default:
        CHECK_RC(result, 2);
        CHECK(memcmp(p->buf, "fd", 2) == 0);
        CHECK_INT(p->n, 1);
        CHECK_INT(outcome_of(a)->extra, 1);
        if (p->n == 1) expect_write_end(p->in[0], p->pipe[0]);
        return ACTOR_DONE;
    }
}

TEST(pass_on_host, "H11 a task's descriptors that have to wait are duplicated, and arrive behind what was before") {
    stage    s;
    passing  x = { .filler = calloc(1, FILLER) }, y = { .filler = calloc(1, 2 * FILLER) };
    check_keeps_fds(); /* of the runtime that the pair starts */
    net_pair("unix", &x.c, &y.c);
    int before = open_fds();
    stage_open(&s, "passing");
    REQUIRE(pipe2(x.pipe, O_CLOEXEC) == 0);
    y.pipe[0] = x.pipe[0];
    stage_spawn(&s, actor_fills, &x);
    stage_spawn(&s, actor_sends, &x);
    stage_spawn(&s, actor_receives, &y);
    stage_run(&s);
    close(x.pipe[0]);
    stage_close(&s);
    CHECK_INT(open_fds(), before);
    tdl_conn_free(x.c);
    tdl_conn_free(y.c);
    free(x.filler);
    free(y.filler);
}
