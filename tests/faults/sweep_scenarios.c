/* SPDX-License-Identifier: MIT
 * The scenarios: small programs that look at every result, and give up what
 * depends on one that failed. None waits for more than WAIT. */
#include "sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <treadle.h>
#include <unistd.h>

told sweep_told;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int64_t saw(int64_t rc) {
    if (rc >= 0 || rc == TDL_ECLOSED) return rc;
    pthread_mutex_lock(&lock);
    if (sweep_told.n < 64) sweep_told.codes[sweep_told.n++] = (int)rc;
    pthread_mutex_unlock(&lock);
    return rc;
}

void *got(void *p) {
    if (!p) saw(TDL_ENOMEM);
    return p;
}

void is_done(void) { sweep_told.done = true; }

int64_t soon(void) { return tdl_now() + WAIT; }

/* Nobody may be left; an error is noted, and it is waited again. */
static bool all_gone(tdl_waitgroup *wg) {
    while (saw(tdl_waitgroup_wait_until(wg, soon())) != 0)
        if (sweep_told.n > 20) return false;
    return true;
}

/* -- Streams --------------------------------------------------------------------------- */

/* Serves one connection; an accept that fails is tried again, as a server does. */
static void serve(void *arg) {
    server   *s = arg;
    tdl_conn *c = NULL;
    int64_t   n = -1;
    for (int i = 0; i < 3 && n < 0 && n != TDL_ECLOSED; i++) n = saw(tdl_listener_accept(s->l, &c));
    if (c) {
        tdl_conn_set_deadline(c, soon());
        s->fn(s, c);
        tdl_conn_free(c);
    }
    tdl_waitgroup_done(s->gone);
}

static void echoes(server *s, tdl_conn *c) {
    char    buf[256];
    int64_t n;
    (void)s;
    while ((n = saw(tdl_conn_read(c, buf, sizeof buf))) > 0)
        if (saw(tdl_conn_write(c, buf, (size_t)n)) < 0) break;
}

bool server_open(server *s, const char *network, const char *address, void (*fn)(server *s, tdl_conn *c), void *arg) {
    tdl_g *g;
    memset(s, 0, sizeof *s);
    s->fn = fn;
    s->arg = arg;
    if (!(s->gone = got(tdl_waitgroup_new())) || saw(tdl_listen(network, address, &s->l)) < 0) return false;
    tdl_listener_set_deadline(s->l, soon());
    if (saw(tdl_listener_address(s->l, s->address, sizeof s->address)) < 0) return false;
    tdl_waitgroup_add(s->gone, 1);
    if (saw(tdl_spawn(&g, serve, s, NULL)) == 0) return true;
    tdl_waitgroup_done(s->gone);
    return false;
}

void server_close(server *s) {
    if (s->l) tdl_listener_close(s->l);
    if (s->gone) all_gone(s->gone);
    tdl_listener_free(s->l);
    tdl_waitgroup_free(s->gone);
}

static bool talk(tdl_conn *c) {
    char line[64];
    tdl_conn_set_deadline(c, soon());
    for (int i = 0; i < 20; i++) {
        int n = snprintf(line, sizeof line, "message number %d\n", i);
        tdl_iovec parts[2] = { { line, 7 }, { line + 7, (size_t)n - 7 } };
        if (saw(i % 2 ? tdl_conn_writev(c, parts, 2) : tdl_conn_write(c, line, (size_t)n)) < 0) return false;
        int64_t have = tdl_conn_fill(c, TDL_FILL_LINE, 100);
        if (saw(have) < 0) return false;
        bool same = have == n && memcmp(tdl_conn_peek(c, NULL), line, (size_t)n) == 0;
        saw(tdl_conn_skip(c, have > 0 ? (size_t)have : 0));
        if (!same) return false;
    }
    return saw(tdl_conn_close_write(c)) == 0 && saw(tdl_conn_read(c, line, sizeof line)) == 0;
}

static int echo(void *arg) {
    server    s;
    tdl_conn *c = NULL;
    (void)arg;
    if (server_open(&s, "tcp", "127.0.0.1:0", echoes, NULL) && saw(tdl_dial("tcp", s.address, WAIT, &c)) == 0 && talk(c)) is_done();
    tdl_conn_free(c);
    server_close(&s);
    return 0;
}

