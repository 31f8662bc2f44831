/* SPDX-License-Identifier: MIT
 *
 * What the files of the extension share: the module's state, the objects, and
 * each file's functions for the others.
 *
 * Invariants.
 *  - There is one mod_state per interpreter, and no global but the two
 *    thread-locals of host.c: several interpreters may import the module.
 *  - Everything here is touched with the GIL of its interpreter held, or in a
 *    free-threaded Python as own.h says. The GIL is given up in two places only: a
 *    blocking tdl_host_poll (host.c) and the _sync calls of SharedChan (shared.c).
 *  - A core task belongs to one G or to one op ("spare" ones to the host), and
 *    host->slots[task] says to which. While an operation of the core is
 *    pending on a task, the slot owns a reference, and exactly one event will
 *    come for it: the task is freed at that event and never before. Who the
 *    collector sees that reference with, collect.c says.
 *  - A reference that a local channel carries is counted once for the channel:
 *    added before the send starts, given back if it fails. */
#ifndef TDLPY_STATE_H
#define TDLPY_STATE_H

#include "own.h"
#include "trstate.h"
#include <stdbool.h>
#include <treadle.h>

#define NO_TASK UINT32_MAX
#define BATCH 256      /* events per tdl_host_poll */
#define EAGER_DEPTH 32 /* spawns nested deeper than this start from the queue */
#define OP_FREELIST 256

typedef struct pyhost pyhost;
typedef struct gobj gobj;
typedef struct opobj opobj;
typedef struct mod_state mod_state;

/* -- Module state -------------------------------------------------------- */

/* What the collector sees, and clears with the module: our types, X(field), and other
 * objects. A field is in one of these lists, and nowhere else. */
#define EACH_TYPE(X)                                                                       \
    X(HostType) X(ReaderType) X(OpType) X(GType) X(ChanType) X(SharedChanType) X(CaseType) \
    X(MutexType) X(CondType) X(SemaphoreType) X(WaitGroupType) X(TimerType) X(TickerType)  \
    X(RWMutexType) X(RWSideType) X(OnceType) X(ContextType) X(ErrGroupType)                \
    X(SingleFlightType) X(HandleType) X(TimerHandleType) X(LoopCoreType) X(SockOpType)     \
    X(ConnType) X(LinesType) X(ListenerType) X(DgramType) X(FdType) X(CallType)            \
    X(ServerType) X(TcpInfoType) X(FileType) X(ProcessType) X(WatchType)

#define EACH_OBJECT(X)                                                                     \
    /* exceptions of ours */                                                               \
    X(ChannelClosed) X(Closed) X(DeadlockError) X(TooLong) X(Truncated)                    \
    /* of asyncio and the like */                                                          \
    X(CancelledError) X(InvalidStateError) X(IncompleteReadError) X(TaskType)              \
    X(FutureType) X(SocketType) X(SelectorLoopType) X(iscoroutine)                         \
    X(get_running_loop) /* returns None when there is none */                              \
    X(ThreadSafeHandle) /* what call_soon_threadsafe makes, or NULL */                     \
    X(current_tasks)    /* asyncio's dict, NULL from 3.14 on */                            \
    X(current_task) X(swap_current_task) X(register_task) X(unregister_task)               \
    X(fut_set_result) X(fut_result) X(fut_blocking) /* asyncio.Future's, unbound */        \
    X(kw_asyncio)       /* see loopcall.c, or NULL */                                      \
    X(packb) X(unpackb) /* msgpack, once it was needed */                                  \
    /* ours */                                                                             \
    X(recancel)         /* opobject.c: delivers a deferred cancellation */                 \
    X(empty)            /* () */                                                           \
    X(empty_kw_context) /* ("context",) */                                                 \
    X(kw_loop)          /* ("loop",) */

/* Interned names, which outlive that: X(field, text). */
#define EACH_NAME(X)                                                                       \
    X(s_call_soon, "call_soon") X(s_call_at, "call_at") X(s_time, "time")                  \
    X(s_add_done_callback, "add_done_callback") X(s_blocking, "_asyncio_future_blocking")  \
    X(s_cancel, "cancel") X(s_throw, "throw") X(s_get_loop, "get_loop")                    \
    X(s_cancelling, "cancelling") X(s_uncancel, "uncancel") X(s_done, "done")              \
    X(s_msg, "msg") X(s_set_result, "set_result") X(s_result, "result")                    \
    X(s_fileno, "fileno") X(s_context, "context")

