# SPDX-License-Identifier: MIT
"""echo.py LOOP KIND [once]: an echo server on the loop. KIND: protocol, buffered,
streams, sock (the sock_* calls), tls (a protocol over TLS; CERT in the environment
names its certificate and key) or udp (a datagram protocol). With `once` it ends when
its first connection does, or a datagram says so."""

import asyncio
import contextlib
import os
import socket
import ssl
import sys

import loops

SIZE = 102400
END = b"end"


class Echo(asyncio.Protocol):
    ended = None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.transport = None
        self.ended.set()

    def data_received(self, data):
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    ended = None

    def __init__(self):
        self.buffer = bytearray(256 * 1024)
        self.view = memoryview(self.buffer)

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.transport = None
        self.ended.set()

    def get_buffer(self, sizehint):
        return self.view

    def buffer_updated(self, nbytes):
        self.transport.write(self.view[:nbytes])


class DatagramEcho(asyncio.DatagramProtocol):
    ended = None

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        if data == END:
            self.ended.set()
        else:
            self.transport.sendto(data, addr)


async def stream_echo(reader, writer):
    with contextlib.suppress(ConnectionResetError):  # the load's end
        while True:
            data = await reader.read(SIZE)
            if not data:
                break
            writer.write(data)
    writer.close()
    Echo.ended.set()


async def sock_echo(loop, sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with sock, contextlib.suppress(ConnectionResetError):
        while True:
            data = await loop.sock_recv(sock, SIZE)
            if not data:
                break
            await loop.sock_sendall(sock, data)
    Echo.ended.set()


async def sock_accept(loop, listener, tasks):
    while True:
        sock, _ = await loop.sock_accept(listener)
        sock.setblocking(False)
        task = loop.create_task(sock_echo(loop, sock))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def tls_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["CERT"])
    return context


async def main(kind, once):
    loop = asyncio.get_running_loop()
    Echo.ended = BufferedEcho.ended = DatagramEcho.ended = asyncio.Event()
    listener = socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    if kind != "udp":
        listener.listen(1024)
    listener.setblocking(False)
    accepting, tasks = None, set()
    if kind == "protocol":
        await loop.create_server(Echo, sock=listener)
    elif kind == "buffered":
        await loop.create_server(BufferedEcho, sock=listener)
    elif kind == "tls":
        await loop.create_server(Echo, sock=listener, ssl=tls_context())
    elif kind == "udp":
        await loop.create_datagram_endpoint(DatagramEcho, sock=listener)
    elif kind == "streams":
        await asyncio.start_server(stream_echo, sock=listener)
    elif kind == "sock":
        accepting = loop.create_task(sock_accept(loop, listener, tasks))
    else:
        raise SystemExit(f"no such kind: {kind}")
    print("listening on %s:%d" % listener.getsockname(), flush=True)
    if once:
        await Echo.ended.wait()
        if accepting:
            accepting.cancel()
    else:
        await asyncio.Event().wait()


if __name__ == "__main__":
    loops.run(sys.argv[1], main(sys.argv[2], "once" in sys.argv))
