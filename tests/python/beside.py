# SPDX-License-Identifier: MIT
"""One scenario on asyncio's own loop and on treadle's: what the program is told, and in
which words, must be the same. What is bad input is asyncio's to say."""

import asyncio
import functools
import gc
import inspect
import logging
import os
import re
import socket
import warnings

import pytest
import treadle

debugging = pytest.mark.skipif(
    os.environ.get("PYTHONASYNCIODEBUG") == "1", reason="debug mode has scenarios of its own"
)

OURS = (
    (r"_SelectorSocketTransport", "SocketTransport"),
    (r"_SelectorDatagramTransport", "DatagramTransport"),
    (r"_Unix(Read|Write)PipeTransport", r"\1PipeTransport"),
    (r"fd=\d+", "fd=N"),
    (r"FileIO name=\d+", "FileIO name=N"),
    (r"0x[0-9a-f]+", "0x"),
    (r"('127\.0\.0\.1'|'::1'), \d{4,}", r"\1, PORT"),
    (r"when=\d+\.\d+", "when=T"),
    (r"(Read|Write) pipe \d+", r"\1 pipe N"),
    (r"connection_made\(<.*>\) Z", "connection_made(…) Z"),
    (r"callback None\(\)", "callback DatagramTransport._sendto_ready()"),  # the handle was gone already
    (r"callback \w+\._call_connection_lost", "callback T._call_connection_lost"),
    (r"(took|in) \d+\.\d+", r"\1 T"),
    (r" created at [^\s>]+", ""),
)


def plain(text):
    for pattern, ours in OURS:
        text = re.sub(pattern, ours, text)
    return text


class Notes(logging.Handler):
    """What happened, as texts."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.texts = []
        self.left = None  # to be closed in the end

    def note(self, *what):
        self.texts.append(plain(" ".join(w if isinstance(w, str) else repr(w) for w in what)))

    def attempt(self, name, f, *args, **kwargs):
        try:
            self.note(name, "gave", f(*args, **kwargs))
        except BaseException as exc:
            self.note(name, "raised", type(exc).__name__, str(exc))

    def handler(self, loop, context):
        self.note("handler:", context["message"], context.get("exception"))

    def emit(self, record):
        if not record.getMessage().startswith(("Using selector", "Close <")):
            self.note("log:", record.levelname, record.getMessage())


def told_by(factory, scenario, debug, collect=False):
    notes = Notes()
    logger = logging.getLogger("asyncio")
    level = logger.level
    logger.addHandler(notes)
    if debug:
        logger.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with asyncio.Runner(loop_factory=factory, debug=debug) as runner:
                runner.get_loop().set_exception_handler(notes.handler)
                runner.run(asyncio.wait_for(scenario(notes), 20))
            if collect:
                gc.collect()
        for warning in caught:
            notes.note("warning:", warning.category.__name__, str(warning.message))
    finally:
        if isinstance(notes.left, int):
            os.close(notes.left)
        elif notes.left is not None:
            notes.left.close()
        logger.removeHandler(notes)
        logger.setLevel(level)
    return notes.texts


def same(scenario=None, *, debug=False, collect=False):
    """The scenario, a coroutine function of Notes and parameters, as a test."""
    if scenario is None:
        return functools.partial(same, debug=debug, collect=collect)

    @functools.wraps(scenario)
    def test(**parameters):
        run = functools.partial(scenario, **parameters)
        expected = told_by(asyncio.SelectorEventLoop, run, debug, collect)
        assert told_by(treadle.new_event_loop, run, debug, collect) == expected
        assert expected, "the scenario notes nothing"

    signature = inspect.signature(scenario)
    del test.__wrapped__
    test.__signature__ = signature.replace(parameters=[*signature.parameters.values()][1:])
    return test


class Told(asyncio.Protocol):
    """A protocol of any kind; notes all it is told. What is in `fails` raises."""

    def __init__(self, notes, *fails):
        self.notes = notes
        self.fails = fails
        self.seen = []
        self.lost = asyncio.get_running_loop().create_future()

    def tell(self, name, *args):
        self.notes.note(name, *args)
        self.seen.append(name)
        if name in self.fails:
            raise ZeroDivisionError(name)

    def connection_made(self, transport):
        self.transport = transport
        self.tell("connection_made")

    def connection_lost(self, exc):
        if not self.lost.done():
            self.lost.set_result(None)
        self.tell("connection_lost", exc)

    def data_received(self, data):
        self.tell("data_received", data)

    def datagram_received(self, data, addr):
        self.tell("datagram_received", data, addr)

    def error_received(self, exc):
        self.tell("error_received", exc)

    def eof_received(self):
        self.tell("eof_received")

    def pause_writing(self):
        self.tell("pause_writing")

    def resume_writing(self):
        self.tell("resume_writing")

    async def until(self, name, times=1):
        while self.seen.count(name) < times:
            await asyncio.sleep(0.001)


METHODS = ("connection_made", "data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing")
BAD_DATA = ("text", None, 5, [1], object)
BIG = b"x" * 400_000


async def socket_pair(notes, *fails):
    """A transport over one end; the other as a socket that does not block."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    ours.setblocking(False)
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(lambda: Told(notes, *fails), sock=ours)
    return transport, protocol, theirs


async def pipe(notes, kind, *fails):
    """A transport over one end of a pipe; the other end's descriptor."""
    r, w = os.pipe()
    loop = asyncio.get_running_loop()
    if kind == "read":
        connect, ours, theirs = loop.connect_read_pipe, os.fdopen(r, "rb", 0), w
    else:
        connect, ours, theirs = loop.connect_write_pipe, os.fdopen(w, "wb", 0), r
    os.set_blocking(theirs, False)
    transport, protocol = await connect(lambda: Told(notes, *fails), ours)
    return transport, protocol, theirs


async def drain(read, enough):
    got = 0
    while got < enough:
        try:
            got += len(read())
        except BlockingIOError:
            await asyncio.sleep(0.001)


async def endpoint(notes, *fails, **kwargs):
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(lambda: Told(notes, *fails), **kwargs)


async def outcome(notes, name, awaitable):
    try:
        notes.note(name, "gave", await awaitable)
    except Exception as exc:
        notes.note(name, "raised", type(exc).__name__, str(exc), type(exc.__cause__).__name__)
