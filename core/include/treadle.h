/* SPDX-License-Identifier: MIT
 *
 * treadle: goroutines, channels, select and network I/O for C, and for any
 * host language that can call C.  This header is the whole public interface,
 * with treadle/io.h (readers and writers), which it includes.
 *
 * Who may call.  Every function says which callers it serves:
 *   goroutine  code running in a goroutine started by tdl_run or tdl_go;
 *   thread     any other thread of the process ("plain thread");
 *   host       the thread that opened a tdl_host, between open and close.
 * A *blocking* function waits: a goroutine parks (its thread runs others), a
 * plain thread sleeps.  On a host thread it never waits, but returns TDL_EHOST
 * at once: a host uses the `_start` form beside it, and tdl_host_poll.
 * Everything that is not called blocking returns promptly on every caller.
 *
 * Results.  0 or more is success.  A system error is its negated errno
 * (-ECONNRESET); treadle's own codes lie below -4096.  errno is never set and
 * never to be read.  TDL_EFORKED is what every call that can fail returns in
 * the child of a fork, where the runtime does not exist; TDL_ENOMEM what any
 * call may return that finds no memory, one with a deadline included.
 *
 * Time.  All times are nanoseconds.  A deadline is an absolute time on the
 * clock of tdl_now(), which is monotonic and always positive.
 *
 * Cancellation.  tdl_cancel(g) makes the blocking call that g is in, and every
 * later one, return TDL_ECANCELED.  A value, connection or lock that had been
 * handed over before is kept: the call then returns success.
 *
 * Misuse that can be detected is an error code (TDL_EINVAL for a null handle
 * or an argument out of range); a handle used after its _free is undefined.
 */
#ifndef TREADLE_H
#define TREADLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TDL_API __attribute__((visibility("default")))
#else
#define TDL_API
#endif

#define TDL_VERSION_MAJOR 0
#define TDL_VERSION_MINOR 1
#define TDL_VERSION_PATCH 0
#define TDL_ABI_VERSION   1

/* -- Version ------------------------------------------------------------- */

/* "0.1.0"; a static string. Any caller. */
TDL_API const char *tdl_version(void);
/* TDL_ABI_VERSION of the library that runs; a binding refuses a library whose number is not the one
 * it was generated for. Any caller. */
TDL_API int tdl_abi_version(void);
/* sizeof of the public structure named ("tdl_val", "tdl_case", "tdl_event",
 * "tdl_outcome", "tdl_stat", "tdl_go_options", "tdl_addr", …); 0 for another name. Any caller. */
TDL_API size_t tdl_abi_size(const char *type);

/* -- Codes --------------------------------------------------------------- */

enum {
    TDL_ECLOSED    = -4097, /* the object is closed */
    TDL_ETIMEDOUT  = -4098, /* the deadline passed first */
    TDL_ECANCELED  = -4099, /* the goroutine or task was cancelled */
    TDL_EAGAIN     = -4100, /* a try form found nothing ready */
    TDL_EINVAL     = -4101, /* an argument is null or out of range */
    TDL_ENOMEM     = -4102, /* out of memory */
    TDL_EFORKED    = -4103, /* child of a fork: there is no runtime here */
    TDL_EBUSY      = -4104, /* already running, or in use by another caller */
    TDL_EHOST      = -4105, /* blocking form on a host thread, or a _start form off its host's thread */
    TDL_ENOTLOCKED = -4106, /* unlock of an unlocked mutex */
    TDL_ENEGATIVE  = -4107, /* wait group counter would be negative */
    TDL_EADDRESS   = -4108, /* address does not parse, or is not one for this socket */
    TDL_EEOF       = -4109, /* end of stream before the frame was complete */
    TDL_ETOOLONG   = -4110, /* no frame within the limit */
    TDL_EDEADLOCK  = -4111, /* the caller would wait for itself */
    TDL_ETHREADS   = -4112, /* the limit of threads is reached: tdl_set_max_threads */
    TDL_ESTACK     = -4113, /* a stack size out of range */
    TDL_ESTACKS    = -4114, /* no more stacks: the system's limit of mappings is reached; see tdl_spawn */
    TDL_ESYSTEM    = -4115, /* would wait inside tdl_system_stack */
    TDL_ENETWORK   = -4120, /* no such network, or not one for this call */
    TDL_EPORT      = -4121, /* the port is missing, no number, or above 65535 */
    TDL_ETRUNCATED = -4122, /* the message was longer than the room for it: its end is lost */
    TDL_ENOPOLL    = -4123, /* the descriptor cannot be polled (a regular file, a directory) */
    TDL_ESIM       = -4124, /* crosses the border of a simulation */
    TDL_ELIMIT     = -4125, /* a simulation has taken more steps or time than it may */
    TDL_ENONAME    = -4130, /* the host's name does not resolve */
    TDL_ENAMESERVER = -4131, /* no name server has answered */
    TDL_ENOTLS     = -4140, /* OpenSSL 3 is not there: see tdl_tls_library */
    TDL_ETLS       = -4141, /* TLS: the two sides do not agree, or what came is no TLS */
    TDL_ETLSALERT  = -4142, /* TLS: the peer has refused, and said why */
    TDL_ECERT      = -4143, /* TLS: the peer's certificate is not trusted */
    TDL_ECERTNAME  = -4144, /* TLS: the peer's certificate is for another name */
    TDL_ETLSEOF    = -4145, /* TLS: the stream was cut off: its end was not announced */
    TDL_PENDING    = -4200  /* _start forms only: the result will come from tdl_host_poll */
};

/* What the code means, in a few words ("connection reset by peer"); a static
 * string, for an unknown code too. Any caller. */
TDL_API const char *tdl_strerror(int code);
/* The code's stable name ("TDL_ECLOSED", "ECONNRESET"); a static string. Any caller. */
TDL_API const char *tdl_errname(int code);

/* -- Time ---------------------------------------------------------------- */

#define TDL_NANOSECOND  INT64_C(1)
#define TDL_MICROSECOND INT64_C(1000)
#define TDL_MILLISECOND INT64_C(1000000)
#define TDL_SECOND      INT64_C(1000000000)
#define TDL_MINUTE      (60 * TDL_SECOND)
#define TDL_HOUR        (60 * TDL_MINUTE)

#define TDL_FOREVER INT64_MAX   /* a deadline that never comes */
#define TDL_NOWAIT  INT64_C(-1) /* try once: TDL_EAGAIN where the call would wait */

/* Monotonic nanoseconds, always positive. Any caller. */
TDL_API int64_t tdl_now(void);

/* -- Values -------------------------------------------------------------- */

/* What a channel carries: 16 bytes. Bytes are reference-counted and immutable,
 * the rest is plain. Read and write it through the functions below; the layout
 * is public for bindings: `type` says which member of the union holds, `flags`
 * is carried along untouched for bindings (text or bytes, say).
 * A tdl_val_set_… function overwrites without looking at what was there, so
 * that an uninitialised tdl_val may be set: clear one that may hold bytes. */
typedef struct tdl_val {
    int32_t  type;  /* TDL_NIL … */
    uint32_t flags;
    union {
        int64_t i; /* TDL_INT, TDL_BOOL, TDL_REF */
        double  d; /* TDL_DOUBLE */
        void   *p; /* TDL_PTR, TDL_BYTES, TDL_CHAN */
    } u;
} tdl_val;

enum {
    TDL_NIL    = 0,
    TDL_BOOL   = 1,
    TDL_INT    = 2,
    TDL_DOUBLE = 3,
    TDL_PTR    = 4, /* the pointer only: never freed, never followed */
    TDL_BYTES  = 5, /* holds a reference */
    TDL_CHAN   = 6, /* holds a reference to a shared channel */
    TDL_REF    = 7  /* a number that only its host can read; local channels only */
};

/* All of these: any caller; `v` must not be null. The getters return 0, 0.0,
 * NULL for a value of another type. */
TDL_API int     tdl_val_type(const tdl_val *v);
TDL_API void    tdl_val_set_nil(tdl_val *v);
TDL_API void    tdl_val_set_bool(tdl_val *v, int truth);
TDL_API void    tdl_val_set_int(tdl_val *v, int64_t i);
TDL_API void    tdl_val_set_double(tdl_val *v, double d);
TDL_API void    tdl_val_set_ptr(tdl_val *v, void *p);
/* Copies the n bytes. 0 or TDL_ENOMEM (v is then nil). */
TDL_API int     tdl_val_set_bytes(tdl_val *v, const void *bytes, size_t n);
TDL_API int     tdl_val_bool(const tdl_val *v);
TDL_API int64_t tdl_val_int(const tdl_val *v);
TDL_API double  tdl_val_double(const tdl_val *v);
TDL_API void   *tdl_val_ptr(const tdl_val *v);
/* The bytes, valid as long as v holds them, and their number (n may be NULL). */
TDL_API const void *tdl_val_bytes(const tdl_val *v, size_t *n);
/* Makes v carry the descriptor, which belongs to the value from then on and is
 * closed with its last holder; its bytes are none. 0; TDL_EINVAL; TDL_ENOMEM
 * (fd stays the caller's). */
TDL_API int     tdl_val_set_fd(tdl_val *v, int fd);
/* Takes the descriptor out, which is the caller's then: among all holders the
 * first one gets it. TDL_EINVAL: there is none, or not any more. */
TDL_API int     tdl_val_take_fd(const tdl_val *v);
/* Bytes that carry other values along: channels, descriptors, bytes, anything but a
 * TDL_REF and what carries values itself. The `count` values at `carry` become v's
 * and are nil afterwards; they go with v's last holder. 0; TDL_EINVAL, TDL_ENOMEM
 * (they stay the caller's). */
TDL_API int     tdl_val_set_bundle(tdl_val *v, const void *bytes, size_t n, tdl_val *carry, uint32_t count);
/* Makes out a second holder of the value that v carries at i, from 0; TDL_EINVAL: there is none there. */
TDL_API int     tdl_val_carried(const tdl_val *v, uint32_t i, tdl_val *out);
/* dst becomes a second holder of what src holds. */
TDL_API void    tdl_val_copy(tdl_val *dst, const tdl_val *src);
/* Gives up what v holds; v is nil afterwards. */
TDL_API void    tdl_val_clear(tdl_val *v);

/* -- Goroutines ---------------------------------------------------------- */

typedef struct tdl_g tdl_g;

enum { TDL_GO_JOINABLE = 1 };

typedef struct tdl_go_options {
    uint32_t    size;  /* sizeof(tdl_go_options) */
    uint32_t    flags; /* TDL_GO_JOINABLE */
    size_t      stack; /* bytes of address space, 4 KiB to 8 MiB, made 16 or 64 KiB, 256 KiB, 1 or 8 MiB;
                          0: the default, 64 KiB. See Stacks below */
    const char *name;  /* shown in dumps; the first 31 bytes are copied; may be NULL */
} tdl_go_options;

/* Starts the runtime, runs main_g as a goroutine and returns its result once it
 * has returned. Goroutines that are still there then never run again and their
 * memory is freed; one that is running is waited for until its next treadle
 * call that may wait. Connections and listeners that goroutines opened, or
 * plain threads, are closed then: later calls on them return TDL_ECLOSED. Plain threads only: TDL_EBUSY inside a run or while
 * another thread is in tdl_run, TDL_EHOST on a host thread, TDL_EINVAL for a
 * null function. May be called again after it returned.
 * When every goroutine is blocked and nothing can wake one, the program ends
 * with "fatal error: all goroutines are asleep - deadlock!", the dump and
 * status 2; never while the process has a thread outside treadle's calls, a
 * host, a timer, or an operation that waits for a descriptor. */
TDL_API int tdl_run(int (*main_g)(void *), void *arg);

/* Starts fn(arg) as a goroutine. Any caller; where no runtime runs yet, one is
 * started. NULL: fn is null or memory is out. The result may be ignored, and is
 * of use only when joinable. */
TDL_API tdl_g *tdl_go(void (*fn)(void *), void *arg);
/* The same with options (NULL: none). NULL also for a size or stack that is out
 * of range, or an unknown flag. */
TDL_API tdl_g *tdl_go_opts(void (*fn)(void *), void *arg, const tdl_go_options *opts);
/* The same, and says why not: 0, and the goroutine in *g (g may be NULL);
 * TDL_EINVAL: fn is null, or the options' size or a flag is unknown; TDL_ESTACK:
 * a stack size out of range; TDL_ENOMEM: no memory or address space for a stack;
 * TDL_ESTACKS: no more guard pages: on Linux before 6.13 each stack takes two
 * mappings, of which a process may have vm.max_map_count (65,530 by default, so
 * about 32,700 stacks); TDL_EFORKED. Any caller. */
TDL_API int tdl_spawn(tdl_g **g, void (*fn)(void *), void *arg, const tdl_go_options *opts);
/* Waits until the joinable goroutine g has ended and frees its handle.
 * Blocking. 0; TDL_EINVAL: not joinable; TDL_EBUSY: somebody else joins it;
 * TDL_EDEADLOCK: g is the caller; TDL_ECANCELED: the caller was cancelled (g
 * stays joinable). */
TDL_API int tdl_join(tdl_g *g);
/* Cancels the joinable goroutine g (see Cancellation above). 0 or TDL_EINVAL.
 * Any caller. */
TDL_API int tdl_cancel(tdl_g *g);
/* Ends the calling goroutine at once, as if its function had returned (there
 * is no clean-up of its C frames). Elsewhere it returns TDL_EINVAL. */
TDL_API int tdl_goexit(void);
/* Lets other goroutines run. A plain thread gives up its CPU; a host thread
 * returns at once. */
TDL_API void tdl_yield(void);
/* Waits ns nanoseconds, never less; 0 or less returns at once. Blocking.
 * 0, TDL_ECANCELED, TDL_EHOST. */
TDL_API int tdl_sleep(int64_t ns);
/* Number of Ps, that is, how many goroutines run at once; n >= 1 also sets it,
 * at most 1024, while they run, too: nobody is stopped for it, a P that is one
 * too many ends its work when its goroutine lets it. The default is
 * TDL_MAXPROCS from the environment, or else the CPUs that this process may
 * use, or what its cgroup, or one above it, allows, but then 2 at least; the
 * latter two are followed as they change. Returns the previous number; n < 1
 * only asks. TDL_ENOMEM or a system error: as it was. Any caller. */
TDL_API int tdl_gomaxprocs(int n);
/* The number of threads that the runtime may have (10,000 as in Go); n >= 1 also
 * sets it. A goroutine that may not be held up (tdl_pin, TDL_BLOCK_LONG) ends
 * the process with a message where the limit is reached; where it is only
 * convenient another thread is done without. Returns the previous one. Any caller. */
TDL_API int tdl_set_max_threads(int n);

/* A foreign call that blocks or takes long belongs between these two, so that
 * other goroutines run meanwhile: on a thread of their own at once with
 * TDL_BLOCK_LONG (the call takes 20 us or more), or with TDL_BLOCK_SHORT when
 * it turns out to take longer than about a millisecond. They nest. Without them, too, a
 * goroutine that has not called the runtime for 10 ms while others wait runs on
 * beside them, on a thread of its own; no signal is sent. After the end the
 * goroutine may be on another thread. For a plain thread and a host they do nothing. 0;
 * TDL_EINVAL: another hint; an end without a beginning. */
enum { TDL_BLOCK_SHORT = 1, TDL_BLOCK_LONG = 2 };
TDL_API int tdl_block_begin(int hint);
TDL_API int tdl_block_end(void);

/* From tdl_pin on the calling goroutine stays on its thread, and no other runs
 * there (Go's LockOSThread): for foreign libraries whose state is a thread's.
 * They nest. It needs no P: it runs beside the tdl_gomaxprocs others, and waits
 * and is woken as a plain thread. Who ends pinned takes the thread with him. For a
 * plain thread they do nothing. 0; TDL_EINVAL: not pinned; TDL_EHOST on a host thread. */
TDL_API int tdl_pin(void);
TDL_API int tdl_unpin(void);

/* Goroutines that exist: stackful and hosted, the caller included. Any caller. */
TDL_API int tdl_num_goroutines(void);
/* The calling goroutine's number; 0 elsewhere. */
TDL_API uint64_t tdl_goid(void);

