/* SPDX-License-Identifier: MIT
 * Descriptors that the user brings, of every kind that can be polled. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "actors.h"
#include "check.h"
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MS = 1000000 };
#define LATE (5 * TDL_SECOND)

static tdl_fd *adopt(int fd) {
    tdl_fd *f = NULL;
    REQUIRE(fd >= 0);
    CHECK_RC(tdl_fd_adopt(fd, &f), 0);
    REQUIRE(f != NULL);
    return f;
}

static void pipe_pair(tdl_fd **r, tdl_fd **w) {
    int p[2];
    REQUIRE(pipe2(p, O_CLOEXEC) == 0);
    *r = adopt(p[0]);
    *w = adopt(p[1]);
}

typedef struct waiting {
    tdl_fd *f;
    int64_t rc;
    char    buf[64];
    int     how; /* 0 wait, 1 read, 2 wait for writing */
} waiting;

static void wait_for(void *arg) {
    waiting *w = arg;
    switch (w->how) {
    case 0: w->rc = tdl_fd_wait_readable(w->f); break;
    case 1: w->rc = tdl_fd_read(w->f, w->buf, sizeof w->buf); break;
    default: w->rc = tdl_fd_wait_writable(w->f);
    }
}

/* -- Pipes ------------------------------------------------------------------------------ */

TEST_G(pipes, "D35 a pipe is read when something was written, and ends when its writer is gone") {
    for (int thread = 0; thread < 2; thread++) {
        tdl_fd *r, *w;
        crew    c;
        char    byte;
        pipe_pair(&r, &w);
        waiting x = { .f = r, .rc = 99, .how = 1 };
        crew_open(&c);
        crew_start(&c, thread, wait_for, &x);
        let_park();
        CHECK_RC(tdl_fd_write(w, "bytes", 5), 5);
        crew_close(&c);
        CHECK_RC(x.rc, 5);
        tdl_fd_free(w);
        CHECK_RC(tdl_fd_wait_readable(r), 0);
        CHECK_RC(tdl_fd_read(r, &byte, 1), 0);
        tdl_fd_free(r);
    }
}

TEST_G(close_wakes, "D35 close, deadline and cancel end a read and a wait; a later call says closed") {
    for (int how = 0; how < 3; how++) {
        for (int kind = 0; kind < 2; kind++) {
            tdl_fd *r, *w;
            char    byte;
            pipe_pair(&r, &w);
            waiting x = { .f = r, .rc = 99, .how = kind };
            tdl_g  *g = go_joinable(wait_for, &x);
            let_park();
            if (how == 0) CHECK_RC(tdl_fd_close(r), 0);
            if (how == 1) tdl_fd_set_read_deadline(r, tdl_now() + 5 * MS);
            if (how == 2) CHECK_RC(tdl_cancel(g), 0);
            CHECK_RC(tdl_join(g), 0);
            static const int want[] = { TDL_ECLOSED, TDL_ETIMEDOUT, TDL_ECANCELED };
            CHECK_RC(x.rc, want[how]);
            if (how == 0) {
                CHECK_RC(tdl_fd_read(r, &byte, 1), TDL_ECLOSED);
                CHECK_RC(tdl_fd_wait_readable(r), TDL_ECLOSED);
                CHECK_RC(tdl_fd_close(r), TDL_ECLOSED);
            }
            tdl_fd_free(r);
            tdl_fd_free(w);
        }
    }
}

TEST_G(broken, "D35 a write to a pipe without readers is an error, not a signal, and none is left pending") {
    tdl_fd  *r, *w;
    sigset_t pending;
    signal(SIGPIPE, SIG_DFL);
    pipe_pair(&r, &w);
    tdl_fd_free(r);
    for (int i = 0; i < 3; i++) CHECK_RC(tdl_fd_write(w, "x", 1), -EPIPE);
    CHECK_RC(tdl_fd_wait_writable(w), 0); /* the write tells why */
    tdl_fd_free(w);
    sigpending(&pending);
    CHECK(!sigismember(&pending, SIGPIPE) || tdl_goid() != 0); /* a worker's own mask keeps it back */
}

TEST(broken_thread, "D35 the same on a plain thread, whose mask is what it was") {
    int      p[2];
    tdl_fd  *w = NULL;
    sigset_t pending, mask;
    check_keeps_fds();
    signal(SIGPIPE, SIG_DFL);
    REQUIRE(pipe2(p, O_CLOEXEC) == 0);
    close(p[0]);
    CHECK_RC(tdl_fd_adopt(p[1], &w), 0);
    CHECK_RC(tdl_fd_write(w, "x", 1), -EPIPE);
    sigpending(&pending);
    CHECK(!sigismember(&pending, SIGPIPE));
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    CHECK(!sigismember(&mask, SIGPIPE));
    tdl_fd_free(w);
}

