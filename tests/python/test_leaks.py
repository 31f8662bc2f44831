# SPDX-License-Identifier: MIT
"""Nothing leaks: descriptors, memory, tasks of the core, after many rounds."""

import asyncio
import gc
import tracemalloc

import pytest
import treadle
from conftest import DRIVERS, drive_guest, drive_run, fds, pair, rss_kb

METRICS = ("goroutines", "tasks", "channels", "connections", "listeners", "timers", "contexts")


async def everything():
    """A bit of all there is, with errors and cancellations."""
    a, b = treadle.Chan(), treadle.Chan(3)
    m, wg = treadle.Mutex(), treadle.WaitGroup()

    async def relay():
        async for v in a:
            async with m:
                await b.send([v])
        b.close()

    async def forever():
        await treadle.select(treadle.Chan().recv_op(), treadle.after_op(1000))

    async def fail():
        await treadle.yield_()
        raise ValueError("x" * 100)

    wg.go(relay())
    for i in range(5):
        await a.send(i)
        assert await b.recv() == [i]
    a.close()
    await wg.wait()
    s, c = treadle.Semaphore(1), treadle.Cond(m)

    async def wait():
        async with s, c:
            await c.wait()

    for act in (c.signal, c.broadcast, lambda: None):
        g = treadle.go(wait())
        waiting = treadle.go(wait())
        await treadle.yield_()
        act()
        g.cancel()
        waiting.cancel()
        await asyncio.wait([g, waiting])
    assert s.try_acquire() and m.try_lock()
    m.unlock()
    g = treadle.go(forever())
    await treadle.yield_()
    g.cancel()
    await asyncio.wait([g])
    try:
        await treadle.go(fail())
    except ValueError:
        pass
    try:
        async with treadle.scope() as s:
            s.go(fail())
            s.go(forever())
            await asyncio.sleep(10)
    except ValueError:
        pass
    near, far = await pair()
    await near.write(b"line\n")
    assert await far.readline() == b"line\n"
    reader = asyncio.create_task(read(far))
    await asyncio.sleep(0)
    near.close()
    assert await reader == b""
    far.close()
    await more()
    shared = treadle.SharedChan(1)
    await shared.send({"k": ["v"]})
    assert await shared.recv() == {"k": ["v"]}


async def more():
    """Timers, contexts and groups."""
    with treadle.Ticker(0.0001) as ticks:
        await treadle.select(ticks.recv_op(), treadle.Timer(50).recv_op())
    later = [treadle.after_func(50, print), treadle.after_func(0, int)]
    assert later[0].stop()
    try:
        async with treadle.background().with_timeout(0.0001) as c:
            c.after_func(int)
            await c.with_value("k", []).with_cancel().done()
            await treadle.Timer(50).recv()
    except TimeoutError:
        pass
    rw, once, sf = treadle.RWMutex(), treadle.Once(), treadle.SingleFlight()

    async def work():
        async with rw.read():
            await once.do(treadle.sleep, 0)
            await sf.do("key", treadle.sleep, 0.0001)
        async with rw.write():
            raise ValueError

    try:
        async with treadle.ErrGroup(limit=2) as eg:
            for _ in range(4):
                await eg.go(work())
    except ValueError:
        pass
    try:
        async with treadle.scope(timeout=0.0001) as s:
            await s.context.with_cancel().done()
    except TimeoutError:
        pass


async def read(conn):
    return await conn.read(10)


def state():
    gc.collect()
    return fds(), {name: treadle.metric(name) for name in METRICS}


@pytest.mark.parametrize("how", list(DRIVERS))
def test_many_runs(how):
    for _ in range(20):
        DRIVERS[how](everything)
    before, memory = state(), rss_kb()
    for _ in range(150):
        DRIVERS[how](everything)
    assert state() == before
    assert rss_kb() - memory < 3000


@pytest.mark.parametrize("how", list(DRIVERS))
def test_thousands_of_short_runs(how):
    async def main():
        await treadle.yield_()

    for _ in range(100):
        DRIVERS[how](main)
    before, memory = state(), rss_kb()
    for _ in range(2000):
        DRIVERS[how](main)
    assert state() == before
    assert rss_kb() - memory < 2000


def test_runs_that_leave_things_behind():
    """Connections, listeners, goroutines and values that nobody cleared up."""

    async def main():
        near, far = await pair()
        listener = await treadle.listen("tcp", "127.0.0.1:0")
        ch = treadle.Chan(5)
        await ch.send([near, far, listener, ch])
        treadle.go(read(near))
        treadle.go(accept(listener))
        treadle.go(drain(ch))
        for c in (near, far, listener):
            c.close()

    async def accept(listener):
        await treadle.yield_()
        async for _ in listener:
            pass

    async def drain(ch):
        try:
            while True:
                await ch.recv()
        except asyncio.CancelledError:
            pass

    async def quiet():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        await main()

    def once(drive):
        try:
            drive(quiet)
        except treadle.Closed:
            pass

    for drive in (drive_run, drive_guest):
        for _ in range(10):
            once(drive)
        before = state()
        for _ in range(50):
            once(drive)
        assert state() == before


@pytest.mark.parametrize("how", ["run", "guest"])
def test_memory_plateau(how):
    """tracemalloc: what many rounds allocate is given back."""

    async def main():
        for _ in range(20):
            await everything()
        gc.collect()
        tracemalloc.start()
        for _ in range(4):  # some rounds more, while caches fill: a leak does not end
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(100):
                await everything()
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
            if grown < 60_000:
                break
        tracemalloc.stop()
        return grown

    assert DRIVERS[how](main) < 60_000


def test_many_goroutines():
    async def main():
        ch = treadle.Chan()

        async def wait():
            return await ch.recv_ok()

        gs = [treadle.go(wait()) for _ in range(20_000)]
        assert treadle.num_goroutines() >= 20_000
        ch.close()
        assert all([(await g) == (None, False) for g in gs])

    treadle.run(main())
    before = rss_kb()
    for _ in range(3):
        treadle.run(main())
    assert rss_kb() - before < 20_000
