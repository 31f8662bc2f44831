# SPDX-License-Identifier: MIT
"""uvloop's own tests (UVLOOP_SOURCE: its source tree), with treadle's loop under
uvloop's name. Their twins that test asyncio's loop are left out."""

import os
import sys
import unittest

from layer_b import flat

HERE = os.path.dirname(os.path.abspath(__file__))


def load():
    sys.path.insert(0, os.path.join(HERE, "shims"))
    tests = os.path.join(os.environ["UVLOOP_SOURCE"], "tests")
    os.environ["PYTHONPATH"] = os.path.join(HERE, "shims")  # for the programs that they start
    from uvloop import _testbase

    for test in flat(unittest.TestLoader().discover(tests, top_level_dir=tests)):
        if not isinstance(test, _testbase.AIOTestCase):
            yield test
