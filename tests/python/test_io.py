# SPDX-License-Identifier: MIT
"""Readers and writers: copies, what puts them together, buffered ones, scanners, the pipe."""

import asyncio
import errno
import hashlib
import os
import socket
import tempfile

import pytest
import treadle
from treadle import io


async def pair(network="tcp"):
    if network == "pipe":
        return treadle.pipe(1 << 16)
    if network == "unix":
        a, b = socket.socketpair()
        return treadle.adopt(a.detach()), treadle.adopt(b.detach())
    async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
        near = await treadle.dial("tcp", listener.address)
        return near, await listener.accept()


class Pieces:
    """A reader of a text in pieces of n bytes; errors: by position, once each."""

    def __init__(self, text, n, errors=()):
        self.text, self.n, self.errors, self.at = text, n, dict(errors), 0

    async def read(self, n):
        if self.at in self.errors:
            raise self.errors.pop(self.at)
        stop = min([self.at + min(n, self.n), *(e for e in self.errors if e > self.at)])
        data = self.text[self.at : stop]
        self.at += len(data)
        return data


class Sink:
    """A writer with so much room, and then an error."""

    def __init__(self, room=1 << 30, error=None):
        self.room, self.error, self.got, self.calls = room, error, b"", 0

    async def write(self, data):
        self.calls += 1
        took = data[: self.room - len(self.got)]
        self.got += took
        if len(took) < len(data):
            raise self.error


async def temporary(data):
    file = await treadle.fs.open_temp(os.path.join(tempfile.gettempdir(), "treadle-io-XXXXXX"))
    os.unlink(file.name)
    await file.write(data)
    file.seek(0)
    return file


def test_copy(drive):
    async def main():
        to = Sink()
        assert await treadle.copy(to, Pieces(b"0123456789", 3)) == 10
        assert to.got == b"0123456789"
        with pytest.raises(OSError) as e:
            await treadle.copy(Sink(5, OSError(errno.ENOSPC, "full")), Pieces(b"0123456789", 3))
        assert e.value.errno == errno.ENOSPC and e.value.copied == 3  # what is certain
        source = Pieces(b"0123456789", 3, {4: TimeoutError()})
        to = Sink()
        with pytest.raises(TimeoutError) as e:
            await io.copy(to, source)
        assert e.value.copied == 4
        assert await io.copy(to, source, 2) == 2
        assert await io.copy(to, source, 0) == 0
        assert await io.copy(to, source) == 4
        assert to.got == b"0123456789"
        assert await io.copy(io.discard, io.BytesReader(b"discarded")) == 9
        with pytest.raises(ValueError, match="negative"):
            await io.copy(to, source, -1)

    drive(main)


@pytest.mark.parametrize("source", ["tcp", "unix", "pipe", "file", "bytes", "limit", "buffered"])
def test_copy_ends(drive, source):
    """D30 D31: connections, files, bytes, in every combination; the same bytes arrive."""
    data = bytes(range(256)) * 800

    async def main():
        for target in ["tcp", "unix", "pipe", "file", "collector", "buffered"]:
            near = far = None
            if source == "file":
                reader = await temporary(data)
            elif source in ("bytes", "limit"):
                reader = io.BytesReader(data if source == "bytes" else data + b"more")
                if source == "limit":
                    reader = io.LimitReader(reader, len(data))
            else:
                near, reader = await pair("tcp" if source == "buffered" else source)
                conn = reader
                if source == "buffered":
                    reader = io.BufferedReader(reader)

                async def feed(near=near):
                    await near.write(data)
                    near.shutdown_write()

                feeder = treadle.go(feed())
            if target == "file":
                writer = await temporary(b"")
            elif target == "collector":
                writer = io.Collector()
            else:
                end, far = await pair("tcp" if target == "buffered" else target)
                writer = io.BufferedWriter(end, 100) if target == "buffered" else end
                drain = treadle.go(io.read_full(far, len(data)))
            assert await treadle.copy(writer, reader) == len(data)
            if target == "file":
                writer.seek(0)
                got = await io.read_all(writer)
                writer.close()
            elif target == "collector":
                got = bytes(writer)
            else:
                if target == "buffered":
                    await writer.close()
                got = await drain
                end.close()
                far.close()
            assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
            if near:
                await feeder
                near.close()
                conn.close()
            if source == "file":
                reader.close()

    drive(main)


