# SPDX-License-Identifier: MIT
"""asyncio's streams on treadle's transports: what is in C does what asyncio's methods
do, and steps back for whoever replaces or overrides one of them."""

import asyncio
import gc
import random
import socket
import weakref

import pytest
import treadle
from conftest import LIMIT


def run(main):
    async def limited():
        asyncio.get_running_loop().set_debug(False)  # in which they would be asyncio's own, whatever the environment says
        async with asyncio.timeout(LIMIT):
            return await main

    return treadle.run(limited())


async def connected(**kwargs):
    """A reader and a writer, and the socket of the other end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours, **kwargs)
    return reader, writer, theirs


async def ended(writer, theirs):
    writer.close()
    await writer.wait_closed()
    theirs.close()


def test_reads_of_all_kinds_see_the_same_bytes():
    """Random pieces, read at random by methods in C and by asyncio's."""

    async def main():
        loop = asyncio.get_running_loop()
        dice = random.Random(5)
        reader, writer, theirs = await connected()
        text = b"".join(dice.randbytes(dice.choice([1, 7, 500, 1024, 3000])).replace(b"\n", b"x") + b"\n"
                        for _ in range(300))

        async def write():
            at = 0
            while at < len(text):
                n = dice.choice([1, 10, 100, 1024, 1500, 5000])
                await loop.sock_sendall(theirs, text[at:at + n])
                at += n
                if dice.random() < 0.5:
                    await asyncio.sleep(0)
            theirs.shutdown(socket.SHUT_WR)

        task = asyncio.create_task(write())
        got = b""
        while len(got) < len(text):
            kind = dice.randrange(4)
            if kind == 0:
                piece = await reader.read(dice.choice([1, 100, 4096, 70000]))
            elif kind == 1:
                piece = await reader.readline()
            elif kind == 2:
                piece = await reader.readexactly(min(dice.choice([1, 20, 2000]), len(text) - len(got)))
            else:
                piece = await reader.readuntil(b"\n")
            assert piece
            got += piece
        assert got == text
        assert await reader.read(1) == b"" and reader.at_eof()
        await task
        await ended(writer, theirs)

    run(main())


def test_the_buffer_is_the_programs_to_look_at():
    """It stays an ordinary bytearray: a view of it forbids what a view forbids."""

    async def main():
        reader, writer, theirs = await connected()
        for _ in range(3):
            theirs.send(b"abc")
            assert await reader.read(10) == b"abc"
            assert len(reader._buffer) == 0 and bytes(reader._buffer) == b""
        theirs.send(b"one two")
        assert await reader.read(4) == b"one "
        assert reader._buffer == b"two"
        with memoryview(reader._buffer), pytest.raises(BufferError):
            await reader.read(3)
        assert await reader.read(3) == b"two"
        reader._buffer += b"ours"
        assert await reader.readexactly(4) == b"ours"
        theirs.send(b"x" * 30000)
        assert await reader.readexactly(30000) == b"x" * 30000
        reader.feed_data(b"fed")
        assert await reader.read(9) == b"fed"
        await ended(writer, theirs)

    run(main())


async def arrived(reader, theirs, data, act):
    """Sends data to a reader for which a task waits, and calls act when the reader has it and the
    task has not gone on yet."""
    loop = asyncio.get_running_loop()
    acted = loop.create_future()

    def look():  # in each turn after the poll, before whom that poll wakes
        if reader._waiter is None:
            acted.set_result(act())
        else:
            loop.call_soon(look)

    theirs.send(data)
    loop.call_soon(look)
    return await acted


def test_the_buffer_has_what_came_for_a_read_that_waits():
    async def main():
        reader, writer, theirs = await connected()
        assert reader._buffer == b""
        for read, data in ((reader.read(10), b"abc"), (reader.readexactly(3), b"def")):
            task = asyncio.create_task(read)
            await asyncio.sleep(0)
            assert await arrived(reader, theirs, data, lambda: bytes(reader._buffer)) == data
            assert await task == data
            assert reader._buffer == b""
        task = asyncio.create_task(reader.read(10))
        await asyncio.sleep(0)
        assert await arrived(reader, theirs, b"ghi", lambda: reader.feed_data(b"jkl")) is None
        assert await task == b"ghijkl"
        task = asyncio.create_task(reader.read(10))
        await asyncio.sleep(0)
        await arrived(reader, theirs, b"mno", lambda: setattr(reader, "_buffer", bytearray(b"instead")))
        assert await task == b"instead"
        await ended(writer, theirs)

    run(main())


