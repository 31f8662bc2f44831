# SPDX-License-Identifier: MIT
"""Goroutines: spawning, ending, cancelling, their errors, the Task protocol."""

import asyncio
import contextvars
import gc
import socket
import warnings
import weakref

import pytest
import treadle
from conftest import Handler, drive_run, until
from treadle import Chan

var = contextvars.ContextVar("var", default="unset")


async def give(value):
    await treadle.yield_()
    return value


async def fail(error):
    await treadle.yield_()
    raise error


async def forever(log=None):
    try:
        await treadle.Chan().recv()
    except asyncio.CancelledError as error:
        if log is not None:
            log.append(error.args)
        raise


def test_results_and_errors(drive):
    async def main():
        g = treadle.go(give(5))
        assert not g.done()
        assert await g == 5
        assert await g == 5 and g.done() and g.result() == 5 and g.exception() is None
        error = KeyError("x")
        g = treadle.go(fail(error))
        for _ in range(2):
            with pytest.raises(KeyError) as raised:
                await g
            assert raised.value is error
        assert g.exception() is error and not g.cancelled()
        with pytest.raises(KeyError):
            g.result()

    drive(main)


def test_several_await_one(drive):
    async def main():
        g = treadle.go(give("x"))

        async def wait():
            return await g

        waiters = [treadle.go(wait()) for _ in range(3)]
        tasks = [asyncio.create_task(wait()) for _ in range(3)]
        assert [await w for w in waiters + tasks] == ["x"] * 6

    drive(main)


def test_the_first_step_is_eager(drive):
    async def main():
        log = []

        async def body():
            log.append("in")
            await treadle.yield_()
            log.append("out")

        g = treadle.go(body())
        log.append("after go")
        await g
        return log

    assert drive(main) == ["in", "after go", "out"]


def test_deep_nesting_goes_to_the_queue(drive):
    async def main():
        depths = []

        async def nest(n):
            depths.append(n)
            if n < 5000:
                await treadle.go(nest(n + 1))

        await treadle.go(nest(1))
        return depths

    assert drive(main) == list(range(1, 5001))


def test_progress_beside_a_busy_one():
    """B1: a goroutine that polls and yields does not keep the value away."""

    async def main():
        ch, ack = Chan(), Chan()

        async def poll():
            while True:
                value, ok = ch.try_recv()
                if ok:
                    await ack.send(value)
                    return
                await treadle.yield_()

        treadle.go(poll())
        await treadle.sleep(0.01)
        await ch.send("x")
        assert await ack.recv() == "x"

    treadle.run(main())


def test_cancel(drive):
    async def main():
        log = []
        g = treadle.go(forever(log))
        assert g.cancel("why") and not g.done()
        with pytest.raises(asyncio.CancelledError) as raised:
            await g
        assert raised.value.args == ("why",)
        assert log == [("why",)] and g.cancelled() and not g.cancel()
        with pytest.raises(asyncio.CancelledError):
            g.result()
        with pytest.raises(asyncio.CancelledError):
            g.exception()

    drive(main)


def test_cancel_before_the_first_step(drive):
    async def main():
        log = []

        async def body():
            log.append("ran")

        g = treadle.go(body(), context=contextvars.copy_context())
        assert log == []
        g.cancel()
        with pytest.raises(asyncio.CancelledError):
            await g
        return log

    assert drive(main) == []


def test_cancel_can_be_ignored(drive):
    async def main():
        async def stubborn():
            for _ in range(3):
                try:
                    await treadle.sleep(20)
                except asyncio.CancelledError:
                    pass
            return "done"

        g = treadle.go(stubborn())
        for i in range(3):
            assert g.cancel()
            await treadle.sleep(0.001)
        assert g.cancelling() == 3
        return await g

    assert drive(main) == "done"


def test_cancel_itself(drive):
    async def main():
        async def body():
            asyncio.current_task().cancel()
            await treadle.sleep(0.001)

        g = treadle.go(body())
        with pytest.raises(asyncio.CancelledError):
            await g

    drive(main)


@pytest.mark.parametrize("spawn", [treadle.go, asyncio.create_task])
def test_cancelling_who_awaits_does_not_cancel(spawn, drive):
    if spawn is asyncio.create_task:
        spawn = lambda coro: asyncio.create_task(coro)

    async def main():
        ch = Chan()

        async def receive():
            return await ch.recv()

        g = treadle.go(receive())

        async def wait():
            return await g

        waiter = spawn(wait())
        await asyncio.sleep(0.001)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert not g.done()
        await ch.send("still there")
        return await g

    assert drive(main) == "still there"


