/* SPDX-License-Identifier: MIT
 *
 * The only door to atomics. Every use outside this file goes through these
 * names, so that a model checker can be put behind them. The suffix is the
 * order: rlx relaxed, acq acquire, rel release, seq sequentially consistent.
 */
#ifndef TDL_SYS_ATOMIC_H
#define TDL_SYS_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef TDL_MODEL /* each is a step of the model checker: tests/model */
#include "model_atomic.h"
#else

/* AT_ comes before each: nothing, or with TDL_SIM_ATOMICS a point where a
 * simulation may let another virtual thread go on (core/sim). */
#if defined(TDL_SIM_ATOMICS) && !defined(TDL_SIM_ITSELF)
void tdl_sim_atomic(void);
void tdl_sim_pause(void);
#define AT_(operation) (tdl_sim_atomic(), operation)
#else
#define AT_(operation) operation
#endif

#define at_load_rlx(p)     AT_(atomic_load_explicit((p), memory_order_relaxed))
#define at_load_acq(p)     AT_(atomic_load_explicit((p), memory_order_acquire))
#define at_load_seq(p)     AT_(atomic_load_explicit((p), memory_order_seq_cst))
#define at_store_rlx(p, v) AT_(atomic_store_explicit((p), (v), memory_order_relaxed))
#define at_store_rel(p, v) AT_(atomic_store_explicit((p), (v), memory_order_release))
#define at_store_seq(p, v) AT_(atomic_store_explicit((p), (v), memory_order_seq_cst))
#define at_xchg_acq(p, v)  AT_(atomic_exchange_explicit((p), (v), memory_order_acquire))
#define at_xchg_seq(p, v)  AT_(atomic_exchange_explicit((p), (v), memory_order_seq_cst))
#define at_add_rlx(p, v)   AT_(atomic_fetch_add_explicit((p), (v), memory_order_relaxed))
#define at_add_seq(p, v)   AT_(atomic_fetch_add_explicit((p), (v), memory_order_seq_cst))
#define at_sub_seq(p, v)   AT_(atomic_fetch_sub_explicit((p), (v), memory_order_seq_cst))
#define at_or_seq(p, v)    AT_(atomic_fetch_or_explicit((p), (v), memory_order_seq_cst))
#define at_and_seq(p, v)   AT_(atomic_fetch_and_explicit((p), (v), memory_order_seq_cst))
#define at_cas_seq(p, e, v)                                                    \
    AT_(atomic_compare_exchange_strong_explicit((p), (e), (v),                 \
                                                memory_order_seq_cst,          \
                                                memory_order_acquire))
#define at_fence_seq() AT_(atomic_thread_fence(memory_order_seq_cst))
/* Orders nothing but the compiler: the cheap side of a membarrier. */
#define at_fence_compiler() atomic_signal_fence(memory_order_seq_cst)

static inline void at_pause(void) {
#if defined(TDL_SIM_ATOMICS) && !defined(TDL_SIM_ITSELF)
    tdl_sim_pause();
#elif defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

#endif /* TDL_MODEL */
#endif
