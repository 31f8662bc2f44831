#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The Lua benchmarks: treadle beside a hand-written epoll loop, luv, cqueues, OpenResty and lua-http.

  micro    switches, channels, goroutines, timers of one lua_State
  echo     server CPU per echo of 64 bytes, 64 connections
  hello    server CPU per HTTP request, wrk -c64
  workers  two workers beside one
  idle     the memory of idle connections that treadle.serve has parked

Repetitions are interleaved, every figure is minimum / median / maximum, each ratio is taken
within a repetition, and a missed goal is no failure. What is not installed is left out.
"""

import argparse
import contextlib
import os
import pathlib
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

from echo_cost import lua_environment  # noqa: E402
from measure import Failed, Numbers, Server, numbers, output, pinned, progress, spread, table  # noqa: E402

OPENRESTY = ROOT / ".dev/openresty"
TICKS = os.sysconf("SC_CLK_TCK")
MICRO = {"switch": ("task switch", 60), "handoff": ("channel hand-off, unbuffered", 150),
         "buffered": ("channel, 64 places", None), "spawn": ("spawn and end", None), "timer": ("timer set and stopped", None)}


def processor_time(pids: list[int]) -> float:
    """Seconds that the processes have used."""
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def lua(script: str, build: str) -> tuple[list[str], dict[str, str]]:
    return ["luajit", str(HERE / script)], lua_environment(build) | {"TDL_MAXPROCS": "1"}


class OpenResty:
    """Debian's nginx with its Lua module, unpacked and not installed."""

    def __init__(self) -> None:
        self.place = pathlib.Path(tempfile.mkdtemp())

    def __enter__(self) -> tuple[str, int]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
            (self.place / name).mkdir()
        modules = OPENRESTY / "usr/lib/nginx/modules"
        (self.place / "nginx.conf").write_text(f"""
load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
daemon off; master_process off; worker_processes 1; pid {self.place}/pid; error_log {self.place}/log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {self.place}/body; proxy_temp_path {self.place}/proxy; fastcgi_temp_path {self.place}/fastcgi;
  uwsgi_temp_path {self.place}/uwsgi; scgi_temp_path {self.place}/scgi;
  lua_package_path "{OPENRESTY}/usr/share/lua/5.1/?.lua;;";
  server {{
    listen 127.0.0.1:{port};
    location / {{ default_type text/plain; content_by_lua_block {{ ngx.header["Content-Length"] = 13 ngx.print("Hello, World!") }} }}
  }}
}}
""")
        self.process = subprocess.Popen(
            pinned(0, [str(OPENRESTY / "usr/sbin/nginx"), "-c", str(self.place / "nginx.conf"), "-p", str(self.place)]),
            env={**os.environ, "LD_LIBRARY_PATH": f"{OPENRESTY}/usr/lib/x86_64-linux-gnu:{OPENRESTY}/lib/x86_64-linux-gnu"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            if self.process.poll() is None and subprocess.run(
                    ["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{port}/"]).returncode == 0:
                return str(port), self.process.pid
            time.sleep(0.05)
        self.__exit__()
        raise Failed("OpenResty did not start")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.place)


def module_there(name: str) -> bool:
    return subprocess.run(["luajit", "-e", f'require "{name}"'], capture_output=True).returncode == 0


def idle_bytes(build: str, n: int) -> float:
    """Anonymous memory of the server for each of n connections that have asked once, and are idle."""
    command, env = lua("idle.lua", build)
    with Server("idle", command, env) as (port, pid), contextlib.ExitStack() as held:
        def resident() -> int:
            time.sleep(0.3)
            text = pathlib.Path(f"/proc/{pid}/status").read_text()
            return int(re.search(r"RssAnon:\s*(\d+)", text).group(1)) * 1024

        def ask(s: socket.socket) -> socket.socket:
            s.sendall(b"x")
            s.recv(1)
            return s

        def more(count: int) -> list[socket.socket]:
            return [ask(held.enter_context(socket.create_connection(("127.0.0.1", int(port)), timeout=10)))
                    for _ in range(count)]
        # what the first need is not theirs alone; and Lua's heap takes some thousand requests, in which
        # all is compiled and the collector has gone round, to become as large as it stays
        for s in more(500):
            for _ in range(30):
                ask(s)
        before = resident()
        more(n - 500)
        return (resident() - before) / (n - 500)


class Compared:
    """Servers by name, and what a request costs each."""

    def __init__(self, title: str, goals: dict[str, float]):
        self.title, self.goals = title, goals  # treadle's cost ÷ another's, at most
        self.servers: dict = {}
        self.figures: dict[str, Numbers] = {}

    def measure(self, load) -> None:
        for name, start in self.servers.items():
            progress(f"{self.title}: {name}")
            figure = float("nan")
            try:
                with start() as (port, pid):
                    figure = load(port, pid)
            except Failed as failure:
                progress(f"failed: {failure}")
            self.figures.setdefault(name, []).append(figure)

    def print(self) -> None:
        ours, rows = self.figures["treadle"], []
        for name, own in self.figures.items():
            pairs = [o / t for o, t in zip(ours, own) if o == o and t == t]
            goal = self.goals.get(name)
            verdict = f"≤ {goal:.2f}: {'met' if pairs and statistics.median(pairs) <= goal else 'missed'}" if goal else ""
            rows.append([name, spread([v for v in own if v == v]), spread(pairs), verdict])
        table(f"{self.title}: µs of server CPU per request (min / median / max)",
              ["server", "µs", "treadle ÷ this", "goal"], rows)


def echo(build: str, seconds: float) -> tuple[Compared, object]:
    compared = Compared("TCP echo, 64 bytes, 64 connections", {"epoll by hand, LuaJIT": 1.10, "luv": 1.0, "cqueues": 1.0})
    peers = {"treadle": lua("../treadle/echo.lua", build), "epoll by hand, LuaJIT": lua("echo_epoll.lua", build)}
    for name in ("luv", "cqueues"):
        if module_there(name):
            peers[name] = lua(f"echo_{name}.lua", build)
    for name, (command, env) in peers.items():
        compared.servers[name] = lambda n=name, c=command, e=env: Server(n, pinned(0, c), e)

    def load(port: str, pid: int) -> float:
        command = [f"{build}/load/echo_load", port, str(pid), "64", "64", str(seconds)]
        return numbers(pinned(1, command))[0] / 1000
    return compared, load


def hello(build: str, seconds: float) -> tuple[Compared, object]:
    compared = Compared('HTTP "hello", wrk -c64', {"OpenResty, content_by_lua": 1.0, "lua-http": 1 / 3})
    command, env = lua("hello.lua", build)
    compared.servers["treadle"] = lambda: Server("treadle", pinned(0, command), env)
    if OPENRESTY.exists():
        compared.servers["OpenResty, content_by_lua"] = OpenResty
    if module_there("http.server"):
        other, other_env = lua("hello_http.lua", build)
        compared.servers["lua-http"] = lambda: Server("lua-http", pinned(0, other), other_env)

    def load(port: str, pid: int) -> float:
        before = processor_time([pid])
        text = output(pinned(1, ["wrk", "-t1", "-c64", f"-d{max(1, round(seconds))}", f"http://127.0.0.1:{port}/"]))
        used = processor_time([pid]) - before
        bad = re.search(r"Socket errors: (.*)|Non-2xx.*: (\d+)", text)
        if bad:
            raise Failed(f"wrk saw errors: {bad.group(0)}")
        return used / int(re.search(r"(\d+) requests in", text).group(1)) * 1e6
    return compared, load


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench lua", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all, or some of: micro echo hello workers idle")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    asked = parser.parse_args()
    names = asked.names or ["micro", "echo", "hello", "workers", "idle"]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
    env = lua_environment(asked.build)
    micro: dict[str, Numbers] = {key: [] for key in MICRO}
    workers: dict[int, Numbers] = {1: [], 2: []}
    idle: Numbers = []
    compared = [make(asked.build, asked.seconds) for key, make in (("echo", echo), ("hello", hello)) if key in names]
    for _ in range(asked.reps):
        if "micro" in names:
            for key in MICRO:
                progress(f"micro: {key}")
                micro[key] += numbers(["luajit", str(HERE / "micro.lua"), key], env)
        for one, load in compared:
            one.measure(load)
        if "workers" in names:
            for n in workers:
                progress(f"workers: {n}")
                workers[n] += numbers(["luajit", str(HERE / "workers.lua"), str(n)], env)
        if "idle" in names:
            progress("idle")
            idle.append(idle_bytes(asked.build, 9000))
    if "micro" in names:
        rows = [[title, spread(micro[key]), f"≤ {goal}: {'met' if statistics.median(micro[key]) <= goal else 'missed'}" if goal else ""]
                for key, (title, goal) in MICRO.items()]
        table("One lua_State: ns of CPU (min / median / max)", ["operation", "ns", "goal"], rows)
    for one, _ in compared:
        one.print()
    if "workers" in names:
        ratios = [two / one for one, two in zip(workers[1], workers[2])]
        table("Workers: jobs per second (min / median / max)", ["workers", "jobs/s", "two ÷ one", "goal"],
              [["1", spread(workers[1]), "", ""],
               ["2", spread(workers[2]), spread(ratios), f"≥ 1.80: {'met' if statistics.median(ratios) >= 1.8 else 'missed'}"]])
    if "idle" in names:
        table("9,000 idle connections, parked: bytes of user memory for each", ["", "bytes", "goal"],
              [["treadle.serve", spread(idle), f"≤ 300: {'met' if statistics.median(idle) <= 300 else 'missed'}"]])


if __name__ == "__main__":
    main()
