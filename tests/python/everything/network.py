# SPDX-License-Identifier: MIT
"""The network, from goroutines."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile

import treadle
from treadle import io

from .base import NOTHING, cancelled_in, pair, refused, scenario, tls_contexts


@scenario
async def connections() -> None:
    near, far = await pair()
    async with near, far:
        await near.write(b"line\nmore\r\nand some|rest")
        assert await far.readline() == b"line\n"
        async for line in far.lines():
            assert line == b"more"
            break
        assert await far.read_until(b"|") == b"and some|"
        assert await far.readexactly(4) == b"rest"
        await cancelled_in(lambda: far.read(10))
        near.settimeout(0.0001)
        await refused(TimeoutError, near.readline())
        near.settimeout(None)
        near.set_option("nodelay", True)
        near.option("nodelay"), near.tcp_info(), near.peername, near.sockname, repr(near), near.fileno()
        near.shutdown_write()
        await refused(asyncio.IncompleteReadError, far.readexactly(3))
        assert await far.read(1) == b""
    await refused(treadle.Closed, near.read(1))
    await refused(OSError, treadle.dial("tcp", "127.0.0.1:1"))
    await cancelled_in(lambda: treadle.dial("tcp", "127.0.0.1:1"))
    listener = await treadle.listen("tcp", "127.0.0.1:0")
    await cancelled_in(listener.accept)
    listener.close()


@scenario
async def in_memory() -> None:
    a, b = treadle.pipe()
    writing = treadle.go(a.write(b"x" * 1000))
    assert len(await b.readexactly(1000)) == 1000
    await writing
    await cancelled_in(lambda: b.read(1))
    a.close()
    assert await b.read(1) == b""
    b.close()
    r, w = io.pipe()
    sending = treadle.go(w.write(b"line\n"))
    assert await io.BufferedReader(r).readline() == b"line\n"
    await sending
    w.close_with(errno.EIO)
    await refused(OSError, r.read(1))
    r.close()


@scenario
async def unix() -> None:
    with tempfile.TemporaryDirectory() as place:
        async with await treadle.listen("unix", f"{place}/s") as listener:
            g = treadle.go(listener.accept())
            near = await treadle.dial("unix", f"{place}/s")
            far = await g
        async with near, far:
            with open(NOTHING) as f:
                await near.send_fds(b"these", [f.fileno()])
            data, fds = await far.recv_fds()
            assert data == b"these"
            for fd in fds:
                os.close(fd)
            far.peercred()
            await cancelled_in(far.recv_fds)


@scenario
async def datagrams() -> None:
    async with await treadle.listen_udp("127.0.0.1:0") as u:
        async with await treadle.dial_udp(u.address) as v:
            await v.send(b"one")
            data, address = await u.recvfrom()
            assert data == b"one" and address == v.address
            await u.sendto(b"two", v.address)
            assert await v.recv() == b"two"
            await u.send_many([b"a", b"b"], v.address)
            assert sum([len(await v.recv_many(1)) for _ in range(2)]) == 2
            await u.sendto(b"long", v.address)
            await refused(treadle.Truncated, v.recv(1))
            await cancelled_in(u.recv)
            await cancelled_in(lambda: u.recv_many(3))
            repr(u), u.port, v.peername


@scenario
async def serving() -> None:
    async def answer(conn: treadle.Conn) -> None:
        line = await conn.readline()
        if line:
            await conn.write(line)
        else:
            conn.close()

    listener = await treadle.listen("tcp", "127.0.0.1:0")
    port = listener.port
    async with treadle.serve(listener, answer, idle_timeout=60, max_conns=10) as server:
        async with await treadle.dial("tcp", f"127.0.0.1:{port}") as conn:
            conn.settimeout(3)
            for _ in range(2):
                await conn.write(b"line\n")
                assert await conn.readline() == b"line\n"
        server.stats()
        await server.shutdown(10)


@scenario
async def descriptors() -> None:
    r, w = os.pipe()
    f, conn = treadle.fd(r), treadle.adopt(w)
    await conn.write(b"some")
    await f.wait_readable()
    assert await f.read(10) == b"some"
    await cancelled_in(f.wait_readable)
    await cancelled_in(lambda: f.read(1))
    conn.close()
    f.close()


@scenario
async def tls() -> None:
    server, client = tls_contexts()
    async with await treadle.listen("tcp", "127.0.0.1:0", ssl=server) as listener:

        async def answer() -> None:
            async with await listener.accept() as far:
                await far.write(await far.readline())
                await far.read(1)

        async with treadle.scope() as s:
            s.go(answer())
            near = await treadle.dial("tcp", f"127.0.0.1:{listener.port}", ssl=client, server_hostname="localhost")
            async with near:
                await near.write(b"line\n")
                assert await near.readline() == b"line\n"
                await cancelled_in(lambda: near.read(1))
