# SPDX-License-Identifier: MIT
"""after_func(), and what contexts do alike: a function that is started as a
goroutine when an operation of the core has ended.

Nobody waits for that operation, so it costs no coroutine. Invariant: `_op` is
the operation that will start the function, or None; whoever sets it to None
decides what becomes of it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from . import _treadle


async def _call(fn: Callable[..., object], args: tuple[Any, ...]) -> None:
    result = fn(*args)
    if inspect.isawaitable(result):
        await result


class _Later:
    """Starts fn(*args) as a goroutine once `op` has ended, unless stopped."""

    __slots__ = ("_fn", "_args", "_op", "_loop")

    def __init__(
        self, op: _treadle.Op[None], fn: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        if not callable(fn):
            op.close()  # nobody is to be told that it was not awaited
            hint = "; give the function itself, and its arguments after it" if asyncio.iscoroutine(fn) else ""
            raise TypeError(f"a function was expected, got {fn!r}{hint}")
        self._fn = fn
        self._args = args
        self._loop = asyncio.get_running_loop()
        self._op: _treadle.Op[None] | None = None
        self._arm(op)

    def _arm(self, op: _treadle.Op[None]) -> None:
        self._op = _treadle._launch(op)
        self._op.add_done_callback(self._due)

    def _due(self, op: _treadle.Op[None]) -> None:
        if op is self._op and not op.cancelled():
            self._op = None
            _treadle.go(_call(self._fn, self._args))

    def stop(self) -> bool:
        """True: the function was not started, and will not be. False: it was,
        or had been stopped. Does not wait for a function that runs."""
        op, self._op = self._op, None
        if op is not None:
            op.cancel()
        return op is not None


class AfterFunc(_Later):
    """What after_func() returns."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<AfterFunc of {self._fn!r}: {'to be started' if self._op is not None else 'started or stopped'}>"

    def reset(self, seconds: float) -> bool:
        """Stops it, as stop() does, and starts it anew: also when the function
        has run. In its own loop only, else RuntimeError."""
        if asyncio.events._get_running_loop() is not self._loop:
            raise RuntimeError("reset: not in the event loop in which this after_func was made")
        op = _treadle.sleep(seconds)
        stopped = self.stop()
        self._arm(op)
        return stopped


def after_func(seconds: float, fn: Callable[..., object], /, *args: Any) -> AfterFunc:
    """Calls fn(*args) in a goroutine of its own, so many seconds from now.

    fn may be a coroutine function. An error that it raises is reported as that
    of any goroutine that nobody awaits. What is still to start when the loop is
    closed never does.
    """
    if callable(seconds):
        raise TypeError(f"after_func: the seconds come first, then the function, got {seconds!r}")
    return AfterFunc(_treadle.sleep(seconds), fn, args)
