# SPDX-License-Identifier: MIT
"""Transports beside asyncio's own: streams, datagrams and pipes. See beside.py."""

import asyncio
import os
import socket
import sys

import pytest
from beside import (
    BAD_DATA,
    BIG,
    METHODS,
    Notes,
    Told,
    debugging,
    drain,
    endpoint,
    pipe,
    same,
    socket_pair,
)

from test_transports_tls import contexts  # noqa: F401 - a fixture

pytestmark = debugging


def test_the_comparison_itself():
    """A scenario that tells the loops apart must fail."""

    @same
    async def different(notes):
        notes.note(type(asyncio.get_running_loop()).__name__)

    with pytest.raises(AssertionError):
        different()


# -- Streams ------------------------------------------------------------------


@same
async def test_stream_bad_data(notes):
    transport, protocol, peer = await socket_pair(notes)
    for data in BAD_DATA:
        notes.attempt(f"write {data}", transport.write, data)
    if sys.version_info >= (3, 12):  # before, it was a join and a write
        notes.attempt("writelines", transport.writelines, 5)
    for high, low in ((-1, None), (10, 20), (None, -5), (5, -1), (0, 0), (None, 10), (100, None)):
        notes.attempt(f"limits {high} {low}", transport.set_write_buffer_limits, high, low)
        notes.note(transport.get_write_buffer_limits())
    notes.attempt("pause", transport.pause_reading)
    notes.attempt("pause again", transport.pause_reading)
    notes.attempt("resume", transport.resume_reading)
    notes.attempt("resume again", transport.resume_reading)
    notes.attempt("info", transport.get_extra_info, "nonsense", 7)
    notes.note(transport)
    transport.close()
    notes.note(transport)
    await protocol.lost
    notes.note(transport)
    peer.close()


class Traced(socket.socket):
    """A socket that knows which of its methods were called."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.called = set()

    def recv(self, *args):
        self.called.add("reads")
        return super().recv(*args)

    def recv_into(self, *args):
        self.called.add("reads")
        return super().recv_into(*args)

    def send(self, *args):
        self.called.add("writes")
        return super().send(*args)

    def sendmsg(self, *args):
        self.called.add("writes")
        return super().sendmsg(*args)


async def traced(server):
    sock = Traced()
    sock.connect(server.sockets[0].getsockname())
    sock.setblocking(False)
    return sock


async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()


@pytest.mark.parametrize("way", ["write", "sendfile"])
@same
async def test_a_socket_with_its_own_way_to_read_and_write(notes, way, tmp_path):
    """What the program's class of sockets does is done."""
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    sock = await traced(server)
    transport, protocol = await loop.create_connection(lambda: Told(notes), sock=sock)
    if way == "sendfile":
        (tmp_path / "file").write_bytes(b"one")
        with open(tmp_path / "file", "rb") as file:
            notes.note(await loop.sendfile(transport, file))
    else:
        transport.write(b"one")
    while "data_received" not in protocol.seen:
        await asyncio.sleep(0.001)
    transport.close()
    await protocol.lost
    notes.note(sorted(sock.called))
    server.close()


@pytest.mark.parametrize("way", ["plain", "tls", "start_tls"])
@same
async def test_streams_over_a_socket_with_its_own_way(notes, way, contexts):
    server_context, client_context = contexts
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=None if way == "plain" else server_context)
    sock = await traced(server)
    tls = {"ssl": client_context, "server_hostname": "localhost"} if way == "tls" else {}
    reader, writer = await asyncio.open_connection(sock=sock, **tls)
    if way == "start_tls":
        await writer.start_tls(client_context, server_hostname="localhost")
    for data in (b"one", b"two" * 100):
        writer.write(data)
        await writer.drain()
        notes.note(await reader.readexactly(len(data)))
    writer.close()
    await writer.wait_closed()
    notes.note(sorted(sock.called))
    server.close()


@same
async def test_stream_after_its_end(notes):
    transport, protocol, peer = await socket_pair(notes)
    transport.write(BIG)
    notes.attempt("eof", transport.write_eof)
    notes.attempt("eof again", transport.write_eof)
    notes.attempt("write", transport.write, b"x")
    if sys.version_info >= (3, 12):
        notes.attempt("writelines", transport.writelines, [b"x"])
    transport.abort()
    for _ in range(7):
        notes.attempt("abort", transport.abort)
    await protocol.lost
    notes.attempt("close", transport.close)
    notes.attempt("pause", transport.pause_reading)
    notes.attempt("resume", transport.resume_reading)
    peer.close()


