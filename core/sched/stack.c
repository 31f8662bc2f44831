/* SPDX-License-Identifier: MIT
 * Stack slots: arenas, guards, the depot.
 *
 * The depot of a class is one array of free Gs, used as a stack: the coldest at
 * the bottom. Those below ncold have had their pages given back. What was not
 * taken for a while is what the top has not sunk below (low): that much of the
 * bottom is given back next, by tdl_stack_trim, which keeps its hands off the
 * lock meanwhile: nobody takes what lies below floor. */
#include "sched/stack.h"

#include <errno.h>
#include <string.h>

#include "sched/census.h"
#include "sys/sys.h"

#ifdef TDL_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum {
    CLASSES = TDL_STACK_CLASSES,
    MAX_ARENAS = 128,
    ARENA_ALIGN = 2 << 20, /* of page tables */
    GUARDS = 256,          /* most that are made in one call */
    TRIM_BATCH = 64,       /* stacks given back in one call of tdl_stack_trim: about 0.1 ms */
};

#define ARENA_FIRST ((size_t)64 << 20) /* each next arena of a class is twice as large, up to */
#define ARENA_MAX   ((size_t)1 << 40)
#define ARENA_LEAST ((size_t)1 << 20) /* where there is room for no more */
#define TRIM_STEP   TDL_MILLISECOND

static const struct {
    uint8_t shift, guard_pages;
} classes[CLASSES] = {{14, 1}, {16, 1}, {18, 4}, {20, 16}, {23, 16}};

const uint32_t tdl_stack_keep[CLASSES] = {64, 64, 16, 8, 2};

typedef struct arena {
    char *base;               /* aligned to the slots' size */
    _Atomic uint64_t *touched; /* a bit a slot: has a G that may be read. Written under lock */
    uint32_t first;           /* number of its first slot */
    uint32_t cap;             /* slots */
    uint32_t guarded;         /* have their guard; under lock */
    _Atomic uint32_t used;    /* have been handed out; written under lock */
    int cls;
} arena;

typedef struct pool {
    tdl_g **free;
    uint32_t n, ncold, low, floor;
    arena *fresh; /* the arena that new slots come from */
} pool;

/* Guarded by lock; arenas are also read without, below narenas (release in
 * new_arena pairs with acquire in readers). */
static struct {
    tdl_lock lock;
    arena arenas[MAX_ARENAS];
    _Atomic uint32_t narenas;
    pool pool[CLASSES];
    _Atomic int64_t trim_at; /* written under lock, or by the M that trims; TDL_FOREVER: nothing to do; 0: not set yet */
    bool trimming;           /* under lock */
} depot = {.lock = TDL_LOCK_INIT(RANK_STACKS), .trim_at = TDL_FOREVER};

static tdl_g nobody; /* a dead one */

int64_t tdl_stack_trim_after = TDL_SECOND;

/* -- Classes and slots --------------------------------------------------------- */

int tdl_stack_class(size_t bytes) {
    if (bytes == 0) return STACK_DEFAULT;
    if (bytes < STACK_SMALLEST) return TDL_ESTACK;
    for (int cls = 0; cls < CLASSES; cls++)
        if (bytes <= (size_t)1 << classes[cls].shift) return cls;
    return TDL_ESTACK;
}

size_t tdl_stack_size(int cls) { return (size_t)1 << classes[cls].shift; }
size_t tdl_stack_guard(int cls) { return (size_t)classes[cls].guard_pages * 4096; }

/* Gs at one offset in every slot would fight for the same cache sets. */
static tdl_g *slot_g(const arena *a, uint32_t slot) {
    size_t colour = (size_t)(slot % 16) * 128;
    size_t room = (sizeof(tdl_g) + TDL_NAME + 63) & ~(size_t)63;
    return (tdl_g *)(void *)(a->base + ((size_t)(slot + 1) << classes[a->cls].shift) - colour - room);
}

/* Slots are aligned to their size. */
static char *slot_base(const tdl_g *g) {
    return (char *)((uintptr_t)g & ~((uintptr_t)tdl_stack_size(g->stack) - 1));
}

void *tdl_stack_low(tdl_g *g, size_t *size) {
    char *low = slot_base(g) + tdl_stack_guard(g->stack);
    *size = (size_t)((char *)g - low) & ~(size_t)15;
    return low;
}

