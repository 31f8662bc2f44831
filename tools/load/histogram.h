/* SPDX-License-Identifier: MIT
 * A log-linear histogram of times: 16 steps to each power of two. */
#ifndef LOAD_HISTOGRAM_H
#define LOAD_HISTOGRAM_H

#include <stdint.h>

typedef struct histogram {
    uint64_t count;
    uint64_t buckets[64 * 16];
} histogram;

void    histogram_add(histogram *h, int64_t value);
int64_t histogram_quantile(const histogram *h, double q); /* the bucket's upper end; 0 when empty */

#endif
