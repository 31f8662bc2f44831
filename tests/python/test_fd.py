# SPDX-License-Identifier: MIT
"""Descriptors of the program's own, options, Unix messages, pipes in memory, and
dialling with options."""

import asyncio
import errno
import os
import socket

import pytest
import treadle
from conftest import fds, pair


async def unix_pair(network="unix"):
    async with await treadle.listen(network, "@") as listener:
        accepting = treadle.go(accept(listener))
        near = await treadle.dial(network, listener.address)
        return near, await accepting


async def accept(listener):
    return await listener.accept()


def test_pipe_descriptors(drive):
    """D35."""

    async def main():
        r, w = os.pipe()
        async with treadle.fd(r) as reader:
            writer = treadle.fd(w)
            g = treadle.go(read(reader))
            await treadle.sleep(0.001)
            await writer.write(b"bytes")
            assert await g == b"bytes"
            await writer.wait_writable()
            big = os.urandom(300_000)

            async def send():
                await writer.write(big)
                writer.close()

            g, got = treadle.go(send()), b""
            while data := await reader.read(50_000):
                got += data
            await g
            assert got == big
            assert await reader.read(1) == b""

    drive(main)


async def read(reader):
    return await reader.read(100)


def test_waiting_for_readiness(drive):
    async def main():
        r, w = os.pipe()
        f = treadle.fd(r)
        f.settimeout(0.01)
        with pytest.raises(TimeoutError):
            await f.wait_readable()
        f.settimeout(None)
        g = treadle.go(readable(f))
        await treadle.sleep(0.001)
        with pytest.raises(RuntimeError):
            f.release()
        os.write(w, b"x")
        await g
        await f.wait_readable()  # still there
        assert os.read(r, 1) == b"x"
        g = treadle.go(readable(f))
        await treadle.sleep(0.001)
        g.cancel()
        with pytest.raises(asyncio.CancelledError):
            await g
        assert f.release() == r
        assert f.closed
        assert repr(f) == "<Fd closed>"
        with pytest.raises(treadle.Closed):
            await f.read(1)
        with pytest.raises(treadle.Closed):
            f.fileno()
        assert os.get_blocking(r)
        with treadle_dup(r) as copy:
            os.write(w, b"y")
            assert await copy.read(1) == b"y"
        os.close(r)
        os.close(w)

    drive(main)


class treadle_dup:
    def __init__(self, fd):
        self.fd = treadle.fd(fd, dup=True)

    def __enter__(self):
        return self.fd

    def __exit__(self, *exc):
        self.fd.close()


async def readable(f):
    await f.wait_readable()


def test_what_cannot_be_polled(drive):
    async def main():
        with open("/proc/self/exe", "rb") as file:
            for call in (treadle.fd, treadle.adopt):
                with pytest.raises(OSError, match="cannot be polled") as raised:
                    call(file)
                assert raised.value.errno == errno.EPERM
        with pytest.raises(OSError) as raised:
            treadle.fd(123456)
        assert raised.value.errno == errno.EBADF
        for bad in (-1, "x", None):
            with pytest.raises((ValueError, TypeError)):
                treadle.fd(bad)

    drive(main)


def test_streams_of_descriptors(drive):
    """D33."""

    async def main():
        r, w = os.pipe()
        async with treadle.adopt(r) as reader, treadle.adopt(w) as writer:
            await writer.write(b"one\ntwo\nthree")
            assert await reader.readline() == b"one\n"
            with pytest.raises(RuntimeError):
                reader.release()  # more is buffered
            writer.close()
            assert [line async for line in reader.lines()] == [b"two", b"three"]
            assert reader.release() == r
            os.close(r)
        a, b = socket.socketpair()
        async with treadle.adopt(a.detach()) as near:
            b.send(b"hello")
            assert await near.readexactly(5) == b"hello"
        assert b.recv(1) == b""
        b.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, pytest.raises(ValueError):
            treadle.adopt(s)

    drive(main)


