# SPDX-License-Identifier: MIT
"""TLS on treadle's transports: connections, STARTTLS, and over itself."""

import asyncio
import socket
import ssl
import sys

import pytest
from transports import BIG, Recorder, run


def certificate(tmp_path):
    """A key and a certificate, signed by itself."""
    import subprocess

    file = tmp_path / "both.pem"
    if not file.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
            check=True, capture_output=True,
        )
        file.write_bytes((tmp_path / "key.pem").read_bytes() + (tmp_path / "cert.pem").read_bytes())
    return file


@pytest.fixture
def contexts(tmp_path):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate(tmp_path))
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


@pytest.mark.parametrize("upgrade", [False, True])
def test_tls(contexts, upgrade):
    """Small and large messages both ways, end of the stream, and start_tls."""
    if upgrade and sys.version_info < (3, 12):
        pytest.skip("asyncio's server side of start_tls came with 3.12")
    for_server, for_client = contexts

    async def main():
        async def serve(reader, writer):
            if upgrade:
                assert await reader.readline() == b"STARTTLS\n"
                await writer.start_tls(for_server)
            while data := await reader.read(100_000):
                writer.write(data)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=None if upgrade else for_server
        )
        where = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*where, ssl=None if upgrade else for_client)
        if upgrade:
            writer.write(b"STARTTLS\n")
            await writer.start_tls(for_client)
        assert writer.get_extra_info("ssl_object") is not None
        assert writer.get_extra_info("peername") == where
        for n in (1, 1000, 16_384, 16_385, 50_000, 300_000):
            writer.write(BIG[:n])
            assert await reader.readexactly(n) == BIG[:n]
        writer.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
        assert await reader.readexactly(3) == b"abc"
        writer.write(BIG)
        assert await reader.readexactly(len(BIG)) == BIG
        with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got str"):
            writer.write("text")
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())


def test_tls_protocol(contexts):
    """Data comes as bytes; a protocol that raises ends the connection."""
    for_server, for_client = contexts

    async def main():
        loop = asyncio.get_running_loop()
        told = []
        loop.set_exception_handler(lambda loop, context: told.append(context))
        made = []

        class P(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                made.append(self)

            def data_received(self, data):
                if data == b"fail":
                    raise ZeroDivisionError
                super().data_received(data)

        server = await loop.create_server(P, "127.0.0.1", 0, ssl=for_server)
        transport, client = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=for_client
        )
        transport.write(b"hello")
        while not made:  # the server's side ends its handshake later
            await asyncio.sleep(0.001)
        await made[0].until(lambda: made[0].data == b"hello")
        made[0].transport.write(b"x" * 100_000)
        await client.until(lambda: len(client.data) == 100_000)
        made[0].transport.pause_reading()
        transport.write(b", there")
        await asyncio.sleep(0.01)
        assert made[0].data == b"hello"
        made[0].transport.resume_reading()
        await made[0].until(lambda: made[0].data == b"hello, there")
        transport.write(b"fail")
        assert isinstance(await made[0].lost, ZeroDivisionError)
        assert told[0]["message"] == "Fatal error on SSL protocol"
        await client.lost
        server.close()
        await server.wait_closed()

    run(main())


def test_tls_to_somebody_who_speaks_it_not(contexts):
    async def main():
        ours, theirs = socket.socketpair()
        theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(sock=ours, ssl=contexts[1], server_hostname="localhost")
        theirs.close()

    run(main())
