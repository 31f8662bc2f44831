# SPDX-License-Identifier: MIT
"""What test_workers.py has its workers do; they import it by its name."""

import asyncio
import socket

import treadle


async def add(a, b=0):
    await treadle.sleep(0)
    return a + b


async def meet(here, there):
    """Each of two waits for the other: both run at the same time."""
    await here.send(1)
    await there.recv()
    return sum([await treadle.go(add(i, 1)) for i in range(10)])


async def double(work, done):
    n = 0
    async for value in work:
        await done.send(value * 2)
        n += 1
    return n


async def fail(text):
    raise LookupError(text)


class Odd(Exception):
    """Cannot be made from its pickle."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


async def fail_oddly():
    raise Odd(1, 2)


async def fail_or_wait(turn):
    if await turn.recv() == 0:
        raise LookupError("first")
    await asyncio.sleep(60)


async def wait():
    await treadle.sleep(60)


async def unsendable():
    return lambda: None


async def serve(listener, ready):
    """One of several that accept from the same socket."""
    listener.setblocking(False)
    server = await asyncio.start_server(answer, sock=listener)
    await ready.send(1)
    async with server:
        await server.serve_forever()


async def serve_listener(listener, native, ready):
    """The same from a listener of treadle's, by goroutines or by asyncio."""
    if not native:
        async with await asyncio.start_server(answer, sock=listener) as server:
            await ready.send(1)
            await server.serve_forever()
    await ready.send(1)
    async for conn in listener:
        async with conn:
            await conn.write((await conn.readline()).upper())


async def answer(reader, writer):
    writer.write((await reader.readline()).upper())
    writer.close()
    await writer.wait_closed()


async def serve_native(port, ready):
    async with await treadle.listen("tcp", f"127.0.0.1:{port}", reuseport=True) as listener:
        await ready.send(1)
        async for conn in listener:
            async with conn:
                await conn.write((await conn.readline()).upper())


def ask(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"hello\n")
        return sock.recv(100)
