#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the benchmarks of treadle and of Go side by side and prints a table.

The repetitions are interleaved (treadle, Go, treadle, Go, ...), so that a slow
moment of the machine hits both, and each ratio is taken within a repetition.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent

# name, program and arguments; the same for both, but for how a program is named
MICRO = [
    ("yield, two goroutines", ["yield"]),
    ("spawn and exit, one at a time", ["spawn", "2000000", "1"]),
    ("spawn and exit, batches of 1,000", ["spawn", "2000000", "1000"]),
    ("unbuffered channel, round trip", ["chan"]),
]


def progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def pinned(core: int, command: list[str]) -> list[str]:
    """The command on one core, where there are two to divide."""
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core]), *command] if len(cores) > 1 else command


def numbers(command: list[str], env: dict[str, str] | None = None) -> list[float]:
    out = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    return [float(line) for line in out.stdout.split()]


class EchoPeer:
    def __init__(self, name: str, command: list[str], env: dict[str, str]):
        self.name, self.command, self.env = name, command, {**os.environ, **env}

    def measure(self, load: str, connections: int, size: int, seconds: float) -> float:
        """Nanoseconds of the server's processor time per request."""
        server = subprocess.Popen(pinned(0, self.command), env=self.env, stdout=subprocess.PIPE, text=True)
        try:
            port = server.stdout.readline().rstrip().rpartition(":")[2]
            if not port.isdigit():
                raise SystemExit(f"{self.name}: the server did not start")
            # A pinned command replaces itself (taskset execs), so this is the server.
            arguments = [load, port, str(server.pid), str(connections), str(size), str(seconds)]
            return numbers(pinned(1, arguments))[0]
        finally:
            server.kill()
            server.wait()


def echo_peers(build: pathlib.Path, go: str, hosts: bool) -> list[EchoPeer]:
    one = {"TDL_MAXPROCS": "1"}
    peers = [
        EchoPeer("epoll by hand, C", [str(build / "bench/bench_epoll_echo")], {}),
        EchoPeer("Go", [go, "echo"], {"GOMAXPROCS": "1"}),
        EchoPeer("treadle, C", [str(build / "bench/bench_echo")], one),
    ]
    if hosts:
        lua_path = f"{ROOT}/bindings/lua/?.lua;{ROOT}/bindings/lua/?/init.lua;;"
        library = str(build / "libtreadle.so.0")
        python = os.environ.get("TDL_VENV_PYTHON", str(ROOT / ".venv/bin/python"))
        peers.append(EchoPeer("treadle, LuaJIT", ["luajit", str(HERE / "treadle/echo.lua")],
                              {**one, "LUA_PATH": lua_path, "TREADLE_LIB": library}))
        peers.append(EchoPeer("treadle, Python", [python, str(HERE / "treadle/echo.py")], one))
    return peers


def spread(values: list[float], form: str) -> str:
    return " / ".join(form.format(f(values)) for f in (min, statistics.median, max))


def table(title: str, heads: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    print(f"\n{title}\n")
    for row in [heads, ["-" * w for w in widths], *rows]:
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths)) + " |")


def run_micro(build: pathlib.Path, go: str, reps: int) -> None:
    ours: dict[str, list[float]] = {name: [] for name, _ in MICRO}
    theirs: dict[str, list[float]] = {name: [] for name, _ in MICRO}
    for rep in range(reps):
        progress(f"goroutines and channels: repetition {rep + 1} of {reps}")
        for name, (program, *arguments) in MICRO:
            ours[name] += numbers([str(build / f"bench/bench_{program}"), *arguments])
            theirs[name] += numbers([go, program, *arguments])
    rows = []
    for name, _ in MICRO:
        ratios = [g / t for t, g in zip(ours[name], theirs[name])]
        rows.append([name, spread(ours[name], "{:.1f}"), spread(theirs[name], "{:.1f}"), spread(ratios, "{:.2f}")])
    table("Goroutines on one processor: ns per operation (min / median / max)",
          ["operation", "treadle", "Go", "Go ÷ treadle"], rows)


def run_echo(build: pathlib.Path, go: str, reps: int, seconds: float, hosts: bool) -> None:
    peers = echo_peers(build, go, hosts)
    load = str(build / "load/echo_load")
    figures: dict[str, list[float]] = {p.name: [] for p in peers}
    for rep in range(reps):
        for peer in peers:
            progress(f"echo: repetition {rep + 1} of {reps}, {peer.name}")
            figures[peer.name].append(peer.measure(load, 64, 64, seconds) / 1000)
    rows = []
    for peer in peers:
        own = figures[peer.name]
        to_go = [g / t for t, g in zip(own, figures["Go"])]
        rows.append([peer.name, spread(own, "{:.2f}"), spread(to_go, "{:.2f}")])
    table("TCP echo, 64 bytes, 64 connections: µs of server CPU per request (min / median / max)",
          ["server", "µs", "Go ÷ this"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="the CMake build with TDL_BUILD_BENCH=ON")
    parser.add_argument("--go", required=True, help="the built program of bench/go")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one echo run")
    parser.add_argument("--hosts", action="store_true", help="the echo servers in Lua and Python too")
    options = parser.parse_args()
    begin = time.monotonic()
    run_micro(options.build, options.go, options.reps)
    run_echo(options.build, options.go, options.reps, options.seconds, options.hosts)
    progress(f"done in {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