def test_copy_conns(drive):
    """D30: the end of the source is none for the target; what was closed, or is late, is an error with the count."""

    async def main():
        (a, b), (c, d) = await pair(), await pair("unix")
        await a.write(b"0123456789")
        assert await treadle.copy(c, b, 4) == 4
        a.shutdown_write()
        assert await treadle.copy(c, b) == 6
        assert await treadle.copy(c, b) == 0
        await c.write(b"!")
        assert await d.readexactly(11) == b"0123456789!"
        await d.write(b"x" * 10)
        c.set_read_deadline(treadle.now() + 0.01)
        with pytest.raises(TimeoutError) as e:
            await treadle.copy(b, c)
        assert e.value.copied == 10
        assert await a.readexactly(10) == b"x" * 10
        task = treadle.go(treadle.copy(b, d))
        await treadle.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        b.close()
        with pytest.raises(treadle.Closed):
            await treadle.copy(b, d)
        with pytest.raises(TypeError):
            await d._copy(3, -1)
        for conn in (a, c, d):
            conn.close()

    drive(main)


def test_send_file(drive):
    """D31: whole, in parts, from an offset, from where it stands; a past deadline: nothing goes out."""
    data = os.urandom(300_000)

    async def main():
        near, far = await pair()
        file = await temporary(data)
        for args, want in [
            ((0,), data),
            ((100_000, 70_000), data[100_000:170_000]),
            ((None, 1000), data[:1000]),
            ((None, 1000), data[1000:2000]),
            ((len(data),), b""),
        ]:
            drain = treadle.go(io.read_full(far, len(want)))
            assert await near.send_file(file, *args) == len(want)
            assert await drain == want
        assert file.tell() == 2000
        near.set_write_deadline(treadle.now() - 1)
        with pytest.raises(TimeoutError) as e:
            await near.send_file(file.fileno(), offset=0)
        assert e.value.copied == 0
        near.shutdown_write()
        assert await far.read(1) == b""
        with pytest.raises(ValueError):
            near.send_file(file, -1)
        with pytest.raises(ValueError):
            await treadle.copy(file, file)
        file.close()
        near.close()
        with pytest.raises(treadle.Closed):
            await near.send_file(0)
        far.close()

    drive(main)


def test_read_until(drive):
    async def main():
        near, far = await pair()
        await near.write(b"head\r\n\r")
        await treadle.yield_()
        await near.write(b"\nbody;")
        assert await far.read_until(b"\r\n\r\n") == b"head\r\n\r\n"
        assert await far.read_until(bytearray(b";"), limit=5) == b"body;"
        await near.write(b"12345678")
        with pytest.raises(treadle.TooLong, match=rf"read_until {far.peername}: no separator within 8 bytes"):
            await far.read_until(b"xy", 8)
        assert await far.readexactly(8) == b"12345678"  # still there
        far.set_read_deadline(treadle.now() + 0.005)
        await near.write(b"ha")
        with pytest.raises(TimeoutError):
            await far.read_until(b"xy")
        far.set_read_deadline(None)
        task = treadle.go(wait(far))
        await treadle.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await near.write(b"lf")
        near.close()
        with pytest.raises(asyncio.IncompleteReadError) as e:
            await far.read_until(b"xy")
        assert e.value.partial == b"half" and e.value.expected is None
        with pytest.raises(ValueError, match="1 to 255"):
            far.read_until(b"")
        with pytest.raises(ValueError, match="limit"):
            far.read_until(b"xy", 1)
        far.close()
        with pytest.raises(treadle.Closed):
            await far.read_until(b"xy")
        with pytest.raises(treadle.TooLong):
            near, far = await pair()
            async with near, far:
                await near.write(b"too long a line\n")
                await far.readline(limit=5)

    async def wait(conn):
        await conn.read_until(b"xy")

    drive(main)


