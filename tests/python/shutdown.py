# SPDX-License-Identifier: MIT
"""shutdown.py [STATE END]: the interpreter ends while things are alive, in each state and each way.

STATE says what is alive (a suspended goroutine, a select that waits, an open transport …), END how the program
ends: after treadle.run, with a loop of treadle's or asyncio's that was never closed, one that was
stopped in the middle, one that a daemon thread still runs, or by SystemExit inside. Without arguments: all of
them, each a process in development mode. None may crash, hang, or end with another code than its own."""

import asyncio
import contextlib
import faulthandler
import signal
import subprocess
import sys
import threading
import time

import treadle

STATES = ("goroutine select task transport streams conn locks process signals ops generator").split()
ENDS = "run open guest stop daemon exit".split()
CODE = 5
kept = []


class Noisy:
    """Uses the package while the interpreter ends."""

    def __del__(self):
        for call in (treadle.num_goroutines, treadle.now, treadle.Chan, lambda: treadle.Mutex().try_lock()):
            with contextlib.suppress(BaseException):
                call()


async def stuck(ch):
    noisy = Noisy()
    try:
        await ch.recv()
    finally:
        del noisy
        with contextlib.suppress(BaseException):
            await treadle.sleep(0.001)


async def generator():
    try:
        while True:
            yield 1
            await treadle.sleep(0)
    finally:
        await treadle.sleep(0.001)


async def alive(state):
    """What is kept."""
    loop, ch, shared = asyncio.get_running_loop(), treadle.Chan(), treadle.SharedChan(1)
    kept.extend([loop, ch, shared, Noisy()])
    if state == "goroutine":
        return [treadle.go(stuck(ch))]
    if state == "select":

        async def select():
            await treadle.select(ch.recv_op(), shared.recv_op(), treadle.after_op(100))

        return [treadle.go(select())]
    if state == "task":
        return [asyncio.create_task(stuck(ch))]
    if state == "transport":
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        transport.write(bytes(10_000_000))
        return [server, transport, protocol]
    if state == "streams":
        server = await asyncio.start_server(lambda *ends: kept.extend(ends), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        return [server, reader, writer, asyncio.create_task(reader.read())]
    if state == "conn":
        listener = await treadle.listen("tcp", "127.0.0.1:0")
        conn = await treadle.dial("tcp", f"127.0.0.1:{listener.port}")
        return [listener, conn, treadle.go(conn.read(1)), treadle.go(listener.accept())]
    if state == "locks":
        m = treadle.Mutex()
        await m.lock()
        return [m, treadle.go(m.lock()), treadle.Timer(100), treadle.Ticker(0.001),
                treadle.background().with_timeout(100), treadle.after_func(100, print)]  # fmt: skip
    if state == "process":
        return [await asyncio.create_subprocess_exec("sleep", "0.5")]
    if state == "signals":
        signals = treadle.signals(signal.SIGUSR1)
        await signals.__aenter__()
        loop.add_signal_handler(signal.SIGUSR2, int)
        return [signals]
    if state == "ops":
        return [treadle.sleep(1), ch.recv(), ch.send(Noisy()), treadle.select(ch.recv_op())]
    values = generator()
    await values.__anext__()
    return [values]


async def main(state, end):
    kept.extend(await alive(state))
    await asyncio.sleep(0)
    if end == "exit":
        sys.exit(CODE)
    if end == "stop":
        asyncio.get_running_loop().stop()
        await asyncio.sleep(100)


def program(state, end):
    if end == "run":
        treadle.run(main(state, end))
        return
    loop = asyncio.new_event_loop() if end == "guest" else treadle.new_event_loop()
    kept.append(loop)
    if end == "daemon" and state != "signals":

        def run():
            loop.run_until_complete(main(state, end))
            loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        time.sleep(0.2)
        return
    with contextlib.suppress(RuntimeError):  # stopped before it was complete
        loop.run_until_complete(main(state, end))


def everything():
    bad = 0
    cases = [(state, end) for end in ENDS for state in STATES]
    for state, end in cases:
        p = subprocess.Popen([sys.executable, "-X", "dev", __file__, state, end],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
        try:
            _, err = p.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            p.send_signal(signal.SIGABRT)  # faulthandler says where it is
            _, err = p.communicate()
        if p.returncode != (CODE if end == "exit" else 0) or "SystemError" in err:
            bad += 1
            print(f"-- {state}, {end}: ends with {p.returncode}\n{err[-3000:]}")
    print(f"{len(cases) - bad} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(everything())
    faulthandler.enable()
    sys.modules["kept"] = kept  # alive as long as can be
    program(*sys.argv[1:])
