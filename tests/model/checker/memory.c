/* SPDX-License-Identifier: MIT
 *
 * The memory: C11's, as far as its machine can be run step by step.
 *
 * A location keeps every value stored to it, in the order of the stores. A
 * thread has a view: of each location, the oldest value that it may still read.
 * A load returns the last value or, as long as the schedule's allowance lasts,
 * an older one that the view admits. A release store attaches the thread's view
 * to the value, and an acquire load of it merges that into its own; relaxed
 * accesses do so by way of the next or the last fence. A read-modify-write
 * reads the last value, and hands on what was attached to it. Sequentially
 * consistent operations and fences also keep one common view, sc. A failing CAS
 * is an acquire load.
 *
 * What this does not show, though C11 allows it: a load that returns a store
 * that is executed later, and stores to one location that take effect in
 * another order than they were executed in.
 *
 * Giving up a tdl_lock is no point where others may go on: who is preempted
 * there keeps others waiting until he goes on, and what they did before they
 * waited they might as well have done after. Waiting for one is a single step.
 *
 * membarrier(2) is a fence in every thread, one after the other. Between two
 * compiler barriers a compiler may move a store behind the loads that follow; a
 * fence that another thread forces upon this one may then come between.
 */
#include <string.h>

#include "engine.h"

static const model_site initial = {"", 0, "initial", false};

static uint64_t mask(size_t size) { return size == 8 ? ~UINT64_C(0) : (UINT64_C(1) << 8 * size) - 1; }

static uint64_t peek(uintptr_t addr, size_t size) {
    switch (size) {
    case 1: return *(volatile uint8_t *)addr;
    case 2: return *(volatile uint16_t *)addr;
    case 4: return *(volatile uint32_t *)addr;
    default: return *(volatile uint64_t *)addr;
    }
}

static void poke(uintptr_t addr, size_t size, uint64_t value) {
    switch (size) {
    case 1: *(volatile uint8_t *)addr = (uint8_t)value; break;
    case 2: *(volatile uint16_t *)addr = (uint16_t)value; break;
    case 4: *(volatile uint32_t *)addr = (uint32_t)value; break;
    default: *(volatile uint64_t *)addr = value; break;
    }
}

/* -- Views -------------------------------------------------------------------- */

static int nview(void) { return MODEL_THREADS + E->nlocations; }

static void merge(stamp *to, const stamp *from, int n) {
    for (int i = 0; i < n; i++) to[i] = to[i] > from[i] ? to[i] : from[i];
}

static stamp *pool_take(int n) {
    if (E->npool + n > VIEW_POOL) engine_die("a schedule needs more than %d stamps", VIEW_POOL);
    stamp *v = &E->pool[E->npool];
    E->npool += n;
    return v;
}

/* The thread's clock goes on whenever somebody may have learnt of it. */
static void tick(thread *t) { t->view[t->id]++; }

void memory_spawn(thread *child) {
    memset(child->view, 0, sizeof child->view);
    child->nrel = child->nacq = child->nsoft = 0;
    if (E->cur) {
        memcpy(child->view, E->cur->view, (size_t)nview() * sizeof(stamp));
        tick(E->cur);
    }
    child->view[child->id] = 1;
}

void memory_join(thread *done) { merge(E->cur->view, done->view, nview()); }

void memory_copy_view(stamp *to) {
    if (!E->cur) return;
    merge(to, E->cur->view, nview());
    tick(E->cur);
}

void memory_join_view(const stamp *from) {
    if (E->cur) merge(E->cur->view, from, nview());
}

/* -- Locations and messages ------------------------------------------------------- */

void memory_reset(void) {
    memset(E->sc, 0, (size_t)nview() * sizeof(stamp));
    for (int i = 0; i < FDS; i++) memset(E->fd_views[i], 0, (size_t)nview() * sizeof(stamp));
    E->generation++;
    E->nlocations = E->nmessages = E->npool = 0;
    E->writes = 0;
}

static share *share_of(uintptr_t addr) {
    uint32_t i = (uint32_t)(addr * UINT64_C(0x9e3779b97f4a7c15) >> 52) % SHARES;
    for (;; i = (i + 1) % SHARES) {
        share *s = &E->shares[i];
        if (s->addr == addr) return s;
        if (s->addr == 0) {
            if (++E->nshares == SHARES) engine_die("more than %d atomic addresses", SHARES);
            s->addr = addr;
            return s;
        }
    }
}

