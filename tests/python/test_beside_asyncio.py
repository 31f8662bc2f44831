# SPDX-License-Identifier: MIT
"""One scenario on asyncio's own loop and on treadle's: what the program is told, and in
which words, must be the same. What is bad input to a transport is asyncio's to say."""

import asyncio
import functools
import gc
import inspect
import io
import logging
import os
import re
import socket
import sys
import threading
import warnings

import pytest
import treadle

pytestmark = pytest.mark.skipif(
    os.environ.get("PYTHONASYNCIODEBUG") == "1", reason="debug mode has scenarios of its own"
)

OURS = (
    (r"_SelectorSocketTransport", "SocketTransport"),
    (r"_SelectorDatagramTransport", "DatagramTransport"),
    (r"_Unix(Read|Write)PipeTransport", r"\1PipeTransport"),
    (r"fd=\d+", "fd=N"),
    (r"FileIO name=\d+", "FileIO name=N"),
    (r"0x[0-9a-f]+", "0x"),
    (r"('127\.0\.0\.1'|'::1'), \d{4,}", r"\1, PORT"),
    (r"when=\d+\.\d+", "when=T"),
    (r"(Read|Write) pipe \d+", r"\1 pipe N"),
    (r"connection_made\(<.*>\) Z", "connection_made(…) Z"),
    (r"callback None\(\)", "callback DatagramTransport._sendto_ready()"),  # the handle was gone already
    (r"callback \w+\._call_connection_lost", "callback T._call_connection_lost"),
    (r"(took|in) \d+\.\d+", r"\1 T"),
    (r" created at [^\s>]+", ""),
)


def plain(text):
    for pattern, ours in OURS:
        text = re.sub(pattern, ours, text)
    return text


class Notes(logging.Handler):
    """What happened, as texts."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.texts = []
        self.left = None  # to be closed in the end

    def note(self, *what):
        self.texts.append(plain(" ".join(w if isinstance(w, str) else repr(w) for w in what)))

    def attempt(self, name, f, *args, **kwargs):
        try:
            self.note(name, "gave", f(*args, **kwargs))
        except BaseException as exc:
            self.note(name, "raised", type(exc).__name__, str(exc))

    def handler(self, loop, context):
        self.note("handler:", context["message"], context.get("exception"))

    def emit(self, record):
        if not record.getMessage().startswith(("Using selector", "Close <")):
            self.note("log:", record.levelname, record.getMessage())


def told_by(factory, scenario, debug, collect=False):
    notes = Notes()
    logger = logging.getLogger("asyncio")
    level = logger.level
    logger.addHandler(notes)
    if debug:
        logger.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with asyncio.Runner(loop_factory=factory, debug=debug) as runner:
                runner.get_loop().set_exception_handler(notes.handler)
                runner.run(asyncio.wait_for(scenario(notes), 20))
            if collect:
                gc.collect()
        for warning in caught:
            notes.note("warning:", warning.category.__name__, str(warning.message))
    finally:
        if isinstance(notes.left, int):
            os.close(notes.left)
        elif notes.left is not None:
            notes.left.close()
        logger.removeHandler(notes)
        logger.setLevel(level)
    return notes.texts


def same(scenario=None, *, debug=False, collect=False):
    """The scenario, a coroutine function of Notes and parameters, as a test."""
    if scenario is None:
        return functools.partial(same, debug=debug, collect=collect)

    @functools.wraps(scenario)
    def test(**parameters):
        run = functools.partial(scenario, **parameters)
        expected = told_by(asyncio.SelectorEventLoop, run, debug, collect)
        assert told_by(treadle.new_event_loop, run, debug, collect) == expected
        assert expected, "the scenario notes nothing"

    signature = inspect.signature(scenario)
    del test.__wrapped__
    test.__signature__ = signature.replace(parameters=[*signature.parameters.values()][1:])
    return test


class Told(asyncio.Protocol):
    """A protocol of any kind; notes all it is told. What is in `fails` raises."""

    def __init__(self, notes, *fails):
        self.notes = notes
        self.fails = fails
        self.seen = []
        self.lost = asyncio.get_running_loop().create_future()

    def tell(self, name, *args):
        self.notes.note(name, *args)
        self.seen.append(name)
        if name in self.fails:
            raise ZeroDivisionError(name)

    def connection_made(self, transport):
        self.transport = transport
        self.tell("connection_made")

    def connection_lost(self, exc):
        if not self.lost.done():
            self.lost.set_result(None)
        self.tell("connection_lost", exc)

    def data_received(self, data):
        self.tell("data_received", data)

    def datagram_received(self, data, addr):
        self.tell("datagram_received", data, addr)

    def error_received(self, exc):
        self.tell("error_received", exc)

    def eof_received(self):
        self.tell("eof_received")

    def pause_writing(self):
        self.tell("pause_writing")

    def resume_writing(self):
        self.tell("resume_writing")

    async def until(self, name, times=1):
        while self.seen.count(name) < times:
            await asyncio.sleep(0.001)


METHODS = ("connection_made", "data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing")
BAD_DATA = ("text", None, 5, [1], object)
BIG = b"x" * 400_000


async def socket_pair(notes, *fails):
    """A transport over one end; the other as a socket that does not block."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    ours.setblocking(False)
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(lambda: Told(notes, *fails), sock=ours)
    return transport, protocol, theirs


async def pipe(notes, kind, *fails):
    """A transport over one end of a pipe; the other end's descriptor."""
    r, w = os.pipe()
    loop = asyncio.get_running_loop()
    if kind == "read":
        connect, ours, theirs = loop.connect_read_pipe, os.fdopen(r, "rb", 0), w
    else:
        connect, ours, theirs = loop.connect_write_pipe, os.fdopen(w, "wb", 0), r
    os.set_blocking(theirs, False)
    transport, protocol = await connect(lambda: Told(notes, *fails), ours)
    return transport, protocol, theirs


async def drain(read, enough):
    got = 0
    while got < enough:
        try:
            got += len(read())
        except BlockingIOError:
            await asyncio.sleep(0.001)


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


async def endpoint(notes, *fails, **kwargs):
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(lambda: Told(notes, *fails), **kwargs)


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


async def outcome(notes, name, awaitable):
    try:
        notes.note(name, "gave", await awaitable)
    except Exception as exc:
        notes.note(name, "raised", type(exc).__name__, str(exc), type(exc.__cause__).__name__)


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
