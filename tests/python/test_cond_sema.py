# SPDX-License-Identifier: MIT
"""Cond, Semaphore."""

import asyncio
import gc
import random
import weakref

import pytest
import treadle
from conftest import turns, until
from treadle import Cond, Mutex, Semaphore


def free(m):
    """Whether the mutex is free."""
    if m.try_lock():
        m.unlock()
        return True
    return False


# -- Cond ---------------------------------------------------------------------


def test_signals_wake_in_order(spawn, drive):
    async def main():
        m, order = Mutex(), []
        c = Cond(m)

        async def body(i):
            async with c:
                await c.wait()
                assert not free(m)
                order.append(i)

        ts = []
        for i in range(100):
            ts.append(spawn(body(i)))
            await turns(1)
        for n in range(50):
            async with c:
                c.signal()
            await until(lambda: len(order) == n + 1)
        await turns()
        assert order == list(range(50))
        c.broadcast()  # without the mutex
        for t in ts:
            await t
        assert sorted(order) == list(range(100)) and free(m)
        c.signal()  # nobody waits: nothing is kept
        c.broadcast()
        t = spawn(body(100))
        await turns()
        assert len(order) == 100
        c.signal()
        await t

    drive(main)


def test_many_signals_wake_as_many(spawn, drive):
    async def main():
        m, order = Mutex(), []
        c = Cond(m)

        async def body(i):
            async with c:
                await c.wait()
                order.append(i)

        ts = [spawn(body(i)) for i in range(100)]
        await turns()
        async with c:
            for _ in range(40):
                c.signal()
            await turns()
            assert order == []  # the mutex is held
        await until(lambda: len(order) == 40)
        await turns()
        assert order == list(range(40))
        async with c:
            c.broadcast()
        await until(lambda: len(order) == 100)
        for t in ts:
            await t

    drive(main)


def test_producers_and_consumers(spawn, drive):
    async def main():
        m, items, got = Mutex(), [], []
        some, room = Cond(m), Cond(m)

        async def produce(k):
            for i in range(100):
                async with m:
                    while len(items) == 3:
                        await room.wait()
                    items.append((k, i))
                    some.signal()

        async def consume():
            while True:
                async with some:
                    while not items:
                        await some.wait()
                    item = items.pop(0)
                    room.signal()
                if item is None:
                    return
                got.append(item)
                if len(got) % 7 == 0:
                    await treadle.yield_()

        consumers = [spawn(consume()) for _ in range(4)]
        producers = [spawn(produce(k)) for k in range(3)]
        for t in producers:
            await t
        async with m:
            items.extend([None] * 4)
            some.broadcast()
        for t in consumers:
            await t
        assert sorted(got) == [(k, i) for k in range(3) for i in range(100)]
        assert free(m)

    drive(main)


def test_cancelled_while_it_waits(spawn, drive):
    """First stage: CancelledError, with the mutex held."""

    async def main():
        m, seen = Mutex(), []
        c = Cond(m)

        async def body():
            async with c:
                try:
                    await c.wait()
                except asyncio.CancelledError as e:
                    seen.append((e.args, free(m)))
                    raise

        t = spawn(body())
        await turns()
        assert free(m)
        t.cancel("enough")
        await asyncio.wait([t])
        assert t.cancelled() and free(m)
        assert seen == [(("enough",), False)]
        # it was the first in the queue: a signal goes to the next
        a, b = spawn(body()), spawn(wait_once(c))
        await turns()
        a.cancel()
        c.signal()
        await b
        await asyncio.wait([a])
        assert a.cancelled() and free(m)

    drive(main)


async def wait_once(c):
    async with c:
        await c.wait()


def test_cancelled_while_the_mutex_is_held(spawn, drive):
    """It ends only when it has the mutex again, however often it is cancelled."""

    async def main():
        m, log = Mutex(), []
        c = Cond(m)

        async def body():
            async with c:
                try:
                    await c.wait()
                finally:
                    log.append(free(m))
                    await treadle.sleep(0.001)  # asked for several times, cancelled once
                    log.append("slept")

        t = spawn(body())
        await turns()
        await m.lock()
        for _ in range(3):
            t.cancel()
            await turns()
            assert not t.done() and log == []
        m.unlock()
        await asyncio.wait([t])
        assert t.cancelled() and log == [False, "slept"] and free(m)

    drive(main)


