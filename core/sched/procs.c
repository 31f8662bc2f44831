/* SPDX-License-Identifier: MIT
 *
 * Affinity and cgroups.
 *
 * /proc/self/cgroup says in which cgroup we are, /proc/self/mountinfo where the
 * cgroup file systems are mounted and which cgroup is at the top of each mount.
 * Both are relative to our cgroup namespace, so that they fit each other. Each
 * cgroup from ours up to the top of the mount may have a limit, and the tightest
 * holds: v2 has it in cpu.max, v1 in cpu.cfs_quota_us and cpu.cfs_period_us.
 * The process may be moved at any time: its cgroup is looked up each time, the
 * mounts when it has changed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sched/procs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sched/sched.h"
#include "sys/os.h"
#include "sys/sys.h"

enum { V1, V2 };
enum { BIG_MASK_CPUS = 65536 };

/* -- Files -------------------------------------------------------------------- */

/* A file that is read line by line, of any length: what does not fit into the
 * line is left out. */
struct reader {
    int fd;
    int at, n;
    char buf[1024];
};

static bool reader_open(struct reader *r, const char *root, const char *path) {
    char full[128];
    snprintf(full, sizeof full, "%s%s", root ? root : "", path);
    r->at = r->n = 0;
    return (r->fd = open(full, O_RDONLY | O_CLOEXEC)) >= 0;
}

static bool next_line(struct reader *r, char *line, int size) {
    int len = 0;
    bool any = false;
    for (;;) {
        if (r->at == r->n) {
            r->at = 0;
            do
                r->n = (int)read(r->fd, r->buf, sizeof r->buf);
            while (r->n < 0 && errno == EINTR);
            if (r->n <= 0) {
                r->n = 0;
                break;
            }
        }
        char c = r->buf[r->at++];
        any = true;
        if (c == '\n') break;
        if (len < size - 1) line[len++] = c;
    }
    line[len] = '\0';
    return any;
}

/* The first bytes of a small file, as text. */
static bool read_small(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n;
    do
        n = read(fd, text, size - 1);
    while (n < 0 && errno == EINTR);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* -- Text --------------------------------------------------------------------- */

/* Is word one of the list's, which has commas between them? */
static bool listed(const char *list, const char *word) {
    size_t n = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',')) {
        if (*at == ',') at++;
        if (strncmp(at, word, n) == 0 && (at[n] == ',' || at[n] == '\0')) return true;
    }
    return false;
}

/* mountinfo writes blanks and backslashes in paths as \ooo. */
static void unescape(char *s) {
    char *to = s;
    for (; *s; to++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
            *to = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
            s += 4;
        } else {
            *to = *s++;
        }
    }
    *to = '\0';
}

/* -- Which cgroup, and where ---------------------------------------------------- */

/* "4:cpu,cpuacct:/path", and "0::/path" for v2. */
static void find_cgroups(struct reader *r, char *line, int size, char cgroup[2][PROCS_PATH]) {
    cgroup[V1][0] = cgroup[V2][0] = '\0';
    while (next_line(r, line, size)) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = '\0';
        controllers++;
        int which = *controllers == '\0' ? V2 : listed(controllers, "cpu") ? V1 : -1;
        if (which >= 0 && *path == '/' && strlen(path) < PROCS_PATH) strcpy(cgroup[which], path);
    }
}

/* Of a line of mountinfo, "36 35 98:0 /root /point options … - type source super". */
struct mount {
    char *root, *point, *type, *super;
};

static bool parse_mount(char *line, struct mount *m) {
    char *dash = strstr(line, " - ");
    if (!dash) return false;
    *dash = '\0';
    char *save = NULL;
    int field = 0;
    m->root = m->point = NULL;
    for (char *t = strtok_r(line, " ", &save); t && field < 5; t = strtok_r(NULL, " ", &save), field++) {
        if (field == 3) m->root = t;
        if (field == 4) m->point = t;
    }
    m->type = strtok_r(dash + 3, " ", &save);
    m->super = strtok_r(NULL, " ", &save) ? strtok_r(NULL, " ", &save) : NULL;
    if (!m->point || !m->type) return false;
    unescape(m->root);
    unescape(m->point);
    return true;
}

/* What of the cgroup's path lies below the mount's root: "" or "/…"; NULL: it
 * is not in this mount. */
static const char *below(const char *cgroup, const char *root) {
    size_t n = strlen(root);
    while (n > 0 && root[n - 1] == '/') n--;
    if (strncmp(cgroup, root, n) != 0 || (cgroup[n] != '/' && cgroup[n] != '\0')) return NULL;
    const char *rest = cgroup + n;
    if (strncmp(rest, "/..", 3) == 0 && (rest[3] == '/' || !rest[3])) return NULL; /* outside of our namespace */
    return strcmp(rest, "/") == 0 ? "" : rest;
}

static void add_dir(tdl_procs *p, bool v2, const char *point, const char *rest) {
    if (p->ndirs == PROCS_DIRS) return;
    size_t size = strlen(p->root) + strlen(point) + strlen(rest) + 1;
    char *path = tdl_sys.alloc(size);
    if (!path) return;
    snprintf(path, size, "%s%s%s", p->root, point, rest);
    p->dir[p->ndirs++] = (tdl_procs_dir){v2, size - 1 - strlen(rest), path};
}

static void drop_dirs(tdl_procs *p) {
    while (p->ndirs > 0) tdl_sys.release(p->dir[--p->ndirs].path);
}

/* A cgroup that no mount shows (we were moved out of our namespace, or see only
 * a part of the tree) is represented by the tops of the mounts. */
