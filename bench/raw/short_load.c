/* SPDX-License-Identifier: MIT
 * Short connections: each is opened, sends 64 bytes, reads them back, and is reset.
 *
 * short_load PORT PID CONNECTIONS SIZE SECONDS
 *
 * So many at a time. SIZE 0: nothing is sent; the server closes, and that is waited for. Prints nanoseconds of processor time of process PID for
 * each, and how many a second, after a warm-up of a fifth of the time. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char message[4096];
static size_t size;
static int epoll_fd;
static uint16_t port;

static int64_t read_clock(clockid_t id)
{
    struct timespec t;
    if (clock_gettime(id, &t) != 0)
        exit(1);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "short_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void begin_one(void)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    if (size && send(fd, message, size, MSG_NOSIGNAL) != (ssize_t)size)
        die("send");
    struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
        die("epoll_ctl");
}

/* The answer comes in one piece: it is small. Without one, the end. */
static void end_one(int fd)
{
    char buf[sizeof message];
    struct linger reset = { 1, 0 };
    if (recv(fd, buf, sizeof buf, 0) != (ssize_t)size)
        die("recv");
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
}

int main(int argc, char **argv)
{
    clockid_t cpu;
    if (argc != 6 || clock_getcpuclockid(atoi(argv[2]), &cpu) != 0)
        return 2;
    port = (uint16_t)atoi(argv[1]);
    size = (size_t)atol(argv[4]);
    if (size > sizeof message)
        return 2;
    int64_t length = (int64_t)(atof(argv[5]) * 1e9), begin = read_clock(CLOCK_MONOTONIC), now = begin, from = begin,
            cpu_from = 0;
    uint64_t done = 0;
    int warm = 0;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < atoi(argv[3]); i++)
        begin_one();
    while (now - begin < length) {
        struct epoll_event events[128];
        int n = epoll_wait(epoll_fd, events, 128, 1000);
        for (int i = 0; i < n; i++) {
            end_one(events[i].data.fd);
            done++;
            begin_one();
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
    if (done == 0)
        return 1;
    printf("%.1f\n%.0f\n", (double)used / (double)done, (double)done * 1e9 / (double)(now - from));
    return 0;
}
