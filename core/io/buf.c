/* SPDX-License-Identifier: MIT
 * Chains of counted blocks: what tdl_buf is. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "io/buf.h"

#include <string.h>

#include "sys/sys.h"

enum { SMALL = 4096 - (int)sizeof(tdl_block) };

static const size_t MOST = (size_t)1 << 40; /* of one chain */

tdl_buf *tdl_buf_new(void) { return tdl_alloc_zeroed(sizeof(tdl_buf)); }

static tdl_part *at(const tdl_buf *b, uint32_t i) { return &b->part[b->first + i]; }

static void drop_front(tdl_buf *b) {
    tdl_block_drop(at(b, 0)->block);
    b->first++;
    b->n--;
}

void tdl_buf_free(tdl_buf *b) {
    if (!b) return;
    while (b->n) drop_front(b);
    if (b->spare) tdl_block_drop(b->spare);
    tdl_sys.release(b->part);
    tdl_sys.release(b);
}

int64_t tdl_buf_len(const tdl_buf *b) { return b ? (int64_t)b->len : TDL_EINVAL; }

/* -- Parts ---------------------------------------------------------------------- */

/* Room for `more` parts behind. */
static int make_room(tdl_buf *b, uint32_t more) {
    if (b->cap - b->first - b->n >= more) return 0;
    if (b->n + more <= b->cap && b->first >= b->cap / 2) {
        memmove(b->part, b->part + b->first, b->n * sizeof *b->part);
        b->first = 0;
        return 0;
    }
    uint32_t cap = b->cap ? b->cap : 4;
    while (cap < b->n + more) cap *= 2;
    if (cap < b->first + b->n + more) cap *= 2; /* the front stays where it is */
    tdl_part *part = tdl_sys.resize(b->part, cap * sizeof *part);
    if (!part) return TDL_ENOMEM;
    b->part = part;
    b->cap = cap;
    return 0;
}

int tdl_buf_add(tdl_buf *b, tdl_block *block, char *bytes, size_t n) {
    int r = make_room(b, 1);
    if (r < 0 || n == 0) return r;
    tdl_block_hold(block);
    *at(b, b->n++) = (tdl_part){block, bytes, n};
    b->len += n;
    return 0;
}

/* -- Writing --------------------------------------------------------------------- */

/* Bytes that may be written behind the last part, where its block is ours alone. */
static size_t tail_room(const tdl_buf *b) {
    if (b->n == 0) return 0;
    const tdl_part *last = at(b, b->n - 1);
    if (!tdl_block_alone(last->block)) return 0;
    return (size_t)(last->block->data + last->block->cap - (last->at + last->n));
}

void *tdl_buf_reserve(tdl_buf *b, size_t n) {
    if (!b || n == 0 || n > MOST - b->len) return NULL;
    b->reserved = 0;
    if (tail_room(b) >= n) {
        b->reserved = n;
        const tdl_part *last = at(b, b->n - 1);
        return last->at + last->n;
    }
    if (b->spare && b->spare->cap < n) {
        tdl_block_drop(b->spare);
        b->spare = NULL;
    }
    if (make_room(b, 1) < 0) return NULL;
    if (!b->spare && !(b->spare = tdl_block_new(n < SMALL ? SMALL : n))) return NULL;
    b->reserved = n;
    return b->spare->data;
}

int tdl_buf_commit(tdl_buf *b, size_t n) {
    if (!b || n > b->reserved) return TDL_EINVAL;
    bool behind = tail_room(b) >= b->reserved;
    b->reserved = 0;
    if (n == 0) return 0;
    if (!behind && !b->spare) return TDL_EINVAL; /* what was reserved has been shared since */
    if (behind) {
        at(b, b->n - 1)->n += n;
    } else {
        *at(b, b->n++) = (tdl_part){b->spare, b->spare->data, n};
        b->spare = NULL;
    }
    b->len += n;
    return 0;
}

int tdl_buf_append(tdl_buf *b, const void *bytes, size_t n) {
    if (!b || (!bytes && n)) return TDL_EINVAL;
    if (n == 0) return 0;
    size_t room = tail_room(b);
    if (room > n) room = n;
    if (room < n) { /* first what may fail */
        void *rest = tdl_buf_reserve(b, n - room <= room ? room + 1 : n - room);
        if (!rest) return TDL_ENOMEM;
        memcpy(rest, (const char *)bytes + room, n - room);
    }
    if (room) {
        tdl_part *last = at(b, b->n - 1);
        memcpy(last->at + last->n, bytes, room);
        last->n += room;
        b->len += room;
    }
    if (room == n) return 0;
    *at(b, b->n++) = (tdl_part){b->spare, b->spare->data, n - room};
    b->spare = NULL;
    b->reserved = 0;
    b->len += n - room;
    return 0;
}

