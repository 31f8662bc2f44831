/* SPDX-License-Identifier: MIT
 * A host that closes while its tasks had been given something that was not
 * delivered yet: it goes on to others. And hosts that their thread never closed. */
#include "check.h"

#include <unistd.h>

/* The main thread is a host here, and cannot wait by treadle. */
static void let_thread_park(void) { usleep(100000); }

static tdl_host *open_host(uint32_t *task) {
    tdl_host *h = NULL;
    CHECK_RC(tdl_host_open("closing", &h), 0);
    *task = (uint32_t)tdl_task_new(h, 0);
    return h;
}

TEST(semaphore, "H12 permits granted to a task of a host that closes are back") {
    uint32_t  task;
    tdl_sema *s = tdl_sema_new(0);
    tdl_host *h = open_host(&task);
    CHECK_RC(tdl_sema_acquire_start(h, task, s, 2, TDL_FOREVER), TDL_PENDING);
    CHECK_RC(tdl_sema_release(s, 2), 0);
    CHECK_RC(tdl_sema_try_acquire(s, 1), TDL_EAGAIN); /* they are the task's */
    CHECK_RC(tdl_host_close(h), 0);
    CHECK_RC(tdl_sema_try_acquire(s, 2), 0);
    tdl_sema_free(s);
}

typedef struct waiter {
    tdl_mutex *m;
    tdl_cond  *c;
} waiter;

static void lock_and_unlock(void *arg) {
    waiter *w = arg;
    CHECK_RC(tdl_mutex_lock(w->m), 0);
    CHECK_RC(tdl_mutex_unlock(w->m), 0);
}

TEST(mutex, "H12 a lock that a task of a closing host was woken for goes to the next") {
    uint32_t  task;
    crew      c;
    waiter    w = { .m = tdl_mutex_new() };
    tdl_host *h = open_host(&task);
    crew_open(&c);
    CHECK_RC(tdl_mutex_trylock(w.m), 0);
    CHECK_RC(tdl_mutex_lock_start(h, task, w.m, TDL_FOREVER), TDL_PENDING);
    crew_thread(&c, lock_and_unlock, &w);
    let_thread_park(); /* behind the task */
    CHECK_RC(tdl_mutex_unlock(w.m), 0);
    CHECK_RC(tdl_host_close(h), 0);
    crew_close(&c); /* hangs if nobody woke it */
    CHECK_RC(tdl_mutex_trylock(w.m), 0);
    tdl_mutex_free(w.m);
}

static void wait_for_signal(void *arg) {
    waiter *w = arg;
    CHECK_RC(tdl_mutex_lock(w->m), 0);
    CHECK_RC(tdl_cond_wait(w->c), 0);
    CHECK_RC(tdl_mutex_unlock(w->m), 0);
}

TEST(condition, "H12 a signal for a task of a closing host goes to the next waiter") {
    uint32_t  task;
    crew      c;
    waiter    w = { .m = tdl_mutex_new() };
    tdl_host *h = open_host(&task);
    w.c = tdl_cond_new(w.m);
    crew_open(&c);
    CHECK_RC(tdl_mutex_trylock(w.m), 0);
    CHECK_RC(tdl_cond_wait_start(h, task, w.c, TDL_FOREVER), TDL_PENDING);
    crew_thread(&c, wait_for_signal, &w);
    let_thread_park();
    CHECK_RC(tdl_cond_signal(w.c), 0); /* the task's */
    CHECK_RC(tdl_host_close(h), 0);
    crew_close(&c);
    tdl_cond_free(w.c);
    tdl_mutex_free(w.m);
}

/* -- Hosts whose thread has ended ------------------------------------------------------- */

enum { PER_THREAD = 2, SLEEPER = 0, READER, RECEIVER, SELECTOR, SENDER, PARKED, NTASKS };

typedef struct left {
    tdl_host *host[PER_THREAD];
    uint32_t  task[PER_THREAD][NTASKS];
    tdl_chan *local[PER_THREAD], *full[PER_THREAD];
    int       pipe[2];
    tdl_fd   *fd;
    char      byte[PER_THREAD];
    atomic_int go_on;
} left;

