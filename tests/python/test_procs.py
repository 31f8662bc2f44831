# SPDX-License-Identifier: MIT
"""treadle.run(main(), procs=n): goroutines of one run on several threads, in a free-threaded
Python. Elsewhere only what is refused is tested."""

import asyncio
import contextlib
import contextvars
import gc
import random
import sys
import threading
import weakref

import pytest
import treadle
from conftest import script

AT_ONCE = hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled()
needs_threads = pytest.mark.skipif(not AT_ONCE, reason="needs a Python without its lock")


async def nothing():
    pass


async def where():
    return threading.get_ident()


def away(make, *args):
    """A goroutine of make(*args) that begins on another thread, and its begin."""
    begun, at = threading.Event(), []

    async def body():
        at.append(threading.get_ident())
        begun.set()
        return await make(*args)

    g = treadle.go(body())
    assert begun.wait(20), "nobody took it"
    assert at != [threading.get_ident()]
    return g


def test_what_is_refused():
    for wrong, error in ((0, ValueError), (65, ValueError), (-1, ValueError), ("2", TypeError), (True, TypeError)):
        with pytest.raises(error, match="procs"):
            treadle.run(nothing(), procs=wrong)
    assert treadle.run(where(), procs=1) == threading.get_ident()
    if not AT_ONCE:
        with pytest.raises(RuntimeError, match=r"procs=2 needs a free-threaded Python.*treadle\.workers\(2"):
            treadle.run(nothing(), procs=2)


@needs_threads
def test_goroutines_run_on_several_threads():
    async def main():
        me = threading.get_ident()
        both = threading.Barrier(2)

        async def meet():
            both.wait(20)  # only two at once get past
            return threading.get_ident()

        g, h = treadle.go(meet()), treadle.go(meet())
        assert len({await g, await h}) == 2
        assert threading.get_ident() == me == main_thread
        return "done"

    main_thread = threading.get_ident()
    before = threading.active_count()
    assert treadle.run(main(), procs=2) == "done"
    assert threading.active_count() == before


@needs_threads
@pytest.mark.parametrize("procs", [2, 3])
def test_no_wake_up_is_lost(procs):
    """One is started while the others sleep, and this thread does not let go until it has run."""

    async def main():
        for i in range(60):
            if i % 3 == 0:
                await treadle.sleep(random.random() * 0.0004)
            await away(nothing)

    treadle.run(main(), procs=procs)


@needs_threads
def test_trees_of_goroutines():
    async def tree(depth):
        if depth == 0:
            await treadle.yield_()
            return 1
        below = [treadle.go(tree(depth - 1)) for _ in range(3)]
        return sum([await g for g in below])

    assert treadle.run(tree(6), procs=3) == 3**6


@needs_threads
@pytest.mark.parametrize("cap", [0, 1, 3])
@pytest.mark.parametrize("seed", range(2))
def test_values_are_conserved(cap, seed):
    """Senders and receivers, by themselves and in selects, are cancelled at any moment:
    what was sent is what was received."""

    async def main():
        rng = random.Random(seed)
        ch, never, lock = treadle.Chan(cap), treadle.Chan(), threading.Lock()
        numbers, sent, received = iter(range(10**9)), [], []

        async def send():
            while True:
                with lock:
                    n = next(numbers)
                value = (n, object())  # not something that could travel without a reference
                if n % 2:
                    await treadle.select(never.recv_op(), ch.send_op(value))
                else:
                    await ch.send(value)
                sent.append(n)

        async def receive():
            for k in range(10**9):
                if k % 2:
                    _, value = await treadle.select(ch.recv_op(), never.recv_op())
                else:
                    value = await ch.recv()
                received.append(value[0])

        running, all_ = [], []
        for _ in range(150):
            while len(running) < 8:
                running.append(treadle.go(rng.choice((send, receive))()))
                all_.append(running[-1])
            for _ in range(rng.randrange(4)):
                await treadle.yield_()
            victim = running.pop(rng.randrange(len(running)))
            victim.cancel()
            if rng.random() < 0.3:
                with pytest.raises(asyncio.CancelledError):
                    await victim
        for g in running:
            assert g.cancel() or g.done()
        await asyncio.wait(all_)
        while (last := ch.try_recv())[1]:
            received.append(last[0][0])
        assert sorted(sent) == sorted(received)
        assert all(g.cancelled() for g in all_)

    treadle.run(main(), procs=2)


