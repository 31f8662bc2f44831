/* SPDX-License-Identifier: MIT
 * The _start forms: the host's side of every blocking operation. */
#include "host/host.h"
#include "net/net.h"
#include "net/tls.h"
#include "sched/ops.h"
#include "sim/sim.h"
#include "sync/chan.h"
#include "sync/sync.h"

enum { IO_MAX = 1 << 30 };

int tdl_sleep_start(tdl_host *h, uint32_t task, int64_t ns) { START_FORM(tdl_sleep_op(op, ns)); }

int tdl_sim_wait_start(tdl_host *h, uint32_t task) { START_FORM(tdl_sim_wait_op(op)); }

int tdl_join_start(tdl_host *h, uint32_t task, tdl_g *g, int64_t deadline) {
    START_FORM(tdl_join_op(op, g, deadline));
}

int tdl_chan_send_start(tdl_host *h, uint32_t task, tdl_chan *ch, const tdl_val *v, int64_t deadline) {
    if (!v) return TDL_EINVAL;
    START_FORM(tdl_chan_send_op(op, ch, v, deadline));
}

int tdl_chan_recv_start(tdl_host *h, uint32_t task, tdl_chan *ch, int64_t deadline) {
    START_FORM(tdl_chan_recv_op(op, ch, deadline));
}

int tdl_select_start(tdl_host *h, uint32_t task, const tdl_case *cases, int n, int64_t deadline) {
    START_FORM(tdl_select_op(op, cases, n, deadline, NULL));
}

int tdl_mutex_lock_start(tdl_host *h, uint32_t task, tdl_mutex *m, int64_t deadline) {
    START_FORM(tdl_mutex_lock_op(op, m, deadline));
}

int tdl_rwmutex_lock_start(tdl_host *h, uint32_t task, tdl_rwmutex *rw, int64_t deadline) {
    START_FORM(tdl_rwmutex_lock_op(op, rw, deadline));
}

int tdl_rwmutex_rlock_start(tdl_host *h, uint32_t task, tdl_rwmutex *rw, int64_t deadline) {
    START_FORM(tdl_rwmutex_rlock_op(op, rw, deadline));
}

int tdl_cond_wait_start(tdl_host *h, uint32_t task, tdl_cond *c, int64_t deadline) {
    START_FORM(tdl_cond_wait_op(op, c, deadline));
}

int tdl_sema_acquire_start(tdl_host *h, uint32_t task, tdl_sema *s, uint32_t n, int64_t deadline) {
    START_FORM(tdl_sema_acquire_op(op, s, n, deadline));
}

int tdl_waitgroup_wait_start(tdl_host *h, uint32_t task, tdl_waitgroup *wg, int64_t deadline) {
    START_FORM(tdl_waitgroup_wait_op(op, wg, deadline));
}

int tdl_once_begin_start(tdl_host *h, uint32_t task, tdl_once *o, int64_t deadline) {
    START_FORM(tdl_once_begin_op(op, o, deadline));
}

int tdl_context_wait_start(tdl_host *h, uint32_t task, tdl_context *c, int64_t deadline) {
    START_FORM(tdl_context_wait_op(op, c, deadline));
}

int tdl_errgroup_begin_start(tdl_host *h, uint32_t task, tdl_errgroup *eg, int64_t deadline) {
    START_FORM(tdl_errgroup_begin_op(op, eg, deadline));
}

int tdl_errgroup_wait_start(tdl_host *h, uint32_t task, tdl_errgroup *eg, int64_t deadline) {
    START_FORM(tdl_errgroup_wait_op(op, eg, deadline));
}

int tdl_singleflight_begin_start(tdl_host *h, uint32_t task, tdl_singleflight *sf, const void *key, size_t n,
                                 int64_t deadline) {
    START_FORM(tdl_singleflight_begin_op(op, sf, key, n, deadline));
}

int tdl_scope_wait_start(tdl_host *h, uint32_t task, tdl_scope *s, int64_t deadline) {
    START_FORM(tdl_scope_wait_op(op, s, deadline));
}

int tdl_listener_accept_start(tdl_host *h, uint32_t task, tdl_listener *l) {
    START_FORM(tdl_listener_accept_op(op, l));
}

int tdl_listener_wait_start(tdl_host *h, uint32_t task, tdl_listener *l) {
    START_FORM(tdl_listener_wait_op(op, l));
}

int tdl_dial_start(tdl_host *h, uint32_t task, const char *network, const char *address, int64_t timeout_ns) {
    tdl_dial_options o = {.size = sizeof o, .timeout = timeout_ns};
    START_FORM(tdl_dial_op(op, network, address, &o));
}

int tdl_dial_opts_start(tdl_host *h, uint32_t task, const char *network, const char *address,
                        const tdl_dial_options *o) {
    START_FORM(tdl_dial_op(op, network, address, o));
}

int tdl_dial_list_start(tdl_host *h, uint32_t task, const char *network, const tdl_addr *addresses, int n,
                        const tdl_dial_options *o) {
    START_FORM(tdl_dial_list_op(op, network, addresses, n, o));
}