/* Stacks. A goroutine's stack is a piece of address space, of which only what
 * it touches takes memory; its lowest pages (one, of the larger ones a
 * sixteenth, at most 64 KiB) are a guard. Who touches that ends the program with
 * the goroutine's number, name and where it was created. A function whose frame
 * is larger than the guard can step over it: compile with
 * -fstack-clash-protection, or keep large arrays elsewhere. Stacks of goroutines
 * that have ended are used again; their memory goes back to the system when
 * they have not been for a second. */

/* Runs fn(arg) on the big stack of the calling thread (8 MiB as a rule), for
 * foreign code that recurses deeply. In a plain thread or host, or inside
 * itself, it just calls fn. fn may call what does not wait; what would wait
 * returns TDL_ESYSTEM, as tdl_run and tdl_goexit do, and tdl_yield returns at
 * once. It must return. 0; TDL_EINVAL for a null fn. Any caller. */
TDL_API int tdl_system_stack(void (*fn)(void *), void *arg);

/* 1: from now on how deep the stack of each new goroutine gets is measured, for
 * each place in the code that spawns; 0: no longer. It costs some microseconds a
 * goroutine, and nothing when off. TDL_DEBUG=stacks in the environment turns it
 * on at the start, and has tdl_run report to stderr at its end. Any caller. */
TDL_API int tdl_stack_census(int on);
/* Writes for each place the most bytes of stack that one of its goroutines has
 * used (with about 2.5 KiB that treadle keeps there itself), of how many, and
 * how many have ended and are alive, as text to the descriptor. 0, -errno or
 * TDL_ENOMEM. Any caller. */
TDL_API int tdl_stack_report(int fd);

/* -- Channels ------------------------------------------------------------ */

/* A FIFO of values. cap 0: unbuffered, a send completes when a receiver takes
 * the value. Send copies the value, as tdl_val_copy does; receive makes the
 * receiver the holder (clear it if it may hold bytes). A NULL channel blocks
 * for ever in send and receive (until the deadline or a cancel), and is never
 * chosen by select. */
typedef struct tdl_chan tdl_chan;

/* NULL: out of memory, or cap above 2^26. Any caller. */
TDL_API tdl_chan *tdl_chan_new(uint32_t cap);
/* Gives the handle back, closing the channel first if need be (those that wait
 * get TDL_ECLOSED); the memory goes with the last holder: a value that carries
 * the channel and a call in progress are holders too. NULL is ignored. Any caller. */
TDL_API void tdl_chan_free(tdl_chan *ch);
/* Another holder: each needs its own tdl_chan_free, and only the last closes.
 * Returns ch. Any caller. */
TDL_API tdl_chan *tdl_chan_ref(tdl_chan *ch);
/* Blocking. 0; TDL_ECLOSED; TDL_ECANCELED; TDL_EHOST; TDL_EINVAL for a NULL v, or
 * one that the channel cannot carry (TDL_REF in a channel that is not local). */
TDL_API int tdl_chan_send(tdl_chan *ch, const tdl_val *v);
/* Blocking. 0; TDL_ECLOSED once closed and drained (*v is then nil);
 * TDL_ECANCELED; TDL_EHOST. v may be NULL: the value is dropped. */
TDL_API int tdl_chan_recv(tdl_chan *ch, tdl_val *v);
/* The same until a deadline: TDL_ETIMEDOUT when it has passed and the channel
 * is not ready; TDL_NOWAIT is the try form. Blocking. */
TDL_API int tdl_chan_send_until(tdl_chan *ch, const tdl_val *v, int64_t deadline);
TDL_API int tdl_chan_recv_until(tdl_chan *ch, tdl_val *v, int64_t deadline);
/* 0, TDL_EAGAIN, TDL_ECLOSED. Any caller. */
TDL_API int tdl_chan_try_send(tdl_chan *ch, const tdl_val *v);
TDL_API int tdl_chan_try_recv(tdl_chan *ch, tdl_val *v);
/* Wakes every waiter; values already in the buffer can still be received.
 * 0, TDL_ECLOSED when closed already, TDL_EINVAL for NULL. Any caller. */
TDL_API int tdl_chan_close(tdl_chan *ch);
/* Values in the buffer now; its capacity; 1 when closed. 0 for NULL. Any caller. */
TDL_API uint32_t tdl_chan_len(tdl_chan *ch);
TDL_API uint32_t tdl_chan_cap(tdl_chan *ch);
TDL_API int      tdl_chan_closed(tdl_chan *ch);
/* Makes v carry the shared channel ch, so that it can be sent through another;
 * the receiver gets a holder of its own with tdl_val_chan, which is to be
 * freed. TDL_EINVAL for a local channel. Any caller. */
TDL_API int       tdl_val_set_chan(tdl_val *v, tdl_chan *ch);
TDL_API tdl_chan *tdl_val_chan(const tdl_val *v);

/* -- Select -------------------------------------------------------------- */

enum { TDL_RECV = 1, TDL_SEND = 2 };

typedef struct tdl_case {
    tdl_chan *chan; /* NULL: never chosen */
    tdl_val  *val;  /* send: the value, not NULL; receive: where to put it, or NULL */
    int       op;   /* TDL_RECV, TDL_SEND */
    int       ok;   /* out, of the case that fired: 1 a value moved, 0 the channel was closed */
} tdl_case;

/* Waits until one of n cases can go ahead and carries it out; among several
 * that can, the choice is uniformly random. Returns its index; TDL_ETIMEDOUT
 * once the deadline has passed and nothing was ready; TDL_EAGAIN with
 * TDL_NOWAIT; TDL_ECANCELED; TDL_EINVAL for a bad case or n outside 0…65535.
 * No case at all waits for the deadline alone. Blocking (with TDL_NOWAIT: any
 * caller). */
TDL_API int tdl_select(tdl_case *cases, int n, int64_t deadline);

/* -- Synchronisation ----------------------------------------------------- */

/* A mutual exclusion lock, usable between goroutines, threads and hosted
 * tasks. It belongs to no thread: whoever holds it may hand it on and let
 * another unlock it. A waiter that has waited for 1 ms gets it next, before
 * newcomers (Go's starvation mode).
 *
 * Circles. Each of some callers has locked a mutex and waits, without a
 * deadline, for that of the next one (one alone: for his own). When this has
 * lasted for a second, stderr is told who has what and waits for what, and the
 * lock call that closed the circle returns TDL_EDEADLOCK, without the mutex.
 * Owner is who locked it; a host's trylock leaves it without one. Who lets
 * another unlock it, and may wait that long meanwhile, calls tdl_mutex_disown. */
typedef struct tdl_mutex tdl_mutex;
TDL_API tdl_mutex *tdl_mutex_new(void);          /* NULL: out of memory. Any caller */
TDL_API int  tdl_mutex_lock(tdl_mutex *m);       /* Blocking. 0, TDL_ECANCELED, TDL_EDEADLOCK, TDL_EHOST */
TDL_API int  tdl_mutex_lock_until(tdl_mutex *m, int64_t deadline); /* Blocking. Also TDL_ETIMEDOUT */
TDL_API int  tdl_mutex_trylock(tdl_mutex *m);    /* 0, TDL_EAGAIN. Any caller */
TDL_API int  tdl_mutex_unlock(tdl_mutex *m);     /* 0, TDL_ENOTLOCKED. Any caller */
TDL_API int  tdl_mutex_disown(tdl_mutex *m);     /* It stays locked, by nobody. 0, TDL_ENOTLOCKED. Any caller */
TDL_API void tdl_mutex_free(tdl_mutex *m);       /* nobody may hold it or wait for it. NULL is ignored */

/* Waits for a number of things to end. The counter starts at 0; wait returns
 * when it is 0. May be used again afterwards. */
typedef struct tdl_waitgroup tdl_waitgroup;
TDL_API tdl_waitgroup *tdl_waitgroup_new(void);           /* NULL: out of memory. Any caller */
TDL_API int  tdl_waitgroup_add(tdl_waitgroup *wg, int n); /* 0; TDL_ENEGATIVE (nothing changed). Any caller */
TDL_API int  tdl_waitgroup_done(tdl_waitgroup *wg);       /* add(-1) */
TDL_API int  tdl_waitgroup_wait(tdl_waitgroup *wg);       /* Blocking. 0, TDL_ECANCELED, TDL_EHOST */
TDL_API int  tdl_waitgroup_wait_until(tdl_waitgroup *wg, int64_t deadline); /* Blocking. Also TDL_ETIMEDOUT */
TDL_API void tdl_waitgroup_free(tdl_waitgroup *wg);       /* nobody may wait for it. NULL is ignored */

/* A condition of a mutex: wait unlocks it and waits, and holds it again when it
 * returns, in every case: so a wait that is cancelled or timed out still waits for
 * whoever holds the mutex. Waiters are served first in, first out. */
typedef struct tdl_cond tdl_cond;
TDL_API tdl_cond *tdl_cond_new(tdl_mutex *m);     /* NULL: out of memory, or m is. Any caller */
TDL_API int  tdl_cond_wait(tdl_cond *c);          /* Blocking. 0, TDL_ENOTLOCKED, TDL_ECANCELED, TDL_EHOST */
TDL_API int  tdl_cond_wait_until(tdl_cond *c, int64_t deadline); /* Blocking. Also TDL_ETIMEDOUT */
TDL_API int  tdl_cond_signal(tdl_cond *c);        /* wakes one. 0. Any caller, holding the mutex or not */
TDL_API int  tdl_cond_broadcast(tdl_cond *c);     /* wakes all. 0. Any caller */
TDL_API void tdl_cond_free(tdl_cond *c);          /* nobody may wait for it. NULL is ignored */

/* A weighted semaphore, first in, first out: a large request is not overtaken
 * by small ones. */
typedef struct tdl_sema tdl_sema;
TDL_API tdl_sema *tdl_sema_new(uint32_t permits);            /* NULL: out of memory. Any caller */
TDL_API int  tdl_sema_acquire(tdl_sema *s, uint32_t n);      /* Blocking. 0, TDL_ECANCELED, TDL_EHOST */
TDL_API int  tdl_sema_acquire_until(tdl_sema *s, uint32_t n, int64_t deadline); /* Blocking. Also TDL_ETIMEDOUT */
TDL_API int  tdl_sema_try_acquire(tdl_sema *s, uint32_t n);  /* 0, TDL_EAGAIN. Any caller */
TDL_API int  tdl_sema_release(tdl_sema *s, uint32_t n);      /* 0; more than were acquired is allowed. Any caller */
TDL_API void tdl_sema_free(tdl_sema *s);                     /* nobody may wait for it. NULL is ignored */

/* A read-write lock: many readers or one writer. Readers on different
 * processors write to different cache lines, so reading scales; a writer pays
 * for it, with a look at each reader's slot. Nobody starves: a waiting writer
 * keeps new readers out, and readers that came meanwhile go before the next
 * writer. Like the mutex it belongs to no thread. Who reads must not read again
 * inside: a writer that comes between would wait for ever, and he with it. */
typedef struct tdl_rwmutex tdl_rwmutex;
TDL_API tdl_rwmutex *tdl_rwmutex_new(void);          /* NULL: out of memory. Any caller */
TDL_API int  tdl_rwmutex_lock(tdl_rwmutex *rw);      /* Blocking. 0, TDL_ECANCELED, TDL_EHOST */
TDL_API int  tdl_rwmutex_lock_until(tdl_rwmutex *rw, int64_t deadline); /* Blocking. Also TDL_ETIMEDOUT */
TDL_API int  tdl_rwmutex_trylock(tdl_rwmutex *rw);   /* 0, TDL_EAGAIN. Any caller */
TDL_API int  tdl_rwmutex_unlock(tdl_rwmutex *rw);    /* 0, TDL_ENOTLOCKED: no writer holds it. Any caller */
TDL_API int  tdl_rwmutex_rlock(tdl_rwmutex *rw);     /* Blocking. 0, TDL_ECANCELED, TDL_EHOST */
TDL_API int  tdl_rwmutex_rlock_until(tdl_rwmutex *rw, int64_t deadline); /* Blocking. Also TDL_ETIMEDOUT */
TDL_API int  tdl_rwmutex_tryrlock(tdl_rwmutex *rw);  /* 0; TDL_EAGAIN: a writer holds it or waits. Any caller */
TDL_API int  tdl_rwmutex_runlock(tdl_rwmutex *rw);   /* 0, TDL_ENOTLOCKED: nobody reads. Any caller */
TDL_API void tdl_rwmutex_free(tdl_rwmutex *rw);      /* nobody may hold it or wait for it. NULL is ignored */

/* Something that happens once: the first caller does it, others wait until it
 * has ended. However it ended, also by tdl_goexit, it is done. */
typedef struct tdl_once tdl_once;
TDL_API tdl_once *tdl_once_new(void);                 /* NULL: out of memory. Any caller */
/* Calls fn(arg) when nobody has before. Blocking. 0: it is done; for who waits
 * also TDL_ECANCELED, TDL_ETIMEDOUT; TDL_EDEADLOCK from within fn. */
TDL_API int  tdl_once_do(tdl_once *o, void (*fn)(void *), void *arg);
TDL_API int  tdl_once_do_until(tdl_once *o, void (*fn)(void *), void *arg, int64_t deadline);
/* The same in two halves, for a caller that is no C function: 1: it is the
 * first, does the thing and then calls tdl_once_end. Otherwise as tdl_once_do. */
TDL_API int  tdl_once_begin(tdl_once *o);
TDL_API int  tdl_once_begin_until(tdl_once *o, int64_t deadline);
TDL_API int  tdl_once_end(tdl_once *o);               /* 0, TDL_ENOTLOCKED: nobody is at it. Any caller */
TDL_API int  tdl_once_done(tdl_once *o);              /* 1 when it is done, else 0. Any caller */
TDL_API void tdl_once_free(tdl_once *o);              /* nobody may be at it or wait. NULL is ignored */

/* -- Timers -------------------------------------------------------------- */

/* Sends the time it was due (TDL_INT) on its channel at `when`, and, with a
 * period, every period ns after that. The channel has one place: a receiver that
 * is slow loses ticks, and the phase is kept. After stop or reset no value of
 * before can be received. It fires as long as the run, or the host, in which it
 * was made lasts. */
typedef struct tdl_timer tdl_timer;
TDL_API tdl_timer *tdl_timer_new(int64_t when, int64_t period); /* NULL: out of memory, or period < 0. Any caller */
/* 1: it was still to fire, or its value had not been received (it is gone now);
 * 0: neither. Any caller. */
TDL_API int tdl_timer_stop(tdl_timer *t);
/* Stops and starts again; 1 or 0 as stop; TDL_EINVAL: period < 0; TDL_ECLOSED:
 * the run or host in which it was made is over. Any caller. */
TDL_API int tdl_timer_reset(tdl_timer *t, int64_t when, int64_t period);
TDL_API tdl_chan *tdl_timer_chan(tdl_timer *t); /* the timer's: not to be freed or closed */
TDL_API void tdl_timer_free(tdl_timer *t);      /* stops it. NULL is ignored. Any caller */
/* A timer that starts fn(arg) as a goroutine of its own each time it is due; it
 * has no channel. Stop says 1 when a start was still to come and will not, and 0
 * when there was none; it does not wait for an fn that runs. A reset allocates
 * nothing. NULL also for a null fn. Any caller. */
TDL_API tdl_timer *tdl_timer_func(int64_t when, int64_t period, void (*fn)(void *), void *arg);

/* -- Contexts ------------------------------------------------------------- */

/* A context says that work is to end: it ends once, by tdl_context_cancel, by
 * its deadline, or because its parent ends, and stays ended. Those that were
 * derived from it end with it; one that was freed leaves nothing behind in its
 * parent.
 *
 * Each tdl_context_… that makes one, and tdl_context_ref, makes the caller a
 * holder, who gives it back with one tdl_context_free; a derived context and a
 * call in progress are holders too. NULL as a parent is the background, which
 * never ends. NULL as a result: out of memory. All of it any caller, on any
 * thread, unless it says Blocking. */
