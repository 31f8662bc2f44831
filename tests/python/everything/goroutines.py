# SPDX-License-Identifier: MIT
"""Goroutines, channels, locks, contexts and timers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import treadle

from .base import cancelled_in, refused, scenario


@scenario
async def channels() -> None:
    a: treadle.Chan[Any] = treadle.Chan()
    b: treadle.Chan[Any] = treadle.Chan(2)

    async def relay() -> None:
        async for value in a:
            await b.send([value])
        b.close()

    async with treadle.scope() as s:
        s.go(relay(), name="relay")
        for i in range(3):
            await a.send(i)
            assert await b.recv() == [i]
        a.close()
    assert await b.recv_ok() == (None, False)
    await refused(treadle.ChannelClosed, b.recv())
    await refused(treadle.ChannelClosed, a.send(1))
    c: treadle.Chan[Any] = treadle.Chan(1)
    assert c.try_send([1]) and not c.try_send([2]) and c.try_recv() == ([1], True) and len(c) == 0
    await c.send(["left behind"])
    d: treadle.Chan[Any] = treadle.Chan()
    await cancelled_in(d.recv)
    await cancelled_in(lambda: d.send(["x"]))
    repr(d), d.cap, d.closed, treadle.Chan[int]


@scenario
async def select_() -> None:
    a: treadle.Chan[Any] = treadle.Chan()
    b: treadle.Chan[Any] = treadle.Chan(1)
    assert await treadle.select(a.recv_op(), b.send_op([1])) == (1, None)
    assert await treadle.select(a.recv_op(), b.recv_op()) == (1, [1])
    assert (await treadle.select(a.recv_op(), treadle.after_op(0.0001)))[0] == 1
    assert treadle.try_select(a.recv_op(), a.send_op([3])) == (None, None)
    await cancelled_in(lambda: treadle.select(a.recv_op(), a.send_op(["x"]), treadle.after_op(100)))

    async def late() -> None:
        await treadle.yield_()
        await a.send(["late"])

    async with treadle.scope() as s:
        s.go(late())
        assert await treadle.select(b.recv_op(), a.recv_op(), treadle.Timer(100).recv_op()) == (1, ["late"])


@scenario
async def goroutines() -> None:
    async def value(x: Any) -> Any:
        await treadle.yield_()
        return x

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("on purpose")

    async def future() -> Any:
        f = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(f.set_result, ["set"])
        return await f

    g = treadle.go(value([1]), name="one")
    g.add_done_callback(repr)
    g.add_done_callback(id)
    g.remove_done_callback(id)
    assert await g == [1] and g.done() and not g.cancelled() and g.exception() is None
    g.get_name(), g.get_coro(), g.get_context(), g.get_stack(), g.get_loop(), repr(g), g.name
    await refused(ValueError, treadle.go(fail()))
    assert await treadle.go(future()) == ["set"]
    assert await asyncio.gather(treadle.go(value(1)), asyncio.create_task(value(2))) == [1, 2]
    assert await asyncio.wait_for(treadle.go(value(3)), 10) == 3
    async with asyncio.timeout(10):
        async with asyncio.TaskGroup() as group:
            group.create_task(value(4))
            group.create_task(treadle.go(value(5)).get_loop().shutdown_default_executor())
    await cancelled_in(lambda: treadle.sleep(100))
    await cancelled_in(lambda: treadle.go(treadle.sleep(0)))
    await cancelled_in(lambda: asyncio.get_running_loop().create_future())
    with contextlib.suppress(TimeoutError):
        async with treadle.timeout(0.0001):
            await treadle.sleep(100)
    treadle.num_goroutines(), treadle.now(), treadle.metric("goroutines")
    treadle.sleep(0).close()
    treadle.yield_().close()


@scenario
async def locks() -> None:
    m, rw, s, wg = treadle.Mutex(), treadle.RWMutex(), treadle.Semaphore(2), treadle.WaitGroup()
    c = treadle.Cond(m)

    async def wait() -> None:
        async with s, c:
            await c.wait()

    for act in (c.signal, c.broadcast):
        gs = [wg.go(wait()), treadle.go(wait())]
        await treadle.yield_()
        act()
        for g in gs:
            g.cancel()
        await asyncio.wait(gs)
    await wg.wait()
    async with m:
        assert not m.try_lock()
        await cancelled_in(m.lock)
    async with rw.read():
        assert rw.try_rlock() and not rw.try_lock()
        rw.runlock()
        await cancelled_in(rw.lock)
    async with rw.write():
        await cancelled_in(rw.rlock)
    await s.acquire(2)
    await cancelled_in(s.acquire)
    s.release(2)
    assert s.try_acquire() is True
    s.release()
    await refused(RuntimeError, c.wait())
    wg.add(1)
    await cancelled_in(wg.wait)
    wg.done()


@scenario
async def once_and_flights() -> None:
    once: treadle.Once[Any] = treadle.Once()
    flight: treadle.SingleFlight[Any] = treadle.SingleFlight()

    async def load(x: Any) -> Any:
        await treadle.sleep(0.0001)
        return x

    async def fail() -> None:
        await treadle.yield_()
        raise ValueError

    assert await asyncio.gather(once.do(load, [1]), once.do(load, [1])) == [[1], [1]]
    gs = [treadle.go(flight.do("key", load, ["page"])) for _ in range(3)]
    assert [await g for g in gs] == [["page"]] * 3
    await refused(ValueError, flight.do("key", fail))
    await cancelled_in(lambda: flight.do("other", treadle.sleep, 100))
    await cancelled_in(lambda: treadle.Once().do(treadle.sleep, 100))


@scenario
async def groups_and_scopes() -> None:
    async def fail() -> None:
        await treadle.yield_()
        raise ValueError("on purpose")

    async def value(x: Any) -> Any:
        return x

    async with treadle.scope() as s:
        g = s.go(value([1]))
    assert g.result() == [1]
    with contextlib.suppress(ValueError):
        async with treadle.scope() as s:
            s.go(fail())
            s.go(treadle.sleep(100))
            await treadle.sleep(100)
    with contextlib.suppress(TimeoutError):
        async with treadle.scope(timeout=0.0001) as s:
            await s.context.done()
    with contextlib.suppress(ValueError):
        async with treadle.ErrGroup(limit=1) as eg:
            for _ in range(2):
                await eg.go(fail())
    async with treadle.ErrGroup(treadle.background(), limit=2) as eg:
        await eg.go(treadle.sleep(0))

    async def inner() -> None:
        async with treadle.scope() as s:
            s.go(treadle.sleep(100))

    await cancelled_in(inner)


@scenario
async def contexts() -> None:
    with treadle.background().with_timeout(100) as c:
        d = c.with_value("key", ["value"]).with_cancel()
        assert d.value("key") == ["value"] and d.deadline
        stop = d.after_func(int)
        assert stop()
        d.after_func(int)
        d.cancel(ValueError("why"))
        await d.done()
        assert isinstance(d.cause(), ValueError) and d.err()
    await refused(TimeoutError, run_in(treadle.background().with_timeout(0.0001)))
    await cancelled_in(lambda: treadle.background().with_cancel().done())
    e = treadle.background().with_cancel()
    g = treadle.go(run_in(e))
    await treadle.yield_()
    e.cancel(KeyError("key"))
    await refused(KeyError, g)
    assert (await treadle.select(e.done_op()))[0] == 0


async def run_in(context: treadle.Context) -> None:
    async with context:
        await treadle.sleep(100)


@scenario
async def timers() -> None:
    t = treadle.Timer(0.0001)
    await t.recv()
    assert t.reset(100) is False and t.stop() is True
    with treadle.Ticker(0.0001) as ticks:
        async for _ in ticks:
            break
    done: treadle.Chan[int] = treadle.Chan(1)
    treadle.after_func(0, done.try_send, 1)
    await treadle.select(done.recv_op(), treadle.after_op(1))
    assert treadle.after_func(100, int).stop()
    await cancelled_in(treadle.Timer(100).recv)
    await treadle.sleep(0.0001)