def test_an_unseen_error_is_reported_once_the_handle_is_gone(drive):
    async def main():
        handler = Handler()
        error = ValueError("nobody looks")
        treadle.go(fail(error))
        await treadle.sleep(0.002)
        assert handler.errors == [error]
        assert "never retrieved" in handler.contexts[0]["message"]
        g = treadle.go(fail(ValueError("kept")))
        await treadle.sleep(0.002)
        assert len(handler.errors) == 1  # somebody may still look
        with pytest.raises(ValueError, match="kept"):
            await g
        del g
        gc.collect()
        assert len(handler.errors) == 1
        # the others went on
        assert await treadle.go(give(1)) == 1

    if drive is drive_run:
        with pytest.raises(ValueError, match="nobody looks"):
            drive(main)
    else:
        drive(main)


def test_run_raises_the_first_unseen_error():
    seen = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda l, c: seen.append(c["exception"]))
        treadle.go(fail(ValueError("first")))
        await treadle.sleep(0.001)
        treadle.go(fail(ValueError("second")))
        await treadle.sleep(0.001)
        return "lost"

    with pytest.raises(ValueError, match="first"):
        treadle.run(main())
    assert [str(e) for e in seen] == ["first", "second"]


@pytest.mark.filterwarnings("error")
def test_run_raises_an_error_whose_handle_is_kept():
    kept = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda l, c: None)
        kept.append(treadle.go(fail(ValueError("kept"))))
        await treadle.sleep(0.001)

    with pytest.raises(ValueError, match="kept"):
        treadle.run(main())
    kept.clear()


def test_mains_own_error_wins():
    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda l, c: None)
        treadle.go(fail(ValueError("other")))
        await treadle.sleep(0.001)
        raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        treadle.run(main())


def test_leftovers_are_cancelled_and_unwound(drive):
    log = []

    async def left():
        try:
            await treadle.sleep(100)
        finally:
            await treadle.sleep(0.005)  # unwinding may wait
            log.append("unwound")

    async def main():
        treadle.go(left())
        treadle.go(left())
        treadle.go(forever())

    drive(main)
    assert log == ["unwound"] * 2


def test_leftovers_are_unwound_when_main_fails():
    log = []

    async def left():
        try:
            await treadle.sleep(100)
        finally:
            log.append("unwound")

    async def main():
        treadle.go(left())
        raise KeyError("main")

    with pytest.raises(KeyError):
        treadle.run(main())
    assert log == ["unwound"]


def test_context(drive):
    async def main():
        async def child():
            seen = var.get()
            var.set("child")
            await treadle.yield_()
            return seen, var.get()

        var.set("main")
        assert await treadle.go(child()) == ("main", "child")
        assert var.get() == "main"
        context = contextvars.copy_context()
        context.run(var.set, "given")
        assert await treadle.go(child(), context=context) == ("given", "child")
        assert context[var] == "child"

    drive(main)


def test_task_protocol(drive):
    async def main():
        async def body():
            task = asyncio.current_task()
            before = task
            await treadle.yield_()
            assert asyncio.current_task() is before
            await asyncio.sleep(0.001)
            assert asyncio.current_task() is before
            inner = treadle.go(give(1))
            assert asyncio.current_task() is before
            await inner
            return task

        me = asyncio.current_task()
        g = treadle.go(body(), name="worker")
        assert asyncio.current_task() is me
        assert g.get_name() == g.name == "worker" and "worker" in repr(g)
        assert g.get_loop() is asyncio.get_running_loop()
        assert g.get_coro().cr_code.co_name == "body"
        assert [f.f_code.co_name for f in g.get_stack()] == ["body"]
        with pytest.raises(asyncio.InvalidStateError):
            g.result()
        with pytest.raises(asyncio.InvalidStateError):
            g.exception()
        with pytest.raises(RuntimeError):
            g.set_result(1)
        called = []
        g.add_done_callback(called.append)
        g.add_done_callback(print)
        assert g.remove_done_callback(print) == 1
        assert await g is g
        await asyncio.sleep(0)
        assert called == [g]
        g.add_done_callback(called.append)
        await asyncio.sleep(0)
        assert called == [g, g]
        g.set_name("other")
        assert g.name == "other"
        assert treadle.go(give(1)).name != treadle.go(give(1)).name
        assert asyncio.isfuture(g) and weakref.ref(g)() is g

    drive(main)


def test_bad_arguments():
    async def main():
        async def coro():
            pass

        for bad in (None, 1, coro, "x", print):
            with pytest.raises(TypeError, match="coroutine"):
                treadle.go(bad)
        for kwargs in ({"name": 1}, {"context": 1}, {"unknown": 1}):
            c = coro()
            with pytest.raises(TypeError):
                treadle.go(c, **kwargs)
            c.close()
        with pytest.raises(TypeError):
            treadle.G()

    treadle.run(main())


