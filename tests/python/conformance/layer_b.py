# SPDX-License-Identifier: MIT
"""Whole modules of CPython's test_asyncio, with treadle's loop as the one that
asyncio makes when nobody says which (TDL_LOOP=stock: as they are).

Left out is what tests the classes of asyncio's own loops, with mocks in their parts:
test_selector_events, test_proactor_events, test_windows_*, most of test_base_events and of
test_unix_events; and of test_events what layer A has.
"""

import asyncio
import importlib
import importlib.util
import os
import unittest

MODULES = """
    buffered_proto context eager_task_factory events free_threading futures futures2 graph locks pep492
    protocols queues runners server sslproto ssl staggered streams subprocess taskgroups tasks
    threads timeouts tools transports waitfor
""".split()

# Modules of which only these classes count.
PARTS = {
    "base_events": ("BaseEventLoopWithSelectorTests", "BaseLoopSockSendfileTests", "RunningLoopTests"),
    "unix_events": (
        "SelectorEventLoopSignalTests",
        "SelectorEventLoopUnixSocketTests",
        "SelectorEventLoopUnixSockSendfileTests",
        "TestFunctional",
        "TestFork",
    ),
}
NOT = ("SelectEventLoopTests", "PollEventLoopTests", "EPollEventLoopTests", "KqueueEventLoopTests")


def install():
    """Treadle's loop in the places where asyncio has its own."""
    import treadle

    asyncio.SelectorEventLoop = treadle.Loop
    asyncio.unix_events.SelectorEventLoop = treadle.Loop
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = treadle.Loop
        asyncio.unix_events.EventLoop = treadle.Loop
    for name in ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
        policy = getattr(asyncio.unix_events, name, None)
        if policy is not None:
            policy._loop_factory = staticmethod(treadle.new_event_loop)


def flat(tests):
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def load():
    if os.environ.get("TDL_LOOP") != "stock":
        install()
    loader = unittest.TestLoader()
    for name in (*MODULES, *PARTS):
        module = f"test.test_asyncio.test_{name}"
        if importlib.util.find_spec(module) is None:
            continue
        try:
            imported = importlib.import_module(module)
        except unittest.SkipTest:
            continue
        for test in flat(loader.loadTestsFromModule(imported)):
            kind = type(test).__name__
            if kind in PARTS.get(name, (kind,)) and kind not in NOT:
                yield test