int tdl_conn_read_start(tdl_host *h, uint32_t task, tdl_conn *c, void *buf, size_t n) {
    START_FORM(tdl_conn_read_op(op, c, buf, n < IO_MAX ? n : IO_MAX));
}

int tdl_conn_write_start(tdl_host *h, uint32_t task, tdl_conn *c, const void *buf, size_t n) {
    if (n > IO_MAX) return TDL_EINVAL;
    START_FORM(tdl_conn_write_op(op, c, buf, n));
}

int tdl_conn_handshake_start(tdl_host *h, uint32_t task, tdl_conn *c) { START_FORM(tdl_conn_handshake_op(op, c)); }

int tdl_conn_end_tls_start(tdl_host *h, uint32_t task, tdl_conn *c) { START_FORM(tdl_conn_end_tls_op(op, c)); }

int tdl_conn_fill_start(tdl_host *h, uint32_t task, tdl_conn *c, int how, size_t limit) {
    START_FORM(tdl_conn_fill_op(op, c, how, limit));
}

int tdl_conn_copy_start(tdl_host *h, uint32_t task, tdl_conn *to, tdl_conn *from, int64_t n) {
    START_FORM(tdl_conn_copy_op(op, to, from, n));
}

int tdl_conn_send_file_start(tdl_host *h, uint32_t task, tdl_conn *c, int fd, int64_t offset, int64_t n) {
    START_FORM(tdl_conn_send_file_op(op, c, fd, offset, n));
}

int tdl_server_next_start(tdl_host *h, uint32_t task, tdl_server *s, int64_t deadline) {
    START_FORM(tdl_server_next_op(op, s, deadline));
}

int tdl_server_shutdown_start(tdl_host *h, uint32_t task, tdl_server *s, int64_t deadline) {
    START_FORM(tdl_server_shutdown_op(op, s, deadline));
}

int tdl_conn_fill_until_start(tdl_host *h, uint32_t task, tdl_conn *c, const void *delim, size_t n, size_t limit) {
    START_FORM(tdl_conn_fill_until_op(op, c, delim, n, limit));
}

int tdl_conn_writev_start(tdl_host *h, uint32_t task, tdl_conn *c, const tdl_iovec *v, int n) {
    START_FORM(tdl_conn_writev_op(op, c, v, n));
}

int tdl_conn_write_buf_start(tdl_host *h, uint32_t task, tdl_conn *c, tdl_buf *b) {
    START_FORM(tdl_conn_write_buf_op(op, c, b));
}

int tdl_conn_send_fds_start(tdl_host *h, uint32_t task, tdl_conn *c, const void *buf, size_t n, const int *fds,
                            int nfds) {
    if (n > IO_MAX) return TDL_EINVAL;
    START_FORM(tdl_conn_send_fds_op(op, c, buf, n, fds, nfds));
}

int tdl_conn_recv_fds_start(tdl_host *h, uint32_t task, tdl_conn *c, void *buf, size_t n, int *fds, int *nfds) {
    START_FORM(tdl_conn_recv_fds_op(op, c, buf, n < IO_MAX ? n : IO_MAX, fds, nfds));
}

int tdl_dgram_recv_start(tdl_host *h, uint32_t task, tdl_dgram *d, void *buf, size_t n, tdl_addr *from) {
    START_FORM(tdl_dgram_recv_op(op, d, buf, n < IO_MAX ? n : IO_MAX, from));
}

int tdl_dgram_send_start(tdl_host *h, uint32_t task, tdl_dgram *d, const void *buf, size_t n, const tdl_addr *to) {
    if (n > IO_MAX) return TDL_EINVAL;
    START_FORM(tdl_dgram_send_op(op, d, buf, n, to));
}

int tdl_dgram_recv_batch_start(tdl_host *h, uint32_t task, tdl_dgram *d, tdl_packet *packets, int n) {
    START_FORM(tdl_dgram_recv_batch_op(op, d, packets, n));
}

int tdl_dgram_send_batch_start(tdl_host *h, uint32_t task, tdl_dgram *d, tdl_packet *packets, int n) {
    START_FORM(tdl_dgram_send_batch_op(op, d, packets, n));
}

int tdl_fd_wait_start(tdl_host *h, uint32_t task, tdl_fd *f, int readiness) {
    START_FORM(tdl_fd_wait_op(op, f, readiness));
}

int tdl_fd_read_start(tdl_host *h, uint32_t task, tdl_fd *f, void *buf, size_t n) {
    START_FORM(tdl_conn_read_op(op, f ? &f->stream : NULL, buf, n < IO_MAX ? n : IO_MAX));
}

int tdl_fd_write_start(tdl_host *h, uint32_t task, tdl_fd *f, const void *buf, size_t n) {
    if (n > IO_MAX) return TDL_EINVAL;
    START_FORM(tdl_conn_write_op(op, f ? &f->stream : NULL, buf, n));
}
