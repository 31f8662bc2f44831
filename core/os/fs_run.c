/* SPDX-License-Identifier: MIT
 * Requests to the file system: what a service thread does, by libuv's synchronous
 * calls. It touches nothing but the request. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/fs.h"
#include "sys/service.h"
#include "sys/sys.h"

enum { CHUNK = 65536 };

#define NS 1000000000

static void fresh(tdl_fs *r) {
    if (r->used) uv_fs_req_cleanup(&r->req);
    r->used = 1;
}

static int open_file(tdl_fs *r, const char *path, int flags, int mode) {
    int no = tdl_service(SERVICE_OPEN, NULL);
    if (no < 0) return no;
    fresh(r);
    return uv_fs_open(NULL, &r->req, path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, mode, NULL);
}

/* The one call that libuv does not repeat when a signal interrupts it. */
static int64_t read_some(tdl_fs *r, int fd, char *to, size_t n, int64_t offset) {
    int64_t k;
    do {
        if ((k = tdl_service(SERVICE_READ, &n)) < 0) continue;
        uv_buf_t buf = uv_buf_init(to, (unsigned)n);
        fresh(r);
        k = uv_fs_read(NULL, &r->req, fd, &buf, 1, offset, NULL);
    } while (k == -EINTR);
    return k;
}

static int64_t write_all(tdl_fs *r, int fd, const char *from, size_t n, int64_t offset) {
    size_t at = 0;
    while (at < n) {
        size_t left = n - at;
        int64_t k = tdl_service(SERVICE_WRITE, &left);
        if (k < 0) return k;
        uv_buf_t buf = uv_buf_init((char *)(uintptr_t)(from + at), (unsigned)left);
        fresh(r);
        k = uv_fs_write(NULL, &r->req, fd, &buf, 1, offset < 0 ? -1 : offset + (int64_t)at, NULL);
        if (k < 0) return k;
        at += (size_t)k;
    }
    return (int64_t)n;
}

static int64_t sync_fd(tdl_fs *r, int fd, bool data_only) {
    int no = tdl_service(SERVICE_SYNC, NULL);
    if (no < 0) return no;
    fresh(r);
    return data_only ? uv_fs_fdatasync(NULL, &r->req, fd, NULL) : uv_fs_fsync(NULL, &r->req, fd, NULL);
}


/* -- Whole files ------------------------------------------------------------------ */

/* The file's length is where to begin; it may be another, or 0 in /proc. */
static int64_t slurp(tdl_fs *r) {
    size_t limit = r->n, room = CHUNK, n = 0;
    int fd = open_file(r, r->path, O_RDONLY, 0);
    if (fd < 0) return fd;
    fresh(r);
    int64_t k = tdl_service(SERVICE_STAT, NULL);
    if (k == 0) k = uv_fs_fstat(NULL, &r->req, fd, NULL);
    if (k == 0 && S_ISREG(r->req.statbuf.st_mode) && r->req.statbuf.st_size > 0) {
        room = (size_t)r->req.statbuf.st_size + 1;
        if (room - 1 > limit) k = TDL_ETOOLONG;
    }
    if (k == 0 && !(r->bytes = tdl_sys.alloc(room))) k = TDL_ENOMEM;
    if (k == 0) k = 1;
    while (k > 0) {
        if (n == room) {
            char *more = tdl_sys.resize(r->bytes, room * 2);
            if (!more) {
                k = TDL_ENOMEM;
                break;
            }
            r->bytes = more;
            room *= 2;
        }
        size_t want = room - n < (1 << 30) ? room - n : 1 << 30;
        k = read_some(r, fd, r->bytes + n, want, -1);
        if (k > 0 && (n += (size_t)k) > limit) k = TDL_ETOOLONG;
    }
    tdl_sys.close(fd);
    return k < 0 ? k : tdl_val_set_bytes(&r->val, r->bytes, n);
}

static int64_t spill_to(tdl_fs *r, int fd, bool synced) {
    int64_t k = write_all(r, fd, r->bytes, r->n, -1);
    if (k >= 0 && synced) k = sync_fd(r, fd, false);
    int64_t end = tdl_sys.close(fd);
    if (end == -EINTR) end = 0; /* it is closed */
    return k < 0 ? k : end;
}

