/* SPDX-License-Identifier: MIT
 * Which back end the pollers have, and why; and what each of them must do in its
 * own way. The tests of the network are run on all of them besides (CMakeLists.txt). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include "net.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/sys.h"

static const char *const names[] = { "epoll", "uring", "uv" };

static int nothing(void *arg) { return arg != NULL; }

/* Does it work here? Nothing runs, and nothing is chosen afterwards. */
static int works(const char *name) {
    char strict[16];
    snprintf(strict, sizeof strict, "%s!", name);
    REQUIRE(tdl_set_netpoll(strict) == 0);
    int rc = tdl_run(nothing, NULL);
    REQUIRE(tdl_set_netpoll(NULL) == 0);
    return rc == 0;
}

/* What fn writes to standard error. */
static void with_stderr(void (*fn)(void), char *text, size_t size) {
    FILE *f = tmpfile();
    int   old = dup(2);
    REQUIRE(f && old >= 0);
    fflush(stderr);
    dup2(fileno(f), 2);
    fn();
    fflush(stderr);
    dup2(old, 2);
    close(old);
    rewind(f);
    size_t n = fread(text, 1, size - 1, f);
    text[n] = '\0';
    fclose(f);
}

/* -- Choosing ---------------------------------------------------------------------- */

static int sees_its_name(void *arg) {
    CHECK(strcmp(tdl_netpoll_name(), arg) == 0);
    CHECK_RC(tdl_set_netpoll("epoll"), TDL_EBUSY);
    return 0;
}

TEST(choice, "N1 each back end that works here is used when it is asked for, and says why") {
    char why[256];
    check_keeps_fds(); /* libuv has some of its own, for good */
    CHECK_RC(tdl_set_netpoll("kqueue"), TDL_EINVAL);
    CHECK_RC(tdl_set_netpoll("!"), TDL_EINVAL);
    CHECK_RC(tdl_netpoll_reason(NULL, 1), TDL_EINVAL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!works(names[i])) continue;
        CHECK_RC(tdl_set_netpoll(names[i]), 0);
        CHECK_RC(tdl_run(sees_its_name, (void *)(uintptr_t)names[i]), 0);
        CHECK(strcmp(tdl_netpoll_name(), names[i]) == 0);
        int n = tdl_netpoll_reason(why, sizeof why);
        CHECK(n > 0 && strstr(why, "tdl_set_netpoll"));
        CHECK_INT(tdl_netpoll_reason(why, 4), n);
        CHECK_INT(strlen(why), 3);
    }
    CHECK_RC(tdl_set_netpoll(NULL), 0);
}

TEST(choice_stands, "N1 the choice stands while a host is open") {
    tdl_host *h = NULL;
    CHECK_RC(tdl_host_open("open", &h), 0);
    CHECK_RC(tdl_set_netpoll("uv"), TDL_EBUSY);
    CHECK_RC(tdl_host_close(h), 0);
    CHECK_RC(tdl_set_netpoll("uv"), 0);
    CHECK(strcmp(tdl_netpoll_name(), "uv") == 0);
    CHECK_RC(tdl_set_netpoll(NULL), 0);
}

static int       outcome;
static tdl_host *opened;

static void run_and_open(void) {
    opened = NULL;
    outcome = tdl_run(nothing, NULL);
    if (outcome == 0) return;
    CHECK_RC(tdl_host_open("no", &opened), outcome);
    CHECK(opened == NULL);
    CHECK(tdl_go(NULL, NULL) == NULL);
    CHECK(strcmp(tdl_netpoll_name(), "none") == 0);
}

TEST(bad_variable, "N1 a wrong TDL_NETPOLL is told once, with what it can be, and nothing starts") {
    char        text[512], *old = getenv("TDL_NETPOLL");
    char        copy[64] = "";
    const char *told;
    if (old) snprintf(copy, sizeof copy, "%s", old);
    setenv("TDL_NETPOLL", "select", 1);
    CHECK_RC(tdl_set_netpoll(NULL), 0);
    with_stderr(run_and_open, text, sizeof text);
    CHECK_RC(outcome, TDL_EINVAL);
    CHECK((told = strstr(text, "TDL_NETPOLL is \"select\"")) && strstr(told, "epoll, uring or uv"));
    CHECK(told && !strstr(told + 1, "TDL_NETPOLL is"));
    CHECK_RC(tdl_set_netpoll("epoll"), 0); /* goes before it */
    CHECK_RC(tdl_run(nothing, NULL), 0);
    if (old)
        setenv("TDL_NETPOLL", copy, 1);
    else
        unsetenv("TDL_NETPOLL");
    CHECK_RC(tdl_set_netpoll(NULL), 0);
    CHECK_RC(tdl_run(nothing, NULL), 0);
}

/* -- Where it is forbidden ------------------------------------------------------------ */

static int setup_error;

static int no_setup(unsigned n, struct io_uring_params *p) {
    (void)n;
    (void)p;
    return setup_error;
}

