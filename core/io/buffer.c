/* SPDX-License-Identifier: MIT
 * The read buffer. */
#include "io/buffer.h"

#include <string.h>

size_t tdl_buffer_room(tdl_buffer *b, size_t want) {
    tdl_block *old = b->block;
    size_t len = tdl_buffer_len(b);
    if (old && old->cap - old->end >= want) return old->cap - old->end;
    if (old && old->cap - len >= want && tdl_block_alone(old)) { /* slices of it stay where they are */
        memmove(old->data, old->data + old->start, len);
        old->start = 0;
        old->end = len;
        return old->cap - len;
    }
    if (want > SIZE_MAX / 4 || len > SIZE_MAX / 4) return 0;
    size_t cap = 2 * len;
    if (cap < len + want) cap = len + want;
    tdl_block *block = tdl_block_new(cap);
    if (!block) return 0;
    if (old) {
        memcpy(block->data, old->data + old->start, len);
        tdl_block_drop(old);
    }
    block->end = len;
    b->block = block;
    return block->cap - len;
}

void tdl_buffer_trim(tdl_buffer *b) {
    if (tdl_buffer_len(b) == 0) tdl_buffer_free(b);
}

void tdl_buffer_skip(tdl_buffer *b, size_t n) {
    if (b->block) b->block->start += n;
    tdl_buffer_trim(b);
}

void tdl_buffer_free(tdl_buffer *b) {
    if (b->block) tdl_block_drop(b->block);
    b->block = NULL;
}
