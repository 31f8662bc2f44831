/* SPDX-License-Identifier: MIT
 *
 * Buffers.
 *
 * A chain of bytes: slices of counted blocks. Bytes move from one to another, and
 * to and from connections, without being copied; a slice keeps its block, whatever
 * becomes of the chain it was cut from. Any caller, but a chain is used by one at
 * a time. Empty chains have no blocks.
 */
#ifndef TREADLE_BUF_H
#define TREADLE_BUF_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tdl_buf tdl_buf;

typedef struct tdl_iovec {
    const void *data;
    size_t      n;
} tdl_iovec;

TDL_API tdl_buf *tdl_buf_new(void); /* NULL: out of memory */
TDL_API void     tdl_buf_free(tdl_buf *b);
TDL_API int64_t  tdl_buf_len(const tdl_buf *b);
/* Copies n bytes to its end. 0; TDL_ENOMEM, and nothing has changed. */
TDL_API int      tdl_buf_append(tdl_buf *b, const void *bytes, size_t n);
/* Room for n bytes (at least one) in one run, to be written by the caller; and then how many of them
 * (0…n) are now at its end. Nothing else may be done with b in between. NULL: out of
 * memory. */
TDL_API void    *tdl_buf_reserve(tdl_buf *b, size_t n);
TDL_API int      tdl_buf_commit(tdl_buf *b, size_t n);
/* The n bytes of `from` behind `offset` are also at the end of `to`; the first n
 * bytes of `from` move to the end of `to`. 0; TDL_EINVAL: there are fewer; TDL_ENOMEM. */
TDL_API int      tdl_buf_share(tdl_buf *to, const tdl_buf *from, size_t offset, size_t n);
TDL_API int      tdl_buf_move(tdl_buf *to, tdl_buf *from, size_t n);
/* Drops the first n bytes. 0; TDL_EINVAL: there are fewer. */
TDL_API int      tdl_buf_skip(tdl_buf *b, size_t n);
/* The first run of bytes, and how many they are; NULL and 0 when it is empty. The
 * first n bytes in one run, put together if need be; NULL: there are fewer, or out of memory.
 * Valid until b is changed. */
TDL_API const void *tdl_buf_front(const tdl_buf *b, size_t *n);
TDL_API const void *tdl_buf_peek(tdl_buf *b, size_t n);
/* Copies up to n bytes from behind `offset`: how many. TDL_EINVAL beyond the end. */
TDL_API int64_t  tdl_buf_copy(const tdl_buf *b, size_t offset, void *to, size_t n);
/* Where these n bytes are first found, at `offset` or behind; TDL_EAGAIN: nowhere. */
TDL_API int64_t  tdl_buf_find(const tdl_buf *b, size_t offset, const void *what, size_t n);
/* Up to max of the runs it consists of: how many. */
TDL_API int      tdl_buf_parts(const tdl_buf *b, tdl_iovec *v, int max);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_BUF_H */
