# SPDX-License-Identifier: MIT
"""The HTTP server of each language: what it answers, and when it hangs up."""

import re
import signal
import socket
import struct
import time

import pytest
from servers import Server, ServerFailed

HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, World!\n"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def answer(client):
    """One answer: status, headers, body."""
    status = client.line()
    assert re.fullmatch(rb"HTTP/1\.1 \d{3} [\w /-]+\r\n", status), status
    headers = {}
    while (line := client.line()) != b"\r\n":
        name, _, value = line.partition(b":")
        headers[name.lower().decode()] = value.strip().decode()
    return int(status.split()[1]), headers, client.file.read(int(headers.get("content-length", 0)))


@pytest.fixture
def server(start):
    return start("http_server")


def test_the_answer_byte_for_byte(server, connect):
    client = connect(server)
    client.send(GET)
    assert client.file.read(len(HELLO)) == HELLO
    assert client.silent()


def test_keep_alive(server, connect):
    client = connect(server)
    for _ in range(100):
        client.send(GET)
        assert client.file.read(len(HELLO)) == HELLO


def test_pipelining(server, connect):
    client = connect(server)
    client.send(GET * 50)
    assert client.file.read(50 * len(HELLO)) == 50 * HELLO


def test_a_request_that_comes_byte_by_byte(server, connect):
    client = connect(server)
    for byte in GET:
        client.send(bytes([byte]))
        time.sleep(0.002)
    assert client.file.read(len(HELLO)) == HELLO


def test_connection_close(server, connect):
    client = connect(server)
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n")
    status, headers, body = answer(client)
    assert (status, headers["connection"].lower(), body) == (200, "close", b"Hello, World!\n")
    assert client.rest() == b""


def test_http_1_0_closes(server, connect):
    client = connect(server)
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    status, _, body = answer(client)
    assert (status, body) == (200, b"Hello, World!\n")
    assert client.rest() == b""


def test_http_1_0_keep_alive(server, connect):
    client = connect(server)
    for _ in range(2):
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        status, headers, _ = answer(client)
        assert (status, headers["connection"].lower()) == (200, "keep-alive")


def test_not_found_keeps_the_connection(server, connect):
    client = connect(server)
    client.send(b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n" + GET)
    assert answer(client)[0] == 404
    assert answer(client)[0] == 200


@pytest.mark.parametrize("method", [b"POST", b"DELETE", b"PATCH"])
def test_other_methods(server, connect, method):
    client = connect(server)
    client.send(method + b" / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    status, headers, _ = answer(client)
    assert status == 405
    assert "GET" in headers["allow"]


def test_the_body_of_a_request_is_passed_over(server, connect):
    client = connect(server)
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\nGET /b HTTP/1.1\r\n\r\n!" + GET)
    assert answer(client)[0] == 200
    assert answer(client)[0] == 200
    assert client.silent()


@pytest.mark.parametrize("request_text", [
    b"nonsense\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET  / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1 x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
    b"GET / HTTP/1.1\r\nName : value\r\n\r\n",
    b"GET / HTTP/1.1\r\n: value\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: twelve\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
])
def test_bad_requests(server, connect, request_text):
    client = connect(server)
    client.send(request_text)
    assert answer(client)[0] == 400
    assert client.rest() == b""
    other = connect(server)  # the others are served as before
    other.send(GET)
    assert answer(other)[0] == 200


@pytest.mark.parametrize("request_text", [
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000 + b"\r\n",
], ids=["request line", "header", "headers"])
def test_limits(server, connect, request_text):
    client = connect(server)
    client.send(request_text)
    assert answer(client)[0] in (400, 414, 431)
    assert client.rest() == b""


def test_half_a_request_then_the_end(server, connect):
    client = connect(server)
    client.send(b"GET / HTTP/1.1\r\nHost:")
    client.socket.shutdown(1)
    client.rest()  # nothing, or an answer that says so; but the stream ends
    other = connect(server)
    other.send(GET)
    assert answer(other)[0] == 200


def test_resets_harm_nobody(server, connect):
    for _ in range(50):
        client = connect(server)
        client.send(GET * 3)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    other = connect(server)
    other.send(GET)
    assert answer(other)[0] == 200
    server.check_alive()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_ends_cleanly_on_a_signal(server, connect, signum):
    client = connect(server)
    client.send(GET)
    assert answer(client)[0] == 200
    assert server.stop(signum) == 0
    assert "Traceback" not in server.complaint()


def test_an_address_that_is_in_use(server, build, language):
    with pytest.raises(ServerFailed) as raised:
        with Server(language, "http_server", build, address=server.address):
            pass
    assert "in use" in str(raised.value)


@pytest.mark.parametrize("address, trouble", [("nonsense", "port"), ("127.0.0.1", "port"), ("127.0.0.1:99999", "port"),
                                              ("256.0.0.1:80", "address")])
def test_an_address_that_does_not_parse(build, language, address, trouble):
    server = Server(language, "http_server", build, address=address)
    with pytest.raises(ServerFailed):
        server.__enter__()
    assert server.process.returncode > 0
    assert address in server.complaint() and trouble in server.complaint()
