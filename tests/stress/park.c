/* SPDX-License-Identifier: MIT
 *
 * The hunt for lost wake-ups: goroutines that park and make each other ready,
 * in pairs that meet by every means there is, on 2 to 64 processors, with random
 * delays in between. Every pair is counted; a watchdog ends the program with the
 * dump when nothing has moved for ten seconds.
 *
 * park [PAIRS [SEED]]: in all PAIRS parks (a million), said every two seconds.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <treadle.h>
#include <unistd.h>

enum { STEPS = 6, PAIRS_A_P = 3, STALL_SECONDS = 10, LIMIT_FILES = 1024 };

static const int processors[STEPS] = {2, 4, 8, 16, 32, 64};
static atomic_llong moved;

static uint64_t next(uint64_t *s) { /* splitmix64 (Steele, Lea, Flood 2014) */
    uint64_t z = (*s += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void compute(uint64_t steps) {
    for (volatile uint64_t i = 0; i < steps; i++) {
    }
}

/* Mostly none; some pauses, of up to 2 us or, so that others come and steal, 30
 * us; some yields, rarely a sleep. */
static void delay(uint64_t *seed) {
    uint64_t r = next(seed) % 4096;
    if (r < 256)
        compute(4 * r);
    else if (r < 264)
        compute(20000);
    else if (r < 272)
        tdl_yield();
    else if (r == 272)
        tdl_sleep((int64_t)(next(seed) % 100000));
}

typedef struct pair {
    int            how;
    int            pinned; /* one of the two has a thread to itself */
    long long      rounds;
    uint64_t       seed;
    tdl_chan      *there, *back;
    tdl_sema      *ping, *pong;
    tdl_waitgroup *all;
} pair;

enum { BY_CHAN, BY_BUFFER, BY_SEMA, BY_SELECT, BY_DEADLINE, WAYS };

static void die(const char *what) {
    fprintf(stderr, "park: %s\n", what);
    tdl_dump(STDERR_FILENO);
    _exit(1);
}

static void must(int rc, const char *what) {
    if (rc != 0) die(what);
}

static void give(pair *p, int back) {
    tdl_val v;
    tdl_val_set_int(&v, 1);
    if (p->how == BY_SEMA)
        must(tdl_sema_release(back ? p->pong : p->ping, 1), "release");
    else
        must(tdl_chan_send(back ? p->back : p->there, &v), "send");
}

static void take(pair *p, int back) {
    tdl_chan *ch = back ? p->back : p->there;
    tdl_val   v;
    switch (p->how) {
    case BY_SEMA: must(tdl_sema_acquire(back ? p->pong : p->ping, 1), "acquire"); break;
    case BY_SELECT: {
        tdl_case c[2] = {{.chan = NULL, .op = TDL_RECV}, {.chan = ch, .val = &v, .op = TDL_RECV}};
        must(tdl_select(c, 2, TDL_FOREVER) == 1 ? 0 : -1, "select");
        break;
    }
    case BY_DEADLINE: { /* the deadline races with the value; what it loses is tried again */
        int rc;
        while ((rc = tdl_chan_recv_until(ch, &v, tdl_now() + 20000)) == TDL_ETIMEDOUT) {
        }
        must(rc, "recv_until");
        break;
    }
    default: must(tdl_chan_recv(ch, &v), "recv");
    }
}

static void one(void *arg) {
    pair    *p = arg;
    uint64_t seed = p->seed;
    if (p->pinned) tdl_pin();
    for (long long i = 0; i < p->rounds; i++) {
        delay(&seed);
        give(p, 0);
        take(p, 1);
        if (i % 64 == 63) atomic_fetch_add(&moved, 128);
    }
    atomic_fetch_add(&moved, 2 * (p->rounds % 64));
    if (p->pinned) tdl_unpin();
    tdl_waitgroup_done(p->all);
}

static void other(void *arg) {
    pair    *p = arg;
    uint64_t seed = ~p->seed;
    for (long long i = 0; i < p->rounds; i++) {
        take(p, 0);
        delay(&seed);
        give(p, 1);
    }
    tdl_waitgroup_done(p->all);
}

typedef struct step {
    int       n; /* processors */
    long long parks;
    uint64_t  seed;
} step;

static int run_step(void *arg) {
    step *s = arg;
    int   npairs = s->n * PAIRS_A_P;
    /* those of the pinned cross threads each time: a tenth of the work is theirs */
    long long rounds = s->parks / 2 + npairs, of_pinned = rounds / 10 / s->n;
    long long of_others = (rounds - of_pinned * s->n) / (npairs - s->n) + 1;
    pair *pairs = calloc((size_t)npairs, sizeof *pairs);
    tdl_waitgroup *all = tdl_waitgroup_new();
    tdl_waitgroup_add(all, 2 * npairs);
    for (int i = 0; i < npairs; i++) {
        pair *p = &pairs[i];
        *p = (pair){.how = i % WAYS, .pinned = i % PAIRS_A_P == 0, .rounds = i % PAIRS_A_P == 0 ? of_pinned : of_others, .seed = next(&s->seed), .all = all};
        p->there = tdl_chan_new(p->how == BY_BUFFER ? 1 : 0);
        p->back = tdl_chan_new(0);
        p->ping = tdl_sema_new(0);
        p->pong = tdl_sema_new(0);
        if (!tdl_go(one, p) || !tdl_go(other, p)) die("cannot spawn");
    }
    must(tdl_waitgroup_wait(all), "wait");
    for (int i = 0; i < npairs; i++) {
        tdl_chan_free(pairs[i].there);
        tdl_chan_free(pairs[i].back);
        tdl_sema_free(pairs[i].ping);
        tdl_sema_free(pairs[i].pong);
    }
    tdl_waitgroup_free(all);
    free(pairs);
    return 0;
}

static void *watch(void *arg) {
    (void)arg;
    long long last = -1;
    for (int still = 0;; sleep(1)) {
        long long now = atomic_load(&moved);
        still = now == last ? still + 1 : 0;
        if (still >= STALL_SECONDS) die("nothing has moved for ten seconds: a wake-up is lost");
        last = now;
    }
    return NULL;
}

int main(int argc, char **argv) {
    long long total = argc > 1 ? atoll(argv[1]) : 1000000;
    uint64_t  seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)tdl_now();
    pthread_t watcher;
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < LIMIT_FILES) die("needs 1,024 descriptors (ulimit -n)");
    if (total < STEPS) die("usage: park [PAIRS [SEED]]");
    printf("park: seed %llu\n", (unsigned long long)seed);
    pthread_create(&watcher, NULL, watch, NULL);
    for (int i = 0; i < STEPS; i++) {
        step    s = {processors[i], total / STEPS, seed + (uint64_t)i};
        int64_t begin = tdl_now();
        tdl_gomaxprocs(s.n);
        must(tdl_run(run_step, &s), "run");
        printf("park: %2d processors: %lld parks, %.1f s\n", s.n, s.parks, (double)(tdl_now() - begin) / 1e9);
    }
    printf("park: %lld parks, none lost\n", (long long)atomic_load(&moved));
    return 0;
}
