/* SPDX-License-Identifier: MIT
 * The switch as debuggers, profilers and unwinders see it: from anywhere on a
 * goroutine's stack, and from each instruction of the switch itself, they come
 * to the base frame and stop there. */
#include "check.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#ifdef HAVE_LIBUNWIND
#define UNW_LOCAL_ONLY
#include <libunwind.h>
#endif

#include "sched/stack.h"

enum { MOST = 64 };

/* The assembler's labels; a goroutine's base frame is in tdl_switch_start. */
void tdl_switch(void **save_sp, void *load_sp);
void tdl_switch_start(void);
void tdl_switch_call(void *left_sp, void (*fn)(void *), void *arg);

static int is_within(const void *pc, void (*fn)(void), size_t size) {
    return (const char *)pc >= (const char *)fn && (const char *)pc < (const char *)fn + size;
}

#ifdef __x86_64__
enum { START_SIZE = 7 };
#else
enum { START_SIZE = 20 };
#endif

static int is_base(const void *pc) { return is_within(pc, tdl_switch_start, START_SIZE); }

#define CALLED_FROM_HERE() __asm__ volatile("" ::: "memory") /* not by a jump */

/* Calls look with n frames below it. */
__attribute__((noinline)) static void below(int n, void (*look)(void *), void *arg) {
    if (n > 0)
        below(n - 1, look, arg);
    else
        look(arg);
    CALLED_FROM_HERE();
}

typedef struct visit {
    void (*look)(void *);
    void *arg;
} visit;

static void from_a_goroutine(void *arg) {
    visit *v = arg;
    tdl_yield();
    below(5, v->look, v->arg);
}

static void from_the_system_stack(void *arg) { below(3, ((visit *)arg)->look, ((visit *)arg)->arg); }

static void goes_there(void *arg) {
    CHECK_RC(tdl_system_stack(from_the_system_stack, arg), 0);
    CALLED_FROM_HERE();
}

static void in_goroutine(void (*fn)(void *), void (*look)(void *)) {
    int   looked = 0;
    visit v = { look, &looked };
    CHECK_RC(tdl_join(go_joinable(fn, &v)), 0);
    CHECK(looked > 0);
}

/* -- By the tables ------------------------------------------------------------------------ */

typedef struct trace {
    void *pc[MOST];
    int   n;
} trace;

/* The compiler's own unwinder, which exceptions and the C library's backtrace()
 * use; by its file's name, for libunwind has functions of the same names. */
static struct {
    _Unwind_Reason_Code (*backtrace)(_Unwind_Trace_Fn, void *);
    _Unwind_Ptr (*ip)(struct _Unwind_Context *);
} gcc;

static int find_unwinder(void) {
    void *lib = dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!lib) return 0;
    *(void **)&gcc.backtrace = dlsym(lib, "_Unwind_Backtrace");
    *(void **)&gcc.ip = dlsym(lib, "_Unwind_GetIP");
    return gcc.backtrace && gcc.ip;
}

static _Unwind_Reason_Code one_more(struct _Unwind_Context *context, void *arg) {
    trace *t = arg;
    void  *pc = (void *)gcc.ip(context);
    if (t->n == MOST || !pc) return _URC_END_OF_STACK;
    t->pc[t->n++] = pc;
    return _URC_NO_REASON;
}

__attribute__((noinline)) static trace walk(void) {
    trace t = { .n = 0 };
    gcc.backtrace(one_more, &t);
    return t;
}

static void by_compiler(void *arg) {
    trace t = walk();
    *(int *)arg = t.n;
    CHECK_WITHIN(t.n, 6, 20);
    CHECK(is_base(t.pc[t.n - 1]));
}

TEST_G(compiler, "U the compiler's unwinder stops at the base frame of a goroutine") {
    if (!find_unwinder()) return check_skip("there is no libgcc_s.so.1");
    in_goroutine(from_a_goroutine, by_compiler);
    in_goroutine(goes_there, by_compiler); /* over the system's stack, too */
}

