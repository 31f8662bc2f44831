# SPDX-License-Identifier: MIT
"""What tells descriptors' readiness: TDL_NETPOLL and treadle.netpoll."""

import os

import pytest
import treadle
from conftest import script

ECHO = """
    import treadle

    async def serve(l):
        async with await l.accept() as c:
            async for line in c.lines():
                await c.write(line + b"\\n")

    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0") as l:
            treadle.go(serve(l))
            async with await treadle.dial("tcp", f"127.0.0.1:{l.port}") as c:
                lines = c.lines()
                for i in range(100):
                    await c.write(b"%d\\n" % i)
                    assert await anext(lines) == b"%d" % i
        print(*treadle.netpoll(), sep="|")

    treadle.run(main())
"""


@pytest.mark.parametrize("name", ["epoll", "uv"])
def test_chosen_by_the_environment(name):
    done = script(ECHO, env=os.environ | {"TDL_NETPOLL": name})
    assert (done.stdout, done.returncode) == (f"{name}|asked for by TDL_NETPOLL\n", 0), done.stderr


def test_uring_or_why_not():
    done = script(ECHO, env=os.environ | {"TDL_NETPOLL": "uring"})
    assert done.returncode == 0, done.stderr
    name, reason = done.stdout.rstrip().split("|")
    if name == "epoll":
        assert "asks for uring, which does not work here: " in reason
        assert reason in done.stderr
    else:
        assert (name, reason) == ("uring", "asked for by TDL_NETPOLL")


def test_wrong_name():
    done = script(ECHO, env=os.environ | {"TDL_NETPOLL": "select"})
    assert 'treadle: TDL_NETPOLL is "select": it can be epoll, uring or uv' in done.stderr
    assert done.returncode != 0 and done.stdout == ""


def test_in_this_process():
    name, reason = treadle.netpoll()
    assert name in {"epoll", "uring", "uv"} and reason


# Each direction is used up more than once: short reads, full buffers, waiting for either.
TRANSPORTS = """
    import asyncio, socket, treadle

    async def serve(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def streams():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        for i in range(100):
            writer.write(b"%03d" % i)
            assert await reader.readexactly(3) == b"%03d" % i
        big = bytes(range(256)) * 32768
        writer.write(big)
        await asyncio.sleep(0.02)
        assert await reader.readexactly(len(big)) == big
        writer.close()
        assert await reader.read() == b""
        server.close()

    async def socks():
        loop = asyncio.get_running_loop()
        a, b = socket.socketpair()
        a.setblocking(False)
        b.setblocking(False)
        for i in range(100):
            read = asyncio.ensure_future(loop.sock_recv(a, 10))
            await asyncio.sleep(0)
            await loop.sock_sendall(b, b"%03d" % i)
            assert await read == b"%03d" % i
        send = asyncio.ensure_future(loop.sock_sendall(b, bytes(4 << 20)))
        got = 0
        while got < 4 << 20:
            got += len(await loop.sock_recv(a, 1 << 20))
        await send
        read = asyncio.ensure_future(loop.sock_recv(b, 10))
        await asyncio.sleep(0)
        await loop.sock_sendall(a, b"x")
        assert await read == b"x"
        b.close()  # and so it is, though it was watched
        assert await loop.sock_recv(a, 10) == b""
        a.close()

    class Keep(asyncio.DatagramProtocol):
        def __init__(self):
            self.came = asyncio.Queue()

        def datagram_received(self, data, addr):
            self.came.put_nowait(data)

    async def datagrams():
        loop = asyncio.get_running_loop()
        server, there = await loop.create_datagram_endpoint(Keep, local_addr=("127.0.0.1", 0))
        client, here = await loop.create_datagram_endpoint(Keep, remote_addr=server.get_extra_info("sockname"))
        for i in range(100):
            client.sendto(b"%d" % i)
            if i % 7 == 6:
                assert [await there.came.get() for _ in range(7)] == [b"%d" % n for n in range(i - 6, i + 1)]
        client.close()
        server.close()

    async def processes():
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        data = bytes(range(256)) * 4096
        assert (await process.communicate(data))[0] == data

    async def main():
        await asyncio.wait_for(streams(), 60)
        await asyncio.wait_for(socks(), 60)
        await asyncio.wait_for(datagrams(), 60)
        await asyncio.wait_for(processes(), 60)
        print("done")

    with asyncio.Runner(loop_factory=treadle.Loop) as runner:
        runner.run(main())
"""


@pytest.mark.parametrize("name", ["epoll", "uring", "uv"])
def test_asyncios_transports(name):
    done = script(TRANSPORTS, env=os.environ | {"TDL_NETPOLL": name})
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
