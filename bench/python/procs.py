# SPDX-License-Identifier: MIT
"""How many times as fast goroutines that compute are done on two Ps as on one; and, the second line,
the same of threads without treadle: what the interpreter and the machine give. Needs a free-threaded
Python."""

import sys
import threading
import time

import treadle


def compute(n):
    total = 0
    for i in range(n):
        total += i * i % 7
    return total


async def one(n):
    return compute(n)


async def main(goroutines, n):
    start = time.perf_counter()
    for g in [treadle.go(one(n)) for _ in range(goroutines)]:
        await g
    return time.perf_counter() - start


def seconds(procs, goroutines, n):
    return treadle.run(main(goroutines, n), procs=procs)


def in_threads(threads, calls, n):
    def work():
        for _ in range(calls // threads):
            compute(n)

    start = time.perf_counter()
    all_ = [threading.Thread(target=work) for _ in range(threads)]
    for t in all_:
        t.start()
    for t in all_:
        t.join()
    return time.perf_counter() - start


if __name__ == "__main__":
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        sys.exit("needs a free-threaded Python, without its lock")
    best = {}
    for _ in range(5):  # alternating, the best of each: others' work only makes it slower
        for name, f, k in (("goroutines", seconds, 1), ("goroutines", seconds, 2),
                           ("threads", in_threads, 1), ("threads", in_threads, 2)):  # fmt: skip
            best[name, k] = min(best.get((name, k), 1e9), f(k, 40, 100_000))
    for name in ("goroutines", "threads"):
        print(best[name, 1] / best[name, 2])
