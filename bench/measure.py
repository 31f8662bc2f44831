# SPDX-License-Identifier: MIT
"""Running programs and printing what came of it."""

import os
import statistics
import subprocess
import sys

Numbers = list[float]


class Failed(Exception):
    """A measured program did not do what it is for; the run goes on without it."""


def progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def pinned(core: int, command: list[str]) -> list[str]:
    """The command on one core, where there are two to divide."""
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core]), *command] if len(cores) > 1 else command


def output(command: list[str], env: dict[str, str] | None = None, seconds: float = 60) -> str:
    try:
        done = subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True,
                              timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command[:3])}: no end after {seconds:.0f} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise Failed(f"{' '.join(command[:3])}: status {done.returncode} {last}")
    return done.stdout


def numbers(command: list[str], env: dict[str, str] | None = None, seconds: float = 60) -> Numbers:
    return [float(line) for line in output(command, env, seconds).split()]


class Server:
    """A server process, from the line that names its port to the end of the block."""

    def __init__(self, name: str, command: list[str], env: dict[str, str]):
        self.name, self.command, self.env = name, command, {**os.environ, **env}

    def __enter__(self) -> tuple[str, int]:
        self.process = subprocess.Popen(self.command, env=self.env, stdout=subprocess.PIPE, text=True)
        port = self.process.stdout.readline().rstrip().rpartition(":")[2]
        if not port.isdigit():
            self.__exit__()
            raise Failed(f"{self.name}: the server did not start")
        return port, self.process.pid

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def figure(value: float) -> str:
    """Three significant digits, but no fewer than the integer has."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(values: Numbers) -> str:
    if not values:
        return "–"
    return " / ".join(figure(f(values)) for f in (min, statistics.median, max))


def table(title: str, heads: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    print(f"\n{title}\n")
    for row in [heads, ["-" * w for w in widths], *rows]:
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths)) + " |")
    sys.stdout.flush()
