/* SPDX-License-Identifier: MIT */
#include "histogram.h"

static unsigned bucket_of(uint64_t v)
{
    if (v < 16)
        return (unsigned)v;
    unsigned log2 = 63u - (unsigned)__builtin_clzll(v);
    return (log2 - 3) * 16 + (unsigned)((v >> (log2 - 4)) & 15);
}

static int64_t upper_end(unsigned bucket)
{
    if (bucket < 16)
        return bucket;
    unsigned log2 = bucket / 16 + 3;
    return (int64_t)((16ull + bucket % 16 + 1) << (log2 - 4)) - 1;
}

void histogram_add(histogram *h, int64_t value)
{
    h->count++;
    h->buckets[bucket_of(value < 0 ? 0 : (uint64_t)value)]++;
}

int64_t histogram_quantile(const histogram *h, double q)
{
    uint64_t left = (uint64_t)(q * (double)h->count);
    for (unsigned i = 0; i < sizeof h->buckets / sizeof *h->buckets; i++) {
        if (h->buckets[i] > left)
            return upper_end(i);
        left -= h->buckets[i];
    }
    return 0;
}
