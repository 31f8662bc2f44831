# SPDX-License-Identifier: MIT
"""treadle's event loop, and run().

The loop is asyncio's selector loop with its hot parts in C (_treadle._LoopCore):
call_soon and its kind, timers, handles, the turns of the loop, and descriptors,
which are watched by the host's poller beside the goroutines. What is asked for
once in a while, and what is in Python in asyncio for its texts' sake, is asyncio's.

Invariants. The host is opened by the thread that first runs the loop, and that
thread alone runs it. Goroutines that are left when a Runner ends are cancelled
and unwound in shutdown_asyncgens, which asyncio.Runner awaits before it closes
the loop.
"""

from __future__ import annotations

import asyncio
import asyncio.format_helpers
import inspect
import selectors
import signal
import socket
import sys
import threading
import traceback
import warnings
from asyncio.base_events import _format_handle  # type: ignore[attr-defined]
from asyncio.format_helpers import _format_callback_source as _format_source
from asyncio.log import logger
from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from . import _procs, _treadle, _watchdog
from ._hooks import Hooks

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")

PATIENCE = 5.0  # seconds until the end says for what it waits


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
    """Where a coroutine waits, with all that it awaits, to a goroutine if there is one; the
    innermost last."""
    frames = []
    while coro is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(coro, f"{kind}_frame", None) if hasattr(coro, f"{kind}_code") else None
            if frame is not None:
                frames.append((frame, frame.f_lineno))
                coro = getattr(coro, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:
            break
    return "".join(traceback.StackSummary.extract(frames).format())


class _Ready:
    """loop._ready, for those who look at it: the queue itself is in C."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def __len__(self) -> int:
        return len(self._loop._ready_list())

    def __iter__(self) -> Iterator[asyncio.Handle]:
        return iter(self._loop._ready_list())

    def append(self, handle: asyncio.Handle) -> None:
        self._loop._add_callback(handle)

    def popleft(self) -> asyncio.Handle:
        return self._loop._ready_popleft()

    def clear(self) -> None:
        self._loop._ready_clear()


class _Scheduled(_Ready):
    """loop._scheduled: the timers, in no order but that the first comes first."""

    def __len__(self) -> int:
        return len(self._loop._timer_list())

    def __iter__(self) -> Iterator[asyncio.TimerHandle]:
        return iter(self._loop._timer_list())

    def clear(self) -> None:
        self._loop._timer_clear()


class _Selector(selectors.BaseSelector):
    """loop._selector, for those who look at it: who watches is the host."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._map: Any = selectors._SelectorMapping(self)  # type: ignore[attr-defined]

    @property
    def _fd_to_key(self) -> dict[int, selectors.SelectorKey]:
        keys = {}
        for fd, fileobj, reader, writer in self._loop._fd_list():
            events = (selectors.EVENT_READ if reader else 0) | (
                selectors.EVENT_WRITE if writer else 0
            )
            keys[fd] = selectors.SelectorKey(fileobj, fd, events, (reader, writer))
        return keys

    def _fileobj_lookup(self, fileobj: FileDescriptorLike) -> int:
        try:
            return selectors._fileobj_to_fd(fileobj)  # type: ignore[attr-defined,no-any-return]
        except ValueError:  # it was closed, and is found by itself
            for key in self._fd_to_key.values():
                if key.fileobj is fileobj:
                    return key.fd
            raise

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        raise RuntimeError("use add_reader and add_writer of the loop")

    unregister = register  # type: ignore[assignment]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return []

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._map  # type: ignore[no-any-return]

    def close(self) -> None:
        self._map = None  # which refers to self
        self._loop._close_host()


class _Stage:
    """What stands for a loop while the extension learns how asyncio's C calls call_soon."""

    call_soon = staticmethod(_treadle._learn_call)

    @staticmethod
    def get_debug() -> bool:
        return False


def _learn() -> None:
    future: asyncio.Future[None] = asyncio.Future(loop=_Stage())  # type: ignore[arg-type]
    future.add_done_callback(id)
    future.set_result(None)


_learn()

_Stock = asyncio.SelectorEventLoop  # as it is now: programs put other loops in its place
_SOURCE_TAKES_DEBUG = "debug" in inspect.signature(_format_source).parameters


class Loop(_treadle._LoopCore, Hooks):
    """An asyncio event loop that runs goroutines.

    Use it as ``asyncio.run(main(), loop_factory=treadle.new_event_loop)``.
    """

    # asyncio's
    _csock: socket.socket
    _signal_handlers: dict[int, Any]
    _current_handle: asyncio.Handle | None
    _check_running: Callable[[], None]
    _check_thread: Callable[[], None]
    _check_callback: Callable[[Any, str], None]

    def __init__(self) -> None:
        self._limit = _watchdog.limit_from_environment()
        self._on_hog: Callable[[_watchdog.Hog], object] | None = None
        self._others: _procs.Others | None = None
        self._keeper: asyncio.Task[None] | None = None
        super().__init__(_Selector(self))

    # asyncio's initialisation sets these
    _ready = property(_Ready, lambda self, value: None)
    _scheduled = property(_Scheduled, lambda self, value: None)

    def _open_host(self) -> _treadle._Host:
        fresh = self._host is None
        host = self._open()
        if fresh and self._limit is not None:
            _watchdog.start(host, self._limit, self._on_hog)
        return host

    def run_forever(self) -> None:
        """Runs until stop() is called. Without a lock, a loop is run by one thread
        only, the first that does, until that has ended."""
        self._check_closed()
        self._check_running()  # before asyncio does: some versions then undo what others run
        if _treadle._forked() and isinstance(leaving := sys.exc_info()[1], (SystemExit, KeyboardInterrupt)):
            raise leaving  # asyncio.Runner unwinds for it: a child that exits does so
        self._open_host()
        # A signal that comes between the look at it and the wait must end the
        # wait; asyncio's socket for signal handlers serves for that.
        ours: int = self._csock.fileno()
        before = _set_wakeup_fd(ours)
        # who has put another _run_once in front wants to be called for each turn
        mine = getattr(self._run_once, "__func__", None) is None and "_run_once" not in vars(self)
        self._enter(not mine)
        try:
            super().run_forever()
        finally:
            self._leave()
            if before is not None and not self._signal_handlers:
                _set_wakeup_fd(before if before != ours else -1)

    # -- What C asks for, seldom or in debug mode

    def _debug_call(self, callback: Any, method: str) -> traceback.StackSummary:
        if method != "call_soon_threadsafe":
            self._check_thread()
        self._check_callback(callback, method)
        return self._debug_stack()

    def _debug_stack(self) -> traceback.StackSummary:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename == __file__:
            frame = frame.f_back
        return asyncio.format_helpers.extract_stack(frame)

    def _debug_run(self, handle: asyncio.Handle) -> None:
        self._current_handle = handle
        try:
            began = self.time()
            handle._run()
            took = self.time() - began
            if took >= self.slow_callback_duration:
                logger.warning("Executing %s took %.3f seconds", _format_handle(handle), took)
        finally:
            self._current_handle = None
            del handle  # a failed task's traceback has this frame: no circle

    def _callback_failed(self, handle: Any, error: BaseException) -> None:
        kwargs = {"debug": self.get_debug()} if _SOURCE_TAKES_DEBUG else {}
        source = _format_source(handle._callback, handle._args, **kwargs)
        context = {
            "message": f"Exception in callback {source}",
            "exception": error,
            "handle": handle,
        }
        if handle._source_traceback:
            context["source_traceback"] = handle._source_traceback
        self.call_exception_handler(context)

    async def shutdown_asyncgens(self) -> None:
        """Cancels the goroutines that are left, waits for them, and closes
        asynchronous generators."""
        await self._unwind()
        await super().shutdown_asyncgens()

    async def _unwind(self) -> None:
        host = self._host
        while host is not None:
            left = [g for g in host.goroutines() if not g.done()]
            if not left:
                break
            for g in left:
                g.cancel()
            # wait() does not ask for results: errors are still reported
            _, stay = await asyncio.wait(left, timeout=PATIENCE)
            if stay:
                stacks = "".join(f"\n{g!r}\n{_stack(g.get_coro())}" for g in stay)
                logger.warning(
                    "The end waits for goroutines that were cancelled %s seconds ago and have not ended:%s",
                    PATIENCE, stacks.rstrip(),
                )
                await asyncio.wait(stay)

    def _detect_deadlock(self) -> None:
        """Raises DeadlockError from now on when nothing can happen any more."""
        self._stuck = self._look_if_stuck

    def _look_if_stuck(self) -> bool:
        """Nothing in the process can wake a goroutine or a task: False when a
        descriptor or a handler of signals might, else the report, and the error."""
        if self._signal_handlers or _handles_interrupt():
            return False
        message = "all goroutines are asleep - deadlock!"
        parts = [self._stacks()]
        if self._others is not None:
            parts += self._others.stacks()
        print(f"treadle: {message}\n", file=sys.stderr)
        print("".join(text for text, _ in parts), file=sys.stderr, end="", flush=True)
        if _treadle.num_goroutines() > sum(n for _, n in parts):  # those of other languages
            _treadle.dump()
        raise _treadle.DeadlockError(message)

    def _stacks(self) -> tuple[str, int]:
        """Where its goroutines and tasks wait, and how many goroutines there are."""
        host = self._host
        assert host is not None
        goroutines = [g for g in host.goroutines() if host.is_home(g) and not g.done()]
        text = [f"{host.describe(g)}\n{_stack(g.get_coro())}\n" for g in goroutines]
        for task in asyncio.all_tasks(self):
            if not isinstance(task, _treadle.G) and task is not self._keeper:
                text.append(f"{task!r}\n{_stack(task.get_coro())}\n")
        return "".join(text), len(goroutines)

    def _spawn_main(self, coro: Coroutine[Any, Any, T], context: Any) -> _treadle.G[T]:
        return self._open_host().spawn(coro, "main", context)

    def _take_error(self) -> BaseException | None:
        host = self._host
        return None if host is None else host.take_error()


def new_event_loop() -> asyncio.SelectorEventLoop:
    """A new treadle loop: a loop_factory for asyncio.run and asyncio.Runner.

    In the child of a fork of a process that has used treadle it is asyncio's own loop, with
    a RuntimeWarning: treadle's runtime does not exist there."""
    if _treadle._forked():
        warnings.warn(
            "treadle cannot be used in the child of a fork: this event loop is asyncio's own"
            " (start the child with spawn or exec)",
            RuntimeWarning,
            stacklevel=2,
        )
        return _Stock()
    return Loop()


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    watchdog: float | None = None,
    on_hog: Callable[[_watchdog.Hog], object] | None = None,
    procs: int = 1,
) -> T:
    """Runs main as a goroutine of a new loop and returns its result.

    Goroutines that are left when main has returned are cancelled and unwound
    before run returns. The first error of a goroutine that nobody awaited is
    raised at the end, unless main raised one itself. Ctrl-C cancels main and
    then raises KeyboardInterrupt; a second one raises it at once, where the program is. When everything waits and nothing in the process
    can wake anybody, the stacks of all go to stderr and DeadlockError is raised.
    RuntimeError where a loop is running already.

    With watchdog, or TDL_DEBUG=watchdog=100 (milliseconds) in the environment, who
    runs for longer than so many seconds without letting others run is reported,
    with a traceback: see treadle.watchdog().

    procs, in a free-threaded Python: the goroutines run on so many threads, each with a
    loop of its own. A goroutine begins on whichever has nothing else to do, and stays there; main
    stays on the caller's thread. RuntimeError for more than one where Python has a lock.
    """
    try:
        _watchdog.check(watchdog, on_hog)
        _procs.check(procs)
    except BaseException:
        if asyncio.iscoroutine(main):
            main.close()
        raise
    if asyncio.events._get_running_loop() is not None:
        raise RuntimeError("treadle.run() cannot be called from a running event loop")
    if not asyncio.iscoroutine(main):
        hint = "; call it to get one" if callable(main) else ""
        raise ValueError(f"a coroutine was expected, got {main!r}{hint}")

    def make() -> Loop:
        loop = Loop()
        if watchdog is not None:
            loop._limit = watchdog
        loop._on_hog = on_hog
        return loop

    loop = make()

    def first_as_goroutine(
        _loop: asyncio.AbstractEventLoop, coro: Any, *, context: Any = None, **_kwargs: Any
    ) -> Any:
        loop.set_task_factory(None)
        return loop._spawn_main(coro, context)

    others = None
    try:
        with asyncio.Runner(debug=debug, loop_factory=lambda: loop) as runner:
            runner.get_loop()
            loop._detect_deadlock()
            loop.set_task_factory(first_as_goroutine)
            if procs > 1:
                others = loop._others = _procs.Others(loop, procs, make, debug)
            result = runner.run(main)
            # Their errors are collected before the Runner closes the loop.
            runner.run(loop._unwind())
            error = loop._take_error()
    finally:
        if others is not None:
            others.stop()
            loop._others = None
    if error is None and others is not None and others.errors:
        error = others.errors[0]
    if error is not None:
        raise error
    return result
