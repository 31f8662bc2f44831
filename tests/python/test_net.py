# SPDX-License-Identifier: MIT
"""Streams: reads, writes, deadlines, closing, refusals, bad input."""

import asyncio
import errno
import os
import resource
import socket
import struct

import pytest
import treadle
from conftest import fds, pair, until
from treadle import Closed


def reset(conn):
    """Ends a connection with RST."""
    s = socket.socket(fileno=os.dup(conn.fileno()))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()
    s.close()


async def echo(conn):
    async with conn:
        while data := await conn.read(65536):
            await conn.write(data)


def test_a_mebibyte_and_the_end(drive):
    """D1."""

    async def main():
        a, b = await pair()
        data = os.urandom(1 << 20)

        async def send():
            for i in range(0, len(data), 1024):
                await a.write(data[i : i + 1024])
            a.shutdown_write()

        g, got = treadle.go(send()), b""
        while chunk := await b.read(5000):
            assert len(chunk) <= 5000
            got += chunk
        await g
        assert got == data
        assert await b.read(10) == b""
        await b.write(b"the other direction goes on")
        assert await a.read(100) == b"the other direction goes on"
        a.close()
        b.close()

    drive(main)


def test_big_write(drive):
    async def main():
        a, b = await pair()
        data = bytearray(os.urandom(8 << 20))
        expected = bytes(data)
        g = treadle.go(write(a, data))
        await treadle.yield_()
        data[:] = bytes(len(data))  # it was copied
        assert await b.readexactly(len(expected)) == expected
        await g
        a.close()
        b.close()

    drive(main)


async def write(conn, data):
    await conn.write(data)


def test_pingpong(drive):
    """D2."""

    async def main():
        a, b = await pair()

        async def pong():
            for _ in range(1000):
                n = int(await b.readline())
                await b.write(b"%d\n" % (n + 1))

        g, n = treadle.go(pong()), 0
        for _ in range(1000):
            await a.write(b"%d\n" % n)
            n = int(await a.readline())
        await g
        a.close()
        b.close()
        return n

    assert drive(main) == 1000


def test_framing(drive):
    async def main():
        a, b = await pair()
        await a.write(b"one\ntwo\r\nthr")
        assert await b.readline() == b"one\n"
        lines = b.lines()
        assert await lines.__anext__() == b"two"
        g = treadle.go(readexactly(b, 6))
        await a.write(b"ee")
        await treadle.sleep(0.002)
        assert not g.done()
        await a.write(b"!!")
        await a.write(b"last")
        a.shutdown_write()
        assert await g == b"three!"
        assert await b.read(1) == b"!"
        assert await b.readline() == b"last"  # without its newline
        assert await b.readline() == b""
        with pytest.raises(asyncio.IncompleteReadError) as raised:
            await b.readexactly(3)
        assert raised.value.partial == b"" and raised.value.expected == 3
        a.close()
        b.close()

        a, b = await pair()
        await a.write(b"\n\nx\ny")
        a.close()
        assert [line async for line in b.lines()] == [b"", b"", b"x", b"y"]
        b.close()

        a, b = await pair()
        await a.write(b"abc")
        a.close()
        with pytest.raises(asyncio.IncompleteReadError) as raised:
            await b.readexactly(10)
        assert raised.value.partial == b"abc"
        assert await b.read(10) == b""
        b.close()

        a, b = await pair()
        await a.write(b"x" * 100 + b"\n")
        with pytest.raises(ValueError, match="newline"):
            await b.readline(limit=50)
        assert await b.readline() == b"x" * 100 + b"\n"  # still there
        assert await b.read(0) == b""
        a.close()
        b.close()

    drive(main)


async def readexactly(conn, n):
    return await conn.readexactly(n)


async def read(conn, n=100):
    return await conn.read(n)


def test_several_readers_and_writers(drive):
    """D37: each call is atomic, and nothing is lost."""

    async def main():
        a, b = await pair()
        got = []

        async def reader():
            try:
                while True:
                    got.append(await b.readexactly(100))
            except asyncio.IncompleteReadError as end:
                assert end.partial == b""

        async with treadle.scope() as s:
            for _ in range(3):
                s.go(reader())
            async with treadle.scope() as writers:
                for i in range(10):
                    writers.go(write(a, bytes([i]) * 100 * 50))
            a.shutdown_write()
        assert sorted(got) == sorted(bytes([i]) * 100 for i in range(10) for _ in range(50))
        a.close()
        b.close()

    drive(main)


