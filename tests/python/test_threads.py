# SPDX-License-Identifier: MIT
"""Several threads at once: with a lock they take turns, in a free-threaded Python they
do not. What belongs to one loop is refused to other threads there."""

import asyncio
import contextlib
import gc
import pathlib
import queue
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import weakref

import pytest
import treadle
from test_tls import certs, serving  # noqa: F401

free = not getattr(sys, "_is_gil_enabled", lambda: True)()
needs_free = pytest.mark.skipif(not free, reason="this Python has a lock")
REFUSED = "Non-thread-safe operation"


@pytest.fixture(autouse=True)
def often():
    """Where threads take turns, they do so often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(*functions):
    """Each function on a thread, all begin together; the first error is raised."""
    ready = threading.Barrier(len(functions))
    errors, results = [], [None] * len(functions)

    def begin(i, function):
        ready.wait()
        try:
            results[i] = function()
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=begin, args=a) for a in enumerate(functions)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    return results


def loops(n, main, *args):
    """main(i, *args) in n loops, each on a thread."""
    return at_once(*(lambda i=i: treadle.run(main(i, *args)) for i in range(n)))


def run_loop(coro):
    with asyncio.Runner(loop_factory=treadle.new_event_loop) as runner:
        return runner.run(coro)


@contextlib.contextmanager
def loop_elsewhere(factory=treadle.new_event_loop):
    """A loop that runs on another thread."""
    loop = factory()

    def run():
        loop.run_forever()
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def there(loop, make, *args):
    """The result of make(*args), called in the loop."""

    async def main():
        return make(*args)

    return asyncio.run_coroutine_threadsafe(main(), loop).result(20)


# -- The build -------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(sys, "_is_gil_enabled"), reason="before Python 3.13")
def test_the_lock_stays_as_it_was():
    code = "import sys; a = sys._is_gil_enabled(); import treadle; print(a, sys._is_gil_enabled())"
    before, after = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert before == after


# -- call_soon_threadsafe and handles ----------------------------------------------------------


def test_call_soon_threadsafe():
    """Nothing is lost, and what one thread asks for comes in order."""
    n, each = 4, 2000
    seen = [[] for _ in range(n)]
    with loop_elsewhere() as loop:
        done = threading.Event()

        def ask(i):
            for k in range(each):
                loop.call_soon_threadsafe(seen[i].append, k)

        at_once(*(lambda i=i: ask(i) for i in range(n)))
        loop.call_soon_threadsafe(done.set)
        assert done.wait(20)
    assert seen == [list(range(each))] * n


def test_call_soon_threadsafe_wakes_each_time():
    """One that sleeps is woken, however closely its sleep and the call meet."""
    with loop_elsewhere() as loop:
        for _ in range(300):
            called = threading.Event()
            loop.call_soon_threadsafe(called.set)
            assert called.wait(20)


def test_call_soon_threadsafe_and_close():
    """A loop is closed while others call it: they are told, or not heard."""
    for _ in range(20):
        loop = treadle.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))

        def ask(loop=loop):
            for _ in range(200):
                try:
                    loop.call_soon_threadsafe(print)
                except RuntimeError as e:
                    assert "closed" in str(e)

        at_once(ask, ask, loop.close)


def test_handles_cancelled_elsewhere():
    """A handle that was cancelled before its turn is not called; none is called twice."""
    with loop_elsewhere() as loop:
        called = []
        handles = queue.SimpleQueue()

        def ask():
            for k in range(1000):
                handles.put(loop.call_soon_threadsafe(called.append, k))
            handles.put(None)

        def cancel():
            while (handle := handles.get()) is not None:
                handle.cancel()
                assert handle.cancelled()
                repr(handle)

        at_once(ask, cancel)
        there(loop, lambda: None)
        assert len(called) == len(set(called)) and called == sorted(called)
        timer = there(loop, loop.call_later, 0.005, called.append, "late")
        timer.cancel()
        in_time = loop.time() < timer.when()
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.02), loop).result(20)
        assert "late" not in called or not in_time


# -- What is shared ------------------------------------------------------------------------------


def test_shared_channel():
    n, each = 3, 400
    work, done = treadle.SharedChan(2), treadle.SharedChan()

    async def double(i):
        async for value in work:
            await done.send(value * 2)

    def feed():
        for k in range(each):
            work.send_sync(k, 20)

    def take():
        return sum(done.recv_sync(20) for _ in range(2 * each))

    def feed_twice_and_close():
        at_once(feed, feed)
        work.close()

    results = at_once(feed_twice_and_close, take, *(lambda i=i: treadle.run(double(i)) for i in range(n)))
    assert results[1] == 4 * sum(range(each))


def test_one_mutex():
    mutex, group = treadle.Mutex(), treadle.WaitGroup()
    total = 0

    async def main(i):
        nonlocal total

        async def one():
            nonlocal total
            for k in range(50):
                async with mutex:
                    seen = total
                    if k % 8 == 0:
                        await treadle.yield_()
                    total = seen + 1

        for _ in range(4):
            group.go(one())
        await group.wait()

    loops(3, main)
    assert total == 3 * 4 * 50


def test_one_condition_and_semaphore():
    mutex, sema = treadle.Mutex(), treadle.Semaphore(2)
    cond = treadle.Cond(mutex)
    items, inside, most = [], 0, 0

    async def main(i):
        nonlocal inside, most
        if i == 0:
            for k in range(300):
                async with cond:
                    items.append(k)
                    cond.signal()
            return []
        got = []
        for _ in range(100):
            async with sema:
                async with cond:
                    inside += 1
                    most = max(most, inside)
                async with cond:
                    while not items:
                        await cond.wait()
                    got.append(items.pop())
                    inside -= 1
        return got

    got = loops(4, main)
    assert sorted(sum(got, [])) == list(range(300))
    assert most <= 2


def test_one_once_one_flight():
    for _ in range(10):
        once, flights, calls = treadle.Once(), treadle.SingleFlight(), []

        async def main(i, once=once, flights=flights, calls=calls):
            async def make(what):
                calls.append(what)
                await treadle.sleep(0.001)
                return [what]

            first = await once.do(make, "once")
            each = [await flights.do("key", make, k) for k in range(5)]
            assert all(type(x) is list and len(x) == 1 for x in each)
            return first

        results = loops(3, main)
        assert results == [["once"]] * 3 and calls.count("once") == 1


def test_one_rwmutex():
    rw = treadle.RWMutex()
    a = b = 0

    async def main(i):
        nonlocal a, b
        for _ in range(200):
            if i == 0:
                async with rw.write():
                    a += 1
                    await treadle.yield_()
                    b += 1
            else:
                async with rw.read():
                    assert a == b

    loops(3, main)
    assert (a, b) == (200, 200)


def test_contexts_end_everywhere():
    for _ in range(10):
        context = treadle.background().with_cancel()

        async def main(i, context=context):
            waiting = [treadle.go(c.done()) for c in (context, context.with_cancel()) for _ in range(5)]
            if i == 0:
                context.cancel(ValueError("enough"))
            for g in waiting:
                await g
            return str(context.cause())

        assert loops(3, main) == ["enough"] * 3


def test_one_listener():
    """Loops of several threads accept from one listener."""
    served = [0] * 3

    async def serve(i, listener, done):
        async def stop():
            await done.recv_ok()
            if not listener.closed:
                listener.close()

        treadle.go(stop())
        async for conn in listener:
            served[i] += 1
            async with conn:
                await conn.write(await conn.readline())

    def clients(port, done):
        for k in range(100):
            with socket.create_connection(("127.0.0.1", port), 20) as s:
                s.sendall(b"%d\n" % k)
                assert s.recv(10) == b"%d\n" % k
        done.close()

    done = treadle.SharedChan()
    with loop_elsewhere() as loop:
        listener = asyncio.run_coroutine_threadsafe(
            listening("tcp", "127.0.0.1:0"), loop
        ).result(20)
        at_once(
            lambda: clients(listener.port, done),
            *(lambda i=i: treadle.run(serve(i, listener, done)) for i in range(3)),
        )
    assert sum(served) == 100


async def listening(*args):
    return await treadle.listen(*args)


# -- What is one loop's ---------------------------------------------------------------------------


class Quiet(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport


@needs_free
def test_another_threads_loop():
    with loop_elsewhere() as loop:
        for use in (
            lambda: loop.call_soon(print),
            lambda: loop.call_later(1, print),
            lambda: loop.call_at(1, print),
            lambda: loop.add_reader(0, print),
            lambda: loop._run_once(),
            lambda: loop._ready_list(),
            lambda: loop._open(),
            lambda: loop._close_host(),
        ):
            with pytest.raises(RuntimeError, match=REFUSED):
                use()
        with pytest.raises(RuntimeError):
            loop.run_forever()
        assert loop.is_running() and not loop.is_closed() and loop.time() > 0
        assert "Loop" in repr(loop)
        assert loop.create_future().get_loop() is loop


@needs_free
def test_another_threads_transport():
    a, b = socket.socketpair()
    a.setblocking(False)
    with loop_elsewhere() as loop:
        transport, _ = asyncio.run_coroutine_threadsafe(
            loop.create_connection(Quiet, sock=a), loop
        ).result(20)
        for use in (
            lambda: transport.write(b"x"),
            lambda: transport.writelines([b"x"]),
            lambda: transport.pause_reading(),
            lambda: transport.close(),
            lambda: transport.abort(),
            lambda: transport.set_protocol(Quiet()),
        ):
            with pytest.raises(RuntimeError, match=REFUSED):
                use()
        assert transport.get_extra_info("socket") is not None
        assert not transport.is_closing()
        there(loop, transport.close)
    b.close()


@needs_free
def test_another_threads_stream():
    """A read works on what the loop feeds."""
    a, b = socket.socketpair()
    with loop_elsewhere() as loop:
        reader, writer = asyncio.run_coroutine_threadsafe(asyncio.open_connection(sock=a), loop).result(20)
        reads = [reader.read(1), reader.readexactly(1), reader.readline(), reader.readuntil(b"x")]
        for read in reads:
            for use in (lambda: read.send(None), lambda: read.throw(ValueError), read.close):
                with pytest.raises(RuntimeError, match=REFUSED):
                    use()
        b.sendall(b"line\n")
        assert asyncio.run_coroutine_threadsafe(reader.readline(), loop).result(20) == b"line\n"
        there(loop, writer.close)
    b.close()


@needs_free
@pytest.mark.parametrize("factory", [treadle.new_event_loop, asyncio.new_event_loop])
def test_another_threads_goroutine(factory):
    with loop_elsewhere(factory) as loop:
        chan = treadle.Chan(3)

        def begin():
            chan.try_send(1)
            return treadle.go(chan_wait())

        async def chan_wait():
            await treadle.Chan().recv()

        g = there(loop, begin)
        for use in (g.cancel, g.uncancel, g.get_coro, lambda: g.add_done_callback(print), chan.close):
            with pytest.raises(RuntimeError, match=f"{REFUSED}|belongs to another"):
                use()
        assert not g.done() and "another thread" in repr(g) and g.get_loop() is loop
        assert g.get_name().startswith("goroutine")
        assert len(chan) == 1 and not chan.closed

        async def here():
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await chan.recv()
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await g

        treadle.run(here())
        there(loop, g.cancel)
        there(loop, chan.close)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), loop).result(20)
        assert g.cancelled()


@needs_free
def test_wrong_threads_all_the_time():
    """What is refused harms nobody, however it meets the owner."""
    stop = False

    def meddle():
        while not stop:
            for use in (lambda: loop.call_soon(int), lambda: loop._ready_list(), g.cancel, chan.close):
                try:
                    use()
                except (RuntimeError, treadle.ChannelClosed):
                    pass
            repr(g), repr(chan), len(chan), g.done(), g.get_name(), loop.get_debug()

    async def main():
        for k in range(2000):
            await chan.send(k)
            assert await chan.recv() == k
            if k % 50 == 0:
                await asyncio.sleep(0)

    with loop_elsewhere() as loop:
        chan = treadle.Chan(1)

        def begin():
            chan.try_send(0), chan.try_recv()
            return treadle.go(asyncio.sleep(20))

        g = there(loop, begin)
        meddlers = [threading.Thread(target=meddle) for _ in range(2)]
        for t in meddlers:
            t.start()
        try:
            asyncio.run_coroutine_threadsafe(main(), loop).result(20)
        finally:
            stop = True
            for t in meddlers:
                t.join()
        there(loop, g.cancel)


@needs_free
def test_meddlers():
    program = pathlib.Path(__file__).parent / "meddle.py"
    done = subprocess.run(
        [sys.executable, program, "1", "5"], capture_output=True, text=True, timeout=25
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_idle_loop_passes_on():
    """A loop that nobody runs may be used by one thread after the other."""
    loop = treadle.new_event_loop()
    called = []

    def ask():
        for _ in range(100):
            loop.call_soon(called.append, 1)

    at_once(ask)
    at_once(ask)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert len(called) == 200


def test_one_op_for_two():
    """Of two threads that send to the same op, one gets its value."""
    for _ in range(30):
        sema = treadle.Semaphore(1)
        op = sema.acquire()

        async def main(i, op=op):
            try:
                await op
                return "got it"
            except RuntimeError as e:
                return str(e)

        results = loops(2, main)
        assert sorted(results)[-1] == "got it" and results.count("got it") == 1
        assert re.search(f"cannot reuse already awaited|{REFUSED}", min(results))


# -- Ends ---------------------------------------------------------------------------------------------


def test_loops_come_and_go():
    async def main(i):
        chan = treadle.Chan()
        g = treadle.go(chan.recv())
        await chan.send(i)
        asyncio.get_running_loop().call_later(0.001, int)
        await asyncio.gather(asyncio.sleep(0.002), asyncio.to_thread(int))
        return await g

    def again(i):
        return [treadle.run(main(i)) for _ in range(15)]

    assert at_once(*(lambda i=i: again(i) for i in range(3))) == [[i] * 15 for i in range(3)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_collected_elsewhere():
    """The collector runs on threads that are not a loop's, while its objects die."""
    stop = False
    reported = []

    def collect():
        while not stop:
            gc.collect()
            time.sleep(0.0002)  # each collection stops the others: they must get on in between

    async def main(i):
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(i))

        async def fails():
            raise ValueError(i)

        async def waits(box):
            box.append(asyncio.current_task())
            await treadle.Chan().recv()

        for k in range(12):
            a, b = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=a)
            writer.circle = reader.circle = (reader, writer)
            b.send(b"x")
            await reader.read(1)
            writer.close()
            b.close()
            handle = asyncio.get_running_loop().call_later(50, int)
            handle.cancel()
            circle = [treadle.Chan(1), handle, treadle.go(fails()), treadle.SharedChan(1)]
            circle.append(circle)
            circle[0].try_send(circle)
            treadle.go(waits([]))
            await treadle.sleep(0.001)
        del circle, reader, writer, handle
        await treadle.sleep(0.01)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        at_once(*(lambda i=i: run_loop(main(i)) for i in range(2)))
    finally:
        stop = True
        collector.join()


