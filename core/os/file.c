/* SPDX-License-Identifier: MIT
 *
 * Files: the handle, who uses it, closing; and the blocking forms. A request
 * holds its file (users), so that the descriptor stays what it was until the last
 * one has ended, also one that nobody waits for any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "os/fs.h"
#include "sys/pool.h"
#include "sys/sys.h"

static tdl_pool pool = TDL_POOL_INIT(struct tdl_file);

int64_t tdl_file_live(void) { return tdl_pool_live(&pool); }

/* -- The handle ------------------------------------------------------------------- */

tdl_file *tdl_file_make(int *code) {
    tdl_file *f = tdl_pool_take(&pool);
    if (f)
        f->fd = -1;
    else
        *code = TDL_ENOMEM;
    return f;
}

int tdl_file_adopt(int fd, tdl_file **f) {
    int code = 0;
    if (!f) return TDL_EINVAL;
    *f = NULL;
    if (tdl_forked()) return TDL_EFORKED;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return -errno;
    if ((*f = tdl_file_make(&code)) != NULL) (*f)->fd = fd;
    return code;
}

/* Gives the memory back when it is time; *fd is what is to be closed then. Under the lock. */
static bool is_gone(tdl_file *f, int *fd) {
    *fd = -1;
    if (f->users > 0 || !f->closed) return false;
    *fd = f->fd;
    f->fd = -1;
    return f->freed;
}

static int finish_closing(tdl_file *f, bool gone, int fd) {
    int r = fd >= 0 ? tdl_sys.close(fd) : 0;
    if (gone) {
        at_store_rlx(&f->uncached, 0);
        f->users = f->closed = f->freed = 0;
        f->fd = 0;
        tdl_pool_give(&pool, f);
    }
    return r == -EINTR ? 0 : r;
}

int tdl_file_enter(tdl_file *f) {
    if (!f) return TDL_EINVAL;
    if (tdl_forked()) return TDL_EFORKED;
    tdl_lock_take(&tdl_work_lock);
    int r = f->closed ? TDL_ECLOSED : 0;
    if (r == 0) f->users++;
    tdl_unlock(&tdl_work_lock);
    return r;
}

void tdl_file_leave(tdl_file *f) {
    int fd;
    tdl_lock_take(&tdl_work_lock);
    f->users--;
    bool gone = is_gone(f, &fd);
    tdl_unlock(&tdl_work_lock);
    finish_closing(f, gone, fd);
}

tdl_fs *tdl_fs_on(int kind, tdl_file *f, int *code) {
    if ((*code = tdl_file_enter(f)) < 0) return NULL;
    tdl_fs *r = tdl_fs_new(kind, "file", NULL, code);
    if (!r) {
        tdl_file_leave(f);
        return NULL;
    }
    r->file = f;
    r->w.waiters = &f->waiters;
    return r;
}

static int close_file(tdl_file *f, bool freed) {
    int fd = -1;
    tdl_lock_take(&tdl_work_lock);
    int r = f->closed ? TDL_ECLOSED : 0;
    f->closed = 1;
    if (freed) f->freed = 1;
    tdl_node *list = tdl_queue_claim_all(&f->waiters);
    bool gone = is_gone(f, &fd);
    tdl_unlock(&tdl_work_lock);
    tdl_complete_all(list, TDL_ECLOSED);
    int end = finish_closing(f, gone, fd);
    return r < 0 ? r : end;
}

int tdl_file_close(tdl_file *f) {
    if (tdl_forked()) return TDL_EFORKED;
    return f ? close_file(f, false) : TDL_EINVAL;
}

void tdl_file_free(tdl_file *f) {
    if (f && !tdl_forked()) close_file(f, true);
}

int tdl_file_release(tdl_file *f) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!f) return TDL_EINVAL;
    tdl_lock_take(&tdl_work_lock);
    int r = f->closed ? TDL_ECLOSED : f->users ? TDL_EBUSY : f->fd;
    if (r >= 0) {
        f->closed = 1;
        f->fd = -1;
    }
    tdl_unlock(&tdl_work_lock);
    return r;
}

int tdl_file_fd(tdl_file *f) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!f) return TDL_EINVAL;
    tdl_lock_take(&tdl_work_lock);
    int r = f->closed ? TDL_ECLOSED : f->fd;
    tdl_unlock(&tdl_work_lock);
    return r;
}

int64_t tdl_file_seek(tdl_file *f, int64_t offset, int whence) {
    if (whence < SEEK_SET || whence > SEEK_END) return TDL_EINVAL;
    int r = tdl_file_enter(f);
    if (r < 0) return r;
    int64_t at = lseek(f->fd, offset, whence);
    if (at < 0) at = -errno;
    tdl_file_leave(f);
    return at;
}

/* -- Blocking forms -------------------------------------------------------------------- */

static int64_t wait_for(tdl_op *op, int64_t r) { return r == TDL_PENDING ? tdl_op_wait(op) : r; }

