# SPDX-License-Identifier: MIT
"""CPython's own tests of an event loop, on treadle's. The other suites, and the
other interpreters, are run by tests/python/conformance."""

import asyncio
import json
import pathlib
import subprocess
import sys
import warnings

import pytest
import treadle

RUNNER = pathlib.Path(__file__).parent / "conformance/runner.py"


def test_layer_a():
    pytest.importorskip("test.test_asyncio", reason="this interpreter came without CPython's tests")
    done = subprocess.run([sys.executable, RUNNER, "layer_a", "--limit", "25"],
                          stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')]
    bad = [one for one in results if one["outcome"] not in ("pass", "skip")]
    assert not bad, "\n".join(f"{one['name']}: {one['outcome']}\n{one['text']}" for one in bad)
    assert len(results) >= 115


@pytest.fixture
def no_policy():
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(None)


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="there are no policies")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_policy(no_policy):
    async def main():
        return type(asyncio.get_running_loop())

    treadle.install()
    assert asyncio.run(main()) is treadle.Loop
    assert isinstance(asyncio.get_event_loop_policy(), treadle.EventLoopPolicy)
    loop = asyncio.new_event_loop()
    assert type(loop) is treadle.Loop
    loop.close()


def test_no_such_name():
    with pytest.raises(AttributeError, match="has no attribute 'Policy'"):
        treadle.Policy