@needs_threads
def test_a_channel_is_fifo_for_one_sender_and_closes():
    async def main():
        async def produce(ch, n):
            for i in range(n):
                await ch.send(i)
            ch.close()

        for cap in (0, 1, 7):
            ch = treadle.Chan(cap)
            g = away(produce, ch, 200)
            assert [v async for v in ch] == list(range(200))
            await g
            with pytest.raises(treadle.ChannelClosed):
                ch.close()
            with pytest.raises(treadle.ChannelClosed):
                ch.try_recv()

    treadle.run(main(), procs=2)


@needs_threads
def test_what_a_channel_carries_is_given_back():
    class Thing:
        pass

    things = []

    async def main():
        ch = treadle.Chan(4)

        async def fill():
            for _ in range(4):
                thing = Thing()
                things.append(weakref.ref(thing))
                await ch.send(thing)

        await away(fill)
        assert (await ch.recv()) is things[0]()
        assert ch.try_recv()[0] is things[1]()
        i, value = treadle.try_select(ch.recv_op())
        assert i == 0 and value is things[2]()

    treadle.run(main(), procs=2)
    gc.collect()
    assert [t() for t in things] == [None] * 4


@needs_threads
def test_results_errors_and_callbacks():
    async def main():
        me = threading.get_ident()
        go_on = threading.Event()

        async def give(value):
            go_on.wait(20)
            if isinstance(value, Exception):
                raise value
            return value

        g = away(give, 7)
        calls = []
        g.add_done_callback(lambda g: calls.append((g.result(), threading.get_ident())))
        taken_back = calls.append
        g.add_done_callback(taken_back)
        assert g.remove_done_callback(taken_back) == 1
        assert not g.done()
        with pytest.raises(asyncio.InvalidStateError):
            g.result()
        go_on.set()
        assert await g == 7 == g.result()
        while not calls:
            await asyncio.sleep(0)
        assert calls == [(7, me)]  # called where it was added
        g.add_done_callback(lambda g: calls.append(g))
        await asyncio.sleep(0)
        assert calls[1] is g

        g = away(give, KeyError("k"))
        with pytest.raises(KeyError):
            await g
        assert isinstance(g.exception(), KeyError)
        two = [away(give, n) for n in (1, 2)]
        assert await asyncio.gather(*two) == [1, 2]
        assert await asyncio.wait_for(away(give, 3), 20) == 3
        assert await asyncio.create_task(asyncio.wait_for(away(give, 4), 20)) == 4
        done, left = await asyncio.wait([away(give, 5)])
        assert not left and done.pop().result() == 5
        async with asyncio.TaskGroup() as group:
            task = group.create_task(awaiting(away(give, 6)))
        assert task.result() == 6

    async def awaiting(g):
        return await g

    treadle.run(main(), procs=3)


@needs_threads
def test_the_first_unseen_error_is_raised():
    reported = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: reported.append((context["message"], context["exception"]))
        )

        async def fail():
            raise LookupError("nobody looks")

        g = away(fail)
        while not g.done():
            await treadle.sleep(0.001)

    with pytest.raises(LookupError):
        treadle.run(main(), procs=2)
    assert [m for m, e in reported if isinstance(e, LookupError)] == ["goroutine exception was never retrieved"]


@needs_threads
def test_cancel_wherever_it_waits():
    async def main():
        async def forever(wait, seen):
            try:
                await wait()
            except asyncio.CancelledError as e:
                seen.append(e.args)
                raise

        waits = [
            lambda: treadle.sleep(100), lambda: asyncio.sleep(100), treadle.Chan().recv,
            asyncio.Event().wait, lambda: treadle.go(asyncio.sleep(0.5)), lambda: held.lock(),
        ]  # fmt: skip
        held = treadle.Mutex()
        await held.lock()
        for wait in waits:
            seen = []
            g = away(forever, wait, seen)
            for _ in range(random.randrange(3)):
                await treadle.yield_()
            assert g.cancel("why") and g.cancelling() == 1
            with pytest.raises(asyncio.CancelledError):
                await g
            assert seen == [("why",)] and g.cancelled() and not g.cancel()
        held.unlock()

        # it computes: at its next wait
        begun, go_on = threading.Event(), threading.Event()

        async def compute():
            begun.set()
            go_on.wait(20)
            await treadle.yield_()

        g = away(compute)
        assert g.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await g

        # before it has begun: here, for the others are busy
        go_on.clear()
        begun.clear()
        busy = away(compute)
        g = treadle.go(compute())
        assert g.cancel() and not g.done()
        with pytest.raises(asyncio.CancelledError):
            await g
        go_on.set()
        await busy

    treadle.run(main(), procs=2)


