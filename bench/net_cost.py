# SPDX-License-Identifier: MIT
"""Short connections, accepting alone, and HTTP under wrk: what one costs the server in processor time."""

import os
import pathlib
import re
import shutil
import socket
import tempfile
import time

from echo_cost import lua_environment, python
from measure import Failed, Numbers, Server, numbers, output, pinned, progress, spread, table

HERE = pathlib.Path(__file__).resolve().parent
Peers = dict[str, tuple[list[str], dict[str, str]]]


def cpu_of(pid: int) -> int:
    """Nanoseconds of processor time of a process: clock_getcpuclockid(3)."""
    return time.clock_gettime_ns((~pid << 3) | 2)


class ServerCost:
    title, per = "", ""

    def __init__(self, build: str, go: str, seconds: float, hosts: bool):
        self.build, self.go, self.seconds, self.hosts = build, go, seconds, hosts
        self.peers = self.servers()
        self.figures: dict[str, Numbers] = {name: [] for name in self.peers}

    def servers(self) -> Peers:
        raise NotImplementedError

    def cost(self, port: str, pid: int) -> float:
        """Nanoseconds of the server's processor time."""
        raise NotImplementedError

    def measure(self) -> None:
        for name, (command, env) in self.peers.items():
            progress(f"{self.title}: {name}")
            try:
                with Server(name, pinned(0, command), env) as (port, pid):
                    self.figures[name].append(self.cost(port, pid) / 1000)
            except Failed as failure:
                progress(f"failed: {failure}")

    def print(self) -> None:
        theirs = self.figures["Go"]
        rows = [[name, spread(own), spread([g / t for t, g in zip(own, theirs)])]
                for name, own in self.figures.items()]
        table(f"{self.title}: µs of server CPU per {self.per} (min / median / max)", ["server", "µs", "Go ÷ this"], rows)


class ShortCost(ServerCost):
    title, per = "short connections: opened, 64 bytes there and back, reset; 64 at a time", "connection"

    def servers(self) -> Peers:
        one = {"TDL_MAXPROCS": "1"}
        return {"Go": ([self.go, "echo"], {"GOMAXPROCS": "1"}),
                "treadle, a goroutine each": ([f"{self.build}/bench/bench_echo"], one),
                "treadle, parked": ([f"{self.build}/bench/bench_server"], one)}

    def cost(self, port: str, pid: int) -> float:
        load = [f"{self.build}/bench/bench_short_load", port, str(pid), "64", "64", str(self.seconds)]
        return numbers(pinned(1, load))[0]


class AcceptCost(ServerCost):
    title, per = "accepting alone: each connection is closed as soon as it is accepted; 64 at a time", "connection"

    def servers(self) -> Peers:
        one = {"TDL_MAXPROCS": "1"}
        return {"Go": ([self.go, "echo", "close"], {"GOMAXPROCS": "1"}),
                "treadle, epoll": ([f"{self.build}/bench/bench_echo", "close"], one | {"TDL_NETPOLL": "epoll"}),
                "treadle, io_uring": ([f"{self.build}/bench/bench_echo", "close"], one | {"TDL_NETPOLL": "uring"})}

    def cost(self, port: str, pid: int) -> float:
        load = [f"{self.build}/bench/bench_short_load", port, str(pid), "64", "0", str(self.seconds)]
        return numbers(pinned(1, load))[0]


NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location / {{ default_type text/plain; return 200 "hello\\n"; }} }} }}
"""


class HttpCost(ServerCost):
    title, per = "HTTP, a constant answer, wrk with 64 connections", "request"

    def servers(self) -> Peers:
        one = {"TDL_MAXPROCS": "1"}
        found: Peers = {"Go": ([self.go, "http"], {"GOMAXPROCS": "1"}),
                        "treadle, C": ([f"{self.build}/bench/bench_server", "http"], one)}
        if nginx := shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
            found["nginx"] = (["sh", "-c", self.nginx(nginx)], {})
        if self.hosts:
            found["treadle, LuaJIT"] = (["luajit", str(HERE / "treadle/http.lua")], one | lua_environment(self.build))
            found["treadle, Python"] = ([python(), str(HERE / "treadle/http.py")], one)
        return found

    def nginx(self, program: str) -> str:
        """It says no port: one that is free now is taken. Nor does it say when it listens (see cost)."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.folder = tempfile.TemporaryDirectory()
        configuration = pathlib.Path(self.folder.name) / "nginx.conf"
        configuration.write_text(NGINX.format(folder=self.folder.name, port=port))
        return f"echo listening on 127.0.0.1:{port}; exec {program} -p {self.folder.name} -c {configuration}"

    def wrk(self, port: str, seconds: float) -> int:
        command = pinned(1, ["wrk", "-t1", "-c64", f"-d{max(1, round(seconds))}s", f"http://127.0.0.1:{port}/"])
        text = output(command, seconds=seconds + 30)
        done = re.search(r"(\d+) requests in", text)
        if not done or int(done[1]) == 0 or "Non-2xx" in text:
            raise Failed(f"wrk: {text.strip().splitlines()[-1]}")
        return int(done[1])

    @staticmethod
    def wait(port: str) -> None:
        end = time.monotonic() + 5
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(port))).close()
                return
            except ConnectionRefusedError:
                if time.monotonic() > end:
                    raise Failed(f"nobody listens on port {port}") from None
                time.sleep(0.01)

    def cost(self, port: str, pid: int) -> float:
        self.wait(port)
        self.wrk(port, 1)
        begin = cpu_of(pid)
        requests = self.wrk(port, self.seconds)
        return (cpu_of(pid) - begin) / requests
