# SPDX-License-Identifier: MIT
"""workers(): one coroutine function on several cores.

A worker is a thread. In a free-threaded Python it runs a loop of its own in the one
interpreter; elsewhere it runs an interpreter of its own, with its own lock (Python
3.12.4 and later), and what workers share is the core: SharedChan, and sockets by their
descriptors. Each worker has listeners and sockets under descriptors of its own in either
case, so that it closes but its own, and its own poller watches them.

Invariants. A worker's thread creates its interpreter, runs it and destroys it, so
that teardown needs nobody else. What is passed to it is pickled into a memory file
that the worker reads; a SharedChan goes by address, and the Workers object holds it
until the worker has ended. The pipe `control` belongs to the Workers object; its end
means stop. Python's exit waits for workers as for threads.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import io
import os
import pickle
import runpy
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Generator
from types import FunctionType, ModuleType, TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from . import _treadle
from ._loop import run
from ._procs import threads_run_at_once as _threads_run_at_once

T = TypeVar("T")
P = ParamSpec("P")

MAX = 1024
_MAIN = "__mp_main__"  # what multiprocessing calls the program's file where it is not the program


class WorkerTraceback(Exception):
    """The cause of an error that came from a worker: its traceback there, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


# -- What a build can do ----------------------------------------------------------------