static void find_dirs(tdl_procs *p, struct reader *r) {
    bool seen[2] = {false, false};
    for (int pass = 0; pass < 2; pass++) {
        if (!reader_open(r, p->root, "/proc/self/mountinfo")) return;
        while (next_line(r, p->line, sizeof p->line)) {
            struct mount m;
            if (!parse_mount(p->line, &m)) continue;
            int which = strcmp(m.type, "cgroup2") == 0 ? V2 : V1;
            if (which == V1 && (strcmp(m.type, "cgroup") != 0 || !m.super || !listed(m.super, "cpu"))) continue;
            if (!p->cgroup[which][0]) continue;
            const char *rest = below(p->cgroup[which], m.root);
            if (pass == 0 && rest) {
                add_dir(p, which == V2, m.point, rest);
                seen[which] = true;
            } else if (pass == 1 && !seen[which]) {
                add_dir(p, which == V2, m.point, "");
            }
        }
        close(r->fd);
        if ((seen[V1] || !p->cgroup[V1][0]) && (seen[V2] || !p->cgroup[V2][0])) return;
    }
}

/* Sees to it that dir is of the cgroup that we are in now. */
static void locate(tdl_procs *p) {
    struct reader r;
    if (!p->root) p->root = "";
    p->now[V1][0] = p->now[V2][0] = '\0';
    if (reader_open(&r, p->root, "/proc/self/cgroup")) {
        find_cgroups(&r, p->line, sizeof p->line, p->now);
        close(r.fd);
    }
    if (p->known && strcmp(p->now[V1], p->cgroup[V1]) == 0 && strcmp(p->now[V2], p->cgroup[V2]) == 0) return;
    drop_dirs(p);
    memcpy(p->cgroup, p->now, sizeof p->cgroup);
    find_dirs(p, &r);
    p->known = true;
}

void tdl_procs_forget(tdl_procs *p) {
    drop_dirs(p);
    p->known = false;
}

/* -- Limits --------------------------------------------------------------------- */

/* ceil(quota / period), at least 1. */
static int share(long long quota, long long period) {
    if (quota <= 0 || period <= 0) return PROCS_NO_LIMIT;
    long long n = quota / period + (quota % period != 0);
    return n < PROCS_NO_LIMIT ? (int)n : PROCS_NO_LIMIT;
}

/* The number in the file that this directory, whose path has room, has. */
static bool read_number(char *dir, const char *name, long long *n) {
    char *end = dir + strlen(dir), text[32];
    strcpy(end, name);
    bool found = read_small(dir, text, sizeof text);
    *end = '\0';
    *n = found ? strtoll(text, NULL, 10) : 0;
    return found;
}

/* The limit of the cgroup in this directory itself. */
static int limit_of(char *dir, bool v2) {
    long long quota, period;
    if (!v2) { /* a quota of -1: none */
        bool both = read_number(dir, "/cpu.cfs_quota_us", &quota) && quota > 0 &&
                    read_number(dir, "/cpu.cfs_period_us", &period);
        return both ? share(quota, period) : PROCS_NO_LIMIT;
    }
    char *end = dir + strlen(dir), text[64];
    strcpy(end, "/cpu.max"); /* "max 100000", "150000 100000" */
    bool found = read_small(dir, text, sizeof text) && sscanf(text, "%lld %lld", &quota, &period) == 2;
    *end = '\0';
    return found ? share(quota, period) : PROCS_NO_LIMIT;
}

/* The tightest from the cgroup up to the mount point. */
static int limit_above(const tdl_procs_dir *d, char *path, size_t size) {
    enum { NAME_ROOM = 32 };
    int least = PROCS_NO_LIMIT;
    size_t len = strlen(d->path);
    if (len + NAME_ROOM > size) return least;
    strcpy(path, d->path);
    for (;;) {
        int n = limit_of(path, d->v2);
        if (n < least) least = n;
        if (len <= d->top) return least;
        while (len > d->top && path[len - 1] != '/') len--;
        if (len > d->top) len--; /* the slash */
        path[len] = '\0';
    }
}

int tdl_procs_cgroup(tdl_procs *p) {
    locate(p);
    int least = PROCS_NO_LIMIT;
    for (int i = 0; i < p->ndirs; i++) {
        int n = limit_above(&p->dir[i], p->line, sizeof p->line);
        if (n < least) least = n;
    }
    return least;
}

/* -- CPUs ------------------------------------------------------------------------ */

int tdl_procs_affinity(void) {
    int n = tdl_os_cpus();
    return n < 1 ? 1 : n;
}

int tdl_procs_combine(int affinity, int limit) {
    if (limit < 2) limit = 2;
    int n = affinity < limit ? affinity : limit;
    return n > TDL_MAX_P ? TDL_MAX_P : n;
}

int tdl_procs_look(tdl_procs *p) { return tdl_procs_combine(tdl_procs_affinity(), tdl_procs_cgroup(p)); }

/* -- The default ------------------------------------------------------------------- */

int tdl_procs_fixed(void) {
    static _Atomic int fixed = -1; /* several may find out at once, the same */
    int n = at_load_rlx(&fixed);
    if (n >= 0) return n;
    const char *env = getenv("TDL_MAXPROCS");
    long wanted = env ? strtol(env, NULL, 10) : 0;
    n = wanted < 1 ? 0 : wanted > TDL_MAX_P ? TDL_MAX_P : (int)wanted;
    at_store_rlx(&fixed, n);
    return n;
}

int tdl_procs_default(void) {
    int n = tdl_procs_fixed();
    if (n > 0) return n;
    tdl_procs *p = tdl_alloc_zeroed(sizeof *p);
    if (!p) return tdl_procs_combine(tdl_procs_affinity(), PROCS_NO_LIMIT);
    n = tdl_procs_look(p);
    tdl_procs_forget(p);
    tdl_sys.release(p);
    return n;
}
