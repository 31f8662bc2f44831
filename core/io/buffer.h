/* SPDX-License-Identifier: MIT
 *
 * A read buffer: what has arrived and was not taken yet, in one run of bytes.
 * Holds a block only while bytes are in it. Used by whoever owns the read side.
 */
#ifndef TDL_IO_BUFFER_H
#define TDL_IO_BUFFER_H

#include "io/block.h"

typedef struct tdl_buffer {
    tdl_block *block; /* NULL: no bytes. They are at data[start … end) */
} tdl_buffer;

static inline size_t tdl_buffer_len(const tdl_buffer *b) { return b->block ? b->block->end - b->block->start : 0; }
static inline char *tdl_buffer_bytes(const tdl_buffer *b) {
    return b->block ? b->block->data + b->block->start : NULL;
}

/* Room for at least `want` bytes at tdl_buffer_end; how much there is now, or 0
 * when memory is out. */
size_t tdl_buffer_room(tdl_buffer *b, size_t want);
static inline char *tdl_buffer_end(const tdl_buffer *b) { return b->block->data + b->block->end; }
static inline void tdl_buffer_add(tdl_buffer *b, size_t n) { b->block->end += n; }
/* Drops n bytes from the front; the memory, too, when none is left. */
void tdl_buffer_skip(tdl_buffer *b, size_t n);
/* Gives the memory back if there are no bytes. */
void tdl_buffer_trim(tdl_buffer *b);
void tdl_buffer_free(tdl_buffer *b);

#endif
