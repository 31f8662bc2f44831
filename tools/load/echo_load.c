/* SPDX-License-Identifier: MIT
 * Drives an echo server and reads the server's processor time.
 *
 * echo_load PORT PID CONNECTIONS SIZE SECONDS [DEPTH]
 *
 * Each connection sends SIZE bytes, waits for them and checks them, again and
 * again; or DEPTH such requests at once. Prints two numbers, one per line: nanoseconds of processor time of
 * process PID per request, and requests per second, after a warm-up of a fifth
 * of the time. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SIZE = 65536 };

static char   message[MAX_SIZE];
static size_t size;

static void check(long rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "echo_load: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static int64_t read_clock(clockid_t id)
{
    struct timespec t;
    check(clock_gettime(id, &t), "clock_gettime");
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

static void request(int fd)
{
    if (send(fd, message, size, MSG_NOSIGNAL) != (ssize_t)size)
        check(-1, "send");
}

/* 1 when the whole answer is there. */
static int answer(int fd, size_t *have)
{
    static char buf[MAX_SIZE];
    ssize_t n = recv(fd, buf, size - *have, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0 || memcmp(buf, message + *have, (size_t)n) != 0) {
        fprintf(stderr, "echo_load: %s\n", n == 0 ? "the server hung up" : n < 0 ? strerror(errno) : "a wrong answer");
        exit(1);
    }
    *have += (size_t)n;
    if (*have < size)
        return 0;
    *have = 0;
    return 1;
}

int main(int argc, char **argv)
{
    clockid_t cpu;
    if (argc != 6 && argc != 7) {
        fprintf(stderr, "usage: echo_load PORT PID CONNECTIONS SIZE SECONDS [DEPTH]\n");
        return 2;
    }
    int connections = atoi(argv[3]);
    int depth = argc == 7 ? atoi(argv[6]) : 1;
    size = (size_t)atol(argv[4]) * (size_t)(depth < 1 ? 0 : depth);
    int64_t length = (int64_t)(atof(argv[5]) * 1e9);
    if (size < 1 || size > MAX_SIZE || connections < 1 || clock_getcpuclockid(atoi(argv[2]), &cpu) != 0) {
        fprintf(stderr, "echo_load: bad argument\n");
        return 2;
    }
    for (size_t i = 0; i < size; i++)
        message[i] = (char)('a' + i % 26);

    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int *fds = calloc((size_t)connections, sizeof *fds);
    size_t *have = calloc((size_t)connections, sizeof *have);
    for (int i = 0; i < connections; i++) {
        fds[i] = dial((uint16_t)atoi(argv[1]));
        struct epoll_event ev = { .events = EPOLLIN, .data.u32 = (uint32_t)i };
        check(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fds[i], &ev), "epoll_ctl");
        request(fds[i]);
    }

    int64_t begin = read_clock(CLOCK_MONOTONIC), from = begin, cpu_from = 0, now = begin;
    uint64_t done = 0;
    int warm = 0;
    while (now - begin < length) {
        struct epoll_event events[128];
        int n = epoll_wait(epoll_fd, events, 128, 1000);
        for (int i = 0; i < n; i++) {
            uint32_t c = events[i].data.u32;
            if (answer(fds[c], &have[c])) {
                done += (uint64_t)depth;
                request(fds[c]);
            }
        }
        now = read_clock(CLOCK_MONOTONIC);
        if (!warm && now - begin > length / 5) {
            warm = 1;
            done = 0;
            from = now;
            cpu_from = read_clock(cpu);
        }
    }
    int64_t used = read_clock(cpu) - cpu_from;
    if (done == 0) {
        fprintf(stderr, "echo_load: no answer\n");
        return 1;
    }
    printf("%.1f\n%.0f\n", (double)used / (double)done, (double)done * 1e9 / (double)(now - from));
    return 0;
}
