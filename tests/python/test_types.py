# SPDX-License-Identifier: MIT
"""The types: mypy --strict on the package and the examples, and stubs that say
what the module has."""

import os
import subprocess
import sys

import pytest
import treadle

pytest.importorskip("mypy")

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples/python")


def run(*args, cwd):
    out = subprocess.run([sys.executable, "-m", *args], cwd=cwd, capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr


@pytest.fixture(autouse=True)
def limit():
    """mypy's first run takes its time."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return f"--cache-dir={tmp_path_factory.mktemp('mypy')}"


def test_examples(cache):
    files = [os.path.join(EXAMPLES, f) for f in os.listdir(EXAMPLES) if f.endswith(".py")]
    assert len(files) >= 5
    run("mypy", "--strict", cache, *files, cwd=EXAMPLES)


def test_package_and_stubs(cache, tmp_path):
    run("mypy", "--strict", cache, "-p", "treadle", cwd=tmp_path)
    run("mypy.stubtest", "treadle._treadle", cwd=tmp_path)


def test_generic_channels(cache, tmp_path):
    """Chan[T] carries T, and nothing else."""
    (tmp_path / "right.py").write_text(
        "import treadle\n"
        "async def f(ch: treadle.Chan[int]) -> int:\n"
        "    await ch.send(1)\n"
        "    g = treadle.go(f(ch))\n"
        "    return await ch.recv() + await g\n"
    )
    (tmp_path / "wrong.py").write_text(
        "import treadle\n"
        "async def f(ch: treadle.Chan[int]) -> str:\n"
        "    await ch.send('x')\n"
        "    return await ch.recv()\n"
    )
    run("mypy", "--strict", cache, "right.py", cwd=tmp_path)
    with pytest.raises(AssertionError, match="Found 2 errors"):
        run("mypy", "--strict", cache, "wrong.py", cwd=tmp_path)


def test_selected_values(cache, tmp_path):
    """select has the type of its cases' values where they have one in common."""
    (tmp_path / "selected.py").write_text(
        "from typing import assert_type\n"
        "import treadle\n"
        "async def f(a: treadle.Chan[int], b: treadle.Chan[str]) -> None:\n"
        "    case: treadle.Case[int] = a.recv_op()\n"
        "    i, number = await treadle.select(case, *[ch.recv_op() for ch in (a, a)])\n"
        "    assert_type(number, int)\n"
        "    i, either = await treadle.select(a.recv_op(), b.recv_op(), treadle.after_op(1))\n"
        "    either.anything\n"
        "    found, value = treadle.try_select(a.recv_op(), b.recv_op())\n"
        "    if found == 1:\n"
        "        value.anything\n"
    )
    run("mypy", "--strict", cache, "selected.py", cwd=tmp_path)
    assert treadle.Case[int].__origin__ is treadle.Case