def test_messages(drive):
    async def main():
        near, far = await unix_pair("unixpacket")
        for data in (b"one", b"three", bytes(5000), b"last"):
            await near.write(data)
        assert await far.read(100) == b"one"
        assert await far.read(100) == b"three"
        with pytest.raises(OSError) as raised:
            await far.read(4)
        assert raised.value.errno == errno.EMSGSIZE
        assert await far.read(100) == bytes(4)  # the beginning can still be read
        assert await far.read(100) == b"last"
        near.close()
        assert await far.read(100) == b""
        far.close()

    drive(main)


def test_passed_descriptors(drive):
    async def main():
        near, far = await unix_pair()
        before = fds()
        r, w = os.pipe()
        await near.send_fds(b"two", [r, w])
        os.close(r)
        os.close(w)
        data, got = await far.recv_fds()
        assert data == b"two"
        assert len(got) == 2
        os.write(got[1], b"through")
        assert os.read(got[0], 10) == b"through"
        assert not os.get_inheritable(got[0])
        for fd in got:
            os.close(fd)
        await near.send_fds(b"three", (0, 0, 0))
        with pytest.raises(OSError) as raised:
            await far.recv_fds(100, 2)
        assert raised.value.errno == errno.EMSGSIZE
        await near.write(b"none")
        assert await far.recv_fds(count=1, n=10) == (b"none", [])
        with pytest.raises(OSError) as raised:
            await near.send_fds(b"x", [123456])
        assert raised.value.errno == errno.EBADF
        with pytest.raises(ValueError):
            await near.send_fds(b"x", [])
        with pytest.raises(ValueError):
            await near.send_fds(b"", [0])
        with pytest.raises(TypeError):
            await near.send_fds("x", [0])
        with pytest.raises(ValueError):
            await far.recv_fds(0)
        # a receive that is cancelled in the turn in which they came keeps or closes them
        for _ in range(20):
            g = treadle.go(receive_fds(far))
            await treadle.sleep(0)
            await near.send_fds(b"x", [0])
            g.cancel()
            try:
                _, got = await g
                os.close(got[0])
            except asyncio.CancelledError:
                far.set_read_deadline(treadle.now() + 0.01)
                try:
                    for fd in (await far.recv_fds())[1]:
                        os.close(fd)
                except TimeoutError:
                    pass
                far.set_read_deadline(None)
        near.close()
        assert await far.recv_fds() == (b"", [])
        assert fds() == before - 1
        far.close()
        a, b = await pair()
        with pytest.raises(OSError) as raised:
            await a.send_fds(b"x", [0])
        assert raised.value.errno == errno.EOPNOTSUPP
        a.close()
        b.close()

    drive(main)


async def receive_fds(conn):
    return await conn.recv_fds()


def test_credentials(drive):
    async def main():
        near, far = await unix_pair()
        assert far.peercred() == (os.getpid(), os.getuid(), os.getgid())
        near.close()
        with pytest.raises(treadle.Closed):
            near.peercred()
        far.close()

    drive(main)


def test_options(drive):
    async def main():
        a, b = await pair()
        assert a.option("nodelay") is True
        assert a.option("keepalive") is None
        assert a.option("linger") is None
        for name, value in {
            "nodelay": False,
            "keepalive": 30.0,
            "keepalive_interval": 5.0,
            "keepalive_count": 3,
            "linger": 0.0,
            "tos": 16,
            "ttl": 9,
        }.items():
            a.set_option(name, value)
            assert a.option(name) == value
        a.set_option("keepalive", None)
        assert a.option("keepalive") is None
        a.set_option("linger", None)
        a.set_option("read_buffer", 65536)
        assert a.option("read_buffer") >= 65536
        for name, value in (("ttl", 0), ("linger", 3), ("speed", 1), ("tos", 999)):
            with pytest.raises(ValueError):
                a.set_option(name, value)
        with pytest.raises(TypeError):
            a.set_option("tos", "low")
        info = a.tcp_info()
        assert info.state == 1
        assert 0 < info.rtt < 10
        assert info.cwnd > 0
        assert info.rto > 0
        a.shutdown_read()
        a.close()
        b.close()
        for call in (lambda: a.option("ttl"), lambda: a.set_option("ttl", 3), a.tcp_info):
            with pytest.raises(treadle.Closed):
                call()

    drive(main)