/* A socket that is bound and does not listen: its port refuses, as long as it is there. */
static int refusing(tdl_addr *a) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t          n = sizeof at;
    int                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, n) < 0 || getsockname(fd, (struct sockaddr *)&at, &n) < 0) abort();
    *a = (tdl_addr){ .length = n };
    memcpy(a->sockaddr, &at, n);
    return fd;
}

/* POSIX alone has neither of these. */
static int64_t peercred(tdl_conn *c) {
#ifdef TDL_PORTABLE
    (void)c;
    return 0;
#else
    int64_t pid;
    return saw(tdl_conn_peercred(c, &pid, NULL, NULL));
#endif
}

static int64_t tcp_info(tdl_conn *c, tdl_tcp_info *info) {
#ifdef TDL_PORTABLE
    (void)c;
    (void)info;
    return 0;
#else
    return saw(tdl_conn_tcp_info(c, info));
#endif
}

/* A list of addresses of which the first refuses; and all that can be asked of a connection. */
static int dial(void *arg) {
    server           s;
    tdl_conn        *c = NULL;
    tdl_addr         to[2];
    char             name[128];
    tdl_tcp_info     info = { .size = sizeof info };
    tdl_dial_options o = { .size = sizeof o, .timeout = WAIT, .local = "127.0.0.1:0" };
    int              nobody = refusing(&to[0]);
    (void)arg;
    if (!server_open(&s, "tcp", "127.0.0.1:0", echoes, NULL) || saw(tdl_listener_addr(s.l, &to[1])) < 0) goto out;
    if (saw(tdl_dial_list("tcp", to, 2, &o, &c)) < 0) goto out;
    if (saw(tdl_conn_peername(c, name, sizeof name)) > 0 && saw(tdl_conn_sockname(c, name, sizeof name)) > 0 &&
        tcp_info(c, &info) == 0 && saw(tdl_conn_set_option(c, TDL_KEEPALIVE, 30 * TDL_SECOND)) == 0 &&
        saw(tdl_conn_option(c, TDL_KEEPALIVE)) > 0 && talk(c))
        is_done();
out:
    tdl_conn_free(c);
    close(nobody);
    server_close(&s);
    return 0;
}

/* -- Unix ---------------------------------------------------------------------------------- */

enum { PASSED = 6, BLOCK = 400000 };

/* The reading end of a pipe in which a letter lies. */
static int letter(char c) {
    int p[2];
    if (pipe2(p, O_CLOEXEC) != 0 || write(p[1], &c, 1) != 1) abort();
    close(p[1]);
    return p[0];
}

static void passes(server *s, tdl_conn *c) {
    static char block[BLOCK];
    bool        ok = true;
    (void)s;
    for (int i = 0; i < PASSED && ok; i++) {
        int fds[2] = { letter((char)('a' + i)), letter((char)('A' + i)) };
        ok = saw(tdl_conn_send_fds(c, "fds", 3, fds, 2)) > 0;
        close(fds[0]);
        close(fds[1]);
    }
    if (ok) saw(tdl_conn_write(c, block, BLOCK));
}

/* All that is left of it, and whether that was the letter. */
static bool holds(int fd, char c) {
    char is = 0;
    bool ok = read(fd, &is, 1) == 1 && is == c;
    close(fd);
    return ok;
}

static int unix_fds(void *arg) {
    server    s = { 0 };
    tdl_conn *c = NULL;
    char      path[64], buf[4096];
    int64_t   got_bytes = 0, r;
    (void)arg;
    snprintf(path, sizeof path, "/tmp/treadle-sweep-%d", (int)getpid());
    if (!server_open(&s, "unix", path, passes, NULL)) goto out;
    if (saw(tdl_dial("unix", path, WAIT, &c)) < 0) goto out;
    tdl_conn_set_deadline(c, soon());
    if (peercred(c) < 0) goto out;
    for (int i = 0; i < PASSED; i++) {
        int in[4], n = 4;
        if ((r = saw(tdl_conn_recv_fds(c, buf, 3, in, &n))) <= 0) goto out; /* 0: the server has said why */
        bool right = n == 2;
        for (int k = 0; k < n; k++) right &= holds(in[k], (char)((k ? 'A' : 'a') + i));
        if (!right) saw(TDL_EINVAL);
    }
    while ((r = saw(tdl_conn_read(c, buf, sizeof buf))) > 0) got_bytes += r;
    if (r == 0 && got_bytes == BLOCK) is_done();
out:
    tdl_conn_free(c);
    server_close(&s);
    unlink(path);
    return 0;
}

