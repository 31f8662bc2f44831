/* SPDX-License-Identifier: MIT
 * Options of sockets as numbers. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "net/net.h"
#include "sys/sys.h"

#if !defined(TCP_KEEPIDLE) && defined(TCP_KEEPALIVE)
#define TCP_KEEPIDLE TCP_KEEPALIVE /* macOS */
#endif
#ifndef TCP_KEEPINTVL /* OpenBSD: the system refuses what it has not */
#define TCP_KEEPIDLE  (-1)
#define TCP_KEEPINTVL (-1)
#define TCP_KEEPCNT   (-1)
#endif

/* -- Options ---------------------------------------------------------------------- */

static int set_int(int fd, int level, int name, int64_t value) {
    int v = value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : (int)value;
    return tdl_sys.setsockopt(fd, level, name, &v, sizeof v);
}

static int64_t get_int(int fd, int level, int name) {
    int v = 0;
    socklen_t n = sizeof v;
    int r = tdl_sys.getsockopt(fd, level, name, &v, &n);
    return r < 0 ? r : v;
}

/* The system counts these in whole seconds; none is shorter than asked for. */
static int64_t seconds(int64_t ns) { return ns / TDL_SECOND + (ns % TDL_SECOND != 0); }

static int set_keepalive(int fd, int64_t ns) {
    if (ns == 0) return set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 0);
    int r = set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, seconds(ns));
    return r < 0 ? r : set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

static int64_t get_keepalive(int fd) {
    int64_t on = get_int(fd, SOL_SOCKET, SO_KEEPALIVE);
    if (on <= 0) return on;
    int64_t idle = get_int(fd, IPPROTO_TCP, TCP_KEEPIDLE);
    return idle < 0 ? idle : idle * TDL_SECOND;
}

/* Not for a while: close(2) would then wait, and with it all that its thread runs. */
static int set_linger(int fd, int64_t ns) {
    struct linger l = {ns == 0, 0};
    return tdl_sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

static int64_t get_linger(int fd) {
    struct linger l = {0};
    socklen_t n = sizeof l;
    int r = tdl_sys.getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &n);
    return r < 0 ? r : l.l_onoff ? l.l_linger * TDL_SECOND : TDL_FOREVER;
}

static int set_tos(int fd, int64_t tos) {
    int family = tdl_fd_family(fd);
    if (family < 0) return family;
    if (family != AF_INET6) return set_int(fd, IPPROTO_IP, IP_TOS, tos);
    set_int(fd, IPPROTO_IP, IP_TOS, tos); /* of IPv4 peers on it */
    return set_int(fd, IPPROTO_IPV6, IPV6_TCLASS, tos);
}

static int64_t get_tos(int fd) {
    bool v6 = tdl_fd_family(fd) == AF_INET6;
    return get_int(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TCLASS : IP_TOS);
}

static int set_ttl(int fd, int64_t ttl) {
    int family = tdl_fd_family(fd);
    if (family < 0) return family;
    if (family != AF_INET6) return set_int(fd, IPPROTO_IP, IP_TTL, ttl);
    set_int(fd, IPPROTO_IP, IP_TTL, ttl);
    return set_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, ttl);
}

static int64_t get_ttl(int fd) {
    bool v6 = tdl_fd_family(fd) == AF_INET6;
    return get_int(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_UNICAST_HOPS : IP_TTL);
}

/* The range that has a meaning; wider than what every system grants. */
static bool in_range(int option, int64_t value) {
    switch (option) {
    case TDL_NODELAY:
    case TDL_BROADCAST: return value == 0 || value == 1;
    case TDL_KEEPALIVE: return value >= 0 && value <= 32767 * TDL_SECOND;
    case TDL_KEEPALIVE_INTERVAL: return value > 0 && value <= 32767 * TDL_SECOND;
    case TDL_KEEPALIVE_COUNT: return value >= 1 && value <= 127;
    case TDL_LINGER: return value == 0 || value == TDL_FOREVER;
    case TDL_READ_BUFFER:
    case TDL_WRITE_BUFFER: return value >= 1 && value <= INT32_MAX / 2;
    case TDL_TOS: return value >= 0 && value <= 255;
    case TDL_TTL: return value >= 1 && value <= 255;
    default: return false;
    }
}

static int set(int fd, int option, int64_t value) {
    switch (option) {
    case TDL_NODELAY: return set_int(fd, IPPROTO_TCP, TCP_NODELAY, value);
    case TDL_KEEPALIVE: return set_keepalive(fd, value);
    case TDL_KEEPALIVE_INTERVAL: return set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, seconds(value));
    case TDL_KEEPALIVE_COUNT: return set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, value);
    case TDL_LINGER: return set_linger(fd, value);
    case TDL_READ_BUFFER: return set_int(fd, SOL_SOCKET, SO_RCVBUF, value);
    case TDL_WRITE_BUFFER: return set_int(fd, SOL_SOCKET, SO_SNDBUF, value);
    case TDL_TOS: return set_tos(fd, value);
    case TDL_TTL: return set_ttl(fd, value);
    default: return set_int(fd, SOL_SOCKET, SO_BROADCAST, value);
    }
}

static int64_t get(int fd, int option) {
    switch (option) {
    case TDL_NODELAY: {
        int64_t on = get_int(fd, IPPROTO_TCP, TCP_NODELAY); /* other bits are the kernel's */
        return on < 0 ? on : on != 0;
    }
    case TDL_KEEPALIVE: return get_keepalive(fd);
    case TDL_KEEPALIVE_INTERVAL: {
        int64_t s = get_int(fd, IPPROTO_TCP, TCP_KEEPINTVL);
        return s < 0 ? s : s * TDL_SECOND;
    }
    case TDL_KEEPALIVE_COUNT: return get_int(fd, IPPROTO_TCP, TCP_KEEPCNT);
    case TDL_LINGER: return get_linger(fd);
    case TDL_READ_BUFFER: return get_int(fd, SOL_SOCKET, SO_RCVBUF);
    case TDL_WRITE_BUFFER: return get_int(fd, SOL_SOCKET, SO_SNDBUF);
    case TDL_TOS: return get_tos(fd);
    case TDL_TTL: return get_ttl(fd);
    case TDL_BROADCAST: return get_int(fd, SOL_SOCKET, SO_BROADCAST);
    default: return TDL_EINVAL;
    }
}

int tdl_pd_set_option(tdl_pd *pd, int option, int64_t value) {
    if (!in_range(option, value)) return TDL_EINVAL;
    int r = tdl_pd_enter_plain(pd);
    if (r < 0) return r;
    r = pd->fd < 0 ? -EOPNOTSUPP : set(pd->fd, option, value);
    tdl_pd_leave_plain(pd);
    return r;
}

int64_t tdl_pd_option(tdl_pd *pd, int option) {
    int64_t r = tdl_pd_enter_plain(pd);
    if (r < 0) return r;
    r = pd->fd < 0 ? -EOPNOTSUPP : get(pd->fd, option);
    tdl_pd_leave_plain(pd);
    return r;
}
