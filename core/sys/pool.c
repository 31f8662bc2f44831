/* SPDX-License-Identifier: MIT
 * Type-stable pools, cut from slabs that are never given back. */
#include "sys/pool.h"

#include <string.h>

#include "sys/sys.h"

enum { SLAB = 64, LINE = 64 }; /* objects cut from one allocation; bytes of a cache line */

/* What is larger than half a line has lines of its own: neighbours are used by different threads. */
static size_t stride(const tdl_pool *pool) {
    size_t size = pool->size + sizeof(uint32_t), unit = size > LINE / 2 ? LINE : 8;
    return (size + unit - 1) & ~(unit - 1);
}

/* Under the lock: another slab, and room on the free list for what it holds. */
static bool grow(tdl_pool *pool) {
    if (pool->total + SLAB > pool->room) {
        size_t room = pool->room ? 2 * pool->room : SLAB;
        void **list = tdl_sys.resize(pool->free, room * sizeof *list);
        if (!list) return false;
        pool->free = list;
        pool->room = room;
    }
    char *slab = tdl_alloc_zeroed(stride(pool) * SLAB + LINE - 1);
    if (!slab) return false;
    pool->fresh = slab + (-(uintptr_t)slab & (LINE - 1));
    pool->nfresh = SLAB;
    pool->total += SLAB;
    return true;
}

void *tdl_pool_take(tdl_pool *pool) {
    tdl_lock *o = NULL;
    tdl_lock_take(&pool->lock);
    if (pool->nfree) {
        o = pool->free[--pool->nfree];
    } else if (pool->nfresh || grow(pool)) {
        o = (tdl_lock *)pool->fresh;
        pool->fresh += stride(pool);
        pool->nfresh--;
        tdl_lock_init(o, pool->rank);
    }
    tdl_unlock(&pool->lock);
    TDL_TSAN_ACQUIRE(o); /* from who came late, and looked at its fields under its lock */
    uint32_t bubble = tdl_sys.simulated ? tdl_sys.bubble() : 0;
    if (o) *(uint32_t *)(void *)((char *)o + pool->size) = bubble;
    return o;
}

void tdl_pool_give(tdl_pool *pool, void *object) {
    tdl_lock *o = object;
    tdl_lock_take(o); /* somebody late may be looking at its fields */
    memset(o + 1, 0, pool->size - sizeof *o);
    tdl_unlock(o);
    tdl_lock_take(&pool->lock);
    pool->free[pool->nfree++] = o;
    tdl_unlock(&pool->lock);
}

int64_t tdl_pool_live(tdl_pool *pool) {
    tdl_lock_take(&pool->lock);
    int64_t n = (int64_t)(pool->total - pool->nfresh - pool->nfree);
    tdl_unlock(&pool->lock);
    return n;
}
