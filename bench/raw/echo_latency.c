/* SPDX-License-Identifier: MIT
 * Asks an echo server now and then, and tells how long the answers take.
 *
 * echo_latency PORT CONNECTIONS PAUSE-MS SECONDS
 *
 * Each connection sends 64 bytes, waits for them, pauses, and so on. Prints three
 * numbers, one per line: the 50th and the 99th percentile and the longest, in ns.
 * An answer that is still outstanding at the end counts with the time so far. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64, MAX_CONNECTIONS = 1024, MAX_ANSWERS = 1 << 20 };

typedef struct peer {
    int     fd;
    size_t  have;
    int64_t asked; /* 0: pausing */
    int64_t next;  /* when to ask */
} peer;

static peer    peers[MAX_CONNECTIONS];
static int64_t took[MAX_ANSWERS];
static size_t  answers;

static void check(long rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "echo_latency: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int dial(uint16_t port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(connect(fd, (struct sockaddr *)&to, sizeof to), "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void record(int64_t ns)
{
    if (answers < MAX_ANSWERS)
        took[answers++] = ns;
}

static void ask(peer *p)
{
    char message[SIZE] = "how long does this take?";
    p->have = 0;
    p->asked = now_ns();
    check(send(p->fd, message, SIZE, MSG_NOSIGNAL), "send");
}

static void hear(peer *p, int64_t pause)
{
    char buf[SIZE];
    ssize_t n = recv(p->fd, buf, SIZE - p->have, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    check(n > 0 ? 0 : -1, "the server closed");
    p->have += (size_t)n;
    if (p->have < SIZE)
        return;
    int64_t now = now_ns();
    record(now - p->asked);
    p->asked = 0;
    p->next = now + pause;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void drive(int n, int64_t pause, int64_t end)
{
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    check(epoll_fd, "epoll_create1");
    for (int i = 0; i < n; i++) {
        struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &peers[i] };
        check(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, peers[i].fd, &ev), "epoll_ctl");
    }
    for (int64_t now; (now = now_ns()) < end;) {
        int64_t soonest = end;
        for (int i = 0; i < n; i++) {
            if (!peers[i].asked && peers[i].next <= now)
                ask(&peers[i]);
            if (!peers[i].asked && peers[i].next < soonest)
                soonest = peers[i].next;
        }
        struct epoll_event events[64];
        int64_t wait = soonest - now;
        struct timespec t = { wait / 1000000000, wait % 1000000000 };
        int got = epoll_pwait2(epoll_fd, events, 64, &t, NULL);
        for (int i = 0; i < got; i++)
            hear(events[i].data.ptr, pause);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: echo_latency PORT CONNECTIONS PAUSE-MS SECONDS\n");
        return 2;
    }
    int n = atoi(argv[2]);
    int64_t pause = (int64_t)(atof(argv[3]) * 1e6), start = now_ns();
    if (n < 1 || n > MAX_CONNECTIONS)
        return 2;
    prctl(PR_SET_TIMERSLACK, 1UL);
    for (int i = 0; i < n; i++) {
        peers[i].fd = dial((uint16_t)atoi(argv[1]));
        peers[i].next = start + pause * i / n;
    }
    drive(n, pause, start + (int64_t)(atof(argv[4]) * 1e9));
    for (int i = 0; i < n; i++)
        if (peers[i].asked)
            record(now_ns() - peers[i].asked);
    if (answers == 0)
        return 1;
    qsort(took, answers, sizeof *took, by_size);
    printf("%lld\n%lld\n%lld\n", (long long)took[answers / 2], (long long)took[answers * 99 / 100],
           (long long)took[answers - 1]);
    return 0;
}
