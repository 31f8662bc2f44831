/* SPDX-License-Identifier: MIT
 * fork: in the child there is no runtime, and every call says so; the parent
 * does not notice. */
#include "check.h"
#include "net.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs in a child of its own; the test fails if a check in it did. */
static void in_child(void (*fn)(void *), void *arg) {
    int   status = 0;
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        alarm(10); /* a child that hangs is killed */
        int before = check_failures();
        fn(arg);
        _exit(check_failures() > before);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    if (WIFSIGNALED(status)) CHECK_INT(WTERMSIG(status), 0);
    CHECK_INT(WEXITSTATUS(status), 0);
}

typedef struct things {
    tdl_chan      *ch;
    tdl_mutex     *m;
    tdl_waitgroup *wg;
    tdl_g         *g;
    tdl_cond      *c;
    tdl_sema      *s;
    tdl_timer     *t;
    tdl_listener  *l;
    tdl_conn      *a, *b;
} things;

static void nothing(void *arg) { (void)arg; }

static int nothing_main(void *arg) { return arg != NULL; }

static void use_everything(void *arg) {
    things       *t = arg;
    tdl_val       v;
    char          buf[8];
    tdl_conn     *c = NULL;
    tdl_listener *l = NULL;
    tdl_host     *h = NULL;
    tdl_val_set_int(&v, 1);
    tdl_case k = { .chan = t->ch, .op = TDL_RECV };
    CHECK_RC(tdl_run(nothing_main, NULL), TDL_EFORKED);
    CHECK(tdl_go(nothing, NULL) == NULL);
    CHECK(tdl_go_opts(nothing, NULL, NULL) == NULL);
    CHECK_RC(tdl_join(t->g), TDL_EFORKED);
    CHECK_RC(tdl_cancel(t->g), TDL_EFORKED);
    CHECK_RC(tdl_sleep(TDL_SECOND), TDL_EFORKED);
    tdl_yield();
    CHECK(tdl_chan_new(1) == NULL);
    CHECK_RC(tdl_chan_send(t->ch, &v), TDL_EFORKED);
    CHECK_RC(tdl_chan_try_send(t->ch, &v), TDL_EFORKED);
    CHECK_RC(tdl_chan_recv(t->ch, &v), TDL_EFORKED);
    CHECK_RC(tdl_chan_try_recv(t->ch, &v), TDL_EFORKED);
    CHECK_RC(tdl_chan_recv_until(t->ch, &v, 1), TDL_EFORKED);
    CHECK_RC(tdl_chan_recv(NULL, &v), TDL_EFORKED);
    CHECK_RC(tdl_chan_close(t->ch), TDL_EFORKED);
    CHECK_RC(tdl_select(&k, 1, TDL_FOREVER), TDL_EFORKED);
    CHECK_RC(tdl_select(NULL, 0, TDL_FOREVER), TDL_EFORKED);
    CHECK(tdl_mutex_new() == NULL);
    CHECK_RC(tdl_mutex_lock(t->m), TDL_EFORKED);
    CHECK_RC(tdl_mutex_trylock(t->m), TDL_EFORKED);
    CHECK_RC(tdl_mutex_unlock(t->m), TDL_EFORKED);
    CHECK(tdl_waitgroup_new() == NULL);
    CHECK_RC(tdl_waitgroup_add(t->wg, 1), TDL_EFORKED);
    CHECK_RC(tdl_waitgroup_wait(t->wg), TDL_EFORKED);
    CHECK(tdl_cond_new(t->m) == NULL);
    CHECK_RC(tdl_cond_wait(t->c), TDL_EFORKED);
    CHECK_RC(tdl_cond_signal(t->c), TDL_EFORKED);
    CHECK(tdl_sema_new(1) == NULL);
    CHECK_RC(tdl_sema_acquire(t->s, 1), TDL_EFORKED);
    CHECK_RC(tdl_sema_release(t->s, 1), TDL_EFORKED);
    CHECK(tdl_timer_new(1, 0) == NULL);
    CHECK_RC(tdl_timer_stop(t->t), TDL_EFORKED);
    CHECK_RC(tdl_timer_reset(t->t, 1, 0), TDL_EFORKED);
    CHECK_RC(tdl_listen("tcp", "127.0.0.1:0", &l), TDL_EFORKED);
    CHECK_RC(tdl_listener_accept(t->l, &c), TDL_EFORKED);
    CHECK_RC(tdl_listener_port(t->l), TDL_EFORKED);
    CHECK_RC(tdl_listener_close(t->l), TDL_EFORKED);
    CHECK_RC(tdl_dial("tcp", "127.0.0.1:1", 0, &c), TDL_EFORKED);
    CHECK_RC(tdl_conn_read(t->a, buf, sizeof buf), TDL_EFORKED);
    CHECK_RC(tdl_conn_write(t->a, "x", 1), TDL_EFORKED);
    CHECK_RC(tdl_conn_fill(t->a, TDL_FILL_LINE, 10), TDL_EFORKED);
    CHECK_RC(tdl_conn_skip(t->a, 0), TDL_EFORKED);
    CHECK_RC(tdl_conn_close_read(t->a), TDL_EFORKED); /* the socket is the parent's too */
    CHECK_RC(tdl_conn_close_write(t->a), TDL_EFORKED);
    CHECK_RC(tdl_conn_peername(t->a, buf, sizeof buf), TDL_EFORKED);
    CHECK_RC(tdl_conn_close(t->a), TDL_EFORKED);
    CHECK_RC(tdl_host_open("child", &h), TDL_EFORKED);
    CHECK_RC(tdl_dump(2), TDL_EFORKED);
    tdl_chan_free(t->ch);
    tdl_timer_free(t->t);
    tdl_sema_free(t->s);
    tdl_cond_free(t->c);
    tdl_mutex_free(t->m);
    tdl_waitgroup_free(t->wg);
    tdl_listener_free(t->l);
    tdl_conn_free(t->a);
    CHECK(tdl_now() > 0); /* what needs no runtime works */
    CHECK(*tdl_strerror(TDL_EFORKED));
}