def test_shared_address(drive):
    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0", reuseport=True, backlog=16) as first:
            async with await treadle.listen("tcp", first.address, reuseport=True) as second:
                served = 0

                async def serve(listener):
                    nonlocal served
                    async for conn in listener:
                        served += 1
                        conn.close()

                gs = [treadle.go(serve(first)), treadle.go(serve(second))]
                for _ in range(10):
                    async with await treadle.dial("tcp", first.address) as conn:
                        assert await conn.read(1) == b""
                assert served == 10
                assert os.fstat(first.fileno())
            first.close()
            for g in gs:
                await g
        with pytest.raises(ValueError):
            await treadle.listen("tcp", ":0", backlog=-1)

    drive(main)


def test_dial_options(drive):
    """D18."""

    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            closed = await treadle.listen("tcp", "127.0.0.1:0")
            nobody = closed.address
            closed.close()
            addresses = [nobody, listener.address]
            async with await treadle.dial("tcp", addresses, fallback_delay=60) as conn:
                assert conn.peername == listener.address
            with pytest.raises(ConnectionRefusedError, match=f"dial tcp {nobody}, {nobody}: "):
                await treadle.dial("tcp", (nobody, nobody))
            with pytest.raises(ValueError, match="dial tcp x: the port"):
                await treadle.dial("tcp", [listener.address, "x"])
            for bad in ([], ["127.0.0.1:1"] * 257):
                with pytest.raises(ValueError):
                    await treadle.dial("tcp", bad)
            for bad in (7, [7], None):
                with pytest.raises(TypeError):
                    await treadle.dial("tcp", bad)
            async with await treadle.dial("tcp", listener.address, local="127.0.0.5:0", timeout=5) as conn:
                assert conn.sockname.startswith("127.0.0.5:")
            with pytest.raises(ValueError):
                await treadle.dial("tcp", listener.address, local="nonsense")
            with pytest.raises(TypeError):
                await treadle.dial("tcp", listener.address, local=7)
            g = treadle.go(dial_many(listener.address))
            g.cancel()
            with pytest.raises(asyncio.CancelledError):
                await g

    drive(main)


async def dial_many(address):
    while True:
        (await treadle.dial("tcp", [address], fallback_delay=1)).close()


def test_pipe_in_memory(drive):
    async def main():
        for capacity in (0, 1, 100, 1 << 20):
            a, b = treadle.pipe(capacity)
            text = b"line of some length\n" * (20 if capacity == 1 else 300)

            async def send(a=a, text=text):
                await a.write(text)
                a.shutdown_write()

            g = treadle.go(send())
            assert b"".join([line + b"\n" async for line in b.lines()]) == text
            await g
            assert a.peername == "pipe"
            with pytest.raises(OSError) as raised:
                a.fileno()
            assert raised.value.errno == errno.EOPNOTSUPP
            b.close()
            with pytest.raises(BrokenPipeError):
                await a.write(b"x")
            a.close()
        a, b = treadle.pipe()
        a.settimeout(0.01)
        with pytest.raises(TimeoutError):
            await a.write(b"nobody reads")
        a.settimeout(None)
        g = treadle.go(write(a, b"new"))
        assert await b.readexactly(3) == b"new"
        await g
        a.close()
        b.close()
        for bad in (-1, 1 << 31):
            with pytest.raises(ValueError):
                treadle.pipe(bad)

    drive(main)


async def write(conn, data):
    await conn.write(data)
