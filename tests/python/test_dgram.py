# SPDX-License-Identifier: MIT
"""Datagram sockets: UDP and Unix."""

import asyncio
import errno
import os

import pytest
import treadle
from conftest import fds, until


async def udp():
    return await treadle.listen_udp("127.0.0.1:0")


async def unixgram():
    return await treadle.listen_unixgram("@")


KINDS = [udp, unixgram]


@pytest.mark.parametrize("make", KINDS)
def test_there_and_back(make, drive):
    """D2."""

    async def answer(far):
        with pytest.raises(treadle.Closed):
            while True:
                data, address = await far.recvfrom()
                await far.sendto(data.upper(), address)

    async def main():
        async with await make() as near:
            far = await make()
            g = treadle.go(answer(far))
            for i in range(50):
                await near.sendto(b"datagram %d" % i, far.address)
                assert await near.recvfrom() == (b"DATAGRAM %d" % i, far.address)
            far.close()
            await g

    drive(main)


def test_dialled(drive):
    """D2: a dialled socket needs no address, and hears its peer alone."""

    async def main():
        async with await udp() as server, await udp() as stranger:
            async with await treadle.dial_udp(server.address) as client:
                assert client.peername == server.address
                await client.send(b"question")
                data, address = await server.recvfrom()
                assert (data, address) == (b"question", client.address)
                await stranger.sendto(b"psst", client.address)
                await server.sendto(b"answer", address)
                assert await client.recv() == b"answer"
            assert server.peername is None
            with pytest.raises(OSError) as raised:
                await server.send(b"to whom?")
            assert raised.value.errno == errno.EDESTADDRREQ
            async with await treadle.dial_udp(server.address, local="127.0.0.9:0") as client:
                assert client.address.startswith("127.0.0.9:")
        async with await unixgram() as server:
            async with await treadle.dial_unixgram(server.address) as nameless:
                await nameless.send(b"who?")
                assert await server.recvfrom() == (b"who?", None)

    drive(main)


@pytest.mark.parametrize("make", KINDS)
def test_empty_and_cut(make, drive):
    """D24."""

    async def main():
        async with await make() as near, await make() as far:
            for data in (b"", b"0123456789", b"exact", bytearray(b"0123456789"), b"last"):
                await near.sendto(data, far.address)
            assert await far.recvfrom(100) == (b"", near.address)
            with pytest.raises(treadle.Truncated) as raised:
                await far.recvfrom(4)
            assert raised.value.errno == errno.EMSGSIZE
            assert (raised.value.data, raised.value.address) == (b"0123", near.address)
            assert await far.recv(5) == b"exact"
            with pytest.raises(treadle.Truncated) as raised:
                await far.recv(0)
            assert (raised.value.data, raised.value.address) == (b"", None)
            assert await far.recv() == b"last"

    drive(main)


def test_too_long_and_nobody(drive):
    async def main():
        async with await udp() as s:
            with pytest.raises(OSError, match=r"sendto 127\.0\.0\.1:\d+: ") as raised:
                await s.sendto(bytes(70000), s.address)
            assert raised.value.errno == errno.EMSGSIZE
            gone = await udp()
            address = gone.address
            gone.close()
            async with await treadle.dial_udp(address) as client:
                client.settimeout(10)
                await client.send(b"anybody?")
                with pytest.raises(ConnectionRefusedError):
                    await client.recv()

    drive(main)


def test_waits_end(drive):
    """D8, D12, D17."""

    async def main():
        s = await udp()
        s.settimeout(0.01)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await s.recvfrom()
        s.settimeout(None)
        await s.sendto(b"there", s.address)
        s.set_deadline(treadle.now() - 1)
        with pytest.raises(TimeoutError):
            await s.recv()
        with pytest.raises(TimeoutError):
            await s.sendto(b"x", s.address)
        s.set_deadline(None)
        assert await s.recv() == b"there"
        g = treadle.go(receive(s))
        await treadle.sleep(0.001)
        g.cancel()
        with pytest.raises(asyncio.CancelledError):
            await g
        g = treadle.go(receive(s))
        await treadle.sleep(0.001)
        s.close()
        with pytest.raises(treadle.Closed):
            await g
        for call in (lambda: s.port, lambda: s.address, s.fileno):
            with pytest.raises(treadle.Closed):
                call()
        with pytest.raises(treadle.Closed):
            await s.sendto(b"x", "127.0.0.1:1")
        s.close()
        assert s.closed
        assert repr(s) == "<Dgram closed>"

    drive(main)


