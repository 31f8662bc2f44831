/* SPDX-License-Identifier: MIT
 * Random programs: alone against a model that is plainly right, many at once
 * against what must always hold; and a long hunt for lost wake-ups. A failure
 * names its seed; TDL_TEST_SEED runs that one. */
#include "actors.h"
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t first_seed(void) {
    const char *s = getenv("TDL_TEST_SEED");
    return s ? strtoull(s, NULL, 0) : (uint64_t)tdl_now();
}

/* -- One goroutine against a model of channels ------------------------------------------- */

enum { CHANS = 4, MODEL_CAP = 5 };

/* A channel as nobody would doubt it: an array, shifted by hand. */
typedef struct model {
    tdl_chan *ch;
    int64_t   item[MODEL_CAP];
    int       count, cap, closed;
} model;

static int model_send(model *m, int64_t x) {
    if (m->closed) return TDL_ECLOSED;
    if (m->count == m->cap) return TDL_EAGAIN;
    m->item[m->count++] = x;
    return 0;
}

static int model_recv(model *m, int64_t *x) {
    if (m->count == 0) return m->closed ? TDL_ECLOSED : TDL_EAGAIN;
    *x = m->item[0];
    memmove(m->item, m->item + 1, (size_t)--m->count * sizeof *m->item);
    return 0;
}

static int ready(const model *m, int op) {
    return m->closed || (op == TDL_SEND ? m->count < m->cap : m->count > 0);
}

static void model_select(model *m, uint64_t *seed) {
    tdl_case k[CHANS];
    tdl_val  v[CHANS];
    int      n = 1 + (int)(random_next(seed) % CHANS), which[CHANS], any = 0;
    int64_t  x = (int64_t)(random_next(seed) % 1000), want = 0;
    for (int i = 0; i < n; i++) {
        which[i] = (int)(random_next(seed) % CHANS);
        k[i] = (tdl_case){ .chan = m[which[i]].ch, .val = &v[i], .op = random_next(seed) % 2 ? TDL_SEND : TDL_RECV };
        tdl_val_set_int(&v[i], x + i);
        any |= ready(&m[which[i]], k[i].op);
    }
    int i = tdl_select(k, n, random_next(seed) % 2 ? TDL_NOWAIT : 1);
    if (i < 0) {
        CHECK(!any);
        CHECK(i == TDL_EAGAIN || i == TDL_ETIMEDOUT);
        return;
    }
    model *chosen = &m[which[i]];
    if (!CHECK(ready(chosen, k[i].op))) return;
    int rc = k[i].op == TDL_SEND ? model_send(chosen, x + i) : model_recv(chosen, &want);
    CHECK_INT(k[i].ok, rc == 0);
    if (k[i].op == TDL_RECV && rc == 0) CHECK_INT(tdl_val_int(&v[i]), want);
    if (k[i].op == TDL_RECV && rc != 0) CHECK_INT(tdl_val_type(&v[i]), TDL_NIL);
}

static void model_step(model *m, uint64_t *seed) {
    model  *one = &m[random_next(seed) % CHANS];
    int64_t x = (int64_t)(random_next(seed) % 1000), want = 0;
    tdl_val v;
    int     rc;
    tdl_val_set_int(&v, x);
    switch (random_next(seed) % 16) {
    case 0:
    case 1:
    case 2: CHECK_RC(tdl_chan_try_send(one->ch, &v), model_send(one, x)); break;
    case 3:
    case 4:
    case 5:
        rc = model_recv(one, &want);
        CHECK_RC(tdl_chan_try_recv(one->ch, &v), rc);
        if (rc == 0) CHECK_INT(tdl_val_int(&v), want);
        break;
    case 6: /* a blocking form, where the model says that it need not wait */
        if (ready(one, TDL_SEND)) CHECK_RC(tdl_chan_send(one->ch, &v), model_send(one, x));
        break;
    case 7:
        if (!ready(one, TDL_RECV)) break;
        rc = model_recv(one, &want);
        CHECK_RC(tdl_chan_recv(one->ch, &v), rc);
        if (rc == 0) CHECK_INT(tdl_val_int(&v), want);
        break;
    case 8:
        CHECK_INT(tdl_chan_len(one->ch), one->count);
        CHECK_INT(tdl_chan_cap(one->ch), one->cap);
        CHECK_INT(tdl_chan_closed(one->ch), one->closed);
        break;
    case 9:
        if (random_next(seed) % 8) break;
        CHECK_RC(tdl_chan_close(one->ch), one->closed ? TDL_ECLOSED : 0);
        one->closed = 1;
        break;
    case 10:
        if (!one->closed) break; /* a new one in its place */
        tdl_chan_free(one->ch);
        *one = (model){ .cap = (int)(random_next(seed) % (MODEL_CAP + 1)) };
        one->ch = tdl_chan_new((uint32_t)one->cap);
        break;
    default: model_select(m, seed);
    }
}