TEST(falls_back, "N2 where the kernel has no io_uring or forbids it, epoll is used and a line says so; with ! the error comes back") {
    const struct {
        int         code;
        const char *says;
    } ways[] = { { -ENOSYS, "no io_uring" }, { -EPERM, "forb" }, { -ENOMEM, "ulimit -l" }, { -EINVAL, "older" },
                 { -EMFILE, strerror(EMFILE) } };
    char text[512], why[256];
    tdl_sys.uring_setup = no_setup;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        setup_error = ways[i].code;
        CHECK_RC(tdl_set_netpoll("uring"), 0);
        with_stderr(run_and_open, text, sizeof text);
        CHECK_RC(outcome, 0);
        CHECK(strcmp(tdl_netpoll_name(), "epoll") == 0);
        CHECK(strstr(text, ways[i].says) && strstr(text, "epoll is used instead"));
        tdl_netpoll_reason(why, sizeof why);
        CHECK(strstr(why, ways[i].says));
        CHECK_RC(tdl_set_netpoll("uring!"), 0);
        with_stderr(run_and_open, text, sizeof text);
        CHECK_RC(outcome, ways[i].code);
        CHECK(strstr(text, ways[i].says));
    }
    tdl_sys = tdl_sys_real;
    CHECK_RC(tdl_set_netpoll(NULL), 0);
}

/* For this thread and those that it starts. */
static int forbid_io_uring(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void *runs_forbidden(void *arg) {
    char  text[512];
    int  *filtered = arg;
    if (forbid_io_uring() != 0) return NULL;
    *filtered = 1;
    CHECK_RC(tdl_set_netpoll("uring"), 0);
    with_stderr(run_and_open, text, sizeof text);
    CHECK_RC(outcome, 0);
    CHECK(strstr(text, "io_uring_setup") && strstr(text, "epoll is used instead"));
    return NULL;
}

TEST(seccomp, "N2 a seccomp filter that forbids io_uring") {
    pthread_t t;
    int       filtered = 0;
    REQUIRE(pthread_create(&t, NULL, runs_forbidden, &filtered) == 0);
    pthread_join(t, NULL);
    CHECK_RC(tdl_set_netpoll(NULL), 0);
    if (!filtered) check_skip("seccomp filters are not to be had here");
}

/* -- What they must do ------------------------------------------------------------------- */

static tdl_listener *listener;
static char          address[ADDRESS_SIZE];
static tdl_conn     *second;

/* The system binds what a thread asks for to that thread. */
static void *dials_and_ends(void *arg) {
    tdl_conn *first = NULL;
    (void)arg;
    CHECK_RC(tdl_dial("tcp", address, TDL_SECOND * 10, &first), 0);
    CHECK_RC(tdl_dial("tcp", address, TDL_SECOND * 10, &second), 0);
    tdl_conn_free(first);
    return NULL;
}

static void answers(void *arg) {
    tdl_conn *a = NULL, *b = NULL;
    char      byte;
    (void)arg;
    CHECK_RC(tdl_listener_accept(listener, &a), 0);
    CHECK_RC(tdl_listener_accept(listener, &b), 0);
    CHECK_RC(tdl_conn_read(a, &byte, 1), 0); /* it was closed, and that shows */
    tdl_sleep(2 * TDL_MILLISECOND);
    CHECK_RC(tdl_conn_write(b, "x", 1), 1);
    CHECK_RC(tdl_conn_read(b, &byte, 1), 0);
    tdl_conn_free(a);
    tdl_conn_free(b);
}

static void outlive_a_thread(void) {
    pthread_t t;
    char      byte;
    tdl_g    *g = go_joinable(answers, NULL);
    REQUIRE(pthread_create(&t, NULL, dials_and_ends, NULL) == 0);
    tdl_block_begin(TDL_BLOCK_LONG);
    pthread_join(t, NULL);
    tdl_block_end();
    CHECK_RC(tdl_conn_read(second, &byte, 1), 1);
    tdl_conn_free(second);
    CHECK_RC(tdl_join(g), 0);
}

TEST_G(thread_ends, "N3 a connection goes on when the thread that made it has ended") {
    listener = net_listen("tcp", address);
    for (int i = 0; i < SCALE(30); i++) outlive_a_thread();
    tdl_listener_free(listener);
}

TEST_G(reuse, "N3 what is closed is gone at once for the peer, and its number can be used again") {
    for (int i = 0; i < SCALE(300); i++) {
        tdl_conn *c;
        char      byte;
        int       fd = net_half_pair(&c);
        if (i % 2) CHECK_INT(send(fd, "ab", 2, MSG_NOSIGNAL), 2);
        tdl_conn_set_read_deadline(c, tdl_now() + (i % 2 ? 10 * TDL_SECOND : 100 * TDL_MICROSECOND));
        int64_t n = tdl_conn_read(c, &byte, 1);
        if (i % 2) CHECK_RC(n, 1);
        tdl_conn_free(c);
        ssize_t got = recv(fd, &byte, 1, 0); /* blocks until then */
        CHECK(got == 0 || (got < 0 && errno == ECONNRESET)); /* a byte was left unread */
        close(fd);
    }
}

TEST(many_at_once, "N3 more descriptors that are ready at once than a back end has room for") {
    enum { MANY = 3000 };
    static int    fds[MANY], seen[MANY], watchers[MANY];
    tdl_event     ev[64];
    tdl_host     *h = NULL;
    struct rlimit limit;
    int           e = eventfd(1, EFD_CLOEXEC), found = 0;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < MANY + 200) {
        close(e);
        check_skip("too few descriptors");
        return;
    }
    CHECK_RC(tdl_host_open("many", &h), 0);
    for (int i = 0; i < MANY; i++) {
        REQUIRE((fds[i] = dup(e)) >= 0);
        watchers[i] = tdl_host_watch(h, fds[i], TDL_READABLE | (i % 2 ? TDL_EDGE : 0));
        CHECK(watchers[i] >= 0 && watchers[i] < 2 * MANY);
    }
    for (int round = 0; round < 20000 && found < MANY; round++) {
        int n = tdl_host_poll(h, ev, 64, 0);
        for (int k = 0; k < n; k++) {
            int i = (int)(ev[k].task & ~(uint32_t)TDL_WATCHER);
            while (i > 0 && (i >= MANY || TDL_WATCHER + (uint32_t)watchers[i] != ev[k].task)) i--;
            found += !seen[i]++;
            CHECK_RC(tdl_host_watch_modify(h, watchers[i], 0), 0);
        }
    }
    CHECK_INT(found, MANY);
    CHECK_RC(tdl_host_close(h), 0);
    for (int i = 0; i < MANY; i++) close(fds[i]);
    close(e);
}