def test_bad_yields():
    class Bad:
        def __await__(self):
            yield 42

    class Other:
        def __await__(self):
            yield other.create_future()

    async def main():
        async def wait(what):
            await what

        with pytest.raises(RuntimeError, match="bad yield"):
            await treadle.go(wait(Bad()))
        with pytest.raises(RuntimeError, match="different loop|yield was used"):
            await treadle.go(wait(Other()))
        assert await treadle.go(give(3)) == 3

        async def own():
            await me[0]

        me = []

        async def start():
            await treadle.yield_()
            await me[0]

        me.append(treadle.go(start()))
        with pytest.raises(RuntimeError, match="await on itself"):
            await me[0]

    other = asyncio.new_event_loop()
    treadle.run(main())
    other.close()


def test_no_running_loop():
    async def coro():
        pass

    c = coro()
    with pytest.raises(RuntimeError, match="no running event loop"):
        treadle.go(c)
    c.close()
    for op in (treadle.sleep(1), treadle.yield_(), treadle.Chan().recv()):
        with pytest.raises(RuntimeError, match="no running event loop"):
            op.send(None)


def test_run_inside_run(drive):
    async def main():
        async def inner():
            pass

        c = inner()
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            treadle.run(c)
        c.close()
        return await treadle.go(give("unharmed"))

    assert drive(main) == "unharmed"
    with pytest.raises(ValueError, match="coroutine was expected"):
        treadle.run(main)


def test_a_coroutine_that_abandons_an_operation(drive):
    """An operation that was started and dropped disturbs nobody."""

    async def main():
        ch = Chan()

        async def body():
            op = ch.recv()
            assert op.send(None) is op  # by hand, then waits for something else
            await treadle.sleep(0.001)
            value = await asyncio.wait_for(ch.recv(), 5)
            op.close()
            return value

        g = treadle.go(body())
        await ch.send("for the first")
        await ch.send("for the second")
        return await g

    assert drive(main) == "for the second"


def test_gather_wait_for_and_friends(drive):
    async def main():
        ch = Chan()
        assert await asyncio.gather(treadle.go(give(1)), give(2), treadle.go(give(3))) == [1, 2, 3]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ch.recv(), 0.01)
        assert ch.try_send(1) is False  # nobody waits any more

        async def body():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await ch.recv()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ch.recv(), 0.01)
            with pytest.raises(TimeoutError):
                async with treadle.timeout(0.01):
                    await asyncio.sleep(10)
            assert asyncio.current_task().cancelling() == 0
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(give(i)) for i in range(3)]
            assert [t.result() for t in tasks] == [0, 1, 2]
            with pytest.raises(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail(ValueError()))
                    await ch.recv()
            assert await asyncio.shield(treadle.go(give("s"))) == "s"
            assert await asyncio.to_thread(lambda: "t") == "t"
            done, pending = await asyncio.wait([treadle.go(give(1)), treadle.go(forever())],
                                               return_when=asyncio.FIRST_COMPLETED)
            assert len(done) == len(pending) == 1
            pending.pop().cancel()
            return "all"

        return await treadle.go(body())

    assert drive(main) == "all"


def test_futures_inside_a_goroutine(drive):
    async def main():
        loop = asyncio.get_running_loop()
        ok, bad, never = loop.create_future(), loop.create_future(), loop.create_future()

        async def wait(future):
            return await future

        gs = [treadle.go(wait(f)) for f in (ok, bad, never)]
        loop.call_soon(ok.set_result, 1)
        loop.call_soon(bad.set_exception, KeyError("k"))
        assert await gs[0] == 1
        with pytest.raises(KeyError):
            await gs[1]
        gs[2].cancel()
        with pytest.raises(asyncio.CancelledError):
            await gs[2]
        assert never.cancelled()

    drive(main)


def test_finished_cycles_are_collected():
    async def main():
        refs = []
        for _ in range(10):
            async def body():
                box.append(asyncio.current_task())
                await treadle.yield_()

            box = []
            g = treadle.go(body())
            box.append(g)
            g.me = box
            refs.append(weakref.ref(g))
            await g
        del g, box, body
        gc.collect()
        assert [r() for r in refs] == [None] * 10

    treadle.run(main())


