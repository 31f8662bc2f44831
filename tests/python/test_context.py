# SPDX-License-Identifier: MIT
"""Contexts."""

import asyncio
import gc
import threading

import pytest
import treadle
from conftest import script, turns, until
from treadle import Chan, Context, ContextCancelled, background, select


def contexts():
    gc.collect()
    return treadle.metric("contexts")


@pytest.fixture(autouse=True)
def no_context_is_left():
    before = contexts()
    yield
    assert contexts() == before


def test_ends_with_its_parent(spawn, drive):
    async def main():
        root = background().with_cancel()
        child = root.with_cancel().with_value("k", 1)
        other = root.with_value("k", 2).without_cancel()
        assert child.err() is None and child.cause() is None and child.deadline is None
        child.check()
        waiting = [spawn(wait(c)) for c in (root, child, child)]
        await turns()
        assert root.cancel() and not root.cancel()
        for t in waiting:
            await t
        for c in (root, child, root.with_cancel()):  # born ended, too
            assert type(c.err()) is ContextCancelled
            assert type(c.cause()) is ContextCancelled
            assert not c.cancel()
            await c.done()
            with pytest.raises(ContextCancelled, match="cancelled"):
                c.check()
        assert other.err() is None and other.value("k") == 2
        with pytest.raises(ValueError, match="no end"):
            other.cancel()
        with pytest.raises(ValueError, match="no end"):
            background().cancel()

    drive(main)


async def wait(c):
    await c.done()


def test_causes():
    root = background().with_cancel()
    child = root.with_cancel().with_value(1, 2)
    cause = KeyError("reason")
    assert root.cancel(cause) and not root.cancel(ValueError("late"))
    assert not child.cancel(ValueError("late"))
    assert child.cause() is cause and root.cause() is cause
    assert type(child.err()) is ContextCancelled
    with pytest.raises(KeyError, match="reason"):
        child.check()
    # another holder knows no object, but what the core was told
    other = Context._from_address(child._address).cause()
    assert type(other) is ContextCancelled and other.detail == "KeyError: 'reason'"
    root = background().with_cancel()
    root.cancel(ConnectionResetError(104, "gone"))
    other = Context._from_address(root._address).cause()
    assert type(other) is ConnectionResetError and "gone" in str(other)
    # the child's own end comes before the parent's
    root = background().with_cancel()
    child = root.with_cancel()
    first, second = ValueError("first"), ValueError("second")
    child.cancel(first)
    root.cancel(second)
    assert child.cause() is first and root.cause() is second
    with pytest.raises(TypeError, match="exception"):
        root.cancel("because")


def test_deadlines(spawn, drive):
    async def main():
        now = treadle.now()
        c = background().with_timeout(0.005)
        assert now < c.deadline <= treadle.now() + 0.005
        far = c.with_timeout(100)
        assert far.deadline == c.deadline == far.with_value(1, 1).deadline
        assert far.without_cancel().deadline is None
        near = background().with_timeout(100).with_deadline(now + 0.002)
        assert abs(near.deadline - now - 0.002) < 1e-6
        t = spawn(wait(far))
        await near.done()
        assert treadle.now() >= now + 0.002
        await t
        assert treadle.now() >= c.deadline
        for over in (c, far, near, background().with_timeout(0), background().with_deadline(-1)):
            assert type(over.err()) is type(over.cause()) is TimeoutError
        never = background().with_timeout(float("inf"))
        assert never.deadline is None and never.err() is None
        stopped = background().with_timeout(0.001)
        stopped.cancel(KeyError(1))
        await treadle.sleep(0.003)
        assert type(stopped.cause()) is KeyError
        with pytest.raises(ValueError, match="NaN"):
            background().with_timeout(float("nan"))

    drive(main)
    with pytest.raises(RuntimeError, match="no running event loop"):
        background().with_timeout(1)


