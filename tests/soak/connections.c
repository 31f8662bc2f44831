/* SPDX-License-Identifier: MIT
 * Connections opened and closed with far too few descriptors: more clients at a
 * time than there is room for, on both sides. Everybody is served; descriptors
 * and memory come back; and out of descriptors nobody spins. */
#include "soak.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/resource.h>
#include <unistd.h>

enum { LIMIT = 256, CLIENTS = 180, IDLE_MS = 500 };
static const int64_t PAUSE = TDL_MILLISECOND;

static tdl_listener *listener;
static char          address[64];
static atomic_llong  wanted, served, refused[2]; /* accept, dial */
static tdl_waitgroup *clients, *servers;

static void serve_one(void *arg) {
    char byte;
    tdl_conn_set_timeout(arg, 20 * TDL_SECOND);
    if (tdl_conn_read(arg, &byte, 1) == 1) tdl_conn_write(arg, &byte, 1);
    tdl_conn_free(arg);
    tdl_waitgroup_done(servers);
}

static void serve(void *arg) {
    (void)arg;
    for (;;) {
        tdl_conn *c;
        int       rc = tdl_listener_accept(listener, &c);
        if (rc == TDL_ECLOSED) break;
        if (rc == 0) {
            tdl_waitgroup_add(servers, 1);
            if (!tdl_go(serve_one, c)) soak_wrong("no goroutine");
            continue;
        }
        if (rc != -EMFILE) soak_expect(rc, 0, "accept");
        atomic_fetch_add(&refused[0], 1);
        tdl_sleep(PAUSE);
    }
    tdl_waitgroup_done(servers);
}

static void use(void *arg) {
    (void)arg;
    while (atomic_fetch_sub(&wanted, 1) > 0) {
        tdl_conn *c = NULL;
        char      byte = 'x';
        int       rc;
        while ((rc = tdl_dial("tcp", address, 20 * TDL_SECOND, &c)) == -EMFILE) {
            atomic_fetch_add(&refused[1], 1);
            tdl_sleep(PAUSE);
        }
        if (!soak_expect(rc, 0, "dial")) break;
        tdl_conn_set_option(c, TDL_LINGER, 0); /* no port is kept for a minute */
        tdl_conn_set_timeout(c, 20 * TDL_SECOND);
        if (soak_expect(tdl_conn_write(c, &byte, 1), 1, "write") && soak_expect(tdl_conn_read(c, &byte, 1), 1, "read"))
            atomic_fetch_add(&served, 1);
        tdl_conn_free(c);
    }
    tdl_waitgroup_done(clients);
}

static void crowd(int64_t n) {
    atomic_store(&wanted, n);
    tdl_waitgroup_add(clients, CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        if (!tdl_go(use, NULL)) soak_wrong("no goroutine");
    tdl_waitgroup_wait(clients);
}

/* All descriptors are gone, connections wait in the backlog, and accept is tried
 * every millisecond: the processor has nothing to do. */
static void idle_when_exhausted(void) {
    int       fds[LIMIT], n = 0;
    tdl_conn *waiting[4] = { NULL };
    while (n < LIMIT && (fds[n] = dup(0)) >= 0) n++;
    for (int i = 0; i < 4 && n > 0; i++) { /* each takes the one descriptor that is free */
        close(fds[--n]);
        tdl_dial("tcp", address, TDL_SECOND, &waiting[i]);
    }
    while (n < LIMIT && (fds[n] = dup(0)) >= 0) n++;
    int64_t cpu = soak_cpu(), before = atomic_load(&refused[0]);
    tdl_sleep(IDLE_MS * TDL_MILLISECOND);
    cpu = soak_cpu() - cpu;
    int64_t tries = atomic_load(&refused[0]) - before;
    soak_says("processor while out of descriptors", "%.1f %% (%" PRId64 " accepts refused in %d ms)",
              (double)cpu / (IDLE_MS * 1e4), tries, IDLE_MS);
    if (tries < 5) soak_wrong("nobody wanted to be accepted");
    if (tries > 2 * IDLE_MS) soak_wrong("accept spins");
    if (cpu > IDLE_MS * TDL_MILLISECOND / 2) soak_wrong("it spins");
    while (n > 0) close(fds[--n]);
    for (int i = 0; i < 4; i++) tdl_conn_free(waiting[i]);
}

static int main_g(void *arg) {
    int64_t n = *(int64_t *)arg;
    if (!soak_expect(tdl_listen("tcp", "127.0.0.1:0", &listener), 0, "listen")) return 1;
    tdl_listener_address(listener, address, sizeof address);
    clients = tdl_waitgroup_new();
    servers = tdl_waitgroup_new();
    tdl_waitgroup_add(servers, 1);
    tdl_go(serve, NULL);
    int64_t first = n / 10 < 1000 ? 1000 : n / 10; /* what is kept for later is there after these */
    crowd(first);
    idle_when_exhausted();
    int64_t rss = soak_rss(), cpu = soak_cpu(), from = tdl_now();
    if (n > first) crowd(n - first);
    double seconds = (double)(tdl_now() - from) / 1e9;
    int64_t grown = soak_rss() - rss;
    soak_says("connections", "%" PRId64, (int64_t)atomic_load(&served));
    soak_says("a second, and processor time of each", "%.0f, %.1f us", (double)(n - first) / seconds,
              (double)(soak_cpu() - cpu) / 1e3 / (double)(n - first));
    soak_says("EMFILE from accept, from dial", "%" PRId64 ", %" PRId64, (int64_t)atomic_load(&refused[0]),
              (int64_t)atomic_load(&refused[1]));
    soak_says("growth of the resident set", "%" PRId64 " KiB", grown / 1024);
    if (atomic_load(&served) != (n > first ? n : first)) soak_wrong("not everybody was served");
    if (n >= 100000 && atomic_load(&refused[0]) + atomic_load(&refused[1]) < 1000) soak_wrong("there were enough descriptors");
    if (n >= 100000 && grown > 1 << 20) soak_wrong("memory grows");
    tdl_listener_close(listener);
    tdl_waitgroup_wait(servers);
    tdl_listener_free(listener);
    tdl_waitgroup_free(clients);
    tdl_waitgroup_free(servers);
    return 0;
}

static void connections(int64_t n) {
    struct rlimit old, tight;
    int fds = soak_fds();
    getrlimit(RLIMIT_NOFILE, &old);
    tight = old;
    tight.rlim_cur = LIMIT;
    if (setrlimit(RLIMIT_NOFILE, &tight) != 0) soak_wrong("setrlimit");
    soak_expect(tdl_run(main_g, &n), 0, "run");
    setrlimit(RLIMIT_NOFILE, &old);
    soak_says("limit of descriptors; open before, after", "%d; %d, %d", LIMIT, fds, soak_fds());
    if (soak_fds() != fds) soak_wrong("descriptors are lost");
}

const run soak_connections = { "connections", 1000000, "connections", connections };