/* What waits for others, and for the end of things. */
typedef struct bonds {
    tdl_rwmutex      *rw;
    tdl_once         *o;
    tdl_context      *c;
    tdl_after        *a;
    tdl_errgroup     *eg;
    tdl_singleflight *sf;
    tdl_scope        *s;
} bonds;

static int no_error(void *arg) { return arg != NULL; }

static int no_value(void *arg, tdl_val *v) {
    tdl_val_set_nil(v);
    return arg != NULL;
}

static void use_bonds(void *arg) {
    bonds      *b = arg;
    tdl_val     v;
    tdl_outcome out;
    CHECK(tdl_rwmutex_new() == NULL);
    CHECK_RC(tdl_rwmutex_lock(b->rw), TDL_EFORKED);
    CHECK_RC(tdl_rwmutex_trylock(b->rw), TDL_EFORKED);
    CHECK_RC(tdl_rwmutex_unlock(b->rw), TDL_EFORKED);
    CHECK_RC(tdl_rwmutex_rlock(b->rw), TDL_EFORKED);
    CHECK_RC(tdl_rwmutex_tryrlock(b->rw), TDL_EFORKED);
    CHECK_RC(tdl_rwmutex_runlock(b->rw), TDL_EFORKED);
    CHECK(tdl_once_new() == NULL);
    CHECK_RC(tdl_once_do(b->o, nothing, NULL), TDL_EFORKED);
    CHECK_RC(tdl_once_end(b->o), TDL_EFORKED);
    CHECK(tdl_timer_func(1, 0, nothing, NULL) == NULL);
    CHECK(tdl_context_with_cancel(b->c) == NULL);
    CHECK(tdl_context_with_timeout(b->c, 1) == NULL);
    CHECK(tdl_context_without_cancel(b->c) == NULL);
    CHECK_RC(tdl_context_cancel(b->c, 0, NULL), TDL_EFORKED);
    CHECK_RC(tdl_context_wait(b->c), TDL_EFORKED);
    CHECK_RC(tdl_context_err(b->c), 0);
    CHECK(tdl_context_after_func(b->c, nothing, NULL) == NULL);
    CHECK_RC(tdl_after_stop(b->a), TDL_EFORKED);
    CHECK(tdl_errgroup_new(NULL, 0) == NULL);
    CHECK_RC(tdl_errgroup_go(b->eg, no_error, NULL), TDL_EFORKED);
    CHECK_RC(tdl_errgroup_try_go(b->eg, no_error, NULL), TDL_EFORKED);
    CHECK_RC(tdl_errgroup_done(b->eg, 0), TDL_EFORKED);
    CHECK_RC(tdl_errgroup_wait(b->eg), TDL_EFORKED);
    CHECK_RC(tdl_errgroup_error(b->eg), TDL_EFORKED);
    CHECK(tdl_singleflight_new() == NULL);
    CHECK_RC(tdl_singleflight_do(b->sf, "k", 1, no_value, NULL, &v, NULL), TDL_EFORKED);
    CHECK_RC(tdl_singleflight_begin(b->sf, "k", 1, &out), TDL_EFORKED);
    CHECK_RC(tdl_singleflight_end(b->sf, 1, 0, NULL), TDL_EFORKED);
    CHECK_RC(tdl_singleflight_forget(b->sf, "k", 1), TDL_EFORKED);
    CHECK(tdl_scope_new(NULL, TDL_FOREVER) == NULL);
    CHECK_RC(tdl_scope_go(b->s, no_error, NULL), TDL_EFORKED);
    CHECK_RC(tdl_scope_done(b->s, 0), TDL_EFORKED);
    CHECK_RC(tdl_scope_wait(b->s), TDL_EFORKED);
    CHECK_RC(tdl_scope_error(b->s), TDL_EFORKED);
    tdl_after_free(b->a);
    tdl_context_free(b->c);
    tdl_rwmutex_free(b->rw);
    tdl_once_free(b->o);
    tdl_errgroup_free(b->eg);
    tdl_singleflight_free(b->sf);
    tdl_scope_free(b->s);
}

