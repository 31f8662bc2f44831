# SPDX-License-Identifier: MIT
"""Treadle's loop under rloop's name, for rloop's tests."""

import asyncio
import os

if os.environ.get("TDL_LOOP") == "stock":
    new_event_loop = asyncio.SelectorEventLoop
else:
    from treadle import new_event_loop

__all__ = ["new_event_loop"]
