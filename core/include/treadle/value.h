/* SPDX-License-Identifier: MIT
 *
 * Values.
 *
 * What a channel carries: 16 bytes. Bytes are reference-counted and immutable,
 * the rest is plain. Read and write it through the functions below; the layout
 * is public for bindings: `type` says which member of the union holds, `flags`
 * is carried along untouched for bindings (text or bytes, say).
 * A tdl_val_set_… function overwrites without looking at what was there, so
 * that an uninitialised tdl_val may be set: clear one that may hold bytes.
 */
#ifndef TREADLE_VALUE_H
#define TREADLE_VALUE_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tdl_val {
    int32_t  type;  /* TDL_NIL … */
    uint32_t flags;
    union {
        int64_t i; /* TDL_INT, TDL_BOOL, TDL_REF */
        double  d; /* TDL_DOUBLE */
        void   *p; /* TDL_PTR, TDL_BYTES, TDL_CHAN */
    } u;
} tdl_val;

enum {
    TDL_NIL    = 0,
    TDL_BOOL   = 1,
    TDL_INT    = 2,
    TDL_DOUBLE = 3,
    TDL_PTR    = 4, /* the pointer only: never freed, never followed */
    TDL_BYTES  = 5, /* holds a reference */
    TDL_CHAN   = 6, /* holds a reference to a shared channel */
    TDL_REF    = 7  /* a number that only its host can read; local channels only */
};

/* All of these: any caller; `v` must not be null. The getters return 0, 0.0,
 * NULL for a value of another type. */
TDL_API int     tdl_val_type(const tdl_val *v);
TDL_API void    tdl_val_set_nil(tdl_val *v);
TDL_API void    tdl_val_set_bool(tdl_val *v, int truth);
TDL_API void    tdl_val_set_int(tdl_val *v, int64_t i);
TDL_API void    tdl_val_set_double(tdl_val *v, double d);
TDL_API void    tdl_val_set_ptr(tdl_val *v, void *p);
/* Copies the n bytes. 0 or TDL_ENOMEM (v is then nil). */
TDL_API int     tdl_val_set_bytes(tdl_val *v, const void *bytes, size_t n);
TDL_API int     tdl_val_bool(const tdl_val *v);
TDL_API int64_t tdl_val_int(const tdl_val *v);
TDL_API double  tdl_val_double(const tdl_val *v);
TDL_API void   *tdl_val_ptr(const tdl_val *v);
/* The bytes, valid as long as v holds them, and their number (n may be NULL). */
TDL_API const void *tdl_val_bytes(const tdl_val *v, size_t *n);
/* Makes v carry the descriptor, which belongs to the value from then on and is
 * closed with its last holder; its bytes are none. 0; TDL_EINVAL; TDL_ENOMEM
 * (fd stays the caller's). */
TDL_API int     tdl_val_set_fd(tdl_val *v, int fd);
/* Takes the descriptor out, which is the caller's then: among all holders the
 * first one gets it. TDL_EINVAL: there is none, or not any more. */
TDL_API int     tdl_val_take_fd(const tdl_val *v);
/* Bytes that carry other values along: channels, descriptors, bytes, anything but a
 * TDL_REF and what carries values itself. The `count` values at `carry` become v's
 * and are nil afterwards; they go with v's last holder. 0; TDL_EINVAL, TDL_ENOMEM
 * (they stay the caller's). */
TDL_API int     tdl_val_set_bundle(tdl_val *v, const void *bytes, size_t n, tdl_val *carry, uint32_t count);
/* Makes out a second holder of the value that v carries at i, from 0; TDL_EINVAL: there is none there. */
TDL_API int     tdl_val_carried(const tdl_val *v, uint32_t i, tdl_val *out);
/* dst becomes a second holder of what src holds. */
TDL_API void    tdl_val_copy(tdl_val *dst, const tdl_val *src);
/* Gives up what v holds; v is nil afterwards. */
TDL_API void    tdl_val_clear(tdl_val *v);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_VALUE_H */