typedef struct tdl_context tdl_context;
TDL_API tdl_context *tdl_context_background(void); /* static: needs no free */
TDL_API tdl_context *tdl_context_with_cancel(tdl_context *parent);
/* Ends at the deadline, or at its parent's if that is earlier; as a timer, as
 * long as the run or the host in which it was made lasts. */
TDL_API tdl_context *tdl_context_with_deadline(tdl_context *parent, int64_t deadline);
TDL_API tdl_context *tdl_context_with_timeout(tdl_context *parent, int64_t ns);
/* Carries a value for a key (equal keys: the same type and number, pointer or
 * bytes); both are copied. NULL also for a nil key, or a TDL_REF. */
TDL_API tdl_context *tdl_context_with_value(tdl_context *parent, const tdl_val *key, const tdl_val *v);
/* Has the parent's values, and does not end with it. */
TDL_API tdl_context *tdl_context_without_cancel(tdl_context *parent);
TDL_API tdl_context *tdl_context_ref(tdl_context *c); /* another holder; returns c */
TDL_API void tdl_context_free(tdl_context *c);        /* NULL is ignored. Does not end it */
/* Ends it. cause is any code but 0, which means TDL_ECANCELED; detail (may be
 * NULL) says more. 1; 0 when it had ended; TDL_EINVAL for NULL, the background
 * or a TDL_REF. */
TDL_API int  tdl_context_cancel(tdl_context *c, int cause, const tdl_val *detail);
/* 0 until it ends; then TDL_ECANCELED or TDL_ETIMEDOUT, the parent's if it
 * ended with that. */
TDL_API int  tdl_context_err(tdl_context *c);
/* 0 until it ends; then the cause of who ended it or its ancestor, and in
 * *detail (may be NULL; the caller becomes a holder) the detail. */
TDL_API int  tdl_context_cause(tdl_context *c, tdl_val *detail);
TDL_API int64_t tdl_context_deadline(tdl_context *c); /* TDL_FOREVER: none */
/* 1 and the value of the nearest that carries one for the key, of which the
 * caller becomes a holder; else 0, and nil. v may be NULL. */
TDL_API int  tdl_context_value(tdl_context *c, const tdl_val *key, tdl_val *v);
/* A channel that is closed when it ends, for select: the context's, not to be
 * freed or closed. NULL (never chosen) for one that cannot end. */
TDL_API tdl_chan *tdl_context_done(tdl_context *c);
/* Waits until it has ended. Blocking. 0, TDL_ECANCELED (the caller was),
 * TDL_ETIMEDOUT (the call's deadline), TDL_EHOST. */
TDL_API int  tdl_context_wait(tdl_context *c);
TDL_API int  tdl_context_wait_until(tdl_context *c, int64_t deadline);

/* Starts fn(arg) as a goroutine of its own when c ends; at once when it has. */
typedef struct tdl_after tdl_after;
TDL_API tdl_after *tdl_context_after_func(tdl_context *c, void (*fn)(void *), void *arg);
/* 1: fn was not started and will not be; 0: it was started, or stopped before. */
TDL_API int  tdl_after_stop(tdl_after *a);
TDL_API void tdl_after_free(tdl_after *a); /* stops it. NULL is ignored */

/* -- Groups of goroutines --------------------------------------------------- */

/* An error group: goroutines that work on one thing. The first result other
 * than 0 is the group's error, and ends the group's context with it as cause;
 * those that still work have to look at that. The handle may be freed while
 * some work: then the context ends, and the rest goes with the last of them. */
typedef struct tdl_errgroup tdl_errgroup;
/* limit: how many work at a time, 0: any number. NULL: out of memory. Any caller. */
TDL_API tdl_errgroup *tdl_errgroup_new(tdl_context *parent, uint32_t limit);
TDL_API tdl_context *tdl_errgroup_context(tdl_errgroup *eg); /* the group's: ref it to keep it */
/* Starts fn(arg) as a goroutine, and waits for a place first. Blocking. 0,
 * TDL_ECANCELED, TDL_ETIMEDOUT, TDL_EHOST, TDL_ENOMEM. */
TDL_API int  tdl_errgroup_go(tdl_errgroup *eg, int (*fn)(void *), void *arg);
TDL_API int  tdl_errgroup_go_until(tdl_errgroup *eg, int (*fn)(void *), void *arg, int64_t deadline);
TDL_API int  tdl_errgroup_try_go(tdl_errgroup *eg, int (*fn)(void *), void *arg); /* 0, TDL_EAGAIN. Any caller */
/* For work that is no C goroutine: takes a place, and gives it back with the
 * result. begin: as tdl_errgroup_go; done: 0, TDL_ENEGATIVE. done: any caller. */
TDL_API int  tdl_errgroup_begin(tdl_errgroup *eg);
TDL_API int  tdl_errgroup_begin_until(tdl_errgroup *eg, int64_t deadline); /* TDL_NOWAIT: any caller */
TDL_API int  tdl_errgroup_done(tdl_errgroup *eg, int result);
/* Waits until nobody works, and then ends the context. Blocking. The group's
 * error or 0; TDL_ECANCELED, TDL_ETIMEDOUT, TDL_EHOST: tdl_errgroup_error tells
 * whose. */
TDL_API int  tdl_errgroup_wait(tdl_errgroup *eg);
TDL_API int  tdl_errgroup_wait_until(tdl_errgroup *eg, int64_t deadline);
TDL_API int  tdl_errgroup_error(tdl_errgroup *eg); /* the first error so far, or 0. Any caller */
TDL_API int  tdl_errgroup_set_limit(tdl_errgroup *eg, uint32_t limit); /* 0, TDL_EBUSY while some work. Any caller */
TDL_API void tdl_errgroup_free(tdl_errgroup *eg);  /* NULL is ignored. Any caller */

/* Single flight: of those who want the same thing at the same time, one does
 * the work, and all have its result. Meant for few keys in flight at a time
 * (they are looked through one by one). */
typedef struct tdl_singleflight tdl_singleflight;
struct tdl_outcome; /* see Hosts */
TDL_API tdl_singleflight *tdl_singleflight_new(void); /* NULL: out of memory. Any caller */
/* fn(arg, v) is the work: a result, and a value in *v, which is nil before. The
 * caller gets both, as holder of *v (v may be NULL); *shared (may be NULL) is not
 * 0 when others got them, too. Blocking. The result of fn; for who waits also
 * TDL_ECANCELED (too when the worker left by tdl_goexit), TDL_ETIMEDOUT,
 * TDL_EDEADLOCK (it is within fn of this key), TDL_EHOST, TDL_ENOMEM. */
TDL_API int  tdl_singleflight_do(tdl_singleflight *sf, const void *key, size_t n, int (*fn)(void *, tdl_val *),
                                 void *arg, tdl_val *v, int *shared);
TDL_API int  tdl_singleflight_do_until(tdl_singleflight *sf, const void *key, size_t n, int (*fn)(void *, tdl_val *),
                                       void *arg, tdl_val *v, int *shared, int64_t deadline);
/* The same in two halves, for work that is no C function. begin is Blocking; 1:
 * the caller does the work, and then gives result and value to tdl_singleflight_end, with
 * the ticket in out->extra; 0: it was done: the value in out->val, the result in
 * out->extra; or a code as above. */
TDL_API int  tdl_singleflight_begin(tdl_singleflight *sf, const void *key, size_t n, struct tdl_outcome *out);
TDL_API int  tdl_singleflight_begin_until(tdl_singleflight *sf, const void *key, size_t n, struct tdl_outcome *out,
                                          int64_t deadline);
/* How many others got it; TDL_EINVAL: no such ticket, or a TDL_REF. v may be NULL. Any caller. */
TDL_API int  tdl_singleflight_end(tdl_singleflight *sf, int64_t ticket, int result, const tdl_val *v);
/* Who comes from now on does not join the work in flight, but starts anew. 1;
 * 0: none was in flight. Any caller. */
TDL_API int  tdl_singleflight_forget(tdl_singleflight *sf, const void *key, size_t n);
TDL_API void tdl_singleflight_free(tdl_singleflight *sf); /* nobody may work or wait. NULL is ignored */

/* A scope owns its goroutines: whoever leaves it has waited for all of them.
 * The first result other than 0 is its error, and cancels the siblings
 * (tdl_cancel: each call that waits returns TDL_ECANCELED); so does the end of
 * its context, with the cause as error: at its deadline TDL_ETIMEDOUT. A scope
 * inside another is made with the other's context, and inherits its deadline
 * and its end. The handle may be freed early: the children are cancelled then,
 * and the rest goes with the last of them. */
typedef struct tdl_scope tdl_scope;
/* deadline: TDL_FOREVER for none. NULL: out of memory. Any caller. */
TDL_API tdl_scope *tdl_scope_new(tdl_context *parent, int64_t deadline);
TDL_API tdl_context *tdl_scope_context(tdl_scope *s); /* the scope's: ref it to keep it */
/* Starts fn(arg) as a goroutine of the scope. 0; TDL_ECLOSED: it has been left;
 * TDL_ECANCELED: its context has ended; TDL_ENOMEM. Any caller. */
TDL_API int  tdl_scope_go(tdl_scope *s, int (*fn)(void *), void *arg);
/* For work that is no C goroutine, and has to look at the context itself: counts
 * as a child between the two. begin: as tdl_scope_go; done: 0, TDL_ENEGATIVE. Any caller. */
TDL_API int  tdl_scope_begin(tdl_scope *s);
TDL_API int  tdl_scope_done(tdl_scope *s, int result);
/* Leaves the scope: waits until all children have ended, and then ends the
 * context. Neither a cancel nor the deadline of this call cuts it short: they
 * cancel the children, with TDL_ECANCELED or TDL_ETIMEDOUT as the scope's error.
 * Blocking. The scope's error or 0; TDL_EAGAIN: TDL_NOWAIT, and there are
 * children; TDL_EDEADLOCK: the caller is a child of the scope, or the scope
 * waits for the caller through others; TDL_EHOST. */
TDL_API int  tdl_scope_wait(tdl_scope *s);
TDL_API int  tdl_scope_wait_until(tdl_scope *s, int64_t deadline);
TDL_API int  tdl_scope_error(tdl_scope *s); /* the first error so far, or 0. Any caller */
TDL_API void tdl_scope_free(tdl_scope *s);  /* NULL is ignored. Any caller */

/* -- Addresses ----------------------------------------------------------- */

/* A network is "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6", "unix" (a stream),
 * "unixpacket" (a stream of messages) or "unixgram" (datagrams).
 * An address is "host:port" or "[v6]:port" with a numeric host, "localhost", or
 * none (all interfaces when listening, the loopback when dialling); the address
 * of a link-local IPv6 host names the interface: "[fe80::1%eth0]:80". For the
 * unix networks it is a path, or "@name" in the abstract namespace ("@" alone,
 * when listening: the system picks a name). */

/* An address: the bytes of a sockaddr. To be read through the functions below. */
typedef struct tdl_addr {
    uint32_t length; /* 0: none */
    uint32_t unused;
    uint64_t sockaddr[16];
} tdl_addr;

/* All of these: any caller, and no system call but to look up an interface.
 * From text; listen: what no host means, see above. 0; TDL_ENETWORK;
 * TDL_EADDRESS; TDL_EPORT; -ENODEV (no such interface); -ENAMETOOLONG (path). */
TDL_API int tdl_addr_parse(tdl_addr *a, const char *network, const char *text, int listen);
/* As text that parses again, cut to size with a final NUL; its full length. IPv4
 * mapped into IPv6 is written as IPv4; an unnamed unix end is "@", none "". */
TDL_API int tdl_addr_format(const tdl_addr *a, char *buf, size_t size);
/* The same without the port and the brackets. */
TDL_API int tdl_addr_host(const tdl_addr *a, char *buf, size_t size);
/* The port; 0 where there is none. */
TDL_API int tdl_addr_port(const tdl_addr *a);
/* 0; TDL_EPORT out of range; TDL_EADDRESS: it can have none. */
TDL_API int tdl_addr_set_port(tdl_addr *a, int port);
/* 1: the same place (mapped or not); 0. */
TDL_API int tdl_addr_equal(const tdl_addr *a, const tdl_addr *b);
/* From and to a struct sockaddr of n bytes. 0 or TDL_EINVAL; NULL and 0 for none. */
TDL_API int tdl_addr_set_sockaddr(tdl_addr *a, const void *sockaddr, size_t n);
TDL_API const void *tdl_addr_sockaddr(const tdl_addr *a, size_t *n);

/* -- Buffers ------------------------------------------------------------- */

/* A chain of bytes: slices of counted blocks. Bytes move from one to another, and
 * to and from connections, without being copied; a slice keeps its block, whatever
 * becomes of the chain it was cut from. Any caller, but a chain is used by one at
 * a time. Empty chains have no blocks. */
typedef struct tdl_buf tdl_buf;

typedef struct tdl_iovec {
    const void *data;
    size_t      n;
} tdl_iovec;

TDL_API tdl_buf *tdl_buf_new(void); /* NULL: out of memory */
TDL_API void     tdl_buf_free(tdl_buf *b);
TDL_API int64_t  tdl_buf_len(const tdl_buf *b);
/* Copies n bytes to its end. 0; TDL_ENOMEM, and nothing has changed. */
TDL_API int      tdl_buf_append(tdl_buf *b, const void *bytes, size_t n);
/* Room for n bytes (at least one) in one run, to be written by the caller; and then how many of them
 * (0…n) are now at its end. Nothing else may be done with b in between. NULL: out of
 * memory. */
TDL_API void    *tdl_buf_reserve(tdl_buf *b, size_t n);
TDL_API int      tdl_buf_commit(tdl_buf *b, size_t n);
/* The n bytes of `from` behind `offset` are also at the end of `to`; the first n
 * bytes of `from` move to the end of `to`. 0; TDL_EINVAL: there are fewer; TDL_ENOMEM. */
TDL_API int      tdl_buf_share(tdl_buf *to, const tdl_buf *from, size_t offset, size_t n);
TDL_API int      tdl_buf_move(tdl_buf *to, tdl_buf *from, size_t n);
/* Drops the first n bytes. 0; TDL_EINVAL: there are fewer. */
TDL_API int      tdl_buf_skip(tdl_buf *b, size_t n);
/* The first run of bytes, and how many they are; NULL and 0 when it is empty. The
 * first n bytes in one run, put together if need be; NULL: there are fewer, or out of memory.
 * Valid until b is changed. */
TDL_API const void *tdl_buf_front(const tdl_buf *b, size_t *n);
TDL_API const void *tdl_buf_peek(tdl_buf *b, size_t n);
/* Copies up to n bytes from behind `offset`: how many. TDL_EINVAL beyond the end. */
TDL_API int64_t  tdl_buf_copy(const tdl_buf *b, size_t offset, void *to, size_t n);
/* Where these n bytes are first found, at `offset` or behind; TDL_EAGAIN: nowhere. */
TDL_API int64_t  tdl_buf_find(const tdl_buf *b, size_t offset, const void *what, size_t n);
/* Up to max of the runs it consists of: how many. */
TDL_API int      tdl_buf_parts(const tdl_buf *b, tdl_iovec *v, int max);

/* -- Streams ------------------------------------------------------------- */

/* Listeners and connections; see Addresses for networks, of which those with
 * streams and "unixpacket" are for here. Several callers may use one connection
 * at a time: each call is atomic, and those of one direction are served in
 * order. */
typedef struct tdl_listener tdl_listener;
typedef struct tdl_conn tdl_conn;

/* Opens a listening socket (SO_REUSEADDR; port 0 lets the system choose). 0; as
 * tdl_addr_parse; -EADDRINUSE, -EMFILE …. Any caller: the descriptor is watched
 * by the caller's own poller. */
TDL_API int  tdl_listen(const char *network, const char *address, tdl_listener **l);

enum {
    TDL_LISTEN_REUSEPORT = 1, /* several listeners at one address, each with its share of the connections */
    TDL_LISTEN_KEEP_PATH = 2, /* a unix path stays when the listener is closed */
    TDL_LISTEN_ALL       = 3
};

typedef struct tdl_listen_options {
    uint32_t size;    /* sizeof(tdl_listen_options) */
    uint32_t flags;   /* TDL_LISTEN_… */
    uint32_t backlog; /* connections that wait to be accepted; 0: 4096; the system has a limit of its own */
    uint32_t unused;
} tdl_listen_options;

