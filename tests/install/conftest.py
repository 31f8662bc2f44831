# SPDX-License-Identifier: MIT
"""Tests of the three ways to install treadle, each into a place of its own."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*command, cwd=None, env=None, timeout=300) -> str:
    """The command's output; its failure is the test's, with all that it said."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, env={**os.environ, **(env or {})},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def build() -> pathlib.Path:
    return pathlib.Path(os.environ.get("TDL_BUILD", ROOT / "build")).resolve()


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> pathlib.Path:
    """A copy of the sources, so that an installation cannot lean on this
    checkout's builds, nor leave anything in it."""
    copy = tmp_path_factory.mktemp("sources") / "treadle"
    copy.mkdir()
    listed = run("git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def prefix(build, tmp_path_factory) -> pathlib.Path:
    """Where `cmake --install` has put everything."""
    place = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", build, "--prefix", place)
    return place


PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else "python3"
PIP = ("--disable-pip-version-check", "--no-index")  # pip asks nobody


@pytest.fixture(scope="session")
def sdist(checkout, tmp_path_factory) -> pathlib.Path:
    """The source distribution, made by Debian's setuptools."""
    place = tmp_path_factory.mktemp("sdist")
    run(PYTHON, "setup.py", "-q", "sdist", "-d", place, cwd=checkout)
    (archive,) = place.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="session")
def wheel(sdist, tmp_path_factory) -> pathlib.Path:
    """The wheel, built from the source distribution without the network, by Debian's setuptools."""
    place = tmp_path_factory.mktemp("wheel")
    run(PYTHON, "-m", "pip", "wheel", *PIP, "--no-build-isolation", "--no-deps", "-w", place, sdist)
    (archive,) = place.glob("*.whl")
    return archive


@pytest.fixture(scope="session")
def venv(wheel, tmp_path_factory) -> pathlib.Path:
    """A fresh environment with the wheel."""
    place = tmp_path_factory.mktemp("venv")
    run(PYTHON, "-m", "venv", place)
    run(place / "bin/pip", "install", *PIP, wheel)
    return place


@pytest.fixture(scope="session")
def rocks(checkout, tmp_path_factory) -> pathlib.Path:
    """A tree into which `luarocks make` was run, without the network."""
    place = tmp_path_factory.mktemp("rocks")
    dead = "http://127.0.0.1:9"
    run("luarocks", "--lua-version", "5.1", "--tree", place, "make", "treadle-scm-1.rockspec", cwd=checkout,
        env={"http_proxy": dead, "https_proxy": dead})
    return place