def test_dropped_elsewhere():
    """The last reference to what is a loop's goes on another thread."""
    drops = queue.SimpleQueue()
    freed = []

    class Seen:
        pass

    async def main(i):
        for _ in range(200):
            chan = treadle.Chan(2)
            seen = Seen()
            freed.append(weakref.ref(seen))
            chan.try_send(seen)
            drops.put(chan)
            drops.put(asyncio.get_running_loop().call_soon(int))
            drops.put(treadle.go(asyncio.sleep(0)))
            drops.put(treadle.sleep(1))
            del chan, seen
            await treadle.yield_()
        for _ in range(3):
            await asyncio.sleep(0.002)
        drops.put(None)

    def drop():
        n = 0
        while n < 2:
            n += drops.get() is None

    at_once(drop, lambda: treadle.run(main(0)), lambda: treadle.run(main(1)))
    gc.collect()
    assert not [ref for ref in freed if ref() is not None]


# -- All of it, in several loops at once ------------------------------------------------------------------


async def echo_over_streams(i, rounds, server_tls=None, client_tls=None):
    """A server of the loop's own and a client, which sends so many times what is only loop i's."""
    over = asyncio.Event()

    async def echo(reader, writer):
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        over.set()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_tls, server_hostname=client_tls and "localhost"
    )
    for k in range(rounds):
        data = b"%d of %d" % (k, i) * 100
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
    writer.close()
    await over.wait()
    server.close()


def test_streams_in_several_loops():
    at_once(*(lambda i=i: run_loop(echo_over_streams(i, 200)) for i in range(3)))


def test_tls_in_several_loops(certs):
    tls = serving(certs), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls[1].load_verify_locations(f"{certs}/ca.pem")
    at_once(*(lambda i=i: run_loop(echo_over_streams(i, 100, *tls)) for i in range(3)))
