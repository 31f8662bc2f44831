#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""./dev demo: the same HTTP server and chat room in three languages, driven by
real clients, and a table of how they did."""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import time

import clients
from servers import LANGUAGES, Server, ServerFailed, example, raise_descriptor_limit

HTTP_SECONDS = 10


def say(text: str = "") -> None:
    print(text, flush=True)


def run_with_clock(command: list[str], what: str, *, tells: bool = False) -> str:
    """The command's output; says every 2 s that it is still at it, unless the
    command tells so itself."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while True:
        try:
            out, _ = process.communicate(timeout=2)
            break
        except subprocess.TimeoutExpired:
            elapsed = time.monotonic() - begin
            if not tells:
                say(f"  … {what}: {elapsed:.0f} s")
            if elapsed > 300:
                process.kill()
                raise clients.LoadFailed(f"{what} did not end within 300 s") from None
    if process.returncode != 0:
        raise clients.LoadFailed(f"{what} failed with status {process.returncode}")
    return out


def show_answer(server: Server) -> None:
    answer = subprocess.run(["curl", "-sS", "-i", "--max-time", "5", f"http://{server.address}/"],
                            capture_output=True, text=True)
    if answer.returncode != 0 or not answer.stdout.endswith("\n\nHello, World!\n"):
        raise clients.LoadFailed(f"curl: {answer.stderr or answer.stdout!r}")
    say(f"  $ curl -i http://{server.address}/")
    for line in answer.stdout.splitlines():
        say(f"    {line}")


def drive_http(server: Server, build: pathlib.Path, full: bool) -> clients.Result:
    show_answer(server)
    command = clients.wrk_command(server.address, HTTP_SECONDS)
    say(f"  $ {' '.join(command)}")
    return clients.parse_wrk(run_with_clock(command, f"wrk, {HTTP_SECONDS} s"))


def drive_chat(server: Server, build: pathlib.Path, full: bool) -> clients.Result:
    members = 5000 if full else 1000
    say(f"  {members:,} clients join; 500 messages, each of which every other client must get exactly once")
    command = clients.chat_command(build, server.address, members=members, messages=500)
    return clients.parse_chat(run_with_clock(command, "chat_load", tells=True))


DRIVERS = {"http_server": (drive_http, "requests/s"), "chat": (drive_chat, "messages/s")}


def wait_until_all_have_left(server: Server) -> None:
    """When thousands leave a room at once, each is told to all that are still in it."""
    begin = said = time.monotonic()
    while (left := server.descriptors()) > 50:
        now = time.monotonic()
        if now - said > 2:
            said = now
            say(f"  … {left:,} clients are still to be seen off")
        if now - begin > 120:
            raise ServerFailed(f"{server.name} still has {left} descriptors open, two minutes after its clients left")
        time.sleep(0.05)


def run_one(language: str, program: str, build: pathlib.Path, full: bool) -> list[str]:
    drive, unit = DRIVERS[program]
    say(f"\n== {language}: {program}")
    with Server(language, program, build) as server:
        say(f"  listening on {server.address}")
        result = drive(server, build, full)
        resident = server.resident()
        wait_until_all_have_left(server)
        status = server.stop()
        if status != 0:
            raise ServerFailed(f"{server.name} ended with status {status} on SIGTERM{server.complaint()}")
    if result.errors:
        raise clients.LoadFailed(f"{server.name}: {result.errors} errors\n{result.detail}")
    return [f"{language} {program}", f"{result.per_second:,.0f} {unit}", str(result.errors),
            f"{result.p50_us / 1000:.2f} ms", f"{result.p99_us / 1000:.2f} ms", f"{resident / 2**20:.1f} MiB"]


def print_table(rows: list[list[str]]) -> None:
    heads = ["server", "throughput", "errors", "p50", "p99", "RSS"]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    say()
    for row in [heads, ["-" * w for w in widths], *rows]:
        say("  " + "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))))


def how_to_try(build: pathlib.Path) -> None:
    say("\nTry them by hand (Ctrl-C ends a server), from the top of this checkout:")
    for program, port, client in (("http_server", 8080, "curl -i http://127.0.0.1:8080/"),
                                  ("chat", 7000, "nc 127.0.0.1 7000   (in two terminals: a name first, then talk; /quit leaves)")):
        say()
        for language in LANGUAGES:
            command, env = example(language, program, build)
            shown = [f"{name}='{value}'" for name, value in env.items()] + command
            root = str(pathlib.Path.cwd()) + "/"
            say(f"  {language + ':':8}{' '.join(shown).replace(root, '')} 127.0.0.1:{port}")
        say(f"  {'then:':8}{client}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--full", action="store_true", help="5,000 clients in each chat room instead of 1,000")
    options = parser.parse_args()
    build = options.build.resolve()
    raise_descriptor_limit()
    rows, failures = [], []
    for program in DRIVERS:
        for language in LANGUAGES:
            try:
                rows.append(run_one(language, program, build, options.full))
            except (ServerFailed, clients.LoadFailed, OSError) as problem:
                failures.append(f"{language} {program}: {problem}")
                say(f"  FAILED: {problem}")
    print_table(rows)
    how_to_try(build)
    for failure in failures:
        print(f"\nFAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
