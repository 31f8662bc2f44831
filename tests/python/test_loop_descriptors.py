# SPDX-License-Identifier: MIT
"""The loop's descriptors: add_reader and add_writer, and the sock_ calls."""

import asyncio
import os
import socket
import sys

import pytest
import treadle
from conftest import run_once, script, sockets

# -- Descriptors --------------------------------------------------------------------------


def test_what_fileno_raises_is_raised(loop):
    class Bad:
        def fileno(self):
            raise KeyError("its own")

    with pytest.raises(KeyError):
        loop.add_reader(Bad(), int)


def test_readers_are_level_triggered(loop):
    a, b = sockets()
    hits = []
    loop.add_reader(a, hits.append, 1)
    b.send(b"xy")
    for _ in range(3):
        run_once(loop)
    assert hits == [1, 1, 1]
    a.recv(10)
    run_once(loop)
    assert len(hits) == 3
    loop.add_reader(a.fileno(), hits.append, 2)  # takes its place
    loop.add_writer(a, hits.append, 3)
    b.send(b"z")
    run_once(loop)
    assert hits[3:] in ([2, 3], [3, 2])
    key = loop._selector.get_key(a.fileno())
    assert key.events == 3 and key.data[0]._args == (2,)
    assert loop.remove_reader(a) and not loop.remove_reader(a)
    run_once(loop)
    assert hits[5:] == [3]
    assert loop.remove_writer(a)
    with pytest.raises(KeyError):
        loop._selector.get_key(a.fileno())
    a.close()
    b.close()


def test_a_descriptor_that_was_closed_and_came_again(loop):
    a, b = sockets()
    loop.add_reader(a, print)
    run_once(loop)
    number = a.fileno()
    a.close()
    c = b.dup()
    if c.fileno() != number:
        os.dup2(c.fileno(), number)
        c.close()
        c = socket.socket(fileno=number)
    d = socket.socketpair()
    hits = []
    loop.add_writer(number, hits.append, 1)
    run_once(loop)
    loop.remove_writer(number)
    loop.remove_reader(number)
    assert hits == [1]
    for s in (b, c, *d):
        s.close()


def test_descriptors_that_cannot_be(loop, tmp_path):
    run_once(loop)
    with open(tmp_path / "file", "w") as file, pytest.raises(PermissionError):
        loop.add_reader(file, print)
    with pytest.raises(ValueError):
        loop.add_reader(-1, print)
    with pytest.raises(ValueError, match="Invalid file object"):
        loop.add_reader("file", print)
    fresh = treadle.new_event_loop()  # the same before it has run
    with open(tmp_path / "file") as file, pytest.raises(PermissionError):
        fresh.add_reader(file, print)
    with pytest.raises(OSError):
        fresh.add_reader(9999, print)
    fresh.close()


def test_hundreds_of_descriptors(loop):
    pairs = [sockets() for _ in range(200)]
    seen = set()
    for i, (a, b) in enumerate(pairs):
        loop.add_reader(a, seen.add, i)
        b.send(b"x")
    for _ in range(3):
        run_once(loop)
    assert len(seen) == 200
    for a, b in pairs:
        loop.remove_reader(a)
        a.close()
        b.close()


# -- The sock_ calls ----------------------------------------------------------------------


def ends(main):
    """Runs main(loop, a, b) with both ends of a connection, as a task and as a goroutine."""
    for run in (lambda coro: asyncio.run(coro, **FACTORY), treadle.run) if FACTORY else (treadle.run,):

        async def both():
            a, b = sockets()
            try:
                await asyncio.wait_for(main(asyncio.get_running_loop(), a, b), 20)
            finally:
                a.close()
                b.close()

        run(both())


FACTORY = {"loop_factory": treadle.new_event_loop} if sys.version_info >= (3, 12) else {}


def test_sock_echo():
    async def main(loop, a, b):
        async def echo():
            while data := await loop.sock_recv(b, 1000):
                await loop.sock_sendall(b, data)

        task = loop.create_task(echo())
        for i in range(300):
            message = b"%d" % i * 50
            await loop.sock_sendall(a, message)
            got = b""
            while len(got) < len(message):
                got += await loop.sock_recv(a, 700)
            assert got == message
        a.close()
        await task

    ends(main)


def test_sock_what_was_read_before_stays_as_it_was():
    async def main(loop, a, b):
        kept = []
        for i in range(20):
            await loop.sock_sendall(a, bytes([i]) * 2000)
            kept.append(await loop.sock_recv(b, 5000))
            hash(kept[-1])
            if i % 3 == 0:
                kept[-1] = bytes([i]) * 2000  # that one may be used again
        assert kept == [bytes([i]) * 2000 for i in range(20)]
        assert len({*kept}) == 20

    ends(main)


def test_sock_more_than_fits():
    async def main(loop, a, b):
        data = os.urandom(1 << 20) * 5

        async def reads():
            view, got = memoryview(bytearray(len(data))), 0
            while got < len(data):
                got += await loop.sock_recv_into(b, view[got : got + 300_000])
            return bytes(view)

        task = loop.create_task(reads())
        await loop.sock_sendall(a, memoryview(data))
        assert await task == data

    ends(main)


