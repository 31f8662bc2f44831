# SPDX-License-Identifier: MIT
"""CPython's own tests of an event loop, those that are written as mixins for any
loop, on treadle's (TDL_LOOP=stock in the environment: on asyncio's own)."""

import asyncio
import os
import unittest

from test.test_asyncio import (
    test_buffered_proto,
    test_events,
    test_sendfile,
    test_server,
    test_sock_lowlevel,
    test_sslproto,
)
from test.test_asyncio import utils as test_utils

if os.environ.get("TDL_LOOP") == "stock":
    new_event_loop = asyncio.SelectorEventLoop
else:
    from treadle import new_event_loop


# One class with the tests for every system from CPython 3.15 on.
EventsMixin = getattr(test_events, "UnixEventLoopTestsMixin", test_events.EventLoopTestsMixin)


class Events(EventsMixin, test_events.SubprocessTestsMixin, test_utils.TestCase):
    def create_event_loop(self):
        return new_event_loop()


class Sendfile(test_sendfile.SendfileTestsBase, test_utils.TestCase):
    def create_event_loop(self):
        return new_event_loop()


class SockLowlevel(test_sock_lowlevel.BaseSockTestsMixin, test_utils.TestCase):
    def create_event_loop(self):
        return new_event_loop()


class BufferedProtocol(test_buffered_proto.BaseTestBufferedProtocol, unittest.TestCase):
    def new_loop(self):
        return new_event_loop()


class StartServer(test_server.SelectorStartServerTests):
    def new_loop(self):
        return new_event_loop()


class StartTLS(test_sslproto.BaseStartTLS, unittest.TestCase):
    def new_loop(self):
        return new_event_loop()


def load():
    loader = unittest.TestLoader()
    for case in (Events, Sendfile, SockLowlevel, BufferedProtocol, StartServer, StartTLS):
        yield from loader.loadTestsFromTestCase(case)
