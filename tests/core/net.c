/* SPDX-License-Identifier: MIT */
#include "net.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

static int have_ipv6(void) {
    struct sockaddr_in6 sa = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    int                 fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return 0;
    int ok = bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0;
    close(fd);
    return ok;
}

const char *const *net_networks(void) {
    static const char *const two[] = { "tcp", "unix", NULL };
    static const char *const three[] = { "tcp", "unix", "tcp6", NULL };
    return have_ipv6() ? three : two;
}

tdl_listener *net_listen(const char *network, char address[ADDRESS_SIZE]) {
    static atomic_int count;
    tdl_listener     *l = NULL;
    if (strncmp(network, "unix", 4) == 0) {
        snprintf(address, ADDRESS_SIZE, "@treadle-test-%d-%d", (int)getpid(), atomic_fetch_add(&count, 1));
        CHECK_RC(tdl_listen(network, address, &l), 0);
    } else {
        const char *host = strcmp(network, "tcp6") == 0 ? "[::1]" : "127.0.0.1";
        snprintf(address, ADDRESS_SIZE, "%s:0", host);
        CHECK_RC(tdl_listen(network, address, &l), 0);
        snprintf(address, ADDRESS_SIZE, "%s:%d", host, tdl_listener_port(l));
    }
    REQUIRE(l != NULL);
    return l;
}

void net_pair(const char *network, tdl_conn **a, tdl_conn **b) {
    const char *instead = getenv("TDL_TEST_PAIR");
    *a = *b = NULL;
    if (instead && *instead) network = instead;
    if (strcmp(network, "pipe") == 0) {
        CHECK_RC(tdl_pipe_new(64 * 1024, a, b), 0);
        REQUIRE(*a && *b);
        return;
    }
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen(network, address);
    CHECK_RC(tdl_dial(network, address, 0, a), 0); /* the backlog takes it */
    CHECK_RC(tdl_listener_accept(l, b), 0);
    REQUIRE(*a && *b);
    tdl_listener_free(l);
}

int net_half_pair(tdl_conn **c) {
    char               address[ADDRESS_SIZE];
    tdl_listener      *l = net_listen("tcp", address);
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)tdl_listener_port(l)) };
    int                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0);
    CHECK_RC(tdl_listener_accept(l, c), 0);
    tdl_listener_free(l);
    return fd;
}

void net_blackhole_open(net_blackhole *h) {
    struct sockaddr_in sa = { .sin_family = AF_INET };
    socklen_t          n = sizeof sa;
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    h->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(h->listener, (struct sockaddr *)&sa, sizeof sa) == 0 && listen(h->listener, 0) == 0);
    getsockname(h->listener, (struct sockaddr *)&sa, &n);
    snprintf(h->address, sizeof h->address, "127.0.0.1:%d", ntohs(sa.sin_port));
    for (int i = 0; i < 4; i++) {
        h->fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        connect(h->fill[i], (struct sockaddr *)&sa, sizeof sa);
    }
}

void net_blackhole_close(net_blackhole *h) {
    for (int i = 0; i < 4; i++) close(h->fill[i]);
    close(h->listener);
}

void net_reset(int fd) {
    struct linger now = { .l_onoff = 1, .l_linger = 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

void net_small_buffers(int fd) {
    int n = 64 * 1024; /* less than a segment of the loopback would wait for delayed acknowledgements */
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof n);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &n, sizeof n);
}

void net_read_full(tdl_conn *c, void *buf, size_t n) {
    char *p = buf;
    while (n > 0) {
        int64_t got = tdl_conn_read(c, p, n);
        if (!CHECK(got > 0)) {
            CHECK_RC(got, 1);
            return;
        }
        p += got;
        n -= (size_t)got;
    }
}

void net_carries(tdl_conn *from, tdl_conn *to) {
    char byte = 0;
    CHECK_RC(tdl_conn_write(from, "x", 1), 1);
    net_read_full(to, &byte, 1);
    CHECK_INT(byte, 'x');
}