def test_deadlines(drive):
    """D4, D5, D7, D12, D13, D14."""

    async def main():
        a, b = await pair()
        start = treadle.now()
        b.set_read_deadline(start + 0.03)
        with pytest.raises(TimeoutError):
            await b.read(10)
        assert 0.03 <= treadle.now() - start < 0.3
        await b.write(b"writing goes on")
        assert await a.read(100) == b"writing goes on"
        await a.write(b"ready")
        await treadle.sleep(0.002)
        with pytest.raises(TimeoutError):
            await b.read(10)  # the past wins over ready data
        for past in (0, -1, 1e-9, treadle.now() - 1):
            b.set_deadline(past)
            with pytest.raises(TimeoutError):
                await b.read(10)
            with pytest.raises(TimeoutError):
                await b.write(b"x")
        b.set_deadline(None)
        assert await b.read(10) == b"ready"
        b.set_write_deadline(-1)
        await a.write(b"x")
        assert await b.read(10) == b"x"  # only writing
        b.set_write_deadline(None)

        # moved while it waits
        g = treadle.go(read(b))
        b.set_read_deadline(treadle.now() + 0.01)
        with pytest.raises(TimeoutError):
            await g
        b.set_read_deadline(None)

        # partial bytes survive a timeout
        b.settimeout(0.02)
        await a.write(b"abc")
        with pytest.raises(TimeoutError):
            await b.readexactly(6)
        with pytest.raises(TimeoutError):
            await b.readline()
        await a.write(b"def")
        assert await b.readexactly(6) == b"abcdef"
        for _ in range(3):
            start = treadle.now()
            with pytest.raises(TimeoutError) as raised:
                await b.read(1)
            assert isinstance(raised.value, OSError) and 0.02 <= treadle.now() - start < 0.3
        b.settimeout(None)
        g = treadle.go(read(b))
        await treadle.sleep(0.03)
        assert not g.done()
        await a.write(b"x")
        assert await g == b"x"

        # a write that cannot go on
        a.settimeout(0.02)
        with pytest.raises(TimeoutError):
            while True:
                await a.write(bytes(1 << 20))
        a.close()
        b.close()

    drive(main)


def test_cancelled_reads_lose_nothing(drive):
    async def main():
        a, b = await pair()
        for spawn in (treadle.go, asyncio.create_task):
            for i in range(20):
                g = spawn(readexactly(b, 6))
                await asyncio.sleep(0)
                await a.write(b"abc")
                if i % 2:
                    await treadle.sleep(0.001)
                g.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await g
                await a.write(b"def")
                assert await b.readexactly(6) == b"abcdef"
        a.close()
        b.close()

    drive(main)


def test_close_wakes(drive):
    """D8, D21."""

    async def main():
        a, b = await pair()
        reader = treadle.go(read(b))
        task = asyncio.create_task(read(b))
        writer = treadle.go(write(b, bytes(64 << 20)))
        await asyncio.sleep(0.002)
        b.close()
        b.close()
        for g in (reader, task, writer):
            with pytest.raises(Closed) as raised:
                await g
            assert isinstance(raised.value, OSError)
        for op in (b.read(1), b.readline(), b.readexactly(1), b.read(0), b.write(b"x")):
            with pytest.raises(Closed):
                await op
        for call in (b.fileno, b.shutdown_write, lambda: b.peername, lambda: b.sockname):
            with pytest.raises(Closed):
                call()
        assert b.closed and "closed" in repr(b)
        b.set_deadline(1)
        b.settimeout(1)
        a.close()

    drive(main)


def test_the_peer_closes(drive):
    """D22: an end is an end, a reset an error."""

    async def main():
        a, b = await pair()
        g = treadle.go(read(b))
        a.close()
        assert await g == b""
        b.close()

        a, b = await pair()
        g = treadle.go(read(b))
        await treadle.yield_()
        reset(a)
        with pytest.raises(ConnectionResetError) as raised:
            await g
        assert raised.value.errno == errno.ECONNRESET
        b.close()

        a, b = await pair()
        a.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)) as raised:
            for _ in range(100):
                await b.write(bytes(100_000))
                await treadle.sleep(0.001)
        assert raised.value.errno in (errno.EPIPE, errno.ECONNRESET)
        b.close()

    drive(main)


def test_listener(drive):
    """D10, D21, D27."""

    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            port, address = listener.port, listener.address
            assert address == f"127.0.0.1:{port}" and address in repr(listener)
            with pytest.raises(OSError) as raised:
                await treadle.listen("tcp", address)
            assert raised.value.errno == errno.EADDRINUSE and address in str(raised.value)
            near = await treadle.dial("tcp", address)
            listener.set_deadline(treadle.now() - 1)
            with pytest.raises(TimeoutError):
                await listener.accept()  # although one is waiting
            listener.set_deadline(treadle.now() + 0.02)
            far = await listener.accept()
            assert far.peername == near.sockname and far.sockname == near.peername == address
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await listener.accept()
            listener.set_deadline(None)
            near.close()
            far.close()
            gs = [treadle.go(accept(listener)) for _ in range(5)]
            tasks = [asyncio.create_task(accept(listener)) for _ in range(5)]
            await treadle.sleep(0.002)
        for g in gs + tasks:
            with pytest.raises(Closed):
                await g
        listener.close()
        with pytest.raises(Closed):
            await listener.accept()
        with pytest.raises(Closed):
            listener.port
        with pytest.raises(ConnectionRefusedError) as raised:
            await treadle.dial("tcp", address)
        assert raised.value.errno == errno.ECONNREFUSED and address in str(raised.value)
        again = await treadle.listen("tcp", address)  # at once
        again.close()
        assert [c async for c in again] == []

    drive(main)


