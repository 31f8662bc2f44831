# SPDX-License-Identifier: MIT
"""The wheel, made from the source distribution, in a fresh environment."""

import os
import subprocess
import tarfile
import zipfile

import pytest
from conftest import PIP, PYTHON, ROOT, run


def test_what_is_in_them(sdist, wheel):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py", "core/sources.txt", "core/include/treadle.h", "core/include/treadle/host.h",
            "bindings/python/treadle/py.typed", "tests/python/run", "docs/python.md"} <= names
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    extension = [name for name in names if name.startswith("treadle/_treadle.") and name.endswith(".so")]
    assert len(extension) == 1
    assert {"treadle/py.typed", "treadle/_treadle.pyi", "treadle/libtreadle.so.0", "treadle/__init__.py"} <= names
    assert not [name for name in names if name.endswith((".c", ".h"))]


def test_workers(venv, tmp_path):
    assert run(venv / "bin/python", ROOT / "examples/python/workers.py", cwd=tmp_path) == "338350\n"


def test_it_comes_from_the_environment(venv, tmp_path):
    out = run(venv / "bin/python", "-c", "import treadle; print(treadle.__file__)", cwd=tmp_path)
    assert out.startswith(str(venv))


def test_uninstall_leaves_nothing(venv, wheel, tmp_path):
    run(venv / "bin/pip", "uninstall", "--disable-pip-version-check", "-y", "treadle", cwd=tmp_path)
    try:
        left = [str(f) for f in venv.rglob("*treadle*")]
        assert left == []
    finally:
        run(venv / "bin/pip", "install", *PIP, wheel)


def test_in_place(checkout, wheel, tmp_path):
    """`setup.py build_ext --inplace`, which an editable install runs too. What the wheel has is not built again."""
    with zipfile.ZipFile(wheel) as archive:
        built = [name for name in archive.namelist() if ".so" in name]
        for name in built:
            archive.extract(name, tmp_path)
            os.utime(tmp_path / name)
    run(PYTHON, "setup.py", "-q", "build_ext", "--inplace", "--build-lib", tmp_path, cwd=checkout)
    package = checkout / "bindings/python"
    try:
        assert len(built) == 2 and all((package / name).is_file() for name in built)
        out = run(PYTHON, "-c", "import treadle; print(treadle.__file__)", cwd=tmp_path, env={"PYTHONPATH": package})
        assert out.startswith(str(package))
    finally:
        for name in built:
            (package / name).unlink()


@pytest.mark.parametrize(
    ("header", "package"), [("stdio.h", "libc6-dev"), ("uv.h", "libuv1-dev"), ("Python.h", "python3-dev")]
)
def test_what_is_missing_is_said(checkout, tmp_path, header, package):
    compiler = tmp_path / "cc"  # one that does not find this header
    compiler.write_text(f"#!/bin/sh\n! grep -q '<{header}>'\n")
    compiler.chmod(0o755)
    assert f"apt-get install {package}`" in failed_build(checkout, tmp_path, str(compiler))


def test_a_compiler_that_is_missing(checkout, tmp_path):
    said = failed_build(checkout, tmp_path, "/nowhere/cc")
    assert "treadle needs a C compiler, and cannot start /nowhere/cc" in said and "apt-get install gcc" in said


def failed_build(checkout, place, compiler):
    done = subprocess.run(
        [PYTHON, "setup.py", "-q", "build_ext", "--build-lib", place / "lib", "--build-temp", place / "temp"],
        cwd=checkout, env={**os.environ, "CC": compiler}, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode != 0, done.stdout
    return done.stdout + done.stderr
