/* SPDX-License-Identifier: MIT
 * Hosts: the loop, tasks, waking, parking, guest mode, watchers. */
#include "actors.h"
#include "check.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* -- Opening, closing, whose thread it is ----------------------------------------------- */

TEST(open_close, "H1 a host opens and closes, many times, and leaves nothing") {
    check_keeps_fds();
    for (int i = 0; i < 50; i++) {
        tdl_host *h = NULL;
        CHECK_RC(tdl_host_open(i % 2 ? "host" : NULL, &h), 0);
        tdl_event ev;
        CHECK_RC(tdl_host_poll(h, &ev, 1, 0), 0);
        CHECK_RC(tdl_host_close(h), 0);
        if (i == 0) CHECK(open_fds() < 100);
    }
    CHECK(open_fds() < 100);
    CHECK_RC(tdl_host_open("x", NULL), TDL_EINVAL);
}

TEST_G(open_in_goroutine, "H1 a goroutine cannot become a host") {
    tdl_host *h = NULL;
    CHECK_RC(tdl_host_open("x", &h), TDL_EBUSY);
    CHECK(h == NULL);
}

static void *off_thread(void *arg) {
    tdl_host *h = arg;
    tdl_event ev;
    CHECK_RC(tdl_host_poll(h, &ev, 1, 0), TDL_EHOST);
    CHECK_RC(tdl_host_close(h), TDL_EHOST);
    CHECK_RC(tdl_task_new(h, 0), TDL_EHOST);
    CHECK_RC(tdl_sleep_start(h, 0, 1), TDL_EHOST);
    CHECK_RC(tdl_yield_start(h, 0), TDL_EHOST);
    return NULL;
}

static void on_another_thread(void *(*fn)(void *), void *arg) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, fn, arg) == 0);
    pthread_join(thread, NULL);
}

TEST(host_thread_only, "H1 off its thread a host refuses, and works on undisturbed") {
    tdl_host *h = NULL;
    CHECK_RC(tdl_host_open("mine", &h), 0);
    on_another_thread(off_thread, h);
    tdl_event ev;
    CHECK_RC(tdl_host_poll(h, &ev, 1, 0), 0);
    CHECK_RC(tdl_host_close(h), 0);
}

static int main_of_host(void *arg) { return arg != NULL; }

TEST(blocking_refused, "H1 blocking forms on a host thread return TDL_EHOST at once") {
    tdl_host      *h = NULL;
    tdl_chan      *ch = tdl_chan_new(0);
    tdl_mutex     *m = tdl_mutex_new();
    tdl_waitgroup *wg = tdl_waitgroup_new();
    tdl_listener  *l = NULL;
    tdl_conn      *c = NULL;
    tdl_val        v;
    char           buf[4];
    tdl_val_set_int(&v, 1);
    tdl_waitgroup_add(wg, 1);
    CHECK_RC(tdl_host_open("mine", &h), 0);
    tdl_case k = { .chan = ch, .op = TDL_RECV };
    CHECK_RC(tdl_chan_recv(ch, &v), TDL_EHOST);
    tdl_val_set_int(&v, 1);
    CHECK_RC(tdl_chan_send(ch, &v), TDL_EHOST);
    CHECK_RC(tdl_chan_recv_until(ch, &v, tdl_now() + TDL_HOUR), TDL_EHOST);
    CHECK_RC(tdl_select(&k, 1, TDL_FOREVER), TDL_EHOST);
    CHECK_RC(tdl_sleep(TDL_HOUR), TDL_EHOST);
    CHECK_RC(tdl_mutex_trylock(m), 0);
    CHECK_RC(tdl_mutex_lock(m), TDL_EHOST);
    CHECK_RC(tdl_mutex_unlock(m), 0);
    CHECK_RC(tdl_waitgroup_wait(wg), TDL_EHOST);
    CHECK_RC(tdl_run(main_of_host, NULL), TDL_EHOST);
    CHECK_RC(tdl_listen("tcp", "127.0.0.1:0", &l), 0);
    CHECK_RC(tdl_listener_accept(l, &c), TDL_EHOST);
    snprintf(buf, sizeof buf, "x");
    CHECK_RC(tdl_dial("tcp", "127.0.0.1:9", 0, &c), TDL_EHOST);
    /* those that do not wait work */
    CHECK_RC(tdl_chan_try_recv(ch, &v), TDL_EAGAIN);
    CHECK_RC(tdl_select(&k, 1, TDL_NOWAIT), TDL_EAGAIN);
    tdl_yield();
    tdl_listener_free(l);
    CHECK_RC(tdl_host_close(h), 0);
    CHECK_RC(tdl_sleep(1), 0); /* a plain thread again */
    tdl_waitgroup_done(wg);
    tdl_waitgroup_free(wg);
    tdl_mutex_free(m);
    tdl_chan_free(ch);
}

