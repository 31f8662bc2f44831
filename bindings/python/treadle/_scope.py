# SPDX-License-Identifier: MIT
"""Structured concurrency: scope() and timeout().

A Scope owns the goroutines that were started in it and does not end before
they have. Invariant: once `_aborting`, every goroutine of the scope has been
cancelled, and no further one may start. What asyncio's TaskGroup does about
the parent's cancellation count is done here alike, so that the two nest.

A scope has a context of the core when it was given one, or a deadline, or when
it is asked for; the end of that context, whoever ends it, is the scope's error.

In a run with several Ps all of it belongs to the P of the goroutine that the scope is in
(`_home` is its loop), but for go(), which goroutines on others may call, too: for those
`_lock` guards that nothing is added to `_left` once the scope is aborting or closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import traceback
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from . import _treadle
from ._context import Context, background

T = TypeVar("T")


def _seconds(value: float | None, what: str) -> float | None:
    """The number of seconds; TypeError, ValueError: it is none."""
    if value is not None:
        _treadle._seconds(value, what)
    return value


class Scope:
    """Made by scope(): ``async with treadle.scope() as s: s.go(coro)``."""

    def __init__(
        self,
        parent: Scope | Context | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> None:
        self._left: set[_treadle.G[Any]] = set()
        self._parent: asyncio.Task[Any] | None = None
        self._error: BaseException | None = None
        self._waiter: _treadle.Op[None] | None = None
        self._entered = self._exiting = self._closed = False
        self._aborting = self._cancelled_parent = False
        if parent is not None and not isinstance(parent, (Scope, Context)):
            raise TypeError(f"scope: the parent is a Scope or a Context, not {type(parent).__name__}")
        self._given = parent, _seconds(timeout, "timeout"), _seconds(deadline, "deadline")
        self._context: Context | None = None
        self._watch: _treadle.Op[None] | None = None
        self._home: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        states = (self._closed, "ended"), (self._aborting, "cancelled"), (self._entered, "active"), (True, "not entered")
        state = next(text for holds, text in states if holds)
        return f"<Scope {state}, {len(self._left)} running>"

    @property
    def context(self) -> Context:
        """Ends when the scope does or fails; ends the scope when it is cancelled.

        For what looks at a context, in other languages too, and for scopes that
        inherit the deadline. RuntimeError before the scope is entered.
        """
        if self._context is None:
            if not self._entered:
                raise RuntimeError("the scope has not been entered")
            self._make_context()
        assert self._context is not None
        return self._context

    @property
    def deadline(self) -> float | None:
        """When it is cancelled, on the clock of treadle.now(); None: never."""
        return None if self._context is None else self._context.deadline

    def _make_context(self) -> None:
        parent, timeout, deadline = self._given
        if isinstance(parent, Scope):
            parent = parent.context
        context = background() if parent is None else parent
        if deadline is not None:
            context = context.with_deadline(deadline)
        self._context = context.with_cancel() if timeout is None else context.with_timeout(timeout)
        if self._closed or self._aborting:
            self._context.cancel(self._error)
            return
        self._watch = _treadle._launch(self._context.done())
        self._watch.add_done_callback(self._context_ended)

    def go(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> _treadle.G[T]:
        """Starts a goroutine of this scope.

        RuntimeError when the scope has ended, or is being cancelled.
        """
        if self._home is not None:
            return self._go_among(self._home, coro, name)
        if not self._entered or self._closed or self._aborting:
            raise self._refusal(coro)
        g = _treadle.go(coro, name=name)
        try:
            g.add_done_callback(self._ended)
            self._left.add(g)
        except BaseException:  # no memory, or Ctrl-C
            g.cancel()
            raise
        return g

    def _go_among(
        self, home: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T], name: str | None
    ) -> _treadle.G[T]:
        with self._lock:
            if self._closed or self._aborting:
                raise self._refusal(coro)
            g = _treadle.go(coro, name=name)
            self._left.add(g)
        try:
            here = asyncio.get_running_loop() is home
            g.add_done_callback(self._ended if here else self._ended_elsewhere)
        except BaseException:  # no memory, or Ctrl-C
            g.cancel()
            with self._lock:
                self._left.discard(g)
            raise
        return g

    def _refusal(self, coro: Coroutine[Any, Any, Any]) -> RuntimeError:
        if asyncio.iscoroutine(coro):
            coro.close()
        why = "cancelled" if self._aborting else "not active" if self._entered else "not entered (async with treadle.scope() as s)"
        return RuntimeError(f"the scope is {why}: it cannot start a goroutine")

    async def __aenter__(self) -> Scope:
        if self._entered:
            raise RuntimeError("a scope can be entered once")
        self._parent = asyncio.current_task()
        if self._parent is None:
            raise RuntimeError("a scope needs a goroutine or task to run in")
        self._entered = True
        if _treadle._among():
            self._lock = threading.Lock()
            self._home = asyncio.get_running_loop()
            self._make_context()  # while only this goroutine can ask for it
        elif self._given != (None, None, None):
            self._make_context()
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
        circle = self._in_circle()
        while self._left or not self._close_among():
            self._waiter = _treadle._scope_op(self._those())
            try:
                await self._waiter
            except asyncio.CancelledError as again:
                if circle:  # what awaits this task passes its own cancellation on to it
                    self._parent.uncancel()
                    break
                if self._in_circle():  # which has come about since
                    break
                if not self._aborting:
                    cancelled = again
                    self._abort()
        self._waiter = None
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        if self._context is not None:
            self._context.cancel()
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

    def _those(self) -> set[_treadle.G[Any]]:
        if self._home is None:
            return self._left
        with self._lock:
            return set(self._left)

    def _close_among(self) -> bool:
        """Nobody on another P has started one in the end."""
        if self._home is None:
            return True
        with self._lock:
            self._closed = not self._left
            return self._closed

    def _abort(self) -> None:
        if self._home is None:
            self._aborting = True
        else:
            with self._lock:
                self._aborting = True
        try:
            if self._context is not None:
                self._context.cancel(self._error)
        finally:
            try:
                self._cancel_left()
            except MemoryError:  # for the iterator, by far the most likely
                self._cancel_left()

    def _cancel_left(self) -> None:
        for g in self._those():
            if not g.done():
                g.cancel()

    def _in_circle(self) -> bool:
        """Whether a goroutine of the scope waits for who waits for them here."""
        if not self._left or not _treadle._waits_for(self._those(), self._parent):
            return False
        self._fail(
            _treadle.DeadlockError(
                f"{self._parent!r} would wait for itself: a goroutine of its scope waits "
                "for it to end"
            )
        )
        return True

    def _fail(self, error: BaseException) -> None:
        """The error of something other than the body."""
        try:
            self._note_or_keep(error)
        finally:
            self._cancel_all()

    def _cancel_all(self) -> None:
        if not self._aborting:
            self._abort()
            if not self._exiting and self._parent is not None:
                self._cancelled_parent = True
                self._parent.cancel()

    def _ended(self, g: _treadle.G[Any]) -> None:
        self._left.discard(g)
        try:
            if not g.cancelled() and (exc := g.exception()) is not None:
                self._fail(exc)
        finally:
            if not self._left and self._waiter is not None:
                try:
                    self._waiter._wake()
                except MemoryError:  # of the call: it is not to wait for ever
                    self._waiter._wake()

    def _ended_elsewhere(self, g: _treadle.G[Any]) -> None:
        assert self._home is not None
        with contextlib.suppress(RuntimeError):  # its loop is closed: the run has ended
            self._home.call_soon_threadsafe(self._ended, g)

    def _context_ended(self, op: _treadle.Op[None]) -> None:
        if self._closed or self._aborting or op.cancelled():
            return
        assert self._context is not None
        cause = self._context.cause()
        assert cause is not None
        self._fail(cause)


def scope(
    parent: Scope | Context | None = None,
    /,
    *,
    timeout: float | None = None,
    deadline: float | None = None,
) -> Scope:
    """A scope of goroutines: ``async with treadle.scope() as s: s.go(coro)``.

    It ends when its body and all its goroutines have. The first error cancels
    the others and the body, and is raised as it is, later ones as its notes.
    A goroutine that was cancelled is no error.

    At the deadline (a time of treadle.now(), or so many seconds after the scope
    was entered) all are cancelled, and TimeoutError is raised. A scope or context
    that is given as the parent ends this one when it ends, with its cause as the
    error, and this one's deadline is no later than its. A scope that lies within
    another's body or goroutines ends with it in any case.
    """
    return Scope(parent, timeout, deadline)


def timeout(seconds: float | None) -> asyncio.Timeout:
    """``async with treadle.timeout(0.5)``: cancels the body after so many seconds (0 or
    less: at its first wait) and raises TimeoutError; None never does."""
    return asyncio.timeout(_seconds(seconds, "timeout"))
