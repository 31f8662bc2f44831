# SPDX-License-Identifier: MIT
"""Treadle's loop under rloop's name, for rloop's tests."""

from treadle import EventLoopPolicy, Loop, install, new_event_loop

__all__ = ["EventLoopPolicy", "Loop", "install", "new_event_loop"]