async def accept(listener):
    return await listener.accept()


def test_accept_iteration(drive):
    async def main():
        listener = await treadle.listen("tcp", "localhost:0")
        got = []

        async def serve():
            async for conn in listener:
                got.append(await conn.read(10))
                conn.close()

        g = treadle.go(serve())
        for i in range(20):
            c = await treadle.dial("tcp", f"127.0.0.1:{listener.port}")
            await c.write(b"%d" % i)
            assert await c.read(1) == b""
            c.close()
        listener.close()
        await g
        return got

    assert drive(main) == [b"%d" % i for i in range(20)]


def test_cancelled_accept_loses_no_connection(drive):
    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            for spawn in (treadle.go, asyncio.create_task):
                for i in range(10):
                    g = spawn(accept(listener))
                    await asyncio.sleep(0)
                    near = await treadle.dial("tcp", listener.address)
                    await near.write(b"%d" % i)
                    g.cancel()
                    try:
                        far = await g
                    except asyncio.CancelledError:
                        async with asyncio.timeout(5):
                            far = await listener.accept()
                    assert await far.read(10) == b"%d" % i
                    near.close()
                    far.close()

    drive(main)


def test_dial(drive):
    """D18, D20."""

    async def main():
        for timeout in (0, -1, -1e300):
            start = treadle.now()
            with pytest.raises(TimeoutError):
                await treadle.dial("tcp", "127.0.0.1:9", timeout=timeout)
            assert treadle.now() - start < 0.1
        # a listener whose backlog is full does not answer
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = "127.0.0.1:%d" % full.getsockname()[1]
            waiting = []
            for _ in range(3):
                s = socket.socket()
                s.setblocking(False)
                s.connect_ex(full.getsockname())
                waiting.append(s)
            await treadle.sleep(0.01)
            start = treadle.now()
            with pytest.raises(TimeoutError) as raised:
                await treadle.dial("tcp", address, timeout=0.05)
            assert 0.05 <= treadle.now() - start < 0.5 and address in str(raised.value)
            before = fds()
            for spawn in (treadle.go, asyncio.create_task):
                g = spawn(dial(address))
                await treadle.sleep(0.01)
                g.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await g
            assert fds() == before
            for s in waiting:
                s.close()
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            for timeout in (1e300, float("inf"), 2**63, None, 5):
                c = await treadle.dial("tcp", listener.address, timeout=timeout)
                c.close()

    drive(main)


async def dial(address):
    return await treadle.dial("tcp", address)


def test_unix_and_v6(tmp_path, drive):
    async def main():
        path = str(tmp_path / "socket")
        for network, address in (("unix", path), ("unix", f"@treadle-{os.getpid()}"), ("tcp6", "[::1]:0")):
            try:
                listener = await treadle.listen(network, address)
            except OSError as error:
                assert network == "tcp6" and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
                continue
            g = treadle.go(accept(listener))
            near = await treadle.dial(network, listener.address)
            far = await g
            await near.write(b"hello")
            assert await far.read(10) == b"hello"
            for c in (near, far, listener):
                c.close()
        assert not os.path.exists(path)

    drive(main)


