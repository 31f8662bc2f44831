/* SPDX-License-Identifier: MIT
 * Memory order: what was written before a goroutine speaks is seen by whoever
 * hears it. All data here is plain, so that the thread sanitizer judges every
 * way to speak; without it the values are checked. */
#include "check.h"

#include <stdlib.h>

enum { WORDS = 8 };

/* Plain data, and one of each thing that can carry the news. */
typedef struct letter {
    int64_t        words[WORDS];
    tdl_chan      *ch;
    tdl_mutex     *m;
    tdl_waitgroup *wg;
    int            written; /* guarded by m */
    int            how;
} letter;

enum { BY_SEND, BY_BUFFER, BY_SELECT, BY_CLOSE, BY_WAITGROUP, BY_MUTEX, BY_TRY, WAYS };

static void write_words(letter *l, int64_t value) {
    for (int i = 0; i < WORDS; i++) l->words[i] = value + i;
}

static void check_words(letter *l, int64_t value) {
    for (int i = 0; i < WORDS; i++) CHECK_INT(l->words[i], value + i);
}

static void writer(void *arg) {
    letter  *l = arg;
    tdl_val  v;
    tdl_case k = { .chan = l->ch, .val = &v, .op = TDL_SEND };
    tdl_val_set_nil(&v);
    write_words(l, 100);
    switch (l->how) {
    case BY_SEND:
    case BY_BUFFER: CHECK_RC(tdl_chan_send(l->ch, &v), 0); break;
    case BY_SELECT: CHECK_INT(tdl_select(&k, 1, TDL_FOREVER), 0); break;
    case BY_CLOSE: CHECK_RC(tdl_chan_close(l->ch), 0); break;
    case BY_WAITGROUP: CHECK_RC(tdl_waitgroup_done(l->wg), 0); break;
    case BY_MUTEX:
        CHECK_RC(tdl_mutex_lock(l->m), 0);
        l->written = 1;
        CHECK_RC(tdl_mutex_unlock(l->m), 0);
        break;
    case BY_TRY:
        while (tdl_chan_try_send(l->ch, &v) == TDL_EAGAIN) tdl_yield();
        break;
    }
}

static void reader(void *arg) {
    letter  *l = arg;
    tdl_case k = { .chan = l->ch, .op = TDL_RECV };
    switch (l->how) {
    case BY_SEND:
    case BY_BUFFER: CHECK_RC(tdl_chan_recv(l->ch, NULL), 0); break;
    case BY_SELECT: CHECK_INT(tdl_select(&k, 1, TDL_FOREVER), 0); break;
    case BY_CLOSE: CHECK_RC(tdl_chan_recv(l->ch, NULL), TDL_ECLOSED); break;
    case BY_WAITGROUP: CHECK_RC(tdl_waitgroup_wait(l->wg), 0); break;
    case BY_MUTEX:
        for (int seen = 0; !seen;) {
            CHECK_RC(tdl_mutex_lock(l->m), 0);
            seen = l->written;
            CHECK_RC(tdl_mutex_unlock(l->m), 0);
            if (!seen) tdl_yield();
        }
        break;
    case BY_TRY:
        while (tdl_chan_try_recv(l->ch, NULL) == TDL_EAGAIN) tdl_yield();
        break;
    }
    check_words(l, 100);
    write_words(l, 200); /* and back: whoever waits for the crew sees it */
}

static void litmus(int how) {
    for (int kinds = 0; kinds < 4; kinds++)
        for (int round = 0; round < SCALE(200); round++) {
            letter l = { .how = how, .ch = tdl_chan_new(how == BY_BUFFER || how == BY_TRY), .m = tdl_mutex_new(), .wg = tdl_waitgroup_new() };
            crew   c;
            tdl_waitgroup_add(l.wg, 1);
            crew_open(&c);
            if (round % 2) {
                crew_start(&c, kinds & 1, writer, &l);
                crew_start(&c, kinds & 2, reader, &l);
            } else {
                crew_start(&c, kinds & 2, reader, &l);
                crew_start(&c, kinds & 1, writer, &l);
            }
            crew_close(&c);
            check_words(&l, 200);
            if (how != BY_WAITGROUP) tdl_waitgroup_done(l.wg);
            tdl_waitgroup_free(l.wg);
            tdl_mutex_free(l.m);
            tdl_chan_free(l.ch);
        }
}

