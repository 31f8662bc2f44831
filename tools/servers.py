# SPDX-License-Identifier: MIT
"""The six example servers: how each is started, watched and stopped.

Used by the demo and by the tests of the examples."""

from __future__ import annotations

import contextlib
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LANGUAGES = ("C", "Lua", "Python")


def raise_descriptor_limit() -> None:
    """A server holds thousands of connections; a shell's default is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def example(language: str, program: str, build: pathlib.Path) -> tuple[list[str], dict[str, str]]:
    """The command of an example program, and what it needs in its environment."""
    if language == "C":
        return [str(build / "examples" / program)], {}
    if language == "Lua":
        return ["luajit", str(ROOT / "examples/lua" / f"{program}.lua")], {
            "LUA_PATH": f"{ROOT}/bindings/lua/?.lua;{ROOT}/bindings/lua/?/init.lua;;",
            "TREADLE_LIB": str(build / "libtreadle.so.0"),
        }
    return [sys.executable, str(ROOT / "examples/python" / f"{program}.py")], {}


class ServerFailed(Exception):
    pass


class Server:
    """One running example server. Use it as a context manager."""

    def __init__(self, language: str, program: str, build: pathlib.Path, *arguments: str,
                 address: str = "127.0.0.1:0", env: dict[str, str] | None = None, probe: bool = False,
                 descriptors: int | None = None):
        self.name = f"{language} {program}"
        self.command, extra = example(language, program, build)
        self.command += [address, *arguments]
        self.env = {**os.environ, **extra, **(env or {})}
        self.limit = descriptors
        self.errors = tempfile.TemporaryFile()
        self.probe_path: str | None = None
        if probe:
            self.probe_path = tempfile.mktemp(prefix="treadle-probe-")
            self.env |= {"LD_PRELOAD": str(build / "load/probe.so"), "TDL_PROBE": self.probe_path}

    def __enter__(self) -> "Server":
        limited = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (self.limit,) * 2)) if self.limit else None
        self.process = subprocess.Popen(self.command, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, preexec_fn=limited)
        watchdog = threading.Timer(20, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        host, _, port = line.removeprefix("listening on ").strip().rpartition(":")
        if host != "127.0.0.1" or not port.isdigit():
            self.process.kill()
            self.process.wait()
            raise ServerFailed(f"{self.name} printed {line!r} instead of 'listening on 127.0.0.1:PORT'{self.complaint()}")
        self.port = int(port)
        return self

    def __exit__(self, kind, value, trace) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        if kind is not None:
            print(f"{self.name}:{self.complaint()}", file=sys.stderr)
        if self.probe_path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.probe_path)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def complaint(self) -> str:
        """What the server wrote to stderr, for a message."""
        self.errors.seek(0)
        text = self.errors.read().decode(errors="replace").strip()
        return f"\n--- its stderr ---\n{text[-4000:]}\n---" if text else " (nothing on stderr)"

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            raise ServerFailed(f"{self.name} ended by itself, status {self.process.returncode}{self.complaint()}")

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Asks it to end, and gives its exit status."""
        self.check_alive()
        self.process.send_signal(signum)
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"{self.name} did not end within 10 s of signal {signum}{self.complaint()}") from None

    # -- Looking at it ------------------------------------------------------

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident(self) -> int:
        """Bytes of memory in use."""
        self.check_alive()
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ServerFailed(f"{self.name}: no VmRSS")

    def processor_seconds(self) -> float:
        return time.clock_gettime(~self.process.pid << 3 | 2)  # the process's own clock

    def metrics(self) -> dict[str, int]:
        """treadle's own numbers, from the probe."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.probe_path)
            text = s.makefile().read()
        return {name: int(value) for name, value in (line.split() for line in text.splitlines())}
