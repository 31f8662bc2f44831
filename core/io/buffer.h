/* SPDX-License-Identifier: MIT
 *
 * A byte buffer: what has arrived and was not taken yet. Holds memory only
 * while bytes are in it. Used by whoever owns the read side.
 */
#ifndef TDL_IO_BUFFER_H
#define TDL_IO_BUFFER_H

#include <stddef.h>

typedef struct tdl_buffer {
    char *data;
    size_t start, end, cap; /* the bytes: data[start … end) */
} tdl_buffer;

static inline size_t tdl_buffer_len(const tdl_buffer *b) { return b->end - b->start; }
static inline char *tdl_buffer_bytes(const tdl_buffer *b) { return b->data + b->start; }

/* Room for at least `want` bytes at data + end; how much there is now, or 0
 * when memory is out. */
size_t tdl_buffer_room(tdl_buffer *b, size_t want);
/* Drops n bytes from the front; the memory, too, when none is left. */
void tdl_buffer_skip(tdl_buffer *b, size_t n);
/* Gives the memory back if there are no bytes. */
void tdl_buffer_trim(tdl_buffer *b);
void tdl_buffer_free(tdl_buffer *b);

#endif
