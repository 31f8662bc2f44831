# SPDX-License-Identifier: MIT
"""The wheel, made from the source distribution, in a fresh environment."""

import tarfile
import zipfile

from conftest import PIP, ROOT, run


def test_what_is_in_them(sdist, wheel):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py", "core/sources.txt", "core/include/treadle.h", "core/include/treadle/host.h",
            "bindings/python/treadle/py.typed", "tests/python/run"} <= names
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