/* -- Datagrams ------------------------------------------------------------------------------- */

/* Eight at once, each of which comes once, whole and in order. */
static bool batch(tdl_dgram *a, tdl_dgram *b, const tdl_addr *to, int round) {
    tdl_packet packets[8];
    char       out[8], in[8][4];
    int        sent = 0, received = 0, n;
    for (int i = 0; i < 8; i++) {
        out[i] = (char)(round * 8 + i);
        packets[i] = (tdl_packet){ .data = &out[i], .size = 1, .addr = (tdl_addr *)(uintptr_t)to };
    }
    while (sent < 8) {
        if ((n = (int)saw(tdl_dgram_send_batch(a, packets + sent, 8 - sent))) < 0) return false;
        sent += n;
    }
    while (received < 8) {
        for (int i = 0; i < 8; i++) packets[i] = (tdl_packet){ .data = in[i], .size = 4 };
        if ((n = (int)saw(tdl_dgram_recv_batch(b, packets, 8))) < 0) return false;
        for (int i = 0; i < n; i++, received++)
            if (received == 8 || packets[i].n != 1 || in[i][0] != out[received]) saw(TDL_EINVAL);
    }
    return true;
}

static bool datagrams_on(const char *network, const char *address) {
    tdl_dgram *a = NULL, *b = NULL;
    tdl_addr   to;
    char       buf[64];
    bool       ok = false;
    if (saw(tdl_dgram_listen(network, address, &a)) < 0 || saw(tdl_dgram_listen(network, address, &b)) < 0) goto out;
    if (saw(tdl_dgram_sockaddr(b, &to)) < 0) goto out;
    tdl_dgram_set_deadline(a, soon());
    tdl_dgram_set_deadline(b, soon());
    for (int i = 0; i < 4; i++) {
        if (saw(tdl_dgram_sendto(a, "datagram", 8, &to)) < 0) goto out;
        if (saw(tdl_dgram_recv(b, buf, sizeof buf)) < 0) goto out;
    }
    for (int round = 0; round < 12; round++)
        if (!batch(a, b, &to, round)) goto out;
    ok = true;
out:
    tdl_dgram_free(a);
    tdl_dgram_free(b);
    return ok;
}

static int datagrams(void *arg) {
    (void)arg;
    bool udp = datagrams_on("udp", "127.0.0.1:0"), local = datagrams_on("unixgram", "@");
    if (udp && local) is_done();
    return 0;
}

/* -- No descriptors ---------------------------------------------------------------------------- */

static void beat(void *arg) { tdl_chan_close(arg); }

static int timers(void *arg) {
    tdl_chan  *ch = got(tdl_chan_new(1));
    tdl_timer *t = got(tdl_timer_new(tdl_now() + 100000, 100000)), *f = NULL;
    tdl_val    v;
    (void)arg;
    if (!ch || !t) goto out;
    for (int i = 0; i < 3; i++) {
        if (saw(tdl_sleep(100000)) < 0) goto out;
        if (saw(tdl_chan_recv_until(tdl_timer_chan(t), &v, soon())) < 0) goto out;
    }
    int rc = tdl_chan_recv_until(ch, &v, tdl_now() + 200000);
    if (rc != TDL_ETIMEDOUT) {
        saw(rc);
        goto out;
    }
    if (!(f = got(tdl_timer_func(tdl_now() + 100000, 0, beat, ch)))) goto out;
    rc = tdl_chan_recv_until(ch, &v, soon());
    if (rc == TDL_ECLOSED) is_done();
    saw(rc);
out:
    tdl_timer_free(f);
    tdl_timer_free(t);
    tdl_chan_free(ch);
    return 0;
}

static struct {
    tdl_waitgroup *all;
    tdl_mutex     *m;
    int            n;
} crowd;

static void one_of_many(void *arg) {
    (void)arg;
    if (saw(tdl_mutex_lock_until(crowd.m, soon())) == 0) {
        crowd.n++;
        tdl_yield();
        tdl_mutex_unlock(crowd.m);
    }
    tdl_block_begin(TDL_BLOCK_LONG);
    tdl_block_end();
    tdl_waitgroup_done(crowd.all);
}

