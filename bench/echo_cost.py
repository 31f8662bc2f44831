# SPDX-License-Identifier: MIT
"""TCP echo: what a request costs the server in processor time."""

import os
import pathlib

from measure import Failed, Numbers, Server, numbers, pinned, progress, spread, table

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent


def lua_environment(build: str) -> dict[str, str]:
    return {"LUA_PATH": f"{ROOT}/bindings/lua/?.lua;{ROOT}/bindings/lua/?/init.lua;;",
            "TREADLE_LIB": f"{build}/libtreadle.so.0"}


def python() -> str:
    return os.environ.get("TDL_VENV_PYTHON", str(ROOT / ".venv/bin/python"))


def peers(build: str, go: str, hosts: bool) -> dict[str, tuple[list[str], dict[str, str]]]:
    one = {"TDL_MAXPROCS": "1"}
    found = {
        "epoll by hand, C": ([f"{build}/bench/bench_epoll_echo"], {}),
        "Go": ([go, "echo"], {"GOMAXPROCS": "1"}),
        "treadle, C": ([f"{build}/bench/bench_echo"], one),
    }
    if hosts:
        found["treadle, LuaJIT"] = (["luajit", str(HERE / "treadle/echo.lua")], one | lua_environment(build))
        found["treadle, Python"] = ([python(), str(HERE / "treadle/echo.py")], one)
    return found


class EchoCost:
    CONNECTIONS, SIZE = 64, 64

    def __init__(self, build: str, go: str, seconds: float, hosts: bool):
        self.load, self.seconds = f"{build}/load/echo_load", seconds
        self.peers = peers(build, go, hosts)
        self.figures: dict[str, Numbers] = {name: [] for name in self.peers}

    def measure(self) -> None:
        """One repetition of each, in microseconds per request."""
        for name, (command, env) in self.peers.items():
            progress(f"echo: {name}")
            try:
                # A pinned command replaces itself (taskset execs), so the process is the server.
                with Server(name, pinned(0, command), env) as (port, pid):
                    load = [self.load, port, str(pid), str(self.CONNECTIONS), str(self.SIZE), str(self.seconds)]
                    self.figures[name].append(numbers(pinned(1, load))[0] / 1000)
            except Failed as failure:
                progress(f"failed: {failure}")

    def print(self) -> None:
        theirs = self.figures["Go"]
        rows = [[name, spread(own), spread([g / t for t, g in zip(own, theirs)])]
                for name, own in self.figures.items()]
        table(f"TCP echo, {self.SIZE} bytes, {self.CONNECTIONS} connections: µs of server CPU per request "
              "(min / median / max)", ["server", "µs", "Go ÷ this"], rows)
