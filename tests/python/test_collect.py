# SPDX-License-Identifier: MIT
"""The collector and goroutines: those that nothing can wake go, with their finally
blocks run; all others stay."""

import asyncio
import contextvars
import gc
import sys
import sysconfig
import threading
import weakref

import pytest
import treadle

PENDING = "goroutine was destroyed but it is pending!"
here = contextvars.ContextVar("here", default="elsewhere")


class Thing:
    pass


def run(main):
    """main(told): what the exception handler was told of."""
    told = []

    async def whole():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
        await main(told)

    enabled = gc.isenabled()
    gc.disable()
    gc.collect()
    gc.freeze()  # what is there already would only cost time
    try:
        treadle.run(whole())
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
    return told


async def collect():
    gc.collect()
    for _ in range(3):
        await treadle.yield_()
    gc.collect()


async def forever_recv(ch, thing):
    await ch.recv()


async def forever_send(ch, thing):
    await ch.send(thing)


async def forever_iterate(ch, thing):
    async for _ in ch:
        pass


async def forever_select(ch, thing):
    await treadle.select(ch.recv_op(), treadle.Chan().send_op(thing), ch.recv_op())


async def forever_future(ch, thing):
    await asyncio.get_running_loop().create_future()


async def forever_join(ch, thing):
    await treadle.go(forever_recv(ch, thing))


async def forever_task(ch, thing):
    await asyncio.get_running_loop().create_task(forever_recv(ch, thing))


@pytest.mark.parametrize(
    "wait",
    [forever_recv, forever_send, forever_iterate, forever_select, forever_future, forever_join, forever_task],
)
def test_who_cannot_be_woken_is_collected(wait):
    async def main(told):
        seen = []

        async def stuck(thing):
            here.set("inside")
            try:
                await wait(treadle.Chan(), thing)
            finally:
                seen.append((here.get(), asyncio.current_task().get_name(), sys.exc_info()[0]))

        thing = Thing()
        gone = weakref.ref(thing)
        before = treadle.num_goroutines()
        treadle.go(stuck(thing), name="stuck")
        del thing
        await treadle.yield_()
        assert treadle.num_goroutines() > before
        await collect()
        await collect()
        assert gone() is None
        if sysconfig.get_config_var("Py_GIL_DISABLED"):  # whose collector ends the coroutine first
            assert [kind for _, _, kind in seen] == [GeneratorExit]
        else:
            assert seen == [("inside", "stuck", GeneratorExit)]
        assert treadle.num_goroutines() == before
        assert here.get() == "elsewhere"

    assert PENDING in run(main)


def test_who_can_be_woken_stays():
    """By a channel that somebody has, by one of several, by a timer, by another thread."""

    async def main(told):
        held = treadle.Chan()
        shared = treadle.SharedChan(1)
        mutex = treadle.Mutex()
        await mutex.lock()
        future = asyncio.get_running_loop().create_future()
        results = []

        async def receives():
            results.append(await held.recv())

        async def selects():
            results.append((await treadle.select(treadle.Chan().recv_op(), held.recv_op()))[1])

        async def after():
            await treadle.select(treadle.Chan().recv_op(), treadle.after_op(0.05))
            results.append("after")

        async def sleeps():
            await treadle.sleep(0.05)
            results.append("slept")

        async def from_a_thread():
            results.append(await shared.recv())

        async def locks():
            async with mutex:
                results.append("locked")

        async def of_a_future():
            results.append(await future)

        async def joins(g):
            await g
            results.append("joined")

        async def timed():
            try:
                async with asyncio.timeout(0.05):
                    await treadle.Chan().recv()
            except TimeoutError:
                results.append("timed out")

        for coro in (receives(), selects(), after(), sleeps(), from_a_thread(), locks(), of_a_future(), timed()):
            treadle.go(coro)
        treadle.go(joins(treadle.go(receives())))
        task = asyncio.get_running_loop().create_task(receives())
        await treadle.yield_()
        await collect()
        assert told == []
        for i in range(4):
            await held.send(i)
        await shared.send("shared")
        mutex.unlock()
        future.set_result("future")
        await task
        async with asyncio.timeout(20):
            while len(results) < 11:
                await treadle.sleep(0.005)
        assert sorted(map(str, results)) == sorted(
            ["0", "1", "2", "3", "after", "slept", "shared", "locked", "future", "joined", "timed out"])

    assert run(main) == []


def test_a_handle_keeps_its_goroutine():
    async def main(told):
        g = treadle.go(forever_recv(treadle.Chan(), None))
        await collect()
        assert not g.done() and told == []
        g.cancel()
        with pytest.raises(asyncio.CancelledError):
            await g

    assert run(main) == []


def test_a_handle_in_a_cycle_ends_cancelled():
    """Somebody who meets it again finds it cancelled."""
    kept = []

    async def main(told):
        async def stuck():
            ch = treadle.Chan()
            g = asyncio.current_task()
            try:
                await ch.recv()
            finally:
                kept.extend([g, ch])

        treadle.go(stuck())
        await treadle.yield_()
        await collect()
        g, ch = kept
        assert g.done() and g.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await g
        treadle.go(sends(ch))
        assert await ch.recv() == "still of use"

    async def sends(ch):
        await ch.send("still of use")

    assert run(main) == [PENDING]


