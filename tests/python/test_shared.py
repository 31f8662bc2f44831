# SPDX-License-Identifier: MIT
"""SharedChan: values, threads with and without loops, the blocking forms."""

import asyncio
import gc
import signal
import sys
import threading
import time

import pytest
import treadle
from conftest import DRIVERS, script
from treadle import ChannelClosed, SharedChan

VALUES = [
    None, True, False, 0, -1, 2**63 - 1, -(2**63), 0.0, 1.5, float("inf"), "", "text", "é€😀\0x",
    b"", b"bytes\0\xff", [], [1, "two", b"three", None, [4.5]], {}, {"a": {"b": [True]}}, {1: 2},
]


def thread(f, *args):
    t = threading.Thread(target=f, args=args, daemon=True)
    t.start()
    return t


def test_values(drive):
    async def main():
        ch = SharedChan(len(VALUES))
        for v in VALUES:
            await ch.send(v)
        for v in VALUES:
            got = await ch.recv()
            assert got == v and type(got) is type(v)
        await ch.send((1, "tuple"))
        assert await ch.recv() == [1, "tuple"]
        await ch.send(float("nan"))
        assert str(await ch.recv()) == "nan"
        inner = SharedChan(1)
        await ch.send(inner)
        received = await ch.recv()
        assert received == inner and hash(received) == hash(inner) and received is not inner
        await received.send("through it")
        assert await inner.recv() == "through it"
        assert ch != inner

    drive(main)


def test_bad_values(drive):
    async def main():
        ch = SharedChan(1)
        for bad in (object(), print, 1j, {1, 2}, treadle.Chan(), b"x".join, range(3)):
            with pytest.raises(TypeError, match="shared channel carries"):
                await ch.send(bad)
            with pytest.raises(TypeError):
                ch.try_send(bad)
        with pytest.raises(TypeError):
            await ch.send([object()])
        for bad in (2**63, -(2**63) - 1):
            with pytest.raises(OverflowError):
                await ch.send(bad)
        with pytest.raises(UnicodeEncodeError):
            await ch.send("\ud800")
        assert len(ch) == 0 and ch.try_send("still usable")

    drive(main)


def test_without_msgpack():
    out = script("""
        import sys
        sys.modules["msgpack"] = None
        import treadle
        ch = treadle.SharedChan(2)
        try:
            ch.try_send([1])
        except ImportError as error:
            print(error)
        print(ch.try_send("text"), ch.try_recv())
    """)
    assert "msgpack" in out.stdout and "True ('text', True)" in out.stdout, out


def test_plain_threads():
    """No loop anywhere."""
    ch, back = SharedChan(), SharedChan(2)

    def work():
        while True:
            try:
                n = ch.recv_sync()
            except ChannelClosed:
                back.close()
                return
            back.send_sync(n * n)

    t = thread(work)
    got = []
    for n in range(100):
        ch.send_sync(n)
        got.append(back.recv_sync(timeout=5))
    ch.close()
    with pytest.raises(ChannelClosed):
        back.recv_sync()
    t.join()
    assert got == [n * n for n in range(100)]
    for call in (ch.close, lambda: ch.send_sync(1), lambda: ch.try_send(1), ch.try_recv):
        with pytest.raises(ChannelClosed):
            call()
    assert ch.closed and ch.cap == 0 and back.cap == 2


def test_timeouts_of_the_blocking_forms():
    ch = SharedChan()
    for timeout in (0.03, 0, -1, 0.15):
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            ch.recv_sync(timeout)
        assert max(timeout, 0) <= time.monotonic() - start < max(timeout, 0) + 0.3
        with pytest.raises(TimeoutError):
            ch.send_sync(1, timeout=timeout)
    full = SharedChan(1)
    full.send_sync("x", timeout=0)  # ready: no need to wait
    assert full.recv_sync(timeout=0) == "x"
    for bad in ("1", [], float("nan")):
        with pytest.raises((TypeError, ValueError)):
            ch.recv_sync(bad)
    for bad in (-1, 2**26 + 1, "1"):
        with pytest.raises((TypeError, ValueError)):
            SharedChan(bad)


def test_blocking_form_on_a_loops_thread(drive):
    async def main():
        ch = SharedChan(1)
        await treadle.sleep(0)
        for call in (ch.recv_sync, lambda: ch.send_sync(1)):
            with pytest.raises(RuntimeError, match="would block the event loop"):
                call()
        assert ch.try_send("unharmed")
        return await ch.recv()

    assert drive(main) == "unharmed"


@pytest.mark.parametrize("other", list(DRIVERS))
def test_two_loops(other, drive):
    """A ping-pong between the loops of two threads, each in each way."""
    there, back = SharedChan(), SharedChan(1)
    n = 100

    async def server():
        async for value in there:
            await back.send([value, "seen"])
        back.close()

    async def client():
        for i in range(n):
            await there.send(i)
            assert await back.recv() == [i, "seen"]
        there.close()
        assert await back.recv_ok() == (None, False)
        return "done"

    t = thread(DRIVERS[other], server)
    assert drive(client) == "done"
    t.join()