static void write_much(void *arg) {
    char *block = malloc(1 << 20);
    memset(block, 'w', 1 << 20);
    CHECK_RC(tdl_fd_write(arg, block, 1 << 20), 1 << 20);
    free(block);
    tdl_fd_close(arg);
}

TEST_G(large, "D29 a write larger than the pipe waits for room, and is whole") {
    tdl_fd *r, *w;
    crew    c;
    char    buf[3000];
    int64_t n, total = 0;
    pipe_pair(&r, &w);
    crew_open(&c);
    crew_go(&c, write_much, w);
    while ((n = tdl_fd_read(r, buf, sizeof buf)) > 0) {
        total += n;
        CHECK(buf[0] == 'w' && buf[n - 1] == 'w');
    }
    CHECK_RC(n, 0);
    CHECK_INT(total, 1 << 20);
    crew_close(&c);
    tdl_fd_free(r);
    tdl_fd_free(w);
}

TEST_G(left_there, "D35 waiting for what was not read yet returns at once, again and again") {
    tdl_fd *r, *w;
    char    byte;
    pipe_pair(&r, &w);
    CHECK_RC(tdl_fd_write(w, "ab", 2), 2);
    for (int i = 0; i < 3; i++) CHECK_RC(tdl_fd_wait_readable(r), 0);
    CHECK_INT(read(tdl_fd_number(r), &byte, 1), 1); /* by another hand */
    CHECK_RC(tdl_fd_wait_readable(r), 0);
    CHECK_INT(read(tdl_fd_number(r), &byte, 1), 1);
    tdl_fd_set_read_deadline(r, tdl_now() + 5 * MS);
    CHECK_RC(tdl_fd_wait_readable(r), TDL_ETIMEDOUT);
    tdl_fd_set_read_deadline(r, 0);
    CHECK_RC(tdl_fd_write(w, "c", 1), 1);
    CHECK_RC(tdl_fd_wait_readable(r), 0);
    tdl_fd_free(r);
    tdl_fd_free(w);
}

