/* SPDX-License-Identifier: MIT
 * Drives a chat server: holds connections, lets messages flow, and checks that
 * each message reaches each other member exactly once and in order.
 *
 * chat_load HOST:PORT [--members N] [--idle N] [--senders N] [--messages N]
 *           [--window N] [--quiet]
 *
 * `idle` connections stay at the name prompt; `members` join the room. On
 * success prints one line of "key=value" pairs and exits 0; else says on stderr
 * what went wrong and exits 1. */
#define _GNU_SOURCE
#include "histogram.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SENDERS = 64, LINE = 512, CONNECTING = 128, STALL_SECONDS = 30 };

typedef struct peer {
    int      fd;
    bool     member, prompted, gone;
    unsigned have;               /* bytes of an unfinished line */
    char     line[LINE];
    uint32_t expected[MAX_SENDERS];
} peer;

static struct {
    const char *address;
    int members, idle, senders, messages, window;
    bool quiet;
} opt = { .members = 100, .senders = 8, .messages = 1000, .window = 16 };

static int       epoll_fd;
static peer     *peers;          /* members first: peers[0] sees everybody join */
static int       peer_count, prompted, joined, left, gone;
static bool      leaving;
static uint64_t  delivered;
static uint16_t *got;            /* by message: how many members have it */
static int       everywhere;     /* messages that all members have */
static histogram latency;
static int64_t   last_progress, last_report;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "chat_load: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

static void report(const char *what, uint64_t done, uint64_t all)
{
    int64_t now = now_ns();
    if (opt.quiet || now - last_report < 2000000000)
        return;
    last_report = now;
    fprintf(stderr, "  … %s: %llu of %llu\n", what, (unsigned long long)done, (unsigned long long)all);
}

/* -- One connection ------------------------------------------------------ */

