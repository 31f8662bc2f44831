/* SPDX-License-Identifier: MIT
 *
 * The C half of treadle.Loop (_treadle._LoopCore, a base class of it): handles,
 * the ready queue, timers, one turn of the loop, and descriptors. And what the
 * transports build on.
 *
 * Invariants.
 *  - Everything is touched with the GIL of the loop's interpreter held. All but
 *    call_soon_threadsafe, stop and what only looks belongs to the thread that runs the loop,
 *    or where none does to one thread at a time. A free-threaded Python refuses others (own.h).
 *  - One turn: `later` nodes; the host is polled once (the GIL is given up only
 *    for a poll that may wait), its events go to goroutines and to ploop_fd
 *    callbacks at once and to the handles of add_reader through the ready queue;
 *    timers that are due go to the ready queue; the handles that were ready by
 *    then run; `at_end` nodes.
 *  - ready[] is a ring of handles (ours, or any object with asyncio.Handle's
 *    _cancelled and _run: debug mode and subclasses make those) and of calls that
 *    nobody has a handle of: asyncio's tasks and futures, in C, drop what call_soon
 *    returns. Who looks at the queue makes handles of those.
 *  - bound[] has bound methods that were asked for while the loop runs, for those who
 *    will ask again: it is of the type's state that bound_tag names, and what
 *    setattr() puts in the loop under such a name takes its place.
 *  - timers[] is a 4-ary heap by (when, seq) of strong references to TimerHandles
 *    of ours, each of which knows its index; a cancelled one leaves it at once. */
#ifndef TDLPY_LOOP_H
#define TDLPY_LOOP_H

#include "state.h"

typedef struct ploop ploop;
typedef struct phandle phandle;
typedef struct ploop_fd ploop_fd;
typedef struct ploop_later ploop_later;

/* -- Descriptors: edge-triggered, registered once ------------------------- */

enum { PLOOP_READ = TDL_READABLE, PLOOP_WRITE = TDL_WRITABLE, PLOOP_HUP = TDL_HANGUP };

/* Embedded in its owner, who keeps it alive while it is added. cb is called on
 * the loop's thread, within the turn's dispatch, with PLOOP_ bits: there may be
 * something to do. HUP: the peer has ended or failed, no further edge will come.
 * It may not leave an exception but by ploop_fatal. */
struct ploop_fd {
    int fd;
    void (*cb)(ploop_fd *f, unsigned ready);
    /* the loop's */
    ploop *loop;
    int watcher; /* + 1; 0: not added */
};

/* 0, or -1 with errno and no exception (EPERM: a file that is always ready; EEXIST:
 * it is added already). cb follows for what is ready already. */
int ploop_fd_add(ploop *l, ploop_fd *f);
/* A read or a write was told EAGAIN, or did less than it was asked: cb is to follow when
 * there is something again. Where the system has edges of its own it does so anyway. */
static inline void ploop_fd_want(ploop_fd *f, int directions);
/* Before close(f->fd). No callback follows. Does nothing when it is not added. */
void ploop_fd_del(ploop_fd *f);

/* -- Once more, and at the end of the turn -------------------------------- */

/* Embedded in its owner, who keeps it alive while it is linked. cb runs once. */
struct ploop_later {
    ploop_later *prev, *next; /* NULL: not linked */
    void (*cb)(ploop_later *n);
};

/* In the next turn, which will not wait for events. Twice is once. */
void ploop_later_add(ploop *l, ploop_later *n);
/* At the end of this turn, after the handles that are ready and before the next
 * poll; of the next turn when the loop is not in one. Twice is once. A node that is
 * added by another one's cb runs in the same turn. */
void ploop_at_end(ploop *l, ploop_later *n);
void ploop_later_cancel(ploop_later *n); /* of either kind */

/* -- Callbacks ------------------------------------------------------------ */

/* callable(*args) as by call_soon, in a context (borrowed; NULL: a copy of the
 * current one). Errors are reported as a Handle's. 0, or -1 with an exception. */
int ploop_call_soon(ploop *l, PyObject *callable, PyObject *const *args, Py_ssize_t n, PyObject *context);
/* The exception that is set leaves run_forever when the current batch is over. The
 * first one wins. */
void ploop_fatal(ploop *l);
/* loop.call_exception_handler({message, exception: the one that is set (taken), key: object…});
 * key/object pairs end with NULL. For KeyboardInterrupt and SystemExit: ploop_fatal. */
void ploop_report(ploop *l, const char *message, ...);

/* -- The loop ------------------------------------------------------------- */