TEST_G(fifo, "D35 a FIFO is read like a pipe, and ends when its writers are gone") {
    char   path[64];
    tdl_fd *r;
    char    buf[8];
    snprintf(path, sizeof path, "/tmp/treadle-fifo-%d", (int)getpid());
    unlink(path);
    REQUIRE(mkfifo(path, 0600) == 0);
    r = adopt(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    int w = open(path, O_WRONLY | O_CLOEXEC);
    CHECK_INT(write(w, "fifo", 4), 4);
    CHECK_RC(tdl_fd_read(r, buf, sizeof buf), 4);
    close(w);
    CHECK_RC(tdl_fd_read(r, buf, sizeof buf), 0);
    tdl_fd_free(r);
    unlink(path);
}

/* -- Everything else that can be polled ------------------------------------------------------- */

TEST_G(events, "D35 an eventfd wakes who waits for it") {
    tdl_fd  *f = adopt(eventfd(0, EFD_CLOEXEC));
    uint64_t v = 7, got = 0;
    crew     c;
    waiting  x = { .f = f, .rc = 99 };
    CHECK_RC(tdl_fd_wait_writable(f), 0);
    crew_open(&c);
    crew_go(&c, wait_for, &x);
    let_park();
    CHECK_RC(tdl_fd_write(f, &v, sizeof v), sizeof v);
    crew_close(&c);
    CHECK_RC(x.rc, 0);
    CHECK_RC(tdl_fd_read(f, &got, sizeof got), sizeof got);
    CHECK_INT(got, 7);
    tdl_fd_free(f);
}

TEST_G(timers, "D35 a timerfd is readable each time it expires") {
    tdl_fd           *f = adopt(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    struct itimerspec each = { { 0, 2 * MS }, { 0, 2 * MS } };
    REQUIRE(timerfd_settime(tdl_fd_number(f), 0, &each, NULL) == 0);
    for (uint64_t seen = 0, n; seen < 5; seen += n) {
        CHECK_RC(tdl_fd_read(f, &n, sizeof n), sizeof n);
        CHECK(n >= 1);
    }
    tdl_fd_free(f);
}

TEST(signals, "D35 a signalfd brings the signal") {
    sigset_t                set, old;
    struct signalfd_siginfo info;
    tdl_fd                 *f = NULL;
    check_keeps_fds();
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    CHECK_RC(tdl_fd_adopt(fd, &f), 0);
    tdl_fd_set_read_deadline(f, tdl_now() + 5 * MS);
    CHECK_RC(tdl_fd_wait_readable(f), TDL_ETIMEDOUT);
    tdl_fd_set_read_deadline(f, tdl_now() + LATE);
    kill(getpid(), SIGUSR1); /* every other thread blocks it, too */
    CHECK_RC(tdl_fd_wait_readable(f), 0);
    CHECK_INT(tdl_fd_read(f, &info, sizeof info), sizeof info);
    CHECK_INT(info.ssi_signo, SIGUSR1);
    tdl_fd_free(f);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

TEST_G(processes, "D35 a pidfd is readable when the process has ended") {
    int   hold[2];
    pid_t pid;
    REQUIRE(pipe2(hold, O_CLOEXEC) == 0);
    if ((pid = fork()) == 0) {
        char byte;
        close(hold[1]);
        _exit(read(hold[0], &byte, 1) == 0 ? 7 : 1);
    }
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd >= 0) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        tdl_fd *f = adopt(fd);
        tdl_fd_set_read_deadline(f, tdl_now() + 5 * MS);
        CHECK_RC(tdl_fd_wait_readable(f), TDL_ETIMEDOUT);
        tdl_fd_set_read_deadline(f, tdl_now() + LATE);
        close(hold[1]);
        CHECK_RC(tdl_fd_wait_readable(f), 0);
        tdl_fd_free(f);
    } else {
        close(hold[1]);
    }
    close(hold[0]);
    int status = 0;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(WEXITSTATUS(status), 7);
}

TEST_G(netlink, "D35 netlink answers: the interfaces are listed") {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) {
        check_skip("no netlink");
        return;
    }
    tdl_fd *f = adopt(fd);
    struct {
        struct nlmsghdr  h;
        struct ifinfomsg i;
    } ask = { .h = { .nlmsg_len = sizeof ask, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = 1 } };
    char buf[32768];
    CHECK_RC(tdl_fd_write(f, &ask, sizeof ask), sizeof ask);
    int64_t n = tdl_fd_read(f, buf, sizeof buf);
    CHECK(n >= (int64_t)sizeof(struct nlmsghdr));
    if (n > 0) {
        struct nlmsghdr *h = (struct nlmsghdr *)(void *)buf;
        CHECK(h->nlmsg_type == RTM_NEWLINK || h->nlmsg_type == NLMSG_DONE);
    }
    tdl_fd_free(f);
}

TEST_G(terminal, "D35 a terminal is read line by line") {
    int master, slave;
    REQUIRE(openpty(&master, &slave, NULL, NULL, NULL) == 0);
    fcntl(master, F_SETFD, FD_CLOEXEC);
    tdl_fd *m = adopt(master), *s = adopt(slave);
    char    buf[64];
    CHECK_RC(tdl_fd_write(m, "half", 4), 4);
    tdl_fd_set_read_deadline(s, tdl_now() + 10 * MS);
    CHECK_RC(tdl_fd_read(s, buf, sizeof buf), TDL_ETIMEDOUT);
    tdl_fd_set_read_deadline(s, 0);
    CHECK_RC(tdl_fd_write(m, " a line\n", 8), 8);
    CHECK_RC(tdl_fd_read(s, buf, sizeof buf), 12);
    CHECK(memcmp(buf, "half a line\n", 12) == 0);
    tdl_fd_free(s);
    tdl_fd_free(m);
}

/* -- What cannot be polled, and misuse ------------------------------------------------------------- */

TEST_G(not_pollable, "D35 a regular file and a directory cannot be polled, and stay the caller's") {
    char path[] = "/tmp/treadle-file-XXXXXX", byte;
    int  fd = mkstemp(path), dir = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    tdl_fd   *f = NULL;
    tdl_conn *c = NULL;
    unlink(path);
    CHECK_RC(tdl_fd_adopt(fd, &f), TDL_ENOPOLL);
    CHECK_RC(tdl_fd_dup(fd, &f), TDL_ENOPOLL);
    CHECK_RC(tdl_conn_adopt(fd, &c), TDL_ENOPOLL);
    CHECK_RC(tdl_fd_adopt(dir, &f), TDL_ENOPOLL);
    CHECK(f == NULL && c == NULL);
    CHECK(strstr(tdl_strerror(TDL_ENOPOLL), "cannot be polled") != NULL);
    CHECK(!(fcntl(fd, F_GETFL) & O_NONBLOCK)); /* as it was */
    CHECK_INT(write(fd, "x", 1), 1);
    CHECK_INT(pread(fd, &byte, 1, 0), 1);
    close(fd);
    close(dir);
}

