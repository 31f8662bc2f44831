/* SPDX-License-Identifier: MIT
 *
 * Files and directories.
 *
 * Whatever a poller cannot wait for, here, in os.h and by tdl_lookup, is done by
 * service threads, at most tdl_set_io_threads of them, which come when there is
 * work and go when there is none. The calls are Blocking like all others: a
 * deadline (TDL_FOREVER for none) ends each with TDL_ETIMEDOUT, a cancel with
 * TDL_ECANCELED. What a thread is already at goes on then, and may still have its
 * effect; nothing of the caller's is touched any more. Refused in a simulation (TDL_ESIM).
 * Paths are text with a final NUL. Errors are -ENOENT, -EACCES and so on, and
 * TDL_EINVAL for a null or an empty path.
 */
#ifndef TREADLE_FS_H
#define TREADLE_FS_H

#include "value.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tdl_file tdl_file;

/* How many service threads there may be, 2…256: 8 unless TDL_IO_THREADS in the
 * environment says otherwise; n >= 1 also sets it. Half of them at most look up names, so
 * that a slow name server does not hold up files. Returns the previous number. Any caller. */
TDL_API int tdl_set_io_threads(int n);

enum {
    TDL_OPEN_READ      = 1,
    TDL_OPEN_WRITE     = 2,
    TDL_OPEN_APPEND    = 4,  /* each write goes to the end */
    TDL_OPEN_CREATE    = 8,  /* when it is not there, with the mode (less the umask) */
    TDL_OPEN_EXCLUSIVE = 16, /* with TDL_OPEN_CREATE: -EEXIST when it is */
    TDL_OPEN_TRUNCATE  = 32,
    TDL_OPEN_SYNC      = 64, /* each write is on the disk when it returns */
    TDL_OPEN_DIRECTORY = 128, /* -ENOTDIR for something else */
    TDL_OPEN_NOFOLLOW  = 256, /* -ELOOP for a symbolic link */
    TDL_OPEN_ALL       = 511
};

/* Opens a file, close-on-exec. Blocking. 0; TDL_EINVAL: neither read nor write,
 * or an unknown flag. A FIFO, terminal or device can be opened, and does not wait:
 * its operations say -EAGAIN where they would, and tdl_file_release with
 * tdl_conn_adopt makes it a connection, which does. */
TDL_API int tdl_file_open(const char *path, int flags, int mode, tdl_file **f, int64_t deadline);
/* A new file that nobody else has: text ends in "XXXXXX", which becomes something
 * unused; the path is written to buf, cut to size with a final NUL. Blocking. Its length. */
TDL_API int tdl_file_open_temp(const char *text, tdl_file **f, char *buf, size_t size, int64_t deadline);
/* Of a descriptor that the caller has: it is the file's then. 0, -EBADF. And back;
 * TDL_ECLOSED, TDL_EBUSY while an operation is under way. Any caller. */
TDL_API int tdl_file_adopt(int fd, tdl_file **f);
TDL_API int tdl_file_release(tdl_file *f);
TDL_API int tdl_file_fd(tdl_file *f); /* the descriptor, still the file's; TDL_ECLOSED. Any caller */

/* Reads up to n bytes at the file's position, which moves; or at an offset, and it
 * does not. What is in the system's cache is read at once. Blocking. Bytes read, 0 at the end of the file. */
TDL_API int64_t tdl_file_read(tdl_file *f, void *buf, size_t n, int64_t deadline);
TDL_API int64_t tdl_file_pread(tdl_file *f, void *buf, size_t n, int64_t offset, int64_t deadline);
/* Writes all n bytes, at most 2^30, and returns n. Blocking. On an error (-ENOSPC …) some may be written. */
TDL_API int64_t tdl_file_write(tdl_file *f, const void *buf, size_t n, int64_t deadline);
TDL_API int64_t tdl_file_pwrite(tdl_file *f, const void *buf, size_t n, int64_t offset, int64_t deadline);
/* Moves the position: from the start (0), from where it is (1), from the end (2).
 * The new one. Any caller. */
TDL_API int64_t tdl_file_seek(tdl_file *f, int64_t offset, int whence);
/* Waits until what was written is on the disk; data_only: without times and the like. Blocking. 0. */
TDL_API int tdl_file_sync(tdl_file *f, int data_only, int64_t deadline);
/* Blocking. 0. */
TDL_API int tdl_file_truncate(tdl_file *f, int64_t size, int64_t deadline);
/* Copies up to n bytes of `from`, from the offset on, to where `to` is, in the kernel. Blocking. Bytes copied;
 * 0 at the end of the file. */
