# SPDX-License-Identifier: MIT
"""Contexts: they say that work is to end, from whatever thread or language.

A Context holds one of the core's, so that goroutines in C and Lua, and other
loops, can look at the same one. What only Python has is kept here: exceptions as
causes, and any object as key or value. Invariant: `_parent` is the Context whose
core this one's core was derived from, or None when that is not known to Python;
so the nearest value, and the exception behind a cause, are found by going up.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from . import _treadle
from ._after import _Later

_tokens = itertools.count(1)
_causes = threading.RLock()  # guards _tokens, and the causes of contexts that are not cancelled yet
_TOKENS = (1 << 24) - 1


class ContextCancelled(Exception):
    """A context was cancelled. `code` is treadle's or the system's, negated, and
    `detail` what the one who cancelled it said, or None."""

    def __init__(self, code: int = _treadle._ECANCELED, detail: object = None) -> None:
        self.code = code
        self.detail = detail
        text = "the context was cancelled"
        if code != _treadle._ECANCELED:
            text += f" ({_treadle._code_text(code)})"
        super().__init__(text if detail is None else f"{text}: {detail}")


def code_of(exc: BaseException) -> int:
    """What other languages are told of an exception."""
    if isinstance(exc, ContextCancelled):
        return exc.code
    if isinstance(exc, OSError) and exc.errno is not None and 0 < exc.errno < 4096:
        return -exc.errno
    return _treadle._ETIMEDOUT if isinstance(exc, TimeoutError) else _treadle._ECANCELED


def exception_of(code: int, detail: object) -> Exception:
    """The exception for a code of the core that is not 0."""
    if code == _treadle._ETIMEDOUT:
        return TimeoutError("the context's deadline has passed")
    if -4096 < code < 0:
        text = os.strerror(-code)
        return OSError(-code, text if detail is None else f"{text}: {detail}")
    return ContextCancelled(code, detail)


class _Body:
    """What runs under a context: a task that is cancelled when that ends."""

    def __init__(self, context: Context, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._before = task.cancelling()
        self._hit = self._left = False
        self._op = _treadle._launch(context.done())
        self._op.add_done_callback(self._ended)

    def _ended(self, op: _treadle.Op[None]) -> None:
        if not self._left and not op.cancelled():
            self._hit = True
            self._task.cancel()

    def leave(self) -> bool:
        """Whether a cancellation that leaves the body is the context's alone."""
        self._left = True
        self._op.cancel()
        return self._hit and self._task.uncancel() <= self._before