def test_sock_the_end_comes_with_the_last_bytes():
    async def main(loop, a, b):
        await loop.sock_sendall(a, b"x")
        assert await loop.sock_recv(b, 10) == b"x"
        task = loop.create_task(loop.sock_recv(b, 10))
        await asyncio.sleep(0.01)
        a.send(b"last")
        a.shutdown(socket.SHUT_WR)
        assert await task == b"last"
        assert await loop.sock_recv(b, 10) == b""
        assert await loop.sock_recv(b, 10) == b""

    ends(main)


def test_sock_cancelled_and_then_others():
    async def main(loop, a, b):
        for _ in range(3):
            task = loop.create_task(loop.sock_recv(b, 10))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        first = loop.create_task(loop.sock_recv(b, 1))
        second = loop.create_task(loop.sock_recv(b, 1))
        await asyncio.sleep(0)
        a.send(b"12")
        assert {await first, await second} == {b"1", b"2"}
        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            await asyncio.wait_for(loop.sock_recv(b, 1), 0.01)
        loop.add_reader(b, lambda: None)  # the same descriptor in another way
        task = loop.create_task(loop.sock_recv(b, 5))
        await asyncio.sleep(0)
        a.send(b"mixed")
        assert await task == b"mixed"
        loop.remove_reader(b)
        task = loop.create_task(loop.sock_recv(b, 5))
        await asyncio.sleep(0)
        a.send(b"again")
        assert await task == b"again"

    ends(main)


def test_sock_numbers_that_come_again():
    """A socket's number goes to another socket: nothing of the first is left."""

    async def main(loop, a, b):
        for i in range(50):
            c, d = sockets()
            task = loop.create_task(loop.sock_recv(c, 10))
            await asyncio.sleep(0)
            d.send(b"%d" % i)
            assert await task == b"%d" % i
            c.close()
            d.close()

    ends(main)


def test_sock_accept_connect_and_datagrams():
    async def main(loop, a, b):
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as near:
            server.setblocking(False)
            near.setblocking(False)
            accepted = loop.create_task(loop.sock_accept(server))
            await loop.sock_connect(near, server.getsockname())
            far, address = await accepted
            with far:
                assert address == near.getsockname() and far.gettimeout() == 0
                await loop.sock_sendall(near, b"hello")
                assert await loop.sock_recv(far, 100) == b"hello"
        with socket.socket(type=socket.SOCK_DGRAM) as x, socket.socket(type=socket.SOCK_DGRAM) as y:
            for s in (x, y):
                s.bind(("127.0.0.1", 0))
                s.setblocking(False)
            task = loop.create_task(loop.sock_recvfrom(y, 100))
            await asyncio.sleep(0)
            assert await loop.sock_sendto(x, b"one", y.getsockname()) == 3
            assert await task == (b"one", x.getsockname())
            await loop.sock_sendto(x, b"", y.getsockname())
            await loop.sock_sendto(x, b"three", y.getsockname())
            buffer = bytearray(10)
            assert await loop.sock_recvfrom_into(y, buffer) == (0, x.getsockname())
            assert await loop.sock_recv(y, 3) == b"thr"

    ends(main)


def test_sock_errors():
    async def main(loop, a, b):
        with pytest.raises(ValueError, match="negative buffersize in recv"):
            await loop.sock_recv(a, -1)
        with pytest.raises(TypeError):
            await loop.sock_sendall(a, "text")
        b.close()
        with pytest.raises(OSError):
            await loop.sock_recv(b, 1)
        with pytest.raises(BrokenPipeError):
            await loop.sock_sendall(a, b"x")
        op = loop.sock_recv(a, 1)
        assert await op == b""
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await op
        with pytest.warns(RuntimeWarning, match="coroutine 'sock_recv' was never awaited"):
            loop.sock_recv(a, 1)
        loop.set_debug(True)
        with socket.socket() as blocking, pytest.raises(ValueError, match="the socket must be non-blocking"):
            await loop.sock_recv(blocking, 1)

    ends(main)


@pytest.mark.parametrize("backend", ["epoll", "uring", "uv"])
def test_sock_on_every_back_end(backend):
    out = script(
        """
        import asyncio, socket, treadle
        async def main():
            loop = asyncio.get_running_loop()
            a, b = socket.socketpair()
            a.setblocking(False); b.setblocking(False)
            async def echo():
                while data := await loop.sock_recv(b, 1000):
                    await loop.sock_sendall(b, data)
            task = loop.create_task(echo())
            for i in range(100):
                await loop.sock_sendall(a, b"%d" % i)
                assert await loop.sock_recv(a, 1000) == b"%d" % i
            hits = []
            loop.add_reader(a, hits.append, 1)
            b.send(b"x")
            while len(hits) < 3:
                await asyncio.sleep(0)
            loop.remove_reader(a)
            a.recv(1)
            a.close()
            await task
            b.close()
            print("done")
        loop = treadle.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """,
        env=os.environ | {"TDL_NETPOLL": backend},
    )
    assert out.stdout == "done\n", out.stderr


def test_sock_on_a_transports_descriptor():
    async def main(loop, a, b):
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, a)
        sock = transport.get_extra_info("socket")
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(sock.fileno(), print)
        transport.abort()
        await asyncio.sleep(0.01)

    ends(main)
