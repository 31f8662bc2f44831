# SPDX-License-Identifier: MIT
"""Tests of the example servers, the same for all three languages."""

from __future__ import annotations

import os
import pathlib
import socket
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from servers import LANGUAGES, Server, raise_descriptor_limit  # noqa: E402

raise_descriptor_limit()


@pytest.fixture(scope="session")
def build() -> pathlib.Path:
    return pathlib.Path(os.environ.get("TDL_BUILD", ROOT / "build")).resolve()


@pytest.fixture(params=LANGUAGES)
def language(request) -> str:
    return request.param


@pytest.fixture
def start(build, language):
    """start(program, *arguments) gives a server that is stopped after the test,
    and must then end cleanly."""
    servers = []

    def start_one(program: str, *arguments: str, **options) -> Server:
        server = Server(language, program, build, *arguments, **options)
        servers.append(server.__enter__())
        return server

    yield start_one
    for server in servers:
        try:
            if server.process.poll() is None:
                assert server.stop() == 0, server.complaint()
        finally:
            server.__exit__(None, None, None)


class Client:
    """A plain blocking connection."""

    def __init__(self, server: Server):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        return self.file.readline()

    def rest(self) -> bytes:
        return self.file.read()

    def silent(self, seconds: float = 0.2) -> bool:
        """Nothing more has come (what was buffered has been read)."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1, socket.MSG_PEEK) == b"nothing"
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(10)

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def connect():
    clients = []

    def connect_one(server: Server) -> Client:
        clients.append(Client(server))
        return clients[-1]

    yield connect_one
    for client in clients:
        client.close()
