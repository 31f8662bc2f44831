# SPDX-License-Identifier: MIT
"""The chat room of each language: who hears what, and who is cut off."""

import threading
import time

import pytest


@pytest.fixture
def server(start):
    return start("chat")


@pytest.fixture
def enter(connect):
    """enter(server, nick, *others): joins, and waits until the others know."""

    def enter_one(server, nick, *others):
        client = connect(server)
        assert client.line() == b"name?\n"
        client.send(nick.encode() + b"\n")
        for other in others:
            assert other.line() == f"* {nick} joined\n".encode()
        if not others:
            time.sleep(0.2)  # nobody tells the first one that it is in
        return client

    return enter_one


def test_a_conversation(server, enter):
    ann = enter(server, "ann")
    bob = enter(server, "bob", ann)
    cyd = enter(server, "cyd", ann, bob)
    ann.send(b"hello\n")
    bob.send(b"how are you?\r\n")  # in any order to cyd
    assert bob.line() == b"ann: hello\n"
    assert ann.line() == b"bob: how are you?\n"
    assert sorted([cyd.line(), cyd.line()]) == [b"ann: hello\n", b"bob: how are you?\n"]
    bob.send(b"/quit\n")
    assert bob.rest() == b""
    assert ann.line() == cyd.line() == b"* bob left\n"
    assert ann.silent() and cyd.silent()


def test_the_end_of_the_stream_leaves(server, enter):
    ann = enter(server, "ann")
    bob = enter(server, "bob", ann)
    bob.send(b"a last line without its end")
    bob.socket.shutdown(1)
    assert ann.line() == b"bob: a last line without its end\n"
    assert ann.line() == b"* bob left\n"
    assert bob.rest() == b""


def test_a_reset_leaves(server, enter):
    ann = enter(server, "ann")
    bob = enter(server, "bob", ann)
    ann.send(b"never read\n")
    time.sleep(0.1)
    bob.close()  # with unread bytes: a reset
    assert ann.line() == b"* bob left\n"


def test_lines_in_pieces(server, enter):
    ann = enter(server, "ann")
    bob = enter(server, "bob", ann)
    for piece in (b"one\ntw", b"o\nthr", b"ee\n"):
        ann.send(piece)
        time.sleep(0.05)
    assert [bob.line() for _ in range(3)] == [b"ann: one\n", b"ann: two\n", b"ann: three\n"]


def test_many_lines_at_once_keep_their_order(server, enter):
    ann = enter(server, "ann")
    bob = enter(server, "bob", ann)
    lines = [f"line {i}".encode() for i in range(200)]
    ann.send(b"".join(line + b"\n" for line in lines))
    assert [bob.line() for _ in lines] == [b"ann: " + line + b"\n" for line in lines]


def test_bytes_that_are_no_text(server, enter):
    ann = enter(server, "ann")
    bob = enter(server, "bob", ann)
    ann.send(b"\xff\xfe\x80 \xe2\x82\xac\n")
    assert bob.line() == b"ann: \xff\xfe\x80 \xe2\x82\xac\n"


def test_leaving_before_the_name(server, enter, connect):
    ann = enter(server, "ann")
    nobody = connect(server)
    assert nobody.line() == b"name?\n"
    nobody.close()
    assert ann.silent()


def test_who_is_idle_is_sent_away(start, enter):
    server = start("chat", "1")
    ann = enter(server, "ann")
    bob = enter(server, "bob", ann)
    begin = time.monotonic()
    heard = []

    def keep_talking():
        while time.monotonic() - begin < 2.5:
            ann.send(b"still here\n")
            time.sleep(0.2)

    talk = threading.Thread(target=keep_talking)
    talk.start()
    while line := bob.line():
        heard.append(line)
    assert 0.9 < time.monotonic() - begin < 2.5
    assert heard[-1] == b"* idle, bye\n"
    assert set(heard[:-1]) == {b"ann: still here\n"}
    talk.join()
    assert ann.line() == b"* bob left\n"  # who talks stays


def test_who_is_idle_at_the_prompt_is_sent_away(start, connect):
    server = start("chat", "1")
    client = connect(server)
    assert client.rest() == b"name?\n* idle, bye\n"


def test_a_slow_client_is_dropped_and_nobody_waits_for_it(server, enter):
    ann = enter(server, "ann")
    bob = enter(server, "bob", ann)
    slow = enter(server, "slow", ann, bob)  # never reads again
    text = b"x" * 900
    longest, dropped = 0.0, 0
    for i in range(20_000):  # 18 MB: more than the sockets' buffers hold
        begin = time.monotonic()
        ann.send(b"%d " % i + text + b"\n")
        line = bob.line()
        longest = max(longest, time.monotonic() - begin)
        if line == b"* slow left\n":
            dropped += 1
            line = bob.line()
        assert line == b"ann: %d " % i + text + b"\n"
        if dropped:
            break
    assert dropped == 1
    assert longest < 2.0
    assert ann.line() == b"* slow left\n"
    del slow


def test_a_line_without_end_is_not_kept(server, enter):
    ann = enter(server, "ann")
    bob = enter(server, "bob", ann)
    try:
        for _ in range(200):
            bob.send(b"x" * 65536)
    except OSError:
        pass  # cut off in the middle, as it should be
    assert ann.line() == b"* bob left\n"
    cyd = enter(server, "cyd", ann)
    cyd.send(b"all is well\n")
    assert ann.line() == b"cyd: all is well\n"


def test_ends_cleanly_on_sigterm(server, enter):
    ann = enter(server, "ann")
    enter(server, "bob", ann)
    assert server.stop() == 0
    assert "Traceback" not in server.complaint()
