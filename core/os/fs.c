/* SPDX-License-Identifier: MIT
 * Requests to the file system: making them, and their results. */
#include <errno.h>
#include <string.h>

#include "os/fs.h"
#include "sys/sys.h"

enum { MOST_BYTES = 1 << 30, MOST_FLAGS = TDL_OPEN_ALL };

/* -- One request ------------------------------------------------------------------ */

/* What came, or 0, is the caller's then. */
static int64_t text_out(const char *text, char *buf, size_t size) {
    size_t n = strlen(text);
    if (buf && size) {
        size_t k = n < size ? n : size - 1;
        memcpy(buf, text, k);
        buf[k] = '\0';
    }
    return (int64_t)n;
}

static int64_t give_file(tdl_fs *r, tdl_op *op) {
    r->made->fd = (int)r->w.result;
    tdl_val_set_ptr(&op->out, r->made);
    r->made = NULL;
    r->w.result = -1;
    return 0;
}

static int64_t deliver(tdl_work *w, tdl_op *op) {
    tdl_fs *r = TDL_CONTAINER(w, tdl_fs, w);
    int64_t k = w->result;
    if (k < 0) return k;
    switch (r->kind) {
    case FS_OPEN: return give_file(r, op);
    case FS_TEMP: k = text_out(r->req.path, r->out, r->room); give_file(r, op); return k;
    case FS_READ:
        if (k > 0) memcpy(r->out, r->bytes, (size_t)k);
        return k;
    case FS_STAT: return tdl_stat_from(r->out, &r->req.statbuf);
    case FS_READLINK:
    case FS_REALPATH: return text_out(r->req.ptr, r->out, r->room);
    case FS_MKDTEMP: return text_out(r->req.path, r->out, r->room);
    case FS_SLURP:
        op->out = r->val;
        tdl_val_set_nil(&r->val);
        return 0;
    case FS_SCAN:
        tdl_val_set_ptr(&op->out, r->dir);
        r->dir = NULL;
        return 0;
    case FS_WRITE:
    case FS_SEND: return k;
    default: return 0;
    }
}

static void drop(tdl_work *w) {
    tdl_fs *r = TDL_CONTAINER(w, tdl_fs, w);
    bool opened = (r->kind == FS_OPEN || r->kind == FS_TEMP) && w->state == WORK_DONE && w->result >= 0;
    if (opened && r->made) tdl_sys.close((int)w->result); /* it came too late */
    if (r->made) tdl_file_free(r->made);
    tdl_dir_free(r->dir);
    tdl_val_clear(&r->val);
    tdl_sys.release(r->bytes);
    if (r->used) uv_fs_req_cleanup(&r->req);
    if (r->file) tdl_file_leave(r->file);
    if (r->from) tdl_file_leave(r->from);
    tdl_sys.release(r);
}

tdl_fs *tdl_fs_new(int kind, const char *path, const char *other, int *code) {
    *code = TDL_EINVAL;
    if (!path || !*path || (other && !*other)) return NULL;
    size_t n = strlen(path) + 1, m = other ? strlen(other) + 1 : 0;
    tdl_fs *r = tdl_alloc_zeroed(sizeof *r + n + m);
    *code = TDL_ENOMEM;
    if (!r) return NULL;
    r->kind = (uint8_t)kind;
    r->path = memcpy(r->text, path, n);
    r->other = other ? memcpy(r->text + n, other, m) : NULL;
    r->w.kind = WORK_FILES;
    r->w.run = tdl_fs_run;
    r->w.deliver = deliver;
    r->w.drop = drop;
    return r;
}

static const tdl_op_class file_class = {"file", tdl_work_finish, tdl_work_abandon};

static int64_t do_for(tdl_op *op, tdl_fs *r, int64_t deadline) {
    tdl_val_set_nil(&op->out);
    return tdl_work_op(op, &r->w, deadline, &file_class);
}

/* -- Files ---------------------------------------------------------------------------- */

int64_t tdl_file_open_op(tdl_op *op, const char *path, int flags, int mode, int64_t deadline) {
    int code;
    if (flags & ~MOST_FLAGS || !(flags & (TDL_OPEN_READ | TDL_OPEN_WRITE)) || mode & ~07777) return TDL_EINVAL;
    tdl_fs *r = tdl_fs_new(FS_OPEN, path, NULL, &code);
    if (!r) return code;
    r->flags = flags;
    r->mode = mode;
    if (!(r->made = tdl_file_make(&code))) {
        drop(&r->w);
        return code;
    }
    return do_for(op, r, deadline);
}

