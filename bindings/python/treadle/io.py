# SPDX-License-Identifier: MIT
"""Readers and writers: treadle.io.copy(conn, file), Scanner(conn), BufferedWriter(conn) …

A reader has ``await read(n)``: 1 to n bytes, or b"" at the end. A writer has
``await write(data)``, which writes all of it. Connections, files, descriptors and
asyncio's StreamReader are such; so is any object of the program's.

Go's io and bufio, made of awaitables; where the core can copy from one end to the
other itself (splice, sendfile), it does.
"""

from __future__ import annotations

import asyncio
import errno
import io as _io
from collections.abc import AsyncIterator, Awaitable
from types import TracebackType
from typing import Protocol

from ._treadle import Conn, TooLong, _io_pipe
from .fs import File

__all__ = [
    "BufferedReader", "BufferedWriter", "BytesReader", "Collector", "LimitReader", "MultiReader", "MultiWriter", "Reader",
    "Scanner", "TeeReader", "Writer", "copy", "discard", "pipe", "read_all", "read_full",
]

_CHUNK = 1 << 16
_LINE = 1 << 16


class Reader(Protocol):
    """What bytes can be read from: all that has such a read()."""

    def read(self, n: int, /) -> Awaitable[bytes]:
        """1 to n bytes; b"" at the end."""


class Writer(Protocol):
    """What bytes can be written to: all that has such a write()."""

    def write(self, data: bytes, /) -> Awaitable[object]:
        """All of it."""


class _Copies(Protocol):
    async def _copy_to(self, to: Writer, n: int | None) -> int: ...


def _able(what: str, end: object, method: str) -> None:
    if isinstance(end, _io.IOBase):
        raise TypeError(f"{what}: {end!r} is a file that blocks; treadle.open_file and treadle.fd make what does not")
    if not callable(getattr(end, method, None)):
        raise TypeError(f"{what}: {type(end).__name__!r} object has no {method}()")


def _whole(n: int | None, what: str) -> None:
    if n is not None and n < 0:
        raise ValueError(f"{what} must not be negative")


def _count(error: BaseException, copied: int) -> None:
    """Notes how many bytes had gone out by then, if the error knows of none."""
    if not isinstance(error, asyncio.CancelledError):
        error.copied = copied + getattr(error, "copied", 0)  # type: ignore[attr-defined]


# -- Copying ---------------------------------------------------------------------


async def copy(to: Writer, source: Reader, n: int | None = None) -> int:
    """Copies what a reader has to a writer, until its end or at most n bytes: within the
    kernel where both are sockets, or it is from a file to one. How many bytes.

    The error of either is raised, with ``copied``: how many had been written.
    """
    _whole(n, "the number of bytes")
    _able("copy", to, "write")
    _able("copy", source, "read")
    if isinstance(to, Conn):
        if isinstance(source, Conn):
            return await source._copy(to, -1 if n is None else n)
        if isinstance(source, File):
            return await to.send_file(source, None, n)
    if isinstance(to, File) and isinstance(source, File) and to is source:
        raise ValueError("copy: a file onto itself")
    through = getattr(source, "_copy_to", None)
    if through is not None:
        copier: _Copies = source  # type: ignore[assignment]
        return await copier._copy_to(to, n)
    total = 0
    try:
        while n is None or total < n:
            data = await source.read(_CHUNK if n is None else min(_CHUNK, n - total))
            if not data:
                break
            await to.write(data)
            total += len(data)
    except BaseException as error:
        _count(error, total)
        raise
    return total


async def read_full(source: Reader, n: int) -> bytes:
    """Exactly n bytes; asyncio.IncompleteReadError when the end comes first (its .partial is consumed)."""
    _whole(n, "the number of bytes")
    _able("read_full", source, "read")
    parts: list[bytes] = []
    left = n
    while left:
        data = await source.read(min(left, _CHUNK))
        if not data:
            raise asyncio.IncompleteReadError(b"".join(parts), n)
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


async def read_all(source: Reader, limit: int | None = None) -> bytes:
    """All up to the end; treadle.TooLong when that is more than limit bytes (.beginning is what was read)."""
    _whole(limit, "the limit")
    _able("read_all", source, "read")
    parts: list[bytes] = []
    total = 0
    while data := await source.read(_CHUNK if limit is None else min(_CHUNK, limit - total + 1)):
        parts.append(data)
        total += len(data)
        if limit is not None and total > limit:
            raise _too_long(f"more than {limit} bytes", b"".join(parts))
    return b"".join(parts)


def _too_long(text: str, beginning: bytes) -> TooLong:
    error = TooLong(text)
    error.beginning = beginning
    return error


# -- Readers ------------------------------------------------------------------------


class BytesReader:
    """A reader of bytes."""

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(bytes(data))

    async def read(self, n: int, /) -> bytes:
        """The next ones, at most n."""
        data, self._left = bytes(self._left[:n]), self._left[n:]
        return data


