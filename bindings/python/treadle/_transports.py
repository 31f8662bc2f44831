# SPDX-License-Identifier: MIT
"""asyncio's transports on treadle's loop.

Reading, writing and flow control are in C (transport*.c); here is what happens
once in a connection's life, with the texts and the order of asyncio's own
selector transports. The loop's cold half (create_server, create_connection and
the like) stays asyncio's: Transports overrides the hooks by which it makes
transports.

Invariants. A transport is in the loop's set of live ones from the turn after
connection_made until connection_lost or the end of the loop, which so keeps it alive.
connection_lost is called by the loop only, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import functools
import os
import socket
import sys
import warnings
from asyncio import base_events, constants, exceptions, selector_events, trsock, unix_events
from asyncio.log import logger
from typing import Any

from . import _streams as _streams
from . import _treadle

# What accept() says when the process or the machine has no more.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# Seconds after which a datagram goes again to a unix socket whose queue was full.
_RETRY_DELAY = 0.005
# Of these the addresses are known to _treadle._accept.
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
# So much of a file goes to a socket that takes everything before others have their turn.
_SENDFILE_AT_ONCE = 4 * 1024 * 1024
# The protocols of a stream that is TCP: 0 is what socket.socket() says by itself.
_TCP = (0, socket.IPPROTO_TCP)
# Server._attach and _detach have a parameter from CPython 3.13 on.
_DETACH_WITH_TRANSPORT = hasattr(base_events.Server, "close_clients")


class _Common(_treadle._Transport):
    """What stream and datagram transports have in common."""

    __slots__ = ()

    def _describe(self, loop: Any, sock: Any, extra: dict[str, Any] | None) -> dict[str, Any]:
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
        info.append(f"fd={self._sock_fd}")
        if self._loop is not None and not self._loop.is_closed():
            info.append("read=polling" if self.is_reading() else "read=idle")
            size = self.get_write_buffer_size()
            info.append(f"write=<{'polling' if size else 'idle'}, bufsize={size}>")
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._sock is not None:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._detach()
            self._sock.close()
            self._detach_server()

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
            if isinstance(exc, OSError):
                if self._loop.get_debug():
                    logger.debug("%r: %s", self, message, exc_info=exc)
            else:
                self._loop.call_exception_handler(
                    {
                        "message": message,
                        "exception": exc,
                        "transport": self,
                        "protocol": self._protocol,
                    }
                )
        self._force_close(exc)

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
        extra = self._describe(loop, sock, extra)
        unix = sock.family == socket.AF_UNIX
        self._setup(loop, sock, sock.fileno(), protocol, extra, unix, context)
        self._server = server
        if server is not None:
            if _DETACH_WITH_TRANSPORT:
                server._attach(self)
            else:
                server._attach()
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
        extra = self._describe(loop, sock, extra)
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

    def _state(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        info = [self.__class__.__name__]
        if self._sock is None:
            info.append("closed")
        elif self._closing:
            info.append("closing")
        info.append(f"fd={self._fileno}")
        if self._sock is None:
            info.append("closed")
        elif self._loop is None or self._loop.is_closed():
            info.append("open")
        else:
            info.append(self._state())
        return f"<{' '.join(info)}>"

    def _fatal_error(
        self, exc: BaseException, message: str = "Fatal error on pipe transport"
    ) -> None:
        if self._loop is not None:
            if self._is_usual(exc):
                if self._loop.get_debug():
                    logger.debug("%r: %s", self, message, exc_info=exc)
            else:
                self._protocol_failed(message, exc)
        self._force_close(exc)

    def _is_usual(self, exc: BaseException) -> bool:
        raise NotImplementedError

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        try:
            self._detach()
            self._protocol.connection_lost(exc)
        finally:
            pipe, self._sock = self._sock, None
            self._release()
            if pipe is not None:
                pipe.close()


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

    def _is_usual(self, exc: BaseException) -> bool:
        return isinstance(exc, OSError)

    def _warn_lost(self) -> None:
        logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")

    def _reader_gone(self, exc: BaseException | None) -> None:
        if self._loop.get_debug():
            logger.info("%r was closed by peer", self)
        self._force_close(exc)


class Transports(asyncio.SelectorEventLoop):
    """The hooks of asyncio's loop that make transports."""

    # asyncio's
    _debug: bool
    _transports: Any
    _ensure_fd_no_transport: Any
    _add_reader: Any
    _remove_reader: Any
    _start_serving: Any
    _accept_connection2: Any
    _ensure_resolved: Any
    _connect_op: Any
    _sendfile_op: Any

    def _make_socket_transport(
        self,
        sock: Any,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: contextvars.Context | None = None,  # from CPython 3.15 on
    ) -> SocketTransport:
        self._ensure_fd_no_transport(sock)
        return SocketTransport(self, sock, protocol, waiter, extra, server, context)

    def _make_datagram_transport(
        self,
        sock: Any,
        protocol: Any,
        address: Any = None,
        waiter: Any = None,
        extra: dict[str, Any] | None = None,
    ) -> DatagramTransport:
        self._ensure_fd_no_transport(sock)
        return DatagramTransport(self, sock, protocol, address, waiter, extra)

    def _make_read_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: dict[str, Any] | None = None
    ) -> ReadPipeTransport:
        return ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: dict[str, Any] | None = None
    ) -> WritePipeTransport:
        return WritePipeTransport(self, pipe, protocol, waiter, extra)

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: contextvars.Context | None = None,
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)
        ssl_protocol = _tls_protocol()(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        SocketTransport(self, rawsock, ssl_protocol, extra=extra, server=server, context=context)
        return ssl_protocol._app_transport

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """Upgrades a transport to TLS; returns the one to use from then on."""
        import ssl

        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        waiter = self.create_future()
        ssl_protocol = _tls_protocol()(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            call_connection_made=False,
        )
        # Paused, so that no data comes before connection_made.
        transport.pause_reading()
        if server_side and isinstance(protocol, asyncio.StreamReaderProtocol):
            # What the reader has already is for the protocol of TLS, too.
            reader: Any = getattr(protocol, "_stream_reader", None)
            if reader is not None and reader._buffer:
                ssl_protocol._incoming.write(reader._buffer)
                reader._buffer.clear()
        transport.set_protocol(ssl_protocol)
        made = self.call_soon(ssl_protocol.connection_made, transport)
        resumed = self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            made.cancel()
            resumed.cancel()
            del waiter  # the error has this frame: no circle
            raise
        return ssl_protocol._app_transport

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: Any) -> Any:
        del self._transports[transp._sock_fd]
        resume_reading = transp.is_reading()
        transp.pause_reading()
        await transp._make_empty_waiter()
        transp._detach()
        try:
            return await self.sock_sendfile(transp._sock, file, offset, count, fallback=False)
        finally:
            transp._attach()
            transp._reset_empty_waiter()
            if resume_reading:
                transp.resume_reading()
            self._transports[transp._sock_fd] = transp

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connects a socket."""
        if type(sock) is not socket.socket:
            await super().sock_connect(sock, address)
            return
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            address = resolved[0][4]
        await self._connect_op(sock, address)

    async def _sock_sendfile_native(self, sock: Any, file: Any, offset: int, count: Any) -> int:
        if type(sock) is not socket.socket:
            return await super()._sock_sendfile_native(  # type: ignore[misc,no-any-return]
                sock, file, offset, count
            )
        try:
            fd = file.fileno()
            size = os.fstat(fd).st_size
        except (AttributeError, OSError):  # io.UnsupportedOperation is one
            raise exceptions.SendfileNotAvailableError("not a regular file") from None
        total = 0
        try:
            while (part := min((count or size) - total, _SENDFILE_AT_ONCE)) > 0:
                op = self._sendfile_op(sock, (fd, offset + total, part))
                try:
                    await op
                finally:
                    total += op.sent
                if op.sent < part:
                    break
                await asyncio.sleep(0)
        except OSError as exc:
            if not total:
                raise exceptions.SendfileNotAvailableError("os.sendfile call failed") from None
            if exc.errno == errno.ENOTCONN:
                raise ConnectionError("socket is not connected", errno.ENOTCONN) from exc
            raise
        finally:
            if count or size:  # also when nothing was left to send, as asyncio's newer versions do
                with contextlib.suppress(OSError):
                    os.lseek(fd, offset + total, os.SEEK_SET)
        return total

    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, *, sock: Any = None,
        **kwargs: Any,
    ) -> Any:
        """A server; its socket may be a treadle.Listener, which stays whose it is."""
        if isinstance(sock, _treadle.Listener):
            sock = socket.socket(fileno=os.dup(sock.fileno()))
            try:
                if sock.family != socket.AF_UNIX:
                    return await super().create_server(protocol_factory, host, port, sock=sock, **kwargs)
                if sys.version_info >= (3, 13):
                    kwargs.setdefault("cleanup_socket", False)
                return await self.create_unix_server(protocol_factory, sock=sock, **kwargs)
            except BaseException:
                sock.close()
                raise
        return await super().create_server(protocol_factory, host, port, sock=sock, **kwargs)

    # -- Accepting -----------------------------------------------------------

    def _accept_connection(
        self, protocol_factory: Any, sock: Any, sslcontext: Any = None, server: Any = None,
        backlog: int = 100, *timeouts: Any,
    ) -> None:
        """Takes what waits at a listener; as asyncio's, without a task for each
        connection that needs no handshake."""
        if sslcontext is not None and len(timeouts) > 2:  # with a context, as from 3.15 on
            super()._accept_connection(  # type: ignore[misc]
                protocol_factory, sock, sslcontext, server, backlog, *timeouts
            )
            return
        fd = sock.fileno()
        family, kind, proto = int(sock.family), int(sock.type), sock.proto
        known = family in _FAMILIES and type(sock) is socket.socket
        for _ in range(backlog):
            try:
                if known:
                    pair = _treadle._accept(fd)
                    if pair is None:
                        return
                    number, address = pair
                    conn = socket.socket(family, kind, proto, number)
                else:
                    conn, address = sock.accept()
            except ConnectionAbortedError:  # this one has gone again
                continue
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                if exc.errno not in _EXHAUSTED:
                    raise
                # The listener stays readable: it is left alone for a while.
                self.call_exception_handler(
                    {
                        "message": "socket.accept() out of system resource",
                        "exception": exc,
                        "socket": trsock.TransportSocket(sock),
                    }
                )
                self._remove_reader(fd)
                self.call_later(
                    constants.ACCEPT_RETRY_DELAY, self._serve_again, protocol_factory,
                    sock, sslcontext, server, backlog, *timeouts,
                )
                return
            if self._debug:
                logger.debug("%r got a new connection from %r: %r", server, address, conn)
            conn.setblocking(False)
            if sslcontext is not None:
                self.create_task(
                    self._accept_connection2(
                        protocol_factory, conn, {"peername": address}, sslcontext, server, *timeouts
                    )
                )
                continue
            # From CPython 3.15 on the last one is the context in which the server was made.
            context = timeouts[2].copy() if len(timeouts) > 2 and timeouts[2] else None
            self._serve(protocol_factory, conn, address, server, context)

    def _serve_again(self, protocol_factory: Any, sock: Any, *args: Any) -> None:
        if sock.fileno() >= 0:  # it was not closed meanwhile
            self._start_serving(protocol_factory, sock, *args)

    def _serve(
        self, protocol_factory: Any, conn: Any, address: Any, server: Any,
        context: contextvars.Context | None,
    ) -> None:
        protocol = None
        try:
            protocol = protocol_factory() if context is None else context.run(protocol_factory)
            self._make_socket_transport(
                conn, protocol, extra={"peername": address}, server=server, context=context
            )
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:  # noqa: BLE001 - as asyncio does
            conn.close()
            if self._debug:
                failure = {
                    "message": "Error on transport creation for incoming connection",
                    "exception": exc,
                }
                if protocol is not None:
                    failure["protocol"] = protocol
                self.call_exception_handler(failure)

    # -- Processes -----------------------------------------------------------

    async def _make_subprocess_transport(
        self, protocol: Any, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any,
        bufsize: int, extra: Any = None, **kwargs: Any,
    ) -> Any:
        """A child's end is heard by its pidfd: no handler for SIGCHLD, no thread."""
        if _watched_otherwise(self):
            return await super()._make_subprocess_transport(  # type: ignore[misc]
                protocol, args, shell, stdin, stdout, stderr, bufsize, extra=extra, **kwargs
            )
        waiter = self.create_future()
        transport = unix_events._UnixSubprocessTransport(  # type: ignore[attr-defined]
            self, protocol, args, shell, stdin, stdout, stderr, bufsize,
            waiter=waiter, extra=extra, **kwargs,
        )
        pid = transport.get_pid()
        pidfd = os.pidfd_open(pid)
        self._add_reader(pidfd, self._child_ended, pid, pidfd, transport)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await asyncio.shield(transport._wait())
            raise
        return transport

    def _child_ended(self, pid: int, pidfd: int, transport: Any) -> None:
        """In one step: from waitpid on the number may be another process's, and with the
        exit code known the transport signals it no more. What the pipes had was read when
        they were polled, before this."""
        self._remove_reader(pidfd)
        try:
            _, status = os.waitpid(pid, 0)
        except ChildProcessError:
            # Popen has waited for it, in poll(), which kill() and close() may call; or somebody else.
            returncode = transport._proc.returncode
            if returncode is None:
                returncode = 255
                logger.warning(
                    "child process pid %d exit status already read: will report returncode 255", pid
                )
        else:
            returncode = os.waitstatus_to_exitcode(status)
        finally:
            os.close(pidfd)
        transport._process_exited(returncode)


def _tls_protocol() -> Any:
    """Imported when needed: a Python without ssl has everything else."""
    from ._tls import SSLProtocol

    return SSLProtocol


@functools.cache
def _can_use_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def _watched_otherwise(loop: Any) -> bool:
    """Are children watched in asyncio's way: for want of pidfd, or since the program has
    chosen how (its policy's watcher, below CPython 3.14)?"""
    if sys.version_info >= (3, 14):
        return type(loop._watcher).__name__ != "_PidfdChildWatcher"
    if not _can_use_pidfd():
        return True
    watcher = getattr(asyncio.get_event_loop_policy(), "_watcher", None)
    usual = (unix_events.ThreadedChildWatcher, getattr(unix_events, "PidfdChildWatcher", None))
    return watcher is not None and type(watcher) not in usual