char *tdl_stack_end(tdl_g *g) { return slot_base(g) + tdl_stack_size(g->stack); }

/* -- Arenas ---------------------------------------------------------------------- */

static arena *arena_of(const void *address) {
    for (uint32_t i = at_load_acq(&depot.narenas); i-- > 0;) {
        arena *a = &depot.arenas[i];
        if ((size_t)((const char *)address - a->base) < (size_t)a->cap << classes[a->cls].shift) return a;
    }
    return NULL;
}

static uint32_t slot_of(const arena *a, const void *address) {
    return (uint32_t)((size_t)((const char *)address - a->base) >> classes[a->cls].shift);
}

static void set_touched(arena *a, uint32_t slot, bool on) {
    _Atomic uint64_t *word = &a->touched[slot / 64];
    uint64_t bit = UINT64_C(1) << slot % 64, old = at_load_rlx(word);
    /* release pairs with the acquire in touched: a G that is readable is a G */
    at_store_rel(word, on ? old | bit : old & ~bit);
}

static bool touched(const arena *a, uint32_t slot) {
    return slot < at_load_acq(&a->used) && (at_load_acq(&a->touched[slot / 64]) >> slot % 64 & 1);
}

/* Address space for twice as many slots as the class' last arena had, or as
 * many as there is room for. */
static int new_arena(int cls) {
    uint32_t i = at_load_rlx(&depot.narenas);
    if (i == MAX_ARENAS) return TDL_ENOMEM;
    pool *q = &depot.pool[cls];
    unsigned shift = classes[cls].shift;
    size_t size = q->fresh ? (size_t)q->fresh->cap << shift << 1 : ARENA_FIRST;
    if (size > ARENA_MAX) size = ARENA_MAX;
    size_t align = (size_t)1 << shift > ARENA_ALIGN ? (size_t)1 << shift : ARENA_ALIGN;
    char *p = NULL;
    uint32_t cap = 0;
    size_t whole = 0;
    for (; !p && size >= (size_t)1 << shift && size >= ARENA_LEAST; size /= 2) {
        cap = (uint32_t)(size >> shift);
        whole = align + size + (cap + 63) / 64 * 8;
        p = tdl_sys.map(whole);
    }
    if (!p) return TDL_ENOMEM;
    uint32_t before = 0;
    for (uint32_t j = 0; j < i; j++) before += depot.arenas[j].cls == cls ? depot.arenas[j].cap : 0;
    tdl_g **free = tdl_sys.map(((size_t)before + cap) * sizeof *free);
    if (!free) {
        tdl_sys.unmap(p, whole);
        return TDL_ENOMEM;
    }
    if (q->free) {
        memcpy(free, q->free, q->n * sizeof *free); /* few: a new arena is made when all are taken */
        tdl_sys.unmap(q->free, before * sizeof *free);
    }
    q->free = free;
    arena *a = &depot.arenas[i];
    a->base = (char *)(((uintptr_t)p + align - 1) & ~(uintptr_t)(align - 1));
    a->touched = (_Atomic uint64_t *)(void *)(a->base + ((size_t)cap << shift));
    a->cap = cap;
    a->cls = cls;
    a->first = i ? depot.arenas[i - 1].first + depot.arenas[i - 1].cap : 0;
    a->guarded = 0;
    at_store_rlx(&a->used, 0);
    q->fresh = a;
    at_store_rel(&depot.narenas, i + 1);
    return 0;
}

/* Guards are made ahead, the more the more stacks there are: one call makes many. */
static int more_guards(arena *a) {
    uint32_t n = 4 + a->guarded / 4;
    if (n > GUARDS) n = GUARDS;
    if (n > a->cap - a->guarded) n = a->cap - a->guarded;
    unsigned shift = classes[a->cls].shift;
    int r = tdl_sys.guard(a->base + ((size_t)a->guarded << shift), tdl_stack_guard(a->cls), (size_t)1 << shift, (int)n);
    if (r < 0) return r == -ENOMEM ? TDL_ESTACKS : r;
    a->guarded += (uint32_t)r;
    return 0;
}

/* An arena of the class with slots that were never used; the first such, for
 * after tdl_stack_discard_all all of them are new again. */
