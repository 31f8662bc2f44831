# SPDX-License-Identifier: MIT
"""micro.py LOOP NAME N: does one thing N times on the loop and prints the nanoseconds
of each. NAME is a function of this file."""

import asyncio
import sys
import threading
import time

import loops


async def call_soon(n):
    """Each callback calls for the next."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = n

    def step():
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done


async def call_soon_batch(n):
    """Rounds of 1,000 callbacks."""
    loop = asyncio.get_running_loop()

    def nothing():
        pass

    for _ in range(n // 1000):
        for _ in range(1000):
            loop.call_soon(nothing)
        await asyncio.sleep(0)


async def sleep0(n):
    for _ in range(n):
        await asyncio.sleep(0)


async def call_later_cancel(n):
    loop = asyncio.get_running_loop()

    def nothing():
        pass

    for i in range(n):
        loop.call_later(60, nothing).cancel()
        if i % 100 == 99:
            await asyncio.sleep(0)


async def call_soon_threadsafe(n):
    """From another thread, in rounds of 1,000 that the loop acknowledges."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    acknowledged = threading.Semaphore(1)

    def nothing():
        pass

    def calls():
        for _ in range(n // 1000):
            acknowledged.acquire()
            for _ in range(999):
                loop.call_soon_threadsafe(nothing)
            loop.call_soon_threadsafe(acknowledged.release)
        acknowledged.acquire()
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=calls)
    thread.start()
    await done
    thread.join()


async def queue_ping(n):
    """Two tasks and two queues: there and back is one."""
    there, back = asyncio.Queue(), asyncio.Queue()

    async def other():
        for _ in range(n):
            await back.put(await there.get())

    task = asyncio.get_running_loop().create_task(other())
    for i in range(n):
        await there.put(i)
        await back.get()
    await task


async def gather(n):
    async def nothing():
        pass

    for _ in range(n // 100):
        await asyncio.gather(*(nothing() for _ in range(100)))


async def task_switch(n):
    """Two tasks that give way to each other."""

    async def half():
        for _ in range(n // 2):
            await asyncio.sleep(0)

    await asyncio.gather(half(), half())


async def queue_handoff(n):
    """One task puts, another gets: a queue of one place."""
    queue = asyncio.Queue(1)

    async def putter():
        for i in range(n):
            await queue.put(i)

    task = asyncio.get_running_loop().create_task(putter())
    for _ in range(n):
        await queue.get()
    await task


async def goroutine_switch(n):
    import treadle

    async def half():
        for _ in range(n // 2):
            await treadle.yield_()

    for g in [treadle.go(half()), treadle.go(half())]:
        await g


async def chan_handoff(n):
    import treadle

    ch = treadle.Chan()

    async def putter():
        for i in range(n):
            await ch.send(i)

    async def getter():
        for _ in range(n):
            await ch.recv()

    for g in [treadle.go(putter()), treadle.go(getter())]:
        await g


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096


async def parked(n):
    """Bytes of each of n goroutines that wait on a channel, beyond the coroutine's own
    object and frame."""
    import treadle

    ch = treadle.Chan()

    async def wait():
        await ch.recv()

    kept = [wait() for _ in range(n)]  # coroutines alone
    coroutines = [wait() for _ in range(n)]
    before = resident()
    gs = [treadle.go(coro) for coro in coroutines]
    await treadle.yield_()
    used = resident() - before
    ch.close()
    for g in gs:
        try:
            await g
        except treadle.ChannelClosed:
            pass
    for coro in kept:
        coro.close()
    return used / n


async def main(name, n):
    if name == "parked":
        return await parked(n)
    await globals()[name](max(n // 10, 1000))  # warm
    begin = time.perf_counter()
    await globals()[name](n)
    return (time.perf_counter() - begin) / n * 1e9


if __name__ == "__main__":
    print(loops.run(sys.argv[1], main(sys.argv[2], int(sys.argv[3]))))
