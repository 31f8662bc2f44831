/* SPDX-License-Identifier: MIT
 *
 * The table of those who wait for a lock without a deadline, by who they are,
 * and the search for circles. Under a bucket's lock: its chain; an entry lives
 * as long as it is there. Nothing else is locked meanwhile.
 *
 * A search looks at one entry after the other. What it has seen stays true for
 * those of a circle: they wait, and only an unlock by somebody outside would end
 * that. Of two who close one circle at the same time at least one sees the other
 * (each enters before he searches), and the judgement is made one at a time: who
 * is refused leaves the table first, so that the other finds no circle any more.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sched/blocked.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "sched/ops.h"
#include "sys/os.h"
#include "sys/sys.h"

enum { BUCKETS = 1024, HOPS = 1000, SHOWN = 16 };

int64_t tdl_blocked_grace = INT64_C(1000000000);

static struct bucket {
    tdl_lock lock;
    tdl_blocked *first;
} table[BUCKETS] = {[0 ... BUCKETS - 1] = {.lock = TDL_LOCK_INIT(RANK_BLOCKED)}};

static tdl_lock judgement = TDL_LOCK_INIT(RANK_JUDGEMENT);

static struct bucket *bucket_of(uint64_t who) { return &table[who * UINT64_C(0x9e3779b97f4a7c15) >> 54]; }

/* -- Who --------------------------------------------------------------------- */

enum { TID_BITS = 22 }; /* the kernel's largest thread number has no more */

uint64_t tdl_thread_who(tdl_op *op) {
    static _Atomic uint64_t threads;
    tdl_m *m = TDL_CONTAINER(op, tdl_m, op);
    if (!m->who) {
        uint64_t tid = (uint64_t)tdl_os_thread_id() & (((uint64_t)1 << TID_BITS) - 1);
        m->who = UINT64_C(1) << 63 | (at_add_rlx(&threads, 1) + 1) << TID_BITS | tid;
    }
    return m->who;
}

struct member {
    uint64_t who;
    char name[TDL_NAME];
    const char *what;
    const void *object;
    int64_t since;
};

TDL_NO_TSAN static void describe(struct member *m, const tdl_blocked *b) {
    m->who = b->who;
    m->name[0] = '\0';
    const tdl_op *op = TDL_CONTAINER(b, const tdl_op, u.blocked);
    if (op->kind != OP_OF_THREAD) snprintf(m->name, sizeof m->name, "%s", tdl_g_name(TDL_CONTAINER(op, const tdl_g, op)));
    m->what = b->what;
    m->object = b->object;
    m->since = b->since;
}

int tdl_who_print(char *text, size_t size, uint64_t who, const char *name) {
    const char *open = name[0] ? " [" : "", *close = name[0] ? "]" : "";
    if (who >> 63) return snprintf(text, size, "thread %u", (uint32_t)who & ((1u << TID_BITS) - 1));
    return snprintf(text, size, "goroutine %" PRIu64 "%s%s%s", who, open, name, close);
}

/* -- The table ------------------------------------------------------------------ */

static void enter(tdl_blocked *b) {
    struct bucket *k = bucket_of(b->who);
    tdl_lock_take(&k->lock);
    b->next = k->first;
    if (b->next) b->next->at = &b->next;
    b->at = &k->first;
    k->first = b;
    tdl_unlock(&k->lock);
    b->listed = 1;
}

static void take_out(tdl_blocked *b) {
    if (!b->listed) return;
    b->listed = 0;
    struct bucket *k = bucket_of(b->who);
    tdl_lock_take(&k->lock);
    *b->at = b->next;
    if (b->next) b->next->at = b->at;
    tdl_unlock(&k->lock);
}

/* What does who, the owner of the lock, wait for? *m is filled in; NULL: he does
 * not wait. */
TDL_NO_TSAN static tdl_owned *follow(tdl_owned *owned, uint64_t who, struct member *m) {
    tdl_owned *next = NULL;
    struct bucket *k = bucket_of(who);
    tdl_lock_take(&k->lock);
    tdl_blocked *b = k->first;
    while (b && b->who != who) b = b->next;
    /* once more: he might have given it up before he began to wait */
    if (b && !at_load_rlx(&b->granted) && at_load_rlx(&owned->who) == who) {
        next = b->owned;
        if (m) describe(m, b);
    }
    tdl_unlock(&k->lock);
    return next;
}

TDL_NO_TSAN uint64_t tdl_blocked_by(uint64_t who) {
    uint64_t by = 0;
    struct bucket *k = bucket_of(who);
    if (!tdl_lock_try(&k->lock)) return 0;
    for (tdl_blocked *b = k->first; b; b = b->next)
        if (b->who == who) by = at_load_rlx(&b->owned->who);
    tdl_unlock(&k->lock);
    return by;
}

