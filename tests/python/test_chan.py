# SPDX-License-Identifier: MIT
"""Channels of one loop: order, closing, cancellation, misuse."""

import asyncio
import gc
import weakref

import pytest
import treadle
from conftest import until
from treadle import Chan, ChannelClosed


def test_sieve(drive):
    """A1: a chain of filters gives the first primes."""

    async def generate(out):
        i = 2
        while True:
            await out.send(i)
            i += 1

    async def sift(numbers, out, prime):
        async for n in numbers:
            if n % prime:
                await out.send(n)

    async def main(cap=0):
        ch = Chan(cap)
        gs = [treadle.go(generate(ch))]
        primes = []
        for _ in range(25):
            prime = await ch.recv()
            primes.append(prime)
            after = Chan(cap)
            gs.append(treadle.go(sift(ch, after, prime)))
            ch = after
        for g in gs:
            g.cancel()
        return primes

    expected = [p for p in range(2, 98) if all(p % d for d in range(2, p))]
    assert drive(main) == expected
    assert drive(lambda: main(7)) == expected


def test_fifo(drive):
    """A3: in order, buffered and unbuffered."""

    async def main():
        ch = Chan(10)
        for i in range(10):
            await ch.send(i)
        assert [await ch.recv() for _ in range(10)] == list(range(10))

        ch = Chan()
        got = []

        async def receiver(before, after):
            await before.recv_ok()
            got.append(await ch.recv())
            after.close()

        first = link = Chan()
        for _ in range(10):
            after = Chan()
            treadle.go(receiver(link, after))
            link = after
        first.close()
        for i in range(10):
            await ch.send(i)
        await link.recv_ok()
        return got

    assert drive(main) == list(range(10))


def test_chain_of_10000(drive):
    """A4: one value through a chain of 10,000 goroutines."""

    async def main():
        async def pass_on(left, right):
            await left.send(1 + await right.recv())

        leftmost = left = Chan()
        for _ in range(10_000):
            right = Chan()
            treadle.go(pass_on(left, right))
            left = right
        await right.send(0)
        return await leftmost.recv()

    assert drive(main) == 10_000


def test_try_forms(drive):
    """A6: the try forms never wait, and succeed once the other side waits."""

    async def main():
        ch = Chan()
        assert ch.try_recv() == (None, False)
        assert ch.try_send(1) is False
        g = treadle.go(receive(ch))
        assert ch.try_send("value") is True
        assert await g == "value"
        g = treadle.go(send(ch, None))
        assert ch.try_recv() == (None, True)
        await g
        buffered = Chan(1)
        assert buffered.try_send(1) and not buffered.try_send(2)
        assert buffered.try_recv() == (1, True)
        buffered.close()
        with pytest.raises(ChannelClosed):
            buffered.try_recv()
        with pytest.raises(ChannelClosed):
            buffered.try_send(1)

    drive(main)


async def receive(ch):
    return await ch.recv()


async def send(ch, value):
    await ch.send(value)


@pytest.mark.parametrize("cap", [0, 1, 2, 7, 100])
def test_close_and_drain(cap, drive):
    """A14: blocks when empty and when full, drains after close, wakes waiters."""

    async def main():
        ch = Chan(cap)
        g = treadle.go(receive(ch))
        await treadle.sleep(0)
        await treadle.yield_()
        assert not g.done()
        await ch.send(0)
        assert await g == 0
        for i in range(cap):
            await ch.send(i)
        g = treadle.go(send(ch, "late"))
        await treadle.yield_()
        assert not g.done() and len(ch) == cap and ch.cap == cap
        ch.close()
        with pytest.raises(ChannelClosed):
            await g
        assert [await ch.recv() for _ in range(cap)] == list(range(cap))
        for _ in range(3):
            assert await ch.recv_ok() == (None, False)
            with pytest.raises(ChannelClosed) as raised:
                await ch.recv()
            assert raised.value.index is None
        waiting = Chan()
        gs = [treadle.go(receive(waiting)) for _ in range(3)]
        waiting.close()
        for g in gs:
            with pytest.raises(ChannelClosed):
                await g

    drive(main)