@same
async def test_stream_write_to_nobody(notes):
    transport, protocol, peer = await socket_pair(notes)
    transport.pause_reading()
    peer.close()
    for _ in range(8):
        notes.attempt("write", transport.write, b"x")
    await protocol.lost
    for _ in range(3):
        notes.attempt("write", transport.write, b"x")
    notes.attempt("write nothing", transport.write, b"")
    notes.attempt("write text", transport.write, "x")


@pytest.mark.parametrize("method", METHODS)
@same
async def test_stream_protocol_raises(notes, method):
    transport, protocol, peer = await socket_pair(notes, method)
    transport.set_write_buffer_limits(1000)
    transport.write(BIG)
    await asyncio.sleep(0.01)
    if "connection_lost" not in protocol.seen:
        await drain(lambda: peer.recv(100_000), len(BIG))
        peer.send(b"abc")
        await asyncio.sleep(0.01)
    peer.close()
    await asyncio.sleep(0.02)
    transport.abort()
    await protocol.lost


# -- Datagrams ----------------------------------------------------------------



@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@same
async def test_datagrams_come_as_they_were_sent(notes, host):
    try:
        server, received = await endpoint(notes, local_addr=(host, 0))
    except OSError:
        pytest.skip("no such network")
    address = server.get_extra_info("sockname")
    client, answered = await endpoint(Notes(), remote_addr=address[:2])
    notes.note(client.get_extra_info("peername")[0], server.get_extra_info("peername"))
    for i in range(50):
        client.sendto(b"%d" % i)
    client.sendto(b"same", client._address)
    client.sendto(bytearray(b"array"))
    client.sendto(memoryview(b"view"))
    await received.until("datagram_received", 53)
    server.sendto(b"back", client.get_extra_info("sockname"))
    await answered.until("datagram_received")
    client.close()
    server.close()
    await asyncio.gather(received.lost, answered.lost)


