# SPDX-License-Identifier: MIT
"""Datagram and pipe transports on treadle's loop, where they are treadle's own; what they
have in common with asyncio's is in test_beside_asyncio.py."""

import asyncio
import gc
import os
import pty
import socket
import subprocess
import sys
import tty
import weakref

import pytest
import treadle


def run(main):
    with asyncio.Runner(loop_factory=treadle.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main, 25))


class Box(asyncio.DatagramProtocol):
    """Keeps what comes."""

    def __init__(self):
        self.came = []
        self.news = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.came.append((data, addr))
        self.news.set()

    def data_received(self, data):
        self.datagram_received(data, None)

    def eof_received(self):
        self.datagram_received(b"", None)

    def connection_lost(self, exc):
        self.lost.set_result(exc)

    async def until(self, n):
        while len(self.came) < n:
            self.news.clear()
            await self.news.wait()


async def udp(factory=Box, **kwargs):
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(factory, **(kwargs or {"local_addr": ("127.0.0.1", 0)}))


async def received(peer, n):
    """n datagrams, of a socket that does not block."""
    came = []
    while len(came) < n:
        try:
            came.append(peer.recv(100))
        except BlockingIOError:
            await asyncio.sleep(0.001)
    return came


def test_is_asyncios():
    async def main():
        transport, box = await udp()
        assert isinstance(transport, asyncio.DatagramTransport)
        assert transport.get_protocol() is box
        assert transport.get_extra_info("socket").fileno() == transport._sock_fd
        transport.close()
        await box.lost

    run(main())


def test_a_batch_is_handed_over_in_order_and_held_back():
    """A protocol that pauses in the midst of a batch gets the rest when it resumes."""

    class Halting(Box):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if len(self.came) % 5 == 0:
                self.transport.pause_reading()

    async def main():
        transport, box = await udp(Halting)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for i in range(60):
                sender.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            while len(box.came) < 60:
                before = len(box.came)
                await asyncio.sleep(0.002)
                if not transport.is_reading():
                    assert len(box.came) % 5 == 0 and len(box.came) - before <= 5
                    transport.resume_reading()
            assert [data for data, _ in box.came] == [b"%d" % i for i in range(60)]
        transport.close()
        await box.lost

    run(main())


def test_closing_in_the_midst_of_a_batch():
    class Closing(Box):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.close()

    async def main():
        transport, box = await udp(Closing)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(20):
                sender.sendto(b"x", transport.get_extra_info("sockname"))
            assert await box.lost is None
        assert len(box.came) == 1

    run(main())


def test_another_protocol_in_the_midst_of_a_batch():
    async def main():
        other = Box()

        class Changing(Box):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                self.transport.set_protocol(other)

        transport, box = await udp(Changing)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for i in range(10):
                sender.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            await other.until(9)
        assert len(box.came) == 1 and [d for d, _ in other.came] == [b"%d" % i for i in range(1, 10)]
        transport.close()
        await other.lost

    run(main())


def test_many_senders_get_their_own_answers():
    """More addresses than are remembered, each answered through the object it came with and
    through an equal one."""

    class Echo(Box):
        def datagram_received(self, data, addr):
            host, port = addr
            self.transport.sendto(data + b"1", addr)
            self.transport.sendto(data + b"2", (host, port))

    async def main():
        server, echo = await udp(Echo)
        address = server.get_extra_info("sockname")
        clients = [await udp(remote_addr=address) for _ in range(150)]
        for round_ in range(2):
            for i, (transport, _) in enumerate(clients):
                transport.sendto(b"%d-%d:" % (round_, i))
                await asyncio.sleep(0)
        for i, (transport, box) in enumerate(clients):
            await box.until(4)
            assert sorted(box.came) == sorted(
                (b"%d-%d:%d" % (round_, i, n), address) for round_ in range(2) for n in (1, 2)
            )
            transport.close()
            await box.lost
        server.close()
        await echo.lost

    run(main())


@pytest.mark.parametrize("abstract", [False, True])
def test_unix_addresses(abstract, tmp_path):
    async def main():
        path = f"\0treadle-{os.getpid()}" if abstract else str(tmp_path / "ünix")
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.bind(path)
        ours.setblocking(False)
        transport, box = await udp(sock=ours)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody:  # it has no address
                nobody.sendto(b"nobody", path)
            peer.bind(str(tmp_path / "peer"))
            peer.settimeout(20)
            peer.sendto(b"somebody", path)
            await box.until(2)
            assert box.came == [(b"nobody", None), (b"somebody", str(tmp_path / "peer"))]
            transport.sendto(b"back", box.came[1][1])
            expected = path.encode() if abstract else path
            assert peer.recvfrom(100) == (b"back", expected)
            large = bytes(150_000)
            peer.sendto(large, path)
            await box.until(3)
            assert box.came[2][0] == large
        transport.close()
        await box.lost

    run(main())


def test_a_peer_without_a_name():
    """The other end of socketpair() can be answered; asyncio's transport fails."""

    async def main():
        ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        peer.setblocking(False)
        transport, box = await udp(sock=ours)
        peer.send(b"hello")
        await box.until(1)
        assert box.came == [(b"hello", None)]
        for i in range(500):  # more than its queue takes
            transport.sendto(b"%d" % i)
        assert transport.get_write_buffer_size() > 0
        assert await received(peer, 500) == [b"%d" % i for i in range(500)]
        transport.close()
        await box.lost
        peer.close()

    run(main())