static void begin_to_wait(left *l, int i) {
    tdl_host *h = l->host[i];
    uint32_t *task = l->task[i];
    tdl_val   v;
    tdl_val_set_int(&v, 7);
    for (int t = 0; t < NTASKS; t++) task[t] = (uint32_t)tdl_task_new(h, 0);
    REQUIRE((l->local[i] = tdl_chan_new_local(h, 0)) && (l->full[i] = tdl_chan_new_local(h, 1)));
    CHECK_RC(tdl_sleep_start(h, task[SLEEPER], 3600 * TDL_SECOND), TDL_PENDING);
    CHECK_RC(tdl_chan_recv_start(h, task[RECEIVER], l->local[i], TDL_FOREVER), TDL_PENDING);
    tdl_case cases[2] = { { .chan = l->local[i], .op = TDL_RECV },
                          { .chan = l->full[i], .val = &v, .op = TDL_SEND } };
    CHECK_RC(tdl_chan_try_send(l->full[i], &v), 0);
    CHECK_RC(tdl_select_start(h, task[SELECTOR], cases, 2, TDL_FOREVER), TDL_PENDING);
    CHECK_RC(tdl_chan_send_start(h, task[SENDER], l->full[i], &v, TDL_FOREVER), TDL_PENDING);
    CHECK_RC(tdl_task_park_start(h, task[PARKED], TDL_FOREVER), TDL_PENDING);
    CHECK(tdl_host_watch(h, l->pipe[1 - i], i ? TDL_READABLE : TDL_WRITABLE) >= 0);
    if (i == 0) CHECK_RC(tdl_fd_read_start(h, task[READER], l->fd, &l->byte[i], 1), TDL_PENDING);
}

static void *open_and_end(void *arg) {
    left *l = arg;
    for (int i = 0; i < PER_THREAD; i++) {
        CHECK_RC(tdl_host_open("left", &l->host[i]), 0);
        if (i == 0) CHECK_RC(tdl_fd_adopt(l->pipe[0], &l->fd), 0);
        begin_to_wait(l, i);
        CHECK_RC(tdl_host_adopt(l->host[i]), 0); /* its own */
        CHECK_INT(tdl_host_left(l->host[i]), 0);
    }
    atomic_store(&l->go_on, 1);
    while (atomic_load(&l->go_on) == 1) usleep(1000);
    return NULL;
}

/* Their thread has ended. */
static void leave_two(left *l) {
    pthread_t thread;
    atomic_store(&l->go_on, 0);
    REQUIRE(pipe(l->pipe) == 0);
    REQUIRE(pthread_create(&thread, NULL, open_and_end, l) == 0);
    while (atomic_load(&l->go_on) == 0) usleep(1000);
    CHECK_INT(tdl_host_left(l->host[0]), 0);
    CHECK_RC(tdl_host_adopt(l->host[0]), TDL_EHOST); /* that lives */
    CHECK_RC(tdl_host_close(l->host[0]), TDL_EHOST);
    atomic_store(&l->go_on, 2);
    pthread_join(thread, NULL);
}

static void adopt_and_close(left *l, int i, int ends_them) {
    tdl_host *h = l->host[i];
    tdl_event e[16];
    tdl_val   v;
    CHECK_RC(tdl_host_close(h), TDL_EHOST);
    CHECK_INT(tdl_host_left(h), 1);
    CHECK_RC(tdl_host_adopt(h), 0);
    CHECK_RC(tdl_host_adopt(h), 0);
    CHECK_INT(tdl_host_left(h), 0);
    if (ends_them) {
        int ended = 0;
        CHECK_RC(tdl_task_ready(h, l->task[i][PARKED], 5), 1);
        for (int t = 0; t < PARKED; t++) tdl_task_cancel(h, l->task[i][t]);
        for (int tries = 0; tries < 100 && ended < (i ? NTASKS - 1 : NTASKS); tries++) {
            int n = tdl_host_poll(h, e, 16, TDL_SECOND / 100);
            CHECK(n >= 0);
            for (int k = 0; k < n; k++) {
                if (e[k].task & TDL_WATCHER) continue;
                CHECK_RC(e[k].result, e[k].task == l->task[i][PARKED] ? 5 : TDL_ECANCELED);
                ended++;
            }
        }
        CHECK_INT(ended, i ? NTASKS - 1 : NTASKS);
    }
    tdl_chan_adopt_local(l->full[i]);
    CHECK_RC(tdl_chan_try_recv(l->full[i], &v), 0);
    CHECK_INT(tdl_val_int(&v), 7);
    CHECK_RC(tdl_host_close(h), 0);
    tdl_chan_adopt_local(l->local[i]);
    tdl_chan_free(l->full[i]);
    tdl_chan_free(l->local[i]);
}

static void give_back(left *l) {
    tdl_fd_free(l->fd);
    close(l->pipe[1]);
}