static arena *arena_with_room(int cls, int *code) {
    arena *a = depot.pool[cls].fresh;
    if (a && at_load_rlx(&a->used) < a->cap) return a;
    for (uint32_t i = 0; i < at_load_rlx(&depot.narenas); i++) {
        a = &depot.arenas[i];
        if (a->cls == cls && at_load_rlx(&a->used) < a->cap) return depot.pool[cls].fresh = a;
    }
    return (*code = new_arena(cls)) < 0 ? NULL : depot.pool[cls].fresh;
}

static tdl_g *fresh(int cls, int *code) {
    arena *a = arena_with_room(cls, code);
    if (!a) return NULL;
    uint32_t slot = at_load_rlx(&a->used);
    if (slot == a->guarded && (*code = more_guards(a)) < 0) return NULL;
    tdl_g *g = slot_g(a, slot);
    g->stack = (uint8_t)cls;
    set_touched(a, slot, true);
    at_store_rel(&a->used, slot + 1);
    return g;
}

/* -- The depot --------------------------------------------------------------------- */

/* Takes n at most, as a list: the warm if there are any, or one of the cold, or a fresh one. */
TDL_NO_TSAN static tdl_g *depot_take(int cls, uint32_t n, uint32_t *got, int *code) {
    pool *q = &depot.pool[cls];
    tdl_g *list = NULL;
    *got = 1;
    tdl_lock_take(&depot.lock);
    uint32_t warm = q->floor > q->ncold ? q->floor : q->ncold;
    if (q->n > warm) {
        if (n > q->n - warm) n = q->n - warm;
        for (uint32_t i = q->n - n; i < q->n; i++) {
            q->free[i]->next = list;
            list = q->free[i];
        }
        q->n -= n;
        *got = n;
    } else if (q->n > q->floor) {
        list = q->free[--q->n];
        list->stack = (uint8_t)cls;
        q->ncold = q->n;
        arena *a = arena_of(list);
        set_touched(a, slot_of(a, list), true);
        list->next = NULL;
    } else if ((list = fresh(cls, code)) != NULL) {
        list->next = NULL;
    }
    if (q->low > q->n) q->low = q->n;
    tdl_unlock(&depot.lock);
    return list;
}

TDL_NO_TSAN static void depot_give(tdl_g *list) {
    pool *q = &depot.pool[list->stack];
    tdl_lock_take(&depot.lock);
    for (; list; list = list->next) q->free[q->n++] = list;
    if (at_load_rlx(&depot.trim_at) == TDL_FOREVER) at_store_rlx(&depot.trim_at, 0);
    tdl_unlock(&depot.lock);
}

/* -- What a P keeps ------------------------------------------------------------------ */

void tdl_stacks_reset(tdl_stacks *own) { memset(own, 0, sizeof *own); }

TDL_NO_TSAN TDL_NOINLINE tdl_g *tdl_stack_refill(tdl_p *p, int cls, int *code) {
    uint32_t n = 1;
    tdl_g *g = depot_take(cls, p ? tdl_stack_keep[cls] / 2 : 1, &n, code);
    if (g && n > 1) {
        p->stacks.list[cls] = g->next;
        p->stacks.n[cls] = n - 1;
    }
    return g;
}

TDL_NO_TSAN TDL_NOINLINE void tdl_stack_spill(tdl_p *p, tdl_g *g) {
    tdl_g *last = g;
    if (p) {
        int cls = g->stack;
        uint32_t n = tdl_stack_keep[cls] / 2;
        for (uint32_t i = 1; i < n; i++) last = last->next;
        p->stacks.list[cls] = last->next;
        p->stacks.n[cls] -= n;
    }
    last->next = NULL;
    depot_give(g);
}

/* -- Finding ---------------------------------------------------------------------------- */

tdl_g *tdl_stack_g(uint32_t i) {
    for (uint32_t k = at_load_acq(&depot.narenas); k-- > 0;) {
        arena *a = &depot.arenas[k];
        if (i < a->first) continue;
        uint32_t slot = i - a->first;
        if (slot < a->cap && touched(a, slot)) return slot_g(a, slot);
        if (k + 1 == at_load_acq(&depot.narenas) && slot >= at_load_acq(&a->used)) return NULL;
        return &nobody;
    }
    return NULL;
}

int tdl_stack_owns(tdl_g *g) {
    arena *a = arena_of(g);
    return a && touched(a, slot_of(a, g)) && slot_g(a, slot_of(a, g)) == g;
}

