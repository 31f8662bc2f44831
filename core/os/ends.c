/* SPDX-License-Identifier: MIT
 *
 * Connections, descriptors and files as readers and writers, and the better ways
 * of copying between them: within the kernel, or a chain in as few calls as will do.
 */
#include "io/buf.h"
#include "net/net.h"
#include "os/fs.h"

static const tdl_reader_type conn_reader, file_reader;

/* -- Connections --------------------------------------------------------------------- */

static int64_t conn_read(void *of, void *buf, size_t n) { return tdl_conn_read(of, buf, n); }

static int64_t conn_write(void *of, const void *buf, size_t n, size_t *written) {
    int code;
    tdl_op *op = tdl_caller_op(&code);
    if (TDL_UNLIKELY(!op)) return code;
    op->extra = 0;
    int64_t r = tdl_conn_write_op(op, of, buf, n);
    if (r == TDL_PENDING) r = tdl_op_wait(op);
    if (r < 0 && op->extra > 0) *written = (size_t)op->extra;
    return r;
}

/* All of a chain: what has gone out is no longer in it. */
static int send_chain(tdl_conn *c, tdl_buf *b, int64_t *copied) {
    size_t before = b->len;
    int64_t r = tdl_conn_write_buf(c, b);
    *copied = (int64_t)(before - b->len);
    return r < 0 ? (int)r : 0;
}

static int send_file(tdl_conn *c, tdl_file *f, int64_t n, int64_t *copied) {
    int r = tdl_file_enter(f);
    if (r < 0) return r;
    r = tdl_conn_send_file(c, f->fd, -1, n, copied);
    tdl_file_leave(f);
    return r;
}

static int conn_from(void *of, tdl_reader from, int64_t n, int64_t *copied) {
    tdl_buf *b = tdl_chain_of(from);
    if (from.type == &conn_reader) return tdl_conn_copy(of, from.of, n, copied);
    if (from.type == &file_reader) return send_file(of, from.of, n, copied);
    if (b && (n < 0 || (uint64_t)n >= b->len)) return send_chain(of, b, copied);
    return TDL_COPY_PLAIN;
}

static const tdl_reader_type conn_reader = {conn_read, NULL};
static const tdl_writer_type conn_writer = {conn_write, conn_from};

tdl_reader tdl_conn_reader(tdl_conn *c) { return (tdl_reader){c ? &conn_reader : NULL, c}; }
tdl_writer tdl_conn_writer(tdl_conn *c) { return (tdl_writer){c ? &conn_writer : NULL, c}; }
tdl_reader tdl_fd_reader(tdl_fd *f) { return tdl_conn_reader(f ? &f->stream : NULL); }
tdl_writer tdl_fd_writer(tdl_fd *f) { return tdl_conn_writer(f ? &f->stream : NULL); }

/* -- Files ----------------------------------------------------------------------------- */

static int64_t deadline_of(tdl_file *f) {
    int64_t when = at_load_rlx(&f->deadline);
    return when ? when : TDL_FOREVER;
}

static int64_t file_read(void *of, void *buf, size_t n) { return tdl_file_read(of, buf, n, deadline_of(of)); }

static int64_t file_write(void *of, const void *buf, size_t n, size_t *written) {
    enum { PART = 1 << 30 }; /* what one call takes */
    size_t done = 0;
    while (done < n) {
        size_t part = n - done < PART ? n - done : PART;
        int64_t r = tdl_file_write(of, (const char *)buf + done, part, deadline_of(of));
        if (r < 0) {
            *written = done;
            return r;
        }
        done += (size_t)r;
    }
    return (int64_t)n;
}

static int file_from(void *of, tdl_reader from, int64_t n, int64_t *copied) {
    (void)n, (void)copied;
    return from.type == &file_reader && from.of == of ? TDL_EINVAL : TDL_COPY_PLAIN;
}

static const tdl_reader_type file_reader = {file_read, NULL};
static const tdl_writer_type file_writer = {file_write, file_from};

tdl_reader tdl_file_reader(tdl_file *f) { return (tdl_reader){f ? &file_reader : NULL, f}; }
tdl_writer tdl_file_writer(tdl_file *f) { return (tdl_writer){f ? &file_writer : NULL, f}; }

void tdl_file_set_deadline(tdl_file *f, int64_t when) {
    if (f) at_store_rlx(&f->deadline, when);
}