/* -- Moving without a copy ----------------------------------------------------------- */

int tdl_buf_share(tdl_buf *to, const tdl_buf *from, size_t offset, size_t n) {
    if (!to || !from || offset > from->len || n > from->len - offset) return TDL_EINVAL;
    if (n > MOST - to->len) return TDL_EINVAL;
    if (make_room(to, from->n) < 0) return TDL_ENOMEM; /* so that all of it succeeds */
    for (uint32_t i = 0, parts = from->n; i < parts && n; i++) {
        tdl_part p = *at(from, i); /* from may be to */
        if (offset >= p.n) {
            offset -= p.n;
            continue;
        }
        size_t m = p.n - offset < n ? p.n - offset : n;
        tdl_buf_add(to, p.block, p.at + offset, m);
        offset = 0;
        n -= m;
    }
    return 0;
}

int tdl_buf_move(tdl_buf *to, tdl_buf *from, size_t n) {
    if (to == from) return TDL_EINVAL;
    int r = tdl_buf_share(to, from, 0, n);
    return r < 0 ? r : tdl_buf_skip(from, n);
}

int tdl_buf_skip(tdl_buf *b, size_t n) {
    if (!b || n > b->len) return TDL_EINVAL;
    b->reserved = 0;
    b->len -= n;
    while (n) {
        tdl_part *p = at(b, 0);
        if (n < p->n) {
            p->at += n;
            p->n -= n;
            return 0;
        }
        n -= p->n;
        drop_front(b);
    }
    if (b->n == 0) b->first = 0;
    return 0;
}

/* -- Looking --------------------------------------------------------------------------- */

const void *tdl_buf_front(const tdl_buf *b, size_t *n) {
    bool some = b && b->n;
    if (n) *n = some ? at(b, 0)->n : 0;
    return some ? at(b, 0)->at : NULL;
}

const void *tdl_buf_peek(tdl_buf *b, size_t n) {
    if (!b || n == 0 || n > b->len) return NULL;
    if (at(b, 0)->n >= n) return at(b, 0)->at;
    tdl_block *block = tdl_block_new(n);
    if (!block) return NULL;
    tdl_buf_copy(b, 0, block->data, n);
    size_t len = b->len;
    tdl_buf_skip(b, n); /* frees the place of a part at least */
    if (b->first) b->first--;
    b->n++;
    *at(b, 0) = (tdl_part){block, block->data, n};
    b->len = len;
    return block->data;
}

int64_t tdl_buf_copy(const tdl_buf *b, size_t offset, void *to, size_t n) {
    size_t done = 0;
    if (!b || (!to && n) || offset > b->len) return TDL_EINVAL;
    for (uint32_t i = 0; i < b->n && done < n; i++) {
        const tdl_part *p = at(b, i);
        if (offset >= p->n) {
            offset -= p->n;
            continue;
        }
        size_t m = p->n - offset < n - done ? p->n - offset : n - done;
        memcpy((char *)to + done, p->at + offset, m);
        done += m;
        offset = 0;
    }
    return (int64_t)done;
}

/* Do the n bytes from `offset` of part i on begin with these? Over the parts. */
static bool begins(const tdl_buf *b, uint32_t i, size_t offset, const char *what, size_t n) {
    while (n) {
        if (i == b->n) return false;
        const tdl_part *p = at(b, i++);
        size_t m = p->n - offset < n ? p->n - offset : n;
        if (memcmp(p->at + offset, what, m) != 0) return false;
        what += m;
        n -= m;
        offset = 0;
    }
    return true;
}

int64_t tdl_buf_find(const tdl_buf *b, size_t offset, const void *what, size_t n) {
    const char *w = what;
    if (!b || !what || n == 0 || offset > b->len) return TDL_EINVAL;
    size_t before = 0; /* bytes in the parts before this one */
    for (uint32_t i = 0; i < b->n; before += at(b, i++)->n) {
        const tdl_part *p = at(b, i);
        if (offset >= before + p->n) continue;
        size_t from = offset > before ? offset - before : 0;
        while (from < p->n) {
            const char *hit = memchr(p->at + from, w[0], p->n - from);
            if (!hit) break;
            from = (size_t)(hit - p->at);
            if (begins(b, i, from, w, n)) return (int64_t)(before + from);
            from++;
        }
    }
    return TDL_EAGAIN;
}

int tdl_buf_parts(const tdl_buf *b, tdl_iovec *v, int max) {
    if (!b || (!v && max) || max < 0) return TDL_EINVAL;
    int n = 0;
    for (; n < max && (uint32_t)n < b->n; n++) v[n] = (tdl_iovec){at(b, (uint32_t)n)->at, at(b, (uint32_t)n)->n};
    return n;
}
