/* SPDX-License-Identifier: MIT
 * What systems other than Linux know of a connection. What TCP_INFO is, where there is
 * one, each has in a way of its own. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sys/base.h"

#ifndef TDL_LINUX
#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

#include "net/net.h"
#include "sys/sys.h"

int tdl_conn_tcp_info(tdl_conn *c, tdl_tcp_info *out) {
    if (!c || !out || out->size != sizeof *out) return TDL_EINVAL;
    int r = tdl_pd_enter_plain(c->pd);
    if (r < 0) return r;
    tdl_pd_leave_plain(c->pd);
    return -EOPNOTSUPP;
}

/* A connection that has ended takes no address of a peer any more. */
bool tdl_tcp_is_over(int fd) {
    struct sockaddr_storage sa;
    socklen_t n = sizeof sa;
    return tdl_sys.getpeername(fd, (struct sockaddr *)&sa, &n) == -ENOTCONN;
}

#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__) || defined(__DragonFly__)
static int who_is(int fd, uid_t *uid, gid_t *gid) { return getpeereid(fd, uid, gid) < 0 ? -errno : 0; }
#else
static int who_is(int fd, uid_t *uid, gid_t *gid) {
    (void)fd;
    (void)uid;
    (void)gid;
    return -EOPNOTSUPP;
}
#endif

int tdl_conn_peercred(tdl_conn *c, int64_t *pid, int64_t *uid, int64_t *gid) {
    uid_t u = 0;
    gid_t g = 0;
    if (!c) return TDL_EINVAL;
    int r = tdl_pd_enter_plain(c->pd);
    if (r < 0) return r;
    int family = c->pd->fd < 0 ? -EOPNOTSUPP : tdl_fd_family(c->pd->fd);
    r = family < 0 ? family : family != AF_UNIX ? -EOPNOTSUPP : who_is(c->pd->fd, &u, &g);
    tdl_pd_leave_plain(c->pd);
    if (r < 0) return r;
    if (pid) *pid = -1; /* not told */
    if (uid) *uid = (int64_t)u;
    if (gid) *gid = (int64_t)g;
    return 0;
}

#endif