static message *append(location *l, uint64_t value, const stamp *view, int n, const model_site *site) {
    if (E->nmessages == MESSAGES) engine_die("a schedule stores more than %d values", MESSAGES);
    message *m = &E->messages[E->nmessages++];
    *m = (message){value, l->last, view, n, l->last ? (stamp)(l->last->at + 1) : 0, site};
    l->last = m;
    return m;
}

static location *find(uintptr_t addr, size_t size) {
    uint32_t h = (uint32_t)(addr * UINT64_C(0x9e3779b97f4a7c15) >> 54);
    for (;; h = (h + 1) % 1024) {
        if (E->table[h].generation != E->generation) break;
        if (E->table[h].addr != addr) continue;
        location *l = &E->locations[E->table[h].id];
        if (l->size == size) {
            uint64_t is = peek(addr, size);
            if (is == l->last->value) return l;
        }
        /* it was written without an atomic operation: by whoever comes now, or before it */
        l->size = size;
        append(l, peek(addr, size), NULL, 0, &initial);
        E->cur->view[MODEL_THREADS + l->id] = l->last->at;
        return l;
    }
    if (E->nlocations == LOCATIONS) engine_die("more than %d atomic locations", LOCATIONS);
    int id = E->nlocations++;
    E->table[h].addr = addr;
    E->table[h].generation = E->generation;
    E->table[h].id = id;
    location *l = &E->locations[id];
    *l = (location){addr, size, id, NULL, 0, 0, 0};
    append(l, peek(addr, size), NULL, 0, &initial);
    E->sc[MODEL_THREADS + id] = 0;
    for (int i = 0; i < E->nthreads; i++)
        E->threads[i].view[MODEL_THREADS + id] = E->threads[i].early_view[MODEL_THREADS + id] = 0;
    return l;
}

/* The step's beginning: maybe another thread goes first. */
static location *step(uintptr_t addr, size_t size, int order, bool writes) {
    share *s = share_of(addr);
    uint8_t me = (uint8_t)(1 << E->cur->id), *mine = writes ? &s->writers : &s->readers;
    if (!(*mine & me)) {
        *mine |= me;
        E->share_found = true;
    }
    uint8_t met = s->known_writers | (writes ? s->known_readers : 0);
    location *l = find(addr, size);
    if ((met & ~me) || E->all_points)
        engine_point((held_step){l, 0, writes, order == MODEL_SEQ});
    else
        engine_no_point();
    if (writes)
        l->written = E->steps;
    else
        l->read = E->steps;
    if (order == MODEL_SEQ) l->seq = E->steps;
    return find(addr, size);
}

/* -- Loads ------------------------------------------------------------------------- */

static void learn(thread *t, location *l, message *m, int order) {
    stamp *seen = &t->view[MODEL_THREADS + l->id];
    if (*seen < m->at) *seen = m->at;
    if (t->early) t->early_view[MODEL_THREADS + l->id] = m->at;
    if (order == MODEL_ACQ || order >= MODEL_ACQ_REL) t->early = false;
    if (!m->view) return;
    if (order == MODEL_RLX || order == MODEL_REL) {
        if (t->nacq < m->nview) {
            memset(t->acq + t->nacq, 0, (size_t)(m->nview - t->nacq) * sizeof(stamp));
            t->nacq = m->nview;
        }
        merge(t->acq, m->view, m->nview);
    } else {
        merge(t->view, m->view, m->nview);
    }
}

/* One of the values that t may read, last first; those equal to *not are left out, but for the last. */
static message *pick(thread *t, location *l, int order, const uint64_t *not) {
    stamp floor = (t->early ? t->early_view : t->view)[MODEL_THREADS + l->id];
    if (order == MODEL_SEQ && floor < E->sc[MODEL_THREADS + l->id]) floor = E->sc[MODEL_THREADS + l->id];
    message *m = l->last;
    if (E->stale_left <= 0 || m->at <= floor) return m;
    unsigned n = 1;
    for (message *o = m->older; o && o->at >= floor; o = o->older)
        if (!not || o->value != *not) n++;
    unsigned k = engine_choose(n, CHOOSE_READ);
    if (k == 0) return m;
    E->stale_left--;
    for (message *o = m->older;; o = o->older) {
        if (not && o->value == *not) continue;
        if (--k == 0) return o;
    }
}

