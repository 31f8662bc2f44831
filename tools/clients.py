# SPDX-License-Identifier: MIT
"""The clients that drive the example servers, and what they say."""

from __future__ import annotations

import pathlib
import re
import subprocess
from dataclasses import dataclass


class LoadFailed(Exception):
    pass


@dataclass
class Result:
    per_second: float
    errors: int
    p50_us: float
    p99_us: float
    detail: str


_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


def _microseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", text).groups()
    return float(number) * _UNITS[unit]


def parse_wrk(text: str) -> Result:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    p50 = re.search(r"^\s+50%\s+(\S+)", text, re.M)
    p99 = re.search(r"^\s+99%\s+(\S+)", text, re.M)
    if not (rate and p50 and p99):
        raise LoadFailed(f"wrk said:\n{text}")
    errors = 0
    if sockets := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text):
        errors += sum(map(int, sockets.groups()))
    if statuses := re.search(r"Non-2xx or 3xx responses: (\d+)", text):
        errors += int(statuses.group(1))
    return Result(float(rate.group(1)), errors, _microseconds(p50.group(1)), _microseconds(p99.group(1)), text)


def wrk_command(address: str, seconds: int, connections: int = 64) -> list[str]:
    return ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"http://{address}/"]


def wrk(address: str, seconds: int, connections: int = 64) -> Result:
    done = subprocess.run(wrk_command(address, seconds, connections), capture_output=True, text=True,
                          timeout=seconds + 30)
    if done.returncode != 0:
        raise LoadFailed(f"wrk: {done.stderr or done.stdout}")
    return parse_wrk(done.stdout)


def chat_command(build: pathlib.Path, address: str, **options: int) -> list[str]:
    return [str(build / "load/chat_load"), address,
            *(part for name, value in options.items() for part in (f"--{name}", str(value)))]


def parse_chat(text: str) -> Result:
    fields = dict(pair.split("=") for pair in text.split())
    return Result(float(fields["per_second"]), 0, float(fields["p50_us"]), float(fields["p99_us"]), text)


def chat(build: pathlib.Path, address: str, timeout: float = 300, **options: int) -> Result:
    """Raises when a message is lost, comes twice, or a connection breaks."""
    done = subprocess.run([*chat_command(build, address, **options), "--quiet"], capture_output=True, text=True,
                          timeout=timeout)
    if done.returncode != 0:
        raise LoadFailed(done.stderr.strip() or f"chat_load ended with status {done.returncode}")
    return parse_chat(done.stdout)