TEST_G(by_send, "A23 a write before a send is seen after the receive") { litmus(BY_SEND); }
TEST_G(by_buffer, "A23 the same through a buffer") { litmus(BY_BUFFER); }
TEST_G(by_select, "A23 the same through select") { litmus(BY_SELECT); }
TEST_G(by_close, "A23 the same through close") { litmus(BY_CLOSE); }
TEST_G(by_waitgroup, "A23 the same through a wait group") { litmus(BY_WAITGROUP); }
TEST_G(by_mutex, "A23 the same through a mutex") { litmus(BY_MUTEX); }
TEST_G(by_try, "A23 the same through the try forms") { litmus(BY_TRY); }

/* -- The receive that makes room comes before the send that uses it ---------------------- */

enum { CAP = 3 };

typedef struct permits {
    tdl_chan *ch;
    int64_t   inside[CAP]; /* plain: at most CAP goroutines are inside, each with its own slot */
    tdl_chan *slots;
    int       rounds;
} permits;

static void enter_and_leave(void *arg) {
    permits *p = arg;
    for (int i = 0; i < p->rounds; i++) {
        tdl_val v;
        tdl_val_set_nil(&v);
        CHECK_RC(tdl_chan_send(p->ch, &v), 0); /* a permit */
        int64_t slot = recv_int(p->slots);
        p->inside[slot]++;
        if (i % 16 == 0) tdl_yield();
        CHECK_RC(send_int(p->slots, slot), 0);
        CHECK_RC(tdl_chan_recv(p->ch, NULL), 0);
    }
}

TEST_G(semaphore, "A23 the k-th receive happens before the (k + capacity)-th send: a channel is a semaphore") {
    permits p = { .ch = tdl_chan_new(CAP), .slots = tdl_chan_new(CAP), .rounds = SCALE(2000) };
    crew    c;
    int64_t total = 0;
    for (int i = 0; i < CAP; i++) send_int(p.slots, i);
    crew_open(&c);
    for (int i = 0; i < 6; i++) crew_start(&c, i == 0, enter_and_leave, &p);
    crew_close(&c);
    for (int i = 0; i < CAP; i++) total += p.inside[i];
    CHECK_INT(total, 6 * p.rounds);
    tdl_chan_free(p.ch);
    tdl_chan_free(p.slots);
}

typedef struct one_at_a_time {
    tdl_chan *token;
    int64_t   count; /* plain */
    int       rounds;
} one_at_a_time;

static void count_with_token(void *arg) {
    one_at_a_time *o = arg;
    tdl_val        v;
    tdl_val_set_nil(&v);
    for (int i = 0; i < o->rounds; i++) {
        CHECK_RC(tdl_chan_send(o->token, &v), 0);
        o->count++;
        CHECK_RC(tdl_chan_recv(o->token, NULL), 0);
    }
}

TEST_G(lock_of_one, "A23 a channel of capacity one is a lock: the receive happens before the next send completes") {
    one_at_a_time o = { .token = tdl_chan_new(1), .rounds = SCALE(3000) };
    crew          c;
    crew_open(&c);
    for (int i = 0; i < 5; i++) crew_start(&c, i >= 3, count_with_token, &o);
    crew_close(&c);
    CHECK_INT(o.count, 5 * o.rounds);
    tdl_chan_free(o.token);
}

/* -- Spawn, join, unbuffered receive ------------------------------------------------------------- */

typedef struct born {
    int64_t before, after;
} born;

static void read_and_write(void *arg) {
    born *b = arg;
    CHECK_INT(b->before, 11);
    b->after = 22;
}

TEST_G(spawn_join, "A23 what was written before a spawn is seen by the goroutine, what it wrote by who joins it") {
    for (int i = 0; i < SCALE(1000); i++) {
        born   b = { .before = 11 };
        tdl_g *g = go_joinable(read_and_write, &b);
        CHECK_RC(tdl_join(g), 0);
        CHECK_INT(b.after, 22);
        b.before = 0;
    }
}

static void receive_late(void *arg) {
    letter *l = arg;
    write_words(l, 300);
    CHECK_RC(tdl_chan_recv(l->ch, NULL), 0);
}

TEST_G(unbuffered_back, "A23 an unbuffered receive happens before the send completes") {
    for (int i = 0; i < SCALE(1000); i++) {
        letter l = { .ch = tdl_chan_new(0) };
        crew   c;
        crew_open(&c);
        crew_start(&c, i % 4 == 0, receive_late, &l);
        CHECK_RC(send_int(l.ch, 1), 0);
        check_words(&l, 300);
        crew_close(&c);
        tdl_chan_free(l.ch);
    }
}
