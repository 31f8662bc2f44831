/* SPDX-License-Identifier: MIT
 *
 * Requests to the file system, one structure for all: who starts one fills in
 * what its kind needs. path, other and bytes are the request's own (see work.h);
 * out and room are the caller's, and touched by deliver alone, which the caller runs.
 */
#ifndef TDL_OS_FS_H
#define TDL_OS_FS_H

#include <uv.h>

#include "os/work.h"

enum {
    FS_OPEN, FS_TEMP, FS_READ, FS_WRITE, FS_SYNC, FS_TRUNCATE, FS_SEND, FS_STAT, FS_ACCESS, FS_MKDIR, FS_RMDIR,
    FS_UNLINK, FS_RENAME, FS_LINK, FS_SYMLINK, FS_CHMOD, FS_CHOWN, FS_UTIME, FS_COPY, FS_READLINK, FS_REALPATH,
    FS_MKDTEMP, FS_SLURP, FS_SPILL, FS_SCAN
};

/* Under tdl_work_lock: all but fd, which stays while users > 0. */
struct tdl_file {
    tdl_lock lock; /* for the pool only */
    int fd;        /* -1: closed */
    int users;     /* requests that were given the fd */
    uint8_t closed, freed;
    _Atomic int64_t deadline; /* of its reader and writer; relaxed: a number. 0: none */
    _Atomic uint8_t uncached; /* reads of what is cached alone are not to be had */
    tdl_queue waiters;
};

typedef struct tdl_fs {
    tdl_work w;
    uv_fs_t req;
    uint8_t kind, used; /* used: req is to be cleaned up */
    int flags, mode;
    int64_t a, b; /* offset, times, owner …: as the kind has it */
    tdl_file *file, *from; /* held */
    tdl_file *made;        /* open: the handle to be */
    const char *path, *other;
    char *bytes;
    size_t n;
    tdl_val val;
    struct tdl_dir *dir;
    void *out;
    size_t room;
    char text[];
} tdl_fs;

/* A request of the kind, with copies of the texts (other may be NULL), or NULL and *code. */
tdl_fs *tdl_fs_new(int kind, const char *path, const char *other, int *code);
/* For a file, which it holds until it is dropped. */
tdl_fs *tdl_fs_on(int kind, tdl_file *f, int *code);
/* What a service thread does. */
void tdl_fs_run(tdl_work *w);

int64_t tdl_file_live(void);
tdl_file *tdl_file_make(int *code);
/* 0: its fd stays what it is until tdl_file_leave; TDL_ECLOSED …. */
int tdl_file_enter(tdl_file *f);
void tdl_file_leave(tdl_file *f);

int tdl_stat_from(tdl_stat *to, const uv_stat_t *from);
tdl_dir *tdl_dir_from(uv_fs_t *req);

/* The ops behind the calls. Text of the caller's is copied. */
int64_t tdl_file_open_op(tdl_op *op, const char *path, int flags, int mode, int64_t deadline);
int64_t tdl_file_open_temp_op(tdl_op *op, const char *text, char *buf, size_t size, int64_t deadline);
int64_t tdl_file_read_op(tdl_op *op, tdl_file *f, void *buf, size_t n, int64_t offset, int64_t deadline);
int64_t tdl_file_write_op(tdl_op *op, tdl_file *f, const void *buf, size_t n, int64_t offset, int64_t deadline);
int64_t tdl_file_sync_op(tdl_op *op, tdl_file *f, int data_only, int64_t deadline);
int64_t tdl_file_truncate_op(tdl_op *op, tdl_file *f, int64_t size, int64_t deadline);
int64_t tdl_file_copy_op(tdl_op *op, tdl_file *to, tdl_file *from, int64_t offset, size_t n, int64_t deadline);
int64_t tdl_file_stat_op(tdl_op *op, tdl_file *f, tdl_stat *st, int64_t deadline);
int64_t tdl_fs_stat_op(tdl_op *op, const char *path, int follow, tdl_stat *st, int64_t deadline);
/* Of one path, or two, and numbers: FS_ACCESS … FS_COPY. */
int64_t tdl_fs_path_op(tdl_op *op, int kind, const char *path, int mode, int64_t deadline);
int64_t tdl_fs_paths_op(tdl_op *op, int kind, const char *path, const char *other, int flags, int64_t deadline);
int64_t tdl_fs_pair_op(tdl_op *op, int kind, const char *path, int64_t a, int64_t b, int follow, int64_t deadline);
/* FS_READLINK, FS_REALPATH, FS_MKDTEMP. */
int64_t tdl_fs_text_op(tdl_op *op, int kind, const char *path, char *buf, size_t size, int64_t deadline);
int64_t tdl_fs_read_op(tdl_op *op, const char *path, size_t limit, int64_t deadline);
int64_t tdl_fs_write_op(tdl_op *op, const char *path, const void *buf, size_t n, int mode, int flags,
                        int64_t deadline);
int64_t tdl_fs_scan_op(tdl_op *op, const char *path, int64_t deadline);

#endif
