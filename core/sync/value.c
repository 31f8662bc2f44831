/* SPDX-License-Identifier: MIT
 * Values: 16 bytes, bytes and channels by reference.
 *
 * Bytes may carry other values, which lie behind them in the same block, belong to
 * it, do not change, and carry none themselves. */
#include <string.h>

#include "sync/chan.h"
#include "sys/sys.h"

struct bytes {
    _Atomic uint32_t refs; /* the last to drop it pairs with the others' drops: seq */
    /* that it carries, NONE, or CARGO: behind it is a pointer to one; whoever takes it away from here
     * has it: seq */
    _Atomic int32_t fd;
    size_t n;
    uint32_t count; /* of the values it carries */
    char data[];    /* n bytes; from the next multiple of 8 on, the values */
};

enum { NONE = -1, CARGO = -2 };

static tdl_val *carried(struct bytes *b) { return (tdl_val *)((char *)b + ((sizeof *b + b->n + 7) & ~(size_t)7)); }

int tdl_val_type(const tdl_val *v) { return v->type; }

/* member by member, not by a compound literal: see tdl_val_take */
static inline void set(tdl_val *v, int32_t type, int64_t i) {
    v->type = type;
    v->flags = 0;
    v->u.i = i;
}

void tdl_val_set_nil(tdl_val *v) { tdl_val_nil(v); }

void tdl_val_set_bool(tdl_val *v, int truth) { set(v, TDL_BOOL, truth != 0); }

void tdl_val_set_int(tdl_val *v, int64_t i) { set(v, TDL_INT, i); }

void tdl_val_set_double(tdl_val *v, double d) {
    set(v, TDL_DOUBLE, 0);
    v->u.d = d;
}

void tdl_val_set_ptr(tdl_val *v, void *p) {
    set(v, TDL_PTR, 0);
    v->u.p = p;
}

static int set_bytes(tdl_val *v, const void *bytes, size_t n, size_t behind) {
    tdl_val_set_nil(v);
    if (n > SIZE_MAX / 2) return TDL_ENOMEM;
    struct bytes *b = tdl_sys.alloc(sizeof *b + n + behind);
    if (!b) return TDL_ENOMEM;
    at_store_rlx(&b->refs, 1);
    at_store_rlx(&b->fd, NONE);
    b->n = n;
    b->count = 0;
    if (n) memcpy(b->data, bytes, n);
    *v = (tdl_val){.type = TDL_BYTES, .u.p = b};
    return 0;
}

int tdl_val_set_bytes(tdl_val *v, const void *bytes, size_t n) { return set_bytes(v, bytes, n, 0); }

/* Whether a value may be carried by another one. */
static bool portable(const tdl_val *v) {
    return v->type != TDL_REF && !(v->type == TDL_BYTES && ((struct bytes *)v->u.p)->count);
}

int tdl_val_set_bundle(tdl_val *v, const void *bytes, size_t n, tdl_val *carry, uint32_t count) {
    tdl_val_set_nil(v);
    if (count && !carry) return TDL_EINVAL;
    for (uint32_t i = 0; i < count; i++)
        if (!portable(&carry[i])) return TDL_EINVAL;
    int r = set_bytes(v, bytes, n, count * sizeof(tdl_val) + 7);
    if (r < 0) return r;
    struct bytes *b = v->u.p;
    tdl_val *to = carried(b);
    for (uint32_t i = 0; i < count; i++) tdl_val_move(&to[i], &carry[i]);
    b->count = count;
    return 0;
}

int tdl_val_carried(const tdl_val *v, uint32_t i, tdl_val *out) {
    tdl_val_set_nil(out);
    struct bytes *b = v->type == TDL_BYTES ? v->u.p : NULL;
    if (!b || i >= b->count) return TDL_EINVAL;
    tdl_val_dup(out, &carried(b)[i]);
    return 0;
}

