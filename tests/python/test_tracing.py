# SPDX-License-Identifier: MIT
"""Tracers, profilers and debuggers see of a goroutine what they see of a task of asyncio's."""

import asyncio
import cProfile
import faulthandler
import pstats
import subprocess
import sys
import textwrap
import tracemalloc

import pytest
import treadle


async def helper(n):
    await asyncio.sleep(0)
    if n == 2:
        raise ValueError(n)
    return n


async def worker():
    total = 0
    for n in range(3):
        try:
            total += await helper(n)
        except ValueError:
            total += 10
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, 100)
    return total + await future


CODES = {helper.__code__: "helper", worker.__code__: "worker"}


async def waits_for(spawn):
    return await spawn(worker())


def both(record):
    """record(run) for a goroutine and for a task; what each has seen."""
    seen = []
    for spawn in (treadle.go, lambda coro: asyncio.get_running_loop().create_task(coro)):

        def run(spawn=spawn):
            with asyncio.Runner(loop_factory=treadle.new_event_loop) as runner:
                assert runner.run(waits_for(spawn)) == 111

        seen.append(record(run))
    return seen


def hooked(get, set_):
    def record(run):
        events = []

        def hook(frame, event, arg):
            if frame.f_code in CODES:
                events.append((CODES[frame.f_code], event, frame.f_lineno))
            return hook

        before = get()
        set_(hook)
        try:
            run()
        finally:
            set_(before)
        return events

    return record


@pytest.mark.parametrize("what", ["trace", "profile"])
def test_settrace_and_setprofile(what):
    goroutine, task = both(hooked(getattr(sys, "get" + what), getattr(sys, "set" + what)))
    assert goroutine == task
    assert [event for _, event, _ in goroutine].count("call") > 5


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with 3.12")
def test_monitoring():
    m = sys.monitoring
    tool = 4
    kinds = ["PY_START", "PY_RESUME", "PY_RETURN", "PY_YIELD", "PY_UNWIND", "RAISE", "EXCEPTION_HANDLED"]

    def record(run):
        events = []
        m.use_tool_id(tool, "treadle's test")
        try:
            for kind in kinds:
                m.register_callback(tool, getattr(m.events, kind),
                                    lambda code, *args, kind=kind: code in CODES and events.append((CODES[code], kind)))
            m.set_events(tool, sum(getattr(m.events, kind) for kind in kinds))
            run()
        finally:
            m.set_events(tool, 0)
            m.free_tool_id(tool)
        return events

    goroutine, task = both(record)
    assert goroutine == task and ("worker", "PY_RESUME") in goroutine


def test_cprofile():
    def calls(run):
        profile = cProfile.Profile()
        profile.runcall(run)
        return {name: n[1] for (_, _, name), n in pstats.Stats(profile).stats.items() if name in ("worker", "helper")}

    goroutine, task = both(calls)
    assert goroutine == task and goroutine["helper"] > 3


def test_tracemalloc_and_faulthandler(tmp_path):
    kept = []

    async def main():
        kept.append(bytearray(100_000))
        with open(tmp_path / "trace", "w") as f:
            faulthandler.dump_traceback(f)

    async def whole():
        await treadle.go(main())

    tracemalloc.start(5)
    try:
        treadle.run(whole())
        trace = tracemalloc.get_object_traceback(kept[0])
    finally:
        tracemalloc.stop()
    assert trace[-1].filename == __file__
    assert "in main" in (tmp_path / "trace").read_text()


@pytest.mark.parametrize("spawn", ["treadle.go", "asyncio.create_task"])
def test_pdb(tmp_path, spawn):
    """A breakpoint, steps over what waits, and the stack."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(f"""
        import asyncio
        import treadle

        async def work(value):
            breakpoint()
            await asyncio.sleep(0.001)
            value += 1
            await treadle.sleep(0.001)
            return value

        async def main():
            return await {spawn}(work(41))

        print("result", treadle.run(main()))
    """))
    p = subprocess.run([sys.executable, "-W", "ignore", program], input="n\nn\nn\np value * 1000\nw\nc\n",
                       capture_output=True, text=True, timeout=25)
    assert "42000" in p.stdout and "result 42" in p.stdout and "program.py(9)work()" in p.stdout, (p.stdout, p.stderr)
