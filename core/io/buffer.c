/* SPDX-License-Identifier: MIT
 * The read buffer. */
#include "io/buffer.h"

#include <string.h>

#include "sys/sys.h"

size_t tdl_buffer_room(tdl_buffer *b, size_t want) {
    if (b->cap - b->end >= want) return b->cap - b->end;
    if (b->start) {
        memmove(b->data, b->data + b->start, b->end - b->start);
        b->end -= b->start;
        b->start = 0;
        if (b->cap - b->end >= want) return b->cap - b->end;
    }
    size_t cap = b->cap;
    while (cap - b->end < want) cap = cap ? 2 * cap : want;
    char *data = tdl_sys.resize(b->data, cap);
    if (!data) return 0;
    b->data = data;
    b->cap = cap;
    return cap - b->end;
}

void tdl_buffer_trim(tdl_buffer *b) {
    if (b->start == b->end) tdl_buffer_free(b);
}

void tdl_buffer_skip(tdl_buffer *b, size_t n) {
    b->start += n;
    tdl_buffer_trim(b);
}

void tdl_buffer_free(tdl_buffer *b) {
    tdl_sys.release(b->data);
    *b = (tdl_buffer){0};
}