/* For what comes as a pointer: *p is NULL with an error. */
#define POINTER_FORM(p, start_expr)                                            \
    do {                                                                       \
        int code_;                                                             \
        if (!(p)) return TDL_EINVAL;                                           \
        *(p) = NULL;                                                           \
        tdl_op *op = tdl_caller_op(&code_);                                    \
        if (TDL_UNLIKELY(!op)) return code_;                                   \
        int64_t r_ = wait_for(op, (start_expr));                               \
        if (r_ >= 0) *(p) = tdl_val_ptr(&op->out);                             \
        return (int)r_;                                                        \
    } while (0)

int tdl_file_open(const char *path, int flags, int mode, tdl_file **f, int64_t deadline) {
    POINTER_FORM(f, tdl_file_open_op(op, path, flags, mode, deadline));
}
int tdl_file_open_temp(const char *text, tdl_file **f, char *buf, size_t size, int64_t deadline) {
    POINTER_FORM(f, tdl_file_open_temp_op(op, text, buf, size, deadline));
}
int tdl_fs_scan(const char *path, tdl_dir **d, int64_t deadline) { POINTER_FORM(d, tdl_fs_scan_op(op, path, deadline)); }

int64_t tdl_file_read(tdl_file *f, void *buf, size_t n, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_file_read_op(op, f, buf, n, -1, deadline));
}
int64_t tdl_file_pread(tdl_file *f, void *buf, size_t n, int64_t offset, int64_t deadline) {
    TDL_BLOCKING_FORM(offset < 0 ? TDL_EINVAL : tdl_file_read_op(op, f, buf, n, offset, deadline));
}
int64_t tdl_file_write(tdl_file *f, const void *buf, size_t n, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_file_write_op(op, f, buf, n, -1, deadline));
}
int64_t tdl_file_pwrite(tdl_file *f, const void *buf, size_t n, int64_t offset, int64_t deadline) {
    TDL_BLOCKING_FORM(offset < 0 ? TDL_EINVAL : tdl_file_write_op(op, f, buf, n, offset, deadline));
}
int tdl_file_sync(tdl_file *f, int data_only, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_file_sync_op(op, f, data_only, deadline));
}
int tdl_file_truncate(tdl_file *f, int64_t size, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_file_truncate_op(op, f, size, deadline));
}
int64_t tdl_file_copy(tdl_file *to, tdl_file *from, int64_t offset, size_t n, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_file_copy_op(op, to, from, offset, n, deadline));
}
int tdl_file_stat(tdl_file *f, tdl_stat *st, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_file_stat_op(op, f, st, deadline));
}
int tdl_fs_stat(const char *path, int follow, tdl_stat *st, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_stat_op(op, path, follow, st, deadline));
}
int tdl_fs_access(const char *path, int how, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_path_op(op, FS_ACCESS, path, how, deadline));
}
int tdl_fs_mkdir(const char *path, int mode, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_path_op(op, FS_MKDIR, path, mode, deadline));
}
int tdl_fs_rmdir(const char *path, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_path_op(op, FS_RMDIR, path, 0, deadline));
}
int tdl_fs_unlink(const char *path, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_path_op(op, FS_UNLINK, path, 0, deadline));
}
int tdl_fs_rename(const char *from, const char *to, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_paths_op(op, FS_RENAME, from, to, 0, deadline));
}
int tdl_fs_link(const char *to, const char *path, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_paths_op(op, FS_LINK, to, path, 0, deadline));
}
int tdl_fs_symlink(const char *to, const char *path, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_paths_op(op, FS_SYMLINK, to, path, 0, deadline));
}
int tdl_fs_chmod(const char *path, int mode, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_path_op(op, FS_CHMOD, path, mode, deadline));
}
int tdl_fs_chown(const char *path, int64_t uid, int64_t gid, int follow, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_pair_op(op, FS_CHOWN, path, uid, gid, follow, deadline));
}
int tdl_fs_utime(const char *path, int64_t atime, int64_t mtime, int follow, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_pair_op(op, FS_UTIME, path, atime, mtime, follow, deadline));
}
int tdl_fs_copy(const char *from, const char *to, int exclusive, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_paths_op(op, FS_COPY, from, to, exclusive, deadline));
}
int tdl_fs_readlink(const char *path, char *buf, size_t size, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_text_op(op, FS_READLINK, path, buf, size, deadline));
}
int tdl_fs_realpath(const char *path, char *buf, size_t size, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_text_op(op, FS_REALPATH, path, buf, size, deadline));
}
int tdl_fs_mkdtemp(const char *text, char *buf, size_t size, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_text_op(op, FS_MKDTEMP, text, buf, size, deadline));
}

int tdl_fs_read(const char *path, size_t limit, tdl_val *v, int64_t deadline) {
    int code;
    if (!v) return TDL_EINVAL;
    tdl_val_set_nil(v);
    tdl_op *op = tdl_caller_op(&code);
    if (TDL_UNLIKELY(!op)) return code;
    int64_t r = wait_for(op, tdl_fs_read_op(op, path, limit, deadline));
    if (r == 0) *v = op->out;
    tdl_val_set_nil(&op->out);
    return (int)r;
}

int tdl_fs_write(const char *path, const void *buf, size_t n, int mode, int flags, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_fs_write_op(op, path, buf, n, mode, flags, deadline));
}
