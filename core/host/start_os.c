/* SPDX-License-Identifier: MIT
 * The _start forms of what core/os does. */
#include "host/host.h"
#include "os/changes.h"
#include "os/fs.h"
#include "os/names.h"
#include "os/process.h"

int tdl_file_open_start(tdl_host *h, uint32_t task, const char *path, int flags, int mode, int64_t deadline) {
    START_FORM(tdl_file_open_op(op, path, flags, mode, deadline));
}
int tdl_file_open_temp_start(tdl_host *h, uint32_t task, const char *text, char *buf, size_t size, int64_t deadline) {
    START_FORM(tdl_file_open_temp_op(op, text, buf, size, deadline));
}
int tdl_file_read_start(tdl_host *h, uint32_t task, tdl_file *f, void *buf, size_t n, int64_t deadline) {
    START_FORM(tdl_file_read_op(op, f, buf, n, -1, deadline));
}
int tdl_file_pread_start(tdl_host *h, uint32_t task, tdl_file *f, void *buf, size_t n, int64_t offset,
                         int64_t deadline) {
    START_FORM(offset < 0 ? TDL_EINVAL : tdl_file_read_op(op, f, buf, n, offset, deadline));
}
int tdl_file_write_start(tdl_host *h, uint32_t task, tdl_file *f, const void *buf, size_t n, int64_t deadline) {
    START_FORM(tdl_file_write_op(op, f, buf, n, -1, deadline));
}
int tdl_file_pwrite_start(tdl_host *h, uint32_t task, tdl_file *f, const void *buf, size_t n, int64_t offset,
                          int64_t deadline) {
    START_FORM(offset < 0 ? TDL_EINVAL : tdl_file_write_op(op, f, buf, n, offset, deadline));
}
int tdl_file_sync_start(tdl_host *h, uint32_t task, tdl_file *f, int data_only, int64_t deadline) {
    START_FORM(tdl_file_sync_op(op, f, data_only, deadline));
}
int tdl_file_truncate_start(tdl_host *h, uint32_t task, tdl_file *f, int64_t size, int64_t deadline) {
    START_FORM(tdl_file_truncate_op(op, f, size, deadline));
}
int tdl_file_copy_start(tdl_host *h, uint32_t task, tdl_file *to, tdl_file *from, int64_t offset, size_t n,
                        int64_t deadline) {
    START_FORM(tdl_file_copy_op(op, to, from, offset, n, deadline));
}
int tdl_file_stat_start(tdl_host *h, uint32_t task, tdl_file *f, tdl_stat *st, int64_t deadline) {
    START_FORM(tdl_file_stat_op(op, f, st, deadline));
}
int tdl_fs_stat_start(tdl_host *h, uint32_t task, const char *path, int follow, tdl_stat *st, int64_t deadline) {
    START_FORM(tdl_fs_stat_op(op, path, follow, st, deadline));
}
int tdl_fs_access_start(tdl_host *h, uint32_t task, const char *path, int how, int64_t deadline) {
    START_FORM(tdl_fs_path_op(op, FS_ACCESS, path, how, deadline));
}
int tdl_fs_mkdir_start(tdl_host *h, uint32_t task, const char *path, int mode, int64_t deadline) {
    START_FORM(tdl_fs_path_op(op, FS_MKDIR, path, mode, deadline));
}
int tdl_fs_rmdir_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline) {
    START_FORM(tdl_fs_path_op(op, FS_RMDIR, path, 0, deadline));
}
int tdl_fs_unlink_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline) {
    START_FORM(tdl_fs_path_op(op, FS_UNLINK, path, 0, deadline));
}
int tdl_fs_rename_start(tdl_host *h, uint32_t task, const char *from, const char *to, int64_t deadline) {
    START_FORM(tdl_fs_paths_op(op, FS_RENAME, from, to, 0, deadline));
}
int tdl_fs_link_start(tdl_host *h, uint32_t task, const char *to, const char *path, int64_t deadline) {
    START_FORM(tdl_fs_paths_op(op, FS_LINK, to, path, 0, deadline));
}
int tdl_fs_symlink_start(tdl_host *h, uint32_t task, const char *to, const char *path, int64_t deadline) {
    START_FORM(tdl_fs_paths_op(op, FS_SYMLINK, to, path, 0, deadline));
}
int tdl_fs_chmod_start(tdl_host *h, uint32_t task, const char *path, int mode, int64_t deadline) {
    START_FORM(tdl_fs_path_op(op, FS_CHMOD, path, mode, deadline));
}
int tdl_fs_chown_start(tdl_host *h, uint32_t task, const char *path, int64_t uid, int64_t gid, int follow,
                       int64_t deadline) {
    START_FORM(tdl_fs_pair_op(op, FS_CHOWN, path, uid, gid, follow, deadline));
}
int tdl_fs_utime_start(tdl_host *h, uint32_t task, const char *path, int64_t atime, int64_t mtime, int follow,
                       int64_t deadline) {
    START_FORM(tdl_fs_pair_op(op, FS_UTIME, path, atime, mtime, follow, deadline));
}
int tdl_fs_copy_start(tdl_host *h, uint32_t task, const char *from, const char *to, int exclusive, int64_t deadline) {
    START_FORM(tdl_fs_paths_op(op, FS_COPY, from, to, exclusive, deadline));
}
int tdl_fs_readlink_start(tdl_host *h, uint32_t task, const char *path, char *buf, size_t size, int64_t deadline) {
    START_FORM(tdl_fs_text_op(op, FS_READLINK, path, buf, size, deadline));
}
int tdl_fs_realpath_start(tdl_host *h, uint32_t task, const char *path, char *buf, size_t size, int64_t deadline) {
    START_FORM(tdl_fs_text_op(op, FS_REALPATH, path, buf, size, deadline));
}
int tdl_fs_mkdtemp_start(tdl_host *h, uint32_t task, const char *text, char *buf, size_t size, int64_t deadline) {
    START_FORM(tdl_fs_text_op(op, FS_MKDTEMP, text, buf, size, deadline));
}
int tdl_fs_read_start(tdl_host *h, uint32_t task, const char *path, size_t limit, int64_t deadline) {
    START_FORM(tdl_fs_read_op(op, path, limit, deadline));
}
int tdl_fs_write_start(tdl_host *h, uint32_t task, const char *path, const void *buf, size_t n, int mode, int flags,
                       int64_t deadline) {
    START_FORM(tdl_fs_write_op(op, path, buf, n, mode, flags, deadline));
}
int tdl_fs_scan_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline) {
    START_FORM(tdl_fs_scan_op(op, path, deadline));
}

int tdl_lookup_start(tdl_host *h, uint32_t task, const char *network, const char *host, int port, tdl_addr *found,
                     int max, int64_t deadline) {
    START_FORM(tdl_lookup_op(op, network, host, port, found, max, deadline));
}
int tdl_lookup_name_start(tdl_host *h, uint32_t task, const tdl_addr *a, char *buf, size_t size, int64_t deadline) {
    START_FORM(tdl_lookup_name_op(op, a, buf, size, deadline));
}

int tdl_process_wait_start(tdl_host *h, uint32_t task, tdl_process *p, int64_t deadline) {
    START_FORM(tdl_process_wait_op(op, p, deadline));
}

int tdl_watch_open_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline) {
    START_FORM(tdl_watch_open_op(op, path, deadline));
}
int tdl_watch_next_start(tdl_host *h, uint32_t task, tdl_watch *w, char *buf, size_t size, int64_t deadline) {
    START_FORM(tdl_watch_next_op(op, w, buf, size, deadline));
}
