# SPDX-License-Identifier: MIT
"""What the watchdog says of a goroutine that holds its loop.

The thread behind it is in C; it calls the function that start() makes, on that
thread, once for each stretch of time that is too long.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from . import _treadle

_PAUSE = 1.0  # seconds between two reports on stderr


@dataclass(frozen=True)
class Hog:
    """A goroutine, or a callback of asyncio, that did not let others run.

    `name` is the goroutine's, or None; `seconds` how long at least it has run so
    far; `stack` where it is, the innermost last: what it awaits is part of it. The
    stack is empty when it went on before it could be looked at, because it was in
    a call that kept the GIL.
    """

    name: str | None
    seconds: float
    stack: traceback.StackSummary

    def __str__(self) -> str:
        who = "a callback" if self.name is None else f"goroutine {self.name!r}"
        if not self.stack:
            return (
                f"treadle: the event loop was held for {self.seconds:.3f} s by a call that kept "
                "the GIL\n"
            )
        text = "".join(self.stack.format())
        return f"treadle: {who} has held its event loop for {self.seconds:.3f} s:\n{text}"


def _stack(ident: int) -> traceback.StackSummary:
    """The stack of a thread, from what its event loop called on."""
    frame = sys._current_frames().get(ident)
    frames = []
    while frame is not None:
        code = frame.f_code
        where = code.co_filename, code.co_name
        if where[1] == "_run" and where[0].endswith(os.path.join("asyncio", "events.py")):
            break
        if where[1] == "run_forever" and where[0].endswith(
            os.path.join("asyncio", "base_events.py")
        ):
            break
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return traceback.StackSummary.extract(reversed(frames))


def _reporter(on_hog: Callable[[Hog], object] | None) -> Callable[..., None]:
    last, left_out = -_PAUSE, 0

    def report(g: _treadle.G[object] | None, seconds: float, ident: int, went_on: bool) -> None:
        nonlocal last, left_out
        stack = traceback.StackSummary() if went_on else _stack(ident)
        hog = Hog(None if g is None else g.name, seconds, stack)
        if on_hog is not None:
            on_hog(hog)
            return
        now = _treadle.now()
        if now < last + _PAUSE:
            left_out += 1
            return
        more = f"(and {left_out} times more since the last report)\n" if left_out else ""
        last, left_out = now, 0
        if sys.stderr is not None:
            sys.stderr.write(f"{hog}{more}")
            sys.stderr.flush()

    return report


def limit_from_environment() -> float | None:
    """TDL_DEBUG=watchdog=100: milliseconds."""
    for item in os.environ.get("TDL_DEBUG", "").split(","):
        name, _, value = item.partition("=")
        if name.strip() == "watchdog":
            try:
                limit = float(value or 100) / 1000
            except ValueError:
                return None
            return limit if 0 < limit < 1e9 else None
    return None


def check(seconds: float | None, on_hog: Callable[[Hog], object] | None) -> None:
    if seconds is not None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"watchdog must be a number of seconds, not {seconds!r}")
        if not 0 < seconds < 1e9:
            raise ValueError(f"watchdog must be more than 0 seconds, not {seconds!r}")
    if on_hog is not None and not callable(on_hog):
        raise TypeError(f"on_hog must be a function, not {on_hog!r}")


def start(
    host: _treadle._Host, seconds: float | None, on_hog: Callable[[Hog], object] | None
) -> None:
    atexit.unregister(_treadle._stop_watchdogs)
    atexit.register(_treadle._stop_watchdogs)
    host.watch(seconds, _reporter(on_hog))


def from_environment(host: _treadle._Host) -> None:
    """For the host of a loop that is not treadle's."""
    limit = limit_from_environment()
    if limit is not None:
        start(host, limit, None)


def watchdog(seconds: float | None, on_hog: Callable[[Hog], object] | None = None) -> None:
    """Watches the running event loop: who runs for longer without letting others
    run is reported, with a traceback, on stderr (at most once a second), or by
    on_hog(hog), which is called on the watchdog's thread. None ends it.

    Under another loop than treadle's, goroutines are watched, and the loop's own
    callbacks are not.
    """
    check(seconds, on_hog)
    asyncio.get_running_loop()
    start(_treadle._host(), seconds, on_hog)