def test_producers_and_consumers(drive):
    """A14: 4 producers and 4 consumers: every value exactly as often as sent."""

    async def main():
        ch, counts = Chan(3), {}
        wg = treadle.WaitGroup()

        async def produce():
            for i in range(500):
                await ch.send(i)

        async def consume():
            async for v in ch:
                counts[v] = counts.get(v, 0) + 1
                if v % 50 == 0:
                    await treadle.yield_()

        consumers = [treadle.go(consume()) for _ in range(4)]
        for _ in range(4):
            wg.go(produce())
        await wg.wait()
        ch.close()
        for g in consumers:
            await g
        return counts

    assert drive(main) == {i: 4 for i in range(500)}


def test_values_and_errors():
    """A24 and bad input: distinct errors, in the idiom of the language."""

    async def main():
        ch = Chan()
        with pytest.raises(ChannelClosed):
            ch.close()
            ch.close()
        with pytest.raises(ChannelClosed):
            await ch.send(1)
        assert ch.closed and not issubclass(ChannelClosed, OSError)
        for bad in (-1, 2**26 + 1, 2**70):
            with pytest.raises((ValueError, OverflowError)):
                Chan(bad)
        for bad in ("1", 1.5, None):
            with pytest.raises(TypeError):
                Chan(bad)
        with pytest.raises(TypeError):
            await Chan().send()
        op = Chan(1).send(1)
        await op
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await op
        values = [None, True, 1, 2**100, "x", b"y", [1], {"a": object()}, object(), (1, 2), ValueError()]
        ch = Chan(len(values))
        for v in values:
            await ch.send(v)
        for v in values:
            got = await ch.recv()
            assert got is v

    treadle.run(main())


def test_before_the_loop_runs():
    ch = Chan(2)
    assert len(ch) == 0 and not ch.closed and ch.cap == 2
    with pytest.raises(RuntimeError, match="no running event loop"):
        ch.try_send(1)

    async def main():
        await ch.send(1)
        return await ch.recv()

    assert treadle.run(main()) == 1
    closed = Chan()
    closed.close()
    assert closed.closed
    with pytest.raises(ChannelClosed):
        closed.close()

    async def drained():
        return await closed.recv_ok()

    assert treadle.run(drained()) == (None, False)


def test_another_loop():
    """A channel belongs to the loop that first used it."""
    ch = Chan(1)

    async def first():
        await ch.send("kept")

    async def second():
        with pytest.raises(RuntimeError, match="another event loop"):
            await ch.recv()
        with pytest.raises(RuntimeError, match="another event loop"):
            ch.try_send(1)

    treadle.run(first())
    treadle.run(second())
    ch.close()


def test_iteration_and_generic(drive):
    async def main():
        ch: Chan[int] = Chan[int](5)
        for i in range(5):
            await ch.send(i)
        ch.close()
        return [v async for v in ch]

    assert drive(main) == [0, 1, 2, 3, 4]


def test_references():
    """The channel owns what it carries, and gives it back, however it ends."""

    class Thing:
        pass

    async def main():
        def things(n):
            made = [Thing() for _ in range(n)]
            return made, [weakref.ref(t) for t in made]

        # received, then dropped
        ch = Chan(3)
        made, refs = things(3)
        for t in made:
            await ch.send(t)
        made.clear()
        del t
        gc.collect()
        assert all(r() is not None for r in refs)
        for _ in range(3):
            await ch.recv()
        assert all(r() is None for r in refs)

        # in the buffer of a channel that goes away
        made, refs = things(3)
        for t in made:
            ch.try_send(t)
        made.clear()
        del t, ch
        assert all(r() is None for r in refs)

        # a send that is cancelled, and one that meets the close
        ch = Chan()
        made, refs = things(2)
        gs = [treadle.go(send(ch, t)) for t in made]
        made.clear()
        gs[0].cancel()
        await asyncio.wait(gs[:1])
        assert gs[0].cancelled()
        ch.close()
        with pytest.raises(ChannelClosed):
            await gs[1]
        del gs
        gc.collect()
        assert all(r() is None for r in refs)

        # losers of a select
        made, refs = things(3)
        a, b = Chan(), Chan(1)
        i, _ = await treadle.select(a.send_op(made[0]), b.send_op(made[1]), a.send_op(made[2]))
        made.clear()
        assert i == 1
        gc.collect()
        assert [r() is None for r in refs] == [True, False, True]
        del b
        assert refs[1]() is None

    treadle.run(main())


