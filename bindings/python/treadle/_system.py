# SPDX-License-Identifier: MIT
"""Names, processes and signals."""

from __future__ import annotations

import os
import signal as _signal
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Union

from . import _treadle
from ._closing import Closing
from ._scope import scope

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Stdio = Union[Literal["inherit", "null", "pipe", "out"], int]

_STDIO = {"inherit": 0, "null": -1, "out": -2, "pipe": -3}
_WAYS = "'inherit', 'null', 'pipe' and for stderr 'out'"
_GROUP, _SESSION, _KILL = 1, 2, 4
_CHUNK = 1 << 16

# -- Names ---------------------------------------------------------------------


async def lookup(host: str, *, port: int | None = None, network: str = "tcp") -> list[str]:
    """The addresses of a host, in the order in which they are to be tried, as the system is
    configured; with a port as dial takes them. socket.gaierror when there are none."""
    return await _treadle._lookup(network, host, port or 0, port is not None)


async def lookup_name(address: str) -> str:
    """The name of an address. socket.gaierror when it has none."""
    return await _treadle._lookup_name(address)


# -- Processes -------------------------------------------------------------------


def _stdio(how: Stdio, name: str) -> int:
    if isinstance(how, str):
        if how not in _STDIO or (how == "out" and name != "stderr"):
            raise ValueError(f"{name}: one of {_WAYS}, or a descriptor's number, not {how!r}")
        return _STDIO[how]
    if how <= 0:
        raise ValueError(f"{name}: one of {_WAYS}, or a descriptor above 0 is required, not {how}")
    return how