def test_values():
    key, value = object(), {"any": "object"}
    a = background().with_value("k", 1).with_value(key, value).with_value((1, 2), None)
    b = a.with_cancel().with_value("k", b"nearer")
    assert b.value("k") == b"nearer" and a.value("k") == 1
    assert b.value(key) is value and b.value((1, 2), 3) is None
    assert b.value("none") is None and b.value("none", 4) == 4
    assert background().value("k") is None
    # what the core carries is seen by other holders, the rest is not
    c = Context._from_address(b._address)
    assert c.value("k") == b"nearer" and c.value(key, 5) == 5 and c.value((1, 2), 6) == 6
    d = c.with_value(3.5, "text").with_cancel()
    assert d.value("k") == b"nearer" and d.value(3.5) == "text"
    with pytest.raises(ValueError, match="None"):
        a.with_value(None, 1)
    with pytest.raises(TypeError, match="hash"):
        a.with_value([], 1)


def test_select(drive):
    async def main():
        c, ch = background().with_cancel(), Chan(1)
        assert await select(c.done_op(), ch.recv_op(), treadle.after_op(0)) == (2, None)
        assert await select(background().done_op(), ch.send_op(1)) == (1, None)
        assert treadle.try_select(c.done_op(), background().done_op()) == (None, None)
        treadle.after_func(0.001, c.cancel)
        assert await select(c.done_op(), Chan().recv_op()) == (0, None)
        assert treadle.try_select(c.done_op()) == (0, None)
        # a channel that is closed is told from a context that has ended
        ch.close()
        assert await ch.recv() == 1
        with pytest.raises(treadle.ChannelClosed) as raised:
            await select(background().done_op(), ch.recv_op())
        assert raised.value.index == 1

    drive(main)


def test_a_body_under_a_context(spawn, drive):
    async def main():
        async def body(c, log):
            try:
                async with c:
                    await treadle.sleep(50)
            finally:
                assert asyncio.current_task().cancelling() == 0
                log.append(c.err())
                await treadle.sleep(0)

        cause = KeyError("why")
        root = background().with_cancel()
        log = []
        ts = [spawn(body(root.with_cancel(), log)) for _ in range(3)]
        await turns()
        root.cancel(cause)
        for t in ts:
            with pytest.raises(KeyError) as raised:
                await t
            assert raised.value is cause
        assert [type(e) for e in log] == [ContextCancelled] * 3

        with pytest.raises(TimeoutError):
            await spawn(body(background().with_timeout(0.002), log))
        with pytest.raises(KeyError):  # ended before it begins
            await spawn(body(root.with_cancel(), log))

        # cancelled itself: that is not the context's doing
        t = spawn(body2(background().with_cancel(), log))
        await turns()
        t.cancel()
        await asyncio.wait([t])
        assert t.cancelled() and type(log[-1]) is ContextCancelled

    async def body2(c, log):
        try:
            async with c:
                await treadle.sleep(50)
        finally:
            log.append(c.err())

    drive(main)


def test_the_end_of_a_body(drive):
    async def main():
        async with background().with_cancel() as c:
            inner = c.with_cancel()
        assert c.err() is not None and inner.err() is not None
        with pytest.raises(RuntimeError, match="once"):
            async with c:
                pass
        with pytest.raises(ZeroDivisionError):
            async with background().with_cancel() as c:
                raise ZeroDivisionError
        # it ends, but the body does not wait any more
        async with background().with_cancel() as c:
            c.cancel(KeyError(1))
        await treadle.sleep(0.001)
        # the inner one's end is not the outer one's
        async with background().with_timeout(50) as outer:
            with pytest.raises(TimeoutError):
                async with outer.with_timeout(0.001):
                    await treadle.sleep(50)
            outer.check()
        # both at once: each takes back its own cancellation
        with pytest.raises(TimeoutError):
            async with background().with_timeout(0.001) as outer, outer.with_cancel():
                await treadle.sleep(50)
        assert asyncio.current_task().cancelling() == 0
        await treadle.sleep(0.001)
        with background().with_cancel() as c:
            assert c.err() is None
        assert type(c.err()) is ContextCancelled

    drive(main)
    with pytest.raises(TypeError, match="background"):
        Context(None, None)


