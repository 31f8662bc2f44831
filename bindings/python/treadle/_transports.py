# SPDX-License-Identifier: MIT
"""asyncio's transports on treadle's loop.

Reading, writing and flow control are in C (transport*.c); here is what happens
once in a connection's life, with the texts and the order of asyncio's own
selector transports. _hooks.py makes them.

Invariants. A transport is in the loop's set of live ones from the turn after
connection_made until connection_lost or the end of the loop, which so keeps it alive.
connection_lost is called by the loop only, once.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import os
import socket
import warnings
from asyncio import base_events, constants, selector_events, trsock
from asyncio.log import logger
from typing import Any

from . import _streams as _streams
from . import _treadle

# Seconds after which a datagram goes again to a unix socket whose queue was full.
_RETRY_DELAY = 0.005
# The protocols of a stream that is TCP: 0 is what socket.socket() says by itself.
_TCP = (0, socket.IPPROTO_TCP)
# Server._attach and _detach have a parameter from CPython 3.13 on.
_DETACH_WITH_TRANSPORT = hasattr(base_events.Server, "close_clients")


class _Common(_treadle._Transport):
    """What all transports have in common."""

    __slots__ = ()

    @staticmethod
    def _describe(sock: Any, extra: dict[str, Any] | None) -> dict[str, Any]:
        """What get_extra_info says of a socket."""
        extra = {} if extra is None else extra
        extra["socket"] = trsock.TransportSocket(sock)
        try:
            extra["sockname"] = sock.getsockname()
        except OSError:
            extra["sockname"] = None
        if "peername" not in extra:
            try:
                extra["peername"] = sock.getpeername()
            except OSError:
                extra["peername"] = None
        return extra

    def _begin(self, waiter: Any) -> None:
        loop, context = self._loop, self._context
        loop.call_soon(self._protocol.connection_made, self, context=context)
        # Only then does it listen, and whoever waits for it goes on.
        loop.call_soon(self._started, waiter, context=context)

    def __repr__(self) -> str:
        info = [self.__class__.__name__]
        if self._sock is None:
            info.append("closed")
        elif self._closing:
            info.append("closing")
        return f"<{' '.join(info + self._what())}>"

    def _what(self) -> list[str]:
        """What asyncio's transport of the kind says of itself."""
        info = [f"fd={self._sock_fd}"]
        if self._loop is not None and not self._loop.is_closed():
            info.append("read=polling" if self.is_reading() else "read=idle")
            size = self.get_write_buffer_size()
            info.append(f"write=<{'polling' if size else 'idle'}, bufsize={size}>")
        return info

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._sock is not None:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._detach()
            self._sock.close()
            self._detach_server()

    def _attach_server(self, server: Any) -> None:
        self._server = server
        if server is not None:
            if _DETACH_WITH_TRANSPORT:
                server._attach(self)
            else:
                server._attach()

    def _detach_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            if _DETACH_WITH_TRANSPORT:
                server._detach(self)
            else:
                server._detach()

    def _fatal_error(
        self, exc: BaseException, message: str = "Fatal error on transport"
    ) -> None:
        if self._loop is not None:
            if self._is_usual(exc):
                if self._loop.get_debug():
                    logger.debug("%r: %s", self, message, exc_info=exc)
            else:
                self._protocol_failed(message, exc)
        self._force_close(exc)

    def _is_usual(self, exc: BaseException) -> bool:
        """Is that what happens to connections? Then the exception handler is not told."""
        return isinstance(exc, OSError)

    def _protocol_failed(self, message: str, exc: BaseException) -> None:
        self._loop.call_exception_handler(
            {
                "message": message,
                "exception": exc,
                "transport": self,
                "protocol": self._protocol,
            }
        )

    def _warn_lost(self) -> None:
        logger.warning("socket.send() raised exception.")

    def _log_debug(self, text: str) -> None:
        logger.debug(text, self)

    def _took(self, seconds: float) -> None:
        """In debug mode, after the loop has called us."""
        loop = self._loop
        if loop is not None and seconds >= loop.slow_callback_duration:
            logger.warning("Executing %r took %.3f seconds", self, seconds)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        try:
            self._detach()
            if self._protocol_connected:
                self._protocol.connection_lost(exc)
        finally:
            sock, self._sock = self._sock, None
            self._release()
            if sock is not None:
                sock.close()
            self._detach_server()