struct mod_state {
#define X(field) PyTypeObject *field;
    EACH_TYPE(X)
#undef X
#define X(field) PyObject *field;
    EACH_OBJECT(X)
#undef X
#define X(field, text) PyObject *field;
    EACH_NAME(X)
#undef X
    struct tr_state tr; /* the transports' */
#ifdef Py_GIL_DISABLED
    own_lock lock; /* guards hosts, their ->next and nguests */
#endif
    pyhost *hosts; /* open hosts, linked by ->next; one leaves on its own thread */
    int nguests;   /* how many of them are guests */
    opobj *op_free;
    int op_nfree;
    uint64_t g_counter; /* for default names */
};

extern struct PyModuleDef treadle_module;
mod_state *state_of(PyObject *module);
PyObject *type_make(PyObject *module, PyType_Spec *spec, PyObject *bases); /* each type of ours */
PyObject *module_by_type(PyTypeObject *type); /* borrowed; of ours, or a subclass; NULL: exception */

/* The state behind one of our types. NULL once the collector has taken the
 * module away, at the end of an interpreter: what runs then (finalizers, and
 * finally blocks of coroutines) gets RuntimeError from state_gone. */
static inline mod_state *
type_state(PyTypeObject *type)
{
    PyObject *module = ((PyHeapTypeObject *)type)->ht_module;
    return module == NULL ? NULL : (mod_state *)PyModule_GetState(module);
}
#define STATE(self) type_state(Py_TYPE(self))
bool state_gone(mod_state *st); /* true: with an exception */

/* -- Hosts --------------------------------------------------------------- */

/* One tdl_host, bound to one asyncio loop and to the thread that runs it. */
struct pyhost {
    PyObject_HEAD
    mod_state *st;
    PyObject *module; /* strong, so that st stays */
    tdl_host *core;   /* NULL once closed */
    tdl_outcome *out;
    PyObject *loop;      /* strong; cleared by close and by the collector */
    PyObject *call_soon; /* loop.call_soon */
    struct ploop *ploop; /* own loop only: its C half (borrowed: h->loop holds it) */
    pyhost *next;
    const void *thread; /* identity of its thread; written under st->lock, SEEN by others */
#ifdef Py_GIL_DISABLED
    own_word own;  /* its thread's, while its core is open */
    own_lock lock; /* guards loop (for other threads), live, first_error, dropped, gone; current, while watched */
    struct procs *procs; /* the Ps that it is one of, or NULL; see procs.h */
    int ip;              /* which */
#endif
    PyObject **slots;   /* by task: a G or an op (strong), or NULL */
    uint32_t nslots;
    uint32_t spare;       /* a task for the next op outside a G, or NO_TASK */
    gobj *current;        /* the G that is being stepped (borrowed) */
    gobj *stale;          /* asyncio has it as the current task, but it waits again (asyncio's reference) */
    gobj *live;           /* Gs not done, or with an error nobody has seen */
    PyObject *first_error; /* first error that was reported */
    tdl_event events[BATCH];
    int nevents, ievent; /* what is left of a batch that an exception cut */
    int depth;           /* nested eager spawns */
    int pending;         /* ops and parks whose event is to come */
    bool guest, dispatching, kicked;
    uint64_t beat;       /* watchdog.c: odd while it runs code; kept only while watched */
    struct watch *watch; /* or NULL */
    PyObject *deferred; /* tasks with a cancellation to come, see opobject.c, or NULL */
    PyObject *reader; /* guest: what add_reader has (borrowed: it owns us) */
    PyObject *kicker; /* guest: what call_soon and call_at get */
    PyObject *timer;  /* guest: the loop's TimerHandle, or NULL */
    int64_t timer_when;
    tdl_chan **dropped; /* local channels freed by another thread */
    size_t ndropped;
    bool gone; /* takes no more of them: it is being closed */
    bool moved; /* to another thread, which its channels do not know yet: see chan_core */
};

