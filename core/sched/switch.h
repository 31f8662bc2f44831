/* SPDX-License-Identifier: MIT
 *
 * The stack switch: saves the callee-saved registers on the stack that is
 * left, stores its stack pointer, and returns on the other one. It ends in a
 * plain return, and the whole library has one call of it: so the processor's
 * return predictor is right (5 ns; with two call sites, or a jump, 15 to 46).
 * Floating-point control (rounding mode) is shared by all goroutines.
 *
 * With TDL_SWITCH_PORTABLE, and on a processor that has no code of its own here,
 * the C library's ucontext does it (two system calls a switch).
 */
#ifndef TDL_SCHED_SWITCH_H
#define TDL_SCHED_SWITCH_H

#include <stddef.h>

void tdl_switch(void **save_sp, void *load_sp);

/* Prepares a stack so that the first switch to it calls entry(), which must not
 * return. Returns the stack pointer to load. Of low and size only the end counts. */
void *tdl_switch_prepare(void *low, size_t size, void (*entry)(void));

/* Calls fn(arg) on another stack, which was left by tdl_switch with this stack
 * pointer: below what it holds. */
void tdl_switch_call(void *left_sp, void (*fn)(void *), void *arg);

#endif