/* -- Tasks ---------------------------------------------------------------------------------- */

TEST(tasks, "H2 a task that is to run gets an event; one that does not waits for its first start") {
    tdl_host *h = NULL;
    tdl_event ev[4];
    CHECK_RC(tdl_host_open("tasks", &h), 0);
    int64_t before = tdl_metric("tasks");
    int     a = tdl_task_new(h, 1), b = tdl_task_new(h, 0);
    CHECK(a >= 0 && b >= 0 && a != b);
    CHECK_INT(tdl_metric("tasks"), before + 2);
    CHECK_INT(tdl_num_goroutines(), 2);
    CHECK_RC(tdl_task_set_name(h, (uint32_t)a, "first"), 0);
    CHECK_RC(tdl_task_free(h, (uint32_t)a), TDL_EBUSY);
    CHECK_RC(tdl_sleep_start(h, (uint32_t)a, 1), TDL_EBUSY); /* its first event is pending */
    CHECK_INT(tdl_host_poll(h, ev, 4, -1), 1);
    CHECK_INT(ev[0].task, a);
    CHECK_INT(ev[0].result, 0);
    CHECK_RC(tdl_sleep_start(h, (uint32_t)b, TDL_HOUR), TDL_PENDING);
    CHECK_RC(tdl_sleep_start(h, (uint32_t)b, TDL_HOUR), TDL_EBUSY);
    CHECK_RC(tdl_task_free(h, (uint32_t)b), TDL_EBUSY);
    CHECK_INT(tdl_task_cancel(h, (uint32_t)b), 1);
    CHECK_INT(tdl_host_poll(h, ev, 4, -1), 1);
    CHECK_INT(ev[0].task, b);
    CHECK_RC(ev[0].result, TDL_ECANCELED);
    CHECK_INT(tdl_task_cancel(h, (uint32_t)b), 0);
    CHECK_RC(tdl_task_free(h, (uint32_t)a), 0);
    CHECK_RC(tdl_task_free(h, (uint32_t)b), 0);
    CHECK_RC(tdl_task_free(h, (uint32_t)b), TDL_EINVAL);
    CHECK_RC(tdl_sleep_start(h, (uint32_t)a, 1), TDL_EINVAL);
    CHECK_RC(tdl_sleep_start(h, 999999, 1), TDL_EINVAL);
    CHECK_RC(tdl_sleep_start(h, UINT32_MAX, 1), TDL_EINVAL);
    CHECK_INT(tdl_metric("tasks"), before);
    CHECK_RC(tdl_host_close(h), 0);
}

TEST(many_tasks, "H2 tens of thousands of tasks, events in small batches, each exactly one") {
    enum { N = 20000 };
    tdl_host *h = NULL;
    tdl_event ev[7];
    char     *seen = calloc(TDL_MAX_TASKS, 1);
    int       n = SCALE(N), total = 0;
    CHECK_RC(tdl_host_open("many", &h), 0);
    tdl_outcome *at = tdl_host_outcomes(h);
    for (int i = 0; i < n; i++) CHECK(tdl_task_new(h, 1) >= 0);
    while (total < n) {
        int got = tdl_host_poll(h, ev, 7, 0);
        if (!CHECK(got > 0 && got <= 7)) break;
        for (int i = 0; i < got; i++) CHECK_INT(seen[ev[i].task]++, 0);
        total += got;
    }
    CHECK_INT(tdl_host_poll(h, ev, 7, 0), 0);
    CHECK(tdl_host_outcomes(h) == at);
    for (int i = 0; i < TDL_MAX_TASKS; i++)
        if (seen[i]) CHECK_RC(tdl_task_free(h, (uint32_t)i), 0);
    CHECK_RC(tdl_host_close(h), 0);
    free(seen);
}

