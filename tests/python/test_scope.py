# SPDX-License-Identifier: MIT
"""Scopes: children and their errors, deadlines, contexts, nesting, and those that would wait for themselves."""

import asyncio

import pytest
import treadle
from conftest import turns, until
from treadle import ContextCancelled, DeadlockError, background, scope


async def forever(log=None, name=None):
    try:
        await treadle.sleep(50)
    except asyncio.CancelledError:
        if log is not None:
            log.append(name)
        raise


async def fail(error):
    await treadle.yield_()
    raise error


def uncancelled():
    return asyncio.current_task().cancelling() == 0


def test_it_waits_for_its_children(drive):
    async def main():
        log = []

        async def child(n):
            await treadle.sleep(0.03 * n)
            log.append(n)

        async with scope() as s:
            for n in (3, 1, 2):
                s.go(child(n))
            log.append("body")
        assert log == ["body", 1, 2, 3]
        with pytest.raises(RuntimeError, match="not active"):
            s.go(child(1))

    drive(main)


def test_the_first_error_ends_the_others(drive):
    async def main():
        log = []
        error = ValueError("first")

        async def late():
            try:
                await treadle.sleep(50)
            except asyncio.CancelledError:
                raise KeyError("second") from None

        with pytest.raises(ValueError) as raised:
            async with scope() as s:
                s.go(forever(log))
                s.go(late())
                s.go(fail(error))
                await treadle.sleep(50)
        assert raised.value is error
        assert any("second" in note for note in error.__notes__)
        assert len(log) == 1
        assert asyncio.current_task().cancelling() == 0
        await treadle.sleep(0.001)
        await asyncio.sleep(0)

        with pytest.raises(KeyError, match="body"):
            async with scope() as s:
                s.go(forever(log))
                raise KeyError("body")
        assert len(log) == 2

        # the body has ended: the error is raised all the same
        with pytest.raises(ValueError, match="x"):
            async with scope() as s:
                s.go(fail(ValueError("x")))
        with pytest.raises(ValueError, match="y") as raised:
            async with scope() as s:
                s.go(fail(ValueError("y")))
                try:
                    await treadle.sleep(50)
                finally:
                    s.go(forever())
        assert "cannot start a goroutine" in raised.value.__notes__[0]

    drive(main)


def test_a_cancel_reaches_its_children(drive):
    async def main():
        log = []

        async def body():
            async with scope() as s:
                s.go(forever(log))
                s.go(forever(log))
                await treadle.sleep(0.001)

        for spawn in (treadle.go, asyncio.create_task):
            log.clear()
            g = spawn(body())
            await treadle.sleep(0.005)
            assert not g.done()
            g.cancel()
            with pytest.raises(asyncio.CancelledError):
                await g
            assert len(log) == 2

        with pytest.raises(TimeoutError):
            async with treadle.timeout(0.01), scope() as s:
                s.go(forever(log))
        async with scope() as s:  # one that is cancelled is no error
            s.go(forever(log)).cancel()

    drive(main)


def test_a_deadline(spawn, drive):
    async def main():
        async def body(log, **limits):
            async with scope(**limits) as s:
                s.go(forever(log, "a"))
                s.go(forever(log, "b"))
                await forever(log, "body")

        for limits in ({"timeout": 0.002}, {"deadline": treadle.now() + 0.002}, {"timeout": 0}):
            log, start = [], treadle.now()
            with pytest.raises(TimeoutError):
                await spawn(body(log, **limits))
            assert sorted(log) == ["a", "b", "body"]
            assert treadle.now() >= start + limits.get("timeout", 0)
        assert uncancelled()

        # while it only waits for its goroutines
        log = []
        with pytest.raises(TimeoutError):
            async with scope(timeout=0.002) as s:
                s.go(forever(log, "a"))
        assert log == ["a"] and uncancelled()

        # in time
        async with scope(timeout=50) as s:
            s.go(turns())
            assert treadle.now() < s.deadline <= treadle.now() + 50
        assert s.context.err() is not None
        async with scope(timeout=0.001) as s:
            pass
        await treadle.sleep(0.003)
        assert uncancelled()
        for bad in ("1", float("nan")):
            with pytest.raises((TypeError, ValueError)):
                async with scope(timeout=bad):
                    pass

    drive(main)


def test_deadlines_are_inherited(drive):
    async def main():
        log = []

        async def inner():
            async with scope() as s:
                s.go(forever(log, "inner child"))
                await forever(log, "inner body")

        with pytest.raises(TimeoutError):
            async with scope(timeout=0.002) as outer:
                outer.go(inner())
                async with scope(outer, timeout=50) as s:
                    assert s.deadline == outer.deadline
                    s.go(forever(log, "child"))
                    async with scope(s) as nested:
                        assert nested.deadline == outer.deadline
                        nested.go(forever(log, "nested"))
        assert sorted(log) == ["child", "inner body", "inner child", "nested"]
        assert uncancelled()

        # one that runs elsewhere, and is given the scope
        async def elsewhere(parent):
            async with scope(parent) as s:
                s.go(forever(log, "elsewhere"))

        async with scope() as outer:
            g = treadle.go(elsewhere(outer))
            await turns()
        with pytest.raises(ContextCancelled):
            await g
        assert log[-1] == "elsewhere"

        error = ValueError("of the outer")
        with pytest.raises(ValueError):
            async with scope() as outer:
                g = treadle.go(elsewhere(outer))
                outer.go(fail(error))
                await forever()
        with pytest.raises(ValueError) as raised:
            await g
        assert raised.value is error

    drive(main)