def test_cancelled_after_the_signal(spawn, drive):
    """Second stage: the signal is received, the cancellation comes at the next wait."""

    async def main():
        m, log = Mutex(), []
        c = Cond(m)

        async def body():
            async with c:
                await c.wait()
                log.append(free(m))
                try:
                    await c.wait()
                except asyncio.CancelledError:
                    log.append(free(m))
                    raise

        t = spawn(body())
        await turns()
        await m.lock()
        c.signal()
        await turns()
        t.cancel()
        await turns()
        assert not t.done() and log == []
        m.unlock()
        await asyncio.wait([t])
        assert t.cancelled() and log == [False, False] and free(m)

    drive(main)


@pytest.mark.parametrize("timeout", [asyncio.timeout, treadle.timeout], ids=["asyncio", "treadle"])
def test_timeouts(timeout, spawn, drive):
    async def main():
        m = Mutex()
        c = Cond(m)
        limit = None

        def expire_soon():
            limit.reschedule(asyncio.get_running_loop().time() + 0.01)

        async def body(seconds=None):
            nonlocal limit
            async with c:
                start = treadle.now()
                try:
                    async with timeout(seconds) as limit:
                        await c.wait()
                except TimeoutError:
                    assert not free(m)
                    await treadle.yield_()  # the cancellation is over
                    return "timeout", treadle.now() - start
                await treadle.yield_()
                return "signal", treadle.now() - start

        what, took = await spawn(body(0.01))
        assert what == "timeout" and took >= 0.01 and free(m)
        # it expires in the first stage, and the second takes its time
        t = spawn(body())
        await turns()
        await m.lock()
        expire_soon()
        await treadle.sleep(0.04)
        assert not t.done()
        m.unlock()
        what, took = await t
        assert what == "timeout" and took >= 0.04 and free(m)
        # it expires in the second stage
        t = spawn(body())
        await turns()
        await m.lock()
        c.signal()
        expire_soon()
        await treadle.sleep(0.04)
        assert not t.done()
        m.unlock()
        what, took = await t
        assert what == "signal" and took >= 0.04 and free(m)

    drive(main)


def test_no_wake_up_is_lost(spawn, drive):
    """Items and cancellations at random moments: each item is taken, by the last at the latest."""
    rng = random.Random(f"cond {drive.__name__}")

    async def main():
        m, items, taken = Mutex(), [], 0
        c = Cond(m)

        async def consume():
            nonlocal taken
            while True:
                async with c:
                    while not items:
                        await c.wait()
                    items.pop()
                    taken += 1

        running, put = [], 0
        for _ in range(300):
            while len(running) < 5:
                running.append(spawn(consume()))
            for _ in range(rng.randrange(3)):
                await rng.choice((treadle.yield_, lambda: asyncio.sleep(0)))()
            if rng.random() < 0.7:
                async with c:
                    items.append(1)
                    put += 1
                    c.signal()
                    if rng.random() < 0.3:
                        await treadle.yield_()
            if rng.random() < 0.5:
                running.pop(rng.randrange(len(running))).cancel()
        running.append(spawn(consume()))
        await until(lambda: not items)
        assert put == taken > 100
        for t in running:
            t.cancel()
        await asyncio.wait(running)
        await turns()
        assert free(m)

    drive(main)


def test_cond_misuse(drive):
    async def main():
        m = Mutex()
        c = Cond(m)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="mutex is not locked"):
                await c.wait()
        g = treadle.go(c_wait(c))
        with pytest.raises(RuntimeError, match="mutex is not locked"):
            await g
        assert free(m)
        for bad in ((), (None,), (c,), (m, m)):
            with pytest.raises(TypeError):
                Cond(*bad)
        with pytest.raises(TypeError):
            Cond(mutex=1)
        with pytest.raises(RuntimeError, match="unlock of unlocked"):
            async with c:
                m.unlock()
        async with c:
            op = c.wait()  # never awaited: nothing has happened
            with pytest.warns(RuntimeWarning, match=r"wait\(\) was never awaited"):
                del op
            assert not free(m)
        with pytest.raises(KeyError):
            async with c:
                raise KeyError
        assert free(m)
        assert Cond(mutex=m) is not None

    drive(main)


