/* SPDX-License-Identifier: MIT
 * A storm of SIGALRM and SIGUSR1, 2,000 a second, without SA_RESTART, on threads
 * that wait in calls: plain threads and a host, with goroutines beside them. No call
 * says that it was interrupted, and all bytes arrive. */
#include "soak.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { THREADS = 3, GOROUTINES = 3, BLOCK = 3000 };

static atomic_int   over;
static atomic_llong delivered, echoed, calls;
static pthread_t    threads[THREADS + 1]; /* the last is the host's */

static void on_signal(int sig) {
    (void)sig;
    atomic_fetch_add(&delivered, 1);
}

static int64_t good(int64_t rc, const char *what) {
    atomic_fetch_add(&calls, 1);
    if (rc < 0) soak_expect(rc, 0, what);
    return rc;
}

static uint64_t mix(uint64_t sum, const char *p, int64_t n) {
    for (int64_t i = 0; i < n; i++) sum = (sum ^ (unsigned char)p[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return sum;
}

static void echo(void *arg) {
    char    buf[500];
    int64_t n;
    while ((n = good(tdl_conn_read(arg, buf, sizeof buf), "read")) > 0)
        if (good(tdl_conn_write(arg, buf, (size_t)n), "write") != n) break;
    tdl_conn_free(arg);
}

static tdl_listener *listener;
static char          address[64];

static void serve(void *arg) {
    tdl_conn *c;
    int       rc;
    (void)arg;
    while ((rc = tdl_listener_accept(listener, &c)) == 0) tdl_go(echo, c);
    soak_expect(rc, TDL_ECLOSED, "accept");
}

/* Everything that waits, over and over: dial, write, read, datagrams, a pipe, a sleep, a channel. */
static void one_round(unsigned i) {
    tdl_conn  *c = NULL;
    tdl_dgram *d = NULL;
    tdl_fd    *r = NULL, *w = NULL;
    tdl_addr   to;
    char       out[BLOCK], in[BLOCK];
    int        p[2];
    uint64_t   sent = 0, came = 0;
    if (good(tdl_dial("tcp", address, 10 * TDL_SECOND, &c), "dial") < 0) return;
    for (int k = 0; k < 20; k++) {
        memset(out, (int)(i + (unsigned)k), sizeof out);
        sent = mix(sent, out, BLOCK);
        if (good(tdl_conn_write(c, out, sizeof out), "write") != BLOCK) break;
        for (int64_t got = 0, n; got < BLOCK; got += n) {
            if ((n = good(tdl_conn_read(c, in, sizeof in), "read")) <= 0) break;
            came = mix(came, in, n);
        }
    }
    if (sent != came) soak_wrong("other bytes came back");
    atomic_fetch_add(&echoed, 20 * BLOCK);
    tdl_conn_free(c);
    good(tdl_dgram_listen("udp", "127.0.0.1:0", &d), "datagrams");
    tdl_dgram_sockaddr(d, &to);
    if (good(tdl_dgram_sendto(d, out, 100, &to), "send") == 100 && good(tdl_dgram_recv(d, in, sizeof in), "receive") != 100)
        soak_wrong("a datagram was cut");
    tdl_dgram_free(d);
    if (pipe2(p, O_CLOEXEC) == 0 && good(tdl_fd_adopt(p[0], &r), "adopt") == 0 && good(tdl_fd_adopt(p[1], &w), "adopt") == 0) {
        good(tdl_fd_write(w, out, 100), "pipe write");
        good(tdl_fd_wait_readable(r), "pipe wait");
        if (good(tdl_fd_read(r, in, sizeof in), "pipe read") != 100) soak_wrong("a pipe lost bytes");
        tdl_fd_free(r);
        tdl_fd_free(w);
    }
    int64_t from = tdl_now();
    good(tdl_sleep(2 * TDL_MILLISECOND), "sleep");
    if (tdl_now() - from < 2 * TDL_MILLISECOND) soak_wrong("a sleep was cut short");
    tdl_chan *ch = tdl_chan_new(0);
    tdl_val   v;
    from = tdl_now() + 2 * TDL_MILLISECOND;
    soak_expect(tdl_chan_recv_until(ch, &v, from), TDL_ETIMEDOUT, "a receive with a deadline");
    if (tdl_now() < from) soak_wrong("a deadline came early");
    tdl_chan_free(ch);
}

static void in_goroutine(void *wg) {
    for (unsigned i = 0; !atomic_load(&over); i++) one_round(i);
    tdl_waitgroup_done(wg);
}

static void *in_thread(void *arg) {
    for (unsigned i = 0; !atomic_load(&over); i++) one_round(i);
    return arg;
}

static int finish(tdl_host *h, uint32_t task, int rc) {
    while (rc == TDL_PENDING) {
        tdl_event ev;
        int       n = tdl_host_poll(h, &ev, 1, TDL_SECOND);
        if (n < 0) return n;
        if (n == 1 && ev.task == task) return ev.result;
    }
    return rc;
}

static void *in_host(void *arg) {
    tdl_host *h = NULL;
    char      out[BLOCK], in[BLOCK];
    if (!soak_expect(tdl_host_open("storm", &h), 0, "host")) return arg;
    uint32_t t = (uint32_t)tdl_task_new(h, 0);
    for (unsigned i = 0; !atomic_load(&over); i++) {
        if (good(finish(h, t, tdl_dial_start(h, t, "tcp", address, 10 * TDL_SECOND)), "dial in a host") < 0) break;
        tdl_conn *c = tdl_val_ptr(&tdl_host_outcomes(h)[t].val);
        memset(out, (int)i, sizeof out);
        good(finish(h, t, tdl_conn_write_start(h, t, c, out, sizeof out)), "write in a host");
        for (int64_t got = 0, n; got < BLOCK; got += n)
            if ((n = good(finish(h, t, tdl_conn_read_start(h, t, c, in + got, (size_t)(BLOCK - got))), "read in a host")) <= 0)
                break;
        if (memcmp(in, out, BLOCK) != 0) soak_wrong("other bytes came back to the host");
        good(finish(h, t, tdl_sleep_start(h, t, TDL_MILLISECOND)), "sleep in a host");
        atomic_fetch_add(&echoed, BLOCK);
        tdl_conn_free(c);
    }
    tdl_task_free(h, t);
    soak_expect(tdl_host_close(h), 0, "close of the host");
    return arg;
}

/* SIGUSR1 to each in turn; SIGALRM comes from the timer to whom the kernel likes. */
static void *storm(void *arg) {
    int64_t next = tdl_now();
    for (unsigned i = 0; !atomic_load(&over); i++) {
        pthread_kill(threads[i % (THREADS + 1)], SIGUSR1);
        next += 450 * TDL_MICROSECOND;
        while (tdl_now() < next && !atomic_load(&over)) usleep(100);
    }
    return arg;
}

static int main_g(void *arg) {
    int64_t        seconds = *(int64_t *)arg;
    tdl_waitgroup *all = tdl_waitgroup_new();
    pthread_t      sender;
    sigset_t       ours, old;
    if (!soak_expect(tdl_listen("tcp", "127.0.0.1:0", &listener), 0, "listen")) return 1;
    tdl_listener_address(listener, address, sizeof address);
    tdl_go(serve, NULL);
    tdl_waitgroup_add(all, GOROUTINES);
    for (int i = 0; i < GOROUTINES; i++) tdl_go(in_goroutine, all);
    sigemptyset(&ours);
    sigaddset(&ours, SIGALRM);
    sigaddset(&ours, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &ours, &old); /* for the new threads: a worker lets none through */
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, in_thread, NULL);
    pthread_create(&threads[THREADS], NULL, in_host, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_create(&sender, NULL, storm, NULL);
    struct itimerval every = { { 0, 1000 }, { 0, 1000 } }, off = { { 0, 0 }, { 0, 0 } };
    setitimer(ITIMER_REAL, &every, NULL);
    good(tdl_sleep(seconds * TDL_SECOND), "the long sleep");
    atomic_store(&over, 1);
    tdl_block_begin(TDL_BLOCK_LONG);
    for (int i = 0; i <= THREADS; i++) pthread_join(threads[i], NULL);
    pthread_join(sender, NULL);
    tdl_block_end();
    setitimer(ITIMER_REAL, &off, NULL);
    tdl_waitgroup_wait(all);
    tdl_listener_close(listener);
    tdl_yield();
    tdl_listener_free(listener);
    tdl_waitgroup_free(all);
    return 0;
}

static void signals(int64_t seconds) {
    struct sigaction sa = { .sa_handler = on_signal }; /* without SA_RESTART */
    sigaction(SIGALRM, &sa, NULL);
    sigaction(SIGUSR1, &sa, NULL);
    soak_expect(tdl_run(main_g, &seconds), 0, "run");
    double a_second = (double)atomic_load(&delivered) / (double)seconds;
    soak_says("signals a second", "%.0f", a_second);
    soak_says("calls, none of which was interrupted", "%" PRId64, (int64_t)atomic_load(&calls));
    soak_says("bytes that came back as they were", "%" PRId64, (int64_t)atomic_load(&echoed));
    if (atomic_load(&delivered) == 0 || atomic_load(&calls) < 1000) soak_wrong("it was no storm");
}

const run soak_signals = { "signals", 30, "seconds", signals };