TEST_G(misuse, "F5 bad descriptors and bad arguments are refused") {
    tdl_fd       *f = NULL, *again = NULL;
    tdl_conn     *c = NULL;
    tdl_listener *l = NULL;
    char          byte;
    CHECK_RC(tdl_fd_adopt(-1, &f), -EBADF);
    CHECK_RC(tdl_fd_adopt(123456, &f), -EBADF);
    CHECK_RC(tdl_fd_dup(-1, &f), -EBADF);
    CHECK_RC(tdl_conn_adopt(-1, &c), -EBADF);
    CHECK_RC(tdl_listener_adopt(-1, &l), -EBADF);
    CHECK_RC(tdl_listener_adopt(0, &l) < 0, 1);
    CHECK_RC(tdl_fd_adopt(0, NULL), TDL_EINVAL);
    CHECK_RC(tdl_fd_dup(0, NULL), TDL_EINVAL);
    CHECK_RC(tdl_conn_adopt(0, NULL), TDL_EINVAL);
    CHECK(f == NULL && c == NULL && l == NULL);
    CHECK_RC(tdl_fd_wait_readable(NULL), TDL_EINVAL);
    CHECK_RC(tdl_fd_wait_writable(NULL), TDL_EINVAL);
    CHECK_RC(tdl_fd_read(NULL, &byte, 1), TDL_EINVAL);
    CHECK_RC(tdl_fd_write(NULL, &byte, 1), TDL_EINVAL);
    CHECK_RC(tdl_fd_release(NULL), TDL_EINVAL);
    CHECK_RC(tdl_fd_close(NULL), TDL_EINVAL);
    CHECK_RC(tdl_fd_number(NULL), TDL_EINVAL);
    tdl_fd_free(NULL);
    f = adopt(eventfd(0, EFD_CLOEXEC));
    int rc = tdl_fd_adopt(tdl_fd_number(f), &again); /* another P's poller would take it */
    CHECK(rc == -EEXIST || rc == 0);
    if (rc == 0) {
        CHECK(tdl_fd_release(again) >= 0);
        tdl_fd_free(again);
    }
    CHECK_RC(tdl_fd_read(f, NULL, 1), TDL_EINVAL);
    tdl_fd_free(f);
}

TEST_G(behind_our_back, "F5 a descriptor that was closed behind our back is an error, and can be given up") {
    int p[2];
    REQUIRE(pipe2(p, O_CLOEXEC) == 0);
    tdl_fd *f = adopt(p[0]);
    char    byte;
    close(p[0]);
    CHECK_RC(tdl_fd_wait_readable(f), -EBADF);
    CHECK_RC(tdl_fd_read(f, &byte, 1), -EBADF);
    CHECK_RC(tdl_fd_close(f), 0);
    tdl_fd_free(f);
    close(p[1]);
}

/* Until the dump says that a goroutine waits so. */
static void until_waits(const char *reason) {
    static char text[65536];
    for (int i = 0; i < 2000; i++) {
        FILE *file = tmpfile();
        REQUIRE(file != NULL);
        CHECK_RC(tdl_dump(fileno(file)), 0);
        rewind(file);
        text[fread(text, 1, sizeof text - 1, file)] = 0;
        fclose(file);
        if (strstr(text, reason)) return;
        tdl_sleep(MS);
    }
    CHECK(!"a goroutine that waits");
}

/* -- Dup and release ----------------------------------------------------------------------------------- */

TEST_G(duplicates, "D33 a duplicate is a descriptor of its own, and closing it leaves the original") {
    int     p[2];
    tdl_fd *f = NULL;
    char    buf[4];
    REQUIRE(pipe2(p, O_CLOEXEC) == 0);
    CHECK_RC(tdl_fd_dup(p[0], &f), 0);
    CHECK(tdl_fd_number(f) != p[0]);
    CHECK(fcntl(tdl_fd_number(f), F_GETFD) & FD_CLOEXEC);
    CHECK_INT(write(p[1], "ab", 2), 2);
    CHECK_RC(tdl_fd_read(f, buf, 1), 1);
    tdl_fd_free(f);
    CHECK_INT(read(p[0], buf, 1), 1);
    close(p[0]);
    close(p[1]);
}