TEST_G(against_model, "S1 random programs on four channels do what a plain model of channels does") {
    uint64_t start = first_seed();
    for (uint64_t program = 0; program < SCALE(300) && check_failures() == 0; program++) {
        uint64_t seed = start + program;
        model    m[CHANS];
        for (int i = 0; i < CHANS; i++) {
            m[i] = (model){ .cap = i };
            m[i].ch = tdl_chan_new((uint32_t)i);
        }
        for (int step = 0; step < 500; step++) model_step(m, &seed);
        for (int i = 0; i < CHANS; i++) tdl_chan_free(m[i].ch);
        if (check_failures()) fprintf(stderr, "  TDL_TEST_SEED=%llu\n", (unsigned long long)(start + program));
    }
}

/* -- Many at once ------------------------------------------------------------------------------- */

/* A value says who sent it, and is that sender's how-manieth on the channel. */
enum { SENDERS = 6, RECEIVERS = 6 };

typedef struct bazaar {
    tdl_chan   *ch[CHANS];
    atomic_int  sent[SENDERS][CHANS], received[SENDERS][CHANS];
    atomic_int  open_senders;
    int         rounds;
    uint64_t    seed;
} bazaar;

typedef struct trader {
    bazaar *b;
    int     id;
} trader;

static int64_t label(int sender, int chan, int n) { return ((int64_t)sender << 40) | ((int64_t)chan << 32) | n; }

static void trade_send(void *arg) {
    trader  *t = arg;
    bazaar  *b = t->b;
    uint64_t seed = b->seed + (uint64_t)t->id;
    for (int i = 0; i < b->rounds; i++) {
        tdl_val v[CHANS];
        int     c = (int)(random_next(&seed) % CHANS), rc = 0;
        for (int j = 0; j < CHANS; j++) tdl_val_set_int(&v[j], label(t->id, j, atomic_load(&b->sent[t->id][j])));
        switch (random_next(&seed) % 5) {
        case 0: rc = tdl_chan_send(b->ch[c], &v[c]); break;
        case 1: rc = tdl_chan_try_send(b->ch[c], &v[c]); break;
        case 2: rc = tdl_chan_send_until(b->ch[c], &v[c], tdl_now() + (int64_t)(random_next(&seed) % 20000)); break;
        case 3:
        case 4: {
            tdl_case k[CHANS];
            int      n = 0, at[CHANS];
            for (int j = 0; j < CHANS; j++)
                if (random_next(&seed) % 2) {
                    at[n] = j;
                    k[n++] = (tdl_case){ .chan = b->ch[j], .val = &v[j], .op = TDL_SEND };
                }
            rc = tdl_select(k, n, tdl_now() + (int64_t)(random_next(&seed) % 50000));
            if (rc >= 0) {
                CHECK_INT(k[rc].ok, 1);
                c = at[rc];
                rc = 0;
            }
            break;
        }
        }
        if (rc == 0)
            atomic_fetch_add(&b->sent[t->id][c], 1);
        else
            CHECK(rc == TDL_EAGAIN || rc == TDL_ETIMEDOUT);
        if (random_next(&seed) % 16 == 0) tdl_yield();
    }
    if (atomic_fetch_sub(&b->open_senders, 1) == 1)
        for (int j = 0; j < CHANS; j++) CHECK_RC(tdl_chan_close(b->ch[j]), 0);
}

/* Of one sender and channel, one receiver sees rising numbers only. */
static void take_in(bazaar *b, int last[SENDERS][CHANS], int chan, const tdl_val *v) {
    int64_t x = tdl_val_int(v);
    int     sender = (int)(x >> 40), n = (int)(x & 0xffffffff);
    REQUIRE(sender >= 0 && sender < SENDERS);
    CHECK_INT((x >> 32) & 0xff, chan);
    CHECK(n > last[sender][chan]);
    last[sender][chan] = n;
    atomic_fetch_add(&b->received[sender][chan], 1);
}

