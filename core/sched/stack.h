/* SPDX-License-Identifier: MIT
 *
 * Stacks of goroutines: slots of address space in a few sizes (classes), cut
 * from arenas, each of which is one mapping of slots of one class. The lowest
 * pages of a slot are its guard; its G lies at the top, so that a parked
 * goroutine touches one page. Slots are never unmapped (a G's memory is
 * type-stable); their pages go back to the system when they have lain unused.
 *
 *     slot: | guard | ....... stack grows down <- | G | its name | colour |
 *
 * A free slot is warm (it has pages: in a P's own list or in the depot), cold
 * (its pages are zero) or fresh (it was never used).
 */
#ifndef TDL_SCHED_STACK_H
#define TDL_SCHED_STACK_H

#include "sched/own.h"

/* How many free stacks of a class a P keeps: half of them go to the depot beyond. */
extern const uint32_t tdl_stack_keep[TDL_STACK_CLASSES];

enum { STACK_DEFAULT = 1, STACK_SMALLEST = 4096 };

/* The class for a stack of so many bytes (0: the default); TDL_ESTACK. */
int tdl_stack_class(size_t bytes);
/* The size of a class' slots, and of the guard in each. */
size_t tdl_stack_size(int cls);
size_t tdl_stack_guard(int cls);

/* The depot's, or a new one; p, if there is one, gets some more. */
tdl_g *tdl_stack_refill(tdl_p *p, int cls, int *code);
/* A dead G with a stack of that class: p's (which the caller owns, or NULL), or
 * the depot's, or a new one. NULL and *code. */
OWN_INLINE tdl_g *tdl_stack_take(tdl_p *p, int cls, int *code) {
    tdl_g *g = p ? p->stacks.list[cls] : NULL;
    if (TDL_UNLIKELY(!g)) return tdl_stack_refill(p, cls, code);
    p->stacks.list[cls] = g->next;
    p->stacks.n[cls]--;
    __builtin_prefetch(g->next, 1); /* whoever spawns one often spawns more */
    return g;
}
/* To the depot: g, or half of what p has of its class. */
void tdl_stack_spill(tdl_p *p, tdl_g *g);
/* Gives a dead one back. */
OWN_INLINE void tdl_stack_give(tdl_p *p, tdl_g *g) {
    int cls = g->stack;
    if (p) {
        g->next = p->stacks.list[cls];
        p->stacks.list[cls] = g;
        if (TDL_LIKELY(++p->stacks.n[cls] < tdl_stack_keep[cls])) return;
    }
    tdl_stack_spill(p, g);
}
/* p has none. */
void tdl_stacks_reset(tdl_stacks *own);

/* The usable stack of g: lowest address and size. */
void *tdl_stack_low(tdl_g *g, size_t *size);
/* The end of g's slot. */
char *tdl_stack_end(tdl_g *g);
/* Every G that there is has a number; its status says whether it lives. NULL
 * beyond the last; some numbers have none yet, and give one that is dead. */
tdl_g *tdl_stack_g(uint32_t i);
/* Is this the address of a G? */
int tdl_stack_owns(tdl_g *g);
/* Whose guard does this address lie in? NULL: nobody's. Async-signal-safe. */
tdl_g *tdl_stack_guarding(const void *address);

/* For an M with nothing to do: gives pages of stacks that have long been unused
 * back, a bounded number, and says when it wants to be called again;
 * TDL_FOREVER: when there are new ones. */
int64_t tdl_stack_trim(int64_t now);
/* Is there anything for it? */
bool tdl_stack_to_trim(void);
/* How long is long, ns. Set while nothing runs. */
extern int64_t tdl_stack_trim_after;
/* Gives g's pages back; g is dead, and the caller's. Its class stays. */
void tdl_stack_clear(tdl_g *g);
/* Everything is dead: gives all pages back and refills the depot. */
void tdl_stack_discard_all(void);

#endif
