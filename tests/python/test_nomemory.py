# SPDX-License-Identifier: MIT
"""Allocations that fail: a sample of what ./dev check-python memory goes through."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("_testcapi")


def test_each_failure_is_told_and_nothing_is_lost():
    p = subprocess.run(
        [sys.executable, Path(__file__).with_name("nomemory.py"), "--every", "47", "channels", "groups_and_scopes"],
        capture_output=True,
        text=True,
        timeout=28,
        # in debug mode asyncio takes a stack for each callback, and the task whose stack fails is lost
        env={name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"},
    )
    assert p.returncode == 0, p.stdout + p.stderr
