# SPDX-License-Identifier: MIT
"""A process that uses the Lua and the Python binding together has one core,
whichever comes first and however each was installed."""

import pytest
from conftest import run
from test_lua import lua_environment

# A Python process with LuaJIT inside; the order is the argument.
SCRIPT = r'''
import ctypes, subprocess, sys

def load_lua():
    lua = ctypes.CDLL("libluajit-5.1.so.2", mode=ctypes.RTLD_GLOBAL)
    lua.luaL_newstate.restype = ctypes.c_void_p
    lua.lua_tolstring.restype = ctypes.c_char_p
    state = ctypes.c_void_p(lua.luaL_newstate())
    lua.luaL_openlibs(state)
    def check(failed):
        if failed:
            sys.exit("Lua: " + lua.lua_tolstring(state, -1, None).decode())
    program = b"""
        local treadle = require "treadle"
        treadle.run(function()
          local ch = treadle.chan(1)
          treadle.go(function() ch:send(42) end)
          io.write("lua ", ch:recv(), "\\n") io.stdout:flush()
        end)"""
    check(lua.luaL_loadstring(state, program))
    check(lua.lua_pcall(state, 0, 0, 0))

def load_python():
    import treadle
    async def main():
        ch = treadle.Chan(1)
        await ch.send(42)
        print("python", await ch.recv(), flush=True)
    treadle.run(main())

for name in sys.argv[1:]:
    {"lua": load_lua, "python": load_python}[name]()

files = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "treadle" in line}
for file in sorted(files):
    symbols = subprocess.run(["nm", "-D", "--defined-only", file], capture_output=True, text=True).stdout
    whole = subprocess.run(["nm", file], capture_output=True, text=True).stdout
    if " T tdl_run" in symbols or " t tdl_run" in whole or " T tdl_run" in whole:
        print("core", file)
'''


@pytest.mark.parametrize("order", [("lua", "python"), ("python", "lua")], ids=" first, then ".join)
def test_one_core(rocks, venv, tmp_path, order):
    script = tmp_path / "both.py"
    script.write_text(SCRIPT)
    out = run(venv / "bin/python", script, *order, cwd=tmp_path, env=lua_environment(rocks))
    lines = out.splitlines()
    assert lines[:2] == [f"{name} 42" for name in order], out
    assert len([line for line in lines if line.startswith("core ")]) == 1, out
