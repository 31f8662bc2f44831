/* SPDX-License-Identifier: MIT
 *
 * Goroutines: the run, starting and ending them, calls that hold up a thread, and
 * their stacks.
 *
 * A goroutine is a C function with a stack of its own. Any number of them run on as
 * many threads at a time as there are Ps (tdl_gomaxprocs), and change threads whenever
 * they wait. What belongs to a thread (thread-local variables, a lock that knows its
 * owner) must therefore not be kept over a treadle call that may wait; see tdl_pin.
 */
#ifndef TREADLE_GO_H
#define TREADLE_GO_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

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
/* Cancels the joinable goroutine g (see Cancellation in treadle.h). 0 or TDL_EINVAL.
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

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_GO_H */
