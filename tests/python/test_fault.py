# SPDX-License-Identifier: MIT
"""Injected faults: TDL_FAULT, fault_set, fault_count. Each program is one of its
own, since the first text must come while nothing runs."""

import os
import subprocess

import pytest
import treadle
from conftest import script

ECHO = """
    import treadle

    async def serve(l):
        async with await l.accept() as c:
            async for line in c.lines():
                await c.write(line + b"\\n")

    async def echo():
        async with await treadle.listen("tcp", "127.0.0.1:0") as l:
            treadle.go(serve(l))
            async with await treadle.dial("tcp", f"127.0.0.1:{l.port}") as c:
                lines = c.lines()
                for i in range(200):
                    sent = b"x" * (i * 7 % 90) + str(i).encode()
                    await c.write(sent + b"\\n")
                    assert await anext(lines) == sent
"""


def test_from_the_environment():
    program = ECHO + """
    treadle.run(echo())
    for name in "short", "eagain", "eintr":
        assert treadle.fault_count(name) > 0, name
    assert treadle.fault_count() >= treadle.fault_count("short")
    print("whole")
    """
    text = "seed=3,short=0.5,eagain=0.3,eintr=0.3,delay=0.2,duplicate=0.2"
    done = script(program, env=os.environ | {"TDL_FAULT": text})
    assert (done.stdout, done.returncode) == ("whole\n", 0), done.stderr


def test_bad_environment():
    done = script("import treadle\nasync def main(): print('runs')\ntreadle.run(main())",
                  env=os.environ | {"TDL_FAULT": "shrt=0.5"})
    assert 'treadle: TDL_FAULT: "shrt": no such fault; there are short eagain' in done.stderr
    assert done.stdout == "" and done.returncode != 0


def test_set_by_the_program():
    done = script(ECHO + """
    async def changed():
        treadle.fault_set("refused=1,most=1")
        try:
            await treadle.dial("tcp", "127.0.0.1:9")
        except ConnectionRefusedError:
            print("refused")
        assert treadle.fault_count() == 1
        treadle.fault_set(None)
        await echo()
        assert treadle.fault_count() == 0

    treadle.fault_set("seed=5,short=0.5")
    treadle.run(echo())
    assert treadle.fault_count("short") > 0
    treadle.run(changed())
    print("whole")
    """)
    assert (done.stdout, done.returncode) == ("refused\nwhole\n", 0), done.stderr


def test_same_seed_same_faults():
    program = """
    import treadle
    treadle.fault_set("seed=7")
    async def main():
        treadle.fault_set("seed=7,emfile=0.5")
        pattern = ""
        for _ in range(64):
            try:
                treadle.fd(0, dup=True).close()
                pattern += "."
            except OSError:
                pattern += "x"
        print(pattern)
    treadle.run(main())
    """
    first, second = (script(program, stdin=subprocess.PIPE) for _ in range(2))
    assert first.stdout == second.stdout, first.stderr
    assert set(first.stdout) == set(".x\n")


def test_refused(drive):
    async def main():
        await treadle.sleep(0.001)  # from here on something runs
        with pytest.raises(ValueError, match='"short=2": expected a rate from 0 to 1'):
            treadle.fault_set("short=2")
        with pytest.raises(ValueError, match="there is no fault 'shrt'"):
            treadle.fault_count("shrt")
        with pytest.raises(TypeError):
            treadle.fault_set(7)
        with pytest.raises(RuntimeError):
            treadle.fault_set("short=0.5")

    drive(main)
