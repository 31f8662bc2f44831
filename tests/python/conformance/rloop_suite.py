# SPDX-License-Identifier: MIT
"""rloop's own tests (RLOOP_SOURCE: its source tree), which are pytest's, with
treadle's loop under rloop's name."""

import contextlib
import io
import os
import sys
import unittest

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))


class Item(unittest.TestCase):
    """One of pytest's tests."""

    def __init__(self, node):
        super().__init__()
        self.node = node

    def id(self):
        return self.node

    def runTest(self):
        said = io.StringIO()
        root = os.path.join(os.environ["RLOOP_SOURCE"], "tests")
        with contextlib.redirect_stdout(said):
            status = pytest.main(
                ["-q", "-p", "no:cacheprovider", "--rootdir", root, os.path.join(root, self.node)]
            )
        if status != 0:
            self.fail(said.getvalue())


class Collect:
    def __init__(self):
        self.nodes = []

    def pytest_collection_finish(self, session):
        self.nodes = [item.nodeid for item in session.items]


def load():
    sys.path.insert(0, os.path.join(HERE, "shims"))
    root = os.path.join(os.environ["RLOOP_SOURCE"], "tests")
    found = Collect()
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(
            ["-q", "--collect-only", "-p", "no:cacheprovider", "--rootdir", root, root], plugins=[found]
        )
    yield from (Item(node) for node in found.nodes)
