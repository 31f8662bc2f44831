/* SPDX-License-Identifier: MIT
 *
 * Signals on channels, as Go's os/signal has them. The handler notes the signal in a
 * bit and rings the loop's thread, which sends to the channels; a full channel misses it. Not
 * uv_signal: that sets the default when it is done, where the program, or an interpreter, had a handler.
 *
 * Under the lock: who is subscribed, and what there was before. The handler reads
 * and writes nothing but pending.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "os/loop.h"
#include "sync/chan.h"
#include "sys/service.h"

enum { MOST = 64 };

typedef struct subscription {
    struct subscription *next;
    tdl_chan *ch; /* a holder */
} subscription;

static tdl_lock lock = TDL_LOCK_INIT(RANK_OBJECT);
static subscription *subscribed[MOST + 1];
static struct sigaction before[MOST + 1];
static uint8_t taken[MOST + 1]; /* before says what is to be put back */
static _Atomic uint64_t pending; /* seq: the handler's or, and the exchange of the loop's thread */

/* -- The handler, and the loop's thread ----------------------------------------------------- */

static void handler(int signum) {
    int e = errno;
    at_or_seq(&pending, UINT64_C(1) << (signum - 1));
    tdl_loop_ring();
    errno = e;
}

/* The channels are sent to without the lock: they are kept by references of our own. */
static void send_to_all(int signum) {
    tdl_chan *few[16];
    int n = 0, at = 0, more = 1;
    tdl_val v;
    tdl_val_set_int(&v, signum);
    while (more) {
        tdl_lock_take(&lock);
        int i = 0;
        more = 0;
        n = 0;
        for (subscription *s = subscribed[signum]; s; s = s->next, i++) {
            if (i < at) continue;
            if (n == 16) {
                more = 1;
                break;
            }
            few[n++] = tdl_chan_ref(s->ch);
        }
        at += n;
        tdl_unlock(&lock);
        for (int k = 0; k < n; k++) {
            tdl_chan_try_send(few[k], &v);
            tdl_chan_free(few[k]);
        }
    }
}

void tdl_signals_deliver(void) {
    for (uint64_t bits; (bits = at_xchg_seq(&pending, 0)) != 0;)
        for (int i = 1; i <= MOST; i++)
            if (bits >> (i - 1) & 1) send_to_all(i);
}

/* -- Subscribing -------------------------------------------------------------------------------- */

/* Faults are the program's own, and two cannot be caught. */
static bool may_be_caught(int signum) {
    switch (signum) {
    case SIGKILL: case SIGSTOP: case SIGSEGV: case SIGBUS: case SIGFPE: case SIGILL: case SIGTRAP: return false;
#ifdef SIGRTMIN /* those between are the C library's own */
    default: return signum >= 1 && signum <= MOST && (signum < 32 || signum >= SIGRTMIN);
#else
    default: return signum >= 1 && signum < NSIG && signum <= MOST;
#endif
    }
}

/* Under the lock: ours, or ignored, from now on. */
static int take_over(int signum, bool ignore) {
    struct sigaction a, now;
    memset(&a, 0, sizeof a);
    sigfillset(&a.sa_mask);
    a.sa_flags = SA_RESTART | SA_ONSTACK;
    a.sa_handler = ignore ? SIG_IGN : handler;
    int no = tdl_service(SERVICE_SIGNAL, NULL);
    if (no < 0) return no;
    if (sigaction(signum, &a, &now) < 0) return -errno;
    if (!taken[signum]) before[signum] = now;
    taken[signum] = 1;
    return 0;
}

/* Under the lock. A handler that somebody else has set meanwhile stays. */
static void give_back(int signum) {
    struct sigaction now;
    if (!taken[signum]) return;
    taken[signum] = 0;
    if (sigaction(signum, NULL, &now) == 0 && (now.sa_handler == handler || now.sa_handler == SIG_IGN))
        sigaction(signum, &before[signum], NULL);
}

/* Takes those of ch (NULL: all) off; they are to be freed without the lock. */
static subscription *take_off(int signum, tdl_chan *ch, subscription *list) {
    bool had = subscribed[signum] != NULL;
    for (subscription **at = &subscribed[signum]; *at;) {
        subscription *s = *at;
        if (ch && s->ch != ch) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        s->next = list;
        list = s;
    }
    if (had && !subscribed[signum]) give_back(signum);
    return list;
}

static int drop(subscription *list) {
    int n = 0;
    while (list) {
        subscription *next = list->next;
        tdl_chan_free(list->ch);
        tdl_sys.release(list);
        list = next;
        n++;
    }
    if (n) tdl_loop_active(-n);
    return n;
}

int tdl_signal_notify(tdl_chan *ch, int signum) {
    if (!ch || !may_be_caught(signum)) return TDL_EINVAL;
    if (ch->local) return TDL_EINVAL;
    int r = tdl_loop_ready();
    if (r < 0) return r;
    subscription *s = tdl_sys.alloc(sizeof *s);
    if (!s) return TDL_ENOMEM;
    tdl_lock_take(&lock);
    for (subscription *o = subscribed[signum]; o; o = o->next)
        if (o->ch == ch) r = 1;
    if (r == 0) r = take_over(signum, false);
    if (r == 0) {
        s->ch = tdl_chan_ref(ch);
        s->next = subscribed[signum];
        subscribed[signum] = s;
    }
    tdl_unlock(&lock);
    if (r == 0)
        tdl_loop_active(1);
    else
        tdl_sys.release(s);
    return r < 0 ? r : 0;
}

int tdl_signal_stop(tdl_chan *ch, int signum) {
    if (!ch || signum < 0 || (signum > 0 && !may_be_caught(signum))) return TDL_EINVAL;
    if (tdl_forked()) return TDL_EFORKED;
    subscription *list = NULL;
    tdl_lock_take(&lock);
    for (int i = 1; i <= MOST; i++)
        if (signum == 0 || i == signum) list = take_off(i, ch, list);
    tdl_unlock(&lock);
    return drop(list);
}

static int end_all(int signum, bool ignore) {
    if (!may_be_caught(signum)) return TDL_EINVAL;
    if (tdl_forked()) return TDL_EFORKED;
    tdl_lock_take(&lock);
    subscription *list = take_off(signum, NULL, NULL);
    int r = ignore ? take_over(signum, true) : 0;
    if (!ignore) give_back(signum);
    tdl_unlock(&lock);
    drop(list);
    return r;
}

int tdl_signal_ignore(int signum) { return end_all(signum, true); }

int tdl_signal_reset(int signum) { return end_all(signum, false); }
