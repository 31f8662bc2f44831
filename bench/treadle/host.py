# SPDX-License-Identifier: MIT
"""A program of one Python host, to be stepped (see trace/steps.c): N task
switches between two stops. Usage: host.py WHAT N"""

import os
import signal
import sys

import treadle

what, n = sys.argv[1], int(sys.argv[2])
WARM = 1000
count = 0


def step() -> bool:
    global count
    count += 1
    if count in (WARM, WARM + n):
        os.kill(os.getpid(), signal.SIGSTOP)
    return count < WARM + n


async def yields(chan):
    while step():
        await treadle.yield_()


async def sends(chan):
    while step():
        await chan.send(1)


async def receives(chan):
    while step():
        await chan.recv()


async def sleeps(chan):
    while step():
        await treadle.sleep(1e-9)


CASES = {"yield": (yields, yields), "chan": (sends, receives), "sleep": (sleeps, sleeps)}


async def main():
    chan = treadle.Chan()
    first, second = CASES[what]
    treadle.go(second(chan))
    await first(chan)
    os._exit(0)


treadle.run(main())