/* The same with options (NULL: none); TDL_EINVAL for bad ones. */
TDL_API int  tdl_listen_opts(const char *network, const char *address, const tdl_listen_options *o, tdl_listener **l);
/* n listeners (1…1024) at one address of an internet network, the i-th watched by the i-th
 * processor: each, with a goroutine of its own that accepts, has its share of the
 * connections, and its processor has their descriptors. All of them, or none and
 * the error. (On a host's thread, as tdl_listen_opts with TDL_LISTEN_REUSEPORT.) */
TDL_API int  tdl_listen_shards(const char *network, const char *address, const tdl_listen_options *o,
                               tdl_listener **l, int n);
/* Takes one connection. Blocking. 0; TDL_ECLOSED; TDL_ETIMEDOUT; -EMFILE,
 * -ENFILE (the connection stays in the backlog; the listener can be used on, and
 * it is worth to wait some milliseconds before); TDL_ECANCELED. A connection
 * that was aborted in the backlog is passed over. */
TDL_API int  tdl_listener_accept(tdl_listener *l, tdl_conn **c);
/* Waits until an accept would not wait (or would fail), and takes nothing: for a
 * goroutine that turns it into a case of a select, by a channel. Another caller may
 * have taken the connection by the time this one looks. Blocking. 0; TDL_ECLOSED;
 * TDL_ETIMEDOUT; TDL_ECANCELED. */
TDL_API int  tdl_listener_wait(tdl_listener *l);
/* Takes a connection if there is one; never waits, and heeds no deadline. TDL_EAGAIN:
 * there is none; else as tdl_listener_accept. Any caller. */
TDL_API int  tdl_listener_try_accept(tdl_listener *l, tdl_conn **c);
/* The port, 0 for unix. TDL_ECLOSED. Any caller. */
TDL_API int  tdl_listener_port(tdl_listener *l);
/* The address it is bound to as text, cut to size with a final NUL; its full
 * length. Any caller. */
TDL_API int  tdl_listener_address(tdl_listener *l, char *buf, size_t size);
TDL_API int  tdl_listener_addr(tdl_listener *l, tdl_addr *a); /* the same; 0 */
/* Accept fails with TDL_ETIMEDOUT from `when` on; 0 clears; a past or negative
 * time is now. A past deadline wins over a waiting connection. Any caller. */
TDL_API void tdl_listener_set_deadline(tdl_listener *l, int64_t when);
/* The descriptor, still owned by the listener; TDL_ECLOSED. Any caller. */
TDL_API int  tdl_listener_fd(tdl_listener *l);
/* Wakes those who wait in accept; a unix path is unlinked, also where the end of
 * a run or host closes it. 0; TDL_ECLOSED the second time. Any caller. */
TDL_API int  tdl_listener_close(tdl_listener *l);
/* Closes if need be and gives the handle back. NULL is ignored. Any caller. */
TDL_API void tdl_listener_free(tdl_listener *l);

/* Connects. timeout 0: none; negative: expired already. "localhost" is both
 * loopback addresses; a host's name is looked up (see Names; TDL_ENONAME,
 * TDL_ENAMESERVER), within the timeout, and its addresses are dialled as by tdl_dial_list. Blocking. 0; as tdl_addr_parse; TDL_ETIMEDOUT;
 * TDL_ECANCELED; -ECONNREFUSED …. TCP_NODELAY is set, as on accepted
 * connections. A full backlog of a unix listener is waited for. */
TDL_API int tdl_dial(const char *network, const char *address, int64_t timeout_ns, tdl_conn **c);

typedef struct tdl_dial_options {
    uint32_t size;          /* sizeof(tdl_dial_options) */
    uint32_t flags;         /* 0 */
    int64_t  timeout;       /* ns, as tdl_dial */
    int64_t  deadline;      /* 0: none; the earlier of the two counts */
    int64_t  fallback_delay; /* ns until the next address is tried beside; 0: 250 ms; < 0: only after a failure */
    const char *local;      /* the address to come from (port 0: any); NULL */
} tdl_dial_options;

/* The same with options (NULL: none). TDL_EINVAL for bad ones, -EAFNOSUPPORT for
 * a local address of another family, -EADDRINUSE …. */
TDL_API int tdl_dial_opts(const char *network, const char *address, const tdl_dial_options *o, tdl_conn **c);
/* Dials n addresses (1…256), as RFC 8305 has it: in their order, but the families
 * alternating; the next is tried once the last has failed or the delay is over,
 * and the first that connects is it. The error is the first one's. */
TDL_API int tdl_dial_list(const char *network, const tdl_addr *addresses, int n, const tdl_dial_options *o,
                          tdl_conn **c);

/* Two connections, each the other's peer, in memory: all of this section holds
 * for them, but what needs a descriptor (-EOPNOTSUPP). capacity: bytes that a
 * direction holds; 0: a write is over when all of it has been read, and what was
 * not read when it fails is taken back. 0; TDL_EINVAL above 2^30. Any caller. */
TDL_API int tdl_pipe_new(size_t capacity, tdl_conn **a, tdl_conn **b);
/* Go's io.Pipe: what is written to w is read from r, without a buffer: as tdl_pipe_new of
 * capacity 0 whose other direction is closed. Any caller. */
TDL_API int tdl_io_pipe(tdl_conn **r, tdl_conn **w);
/* Closes one end of an in-memory pipe, as tdl_conn_close; code < 0 is what the other end is told:
 * its reads, once all is read, and its writes return it, instead of 0 and -EPIPE (code 0: these).
 * Its own later calls return TDL_ECLOSED. 0; TDL_ECLOSED, and nothing changes; TDL_EINVAL, also for a code
 * that says something of who is told (TDL_ECANCELED …); -EOPNOTSUPP where there is a descriptor. Any caller. */
TDL_API int tdl_conn_close_with(tdl_conn *c, int code);

/* A connection, or a listener, of a descriptor that the caller has: a connected
 * stream or seqpacket socket, a pipe, a FIFO, a terminal, a character device; a
 * socket that listens. It is the connection's from then on, and non-blocking;
 * with an error it stays the caller's. 0; TDL_ENOPOLL; TDL_EINVAL for another
 * kind of socket; -EBADF, -EEXIST (adopted already). Any caller. */
TDL_API int tdl_conn_adopt(int fd, tdl_conn **c);
TDL_API int tdl_listener_adopt(int fd, tdl_listener **l);
/* Gives the descriptor back, in the mode it was adopted in: it is the caller's,
 * and the handle is as closed. TDL_ECLOSED; TDL_EBUSY while an operation is under
 * way or bytes are buffered. Any caller. */
TDL_API int tdl_conn_release(tdl_conn *c);
TDL_API int tdl_listener_release(tdl_listener *l);
/* Makes v carry the connection, with its TLS if it has that, so that another goroutine, thread or host takes it
 * over; c is as closed then, and its handle still the caller's to free. With the value's last holder it
 * is closed, if nobody has taken it out. 0; TDL_ECLOSED; TDL_EBUSY while an operation is under way or bytes are
 * buffered; -EOPNOTSUPP for a pipe in memory; TDL_ENOMEM (v is nil, and c as before). Any caller. */
TDL_API int tdl_val_set_conn(tdl_val *v, tdl_conn *c);
/* Takes it out, as a connection of the caller's, without deadlines: among all holders the first one gets it. 0;
 * TDL_EINVAL: there is none, or not any more; else, as tdl_conn_adopt, and it is closed. Any caller. */
TDL_API int tdl_val_take_conn(const tdl_val *v, tdl_conn **c);

/* Reads what is there, up to n bytes; of a "unixpacket" connection one message,
 * and TDL_ETRUNCATED when it is longer (buf then holds the beginning). Blocking.
 * Bytes read; 0 at the end of the stream or when n is 0; TDL_ECLOSED,
 * TDL_ETIMEDOUT, TDL_ECANCELED, -ECONNRESET …. */
TDL_API int64_t tdl_conn_read(tdl_conn *c, void *buf, size_t n);
/* Writes all n bytes (one message of a "unixpacket" connection; -EMSGSIZE when it
 * is too long), and returns n. Blocking. On an error (TDL_ECLOSED,
 * TDL_ETIMEDOUT, TDL_ECANCELED, -EPIPE …) some may have gone out; a write of
 * another caller never comes between. Never raises SIGPIPE. */
TDL_API int64_t tdl_conn_write(tdl_conn *c, const void *buf, size_t n);

/* Framed reads, through the connection's own buffer (which it has only while
 * bytes are in it). tdl_conn_fill waits until a frame is buffered and returns
 * its length; its bytes are then at tdl_conn_peek, and while any are buffered
 * the caller holds the read side: it looks, and then calls tdl_conn_skip once,
 * with the number of bytes it has consumed (0 leaves all). */
enum {
    TDL_FILL_SOME  = 0, /* at least one byte; the frame is what is buffered, at most limit; 0 at the end of the stream */
    TDL_FILL_EXACT = 1, /* exactly limit bytes; TDL_EEOF if the stream ends first */
    TDL_FILL_LINE  = 2, /* up to and with the next "\n"; a last line without one counts; TDL_EEOF when nothing is left;
                           TDL_ETOOLONG when limit bytes hold no "\n" */
    TDL_FILL_ALL   = 3, /* to the end of the stream; TDL_ETOOLONG beyond limit bytes */
    TDL_FILL_UNTIL = 4  /* tdl_conn_fill_until alone */
};
/* Blocking. The frame's length, or an error as tdl_conn_read has; TDL_EINVAL
 * for a limit outside 1…2^30. With an error the bytes that had arrived are
 * still there for tdl_conn_peek, and then the same duty to skip holds. Of a
 * "unixpacket" connection a frame is one message, and how is TDL_FILL_SOME. */
TDL_API int64_t tdl_conn_fill(tdl_conn *c, int how, size_t limit);
/* A frame that ends with a delimiter of n bytes (1…255), which is part of it.
 * Blocking. Its length; TDL_EEOF when the stream ends first, TDL_ETOOLONG when
 * limit bytes hold none; else as tdl_conn_fill. */
TDL_API int64_t tdl_conn_fill_until(tdl_conn *c, const void *delim, size_t n, size_t limit);
/* The buffered bytes and their number, for the caller that holds the read
 * side; NULL and 0 when there are none. */
TDL_API const char *tdl_conn_peek(tdl_conn *c, size_t *n);
/* Drops n buffered bytes and gives up the read side. 0; TDL_EINVAL when the
 * read side is not held, or n is more than there are. */
TDL_API int tdl_conn_skip(tdl_conn *c, size_t n);
/* The same, but the n bytes go to the end of `to` (see Buffers), without a copy. */
TDL_API int tdl_conn_take_buf(tdl_conn *c, size_t n, tdl_buf *to);

/* Writes the bytes of n pieces (0…1024; TDL_EINVAL for more), one after the other, in
 * as few system calls as will do; else as tdl_conn_write. Blocking. */
TDL_API int64_t tdl_conn_writev(tdl_conn *c, const tdl_iovec *v, int n);
/* Writes all that is in b. What has gone out is taken from it, with an error, too.
 * Blocking; nobody else may use b meanwhile. */
TDL_API int64_t tdl_conn_write_buf(tdl_conn *c, tdl_buf *b);

/* Copies up to n bytes (n < 0: to the end) from one connection to another: within
 * the kernel where both ends have descriptors that allow it. Blocking. 0 (the end of
 * `from` is none for `to`, which can be written on), or the error of either; *copied
 * (may be NULL), in either case, how many have been written; what was read besides is lost. */
TDL_API int tdl_conn_copy(tdl_conn *to, tdl_conn *from, int64_t n, int64_t *copied);
/* Sends up to n bytes of an open file (n < 0: to its end) from `offset` on; < 0: from
 * where it stands, and moves that. Within the kernel where it allows that. Blocking (the file itself may
 * hold up the thread). 0, also where the file ends first; or an error; *sent as above. */
TDL_API int tdl_conn_send_file(tdl_conn *c, int fd, int64_t offset, int64_t n, int64_t *sent);

/* Deadlines, for the operations in progress too: 0 clears, a past or negative
 * time is now and wins over ready data. Any caller. */
TDL_API void tdl_conn_set_deadline(tdl_conn *c, int64_t when); /* both directions */
TDL_API void tdl_conn_set_read_deadline(tdl_conn *c, int64_t when);
TDL_API void tdl_conn_set_write_deadline(tdl_conn *c, int64_t when);
/* From now on each operation sets its own deadline, ns after it started; 0
 * turns that off and clears the deadlines. Any caller. */
TDL_API void tdl_conn_set_timeout(tdl_conn *c, int64_t ns);
/* shutdown(2) one direction. 0, TDL_ECLOSED, -ENOTCONN. Any caller. */
TDL_API int tdl_conn_close_read(tdl_conn *c);
TDL_API int tdl_conn_close_write(tdl_conn *c);
/* The descriptor, still owned by the connection; TDL_ECLOSED. Any caller. */
TDL_API int tdl_conn_fd(tdl_conn *c);
/* The far or the near address as text, cut to size with a final NUL; its full
 * length, or a negative code. Any caller. */
TDL_API int tdl_conn_peername(tdl_conn *c, char *buf, size_t size);
TDL_API int tdl_conn_sockname(tdl_conn *c, char *buf, size_t size);
TDL_API int tdl_conn_peeraddr(tdl_conn *c, tdl_addr *a); /* the same; 0 */
TDL_API int tdl_conn_sockaddr(tdl_conn *c, tdl_addr *a);
/* Wakes whoever waits on it; from then on every call returns TDL_ECLOSED, a
 * second close too. Any caller. */
TDL_API int tdl_conn_close(tdl_conn *c);
/* Closes if need be and gives the handle back; the memory goes when the last
 * call in progress has returned. NULL is ignored. Any caller. */
TDL_API void tdl_conn_free(tdl_conn *c);

/* Descriptors over a "unix" or "unixpacket" connection: nfds of them (1…253) go
 * with n bytes (at least one), and stay the sender's. Blocking. n, or an error as
 * tdl_conn_write has; -EOPNOTSUPP on another network. */
TDL_API int64_t tdl_conn_send_fds(tdl_conn *c, const void *buf, size_t n, const int *fds, int nfds);
/* Reads up to n bytes and the descriptors that came with them, which are then the
 * caller's, and close-on-exec: *nfds is how many there is room for, and then how
 * many there are. Blocking. Bytes read, 0 at the end of the stream; TDL_ETRUNCATED
 * when more descriptors came, -EMFILE when the process may have no more (they are
 * closed, and the bytes lost). A plain read closes what comes with its bytes. */
TDL_API int64_t tdl_conn_recv_fds(tdl_conn *c, void *buf, size_t n, int *fds, int *nfds);
/* Who the peer of a unix connection was when it connected or listened: process,
 * user and group; each may be NULL. 0, TDL_ECLOSED, -EOPNOTSUPP. Any caller. */
TDL_API int tdl_conn_peercred(tdl_conn *c, int64_t *pid, int64_t *uid, int64_t *gid);

/* Options of a socket. Times are in ns, of which the system keeps whole seconds,
 * rounded up. */
enum {
    TDL_NODELAY            = 1,  /* 1: small writes go out at once (set from the start); 0 */
    TDL_KEEPALIVE          = 2,  /* ns of silence after which the peer is asked whether it lives; 0: it is not */
    TDL_KEEPALIVE_INTERVAL = 3,  /* ns between such questions */
    TDL_KEEPALIVE_COUNT    = 4,  /* how many without an answer end the connection */
    TDL_LINGER             = 5,  /* 0: close drops what was not sent and resets; TDL_FOREVER: it goes out later.
                                    (A close that waits is refused: it would hold up all that its thread runs.) */
    TDL_READ_BUFFER        = 6,  /* bytes; Linux doubles what is set */
    TDL_WRITE_BUFFER       = 7,
    TDL_TOS                = 8,  /* type of service, or traffic class: 0…255 */
    TDL_TTL                = 9,  /* hops, 1…255 */
    TDL_BROADCAST          = 10  /* 1: datagrams may go to broadcast addresses; 0 */
};
/* 0; TDL_EINVAL for an unknown option or a value out of range; TDL_ECLOSED;
 * -EOPNOTSUPP, -ENOTSOCK, -ENOPROTOOPT where it does not apply. Any caller. */
