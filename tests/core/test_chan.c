/* SPDX-License-Identifier: MIT
 * Channels between goroutines: order, blocking, closing, counting. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

/* -- A1: the prime sieve ------------------------------------------------------ */

enum { PRIMES = 25 };
static const int primes[PRIMES] = { 2,  3,  5,  7,  11, 13, 17, 19, 23, 29, 31, 37, 41,
                                    43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97 };

typedef struct filter {
    tdl_chan *in, *out;
    int       prime;
} filter;

static void generate(void *arg) {
    for (int64_t i = 2; send_int(arg, i) == 0; i++) {}
}

static void pass_others(void *arg) {
    filter *f = arg;
    tdl_val v;
    while (tdl_chan_recv(f->in, &v) == 0)
        if (tdl_val_int(&v) % f->prime != 0 && tdl_chan_send(f->out, &v) != 0) break;
}

static void sieve(uint32_t cap) {
    filter    filters[PRIMES];
    tdl_chan *ch = tdl_chan_new(cap), *chans[PRIMES + 1];
    crew      c;
    crew_open(&c);
    chans[0] = ch;
    crew_go(&c, generate, ch);
    for (int i = 0; i < PRIMES; i++) {
        int64_t prime = recv_int(chans[i]);
        CHECK_INT(prime, primes[i]);
        chans[i + 1] = tdl_chan_new(cap);
        filters[i] = (filter){ chans[i], chans[i + 1], (int)prime };
        crew_go(&c, pass_others, &filters[i]);
    }
    for (int i = 0; i <= PRIMES; i++) CHECK_RC(tdl_chan_close(chans[i]), 0);
    crew_wait(&c);
    for (int i = 0; i <= PRIMES; i++) tdl_chan_free(chans[i]);
    crew_close(&c);
}

TEST_G(sieve_unbuffered, "A1 sieve over unbuffered channels finds the primes to 97") { sieve(0); }
TEST_G(sieve_buffered, "A1 sieve over buffered channels finds the primes to 97") { sieve(4); }

/* -- A3, A4: order --------------------------------------------------------------- */

TEST_G(fifo_buffered, "A3 a buffered channel is first in, first out") {
    tdl_chan *ch = tdl_chan_new(10);
    for (int round = 0; round < 3; round++) { /* the ring wraps */
        for (int i = 0; i < 7; i++) CHECK_RC(send_int(ch, i), 0);
        for (int i = 0; i < 7; i++) CHECK_INT(recv_int(ch), i);
    }
    tdl_chan_free(ch);
}

typedef struct daisy {
    tdl_chan *ch, *mine, *next;
    int       want;
} daisy;

static void receive_in_turn(void *arg) {
    daisy *d = arg;
    recv_int(d->mine);
    CHECK_INT(recv_int(d->ch), d->want);
    send_int(d->next, 1);
}

TEST_G(fifo_unbuffered, "A3 receivers in a daisy chain get unbuffered values in order") {
    enum { N = 10 };
    tdl_chan *ch = tdl_chan_new(0), *link[N + 1];
    daisy     d[N];
    crew      c;
    crew_open(&c);
    for (int i = 0; i <= N; i++) link[i] = tdl_chan_new(i == N);
    for (int i = 0; i < N; i++) {
        d[i] = (daisy){ ch, link[i], link[i + 1], i };
        crew_go(&c, receive_in_turn, &d[i]);
    }
    send_int(link[0], 1);
    for (int i = 0; i < N; i++) CHECK_RC(send_int(ch, i), 0);
    CHECK_INT(recv_int(link[N]), 1);
    crew_close(&c);
    for (int i = 0; i <= N; i++) tdl_chan_free(link[i]);
    tdl_chan_free(ch);
}

typedef struct in_order {
    tdl_chan *ch;
    int       got;
} in_order;

static void receive_one(void *arg) {
    in_order *w = arg;
    w->got = (int)recv_int(w->ch);
}

TEST_G(waiters_fifo, "A3 waiting receivers are served in the order they came") {
    enum { N = 8 };
    tdl_chan *ch = tdl_chan_new(0);
    in_order  w[N];
    crew      c;
    crew_open(&c);
    for (int i = 0; i < N; i++) {
        w[i] = (in_order){ ch, -1 };
        crew_go(&c, receive_one, &w[i]);
        let_park();
    }
    for (int i = 0; i < N; i++) CHECK_RC(send_int(ch, i), 0);
    crew_close(&c);
    for (int i = 0; i < N; i++) CHECK_INT(w[i].got, i);
    tdl_chan_free(ch);
}