def test_a_full_queue_of_another(tmp_path):
    """Nothing tells a socket that is not connected when another's queue has room."""

    async def main():
        path = str(tmp_path / "s")
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        peer.bind(path)
        peer.setblocking(False)
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        transport, box = await udp(sock=ours)
        for i in range(200):
            transport.sendto(b"%d" % i, path)
        assert transport.get_write_buffer_size() > 0
        before = sum(os.times()[:2])
        await asyncio.sleep(0.1)
        assert sum(os.times()[:2]) - before < 0.08  # it does not spin
        assert await received(peer, 200) == [b"%d" % i for i in range(200)]
        transport.close()
        await box.lost
        peer.close()

    run(main())


def test_an_error_among_datagrams():
    """What a refusal says is heard though datagrams came as well."""

    class Errors(Box):
        errors = ()

        def error_received(self, exc):
            self.errors += (exc,)

    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            transport, box = await udp(Errors, remote_addr=peer.getsockname())
            for i in range(3):
                peer.sendto(b"%d" % i, transport.get_extra_info("sockname"))
        transport.sendto(b"refused")
        await box.until(3)
        while not box.errors:
            await asyncio.sleep(0.001)
        assert isinstance(box.errors[0], ConnectionRefusedError)
        assert not transport.is_closing()
        transport.close()
        await box.lost

    run(main())


def test_a_socket_of_another_class():
    """Its own methods are called."""

    class Counting(socket.socket):
        calls = 0

        def recvfrom(self, *args):
            type(self).calls += 1
            return super().recvfrom(*args)

        def sendto(self, *args):
            type(self).calls += 1
            return super().sendto(*args)

    async def main():
        ours = Counting(socket.AF_INET, socket.SOCK_DGRAM)
        ours.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        transport, box = await udp(sock=ours)
        transport.sendto(b"me", ours.getsockname())
        transport.sendto(b"too", ours.getsockname())
        await box.until(2)
        assert [data for data, _ in box.came] == [b"me", b"too"]
        assert Counting.calls >= 4
        transport.close()
        await box.lost

    run(main())


def test_datagrams_leave_nothing():
    async def main():
        kept = []
        for _ in range(3):
            transport, box = await udp()
            transport.sendto(b"x", transport.get_extra_info("sockname"))
            await box.until(1)
            kept.append(weakref.ref(transport))
            transport.close()
            await box.lost
            await asyncio.sleep(0)
            del transport, box
        gc.collect()
        assert [ref() for ref in kept] == [None] * 3

    before = len(os.listdir("/proc/self/fd"))
    run(main())
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_datagram_transport_that_is_dropped():
    async def main():
        loop = asyncio.get_running_loop()
        transport, box = await udp()
        loop._transports.clear()
        transport._detach()
        transport._release()
        box.transport = None
        with pytest.warns(ResourceWarning, match="unclosed transport <DatagramTransport fd="):
            del transport
            gc.collect()

    run(main())


# -- Pipes --------------------------------------------------------------------


async def read_pipe(file):
    return await asyncio.get_running_loop().connect_read_pipe(Box, file)


async def write_pipe(file):
    return await asyncio.get_running_loop().connect_write_pipe(Box, file)


def test_what_cannot_be_polled():
    async def main():
        transport, box = await read_pipe(open("/dev/null", "rb", 0))
        await box.lost
        assert box.came == [(b"", None)]
        transport, box = await write_pipe(open("/dev/null", "wb", 0))
        transport.write(bytes(1_000_000))
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await box.lost

    run(main())


def test_a_terminal_gives_line_after_line():
    """And one descriptor of it serves both directions."""

    async def main():
        far, near = pty.openpty()
        tty.setraw(far)
        file = os.fdopen(near, "r+b", 0)
        reader, read = await read_pipe(file)
        writer, written = await write_pipe(file)
        os.write(far, b"one\ntwo\nthree\n")
        while b"".join(data for data, _ in read.came) != b"one\ntwo\nthree\n":
            await asyncio.sleep(0.001)
        writer.write(b"answer")
        await asyncio.sleep(0.005)
        assert os.read(far, 100) == b"answer"
        writer.close()
        await written.lost
        read.came.clear()
        reader._sock = open(os.devnull, "rb")  # its file went with the writer
        reader.close()
        await read.lost
        os.close(far)

    before = len(os.listdir("/proc/self/fd"))
    run(main())
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_pipe_of_packets():
    async def main():
        r, w = os.pipe2(os.O_DIRECT)
        transport, box = await read_pipe(os.fdopen(r, "rb", 0))
        os.set_blocking(w, False)
        for i in range(20):
            while True:
                try:
                    os.write(w, b"%d" % i)
                    break
                except BlockingIOError:  # it may have room for one only
                    await asyncio.sleep(0.001)
        await box.until(20)
        assert [data for data, _ in box.came] == [b"%d" % i for i in range(20)]
        os.close(w)
        await box.lost

    run(main())


def test_pipes_carry_much():
    async def main():
        r, w = os.pipe()
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        source, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(r, "rb", 0))
        sink, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(w, "wb", 0))
        writer = asyncio.StreamWriter(sink, protocol, None, loop)
        data = bytes(range(256)) * 4000

        async def send():
            for _ in range(5):
                writer.write(data)
                await writer.drain()
            writer.close()

        sending = asyncio.create_task(send())
        assert await reader.read(-1) == data * 5
        await sending
        source.close()

    run(main())


def test_a_process_of_pipes():
    """Its three pipes are treadle's transports, and its end closes them."""

    async def main():
        program = "import sys; d = sys.stdin.read(); print(d[::-1]); print(len(d), file=sys.stderr)"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        kinds = [type(process._transport.get_pipe_transport(fd)).__module__ for fd in range(3)]
        assert kinds == ["treadle._transports"] * 3
        out, err = await process.communicate(b"abc" * 100_000)
        assert out == b"cba" * 100_000 + b"\n" and err == b"300000\n"
        assert process.returncode == 0

    run(main())
