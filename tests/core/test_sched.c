/* SPDX-License-Identifier: MIT
 * Goroutines: spawn, yield, join, exit, names, numbers, and the run itself. */
#include "check.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void nothing(void *arg) { (void)arg; }

static void count_up(void *arg) { atomic_fetch_add((atomic_int *)arg, 1); }

/* -- B1, B7: everybody gets a turn ------------------------------------------------- */

typedef struct pair {
    tdl_chan *request, *reply;
} pair;

static void poll_by_yielding(void *arg) {
    pair *p = arg;
    while (tdl_chan_try_recv(p->request, NULL) == TDL_EAGAIN) tdl_yield();
    send_int(p->reply, 1);
}

TEST_G(yield_progress, "B1 a goroutine that only yields lets the others run") {
    pair p = { tdl_chan_new(0), tdl_chan_new(0) };
    crew c;
    crew_open(&c);
    crew_go(&c, poll_by_yielding, &p);
    CHECK_RC(tdl_sleep(10 * TDL_MILLISECOND), 0);
    CHECK_RC(send_int(p.request, 1), 0);
    CHECK_INT(recv_int(p.reply), 1);
    crew_close(&c);
    tdl_chan_free(p.request);
    tdl_chan_free(p.reply);
}

static void yield_until(void *arg) {
    while (!atomic_load((atomic_int *)arg)) tdl_yield();
}

TEST_G(yielders_and_sleeper, "B11 a sleeper wakes beside goroutines that never stop yielding") {
    atomic_int stop = 0;
    crew       c;
    crew_open(&c);
    for (int i = 0; i < 8; i++) crew_go(&c, yield_until, &stop);
    int64_t start = tdl_now();
    for (int i = 0; i < 10; i++) CHECK_RC(tdl_sleep(TDL_MILLISECOND), 0);
    CHECK_WITHIN(tdl_now() - start, 10 * TDL_MILLISECOND, 10 * TDL_SECOND);
    atomic_store(&stop, 1);
    crew_close(&c);
}

typedef struct rotation {
    atomic_int turn;
    int        members, rounds;
} rotation;

typedef struct rotating {
    rotation *r;
    int       id;
} rotating;

static void take_turns(void *arg) {
    rotating *m = arg;
    rotation *r = m->r;
    for (int round = 0; round < r->rounds; round++) {
        int mine = round * r->members + m->id;
        while (atomic_load(&r->turn) != mine) tdl_yield();
        atomic_store(&r->turn, mine + 1);
    }
}

TEST_G(rotation_yielding, "B9 goroutines that yield until it is their turn take turns, on any number of processors") {
    rotation r = { 0, 5, SCALE(200) };
    rotating m[5];
    crew     c;
    crew_open(&c);
    for (int i = 0; i < 5; i++) {
        m[i] = (rotating){ &r, i };
        crew_go(&c, take_turns, &m[i]);
    }
    crew_close(&c);
    CHECK_INT(atomic_load(&r.turn), 5 * r.rounds);
}

/* -- B4, B5: all processors run at once -------------------------------------------------- */

