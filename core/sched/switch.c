/* SPDX-License-Identifier: MIT
 *
 * The switch for x86-64 and aarch64, and over ucontext for the rest.
 *
 * The bottom frame of a goroutine has no caller: its return address and frame
 * pointer are 0, and its unwind information says that the return address is
 * undefined, so debuggers and profilers stop there.
 */
#include "sched/switch.h"

#include <stdint.h>
#include <string.h>

#include "sys/base.h"

/* Below the stack pointer of a stack that was left nothing is in use; the gap is
 * for whoever looks at it (a red zone). */
#define GAP 128

#if !defined(TDL_SWITCH_PORTABLE) && !defined(__x86_64__) && !defined(__aarch64__)
#define TDL_SWITCH_PORTABLE 1
#endif

#ifndef TDL_SWITCH_PORTABLE

void tdl_switch_start(void);

/* Where a new goroutine begins: behind the first instruction of
 * tdl_switch_start, for unwinders look up what lies before a return address. */
static inline uintptr_t begin(int nop) { return (uintptr_t)tdl_switch_start + (uintptr_t)nop; }

/* A hidden function in the text section, in ELF's words and in Mach-O's. */
#ifdef __APPLE__
#define TEXT       ".text\n"
#define TEXT_END   ""
#define BEGIN(f)   ".globl _" f "\n.private_extern _" f "\n.p2align 4\n_" f ":\n"
#define END(f)     ""
#else
#define TEXT       ".pushsection .text\n"
#define TEXT_END   ".popsection\n"
#define BEGIN(f)   ".globl " f "\n.hidden " f "\n.type " f ", %function\n" f ":\n"
#define END(f)     ".size " f ", .-" f "\n"
#endif

#endif

#if defined(TDL_SWITCH_PORTABLE) /* a context at the top of each stack, two system calls a switch */

#include <ucontext.h>

/* Unseen by ASan, which would have `here` elsewhere than on this stack. */
__attribute__((no_sanitize("address"))) TDL_NO_TSAN void tdl_switch(void **save_sp, void *load_sp) {
    ucontext_t here;
    *save_sp = &here;
    swapcontext(&here, (ucontext_t *)load_sp);
}

enum { ROOM = 4096 }; /* as if a stack had this size: only its end is used */

void *tdl_switch_prepare(void *low, size_t size, void (*entry)(void)) {
    size_t room = (sizeof(ucontext_t) + 63) & ~(size_t)63;
    ucontext_t *uc = (ucontext_t *)((((uintptr_t)low + size) & ~(uintptr_t)15) - room);
    getcontext(uc);
    uc->uc_stack.ss_sp = (char *)uc - ROOM;
    uc->uc_stack.ss_size = ROOM;
    uc->uc_link = NULL;
    makecontext(uc, entry, 0);
    return uc;
}

/* A context of its own: makecontext passes no pointers, so the two words come
 * in ints. The context of a stack that was left lies in tdl_switch's frame there;
 * what is below it is swapcontext's, and no longer in use. */
struct over {
    ucontext_t back;
    void (*fn)(void *);
    void *arg;
};

static void over(unsigned high, unsigned low) {
    struct over *o = (void *)(((uintptr_t)high << 16 << 16) | low);
    o->fn(o->arg);
    setcontext(&o->back);
}

void tdl_switch_call(void *left_sp, void (*fn)(void *), void *arg) {
    struct over o = {.fn = fn, .arg = arg};
    ucontext_t uc;
    getcontext(&uc);
    uc.uc_stack.ss_sp = (char *)left_sp - GAP - 1024 - ROOM;
    uc.uc_stack.ss_size = ROOM;
    uc.uc_link = NULL;
    uintptr_t at = (uintptr_t)&o;
    makecontext(&uc, (void (*)(void))over, 2, (unsigned)(at >> 16 >> 16), (unsigned)at);
    swapcontext(&o.back, &uc);
}

#elif defined(__x86_64__)

__asm__(TEXT
        BEGIN("tdl_switch")
        "  .cfi_startproc\n"
        "  endbr64\n"
        "  pushq %rbp\n  .cfi_adjust_cfa_offset 8\n  .cfi_rel_offset rbp, 0\n"
        "  pushq %rbx\n  .cfi_adjust_cfa_offset 8\n  .cfi_rel_offset rbx, 0\n"
        "  pushq %r12\n  .cfi_adjust_cfa_offset 8\n  .cfi_rel_offset r12, 0\n"
        "  pushq %r13\n  .cfi_adjust_cfa_offset 8\n  .cfi_rel_offset r13, 0\n"
        "  pushq %r14\n  .cfi_adjust_cfa_offset 8\n  .cfi_rel_offset r14, 0\n"
        "  pushq %r15\n  .cfi_adjust_cfa_offset 8\n  .cfi_rel_offset r15, 0\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n" /* the frames of both stacks have one layout */
        "  popq %r15\n  .cfi_adjust_cfa_offset -8\n  .cfi_restore r15\n"
        "  popq %r14\n  .cfi_adjust_cfa_offset -8\n  .cfi_restore r14\n"
        "  popq %r13\n  .cfi_adjust_cfa_offset -8\n  .cfi_restore r13\n"
        "  popq %r12\n  .cfi_adjust_cfa_offset -8\n  .cfi_restore r12\n"
        "  popq %rbx\n  .cfi_adjust_cfa_offset -8\n  .cfi_restore rbx\n"
        "  popq %rbp\n  .cfi_adjust_cfa_offset -8\n  .cfi_restore rbp\n"
        "  ret\n"
        "  .cfi_endproc\n"
        END("tdl_switch")
        BEGIN("tdl_switch_start") /* rbx: entry */
        "  .cfi_startproc\n"
        "  .cfi_undefined rip\n"
        "  nop\n" /* see begin */
        "  xorl %ebp, %ebp\n"
        "  callq *%rbx\n"
        "  ud2\n"
        "  .cfi_endproc\n"
        END("tdl_switch_start")
        /* a signal frame, for to a debugger two frames of one stack must not
         * be in the wrong order, and the two stacks may be */
        BEGIN("tdl_switch_call")
        "  .cfi_startproc\n"
        "  .cfi_signal_frame\n"
        "  endbr64\n"
        "  pushq %rbp\n  .cfi_def_cfa_offset 16\n  .cfi_offset rbp, -16\n"
        "  movq %rsp, %rbp\n  .cfi_def_cfa_register rbp\n"
        "  leaq -128(%rdi), %rsp\n" /* GAP */
        "  andq $-16, %rsp\n"
        "  movq %rdx, %rdi\n"
        "  callq *%rsi\n"
        "  movq %rbp, %rsp\n"
        "  popq %rbp\n  .cfi_def_cfa rsp, 8\n"
        "  ret\n"
        "  .cfi_endproc\n"
        END("tdl_switch_call")
        TEXT_END);

