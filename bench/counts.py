# SPDX-License-Identifier: MIT
"""What does not need a clock: instructions, atomics, signals."""

import os
import re
import shutil
import subprocess
import tempfile

from cases import CASES, Case, Setting
from echo_cost import HERE, lua_environment, python
from measure import Failed, figure, output, progress, table

# -- Instructions per operation ----------------------------------------------------

QUIET_GO = {"GODEBUG": "asyncpreemptoff=1", "GOGC": "off"}
MANY, FEW = 60000, 20000
WARM_UP = 1.1


def instructions(command: list[str]) -> int:
    callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command]
    done = subprocess.run(callgrind, env={**os.environ, **QUIET_GO}, capture_output=True, text=True, timeout=300)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if not found:
        raise Failed(f"{' '.join(command[:3])} under valgrind")
    return int(found[1])


def per_operation(command: list[str], rest: list[str]) -> float:
    few, many = (instructions([*command, str(n), *rest]) for n in (FEW, MANY))
    return (many - few) / (MANY - FEW) / WARM_UP


def count_instructions(cases: list[Case], setting: Setting) -> None:
    if shutil.which("valgrind") is None:
        progress("valgrind is missing: no instruction counts")
        return
    rows = []
    for case in (c for c in cases if c.counts):
        progress(f"instructions: {' '.join(case.arguments)}")
        counts = []
        for command in case.commands(setting):
            keep = 2 if command[0] == setting.go else 1  # the program, and the name that Go's needs
            try:
                counts.append(per_operation(command[:keep], command[keep + 1:]))
            except Failed as failure:
                progress(f"failed: {failure}")
        if len(counts) == 2:
            rows.append([case.rows[0].name, *(f"{n:.0f}" for n in counts), figure(counts[1] / counts[0])])
    table("Instructions per operation (callgrind, one processor)",
          ["operation", "treadle", "Go", "Go ÷ treadle"], rows)


# -- A program of one host ----------------------------------------------------------

SWITCHES = 50
C_CASES = ["yield", "spawn", "park", "chan", "select", "sleep", "mutex", "shared-chan", "shared-select"]
HOST_CASES = ["yield", "chan", "sleep"]
EXPECTED_ZERO = {"yield", "spawn", "park", "chan", "select", "sleep"}  # what touches this host alone


def stepped(build: str, hosts: bool) -> list[tuple[str, str, list[str], dict[str, str]]]:
    found = [("C", what, [f"{build}/bench/bench_host", what, str(SWITCHES), "traced"], {}) for what in C_CASES]
    if hosts:
        lua, py = str(HERE / "treadle/host.lua"), str(HERE / "treadle/host.py")
        found += [("Lua", what, ["luajit", lua, what, str(SWITCHES)], lua_environment(build)) for what in HOST_CASES]
        found += [("Python", what, [python(), py, what, str(SWITCHES)], {}) for what in HOST_CASES]
    return found


def trace_host(setting: Setting, hosts: bool) -> None:
    tool = f"{setting.build}/bench/bench_steps"
    if not os.path.exists(tool):
        progress("no instruction trace on this processor")
        return
    rows = []
    for language, what, command, env in stepped(setting.build, hosts):
        progress(f"instruction trace: {language}, {what}")
        try:
            lines = [line.rpartition(" ") for line in output([tool, *command], env, 300).splitlines()]
        except Failed as failure:
            progress(f"failed: {failure}")
            continue
        total = {name: int(n) for name, _, n in lines if not name.startswith("in ")}
        where = [f"{name.removeprefix('in ').split()[0]} {int(n) / SWITCHES:g}" for name, _, n in lines
                 if name.startswith("in ")]
        atomic, threads = total["atomic"], total["threads"]
        goal = ("met" if atomic == 0 and threads == 1 else "missed") if what in EXPECTED_ZERO else ""
        rows.append([f"{language}, {what}", figure(total["instructions"] / SWITCHES), f"{atomic / SWITCHES:g}",
                     f"{total['systemcalls'] / SWITCHES:.2g}", str(threads), goal, ", ".join(where)])
    table("A program of one host and no workers, per task switch (instruction trace)",
          ["host, operation", "instructions", "atomic", "system calls", "threads", "no atomic, no thread",
           "atomic ones in"], rows)


# -- Signals ---------------------------------------------------------------------------

SENDERS = "kill,tkill,tgkill,rt_sigqueueinfo,rt_tgsigqueueinfo,pidfd_send_signal,setitimer,timer_create"


def signals(command: list[str]) -> tuple[int, int]:
    """System calls that send signals or ask for them, and signals that arrived."""
    with tempfile.NamedTemporaryFile(mode="r") as log:
        output(["strace", "-f", "-qq", "-e", f"trace={SENDERS}", "-o", log.name, *command])
        lines = log.read().splitlines()
    arrived = sum(1 for line in lines if "--- SIG" in line)
    return sum(1 for line in lines if "(" in line and "--- SIG" not in line), arrived


def count_signals(setting: Setting) -> None:
    if shutil.which("strace") is None:
        progress("strace is missing: signals are not counted")
        return
    case = next(c for c in CASES if c.key == "hog")
    rows = []
    for name, command in zip(("treadle", "Go"), case.commands(setting)):
        progress(f"signals: {name}")
        try:
            rows.append([name, *(str(n) for n in signals([*command, "5"]))])
        except Failed as failure:
            progress(f"failed: {failure}")
    table("All Ps compute without end, 5 rounds: signals (strace)", ["", "sent or asked for", "arrived"], rows)
