/* SPDX-License-Identifier: MIT
 * Makes random programs, and runs them. */
#include "program.h"

#include <string.h>

enum { LOCKS = 2, SEMAS = 2, UNIT = 1000, MAX_OPS = 20 };

static struct {
    uint64_t rng;
    int nchans, ncaps[MAX_CHANS];
    tdl_chan *chans[MAX_CHANS];
    tdl_mutex *mutexes[LOCKS + 1]; /* the last is the condition's */
    tdl_sema *semas[SEMAS];
    uint32_t permits[SEMAS];
    tdl_cond *cond;
    int items; /* the condition's: of a bounded buffer; under the mutex */
    tdl_waitgroup *all, *group;
    int ngroup;
    uint64_t closed; /* channels that somebody has closed, a bit each */
} p;

static uint64_t number(void) { /* splitmix64 */
    uint64_t z = p.rng += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static int below(int n) { return (int)(number() % (uint64_t)n); }

/* -- Operations, each noted ------------------------------------------------------------- */

static void begin(actor *a, int does, int object, int amount, int64_t deadline) {
    a->object = object;
    a->amount = amount;
    a->deadline = deadline;
    a->waits = 0;
    a->began = record_stamp();
    a->does = does;
}

/* What every result must obey: a deadline ends a wait at its time, and only a
 * cancelled goroutine is told so. `cancelled` is how it was at the beginning. */
static void end(actor *a, int64_t r, bool cancelled) {
    a->does = DOES_NOTHING;
    int64_t now = tdl_now();
    if (r == TDL_ETIMEDOUT && now < a->deadline) wrong("a deadline came early, by %ld ns", (long)(a->deadline - now));
    if (a->deadline > 0 && a->deadline != TDL_FOREVER && a->waits && now > a->deadline && a->object != LOCKS)
        wrong("a wait ended %ld ns after its deadline", (long)(now - a->deadline));
    if (r == TDL_ECANCELED && !a->asked) wrong("cancelled, and nobody asked");
    if (r != TDL_ECANCELED && cancelled) wrong("was cancelled before, and got %ld", (long)r);
    if (r == TDL_ECANCELED) a->stop = true;
}

/* Often the same times, so that they meet. */
static int64_t some_time(void) {
    static const int units[] = {1, 1, 2, 3, 5, 10, 100, 1200};
    return units[below(8)] * UNIT;
}

static int64_t some_deadline(void) {
    switch (below(6)) {
    case 0: return TDL_NOWAIT;
    case 1: return tdl_now() - below(2);
    default: return tdl_now() + some_time();
    }
}

static void one_part(actor *a, int chan, int value) {
    a->parts[0] = (part){chan, value};
    a->nparts = 1;
}

static int64_t send(actor *a, int chan, int64_t deadline) {
    int value = record_value();
    if (value < 0 || a->stop) return TDL_ECANCELED;
    tdl_val v;
    tdl_val_set_int(&v, value);
    bool cancelled = a->cancelled;
    one_part(a, chan, value);
    record_send_begins(value, chan);
    begin(a, DOES_SEND, chan, 0, deadline);
    int r = deadline == TDL_NOWAIT && below(2) ? tdl_chan_try_send(p.chans[chan], &v)
                                               : tdl_chan_send_until(p.chans[chan], &v, deadline);
    record_send_over(value, r == 0);
    end(a, r, cancelled && r != TDL_EAGAIN && deadline != TDL_NOWAIT);
    if (r == TDL_ECLOSED && !(p.closed >> chan & 1)) wrong("channel %d is open, and says closed", chan);
    return r;
}

static void judge_recv(actor *a, int chan, int64_t r, const tdl_val *v) {
    if (r == 0)
        record_received(chan, tdl_val_type(v) == TDL_INT ? tdl_val_int(v) : -1, a->began);
    else if (r != TDL_ECANCELED)
        record_empty(chan, a->began);
    if (r == TDL_ECLOSED && !(p.closed >> chan & 1)) wrong("channel %d is open, and says closed", chan);
}

static int64_t recv(actor *a, int chan, int64_t deadline) {
    if (a->stop) return TDL_ECANCELED;
    tdl_val v;
    bool cancelled = a->cancelled;
    one_part(a, chan, -1);
    begin(a, DOES_RECV, chan, 0, deadline);
    int r = deadline == TDL_NOWAIT && below(2) ? tdl_chan_try_recv(p.chans[chan], &v)
                                               : tdl_chan_recv_until(p.chans[chan], &v, deadline);
    judge_recv(a, chan, r, &v);
    end(a, r, cancelled && deadline != TDL_NOWAIT);
    return r;
}

static void select_some(actor *a) {
    int n = 1 + below(MAX_CASES);
    tdl_case cases[MAX_CASES];
    tdl_val values[MAX_CASES];
    for (int i = 0; i < n; i++) {
        int chan = below(p.nchans), value = below(2) ? record_value() : -1;
        a->parts[i] = (part){chan, value};
        cases[i] = (tdl_case){p.chans[chan], &values[i], value >= 0 ? TDL_SEND : TDL_RECV, 0};
        tdl_val_set_int(&values[i], value);
        if (value >= 0) record_send_begins(value, chan);
    }
    a->nparts = n;
    bool cancelled = a->cancelled;
    int64_t deadline = some_deadline();
    begin(a, DOES_SELECT, -1, 0, deadline);
    int r = tdl_select(cases, n, deadline);
    if (r >= n) wrong("select of %d says %d", n, r);
    for (int i = 0; i < n; i++) {
        bool fired = i == r;
        if (a->parts[i].value >= 0)
            record_send_over(a->parts[i].value, fired && cases[i].ok);
        else if (fired)
            judge_recv(a, a->parts[i].chan, cases[i].ok ? 0 : TDL_ECLOSED, &values[i]);
        else if (r == TDL_ETIMEDOUT || r == TDL_EAGAIN)
            record_empty(a->parts[i].chan, a->began);
    }
    if (r >= 0 && !cases[r].ok && !(p.closed >> a->parts[r].chan & 1)) wrong("select: open, and says closed");
    end(a, r, cancelled && deadline != TDL_NOWAIT);
}

static int64_t nap(actor *a, int64_t ns) {
    if (a->stop) return TDL_ECANCELED;
    bool cancelled = a->cancelled;
    begin(a, DOES_SLEEP, -1, 0, tdl_now() + ns);
    int r = tdl_sleep(ns);
    if (r == 0 && tdl_now() != a->deadline) wrong("a sleep ended %ld ns off", (long)(tdl_now() - a->deadline));
    end(a, r, cancelled);
    return r;
}

static bool lock(actor *a, int m, int64_t deadline) {
    if (a->stop) return false;
    bool cancelled = a->cancelled;
    begin(a, DOES_LOCK, m, 0, deadline);
    int r = deadline == TDL_NOWAIT ? tdl_mutex_trylock(p.mutexes[m]) : tdl_mutex_lock_until(p.mutexes[m], deadline);
    if (r == 0) record_locked(m);
    end(a, r, cancelled && deadline != TDL_NOWAIT);
    return r == 0;
}

static void unlock(int m) {
    record_unlocks(m);
    int r = tdl_mutex_unlock(p.mutexes[m]);
    if (r != 0) wrong("unlock of mutex %d: %s", m, tdl_errname(r));
}

static bool acquire(actor *a, int s, uint32_t n, int64_t deadline) {
    if (a->stop) return false;
    bool cancelled = a->cancelled;
    begin(a, DOES_ACQUIRE, s, (int)n, deadline);
    int r = deadline == TDL_NOWAIT ? tdl_sema_try_acquire(p.semas[s], n) : tdl_sema_acquire_until(p.semas[s], n, deadline);
    if (r == 0) record_acquired(a, s, n);
    end(a, r, cancelled && deadline != TDL_NOWAIT);
    return r == 0;
}

static void release(int s, uint32_t n) {
    record_releases(s, n);
    tdl_sema_release(p.semas[s], n);
}

/* The condition's mutex is held, before and after. */
static int64_t cond_wait(actor *a, int64_t deadline) {
    bool cancelled = a->cancelled;
    record_unlocks(LOCKS);
    begin(a, DOES_COND, LOCKS, 0, deadline);
    int r = tdl_cond_wait_until(p.cond, deadline);
    if (r != TDL_EAGAIN || deadline == TDL_NOWAIT) record_locked(LOCKS);
    end(a, r, cancelled && deadline != TDL_NOWAIT);
    return r;
}

/* -- What a goroutine does -------------------------------------------------------------------- */

static void in_between(actor *a) {
    switch (below(4)) {
    case 0: tdl_yield(); break;
    case 1: nap(a, some_time()); break;
    default: break;
    }
}

static void one_timer(actor *a) {
    int64_t due = tdl_now() + some_time();
    tdl_timer *t = tdl_timer_new(due, 0);
    if (!t) return;
    in_between(a);
    bool stopped = below(3) == 0;
    if (stopped) {
        if (tdl_timer_stop(t) != 1) wrong("a timer that was not received cannot be stopped");
    }
    tdl_val v;
    int64_t deadline = tdl_now() + some_time();
    bool cancelled = a->cancelled;
    if (!a->stop) {
        a->nparts = 0;
        begin(a, DOES_RECV, -1, 0, deadline);
        int r = tdl_chan_recv_until(tdl_timer_chan(t), &v, deadline);
        if (r == 0 && stopped) wrong("a timer fires after it was stopped");
        if (r == 0 && tdl_val_int(&v) != due) wrong("a timer says another time than it was due");
        if (r == 0 && tdl_now() < due) wrong("a timer fires early");
        if (r == 0 && a->waits && tdl_now() != due) wrong("a timer fires late");
        if (r == TDL_ETIMEDOUT && !stopped && due < deadline) wrong("a timer has not fired");
        end(a, r, cancelled);
    }
    tdl_timer_free(t);
}

static actor *someone(void);
static void start(void (*fn)(void *));

static void child(void *arg) {
    actor *a = arg;
    in_between(a);
    record_group_add(0, -1);
    tdl_waitgroup_done(p.group);
    a->over = true;
    tdl_waitgroup_done(p.all);
}

static void act(actor *a) {
    int m = below(LOCKS), s = below(SEMAS);
    switch (below(12)) {
    case 0:
    case 1: send(a, below(p.nchans), some_deadline()); break;
    case 2:
    case 3: recv(a, below(p.nchans), some_deadline()); break;
    case 4:
    case 5: select_some(a); break;
    case 6:
        if (!lock(a, m, some_deadline())) break;
        in_between(a);
        unlock(m);
        break;
    case 7: {
        uint32_t n = 1 + (uint32_t)below((int)p.permits[s]);
        if (!acquire(a, s, n, some_deadline())) break;
        in_between(a);
        release(s, n);
        break;
    }
    case 8:
        if (below(2)) {
            record_group_add(0, 1);
            tdl_waitgroup_add(p.group, 1);
            start(child);
        } else {
            bool cancelled = a->cancelled;
            int64_t deadline = tdl_now() + some_time();
            begin(a, DOES_GROUP, 0, 0, deadline);
            end(a, tdl_waitgroup_wait_until(p.group, deadline), cancelled);
        }
        break;
    case 9: one_timer(a); break;
    case 10:
        if (below(3) == 0) {
            actor *other = someone();
            if (!other || other->over || !other->g) break;
            other->asked = true;
            tdl_cancel(other->g);
            other->cancelled = true;
        } else if (below(8) == 0) {
            int chan = below(p.nchans);
            p.closed |= UINT64_C(1) << chan;
            if (tdl_chan_close(p.chans[chan]) == 0) record_closing(chan);
        } else {
            nap(a, some_time());
        }
        break;
    default: in_between(a); break;
    }
}

static void free_agent(void *arg) {
    actor *a = arg;
    for (int i = 1 + below(MAX_OPS); i > 0 && !a->stop && !record_failed(); i--) act(a);
    a->over = true;
    tdl_waitgroup_done(p.all);
}

/* Patterns that wait for ever, and never do. Nobody cancels them. */

static void locker(void *arg) {
    actor *a = arg;
    for (int i = 1 + below(4); i > 0; i--) {
        lock(a, 0, TDL_FOREVER);
        in_between(a);
        unlock(0);
    }
    a->over = true;
    tdl_waitgroup_done(p.all);
}

static void acquirer(void *arg) {
    actor *a = arg;
    for (int i = 1 + below(4); i > 0; i--) {
        uint32_t n = 1 + (uint32_t)below((int)p.permits[0]);
        acquire(a, 0, n, TDL_FOREVER);
        in_between(a);
        release(0, n);
    }
    a->over = true;
    tdl_waitgroup_done(p.all);
}

enum { PIECES = 5, ROOM = 2 };

/* A bounded buffer with one condition for both sides. */
static void maker(void *arg) {
    actor *a = arg;
    for (int i = 0; i < PIECES; i++) {
        lock(a, LOCKS, TDL_FOREVER);
        while (p.items == ROOM) cond_wait(a, TDL_FOREVER);
        p.items++;
        if (below(2)) in_between(a);
        tdl_cond_broadcast(p.cond);
        unlock(LOCKS);
    }
    a->over = true;
    tdl_waitgroup_done(p.all);
}

static void taker(void *arg) {
    actor *a = arg;
    for (int i = 0; i < PIECES; i++) {
        lock(a, LOCKS, TDL_FOREVER);
        while (p.items == 0) cond_wait(a, below(3) ? TDL_FOREVER : tdl_now() + some_time());
        p.items--;
        tdl_cond_broadcast(p.cond);
        unlock(LOCKS);
    }
    a->over = true;
    tdl_waitgroup_done(p.all);
}

/* The last two channels belong to them alone. */
static void producer(void *arg) {
    actor *a = arg;
    for (int i = 0; i < PIECES; i++) send(a, p.nchans, TDL_FOREVER);
    a->over = true;
    tdl_waitgroup_done(p.all);
}

static void consumer(void *arg) {
    actor *a = arg;
    for (int i = 0; i < PIECES; i++) recv(a, p.nchans, TDL_FOREVER);
    a->over = true;
    tdl_waitgroup_done(p.all);
}

/* -- The program ------------------------------------------------------------------------------- */

static actor *agents[MAX_ACTORS];
static int nagents;

static actor *someone(void) { return nagents ? agents[below(nagents)] : NULL; }

static void start(void (*fn)(void *)) {
    actor *a = record_actor();
    if (!a) {
        if (fn == child) {
            record_group_add(0, -1);
            tdl_waitgroup_done(p.group);
        }
        return;
    }
    tdl_waitgroup_add(p.all, 1);
    if (fn == free_agent) {
        tdl_go_options joinable = {.size = sizeof joinable, .flags = TDL_GO_JOINABLE};
        agents[nagents++] = a;
        a->g = tdl_go_opts(fn, a, &joinable);
    } else {
        tdl_go(fn, a);
    }
}

static void make(uint64_t seed) {
    memset(&p, 0, sizeof p);
    p.rng = seed;
    nagents = 0;
    p.nchans = 1 + below(3);
    for (int i = 0; i < p.nchans + 1; i++) {
        uint32_t cap = below(2) ? 0 : (uint32_t)below(4);
        p.chans[i] = tdl_chan_new(cap);
        record_chan(p.chans[i], cap);
    }
    for (int i = 0; i <= LOCKS; i++) {
        p.mutexes[i] = tdl_mutex_new();
        record_mutex();
    }
    p.cond = tdl_cond_new(p.mutexes[LOCKS]);
    for (int i = 0; i < SEMAS; i++) {
        p.permits[i] = 1 + (uint32_t)below(3);
        p.semas[i] = tdl_sema_new(p.permits[i]);
        record_sema(p.permits[i]);
    }
    p.group = tdl_waitgroup_new();
    record_group();
    p.all = tdl_waitgroup_new();
}

static void start_all(void) {
    static void (*const pairs[][2])(void *) = {
        {locker, locker}, {acquirer, acquirer}, {maker, taker}, {producer, consumer}};
    for (int i = 1 + below(8); i > 0; i--) start(free_agent);
    for (int i = below(4); i > 0; i--) {
        int k = below(4);
        start(pairs[k][0]);
        start(pairs[k][1]);
    }
}

/* Looks whenever all wait, until nobody is left. */
static void watch(void) {
    while (record_anybody() && !record_failed()) {
        tdl_sim_wait();
        if (!record_anybody()) break;
        int64_t next = record_quiet();
        if (record_failed()) break;
        if (next == TDL_FOREVER) {
            wrong("all wait for ever: a wake-up was lost");
            break;
        }
        tdl_sleep(next - tdl_now());
    }
}

static void drain(int chan) {
    tdl_val v;
    uint64_t began = record_stamp();
    tdl_chan_close(p.chans[chan]);
    while (tdl_chan_try_recv(p.chans[chan], &v) == 0) {
        record_received(chan, tdl_val_int(&v), began);
        began = record_stamp();
    }
}

static void unmake(void) {
    for (int i = 0; i < nagents; i++) tdl_join(agents[i]->g);
    for (int i = 0; i <= p.nchans; i++) drain(i);
    record_judge();
    for (int i = 0; i <= p.nchans; i++) tdl_chan_free(p.chans[i]);
    tdl_cond_free(p.cond);
    for (int i = 0; i <= LOCKS; i++) tdl_mutex_free(p.mutexes[i]);
    for (int i = 0; i < SEMAS; i++) tdl_sema_free(p.semas[i]);
    tdl_waitgroup_free(p.group);
    tdl_waitgroup_free(p.all);
}

int program_main(void *arg) {
    run *r = arg;
    record_reset(&r->v);
    make(r->seed);
    start_all();
    watch();
    if (record_failed()) return 1; /* whoever still waits is left behind */
    tdl_waitgroup_wait(p.all);
    unmake();
    return record_failed();
}
