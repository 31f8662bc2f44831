# SPDX-License-Identifier: MIT
"""The watchdog: who holds the loop is reported while he does."""

import asyncio
import os
import re
import threading
import time

import pytest
import treadle
from conftest import drive_run, script

END = 20  # seconds: what must come has come by then


def hold(hogs, doing=lambda: None):
    end = time.monotonic() + END
    while not hogs and time.monotonic() < end:
        doing()


async def inner(hogs, doing):
    await treadle.yield_()
    hold(hogs, doing)


async def outer(hogs, doing):
    await inner(hogs, doing)


def watched(drive, main, on_hog, limit=0.02):
    async def with_watchdog():
        treadle.watchdog(limit, on_hog)
        await main()

    if drive is drive_run:
        treadle.run(main(), watchdog=limit, on_hog=on_hog)
    else:
        drive(with_watchdog)


@pytest.mark.parametrize(
    "doing", [lambda: None, lambda: time.sleep(0.1)], ids=["computes", "blocks"]
)
def test_who_holds_the_loop(doing, drive):
    hogs, threads = [], []

    def on_hog(hog):
        hogs.append(hog)
        threads.append(threading.get_ident())

    async def main():
        await treadle.go(outer(hogs, doing), name="greedy")

    before = len(os.listdir("/proc/self/task"))
    watched(drive, main, on_hog)
    hog = hogs[0]
    assert hog.name == "greedy" and hog.seconds >= 0.02
    assert [frame.name for frame in hog.stack][:3] == ["outer", "inner", "hold"]
    assert threads[0] != threading.get_ident()
    assert "goroutine 'greedy' has held its event loop" in str(hog)
    assert len(os.listdir("/proc/self/task")) == before


def test_once_for_each_hold(drive):
    hogs = []

    async def main():
        hold(hogs)
        first = len(hogs)
        end = time.monotonic() + 0.15
        while time.monotonic() < end:
            pass
        assert len(hogs) == first == 1
        hogs.clear()
        await treadle.sleep(0.001)
        hold(hogs)
        assert len(hogs) == 1

    async def as_goroutine():
        await treadle.go(main())

    watched(drive, as_goroutine, hogs.append)


def test_a_loop_that_waits_holds_nobody_up(drive):
    """Tried again where the machine stood still meanwhile."""
    hogs = []

    async def main():
        for _ in range(5):
            hogs.clear()
            await treadle.sleep(0.4)
            if not hogs:
                return
        pytest.fail(f"{hogs[0]}")

    watched(drive, main, hogs.append, limit=0.15)


def test_a_callback_of_asyncio():
    hogs = []

    async def main():
        treadle.watchdog(0.02, hogs.append)
        await treadle.sleep(0)
        asyncio.get_running_loop().call_soon(hold, hogs)
        while not hogs:
            await treadle.sleep(0.001)
        treadle.watchdog(None)
        treadle.watchdog(50)

    treadle.run(main())
    ours = [frame.name for frame in hogs[0].stack if frame.name != "_debug_run"]  # which debug mode adds
    assert hogs[0].name is None and ours[0] == "hold"


@pytest.mark.parametrize("how", ["treadle.run", "asyncio.run"])
def test_stderr_and_the_environment(how):
    out = script(
        f"""
        import asyncio, io, sys, time, treadle
        sys.stderr = io.StringIO()

        async def greedy():
            await treadle.sleep(0.001)
            end = time.monotonic() + {END}
            while "held" not in sys.stderr.getvalue() and time.monotonic() < end:
                pass

        async def main():
            await treadle.go(greedy(), name="greedy")

        {how}(main())
        print(sys.stderr.getvalue())
        """,
        env={**os.environ, "TDL_DEBUG": "stacks,watchdog=20"},
    )
    assert out.returncode == 0, out.stderr
    assert re.search(r"treadle: goroutine 'greedy' has held its event loop for 0\.\d+ s", out.stdout)
    assert "in greedy" in out.stdout


def test_wrong_arguments():
    async def main():
        with pytest.raises(ValueError):
            treadle.watchdog(-1)
        with pytest.raises(TypeError):
            treadle.watchdog(1, "f")

    asyncio.run(main())
    for bad in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="watchdog"):
            treadle.run(main(), watchdog=bad)
    for bad in ("1", True):
        with pytest.raises(TypeError, match="watchdog"):
            treadle.run(main(), watchdog=bad)
    with pytest.raises(TypeError, match="on_hog"):
        treadle.run(main(), on_hog=1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        treadle.watchdog(1)