TEST_G(fork_bonds, "K1 fork: locks, contexts, groups and scopes say so in the child; the parent's go on") {
    bonds b = { tdl_rwmutex_new(), tdl_once_new(), tdl_context_with_timeout(NULL, TDL_HOUR), NULL,
                tdl_errgroup_new(NULL, 1), tdl_singleflight_new(), NULL };
    b.a = tdl_context_after_func(b.c, nothing, NULL);
    b.s = tdl_scope_new(b.c, TDL_FOREVER);
    CHECK_RC(tdl_rwmutex_rlock(b.rw), 0);
    CHECK_RC(tdl_errgroup_begin(b.eg), 0);
    CHECK_RC(tdl_scope_begin(b.s), 0);
    in_child(use_bonds, &b);
    CHECK_RC(tdl_rwmutex_runlock(b.rw), 0);
    CHECK_RC(tdl_errgroup_done(b.eg, 0), 0);
    CHECK_RC(tdl_scope_done(b.s, 0), 0);
    CHECK_RC(tdl_rwmutex_lock(b.rw), 0);
    CHECK_RC(tdl_rwmutex_unlock(b.rw), 0);
    CHECK_RC(tdl_errgroup_wait(b.eg), 0);
    CHECK_RC(tdl_scope_wait(b.s), 0);
    CHECK_INT(tdl_after_stop(b.a), 1);
    tdl_after_free(b.a);
    tdl_scope_free(b.s);
    tdl_context_free(b.c);
    tdl_rwmutex_free(b.rw);
    tdl_once_free(b.o);
    tdl_errgroup_free(b.eg);
    tdl_singleflight_free(b.sf);
}

static void receive_until_closed(void *arg) {
    while (tdl_chan_recv(arg, NULL) == 0) {}
}

static void make_things(things *t) {
    char address[ADDRESS_SIZE];
    *t = (things){ .ch = tdl_chan_new(0), .m = tdl_mutex_new(), .wg = tdl_waitgroup_new(), .s = tdl_sema_new(1) };
    t->c = tdl_cond_new(t->m);
    t->t = tdl_timer_new(tdl_now() + TDL_HOUR, 0);
    t->g = go_joinable(receive_until_closed, t->ch);
    t->l = net_listen("tcp", address);
    net_pair("tcp", &t->a, &t->b);
}

static void things_still_work(things *t) {
    char buf[8];
    CHECK_RC(send_int(t->ch, 1), 0);
    CHECK_RC(tdl_chan_close(t->ch), 0);
    CHECK_RC(tdl_join(t->g), 0);
    CHECK_RC(tdl_mutex_lock(t->m), 0);
    CHECK_RC(tdl_mutex_unlock(t->m), 0);
    CHECK_RC(tdl_conn_write(t->a, "parent", 6), 6);
    net_read_full(t->b, buf, 6);
    CHECK_RC(tdl_conn_write(t->b, "parent", 6), 6);
    net_read_full(t->a, buf, 6);
    CHECK_RC(tdl_sleep(TDL_MILLISECOND), 0);
    tdl_conn_free(t->a);
    tdl_conn_free(t->b);
    tdl_listener_free(t->l);
    CHECK_INT(tdl_timer_stop(t->t), 1);
    tdl_timer_free(t->t);
    CHECK_RC(tdl_sema_acquire(t->s, 1), 0);
    tdl_sema_free(t->s);
    tdl_cond_free(t->c);
    tdl_mutex_free(t->m);
    tdl_waitgroup_free(t->wg);
    tdl_chan_free(t->ch);
}