TEST(left_behind, "H12 a host whose thread has ended is adopted and closed by another thread") {
    static left l;
    for (int ends_them = 0; ends_them < 2; ends_them++) {
        leave_two(&l);
        adopt_and_close(&l, ends_them, ends_them);
        CHECK_RC(tdl_sleep(1), 0); /* no host's thread any more */
        adopt_and_close(&l, 1 - ends_them, ends_them);
        CHECK_RC(tdl_sleep(1), 0);
        give_back(&l);
    }
    CHECK_RC(tdl_host_adopt(NULL), TDL_EINVAL);
    CHECK_INT(tdl_host_left(NULL), 0);
}

TEST(adopted_beside, "H12 an adopted host leaves the adopter's own as it was") {
    static left l;
    uint32_t    task;
    tdl_event   e;
    tdl_host   *h = open_host(&task);
    CHECK_RC(tdl_sleep_start(h, task, TDL_SECOND / 50), TDL_PENDING);
    leave_two(&l);
    CHECK_RC(tdl_host_adopt(l.host[1]), 0);
    CHECK_RC(tdl_host_poll(h, &e, 1, 10 * TDL_SECOND), 1);
    CHECK_INT(e.task, task);
    CHECK_RC(tdl_sleep_start(h, task, 1), TDL_PENDING);
    CHECK_RC(tdl_host_close(l.host[1]), 0);
    CHECK_RC(tdl_host_poll(h, &e, 1, 10 * TDL_SECOND), 1);
    CHECK_RC(tdl_sleep(1), TDL_EHOST);
    CHECK_RC(tdl_host_adopt(l.host[0]), 0);
    CHECK_RC(tdl_host_close(h), 0); /* the other one is the thread's now */
    CHECK_RC(tdl_sleep(1), TDL_EHOST);
    CHECK_RC(tdl_host_poll(l.host[0], &e, 1, 0), 1);
    CHECK_INT(e.task & TDL_WATCHER, TDL_WATCHER);
    CHECK_RC(tdl_host_close(l.host[0]), 0);
    CHECK_RC(tdl_sleep(1), 0);
    for (int i = 0; i < PER_THREAD; i++) {
        tdl_chan_adopt_local(l.full[i]);
        tdl_chan_adopt_local(l.local[i]);
        tdl_chan_free(l.full[i]);
        tdl_chan_free(l.local[i]);
    }
    give_back(&l);
}

enum { TURNS = 20 };

typedef struct relay {
    tdl_host *host;
    tdl_chan *local;
    tdl_fd   *fd;
    int       pipe[2];
    char      byte;
    uint32_t  reader, receiver, picker, sleeper;
    atomic_int turn;
} relay;

/* All that the host waits for has been begun on the other thread (but for the first turn's). */
static void run_it(relay *r, int turn) {
    tdl_host *h = r->host;
    tdl_event e;
    tdl_val   v;
    unsigned  seen = 0;
    tdl_case  cases[2] = { { .chan = r->local, .op = TDL_RECV }, { .chan = NULL, .op = TDL_RECV } };
    if (turn > 0) {
        CHECK_RC(tdl_host_poll(h, &e, 1, 0), TDL_EHOST);
        CHECK_RC(tdl_host_adopt(h), TDL_EHOST); /* that one lives */
        CHECK_RC(tdl_host_move(h), 0);
        CHECK_RC(tdl_chan_try_recv(r->local, &v), TDL_EHOST);
        tdl_chan_adopt_local(r->local);
        REQUIRE(write(r->pipe[1], "x", 1) == 1);
        for (int i = 0; i < 2; i++) {
            tdl_val_set_int(&v, turn);
            CHECK_RC(tdl_chan_try_send(r->local, &v), 0);
        }
        for (int tries = 0; tries < 10000 && seen != 15; tries++) {
            if (tdl_host_poll(h, &e, 1, TDL_SECOND / 1000) != 1) continue;
            seen |= e.task == r->reader ? 1 : e.task == r->receiver ? 2 : e.task == r->picker ? 4 : 8;
            CHECK_RC(e.result, e.task == r->reader ? 1 : 0);
        }
        CHECK_INT(seen, 15);
    }
    CHECK_RC(tdl_fd_read_start(h, r->reader, r->fd, &r->byte, 1), TDL_PENDING);
    CHECK_RC(tdl_chan_recv_start(h, r->receiver, r->local, TDL_FOREVER), TDL_PENDING);
    CHECK_RC(tdl_select_start(h, r->picker, cases, 2, TDL_FOREVER), TDL_PENDING);
    CHECK_RC(tdl_sleep_start(h, r->sleeper, TDL_SECOND / 500), TDL_PENDING);
}

