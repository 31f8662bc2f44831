# SPDX-License-Identifier: MIT
"""Timer, Ticker, after_func."""

import asyncio
import contextvars
import threading

import pytest
import treadle
from conftest import Handler, turns, until
from treadle import Ticker, Timer, after_func, select


def empty(timer):
    return timer.try_recv() == (None, False)


def test_timer(spawn, drive):
    async def main():
        start = treadle.now()
        t = Timer(0.02)
        assert empty(t)

        async def body():
            return await t.recv(), treadle.now()

        due, now = await spawn(body())
        assert start + 0.02 <= due <= now
        assert empty(t) and not t.stop()
        assert not t.reset(0.001)
        assert (await t.recv()) > due
        for at_once in (0, -5, 0.0):
            t = Timer(at_once)
            assert await t.recv() <= treadle.now()
        i, value = await select(Timer(50).recv_op(), Timer(0).recv_op(), treadle.after_op(20))
        assert i == 1 and isinstance(value, float)
        t = Timer(0)
        await until(lambda: treadle.try_select(t.recv_op())[0] == 0)
        assert treadle.try_select(t.recv_op()) == (None, None)

    drive(main)


def test_nothing_from_before_a_stop_or_reset(drive):
    """A timer that has fired, and was not received from (C6)."""

    async def fired():
        t = Timer(0)
        await treadle.sleep(0.001)
        return t

    async def main():
        t = await fired()
        assert t.stop() and empty(t) and not t.stop()
        assert await select(t.recv_op(), treadle.after_op(0.002)) == (1, None)
        t = await fired()
        assert t.reset(100) and empty(t)
        assert await select(t.recv_op(), treadle.after_op(0.002)) == (1, None)
        assert t.stop()
        before = treadle.now()
        assert not t.reset(0)
        assert await t.recv() >= before
        # one who waits goes on waiting, for what comes after
        t = Timer(100)
        g = treadle.go(receive(t))
        await turns()
        assert t.stop() and not g.done()
        await turns()
        assert not g.done() and not t.reset(0.001)
        await g
        k = Ticker(0.001)
        await treadle.sleep(0.003)
        assert k.stop() and empty(k)
        await treadle.sleep(0.003)
        assert empty(k) and not k.stop()

    drive(main)


async def receive(t):
    return await t.recv()


def test_ticker(drive):
    async def main():
        period = 0.004
        dues = []
        with Ticker(period) as ticks:
            async for due in ticks:
                dues.append(due)
                if len(dues) == 3:
                    await treadle.sleep(3.5 * period)  # ticks are lost, and one is kept
                if len(dues) == 6:
                    break
        assert empty(ticks) and not ticks.stop()
        steps = [(due - dues[0]) / period for due in dues]
        assert all(abs(s - round(s)) < 1e-3 for s in steps), steps  # the phase is kept
        assert sorted(set(dues)) == dues
        assert round(steps[4] - steps[3]) >= 2  # those that came meanwhile
        ticks.reset(period / 2)
        a, b = await ticks.recv(), await ticks.recv()
        assert round((b - a) / period * 2) >= 1
        ticks.stop()

    drive(main)


def test_cancellation_and_timeouts(spawn, drive):
    async def main():
        t = Timer(100)
        g = spawn(receive(t))
        await turns()
        g.cancel()
        await asyncio.wait([g])
        assert g.cancelled()
        with pytest.raises(TimeoutError):
            async with treadle.timeout(0.002):
                await t.recv()
        assert t.stop()

    drive(main)


def test_many_timers(drive):
    """Moved to and fro by several, each fires once (C11)."""

    async def main():
        timers = [Timer(100 + i) for i in range(200)]
        for k in range(5):
            for i, t in enumerate(timers):
                t.reset(0.001 * ((i * 7 + k) % 5))
        for t in timers:
            await t.recv()
        await treadle.sleep(0.005)
        assert all(empty(t) for t in timers)

    drive(main)


