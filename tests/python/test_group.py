# SPDX-License-Identifier: MIT
"""Once, ErrGroup, SingleFlight."""

import asyncio
import gc
import threading
import weakref

import pytest
import treadle
from conftest import Handler, turns, until
from treadle import ErrGroup, Once, SingleFlight, background


async def forever():
    await treadle.sleep(50)


async def give(value, log=None):
    await treadle.yield_()
    if log is not None:
        log.append(value)
    return value


async def fail(error):
    await treadle.yield_()
    raise error


# -- Once ---------------------------------------------------------------------------


def test_once(spawn, drive):
    async def main():
        once, log = Once(), []
        assert not once.done
        ts = [spawn(once.do(give, "value", log)) for _ in range(20)]
        assert [await t for t in ts] == ["value"] * 20
        assert log == ["value"] and once.done
        assert await once.do(fail, ValueError()) == "value"
        assert await Once().do(lambda x: x + 1, 1) == 2

        # an exception is everybody's, too
        once = Once()
        error = ValueError("once")
        ts = [spawn(once.do(fail, error)) for _ in range(3)]
        for t in ts:
            with pytest.raises(ValueError) as raised:
                await t
            assert raised.value is error
        with pytest.raises(ValueError):
            await once.do(give, 1)
        assert once.done

    drive(main)


def test_once_when_the_first_is_cancelled(spawn, drive):
    async def main():
        once, log = Once(), []
        first = spawn(once.do(forever))
        await turns()
        others = [spawn(once.do(give, i, log)) for i in range(5)]
        await turns()
        others[2].cancel()  # it waits
        await asyncio.wait([others[2]])
        assert others[2].cancelled() and not once.done
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        del others[2]
        results = [await t for t in others]
        assert len(log) == 1 and results == log * 4
        with pytest.raises(TimeoutError):
            async with treadle.timeout(0.002):
                await Once().do(forever)

    drive(main)


def test_once_within_itself(spawn, drive):
    """A clear error; and nobody else is taken for the one who is at it."""

    async def main():
        once, inner = Once(), []

        async def again():
            with pytest.raises(treadle.DeadlockError, match="wait for itself"):
                await once.do(again)
            others = [asyncio.create_task(once.do(again)) for _ in range(3)]
            others.append(treadle.go(once.do(again)))
            inner.extend(others)
            await turns()
            return "done"

        assert await spawn(once.do(again)) == "done"
        assert [await t for t in inner] == ["done"] * 4

    drive(main)


