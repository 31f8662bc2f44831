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
        "io_uring by hand, C": ([f"{build}/bench/bench_uring_echo"], {}),
        "io_uring by hand, DEFER_TASKRUN, C": ([f"{build}/bench/bench_uring_echo", "defer"], {}),
        "io_uring by hand, all else that helps, C": ([f"{build}/bench/bench_uring_echo", "defer", "lean"], {}),
        "Go": ([go, "echo"], {"GOMAXPROCS": "1"}),
        "treadle, C": ([f"{build}/bench/bench_echo"], one),
        "treadle, C, io_uring": ([f"{build}/bench/bench_echo"], one | {"TDL_NETPOLL": "uring!"}),
        "treadle, C, libuv": ([f"{build}/bench/bench_echo"], one | {"TDL_NETPOLL": "uv"}),
    }
    if hosts:
        found["treadle, LuaJIT"] = (["luajit", str(HERE / "treadle/echo.lua")], one | lua_environment(build))
        found["treadle, Python"] = ([python(), str(HERE / "treadle/echo.py")], one)
    return found


class EchoCost:
    SIZE = 64
    SETTINGS = ((1, 1), (64, 1), (1000, 1), (64, 16))  # connections, and requests that each sends at once

    def __init__(self, build: str, go: str, seconds: float, hosts: bool):
        self.load, self.seconds = f"{build}/load/echo_load", seconds
        self.peers = peers(build, go, hosts)
        self.figures: dict[tuple[int, int], dict[str, Numbers]] = {
            setting: {name: [] for name in self.peers} for setting in self.SETTINGS}

    def measure(self) -> None:
        """One repetition of each, in microseconds per request."""
        for connections, depth in self.SETTINGS:
            for name, (command, env) in self.peers.items():
                progress(f"echo: {connections} connections, {depth} at once: {name}")
                try:
                    # A pinned command replaces itself (taskset execs), so the process is the server.
                    with Server(name, pinned(0, command), env) as (port, pid):
                        load = [self.load, port, str(pid), str(connections), str(self.SIZE), str(self.seconds), str(depth)]
                        self.figures[connections, depth][name].append(numbers(pinned(1, load))[0] / 1000)
                except Failed as failure:
                    progress(f"failed: {failure}")

    def print(self) -> None:
        for (connections, depth), figures in self.figures.items():
            hand, go = figures["epoll by hand, C"], figures["Go"]
            rows = [[name, spread(own), spread([t / h for t, h in zip(own, hand)]),
                     spread([t / g for t, g in zip(own, go)])] for name, own in figures.items() if own]
            pipelined = f", {depth} requests at once" if depth > 1 else ""
            table(f"TCP echo, {self.SIZE} bytes, {connections} connections{pipelined}: µs of server CPU per request "
                  "(min / median / max)", ["server", "µs", "this ÷ by hand", "this ÷ Go"], rows)
