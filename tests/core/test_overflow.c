/* SPDX-License-Identifier: MIT
 * Stack overflows: each ends the program that has it with a report, 100 of 100. */
#include "check.h"

#include <fcntl.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef UNDER_EMULATOR
enum { HUNDRED = 20 };
#else
enum { HUNDRED = 100 };
#define EMULATOR
#endif

static int matches(const char *text, const char *pattern) {
    regex_t re;
    REQUIRE(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) == 0);
    int r = regexec(&re, text, 0, NULL, 0);
    regfree(&re);
    return r == 0;
}

/* An emulator has a word to say, too, when its program dies. */
static void drop_lines(char *text, const char *with) {
    for (char *at; (at = strstr(text, with)) != NULL;) {
        char *end = strchr(at, '\n');
        memmove(at, end ? end + 1 : at + strlen(at), end ? strlen(end + 1) + 1 : 1);
    }
}

/* Runs the program; what it wrote to stderr, and how it ended. */
static int run(char **argv, char *text, size_t size) {
    int fd[2], status = 0;
    REQUIRE(pipe(fd) == 0);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none);
        dup2(fd[1], STDERR_FILENO);
        close(fd[0]);
        close(fd[1]);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(fd[1]);
    size_t n = 0;
    for (ssize_t r; n < size - 1 && (r = read(fd[0], text + n, size - 1 - n)) > 0;) n += (size_t)r;
    text[n] = '\0';
    close(fd[0]);
    REQUIRE(waitpid(pid, &status, 0) == pid);
    drop_lines(text, "qemu: uncaught target signal");
    return status;
}

static int ends_in_report(const char *kind, size_t frame, size_t stack, int which) {
    char  text[1000], want[300], f[20], s[20], w[20];
    char *argv[] = { EMULATOR OVERFLOW_PROGRAM, (char *)kind, f, s, w, NULL };
    snprintf(f, sizeof f, "%zu", frame);
    snprintf(s, sizeof s, "%zu", stack);
    snprintf(w, sizeof w, "%d", which);
    int status = run(argv, text, sizeof text);
    snprintf(want, sizeof want,
             "^fatal error: stack overflow: goroutine [0-9]+ \\(digger %d\\) has used up its %zu KiB; "
             "it was created by goroutine [0-9]+ at spawns_diggers\\+0x[0-9a-f]+ \\(.*overflow\\+0x[0-9a-f]+\\)\n$",
             which, stack ? stack / 1024 : 64);
    int ok = WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV && matches(text, want);
    if (!ok) fprintf(stderr, "%s frame %zu stack %zu: status %#x, said: %s\n", kind, frame, stack, status, text);
    return ok;
}

TEST(hundred, "F6 100 of 100 overflows end in a report that names the goroutine and who made it") {
    static const size_t stacks[] = { 0, 16384, 65536, 262144, 1048576 };
    uint64_t            seed = 42;
    int                 told = 0;
    check_limit(60);
    for (int i = 0; i < HUNDRED; i++)
        told += ends_in_report(i % 10 ? "stack" : "protect", 16 + random_next(&seed) % 3500, stacks[i % 5], i % 20);
    CHECK_INT(told, HUNDRED);
}

TEST(null, "F6 a null pointer is no overflow, and ends the program as it would have") {
    char  text[1000];
    char *argv[] = { EMULATOR OVERFLOW_PROGRAM, "null", NULL };
    int   status = run(argv, text, sizeof text);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    CHECK(strstr(text, "fatal error") == NULL);
}