static int yield_three_times(actor *a, int result) {
    tdl_chan *log = a->data;
    tdl_val   v;
    CHECK_RC(result, 0);
    if (a->state == 3) return ACTOR_DONE;
    tdl_val_set_int(&v, a->n * 10 + a->state++);
    CHECK_RC(tdl_chan_try_send(log, &v), 0);
    return tdl_yield_start(a->host, a->task);
}

TEST(yield_order, "H2 tasks that yield take turns") {
    stage     s;
    tdl_chan *log = tdl_chan_new(16);
    stage_open(&s, "yield");
    for (int i = 0; i < 3; i++) stage_spawn(&s, yield_three_times, log)->n = i;
    stage_run(&s);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 3; i++) {
            tdl_val v;
            CHECK_RC(tdl_chan_try_recv(log, &v), 0);
            CHECK_INT(tdl_val_int(&v), i * 10 + round);
        }
    stage_close(&s);
    tdl_chan_free(log);
}

/* -- Time ---------------------------------------------------------------------------------------- */

TEST(poll_timeout, "H3 poll waits as long as it was told, and not at all for 0") {
    tdl_host *h = NULL;
    tdl_event ev;
    CHECK_RC(tdl_host_open("time", &h), 0);
    int64_t start = tdl_now();
    CHECK_INT(tdl_host_poll(h, &ev, 1, 0), 0);
    CHECK(tdl_now() - start < 5 * TDL_SECOND);
    start = tdl_now();
    CHECK_INT(tdl_host_poll(h, &ev, 1, 20 * TDL_MILLISECOND), 0);
    CHECK_WITHIN(tdl_now() - start, 20 * TDL_MILLISECOND, 5 * TDL_SECOND);
    CHECK_RC(tdl_host_poll(h, &ev, 0, 0), TDL_EINVAL);
    CHECK_RC(tdl_host_poll(h, NULL, 1, 0), TDL_EINVAL);
    CHECK_RC(tdl_host_poll(NULL, &ev, 1, 0), TDL_EINVAL);
    CHECK_RC(tdl_host_close(h), 0);
}

static int sleep_once(actor *a, int result) {
    if (a->state++ == 0) {
        a->m = tdl_now();
        return tdl_sleep_start(a->host, a->task, a->n);
    }
    CHECK_RC(result, 0);
    CHECK_WITHIN(tdl_now() - a->m, a->n, 5 * TDL_SECOND);
    if (a->data) {
        tdl_val v;
        tdl_val_set_int(&v, a->n);
        CHECK_RC(tdl_chan_try_send(a->data, &v), 0);
    }
    return ACTOR_DONE;
}

static void sleepers(int guest) {
    static const int order[] = { 5, 2, 9, 0, 7, 4, 1, 8, 3, 6 };
    tdl_chan        *log = tdl_chan_new(16);
    stage            s;
    stage_open(&s, "sleepers");
    s.guest = guest;
    for (int i = 0; i < 10; i++) stage_spawn(&s, sleep_once, log)->n = order[i] * 10 * TDL_MILLISECOND;
    stage_run(&s);
    for (int i = 0; i < 10; i++) {
        tdl_val v;
        CHECK_RC(tdl_chan_try_recv(log, &v), 0);
        CHECK_INT(tdl_val_int(&v), i * 10 * TDL_MILLISECOND);
    }
    stage_close(&s);
    tdl_chan_free(log);
}

TEST(sleep_order, "H3 sleeping tasks wake in order, none early") { sleepers(0); }
TEST(sleep_guest, "H3 the same in guest mode, by fd and time-out") { sleepers(1); }

