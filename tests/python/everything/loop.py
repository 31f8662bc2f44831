# SPDX-License-Identifier: MIT
"""asyncio's calls."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import treadle

from .base import cancelled_in, echo_lines, own_loop, scenario, tls_contexts


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Client(asyncio.Protocol):
    """Collects what comes, and knows when so much is there, and when the end."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.data = wanted, b""
        self.there = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        if len(self.data) >= self.wanted and not self.there.done():
            self.there.set_result(None)

    datagram_received = lambda self, data, address: self.data_received(data)
    pipe_data_received = lambda self, fd, data: self.data_received(data)

    def error_received(self, error: Exception) -> None:
        pass

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        if not self.there.done():
            self.there.set_result(None)


class Buffered(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.buffer = bytearray(100)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, n: int) -> None:
        self.transport.write(bytes(self.buffer[:n]))


@scenario
async def handles() -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(int).cancel()
    loop.call_soon(int, "1")
    loop.call_soon(list, *"1")
    h = loop.call_later(100, int)
    repr(h), h.when(), h.cancelled()
    h.cancel()
    loop.call_at(loop.time(), done.set_result, [1])
    assert await done == [1]
    await asyncio.sleep(0)
    await asyncio.sleep(0.0001)
    queue: asyncio.Queue[int] = asyncio.Queue()
    await queue.put(1)
    await queue.get()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.0001)


@scenario
async def threads() -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    t = threading.Thread(target=lambda: loop.call_soon_threadsafe(done.set_result, [2]))
    t.start()
    assert await done == [2]
    t.join()
    await loop.run_in_executor(None, int)
    await loop.getaddrinfo("127.0.0.1", 80)
    ch: treadle.SharedChan[str] = treadle.SharedChan(1)  # where Ctrl-C ends who receives, the thread is not left waiting
    t = threading.Thread(target=ch.send_sync, args=("from a thread",))
    t.start()
    assert await ch.recv() == "from a thread"
    t.join()


async def echoed(protocol: Callable[[], Any], **tls_of: Any) -> None:
    loop = asyncio.get_running_loop()
    server, client = tls_of.get("server"), tls_of.get("client")
    listening = await loop.create_server(protocol, "127.0.0.1", 0, ssl=server)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        transport, c = await loop.create_connection(
            lambda: Client(3010), "127.0.0.1", port, ssl=client, server_hostname="localhost" if client else None
        )
        try:
            transport.write(b"x" * 10)
            transport.writelines([b"y" * 1000, bytearray(b"z" * 2000)])
            await c.there
            assert len(c.data) == 3010, c.data
            transport.pause_reading()
            transport.resume_reading()
            transport.get_extra_info("peername"), repr(transport), transport.get_write_buffer_size()
        finally:
            transport.close()
        await c.lost


@own_loop
async def protocols() -> None:
    await echoed(Echo)


@own_loop
async def buffered_protocols() -> None:
    await echoed(Buffered)


@own_loop
async def tls_protocols() -> None:
    server, client = tls_contexts()
    await echoed(Echo, server=server, client=client)


@own_loop
async def aborted() -> None:
    """Transports that end by abort, with something in their queue, and by a protocol that raises."""
    loop = asyncio.get_running_loop()

    class Raises(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise ConnectionError("on purpose")  # which is not reported

    a, b = socket.socketpair()
    one, c = await loop.create_connection(lambda: Client(1), sock=a)
    await loop.create_connection(Raises, sock=b)
    one.write(b"x")
    await c.lost
    a, b = socket.socketpair()
    with b:
        one, c = await loop.create_connection(lambda: Client(1), sock=a)
        one.write(bytes(4 << 20))
        one.write(b"more")
        one.write_eof()
        one.abort()
        await c.lost


async def over_streams(**tls_of: Any) -> None:
    server = await asyncio.start_server(echo_lines, "127.0.0.1", 0, ssl=tls_of.get("server"))
    async with server:
        client = tls_of.get("client")
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname()[:2], ssl=client, server_hostname="localhost" if client else None
        )
        try:
            for _ in range(2):
                writer.write(b"line\n")
                await writer.drain()
                assert await reader.readline() == b"line\n"
            writer.write(b"0123456789\n")
            assert await reader.readexactly(4) == b"0123"
            assert await reader.readuntil(b"8") == b"45678"
            assert await reader.read(100) == b"9\n"
            await cancelled_in(lambda: reader.read(1))
        finally:
            writer.close()
        await writer.wait_closed()


@own_loop
async def streams() -> None:
    await over_streams()


@own_loop
async def tls_streams() -> None:
    server, client = tls_contexts()
    await over_streams(server=server, client=client)


@own_loop
async def start_tls() -> None:
    server, client = tls_contexts()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readline()
            writer.write(b"go on\n")
            await writer.start_tls(server)
            writer.write(await reader.readline())
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname()[:2])
        try:
            writer.write(b"STARTTLS\n")
            await reader.readline()
            await writer.start_tls(client, server_hostname="localhost")
            writer.write(b"line\n")
            assert await reader.readline() == b"line\n"
        finally:
            writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@own_loop
async def datagram_transports() -> None:
    loop = asyncio.get_running_loop()

    class Back(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.transport.sendto(data, address)

    server, _ = await loop.create_datagram_endpoint(Back, local_addr=("127.0.0.1", 0))
    client, c = await loop.create_datagram_endpoint(
        lambda: Client(6), remote_addr=server.get_extra_info("sockname")
    )
    client.sendto(b"one")
    client.sendto(b"two")
    await c.there
    assert c.data == b"onetwo"
    client.close()
    server.abort()
    await c.lost


@own_loop
async def pipes() -> None:
    loop = asyncio.get_running_loop()
    r, w = os.pipe()
    reading, c = await loop.connect_read_pipe(lambda: Client(4), os.fdopen(r, "rb", 0))
    writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(w, "wb", 0))
    writing.write(b"so")
    writing.write(b"me")
    await c.there
    assert c.data == b"some"
    writing.close()
    await c.lost
    reading.close()


@own_loop
async def sockets() -> None:
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    with a, b, socket.socket() as listener, socket.socket() as client:
        for s in (a, b, listener, client):
            s.setblocking(False)
        await loop.sock_sendall(a, b"some")
        assert await loop.sock_recv(b, 10) == b"some"
        g = treadle.go(loop.sock_recv_into(b, bytearray(10)))
        await asyncio.sleep(0)
        await loop.sock_sendall(a, b"more")
        assert await g == 4
        await cancelled_in(lambda: loop.sock_recv(b, 1))
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        await cancelled_in(lambda: loop.sock_accept(listener))
        await loop.sock_connect(client, listener.getsockname())
        far, _ = await loop.sock_accept(listener)
        far.close()
    u, v = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
    with u, v:
        for s in (u, v):
            s.setblocking(False)
            s.bind(("127.0.0.1", 0))
        await loop.sock_sendto(u, b"x", v.getsockname())
        assert await loop.sock_recvfrom(v, 10) == (b"x", u.getsockname())
        await cancelled_in(lambda: loop.sock_recvfrom_into(v, bytearray(10)))


@scenario
async def readers() -> None:
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    with a, b:
        there = loop.create_future()
        loop.add_reader(a, lambda: there.done() or there.set_result(None))
        loop.add_writer(a, int)
        loop.add_writer(a, list, "x")
        b.send(b"x")
        await there
        assert loop.remove_reader(a) and loop.remove_writer(a) and not loop.remove_reader(b)