/* Is its thread the calling one? Any thread may ask. */
static inline bool
host_mine(const pyhost *h)
{
    return SEEN(h->thread) == thread_identity();
}

bool host_move(pyhost *h);  /* makes it this thread's, which is to run its loop, or to close it; false: it cannot */
bool host_fetch(pyhost *h); /* the same, unless its loop runs on another thread */
/* May this thread use the core's host? Its own, or one that it can have. */
static inline bool
host_reach(pyhost *h)
{
    return h->core != NULL && (__builtin_expect(host_mine(h), 1) || host_fetch(h));
}

/* Has its thread ended, which never closed it? */
static inline bool
host_left(const pyhost *h)
{
    return h->core != NULL && !host_mine(h) && tdl_host_left(h->core);
}

extern PyType_Spec host_spec, reader_spec, loop_spec, sockop_spec;
/* Eight bytes of the room that the dynamic linker keeps for libraries loaded later: no
 * call is needed to find it. */
#define NEAR_THREAD __attribute__((tls_model("initial-exec")))
extern NEAR_THREAD _Thread_local pyhost *tl_running; /* the host that runs code now */

/* The host of the running loop, made on first use; borrowed. NULL: exception. */
pyhost *host_get(mod_state *st);
pyhost *host_open(mod_state *st, PyObject *loop, bool guest);
void host_close(pyhost *h);
/* Hands events to goroutines and ops. 0, or -1 with an exception that is to
 * leave the loop; what is left of the batch is then kept for the next call. */
int host_poll(pyhost *h, int64_t timeout_ns);
PyObject *host_loop(pyhost *h); /* a new reference; NULL: it is closed */
/* The same with flags of tdl_host_poll_opts, and what came of it: 1 when there were
 * events, else 0; HOST_STUCK for TDL_EDEADLOCK. */
enum { HOST_STUCK = 2 };
int host_poll_with(pyhost *h, int64_t timeout_ns, int flags);
uint32_t host_task_new(pyhost *h, bool run, PyObject *obj);
void host_task_free(pyhost *h, uint32_t task);
int host_task_spare(pyhost *h);
void host_drop_chan(pyhost *h, tdl_chan *ch);

/* watchdog.c: report(goroutine or None, seconds, ident, went_on) is called, on
 * another thread, once for each time that the host's thread runs for longer than
 * limit nanoseconds without a beat. */
int watch_start(pyhost *h, int64_t limit, PyObject *report);
void watch_stop(pyhost *h);
PyObject *watch_stop_all(PyObject *module, PyObject *ignored);
/* Its watchdog may look at who is stepped from its own thread; who is stepped is held until the
 * next one is set here. */
static inline void
host_current(pyhost *h, gobj *g)
{
#ifdef Py_GIL_DISABLED
    if (h->watch != NULL) {
        LOCK(&h->lock);
        h->current = g;
        UNLOCK(&h->lock);
        return;
    }
#endif
    h->current = g;
}
/* runs: what comes is code; else the host waits, or others' code runs. */
static inline void
watch_beat(pyhost *h, bool runs)
{
    __atomic_store_n(&h->beat, ((h->beat | 1) + 1) | runs, __ATOMIC_RELAXED);
}

/* Is this the child of a fork, where the runtime does not exist? */
static inline bool
forked(void)
{
    return tdl_metric(NULL) == TDL_EFORKED;
}

/* -- Guest mode ---------------------------------------------------------- */

int guest_attach(pyhost *h);
void guest_detach(pyhost *h);
void guest_kick_thread(mod_state *st);
void guest_kick(pyhost *h);
/* After an act that may have readied something: makes sure that it is seen. */
#define HOST_KICK(h) do { if ((h)->guest && !(h)->dispatching && !(h)->kicked) guest_kick(h); } while (0)
#define THREAD_KICK(st) do { if (SEEN((st)->nguests)) guest_kick_thread(st); } while (0)

/* -- Ops ----------------------------------------------------------------- */

