# SPDX-License-Identifier: MIT
"""asyncio's transports on treadle's loop, where they are treadle's own: what a
connection promises beyond what CPython's own tests ask (see conformance)."""

import asyncio
import contextvars
import gc
import logging
import os
import socket
import threading
import warnings
import weakref

import pytest
import treadle
from transports import BIG, Recorder, connected, run, tcp_pair


def test_is_asyncios():
    async def main():
        transport, protocol, peer = await connected()
        assert isinstance(transport, asyncio.Transport)
        assert transport.get_protocol() is protocol
        assert transport.get_extra_info("socket").fileno() == transport._sock_fd
        assert transport.get_extra_info("nothing", 5) == 5
        assert transport.get_extra_info("nothing", default=6) == 6
        assert transport.get_extra_info("nothing") is None
        assert "read=polling write=<idle, bufsize=0>" in repr(transport)
        transport.close()
        assert "closing" in repr(transport) and transport.is_closing()
        assert protocol.events == [("made",)]  # never synchronously
        assert await protocol.lost is None
        assert "closed" in repr(transport)
        peer.close()

    run(main())


def test_what_is_written_arrives_in_order():
    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol, peer = await connected()
        changed = bytearray(b"m" * 300_000)
        expected = b"one" + BIG + bytes(changed) + b"ab" + BIG + b"c" + b"end"
        transport.write(b"one")
        transport.write(BIG)
        transport.write(changed)
        transport.writelines([b"a", b"", memoryview(b"b"), BIG, bytearray(b"c")])
        transport.write(memoryview(b"end"))
        changed[:] = b"x" * len(changed)  # what waits was copied
        assert transport.get_write_buffer_size() > 0
        assert ("pause",) in protocol.events
        transport.write_eof()
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            transport.write(b"more")
        with pytest.raises(RuntimeError, match=r"Cannot call writelines\(\) after write_eof\(\)"):
            transport.writelines([b"more"])

        def read_all():
            with peer.makefile("rb") as file:
                return file.read()

        assert await loop.run_in_executor(None, read_all) == expected
        await protocol.until(lambda: ("resume",) in protocol.events)
        assert protocol.events.count(("pause",)) == protocol.events.count(("resume",)) == 1
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.lost
        peer.close()

    run(main())


def test_writelines_is_one_system_call():
    async def main():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        transport = treadle._transports.SocketTransport(
            asyncio.get_running_loop(), ours, Recorder()
        )
        transport.writelines([b"a" * 10, b"b" * 20, b"c"])
        assert theirs.recv(100) == b"a" * 10 + b"b" * 20 + b"c"
        transport.abort()
        await transport.get_protocol().lost
        theirs.close()

    run(main())


@pytest.mark.parametrize("bad", ["text", 5, None, [b"x"]])
def test_bad_data(bad):
    async def main():
        transport, protocol, peer = await connected()
        name = type(bad).__name__
        with pytest.raises(
            TypeError, match=f"data argument must be a bytes(-like|, bytearray, or memoryview) object, not '{name}'"
        ):
            transport.write(bad)
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
            transport.set_write_buffer_limits(1, 2)
        transport.close()
        await protocol.lost
        peer.close()

    run(main())


def test_limits():
    async def main():
        transport, protocol, peer = await connected()
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(low=100)
        assert transport.get_write_buffer_limits() == (100, 400)
        transport.set_write_buffer_limits(high=0)
        assert transport.get_write_buffer_limits() == (0, 0)
        transport.write(BIG)
        assert protocol.events[-1] == ("pause",)
        transport.abort()
        await protocol.lost
        peer.close()

    run(main())


def test_reading_pauses_and_goes_on():
    async def main():
        transport, protocol, peer = await connected()
        await asyncio.sleep(0)
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        peer.sendall(b"while paused")
        for _ in range(5):
            await asyncio.sleep(0)
        assert protocol.data == b""
        transport.resume_reading()
        transport.resume_reading()
        assert protocol.data == b""  # not synchronously
        await protocol.until(lambda: protocol.data == b"while paused")
        peer.sendall(b", after")
        await protocol.until(lambda: protocol.data == b"while paused, after")
        transport.close()
        await protocol.lost
        peer.close()

    run(main())


def test_one_read_each_turn():
    """A busy peer does not keep the others from their turn."""

    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        a.settimeout(20)
        b.setblocking(False)
        turns = []

        class Reader(Recorder):
            def data_received(self, data):
                assert len(data) <= 256 * 1024
                turns.append(loop._turn)
                super().data_received(data)

        transport, protocol = await loop.create_connection(Reader, sock=b)
        sender = threading.Thread(target=a.sendall, args=(BIG,))
        sender.start()
        await protocol.until(lambda: len(protocol.data) == len(BIG))
        sender.join()
        assert bytes(protocol.data) == BIG
        assert len(turns) == len(set(turns))
        transport.close()
        await protocol.lost
        a.close()

    run(main())


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_data_and_end_at_once(family):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = tcp_pair() if family == socket.AF_INET else socket.socketpair()
        theirs.sendall(b"last words")
        theirs.close()
        ours.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        await protocol.until(lambda: ("eof",) in protocol.events)
        assert protocol.events == [("made",), ("data",), ("eof",)]
        assert not transport.is_closing()  # eof_received has said so
        transport.close()
        await protocol.lost

    run(main())


