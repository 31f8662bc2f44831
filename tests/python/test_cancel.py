# SPDX-License-Identifier: MIT
"""Cancellation at random moments: every value that was sent is received exactly
once, whoever is cancelled when."""

import asyncio
import random

import pytest
import treadle

SPAWN = {"goroutines": treadle.go, "tasks": lambda coro: asyncio.create_task(coro)}


@pytest.mark.parametrize("spawn", list(SPAWN))
@pytest.mark.parametrize("kind", ["local", "buffered", "shared", "select"])
def test_values_are_conserved(kind, spawn, drive):
    rng = random.Random(f"{kind} {spawn} {drive.__name__}")

    async def main():
        ch = {"local": treadle.Chan, "select": treadle.Chan, "shared": treadle.SharedChan,
              "buffered": lambda: treadle.Chan(3)}[kind]()
        never = treadle.Chan()
        sent, received, numbers = [], [], iter(range(10**9))

        async def send():
            while True:
                n = next(numbers)
                if kind == "select":
                    await treadle.select(never.recv_op(), ch.send_op(n))
                else:
                    await ch.send(n)
                sent.append(n)

        async def recv():
            while True:
                if kind == "select":
                    i, n = await treadle.select(ch.recv_op(), never.recv_op())
                else:
                    n = await ch.recv()
                received.append(n)
                if rng.random() < 0.3:
                    await treadle.yield_()

        running = []
        for _ in range(300):
            while len(running) < 6:
                running.append(SPAWN[spawn](rng.choice((send, recv))()))
            for _ in range(rng.randrange(4)):
                await rng.choice((treadle.yield_, lambda: asyncio.sleep(0)))()
            victim = running.pop(rng.randrange(len(running)))
            victim.cancel()
            if rng.random() < 0.5:
                await asyncio.wait([victim])
                assert victim.cancelled()
        for t in running:
            t.cancel()
        await asyncio.wait(running)
        await asyncio.sleep(0.001)
        while (last := ch.try_recv())[1]:
            received.append(last[0])
        assert len(sent) > 50
        assert sorted(received) == sorted(sent)

    drive(main)


@pytest.mark.parametrize("spawn", list(SPAWN))
def test_a_lock_is_conserved(spawn, drive):
    rng = random.Random(f"lock {spawn} {drive.__name__}")

    async def main():
        m, inside, entered = treadle.Mutex(), 0, 0

        async def body():
            nonlocal inside, entered
            while True:
                async with m:
                    inside += 1
                    entered += 1
                    assert inside == 1
                    try:
                        await treadle.yield_()
                    finally:
                        inside -= 1
                await asyncio.sleep(0)

        running = []
        for _ in range(300):
            while len(running) < 5:
                running.append(SPAWN[spawn](body()))
            for _ in range(rng.randrange(4)):
                await treadle.yield_()
            running.pop(rng.randrange(5)).cancel()
        for t in running:
            t.cancel()
        await asyncio.wait(running)
        await asyncio.sleep(0.001)
        assert entered > 50
        async with asyncio.timeout(5):
            await m.lock()
        m.unlock()

    drive(main)


def test_bytes_are_conserved(drive):
    """Reads that are cancelled at random moments lose no byte."""
    rng = random.Random(drive.__name__)

    async def main():
        from conftest import pair

        a, b = await pair()
        data = rng.randbytes(20_000)
        got = []

        async def write():
            at = 0
            while at < len(data):
                n = rng.randrange(1, 200)
                await a.write(data[at : at + n])
                at += n
                await treadle.yield_()
            a.shutdown_write()

        async def read():
            while True:
                chunk = await (b.read(100) if rng.random() < 0.5 else b.readexactly(7))
                got.append(chunk)
                if not chunk:
                    return

        writer = treadle.go(write())
        while True:
            reader = rng.choice(list(SPAWN.values()))(read())
            for _ in range(rng.randrange(5)):
                await asyncio.sleep(0)
                await treadle.yield_()
            reader.cancel()
            try:
                await reader
                break
            except asyncio.CancelledError:
                pass
            except asyncio.IncompleteReadError as end:
                got.append(end.partial)
                break
        await writer
        assert b"".join(got) == data
        a.close()
        b.close()

    drive(main)
