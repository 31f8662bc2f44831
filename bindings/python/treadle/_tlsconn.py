# SPDX-License-Identifier: MIT
"""TLS on connections, by Python's ssl module: what an ssl.SSLContext says is what holds.

Invariants of a TLSConn: ciphertext goes out under `_sending`, in the order in which the
SSLObject has made it; a write that was cut short in the middle of it is the connection's end
(`_cut`). Whoever needs more ciphertext reads it under `_receiving`, unless another has
since he tried (`_received` counts). Calls of one direction are served whole, in order:
`_reading`, `_writing`. What is decrypted is in `_buffer`, and nothing of it in the SSLObject.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ._closing import Closing
from ._scope import timeout as _timeout
from ._treadle import Closed, Conn, Listener, Mutex, Op, TcpInfo, TooLong
from ._treadle import dial as _dial
from ._treadle import listen as _listen

if TYPE_CHECKING:
    import ssl as _ssl

    from _typeshed import ReadableBuffer
else:
    try:
        import ssl as _ssl
    except ImportError:  # a Python without it, as asyncio has it
        _ssl = None

T = TypeVar("T")
_CHUNK = 65536


class TLSConn(Closing):
    """A connection with TLS: from `dial` and `listen` with ssl=, or `start_tls`.

    It is read, written and closed as a `Conn`. The first call that reads or writes does the
    handshake, or `do_handshake`. Errors of TLS are the ssl module's: ssl.SSLCertVerificationError,
    ssl.SSLError; ssl.SSLEOFError when the stream just ends, without the peer having said that it
    does (perhaps somebody has cut it off), whatever the context says of that."""

    def __init__(
        self,
        conn: Conn,
        context: _ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: _ssl.SSLSession | None = None,
    ) -> None:
        if not isinstance(context, _ssl.SSLContext):
            raise TypeError(f"an ssl.SSLContext is required, not {context!r} (ssl.create_default_context())")
        if context.check_hostname and not server_side and not server_hostname:
            raise ValueError("server_hostname is needed: the certificate must be for it")
        self._conn = conn
        self._incoming, self._outgoing = _ssl.MemoryBIO(), _ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side, None if server_side else server_hostname, session
        )
        self._reading, self._writing, self._sending, self._receiving = Mutex(), Mutex(), Mutex(), Mutex()
        self._received = 0
        self._done = False
        self._cut = False
        self._ended = False
        self._buffer = bytearray()

    # -- What every call does ------------------------------------------------------

    async def _flush(self) -> None:
        """Sends what the SSLObject has to say."""
        while self._outgoing.pending:
            async with self._sending:
                if self._cut:
                    raise ConnectionAbortedError("an earlier write was cut short")
                if data := self._outgoing.read():
                    self._cut = True
                    await self._conn.write(data)
                    self._cut = False

    async def _receive(self, seen: int) -> None:
        async with self._receiving:
            if self._received != seen:
                return
            data = await self._conn.read(_CHUNK)
            self._received += 1
            if data:
                self._incoming.write(data)
            else:  # the SSLObject is not told: many contexts say that it is to take that for a proper end
                self._ended = True

    async def _call(self, call: Callable[..., T], *args: object) -> T:
        """Calls the SSLObject until it needs nothing more for it."""
        while True:
            seen = self._received
            try:
                result = call(*args)
            except _ssl.SSLWantReadError:
                await self._flush()
                if self._ended:
                    raise _ssl.SSLEOFError(_ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol") from None
                await self._receive(seen)
            except _ssl.SSLError:
                if self._outgoing.pending:  # an alert
                    try:
                        await self._flush()
                    except OSError:
                        pass
                raise
            else:
                await self._flush()
                return result

    async def do_handshake(self) -> None:
        """The handshake, if it has not been done: then its errors come here."""
        if self._conn.closed:
            raise Closed("closed")
        if not self._done:
            await self._call(self._object.do_handshake)
            self._done = True

    # -- Reading -------------------------------------------------------------------

    async def _more(self) -> bytes:
        """A record, or more; b"" at the end."""
        await self.do_handshake()
        try:
            return await self._call(self._object.read, _CHUNK)
        except _ssl.SSLZeroReturnError:
            return b""

    def _take(self, n: int) -> bytes:
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        return data

    async def read(self, n: int, /) -> bytes:
        """What is there, up to n bytes; b"" at the end of the stream."""
        if n < 0:
            raise ValueError("n must not be negative")
        async with self._reading:
            if not self._buffer and n:
                self._buffer += await self._more()
            return self._take(n)

    async def readexactly(self, n: int, /) -> bytes:
        """n bytes; asyncio.IncompleteReadError if the stream ends first (its .partial is consumed)."""
        if n < 0:
            raise ValueError("n must not be negative")
        async with self._reading:
            while len(self._buffer) < n:
                data = await self._more()
                if not data:
                    raise asyncio.IncompleteReadError(self._take(n), n)
                self._buffer += data
            return self._take(n)

    async def _find(self, separator: bytes, limit: int) -> int:
        """Where it ends; -1: the stream has ended without."""
        start = 0
        while True:
            at = self._buffer.find(separator, start, limit)
            if at >= 0:
                return at + len(separator)
            if len(self._buffer) >= limit:
                error = TooLong(f"no separator within {limit} bytes")
                error.beginning = bytes(self._buffer[:limit])
                raise error
            start = max(0, len(self._buffer) - len(separator) + 1)
            data = await self._more()
            if not data:
                return -1
            self._buffer += data

    async def readline(self, limit: int = _CHUNK) -> bytes:
        """A line with its b"\\n", which a last one may lack; b"" at the end of the stream.
        treadle.TooLong when limit bytes hold none (they can still be read)."""
        async with self._reading:
            at = await self._find(b"\n", limit)
            return self._take(at if at >= 0 else len(self._buffer))

    async def read_until(self, separator: ReadableBuffer, /, limit: int = _CHUNK) -> bytes:
        """Up to and with the separator. asyncio.IncompleteReadError if the stream ends first (its .partial is
        consumed); treadle.TooLong when limit bytes hold none."""
        what = bytes(separator)
        if not 1 <= len(what) <= 255:
            raise ValueError("a separator has 1 to 255 bytes")
        async with self._reading:
            at = await self._find(what, limit)
            if at < 0:
                raise asyncio.IncompleteReadError(self._take(len(self._buffer)), None)
            return self._take(at)

    def lines(self, limit: int = _CHUNK) -> TLSLines:
        """An async iterator of lines without their b"\\n" or b"\\r\\n"."""
        return TLSLines(self, limit)

    # -- Writing, the end ------------------------------------------------------------

    async def write(self, data: ReadableBuffer, /) -> None:
        """Writes all of it. Writes of several goroutines never mix. After an error or a cancellation
        some may have gone out; one that comes in the middle of a record is the connection's end."""
        view = memoryview(data).cast("B")
        async with self._writing:
            await self.do_handshake()
            while len(view):
                view = view[await self._call(self._object.write, view[:_CHUNK]) :]

    def _announce(self) -> None:
        """Says that nothing more will be written; of what has come nothing may be taken for the answer."""
        held = self._incoming.read()
        try:
            self._object.unwrap()
        except (_ssl.SSLError, ValueError):  # the peer's has not come yet
            pass
        if held:
            self._incoming.write(held)

    async def shutdown_write(self) -> None:
        """Announces the end of this direction (close_notify): the peer reads the end, this side reads on."""
        async with self._writing:
            await self.do_handshake()
            self._announce()
            await self._flush()

    def close(self) -> None:
        """Closes, and announces that if it can be done at once; operations in progress and later ones raise treadle.Closed. May be
        repeated."""
        if not self._conn.closed and self._done and not self._cut and not self._outgoing.pending:
            self._announce()
            try:
                os.write(self._conn.fileno(), self._outgoing.read())
            except OSError:
                pass
        self._conn.close()

    # -- What it is --------------------------------------------------------------------

    @property
    def ssl_object(self) -> _ssl.SSLObject:
        """The ssl module's own, for what is not here. Not to be read or written."""
        return self._object

    @property
    def session(self) -> _ssl.SSLSession | None:
        """For `start_tls` on a later connection to the same server."""
        return self._object.session

    def getpeercert(self, binary_form: bool = False) -> Any:
        """As ssl.SSLObject.getpeercert."""
        return self._object.getpeercert(binary_form)

    def version(self) -> str | None:
        """ "TLSv1.3"; None before the handshake."""
        return self._object.version()

    def cipher(self) -> tuple[str, str, int] | None:
        """As ssl.SSLObject.cipher."""
        return self._object.cipher()

    def selected_alpn_protocol(self) -> str | None:
        """The application's protocol that was agreed on."""
        return self._object.selected_alpn_protocol()

    @property
    def peername(self) -> str:
        """The far address."""
        return self._conn.peername

    @property
    def sockname(self) -> str:
        """The near address."""
        return self._conn.sockname

    @property
    def closed(self) -> bool:
        """Whether it was closed here."""
        return self._conn.closed

    def fileno(self) -> int:
        """The descriptor, which stays the connection's."""
        return self._conn.fileno()

    def settimeout(self, seconds: float | None, /) -> None:
        """As Conn.settimeout: for each operation on what is below."""
        self._conn.settimeout(seconds)

    def set_deadline(self, when: float | None, /) -> None:
        """Both directions time out at `when`, on the clock of treadle.now(); None clears."""
        self._conn.set_deadline(when)

    def set_read_deadline(self, when: float | None, /) -> None:
        """The same, for reads."""
        self._conn.set_read_deadline(when)

    def set_write_deadline(self, when: float | None, /) -> None:
        """The same, for writes."""
        self._conn.set_write_deadline(when)

    def option(self, name: str, /) -> Any:
        """As Conn.option."""
        return self._conn.option(name)

    def set_option(self, name: str, value: float | None, /) -> None:
        """As Conn.set_option."""
        self._conn.set_option(name, value)

    def tcp_info(self) -> TcpInfo:
        """As Conn.tcp_info."""
        return self._conn.tcp_info()


