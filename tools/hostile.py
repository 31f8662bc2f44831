#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hostile clients for the example servers, beside good ones.

For some time an HTTP server and a chat room are given half requests, oversized lines,
resets after every number of bytes, garbage, and clients that ask and never read; wrk, and two
people who talk in the room, meanwhile must see no error. Afterwards the server must
still answer, and its memory and descriptors must be what they were when it had settled."""

import argparse
import contextlib
import pathlib
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time

from servers import LANGUAGES, ROOT, Server, raise_descriptor_limit

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: hostile\r\nConnection: keep-alive\r\n\r\n"
CHAT = b"mallory\nhello everybody\n/quit\n"
RESET = struct.pack("ii", 1, 0)
ALLOWED_GROWTH = 12 << 20  # bytes, between a quarter of the time and its end


def connect(port: int) -> socket.socket:
    s = socket.create_connection(("127.0.0.1", port), timeout=5)
    s.settimeout(2)
    return s


def reset(s: socket.socket) -> None:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    s.close()


def half(port: int, good: bytes, rng: random.Random) -> None:
    """A beginning, a pause, and the end of the stream, or nothing more for a while."""
    with connect(port) as s:
        s.sendall(good[:rng.randrange(len(good))])
        if rng.random() < 0.5:
            s.shutdown(socket.SHUT_WR)
        time.sleep(rng.random() * 0.3)


def oversized(port: int, good: bytes, rng: random.Random) -> None:
    """A line without an end, as far as the server takes it."""
    with connect(port) as s:
        for _ in range(64):
            s.sendall(good[:4] + b"x" * 65536)


def cut(port: int, good: bytes, rng: random.Random) -> None:
    """A reset after every number of bytes."""
    for n in range(len(good) + 1):
        s = connect(port)
        with contextlib.suppress(OSError):
            s.settimeout(0.05)
            s.sendall(good[:n])
            if rng.random() < 0.3:
                s.recv(1)
        reset(s)


def deaf(port: int, good: bytes, rng: random.Random) -> None:
    """Asks, and never reads an answer; goes by a reset."""
    s = connect(port)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(0.2)
    try:
        if good is CHAT: # who says too much there would only drown the others
            s.sendall(CHAT.replace(b"/quit\n", b"and more\n") * 5)
            time.sleep(rng.random())
        else:
            for _ in range(2000):
                s.sendall(good)
    except OSError:
        time.sleep(rng.random())
    reset(s)


def garbage(port: int, good: bytes, rng: random.Random) -> None:
    with connect(port) as s:
        s.sendall(rng.randbytes(rng.randrange(1, 20000)))
        s.recv(1000)


WAYS = (half, oversized, cut, deaf, garbage)


class Crowd:
    """Threads that do one bad thing after the other until told to end."""

    def __init__(self, port: int, good: bytes):
        self.over = threading.Event()
        self.counts = dict.fromkeys((way.__name__ for way in WAYS), 0)
        self.threads = [threading.Thread(target=self.work, args=(port, good, way, seed))
                        for way in WAYS for seed in range(2)]

    def work(self, port: int, good: bytes, way, seed: int) -> None:
        rng = random.Random(f"{way.__name__}{seed}")
        while not self.over.is_set():
            with contextlib.suppress(OSError):
                way(port, good, rng)
            self.counts[way.__name__] += 1
            time.sleep(0.01)

    def __enter__(self) -> "Crowd":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


class Talk:
    """Two people in the room, who read all that is said: what one says the other must hear, in order."""

    def __init__(self, port: int):
        self.port, self.over, self.heard, self.failure = port, threading.Event(), 0, None
        self.thread = threading.Thread(target=self.run)

    def ignore(self, alice: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while alice.recv(1 << 18):
                pass

    def hear(self, bob: socket.socket, expected: bytes) -> None:
        """Reads on until that was said; anything else by her is an error."""
        said = b""
        while True:
            more = bob.recv(1 << 18)
            if not more:
                raise OSError("the room has closed bob's connection")
            said += more
            by_alice = re.search(rb"^alice: .*\n", said, re.M)
            if by_alice:
                if by_alice.group(0) != expected:
                    raise OSError(f"bob heard {by_alice.group(0)!r} instead of {expected!r}")
                return
            said = said[said.rfind(b"\n") + 1:]

    def run(self) -> None:
        try:
            with connect(self.port) as alice, connect(self.port) as bob:
                for s, name in ((bob, b"bob\n"), (alice, b"alice\n")):
                    s.settimeout(20)
                    s.sendall(name)
                threading.Thread(target=self.ignore, args=(alice,), daemon=True).start()
                time.sleep(0.2)
                while not self.over.is_set():
                    alice.sendall(b"message %d\n" % self.heard)
                    self.hear(bob, b"alice: message %d\n" % self.heard)
                    self.heard += 1
                alice.shutdown(socket.SHUT_RDWR)
        except OSError as failure:
            self.failure = str(failure)

    def __enter__(self) -> "Talk":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def settled(server: Server, most: int) -> int:
    """Descriptors, once those of the clients that went are closed."""
    for _ in range(100):
        if server.descriptors() <= most:
            break
        time.sleep(0.1)
    return server.descriptors()


def judge(server: Server, before: int, early: int, late: int, failures: list[str]) -> None:
    server.check_alive()
    after = settled(server, before)
    if after > before:
        failures.append(f"{after - before} descriptors are left")
    if late - early > ALLOWED_GROWTH:
        failures.append(f"memory grew from {early >> 10} to {late >> 10} KiB")


def watch(server: Server, seconds: float) -> tuple[int, int]:
    """Memory after a quarter of the time, and at its end: the lowest of some looks."""
    def low() -> int:
        looks = []
        for _ in range(5):
            looks.append(server.resident())
            time.sleep(0.1)
        return min(looks)
    time.sleep(seconds / 4)
    early = low()
    time.sleep(seconds * 3 / 4)
    return early, low()


def http(language: str, build: pathlib.Path, seconds: float) -> list[str]:
    failures: list[str] = []
    with Server(language, "http_server", build) as server:
        before = server.descriptors()
        load = subprocess.Popen(["wrk", "-t1", "-c8", f"-d{round(seconds)}", "--timeout", "10", f"http://{server.address}/"],
                                stdout=subprocess.PIPE, text=True)
        with Crowd(server.port, REQUEST) as crowd:
            early, late = watch(server, seconds)
        text = load.communicate()[0]
        bad = re.search(r"Socket errors:.*|Non-2xx.*", text)
        requests = re.search(r"(\d+) requests in", text)
        if bad or not requests or int(requests.group(1)) == 0:
            failures.append(f"wrk: {bad.group(0) if bad else text}")
        with connect(server.port) as s:
            s.sendall(REQUEST)
            if not s.recv(100).startswith(b"HTTP/1.1 200"):
                failures.append("it does not answer any more")
        judge(server, before, early, late, failures)
        print(f"  {server.name}: {requests and requests.group(1)} good requests beside {crowd.counts}, "
              f"{early >> 10} to {late >> 10} KiB")
    return [f"{language} http_server: {failure}" for failure in failures]


def chat(language: str, build: pathlib.Path, seconds: float) -> list[str]:
    failures: list[str] = []
    with Server(language, "chat", build) as server:
        before = server.descriptors()
        with Talk(server.port) as talk, Crowd(server.port, CHAT) as crowd:
            early, late = watch(server, seconds)
        if talk.failure or talk.heard == 0:
            failures.append(talk.failure or "nobody was heard")
        judge(server, before, early, late, failures)
        print(f"  {server.name}: {talk.heard} messages beside {crowd.counts}, {early >> 10} to {late >> 10} KiB")
    return [f"{language} chat: {failure}" for failure in failures]


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev hostile", description=__doc__)
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE", help=f"some of {' '.join(LANGUAGES)}; Lua when none is named")
    parser.add_argument("--seconds", type=float, default=60, help="of each server (60)")
    asked = parser.parse_args()
    raise_descriptor_limit()
    failures = []
    for language in asked.languages or ["Lua"]:
        for check in (http, chat):
            failures += check(language, ROOT / "build", asked.seconds)
    for failure in failures:
        print(f"  FAILED: {failure}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