TEST(no_time, "H3 a sleep of nothing completes at once") {
    tdl_host *h = NULL;
    CHECK_RC(tdl_host_open("time", &h), 0);
    int t = tdl_task_new(h, 0);
    CHECK_RC(tdl_sleep_start(h, (uint32_t)t, 0), 0);
    CHECK_RC(tdl_sleep_start(h, (uint32_t)t, -5), 0);
    CHECK_RC(tdl_sleep_start(h, (uint32_t)t, INT64_MAX), TDL_PENDING);
    tdl_event ev;
    CHECK_INT(tdl_host_poll(h, &ev, 1, TDL_MILLISECOND), 0);
    CHECK_RC(tdl_host_close(h), 0); /* with the sleep pending */
}

/* -- Waking ------------------------------------------------------------------------------------------ */

static void *wake_later(void *arg) {
    usleep(10000);
    CHECK_RC(tdl_host_wake(arg), 0);
    return NULL;
}

static tdl_host *alarmed;

static void wake_in_handler(int sig) {
    (void)sig;
    tdl_host_wake(alarmed);
}

TEST(wake, "H4 wake ends the poll that waits, or the next, from a thread and from a signal handler") {
    tdl_host *h = NULL;
    tdl_event ev;
    pthread_t thread;
    CHECK_RC(tdl_host_open("wake", &h), 0);
    CHECK_RC(tdl_host_wake(h), 0);
    CHECK_INT(tdl_host_poll(h, &ev, 1, -1), 0); /* woken beforehand */
    CHECK_INT(tdl_host_poll(h, &ev, 1, 0), 0);
    REQUIRE(pthread_create(&thread, NULL, wake_later, h) == 0);
    CHECK_INT(tdl_host_poll(h, &ev, 1, -1), 0);
    pthread_join(thread, NULL);
    alarmed = h;
    signal(SIGALRM, wake_in_handler);
    struct itimerval soon = { .it_value = { .tv_usec = 10000 } };
    setitimer(ITIMER_REAL, &soon, NULL);
    CHECK_INT(tdl_host_poll(h, &ev, 1, -1), 0);
    signal(SIGALRM, SIG_DFL);
    CHECK_RC(tdl_host_wake(NULL), TDL_EINVAL);
    CHECK_RC(tdl_host_close(h), 0);
}

static void just_a_signal(int sig) { (void)sig; }

TEST(signal_returns, "H4 a signal lets poll return early, so that its host can look at it") {
    tdl_host *h = NULL;
    tdl_event ev;
    CHECK_RC(tdl_host_open("signal", &h), 0);
    struct sigaction sa = { .sa_handler = just_a_signal };
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval soon = { .it_value = { .tv_usec = 20000 } };
    setitimer(ITIMER_REAL, &soon, NULL);
    CHECK_INT(tdl_host_poll(h, &ev, 1, -1), 0);
    signal(SIGALRM, SIG_DFL);
    CHECK_RC(tdl_host_close(h), 0);
}

typedef struct wake_storm {
    tdl_host  *h;
    atomic_int stop;
} wake_storm;

static void *keep_waking(void *arg) {
    wake_storm *w = arg;
    while (!atomic_load(&w->stop)) tdl_host_wake(w->h);
    return NULL;
}

TEST(wake_storm_polls, "H4 a storm of wakes from two threads loses no event") {
    stage      s;
    pthread_t  thread[2];
    wake_storm w = { 0 };
    stage_open(&s, "storm");
    w.h = s.host;
    for (int i = 0; i < 2; i++) REQUIRE(pthread_create(&thread[i], NULL, keep_waking, &w) == 0);
    for (int i = 0; i < 50; i++) stage_spawn(&s, sleep_once, NULL)->n = i * 200 * TDL_MICROSECOND;
    stage_run(&s);
    atomic_store(&w.stop, 1);
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    stage_close(&s);
}

/* -- Park and ready -------------------------------------------------------------------------------------- */