static int spawning(void *arg) {
    tdl_go_options big = { .size = sizeof big, .stack = 256 * 1024 };
    int            n = 0;
    (void)arg;
    crowd.n = 0;
    crowd.all = got(tdl_waitgroup_new());
    crowd.m = got(tdl_mutex_new());
    for (int i = 0; i < 40 && crowd.all && crowd.m; i++) {
        tdl_waitgroup_add(crowd.all, 1);
        if (saw(tdl_spawn(NULL, one_of_many, NULL, i % 8 ? NULL : &big)) == 0)
            n++;
        else
            tdl_waitgroup_done(crowd.all);
    }
    if (crowd.all && all_gone(crowd.all) && n == 40 && crowd.n == 40) is_done();
    tdl_mutex_free(crowd.m);
    tdl_waitgroup_free(crowd.all);
    return 0;
}

/* -- Pipes ---------------------------------------------------------------------------------------- */

static bool in_memory(void) {
    tdl_conn *a = NULL, *b = NULL;
    char      buf[64];
    bool      ok = false;
    if (saw(tdl_pipe_new(100, &a, &b)) < 0) return false;
    tdl_conn_set_deadline(a, soon());
    tdl_conn_set_deadline(b, soon());
    if (saw(tdl_conn_write(a, "to the other end", 16)) == 16 && saw(tdl_conn_fill(b, TDL_FILL_EXACT, 16)) == 16 &&
        saw(tdl_conn_skip(b, 16)) == 0 && saw(tdl_conn_close_write(a)) == 0)
        ok = saw(tdl_conn_read(b, buf, sizeof buf)) == 0;
    tdl_conn_free(a);
    tdl_conn_free(b);
    return ok;
}

static bool through_the_kernel(void) {
    tdl_fd *r = NULL, *w = NULL, *d = NULL;
    char    buf[64];
    int     p[2];
    bool    ok = false;
    if (pipe2(p, O_CLOEXEC) != 0) return false;
    if (saw(tdl_fd_adopt(p[0], &r)) < 0) close(p[0]);
    if (saw(tdl_fd_adopt(p[1], &w)) < 0) close(p[1]);
    if (r && w && saw(tdl_fd_dup(p[1], &d)) == 0) {
        tdl_fd_set_deadline(r, soon());
        tdl_fd_set_deadline(w, soon());
        tdl_fd_set_deadline(d, soon());
        ok = saw(tdl_fd_wait_writable(w)) == 0 && saw(tdl_fd_write(w, "one", 3)) == 3 &&
             saw(tdl_fd_write(d, "two", 3)) == 3 && saw(tdl_fd_wait_readable(r)) == 0 &&
             saw(tdl_fd_read(r, buf, 6)) == 6;
    }
    tdl_fd_free(r);
    tdl_fd_free(w);
    tdl_fd_free(d);
    return ok;
}

/* A list of pieces, from a connection that is a pipe. */
static bool in_pieces(void) {
    tdl_conn *r = NULL, *w = NULL;
    tdl_iovec parts[2] = { { "one", 3 }, { "two", 3 } };
    int       p[2];
    bool      ok = false;
    if (pipe2(p, O_CLOEXEC) != 0) return false;
    if (saw(tdl_conn_adopt(p[0], &r)) < 0) close(p[0]);
    if (saw(tdl_conn_adopt(p[1], &w)) < 0) close(p[1]);
    if (r && w) {
        tdl_conn_set_deadline(r, soon());
        tdl_conn_set_deadline(w, soon());
        ok = saw(tdl_conn_writev(w, parts, 2)) == 6 && saw(tdl_conn_fill(r, TDL_FILL_EXACT, 6)) == 6 &&
             saw(tdl_conn_skip(r, 6)) == 0;
    }
    tdl_conn_free(r);
    tdl_conn_free(w);
    return ok;
}

static int pipes(void *arg) {
    (void)arg;
    bool memory = in_memory(), kernel = through_the_kernel(), pieces = in_pieces();
    if (memory && kernel && pieces) is_done();
    return 0;
}

/* -- A host ------------------------------------------------------------------------------------------ */

static int finish(tdl_host *h, uint32_t task, int rc) {
    for (int64_t end = soon(); rc == TDL_PENDING && tdl_now() < end;) {
        tdl_event ev;
        int       n = tdl_host_poll(h, &ev, 1, TDL_SECOND);
        if (n < 0) return n;
        if (n == 1 && ev.task == task) return ev.result;
    }
    return rc == TDL_PENDING ? TDL_ETIMEDOUT : rc;
}

