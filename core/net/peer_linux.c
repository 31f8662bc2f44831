/* SPDX-License-Identifier: MIT
 * What Linux knows of a connection: TCP_INFO, and who is at the other end. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sys/base.h"

#ifdef TDL_LINUX
#include <errno.h>
#include <linux/tcp.h> /* not netinet/tcp.h: its tcp_info ends early */
#include <netinet/in.h>
#include <string.h>

#include "net/net.h"
#include "sys/sys.h"

int tdl_conn_tcp_info(tdl_conn *c, tdl_tcp_info *out) {
    struct tcp_info i;
    socklen_t n = sizeof i;
    if (!c || !out || out->size != sizeof *out) return TDL_EINVAL;
    memset(&i, 0, sizeof i); /* an older kernel tells less */
    int r = tdl_pd_enter_plain(c->pd);
    if (r < 0) return r;
    r = c->pd->fd < 0 ? -EOPNOTSUPP : tdl_sys.getsockopt(c->pd->fd, IPPROTO_TCP, TCP_INFO, &i, &n);
    tdl_pd_leave_plain(c->pd);
    if (r < 0) return r;
    *out = (tdl_tcp_info){
        .size = sizeof *out,
        .state = i.tcpi_state,
        .rtt = i.tcpi_rtt * TDL_MICROSECOND,
        .rtt_var = i.tcpi_rttvar * TDL_MICROSECOND,
        .rtt_min = i.tcpi_min_rtt == UINT32_MAX ? 0 : i.tcpi_min_rtt * TDL_MICROSECOND,
        .rto = i.tcpi_rto * TDL_MICROSECOND,
        .mss = i.tcpi_snd_mss,
        .cwnd = i.tcpi_snd_cwnd,
        .ssthresh = i.tcpi_snd_ssthresh,
        .unacked = i.tcpi_unacked,
        .lost = i.tcpi_lost,
        .retransmits = i.tcpi_total_retrans,
        .bytes_acked = (int64_t)i.tcpi_bytes_acked,
        .bytes_received = (int64_t)i.tcpi_bytes_received,
        .bytes_unsent = i.tcpi_notsent_bytes,
        .delivery_rate = (int64_t)i.tcpi_delivery_rate,
    };
    return 0;
}

bool tdl_tcp_is_over(int fd) {
    enum { CLOSE = 7 }; /* the kernel's TCP_CLOSE, which linux/tcp.h lacks */
    struct tcp_info i = {0};
    socklen_t n = sizeof i;
    return tdl_sys.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &n) == 0 && i.tcpi_state == CLOSE;
}

/* -- Who is there ---------------------------------------------------------------------- */

int tdl_conn_peercred(tdl_conn *c, int64_t *pid, int64_t *uid, int64_t *gid) {
    struct ucred who = {0};
    socklen_t n = sizeof who;
    if (!c) return TDL_EINVAL;
    int r = tdl_pd_enter_plain(c->pd);
    if (r < 0) return r;
    int family = c->pd->fd < 0 ? -EOPNOTSUPP : tdl_fd_family(c->pd->fd);
    if (family != AF_UNIX)
        r = family < 0 ? family : -EOPNOTSUPP;
    else
        r = tdl_sys.getsockopt(c->pd->fd, SOL_SOCKET, SO_PEERCRED, &who, &n);
    tdl_pd_leave_plain(c->pd);
    if (r < 0) return r;
    if (pid) *pid = who.pid;
    if (uid) *uid = (int64_t)who.uid;
    if (gid) *gid = (int64_t)who.gid;
    return 0;
}

#endif