def test_the_context_of_a_scope(spawn, drive):
    async def main():
        async def body(parent, log):
            async with scope(parent) as s:
                s.go(forever(log, "child"))
                await forever(log, "body")

        cause = KeyError("why")
        parent, log = background().with_cancel(), []
        t = spawn(body(parent, log))
        await turns()
        parent.cancel(cause)
        with pytest.raises(KeyError) as raised:
            await t
        assert raised.value is cause and sorted(log) == ["body", "child"]
        with pytest.raises(KeyError):  # ended before
            await spawn(body(parent, log))

        # asked for later
        with pytest.raises(KeyError):
            async with scope() as s:
                s.go(forever())
                treadle.after_func(0.001, s.context.cancel, cause)
                await forever()
        assert s.context.cause() is cause
        error = ValueError()
        with pytest.raises(ValueError):
            async with scope() as s:
                c = s.context.with_cancel()
                s.go(fail(error))
                await forever()
        assert c.cause() is error
        async with scope() as s:
            c = s.context
            assert c.err() is None and s.context is c and s.deadline is None
        assert c.err() is not None
        async with scope() as s:
            pass
        assert s.context.err() is not None  # made when all is over
        with pytest.raises(RuntimeError, match="entered"):
            scope().context  # noqa: B018
        assert uncancelled()

    drive(main)


def test_an_error_in_a_nested_scope_cancels_all_siblings(drive):
    async def main():
        log, error = [], ValueError("deep")

        async def nest(depth):
            async with scope() as s:
                s.go(forever(log, depth))
                if depth:
                    s.go(nest(depth - 1))
                else:
                    s.go(fail(error))
                await forever()

        with pytest.raises(ValueError) as raised:
            await nest(5)
        assert raised.value is error and sorted(log) == list(range(6))
        assert uncancelled()

    drive(main)


# -- Waiting for oneself ----------------------------------------------------------------------


def test_a_goroutine_awaits_itself(drive):
    async def main():
        async def selfish():
            await turns(1)
            await asyncio.current_task()

        with pytest.raises(RuntimeError, match="await on itself"):
            await treadle.go(selfish())

    drive(main)


def test_goroutines_await_each_other(drive):
    async def main():
        gs = []

        async def body(i, n):
            await turns(1)
            await gs[(i + 1) % n]

        for n in (2, 3, 10):
            gs[:] = [treadle.go(body(i, n)) for i in range(n)]
            with pytest.raises(DeadlockError, match="waits for it to end"):
                await gs[0]
            for g in gs:
                with pytest.raises(DeadlockError):
                    await g

    drive(main)


def test_a_goroutine_awaits_the_one_that_waits_for_it(spawn, drive):
    """In a scope: before the parent waits, and when it does already."""

    async def main():
        async def child(parent, gate):
            await gate.wait()
            await parent

        async def parent(early):
            me, gate = asyncio.current_task(), asyncio.Event()
            async with scope() as s:
                s.go(child(me, gate))
                sibling = s.go(forever())
                if early:
                    gate.set()
                    await turns()
                else:
                    treadle.after_func(0.001, gate.set)
            assert sibling.cancelled()

        for early in (True, False):
            with pytest.raises(DeadlockError):
                await spawn(parent(early))
        assert uncancelled()

    drive(main)


def test_a_circle_through_tasks_of_asyncio(drive):
    """Closed where treadle does not see it; but it can be cancelled."""

    async def main():
        gate = asyncio.Event()

        async def between(parent):
            await gate.wait()
            await parent

        async def parent():
            t = asyncio.create_task(between(asyncio.current_task()))
            async with scope() as s:
                s.go(join(t))

        async def join(t):
            await t

        t = asyncio.create_task(parent())
        await turns()
        gate.set()
        await turns()
        t.cancel()
        with pytest.raises((DeadlockError, asyncio.CancelledError)):
            await t

    drive(main)


def test_a_circle_of_scopes(drive):
    async def main():
        ready = asyncio.Event()
        gs = {}

        async def deepest():
            await ready.wait()
            await gs["other"]

        async def one():
            async with scope() as s:
                s.go(inner())

        async def inner():
            async with scope() as s:
                s.go(deepest())

        async def other():
            async with scope() as s:
                s.go(wait_for("one"))

        async def wait_for(name):
            await gs[name]

        gs["one"] = treadle.go(one())
        gs["other"] = treadle.go(other())
        await turns()
        ready.set()
        for g in gs.values():
            with pytest.raises(DeadlockError, match="waits for it to end"):
                await g

    drive(main)


def test_no_circle_is_seen_where_there_is_none(drive):
    async def main():
        async def leaf():
            await treadle.sleep(0.002)

        async def both(a):
            async with scope() as s:
                for _ in range(3):
                    s.go(join(a))

        async def join(a):
            await a

        async with scope() as outer:
            a = outer.go(leaf())
            b = outer.go(both(a))
            c = outer.go(both(b))
            outer.go(join(c))
            outer.go(both(b))
            await asyncio.gather(a, b, join(c))
        await until(lambda: c.done())

    drive(main)
