# SPDX-License-Identifier: MIT
"""interrupts.py [ROUNDS]: Ctrl-C at any moment, 300 times: a program that does a little of
everything at once, or one after the other (tests/python/everything), gets SIGINT somewhere between its first import and its end, every third time twice.

It fails when the interpreter crashes, when the program neither ends nor goes on to its
own end, or when it ends otherwise than by KeyboardInterrupt or as if nothing had been."""

from __future__ import annotations

import collections
import faulthandler
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 30.0  # seconds for one program
LASTS = 0.6  # seconds from its start to its end, about


async def everything(end: float) -> None:
    import asyncio
    import socket
    import tempfile

    import treadle

    async def channels() -> None:
        ch: treadle.Chan[int] = treadle.Chan(2)
        stop: treadle.Chan[int] = treadle.Chan()

        async def produce() -> None:
            for i in range(50):
                await ch.send(i)
            ch.close()

        async with treadle.scope() as s:
            s.go(produce())
            async for _ in ch:
                await treadle.select(treadle.after_op(0.0002), stop.recv_op())

    async def streams() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
            for _ in range(20):
                writer.write(b"line\n")
                assert await reader.readline() == b"line\n"
            writer.close()
            await writer.wait_closed()

    async def connections() -> None:
        async def answer(conn: treadle.Conn) -> None:
            async with conn:
                async for line in conn.lines():
                    await conn.write(line + b"\n")

        async def accept(listener: treadle.Listener) -> None:
            async for conn in listener:
                treadle.go(answer(conn))

        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            accepting = treadle.go(accept(listener))
            async with await treadle.dial("tcp", f"127.0.0.1:{listener.port}") as conn:
                for _ in range(20):
                    await conn.write(b"line\n")
                    assert await conn.readline() == b"line\n"
            accepting.cancel()

    async def files() -> None:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:  # a write that was cancelled may go on
            for _ in range(5):
                await treadle.fs.write_bytes(f"{place}/f", b"x" * 1000, atomic=True)
                assert len(await treadle.fs.read_bytes(f"{place}/f")) == 1000

    async def processes() -> None:
        child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        try:
            out, _ = await child.communicate(b"some")
            assert out == b"some"
        finally:
            if child.returncode is None:
                child.kill()
        async with treadle.process(["cat"], stdin="pipe", stdout="pipe") as p:
            await p.communicate(b"some")

    async def sockets() -> None:
        loop = asyncio.get_running_loop()
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            b.setblocking(False)
            for _ in range(20):
                await loop.sock_sendall(a, b"x")
                await loop.sock_recv(b, 1)

    async def threads() -> None:
        await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.001) for _ in range(3)))
        m = treadle.Mutex()
        async with m:
            await treadle.sleep(0.001)

    while time.monotonic() < end:
        try:
            async with asyncio.timeout(0.2):
                await asyncio.gather(channels(), streams(), connections(), files(), processes(), sockets(), threads())
        except TimeoutError:
            pass


def scenarios(end: float) -> None:
    """Those of the package `everything`: each kind of wait, loop, transport and process."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import everything

    names = [name for name in (*everything.SCENARIOS, *everything.WHOLE) if "tls" not in name]
    random.shuffle(names)
    for name in names:
        if time.monotonic() < end:
            random.choice([everything.in_run, everything.in_loop, everything.in_guest])(name)


def program(how: str, end: float) -> None:
    import treadle

    if how == "scenarios":
        scenarios(end)
    elif how == "run":
        treadle.run(everything(end))
    else:
        import asyncio

        factory = treadle.new_event_loop if how == "loop" else asyncio.SelectorEventLoop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(everything(end))
    print("whole")


def one(how: str, moment: float, again: float | None) -> tuple[str, str]:
    """How it ended, and what it said."""
    child = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", __file__, "--program", how, str(LASTS)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]) and None,  # while Python begins
    )
    try:
        for pause in (moment, again):
            if pause is not None:
                time.sleep(pause)
                child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGABRT)  # faulthandler says where it is
        return "hangs", child.communicate()[1]
    if child.returncode == 0:
        return "whole" if out == "whole\n" else "silent", err
    if child.returncode in (-signal.SIGINT, 130):
        return "interrupted", err
    if child.returncode == 1 and "KeyboardInterrupt" in err:
        return "interrupted, and more", err
    return f"ends with {child.returncode}", err


def main(rounds: int) -> int:
    ends: collections.Counter[str] = collections.Counter()
    bad = 0
    for i in range(rounds):
        how = random.choice(["run", "run", "loop", "scenarios", "scenarios", "scenarios"])
        moment = random.uniform(0, LASTS * 1.6)
        again = random.uniform(0, 0.02) if i % 3 == 0 else None
        end, said = one(how, moment, again)
        ends[end] += 1
        if not end.startswith(("whole", "interrupted")):
            bad += 1
            print(f"-- {how}, after {moment:.3f} s" + (f" and {again:.3f} s" if again else "") + f": {end}\n{said[-6000:]}")
    for end, n in ends.most_common():
        print(f"{n:8}  {end}")
    print(f"\n{rounds - bad} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--program"]:
        faulthandler.enable()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell has said
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        program(sys.argv[2], time.monotonic() + float(sys.argv[3]))
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300))