static int host(void) {
    tdl_host     *h = NULL;
    tdl_listener *l = NULL;
    tdl_conn     *a = NULL, *b = NULL;
    char          address[64], buf[16];
    int           task, p[2] = { -1, -1 }, w = -1;
    if (saw(tdl_host_open("swept", &h)) < 0) return 0;
    if ((task = (int)saw(tdl_task_new(h, 0))) < 0) goto out;
    uint32_t t = (uint32_t)task;
    if (saw(finish(h, t, tdl_sleep_start(h, t, 100000))) < 0) goto out;
    if (saw(tdl_listen("tcp", "127.0.0.1:0", &l)) < 0) goto out;
    if (saw(tdl_listener_address(l, address, sizeof address)) < 0) goto out;
    if (saw(finish(h, t, tdl_dial_start(h, t, "tcp", address, WAIT))) < 0) goto out;
    a = tdl_val_ptr(&tdl_host_outcomes(h)[t].val);
    tdl_listener_set_deadline(l, soon());
    if (saw(finish(h, t, tdl_listener_accept_start(h, t, l))) < 0) goto out;
    b = tdl_val_ptr(&tdl_host_outcomes(h)[t].val);
    tdl_conn_set_deadline(a, soon());
    tdl_conn_set_deadline(b, soon());
    if (saw(finish(h, t, tdl_conn_write_start(h, t, a, "0123456789", 10))) != 10) goto out;
    if (saw(finish(h, t, tdl_conn_read_start(h, t, b, buf, 10))) != 10) goto out;
    if (pipe2(p, O_CLOEXEC | O_NONBLOCK) != 0) goto out;
    if ((w = (int)saw(tdl_host_watch(h, p[0], TDL_READABLE))) < 0 || write(p[1], "x", 1) != 1) goto out;
    tdl_event ev = { 0 };
    for (int i = 0; i < 5 && ev.task == 0; i++)
        if (saw(tdl_host_poll(h, &ev, 1, TDL_SECOND)) < 0) goto out;
    if (ev.task == (TDL_WATCHER | (uint32_t)w)) is_done();
out:
    if (w >= 0) tdl_host_unwatch(h, w);
    if (p[0] >= 0) close(p[0]), close(p[1]);
    tdl_listener_free(l);
    tdl_conn_free(a);
    tdl_conn_free(b);
    if (task >= 0) tdl_task_free(h, (uint32_t)task);
    return tdl_host_close(h);
}

/* -- All of them -------------------------------------------------------------------------------------- */

#define IN_RUN(name) \
    static int run_##name(void) { return tdl_run(name, NULL); }
IN_RUN(echo)
IN_RUN(dial)
IN_RUN(unix_fds)
IN_RUN(datagrams)
IN_RUN(timers)
IN_RUN(spawning)
IN_RUN(pipes)
IN_RUN(scenario_copying)
IN_RUN(scenario_sending)
IN_RUN(scenario_parked)
IN_RUN(scenario_asked)
IN_RUN(scenario_files)
IN_RUN(scenario_names)
IN_RUN(scenario_processes)
IN_RUN(scenario_signals)
IN_RUN(scenario_changes)
IN_RUN(scenario_terminal)

/* When all addresses of a list fail, the error is the first one's, and that refuses. */
const scenario sweep_scenarios[] = {
    { "echo", run_echo, 0 },
    { "dial", run_dial, -ECONNREFUSED },
    { "unix", run_unix_fds, 0 },
    { "datagrams", run_datagrams, 0 },
    { "timers", run_timers, 0 },
    { "spawning", run_spawning, 0 },
    { "pipes", run_pipes, 0 },
    { "host", host, 0 },
    { "copying", run_scenario_copying, 0 },
    { "sending", run_scenario_sending, 0 },
    { "parked", run_scenario_parked, 0 },
    { "asked", run_scenario_asked, 0 },
    { "files", run_scenario_files, 0 },
    { "names", run_scenario_names, 0 },
    { "processes", run_scenario_processes, 0 },
    { "signals", run_scenario_signals, 0 },
    { "changes", run_scenario_changes, 0 },
    { "terminal", run_scenario_terminal, 0 },
};
const int sweep_nscenarios = sizeof sweep_scenarios / sizeof *sweep_scenarios;
