/* SPDX-License-Identifier: MIT
 * The yardstick: an echo server written by hand on edge-triggered epoll, which
 * stops reading at a short read. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void check(long rc, const char *what)
{
    if (rc < 0) {
        perror(what);
        exit(1);
    }
}

static void watch(int epoll_fd, int fd, unsigned events)
{
    struct epoll_event ev = { .events = events, .data.fd = fd };
    check(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev), "epoll_ctl");
}

static void echo(int fd)
{
    char buf[4096];
    ssize_t n;
    do {
        n = recv(fd, buf, sizeof buf, 0);
        if (n == 0) {
            close(fd);
            return;
        }
        if (n > 0 && send(fd, buf, (size_t)n, MSG_NOSIGNAL) != n) {
            close(fd); /* a client that does not read: not in this benchmark */
            return;
        }
    } while (n == sizeof buf);
}

int main(void)
{
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    check(bind(listener, (struct sockaddr *)&a, len), "bind");
    check(listen(listener, 4096), "listen");
    check(getsockname(listener, (struct sockaddr *)&a, &len), "getsockname");
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    check(epoll_fd, "epoll_create1");
    watch(epoll_fd, listener, EPOLLIN);
    printf("listening on 127.0.0.1:%d\n", ntohs(a.sin_port));
    fflush(stdout);

    for (;;) {
        struct epoll_event events[128];
        int n = epoll_wait(epoll_fd, events, 128, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd != listener) {
                echo(events[i].data.fd);
                continue;
            }
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            check(fd, "accept4");
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            watch(epoll_fd, fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
        }
    }
}