def test_the_sender_of_descriptors_is_read_to_the_end():
    """A read that a descriptor cut short says nothing about what is left."""

    async def main():
        transport, protocol, peer = await connected()
        await asyncio.sleep(0)
        transport.pause_reading()
        with open(os.devnull) as file:
            socket.send_fds(peer, [b"one"], [file.fileno()])
        peer.sendall(b"two")
        transport.resume_reading()
        await protocol.until(lambda: protocol.data == b"onetwo")
        transport.close()
        await protocol.lost
        peer.close()

    run(main())


def test_a_peer_that_resets():
    async def main():
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        b.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=b)
        a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        a.close()
        assert isinstance(await protocol.lost, ConnectionResetError)
        assert protocol.events[-1][0] == "lost"
        assert transport.is_closing()

    run(main())


def test_writing_to_nobody(caplog):
    async def main():
        transport, protocol, peer = await connected()
        peer.close()
        transport.write(b"x")
        assert isinstance(await protocol.lost, OSError) or transport.is_closing()
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(8):
                transport.write(b"x")
        assert "socket.send() raised exception." in caplog.text

    run(main())


def test_abort_forgets_what_waits():
    async def main():
        transport, protocol, peer = await connected()
        transport.write(BIG)
        transport.abort()
        transport.abort()
        transport.close()
        assert await protocol.lost is None
        assert [e[0] for e in protocol.events].count("lost") == 1
        received = b""
        while chunk := peer.recv(1 << 20):
            received += chunk
        assert len(received) < len(BIG)
        peer.close()

    run(main())


def test_close_sends_what_waits():
    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol, peer = await connected()
        transport.write(BIG)
        transport.close()
        await asyncio.sleep(0)
        assert not protocol.lost.done()

        def read_all():
            with peer.makefile("rb") as file:
                return file.read()

        assert await loop.run_in_executor(None, read_all) == BIG
        assert await protocol.lost is None
        peer.close()

    run(main())


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
def test_a_protocol_that_raises(method):
    async def main():
        loop = asyncio.get_running_loop()
        told = []
        loop.set_exception_handler(lambda loop, context: told.append(context))

        class Bad(Recorder):
            pass

        def fail(self, *args):
            raise ZeroDivisionError(method)

        setattr(Bad, method, fail)
        transport, protocol, peer = await connected(Bad)
        peer.sendall(b"x")
        peer.close()
        assert isinstance(await protocol.lost, ZeroDivisionError)
        assert told[0]["message"] == f"Fatal error: protocol.{method}() call failed."
        assert told[0]["transport"] is transport
        assert told[0]["protocol"] is protocol

    run(main())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_leaves_the_loop(error):
    class Bad(Recorder):
        def data_received(self, data):
            raise error

    async def main():
        transport, protocol, peer = await connected(Bad)
        peer.sendall(b"x")
        try:
            await asyncio.sleep(20)
        finally:
            peer.close()
            transport.abort()
            await asyncio.sleep(0)

    with pytest.raises(error):
        run(main())


def test_buffered_protocol():
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self):
            self.buffer = bytearray(1000)
            self.data = b""
            self.over = asyncio.get_running_loop().create_future()

        def get_buffer(self, hint):
            return memoryview(self.buffer)

        def buffer_updated(self, n):
            self.data += self.buffer[:n]

        def eof_received(self):
            self.over.set_result(None)

    async def main():
        transport, protocol, peer = await connected(Buffered)
        peer.sendall(BIG[:100_000])
        peer.close()
        await protocol.over
        assert protocol.data == BIG[:100_000]

    run(main())


@pytest.mark.parametrize(
    ("buffer", "message"),
    [(bytearray(), "get_buffer() call failed"), (b"fixed", "Fatal read error on socket transport")],
)
def test_a_buffer_that_will_not_do(buffer, message):
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self):
            self.lost = asyncio.get_running_loop().create_future()

        def get_buffer(self, hint):
            return buffer

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        told = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(context["message"]))
        transport, protocol, peer = await connected(Buffered)
        peer.sendall(b"x")
        assert await protocol.lost is not None
        assert message in told[0]
        peer.close()

    run(main())


def test_another_protocol():
    async def main():
        transport, first, peer = await connected()
        second = Recorder()
        peer.sendall(b"a")
        await first.until(lambda: first.data == b"a")
        transport.set_protocol(second)
        peer.sendall(b"b")
        await second.until(lambda: second.data == b"b")
        assert first.data == b"a"
        transport.close()
        await second.lost
        assert not first.lost.done()
        peer.close()

    run(main())


