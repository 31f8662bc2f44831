/* SPDX-License-Identifier: MIT
 *
 * Plain accesses. The core and the scenarios are compiled with the compiler's
 * thread sanitizer instrumentation, whose run-time is these few functions
 * instead: two accesses to a byte, one of them a write, of which neither
 * happens before the other, are a data race; so is an access to memory that was
 * released.
 *
 * Each byte remembers its last write and its last reads by two threads; a third
 * unordered reader is forgotten.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine.h"

typedef struct byte {
    uint32_t write, read, read2; /* epochs: thread + 1, clock */
} byte;

enum { GRANULE = 8, RELEASED = 0xff, TOUCHED = 1 << 16 };

typedef struct granule {
    byte b[GRANULE];
    uint32_t write_pc, read_pc; /* the program is linked at a low address */
    bool touched;
} granule;

enum { COVERED = ARENA + MODEL_THREADS * STACK };

static struct {
    granule *of_data, *of_arena;
    granule **touched;
    int ntouched;
} *R;

void race_init(void) {
    size_t n = (DATA + COVERED) / GRANULE * sizeof(granule);
    char *at = mmap(NULL, n + sizeof *R + TOUCHED * sizeof(granule *), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) engine_die("no memory for the race detector");
    R = (void *)at;
    R->touched = (void *)(at + sizeof *R);
    R->of_data = (void *)(at + sizeof *R + TOUCHED * sizeof(granule *));
    R->of_arena = R->of_data + DATA / GRANULE;
}

void race_reset(void) {
    for (int i = 0; i < R->ntouched; i++) memset(R->touched[i], 0, sizeof(granule));
    R->ntouched = 0;
}

static granule *granule_of(uintptr_t addr) {
    uintptr_t off = addr - (uintptr_t)E->data;
    if (off < (uintptr_t)(E->data_end - E->data)) return &R->of_data[off / GRANULE];
    off = addr - (uintptr_t)MODEL_ARENA;
    if (off < COVERED) return &R->of_arena[off / GRANULE];
    return NULL;
}

static granule *touch(uintptr_t addr) {
    granule *g = granule_of(addr);
    if (g && !g->touched) {
        if (R->ntouched == TOUCHED) engine_die("a schedule touches too much memory");
        g->touched = true;
        R->touched[R->ntouched++] = g;
    }
    return g;
}

static uint32_t epoch(thread *t) { return (uint32_t)(t->id + 1) << 24 | (uint32_t)t->view[t->id]; }

static bool before(uint32_t e, thread *t) {
    return e == 0 || ((e >> 24) != RELEASED && t->view[(e >> 24) - 1] >= (stamp)(e & 0xffffff));
}

void race_where(char *out, size_t size, uint32_t pc) {
    char command[128];
    snprintf(command, sizeof command, "addr2line -s -e /proc/%d/exe 0x%x 2>/dev/null", (int)getpid(), pc - 1);
    snprintf(out, size, "0x%x", pc);
    FILE *f = popen(command, "r");
    if (!f) return;
    if (fgets(out, (int)size, f)) out[strcspn(out, "\n")] = '\0';
    pclose(f);
}

static void report(uintptr_t addr, bool write, uintptr_t pc, uint32_t other, bool other_write, uint32_t other_pc) {
    char here[128], there[128];
    if (E->trace) { /* slow: only when it is to be read */
        race_where(here, sizeof here, (uint32_t)pc);
        race_where(there, sizeof there, other_pc);
    } else {
        snprintf(here, sizeof here, "%#lx", (unsigned long)pc);
        snprintf(there, sizeof there, "%#x", other_pc);
    }
    const char *name = E->cur->name;
    if (other >> 24 == RELEASED)
        model_fail("released memory: %s %s %#lx at %s", name, write ? "writes" : "reads", (unsigned long)addr, here);
    model_fail("data race: %s %s %#lx at %s, %s %s it at %s", name, write ? "writes" : "reads", (unsigned long)addr,
               here, E->threads[(other >> 24) - 1].name, other_write ? "wrote" : "read", there);
}

static void access_byte(granule *g, byte *b, uintptr_t addr, bool write, uint32_t me, uintptr_t pc) {
    thread *t = E->cur;
    if (b->write != me && !before(b->write, t)) report(addr, write, pc, b->write, true, g->write_pc);
    if (write) {
        if (b->read && !before(b->read, t)) report(addr, write, pc, b->read, false, g->read_pc);
        if (b->read2 && !before(b->read2, t)) report(addr, write, pc, b->read2, false, g->read_pc);
        *b = (byte){me, 0, 0};
        g->write_pc = (uint32_t)pc;
        return;
    }
    if (b->read == 0 || b->read >> 24 == me >> 24 || before(b->read, t))
        b->read = me;
    else
        b->read2 = me;
    g->read_pc = (uint32_t)pc;
}

void race_access(uintptr_t addr, size_t size, bool write, uintptr_t pc) {
    if (!E->cur) return;
    uint32_t me = epoch(E->cur);
    while (size) {
        granule *g = touch(addr);
        size_t from = addr % GRANULE, n = GRANULE - from < size ? GRANULE - from : size;
        if (g)
            for (size_t i = 0; i < n; i++) access_byte(g, &g->b[from + i], addr + i, write, me, pc);
        addr += n;
        size -= n;
    }
}

void race_released(uintptr_t addr, size_t size) {
    if (!E->cur) return;
    for (size_t i = 0; i < size; i++) {
        granule *g = touch(addr + i);
        if (g) g->b[(addr + i) % GRANULE].write = (uint32_t)RELEASED << 24;
    }
}

/* -- What the compiler calls ---------------------------------------------------- */

#define PC ((uintptr_t)__builtin_return_address(0))
#define HOOKS(n)                                                                                  \
    void __tsan_read##n(void *p);                                                                 \
    void __tsan_read##n(void *p) { race_access((uintptr_t)p, n, false, PC); }                     \
    void __tsan_write##n(void *p);                                                                \
    void __tsan_write##n(void *p) { race_access((uintptr_t)p, n, true, PC); }                     \
    void __tsan_unaligned_read##n(void *p);                                                       \
    void __tsan_unaligned_read##n(void *p) { race_access((uintptr_t)p, n, false, PC); }           \
    void __tsan_unaligned_write##n(void *p);                                                      \
    void __tsan_unaligned_write##n(void *p) { race_access((uintptr_t)p, n, true, PC); }

HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_read_range(void *p, size_t n);
void __tsan_read_range(void *p, size_t n) { race_access((uintptr_t)p, n, false, PC); }
void __tsan_write_range(void *p, size_t n);
void __tsan_write_range(void *p, size_t n) { race_access((uintptr_t)p, n, true, PC); }
void __tsan_init(void);
void __tsan_init(void) {}
void __tsan_func_entry(void *pc);
void __tsan_func_entry(void *pc) { (void)pc; }
void __tsan_func_exit(void);
void __tsan_func_exit(void) {}

/* memset and memcpy of instrumented code: see intercept.h. */
void *model_memset(void *p, int c, size_t n);
void *model_memset(void *p, int c, size_t n) {
    race_access((uintptr_t)p, n, true, PC);
    memset(p, c, n);
    memory_plain_write((uintptr_t)p, n);
    return p;
}

void *model_memcpy(void *to, const void *from, size_t n);
void *model_memcpy(void *to, const void *from, size_t n) {
    race_access((uintptr_t)from, n, false, PC);
    race_access((uintptr_t)to, n, true, PC);
    memcpy(to, from, n);
    memory_plain_write((uintptr_t)to, n);
    return to;
}