enum { PLOOP_SCRATCH = 256 * 1024, PLOOP_HANDLES = 1024 };

typedef struct { double when; uint64_t seq; phandle *handle; } ploop_timer;

/* A handle, when context is NULL. Else a call of it, with arg unless that is NULL. All
 * strong. */
typedef struct { PyObject *what, *arg, *context; } ploop_ready;

enum { PLOOP_BOUND = 32, PLOOP_WAYS = 4, PLOOP_IDLE = 4 };
typedef struct { PyObject *name, *method; } ploop_bound;

/* A descriptor that add_reader, add_writer or a sock_ method uses; see fds.h. */
typedef struct ploop_entry ploop_entry;

struct ploop {
    PyObject_HEAD
    mod_state *st;
    PyObject *module; /* strong, so that st stays */
    pyhost *host;     /* strong; NULL until first run, and when closed */
    PyObject *stuck;  /* deadlock detection: a callable, or NULL */
    PyObject *live;   /* a set: transports that the loop keeps alive */
    uint64_t turn;
    /* asyncio's fields, by the same names with an underscore */
    bool debug, closed, stopping;
    bool overridden;  /* somebody replaced _run_once: it does one turn only */
    bool running;     /* in run_forever */
    bool sleeping;    /* waits without the GIL, or is about to; see loopcall.c */
    bool fresh;       /* the first turn of a run asks the kernel */
    bool holds_fds;   /* what the host's back end watches stays open */
    bool asks_edges;  /* the host's back end wants to be asked for each: tdl_host_watch_want */
    bool unsynced;    /* there are entries that fds_open has to register */
    PyObject *thread_id; /* an int, or NULL: asyncio's None */
#ifdef Py_GIL_DISABLED
    own_word own;  /* whose it is while it runs */
    own_lock lock; /* guards inbox, ninbox for writing, and host for those who wake it */
    PyObject **inbox; /* handles of other threads' call_soon_threadsafe, strong */
    uint32_t ninbox, inbox_size;
#endif
    /* ready */
    ploop_ready *ready; /* a ring of nready from iready on; size is a power of two */
    uint32_t ready_size, iready, nready;
    uint32_t unasked; /* turns in which the host was not asked: it had nothing to say */
    ploop_bound bound[PLOOP_BOUND];
    unsigned bound_tag;
    /* timers */
    ploop_timer *timers;
    uint32_t ntimers, timers_size;
    uint64_t timer_seq;
    /* freelists */
    phandle *free_handles, *free_timers;
    uint32_t nfree_handles, nfree_timers;
    void *free_sockops; /* see sock.c */
    int nfree_sockops;
    bool fd_checked, fd_inline; /* sock.c: a socket's descriptor is where it is thought to be */
    /* see above; heads of rings */
    ploop_later later, at_end;
    PyObject *fatal; /* an exception that is to leave the loop, or NULL */
    /* descriptors */
    ploop_entry **entries; /* by fd */
    int nentries, nwatched; /* entries that somebody waits for */
    ploop_fd **watchers;    /* by the host's watcher */
    int nwatchers;
    int nfds; /* ploop_fds that are added */
    PyObject *spare[2]; /* see ploop_bytes */
    PyObject *tls_room; /* see transport_tls.c, or NULL */
    int ispare;
    PyObject *future_kwargs; /* {"loop": the loop}, once it was needed */
    PyObject *idle_futures[PLOOP_IDLE]; /* see future.c */
    unsigned idle_next;
    char *scratch; /* PLOOP_SCRATCH bytes for ploop_scratch */
    struct ploop_dgrams *dgrams; /* transport_dgram.c */
};

/* May this thread use what belongs to the loop's owner? Always, where there is a lock. */
static inline bool
ploop_here(ploop *l)
{
#ifdef Py_GIL_DISABLED
    return own_is_mine(&l->own);
#else
    (void)l;
    return true;
#endif
}
/* The loop behind an object; NULL, without an exception: it is none of ours. */
ploop *ploop_of(mod_state *st, PyObject *object);
/* PLOOP_SCRATCH bytes, whose content is valid until any Python code runs. NULL:
 * MemoryError. */
char *ploop_scratch(ploop *l);
/* The bytes of n that were read. Of a middling size it may be an object that was
 * returned before and that nobody has any more: malloc has no short way for those. */
PyObject *ploop_bytes(ploop *l, const char *from, Py_ssize_t n);

static inline void
ploop_fd_want(ploop_fd *f, int directions)
{
    if (f->watcher != 0 && f->loop->asks_edges)
        tdl_host_watch_want(f->loop->host->core, f->watcher - 1, directions);
}

#endif
