# SPDX-License-Identifier: MIT
"""How many times as much two workers do as one: goroutines that hand values over
channels, each worker as many, on two cores."""

import time

import treadle


async def work(n, begin):
    """The seconds that it takes, once all are there."""
    await begin.recv()
    start = time.perf_counter()
    ch = treadle.Chan()

    async def send():
        for i in range(n):
            await ch.send(i)

    g = treadle.go(send())
    for _ in range(n):
        await ch.recv()
    await g
    return time.perf_counter() - start


def seconds(n, workers):
    begin = treadle.SharedChan(workers)
    with treadle.workers(workers, work, n, begin) as running:
        time.sleep(0.3 * workers)  # they are started
        for _ in range(workers):
            begin.send_sync(None)
    return max(running.join())


if __name__ == "__main__":
    N = 200_000
    print(2 * seconds(N, 1) / seconds(N, 2))