TDL_API int tdl_conn_set_option(tdl_conn *c, int option, int64_t value);
TDL_API int tdl_listener_set_option(tdl_listener *l, int option, int64_t value);
/* The value, or a negative code. Any caller. */
TDL_API int64_t tdl_conn_option(tdl_conn *c, int option);
TDL_API int64_t tdl_listener_option(tdl_listener *l, int option);

/* What the system knows about a TCP connection. */
typedef struct tdl_tcp_info {
    uint32_t size;  /* sizeof(tdl_tcp_info), set by the caller */
    uint32_t state; /* 1: established; others as in netinet/tcp.h */
    int64_t rtt, rtt_var, rtt_min; /* ns: round trip, smoothed; its variation; the shortest, 0: unknown */
    int64_t rto;                   /* ns: after which a segment is sent again */
    int64_t mss;                   /* bytes of a segment */
    int64_t cwnd, ssthresh;        /* segments: congestion window, slow start's threshold */
    int64_t unacked, lost;         /* segments: on their way; thought lost */
    int64_t retransmits;           /* segments sent again, ever */
    int64_t bytes_acked, bytes_received, bytes_unsent;
    int64_t delivery_rate;         /* bytes per second, lately */
} tdl_tcp_info;
/* 0; TDL_ECLOSED; -EOPNOTSUPP and the like for what is not TCP. Any caller. */
TDL_API int tdl_conn_tcp_info(tdl_conn *c, tdl_tcp_info *info);

/* -- TLS ----------------------------------------------------------------- */

/* TLS 1.2 and 1.3 on a connection that a stream socket is behind ("tcp", "unix"), by
 * OpenSSL 3, which is loaded when the first tdl_tls is made. A connection that was given TLS
 * is used by the same calls as any other: reads, framed reads, writes, copies, deadlines,
 * closing. What is different:
 *   The handshake is done by the first call that reads or writes, or tdl_conn_handshake.
 *   The end of the stream is what the peer has announced (close_notify). Where it just ends
 *   reads fail with TDL_ETLSEOF: it may have been cut off.
 *   tdl_conn_close_write announces the end of our side; so does closing, when that
 *   needs no waiting.
 *   Errors are TDL_ETLS … TDL_ETLSEOF, after which (but TDL_ETLSEOF of a read) the connection is of no more
 *   use; tdl_conn_tls_text(c, TDL_TLS_ERROR, …) has the reason.
 *   tdl_conn_release, tdl_conn_send_fds and tdl_conn_recv_fds say -EOPNOTSUPP; tdl_val_set_conn hands it over.
 * Peers that want to renegotiate are refused. */
typedef struct tdl_tls tdl_tls;                 /* what connections have in common: certificates, whom to trust … */
typedef struct tdl_tls_session tdl_tls_session; /* what a later connection can resume */

enum {
    TDL_TLS_SERVER      = 1,  /* for the accepting side */
    TDL_TLS_NO_VERIFY   = 2,  /* client: any certificate will do */
    TDL_TLS_ANY_NAME    = 4,  /* client: one that is trusted will do, for whatever name */
    TDL_TLS_ASK_CLIENT  = 8,  /* server: a client's certificate is asked for, and must be trusted if it has one */
    TDL_TLS_NEED_CLIENT = 16, /* server: it must have one */
    TDL_TLS_NO_RESUME   = 32, /* sessions are not resumed */
    TDL_TLS_KNOWN_NAME  = 64, /* server: a client that asks for a name that was not added is refused */
    TDL_TLS_ALL         = 127
};
enum { TDL_TLS_1_0 = 0x301, TDL_TLS_1_1 = 0x302, TDL_TLS_1_2 = 0x303, TDL_TLS_1_3 = 0x304 };

/* Where PEM is asked for: the text itself, recognised by its "-----BEGIN", or the path of a file. All
 * texts may be NULL, and are copied. */
typedef struct tdl_tls_options {
    uint32_t    size;        /* sizeof(tdl_tls_options) */
    uint32_t    flags;       /* TDL_TLS_… */
    int32_t     min_version; /* TDL_TLS_1_2 …; 0: 1.2 */
    int32_t     max_version; /* 0: the newest */
    const char *cert;        /* PEM: our certificate, and behind it those up to the root; a server needs one */
    const char *key;         /* PEM: its key; NULL: that is in cert */
    const char *password;    /* of the key */
    const char *ca;          /* PEM, or a directory as OpenSSL's rehash makes it: whom to trust; NULL: whom the system trusts */
    const char *alpn;        /* "h2,http/1.1": protocols, the best first */
    const char *ciphers;     /* as `openssl ciphers` takes them; those of 1.3 ("TLS_…") may be among them */
} tdl_tls_options;

/* Makes one. 0; TDL_EINVAL; TDL_ENOTLS; TDL_ECERT, TDL_ETLS or a system error for what is in the options, and
 * in why, cut to size (may be NULL and 0), which and for what reason. Reads files on the caller's thread.
 * Any caller. */
TDL_API int  tdl_tls_new(const tdl_tls_options *o, tdl_tls **t, char *why, size_t size);
/* Clients that ask for this name, or one that "*.example.org" stands for, get the
 * certificate of `other`, which may then be freed. 0; TDL_EINVAL unless both are servers'; TDL_EBUSY once
 * t has a connection; TDL_ENOMEM. One caller at a time. */
TDL_API int  tdl_tls_add_name(tdl_tls *t, const char *name, tdl_tls *other);
/* Connections keep what they need. NULL is ignored. Any caller. */
TDL_API void tdl_tls_free(tdl_tls *t);
/* "OpenSSL 3.0.15 3 Sep 2024", its full length; or TDL_ENOTLS, and why it cannot be loaded. Any caller. */
TDL_API int  tdl_tls_library(char *buf, size_t size);

/* From now on the connection speaks TLS, the server's or client's part by t. server_name is for a
 * client: the name that it asks for and that the certificate must be for; an IP address is possible. NULL
 * takes TDL_TLS_NO_VERIFY or TDL_TLS_ANY_NAME. session (may be NULL) is one to
 * resume. Plain bytes that are still buffered are taken for the beginning of the peer's TLS. Nothing is sent or
 * waited for yet. 0; TDL_EBUSY while an operation is under way or held (tdl_conn_skip); -EALREADY: it has TLS;
 * -EOPNOTSUPP: no stream socket; TDL_EINVAL; TDL_ECLOSED. Any caller. */
TDL_API int  tdl_conn_set_tls(tdl_conn *c, tdl_tls *t, const char *server_name, tdl_tls_session *session);
/* The handshake, if it has not been done. Blocking, with the deadline of reads. 0; TDL_ETLS … TDL_ETLSEOF; else as
 * tdl_conn_read, and after TDL_ETIMEDOUT or TDL_ECANCELED it can be gone on with. TDL_EINVAL: the connection has no TLS. */
TDL_API int  tdl_conn_handshake(tdl_conn *c);
/* As tdl_conn_close_write, but waits until it has gone out, where that says TDL_EAGAIN.
 * Blocking, with the deadline of writes. */
TDL_API int  tdl_conn_end_tls(tdl_conn *c);

/* The session as it is now, to be resumed later: after a read, since a server of TLS 1.3 sends it then. The caller's,
 * to be freed. NULL: there is none that can be resumed. Any caller. */
TDL_API tdl_tls_session *tdl_conn_tls_session(tdl_conn *c);
TDL_API void tdl_tls_session_free(tdl_tls_session *s); /* NULL is ignored */

enum {
    TDL_TLS_VERSION     = 1, /* "TLSv1.3" */
    TDL_TLS_CIPHER      = 2, /* "TLS_AES_256_GCM_SHA384" */
    TDL_TLS_ALPN        = 3, /* the protocol agreed on */
    TDL_TLS_SERVER_NAME = 4, /* that the client has asked for */
    TDL_TLS_SUBJECT     = 5, /* of the peer's certificate, as RFC 2253 writes it */
    TDL_TLS_ISSUER      = 6,
    TDL_TLS_PEER_CERT   = 7, /* the peer's certificate, PEM */
    TDL_TLS_VERIFY      = 8, /* "ok", or what is wrong with it; also where it is not required to be right */
    TDL_TLS_ERROR       = 9, /* why the connection has failed: OpenSSL's reason, and the peer's address */
    TDL_TLS_DONE        = 16, /* of tdl_conn_tls_number: 1 after the handshake */
    TDL_TLS_RESUMED     = 17, /* 1: a session was resumed */
    TDL_TLS_VERIFY_CODE = 18, /* OpenSSL's X509_V_…; 0 is ok */
    TDL_TLS_VERSION_NUMBER = 19, /* TDL_TLS_1_3 … */
    TDL_TLS_UNREAD      = 20 /* 1: bytes that nobody has read have come, or the end, or an error; 0: nothing (what TLS itself has
                                sent, a ticket for resuming, say, is none); TDL_EBUSY while somebody reads */
};
/* As text, cut to size with a final NUL ("" for what is not there); its full length. TDL_EINVAL: no TLS, or another
 * number; TDL_ECLOSED. Any caller. */
TDL_API int tdl_conn_tls_text(tdl_conn *c, int what, char *buf, size_t size);
TDL_API int tdl_conn_tls_number(tdl_conn *c, int what);
/* 1: the connection has been given TLS; 0. Any caller. */
TDL_API int tdl_conn_has_tls(tdl_conn *c);

/* -- Servers ------------------------------------------------------------- */

/* A server accepts connections and parks them: with no goroutine, no stack and no
 * buffer, in less than 300 bytes each. When the first byte of a request
 * arrives, the connection is served: by a goroutine that calls the handler, or by
 * whoever asks for the next one (tdl_server_next). When the request is done it is
 * parked again, and closed when it has been so for too long. Where the process has
 * no more descriptors, the server waits, and accepts when there are some again. */
typedef struct tdl_server tdl_server;

/* Serves what has arrived (seldom, nothing yet, when another has read it as its event
 * came: then its read waits); the connection is parked when it returns, or served
 * again at once if there is more. It may close the connection
 * (tdl_conn_close), but not free it; no operation on it may be under way when it returns,
 * which it must (no tdl_goexit): a shutdown waits for that. */
typedef void (*tdl_handler)(tdl_conn *c, void *arg);

typedef struct tdl_server_options {
    uint32_t    size;         /* sizeof(tdl_server_options) */
    uint32_t    max_conns;    /* connections at a time; more wait in the backlog; 0: any number */
    int64_t     idle_timeout; /* ns that one may be parked; 0: for ever */
    tdl_handler handler;      /* NULL: tdl_server_next is used */
    void       *arg;
} tdl_server_options;

/* Serves n listeners (1…1024; see tdl_listen_shards), which are the server's from
 * then on and must not be used otherwise. Each accepts on its own poller, and its connections belong to that.
 * 0; TDL_EINVAL; TDL_EBUSY: one is served already; TDL_ECLOSED. With an error they stay the
 * caller's. Any caller. */
TDL_API int tdl_server_new(tdl_listener *const *l, int n, const tdl_server_options *o, tdl_server **s);
/* Waits for a connection on which something has arrived (or the end: then its
 * read says so). It is the caller's until he parks it, or frees it. Blocking. 0; TDL_ECLOSED: shut down,
 * and none is left; TDL_ETIMEDOUT, TDL_EAGAIN, TDL_ECANCELED; TDL_EINVAL: there is a handler. */
TDL_API int tdl_server_next(tdl_server *s, int64_t deadline, tdl_conn **c);
/* Gives a connection of tdl_server_next back: as tdl_conn_free, but it is parked if
 * it can be. 0; TDL_EINVAL: not one of such a server. Any caller. */
TDL_API int tdl_server_park(tdl_conn *c);
/* Closes the listeners and the parked connections, and waits until the others are
 * closed, or parked, and all handlers have returned. At the deadline it cancels the handlers' goroutines (as
 * tdl_cancel: what waits returns TDL_ECANCELED, whatever it waits for) and closes their connections. Blocking. 0; TDL_ETIMEDOUT:
 * that was done, and another call waits until the handlers have returned; TDL_ECANCELED: it goes on. Any number of callers. */
TDL_API int tdl_server_shutdown(tdl_server *s, int64_t deadline);
/* The same at once: everything is closed, the handlers are cancelled (a calling one is not), nothing is waited for. 0. Any caller. */
TDL_API int tdl_server_close(tdl_server *s);
/* Closes it and gives the handle back, and the listeners'. NULL is ignored. Any caller. */
TDL_API void tdl_server_free(tdl_server *s);
enum {
    TDL_SERVER_CONNS    = 0, /* connections there are */
    TDL_SERVER_BUSY     = 1, /* of these: those that are being served, or wait for it */
    TDL_SERVER_ACCEPTED = 2, /* ever */
    TDL_SERVER_TIMEOUTS = 3, /* closed because they were idle */
    TDL_SERVER_STARVED  = 4  /* how often there was no descriptor or memory for one */
};
/* One of these numbers; TDL_EINVAL. Any caller. */
TDL_API int64_t tdl_server_stat(tdl_server *s, int what);

/* -- Datagrams ----------------------------------------------------------- */

/* A socket of "udp", "udp4", "udp6" or "unixgram". Calls are atomic and served in
 * order, as with connections. */
typedef struct tdl_dgram tdl_dgram;

/* A socket that receives at the address (port 0 lets the system choose). 0; as
 * tdl_addr_parse; -EADDRINUSE …. A unix path is unlinked when it is closed. Any
 * caller. */
TDL_API int tdl_dgram_listen(const char *network, const char *address, tdl_dgram **d);
/* A socket that sends to the address, and receives from there alone; from: its own
 * address, or NULL (a unix one then has none, and nobody can answer). 0; as
 * tdl_addr_parse; -ECONNREFUSED (unix) …. Does not wait: any caller. */
TDL_API int tdl_dgram_dial(const char *network, const char *address, const char *from, tdl_dgram **d);
/* Of a socket that the caller has; and back. As tdl_conn_adopt, _release. */
TDL_API int tdl_dgram_adopt(int fd, tdl_dgram **d);
TDL_API int tdl_dgram_release(tdl_dgram *d);

/* Receives one datagram, and who sent it (length 0: a nameless unix socket). Its
 * length, which may be 0; TDL_ETRUNCATED when it is longer than n (buf holds the
 * beginning); TDL_ECLOSED, TDL_ETIMEDOUT, TDL_ECANCELED; -ECONNREFUSED where the
 * peer of a dialled socket has none at its end. Blocking, for n = 0 too. */
TDL_API int64_t tdl_dgram_recv(tdl_dgram *d, void *buf, size_t n);
TDL_API int64_t tdl_dgram_recvfrom(tdl_dgram *d, void *buf, size_t n, tdl_addr *from); /* NULL: do not tell */
/* Sends one datagram to whom the socket was dialled, or to an address. n;
 * -EMSGSIZE: too long; -EDESTADDRREQ: send without one; TDL_EADDRESS: of another
 * family; -ECONNREFUSED, TDL_ECLOSED …. Blocking (for room). */
TDL_API int64_t tdl_dgram_send(tdl_dgram *d, const void *buf, size_t n);
TDL_API int64_t tdl_dgram_sendto(tdl_dgram *d, const void *buf, size_t n, const tdl_addr *to);

/* One of several. */
typedef struct tdl_packet {
    void     *data;
    size_t    size; /* bytes to send; room to receive */
    size_t    n;    /* received: bytes in data */
    tdl_addr *addr; /* to whom, NULL: to whom it was dialled (may be rewritten, mapped); from whom, NULL: do not tell */
    int32_t   code; /* received: 0 or TDL_ETRUNCATED */
    uint32_t  unused;
} tdl_packet;
/* Waits for one datagram and takes all that are there, up to n (and 32 in one
 * call): how many. Blocking; errors as tdl_dgram_recv. */
TDL_API int tdl_dgram_recv_batch(tdl_dgram *d, tdl_packet *packets, int n);
/* Sends n, in as few system calls as will do: how many have gone out, fewer than n
 * where the next one fails or time is up; the error when it is the first. Blocking. */