/* An awaitable: one operation, which starts at its first send. */
enum op_kind {
    OP_VALUE, /* a result that was there from the start */
    OP_YIELD, OP_SLEEP, OP_JOIN, OP_SIM_WAIT,
    OP_SEND, OP_RECV, OP_RECV_OK, OP_RECV_NEXT,
    OP_SELECT, OP_LOCK, OP_COND, OP_ACQUIRE, OP_WAIT,
    OP_RLOCK, OP_WLOCK, OP_ONCE, OP_CONTEXT, OP_PLACE, OP_GROUP, OP_FLIGHT,
    OP_SCOPE, /* target: the set of goroutines that it waits for; op_wake ends it */
    OP_ACCEPT, OP_ACCEPT_NEXT, OP_DIAL,
    OP_READ, OP_EXACT, OP_LINE, OP_LINE_NEXT, OP_UNTIL, OP_WRITE,
    OP_NET, /* arg: its call, see net.h */
};

enum op_state { OP_NEW, OP_PENDING, OP_DONE, OP_SPENT };

#define OP_ERROR INT32_MIN /* op_start: a Python exception is set */

/* Each goroutine that waits has one: 80 bytes. */
struct opobj {
    PyObject_HEAD
    pyhost *host;     /* strong, from the start on */
    PyObject *target; /* strong: what it works on */
    PyObject *arg;    /* strong: what it sends, writes …; NULL */
    PyObject *value;  /* PENDING: the message of its cancellation; DONE: its result, or with
                         `failed` the exception; NULL. Of a free one: the next */
    PyObject *callbacks; /* list of (callback, context), or NULL */
    gobj *g;          /* the G that waits on it (borrowed), or NULL */
    int64_t num;      /* nanoseconds, permits, or a limit in bytes */
    uint32_t task;
    uint8_t kind, state;
    bool failed : 1;    /* value is an exception */
    bool blocking : 1;  /* asyncio's mark: just yielded */
    bool abandoned : 1; /* nobody wants the result */
    bool cancelled : 1; /* the core was told to end it so */
    bool counted : 1;   /* in host->pending, with a slot */
    bool closed_in : 1; /* it waits on local channels alone: see collect.c */
    bool shed : 1;      /* its task was a G's, and may be known as the owner of locks */
};

extern PyType_Spec op_spec;
bool op_check(PyObject *object); /* is it an op? Holds without the state, too */
opobj *op_new(mod_state *st, int kind, PyObject *target, PyObject *arg, int64_t num);
PyObject *op_value(mod_state *st, PyObject *value); /* steals value; NULL passes through */
PyObject *op_self(PyObject *self, PyObject *ignored); /* __aenter__ of what is itself entered */
PySendResult op_send(opobj *op, PyObject **result);
/* What all awaitables have in common. NULL, with an exception: StopIteration(value), which is taken, or what
 * throw() was called with. */
PyObject *stop_with(PyObject *value);
PyObject *raise_thrown(PyObject *const *args, Py_ssize_t n);
PySendResult op_begin(opobj *op, PyObject **result, bool alone); /* alone: nobody waits for it */
/* Its state, and the host that it had by then is the one it has. */
static inline int
op_state(opobj *op)
{
    return __atomic_load_n(&op->state, __ATOMIC_ACQUIRE); /* with the release of op_set_state */
}

static inline void
op_set_state(opobj *op, int state)
{
    __atomic_store_n(&op->state, (uint8_t)state, __ATOMIC_RELEASE); /* with the acquire of op_state */
}

static inline pyhost *
op_host(opobj *op) /* any thread may ask */
{
    return __atomic_load_n(&op->host, __ATOMIC_ACQUIRE); /* with the release in op_begin, after which it stays */
}

#define OP_OWN(op) (op_state(op) != OP_NEW && op_host(op) != NULL ? &op_host(op)->own : NULL)
/* Nobody will take its result. */
void op_abandon(opobj *op);
/* Before an op waits in a Task: -1 with CancelledError if one was deferred. */
int op_take_deferred(mod_state *st, pyhost *h);
/* The event of an op came (or its result, without the core's help). */
void op_complete(opobj *op, uint32_t task, int32_t code);
PyObject *op_recancel(PyObject *module, PyObject *const *args, Py_ssize_t n);
/* Starts an op that nobody awaits: its callbacks are called at its end. */
PyObject *op_launch(PyObject *module, PyObject *op);
PyObject *op_scope(PyObject *module, PyObject *goroutines);