static void trade_recv(void *arg) {
    trader  *t = arg;
    bazaar  *b = t->b;
    uint64_t seed = b->seed + 100 + (uint64_t)t->id;
    int      last[SENDERS][CHANS], open = CHANS, closed[CHANS] = { 0 };
    memset(last, -1, sizeof last);
    while (open > 0) {
        tdl_val v;
        int     c = (int)(random_next(&seed) % CHANS), rc;
        if (random_next(&seed) % 3) {
            tdl_case k[CHANS];
            for (int j = 0; j < CHANS; j++)
                k[j] = (tdl_case){ .chan = closed[j] ? NULL : b->ch[j], .val = &v, .op = TDL_RECV };
            c = tdl_select(k, CHANS, tdl_now() + (int64_t)(random_next(&seed) % 50000));
            if (c < 0) {
                CHECK_RC(c, TDL_ETIMEDOUT);
                continue;
            }
            rc = k[c].ok ? 0 : TDL_ECLOSED;
        } else {
            rc = tdl_chan_recv_until(b->ch[c], &v, tdl_now() + (int64_t)(random_next(&seed) % 20000));
        }
        if (rc == 0) {
            take_in(b, last, c, &v);
        } else if (rc == TDL_ECLOSED) {
            open -= !closed[c];
            closed[c] = 1;
        } else {
            CHECK_RC(rc, TDL_ETIMEDOUT);
        }
    }
}

TEST_G(bazaar_of_all, "S2 goroutines and threads send and receive by every form: nothing lost, doubled or overtaken") {
    static const uint32_t caps[CHANS] = { 0, 0, 1, 8 };
    uint64_t              start = first_seed();
    check_limit(60);
    for (uint64_t program = 0; program < 4 && check_failures() == 0; program++) {
        bazaar *b = calloc(1, sizeof *b);
        trader  s[SENDERS], r[RECEIVERS];
        crew    c;
        b->seed = start + program;
        b->rounds = SCALE(3000);
        b->open_senders = SENDERS;
        for (int i = 0; i < CHANS; i++) b->ch[i] = tdl_chan_new(caps[i]);
        crew_open(&c);
        for (int i = 0; i < SENDERS; i++) {
            s[i] = (trader){ b, i };
            r[i] = (trader){ b, i };
            crew_start(&c, i % 3 == 2, trade_send, &s[i]);
            crew_start(&c, i % 3 == 1, trade_recv, &r[i]);
        }
        crew_close(&c);
        for (int i = 0; i < SENDERS; i++)
            for (int j = 0; j < CHANS; j++) CHECK_INT(atomic_load(&b->received[i][j]), atomic_load(&b->sent[i][j]));
        for (int i = 0; i < CHANS; i++) tdl_chan_free(b->ch[i]);
        free(b);
        if (check_failures()) fprintf(stderr, "  TDL_TEST_SEED=%llu\n", (unsigned long long)(start + program));
    }
}

/* -- Lost wake-ups ---------------------------------------------------------------------------------- */

/* Tokens go round a ring in which every member may sleep at any moment: one
 * wake-up that is lost stops a token for good, and the watchdog comes. */
enum { MEMBERS = 8, TOKENS = 3 };

typedef struct carousel {
    tdl_chan  *link[MEMBERS];
    int        hops;
    atomic_int left;
} carousel;

typedef struct rider {
    carousel *c;
    int       id;
} rider;

static void delay(uint64_t *seed) {
    uint64_t r = random_next(seed);
    if (r % 64 == 0) tdl_sleep((int64_t)(r >> 32) % 30000);
    if (r % 4 == 0) tdl_yield();
    for (volatile int i = 0; i < (int)(r >> 40) % 200; i++) {}
}

static void pass_tokens(void *arg) {
    rider   *r = arg;
    uint64_t seed = (uint64_t)r->id;
    tdl_val  v;
    while (tdl_chan_recv(r->c->link[r->id], &v) == 0) {
        delay(&seed);
        if (atomic_fetch_sub(&r->c->left, 1) <= 0) break;
        if (tdl_chan_send(r->c->link[(r->id + 1) % MEMBERS], &v) != 0) break;
    }
    for (int i = 0; i < MEMBERS; i++) tdl_chan_close(r->c->link[i]);
}

