# SPDX-License-Identifier: MIT
"""treadle's event loop, and run().

The loop is asyncio's selector loop whose ``select(timeout)`` is the host's
poll: goroutines are stepped in C inside it, and asyncio's own epoll descriptor
is one more thing that the host watches, so that every transport, signal
handler and executor of asyncio works unchanged.

Invariants. The host is opened by the thread that first runs the loop, and that
thread alone runs it. Goroutines that are left when a Runner ends are cancelled
and unwound in shutdown_asyncgens, which asyncio.Runner awaits before it closes
the loop.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from . import _treadle, _watchdog

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")

_EventList = list[tuple[selectors.SelectorKey, int]]


def _set_wakeup_fd(fd: int) -> int | None:
    """signal.set_wakeup_fd, or None where that is not to be had."""
    if threading.current_thread() is not threading.main_thread():
        return None
    try:
        return signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    except (ValueError, OSError):  # not the main interpreter
        return None


def _handles_interrupt() -> bool:
    """Is there a handler of the program's for Ctrl-C? (The core knows of those
    for other signals.)"""
    handler = signal.getsignal(signal.SIGINT)
    owner = getattr(getattr(handler, "func", None), "__self__", None)
    if isinstance(owner, asyncio.Runner):
        return False
    return callable(handler) and handler is not signal.default_int_handler


def _stack(coro: Any) -> str:
    """Where a coroutine waits, with all that it awaits; the innermost last."""
    frames = []
    while coro is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(coro, f"{kind}_frame", None)
            if frame is not None:
                frames.append((frame, frame.f_lineno))
                coro = getattr(coro, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:
            break
    return "".join(traceback.StackSummary.extract(frames).format())


class _Selector(selectors.BaseSelector):
    """asyncio's selector, polled through treadle's host once it is open."""

    def __init__(self) -> None:
        self._epoll = selectors.EpollSelector()
        self.host: _treadle._Host | None = None
        self.limit = _watchdog.limit_from_environment()
        self.on_hog: Callable[[_watchdog.Hog], object] | None = None
        self.stuck: Callable[[], bool] | None = None  # is asked when nothing seems to come any more

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.host is None:
            self.host = _treadle._open_host(loop, self._epoll.fileno())
            if self.limit is not None:
                _watchdog.start(self.host, self.limit, self.on_hog)
        elif not self.host.on_thread:
            raise RuntimeError("a treadle loop must be run by one thread only")

    @property
    def watches(self) -> bool:
        """Is there a descriptor besides that by which threads wake the loop?"""
        return len(self._epoll.get_map()) > 1

    def select(self, timeout: float | None = None) -> _EventList:
        if self.host is None:
            return self._epoll.select(timeout)
        if timeout is None and self.stuck is not None and not self.watches:
            ready = self.host.select(None, True)
            if ready is None and not self.stuck():
                ready = self.host.select(None)
        else:
            ready = self.host.select(timeout)
        return self._epoll.select(0) if ready else []

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        return self._epoll.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._epoll.unregister(fileobj)

    def modify(
        self, fileobj: FileDescriptorLike, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        return self._epoll.modify(fileobj, events, data)

    def get_key(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._epoll.get_key(fileobj)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._epoll.get_map()

    def close(self) -> None:
        if self.host is not None:
            self.host.close()
        self._epoll.close()


class Loop(asyncio.SelectorEventLoop):
    """An asyncio event loop that runs goroutines.

    Use it as ``asyncio.run(main(), loop_factory=treadle.new_event_loop)``.
    """

    def __init__(self) -> None:
        self._treadle = _Selector()
        super().__init__(self._treadle)

    def time(self) -> float:
        """The clock of call_later and of treadle.now(), also when it is simulated."""
        now = _treadle.now()
        # asyncio adds a nanosecond to it and asks what is due before that; which
        # is the same time again where a float is coarser than that, and a clock
        # that stands still would stay there.
        return now if now < 4e6 else math.nextafter(now, math.inf)

    def run_forever(self) -> None:
        """Runs until stop() is called. One thread only, the first that does."""
        self._check_closed()  # type: ignore[attr-defined]
        if asyncio.events._get_running_loop() is None:
            self._treadle.open(self)
        # A signal that comes between the look at it and the wait must end the
        # wait; asyncio's socket for signal handlers serves for that.
        ours: int = self._csock.fileno()  # type: ignore[attr-defined]
        before = _set_wakeup_fd(ours)
        try:
            super().run_forever()
        finally:
            if self._treadle.host is not None:
                self._treadle.host.rest()
            handlers: dict[int, Any] = self._signal_handlers  # type: ignore[attr-defined]
            if before is not None and not handlers:
                _set_wakeup_fd(before if before != ours else -1)

    def stop(self) -> None:
        """Ends run_forever after the callbacks that are due."""
        super().stop()
        if self._treadle.host is not None:
            self._treadle.host.interrupt()

    async def shutdown_asyncgens(self) -> None:
        """Cancels the goroutines that are left, waits for them, and closes
        asynchronous generators."""
        await self._unwind()
        await super().shutdown_asyncgens()

    async def _unwind(self) -> None:
        host = self._treadle.host
        while host is not None:
            left = [g for g in host.goroutines() if not g.done()]
            if not left:
                break
            for g in left:
                g.cancel()
            # wait() does not ask for results: errors are still reported
            await asyncio.wait(left)

    def _detect_deadlock(self) -> None:
        """Raises DeadlockError from now on when nothing can happen any more."""
        self._treadle.stuck = self._stuck

    def _stuck(self) -> bool:
        """Nothing in the process can wake a goroutine or a task: False when a
        descriptor or a handler of signals might, else the report, and the error."""
        handlers: dict[int, Any] = self._signal_handlers  # type: ignore[attr-defined]
        if handlers or _handles_interrupt() or self._treadle.watches:
            return False
        message = "all goroutines are asleep - deadlock!"
        host = self._treadle.host
        assert host is not None
        print(f"treadle: {message}\n", file=sys.stderr)
        goroutines = [g for g in host.goroutines() if not g.done()]
        for g in goroutines:
            print(f"{host.describe(g)}\n{_stack(g.get_coro())}", file=sys.stderr)
        for task in asyncio.all_tasks(self):
            if not isinstance(task, _treadle.G):
                print(f"{task!r}\n{_stack(task.get_coro())}", file=sys.stderr)
        sys.stderr.flush()
        if _treadle.num_goroutines() > len(goroutines):  # those of other languages
            _treadle.dump()
        raise _treadle.DeadlockError(message)

    def _spawn_main(self, coro: Coroutine[Any, Any, T], context: Any) -> _treadle.G[T]:
        self._treadle.open(self)
        assert self._treadle.host is not None
        return self._treadle.host.spawn(coro, "main", context)

    def _take_error(self) -> BaseException | None:
        host = self._treadle.host
        return None if host is None else host.take_error()


def new_event_loop() -> Loop:
    """A new treadle loop: a loop_factory for asyncio.run and asyncio.Runner."""
    return Loop()


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    watchdog: float | None = None,
    on_hog: Callable[[_watchdog.Hog], object] | None = None,
) -> T:
    """Runs main as a goroutine of a new loop and returns its result.

    Goroutines that are left when main has returned are cancelled and unwound
    before run returns. The first error of a goroutine that nobody awaited is
    raised at the end, unless main raised one itself. Ctrl-C cancels main and
    then raises KeyboardInterrupt. When everything waits and nothing in the process
    can wake anybody, the stacks of all go to stderr and DeadlockError is raised.
    RuntimeError where a loop is running already.

    With watchdog, or TDL_DEBUG=watchdog=100 (milliseconds) in the environment, who
    runs for longer than so many seconds without letting others run is reported,
    with a traceback: see treadle.watchdog().
    """
    try:
        _watchdog.check(watchdog, on_hog)
    except BaseException:
        if asyncio.iscoroutine(main):
            main.close()
        raise
    if asyncio.events._get_running_loop() is not None:
        raise RuntimeError("treadle.run() cannot be called from a running event loop")
    if not asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    loop = Loop()
    if watchdog is not None:
        loop._treadle.limit = watchdog
    loop._treadle.on_hog = on_hog

    def first_as_goroutine(
        _loop: asyncio.AbstractEventLoop, coro: Any, *, context: Any = None, **_kwargs: Any
    ) -> Any:
        loop.set_task_factory(None)
        return loop._spawn_main(coro, context)

    with asyncio.Runner(debug=debug, loop_factory=lambda: loop) as runner:
        runner.get_loop()
        loop._detect_deadlock()
        loop.set_task_factory(first_as_goroutine)
        result = runner.run(main)
        # Their errors are collected before the Runner closes the loop.
        runner.run(loop._unwind())
        error = loop._take_error()
    if error is not None:
        raise error
    return result