def test_channel_cycles_are_collected():
    class Node:
        pass

    async def main():
        node = Node()
        node.ch = Chan(4)
        await node.ch.send(node)
        await node.ch.send([node.ch])
        ref = weakref.ref(node)
        del node
        gc.collect()
        assert ref() is None
        assert gc.garbage == []

    treadle.run(main())


def test_cancelled_receive_takes_nothing(drive):
    """A cancelled receiver leaves the value to the next."""

    async def main():
        ch = Chan()
        first, second = treadle.go(receive(ch)), treadle.go(receive(ch))
        first.cancel()
        await ch.send("value")
        assert await second == "value"
        with pytest.raises(asyncio.CancelledError):
            await first

    drive(main)


@pytest.mark.parametrize("spawn", ["goroutine", "task"])
def test_cancel_in_the_turn_of_the_value(spawn, drive):
    """A value that was handed over is received, and the cancellation comes at
    the next wait."""

    async def main():
        for _ in range(50):
            ch, got, state = Chan(), [], []

            async def body():
                got.append(await ch.recv())
                try:
                    await treadle.sleep(20)
                except asyncio.CancelledError:
                    state.append("cancelled")
                    raise

            t = treadle.go(body()) if spawn == "goroutine" else asyncio.create_task(body())
            await treadle.yield_()
            await asyncio.sleep(0)
            await ch.send("value")  # handed over: the receiver has not run yet
            assert got == []
            assert t.cancel()
            done, _ = await asyncio.wait([t])
            assert t.cancelled()
            assert got == ["value"] and state == ["cancelled"]

    drive(main)


@pytest.mark.parametrize("spawn", ["goroutine", "task"])
def test_timeout_in_the_turn_of_the_value(spawn, drive):
    """A timeout that expires in that turn, and whose block then ends, leaves no
    cancellation behind."""

    async def main():
        async def body(ch, expire):
            async with asyncio.timeout(30) as limit:
                expire.append(limit)
                value = await ch.recv()
            await asyncio.sleep(0.001)
            await treadle.sleep(0.001)
            return value

        for _ in range(20):
            ch, expire = Chan(), []
            t = (treadle.go if spawn == "goroutine" else asyncio.create_task)(body(ch, expire))
            await until(lambda: expire)
            await treadle.yield_()
            await ch.send("value")
            t.cancel()  # as the expiry does
            expire[0]._state = asyncio.timeouts._State.EXPIRING
            assert await t == "value"

    drive(main)


def test_the_other_goroutines_are_unharmed(drive):
    async def main():
        ch = Chan()

        async def bad():
            ch.close()
            await ch.send(1)

        g = treadle.go(bad())
        other = treadle.go(treadle_sleep(0.01))
        with pytest.raises(ChannelClosed):
            await g
        return await other

    assert drive(main) == "slept"


async def treadle_sleep(seconds):
    await treadle.sleep(seconds)
    return "slept"


def test_memory_of_selects_on_a_quiet_channel():
    """A9: waiters on a channel that never fires are removed."""
    import tracemalloc

    async def main():
        quiet, busy = Chan(), Chan()

        async def feed(n):
            for i in range(n):
                await busy.send(i)

        async def rounds(n):
            treadle.go(feed(n))
            for _ in range(n):
                await treadle.select(quiet.recv_op(), busy.recv_op())

        await rounds(2000)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await rounds(20_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        return grown

    assert treadle.run(main()) < 20_000


@pytest.mark.parametrize("run", [treadle.run, asyncio.run])
def test_an_await_that_is_missing(run, recwarn):
    """Nothing is sent, and that is said; not of what a task was to await that is cancelled
    before its first step."""

    async def main():
        ch = Chan(5)
        ch.send(1)
        treadle.sleep(1)
        said = [str(w.message) for w in recwarn if w.category is RuntimeWarning]
        assert said == ["send() was never awaited", "sleep() was never awaited"]
        assert len(ch) == 0
        recwarn.clear()
        task = asyncio.ensure_future(ch.recv())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        async with asyncio.timeout(0.001):
            await asyncio.gather(ch.recv(), treadle.sleep(1), return_exceptions=True)

    with pytest.raises(TimeoutError):
        run(main())
    assert not [str(w.message) for w in recwarn]