TEST(park, "H5 park waits for ready or its deadline, ready tells whether it was the one") {
    tdl_host *h = NULL;
    tdl_event ev;
    CHECK_RC(tdl_host_open("park", &h), 0);
    uint32_t t = (uint32_t)tdl_task_new(h, 0);
    CHECK_INT(tdl_task_ready(h, t, 1), 0); /* not parked */
    CHECK_RC(tdl_task_park_start(h, t, TDL_FOREVER), TDL_PENDING);
    CHECK_INT(tdl_task_ready(h, t, 41), 1);
    CHECK_INT(tdl_task_ready(h, t, 42), 0);
    CHECK_INT(tdl_host_poll(h, &ev, 1, -1), 1);
    CHECK_INT(ev.task, t);
    CHECK_INT(ev.result, 41);
    CHECK_RC(tdl_task_park_start(h, t, tdl_now() + 10 * TDL_MILLISECOND), TDL_PENDING);
    CHECK_INT(tdl_host_poll(h, &ev, 1, -1), 1);
    CHECK_RC(ev.result, TDL_ETIMEDOUT);
    CHECK_INT(tdl_task_ready(h, t, 1), 0);
    CHECK_RC(tdl_task_park_start(h, t, 1), TDL_PENDING); /* past: still by an event */
    CHECK_INT(tdl_host_poll(h, &ev, 1, -1), 1);
    CHECK_RC(ev.result, TDL_ETIMEDOUT);
    CHECK_RC(tdl_task_park_start(h, t, TDL_FOREVER), TDL_PENDING);
    CHECK_INT(tdl_task_cancel(h, t), 1);
    CHECK_INT(tdl_task_ready(h, t, 1), 0);
    CHECK_INT(tdl_host_poll(h, &ev, 1, -1), 1);
    CHECK_RC(ev.result, TDL_ECANCELED);
    CHECK_RC(tdl_sleep_start(h, t, TDL_HOUR), TDL_PENDING);
    CHECK_INT(tdl_task_ready(h, t, 1), 0); /* asleep, not parked */
    CHECK_RC(tdl_host_close(h), 0);
}

typedef struct parking {
    tdl_host    *h;
    uint32_t     task;
    atomic_int   stop;
    atomic_llong won;
} parking;

static void *keep_readying(void *arg) {
    parking *p = arg;
    while (!atomic_load(&p->stop)) {
        if (tdl_task_ready(p->h, p->task, 7) == 1) atomic_fetch_add(&p->won, 1);
        tdl_yield();
    }
    return NULL;
}

TEST(park_race, "H5 ready from two threads against short deadlines: every park ends exactly once") {
    parking   p = { 0 };
    pthread_t thread[2];
    int64_t   readied = 0, timed_out = 0;
    CHECK_RC(tdl_host_open("race", &p.h), 0);
    p.task = (uint32_t)tdl_task_new(p.h, 0);
    for (int i = 0; i < 2; i++) REQUIRE(pthread_create(&thread[i], NULL, keep_readying, &p) == 0);
    for (int i = 0; i < SCALE(20000); i++) {
        tdl_event ev[4];
        int       n;
        CHECK_RC(tdl_task_park_start(p.h, p.task, tdl_now() + i % 3 * 2000), TDL_PENDING);
        while ((n = tdl_host_poll(p.h, ev, 4, -1)) == 0) {}
        CHECK_INT(n, 1);
        if (ev[0].result == 7)
            readied++;
        else if (CHECK_RC(ev[0].result, TDL_ETIMEDOUT))
            timed_out++;
    }
    atomic_store(&p.stop, 1);
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    CHECK_INT(atomic_load(&p.won), readied);
    CHECK_INT(readied + timed_out, SCALE(20000));
    CHECK_RC(tdl_task_free(p.h, p.task), 0);
    CHECK_RC(tdl_host_close(p.h), 0);
}

/* -- Watchers --------------------------------------------------------------------------------------------- */

static int poll_one(tdl_host *h, tdl_event *ev, int64_t timeout) {
    int n;
    do n = tdl_host_poll(h, ev, 1, timeout);
    while (n == 0 && timeout < 0);
    return n;
}