/* opkinds.c: what each kind does. op_start returns the core's code;
 * op_result its result as an object, or NULL with an exception. */
int32_t op_start(opobj *op, pyhost *h, uint32_t task);
PyObject *op_result(opobj *op, uint32_t task, int32_t code);
void op_discard(opobj *op); /* a result that nobody took is put back */
const char *op_name(const opobj *op);
void op_forgotten(const opobj *op);

/* collect.c: what a wait can be ended by, for the collector. */
bool host_waits_alone(pyhost *h, uint32_t task);
int host_visit_slots(pyhost *h, visitproc visit, void *arg);
int chan_visit_waiters(pyhost *h, tdl_chan *ch, visitproc visit, void *arg);
void op_hold(opobj *op);
void op_let_go(opobj *op);
void g_collect(gobj *g);

/* -- Goroutines ---------------------------------------------------------- */

enum g_state { G_READY, G_RUNNING, G_WAITING, G_DONE, G_FAILED, G_CANCELLED };

/* What few goroutines need. */
typedef struct {
    PyObject *name; /* NULL: made when asked for */
    PyObject *error_tb;
    PyObject *cancel_msg;
    PyObject *callbacks; /* list of (callback, context), or NULL */
    PyObject *group;     /* WaitGroup to tell when done, or NULL */
    PyObject *wakeup;    /* bound method, made when a future is awaited */
} grare;

struct gobj {
    PyObject_HEAD
    pyhost *host;      /* strong */
    PyObject *coro;    /* NULL once done */
    PyObject *context;
    PyObject *waiting; /* strong: the op or future it waits on, or NULL */
    PyObject *value;   /* ended: its result, or its exception */
    PyObject *joiners; /* list of ops of kind JOIN, or NULL */
    grare *rare;       /* NULL until there is something in it */
    gobj *prev_live, *next_live;
    PyObject *dict, *weakrefs;
    uint64_t number;
    uint32_t task;
    int cancels; /* requests not taken back, as asyncio counts them */
    uint8_t state;
    bool busy;        /* an operation of the core is pending on its task */
    bool must_cancel; /* CancelledError at the next chance */
    bool unseen;      /* failed, and nobody has looked */
    bool linked;      /* in host->live */
#ifdef Py_GIL_DISABLED
    bool begun;    /* see procs.h */
    pyhost *first; /* strong: where it was listed before it began, for those who look at it still; or NULL */
#endif
    bool registered;  /* in asyncio.all_tasks() */
    char log_destroy; /* asyncio's _log_destroy_pending, which it may clear */
    bool blocking;
};

/* What is there of it; NULL: nothing. */
#ifdef Py_GIL_DISABLED /* of several Ps another may be setting it: acquire, with the releases of g_rare and g_cancel_across */
#define G_RARE(g, field)                                                                        \
    ({                                                                                          \
        grare *rare_ = __atomic_load_n(&(g)->rare, __ATOMIC_ACQUIRE);                           \
        rare_ != NULL ? __atomic_load_n(&rare_->field, __ATOMIC_ACQUIRE) : NULL;                \
    })
#else
#define G_RARE(g, field) ((g)->rare != NULL ? (g)->rare->field : NULL)
#endif
/* To write to; NULL: MemoryError. */
grare *g_rare(gobj *g);

extern PyType_Spec g_spec;
bool g_check(PyObject *object);
PyObject *g_spawn(mod_state *st, pyhost *host, PyObject *coro, PyObject *name, PyObject *context,
                  PyObject *group);
int g_event(gobj *g, int32_t code);
int g_step(gobj *g, PyObject *exc);
void g_cancel_wait(gobj *g, PyObject *msg);
void g_finish(gobj *g, PyObject *result, PyObject *error);
bool g_cancel(gobj *g, PyObject *msg);
PyObject *g_result(gobj *g);
PyObject *g_cancelled_error(gobj *g);
void g_join_remove(gobj *g, opobj *op);
void g_link(gobj *g);
void g_unlink(gobj *g);
void g_unlink_all(pyhost *h);
/* Leaves the op that is pending on g's task to itself, with that task; g gets
 * a new one. For coroutines that start an op and then wait for another. */
