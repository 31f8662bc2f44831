/* SPDX-License-Identifier: MIT
 * The entries of a directory, and what stat says, in structures of ours. */
#include <string.h>
#include <sys/stat.h>

#include "os/fs.h"
#include "sys/sys.h"

typedef struct entry {
    const char *name;
    int type;
} entry;

struct tdl_dir {
    size_t n, next;
    entry *of; /* behind it, and the names behind these */
};

static int type_of(uv_dirent_type_t t) {
    switch (t) {
    case UV_DIRENT_FILE: return TDL_FILE_REGULAR;
    case UV_DIRENT_DIR: return TDL_FILE_DIRECTORY;
    case UV_DIRENT_LINK: return TDL_FILE_LINK;
    case UV_DIRENT_FIFO: return TDL_FILE_FIFO;
    case UV_DIRENT_SOCKET: return TDL_FILE_SOCKET;
    case UV_DIRENT_CHAR: return TDL_FILE_CHARACTER;
    case UV_DIRENT_BLOCK: return TDL_FILE_BLOCK;
    default: return TDL_FILE_UNKNOWN;
    }
}

/* libuv gives each name once, and may free it then: they are copied as they come. */
tdl_dir *tdl_dir_from(uv_fs_t *req) {
    size_t n = (size_t)req->result, room = 64 * n + 1, used = 0, i = 0;
    tdl_dir *d = tdl_sys.alloc(sizeof *d + n * sizeof(entry));
    char *names = tdl_sys.alloc(room);
    uv_dirent_t e;
    while (d && names && i < n && uv_fs_scandir_next(req, &e) == 0) {
        size_t k = strlen(e.name) + 1;
        if (used + k > room) {
            room = room * 2 + k;
            char *more = tdl_sys.resize(names, room);
            if (!more) break;
            names = more;
        }
        memcpy(names + used, e.name, k);
        ((entry *)(d + 1))[i++].type = type_of(e.type);
        used += k;
    }
    if (i == n) uv_fs_scandir_next(req, &e); /* which frees the last one; the cleanup would not */
    tdl_dir *whole = d && names && i == n ? tdl_sys.resize(d, sizeof *d + n * sizeof(entry) + used) : NULL;
    if (whole) {
        whole->n = n;
        whole->next = 0;
        whole->of = (entry *)(whole + 1);
        char *at = memcpy(whole->of + n, names, used);
        for (i = 0; i < n; i++, at += strlen(at) + 1) whole->of[i].name = at;
        d = NULL;
    }
    tdl_sys.release(d);
    tdl_sys.release(names);
    return whole;
}

int tdl_dir_next(tdl_dir *d, const char **name, int *type) {
    if (!d) return TDL_EINVAL;
    if (d->next == d->n) return 0;
    const entry *e = &d->of[d->next++];
    if (name) *name = e->name;
    if (type) *type = e->type;
    return 1;
}

void tdl_dir_free(tdl_dir *d) { tdl_sys.release(d); }

/* -- Stat ----------------------------------------------------------------------------- */

static int64_t ns(uv_timespec_t t) { return (int64_t)t.tv_sec * TDL_SECOND + t.tv_nsec; }

static int type_of_mode(uint64_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG: return TDL_FILE_REGULAR;
    case S_IFDIR: return TDL_FILE_DIRECTORY;
    case S_IFLNK: return TDL_FILE_LINK;
    case S_IFIFO: return TDL_FILE_FIFO;
    case S_IFSOCK: return TDL_FILE_SOCKET;
    case S_IFCHR: return TDL_FILE_CHARACTER;
    case S_IFBLK: return TDL_FILE_BLOCK;
    default: return TDL_FILE_UNKNOWN;
    }
}

int tdl_stat_from(tdl_stat *to, const uv_stat_t *s) {
    *to = (tdl_stat){
        .size = sizeof *to, .type = type_of_mode(s->st_mode), .mode = (int64_t)(s->st_mode & 07777),
        .length = (int64_t)s->st_size, .dev = (int64_t)s->st_dev, .ino = (int64_t)s->st_ino,
        .rdev = (int64_t)s->st_rdev, .links = (int64_t)s->st_nlink, .uid = (int64_t)s->st_uid,
        .gid = (int64_t)s->st_gid, .block_size = (int64_t)s->st_blksize, .blocks = (int64_t)s->st_blocks,
        .atime = ns(s->st_atim), .mtime = ns(s->st_mtim), .ctime = ns(s->st_ctim), .btime = ns(s->st_birthtim),
    };
    return 0;
}