def test_put_together(drive):
    async def main():
        source = Pieces(b"0123456789", 4)
        limit = io.LimitReader(source, 6)
        assert await io.read_all(limit) == b"012345"
        assert limit.left == 0 and await limit.read(1) == b""
        assert await source.read(9) == b"6789"
        log, out = Sink(8, OSError(errno.ENOSPC, "full")), Sink()
        tee = io.TeeReader(Pieces(b"to both of them", 5), log)
        with pytest.raises(OSError) as e:
            await io.copy(out, tee)
        assert e.value.copied == 10
        assert (log.got, out.got) == (b"to both ", b"to both of")
        several = io.MultiReader(Pieces(b"one", 1), io.BytesReader(b"+"), Pieces(b"two", 5, {1: TimeoutError()}))
        a, b = Sink(), Sink()
        assert await io.copy(a, several, 2) == 2
        with pytest.raises(TimeoutError) as e:
            await io.copy(b, several)
        assert e.value.copied == 3
        assert await io.copy(b, several) == 2
        assert (a.got, b.got) == (b"on", b"e+two")
        a, b = Sink(4, BrokenPipeError()), Sink()
        both = io.MultiWriter(a, b)
        await both.write(b"abc")
        with pytest.raises(BrokenPipeError):
            await both.write(b"def")
        assert (a.got, b.got) == (b"abcd", b"abc")
        with pytest.raises(ValueError):
            io.LimitReader(source, -1)

    drive(main)


def test_exactly(drive):
    async def main():
        assert await io.read_full(Pieces(b"0123456789", 3), 4) == b"0123"
        with pytest.raises(asyncio.IncompleteReadError) as e:
            await io.read_full(Pieces(b"012", 2), 4)
        assert e.value.partial == b"012"
        assert await io.read_all(Pieces(b"012", 2), 3) == b"012"
        with pytest.raises(treadle.TooLong) as e:
            await io.read_all(Pieces(b"012345", 2), 3)
        assert e.value.beginning == b"0123"
        reader = asyncio.StreamReader()
        reader.feed_data(b"from asyncio")
        reader.feed_eof()
        assert await io.read_all(reader) == b"from asyncio"

    drive(main)


def test_buffered_writer(drive):
    async def main():
        to = Sink()
        async with io.BufferedWriter(to, 10) as w:
            await w.write(b"abc")
            await w.write(b"def")
            assert (to.calls, w.buffered) == (0, 6)
            await w.write(b"ghijkl")
            assert (to.calls, w.buffered) == (1, 0)
            await w.write(b"end")
        assert to.got == b"abcdefghijklend"
        to = Sink(4, BrokenPipeError(errno.EPIPE, "gone"))
        w = io.BufferedWriter(to, 8)
        await w.write(b"abcdef")
        for act in (w.flush, lambda: w.write(b"x"), w.close):  # the first error stays
            with pytest.raises(BrokenPipeError):
                await act()
        assert to.calls == 1
        a, b = io.pipe()
        w = io.BufferedWriter(b, 4)

        async def fills():
            await w.write(b"waits for ever")

        task = treadle.go(fills())
        await treadle.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(BrokenPipeError, match="cancelled"):
            await w.write(b"x")
        a.close()
        b.close()
        with pytest.raises(ValueError):
            io.BufferedWriter(to, 0)

    drive(main)