def test_once_in_several_threads():
    once, calls, results = Once(), [], []
    ready = threading.Barrier(3)

    async def make():
        calls.append(threading.get_ident())
        await treadle.sleep(0.005)
        return object()

    async def main():
        ready.wait()
        for g in [treadle.go(once.do(make)) for _ in range(10)]:
            results.append(await g)

    threads = [
        threading.Thread(target=run, args=(main(),))
        for run in (treadle.run, asyncio.run, treadle.run)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(calls) == 1 and len(results) == 30 and len(set(results)) == 1


# -- ErrGroup ------------------------------------------------------------------------


def test_errgroup(spawn, drive):
    async def main():
        async def body():
            async with ErrGroup() as eg:
                gs = [await eg.go(give(i), name=f"worker {i}") for i in range(10)]
                assert gs[3].name == "worker 3"
                assert eg.context.err() is None
            assert eg.context.err() is not None  # nobody works any more
            return [g.result() for g in gs]

        assert await spawn(body()) == list(range(10))
        eg = ErrGroup()
        await eg.wait()

    drive(main)


def test_the_first_error_is_the_groups(spawn, drive):
    async def main():
        handler = Handler()
        errors = [KeyError(i) for i in range(3)]
        log = []

        async def look(eg):
            await eg.context.done()
            log.append(eg.context.cause())
            raise RuntimeError("because of it")

        async def body():
            async with ErrGroup() as eg:
                await eg.go(look(eg))
                ended = await eg.go(give(1, log))
                for e in errors:
                    await eg.go(fail(e))
                await ended
                await eg.go(give(2, log))  # not cancelled by the error

        with pytest.raises(KeyError) as raised:
            await spawn(body())
        assert raised.value is errors[0]
        assert sorted(map(repr, log)) == ["1", "2", "KeyError(0)"]
        gc.collect()
        await turns()
        assert handler.contexts == []  # none is reported as unseen

    drive(main)


def test_limits(spawn, drive):
    async def main():
        eg = ErrGroup(limit=3)
        running = most = 0

        async def work():
            nonlocal running, most
            running += 1
            most = max(most, running)
            await treadle.sleep(0.001)
            running -= 1

        async def produce():
            for _ in range(10):
                await eg.go(work())

        ts = [spawn(produce()) for _ in range(3)]
        for t in ts:
            await t
        await eg.wait()
        assert most == 3 and running == 0
        eg.set_limit(1)
        g = eg.try_go(forever())
        with pytest.raises(RuntimeError, match="at work"):
            eg.set_limit(None)
        assert eg.try_go(forever()) is None
        waiting = spawn(start(eg))
        await turns()
        assert not waiting.done()
        waiting.cancel()  # waits for a place
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        g.cancel()  # that is no error
        await eg.wait()
        eg.set_limit(None)
        gs = [eg.try_go(give(i)) for i in range(50)]
        await eg.wait()
        assert [g.result() for g in gs] == list(range(50))
        for bad in (0, -1, 2**32):
            with pytest.raises(ValueError, match="limit"):
                ErrGroup(limit=bad)
        with pytest.raises(TypeError):
            ErrGroup(limit="1")

    drive(main)


async def start(eg):
    await eg.go(forever())


def test_a_place_handed_over_in_the_turn_of_the_cancellation(spawn, drive):
    async def main():
        eg = ErrGroup(limit=1)
        for _ in range(20):
            done = asyncio.Event()
            await eg.go(wait_for(done))
            t = spawn(start_one(eg))
            await turns()
            done.set()
            await turns(1)
            t.cancel()
            await asyncio.wait([t])
            async with treadle.timeout(5):
                await eg.wait()

    drive(main)


async def wait_for(event):
    await event.wait()


async def start_one(eg):
    g = await eg.go(give(1))
    await g


def test_cancelled_before_the_first_step(drive):
    """Its place is given back, though its coroutine has not begun."""

    async def main():
        eg = ErrGroup()
        gs = []

        async def nest(depth):
            if depth:
                await treadle.go(nest(depth - 1))
            else:
                g = eg.try_go(forever())  # nested too deeply to begin at once
                g.cancel()
                gs.append(g)

        await nest(40)
        async with treadle.timeout(5):
            await eg.wait()
        assert gs[0].cancelled()
        with pytest.raises(TypeError, match="coroutine"):
            await eg.go(42)
        with pytest.raises(TypeError, match="coroutine"):
            eg.try_go(forever)
        await eg.wait()

    drive(main)


def test_leaving_the_block(drive):
    async def main():
        log = []

        async def look(eg):
            await eg.context.done()
            await treadle.sleep(0.002)
            log.append(eg.context.cause())

        error = KeyError("body")
        with pytest.raises(KeyError, match="body"):
            async with ErrGroup() as eg:
                await eg.go(look(eg))
                raise error
        assert log == [error]  # it has waited

        eg = ErrGroup()

        async def body():
            async with eg:
                await eg.go(look(eg))
                await forever()

        g = treadle.go(body())
        await turns()
        g.cancel()
        await asyncio.wait([g])
        assert g.cancelled()
        await eg.wait()
        assert type(log[1]) is asyncio.CancelledError

        # its context ends with that it was derived from
        parent = background().with_cancel()
        eg = ErrGroup(parent)
        await eg.go(look(eg))
        parent.cancel(error)
        await eg.wait()
        assert log[2] is error

    drive(main)


def test_errgroup_waits_for_itself(drive):
    async def main():
        eg = ErrGroup()

        async def selfish():
            await turns(1)
            await eg.wait()

        await eg.go(selfish())
        with pytest.raises(treadle.DeadlockError, match="goroutine of the group"):
            await eg.wait()

    drive(main)


def test_errgroup_in_several_threads():
    eg, ended = ErrGroup(limit=4), []
    error = ValueError("in a thread")

    async def work(i):
        await treadle.sleep(0.001)
        ended.append(i)
        if i == 7:
            raise error

    async def main(n):
        for i in range(n, n + 10):
            await eg.go(work(i))
        with pytest.raises(ValueError) as raised:
            await eg.wait()
        assert raised.value is error
        ended.append("waited")

    threads = [
        threading.Thread(target=run, args=(main(n),))
        for n, run in ((0, treadle.run), (10, asyncio.run))
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert ended.count("waited") == 2 and len(ended) == 22


# -- SingleFlight -------------------------------------------------------------------------


def test_single_flight(spawn, drive):
    async def main():
        sf, log = SingleFlight(), []
        value = {"any": "object"}
        ts = [spawn(sf.do_shared("key", give, value, log)) for _ in range(10)]
        ts.append(spawn(sf.do(b"key", give, None, log)))
        results = [await t for t in ts]
        assert results[:-1] == [(value, True)] * 10
        assert all(r[0] is value for r in results[:-1]) and results[-1] is value
        assert log == [value]
        # it has landed: who comes now begins anew
        assert await sf.do_shared("key", give, 2, log) == (2, False)
        ts = [spawn(sf.do(key, give, key, log)) for key in ("a", "b", b"", "é")]
        assert [await t for t in ts] == ["a", "b", b"", "é"]
        error = ValueError("shared")
        ts = [spawn(sf.do("key", fail, error)) for _ in range(3)]
        for t in ts:
            with pytest.raises(ValueError) as raised:
                await t
            assert raised.value is error
        assert await sf.do("key", lambda: 3) == 3
        for bad in (1, None, ("a",)):
            with pytest.raises(TypeError, match="str or bytes"):
                await sf.do(bad, give, 1)

    drive(main)


def test_single_flight_when_the_first_is_cancelled(spawn, drive):
    async def main():
        sf, log = SingleFlight(), []
        first = spawn(sf.do("key", forever))
        await turns()
        others = [spawn(sf.do("key", give, i, log)) for i in range(5)]
        await turns()
        others[2].cancel()
        await asyncio.wait([others[2]])
        assert others[2].cancelled()
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        del others[2]
        results = [await t for t in others]
        assert len(log) == 1 and results == log * 4

    drive(main)


def test_forget(spawn, drive):
    async def main():
        sf, go_on = SingleFlight(), asyncio.Event()

        async def work(value):
            await go_on.wait()
            return value

        old = [spawn(sf.do("key", work, 1)) for _ in range(2)]
        await turns()
        assert sf.forget("key") and not sf.forget("key")
        new = [spawn(sf.do("key", work, 2)) for _ in range(2)]
        await turns()
        go_on.set()
        assert [await t for t in old + new] == [1, 1, 2, 2]
        assert not sf.forget("key")

    drive(main)


def test_single_flight_within_itself(spawn, drive):
    async def main():
        sf, inner = SingleFlight(), []

        async def again():
            with pytest.raises(treadle.DeadlockError, match="wait for itself"):
                await sf.do("key", again)
            assert await sf.do("other", give, 1) == 1
            others = [asyncio.create_task(sf.do("key", again)) for _ in range(3)]
            inner.extend(others)
            await turns()
            sf.forget("key")
            assert await sf.do("key", give, "anew") == "anew"
            return "done"

        assert await spawn(sf.do("key", again)) == "done"
        assert [await t for t in inner] == ["done"] * 3

    drive(main)


def test_single_flight_in_several_threads():
    sf, calls, results = SingleFlight(), [], []

    async def make(n):
        calls.append(n)
        await treadle.sleep(0.0005)
        return n

    async def main():
        for n in range(20):
            for g in [treadle.go(sf.do(f"key {n}", make, n)) for _ in range(5)]:
                results.append(await g == n)

    threads = [
        threading.Thread(target=run, args=(main(),))
        for run in (treadle.run, asyncio.run, treadle.run)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 300 and all(results)
    assert 20 <= len(calls) <= 60


def test_nothing_holds_on_to_results(drive):
    async def main():
        class Value:
            pass

        async def make():
            await treadle.yield_()
            return Value()

        sf = SingleFlight()
        gs = [treadle.go(sf.do("key", make)) for _ in range(3)]
        value = await gs[0]
        for g in gs:
            assert await g is value
        gone = weakref.ref(value)
        del value, gs, g
        await turns()
        gc.collect()
        assert gone() is None
        await until(lambda: treadle.num_goroutines() < 5)

    drive(main)
