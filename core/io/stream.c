/* SPDX-License-Identifier: MIT
 *
 * Readers and writers: using them, copying, and those that are made of others or
 * of memory. The ones of connections and files are in os/ends.c.
 *
 * What an implementation returns is checked here, once: a count that cannot be, or
 * a write that is short without an error, is TDL_EINVAL.
 */
#include <string.h>

#include "io/buf.h"
#include "treadle.h"

enum { CHUNK = 64 * 1024 - (int)sizeof(tdl_block) };

static int code_of(int64_t r) { return r < 0 ? (int)r : 0; }

/* -- One read, one write ------------------------------------------------------------ */

int64_t tdl_read(tdl_reader r, void *buf, size_t n) {
    if (!r.type || (!buf && n)) return TDL_EINVAL;
    if (n == 0) return 0;
    int64_t got = r.type->read(r.of, buf, n);
    return got > 0 && (uint64_t)got > n ? TDL_EINVAL : got;
}

int64_t tdl_write(tdl_writer w, const void *buf, size_t n, size_t *written) {
    size_t went = 0;
    int64_t r = TDL_EINVAL;
    if (w.type && (buf || n == 0)) {
        r = n ? w.type->write(w.of, buf, n, &went) : 0;
        if (r >= 0) went = (uint64_t)r < n ? (size_t)r : n;
        if (r >= 0 && (uint64_t)r != n) r = TDL_EINVAL;
        if (went > n) went = n;
    }
    if (written) *written = went;
    return r;
}

int64_t tdl_read_full(tdl_reader r, void *buf, size_t n, size_t *got) {
    size_t have = 0;
    int64_t part = 1;
    while (have < n && (part = tdl_read(r, (char *)buf + have, n - have)) > 0) have += (size_t)part;
    if (!r.type) part = TDL_EINVAL;
    if (got) *got = have;
    if (part < 0) return part;
    if (have == n) return (int64_t)n;
    return have ? TDL_EEOF : 0;
}

int64_t tdl_read_all(tdl_reader r, size_t limit, tdl_buf *b) {
    size_t total = 0;
    if (!r.type || !b) return TDL_EINVAL;
    for (;;) {
        size_t want = total < CHUNK ? 4000 : CHUNK;
        char one;
        bool full = total == limit; /* is there more? */
        char *room = full ? &one : tdl_buf_reserve(b, want > limit - total ? limit - total : want);
        if (!room) return TDL_ENOMEM;
        int64_t got = tdl_read(r, room, full ? 1 : want > limit - total ? limit - total : want);
        if (!full) tdl_buf_commit(b, got > 0 ? (size_t)got : 0);
        if (got < 0) return got;
        if (got == 0) return (int64_t)total;
        if (full) return TDL_ETOOLONG;
        total += (size_t)got;
    }
}

/* -- Copying --------------------------------------------------------------------------- */

static int plainly(tdl_writer to, tdl_reader from, int64_t n, int64_t *copied) {
    tdl_block *block = tdl_block_new(CHUNK);
    int64_t r = 0;
    if (!block) return TDL_ENOMEM;
    while (n != 0) {
        size_t want = n > 0 && (uint64_t)n < block->cap ? (size_t)n : block->cap, written;
        if ((r = tdl_read(from, block->data, want)) <= 0) break;
        int64_t w = tdl_write(to, block->data, (size_t)r, &written);
        *copied += (int64_t)written;
        if (n > 0) n -= r;
        if ((r = code_of(w)) < 0) break;
    }
    tdl_block_drop(block);
    return code_of(r);
}

int tdl_copy(tdl_writer to, tdl_reader from, int64_t n, int64_t *copied) {
    int64_t none;
    if (!copied) copied = &none;
    *copied = 0;
    if (!to.type || !from.type) return TDL_EINVAL;
    int r = from.type->copy_to ? from.type->copy_to(from.of, to, n, copied) : TDL_COPY_PLAIN;
    if (r == TDL_COPY_PLAIN && to.type->copy_from) r = to.type->copy_from(to.of, from, n, copied);
    if (r == TDL_COPY_PLAIN) r = plainly(to, from, n, copied);
    return r > 0 ? TDL_EINVAL : r;
}

/* -- A limit ------------------------------------------------------------------------------ */

static int64_t limited_read(void *of, void *buf, size_t n) {
    tdl_limited *l = of;
    if (l->left <= 0) return 0;
    if ((uint64_t)l->left < n) n = (size_t)l->left;
    int64_t r = tdl_read(l->from, buf, n);
    if (r > 0) l->left -= r;
    return r;
}

/* So that what is behind it may have a better way. */
static int limited_copy(void *of, tdl_writer to, int64_t n, int64_t *copied) {
    tdl_limited *l = of;
    int64_t most = l->left > 0 ? l->left : 0;
    int r = tdl_copy(to, l->from, n >= 0 && n < most ? n : most, copied);
    if (l->left > 0) l->left -= *copied;
    return r;
}

tdl_reader tdl_limit_reader(tdl_limited *l, tdl_reader from, int64_t n) {
    static const tdl_reader_type type = {limited_read, limited_copy};
    if (!l) return (tdl_reader){NULL, NULL};
    *l = (tdl_limited){from, n};
    return (tdl_reader){&type, l};
}

/* -- Several ------------------------------------------------------------------------------ */