static int actor_passes(actor *a, int result) {
    rider *r = a->data;
    if (a->state++ % 2 == 1) {
        if (result != 0 || atomic_fetch_sub(&r->c->left, 1) <= 0) {
            for (int i = 0; i < MEMBERS; i++) tdl_chan_close(r->c->link[i]);
            return ACTOR_DONE;
        }
        tdl_val v = outcome_of(a)->val;
        return tdl_chan_send_start(a->host, a->task, r->c->link[(r->id + 1) % MEMBERS], &v, TDL_FOREVER);
    }
    if (result != 0) return ACTOR_DONE;
    return tdl_chan_recv_start(a->host, a->task, r->c->link[r->id], TDL_FOREVER);
}

static void host_rides(void *arg) {
    stage s;
    stage_open(&s, "rider");
    stage_spawn(&s, actor_passes, arg);
    stage_run(&s);
    stage_close(&s);
}

TEST_G(hunt, "S3 tokens round a ring of goroutines, threads and a task, with random delays: no wake-up is lost") {
    carousel k = { .left = SCALE(60000) };
    rider    r[MEMBERS];
    crew     c;
    check_limit(60);
    for (int i = 0; i < MEMBERS; i++) k.link[i] = tdl_chan_new(0);
    crew_open(&c);
    for (int i = 0; i < MEMBERS; i++) {
        r[i] = (rider){ &k, i };
        if (i == 5)
            crew_thread(&c, host_rides, &r[i]);
        else
            crew_start(&c, i == 2, pass_tokens, &r[i]);
    }
    for (int i = 0; i < TOKENS; i++) send_int(k.link[i * 2], i);
    crew_close(&c);
    for (int i = 0; i < MEMBERS; i++) tdl_chan_free(k.link[i]);
}

/* -- Storms -------------------------------------------------------------------------------------------- */

static void wait_somehow(void *arg) {
    tdl_chan *ch = arg;
    uint64_t  seed = tdl_goid();
    for (;;) {
        int rc;
        switch (random_next(&seed) % 4) {
        case 0: rc = tdl_chan_recv(ch, NULL); break;
        case 1: rc = tdl_sleep((int64_t)(random_next(&seed) % 100000)); break;
        case 2: {
            tdl_case k = { .chan = ch, .op = TDL_RECV };
            rc = tdl_select(&k, 1, tdl_now() + (int64_t)(random_next(&seed) % 100000));
            if (rc == TDL_ETIMEDOUT) rc = 0;
            break;
        }
        default: rc = tdl_chan_recv_until(ch, NULL, tdl_now() + 1000) == TDL_ECANCELED ? TDL_ECANCELED : 0;
        }
        if (rc == TDL_ECANCELED) return;
        CHECK_RC(rc, 0);
    }
}

TEST_G(cancel_storm, "S4 goroutines in every kind of wait are cancelled at random moments, and all end") {
    enum { CROWD = 50 };
    tdl_chan *ch = tdl_chan_new(0);
    uint64_t  seed = first_seed();
    for (int round = 0; round < SCALE(40); round++) {
        tdl_g *g[CROWD];
        for (int i = 0; i < CROWD; i++) g[i] = go_joinable(wait_somehow, ch);
        for (int i = 0; i < CROWD; i++) {
            tdl_val v;
            tdl_val_set_int(&v, i);
            tdl_chan_try_send(ch, &v);
            if (random_next(&seed) % 2) tdl_yield();
            CHECK_RC(tdl_cancel(g[i]), 0);
        }
        for (int i = 0; i < CROWD; i++) CHECK_RC(tdl_join(g[i]), 0);
    }
    tdl_chan_free(ch);
}

static tdl_chan *short_life;

static void spawn_on(void *arg) {
    (void)arg;
    for (;;) {
        if (tdl_go(spawn_on, NULL) == NULL || tdl_num_goroutines() > 200) break;
        tdl_val v;
        tdl_val_set_int(&v, 1);
        tdl_chan_send_until(short_life, &v, tdl_now() + 10000);
        tdl_yield();
    }
}

static void end_in_the_middle(void) {
    for (int i = 0; i < 4; i++) tdl_go(spawn_on, NULL);
    tdl_chan_recv_until(short_life, NULL, tdl_now() + 200000);
}

TEST(run_storm, "S5 runs that end while goroutines spawn, send and sleep, a hundred times over") {
    for (int i = 0; i < SCALE(100); i++) {
        short_life = tdl_chan_new(0);
        check_run(end_in_the_middle);
        tdl_chan_free(short_life);
    }
}
