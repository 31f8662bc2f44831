# SPDX-License-Identifier: MIT
"""What others do wrong is an error with a stable class, and the address is in its
text; the listener and the other connections go on."""

import errno
import os
import socket

import pytest
import treadle


async def serve(listener):
    async def echo(c):
        async with c:
            async for line in c.lines():
                await c.write(line + b"\n")

    try:
        while True:
            treadle.go(echo(await listener.accept()))
    except treadle.Closed:
        pass


def beside_a_server(f):
    """main for drive: f beside an echo server, which works on afterwards, as does a
    connection from before."""

    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            treadle.go(serve(listener))
            address = f"127.0.0.1:{listener.port}"
            before = await treadle.dial("tcp", address)
            await f(address)
            for c in before, await treadle.dial("tcp", address):
                async with c:
                    c.settimeout(10)
                    await c.write(b"still there\n")
                    assert await anext(c.lines()) == b"still there"

    return main


BAD = [
    ("tcp", "127.0.0.1:99999"),
    ("tcp", "127.0.0.1:-1"),
    ("tcp", "127.0.0.1"),
    ("tcp", "1.2.3:80"),
    ("tcp", "[::1:80"),
    ("tpc", "127.0.0.1:80"),
]


def test_addresses(drive):
    async def main(_):
        for network, address in BAD:
            for name, call in ("dial", treadle.dial), ("listen", treadle.listen):
                with pytest.raises(ValueError) as e:
                    await call(network, address)
                assert str(e.value).startswith(f"{name} {network} {address}: ")

    drive(beside_a_server(main))


def test_nobody_there(drive):
    async def main(_):
        with socket.create_server(("127.0.0.1", 0)) as s:
            nobody = "127.0.0.1:%d" % s.getsockname()[1]
        with pytest.raises(ConnectionRefusedError, match=f"dial tcp {nobody}: "):
            await treadle.dial("tcp", nobody)
        with pytest.raises(FileNotFoundError, match="dial unix /nonexistent/socket: "):
            await treadle.dial("unix", "/nonexistent/socket")
        with pytest.raises(OSError) as e:
            await treadle.dial("tcp", "no-such-host.invalid:80", timeout=5)
        # a system without a network may not be able to say so in time
        assert "dial tcp no-such-host.invalid:80: " in str(e.value) or e.type is TimeoutError

    drive(beside_a_server(main))


def test_datagrams_too_long(drive):
    async def main(_):
        a, b = await treadle.listen_udp("127.0.0.1:0"), await treadle.listen_udp("127.0.0.1:0")
        to = f"127.0.0.1:{b.port}"
        with pytest.raises(OSError, match=f"sendto {to}: ") as e:
            await a.sendto(b"x" * 70000, to)
        assert e.value.errno == errno.EMSGSIZE
        with pytest.raises(ValueError, match="127.0.0.1:99999"):
            await a.sendto(b"x", "127.0.0.1:99999")
        await a.sendto(b"y" * 100, to)
        with pytest.raises(treadle.Truncated):
            await b.recvfrom(10)
        await a.sendto(b"end", to)
        assert (await b.recvfrom(10))[0] == b"end"
        a.close()
        b.close()

    drive(beside_a_server(main))


def test_frames(drive):
    async def main(address):
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            async with await treadle.dial("tcp", f"127.0.0.1:{listener.port}") as c:
                s = await listener.accept()
                await c.write(b"half a frame")
            async with s:
                with pytest.raises(EOFError):
                    await s.readexactly(100)
        async with await treadle.dial("tcp", address) as c:
            await c.write(b"z" * 1000 + b"\n")
            with pytest.raises(ValueError, match="no newline within 100 bytes"):
                await c.readline(100)

    drive(beside_a_server(main))


def test_descriptors(drive):
    async def main(_):
        with open("/etc/passwd") as f, pytest.raises(PermissionError, match="cannot be polled"):
            treadle.fd(f)
        with pytest.raises(OSError) as e:
            treadle.fd(12345)
        assert e.value.errno == errno.EBADF
        r, w = os.pipe()
        f = treadle.fd(r)
        os.close(r)  # behind its back
        with pytest.raises(OSError) as e:
            await f.read(1)
        assert e.value.errno == errno.EBADF
        f.close()
        os.close(w)

    drive(beside_a_server(main))


def test_peer_never_reads(drive):
    async def main(_):
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            async with await treadle.dial("tcp", f"127.0.0.1:{listener.port}") as c:
                c.settimeout(0.05)
                with pytest.raises(TimeoutError):
                    while True:
                        await c.write(b"w" * 4_000_000)

    drive(beside_a_server(main))