int g_shed(gobj *g);
opobj *g_op(gobj *g);
int g_report(gobj *g);
void g_call_soon(pyhost *h, PyObject *callback, PyObject *arg, PyObject *context);
void g_call_back(gobj *g, PyObject *entry);
PyObject *g_wakeup(PyObject *self, PyObject *future);
/* circle.c: does this goroutine or task wait for `goal` to end, by awaiting it or
 * in a scope, perhaps through others? 0, or -1 with DeadlockError, or another.
 * Cheap when it waits for something else. */
int circle_through(mod_state *st, PyObject *node, PyObject *goal);
PyObject *circle_waits_for(PyObject *module, PyObject *const *args, Py_ssize_t n);
#define G_ENDED(g) (SEEN((g)->state) >= G_DONE)

PyObject *make_cancelled(mod_state *st, PyObject *msg);

/* -- Channels, select, synchronisation ----------------------------------- */

typedef struct {
    PyObject_HEAD
    tdl_chan *core; /* NULL until first used in a loop */
    pyhost *host;   /* strong; NULL until then */
    uint32_t cap;
    bool closed; /* closed before it had a core */
    bool across; /* set with core: one of several Ps, see procs.h; the core's has a lock */
    PyObject *weakrefs;
} chanobj;

typedef struct {
    PyObject_HEAD
    tdl_chan *core;
    PyObject *weakrefs;
} sharedobj;

/* A select case: what recv_op, send_op and after_op return. */
typedef struct {
    PyObject_HEAD
    PyObject *chan;  /* NULL: a timer */
    PyObject *value; /* what to send, or NULL: receive */
    int64_t ns;      /* a timer's delay */
} caseobj;

typedef struct {
    PyObject_HEAD
    tdl_mutex *core;
    uint32_t owed; /* unlocks to come that are not the core's, see mutex_owe */
    PyObject *weakrefs;
} mutexobj;

typedef struct { PyObject_HEAD tdl_cond *core; mutexobj *mutex; PyObject *weakrefs; } condobj;
typedef struct { PyObject_HEAD tdl_sema *core; PyObject *weakrefs; } semaobj;
typedef struct { PyObject_HEAD tdl_waitgroup *core; PyObject *weakrefs; } groupobj;

typedef struct {
    PyObject_HEAD
    tdl_timer *core;
    int64_t due, period; /* for its repr alone: when it was to fire first, NEVER after stop(). Relaxed atomics */
    PyObject *weakrefs;
} timerobj;
typedef struct { PyObject_HEAD tdl_rwmutex *core; PyObject *weakrefs; } rwobj;
typedef struct { PyObject_HEAD tdl_context *core; } contextobj;
typedef struct { PyObject_HEAD tdl_once *core; } onceobj;
typedef struct { PyObject_HEAD tdl_errgroup *core; } errgroupobj;
typedef struct { PyObject_HEAD tdl_singleflight *core; PyObject *flights; } flightobj;

extern PyType_Spec chan_spec, shared_spec, case_spec, mutex_spec, cond_spec, sema_spec, group_spec,
    timer_spec, ticker_spec, rw_spec, side_spec, context_spec, once_spec, errgroup_spec, flight_spec;

/* For those that begin with a pointer to what the core has. */
PyObject *address_get(PyObject *self, void *closure);
PyObject *core_repr(PyObject *self);
extern PyGetSetDef address_getset[];

bool timer_check(PyObject *object);
PyObject *timer_due(tdl_val *v);
bool context_check(PyObject *object);
PyObject *context_wrap(mod_state *st, tdl_context *core);
int32_t flight_start(opobj *op, pyhost *h, uint32_t task);
PyObject *flight_result(opobj *op, int32_t code);

int mutex_give(mutexobj *m); /* unlocks it, the core's code */
void mutex_owe(mutexobj *m); /* a waiter that ends at once holds it, too */