/* A new file of a name that nobody has: `other` is "path.XXXXXX" and becomes it. (mkstemp
 * would make one without the mode that the umask leaves.) */
static int open_beside(tdl_fs *r) {
    char *x = (char *)(uintptr_t)r->other + strlen(r->other) - 6;
    int fd = -EEXIST;
    for (int tries = 0; fd == -EEXIST && tries < 100; tries++) {
        uint32_t random = tdl_random(1000000);
        for (int i = 5; i >= 0; i--, random /= 10) x[i] = (char)('0' + random % 10);
        fd = open_file(r, r->other, O_WRONLY | O_CREAT | O_EXCL, r->mode);
    }
    return fd;
}

static int64_t spill(tdl_fs *r) {
    if (!(r->flags & TDL_WRITE_ATOMIC)) {
        int flags = O_WRONLY | O_CREAT | (r->flags & TDL_WRITE_APPEND ? O_APPEND : O_TRUNC) |
                    (r->flags & TDL_WRITE_EXCLUSIVE ? O_EXCL : 0);
        int fd = open_file(r, r->path, flags, r->mode);
        return fd < 0 ? fd : spill_to(r, fd, false);
    }
    int fd = open_beside(r);
    if (fd < 0) return fd;
    int64_t k = spill_to(r, fd, true);
    bool renames = !(r->flags & TDL_WRITE_EXCLUSIVE);
    if (k >= 0 && (k = tdl_service(SERVICE_CHANGE, NULL)) == 0) {
        fresh(r);
        k = renames ? uv_fs_rename(NULL, &r->req, r->other, r->path, NULL)
                    : uv_fs_link(NULL, &r->req, r->other, r->path, NULL);
        if (renames && k == 0) return 0;
    }
    fresh(r);
    uv_fs_unlink(NULL, &r->req, r->other, NULL);
    return k;
}

/* -- The rest ---------------------------------------------------------------------- */

static double seconds(int64_t ns) { return (double)(ns / NS) + (double)(ns % NS) / NS; }

/* libuv's times are doubles, which lose what is below 200 ns: so the call is made here. */
static int64_t set_times(tdl_fs *r) {
    int no = tdl_service(SERVICE_CHANGE, NULL);
    if (no < 0) return no;
    struct timespec t[2] = {{r->a / NS, r->a % NS}, {r->b / NS, r->b % NS}};
    for (int i = 0; i < 2; i++) {
        if (t[i].tv_nsec >= 0) continue;
        t[i].tv_nsec += NS;
        t[i].tv_sec--;
    }
    if (utimensat(AT_FDCWD, r->path, t, r->flags ? 0 : AT_SYMLINK_NOFOLLOW) == 0) return 0;
    if (errno != ENOSYS) return -errno;
    fresh(r);
    return uv_fs_utime(NULL, &r->req, r->path, seconds(r->a), seconds(r->b), NULL);
}

static int open_flags(int f) {
    int flags = (f & TDL_OPEN_WRITE) ? (f & TDL_OPEN_READ) ? O_RDWR : O_WRONLY : O_RDONLY;
    if (f & TDL_OPEN_APPEND) flags |= O_APPEND;
    if (f & TDL_OPEN_CREATE) flags |= O_CREAT;
    if (f & TDL_OPEN_EXCLUSIVE) flags |= O_EXCL;
    if (f & TDL_OPEN_TRUNCATE) flags |= O_TRUNC;
    if (f & TDL_OPEN_SYNC) flags |= O_SYNC;
    if (f & TDL_OPEN_DIRECTORY) flags |= O_DIRECTORY;
    if (f & TDL_OPEN_NOFOLLOW) flags |= O_NOFOLLOW;
    return flags;
}

static int64_t stat_path(tdl_fs *r) {
    int no = tdl_service(SERVICE_STAT, NULL);
    if (no < 0) return no;
    fresh(r);
    if (r->file) return uv_fs_fstat(NULL, &r->req, r->file->fd, NULL);
    return r->flags ? uv_fs_stat(NULL, &r->req, r->path, NULL) : uv_fs_lstat(NULL, &r->req, r->path, NULL);
}

