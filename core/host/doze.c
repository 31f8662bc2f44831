/* SPDX-License-Identifier: MIT
 *
 * A host whose tasks all wait, with no timer, no descriptor and no limit: is
 * there anybody who could wake it? It finds out after a while, and then now and
 * again, for nobody tells it when another thread ends.
 *
 * dozing says that the thread does nothing but wait, and has nothing to do: so
 * other hosts need not reckon with it. It is cleared before anything is done, and
 * stirs raised (see sched/deadlock.c); who makes one of its tasks ready puts it
 * on `remote` before he goes to sleep himself, so that is looked at last.
 */
#include <errno.h>
#include <signal.h>

#include "host/host.h"
#include "sys/sys.h"

static const int64_t FIRST_NS = 20000000, LAST_NS = 2000000000; /* each is five times the one before */

/* A handler may call tdl_host_wake, or do what an interpreter's handlers do. Ours
 * for faults do not, and an interrupt from the keyboard is no plan. */
static bool awaits_signal(void) {
    for (int s = 1; s < NSIG; s++) {
        struct sigaction now;
        if (s == SIGINT || s == SIGSEGV || s == SIGBUS || s == SIGILL || s == SIGFPE || s == SIGTRAP || s == SIGABRT)
            continue;
        if (sigaction(s, NULL, &now) == 0 && now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN) return true;
    }
    return false;
}

/* Other hosts' threads that doze, for ever. */
TDL_NO_TSAN static int dozing(const tdl_host *me) {
    int n = 0;
    for (tdl_host *h = tdl_host_first(); h; h = h->next)
        n += h != me && at_load_seq(&h->dozing) && tdl_host_quiet(h);
    return n;
}

static bool nobody(tdl_host *h) {
    uint32_t stirs = at_load_seq(&tdl_sched.stirs);
    int others = dozing(h);
    return tdl_all_asleep(1 + others) && dozing(h) == others && tdl_host_quiet(h) &&
           at_load_seq(&tdl_sched.stirs) == stirs;
}

int tdl_host_doze(tdl_host *h) {
    h->doze = h->doze == 0 ? FIRST_NS : h->doze >= LAST_NS / 5 ? LAST_NS : h->doze * 5;
    at_store_seq(&h->dozing, 1);
    int r = tdl_poller_wait(&h->poller, h->doze);
    bool stuck = r == 0 && nobody(h) && !awaits_signal();
    /* a thread may have brought something, and ended, before they were counted */
    if (stuck && (r = tdl_poller_wait(&h->poller, 0)) != 0) stuck = false;
    at_store_seq(&h->dozing, 0);
    tdl_deadlock_stir();
    return stuck ? TDL_EDEADLOCK : r;
}