def test_bad_addresses_and_arguments():
    async def main():
        for address in ("nonsense", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:-1", "256.0.0.1:80",
                        "[::1:80", "127.0.0.1:http", "", ":"):
            for call in (treadle.listen, treadle.dial):
                with pytest.raises(ValueError) as raised:
                    await call("tcp", address)
                assert address in str(raised.value)
        for call in (treadle.listen, treadle.dial):
            with pytest.raises(ValueError):
                await call("udp", "127.0.0.1:1")
            for bad in ((1, "127.0.0.1:1"), ("tcp", None), ("tcp",), ("tcp", b"127.0.0.1:1")):
                with pytest.raises(TypeError):
                    await call(*bad)
        for bad in ("1", [], True):
            with pytest.raises(TypeError):
                await treadle.dial("tcp", "127.0.0.1:1", timeout=bad)
        a, b = await pair()
        for bad in ("text", None, 1, [b"x"]):
            with pytest.raises(TypeError):
                await a.write(bad)
        for bad in (-1, -(2**62)):
            for call in (a.read, a.readexactly):
                with pytest.raises(ValueError):
                    await call(bad)
        for bad in ("1", None, 1.5):
            for call in (a.read, a.readexactly, a.readline):
                with pytest.raises(TypeError):
                    await call(bad)
        for bad in (0, -1, 2**40):
            with pytest.raises(ValueError):
                await a.readline(limit=bad)
            with pytest.raises(ValueError):
                a.lines(limit=bad)
        with pytest.raises(ValueError):
            await a.readexactly(2**40)
        for bad in (0, -1, float("nan")):
            with pytest.raises(ValueError):
                a.settimeout(bad)
        for bad in ("1", [], True):
            for call in (a.settimeout, a.set_deadline, a.set_read_deadline, a.set_write_deadline):
                with pytest.raises(TypeError):
                    call(bad)
        with pytest.raises(TypeError):
            treadle.Conn()
        with pytest.raises(TypeError):
            treadle.Listener()
        await a.write(memoryview(b"abc")[::1])
        await a.write(bytearray(b"def"))
        await a.write(b"")
        assert await b.readexactly(6) == b"abcdef"
        a.close()
        b.close()

    treadle.run(main())


def test_exhausted_descriptors(drive):
    """D26: EMFILE is an error; the listener can be used on."""

    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            near = socket.create_connection(("127.0.0.1", listener.port))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (fds() + 2, hard))
            hogs = []
            try:
                try:
                    while True:
                        hogs.append(os.dup(0))
                except OSError:
                    pass
                for _ in range(3):
                    with pytest.raises(OSError) as raised:
                        await listener.accept()
                    assert raised.value.errno == errno.EMFILE
                with pytest.raises(OSError) as raised:
                    await treadle.dial("tcp", listener.address)
                assert raised.value.errno == errno.EMFILE
            finally:
                for fd in hogs:
                    os.close(fd)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            far = await listener.accept()
            near.sendall(b"x")
            assert await far.read(1) == b"x"
            far.close()
            near.close()

    drive(main)


def test_no_descriptors_for_a_host():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    loop = asyncio.new_event_loop()

    async def main():
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(OSError) as raised:
                await treadle.sleep(0.001)
            assert raised.value.errno == errno.EMFILE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await treadle.sleep(0.001)

    loop.run_until_complete(main())
    loop.close()


def test_stress(drive):
    """D9, D28: many connections, many small echoes."""

    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            async def serve():
                async for conn in listener:
                    treadle.go(echo(conn))

            async def client(i):
                async with await treadle.dial("tcp", listener.address) as c:
                    for n in range(100):
                        text = b"%d %d\n" % (i, n) * (1 + n % 7)
                        await c.write(text)
                        assert await c.readexactly(len(text)) == text

            server = treadle.go(serve())
            async with treadle.scope() as s:
                for i in range(50):
                    s.go(client(i))
            listener.close()
            await server

    drive(main)


def test_an_unclosed_connection_is_said():
    async def main():
        a, b = await pair()
        with pytest.warns(ResourceWarning, match="unclosed connection"):
            del a
        b.close()
        listener = await treadle.listen("tcp", "127.0.0.1:0")
        with pytest.warns(ResourceWarning, match="unclosed listener"):
            del listener

    treadle.run(main())


def test_connections_end_with_their_loop():
    async def main():
        return await pair()

    a, b = treadle.run(main())
    for c in (a, b):
        with pytest.raises(Closed):
            c.fileno()

    async def other():
        with pytest.raises((Closed, RuntimeError)):
            await a.read(1)

    treadle.run(other())


def test_asyncio_streams_beside(drive):
    """asyncio's own transports in the same loop."""

    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            async def serve():
                async for conn in listener:
                    treadle.go(echo(conn))

            g = treadle.go(serve())
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            for i in range(50):
                writer.write(b"line %d\n" % i)
                assert await reader.readline() == b"line %d\n" % i
            writer.close()
            await writer.wait_closed()

            async def serve_asyncio(reader, writer):
                writer.write(await reader.readline())
                writer.close()

            server = await asyncio.start_server(serve_asyncio, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]

            async def client():
                async with await treadle.dial("tcp", f"127.0.0.1:{port}") as c:
                    await c.write(b"hello\n")
                    return await c.readline()

            assert await treadle.go(client()) == b"hello\n"
            server.close()
            await server.wait_closed()
            listener.close()
            await g

    drive(main)


def test_until(drive):
    async def main():
        a, b = await pair()
        flag = []

        async def later():
            flag.append(await b.read(1))

        treadle.go(later())
        await a.write(b"x")
        await until(lambda: flag)
        a.close()
        b.close()

    drive(main)
