# SPDX-License-Identifier: MIT
"""What makes a loop of its own."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import treadle
from treadle import sim

from .base import whole
from .goroutines import channels, timers


@whole
def loops() -> None:
    loop = treadle.new_event_loop()
    try:
        loop.call_soon(loop.stop)
        loop.call_later(100, int)
        loop.run_forever()

        async def some() -> int:
            await asyncio.sleep(0)
            return 1

        assert loop.run_until_complete(some()) == 1
        repr(loop), loop.get_debug(), loop.is_running()
    finally:
        loop.close()


@whole
def runs() -> None:
    async def main() -> int:
        treadle.go(treadle.sleep(100))
        await treadle.yield_()
        return 1

    assert treadle.run(main()) == 1


@whole
def collected() -> None:
    """Goroutines that nobody can wake."""

    async def stuck() -> None:
        await treadle.Chan().recv()

    def told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "exception" in context:  # not that it was destroyed
            loop.default_exception_handler(context)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(told)
        treadle.go(stuck())
        await treadle.yield_()
        gc.collect()

    treadle.run(main())


@whole
def watched() -> None:
    async def main() -> None:
        await treadle.sleep(0.001)

    treadle.run(main(), watchdog=10)


@whole
def simulated() -> None:
    async def main() -> None:
        treadle.go(treadle.sleep(10))
        await sim.wait()
        await treadle.sleep(100)
        await asyncio.sleep(100)

    sim.run(main, seeds=2)


@whole
def guests() -> None:
    async def main() -> None:
        await channels()
        await timers()

    asyncio.run(main())


def with_workers() -> bool:
    return sys.version_info >= (3, 12, 4) or not getattr(sys, "_is_gil_enabled", lambda: True)()
