/* SPDX-License-Identifier: MIT
 * The scenarios: files, names, processes, signals, changes of files, terminals. */
#include "sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

/* -- A directory of its own, made and removed by plain calls ---------------------------------- */

typedef struct place {
    char dir[64], path[128], other[128];
} place;

static void begin(place *p) {
    strcpy(p->dir, "/tmp/treadle-sweep-XXXXXX");
    if (!mkdtemp(p->dir)) abort();
    snprintf(p->path, sizeof p->path, "%s/file", p->dir);
    snprintf(p->other, sizeof p->other, "%s/other", p->dir);
}

/* How many entries there are, which are removed. */
static int empty(const char *path) {
    DIR           *dir = opendir(path);
    struct dirent *e;
    char           name[400];
    int            n = 0;
    while (dir && (e = readdir(dir)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (remove(name) < 0) {
            empty(name);
            rmdir(name);
        }
        n++;
    }
    if (dir) closedir(dir);
    return n;
}

static void end(place *p) {
    empty(p->dir);
    rmdir(p->dir);
}

/* -- Files ---------------------------------------------------------------------------------------- */

#define OK(call) (saw(call) >= 0)

enum { LONG = 150000 };

static bool has(const char *path, const char *bytes, size_t n) {
    tdl_val v = { 0 };
    size_t  is = 0;
    bool    same = false;
    if (OK(tdl_fs_read(path, LONG * 2, &v, soon()))) {
        const void *p = tdl_val_bytes(&v, &is);
        same = is == n && memcmp(p, bytes, n) == 0;
        if (!same) saw(TDL_EINVAL);
    }
    tdl_val_clear(&v);
    return same;
}

/* At once as a whole, or not at all: what fails leaves the old one, and nothing beside it. */
static bool replaced(place *p) {
    bool ok = OK(tdl_fs_write(p->path, "new one", 7, 0600, TDL_WRITE_ATOMIC, soon()));
    int  fd = open(p->path, O_RDONLY | O_CLOEXEC);
    char is[8] = "";
    if (fd < 0 || read(fd, is, 7) != 7 || strcmp(is, ok ? "new one" : "old one") != 0) saw(TDL_EINVAL);
    close(fd);
    ok = ok && OK(tdl_fs_write(p->other, "other", 5, 0600, TDL_WRITE_ATOMIC | TDL_WRITE_EXCLUSIVE, soon()));
    if (!ok) remove(p->other);
    int n = empty(p->dir);
    if (n != (ok ? 2 : 1)) saw(TDL_EINVAL);
    return ok;
}

static bool whole_files(place *p) {
    static char bytes[LONG];
    for (int i = 0; i < LONG; i++) bytes[i] = (char)(i / 7);
    return OK(tdl_fs_write(p->path, bytes, LONG, 0600, 0, soon())) && has(p->path, bytes, LONG) &&
           OK(tdl_fs_write(p->path, "old", 3, 0600, 0, soon())) &&
           OK(tdl_fs_write(p->path, " one", 4, 0600, TDL_WRITE_APPEND, soon())) && has(p->path, "old one", 7) &&
           replaced(p);
}

static bool pieces(place *p) {
    tdl_file *f = NULL, *g = NULL;
    tdl_stat  st = { .size = sizeof st };
    char      buf[64] = "";
    bool      ok = OK(tdl_file_open(p->path, TDL_OPEN_READ | TDL_OPEN_WRITE | TDL_OPEN_CREATE, 0600, &f, soon())) &&
              OK(tdl_file_write(f, "0123456789", 10, soon())) && OK(tdl_file_pwrite(f, "xy", 2, 4, soon())) &&
              OK(tdl_file_seek(f, 0, SEEK_SET)) && OK(tdl_file_read(f, buf, 10, soon())) &&
              memcmp(buf, "0123xy6789", 10) == 0 && OK(tdl_file_pread(f, buf, 4, 6, soon())) &&
              memcmp(buf, "6789", 4) == 0 && OK(tdl_file_sync(f, 0, soon())) && OK(tdl_file_truncate(f, 5, soon())) &&
              OK(tdl_file_stat(f, &st, soon())) && st.length == 5 &&
              OK(tdl_file_open(p->other, TDL_OPEN_WRITE | TDL_OPEN_CREATE, 0600, &g, soon())) &&
              saw(tdl_file_copy(g, f, 0, 5, soon())) == 5 && has(p->other, "0123x", 5);
    tdl_file_free(g);
    if (f && !OK(tdl_file_close(f))) ok = false;
    tdl_file_free(f);
    return ok;
}

static bool names_of_files(place *p) {
    tdl_stat    st = { .size = sizeof st };
    tdl_dir    *d = NULL;
    const char *name;
    char        buf[256], sub[160], temp[160];
    tdl_file   *f = NULL;
    int         type, n = 0;
    snprintf(sub, sizeof sub, "%s/sub", p->dir);
    snprintf(temp, sizeof temp, "%s/temp-XXXXXX", p->dir);
    bool ok = OK(tdl_fs_mkdir(sub, 0700, soon())) && OK(tdl_fs_access(sub, 0, soon())) &&
              OK(tdl_fs_rename(p->other, p->path, soon())) && OK(tdl_fs_link(p->path, p->other, soon())) &&
              OK(tdl_fs_unlink(p->other, soon())) && OK(tdl_fs_symlink("file", p->other, soon())) &&
              OK(tdl_fs_readlink(p->other, buf, sizeof buf, soon())) && strcmp(buf, "file") == 0 &&
              OK(tdl_fs_realpath(p->other, buf, sizeof buf, soon())) && OK(tdl_fs_chmod(p->path, 0640, soon())) &&
              OK(tdl_fs_chown(p->path, -1, -1, 1, soon())) && OK(tdl_fs_utime(p->path, 5000000000, 5000000000, 1, soon())) &&
              OK(tdl_fs_stat(p->path, 1, &st, soon())) && OK(tdl_fs_unlink(p->other, soon())) &&
              OK(tdl_fs_copy(p->path, p->other, 1, soon())) && has(p->other, "0123x", 5) &&
              OK(tdl_file_open_temp(temp, &f, buf, sizeof buf, soon())) && OK(tdl_fs_mkdtemp(temp, buf, sizeof buf, soon()));
    tdl_file_free(f);
    if (!ok || !OK(tdl_fs_scan(p->dir, &d, soon()))) return false;
    while (tdl_dir_next(d, &name, &type) == 1) n++;
    tdl_dir_free(d);
    if (n != 5) saw(TDL_EINVAL);
    return OK(tdl_fs_rmdir(sub, soon()));
}

int scenario_files(void *arg) {
    place p;
    (void)arg;
    begin(&p);
    if (whole_files(&p) && pieces(&p) && names_of_files(&p)) is_done();
    end(&p);
    return 0;
}

/* -- Names ------------------------------------------------------------------------------------------ */

/* A name that /etc/hosts has, and treadle does not know by itself. */
#define NAME "LOCALHOST"

int scenario_names(void *arg) {
    static int known = -1;
    tdl_addr   found[4];
    char       text[128];
    (void)arg;
    if (known < 0) {
        struct addrinfo *list = NULL;
        known = getaddrinfo(NAME, "80", NULL, &list) == 0;
        if (list) freeaddrinfo(list);
    }
    for (int i = 0; i < 4; i++) {
        if (known && saw(tdl_lookup("tcp4", NAME, 80, found, 4, soon())) < 1) return 0;
        if (saw(tdl_addr_parse(&found[0], "tcp", "127.0.0.1:80", 0)) < 0) return 0;
        if (known && saw(tdl_lookup_name(&found[0], text, sizeof text, soon())) < 1) return 0;
    }
    is_done();
    return 0;
}

/* -- Processes ---------------------------------------------------------------------------------------- */

static bool says_again(tdl_process *p, bool ends) {
    tdl_conn *in = tdl_process_pipe(p, 0), *out = tdl_process_pipe(p, 1);
    char      buf[16];
    bool      ok = false;
    if (in && out) {
        tdl_conn_set_deadline(in, soon());
        tdl_conn_set_deadline(out, soon());
        ok = saw(tdl_conn_write(in, "said\n", 5)) == 5 && saw(tdl_conn_fill(out, TDL_FILL_LINE, 16)) == 5 &&
             OK(tdl_conn_skip(out, 5));
        if (ends) {
            tdl_conn_free(in);
            in = NULL;
            ok = ok && saw(tdl_conn_read(out, buf, sizeof buf)) == 0;
        } else if (ok) {
            ok = OK(tdl_process_kill(p, SIGTERM));
        }
    }
    tdl_conn_free(in);
    tdl_conn_free(out);
    return ok;
}

/* One that comes to its end, and one that is killed; the errors go nowhere, or where the program says. */
int scenario_processes(void *arg) {
    const char *const   argv[] = { "cat", NULL };
    tdl_process_options o = { .size = sizeof o, .flags = TDL_PROCESS_KILL, .in = TDL_STDIO_PIPE, .out = TDL_STDIO_PIPE };
    int                 right = 0;
    (void)arg;
    for (int i = 0; i < 2 && right == i; i++) {
        tdl_process *p = NULL;
        int          signum = -1;
        o.err = i ? 2 : TDL_STDIO_NULL;
        if (!OK(tdl_process_start("cat", argv, &o, &p))) break;
        bool    said = says_again(p, i == 0);
        int64_t code = saw(tdl_process_wait(p, &signum, soon()));
        right += said && (i ? signum == SIGTERM : code == 0 && signum == 0);
        tdl_process_free(p);
    }
    if (right == 2) is_done();
    return 0;
}

/* -- Signals ------------------------------------------------------------------------------------------- */

/* The threads of the runtime block signals: so another one, in which the handler has run when raise returns. */
static void *raises(void *arg) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_UNBLOCK, &all, NULL);
    raise(SIGUSR2);
    return arg;
}