TDL_API int tdl_dgram_send_batch(tdl_dgram *d, tdl_packet *packets, int n);

/* As for connections. Any caller. */
TDL_API void tdl_dgram_set_deadline(tdl_dgram *d, int64_t when);
TDL_API void tdl_dgram_set_read_deadline(tdl_dgram *d, int64_t when);
TDL_API void tdl_dgram_set_write_deadline(tdl_dgram *d, int64_t when);
TDL_API void tdl_dgram_set_timeout(tdl_dgram *d, int64_t ns);
TDL_API int  tdl_dgram_set_option(tdl_dgram *d, int option, int64_t value);
TDL_API int64_t tdl_dgram_option(tdl_dgram *d, int option);
TDL_API int  tdl_dgram_sockaddr(tdl_dgram *d, tdl_addr *a);
TDL_API int  tdl_dgram_peeraddr(tdl_dgram *d, tdl_addr *a); /* -ENOTCONN unless dialled */
TDL_API int  tdl_dgram_fd(tdl_dgram *d);
TDL_API int  tdl_dgram_close(tdl_dgram *d);
TDL_API void tdl_dgram_free(tdl_dgram *d);

/* -- Descriptors --------------------------------------------------------- */

/* Any descriptor that can be polled: pipes, terminals, eventfd, timerfd,
 * signalfd, pidfd, netlink, TUN, sockets of other libraries. It is watched by the
 * poller of the caller that brings it, and non-blocking while it is here, with
 * all that share its open file. */
typedef struct tdl_fd tdl_fd;

/* Takes fd over, to be closed with the handle; or a duplicate of it. 0;
 * TDL_ENOPOLL; -EBADF, -EMFILE; -EEXIST (here already). With an error fd stays
 * the caller's. Any caller. */
TDL_API int tdl_fd_adopt(int fd, tdl_fd **f);
TDL_API int tdl_fd_dup(int fd, tdl_fd **f);
/* Gives the descriptor back, in the mode it was adopted in; the handle is as
 * closed. TDL_ECLOSED; TDL_EBUSY while an operation is under way. Any caller. */
TDL_API int tdl_fd_release(tdl_fd *f);
/* Waits until a read, or a write, would not wait (or would fail: then that tells
 * why), whoever does it. One of them at a time waits for a direction, the others
 * queue. Blocking. 0; TDL_ECLOSED, TDL_ETIMEDOUT, TDL_ECANCELED; -EBADF: closed
 * behind treadle's back. */
TDL_API int tdl_fd_wait_readable(tdl_fd *f);
TDL_API int tdl_fd_wait_writable(tdl_fd *f);
/* As for connections: read(2) what is there, write(2) all of it. */
TDL_API int64_t tdl_fd_read(tdl_fd *f, void *buf, size_t n);
TDL_API int64_t tdl_fd_write(tdl_fd *f, const void *buf, size_t n);
/* As for connections. Any caller. */
TDL_API void tdl_fd_set_deadline(tdl_fd *f, int64_t when);
TDL_API void tdl_fd_set_read_deadline(tdl_fd *f, int64_t when);
TDL_API void tdl_fd_set_write_deadline(tdl_fd *f, int64_t when);
TDL_API void tdl_fd_set_timeout(tdl_fd *f, int64_t ns);
TDL_API int  tdl_fd_number(tdl_fd *f); /* the descriptor, still the handle's; TDL_ECLOSED */
TDL_API int  tdl_fd_close(tdl_fd *f);
TDL_API void tdl_fd_free(tdl_fd *f);

/* -- Names --------------------------------------------------------------- */

/* The addresses of a host, with the port, in the order in which they are to be
 * tried (tdl_dial_list takes them): by the C library's resolver, as the system is
 * configured (/etc/hosts, name servers …), on a service thread; a number or "localhost"
 * at once. network NULL: "tcp". Blocking. How many, at most max; TDL_ENONAME: there
 * is no such host, or it has no such address; TDL_ENAMESERVER: no name server has
 * answered (itself it gives up after some 10 seconds); TDL_EADDRESS: no host's name at all; TDL_EPORT, TDL_ENETWORK. */
TDL_API int tdl_lookup(const char *network, const char *host, int port, tdl_addr *found, int max, int64_t deadline);
/* The name of an address, cut to size with a final NUL. Blocking. Its full length; TDL_ENONAME: it has none. */
TDL_API int tdl_lookup_name(const tdl_addr *a, char *buf, size_t size, int64_t deadline);

/* -- Files --------------------------------------------------------------- */

/* Whatever a poller cannot wait for, here and in the next sections, is done by
 * service threads, at most tdl_set_io_threads of them, which come when there is
 * work and go when there is none. The calls are Blocking like all others: a
 * deadline (TDL_FOREVER for none) ends each with TDL_ETIMEDOUT, a cancel with
 * TDL_ECANCELED. What a thread is already at goes on then, and may still have its
 * effect; nothing of the caller's is touched any more. Refused in a simulation (TDL_ESIM).
 * Paths are text with a final NUL. Errors are -ENOENT, -EACCES and so on, and
 * TDL_EINVAL for a null or an empty path. */
typedef struct tdl_file tdl_file;

/* How many service threads there may be, 2…256: 8 unless TDL_IO_THREADS in the
 * environment says otherwise; n >= 1 also sets it. Half of them at most look up names, so
 * that a slow name server does not hold up files. Returns the previous number. Any caller. */
TDL_API int tdl_set_io_threads(int n);

enum {
    TDL_OPEN_READ      = 1,
    TDL_OPEN_WRITE     = 2,
    TDL_OPEN_APPEND    = 4,  /* each write goes to the end */
    TDL_OPEN_CREATE    = 8,  /* when it is not there, with the mode (less the umask) */
    TDL_OPEN_EXCLUSIVE = 16, /* with TDL_OPEN_CREATE: -EEXIST when it is */
    TDL_OPEN_TRUNCATE  = 32,
    TDL_OPEN_SYNC      = 64, /* each write is on the disk when it returns */
    TDL_OPEN_DIRECTORY = 128, /* -ENOTDIR for something else */
    TDL_OPEN_NOFOLLOW  = 256, /* -ELOOP for a symbolic link */
    TDL_OPEN_ALL       = 511
};

/* Opens a file, close-on-exec. Blocking. 0; TDL_EINVAL: neither read nor write,
 * or an unknown flag. A FIFO, terminal or device can be opened, and does not wait:
 * its operations say -EAGAIN where they would, and tdl_file_release with
 * tdl_conn_adopt makes it a connection, which does. */
TDL_API int tdl_file_open(const char *path, int flags, int mode, tdl_file **f, int64_t deadline);
/* A new file that nobody else has: text ends in "XXXXXX", which becomes something
 * unused; the path is written to buf, cut to size with a final NUL. Blocking. Its length. */
TDL_API int tdl_file_open_temp(const char *text, tdl_file **f, char *buf, size_t size, int64_t deadline);
/* Of a descriptor that the caller has: it is the file's then. 0, -EBADF. And back;
 * TDL_ECLOSED, TDL_EBUSY while an operation is under way. Any caller. */
TDL_API int tdl_file_adopt(int fd, tdl_file **f);
TDL_API int tdl_file_release(tdl_file *f);
TDL_API int tdl_file_fd(tdl_file *f); /* the descriptor, still the file's; TDL_ECLOSED. Any caller */

/* Reads up to n bytes at the file's position, which moves; or at an offset, and it
 * does not. What is in the system's cache is read at once. Blocking. Bytes read, 0 at the end of the file. */
TDL_API int64_t tdl_file_read(tdl_file *f, void *buf, size_t n, int64_t deadline);
TDL_API int64_t tdl_file_pread(tdl_file *f, void *buf, size_t n, int64_t offset, int64_t deadline);
/* Writes all n bytes, at most 2^30, and returns n. Blocking. On an error (-ENOSPC …) some may be written. */
TDL_API int64_t tdl_file_write(tdl_file *f, const void *buf, size_t n, int64_t deadline);
TDL_API int64_t tdl_file_pwrite(tdl_file *f, const void *buf, size_t n, int64_t offset, int64_t deadline);
/* Moves the position: from the start (0), from where it is (1), from the end (2).
 * The new one. Any caller. */
TDL_API int64_t tdl_file_seek(tdl_file *f, int64_t offset, int whence);
/* Waits until what was written is on the disk; data_only: without times and the like. Blocking. 0. */
TDL_API int tdl_file_sync(tdl_file *f, int data_only, int64_t deadline);
/* Blocking. 0. */
TDL_API int tdl_file_truncate(tdl_file *f, int64_t size, int64_t deadline);
/* Copies up to n bytes of `from`, from the offset on, to where `to` is, in the kernel. Blocking. Bytes copied;
 * 0 at the end of the file. */
TDL_API int64_t tdl_file_copy(tdl_file *to, tdl_file *from, int64_t offset, size_t n, int64_t deadline);
/* Wakes whoever waits on it, with TDL_ECLOSED; what a thread is already at goes on. 0; the
 * error of close(2); TDL_ECLOSED the second time. The end of a run closes no files. Any caller. */
TDL_API int  tdl_file_close(tdl_file *f);
/* Closes if need be and gives the handle back. NULL is ignored. Any caller. */
TDL_API void tdl_file_free(tdl_file *f);

enum {
    TDL_FILE_UNKNOWN   = 0,
    TDL_FILE_REGULAR   = 1,
    TDL_FILE_DIRECTORY = 2,
    TDL_FILE_LINK      = 3,
    TDL_FILE_FIFO      = 4,
    TDL_FILE_SOCKET    = 5,
    TDL_FILE_CHARACTER = 6, /* a device */
    TDL_FILE_BLOCK     = 7
};

typedef struct tdl_stat {
    uint32_t size;   /* sizeof(tdl_stat), set by the caller */
    int32_t  type;   /* TDL_FILE_… */
    int64_t  mode;   /* permissions alone: 0…07777 */
    int64_t  length; /* bytes */
    int64_t  dev, ino, rdev, links, uid, gid;
    int64_t  block_size, blocks; /* for I/O; of 512 bytes */
    int64_t  atime, mtime, ctime, btime; /* ns since 1970: read, written, changed, born (0: unknown) */
} tdl_stat;
/* Blocking. 0. follow 0: of a symbolic link itself. */
TDL_API int tdl_fs_stat(const char *path, int follow, tdl_stat *st, int64_t deadline);
TDL_API int tdl_file_stat(tdl_file *f, tdl_stat *st, int64_t deadline);

/* All of these: Blocking; 0. */
TDL_API int tdl_fs_access(const char *path, int how, int64_t deadline); /* 0: is it there; 4, 2, 1: may it be read, written, executed */
TDL_API int tdl_fs_mkdir(const char *path, int mode, int64_t deadline);
TDL_API int tdl_fs_rmdir(const char *path, int64_t deadline);
TDL_API int tdl_fs_unlink(const char *path, int64_t deadline);
TDL_API int tdl_fs_rename(const char *from, const char *to, int64_t deadline);
TDL_API int tdl_fs_link(const char *to, const char *path, int64_t deadline); /* path is another name of `to` */
TDL_API int tdl_fs_symlink(const char *to, const char *path, int64_t deadline);
TDL_API int tdl_fs_chmod(const char *path, int mode, int64_t deadline);
TDL_API int tdl_fs_chown(const char *path, int64_t uid, int64_t gid, int follow, int64_t deadline); /* -1: as it is */
TDL_API int tdl_fs_utime(const char *path, int64_t atime, int64_t mtime, int follow, int64_t deadline); /* ns since 1970 */
/* Copies a file, with its mode, by a shared copy where the file system can; exclusive: -EEXIST when `to` is there. */
TDL_API int tdl_fs_copy(const char *from, const char *to, int exclusive, int64_t deadline);
/* The text is written to buf, cut to size with a final NUL. Blocking. Its full length. */
TDL_API int tdl_fs_readlink(const char *path, char *buf, size_t size, int64_t deadline);
TDL_API int tdl_fs_realpath(const char *path, char *buf, size_t size, int64_t deadline);
TDL_API int tdl_fs_mkdtemp(const char *text, char *buf, size_t size, int64_t deadline); /* as tdl_file_open_temp */

/* A whole file, as TDL_BYTES (the caller is the holder). Blocking. 0; TDL_ETOOLONG above limit bytes. */
TDL_API int tdl_fs_read(const char *path, size_t limit, tdl_val *v, int64_t deadline);
enum {
    TDL_WRITE_APPEND    = 1, /* to what is there */
    TDL_WRITE_EXCLUSIVE = 2, /* -EEXIST when there is one */
    TDL_WRITE_ATOMIC    = 4, /* to a file beside it, synced, and renamed: others see the old one or the new */
    TDL_WRITE_ALL       = 7
};
/* The file's content is n bytes from then on. Blocking. 0. */
TDL_API int tdl_fs_write(const char *path, const void *buf, size_t n, int mode, int flags, int64_t deadline);

/* The entries of a directory, without "." and "..", sorted by name. */
typedef struct tdl_dir tdl_dir;
TDL_API int tdl_fs_scan(const char *path, tdl_dir **d, int64_t deadline); /* Blocking. 0 */
/* The next one: 1, and its name, valid as long as d is, and type; 0: there are no
 * more. One caller at a time; any. */
TDL_API int tdl_dir_next(tdl_dir *d, const char **name, int *type);
TDL_API void tdl_dir_free(tdl_dir *d); /* NULL is ignored. Any caller */

/* -- Processes ----------------------------------------------------------- */

/* A child: another program, that runs beside this one. What it has for its standard
 * descriptors is said by its options, and it has no other; it blocks, ignores and
 * handles no signal. It is waited for, by this process, as soon as it has ended, also when nobody asks:
 * it is never a zombie. That needs no SIGCHLD, and no other child is touched. */
typedef struct tdl_process tdl_process;

enum {
    TDL_STDIO_INHERIT = 0,  /* this process's own */
    TDL_STDIO_NULL    = -1, /* /dev/null */
    TDL_STDIO_OUT     = -2, /* of the errors: where the output goes */
    TDL_STDIO_PIPE    = -3  /* a pipe; tdl_process_pipe has the other end */
};
enum {
    TDL_PROCESS_GROUP   = 1, /* leads a process group of its own; tdl_process_kill means all of it */
    TDL_PROCESS_SESSION = 2, /* a session, without a terminal, and so a group of its own */
    TDL_PROCESS_KILL    = 4, /* tdl_process_free kills it (SIGKILL) if it still runs */
    TDL_PROCESS_ALL     = 7
};

typedef struct tdl_process_options {
    uint32_t size;  /* sizeof(tdl_process_options) */
    uint32_t flags; /* TDL_PROCESS_… */
    const char *const *env; /* "NAME=value" …, NULL; NULL: this process's */
    const char *cwd;        /* where it starts; NULL: here */
    int32_t in, out, err;   /* TDL_STDIO_…, or a descriptor above 0, which stays the caller's */
    int32_t unused;
} tdl_process_options;

/* Starts the program `file`, found as by a shell (in this process's PATH, unless it has a
 * slash), with the arguments argv, a list that ends with NULL and begins with its name.
 * o NULL: all 0. 0; -ENOENT, -EACCES, -ENOEXEC …; -ENOENT, -ENOTDIR of cwd; TDL_EINVAL; TDL_ESIM. Any
 * caller: it waits the millisecond that it takes until the child runs. */
TDL_API int tdl_process_start(const char *file, const char *const *argv, const tdl_process_options *o,
                              tdl_process **p);
TDL_API int64_t tdl_process_pid(tdl_process *p); /* Any caller */
/* The end of the pipe for its input (0), output (1) or errors (2), the first time: the
 * caller's from then on. NULL: there is none. The end of its input is what closing ours says. Any caller. */
TDL_API tdl_conn *tdl_process_pipe(tdl_process *p, int which);
/* Waits until it has ended. Blocking. What it returned, 0…255; 128 and the number of the
 * signal that ended it, which is then in *signum (may be NULL; else 0); -ECHILD: the program has waited for it
 * in another way; TDL_ETIMEDOUT, TDL_ECANCELED: it runs on (a scope whose children are to end
 * with it kills it then). Any number may wait. */
