# SPDX-License-Identifier: MIT
"""What tells descriptors' readiness: TDL_NETPOLL and treadle.netpoll."""

import os

import pytest
import treadle
from conftest import script

ECHO = """
    import treadle

    async def serve(l):
        async with await l.accept() as c:
            async for line in c.lines():
                await c.write(line + b"\\n")

    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0") as l:
            treadle.go(serve(l))
            async with await treadle.dial("tcp", f"127.0.0.1:{l.port}") as c:
                lines = c.lines()
                for i in range(100):
                    await c.write(b"%d\\n" % i)
                    assert await anext(lines) == b"%d" % i
        print(*treadle.netpoll(), sep="|")

    treadle.run(main())
"""


@pytest.mark.parametrize("name", ["epoll", "uv"])
def test_chosen_by_the_environment(name):
    done = script(ECHO, env=os.environ | {"TDL_NETPOLL": name})
    assert (done.stdout, done.returncode) == (f"{name}|asked for by TDL_NETPOLL\n", 0), done.stderr


def test_uring_or_why_not():
    done = script(ECHO, env=os.environ | {"TDL_NETPOLL": "uring"})
    assert done.returncode == 0, done.stderr
    name, reason = done.stdout.rstrip().split("|")
    if name == "epoll":
        assert "asks for uring, which does not work here: " in reason
        assert reason in done.stderr
    else:
        assert (name, reason) == ("uring", "asked for by TDL_NETPOLL")


def test_wrong_name():
    done = script(ECHO, env=os.environ | {"TDL_NETPOLL": "select"})
    assert 'treadle: TDL_NETPOLL is "select": it can be epoll, uring or uv' in done.stderr
    assert done.returncode != 0 and done.stdout == ""


def test_in_this_process():
    name, reason = treadle.netpoll()
    assert name in {"epoll", "uring", "uv"} and reason
