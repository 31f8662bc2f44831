/* SPDX-License-Identifier: MIT
 *
 * The public chain of bytes, tdl_buf. Its parts are slices of counted blocks, in
 * order; len is the sum of theirs and no part is empty. Parts lie at
 * part[first … first + n). Used by one caller at a time.
 */
#ifndef TDL_IO_BUF_H
#define TDL_IO_BUF_H

#include "io/buffer.h"
#include "treadle.h"

typedef struct tdl_part {
    tdl_block *block;
    char *at;
    size_t n;
} tdl_part;

struct tdl_buf {
    tdl_part *part;
    uint32_t first, n, cap;
    size_t len;
    size_t reserved; /* by the last reserve: a commit may be as long */
    tdl_block *spare; /* of a reserve that needs another block */
};

/* A slice behind the others, which holds the block on its own account. 0 or TDL_ENOMEM. */
int tdl_buf_add(tdl_buf *b, tdl_block *block, char *at, size_t n);
/* The chain that it reads; NULL: it is another kind of reader. */
tdl_buf *tdl_chain_of(tdl_reader r);

#endif
