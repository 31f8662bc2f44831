# SPDX-License-Identifier: MIT
"""Treadle's loop under uvloop's name, for test suites that know no other (TDL_LOOP=stock
in the environment: asyncio's own). With UVLOOP_SOURCE in the environment, uvloop._testbase
is the one of that source tree."""

import os

from . import loop
from .loop import EventLoopPolicy, Loop, install, new_event_loop


def run(main, *, debug=None, **kwargs):
    import asyncio

    with asyncio.Runner(debug=debug, loop_factory=kwargs.get("loop_factory", new_event_loop)) as runner:
        return runner.run(main)


if "UVLOOP_SOURCE" in os.environ:
    __path__.append(os.path.join(os.environ["UVLOOP_SOURCE"], "uvloop"))

__all__ = ["EventLoopPolicy", "Loop", "install", "loop", "new_event_loop", "run"]