def test_rings_of_goroutines():
    """Each waits for the next one's channel, and one joins them all."""

    async def main(told):
        ended = []

        async def link(i, mine, next):
            try:
                await next.recv()
                await mine.send(1)
            finally:
                ended.append(i)

        async def ring(n):
            chans = [treadle.Chan() for _ in range(n)]
            gs = [treadle.go(link(i, chans[i], chans[(i + 1) % n])) for i in range(n)]
            for g in gs:
                await g

        before = treadle.num_goroutines()
        treadle.go(ring(20))
        await treadle.yield_()
        await collect()
        await collect()
        assert sorted(ended) == list(range(20))
        assert treadle.num_goroutines() == before

    assert set(run(main)) == {PENDING}


def test_finally_blocks_may_do_anything(recwarn):
    async def main(told):
        outside = treadle.Chan(1)
        unraisable = []
        old, sys.unraisablehook = sys.unraisablehook, lambda info: unraisable.append(str(info.exc_value))

        async def sends():
            try:
                await treadle.Chan().recv()
            finally:
                outside.try_send("sent")
                treadle.go(spawned())

        async def spawned():
            await outside.send("spawned")

        async def waits():
            try:
                await treadle.Chan().recv()
            finally:
                await treadle.sleep(0.001)

        async def raises():
            try:
                await treadle.Chan().recv()
            finally:
                raise ZeroDivisionError("in finally")

        try:
            for function in (sends, waits, raises):
                treadle.go(function())
            await treadle.yield_()
            await collect()
            assert await outside.recv() == "sent"
            assert await outside.recv() == "spawned"
            assert sorted(unraisable) == ["coroutine ignored GeneratorExit", "in finally"]
        finally:
            sys.unraisablehook = old

    run(main)


def test_another_thread_collects():
    """It cannot know who waits, and leaves all alone; their own thread finds them."""

    async def main(told):
        for _ in range(10):
            treadle.go(forever_recv(treadle.Chan(), None))
        await treadle.yield_()
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work():
            for _ in range(5):
                gc.collect()
            loop.call_soon_threadsafe(done.set)

        thread = threading.Thread(target=work)
        thread.start()
        await done.wait()
        thread.join()
        assert told == []
        await collect()
        assert told == [PENDING] * 10

    run(main)


def test_nothing_is_left_for_the_collector():
    """A loop that is closed, and what was used in it, goes without a collection: no circle is left."""

    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"a\n")
        await reader.readline()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        chan = treadle.Chan(1)
        async with treadle.scope() as s:
            s.go(chan.send(1))
            await chan.recv()
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            async with await treadle.dial("tcp", listener.address), await listener.accept():
                pass

    def run():
        with asyncio.Runner(loop_factory=treadle.new_event_loop) as runner:
            runner.run(main())

    enabled = gc.isenabled()
    run()  # what is only made once
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        run()
        gc.collect()
        left = [type(thing) for thing in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        if enabled:
            gc.enable()
    assert not [kind for kind in left if kind.__module__.startswith("treadle")], left


def test_channels_of_a_closed_loop():
    """What lies in channels of a loop that is closed goes with them, on whichever thread."""
    kept, told = [], []

    async def main():
        for closed in (False, True):
            for cycle in (False, True):
                chan, thing = treadle.Chan(2), Thing()
                chan.try_send(thing)
                chan.try_send(chan if cycle else None)
                if closed:
                    chan.close()
                told.append(weakref.ref(thing))
                kept.append(chan)

    def in_a_thread(work):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def drop():
        kept[0].close()
        kept.clear()
        gc.collect()

    treadle.run(main())
    assert all(ref() is not None for ref in told) and len(told) == 4
    in_a_thread(drop)
    assert [ref() for ref in told] == [None] * 4


def test_the_collector_at_any_moment():
    """Nobody who is still wanted goes: with the collector at work all the time."""

    async def main(told):
        async def stage(source, sink):
            async for value in source:
                await sink.send(value + 1)
            sink.close()

        async def chooses(a, b, sink):
            for _ in range(40):
                selected = await treadle.select(a.recv_op(), b.recv_op())
                await sink.send(selected[1])
            sink.close()

        async def feeds(ch, n):
            for i in range(n):
                await ch.send(i)

        async def pipeline(n):
            first = source = treadle.Chan()
            for _ in range(3):
                sink = treadle.Chan()
                treadle.go(stage(source, sink))
                source = sink
            treadle.go(feeds(first, n))
            got = [await source.recv() for _ in range(n)]
            first.close()
            assert got == [i + 3 for i in range(n)]

        async def chosen():
            a, b, sink = treadle.Chan(), treadle.Chan(), treadle.Chan()
            treadle.go(chooses(a, b, sink))
            treadle.go(feeds(a, 20))
            treadle.go(feeds(b, 20))
            assert sorted([value async for value in sink]) == sorted([*range(20), *range(20)])

        async def awaited():
            return await treadle.go(pipeline(10))

        threshold = gc.get_threshold()
        gc.enable()
        gc.set_threshold(2, 2, 2)
        try:
            gs = [treadle.go(f()) for _ in range(3) for f in (lambda: pipeline(20), chosen, awaited)]
            for g in gs:
                await g
            tasks = [asyncio.create_task(pipeline(10)) for _ in range(3)]
            await asyncio.gather(*tasks)
        finally:
            gc.set_threshold(*threshold)
            gc.disable()
        assert told == []

    run(main)