TDL_API int tdl_process_wait(tdl_process *p, int *signum, int64_t deadline);
/* Sends it a signal (0: is it there?). 0; -ESRCH: it has ended. Any caller. */
TDL_API int tdl_process_kill(tdl_process *p, int signum);
/* Gives the handle back, and the pipe ends that nobody took; it runs on, but see
 * TDL_PROCESS_KILL. Nobody may wait. NULL is ignored. Any caller. */
TDL_API void tdl_process_free(tdl_process *p);

/* -- Signals ------------------------------------------------------------- */

/* From now on the signal is sent to the channel, as its number (TDL_INT), instead of
 * doing what it did; never waiting: a channel that is full misses it, so give it room.
 * Several channels may have one signal, and one channel several. Handlers that the
 * program, or an interpreter, had for it rest until the last channel is stopped, and are then put
 * back (unless the program has set another one meanwhile). 0; TDL_EINVAL: no such
 * signal, SIGKILL, SIGSTOP, a fault (SIGSEGV …), or a local channel; TDL_ESIM. Any caller. */
TDL_API int tdl_signal_notify(tdl_chan *ch, int signum);
/* No more of this signal (0: of any) to the channel. How many it had. Any caller. */
TDL_API int tdl_signal_stop(tdl_chan *ch, int signum);
/* It is ignored; or what it was before all notify and ignore. To no channel any more. 0. Any caller. */
TDL_API int tdl_signal_ignore(int signum);
TDL_API int tdl_signal_reset(int signum);

/* -- Changes of files, and terminals ------------------------------------- */

/* Watches a file, or the entries of a directory (not of those below it). */
typedef struct tdl_watch tdl_watch;
enum {
    TDL_WATCH_RENAME = 1, /* it came, went, or has another name */
    TDL_WATCH_CHANGE = 2, /* its content, or what stat says */
    TDL_WATCH_LOST   = 4  /* nobody has asked for long: some changes are not told */
};
/* Blocking. 0; -ENOENT, -ENOSPC (the system's limit of watches) …; TDL_ESIM. */
TDL_API int tdl_watch_open(const char *path, tdl_watch **w, int64_t deadline);
/* The next change: TDL_WATCH_…, and the entry's name (of a watched file its own) in buf, cut to
 * size with a final NUL; size may be 0. Several may be told where one happened. Blocking. TDL_ECLOSED …. */
TDL_API int tdl_watch_next(tdl_watch *w, char *buf, size_t size, int64_t deadline);
TDL_API int tdl_watch_close(tdl_watch *w); /* Wakes who waits. 0; TDL_ECLOSED the second time. Any caller */
TDL_API void tdl_watch_free(tdl_watch *w); /* Closes if need be. NULL is ignored. Any caller */

/* Terminals; they are read and written as connections (tdl_conn_adopt) or tdl_fd, and say SIGWINCH
 * (tdl_signal_notify) when their size changes. All of these: any caller. */
TDL_API int tdl_tty_is(int fd); /* 1; 0; -EBADF */
TDL_API int tdl_tty_size(int fd, int *columns, int *rows); /* 0, -ENOTTY */
/* Raw mode: each key as it comes, unseen and without meaning; off: as it was before, which the end of the program
 * sees to as well (not its death by a signal). 0, -ENOTTY. */
TDL_API int tdl_tty_raw(int fd, int on);

/* -- Hosts --------------------------------------------------------------- */

/* A host is one interpreter (a lua_State, a Python interpreter) whose
 * coroutines are goroutines of treadle. Its thread calls tdl_host_poll in a
 * loop and resumes the coroutine of each event; a coroutine that wants to wait
 * calls a `_start` form and yields when that returned TDL_PENDING. No function
 * below calls back into the host or switches stacks.
 *
 * A task is a hosted goroutine: a small number that the host chooses nothing
 * about. It has at most one operation pending. */
typedef struct tdl_host tdl_host;

typedef struct tdl_event {
    uint32_t task;   /* the task; or a watcher, with TDL_WATCHER set */
    int32_t  result; /* what the _start form would have returned; of a watcher: TDL_READABLE | TDL_WRITABLE,
                        of one with TDL_EDGE also TDL_HANGUP */
} tdl_event;

/* What an operation brings besides its result; there is one per task, at
 * tdl_host_outcomes(host)[task], valid from the event (or from a _start form
 * that completed at once) until the task's next _start. */
typedef struct tdl_outcome {
    tdl_val val;     /* received value (the host becomes its holder); accept, dial: the tdl_conn as TDL_PTR;
                        fill: the buffered bytes as TDL_PTR */
    int64_t extra;   /* select: the case's ok; write: bytes that went out, errors included; fill: bytes buffered;
                        recv_fds: descriptors that came */
} tdl_outcome;

enum {
    TDL_WATCHER   = 0x40000000,
    TDL_READABLE  = 1,
    TDL_WRITABLE  = 2,
    TDL_HANGUP    = 4, /* the peer has ended or failed: every attempt is worth it from now on */
    TDL_EDGE      = 8,
    TDL_MAX_TASKS = 1 << 20
};

/* Makes the calling plain thread the thread of a new host. The name is shown
 * in dumps (31 bytes are copied; may be NULL). 0; TDL_EINVAL; TDL_ENOMEM;
 * TDL_EBUSY in a goroutine; -EMFILE. One thread may open several hosts. */
TDL_API int  tdl_host_open(const char *name, tdl_host **h);
/* Ends the host: pending operations are dropped without an event, connections
 * and listeners that were opened on its thread are closed, its tasks are gone.
 * Handles stay to be freed. 0; TDL_EHOST off its thread. */
TDL_API int  tdl_host_close(tdl_host *h);
/* Waits until events are there, at most timeout_ns (0: not at all; < 0: for
 * ever), and stores up to max of them. Their number; 0 when time is up, after
 * tdl_host_wake, or early on a signal; TDL_EHOST off its thread. Does not keep
 * events back: what it could not store comes with the next call. */
TDL_API int  tdl_host_poll(tdl_host *h, tdl_event *events, int max, int64_t timeout_ns);
/* The same with flags.
 * TDL_POLL_DEADLOCK: a wait without a limit (timeout_ns < 0) that nothing can end
 * any more, because the tasks wait for each other and so does everybody else in
 * the process, ends with TDL_EDEADLOCK. Not while there is a timer, an operation
 * that waits for a descriptor, a watcher, a handler for a signal (SIGINT and
 * faults apart), or a thread that is not known to wait for ever in a treadle
 * call, such as a host that polls without this flag. It takes 20 ms or more to
 * be seen, up to some seconds where a thread ended meanwhile.
 * TDL_POLL_UNWATCHED: watchers are not taken for something that may happen.
 * TDL_POLL_BUSY: the caller has work of its own to go on with. It does not wait,
 * and asks the kernel only now and then (each 32nd time, or after 0.2 ms). */
enum { TDL_POLL_DEADLOCK = 1, TDL_POLL_UNWATCHED = 2, TDL_POLL_BUSY = 4 };
TDL_API int  tdl_host_poll_opts(tdl_host *h, tdl_event *events, int max, int64_t timeout_ns, int flags);
/* Makes the current or the next tdl_host_poll return. Any caller, also in a
 * signal handler. */
TDL_API int  tdl_host_wake(tdl_host *h);
/* Guest mode, for a host whose loop is foreign: watch this descriptor for
 * reading, and when it is readable or the timeout is over call
 * tdl_host_poll(…, 0) until it returns fewer than max. */
TDL_API int  tdl_host_fd(tdl_host *h);
/* Nanoseconds until poll has something to do by time alone: 0 now, < 0 never.
 * Also arms the wake-up of the descriptor: call it last before going back to
 * the foreign loop. Host thread. */
TDL_API int64_t tdl_host_timeout(tdl_host *h);
/* The array of outcomes, at the same address for the host's life. */
TDL_API tdl_outcome *tdl_host_outcomes(tdl_host *h);
/* Watches any pollable descriptor, level-triggered, for READABLE and/or
 * WRITABLE; its events come as {TDL_WATCHER | id, readiness}. With TDL_EDGE too
 * edge-triggered: an event for each change, the first at once where it is ready, and
 * then as tdl_host_watch_want says.
 * The id, or -EBADF, -EPERM (not pollable), -EEXIST, TDL_EINVAL. Host thread. */
TDL_API int  tdl_host_watch(tdl_host *h, int fd, int readiness);
/* Changes what it waits for; 0: nothing, until the next change. */
TDL_API int  tdl_host_watch_modify(tdl_host *h, int watcher, int readiness);
/* For one with TDL_EDGE, after an event of READABLE and/or WRITABLE was used up (a read or
 * a write was told EAGAIN, or did less than it was asked): the next change is to be told.
 * 1; 0: this back end needs no such call, for any watcher of the host (all but libuv's,
 * which knows levels only); readiness 0 asks just that. -EBADF; TDL_EINVAL: not with
 * TDL_EDGE. Host thread. */
TDL_API int  tdl_host_watch_want(tdl_host *h, int watcher, int readiness);
/* Ends it; events of it that were not handed out yet are dropped. */
TDL_API int  tdl_host_unwatch(tdl_host *h, int watcher);

/* A new task: its id, TDL_ENOMEM when TDL_MAX_TASKS exist. With run, an event
 * {task, 0} is queued for its first step. Host thread. */
TDL_API int  tdl_task_new(tdl_host *h, int run);
/* The task is over. 0; TDL_EBUSY while an operation or an event is pending. */
TDL_API int  tdl_task_free(tdl_host *h, uint32_t task);
/* Names the task in dumps (31 bytes are copied). */
TDL_API int  tdl_task_set_name(tdl_host *h, uint32_t task, const char *name);
/* Makes the pending operation end with TDL_ECANCELED, by an event. 1; 0 when
 * none is pending or it has already ended (then its event still comes, with
 * what it got). Host thread. */
TDL_API int  tdl_task_cancel(tdl_host *h, uint32_t task);
/* Does an operation wait on the task that nothing has ended yet? 1; 0 also when its
 * event is on the way. Host thread. */
TDL_API int  tdl_task_waits(tdl_host *h, uint32_t task);
/* Waits for tdl_task_ready, or the deadline (TDL_ETIMEDOUT). Always pending. */
TDL_API int  tdl_task_park_start(tdl_host *h, uint32_t task, int64_t deadline);
/* Ends a task's park with a result >= 0. 1; 0 when the task is not parked so,
 * or another has already ended its park. Any caller, as long as the task exists. */
TDL_API int  tdl_task_ready(tdl_host *h, uint32_t task, int result);

/* A worker: a thread of its own for another interpreter, which then opens its own
 * host there. The thread calls entry(state, a, b, c), such as lua_pcall with a
 * lua_State that was made for it, and then end(state), such as lua_close. It
 * takes no signals. */
typedef struct tdl_worker_options {
    uint32_t    size;  /* sizeof(tdl_worker_options) */
    uint32_t    flags; /* 0 */
    int       (*entry)(void *state, int a, int b, int c);
    void       *state;
    int32_t     a, b, c;
    int32_t     unused;
    void      (*end)(void *state); /* may be NULL */
    const char *name;              /* the thread's, of which the system keeps 15 bytes; copied; may be NULL */
} tdl_worker_options;
/* Starts one. Its result comes as TDL_INT through *done, a channel of the
 * caller's (to be freed), which is then closed: receive from it to join. Who does
 * not want to know frees it at once. The thread outlives runs and hosts; whoever
 * unloads code it needs has to join it before. 0; TDL_EINVAL; TDL_ENOMEM; -EAGAIN:
 * no more threads; TDL_ESIM in a simulation. Any caller. */
TDL_API int tdl_worker_start(const tdl_worker_options *o, tdl_chan **done);

/* The `_start` forms: host thread only, each as its blocking form (deadlines as
 * there; TDL_FOREVER for none), with TDL_PENDING where that would wait; also
 * TDL_EINVAL for a task that does not exist, TDL_EBUSY for one that has an
 * operation pending; nothing has happened then. Pointers to values, cases and text are read before they
 * return, unless said otherwise. */
TDL_API int tdl_yield_start(tdl_host *h, uint32_t task); /* always pending: comes after what is runnable now */
TDL_API int tdl_sleep_start(tdl_host *h, uint32_t task, int64_t ns);
TDL_API int tdl_sim_wait_start(tdl_host *h, uint32_t task);
TDL_API int tdl_join_start(tdl_host *h, uint32_t task, tdl_g *g, int64_t deadline);
TDL_API int tdl_chan_send_start(tdl_host *h, uint32_t task, tdl_chan *ch, const tdl_val *v, int64_t deadline);
TDL_API int tdl_chan_recv_start(tdl_host *h, uint32_t task, tdl_chan *ch, int64_t deadline);
TDL_API int tdl_select_start(tdl_host *h, uint32_t task, const tdl_case *cases, int n, int64_t deadline);
TDL_API int tdl_mutex_lock_start(tdl_host *h, uint32_t task, tdl_mutex *m, int64_t deadline);
TDL_API int tdl_cond_wait_start(tdl_host *h, uint32_t task, tdl_cond *c, int64_t deadline);
TDL_API int tdl_sema_acquire_start(tdl_host *h, uint32_t task, tdl_sema *s, uint32_t n, int64_t deadline);
TDL_API int tdl_waitgroup_wait_start(tdl_host *h, uint32_t task, tdl_waitgroup *wg, int64_t deadline);
TDL_API int tdl_rwmutex_lock_start(tdl_host *h, uint32_t task, tdl_rwmutex *rw, int64_t deadline);
TDL_API int tdl_rwmutex_rlock_start(tdl_host *h, uint32_t task, tdl_rwmutex *rw, int64_t deadline);
TDL_API int tdl_once_begin_start(tdl_host *h, uint32_t task, tdl_once *o, int64_t deadline);
TDL_API int tdl_context_wait_start(tdl_host *h, uint32_t task, tdl_context *c, int64_t deadline);
TDL_API int tdl_errgroup_begin_start(tdl_host *h, uint32_t task, tdl_errgroup *eg, int64_t deadline);
TDL_API int tdl_errgroup_wait_start(tdl_host *h, uint32_t task, tdl_errgroup *eg, int64_t deadline);
TDL_API int tdl_singleflight_begin_start(tdl_host *h, uint32_t task, tdl_singleflight *sf, const void *key, size_t n,
                                         int64_t deadline); /* what is out there is the task's outcome */
TDL_API int tdl_scope_wait_start(tdl_host *h, uint32_t task, tdl_scope *s, int64_t deadline);
TDL_API int tdl_listener_accept_start(tdl_host *h, uint32_t task, tdl_listener *l);
TDL_API int tdl_listener_wait_start(tdl_host *h, uint32_t task, tdl_listener *l);
TDL_API int tdl_dial_start(tdl_host *h, uint32_t task, const char *network, const char *address, int64_t timeout_ns);
/* buf must stay valid until the event; at most 2^30 bytes are read. */
TDL_API int tdl_conn_read_start(tdl_host *h, uint32_t task, tdl_conn *c, void *buf, size_t n);
/* What cannot be sent at once is copied; n is at most 2^30. */
TDL_API int tdl_conn_write_start(tdl_host *h, uint32_t task, tdl_conn *c, const void *buf, size_t n);
TDL_API int tdl_conn_fill_start(tdl_host *h, uint32_t task, tdl_conn *c, int how, size_t limit);
TDL_API int tdl_conn_handshake_start(tdl_host *h, uint32_t task, tdl_conn *c);
TDL_API int tdl_conn_end_tls_start(tdl_host *h, uint32_t task, tdl_conn *c);
/* The bytes copied are the outcome's extra. */
TDL_API int tdl_conn_copy_start(tdl_host *h, uint32_t task, tdl_conn *to, tdl_conn *from, int64_t n);
TDL_API int tdl_conn_send_file_start(tdl_host *h, uint32_t task, tdl_conn *c, int fd, int64_t offset, int64_t n);
/* The connection comes as the outcome. */
TDL_API int tdl_server_next_start(tdl_host *h, uint32_t task, tdl_server *s, int64_t deadline);
TDL_API int tdl_server_shutdown_start(tdl_host *h, uint32_t task, tdl_server *s, int64_t deadline);
TDL_API int tdl_conn_fill_until_start(tdl_host *h, uint32_t task, tdl_conn *c, const void *delim, size_t n,
                                      size_t limit);