TEST(watch, "H6 a watcher is level-triggered: it reports as long as the descriptor is ready") {
    tdl_host *h = NULL;
    tdl_event ev;
    int       fd[2];
    char      byte = 0;
    REQUIRE(pipe(fd) == 0);
    CHECK_RC(tdl_host_open("watch", &h), 0);
    int w = tdl_host_watch(h, fd[0], TDL_READABLE);
    CHECK(w >= 0);
    CHECK_INT(tdl_host_poll(h, &ev, 1, TDL_MILLISECOND), 0);
    CHECK_INT(write(fd[1], "ab", 2), 2);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(poll_one(h, &ev, -1), 1);
        CHECK_INT(ev.task, TDL_WATCHER | w);
        CHECK_INT(ev.result, TDL_READABLE);
    }
    CHECK_INT(read(fd[0], &byte, 1), 1);
    CHECK_INT(poll_one(h, &ev, -1), 1); /* one byte is left */
    CHECK_INT(read(fd[0], &byte, 1), 1);
    CHECK_INT(tdl_host_poll(h, &ev, 1, TDL_MILLISECOND), 0);
    int x = tdl_host_watch(h, fd[1], TDL_WRITABLE);
    CHECK(x >= 0 && x != w);
    CHECK_INT(poll_one(h, &ev, -1), 1);
    CHECK_INT(ev.task, TDL_WATCHER | x);
    CHECK_INT(ev.result, TDL_WRITABLE);
    CHECK_RC(tdl_host_watch_modify(h, x, 0), 0); /* pauses it */
    CHECK_INT(tdl_host_poll(h, &ev, 1, TDL_MILLISECOND), 0);
    CHECK_RC(tdl_host_watch_modify(h, x, TDL_READABLE), 0); /* never, on this end */
    CHECK_INT(tdl_host_poll(h, &ev, 1, TDL_MILLISECOND), 0);
    CHECK_RC(tdl_host_watch_modify(h, x, TDL_WRITABLE), 0);
    CHECK_INT(poll_one(h, &ev, -1), 1);
    CHECK_RC(tdl_host_unwatch(h, x), 0);
    CHECK_INT(tdl_host_poll(h, &ev, 1, TDL_MILLISECOND), 0);
    CHECK_INT(write(fd[1], "c", 1), 1);
    CHECK_RC(tdl_host_unwatch(h, w), 0);
    CHECK_INT(tdl_host_poll(h, &ev, 1, TDL_MILLISECOND), 0);
    CHECK_RC(tdl_host_unwatch(h, w), TDL_EINVAL);
    CHECK_RC(tdl_host_unwatch(h, 12345), TDL_EINVAL);
    CHECK_RC(tdl_host_watch_modify(h, -1, TDL_READABLE), TDL_EINVAL);
    CHECK_RC(tdl_host_close(h), 0);
    close(fd[0]);
    close(fd[1]);
}

