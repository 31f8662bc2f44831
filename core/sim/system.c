/* SPDX-License-Identifier: MIT
 *
 * The table of a simulation. Each entry serves the driver virtually, and any
 * other thread with what was there before.
 *
 * A virtual epoll descriptor knows one other: the eventfd of its poller, by
 * which it is woken. There are no sockets.
 */
#define TDL_SIM_ITSELF
#include "sim/sim.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

static const struct tdl_sys *outside(void) { return &tdl_sim.outside; }

/* -- Time and threads ------------------------------------------------------------------ */

TDL_NO_TSAN static int64_t sim_now(void) { return tdl_sim_mine() ? tdl_sim.now : outside()->now(); }

TDL_NO_TSAN static int sim_futex_wait(void *word, uint32_t expected, int64_t deadline) {
    if (!tdl_sim_mine()) return outside()->futex_wait(word, expected, deadline);
    if (at_load_seq((_Atomic uint32_t *)word) != expected) return -EAGAIN;
    return tdl_vthread_wait(word, deadline) ? 0 : -ETIMEDOUT;
}

static int sim_futex_wake(void *word, int count) {
    if (!tdl_sim_mine()) return outside()->futex_wake(word, count);
    int woken = tdl_vthread_wake(word, count);
    if (woken < count) woken += outside()->futex_wake(word, count - woken);
    return woken;
}

/* What it stores as a pthread_t is a virtual thread. */
static int sim_thread(void *(*fn)(void *), void *arg, void *thread) {
    if (!tdl_sim_mine()) return outside()->thread(fn, arg, thread);
    tdl_vthread *v = tdl_vthread_new(fn, arg);
    if (!v) return -ENOMEM;
    if (fn == tdl_m_main) {
        tdl_m *m = arg;
        m->bubble = tdl_sim.number;
        m->deny = TDL_SIMULATED;
        TDL_TSAN_RELEASE(m); /* as in start_m */
    }
    memcpy(thread, &v, sizeof v);
    return 0;
}

TDL_NO_TSAN static int sim_join(const void *thread) {
    if (!tdl_sim_mine()) return outside()->join(thread);
    tdl_vthread *v;
    memcpy(&v, thread, sizeof v);
    if (v->state != VT_ENDED) tdl_vthread_wait(v, TDL_FOREVER);
    return 0;
}

static void sim_yield(void) {
    if (tdl_sim_mine())
        tdl_sim_pass();
    else
        outside()->yield();
}

static void sim_nap(int64_t ns) {
    if (tdl_sim_mine())
        tdl_sim_pass(); /* for a lock, say: who has it goes on */
    else
        outside()->nap(ns);
}

static void sim_stack(void **low, size_t *size) {
    if (tdl_sim_mine())
        tdl_vthread_stack(low, size);
    else
        outside()->stack(low, size);
}

static uint32_t sim_entropy(void) {
    return tdl_sim_mine() ? (uint32_t)tdl_sim_number64() : outside()->entropy();
}

static int sim_membarrier(void) { return tdl_sim_mine() ? 0 : outside()->membarrier(); }

static void sim_enter(void) { tdl_sim_point(POINT_ENTRY); }
static void sim_call(void) { tdl_sim_point(POINT_CALL); }
static tdl_g *sim_look(tdl_g *g) { return tdl_sim_mine() ? tdl_sim_look(g) : g; }

static int sim_over(int waited) {
    if (!tdl_sim_mine()) return outside()->over(waited);
    if (!waited) tdl_sim_point(POINT_ENTRY);
    return tdl_sim_told(waited);
}

static uint32_t sim_bubble(void) { return tdl_sim_mine() ? tdl_sim.number : 0; }

/* -- Polling ----------------------------------------------------------------------------- */

/* Descriptors: of poller i, SIM_FD + 2i is the epoll's, the next the eventfd's. */
static bool is_virtual(int fd) { return fd >= SIM_FD; }

TDL_NO_TSAN static tdl_vpoller *poller(int fd) { return &tdl_sim.pollers[(fd - SIM_FD) / 2]; }