void *tdl_switch_prepare(void *low, size_t size, void (*entry)(void)) {
    uintptr_t *sp = (uintptr_t *)(((uintptr_t)low + size) & ~(uintptr_t)15) - 9;
    /* 0 to 3: r15 to r12, of no matter */
    sp[4] = (uintptr_t)entry; /* rbx */
    sp[5] = 0;                /* rbp */
    sp[6] = begin(1);         /* where tdl_switch returns to */
    sp[7] = 0;                /* keeps the call in tdl_switch_start aligned */
    sp[8] = 0;                /* end of the chain */
    return sp;
}

#else /* aarch64 */

__asm__(TEXT
        BEGIN("tdl_switch")
        "  .cfi_startproc\n"
        "  hint #34\n" /* bti c */
        "  sub sp, sp, #160\n  .cfi_adjust_cfa_offset 160\n"
        "  stp x29, x30, [sp]\n  .cfi_rel_offset x29, 0\n  .cfi_rel_offset x30, 8\n"
        "  stp x19, x20, [sp, #16]\n"
        "  stp x21, x22, [sp, #32]\n"
        "  stp x23, x24, [sp, #48]\n"
        "  stp x25, x26, [sp, #64]\n"
        "  stp x27, x28, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]\n"
        "  stp d10, d11, [sp, #112]\n"
        "  stp d12, d13, [sp, #128]\n"
        "  stp d14, d15, [sp, #144]\n"
        "  mov x9, sp\n"
        "  str x9, [x0]\n"
        "  mov sp, x1\n"
        "  ldp x29, x30, [sp]\n"
        "  ldp x19, x20, [sp, #16]\n"
        "  ldp x21, x22, [sp, #32]\n"
        "  ldp x23, x24, [sp, #48]\n"
        "  ldp x25, x26, [sp, #64]\n"
        "  ldp x27, x28, [sp, #80]\n"
        "  ldp d8, d9, [sp, #96]\n"
        "  ldp d10, d11, [sp, #112]\n"
        "  ldp d12, d13, [sp, #128]\n"
        "  ldp d14, d15, [sp, #144]\n"
        "  add sp, sp, #160\n  .cfi_adjust_cfa_offset -160\n"
        "  ret\n"
        "  .cfi_endproc\n"
        END("tdl_switch")
        BEGIN("tdl_switch_start") /* x19: entry */
        "  .cfi_startproc\n"
        "  .cfi_undefined x30\n"
        "  nop\n" /* see begin */
        "  mov x29, xzr\n"
        "  mov x30, xzr\n"
        "  blr x19\n"
        "  brk #1\n"
        "  .cfi_endproc\n"
        END("tdl_switch_start")
        BEGIN("tdl_switch_call") /* a signal frame: see above */
        "  .cfi_startproc\n"
        "  .cfi_signal_frame\n"
        "  hint #34\n" /* bti c */
        "  stp x29, x30, [sp, #-16]!\n"
        "  .cfi_def_cfa_offset 16\n  .cfi_offset x29, -16\n  .cfi_offset x30, -8\n"
        "  mov x29, sp\n  .cfi_def_cfa x29, 16\n"
        "  sub sp, x0, #128\n" /* GAP; it is aligned */
        "  mov x0, x2\n"
        "  blr x1\n"
        "  mov sp, x29\n  .cfi_def_cfa sp, 16\n"
        "  ldp x29, x30, [sp], #16\n"
        "  .cfi_def_cfa_offset 0\n  .cfi_restore x29\n  .cfi_restore x30\n"
        "  ret\n"
        "  .cfi_endproc\n"
        END("tdl_switch_call")
        TEXT_END);

void *tdl_switch_prepare(void *low, size_t size, void (*entry)(void)) {
    uintptr_t *sp = (uintptr_t *)((((uintptr_t)low + size) & ~(uintptr_t)15) - 160);
    memset(sp, 0, 160);
    sp[1] = begin(4);         /* x30 */
    sp[2] = (uintptr_t)entry; /* x19 */
    return sp;
}

#endif