TEST(watch_edge, "H6 an edge-triggered watcher reports each change once, and the end of the peer") {
    enum { MANY = 300 }; /* more than the host has room for at once */
    tdl_host *h = NULL;
    tdl_event ev[4];
    int       fd[2], more[MANY][2], seen[MANY] = {0}, ids[MANY], found = 0;
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == 0);
    CHECK_RC(tdl_host_open("edge", &h), 0);
    CHECK_RC(tdl_host_watch(h, fd[0], TDL_EDGE), TDL_EINVAL);
    int w = tdl_host_watch(h, fd[0], TDL_READABLE | TDL_WRITABLE | TDL_EDGE);
    CHECK(w >= 0);
    int asks = tdl_host_watch_want(h, w, 0); /* libuv knows levels alone */
    CHECK_INT(asks, strcmp(tdl_netpoll_name(), "uv") == 0);
    CHECK_RC(tdl_host_watch_want(h, w, TDL_EDGE), TDL_EINVAL);
    CHECK_RC(tdl_host_watch_want(h, 12345, 0), TDL_EINVAL);
    CHECK_INT(poll_one(h, ev, -1), 1);
    CHECK_INT(ev[0].result, TDL_WRITABLE);
    CHECK_INT(tdl_host_poll(h, ev, 1, 0), 0);
    CHECK_INT(write(fd[1], "ab", 2), 2);
    CHECK_INT(poll_one(h, ev, -1), 1);
    CHECK_INT(ev[0].task, TDL_WATCHER | w);
    CHECK(ev[0].result & TDL_READABLE); /* and perhaps what else is so */
    CHECK_INT(tdl_host_poll(h, ev, 1, TDL_MILLISECOND), 0); /* though nobody has read */
    char got[3];
    CHECK_INT(read(fd[0], got, sizeof got), 2);
    CHECK_INT(tdl_host_watch_want(h, w, TDL_READABLE), asks);
    CHECK_INT(tdl_host_poll(h, ev, 1, TDL_MILLISECOND), 0);
    CHECK_INT(write(fd[1], "c", 1), 1);
    CHECK_INT(poll_one(h, ev, -1), 1); /* a second time */
    CHECK(ev[0].result & TDL_READABLE);
    CHECK_INT(read(fd[0], got, sizeof got), 1);
    CHECK_INT(tdl_host_watch_want(h, w, TDL_READABLE), asks);
    close(fd[1]);
    CHECK_INT(poll_one(h, ev, -1), 1);
    CHECK(ev[0].result & TDL_HANGUP);
    CHECK_RC(tdl_host_unwatch(h, w), 0);
    close(fd[0]);
    for (int i = 0; i < MANY; i++) {
        REQUIRE(pipe(more[i]) == 0);
        ids[i] = tdl_host_watch(h, more[i][1], TDL_WRITABLE | TDL_EDGE);
        REQUIRE(ids[i] >= 0 && ids[i] < 2 * MANY);
    }
    for (int round = 0; round < 10000 && found < MANY; round++) {
        int n = tdl_host_poll(h, ev, 2, 0);
        for (int k = 0; k < n; k++)
            for (int i = 0; i < MANY; i++)
                if (ev[k].task == (TDL_WATCHER | (uint32_t)ids[i])) found += !seen[i]++;
    }
    CHECK_INT(found, MANY); /* none is lost */
    CHECK_RC(tdl_host_close(h), 0);
    for (int i = 0; i < MANY; i++) {
        close(more[i][0]);
        close(more[i][1]);
    }
}

TEST(poll_busy, "H2 a busy host does not wait, and asks the kernel only now and then") {
    tdl_host *h = NULL;
    tdl_event ev;
    int       fd[2], polls = 0;
    REQUIRE(pipe(fd) == 0);
    CHECK_RC(tdl_host_open("busy", &h), 0);
    CHECK(tdl_host_watch(h, fd[0], TDL_READABLE) >= 0);
    CHECK_INT(tdl_host_poll(h, &ev, 1, 0), 0);
    CHECK_INT(write(fd[1], "a", 1), 1);
    while (tdl_host_poll_opts(h, &ev, 1, -1, TDL_POLL_BUSY) == 0) polls++;
    CHECK(polls <= 32);
    CHECK_INT(ev.result, TDL_READABLE);
    int t = tdl_task_new(h, 1); /* what is ready comes at once */
    CHECK_INT(tdl_host_poll_opts(h, &ev, 1, -1, TDL_POLL_BUSY), 1);
    CHECK_INT(ev.task, t);
    CHECK_RC(tdl_task_free(h, (uint32_t)t), 0);
    CHECK_RC(tdl_host_close(h), 0);
    close(fd[0]);
    close(fd[1]);
}

TEST(watch_errors, "H6 a descriptor that cannot be polled, or is watched already, is refused") {
    tdl_host *h = NULL;
    int       fd[2];
    FILE     *file = tmpfile();
    REQUIRE(pipe(fd) == 0 && file);
    CHECK_RC(tdl_host_open("watch", &h), 0);
    CHECK_RC(tdl_host_watch(h, fileno(file), TDL_READABLE), -EPERM);
    CHECK_RC(tdl_host_watch(h, -1, TDL_READABLE), -EBADF);
    CHECK_RC(tdl_host_watch(h, 99999, TDL_READABLE), -EBADF);
    CHECK(tdl_host_watch(h, fd[0], TDL_READABLE) >= 0);
    CHECK_RC(tdl_host_watch(h, fd[0], TDL_READABLE), -EEXIST);
    CHECK_RC(tdl_host_watch(h, fd[1], 99), TDL_EINVAL);
    CHECK_RC(tdl_host_close(h), 0); /* with the watcher there */
    fclose(file);
    close(fd[0]);
    close(fd[1]);
}