async def c_wait(c):
    await c.wait()


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("signalled", [False, True])
def test_a_waiter_that_is_closed(held, signalled, drive):
    """A coroutine that is closed in its wait unlocks its share of the mutex, not another's."""

    async def main():
        m, left = Mutex(), []
        c = Cond(m)

        async def body():
            async with c:
                try:
                    await c.wait()
                finally:
                    left.append(free(m))

        coro = body()
        coro.send(None)  # by nobody's task: it waits
        if held:
            await m.lock()
        if signalled:
            c.signal()
        other = treadle.go(wait_once(c)) if not held else None
        coro.close()
        assert left == [False]
        if held:
            assert not m.try_lock()  # it is ours
            m.unlock()
        else:
            c.broadcast()
            await other
        await turns()
        assert free(m)
        with pytest.raises(RuntimeError, match="unlock of unlocked"):
            m.unlock()

    drive(main)


def test_a_closed_waiter_passes_the_signal_on(drive):
    async def main():
        m = Mutex()
        c = Cond(m)
        coro = wait_once(c)
        coro.send(None)
        g = treadle.go(wait_once(c))
        c.signal()
        await turns()  # the signal is there, and not taken
        assert not g.done()
        coro.close()
        await g
        assert free(m)
        # and one whose end nobody can see at all
        op_mutex = Mutex()
        d = Cond(op_mutex)
        await op_mutex.lock()
        op = d.wait()
        op.send(None)
        d.signal()
        await turns()
        assert op.done() and not free(op_mutex)
        del op
        assert free(op_mutex)
        await op_mutex.lock()
        op = d.wait()
        op.send(None)
        op.close()
        op.close()
        op_mutex.unlock()  # what the wait ended with
        await turns()
        assert free(op_mutex)
        with pytest.raises(RuntimeError, match="unlock of unlocked"):
            op_mutex.unlock()

    drive(main)


def test_cond_keeps_its_mutex(drive):
    async def main():
        c = Cond(Mutex())
        gc.collect()
        t = treadle.go(wait_once(c))
        await turns()
        ref = weakref.ref(c)
        c.signal()
        del c
        await t
        del t
        gc.collect()
        assert ref() is None

    drive(main)


# -- Semaphore ----------------------------------------------------------------


def test_semaphore(spawn, drive):
    async def main():
        s, inside, most = Semaphore(3), 0, 0

        async def body():
            nonlocal inside, most
            for _ in range(10):
                async with s:
                    inside += 1
                    most = max(most, inside)
                    await treadle.yield_()
                    inside -= 1

        ts = [spawn(body()) for _ in range(10)]
        for t in ts:
            await t
        assert most == 3 and inside == 0
        assert s.try_acquire(3) and not s.try_acquire() and s.try_acquire(0)
        s.release(2)
        assert not s.try_acquire(n=3) and s.try_acquire(n=2)
        s.release(n=3)
        await s.acquire(n=2)
        await s.acquire()
        assert not s.try_acquire(1)
        s.release()
        s.release(2)
        s.release(2)  # more than there were
        assert s.try_acquire(5)
        await s.acquire(0)

    drive(main)


def test_large_requests_are_not_overtaken(spawn, drive):
    async def main():
        s, order = Semaphore(0), []

        async def body(i, n):
            await s.acquire(n)
            order.append(i)

        wants = [5, 1, 3, 1, 2]
        ts = []
        for i, n in enumerate(wants):
            ts.append(spawn(body(i, n)))
            await turns(1)
        s.release(4)
        await turns()
        assert order == [] and not s.try_acquire(1)
        s.release(1)
        await turns()
        assert order == [0]
        s.release(3)
        await turns()
        assert order == [0, 1] and not s.try_acquire(1)
        s.release(4)
        for t in ts:
            await t
        assert order == [0, 1, 2, 3, 4] and not s.try_acquire(1)

    drive(main)


def test_a_hundred_in_order(spawn, drive):
    async def main():
        s, order = Semaphore(0), []

        async def body(i):
            async with s:
                order.append(i)

        ts = []
        for i in range(100):
            ts.append(spawn(body(i)))
            await turns(1)
        s.release()
        for t in ts:
            await t
        assert order == list(range(100)) and s.try_acquire() and not s.try_acquire()

    drive(main)