static int cpus(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

static void take_turns_spinning(void *arg) {
    rotating *m = arg;
    rotation *r = m->r;
    for (int round = 0; round < r->rounds; round++) {
        int mine = round * r->members + m->id;
        while (atomic_load(&r->turn) != mine) {} /* no treadle call: needs a processor of its own */
        atomic_store(&r->turn, mine + 1);
    }
}

static void spin_in_rotation(void) {
    rotation r = { 0, tdl_gomaxprocs(0), 3 };
    rotating m[16];
    crew     c;
    crew_open(&c);
    for (int i = 1; i < r.members; i++) {
        m[i] = (rotating){ &r, i };
        crew_go(&c, take_turns_spinning, &m[i]);
    }
    m[0] = (rotating){ &r, 0 };
    take_turns_spinning(&m[0]);
    crew_close(&c);
}

TEST_G(parallelism, "B4 as many goroutines as processors run at once") {
    if (tdl_gomaxprocs(0) > cpus()) return check_skip("more processors asked for than there are");
    for (int i = 0; i < 10; i++) spin_in_rotation();
}

static void spawn_spinner(void *arg) { take_turns_spinning(arg); }

static void spawn_the_next(void *arg) {
    rotating *m = arg;
    crew      c;
    crew_open(&c);
    if (m->id + 1 < m->r->members) {
        m[1] = (rotating){ m->r, m->id + 1 };
        crew_go(&c, spawn_the_next, m + 1);
    }
    spawn_spinner(m);
    crew_close(&c);
}

TEST_G(parallelism_nested, "B5 the same when each spawns the next, after a pause, with a listener open") {
    if (tdl_gomaxprocs(0) > cpus()) return check_skip("more processors asked for than there are");
    tdl_listener *l = NULL;
    CHECK_RC(tdl_listen("tcp", "127.0.0.1:0", &l), 0);
    for (int i = 0; i < 5; i++) {
        rotation r = { 0, tdl_gomaxprocs(0), 3 };
        rotating m[16];
        tdl_sleep(5 * TDL_MILLISECOND); /* the workers park */
        m[0] = (rotating){ &r, 0 };
        spawn_the_next(m);
        CHECK_INT(atomic_load(&r.turn), r.members * r.rounds);
    }
    tdl_listener_free(l);
}

typedef struct spinner {
    atomic_int stop, over;
} spinner;

static void spin(void *arg) {
    spinner *s = arg;
    /* never enters the scheduler */
    for (int64_t end = tdl_now() + 2 * TDL_SECOND; tdl_now() < end && !atomic_load(&s->stop);) {}
    atomic_store(&s->over, 1);
}

TEST_G(sleeper_behind_spinner, "B5 a sleeper whose processor is busy is woken by another that is idle") {
    if (tdl_gomaxprocs(0) < 2 || cpus() < 2) return check_skip("needs two processors");
    for (int i = 0; i < 5; i++) {
        spinner s = { 0, 0 };
        crew    c;
        crew_open(&c);
        crew_go(&c, spin, &s);
        CHECK_RC(tdl_sleep(5 * TDL_MILLISECOND), 0);
        if (!CHECK_INT(atomic_load(&s.over), 0)) i = 5;
        atomic_store(&s.stop, 1);
        crew_close(&c);
    }
}

typedef struct started {
    int64_t   at;
    tdl_chan *ended;
} started;

static void note_start(void *arg) {
    started *s = arg;
    s->at = tdl_now();
    send_int(s->ended, 1);
}

static void spawn_while_asleep(void *arg) {
    for (int i = 0; i < 20; i++) {
        started s = { 0, arg };
        usleep(3000); /* every processor sleeps in its poller by now */
        int64_t before = tdl_now();
        REQUIRE(tdl_go(note_start, &s) != NULL);
        recv_int(arg);
        CHECK_WITHIN(s.at - before, 0, 2 * TDL_SECOND);
    }
}

TEST_G(poll_break, "B20 processors asleep in their pollers are woken by a thread's spawn, at once") {
    tdl_chan *ended = tdl_chan_new(0);
    crew      c;
    crew_open(&c);
    crew_thread(&c, spawn_while_asleep, ended);
    crew_close(&c);
    tdl_chan_free(ended);
}

/* -- B15: calls that block the thread -------------------------------------------------------- */

static void block_briefly(void *arg) {
    for (int i = 0; i < 20; i++) {
        usleep(*(useconds_t *)arg);
        tdl_yield();
    }
}

TEST_G(blocking_calls, "B15 eight goroutines in blocking system calls all start and end") {
    static useconds_t lengths[] = { 10, 100, 1000 };
    for (int i = 0; i < 3; i++) {
        crew c;
        crew_open(&c);
        for (int j = 0; j < 8; j++) crew_go(&c, block_briefly, &lengths[i]);
        crew_close(&c);
    }
}

/* -- B23 and numbers ------------------------------------------------------------------------------ */

static void recv_one(void *arg) { tdl_chan_recv(arg, NULL); }

static int dumped_goroutines(void) {
    char  line[512], path[] = "/tmp/treadle-dump-XXXXXX";
    int   fd = mkstemp(path), n = 0;
    REQUIRE(fd >= 0);
    unlink(path);
    CHECK_RC(tdl_dump(fd), 0);
    lseek(fd, 0, SEEK_SET);
    FILE *f = fdopen(fd, "r");
    while (fgets(line, sizeof line, f)) n += strncmp(line, "goroutine ", 10) == 0;
    fclose(f);
    return n;
}

TEST_G(count, "B23 the number of goroutines is that of the dump's entries, and 1 once all have ended") {
    tdl_chan *ch = tdl_chan_new(0);
    crew      c;
    CHECK_INT(tdl_num_goroutines(), 1);
    crew_open(&c);
    for (int i = 0; i < 50; i++) crew_go(&c, recv_one, ch);
    CHECK_INT(tdl_num_goroutines(), 51);
    CHECK_INT(tdl_metric("goroutines"), 51);
    CHECK_INT(dumped_goroutines(), 51);
    let_park();
    CHECK_INT(dumped_goroutines(), 51);
    tdl_chan_close(ch);
    crew_close(&c);
    for (int i = 0; i < 1000 && tdl_num_goroutines() > 1; i++) tdl_sleep(TDL_MILLISECOND);
    CHECK_INT(tdl_num_goroutines(), 1);
    CHECK_INT(dumped_goroutines(), 1);
    tdl_chan_free(ch);
}

TEST(count_outside, "B23 outside a run there is no goroutine, and no number of one") {
    CHECK_INT(tdl_num_goroutines(), 0);
    CHECK_INT(tdl_goid(), 0);
}

static void note_goid(void *arg) { atomic_store((atomic_ullong *)arg, tdl_goid()); }

TEST_G(goids, "B23 every goroutine has a number of its own") {
    atomic_ullong ids[100];
    crew          c;
    CHECK(tdl_goid() != 0);
    crew_open(&c);
    for (int i = 0; i < 100; i++) crew_go(&c, note_goid, &ids[i]);
    crew_close(&c);
    for (int i = 0; i < 100; i++) {
        CHECK(atomic_load(&ids[i]) != 0);
        CHECK(atomic_load(&ids[i]) != tdl_goid());
        for (int j = 0; j < i; j++) CHECK(atomic_load(&ids[i]) != atomic_load(&ids[j]));
    }
}

static int dump_holds(const char *text) {
    char buf[8192], path[] = "/tmp/treadle-dump-XXXXXX";
    int  fd = mkstemp(path);
    REQUIRE(fd >= 0);
    unlink(path);
    CHECK_RC(tdl_dump(fd), 0);
    ssize_t n = pread(fd, buf, sizeof buf - 1, 0);
    close(fd);
    buf[n > 0 ? n : 0] = 0;
    return strstr(buf, text) != NULL;
}

TEST_G(names, "B23 a goroutine's name stands in the dump, cut to 31 bytes, with what it waits for; and the poller's back end at the end") {
    tdl_chan      *ch = tdl_chan_new(0);
    tdl_go_options o = { .size = sizeof o, .flags = TDL_GO_JOINABLE, .name = "a-name-of-more-than-thirty-one-bytes" };
    tdl_g         *g = tdl_go_opts(recv_one, ch, &o);
    REQUIRE(g != NULL);
    let_park();
    CHECK(dump_holds("a-name-of-more-than-thirty-one-"));
    CHECK(!dump_holds("a-name-of-more-than-thirty-one-b"));
    CHECK(dump_holds("recv") || dump_holds("receive"));
    char line[400], why[300];
    tdl_netpoll_reason(why, sizeof why);
    snprintf(line, sizeof line, "\npoller: %s, %s\n", tdl_netpoll_name(), why);
    CHECK(dump_holds(line));
    tdl_chan_close(ch);
    CHECK_RC(tdl_join(g), 0);
    tdl_chan_free(ch);
    CHECK(tdl_dump(-1) < 0);
}

/* -- Join and exit ----------------------------------------------------------------------------------- */

static void sleep_briefly(void *arg) {
    tdl_sleep(5 * TDL_MILLISECOND);
    atomic_store((atomic_int *)arg, 1);
}

TEST_G(join, "B23 join waits for the end, and what came before it is visible") {
    atomic_int done = 0;
    tdl_g     *g = go_joinable(sleep_briefly, &done);
    CHECK_RC(tdl_join(g), 0);
    CHECK_INT(atomic_load(&done), 1);
    g = go_joinable(nothing, NULL);
    let_park(); /* ended before it is joined */
    CHECK_RC(tdl_join(g), 0);
}

static tdl_chan *own_handle;

static void join_own_handle(void *arg) {
    tdl_val v;
    tdl_chan_recv(own_handle, &v);
    CHECK_RC(tdl_join(tdl_val_ptr(&v)), TDL_EDEADLOCK);
    (void)arg;
}

TEST_G(join_self, "F5 a goroutine that joins itself is told") {
    tdl_val v;
    own_handle = tdl_chan_new(0);
    tdl_g *g = go_joinable(join_own_handle, NULL);
    tdl_val_set_ptr(&v, g);
    tdl_chan_send(own_handle, &v);
    CHECK_RC(tdl_join(g), 0);
    tdl_chan_free(own_handle);
}

typedef struct joiner {
    tdl_g *g;
    int    rc;
} joiner;

static void join_other(void *arg) {
    joiner *j = arg;
    j->rc = tdl_join(j->g);
}

typedef struct held {
    tdl_chan *until, *done;
} held;

static void be_held(void *arg) {
    held *h = arg;
    tdl_chan_recv(h->until, NULL);
    send_int(h->done, 1);
}

TEST_G(join_twice, "F5 the second to join at the same time is told; so is who joins the unjoinable") {
    tdl_chan *ch = tdl_chan_new(0);
    held      h = { ch, tdl_chan_new(0) };
    joiner    j = { go_joinable(recv_one, ch), 99 };
    crew      c;
    crew_open(&c);
    crew_go(&c, join_other, &j);
    let_park();
    CHECK_RC(tdl_join(j.g), TDL_EBUSY);
    tdl_g *plain = tdl_go(be_held, &h);
    CHECK_RC(tdl_join(plain), TDL_EINVAL);
    CHECK_RC(tdl_cancel(plain), TDL_EINVAL);
    tdl_chan_close(ch);
    recv_int(h.done);
    crew_close(&c);
    CHECK_RC(j.rc, 0);
    tdl_chan_free(h.done);
    tdl_chan_free(ch);
}

TEST_G(join_cancelled, "F5 a joiner that is cancelled leaves the goroutine joinable") {
    tdl_chan *ch = tdl_chan_new(0);
    joiner    j = { go_joinable(recv_one, ch), 99 };
    tdl_g    *waiting = go_joinable(join_other, &j);
    let_park();
    CHECK_RC(tdl_cancel(waiting), 0);
    CHECK_RC(tdl_join(waiting), 0);
    CHECK_RC(j.rc, TDL_ECANCELED);
    tdl_chan_close(ch);
    CHECK_RC(tdl_join(j.g), 0);
    tdl_chan_free(ch);
}

TEST_G(cancel_ended, "F5 cancelling a goroutine that has ended, or does not wait, harms nobody") {
    tdl_g *g = go_joinable(nothing, NULL);
    let_park();
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
}

static void leave_early(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    tdl_goexit();
    atomic_fetch_add((atomic_int *)arg, 100);
}

TEST_G(goexit, "B23 goexit ends the goroutine at once, also one that is joined") {
    atomic_int n = 0;
    for (int i = 0; i < 20; i++) CHECK_RC(tdl_join(go_joinable(leave_early, &n)), 0);
    CHECK_INT(atomic_load(&n), 20);
}

TEST(goexit_thread, "F5 goexit on a thread is an error code") { CHECK_RC(tdl_goexit(), TDL_EINVAL); }

/* -- Spawning ------------------------------------------------------------------------------------------- */

#ifdef TDL_PORTABLE /* each guard page splits a mapping there, of which there are 65,530 */
enum { MANY = 20000 };
#else
enum { MANY = SCALE(100000) };
#endif

TEST_G(spawn_many, "B13 100 000 goroutines that end at once all run") {
    atomic_int n = 0;
    crew       c;
    crew_open(&c);
    for (int i = 0; i < MANY; i++) crew_go(&c, count_up, &n);
    crew_close(&c);
    CHECK_INT(atomic_load(&n), MANY);
}

typedef struct tree {
    crew      *c;
    atomic_int nodes;
    int        depth;
} tree;

typedef struct node {
    tree *t;
    int   depth;
} node;

static void grow(void *arg) {
    node n = *(node *)arg;
    free(arg);
    atomic_fetch_add(&n.t->nodes, 1);
    if (n.depth == 0) return;
    for (int i = 0; i < 2; i++) {
        node *child = malloc(sizeof *child);
        *child = (node){ n.t, n.depth - 1 };
        crew_go(n.t->c, grow, child);
    }
}

TEST_G(spawn_tree, "B13 a tree of goroutines that spawn goroutines is complete") {
    crew  c;
    tree  t = { &c, 0, CHECK_SLOWDOWN > 1 ? 9 : 14 };
    node *root = malloc(sizeof *root);
    *root = (node){ &t, t.depth };
    crew_open(&c);
    crew_go(&c, grow, root);
    crew_close(&c);
    CHECK_INT(atomic_load(&t.nodes), (1 << (t.depth + 1)) - 1);
}

static void deep(int n) {
    volatile char frame[1024];
    frame[0] = (char)n;
    if (n > 0) deep(n - 1);
    frame[1] = frame[0];
}

static void use_stack(void *arg) {
    deep(CHECK_SLOWDOWN > 1 ? 8 : 40);
    (void)arg;
}

TEST_G(stack_depth, "F6 a goroutine may use most of its 64 KiB of stack") {
    crew c;
    crew_open(&c);
    for (int i = 0; i < 100; i++) crew_go(&c, use_stack, NULL);
    crew_close(&c);
}

TEST_G(bad_spawn, "F5 a null function, an unknown flag, a wrong size or stack is refused at the spawn") {
    tdl_go_options o = { .size = sizeof o };
    CHECK(tdl_go(NULL, NULL) == NULL);
    CHECK(tdl_go_opts(NULL, NULL, &o) == NULL);
    o.size = 1;
    CHECK(tdl_go_opts(nothing, NULL, &o) == NULL);
    o = (tdl_go_options){ .size = sizeof o, .flags = 0x80 };
    CHECK(tdl_go_opts(nothing, NULL, &o) == NULL);
    o = (tdl_go_options){ .size = sizeof o, .stack = (size_t)1 << 40 };
    CHECK(tdl_go_opts(nothing, NULL, &o) == NULL);
    o = (tdl_go_options){ .size = sizeof o, .stack = 64 * 1024 };
    CHECK(tdl_go_opts(nothing, NULL, &o) != NULL);
    CHECK(tdl_go_opts(nothing, NULL, NULL) != NULL);
    CHECK_INT(tdl_num_goroutines() >= 1, 1);
    let_park();
}

TEST_G(float_state, "B9 floating point values and callee-saved registers survive switches") {
    double     sum = 0;
    atomic_int stop = 0;
    crew       c;
    crew_open(&c);
    crew_go(&c, yield_until, &stop);
    for (int i = 1; i <= 1000; i++) {
        double x = 1.0 / i;
        tdl_yield();
        sum += x;
    }
    atomic_store(&stop, 1);
    crew_close(&c);
    CHECK(sum > 7.485 && sum < 7.486);
}

/* -- The run itself --------------------------------------------------------------------------------------- */

static int return_its_argument(void *arg) { return *(int *)arg; }

TEST(run_result, "B21 run returns what its function returned, and can be called again and again") {
    for (int i = 0; i < SCALE(300); i++) CHECK_INT(tdl_run(return_its_argument, &i), i);
    int n = -5;
    CHECK_INT(tdl_run(return_its_argument, &n), -5);
}

static int exit_main(void *arg) {
    (void)arg;
    tdl_goexit();
    return 1;
}

TEST(run_goexit, "B21 a main goroutine that calls goexit ends the run") { tdl_run(exit_main, NULL); }

TEST_G(run_in_run, "B21 run inside run is refused") {
    int n = 1;
    CHECK_RC(tdl_run(return_its_argument, &n), TDL_EBUSY);
}

TEST(run_null, "F5 run of a null function is refused") { CHECK_RC(tdl_run(NULL, NULL), TDL_EINVAL); }

static tdl_chan *hold;

static void hold_run(void *arg) {
    (void)arg;
    recv_int(hold);
}

static int main_holding(void *arg) {
    send_int(arg, 1);
    hold_run(NULL);
    return 7;
}

static void *run_holding(void *arg) {
    CHECK_INT(tdl_run(main_holding, arg), 7);
    return NULL;
}

TEST(run_beside_run, "B21 a second thread cannot run beside the first, but can once that is over") {
    tdl_chan *ready = tdl_chan_new(0);
    pthread_t thread;
    int       n = 3;
    hold = tdl_chan_new(0);
    REQUIRE(pthread_create(&thread, NULL, run_holding, ready) == 0);
    recv_int(ready);
    CHECK_RC(tdl_run(return_its_argument, &n), TDL_EBUSY);
    send_int(hold, 1);
    pthread_join(thread, NULL);
    CHECK_INT(tdl_run(return_its_argument, &n), 3);
    tdl_chan_free(ready);
    tdl_chan_free(hold);
}

static atomic_int big_count;

static void spawn_some(void) {
    crew c;
    crew_open(&c);
    for (int i = 0; i < 2000; i++) crew_go(&c, count_up, &big_count);
    crew_close(&c);
}

TEST(big_gomaxprocs, "B21 1 024 processors on a small machine start, work and stop") {
    int before = tdl_gomaxprocs(1024);
    check_limit(60);
    check_keeps_fds();
    CHECK_INT(tdl_gomaxprocs(0), 1024);
    atomic_store(&big_count, 0);
    check_run(spawn_some);
    CHECK_INT(atomic_load(&big_count), 2000);
    tdl_gomaxprocs(before);
    check_run(spawn_some);
}

TEST(gomaxprocs_changes, "B22 every run has the number of processors that was set before it") {
    int before = tdl_gomaxprocs(0);
    CHECK(before >= 1);
    check_keeps_fds();
    for (int i = 0; i < SCALE(60); i++) {
        int n = 1 + i % 5;
        tdl_gomaxprocs(n);
        CHECK_INT(tdl_gomaxprocs(0), n);
        check_run(spawn_some);
    }
    CHECK_INT(tdl_gomaxprocs(-3), 1 + (SCALE(60) - 1) % 5);
    tdl_gomaxprocs(before);
}

TEST(go_from_thread, "B23 a thread may spawn without any run, and wait for it") {
    check_keeps_fds();
    atomic_int n = 0;
    crew       c;
    crew_open(&c);
    for (int i = 0; i < 100; i++) crew_go(&c, count_up, &n);
    crew_close(&c);
    CHECK_INT(atomic_load(&n), 100);
    tdl_g *g = go_joinable(sleep_briefly, &n);
    CHECK_RC(tdl_join(g), 0);
    CHECK_INT(atomic_load(&n), 1);
}

static void run_spawn_more(void) {
    atomic_int n = 0;
    crew       c;
    crew_open(&c);
    for (int i = 0; i < 100; i++) crew_go(&c, count_up, &n);
    crew_close(&c);
    CHECK_INT(atomic_load(&n), 100);
}

TEST(run_after_go, "B21 a run works while goroutines that a thread had started are still there") {
    tdl_chan *ch = tdl_chan_new(0);
    check_keeps_fds();
    REQUIRE(tdl_go(recv_one, ch) != NULL);
    check_run(run_spawn_more);
    tdl_chan_close(ch);
    tdl_chan_free(ch);
}
