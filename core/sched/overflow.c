/* SPDX-License-Identifier: MIT
 *
 * A goroutine that runs out of its stack touches the guard below it. The
 * signal is handled on a stack of the M's own (there is no room on the other),
 * says whose stack it was, and ends the process as the fault would have. A
 * fault anywhere else goes to whoever had the signal before us.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sched/sched.h"
#include "sched/stack.h"
#include "sys/sys.h"

static struct sigaction before;

/* Only what a signal handler may call. */
static void say(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;
}

static void say_number(uint64_t n) {
    char digits[21];
    int at = sizeof digits - 1;
    digits[at] = '\0';
    do
        digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    say(&digits[at]);
}

static void on_fault(int sig, siginfo_t *info, void *context) {
    (void)context;
    tdl_g *g = tdl_stack_guarding(info->si_addr);
    if (g) {
        say("fatal error: stack overflow: goroutine ");
        say_number(g->id);
        if (g->name[0]) {
            say(" (");
            say(g->name);
            say(")");
        }
        say(" has used up its 64 KiB");
        if (g->parent) {
            say("; it was created by goroutine ");
            say_number(g->parent);
        }
        say("\n");
        signal(sig, SIG_DFL);
    } else {
        sigaction(sig, &before, NULL);
    }
    /* back: the access is made again, and faults for good */
}

void tdl_overflow_watch(void) {
    static _Atomic int done;
    if (at_xchg_seq(&done, 1)) return;
#if !defined(TDL_ASAN) && !defined(TDL_TSAN) /* they report it themselves */
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGSEGV, &sa, &before);
#else
    (void)on_fault;
#endif
}

/* A signal's frame alone takes 12 KiB where the processor has the widest registers. */
enum { SIGNAL_STACK = 64 * 1024 };

void tdl_overflow_thread(tdl_m *m) {
    m->signal_stack = tdl_sys.map(SIGNAL_STACK);
    if (!m->signal_stack) return; /* then an overflow is a plain fault */
    stack_t alt = {.ss_sp = m->signal_stack, .ss_size = SIGNAL_STACK};
    sigaltstack(&alt, NULL);
}

void tdl_overflow_thread_ends(tdl_m *m) {
    if (!m->signal_stack) return;
    stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
    tdl_sys.unmap(m->signal_stack, SIGNAL_STACK);
}