def test_semaphore_and_cancellation(spawn, drive):
    """Permits that were granted in the turn of the cancellation are not lost."""

    async def main():
        s = Semaphore(0)

        async def body():
            await s.acquire(3)
            try:
                await treadle.sleep(20)
            finally:
                s.release(3)

        for _ in range(30):
            t = spawn(body())
            await asyncio.sleep(0.001)
            s.release(3)  # granted
            t.cancel()
            await asyncio.wait([t])
            assert t.cancelled()
            async with asyncio.timeout(5):
                await s.acquire(3)
            assert not s.try_acquire()

        # who gives up at the head lets the next go ahead
        s.release(1)
        t, u = spawn(body()), spawn(take(s))
        await turns()
        assert not u.done()
        t.cancel()
        await u
        await asyncio.wait([t])
        assert t.cancelled() and s.try_acquire(1) is False
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await s.acquire()
        with pytest.raises(TimeoutError):
            async with treadle.timeout(0.005):
                async with s:
                    pass
        # a coroutine that is closed with its permits on the way
        coro = take(s)
        coro.send(None)
        s.release()
        coro.close()
        await turns()
        assert s.try_acquire() and not s.try_acquire()

    drive(main)


async def take(s):
    await s.acquire()


def test_permits_are_conserved(spawn, drive):
    """Cancellation at random moments."""
    rng = random.Random(f"sema {drive.__name__}")

    async def main():
        s, inside, entered = Semaphore(5), 0, 0

        async def body():
            nonlocal inside, entered
            while True:
                n = rng.randrange(6)
                await s.acquire(n)
                inside += n
                entered += 1
                assert inside <= 5
                try:
                    await rng.choice((treadle.yield_, lambda: asyncio.sleep(0)))()
                finally:
                    inside -= n
                    s.release(n)

        running = []
        for _ in range(300):
            while len(running) < 6:
                running.append(spawn(body()))
            for _ in range(rng.randrange(4)):
                await treadle.yield_()
            running.pop(rng.randrange(6)).cancel()
        for t in running:
            t.cancel()
        await asyncio.wait(running)
        await turns()
        assert entered > 50
        assert s.try_acquire(5) and not s.try_acquire()

    drive(main)


def test_semaphore_misuse(drive):
    async def main():
        for bad in (-1, 2**32, 2**100, -(2**100)):
            with pytest.raises(ValueError, match="number of permits"):
                Semaphore(bad)
            for f in (Semaphore(1).acquire, Semaphore(1).try_acquire, Semaphore(1).release):
                with pytest.raises(ValueError, match="number of permits"):
                    f(bad)
        for bad in ("1", None, 1.5, []):
            with pytest.raises(TypeError):
                Semaphore(bad)
            for f in (Semaphore(1).acquire, Semaphore(1).try_acquire, Semaphore(1).release):
                with pytest.raises(TypeError):
                    f(bad)
                with pytest.raises(TypeError):
                    f(1, 1)
        with pytest.raises(TypeError):
            Semaphore()
        s = Semaphore(n=2**32 - 1)
        assert s.try_acquire(2**32 - 1) and not s.try_acquire(1)
        s.release(2**32 - 1)
        s.release(2**32 - 1)
        assert s.try_acquire(2**32 - 1) and s.try_acquire(2**32 - 1) and not s.try_acquire()
        with pytest.raises(KeyError):
            async with Semaphore(1) as nothing:
                assert nothing is None
                raise KeyError

    drive(main)


# -- Both ---------------------------------------------------------------------


def test_made_outside_a_loop_and_used_in_several(drive):
    m, s = Mutex(), Semaphore(1)
    c = Cond(m)

    async def main():
        async with s:
            t = treadle.go(wait_once(c))
            await turns()
            c.signal()
            await t

    for _ in range(3):
        drive(main)


def test_left_waiting(drive):
    """What waits at the end is unwound, with the mutex."""
    m, s, ended = Mutex(), Semaphore(0), []
    c = Cond(m)

    async def main():
        async def waiting():
            async with c:
                try:
                    await c.wait()
                finally:
                    ended.append(free(m))

        async def acquiring():
            try:
                await s.acquire()
            finally:
                ended.append("acquire")

        gs = [treadle.go(waiting()) for _ in range(3)]
        gs.append(treadle.go(acquiring()))
        await turns()
        return len(gs)

    drive(main)
    gc.collect()
    assert sorted(map(str, ended)) == ["False"] * 3 + ["acquire"]
    assert free(m) and not s.try_acquire()
