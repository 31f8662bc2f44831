/* SPDX-License-Identifier: MIT
 * The buffered writer. Its block is full before anything goes out, unless it is flushed. */
#include <string.h>

#include "io/block.h"
#include "sys/sys.h"
#include "treadle.h"

enum { USUAL = 4096 };

struct tdl_bufwriter {
    tdl_writer to;
    tdl_block *block;
    size_t size, n; /* n bytes at block->data wait */
    int error;      /* the first one */
};

tdl_bufwriter *tdl_bufwriter_new(tdl_writer to, size_t size) {
    tdl_bufwriter *b = tdl_alloc_zeroed(sizeof *b);
    if (!b) return NULL;
    b->to = to;
    b->size = size ? size : USUAL;
    if (!(b->block = tdl_block_new(b->size))) {
        tdl_sys.release(b);
        return NULL;
    }
    return b;
}

int tdl_bufwriter_flush(tdl_bufwriter *b) {
    size_t written;
    if (!b) return TDL_EINVAL;
    if (b->error < 0 || b->n == 0) return b->error;
    int64_t r = tdl_write(b->to, b->block->data, b->n, &written);
    b->n -= written;
    if (r >= 0) return 0;
    if (written) memmove(b->block->data, b->block->data + written, b->n);
    return b->error = (int)r;
}

/* In *taken how many bytes are buffered, or have gone out. */
static int64_t put(tdl_bufwriter *b, const char *bytes, size_t n, size_t *taken) {
    size_t left = n;
    while (b->error == 0 && left > 0) {
        size_t m = b->size - b->n < left ? b->size - b->n : left;
        if (b->n == 0 && left >= b->size) { /* it would only be copied */
            int64_t r = tdl_write(b->to, bytes, left, &m);
            if (r < 0) b->error = (int)r;
        } else {
            memcpy(b->block->data + b->n, bytes, m);
            b->n += m;
            if (b->n == b->size) tdl_bufwriter_flush(b);
        }
        bytes += m;
        left -= m;
    }
    *taken = n - left;
    return b->error < 0 ? b->error : (int64_t)n;
}

int64_t tdl_bufwriter_write(tdl_bufwriter *b, const void *buf, size_t n) {
    size_t taken;
    return b && (buf || n == 0) ? put(b, buf, n, &taken) : TDL_EINVAL;
}

int64_t tdl_bufwriter_buffered(tdl_bufwriter *b) { return b ? (int64_t)b->n : TDL_EINVAL; }

void tdl_bufwriter_reset(tdl_bufwriter *b, tdl_writer to) {
    if (!b) return;
    b->to = to;
    b->n = 0;
    b->error = 0;
}

void tdl_bufwriter_free(tdl_bufwriter *b) {
    if (!b) return;
    tdl_block_drop(b->block);
    tdl_sys.release(b);
}

int tdl_bufwriter_close(tdl_bufwriter *b) {
    int r = tdl_bufwriter_flush(b);
    tdl_bufwriter_free(b);
    return r;
}

/* -- As a writer --------------------------------------------------------------------- */

static int64_t write_to(void *of, const void *buf, size_t n, size_t *written) { return put(of, buf, n, written); }

/* Reads straight into the buffer. While that is empty, what is behind it may have a better way. */
static int copy_from(void *of, tdl_reader from, int64_t n, int64_t *copied) {
    tdl_bufwriter *b = of;
    while (b->error == 0 && n != 0) {
        if (b->n == 0 && b->to.type && b->to.type->copy_from) {
            int64_t more = 0;
            int r = b->to.type->copy_from(b->to.of, from, n, &more);
            if (r != TDL_COPY_PLAIN) {
                *copied += more;
                return r;
            }
        }
        size_t room = b->size - b->n;
        if (n > 0 && (uint64_t)n < room) room = (size_t)n;
        int64_t r = tdl_read(from, b->block->data + b->n, room);
        if (r <= 0) return (int)r;
        b->n += (size_t)r;
        *copied += r;
        if (n > 0) n -= r;
        if (b->n == b->size) tdl_bufwriter_flush(b);
    }
    return b->error;
}

tdl_writer tdl_bufwriter_writer(tdl_bufwriter *b) {
    static const tdl_writer_type type = {write_to, copy_from};
    return (tdl_writer){b ? &type : NULL, b};
}