class Context:
    """Something that ends once: by cancel(), at its deadline, or with its parent.

    From background() on, contexts are derived from each other, and those that
    were derived end with theirs. Work that is given one looks at it: ``await
    ctx.done()``, ``ctx.done_op()`` in a select, ``ctx.check()``; or runs in an
    ``async with``, and is cancelled when the context ends:

        async with ctx.with_timeout(2.0) as c:
            await fetch(c)

    The context ends when the block does. If the block was cancelled because the
    context had ended, its cause is raised: TimeoutError at a deadline. Any
    thread may use it; with_timeout and with_deadline need a running loop, which
    counts the time.
    """

    __slots__ = (
        "__weakref__", "_body", "_core", "_entered", "_error", "_key", "_parent", "_token", "_value",
    )  # fmt: skip

    def __init__(self, core: _treadle._Context, parent: Context | None, /) -> None:
        if not isinstance(core, _treadle._Context):
            raise TypeError("contexts are derived from each other: begin with treadle.background()")
        self._core = core
        self._parent = parent
        self._key: Any = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._token = 0
        self._entered = False
        self._body: _Body | None = None

    @classmethod
    def _from_address(cls, address: int) -> Context:
        """A new holder of the tdl_context at this address, for embedding."""
        return cls(_treadle._Context._from_address(address), None)

    @property
    def _address(self) -> int:
        """The address of its tdl_context, valid as long as this object."""
        return self._core._address

    # -- Deriving

    def with_cancel(self) -> Context:
        """One that ends by its own cancel(), or with this one."""
        return Context(self._core.with_cancel(), self)

    def with_timeout(self, seconds: float) -> Context:
        """One that ends so many seconds from now, too."""
        return Context(self._core.with_timeout(seconds), self)

    def with_deadline(self, when: float) -> Context:
        """One that ends at that time of treadle.now(), too."""
        return Context(self._core.with_deadline(when), self)

    def with_value(self, key: object, value: object) -> Context:
        """One that carries a value for a key (hashable, not None).

        Other languages see it when both are what a SharedChan carries, but for
        dicts, lists and tuples.
        """
        if key is None:
            raise ValueError("the key of a context's value must not be None")
        hash(key)
        made = Context(self._core.with_value(key, value), self)
        made._key, made._value = key, value
        return made

    def without_cancel(self) -> Context:
        """One that has this one's values, and does not end."""
        return Context(self._core.without_cancel(), self)

    # -- Ending

    def cancel(self, cause: BaseException | None = None) -> bool:
        """Ends it, and all that were derived from it. True: it had not ended.

        The cause is what cause() gives. ValueError for one that has no end.
        """
        if cause is None:
            return self._core.cancel(0, None, 0)
        if not isinstance(cause, BaseException):
            raise TypeError(f"the cause must be an exception, not {cause!r}")
        text = f"{type(cause).__name__}: {cause}"
        with _causes:
            before = self._error, self._token
            self._error, self._token = cause, next(_tokens) % _TOKENS + 1
            done = self._core.cancel(code_of(cause), text, self._token)
            if not done:
                self._error, self._token = before
        return done

    def __enter__(self) -> Context:
        """``with ctx.with_cancel() as c``: c ends when the block does."""
        self._must_end()
        return self

    def __exit__(self, *exc: object) -> None:
        self.cancel()

    def _must_end(self) -> None:
        if not self._core.ends:
            raise ValueError("with: this context has no end; derive one by with_cancel or with_timeout")

    async def __aenter__(self) -> Context:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a context needs a goroutine or task to be entered")
        if self._entered:
            raise RuntimeError("a context can be entered once (derive one with with_cancel)")
        self._must_end()
        self._entered = True
        self._body = _Body(self, task)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        body, self._body = self._body, None
        assert body is not None
        ours = body.leave() and isinstance(exc, asyncio.CancelledError)
        body = None  # it has the goroutine, and the cause's traceback will have this frame
        cause = self.cause() if ours else None
        self._core.cancel(0, None, 0)
        if cause is not None:
            try:
                raise cause
            finally:
                del cause, exc

    # -- Looking

    @property
    def deadline(self) -> float | None:
        """When it ends by itself, on the clock of treadle.now(); None: never."""
        return self._core.deadline

    def err(self) -> Exception | None:
        """None until it ends; then ContextCancelled or TimeoutError."""
        code = self._core.err()
        return None if code == 0 else exception_of(code, None)

    def cause(self) -> BaseException | None:
        """None until it ends; then why: the exception that cancel() was given,
        or what says the same of a cause from another language."""
        code, detail, token = self._core.cause()
        if code == 0:
            return None
        at: Context | None = self if token else None
        while at is not None:
            if at._token == token:
                return at._error
            at = at._parent
        return exception_of(code, detail)

    def check(self) -> None:
        """Raises its cause if it has ended."""
        cause = self.cause()
        if cause is not None:
            raise cause

    def value(self, key: object, default: Any = None) -> Any:
        """The value of the nearest context that carries one for the key."""
        at = self
        while True:
            if at._key is not None and at._key == key:
                return at._value
            if at._parent is None:
                found, value = at._core.value(key)
                return value if found else default
            at = at._parent

    def done(self) -> _treadle.Op[None]:
        """``await ctx.done()``: waits until it has ended."""
        return self._core.wait()

    def done_op(self) -> _treadle.Case[None]:
        """Its end, as a case of select."""
        return self._core.done_op()

    def after_func(self, fn: Callable[..., object], /, *args: Any) -> Callable[[], bool]:
        """Calls fn(*args) in a goroutine of the running loop when it ends, or
        now if it has. Returns a function that takes that back: it gives True
        when fn was not started and will not be."""
        return _Later(self.done(), fn, args).stop

    def __repr__(self) -> str:
        err = self._core.err()
        state = "" if err == 0 else " ended"
        until = "" if self.deadline is None else f" until {self.deadline:.3f}"
        value = "" if self._key is None else f" {self._key!r}: {self._value!r}"
        return f"<Context{value}{until}{state} at {self._address:#x}>"


_background = Context(_treadle._Context.background(), None)


def background() -> Context:
    """The context that never ends, and that others are derived from."""
    return _background
