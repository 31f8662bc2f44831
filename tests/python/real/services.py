# SPDX-License-Identifier: MIT
"""Real servers for the tests, each in a process of its own and on a place of its own:
started and stopped by `with`."""

from __future__ import annotations

import contextlib
import glob
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


class NotHere(Exception):
    """A program that a test needs is not installed."""


class Service:
    """A process, from the moment it answers to its end."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="svc-", dir="/tmp")
        os.chmod(self.directory, 0o755)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = os.path.join(self.directory, "log")

    def start(self, command: list[str], env: dict[str, str] | None = None, user: str | None = None) -> None:
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=user,
                                            cwd=self.directory, env={**os.environ, **(env or {})})

    def said(self) -> str:
        with open(self.log, errors="replace") as f:
            return f.read()

    def until(self, ready, seconds: float = 20) -> None:
        """Waits until ready() is true."""
        assert self.process is not None
        end = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.process.args[0]} did not start:\n{self.said()[-3000:]}")
            time.sleep(0.02)

    def stop(self, signum: int = signal.SIGTERM, seconds: float = 10) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"{self.process.args[0]} did not stop:\n{self.said()[-3000:]}") from None

    def descriptors(self) -> int:
        assert self.process is not None
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_kb(self) -> int:
        assert self.process is not None
        with open(f"/proc/{self.process.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

    end = signal.SIGKILL  # who is asked to stop may wait for its clients

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            with contextlib.suppress(RuntimeError):
                self.stop(self.end)
        shutil.rmtree(self.directory, ignore_errors=True)


def connects(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
        except OSError:
            return False
    return True


class Redis(Service):
    def __enter__(self) -> Redis:
        program = shutil.which("redis-server")
        if program is None:
            raise NotHere("redis-server")
        self.path = os.path.join(self.directory, "redis.sock")
        self.start([program, "--port", "0", "--unixsocket", self.path, "--save", "", "--dir", self.directory])
        self.until(lambda: connects(self.path))
        return self


class Postgres(Service):
    """PostgreSQL on a Unix socket in its own directory; it refuses to run as root, and
    then runs as nobody."""

    end = signal.SIGINT  # at once, but so that it cleans up

    def __enter__(self) -> Postgres:
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [os.path.dirname(shutil.which("initdb") or "")]
        if not os.path.exists(os.path.join(found[-1], "initdb")):
            raise NotHere("postgresql")
        user = "nobody" if os.getuid() == 0 else None
        if user:
            shutil.chown(self.directory, user)
        data = os.path.join(self.directory, "data")
        subprocess.run([f"{found[-1]}/initdb", "-D", data, "-A", "trust", "-U", "treadle", "-E", "UTF8", "--locale=C",
                        "--no-sync"], check=True, user=user, cwd=self.directory, capture_output=True)
        self.start([f"{found[-1]}/postgres", "-D", data, "-k", self.directory, "-c", "listen_addresses=", "-c", "fsync=off",
                    "-c", "shared_buffers=16MB", "-c", "max_connections=30"], user=user)
        self.until(lambda: "ready to accept connections" in self.said())
        self.host = self.directory
        return self


class Uvicorn(Service):
    """app.py under uvicorn, as its users start it."""

    def __init__(self, *arguments: str, loop: str = "treadle:new_event_loop") -> None:
        super().__init__()
        self.arguments = ["--loop", loop, *arguments]

    def __enter__(self) -> Uvicorn:
        self.start([sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), "app:app", "--port", "0", "--no-access-log",
                    *self.arguments])
        self.until(lambda: "Uvicorn running on" in self.said())
        found = re.search(r"Uvicorn running on (\S+://\S+)", self.said())
        assert found is not None
        self.url = found[1]
        return self


class Gunicorn(Service):
    """app.py under gunicorn, which loads it, and then forks two of uvicorn's workers."""

    def __enter__(self) -> Gunicorn:
        self.start([sys.executable, "-m", "gunicorn", "--chdir", str(HERE), "-k", "worker.TreadleWorker", "-w", "2", "-b",
                    "127.0.0.1:0", "--preload", "--no-control-socket", "app:app"], {"PYTHONPATH": str(HERE)})
        self.until(lambda: self.said().count("Application startup complete") == 2)
        found = re.search(r"Listening at: (\S+://\S+)", self.said())
        assert found is not None
        self.url = found[1]
        return self


class Aiohttp(Service):
    """web.py, an aiohttp server that makes its loop with asyncio.run."""

    def __enter__(self) -> Aiohttp:
        self.start([sys.executable, "-u", str(HERE / "web.py")])
        self.until(lambda: "listening on" in self.said())
        self.url = self.said().split("listening on ")[1].split()[0]
        return self
