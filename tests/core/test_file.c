/* SPDX-License-Identifier: MIT
 * Files and directories, from goroutines, threads and tasks; deadlines, cancels and
 * closes of what a service thread is at; the bounds of the threads. */
#include "actors.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS   TDL_MILLISECOND
#define EVER TDL_FOREVER

static char dir[64];

/* A directory of the test's own; in() is a path in it. */
static void begin(void) {
    snprintf(dir, sizeof dir, "/tmp/treadle-file-XXXXXX");
    char made[64];
    CHECK_RC(tdl_fs_mkdtemp(dir, made, sizeof made, EVER), (int64_t)strlen(dir));
    memcpy(dir, made, sizeof dir);
}

static const char *path_in(char *buf, size_t size, const char *name) {
    snprintf(buf, size, "%s/%s", dir, name);
    return buf;
}
#define in(name) path_in((char[160]){ 0 }, 160, (name))

static void end(void) {
    tdl_dir    *d;
    const char *name;
    CHECK_RC(tdl_fs_scan(dir, &d, EVER), 0);
    while (tdl_dir_next(d, &name, NULL) == 1) CHECK_RC(tdl_fs_unlink(in(name), EVER), 0);
    tdl_dir_free(d);
    CHECK_RC(tdl_fs_rmdir(dir, EVER), 0);
}

static void idle(void) {
    for (int i = 0; i < 1000 && tdl_metric("services") > 0; i++) usleep(2000);
    CHECK_INT(tdl_metric("services"), 0);
}

/* -- What files do ------------------------------------------------------------------ */

static void conversation(void *arg) {
    tdl_file *f = NULL;
    char      buf[64];
    tdl_stat  st = { .size = sizeof st };
    const char *path = in(arg);
    CHECK_RC(tdl_file_open(path, TDL_OPEN_READ | TDL_OPEN_WRITE | TDL_OPEN_CREATE | TDL_OPEN_EXCLUSIVE, 0640, &f, EVER), 0);
    REQUIRE(f != NULL);
    CHECK_RC(tdl_file_write(f, "hello, file", 11, EVER), 11);
    CHECK_RC(tdl_file_pwrite(f, "F", 1, 7, EVER), 1);
    CHECK_RC(tdl_file_read(f, buf, sizeof buf, EVER), 0);
    CHECK_RC(tdl_file_seek(f, -4, 2), 7);
    CHECK_RC(tdl_file_read(f, buf, 2, EVER), 2);
    CHECK(memcmp(buf, "Fi", 2) == 0);
    CHECK_RC(tdl_file_pread(f, buf, sizeof buf, 0, EVER), 11);
    CHECK(memcmp(buf, "hello, File", 11) == 0);
    CHECK_RC(tdl_file_seek(f, 0, 1), 9);
    CHECK_RC(tdl_file_sync(f, 0, EVER), 0);
    CHECK_RC(tdl_file_sync(f, 1, EVER), 0);
    CHECK_RC(tdl_file_truncate(f, 5, EVER), 0);
    CHECK_RC(tdl_file_stat(f, &st, EVER), 0);
    CHECK_INT(st.length, 5);
    CHECK_INT(st.type, TDL_FILE_REGULAR);
    CHECK_INT(st.mode, 0640);
    CHECK_INT(st.links, 1);
    CHECK(st.mtime > TDL_SECOND * 1000000000 && st.ino > 0);
    CHECK(tdl_file_fd(f) >= 0);
    CHECK_RC(tdl_file_close(f), 0);
    CHECK_RC(tdl_file_close(f), TDL_ECLOSED);
    CHECK_RC(tdl_file_read(f, buf, 1, EVER), TDL_ECLOSED);
    CHECK_RC(tdl_file_fd(f), TDL_ECLOSED);
    tdl_file_free(f);
}

TEST_G(reading_and_writing, "a file is written, read at its position and elsewhere, cut and closed; goroutine and thread") {
    crew c;
    begin();
    for (int thread = 0; thread < 2; thread++) {
        crew_open(&c);
        crew_start(&c, thread, conversation, thread ? "a" : "b");
        crew_close(&c);
    }
    end();
}