@needs_threads
def test_scopes():
    async def main():
        async def fail(gate):
            await gate.recv()
            raise KeyError("one")

        async def wait(log):
            try:
                await treadle.sleep(100)
            except asyncio.CancelledError:
                log.append("cancelled")
                raise

        gate, log = treadle.Chan(), []
        with pytest.raises(KeyError):
            async with treadle.scope() as s:
                for _ in range(5):
                    s.go(wait(log))
                s.go(fail(gate))
                await gate.send(None)
                await treadle.sleep(100)
        assert log == ["cancelled"] * len(log)

        # its goroutines start others, from wherever they are
        count, lock = 0, threading.Lock()

        async def spread(s, depth):
            nonlocal count
            with lock:
                count += 1
            if depth:
                for _ in range(3):
                    s.go(spread(s, depth - 1))

        for _ in range(3):
            count = 0
            async with treadle.scope() as s:
                s.go(spread(s, 4))
            assert count == 1 + 3 + 9 + 27 + 81
            with pytest.raises(RuntimeError, match="not active"):
                s.go(nothing())

        with pytest.raises(TimeoutError):
            async with treadle.scope(timeout=0.01) as s:
                s.go(wait([]))
                s.go(spread(s, 2))

        async def inner():
            async with treadle.scope() as s:
                s.go(spread(s, 2))
            return "inner"

        assert await away(inner) == "inner"

    treadle.run(main(), procs=3)


@needs_threads
def test_locks_groups_and_the_like():
    async def main():
        n, inside, m = 0, 0, treadle.Mutex()
        wg, sema, most = treadle.WaitGroup(), treadle.Semaphore(2), 0
        eg = treadle.ErrGroup(limit=3)
        once, flight = treadle.Once(), treadle.SingleFlight()
        inits = []

        async def work(i):
            nonlocal n, inside, most
            async with m:
                inside += 1
                assert inside == 1
                if i % 3 == 0:
                    await treadle.yield_()
                n += 1
                inside -= 1
            await sema.acquire()
            sema.release()
            await once.do(inits.append, 1)
            await flight.do("key", treadle.yield_)

        for i in range(60):
            wg.go(work(i))
        await wg.wait()
        assert n == 60 and inits == [1]
        for i in range(30):
            await eg.go(work(i))
        await eg.wait()
        assert n == 90

        async def fail():
            raise KeyError

        eg = treadle.ErrGroup()
        for _ in range(4):
            await eg.go(fail())
        with pytest.raises(KeyError):
            await eg.wait()

    treadle.run(main(), procs=3)


@needs_threads
def test_contexts_asyncio_and_the_network_there():
    var = contextvars.ContextVar("var")

    async def main():
        var.set("mine")
        listener = await treadle.listen("tcp", "127.0.0.1:0")

        async def echo(conn):
            async with conn:
                async for line in conn.lines():
                    await conn.write(line + b"\n")

        async def serve():
            async for conn in listener:
                treadle.go(echo(conn))

        serving = treadle.go(serve())

        async def there(i):
            assert var.get() == "mine"
            var.set("theirs")
            assert asyncio.current_task() in asyncio.all_tasks() or asyncio.current_task() is not None
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0.001))
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                writer.write(b"hello %d\n" % i)
                assert await reader.readline() == b"hello %d\n" % i
                writer.close()
            with pytest.raises(TimeoutError):
                async with treadle.timeout(0.002):
                    await treadle.Chan().recv()
            async with await treadle.dial("tcp", f"127.0.0.1:{listener.port}") as conn:
                await conn.write(b"x\n")
                assert await conn.readline() == b"x\n"
            return i

        there_ = [away(there, 0)] + [treadle.go(there(i)) for i in range(1, 6)]
        assert [await g for g in there_] == list(range(6))
        assert var.get() == "mine"
        serving.cancel()
        listener.close()

    treadle.run(main(), procs=3)