TDL_NO_TSAN static int sim_epoll_create(void) {
    if (!tdl_sim_mine()) return outside()->epoll_create();
    int i = 0;
    while (i < SIM_MAX_POLLERS && tdl_sim.pollers[i].open) i++;
    if (i == SIM_MAX_POLLERS) return -EMFILE;
    tdl_sim.pollers[i] = (tdl_vpoller){.open = true};
    return SIM_FD + 2 * i;
}

/* The eventfd of a poller is made right after it. */
TDL_NO_TSAN static int sim_eventfd(void) {
    if (!tdl_sim_mine()) return outside()->eventfd();
    int i = 0;
    while (i < SIM_MAX_POLLERS && !(tdl_sim.pollers[i].open && !tdl_sim.pollers[i].has_event)) i++;
    if (i == SIM_MAX_POLLERS) return -EMFILE;
    tdl_sim.pollers[i].has_event = true;
    return SIM_FD + 2 * i + 1;
}

TDL_NO_TSAN static int sim_epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev) {
    if (!is_virtual(epfd)) return outside()->epoll_ctl(epfd, op, fd, ev);
    if (!is_virtual(fd)) return ev->events & EPOLLET ? -EOPNOTSUPP : 0; /* a host's watcher is never called */
    if (op == EPOLL_CTL_ADD) poller(epfd)->data = ev->data.u64;
    return 0;
}

TDL_NO_TSAN static int sim_epoll_wait(int epfd, struct epoll_event *evs, int max, int64_t timeout_ns) {
    if (!is_virtual(epfd)) return outside()->epoll_wait(epfd, evs, max, timeout_ns);
    if (!tdl_sim_mine()) return -EOPNOTSUPP;
    tdl_vpoller *p = poller(epfd);
    if (!p->signalled && timeout_ns != 0) {
        bool never = timeout_ns < 0 || timeout_ns > TDL_FOREVER - tdl_sim.now;
        if (tdl_vthread_wait(p, never ? TDL_FOREVER : tdl_sim.now + timeout_ns) && tdl_sim.reason && !p->signalled)
            return -EDEADLK;
    }
    if (!p->signalled) return 0;
    p->signalled = false;
    evs[0] = (struct epoll_event){.events = EPOLLIN, .data.u64 = p->data};
    return 1;
}

/* Also called by tdl_host_wake, on any thread: another one's wake-up from
 * outside the simulation is not heard. */
TDL_NO_TSAN static int sim_eventfd_write(int fd) {
    if (!is_virtual(fd)) return outside()->eventfd_write(fd);
    if (!tdl_sim_mine()) return 0;
    poller(fd)->signalled = true;
    tdl_vthread_wake(poller(fd), 1);
    return 8;
}

TDL_NO_TSAN static int sim_close(int fd) {
    if (!is_virtual(fd)) return outside()->close(fd);
    if ((fd - SIM_FD) % 2 == 0) poller(fd)->open = poller(fd)->has_event = false;
    return 0;
}

/* -- Sockets: none ------------------------------------------------------------------------- */

static int sim_socket(int domain, int type, int protocol) {
    return tdl_sim_mine() ? -EOPNOTSUPP : outside()->socket(domain, type, protocol);
}

/* Memory, and what is done with sockets that others have, stay as they are. */
void tdl_sim_fill_table(struct tdl_sys *t) {
    t->now = sim_now;
    t->futex_wait = sim_futex_wait;
    t->futex_wake = sim_futex_wake;
    t->thread = sim_thread;
    t->join = sim_join;
    t->yield = sim_yield;
    t->nap = sim_nap;
    t->stack = sim_stack;
    t->entropy = sim_entropy;
    t->membarrier = sim_membarrier;
    t->epoll_create = sim_epoll_create;
    t->epoll_ctl = sim_epoll_ctl;
    t->epoll_wait = sim_epoll_wait;
    t->eventfd = sim_eventfd;
    t->eventfd_write = sim_eventfd_write;
    t->socket = sim_socket;
    t->close = sim_close;
    t->simulated = 1;
    t->enter = sim_enter;
    t->call = sim_call;
    t->look = sim_look;
    t->bubble = sim_bubble;
    t->over = sim_over;
}