class LimitReader:
    """A reader that ends after n bytes; ``left`` says how many may still come."""

    def __init__(self, source: Reader, n: int) -> None:
        _whole(n, "the limit")
        _able("LimitReader", source, "read")
        self._source = source
        self.left: int = n

    async def read(self, n: int, /) -> bytes:
        """At most n bytes, within the limit."""
        if self.left <= 0 or n <= 0:
            return b""
        data = await self._source.read(min(n, self.left))
        self.left -= len(data)
        return data

    async def _copy_to(self, to: Writer, n: int | None) -> int:
        try:
            done = await copy(to, self._source, self.left if n is None else min(n, self.left))
        except Exception as error:
            self.left -= getattr(error, "copied", 0)
            raise
        self.left -= done
        return done


class TeeReader:
    """What is read from it has been written to `to` first. When that fails, the bytes are
    still read, and the error is what every later read raises."""

    def __init__(self, source: Reader, to: Writer) -> None:
        _able("TeeReader", source, "read")
        _able("TeeReader", to, "write")
        self._source, self._to = source, to
        self._error: Exception | None = None

    async def read(self, n: int, /) -> bytes:
        """At most n bytes."""
        if self._error is not None:
            raise self._error
        data = await self._source.read(n)
        if data:
            try:
                await self._to.write(data)
            except Exception as error:
                self._error = error
        return data


class MultiReader:
    """Several, one after the other. An error of one is an error, and the next read goes on with the same one."""

    def __init__(self, *sources: Reader) -> None:
        for source in sources:
            _able("MultiReader", source, "read")
        self._sources = list(reversed(sources))

    async def read(self, n: int, /) -> bytes:
        """At most n bytes."""
        if n <= 0:
            return b""
        while self._sources:
            data = await self._sources[-1].read(n)
            if data:
                return data
            self._sources.pop()
        return b""

    async def _copy_to(self, to: Writer, n: int | None) -> int:
        total = 0
        while self._sources and (n is None or total < n):
            try:
                total += await copy(to, self._sources[-1], None if n is None else n - total)
            except Exception as error:
                _count(error, total)
                raise
            if n is None or total < n:
                self._sources.pop()
        return total


# -- Writers -----------------------------------------------------------------------------


class MultiWriter:
    """Writes to each, in order; the first error ends a write, and those behind do not get it."""

    def __init__(self, *writers: Writer) -> None:
        for writer in writers:
            _able("MultiWriter", writer, "write")
        self._writers = writers

    async def write(self, data: bytes, /) -> None:
        """All of it to each."""
        for writer in self._writers:
            await writer.write(data)


class Collector:
    """A writer that keeps everything, for ``bytes(collector)``."""

    def __init__(self) -> None:
        self._data = bytearray()

    async def write(self, data: bytes, /) -> None:
        """Keeps it."""
        self._data += data

    def __bytes__(self) -> bytes:
        return bytes(self._data)

    def __len__(self) -> int:
        return len(self._data)


class _Discard:
    """A writer that takes all and keeps nothing."""

    async def write(self, data: bytes, /) -> None:
        """Takes it, and keeps nothing."""


discard: _Discard = _Discard()
"""A writer that takes all and keeps nothing."""


class BufferedWriter:
    """Gathers small writes, which go out together: when there are `size` bytes, by flush, by
    close. The first error stays: every later call raises it. ``async with`` closes it."""

    def __init__(self, to: Writer, size: int = 4096) -> None:
        if size < 1:
            raise ValueError("the size must be positive")
        _able("BufferedWriter", to, "write")
        self._to, self._size = to, size
        self._data = bytearray()
        self._error: Exception | None = None

    @property
    def buffered(self) -> int:
        """Bytes that have not gone out."""
        return len(self._data)

    async def write(self, data: bytes, /) -> None:
        """Buffers it; what is there goes out when it is enough."""
        if self._error is not None:
            raise self._error
        self._data += data
        if len(self._data) >= self._size:
            await self.flush()

    async def flush(self) -> None:
        """Sends what is buffered. Cancelled, it may have sent some: later calls then raise BrokenPipeError."""
        if self._error is not None:
            raise self._error
        if not self._data:
            return
        data, self._data = bytes(self._data), bytearray()
        try:
            await self._to.write(data)
        except Exception as error:
            self._error = error
            raise
        except BaseException:
            self._error = BrokenPipeError(errno.EPIPE, "an earlier flush was cancelled")
            raise

    async def close(self) -> None:
        """Flushes; what it writes to stays open."""
        await self.flush()

    async def __aenter__(self) -> BufferedWriter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()


# -- Reading ahead ----------------------------------------------------------------------------


