# SPDX-License-Identifier: MIT
"""Mutex, WaitGroup, sleeping."""

import asyncio
import signal
import time

import pytest
import treadle
from treadle import Mutex, WaitGroup


def test_mutex(drive):
    async def main():
        m, inside, most = Mutex(), 0, 0

        async def body():
            nonlocal inside, most
            for _ in range(20):
                async with m:
                    inside += 1
                    most = max(most, inside)
                    await treadle.yield_()
                    inside -= 1

        async with treadle.scope() as s:
            for _ in range(10):
                s.go(body())
        assert most == 1
        assert m.try_lock() and not m.try_lock()
        m.unlock()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="unlock of unlocked"):
                m.unlock()
        await m.lock()
        treadle.go(later(m.unlock))
        await m.lock()  # another may unlock it
        m.unlock()

    drive(main)


async def later(f):
    await treadle.sleep(0.001)
    f()


@pytest.mark.parametrize("spawn", [treadle.go, asyncio.create_task], ids=["goroutine", "task"])
def test_mutex_and_cancellation(spawn, drive):
    """A lock that was handed over in the turn of the cancellation is not lost."""

    async def main():
        m = Mutex()

        async def body():
            async with m:
                await treadle.sleep(20)

        for _ in range(30):
            await m.lock()
            g = spawn(body())
            await asyncio.sleep(0.002)
            m.unlock()  # handed over or free
            g.cancel()
            await asyncio.wait([g])
            assert g.cancelled()
            async with asyncio.timeout(5):
                await m.lock()
            m.unlock()

        await m.lock()
        g = spawn(body())
        await asyncio.sleep(0.002)
        g.cancel()
        await asyncio.wait([g])
        assert g.cancelled() and not m.try_lock()
        m.unlock()
        assert m.try_lock()

    drive(main)


def test_mutex_is_fair():
    """E1: one that holds it long and locks again at once lets others in."""

    async def main():
        m, stop = Mutex(), False

        async def hog():
            while not stop:
                async with m:
                    time.sleep(0.0001)
                await treadle.yield_()

        g = treadle.go(hog())
        start = treadle.now()
        for _ in range(10):
            async with m:
                pass
        stop = True
        await g
        return treadle.now() - start

    assert treadle.run(main()) < 1


def test_waitgroup(drive):
    """E7."""

    async def main():
        wg = WaitGroup()
        await wg.wait()
        done = []

        async def body(i):
            await treadle.sleep(0.001)
            done.append(i)
            return i

        for _ in range(3):
            gs = [wg.go(body(i)) for i in range(5)]
            await wg.wait()
            assert sorted(done) == list(range(5))
            assert [await g for g in gs] == list(range(5))
            done.clear()
        for bad in (lambda: wg.add(-1), wg.done):
            with pytest.raises(ValueError, match="negative"):
                bad()
        wg.add(2)
        with pytest.raises(ValueError):
            wg.add(-3)
        waiters = [treadle.go(wait(wg)) for _ in range(3)]
        wg.done()
        await treadle.yield_()
        assert not any(g.done() for g in waiters)
        wg.done()
        for g in waiters:
            await g
        for bad in ("1", None, 1.5):
            with pytest.raises(TypeError):
                wg.add(bad)
        with pytest.raises(OverflowError):
            wg.add(2**40)
        with pytest.raises(TypeError):
            wg.go(1)
        await wg.wait()

    drive(main)


async def wait(wg):
    await wg.wait()


def test_waitgroup_with_errors_and_cancels(drive):
    async def main():
        wg = WaitGroup()

        async def fail():
            raise KeyError

        async def block():
            await treadle.sleep(100)

        g, h = wg.go(fail()), wg.go(block())
        h.cancel()
        await wg.wait()
        with pytest.raises(KeyError):
            await g
        with pytest.raises(asyncio.CancelledError):
            await h
        for i in range(1000):  # E7: the race of wait and done
            wg.add(1)
            w = treadle.go(wait(wg))
            wg.done()
            await w

    drive(main)


def test_sleep(drive):
    """C1, C2, C7."""

    async def main():
        for seconds in (0.03, 0.001, 0.0001, 1e-9):
            start = treadle.now()
            await treadle.sleep(seconds)
            assert seconds <= treadle.now() - start < seconds + 0.2
        for seconds in (0, -1, -1e300, 0.0, False or 0):
            start = treadle.now()
            await treadle.sleep(seconds)
            assert treadle.now() - start < 0.2
        for seconds in (1e18, 1e300, float("inf"), 2**62):
            g = treadle.go(sleep(seconds))
            await treadle.sleep(0.002)
            assert not g.done()
            g.cancel()
            await asyncio.wait([g])
            assert g.cancelled()
        for bad in ("1", None, [], True, 1j):
            with pytest.raises(TypeError):
                treadle.sleep(bad)
        with pytest.raises(ValueError):
            treadle.sleep(float("nan"))
        with pytest.raises(OverflowError):
            treadle.sleep(10**400)

    drive(main)


async def sleep(seconds):
    await treadle.sleep(seconds)


def test_sleep_with_a_signal_in_between(drive):
    """C1: an interrupted wait goes on."""
    got = []
    before = signal.signal(signal.SIGUSR1, lambda *a: got.append(a))

    async def main():
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, lambda: (time.sleep(0.02), signal.raise_signal(signal.SIGUSR1)))
        start = treadle.now()
        await treadle.sleep(0.06)
        return treadle.now() - start

    try:
        assert 0.06 <= drive(main) < 0.5
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(got) == 1


def test_sleepers_wake_in_order(drive):
    async def main():
        order = []

        async def body(n):
            await treadle.sleep(n * 0.03)
            order.append(n)

        gs = [treadle.go(body(n)) for n in (5, 1, 4, 2, 3)]
        for g in gs:
            await g
        return order

    assert drive(main) == [1, 2, 3, 4, 5]


def test_asyncio_timers_beside_goroutines(drive):
    """A timer that a goroutine sets in asyncio's loop fires in time."""

    async def main():
        loop, fired = asyncio.get_running_loop(), []

        async def body():
            await treadle.yield_()
            loop.call_later(0.01, fired.append, loop.time())
            await treadle.sleep(0.1)

        start = loop.time()
        g = treadle.go(body())
        while not fired:
            await treadle.sleep(0.001)
        assert loop.time() - start < 0.08
        await g

    drive(main)


def test_who_waits_for_himself(drive, capfd):
    """A goroutine that waits for its own mutex is told after a second. Tasks of
    asyncio share what the core knows them by: they must not be taken for one."""

    async def main():
        m, own = Mutex(), Mutex()
        over = asyncio.Event()

        async def hold():
            async with m:
                await over.wait()

        async def wait():
            async with m:
                return "got it"

        async def selfish():
            async with own:
                await own.lock()

        async def shed():
            """Its task goes on with an operation that it no longer waits for."""
            async with own:
                left = own.lock().__await__()
                next(left)
                await treadle.yield_()
                left.close()

        tasks = [asyncio.create_task(c) for c in (hold(), wait(), wait(), wait())]
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="wait for itself"):
            await treadle.go(selfish())
        await treadle.go(shed())
        over.set()
        assert (await asyncio.gather(*tasks))[1:] == ["got it"] * 3

    drive(main)
    assert capfd.readouterr().err.count("deadlock") == 1
