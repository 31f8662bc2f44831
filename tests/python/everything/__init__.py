# SPDX-License-Identifier: MIT
"""A little of everything that the package can do, one scenario for each part.

Each scenario is a coroutine function that ends within some milliseconds, uses each
call of its part, also those that fail or are cancelled, and leaves nothing behind.
SCENARIOS has them by name: refs.py counts references over many rounds
of each, nomemory.py lets each allocation in them fail.
WHOLE has functions that make a loop of their own."""

import asyncio

import treadle

from . import goroutines, loop, network, system, whole  # noqa: F401
from .base import OWN_LOOP, SCENARIOS, WHOLE, tls_contexts

__all__ = ["OWN_LOOP", "SCENARIOS", "WHOLE", "in_guest", "in_loop", "in_run", "tls_contexts"]


def in_loop(name: str, debug: bool = False) -> None:
    """A scenario, in a loop of treadle's of its own; or a whole one."""
    if name in WHOLE:
        WHOLE[name]()
        return
    with asyncio.Runner(loop_factory=treadle.new_event_loop, debug=debug) as runner:
        runner.run(SCENARIOS[name]())


def in_run(name: str) -> None:
    """In a goroutine of treadle.run's."""
    if name in WHOLE:
        WHOLE[name]()
    else:
        treadle.run(SCENARIOS[name]())


def in_guest(name: str) -> None:
    """In asyncio's own loop, where that is possible."""
    if name in SCENARIOS and name not in OWN_LOOP:
        asyncio.run(SCENARIOS[name]())