TEST_G(released, "D33 a released descriptor is the caller's again, in the mode it had; one in use is busy") {
    for (int blocking = 0; blocking < 2; blocking++) {
        int     p[2];
        char    byte;
        REQUIRE(pipe2(p, O_CLOEXEC | (blocking ? 0 : O_NONBLOCK)) == 0);
        tdl_fd *f = adopt(p[0]);
        CHECK(fcntl(p[0], F_GETFL) & O_NONBLOCK);
        waiting x = { .f = f, .rc = 99 };
        tdl_g  *g = go_joinable(wait_for, &x);
        until_waits("IO wait (readable)");
        CHECK_RC(tdl_fd_release(f), TDL_EBUSY);
        CHECK_RC(tdl_cancel(g), 0);
        CHECK_RC(tdl_join(g), 0);
        CHECK_RC(tdl_fd_release(f), p[0]);
        CHECK_RC(tdl_fd_release(f), TDL_ECLOSED);
        CHECK_RC(tdl_fd_number(f), TDL_ECLOSED);
        CHECK_INT(!(fcntl(p[0], F_GETFL) & O_NONBLOCK), blocking);
        CHECK_INT(write(p[1], "x", 1), 1);
        CHECK_INT(read(p[0], &byte, 1), 1);
        tdl_fd_free(f);
        f = adopt(p[0]); /* and once more */
        CHECK_INT(write(p[1], "y", 1), 1);
        CHECK_RC(tdl_fd_read(f, &byte, 1), 1);
        tdl_fd_free(f);
        close(p[1]);
    }
}

/* -- Streams of any descriptor ------------------------------------------------------------------------------ */

TEST_G(pipe_as_stream, "D33 a pipe can be a connection, with lines, deadlines and the end of the stream") {
    int       p[2];
    tdl_conn *r = NULL, *w = NULL;
    char      buf[8];
    REQUIRE(pipe2(p, O_CLOEXEC) == 0);
    CHECK_RC(tdl_conn_adopt(p[0], &r), 0);
    CHECK_RC(tdl_conn_adopt(p[1], &w), 0);
    CHECK_RC(tdl_conn_write(w, "one\ntwo", 7), 7);
    CHECK_RC(tdl_conn_fill(r, TDL_FILL_LINE, 100), 4);
    CHECK_RC(tdl_conn_release(r), TDL_EBUSY); /* held, and with bytes in its buffer */
    CHECK_RC(tdl_conn_skip(r, 4), 0);
    CHECK_RC(tdl_conn_release(r), TDL_EBUSY);
    tdl_conn_set_read_deadline(r, tdl_now() + 5 * MS);
    CHECK_RC(tdl_conn_fill(r, TDL_FILL_LINE, 100), TDL_ETIMEDOUT);
    CHECK_RC(tdl_conn_skip(r, 0), 0);
    tdl_conn_set_read_deadline(r, 0);
    CHECK_RC(tdl_conn_close(w), 0);
    CHECK_RC(tdl_conn_fill(r, TDL_FILL_LINE, 100), 3);
    CHECK_RC(tdl_conn_skip(r, 3), 0);
    CHECK_RC(tdl_conn_read(r, buf, sizeof buf), 0);
    CHECK(tdl_conn_peername(r, buf, sizeof buf) < 0);
    int fd = tdl_conn_release(r);
    CHECK_INT(fd, p[0]);
    close(fd);
    tdl_conn_free(r);
    tdl_conn_free(w);
}