TEST(all_have_turns, "N3 levels that stay are told of in turn, however many there are") {
    enum { MANY = 400 };
    int       fds[MANY], seen[MANY] = {0}, ids[MANY], found = 0;
    tdl_event ev[64];
    tdl_host *h = NULL;
    int       e = eventfd(1, EFD_CLOEXEC);
    CHECK_RC(tdl_host_open("turns", &h), 0);
    for (int i = 0; i < MANY; i++) {
        REQUIRE((fds[i] = dup(e)) >= 0);
        REQUIRE((ids[i] = tdl_host_watch(h, fds[i], TDL_READABLE)) >= 0);
    }
    for (int round = 0; round < 200 * MANY / 64 && found < MANY; round++) {
        int n = tdl_host_poll(h, ev, 64, 0);
        for (int k = 0; k < n; k++)
            for (int i = 0; i < MANY; i++)
                if (ev[k].task == (TDL_WATCHER | (uint32_t)ids[i])) found += !seen[i]++;
    }
    CHECK_INT(found, MANY);
    CHECK_RC(tdl_host_close(h), 0);
    for (int i = 0; i < MANY; i++) close(fds[i]);
    close(e);
}

TEST(closed_behind, "N3 descriptors that were closed behind the back of their watchers hurt nobody") {
    tdl_event ev[4];
    tdl_host *h = NULL;
    int       fd[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
    CHECK_RC(tdl_host_open("closed", &h), 0);
    int level = tdl_host_watch(h, fd[0], TDL_READABLE), edge = tdl_host_watch(h, fd[1], TDL_READABLE | TDL_EDGE);
    REQUIRE(level >= 0 && edge >= 0);
    close(fd[0]); /* before it was ever asked for */
    CHECK(tdl_host_poll(h, ev, 4, 0) >= 0);
    close(fd[1]);
    tdl_host_watch_want(h, edge, TDL_READABLE);
    tdl_host_watch_modify(h, level, TDL_READABLE | TDL_WRITABLE); /* as the back end has it */
    FILE *file = tmpfile();                                       /* one of their numbers, perhaps */
    CHECK(tdl_host_poll(h, ev, 4, 0) >= 0);
    CHECK_RC(tdl_host_unwatch(h, edge), 0);
    CHECK_RC(tdl_host_unwatch(h, level), 0);
    CHECK_RC(tdl_host_close(h), 0);
    if (file) fclose(file);
}

TEST_G(short_sleeps, "N4 short sleeps never end early, and what happens meanwhile is not missed") {
    tdl_conn *a, *b;
    net_pair("tcp", &a, &b);
    for (int i = 0; i < 200; i++) {
        char    byte;
        int64_t before = tdl_now();
        CHECK_RC(tdl_sleep(100 * TDL_MICROSECOND), 0);
        CHECK(tdl_now() - before >= 100 * TDL_MICROSECOND);
        tdl_conn_set_read_deadline(b, tdl_now() + 100 * TDL_MICROSECOND);
        int64_t n = tdl_conn_read(b, &byte, 1);
        CHECK_RC(n, TDL_ETIMEDOUT);
        CHECK_RC(tdl_conn_write(a, "x", 1), 1);
        tdl_conn_set_read_deadline(b, 0);
        CHECK_RC(tdl_conn_read(b, &byte, 1), 1);
    }
    tdl_conn_free(a);
    tdl_conn_free(b);
}
