# SPDX-License-Identifier: MIT
"""The loops that are compared. A program's first argument is one's name."""

import asyncio


def factory(name):
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    if name == "treadle":
        import treadle

        return treadle.new_event_loop
    raise SystemExit(f"no such loop: {name}")


def run(name, main):
    with asyncio.Runner(loop_factory=factory(name)) as runner:
        return runner.run(main)
