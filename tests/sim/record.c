/* SPDX-License-Identifier: MIT
 * What happened, and whether it may have. */
#include "program.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_OBJECTS = 8, MAX_EMPTIES = 512 };

typedef struct value {
    int chan;
    uint64_t send_began, send_over, recv_began, recv_over; /* 0: not yet */
    bool sent, failed;
} value;

static struct {
    verdict *v;
    uint64_t stamp, looks;
    actor actors[MAX_ACTORS];
    int nactors;
    value values[MAX_VALUES];
    int nvalues;
    struct {
        tdl_chan *ch;
        uint32_t cap;
        bool closing;
        /* in the window between two looks: who got something, though others waited */
        uint64_t newest_recv, newest_send;
    } chans[MAX_CHANS];
    int nchans;
    struct {
        int chan;
        uint64_t began, over;
    } empties[MAX_EMPTIES];
    int nempties;
    struct {
        bool held;
    } mutexes[MAX_OBJECTS];
    int nmutexes;
    struct {
        int64_t permits, newest;
    } semas[MAX_OBJECTS];
    int nsemas;
    struct {
        int64_t count;
    } groups[MAX_OBJECTS];
    int ngroups;
} r;

void record_reset(verdict *v) {
    memset(&r, 0, sizeof r);
    memset(v, 0, sizeof *v);
    r.v = v;
}

void wrong(const char *format, ...) {
    if (r.v->text[0]) return;
    va_list args;
    va_start(args, format);
    vsnprintf(r.v->text, sizeof r.v->text, format, args);
    va_end(args);
}

bool record_failed(void) { return r.v->text[0] != '\0'; }

uint64_t record_stamp(void) { return ++r.stamp; }

actor *record_actor(void) {
    if (r.nactors == MAX_ACTORS) return NULL;
    actor *a = &r.actors[r.nactors++];
    a->used = true;
    return a;
}

/* -- Channels ---------------------------------------------------------------------- */

int record_chan(tdl_chan *ch, uint32_t cap) {
    r.chans[r.nchans].ch = ch;
    r.chans[r.nchans].cap = cap;
    return r.nchans++;
}

void record_closing(int chan) { r.chans[chan].closing = true; }

int record_value(void) { return r.nvalues < MAX_VALUES ? r.nvalues++ : -1; }

void record_send_begins(int value, int chan) {
    r.values[value].chan = chan;
    r.values[value].send_began = record_stamp();
}

void record_send_over(int value, bool sent) {
    r.values[value].send_over = record_stamp();
    r.values[value].sent = sent;
    r.values[value].failed = !sent;
    int chan = r.values[value].chan;
    if (sent && r.values[value].send_began > r.chans[chan].newest_send)
        r.chans[chan].newest_send = r.values[value].send_began;
}

void record_received(int chan, int64_t value, uint64_t began) {
    if (value < 0 || value >= r.nvalues) {
        wrong("channel %d delivers %" PRId64 ", which nobody sent", chan, value);
        return;
    }
    struct value *v = &r.values[value];
    if (v->chan != chan) wrong("value %" PRId64 " of channel %d comes from channel %d", value, v->chan, chan);
    if (!v->send_began) wrong("value %" PRId64 " is received before it is sent", value);
    if (v->recv_over) wrong("value %" PRId64 " is received twice", value);
    v->recv_began = began;
    v->recv_over = record_stamp();
    if (began > r.chans[chan].newest_recv) r.chans[chan].newest_recv = began;
}

void record_empty(int chan, uint64_t began) {
    if (r.nempties == MAX_EMPTIES) return;
    r.empties[r.nempties].chan = chan;
    r.empties[r.nempties].began = began;
    r.empties[r.nempties++].over = record_stamp();
}

/* -- Locks, permits, groups ------------------------------------------------------------ */

int record_mutex(void) { return r.nmutexes++; }

void record_locked(int mutex) {
    if (r.mutexes[mutex].held) wrong("mutex %d is locked twice", mutex);
    r.mutexes[mutex].held = true;
}

void record_unlocks(int mutex) { r.mutexes[mutex].held = false; }

int record_sema(uint32_t permits) {
    r.semas[r.nsemas].permits = permits;
    return r.nsemas++;
}

void record_acquired(actor *a, int sema, uint32_t n) {
    if ((r.semas[sema].permits -= n) < 0) wrong("semaphore %d gave more than it has", sema);
    if ((int64_t)a->began > r.semas[sema].newest) r.semas[sema].newest = (int64_t)a->began;
}

void record_releases(int sema, uint32_t n) { r.semas[sema].permits += n; }

int record_group(void) { return r.ngroups++; }

void record_group_add(int group, int n) { r.groups[group].count += n; }

/* -- When all wait -------------------------------------------------------------------------- */

static bool waits_on(const actor *a, int chan, bool sending) {
    if (a->does != DOES_SEND && a->does != DOES_RECV && a->does != DOES_SELECT) return false;
    for (int i = 0; i < a->nparts; i++)
        if (a->parts[i].chan == chan && (a->parts[i].value >= 0) == sending) return true;
    return false;
}

