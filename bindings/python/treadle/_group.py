# SPDX-License-Identifier: MIT
"""Once, ErrGroup and SingleFlight: coroutines around the core's halves.

The core says who does the work and who waits; what the work gave, objects and
exceptions, is kept here. Whoever has begun ends in a `finally`, so that nobody
waits for one that was cancelled or dropped.

No frame that an exception leaves has the running goroutine in a variable: with the
exception's traceback that is a circle, and an error that nobody awaits is told of only
when the handle goes.
"""

from __future__ import annotations

import asyncio
import traceback
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from . import _treadle
from ._context import Context, background, code_of, exception_of

T = TypeVar("T")

_first = threading.Lock()  # guards the errors of groups, whose goroutines may be on several Ps


async def _result(fn: Callable[..., Awaitable[T] | T], args: tuple[Any, ...]) -> T:
    if not callable(fn):
        hint = "; give the function itself, and its arguments after it" if inspect.isawaitable(fn) else ""
        raise TypeError(f"a function was expected, got {fn!r}{hint}")
    result = fn(*args)
    return await result if inspect.isawaitable(result) else result


class _Outcome(Generic[T]):
    """What a call gave: a value or an exception."""

    __slots__ = ("_value", "_error", "_tb")

    def __init__(self, value: T | None = None, error: Exception | None = None) -> None:
        self._value = value
        self._error = error
        self._tb = None if error is None else error.__traceback__

    @property
    def failed(self) -> Exception | None:
        return self._error

    def get(self) -> T:
        if self._error is not None:
            raise self._error.with_traceback(self._tb)
        return cast(T, self._value)


class Once(Generic[T]):
    """Something that is done once, in whatever loops: ``await once.do(fn)``."""

    def __init__(self) -> None:
        self._core = _treadle._Once()
        self._runner: asyncio.Task[Any] | None = None
        self._outcome: _Outcome[T] | None = None

    def __repr__(self) -> str:
        outcome = self._outcome
        if outcome is None:
            state = "under way" if self._runner is not None else "to be done"
        else:
            state = "done" if outcome.failed is None else f"done, failed: {outcome.failed!r}"
        return f"<Once {state} at {id(self):#x}>"

    @property
    def done(self) -> bool:
        """Whether it has been done."""
        return self._outcome is not None

    async def do(self, fn: Callable[..., Awaitable[T] | T], /, *args: Any) -> T:
        """Calls fn(*args), a function or coroutine function, if nobody has, and
        waits while another does. Each caller gets its result, or the exception
        that it raised. If the one who does it is cancelled, the next one does it.
        DeadlockError from within fn, for it would wait for itself.
        """
        while self._outcome is None:
            core = self._core
            if self._runner is not None and self._runner is asyncio.current_task():
                raise _treadle.DeadlockError(
                    f"{self._runner!r} would wait for itself: do() within the function of {self!r}"
                )
            if not await core.begin():
                continue
            self._runner = asyncio.current_task()
            try:
                self._outcome = _Outcome(value=await _result(fn, args))
            except Exception as e:
                self._outcome = _Outcome(error=e)
            finally:
                self._runner = None
                try:
                    if self._outcome is None:
                        self._core = _treadle._Once()
                finally:
                    core.end()
        return self._outcome.get()