def _interpreters() -> Any:
    """The module that makes interpreters; RuntimeError where it or its like is missing."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 12):
        raise RuntimeError(
            f"workers need Python 3.12.4: "
            f"in Python {version} all interpreters share one lock"
        )
    if sys.version_info < (3, 12, 4):
        raise RuntimeError(
            f"workers need Python 3.12.4: {version} frees memory of one interpreter in another "
            f"when asyncio was used in both"
        )
    return importlib.import_module(
        "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    )


def _create(interpreters: Any) -> Any:
    if sys.version_info >= (3, 13):
        return interpreters.create("isolated")
    return interpreters.create(isolated=True)


# -- What goes over ---------------------------------------------------------------------


def _of_one_loop(obj: Any) -> TypeError:
    what = "anything else" if _threads_run_at_once() else "what can be pickled"
    return TypeError(
        f"a {type(obj).__name__} belongs to one loop and cannot go to a worker; "
        f"what can are SharedChan, listeners, sockets and {what}"
    )


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, listeners: bool) -> None:
        super().__init__(file)
        self.listeners = listeners  # do they go over, or are they refused?
        self.copies: list[int] = []  # descriptors that are whose who reads this

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, _treadle.SharedChan):
            return "chan", obj._address
        if isinstance(obj, socket.socket):
            self.copies.append(os.dup(obj.fileno()))
            return "socket", self.copies[-1]
        if isinstance(obj, _treadle.Listener) and self.listeners:
            self.copies.append(os.dup(obj.fileno()))
            return "listener", self.copies[-1]
        if isinstance(obj, (_treadle.Listener, _treadle.Conn, _treadle.Chan)):
            raise _of_one_loop(obj)
        return None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        kind, value = pid
        if kind == "chan":
            return _treadle.SharedChan._from_address(value)
        if kind == "listener":
            return _treadle._adopt_listener(value)
        return socket.socket(fileno=value)

    def find_class(self, module: str, name: str) -> Any:
        if module == _MAIN and _MAIN not in sys.modules:
            module = "__main__"
        return super().find_class(module, name)


def _file(data: bytes) -> int:
    fd = os.memfd_create("treadle-worker")
    with open(os.dup(fd), "wb") as f:
        f.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _dump(value: Any, listeners: bool = False) -> bytes:
    data = io.BytesIO()
    pickler = _Pickler(data, listeners)
    try:
        pickler.dump(value)
    except BaseException:
        for fd in pickler.copies:
            os.close(fd)
        raise
    return data.getvalue()


def _load(data: bytes) -> Any:
    return _Unpickler(io.BytesIO(data)).load()


def _whence(main: Any) -> tuple[str, str, str | None]:
    """How a worker finds the function: its module's name, its own, and the program's file
    where that is the module."""
    module, name = getattr(main, "__module__", None), getattr(main, "__qualname__", "")
    found: Any = sys.modules.get(module) if module else None
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(main, FunctionType) or found is not main or module is None:
        raise ValueError(
            f"a worker, which has an interpreter of its own, finds its function by its name in a module: {main!r} has "
            f"none there (def it at the top level of one)"
        )
    if module != "__main__":
        return module, name, None
    program = sys.modules["__main__"]
    if program.__spec__ is not None:  # python -m
        return program.__spec__.name, name, None
    path = getattr(program, "__file__", None)
    if path is None or not os.path.exists(path):
        raise ValueError(f"{name} is in a program that has no file; put it into a module")
    return _MAIN, name, os.path.abspath(path)


# -- What goes over to a thread ---------------------------------------------------------


class _Copy:
    """A descriptor of a listener or socket, for one worker; opened in its loop."""

    def __init__(self, obj: Any) -> None:
        self.fd = os.dup(obj.fileno())
        self.open: Callable[[int], Any] = (
            _treadle._adopt_listener
            if isinstance(obj, _treadle.Listener)
            else lambda fd: socket.socket(fileno=fd)
        )

    def take(self) -> Any:
        fd, self.fd = self.fd, -1
        return self.open(fd)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _replaced(value: Any, what: Callable[[Any], Any]) -> Any:
    """The value, with what is of loops in it, or in lists, tuples and dicts, replaced."""
    if type(value) in (list, tuple):
        return type(value)(_replaced(v, what) for v in value)
    if type(value) is dict:
        return {k: _replaced(v, what) for k, v in value.items()}
    return what(value)


_loads_program = False  # does this interpreter, a worker's, run the program's file to find its function?


def _find(module: str, name: str, path: str | None) -> Any:
    global _loads_program
    if path is not None:
        program = ModuleType(_MAIN)
        sys.modules["__main__"] = sys.modules[_MAIN] = program
        _loads_program = True
        try:
            program.__dict__.update(runpy.run_path(path, run_name=_MAIN))
        finally:
            _loads_program = False
        found: Any = program
    else:
        found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


# -- In the worker ------------------------------------------------------------------------


class _Stopped(BaseException):
    """The worker was stopped, and its function let that happen."""


async def _until_stopped(start: Callable[[], Coroutine[Any, Any, T]], control: int) -> T:
    loop = asyncio.get_running_loop()
    coro = start()
    if not asyncio.iscoroutine(coro):
        raise TypeError(f"workers: the function returned {coro!r}: it must be an async function")
    g = _treadle.go(coro)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        loop.remove_reader(control)
        g.cancel()

    loop.add_reader(control, stop)
    try:
        return await g
    except asyncio.CancelledError:
        if stopped and g.cancelled():
            raise _Stopped from None
        raise
    finally:
        loop.remove_reader(control)


def _outcome(start: Callable[[], Coroutine[Any, Any, T]], control: int) -> tuple[str, Any]:
    try:
        return "result", run(_until_stopped(start, control))
    except _Stopped:
        return "stopped", None
    except BaseException as error:
        return "error", error


def _trimmed(error: BaseException) -> BaseException:
    """The error, with a traceback that begins in the program: what runs a worker is left out."""
    ours = os.path.dirname(__file__) + os.sep
    asyncios = os.path.dirname(asyncio.__file__) + os.sep
    where = error.__traceback__
    while where is not None and where.tb_frame.f_code.co_filename.startswith((ours, asyncios)):
        where = where.tb_next
    return error if where is None else error.with_traceback(where)


def _serve(given: int, answer: int, control: int) -> None:
    """What the interpreter of a worker runs."""
    with open(given, "rb") as f:
        data = f.read()
    try:
        sys.path[:], whence, rest = pickle.loads(data)
        main = _find(*whence)
        def start() -> Coroutine[Any, Any, Any]:
            args, kwargs = _load(rest)  # within the loop: listeners are of it
            return main(*args, **kwargs)  # type: ignore[no-any-return]

        kind, value = _outcome(start, control)
    except BaseException as error:
        kind, value = "error", error
    text = ""
    if kind == "error":
        text = "".join(traceback.format_exception(_trimmed(value)))
    try:
        said = _dump((kind, value, text))
        if kind == "error":
            _load(said)  # not every exception can be made again from its pickle
    except BaseException as error:
        if kind == "error":
            why = f"{type(value).__qualname__}: {value}"
        else:
            why, text = f"what the worker returned cannot be sent: {error}", ""
        said = _dump(("error", RuntimeError(why), text))
    with open(answer, "wb", closefd=False) as out:
        out.write(said)


# -- Outside --------------------------------------------------------------------------------


class Workers(Generic[T]):
    """Workers that were started by treadle.workers()."""

    def __init__(self, n: int, main: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._keep = (args, kwargs)
        self._lock = threading.Lock()
        self._left = n
        self._futures: list[concurrent.futures.Future[T | None]] = []
        if _threads_run_at_once():
            jobs = [self._in_thread(main, args, kwargs) for _ in range(n)]
        else:
            interpreters = _interpreters()
            whence = _whence(main)
            jobs = [self._in_interpreter(interpreters, whence, args, kwargs) for _ in range(n)]
        self._reading, self._control = os.pipe()
        self._open = True
        for i, job in enumerate(jobs):
            future: concurrent.futures.Future[T | None] = concurrent.futures.Future()
            future.set_running_or_notify_cancel()
            self._futures.append(future)
            name = f"treadle worker {i}"
            threading.Thread(target=self._work, args=(job, future), name=name).start()

    def __repr__(self) -> str:
        running = sum(not f.done() for f in self._futures)
        return f"<treadle.Workers: {len(self._futures)}, {running} running>"

    def _in_interpreter(
        self, interpreters: Any, whence: Any, args: Any, kwargs: Any
    ) -> Callable[[], tuple[str, Any]]:
        """Packs now, so that what cannot go over is said to the caller."""
        given = _file(pickle.dumps((sys.path, whence, _dump((args, kwargs), True))))

        def job() -> tuple[str, Any]:
            answer = os.memfd_create("treadle-worker")
            script = f"from treadle._workers import _serve\n_serve({given}, {answer}, {self._reading})\n"
            # The path first: treadle itself may be on it.
            script = f"import sys\nsys.path[:] = {sys.path!r}\n{script}"
            try:
                interpreter = _create(interpreters)
                try:
                    run_there = getattr(interpreters, "exec", None) or interpreters.run_string
                    failed = run_there(interpreter, script)
                finally:
                    interpreters.destroy(interpreter)
                with open(os.dup(answer), "rb") as f:
                    f.seek(0)
                    data = f.read()
            finally:
                os.close(answer)
            if not data:
                return "error", RuntimeError(f"the worker did not start: {failed}")
            kind, value, text = _load(data)
            if kind == "error":
                value.__cause__ = WorkerTraceback(text) if text else None
            return kind, value

        return job

    def _in_thread(self, main: Any, args: Any, kwargs: Any) -> Callable[[], tuple[str, Any]]:
        copies: list[_Copy] = []

        def give(value: Any) -> Any:
            if isinstance(value, (_treadle.Conn, _treadle.Chan)):
                raise _of_one_loop(value)
            if not isinstance(value, (_treadle.Listener, socket.socket)):
                return value
            copies.append(_Copy(value))
            return copies[-1]

        def take(value: Any) -> Any:
            return value.take() if isinstance(value, _Copy) else value

        try:
            given = _replaced((args, kwargs), give)
        except BaseException:
            for copy in copies:
                copy.close()
            raise

        def start() -> Coroutine[Any, Any, Any]:
            args, kwargs = _replaced(given, take)  # within the loop: listeners are of it
            return main(*args, **kwargs)  # type: ignore[no-any-return]

        def job() -> tuple[str, Any]:
            try:
                return _outcome(start, self._reading)
            finally:
                for copy in copies:
                    copy.close()

        return job

    def _work(
        self, job: Callable[[], tuple[str, Any]], future: concurrent.futures.Future[T | None]
    ) -> None:
        try:
            kind, value = job()
        except BaseException as error:
            kind, value = "error", error
        if kind == "error":
            self.stop()
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self.stop()
            os.close(self._reading)
            self._keep = ((), {})
        if kind == "error":
            future.set_exception(value)
        else:
            future.set_result(value)

    def stop(self) -> None:
        """Cancels the workers' functions. Those that end so have None as their result."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self._control)

    def _results(self) -> list[T | None]:
        errors = [e for f in self._futures if (e := f.exception()) is not None]
        if len(errors) > 1:
            raise BaseExceptionGroup("several workers failed", errors)
        if errors:
            raise errors[0]
        return [f.result() for f in self._futures]

    def join(self, timeout: float | None = None) -> list[T | None]:
        """Waits for all, and gives their results in order. The error of a worker is raised
        here (those of several as a group); its traceback is the text of its cause. TimeoutError
        when some still run after `timeout` seconds; they go on. RuntimeError where it would block
        an event loop: await the workers there."""
        if timeout != 0 and _in_loop() and not all(f.done() for f in self._futures):
            raise RuntimeError("join would block the event loop of this thread: await the workers instead")
        try:
            left = concurrent.futures.wait(self._futures, timeout).not_done
        except KeyboardInterrupt:
            self.stop()  # else the program's exit would wait for them
            raise
        if left:
            raise TimeoutError(f"{self!r} after {timeout} s")
        return self._results()

    async def _joined(self) -> list[T | None]:
        await asyncio.wait([asyncio.wrap_future(f) for f in self._futures])
        return self._results()

    def __await__(self) -> Generator[Any, Any, list[T | None]]:
        """join() for coroutines."""
        return self._joined().__await__()

    def __enter__(self) -> Workers[T]:
        if _in_loop():
            self.stop()
            raise RuntimeError("the end of this `with` would block the event loop of this thread: `async with` waits for workers there")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Waits for all; after an error in the block, stops them first, and so does Ctrl-C."""
        if error is None:
            try:
                self.join()
            except KeyboardInterrupt:
                concurrent.futures.wait(self._futures)
                raise
        else:
            self.stop()
            concurrent.futures.wait(self._futures)

    async def __aenter__(self) -> Workers[T]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """As the end of `with`; a cancellation stops them, too."""
        try:
            if error is None:
                await self
        except asyncio.CancelledError as cancelled:
            error = cancelled
            raise
        finally:
            if error is not None:
                self.stop()
                await asyncio.wait([asyncio.wrap_future(f) for f in self._futures])


def _in_loop() -> bool:
    return asyncio.events._get_running_loop() is not None


def workers(
    n: int, main: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
) -> Workers[T]:
    """Runs the coroutine function main(*args, **kwargs) on n workers, each on a core of its own
    as far as there are some: threads of this interpreter where Python is free-threaded, else
    interpreters of their own. RuntimeError where Python cannot have them.

        with treadle.workers(4, serve, "127.0.0.1:8080") as w:
            ...

    A SharedChan is the same channel everywhere. A listener or a socket, as an argument or in lists,
    tuples and dicts of them, is the same one under another descriptor, which is the worker's
    own: workers share the connections of a listener, or each listens with reuseport=True.
    Threads share everything else. In an interpreter of its own, nothing is shared but what is
    passed: main is found by its module and name, and arguments and results are pickled.

    The first error stops the others, and is raised where they are joined.
    """
    if not isinstance(n, int):
        raise TypeError(f"workers: a number from 1 to {MAX} is required, not {n!r}")
    if not 1 <= n <= MAX:
        raise ValueError(f"workers: 1 to {MAX}, not {n!r}")
    if not callable(main):
        if asyncio.iscoroutine(main):
            main.close()
            raise TypeError(
                f"workers: the async function itself is required, and its arguments after it, not {main!r}: "
                f"each worker calls it"
            )
        raise TypeError(f"workers: an async function was expected, got {main!r}")
    if _loads_program:
        raise RuntimeError(
            "workers() was called while a worker loads the program's file, to find its function there: "
            'put what is to run once behind `if __name__ == "__main__":`'
        )
    return Workers(n, main, args, kwargs)