tdl_g *tdl_stack_guarding(const void *address) {
    arena *a = arena_of(address);
    if (!a) return NULL;
    size_t at = (size_t)((const char *)address - a->base) & (tdl_stack_size(a->cls) - 1);
    uint32_t slot = slot_of(a, address);
    return at < tdl_stack_guard(a->cls) && touched(a, slot) ? slot_g(a, slot) : NULL;
}

/* -- Giving pages back ------------------------------------------------------------------ */

static void clear_slot(int cls, tdl_g *g) {
    size_t guard = tdl_stack_guard(cls), size = tdl_stack_size(cls);
    char *base = (char *)((uintptr_t)g & ~((uintptr_t)size - 1));
#ifdef TDL_ASAN
    __asan_unpoison_memory_region(base, size);
#endif
    tdl_sys.discard(base + guard, size - guard);
}

TDL_NO_TSAN void tdl_stack_clear(tdl_g *g) {
    int cls = g->stack;
    clear_slot(cls, g);
    g->stack = (uint8_t)cls;
}

/* Gives back what has not been used since the last look; how many. Nobody else
 * moves q's floor. */
TDL_NO_TSAN static uint32_t trim_class(int cls, uint32_t most) {
    pool *q = &depot.pool[cls];
    tdl_lock_take(&depot.lock);
    uint32_t from = q->ncold, to = q->low;
    if (to > from + most) to = from + most;
    if (to <= from) {
        tdl_unlock(&depot.lock);
        return 0;
    }
    q->floor = to;
    tdl_g *list[TRIM_BATCH]; /* q->free may be moved meanwhile */
    for (uint32_t i = from; i < to; i++) {
        tdl_g *g = list[i - from] = q->free[i];
        arena *a = arena_of(g);
        set_touched(a, slot_of(a, g), false);
    }
    tdl_unlock(&depot.lock);
    for (uint32_t i = from; i < to; i++) clear_slot(cls, list[i - from]);
    tdl_lock_take(&depot.lock);
    q->ncold = to;
    q->floor = 0;
    tdl_unlock(&depot.lock);
    return to - from;
}

/* The next look is due: when? */
static int64_t trim_next(int64_t now, bool more) {
    int64_t next = more ? now + TRIM_STEP : TDL_FOREVER;
    tdl_lock_take(&depot.lock);
    depot.trimming = false;
    for (int cls = 0; cls < CLASSES && !more; cls++) {
        pool *q = &depot.pool[cls];
        q->low = q->n;
        if (q->n > q->ncold) next = now + tdl_stack_trim_after;
    }
    at_store_rlx(&depot.trim_at, next);
    tdl_unlock(&depot.lock);
    return next;
}

bool tdl_stack_to_trim(void) { return at_load_rlx(&depot.trim_at) != TDL_FOREVER; }

int64_t tdl_stack_trim(int64_t now) {
    int64_t due = at_load_rlx(&depot.trim_at);
    if (due == TDL_FOREVER || now < due) return due;
    tdl_lock_take(&depot.lock);
    bool busy = depot.trimming;
    depot.trimming = true;
    tdl_unlock(&depot.lock);
    if (busy) return TDL_FOREVER; /* the one who does it says when */
    uint32_t left = TRIM_BATCH;
    if (due != 0)
        for (int cls = CLASSES; cls-- > 0 && left;) left -= trim_class(cls, left);
    return trim_next(now, left == 0);
}

void tdl_stack_discard_all(void) {
    tdl_census_run_ends();
    tdl_lock_take(&depot.lock);
    for (uint32_t i = 0; i < at_load_rlx(&depot.narenas); i++) {
        arena *a = &depot.arenas[i];
        size_t size = (size_t)at_load_rlx(&a->used) << classes[a->cls].shift;
#ifdef TDL_ASAN
        __asan_unpoison_memory_region(a->base, size);
#endif
        if (size) tdl_sys.discard(a->base, size);
        /* the pages are zero now; a G is made again when its slot is taken: start
         * over, the guards are still there */
        for (uint32_t w = 0; w * 64 < a->cap; w++)
            if (at_load_rlx(&a->touched[w])) at_store_rel(&a->touched[w], 0);
        at_store_rel(&a->used, 0);
    }
    for (int cls = 0; cls < CLASSES; cls++) {
        pool *q = &depot.pool[cls];
        q->n = q->ncold = q->low = q->floor = 0;
    }
    at_store_rlx(&depot.trim_at, TDL_FOREVER);
    tdl_unlock(&depot.lock);
}