TEST(watch_hangup, "H6 the far end's close shows as readable") {
    tdl_host *h = NULL;
    tdl_event ev;
    int       fd[2];
    REQUIRE(pipe(fd) == 0);
    CHECK_RC(tdl_host_open("watch", &h), 0);
    int w = tdl_host_watch(h, fd[0], TDL_READABLE);
    close(fd[1]);
    CHECK_INT(poll_one(h, &ev, -1), 1);
    CHECK_INT(ev.task, TDL_WATCHER | w);
    CHECK(ev.result & TDL_READABLE);
    CHECK_RC(tdl_host_unwatch(h, w), 0);
    CHECK_RC(tdl_host_close(h), 0);
    close(fd[0]);
}

static void read_watched(stage *s, uint32_t watcher, int readiness) {
    int  *fds = s->data;
    char  byte;
    CHECK_INT(readiness, TDL_READABLE);
    CHECK_INT(read(fds[0], &byte, 1), 1);
    CHECK_RC(tdl_host_unwatch(s->host, (int)watcher), 0);
}

static int write_then_end(actor *a, int result) {
    CHECK_RC(result, 0);
    if (a->state++ == 0) return tdl_sleep_start(a->host, a->task, 5 * TDL_MILLISECOND);
    CHECK_INT(write(*(int *)a->data, "x", 1), 1);
    if (a->state == 2) return tdl_sleep_start(a->host, a->task, 5 * TDL_MILLISECOND);
    return ACTOR_DONE;
}

TEST(watch_guest, "H6 watchers and tasks work together in guest mode, also with one event a poll") {
    for (int batch = 1; batch < 64; batch += 31) {
        stage s;
        int   fd[2];
        REQUIRE(pipe(fd) == 0);
        stage_open(&s, "guest");
        s.guest = 1;
        s.batch = batch;
        s.on_watcher = read_watched;
        s.data = fd;
        CHECK(tdl_host_watch(s.host, fd[0], TDL_READABLE) >= 0);
        stage_spawn(&s, write_then_end, &fd[1]);
        stage_run(&s);
        stage_close(&s);
        close(fd[0]);
        close(fd[1]);
    }
}

TEST(guest_timeout, "H7 guest mode: 0 when something is ready, time until the next timer, < 0 when idle") {
    tdl_host *h = NULL;
    tdl_event ev;
    CHECK_RC(tdl_host_open("guest", &h), 0);
    CHECK(tdl_host_timeout(h) < 0);
    uint32_t t = (uint32_t)tdl_task_new(h, 1);
    CHECK_INT(tdl_host_timeout(h), 0);
    CHECK_INT(tdl_host_poll(h, &ev, 1, 0), 1);
    CHECK_RC(tdl_sleep_start(h, t, 100 * TDL_MILLISECOND), TDL_PENDING);
    CHECK_WITHIN(tdl_host_timeout(h), 1, 100 * TDL_MILLISECOND);
    CHECK_INT(tdl_task_cancel(h, t), 1);
    CHECK_INT(tdl_host_timeout(h), 0);
    CHECK_INT(tdl_host_poll(h, &ev, 1, 0), 1);
    CHECK(tdl_host_timeout(h) < 0);
    struct pollfd p = { .fd = tdl_host_fd(h), .events = POLLIN };
    CHECK_INT(poll(&p, 1, 0), 0);
    CHECK_RC(tdl_task_park_start(h, t, TDL_FOREVER), TDL_PENDING);
    CHECK(tdl_host_timeout(h) < 0);
    CHECK_INT(tdl_task_ready(h, t, 1), 1);
    CHECK(poll(&p, 1, 0) == 1 || tdl_host_timeout(h) == 0);
    CHECK_INT(tdl_host_poll(h, &ev, 1, 0), 1);
    CHECK_RC(tdl_host_close(h), 0);
}