class BufferedReader:
    """Reads ahead, and has the framed reads of a connection over any reader."""

    def __init__(self, source: Reader) -> None:
        _able("BufferedReader", source, "read")
        self._source = source
        self._data = bytearray()

    async def _more(self) -> bool:
        data = await self._source.read(_CHUNK)
        self._data += data
        return bool(data)

    def _take(self, n: int) -> bytes:
        data = bytes(self._data[:n])
        del self._data[:n]
        return data

    async def _find(self, separator: bytes, limit: int) -> int:
        """The length up to and with it; 0: the end came first; -1: not within the limit. Each byte is looked at once."""
        looked = 0
        while True:
            at = self._data.find(separator, looked, limit)
            if at >= 0:
                return at + len(separator)
            looked = max(0, len(self._data) - len(separator) + 1)
            if len(self._data) >= limit:
                return -1
            if not await self._more():
                return 0

    async def peek(self, n: int) -> bytes:
        """The first n bytes, which stay; fewer before the end."""
        while len(self._data) < n and await self._more():
            pass
        return bytes(self._data[:n])

    async def read(self, n: int, /) -> bytes:
        """What is there, up to n bytes; b"" at the end."""
        if n > 0 and not self._data:
            if n >= _CHUNK:
                return await self._source.read(n)
            await self._more()
        return self._take(n)

    async def _copy_to(self, to: Writer, n: int | None) -> int:
        data = self._take(len(self._data) if n is None else n)
        if data:
            await to.write(data)
        try:
            return len(data) + await copy(to, self._source, None if n is None else n - len(data))
        except Exception as error:
            _count(error, len(data))
            raise

    async def readexactly(self, n: int) -> bytes:
        """Exactly n bytes; asyncio.IncompleteReadError when the end comes first (its .partial is consumed)."""
        return await read_full(self, n)

    async def readline(self, limit: int = _LINE) -> bytes:
        """Up to and with the next b"\\n", which a last line may lack; b"" at the end; treadle.TooLong (what came can still be read)."""
        n = await self._find(b"\n", limit)
        if n < 0:
            raise TooLong(f"no newline within {limit} bytes")
        return self._take(n or len(self._data))

    async def read_until(self, separator: bytes, limit: int = _LINE) -> bytes:
        """Up to and with the separator. asyncio.IncompleteReadError when the end comes first (its .partial is
        consumed); treadle.TooLong when limit bytes hold none (they can still be read)."""
        if not separator:
            raise ValueError("an empty separator")
        n = await self._find(separator, limit)
        if n < 0:
            raise TooLong(f"no separator within {limit} bytes")
        if n == 0:
            raise asyncio.IncompleteReadError(self._take(len(self._data)), None)
        return self._take(n)

    async def lines(self, limit: int = _LINE) -> AsyncIterator[bytes]:
        """The lines, without their b"\\n" or b"\\r\\n"."""
        while line := await self.readline(limit):
            if line.endswith(b"\n"):
                line = line[:-2] if line.endswith(b"\r\n") else line[:-1]
            yield line


class Scanner:
    """Pieces between separators (None: lines, without b"\\n" or b"\\r\\n"), by ``async for`` or next(). What follows
    the last separator is a piece if it is not empty.

    One that is longer, with its separator, than `limit` bytes raises treadle.TooLong, whose ``beginning`` is what
    there was room for; the rest of it is passed over, and the next one follows: another ``async for`` goes on there.
    After another error of the reader, too, the next call goes on where this one was.
    """

    def __init__(self, source: Reader, limit: int = _LINE, *, separator: bytes | None = None) -> None:
        if separator is not None and not 0 < len(separator) <= limit or limit < 1:
            raise ValueError("a separator is not empty, and no longer than the limit")
        self._reader = BufferedReader(source)
        self._limit, self._lines = limit, separator is None
        self._separator = b"\n" if separator is None else bytes(separator)
        self._over = False  # the rest of a piece that was too long is to be passed over

    async def next(self) -> bytes | None:
        """The next piece; None: there are no more."""
        reader, separator = self._reader, self._separator
        while self._over:
            at = reader._data.find(separator)
            self._over = at < 0
            reader._take(max(0, len(reader._data) - len(separator) + 1) if self._over else at + len(separator))
            if self._over and not await reader._more():
                reader._take(len(reader._data))
                self._over = False
        n = await reader._find(separator, self._limit)
        if n > 0:
            piece = reader._take(n)[: -len(separator)]
            return piece[:-1] if self._lines and piece.endswith(b"\r") else piece
        if n == 0:
            return reader._take(len(reader._data)) or None
        self._over = True
        beginning = bytes(reader._data[: self._limit])
        reader._take(self._limit - len(separator) + 1)
        raise _too_long(f"no separator within {self._limit} bytes", beginning)

    def __aiter__(self) -> Scanner:
        return self

    async def __anext__(self) -> bytes:
        piece = await self.next()
        if piece is None:
            raise StopAsyncIteration
        return piece


def pipe() -> tuple[Conn, Conn]:
    """Go's io.Pipe: a reader and a writer in memory, without a buffer. A write is over when all of it
    has been read. Either is closed with an error for the other by close_with."""
    return _io_pipe()