def test_after_func(drive):
    async def main():
        log = []

        async def slow(x):
            await treadle.yield_()
            log.append(x)

        c = background().with_cancel()
        stop = c.after_func(log.append, "stopped")
        stops = [c.after_func(log.append, 1), c.after_func(slow, 2)]
        await turns()
        assert log == [] and stop() and not stop()
        c.cancel()
        await until(lambda: len(log) == 2)
        assert sorted(log) == [1, 2] and not any(s() for s in stops)
        c.after_func(log.append, 3)  # it has ended
        await until(lambda: 3 in log)
        background().after_func(log.append, 4)
        live = background().with_cancel()
        live.after_func(log.append, 5)
        await turns()
        assert "stopped" not in log and 4 not in log
        return live

    live = drive(main)
    live.cancel()


def test_hundreds_of_children(drive):
    async def main():
        before = contexts()
        root = background().with_cancel()
        children = [root.with_cancel() for _ in range(300)]
        children += [c.with_timeout(50) for c in children[:50]]
        waiting = [treadle.go(wait(c)) for c in children]
        assert contexts() == before + 351
        root.cancel(ValueError())
        for g in waiting:
            await g
        assert all(type(c.cause()) is ValueError for c in children)
        del children, waiting, g
        assert contexts() == before + 1
        for _ in range(1000):
            root.with_value(1, 2)
        assert contexts() == before + 1

    drive(main)


def test_other_threads_and_loops():
    """Made in one thread, waited for in others, ended by a plain one."""
    c, woken, ready = background().with_cancel(), [], threading.Barrier(4)

    async def main():
        t = asyncio.ensure_future(wait_in_order())
        await turns()
        ready.wait()
        await t
        woken.append(c.cause())

    async def wait_in_order():
        await c.with_cancel().done()

    threads = [
        threading.Thread(target=run, args=(main(),))
        for run in (treadle.run, asyncio.run, treadle.run)
    ]
    for t in threads:
        t.start()
    ready.wait()
    cause = KeyError("from a thread")
    c.cancel(cause)
    for t in threads:
        t.join()
    assert woken == [cause] * 3


def test_a_deadline_of_another_loop():
    seen = []

    async def main():
        c = background().with_timeout(0.002)
        other = threading.Thread(target=lambda: asyncio.run(see(c)))
        other.start()
        await until(lambda: not other.is_alive())

    async def see(c):
        await c.done()
        seen.append(c.err())

    treadle.run(main())
    assert [type(e) for e in seen] == [TimeoutError]


def test_with_goroutines_in_c():
    out = script("""
        import asyncio, ctypes, treadle
        core = ctypes.CDLL("libtreadle.so.0")
        P, I = ctypes.c_void_p, ctypes.c_int
        core.tdl_go.argtypes = [P, P]
        core.tdl_context_cancel.argtypes = [P, I, P]
        core.tdl_context_err.argtypes = core.tdl_context_wait.argtypes = [P]
        core.tdl_errgroup_go.argtypes = core.tdl_errgroup_try_go.argtypes = [P, P, P]
        wait = ctypes.cast(core.tdl_context_wait, P)
        err = ctypes.cast(core.tdl_context_err, P)

        async def main():
            c = treadle.background().with_cancel()
            eg = treadle.ErrGroup(c)
            for _ in range(10):  # each waits as a goroutine in C for the end of c
                assert core.tdl_errgroup_try_go(eg._address, wait, c._address) == 0
            g = await eg.go(done(c))
            await treadle.sleep(0.002)
            assert not g.done()
            c.cancel()
            await eg.wait()
            # its result is the group's error
            eg = treadle.ErrGroup()
            assert core.tdl_errgroup_try_go(eg._address, err, c._address) == 0
            try:
                await eg.wait()
            except treadle.ContextCancelled as e:
                print(type(eg.context.cause()).__name__)
            # a code from C is an exception here
            d = treadle.background().with_cancel()
            assert core.tdl_context_cancel(d._address, -111, None) == 1
            print(type(d.cause()).__name__, type(d.with_cancel().err()).__name__)
            e = treadle.background().with_cancel()
            core.tdl_context_cancel(e._address, 77, None)
            print(e.cause().code, core.tdl_context_err(e._address) == e.err().code)

        async def done(c):
            await c.done()

        treadle.run(main())
    """)
    assert out.stderr == ""
    assert out.stdout == "ContextCancelled\nConnectionRefusedError ContextCancelled\n77 True\n"
