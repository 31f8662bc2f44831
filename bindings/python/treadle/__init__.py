# SPDX-License-Identifier: MIT
"""Go-style goroutines, channels and network I/O, on asyncio's event loop.

Everything that waits is awaitable from a goroutine (``treadle.go``), from the
main coroutine of ``treadle.run``, and from a plain ``asyncio.Task``: under
``treadle.run``, under ``asyncio.run(main(), loop_factory=treadle.new_event_loop)``,
and as a guest of any other loop that has ``add_reader``.

    import treadle

    async def send(ch: treadle.Chan[int]) -> None:
        await ch.send(1)

    async def main() -> None:
        ch: treadle.Chan[int] = treadle.Chan()
        treadle.go(send(ch))
        print(await ch.recv())

    treadle.run(main())

Times are in seconds. Cancellation is ``asyncio.CancelledError``, raised where
the goroutine waits; a value that was handed to it in that very turn is received
first.
"""

import sys as _sys
from typing import Any as _Any

try:
    from . import _treadle as _treadle
except ImportError as _error:
    if not str(_error).startswith("cannot import name"):
        raise
    raise ImportError(
        f"treadle has no extension module for {_sys.implementation.cache_tag} in {__path__[0]}: it was not built "
        f"(pip install .), or for another Python, or lies in an archive, from which none can be loaded"
    ) from None

from ._after import AfterFunc, after_func
from ._context import Context, ContextCancelled, background
from ._group import ErrGroup, Once, SingleFlight
from ._loop import Loop, new_event_loop, run
from ._scope import Scope, scope, timeout
from ._server import Server, ServerStats, serve
from ._system import Process, Signals, lookup, lookup_name, process, raw_mode, signals
from ._tlsconn import TLSConn, TLSListener, dial, listen, start_tls
from ._treadle import (
    Case,
    Chan,
    ChannelClosed,
    Closed,
    Cond,
    Conn,
    DeadlockError,
    Dgram,
    Fd,
    G,
    Lines,
    Listener,
    Mutex,
    Op,
    RWMutex,
    Semaphore,
    SharedChan,
    TcpInfo,
    Ticker,
    Timer,
    TooLong,
    Truncated,
    WaitGroup,
    adopt,
    after_op,
    dial_udp,
    dial_unixgram,
    dump,
    fault_count,
    fault_set,
    fd,
    go,
    listen_udp,
    listen_unixgram,
    metric,
    netpoll,
    now,
    num_goroutines,
    pipe,
    select,
    sleep,
    try_select,
    yield_,
)
from ._watchdog import Hog, watchdog
from ._workers import Workers, WorkerTraceback, workers
from .fs import File, open_file
from .io import copy

__version__ = "0.1.0"

__all__ = [
    "AfterFunc",
    "Case",
    "Chan",
    "ChannelClosed",
    "Closed",
    "Cond",
    "Conn",
    "Context",
    "ContextCancelled",
    "DeadlockError",
    "Dgram",
    "ErrGroup",
    "Fd",
    "File",
    "G",
    "Hog",
    "Lines",
    "Listener",
    "Loop",
    "Mutex",
    "Once",
    "Op",
    "Process",
    "RWMutex",
    "Scope",
    "Semaphore",
    "Server",
    "ServerStats",
    "SharedChan",
    "Signals",
    "SingleFlight",
    "TLSConn",
    "TLSListener",
    "TcpInfo",
    "Ticker",
    "Timer",
    "TooLong",
    "Truncated",
    "WaitGroup",
    "WorkerTraceback",
    "Workers",
    "adopt",
    "after_func",
    "after_op",
    "background",
    "copy",
    "dial",
    "dial_udp",
    "dial_unixgram",
    "dump",
    "fault_count",
    "fault_set",
    "fd",
    "go",
    "listen",
    "listen_udp",
    "listen_unixgram",
    "lookup",
    "lookup_name",
    "metric",
    "netpoll",
    "new_event_loop",
    "now",
    "num_goroutines",
    "open_file",
    "pipe",
    "process",
    "raw_mode",
    "run",
    "scope",
    "select",
    "serve",
    "signals",
    "sleep",
    "start_tls",
    "timeout",
    "try_select",
    "watchdog",
    "workers",
    "yield_",
]


if _sys.version_info < (3, 16):

    def __getattr__(name: str) -> _Any:
        # Not imported before they are asked for: Python 3.14 deprecates policies.
        if name in ("EventLoopPolicy", "install"):
            from . import _policy

            return getattr(_policy, name)
        raise AttributeError(  # with what Python needs to say which name was meant
            f"module {__name__!r} has no attribute {name!r}", name=name, obj=_sys.modules[__name__]
        )