class Process:
    """A child, from process(). ``async with`` waits for its end, and kills it when the block is
    left by an exception; it is never a zombie, whatever happens to this object."""

    def __init__(
        self,
        core: _treadle._Process,
        args: list[bytes],
        stdin: _treadle.Conn | None,
        stdout: _treadle.Conn | None,
        stderr: _treadle.Conn | None,
    ) -> None:
        self._core = core
        self._args = args
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None

    @property
    def pid(self) -> int:
        """Its number."""
        return self._core.pid

    async def wait(self) -> int:
        """What it returned; the negative number of the signal that ended it. Any number may
        wait; cancelled, or timed out by treadle.timeout, it runs on."""
        self.returncode = await self._core.wait()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To the process, or to its group. ProcessLookupError: it has ended."""
        self._core.kill(number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self._core.kill(_signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self._core.kill(_signal.SIGKILL)

    async def communicate(self, data: ReadableBuffer | None = b"") -> tuple[bytes, bytes]:
        """Writes data to its input, if that is a pipe, and closes it; reads its output and
        errors to their ends, and waits. What is no pipe is b"". ValueError: there is data, and no
        pipe for it."""
        if data is not None and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"communicate: a bytes-like object is required, not {type(data).__name__}")
        if data and self.stdin is None:
            raise ValueError('communicate: there is data, but the process was started without stdin="pipe"')
        out: list[bytes] = []
        err: list[bytes] = []
        async with scope() as s:
            if self.stdin is not None:
                s.go(_feed(self.stdin, data))
            if self.stdout is not None:
                s.go(_drain(self.stdout, out))
            if self.stderr is not None:
                s.go(_drain(self.stderr, err))
            await self.wait()
        return b"".join(out), b"".join(err)

    def close(self) -> None:
        """Closes the pipes. It runs on."""
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                self._stop()
            if self.stdin is not None:
                self.stdin.close()
            await self.wait()
        except BaseException:
            self._stop()
            raise
        finally:
            self.close()

    def _stop(self) -> None:
        try:
            self._core.kill(_signal.SIGKILL)
        except ProcessLookupError:
            pass

    def __repr__(self) -> str:
        return f"<treadle.Process {self.pid} {os.fsdecode(self._args[0])!r}>"


async def _feed(pipe: _treadle.Conn, data: ReadableBuffer | None) -> None:
    try:
        if data:
            await pipe.write(data)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it did not want all of it
    finally:
        pipe.close()


async def _drain(pipe: _treadle.Conn, parts: list[bytes]) -> None:
    while data := await pipe.read(_CHUNK):
        parts.append(data)


def process(
    args: Sequence[Path],
    *,
    stdin: Stdio = "inherit",
    stdout: Stdio = "inherit",
    stderr: Stdio = "inherit",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    group: bool = False,
    session: bool = False,
    kill: bool = False,
) -> Process:
    """Starts a program, found in PATH unless its name has a slash.

    Its standard descriptors are "inherit"ed, "null", a "pipe" (a Conn, then), a descriptor's
    number, and for stderr "out", where its output goes; it has no others. group: it leads a
    process group, which is what is killed then; session: a session, without a terminal;
    kill: it is killed when the object goes away. OSError with the name: it could not be started.
    """
    if isinstance(args, (str, bytes, os.PathLike)):
        raise TypeError(
            f"process: a list of the program and its arguments is required, not {args!r} "
            f"(shlex.split takes a line apart; a shell's is [\"sh\", \"-c\", line])"
        )
    argv = [os.fsencode(a) for a in args]
    if not argv or not argv[0]:
        raise ValueError("process: the name of a program is required")
    flags = _GROUP * group | _SESSION * session | _KILL * kill
    environment = None if env is None else [os.fsencode(f"{k}={v}") for k, v in env.items()]
    try:
        core, *pipes = _treadle._process_start(
            argv, environment, None if cwd is None else os.fsencode(cwd),
            _stdio(stdin, "stdin"), _stdio(stdout, "stdout"), _stdio(stderr, "stderr"), flags,
        )
    except OSError as e:
        if e.errno is None:
            raise
        what = argv[0] if cwd is None or os.path.isdir(cwd) else os.fsencode(cwd)
        raise OSError(e.errno, os.strerror(e.errno), os.fsdecode(what)) from None
    return Process(core, argv, *pipes)


# -- Signals ---------------------------------------------------------------------


class Signals(Closing):
    """Signals as they come, from signals(): ``async for number in …``; ``with`` or ``async
    with`` ends it. chan, a SharedChan of the numbers, is for select."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.chan: _treadle.SharedChan[int] = _treadle.SharedChan(16)
        self._closed = False
        try:
            for number in numbers:
                try:
                    _treadle._signal(self.chan, number, True)
                except ValueError:
                    raise ValueError(f"signals: {number} is no signal that can be caught") from None
        except BaseException:
            self.close()
            raise

    async def recv(self) -> int:
        """The next one's number. treadle.ChannelClosed once it is closed."""
        return await self.chan.recv()

    def close(self) -> None:
        """No more of them: what happened at these signals before does so again."""
        if not self._closed:
            self._closed = True
            _treadle._signal(self.chan, 0, False)
            self.chan.close()

    def __aiter__(self) -> Signals:
        return self

    async def __anext__(self) -> int:
        try:
            return await self.chan.recv()
        except _treadle.ChannelClosed:
            raise StopAsyncIteration from None

    def __enter__(self) -> Signals:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def signals(*numbers: int) -> Signals:
    """From now on these signals come here and do nothing else: no handler of Python's, no
    KeyboardInterrupt. One that comes while 16 are waiting is lost. ValueError: it cannot be caught."""
    if not numbers:
        raise ValueError("signals: at least one is required")
    for number in numbers:
        if not isinstance(number, int):
            raise TypeError(f"signals: numbers such as signal.SIGTERM are required, not {number!r}")
    return Signals(int(n) for n in numbers)


# -- Terminals -------------------------------------------------------------------


class raw_mode:
    """``with treadle.raw_mode(0):`` each key as it comes, unseen and without meaning. Set back at
    the end, which the end of the program is, too. OSError (ENOTTY) for what is no terminal."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        _treadle._tty_raw(self._fd, True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        _treadle._tty_raw(self._fd, False)
