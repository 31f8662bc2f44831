# SPDX-License-Identifier: MIT
"""Files, names, processes, signals, and channels that are shared."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
from typing import Any

import treadle
from treadle import fs, io

from .base import cancelled_in, own_loop, pair, refused, scenario


@scenario
async def files() -> None:
    with tempfile.TemporaryDirectory() as place:
        name = f"{place}/f"
        async with await treadle.open_file(name, "w+b") as f:
            await f.write(b"a line\nand more")
            f.seek(0)
            async for line in f:
                assert line == b"a line\n"
                break
            assert await f.pread(3, 0) == b"a l"
            await f.sync()
        await fs.write_bytes(name, b"new", atomic=True)
        assert await fs.read_bytes(name) == b"new"
        assert (await fs.stat(name)).size == 3
        assert [e.name for e in await fs.scandir(place)] == ["f"]
        await fs.rename(name, f"{place}/g")
        await refused(FileNotFoundError, fs.read_bytes(name))
        await cancelled_in(lambda: fs.read_bytes(f"{place}/g"))


@scenario
async def watching() -> None:
    with tempfile.TemporaryDirectory() as place:
        async with await fs.watch(place) as w:
            with open(f"{place}/new", "w"):
                pass
            async for change in w:
                assert change.name == "new"
                break


@scenario
async def copying() -> None:
    near, far = await pair()
    async with near, far:
        with tempfile.TemporaryFile() as file:
            file.write(b"x" * 1000)
            file.flush()
            await near.send_file(file, 0, 1000)
        assert len(await far.readexactly(1000)) == 1000
        async with treadle.scope() as s:
            copying = s.go(treadle.copy(far, far))  # back to who sent it
            await near.write(b"there and back")
            assert await near.readexactly(14) == b"there and back"
            copying.cancel()
        await near.write(b"x" * 100)
        assert len(await io.read_full(far, 100)) == 100


@scenario
async def names() -> None:
    assert await treadle.lookup("127.0.0.1")
    await cancelled_in(lambda: treadle.lookup("127.0.0.1"))


@scenario
async def processes() -> None:
    async with treadle.process(["cat"], stdin="pipe", stdout="pipe") as p:
        assert (await p.communicate(b"some"))[0] == b"some"
    async with treadle.process(["sleep", "100"]) as p:
        await cancelled_in(p.wait)
        p.terminate()
        await p.wait()
    await refused(FileNotFoundError, start(["/no/such/program"]))


async def start(argv: list[str]) -> None:
    async with treadle.process(argv):
        pass


@own_loop
async def subprocesses() -> None:
    p = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert (await p.communicate(b"some"))[0] == b"some"
    finally:
        if p.returncode is None:
            p.kill()
            await p.wait()


@scenario
async def signals() -> None:
    async with treadle.signals(signal.SIGUSR1) as s:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert await s.recv() == signal.SIGUSR1
    loop = asyncio.get_running_loop()
    there = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR2, lambda: there.done() or there.set_result(None))
    os.kill(os.getpid(), signal.SIGUSR2)
    await there
    loop.remove_signal_handler(signal.SIGUSR2)


@scenario
async def shared_channels() -> None:
    ch: treadle.SharedChan[Any] = treadle.SharedChan(1)
    await ch.send({"k": ["v", 1, 1.5, b"x", None, True, 1 << 40]})
    assert (await ch.recv())["k"][0] == "v"
    await cancelled_in(ch.recv)
    nested: treadle.SharedChan[Any] = treadle.SharedChan(1)
    nested.try_send(ch)
    assert nested.try_recv()[0] == ch
    await refused(TypeError, send(nested, object()))
    ch.close()
    await refused(treadle.ChannelClosed, ch.recv())


async def send(ch: treadle.SharedChan[Any], value: Any) -> None:
    await ch.send(value)
