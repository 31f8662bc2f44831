/* SPDX-License-Identifier: MIT
 *
 * The stack switch: saves the callee-saved registers on the stack that is
 * left, stores its stack pointer, and returns on the other one. It ends in a
 * plain return, and the whole library has one call of it: so the processor's
 * return predictor is right (5 ns; with two call sites, or a jump, 15 to 46).
 * Floating-point control (rounding mode) is shared by all goroutines.
 */
#ifndef TDL_SCHED_SWITCH_H
#define TDL_SCHED_SWITCH_H

#include <stddef.h>

void tdl_switch(void **save_sp, void *load_sp);

/* Prepares a stack so that the first switch to it calls entry(), which must not
 * return. Returns the stack pointer to load. */
void *tdl_switch_prepare(void *low, size_t size, void (*entry)(void));

#endif
