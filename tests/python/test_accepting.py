# SPDX-License-Identifier: MIT
"""Servers on treadle's loop: accepting many, without descriptors, on a treadle.Listener; and sendfile."""

import asyncio
import errno
import gc
import os
import resource
import socket

import pytest
import treadle
from transports import BIG, Recorder, connected, run


def test_many_connections_leave_nothing():
    async def round():
        async def serve(reader, writer):
            writer.write(await reader.read(1000))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        where = server.sockets[0].getsockname()

        async def one():
            reader, writer = await asyncio.open_connection(*where)
            writer.write(b"x" * 1000)
            assert len(await reader.read()) == 1000
            writer.close()
            await writer.wait_closed()

        for _ in range(3):
            await asyncio.gather(*(one() for _ in range(30)))
        server.close()
        await server.wait_closed()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not asyncio.get_running_loop()._live

    def objects():
        gc.collect()
        return sum(1 for o in gc.get_objects() if "Transport" in type(o).__name__)

    def size():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    run(round())
    before, memory = objects(), size()
    for _ in range(2):
        run(round())
    assert objects() <= before
    assert size() - memory < 20_000  # KiB


def test_accepting_many_at_once():
    async def main():
        loop = asyncio.get_running_loop()
        made = []

        class P(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                made.append(self)

        server = await loop.create_server(P, "127.0.0.1", 0, backlog=64)
        where = server.sockets[0].getsockname()
        peers = [socket.create_connection(where) for _ in range(50)]
        while len(made) < 50:
            await asyncio.sleep(0.001)
        assert {p.transport.get_extra_info("peername") for p in made} == {
            s.getsockname() for s in peers
        }
        for p in made:
            p.transport.close()
            await p.lost
        for s in peers:
            s.close()
        server.close()
        await server.wait_closed()

    run(main())


def test_a_factory_that_raises_loses_one_connection_only():
    async def main():
        loop = asyncio.get_running_loop()
        told = []
        loop.set_exception_handler(lambda loop, context: told.append(context["message"]))
        turn = iter(range(100))

        def factory():
            if next(turn) == 0:
                raise ZeroDivisionError
            return Recorder()

        server = await loop.create_server(factory, "127.0.0.1", 0)
        where = server.sockets[0].getsockname()
        with socket.create_connection(where) as first:
            first.settimeout(10)
            assert await loop.run_in_executor(None, first.recv, 1) == b""
        reader, writer = await asyncio.open_connection(*where)
        writer.close()
        await writer.wait_closed()
        assert told == ["Error on transport creation for incoming connection"]
        while loop._live:
            for transport in list(loop._live):
                transport.close()
            await asyncio.sleep(0.001)
        server.close()
        await server.wait_closed()

    run(main(), debug=True)


@pytest.mark.parametrize("close", [False, True])
def test_accepting_without_descriptors(close, monkeypatch):
    """It is said once, and the listener is there again after a pause."""
    monkeypatch.setattr(asyncio.constants, "ACCEPT_RETRY_DELAY", 0.05)

    async def main():
        loop = asyncio.get_running_loop()
        told = []
        loop.set_exception_handler(lambda loop, context: told.append(context))
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        client = socket.socket()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir("/proc/self/fd")))
        spare = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
        try:
            while True:
                try:
                    spare.append(os.dup(0))
                except OSError:
                    break
            client.connect(server.sockets[0].getsockname())
            while not told:
                await asyncio.sleep(0.001)
            assert [context["message"] for context in told] == ["socket.accept() out of system resource"]
            assert told[0]["exception"].errno == errno.EMFILE
            assert told[0]["socket"].fileno() == server.sockets[0].fileno()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in spare:
                os.close(fd)
        del told[:]
        if close:
            server.close()
            await asyncio.sleep(0.08)
        else:
            client.settimeout(0)
            while len(loop._transports) == 0:
                await asyncio.sleep(0.001)
            for transport in list(loop._transports.values()):
                transport.close()
            server.close()
        assert told == []
        client.close()
        await asyncio.sleep(0.002)

    run(main())


def test_sendfile_lets_others_run(tmp_path):
    """A peer that takes everything at once does not keep the loop."""
    path = tmp_path / "file"
    with open(path, "wb") as file:
        file.truncate(64 << 20)

    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:

            def drain():
                with server.accept()[0] as peer:
                    return sum(iter(lambda: len(peer.recv(1 << 20)), 0))

            draining = asyncio.ensure_future(asyncio.to_thread(drain))
            with socket.socket() as sock, open(path, "rb") as file:
                sock.setblocking(False)
                await loop.sock_connect(sock, server.getsockname())
                turns = 0

                async def count():
                    nonlocal turns
                    while True:
                        turns += 1
                        await asyncio.sleep(0)

                counting = asyncio.create_task(count())
                assert await loop.sock_sendfile(sock, file) == 64 << 20
                counting.cancel()
            assert await draining == 64 << 20
            assert turns >= 15

    run(main())


@pytest.mark.parametrize("unix", [False, True])
def test_a_server_on_a_listener_of_treadle(unix, tmp_path):
    async def main():
        place = ("unix", str(tmp_path / "s")) if unix else ("tcp", "127.0.0.1:0")
        async with await treadle.listen(*place) as listener:
            server = await asyncio.get_running_loop().create_server(Recorder, sock=listener)
            async with server:
                conn = await treadle.dial(place[0], listener.address)
                while not server.sockets or len(asyncio.get_running_loop()._transports) == 0:
                    await asyncio.sleep(0.001)
                conn.close()
                for transport in list(asyncio.get_running_loop()._transports.values()):
                    transport.abort()
            assert not listener.closed
            assert not unix or os.path.exists(place[1])

    run(main())


def test_sendfile(tmp_path):
    file = tmp_path / "data"
    file.write_bytes(BIG)

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol, peer = await connected()
        with open(file, "rb") as source:
            sending = asyncio.create_task(loop.sendfile(transport, source, 100, fallback=False))

            def read(n):
                with peer.makefile("rb") as f:
                    return f.read(n)

            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="sendfile is in progress"):
                transport.write(b"x")
            assert await loop.run_in_executor(None, read, len(BIG) - 100) == BIG[100:]
            assert await sending == len(BIG) - 100
        transport.write(b"after")
        assert peer.recv(10) == b"after"
        peer.sendall(b"and back")
        await protocol.until(lambda: protocol.data == b"and back")
        transport.close()
        await protocol.lost
        peer.close()

    run(main())
