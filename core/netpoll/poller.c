/* SPDX-License-Identifier: MIT
 *
 * What all back ends share: opening and closing, sleeping and waking, and where
 * events go.
 *
 * Sleeping. Announcing is a seq store of sleeping = 1; the sleeper then looks
 * for work once more. tdl_poller_wake makes its work visible, then exchanges
 * sleeping (seq). So either the sleeper sees the work or the waker sees
 * sleeping and kicks. One kick per announced sleep: the exchange takes it. What
 * is left to a poller's owner to register (backend.h) is such work, too.
 */
#include "sys/sys.h"

#include <errno.h>

#include "netpoll/backend.h"
#include "netpoll/polldesc.h"

enum { SPIN_AT_MOST = 50000 }; /* ns before a short sleep's end */

/* -- Opening and closing --------------------------------------------------------- */

int tdl_poller_open(tdl_poller *p) {
    int r = 0;
    tdl_lock_init(&p->lock, RANK_POLLER);
    p->list = NULL;
    p->nevents = 0;
    p->late = 0;
    p->state = NULL;
    at_store_rlx(&p->npd, 0);
    at_store_rlx(&p->sleeping, 0);
    tdl_timers_init(&p->timers, p);
    if (!(p->back = tdl_backend_take(&p->counted, &r))) return r;
    if (!(p->events = tdl_sys.alloc(TDL_POLL_BATCH * sizeof *p->events)))
        r = TDL_ENOMEM;
    else if ((r = p->back->open(p)) >= 0)
        return 0;
    tdl_sys.release(p->events);
    p->events = NULL;
    if (p->counted) tdl_backend_give();
    return r;
}

void tdl_poller_close(tdl_poller *p) {
    tdl_pd_orphan_all(p);
    at_store_seq(&p->sleeping, 0);
    while (at_load_seq(&p->wakers)) tdl_thread_yield();
    tdl_timers_destroy(&p->timers);
    if (tdl_sys.told) tdl_sys.told(p, NULL, 0, 0, 0);
    p->back->close(p);
    if (p->counted) tdl_backend_give();
    tdl_sys.release(p->events);
    p->events = NULL;
    p->nevents = 0;
}

/* -- Waiting ---------------------------------------------------------------------- */

void tdl_poller_announce(tdl_poller *p) { at_store_seq(&p->sleeping, 1); }

void tdl_poller_retract(tdl_poller *p) { at_store_rlx(&p->sleeping, 0); }

/* With injected faults: events come late, and twice. */
TDL_NOINLINE static int fetch_distorted(tdl_poller *p, tdl_poll_event *events, int64_t timeout_ns) {
    int64_t wait = tdl_sys.limit(p, timeout_ns);
    int n = p->back->fetch(p, events, TDL_POLL_BATCH, wait);
    if (n < 0) return n;
    n = tdl_sys.told(p, events, n, TDL_POLL_BATCH, timeout_ns != 0);
    return n == 0 && wait != timeout_ns ? -EINTR : n; /* neither an event nor the time */
}

static int fetch(tdl_poller *p, tdl_poll_event *events, int64_t timeout_ns) {
    int n = TDL_UNLIKELY(tdl_sys.told != NULL) ? fetch_distorted(p, events, timeout_ns)
                                                : p->back->fetch(p, events, TDL_POLL_BATCH, timeout_ns);
    TDL_TSAN_ACQUIRE(p);
    return n;
}

/* The system wakes a sleeper some microseconds late, and always about as many: a
 * short sleep is ended that much earlier, and the rest is spent looking for
 * events: half of the sleep at most. */
static int fetch_in_time(tdl_poller *p, int64_t timeout_ns) {
    int64_t early = p->late < timeout_ns / 2 ? p->late : timeout_ns / 2;
    int64_t when = tdl_sys.now() + timeout_ns;
    int n = fetch(p, p->events, timeout_ns - early);
    if (n != 0) return n;
    int64_t now = tdl_sys.now(), late = now - (when - early);
    late = late < 0 ? 0 : late > SPIN_AT_MOST ? SPIN_AT_MOST : late;
    p->late += (late - p->late) / 8;
    for (; n == 0 && now < when; now = tdl_sys.now()) {
        at_pause();
        n = fetch(p, p->events, 0);
    }
    return n;
}

int tdl_poller_wait(tdl_poller *p, int64_t timeout_ns) {
    if (TDL_UNLIKELY(p->nevents)) { /* found by prepare */
        tdl_poller_retract(p);
        return p->nevents;
    }
    bool brief = timeout_ns > 0 && timeout_ns < TDL_MILLISECOND && !tdl_sys.simulated;
    int n = brief ? fetch_in_time(p, timeout_ns) : fetch(p, p->events, timeout_ns);
    p->nevents = n > 0 ? n : 0;
    tdl_poller_retract(p);
    return n;
}

/* -- Events ------------------------------------------------------------------------ */

static void dispatch_one(tdl_poller *p, const tdl_poll_event *e) {
    if (TDL_LIKELY(e->data >> 32)) { /* seq of a poll descriptor is never 0 */
        tdl_pd_event(e->data, (int)e->what);
        return;
    }
    if (e->data == DATA_WAKE) return;
    p->on_watch(p->watch_arg, (uint32_t)(e->data & ~DATA_WATCH), e->what);
}

void tdl_poller_dispatch(tdl_poller *p) {
    int n = p->nevents;
    p->nevents = 0;
    for (int i = 0; i < n; i++) dispatch_one(p, &p->events[i]);
}

/* Whoever serves may take the owner's wake-up; so it wakes again. */
int tdl_poller_serve(tdl_poller *p) {
    tdl_poll_event events[TDL_POLL_BATCH];
    int n = fetch(p, events, 0);
    for (int i = 0; i < n; i++) {
        if (events[i].data == DATA_WAKE) tdl_poller_kick(p);
        dispatch_one(p, &events[i]);
    }
    return n;
}

/* -- Waking ------------------------------------------------------------------------ */

void tdl_poller_kick(tdl_poller *p) { p->back->kick(p); }

void tdl_poller_wake(tdl_poller *p) {
    /* pairs with announce; see the head of the file */
    if (!at_load_seq(&p->sleeping)) return;
    /* the sleeper may wake by itself, and close: it waits for us, who took its
     * sleeping; and when it has closed there is none to take */
    at_add_seq(&p->wakers, 1);
    if (at_xchg_seq(&p->sleeping, 0)) tdl_poller_kick(p);
    at_sub_seq(&p->wakers, 1);
}

void tdl_poller_retime(tdl_poller *p) {
    at_fence_seq(); /* between the heap's new `next` and the look at sleeping */
    tdl_poller_wake(p);
}

/* -- A foreign loop ------------------------------------------------------------------- */

int tdl_poller_fd(tdl_poller *p) { return p->back->fd(p); }

bool tdl_poller_prepare(tdl_poller *p) { return p->back->prepare && p->back->prepare(p); }