static void *takes_turns(void *arg) {
    relay *r = arg;
    int    slept = 0;
    for (int turn; (turn = atomic_load(&r->turn)) < TURNS;) {
        if (turn % 2 == 0) {
            int rc = tdl_sleep(TDL_SECOND / 10000); /* no host's thread once the other has taken it */
            CHECK(rc == 0 || rc == TDL_EHOST);
            slept += rc == 0;
            continue;
        }
        run_it(r, turn);
        atomic_store(&r->turn, turn + 1);
    }
    CHECK(slept > 0);
    return NULL;
}

TEST(moved, "H12 a host goes from thread to thread with all that waits in it") {
    static relay r;
    pthread_t    other;
    uint32_t     task;
    tdl_host    *beside = open_host(&task);
    CHECK_RC(tdl_host_open("moves", &r.host), 0);
    REQUIRE(pipe(r.pipe) == 0 && (r.local = tdl_chan_new_local(r.host, 4)));
    CHECK_RC(tdl_fd_adopt(r.pipe[0], &r.fd), 0);
    for (uint32_t *t[] = { &r.reader, &r.receiver, &r.picker, &r.sleeper }, **at = t; at < t + 4; at++)
        **at = (uint32_t)tdl_task_new(r.host, 0);
    run_it(&r, 0);
    atomic_store(&r.turn, 1);
    REQUIRE(pthread_create(&other, NULL, takes_turns, &r) == 0);
    for (int turn; (turn = atomic_load(&r.turn)) < TURNS;) {
        tdl_event e;
        if (turn % 2 == 1) {
            CHECK_RC(tdl_sleep_start(beside, task, TDL_SECOND / 10000), TDL_PENDING);
            CHECK_RC(tdl_host_poll(beside, &e, 1, TDL_SECOND), 1);
            continue;
        }
        run_it(&r, turn);
        atomic_store(&r.turn, turn + 1);
    }
    pthread_join(other, NULL); /* it had the host last */
    CHECK_RC(tdl_host_move(r.host), 0);
    CHECK_RC(tdl_host_close(r.host), 0);
    CHECK_RC(tdl_host_close(beside), 0);
    CHECK_RC(tdl_sleep(1), 0);
    CHECK_RC(tdl_host_move(NULL), TDL_EINVAL);
    tdl_chan_adopt_local(r.local);
    tdl_chan_free(r.local);
    tdl_fd_free(r.fd);
    close(r.pipe[1]);
}

typedef struct contest {
    _Atomic(tdl_host *) host;
    uint32_t            task;
    atomic_int          won, closed;
    pthread_barrier_t   start;
} contest;

static void *opens_only(void *arg) {
    contest  *c = arg;
    tdl_host *h = NULL;
    REQUIRE(tdl_host_open("contest", &h) == 0);
    c->task = (uint32_t)tdl_task_new(h, 0);
    CHECK_RC(tdl_task_park_start(h, c->task, TDL_FOREVER), TDL_PENDING);
    atomic_store(&c->host, h);
    return NULL;
}

/* Each tries from before the thread's end on; the one who gets the host keeps it until all have tried. */
static void *wants_it(void *arg) {
    contest  *c = arg;
    tdl_host *h;
    int       r;
    while (!(h = atomic_load(&c->host))) usleep(10);
    tdl_host_wake(h);
    while ((r = tdl_host_adopt(h)) == TDL_EHOST && !atomic_load(&c->won)) usleep(10);
    if (r == 0) atomic_fetch_add(&c->won, 1);
    tdl_task_ready(h, c->task, 1);
    pthread_barrier_wait(&c->start);
    if (r == 0) {
        tdl_event e;
        CHECK_RC(tdl_host_poll(h, &e, 1, TDL_SECOND), 1);
        CHECK_INT(e.result, 1);
        CHECK_RC(tdl_host_close(h), 0);
        atomic_fetch_add(&c->closed, 1);
    } else {
        CHECK_RC(r, TDL_EHOST);
    }
    return NULL;
}

TEST(contested, "H12 of several threads that want a host left behind one gets it") {
    enum { WANT = 3 };
    static contest c;
    pthread_t      owner, other[WANT];
    pthread_barrier_init(&c.start, NULL, WANT);
    for (int i = 0; i < SCALE(80); i++) {
        atomic_store(&c.host, NULL);
        atomic_store(&c.won, 0);
        for (int k = 0; k < WANT; k++) REQUIRE(pthread_create(&other[k], NULL, wants_it, &c) == 0);
        REQUIRE(pthread_create(&owner, NULL, opens_only, &c) == 0);
        pthread_join(owner, NULL);
        for (int k = 0; k < WANT; k++) pthread_join(other[k], NULL);
        CHECK_INT(atomic_load(&c.won), 1);
        CHECK_INT(atomic_load(&c.closed), i + 1);
    }
    pthread_barrier_destroy(&c.start);
}
