/* SPDX-License-Identifier: MIT
 * Stack slots: chunks, guards, the depot. */
#include "sched/stack.h"

#include "sys/sys.h"

#ifdef TDL_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum { CHUNK_SLOTS = 1024, MAX_CHUNKS = 4096 };

/* Guarded by lock; chunk pointers are also read without, after nslots (release
 * in fresh_slot pairs with acquire in tdl_stack_g). */
static struct {
    tdl_lock lock;
    char *chunk[MAX_CHUNKS];
    _Atomic uint32_t nslots; /* ever handed out: they have guards and colours */
    tdl_g *free;
} depot = {.lock = TDL_LOCK_INIT(RANK_STACKS)};

static char *slot_base(uint32_t slot) {
    return depot.chunk[slot / CHUNK_SLOTS] + (size_t)(slot % CHUNK_SLOTS) * STACK_SLOT;
}

/* Gs at one offset in every slot would fight for the same cache sets. */
static tdl_g *slot_g(uint32_t slot) {
    size_t colour = (size_t)(slot % 16) * 128;
    size_t room = (sizeof(tdl_g) + 63) & ~(size_t)63;
    return (tdl_g *)(void *)(slot_base(slot) + STACK_SLOT - colour - room);
}

static tdl_g *fresh_slot(void) {
    uint32_t slot = at_load_rlx(&depot.nslots);
    uint32_t c = slot / CHUNK_SLOTS;
    if (c >= MAX_CHUNKS) return NULL;
    if (!depot.chunk[c]) {
        depot.chunk[c] = tdl_sys.map((size_t)CHUNK_SLOTS * STACK_SLOT);
        if (!depot.chunk[c]) return NULL;
    }
    if (tdl_sys.guard(slot_base(slot), STACK_GUARD) < 0) return NULL;
    tdl_g *g = slot_g(slot);
    g->slot = slot;
    at_store_rel(&depot.nslots, slot + 1);
    return g;
}

TDL_NO_TSAN tdl_g *tdl_stack_take(void) {
    tdl_lock_take(&depot.lock);
    tdl_g *g = depot.free;
    if (g)
        depot.free = g->next;
    else
        g = fresh_slot();
    tdl_unlock(&depot.lock);
    return g;
}

TDL_NO_TSAN void tdl_stack_give(tdl_g *list) {
    tdl_lock_take(&depot.lock);
    while (list) {
        tdl_g *next = list->next;
        list->next = depot.free;
        depot.free = list;
        list = next;
    }
    tdl_unlock(&depot.lock);
}

void *tdl_stack_low(tdl_g *g, size_t *size) {
    char *low = slot_base(g->slot) + STACK_GUARD;
    *size = (size_t)((char *)g - low) & ~(size_t)15;
    return low;
}

tdl_g *tdl_stack_g(uint32_t i) {
    return i < at_load_acq(&depot.nslots) ? slot_g(i) : NULL;
}

int tdl_stack_owns(tdl_g *g) {
    uint32_t n = at_load_acq(&depot.nslots);
    for (uint32_t c = 0; c * CHUNK_SLOTS < n; c++) {
        ptrdiff_t at = (char *)g - depot.chunk[c];
        if (at < 0 || at >= (ptrdiff_t)CHUNK_SLOTS * STACK_SLOT) continue;
        uint32_t slot = c * CHUNK_SLOTS + (uint32_t)(at / STACK_SLOT);
        return slot < n && slot_g(slot) == g;
    }
    return 0;
}

tdl_g *tdl_stack_guarding(const void *address) {
    uint32_t n = at_load_acq(&depot.nslots);
    for (uint32_t c = 0; c * CHUNK_SLOTS < n; c++) {
        ptrdiff_t at = (const char *)address - depot.chunk[c];
        if (at < 0 || at >= (ptrdiff_t)CHUNK_SLOTS * STACK_SLOT) continue;
        uint32_t slot = c * CHUNK_SLOTS + (uint32_t)(at / STACK_SLOT);
        return slot < n && at % STACK_SLOT < STACK_GUARD ? slot_g(slot) : NULL;
    }
    return NULL;
}

void tdl_stack_discard_all(void) {
    tdl_lock_take(&depot.lock);
    uint32_t n = at_load_rlx(&depot.nslots);
    for (uint32_t slot = 0; slot < n; slot += CHUNK_SLOTS) {
        size_t size = (size_t)CHUNK_SLOTS * STACK_SLOT;
#ifdef TDL_ASAN
        __asan_unpoison_memory_region(depot.chunk[slot / CHUNK_SLOTS], size);
#endif
        tdl_sys.discard(depot.chunk[slot / CHUNK_SLOTS], size);
    }
    /* the pages are zero now; a G is made again when its slot is taken: start
     * over, the guards are still there */
    depot.free = NULL;
    at_store_rel(&depot.nslots, 0);
    tdl_unlock(&depot.lock);
}
