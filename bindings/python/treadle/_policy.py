# SPDX-License-Identifier: MIT
"""treadle.EventLoopPolicy and treadle.install(), for programs that cannot say
loop_factory=treadle.new_event_loop. Python 3.14 deprecates event loop policies,
3.16 has none, and neither has treadle there."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from ._loop import new_event_loop

if TYPE_CHECKING:
    from asyncio import DefaultEventLoopPolicy as _Base
elif sys.version_info >= (3, 14):  # the public name warns
    from asyncio.unix_events import _DefaultEventLoopPolicy as _Base
else:
    from asyncio import DefaultEventLoopPolicy as _Base


class EventLoopPolicy(_Base):
    """asyncio's policy whose new loops are treadle's."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """treadle.new_event_loop()."""
        return new_event_loop()


def install() -> None:
    """Makes treadle's loop the one that asyncio makes when nobody says which:
    asyncio.set_event_loop_policy(treadle.EventLoopPolicy()). Where there is a choice,
    say loop_factory=treadle.new_event_loop instead, which concerns one run only."""
    asyncio.set_event_loop_policy(EventLoopPolicy())
