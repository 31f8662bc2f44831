# SPDX-License-Identifier: MIT
"""TLS on treadle's transports: asyncio's own protocol, with its fields and its
way for each read and write in C (transport_tls.c)."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import sslproto
from typing import Any

from . import _streams, _treadle

_write = _treadle._tls_use(
    ssl.SSLObject,
    ssl.SSLWantReadError,
    ssl.SSLSyscallError,
    sslproto.SSLProtocolState.WRAPPED,
)


class SSLTransport(sslproto._SSLProtocolTransport):
    """What the program's protocol has of a TLS connection."""

    write = _write


class SSLProtocol(_treadle._TLSCore, sslproto.SSLProtocol):
    """Between a transport and the program's protocol."""

    # asyncio's
    _do_handshake: Any
    _do_read: Any
    _do_flush: Any
    _do_shutdown: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # asyncio's buffer is only there for transports other than ours.
        vars(self)["max_size"] = 1
        super().__init__(*args, **kwargs)
        del vars(self)["max_size"]
        if type(self._app_protocol) is asyncio.StreamReaderProtocol and not self._loop.get_debug():
            _streams.prepare(self._app_protocol)

    def _get_app_transport(self) -> Any:
        if self._app_transport is None:
            if self._app_transport_created:
                raise RuntimeError("Creating _SSLProtocolTransport twice")
            self._app_transport = SSLTransport(self._loop, self)
            self._app_transport_created = True
        return self._app_transport

    def _received(self, data: bytes) -> None:
        """What buffer_updated does, for data that is not in asyncio's buffer."""
        self._incoming.write(data)
        self._go_on()

    def _go_on(self) -> None:
        state = self._state
        if state == sslproto.SSLProtocolState.DO_HANDSHAKE:
            self._do_handshake()
        elif state == sslproto.SSLProtocolState.WRAPPED:
            self._do_read()
        elif state == sslproto.SSLProtocolState.FLUSHING:
            self._do_flush()
        elif state == sslproto.SSLProtocolState.SHUTDOWN:
            self._do_shutdown()