static void peer_connect(const struct sockaddr_in *to)
{
    peer *p = &peers[peer_count];
    p->member = peer_count < opt.members;
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (p->fd < 0 || connect(p->fd, (const struct sockaddr *)to, sizeof *to) < 0)
        fail("connection %d: %s", peer_count, strerror(errno));
    int on = 1;
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(p->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event ev = { .events = EPOLLIN, .data.u32 = (uint32_t)peer_count++ };
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, p->fd, &ev) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void peer_send(peer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void peer_send(peer *p, const char *format, ...)
{
    char text[128];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (send(p->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
        fail("connection %d: cannot send: %s", (int)(p - peers), strerror(errno));
}

/* "m3: 17 123456789": message 17 of member 3, sent at that time. */
static void on_message(peer *p, const char *line)
{
    int who = -1, end = 0;
    unsigned seq = 0;
    long long sent = 0;
    if (sscanf(line, "m%d: %u %lld%n", &who, &seq, &sent, &end) != 3 || line[end] != '\0'
        || who < 0 || who >= opt.senders || &peers[who] == p)
        fail("connection %d got an unexpected line: %s", (int)(p - peers), line);
    if (seq != p->expected[who])
        fail("connection %d: message %u of m%d came, expected was %u", (int)(p - peers), seq, who, p->expected[who]);
    p->expected[who]++;
    delivered++;
    everywhere += ++got[(int)seq * opt.senders + who] == opt.members - 1;
    histogram_add(&latency, now_ns() - sent);
}

static void on_line(peer *p, const char *line)
{
    last_progress = now_ns();
    if (!p->prompted) {
        if (strcmp(line, "name?") != 0)
            fail("connection %d: no prompt but: %s", (int)(p - peers), line);
        p->prompted = true;
        prompted++;
    } else if (line[0] != '*') {
        on_message(p, line);
    } else if (strstr(line, " joined") != NULL) {
        joined += p == &peers[0];
    } else if (strstr(line, " left") != NULL && leaving) {
        left += p == &peers[0];
    } else {
        fail("connection %d got: %s", (int)(p - peers), line);
    }
}

static void on_readable(peer *p)
{
    char buf[65536];
    ssize_t n = recv(p->fd, buf, sizeof buf, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        if (!leaving)
            fail("connection %d ended: %s", (int)(p - peers), n < 0 ? strerror(errno) : "end of stream");
        p->gone = true;
        gone++;
        close(p->fd);
        return;
    }
    for (char *at = buf, *end = buf + n; at < end;) {
        char  *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((newline ? newline : end) - at);
        if (p->have + len >= LINE)
            fail("connection %d: a line of more than %d bytes", (int)(p - peers), LINE);
        memcpy(p->line + p->have, at, len);
        p->have += (unsigned)len;
        at += len + 1;
        if (newline) {
            p->line[p->have] = '\0';
            p->have = 0;
            on_line(p, p->line);
        }
    }
}

/* -- Phases -------------------------------------------------------------- */

static void poll_once(int timeout_ms)
{
    struct epoll_event events[512];
    int n = epoll_wait(epoll_fd, events, 512, timeout_ms);
    for (int i = 0; i < n; i++)
        if (!peers[events[i].data.u32].gone)
            on_readable(&peers[events[i].data.u32]);
}

static void step(const char *what, uint64_t done, uint64_t all)
{
    poll_once(1000);
    report(what, done, all);
    if (now_ns() - last_progress > STALL_SECONDS * 1000000000LL)
        fail("%s: stuck at %llu of %llu for %d s", what, (unsigned long long)done, (unsigned long long)all,
             STALL_SECONDS);
}

static void connect_all(const struct sockaddr_in *to)
{
    int all = opt.members + opt.idle;
    while (prompted < all) {
        if (peer_count < all && peer_count - prompted < CONNECTING)
            peer_connect(to);
        else
            step("connected", (uint64_t)prompted, (uint64_t)all);
    }
}

/* Nobody tells a client that it has joined itself; the first member sees the
 * others, and is given a moment for itself. */
static void join_all(void)
{
    peer_send(&peers[0], "m0\n");
    for (int64_t until = now_ns() + 200000000; now_ns() < until;)
        poll_once(20);
    for (int sent = 1; joined < opt.members - 1;) {
        if (sent < opt.members && sent - 1 - joined < opt.window) {
            peer_send(&peers[sent], "m%d\n", sent);
            sent++;
        } else {
            step("joined", (uint64_t)joined + 1, (uint64_t)opt.members);
        }
    }
}

/* No more than a window of messages is under way to the slowest member: a
 * server may cut off who lags behind, and a member that lags because the
 * machine is busy must not be taken for an error. */
static double talk(void)
{
    uint64_t others = (uint64_t)opt.members - 1, all = others * (uint64_t)opt.messages;
    uint32_t seq[MAX_SENDERS] = { 0 };
    int64_t  start = now_ns();
    for (int sent = 0; delivered < all;) {
        if (sent < opt.messages && sent - everywhere < opt.window) {
            int who = sent++ % opt.senders;
            peer_send(&peers[who], "%u %lld\n", seq[who], (long long)now_ns());
            seq[who]++;
        } else {
            step("delivered", delivered, all);
        }
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    for (int64_t until = now_ns() + 100000000; now_ns() < until;)
        poll_once(20); /* a duplicate would come now */
    if (delivered != all)
        fail("%llu messages too many", (unsigned long long)(delivered - all));
    return seconds;
}

/* The senders but the first say good-bye: their streams end, and the first
 * member is told of each. Idle connections must still be open then. */
static void leave_all(void)
{
    leaving = true;
    for (int i = 1; i < opt.senders; i++)
        peer_send(&peers[i], "/quit\n");
    while (left < opt.senders - 1 || gone < opt.senders - 1)
        step("left", (uint64_t)left, (uint64_t)opt.senders - 1);
    for (int i = 0; i < peer_count; i++)
        if (peers[i].gone != (i >= 1 && i < opt.senders))
            fail("connection %d was %s", i, peers[i].gone ? "closed by the server" : "not closed by the server");
}

/* -- Start --------------------------------------------------------------- */

static struct sockaddr_in parse_address(const char *text)
{
    struct sockaddr_in to = { .sin_family = AF_INET };
    char host[64];
    unsigned port;
    if (sscanf(text, "%63[0-9.]:%u", host, &port) != 2 || port > 65535 || inet_pton(AF_INET, host, &to.sin_addr) != 1)
        fail("not an address: %s", text);
    to.sin_port = htons((uint16_t)port);
    return to;
}

static void parse_options(int argc, char **argv)
{
    struct { const char *name; int *value; } numbers[] = {
        { "--members", &opt.members },   { "--idle", &opt.idle },     { "--senders", &opt.senders },
        { "--messages", &opt.messages }, { "--window", &opt.window },
    };
    for (int i = 1; i < argc; i++) {
        bool known = false;
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers && i + 1 < argc; k++)
            if (strcmp(argv[i], numbers[k].name) == 0) {
                *numbers[k].value = atoi(argv[++i]);
                known = true;
                break;
            }
        if (known)
            continue;
        if (strcmp(argv[i], "--quiet") == 0)
            opt.quiet = true;
        else if (argv[i][0] != '-' && opt.address == NULL)
            opt.address = argv[i];
        else
            fail("unknown argument: %s", argv[i]);
    }
    if (opt.address == NULL || opt.members < 2 || opt.idle < 0 || opt.senders < 1 || opt.senders > MAX_SENDERS
        || opt.senders > opt.members || opt.members > UINT16_MAX || opt.messages < 1 || opt.window < 1)
        fail("usage: chat_load HOST:PORT [--members N] [--idle N] [--senders N] [--messages N] [--window N] [--quiet]");
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < (rlim_t)(opt.members + opt.idle) + 16)
        fail("only %llu descriptors are allowed", (unsigned long long)limit.rlim_cur);
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    struct sockaddr_in to = parse_address(opt.address);
    raise_descriptor_limit();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    peers = calloc((size_t)(opt.members + opt.idle), sizeof *peers);
    got = calloc((size_t)opt.messages + MAX_SENDERS, sizeof *got);
    if (epoll_fd < 0 || peers == NULL || got == NULL)
        fail("%s", strerror(errno));
    last_progress = last_report = now_ns();

    connect_all(&to);
    join_all();
    double seconds = talk();
    leave_all();
    printf("connections=%d messages=%d deliveries=%llu seconds=%.3f per_second=%.0f p50_us=%lld p99_us=%lld\n",
           peer_count, opt.messages, (unsigned long long)delivered, seconds, (double)delivered / seconds,
           (long long)histogram_quantile(&latency, 0.50) / 1000, (long long)histogram_quantile(&latency, 0.99) / 1000);
    return 0;
}