@same
async def test_datagram_bad_input(notes):
    server, received = await endpoint(notes, local_addr=("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    client, protocol = await endpoint(notes, remote_addr=address)
    for data in BAD_DATA:
        notes.attempt(f"sendto {data}", client.sendto, data)
    notes.attempt("another", client.sendto, b"x", ("127.0.0.2", 1))
    notes.attempt("nonsense", client.sendto, b"x", "nonsense")
    notes.attempt("too long", client.sendto, b"x" * 70_000)
    notes.attempt("limits", client.set_write_buffer_limits, 1, 2)
    notes.note(client, server)
    client.close()
    notes.note(client)
    await protocol.lost
    notes.note(client)
    for _ in range(8):
        notes.attempt("after", client.sendto, b"x")
    server.close()
    await received.lost


@pytest.mark.parametrize("address", [None, "nonsense", (), ("127.0.0.1",), ("127.0.0.1", 70_000), ("127.0.0.1", "x"),
                                     ("127.0.0.1", 1, 2), (5, 5), ("255.255.255.255", 9)])
@same
async def test_datagram_bad_address(notes, address):
    server, protocol = await endpoint(notes, local_addr=("127.0.0.1", 0))
    notes.attempt("sendto", server.sendto, b"x", address)
    await asyncio.sleep(0.002)
    notes.note(server.is_closing())
    server.abort()
    await protocol.lost


@pytest.mark.parametrize("method", ["connection_made", "datagram_received", "error_received", "connection_lost"])
@same
async def test_datagram_protocol_raises(notes, method):
    server, received = await endpoint(notes, method, local_addr=("127.0.0.1", 0))
    client, protocol = await endpoint(notes, method, remote_addr=server.get_extra_info("sockname"))
    client.sendto(b"one")
    client.sendto(b"two")
    await received.until("datagram_received", 2)
    server.close()
    await received.lost
    client.sendto(b"to nobody")  # refused
    await protocol.until("error_received")
    notes.note(client.is_closing())
    client.close()
    await protocol.lost


@pytest.mark.skipif(sys.version_info[:2] == (3, 13), reason="asyncio's own counts there what it has sent wrongly")
@pytest.mark.parametrize("method", ["", "pause_writing", "resume_writing", "datagram_received", "connection_lost"])
@same
async def test_unix_datagrams_wait(notes, method, tmp_path):
    path = str(tmp_path / f"s{len(os.listdir(tmp_path))}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(path)
        peer.setblocking(False)
        client, protocol = await endpoint(notes, method, remote_addr=path, family=socket.AF_UNIX)
        client.set_write_buffer_limits(1000)
        for i in range(300):
            client.sendto(b"%3d" % i * 10)
        await asyncio.sleep(0.01)
        client.close()
        if not client.get_write_buffer_size():
            notes.note("nothing waits")
        expected = 0
        while expected < 300:
            try:
                assert peer.recv(1000) == b"%3d" % expected * 10
                expected += 1
            except BlockingIOError:
                await asyncio.sleep(0.001)
        await protocol.lost


# -- Pipes --------------------------------------------------------------------


@same
async def test_read_pipe(notes):
    transport, protocol, w = await pipe(notes, "read")
    notes.note(transport, transport.is_closing(), isinstance(transport, asyncio.ReadTransport))
    os.write(w, b"one")
    await protocol.until("data_received")
    notes.attempt("pause", transport.pause_reading)
    notes.attempt("pause again", transport.pause_reading)
    notes.note(transport)
    os.write(w, b"two")
    await asyncio.sleep(0.005)
    notes.attempt("resume", transport.resume_reading)
    notes.attempt("resume again", transport.resume_reading)
    await protocol.until("data_received", 2)
    os.write(w, b"three")
    os.close(w)
    await protocol.lost
    notes.note(transport, transport.is_closing())
    notes.attempt("close", transport.close)


@pytest.mark.parametrize("method", METHODS[:4])
@same
async def test_read_pipe_protocol_raises(notes, method):
    transport, protocol, w = await pipe(notes, "read", method)
    os.write(w, b"one")
    await protocol.until("data_received")
    os.write(w, b"two")
    await protocol.until("data_received", 2)
    os.close(w)
    await protocol.lost
    await asyncio.sleep(0.002)


@same
async def test_write_pipe(notes):
    transport, protocol, r = await pipe(notes, "write")
    notes.note(transport, transport.can_write_eof(), isinstance(transport, asyncio.WriteTransport))
    for data in BAD_DATA:
        notes.attempt(f"write {data}", transport.write, data)
    transport.write(b"one")
    transport.write(b"")
    transport.writelines([b"two", bytearray(b"three")])
    notes.note(os.read(r, 100))
    notes.attempt("limits", transport.set_write_buffer_limits, 1, 2)
    transport.set_write_buffer_limits(1000)
    transport.write(bytearray(BIG))
    notes.note(transport, transport.get_write_buffer_size() > 0)
    transport.write(memoryview(b"end"))
    await drain(lambda: os.read(r, 100_000), len(BIG) + 3)
    await protocol.until("resume_writing")
    transport.write(BIG)
    notes.attempt("eof", transport.write_eof)
    notes.note(transport)
    notes.attempt("eof again", transport.write_eof)
    notes.attempt("close", transport.close)
    notes.attempt("write", transport.write, b"late")
    await drain(lambda: os.read(r, 100_000), len(BIG))
    await protocol.lost
    notes.note(transport)
    notes.attempt("close", transport.close)
    os.close(r)


@pytest.mark.parametrize("waits", [False, True])
@same
async def test_write_pipe_whose_reader_goes(notes, waits):
    transport, protocol, r = await pipe(notes, "write")
    if waits:
        transport.write(BIG)
    os.close(r)
    await protocol.lost
    for _ in range(7):
        notes.attempt("write", transport.write, b"x")


@same
async def test_write_pipe_that_finds_nobody(notes):
    transport, protocol, r = await pipe(notes, "write")
    os.close(r)
    notes.attempt("write", transport.write, b"x")
    notes.attempt("write", transport.write, b"x")
    notes.note(transport)
    await protocol.lost


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing", "connection_lost"])
@same
async def test_write_pipe_protocol_raises(notes, method):
    transport, protocol, r = await pipe(notes, "write", method)
    transport.set_write_buffer_limits(1000)
    transport.write(BIG)
    await drain(lambda: os.read(r, 100_000), len(BIG))
    await asyncio.sleep(0.005)
    transport.abort()
    await protocol.lost
    os.close(r)


@pytest.mark.parametrize("kind", ["read", "write"])
@same
async def test_pipe_of_a_file(notes, kind, tmp_path):
    loop = asyncio.get_running_loop()
    connect = loop.connect_read_pipe if kind == "read" else loop.connect_write_pipe
    with open(tmp_path / "file", "wb") as file:
        try:
            await connect(lambda: Told(notes), file)
        except ValueError as exc:
            notes.note(exc)


@same
async def test_write_pipe_over_a_socket(notes):
    ours, theirs = socket.socketpair()
    transport, protocol = await asyncio.get_running_loop().connect_write_pipe(lambda: Told(notes), ours)
    transport.write(b"x")
    notes.note(theirs.recv(10))
    theirs.send(b"anything")
    await protocol.lost
    theirs.close()