static int64_t tee_read(void *of, void *buf, size_t n) {
    tdl_tee *t = of;
    if (t->error < 0) return t->error;
    int64_t r = tdl_read(t->from, buf, n);
    if (r > 0) t->error = code_of(tdl_write(t->to, buf, (size_t)r, NULL));
    return r;
}

tdl_reader tdl_tee_reader(tdl_tee *t, tdl_reader from, tdl_writer to) {
    static const tdl_reader_type type = {tee_read, NULL};
    if (!t) return (tdl_reader){NULL, NULL};
    *t = (tdl_tee){from, to, 0};
    return (tdl_reader){&type, t};
}

static int64_t readers_read(void *of, void *buf, size_t n) {
    tdl_readers *m = of;
    int64_t r = 0;
    while (m->at < m->n && (r = tdl_read(m->list[m->at], buf, n)) == 0) m->at++;
    return r;
}

static int readers_copy(void *of, tdl_writer to, int64_t n, int64_t *copied) {
    tdl_readers *m = of;
    int64_t one;
    int r = 0;
    for (; m->at < m->n; m->at++) {
        if (n >= 0 && *copied >= n) break;
        r = tdl_copy(to, m->list[m->at], n < 0 ? n : n - *copied, &one);
        *copied += one;
        if (r < 0 || (n >= 0 && *copied >= n)) break;
    }
    return r;
}

tdl_reader tdl_multi_reader(tdl_readers *m, const tdl_reader *list, int n) {
    static const tdl_reader_type type = {readers_read, readers_copy};
    if (!m || n < 0 || (!list && n)) return (tdl_reader){NULL, NULL};
    *m = (tdl_readers){list, n, 0};
    return (tdl_reader){&type, m};
}

static int64_t writers_write(void *of, const void *buf, size_t n, size_t *written) {
    const tdl_writers *m = of;
    for (int i = 0; i < m->n; i++) {
        int64_t r = tdl_write(m->list[i], buf, n, written);
        if (r < 0) return r;
    }
    return (int64_t)n;
}

tdl_writer tdl_multi_writer(tdl_writers *m, const tdl_writer *list, int n) {
    static const tdl_writer_type type = {writers_write, NULL};
    if (!m || n < 0 || (!list && n)) return (tdl_writer){NULL, NULL};
    *m = (tdl_writers){list, n};
    return (tdl_writer){&type, m};
}

/* -- Memory ---------------------------------------------------------------------------------- */

static int64_t mem_read(void *of, void *buf, size_t n) {
    tdl_mem *m = of;
    if (n > m->left) n = m->left;
    if (n) memcpy(buf, m->at, n);
    m->at += n;
    m->left -= n;
    return (int64_t)n;
}

static int mem_copy(void *of, tdl_writer to, int64_t n, int64_t *copied) {
    tdl_mem *m = of;
    size_t all = n >= 0 && (uint64_t)n < m->left ? (size_t)n : m->left, written;
    int64_t r = tdl_write(to, m->at, all, &written);
    m->at += written;
    m->left -= written;
    *copied = (int64_t)written;
    return code_of(r);
}

tdl_reader tdl_mem_reader(tdl_mem *m, const void *bytes, size_t n) {
    static const tdl_reader_type type = {mem_read, mem_copy};
    if (!m || (!bytes && n)) return (tdl_reader){NULL, NULL};
    *m = (tdl_mem){bytes, n};
    return (tdl_reader){&type, m};
}

static int64_t discard_write(void *of, const void *buf, size_t n, size_t *written) {
    (void)of, (void)buf, (void)written;
    return (int64_t)n;
}

tdl_writer tdl_discard(void) {
    static const tdl_writer_type type = {discard_write, NULL};
    return (tdl_writer){&type, NULL};
}

/* -- Chains ------------------------------------------------------------------------------------ */

static int64_t chain_read(void *of, void *buf, size_t n) {
    tdl_buf *b = of;
    int64_t r = tdl_buf_copy(b, 0, buf, n);
    if (r > 0) tdl_buf_skip(b, (size_t)r);
    return r;
}

static int64_t chain_write(void *of, const void *buf, size_t n, size_t *written) {
    (void)written;
    int r = tdl_buf_append(of, buf, n);
    return r < 0 ? r : (int64_t)n;
}

/* From one chain to another only slices move. */
static int chain_from(void *of, tdl_reader from, int64_t n, int64_t *copied) {
    tdl_buf *to = of, *b = tdl_chain_of(from);
    if (!to || !b) return TDL_COPY_PLAIN;
    if (b == to) return TDL_EINVAL;
    size_t all = n >= 0 && (uint64_t)n < b->len ? (size_t)n : b->len;
    int r = tdl_buf_move(to, b, all);
    if (r == 0) *copied = (int64_t)all;
    return r;
}

static const tdl_reader_type chain_reader = {chain_read, NULL};

tdl_buf *tdl_chain_of(tdl_reader r) { return r.type == &chain_reader ? r.of : NULL; }

tdl_reader tdl_buf_reader(tdl_buf *b) { return (tdl_reader){b ? &chain_reader : NULL, b}; }

tdl_writer tdl_buf_writer(tdl_buf *b) {
    static const tdl_writer_type type = {chain_write, chain_from};
    return (tdl_writer){b ? &type : NULL, b};
}