/* Methods that Chan and SharedChan have alike. */
PyObject *chan_send(PyObject *ch, PyObject *value);
PyObject *chan_recv(PyObject *ch, PyObject *ignored);
PyObject *chan_recv_ok(PyObject *ch, PyObject *ignored);
PyObject *chan_anext(PyObject *ch);
/* Gives back what a local channel carries, and frees it. */
void chan_drain(tdl_chan *core);
/* The core's channel behind a Chan or SharedChan. NULL: exception. h may be
 * NULL when the object is a SharedChan. */
tdl_chan *chan_core(PyObject *chan, pyhost *h);
/* Of all that can be received from: timers, and contexts (whose channel may be
 * NULL: never ready), too. -1: exception. */
int source_core(PyObject *source, pyhost *h, tdl_chan **ch);
PyObject *source_decode(mod_state *st, PyObject *source, tdl_val *v);
bool chan_is_local(PyObject *chan); /* a Chan: it carries references */
#ifdef Py_GIL_DISABLED
bool chan_is_across(PyObject *chan); /* … and is of several Ps */
#else
#define chan_is_across(chan) false
#endif
int cap_arg(PyObject *arg, const char *what, uint32_t *cap);
/* A value for this channel: counted or copied. 0, or -1 with an exception. */
int chan_encode(mod_state *st, PyObject *chan, PyObject *value, tdl_val *v);
/* The object that v carries; v is nil afterwards. */
PyObject *val_decode(mod_state *st, tdl_val *v);
int val_encode(mod_state *st, PyObject *value, tdl_val *v);
PyObject *shared_wrap(mod_state *st, tdl_chan *ch);
PyObject *case_new(mod_state *st, PyObject *chan, PyObject *value, int64_t ns);

int32_t select_start(opobj *op, pyhost *h, uint32_t task);
void select_losers(opobj *op, int32_t code); /* sends that did not happen */
PyObject *select_result(opobj *op, uint32_t task, int32_t code);
PyObject *select_now(PyObject *module, PyObject *const *args, Py_ssize_t n);
PyObject *select_op(PyObject *module, PyObject *const *args, Py_ssize_t n);
PyObject *after_op(PyObject *module, PyObject *seconds);

/* -- Network ------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    tdl_conn *core;
    bool closed;
    PyObject *weakrefs;
} connobj;

typedef struct {
    PyObject_HEAD
    tdl_listener *core;
    bool closed;
    int port;          /* with address: of one that a server has taken */
    PyObject *address; /* NULL: ask the core */
    PyObject *weakrefs;
} listenerobj;
int listener_keep_address(listenerobj *l);

typedef struct { PyObject_HEAD PyObject *conn; int64_t limit; } linesobj;

extern PyType_Spec conn_spec, lines_spec, listener_spec;
bool conn_check(PyObject *object);
PyObject *conn_wrap(mod_state *st, tdl_conn *c);
PyObject *net_listen(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *net_adopt_listener(PyObject *module, PyObject *fd);
PyObject *net_dial(PyObject *module, PyObject *args, PyObject *kwargs);
int deadline_arg(PyObject *when, int64_t *ns);
/* Of each operation, for settimeout, as the core wants it; 0: None. */
int timeout_arg(PyObject *seconds, int64_t *ns);
/* A finalizer's: something was dropped that was never closed. An exception in progress stays. */
void warn_unclosed(PyObject *object, const char *what);

/* -- Errors and arguments (errors.c) ------------------------------------- */

/* Raises what a code of the core means; `what` says who failed. NULL. */
PyObject *raise_code(mod_state *st, int64_t code, const char *what);
PyObject *raise_net(mod_state *st, int64_t code, const char *verb, PyObject *object);
PyObject *raise_cancelled(mod_state *st, PyObject *msg);
PyObject *raise_closed_channel(mod_state *st, const char *what, Py_ssize_t index);
/* Seconds (int or float) to nanoseconds, saturating, rounded up. -1: exception. */
int seconds_arg(PyObject *seconds, const char *what, int64_t *ns);

typedef struct { PyType_Spec *spec; PyTypeObject **type; const char *name; } new_type;
/* Makes types and adds them to the module. 0, or -1 with an exception. */
int types_add(PyObject *module, const new_type *types, size_t n);
/* The traverse of what refers to nothing but its type. */
static inline int
type_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

#endif