#ifdef HAVE_LIBUNWIND
/* Steps to the end; the last address, or NULL when it does not end well. */
static void *unwind(unw_cursor_t *cursor, int *steps) {
    unw_word_t pc = 0;
    int        r = 1;
    for (*steps = 0; r > 0 && *steps < MOST; ++*steps) {
        unw_get_reg(cursor, UNW_REG_IP, &pc);
        r = unw_step(cursor);
    }
    return r == 0 ? (void *)(uintptr_t)pc : NULL;
}

static void by_libunwind(void *arg) {
    unw_context_t context;
    unw_cursor_t  cursor;
    unw_getcontext(&context);
    unw_init_local(&cursor, &context);
    void *last = unwind(&cursor, arg);
    CHECK(last != NULL && is_base(last));
    CHECK_WITHIN(*(int *)arg, 6, 20);
}

TEST_G(libunwind, "U libunwind stops at the base frame of a goroutine") {
    check_keeps_fds(); /* it has some of its own */
    in_goroutine(from_a_goroutine, by_libunwind);
    in_goroutine(goes_there, by_libunwind);
}
#else
TEST(libunwind, "U libunwind stops at the base frame of a goroutine") { check_skip("libunwind is not installed"); }
#endif

/* -- By frame pointers, as perf does ------------------------------------------------------ */

typedef struct frame {
    struct frame *outer;
    void         *pc;
} frame;

static void by_frame_pointer(void *arg) {
    void *last = NULL;
    int   n = 0;
    for (frame *f = __builtin_frame_address(0); f && n < MOST; f = f->outer, n++) last = f->pc;
    *(int *)arg = n;
    CHECK_WITHIN(n, 6, 20);
    CHECK(is_base(last));
}

TEST_G(frame_pointers, "U a walk by frame pointers stops at the base frame of a goroutine") {
    in_goroutine(from_a_goroutine, by_frame_pointer);
    in_goroutine(goes_there, by_frame_pointer);
}

/* -- From each instruction of the switch ---------------------------------------------------- */

#ifdef __x86_64__
/* The processor's single-step flag: a SIGTRAP after each instruction. */
enum { TRAP_FLAG = 0x100 };

static struct {
    int places;               /* in the switch */
    int at_base, at_thread;   /* walks from there that ended at a goroutine's base; at a thread's */
    int by_libunwind;         /* those of libunwind that ended well */
} seen;

static atomic_int stepping;

static int in_the_switch(void *pc) {
    return is_within(pc, (void (*)(void))tdl_switch, 48) || is_base(pc) ||
           is_within(pc, (void (*)(void))tdl_switch_call, 36);
}

static void on_step(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    (void)sig, (void)info;
    /* the goroutine may have gone to another thread, and left the flag behind */
    if (!atomic_load(&stepping)) uc->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
    if (!in_the_switch((void *)uc->uc_mcontext.gregs[REG_RIP])) return;
    seen.places++;
    trace t = walk();
    int   main_at = 0;
    for (int i = 0; i < t.n; i++) main_at |= is_within(t.pc[i], (void (*)(void))tdl_m_main, 4096);
    seen.at_base += is_base(t.pc[t.n - 1]);
    seen.at_thread += main_at && t.n < MOST;
#ifdef HAVE_LIBUNWIND
    unw_cursor_t cursor;
    int          steps;
    if (unw_init_local2(&cursor, (unw_context_t *)uc, UNW_INIT_SIGNAL_FRAME) == 0 && unwind(&cursor, &steps))
        seen.by_libunwind++;
#endif
}

static inline void step(int on) {
    if (on)
        __asm__ volatile("pushfq; orq %0, (%%rsp); popfq" ::"i"(TRAP_FLAG) : "memory", "cc");
    else
        __asm__ volatile("pushfq; andq %0, (%%rsp); popfq" ::"i"(~TRAP_FLAG) : "memory", "cc");
}