def test_buffered_reader(drive):
    async def main():
        for n in range(1, 8):
            r = io.BufferedReader(Pieces(b"head\r\n\r\nline\r\nanother\nten bytes.rest", n))
            assert await r.peek(2) == b"he"
            assert await r.read_until(b"\r\n\r\n") == b"head\r\n\r\n"
            assert await r.readline() == b"line\r\n"
            assert [line async for line in io.BufferedReader(io.LimitReader(r, 8)).lines()] == [b"another"]
            assert await r.readexactly(10) == b"ten bytes."
            assert await r.readline() == b"rest"
            assert await r.readline() == await r.read(5) == await r.peek(3) == b""
            r = io.BufferedReader(Pieces(b"much too long\nnext\nmore", n))
            with pytest.raises(treadle.TooLong):
                await r.readline(5)
            assert await r.readline(14) == b"much too long\n"
            to = Sink()
            assert await io.copy(to, r) == 9
            assert to.got == b"next\nmore"
            r = io.BufferedReader(Pieces(b"one\ntwo", n, {5: TimeoutError()}))
            assert await r.readline() == b"one\n"
            with pytest.raises(TimeoutError):
                await r.readline()
            with pytest.raises(asyncio.IncompleteReadError) as e:
                await r.read_until(b"x")
            assert e.value.partial == b"two"

    drive(main)


async def every(scanner):
    """All pieces; the beginning and "!" of one that is too long."""
    out = []
    while True:
        try:
            async for piece in scanner:
                out.append(piece)
            return out
        except treadle.TooLong as error:
            out.append(error.beginning + b"!")


def test_scanner(drive):
    async def main():
        for n in range(1, 10):
            assert await every(io.Scanner(Pieces(b"one\ntwo\r\n\n\r\nlast\r", n))) == [b"one", b"two", b"", b"", b"last\r"]
            assert await every(io.Scanner(Pieces(b"a--b---c----", n), separator=b"--")) == [b"a", b"b", b"-c", b""]
            text = b"short\nmuch longer than it may be\nseven..\neight...\nlast too long"
            assert await every(io.Scanner(Pieces(text, n), 8)) == [b"short", b"much lon!", b"seven..", b"eight...!", b"last too!"]
            assert await every(io.Scanner(Pieces(b"abcdefgh==ij==k", n), 6, separator=b"==")) == [b"abcdef!", b"ij", b"k"]
        for separator, limit in [(b"", 5), (b"abc", 2), (None, 0)]:
            with pytest.raises(ValueError):
                io.Scanner(Pieces(b"", 1), limit, separator=separator)
        near, far = await pair()  # after an error the conversation goes on
        scanner = io.Scanner(far, 1000)
        await near.write(b"half")
        far.set_read_deadline(treadle.now() + 0.005)
        with pytest.raises(TimeoutError):
            await scanner.next()
        far.set_read_deadline(None)
        await near.write(b" a line\n")
        assert await scanner.next() == b"half a line"
        await near.write(b"x" * 5000)
        with pytest.raises(treadle.TooLong):
            await scanner.next()
        await near.write(b"\nstill here\n")
        assert await scanner.next() == b"still here"
        near.close()
        assert await scanner.next() is None
        far.close()

    drive(main)


def test_pipe(drive):
    async def main():
        r, w = io.pipe()
        writer = treadle.go(write(w, b"hello"))
        assert await r.readexactly(3) == b"hel"
        assert not writer.done()
        assert await r.readexactly(2) == b"lo"
        await writer
        with pytest.raises(BrokenPipeError):
            await r.write(b"x")
        reader = treadle.go(write_result(r))
        await treadle.yield_()
        w.close_with(errno.EIO)
        with pytest.raises(OSError) as e:
            await reader
        assert e.value.errno == errno.EIO
        w.close_with(errno.EPERM)  # closed already: as a second close
        with pytest.raises(treadle.Closed):
            await w.write(b"x")
        r.close()
        r, w = io.pipe()
        writer = treadle.go(write(w, b"hello"))
        assert await r.readexactly(2) == b"he"
        r.close_with(errno.ETIMEDOUT)
        with pytest.raises(TimeoutError):
            await writer
        w.close_with(None)
        near, far = await pair()
        with pytest.raises(OSError) as e:
            near.close_with(errno.EIO)
        assert e.value.errno == errno.EOPNOTSUPP
        for bad in (0, -5, 5000, errno.EAGAIN):
            a, b = io.pipe()
            with pytest.raises(ValueError):
                a.close_with(bad)
            a.close()
            b.close()
        near.close()
        far.close()

    async def write(conn, data):
        await conn.write(data)

    async def write_result(conn):
        return await conn.read(1)

    drive(main)
