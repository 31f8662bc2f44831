# SPDX-License-Identifier: MIT
"""Servers whose connections are parked between requests."""

import asyncio

import pytest
import treadle


async def start(handler, **options):
    listener = await treadle.listen("tcp", "127.0.0.1:0")
    address = listener.address
    return treadle.serve(listener, handler, **options), address


async def echo_line(conn):
    line = await conn.readline()
    if line:
        await conn.write(line)
    else:
        conn.close()


async def becomes(server, name, want):
    until = treadle.now() + 10
    while getattr(server.stats(), name) != want and treadle.now() < until:
        await treadle.sleep(0.001)
    assert getattr(server.stats(), name) == want


def test_requests(drive):
    """Each request is served by a goroutine; between them the connection is parked."""

    async def main():
        calls = 0

        async def handler(conn):
            nonlocal calls
            calls += 1
            await echo_line(conn)

        server, address = await start(handler)
        async with server:
            conns = [await treadle.dial("tcp", address) for _ in range(20)]
            await becomes(server, "conns", 20)
            assert calls == 0
            for turn in range(3):
                for i, conn in enumerate(conns):
                    await conn.write(b"request %d %d\n" % (turn, i))
                    assert await conn.readline() == b"request %d %d\n" % (turn, i)
            await becomes(server, "busy", 0)
            assert calls == 60
            for conn in conns:
                conn.close()
            await becomes(server, "conns", 0)
            assert server.stats().accepted == 20
            await server.shutdown(5)

    drive(main)


def test_idle_and_limit(drive):
    async def main():
        server, address = await start(echo_line, idle_timeout=0.5, max_conns=1)
        async with server, await treadle.dial("tcp", address) as first, await treadle.dial("tcp", address) as second:
            await first.write(b"a\n")
            await second.write(b"b\n")  # in the backlog until the first is gone
            assert await first.readline() == b"a\n"
            assert await first.read(1) == b""
            assert await second.readline() == b"b\n"
            assert server.stats().timeouts >= 1

    drive(main)


@pytest.mark.parametrize("patient", [True, False])
def test_shutdown(drive, patient):
    """Who is idle is closed; who is busy finishes, or is closed when time is up."""

    async def main():
        gate, begun = treadle.Chan(), treadle.Chan()

        async def handler(conn):
            await conn.readline()
            await begun.send(True)
            await gate.recv()
            await conn.write(b"done\n")

        server, address = await start(handler)
        async with server, await treadle.dial("tcp", address) as idle, await treadle.dial("tcp", address) as busy:
            await busy.write(b"go\n")
            await begun.recv()
            await becomes(server, "conns", 2)
            if patient:

                async def opens():
                    assert await idle.read(1) == b""
                    await gate.send(True)

                opener = treadle.go(opens())
                await server.shutdown(20)
                await opener
                assert await busy.readline() == b"done\n"
            else:
                with pytest.raises(TimeoutError):
                    await server.shutdown(0.01)
                assert await busy.readline() == b""

    drive(main)


@pytest.mark.parametrize("how", ["shutdown", "close"])
def test_shutdown_cancels(drive, how):
    """G6: when the time is up the handlers are cancelled, whatever they wait in; the next shutdown waits for them."""

    async def main():
        never, told, begun = treadle.Chan(), [], 0

        async def handler(conn):
            nonlocal begun
            what = (await conn.readline()).strip()
            begun += 1
            wait = {
                b"read": conn.readline,
                b"sleep": lambda: treadle.sleep(3600),
                b"recv": never.recv,
                b"asyncio": asyncio.Event().wait,
            }[what]
            try:
                await wait()
            except asyncio.CancelledError:
                told.append(what)
                raise

        server, address = await start(handler)
        whats = [b"asyncio", b"read", b"recv", b"sleep"]
        conns = [await treadle.dial("tcp", address) for _ in whats]
        for conn, what in zip(conns, whats, strict=True):
            await conn.write(what + b"\n")
        while begun < len(whats):
            await treadle.sleep(0.001)
        if how == "shutdown":
            with pytest.raises(TimeoutError):
                await server.shutdown(0.01)
            await server.shutdown(20)
        else:
            server.close()
            await server.shutdown(20)
        assert sorted(told) == whats
        for conn in conns:
            assert await conn.readline() == b""
            conn.close()

    drive(main)


def test_handler_closes(drive):
    """A handler that closes its server is not cancelled by that."""

    async def main():
        over = treadle.Chan(1)

        async def handler(conn):
            server.close()
            await treadle.sleep(0.001)
            await over.send(True)

        server, address = await start(handler)
        async with await treadle.dial("tcp", address) as conn:
            await conn.write(b"x")
            assert await over.recv()

    drive(main)


def test_misuse(drive):
    async def main():
        listener = await treadle.listen("tcp", "127.0.0.1:0")
        with pytest.raises(TypeError, match="a Listener is required"):
            treadle.serve([listener, 3], echo_line)
        with pytest.raises(ValueError, match="a listener"):
            treadle.serve([], echo_line)
        with pytest.raises(ValueError, match="idle_timeout"):
            treadle.serve(listener, echo_line, idle_timeout=0)
        with pytest.raises(ValueError, match="negative"):
            treadle.serve(listener, echo_line, max_conns=-1)
        listener.close()
        with pytest.raises(treadle.Closed):
            treadle.serve(listener, echo_line)

    drive(main)