@pytest.mark.filterwarnings("ignore:.* never awaited")
def test_wrong_arguments(drive):
    async def main():
        for bad in (0, -1, 1e-12 * -1):
            with pytest.raises(ValueError, match="period"):
                Ticker(bad)
        with pytest.raises(ValueError, match="period"):
            Ticker(1).reset(0)
        for kind in (Timer, Ticker):
            with pytest.raises(ValueError, match="NaN"):
                kind(float("nan"))
            with pytest.raises(TypeError):
                kind("soon")
            with pytest.raises(TypeError):
                kind()
            assert kind(float("inf")).stop()
        with pytest.raises(TypeError, match="function"):
            after_func(1, "f")
        return Timer(0), Ticker(50), after_func(50, print)

    t, k, later = drive(main)
    for kind in (Timer, Ticker):
        with pytest.raises(RuntimeError, match="no running event loop"):
            kind(1)
    for old in (t, k):
        with pytest.raises(RuntimeError, match="closed"):
            old.reset(1)
        assert not old.stop()
    with pytest.raises(RuntimeError, match="not in the event loop"):
        later.reset(1)


def test_other_threads(drive):
    """Any thread may stop, reset and receive."""

    async def main():
        t, never = Timer(0.01), Timer(50)
        got = []

        def other():
            got.append(never.stop())

            async def there():
                got.append(await t.recv())

            asyncio.run(there())

        thread = threading.Thread(target=other)
        thread.start()
        await until(lambda: len(got) == 2)
        thread.join()
        assert got[0] is True and got[1] <= treadle.now()

    drive(main)


# -- after_func ------------------------------------------------------------------


def test_after_func(drive):
    async def main():
        log = []
        variable = contextvars.ContextVar("variable", default=0)
        variable.set(7)

        def plain(*args):
            log.append((args, variable.get(), asyncio.current_task().get_name()[:9]))

        async def slow(*args):
            await treadle.sleep(0.001)
            plain(*args)

        start = treadle.now()
        a, b = after_func(0.005, plain, 1, 2), after_func(0.005, slow, 3)
        variable.set(8)
        await until(lambda: len(log) == 2)
        assert treadle.now() >= start + 0.005
        assert sorted(log) == [((1, 2), 7, "goroutine"), ((3,), 7, "goroutine")]
        assert not a.stop() and not b.stop()
        assert not a.reset(0) and not b.reset(50)
        await until(lambda: len(log) == 3)
        assert log[2][0] == (1, 2)
        assert b.reset(60) and b.stop() and not b.stop()

    drive(main)


def test_after_funcs_that_are_stopped(drive):
    async def main():
        log = []
        later = [after_func(0.004, log.append, i) for i in range(100)]
        assert all(a.stop() for a in later)
        due = after_func(0, log.append, "due")
        assert due.stop()  # in the very turn
        await treadle.sleep(0.008)
        assert log == []
        # the operation has ended, and its callback was scheduled, when it is stopped
        due = after_func(0.001, log.append, "due")
        await treadle.sleep(0.002)
        if due.stop():
            await turns()
            assert log == []
        else:
            await until(lambda: log == ["due"])

    drive(main)


def test_errors_of_after_func(drive):
    async def main():
        handler = Handler()

        async def fail(text):
            raise ValueError(text)

        def fail_plainly():
            raise ValueError("plainly")

        after_func(0, fail, "later")
        after_func(0, fail_plainly)
        await until(lambda: len(handler.contexts) == 2)
        assert sorted(str(e) for e in handler.errors) == ["later", "plainly"]

    if drive.__name__ == "drive_run":
        with pytest.raises(ValueError):  # nobody awaited it
            drive(main)
    else:
        drive(main)


def test_left_behind(drive):
    """What is pending when the loop is closed does not run."""
    log = []

    async def main():
        after_func(50, log.append, 1)
        after_func(0, log.append, 2)
        return Timer(40), Ticker(0.001)

    drive(main)
    assert 1 not in log
