# SPDX-License-Identifier: MIT
"""refs.py [--rounds N] [SCENARIO…]: nothing grows, round by round.

Each scenario of the package `everything` is repeated, in a goroutine of treadle.run's, in a task on
treadle's loop and, where it can be, on asyncio's own loop. After each round everything is
collected and counted: references (in a debug build of Python: sys.gettotalrefcount), blocks
of Python's allocators, descriptors, and what the core has. What grows with each of the last
rounds leaks."""

from __future__ import annotations

import argparse
import array
import gc
import os
import sys
import warnings

import everything
import treadle

METRICS = ("goroutines", "tasks", "channels", "connections", "listeners", "timers", "contexts", "datagrams",
           "descriptors")  # fmt: skip
KNOWN = {("shared_channels", "references"): 1}  # msgpack.packb leaves one
DRIVERS = {"run": everything.in_run, "loop": everything.in_loop, "guest": everything.in_guest}


def counts() -> dict[str, int]:
    for _ in range(3):
        gc.collect()
    sys._clear_type_cache()  # type: ignore[attr-defined,unused-ignore]
    found = {
        "blocks": sys.getallocatedblocks(),
        "descriptors open": len(os.listdir("/proc/self/fd")),
        **{name: treadle.metric(name) for name in METRICS},
    }
    if hasattr(sys, "gettotalrefcount"):
        found["references"] = sys.gettotalrefcount()
    return found


def grown(name: str, how: str, rounds: int) -> list[str]:
    """What leaks, in words."""
    drive = DRIVERS[how]
    for _ in range(4):  # caches, freelists, what is imported late
        drive(name)
    names = list(counts())
    rows = [array.array("q", [0] * len(names)) for _ in range(rounds + 1)]  # so that counting allocates nothing
    for row in rows:
        for i, number in enumerate(counts().values()):
            row[i] = number
        drive(name)
    wrong = []
    for i, what in enumerate(names):
        steps = [after[i] - before[i] for before, after in zip(rows[1:], rows[2:])]
        if all(step > KNOWN.get((name, what), 0) for step in steps[-4:]):
            wrong.append(f"{what} {steps}")
    return wrong


def collecting(names: list[str]) -> int:
    """Each scenario with a collection at each call and each return, of Python functions and C's."""
    gc.freeze()
    for name in names:
        for how, drive in DRIVERS.items():
            if how == "guest" and name in everything.OWN_LOOP:
                continue
            sys.setprofile(lambda frame, event, arg: gc.collect() and None)
            try:
                drive(name)
            finally:
                sys.setprofile(None)
        print(name, flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="SCENARIO")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--how", choices=list(DRIVERS), action="append")
    parser.add_argument("--collect", action="store_true", help="collect at each call, and count nothing")
    args = parser.parse_args()
    warnings.simplefilter("error", ResourceWarning)
    everything.tls_contexts()
    if args.collect:
        return collecting(args.names or [*everything.SCENARIOS, *everything.WHOLE])
    bad = good = 0
    for name in args.names or [*everything.SCENARIOS, *everything.WHOLE]:
        for how in args.how or DRIVERS:
            if how != "run" and name in everything.WHOLE or how == "guest" and name in everything.OWN_LOOP:
                continue
            wrong = grown(name, how, args.rounds)
            bad, good = bad + bool(wrong), good + (not wrong)
            print(f"{name:22} {how:6} " + ("; ".join(wrong) or "nothing grows"), flush=True)
    print(f"\n{good} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