static void yields(void *arg) {
    for (int i = 0; i < 20; i++) tdl_yield();
    (void)arg;
}

static void nothing(void *arg) { (void)arg; }

TEST_G(each_instruction, "U from each instruction of a switch the stack can be unwound") {
    struct sigaction sa = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    int              procs = tdl_gomaxprocs(0);
    if (procs > 1) return check_skip("the flag is a thread's: with one processor only");
    if (!find_unwinder()) return check_skip("there is no libgcc_s.so.1");
    walk(); /* loads what it needs */
    check_keeps_fds();
    sigaction(SIGTRAP, &sa, NULL); /* stays */
    atomic_store(&stepping, 1);
    tdl_g *g = go_joinable(yields, NULL);
    /* once on, it is on in each goroutine of the thread; but so slow a goroutine may lose its P, and go on elsewhere */
    for (int i = 0; i < 50 && seen.places < 100; i++) {
        step(1);
        tdl_yield();
        step(1);
        tdl_system_stack(nothing, NULL);
        step(1);
        tdl_sleep(1);
    }
    step(0);
    atomic_store(&stepping, 0);
    CHECK_RC(tdl_join(g), 0);
    CHECK_WITHIN(seen.places, 30, 100000);
    CHECK_WITHIN(seen.at_base, 10, seen.places);
    CHECK_INT(seen.at_base + seen.at_thread, seen.places);
#ifdef HAVE_LIBUNWIND
    CHECK_INT(seen.by_libunwind, seen.places);
#endif
}
#endif

/* -- gdb ---------------------------------------------------------------------------------------- */

/* Runs the command; what it wrote. */
static void output_of(const char *command, char *text, size_t size) {
    FILE *f = popen(command, "r");
    REQUIRE(f != NULL);
    size_t n = fread(text, 1, size - 1, f);
    text[n] = '\0';
    pclose(f);
}

/* The n-th back trace of gdb's output must have these functions in this order,
 * the last of them in its last frame. */
static void trace_has(const char *text, int n, const char *const *names) {
    const char *at = text;
    for (; n > 0 && at; n--) at = strstr(at + 1, "\n#0 ");
    REQUIRE(at != NULL);
    for (; *names; names++) {
        const char *found = strstr(at, *names);
        if (!CHECK(found != NULL)) fprintf(stderr, "%s is missing in:\n%s\n", *names, text);
        if (!found) return;
        at = found;
    }
    const char *end = strchr(at, '\n');
    if (!CHECK(end != NULL && end[1] != '#')) fprintf(stderr, "goes on after the base:\n%s\n", text);
}

TEST(gdb, "U gdb shows a goroutine's frames down to its base and no further") {
    static char text[64 * 1024];
#ifdef UNDER_EMULATOR
    return check_skip("gdb does not see into the emulator");
#endif
    if (system("gdb --version >/dev/null 2>&1") != 0) return check_skip("gdb is not installed");
    check_limit(60);
    output_of("DEBUGINFOD_URLS= gdb -nx -batch -ex 'set width 0' -ex 'break stop_here' -ex run -ex bt -ex continue -ex bt -ex kill "
              UNWIND_PROGRAM " 2>&1", text, sizeof text);
    if (strstr(text, "ptrace: Operation not permitted")) return check_skip("processes may not be traced here");
    static const char *const plain[] = { "stop_here", "inner", "outer", "goroutine", "tdl_g_entry", "tdl_switch_start", NULL };
    static const char *const over[] = { "stop_here", "inner", "tdl_system_stack", "outer", "goroutine", "tdl_g_entry",
                                        "tdl_switch_start", NULL };
    trace_has(text, 1, plain);
    trace_has(text, 2, over);
    CHECK(strstr(text, "Backtrace stopped") == NULL);
    CHECK(strstr(text, "corrupt") == NULL);
}