static int64_t scan(tdl_fs *r) {
    int64_t k = tdl_service(SERVICE_SCAN, NULL);
    if (k < 0) return k;
    fresh(r);
    k = uv_fs_scandir(NULL, &r->req, r->path, 0, NULL);
    if (k < 0) return k;
    r->dir = tdl_dir_from(&r->req);
    return r->dir ? 0 : TDL_ENOMEM;
}

static enum tdl_service service_of(int kind) {
    switch (kind) {
    case FS_TEMP: return SERVICE_OPEN;
    case FS_SEND: return SERVICE_SEND;
    case FS_COPY: return SERVICE_COPY;
    case FS_ACCESS:
    case FS_READLINK:
    case FS_REALPATH: return SERVICE_LOOK;
    default: return SERVICE_CHANGE;
    }
}

/* Those that are one call of libuv's. */
static int64_t simple(tdl_fs *r) {
    uv_fs_t *q = &r->req;
    const char *p = r->path, *o = r->other;
    int no = tdl_service(service_of(r->kind), r->kind == FS_SEND ? &r->n : NULL);
    if (no < 0) return no;
    fresh(r);
    switch (r->kind) {
    case FS_TEMP: return uv_fs_mkstemp(NULL, q, p, NULL);
    case FS_TRUNCATE: return uv_fs_ftruncate(NULL, q, r->file->fd, r->a, NULL);
    case FS_SEND: return uv_fs_sendfile(NULL, q, r->file->fd, r->from->fd, r->a, r->n, NULL);
    case FS_ACCESS: return uv_fs_access(NULL, q, p, r->mode, NULL);
    case FS_MKDIR: return uv_fs_mkdir(NULL, q, p, r->mode, NULL);
    case FS_RMDIR: return uv_fs_rmdir(NULL, q, p, NULL);
    case FS_UNLINK: return uv_fs_unlink(NULL, q, p, NULL);
    case FS_RENAME: return uv_fs_rename(NULL, q, p, o, NULL);
    case FS_LINK: return uv_fs_link(NULL, q, p, o, NULL);
    case FS_SYMLINK: return uv_fs_symlink(NULL, q, p, o, 0, NULL);
    case FS_CHMOD: return uv_fs_chmod(NULL, q, p, r->mode, NULL);
    case FS_CHOWN:
        return r->flags ? uv_fs_chown(NULL, q, p, (uv_uid_t)r->a, (uv_gid_t)r->b, NULL)
                        : uv_fs_lchown(NULL, q, p, (uv_uid_t)r->a, (uv_gid_t)r->b, NULL);
    case FS_COPY:
        return uv_fs_copyfile(NULL, q, p, o, UV_FS_COPYFILE_FICLONE | (r->flags ? UV_FS_COPYFILE_EXCL : 0), NULL);
    case FS_READLINK: return uv_fs_readlink(NULL, q, p, NULL);
    case FS_REALPATH: return uv_fs_realpath(NULL, q, p, NULL);
    case FS_MKDTEMP: return uv_fs_mkdtemp(NULL, q, p, NULL);
    default: return TDL_EINVAL;
    }
}

void tdl_fs_run(tdl_work *w) {
    tdl_fs *r = TDL_CONTAINER(w, tdl_fs, w);
    switch (r->kind) {
    case FS_OPEN: w->result = open_file(r, r->path, open_flags(r->flags), r->mode); break;
    case FS_READ: w->result = read_some(r, r->file->fd, r->bytes, r->n, r->a); break;
    case FS_WRITE: w->result = write_all(r, r->file->fd, r->bytes, r->n, r->a); break;
    case FS_SYNC: w->result = sync_fd(r, r->file->fd, r->flags); break;
    case FS_STAT: w->result = stat_path(r); break;
    case FS_UTIME: w->result = set_times(r); break;
    case FS_SLURP: w->result = slurp(r); break;
    case FS_SPILL: w->result = spill(r); break;
    case FS_SCAN: w->result = scan(r); break;
    default: w->result = simple(r);
    }
}
