# SPDX-License-Identifier: MIT
"""The example servers under load: no errors, thousands of connections, and
nothing left behind."""

import subprocess
import sys
import time

import clients
import pytest

EXACT = ("goroutines", "tasks", "channels", "listeners")


def until(condition, what, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.05)


def test_wrk_sees_no_error(start):
    server = start("http_server")
    result = clients.wrk(server.address, seconds=3)
    assert result.errors == 0, result.detail
    print(f"{server.name}: {result.per_second:,.0f} requests/s, p99 {result.p99_us / 1000:.2f} ms")


def test_a_connection_for_each_request(start):
    server = start("http_server")
    for _ in range(20):
        done = subprocess.run(["curl", "-sS", "--max-time", "5", "-H", "Connection: close",
                               *[f"http://{server.address}/"] * 10], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "Hello, World!\n" * 10), done.stderr


def test_a_full_room(start, build):
    server = start("chat")
    result = clients.chat(build, server.address, members=300, messages=300)
    print(f"{server.name}: {result.per_second:,.0f} messages/s, p99 {result.p99_us / 1000:.2f} ms")


def test_5000_idle_connections_while_messages_flow(start, build):
    server = start("chat")
    before = server.resident()
    process = subprocess.Popen(clients.chat_command(build, server.address, members=20, idle=5000, messages=3000),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    most = 0
    while process.poll() is None:
        most = max(most, server.resident())
        time.sleep(0.1)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    print(f"{server.name}: {out.strip()} bytes_each={(most - before) // 5020}")
    until(lambda: server.descriptors() < 100, lambda: f"{server.descriptors()} descriptors are still open")


@pytest.mark.parametrize("program", ["http_server", "chat"])
def test_nothing_is_left_after_ten_rounds(start, build, program):
    """Descriptors, goroutines, channels, connections and memory are back where
    they were after the first rounds, which fill caches and pools."""
    server = start(program, probe=True)

    def one_round():
        if program == "chat":
            clients.chat(build, server.address, members=100, idle=100, messages=200)
        else:
            assert clients.wrk(server.address, seconds=1, connections=100).errors == 0
        until(lambda: server.descriptors() == descriptors,
              lambda: f"{server.descriptors()} descriptors, {descriptors} before")

    idle = server.metrics()
    descriptors = server.descriptors()
    for _ in range(3):
        one_round()
    resident = server.resident()
    for _ in range(10):
        one_round()

    def is_back():
        now = server.metrics()
        # The variable of an accept loop may still name the last connection, closed as it is.
        return all(now[k] == idle[k] for k in EXACT) and now["connections"] <= idle["connections"] + 1

    until(is_back, lambda: f"before {idle}, after {server.metrics()}")
    grown = server.resident() - resident
    print(f"{server.name}: {resident >> 10} KiB after 3 rounds, {grown >> 10:+d} KiB after 10 more", file=sys.stderr)
    assert grown < max(2 << 20, resident // 4)


def test_out_of_descriptors(start, connect):
    """Who is connected is served on, and who comes too many waits in the
    backlog until somebody leaves; the server neither ends nor spins."""
    server = start("chat", descriptors=64)
    clients_ = [connect(server) for _ in range(100)]
    served = []
    for client in clients_:
        if not client.silent(0.5 if len(served) < 30 else 0.05):
            served.append(client)
        elif served:
            break
    assert 30 < len(served) < 64
    for client in served:
        assert client.line() == b"name?\n"

    used = server.processor_seconds()
    time.sleep(1)
    assert server.processor_seconds() - used < 0.5

    for client in served:
        client.close()
    for client in clients_[len(served):]:
        assert client.line() == b"name?\n"
