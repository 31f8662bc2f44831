# SPDX-License-Identifier: MIT
"""What is measured, and what each figure should come to."""

import dataclasses
import statistics
import subprocess

from measure import Numbers, Server, numbers


@dataclasses.dataclass
class AtLeast:
    """So many times as quick (or small) as Go."""
    ratio: float

    def verdict(self, ours: Numbers, ratios: Numbers) -> str:
        met = ratios and statistics.median(ratios) >= self.ratio
        return f"≥ {self.ratio:g}x: {'met' if met else 'missed'}"


@dataclasses.dataclass
class AtMost:
    limit: float
    unit: str

    def verdict(self, ours: Numbers, ratios: Numbers) -> str:
        met = ours and statistics.median(ours) <= self.limit
        return f"≤ {self.limit:,g} {self.unit}".rstrip() + f": {'met' if met else 'missed'}"


@dataclasses.dataclass
class ItselfAtLeast:
    """The figure is a ratio of two ways of treadle's."""
    ratio: float

    def verdict(self, ours: Numbers, ratios: Numbers) -> str:
        met = ours and statistics.median(ours) >= self.ratio
        return f"≥ {self.ratio:g}: {'met' if met else 'missed'}"


Goal = AtLeast | AtMost | ItselfAtLeast | None


@dataclasses.dataclass
class Row:
    """One figure of a case: what the program printed, times `scale`."""
    name: str
    unit: str = "ns"
    goal: Goal = None
    scale: float = 1


@dataclasses.dataclass
class Setting:
    build: str  # where the treadle programs are
    go: str  # the Go program
    seconds: float  # length of one run under load


class Case:
    """Programs of the same name and arguments on both sides; each prints one
    number for each row."""

    def __init__(self, key: str, program: str, *rows: Row, counts: bool = False, go: str | None = None):
        self.key, self.rows, self.counts = key, rows, counts
        self.arguments = program.split()
        self.go_arguments = (go or program).split()

    def commands(self, setting: Setting) -> list[list[str]]:
        name, *arguments = self.arguments
        return [[f"{setting.build}/bench/bench_{name}", *arguments], [setting.go, *self.go_arguments]]

    def measure(self, setting: Setting, side: int) -> Numbers:
        return [value * row.scale for value, row in zip(numbers(self.commands(setting)[side]), self.rows, strict=True)]


class Warmed(Case):
    """A case whose memory has been there right before, on both sides (raw/warm.c)."""

    MIB = "5200"

    def measure(self, setting: Setting, side: int) -> Numbers:
        subprocess.run([f"{setting.build}/bench/bench_warm", self.MIB], check=True)
        return super().measure(setting, side)


class WithHelper(Case):
    """A case whose program starts another, of the same folder on both sides."""

    def __init__(self, key: str, program: str, helper: str, *rows: Row):
        super().__init__(key, program, *rows)
        self.helper = helper

    def commands(self, setting: Setting) -> list[list[str]]:
        return [[*command, f"{setting.build}/bench/bench_{self.helper}"] for command in super().commands(setting)]


class BesideLoad(Case):
    """An echo server on two Ps with goroutines that keep it busy, and a client
    in a process of its own."""

    CONNECTIONS, PAUSE_MS, PROCS = 8, 2, "2"

    def __init__(self, key: str, program: str, name: str, goal: Goal):
        milli = 1e-6
        super().__init__(key, program, Row(f"echo beside {name}, p50", "ms", None, milli),
                         Row(f"echo beside {name}, p99", "ms", goal, milli),
                         Row(f"echo beside {name}, longest", "ms", None, milli))

    def measure(self, setting: Setting, side: int) -> Numbers:
        env = {"TDL_MAXPROCS": self.PROCS, "GOMAXPROCS": self.PROCS}
        with Server(self.key, self.commands(setting)[side], env) as (port, _):
            client = [f"{setting.build}/bench/bench_echo_latency", port, str(self.CONNECTIONS), str(self.PAUSE_MS),
                      str(setting.seconds)]
            got = numbers(client, seconds=setting.seconds + 30)
        return [value * row.scale for value, row in zip(got, self.rows, strict=True)]


MICRO = 1e-3
MILLI = 1e-6

CASES = [
    Case("yield", "yield", Row("yield, two goroutines", goal=AtLeast(4)), counts=True),
    Case("spawn", "spawn 2000000 1", Row("spawn and exit, one at a time", goal=AtLeast(5)), counts=True),
    Case("spawn", "spawn 2000000 1000", Row("spawn and exit, batches of 1,000", goal=AtLeast(5)), counts=True),
    Case("chan", "chan", Row("unbuffered channel, round trip", goal=AtLeast(3)), counts=True),
    Case("buffered", "buffered", Row("channel of 128, a stream of values", goal=AtLeast(2)), counts=True),
    Case("select", "select", Row("select of two, round trip", goal=AtLeast(2)), counts=True),
    Case("mutex", "mutex", Row("mutex that nobody else wants", goal=AtLeast(1.5)), counts=True),
    Case("timer", "timer 2000000 kept", Row("timer, started and cancelled (Go: AfterFunc, Stop)", goal=AtLeast(8)),
         counts=True, go="timer 2000000 after"),
    Case("timer", "timer 2000000 kept 10000", Row("the same beside 10,000 pending", goal=AtLeast(8)),
         counts=True, go="timer 2000000 after 10000"),
    Case("timer", "timer 2000000 reset", Row("timer, clock read, reset, stopped (Go: Reset, Stop)"), counts=True),
    Case("timer", "timer 2000000 after", Row("timer, made, stopped, freed (Go: AfterFunc, Stop)"), counts=True),
    Case("timer", "timer 2000000 new", Row("the same with a channel (Go: NewTimer, Stop)"), counts=True),
    Case("sleep", "sleep", Row("sleep of 50 µs, too long by: p50", "µs", AtMost(15, "µs"), MICRO),
         Row("sleep of 50 µs, too long by: p99", "µs", None, MICRO)),
    Case("pin", "pin 100000 1", Row("round trip, one side pinned, 1 P", goal=AtLeast(3))),
    Case("pin", "pin 100000 2", Row("round trip, one side pinned, 2 Ps", goal=AtLeast(3))),
    Warmed("million", "million", Row("1,000,000 parked goroutines: each", "bytes", AtMost(4600, "bytes")),
         Row("1,000,000 parked goroutines: mappings", "", AtMost(99, "")),
         Row("1,000,000 parked goroutines: start of each", "ns", AtMost(2500, "ns"))),
    Case("hog", "hog", Row("all Ps compute without end: wait of another", "ms", AtMost(20, "ms"), MILLI),
         Row("all Ps compute without end: longest wait", "ms", None, MILLI)),
    Case("deadline", "deadline", Row("read deadline of a connection, set to a later one", goal=AtMost(20, "ns")),
         counts=True),
    WithHelper("idle", "idle 9000", "idle_clients", Row("9,000 idle connections (Go: a goroutine and a buffer): each",
                                                        "bytes", AtMost(300, "bytes"))),
    WithHelper("copy", "copy 300", "copy_ends", Row("copy of 1 MB from TCP to TCP, within the kernel: CPU", "µs", None, MICRO),
               Row("the same with read and write", "µs", None, MICRO),
               Row("read and write ÷ within the kernel", "", ItselfAtLeast(2))),
    BesideLoad("hogs", "echo hogs 8", "8 hogs on 2 Ps", AtMost(15, "ms")),
    *(BesideLoad("pairs", f"echo pairs {k}", f"{k} ping-pong pairs per P", AtMost(15, "ms")) for k in (2, 4, 8, 16)),
]