int tdl_val_set_fd(tdl_val *v, int fd) {
    tdl_val_set_nil(v);
    if (fd < 0) return TDL_EINVAL;
    int r = tdl_val_set_bytes(v, NULL, 0);
    if (r == 0) at_store_rlx(&((struct bytes *)v->u.p)->fd, fd);
    return r;
}

int tdl_val_take_fd(const tdl_val *v) {
    struct bytes *b = v->type == TDL_BYTES ? v->u.p : NULL;
    int fd = b && at_load_rlx(&b->fd) >= 0 ? at_xchg_seq(&b->fd, NONE) : NONE;
    return fd < 0 ? TDL_EINVAL : fd;
}

static tdl_cargo **cargo_of(struct bytes *b) { return (tdl_cargo **)(void *)carried(b); }

int tdl_val_set_cargo(tdl_val *v, tdl_cargo *cargo) {
    int r = set_bytes(v, NULL, 0, sizeof cargo + 7);
    if (r < 0) return r;
    struct bytes *b = v->u.p;
    *cargo_of(b) = cargo;
    at_store_rlx(&b->fd, CARGO);
    return 0;
}

tdl_cargo *tdl_val_take_cargo(const tdl_val *v, void (*drop)(tdl_cargo *)) {
    struct bytes *b = v->type == TDL_BYTES ? v->u.p : NULL;
    int32_t was = CARGO;
    if (!b || at_load_rlx(&b->fd) != CARGO || (*cargo_of(b))->drop != drop) return NULL;
    return at_cas_seq(&b->fd, &was, NONE) ? *cargo_of(b) : NULL;
}

int tdl_val_bool(const tdl_val *v) { return v->type == TDL_BOOL && v->u.i; }

int64_t tdl_val_int(const tdl_val *v) { return v->type == TDL_INT ? v->u.i : 0; }

double tdl_val_double(const tdl_val *v) { return v->type == TDL_DOUBLE ? v->u.d : 0.0; }

void *tdl_val_ptr(const tdl_val *v) { return v->type == TDL_PTR ? v->u.p : NULL; }

const void *tdl_val_bytes(const tdl_val *v, size_t *n) {
    struct bytes *b = v->type == TDL_BYTES ? v->u.p : NULL;
    if (n) *n = b ? b->n : 0;
    return b ? b->data : NULL;
}

void tdl_val_hold(const tdl_val *v) {
    if (v->type == TDL_BYTES)
        at_add_rlx(&((struct bytes *)v->u.p)->refs, 1); /* the holder keeps it alive */
    else
        tdl_chan_ref(v->u.p);
}

void tdl_val_drop(const tdl_val *v) {
    struct bytes *b = v->u.p;
    if (v->type == TDL_CHAN)
        tdl_chan_free(v->u.p);
    else if (at_sub_seq(&b->refs, 1) == 1) {
        int fd = at_load_rlx(&b->fd);
        if (fd >= 0) tdl_sys.close(fd);
        if (fd == CARGO) (*cargo_of(b))->drop(*cargo_of(b));
        for (uint32_t i = 0; i < b->count; i++) tdl_val_clear(&carried(b)[i]);
        tdl_sys.release(b);
    }
}

void tdl_val_copy(tdl_val *dst, const tdl_val *src) { tdl_val_dup(dst, src); }

void tdl_val_clear(tdl_val *v) {
    if (tdl_val_holds(v)) tdl_val_drop(v);
    tdl_val_nil(v);
}

int tdl_val_set_chan(tdl_val *v, tdl_chan *ch) {
    tdl_val_set_nil(v);
    if (!ch || ch->local) return TDL_EINVAL;
    *v = (tdl_val){.type = TDL_CHAN, .u.p = tdl_chan_ref(ch)};
    return 0;
}

tdl_chan *tdl_val_chan(const tdl_val *v) {
    return v->type == TDL_CHAN ? tdl_chan_ref(v->u.p) : NULL;
}
