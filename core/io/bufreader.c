/* SPDX-License-Identifier: MIT
 *
 * The buffered reader, and the scanner, which is one with a delimiter. Memory is
 * had for what is buffered, not for the size that is allowed.
 *
 * Invariant: at most `size` bytes are buffered.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <string.h>

#include "io/buffer.h"
#include "sys/sys.h"
#include "treadle.h"

enum { USUAL = 4096, STEP = 4096 - (int)sizeof(tdl_block), LINE_LIMIT = 65536, DELIM_MAX = 255 };
static const size_t MOST = (size_t)1 << 30;

struct tdl_bufreader {
    tdl_reader from;
    tdl_buffer in;
    size_t size;
    size_t looked; /* of what is buffered: no delimiter begins there */
};

tdl_bufreader *tdl_bufreader_new(tdl_reader from, size_t size) {
    tdl_bufreader *b = size <= MOST ? tdl_alloc_zeroed(sizeof *b) : NULL;
    if (!b) return NULL;
    b->from = from;
    b->size = size ? size : USUAL;
    return b;
}

void tdl_bufreader_free(tdl_bufreader *b) {
    if (!b) return;
    tdl_buffer_free(&b->in);
    tdl_sys.release(b);
}

/* Reads once, behind what is there. Bytes; 0 at the end; an error. There is room. */
static int64_t more(tdl_bufreader *b) {
    size_t have = tdl_buffer_len(&b->in), most = b->size - have;
    size_t room = tdl_buffer_room(&b->in, most < STEP ? most : STEP);
    if (room == 0) return TDL_ENOMEM;
    int64_t r = tdl_read(b->from, tdl_buffer_end(&b->in), room < most ? room : most);
    if (r > 0) tdl_buffer_add(&b->in, (size_t)r);
    tdl_buffer_trim(&b->in);
    return r;
}

const char *tdl_bufreader_peek(tdl_bufreader *b, size_t *n) {
    if (n) *n = b ? tdl_buffer_len(&b->in) : 0;
    return b ? tdl_buffer_bytes(&b->in) : NULL;
}

int tdl_bufreader_skip(tdl_bufreader *b, size_t n) {
    if (!b || n > tdl_buffer_len(&b->in)) return TDL_EINVAL;
    tdl_buffer_skip(&b->in, n);
    b->looked = b->looked > n ? b->looked - n : 0;
    return 0;
}

int64_t tdl_bufreader_read(tdl_bufreader *b, void *buf, size_t n) {
    if (!b || (!buf && n)) return TDL_EINVAL;
    if (n == 0) return 0;
    if (tdl_buffer_len(&b->in) == 0) {
        if (n >= b->size) return tdl_read(b->from, buf, n); /* it would only be copied */
        int64_t r = more(b);
        if (r <= 0) return r;
    }
    size_t have = tdl_buffer_len(&b->in);
    if (n > have) n = have;
    memcpy(buf, tdl_buffer_bytes(&b->in), n);
    tdl_bufreader_skip(b, n);
    return (int64_t)n;
}

int64_t tdl_bufreader_fill(tdl_bufreader *b, size_t n) {
    if (!b || n < 1 || n > b->size) return TDL_EINVAL;
    while (tdl_buffer_len(&b->in) < n) {
        int64_t r = more(b);
        if (r <= 0) return r < 0 ? r : TDL_EEOF;
    }
    return (int64_t)tdl_buffer_len(&b->in);
}

int64_t tdl_bufreader_fill_until(tdl_bufreader *b, const void *delim, size_t n) {
    if (!b || !delim || n < 1 || n > b->size) return TDL_EINVAL;
    for (b->looked = 0;;) {
        size_t have = tdl_buffer_len(&b->in), from = b->looked;
        const char *bytes = tdl_buffer_bytes(&b->in);
        const char *hit = have - from >= n ? memmem(bytes + from, have - from, delim, n) : NULL;
        if (hit) return hit - bytes + (int64_t)n;
        if (have >= n) b->looked = have - n + 1;
        if (have >= b->size) return TDL_ETOOLONG;
        int64_t r = more(b);
        if (r <= 0) return r < 0 ? r : TDL_EEOF;
    }
}

