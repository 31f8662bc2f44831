# SPDX-License-Identifier: MIT
"""Found first on the path of a project's tests and of every program they start: with
TDL_LOOP=treadle in the environment, the loop that asyncio makes when nobody says which is
treadle's. Otherwise nothing is changed."""

import os

if os.environ.get("TDL_LOOP") == "treadle":
    import asyncio

    import treadle

    asyncio.SelectorEventLoop = asyncio.unix_events.SelectorEventLoop = treadle.Loop
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = asyncio.unix_events.EventLoop = treadle.Loop
    for name in ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
        policy = getattr(asyncio.unix_events, name, None)
        if policy is not None:
            policy._loop_factory = staticmethod(treadle.new_event_loop)
