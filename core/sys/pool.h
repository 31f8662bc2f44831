/* SPDX-License-Identifier: MIT
 *
 * Type-stable memory: an object given back is only ever used again as an
 * object of the same pool, and never unmapped. Whoever comes late with an old
 * pointer (a waiter that timed out while the channel was freed, a poller's
 * stale event) may therefore still take the object's lock, and sees under it
 * that the object is no longer his.
 *
 * Invariants: the first member of a pooled object is its tdl_lock, which is
 * initialised once, when the memory is new, and never again. The rest of a free
 * object is zero, so that taking one need not touch it.
 */
#ifndef TDL_SYS_POOL_H
#define TDL_SYS_POOL_H

#include "sys/lock.h"

typedef struct tdl_pool {
    tdl_lock lock;
    size_t size;   /* of one object; its bubble lies behind it */
    void **free;   /* given back, the last one on top; under lock */
    size_t nfree;  /* of these; under lock */
    size_t room;   /* for all objects that there are; under lock */
    size_t total;  /* how many that is; under lock */
    char *fresh;   /* the slab objects are cut from; under lock */
    size_t nfresh; /* objects left in it; under lock */
    tdl_rank rank; /* of the objects' locks */
} tdl_pool;

#define TDL_POOL_OF(type, r) {.lock = TDL_LOCK_INIT(RANK_POOL), .size = sizeof(type), .rank = (r)}
#define TDL_POOL_INIT(type) TDL_POOL_OF(type, RANK_OBJECT)

/* An object, zeroed but for its lock; NULL when memory is out. */
void *tdl_pool_take(tdl_pool *pool);
/* The simulation in which it was taken: tdl_sys.bubble; 0: in none. */
static inline uint32_t tdl_pool_bubble(const tdl_pool *pool, const void *object) {
    return object ? *(const uint32_t *)(const void *)((const char *)object + pool->size) : 0;
}
/* Nobody holds its lock, or is to find anything in it. */
void tdl_pool_give(tdl_pool *pool, void *object);
/* Objects in use. */
int64_t tdl_pool_live(tdl_pool *pool);

#endif
