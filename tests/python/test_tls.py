# SPDX-License-Identifier: MIT
"""TLS on connections of goroutines and tasks: ssl= of dial and listen, start_tls."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys

import pytest
import treadle
from conftest import fds, pair

CERTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tls/certs.sh")


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    subprocess.run(["sh", CERTS, str(folder)], check=True)
    return str(folder)


def lenient(context):
    """The tests' authority is a plain one; Python 3.13 asks for more."""
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def serving(certs, name="server"):
    context = lenient(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    context.load_cert_chain(f"{certs}/{name}.pem", f"{certs}/{name}.key")
    return context


def trusting(certs):
    return lenient(ssl.create_default_context(cafile=f"{certs}/ca.pem"))


async def echo(conn):
    async with conn:
        while data := await conn.read(65536):
            await conn.write(data)


async def serve_echo(context, network="tcp", address="127.0.0.1:0"):
    listener = await treadle.listen(network, address, ssl=context)

    async def accept():
        try:
            async for conn in listener:
                treadle.go(quietly(echo(conn)))
        except treadle.Closed:
            pass

    treadle.go(accept())
    return listener


async def quietly(coroutine):
    try:
        await coroutine
    except OSError:
        pass


def test_reads_and_writes(drive, certs):
    """Q1."""

    async def main():
        for conn in await pair():  # whatever descriptors a guest needs
            conn.close()
        before = fds()
        listener = await serve_echo(serving(certs))
        conn = await treadle.dial("tcp", f"localhost:{listener.port}", ssl=trusting(certs), timeout=20)
        async with conn:
            await conn.write(b"one\ntwo\r\nthree,four")
            assert await conn.readline() == b"one\n"
            assert await conn.lines().__anext__() == b"two"
            assert await conn.read_until(b",") == b"three,"
            assert await conn.readexactly(4) == b"four"
            await conn.write(memoryview(bytearray(b"x" * 300000)))
            assert await conn.readexactly(300000) == b"x" * 300000
            await conn.write(b"abc")
            assert await conn.read(2) + await conn.read(2) == b"abc"
            assert conn.version() == "TLSv1.3" and conn.cipher() and conn.selected_alpn_protocol() is None
            assert conn.getpeercert()["subject"][-1] == (("commonName", "localhost"),)
            assert conn.peername == f"127.0.0.1:{listener.port}" and conn.ssl_object.server_hostname == "localhost"
            await conn.shutdown_write()
            assert await conn.read(10) == b"" and await conn.readline() == b""
            with pytest.raises(ssl.SSLError):
                await conn.write(b"more")
        with pytest.raises(treadle.Closed):
            await conn.read(1)
        conn.close()
        listener.close()
        while fds() > before:
            await treadle.sleep(0.001)

    drive(main)


def test_both_ways_at_once(drive, certs):
    """Q2."""

    async def main():
        listener = await treadle.listen("unix", f"@treadle-tls-{os.getpid()}", ssl=serving(certs))
        client = treadle.dial("unix", listener.address, ssl=trusting(certs), server_hostname="localhost")
        there = treadle.go(client)
        far = await listener.accept()
        data = os.urandom(2 << 20)

        async def send(conn):
            for i in range(0, len(data), 100000):
                await conn.write(data[i : i + 100000])

        sends_far = treadle.go(send(far))  # a server may begin
        near = await there
        sends_near = treadle.go(send(near))
        got_near = treadle.go(near.readexactly(len(data)))
        assert await far.readexactly(len(data)) == data
        assert await got_near == data
        await sends_far
        await sends_near
        near.close()
        assert await far.read(1) == b""
        far.close()
        listener.close()

    drive(main)


def test_certificates(drive, certs):
    """Q8."""

    async def main():
        for server, name, context, why in [
            ("server", "other.example", trusting(certs), "Hostname mismatch"),
            ("expired", None, trusting(certs), "certificate has expired"),
            ("alone", None, trusting(certs), "self-signed certificate"),
            ("server", None, True, "unable to get local issuer certificate"),
        ]:
            listener = await serve_echo(serving(certs, server))
            with pytest.raises(ssl.SSLCertVerificationError, match=why):
                await treadle.dial("tcp", f"localhost:{listener.port}", ssl=context, server_hostname=name)
            listener.close()
        lax = trusting(certs)
        lax.check_hostname = False
        lax.verify_mode = ssl.CERT_NONE
        listener = await serve_echo(serving(certs, "expired"))
        async with await treadle.dial("tcp", [listener.address], ssl=lax) as conn:
            await conn.write(b"hi\n")
            assert await conn.readline() == b"hi\n"
        listener.close()

    drive(main)


def test_agreed_on(drive, certs):
    """Q9, Q10, Q12: a client's certificate, protocols, sessions."""

    async def main():
        context, mine = serving(certs), trusting(certs)
        context.load_verify_locations(f"{certs}/ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["h2", "http/1.1"])
        mine.load_cert_chain(f"{certs}/client.pem", f"{certs}/client.key")
        mine.set_alpn_protocols(["http/1.1"])
        session = None
        listener = await treadle.listen("tcp", "127.0.0.1:0", ssl=context)
        for i in range(2):
            plain = await treadle.dial("tcp", listener.address)
            started = treadle.go(treadle.start_tls(plain, mine, server_hostname="localhost", session=session))
            far = await listener.accept()
            await far.do_handshake()
            await far.write(b"x")
            conn = await started
            assert await conn.read(1) == b"x"
            assert far.getpeercert()["subject"][-1] == (("commonName", "a client"),)
            assert far.selected_alpn_protocol() == conn.selected_alpn_protocol() == "http/1.1"
            assert conn.ssl_object.session_reused == (i == 1)
            session = conn.session
            conn.close()
            far.close()
        listener.close()

    drive(main)


def test_cut_off(drive, certs):
    """Q6: an end that was not announced."""

    async def main():
        listener = await treadle.listen("tcp", "127.0.0.1:0", ssl=serving(certs))
        dialled = treadle.go(treadle.dial("tcp", f"localhost:{listener.port}", ssl=trusting(certs)))
        far = await listener.accept()
        await far.write(b"bytes")
        conn = await dialled
        with socket.socket(fileno=os.dup(far.fileno())) as s:
            s.shutdown(socket.SHUT_RDWR)
        assert await conn.read(10) == b"bytes"
        for _ in range(2):
            with pytest.raises(ssl.SSLEOFError):
                await conn.read(10)
        conn.close()
        far.close()
        listener.close()

    drive(main)


def test_handshakes_that_fail(drive, certs):
    """Q15, Q16, Q17: silence, cancellation, a peer without TLS."""

    async def main():
        listener = await treadle.listen("tcp", "127.0.0.1:0")
        before = fds()
        with pytest.raises(TimeoutError):
            await treadle.dial("tcp", listener.address, ssl=trusting(certs), timeout=0.05)
        far = await listener.accept()
        far.close()
        waits = treadle.go(treadle.dial("tcp", listener.address, ssl=trusting(certs)))
        far = await listener.accept()
        await treadle.sleep(0.01)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        far.close()
        fails = treadle.go(treadle.dial("tcp", listener.address, ssl=trusting(certs)))
        far = await listener.accept()
        await far.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ssl.SSLError, match="(?i)wrong.version.number"):
            await fails
        far.close()
        while fds() > before:
            await treadle.sleep(0.001)
        listener.close()

    drive(main)


def test_start_tls_keeps_plain_bytes_apart(drive, certs):
    """Q18."""

    async def main():
        for injected in False, True:
            a, b = await pair()
            await a.write(b"STARTTLS\nNOOP\n" if injected else b"STARTTLS\n")
            if not injected:
                client = treadle.go(treadle.start_tls(a, trusting(certs), server_hostname="localhost"))
                await treadle.sleep(0.01)  # its first message is there, too
            assert await b.readline() == b"STARTTLS\n"
            if injected:
                with pytest.raises(ssl.SSLError):
                    await treadle.start_tls(b, serving(certs), server_side=True)
                assert b.closed
                a.close()
                continue
            far = await treadle.start_tls(b, serving(certs), server_side=True)
            near = await client
            await near.write(b"over TLS\n")
            assert await far.readline() == b"over TLS\n"
            near.close()
            far.close()

    drive(main)


def test_a_write_that_is_cut_short_ends_it(drive, certs):
    async def main():
        listener = await treadle.listen("tcp", "127.0.0.1:0", ssl=serving(certs))
        dialled = treadle.go(treadle.dial("tcp", f"localhost:{listener.port}", ssl=trusting(certs)))
        far = await listener.accept()
        await far.do_handshake()
        conn = await dialled
        conn.settimeout(0.1)
        with pytest.raises(TimeoutError):
            while True:
                await conn.write(b"x" * 1000000)  # nobody reads
        with pytest.raises(ConnectionAbortedError):
            await conn.write(b"more")
        conn.close()
        far.close()
        listener.close()

    drive(main)


def test_bad_input(drive, certs):
    async def main():
        with pytest.raises(TypeError, match="ssl.SSLContext"):
            treadle.dial("tcp", "127.0.0.1:1", ssl="yes")
        with pytest.raises(TypeError, match="ssl.SSLContext"):
            treadle.listen("tcp", "127.0.0.1:0", ssl=True)
        with pytest.raises(ValueError, match="server_hostname"):
            treadle.dial("tcp", "127.0.0.1:1", server_hostname="x")
        with pytest.raises(ConnectionRefusedError):
            await treadle.dial("tcp", "127.0.0.1:1", ssl=trusting(certs))
        listener = await serve_echo(serving(certs))
        with pytest.raises(ValueError, match="hostname"):
            await treadle.dial("tcp", [listener.address], ssl=trusting(certs))
        async with await treadle.dial("tcp", f"localhost:{listener.port}", ssl=trusting(certs)) as conn:
            await conn.write(b"a line that is too long\n")
            with pytest.raises(treadle.TooLong) as error:
                await conn.readline(5)
            assert error.value.beginning == b"a lin"
            assert await conn.readline() == b"a line that is too long\n"
            await conn.shutdown_write()
            with pytest.raises(asyncio.IncompleteReadError):
                await conn.readexactly(1)
            with pytest.raises(asyncio.IncompleteReadError):
                await conn.read_until(b"x")
            for call in conn.read(-1), conn.readexactly(-1), conn.read_until(b""):
                with pytest.raises(ValueError):
                    await call
        listener.close()

    drive(main)


def test_real_clients(drive, certs):
    """Q23: curl, and Python's own."""

    async def main():
        listener = await treadle.listen("tcp", "127.0.0.1:0", ssl=serving(certs))

        async def answer():
            async for conn in listener:
                async with conn:
                    await conn.read_until(b"\r\n\r\n")
                    await conn.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nhello\n")

        treadle.go(answer())
        url = f"https://localhost:{listener.port}/"
        ours = (
            "import ssl, sys, urllib.request as r;"
            "c = ssl.create_default_context(cafile=sys.argv[1]); c.verify_flags &= ~ssl.VERIFY_X509_STRICT;"
            "https = r.HTTPSHandler(context=c);"
            "print(r.build_opener(r.ProxyHandler({}), https).open(sys.argv[2], timeout=20).read().decode(), end='')"
        )
        for client in (
            ["curl", "-sS", "--max-time", "20", "--noproxy", "*", "--cacert", f"{certs}/ca.pem", url],
            [sys.executable, "-c", ours, f"{certs}/ca.pem", url],
        ):
            async with treadle.process(client, stdout="pipe", kill=True) as child:
                assert await child.stdout.readline() == b"hello\n"
                await child.wait()
        listener.close()

    drive(main)
