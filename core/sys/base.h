/* SPDX-License-Identifier: MIT
 *
 * Small things that every layer uses: hints, container_of, the two ways to
 * stop the process, and the sanitizers' names.
 */
#ifndef TDL_SYS_BASE_H
#define TDL_SYS_BASE_H

#include <stddef.h>
#include <stdint.h>

/* Elsewhere, and where that is tried out, the files *_posix.c come in place of *_linux.c. */
#if defined(__linux__) && !defined(TDL_PORTABLE)
#define TDL_LINUX 1
#endif

#define TDL_LIKELY(x)   __builtin_expect(!!(x), 1)
#define TDL_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define TDL_CONTAINER(p, type, member)                                         \
    ((type *)((char *)(p) - offsetof(type, member)))
#define TDL_NOINLINE __attribute__((noinline))
#define TDL_ALWAYS_INLINE static inline __attribute__((always_inline))

#if defined(__SANITIZE_THREAD__)
#define TDL_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TDL_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TDL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TDL_ASAN 1
#endif
#endif

#ifdef TDL_TSAN
#include <sanitizer/tsan_interface.h>
/* Not seen at all, its atomics neither: what is done on the next goroutine's
 * fiber for the one that was left must give the next one no edge from it. */
#if defined(__clang__)
#define TDL_UNSEEN __attribute__((disable_sanitizer_instrumentation, noinline))
#else
#define TDL_UNSEEN __attribute__((no_sanitize("thread"), noinline))
#endif
/* For code that runs on one M but, in the sanitizer's eyes, in several fibers:
 * what belongs to an M or its P is passed on without any synchronisation. */
#define TDL_NO_TSAN __attribute__((no_sanitize("thread"), noinline))
/* The edges of a hand-over of a goroutine, which fibers don't get by themselves. */
#define TDL_TSAN_RELEASE(addr) __tsan_release(addr)
#define TDL_TSAN_ACQUIRE(addr) __tsan_acquire(addr)
#else
#define TDL_UNSEEN
#define TDL_NO_TSAN
#define TDL_TSAN_RELEASE(addr) ((void)0)
#define TDL_TSAN_ACQUIRE(addr) ((void)0)
#endif

/* Prints "treadle: " and the message, and aborts: only where going on would
 * corrupt memory. */
_Noreturn void tdl_fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
