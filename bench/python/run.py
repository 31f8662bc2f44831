#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the Python benchmarks: asyncio's loop, uvloop and treadle side by side.

  echo    server CPU per echo of 1 KiB, 64 connections, and of datagrams (goals beside uvloop)
  micro   what a loop does without a network, and goroutines beside tasks
  memory  100,000 parked goroutines
  workers what two workers do of what one does (Python 3.12.4 and later)
  procs   how much faster goroutines compute on two Ps than on one (a free-threaded Python)

With --instructions, user instructions per echo and per operation of `micro` instead
(callgrind; the difference of two run lengths). Repetitions are interleaved, every figure is minimum / median /
maximum, each ratio is taken within a repetition, and a missed goal is no failure.
"""

import argparse
import dataclasses
import os
import pathlib
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from measure import Failed, Numbers, Server, numbers, pinned, progress, spread, table  # noqa: E402

LOOPS = ("asyncio", "uvloop", "treadle")
SIZE, CONNECTIONS = 1024, 64


@dataclasses.dataclass
class Row:
    """A figure of each loop. `most`, `least`: treadle's; `beside`: treadle's at most so many
    times that loop's."""
    name: str
    unit: str
    most: float | None = None
    beside: dict[str, float] = dataclasses.field(default_factory=dict)
    least: float | None = None
    figures: dict[str, Numbers] = dataclasses.field(default_factory=lambda: {loop: [] for loop in LOOPS})

    def add(self, loop: str, measure) -> None:
        progress(f"{self.name}: {loop}")
        try:
            self.figures[loop].append(measure())
        except Failed as failure:
            progress(f"failed: {failure}")
            self.figures[loop].append(float("nan"))

    def ratios(self, other: str) -> Numbers:
        """The other's figure ÷ treadle's, within each repetition."""
        pairs = zip(self.figures[other], self.figures["treadle"])
        return [a / b for a, b in pairs if a == a and b == b and b > 0]

    def goals(self) -> str:
        said = []
        ours = [f for f in self.figures["treadle"] if f == f]
        if self.most is not None:
            met = ours and statistics.median(ours) <= self.most
            said.append(f"≤ {self.most:,g} {self.unit}: {'met' if met else 'missed'}")
        if self.least is not None:
            met = ours and statistics.median(ours) >= self.least
            said.append(f"≥ {self.least:,g} {self.unit}: {'met' if met else 'missed'}")
        for other, ratio in self.beside.items():
            ratios = self.ratios(other)
            met = ratios and statistics.median(ratios) >= 1 / ratio
            said.append(f"≥ {1 / ratio:.3g}x {other}: {'met' if met else 'missed'}")
        return ", ".join(said)

    def cells(self) -> list[str]:
        return [self.name, self.unit, *(spread([f for f in self.figures[loop] if f == f]) for loop in LOOPS),
                *(spread(self.ratios(loop)) for loop in ("asyncio", "uvloop")), self.goals()]


def show(title: str, rows: list[Row]) -> None:
    table(f"{title} (min / median / max)",
          ["what", "unit", *LOOPS, "asyncio ÷ treadle", "uvloop ÷ treadle", "goal"], [row.cells() for row in rows])


# -- Echo -----------------------------------------------------------------------------

KINDS = {  # instructions at most; CPU beside uvloop's
    "protocol": (2400, 1.0), "buffered": (None, 1.0), "streams": (9000, 0.75), "sock": (6000, 0.5), "tls": (None, 1.0),
    "udp": (None, None),
}
OVER_PYTHON = 8  # clients of what the load program does not speak: Python's, a thread each


def server(loop: str, kind: str, *rest: str) -> list[str]:
    return [sys.executable, str(HERE / "echo.py"), loop, kind, *rest]


def certificate(directory: str) -> str:
    """A self-signed certificate and its key, in one file."""
    path = os.path.join(directory, "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-subj", "/CN=localhost", "-keyout", path, "-out", path + ".crt"], check=True, capture_output=True)
    with open(path, "a") as whole, open(path + ".crt") as part:
        whole.write(part.read())
    return path


def dial(port: str, kind: str) -> socket.socket:
    if kind == "udp":
        datagrams = socket.socket(type=socket.SOCK_DGRAM)
        datagrams.settimeout(10)  # none is lost over the loopback while so few are under way
        datagrams.connect(("127.0.0.1", int(port)))
        return datagrams
    plain = socket.create_connection(("127.0.0.1", int(port)), timeout=60)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if kind != "tls":
        return plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain)