static int64_t read_from(void *of, void *buf, size_t n) { return tdl_bufreader_read(of, buf, n); }

/* What is buffered; the rest may have a better way. */
static int copy_to(void *of, tdl_writer to, int64_t n, int64_t *copied) {
    tdl_bufreader *b = of;
    size_t have = tdl_buffer_len(&b->in), written;
    if (n >= 0 && (uint64_t)n < have) have = (size_t)n;
    if (have) {
        int64_t r = tdl_write(to, tdl_buffer_bytes(&b->in), have, &written);
        tdl_bufreader_skip(b, written);
        *copied = (int64_t)written;
        if (r < 0) return (int)r;
        if (n > 0) n -= (int64_t)have;
    }
    int64_t rest = 0;
    int r = n == 0 ? 0 : tdl_copy(to, b->from, n, &rest);
    *copied += rest;
    return r;
}

tdl_reader tdl_bufreader_reader(tdl_bufreader *b) {
    static const tdl_reader_type type = {read_from, copy_to};
    return (tdl_reader){b ? &type : NULL, b};
}

/* -- The scanner ------------------------------------------------------------------------ */

struct tdl_scanner {
    tdl_bufreader b;
    size_t used;      /* of what is buffered: the last piece, which the next call drops */
    bool lines, over; /* over: the rest of a piece that was too long is to be passed over */
    uint8_t n;
    char delim[DELIM_MAX];
};

tdl_scanner *tdl_scanner_new(tdl_reader from, const void *delim, size_t n, size_t limit) {
    if (limit == 0) limit = LINE_LIMIT;
    if (limit > MOST || (delim && (n < 1 || n > DELIM_MAX || n > limit))) return NULL;
    tdl_scanner *s = tdl_alloc_zeroed(sizeof *s);
    if (!s) return NULL;
    s->b.from = from;
    s->b.size = limit;
    s->lines = !delim;
    s->n = delim ? (uint8_t)n : 1;
    memcpy(s->delim, delim ? delim : "\n", s->n);
    return s;
}

void tdl_scanner_free(tdl_scanner *s) {
    if (!s) return;
    tdl_buffer_free(&s->b.in);
    tdl_sys.release(s);
}

/* A piece of n bytes with `end` bytes of a delimiter. */
static int found(tdl_scanner *s, size_t n, size_t end, const char **piece, size_t *len) {
    const char *p = tdl_buffer_bytes(&s->b.in);
    s->used = n;
    n -= end;
    if (s->lines && end && n && p[n - 1] == '\r') n--;
    *piece = p;
    *len = n;
    return 1;
}

/* Drops what is buffered but what may be the beginning of a delimiter. */
static void pass_over(tdl_scanner *s) {
    size_t have = tdl_buffer_len(&s->b.in), keep = s->n - 1u;
    if (have > keep) tdl_bufreader_skip(&s->b, have - keep);
}

int tdl_scanner_next(tdl_scanner *s, const char **piece, size_t *n) {
    const char *none;
    size_t zero;
    if (!s) return TDL_EINVAL;
    if (!piece) piece = &none;
    if (!n) n = &zero;
    *piece = NULL;
    *n = 0;
    tdl_bufreader_skip(&s->b, s->used);
    s->used = 0;
    for (;;) {
        int64_t r = tdl_bufreader_fill_until(&s->b, s->delim, s->n);
        size_t have = tdl_buffer_len(&s->b.in);
        if (r > 0 && !s->over) return found(s, (size_t)r, s->n, piece, n);
        if (r > 0) {
            tdl_bufreader_skip(&s->b, (size_t)r);
            s->over = false;
        } else if (r == TDL_ETOOLONG && s->over) {
            pass_over(s);
        } else if (r == TDL_ETOOLONG) {
            s->over = true;
            *piece = tdl_buffer_bytes(&s->b.in);
            *n = have;
            s->used = have - (s->n - 1u);
            return TDL_ETOOLONG;
        } else if (r != TDL_EEOF) {
            return (int)r;
        } else {
            if (have && !s->over) return found(s, have, 0, piece, n);
            tdl_bufreader_skip(&s->b, have);
            s->over = false;
            return 0;
        }
    }
}
