/* SPDX-License-Identifier: MIT
 * Steps a program instruction by instruction and counts what its main thread
 * does between the first and the second time it stops itself with SIGSTOP.
 *
 * steps PROGRAM ARGUMENT…
 *
 * Prints "instructions N", "atomic N" (read-modify-writes: a lock prefix, or an
 * exchange with memory), "systemcalls N" (without those of stopping), "threads N" (the most that there were
 * at the two stops), and for each function with atomic ones "in NAME N". The
 * program's own output is not shown. x86-64 only. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "symbols.h"

enum { MAX_FUNCTIONS = 256, MAX_CODE = 15 };

static struct {
    long instructions, atomic, systemcalls;
} count;

static struct {
    char name[96];
    long n;
} functions[MAX_FUNCTIONS];
static int nfunctions;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* -- Decoding --------------------------------------------------------------- */

enum { PLAIN, ATOMIC, SYSTEM_CALL };

/* Enough of the encoding for the three kinds: legacy prefixes, REX, opcode. */
static int kind_of(const uint8_t *code)
{
    bool locked = false;
    int i = 0;
    for (; i < MAX_CODE; i++) {
        uint8_t b = code[i];
        if (b == 0xf0)
            locked = true;
        else if (b != 0x66 && b != 0x67 && b != 0xf2 && b != 0xf3 && (b & 0xe7) != 0x26 && (b & 0xfe) != 0x64)
            break;
    }
    if (i < MAX_CODE && (code[i] & 0xf0) == 0x40)
        i++;
    if (i + 1 >= MAX_CODE)
        return PLAIN;
    if (locked)
        return ATOMIC;
    if ((code[i] & 0xfe) == 0x86 && code[i + 1] < 0xc0) /* xchg with memory locks by itself */
        return ATOMIC;
    return code[i] == 0x0f && code[i + 1] == 0x05 ? SYSTEM_CALL : PLAIN;
}

static void charge(pid_t pid, uint64_t address)
{
    char name[sizeof functions->name];
    int i = 0;
    symbol_at(pid, address, name, sizeof name);
    while (i < nfunctions && strcmp(functions[i].name, name) != 0)
        i++;
    if (i == MAX_FUNCTIONS)
        return;
    if (i == nfunctions)
        strcpy(functions[nfunctions++].name, name);
    functions[i].n++;
}

static bool of_stopping(uint64_t number)
{
    return number == SYS_rt_sigprocmask || number == SYS_tgkill || number == SYS_kill || number == SYS_getpid ||
           number == SYS_gettid;
}

static void look(pid_t pid)
{
    static uint64_t before;
    struct user_regs_struct regs;
    uint8_t code[MAX_CODE + 1] = { 0 };
    if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
        fail("PTRACE_GETREGS");
    if (regs.rip == before)
        return; /* a repeated string instruction stops after each round */
    before = regs.rip;
    struct iovec here = { code, MAX_CODE }, there = { (void *)(uintptr_t)regs.rip, MAX_CODE };
    /* short at the end of a mapping: what was read is enough */
    if (process_vm_readv(pid, &here, 1, &there, 1, 0) < 0 && regs.rip < UINT64_C(1) << 47)
        return; /* vsyscall page */
    count.instructions++;
    switch (kind_of(code)) {
    case ATOMIC:
        count.atomic++;
        charge(pid, regs.rip);
        break;
    case SYSTEM_CALL:
        count.systemcalls += !of_stopping(regs.rax);
        break;
    }
}

/* -- Driving ---------------------------------------------------------------- */

static int threads_of(pid_t pid)
{
    char path[64];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    if (d == NULL)
        fail(path);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void resume(pid_t pid, int how, int signal_number)
{
    if (ptrace(how, pid, NULL, (void *)(uintptr_t)signal_number) < 0)
        fail("ptrace");
}

/* The signal it stopped with; 0 when it has ended. */
static int stopped(pid_t pid)
{
    int status;
    if (waitpid(pid, &status, 0) != pid)
        fail("waitpid");
    if (WIFSTOPPED(status))
        return WSTOPSIG(status);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "steps: the program failed (status %#x)\n", (unsigned)status);
        exit(1);
    }
    return 0;
}

/* Lets it go, stepping or not, to its next SIGSTOP; its other signals reach it. */
static void until_mark(pid_t pid, bool stepping)
{
    int how = stepping ? PTRACE_SINGLESTEP : PTRACE_CONT, sig = 0;
    for (;;) {
        resume(pid, how, sig);
        sig = stopped(pid);
        if (sig == 0) {
            fprintf(stderr, "steps: the program ended before its second SIGSTOP\n");
            exit(1);
        }
        if (sig == SIGSTOP)
            return;
        if (sig == SIGTRAP)
            sig = 0;
        if (stepping)
            look(pid);
    }
}

/* Each step is a switch to the program and back: ten times as quick on one processor. */
static void stay(void)
{
    cpu_set_t one;
    int cpu = sched_getcpu();
    CPU_ZERO(&one);
    CPU_SET(cpu < 0 ? 0 : cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void start(char **argv)
{
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDOUT_FILENO);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    execvp(argv[0], argv);
    fail(argv[0]);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: steps PROGRAM ARGUMENT…\n");
        return 2;
    }
    stay();
    pid_t pid = fork();
    if (pid == 0)
        start(argv + 1);
    if (stopped(pid) != SIGTRAP)
        return 1; /* the exec itself */
    ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(uintptr_t)PTRACE_O_EXITKILL);
    until_mark(pid, false);
    int threads = threads_of(pid);
    until_mark(pid, true);
    if (threads_of(pid) > threads)
        threads = threads_of(pid);
    printf("instructions %ld\natomic %ld\nsystemcalls %ld\nthreads %d\n", count.instructions, count.atomic,
           count.systemcalls, threads);
    for (int i = 0; i < nfunctions; i++)
        printf("in %s %ld\n", functions[i].name, functions[i].n);
    kill(pid, SIGKILL);
    return 0;
}
