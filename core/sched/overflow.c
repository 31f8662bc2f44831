/* SPDX-License-Identifier: MIT
 *
 * A goroutine that runs out of its stack touches the guard below it. The
 * signal is handled on a stack of the M's own (there is no room on the other),
 * says whose stack it was, and ends the process as the fault would have. A
 * fault anywhere else goes to whoever had the signal before us.
 */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "sched/census.h"
#include "sched/sched.h"
#include "sched/stack.h"
#include "sys/sys.h"
#include "sys/text.h"

static struct sigaction before;

/* In one piece, so that what several threads say does not mix. */
static void say(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;
}

static void report(tdl_g *g) {
    char line[512];
    tdl_text t = tdl_text_in(line, sizeof line - 1);
    tdl_text_add(&t, "fatal error: stack overflow: goroutine ");
    tdl_text_number(&t, g->id, 10);
    if (g->named) {
        tdl_text_add(&t, " (");
        tdl_text_add(&t, tdl_g_name(g));
        tdl_text_add(&t, ")");
    }
    tdl_text_add(&t, " has used up its ");
    tdl_text_number(&t, tdl_stack_size(g->stack) / 1024, 10);
    tdl_text_add(&t, " KiB; it was created");
    if (g->parent) {
        tdl_text_add(&t, " by goroutine ");
        tdl_text_number(&t, g->parent, 10);
    }
    tdl_text_add(&t, " at ");
    tdl_text_code(&t, g->site);
    strcpy(t.at, "\n");
    say(line);
}

static void on_fault(int sig, siginfo_t *info, void *context) {
    (void)context;
    tdl_g *g = tdl_stack_guarding(info->si_addr);
    if (g) {
        report(g);
        signal(sig, SIG_DFL);
    } else {
        sigaction(sig, &before, NULL);
    }
    /* back: the access is made again, and faults for good */
}

void tdl_overflow_watch(void) {
    static _Atomic int done;
    tdl_census_run_starts();
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
