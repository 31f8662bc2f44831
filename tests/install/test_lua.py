# SPDX-License-Identifier: MIT
"""`luarocks make` into a tree of its own, without the network."""

from conftest import ROOT, run


def lua_environment(rocks):
    out = {}
    for name, option in (("LUA_PATH", "--lr-path"), ("LUA_CPATH", "--lr-cpath")):
        out[name] = run("luarocks", "--lua-version", "5.1", "--tree", rocks, "path", option).strip()
    return out


def test_workers(rocks, tmp_path):
    out = run("luajit", ROOT / "examples/lua/workers.lua", cwd=tmp_path, env=lua_environment(rocks))
    assert out == "338350\n"


def test_it_comes_from_the_tree(rocks, tmp_path):
    script = "print(package.searchpath('treadle', package.path)) require 'treadle'" \
             " for line in io.lines '/proc/self/maps' do print(line:match '/.*treadle.*' or '') end"
    files = set(run("luajit", "-e", script, cwd=tmp_path, env=lua_environment(rocks)).split())
    assert files and all(file.startswith(str(rocks)) for file in files), files
