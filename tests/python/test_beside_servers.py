# SPDX-License-Identifier: MIT
"""Servers, calls on sockets and debug mode beside asyncio's own loop. See beside.py."""

import asyncio
import io
import os
import socket
import sys
import threading

import pytest
from beside import BIG, Told, debugging, endpoint, outcome, pipe, same, socket_pair

pytestmark = debugging


# -- Servers -------------------------------------------------------------------


@same
async def test_server_bad_input(notes):
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dgram, socket.create_server(("127.0.0.1", 0)) as taken:
        for name, kwargs in (
            ("nothing", {}),
            ("no socket", {"sock": 5}),
            ("a datagram socket", {"sock": dgram}),
            ("both", {"host": "127.0.0.1", "port": 0, "sock": dgram}),
            ("a port that is taken", {"host": "127.0.0.1", "port": taken.getsockname()[1]}),
            ("a timeout without TLS", {"host": "127.0.0.1", "port": 0, "ssl_handshake_timeout": 5}),
            ("no context", {"host": "127.0.0.1", "port": 0, "ssl": True}),
        ):
            await outcome(notes, name, loop.create_server(asyncio.Protocol, **kwargs))
        for name, kwargs in (
            ("nothing", {}),
            ("no socket", {"sock": dgram}),
            ("both", {"host": "127.0.0.1", "port": 1, "sock": dgram}),
            ("a host name without TLS", {"host": "127.0.0.1", "port": 1, "server_hostname": "x"}),
            ("nobody", {"host": "127.0.0.1", "port": 1}),
        ):
            await outcome(notes, name, loop.create_connection(asyncio.Protocol, **kwargs))
        for name, kwargs in (
            ("nothing", {}),
            ("no socket", {"sock": taken}),
            ("both", {"local_addr": ("127.0.0.1", 0), "sock": dgram}),
            ("no pair", {"local_addr": "127.0.0.1"}),
        ):
            await outcome(notes, name, loop.create_datagram_endpoint(asyncio.DatagramProtocol, **kwargs))


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python 3.13 and later")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
@same
async def test_server_and_its_clients(notes, method):
    loop = asyncio.get_running_loop()
    protocols = []

    def factory():
        protocols.append(Told(notes))
        return protocols[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0, keep_alive=True)
    notes.note(server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(3)]
    while len(protocols) < 3 or not all(p.seen for p in protocols):
        await asyncio.sleep(0.001)
    protocols[0].transport.write(BIG * 10)
    server.close()
    notes.note("serving", server.is_serving())
    getattr(server, method)()
    notes.note([p.transport.is_closing() for p in protocols])
    for client in clients:
        client.settimeout(20)
        received = 0
        try:
            while data := await asyncio.to_thread(client.recv, 1 << 20):
                received += len(data)
        except ConnectionResetError:
            notes.note("reset")
        notes.note("all came", received in (0, len(BIG) * 10))
        client.close()
    await server.wait_closed()


