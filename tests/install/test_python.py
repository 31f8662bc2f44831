# SPDX-License-Identifier: MIT
"""`pip install .` in a fresh environment."""

from conftest import ROOT, run


def test_workers(venv, tmp_path):
    assert run(venv / "bin/python", ROOT / "examples/python/workers.py", cwd=tmp_path) == "338350\n"


def test_it_comes_from_the_environment(venv, tmp_path):
    out = run(venv / "bin/python", "-c", "import treadle; print(treadle.__file__)", cwd=tmp_path)
    assert out.startswith(str(venv))


def test_uninstall_leaves_nothing(venv, checkout, tmp_path):
    run(venv / "bin/pip", "uninstall", "--disable-pip-version-check", "-y", "treadle", cwd=tmp_path)
    try:
        left = [str(f) for f in venv.rglob("*treadle*")]
        assert left == []
    finally:
        run(venv / "bin/pip", "install", "--disable-pip-version-check", ".", cwd=checkout)
