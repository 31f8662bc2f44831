# SPDX-License-Identifier: MIT
"""Simulation: the virtual clock, the order by seed, ends, misuse."""

import asyncio
import os
import subprocess
import sys
import time

import pytest

import treadle
import treadle.sim


def test_g1_the_clock_moves_by_what_is_slept_and_takes_no_time() -> None:
    async def main() -> None:
        at = treadle.now()
        assert at == 1.0
        for _ in range(500):
            await treadle.sleep(3600)
            await asyncio.sleep(3600)
        assert abs(treadle.now() - at - 1000 * 3600) < 1e-3
        assert abs(asyncio.get_running_loop().time() - treadle.now()) < 1e-6

    began = time.perf_counter()
    report = treadle.sim.run(main)
    assert abs(report.time - 1000 * 3600) < 1e-3
    assert report.runs == 1
    assert time.perf_counter() - began < 20


def test_g5_a_seed_repeats_its_run() -> None:
    log: list[int] = []

    async def writes(i: int) -> None:
        for _ in range(3):
            log.append(i)
            await treadle.yield_()

    async def main() -> None:
        log.clear()
        for i in range(5):
            treadle.go(writes(i))
        await treadle.sleep(1)

    def once(seed: int) -> tuple[int, list[int]]:
        report = treadle.sim.run(main, seed=seed)
        assert report.seed == seed
        return report.hash, list(log)

    first = [once(seed) for seed in range(10)]
    assert [once(seed) for seed in range(10)] == first
    assert len({tuple(entry[1]) for entry in first}) > 5


def test_g2_wait_returns_when_all_others_wait_and_no_time_has_passed() -> None:
    async def main() -> None:
        ch: treadle.Chan[int] = treadle.Chan()
        seen: list[str] = []

        async def steps() -> None:
            for _ in range(5):
                await treadle.yield_()
            seen.append("goroutine")
            seen.append(str(await ch.recv()))

        async def task() -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append("task")

        treadle.go(steps())
        other = asyncio.create_task(task())
        at = treadle.now()
        await treadle.sim.wait()
        assert sorted(seen) == ["goroutine", "task"]
        assert treadle.now() == at
        await ch.send(1)
        await treadle.sim.wait()
        assert seen[-1] == "1"
        await other

    treadle.sim.run(main, seeds=50)

    async def waits() -> None:
        await treadle.sim.wait()

    async def two() -> None:
        first = treadle.go(waits())
        with pytest.raises(RuntimeError, match="another goroutine is in it"):
            await treadle.sim.wait()
        await first

    treadle.sim.run(two)

    async def outside() -> None:
        with pytest.raises(RuntimeError, match="outside sim.run"):
            await treadle.sim.wait()

    treadle.run(outside())


def test_g12_a_fault_is_found_and_its_seed_repeats_it() -> None:
    async def main() -> None:
        ch: treadle.Chan[str] = treadle.Chan(1)

        async def sends() -> None:
            await treadle.yield_()
            await ch.send("late")

        treadle.go(sends())
        for _ in range(2):
            await treadle.yield_()
        assert len(ch) == 1, "not there yet"

    with pytest.raises(AssertionError, match="not there yet") as caught:
        treadle.sim.run(main, seeds=100)
    (note,) = caught.value.__notes__
    seed = int(note.split("TREADLE_SEED=")[1].split()[0])
    with pytest.raises(AssertionError, match="not there yet"):
        treadle.sim.run(main, seed=seed)


def test_g6_a_deadlock_and_a_spinning_goroutine_end_the_run(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def waits() -> None:
        await treadle.Chan[int]().recv()

    async def spins() -> None:
        while True:
            await treadle.yield_()

    async def sleeps() -> None:
        while True:
            await treadle.sleep(60)

    with pytest.raises(treadle.DeadlockError):
        treadle.sim.run(waits)
    assert "all goroutines are asleep" in capfd.readouterr().err
    with pytest.raises(Exception):
        treadle.sim.run(spins, max_steps=1000)
    with pytest.raises(Exception):
        treadle.sim.run(sleeps, max_time=3600)

    async def fine() -> None:
        await treadle.sleep(1)

    assert treadle.sim.run(fine).time == 1


def test_g13_what_cannot_be_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError):
            treadle.sim.run(main)
        with pytest.raises(OSError):
            await treadle.listen("tcp", "127.0.0.1:0")

    with pytest.raises(ValueError, match="strategy"):
        treadle.sim.run(main, strategy="luck")
    with pytest.raises(ValueError, match="seeds"):
        treadle.sim.run(main, seeds=0)


def test_the_environment_chooses_the_seed() -> None:
    program = (
        "import treadle, treadle.sim\n"
        "async def main(): await treadle.sleep(1)\n"
        "print(treadle.sim.run(main, seeds=100))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TREADLE_SEED": "7"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert "seed=7" in out and "runs=1" in out