class TLSLines:
    """Lines of a TLSConn."""

    def __init__(self, conn: TLSConn, limit: int) -> None:
        self._conn, self._limit = conn, limit

    def __aiter__(self) -> TLSLines:
        return self

    async def __anext__(self) -> bytes:
        line = await self._conn.readline(self._limit)
        if not line:
            raise StopAsyncIteration
        if line.endswith(b"\n"):
            line = line[: -2 if line.endswith(b"\r\n") else -1]
        return line


class TLSListener(Closing):
    """A listener with TLS, from `listen` with ssl=. What it accepts does the handshake with its
    first read or write, so that a slow client holds up nobody else."""

    def __init__(self, listener: Listener, context: _ssl.SSLContext) -> None:
        self._listener, self._context = listener, context

    @property
    def port(self) -> int:
        """The port; 0 for a Unix socket."""
        return self._listener.port

    @property
    def address(self) -> str:
        """The address it is bound to."""
        return self._listener.address

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._listener.closed

    def __repr__(self) -> str:
        return f"<TLSListener {'closed' if self.closed else 'on ' + self.address}>"

    def _with_tls(self, conn: Conn) -> TLSConn:
        return TLSConn(conn, self._context, server_side=True)

    async def accept(self) -> TLSConn:
        """Waits for a connection and takes it."""
        return self._with_tls(await self._listener.accept())

    def close(self) -> None:
        """Stops listening. May be repeated."""
        self._listener.close()

    def set_deadline(self, when: float | None, /) -> None:
        """As Listener.set_deadline."""
        self._listener.set_deadline(when)

    def fileno(self) -> int:
        """The descriptor, which stays the listener's."""
        return self._listener.fileno()

    def __aiter__(self) -> TLSListener:
        return self

    async def __anext__(self) -> TLSConn:
        return self._with_tls(await self._listener.__anext__())