uint64_t model_load(const volatile void *p, size_t size, int order, const model_site *site) {
    uintptr_t addr = (uintptr_t)p;
    if (!E->cur) {
        if (E->asking) share_of(addr)->readers = 0xff;
        return peek(addr, size);
    }
    location *l = step(addr, size, order, false);
    thread *t = E->cur;
    message *m = pick(t, l, order, NULL);
    learn(t, l, m, order);
    if (order == MODEL_SEQ && E->sc[MODEL_THREADS + l->id] < m->at) E->sc[MODEL_THREADS + l->id] = m->at;
    if (E->trace)
        engine_trace(site, "load  %s = %#lx%s", site->what, (unsigned long)m->value,
                     m == l->last ? "" : "   (an OLD value)");
    return m->value;
}

/* -- Stores ------------------------------------------------------------------------ */

/* What a message of t's carries: for a release all that t knows; else what it
 * knew at its last fence; and what `before` carries (of a read-modify-write). */
static void attach(thread *t, message *m, int order, const message *before) {
    const stamp *own = NULL;
    int n = 0;
    if (order >= MODEL_REL) {
        own = t->view;
        n = nview();
    } else if (t->nrel) {
        own = t->rel;
        n = t->nrel;
    }
    if (before && before->view && before->nview > n) n = before->nview;
    if (n == 0) return;
    stamp *v = pool_take(n);
    int nown = own == t->view ? nview() : t->nrel;
    if (!own) nown = 0;
    if (nown > n) nown = n;
    memcpy(v, own ? own : t->view, (size_t)nown * sizeof(stamp));
    memset(v + nown, 0, (size_t)(n - nown) * sizeof(stamp));
    if (before && before->view) merge(v, before->view, before->nview);
    m->view = v;
    m->nview = n;
}

static void put(thread *t, location *l, uint64_t value, int order, const message *before, const model_site *site) {
    message *m = append(l, value, NULL, 0, site);
    t->view[MODEL_THREADS + l->id] = m->at;
    if (t->early) t->early_view[MODEL_THREADS + l->id] = m->at;
    attach(t, m, order, before);
    if (order >= MODEL_REL) t->nsoft = 0;
    if (order == MODEL_SEQ) {
        E->sc[MODEL_THREADS + l->id] = m->at;
    } else if (t->nsoft < SOFT) {
        t->soft[t->nsoft].id = l->id;
        t->soft[t->nsoft++].at = m->at;
    }
    tick(t);
    E->writes++;
    t->pauses = 0;
    poke(l->addr, l->size, value);
}

void model_store(volatile void *p, size_t size, uint64_t value, int order, const model_site *site) {
    uintptr_t addr = (uintptr_t)p;
    value &= mask(size);
    if (!E->cur) {
        poke(addr, size, value);
        return;
    }
    location *l = site->unlock && !E->scenario->real_locks ? find(addr, size) : step(addr, size, order, true);
    if (E->trace) engine_trace(site, "store %s = %#lx", site->what, (unsigned long)value);
    put(E->cur, l, value, order, NULL, site);
}

static uint64_t combine(int how, uint64_t a, uint64_t b) {
    switch (how) {
    case MODEL_ADD: return a + b;
    case MODEL_SUB: return a - b;
    case MODEL_OR: return a | b;
    case MODEL_AND: return a & b;
    default: return b;
    }
}

static void replace(location *l, uint64_t value, int order, const model_site *site) {
    message *before = l->last;
    learn(E->cur, l, before, order);
    put(E->cur, l, value, order == MODEL_ACQ ? MODEL_RLX : order, before, site);
}

uint64_t model_rmw(volatile void *p, size_t size, int how, uint64_t value, int order, const model_site *site) {
    uintptr_t addr = (uintptr_t)p;
    if (!E->cur) {
        uint64_t was = peek(addr, size);
        poke(addr, size, combine(how, was, value));
        return was;
    }
    static const char *const names[] = {"xchg ", "add  ", "sub  ", "or   ", "and  "};
    location *l = step(addr, size, order, true);
    uint64_t was = l->last->value, is = combine(how, was, value) & mask(size);
    if (E->trace)
        engine_trace(site, "%s %s: %#lx -> %#lx", names[how], site->what, (unsigned long)was, (unsigned long)is);
    replace(l, is, order, site);
    return was;
}

