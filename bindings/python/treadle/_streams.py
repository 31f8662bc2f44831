# SPDX-License-Identifier: MIT
"""asyncio's streams on treadle's transports.

asyncio makes the reader and the writer of a connection; theirs become the classes
here, whose most used methods and whose fields are in C (transport_streams.c, stream_record.c). They are asyncio's
own in every other respect, and in debug mode they stay what they were, so that a
read that nobody awaits is told of.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from . import _treadle


class StreamReader(asyncio.StreamReader, _treadle._ReaderMethods):
    """asyncio's, of a connection on treadle's loop."""

    read = _treadle._ReaderMethods.read
    readexactly = _treadle._ReaderMethods.readexactly
    readuntil = _treadle._ReaderMethods.readuntil
    readline = _treadle._ReaderMethods.readline


class StreamWriter(asyncio.StreamWriter, _treadle._WriterMethods):
    """asyncio's, of a connection on treadle's loop."""

    write = _treadle._WriterMethods.write
    drain = _treadle._WriterMethods.drain


def _connected(callback: Any, reader: Any, writer: Any) -> Any:
    if type(writer) is asyncio.StreamWriter:
        writer.__class__ = StreamWriter
    return callback(reader, writer)


def prepare(protocol: Any) -> None:
    """A connection's protocol that is exactly asyncio's StreamReaderProtocol."""
    reader = protocol._stream_reader
    if type(reader) is asyncio.StreamReader:
        fields = vars(reader)
        reader.__dict__ = {}
        reader.__class__ = StreamReader
        for name in fields:  # items() crashes CPython where it has no memory for a pair
            setattr(reader, name, fields[name])
    callback = protocol._client_connected_cb
    if callback is not None and not (
        isinstance(callback, functools.partial) and callback.func is _connected
    ):
        protocol._client_connected_cb = functools.partial(_connected, callback)


_treadle._streams_use(StreamReader, prepare)
