# SPDX-License-Identifier: MIT
"""Simulation, for tests:

    import treadle.sim

    def test_orders() -> None:
        treadle.sim.run(main, seeds=1000)

Each run is a treadle.run on a virtual clock, which moves only when every
goroutine waits, and in an order that a seed decides: the same seed gives the
same run. asyncio's own timers follow that clock, too. There is no network, and
no other thread is heard.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from . import _loop, _treadle


class _Options(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint32),
        ("strategy", ctypes.c_int32),
        ("seed", ctypes.c_uint64),
        ("procs", ctypes.c_int32),
        ("depth", ctypes.c_int32),
        ("max_steps", ctypes.c_uint64),
        ("start_ns", ctypes.c_int64),
        ("max_ns", ctypes.c_int64),
    ]


class _Report(ctypes.Structure):
    _fields_ = [
        ("seed", ctypes.c_uint64),
        ("hash", ctypes.c_uint64),
        ("steps", ctypes.c_uint64),
        ("switches", ctypes.c_uint64),
        ("ns", ctypes.c_int64),
        ("reason", ctypes.c_int32),
        ("result", ctypes.c_int32),
        ("left", ctypes.c_int32),
        ("text", ctypes.c_char_p),
        ("dump", ctypes.c_char_p),
    ]


_START = 1_000_000_000  # ns: a small time, as of a clock that counts from a machine's start
_STRATEGIES = {"random": 0, "pct": 1}

# The library that the extension has loaded; with the GIL held: nothing here waits.
_core = ctypes.PyDLL("libtreadle.so.0")
_core.tdl_abi_size.restype = ctypes.c_size_t
_core.tdl_strerror.restype = ctypes.c_char_p
for _name, _type in (("tdl_sim_options", _Options), ("tdl_sim_report", _Report)):
    if _core.tdl_abi_size(_name.encode()) != ctypes.sizeof(_type):
        raise ImportError(f"treadle.sim: the core has another {_name}")


@dataclass(frozen=True)
class Report:
    """Of the last run: its seed; a hash of all that was chosen, equal for equal
    runs; how many steps it took; how many seconds its clock moved. And how many
    runs there were."""

    seed: int
    hash: int
    steps: int
    time: float
    runs: int


def _one(main: Callable[[], Coroutine[Any, Any, Any]], options: _Options) -> _Report:
    report = _Report()
    gc.collect()  # what earlier runs have left is not to be freed in the middle of this one
    code = _core.tdl_sim_begin(ctypes.byref(options))
    if code < 0:
        raise RuntimeError(f"the simulation cannot begin: {_core.tdl_strerror(code).decode()}")
    try:
        coro = main()
        if not isinstance(coro, Coroutine):
            raise TypeError(f"sim.run: the function returned {coro!r}: it must be an async function")
        _loop.run(coro)
    finally:
        code = _core.tdl_sim_end(ctypes.byref(report))
    if code < 0:
        raise RuntimeError((report.text or b"").decode())
    return report


def wait() -> _treadle.Op[None]:
    """await wait(), inside a run: until every other goroutine waits or has ended,
    and asyncio has nothing to call; no time passes. RuntimeError outside a run, or
    while another goroutine is in it."""
    return _treadle._sim_wait()


def run(
    main: Callable[[], Coroutine[Any, Any, Any]],
    *,
    seed: int = 0,
    seeds: int = 1,
    strategy: str = "random",
    depth: int = 0,
    max_steps: int = 0,
    max_time: float = 0,
) -> Report:
    """Runs main() once for each of so many seeds. A run that fails (an exception,
    a deadlock, too many steps or too much virtual time) is raised with a note of
    its seed, and TREADLE_SEED in the environment repeats that one alone.

    strategy "random" changes between those that can go on, as often as the seed
    says; "pct" gives random priorities, with depth - 1 changes.
    """
    if strategy not in _STRATEGIES:
        raise ValueError('strategy must be "random" or "pct"')
    if not callable(main):
        if isinstance(main, Coroutine):
            main.close()
        raise TypeError(f"sim.run: the async function itself is required, which each run calls, not {main!r}")
    if seeds < 1:
        raise ValueError("seeds must be 1 or more")
    only = os.environ.get("TREADLE_SEED")
    if only is not None:
        seed, seeds = int(only), 1
    report = _Report()
    for number in range(seed, seed + seeds):
        options = _Options(
            size=ctypes.sizeof(_Options),
            strategy=_STRATEGIES[strategy],
            seed=number,
            depth=depth,
            start_ns=_START,
            max_steps=max_steps,
            max_ns=int(max_time * 1e9),
        )
        try:
            report = _one(main, options)
        except BaseException as error:
            note = f"treadle.sim: seed {number}; TREADLE_SEED={number} repeats it"
            if hasattr(error, "add_note"):
                error.add_note(note)
            else:
                print(note)
            raise
    return Report(report.seed, report.hash, report.steps, report.ns / 1e9, seeds)