def test_context():
    """Callbacks run in the context in which the connection was made."""
    var = contextvars.ContextVar("var", default="none")
    seen = []

    class P(Recorder):
        def connection_made(self, transport):
            seen.append(var.get())
            super().connection_made(transport)

        def data_received(self, data):
            seen.append(var.get())
            super().data_received(data)

        def connection_lost(self, exc):
            seen.append(var.get())
            super().connection_lost(exc)

    async def main():
        var.set("maker")
        transport, protocol, peer = await connected(P)
        var.set("later")
        peer.sendall(b"x")
        await protocol.until(lambda: protocol.data)
        transport.close()
        await protocol.lost
        peer.close()
        assert seen == ["maker"] * 3

    run(main())


def test_bytes_that_are_kept_do_not_change():
    """What was handed over belongs to the protocol, however many reads follow."""

    async def main():
        transport, protocol, peer = await connected()
        kept = []
        plain = Recorder.data_received

        def keep(data):
            kept.append(data) if len(kept) % 2 == 0 else kept.append(bytes(bytearray(data)))
            hash(data)
            plain(protocol, data)

        protocol.data_received = keep
        transport.set_protocol(protocol)
        sent = []
        for i in range(40):
            sent.append(bytes([65 + i]) * (200 + i * 7))
            peer.sendall(sent[-1])
            await protocol.until(lambda: bytes(protocol.data) == b"".join(sent))
        assert kept == sent
        assert [hash(k) for k in kept] == [hash(s) for s in sent]
        transport.close()
        await protocol.lost
        peer.close()

    run(main())


def test_streams():
    async def main():
        async def serve(reader, writer):
            try:
                while line := await reader.readline():
                    writer.write(line.upper())
                    await writer.drain()
                writer.write(b"bye")
            finally:
                writer.close()
                await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.writelines([b"one\ntw", b"o\nthree"])
        assert await reader.readexactly(4) == b"ONE\n"
        assert await reader.readuntil(b"\n") == b"TWO\n"
        read = asyncio.create_task(reader.read(100))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="while another coroutine is already waiting"):
            await reader.read(1)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        writer.write_eof()
        assert await reader.readline() == b"THREEbye"
        assert reader.at_eof()
        assert await reader.read(10) == b""
        assert await reader.read() == b""
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readexactly(1)
        with pytest.raises(ValueError, match="readexactly size can not be less than zero"):
            await reader.readexactly(-1)
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())


def test_streams_hold_back_a_fast_peer():
    """More than twice the limit is not read ahead."""

    async def main():
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours, limit=1000)
        sent = 0
        try:
            while True:
                sent += theirs.send(BIG[:4096])
                await asyncio.sleep(0)
        except BlockingIOError:
            pass
        assert len(reader._buffer) < sent
        assert not writer.transport.is_reading()
        theirs.shutdown(socket.SHUT_WR)
        data = await reader.read()
        assert len(data) == sent
        assert data == (BIG[:4096] * (sent // 4096 + 1))[:sent]
        writer.close()
        await writer.wait_closed()
        theirs.close()

    run(main())


def test_a_stream_that_is_dropped():
    """A reader that nobody has any more does not disturb the connection."""

    async def main():
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        transport = writer.transport
        gone = weakref.ref(reader)
        protocol = transport.get_protocol()
        writer._reader = None
        del reader
        gc.collect()
        assert gone() is None
        theirs.sendall(b"for nobody")
        await asyncio.sleep(0.01)
        assert not transport.is_closing()
        assert protocol is transport.get_protocol()
        writer.close()
        await writer.wait_closed()
        theirs.close()

    run(main())


def test_an_unclosed_transport_is_told_of():
    async def main():
        _, _, peer = await connected()
        return peer

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        peer = run(main())
        gc.collect()
    assert any("unclosed transport" in str(w.message) for w in told)
    peer.close()


def test_the_loop_keeps_transports():
    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol, peer = await connected()
        await asyncio.sleep(0)
        kept = weakref.ref(transport)
        seen = protocol.events
        del transport, protocol
        gc.collect()
        assert kept() is not None
        peer.close()
        while len(seen) < 2:
            await asyncio.sleep(0.001)
        kept().close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        assert kept() is None
        assert not loop._live

    run(main())


def test_debug_mode(caplog):
    class Slow(Recorder):
        def data_received(self, data):
            import time

            time.sleep(0.02)
            super().data_received(data)

    async def main():
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 0.01
        transport, protocol, peer = await connected(Slow)
        transport.pause_reading()
        transport.resume_reading()
        peer.sendall(b"x")
        await protocol.until(lambda: protocol.data)
        peer.close()
        await protocol.until(lambda: ("eof",) in protocol.events)
        transport.close()
        await protocol.lost

    with caplog.at_level(logging.DEBUG, "asyncio"):
        run(main(), debug=True)
    for text in ("pauses reading", "resumes reading", "received EOF", "Executing <SocketTransport"):
        assert text in caplog.text
