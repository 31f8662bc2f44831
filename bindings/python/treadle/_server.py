# SPDX-License-Identifier: MIT
"""Servers whose connections are parked in the core between requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from ._closing import Closing
from ._scope import timeout as _timeout
from ._tlsconn import TLSListener
from ._treadle import Closed, Conn, G, Listener, Op, WaitGroup, _server, go


class ServerStats(NamedTuple):
    """What `Server.stats` tells."""

    conns: int
    """Connections there are."""
    busy: int
    """Of these: those that are being served."""
    accepted: int
    """Ever."""
    timeouts: int
    """Closed because they were idle."""
    starved: int
    """How often there was no descriptor, or memory, for one."""


class Server(Closing):
    """A server, from `serve`."""

    def __init__(
        self,
        listeners: tuple[Listener, ...],
        handler: Callable[[Conn], Coroutine[Any, Any, object]],
        idle_timeout: float | None,
        max_conns: int,
    ) -> None:
        self._core = _server(listeners, idle_timeout, max_conns)
        self._handler = handler
        self._serving: set[G[None] | asyncio.Task[Any]] = set()
        self._served = WaitGroup()
        self._loop = go(self._hand_out())

    def __repr__(self) -> str:
        stats = self.stats()
        return f"<Server of {self._handler!r}: {stats.conns} connections, {stats.busy} busy>"

    async def _hand_out(self) -> None:
        while True:
            conn = None
            try:
                conn = await self._core.next()
                go(self._serve(conn))
            except Closed:
                return
            except MemoryError as error:  # of one request: the server goes on
                if conn is not None:
                    conn.close()
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "no memory to serve a request", "exception": error}
                )

    async def _serve(self, conn: Conn) -> None:
        me, counted = None, False
        try:
            me = _current()
            self._serving.add(me)
            self._served.add(1)
            counted = True
            serving = self._handler(conn)
            if not isinstance(serving, Awaitable):
                raise TypeError(
                    f"serve: the handler returned {serving!r}, which cannot be awaited: {self._handler!r} must be an async function"
                )
            await serving
        except BaseException:
            conn.close()
            raise
        finally:
            self._serving.discard(me)
            me = None  # an error's traceback has this frame: no circle, so that it is told of at once
            if counted:
                self._served.done()
        self._core.park(conn)

    def _cancel(self) -> None:
        """All handlers but the calling one."""
        me = _current()
        for serving in list(self._serving):
            if serving is not me:
                serving.cancel()

    async def shutdown(self, timeout: float | None = None) -> None:
        """Closes the listeners and the parked connections, and waits until every
        request that is being served is done. When `timeout` seconds are over it cancels
        the handlers, whatever they wait in, closes their connections, and raises
        TimeoutError; another shutdown waits until they have ended."""
        try:
            async with _timeout(timeout):
                await self._core.shutdown(None)
                await self._served.wait()
        except TimeoutError:
            self.close()
            raise

    def close(self) -> None:
        """The same at once: every connection is closed, the other handlers are cancelled, nothing is waited
        for. May be repeated."""
        self._cancel()  # first, so that this is what they are told
        self._core.close()

    def stats(self) -> ServerStats:
        """How many connections there are, and the like."""
        return ServerStats(*self._core.stats())


def _current() -> Any:
    """The running goroutine or task; None outside of any."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def serve(
    listeners: Listener | Iterable[Listener],
    handler: Callable[[Conn], Coroutine[Any, Any, object]],
    *,
    idle_timeout: float | None = None,
    max_conns: int = 0,
) -> Server:
    """Serves a listener, or several: for each request of each connection, when its first
    byte has arrived, ``handler(conn)`` is run in a goroutine of its own. When it returns,
    the connection is parked until the next request; it may close it. An exception closes
    it, too. Between requests a connection takes fewer than 300 bytes.

    The listeners are the server's from then on; their addresses can still be asked for. `idle_timeout`: seconds that a connection may
    be parked; `max_conns`: how many there may be (0: any number), more wait in the backlog.
    """
    if max_conns < 0:
        raise ValueError("max_conns cannot be negative")
    if not callable(handler):
        raise TypeError(f"serve: the handler must be an async function, not {handler!r}")
    if isinstance(listeners, Op):
        raise TypeError("serve: a Listener is required; listen() is to be awaited")
    if isinstance(listeners, str):
        raise TypeError(f'serve: a Listener is required: await treadle.listen("tcp", {listeners!r})')
    if isinstance(listeners, TLSListener):
        raise TypeError("serve: takes plain connections; accept those of a TLSListener in a loop: async for conn in listener")
    several = (listeners,) if isinstance(listeners, Listener) else tuple(listeners)
    if not several:
        raise ValueError("serve expects a listener")
    return Server(several, handler, idle_timeout, max_conns)
