#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the benchmarks of treadle and of Go side by side and prints tables.

The repetitions are interleaved (treadle, Go, treadle, Go, …), so that a slow
moment of the machine hits both, and each ratio is taken within a repetition.
Every figure is given as minimum / median / maximum; a goal is judged by the
median, and a missed one is no failure.
"""

import argparse
import time

from cases import CASES, Case, Setting
from echo_cost import EchoCost
from net_cost import AcceptCost, HttpCost, ServerCost, ShortCost
from measure import Failed, Numbers, progress, spread, table
from counts import count_instructions, count_signals, trace_host

EXTRA = {"echo": "server CPU per request", "short": "short connections", "accept": "accepting alone",
         "http": "HTTP under wrk", "host": "instruction trace of a program of one host"}


def names() -> list[str]:
    return [*dict.fromkeys(case.key for case in CASES), *EXTRA]


class Results:
    """What came of each row, per side; a repetition counts only as a whole."""

    def __init__(self, cases: list[Case]):
        self.cases = cases
        self.ours: dict[int, list[Numbers]] = {id(c): [] for c in cases}
        self.theirs: dict[int, list[Numbers]] = {id(c): [] for c in cases}

    def measure(self, case: Case, setting: Setting) -> None:
        for side, found in enumerate((self.ours, self.theirs)):
            try:
                found[id(case)].append(case.measure(setting, side))
            except Failed as failure:
                progress(f"failed: {failure}")
                found[id(case)].append([])

    def print(self) -> None:
        rows = []
        for case in self.cases:
            for i, row in enumerate(case.rows):
                pairs = list(zip(self.ours[id(case)], self.theirs[id(case)]))
                ours = [o[i] for o, _ in pairs if o]
                theirs = [t[i] for _, t in pairs if t]
                ratios = [t[i] / o[i] for o, t in pairs if o and t and o[i] > 0]
                rows.append([row.name, row.unit, spread(ours), spread(theirs), spread(ratios),
                             row.goal.verdict(ours, ratios) if row.goal else ""])
        table("treadle beside Go (min / median / max)",
              ["operation", "unit", "treadle", "Go", "Go ÷ treadle", "goal"], rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of: {' '.join(names())}")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--go", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run of an echo server")
    parser.add_argument("--hosts", action="store_true", help="Lua and Python too, where they have their part")
    parser.add_argument("--instructions", action="store_true",
                        help="count instructions (valgrind) instead of measuring time, where that can be done")
    options = parser.parse_args()
    unknown = set(options.names) - set(names())
    if unknown:
        parser.error(f"no such benchmark: {' '.join(sorted(unknown))}")
    options.names = options.names or names()
    return options


def main() -> None:
    options = arguments()
    begin = time.monotonic()
    setting = Setting(options.build, options.go, options.seconds)
    cases = [case for case in CASES if case.key in options.names]
    if options.instructions:
        count_instructions(cases, setting)
        return
    results = Results(cases)
    echo = EchoCost(options.build, options.go, options.seconds, options.hosts) if "echo" in options.names else None
    kinds = {"short": ShortCost, "accept": AcceptCost, "http": HttpCost}
    costs: list[ServerCost] = [kind(options.build, options.go, options.seconds, options.hosts)
                               for name, kind in kinds.items() if name in options.names]
    for rep in range(options.reps):
        for case in cases:
            progress(f"{rep + 1} of {options.reps}: {' '.join(case.arguments)}")
            results.measure(case, setting)
        if echo:
            echo.measure()
        for cost in costs:
            cost.measure()
    if cases:
        results.print()
    if echo:
        echo.print()
    for cost in costs:
        cost.print()
    if "hog" in options.names:
        count_signals(setting)
    if "host" in options.names:
        trace_host(setting, options.hosts)
    progress(f"done in {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