def _context(given: _ssl.SSLContext | bool, server: bool) -> _ssl.SSLContext:
    if isinstance(given, _ssl.SSLContext):
        wrong = _ssl.PROTOCOL_TLS_CLIENT if server else _ssl.PROTOCOL_TLS_SERVER
        if given.protocol == wrong:
            purpose = "CLIENT_AUTH" if server else "SERVER_AUTH"
            raise ValueError(
                f"this ssl.SSLContext is for the other side; a {'server' if server else 'client'}'s is made by "
                f"ssl.create_default_context(ssl.Purpose.{purpose})"
            )
        return given
    if given is True and not server:
        return _ssl.create_default_context()
    raise TypeError(f"ssl is an ssl.SSLContext{'' if server else ', True or None'}, not {given!r}")


def _host(network: str, address: str | Sequence[str]) -> str | None:
    """Of the address: the name that the certificate must be for."""
    if network.startswith("unix") or not isinstance(address, str):
        return None
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    return host or "localhost"


async def start_tls(
    conn: Conn,
    context: _ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    session: _ssl.SSLSession | None = None,
) -> TLSConn:
    """Begins TLS on a connection, and does the handshake. From then on the connection is to be used through what is returned.
    Plain bytes that have arrived and were not read count as the beginning of the peer's TLS. With an
    exception the connection is closed."""
    try:
        with_tls = TLSConn(conn, context, server_side=server_side, server_hostname=server_hostname, session=session)
        await with_tls.do_handshake()
    except BaseException:
        conn.close()
        raise
    return with_tls