@needs_threads
def test_what_is_of_another_p_is_refused():
    async def main():
        loop, op = asyncio.get_running_loop(), treadle.Chan().recv()
        assert op.send(None) is op

        async def misuse():
            for call in (lambda: loop.call_soon(print), op.cancel, lambda: loop.call_later(1, print)):
                with pytest.raises(RuntimeError, match="Non-thread-safe"):
                    call()
            assert "main" in repr(treadle_main[0])

        treadle_main = [asyncio.current_task()]
        g = away(misuse)
        with contextlib.suppress(RuntimeError):
            g.get_coro()
        repr(g)
        await g
        op.close()

        # and a channel of this run in another
        ch = treadle.Chan(1)
        await ch.send(1)
        return ch

    ch = treadle.run(main(), procs=2)

    async def other():
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await ch.recv()

    treadle.run(other(), procs=2)
    treadle.run(other())


@needs_threads
def test_those_left_are_unwound_on_their_threads():
    log = []

    async def main():
        async def left(i):
            at = threading.get_ident()
            try:
                await (treadle.sleep(100) if i % 2 else asyncio.sleep(100))
            finally:
                await treadle.yield_()
                log.append(threading.get_ident() == at)
                if i == 3:
                    treadle.go(left_last())

        async def left_last():
            try:
                await treadle.sleep(100)
            finally:
                log.append(True)

        for i in range(6):
            away(left, i) if i < 4 else treadle.go(left(i))
        return "main"

    assert treadle.run(main(), procs=3) == "main"
    # the last two, and what the fourth has started, may have been cancelled before they began
    assert 4 <= len(log) <= 7 and all(log)


@needs_threads
def test_an_exit_on_another_p_leaves_run():
    async def main():
        async def leave():
            sys.exit(7)

        away(leave)
        await treadle.sleep(100)

    with pytest.raises(SystemExit) as raised:
        treadle.run(main(), procs=2)
    assert raised.value.code == 7


@needs_threads
def test_nothing_stays():
    class Thing:
        pass

    things = []

    async def main():
        async def hold(thing):
            await treadle.sleep(0.001)
            return thing

        for i in range(20):
            thing = Thing()
            things.append(weakref.ref(thing))
            (away(hold, thing) if i % 5 == 0 else treadle.go(hold(thing)))

    for _ in range(3):
        treadle.run(main(), procs=2)
    gc.collect()
    assert [t for t in things if t() is not None] == []


DEADLOCK = """
    import asyncio, threading, treadle

    async def stuck(ch):
        await ch.recv()

    async def main():
        ch, begun = treadle.Chan(), threading.Event()
        async def there():
            begun.set()
            await stuck(ch)
        treadle.go(there(), name="over there")
        begun.wait(20)
        await stuck(ch)

    try:
        treadle.run(main(), procs=2)
    except treadle.DeadlockError as e:
        print("deadlock:", e)
"""


@needs_threads
def test_a_deadlock_of_all_is_reported():
    done = script(DEADLOCK)
    assert done.stdout == "deadlock: all goroutines are asleep - deadlock!\n"
    assert "over there" in done.stderr and "in there" in done.stderr and "in main" in done.stderr
    assert done.stderr.count("in stuck") == 2


INTERRUPT = """
    import asyncio, os, signal, threading, treadle

    async def main():
        begun = threading.Event()
        async def there():
            begun.set()
            try:
                await treadle.sleep(100)
            finally:
                print("unwound", flush=True)
        treadle.go(there())
        begun.wait(20)
        os.kill(os.getpid(), signal.SIGINT)
        await treadle.sleep(100)

    try:
        treadle.run(main(), procs=2)
    except KeyboardInterrupt:
        print("interrupted")
"""


@needs_threads
def test_ctrl_c():
    assert script(INTERRUPT).stdout == "unwound\ninterrupted\n"