def test_threads_and_loops_together():
    """Nothing is lost or comes twice: 2 loops and 2 plain threads send, the same
    receive."""
    ch, results = SharedChan(4), SharedChan(1000)
    n = 500

    async def sender(base):
        for i in range(n):
            await ch.send(base + i)

    def plain_sender(base):
        for i in range(n):
            ch.send_sync(base + i)

    async def receiver():
        async for v in ch:
            await results.send(v)

    def plain_receiver():
        try:
            while True:
                results.send_sync(ch.recv_sync())
        except ChannelClosed:
            pass

    receivers = [thread(DRIVERS["run"], receiver), thread(DRIVERS["guest"], receiver),
                 thread(plain_receiver)]
    senders = [thread(DRIVERS["run"], lambda: sender(0)), thread(DRIVERS["guest"], lambda: sender(1000)),
               thread(plain_sender, 2000), thread(plain_sender, 3000)]
    got = [results.recv_sync(timeout=20) for _ in range(4 * n)]
    for t in senders:
        t.join()
    ch.close()
    for t in receivers:
        t.join()
    assert sorted(got) == sorted(b + i for b in (0, 1000, 2000, 3000) for i in range(n))
    assert results.try_recv() == (None, False)


def test_a_sleeping_loop_is_woken_by_a_thread(drive):
    async def main():
        ch = SharedChan()
        t = thread(lambda: (time.sleep(0.03), ch.send_sync("wake")))
        start = time.monotonic()
        assert await ch.recv() == "wake"
        assert time.monotonic() - start < 2
        t.join()

    drive(main)


def test_cancel_and_timeout(drive):
    async def main():
        ch = SharedChan()

        async def receive():
            return await ch.recv()

        for spawn in (treadle.go, asyncio.create_task):
            g = spawn(receive())
            await asyncio.sleep(0.001)
            g.cancel()
            with pytest.raises(asyncio.CancelledError):
                await g
        with pytest.raises(TimeoutError):
            async with treadle.timeout(0.01):
                await ch.recv()
        assert ch.try_send(1) is False
        i, value = await treadle.select(ch.recv_op(), ch.send_op([1]), treadle.after_op(0.01))
        assert (i, value) == (2, None)

    drive(main)


def test_address():
    ch = SharedChan(1)
    other = SharedChan._from_address(ch._address)
    assert other == ch
    del ch
    gc.collect()
    assert not other.closed and other.try_send("x")  # a holder of its own
    assert other.try_recv() == ("x", True)
    for bad in (0, None, "x"):
        with pytest.raises((TypeError, ValueError)):
            SharedChan._from_address(bad)


def test_the_last_holder_closes():
    before = treadle.metric("channels")
    outer, inner = SharedChan(1), SharedChan(1)
    outer.try_send(inner)
    del inner
    gc.collect()
    assert treadle.metric("channels") == before + 2
    received, _ = outer.try_recv()
    del received, outer
    gc.collect()
    assert treadle.metric("channels") == before


def test_a_local_channel_stays_in_its_thread():
    async def main():
        ch = treadle.Chan(1)
        await ch.send("x")
        errors = []

        def work():
            for call in (ch.close, lambda: ch.try_send(1), ch.try_recv):
                try:
                    call()
                except RuntimeError as error:
                    errors.append(str(error))

        await asyncio.to_thread(work)
        assert len(errors) == 3
        assert await ch.recv() == "x"

        async def other():
            try:
                await ch.recv()
            except RuntimeError as error:
                errors.append(str(error))

        await asyncio.to_thread(lambda: asyncio.run(other()))
        assert "another event loop" in errors[3]

    treadle.run(main())


def test_a_local_channel_freed_by_another_thread():
    """Its values are given back by its own thread."""
    import weakref

    class Thing:
        pass

    async def main():
        for _ in range(20):
            ch, thing = treadle.Chan(4), Thing()
            await ch.send(thing)
            ref, box = weakref.ref(thing), [ch]
            del ch, thing
            await asyncio.to_thread(box.clear)
            await treadle.sleep(0.001)
            assert ref() is None

    treadle.run(main())


def test_ctrl_c_in_a_blocking_form():
    ch = SharedChan()
    threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ch.recv_sync()
    assert time.monotonic() - start < 2


IN_INTERPRETER = """
import treadle
async def main():
    ch = treadle.SharedChan._from_address(CHANNEL)
    back = treadle.SharedChan._from_address(BACK)
    local = treadle.Chan()
    async def relay():
        async for v in ch:
            await local.send(v)
        local.close()
    treadle.go(relay())
    async for v in local:
        await back.send(v * 2)
treadle.run(main())
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="interpreters share the GIL before 3.12")
def test_sub_interpreters():
    """Each interpreter has its own module state and its own GIL; a shared
    channel joins them."""
    out = script("""
        import os, sys, threading
        try:
            import _interpreters as interpreters
            run = interpreters.exec
        except ImportError:
            import _xxsubinterpreters as interpreters
            run = interpreters.run_string
        import treadle
        ch, back = treadle.SharedChan(4), treadle.SharedChan(4)
        code = sys.argv[1].replace("CHANNEL", str(ch._address)).replace("BACK", str(back._address))
        ids = [interpreters.create() for _ in range(2)]
        threads = [threading.Thread(target=run, args=(i, code)) for i in ids]
        for t in threads:
            t.start()
        got = 0
        for n in range(200):
            ch.send_sync(n, timeout=10)
            got += back.recv_sync(timeout=10)
        ch.close()
        for t in threads:
            t.join()
        print("sum", got, flush=True)
        if sys.version_info < (3, 13):
            os._exit(0)  # destroying one hangs in 3.12, with asyncio alone too
        for i in ids:
            interpreters.destroy(i)
    """, IN_INTERPRETER)
    assert out.returncode == 0 and out.stdout == "sum 39800\n", out