async def receive(s):
    return await s.recvfrom()


def test_cancelled_receives_lose_nothing(drive):
    async def main():
        async with await udp() as near, await udp() as far:
            got = []
            for i in range(100):
                g = treadle.go(receive(far))
                await near.sendto(b"%d" % i, far.address)
                if i % 3 == 0:
                    g.cancel()
                try:
                    got.append(int((await g)[0]))
                except asyncio.CancelledError:
                    pass
            far.settimeout(0.05)
            with pytest.raises(TimeoutError):
                while True:
                    got.append(int(await far.recv()))
            assert sorted(got) == list(range(100))

    drive(main)


def test_many_at_once(drive):
    async def main():
        async with await udp() as near, await udp() as far:
            far.settimeout(10)
            sent = [b"packet %d" % i for i in range(60)]
            assert await near.send_many(sent, far.address) == 60
            got = []
            while len(got) < 60:
                part = await far.recv_many(16)
                assert 1 <= len(part) <= 16
                got += part
            assert [data for data, _ in got] == sent
            assert {address for _, address in got} == {near.address}
            async with await treadle.dial_udp(far.address) as client:
                assert await client.send_many((b"a", b"")) == 2
                assert [data for data, _ in await far.recv_many(2)] == [b"a", b""]
            assert await near.send_many([b"ok", bytes(70000)], far.address) == 1
            with pytest.raises(OSError):
                await near.send_many([bytes(70000)], far.address)

    drive(main)


def test_a_full_peer_is_waited_for(drive):
    """D13."""

    async def main():
        async with await unixgram() as server, await unixgram() as client:

            async def flood():
                for i in range(300):
                    await client.sendto(b"%d" % i, server.address)

            g = treadle.go(flood())
            await treadle.sleep(0.01)
            assert not g.done()
            for i in range(300):
                assert int(await server.recv()) == i
            await g

    drive(main)


def test_bad_input(drive):
    """F5, F7."""

    async def main():
        for bad, text in (
            ("127.0.0.1", "listen udp 127.0.0.1: the port"),
            ("x:1", "listen udp x:1: the address does not parse"),
            ("127.0.0.1:1\0", "null character"),
        ):
            with pytest.raises(ValueError, match=text):
                await treadle.listen_udp(bad)
        with pytest.raises(TypeError):
            await treadle.listen_udp(7)
        with pytest.raises(TypeError):
            await treadle.dial_udp("127.0.0.1:1", local=7)
        async with await udp() as s:
            with pytest.raises(OSError, match="listen udp " + s.address) as raised:
                await treadle.listen_udp(s.address)
            assert raised.value.errno == errno.EADDRINUSE
            with pytest.raises(ValueError, match="sendto udp nonsense"):
                await s.sendto(b"x", "nonsense")
            with pytest.raises(ValueError):
                await s.sendto(b"x", "@name")
            for call in (
                lambda: s.sendto("text", s.address),
                lambda: s.send("text"),
                lambda: s.sendto(b"x", 7),
                lambda: s.send_many(["text"]),
                lambda: s.send_many(7),
            ):
                with pytest.raises(TypeError):
                    await call()
            for call in (
                lambda: s.recv(-1),
                lambda: s.recv_many(0),
                lambda: s.recv_many(1, 0),
                lambda: s.send_many([]),
            ):
                with pytest.raises(ValueError):
                    await call()
            assert s.option("broadcast") is False
            s.set_option("broadcast", True)
            assert s.option("broadcast") is True
            assert s.port == int(s.address.rpartition(":")[2])
            assert repr(s) == f"<Dgram at {s.address}>"

    drive(main)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # pytest would keep what they are about
def test_nothing_is_left():
    before = fds()

    async def main():
        for _ in range(20):
            s = await udp()
            treadle.go(receive(s))
            with pytest.warns(ResourceWarning):
                await udp()
        await treadle.sleep(0)

    treadle.run(main())
    assert fds() == before
    assert treadle.metric("datagrams") == 0


def test_path(tmp_path, drive):
    path = str(tmp_path / "s")

    async def main():
        async with await treadle.listen_unixgram(path) as s:
            assert s.address == path
            assert os.path.exists(path)
        await until(lambda: not os.path.exists(path))

    drive(main)