/* The number of members of the circle that b closes, or 0; the first SHOWN of
 * them are described, if asked: each waits for what the next one owns. */
TDL_NO_TSAN static int circle(const tdl_blocked *b, struct member *members) {
    tdl_owned *owned = b->owned;
    uint64_t seen = 0; /* Brent: a circle that b is not part of is walked for ever */
    int since = 0, power = 1;
    if (members) describe(&members[0], b);
    at_fence_seq(); /* between the words that we have stored and those that we read */
    for (int n = 1; n <= HOPS; n++) {
        uint64_t who = at_load_rlx(&owned->who);
        if (who == b->who) return n;
        if (who == 0 || who == seen) return 0;
        if (++since == power) {
            seen = who;
            power *= 2;
            since = 0;
        }
        owned = follow(owned, who, members && n < SHOWN ? &members[n] : NULL);
        if (!owned) return 0;
    }
    return 0;
}

/* -- The report --------------------------------------------------------------------- */

static void say(const char *text, int n) {
    while (n > 0) {
        ssize_t w = write(STDERR_FILENO, text, (size_t)n);
        if (w < 0 && errno != EINTR) return;
        if (w > 0) {
            text += w;
            n -= (int)w;
        }
    }
}

static void report(const struct member *members, int n, bool refuses) {
    int64_t now = tdl_sys.now();
    char who[96], line[320];
    int shown = n < SHOWN ? n : SHOWN;
    say(line, snprintf(line, sizeof line, "treadle: deadlock: %s\n",
                       n == 1 ? "one waits for itself" : "these wait for each other"));
    for (int i = 0; i < shown; i++) {
        const struct member *m = &members[i], *before = &members[(i + n - 1) % n];
        char held[48] = "one of the locks"; /* the one before was not noted */
        if (i > 0 || n <= SHOWN) snprintf(held, sizeof held, "%s %p", before->what, before->object);
        tdl_who_print(who, sizeof who, m->who, m->name);
        say(line, snprintf(line, sizeof line, "%s holds %s and waits for %s %p since %" PRId64 " ms%s\n", who, held, m->what,
                           m->object, (now - m->since) / 1000000,
                           i > 0 ? "" : refuses ? "; its call returns TDL_EDEADLOCK" : "; it waits on"));
    }
    if (shown < n) say(line, snprintf(line, sizeof line, "... and %d more\n", n - shown));
}

/* -- The waiter's ---------------------------------------------------------------------- */

void tdl_blocked_wait(tdl_op *op, const char *what, void *object, tdl_owned *owned, int64_t deadline) {
    tdl_blocked *b = &op->u.blocked;
    if (deadline == TDL_FOREVER) {
        if (!b->listed) {
            b->who = tdl_op_who(op);
            b->owned = owned;
            b->what = what;
            b->object = object;
            enter(b);
        }
        b->suspected = circle(b, NULL) != 0;
    }
    tdl_op_arm(op, b->suspected ? tdl_sys.now() + tdl_blocked_grace : deadline);
    op->deadline = deadline;
    if (TDL_UNLIKELY(b->suspected) && (b->quiet = op->timer.heap) != NULL) at_add_seq(&b->quiet->quiet, 1);
}

static void hush(tdl_blocked *b) {
    b->suspected = 0;
    if (b->quiet) at_sub_seq(&b->quiet->quiet, 1);
    b->quiet = NULL;
}

int tdl_blocked_over(tdl_op *op, bool refuses) {
    tdl_blocked *b = &op->u.blocked;
    bool grace = b->suspected && (op->result == TDL_ETIMEDOUT || op->result == TDL_ENOMEM);
    hush(b);
    if (!grace) return BLOCKED_NO;
    struct member members[SHOWN];
    tdl_lock_take(&judgement);
    int n = circle(b, members);
    if (n > 0 && refuses) take_out(b);
    tdl_unlock(&judgement);
    if (n > 0 && !at_xchg_seq(&b->owned->told, 1)) report(members, n, refuses);
    return n > 0 ? BLOCKED_CIRCLE : BLOCKED_ON;
}

void tdl_blocked_end(tdl_blocked *b) {
    hush(b);
    take_out(b);
}

/* -- Who broke the order of locks ------------------------------------------------------- */

#ifdef TDL_LOCK_RANKS
static void caller(char *text, size_t size) {
    tdl_m *m = tdl_m_self();
    if (m->g)
        tdl_who_print(text, size, m->g->id, tdl_g_name(m->g));
    else
        tdl_who_print(text, size, tdl_thread_who(&m->op), "");
}

__attribute__((constructor)) static void name_callers(void) { tdl_lock_caller = caller; }
#endif
