# SPDX-License-Identifier: MIT
import asyncio
import os

if os.environ.get("TDL_LOOP") == "stock":
    Loop = new_event_loop = asyncio.SelectorEventLoop
    EventLoopPolicy = asyncio.DefaultEventLoopPolicy

    def install():
        asyncio.set_event_loop_policy(EventLoopPolicy())

else:
    from treadle import EventLoopPolicy, Loop, install, new_event_loop

__all__ = ["EventLoopPolicy", "Loop", "install", "new_event_loop"]
