# SPDX-License-Identifier: MIT
"""Whole modules of CPython's test_asyncio, with treadle's loop as the one that
asyncio makes when nobody says which (TDL_LOOP=stock: as they are).

Left out are the modules that test the classes of asyncio's own loops, with
mocks in their parts: test_base_events, test_selector_events, test_unix_events,
test_proactor_events and test_windows_*.
"""

import asyncio
import importlib
import importlib.util
import os
import unittest

MODULES = """
    buffered_proto context eager_task_factory free_threading futures futures2 graph locks pep492
    protocols queues runners server sslproto ssl staggered streams subprocess taskgroups tasks
    threads timeouts tools transports waitfor
""".split()


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
            policy._loop_factory = treadle.Loop


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
    for name in MODULES:
        module = f"test.test_asyncio.test_{name}"
        if importlib.util.find_spec(module) is None:
            continue
        try:
            imported = importlib.import_module(module)
        except unittest.SkipTest:
            continue
        yield from flat(loader.loadTestsFromModule(imported))