TEST_G(bad_files, "files that are not there, and arguments that make no sense, are told apart") {
    tdl_file *f = (tdl_file *)1;
    tdl_stat  st = { .size = 3 };
    tdl_val   v;
    char      buf[8];
    begin();
    CHECK_RC(tdl_file_open(in("none"), TDL_OPEN_READ, 0, &f, EVER), -ENOENT);
    CHECK(f == NULL);
    CHECK_RC(tdl_file_open("", TDL_OPEN_READ, 0, &f, EVER), TDL_EINVAL);
    CHECK_RC(tdl_file_open(NULL, TDL_OPEN_READ, 0, &f, EVER), TDL_EINVAL);
    CHECK_RC(tdl_file_open(in("x"), TDL_OPEN_CREATE, 0600, &f, EVER), TDL_EINVAL);
    CHECK_RC(tdl_file_open(in("x"), TDL_OPEN_READ | 1024, 0600, &f, EVER), TDL_EINVAL);
    CHECK_RC(tdl_file_open(in("x"), TDL_OPEN_READ, 0600, NULL, EVER), TDL_EINVAL);
    CHECK_RC(tdl_file_open(dir, TDL_OPEN_WRITE, 0, &f, EVER), -EISDIR);
    CHECK_RC(tdl_file_open("/dev/null", TDL_OPEN_READ | TDL_OPEN_DIRECTORY, 0, &f, EVER), -ENOTDIR);
    CHECK_RC(tdl_file_open(in("x"), TDL_OPEN_READ, 0, &f, tdl_now() - 1), TDL_ETIMEDOUT);
    CHECK_RC(tdl_file_open(in("x"), TDL_OPEN_READ, 0, &f, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_file_read(NULL, buf, 1, EVER), TDL_EINVAL);
    CHECK_RC(tdl_file_adopt(9999, &f), -EBADF);
    CHECK_RC(tdl_fs_stat(dir, 1, &st, EVER), TDL_EINVAL);
    CHECK_RC(tdl_fs_rename(in("none"), NULL, EVER), TDL_EINVAL);
    CHECK_RC(tdl_fs_rename(in("none"), in("other"), EVER), -ENOENT);
    CHECK_RC(tdl_fs_mkdir(dir, 0700, EVER), -EEXIST);
    CHECK_RC(tdl_fs_read(dir, 100, &v, EVER), -EISDIR);
    CHECK_RC(tdl_fs_mkdtemp("/tmp/no-places", buf, sizeof buf, EVER), -EINVAL);
    CHECK_RC(tdl_file_open("/dev/null", TDL_OPEN_READ, 0, &f, EVER), 0);
    CHECK_RC(tdl_file_pread(f, buf, 1, -1, EVER), TDL_EINVAL);
    CHECK_RC(tdl_file_write(f, "x", 1, EVER), -EBADF);
    CHECK_RC(tdl_file_seek(f, 0, 3), TDL_EINVAL);
    tdl_file_free(f);
    tdl_file_free(NULL);
    end();
}

TEST_G(paths, "directories, links, names, modes, owners, times and copies") {
    tdl_stat    st = { .size = sizeof st };
    tdl_dir    *d;
    const char *name;
    char        text[256], whole[256];
    int         type;
    begin();
    CHECK_RC(tdl_fs_write(in("b"), "bytes", 5, 0600, 0, EVER), 0);
    CHECK_RC(tdl_fs_mkdir(in("a"), 0700, EVER), 0);
    CHECK_RC(tdl_fs_symlink("b", in("c"), EVER), 0);
    CHECK_RC(tdl_fs_link(in("b"), in("d"), EVER), 0);
    CHECK_RC(tdl_fs_scan(dir, &d, EVER), 0);
    static const struct { const char *name; int type; } want[] = {
        { "a", TDL_FILE_DIRECTORY }, { "b", TDL_FILE_REGULAR }, { "c", TDL_FILE_LINK }, { "d", TDL_FILE_REGULAR } };
    for (int i = 0; i < 4; i++) {
        CHECK_INT(tdl_dir_next(d, &name, &type), 1);
        CHECK(strcmp(name, want[i].name) == 0);
        CHECK_INT(type, want[i].type);
    }
    CHECK_INT(tdl_dir_next(d, &name, &type), 0);
    tdl_dir_free(d);
    CHECK_RC(tdl_fs_readlink(in("c"), text, sizeof text, EVER), 1);
    CHECK(strcmp(text, "b") == 0);
    CHECK(realpath(in("b"), whole) != NULL);
    CHECK_RC(tdl_fs_realpath(in("c"), text, sizeof text, EVER), (int64_t)strlen(whole));
    CHECK(strcmp(text, whole) == 0);
    CHECK_RC(tdl_fs_realpath(in("c"), text, 5, EVER), (int64_t)strlen(whole));
    CHECK(strlen(text) == 4);
    CHECK_RC(tdl_fs_stat(in("c"), 0, &st, EVER), 0);
    CHECK_INT(st.type, TDL_FILE_LINK);
    CHECK_RC(tdl_fs_chmod(in("b"), 0400, EVER), 0);
    CHECK_RC(tdl_fs_utime(in("b"), 1000000001, -1, 1, EVER), 0);
    CHECK_RC(tdl_fs_chown(in("b"), -1, -1, 1, EVER), 0);
    CHECK_RC(tdl_fs_stat(in("c"), 1, &st, EVER), 0);
    CHECK_INT(st.mode, 0400);
    CHECK_INT(st.atime, 1000000001);
    CHECK_INT(st.mtime, -1);
    CHECK_INT(st.links, 2);
    CHECK_RC(tdl_fs_copy(in("b"), in("e"), 1, EVER), 0);
    CHECK_RC(tdl_fs_copy(in("b"), in("e"), 1, EVER), -EEXIST);
    CHECK_RC(tdl_fs_access(in("e"), 4, EVER), 0);
    CHECK_RC(tdl_fs_access(in("f"), 0, EVER), -ENOENT);
    CHECK_RC(tdl_fs_rename(in("e"), in("f"), EVER), 0);
    CHECK_RC(tdl_fs_access(in("f"), 0, EVER), 0);
    CHECK_RC(tdl_fs_rmdir(in("a"), EVER), 0);
    end();
}

TEST_G(whole, "a whole file is read and written, in place or at once; limits hold") {
    tdl_val v;
    size_t  n, size = 300000;
    char   *big = malloc(size);
    begin();
    for (size_t i = 0; i < size; i++) big[i] = (char)(i * 7);
    for (int flags = 0; flags <= TDL_WRITE_ATOMIC; flags += TDL_WRITE_ATOMIC) {
        CHECK_RC(tdl_fs_write(in("w"), big, size, 0644, flags, EVER), 0);
        CHECK_RC(tdl_fs_read(in("w"), size, &v, EVER), 0);
        CHECK(memcmp(tdl_val_bytes(&v, &n), big, size) == 0);
        CHECK_INT(n, size);
        tdl_val_clear(&v);
    }
    CHECK_RC(tdl_fs_read(in("w"), size - 1, &v, EVER), TDL_ETOOLONG);
    CHECK_INT(tdl_val_type(&v), TDL_NIL);
    CHECK_RC(tdl_fs_write(in("w"), "x", 1, 0644, TDL_WRITE_EXCLUSIVE, EVER), -EEXIST);
    CHECK_RC(tdl_fs_write(in("w"), "x", 1, 0644, TDL_WRITE_EXCLUSIVE | TDL_WRITE_ATOMIC, EVER), -EEXIST);
    CHECK_RC(tdl_fs_write(in("v"), "x", 1, 0644, TDL_WRITE_EXCLUSIVE | TDL_WRITE_ATOMIC, EVER), 0);
    CHECK_RC(tdl_fs_write(in("v"), "y", 1, 0644, TDL_WRITE_APPEND, EVER), 0);
    CHECK_RC(tdl_fs_read(in("v"), 9, &v, EVER), 0);
    CHECK(memcmp(tdl_val_bytes(&v, &n), "xy", 2) == 0);
    tdl_val_clear(&v);
    CHECK_RC(tdl_fs_read("/proc/self/status", 1 << 20, &v, EVER), 0); /* its length is not known before */
    CHECK(tdl_val_bytes(&v, &n) && n > 100);
    tdl_val_clear(&v);
    free(big);
    end(); /* nothing of the temporary files is left */
}

TEST_G(copying, "part of a file goes into another, in the kernel") {
    tdl_file *a, *b;
    char      buf[16], name[96], made[96];
    begin();
    CHECK_RC(tdl_file_open(in("a"), TDL_OPEN_READ | TDL_OPEN_WRITE | TDL_OPEN_CREATE, 0600, &a, EVER), 0);
    snprintf(name, sizeof name, "%s/t-XXXXXX", dir);
    CHECK_RC(tdl_file_open_temp(name, &b, made, sizeof made, EVER), (int64_t)strlen(name));
    CHECK(memcmp(made, name, strlen(name) - 6) == 0 && access(made, F_OK) == 0);
    CHECK_RC(tdl_file_write(a, "0123456789", 10, EVER), 10);
    CHECK_RC(tdl_file_copy(b, a, 3, 4, EVER), 4);
    CHECK_RC(tdl_file_copy(b, a, 10, 4, EVER), 0);
    CHECK_RC(tdl_file_pread(b, buf, sizeof buf, 0, EVER), 4);
    CHECK(memcmp(buf, "3456", 4) == 0);
    tdl_file_free(a);
    tdl_file_free(b);
    end();
}

typedef struct share {
    int      number, rounds;
    uint64_t sum;
} share;

static void churn(void *arg) {
    share    *s = arg;
    tdl_file *f;
    char      name[32], block[4096];
    snprintf(name, sizeof name, "churn-%d", s->number);
    CHECK_RC(tdl_file_open(in(name), TDL_OPEN_READ | TDL_OPEN_WRITE | TDL_OPEN_CREATE, 0600, &f, EVER), 0);
    for (int i = 0; i < s->rounds; i++) {
        memset(block, s->number + i, sizeof block);
        CHECK_RC(tdl_file_pwrite(f, block, sizeof block, (int64_t)i * 4096, EVER), 4096);
    }
    for (int i = 0; i < s->rounds; i++) {
        CHECK_RC(tdl_file_pread(f, block, sizeof block, (int64_t)i * 4096, EVER), 4096);
        CHECK(block[0] == (char)(s->number + i) && block[4095] == block[0]);
    }
    CHECK_RC(tdl_file_close(f), 0);
    tdl_file_free(f);
}

TEST_G(crowd, "many goroutines and threads use many more files than there are service threads") {
    enum { MANY = 60 };
    static share s[MANY];
    crew         c;
    begin();
    crew_open(&c);
    for (int i = 0; i < MANY; i++) {
        s[i] = (share){ i, SCALE(20), 0 };
        crew_start(&c, i % 10 == 0, churn, &s[i]);
    }
    crew_close(&c);
    CHECK_INT(tdl_metric("services"), 0);
    end();
}

/* -- What does not come to an end ------------------------------------------------------- */

typedef struct stuck {
    tdl_file *f;
    int       w; /* what to write to, to free it */
    int64_t   deadline, rc;
    char      buf[8];
} stuck;

/* A file that is a pipe, which waits: nothing else keeps a service thread at will. */
static void stick(stuck *s) {
    int p[2];
    REQUIRE(pipe2(p, O_CLOEXEC) == 0);
    CHECK_RC(tdl_file_adopt(p[0], &s->f), 0);
    s->w = p[1];
    s->deadline = EVER;
    s->rc = 99;
    memset(s->buf, '.', sizeof s->buf);
}

static void unstick(stuck *s) {
    CHECK(write(s->w, "123", 3) == 3 || errno == EPIPE); /* given up before a thread was at it */
    close(s->w);
}

static void read_stuck(void *arg) {
    stuck *s = arg;
    s->rc = tdl_file_read(s->f, s->buf, sizeof s->buf, s->deadline);
}

TEST_G(giving_up, "a deadline, a cancel and a close end a call whose thread is held up; it touches nothing then") {
    for (int thread = 0; thread < 2; thread++) {
        stuck s;
        crew  c;
        stick(&s);
        s.deadline = tdl_now() + 20 * MS;
        crew_open(&c);
        crew_start(&c, thread, read_stuck, &s);
        crew_close(&c);
        CHECK_RC(s.rc, TDL_ETIMEDOUT);
        if (tdl_metric("services") == 1) CHECK_RC(tdl_file_release(s.f), TDL_EBUSY);
        tdl_file_free(s.f);
        unstick(&s);
        idle();
        CHECK(s.buf[0] == '.');
    }
    for (int thread = 0; thread < 2; thread++) {
        stuck s;
        crew  c;
        stick(&s);
        crew_open(&c);
        crew_start(&c, thread, read_stuck, &s);
        let_park();
        while (tdl_metric("services") == 0) tdl_yield();
        CHECK_RC(tdl_file_close(s.f), 0);
        crew_close(&c);
        CHECK_RC(s.rc, TDL_ECLOSED);
        unstick(&s);
        idle();
        CHECK(s.buf[0] == '.');
        tdl_file_free(s.f);
    }
    stuck s;
    stick(&s);
    tdl_g *g = go_joinable(read_stuck, &s);
    let_park();
    tdl_cancel(g);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(s.rc, TDL_ECANCELED);
    unstick(&s);
    idle();
    tdl_file_free(s.f);
    stick(&s); /* and one that is not given up */
    g = go_joinable(read_stuck, &s);
    let_park();
    unstick(&s);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(s.rc, 3);
    CHECK(memcmp(s.buf, "123.", 4) == 0);
    tdl_file_free(s.f);
}

TEST_G(bounds, "no more threads than were allowed; what waits for one can be given up, and goes on when one is free") {
    stuck    s[3];
    crew     c;
    tdl_stat st = { .size = sizeof st };
    int      before = tdl_set_io_threads(2);
    idle();
    CHECK_INT(tdl_set_io_threads(1), 2); /* two are the least */
    CHECK_INT(tdl_set_io_threads(0), 2);
    tdl_sleep(1 * MS);
    crew_open(&c);
    for (int i = 0; i < 3; i++) {
        stick(&s[i]);
        crew_start(&c, 0, read_stuck, &s[i]);
    }
    while (tdl_metric("services") < 3) tdl_yield();
    CHECK_RC(tdl_fs_stat("/", 1, &st, tdl_now() + 20 * MS), TDL_ETIMEDOUT);
    CHECK_INT(tdl_metric("services"), 3);
    for (int i = 0; i < 3; i++) unstick(&s[i]);
    CHECK_RC(tdl_fs_stat("/", 1, &st, EVER), 0);
    crew_close(&c);
    for (int i = 0; i < 3; i++) {
        CHECK_RC(s[i].rc, 3);
        tdl_file_free(s[i].f);
    }
    tdl_set_io_threads(before);
    idle();
}

TEST_G(not_pollable, "a FIFO is opened without waiting, and can be made a connection, which waits") {
    tdl_file *f;
    tdl_conn *c;
    char      buf[8];
    begin();
    REQUIRE(mkfifo(in("fifo"), 0600) == 0);
    CHECK_RC(tdl_file_open(in("fifo"), TDL_OPEN_READ | TDL_OPEN_WRITE, 0, &f, EVER), 0);
    CHECK_RC(tdl_file_read(f, buf, 1, EVER), -EAGAIN);
    int fd = tdl_file_release(f);
    CHECK_RC(tdl_file_read(f, buf, 1, EVER), TDL_ECLOSED);
    tdl_file_free(f);
    CHECK_RC(tdl_conn_adopt(fd, &c), 0);
    CHECK_RC(tdl_conn_write(c, "fifo", 4), 4);
    CHECK_RC(tdl_conn_read(c, buf, sizeof buf), 4);
    tdl_conn_free(c);
    end();
}

/* -- Hosts -------------------------------------------------------------------------------- */

typedef struct hosted {
    char      path[96], buf[64];
    tdl_file *f;
    tdl_stat  st;
} hosted;

static int task_uses_file(actor *a, int result) {
    hosted *x = a->data;
    switch (a->state++) {
    case 0: return tdl_fs_write_start(a->host, a->task, x->path, "task", 4, 0600, 0, EVER);
    case 1:
        CHECK_RC(result, 0);
        return tdl_file_open_start(a->host, a->task, x->path, TDL_OPEN_READ | TDL_OPEN_WRITE, 0, EVER);
    case 2:
        CHECK_RC(result, 0);
        x->f = tdl_val_ptr(&outcome_of(a)->val);
        REQUIRE(x->f != NULL);
        CHECK_RC(tdl_file_read(x->f, x->buf, 4, EVER), TDL_EHOST);
        return tdl_file_pwrite_start(a->host, a->task, x->f, "T", 1, 0, EVER);
    case 3: CHECK_RC(result, 1); return tdl_file_read_start(a->host, a->task, x->f, x->buf, sizeof x->buf, EVER);
    case 4:
        CHECK_RC(result, 4);
        CHECK(memcmp(x->buf, "Task", 4) == 0);
        x->st.size = sizeof x->st;
        return tdl_file_stat_start(a->host, a->task, x->f, &x->st, EVER);
    case 5:
        CHECK_RC(result, 0);
        CHECK_INT(x->st.length, 4);
        tdl_file_free(x->f);
        return tdl_fs_read_start(a->host, a->task, x->path, 100, EVER);
    case 6:
        CHECK_RC(result, 0);
        CHECK_INT(tdl_val_type(&outcome_of(a)->val), TDL_BYTES);
        tdl_val_clear(&outcome_of(a)->val);
        return tdl_fs_unlink_start(a->host, a->task, x->path, EVER);
    case 7: CHECK_RC(result, 0); return tdl_file_open_start(a->host, a->task, x->path, TDL_OPEN_READ, 0, EVER);
    default: CHECK_RC(result, -ENOENT); return ACTOR_DONE;
    }
}

TEST(tasks, "tasks of a host use files, without any worker") {
    enum { N = 20 };
    static hosted x[N];
    stage         s;
    stage_open(&s, "files");
    for (int i = 0; i < N; i++) {
        snprintf(x[i].path, sizeof x[i].path, "/tmp/treadle-task-%d-%d", (int)getpid(), i);
        stage_spawn(&s, task_uses_file, &x[i]);
    }
    stage_run(&s);
    stage_close(&s);
}

static int task_sticks(actor *a, int result) {
    stuck *x = a->data;
    if (a->state++ == 0)
        return tdl_file_read_start(a->host, a->task, x->f, x->buf, sizeof x->buf, tdl_now() + 20 * MS);
    CHECK_RC(result, TDL_ETIMEDOUT);
    return ACTOR_DONE;
}

TEST(task_gives_up, "a task's deadline ends what its thread is held up with; so does the end of its host") {
    stage s;
    stuck x, y;
    stick(&x);
    stick(&y);
    stage_open(&s, "files");
    stage_spawn(&s, task_sticks, &x);
    stage_run(&s);
    int task = tdl_task_new(s.host, 0);
    CHECK_RC(tdl_file_read_start(s.host, (uint32_t)task, y.f, y.buf, 8, EVER), TDL_PENDING);
    stage_close(&s);
    unstick(&x);
    unstick(&y);
    idle();
    CHECK(x.buf[0] == '.' && y.buf[0] == '.');
    tdl_file_free(x.f);
    tdl_file_free(y.f);
}

/* -- Where it cannot work -------------------------------------------------------------------- */

#ifndef UNDER_TSAN /* which cannot follow a simulation */
static int simulated(void *arg) {
    tdl_file *f;
    (void)arg;
    CHECK_RC(tdl_file_open("/dev/null", TDL_OPEN_READ, 0, &f, EVER), TDL_ESIM);
    return 0;
}
#endif

TEST(borders, "the child of a fork has no files of treadle's, and a simulation none at all") {
    tdl_file *f;
    CHECK_RC(tdl_file_open("/dev/null", TDL_OPEN_READ, 0, &f, EVER), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        tdl_file *g;
        _exit(tdl_file_read(f, &byte, 1, EVER) == TDL_EFORKED && tdl_file_close(f) == TDL_EFORKED &&
              tdl_file_open("/dev/null", TDL_OPEN_READ, 0, &g, EVER) == TDL_EFORKED ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    tdl_file_free(f);
#ifndef UNDER_TSAN
    CHECK_RC(tdl_sim_run(NULL, simulated, NULL, NULL), 0);
#endif
}