@pytest.mark.parametrize("listens", [False, True])
@same
async def test_server_unix(notes, listens, tmp_path):
    loop = asyncio.get_running_loop()
    path = str(tmp_path / f"s{len(os.listdir(tmp_path))}")
    if listens:
        with socket.socket(socket.AF_UNIX) as before:
            before.bind(path)
    server = await loop.create_unix_server(lambda: Told(notes), path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.send(b"x")
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    server.close()
    await server.wait_closed()
    notes.note(os.path.exists(path))
    await outcome(notes, "too long", loop.create_unix_server(lambda: Told(notes), path + "x" * 200))


# -- Sockets and files ---------------------------------------------------------


@pytest.mark.parametrize("address", [("127.0.0.1", 1), ("127.0.0.1",), ("127.0.0.1", "x"), ("127.0.0.1", 70_000), None, "text", 5])
@same
async def test_sock_connect_fails(notes, address):
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await outcome(notes, "connect", loop.sock_connect(sock, address))
        await outcome(notes, "again", loop.sock_connect(sock, ("127.0.0.1", 1)))


@same
async def test_sock_connect(notes):
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as sock:
        sock.setblocking(False)
        address = server.getsockname()
        await outcome(notes, "connect", loop.sock_connect(sock, address))
        await outcome(notes, "again", loop.sock_connect(sock, address))
        peer, _ = server.accept()
        with peer:
            await outcome(notes, "sendall", loop.sock_sendall(sock, b"x"))
            notes.note(peer.recv(5))
    await outcome(notes, "closed", loop.sock_connect(sock, address))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        await outcome(notes, "unix", loop.sock_connect(sock, "/nonexistent/socket"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        await outcome(notes, "no path", loop.sock_connect(sock, ("127.0.0.1", 1)))
    await outcome(notes, "no socket", loop.sock_connect(5, ("127.0.0.1", 1)))


@same
async def test_connecting_is_cancelled(notes):
    """The socket may be closed then, and its number be another's."""
    loop = asyncio.get_running_loop()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            waiting.append((sock, asyncio.ensure_future(loop.sock_connect(sock, server.getsockname()))))
        await asyncio.sleep(0.005)
        for sock, task in waiting:
            task.cancel()
        results = await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
        notes.note(type(results[-1]).__name__)
        for sock, _ in waiting:
            sock.close()
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        b.send(b"x")
        await outcome(notes, "recv", loop.sock_recv(a, 5))


@pytest.mark.parametrize("way", ["loop.sendfile", "loop.sock_sendfile"])
@same
async def test_sending_a_file(notes, way, tmp_path):
    loop = asyncio.get_running_loop()
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 2000)
    (tmp_path / "empty").write_bytes(b"")
    transport, protocol, peer = await socket_pair(notes)
    target, send = transport, loop.sendfile
    if way == "loop.sock_sendfile":
        transport.abort()
        await protocol.lost
        peer.close()
        target, peer = socket.socketpair()
        target.setblocking(False)
        peer.setblocking(False)
        send = loop.sock_sendfile
    received = 0

    async def receive():
        nonlocal received
        while True:
            data = await loop.sock_recv(peer, 100_000)
            if not data:
                return
            received += len(data)

    reading = asyncio.create_task(receive())
    with open(path, "rb") as file, open(path) as text, open(tmp_path / "empty", "rb") as empty:
        await outcome(notes, "all", send(target, file))
        notes.note("at", file.tell())
        await outcome(notes, "part", send(target, file, 1000, 70_000))
        notes.note("at", file.tell())
        await outcome(notes, "over the end", send(target, file, 510_000, 70_000))
        notes.note("at", file.tell())
        await outcome(notes, "behind the end", send(target, file, 600_000))
        await outcome(notes, "empty", send(target, empty))
        await outcome(notes, "offset", send(target, file, -1))
        await outcome(notes, "offset", send(target, file, "x"))
        await outcome(notes, "count", send(target, file, 0, 0))
        await outcome(notes, "count", send(target, file, 0, "x"))
        await outcome(notes, "text", send(target, text))
        await outcome(notes, "no file", send(target, io.BytesIO(b"abc"), fallback=False))
        await outcome(notes, "no file", send(target, io.BytesIO(b"abc")))
        await outcome(notes, "no socket", send(5, file))
        before = -1
        while before != received:
            before = received
            await asyncio.sleep(0.01)
        notes.note("received", received)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        sending = asyncio.ensure_future(send(target, file))
        await asyncio.sleep(0.002)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        notes.note("cancelled", sending.cancelled())
        sending = asyncio.ensure_future(send(target, file, fallback=False))
        await asyncio.sleep(0.002)
        peer.close()
        await outcome(notes, "gone", sending)
        await asyncio.sleep(0.01)
        target.close()
        await asyncio.sleep(0.002)
        await outcome(notes, "closed", send(target, file, fallback=False))


# -- Debug mode and warnings --------------------------------------------------


@pytest.mark.parametrize("kind", ["stream", "datagram", "read", "write"])
@same(collect=True)
async def test_unclosed(notes, kind):
    """Nobody has closed it when the loop is closed, and nobody has it any more."""
    if kind == "stream":
        transport, protocol, peer = await socket_pair(notes)
    elif kind == "datagram":
        transport, protocol = await endpoint(notes, local_addr=("127.0.0.1", 0))
        peer = None
    else:
        transport, protocol, peer = await pipe(notes, kind)
    notes.left = peer


@same(debug=True)
async def test_debug_mode(notes):
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 1000
    transport, protocol, peer = await socket_pair(notes)
    transport.pause_reading()
    transport.resume_reading()
    peer.send(b"x")
    await protocol.until("data_received")
    peer.close()
    await protocol.lost
    transport, protocol, w = await pipe(notes, "read")
    transport.pause_reading()
    transport.resume_reading()
    os.close(w)
    await protocol.lost
    transport, protocol, r = await pipe(notes, "write")
    os.close(r)
    await protocol.lost


@same(debug=True)
async def test_debug_mode_wrong_thread(notes):
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 1000

    def elsewhere():
        notes.attempt("call_soon", loop.call_soon, print)
        notes.attempt("call_later", loop.call_later, 1, print)
        notes.attempt("call_at", loop.call_at, 1, print)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    notes.attempt("call_soon", loop.call_soon, elsewhere())
    notes.attempt("no function", loop.call_soon, 5)

    async def coroutine():
        pass

    notes.attempt("a coroutine function", loop.call_soon, coroutine)
    sock = socket.socket()
    notes.attempt("create_task", loop.create_task, 5)
    for name, *args in (("sock_recv", sock, 1), ("sock_sendall", sock, b""), ("sock_connect", sock, ("127.0.0.1", 1)), ("sock_accept", sock)):
        try:
            await getattr(loop, name)(*args)
        except ValueError as exc:
            notes.note(name, exc)
    sock.close()