static void poke(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, raises, NULL) != 0) abort();
    pthread_join(thread, NULL);
}

int scenario_signals(void *arg) {
    tdl_chan *ch = got(tdl_chan_new(4));
    tdl_val   v;
    int       n = 0;
    (void)arg;
    for (int i = 0; ch && i < 3; i++) {
        if (!OK(tdl_signal_notify(ch, SIGUSR2))) break;
        poke();
        if (saw(tdl_chan_recv_until(ch, &v, soon())) == 0 && tdl_val_int(&v) == SIGUSR2) n++;
        if (tdl_chan_recv_until(ch, &v, TDL_NOWAIT) == 0) saw(TDL_EINVAL); /* it came twice */
        if (saw(tdl_signal_stop(ch, SIGUSR2)) != 1) saw(TDL_EINVAL);
    }
    tdl_chan_free(ch);
    if (n == 3) is_done();
    return 0;
}

/* -- Changes of files ------------------------------------------------------------------------------------ */

int scenario_changes(void *arg) {
    place      p;
    tdl_watch *w = NULL;
    char       name[64] = "";
    int64_t    what = 0;
    (void)arg;
    begin(&p);
    if (OK(tdl_watch_open(p.dir, &w, soon()))) {
        close(open(p.path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        do
            what = saw(tdl_watch_next(w, name, sizeof name, soon()));
        while (what > 0 && what != TDL_WATCH_LOST && strcmp(name, "file") != 0);
        if (what > 0 && OK(tdl_watch_close(w))) is_done(); /* lost: it is to be looked for, and is there */
    }
    tdl_watch_free(w);
    end(&p);
    return 0;
}

/* -- Terminals -------------------------------------------------------------------------------------------- */

static bool echoes(int fd) {
    struct termios t;
    return tcgetattr(fd, &t) == 0 && (t.c_lflag & ECHO);
}

int scenario_terminal(void *arg) {
    int         master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), columns, rows;
    const char *name = master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0 ? ptsname(master) : NULL;
    int         fd = name ? open(name, O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;
    (void)arg;
    if (fd < 0) {
        is_done(); /* there are none here */
    } else if (OK(tdl_tty_size(fd, &columns, &rows)) && OK(tdl_tty_raw(fd, 1))) {
        bool raw = !echoes(fd), off = OK(tdl_tty_raw(fd, 0));
        if (raw && off && echoes(fd)) is_done();
        if (!off) tdl_tty_raw(fd, 0);
    }
    if (fd >= 0) close(fd);
    if (master >= 0) close(master);
    return 0;
}