TEST_G(socket_as_stream, "D33 a connected socket of the user's is a connection, TCP or unix; others are refused") {
    int       fd[2];
    char      buf[8];
    tdl_conn *c = NULL;
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
    CHECK_RC(tdl_conn_adopt(fd[0], &c), 0);
    CHECK_INT(write(fd[1], "hello", 5), 5);
    CHECK_RC(tdl_conn_read(c, buf, sizeof buf), 5);
    int n = 1, in[1];
    CHECK_RC(tdl_conn_send_fds(c, "x", 1, &fd[1], 1), 1);
    (void)in;
    (void)n;
    CHECK_INT(read(fd[1], buf, 1), 1);
    tdl_conn_free(c);
    close(fd[1]);
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fd) == 0);
    CHECK_RC(tdl_conn_adopt(fd[0], &c), TDL_EINVAL);
    close(fd[0]);
    close(fd[1]);
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen("tcp", address), *second = NULL;
    tdl_conn     *a = NULL, *b = NULL;
    int           copy = fcntl(tdl_listener_fd(l), F_DUPFD_CLOEXEC, 0);
    CHECK_RC(tdl_conn_adopt(copy, &c), TDL_EINVAL); /* it listens */
    CHECK_RC(tdl_listener_adopt(copy, &second), 0);
    tdl_listener_free(l);
    CHECK_RC(tdl_dial("tcp", address, 0, &a), 0);
    CHECK_RC(tdl_listener_accept(second, &b), 0);
    CHECK_INT(tdl_conn_option(b, TDL_NODELAY), 1);
    int mine = tdl_conn_release(b);
    CHECK(mine >= 0);
    tdl_conn_free(b);
    CHECK_RC(tdl_conn_adopt(mine, &b), 0);
    CHECK_RC(tdl_conn_write(b, "again", 5), 5);
    net_read_full(a, buf, 5);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_listener_free(second);
}

typedef struct racing {
    tdl_conn  *c;
    atomic_int stop;
} racing;

static void ask_for_fd(void *arg) {
    racing *r = arg;
    while (!atomic_load(&r->stop)) {
        int fd = tdl_conn_fd(r->c);
        CHECK(fd >= 0 || fd == TDL_ECLOSED);
        tdl_yield();
    }
}

TEST_G(close_races_release, "D33 of a close and a release at the same time exactly one has it") {
    for (int i = 0; i < SCALE(200); i++) {
        tdl_conn *a, *b;
        crew      c;
        net_pair("unix", &a, &b);
        if (tdl_conn_fd(a) < 0) return;
        racing r = { a, 0 };
        crew_open(&c);
        crew_go(&c, ask_for_fd, &r);
        tdl_yield();
        int fd = tdl_conn_release(a);
        int rc = tdl_conn_close(a);
        CHECK(fd >= 0 ? rc == TDL_ECLOSED : fd == TDL_EBUSY && rc == 0);
        atomic_store(&r.stop, 1);
        crew_close(&c);
        if (fd >= 0) close(fd);
        tdl_conn_free(a);
        tdl_conn_free(b);
    }
}

/* -- Hosts ------------------------------------------------------------------------------------------------------ */

typedef struct relay {
    tdl_fd *r, *w;
    char    buf[4]; /* one write's, however many there are */
    int     rounds;
} relay;

static int actor_reads(actor *a, int result) {
    relay *x = a->data;
    switch (a->state) {
    case 1:
        CHECK_RC(result, 0);
        a->state = 2;
        return tdl_fd_read_start(a->host, a->task, x->r, x->buf, sizeof x->buf);
    case 2:
        CHECK_RC(result, 4);
        if (--x->rounds == 0) return ACTOR_DONE; /* fall through */
    }
    a->state = 1;
    return tdl_fd_wait_start(a->host, a->task, x->r, TDL_READABLE);
}

static int actor_writes(actor *a, int result) {
    relay *x = a->data;
    if (a->state++ > 0) CHECK_RC(result, a->state % 2 ? 0 : 4);
    if (a->n++ == 20) return ACTOR_DONE;
    if (a->n % 2) return tdl_fd_write_start(a->host, a->task, x->w, "four", 4);
    return tdl_sleep_start(a->host, a->task, MS);
}

TEST(on_host, "H11 tasks wait for, read and write descriptors") {
    stage s;
    relay x = { .rounds = 10 };
    stage_open(&s, "fds");
    pipe_pair(&x.r, &x.w);
    stage_spawn(&s, actor_reads, &x);
    stage_spawn(&s, actor_writes, &x);
    stage_run(&s);
    uint32_t t = (uint32_t)tdl_task_new(s.host, 0);
    CHECK_RC(tdl_fd_wait_start(s.host, t, x.r, 0), TDL_EINVAL);
    CHECK_RC(tdl_fd_wait_start(s.host, t, x.r, TDL_READABLE | TDL_WRITABLE), TDL_EINVAL);
    CHECK_RC(tdl_fd_wait_start(s.host, t, NULL, TDL_READABLE), TDL_EINVAL);
    CHECK_RC(tdl_fd_wait_start(s.host, t, x.w, TDL_WRITABLE), 0);
    CHECK_RC(tdl_fd_wait_readable(x.r), TDL_EHOST);
    CHECK_RC(tdl_task_free(s.host, t), 0);
    tdl_fd_free(x.r);
    tdl_fd_free(x.w);
    stage_close(&s);
}
