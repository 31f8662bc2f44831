# SPDX-License-Identifier: MIT
"""Structured concurrency: scope() and timeout().

A Scope owns the goroutines that were started in it and does not end before
they have. Invariant: once `_aborting`, every goroutine of the scope has been
cancelled, and no further one may start. What asyncio's TaskGroup does about
the parent's cancellation count is done here alike, so that the two nest.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from . import _treadle

T = TypeVar("T")


class Scope:
    """Made by scope(): ``async with treadle.scope() as s: s.go(coro)``."""

    def __init__(self) -> None:
        self._left: set[_treadle.G[Any]] = set()
        self._parent: asyncio.Task[Any] | None = None
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._entered = self._exiting = self._closed = False
        self._aborting = self._cancelled_parent = False

    def go(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> _treadle.G[T]:
        """Starts a goroutine of this scope.

        RuntimeError when the scope has ended, or is being cancelled.
        """
        if not self._entered or self._closed or self._aborting:
            if asyncio.iscoroutine(coro):
                coro.close()
            why = "cancelled" if self._aborting else "not active"
            raise RuntimeError(f"the scope is {why}: it cannot start a goroutine")
        g = _treadle.go(coro, name=name)
        self._left.add(g)
        g.add_done_callback(self._ended)
        return g

    async def __aenter__(self) -> Scope:
        if self._entered:
            raise RuntimeError("a scope can be entered once")
        self._parent = asyncio.current_task()
        if self._parent is None:
            raise RuntimeError("a scope needs a goroutine or task to run in")
        self._entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._exiting = True
        assert self._parent is not None
        cancelled = exc if isinstance(exc, asyncio.CancelledError) else None
        if exc is not None:
            if cancelled is None:
                self._note_or_keep(exc)
            self._abort()
        if self._cancelled_parent:
            if cancelled is None:
                # Asked for, but the body ended first: let it arrive here.
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    pass
            if self._parent.uncancel() == 0:
                cancelled = None
        while self._left:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as again:
                if not self._aborting:
                    cancelled = again
                    self._abort()
        self._waiter = None
        self._closed = True
        error, self._error, self._parent = self._error, None, None
        try:
            if error is not None and error is not exc:
                raise error
            if cancelled is not None and cancelled is not exc:
                raise cancelled
        finally:
            del error, cancelled, exc

    def _note_or_keep(self, exc: BaseException) -> None:
        if self._error is None:
            self._error = exc
        elif exc is not self._error:
            text = "".join(traceback.format_exception_only(exc)).strip()
            self._error.add_note(f"also failed in this scope: {text}")

    def _abort(self) -> None:
        self._aborting = True
        for g in self._left:
            if not g.done():
                g.cancel()

    def _ended(self, g: _treadle.G[Any]) -> None:
        self._left.discard(g)
        if not g.cancelled() and (exc := g.exception()) is not None:
            self._note_or_keep(exc)
            if not self._aborting:
                self._abort()
                if not self._exiting and self._parent is not None:
                    self._cancelled_parent = True
                    self._parent.cancel()
        if not self._left and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def scope() -> Scope:
    """A scope of goroutines: ``async with treadle.scope() as s: s.go(coro)``.

    It ends when its body and all its goroutines have. The first error cancels
    the others and the body, and is raised as it is, later ones as its notes.
    A goroutine that was cancelled is no error.
    """
    return Scope()


def timeout(seconds: float | None) -> asyncio.Timeout:
    """``async with treadle.timeout(0.5)``: cancels the body after that long and
    raises TimeoutError; None never does."""
    return asyncio.timeout(seconds)