async def _dial_tls(
    opening: Op[Conn], context: _ssl.SSLContext, server_hostname: str | None, timeout: float | None
) -> TLSConn:
    async with _timeout(timeout):
        return await start_tls(await opening, context, server_hostname=server_hostname)


@overload
def dial(
    network: str,
    address: str | Sequence[str],
    *,
    timeout: float | None = None,
    local: str | None = None,
    fallback_delay: float | None = None,
    ssl: None = None,
    server_hostname: None = None,
) -> Op[Conn]: ...
@overload
def dial(
    network: str,
    address: str | Sequence[str],
    *,
    timeout: float | None = None,
    local: str | None = None,
    fallback_delay: float | None = None,
    ssl: _ssl.SSLContext | bool,
    server_hostname: str | None = None,
) -> Coroutine[Any, Any, TLSConn]: ...
def dial(
    network: str,
    address: str | Sequence[str],
    *,
    timeout: float | None = None,
    local: str | None = None,
    fallback_delay: float | None = None,
    ssl: _ssl.SSLContext | bool | None = None,
    server_hostname: str | None = None,
) -> Op[Conn] | Coroutine[Any, Any, TLSConn]:
    context = _context(ssl, False) if ssl is not None and ssl is not False else None
    if context is None and server_hostname is not None:
        raise ValueError("server_hostname is of use only with ssl")
    opening = _dial(network, address, timeout=timeout, local=local, fallback_delay=fallback_delay)
    if context is None:
        return opening
    return _dial_tls(opening, context, server_hostname or _host(network, address), timeout)


dial.__doc__ = (_dial.__doc__ or "") + (
    "\n\nssl: an ssl.SSLContext, or True for ssl.create_default_context(): the result is a TLSConn, whose handshake has\n"
    "been done, within the timeout. Its certificate must be for server_hostname, which is the address's host if it is not\n"
    "given (several addresses and Unix sockets have none)."
)


async def _listen_tls(opening: Op[Listener], context: _ssl.SSLContext) -> TLSListener:
    return TLSListener(await opening, context)


@overload
def listen(
    network: str,
    address: str,
    *,
    backlog: int = 0,
    reuseport: bool = False,
    keep_path: bool = False,
    ssl: None = None,
) -> Op[Listener]: ...
@overload
def listen(
    network: str,
    address: str,
    *,
    backlog: int = 0,
    reuseport: bool = False,
    keep_path: bool = False,
    ssl: _ssl.SSLContext,
) -> Coroutine[Any, Any, TLSListener]: ...
def listen(
    network: str,
    address: str,
    *,
    backlog: int = 0,
    reuseport: bool = False,
    keep_path: bool = False,
    ssl: _ssl.SSLContext | None = None,
) -> Op[Listener] | Coroutine[Any, Any, TLSListener]:
    context = _context(ssl, True) if ssl is not None else None
    opening = _listen(network, address, backlog=backlog, reuseport=reuseport, keep_path=keep_path)
    return opening if context is None else _listen_tls(opening, context)


listen.__doc__ = (_listen.__doc__ or "") + (
    "\n\nssl: an ssl.SSLContext of a server: the result is a TLSListener, which accepts TLSConn."
)