typedef struct hop {
    tdl_chan *left, *right;
} hop;

static void pass_left(void *arg) {
    hop *h = arg;
    send_int(h->left, 1 + recv_int(h->right));
}

TEST_G(chain, "A4 a value crosses a chain of 10 000 goroutines") {
    int        n = SCALE(10000);
    hop       *hops = calloc((size_t)n, sizeof *hops);
    tdl_chan **chans = calloc((size_t)n + 1, sizeof *chans);
    crew       c;
    crew_open(&c);
    for (int i = 0; i <= n; i++) chans[i] = tdl_chan_new(0);
    for (int i = 0; i < n; i++) {
        hops[i] = (hop){ chans[i], chans[i + 1] };
        crew_go(&c, pass_left, &hops[i]);
    }
    CHECK_RC(send_int(chans[n], 0), 0);
    CHECK_INT(recv_int(chans[0]), n);
    crew_close(&c);
    for (int i = 0; i <= n; i++) tdl_chan_free(chans[i]);
    free(chans);
    free(hops);
}

/* -- A6, A15: the try forms ----------------------------------------------------------- */

TEST_G(try_forms, "A6 try forms never block and say whether they did something") {
    tdl_chan *sync = tdl_chan_new(0), *buffered = tdl_chan_new(1);
    tdl_val   v;
    tdl_val_set_int(&v, 7);
    CHECK_RC(tdl_chan_try_send(sync, &v), TDL_EAGAIN);
    CHECK_RC(tdl_chan_try_recv(sync, &v), TDL_EAGAIN);
    CHECK_RC(tdl_chan_try_recv(buffered, &v), TDL_EAGAIN);
    tdl_val_set_int(&v, 7);
    CHECK_RC(tdl_chan_try_send(buffered, &v), 0);
    CHECK_RC(tdl_chan_try_send(buffered, &v), TDL_EAGAIN);
    tdl_val_set_nil(&v);
    CHECK_RC(tdl_chan_try_recv(buffered, &v), 0);
    CHECK_INT(tdl_val_int(&v), 7);
    CHECK_RC(tdl_chan_recv_until(buffered, &v, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_chan_send_until(sync, &v, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_chan_try_recv(NULL, &v), TDL_EAGAIN);
    CHECK_RC(tdl_chan_try_send(NULL, &v), TDL_EAGAIN);
    tdl_chan_free(sync);
    tdl_chan_free(buffered);
}

static void receive_ints(void *arg) {
    for (int i = 0; i < 10; i++) CHECK_INT(recv_int(arg), i);
}

static void send_ints(void *arg) {
    for (int i = 0; i < 10; i++) CHECK_RC(send_int(arg, i), 0);
}

TEST_G(try_meets_parked, "A6 a try form succeeds as soon as its peer has parked") {
    tdl_chan *ch = tdl_chan_new(0);
    tdl_val   v;
    crew      c;
    crew_open(&c);
    crew_go(&c, receive_ints, ch);
    for (int i = 0; i < 10; i++) {
        tdl_val_set_int(&v, i);
        while (tdl_chan_try_send(ch, &v) == TDL_EAGAIN) tdl_yield();
    }
    crew_wait(&c);
    crew_go(&c, send_ints, ch);
    for (int i = 0; i < 10; i++) {
        int rc;
        while ((rc = tdl_chan_try_recv(ch, &v)) == TDL_EAGAIN) tdl_yield();
        CHECK_RC(rc, 0);
        CHECK_INT(tdl_val_int(&v), i);
    }
    crew_close(&c);
    tdl_chan_free(ch);
}

static void try_once(void *arg) {
    CHECK(tdl_chan_try_recv(*(tdl_chan **)arg, NULL) != TDL_EAGAIN);
}

TEST_G(try_recv_race, "A15 a try receive never misses what is there while the channel closes") {
    for (int i = 0; i < SCALE(10000); i++) {
        tdl_chan *ch = tdl_chan_new(1);
        crew      c;
        crew_open(&c);
        send_int(ch, 1);
        crew_go(&c, try_once, &ch);
        tdl_chan_close(ch);
        tdl_chan_recv(ch, NULL);
        crew_close(&c);
        tdl_chan_free(ch);
    }
}

/* -- A7, A24: nil channels and closed ones ---------------------------------------------- */

TEST_G(nil_blocks, "A7 a null channel blocks send and receive until the deadline") {
    tdl_val v;
    tdl_val_set_int(&v, 1);
    int64_t start = tdl_now();
    CHECK_RC(tdl_chan_recv_until(NULL, &v, start + 20 * TDL_MILLISECOND), TDL_ETIMEDOUT);
    CHECK_RC(tdl_chan_send_until(NULL, &v, start + 40 * TDL_MILLISECOND), TDL_ETIMEDOUT);
    CHECK_WITHIN(tdl_now() - start, 40 * TDL_MILLISECOND, 10 * TDL_SECOND);
}

static void recv_nil_for_ever(void *arg) { *(int *)arg = tdl_chan_recv(NULL, NULL); }

TEST_G(nil_cancel, "A7 a cancel ends the wait on a null channel") {
    int    rc = 0;
    tdl_g *g = go_joinable(recv_nil_for_ever, &rc);
    let_park();
    CHECK_INT(rc, 0);
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(rc, TDL_ECANCELED);
}

TEST_G(closed_recv, "A7 a closed channel gives nil and TDL_ECLOSED again and again") {
    tdl_chan *ch = tdl_chan_new(2);
    tdl_val   v;
    CHECK_INT(tdl_chan_closed(ch), 0);
    send_int(ch, 1);
    send_int(ch, 2);
    CHECK_RC(tdl_chan_close(ch), 0);
    CHECK_INT(tdl_chan_closed(ch), 1);
    CHECK_INT(recv_int(ch), 1);
    CHECK_INT(recv_int(ch), 2);
    for (int i = 0; i < 3; i++) {
        tdl_val_set_int(&v, 9);
        CHECK_RC(tdl_chan_recv(ch, &v), TDL_ECLOSED);
        CHECK_INT(tdl_val_type(&v), TDL_NIL);
        CHECK_RC(tdl_chan_try_recv(ch, &v), TDL_ECLOSED);
    }
    tdl_chan_free(ch);
}

TEST_G(close_errors, "A24 close of null, second close and send after close are three errors") {
    tdl_chan *ch = tdl_chan_new(1);
    tdl_val   v;
    tdl_val_set_int(&v, 1);
    CHECK_RC(tdl_chan_close(NULL), TDL_EINVAL);
    CHECK_RC(tdl_chan_close(ch), 0);
    CHECK_RC(tdl_chan_close(ch), TDL_ECLOSED);
    CHECK_RC(tdl_chan_send(ch, &v), TDL_ECLOSED);
    CHECK_RC(tdl_chan_try_send(ch, &v), TDL_ECLOSED);
    CHECK_RC(tdl_chan_send_until(ch, &v, tdl_now() + TDL_SECOND), TDL_ECLOSED);
    tdl_chan_free(ch);
    tdl_chan_free(NULL);
}

static void expect_closed_recv(void *arg) { CHECK_RC(tdl_chan_recv(arg, NULL), TDL_ECLOSED); }

static void expect_closed_send(void *arg) { CHECK_RC(send_int(arg, 1), TDL_ECLOSED); }

TEST_G(close_wakes, "A14 close wakes every waiting receiver and every waiting sender") {
    for (int sending = 0; sending < 2; sending++) {
        tdl_chan *ch = tdl_chan_new(0);
        crew      c;
        crew_open(&c);
        for (int i = 0; i < 20; i++) crew_go(&c, sending ? expect_closed_send : expect_closed_recv, ch);
        let_park();
        CHECK_RC(tdl_chan_close(ch), 0);
        crew_close(&c);
        tdl_chan_free(ch);
    }
}

TEST_G(free_closes, "A14 giving the last handle back closes the channel for those who wait") {
    tdl_chan *ch = tdl_chan_new(0);
    crew      c;
    crew_open(&c);
    CHECK(tdl_chan_ref(ch) == ch);
    for (int i = 0; i < 4; i++) crew_go(&c, expect_closed_recv, ch);
    let_park();
    tdl_chan_free(ch); /* the other handle is still there */
    let_park();
    CHECK_INT(tdl_chan_closed(ch), 0);
    tdl_chan_free(ch);
    crew_close(&c);
}

/* -- A14: the table of capacities --------------------------------------------------------- */

typedef struct parked {
    tdl_chan  *ch;
    atomic_int done;
} parked;

static void recv_then_mark(void *arg) {
    parked *p = arg;
    CHECK_INT(recv_int(p->ch), -1);
    atomic_store(&p->done, 1);
}

static void send_then_mark(void *arg) {
    parked *p = arg;
    CHECK_RC(send_int(p->ch, 1000), 0);
    atomic_store(&p->done, 1);
}

static void one_capacity(uint32_t cap) {
    parked  p = { .ch = tdl_chan_new(cap) };
    tdl_val v;
    crew    c;
    crew_open(&c);
    CHECK_INT(tdl_chan_cap(p.ch), cap);
    CHECK_RC(tdl_chan_try_recv(p.ch, &v), TDL_EAGAIN);
    crew_go(&c, recv_then_mark, &p);
    for (int i = 0; i < 5; i++) tdl_yield();
    CHECK_INT(atomic_load(&p.done), 0); /* receive on empty blocks */
    CHECK_RC(send_int(p.ch, -1), 0);
    crew_wait(&c);

    atomic_store(&p.done, 0);
    for (uint32_t i = 0; i < cap; i++) {
        CHECK_INT(tdl_chan_len(p.ch), i);
        CHECK_RC(send_int(p.ch, i), 0);
    }
    CHECK_INT(tdl_chan_len(p.ch), cap);
    tdl_val_set_int(&v, 0);
    CHECK_RC(tdl_chan_try_send(p.ch, &v), TDL_EAGAIN);
    crew_go(&c, send_then_mark, &p);
    for (int i = 0; i < 5; i++) tdl_yield();
    CHECK_INT(atomic_load(&p.done), 0); /* send on full blocks */
    for (uint32_t i = 0; i < cap; i++) CHECK_INT(recv_int(p.ch), i);
    CHECK_INT(recv_int(p.ch), 1000);
    crew_wait(&c);

    for (uint32_t i = 0; i < cap; i++) send_int(p.ch, i);
    CHECK_RC(tdl_chan_close(p.ch), 0);
    for (uint32_t i = 0; i < cap; i++) CHECK_INT(recv_int(p.ch), i);
    CHECK_RC(tdl_chan_recv(p.ch, &v), TDL_ECLOSED);
    crew_close(&c);
    tdl_chan_free(p.ch);
}

TEST_G(capacities, "A14 capacities 0 to 199: blocking, length, order, drain after close") {
    for (uint32_t cap = 0; cap < 200; cap += CHECK_SLOWDOWN > 1 ? 7 : 1) one_capacity(cap);
}

enum { EACH = 1000, PRODUCERS = 4, CONSUMERS = 4 };

typedef struct market {
    tdl_chan *ch, *results;
} market;

static void produce(void *arg) {
    market *m = arg;
    for (int i = 0; i < EACH; i++) send_int(m->ch, i);
}

static void consume(void *arg) {
    market *m = arg;
    int    *seen = calloc(EACH, sizeof *seen);
    tdl_val v;
    while (tdl_chan_recv(m->ch, &v) == 0) seen[tdl_val_int(&v)]++;
    tdl_val_set_ptr(&v, seen);
    tdl_chan_send(m->results, &v);
}

TEST_G(producers_consumers, "A14 four producers, four consumers: each value exactly four times") {
    static const uint32_t caps[] = { 0, 1, 7, 128 };
    for (unsigned k = 0; k < sizeof caps / sizeof *caps; k++) {
        market m = { tdl_chan_new(caps[k]), tdl_chan_new(0) };
        crew   producers, consumers;
        int    total[EACH] = { 0 };
        crew_open(&producers);
        crew_open(&consumers);
        for (int i = 0; i < CONSUMERS; i++) crew_go(&consumers, consume, &m);
        for (int i = 0; i < PRODUCERS; i++) crew_go(&producers, produce, &m);
        crew_close(&producers);
        CHECK_RC(tdl_chan_close(m.ch), 0);
        for (int i = 0; i < CONSUMERS; i++) {
            tdl_val v;
            CHECK_RC(tdl_chan_recv(m.results, &v), 0);
            int *seen = tdl_val_ptr(&v);
            for (int j = 0; j < EACH; j++) total[j] += seen[j];
            free(seen);
        }
        crew_close(&consumers);
        for (int j = 0; j < EACH; j++) CHECK_INT(total[j], PRODUCERS);
        tdl_chan_free(m.ch);
        tdl_chan_free(m.results);
    }
}

/* -- A13 and what a channel carries -------------------------------------------------------- */

TEST_G(nils_travel, "A13 nil values travel and are told from a closed channel") {
    for (uint32_t cap = 0; cap < 3; cap++) {
        tdl_chan *ch = tdl_chan_new(cap + 1);
        tdl_val   v;
        tdl_val_set_nil(&v);
        for (uint32_t i = 0; i <= cap; i++) CHECK_RC(tdl_chan_send(ch, &v), 0);
        CHECK_INT(tdl_chan_len(ch), cap + 1);
        for (uint32_t i = 0; i <= cap; i++) {
            tdl_val_set_int(&v, 1);
            CHECK_RC(tdl_chan_recv(ch, &v), 0);
            CHECK_INT(tdl_val_type(&v), TDL_NIL);
        }
        tdl_chan_free(ch);
    }
}

static void send_bytes(void *arg) {
    tdl_val v;
    char    text[100];
    for (int i = 0; i < 100; i++) {
        memset(text, 'a' + i % 26, sizeof text);
        CHECK_RC(tdl_val_set_bytes(&v, text, (size_t)i), 0);
        CHECK_RC(tdl_chan_send(arg, &v), 0);
        tdl_val_clear(&v); /* the receiver holds its own */
    }
    tdl_chan_close(arg);
}

TEST_G(bytes_travel, "A13 bytes of every length up to 99 arrive whole, and are given back") {
    for (uint32_t cap = 0; cap < 2; cap++) {
        tdl_chan *ch = tdl_chan_new(cap);
        tdl_val   v;
        crew      c;
        size_t    n;
        crew_open(&c);
        crew_go(&c, send_bytes, ch);
        for (int i = 0; tdl_chan_recv(ch, &v) == 0; i++) {
            const char *p = tdl_val_bytes(&v, &n);
            CHECK_INT(n, i);
            for (size_t j = 0; j < n; j++) CHECK_INT(p[j], 'a' + i % 26);
            tdl_val_clear(&v);
        }
        crew_close(&c);
        tdl_chan_free(ch);
    }
}

TEST_G(bytes_dropped, "A13 bytes left in a freed channel, or received into nothing, do not leak") {
    tdl_chan *ch = tdl_chan_new(8);
    tdl_val   v;
    for (int i = 0; i < 8; i++) {
        tdl_val_set_bytes(&v, "left behind", 11);
        CHECK_RC(tdl_chan_send(ch, &v), 0);
        tdl_val_clear(&v);
    }
    CHECK_RC(tdl_chan_recv(ch, NULL), 0);
    tdl_chan_free(ch); /* the address sanitizer would find the rest */
}

static void answer(void *arg) {
    tdl_val v;
    CHECK_RC(tdl_chan_recv(arg, &v), 0);
    CHECK_INT(tdl_val_type(&v), TDL_CHAN);
    tdl_chan *reply = tdl_val_chan(&v);
    tdl_val_clear(&v);
    CHECK_RC(send_int(reply, 42), 0);
    tdl_chan_free(reply);
}

TEST_G(chans_travel, "A13 a channel sent through a channel works at the other end") {
    tdl_chan *requests = tdl_chan_new(0), *reply = tdl_chan_new(0);
    tdl_val   v;
    crew      c;
    crew_open(&c);
    crew_go(&c, answer, requests);
    CHECK_RC(tdl_val_set_chan(&v, reply), 0);
    CHECK_RC(tdl_chan_send(requests, &v), 0);
    tdl_val_clear(&v);
    CHECK_INT(recv_int(reply), 42);
    crew_close(&c);
    tdl_chan_free(requests);
    CHECK_INT(tdl_chan_closed(reply), 0); /* the others gave only their holders back */
    tdl_chan_free(reply);
}

TEST_G(chan_in_dead_chan, "A13 a channel left in a freed channel is freed with it") {
    tdl_chan *outer = tdl_chan_new(1), *inner = tdl_chan_new(0);
    tdl_val   v;
    CHECK_RC(tdl_val_set_chan(&v, inner), 0);
    CHECK_RC(tdl_chan_send(outer, &v), 0);
    tdl_val_clear(&v);
    tdl_chan_free(inner);
    tdl_chan_free(outer); /* the count of channels is checked after the test */
}

/* -- Deadlines and cancels lose nothing ------------------------------------------------------- */

typedef struct hurry {
    tdl_chan     *ch;
    atomic_int    senders;
    atomic_llong  sent, received, sent_sum, received_sum;
    atomic_int    timeouts;
} hurry;

static void send_in_a_hurry(void *arg) {
    hurry   *h = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    for (int i = 0; i < SCALE(4000); i++) {
        tdl_val v;
        int64_t x = (int64_t)(random_next(&seed) % 1000);
        tdl_val_set_int(&v, x);
        int rc = tdl_chan_send_until(h->ch, &v, tdl_now() + (int64_t)(random_next(&seed) % 4000));
        if (rc == 0) {
            atomic_fetch_add(&h->sent, 1);
            atomic_fetch_add(&h->sent_sum, x);
        } else {
            CHECK_RC(rc, TDL_ETIMEDOUT);
            atomic_fetch_add(&h->timeouts, 1);
        }
    }
    if (atomic_fetch_sub(&h->senders, 1) == 1) tdl_chan_close(h->ch);
}

static void receive_in_a_hurry(void *arg) {
    hurry   *h = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    for (;;) {
        tdl_val v;
        int     rc = tdl_chan_recv_until(h->ch, &v, tdl_now() + (int64_t)(random_next(&seed) % 4000));
        if (rc == TDL_ECLOSED) break;
        if (rc == 0) {
            atomic_fetch_add(&h->received, 1);
            atomic_fetch_add(&h->received_sum, tdl_val_int(&v));
        } else {
            CHECK_RC(rc, TDL_ETIMEDOUT);
            atomic_fetch_add(&h->timeouts, 1);
        }
    }
}

TEST_G(deadlines_lose_nothing, "A14 with deadlines on both sides no value is lost or doubled") {
    for (uint32_t cap = 0; cap < 2; cap++) {
        hurry h = { .ch = tdl_chan_new(cap), .senders = 3 };
        crew  c;
        crew_open(&c);
        for (int i = 0; i < 3; i++) crew_go(&c, send_in_a_hurry, &h);
        for (int i = 0; i < 3; i++) crew_go(&c, receive_in_a_hurry, &h);
        crew_close(&c);
        CHECK_INT(atomic_load(&h.received), atomic_load(&h.sent));
        CHECK_INT(atomic_load(&h.received_sum), atomic_load(&h.sent_sum));
        CHECK_INT(tdl_chan_len(h.ch), 0);
        tdl_chan_free(h.ch);
    }
}

TEST_G(past_deadline, "A14 a ready channel wins over a deadline that has passed") {
    tdl_chan *ch = tdl_chan_new(1);
    tdl_val   v;
    tdl_val_set_int(&v, 5);
    CHECK_RC(tdl_chan_recv_until(ch, &v, 1), TDL_ETIMEDOUT);
    tdl_val_set_int(&v, 5);
    CHECK_RC(tdl_chan_send_until(ch, &v, 1), 0);
    CHECK_RC(tdl_chan_send_until(ch, &v, 1), TDL_ETIMEDOUT);
    CHECK_RC(tdl_chan_recv_until(ch, &v, 1), 0);
    CHECK_INT(tdl_val_int(&v), 5);
    tdl_chan_free(ch);
}

typedef struct cancelled {
    tdl_chan *ch;
    int       first, second, third;
} cancelled;

static void be_cancelled(void *arg) {
    cancelled *c = arg;
    c->first = tdl_chan_recv(c->ch, NULL);
    c->second = send_int(c->ch, 1);
    c->third = tdl_sleep(TDL_MILLISECOND);
}

/* -- A14: what was received belongs to the receiver alone ----------------------------------- */

struct taker {
    tdl_chan *ch, *taken;
    tdl_val kept; /* a second holder of what was received */
    int by_select;
};

/* Receives bytes, hands them on, and is left behind in another wait. */
static void takes_and_stays(void *arg) {
    struct taker *t = arg;
    tdl_val v;
    tdl_case c = {t->ch, &v, TDL_RECV, 0};
    CHECK_INT(t->by_select ? tdl_select(&c, 1, TDL_FOREVER) : tdl_chan_recv(t->ch, &v), 0);
    tdl_val_copy(&t->kept, &v);
    tdl_val_clear(&v);
    CHECK_INT(tdl_chan_close(t->taken), 0);
    tdl_sleep(TDL_HOUR);
}

static int hands_over(void *arg) {
    struct taker *t = arg;
    tdl_val v;
    CHECK_INT(tdl_val_set_bytes(&v, "once", 4), 0);
    tdl_go(takes_and_stays, t);
    tdl_yield(); /* it waits now: the value comes to it through its wait */
    CHECK_INT(tdl_chan_send(t->ch, &v), 0);
    tdl_val_clear(&v);
    CHECK_INT(tdl_chan_recv(t->taken, NULL), TDL_ECLOSED);
    tdl_sleep(TDL_MILLISECOND);
    return 0;
}

TEST(received_once, "A14 the end of a run does not give up again what a goroutine had received before") {
    for (int by_select = 0; by_select < 2; by_select++) {
        struct taker t = {.ch = tdl_chan_new(0), .taken = tdl_chan_new(0), .by_select = by_select};
        size_t n;
        CHECK_INT(tdl_run(hands_over, &t), 0);
        CHECK(memcmp(tdl_val_bytes(&t.kept, &n), "once", 4) == 0 && n == 4);
        tdl_val_clear(&t.kept);
        tdl_chan_free(t.ch);
        tdl_chan_free(t.taken);
    }
}

TEST_G(cancel, "A14 a cancel ends this call and every later one that would wait") {
    cancelled c = { .ch = tdl_chan_new(0) };
    tdl_g    *g = go_joinable(be_cancelled, &c);
    let_park();
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_RC(c.first, TDL_ECANCELED);
    CHECK_RC(c.second, TDL_ECANCELED);
    CHECK_RC(c.third, TDL_ECANCELED);
    tdl_chan_free(c.ch);
}

typedef struct contest {
    tdl_chan *ch;
    int       rc;
} contest;

static void receive_or_be_cancelled(void *arg) {
    contest *c = arg;
    c->rc = tdl_chan_recv(c->ch, NULL);
}

static void cancel_it(void *arg) { CHECK_RC(tdl_cancel(arg), 0); }

TEST_G(cancel_keeps_value, "A14 a value handed over before the cancel is kept, otherwise stays with the sender") {
    int both[2] = { 0, 0 };
    for (int i = 0; i < SCALE(3000); i++) {
        contest k = { tdl_chan_new(0), 99 };
        tdl_val v;
        crew    c;
        crew_open(&c);
        tdl_g *g = go_joinable(receive_or_be_cancelled, &k);
        for (int j = 0; j < i % 4; j++) tdl_yield();
        crew_go(&c, cancel_it, g);
        tdl_val_set_int(&v, i);
        int sent;
        for (int j = 0; (sent = tdl_chan_try_send(k.ch, &v)) == TDL_EAGAIN && j < 20; j++) tdl_yield();
        crew_close(&c);
        CHECK_RC(tdl_join(g), 0);
        CHECK_RC(k.rc, sent == 0 ? 0 : TDL_ECANCELED);
        both[sent == 0]++;
        tdl_chan_free(k.ch);
    }
    CHECK_INT(both[0] + both[1], SCALE(3000));
}

/* -- Goroutines that the end of the run leaves behind --------------------------------------------- */

static tdl_chan *abandoned;

static void wait_for_ever(void *arg) {
    (void)arg;
    tdl_chan_recv(abandoned, NULL);
    CHECK(!"a goroutine ran after its run had ended");
}

static void leave_goroutines(void) {
    for (int i = 0; i < 10; i++) tdl_go(wait_for_ever, NULL);
    let_park();
}

TEST(left_behind, "A7 goroutines left waiting on a channel at the end of a run are gone, and the channel is free") {
    abandoned = tdl_chan_new(0);
    check_run(leave_goroutines);
    tdl_val v;
    tdl_val_set_int(&v, 1);
    CHECK_RC(tdl_chan_try_send(abandoned, &v), TDL_EAGAIN); /* nobody is there to take it */
    tdl_chan_free(abandoned);
}