bool model_cas(volatile void *p, size_t size, uint64_t *expected, uint64_t value, int order, const model_site *site) {
    uintptr_t addr = (uintptr_t)p;
    uint64_t want = *expected & mask(size);
    if (!E->cur) {
        *expected = peek(addr, size);
        if (*expected != want) return false;
        poke(addr, size, value);
        return true;
    }
    location *l = step(addr, size, order, true);
    int failing = order == MODEL_RLX || order == MODEL_REL ? MODEL_RLX : MODEL_ACQ;
    message *m = pick(E->cur, l, failing, &want);
    if (m == l->last && m->value == want) {
        if (E->trace)
            engine_trace(site, "cas   %s: %#lx -> %#lx", site->what, (unsigned long)want,
                         (unsigned long)(value & mask(size)));
        replace(l, value & mask(size), order, site);
        return true;
    }
    learn(E->cur, l, m, failing);
    *expected = m->value;
    if (E->trace)
        engine_trace(site, "cas   %s: is %#lx, not %#lx%s", site->what, (unsigned long)m->value,
                     (unsigned long)want, m == l->last ? "" : "   (an OLD value)");
    return false;
}

/* -- Fences -------------------------------------------------------------------------- */

/* t's fence; stores in soft[0 … nsoft-1] come after it. */
static void fence(thread *t, int nsoft) {
    int n = nview();
    merge(t->view, t->acq, t->nacq);
    t->nacq = 0;
    for (int i = MODEL_THREADS; i < n; i++) {
        stamp known = t->view[i];
        for (int k = 0; k < nsoft; k++)
            if (t->soft[k].id == i - MODEL_THREADS && t->soft[k].at <= known) known = (stamp)(t->soft[k].at - 1);
        if (E->sc[i] < known) E->sc[i] = known;
        if (t->view[i] < E->sc[i]) t->view[i] = E->sc[i];
    }
    memcpy(t->rel, t->view, (size_t)n * sizeof(stamp));
    for (int k = 0; k < nsoft; k++) {
        stamp *r = &t->rel[MODEL_THREADS + t->soft[k].id];
        if (*r >= t->soft[k].at) *r = (stamp)(t->soft[k].at - 1);
    }
    t->nrel = n;
    tick(t);
    E->writes++;
    engine_disturb();
}

void model_fence_seq(const model_site *site) {
    if (!E->cur) return;
    engine_point((held_step){0});
    if (E->trace) engine_trace(site, "fence");
    E->cur->nsoft = 0;
    E->cur->early = false;
    fence(E->cur, 0);
}

void model_fence_compiler(void) {
    if (!E->cur) return;
    E->cur->nsoft = 0;
    E->cur->early = false;
}

/* Where t's compiler may move things across it, it stands where that is worst:
 * before t's last stores, or behind its next loads. */
static void force_fence(thread *t) {
    static const model_site site = {"membarrier", 0, "", false};
    enum { IN_ORDER, LOADS_EARLY, STORES_LATE };
    unsigned how = IN_ORDER;
    if (t->state != T_DONE && E->stale_left > 0) how = engine_choose(t->nsoft ? 3 : 2, CHOOSE_READ);
    if (how != IN_ORDER) E->stale_left--;
    if (E->trace)
        engine_trace(&site, "a fence in %s%s", t->name,
                     how == LOADS_EARLY ? ", its next loads moved BEFORE it"
                                        : how == STORES_LATE ? ", its last stores moved BEHIND it" : "");
    if (how == LOADS_EARLY) {
        if (!t->early) memcpy(t->early_view, t->view, (size_t)nview() * sizeof(stamp));
        t->early = true;
    }
    fence(t, how == STORES_LATE ? t->nsoft : 0);
}

void model_membarrier(void) {
    static const model_site site = {"membarrier", 0, "", false};
    if (!E->cur) return;
    thread *me = E->cur;
    model_fence_seq(&site);
    for (int i = 0; i < E->nthreads; i++) {
        thread *t = &E->threads[i];
        if (t == me) continue;
        engine_point((held_step){0});
        force_fence(t);
    }
    model_fence_seq(&site);
}

/* -- Locks ---------------------------------------------------------------------------- */

static bool is_free(void *held) { return *(volatile uint32_t *)held == 0; }

void model_lock_wait(volatile uint32_t *held, const model_site *site) {
    uintptr_t addr = (uintptr_t)held;
    CHECK(E->cur, "a lock is held for ever");
    if (E->trace) engine_trace(site, "waits for it");
    model_wait(is_free, (void *)addr);
    if (E->trace) engine_trace(site, "has it");
    replace(find(addr, sizeof *held), 1, MODEL_ACQ, site);
}

/* -- Plain writes that go by without the compiler's notice ------------------------------ */

/* A relaxed store to each location in the range. */
void memory_plain_write(uintptr_t addr, size_t size) {
    if (!E->cur) return;
    for (int i = 0; i < E->nlocations; i++) {
        location *l = &E->locations[i];
        if (l->addr >= addr && l->addr < addr + size && peek(l->addr, l->size) != l->last->value) find(l->addr, l->size);
    }
}