static void look_at_chan(int c) {
    const actor *receiver = NULL, *sender = NULL, *other_receiver = NULL;
    for (int i = 0; i < r.nactors; i++) {
        actor *a = &r.actors[i];
        if (a->over) continue;
        if (waits_on(a, c, false)) {
            if (receiver) other_receiver = a;
            receiver = a;
            if (a->waits && r.chans[c].newest_recv > a->waits)
                wrong("channel %d: a receiver was overtaken", c);
        }
        if (waits_on(a, c, true)) {
            sender = a;
            if (a->waits && r.chans[c].newest_send > a->waits)
                wrong("channel %d: a sender was overtaken", c);
        }
    }
    uint32_t n = tdl_chan_len(r.chans[c].ch), cap = r.chans[c].cap;
    bool two = receiver && sender && (receiver != sender || other_receiver);
    if (r.chans[c].closing && (receiver || sender)) wrong("channel %d is closed, and somebody waits", c);
    if (n > cap) wrong("channel %d holds %u of %u", c, n, cap);
    if (receiver && n > 0) wrong("channel %d holds %u, and a receiver waits", c, n);
    if (sender && n < cap) wrong("channel %d has room, and a sender waits", c);
    if (two) wrong("channel %d: a sender and a receiver wait", c);
    r.chans[c].newest_recv = r.chans[c].newest_send = 0;
}

static bool any_waits(int does, int object, const actor **who) {
    *who = NULL;
    for (int i = 0; i < r.nactors; i++) {
        const actor *a = &r.actors[i];
        if (a->over || a->does != does || a->object != object) continue;
        if (!*who || a->amount < (*who)->amount) *who = a;
    }
    return *who != NULL;
}

static void look_at_sema(int s) {
    const actor *least, *a;
    bool first_may = any_waits(DOES_ACQUIRE, s, &least);
    for (int i = 0; i < r.nactors; i++) {
        a = &r.actors[i];
        if (a->over || a->does != DOES_ACQUIRE || a->object != s) continue;
        if (a->amount > r.semas[s].permits) first_may = false;
        if (a->waits && r.semas[s].newest > (int64_t)a->waits) wrong("semaphore %d: a waiter was overtaken", s);
    }
    if (first_may) wrong("semaphore %d has %" PRId64 ", and all who wait want no more", s, r.semas[s].permits);
    r.semas[s].newest = 0;
}

int64_t record_quiet(void) {
    const actor *a;
    int64_t now = tdl_now(), next = TDL_FOREVER;
    r.v->quiet++;
    for (int c = 0; c < r.nchans; c++) look_at_chan(c);
    for (int m = 0; m < r.nmutexes; m++)
        if (!r.mutexes[m].held && any_waits(DOES_LOCK, m, &a)) wrong("mutex %d is free, and somebody waits", m);
    for (int s = 0; s < r.nsemas; s++) look_at_sema(s);
    for (int g = 0; g < r.ngroups; g++)
        if (r.groups[g].count == 0 && any_waits(DOES_GROUP, g, &a)) wrong("group %d is done, and somebody waits", g);
    uint64_t stamp = record_stamp();
    for (int i = 0; i < r.nactors; i++) {
        actor *who = &r.actors[i];
        if (who->over) continue;
        if (who->does == DOES_NOTHING) {
            wrong("goroutine %d waits in no operation", i);
            continue;
        }
        if (!who->waits) who->waits = stamp;
        /* who waits on a condition comes back with the mutex, whatever happens */
        bool for_mutex = who->does == DOES_COND && r.mutexes[who->object].held;
        if (who->cancelled && !for_mutex) wrong("goroutine %d is cancelled, and waits", i);
        if (who->deadline <= now && !for_mutex) wrong("goroutine %d waits beyond its deadline", i);
        if (who->deadline > now && who->deadline < next) next = who->deadline;
    }
    return next;
}

bool record_anybody(void) {
    for (int i = 0; i < r.nactors; i++)
        if (!r.actors[i].over) return true;
    return false;
}

/* -- At the end ----------------------------------------------------------------------------- */

/* Was value i certainly in its channel from before `from` until after `to`? */
static bool there(const value *v, uint64_t from, uint64_t to) {
    return v->sent && v->send_over < from && (!v->recv_began || v->recv_began > to);
}

void record_judge(void) {
    r.v->values = r.nvalues;
    r.v->operations = (int)r.stamp;
    for (int i = 0; i < r.nvalues; i++) {
        const value *a = &r.values[i];
        if (a->sent && !a->recv_over) wrong("value %d was sent and is lost", i);
        if (a->failed && a->recv_over) wrong("value %d was not sent, and was received", i);
        for (int k = 0; k < r.nvalues; k++) {
            const value *b = &r.values[k];
            if (a->chan != b->chan || !a->sent || !b->sent) continue;
            if (a->send_over < b->send_began && b->recv_over && b->recv_over < a->recv_began)
                wrong("value %d was sent after %d, and received before it", k, i);
        }
    }
    for (int e = 0; e < r.nempties; e++)
        for (int i = 0; i < r.nvalues; i++)
            if (r.values[i].chan == r.empties[e].chan && there(&r.values[i], r.empties[e].began, r.empties[e].over))
                wrong("channel %d was found empty, and held value %d", r.values[i].chan, i);
}