def echo_once(sock: socket.socket, message: bytes) -> None:
    sock.sendall(message)
    left = len(message)
    while left:
        got = sock.recv(left)
        if not got:
            raise Failed("the server hung up")
        left -= len(got)


def processor_time(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost_over_python(port: str, pid: int, kind: str, seconds: float) -> float:
    """µs of the server's processor time per echo. The load is Python's: what is measured
    is the server alone."""
    message, done, end = b"m" * SIZE, [], time.monotonic() + seconds

    def client() -> None:
        n = 0
        with dial(port, kind) as sock:
            while time.monotonic() < end:
                echo_once(sock, message)
                n += 1
        done.append(n)

    threads = [threading.Thread(target=client) for _ in range(OVER_PYTHON)]
    before = processor_time(pid)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(done) != len(threads):
        raise Failed("a client failed")
    return (processor_time(pid) - before) / sum(done) * 1e6


def echo_cost(load: str, loop: str, kind: str, seconds: float, cert: str) -> float:
    with Server(loop, pinned(0, server(loop, kind)), {"CERT": cert}) as (port, pid):
        if kind in ("tls", "udp"):
            return cost_over_python(port, pid, kind, seconds)
        return numbers(pinned(1, [load, port, str(pid), str(CONNECTIONS), str(SIZE), str(seconds)]))[0] / 1000


def asleep(pid: int) -> None:
    """Waits until the process does, so that each echo finds it waiting in the kernel."""
    while True:
        with open(f"/proc/{pid}/stat") as f:
            state = f.read().rpartition(")")[2].split()[0]
        if state != "R":
            return


def instructions(loop: str, kind: str, count: int, cert: str) -> int:
    """The server's for so many echoes on one connection, from its start to its end."""
    callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=no",
                 *server(loop, kind, "once")]
    env = {**os.environ, "CERT": cert, "PYTHONHASHSEED": "0"}
    process = subprocess.Popen(callgrind, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        port = process.stdout.readline().rstrip().rpartition(":")[2]
        if not port.isdigit():
            raise Failed(f"{loop}: {process.stderr.read()[-500:]}")
        with dial(port, kind) as sock:
            for _ in range(count):
                asleep(process.pid)
                echo_once(sock, b"m" * SIZE)
            if kind == "udp":
                sock.send(b"end")
        _, said = process.communicate(timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{loop}: {error}") from None
    finally:
        process.kill()
        process.wait()
    found = re.search(r"Collected : (\d+)", said)
    if not found:
        raise Failed(f"{loop}: no count")
    return int(found[1])


def per_echo(loop: str, kind: str, cert: str) -> float:
    few, many = 500, 1500
    return (instructions(loop, kind, many, cert) - instructions(loop, kind, few, cert)) / (many - few)


# -- Without a network ------------------------------------------------------------------

MICRO = {  # program, how often, goals: treadle's time at most so many times that loop's
    "call_soon": (200_000, {"uvloop": 1 / 1.3}),
    "call_soon_batch": (1_000_000, {"uvloop": 1 / 1.3}),
    "sleep0": (200_000, {"uvloop": 1 / 1.5}),
    "call_later_cancel": (200_000, {"uvloop": 1 / 3}),
    "call_soon_threadsafe": (200_000, {"uvloop": 1 / 1.2}),
    "queue_ping": (50_000, {"uvloop": 1 / 1.3}),
    "gather": (100_000, {}),
}
# What goroutines do on treadle, and the nearest thing of tasks on the others.
NATIVE = {
    "switch": ("goroutine_switch", "task_switch", 200_000, {"asyncio": 1 / 4, "uvloop": 1 / 2}),
    "hand-off": ("chan_handoff", "queue_handoff", 100_000, {"asyncio": 1 / 4}),
}


def micro(loop: str, name: str, n: int) -> float:
    return numbers(pinned(0, [sys.executable, str(HERE / "micro.py"), loop, name, str(n)]), seconds=120)[0]


def micro_instructions(loop: str, name: str) -> float:
    few, many = 10_000, 30_000
    counts = []
    for n in (few, many):
        callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable,
                     str(HERE / "micro.py"), loop, name, str(n)]
        try:
            done = subprocess.run(callgrind, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True,
                                  timeout=300)
        except subprocess.TimeoutExpired:
            raise Failed(f"{loop}, {name}: no end under callgrind") from None
        found = re.search(r"Collected : (\d+)", done.stderr)
        if not found:
            raise Failed(f"{loop}, {name}: no count")
        counts.append(int(found[1]))
    return (counts[1] - counts[0]) / (many - few) / 1.1  # a tenth more to get warm


# -- All ----------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench python", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help=f"echo, micro, memory, workers, or single ones: {' '.join([*KINDS, *MICRO, *NATIVE])}")
    parser.add_argument("--load", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run of an echo server")
    parser.add_argument("--loops", default=",".join(LOOPS))
    parser.add_argument("--instructions", action="store_true")
    options = parser.parse_args()
    groups = {"echo": [*KINDS], "micro": [*MICRO, *NATIVE], "memory": ["memory"], "workers": ["workers"], "procs": ["procs"]}
    names = [n for name in options.names or groups for n in groups.get(name, [name])]
    unknown = set(names) - {n for group in groups.values() for n in group}
    if unknown:
        parser.error(f"no such benchmark: {' '.join(sorted(unknown))}")
    options.names = names
    return options


def main() -> None:
    options = arguments()
    loops = options.loops.split(",")
    kinds = {kind: KINDS[kind] for kind in KINDS if kind in options.names}
    with tempfile.TemporaryDirectory() as directory:
        cert = certificate(directory) if "tls" in kinds else ""
        if options.instructions:
            rows = [Row(kind, "instructions", most, {"uvloop": 1.0} if kind == "tls" else {})
                    for kind, (most, _) in kinds.items()]
            for row in rows:
                for loop in loops:
                    row.add(loop, lambda: per_echo(loop, row.name, cert))
            if rows:
                show(f"User instructions per echo of {SIZE} bytes", rows)
            small = [Row(name, "instructions") for name in [*MICRO, *NATIVE] if name in options.names]
            for row in small:
                own, others = NATIVE[row.name][:2] if row.name in NATIVE else (row.name, row.name)
                for loop in loops:
                    row.add(loop, lambda: micro_instructions(loop, own if loop == "treadle" else others))
            if small:
                show("User instructions per operation", small)
            return
        echo = [Row(kind, "µs", None, {"uvloop": ratio} if ratio else {}) for kind, (_, ratio) in kinds.items()]
        small = [Row(name, "ns", None, goals) for name, (_, goals) in MICRO.items() if name in options.names]
        native = [Row(name, "ns", None, goals) for name, (*_, goals) in NATIVE.items() if name in options.names]
        memory = [Row("parked goroutine", "bytes", 700)] if "memory" in options.names else []
        several = {"workers.py": Row("two workers beside one", "times as much", least=1.7)} if "workers" in options.names else {}
        if several and sys.version_info < (3, 12, 4):
            progress("no workers: this Python is older than 3.12.4")
            several = {}
        if "procs" in options.names and not getattr(sys, "_is_gil_enabled", lambda: True)():
            several["procs.py"] = Row("goroutines on two Ps beside one", "times as fast", least=1.7)
        elif "procs" in options.names:
            progress("no procs: this Python has its lock")
        for _ in range(options.reps):
            for script, row in several.items():
                row.add("treadle", lambda: numbers([sys.executable, str(HERE / script)])[0])
            for loop in loops:
                for row in echo:
                    row.add(loop, lambda: echo_cost(options.load, loop, row.name, options.seconds, cert))
                for row in small:
                    row.add(loop, lambda: micro(loop, row.name, MICRO[row.name][0]))
                for row in native:
                    own, others, n, _ = NATIVE[row.name]
                    row.add(loop, lambda: micro(loop, own if loop == "treadle" else others, n))
                if loop == "treadle":
                    for row in memory:
                        row.add(loop, lambda: micro(loop, "parked", 100_000))
    if echo:
        show(f"Echo of {SIZE} bytes, {CONNECTIONS} connections: server CPU", echo)
    if small:
        show("The loop by itself", small)
    if native:
        show("Goroutines and channels beside tasks and queues", native)
    if memory:
        show("100,000 parked goroutines: each beyond its coroutine", memory)
    if several:
        show("More than one core", [*several.values()])


if __name__ == "__main__":
    main()