def test_a_read_that_is_cancelled_when_its_data_has_come():
    async def main():
        reader, writer, theirs = await connected()
        for read, again in ((reader.read(10), reader.read(10)), (reader.readexactly(4), reader.readexactly(4))):
            task = asyncio.create_task(read)
            await asyncio.sleep(0)
            await arrived(reader, theirs, b"kept", task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await again == b"kept"
        task = asyncio.create_task(reader.read(10))
        await asyncio.sleep(0)
        await arrived(reader, theirs, b"a line\n", task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await reader.readline() == b"a line\n"
        await ended(writer, theirs)

    run(main())


def test_the_fields_are_asyncios():
    async def main():
        reader, writer, theirs = await connected()
        stock = asyncio.StreamReader(loop=asyncio.get_running_loop())
        for name in vars(stock):
            assert hasattr(reader, name), name
        assert reader._limit == stock._limit and reader._loop is stock._loop
        assert reader._transport is writer.transport
        assert reader.exception() is None and not reader.at_eof()
        reader.of_the_program = 1
        assert "of_the_program" in vars(reader)
        reader._limit = 7
        assert "limit=7" in repr(reader)
        del reader._limit
        with pytest.raises(AttributeError, match="'StreamReader' object has no attribute '_limit'"):
            reader._limit
        with pytest.raises(AttributeError):
            del reader._limit
        reader._limit = stock._limit
        theirs.send(b"left")
        theirs.shutdown(socket.SHUT_WR)
        while not reader._eof:
            await asyncio.sleep(0)
        assert "4 bytes" in repr(reader) and "eof" in repr(reader)
        assert await reader.read(9) == b"left" and reader.at_eof()
        await ended(writer, theirs)

    run(main())


def test_a_reader_that_waits_and_one_that_is_no_ones_are_collected():
    """Its fields are seen by the collector: a reader is in cycles with its transport and tasks."""

    async def main():
        reader, writer, theirs = await connected()
        reader.itself = reader
        reader._exception = holder = ValueError()
        holder.reader = reader
        gone = weakref.ref(reader)
        await ended(writer, theirs)
        return gone

    gone = run(main())
    gc.collect()
    assert gone() is None


async def random_reads(seed):
    """What reads of all kinds come to, on whichever loop, with a small limit: results and errors."""
    dice = random.Random(seed)
    reader, writer, theirs = await connected(limit=20)
    text = b"".join(dice.choice([b"a", b"bc", b"\r", b"\n", b"\r\n", b"x" * 9, b"--", b"-"]) for _ in range(dice.randrange(1, 60)))
    pieces = []
    while text:
        n = dice.randrange(1, 15)  # never so much that reading is paused
        pieces.append(text[:n])
        text = text[n:]
    outcomes = []

    async def one():
        kind = dice.randrange(7)
        try:
            if kind == 0:
                got = await reader.read(dice.choice([0, 1, 5, 100]))
            elif kind == 1:
                got = await reader.readexactly(dice.choice([0, 1, 3, 8, 15]))
            elif kind == 2:
                got = await reader.readuntil(dice.choice([b"\r\n", b"--", b"\n", b"xxxxxxxxx", b"-\n-"]))
            elif kind == 3:
                got = await reader.readuntil()
            elif kind == 4:
                got = await reader.readuntil(separator=bytearray(b"\n"))
            else:
                got = await reader.readline()
            outcomes.append((kind, bytes(got)))
        except asyncio.LimitOverrunError as e:
            outcomes.append((kind, str(e), e.consumed))
            await reader.readexactly(e.consumed or 1)
        except asyncio.IncompleteReadError as e:
            outcomes.append((kind, str(e), e.partial, e.expected))
        except ValueError as e:
            outcomes.append((kind, str(e)))

    while pieces:
        task = asyncio.create_task(one())
        await asyncio.sleep(0)
        while pieces and not task.done():
            there = len(reader._buffer) + len(pieces[0])
            theirs.send(pieces.pop(0))
            while not task.done() and len(reader._buffer) < there:
                await asyncio.sleep(0)
            for _ in range(3):  # whoever waits has seen it
                await asyncio.sleep(0)
        if not pieces:
            theirs.shutdown(socket.SHUT_WR)
        await task
    for _ in range(20):
        await one()
    outcomes.append(bytes(reader._buffer))
    await ended(writer, theirs)
    return outcomes


@pytest.mark.parametrize("seeds", [range(i, i + 50) for i in range(0, 200, 50)], ids=lambda seeds: f"from-{seeds[0]}")
def test_random_reads_come_to_what_they_do_on_asyncios_loop(seeds):
    for seed in seeds:
        assert run(random_reads(seed)) == asyncio.run(random_reads(seed)), f"seed {seed}"


def test_what_asyncio_says_of_a_line_is_said_by_asyncio():
    """Errors, and a wait that goes on in asyncio's own coroutine."""

    async def main():
        reader, writer, theirs = await connected(limit=8)
        for call in (reader.readline, lambda: reader.readuntil(b"\n")):
            first, second = asyncio.create_task(call()), asyncio.create_task(call())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match=r"readuntil\(\) called while another coroutine is already waiting"):
                await second
            theirs.send(b"line\n")
            assert await first == b"line\n"
        with pytest.raises(ValueError, match="at least one-byte string"):
            await reader.readuntil(b"")
        read = reader.readline()
        assert "StreamReader.readline()" in repr(read)
        read.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await read
        task = asyncio.create_task(reader.readline())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        theirs.send(b"and a long one\n")
        with pytest.raises(ValueError, match="chunk is longer than limit"):
            await reader.readline()
        theirs.send(b"last")
        theirs.shutdown(socket.SHUT_WR)
        assert await reader.readline() == b"last"
        assert await reader.readline() == b""
        await ended(writer, theirs)

    run(main())


def test_readline_uses_the_readuntil_of_the_program():
    async def main():
        reader, writer, theirs = await connected()

        async def until(separator):
            return b"mine" + separator

        reader.readuntil = until
        assert await reader.readline() == b"mine\n"
        del reader.readuntil
        theirs.send(b"theirs\n")
        assert await reader.readline() == b"theirs\n"
        await ended(writer, theirs)

    run(main())


def test_what_was_read_belongs_to_the_reader():
    """The bytes of an earlier read do not change with a later one."""

    async def main():
        reader, writer, theirs = await connected()
        kept = []
        for i in range(20):
            theirs.send(bytes([i]) * 1024)
            kept.append(await reader.readexactly(1024))
        assert kept == [bytes([i]) * 1024 for i in range(20)]
        await ended(writer, theirs)

    run(main())


def test_a_read_that_is_cancelled_after_the_data_came():
    async def main():
        reader, writer, theirs = await connected()
        task = asyncio.create_task(reader.read(10))
        await asyncio.sleep(0)
        reader.feed_data(b"kept")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await reader.read(10) == b"kept"
        await ended(writer, theirs)

    run(main())


def test_methods_that_are_replaced_on_the_classes(monkeypatch):
    """Before and while a connection is there."""
    calls = []

    def counted(name):
        original = getattr(asyncio.StreamWriter if name in ("write", "drain") else asyncio.StreamReader, name)

        def method(self, *args):
            calls.append(name)
            return original(self, *args)

        return method

    async def main():
        reader, writer, theirs = await connected()
        theirs.send(b"a")
        assert await reader.read(1) == b"a"
        assert calls == []
        with monkeypatch.context() as patch:
            for name in ("read", "readexactly", "feed_data"):
                patch.setattr(asyncio.StreamReader, name, counted(name))
            for name in ("write", "drain"):
                patch.setattr(asyncio.StreamWriter, name, counted(name))
            theirs.send(b"bcd")
            assert await reader.read(1) == b"b"
            assert await reader.readexactly(2) == b"cd"
            writer.write(b"e")
            await writer.drain()
            assert sorted(calls) == ["drain", "feed_data", "read", "readexactly", "write"]
        calls.clear()
        theirs.send(b"f")
        assert await reader.read(1) == b"f"
        writer.write(b"g")
        await writer.drain()
        assert calls == []
        assert theirs.recv(10) == b"eg"
        await ended(writer, theirs)

    run(main())


def test_data_received_that_is_replaced(monkeypatch):
    seen = []
    original = asyncio.StreamReaderProtocol.data_received

    def received(self, data):
        seen.append(data)
        original(self, data)

    async def main():
        reader, writer, theirs = await connected()
        monkeypatch.setattr(asyncio.StreamReaderProtocol, "data_received", received)
        theirs.send(b"one")
        assert await reader.read(9) == b"one"
        await ended(writer, theirs)
        reader, writer, theirs = await connected()
        theirs.send(b"two")
        assert await reader.read(9) == b"two"
        await ended(writer, theirs)

    run(main())
    assert seen == [b"one", b"two"]


def test_methods_of_one_reader_alone():
    async def main():
        reader, writer, theirs = await connected()
        seen = []
        reader.note = "of the program's"
        feed = reader.feed_data
        reader.feed_data = lambda data: [seen.append(data), feed(data)][1]
        theirs.send(b"one")
        assert await reader.read(9) == b"one"
        del reader.feed_data
        theirs.send(b"two")
        assert await reader.read(9) == b"two"
        assert seen == [b"one"]
        await ended(writer, theirs)

    run(main())


class UpperReader(asyncio.StreamReader):
    def feed_data(self, data):
        super().feed_data(data.upper())

    async def read(self, n=-1):
        return b"<" + await super().read(n) + b">"


class NotedProtocol(asyncio.StreamReaderProtocol):
    noted = b""

    def data_received(self, data):
        self.noted += data
        super().data_received(data)


@pytest.mark.parametrize("protocol_class", [asyncio.StreamReaderProtocol, NotedProtocol])
def test_subclasses(protocol_class):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        reader = UpperReader(loop=loop)
        protocol = protocol_class(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        theirs.send(b"abc")
        assert await reader.read(9) == b"<ABC>"
        assert type(reader) is UpperReader
        if protocol_class is NotedProtocol:
            assert protocol.noted == b"abc"
        await ended(writer, theirs)

    run(main())


class CountingLoop(treadle.Loop):
    made = 0

    def create_future(self):
        self.made += 1
        return super().create_future()


def test_create_future_of_a_subclass_is_called():
    async def main():
        loop = asyncio.get_running_loop()
        reader, writer, theirs = await connected()
        before = loop.made
        task = asyncio.create_task(reader.read(1))
        await asyncio.sleep(0)
        assert loop.made == before + 1
        theirs.send(b"x")
        assert await task == b"x"
        await ended(writer, theirs)

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        runner.run(main())