TDL_API int64_t tdl_file_copy(tdl_file *to, tdl_file *from, int64_t offset, size_t n, int64_t deadline);
/* Wakes whoever waits on it, with TDL_ECLOSED; what a thread is already at goes on. 0; the
 * error of close(2); TDL_ECLOSED the second time. The end of a run closes no files. Any caller. */
TDL_API int  tdl_file_close(tdl_file *f);
/* Closes if need be and gives the handle back. NULL is ignored. Any caller. */
TDL_API void tdl_file_free(tdl_file *f);

enum {
    TDL_FILE_UNKNOWN   = 0,
    TDL_FILE_REGULAR   = 1,
    TDL_FILE_DIRECTORY = 2,
    TDL_FILE_LINK      = 3,
    TDL_FILE_FIFO      = 4,
    TDL_FILE_SOCKET    = 5,
    TDL_FILE_CHARACTER = 6, /* a device */
    TDL_FILE_BLOCK     = 7
};

typedef struct tdl_stat {
    uint32_t size;   /* sizeof(tdl_stat), set by the caller */
    int32_t  type;   /* TDL_FILE_… */
    int64_t  mode;   /* permissions alone: 0…07777 */
    int64_t  length; /* bytes */
    int64_t  dev, ino, rdev, links, uid, gid;
    int64_t  block_size, blocks; /* for I/O; of 512 bytes */
    int64_t  atime, mtime, ctime, btime; /* ns since 1970: read, written, changed, born (0: unknown) */
} tdl_stat;
/* Blocking. 0. follow 0: of a symbolic link itself. */
TDL_API int tdl_fs_stat(const char *path, int follow, tdl_stat *st, int64_t deadline);
TDL_API int tdl_file_stat(tdl_file *f, tdl_stat *st, int64_t deadline);

/* All of these: Blocking; 0. */
TDL_API int tdl_fs_access(const char *path, int how, int64_t deadline); /* 0: is it there; 4, 2, 1: may it be read, written, executed */
TDL_API int tdl_fs_mkdir(const char *path, int mode, int64_t deadline);
TDL_API int tdl_fs_rmdir(const char *path, int64_t deadline);
TDL_API int tdl_fs_unlink(const char *path, int64_t deadline);
TDL_API int tdl_fs_rename(const char *from, const char *to, int64_t deadline);
TDL_API int tdl_fs_link(const char *to, const char *path, int64_t deadline); /* path is another name of `to` */
TDL_API int tdl_fs_symlink(const char *to, const char *path, int64_t deadline);
TDL_API int tdl_fs_chmod(const char *path, int mode, int64_t deadline);
TDL_API int tdl_fs_chown(const char *path, int64_t uid, int64_t gid, int follow, int64_t deadline); /* -1: as it is */
TDL_API int tdl_fs_utime(const char *path, int64_t atime, int64_t mtime, int follow, int64_t deadline); /* ns since 1970 */
/* Copies a file, with its mode, by a shared copy where the file system can; exclusive: -EEXIST when `to` is there. */
TDL_API int tdl_fs_copy(const char *from, const char *to, int exclusive, int64_t deadline);
/* The text is written to buf, cut to size with a final NUL. Blocking. Its full length. */
TDL_API int tdl_fs_readlink(const char *path, char *buf, size_t size, int64_t deadline);
TDL_API int tdl_fs_realpath(const char *path, char *buf, size_t size, int64_t deadline);
TDL_API int tdl_fs_mkdtemp(const char *text, char *buf, size_t size, int64_t deadline); /* as tdl_file_open_temp */

/* A whole file, as TDL_BYTES (the caller is the holder). Blocking. 0; TDL_ETOOLONG above limit bytes. */
TDL_API int tdl_fs_read(const char *path, size_t limit, tdl_val *v, int64_t deadline);
enum {
    TDL_WRITE_APPEND    = 1, /* to what is there */
    TDL_WRITE_EXCLUSIVE = 2, /* -EEXIST when there is one */
    TDL_WRITE_ATOMIC    = 4, /* to a file beside it, synced, and renamed: others see the old one or the new */
    TDL_WRITE_ALL       = 7
};
/* The file's content is n bytes from then on. Blocking. 0. */
TDL_API int tdl_fs_write(const char *path, const void *buf, size_t n, int mode, int flags, int64_t deadline);

/* The entries of a directory, without "." and "..", sorted by name. */
typedef struct tdl_dir tdl_dir;
TDL_API int tdl_fs_scan(const char *path, tdl_dir **d, int64_t deadline); /* Blocking. 0 */
/* The next one: 1, and its name, valid as long as d is, and type; 0: there are no
 * more. One caller at a time; any. */
TDL_API int tdl_dir_next(tdl_dir *d, const char **name, int *type);
TDL_API void tdl_dir_free(tdl_dir *d); /* NULL is ignored. Any caller */

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_FS_H */
