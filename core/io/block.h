/* SPDX-License-Identifier: MIT
 *
 * Blocks: the memory that bytes on their way lie in. A block is counted: a read
 * buffer and any number of slices of it may hold it, on any thread. Bytes below a
 * holder's end never change while another holds the block, and only a holder that
 * knows that it is the last, or the read buffer that filled it, writes behind them.
 *
 * Blocks of the usual sizes are kept when they are given back, so many of each.
 */
#ifndef TDL_IO_BLOCK_H
#define TDL_IO_BLOCK_H

#include <stdbool.h>
#include <stddef.h>

#include "sys/atomic.h"

typedef struct tdl_block {
    _Atomic uint32_t refs; /* the decrement is a release, the last one's look an acquire */
    uint32_t cls;
    size_t cap;
    size_t start, end; /* of the read buffer whose block it is */
    struct tdl_block *next; /* of those that are kept */
    char data[];
} tdl_block;

/* One with room for at least `want` bytes, held once; NULL. */
tdl_block *tdl_block_new(size_t want);
static inline void tdl_block_hold(tdl_block *b) { at_add_rlx(&b->refs, 1); }
void tdl_block_drop(tdl_block *b);
/* Is the caller, who holds it, the only one? acquire: what others have read was read. */
static inline bool tdl_block_alone(tdl_block *b) { return at_load_acq(&b->refs) == 1; }

#endif