class SocketTransport(_Common, _treadle._StreamTransport):
    """A connection of TCP or of a Unix socket."""

    __slots__ = ()
    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE
    max_size = 256 * 1024

    def __init__(
        self,
        loop: Any,
        sock: Any,
        protocol: Any,
        waiter: Any = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: contextvars.Context | None = None,
    ) -> None:
        unix = sock.family == socket.AF_UNIX
        self._setup(loop, sock, sock.fileno(), protocol, self._describe(sock, extra), unix, context)
        self._attach_server(server)
        loop._transports[self._sock_fd] = self
        if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.proto in _TCP:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._begin(waiter)

    def _refuse(self, data: Any) -> None:
        """Raises what asyncio says of such data."""
        selector_events._SelectorSocketTransport.write(self, data)  # type: ignore[attr-defined]

    def _on_eof(self) -> None:
        if self._loop.get_debug():
            logger.debug("%r received EOF", self)
        try:
            keep_open = self._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:  # noqa: BLE001 - as asyncio does
            self._fatal_error(exc, "Fatal error: protocol.eof_received() call failed.")
            return
        if not keep_open:
            self.close()

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        super()._call_connection_lost(exc)
        waiter = self._empty_waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(ConnectionError("Connection is closed by peer"))

    def _make_empty_waiter(self) -> Any:
        if self._empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self._empty_waiter = self._loop.create_future()
        if not self.get_write_buffer_size():
            self._empty_waiter.set_result(None)
        return self._empty_waiter

    def _reset_empty_waiter(self) -> None:
        self._empty_waiter = None


class DatagramTransport(_Common, _treadle._DatagramTransport, asyncio.DatagramTransport):
    """A UDP socket, or one of Unix datagrams."""

    __slots__ = ()
    max_size = 256 * 1024

    def __init__(
        self,
        loop: Any,
        sock: Any,
        protocol: Any,
        address: Any = None,
        waiter: Any = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        extra = self._describe(sock, extra)
        self._connected(sock, address, sock.family, extra["peername"])
        self._setup(loop, sock, sock.fileno(), protocol, extra, False)
        loop._transports[self._sock_fd] = self
        self._begin(waiter)

    def _flush_soon(self) -> None:
        # Nothing tells when somebody else's queue has room.
        self._loop.call_later(_RETRY_DELAY, self._flush, context=self._context)


class _Pipe(_Common):
    """What pipe transports of both directions have in common."""

    __slots__ = ()

    def __init__(
        self,
        loop: Any,
        pipe: Any,
        protocol: Any,
        waiter: Any = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        extra = {} if extra is None else extra
        extra["pipe"] = pipe
        fd = self._fileno = pipe.fileno()
        if not self._look_at(fd):
            self._fileno = None
            raise ValueError(self._refusal)
        os.set_blocking(fd, False)
        self._setup(loop, pipe, fd, protocol, extra, True)
        self._begin(waiter)

    _refusal: str
    _fileno: int | None
    _look_at: Any

    @property
    def _pipe(self) -> Any:
        return self._sock

    @_pipe.setter
    def _pipe(self, pipe: Any) -> None:
        self._sock = pipe

    def _what(self) -> list[str]:
        if self._sock is None:
            state = "closed"
        elif self._loop is None or self._loop.is_closed():
            state = "open"
        else:
            state = self._state()
        return [f"fd={self._fileno}", state]

    def _state(self) -> str:
        raise NotImplementedError

    def _fatal_error(
        self, exc: BaseException, message: str = "Fatal error on pipe transport"
    ) -> None:
        super()._fatal_error(exc, message)


class ReadPipeTransport(_Pipe, _treadle._ReadPipeTransport):
    """The end of a pipe that is read."""

    __slots__ = ()
    max_size = 256 * 1024
    _refusal = "Pipe transport is for pipes/sockets only."

    def _state(self) -> str:
        return "polling" if self.is_reading() else "idle"

    def _is_usual(self, exc: BaseException) -> bool:
        return isinstance(exc, OSError) and exc.errno == errno.EIO

    def _on_eof(self) -> None:
        loop = self._loop
        if loop.get_debug():
            logger.info("%r was closed by peer", self)
        self._closing = True
        self._conn_lost += 1
        loop.call_soon(self._protocol.eof_received, context=self._context)
        loop.call_soon(self._call_connection_lost, None, context=self._context)


class WritePipeTransport(_Pipe, _treadle._WritePipeTransport):
    """The end of a pipe that is written."""

    __slots__ = ()
    _refusal = "Pipe transport is only for pipes, sockets and character devices"

    def _state(self) -> str:
        size = self.get_write_buffer_size()
        return f"{'polling' if size else 'idle'} bufsize={size}"

    def _warn_lost(self) -> None:
        logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")

    def _reader_gone(self, exc: BaseException | None) -> None:
        if self._loop.get_debug():
            logger.info("%r was closed by peer", self)
        self._force_close(exc)
