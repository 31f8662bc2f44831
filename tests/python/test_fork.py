# SPDX-License-Identifier: MIT
"""os.fork in the middle of everything; and children of multiprocessing and subprocess."""

import subprocess
import sys
from pathlib import Path

import pytest

CASES = [
    ("goroutine", "exit", "guest"), ("task", "exit", "loop"), ("task", "meddle", "guest"),
    ("callback", "asyncio", "run"), ("thread", "meddle", "run"), ("thread", "exit", "loop"),
]  # fmt: skip
if sys.version_info >= (3, 14):  # asyncio's own tasks lose what they raise in the child: it has no running loop
    CASES = [case for case in CASES if case[0] == "thread" or case[1] != "exit"]


def test_the_child_ends_and_the_parent_is_unharmed():
    program = Path(__file__).with_name("forks.py")
    ps = [(case, subprocess.Popen([sys.executable, program, *case], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
          for case in CASES]  # fmt: skip
    wrong = []
    for case, p in ps:
        out, err = p.communicate(timeout=25)
        code = 0 if case[:2] == ("thread", "exit") else 3  # a thread's SystemExit is its own
        if out.splitlines() != [f"child {code}", "parent unharmed"] or p.returncode != 0:
            wrong.append((case, p.returncode, out, err))
    assert not wrong


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_multiprocessing(method, tmp_path):
    """A pool within a goroutine; what the child may do depends on how it is started (forkserver spawns)."""
    program = tmp_path / "pool.py"
    program.write_text('''
import asyncio, multiprocessing, os, subprocess, sys, warnings
import treadle

def work(n):
    async def main():
        ch = treadle.Chan(1)
        await ch.send(n)
        return await ch.recv() + 1
    async def plain():
        await asyncio.sleep(0)
        return n + 1
    asyncio._set_running_loop(None)
    try:
        return treadle.run(main()), asyncio.run(plain())
    except RuntimeError as error:
        return "fork" in str(error), asyncio.run(plain())

async def main(method):
    context = multiprocessing.get_context(method)
    with context.Pool(1) as pool:
        result = pool.apply_async(work, (1,))
        while not result.ready():
            await treadle.sleep(0.005)
        print(result.get())
    p = subprocess.Popen(["true"], preexec_fn=lambda: os.setpgid(0, 0))
    print(p.wait(), os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1])
    await treadle.sleep(0.001)

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    treadle.run(main(sys.argv[1]))
''')
    p = subprocess.run([sys.executable, program, method], capture_output=True, text=True, timeout=25)
    assert p.stdout.splitlines() == [str((method == "fork" or 2, 2)), "0 0"], p.stderr