int64_t tdl_file_open_temp_op(tdl_op *op, const char *text, char *buf, size_t size, int64_t deadline) {
    int code;
    tdl_fs *r = tdl_fs_new(FS_TEMP, text, NULL, &code);
    if (!r) return code;
    r->out = buf;
    r->room = size;
    if (!(r->made = tdl_file_make(&code))) {
        drop(&r->w);
        return code;
    }
    return do_for(op, r, deadline);
}

/* Of what is cached as much as there is: a short read is one like another. */
static int64_t read_cached(tdl_file *f, void *buf, size_t n, int64_t offset) {
    enum { MOST_CACHED = 1 << 18 };
    if (at_load_rlx(&f->uncached) || n > MOST_CACHED) return -EAGAIN;
    int64_t k = tdl_sys.read_cached(f->fd, buf, n, offset);
    if (k == -EOPNOTSUPP || k == -ENOSYS || k == -EINVAL) at_store_rlx(&f->uncached, 1);
    return k < 0 ? -EAGAIN : k;
}

int64_t tdl_file_read_op(tdl_op *op, tdl_file *f, void *buf, size_t n, int64_t offset, int64_t deadline) {
    int code;
    if (!buf || offset < -1) return TDL_EINVAL;
    if (n > MOST_BYTES) n = MOST_BYTES;
    if (deadline != TDL_NOWAIT && (code = tdl_deadline_check(deadline)) < 0) return code;
    tdl_fs *r = tdl_fs_on(FS_READ, f, &code);
    if (!r) return code;
    int64_t k = tdl_m_self()->bubble ? TDL_ESIM : read_cached(f, buf, n, offset);
    if (k == -EAGAIN && !(r->bytes = tdl_sys.alloc(n ? n : 1))) k = TDL_ENOMEM;
    if (k != -EAGAIN) {
        drop(&r->w);
        return k;
    }
    r->n = n;
    r->a = offset;
    r->out = buf;
    return do_for(op, r, deadline);
}

int64_t tdl_file_write_op(tdl_op *op, tdl_file *f, const void *buf, size_t n, int64_t offset, int64_t deadline) {
    int code;
    if (!buf || offset < -1 || n > MOST_BYTES) return TDL_EINVAL;
    tdl_fs *r = tdl_fs_on(FS_WRITE, f, &code);
    if (!r) return code;
    if (!(r->bytes = tdl_sys.alloc(n ? n : 1))) {
        drop(&r->w);
        return TDL_ENOMEM;
    }
    memcpy(r->bytes, buf, n);
    r->n = n;
    r->a = offset;
    return do_for(op, r, deadline);
}

int64_t tdl_file_sync_op(tdl_op *op, tdl_file *f, int data_only, int64_t deadline) {
    int code;
    tdl_fs *r = tdl_fs_on(FS_SYNC, f, &code);
    if (!r) return code;
    r->flags = data_only != 0;
    return do_for(op, r, deadline);
}

int64_t tdl_file_truncate_op(tdl_op *op, tdl_file *f, int64_t size, int64_t deadline) {
    int code;
    if (size < 0) return TDL_EINVAL;
    tdl_fs *r = tdl_fs_on(FS_TRUNCATE, f, &code);
    if (!r) return code;
    r->a = size;
    return do_for(op, r, deadline);
}

int64_t tdl_file_copy_op(tdl_op *op, tdl_file *to, tdl_file *from, int64_t offset, size_t n, int64_t deadline) {
    int code;
    if (offset < 0) return TDL_EINVAL;
    tdl_fs *r = tdl_fs_on(FS_SEND, to, &code);
    if (!r) return code;
    tdl_fs *other = tdl_fs_on(FS_SEND, from, &code); /* for its hold alone */
    if (!other) {
        drop(&r->w);
        return code;
    }
    r->from = other->file;
    other->file = NULL;
    drop(&other->w);
    r->a = offset;
    r->n = n < MOST_BYTES ? n : MOST_BYTES;
    return do_for(op, r, deadline);
}

static bool stat_fits(const tdl_stat *st) { return st && st->size == sizeof *st; }

