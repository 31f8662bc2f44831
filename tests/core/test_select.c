/* SPDX-License-Identifier: MIT
 * Select: which case fires, what it leaves behind, and that the choice is fair. */
#include "check.h"

#include <math.h>
#include <stdlib.h>

static int select_recv(tdl_chan *ch, tdl_val *v, int64_t deadline) {
    tdl_case k = { .chan = ch, .val = v, .op = TDL_RECV };
    return tdl_select(&k, 1, deadline);
}

/* -- A7: the table ----------------------------------------------------------------- */

TEST_G(empty, "A7 select without cases waits for the deadline alone") {
    int64_t start = tdl_now();
    CHECK_RC(tdl_select(NULL, 0, start + 20 * TDL_MILLISECOND), TDL_ETIMEDOUT);
    CHECK_WITHIN(tdl_now() - start, 20 * TDL_MILLISECOND, 10 * TDL_SECOND);
    CHECK_RC(tdl_select(NULL, 0, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_select(NULL, 0, 1), TDL_ETIMEDOUT);
}

static void select_for_ever(void *arg) { *(int *)arg = tdl_select(NULL, 0, TDL_FOREVER); }

TEST_G(empty_cancel, "A7 a cancel ends a select without cases") {
    int    rc = 0;
    tdl_g *g = go_joinable(select_for_ever, &rc);
    let_park();
    CHECK_INT(rc, 0);
    tdl_cancel(g);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(rc, TDL_ECANCELED);
}

TEST_G(nil_never, "A7 a null channel is never chosen") {
    tdl_chan *ch = tdl_chan_new(1);
    tdl_val   in, out;
    tdl_val_set_int(&in, 3);
    for (int i = 0; i < 100; i++) {
        tdl_case k[] = {
            { .chan = NULL, .val = &out, .op = TDL_RECV },
            { .chan = NULL, .val = &in, .op = TDL_SEND },
            { .chan = ch, .val = &in, .op = TDL_SEND },
        };
        CHECK_INT(tdl_select(k, 3, TDL_FOREVER), 2);
        CHECK_INT(k[2].ok, 1);
        CHECK_INT(recv_int(ch), 3);
        CHECK_RC(tdl_select(k, 2, TDL_NOWAIT), TDL_EAGAIN);
    }
    tdl_case nothing[] = { { .chan = NULL, .val = &out, .op = TDL_RECV } };
    CHECK_RC(tdl_select(nothing, 1, tdl_now() + 5 * TDL_MILLISECOND), TDL_ETIMEDOUT);
    tdl_chan_free(ch);
}

TEST_G(closed, "A7 a closed channel is ready in select: ok is 0, the value nil") {
    tdl_chan *ch = tdl_chan_new(1), *idle = tdl_chan_new(0);
    tdl_val   v, in;
    send_int(ch, 8);
    tdl_chan_close(ch);
    tdl_val_set_int(&in, 1);
    tdl_case k[] = { { .chan = idle, .val = NULL, .op = TDL_RECV }, { .chan = ch, .val = &v, .op = TDL_RECV } };
    CHECK_INT(tdl_select(k, 2, TDL_FOREVER), 1);
    CHECK_INT(k[1].ok, 1);
    CHECK_INT(tdl_val_int(&v), 8);
    for (int i = 0; i < 3; i++) {
        tdl_val_set_int(&v, 1);
        k[1].ok = 1;
        CHECK_INT(tdl_select(k, 2, TDL_FOREVER), 1);
        CHECK_INT(k[1].ok, 0);
        CHECK_INT(tdl_val_type(&v), TDL_NIL);
    }
    tdl_case send = { .chan = ch, .val = &in, .op = TDL_SEND, .ok = 1 };
    CHECK_INT(tdl_select(&send, 1, TDL_FOREVER), 0);
    CHECK_INT(send.ok, 0);
    tdl_chan_free(ch);
    tdl_chan_free(idle);
}

TEST_G(not_with_itself, "A7 a select with send and receive on one channel does not talk to itself") {
    tdl_chan *ch = tdl_chan_new(0);
    tdl_val   in, out;
    tdl_val_set_int(&in, 1);
    tdl_case k[] = { { .chan = ch, .val = &in, .op = TDL_SEND }, { .chan = ch, .val = &out, .op = TDL_RECV } };
    CHECK_RC(tdl_select(k, 2, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_select(k, 2, tdl_now() + 10 * TDL_MILLISECOND), TDL_ETIMEDOUT);
    tdl_chan_free(ch);
}

TEST_G(ready_beats_deadline, "A7 a ready case wins over a deadline that has passed") {
    tdl_chan *ch = tdl_chan_new(1);
    tdl_val   v;
    CHECK_RC(select_recv(ch, &v, 1), TDL_ETIMEDOUT);
    send_int(ch, 4);
    CHECK_INT(select_recv(ch, &v, 1), 0);
    send_int(ch, 4);
    CHECK_INT(select_recv(ch, &v, TDL_NOWAIT), 0);
    CHECK_RC(select_recv(ch, &v, TDL_NOWAIT), TDL_EAGAIN);
    tdl_chan_free(ch);
}

static void close_later(void *arg) {
    let_park();
    tdl_chan_close(arg);
}

TEST_G(close_wakes, "A7 closing a channel wakes a select that waits on it, to send or to receive") {
    for (int sending = 0; sending < 2; sending++) {
        tdl_chan *ch = tdl_chan_new(0), *idle = tdl_chan_new(0);
        tdl_val   v;
        crew      c;
        crew_open(&c);
        tdl_val_set_int(&v, 1);
        crew_go(&c, close_later, ch);
        tdl_case k[] = {
            { .chan = idle, .val = NULL, .op = TDL_RECV },
            { .chan = ch, .val = &v, .op = sending ? TDL_SEND : TDL_RECV, .ok = 1 },
        };
        CHECK_INT(tdl_select(k, 2, TDL_FOREVER), 1);
        CHECK_INT(k[1].ok, 0);
        crew_close(&c);
        tdl_chan_free(ch);
        tdl_chan_free(idle);
    }
}

/* -- A8: channels dropped from a select as they are used ------------------------------- */

static int send_each_once(tdl_chan *a, tdl_chan *b) {
    tdl_val v;
    int     sent = 0;
    tdl_val_set_int(&v, 1);
    for (;;) {
        tdl_case k[] = { { .chan = a, .val = &v, .op = TDL_SEND }, { .chan = b, .val = &v, .op = TDL_SEND } };
        int      i = tdl_select(k, 2, TDL_NOWAIT);
        if (i < 0) return sent;
        sent++;
        if (i == 0)
            a = NULL;
        else
            b = NULL;
    }
}

TEST_G(drop_as_used, "A8 a case dropped after use does not fire again") {
    tdl_chan *a = tdl_chan_new(1), *b = tdl_chan_new(1);
    CHECK_INT(send_each_once(a, b), 2);
    recv_int(a);
    CHECK_INT(send_each_once(a, NULL), 1);
    recv_int(a);
    recv_int(b);
    CHECK_INT(send_each_once(NULL, b), 1);
    CHECK_INT(send_each_once(NULL, NULL), 0);
    tdl_chan_free(a);
    tdl_chan_free(b);
}

/* -- A9: nothing is left on a quiet channel ---------------------------------------------- */

typedef struct two {
    tdl_chan *busy, *quiet;
    int       rounds;
} two;

static void send_rounds(void *arg) {
    two *t = arg;
    for (int i = 0; i < t->rounds; i++) send_int(t->busy, i);
}

static void select_rounds(two *t) {
    tdl_val v;
    crew    c;
    crew_open(&c);
    crew_go(&c, send_rounds, t);
    for (int i = 0; i < t->rounds; i++) {
        tdl_case k[] = { { .chan = t->quiet, .val = &v, .op = TDL_RECV }, { .chan = t->busy, .val = &v, .op = TDL_RECV } };
        CHECK_INT(tdl_select(k, 2, TDL_FOREVER), 1);
        CHECK_INT(tdl_val_int(&v), i);
    }
    crew_close(&c);
}

TEST_G(quiet_channel, "A9 100 000 selects leave nothing on a channel that stays quiet") {
    two t = { tdl_chan_new(0), tdl_chan_new(0), SCALE(1000) };
    select_rounds(&t);
    int64_t before = heap_bytes();
    t.rounds = SCALE(100000);
    select_rounds(&t);
    int64_t grown = heap_bytes() - before;
    CHECK_WITHIN(grown, INT64_MIN, 110 * 1024);
    tdl_val v;
    tdl_val_set_int(&v, 1);
    CHECK_RC(tdl_chan_try_send(t.quiet, &v), TDL_EAGAIN); /* nobody waits there any more */
    tdl_chan_free(t.busy);
    tdl_chan_free(t.quiet);
}

/* -- A11: every form of sender with every form of receiver ---------------------------------- */

enum form { PLAIN, ONE_CASE, TWO_CASES, FORMS };

typedef struct one_op {
    tdl_chan *ch, *other;
    enum form form;
    int       op;
} one_op;

static void do_op(void *arg) {
    one_op *o = arg;
    tdl_val v, *recv_to = NULL;
    tdl_val_set_int(&v, 1);
    if (o->form == PLAIN) {
        CHECK_RC(o->op == TDL_SEND ? tdl_chan_send(o->ch, &v) : tdl_chan_recv(o->ch, recv_to), 0);
        return;
    }
    tdl_case k[] = {
        { .chan = o->ch, .val = o->op == TDL_SEND ? &v : recv_to, .op = o->op },
        { .chan = o->other, .val = NULL, .op = TDL_RECV },
    };
    CHECK_INT(tdl_select(k, o->form == ONE_CASE ? 1 : 2, TDL_FOREVER), 0);
    CHECK_INT(k[0].ok, 1);
}

TEST_G(forms, "A11 plain, one-case and two-case send meet every form of receive") {
    for (int s = 0; s < FORMS; s++) {
        for (int r = 0; r < FORMS; r++) {
            for (int first = 0; first < 2; first++) {
                tdl_chan *ch = tdl_chan_new(0), *other = tdl_chan_new(0);
                one_op    send = { ch, other, (enum form)s, TDL_SEND }, recv = { ch, other, (enum form)r, TDL_RECV };
                crew      c;
                crew_open(&c);
                crew_go(&c, do_op, first ? &send : &recv);
                let_park();
                crew_go(&c, do_op, first ? &recv : &send);
                crew_close(&c);
                tdl_chan_free(ch);
                tdl_chan_free(other);
            }
        }
    }
}

TEST_G(value_and_ok, "A12 each single-case form delivers the value, the flag, or discards") {
    tdl_chan *ch = tdl_chan_new(4);
    tdl_val   v;
    for (int i = 1; i <= 3; i++) send_int(ch, i);
    tdl_case k = { .chan = ch, .val = &v, .op = TDL_RECV, .ok = 0 };
    CHECK_INT(tdl_select(&k, 1, TDL_FOREVER), 0);
    CHECK_INT(k.ok, 1);
    CHECK_INT(tdl_val_int(&v), 1);
    k.val = NULL; /* discards */
    CHECK_INT(tdl_select(&k, 1, TDL_NOWAIT), 0);
    CHECK_INT(tdl_chan_len(ch), 1);
    tdl_val_set_int(&v, 77);
    tdl_case s = { .chan = ch, .val = &v, .op = TDL_SEND, .ok = 0 };
    CHECK_INT(tdl_select(&s, 1, TDL_NOWAIT), 0);
    CHECK_INT(s.ok, 1);
    CHECK_INT(tdl_val_int(&v), 77); /* a send leaves the sender's value alone */
    CHECK_INT(recv_int(ch), 3);
    CHECK_INT(recv_int(ch), 77);
    tdl_chan_free(ch);
}

TEST_G(only_the_chosen, "A12 only the case that fired is written") {
    tdl_chan *ready = tdl_chan_new(1), *idle = tdl_chan_new(0);
    tdl_val   a, b;
    send_int(ready, 5);
    tdl_val_set_int(&a, -1);
    tdl_val_set_int(&b, -1);
    tdl_case k[] = { { .chan = idle, .val = &a, .op = TDL_RECV, .ok = 33 },
                     { .chan = ready, .val = &b, .op = TDL_RECV, .ok = 33 } };
    CHECK_INT(tdl_select(k, 2, TDL_FOREVER), 1);
    CHECK_INT(tdl_val_int(&a), -1);
    CHECK_INT(k[0].ok, 33);
    CHECK_INT(tdl_val_int(&b), 5);
    tdl_chan_free(ready);
    tdl_chan_free(idle);
}

TEST_G(same_channel_twice, "A12 one channel may stand in several cases") {
    tdl_chan *ch = tdl_chan_new(0);
    int       hits[3] = { 0 };
    two       t = { ch, NULL, 300 };
    crew      c;
    crew_open(&c);
    crew_go(&c, send_rounds, &t);
    for (int i = 0; i < t.rounds; i++) {
        tdl_val  v[3];
        tdl_case k[3];
        for (int j = 0; j < 3; j++) k[j] = (tdl_case){ .chan = ch, .val = &v[j], .op = TDL_RECV };
        int n = tdl_select(k, 3, TDL_FOREVER);
        REQUIRE(n >= 0 && n < 3);
        hits[n]++;
        CHECK_INT(tdl_val_int(&v[n]), i);
    }
    crew_close(&c);
    CHECK_INT(hits[0] + hits[1] + hits[2], 300);
    tdl_chan_free(ch);
}

enum { MANY = 1000 };

static void send_to_last(void *arg) {
    let_park();
    send_int(arg, 1);
}

TEST_G(many_cases, "A12 a select over 1 000 channels wakes for one of them, and leaves the others") {
    tdl_chan **ch = calloc(MANY, sizeof *ch);
    tdl_case  *k = calloc(MANY, sizeof *k);
    crew       c;
    crew_open(&c);
    for (int i = 0; i < MANY; i++) {
        ch[i] = tdl_chan_new(0);
        k[i] = (tdl_case){ .chan = ch[i], .val = NULL, .op = TDL_RECV };
    }
    for (int round = 0; round < 3; round++) {
        crew_go(&c, send_to_last, ch[MANY - 1 - round]);
        CHECK_INT(tdl_select(k, MANY, TDL_FOREVER), MANY - 1 - round);
        crew_wait(&c);
    }
    tdl_val v;
    tdl_val_set_int(&v, 0);
    for (int i = 0; i < MANY; i++) {
        CHECK_RC(tdl_chan_try_send(ch[i], &v), TDL_EAGAIN);
        tdl_chan_free(ch[i]);
    }
    crew_close(&c);
    free(ch);
    free(k);
}

/* -- A18: stress ----------------------------------------------------------------------------- */

enum { LANES = 4 };

typedef struct lanes {
    tdl_chan *ch[LANES];
    int       per_lane;
} lanes;

typedef struct lane {
    lanes *l;
    int    i;
} lane;

static void lane_send(void *arg) {
    lane *a = arg;
    for (int i = 0; i < a->l->per_lane; i++) CHECK_RC(send_int(a->l->ch[a->i], i), 0);
}

static void lane_recv(void *arg) {
    lane *a = arg;
    for (int i = 0; i < a->l->per_lane; i++) CHECK_RC(tdl_chan_recv(a->l->ch[a->i], NULL), 0);
}

static void select_all(lanes *l, int op) {
    tdl_case k[LANES];
    tdl_val  v;
    int      left[LANES];
    tdl_val_set_int(&v, 1);
    for (int i = 0; i < LANES; i++) {
        k[i] = (tdl_case){ .chan = l->ch[i], .val = &v, .op = op };
        left[i] = l->per_lane;
    }
    for (int n = LANES * l->per_lane; n > 0; n--) {
        int i = tdl_select(k, LANES, TDL_FOREVER);
        REQUIRE(i >= 0 && i < LANES);
        if (--left[i] == 0) k[i].chan = NULL;
    }
}

static void select_send(void *arg) { select_all(arg, TDL_SEND); }
static void select_recv_all(void *arg) { select_all(arg, TDL_RECV); }

TEST_G(stress, "A18 eight plain and two selecting goroutines on four channels count exactly") {
    static const uint32_t caps[LANES] = { 0, 0, 2, 3 };
    lanes                 l = { .per_lane = SCALE(50000) };
    lane                  a[LANES];
    crew                  c;
    check_limit(60);
    crew_open(&c);
    for (int i = 0; i < LANES; i++) {
        l.ch[i] = tdl_chan_new(caps[i]);
        a[i] = (lane){ &l, i };
    }
    for (int i = 0; i < LANES; i++) {
        crew_go(&c, lane_send, &a[i]);
        crew_go(&c, lane_recv, &a[i]);
    }
    crew_go(&c, select_send, &l);
    crew_go(&c, select_recv_all, &l);
    crew_close(&c);
    for (int i = 0; i < LANES; i++) {
        CHECK_INT(tdl_chan_len(l.ch[i]), 0);
        tdl_chan_free(l.ch[i]);
    }
}

/* -- A19, A20: fairness ------------------------------------------------------------------------ */

TEST_G(fair_recv, "A19 two ready and two idle cases: each ready one is chosen half of the time") {
    enum { TRIALS = 10000 };
    tdl_chan *a = tdl_chan_new(1), *b = tdl_chan_new(1), *c = tdl_chan_new(0), *d = tdl_chan_new(0);
    int       hits[4] = { 0 };
    tdl_chan_close(a);
    tdl_chan_close(b);
    for (int i = 0; i < TRIALS; i++) {
        tdl_case k[] = {
            { .chan = a, .op = TDL_RECV }, { .chan = c, .op = TDL_RECV },
            { .chan = b, .op = TDL_RECV }, { .chan = d, .op = TDL_RECV },
        };
        int n = tdl_select(k, 4, TDL_FOREVER);
        REQUIRE(n >= 0 && n < 4);
        hits[n]++;
    }
    CHECK_INT(hits[1] + hits[3], 0);
    /* one in a million fair coins is further off than 4.89 standard deviations */
    CHECK(fabs((double)hits[0] / TRIALS - 0.5) <= 4.89 / (2 * sqrt(TRIALS)));
    tdl_chan_free(a);
    tdl_chan_free(b);
    tdl_chan_free(c);
    tdl_chan_free(d);
}

TEST_G(fair_send, "A20 a choice between sending 1 and sending 0 gives both") {
    enum { N = 200 };
    tdl_chan *ch = tdl_chan_new(N);
    tdl_val   zero, one;
    int       ones = 0;
    tdl_val_set_int(&zero, 0);
    tdl_val_set_int(&one, 1);
    for (int i = 0; i < N; i++) {
        tdl_case k[] = { { .chan = ch, .val = &one, .op = TDL_SEND }, { .chan = ch, .val = &zero, .op = TDL_SEND } };
        CHECK(tdl_select(k, 2, TDL_FOREVER) >= 0);
    }
    for (int i = 0; i < N; i++) ones += (int)recv_int(ch);
    CHECK_WITHIN(ones, N / 5, N - N / 5);
    tdl_chan_free(ch);
}

/* -- Deadlines and cancels in select lose nothing ------------------------------------------------ */

typedef struct tally {
    tdl_chan    *a, *b;
    atomic_int   senders;
    atomic_llong sent, received;
} tally;

static void send_either(void *arg) {
    tally   *t = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    for (int i = 0; i < SCALE(3000); i++) {
        tdl_val v;
        tdl_val_set_int(&v, 1);
        tdl_case k[] = { { .chan = t->a, .val = &v, .op = TDL_SEND }, { .chan = t->b, .val = &v, .op = TDL_SEND } };
        int      n = tdl_select(k, 2, tdl_now() + (int64_t)(random_next(&seed) % 5000));
        if (n >= 0)
            atomic_fetch_add(&t->sent, 1);
        else
            CHECK_RC(n, TDL_ETIMEDOUT);
    }
    if (atomic_fetch_sub(&t->senders, 1) == 1) {
        tdl_chan_close(t->a);
        tdl_chan_close(t->b);
    }
}

static void receive_either(void *arg) {
    tally   *t = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    int      open = 2;
    tdl_val  v;
    tdl_case k[] = { { .chan = t->a, .val = &v, .op = TDL_RECV }, { .chan = t->b, .val = &v, .op = TDL_RECV } };
    while (open > 0) {
        int n = tdl_select(k, 2, tdl_now() + (int64_t)(random_next(&seed) % 5000));
        if (n < 0) {
            CHECK_RC(n, TDL_ETIMEDOUT);
        } else if (k[n].ok) {
            atomic_fetch_add(&t->received, 1);
        } else {
            k[n].chan = NULL;
            open--;
        }
    }
}

TEST_G(deadlines_lose_nothing, "A18 selects with deadlines on both sides lose and double nothing") {
    tally t = { .a = tdl_chan_new(0), .b = tdl_chan_new(1), .senders = 3 };
    crew  c;
    crew_open(&c);
    for (int i = 0; i < 3; i++) {
        crew_go(&c, send_either, &t);
        crew_go(&c, receive_either, &t);
    }
    crew_close(&c);
    CHECK_INT(atomic_load(&t.received), atomic_load(&t.sent));
    tdl_chan_free(t.a);
    tdl_chan_free(t.b);
}
