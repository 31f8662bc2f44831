/* SPDX-License-Identifier: MIT
 * Type-stable pools, cut from slabs that are never given back. */
#include "sys/pool.h"

#include <string.h>

#include "sys/sys.h"

enum { SLAB = 64 }; /* objects cut from one allocation */

/* What a free object consists of. */
struct free_object {
    tdl_lock lock;
    struct free_object *next;
};

void *tdl_pool_take(tdl_pool *pool) {
    tdl_lock_take(&pool->lock);
    struct free_object *o = pool->free;
    if (o) {
        pool->free = o->next;
    } else {
        if (pool->nfresh == 0) {
            pool->fresh = tdl_alloc_zeroed(pool->size * SLAB);
            if (!pool->fresh) {
                tdl_unlock(&pool->lock);
                return NULL;
            }
            pool->nfresh = SLAB;
        }
        o = (struct free_object *)pool->fresh;
        pool->fresh += pool->size;
        pool->nfresh--;
        tdl_lock_init(&o->lock, pool->rank);
    }
    pool->live++;
    tdl_unlock(&pool->lock);
    /* a late holder of the object's own lock may be looking at its fields */
    tdl_lock_take(&o->lock);
    memset((char *)o + sizeof(tdl_lock), 0, pool->size - sizeof(tdl_lock));
    tdl_unlock(&o->lock);
    return o;
}

void tdl_pool_give(tdl_pool *pool, void *object) {
    struct free_object *o = object;
    tdl_lock_take(&o->lock);
    memset((char *)o + sizeof(tdl_lock), 0, pool->size - sizeof(tdl_lock));
    tdl_unlock(&o->lock);
    tdl_lock_take(&pool->lock);
    o->next = pool->free;
    pool->free = o;
    pool->live--;
    tdl_unlock(&pool->lock);
}

int64_t tdl_pool_live(tdl_pool *pool) {
    tdl_lock_take(&pool->lock);
    int64_t n = pool->live;
    tdl_unlock(&pool->lock);
    return n;
}
