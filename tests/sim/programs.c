/* SPDX-License-Identifier: MIT
 *
 * Runs random programs under simulation, a range of seeds:
 *
 *     programs [--must-fail] FIRST COUNT [random|pct]
 *
 * A seed is a program and a run of it. The first that fails is repeated, so that
 * its report is known to be the seed's, and ends the program with status 1. With
 * --must-fail (a core with a fault on purpose) it is the other way round, and a
 * crash is as good as a failure.
 */
#include "program.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int one(uint64_t seed, int strategy, run *r, tdl_sim_report *report) {
    tdl_sim_options o = {
        .size = sizeof o, .seed = seed, .strategy = strategy, .procs = 1 + (int32_t)(seed % 5), .depth = 1 + (int32_t)(seed % 4)};
    *r = (run){.seed = seed};
    return tdl_sim_run(&o, program_main, r, report);
}

static void tell(uint64_t seed, int strategy, const run *r, const tdl_sim_report *report) {
    fprintf(stderr, "seed %" PRIu64 " (%s) fails: %s%s%s\n", seed, strategy == TDL_SIM_PCT ? "pct" : "random",
            r->v.text, report->reason && r->v.text[0] ? "; " : "", report->reason ? report->text : "");
    fprintf(stderr, "  after %" PRIu64 " steps, %" PRId64 " ns, hash %016" PRIx64 "; replay: programs %" PRIu64 " 1 %s\n%s",
            report->steps, report->ns, report->hash, seed, strategy == TDL_SIM_PCT ? "pct" : "random", report->dump);
}

/* In a process of its own, since it may crash: 0 when it failed. */
static int must_fail(char **argv) {
    pid_t pid = fork();
    if (pid == 0) {
        execv(argv[0], argv);
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    bool failed = WIFSIGNALED(status) || WEXITSTATUS(status) != 0;
    fputs(failed ? "found, as it must be\n" : "not found\n", stderr);
    return !failed;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--must-fail") == 0) {
        argv[1] = argv[0];
        return must_fail(argv + 1);
    }
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 0, count = argc > 2 ? strtoull(argv[2], NULL, 0) : 1000;
    const char *only = argc > 3 ? argv[3] : "";
    uint64_t steps = 0, switches = 0, operations = 0, quiet = 0, runs = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        for (int strategy = TDL_SIM_RANDOM; strategy <= TDL_SIM_PCT; strategy++) {
            if (only[0] && strcmp(only, strategy == TDL_SIM_PCT ? "pct" : "random") != 0) continue;
            if (!only[0] && (int)(seed % 2) != strategy) continue;
            run r;
            tdl_sim_report report;
            int code = one(seed, strategy, &r, &report);
            if (code != 0) {
                tell(seed, strategy, &r, &report);
                uint64_t hash = report.hash;
                if (one(seed, strategy, &r, &report) != code || report.hash != hash)
                    fprintf(stderr, "  and a second run of it is another: hash %016" PRIx64 "\n", report.hash);
                return 1;
            }
            runs++;
            steps += report.steps;
            switches += report.switches;
            operations += (uint64_t)r.v.operations;
            quiet += (uint64_t)r.v.quiet;
        }
    }
    printf("%" PRIu64 " runs, each right: %" PRIu64 " steps, %" PRIu64 " switches, %" PRIu64 " operations, all asleep %" PRIu64
           " times\n", runs, steps, switches, operations, quiet);
    return 0;
}
