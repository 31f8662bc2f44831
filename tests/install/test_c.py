# SPDX-License-Identifier: MIT
"""`cmake --install`: what is there, and programs built against it."""

import os
import re

import pytest
from conftest import ROOT, run

INCLUDE = ROOT / "core/include"
HEADERS = sorted(str(file.relative_to(INCLUDE)) for file in INCLUDE.rglob("*.h"))
WORKERS = ROOT / "examples/c/workers.c"


@pytest.fixture
def pkg_config(prefix):
    (file,) = prefix.glob("lib*/**/treadle.pc")

    def flags(*arguments):
        return run("pkg-config", *arguments, "treadle", env={"PKG_CONFIG_PATH": str(file.parent)}).split()

    return flags


@pytest.fixture
def libdir(prefix):
    (file,) = prefix.glob("lib*/**/libtreadle.a")
    return file.parent


def declared_functions():
    text = "".join((INCLUDE / header).read_text() for header in HEADERS)
    return set(re.findall(r"^TDL_API [^;]*?\b(tdl_\w+)\(", text, re.M))


def test_the_files(prefix, libdir):
    include = prefix / "include"
    assert sorted(str(file.relative_to(include)) for file in include.rglob("*") if file.is_file()) == HEADERS
    names = sorted(file.name for file in libdir.glob("libtreadle*"))
    assert names == ["libtreadle.a", "libtreadle.so", "libtreadle.so.0", "libtreadle.so.0.1.0"]


def test_the_soname(libdir):
    assert "[libtreadle.so.0]" in run("readelf", "-d", libdir / "libtreadle.so")


def test_exactly_the_declared_functions_are_exported(libdir):
    symbols = run("nm", "-D", "--defined-only", libdir / "libtreadle.so.0").split("\n")
    exported = {line.split()[-1] for line in symbols if line}
    assert len(declared_functions()) > 100
    assert exported == declared_functions()


@pytest.mark.parametrize("command", [
    ["gcc", "-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-x", "c"],
    ["clang", "-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-x", "c"],
    ["clang", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-x", "c++"],
], ids=["gcc", "clang", "c++"])
def test_each_header_alone(prefix, command, tmp_path):
    users = [tmp_path / f"user{i}.c" for i in range(len(HEADERS))]
    for user, header in zip(users, HEADERS):
        user.write_text(f"#include <{header}>\nTDL_API int user(void);\nint user(void) {{ return TDL_ECLOSED; }}\n")
    run(*command, "-fsyntax-only", f"-I{prefix}/include", *users)


def test_pkg_config_shared(pkg_config, libdir, tmp_path):
    program = tmp_path / "workers"
    run("gcc", WORKERS, "-o", program, *pkg_config("--cflags", "--libs"))
    assert "libtreadle.so.0" in run("readelf", "-d", program)
    assert run(program, env={"LD_LIBRARY_PATH": str(libdir)}) == "338350\n"


def test_pkg_config_static(pkg_config, tmp_path):
    program = tmp_path / "workers"
    run("gcc", "-static", WORKERS, "-o", program, *pkg_config("--static", "--cflags", "--libs"))
    assert "NEEDED" not in run("readelf", "-d", program)
    assert run(program) == "338350\n"


@pytest.mark.parametrize("target", ["treadle::treadle", "treadle::treadle_static"])
def test_find_package(prefix, target, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(f"""
cmake_minimum_required(VERSION 3.22)
project(user C)
find_package(treadle 0.1 REQUIRED)
add_executable(workers {WORKERS})
target_link_libraries(workers PRIVATE {target})
""")
    run("cmake", "-S", tmp_path, "-B", tmp_path / "b", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path / "b")
    needs = "libtreadle.so.0" in run("readelf", "-d", tmp_path / "b/workers")
    assert needs == (target == "treadle::treadle")
    assert run(tmp_path / "b/workers") == "338350\n"


def test_a_version_that_is_not_there_is_refused(prefix, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text("""
cmake_minimum_required(VERSION 3.22)
project(user C)
find_package(treadle 9.0 QUIET)
if(treadle_FOUND)
  message(FATAL_ERROR "version 9.0 was found")
endif()
""")
    run("cmake", "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={prefix}")


def test_a_destdir_holds_everything(build, tmp_path):
    """What a distribution's packager does."""
    run("cmake", "--install", build, "--prefix", "/usr", env={"DESTDIR": str(tmp_path)})
    assert (tmp_path / "usr/include/treadle.h").is_file()
    assert os.listdir(tmp_path) == ["usr"]