/* What has to wait is copied. */
TDL_API int tdl_conn_writev_start(tdl_host *h, uint32_t task, tdl_conn *c, const tdl_iovec *v, int n);
/* b must stay, and be left alone, until the event. */
TDL_API int tdl_conn_write_buf_start(tdl_host *h, uint32_t task, tdl_conn *c, tdl_buf *b);
TDL_API int tdl_dial_opts_start(tdl_host *h, uint32_t task, const char *network, const char *address,
                                const tdl_dial_options *o);
TDL_API int tdl_dial_list_start(tdl_host *h, uint32_t task, const char *network, const tdl_addr *addresses, int n,
                                const tdl_dial_options *o);
/* What has to wait is copied, the descriptors duplicated. */
TDL_API int tdl_conn_send_fds_start(tdl_host *h, uint32_t task, tdl_conn *c, const void *buf, size_t n,
                                    const int *fds, int nfds);
/* buf, fds and nfds must stay valid until the event; so must what the next ones
 * receive into, and the packets of a batch. */
TDL_API int tdl_conn_recv_fds_start(tdl_host *h, uint32_t task, tdl_conn *c, void *buf, size_t n, int *fds,
                                    int *nfds);
TDL_API int tdl_dgram_recv_start(tdl_host *h, uint32_t task, tdl_dgram *d, void *buf, size_t n, tdl_addr *from);
TDL_API int tdl_dgram_send_start(tdl_host *h, uint32_t task, tdl_dgram *d, const void *buf, size_t n,
                                 const tdl_addr *to); /* to NULL: as tdl_dgram_send. Copied when it has to wait */
TDL_API int tdl_dgram_recv_batch_start(tdl_host *h, uint32_t task, tdl_dgram *d, tdl_packet *packets, int n);
TDL_API int tdl_dgram_send_batch_start(tdl_host *h, uint32_t task, tdl_dgram *d, tdl_packet *packets, int n);
TDL_API int tdl_fd_wait_start(tdl_host *h, uint32_t task, tdl_fd *f, int readiness); /* TDL_READABLE or TDL_WRITABLE */
TDL_API int tdl_fd_read_start(tdl_host *h, uint32_t task, tdl_fd *f, void *buf, size_t n);
TDL_API int tdl_fd_write_start(tdl_host *h, uint32_t task, tdl_fd *f, const void *buf, size_t n);

/* Files. What a call writes to (buf, st) must stay valid until the event; what it reads is copied. open: the
 * tdl_file as TDL_PTR in the outcome, scan: the tdl_dir; read of a whole file: the TDL_BYTES. */
TDL_API int tdl_file_open_start(tdl_host *h, uint32_t task, const char *path, int flags, int mode, int64_t deadline);
TDL_API int tdl_file_open_temp_start(tdl_host *h, uint32_t task, const char *text, char *buf, size_t size,
                                     int64_t deadline);
TDL_API int tdl_file_read_start(tdl_host *h, uint32_t task, tdl_file *f, void *buf, size_t n, int64_t deadline);
TDL_API int tdl_file_pread_start(tdl_host *h, uint32_t task, tdl_file *f, void *buf, size_t n, int64_t offset,
                                 int64_t deadline);
TDL_API int tdl_file_write_start(tdl_host *h, uint32_t task, tdl_file *f, const void *buf, size_t n,
                                 int64_t deadline);
TDL_API int tdl_file_pwrite_start(tdl_host *h, uint32_t task, tdl_file *f, const void *buf, size_t n,
                                  int64_t offset, int64_t deadline);
TDL_API int tdl_file_sync_start(tdl_host *h, uint32_t task, tdl_file *f, int data_only, int64_t deadline);
TDL_API int tdl_file_truncate_start(tdl_host *h, uint32_t task, tdl_file *f, int64_t size, int64_t deadline);
TDL_API int tdl_file_copy_start(tdl_host *h, uint32_t task, tdl_file *to, tdl_file *from, int64_t offset, size_t n,
                                int64_t deadline);
TDL_API int tdl_file_stat_start(tdl_host *h, uint32_t task, tdl_file *f, tdl_stat *st, int64_t deadline);
TDL_API int tdl_fs_stat_start(tdl_host *h, uint32_t task, const char *path, int follow, tdl_stat *st,
                              int64_t deadline);
TDL_API int tdl_fs_access_start(tdl_host *h, uint32_t task, const char *path, int how, int64_t deadline);
TDL_API int tdl_fs_mkdir_start(tdl_host *h, uint32_t task, const char *path, int mode, int64_t deadline);
TDL_API int tdl_fs_rmdir_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline);
TDL_API int tdl_fs_unlink_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline);
TDL_API int tdl_fs_rename_start(tdl_host *h, uint32_t task, const char *from, const char *to, int64_t deadline);
TDL_API int tdl_fs_link_start(tdl_host *h, uint32_t task, const char *to, const char *path, int64_t deadline);
TDL_API int tdl_fs_symlink_start(tdl_host *h, uint32_t task, const char *to, const char *path, int64_t deadline);
TDL_API int tdl_fs_chmod_start(tdl_host *h, uint32_t task, const char *path, int mode, int64_t deadline);
TDL_API int tdl_fs_chown_start(tdl_host *h, uint32_t task, const char *path, int64_t uid, int64_t gid, int follow,
                               int64_t deadline);
TDL_API int tdl_fs_utime_start(tdl_host *h, uint32_t task, const char *path, int64_t atime, int64_t mtime,
                               int follow, int64_t deadline);
TDL_API int tdl_fs_copy_start(tdl_host *h, uint32_t task, const char *from, const char *to, int exclusive,
                              int64_t deadline);
TDL_API int tdl_fs_readlink_start(tdl_host *h, uint32_t task, const char *path, char *buf, size_t size,
                                  int64_t deadline);
TDL_API int tdl_fs_realpath_start(tdl_host *h, uint32_t task, const char *path, char *buf, size_t size,
                                  int64_t deadline);
TDL_API int tdl_fs_mkdtemp_start(tdl_host *h, uint32_t task, const char *text, char *buf, size_t size,
                                 int64_t deadline);
TDL_API int tdl_fs_read_start(tdl_host *h, uint32_t task, const char *path, size_t limit, int64_t deadline);
TDL_API int tdl_fs_write_start(tdl_host *h, uint32_t task, const char *path, const void *buf, size_t n, int mode,
                               int flags, int64_t deadline);
/* found and buf must stay valid until the event. */
TDL_API int tdl_lookup_start(tdl_host *h, uint32_t task, const char *network, const char *host, int port,
                             tdl_addr *found, int max, int64_t deadline);
TDL_API int tdl_lookup_name_start(tdl_host *h, uint32_t task, const tdl_addr *a, char *buf, size_t size,
                                  int64_t deadline);
TDL_API int tdl_fs_scan_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline);

/* The signal that ended it is in the outcome's extra. */
TDL_API int tdl_process_wait_start(tdl_host *h, uint32_t task, tdl_process *p, int64_t deadline);
/* The tdl_watch as TDL_PTR in the outcome. next: buf must stay valid until the event. */
TDL_API int tdl_watch_open_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline);
TDL_API int tdl_watch_next_start(tdl_host *h, uint32_t task, tdl_watch *w, char *buf, size_t size,
                                 int64_t deadline);

/* A channel for this host's thread alone (elsewhere each use is TDL_EHOST, and
 * freeing it undefined): it needs no lock, and may carry TDL_REF. It may outlive
 * its host, and serve the next one of the same thread. NULL: out of memory. */
TDL_API tdl_chan *tdl_chan_new_local(tdl_host *h, uint32_t cap);
/* Copies the i-th value that is in a local channel (first the buffer, then
 * those of waiting senders) without taking it, for a garbage collector's
 * traversal: nothing is retained. 0; TDL_EAGAIN beyond the last. */
TDL_API int tdl_chan_peek_local(tdl_chan *ch, uint32_t i, tdl_val *v);
/* The tasks that wait on a local channel, one at a time, for the same purpose: *at is
 * NULL for the first, and then what the call before left there, while nothing else is
 * done with the channel. A task that waits in several cases of a select comes for each.
 * The task; TDL_EAGAIN beyond the last. */
TDL_API int tdl_chan_waiter_local(tdl_chan *ch, const void **at);

/* -- Simulation ----------------------------------------------------------- */

/* For tests: a whole run on the calling thread alone, under a virtual clock, in
 * which every choice that is otherwise left to chance (which goroutine runs, on
 * which of the virtual processors, where it is interrupted, who steals from whom,
 * which case a select takes) comes from a seed. The same seed, program and library
 * give the same run.
 *
 * The clock starts at start_ns and moves only when every goroutine waits, for a
 * channel, a mutex, a time or anything else of treadle's: then it jumps to the
 * first time that one waits for. When there is none it is a deadlock. A
 * goroutine may be interrupted wherever it calls treadle, and nowhere else.
 * There is no network (-EOPNOTSUPP) but the pipes of tdl_pipe_new, and what is
 * blocked outside treadle stops everything.
 *
 * What is made inside is for the inside: used by another thread meanwhile, or
 * the other way round where it would have to wait, it is refused with
 * TDL_ESIM. One simulation at a time, and none while goroutines run. */
enum {
    TDL_SIM_RANDOM = 0, /* random changes, as often as the seed says */
    TDL_SIM_PCT    = 1  /* random priorities with depth - 1 changes: finds a bug that needs `depth`
                           events in one order with a known probability (see docs/testing.md) */
};

typedef struct tdl_sim_options {
    uint32_t size;      /* sizeof(tdl_sim_options) */
    int32_t  strategy;  /* TDL_SIM_RANDOM … */
    uint64_t seed;
    int32_t  procs;     /* virtual processors, at most 64; 0: 4 */
    int32_t  depth;     /* of TDL_SIM_PCT, at most 17; 0: 3 */
    uint64_t max_steps; /* 0: 10 million */
    int64_t  start_ns;  /* what tdl_now() says first; 0: midnight of 1 January 2000, UTC */
    int64_t  max_ns;    /* how far the clock may move; 0: any */
} tdl_sim_options;

enum {
    TDL_SIM_OK       = 0,
    TDL_SIM_DEADLOCK = 1, /* all goroutines are blocked, for ever */
    TDL_SIM_LEFT     = 2, /* main has returned, and others are blocked: time no longer moves then */
    TDL_SIM_STEPS    = 3, /* max_steps: somebody spins */
    TDL_SIM_TIME     = 4, /* max_ns */
    TDL_SIM_LOST     = 5  /* a fault of treadle's own scheduler */
};

typedef struct tdl_sim_report {
    uint64_t    seed, hash;      /* hash: of all that was chosen; equal for equal runs */
    uint64_t    steps, switches; /* where another could have gone on; where one did */
    int64_t     ns;              /* how far the clock has moved */
    int32_t     reason;          /* TDL_SIM_OK … */
    int32_t     result;          /* what main returned */
    int32_t     left;            /* goroutines that were there when main had returned */
    const char *text;            /* what the reason means; a static string */
    const char *dump;            /* unless all is well: tdl_dump at that moment; until the next simulation */
} tdl_sim_report;

/* tdl_run, simulated; it returns once all goroutines have ended or are blocked.
 * main_g's result; TDL_EDEADLOCK, TDL_ELIMIT: see the reason in *r, which may be
 * NULL; or, when it could not begin, what tdl_sim_begin says. o NULL: all 0. */
TDL_API int tdl_sim_run(const tdl_sim_options *o, int (*main_g)(void *), void *arg, tdl_sim_report *r);
/* The same for a host: what the calling thread does in between, with its own
 * host, tdl_run or tdl_go, is simulated. begin: 0; TDL_EBUSY in a goroutine,
 * while goroutines run, or another simulation; TDL_EHOST; TDL_EINVAL; TDL_ENOMEM.
 * When all are blocked, tdl_host_poll returns TDL_EDEADLOCK. end:
 * 0, TDL_EDEADLOCK, TDL_ELIMIT, with the report; TDL_EBUSY while a host is open. */
TDL_API int tdl_sim_begin(const tdl_sim_options *o);
TDL_API int tdl_sim_end(tdl_sim_report *r);
/* Waits until all other goroutines of the simulation wait or have ended; no time
 * passes. Blocking. 0; TDL_EBUSY when another does it; TDL_EINVAL outside a
 * simulation; TDL_ECANCELED. */
TDL_API int tdl_sim_wait(void);
/* A number from the seed, for choices of the test's own; 0 outside. */
TDL_API uint64_t tdl_sim_random(void);

/* -- Faults ----------------------------------------------------------------- */

/* For tests: from now on the calls that treadle makes to the system fail, do less
 * than asked or tell of events late, as often as the text says:
 * "seed=7,short=0.3,eagain=0.1". docs/faults.md lists the names. A rate is from 0 to 1.
 * NULL or "": no longer. TDL_FAULT in the environment is the same, read when
 * something first runs; when it does not parse, nothing runs (TDL_EINVAL), and
 * stderr says why. It costs nothing when it was never set.
 * 0; TDL_EINVAL: the text does not parse, see tdl_fault_check; TDL_EBUSY: the
 * first text must come while nothing runs and no host is open, later ones may
 * come at any time. Any caller. */
TDL_API int tdl_fault_set(const char *text);
/* 0 when the text is well-formed; TDL_EINVAL, and what is wrong with it in why, cut to
 * size. Any caller. */
TDL_API int tdl_fault_check(const char *text, char *why, size_t size);
/* How often the fault of that name was injected since the last tdl_fault_set; NULL:
 * all of them together. TDL_EINVAL: there is no such fault. Any caller. */
TDL_API int64_t tdl_fault_count(const char *what);

/* -- The way to the system ------------------------------------------------ */

/* By what the system tells which descriptors are ready: "epoll" (the default on
 * Linux), "uring" (io_uring) or "uv" (libuv; the default elsewhere). It can also be chosen by TDL_NETPOLL in the
 * environment, with the same words. Where the system has it not, or forbids it, the default is used, and
 * a line on standard error says so; not so with "!" behind the name ("uring!"):
 * then what would start the runtime, or open a host, returns the system's error.
 * NULL: as if it had never been called. To be called before the first goroutine, descriptor
 * or host, or when the runtime has stopped and all hosts are closed: else TDL_EBUSY.
 * TDL_EINVAL for another name. (A wrong TDL_NETPOLL is told on standard error, and the runtime does
 * not start: TDL_EINVAL.) Any caller. */
TDL_API int tdl_set_netpoll(const char *name);
/* The one that is in use, or would be if the runtime started now; "none" when it could
 * not start. A static string. Any caller. */
TDL_API const char *tdl_netpoll_name(void);
/* Why that one, as text ("TDL_NETPOLL asks for uring, which does not work here: …"),
 * cut to size with a final NUL; its full length. Any caller. */
TDL_API int tdl_netpoll_reason(char *buf, size_t size);

/* -- Seeing inside ------------------------------------------------------- */

/* Writes every goroutine with its state, what it waits on and since when, as
 * text to the descriptor; and last "poller: " with the name and the reason that
 * tdl_netpoll_name and tdl_netpoll_reason have. 0 or -errno. Any caller. */
TDL_API int tdl_dump(int fd);
/* The task's line of the dump ("goroutine 3 [chan receive, 0x7f0c2a40, 4.2 s]: …"),
 * cut to size with a final NUL; its full length, or TDL_EINVAL. Host thread. */
TDL_API int tdl_task_describe(tdl_host *h, uint32_t task, char *buf, size_t size);
/* A number by name: "goroutines", "tasks", "threads", "stacks", "channels",
 * "connections", "listeners", "datagrams" (sockets), "descriptors" (tdl_fd),
 * "timers", "contexts", "files", "processes" (handles, and children), "watches", "services" (works of service threads, queued or under way); TDL_EINVAL for another name. Any caller. */
TDL_API int64_t tdl_metric(const char *name);

#ifdef __cplusplus
}
#endif

/* Readers and writers, for C. */
#include "treadle/io.h"

#endif /* TREADLE_H */
