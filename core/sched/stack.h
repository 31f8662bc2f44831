/* SPDX-License-Identifier: MIT
 *
 * Stacks of goroutines: slots of 64 KiB cut from chunks of address space. The
 * lowest page of a slot is a guard; its G lives at the top, so that a parked
 * goroutine touches one page. Slots are never unmapped (a G's memory is
 * type-stable); tdl_stack_discard_all gives their pages back.
 *
 *     slot: | guard | ....... stack grows down <- | G | colour |
 */
#ifndef TDL_SCHED_STACK_H
#define TDL_SCHED_STACK_H

#include "sched/sched.h"

enum { STACK_SLOT = 64 * 1024, STACK_GUARD = 4096 };

/* A dead G with a stack, from the depot or new; NULL: out of memory. */
tdl_g *tdl_stack_take(void);
/* Back to the depot, a list linked by next. */
void tdl_stack_give(tdl_g *list);
/* The usable stack of g: lowest address and size. */
void *tdl_stack_low(tdl_g *g, size_t *size);
/* The i-th G that was ever made; NULL beyond the last. Its status says whether
 * it lives. */
tdl_g *tdl_stack_g(uint32_t i);
/* Is this the address of a G? */
int tdl_stack_owns(tdl_g *g);
/* Whose guard does this address lie in? NULL: nobody's. Async-signal-safe. */
tdl_g *tdl_stack_guarding(const void *address);
/* Everything is dead: gives all pages back and refills the depot. */
void tdl_stack_discard_all(void);

#endif