TEST_G(from_goroutine, "K1 a child forked by a goroutine has no runtime; the parent goes on") {
    for (int i = 0; i < 5; i++) {
        things t;
        make_things(&t);
        let_park();
        in_child(use_everything, &t);
        things_still_work(&t);
    }
}

TEST(from_thread, "K1 a child forked by a thread beside a running runtime has none either") {
    things t;
    check_keeps_fds();
    make_things(&t);
    in_child(use_everything, &t);
    things_still_work(&t);
}

static tdl_host *parents_host;

static void use_host(void *arg) {
    tdl_event ev;
    (void)arg;
    CHECK_RC(tdl_host_poll(parents_host, &ev, 1, -1), TDL_EFORKED);
    CHECK_RC(tdl_sleep_start(parents_host, 0, 1), TDL_EFORKED);
    CHECK_RC(tdl_task_new(parents_host, 1), TDL_EFORKED);
    CHECK_RC(tdl_host_close(parents_host), TDL_EFORKED);
}

TEST(from_host, "K1 a child forked by a host thread cannot use the host; the parent can") {
    tdl_event ev;
    CHECK_RC(tdl_host_open("parent", &parents_host), 0);
    uint32_t t = (uint32_t)tdl_task_new(parents_host, 0);
    CHECK_RC(tdl_sleep_start(parents_host, t, 20 * TDL_MILLISECOND), TDL_PENDING);
    in_child(use_host, NULL);
    CHECK_INT(tdl_host_poll(parents_host, &ev, 1, -1), 1);
    CHECK_RC(ev.result, 0);
    CHECK_RC(tdl_task_free(parents_host, t), 0);
    CHECK_RC(tdl_host_close(parents_host), 0);
}

static void busy(void *arg) {
    tdl_chan **ch = arg;
    tdl_val    v;
    while (tdl_chan_recv(ch[0], &v) == 0 && tdl_chan_send(ch[1], &v) == 0) {}
}

static void one_call(void *arg) { CHECK_RC(send_int(arg, 1), TDL_EFORKED); }

TEST_G(while_busy, "K1 forks while all processors are busy: no child hangs on a lock it inherited") {
#ifdef UNDER_EMULATOR
    return check_skip("a child inherits the emulator's own locks, too, and may hang on those");
#endif
    tdl_chan *ch[2] = { tdl_chan_new(0), tdl_chan_new(0) }, *back[2] = { ch[1], ch[0] };
    crew      c;
    crew_open(&c);
    for (int i = 0; i < 4; i++) {
        crew_go(&c, busy, ch);
        crew_go(&c, busy, back);
    }
    for (int i = 0; i < 3; i++) send_int(ch[0], i);
    for (int i = 0; i < SCALE(40); i++) {
        in_child(one_call, ch[0]);
        tdl_yield();
    }
    tdl_chan_close(ch[0]);
    tdl_chan_close(ch[1]);
    crew_close(&c);
    tdl_chan_free(ch[0]);
    tdl_chan_free(ch[1]);
}

static int is_close_on_exec(int fd) { return fcntl(fd, F_GETFD) & FD_CLOEXEC; }

TEST_G(exec, "K2 no descriptor of the runtime is passed on by exec") {
    things t;
    DIR   *dir;
    make_things(&t);
    let_park();
    REQUIRE((dir = opendir("/proc/self/fd")) != NULL);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char target[300] = { 0 }, path[300];
        int  fd = atoi(e->d_name);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (e->d_name[0] == '.' || fd == dirfd(dir) || readlink(path, target, sizeof target - 1) < 0) continue;
        if (strstr(target, "socket:") || strstr(target, "anon_inode:")) CHECK(is_close_on_exec(fd));
    }
    closedir(dir);
    things_still_work(&t);
}

static void leave_by_exit(void *arg) {
    (void)arg;
    fflush(stdout);
    exit(0);
}

TEST_G(exit_in_child, "K2 a child may end by exit, with everything that runs then") {
#ifdef UNDER_ASAN
    return check_skip("a leak checker that runs in the child misses the parent's stacks");
#endif
    in_child(leave_by_exit, NULL);
}