def test_a_loop_that_is_dropped_with_goroutines():
    """Closed without unwinding: said, and nothing kept."""
    told = []
    loop = treadle.new_event_loop()
    loop.set_exception_handler(lambda loop, context: told.append(context["message"]))

    async def main():
        ch = Chan()
        return weakref.ref(treadle.go(forever())), weakref.ref(ch)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        g, ch = loop.run_until_complete(main())
        loop.close()
        del loop
        gc.collect()
    assert g() is None and ch() is None
    assert told == ["goroutine was destroyed but it is pending!"]


def test_keyboard_interrupt_and_system_exit_leave_the_loop():
    for error in (KeyboardInterrupt, SystemExit):
        async def main():
            async def body():
                await treadle.yield_()
                raise error("out")

            treadle.go(body())
            await treadle.sleep(10)

        with pytest.raises(error):
            treadle.run(main())


def test_num_goroutines_and_dump(tmp_path):
    async def main():
        before = treadle.num_goroutines()
        gs = [treadle.go(forever(), name=f"sleeper-{i}") for i in range(3)]
        assert treadle.num_goroutines() == before + 3
        with open(tmp_path / "dump", "w+b") as f:
            treadle.dump(f)
            f.seek(0)
            text = f.read().decode()
        assert all(f"sleeper-{i}" in text for i in range(3))
        for g in gs:
            g.cancel()
        await asyncio.wait(gs)
        assert treadle.num_goroutines() == before
        with pytest.raises(ValueError):
            treadle.metric("nonsense")
        with pytest.raises(TypeError):
            treadle.metric(1)
        with pytest.raises((TypeError, ValueError)):
            treadle.dump("x")
        with pytest.raises(OSError):
            treadle.dump(999)

    treadle.run(main())


def test_awaitables_are_not_futures_until_they_wait(drive):
    async def main():
        op = treadle.sleep(0.001)
        assert not asyncio.isfuture(op)
        assert await asyncio.gather(op, Chan(1).send(1)) == [None, None]

    drive(main)


def test_until_helper_times_out():
    async def main():
        with pytest.raises(AssertionError):
            await until(lambda: False, 0.01)

    treadle.run(main())


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="eager tasks came with 3.12")
def test_eager_tasks_inside_a_goroutine(drive):
    """Their first step runs inside the goroutine's, and is not taken for it."""

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        ch = Chan()

        async def task():
            me = asyncio.current_task()
            assert isinstance(me, asyncio.Task)
            value = await ch.recv()
            assert asyncio.current_task() is me
            return value

        async def body():
            t = asyncio.create_task(task())
            assert asyncio.current_task() is g_box[0]
            await treadle.yield_()
            await ch.send("x")
            return await t

        g_box = []

        async def start():
            g_box.append(asyncio.current_task())
            return await body()

        return await treadle.go(start())

    assert drive(main) == "x"


def test_current_task_between_steps(drive):
    """Whatever runs beside goroutines that are stepped one after the other has none of them as
    its current task, and each of them has itself."""
    seen = {}

    def note(name):
        seen.setdefault(name, []).append(asyncio.current_task())

    async def main():
        loop = asyncio.get_running_loop()
        ping, pong = Chan(), Chan()
        a, b = socket.socketpair()

        async def first():
            me = asyncio.current_task()
            for i in range(40):
                await ping.send(i)
                assert asyncio.current_task() is me
                if i % 8 == 0:
                    loop.call_soon(note, "call_soon")
                    loop.call_later(0, note, "call_later")
                    loop.call_soon_threadsafe(note, "call_soon_threadsafe")
                    b.send(b"x")
                    tasks.append(asyncio.ensure_future(step()))
                    treadle.go(give(1)).add_done_callback(lambda g: note("done"))
                assert await pong.recv() == i
                assert asyncio.current_task() is me

        async def second():
            me = asyncio.current_task()
            for _ in range(40):
                value = await ping.recv()
                assert asyncio.current_task() is me
                await treadle.yield_()
                assert asyncio.current_task() is me
                await pong.send(value)

        async def step():
            me = asyncio.current_task()
            await asyncio.sleep(0)
            assert asyncio.current_task() is me and not isinstance(me, type(g))

        def readable():
            a.recv(10)
            note("reader")

        tasks = []
        loop.add_reader(a, readable)
        g, other = treadle.go(first()), treadle.go(second())
        await g
        await other
        await asyncio.gather(*tasks)
        await until(lambda: len(seen) == 5)
        loop.remove_reader(a)
        a.close()
        b.close()
        return loop

    loop = drive(main)
    assert asyncio.current_task(loop) is None
    assert {name: set(tasks) for name, tasks in seen.items()} == dict.fromkeys(
        ("call_soon", "call_later", "call_soon_threadsafe", "done", "reader"), {None}
    )
