/* SPDX-License-Identifier: MIT
 * The read-write lock. */
#include "actors.h"
#include "check.h"

#include <stdlib.h>

enum { MS = 1000000 };

/* Nobody holds it, and nobody is thought to. */
static void over(tdl_rwmutex *rw) {
    CHECK_RC(tdl_rwmutex_runlock(rw), TDL_ENOTLOCKED);
    CHECK_RC(tdl_rwmutex_unlock(rw), TDL_ENOTLOCKED);
    CHECK_RC(tdl_rwmutex_trylock(rw), 0);
    CHECK_RC(tdl_rwmutex_unlock(rw), 0);
    CHECK_RC(tdl_rwmutex_tryrlock(rw), 0);
    CHECK_RC(tdl_rwmutex_runlock(rw), 0);
    tdl_rwmutex_free(rw);
}

/* Until a writer waits or holds, or has given up. */
static void until_closed(tdl_rwmutex *rw, atomic_int *gave_up) {
    while (!(gave_up && atomic_load(gave_up)) && tdl_rwmutex_tryrlock(rw) == 0) {
        CHECK_RC(tdl_rwmutex_runlock(rw), 0);
        tdl_yield();
    }
}

/* -- One caller ------------------------------------------------------------------------ */

static void alone(void) {
    tdl_rwmutex *rw = tdl_rwmutex_new();
    REQUIRE(rw != NULL);
    for (int i = 0; i < 3; i++) CHECK_RC(tdl_rwmutex_rlock(rw), 0);
    CHECK_RC(tdl_rwmutex_trylock(rw), TDL_EAGAIN);
    CHECK_RC(tdl_rwmutex_tryrlock(rw), 0); /* a try leaves no trace */
    CHECK_RC(tdl_rwmutex_runlock(rw), 0);
    CHECK_RC(tdl_rwmutex_lock_until(rw, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_rwmutex_lock_until(rw, tdl_now() + 5 * MS), TDL_ETIMEDOUT);
    CHECK_RC(tdl_rwmutex_tryrlock(rw), 0); /* the writer that gave up keeps nobody out */
    for (int i = 0; i < 4; i++) CHECK_RC(tdl_rwmutex_runlock(rw), 0);
    CHECK_RC(tdl_rwmutex_lock_until(rw, 1), 0); /* free: no need to wait */
    CHECK_RC(tdl_rwmutex_trylock(rw), TDL_EAGAIN);
    CHECK_RC(tdl_rwmutex_tryrlock(rw), TDL_EAGAIN);
    CHECK_RC(tdl_rwmutex_rlock_until(rw, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_rwmutex_rlock_until(rw, tdl_now() + 5 * MS), TDL_ETIMEDOUT);
    CHECK_RC(tdl_rwmutex_lock_until(rw, tdl_now() + 5 * MS), TDL_ETIMEDOUT);
    CHECK_RC(tdl_rwmutex_unlock(rw), 0);
    over(rw);
}

TEST_G(one_goroutine, "E4 many readers or one writer, tries and deadlines") { alone(); }
TEST(one_thread, "E4 the same on a thread") { alone(); }

TEST_G(misuse, "E2 unlock and runlock of what is not so locked are errors, and harm nothing") {
    tdl_rwmutex *rw = tdl_rwmutex_new();
    CHECK_RC(tdl_rwmutex_unlock(rw), TDL_ENOTLOCKED);
    CHECK_RC(tdl_rwmutex_runlock(rw), TDL_ENOTLOCKED);
    CHECK_RC(tdl_rwmutex_lock(rw), 0);
    CHECK_RC(tdl_rwmutex_runlock(rw), TDL_ENOTLOCKED);
    CHECK_RC(tdl_rwmutex_unlock(rw), 0);
    CHECK_RC(tdl_rwmutex_rlock(rw), 0);
    CHECK_RC(tdl_rwmutex_unlock(rw), TDL_ENOTLOCKED);
    CHECK_RC(tdl_rwmutex_runlock(rw), 0);
    over(rw);
    tdl_rwmutex_free(NULL);
    CHECK_RC(tdl_rwmutex_lock(NULL), TDL_EINVAL);
    CHECK_RC(tdl_rwmutex_rlock(NULL), TDL_EINVAL);
    CHECK_RC(tdl_rwmutex_trylock(NULL), TDL_EINVAL);
    CHECK_RC(tdl_rwmutex_tryrlock(NULL), TDL_EINVAL);
    CHECK_RC(tdl_rwmutex_unlock(NULL), TDL_EINVAL);
    CHECK_RC(tdl_rwmutex_runlock(NULL), TDL_EINVAL);
}

/* -- Readers together, writers alone ------------------------------------------------------ */

typedef struct hall {
    tdl_rwmutex *rw;
    atomic_int   inside, wanted;
} hall;

static void meet_inside(void *arg) {
    hall *h = arg;
    CHECK_RC(tdl_rwmutex_rlock(h->rw), 0);
    atomic_fetch_add(&h->inside, 1);
    while (atomic_load(&h->inside) < h->wanted) tdl_yield();
    CHECK_RC(tdl_rwmutex_runlock(h->rw), 0);
}

TEST_G(parallel, "E4 readers run in parallel: all meet inside") {
    enum { N = 40 };
    hall h = { tdl_rwmutex_new(), 0, N };
    crew c;
    crew_open(&c);
    for (int i = 0; i < N; i++) crew_start(&c, i % 10 == 5, meet_inside, &h);
    crew_close(&c);
    over(h.rw);
}

typedef struct record {
    tdl_rwmutex *rw;
    int64_t      a, b;   /* equal, guarded by rw */
    atomic_int   readers, writers;
    int          rounds;
} record;

static void read_record(record *r, int linger) {
    atomic_fetch_add(&r->readers, 1);
    CHECK_INT(atomic_load(&r->writers), 0);
    int64_t a = r->a;
    if (linger) tdl_yield(); /* perhaps to another processor */
    CHECK_INT(r->b, a);
    atomic_fetch_sub(&r->readers, 1);
}

static void write_record(record *r, int linger) {
    CHECK_INT(atomic_fetch_add(&r->writers, 1), 0);
    CHECK_INT(atomic_load(&r->readers), 0);
    r->a++;
    if (linger) tdl_yield();
    r->b++;
    atomic_fetch_sub(&r->writers, 1);
}

static void use_record(void *arg) {
    record  *r = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    for (int i = 0; i < r->rounds; i++) {
        uint64_t x = random_next(&seed);
        int64_t  until = x & 0x100 ? tdl_now() + (int64_t)(x >> 16) % 100000 : TDL_FOREVER;
        int      linger = !(x & 0x600);
        if (x % 8 == 0) {
            int rc = tdl_rwmutex_lock_until(r->rw, until);
            if (rc == TDL_ETIMEDOUT) continue;
            CHECK_RC(rc, 0);
            write_record(r, linger);
            CHECK_RC(tdl_rwmutex_unlock(r->rw), 0);
        } else {
            int rc = x % 8 == 1 ? tdl_rwmutex_tryrlock(r->rw) : tdl_rwmutex_rlock_until(r->rw, until);
            if (rc == TDL_ETIMEDOUT || rc == TDL_EAGAIN) continue;
            CHECK_RC(rc, 0);
            read_record(r, linger);
            CHECK_RC(tdl_rwmutex_runlock(r->rw), 0);
        }
    }
}

static void use_together(int threads) {
    record r = { .rw = tdl_rwmutex_new(), .rounds = SCALE(3000) };
    crew   c;
    crew_open(&c);
    for (int i = 0; i < 8; i++) crew_start(&c, i < threads, use_record, &r);
    crew_close(&c);
    CHECK_INT(r.a, r.b);
    over(r.rw);
}

TEST_G(excludes, "E4 goroutines that read and write, with deadlines and tries: writers are alone") { use_together(0); }
TEST_G(excludes_mixed, "E4 the same with threads among them") { use_together(4); }

/* -- Who goes next --------------------------------------------------------------------------- */

typedef struct visitor {
    tdl_rwmutex *rw;
    int          writes;
    int64_t      until;
    atomic_int  *clock;
    atomic_int   when; /* it got in, by the clock; -1 not yet */
    atomic_int   gave_up;
    int          rc;
} visitor;

static void visit(void *arg) {
    visitor *v = arg;
    v->rc = v->writes ? tdl_rwmutex_lock_until(v->rw, v->until) : tdl_rwmutex_rlock_until(v->rw, v->until);
    atomic_store(&v->gave_up, v->rc != 0);
    if (v->rc != 0) return;
    atomic_store(&v->when, atomic_fetch_add(v->clock, 1));
    CHECK_RC(v->writes ? tdl_rwmutex_unlock(v->rw) : tdl_rwmutex_runlock(v->rw), 0);
}

TEST_G(writer_pending, "E4 a writer that waits keeps new readers out, and gets in when the old ones have gone") {
    for (int thread = 0; thread < 2; thread++) {
        atomic_int clock = 0;
        visitor    w = { tdl_rwmutex_new(), 1, TDL_FOREVER, &clock, -1, 0, 99 };
        visitor    r = { w.rw, 0, TDL_FOREVER, &clock, -1, 0, 99 };
        crew       c;
        crew_open(&c);
        CHECK_RC(tdl_rwmutex_rlock(w.rw), 0);
        crew_start(&c, thread, visit, &w);
        until_closed(w.rw, NULL);
        crew_start(&c, !thread, visit, &r);
        CHECK_RC(tdl_rwmutex_rlock_until(w.rw, tdl_now() + 5 * MS), TDL_ETIMEDOUT);
        CHECK_INT(atomic_load(&clock), 0);
        CHECK_RC(tdl_rwmutex_runlock(w.rw), 0);
        crew_close(&c);
        CHECK_INT(w.when, 0);
        CHECK_INT(r.when, 1);
        CHECK_RC(w.rc, 0);
        CHECK_RC(r.rc, 0);
        over(w.rw);
    }
}

/* A task for whom an operation is pending stands on the queue, and that is certain. */
typedef struct queue {
    tdl_host    *h;
    tdl_rwmutex *rw;
    int          task[6];
} queue;

static void queue_open(queue *q) {
    CHECK_RC(tdl_host_open("queue", &q->h), 0);
    q->rw = tdl_rwmutex_new();
    for (int i = 0; i < 6; i++) q->task[i] = tdl_task_new(q->h, 0);
}

static void queue_close(queue *q) {
    for (int i = 0; i < 6; i++) CHECK_RC(tdl_task_free(q->h, (uint32_t)q->task[i]), 0);
    CHECK_RC(tdl_host_close(q->h), 0);
    over(q->rw);
}

static void come(queue *q, int who, int write, int64_t until, int rc) {
    uint32_t t = (uint32_t)q->task[who];
    CHECK_RC(write ? tdl_rwmutex_lock_start(q->h, t, q->rw, until) : tdl_rwmutex_rlock_start(q->h, t, q->rw, until), rc);
}

/* These, as bits, and no others get in, or get rc. */
static void got(queue *q, unsigned who, int rc) {
    tdl_event ev[8];
    unsigned  were = 0;
    for (int n, wait = who != 0; (n = tdl_host_poll(q->h, ev, 8, wait ? -1 : 0)) > 0; wait = were != who)
        for (int i = 0; i < n; i++) {
            CHECK_RC(ev[i].result, rc);
            for (unsigned k = 0; k < 6; k++)
                if ((uint32_t)q->task[k] == ev[i].task) were |= 1u << k;
        }
    CHECK_INT(were, who);
}

TEST(turns, "E4 readers that came while a writer held it go before the next writer, and later ones after") {
    queue q;
    queue_open(&q);
    come(&q, 0, 1, TDL_FOREVER, 0);
    come(&q, 1, 1, TDL_FOREVER, TDL_PENDING);
    come(&q, 2, 0, TDL_FOREVER, TDL_PENDING);
    come(&q, 3, 0, TDL_FOREVER, TDL_PENDING);
    got(&q, 0, 0);
    CHECK_RC(tdl_rwmutex_unlock(q.rw), 0); /* 0 */
    got(&q, 1 << 2 | 1 << 3, 0);
    come(&q, 4, 0, TDL_FOREVER, TDL_PENDING); /* behind the writer */
    come(&q, 5, 1, TDL_FOREVER, TDL_PENDING);
    CHECK_RC(tdl_rwmutex_runlock(q.rw), 0);
    got(&q, 0, 0);
    CHECK_RC(tdl_rwmutex_runlock(q.rw), 0);
    got(&q, 1 << 1, 0);
    CHECK_RC(tdl_rwmutex_unlock(q.rw), 0); /* 1 */
    got(&q, 1 << 4, 0);
    CHECK_RC(tdl_rwmutex_runlock(q.rw), 0);
    got(&q, 1 << 5, 0);
    CHECK_RC(tdl_rwmutex_unlock(q.rw), 0);
    queue_close(&q);
}

TEST(turns_given_up, "E4 a writer that waits for readers to go gives up: waiting readers get in, then the next writer waits") {
    queue q;
    queue_open(&q);
    come(&q, 0, 0, TDL_FOREVER, 0);
    come(&q, 1, 1, TDL_FOREVER, TDL_PENDING);
    come(&q, 2, 1, TDL_FOREVER, TDL_PENDING);
    come(&q, 3, 0, TDL_FOREVER, TDL_PENDING);
    CHECK_INT(tdl_task_cancel(q.h, (uint32_t)q.task[1]), 1);
    tdl_event ev[8];
    int       n = tdl_host_poll(q.h, ev, 8, -1), all = n;
    for (int i = 0; i < n; i++) CHECK_RC(ev[i].result, ev[i].task == (uint32_t)q.task[1] ? TDL_ECANCELED : 0);
    while (all < 2) all += tdl_host_poll(q.h, ev, 8, -1);
    CHECK_INT(all, 2); /* 1, and 3 */
    come(&q, 4, 0, TDL_FOREVER, TDL_PENDING); /* 2 is the one that waits now */
    CHECK_RC(tdl_rwmutex_runlock(q.rw), 0);
    got(&q, 0, 0);
    CHECK_RC(tdl_rwmutex_runlock(q.rw), 0);
    got(&q, 1 << 2, 0);
    CHECK_RC(tdl_rwmutex_unlock(q.rw), 0);
    got(&q, 1 << 4, 0);
    CHECK_RC(tdl_rwmutex_runlock(q.rw), 0);
    queue_close(&q);
}

TEST_G(writer_gives_up, "E4 when the writer that waits gives up, the readers behind it get in at once") {
    for (int cancel = 0; cancel < 2; cancel++) {
        atomic_int   clock = 0;
        tdl_rwmutex *rw = tdl_rwmutex_new();
        visitor      w = { rw, 1, cancel ? TDL_FOREVER : tdl_now() + 30 * MS, &clock, -1, 0, 99 };
        visitor      r = { rw, 0, TDL_FOREVER, &clock, -1, 0, 99 };
        CHECK_RC(tdl_rwmutex_rlock(rw), 0);
        tdl_g *writer = go_joinable(visit, &w);
        until_closed(rw, &w.gave_up);
        tdl_g *reader = go_joinable(visit, &r);
        let_park();
        if (cancel) CHECK_RC(tdl_cancel(writer), 0);
        CHECK_RC(tdl_join(reader), 0); /* although there is still a reader */
        CHECK_RC(tdl_join(writer), 0);
        CHECK_RC(w.rc, cancel ? TDL_ECANCELED : TDL_ETIMEDOUT);
        CHECK_RC(r.rc, 0);
        CHECK_RC(tdl_rwmutex_runlock(rw), 0);
        over(rw);
    }
}

TEST_G(reader_gives_up, "E4 readers and writers that give up behind a writer leave nothing behind") {
    atomic_int   clock = 0;
    tdl_rwmutex *rw = tdl_rwmutex_new();
    visitor      v[6];
    tdl_g       *g[6];
    CHECK_RC(tdl_rwmutex_lock(rw), 0);
    for (int i = 0; i < 6; i++) {
        v[i] = (visitor){ rw, i % 2, i < 3 ? tdl_now() + 10 * MS : TDL_FOREVER, &clock, -1, 0, 99 };
        g[i] = go_joinable(visit, &v[i]);
    }
    let_park();
    for (int i = 3; i < 5; i++) CHECK_RC(tdl_cancel(g[i]), 0);
    for (int i = 0; i < 5; i++) {
        CHECK_RC(tdl_join(g[i]), 0);
        CHECK_RC(v[i].rc, i < 3 ? TDL_ETIMEDOUT : TDL_ECANCELED);
    }
    CHECK_RC(tdl_rwmutex_unlock(rw), 0);
    CHECK_RC(tdl_join(g[5]), 0);
    CHECK_RC(v[5].rc, 0);
    over(rw);
}

/* -- Nobody starves --------------------------------------------------------------------------- */

typedef struct crowd {
    tdl_rwmutex *rw;
    atomic_int   stop;
    int          write;
} crowd;

static void come_and_go(void *arg) {
    crowd *c = arg;
    while (!atomic_load(&c->stop)) {
        CHECK_RC(c->write ? tdl_rwmutex_lock(c->rw) : tdl_rwmutex_rlock(c->rw), 0);
        tdl_sleep(200 * TDL_MICROSECOND); /* longer than until another comes: never free of them */
        CHECK_RC(c->write ? tdl_rwmutex_unlock(c->rw) : tdl_rwmutex_runlock(c->rw), 0);
    }
}

static void gets_in(int write) {
    crowd cr = { tdl_rwmutex_new(), 0, !write };
    crew  c;
    crew_open(&c);
    for (int i = 0; i < 4; i++) crew_go(&c, come_and_go, &cr);
    for (int i = 0; i < 10; i++) {
        CHECK_RC(write ? tdl_rwmutex_lock(cr.rw) : tdl_rwmutex_rlock(cr.rw), 0);
        CHECK_RC(write ? tdl_rwmutex_unlock(cr.rw) : tdl_rwmutex_runlock(cr.rw), 0);
    }
    atomic_store(&cr.stop, 1);
    crew_close(&c);
    over(cr.rw);
}

TEST_G(writer_gets_in, "E4 readers that overlap without end do not keep a writer out") { gets_in(1); }
TEST_G(reader_gets_in, "E4 writers one after the other do not keep a reader out") { gets_in(0); }

/* -- Handed on ---------------------------------------------------------------------------------- */

static void runlock_it(void *arg) { CHECK_RC(tdl_rwmutex_runlock(arg), 0); }
static void unlock_it(void *arg) { CHECK_RC(tdl_rwmutex_unlock(arg), 0); }

TEST_G(handed_on, "E4 others may unlock than have locked: the readers are counted, wherever they go") {
    enum { N = 12 };
    tdl_rwmutex *rw = tdl_rwmutex_new();
    for (int round = 0; round < SCALE(200); round++) {
        crew c;
        crew_open(&c);
        for (int i = 0; i < N; i++) CHECK_RC(tdl_rwmutex_rlock(rw), 0);
        for (int i = 0; i < N; i++) crew_start(&c, i % 4 == 1, runlock_it, rw);
        if (round % 2) CHECK_RC(tdl_rwmutex_lock(rw), 0);
        crew_wait(&c);
        if (!(round % 2)) CHECK_RC(tdl_rwmutex_trylock(rw), 0);
        crew_start(&c, round % 3 == 0, unlock_it, rw);
        crew_close(&c);
        CHECK_RC(tdl_rwmutex_runlock(rw), TDL_ENOTLOCKED);
    }
    over(rw);
}

typedef struct cloakroom {
    tdl_rwmutex *rw;
    atomic_int   tokens; /* readers that somebody may unlock */
} cloakroom;

static void swap_tokens(void *arg) {
    cloakroom *c = arg;
    uint64_t   seed = (uint64_t)(uintptr_t)&seed;
    for (int i = 0; i < SCALE(30000); i++) {
        if (random_next(&seed) % 2) {
            CHECK_RC(tdl_rwmutex_rlock(c->rw), 0);
            atomic_fetch_add(&c->tokens, 1);
        } else if (atomic_fetch_sub(&c->tokens, 1) > 0) {
            CHECK_RC(tdl_rwmutex_runlock(c->rw), 0);
        } else {
            atomic_fetch_add(&c->tokens, 1);
        }
        if (i % 64 == 0) tdl_yield();
    }
}

TEST_G(tokens, "E4 whoever has a reader's token can unlock it, while many come and go") {
    cloakroom k = { tdl_rwmutex_new(), 0 };
    crew      c;
    crew_open(&c);
    for (int i = 0; i < 8; i++) crew_start(&c, i >= 4, swap_tokens, &k);
    crew_close(&c);
    while (atomic_fetch_sub(&k.tokens, 1) > 0) CHECK_RC(tdl_rwmutex_runlock(k.rw), 0);
    over(k.rw);
}

/* -- Hosts ------------------------------------------------------------------------------------------ */

static int task_reads_and_writes(actor *a, int result) {
    tdl_rwmutex *rw = a->data;
    switch (a->state++) {
    case 0: return tdl_rwmutex_rlock_start(a->host, a->task, rw, TDL_FOREVER);
    case 1: CHECK_RC(result, 0); return tdl_rwmutex_lock_start(a->host, a->task, rw, TDL_NOWAIT);
    case 2: CHECK_RC(result, TDL_EAGAIN); return tdl_rwmutex_lock_start(a->host, a->task, rw, tdl_now() + 5 * MS);
    case 3:
        CHECK_RC(result, TDL_ETIMEDOUT);
        CHECK_RC(tdl_rwmutex_runlock(rw), 0);
        return tdl_rwmutex_lock_start(a->host, a->task, rw, TDL_FOREVER);
    case 4: CHECK_RC(result, 0); return tdl_rwmutex_rlock_start(a->host, a->task, rw, tdl_now() + 5 * MS);
    default:
        CHECK_RC(result, TDL_ETIMEDOUT);
        CHECK_RC(tdl_rwmutex_unlock(rw), 0);
        return ACTOR_DONE;
    }
}

TEST(task, "E4 a task reads and writes, with deadlines and without") {
    stage        s;
    tdl_rwmutex *rw = tdl_rwmutex_new();
    stage_open(&s, "rwmutex");
    CHECK_RC(tdl_rwmutex_rlock(rw), TDL_EHOST);
    CHECK_RC(tdl_rwmutex_lock(rw), TDL_EHOST);
    stage_spawn(&s, task_reads_and_writes, rw);
    stage_run(&s);
    stage_close(&s);
    over(rw);
}

static int task_uses_record(actor *a, int result) {
    record *r = a->data;
    if (a->state == 1) {
        CHECK_RC(result, 0);
        if (a->n % 4 == 0) {
            write_record(r, 0);
            CHECK_RC(tdl_rwmutex_unlock(r->rw), 0);
        } else {
            read_record(r, 0);
            CHECK_RC(tdl_rwmutex_runlock(r->rw), 0);
        }
        a->n++;
        a->state = 2;
        return tdl_yield_start(a->host, a->task);
    }
    if (a->n == r->rounds) return ACTOR_DONE;
    a->state = 1;
    return a->n % 4 == 0 ? tdl_rwmutex_lock_start(a->host, a->task, r->rw, TDL_FOREVER)
                         : tdl_rwmutex_rlock_start(a->host, a->task, r->rw, TDL_FOREVER);
}

TEST(tasks_mixed, "E4 tasks, goroutines and threads read and write one record") {
    record r = { .rw = tdl_rwmutex_new(), .rounds = SCALE(1000) };
    stage  s;
    crew   c;
    check_keeps_fds();
    crew_open(&c);
    for (int i = 0; i < 4; i++) crew_start(&c, i == 3, use_record, &r);
    stage_open(&s, "record");
    for (int i = 0; i < 4; i++) stage_spawn(&s, task_uses_record, &r);
    stage_run(&s);
    stage_close(&s);
    crew_close(&c);
    CHECK_INT(r.a, r.b);
    over(r.rw);
}

static int task_wants(actor *a, int result) {
    CHECK_INT(a->state++, 0); /* it is never told */
    (void)result;
    return a->n ? tdl_rwmutex_lock_start(a->host, a->task, a->data, TDL_FOREVER)
                : tdl_rwmutex_rlock_start(a->host, a->task, a->data, TDL_FOREVER);
}

TEST(host_closes, "E4 what a host's tasks waited for, or were given and not told of, goes on to others") {
    for (int granted = 0; granted < 2; granted++) {
        for (int first = 0; first < 2; first++) {
            stage        s;
            tdl_rwmutex *rw = tdl_rwmutex_new();
            if (first)
                CHECK_RC(tdl_rwmutex_rlock(rw), 0);
            else
                CHECK_RC(tdl_rwmutex_lock(rw), 0);
            stage_open(&s, "leaves");
            stage_spawn(&s, task_wants, rw)->n = first;
            stage_spawn(&s, task_wants, rw)->n = !first;
            stage_poll(&s, 0);
            stage_poll(&s, 0); /* both wait */
            if (granted) CHECK_RC(first ? tdl_rwmutex_runlock(rw) : tdl_rwmutex_unlock(rw), 0);
            stage_close(&s);
            if (!granted) CHECK_RC(first ? tdl_rwmutex_runlock(rw) : tdl_rwmutex_unlock(rw), 0);
            over(rw);
        }
    }
}

/* -- The end of a run ------------------------------------------------------------------------------- */

static tdl_rwmutex *outlives;

static void wait_to_write(void *arg) {
    (void)arg;
    tdl_rwmutex_lock(outlives);
    CHECK(!"the run goes on");
}

static void wait_to_read(void *arg) {
    (void)arg;
    tdl_rwmutex_rlock(outlives);
    CHECK(!"the run goes on");
}

static void leave_them_waiting(void) {
    tdl_go(wait_to_write, NULL);
    until_closed(outlives, NULL);
    tdl_go(wait_to_read, NULL);
    tdl_go(wait_to_write, NULL);
    let_park();
}

TEST(run_over, "E4 goroutines that wait for it when their run ends are off its queues") {
    outlives = tdl_rwmutex_new();
    CHECK_RC(tdl_rwmutex_rlock(outlives), 0);
    check_run(leave_them_waiting);
    CHECK_RC(tdl_rwmutex_tryrlock(outlives), 0);
    CHECK_RC(tdl_rwmutex_runlock(outlives), 0);
    CHECK_RC(tdl_rwmutex_runlock(outlives), 0);
    over(outlives);
}
