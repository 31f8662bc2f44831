# SPDX-License-Identifier: MIT
"""The small example programs of each language."""

import os
import subprocess

from servers import example


def test_workers(build, language):
    command, env = example(language, "workers", build)
    for _ in range(5):
        done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stdout, done.stderr) == (0, "338350\n", "")


def test_echo(start, connect, language):
    server = start("echo")
    one, other = connect(server), connect(server)
    for i in range(100):
        for client in (one, other):
            client.send(b"line %d\n" % i)
        assert one.line() == other.line() == b"line %d\n" % i
    one.socket.shutdown(1)
    assert one.rest() == b""