class ErrGroup:
    """Goroutines that work on one thing, at most `limit` at a time.

    The first exception is the group's: it ends the group's context, with itself
    as cause, and wait() raises it. The others are not cancelled (a scope does
    that): they look at the context if they want to stop early. At the end of an
    ``async with`` it waits. If the body raises an exception, that ends the
    context, and is raised once all have ended; a cancellation does not wait.

        async with treadle.ErrGroup(limit=8) as eg:
            for url in urls:
                await eg.go(fetch(eg.context, url))
    """

    def __init__(self, context: Context | None = None, *, limit: int | None = None) -> None:
        parent = background() if context is None else context
        if not isinstance(parent, Context):
            raise TypeError(f"ErrGroup: a Context is required, not {type(parent).__name__}")
        self._core = _treadle._ErrGroup(parent._core, limit)
        self._context = Context(self._core.context(), parent)
        self._error: BaseException | None = None
        self._at_work: set[asyncio.Task[Any]] = set()
        self._limit = limit

    def __repr__(self) -> str:
        limit = "" if self._limit is None else f", limit {self._limit}"
        failed = "" if self._error is None else f", failed: {self._error!r}"
        return f"<ErrGroup {len(self._at_work)} at work{limit}{failed} at {id(self):#x}>"

    @property
    def context(self) -> Context:
        """Ends with the first exception, and when wait() has seen all end."""
        return self._context

    @property
    def _address(self) -> int:
        """The address of its tdl_errgroup, for embedding: valid as long as this object."""
        return self._core._address

    async def go(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> _treadle.G[T]:
        """Starts a goroutine of the group, and waits for a place first."""
        _coroutine(coro)
        try:
            await self._core.begin()
        except BaseException:
            coro.close()
            raise
        return self._start(coro, name)

    def try_go(
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None
    ) -> _treadle.G[T] | None:
        """Starts a goroutine of the group if there is a place; None, and the
        coroutine is closed, if there is none."""
        _coroutine(coro)
        if self._core.try_begin():
            return self._start(coro, name)
        coro.close()
        return None

    def set_limit(self, limit: int | None) -> None:
        """Changes the limit. RuntimeError while goroutines are at work."""
        self._core.set_limit(limit)
        self._limit = limit

    async def wait(self) -> None:
        """Waits until no goroutine of the group is at work, and ends the context.
        Raises the group's exception. DeadlockError in one of its goroutines."""
        if asyncio.current_task() in self._at_work:
            raise _treadle.DeadlockError(
                f"{asyncio.current_task()!r} would wait for itself: it is a goroutine of the group"
            )
        code = await self._core.wait()
        if self._error is not None:
            raise self._error
        if code != 0:
            raise exception_of(code, None)

    def _start(self, coro: Coroutine[Any, Any, T], name: str | None) -> _treadle.G[T]:
        try:
            work = _Work(self, coro)
        except BaseException:  # no memory
            self._core.done(0)
            raise
        try:
            g = _treadle.go(work.run(), name=name)
        except BaseException:
            work.ended(None)
            raise
        g.add_done_callback(work.ended)
        return g

    def _failed(self, error: BaseException) -> int:
        with _first:
            known = self._error
            if known is None:
                self._error = error
        if known is None:
            self._context.cancel(error)
        elif error is not known:
            text = "".join(traceback.format_exception_only(error)).strip()
            known.add_note(f"also failed in this group: {text}")
        return code_of(error)

    async def __aenter__(self) -> ErrGroup:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if exc is None:
            await self.wait()
            return
        self._context.cancel(exc)
        if not isinstance(exc, asyncio.CancelledError):
            await self._core.wait()


def _coroutine(coro: object) -> None:
    if not asyncio.iscoroutine(coro):
        hint = "; call it to get one" if callable(coro) else ""
        raise TypeError(f"a coroutine was expected, got {coro!r}{hint}")


class _Work(Generic[T]):
    """A coroutine of a group, and the place that it has and gives back once."""

    __slots__ = ("_group", "_coro", "_begun")

    def __init__(self, group: ErrGroup, coro: Coroutine[Any, Any, T]) -> None:
        self._group = group
        self._coro = coro
        self._begun = False

    async def run(self) -> T:
        group, code = self._group, 0
        me: Any = asyncio.current_task()
        self._begun = True
        try:
            group._at_work.add(me)
            return await self._coro
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as e:
            code = group._failed(e)
            raise
        finally:
            group._at_work.discard(me)
            me = None
            group._core.done(code)

    def ended(self, g: _treadle.G[T] | None) -> None:
        if not self._begun:  # cancelled before its first step, or not started at all
            self._begun = True
            self._coro.close()
            self._group._core.done(0)
        if g is not None and not g.cancelled():
            g.exception()  # the group has seen to it


class SingleFlight(Generic[T]):
    """Of those who want the same thing at the same time, in whatever loops, one
    does the work and all have its result."""

    def __init__(self) -> None:
        self._core = _treadle._SingleFlight()
        self._leading: set[tuple[bytes, asyncio.Task[Any] | None]] = set()

    def __repr__(self) -> str:
        return f"<SingleFlight {len(self._leading)} under way at {id(self):#x}>"

    async def do(self, key: str | bytes, fn: Callable[..., Awaitable[T] | T], /, *args: Any) -> T:
        """Calls fn(*args), a function or coroutine function, unless somebody is
        at it for this key: then waits, and gets the same result or exception.
        If the one who does it is cancelled, one of those who wait does it.
        DeadlockError from within fn, for it would wait for itself.
        """
        return (await self.do_shared(key, fn, *args))[0]

    async def do_shared(
        self, key: str | bytes, fn: Callable[..., Awaitable[T] | T], /, *args: Any
    ) -> tuple[T, bool]:
        """The same; also says whether others got the result, too."""
        k = _key(key)
        if (k, asyncio.current_task()) in self._leading:
            raise _treadle.DeadlockError(
                f"{asyncio.current_task()!r} would wait for itself: do({key!r}) within its own function"
            )
        while True:
            leads, given = await self._core.begin(k)
            if leads:
                break
            if given is not None:
                return cast("_Outcome[T]", given).get(), True
        outcome: _Outcome[T] | None = None
        others, mine = 0, None
        try:
            mine = (k, asyncio.current_task())
            self._leading.add(mine)
            outcome = _Outcome(value=await _result(fn, args))
        except Exception as e:
            outcome = _Outcome(error=e)
        finally:
            if mine is not None:
                self._leading.discard(mine)
                mine = None
            others = self._core.end(k, given, outcome)
        return outcome.get(), others > 0

    def forget(self, key: str | bytes) -> bool:
        """Who comes from now on does not join the work that is under way for
        this key, but starts anew. False: there was none."""
        k = _key(key)
        for mine in list(self._leading):
            if mine[0] == k:
                self._leading.discard(mine)
        return self._core.forget(k)


def _key(key: str | bytes) -> bytes:
    if isinstance(key, str):
        return key.encode(errors="surrogatepass")
    if isinstance(key, bytes):
        return key
    raise TypeError(f"SingleFlight: the key must be str or bytes, not {type(key).__name__}")