int64_t tdl_file_stat_op(tdl_op *op, tdl_file *f, tdl_stat *st, int64_t deadline) {
    int code;
    if (!stat_fits(st)) return TDL_EINVAL;
    tdl_fs *r = tdl_fs_on(FS_STAT, f, &code);
    if (!r) return code;
    r->out = st;
    return do_for(op, r, deadline);
}

/* -- Paths ------------------------------------------------------------------------------ */

int64_t tdl_fs_stat_op(tdl_op *op, const char *path, int follow, tdl_stat *st, int64_t deadline) {
    int code;
    if (!stat_fits(st)) return TDL_EINVAL;
    tdl_fs *r = tdl_fs_new(FS_STAT, path, NULL, &code);
    if (!r) return code;
    r->flags = follow != 0;
    r->out = st;
    return do_for(op, r, deadline);
}

int64_t tdl_fs_path_op(tdl_op *op, int kind, const char *path, int mode, int64_t deadline) {
    int code;
    if (mode & ~07777) return TDL_EINVAL;
    tdl_fs *r = tdl_fs_new(kind, path, NULL, &code);
    if (!r) return code;
    r->mode = mode;
    return do_for(op, r, deadline);
}

int64_t tdl_fs_paths_op(tdl_op *op, int kind, const char *path, const char *other, int flags, int64_t deadline) {
    int code;
    tdl_fs *r = other ? tdl_fs_new(kind, path, other, &code) : NULL;
    if (!r) return other ? code : TDL_EINVAL;
    r->flags = flags != 0;
    return do_for(op, r, deadline);
}

int64_t tdl_fs_pair_op(tdl_op *op, int kind, const char *path, int64_t a, int64_t b, int follow, int64_t deadline) {
    int code;
    if (kind == FS_CHOWN && (a < -1 || b < -1 || a > UINT32_MAX || b > UINT32_MAX)) return TDL_EINVAL;
    tdl_fs *r = tdl_fs_new(kind, path, NULL, &code);
    if (!r) return code;
    r->a = a;
    r->b = b;
    r->flags = follow != 0;
    return do_for(op, r, deadline);
}

int64_t tdl_fs_text_op(tdl_op *op, int kind, const char *path, char *buf, size_t size, int64_t deadline) {
    int code;
    tdl_fs *r = tdl_fs_new(kind, path, NULL, &code);
    if (!r) return code;
    r->out = buf;
    r->room = size;
    return do_for(op, r, deadline);
}

int64_t tdl_fs_scan_op(tdl_op *op, const char *path, int64_t deadline) {
    return tdl_fs_path_op(op, FS_SCAN, path, 0, deadline);
}

/* -- Whole files -------------------------------------------------------------------------- */

int64_t tdl_fs_read_op(tdl_op *op, const char *path, size_t limit, int64_t deadline) {
    int code;
    tdl_fs *r = tdl_fs_new(FS_SLURP, path, NULL, &code);
    if (!r) return code;
    r->n = limit;
    return do_for(op, r, deadline);
}

int64_t tdl_fs_write_op(tdl_op *op, const char *path, const void *buf, size_t n, int mode, int flags,
                        int64_t deadline) {
    int code = TDL_EINVAL;
    if ((!buf && n) || n > MOST_BYTES || mode & ~07777 || flags & ~TDL_WRITE_ALL) return TDL_EINVAL;
    if (flags & TDL_WRITE_ATOMIC && flags & TDL_WRITE_APPEND) return TDL_EINVAL;
    char *beside = NULL;
    if (flags & TDL_WRITE_ATOMIC && path) {
        size_t k = strlen(path);
        if (!(beside = tdl_sys.alloc(k + sizeof ".XXXXXX"))) return TDL_ENOMEM;
        memcpy(beside, path, k);
        memcpy(beside + k, ".XXXXXX", sizeof ".XXXXXX");
    }
    tdl_fs *r = tdl_fs_new(FS_SPILL, path, beside, &code);
    tdl_sys.release(beside);
    if (!r) return code;
    if (!(r->bytes = tdl_sys.alloc(n ? n : 1))) {
        drop(&r->w);
        return TDL_ENOMEM;
    }
    if (n) memcpy(r->bytes, buf, n);
    r->n = n;
    r->mode = mode;
    r->flags = flags;
    return do_for(op, r, deadline);
}
