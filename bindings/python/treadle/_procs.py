# SPDX-License-Identifier: MIT
"""run(main(), procs=n): the goroutines of one run on n threads, in a free-threaded Python.

Each of the other Ps is a thread with a loop of its own, which runs from before main's first
step until all goroutines have ended and the first P's loop is closed. What is cancelled on
its loop then (tasks that goroutines have made there) ends on its own thread.

Invariants. `ended` is set once, by the first P's thread. Errors of goroutines that nobody saw on
the other Ps are in `errors` once their threads have been joined.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._loop import Loop

MAX = 64


def threads_run_at_once() -> bool:
    """Is this a free-threaded Python that runs without its lock?"""
    enabled: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return enabled is not None and not enabled()


def check(procs: int) -> None:
    """Raises what is wrong with the number, in this Python."""
    if not isinstance(procs, int) or isinstance(procs, bool):
        raise TypeError(f"procs must be an int, not {type(procs).__name__}")
    if not 1 <= procs <= MAX:
        raise ValueError(f"procs: 1 to {MAX}, not {procs}")
    if procs > 1 and not threads_run_at_once():
        version = ".".join(map(str, sys.version_info[:3]))
        raise RuntimeError(
            f"procs={procs} needs a free-threaded Python that runs without its lock, and this is "
            f"Python {version} with it: one thread at a time runs goroutines. Use "
            f"treadle.workers({procs}, main), which gives each worker an interpreter of its own"
        )


class Others:
    """The Ps beside the first: threads that have joined it, until stop()."""

    def __init__(self, first: Loop, n: int, make: Callable[[], Loop], debug: bool | None) -> None:
        self._first = first
        self._make = make
        self._debug = debug
        self._host = first._open_host()
        self._host._form(n)
        self._ended = False
        self._keepers: dict[Loop, asyncio.Future[None]] = {}
        self._threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []
        try:
            for i in range(1, n):
                self._start(i)
        except BaseException:
            self.stop()
            raise

    def _start(self, i: int) -> None:
        joined: concurrent.futures.Future[None] = concurrent.futures.Future()
        thread = threading.Thread(target=self._run, args=(joined,), name=f"treadle P {i}")
        self._threads.append(thread)
        thread.start()
        joined.result()

    def stop(self) -> None:
        """Ends them: no goroutine is left. Afterwards `errors` has what nobody saw."""
        self._ended = True
        for loop in list(self._keepers):
            with contextlib.suppress(RuntimeError):  # it is closed: its thread has failed
                loop.call_soon_threadsafe(self._release, loop)
        for thread in self._threads:
            if thread.ident is not None:  # Ctrl-C has come before it was started
                thread.join()
        self._host._end()

    def stacks(self) -> list[tuple[str, int]]:
        """What each says of its goroutines, and how many it has."""
        answers = []
        for loop in list(self._keepers):
            answer: concurrent.futures.Future[tuple[str, int]] = concurrent.futures.Future()
            loop.call_soon_threadsafe(self._answer, loop, answer)
            answers.append(answer)
        return [a.result(10) for a in answers]

    # -- On their threads

    def _run(self, joined: concurrent.futures.Future[None]) -> None:
        try:
            loop = self._make()
            with asyncio.Runner(debug=self._debug, loop_factory=lambda: loop) as runner:
                runner.get_loop()
                loop._open_host()._join(self._host)
                loop._stuck = lambda: False  # the first one says it
                # in whose context the handler is called is seen to there
                setattr(loop, "call_exception_handler", self._first.call_exception_handler)
                self._keepers[loop] = loop.create_future()
                joined.set_result(None)
                self._keep(runner, loop)
                error = loop._take_error()
            if error is not None:
                self.errors.append(error)
        except BaseException as error:
            if not joined.done():
                joined.set_exception(error)
            else:
                self.errors.append(error)

    def _keep(self, runner: asyncio.Runner, loop: Loop) -> None:
        while not self._ended:
            try:
                runner.run(self._until_ended(loop))
            except BaseException as error:  # SystemExit of a goroutine's: leaves the first loop
                with contextlib.suppress(RuntimeError):  # which may be closed
                    self._first.call_soon_threadsafe(self._raise, error)

    async def _until_ended(self, loop: Loop) -> None:
        loop._keeper = asyncio.current_task()
        if not self._ended:
            await asyncio.shield(self._keepers[loop])

    def _release(self, loop: Loop) -> None:
        keeper = self._keepers[loop]
        if not keeper.done():
            keeper.set_result(None)

    def _answer(self, loop: Loop, answer: concurrent.futures.Future[tuple[str, int]]) -> None:
        try:
            answer.set_result(loop._stacks())
        except BaseException as error:
            answer.set_exception(error)

    @staticmethod
    def _raise(error: BaseException) -> None:
        raise error
