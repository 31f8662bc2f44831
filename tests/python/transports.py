# SPDX-License-Identifier: MIT
"""What the tests of asyncio's transports share: a protocol that notes what it is told, and connections."""

import asyncio
import socket

import treadle

BIG = bytes(range(256)) * 8192  # 2 MiB: more than any socket buffer


def run(main, debug=None):
    with asyncio.Runner(loop_factory=treadle.new_event_loop, debug=debug) as runner:
        return runner.run(asyncio.wait_for(main, 30))


class Recorder(asyncio.Protocol):
    """Notes what it is told, in order."""

    def __init__(self):
        self.events = []
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()
        self.news = asyncio.Event()

    def note(self, *event):
        self.events.append(event)
        self.news.set()

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def data_received(self, data):
        assert type(data) is bytes
        self.data += data
        self.note("data")

    def eof_received(self):
        self.note("eof")
        return True

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    def connection_lost(self, exc):
        self.note("lost", exc)
        self.lost.set_result(exc)

    async def until(self, condition):
        while not condition():
            self.news.clear()
            await self.news.wait()


async def connected(factory=Recorder, family=socket.AF_UNIX):
    """A transport, its protocol, and the plain socket at the other end."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair(family)
    theirs.settimeout(20)
    ours.setblocking(False)
    transport, protocol = await loop.create_connection(factory, sock=ours)
    return transport, protocol, theirs


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        a = socket.create_connection(server.getsockname())
        b, _ = server.accept()
    return a, b
