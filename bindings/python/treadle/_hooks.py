# SPDX-License-Identifier: MIT
"""The hooks by which asyncio's loop makes transports and uses sockets, on treadle's loop.

The loop's cold half (create_server, create_connection and the like) stays
asyncio's; what it calls for each connection, file and child is overridden here.
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
from asyncio import constants, exceptions, trsock, unix_events
from asyncio.log import logger
from typing import Any

from . import _treadle
from ._transports import DatagramTransport, ReadPipeTransport, SocketTransport, WritePipeTransport

# What accept() says when the process or the machine has no more.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# Of these the addresses are known to _treadle._accept.
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
# So much of a file goes to a socket that takes everything before others have their turn.
_SENDFILE_AT_ONCE = 4 * 1024 * 1024


# What asyncio's transport calls of its socket.
_SOCKET_CALLS = ("recv", "recv_into", "send", "sendmsg")


def _has_own_calls(sock: Any) -> bool:
    """Has its class its own way to read or write, which asyncio would call?"""
    kind = type(sock)
    if kind is socket.socket:
        return False
    plain = [(name, getattr(socket.socket, name)) for name in _SOCKET_CALLS]
    return any(getattr(kind, name, call) is not call for name, call in plain)


class Hooks(asyncio.SelectorEventLoop):
    """asyncio's loop with treadle's transports, accepting, sendfile and children."""

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
    ) -> Any:
        self._ensure_fd_no_transport(sock)
        if _has_own_calls(sock):
            kept = {} if context is None else {"context": context}
            return super()._make_socket_transport(  # type: ignore[misc]
                sock, protocol, waiter, extra=extra, server=server, **kept
            )
        return SocketTransport(self, sock, protocol, waiter, extra, server, context)

    def _make_datagram_transport(self, sock: Any, *args: Any, **kwargs: Any) -> DatagramTransport:
        self._ensure_fd_no_transport(sock)
        return DatagramTransport(self, sock, *args, **kwargs)

    def _make_read_pipe_transport(self, *args: Any, **kwargs: Any) -> ReadPipeTransport:
        return ReadPipeTransport(self, *args, **kwargs)

    def _make_write_pipe_transport(self, *args: Any, **kwargs: Any) -> WritePipeTransport:
        return WritePipeTransport(self, *args, **kwargs)

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
        context: contextvars.Context | None = None,
        **timeouts: Any,
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)
        ssl_protocol = _tls_protocol()(
            self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts
        )
        self._make_socket_transport(
            rawsock, ssl_protocol, extra=extra, server=server, context=context
        )
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
        if not isinstance(transp, SocketTransport):
            return await super()._sendfile_native(  # type: ignore[misc]
                transp, file, offset, count
            )
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
                    try:
                        conn = socket.socket(family, kind, proto, number)
                    except BaseException:  # no memory, or Ctrl-C
                        os.close(number)
                        raise
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
