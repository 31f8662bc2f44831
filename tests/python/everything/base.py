# SPDX-License-Identifier: MIT
"""What the scenarios share."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import treadle

SCENARIOS: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
WHOLE: dict[str, Callable[[], None]] = {}
OWN_LOOP: set[str] = set()  # scenarios that need treadle's loop, not a guest in another
NOTHING = "/dev/null"


def scenario(function: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], Coroutine[Any, Any, None]]:
    SCENARIOS[function.__name__.rstrip("_")] = function
    return function


def own_loop(function: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], Coroutine[Any, Any, None]]:
    OWN_LOOP.add(function.__name__.rstrip("_"))
    return scenario(function)


def whole(function: Callable[[], None]) -> Callable[[], None]:
    WHOLE[function.__name__.rstrip("_")] = function
    return function


async def cancelled_in(make: Callable[[], Awaitable[Any]]) -> None:
    """A wait is cancelled: of a goroutine and of a task, before it began and while it waits,
    and in the very turn of its end."""

    async def wait() -> None:
        await make()

    for spawn in (treadle.go, asyncio.create_task):
        for turns in (0, 1, 3):
            g = spawn(wait())
            for _ in range(turns):
                await asyncio.sleep(0)
            g.cancel("why")
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await g


async def refused(kind: type[BaseException], awaitable: Awaitable[Any]) -> None:
    try:
        await awaitable
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was to be raised")


async def echo_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What asyncio.start_server calls."""
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    finally:
        writer.close()


async def pair() -> tuple[treadle.Conn, treadle.Conn]:
    async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
        async with treadle.scope() as s:
            far = s.go(listener.accept())
            near = await treadle.dial("tcp", f"127.0.0.1:{listener.port}")
        return near, far.result()


_tls: list[ssl.SSLContext] = []


def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's; made once."""
    if not _tls:
        with tempfile.TemporaryDirectory() as place:
            cert, key = f"{place}/cert.pem", f"{place}/key.pem"
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-days", "3", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                 "-keyout", key, "-out", cert],
                check=True, capture_output=True,
            )  # fmt: skip
            server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            server.load_cert_chain(cert, key)
            client.load_verify_locations(cert)
        _tls.extend((server, client))
    return _tls[0], _tls[1]
